// SPDX-License-Identifier: Apache-2.0

//! How long to wait before the next attempt to connect.

/// The longest first wait, in milliseconds.
const FIRST: u64 = 50;

/// The longest wait, in milliseconds. Deliveries go on within five seconds after the server is back.
const LONGEST: u64 = 2_000;

/// Attempts that have failed in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failed: u32,
}

impl Backoff {
    /// Another attempt has failed: milliseconds to the next one. The longest wait doubles each time; half of it is drawn from `random`, so
    /// that the workers of many nodes, which were cut off in one moment, do not come back in one.
    pub fn next(&mut self, random: u64) -> u64 {
        let longest = FIRST.checked_shl(self.failed).unwrap_or(LONGEST).min(LONGEST);
        self.failed = (self.failed + 1).min(16);
        longest / 2 + random % (longest / 2 + 1)
    }

    /// An attempt has succeeded.
    pub fn reset(&mut self) {
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        for attempt in 0..=16 {
            let mut backoff = Backoff { failed: attempt };
            let (least, most) = (
                Backoff { failed: attempt }.next(0),
                (0..3000)
                    .map(|random| {
                        let mut copy = backoff;
                        copy.next(random)
                    })
                    .max(),
            );
            let expected = FIRST.checked_shl(attempt).unwrap_or(LONGEST).min(LONGEST);
            assert_eq!((least, most), (expected / 2, Some(expected)), "attempt {attempt}");
            backoff.reset();
            assert_eq!(backoff, Backoff::default());
        }
    }
}
