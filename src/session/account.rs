// SPDX-License-Identifier: Apache-2.0

//! What a session adds to the figures of its location.

use super::record::Record;
use crate::ledger::{Figures, OpenSession, Traffic};
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
    /// The session was opened. Returns the figures of its location.
    pub fn open(&mut self, open: Option<OpenSession>) -> Option<Figures> {
        self.open = open;
        self.open.as_ref().map(OpenSession::figures)
    }

    /// Messages to the client have been counted by [`Figures`] and are in the record from now on.
    pub fn counted(&mut self, messages: u64, octets: u64) {
        self.passed.messages_out += messages;
        self.passed.bytes_out += octets;
    }

    /// Passes on what was counted since the last time.
    pub fn settle(&mut self, record: &Record) {
        let Some(open) = &self.open else { return };
        let now = Traffic {
            messages_in: record.messages_in.get(),
            messages_out: record.messages_out.get(),
            bytes_in: record.bytes_in.get(),
            bytes_out: record.bytes_out.get(),
        };
        open.passed(now.since(self.passed));
        self.passed = now;
    }

    /// A session that was no WebSocket has ended.
    pub fn end(&mut self, record: &Record, now: u64) {
        self.settle(record);
        if let Some(open) = self.open.take() {
            open.ended(now);
        }
    }

    /// The session has ended.
    pub fn close(&mut self, record: &Record, closed: Option<&Closed>, now: u64) {
        self.settle(record);
        if let Some(open) = self.open.take() {
            open.closed(closed.map_or(Closes::without(), |closed| Closes::with(closed.code)), now);
        }
    }
}
