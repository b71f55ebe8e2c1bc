// SPDX-License-Identifier: Apache-2.0

//! Who is on a channel.

use super::*;

const LEN: usize = 256 << 10;

fn terms(who: &str) -> Terms<'_> {
    Terms { presence: who.as_bytes(), ..TERMS }
}

impl Rig {
    fn join(&self, id: &str, slot: Slot, who: &str) -> Subscribed {
        self.store.log().subscribe(key(id), slot, Token(7), terms(who), self.now()).unwrap()
    }

    fn leave(&self, subscribed: Subscribed, slot: Slot) {
        self.store.log().unsubscribe(subscribed.channel, slot, subscribed.present, self.now()).unwrap();
    }

    /// How many there are, and who.
    fn present(&self, id: &str) -> Option<(u32, Vec<(String, u32)>)> {
        let Presence { subscribers, names } = self.store.presence().of(key(id)).unwrap()?;
        Some((subscribers, names.into_iter().map(|(name, count)| (String::from_utf8(name).unwrap(), count)).collect()))
    }
}

fn named(subscribers: u32, names: &[(&str, u32)]) -> Option<(u32, Vec<(String, u32)>)> {
    Some((subscribers, names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()))
}

#[test]
fn those_who_say_who_they_are_are_listed() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    assert_eq!(rig.present("a"), None);
    let anna = [rig.join("a", one, "anna"), rig.join("a", two, "anna"), rig.join("a", two, "anna")];
    let bob = rig.join("a", one, "bob");
    let nobody = rig.join("a", two, "");
    assert_eq!(nobody.present, None);
    rig.join("b", one, "carla");
    rig.check();
    assert_eq!(rig.present("a"), named(5, &[("anna", 3), ("bob", 1)]));
    assert_eq!(rig.present("b"), named(1, &[("carla", 1)]));
    rig.leave(anna[1], two);
    rig.leave(bob, one);
    rig.check();
    assert_eq!(rig.present("a"), named(3, &[("anna", 2)]));
    rig.leave(nobody, two);
    rig.leave(anna[2], two);
    assert_eq!(rig.present("a"), named(1, &[("anna", 1)]));
    rig.leave(anna[0], one);
    assert_eq!(rig.present("a"), named(0, &[]));
    rig.check();
}

#[test]
fn a_name_has_a_length() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let long = "x".repeat(MAX_PRESENCE);
    rig.join("a", one, &long);
    assert_eq!(rig.present("a"), named(1, &[(&long, 1)]));
    let longer = "x".repeat(MAX_PRESENCE + 1);
    let refused = rig.store.log().subscribe(key("a"), one, Token(7), terms(&longer), rig.now());
    assert_eq!(refused, Err(SubscribeError::Presence));
    assert_eq!(rig.present("a"), named(1, &[(&long, 1)]));
    rig.check();
}

#[test]
fn those_of_a_dead_worker_are_gone_at_once() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    for n in 0..20 {
        rig.join("a", one, &format!("one {n}"));
        rig.join("b", one, "one");
    }
    let stays = rig.join("a", two, "two");
    let used = |rig: &Rig| rig.store.usage().map(|usage| usage.cells - usage.free_cells).unwrap();
    assert_eq!(used(&rig), 44, "two channels, their group, and one cell for each that is there");
    let three = rig.store.claim(Process { pid: 13, start: 1 }, |process| process.pid == 12).unwrap().slot;
    assert_eq!(rig.present("a"), named(1, &[("two", 1)]));
    assert_eq!(rig.present("b"), named(0, &[]));
    rig.check();
    rig.join("a", three, "three");
    rig.store.tend(rig.now(), usize::MAX).unwrap();
    rig.check();
    assert_eq!(used(&rig), 5);
    assert_eq!(rig.present("a"), named(2, &[("three", 1), ("two", 1)]));
    rig.leave(stays, two);
    assert_eq!(rig.present("a"), named(1, &[("three", 1)]));
    rig.check();
}

#[test]
fn a_deleted_channel_takes_its_entries_with_it() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let subscribed = [rig.join("a", one, "one"), rig.join("a", two, "two")];
    rig.store.log().delete(key("a"), rig.now()).unwrap();
    rig.check();
    assert_eq!(rig.present("a"), None);
    // Of one of them the key is in use again before it has left.
    rig.drain(one);
    rig.join("a", two, "again");
    rig.drain(two);
    rig.check();
    for (subscribed, slot) in subscribed.into_iter().zip([one, two]) {
        rig.leave(subscribed, slot);
    }
    rig.check();
    assert_eq!(rig.present("a"), named(1, &[("again", 1)]));
    assert_eq!(rig.store.usage().unwrap().channels, 1);
}

#[test]
fn nobody_loses_what_it_came_for() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let forever = History { length: 0, time: 0 };
    rig.try_publish("old", b"x", forever).unwrap();
    rig.try_publish("old", b"x", forever).unwrap();
    rig.try_publish("a", b"x", forever).unwrap();
    while rig.store.usage().unwrap().evicted == 0 {
        rig.try_publish("old", b"x", forever).unwrap();
    }
    let (old, a) = (rig.info("old").unwrap().messages, rig.info("a").unwrap().messages);
    for who in ["anna", "bob", "carla"] {
        rig.join("a", one, who);
        assert_eq!((rig.info("old").unwrap().messages, rig.info("a").unwrap().messages), (old, a), "nothing goes");
    }
    rig.check();
}

#[test]
fn names_make_room_for_nobody_and_nobody_for_names() {
    let rig = Rig::new(LEN);
    let one = rig.claim(11);
    let forever = History { length: 0, time: 0 };
    rig.join("a", one, "first");
    while rig.store.usage().unwrap().evicted == 0 {
        rig.try_publish("b", b"x", forever).unwrap();
    }
    let stored = rig.info("b").unwrap().messages;
    let mut more = 0;
    let error = loop {
        match rig.store.log().subscribe(key("a"), one, Token(7), terms("more"), rig.now()) {
            Ok(_) => more += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, SubscribeError::NoRoom);
    assert!(more > stored / 5, "{more} of {stored}");
    rig.check();
    assert_eq!((rig.info("b").unwrap().messages, rig.store.usage().unwrap().evicted), (stored, 1));
    assert!(rig.subscribe("a", one, 7).present.is_none(), "who says nothing needs nothing");
    assert_eq!(rig.present("a").unwrap().0, more + 2);
    assert_eq!(rig.present("a").unwrap().1.len(), 2);
    // What a dead worker left makes room for others.
    let two = rig.store.claim(Process { pid: 12, start: 1 }, |_| false).unwrap().slot;
    rig.join("a", two, "two");
    assert_eq!(rig.info("b").unwrap().messages, stored);
    assert_eq!(rig.present("a"), named(1, &[("two", 1)]));
    rig.check();
}

#[test]
fn somebody_is_to_be_closed() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let presence = || rig.store.presence();
    assert_eq!(presence().expel(key("a"), b"anna").unwrap(), None);
    let [first, second] = [one, two].map(|slot| rig.join("a", slot, "anna"));
    let bob = rig.join("a", one, "bob");
    let elsewhere = rig.join("b", two, "anna");
    assert_eq!(presence().expel(key("a"), b"nobody").unwrap().unwrap().count, 0);
    assert!(!presence().take_expelled(one) && !presence().take_expelled(two));
    let expelled = presence().expel(key("a"), b"anna").unwrap().unwrap();
    rig.check();
    assert_eq!((expelled.count, expelled.wake.collect::<Vec<_>>()), (2, vec![one.number(), two.number()]));
    assert!(presence().take_expelled(one) && !presence().take_expelled(one) && presence().take_expelled(two));
    let is_expelled = |subscribed: Subscribed| presence().is_expelled(subscribed.present.unwrap());
    assert_eq!([first, second, bob, elsewhere].map(is_expelled), [true, true, false, false]);
    assert_eq!(rig.present("a"), named(3, &[("anna", 2), ("bob", 1)]), "they are there until they go");
    rig.leave(first, one);
    rig.check();
    let again = rig.join("a", one, "anna");
    assert!(!is_expelled(again));
}

#[test]
fn those_who_say_who_they_are_are_listed_one_by_one() {
    let rig = Rig::new(LEN);
    let (one, two) = (rig.claim(11), rig.claim(12));
    let list = |id: &str, most| rig.store.presence().list(key(id), most).unwrap();
    assert_eq!(list("a", 9), None);
    let begin = rig.now().unix / 1000;
    rig.join("a", one, "anna");
    let terms = Terms { transport: Transport::LongPoll, ..terms("bob") };
    let bob = rig.store.log().subscribe(key("a"), two, Token(7), terms, rig.now()).unwrap();
    rig.join("a", two, "");
    rig.join("b", one, "carla");
    let seen = |list: SubscriberList| {
        let named = list.named.into_iter();
        let named = named.map(|it| (String::from_utf8(it.name).unwrap(), it.transport, it.pid, u64::from(it.since)));
        (list.subscribers, named.collect::<Vec<_>>(), list.has_more)
    };
    let anna = || ("anna".to_owned(), Transport::WebSocket, 11, begin);
    let newest = || ("bob".to_owned(), Transport::LongPoll, 12, begin);
    assert_eq!(list("a", 9).map(seen), Some((3, vec![newest(), anna()], false)));
    assert_eq!(list("a", 2).map(seen), Some((3, vec![newest(), anna()], false)));
    assert_eq!(list("a", 1).map(seen), Some((3, vec![newest()], true)));
    assert_eq!(list("a", 0).map(seen), Some((3, Vec::new(), true)));
    rig.leave(bob, two);
    assert_eq!(list("a", 9).map(seen), Some((2, vec![anna()], false)));
    // Those of a worker that was killed are gone.
    rig.store.claim(Process { pid: 13, start: 1 }, |process| process.pid == 12).unwrap();
    assert_eq!(list("a", 9).map(seen), Some((1, Vec::new(), false)));
    rig.check();
}
