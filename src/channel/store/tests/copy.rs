// SPDX-License-Identifier: Apache-2.0

//! Copies of channels that an engine has.

use proptest::prelude::*;

use super::*;
use crate::channel::position::{Epoch, Lineage, MessageId};

const SPACE: u64 = 7;

fn copy_of(id: &str) -> Key<'_> {
    Key::in_space(SPACE, b"group", id.as_bytes()).unwrap()
}

fn original(epoch: u64, oldest: u64, base: u64) -> Original {
    // The test's epochs follow each other.
    let lineage = Lineage { base: Offset(base), previous: epoch.checked_sub(1).map(Epoch) };
    Original { epoch: Epoch(epoch), oldest: Offset(oldest), lineage }
}

impl Rig {
    fn follow(&self, id: &str, original: Original) -> Wake {
        self.store.copies().follow(copy_of(id), original, KEEP, self.now()).unwrap()
    }

    fn append(&self, id: &str, epoch: u64, offset: u64, data: &[u8]) -> Appended {
        let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[data] };
        let message = MessageId { epoch: Epoch(epoch), offset: Offset(offset) };
        self.store.copies().append(copy_of(id), message, &publication, self.now().unix, None, self.now()).unwrap()
    }

    fn next(&self, id: &str) -> Option<(u64, u64)> {
        let state = self.store.copies().state(copy_of(id)).unwrap();
        state.map(|state| (state.epoch.0, state.next.0))
    }
}

#[test]
fn a_copy_is_not_the_channel_of_the_same_name() {
    let rig = Rig::new(1 << 20);
    rig.publish("a", b"local");
    assert_eq!(rig.next("a"), None);
    rig.follow("a", original(5, 4, 3));
    assert_eq!(rig.next("a"), Some((5, 4)));
    assert!(matches!(rig.append("a", 5, 4, b"x"), Appended::Done(_)));
    assert_eq!(rig.info("a").unwrap().messages, 1);
    let info = rig.store.log().info(copy_of("a"), rig.now()).unwrap().unwrap();
    assert_eq!((info.messages, info.last), (1, MessageId { epoch: Epoch(5), offset: Offset(4) }));
    let group = |space| rig.store.groups().info(GroupKey { space, name: b"group" }, NO_LIMITS, rig.now()).unwrap().used;
    assert_eq!((group(0).channels, group(SPACE).channels, group(8).channels), (1, 1, 0));
    let mut copies = Vec::new();
    let mut at = Some(0);
    while let Some(from) = at {
        at = rig.store.copies().find(SPACE, from, &mut copies).unwrap();
    }
    assert_eq!(copies, [CopyFound { group: b"group".to_vec(), id: b"a".to_vec(), subscribers: 0, history: KEEP }]);
    rig.check();
}

#[test]
fn what_has_expired_does_not_come_back_where_the_original_keeps_more() {
    let rig = Rig::new(1 << 20);
    let brief = History { length: 0, time: 1_000 };
    let follow = |id, history| rig.store.copies().follow(copy_of(id), original(5, 1, 0), history, rig.now()).unwrap();
    let messages = |id| rig.store.log().info(copy_of(id), rig.now()).unwrap().unwrap().messages;
    for id in ["told", "read"] {
        follow(id, brief);
        for offset in 1..4 {
            rig.append(id, 5, offset, b"x");
        }
        assert_eq!(messages(id), 3);
    }
    rig.pass(1_000);
    let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
    let message = MessageId { epoch: Epoch(5), offset: Offset(4) };
    let (unix, history) = (rig.now().unix, Some(KEEP));
    rig.store.copies().append(copy_of("told"), message, &publication, unix, history, rig.now()).unwrap();
    assert_eq!(messages("told"), 1);
    follow("read", KEEP);
    assert_eq!(messages("read"), 0);
    rig.check();
}

#[test]
fn messages_are_taken_in_their_order_only() {
    let rig = Rig::new(1 << 20);
    assert_eq!(rig.append("a", 5, 1, b"x"), Appended::NoCopy);
    rig.follow("a", original(5, 1, 0));
    assert_eq!(rig.append("a", 5, 2, b"x"), Appended::Behind(Offset(1)));
    assert!(matches!(rig.append("a", 5, 1, b"x"), Appended::Done(_)));
    assert_eq!(rig.append("a", 5, 1, b"x"), Appended::Known);
    assert_eq!(rig.append("a", 6, 2, b"x"), Appended::OtherEpoch);
    // The engine has dropped what comes next: it goes on where the engine does.
    rig.follow("a", original(5, 9, 9));
    assert_eq!(rig.next("a"), Some((5, 9)));
    // What the copy has, and the engine as well, stays.
    rig.append("a", 5, 9, b"x");
    rig.follow("a", original(5, 7, 9));
    assert_eq!(rig.store.log().info(copy_of("a"), rig.now()).unwrap().unwrap().messages, 1);
    rig.check();
}

#[test]
fn subscribers_hear_of_another_epoch_before_its_messages() {
    let rig = Rig::new(1 << 20);
    let slot = rig.claim(1);
    rig.follow("a", original(5, 1, 0));
    let subscribe = |token| rig.store.log().subscribe(copy_of("a"), slot, Token(token), TERMS, rig.now()).unwrap();
    let subscribed = subscribe(3);
    assert_eq!((subscribed.window.epoch, subscribed.window.upcoming), (Epoch(5), Offset(1)));
    rig.append("a", 5, 1, b"one");
    assert!(rig.follow("a", original(6, 1, 2)).is_empty(), "it was woken already");
    rig.append("a", 6, 1, b"first");
    let later = subscribe(4);
    assert_eq!((later.first, later.window.epoch, later.window.upcoming), (false, Epoch(6), Offset(2)));
    rig.append("a", 6, 2, b"second");
    let news = rig.drain(slot);
    let [News::Replaced { token, epoch, oldest, lineage }, ..] = news[..] else { panic!("{news:?}") };
    assert_eq!((token, epoch, oldest, lineage.base), (Token(3), Epoch(6), Offset(1), Offset(2)));
    assert_eq!(messages(&news, 3), [(1, b"first".to_vec()), (2, b"second".to_vec())]);
    assert!(rig.drain(slot).is_empty());
    // The handle is the same one.
    assert_eq!(rig.read(subscribed.channel, 1).0.len(), 2);
    rig.check();
}

#[test]
fn what_was_here_of_an_epoch_does_not_come_again_with_it() {
    let rig = Rig::new(1 << 20);
    let slot = rig.claim(1);
    let subscribe = |token| rig.store.log().subscribe(copy_of("a"), slot, Token(token), TERMS, rig.now()).unwrap();
    let of_between = MessageId { epoch: Epoch(6), offset: Offset(3) };
    rig.follow("a", original(5, 1, 0));
    for offset in 1..=4 {
        rig.append("a", 5, offset, b"of the first master");
    }
    // Its replica had two of them when it was promoted.
    rig.follow("a", original(6, 1, 2));
    assert_eq!(subscribe(3).window.lineage, Lineage { base: Offset(2), previous: Some(Epoch(5)) });
    // The first master has become it again, and knows nothing of the replica's time.
    rig.follow("a", original(5, 1, 0));
    let news = rig.drain(slot);
    let [News::Replaced { epoch: Epoch(5), lineage, .. }, ..] = news[..] else { panic!("{news:?}") };
    assert_eq!(lineage.had(of_between), Offset(4));
    assert_eq!(subscribe(4).window.lineage.had(of_between), Offset(4));
    // A channel of this name that is another one has nothing that was here.
    rig.follow("a", original(9, 1, 0));
    assert_eq!(subscribe(5).window.lineage.had(of_between), Offset(0));
    rig.check();
}

#[test]
fn a_copy_that_came_in_an_epoch_knows_what_was_had_before_it() {
    let rig = Rig::new(1 << 20);
    rig.follow("a", original(6, 1, 2));
    rig.follow("a", original(5, 1, 0));
    let slot = rig.claim(1);
    let window = rig.store.log().subscribe(copy_of("a"), slot, Token(3), TERMS, rig.now()).unwrap().window;
    assert_eq!(window.lineage.base, Offset(2));
    rig.check();
}

#[test]
fn a_relay_vouches_for_a_copy_until_it_follows_another_epoch() {
    let rig = Rig::new(1 << 20);
    let relay = || rig.store.copies().state(copy_of("a")).unwrap().map(|state| state.relay);
    assert!(!rig.store.copies().set_keeper(copy_of("a"), 9, 0, rig.now()).unwrap());
    rig.follow("a", original(5, 1, 0));
    assert_eq!(relay(), Some(0));
    assert!(rig.store.copies().set_keeper(copy_of("a"), 9, 0, rig.now()).unwrap());
    rig.follow("a", original(5, 1, 0));
    assert_eq!(relay(), Some(9));
    rig.follow("a", original(6, 1, 0));
    assert_eq!(relay(), Some(0));
}

#[test]
fn what_does_not_fit_is_passed_over() {
    let rig = Rig::new(64 << 10);
    rig.follow("a", original(5, 1, 0));
    rig.append("a", 5, 1, b"x");
    assert!(matches!(rig.append("a", 5, 2, &vec![b'x'; 1 << 20]), Appended::Done(_)));
    assert_eq!(rig.next("a"), Some((5, 3)));
    rig.check();
}

#[derive(Debug, Clone)]
enum Step {
    Follow { id: usize, epoch: u64, oldest: u64, more: u64 },
    Append { id: usize, len: usize },
    Subscribe { id: usize },
    Drain,
    Local { id: usize },
    Pass { milliseconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || 0..3_usize;
    let step = prop_oneof![
        2 => (id(), 1..3_u64, 1..9_u64, 0..3_u64)
            .prop_map(|(id, epoch, oldest, more)| Step::Follow { id, epoch, oldest, more }),
        6 => (id(), 0..3000_usize).prop_map(|(id, len)| Step::Append { id, len }),
        1 => id().prop_map(|id| Step::Subscribe { id }),
        2 => Just(Step::Drain),
        2 => id().prop_map(|id| Step::Local { id }),
        1 => (0..100_000_u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn the_zone_is_sound_after_each_step(steps in steps()) {
        const IDS: [&str; 3] = ["a", "b", "a much longer name, which needs more than one cell of the zone"];
        let rig = Rig::new(64 << 10);
        let slot = rig.claim(1);
        let mut tokens = 0;
        for step in steps {
            match step {
                Step::Follow { id, epoch, oldest, more } => {
                    // A zone that is full has no room for another one.
                    let original = original(epoch, oldest, (oldest + more).saturating_sub(1));
                    let _ = rig.store.copies().follow(copy_of(IDS[id]), original, KEEP, rig.now());
                }
                Step::Append { id, len } => {
                    if let Some((epoch, next)) = rig.next(IDS[id]) {
                        assert!(matches!(rig.append(IDS[id], epoch, next, &vec![b'x'; len]), Appended::Done(_)));
                        assert_eq!(rig.next(IDS[id]), Some((epoch, next + 1)));
                    }
                }
                Step::Subscribe { id } => {
                    tokens += 1;
                    let _ = rig.store.log().subscribe(copy_of(IDS[id]), slot, Token(tokens), TERMS, rig.now());
                }
                Step::Drain => drop(rig.drain(slot)),
                Step::Local { id } => {
                    let _ = rig.try_publish(IDS[id], b"local", KEEP);
                }
                Step::Pass { milliseconds } => {
                    rig.pass(milliseconds);
                    rig.store.tend(rig.now(), 100).unwrap();
                }
            }
            rig.check();
        }
    }
}
