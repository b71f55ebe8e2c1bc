// SPDX-License-Identifier: Apache-2.0

//! What a worker holds of a session or a program that is counted: as long as it is there, so is what it stands for.

use super::atomic::Ordering::Relaxed;
use super::seat::{self, Gauge};
use super::{Rare, Totals, add};
use crate::status::Closes;
use crate::status::histogram::Durations;

/// A counted program; not counted any more when dropped.
#[derive(Debug)]
pub struct Place {
    pub(super) gauge: &'static Gauge,
    pub(super) totals: &'static Totals,
}

impl Place {
    /// The program could not be started.
    pub fn failed(&self) {
        add(&self.totals.failed, 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        seat::dismiss(self.gauge);
    }
}

/// A program that is started ahead of its client, until that has it; not counted as one any more when dropped.
#[derive(Debug)]
pub struct ProgramAhead {
    pub(super) gauge: &'static Gauge,
    pub(super) rare: &'static Rare,
    pub(super) runs: bool,
}

impl ProgramAhead {
    /// It runs, and waits for a client.
    pub fn waits(&mut self) {
        debug_assert!(!self.runs, "it begins once");
        self.gauge.waiting.fetch_add(1, Relaxed);
        self.gauge.starting.fetch_sub(1, Relaxed);
        add(&self.rare.ahead, 1);
        self.runs = true;
    }

    /// It is gone, or of no use, before a client has come.
    pub fn replaced(&self) {
        add(&self.rare.replaced, 1);
    }
}

impl Drop for ProgramAhead {
    fn drop(&mut self) {
        let count = if self.runs { &self.gauge.waiting } else { &self.gauge.starting };
        count.fetch_sub(1, Relaxed);
    }
}

/// The figures of a location, for what is counted apart from everything else of a session.
#[derive(Debug, Clone, Copy)]
pub struct Figures(&'static Totals);

impl Figures {
    /// Counts messages to a client.
    pub fn sent(self, messages: u64, octets: u64) {
        add(&self.0.messages_out, messages);
        add(&self.0.bytes_out, octets);
    }
}

/// A counted session; not open any more when dropped.
#[derive(Debug)]
pub struct OpenSession {
    pub(super) gauge: &'static Gauge,
    pub(super) totals: &'static Totals,
    pub(super) rare: &'static Rare,
    pub(super) subscribes: bool,
    /// When it was opened, in milliseconds of some clock.
    pub(super) opened: u64,
}

/// What is known of a session that has just been opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening {
    /// Whether the session subscribes to channels.
    pub subscribes: bool,
    /// How long its client has waited for that, in milliseconds.
    pub waited: u64,
    /// The time, in milliseconds of some clock.
    pub now: u64,
}

impl OpenSession {
    /// The figures that it belongs to.
    pub fn figures(&self) -> Figures {
        Figures(self.totals)
    }

    /// Counts what has passed since the last call.
    pub fn passed(&self, traffic: Traffic) {
        let Traffic { messages_in, messages_out, bytes_in, bytes_out } = traffic;
        // A turn that moved nothing is frequent, and so is one that moved something one way.
        if bytes_in != 0 || messages_in != 0 {
            add(&self.totals.messages_in, messages_in);
            add(&self.totals.bytes_in, bytes_in);
        }
        if bytes_out != 0 || messages_out != 0 {
            add(&self.totals.messages_out, messages_out);
            add(&self.totals.bytes_out, bytes_out);
        }
    }

    /// Counts how a WebSocket ended, at this time of the clock of its opening.
    pub fn closed(self, kind: Closes, now: u64) {
        add(&self.totals.closes[kind.index()], 1);
        self.ended(now);
    }

    /// Counts that it ended.
    pub fn ended(self, now: u64) {
        self.rare.durations.count::<Durations>(now.saturating_sub(self.opened));
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.gauge.open.fetch_sub(1, Relaxed);
        if self.subscribes {
            self.gauge.subscribing.fetch_sub(1, Relaxed);
        }
    }
}

/// Messages, and octets of their payloads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients.
    pub messages_out: u64,
    /// Octets of messages from clients.
    pub bytes_in: u64,
    /// Octets of messages to clients.
    pub bytes_out: u64,
}

impl Traffic {
    /// What came after `before`.
    pub fn since(self, before: Self) -> Self {
        Traffic {
            messages_in: self.messages_in - before.messages_in,
            messages_out: self.messages_out - before.messages_out,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}
