// SPDX-License-Identifier: Apache-2.0

//! The figures of an engine behind channels.

/// Bounds of the classes of [`Latency`], in microseconds.
pub const BOUNDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// How many took as long as each of the [`BOUNDS`] at most and longer than the one before; the last one: longer than all.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Microseconds of all of them.
    pub sum: u64,
}

/// Whether the node listens, and since when, in milliseconds of Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// The node has listened since then.
    Since(u64),
    /// The node does not listen.
    Not {
        /// Since when it does not; 0: it never did.
        since: u64,
    },
}

impl Default for Listening {
    fn default() -> Self {
        Self::Not { since: 0 }
    }
}

/// An engine. Those of `workers`, `connected`, `pending` are of this moment, the others totals of the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Engine {
    /// Its URL, without a password.
    pub name: String,
    /// The master that this worker was last connected to: its address, product and version; empty: none yet.
    pub master: String,
    /// Workers that use it.
    pub workers: u64,
    /// Workers whose connection for commands is there.
    pub connected: u64,
    /// Since when one of them is there, or none, in milliseconds of Unix time; 0: never.
    pub since: u64,
    /// Whether messages are listened to.
    pub listening: Listening,
    /// Commands that were sent.
    pub sent: u64,
    /// Commands that could not be sent, were not answered, or were answered by an error.
    pub failed: u64,
    /// Commands that wait for an answer.
    pub pending: u64,
    /// How long answers took.
    pub latency: Latency,
    /// Messages that were read because something was missing.
    pub fetched: u64,
    /// Epochs that have changed: the engine may have lost something.
    pub epochs: u64,
}

impl Latency {
    /// How many answers there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The bound below which at least so many of a thousand answers are, in microseconds; the last one also for those that took
    /// longer. 0 if there were none.
    pub fn below(&self, thousandths: u64) -> u64 {
        let wanted = (self.count() * thousandths).div_ceil(1000);
        let mut sum = 0;
        for (count, bound) in self.counts.iter().zip(BOUNDS) {
            sum += count;
            if wanted > 0 && sum >= wanted {
                return bound;
            }
        }
        if wanted > 0 { BOUNDS[BOUNDS.len() - 1] } else { 0 }
    }
}

impl Engine {
    /// Whether publishers are served.
    pub fn is_connected(&self) -> bool {
        self.connected > 0
    }

    /// Whether the node listens, and since when.
    pub fn listens(&self) -> (bool, u64) {
        match self.listening {
            Listening::Since(since) => (true, since),
            Listening::Not { since } => (false, since),
        }
    }
}

#[cfg(test)]
pub(super) fn example() -> Engine {
    let mut latency = Latency { sum: 1_500, ..Latency::default() };
    (latency.counts[0], latency.counts[3], latency.counts[15]) = (3, 1, 1);
    Engine {
        name: "redis://10.0.0.5:6379".to_owned(),
        master: "10.0.0.5:6379 redis 7.0.15".to_owned(),
        workers: 2,
        connected: 1,
        since: 1_700_000_000_500,
        listening: Listening::Since(1_700_000_001_000),
        sent: 10,
        failed: 3,
        pending: 2,
        latency,
        fetched: 4,
        epochs: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(Latency::default().below(500), 0);
        let latency = example().latency;
        assert_eq!((latency.count(), latency.below(500), latency.below(800)), (5, 100, 1_000));
        assert_eq!(latency.below(990), 5_000_000, "and longer");
    }
}
