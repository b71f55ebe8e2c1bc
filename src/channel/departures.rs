// SPDX-License-Identifier: Apache-2.0

//! Subscribers that have gone and may come back in a while, in one worker: `grace` of `websocket_channel_events`.
//!
//! Whether somebody has come back is known in the zone, whichever worker that was to: see [`Presences`](super::store::Presences). Here
//! is only when it is to be looked at.

use std::collections::{BTreeMap, HashMap};

use super::store::Left;

/// Those who have gone, in the order of the times at which nobody waits for them any more.
#[derive(Debug)]
pub struct Departures<T> {
    waiting: BTreeMap<(u64, u64), (Left, T)>,
    /// By the place in the zone that says so. Invariant: it names all that are in `waiting`.
    places: HashMap<u32, (u64, u64)>,
    /// The number of the next one.
    number: u64,
}

impl<T> Default for Departures<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), places: HashMap::new(), number: 0 }
    }
}

impl<T> Departures<T> {
    /// Somebody has gone, of whom `what` is to be told at `due`. If the place in the zone is one that is known, who was there has come
    /// back, and is forgotten.
    pub fn push(&mut self, due: u64, left: Left, what: T) {
        let key = (due, self.number);
        self.number += 1;
        if let Some(known) = self.places.insert(left.place(), key) {
            self.waiting.remove(&known);
        }
        self.waiting.insert(key, (left, what));
        debug_assert_eq!(self.waiting.len(), self.places.len(), "each has a place of its own");
    }

    /// The time of the first one.
    pub fn next(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Nobody is waited for any longer than until then.
    pub fn hurry(&mut self, until: u64) {
        for ((_, number), (left, what)) in self.waiting.split_off(&(until.saturating_add(1), 0)) {
            let key = (until, number);
            self.places.insert(left.place(), key);
            self.waiting.insert(key, (left, what));
        }
    }

    /// The first one, if its time has come by then.
    pub fn pop(&mut self, until: u64) -> Option<(Left, T)> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= until)?;
        let (left, what) = first.remove();
        self.places.remove(&left.place());
        Some((left, what))
    }

    /// All of them.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = (Left, &T)> {
        self.waiting.values().map(|(left, what)| (*left, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_comes_first_and_a_place_is_of_one() {
        let mut departures = Departures::default();
        assert_eq!(departures.next(), None);
        departures.push(20, Left::for_tests(1), "b");
        departures.push(10, Left::for_tests(2), "a");
        departures.push(20, Left::for_tests(3), "c");
        departures.push(30, Left::for_tests(2), "a again");
        assert_eq!(departures.next(), Some(20));
        assert_eq!(departures.pop(19), None);
        let mut all = || departures.pop(30).map(|(_, what)| what);
        assert_eq!([all(), all(), all(), all()], [Some("b"), Some("c"), Some("a again"), None]);
    }

    #[test]
    fn nobody_is_waited_for_when_there_is_a_hurry() {
        let mut departures = Departures::default();
        for (due, place, what) in [(10, 1, "a"), (90, 2, "c"), (50, 3, "b"), (20, 4, "d")] {
            departures.push(due, Left::for_tests(place), what);
        }
        departures.hurry(20);
        departures.push(15, Left::for_tests(2), "again");
        let mut all = || departures.pop(20).map(|(_, what)| what);
        assert_eq!([all(), all(), all(), all(), all()], [Some("a"), Some("again"), Some("b"), Some("d"), None]);
    }
}
