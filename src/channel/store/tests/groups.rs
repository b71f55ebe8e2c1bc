//! What groups have and may have.

use super::*;

const LEN: usize = 1 << 20;

#[test]
fn groups_know_what_they_have() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let other = Key::new(b"other", b"a").unwrap();
    let used = |name: &[u8]| rig.store.group(name, NO_LIMITS).unwrap().used;
    assert_eq!(used(b"group"), GroupUse::default());
    for n in 0..15 {
        rig.publish("a", &[0; 10]);
        rig.publish("b", &[0; 5]);
        if n % 5 == 0 {
            rig.subscribe("a", one, 1);
        }
    }
    let publication = Publication { kind: Kind::Text, content_type: b"", event: b"", data: &[b"x"] };
    rig.store.publish(other, &publication, policy(KEEP), rig.now()).unwrap();
    rig.drain(one);
    assert_eq!(used(b"group"), GroupUse { channels: 2, subscribers: 3, messages: 20, bytes: 150 });
    assert_eq!(used(b"other"), GroupUse { channels: 1, subscribers: 0, messages: 1, bytes: 1 });
    // The worker dies; its subscribers are gone as soon as their channel is looked at.
    rig.store.claim(Process { pid: 12, start: 1 }, |_| false).unwrap();
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    assert_eq!(used(b"group").subscribers, 0);
    rig.store.delete(key("a"), rig.now()).unwrap();
    assert_eq!(used(b"group"), GroupUse { channels: 1, subscribers: 0, messages: 10, bytes: 50 });
    rig.store.delete(key("b"), rig.now()).unwrap();
    rig.store.delete(other, rig.now()).unwrap();
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
        let publication = Publication { kind: Kind::Text, content_type: b"", event: b"", data: &[&data] };
        let policy = Policy { history: History { length, time: 0 }, group: location };
        rig.store.publish(key(id), &publication, policy, rig.now()).map(|published| published.id.offset.0)
    };
    let subscribe = |id: &str| {
        let terms = Terms { group: location, ..TERMS };
        rig.store.subscribe(key(id), one, Token(0), terms, rig.now()).map(|subscribed| subscribed.channel)
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
    let set = GroupLimits { messages: 6, ..NO_LIMITS };
    rig.store.limit_group(b"group", Some(set), rig.now()).unwrap();
    assert_eq!(rig.store.group(b"group", location).unwrap().limits, set);
    assert!(subscribe("c").is_ok());
    assert_eq!(publish("b", 10_000, 3), Ok(3));
    assert_eq!(publish("c", 1, 3), Err(PublishError::Group));
    rig.store.limit_group(b"group", None, rig.now()).unwrap();
    assert_eq!(rig.store.group(b"group", location).unwrap().limits, location);
    rig.store.limit_group(b"nobody", None, rig.now()).unwrap();
    rig.store.limit_group(b"somebody", Some(set), rig.now()).unwrap();
    assert_eq!(rig.store.group(b"somebody", location).unwrap().limits, set, "a group may have limits and nothing else");
    rig.check();
    rig.store.limit_group(b"somebody", None, rig.now()).unwrap();
    rig.check();
}

#[test]
fn input_is_a_channel_of_its_own() {
    let rig = Rig::new(LEN);
    rig.publish("a", b"x");
    let publication = Publication { kind: Kind::Text, content_type: b"", event: b"", data: &[b"y"] };
    let input = rig.store.publish(key("a").input(), &publication, policy(KEEP), rig.now()).unwrap();
    assert_eq!((input.id.offset, rig.info("a").unwrap().messages), (Offset(1), 1));
    assert_ne!(input.id.epoch, rig.info("a").unwrap().last.epoch);
    assert_eq!(rig.store.group(b"group", NO_LIMITS).unwrap().used.messages, 1);
    rig.check();
}
