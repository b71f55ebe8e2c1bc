// SPDX-License-Identifier: Apache-2.0

//! The server in which a session lives, as far as the session needs it.

use std::fmt;
use std::ops::Deref;

use super::client::Client;
use super::endpoint::{Ending, HttpStatus};
use super::record::Record;
use crate::ledger::OpenSession;
use crate::recording::Recorder;

/// How much a line of the error log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A session or its endpoint failed.
    Error,
    /// What clients do.
    Info,
}

/// Where lines about a session go.
pub trait Log {
    /// Writes one line.
    fn report(&self, severity: Severity, text: fmt::Arguments<'_>);
}

/// What a session needs of its server besides the connection of its client.
pub trait Host: Log {
    /// The client's side.
    type Client: Client;
    /// What was agreed on in the handshake, and is answered when the endpoint has started.
    type Acceptance;
    /// What is known of the session when it is logged, after its end.
    type Record: Deref<Target = Record>;

    /// Milliseconds of a monotonic clock, as of the current turn of the event loop.
    fn now(&self) -> u64;

    /// Answers 101. `false` when the connection is lost or there is no memory.
    fn accept(&mut self, acceptance: &Self::Acceptance) -> bool;

    /// The Close that a client gets in place of a status with which its session is refused, and makes what is answered before
    /// fit for that; `None` if it gets the status.
    fn refusal(&self, status: HttpStatus, acceptance: &mut Self::Acceptance) -> Option<Ending>;

    /// Lets the events of the client come to the session from now on, and appends the octets that have come behind the head of
    /// the request. `false` when the connection is lost.
    fn listen(&mut self, client: &mut Self::Client, early: &mut Vec<u8>) -> bool;

    /// Counts the session among those of its location.
    fn open_account(&mut self) -> Option<OpenSession>;

    /// Begins to write down what is said, if that is wanted. Called once the 101 was answered.
    fn open_recording(&mut self) -> Option<Box<Recorder>>;

    /// When the session is to be drained, if the worker is leaving already.
    fn late_drain(&mut self) -> Option<u64>;

    /// Lets the timer fire in so many milliseconds, and at no other time.
    fn set_timer(&mut self, milliseconds: u64);

    /// Whether the session is called because its time is up, and not for another turn. `true` only once for each time.
    fn take_expired(&mut self) -> bool;

    /// Lets the session have another turn after the events that are waiting now.
    fn post_turn(&mut self);

    /// Keeps the connection open for a while after the session: the client still sends, and a reset would take the last
    /// frames away from it.
    fn linger(&mut self, client: &mut Self::Client);

    /// Lets go of everything that would call the session, its request above all.
    fn release(&mut self);
}
