// SPDX-License-Identifier: Apache-2.0

//! Nothing is kept.

use super::*;

const LEN: usize = 1 << 20;

#[test]
fn nobody_is_there_and_nothing_is_stored() {
    let rig = Rig::new(LEN);
    let first = rig.try_publish("a", b"one", History::OFF).unwrap();
    for offset in 2..=50 {
        let published = rig.try_publish("a", &[0; 5000], History::OFF).unwrap();
        assert_eq!(published.id, MessageId { epoch: first.id.epoch, offset: Offset(offset) });
        assert_eq!((published.info.messages, published.info.subscribers), (0, 0));
        let usage = rig.store.usage().unwrap();
        assert_eq!((usage.messages, usage.bytes, usage.message_cells, usage.published), (0, 0, 0, offset));
    }
    rig.check();
    let window = rig.subscribe("a", rig.claim(1), 7).window;
    assert_eq!((window.oldest, window.history, window.upcoming), (Offset(51), Offset(51), Offset(51)));
    assert_eq!(rig.read(first.channel, 40).1, Read { epoch: first.id.epoch, next: Offset(51), lost: 11, more: false });
}

#[test]
fn a_message_stays_until_every_worker_has_copied_it() {
    let rig = Rig::new(LEN);
    let (one, two, other) = (rig.claim(1), rig.claim(2), rig.claim(3));
    rig.subscribe("a", one, 7);
    rig.subscribe("a", two, 8);
    rig.subscribe("b", other, 9);
    for n in 1..=30_u8 {
        let published = rig.try_publish("a", &[n; 1000], History::OFF).unwrap();
        assert_eq!(published.info.messages, 0, "they are no history");
    }
    rig.check();
    let expected: Vec<_> = (1..=30_u8).map(|n| (u64::from(n), vec![n; 1000])).collect();
    assert_eq!(messages(&rig.drain(one), 7), expected);
    assert_eq!(rig.store.usage().unwrap().messages, 30, "one has still to copy them");
    assert_eq!(messages(&rig.drain(two), 8), expected);
    assert_eq!(rig.store.usage().unwrap().messages, 0);
    rig.check();
    rig.try_publish("a", b"31", History::OFF).unwrap();
    assert_eq!(messages(&rig.drain(one), 7), [(31, b"31".to_vec())], "without holes");
    assert_eq!(messages(&rig.drain(two), 8), [(31, b"31".to_vec())]);
}

#[test]
fn what_a_worker_leaves_behind_is_dropped() {
    for killed in [false, true] {
        let rig = Rig::new(LEN);
        let slot = rig.claim(1);
        let channel = rig.subscribe("a", slot, 7).channel;
        rig.try_publish("a", b"one", History::OFF).unwrap();
        assert_eq!(rig.store.usage().unwrap().messages, 1);
        if killed {
            rig.store.claim(Process { pid: 2, start: 1 }, |process| process.pid != 1).unwrap();
            while !rig.store.tend(rig.now(), 100).unwrap() {}
        } else {
            rig.store.log().unsubscribe(channel, slot, None, rig.now()).unwrap();
            rig.drain(slot);
        }
        rig.try_publish("a", b"two", History::OFF).unwrap();
        assert_eq!(rig.store.usage().unwrap().messages, 0, "{killed}");
        rig.check();
    }
}

#[test]
fn the_publisher_decides_at_each_message() {
    let rig = Rig::new(4 * LEN);
    for n in 0..3000_u32 {
        rig.try_publish("a", &n.to_le_bytes(), History { length: 0, time: 0 }).unwrap();
    }
    let mut published = None;
    for _ in 0..4 {
        published = Some(rig.try_publish("a", b"off", History::OFF).unwrap());
        rig.check();
    }
    let published = published.unwrap();
    assert_eq!((published.id.offset, rig.store.usage().unwrap().messages), (Offset(3004), 0), "what was kept has gone");
    let kept = rig.publish("a", b"kept");
    assert_eq!((kept.id.offset, kept.info.messages), (Offset(3005), 1));
    assert_eq!(rig.read(kept.channel, 3000).1, Read { epoch: kept.id.epoch, next: Offset(3006), lost: 5, more: false });
    rig.check();
}

#[test]
fn nothing_goes_for_what_is_not_stored() {
    let rig = Rig::new(LEN);
    let mut n = 0;
    while rig.store.usage().unwrap().evicted == 0 {
        rig.try_publish(&format!("full {}", n % 9), &[0; 4000], History { length: 0, time: 0 }).unwrap();
        n += 1;
    }
    let before = rig.store.usage().unwrap();
    rig.publish("a", b"");
    let before = (before.evicted.max(rig.store.usage().unwrap().evicted), rig.store.usage().unwrap().messages - 1);
    for _ in 0..100 {
        rig.try_publish("a", &[0; 100_000], History::OFF).unwrap();
    }
    let after = rig.store.usage().unwrap();
    assert_eq!((after.evicted, after.messages), before);
    let most = vec![0; LEN];
    assert_eq!(rig.try_publish("a", &most, History::OFF), Err(PublishError::TooLarge), "it could never reach anybody");
    rig.check();
}

#[test]
fn groups_are_charged_for_nothing() {
    let rig = Rig::new(LEN);
    let group = GroupLimits { channels: 1, messages: 1, bytes: 10, ..NO_LIMITS };
    let publish = |id, history| {
        let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[&[0; 100]] };
        rig.store
            .log()
            .publish(key(id), &publication, Policy { history, group }, rig.now())
            .map(|published| published.id.offset.0)
    };
    assert_eq!(publish("a", KEEP), Err(PublishError::Group));
    assert_eq!([publish("a", History::OFF), publish("a", History::OFF)], [Ok(1), Ok(2)]);
    assert_eq!(publish("b", History::OFF), Err(PublishError::Group), "one channel");
    rig.check();
}

#[test]
fn lengths_are_never_nothing() {
    assert_eq!(History::of(u64::from(u32::MAX), 5), History { length: u32::MAX - 1, time: 5 });
    assert_eq!(History::of(u64::MAX, 0).length, u32::MAX - 1);
    assert_eq!(History::of(0, 0).length, 0);
}
