// SPDX-License-Identifier: Apache-2.0

//! Who has left and may come back.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::channel::departures::Departures;
use crate::channel::fail::{Hit, arm, disarm, stopped};

const LEN: usize = 256 << 10;

/// How long somebody is waited for.
const GRACE: u64 = 5_000;

fn member<'a>(id: &'a str, events: &'a str, who: &'a str) -> Member<'a> {
    Member { channel: key(id), events: events.as_bytes(), who: who.as_bytes() }
}

impl Rig {
    fn leave_for_now(&self, member: Member<'_>, slot: Slot) -> Option<Left> {
        self.store.presence().leave(member, slot).unwrap()
    }

    fn comes_back(&self, member: Member<'_>) -> bool {
        self.store.presence().come_back(member).unwrap()
    }

    fn is_told(&self, left: Left, slot: Slot) -> bool {
        self.store.presence().forget(left, slot).unwrap()
    }

    /// As many as can be waited for.
    fn places(&self) -> usize {
        self.store.zone.geometry().departed
    }
}

#[test]
fn who_has_gone_may_come_back() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let anna = member("a", "watch", "anna");
    let left = rig.leave_for_now(anna, one).unwrap();
    rig.check();
    for other in [member("a", "watch", "ann"), member("a", "watch", "bob"), member("b", "watch", "anna")] {
        assert!(!rig.comes_back(other), "{other:?}");
    }
    assert!(rig.comes_back(anna) && !rig.comes_back(anna), "once");
    rig.check();
    assert!(!rig.is_told(left, one));
    let left = rig.leave_for_now(anna, two).unwrap();
    assert!(!rig.is_told(left, one), "another worker tells of it");
    assert!(rig.is_told(left, two) && !rig.is_told(left, two));
    assert!(!rig.comes_back(anna), "too late");
    rig.check();
}

#[test]
fn as_many_come_back_as_have_gone() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let anna = member("a", "watch", "anna");
    let left: Vec<_> = (0..3).map(|_| rig.leave_for_now(anna, one).unwrap()).collect();
    assert!(rig.comes_back(anna));
    let told = left.into_iter().filter(|left| rig.is_told(*left, one)).count();
    assert_eq!(told, 2);
    rig.check();
}

#[test]
fn those_who_are_told_by_different_channels_are_not_mixed() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let left = rig.leave_for_now(member("a", "watch", "anna"), one).unwrap();
    assert!(!rig.comes_back(member("a", "audit", "anna")), "that was told of nobody who has gone");
    assert!(!rig.comes_back(member("awatch", "", "anna")) && !rig.comes_back(member("a", "watc", "hanna")));
    assert!(rig.is_told(left, one));
}

#[test]
fn it_does_not_matter_what_becomes_of_the_channel() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    rig.publish("a", b"x");
    let anna = member("a", "watch", "anna");
    let left = rig.leave_for_now(anna, one).unwrap();
    rig.store.log().delete(key("a"), rig.now()).unwrap();
    rig.pass(10 * LINGER);
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    assert_eq!(rig.store.usage().unwrap().channels, 0, "nor does it stay for anybody");
    assert!(rig.comes_back(anna), "to a channel of the same name");
    assert!(!rig.is_told(left, one));
    rig.check();
}

#[test]
fn those_who_have_left_keep_nobody_out() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let free = rig.store.usage().unwrap().free_cells;
    let mut places = Vec::new();
    while let Some(left) = rig.leave_for_now(member("a", "watch", &places.len().to_string()), one) {
        places.push(left);
    }
    assert_eq!(places.len(), rig.places());
    assert_eq!(rig.store.usage().unwrap().free_cells, free, "they take nothing that subscribers need");
    rig.check();
    assert!(rig.comes_back(member("a", "watch", "7")));
    let seven = rig.leave_for_now(member("a", "watch", "eight"), one).unwrap();
    assert_eq!(seven.place(), places[7].place(), "a place is used again");
    assert_eq!(rig.leave_for_now(member("a", "watch", "nine"), one), None);
    for left in places {
        rig.is_told(left, one);
    }
    rig.check();
    assert!(rig.leave_for_now(member("a", "watch", "ten"), one).is_some());
}

#[test]
fn nobody_waits_for_what_a_dead_worker_was_to_tell() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    for n in 0..rig.places() {
        rig.leave_for_now(member("a", "watch", &n.to_string()), one).unwrap();
    }
    let two = rig.store.claim(Process { pid: 12, start: 1 }, |_| false).unwrap().slot;
    rig.check();
    assert!(!rig.comes_back(member("a", "watch", "5")), "that it comes is told as well");
    assert_eq!(rig.leave_for_now(member("a", "watch", "anna"), two), None, "until the zone is looked through");
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    rig.check();
    for n in 0..rig.places() {
        rig.leave_for_now(member("a", "watch", &n.to_string()), two).unwrap();
    }
}

#[test]
fn a_worker_may_be_killed_at_any_write() {
    let anna = member("a", "watch", "anna");
    let before = Rig::new(LEN);
    let one = before.claim(11);
    let others: Vec<_> = (0..50).map(|n| before.leave_for_now(member("a", "watch", &n.to_string()), one)).collect();
    let left = before.leave_for_now(anna, one).unwrap();
    type Operation = fn(&Rig, Left, Slot);
    let operations: [Operation; 3] = [
        |rig, _, one| assert!(rig.leave_for_now(member("a", "watch", "new"), one).is_some()),
        |rig, _, _| assert!(rig.comes_back(member("a", "watch", "anna"))),
        |rig, left, one| assert!(rig.is_told(left, one)),
    ];
    for operation in operations {
        for point in 0.. {
            let rig = before.copy();
            arm(point, Hit::Unwind);
            let hit = stopped(|| operation(&rig, left, one));
            disarm();
            if !hit {
                assert!(point > 3, "{point}");
                break;
            }
            let damaged = rig.copy();
            damaged.store.zone.unlocked().header().unwrap().busy.set(2);
            for rig in [rig, damaged] {
                rig.store.usage().unwrap();
                rig.check();
                let told = others.iter().flatten().filter(|other| rig.is_told(**other, one)).count();
                assert_eq!(told, others.len());
                let new = usize::from(rig.comes_back(member("a", "watch", "new")));
                assert!(new + usize::from(rig.comes_back(anna)) <= 2);
                rig.check();
            }
        }
    }
}

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    Join { worker: usize, channel: usize, events: usize, who: usize, has_grace: bool },
    Leave { which: usize },
    Delete { channel: usize },
    Pass { milliseconds: u64 },
}

const CHANNELS: [&str; 2] = ["a", "b"];
const EVENTS: [&str; 2] = ["watch", "audit"];
const NAMES: [&str; 2] = ["anna", "bob"];

/// Whom an event is about, and to whom it is told.
type Whose = (usize, usize, usize);

fn of((channel, events, who): Whose) -> Member<'static> {
    member(CHANNELS[channel], EVENTS[events], NAMES[who])
}

/// Workers and their clients, and what those who watch have been told.
struct Watched {
    rig: Rig,
    slots: [Slot; 2],
    waiting: [Departures<Whose>; 2],
    there: Vec<(usize, Whose, bool, Subscribed)>,
    /// How many have joined more often than left.
    told: HashMap<Whose, i64>,
}

impl Watched {
    fn new() -> Self {
        let rig = Rig::new(LEN);
        let slots = [rig.claim(11), rig.claim(12)];
        let waiting = [Departures::default(), Departures::default()];
        Self { rig, slots, waiting, there: Vec::new(), told: HashMap::new() }
    }

    /// How many have gone and are waited for.
    fn awaited(&self, whose: Whose) -> i64 {
        let of_worker = |(waiting, slot): (&Departures<Whose>, &Slot)| {
            waiting.all().filter(|(left, of)| **of == whose && self.is_awaited(*left, *slot)).count()
        };
        self.waiting.iter().zip(&self.slots).map(of_worker).sum::<usize>() as i64
    }

    /// Whether nobody has taken the place that a worker knows.
    fn is_awaited(&self, left: Left, slot: Slot) -> bool {
        let owner = self.rig.store.zone.view(|memory| Ok(memory.departed(left.place())?.slot.get())).unwrap();
        owner as usize == slot.0 + 1
    }

    fn join(&mut self, worker: usize, whose: Whose, has_grace: bool) {
        let subscribed = self.rig.subscribe(CHANNELS[whose.0], self.slots[worker], 7);
        let awaited = self.awaited(whose);
        if !self.rig.comes_back(of(whose)) {
            assert_eq!(awaited, 0, "a join is told while {whose:?} is waited for");
            *self.told.entry(whose).or_default() += 1;
        }
        self.there.push((worker, whose, has_grace, subscribed));
    }

    fn leave(&mut self, which: usize) {
        if self.there.is_empty() {
            return;
        }
        let (worker, whose, has_grace, subscribed) = self.there.swap_remove(which % self.there.len());
        let slot = self.slots[worker];
        self.rig.store.log().unsubscribe(subscribed.channel, slot, None, self.rig.now()).unwrap();
        let left = if has_grace { self.rig.leave_for_now(of(whose), slot) } else { None };
        match left {
            Some(left) => self.waiting[worker].push(self.rig.clock.get() + GRACE, left, whose),
            None => self.left(whose),
        }
    }

    fn left(&mut self, whose: Whose) {
        let told = self.told.entry(whose).or_default();
        *told -= 1;
        assert!(*told >= 0, "{whose:?} leaves before it has joined");
    }

    fn delete(&mut self, channel: usize) {
        self.rig.store.log().delete(key(CHANNELS[channel]), self.rig.now()).unwrap();
        for slot in self.slots {
            self.rig.drain(slot);
        }
        while let Some(which) = self.there.iter().position(|(_, whose, ..)| whose.0 == channel) {
            self.leave(which);
        }
    }

    fn expire(&mut self) {
        for worker in 0..self.slots.len() {
            while let Some((left, whose)) = self.waiting[worker].pop(self.rig.clock.get()) {
                if self.rig.is_told(left, self.slots[worker]) {
                    self.left(whose);
                }
            }
        }
    }

    /// Who has joined and has not left, as far as those who watch know, is there or waited for.
    fn check(&self) {
        self.rig.check();
        for channel in 0..CHANNELS.len() {
            for events in 0..EVENTS.len() {
                for who in 0..NAMES.len() {
                    let whose = (channel, events, who);
                    let there = self.there.iter().filter(|(_, other, ..)| *other == whose).count() as i64;
                    let told = self.told.get(&whose).copied().unwrap_or(0);
                    assert_eq!(told, there + self.awaited(whose), "{whose:?}");
                }
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let join = (0..2_usize, 0..2_usize, 0..2_usize, 0..2_usize, prop::bool::weighted(0.8));
    prop_oneof![
        4 => join.prop_map(|(worker, channel, events, who, has_grace)| Step::Join { worker, channel, events, who, has_grace }),
        4 => (0..100_usize).prop_map(|which| Step::Leave { which }),
        1 => (0..2_usize).prop_map(|channel| Step::Delete { channel }),
        2 => (0..GRACE).prop_map(|milliseconds| Step::Pass { milliseconds }),
    ]
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn each_join_has_one_leave_after_it(steps in prop::collection::vec(step(), 1..60)) {
        let mut watched = Watched::new();
        for step in steps {
            match step {
                Step::Join { worker, channel, events, who, has_grace } => watched.join(worker, (channel, events, who), has_grace),
                Step::Leave { which } => watched.leave(which),
                Step::Delete { channel } => watched.delete(channel),
                Step::Pass { milliseconds } => {
                    watched.rig.pass(milliseconds);
                    watched.expire();
                }
            }
            watched.check();
        }
        while !watched.there.is_empty() {
            watched.leave(0);
        }
        watched.rig.pass(GRACE);
        watched.expire();
        watched.check();
        assert!(watched.told.values().all(|told| *told == 0));
    }
}
