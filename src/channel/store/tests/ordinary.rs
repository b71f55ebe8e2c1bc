// SPDX-License-Identifier: Apache-2.0

//! One thing after the other.

use super::*;

const LEN: usize = 1 << 20;

#[test]
fn offsets_count_from_one_without_holes() {
    let rig = Rig::new(LEN);
    let first = rig.publish("a", b"one");
    assert_eq!(first.id.offset, Offset(1));
    for expected in 2..=30 {
        let published = rig.publish("a", b"more");
        assert_eq!(published.id, MessageId { epoch: first.id.epoch, offset: Offset(expected) });
        assert_eq!(published.info.messages, u32::try_from(expected).unwrap().min(10));
        assert_eq!(published.info.last, published.id);
    }
    assert_eq!(rig.publish("b", b"").id.offset, Offset(1), "another channel");
    rig.check();
}

#[test]
fn what_was_published_is_read() {
    let rig = Rig::new(LEN);
    let long: Vec<u8> = (0..100_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    for (len, kind) in [
        (0, MessageKind::Text),
        (1, MessageKind::Binary),
        (140, MessageKind::Text),
        (150, MessageKind::Text),
        (160, MessageKind::Text),
    ]
    .into_iter()
    .chain((398..420).map(|len| (len, MessageKind::Binary)))
    .chain([(70_000, MessageKind::Text), (400_000, MessageKind::Binary)])
    {
        let (left, right) = long[..len].split_at(len / 3);
        let publication = Publication { kind, content_type: b"text/x", event: b"tick", data: &[left, b"", right] };
        let published = rig.store.log().publish(key("a"), &publication, policy(KEEP), rig.now()).unwrap();
        let (messages, read) = rig.read(published.channel, published.id.offset.0);
        assert_eq!((messages.len(), read.lost, read.more), (1, 0, false));
        let message = &messages[0];
        assert_eq!(message.data(), &long[..len]);
        assert_eq!((message.content_type(), message.event()), (&b"text/x"[..], &b"tick"[..]));
        assert_eq!((message.kind, message.id, message.unix), (kind, published.id, rig.now().unix));
        assert!(message.frame().ends_with(&long[..len]));
        assert_eq!(message.frame()[0], if kind == MessageKind::Text { 0x81 } else { 0x82 });
        rig.check();
    }
}

#[test]
fn a_run_is_read_within_its_budget() {
    let rig = Rig::new(LEN);
    let published = (0..10).map(|n| rig.publish("a", &[n; 1000])).last().unwrap();
    let epoch = published.id.epoch;
    let read = |next, budget| {
        let mut out = Vec::new();
        let read = rig.store.log().read(published.channel, Offset(next), budget, rig.now(), &mut out).unwrap();
        (out.iter().map(|message| message.id.offset.0).collect::<Vec<_>>(), read)
    };
    let three = Budget { messages: 3, octets: usize::MAX };
    assert_eq!(read(1, three), (vec![1, 2, 3], Read { epoch, next: Offset(4), lost: 0, more: true }));
    assert_eq!(read(8, three), (vec![8, 9, 10], Read { epoch, next: Offset(11), lost: 0, more: false }));
    assert_eq!(read(11, three), (vec![], Read { epoch, next: Offset(11), lost: 0, more: false }));
    assert_eq!(read(99, three), (vec![], Read { epoch, next: Offset(99), lost: 0, more: false }));
    let octets = Budget { messages: usize::MAX, octets: 1500 };
    assert_eq!(read(1, octets), (vec![1, 2], Read { epoch, next: Offset(3), lost: 0, more: true }));
    let nothing = Budget { messages: 0, octets: 0 };
    assert_eq!(read(5, nothing), (vec![5], Read { epoch, next: Offset(6), lost: 0, more: true }));
    rig.publish("a", b"11");
    assert_eq!(read(1, three), (vec![2, 3, 4], Read { epoch, next: Offset(5), lost: 1, more: true }));
}

#[test]
fn any_message_of_a_long_history_is_found() {
    let rig = Rig::new(4 * LEN);
    let history = History { length: 0, time: 0 };
    for n in 1..3000_u32 {
        rig.try_publish("a", &n.to_le_bytes(), history).unwrap();
        if n % 7 == 0 {
            rig.try_publish("a", b"", History { length: n / 2, time: 0 }).unwrap();
        }
    }
    rig.check();
    let steps = rig.store.zone.view(|memory| {
        let channel = memory.find(key("a"), memory.hash(key("a"))?)?.unwrap();
        let record = memory.record(channel)?;
        let mut worst = 0;
        for target in memory.oldest_offset(record)?..record.upcoming.get() {
            let mut steps = 0;
            let mut at = memory.message(Cell::new(record.newest.get()).unwrap())?;
            while at.offset.get() > target {
                let next = if at.jump_offset.get() >= target { at.jump.get() } else { at.before.get() };
                at = memory.message(Cell::new(next).unwrap())?;
                steps += 1;
            }
            worst = worst.max(steps);
        }
        Ok(worst)
    });
    let steps = steps.unwrap();
    assert!(steps <= 40, "{steps} steps for one of 1,500 messages");
}

#[test]
fn history_is_bounded_by_length_and_time() {
    let rig = Rig::new(LEN);
    let history = |length, time| History { length, time };
    for _ in 0..5 {
        rig.try_publish("a", b"x", history(3, 10_000)).unwrap();
        rig.pass(1000);
    }
    assert_eq!(rig.info("a").unwrap().messages, 3);
    // Published at 2, 3, 4 s; it is 5 s now.
    rig.pass(7_000);
    assert_eq!(rig.info("a").unwrap().messages, 2);
    assert_eq!(rig.try_publish("a", b"x", history(1, 10_000)).unwrap().info.messages, 1, "the last policy counts");
    rig.pass(9_999);
    assert_eq!(rig.info("a").unwrap().messages, 1);
    rig.pass(1);
    let info = rig.info("a").unwrap();
    assert_eq!((info.messages, info.last.offset), (0, Offset(6)), "the channel remembers where it was");
    rig.check();
    for _ in 0..100 {
        rig.try_publish("b", b"x", history(0, 0)).unwrap();
    }
    rig.pass(1 << 40);
    assert!(rig.store.tend(rig.now(), usize::MAX).unwrap());
    assert_eq!(rig.info("b").unwrap().messages, 100, "0 is no limit");
    assert_eq!(rig.store.usage().unwrap().channels, 1, "the other one has long been unused");
    rig.check();
}

#[test]
fn expired_messages_go_without_anybody_asking() {
    let rig = Rig::new(LEN);
    for n in 0..50_u64 {
        rig.try_publish(&n.to_string(), b"x", History { length: 10, time: 1000 + n * 10_000 }).unwrap();
    }
    for n in 0..50 {
        rig.pass(10_000);
        assert!(rig.store.tend(rig.now(), usize::MAX).unwrap());
        assert_eq!(rig.store.usage().unwrap().messages, 49 - n);
        rig.check();
    }
    rig.pass(LINGER + 1000);
    assert!(rig.store.tend(rig.now(), usize::MAX).unwrap());
    let usage = rig.store.usage().unwrap();
    assert_eq!((usage.channels, usage.free_cells), (0, usage.cells));
}

#[test]
fn little_is_done_at_a_time() {
    let rig = Rig::new(LEN);
    for n in 0..100 {
        rig.try_publish(&n.to_string(), b"x", History { length: 10, time: 1000 }).unwrap();
    }
    rig.pass(2000);
    let mut holds = 1;
    while !rig.store.tend(rig.now(), 10).unwrap() {
        holds += 1;
        rig.check();
    }
    assert_eq!(rig.store.usage().unwrap().messages, 0);
    assert!((10..=12).contains(&holds), "{holds}");
}

/// More of them have expired than one operation drops.
#[test]
fn expired_messages_are_nobodys_though_they_are_still_there() {
    let rig = Rig::new(8 << 20);
    let old = 3 * MOST_DROPS as u64;
    let keep = History { length: 0, time: 10_000 };
    for _ in 0..old {
        rig.try_publish("a", b"old", keep).unwrap();
    }
    rig.pass(9_000);
    let published = (0..5).map(|_| rig.try_publish("a", b"new", keep).unwrap()).last().unwrap();
    rig.pass(1_000);
    let channel = published.channel;
    let mut messages = Vec::new();
    let read = rig.store.log().read(channel, Offset(1), ALL, rig.now(), &mut messages).unwrap();
    assert_eq!((messages.len(), read.lost), (5, old), "whoever had got so far is told what it misses");
    assert_eq!(rig.info("a").unwrap().messages, 5);
    assert!(rig.store.usage().unwrap().messages > 5, "some are there");
    let worker = rig.claim(11);
    let window = rig.subscribe("a", worker, 7).window;
    assert_eq!(window.history, Offset(old + 1), "nobody begins with one that has expired, and is told of a gap");
    rig.pass(10_000);
    messages.clear();
    let read = rig.store.log().read(channel, Offset(old + 1), ALL, rig.now(), &mut messages).unwrap();
    assert_eq!((messages.len(), read.lost, read.next), (0, 5, Offset(old + 6)));
    assert_eq!(rig.info("a").unwrap().messages, 0);
    rig.check();
}

#[test]
fn what_has_expired_does_not_come_back_with_a_message_that_is_kept_longer() {
    let rig = Rig::new(8 << 20);
    let old = 3 * MOST_DROPS as u64;
    for (id, longer) in [("a", 3_600_000), ("b", 0)] {
        for _ in 0..old {
            rig.try_publish(id, b"old", History { length: 0, time: 10_000 }).unwrap();
        }
        rig.pass(10_000);
        let published = rig.try_publish(id, b"new", History { length: 0, time: longer }).unwrap();
        assert_eq!((published.id.offset, published.info.messages), (Offset(old + 1), 1));
        rig.check();
    }
}

/// However few channels there are: after a reload, and after a worker was lost, each of them is looked for.
#[test]
fn channels_of_a_worker_that_is_gone_are_looked_for_a_part_at_a_time() {
    let rig = Rig::new(64 << 20);
    rig.publish("a", b"x");
    let slot = rig.claim(11);
    rig.subscribe("a", slot, 7);
    rig.store.release(slot).unwrap();
    let mut holds = 1;
    while !rig.store.tend(rig.now(), 100).unwrap() {
        holds += 1;
    }
    let buckets = rig.store.zone.geometry().buckets;
    assert_eq!(holds, buckets.div_ceil(100 * 64), "{buckets} buckets");
    assert_eq!(rig.info("a").unwrap().subscribers, 0);
    rig.check();
}

#[test]
fn a_deleted_channel_is_another_one_afterwards() {
    let rig = Rig::new(LEN);
    let before = rig.publish("a", b"x");
    let deleted = rig.store.log().delete(key("a"), rig.now()).unwrap().unwrap();
    assert_eq!(deleted.info, before.info);
    assert!(deleted.wake.is_empty());
    assert_eq!(rig.info("a"), None);
    assert_eq!(rig.store.log().delete(key("a"), rig.now()).unwrap(), None);
    let error = rig.store.log().read(before.channel, Offset(1), ALL, rig.now(), &mut Vec::new());
    assert!(matches!(error, Err(ReadError::Gone)));
    let after = rig.publish("a", b"y");
    assert_ne!(after.id.epoch, before.id.epoch);
    assert_eq!(after.id.offset, Offset(1));
    assert!(matches!(
        rig.store.log().read(before.channel, Offset(1), ALL, rig.now(), &mut Vec::new()),
        Err(ReadError::Gone)
    ));
    let epochs: std::collections::HashSet<_> = (0..1000).map(|n| rig.publish(&n.to_string(), b"").id.epoch).collect();
    assert_eq!(epochs.len(), 1000);
    assert!(epochs.iter().all(|epoch| epoch.0 > 0 && epoch.0 < 1 << 53));
}

#[test]
fn news_reach_the_workers_with_subscribers() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    assert_eq!((one.number(), two.number()), (0, 1));
    rig.publish("a", b"before");
    let subscribed = rig.subscribe("a", one, 7);
    assert!(subscribed.first);
    assert_eq!((subscribed.window.oldest, subscribed.window.upcoming), (Offset(1), Offset(2)));
    rig.subscribe("b", one, 8);
    rig.subscribe("b", two, 9);
    let wake: Vec<_> = rig.publish("a", b"1").wake.collect();
    assert_eq!(wake, [0]);
    assert_eq!(rig.publish("a", b"2").wake.count(), 0, "woken already");
    assert_eq!(rig.publish("b", b"3").wake.collect::<Vec<_>>(), [1]);
    assert_eq!(rig.publish("b", b"4").wake.count(), 0);
    let news = rig.drain(one);
    assert_eq!(messages(&news, 7), [(2, b"1".to_vec()), (3, b"2".to_vec())]);
    assert_eq!(messages(&news, 8), [(1, b"3".to_vec()), (2, b"4".to_vec())]);
    assert_eq!(rig.drain(one), []);
    assert_eq!(rig.publish("a", b"5").wake.collect::<Vec<_>>(), [0], "asleep again");
    assert_eq!(messages(&rig.drain(two), 9).len(), 2);
    rig.check();
}

#[test]
fn a_burst_longer_than_the_history_reaches_who_is_there() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    rig.subscribe("a", one, 7);
    let short = History { length: 2, time: 0 };
    for n in 0..50_u8 {
        assert_eq!(rig.try_publish("a", &[n], short).unwrap().info.messages, u32::from(n + 1).min(2));
    }
    assert_eq!(rig.subscribe("a", one, 0).window.history, Offset(49));
    let news = rig.drain(one);
    assert_eq!(messages(&news, 7), (0..50_u8).map(|n| (u64::from(n) + 1, vec![n])).collect::<Vec<_>>());
    assert_eq!(rig.store.usage().unwrap().messages, 2, "then they go");
    rig.check();
    // A worker that has died keeps nothing.
    for n in 0..50_u8 {
        rig.try_publish("a", &[n], short).unwrap();
    }
    assert_eq!(rig.store.claim(Process { pid: 12, start: 1 }, |_| false).unwrap().cleared, 1);
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    assert_eq!(rig.store.usage().unwrap().messages, 2);
    rig.check();
}

#[test]
fn a_drain_stops_at_its_budget_and_goes_on() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    rig.subscribe("a", one, 1);
    rig.subscribe("b", one, 2);
    for n in 0..10_u8 {
        rig.publish("a", &[n]);
        rig.publish("b", &[n]);
    }
    let mut news = Vec::new();
    let mut holds = 1;
    while rig.store.log().drain(one, Budget { messages: 3, octets: usize::MAX }, rig.now(), &mut news).unwrap() {
        holds += 1;
        assert!(rig.store.log().has_news(one));
        assert_eq!(rig.publish("c", b"").wake.count(), 0);
        rig.check();
    }
    assert!(!rig.store.log().has_news(one));
    assert_eq!(holds, 7);
    for token in [1, 2] {
        assert_eq!(messages(&news, token), (0..10_u8).map(|n| (u64::from(n) + 1, vec![n])).collect::<Vec<_>>());
    }
}

#[test]
fn deletion_follows_what_was_published() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let handle = rig.subscribe("a", one, 7).channel;
    rig.subscribe("a", two, 8);
    rig.publish("a", b"1");
    assert_eq!(messages(&rig.drain(two), 8).len(), 1);
    let deleted = rig.store.log().delete(key("a"), rig.now()).unwrap().unwrap();
    assert_eq!(deleted.wake.collect::<Vec<_>>(), [1], "the first one is awake");
    assert_eq!(deleted.info.subscribers, 2);
    rig.check();
    let again = rig.subscribe("a", one, 9);
    assert_ne!(again.channel, handle);
    assert_eq!((again.token, again.first), (Token(9), true));
    let news = rig.drain(one);
    assert_eq!(messages(&news, 7), [(1, b"1".to_vec())]);
    assert_eq!(news.last(), Some(&News::Deleted(Token(7))));
    assert_eq!(rig.store.usage().unwrap().channels, 2, "the second worker has not been told yet");
    assert_eq!(rig.drain(two), [News::Deleted(Token(8))]);
    assert_eq!(rig.store.usage().unwrap().channels, 1);
    rig.store.log().unsubscribe(handle, one, None, rig.now()).unwrap();
    rig.check();
}

#[test]
fn a_deleted_channel_does_not_wait_for_the_dead() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    rig.subscribe("a", one, 7);
    rig.publish("a", b"1");
    rig.store.log().delete(key("a"), rig.now()).unwrap().unwrap();
    rig.pass(10 * LINGER);
    rig.store.tend(rig.now(), 100).unwrap();
    assert_eq!(rig.store.usage().unwrap().channels, 1);
    rig.store.claim(Process { pid: 12, start: 1 }, |_| false).unwrap();
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    let usage = rig.store.usage().unwrap();
    assert_eq!((usage.channels, usage.free_cells), (0, usage.cells));
    rig.check();
}

#[test]
fn subscribers_are_counted_over_workers() {
    let rig = Rig::new(LEN);
    let slots: Vec<_> = (1..=8).map(|pid| rig.claim(pid)).collect();
    assert_eq!(rig.store.claim(Process { pid: 9, start: 1 }, |_| true), Err(ClaimError::Full));
    let mut handle = None;
    for round in 0..3 {
        for &slot in &slots {
            let subscribed = rig.subscribe("a", slot, 5);
            assert_eq!(subscribed.first, round == 0);
            handle = Some(subscribed.channel);
            rig.check();
        }
    }
    let handle = handle.unwrap();
    assert_eq!(rig.info("a").unwrap().subscribers, 24);
    assert_eq!(rig.publish("a", b"").wake.collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    rig.store.log().unsubscribe(handle, slots[3], None, rig.now()).unwrap();
    assert_eq!(rig.info("a").unwrap().subscribers, 23);
    // Process 2 is dead.
    let claimed = rig.store.claim(Process { pid: 9, start: 1 }, |process| process.pid != 2).unwrap();
    assert_eq!((claimed.slot.number(), claimed.cleared), (1, 1));
    assert_eq!(claimed.wake.collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6, 7], "the dead one may have been about to");
    assert_eq!(rig.info("a").unwrap().subscribers, 20);
    assert!(rig.subscribe("a", claimed.slot, 6).first);
    rig.check();
    for &slot in &slots {
        for _ in 0..3 {
            rig.store.log().unsubscribe(handle, slot, None, rig.now()).unwrap();
        }
    }
    assert_eq!(rig.info("a").unwrap().subscribers, 0, "slot 1 was the new process's");
    for &slot in &slots {
        assert_eq!(rig.drain(slot), []);
        rig.check();
    }
    assert_eq!(rig.info("a").unwrap().requested, Some(0));
}

#[test]
fn requested_tells_when_a_subscriber_was_there() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    assert_eq!(rig.publish("a", b"").info.requested, None);
    let handle = rig.subscribe("a", one, 0).channel;
    rig.pass(5000);
    assert_eq!(rig.info("a").unwrap().requested, Some(0), "it still is");
    rig.store.log().unsubscribe(handle, one, None, rig.now()).unwrap();
    rig.pass(2999);
    assert_eq!(rig.info("a").unwrap().requested, Some(2));
}

#[test]
fn terms_of_a_subscription() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let subscribe = |id: &str, terms| rig.store.log().subscribe(key(id), one, Token(0), terms, rig.now());
    let published_only = Terms { create: false, max_subscribers: 0, ..TERMS };
    assert_eq!(subscribe("a", published_only), Err(SubscribeError::Missing));
    assert_eq!(rig.info("a"), None);
    let handle = subscribe("a", TERMS).unwrap().channel;
    assert_eq!(subscribe("a", published_only), Err(SubscribeError::Missing), "there, but nobody has published");
    rig.publish("a", b"");
    assert!(subscribe("a", published_only).is_ok());
    let two = Terms { create: true, max_subscribers: 2, ..TERMS };
    assert_eq!(subscribe("a", two), Err(SubscribeError::Full));
    rig.store.log().unsubscribe(handle, one, None, rig.now()).unwrap();
    assert!(subscribe("a", two).is_ok());
    assert_eq!(rig.info("a").unwrap().subscribers, 2);
    rig.check();
}

#[test]
fn an_unused_channel_disappears() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let handle = rig.subscribe("a", one, 0).channel;
    rig.pass(100 * LINGER);
    assert!(rig.store.tend(rig.now(), 100).unwrap());
    assert!(rig.info("a").is_some());
    rig.store.log().unsubscribe(handle, one, None, rig.now()).unwrap();
    rig.pass(LINGER - 1);
    assert!(rig.store.tend(rig.now(), 100).unwrap());
    assert_eq!(rig.store.usage().unwrap().channels, 1);
    rig.pass(1001);
    assert!(rig.store.tend(rig.now(), 100).unwrap());
    assert_eq!(rig.store.usage().unwrap().channels, 0);
    assert!(rig.store.log().unsubscribe(handle, one, None, rig.now()).is_ok());
    rig.check();
}

#[test]
fn keys_are_told_apart() {
    let rig = Rig::new(LEN);
    let long = vec![b'x'; 1024];
    let longer = vec![b'x'; 1025];
    let keys: [(&[u8], &[u8]); 8] = [
        (b"", b"ab"),
        (b"a", b"b"),
        (b"ab", b""),
        (b"", b""),
        (b"", b"ab\0"),
        (b"", &long),
        (b"", &longer),
        (b"x", &long),
    ];
    for (nth, (group, id)) in keys.iter().enumerate() {
        let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[&[nth as u8]] };
        for _ in 0..=nth {
            rig.store.log().publish(Key::new(group, id).unwrap(), &publication, policy(KEEP), rig.now()).unwrap();
        }
    }
    for (nth, (group, id)) in keys.iter().enumerate() {
        let info = rig.store.log().info(Key::new(group, id).unwrap(), rig.now()).unwrap().unwrap();
        assert_eq!(info.last.offset, Offset(nth as u64 + 1));
    }
    // The two without an id are none that a client could name.
    assert_eq!(rig.store.usage().unwrap().channels, 6);
    assert!(Key::new(b"", &vec![0; 70_000]).is_none());
    rig.check();
}

#[test]
fn as_many_workers_as_nginx_has_processes() {
    let region = Region::private(4 << 20).unwrap();
    let store = Store::create(region, Unshared, MAX_SLOTS, [1, 2]).unwrap();
    let rig = Rig { store, clock: std::cell::Cell::new(1_000_000) };
    // Sixty-four workers; each reload leaves those of every generation, which have clients.
    let slots: Vec<Slot> = (1..=MAX_SLOTS as u32).map(|pid| rig.claim(pid)).collect();
    for slot in &slots {
        rig.subscribe("a", *slot, 7);
    }
    let published = rig.publish("a", b"to all");
    assert_eq!((published.info.subscribers, published.wake.count()), (1024, 1024));
    for slot in &slots {
        assert_eq!(messages(&rig.drain(*slot), 7), [(1, b"to all".to_vec())]);
    }
    rig.check();
    // Slots are for the living.
    let claim = |pid, dead| rig.store.claim(Process { pid, start: 1 }, |process| process.pid != dead);
    assert_eq!(claim(5000, 0), Err(ClaimError::Full));
    for pid in 5000..5100 {
        let claimed = claim(pid, pid - 4999).unwrap();
        assert_eq!((claimed.slot.number(), claimed.cleared), ((pid - 5000) as usize, 1));
    }
    assert_eq!(rig.info("a").unwrap().subscribers, 924);
    rig.check();
}

#[test]
fn a_process_id_that_is_used_again() {
    let rig = Rig::new(LEN);
    let slot = rig.claim(11);
    rig.subscribe("a", slot, 1);
    // Where nothing is known about the beginning of processes: the one with this id is the one that asks.
    let claimed = rig.store.claim(Process { pid: 11, start: 0 }, |_| true).unwrap();
    assert_eq!((claimed.slot.number(), claimed.cleared), (0, 1));
    assert_eq!(rig.info("a").unwrap().subscribers, 0);
    assert_eq!(rig.store.workers().unwrap(), [Process { pid: 11, start: 0 }]);
}

#[test]
fn a_zone_is_found_again() {
    let len = 1 << 20;
    let region = Region::private(len).unwrap();
    let lend = || {
        // SAFETY: the memory outlives the stores of this test; `region` itself is not used.
        #[allow(unsafe_code)]
        unsafe {
            Region::lent(region.base(), len).unwrap()
        }
    };
    assert_eq!(Store::attach(lend(), Unshared).unwrap_err(), AttachError::NoZone);
    let store = Store::create(lend(), Unshared, 4, [5, 6]).unwrap();
    let now = Now { clock: 1, unix: 1 };
    let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
    let published = store.log().publish(key("a"), &publication, policy(KEEP), now).unwrap();
    let other = Store::attach(lend(), Unshared).unwrap();
    assert_eq!(other.log().info(key("a"), now).unwrap().unwrap(), published.info);
    assert_eq!(other.slots(), 4);
    region.at::<crate::channel::memory::Word>(8).unwrap().set(99);
    assert_eq!(Store::attach(lend(), Unshared).unwrap_err(), AttachError::Version { found: 99 });
    drop((store, other));
    assert_eq!(Store::create(Region::private(4096).unwrap(), Unshared, 4, [5, 6]).unwrap_err(), AttachError::Size);
}
