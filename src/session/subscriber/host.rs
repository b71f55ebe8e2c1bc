// SPDX-License-Identifier: Apache-2.0

//! What a subscriber needs of the server that it lives in: its response, its place on the channels, and the rest.

use std::ops::Deref;

use super::SubscriberEnd;
use crate::channel::fanout::{Batch, Next};
use crate::channel::store::{Budget, ReadError};
use crate::channel::streaming::Content;
use crate::ledger::OpenSession;
use crate::session::client::Lost;
use crate::session::endpoint::HttpStatus;
use crate::session::host::Log;
use crate::session::record::Record;
use crate::session::shared::State;
use crate::ws::timing::Look;

/// The response of a request.
pub trait Response {
    /// Adds a header. `false` when there is no memory.
    fn add_header(&mut self, name: &'static str, value: impl AsRef<[u8]>) -> bool;

    /// Sends the head of a 200; the length is -1 where nobody knows it. Whether a body follows.
    ///
    /// # Errors
    ///
    /// What the request ends with.
    fn begin(&mut self, content_type: &[u8], length: i64) -> Result<bool, SubscriberEnd>;

    /// Sends a response without a body.
    ///
    /// # Errors
    ///
    /// What the request ends with.
    fn empty(&mut self, status: HttpStatus) -> Result<(), SubscriberEnd>;

    /// Lets the head leave that has nothing behind it yet.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    fn flush_head(&mut self) -> Result<(), Lost>;

    /// Adds to the body; nothing comes after the last piece.
    fn push(&mut self, content: Content, last: bool);

    /// Sends what was added.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    fn send(&mut self) -> Result<(), Lost>;

    /// Sends a body in one piece, after which the request is over.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    fn send_whole(&mut self, content: Content) -> Result<(), Lost>;

    /// What the pieces that were not sent yet cost, in octets.
    fn cost(&self) -> usize;

    /// Whether everything is sent.
    fn is_empty(&self) -> bool;

    /// Since when there is silence; `None` while something is being sent.
    fn silent_since(&self) -> Option<u64>;

    /// Looks what the client has taken of what the system has for it.
    fn look(&mut self) -> Look;

    /// Since when the client has taken nothing of what is being sent.
    fn stuck_since(&self) -> Option<u64>;
}

/// Where the messages come from: a subscription, which ends when this is dropped, and the program behind it, if subscribers
/// share one.
pub trait Source {
    /// Looks at what is there; `serve` gets it in order and says how many items of it were taken. `None` where the worker is
    /// leaving.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn serve(&mut self, limit: Budget, serve: impl FnOnce(&Batch) -> usize) -> Option<Result<Next, ReadError>>;

    /// The position that the client can come back with.
    fn position(&self) -> Option<String>;

    /// Messages that were lost before the beginning; 0: nobody knows how many.
    fn take_losses(&mut self) -> Option<u64>;

    /// Nothing is taken for now.
    fn block(&mut self);

    /// More is taken: the subscriber is run if there is something.
    fn unblock(&mut self);

    /// The subscriber is run again a little later: what could not be read then may be readable.
    fn retry(&mut self);

    /// Whether something has come to this worker that nobody has looked at.
    fn has_news(&self) -> bool;

    /// How far the program is that the subscribers share.
    fn program(&self) -> Option<State>;

    /// The subscriber is run again when what has been published by now has come to it.
    fn look_again(&mut self);
}

/// What a subscriber needs of its server besides the response.
pub trait Host: Log {
    /// The response of the request.
    type Response: Response;
    /// Where its messages come from.
    type Source: Source;
    /// What is known of it when it is logged.
    type Record: Deref<Target = Record>;

    /// Milliseconds of a monotonic clock, as of the current turn of the event loop.
    fn now(&self) -> u64;

    /// Notices a client that goes away while nothing is sent.
    fn watch_client(&mut self);

    /// Lets the events of the client run the subscriber from now on.
    fn listen(&mut self);

    /// Counts it among the sessions of its location; a poll is no subscriber.
    fn open_account(&mut self, subscribes: bool) -> Option<OpenSession>;

    /// When the subscriber is to be drained, if the worker is leaving already.
    fn late_drain(&mut self) -> Option<u64>;

    /// Lets the timer fire in about so many milliseconds.
    fn set_timer(&mut self, milliseconds: u64);

    /// The timer has fired.
    fn take_expired(&mut self);

    /// Nothing runs the subscriber any more: neither its timer nor its worker.
    fn stop(&mut self);

    /// Lets go of the request. The source is gone.
    fn release(&mut self);
}
