// SPDX-License-Identifier: Apache-2.0

//! The steps of [`super::seat`] in every order that the memory model allows.

mod atomic {
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}
#[path = "seat.rs"]
mod seat;

use atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use loom::sync::Arc;
use loom::thread;
use seat::{Gauge, Name, admit, admit_ahead, dismiss, give_back, present, running, take};

/// Two seats, and the gauges of one location.
struct Table {
    seats: [AtomicU64; 2],
    gauges: [Gauge; 2],
}

impl Table {
    fn new(owners: [u64; 2], running: [u32; 2]) -> Arc<Self> {
        Arc::new(Self {
            seats: owners.map(AtomicU64::new),
            gauges: running.map(|running| Gauge {
                running: AtomicU32::new(running),
                waiting: AtomicU32::new(0),
                starting: AtomicU32::new(0),
                open: AtomicU32::new(0),
                subscribing: AtomicU32::new(0),
            }),
        })
    }

    fn rows(&self) -> impl Iterator<Item = (&AtomicU64, &Gauge)> {
        self.seats.iter().zip(&self.gauges)
    }

    fn admit(&self, nth: usize, most: u64, lives: impl Fn(u64) -> bool) -> bool {
        admit(&self.gauges[nth], most, || self.rows(), lives)
    }
}

#[test]
fn two_workers_never_get_the_last_place_both() {
    loom::model(|| {
        let table = Table::new([1, 2], [0, 0]);
        let other = Arc::clone(&table);
        let second = thread::spawn(move || other.admit(1, 1, |_| true));
        let first = table.admit(0, 1, |_| true);
        let second = second.join().unwrap();
        assert!(!(first && second));
        let counted = running(table.rows(), |_| true);
        assert_eq!(counted, u64::from(first) + u64::from(second), "who was refused is not counted");
        assert!(table.admit(0, 2, |_| true), "there is one place at least");
    });
}

#[test]
fn two_pools_never_get_the_last_place_both() {
    loom::model(|| {
        let table = Table::new([1, 2], [0, 0]);
        let other = Arc::clone(&table);
        let second = thread::spawn(move || admit_ahead(&other.gauges[1], 1, || other.rows(), |_| true));
        let first = admit_ahead(&table.gauges[0], 1, || table.rows(), |_| true);
        let second = second.join().unwrap();
        assert!(!(first && second));
        assert_eq!(present(table.rows(), |_| true), u64::from(first) + u64::from(second));
        assert!(table.admit(0, 1, |_| true), "a client has a place all the same");
    });
}

#[test]
fn what_a_dead_worker_had_does_not_count_for_the_next_one_in_its_seat() {
    loom::model(|| {
        let table = Table::new([1, 9], [0, 1]);
        let other = Arc::clone(&table);
        let lives = |worker| worker != 9;
        let successor = thread::spawn(move || {
            assert!(take(&other.seats[1], 2, lives, || other.gauges[1].clear()));
        });
        assert!(table.admit(0, 1, lives), "nobody else has a program");
        successor.join().unwrap();
        assert_eq!(running(table.rows(), lives), 1);
    });
}

#[test]
fn a_new_worker_and_an_old_one_never_get_the_last_place_both() {
    loom::model(|| {
        let table = Table::new([1, 9], [0, 1]);
        let other = Arc::clone(&table);
        let lives = |worker| worker != 9;
        let successor = thread::spawn(move || {
            take(&other.seats[1], 2, lives, || other.gauges[1].clear()) && other.admit(1, 1, lives)
        });
        let first = table.admit(0, 1, lives);
        assert!(!(successor.join().unwrap() && first));
    });
}

#[test]
fn a_seat_is_given_to_one_worker_and_clean() {
    loom::model(|| {
        let table = Table::new([9, 0], [0, 0]);
        // The worker that leaves has a program until it gives its seat back.
        let leaving = Arc::clone(&table);
        let leaves = thread::spawn(move || {
            assert!(leaving.admit(0, 0, |_| true));
            dismiss(&leaving.gauges[0]);
            give_back(&leaving.seats[0]);
        });
        let lives = |_| true;
        let other = Arc::clone(&table);
        let second = thread::spawn(move || {
            take(&other.seats[0], 2, lives, || other.gauges[0].clear()) && {
                assert!(other.admit(0, 1, lives));
                true
            }
        });
        let first = take(&table.seats[0], 1, lives, || table.gauges[0].clear()) && {
            assert!(table.admit(0, 1, lives));
            true
        };
        let second = second.join().unwrap();
        leaves.join().unwrap();
        assert!(!(first && second));
        if first || second {
            assert_eq!(table.gauges[0].running.load(Relaxed), 1);
        }
    });
}

#[test]
fn a_name_is_read_whole_or_not_at_all() {
    loom::model(|| {
        let name = Arc::new(Name::<2>::none());
        name.set(1, [10, 11]);
        let writer = Arc::clone(&name);
        let writes = thread::spawn(move || writer.set(2, [20, 21]));
        assert!([None, Some((1, [10, 11])), Some((2, [20, 21]))].contains(&name.get()));
        writes.join().unwrap();
        assert_eq!(name.get(), Some((2, [20, 21])));
    });
}
