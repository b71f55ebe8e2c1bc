// SPDX-License-Identifier: Apache-2.0

//! What groups have and may have.

use super::*;

const LEN: usize = 1 << 20;

const CHANGE: GroupChange =
    GroupChange { channels: Change::Keep, subscribers: Change::Keep, messages: Change::Keep, bytes: Change::Keep };

#[test]
fn groups_know_what_they_have() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let other = Key::new(b"other", b"a").unwrap();
    let used = |name: &[u8]| rig.store.groups().info(name, NO_LIMITS, rig.now()).unwrap().used;
    assert_eq!(used(b"group"), GroupUse::default());
    for n in 0..15 {
        rig.publish("a", &[0; 10]);
        rig.publish("b", &[0; 5]);
        if n % 5 == 0 {
            rig.subscribe("a", one, 1);
        }
    }
    let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
    rig.store.log().publish(other, &publication, policy(KEEP), rig.now()).unwrap();
    rig.drain(one);
    assert_eq!(used(b"group"), GroupUse { channels: 2, subscribers: 3, messages: 20, bytes: 150 });
    assert_eq!(used(b"other"), GroupUse { channels: 1, subscribers: 0, messages: 1, bytes: 1 });
    // The worker dies; its subscribers are gone as soon as their channel is looked at.
    rig.store.claim(Process { pid: 12, start: 1 }, |_| false).unwrap();
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    assert_eq!(used(b"group").subscribers, 0);
    rig.store.log().delete(key("a"), rig.now()).unwrap();
    assert_eq!(used(b"group"), GroupUse { channels: 1, subscribers: 0, messages: 10, bytes: 50 });
    rig.store.log().delete(key("b"), rig.now()).unwrap();
    rig.store.log().delete(other, rig.now()).unwrap();
    rig.check();
    let usage = rig.store.usage().unwrap();
    assert_eq!(usage.free_cells, usage.cells, "an empty group needs nothing");
}

#[test]
fn groups_have_limits_for_what_is_new() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let location = GroupLimits { channels: 2, subscribers: 2, messages: 5, bytes: 100 };
    let publish = |id: &str, len: usize, length: u32| {
        let data = vec![0; len];
        let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[&data] };
        let policy = Policy { history: History { length, time: 0 }, group: location };
        rig.store.log().publish(key(id), &publication, policy, rig.now()).map(|published| published.id.offset.0)
    };
    let subscribe = |id: &str| {
        let terms = Terms { group: location, ..TERMS };
        rig.store.log().subscribe(key(id), one, Token(0), terms, rig.now()).map(|subscribed| subscribed.channel)
    };
    assert_eq!(publish("a", 10, 3), Ok(1));
    assert!(subscribe("b").is_ok());
    assert_eq!(publish("c", 10, 3), Err(PublishError::Group), "a third channel");
    assert_eq!(subscribe("c"), Err(SubscribeError::Group));
    assert!(subscribe("a").is_ok());
    assert_eq!(subscribe("a"), Err(SubscribeError::Group), "a third subscriber");
    rig.drain(one);
    for n in 2..=9 {
        assert_eq!(publish("a", 10, 3), Ok(n), "a message in the place of another one");
        rig.drain(one);
    }
    assert_eq!((publish("b", 10, 3), publish("b", 10, 3)), (Ok(1), Ok(2)));
    assert_eq!(publish("b", 10, 3), Err(PublishError::Group), "a sixth message");
    assert_eq!(publish("a", 61, 3), Err(PublishError::Group), "too many octets");
    assert_eq!(publish("a", 60, 3), Ok(10));
    rig.check();
    // What is set holds for all locations, until it is unset.
    let set = GroupChange { channels: Change::To(3), messages: Change::To(6), bytes: Change::To(0), ..CHANGE };
    rig.store.groups().limit(b"group", set, rig.now()).unwrap();
    let limits = |name: &[u8]| rig.store.groups().info(name, location, rig.now()).unwrap().limits;
    assert_eq!(limits(b"group"), GroupLimits { channels: 3, messages: 6, bytes: 0, ..location });
    assert_eq!(publish("b", 10_000, 3), Ok(3));
    assert_eq!(publish("c", 1, 3), Err(PublishError::Group), "a seventh message");
    assert_eq!(subscribe("c"), Err(SubscribeError::Group), "what was not set is as the location says");
    let more = GroupChange { subscribers: Change::To(3), channels: Change::Location, ..CHANGE };
    rig.store.groups().limit(b"group", more, rig.now()).unwrap();
    assert_eq!(limits(b"group"), GroupLimits { subscribers: 3, messages: 6, bytes: 0, ..location });
    assert_eq!(subscribe("c"), Err(SubscribeError::Group), "a third channel");
    assert!(subscribe("a").is_ok());
    rig.store.groups().limit(b"group", GroupChange::LOCATION, rig.now()).unwrap();
    assert_eq!(limits(b"group"), location);
    rig.store.groups().limit(b"nobody", GroupChange::LOCATION, rig.now()).unwrap();
    rig.store.groups().limit(b"nobody", CHANGE, rig.now()).unwrap();
    rig.store.groups().limit(b"somebody", set, rig.now()).unwrap();
    assert_eq!(limits(b"somebody").messages, 6, "a group may have limits and nothing else");
    rig.check();
    rig.store.groups().limit(b"somebody", GroupChange::LOCATION, rig.now()).unwrap();
    rig.check();
}

#[test]
fn what_is_gone_counts_no_more() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let location = GroupLimits { channels: 3, subscribers: 2, messages: 3, bytes: 0 };
    let publish = |id: &str, time: u64| {
        let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
        let policy = Policy { history: History { length: 10, time }, group: location };
        rig.store.log().publish(key(id), &publication, policy, rig.now()).map(|published| published.id.offset.0)
    };
    let subscribe = |id: &str, slot: Slot| {
        let terms = Terms { group: location, ..TERMS };
        rig.store.log().subscribe(key(id), slot, Token(0), terms, rig.now()).map(|subscribed| subscribed.channel)
    };
    subscribe("a", one).unwrap();
    subscribe("b", one).unwrap();
    assert_eq!(subscribe("b", one), Err(SubscribeError::Group));
    // The worker is killed. Nobody has looked at its channels when its successor gets their subscribers.
    let two = rig.store.claim(Process { pid: 12, start: 1 }, |_| false).unwrap().slot;
    assert!(subscribe("b", two).is_ok());
    assert!(subscribe("b", two).is_ok());
    assert_eq!(subscribe("b", two), Err(SubscribeError::Group));
    assert_eq!(rig.store.groups().info(b"group", location, rig.now()).unwrap().used.subscribers, 2);
    rig.check();
    // Messages whose time is over make room for others, in other channels too, and so does a channel that is deleted though
    // its subscribers have not been told yet.
    assert_eq!((publish("a", 2000), publish("a", 2000), publish("c", 0)), (Ok(1), Ok(2), Ok(1)));
    assert_eq!(publish("c", 0), Err(PublishError::Group));
    rig.drain(two);
    rig.pass(3000);
    assert_eq!((publish("c", 0), publish("c", 0)), (Ok(2), Ok(3)));
    assert_eq!(publish("c", 0), Err(PublishError::Group));
    assert_eq!(publish("d", 0), Err(PublishError::Group));
    rig.store.log().delete(key("c"), rig.now()).unwrap();
    rig.store.log().delete(key("b"), rig.now()).unwrap();
    assert_eq!(publish("d", 0), Ok(1));
    rig.check();
    rig.drain(two);
    rig.check();
    assert_eq!(rig.store.groups().info(b"group", location, rig.now()).unwrap().used.subscribers, 0);
}

#[test]
fn what_is_evicted_counts_no_more() {
    let rig = Rig::new(LEN);
    let total = rig.store.usage().unwrap().cells;
    let forever = History { length: 0, time: 0 };
    for n in 0..2 * total {
        rig.try_publish(&(n % 7).to_string(), &[0; 100], forever).unwrap();
    }
    let GroupUse { channels, messages, bytes, .. } =
        rig.store.groups().info(b"group", NO_LIMITS, rig.now()).unwrap().used;
    let usage = rig.store.usage().unwrap();
    assert_eq!((channels, messages, bytes), (usage.channels, usage.messages, usage.bytes));
    assert!(usage.evicted > 0);
    rig.check();
}

#[test]
fn a_group_is_deleted_with_all_its_channels() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let other = Key::new(b"other", b"a").unwrap();
    let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
    rig.store.log().publish(other, &publication, policy(KEEP), rig.now()).unwrap();
    let subscribed = rig.subscribe("3", one, 4);
    for n in 0..500 {
        rig.publish(&n.to_string(), b"x");
    }
    let limits = GroupChange { messages: Change::To(9), ..CHANGE };
    rig.store.groups().limit(b"group", limits, rig.now()).unwrap();
    rig.drain(one);
    let (mut wake, mut from, mut steps) = (Wake::default(), Some(0), 0);
    while let Some(at) = from {
        from = rig.store.groups().delete(b"group", at, rig.now(), &mut wake).unwrap();
        rig.check();
        steps += 1;
    }
    assert!(steps > 1, "the lock is not held all the time");
    assert_eq!(wake.collect::<Vec<_>>(), [0]);
    let news = rig.drain(one);
    assert_eq!(news.last(), Some(&News::Deleted(Token(4))));
    assert!(matches!(
        rig.store.log().read(subscribed.channel, Offset(1), ALL, rig.now(), &mut Vec::new()),
        Err(ReadError::Gone)
    ));
    assert_eq!(rig.store.usage().unwrap().channels, 1);
    let info = rig.store.groups().info(b"group", NO_LIMITS, rig.now()).unwrap();
    assert_eq!(info, GroupInfo { used: GroupUse::default(), limits: NO_LIMITS });
    assert_eq!(rig.store.groups().delete(b"nobody", 0, rig.now(), &mut wake), Ok(None));
    rig.check();
}

#[test]
fn who_has_only_copies_counts_what_they_have() {
    let rig = Rig::new(LEN);
    let groups = rig.store.groups();
    let location = GroupLimits { channels: 1, subscribers: 0, messages: 3, bytes: 40 };
    let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"0123456789"] };
    let own = Policy { history: History { length: 2, time: 0 }, group: location };
    let allow = |id: &str, octets: usize, policy| groups.allow(key(id), octets, policy, rig.now()).unwrap();
    assert!(allow("a", 1000, own), "of what is not here nothing is counted");
    assert!(groups.allow_channel(key("a"), location, rig.now()).unwrap());
    rig.store.log().publish(key("a"), &publication, own, rig.now()).unwrap();
    assert!(groups.allow_channel(key("a"), location, rig.now()).unwrap(), "it is there");
    assert!(!groups.allow_channel(key("b"), location, rig.now()).unwrap());
    assert!(groups.allow_channel(key("b"), NO_LIMITS, rig.now()).unwrap());
    assert!(allow("a", 30, own) && !allow("a", 31, own));
    rig.store.log().publish(key("a"), &publication, own, rig.now()).unwrap();
    assert!(allow("a", 30, own), "in the place of another one");
    let longer = Policy { history: KEEP, ..own };
    rig.store.log().publish(key("a"), &publication, longer, rig.now()).unwrap();
    assert!(!allow("a", 1, longer), "a fourth message");
    assert!(allow("a", 1, Policy { history: History::OFF, ..own }), "what is not kept");
    let one = rig.claim(11);
    rig.subscribe("a", one, 1);
    assert_eq!(groups.subscribers(b"group"), Ok(1));
    assert_eq!(groups.subscribers(b"nobody"), Ok(0));
}

#[test]
fn the_channels_of_a_group_are_listed_once_each() {
    let rig = Rig::new(LEN);
    let slot = rig.claim(11);
    for n in 0..40 {
        rig.publish(&format!("{}/{n}", if n % 2 == 0 { "even" } else { "odd" }), b"x");
    }
    rig.subscribe("even/0", slot, 1);
    let other = Key::new(b"other", b"even/1").unwrap();
    let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
    rig.store.log().publish(other, &publication, policy(KEEP), rig.now()).unwrap();
    rig.store.log().delete(key("even/2"), rig.now()).unwrap();
    let list = |name: &str, prefix: &str, most: usize| {
        let (mut all, mut pages, mut next) = (Vec::new(), 0, Some(Page::default()));
        while let Some(page) = next {
            let mut out = Vec::new();
            next = rig.store.groups().list(name, prefix.as_bytes(), page, most, rig.now(), &mut out).unwrap();
            assert!(out.len() <= most);
            assert_eq!(next.map(|page| Page::parse(&page.to_string())), next.map(Some));
            pages += 1;
            assert!(pages < 10_000, "there is no end");
            // What comes meanwhile moves nobody else.
            rig.publish(&format!("new/{pages}/{most}/{prefix}"), b"x");
            all.extend(out);
        }
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    };
    for most in [1, 3, 1000] {
        let even: Vec<_> = list("group", "even/", most).into_iter().map(|listed| listed.id).collect();
        let mut expected: Vec<_> =
            (0..40).step_by(2).filter(|n| *n != 2).map(|n| format!("even/{n}").into_bytes()).collect();
        expected.sort();
        assert_eq!(even, expected);
        assert_eq!(list("group", "none", most), []);
        assert_eq!(list("no group", "", most), []);
    }
    let first = list("group", "even/0", 5).remove(0);
    assert_eq!((first.info.messages, first.info.subscribers), (1, 1));
    assert_eq!(list("other", "", 5).len(), 1);
    rig.check();
}

#[test]
fn a_list_counts_what_has_not_expired() {
    let rig = Rig::new(LEN);
    for n in 0..20_u8 {
        rig.try_publish("a", &[n], History { length: 0, time: 5000 }).unwrap();
        rig.try_publish("b", &[n], History { length: 3, time: 5000 }).unwrap();
        rig.pass(1000);
    }
    let counts = |rig: &Rig| {
        let (mut out, mut next) = (Vec::new(), Some(Page::default()));
        while let Some(page) = next {
            next = rig.store.groups().list(b"group", b"", page, 100, rig.now(), &mut out).unwrap();
        }
        out.sort_by(|one, other| one.id.cmp(&other.id));
        out.iter().map(|listed| listed.info.messages).collect::<Vec<_>>()
    };
    let all = counts(&rig);
    assert_eq!(all, [4, 3], "those of the last five seconds");
    rig.pass(2000);
    assert_eq!(counts(&rig), [2, 2], "nobody has dropped the others yet");
    rig.pass(5000);
    assert_eq!(counts(&rig), [0, 0]);
}

#[test]
fn a_list_of_long_ids_goes_on_where_the_memory_for_them_was_full() {
    let rig = Rig::new(32 << 20);
    let ids: Vec<String> = (0..40).map(|n| format!("{n:02}{}", "x".repeat(20_000))).collect();
    for id in &ids {
        rig.try_publish(id, b"x", KEEP).unwrap();
    }
    rig.try_publish("short", b"x", KEEP).unwrap();
    let mut out = Vec::new();
    let mut next = Some(Page::default());
    while let Some(page) = next {
        next = rig.store.groups().list(b"group", b"", page, 100, rig.now(), &mut out).unwrap();
        assert_ne!(next, Some(page), "each step gets on");
    }
    let mut found: Vec<_> = out.into_iter().map(|listed| String::from_utf8(listed.id).unwrap()).collect();
    found.sort();
    assert_eq!(found.len(), 41);
    assert_eq!(found[..40], ids);
}
