// SPDX-License-Identifier: Apache-2.0

//! Numbers that a seed determines (SplitMix64).

use std::time::Duration;

/// A row of numbers.
pub struct Random(u64);

impl Random {
    /// The row of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.any() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// The time until the next of events that come independently of each other, on average this far apart.
    pub fn gap(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.unit()).ln())
    }

    /// A size between these, each power of two as likely as another one.
    pub fn size(&mut self, least: f64, most: f64) -> usize {
        (least * (most / least).powf(self.unit())) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_row() {
        let row = |seed| {
            let mut random = Random::new(seed);
            [(); 4].map(|()| random.any())
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
    }

    #[test]
    fn numbers_are_where_they_were_asked_for() {
        let mut random = Random::new(1);
        let mut sum = 0.0;
        for _ in 0..10_000 {
            assert!(random.below(3) < 3);
            assert!((10..=1000).contains(&random.size(10.0, 1000.0)));
            sum += random.gap(Duration::from_secs(2)).as_secs_f64();
        }
        assert!((sum / 10_000.0 - 2.0).abs() < 0.1, "{sum}");
    }
}
