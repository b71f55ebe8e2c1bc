// SPDX-License-Identifier: Apache-2.0

//! How long things took: how many took at most so long.

/// Where the buckets of a histogram end, in milliseconds; the last one has no end.
pub trait Bounds {
    /// The upper bounds, in ascending order.
    const BOUNDS: &'static [u64];
}

/// From the head of the request to the answer: the start of a program, a connection, a subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Starts;

impl Bounds for Starts {
    const BOUNDS: &'static [u64] = &[1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
}

/// From the answer to the end of the session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durations;

impl Bounds for Durations {
    const BOUNDS: &'static [u64] = &[100, 1_000, 10_000, 60_000, 300_000, 900_000, 3_600_000, 14_400_000, 86_400_000];
}

/// Buckets that any histogram has at most, the last one included.
pub const BUCKETS: usize = 14;

/// The bucket of a time in milliseconds.
pub fn bucket<B: Bounds>(time: u64) -> usize {
    B::BOUNDS.partition_point(|bound| *bound < time)
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many there are in each bucket, and in no other.
    pub counts: [u64; BUCKETS],
    /// The sum of all times, in milliseconds.
    pub sum: u64,
}

impl Histogram {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.sum += other.sum;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// For each bound, in milliseconds, how many took at most that long.
    pub fn at_most<B: Bounds>(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = 0;
        B::BOUNDS.iter().zip(self.counts).map(move |(bound, count)| {
            sum += count;
            (*bound, sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets() {
        assert_eq!((bucket::<Starts>(0), bucket::<Starts>(1), bucket::<Starts>(2), bucket::<Starts>(3)), (0, 0, 1, 2));
        assert_eq!((bucket::<Starts>(10_000), bucket::<Starts>(10_001), bucket::<Starts>(u64::MAX)), (12, 13, 13));
        assert!(Starts::BOUNDS.len() < BUCKETS && Durations::BOUNDS.len() < BUCKETS);
        let mut one = Histogram::default();
        one.counts[0] = 2;
        one.counts[2] = 1;
        one.counts[9] = 4;
        one.sum = 9;
        one.add(&one.clone());
        let seen: Vec<_> = one.at_most::<Durations>().collect();
        assert_eq!(seen[0..3], [(100, 4), (1_000, 4), (10_000, 6)]);
        assert_eq!((seen.last().copied(), one.count(), one.sum), (Some((86_400_000, 6)), 14, 18));
    }
}
