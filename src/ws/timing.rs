// SPDX-License-Identifier: Apache-2.0

//! The timers of a session: keepalive, idleness, slow clients, closing, draining.
//!
//! All of them share one timer of the event loop. The times of events are only noted, and most events of a busy session
//! move the deadline away. So the timer needs to be set when none is, or when the deadline is before the time it is set
//! to; a timer that fires too early finds nothing due and is set anew. That way a busy session does not touch the
//! event loop's timers for each message. Times are milliseconds of a monotonic clock.

/// How long an endpoint may go on answering the messages before a violation, in milliseconds.
pub const GRACE: u64 = 300;

/// The times of a location, in milliseconds; 0 means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Silence of the client before it gets a Ping.
    pub ping_interval: u64,
    /// Silence after a Ping before the client counts as gone.
    pub ping_timeout: u64,
    /// Time without a message either way before the session is closed.
    pub idle_timeout: u64,
    /// Time for the client's Close after ours.
    pub close_timeout: u64,
    /// Time in which a client must accept an octet of what is queued for it.
    pub send_timeout: u64,
    /// Time in which the endpoint must take an octet of what waits for it.
    pub endpoint_timeout: u64,
}

/// What the system knows of octets that were given to it for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The client's side has taken some since the last look.
    pub taken: bool,
    /// The client's side has taken all of them.
    pub all: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Send a Ping. It counts as sent.
    Ping,
    /// The client has been silent since the Ping: drop the connection.
    PingTimeout,
    /// No message either way: close with 1001.
    Idle,
    /// The client accepts nothing: drop the connection.
    SendTimeout,
    /// The endpoint takes nothing: close as it says.
    EndpointTimeout,
    /// The endpoint has ended, and the client does not end the message that it has begun: close.
    Leave,
    /// The time for answers after a violation is over: close with its code.
    Grace,
    /// The worker is going: close with 1012.
    Drain,
    /// The client did not answer our Close, or does not even accept it: drop the connection.
    CloseTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClosingStage {
    Open,
    /// The client broke a rule; our Close is due then.
    Grace {
        until: u64,
    },
    /// Our Close is queued or sent.
    Closing {
        /// When it was, or when the client has taken something of what is before it.
        since: u64,
        /// Octets were before it that the client had not taken at the last look.
        behind: bool,
    },
}

/// A Ping that nothing came after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ping {
    /// When it was sent, or when the client has taken something of what is before it.
    at: u64,
    /// Octets were before it that the client had not taken at the last look.
    behind: bool,
}

/// The timers of one session.
///
/// [`deadline`](Self::deadline) is to be looked at once at the end of each turn of the session; that costs a few
/// comparisons.
#[derive(Debug, Clone)]
pub struct Timers {
    settings: Settings,
    stage: ClosingStage,
    /// When octets of the client were read last.
    received: u64,
    /// When a message went either way last.
    message: u64,
    /// The last Ping, if nothing came after it.
    pinged: Option<Ping>,
    /// Octets wait for the client; when it accepted some last.
    blocked: Option<u64>,
    /// Octets wait for the endpoint; when it took some last.
    endpoint: Option<u64>,
    /// The endpoint has ended, and waits since then for the end of the client's message.
    leaving: Option<u64>,
    /// We do not read, so the client's silence means nothing: it is alive as long as its side takes our Pings.
    paused: bool,
    drain: Option<u64>,
}

impl Timers {
    /// The timers of a session that begins now.
    pub fn new(settings: Settings, now: u64) -> Self {
        Self {
            settings,
            stage: ClosingStage::Open,
            received: now,
            message: now,
            pinged: None,
            blocked: None,
            endpoint: None,
            leaving: None,
            paused: false,
            drain: None,
        }
    }

    /// Octets of the client were read. Whatever they are, the client is alive.
    pub fn on_receive(&mut self, now: u64) {
        self.received = now;
        self.pinged = None;
    }

    /// A message was received or sent.
    pub fn on_message(&mut self, now: u64) {
        self.message = now;
    }

    /// Reading stops, because nobody takes what the client sends.
    pub fn on_pause(&mut self) {
        self.paused = true;
    }

    /// Reading goes on. A Ping that is out gets its whole time again.
    pub fn on_resume(&mut self, now: u64) {
        if self.paused {
            self.paused = false;
            self.pinged = self.pinged.map(|ping| Ping { at: now, ..ping });
        }
    }

    /// Octets are left that the client does not accept at the moment. It is no harm to say so again.
    pub fn on_blocked(&mut self, now: u64) {
        self.blocked.get_or_insert(now);
    }

    /// The client accepted some octets. `left`: there are more.
    pub fn on_sent(&mut self, now: u64, left: bool) {
        if let ClosingStage::Closing { since, .. } = &mut self.stage {
            *since = now;
        }
        if self.blocked.is_some() {
            // A Ping may have been among the octets that waited, and others may still be before it.
            self.pinged = self.pinged.map(|_| Ping { at: now, behind: true });
        }
        self.blocked = left.then_some(now);
    }

    /// The Ping that is due was sent. `behind`: octets are before it that the client has not taken yet.
    pub fn on_ping(&mut self, now: u64, behind: bool) {
        self.pinged = Some(Ping { at: now, behind });
    }

    /// The system was asked what the client's side has taken. Octets that it takes are a sign of life, as far as they are
    /// before what is waited for: a slow line may have minutes of them.
    pub fn on_look(&mut self, now: u64, look: Look) {
        if look.taken {
            self.blocked = self.blocked.map(|_| now);
        }
        let waits = |at: &mut u64, behind: &mut bool| {
            if *behind && (look.taken || look.all) {
                *at = now;
                *behind = !look.all;
            }
        };
        if let ClosingStage::Closing { since, behind } = &mut self.stage {
            waits(since, behind);
        }
        if let Some(Ping { at, behind }) = &mut self.pinged {
            waits(at, behind);
            if self.paused && look.all {
                // The Pong may be behind what is not read. That the Ping was taken is all that can be known.
                self.received = now;
                self.pinged = None;
            }
        }
    }

    /// Octets wait for the endpoint, or none do. It is no harm to say so again.
    pub fn on_endpoint(&mut self, now: u64, waits: bool) {
        if waits {
            self.endpoint.get_or_insert(now);
        } else {
            self.endpoint = None;
        }
    }

    /// Whether octets wait for the endpoint, as far as was told.
    pub fn endpoint_waits(&self) -> bool {
        self.endpoint.is_some()
    }

    /// The endpoint has taken some of what waits for it.
    pub fn on_endpoint_taken(&mut self, now: u64) {
        self.endpoint = self.endpoint.map(|_| now);
    }

    /// The endpoint has ended and waits for the end of a message that the client has begun. It is no harm to say so again.
    pub fn on_leaving(&mut self, now: u64) {
        self.leaving.get_or_insert(now);
    }

    /// The client broke a rule: [`Expiry::Grace`] follows unless the session closes first.
    pub fn on_violation(&mut self, now: u64) {
        if self.stage == ClosingStage::Open {
            self.stage = ClosingStage::Grace { until: now.saturating_add(GRACE) };
        }
    }

    /// Our Close was queued, as the first or as the answer. `behind`: octets are before it that the client has not taken.
    pub fn on_close(&mut self, now: u64, behind: bool) {
        if !matches!(self.stage, ClosingStage::Closing { .. }) {
            self.stage = ClosingStage::Closing { since: now, behind };
        }
    }

    /// The worker is going; [`Expiry::Drain`] comes at this time. See [`drain_at`].
    pub fn on_drain(&mut self, at: u64) {
        self.drain = Some(at);
    }

    /// When something is due next.
    pub fn deadline(&self) -> Option<u64> {
        // A number for "never", since the octets of an empty Option are not set, and the optimiser may compare them before it looks
        // whether there is anything: harmless, but memory checkers report it.
        let times = self.due().map(|due| due.map_or(u64::MAX, |(at, _)| at));
        times.into_iter().min().filter(|at| *at != u64::MAX)
    }

    /// The timer of the event loop fired: what is due, if anything.
    pub fn expire(&mut self, now: u64) -> Option<Expiry> {
        // Of several the first; at the same time, the one that is named first below.
        let (_, expiry) = self.due().into_iter().flatten().filter(|(at, _)| *at <= now).min_by_key(|(at, _)| *at)?;
        match expiry {
            Expiry::Ping => self.pinged = Some(Ping { at: now, behind: false }),
            Expiry::Drain => self.drain = None,
            Expiry::Leave => self.leaving = None,
            Expiry::PingTimeout
            | Expiry::Idle
            | Expiry::SendTimeout
            | Expiry::EndpointTimeout
            | Expiry::Grace
            | Expiry::CloseTimeout => {}
        }
        Some(expiry)
    }

    /// Everything that can expire at the present stage.
    fn due(&self) -> [Option<(u64, Expiry)>; 7] {
        let after = |since: u64, time: u64, expiry| (time != 0).then(|| (since.saturating_add(time), expiry));
        let Settings { ping_interval, ping_timeout, idle_timeout, close_timeout, send_timeout, endpoint_timeout } =
            self.settings;
        let send = self.blocked.and_then(|since| after(since, send_timeout, Expiry::SendTimeout));
        match self.stage {
            ClosingStage::Open => {
                let (ping, pong) = match self.pinged {
                    // Behind octets that wait, a Ping waits as well: their own time limit counts.
                    _ if self.blocked.is_some() => (None, None),
                    None => (after(self.received, ping_interval, Expiry::Ping), None),
                    Some(Ping { at, .. }) if ping_timeout == 0 => (after(at, ping_interval, Expiry::Ping), None),
                    Some(Ping { at, .. }) => (None, after(at, ping_timeout, Expiry::PingTimeout)),
                };
                let drain = self.drain.map(|at| (at, Expiry::Drain));
                let endpoint = self.endpoint.and_then(|since| after(since, endpoint_timeout, Expiry::EndpointTimeout));
                let leave = self.leaving.and_then(|since| after(since, close_timeout, Expiry::Leave));
                let idle = after(self.message, idle_timeout, Expiry::Idle);
                [send, pong, endpoint, leave, drain, idle, ping]
            }
            ClosingStage::Grace { until } => [send, Some((until, Expiry::Grace)), None, None, None, None, None],
            ClosingStage::Closing { since, .. } => {
                let close = after(since, close_timeout, Expiry::CloseTimeout);
                [close, if close.is_none() { send } else { None }, None, None, None, None, None]
            }
        }
    }
}

/// When a session is to be closed if `count` sessions are closed evenly over `drain` milliseconds from now. `index`
/// counts from 0; the last one is closed when the time is over.
pub fn drain_at(now: u64, drain: u64, index: u64, count: u64) -> u64 {
    let share = u128::from(drain) * (u128::from(index) + 1) / u128::from(count.max(1));
    now.saturating_add(u64::try_from(share).unwrap_or(u64::MAX).min(drain))
}

/// When a session is to be closed that begins when the others have their times already, before or after the `end` of that time. The
/// sessions that come late are numbered from 0; those that follow each other are far apart, and none is later than `end`.
pub fn late_drain_at(now: u64, end: u64, number: u64) -> u64 {
    // The fractional part of a multiple of the golden ratio.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let left = u128::from(end.saturating_sub(now));
    let share = (u128::from(number.wrapping_add(1).wrapping_mul(STEP)) * left) >> 64;
    now.saturating_add(u64::try_from(share).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
