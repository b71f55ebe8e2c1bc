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
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        ping_interval: 30_000,
        ping_timeout: 10_000,
        idle_timeout: 0,
        close_timeout: 5_000,
        send_timeout: 60_000,
        endpoint_timeout: 60_000,
    };

    fn timers(settings: Settings) -> Timers {
        Timers::new(settings, 1_000)
    }

    #[test]
    fn silent_client() {
        let mut t = timers(SETTINGS);
        assert_eq!(t.deadline(), Some(31_000));
        assert_eq!(t.expire(30_999), None);
        assert_eq!(t.expire(31_000), Some(Expiry::Ping));
        assert_eq!(t.deadline(), Some(41_000));
        assert_eq!(t.expire(41_000), Some(Expiry::PingTimeout));
    }

    #[test]
    fn pong_or_data_keeps_the_session() {
        let mut t = timers(SETTINGS);
        assert_eq!(t.expire(31_000), Some(Expiry::Ping));
        t.on_receive(35_000);
        assert_eq!(t.expire(41_000), None);
        assert_eq!(t.deadline(), Some(65_000));
        assert_eq!(t.expire(65_000), Some(Expiry::Ping));
    }

    #[test]
    fn zero_is_never() {
        let mut t = timers(Settings::default());
        assert_eq!((t.deadline(), t.expire(u64::MAX)), (None, None));
        t.on_blocked(2_000);
        t.on_close(2_000, false);
        assert_eq!(t.deadline(), None);
        // Pings without a timeout go on.
        let mut t = timers(Settings { ping_timeout: 0, ..SETTINGS });
        assert_eq!(t.expire(31_000), Some(Expiry::Ping));
        assert_eq!(t.deadline(), Some(61_000));
        assert_eq!(t.expire(61_000), Some(Expiry::Ping));
    }

    #[test]
    fn a_busy_session_leaves_the_timer_alone() {
        let mut t = timers(SETTINGS);
        let mut armed = 31_000;
        assert_eq!(t.deadline(), Some(armed));
        for now in 1_001..20_000 {
            t.on_receive(now);
            t.on_message(now);
            t.on_sent(now, false);
            assert!(t.deadline() >= Some(armed));
        }
        // It fires for nothing once in the interval, and is set anew.
        assert_eq!(t.expire(armed), None);
        armed = 49_999;
        assert_eq!(t.deadline(), Some(armed));
    }

    #[test]
    fn idle() {
        let mut t = timers(Settings { idle_timeout: 20_000, ..SETTINGS });
        assert_eq!(t.deadline(), Some(21_000));
        t.on_receive(15_000);
        assert_eq!(t.deadline(), Some(21_000), "a Pong is no message");
        t.on_message(16_000);
        assert_eq!(t.expire(21_000), None);
        assert_eq!(t.expire(36_000), Some(Expiry::Idle));
        t.on_close(36_000, false);
        assert_eq!(t.deadline(), Some(41_000));
    }

    #[test]
    fn slow_client() {
        let mut t = timers(SETTINGS);
        assert_eq!(t.deadline(), Some(31_000));
        t.on_blocked(2_000);
        t.on_blocked(9_000);
        // No Ping is put behind what waits.
        assert_eq!(t.expire(31_000), None);
        assert_eq!(t.deadline(), Some(62_000));
        t.on_sent(50_000, true);
        assert_eq!(t.expire(62_000), None);
        assert_eq!(t.expire(109_999), None);
        assert_eq!(t.expire(110_000), Some(Expiry::SendTimeout));
        t.on_sent(110_000, false);
        assert_eq!(t.expire(110_000), Some(Expiry::Ping));
    }

    #[test]
    fn a_ping_that_waited_gets_its_time() {
        let mut t = timers(SETTINGS);
        assert_eq!(t.expire(31_000), Some(Expiry::Ping));
        t.on_blocked(31_000);
        assert_eq!(t.expire(45_000), None);
        t.on_sent(50_000, true);
        t.on_sent(55_000, false);
        assert_eq!(t.deadline(), Some(65_000));
        assert_eq!(t.expire(65_000), Some(Expiry::PingTimeout));
    }

    #[test]
    fn while_we_do_not_read_a_ping_that_was_taken_is_a_sign_of_life() {
        let mut t = timers(SETTINGS);
        t.on_pause();
        assert_eq!(t.expire(31_000), Some(Expiry::Ping));
        t.on_look(41_000, Look { taken: true, all: true });
        assert_eq!(t.expire(41_000), None);
        assert_eq!(t.expire(71_000), Some(Expiry::Ping));
        t.on_look(81_000, Look { taken: false, all: false });
        assert_eq!(t.expire(81_000), Some(Expiry::PingTimeout), "the client's machine has gone");
        // What was not read before is read now, and may have had the Pong.
        t.on_resume(82_000);
        t.on_resume(85_000);
        assert_eq!(t.deadline(), Some(92_000));
    }

    #[test]
    fn a_slow_line_is_a_sign_of_life_and_a_dead_one_is_not() {
        let mut t = timers(SETTINGS);
        assert_eq!(t.expire(31_000), Some(Expiry::Ping));
        t.on_ping(31_000, true);
        for now in [41_000, 51_000, 61_000] {
            t.on_look(now, Look { taken: true, all: false });
            assert_eq!(t.expire(now), None);
        }
        // With the Ping the client has the usual time.
        t.on_look(71_000, Look { taken: true, all: true });
        assert_eq!(t.expire(71_000), None);
        t.on_look(81_000, Look { taken: true, all: true });
        assert_eq!(t.expire(81_000), Some(Expiry::PingTimeout));
        // Nothing moves: dead.
        let mut t = timers(SETTINGS);
        t.on_ping(31_000, true);
        t.on_look(41_000, Look { taken: false, all: false });
        assert_eq!(t.expire(41_000), Some(Expiry::PingTimeout));
        // A Ping that nothing was before is taken by every machine; what counts is the Pong.
        let mut t = timers(SETTINGS);
        t.on_ping(31_000, false);
        t.on_look(41_000, Look { taken: true, all: true });
        assert_eq!(t.expire(41_000), Some(Expiry::PingTimeout));
        // The send timeout and the close timeout know such signs of life as well.
        let mut t = timers(SETTINGS);
        t.on_blocked(2_000);
        t.on_look(62_000, Look { taken: true, all: false });
        assert_eq!(t.expire(62_000), None);
        t.on_close(70_000, true);
        t.on_look(75_000, Look { taken: true, all: false });
        assert_eq!(t.expire(75_000), None);
        t.on_look(80_000, Look { taken: true, all: true });
        t.on_look(84_000, Look { taken: true, all: true });
        assert_eq!(t.expire(85_000), Some(Expiry::CloseTimeout));
    }

    #[test]
    fn an_endpoint_that_takes_nothing() {
        let mut t = timers(SETTINGS);
        t.on_endpoint(2_000, true);
        t.on_endpoint(9_000, true);
        t.on_receive(40_000);
        assert_eq!(t.deadline(), Some(62_000));
        t.on_endpoint_taken(50_000);
        assert_eq!(t.expire(62_000), None);
        t.on_receive(100_000);
        assert_eq!(t.expire(110_000), Some(Expiry::EndpointTimeout));
        t.on_endpoint(110_000, false);
        t.on_endpoint_taken(110_000);
        assert_eq!(t.expire(110_000), None);
    }

    #[test]
    fn a_message_without_end() {
        let mut t = timers(SETTINGS);
        t.on_leaving(2_000);
        t.on_leaving(6_000);
        assert_eq!(t.expire(7_000), Some(Expiry::Leave));
        assert_eq!(t.expire(7_000), None);
    }

    #[test]
    fn closing() {
        let mut t = timers(Settings { idle_timeout: 6_000, ..SETTINGS });
        t.on_blocked(2_000);
        t.on_close(3_000, false);
        t.on_close(4_000, false);
        t.on_drain(3_500);
        assert_eq!(t.deadline(), Some(8_000), "neither Ping nor idleness nor draining");
        t.on_sent(7_000, false);
        t.on_receive(7_500);
        assert_eq!(t.expire(8_000), None);
        assert_eq!(t.expire(12_000), Some(Expiry::CloseTimeout));
        // Without a close timeout, a blocked output still has its own.
        let mut t = timers(Settings { close_timeout: 0, ..SETTINGS });
        t.on_close(2_000, false);
        assert_eq!(t.deadline(), None);
        t.on_blocked(2_000);
        assert_eq!(t.expire(62_000), Some(Expiry::SendTimeout));
    }

    #[test]
    fn grace_after_a_violation() {
        let mut t = timers(SETTINGS);
        t.on_violation(2_000);
        t.on_violation(2_100);
        assert_eq!(t.deadline(), Some(2_300));
        assert_eq!(t.expire(2_299), None);
        assert_eq!(t.expire(2_300), Some(Expiry::Grace));
        t.on_close(2_300, false);
        t.on_violation(2_400);
        assert_eq!(t.deadline(), Some(7_300));
    }

    #[test]
    fn draining() {
        let mut t = timers(SETTINGS);
        t.on_drain(4_000);
        assert_eq!(t.deadline(), Some(4_000));
        assert_eq!(t.expire(4_000), Some(Expiry::Drain));
        assert_eq!(t.deadline(), Some(31_000));
        let spread: Vec<u64> = (0..4).map(|i| drain_at(100, 1_000, i, 4)).collect();
        assert_eq!(spread, [350, 600, 850, 1_100]);
        assert_eq!(drain_at(100, 1_000, 9, 4), 1_100);
        assert_eq!(drain_at(100, 0, 0, 0), 100);
        assert_eq!(drain_at(100, u64::MAX, u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn what_came_first_is_told_first() {
        let mut t = timers(Settings { idle_timeout: 5_000, ..SETTINGS });
        t.on_drain(4_000);
        assert_eq!(t.expire(100_000), Some(Expiry::Drain));
        assert_eq!(t.expire(100_000), Some(Expiry::Idle));
    }

    #[test]
    fn late_sessions_are_spread() {
        assert_eq!(late_drain_at(5_000, 4_000, 0), 5_000, "the time is over");
        let mut times: Vec<u64> = (0..100).map(|number| late_drain_at(1_000, 2_000, number)).collect();
        times.sort_unstable();
        assert!(times[0] >= 1_000 && times[99] < 2_000);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] < 25), "evenly: {times:?}");
    }
}
