// SPDX-License-Identifier: Apache-2.0

//! When each channel is compared with its stream: once in each round, in the turn of its slot.
//!
//! The channels of a turn are compared together, which costs the engine far less than one after the other, and the turns spread all
//! channels over the round, also when they have begun at one moment.

use std::collections::{HashSet, VecDeque};

use crate::redis::names;

/// How often a channel is compared with its stream, in milliseconds: a message of which Pub/Sub has told nothing, and that none follows, is
/// noticed no later.
pub(super) const ROUND: u64 = 5_000;

/// Turns of a round, and how long one is, in milliseconds.
const TURNS: u64 = 50;
const TURN: u64 = ROUND / TURNS;

/// The channels by their turns.
#[derive(Debug)]
pub(super) struct Turns {
    /// The channels of each turn of a round.
    turns: Vec<HashSet<Box<[u8]>>>,
    /// The turn that has begun last, counted from the clock's 0.
    begun: u64,
    /// Channels of turns that have begun. Some of them may have gone.
    due: VecDeque<Box<[u8]>>,
}

impl Turns {
    /// No channels.
    pub fn new() -> Self {
        Turns { turns: (0..TURNS).map(|_| HashSet::new()).collect(), begun: 0, due: VecDeque::new() }
    }

    /// From now on a channel has its turn. The channels of one slot have the same one.
    pub fn add(&mut self, topic: Box<[u8]>) {
        self.turn_of(&topic).insert(topic);
    }

    /// A channel has gone.
    pub fn remove(&mut self, topic: &[u8]) {
        self.turn_of(topic).remove(topic);
    }

    fn turn_of(&mut self, topic: &[u8]) -> &mut HashSet<Box<[u8]>> {
        &mut self.turns[usize::from(names::slot(topic)) % TURNS as usize]
    }

    /// The next channel whose turn has come.
    pub fn next(&mut self, now: u64) -> Option<Box<[u8]>> {
        let current = now / TURN;
        // Whoever was away for long looks at each channel once.
        self.begun = self.begun.max(current.saturating_sub(TURNS));
        while self.begun < current {
            self.begun += 1;
            self.due.extend(self.turns[(self.begun % TURNS) as usize].iter().cloned());
        }
        self.due.pop_front()
    }

    /// When the next channel has its turn.
    pub fn deadline(&self) -> Option<u64> {
        if !self.due.is_empty() {
            return Some(self.begun * TURN);
        }
        let next = self.begun + 1;
        let (later, sooner) = self.turns.split_at((next % TURNS) as usize);
        // This is asked with each message, and a number for each turn would cost more than the rest of it.
        let wait = sooner.iter().chain(later).position(|channels| !channels.is_empty())?;
        Some((next + wait as u64) * TURN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::names::Names;

    fn topic(id: u32) -> Box<[u8]> {
        Names::of(b"ws:", 0, b"", id.to_string().as_bytes()).topic().into()
    }

    /// The channels whose turn has come.
    fn all(turns: &mut Turns, now: u64) -> Vec<Box<[u8]>> {
        std::iter::from_fn(|| turns.next(now)).collect()
    }

    #[test]
    fn each_channel_has_its_turn_once_in_a_round() {
        let mut turns = Turns::new();
        assert_eq!((turns.next(1_234_567), turns.deadline()), (None, None));
        let begun = 1_234_567;
        turns.add(topic(1));
        let first = turns.deadline().unwrap();
        assert!(first > begun && first <= begun + ROUND, "{first}");
        assert_eq!(turns.next(first - 1), None);
        assert_eq!(all(&mut turns, first), [topic(1)]);
        assert_eq!(turns.deadline(), Some(first + ROUND));
        assert_eq!(turns.next(first + ROUND - 1), None);
        assert_eq!(all(&mut turns, first + ROUND), [topic(1)]);
        turns.remove(&topic(1));
        assert_eq!((turns.deadline(), turns.next(first + 2 * ROUND)), (None, None));
    }

    #[test]
    fn channels_that_begin_together_are_spread_over_the_round() {
        let mut turns = Turns::new();
        turns.next(100_000);
        for id in 0..10_000 {
            turns.add(topic(id));
        }
        let mut seen = HashSet::new();
        for turn in 1..=TURNS {
            let channels = all(&mut turns, 100_000 + turn * TURN);
            assert!((100..300).contains(&channels.len()), "{}", channels.len());
            seen.extend(channels);
        }
        assert_eq!(seen.len(), 10_000);
    }

    #[test]
    fn who_was_away_looks_at_each_channel_once() {
        let mut turns = Turns::new();
        for id in 0..100 {
            turns.add(topic(id));
        }
        assert_eq!(all(&mut turns, 90_000_000).len(), 100);
        assert_eq!(all(&mut turns, 90_000_000).len(), 0);
        assert_eq!(all(&mut turns, 90_000_000 + 3 * ROUND).len(), 100);
    }

    #[test]
    fn what_was_not_looked_at_yet_is_due_at_once() {
        let mut turns = Turns::new();
        for id in 0..2 {
            turns.add(topic(id));
        }
        assert!(turns.next(90_000_000).is_some());
        assert_eq!(turns.deadline(), Some(90_000_000));
        assert!(turns.next(90_000_000).is_some());
        assert!(turns.deadline().unwrap() > 90_000_000);
    }
}
