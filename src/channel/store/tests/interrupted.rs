// SPDX-License-Identifier: Apache-2.0

//! Every write of every operation is once the last one: what the next operation makes of that.

use super::*;
use crate::channel::fail::{Hit, arm, disarm, stopped};

const LEN: usize = 128 << 10;

/// Miri is slow.
const STRIDE: usize = if cfg!(miri) { 13 } else { 1 };

impl Rig {
    /// Another store with the same contents.
    pub(super) fn copy(&self) -> Self {
        let from = &self.store.zone.unlocked();
        let mut octets = Vec::with_capacity(from.region.len());
        from.region.append_to(0, from.region.len(), &mut octets).unwrap();
        let region = Region::private(octets.len()).unwrap();
        region.write(0, &octets).unwrap();
        Self { store: Store::attach(region, Unshared).unwrap(), clock: self.clock.clone() }
    }
}

/// What can be seen of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    epoch: u64,
    messages: u32,
    subscribers: u32,
    log: Vec<(u64, Vec<u8>)>,
}

fn see(rig: &Rig, id: &str) -> Option<Seen> {
    let info = rig.info(id)?;
    let hash = rig.store.zone.unlocked().hash(key(id)).unwrap();
    let cell = rig.store.zone.view(|memory| memory.find(key(id), hash)).unwrap().unwrap();
    let (messages, _) = rig.read(Handle { cell, life: info.last.epoch.0 }, 1);
    let log = messages.iter().map(|message| (message.id.offset.0, message.data().to_vec())).collect();
    Some(Seen { epoch: info.last.epoch.0, messages: info.messages, subscribers: info.subscribers, log })
}

fn see_all(rig: &Rig, ids: &[&str]) -> Vec<Option<Seen>> {
    ids.iter().map(|id| see(rig, id)).collect()
}

/// Stops `operation` before each of its writes in turn, and hands what the next operation finds to `verify`. How many
/// writes there are.
fn at_every_point(before: &Rig, operation: impl Fn(&Rig), verify: impl Fn(&Rig, u64)) -> u64 {
    for point in (0..).step_by(STRIDE) {
        let rig = before.copy();
        arm(point, Hit::Unwind);
        let hit = stopped(|| operation(&rig));
        disarm();
        if !hit {
            return point;
        }
        // Where it is not known how to undo it.
        let damaged = rig.copy();
        damaged.store.zone.unlocked().header().unwrap().busy.set(2);
        for rig in [rig, damaged] {
            // Any operation repairs.
            rig.store.usage().unwrap();
            rig.check();
            verify(&rig, point);
            rig.check();
        }
    }
    unreachable!()
}

/// Channels `a` (with subscribers in slots 0 and 1, one of which has news), `b` (a history of several cells a message)
/// and `c` (nothing but a subscriber).
fn some_channels() -> (Rig, Vec<Slot>) {
    let rig = Rig::new(LEN);
    let slots: Vec<_> = (1..=4).map(|pid| rig.claim(pid)).collect();
    rig.subscribe("a", slots[0], 10);
    rig.subscribe("a", slots[1], 20);
    rig.subscribe("c", slots[0], 11);
    for n in 0..10_u8 {
        rig.publish("a", &[n; 50]);
        if n < 4 {
            rig.publish("b", &vec![n; 700]);
        }
    }
    rig.drain(slots[0]);
    (rig, slots)
}

const IDS: [&str; 5] = ["a", "b", "c", "new", "long"];

/// Everything is as before or as after the operation, in each channel.
fn before_or_after(before: &Rig, operation: impl Fn(&Rig), and: impl Fn(&Rig, u64)) -> u64 {
    let seen_before = see_all(&before.copy(), &IDS);
    let after = before.copy();
    operation(&after);
    let seen_after = see_all(&after, &IDS);
    at_every_point(before, operation, |rig, point| {
        let seen = see_all(rig, &IDS);
        assert!(seen == seen_before || seen == seen_after, "{point}: {seen:?}");
        and(rig, point);
    })
}

/// The zone goes on to work: every subscriber gets every message once, old and new, and everything can be given back.
fn goes_on(rig: &Rig, slots: &[Slot], expected: u64) {
    let first = rig.publish("a", b"next").id.offset.0;
    rig.publish("a", b"next but one");
    assert!(first == expected || first == expected + 1, "{first} {expected}");
    let news = rig.drain(slots[1]);
    let offsets: Vec<_> = messages(&news, 20).iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (1..=first + 1).collect::<Vec<_>>());
    for slot in slots {
        rig.drain(*slot);
    }
    for slot in slots {
        let process = rig.store.workers().unwrap().remove(0);
        let _ = (slot, rig.store.claim(Process { pid: 77, start: 1 }, |other| other != process));
        rig.store.release(Slot(0)).unwrap();
    }
    for id in IDS {
        rig.store.log().delete(key(id), rig.now()).unwrap();
    }
    rig.pass(10 * LINGER);
    rig.store.claim(Process { pid: 78, start: 1 }, |_| false).unwrap();
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    rig.check();
    let usage = rig.store.usage().unwrap();
    assert_eq!((usage.channels, usage.messages, usage.free_cells), (0, 0, usage.cells));
}

#[test]
fn publishing() {
    let (rig, slots) = some_channels();
    let points = before_or_after(
        &rig,
        |rig| {
            rig.publish("a", &[77; 50]);
        },
        |rig, _| goes_on(rig, &slots, 11),
    );
    assert!(points > 30, "{points}");
}

#[test]
fn publishing_many_cells_to_a_new_channel() {
    let (rig, slots) = some_channels();
    let operation = |rig: &Rig| {
        rig.publish("new", &[77; 1000]);
    };
    let after = {
        let rig = rig.copy();
        operation(&rig);
        see(&rig, "new").unwrap()
    };
    at_every_point(&rig, operation, |rig, point| {
        // The channel may be there already while its message is not.
        if let Some(seen) = see(rig, "new") {
            assert!(seen == after || seen == Seen { messages: 0, log: vec![], ..after.clone() }, "{point}: {seen:?}");
        }
        goes_on(rig, &slots, 11);
    });
}

#[test]
fn publishing_with_a_long_key() {
    let (rig, _) = some_channels();
    let long = "x".repeat(600);
    let publish = |rig: &Rig| rig.publish(&long, b"x").id.offset.0;
    at_every_point(
        &rig,
        |rig| {
            publish(rig);
        },
        |rig, _| assert!([1, 2].contains(&publish(rig))),
    );
}

#[test]
fn publishing_into_a_full_zone() {
    let (rig, _) = some_channels();
    for n in 0.. {
        if rig.store.usage().unwrap().evicted > 0 {
            break;
        }
        rig.try_publish(&format!("fill {}", n % 3), b"x", History { length: 0, time: 0 }).unwrap();
    }
    let before = see_all(&rig.copy(), &IDS);
    let usage = rig.store.usage().unwrap();
    let publish = |rig: &Rig| {
        rig.publish("b", &[77; 3000]);
    };
    let points = at_every_point(&rig, publish, |rig, point| {
        let seen = see_all(rig, &IDS);
        for (seen, before) in seen.iter().zip(&before) {
            let (Some(seen), Some(before)) = (seen, before) else {
                assert_eq!(seen, before);
                continue;
            };
            let kept: Vec<_> = seen.log.iter().filter(|(_, data)| data.len() < 3000).cloned().collect();
            assert!(before.log.ends_with(&kept), "{point}: only the oldest go");
            assert!(seen.log.len() - kept.len() <= 1);
        }
        assert!(rig.store.usage().unwrap().cells == usage.cells);
        publish(rig);
        assert_eq!(see(rig, "b").unwrap().log.last().unwrap().1.len(), 3000);
    });
    assert!(points > 100, "{points}");
}

#[test]
fn subscribing() {
    let (rig, slots) = some_channels();
    before_or_after(
        &rig,
        |rig| {
            rig.subscribe("a", slots[0], 30);
        },
        |rig, _| goes_on(rig, &slots, 11),
    );
    // The third and fourth worker need another cell of the channel.
    before_or_after(
        &rig,
        |rig| {
            rig.subscribe("a", slots[2], 30);
        },
        |rig, _| {
            rig.subscribe("a", slots[2], 30);
            assert_eq!(rig.publish("a", b"x").wake.filter(|slot| *slot == 2).count(), 1);
            let (last, _) = messages(&rig.drain(slots[2]), 30).pop().unwrap();
            assert_eq!(last, 11);
        },
    );
    before_or_after(
        &rig,
        |rig| {
            rig.subscribe("b", slots[3], 30);
        },
        |rig, _| goes_on(rig, &slots, 11),
    );
}

#[test]
fn unsubscribing() {
    let (rig, slots) = some_channels();
    // With news that it has not taken, and without.
    for (nth, id) in [(1, "a"), (0, "a"), (0, "c")] {
        let rig = rig.copy();
        let handle = rig.subscribe(id, slots[nth], 99).channel;
        rig.store.log().unsubscribe(handle, slots[nth], None, rig.now()).unwrap();
        before_or_after(
            &rig,
            |rig| rig.store.log().unsubscribe(handle, slots[nth], None, rig.now()).unwrap(),
            |rig, _| {
                rig.publish(id, b"x");
                rig.drain(slots[nth]);
                rig.store.log().unsubscribe(handle, slots[nth], None, rig.now()).unwrap();
            },
        );
    }
}

#[test]
fn copying_news() {
    let (rig, slots) = some_channels();
    for n in 0..5 {
        rig.try_publish("a", &[n; 500], History { length: 3, time: 0 }).unwrap();
    }
    let seen = see_all(&rig.copy(), &IDS);
    at_every_point(
        &rig,
        |rig| {
            rig.drain(slots[1]);
        },
        |rig, _| {
            // The worker's copies died with it. The others lose nothing that belongs to the history.
            for (now, before) in see_all(rig, &IDS).into_iter().zip(&seen) {
                let log = |seen: &Seen| seen.log[seen.log.len() - seen.messages as usize..].to_vec();
                assert_eq!(now.as_ref().map(log), before.as_ref().map(log));
            }
            let offsets: Vec<_> = messages(&rig.drain(slots[0]), 10).iter().map(|(offset, _)| *offset).collect();
            assert_eq!(offsets, (11..=15).collect::<Vec<_>>());
        },
    );
}

#[test]
fn deleting() {
    let (rig, slots) = some_channels();
    for id in ["a", "b", "c"] {
        let delete = |rig: &Rig| {
            rig.store.log().delete(key(id), rig.now()).unwrap();
        };
        let points = before_or_after(&rig, delete, |rig, _| {
            delete(rig);
            let mut deleted = rig.drain(slots[0]);
            deleted.extend(rig.drain(slots[1]));
            let deleted: Vec<_> = deleted
                .iter()
                .filter_map(|news| if let News::Deleted(token) = news { Some(token.0) } else { None })
                .collect();
            let expected: &[u32] = match id {
                "a" => &[10, 20],
                "c" => &[11],
                _ => &[],
            };
            assert_eq!(deleted, expected);
            assert_eq!(rig.info(id), None);
            assert_eq!(rig.publish(id, b"x").id.offset, Offset(1));
        });
        assert!(points >= 8, "{points}");
    }
}

#[test]
fn tending() {
    let (rig, slots) = some_channels();
    for n in 0..3 {
        rig.try_publish("b", &[n; 700], History { length: 10, time: 2000 }).unwrap();
        rig.pass(1000);
    }
    rig.subscribe("idle", slots[0], 40);
    rig.store.claim(Process { pid: 9, start: 1 }, |process| process.pid != 1).unwrap();
    rig.pass(500);
    let clock = rig.clock.get();
    let seen = see_all(&rig.copy(), &IDS);
    let tend = |rig: &Rig| {
        rig.store.tend(rig.now(), usize::MAX).unwrap();
    };
    let points = at_every_point(&rig, tend, |rig, _| {
        rig.clock.set(clock);
        assert_eq!(see_all(rig, &IDS), seen);
        tend(rig);
        rig.pass(LINGER + 1000);
        tend(rig);
        assert_eq!(rig.store.usage().unwrap().channels, 2, "a has messages, b a worker: everything else is gone");
    });
    assert!(points > 20, "{points}");
}

#[test]
fn claiming_and_releasing_slots() {
    let (rig, slots) = some_channels();
    let claim = |rig: &Rig| rig.store.claim(Process { pid: 9, start: 1 }, |process| process.pid > 2).unwrap();
    at_every_point(
        &rig,
        |rig| {
            claim(rig);
        },
        |rig, point| {
            let claimed = claim(rig);
            assert!(claimed.slot.number() <= 4, "{point}");
            assert_eq!(rig.info("a").unwrap().subscribers, 0);
            assert_eq!(rig.info("c").unwrap().subscribers, 0);
            assert!(rig.subscribe("a", claimed.slot, 50).first);
            assert_eq!(rig.publish("a", b"x").wake.collect::<Vec<_>>(), [claimed.slot.number()]);
        },
    );
    let release = |rig: &Rig| {
        rig.store.release(slots[0]).unwrap();
    };
    at_every_point(&rig, release, |rig, _| {
        rig.store.claim(Process { pid: 9, start: 1 }, |process| process.pid != 1).unwrap();
        assert_eq!(rig.info("a").unwrap().subscribers, 1);
    });
}

#[test]
fn repairing() {
    let (rig, slots) = some_channels();
    // Stopped somewhere in the middle of a publication, one that evicts in the second round.
    for point in [9, 20, 33, 40] {
        let rig = rig.copy();
        arm(point, Hit::Unwind);
        assert!(stopped(|| {
            rig.publish("a", &[77; 500]);
        }));
        assert!(!disarm());
        let mut repair = 0;
        let damaged = rig.copy();
        damaged.store.zone.unlocked().header().unwrap().busy.set(2);
        let undoing = (0..200).map(|skip| (skip, &rig));
        // A repair has many writes, and most of them are alike.
        let repairing = (0..20_000).step_by(if cfg!(miri) { 997 } else { 7 }).map(|skip| (skip, &damaged));
        for (skip, rig) in undoing.chain(repairing) {
            let rig = rig.copy();
            arm(skip, Hit::Unwind);
            let hit = stopped(|| {
                rig.store.usage().unwrap();
            });
            disarm();
            if !hit {
                continue;
            }
            repair += 1;
            rig.store.usage().unwrap();
            rig.check();
            assert_eq!(see(&rig, "b").unwrap().log.len(), 4);
            goes_on(&rig, &slots, 11);
        }
        assert!(repair > 10 || cfg!(miri), "{repair}");
    }
}

#[test]
fn a_damaged_zone_is_repaired_too() {
    let (rig, _) = some_channels();
    let cells_at = rig.store.zone.geometry().cells_at;
    let used = rig.store.usage().unwrap();
    let used = (used.cells - used.free_cells) as usize;
    let header = size_of::<u64>() * 2;
    // No writer leaves such things behind; but neither a crash nor an endless loop may come of them.
    for at in (header + 16..400).chain(cells_at..cells_at + used * 256).step_by(if cfg!(miri) { 4001 } else { 4 }) {
        for value in [0, 1, 3, u32::MAX] {
            let rig = rig.copy();
            let region = rig.store.zone.unlocked().region;
            region.at::<crate::channel::memory::Word>(at / 4 * 4).unwrap().set(value);
            let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
            for _ in 0..3 {
                let _ = rig.store.log().publish(key("a"), &publication, policy(KEEP), rig.now());
                let _ = rig.store.log().drain(Slot(0), ALL, rig.now(), &mut Vec::new());
            }
            rig.store.zone.unlocked().header().unwrap().busy.set(1);
            let _ = rig.store.usage();
            for id in IDS {
                let _ = rig.store.log().info(key(id), rig.now());
            }
        }
    }
}

#[test]
fn saying_who_one_is() {
    let (rig, slots) = some_channels();
    let join = |rig: &Rig, slot: usize, who: &str| {
        let terms = Terms { presence: who.as_bytes(), ..TERMS };
        rig.store.log().subscribe(key("a"), slots[slot], Token(10), terms, rig.now()).unwrap()
    };
    let names = |rig: &Rig| {
        let presence = rig.store.presence().of(key("a")).unwrap().unwrap();
        presence.names.into_keys().map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>().join(" ")
    };
    let all = ["anna", "bob", "carla"].map(|who| join(&rig, who.len() % 2, who));
    let points = at_every_point(
        &rig,
        |rig| {
            join(rig, 1, "dora");
        },
        |rig, point| {
            let seen = names(rig);
            assert!(["anna bob carla", "anna bob carla dora"].contains(&&seen[..]), "{point}: {seen}");
            // The worker that was interrupted is gone.
            rig.store.claim(Process { pid: 9, start: 1 }, |process| process.pid != 2).unwrap();
            assert_eq!(names(rig), "anna");
            goes_on_without(rig, &slots);
        },
    );
    assert!(points > 10, "{points}");
    // The newest, the oldest, and the one between them.
    for (nth, left) in [(2, "anna bob"), (0, "bob carla"), (1, "anna carla")] {
        let slot = slots[["anna", "bob", "carla"][nth].len() % 2];
        let leave = |rig: &Rig| {
            let Subscribed { channel, present, .. } = all[nth];
            rig.store.log().unsubscribe(channel, slot, present, rig.now()).unwrap();
        };
        at_every_point(&rig, leave, |rig, point| {
            let seen = names(rig);
            assert!(["anna bob carla", left].contains(&&seen[..]), "{point}: {seen}");
            leave(rig);
            assert_eq!(names(rig), left);
            rig.store.log().delete(key("a"), rig.now()).unwrap();
            goes_on_without(rig, &slots);
        });
    }
    let delete = |rig: &Rig| {
        rig.store.log().delete(key("a"), rig.now()).unwrap();
    };
    at_every_point(&rig, delete, |rig, _| {
        delete(rig);
        goes_on_without(rig, &slots);
    });
    // All at once, when their worker has died.
    rig.store.claim(Process { pid: 9, start: 1 }, |process| process.pid != 2).unwrap();
    let tend = |rig: &Rig| {
        rig.store.tend(rig.now(), usize::MAX).unwrap();
    };
    at_every_point(&rig, tend, |rig, _| {
        assert_eq!(names(rig), "anna");
        goes_on_without(rig, &slots);
    });
}

/// Everybody goes, and everything can be given back.
fn goes_on_without(rig: &Rig, slots: &[Slot]) {
    for slot in slots {
        rig.drain(*slot);
    }
    rig.store.claim(Process { pid: 78, start: 1 }, |_| false).unwrap();
    for id in IDS {
        rig.store.log().delete(key(id), rig.now()).unwrap();
    }
    rig.check();
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    rig.check();
    let usage = rig.store.usage().unwrap();
    assert_eq!((usage.channels, usage.messages, usage.free_cells), (0, 0, usage.cells));
}

#[test]
fn limiting_a_group() {
    let (rig, slots) = some_channels();
    let used = rig.store.groups().info(b"group", NO_LIMITS, rig.now()).unwrap().used;
    let limits = GroupLimits { channels: 9, subscribers: 8, messages: 70, bytes: 1 << 40 };
    let change = GroupChange {
        channels: Change::To(9),
        subscribers: Change::To(8),
        messages: Change::To(70),
        bytes: Change::To(1 << 40),
    };
    for name in [&b"group"[..], b"another"] {
        let limit = |rig: &Rig| rig.store.groups().limit(name, change, rig.now()).unwrap();
        at_every_point(&rig, limit, |rig, _| {
            limit(rig);
            assert_eq!(rig.store.groups().info(name, NO_LIMITS, rig.now()).unwrap().limits, limits);
            assert_eq!(rig.store.groups().info(b"group", NO_LIMITS, rig.now()).unwrap().used, used);
            rig.store.groups().limit(name, GroupChange::LOCATION, rig.now()).unwrap();
            goes_on(rig, &slots, 11);
        });
    }
}

#[test]
fn deleting_a_group() {
    let (rig, slots) = some_channels();
    let change = GroupChange { channels: Change::To(9), ..GroupChange::default() };
    rig.store.groups().limit(b"group", change, rig.now()).unwrap();
    let delete = |rig: &Rig| {
        let (mut wake, mut from) = (Wake::default(), Some(0));
        while let Some(at) = from {
            from = rig.store.groups().delete(b"group", at, rig.now(), &mut wake).unwrap();
        }
    };
    let points = at_every_point(&rig, delete, |rig, _| {
        delete(rig);
        for slot in &slots {
            rig.drain(*slot);
        }
        assert_eq!(see_all(rig, &IDS), [const { None }; IDS.len()]);
        let group = rig.store.groups().info(b"group", NO_LIMITS, rig.now()).unwrap();
        assert_eq!(group, GroupInfo { used: GroupUse::default(), limits: NO_LIMITS });
        let usage = rig.store.usage().unwrap();
        assert_eq!(usage.free_cells, usage.cells);
    });
    assert!(points > 50, "{points}");
}
