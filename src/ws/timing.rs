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
    /// The time for answers after a violation is over: close with its code.
    Grace,
    /// The worker is going: close with 1012.
    Drain,
    /// The client did not answer our Close, or does not even accept it: drop the connection.
    CloseTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client broke a rule; our Close is due then.
    Grace {
        until: u64,
    },
    /// Our Close is queued or sent; the time is that of the last progress.
    Closing {
        since: u64,
    },
}

/// The timers of one session.
///
/// [`deadline`](Self::deadline) is to be looked at once at the end of each turn of the session; that costs a few
/// comparisons.
#[derive(Debug, Clone)]
pub struct Timers {
    settings: Settings,
    stage: Stage,
    /// When octets of the client were read last.
    received: u64,
    /// When a message went either way last.
    message: u64,
    /// When the last Ping was sent that nothing came after.
    pinged: Option<u64>,
    /// Octets wait for the client; when it accepted some last.
    blocked: Option<u64>,
    /// We do not read, so the client's silence means nothing.
    paused: bool,
    drain: Option<u64>,
}

impl Timers {
    /// The timers of a session that begins now.
    pub fn new(settings: Settings, now: u64) -> Self {
        Self {
            settings,
            stage: Stage::Open,
            received: now,
            message: now,
            pinged: None,
            blocked: None,
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
            self.pinged = self.pinged.map(|_| now);
        }
    }

    /// Octets are left that the client does not accept at the moment. It is no harm to say so again.
    pub fn on_blocked(&mut self, now: u64) {
        self.blocked.get_or_insert(now);
    }

    /// The client accepted some octets. `left`: there are more.
    pub fn on_sent(&mut self, now: u64, left: bool) {
        if let Stage::Closing { since } = &mut self.stage {
            *since = now;
        }
        if self.blocked.is_some() {
            // A Ping may have been among the octets that waited.
            self.pinged = self.pinged.map(|_| now);
        }
        self.blocked = left.then_some(now);
    }

    /// The client broke a rule: [`Expiry::Grace`] follows unless the session closes first.
    pub fn on_violation(&mut self, now: u64) {
        if self.stage == Stage::Open {
            self.stage = Stage::Grace { until: now.saturating_add(GRACE) };
        }
    }

    /// Our Close was queued, as the first or as the answer.
    pub fn on_close(&mut self, now: u64) {
        if !matches!(self.stage, Stage::Closing { .. }) {
            self.stage = Stage::Closing { since: now };
        }
    }

    /// The worker is going; [`Expiry::Drain`] comes at this time. See [`drain_at`].
    pub fn on_drain(&mut self, at: u64) {
        self.drain = Some(at);
    }

    /// When something is due next.
    pub fn deadline(&self) -> Option<u64> {
        self.due().into_iter().flatten().map(|(at, _)| at).min()
    }

    /// The timer of the event loop fired: what is due, if anything.
    pub fn expire(&mut self, now: u64) -> Option<Expiry> {
        // Of several the first; at the same time, the one that is named first below.
        let (_, expiry) = self.due().into_iter().flatten().filter(|(at, _)| *at <= now).min_by_key(|(at, _)| *at)?;
        match expiry {
            Expiry::Ping => self.pinged = Some(now),
            Expiry::Drain => self.drain = None,
            Expiry::PingTimeout | Expiry::Idle | Expiry::SendTimeout | Expiry::Grace | Expiry::CloseTimeout => {}
        }
        Some(expiry)
    }

    /// Everything that can expire at the present stage.
    fn due(&self) -> [Option<(u64, Expiry)>; 5] {
        let after = |since: u64, time: u64, expiry| (time != 0).then(|| (since.saturating_add(time), expiry));
        let Settings { ping_interval, ping_timeout, idle_timeout, close_timeout, send_timeout } = self.settings;
        let send = self.blocked.and_then(|since| after(since, send_timeout, Expiry::SendTimeout));
        match self.stage {
            Stage::Open => {
                // Behind octets that wait, a Ping waits as well, and a Pong that is not read says nothing.
                let silence_counts = self.blocked.is_none() && !self.paused;
                let (ping, pong) = match self.pinged {
                    _ if !silence_counts => (None, None),
                    None => (after(self.received, ping_interval, Expiry::Ping), None),
                    Some(at) if ping_timeout == 0 => (after(at, ping_interval, Expiry::Ping), None),
                    Some(at) => (None, after(at, ping_timeout, Expiry::PingTimeout)),
                };
                let drain = self.drain.map(|at| (at, Expiry::Drain));
                [send, pong, drain, after(self.message, idle_timeout, Expiry::Idle), ping]
            }
            Stage::Grace { until } => [send, Some((until, Expiry::Grace)), None, None, None],
            Stage::Closing { since } => {
                let close = after(since, close_timeout, Expiry::CloseTimeout);
                [close, if close.is_none() { send } else { None }, None, None, None]
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

/// The same for a session that begins when the others have their times already, before or after the `end` of that time. The
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
        t.on_close(2_000);
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
        t.on_close(36_000);
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
    fn silence_does_not_count_while_we_do_not_read() {
        let mut t = timers(SETTINGS);
        assert_eq!(t.expire(31_000), Some(Expiry::Ping));
        t.on_pause();
        assert_eq!((t.expire(90_000), t.deadline()), (None, None));
        t.on_resume(100_000);
        t.on_resume(105_000);
        assert_eq!(t.deadline(), Some(110_000));
    }

    #[test]
    fn closing() {
        let mut t = timers(Settings { idle_timeout: 6_000, ..SETTINGS });
        t.on_blocked(2_000);
        t.on_close(3_000);
        t.on_close(4_000);
        t.on_drain(3_500);
        assert_eq!(t.deadline(), Some(8_000), "neither Ping nor idleness nor draining");
        t.on_sent(7_000, false);
        t.on_receive(7_500);
        assert_eq!(t.expire(8_000), None);
        assert_eq!(t.expire(12_000), Some(Expiry::CloseTimeout));
        // Without a close timeout, a blocked output still has its own.
        let mut t = timers(Settings { close_timeout: 0, ..SETTINGS });
        t.on_close(2_000);
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
        t.on_close(2_300);
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
