// SPDX-License-Identifier: Apache-2.0

//! What a session waits for, and until when.

use crate::ws::timing::{self, Expiry, Timers};

/// A session that waits for nothing keeps a timer all the same: a worker that is told to go leaves when no timer is left.
const NOTHING: u64 = 3_600_000;

/// How long a client that hung up may wait for a program or a channel that takes nothing, in milliseconds.
pub const HANGUP: u64 = 2_000;

/// How long a client that hung up may wait for a service, or while octets wait for the client, in milliseconds: it may only have
/// closed its sending side, and be slow to read.
pub const SLOW_HANGUP: u64 = 5_000;

/// The deadlines of a session on one timer of its server.
pub struct Deadlines {
    timers: Timers,
    /// How long a client that hung up waits for this endpoint, in milliseconds.
    patience: u64,
    hangup: Option<Hangup>,
    /// When the timer is set to fire.
    armed: Option<u64>,
}

/// The client hung up before everything it sent could be passed on.
struct Hangup {
    /// When it is given up if nothing has moved beyond the mark.
    until: u64,
    /// What had moved when it hung up.
    mark: u64,
}

impl Deadlines {
    /// For a session that begins now; a client that hung up waits so many milliseconds for its endpoint.
    pub fn new(settings: timing::Settings, patience: u64, now: u64) -> Self {
        Deadlines { timers: Timers::new(settings, now), patience, hangup: None, armed: None }
    }

    /// The deadlines of the protocol.
    pub fn timers(&mut self) -> &mut Timers {
        &mut self.timers
    }

    /// The client hung up while the endpoint is full; `mark` is what has moved so far.
    pub fn on_hangup(&mut self, now: u64, mark: u64, output_waits: bool) {
        let patience = if output_waits { SLOW_HANGUP } else { self.patience };
        self.hangup.get_or_insert(Hangup { until: now + patience, mark });
    }

    /// Whether a client that hung up is to be given up; `mark` as before.
    pub fn is_abandoned(&mut self, now: u64, mark: u64) -> bool {
        self.hangup.take_if(|hangup| hangup.until <= now).is_some_and(|hangup| hangup.mark == mark)
    }

    /// What is due now.
    pub fn expire(&mut self, now: u64) -> Option<Expiry> {
        self.timers.expire(now)
    }

    /// The timer has fired.
    pub fn fired(&mut self) {
        self.armed = None;
    }

    /// For a session that waits for its endpoint: nothing of its own is due, but a worker that is told to go has to stay for
    /// it. Returns in how many milliseconds the timer is to fire.
    pub fn wait(&mut self, now: u64) -> u64 {
        self.armed = Some(now + NOTHING);
        NOTHING
    }

    /// In how many milliseconds the timer is to fire for the next deadline or the end of a pause, if it has to be set. A timer
    /// that would fire too early is left alone: it finds out then.
    pub fn arm(&mut self, now: u64, pause: Option<u64>) -> Option<u64> {
        let hangup = self.hangup.as_ref().map(|hangup| hangup.until);
        let next = [self.timers.deadline(), hangup, pause].into_iter().flatten().min().unwrap_or(now + NOTHING);
        if self.armed.is_none_or(|armed| next < armed) {
            self.armed = Some(next);
            return Some(next.saturating_sub(now).max(1));
        }
        None
    }
}
