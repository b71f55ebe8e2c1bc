// SPDX-License-Identifier: Apache-2.0

//! How fast the two sides of a session are read: `websocket_tcp_upload_rate` and `websocket_tcp_download_rate`.
//!
//! A side that has been read as fast as it may be is left alone for a while. The system goes on taking octets of it until its
//! own buffers are full, and then it is the other side that has to wait: nothing is kept here, and nothing is lost.

/// Milliseconds in a second: a rate is octets a second, and the clock counts milliseconds.
const SECOND: u64 = 1_000;

/// Pauses in a second at most. Each of them ends with a turn of the session, and with a message that is made of what is read then.
const PAUSES: u64 = 10;

/// The rate at which one side is read.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Octets a second.
    rate: u64,
    /// Thousandths of octets that could be read at `counted`.
    ///
    /// Invariant: at most those of one second.
    credit: u128,
    counted: u64,
    /// Nothing is read before.
    paused_until: u64,
}

impl Pace {
    /// For a side that is read from now on; `None` for a rate of 0, which is no limit.
    pub fn new(rate: u64, now: u64) -> Option<Self> {
        (rate > 0).then(|| Pace { rate, credit: u128::from(rate) * u128::from(SECOND), counted: now, paused_until: 0 })
    }

    /// Octets that may be read now; 0 during a pause.
    pub fn allowance(&mut self, now: u64) -> usize {
        if now < self.paused_until {
            return 0;
        }
        self.count(now);
        usize::try_from(self.credit / u128::from(SECOND)).unwrap_or(usize::MAX)
    }

    /// So many octets were read, no more than were allowed. A pause begins when there is not much left.
    pub fn on_read(&mut self, count: usize, now: u64) {
        self.count(now);
        self.credit = self.credit.saturating_sub(count as u128 * u128::from(SECOND));
        let share = u128::from((self.rate / PAUSES).max(1)) * u128::from(SECOND);
        if self.credit < share {
            let pause = (share - self.credit).div_ceil(u128::from(self.rate));
            self.paused_until = now + u64::try_from(pause).unwrap_or(SECOND);
        }
    }

    /// When the pause ends, if there is one.
    pub fn pause(&self, now: u64) -> Option<u64> {
        (now < self.paused_until).then_some(self.paused_until)
    }

    /// Adds what the time since the last count allows.
    fn count(&mut self, now: u64) {
        let passed = now.saturating_sub(self.counted).min(SECOND);
        let most = u128::from(self.rate) * u128::from(SECOND);
        self.credit = (self.credit + u128::from(passed) * u128::from(self.rate)).min(most);
        self.counted = now;
    }
}

/// The rates of both sides; 0 for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Octets a second of the client.
    pub upload: u64,
    /// Octets a second of the endpoint.
    pub download: u64,
}

/// The paces of a session, of which at least one side has a rate.
#[derive(Debug)]
pub struct Paces {
    /// How the client is read.
    pub client: Option<Pace>,
    /// How the endpoint reads the other side.
    pub endpoint: Option<Pace>,
}

impl Paces {
    /// For a session that begins now; `None` where neither side has a rate.
    pub fn new(rates: Rates, now: u64) -> Option<Box<Self>> {
        let (client, endpoint) = (Pace::new(rates.upload, now), Pace::new(rates.download, now));
        (client.is_some() || endpoint.is_some()).then(|| Box::new(Paces { client, endpoint }))
    }

    /// When the next pause ends, if there is one.
    pub fn pause(&self, now: u64) -> Option<u64> {
        let pause = |pace: &Option<Pace>| pace.as_ref().and_then(|pace| pace.pause(now));
        [pause(&self.client), pause(&self.endpoint)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads whatever is allowed, at most `most` octets at once, until so many were read. Returns when that was, and how
    /// often there was something.
    fn read(pace: &mut Pace, mut now: u64, mut octets: usize, most: usize) -> (u64, u32) {
        let mut reads = 0;
        while octets > 0 {
            match pace.allowance(now) {
                0 => now = pace.pause(now).expect("nothing is allowed, and nothing ends that"),
                allowed => {
                    let count = allowed.min(octets).min(most);
                    pace.on_read(count, now);
                    octets -= count;
                    reads += 1;
                }
            }
        }
        (now, reads)
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(Pace::new(0, 7).is_none());
        assert!(Paces::new(Rates::default(), 7).is_none());
        assert!(Paces::new(Rates { upload: 1, download: 0 }, 7).is_some_and(|paces| paces.endpoint.is_none()));
    }

    #[test]
    fn the_first_second_is_free_and_the_others_are_not() {
        for (rate, octets) in [(1, 5), (7, 50), (1_000, 5_000), (100_000, 1 << 20), (1 << 30, 1 << 32)] {
            let mut pace = Pace::new(rate, 1_000).expect("a rate");
            let (end, reads) = read(&mut pace, 1_000, octets, 16 << 10);
            let least = (octets as u64 - rate) * SECOND / rate;
            let took = end - 1_000;
            assert!(took >= least.saturating_sub(1) && took <= least + 1_100 / PAUSES, "{rate}: {took} for {least}");
            let pauses = u64::from(reads) - octets as u64 / (16 << 10);
            assert!(pauses <= 2 * (2 + took * PAUSES / SECOND), "{rate}: {reads} reads");
        }
    }

    #[test]
    fn what_is_not_used_in_a_second_is_gone() {
        let mut pace = Pace::new(1_000, 0).expect("a rate");
        assert_eq!(pace.allowance(3_600_000), 1_000);
        pace.on_read(1_000, 3_600_000);
        assert_eq!(pace.allowance(3_600_000), 0);
        assert_eq!(pace.pause(3_600_000), Some(3_600_100));
        assert_eq!(pace.allowance(3_600_099), 0);
        assert_eq!(pace.allowance(3_600_100), 100);
        assert_eq!(pace.pause(3_600_100), None);
    }

    #[test]
    fn below_the_rate_there_is_no_pause() {
        let mut pace = Pace::new(1_000, 0).expect("a rate");
        for now in (0..60_000).step_by(100) {
            assert!(pace.allowance(now) >= 100);
            pace.on_read(90, now);
            assert_eq!(pace.pause(now), None);
        }
    }

    #[test]
    fn the_largest_rate() {
        let mut pace = Pace::new(i64::MAX as u64, 0).expect("a rate");
        let (end, _) = read(&mut pace, 0, usize::MAX >> 1, usize::MAX >> 1);
        assert_eq!(end, 0);
    }

    #[test]
    fn the_pause_that_ends_first() {
        let mut paces = Paces::new(Rates { upload: 10, download: 1_000 }, 0).expect("rates");
        assert_eq!(paces.pause(0), None);
        for (pace, octets) in [(&mut paces.client, 10), (&mut paces.endpoint, 1_000)] {
            pace.as_mut().expect("a pace").on_read(octets, 0);
        }
        assert_eq!(paces.pause(0), Some(100));
        paces.client.as_mut().expect("a pace").on_read(0, 0);
        assert_eq!(paces.pause(100), None);
    }
}
