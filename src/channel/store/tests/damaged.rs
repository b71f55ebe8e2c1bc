// SPDX-License-Identifier: Apache-2.0

//! Zones with links that no writer leaves behind: whatever is done with one comes to an end, which the lock is held for.

use super::*;
use crate::channel::memory::Corrupt;
use crate::channel::zone::idle::Idle;
use crate::channel::zone::layout::{Cell, CellHead, Message, Record};

/// Octets of a zone that has so few buckets that one call looks at all of them.
const LEN: usize = 1 << 17;

/// A channel and its record.
fn record<'r>(rig: &'r Rig, id: &str) -> (Cell, &'r Record) {
    let memory = rig.store.zone.unlocked();
    let cell = memory.find(key(id), memory.hash(key(id)).unwrap()).unwrap().unwrap();
    (cell, memory.record(cell).unwrap())
}

#[test]
fn a_bucket_that_is_a_ring() {
    let ring = || {
        let rig = Rig::new(LEN);
        rig.publish("a", b"x");
        let other = Key::new(b"other", b"b").unwrap();
        let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
        rig.store.log().publish(other, &publication, policy(KEEP), rig.now()).unwrap();
        let (cell, record) = record(&rig, "a");
        record.hash_next.set(cell.number());
        rig
    };
    let rig = ring();
    let mut wake = Wake::default();
    assert_eq!(rig.store.groups().delete("other", 0, rig.now(), &mut wake), Err(Corrupt));
    // It was rebuilt since.
    assert!(rig.store.groups().delete("other", 0, rig.now(), &mut wake).is_ok());
    rig.check();
    assert_eq!(ring().store.copies().find(1, 0, &mut Vec::new()), Err(Corrupt));
    let rig = ring();
    rig.store.zone.update(|memory| memory.start_scan()).unwrap();
    let _ = rig.store.tend(rig.now(), usize::MAX);
    rig.store.distrust().unwrap();
    rig.check();
}

#[test]
fn a_first_one_that_does_not_know_it() {
    let rig = Rig::new(LEN);
    let slot = rig.claim(7);
    for id in ["a", "b"] {
        let subscribed = rig.subscribe(id, slot, 1);
        rig.store.log().unsubscribe(subscribed.channel, slot, None, rig.now()).unwrap();
        rig.store.zone.update(|memory| memory.list_idle(record(&rig, id).0)).unwrap();
    }
    record(&rig, "a").1.idle_prev.set(record(&rig, "b").0.number());
    let removed = rig.store.zone.update(|memory| memory.remove_idle(Idle::NeverPublished, None));
    assert_eq!(removed, Err(Corrupt));
    rig.check();
}

#[test]
fn news_on_the_list_of_another_worker() {
    let rig = Rig::new(LEN);
    let slots = [rig.claim(7), rig.claim(8)];
    rig.subscribe("a", slots[0], 1);
    rig.publish("a", b"x");
    let memory = rig.store.zone.unlocked();
    let [own, other] = slots.map(|slot| memory.slot(slot.number()).unwrap());
    other.dirty_head.set(own.dirty_head.get());
    let mut news = Vec::new();
    assert!(matches!(rig.store.log().drain(slots[1], ALL, rig.now(), &mut news), Err(ReadError::Corrupt)));
    assert_eq!(messages(&rig.drain(slots[0]), 1), [(1, b"x".to_vec())]);
    rig.check();
}

#[test]
fn messages_that_are_a_ring() {
    let rig = Rig::new(LEN);
    let slot = rig.claim(7);
    let channel = rig.subscribe("a", slot, 1).channel;
    rig.publish("a", b"x");
    let (_, record) = record(&rig, "a");
    rig.store.zone.unlocked().message(Cell::new(record.oldest.get()).unwrap()).unwrap().after.set(record.oldest.get());
    let read = rig.store.log().read(channel, Offset(1), ALL, rig.now(), &mut Vec::new());
    assert!(matches!(read, Err(ReadError::Corrupt)), "{read:?}");
    rig.pass(KEEP.time + 1);
    let read = rig.store.log().read(channel, Offset(1), ALL, rig.now(), &mut Vec::new());
    assert!(matches!(read, Ok(Read { lost: 1, .. })), "nobody goes round it: {read:?}");
}

#[test]
fn a_copy_whose_name_would_fill_the_memory() {
    let rig = Rig::new(LEN);
    let original = Original { epoch: Epoch(7), oldest: Offset(1), lineage: Default::default() };
    let key = Key::in_space(1, b"group", b"a").unwrap();
    rig.store.copies().follow(key, original, KEEP, rig.now()).unwrap();
    let memory = rig.store.zone.unlocked();
    let cell = memory.find(key, memory.hash(key).unwrap()).unwrap().unwrap();
    memory.record(cell).unwrap().group_len.set(u32::MAX);
    assert_eq!(rig.store.copies().find(1, 0, &mut Vec::new()), Err(Corrupt));
}

/// A zone that was rebuilt has neither links that lead nowhere nor cells that are neither used nor free.
#[test]
fn nothing_is_lost_when_links_are_cut() {
    let used = |rig: &Rig| {
        let usage = rig.store.usage().unwrap();
        usage.cells - usage.free_cells
    };
    for damage in [
        |message: &Message, _: &Record| message.offset.set(7),
        |message: &Message, _: &Record| message.serial.set(0),
        |message: &Message, _: &Record| message.tail.set(0),
        |message: &Message, _: &Record| message.cells.set(1),
        |message: &Message, _: &Record| message.data_len.set(u32::MAX),
        |message: &Message, _: &Record| message.tag.set(0),
        |_: &Message, record: &Record| record.upcoming.set(9),
        |_: &Message, record: &Record| record.cells.set(9),
        |_: &Message, record: &Record| record.group.set(0),
    ] {
        let rig = Rig::new(LEN);
        let slot = rig.claim(7);
        rig.subscribe("a", slot, 1);
        for _ in 0..3 {
            rig.publish("a", &[b'x'; 1_000]);
        }
        let before = used(&rig);
        let (_, record) = record(&rig, "a");
        let memory = rig.store.zone.unlocked();
        let second = memory.message(Cell::new(record.oldest.get()).unwrap()).unwrap().after.get();
        damage(memory.message(Cell::new(second).unwrap()).unwrap(), record);
        rig.store.distrust().unwrap();
        rig.check();
        assert!(used(&rig) < before);
    }
}

/// A repair that fails would fail for ever: nothing could be done with the zone until the next restart.
#[test]
fn what_cannot_be_is_repaired() {
    for damage in 0..5 {
        let rig = Rig::new(LEN);
        let slot = rig.claim(7);
        let terms = Terms { presence: b"me", ..TERMS };
        rig.store.log().subscribe(key("a"), slot, Token(1), terms, rig.now()).unwrap();
        rig.store.programs().attach(key("a"), slot, rig.now()).unwrap().unwrap();
        rig.publish("a", b"x");
        let memory = rig.store.zone.unlocked();
        let (cell, record) = record(&rig, "a");
        let interest = memory.interest_of(cell, slot.number()).unwrap().unwrap();
        match damage {
            0 => memory.header().unwrap().fresh.set(u32::MAX),
            1 => interest.slot.set(99),
            2 => memory.present(Cell::new(record.presence.get()).unwrap()).unwrap().slot.set(99),
            3 => memory.program(Cell::new(record.program.get()).unwrap()).unwrap().owner.set(99),
            _ => interest.count.set(u32::MAX),
        }
        rig.store.distrust().unwrap();
        let used = rig.store.usage();
        assert!(used.is_ok(), "damage {damage}: {used:?}");
        rig.publish("a", b"y");
    }
}

/// Behind the newest message there is nothing to be lost.
#[test]
fn a_link_behind_the_newest_message() {
    let rig = Rig::new(LEN);
    let slot = rig.claim(7);
    let channel = rig.subscribe("a", slot, 1).channel;
    for data in [b"x", b"y"] {
        rig.publish("a", data);
    }
    let (cell, record) = record(&rig, "a");
    let newest = rig.store.zone.unlocked().message(Cell::new(record.newest.get()).unwrap()).unwrap();
    newest.after.set(cell.number());
    rig.store.distrust().unwrap();
    rig.check();
    assert_eq!(rig.read(channel, 1).0.len(), 2);
}

/// Nothing comes after the last cell of a chain.
#[test]
fn a_link_behind_the_last_cell() {
    let rig = Rig::new(LEN);
    rig.publish("a", b"x");
    let (cell, record) = record(&rig, "a");
    let memory = rig.store.zone.unlocked();
    for last in [cell, Cell::new(record.oldest.get()).unwrap()] {
        memory.cell::<CellHead>(last).unwrap().next.set(77);
    }
    rig.store.distrust().unwrap();
    rig.check();
}

/// Of two messages with the same serial one would be lost to who has a position in many channels that is at the other.
#[test]
fn a_serial_that_two_messages_have() {
    let rig = Rig::new(LEN);
    for id in ["a", "b", "a"] {
        rig.publish(id, b"x");
    }
    let memory = rig.store.zone.unlocked();
    let serial = |id| {
        let oldest = memory.message(Cell::new(record(&rig, id).1.oldest.get()).unwrap()).unwrap();
        &oldest.serial
    };
    serial("b").set(serial("a").get());
    rig.store.distrust().unwrap();
    rig.check();
    assert!(serial("a").get() > 3 && serial("b").get() > 3, "they are after every position that there was");
}

/// A worker that has no news of any program does not look at this one.
#[test]
fn news_of_a_program_for_a_worker_that_has_no_part_in_it() {
    let rig = Rig::new(LEN);
    let slots = [rig.claim(7), rig.claim(8)];
    rig.subscribe("a", slots[0], 1);
    rig.store.programs().attach(key("a"), slots[0], rig.now()).unwrap().unwrap();
    let memory = rig.store.zone.unlocked();
    let program = memory.program(Cell::new(record(&rig, "a").1.program.get()).unwrap()).unwrap();
    memory.news_slots(program).unwrap().put(slots[1].number(), true);
    rig.store.distrust().unwrap();
    rig.check();
}
