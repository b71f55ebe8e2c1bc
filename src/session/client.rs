// SPDX-License-Identifier: Apache-2.0

//! A connection as a session sees it: what can be read, what can be written, and what the system knows of both.

use super::buffers;
use crate::ws::timing::Look;

/// Reads after which a client that never stops sending is not listened to any more, so that it does not keep a worker from
/// exiting.
const DISCARDED_READS: u32 = 16;

/// What came from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// This many octets.
    Octets(usize),
    /// There is nothing for now.
    Blocked,
    /// The client closed its side.
    End,
    /// The connection is broken.
    Lost,
}

/// What became of octets for the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// This many were taken.
    Octets(usize),
    /// None can be taken for now.
    Blocked,
    /// The connection is broken.
    Lost,
}

/// What a client had sent that nobody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// There is nothing unread.
    Nothing,
    /// Octets, and there may be more.
    Some,
    /// There will be no more: the client has closed its side, or the connection is broken.
    End,
}

/// The connection is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

/// Where octets go.
pub trait Sink {
    /// Sends once.
    fn send(&mut self, octets: &[u8]) -> Sent;

    /// Whether the connection is TLS: octets that it did not take must be offered again at the same place.
    fn is_tls(&self) -> bool;
}

/// The client's side of a session.
pub trait Client: Sink {
    /// Reads once. After [`Received::Blocked`] the session is driven again when there is something to read.
    fn receive(&mut self, buffer: &mut [u8]) -> Received;

    /// Whether reading is worth a system call.
    fn readable(&self) -> bool;

    /// Whether the system has seen the end of what the client sends, though there may be octets before it.
    fn hung_up(&self) -> bool;

    /// Whether the system has octets of the client that were not read.
    fn has_unread(&self) -> bool;

    /// Whether the system has octets for the client that it has not taken.
    fn has_queued(&self) -> bool;

    /// What the client has taken since the last look.
    fn look(&mut self) -> Look;

    /// Octets that were sent since the connection was made.
    fn sent(&self) -> u64;

    /// Whether the server itself has nothing left to send, such as the head of the response.
    fn is_drained(&self) -> bool;

    /// Sends what the server itself has left to send. Whether all of it is sent.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    fn drain(&mut self) -> Result<bool, Lost>;

    /// Octets are left unsent: nothing that follows would make sense to the client.
    fn give_up(&mut self);

    /// Asks for an event when the client can be read or written again. `false` when the system refuses.
    fn watch(&mut self) -> bool;

    /// Reads what has come and drops it: a connection that is closed with unread octets is reset, and the client loses what
    /// was sent to it last.
    fn discard_input(&mut self) -> Unread {
        let mut buffer = buffers::take_reading();
        let mut unread = Unread::Nothing;
        for _ in 0..DISCARDED_READS {
            match self.receive(&mut buffer) {
                Received::Octets(_) => unread = Unread::Some,
                Received::Blocked => break,
                Received::End | Received::Lost => {
                    unread = Unread::End;
                    break;
                }
            }
        }
        buffers::put_reading(buffer);
        unread
    }
}
