//! What a session adds to the figures of its location.

use super::Context;
use crate::ledger::{Figures, OpenSession, Traffic};
use crate::nginx::worker;
use crate::status::Closes;
use crate::ws::connection::Closed;

/// Counts of one session. They are passed on turn by turn, so that neither a message costs more than the session's own
/// count, nor a long session stays unseen.
#[derive(Default)]
pub struct Account {
    open: Option<OpenSession>,
    passed: Traffic,
}

impl Account {
    /// The session was opened, at the location with this number. Returns that location's figures.
    pub fn open(&mut self, key: u64) -> Option<Figures> {
        self.open = worker::ledger().and_then(|ledger| ledger.open(key as usize));
        self.open.as_ref().map(OpenSession::figures)
    }

    /// Messages to the client have been counted by [`Figures`] and are in the context from now on.
    pub fn counted(&mut self, messages: u64, octets: u64) {
        self.passed.messages_out += messages;
        self.passed.bytes_out += octets;
    }

    /// Passes on what was counted since the last time.
    pub fn settle(&mut self, context: &Context) {
        let Some(open) = &self.open else { return };
        let Context { messages_in, messages_out, bytes_in, bytes_out, .. } = *context;
        let now = Traffic { messages_in, messages_out, bytes_in, bytes_out };
        open.passed(now.since(self.passed));
        self.passed = now;
    }

    /// The session has ended.
    pub fn close(&mut self, context: &Context, closed: Option<&Closed>) {
        self.settle(context);
        if let Some(open) = self.open.take() {
            open.closed(closed.map_or(Closes::without(), |closed| Closes::with(closed.code)));
        }
    }
}
