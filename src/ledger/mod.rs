// SPDX-License-Identifier: Apache-2.0

//! What the workers count for each location, in memory that they share.
//!
//! There is a [`Chunk`] for every [`LOCATIONS`] locations, and each configuration has as many as it needs: no location ever
//! shares the entry of another one. Each worker has a seat, which is the same in all chunks. There are as many seats as nginx can
//! have processes, so that a worker that nginx could start has one, however many workers of old configurations are
//! still there.
//!
//! What there is at this moment (sessions, programs) is counted in gauges of the seat. It counts only while the worker of
//! the seat lives, and begins at nothing with the next one. Totals belong to the location, so a worker that is killed
//! at any instruction takes nothing away; they are kept in several parts, so that workers seldom meet when they add to them.
//!
//! The entries of the locations are made by the process that reads the configuration, before there are workers ([`plan`]).
//! What workers do at the same time is in `seat`.

/// Atomic integers of all processes.
mod atomic {
    pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}
mod counted;
pub mod engines;
#[cfg(test)]
mod model;
pub mod naming;
pub mod plan;
mod seat;

pub use counted::{Figures, OpenSession, Opening, Place, ProgramAhead, Traffic};

use atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use plan::{Keys, Plan, Present};
use seat::{CLEARING, Gauge, Name};

use crate::status::histogram::{self, BUCKETS, Bounds, Histogram, Starts};
use crate::status::{Closes, Label, Location, Refused, Snapshot};

/// Workers that can have a seat: `NGX_MAX_PROCESSES`, beyond which nginx starts no process.
pub const SEATS: usize = 1024;

/// Locations of one chunk.
pub const LOCATIONS: usize = 256;

/// Parts of each total. A worker adds to the part of its seat, modulo this.
const PARTS: usize = 64;

/// Parts of the totals of what happens once in a session.
const RARE_PARTS: usize = 8;

/// Tells a process from every other one, also of the past: its id, and in the upper half when it began. Never 0.
pub type Identity = u64;

/// One part of what was counted for one location since there is an entry for it.
#[repr(C, align(64))]
#[derive(Debug)]
struct Totals {
    opened: AtomicU64,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    failed: AtomicU64,
    closes: [AtomicU64; Closes::KINDS],
}

/// One part of what was counted for one location of what happens at most once or twice in a session, or in a request that does
/// not become one.
#[repr(C, align(64))]
#[derive(Debug)]
struct Rare {
    refused: [AtomicU64; Refused::KINDS],
    ahead: AtomicU64,
    replaced: AtomicU64,
    starts: Times,
    durations: Times,
}

/// A [`Histogram`] of all processes.
#[repr(C)]
#[derive(Debug)]
struct Times {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Times {
    fn count<B: Bounds>(&self, milliseconds: u64) {
        add(&self.counts[histogram::bucket::<B>(milliseconds)], 1);
        add(&self.sum, milliseconds);
    }

    fn add_to(&self, histogram: &mut Histogram) {
        for (sum, count) in histogram.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Relaxed);
        }
        histogram.sum += self.sum.load(Relaxed);
    }

    fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        self.counts.iter().chain([&self.sum])
    }
}

/// One location.
#[repr(C)]
#[derive(Debug)]
struct Entry {
    /// Its full key, and what it is called.
    name: Name<{ Label::WORDS }>,
    short: AtomicU64,
    /// The last configuration that had it.
    configuration: AtomicU64,
}

/// The locations and counters in one piece of shared memory. All of it is atomic integers, of which zeroes are a valid
/// state: that of memory that nobody has used yet.
#[repr(C)]
#[derive(Debug)]
pub struct Chunk {
    /// Who has which seat; in the first chunk this is what decides it.
    seats: [AtomicU64; SEATS],
    /// Which configuration the worker of a seat has; in the first chunk.
    configurations: [AtomicU64; SEATS],
    /// The seats that were ever taken are below.
    used: AtomicU64,
    entries: [Entry; LOCATIONS],
    gauges: [[Gauge; SEATS]; LOCATIONS],
    totals: [[Totals; PARTS]; LOCATIONS],
    rare: [[Rare; RARE_PARTS]; LOCATIONS],
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}

impl Chunk {
    fn used(&self) -> usize {
        (self.used.load(Acquire) as usize).min(SEATS)
    }

    /// The seats that were ever taken, each with its gauge of one location.
    fn seats(&self, location: usize) -> impl Iterator<Item = (&AtomicU64, &Gauge)> {
        self.seats.iter().zip(&self.gauges[location]).take(self.used())
    }

    /// The location is a new one.
    fn clear(&self, location: usize) {
        // Pages that nobody has used yet are not touched.
        for gauge in self.gauges[location].iter().take(self.used()) {
            gauge.clear();
        }
        for Totals { opened, messages_in, messages_out, bytes_in, bytes_out, failed, closes } in &self.totals[location]
        {
            let counters = [opened, messages_in, messages_out, bytes_in, bytes_out, failed];
            for counter in counters.into_iter().chain(closes).filter(|counter| counter.load(Relaxed) != 0) {
                counter.store(0, Relaxed);
            }
        }
        for Rare { refused, ahead, replaced, starts, durations } in &self.rare[location] {
            let counters = refused.iter().chain([ahead, replaced]).chain(starts.counters()).chain(durations.counters());
            for counter in counters.filter(|counter| counter.load(Relaxed) != 0) {
                counter.store(0, Relaxed);
            }
        }
    }

    fn add_to(&self, at: usize, sum: &mut Location, lives: impl Fn(Identity) -> bool) {
        for (seat, gauge) in self.seats(at) {
            let owner = seat.load(Acquire);
            let (open, running) = (gauge.open.load(Relaxed), gauge.running.load(Relaxed));
            let waiting = gauge.waiting.load(Relaxed);
            let is_empty = open == 0 && running == 0 && waiting == 0;
            if !is_empty && owner != 0 && owner & CLEARING == 0 && lives(owner) {
                sum.current += u64::from(open);
                sum.running += u64::from(running);
                sum.waiting += u64::from(waiting);
                sum.subscribers += u64::from(gauge.subscribing.load(Relaxed));
            }
        }
        for part in &self.totals[at] {
            for (total, counter) in [
                (&mut sum.total, &part.opened),
                (&mut sum.messages_in, &part.messages_in),
                (&mut sum.messages_out, &part.messages_out),
                (&mut sum.bytes_in, &part.bytes_in),
                (&mut sum.bytes_out, &part.bytes_out),
                (&mut sum.failures, &part.failed),
            ] {
                *total += counter.load(Relaxed);
            }
            for (total, counter) in sum.closes.iter_mut().zip(&part.closes) {
                *total += counter.load(Relaxed);
            }
        }
        for part in &self.rare[at] {
            for (total, counter) in sum.refused.iter_mut().zip(&part.refused) {
                *total += counter.load(Relaxed);
            }
            sum.ahead += part.ahead.load(Relaxed);
            sum.replaced += part.replaced.load(Relaxed);
            part.starts.add_to(&mut sum.starts);
            part.durations.add_to(&mut sum.durations);
        }
    }
}

/// The entries that there are.
pub fn present(chunks: &[&Chunk]) -> Vec<Present> {
    let entries = chunks.iter().flat_map(|chunk| &chunk.entries).enumerate();
    entries
        .filter(|(_, entry)| entry.name.key() != 0)
        .map(|(place, entry)| Present {
            place,
            keys: Keys { full: entry.name.key(), short: entry.short.load(Relaxed) },
            configuration: entry.configuration.load(Relaxed),
        })
        .collect()
}

/// The oldest configuration that a living worker has; `u64::MAX` if there is no worker.
pub fn oldest_configuration(chunks: &[&Chunk], lives: impl Fn(Identity) -> bool) -> u64 {
    let Some(first) = chunks.first() else { return u64::MAX };
    let seats = first.seats.iter().zip(&first.configurations).take(first.used());
    let living = seats.filter(|(seat, _)| {
        let owner = seat.load(Acquire) & !CLEARING;
        owner != 0 && lives(owner)
    });
    living.map(|(_, configuration)| configuration.load(Relaxed)).min().unwrap_or(u64::MAX)
}

/// Does what was planned for the locations of the configuration with this number. There are enough chunks.
pub fn carry_out(chunks: &[&Chunk], plan: &Plan, locations: &[(Keys, Label)], configuration: u64) {
    let at = |place: usize| chunks.get(place / LOCATIONS).map(|chunk| (*chunk, place % LOCATIONS));
    for (chunk, location) in plan.free.iter().filter_map(|place| at(*place)) {
        chunk.entries[location].name.set(0, [0; Label::WORDS]);
    }
    for (planned, (keys, label)) in plan.entries.iter().zip(locations) {
        let Some((chunk, location)) = at(planned.place) else { continue };
        let entry = &chunk.entries[location];
        if !planned.is_known {
            chunk.clear(location);
        }
        // What it is called may depend on what else there is.
        if entry.name.get() != Some((keys.full, label.words())) {
            entry.short.store(keys.short, Relaxed);
            entry.name.set(keys.full, label.words());
        }
        entry.configuration.store(configuration, Relaxed);
    }
}

/// One worker's view of the counters.
#[derive(Debug)]
pub struct Ledger {
    chunks: Vec<&'static Chunk>,
    /// Where the locations of its configuration are, by their number.
    places: Vec<usize>,
    configuration: u64,
    seat: usize,
    lives: fn(Identity) -> bool,
}

impl Ledger {
    /// Takes a seat for the process `own`, whose configuration has its locations at these places of the chunks. `lives`
    /// tells whether a process is there. `None` when all seats belong to living workers.
    pub fn claim(
        chunks: Vec<&'static Chunk>,
        places: Vec<usize>,
        configuration: u64,
        own: Identity,
        lives: fn(Identity) -> bool,
    ) -> Option<Self> {
        let (first, others) = chunks.split_first()?;
        // Who has the id of this process and is not this one is gone, even if its beginning is not known.
        let has_seat = |occupant: Identity| occupant as u32 != own as u32 && lives(occupant);
        let take = |seat: usize| {
            seat::take(&first.seats[seat], own, has_seat, || {
                for (nth, chunk) in chunks.iter().enumerate() {
                    // The gauges of new entries are cleared when they are made: pages that nobody has used yet are not touched.
                    for (entry, gauges) in chunk.entries.iter().zip(&chunk.gauges) {
                        if entry.name.key() != 0 {
                            gauges[seat].clear();
                        }
                    }
                    if nth > 0 {
                        chunk.seats[seat].store(own, Release);
                    }
                }
                first.configurations[seat].store(configuration, Relaxed);
            })
        };
        let seat = (0..SEATS).find(|seat| take(*seat))?;
        for chunk in [first].into_iter().chain(others) {
            chunk.used.fetch_max(seat as u64 + 1, Release);
        }
        Some(Ledger { chunks, places, configuration, seat, lives })
    }

    /// Goes on in the same seat with another configuration: without a master the process that read it does. What it has
    /// counted stays, and so do all locations of its first configuration, because it may have sessions of any of them.
    pub fn with(&self, chunks: Vec<&'static Chunk>, places: Vec<usize>, configuration: u64) -> Self {
        let owner = self.chunks.first().map_or(0, |first| first.seats[self.seat].load(Relaxed));
        for chunk in &chunks {
            if chunk.seats[self.seat].load(Relaxed) != owner {
                chunk.seats[self.seat].store(owner, Release);
                chunk.used.fetch_max(self.seat as u64 + 1, Release);
            }
        }
        Ledger { chunks, places, configuration, ..*self }
    }

    /// Whether its counters are in this chunk.
    pub fn is_in(&self, chunk: &Chunk) -> bool {
        self.chunks.first().is_some_and(|first| std::ptr::eq(*first, chunk))
    }

    /// Gives the seat back. What was counted stays.
    pub fn release(&self) {
        for chunk in self.chunks.iter().rev() {
            seat::give_back(&chunk.seats[self.seat]);
        }
    }

    /// The chunk of a location, and its place there.
    fn at(&self, location: usize) -> Option<(&'static Chunk, usize)> {
        let place = *self.places.get(location)?;
        self.chunks.get(place / LOCATIONS).map(|chunk| (*chunk, place % LOCATIONS))
    }

    fn counters(&self, location: usize) -> Option<(&'static Gauge, &'static Totals)> {
        let (chunk, at) = self.at(location)?;
        Some((&chunk.gauges[at][self.seat], &chunk.totals[at][self.seat % PARTS]))
    }

    /// Counts one more program of a location; `None` when `most` run already (0 for no limit).
    pub fn admit(&self, location: usize, most: u64) -> Option<Place> {
        let (chunk, at) = self.at(location)?;
        let (gauge, totals) = self.counters(location)?;
        seat::admit(gauge, most, || chunk.seats(at), self.lives).then(|| Place { gauge, totals })
    }

    /// Counts one more program of a location that is started ahead of its client; `None` when those that run and those that wait are
    /// `most` already (0 for no limit).
    pub fn admit_ahead(&self, location: usize, most: u64) -> Option<ProgramAhead> {
        let (chunk, at) = self.at(location)?;
        let ((gauge, _), rare) = (self.counters(location)?, self.rare(location)?);
        let is_admitted = seat::admit_ahead(gauge, most, || chunk.seats(at), self.lives);
        is_admitted.then(|| ProgramAhead { gauge, rare, runs: false })
    }

    /// How many programs of a location there are beyond `most` (0 for no limit): clients were admitted while others wait for theirs,
    /// and so many of those have to give way.
    pub fn excess(&self, location: usize, most: u64) -> u64 {
        match self.at(location) {
            Some((chunk, at)) if most != 0 => seat::present(chunk.seats(at), self.lives).saturating_sub(most),
            Some(_) | None => 0,
        }
    }

    fn rare(&self, location: usize) -> Option<&'static Rare> {
        let (chunk, at) = self.at(location)?;
        Some(&chunk.rare[at][self.seat % RARE_PARTS])
    }

    /// Counts a session of a location that has just been opened.
    pub fn open(&self, location: usize, opening: Opening) -> Option<OpenSession> {
        let ((gauge, totals), rare) = (self.counters(location)?, self.rare(location)?);
        let Opening { subscribes, waited, now: opened } = opening;
        gauge.open.fetch_add(1, Relaxed);
        if subscribes {
            gauge.subscribing.fetch_add(1, Relaxed);
        }
        add(&totals.opened, 1);
        rare.starts.count::<Starts>(waited);
        Some(OpenSession { gauge, totals, rare, subscribes, opened })
    }

    /// Counts a request to a location that was refused.
    pub fn refused(&self, location: usize, kind: Refused) {
        if let Some(rare) = self.rare(location) {
            add(&rare.refused[kind.index()], 1);
        }
    }

    /// Counts a program of a location that could not even be asked for.
    pub fn program_failed(&self, location: usize) {
        if let Some((_, totals)) = self.counters(location) {
            add(&totals.failed, 1);
        }
    }

    /// What all workers have counted for the locations of this configuration and newer ones, and for those of older ones
    /// that still have sessions or programs.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let Some(first) = self.chunks.first() else { return snapshot };
        let owners = first.seats.iter().take(first.used()).map(|seat| seat.load(Acquire));
        let living: std::collections::HashSet<Identity> =
            owners.filter(|owner| *owner != 0 && owner & CLEARING == 0 && (self.lives)(*owner)).collect();
        snapshot.workers = living.len() as u64;
        for chunk in &self.chunks {
            for (at, entry) in chunk.entries.iter().enumerate() {
                let Some((_, words)) = entry.name.get() else { continue };
                let mut location = Location::default();
                chunk.add_to(at, &mut location, |owner| living.contains(&owner));
                let is_old = entry.configuration.load(Relaxed) < self.configuration;
                if !is_old || location.current != 0 || location.running != 0 || location.waiting != 0 {
                    snapshot.add(&Label::from_words(words), &location);
                }
            }
        }
        snapshot
    }
}

#[cfg(test)]
mod tests;
