// SPDX-License-Identifier: Apache-2.0

//! How many messages a client gets in a time: `websocket_channel_rate`.
//!
//! It is a leaky bucket in the form of the generic cell rate algorithm (ITU-T I.371): one time for each client, and no timer that
//! fills a bucket. A client that subscribes several times has one [`Allowance`] for all of them. A subscriber that has a message to get and may not have it yet is *held*: it costs nothing until its time has come,
//! and then goes on with the newest message of each of its channels.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::SubscriberId;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of a millisecond, in which times are told.
const MILLISECOND: u64 = 1_000_000;

/// Time that may have passed unused before it is lost, in nanoseconds, however small the burst: the event loop comes to a subscriber
/// some milliseconds late, and a rate beyond that of its turns could not be reached otherwise.
const LATENESS: u64 = 10 * MILLISECOND;

/// The most messages in a second, and the longest burst, that [`Rate::new`] takes.
pub const MOST: u64 = 1_000_000;

/// A rate at which a subscriber gets messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time that one message takes, in nanoseconds. Invariant: 1 or more.
    interval: u64,
    /// The time that may be saved up, in nanoseconds. Invariant: `interval` or more.
    credit: u64,
}

impl Rate {
    /// So many messages in a second, of which so many may come at once. `None` unless both are from 1 to [`MOST`].
    pub fn new(per_second: u64, burst: u64) -> Option<Self> {
        let range = 1..=MOST;
        if !range.contains(&per_second) || !range.contains(&burst) {
            return None;
        }
        let interval = SECOND / per_second;
        Some(Self { interval, credit: (interval * burst).max(LATENESS) })
    }
}

/// What a client has used of its rate, by all of its subscriptions together. A copy is the same allowance.
#[derive(Debug, Clone)]
pub struct Allowance {
    rate: Rate,
    /// The time up to which it has been used, in nanoseconds: the theoretical arrival time of the algorithm.
    used: Rc<Cell<u64>>,
}

impl Allowance {
    /// Of a client that has got nothing yet.
    pub fn new(rate: Rate) -> Self {
        Self { rate, used: Rc::new(Cell::new(0)) }
    }
}

/// What holds a subscriber to its allowance.
#[derive(Debug)]
pub struct Throttle {
    allowance: Allowance,
    /// When it was asked last, in nanoseconds.
    now: u64,
    /// It waits for its time. Invariant: it is in [`Held`] then.
    pub is_held: bool,
    /// It was held since it had everything: it goes on with the newest messages, of one channel after the other.
    pub conflates: bool,
    /// Which of its channels has its turn, and has left out what is not to be sent, but has not been sent a message yet.
    pub chosen: Option<usize>,
    /// Turns that its channels have had.
    pub turns: u64,
}

impl Throttle {
    /// Of a subscriber that has waited for nothing yet.
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, now: 0, is_held: false, conflates: false, chosen: None, turns: 0 }
    }

    /// How many messages it may have at `clock`, in milliseconds.
    pub fn allowed(&mut self, clock: u64) -> usize {
        self.now = clock.saturating_mul(MILLISECOND);
        let Allowance { rate, used } = &self.allowance;
        let ahead = used.get().saturating_sub(self.now);
        usize::try_from(rate.credit.saturating_sub(ahead) / rate.interval).unwrap_or(usize::MAX)
    }

    /// It has got so many messages since it was asked.
    pub fn spend(&mut self, messages: usize) {
        let Allowance { rate, used } = &self.allowance;
        used.set(used.get().max(self.now).saturating_add(rate.interval.saturating_mul(messages as u64)));
    }

    /// When it may have the next message, in milliseconds, rounded up.
    pub fn due(&self) -> u64 {
        let Allowance { rate, used } = &self.allowance;
        (used.get() + rate.interval).saturating_sub(rate.credit).div_ceil(MILLISECOND)
    }
}

/// Subscribers that are held, in the order of their times. Of those with the same time, whoever has waited longest is the first: the
/// subscriptions of one client take turns.
#[derive(Debug, Default)]
pub struct Held {
    due: BinaryHeap<Reverse<(u64, u64, SubscriberId)>>,
    /// The number of the next one that is held.
    number: u64,
}

impl Held {
    /// Holds a subscriber until `due`. One that is gone by then is found out when its time has come, which is within a second.
    pub fn push(&mut self, due: u64, id: SubscriberId) {
        self.due.push(Reverse((due, self.number, id)));
        self.number += 1;
    }

    /// How many there are, with those that have gone.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// The time of the next one.
    pub fn next(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, ..))| *due)
    }

    /// The next one whose time has come.
    pub fn pop(&mut self, clock: u64) -> Option<SubscriberId> {
        self.next().filter(|due| *due <= clock)?;
        self.due.pop().map(|Reverse((.., id))| id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates() {
        for (per_second, burst) in [(0, 1), (1, 0), (MOST + 1, 1), (1, MOST + 1)] {
            assert_eq!(Rate::new(per_second, burst), None);
        }
        assert_eq!(Rate::new(10, 3), Some(Rate { interval: SECOND / 10, credit: 3 * SECOND / 10 }));
        assert_eq!(Rate::new(1000, 1).unwrap().credit, LATENESS);
        assert!(Rate::new(MOST, MOST).is_some());
    }

    #[test]
    fn a_burst_and_then_one_after_another() {
        let mut throttle = Throttle::new(Allowance::new(Rate::new(10, 3).unwrap()));
        assert_eq!(throttle.allowed(5_000), 3);
        throttle.spend(2);
        assert_eq!(throttle.allowed(5_000), 1);
        throttle.spend(1);
        assert_eq!((throttle.allowed(5_000), throttle.due()), (0, 5_100));
        assert_eq!(throttle.allowed(5_099), 0);
        assert_eq!(throttle.allowed(5_100), 1);
        throttle.spend(1);
        assert_eq!((throttle.allowed(5_100), throttle.due()), (0, 5_200));
        assert_eq!(throttle.allowed(9_000), 3, "no more than the burst is saved up");
    }

    #[test]
    fn one_allowance_is_for_all_subscriptions_of_a_client() {
        let allowance = Allowance::new(Rate::new(10, 2).unwrap());
        let [mut first, mut second] = [allowance.clone(), allowance].map(Throttle::new);
        assert_eq!((first.allowed(5_000), second.allowed(5_000)), (2, 2));
        first.spend(1);
        assert_eq!((first.allowed(5_000), second.allowed(5_000)), (1, 1));
        second.spend(1);
        assert_eq!((first.allowed(5_000), first.due(), second.due()), (0, 5_100, 5_100));
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_and_the_burst(
            (per_second, burst) in (1..=2_000_u64, 1..=20_u64),
            steps in proptest::collection::vec((0..40_u64, 0..30_usize), 1..60),
        ) {
            let rate = Rate::new(per_second, burst).unwrap();
            let (mut throttle, mut clock, mut got) = (Throttle::new(Allowance::new(rate)), 1_000_000, 0_u64);
            let begin = clock;
            for (passed, wanted) in steps {
                clock += passed;
                let allowed = throttle.allowed(clock);
                let taken = wanted.min(allowed);
                throttle.spend(taken);
                got += taken as u64;
                let most = ((clock - begin) * MILLISECOND + rate.credit) / rate.interval;
                prop_assert!(got <= most, "{got} of {most}");
                if wanted > allowed {
                    let due = throttle.due();
                    prop_assert!(due > clock);
                    prop_assert!(throttle.allowed(due) >= 1 && throttle.allowed(due - 1) == 0);
                }
            }
        }
    }
}
