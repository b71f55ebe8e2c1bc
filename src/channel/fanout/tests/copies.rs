// SPDX-License-Identifier: Apache-2.0

//! Subscribers of channels that an engine has.

use super::*;
use crate::channel::position::{Epoch, Lineage, MessageId};
use crate::channel::store::{Appended, Original};

fn copy_of(id: &str) -> Key<'_> {
    Key::in_space(7, b"", id.as_bytes()).unwrap()
}

fn original(epoch: u64, oldest: u64, base: u64) -> Original {
    // The test's epochs follow each other.
    let lineage = Lineage { base: Offset(base), previous: epoch.checked_sub(1).map(Epoch) };
    Original { epoch: Epoch(epoch), oldest: Offset(oldest), lineage }
}

fn message(epoch: u64, offset: u64) -> Got {
    Got::Message(MessageOf { epoch, offset })
}

impl Rig {
    fn follow(&self, original: Original) {
        let history = History { length: 10, time: 0 };
        self.store.copies().follow(copy_of("a"), original, history, self.now()).unwrap();
    }

    fn append(&self, epoch: u64, offsets: std::ops::RangeInclusive<u64>) {
        for offset in offsets {
            let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[b"x"] };
            let id = MessageId { epoch: Epoch(epoch), offset: Offset(offset) };
            let appended = self.store.copies().append(copy_of("a"), id, &publication, 0, None, self.now());
            assert!(matches!(appended, Ok(Appended::Done(_))), "{appended:?}");
        }
    }

    fn listen(&mut self, asked: &str) -> usize {
        self.try_subscribe(
            0,
            &["a"],
            asked,
            |options| {
                options.keys = Box::leak(Box::new([copy_of("a")]));
                options.on_gap = OnGap::Tell;
                options.form = Box::leak(Box::new(Rc::new(WireForm::EventSource)));
            },
            usize::MAX,
        )
        .unwrap()
    }

    fn items(&self, session: usize) -> &[Got] {
        &self.client(0, session).items
    }
}

#[test]
fn another_epoch_is_a_gap_that_is_told_once() {
    let mut rig = Rig::new(1, 1 << 20, Limits::default());
    rig.follow(original(5, 1, 0));
    let early = rig.listen("");
    rig.append(5, 1..=3);
    rig.settle();
    rig.follow(original(6, 2, 4));
    rig.append(6, 2..=4);
    let late = rig.listen("6:3");
    rig.settle();
    let gap = |offset| Got::Gap(MessageOf { epoch: 6, offset });
    assert_eq!(rig.items(early), [message(5, 1), message(5, 2), message(5, 3), gap(4), message(6, 4)]);
    assert_eq!(rig.items(late), [message(6, 4)], "who began in this epoch has lost nothing");
    rig.append(6, 5..=5);
    rig.settle();
    assert_eq!(rig.items(early)[5..], [message(6, 5)]);
    let client = rig.client(0, early).id;
    assert_eq!(rig.workers[0].fanout.position(client).unwrap(), "6:5");
}

#[test]
fn an_engine_that_has_gone_back_is_followed_to_where_it_is() {
    let mut rig = Rig::new(1, 1 << 20, Limits::default());
    rig.follow(original(5, 1, 0));
    let session = rig.listen("");
    rig.append(5, 1..=5);
    rig.settle();
    rig.follow(original(6, 3, 2));
    rig.settle();
    let gap = Got::Gap(MessageOf { epoch: 6, offset: 3 });
    assert_eq!(rig.items(session)[5..], *std::slice::from_ref(&gap), "it is told before there is a message");
    rig.append(6, 3..=4);
    rig.settle();
    assert_eq!(rig.items(session)[5..], [gap, message(6, 3), message(6, 4)]);
}

#[test]
fn what_an_engine_publishes_after_it_has_lost_everything_is_new() {
    let mut rig = Rig::new(1, 1 << 20, Limits::default());
    rig.follow(original(5, 1, 0));
    let session = rig.listen("");
    rig.append(5, 1..=5);
    rig.settle();
    // It was started anew, and two messages were published before the node was there again.
    rig.follow(original(6, 1, 0));
    rig.append(6, 1..=2);
    rig.settle();
    let gap = Got::Gap(MessageOf { epoch: 6, offset: 1 });
    assert_eq!(rig.items(session)[5..], [gap, message(6, 1), message(6, 2)]);
}

#[test]
fn what_the_engine_had_dropped_is_counted() {
    let mut rig = Rig::new(1, 1 << 20, Limits::default());
    rig.follow(original(5, 1, 0));
    let session = rig.listen("");
    rig.append(5, 1..=1);
    rig.settle();
    rig.follow(original(5, 8, 9));
    rig.settle();
    rig.append(5, 8..=9);
    rig.settle();
    let gap = Got::Gap(MessageOf { epoch: 5, offset: 8 });
    assert_eq!(rig.items(session), [message(5, 1), gap, message(5, 8), message(5, 9)]);
}

#[test]
fn who_is_slow_loses_what_it_had_not_read_of_the_epoch_before() {
    let mut rig = Rig::new(1, 1 << 20, Limits::default());
    rig.follow(original(5, 1, 0));
    let session = rig.listen("");
    let id = rig.client(0, session).id;
    rig.workers[0].fanout.block(id);
    rig.append(5, 1..=3);
    while rig.collect(0) {}
    rig.follow(original(6, 1, 3));
    rig.append(6, 1..=3);
    while rig.collect(0) {}
    rig.workers[0].fanout.unblock(id);
    rig.settle();
    let gap = Got::Gap(MessageOf { epoch: 6, offset: 1 });
    assert_eq!(rig.items(session), [gap, message(6, 1), message(6, 2), message(6, 3)]);
}

#[test]
fn who_comes_before_the_worker_has_heard_of_another_epoch_is_in_it() {
    let mut rig = Rig::new(1, 1 << 20, Limits::default());
    rig.follow(original(5, 1, 0));
    let early = rig.listen("");
    rig.append(5, 1..=5);
    rig.settle();
    rig.follow(original(6, 1, 0));
    let late = rig.listen("5:5");
    rig.serve(0, usize::MAX);
    rig.append(6, 1..=2);
    rig.settle();
    let gap = Got::Gap(MessageOf { epoch: 6, offset: 1 });
    assert_eq!(rig.items(late), [gap.clone(), message(6, 1), message(6, 2)]);
    assert_eq!(rig.items(early)[5..], [gap, message(6, 1), message(6, 2)]);
}

/// A worker with a session that takes nothing, behind which it does not keep what comes in epoch 5 any more.
fn with_one_behind() -> (Rig, usize, SubscriberId) {
    let mut rig = Rig::new(1, 1 << 20, Limits::default());
    rig.follow(original(5, 1, 0));
    let session = rig.listen("");
    let id = rig.client(0, session).id;
    rig.workers[0].fanout.block(id);
    rig.append(5, 1..=3);
    while rig.collect(0) {}
    while rig.serve(0, usize::MAX) {}
    rig.workers[0].fanout.shed();
    (rig, session, id)
}

#[test]
fn who_is_behind_gets_nothing_of_an_epoch_that_the_worker_has_not_heard_of() {
    let (mut rig, session, id) = with_one_behind();
    rig.follow(original(6, 1, 0));
    rig.append(6, 1..=3);
    rig.workers[0].fanout.unblock(id);
    rig.serve(0, usize::MAX);
    rig.settle();
    let gap = Got::Gap(MessageOf { epoch: 6, offset: 1 });
    assert_eq!(rig.items(session), [gap, message(6, 1), message(6, 2), message(6, 3)]);
}

#[test]
fn an_epoch_that_the_worker_has_not_heard_of_is_a_gap_that_is_told_once() {
    let (mut rig, session, id) = with_one_behind();
    rig.follow(original(6, 10, 9));
    rig.workers[0].fanout.unblock(id);
    rig.serve(0, usize::MAX);
    rig.append(6, 10..=10);
    rig.settle();
    assert_eq!(rig.items(session), [Got::Gap(MessageOf { epoch: 6, offset: 10 }), message(6, 10)]);
}

#[test]
fn who_is_behind_goes_on_in_the_epoch_that_the_worker_has_heard_of() {
    for is_told in [true, false] {
        let mut rig = Rig::new(1, 1 << 20, Limits::default());
        rig.follow(original(5, 1, 0));
        let session = rig.listen("");
        rig.follow(original(6, 1, 0));
        // The worker hears of it by the news, or by the next subscriber.
        if is_told {
            rig.settle();
        } else {
            rig.listen("");
        }
        let id = rig.client(0, session).id;
        rig.workers[0].fanout.block(id);
        rig.append(6, 1..=3);
        while rig.collect(0) {}
        while rig.serve(0, usize::MAX) {}
        rig.workers[0].fanout.shed();
        rig.workers[0].fanout.unblock(id);
        rig.settle();
        let gap = Got::Gap(MessageOf { epoch: 6, offset: 1 });
        assert_eq!(rig.items(session), [gap, message(6, 1), message(6, 2), message(6, 3)]);
    }
}
