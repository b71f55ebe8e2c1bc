// SPDX-License-Identifier: Apache-2.0

//! The steps that several workers take at the same time without a lock. Tests run every order of them that the memory model of
//! the language allows (`model`).
//!
//! A seat is a number of its own for each worker. The word of a seat says who has it; what its worker counts at this moment
//! is in gauges of the seat. Whoever takes a seat clears its gauges before it says that it has it.

use super::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Set in the word of a seat while its new owner clears what the one before has left. A process id does not reach this bit.
pub const CLEARING: u64 = 1 << 31;

/// What one worker has of one location at this moment. Only that worker changes it.
#[repr(C)]
#[derive(Debug)]
pub struct Gauge {
    /// Programs that run, but for those that wait for a client.
    pub running: AtomicU32,
    /// Programs that were started ahead and wait for a client.
    pub waiting: AtomicU32,
    /// Programs that were asked for ahead of their clients and do not run yet.
    pub starting: AtomicU32,
    /// Sessions that are open.
    pub open: AtomicU32,
    /// Open sessions that subscribe to channels.
    pub subscribing: AtomicU32,
}

impl Gauge {
    /// From now on the gauge shows nothing.
    pub fn clear(&self) {
        self.running.store(0, Ordering::Relaxed);
        self.waiting.store(0, Ordering::Relaxed);
        self.starting.store(0, Ordering::Relaxed);
        self.open.store(0, Ordering::Relaxed);
        self.subscribing.store(0, Ordering::Relaxed);
    }
}

/// Takes a seat that nobody has, or that belonged to somebody who is gone. `clear` empties what belongs to it; until that is
/// done nothing of it counts. Whether the seat was taken.
///
/// `lives` is asked about whoever has it.
pub fn take(seat: &AtomicU64, own: u64, lives: impl Fn(u64) -> bool, clear: impl FnOnce()) -> bool {
    let occupant = seat.load(Ordering::Relaxed);
    if occupant != 0 && lives(occupant & !CLEARING) {
        return false;
    }
    // Acquire: what the one before has counted until it gave the seat back comes before it is cleared. One that was killed does
    // nothing any more.
    let taken = seat.compare_exchange(occupant, own | CLEARING, Ordering::Acquire, Ordering::Relaxed);
    if taken.is_err() {
        return false;
    }
    clear();
    // Release: whoever sees the new owner sees the cleared gauges.
    seat.store(own, Ordering::Release);
    true
}

/// Gives a seat back.
pub fn give_back(seat: &AtomicU64) {
    seat.store(0, Ordering::Release);
}

/// Programs that run in all seats of a location, those of owners counted for whom `counts` is true.
pub fn running<'a>(seats: impl Iterator<Item = (&'a AtomicU64, &'a Gauge)>, counts: impl Fn(u64) -> bool) -> u64 {
    let mut total = 0;
    for (seat, gauge) in seats {
        // The owner first: a gauge that was not cleared yet is then looked at as that of the owner before.
        let owner = seat.load(Ordering::Acquire);
        if owner == 0 || owner & CLEARING != 0 {
            continue;
        }
        let running = gauge.running.load(Ordering::Relaxed);
        if running != 0 && counts(owner) {
            total += u64::from(running);
        }
    }
    total
}

/// Programs that run, wait or are being started ahead in all seats of a location, those of owners counted for whom `counts` is true.
pub fn present<'a>(seats: impl Iterator<Item = (&'a AtomicU64, &'a Gauge)>, counts: impl Fn(u64) -> bool) -> u64 {
    let mut total = 0;
    for (seat, gauge) in seats {
        let owner = seat.load(Ordering::Acquire);
        if owner == 0 || owner & CLEARING != 0 {
            continue;
        }
        let programs = [&gauge.running, &gauge.waiting, &gauge.starting];
        let present: u64 = programs.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum();
        if present != 0 && counts(owner) {
            total += present;
        }
    }
    total
}

/// Counts one more program in the own gauge, unless there are `most` already in all seats (0 for no limit). Whether it was
/// counted.
///
/// Invariant: of two workers that want the last place at the same time never both get it. Each counts first and
/// compares then, with a fence between the two: the one whose fence comes later sees what the other one has counted.
pub fn admit<'a, I>(own: &Gauge, most: u64, seats: impl Fn() -> I, lives: impl Fn(u64) -> bool) -> bool
where
    I: Iterator<Item = (&'a AtomicU64, &'a Gauge)>,
{
    own.running.fetch_add(1, Ordering::Relaxed);
    if most == 0 {
        return true;
    }
    fence(Ordering::SeqCst);
    // Who is alive is asked only where it matters.
    if running(seats(), |_| true) <= most || running(seats(), lives) <= most {
        return true;
    }
    dismiss(own);
    false
}

/// Counts one more program in the own gauge that is started ahead of its client, unless there are `most` already in all seats, those
/// that wait included (0 for no limit). Whether it was counted.
///
/// Invariant: as with [`admit`], two workers never both get the last place. A client does, who is admitted however many wait.
pub fn admit_ahead<'a, I>(own: &Gauge, most: u64, seats: impl Fn() -> I, lives: impl Fn(u64) -> bool) -> bool
where
    I: Iterator<Item = (&'a AtomicU64, &'a Gauge)>,
{
    own.starting.fetch_add(1, Ordering::Relaxed);
    if most == 0 {
        return true;
    }
    fence(Ordering::SeqCst);
    if present(seats(), |_| true) <= most || present(seats(), lives) <= most {
        return true;
    }
    own.starting.fetch_sub(1, Ordering::Relaxed);
    false
}

/// A program does not run any more.
pub fn dismiss(own: &Gauge) {
    own.running.fetch_sub(1, Ordering::Relaxed);
}

/// A name and its key, which one process writes while others read. `WORDS` is the size of the name.
#[repr(C)]
#[derive(Debug)]
pub struct Name<const WORDS: usize> {
    /// 0 where there is none.
    key: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Name<WORDS> {
    /// There is no name.
    #[cfg(test)]
    pub fn none() -> Self {
        Self { key: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// The key; 0 for none.
    #[cfg_attr(test, allow(dead_code))]
    pub fn key(&self) -> u64 {
        self.key.load(Ordering::Relaxed)
    }

    /// Puts a name there, or takes it away with the key 0. Only one process does.
    pub fn set(&self, key: u64, words: [u64; WORDS]) {
        self.key.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.key.store(key, Ordering::Release);
    }

    /// The name, unless there is none or it is being changed.
    pub fn get(&self) -> Option<(u64, [u64; WORDS])> {
        let key = self.key.load(Ordering::Acquire);
        if key == 0 {
            return None;
        }
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (self.key.load(Ordering::Relaxed) == key).then_some((key, words))
    }
}
