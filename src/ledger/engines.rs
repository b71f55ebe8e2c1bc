// SPDX-License-Identifier: Apache-2.0

//! What the workers of a node count of the engines behind channels, in memory that they share.
//!
//! There is a row for each engine, found by the number that tells it from the others and kept over reloads. Totals belong to the
//! row, so a worker that is killed takes nothing away; what is true at this moment belongs to a seat of the row, and counts
//! only while the worker of the seat lives.

use super::Identity;
use super::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use super::seat::{self, CLEARING};
use crate::status::engine::{BOUNDS, Engine, Latency, Listening};

/// Engines that are counted. A row that no worker uses any more and no configuration names is given to the next one.
pub const ROWS: usize = 16;

/// Workers that use an engine at the same time.
const SEATS: usize = 256;

/// What a node has lost of an engine. While some of it is lost, only the first loss and the end of the last one are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Loss {
    /// No command is answered.
    Commands = 1,
    /// Messages are not listened to.
    Listening = 2,
    /// Commands are answered by errors.
    Refusing = 4,
}

/// What one worker has of an engine at this moment. Only that worker changes it.
#[repr(C)]
#[derive(Debug)]
struct Gauge {
    owner: AtomicU64,
    pending: AtomicU64,
    /// When its connection for commands was last made, or lost, in milliseconds of Unix time; 0: never.
    up: AtomicU64,
    down: AtomicU64,
}

#[repr(C)]
#[derive(Debug)]
struct Row {
    /// Which engine; 0: none.
    key: AtomicU64,
    losses: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    fetched: AtomicU64,
    epochs: AtomicU64,
    /// The configuration epoch of the master that Sentinels have named, as far as workers have heard of it.
    elected: AtomicU64,
    /// Answers by how long they took, the last one for those that took longer than all [`BOUNDS`]; and microseconds in all.
    latency: [AtomicU64; BOUNDS.len() + 1],
    latency_sum: AtomicU64,
    /// Who listens, and since when it does, or does not: one of the two is 0.
    listener: AtomicU64,
    listening: AtomicU64,
    deaf: AtomicU64,
    gauges: [Gauge; SEATS],
}

/// The rows in one piece of shared memory. All of it is atomic integers, of which zeroes are a valid state.
#[repr(C)]
#[derive(Debug)]
pub struct Table {
    rows: [Row; ROWS],
}

/// What a relay has counted since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Relayed {
    /// Commands that were sent.
    pub sent: u64,
    /// Commands that were not answered, or were answered by an error.
    pub failed: u64,
    /// Messages that were read because something was missing.
    pub fetched: u64,
    /// Epochs that have changed.
    pub epochs: u64,
}

/// An engine as one worker counts it.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    row: &'static Row,
    gauge: &'static Gauge,
}

impl Table {
    /// Gives each engine of a configuration a row, as far as there are any. Only the master does so, before it starts the workers of
    /// the configuration: of two workers that looked for a row at the same time, each might find another one.
    pub fn enter(&self, keys: &[u64], lives: impl Fn(Identity) -> bool) {
        for &key in keys {
            if self.find(key).is_some() {
                continue;
            }
            let is_free = |row: &&Row| match row.key.load(Relaxed) {
                0 => true,
                old => !keys.contains(&old) && !row.is_used(&lives),
            };
            if let Some(row) = self.rows.iter().find(is_free) {
                row.become_that_of(key);
            }
        }
    }

    /// A seat in the row of an engine. `None` where it has no row, or too many workers.
    pub fn claim(&'static self, key: u64, own: Identity, lives: impl Fn(Identity) -> bool + Copy) -> Option<Figures> {
        let row = self.find(key)?;
        let clear = |gauge: &Gauge| {
            for word in [&gauge.pending, &gauge.up, &gauge.down] {
                word.store(0, Relaxed);
            }
        };
        let gauge = row.gauges.iter().find(|gauge| seat::take(&gauge.owner, own, lives, || clear(gauge)))?;
        Some(Figures { row, gauge })
    }

    fn find(&self, key: u64) -> Option<&Row> {
        self.rows.iter().find(|row| row.key.load(Acquire) == key)
    }

    /// The figures of an engine.
    pub fn read(&self, key: u64, lives: impl Fn(Identity) -> bool) -> Option<Engine> {
        let row = self.find(key)?;
        let mut engine = Engine {
            sent: row.sent.load(Relaxed),
            failed: row.failed.load(Relaxed),
            fetched: row.fetched.load(Relaxed),
            epochs: row.epochs.load(Relaxed),
            latency: Latency {
                counts: std::array::from_fn(|nth| row.latency[nth].load(Relaxed)),
                sum: row.latency_sum.load(Relaxed),
            },
            ..Engine::default()
        };
        for gauge in &row.gauges {
            let owner = gauge.owner.load(Acquire);
            if owner == 0 || owner & CLEARING != 0 || !lives(owner) {
                continue;
            }
            engine.workers += 1;
            engine.pending += gauge.pending.load(Relaxed);
            let (up, down) = (gauge.up.load(Relaxed), gauge.down.load(Relaxed));
            if up != 0 {
                engine.since = if engine.connected == 0 { up } else { engine.since.min(up) };
                engine.connected += 1;
            } else if engine.connected == 0 {
                engine.since = engine.since.max(down);
            }
        }
        let listener = row.listener.load(Acquire);
        let (listening, deaf) = (row.listening.load(Relaxed), row.deaf.load(Relaxed));
        engine.listening = match listener != 0 && lives(listener) {
            true if listening != 0 => Listening::Since(listening),
            _ => Listening::Not { since: deaf },
        };
        Some(engine)
    }
}

impl Row {
    /// Whether a worker that lives has a seat.
    fn is_used(&self, lives: impl Fn(Identity) -> bool) -> bool {
        let owners = self.gauges.iter().map(|gauge| gauge.owner.load(Acquire) & !CLEARING);
        owners.filter(|owner| *owner != 0).any(lives)
    }

    /// Becomes the row of another engine.
    fn become_that_of(&self, key: u64) {
        let counts = [&self.sent, &self.failed, &self.fetched, &self.epochs, &self.latency_sum];
        let words = [&self.losses, &self.elected];
        let listener = [&self.listener, &self.listening, &self.deaf];
        words.into_iter().chain(counts).chain(listener).chain(&self.latency).for_each(|word| word.store(0, Relaxed));
        // Release: whoever finds the row finds it empty.
        self.key.store(key, Release);
    }
}

impl Figures {
    /// The worker goes.
    pub fn release(self) {
        seat::give_back(&self.gauge.owner);
    }

    /// A command was sent; so many wait for answers.
    pub fn sent(self, pending: usize) {
        self.row.sent.fetch_add(1, Relaxed);
        self.pending(pending);
    }

    /// So many commands wait for answers.
    pub fn pending(self, pending: usize) {
        self.gauge.pending.store(pending as u64, Relaxed);
    }

    /// A command was answered after so many microseconds.
    pub fn answered(self, microseconds: u64) {
        let place = BOUNDS.iter().position(|bound| microseconds <= *bound).unwrap_or(BOUNDS.len());
        self.row.latency[place].fetch_add(1, Relaxed);
        self.row.latency_sum.fetch_add(microseconds, Relaxed);
    }

    /// A command was not sent, not answered, or answered by an error.
    pub fn failed(self) {
        self.row.failed.fetch_add(1, Relaxed);
    }

    /// The connection for commands is there, or is not, from this time on, in milliseconds of Unix time.
    pub fn connected(self, is_there: bool, unix: u64) {
        let (now, before) =
            if is_there { (&self.gauge.up, &self.gauge.down) } else { (&self.gauge.down, &self.gauge.up) };
        if now.load(Relaxed) == 0 || before.load(Relaxed) != 0 {
            now.store(unix.max(1), Relaxed);
            before.store(0, Relaxed);
        }
    }

    /// This worker listens, or does not, from this time on.
    pub fn listening(self, own: Identity, is_listening: bool, unix: u64) {
        let (now, before) =
            if is_listening { (&self.row.listening, &self.row.deaf) } else { (&self.row.deaf, &self.row.listening) };
        if now.load(Relaxed) == 0 || before.load(Relaxed) != 0 || self.row.listener.load(Relaxed) != own {
            now.store(unix.max(1), Relaxed);
            before.store(0, Relaxed);
            self.row.listener.store(own, Release);
        }
    }

    /// The relay has done so much more.
    pub fn relayed(self, relayed: Relayed) {
        let Relayed { sent, failed, fetched, epochs } = relayed;
        let row = self.row;
        for (total, more) in [(&row.sent, sent), (&row.failed, failed), (&row.fetched, fetched), (&row.epochs, epochs)]
        {
            if more > 0 {
                total.fetch_add(more, Relaxed);
            }
        }
    }

    /// The latest configuration epoch that a worker of this machine has heard of.
    pub fn elected(self) -> u64 {
        self.row.elected.load(Relaxed)
    }

    /// A Sentinel has named the master of this configuration epoch. `anew` where epochs have begun anew, and earlier ones mean
    /// nothing any more.
    pub fn hears_of_election(self, epoch: u64, anew: bool) {
        if anew {
            self.row.elected.store(epoch, Relaxed);
        } else {
            self.row.elected.fetch_max(epoch, Relaxed);
        }
    }

    /// The worker has lost something. Whether that is to be logged: no other one has said so.
    pub fn lost(self, loss: Loss) -> bool {
        let before = self.row.losses.fetch_or(loss as u64, Relaxed);
        before & loss.shown_with() == 0
    }

    /// The worker has it again. Whether that is to be logged.
    pub fn regained(self, loss: Loss) -> bool {
        if self.row.losses.load(Relaxed) & loss as u64 == 0 {
            return false;
        }
        let before = self.row.losses.fetch_and(!(loss as u64), Relaxed);
        before & loss.shown_with() == loss as u64
    }
}

impl Loss {
    /// What is told of in the same line.
    fn shown_with(self) -> u64 {
        match self {
            Loss::Commands | Loss::Listening => Loss::Commands as u64 | Loss::Listening as u64,
            Loss::Refusing => Loss::Refusing as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> &'static Table {
        let gauge = || Gauge {
            owner: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        };
        let row = || Row {
            key: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            elected: AtomicU64::new(0),
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            latency_sum: AtomicU64::new(0),
            listener: AtomicU64::new(0),
            listening: AtomicU64::new(0),
            deaf: AtomicU64::new(0),
            gauges: std::array::from_fn(|_| gauge()),
        };
        Box::leak(Box::new(Table { rows: std::array::from_fn(|_| row()) }))
    }

    /// A table with the row of one engine.
    fn table_of(key: u64) -> &'static Table {
        let table = table();
        table.enter(&[key], |_| true);
        table
    }

    #[test]
    fn workers_that_start_at_the_same_time_have_one_row() {
        const WORKERS: u64 = 8;
        let table = table_of(7);
        let claim = |own| move || assert!(table.claim(7, own, |_| true).is_some());
        std::thread::scope(|scope| (1..=WORKERS).for_each(|own| drop(scope.spawn(claim(own)))));
        assert_eq!(table.read(7, |_| true).unwrap().workers, WORKERS);
        assert!(table.claim(8, 1, |_| true).is_none(), "nobody has entered it");
    }

    #[test]
    fn figures_of_workers_are_summed() {
        let table = table();
        assert!(table.read(7, |_| true).is_none());
        table.enter(&[7], |_| true);
        let [one, two] = [1, 2].map(|own| table.claim(7, own, |_| true).unwrap());
        let empty = table.read(7, |_| true).unwrap();
        assert_eq!((empty.workers, empty.connected, empty.since), (2, 0, 0));
        one.connected(false, 50);
        one.connected(false, 60);
        assert_eq!(table.read(7, |_| true).unwrap().since, 50, "when it was first known");
        two.connected(true, 100);
        one.connected(true, 90);
        one.sent(1);
        two.sent(3);
        two.answered(200);
        two.answered(u64::MAX >> 8);
        two.failed();
        one.relayed(Relayed { sent: 10, failed: 1, fetched: 5, epochs: 2 });
        let all = table.read(7, |_| true).unwrap();
        assert_eq!((all.workers, all.connected, all.since), (2, 2, 90));
        assert_eq!((all.sent, all.failed, all.pending, all.fetched, all.epochs), (12, 2, 4, 5, 2));
        assert_eq!(all.latency.counts.iter().sum::<u64>(), 2);
        assert_eq!(all.latency.counts.last(), Some(&1));
        // What a worker has that was killed is not there; what it has counted is.
        let left = table.read(7, |owner| owner == 2).unwrap();
        assert_eq!((left.workers, left.connected, left.since, left.pending, left.sent), (1, 1, 100, 3, 12));
        let next = table.claim(7, 3, |owner| owner == 2).unwrap();
        assert_eq!(table.read(7, |_| true).unwrap().pending, 3, "the seat was cleared");
        next.release();
        assert_eq!(table.read(7, |_| true).unwrap().workers, 1);
    }

    #[test]
    fn who_listens_must_live() {
        let table = table_of(7);
        let one = table.claim(7, 1, |_| true).unwrap();
        one.listening(1, true, 10);
        one.listening(1, true, 20);
        assert_eq!(table.read(7, |_| true).unwrap().listening, Listening::Since(10));
        assert_eq!(table.read(7, |_| false).unwrap().listening, Listening::Not { since: 0 });
        one.listening(1, false, 30);
        assert_eq!(table.read(7, |_| true).unwrap().listening, Listening::Not { since: 30 });
        let two = table.claim(7, 2, |_| true).unwrap();
        two.listening(2, true, 40);
        assert_eq!(table.read(7, |owner| owner == 2).unwrap().listening, Listening::Since(40));
    }

    #[test]
    fn a_loss_is_told_once() {
        let table = table_of(7);
        let [one, two] = [1, 2].map(|own| table.claim(7, own, |_| true).unwrap());
        assert!(!one.regained(Loss::Commands), "nothing was lost");
        assert!(one.lost(Loss::Commands));
        assert!(!two.lost(Loss::Commands) && !two.lost(Loss::Listening));
        assert!(one.lost(Loss::Refusing), "is something else");
        assert!(!one.regained(Loss::Commands), "it is not listened to yet");
        assert!(!two.regained(Loss::Commands));
        assert!(two.regained(Loss::Listening));
        assert!(one.regained(Loss::Refusing));
    }

    #[test]
    fn all_workers_know_of_the_latest_election() {
        let table = table_of(7);
        let [one, two] = [1, 2].map(|own| table.claim(7, own, |_| true).unwrap());
        one.hears_of_election(5, false);
        two.hears_of_election(4, false);
        assert_eq!(two.elected(), 5);
        two.hears_of_election(1, true);
        assert_eq!(one.elected(), 1);
        table.enter(&[8], |_| false);
        table.enter(&(100..100 + ROWS as u64).collect::<Vec<_>>(), |_| false);
        assert_eq!(table.claim(100, 1, |_| true).unwrap().elected(), 0, "of another engine");
    }

    #[test]
    fn rows_of_engines_that_are_gone_are_used_again() {
        let table = table();
        let keys: Vec<u64> = (1..=ROWS as u64).collect();
        table.enter(&keys, |_| true);
        for &key in &keys {
            table.claim(key, key, |_| true).unwrap().sent(1);
        }
        table.enter(&[99], |_| true);
        assert!(table.claim(99, 99, |_| true).is_none(), "each of the others has a worker");
        table.enter(&[5, 99], |owner| owner != 5 && owner != 6);
        let other = table.claim(99, 99, |_| true).unwrap();
        assert_eq!(table.read(99, |_| true).unwrap().sent, 0);
        assert!(table.read(6, |_| true).is_none(), "it has none, and is not configured");
        assert_eq!(table.read(5, |_| true).unwrap().sent, 1, "it has none yet");
        other.release();
    }
}
