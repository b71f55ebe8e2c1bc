// SPDX-License-Identifier: Apache-2.0

//! A full zone.

use super::*;
use crate::channel::fail::{Hit, arm, disarm, stopped};
use crate::channel::zone::cells::cells_for;
use crate::channel::zone::idle::Idle;
use crate::channel::zone::layout::INLINE_MESSAGE;
use crate::channel::zone::log::NOTHING;
use crate::channel::zone::room::reserve;

const LEN: usize = 424_800;

const FOREVER: History = History { length: 0, time: 0 };

/// Data of a message that takes so many cells, its content type included.
fn cells(count: usize) -> Vec<u8> {
    let len = (INLINE_MESSAGE + (count - 1) * 248).saturating_sub(b"text/plain".len());
    assert_eq!(cells_for(len + b"text/plain".len(), INLINE_MESSAGE), count);
    vec![b'x'; len]
}

/// Cells that messages and their channels may take.
fn for_messages(rig: &Rig) -> u32 {
    let total = rig.store.usage().unwrap().cells;
    total - reserve(total as usize) as u32
}

/// Cells that messages and their channels may still take.
fn left_for_messages(rig: &Rig) -> u32 {
    let taken = rig.store.zone.view(|memory| {
        let header = memory.header()?;
        Ok(header.kept_cells.get() + header.message_cells.get())
    });
    for_messages(rig) - taken.unwrap()
}

fn stored(rig: &Rig, id: &str) -> u32 {
    rig.info(id).map_or(0, |info| info.messages)
}

#[test]
fn the_publishing_channels_oldest_go_first() {
    let rig = Rig::new(LEN);
    rig.try_publish("old", &cells(1), FOREVER).unwrap();
    let total = for_messages(&rig);
    while left_for_messages(&rig) > 0 {
        rig.try_publish("a", &cells(1), FOREVER).unwrap();
    }
    let full = stored(&rig, "a");
    assert_eq!(full, total - 4, "two channels, their group and the other message");
    for _ in 0..10 {
        let published = rig.try_publish("a", &cells(1), FOREVER).unwrap();
        assert_eq!(published.info.messages, full);
        rig.check();
    }
    assert_eq!(stored(&rig, "old"), 1);
    assert_eq!((rig.store.usage().unwrap().evicted, left_for_messages(&rig)), (10, 0));
}

#[test]
fn then_the_oldest_of_the_zone() {
    let rig = Rig::new(LEN);
    let mut channels = 0;
    while left_for_messages(&rig) >= 3 {
        for _ in 0..2 {
            rig.try_publish(&channels.to_string(), &cells(1), FOREVER).unwrap();
        }
        channels += 1;
    }
    // Whoever was published to longest ago loses, and no more than is needed.
    let left = |rig: &Rig| (0..6).map(|n| stored(rig, &n.to_string())).collect::<Vec<_>>();
    let free = left_for_messages(&rig);
    rig.try_publish("new", &cells(4), FOREVER).unwrap();
    // Four cells for the message, one for the channel; two messages and their channel make three.
    assert_eq!((free, left(&rig)), (1, vec![0, 1, 2, 2, 2, 2]));
    rig.check();
    // The new channel has more than its share, so it loses its message first, and then the others go on.
    rig.try_publish("new", &cells(8), FOREVER).unwrap();
    assert_eq!(stored(&rig, "new"), 1);
    assert_eq!(left(&rig), [0, 0, 0, 2, 2, 2]);
    assert_eq!(rig.info("0"), None, "an empty channel that nobody uses goes with its last message");
    rig.check();
}

#[test]
fn a_channel_has_a_share_beside_large_ones_that_rest() {
    let rig = Rig::new(LEN);
    rig.try_publish("large", &cells(2), FOREVER).unwrap();
    while left_for_messages(&rig) > 1 {
        rig.try_publish("large", &cells(2), FOREVER).unwrap();
    }
    for n in 1..=20 {
        let published = rig.try_publish("live", &cells(1), FOREVER).unwrap();
        assert_eq!(published.info.messages, n, "it grows");
        rig.check();
    }
    // Whatever it publishes, it does not empty the other one.
    for _ in 0..3 * for_messages(&rig) {
        rig.try_publish("live", &cells(1), FOREVER).unwrap();
    }
    rig.check();
    let (live, large) = (stored(&rig, "live"), 2 * stored(&rig, "large"));
    let share = for_messages(&rig) / 3;
    assert!((share..=share + 1).contains(&live), "{live} of {share}: two channels and their group");
    assert!(large >= share, "{large} of {}", for_messages(&rig));
}

#[test]
fn what_a_channel_grows_by_comes_from_those_with_more_than_their_share() {
    let rig = Rig::new(LEN);
    for _ in 0..5 {
        rig.try_publish("quiet", &cells(1), FOREVER).unwrap();
    }
    while left_for_messages(&rig) > 1 {
        rig.try_publish("loud", &cells(2), FOREVER).unwrap();
    }
    for n in 1..=20 {
        let published = rig.try_publish("live", &cells(1), FOREVER).unwrap();
        assert_eq!((published.info.messages, stored(&rig, "quiet")), (n, 5));
        rig.check();
    }
}

#[test]
fn a_channel_of_large_messages_has_its_share_in_octets() {
    let rig = Rig::new(LEN);
    for n in 0..for_messages(&rig) {
        rig.try_publish("small", &n.to_le_bytes(), FOREVER).unwrap();
    }
    for _ in 0..200 {
        rig.try_publish("large", &cells(20), FOREVER).unwrap();
    }
    rig.check();
    let share = for_messages(&rig) / 3;
    assert!((share - 40..=share).contains(&(20 * stored(&rig, "large"))), "{} of {share}", stored(&rig, "large"));
    assert!(stored(&rig, "small") >= share);
}

#[test]
fn but_before_that_whatever_has_expired() {
    let rig = Rig::new(LEN);
    rig.try_publish("oldest", &cells(1), FOREVER).unwrap();
    let mut channels = 0;
    while left_for_messages(&rig) >= 2 {
        rig.try_publish(&channels.to_string(), &cells(1), History { length: 1, time: 5000 }).unwrap();
        channels += 1;
    }
    rig.pass(6000);
    rig.try_publish("new", &cells(2), FOREVER).unwrap();
    assert_eq!(stored(&rig, "oldest"), 1);
    assert_eq!(rig.store.usage().unwrap().evicted, 0);
    rig.check();
}

#[test]
fn a_message_fits_as_long_as_everything_else_can_go() {
    let rig = Rig::new(LEN);
    let total = for_messages(&rig) as usize;
    let one = rig.claim(11);
    rig.subscribe("watched", one, 0);
    for n in 0..2000 {
        rig.publish(&(n % 300).to_string(), &[0; 100]);
    }
    // The channel itself takes one cell, and its group another one.
    let most = cells(total - 2);
    let published = rig.try_publish("big", &most, FOREVER).unwrap();
    assert_eq!(rig.read(published.channel, 1).0[0].data(), most);
    rig.check();
    assert_eq!(rig.store.usage().unwrap().messages, 1);
    assert_eq!(rig.info("watched").unwrap().subscribers, 1);
    assert_eq!(rig.try_publish("big", &cells(total), FOREVER), Err(PublishError::TooLarge));
    assert_eq!(rig.store.usage().unwrap().messages, 1, "nothing goes for what can never fit");
    assert_eq!(rig.try_publish("new", &cells(total), FOREVER), Err(PublishError::TooLarge));
    rig.try_publish("big", &most, FOREVER).unwrap();
    rig.check();
}

#[test]
fn unread_news_do_not_hold_up_a_full_zone() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    rig.subscribe("a", one, 3);
    let count = rig.store.usage().unwrap().cells + 50;
    for n in 0..count {
        rig.try_publish("a", &n.to_le_bytes(), History { length: 2, time: 0 }).unwrap();
    }
    rig.check();
    let news = messages(&rig.drain(one), 3);
    // All but a cell of the channel and one of its group.
    let first = count - (for_messages(&rig) - 2);
    let expected: Vec<_> = (first..count).map(|n| (u64::from(n) + 1, n.to_le_bytes().to_vec())).collect();
    assert_eq!(news, expected, "the worker sees by the offsets what it has lost");
    rig.pass(1000);
    rig.store.tend(rig.now(), 1).unwrap();
    assert_eq!(rig.store.usage().unwrap().messages, 2);
    rig.check();
}

/// The messages of a hundred channels that others must not lose, in a zone that is full.
fn full_of_messages(rig: &Rig) -> Vec<String> {
    let mut ids = Vec::new();
    while left_for_messages(rig) >= 4 {
        ids.push(format!("kept {}", ids.len()));
        for _ in 0..3 {
            rig.try_publish(ids.last().unwrap(), &cells(1), FOREVER).unwrap();
        }
    }
    rig.check();
    ids
}

fn all_are_there(rig: &Rig, ids: &[String]) {
    rig.check();
    assert!(ids.iter().all(|id| stored(rig, id) == 3));
    assert_eq!(rig.store.usage().unwrap().evicted, 0);
}

#[test]
fn who_only_subscribes_costs_nobody_a_message() {
    let rig = Rig::new(LEN);
    let ids = full_of_messages(&rig);
    let slots: Vec<Slot> = (1..=8).map(|pid| rig.claim(pid)).collect();
    let named = Terms { presence: b"somebody", ..TERMS };
    // Channels and groups that nobody else uses, left at once.
    for n in 0..5000_u32 {
        let (group, id) = (format!("group {}", n % 1000), n.to_string());
        let key = Key::new(group.as_bytes(), id.as_bytes()).unwrap();
        let terms = if n % 2 == 0 { TERMS } else { named };
        let subscribed = rig.store.log().subscribe(key, slots[n as usize % 8], Token(n), terms, rig.now()).unwrap();
        rig.store.log().unsubscribe(subscribed.channel, slots[n as usize % 8], subscribed.present, rig.now()).unwrap();
    }
    all_are_there(&rig, &ids);
    // And such that are not left.
    let mut refused = 0;
    for n in 0..5000_u32 {
        let id = format!("held {n}");
        let subscribed = rig.store.log().subscribe(key(&id), slots[n as usize % 8], Token(n), TERMS, rig.now());
        refused += u32::from(subscribed == Err(SubscribeError::NoRoom));
    }
    assert!(refused > 0, "they have a bounded share");
    all_are_there(&rig, &ids);
    // There is room for those who say who they are nevertheless, and for workers of channels that are published to.
    rig.store.log().subscribe(key(&ids[0]), slots[0], Token(6001), named, rig.now()).unwrap();
    while rig.store.log().subscribe(key(&ids[0]), slots[0], Token(6001), named, rig.now()).is_ok() {}
    for (nth, slot) in slots.iter().enumerate() {
        rig.subscribe(&ids[1], *slot, 7000 + nth as u32);
    }
    all_are_there(&rig, &ids);
    // What is published now has the room that messages have always had.
    while left_for_messages(&rig) > 0 {
        rig.try_publish(&ids[5], &cells(1), FOREVER).unwrap();
    }
    let full = stored(&rig, &ids[5]);
    rig.try_publish(&ids[5], &cells(1), FOREVER).unwrap();
    assert_eq!((stored(&rig, &ids[5]), rig.store.usage().unwrap().evicted), (full, 1));
    // They go, and there is room for others.
    for slot in slots {
        rig.store.release(slot).unwrap();
    }
    let slot = rig.claim(99);
    for n in 0..100 {
        rig.subscribe(&format!("new {n}"), slot, n);
    }
    rig.check();
}

#[test]
fn unused_channels_go_before_messages() {
    let rig = Rig::new(LEN);
    // Channels that have had a message which is not kept any more.
    let mut n = 0;
    while left_for_messages(&rig) >= 300 {
        rig.try_publish(&format!("past {n}"), b"x", History { length: 1, time: 10 }).unwrap();
        rig.pass(20);
        rig.info(&format!("past {n}"));
        n += 1;
    }
    rig.try_publish("kept", &cells(2), FOREVER).unwrap();
    rig.try_publish("large", &cells(600), FOREVER).unwrap();
    assert_eq!((stored(&rig, "kept"), rig.store.usage().unwrap().evicted), (1, 0));
    assert_eq!(
        (rig.info("past 0"), rig.info(&format!("past {}", n - 1)).is_some()),
        (None, true),
        "the oldest of them"
    );
    rig.check();
}

#[test]
fn what_a_live_subscriber_is_still_to_be_given_goes_last() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    rig.subscribe("watched", one, 3);
    for _ in 0..20 {
        rig.try_publish("watched", &cells(1), FOREVER).unwrap();
    }
    // To channels that nobody listens to, until everything of the zone has been evicted more than once.
    for n in 0..10_000 {
        rig.try_publish(&format!("flood {}", n % 50), &cells(1), FOREVER).unwrap();
    }
    rig.check();
    assert_eq!(messages(&rig.drain(one), 3).len(), 20);
    // The worker has them now: they are like any others.
    for n in 0..3000 {
        rig.try_publish(&format!("flood {n}"), &cells(1), FOREVER).unwrap();
    }
    assert_eq!(stored(&rig, "watched"), 0);
    rig.check();
}

#[test]
fn what_is_undone_is_a_matter_of_the_step() {
    let rig = Rig::new(32 << 20);
    for n in 0..60_000 {
        rig.publish(&(n % 6000).to_string(), b"x");
    }
    for point in [3, 20, 40] {
        arm(point, Hit::Unwind);
        assert!(stopped(|| {
            rig.publish("5", b"never");
        }));
        // No more writes than a step has.
        arm(300, Hit::Unwind);
        assert_eq!(rig.store.usage().unwrap().messages, 60_000);
        assert!(disarm(), "it was not reached");
    }
    // A step of many thousand cells, and one of many thousand messages.
    let large = vec![7; 4 << 20];
    arm(50, Hit::Unwind);
    assert!(stopped(|| {
        rig.try_publish("large", &large, FOREVER).unwrap();
    }));
    arm(300, Hit::Unwind);
    rig.store.usage().unwrap();
    assert!(disarm());
    rig.pass(4_000_000);
    arm(20_000, Hit::Unwind);
    assert!(stopped(|| {
        rig.store.tend(rig.now(), usize::MAX).unwrap();
    }));
    arm(5000, Hit::Unwind);
    rig.store.usage().unwrap();
    assert!(disarm());
    rig.check();
}

#[test]
fn channels_that_keep_nothing_go_before_messages() {
    let rig = Rig::new(LEN);
    let ids = full_of_messages(&rig);
    // Each is there for a moment only: the next one takes its place, and nobody loses a message.
    for n in 0..2000 {
        rig.try_publish(&format!("passing {n}"), b"x", History { length: NOTHING, time: 0 }).unwrap();
    }
    all_are_there(&rig, &ids);
}

#[test]
fn who_makes_room_and_is_killed_before_it_is_used_stays_on_the_list() {
    let rig = Rig::new(1 << 17);
    let slot = rig.claim(7);
    let ids = ["own", "other"];
    for id in ids {
        let subscribed = rig.subscribe(id, slot, 1);
        rig.store.log().unsubscribe(subscribed.channel, slot, None, rig.now()).unwrap();
    }
    let memory = rig.store.zone.unlocked();
    let [own, other] = ids.map(|id| memory.find(key(id), memory.hash(key(id)).unwrap()).unwrap().unwrap());
    // Both are on it, in this order.
    rig.store.zone.update(|memory| memory.list_idle(own).and_then(|()| memory.list_idle(other))).unwrap();
    let remove = || rig.store.zone.update(|memory| memory.remove_idle(Idle::NeverPublished, Some(own))).unwrap();
    assert!(remove(), "the other one has gone");
    rig.check();
    assert!(!remove(), "its own does not go");
    rig.check();
    assert!(rig.store.zone.update(|memory| memory.remove_idle(Idle::NeverPublished, None)).unwrap());
    rig.check();
}
