// SPDX-License-Identifier: Apache-2.0

//! Subscribers that get so many messages in a time.

use super::*;

const LEN: usize = 4 << 20;

/// One message in 100 ms, two at once.
fn allowance() -> &'static Allowance {
    Box::leak(Box::new(Allowance::new(Rate::new(10, 2).unwrap())))
}

fn slow(options: &mut SubscribeOptions<'_>) {
    options.allowance = Some(allowance());
}

impl Rig {
    fn pass(&mut self, milliseconds: u64) {
        self.clock.set(self.clock.get() + milliseconds);
        self.settle();
    }

    fn paced(&mut self, ids: &[&str], options: impl FnOnce(&mut SubscribeOptions<'_>)) -> usize {
        let session = self.try_subscribe(0, ids, "", |to| (slow(to), options(to)).1, usize::MAX).unwrap();
        self.settle();
        session
    }
}

#[test]
fn below_the_rate_every_message_comes() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let session = rig.paced(&["a"], |_| ());
    for _ in 0..20 {
        rig.publish("a", b"x", 10);
        rig.settle();
        rig.pass(100);
    }
    assert_eq!(rig.client(0, session).offsets(), (1..=20).collect::<Vec<_>>());
    assert_eq!(rig.workers[0].fanout.held_until(), None);
}

#[test]
fn beyond_the_rate_the_newest_wins() {
    for on_gap in [OnGap::Close, OnGap::Skip] {
        let mut rig = Rig::new(1, LEN, Limits::default());
        let session = rig.paced(&["a"], |options| options.on_gap = on_gap);
        for _ in 0..6 {
            // More than the channel keeps: nobody is closed for what it was not to get.
            for _ in 0..5 {
                rig.publish("a", b"x", 3);
            }
            rig.settle();
        }
        let writes = rig.client(0, session).writes;
        assert_eq!(rig.client(0, session).offsets(), [1, 2]);
        rig.pass(99);
        assert_eq!(rig.client(0, session).writes, writes);
        rig.pass(1);
        assert_eq!(rig.client(0, session).offsets(), [1, 2, 30], "{on_gap:?}");
        rig.pass(1000);
        assert_eq!(rig.client(0, session).offsets(), [1, 2, 30], "there is nothing more");
        rig.workers[0].fanout.tidy();
        assert_eq!(rig.workers[0].fanout.octets(), 0, "nothing is kept");
    }
}

#[test]
fn what_is_left_out_is_told() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let session = rig.paced(&["a"], |options| {
        (options.on_gap, options.form) = (OnGap::Tell, Box::leak(Box::new(meta())));
    });
    let epoch = (0..10).map(|_| rig.publish("a", b"x", 100)).last().unwrap().id.epoch.0;
    rig.settle();
    let id = rig.client(0, session).id;
    assert_eq!(rig.workers[0].fanout.position(id), Some(format!("{epoch}:2")), "nothing was left out yet");
    rig.pass(100);
    let message = |offset| Got::Message(MessageOf { epoch, offset });
    let gap = Got::Gap(MessageOf { epoch, offset: 10 });
    assert_eq!(rig.client(0, session).items, [message(1), message(2), gap, message(10)]);
    let received = payloads(&rig.client(0, session).received);
    assert!(received[2].starts_with(format!("gap: 7\nid: {epoch}:9\n").as_bytes()), "{received:?}");
    assert_eq!(rig.workers[0].fanout.position(id), Some(format!("{epoch}:10")));
}

#[test]
fn who_resumes_goes_on_where_it_was() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let session = rig.paced(&["a"], |options| options.on_gap = OnGap::Tell);
    for _ in 0..5 {
        rig.publish("a", b"x", 100);
    }
    rig.settle();
    let id = rig.client(0, session).id;
    let position = rig.workers[0].fanout.position(id).unwrap();
    rig.unsubscribe(0, session);
    rig.pass(1000);
    assert_eq!(rig.workers[0].fanout.held_until(), None, "who has gone is forgotten");
    let all = rig.subscribe(0, &["a"], &position, Start::Newest);
    rig.settle();
    assert_eq!(rig.client(0, all).offsets(), [3, 4, 5]);
}

#[test]
fn each_channel_has_a_newest_message() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let session = rig.paced(&["a", "b"], |options| options.on_gap = OnGap::Skip);
    for _ in 0..4 {
        rig.publish("a", b"x", 10);
        rig.settle();
    }
    rig.publish("b", b"y", 10);
    for _ in 0..4 {
        rig.publish("a", b"x", 10);
        rig.settle();
    }
    assert_eq!(rig.client(0, session).offsets(), [1, 2]);
    rig.pass(100);
    assert_eq!(rig.client(0, session).offsets(), [1, 2, 1], "that of b is older");
    rig.pass(100);
    assert_eq!(rig.client(0, session).offsets(), [1, 2, 1, 8]);
}

/// How many messages a client has got of the channel with this epoch, and which was the last one.
fn got_of(rig: &Rig, session: usize, epoch: u64) -> (usize, u64) {
    let of = |got: &Got| match got {
        Got::Message(message) if message.epoch == epoch => Some(message.offset),
        _ => None,
    };
    let all: Vec<_> = rig.client(0, session).items.iter().filter_map(of).collect();
    (all.len(), all.last().copied().unwrap_or(0))
}

#[test]
fn the_channels_of_a_subscriber_take_turns() {
    for (on_gap, ids) in [(OnGap::Skip, 3), (OnGap::Tell, 3), (OnGap::Close, 12), (OnGap::Tell, 12)] {
        let names: Vec<_> = (0..ids).map(|n| format!("c{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut rig = Rig::new(1, LEN, Limits::default());
        let session = rig.paced(&names, |options| {
            (options.on_gap, options.form) = (on_gap, Box::leak(Box::new(meta())));
        });
        let mut epochs = vec![0; ids];
        for step in 1..=10 * ids {
            for (id, epoch) in names.iter().zip(&mut epochs) {
                for _ in 0..5 {
                    *epoch = rig.publish(id, b"x", 3).id.epoch.0;
                }
            }
            rig.settle();
            let before: Vec<_> = epochs.iter().map(|epoch| got_of(&rig, session, *epoch).0).collect();
            let gaps = rig.client(0, session).items.len();
            rig.pass(100);
            for (epoch, before) in epochs.iter().zip(before) {
                let (count, last) = got_of(&rig, session, *epoch);
                assert!(count == before || last == 5 * step as u64, "not the newest: {last} of {}", 5 * step);
            }
            assert!(rig.client(0, session).items.len() <= gaps + 2, "one message and the gap before it");
        }
        let counts: Vec<_> = epochs.iter().map(|epoch| got_of(&rig, session, *epoch).0).collect();
        assert_eq!(counts.iter().sum::<usize>(), 10 * ids + 2, "{on_gap:?}");
        assert!(counts.iter().all(|count| (9..=12).contains(count)), "{counts:?}");
        // When nothing more is published each channel has its newest message in the end.
        rig.pass(0);
        for _ in 0..=ids {
            rig.pass(100);
        }
        for epoch in epochs {
            assert_eq!(got_of(&rig, session, epoch).1, 50 * ids as u64, "{on_gap:?}");
        }
        rig.publish("c1", b"x", 3);
        rig.settle();
        assert_eq!(rig.workers[0].fanout.held_until(), None, "it has caught up");
    }
}

#[test]
fn who_resumes_between_two_turns_misses_nothing() {
    let names: Vec<_> = (0..12).map(|n| format!("c{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for turns in 0..30 {
        let mut rig = Rig::new(1, LEN, Limits::default());
        let session = rig.paced(&names, |options| options.on_gap = OnGap::Skip);
        let mut epochs = vec![0; names.len()];
        for _ in 0..turns {
            for (id, epoch) in names.iter().zip(&mut epochs) {
                *epoch = rig.publish(id, b"x", 1000).id.epoch.0;
            }
            rig.settle();
            rig.pass(100);
        }
        let had: Vec<_> = epochs.iter().map(|epoch| got_of(&rig, session, *epoch).1).collect();
        let id = rig.client(0, session).id;
        let position = rig.workers[0].fanout.position(id).unwrap();
        rig.unsubscribe(0, session);
        let all = rig.try_subscribe(0, &names, &position, |options| options.on_gap = OnGap::Tell, usize::MAX).unwrap();
        rig.settle();
        for (epoch, had) in epochs.iter().zip(had) {
            let (count, last) = got_of(&rig, all, *epoch);
            assert_eq!(count as u64, turns - had, "{turns} {had}");
            assert!(count == 0 || last == turns);
        }
    }
}

#[test]
fn the_subscriptions_of_a_client_share_its_rate_and_take_turns() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let all = allowance();
    let sessions = ["a", "b", "c"].map(|id| rig.paced(&[id], |options| options.allowance = Some(all)));
    let got = |rig: &Rig| sessions.map(|session| rig.client(0, session).offsets().len());
    for step in 1..=30 {
        for id in ["a", "b", "c"] {
            rig.publish(id, b"x", 100);
        }
        rig.settle();
        rig.pass(100);
        assert_eq!(got(&rig).iter().sum::<usize>(), 2 + step);
    }
    assert!(got(&rig).iter().all(|count| (10..=12).contains(count)), "{:?}", got(&rig));
}

#[test]
fn the_end_of_a_channel_comes_after_its_newest_message() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let (busy, idle) = (rig.paced(&["a"], |_| ()), rig.paced(&["b"], |_| ()));
    for _ in 0..9 {
        rig.publish("a", b"x", 10);
        rig.publish("b", b"x", 10);
    }
    rig.settle();
    rig.pass(100);
    rig.publish("a", b"x", 10);
    rig.settle();
    for id in ["a", "b"] {
        rig.store.log().delete(key(id), rig.now()).unwrap().unwrap();
    }
    rig.settle();
    assert_eq!(rig.client(0, idle).end, Some(Next::Gone), "it has had everything");
    assert_eq!(rig.client(0, busy).end, None);
    rig.pass(100);
    assert_eq!(rig.client(0, busy).end, Some(Next::Gone));
    assert_eq!(rig.client(0, busy).offsets(), [1, 2, 9, 10]);
}

#[test]
fn a_client_that_took_nothing_has_its_rate_when_it_goes_on() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let session = rig.try_subscribe(0, &["a"], "", |to| (slow(to), to.on_gap = OnGap::Skip).1, 6).unwrap();
    rig.settle();
    for n in 0..9 {
        rig.publish("a", format!("{n}").as_bytes(), 10);
    }
    rig.settle();
    rig.pass(1000);
    assert_eq!(rig.client(0, session).offsets(), [1, 2]);
    rig.read(0, session, 1000);
    rig.settle();
    assert_eq!(rig.client(0, session).offsets(), [1, 2, 3, 4], "as many as it may have");
    rig.pass(100);
    assert_eq!(rig.client(0, session).offsets(), [1, 2, 3, 4, 9]);
}

#[test]
fn held_subscribers_are_not_looked_at() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let session = rig.paced(&["a"], |_| ());
    for _ in 0..3 {
        rig.publish("a", b"x", 10);
    }
    rig.settle();
    for _ in 0..50 {
        rig.publish("a", b"x", 10);
        rig.collect(0);
        assert_eq!(rig.workers[0].fanout.next(), None);
    }
    assert_eq!(rig.workers[0].fanout.held.len(), 1, "it is held once");
    let _ = session;
}

#[test]
fn who_is_expelled_is_looked_at_whatever_it_waits_for() {
    let mut rig = Rig::new(1, LEN, Limits::default());
    let named = |options: &mut SubscribeOptions<'_>| options.terms = Terms { presence: b"anna", ..TERMS };
    let held = rig.paced(&["a"], named);
    let blocked = rig.try_subscribe(0, &["a"], "", named, 1).unwrap();
    let other = rig.paced(&["a"], |_| ());
    for _ in 0..5 {
        rig.publish("a", b"x", 10);
    }
    rig.settle();
    let expelled = rig.store.presence().expel(key("a"), b"anna").unwrap().unwrap();
    assert_eq!(expelled.count, 2);
    assert!(rig.store.presence().take_expelled(rig.workers[0].slot));
    let store = Rc::clone(&rig.store);
    rig.workers[0].fanout.expel(store.presence());
    rig.settle();
    for session in [held, blocked] {
        assert_eq!(rig.client(0, session).end, Some(Next::Expelled));
    }
    assert_eq!(rig.client(0, other).end, None);
    assert_eq!(rig.client(0, other).offsets(), [1, 2]);
}
