// SPDX-License-Identifier: Apache-2.0

//! Workers without processes.

use super::*;

use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static LIVING: RefCell<BTreeSet<Identity>> = const { RefCell::new(BTreeSet::new()) };
}

fn lives(worker: Identity) -> bool {
    LIVING.with_borrow(|living| living.contains(&worker))
}

/// A chunk of zeroes, as that of a new zone.
fn chunk() -> &'static Chunk {
    let zeroes = || std::array::from_fn(|_| AtomicU64::new(0));
    let totals = || Totals {
        opened: AtomicU64::new(0),
        messages_in: AtomicU64::new(0),
        messages_out: AtomicU64::new(0),
        bytes_in: AtomicU64::new(0),
        bytes_out: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        closes: std::array::from_fn(|_| AtomicU64::new(0)),
    };
    let times = || Times { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) };
    let rare = move || Rare {
        refused: std::array::from_fn(|_| AtomicU64::new(0)),
        ahead: AtomicU64::new(0),
        replaced: AtomicU64::new(0),
        starts: times(),
        durations: times(),
    };
    let gauge =
        || Gauge { running: 0.into(), waiting: 0.into(), starting: 0.into(), open: 0.into(), subscribing: 0.into() };
    let entry = || Entry { name: Name::none(), short: AtomicU64::new(0), configuration: AtomicU64::new(0) };
    let chunk = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
        Box::leak(Box::new(Chunk {
            seats: std::array::from_fn(|_| AtomicU64::new(0)),
            configurations: zeroes(),
            used: AtomicU64::new(0),
            entries: std::array::from_fn(|_| entry()),
            gauges: std::array::from_fn(|_| std::array::from_fn(|_| gauge())),
            totals: std::array::from_fn(|_| std::array::from_fn(|_| totals())),
            rare: std::array::from_fn(|_| std::array::from_fn(|_| rare())),
        })) as &'static Chunk
    });
    chunk.unwrap().join().unwrap()
}

/// A master that reads configurations and starts workers.
struct Master {
    chunks: Vec<&'static Chunk>,
    configuration: u64,
    places: Vec<usize>,
    next: Identity,
}

impl Master {
    fn new() -> Self {
        LIVING.with_borrow_mut(BTreeSet::clear);
        Self { chunks: Vec::new(), configuration: 0, places: Vec::new(), next: 1 }
    }

    fn read(&mut self, names: impl IntoIterator<Item = u64>) {
        let locations: Vec<_> = names
            .into_iter()
            .map(|name| (Keys { full: name, short: name }, Label::new("exec", "", &name.to_string())))
            .collect();
        let keys: Vec<Keys> = locations.iter().map(|(keys, _)| *keys).collect();
        let oldest = oldest_configuration(&self.chunks, lives);
        let plan = plan::plan(&present(&self.chunks), &keys, self.configuration, oldest);
        let chunks = plan.places.div_ceil(LOCATIONS).max(1);
        self.chunks.truncate(chunks);
        while self.chunks.len() < chunks {
            self.chunks.push(chunk());
        }
        self.configuration += 1;
        carry_out(&self.chunks, &plan, &locations, self.configuration);
        self.places = plan.entries.iter().map(|entry| entry.place).collect();
    }

    fn start(&mut self) -> Ledger {
        let own = self.next;
        self.next += 1;
        LIVING.with_borrow_mut(|living| living.insert(own));
        Ledger::claim(self.chunks.clone(), self.places.clone(), self.configuration, own, lives).unwrap()
    }

    fn kill(ledger: &Ledger) {
        let owner = ledger.chunks[0].seats[ledger.seat].load(Relaxed);
        LIVING.with_borrow_mut(|living| assert!(living.remove(&owner)));
    }
}

fn figures(ledger: &Ledger, name: u64) -> Option<(u64, u64, u64)> {
    let name = name.to_string();
    let found = ledger.snapshot();
    let mut found = found.locations().filter(|(label, _)| label.location() == name);
    found.next().map(|(_, location)| (location.current, location.total, location.running))
}

#[test]
fn as_many_workers_as_nginx_has_processes() {
    let mut master = Master::new();
    master.read([7]);
    let mut workers = Vec::new();
    let mut programs = Vec::new();
    // Sixty-four workers; each reload leaves those of every generation that have clients.
    for _ in 0..16 {
        for _ in 0..64 {
            let worker = master.start();
            programs.push(worker.admit(0, 5000).unwrap());
            workers.push(worker);
        }
        master.read([7]);
    }
    assert_eq!(figures(&workers[0], 7), Some((0, 0, SEATS as u64)));
    assert!(workers[1000].admit(0, SEATS as u64).is_none());
    // Workers that were killed, and those that left, make room: seats are for the living.
    for nth in 0..10_000 {
        let worker = workers.remove(nth % workers.len());
        if nth % 2 == 0 {
            Master::kill(&worker)
        } else {
            worker.release()
        }
        workers.push(master.start());
    }
}

#[test]
fn a_seat_that_was_left_by_a_dead_worker_is_clean() {
    let mut master = Master::new();
    master.read([1, 2]);
    let first = master.start();
    let (program, session) = (first.admit(0, 1).unwrap(), first.open(1, Opening::default()).unwrap());
    session.passed(Traffic { messages_in: 3, ..Traffic::default() });
    std::mem::forget((program, session));
    Master::kill(&first);
    let second = master.start();
    assert_eq!(second.seat, first.seat);
    assert_eq!((figures(&second, 1), figures(&second, 2)), (Some((0, 0, 0)), Some((0, 1, 0))));
    assert!(second.admit(0, 1).is_some());
}

#[test]
fn programs_that_wait_take_no_place_of_a_client() {
    let pool = |ledger: &Ledger| {
        let found = ledger.snapshot();
        let (_, location) = found.locations().next().unwrap();
        (location.running, location.waiting, location.ahead, location.replaced)
    };
    let mut master = Master::new();
    master.read([7]);
    let (one, other) = (master.start(), master.start());
    let mut waiting = [one.admit_ahead(0, 2).unwrap(), other.admit_ahead(0, 2).unwrap()];
    assert!(one.admit_ahead(0, 2).is_none(), "also before they run");
    assert_eq!(pool(&one), (0, 0, 0, 0));
    waiting.iter_mut().for_each(ProgramAhead::waits);
    assert!(one.admit_ahead(0, 2).is_none() && one.admit_ahead(0, 3).is_some() && one.admit_ahead(0, 0).is_some());
    assert_eq!(one.excess(0, 2), 0);
    let clients = [one.admit(0, 2).unwrap(), one.admit(0, 2).unwrap()];
    assert!(one.admit(0, 2).is_none(), "clients have as many as they may have");
    assert_eq!([2, 3, 4, 0].map(|most| one.excess(0, most)), [2, 1, 0, 0], "others have to give way");
    assert_eq!(pool(&one), (2, 2, 2, 0));
    let [first, second] = waiting;
    first.replaced();
    drop(first);
    assert_eq!(pool(&other), (2, 1, 2, 1));
    drop(clients);
    // What a worker had that was killed is not there any more.
    std::mem::forget(second);
    Master::kill(&other);
    assert!(one.admit_ahead(0, 1).is_some());
    assert_eq!(pool(&one), (0, 0, 2, 1));
    master.start();
    assert_eq!(pool(&one), (0, 0, 2, 1), "nor in the seat of the next one");
}

#[test]
fn more_locations_than_a_chunk_have() {
    let mut master = Master::new();
    master.read(1..=3000);
    let worker = master.start();
    let programs: Vec<Place> = (0..3000).map(|location| worker.admit(location, 1).unwrap()).collect();
    assert!((0..3000).all(|location| worker.admit(location, 1).is_none()), "each has a limit of its own");
    // All go but one; the old worker has its programs still, and every location counts as itself.
    master.read([2999]);
    let next = master.start();
    assert_eq!((figures(&next, 2999), figures(&next, 5)), (Some((0, 0, 1)), Some((0, 0, 1))));
    assert!(next.admit(0, 1).is_none());
    drop(programs);
    worker.release();
    assert_eq!((figures(&next, 2999), figures(&next, 5)), (Some((0, 0, 0)), None));
    for _ in 0..3 {
        master.read([2999]);
    }
    assert_eq!(present(&master.chunks).len(), 1);
}

#[test]
fn a_location_that_comes_back_after_it_was_given_up_begins_anew() {
    let mut master = Master::new();
    master.read([1, 2]);
    let old = master.start();
    drop(old.open(1, Opening::default()).unwrap());
    old.release();
    master.read([1]);
    master.read([1]);
    master.read([1, 2]);
    assert_eq!(figures(&master.start(), 2), Some((0, 0, 0)));
}

#[test]
fn a_configuration_that_was_refused_costs_nothing() {
    let mut master = Master::new();
    master.read([1, 2]);
    let worker = master.start();
    drop(worker.open(0, Opening::default()).unwrap());
    let (places, configuration) = (master.places.clone(), master.configuration);
    master.read([3]);
    // nginx could not go over to it. The next one starts from the one that is in use.
    (master.places, master.configuration) = (places, configuration);
    Master::kill(&worker);
    let again = master.start();
    assert_eq!(figures(&again, 1), Some((0, 1, 0)));
    master.read([2, 1]);
    assert_eq!(figures(&master.start(), 1), Some((0, 1, 0)));
}

#[test]
fn a_process_that_reads_a_new_configuration_goes_on_in_its_seat() {
    let mut master = Master::new();
    master.read([1]);
    let before = master.start();
    let program = before.admit(0, 1).unwrap();
    master.read(2..=400);
    let after = before.with(master.chunks.clone(), master.places.clone(), master.configuration);
    assert_eq!(figures(&after, 1), Some((0, 0, 1)));
    let other = after.admit(350, 1).unwrap();
    assert_eq!(figures(&after, 352), Some((0, 0, 1)));
    drop((program, other));
    assert_eq!((figures(&after, 1), figures(&after, 352)), (None, Some((0, 0, 0))));
}

#[test]
fn subscribers_refusals_and_times() {
    let mut master = Master::new();
    master.read([1, 2]);
    let worker = master.start();
    let open = |subscribes, waited, now| worker.open(1, Opening { subscribes, waited, now }).unwrap();
    let (subscriber, other) = (open(true, 3, 1_000), open(false, 20_000, 1_000));
    worker.refused(1, Refused::by_origin());
    worker.refused(1, Refused::before(401));
    let of = |location| {
        let snapshot = worker.snapshot();
        let mut found = snapshot.locations().filter(|(label, _)| label.location() == location);
        found.next().map(|(_, figures)| figures.clone()).unwrap()
    };
    let now = of("2");
    assert_eq!((now.current, now.subscribers), (2, 1));
    assert_eq!((now.refused[Refused::by_origin().index()], now.refused.iter().sum::<u64>()), (1, 2));
    assert_eq!((now.starts.count(), now.starts.sum, now.durations.count()), (2, 20_003, 0));
    assert_eq!((now.starts.counts[2], now.starts.counts[13]), (1, 1));
    subscriber.ended(1_050);
    other.closed(Closes::without(), 900);
    let now = of("2");
    assert_eq!((now.current, now.subscribers, now.durations.counts[0], now.durations.sum), (0, 0, 2, 50));
    assert_eq!(of("1"), Location::default(), "nothing of another location");
    // Another location gets the entry, and nothing of what was there.
    worker.release();
    master.read([3]);
    master.read([4, 5]);
    let worker = master.start();
    for (_, figures) in worker.snapshot().locations() {
        assert_eq!(*figures, Location::default());
    }
}
