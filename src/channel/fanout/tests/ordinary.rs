// SPDX-License-Identifier: Apache-2.0

//! One thing after the other.

use super::*;
use crate::channel::position::Epoch;

const LEN: usize = 4 << 20;

fn rig(workers: u32) -> Rig {
    Rig::new(workers, LEN, Limits::default())
}

#[test]
fn a_burst_leaves_in_one_write() {
    let mut rig = rig(1);
    let sessions: Vec<_> = (0..3).map(|_| rig.subscribe(0, &["a"], "", Start::Newest)).collect();
    rig.settle();
    for n in 0..16_u8 {
        rig.publish("a", &[b'0' + n], 10);
    }
    rig.settle();
    for session in sessions {
        let client = rig.client(0, session);
        assert_eq!((client.writes, client.offsets()), (1, (1..=16).collect::<Vec<_>>()));
        assert_eq!(payloads(&client.received), (0..16_u8).map(|n| vec![b'0' + n]).collect::<Vec<_>>());
    }
    assert_eq!(rig.workers[0].fanout.octets(), 0, "nothing is kept for those who have everything");
}

#[test]
fn all_subscribers_share_one_copy_of_each_form() {
    let mut rig = rig(1);
    let forms = [frame(), meta(), Rc::new(WireForm::EventSource)];
    for n in 0..9 {
        rig.try_subscribe(0, &["a"], "", |options| options.form = Box::leak(Box::new(Rc::clone(&forms[n % 3]))), 1)
            .unwrap();
    }
    rig.settle();
    rig.publish("a", &[b'x'; 100], 10);
    rig.collect(0);
    let mut copies: HashMap<usize, Vec<*const u8>> = HashMap::new();
    let (store, now) = (Rc::clone(&rig.store), rig.now());
    let Worker { fanout, scratch, batch, .. } = &mut rig.workers[0];
    while let Some((id, session)) = fanout.next() {
        assert_eq!(fanout.peek(store.log(), id, SOME, now, scratch, batch).unwrap(), Next::Items);
        copies.entry(session % 3).or_default().push(batch.items()[0].buffer.octets().as_ptr());
        fanout.advance(id, batch, 1);
    }
    assert_eq!(copies.len(), 3);
    for pointers in copies.values() {
        assert_eq!(pointers.len(), 3);
        assert!(pointers.iter().all(|pointer| *pointer == pointers[0]));
    }
}

#[test]
fn where_a_subscription_begins() {
    let mut rig = rig(1);
    let epoch = (0..20).map(|_| rig.publish("a", b"x", 10)).last().unwrap().id.epoch.0;
    let starts = [
        ("", Start::Newest, vec![]),
        ("", Start::Oldest, (11..=20).collect()),
        ("", Start::Nth(3), (13..=20).collect()),
        ("", Start::Last(3), vec![18, 19, 20]),
        ("nonsense", Start::Last(1), vec![20]),
        (&format!("{epoch}:15"), Start::Newest, (16..=20).collect()),
        (&format!("{epoch}:20"), Start::Oldest, vec![]),
    ];
    let sessions: Vec<_> = starts.iter().map(|(asked, start, _)| rig.subscribe(0, &["a"], asked, *start)).collect();
    rig.settle();
    rig.publish("a", b"y", 10);
    rig.settle();
    for (session, (asked, start, mut expected)) in sessions.into_iter().zip(starts) {
        expected.push(21);
        assert_eq!(rig.client(0, session).offsets(), expected, "{asked} {start:?}");
    }
}

#[test]
fn losses_are_told_in_the_way_of_the_form() {
    let mut rig = rig(1);
    let epoch = (0..20).map(|_| rig.publish("a", b"x", 4)).last().unwrap().id.epoch.0;
    let asked = format!("{epoch}:10");
    let mut subscribe = |form: Rc<WireForm>, on_gap| {
        let options = |options: &mut SubscribeOptions<'_>| {
            options.form = Box::leak(Box::new(form));
            options.on_gap = on_gap;
        };
        let session = rig.try_subscribe(0, &["a"], &asked, options, usize::MAX).unwrap();
        rig.settle();
        rig.workers[0].clients.remove(&session).unwrap()
    };
    let closed = subscribe(frame(), OnGap::Close);
    assert_eq!((closed.items.len(), closed.end), (0, Some(Next::Lagging { lost: 6 })));
    let skipped = subscribe(frame(), OnGap::Skip);
    assert_eq!(skipped.offsets(), [17, 18, 19, 20]);
    let told = subscribe(meta(), OnGap::Tell);
    let texts: Vec<_> = payloads(&told.received).into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
    assert_eq!(texts[0], format!("gap: 6\nid: {epoch}:16\ncontent-type: application/json;   {{}}\n\n"));
    assert_eq!(texts[1], format!("id: {epoch}:17\n\nx"));
    assert_eq!(texts.len(), 5);
    let events = String::from_utf8(subscribe(Rc::new(WireForm::EventSource), OnGap::Tell).received).unwrap();
    assert!(events.starts_with(&format!("id: {epoch}:16\nevent: gap\ndata: 6\n\nid: {epoch}:17\ndata: x\n\n")));
    let body = subscribe(Rc::new(WireForm::Body), OnGap::Tell);
    assert_eq!(body.items[0], Got::Lost(6));
    assert_eq!(body.items.iter().filter(|got| matches!(got, Got::Lost(_))).count(), 1);
}

#[test]
fn losses_can_be_told_in_another_way() {
    let mut rig = rig(1);
    let epoch = rig.publish("a", b"x", 4).id.epoch.0;
    let mut b = 0;
    for _ in 2..=20 {
        rig.publish("a", b"x", 4);
        b = rig.publish("b", b"x", 4).id.epoch.0;
    }
    let options = |options: &mut SubscribeOptions<'_>| {
        options.form = Box::leak(Box::new(Rc::new(WireForm::Raw(b";".as_slice().into()))));
        options.on_gap = OnGap::Close;
    };
    let session = rig.try_subscribe(0, &["a", "b"], &format!("{epoch}:10,1:1"), options, usize::MAX).unwrap();
    let id = rig.client(0, session).id;
    let fanout = &mut rig.workers[0].fanout;
    assert!(fanout.position(id).unwrap().starts_with(&format!("{epoch}:10,")), "before what it does not know of");
    // Ids of b are of a channel that is gone, so that its messages up to the history are lost, too.
    assert_eq!(fanout.take_losses(id), Some(6 + 15));
    assert_eq!(fanout.take_losses(id), None);
    assert_eq!(fanout.position(id).unwrap(), format!("{epoch}:16,{b}:15"));
    rig.settle();
    assert_eq!(rig.client(0, session).received, b"x;x;x;x;x;x;x;x;");
    assert_eq!(rig.client(0, session).end, None);
}

#[test]
fn a_lost_channel_is_told_even_if_nothing_is_there() {
    let mut rig = rig(1);
    let epoch = rig.publish("a", b"x", 4).id.epoch.0;
    rig.store.log().delete(key("a"), rig.now()).unwrap();
    let options = |options: &mut SubscribeOptions<'_>| {
        options.form = Box::leak(Box::new(Rc::new(WireForm::EventSource)));
        options.on_gap = OnGap::Tell;
    };
    let session = rig.try_subscribe(0, &["a"], &format!("{epoch}:1"), options, usize::MAX).unwrap();
    rig.settle();
    let text = String::from_utf8(rig.client(0, session).received.clone()).unwrap();
    assert!(text.ends_with(":0\nevent: gap\ndata: 0\n\n"), "{text}");
}

#[test]
fn who_reads_nothing_costs_little_and_disturbs_nobody() {
    let limits = Limits { keep: 4096, ..Limits::default() };
    let mut rig = Rig::new(1, LEN, limits);
    let slow = rig.try_subscribe(0, &["a"], "", |_| {}, 10).unwrap();
    let fast = rig.subscribe(0, &["a"], "", Start::Newest);
    for n in 0..5000_u32 {
        rig.publish("a", &n.to_le_bytes(), 10);
        if n % 3 == 0 {
            rig.settle();
            assert!(rig.workers[0].fanout.octets() <= limits.keep);
        }
    }
    rig.settle();
    assert_eq!(rig.client(0, fast).offsets(), (1..=5000).collect::<Vec<_>>());
    let client = rig.client(0, slow);
    assert_eq!((client.received.len(), client.items.len(), client.writes), (10, 2, 2));
    assert_eq!(rig.store.usage().unwrap().messages, 10);
    rig.read(0, slow, usize::MAX);
    rig.settle();
    let client = rig.client(0, slow);
    assert_eq!(client.offsets(), [1, 2], "what was begun is finished");
    assert!(matches!(client.end, Some(Next::Lagging { lost }) if lost > 4000));
    assert_eq!(payloads(&client.received), [0_u32.to_le_bytes(), 1_u32.to_le_bytes()]);
    rig.workers[0].fanout.tidy();
    assert_eq!(rig.workers[0].fanout.octets(), 0);
}

#[test]
fn a_little_behind_is_served_from_memory_and_more_from_the_zone() {
    let limits = Limits { keep: 8192, ..Limits::default() };
    let mut rig = Rig::new(1, LEN, limits);
    // Only one message of history, but the last ones are still in this worker.
    let slow = rig.try_subscribe(0, &["a"], "", |_| {}, 1).unwrap();
    for _ in 0..30 {
        rig.publish("a", b"x", 1);
        rig.settle();
    }
    rig.read(0, slow, usize::MAX);
    rig.settle();
    assert_eq!(rig.client(0, slow).offsets(), (1..=30).collect::<Vec<_>>());
    rig.workers[0].fanout.tidy();
    assert_eq!(rig.workers[0].fanout.octets(), 0);
    // Far behind, with a long history.
    let slow = rig.try_subscribe(0, &["b"], "", |_| {}, 1).unwrap();
    for _ in 0..3000 {
        rig.publish("b", b"x", 0);
    }
    rig.settle();
    assert!(rig.workers[0].fanout.octets() <= limits.keep);
    rig.read(0, slow, usize::MAX);
    rig.settle();
    assert_eq!(rig.client(0, slow).offsets(), (1..=3000).collect::<Vec<_>>());
}

#[test]
fn a_large_channel_does_not_hold_up_a_small_one() {
    let mut rig = rig(1);
    let many: Vec<_> = (0..1000).map(|_| rig.subscribe(0, &["large"], "", Start::Newest)).collect();
    let one = rig.subscribe(0, &["small"], "", Start::Newest);
    rig.settle();
    rig.publish("large", b"x", 10);
    rig.publish("small", b"y", 10);
    rig.collect(0);
    assert!(rig.serve(0, SLICE + 2));
    assert_eq!(rig.client(0, one).offsets(), [1]);
    let served = many.iter().filter(|session| !rig.client(0, **session).items.is_empty()).count();
    assert!(served < 100);
    // More comes while the pass is under way: those before get it in a second pass.
    rig.publish("large", b"z", 10);
    rig.collect(0);
    rig.settle();
    assert!(many.iter().all(|session| rig.client(0, *session).offsets() == [1, 2]));
    let twice = many.iter().filter(|session| rig.client(0, **session).writes == 2).count();
    assert_eq!(twice, served, "the others got both at once");
}

#[test]
fn members_may_go_in_the_middle_of_a_pass() {
    for gone in 0..40 {
        let mut rig = rig(1);
        let sessions: Vec<_> = (0..20).map(|_| rig.subscribe(0, &["a"], "", Start::Newest)).collect();
        rig.settle();
        rig.publish("a", b"x", 10);
        rig.collect(0);
        rig.serve(0, 10);
        for nth in [gone % 20, (gone * 7 + 3) % 20] {
            if rig.workers[0].clients.contains_key(&sessions[nth]) {
                rig.unsubscribe(0, sessions[nth]);
            }
        }
        rig.settle();
        assert!(rig.workers[0].clients.values().all(|client| client.offsets() == [1]), "{gone}");
    }
}

#[test]
fn nothing_is_copied_while_too_much_waits() {
    let limits = Limits { high: 20_000, keep: 1000, copy: Budget { messages: 10, octets: 5000 } };
    let mut rig = Rig::new(1, LEN, limits);
    let one = rig.subscribe(0, &["a"], "", Start::Newest);
    rig.settle();
    for _ in 0..200 {
        rig.publish("a", &[b'x'; 1000], 1);
    }
    for _ in 0..100 {
        assert!(rig.collect(0));
        assert!(rig.workers[0].fanout.octets() < limits.high + 8000);
    }
    rig.settle();
    assert_eq!(rig.client(0, one).offsets(), (1..=200).collect::<Vec<_>>(), "nobody who reads loses anything");
}

#[test]
fn several_channels_are_one_stream_in_order_of_publication() {
    let mut rig = rig(2);
    rig.publish("a", b"1", 10);
    rig.publish("b", b"2", 10);
    rig.publish("a", b"3", 10);
    let session = rig.subscribe(1, &["a", "b", "c", "a"], "", Start::Oldest);
    assert_eq!(rig.store.log().info(key("a"), rig.now()).unwrap().unwrap().subscribers, 1, "named twice, there once");
    rig.settle();
    for (id, text) in [("c", "4"), ("b", "5"), ("a", "6"), ("b", "7"), ("d", "-"), ("c", "8")] {
        rig.publish(id, text.as_bytes(), 10);
    }
    rig.settle();
    let texts: Vec<_> = payloads(&rig.client(1, session).received).concat();
    assert_eq!(String::from_utf8(texts).unwrap(), "12345678");
}

#[test]
fn several_channels_resume_from_one_id() {
    let mut rig = rig(1);
    let ids = ["a", "b", "c"];
    let mut total = 0;
    let mut texts = Vec::new();
    let mut position = String::new();
    for round in 0..20 {
        let options = |options: &mut SubscribeOptions<'_>| {
            options.start = Start::Oldest;
            options.form = Box::leak(Box::new(meta()));
            options.on_gap = OnGap::Tell;
        };
        // The order in which the location names them is another one each time.
        let mut order = ids;
        order.rotate_left(round % 3);
        let session = rig.try_subscribe(0, &order, &position, options, usize::MAX).unwrap();
        for _ in 0..round {
            rig.publish(ids[total % 3], format!("<{total}>").as_bytes(), 100);
            total += 1;
            if total % 4 == 0 {
                rig.settle();
            }
        }
        rig.serve(0, 1);
        let id = rig.client(0, session).id;
        let after = rig.workers[0].fanout.position(id).unwrap();
        let client = rig.unsubscribe(0, session);
        for payload in payloads(&client.received) {
            let payload = String::from_utf8(payload).unwrap();
            let (id, text) = payload.strip_prefix("id: ").unwrap().split_once("\n\n").unwrap();
            position = id.to_owned();
            texts.push(text.to_owned());
        }
        if !client.items.is_empty() {
            assert_eq!(position, after, "the last id says where it is");
        } else if position.is_empty() {
            position = after;
        }
    }
    let last = rig.subscribe(0, &ids, &position, Start::Newest);
    rig.settle();
    texts.extend(payloads(&rig.client(0, last).received).into_iter().map(|text| String::from_utf8(text).unwrap()));
    assert_eq!(texts, (0..total).map(|n| format!("<{n}>")).collect::<Vec<_>>());
}

#[test]
fn a_deleted_channel_closes_its_subscribers_after_its_messages() {
    let mut rig = rig(2);
    let sessions: Vec<_> = (0..4).map(|n| (n % 2, rig.subscribe(n % 2, &["a", "b"], "", Start::Newest))).collect();
    let slow = rig.try_subscribe(0, &["a"], "", |_| {}, 1).unwrap();
    rig.settle();
    rig.publish("a", b"bye", 10);
    rig.store.log().delete(key("a"), rig.now()).unwrap();
    rig.publish("a", b"another", 10);
    rig.settle();
    for (worker, session) in sessions {
        let client = rig.client(worker, session);
        assert_eq!((payloads(&client.received), client.end), (vec![b"bye".to_vec()], Some(Next::Gone)));
    }
    assert_eq!(rig.client(0, slow).end, None, "it has not read yet");
    rig.read(0, slow, usize::MAX);
    rig.settle();
    assert_eq!(rig.client(0, slow).end, Some(Next::Gone));
    assert!(rig.workers.iter().all(|worker| worker.fanout.is_empty() && worker.fanout.octets() == 0));
    let info = rig.store.log().info(key("a"), rig.now()).unwrap().unwrap();
    assert_eq!((info.subscribers, info.messages), (0, 1));
    assert_eq!(rig.store.log().info(key("b"), rig.now()).unwrap().unwrap().subscribers, 0);
}

#[test]
fn a_refused_subscription_leaves_nothing_behind() {
    let mut rig = rig(1);
    rig.publish("a", b"x", 10);
    let refused = rig.try_subscribe(0, &["a", "b"], "", |options| options.terms.create = false, 1);
    assert_eq!(refused, Err(SubscribeError::Missing));
    assert_eq!(rig.store.log().info(key("a"), rig.now()).unwrap().unwrap().subscribers, 0);
    assert_eq!(rig.try_subscribe(0, &[], "", |_| {}, 1), Err(SubscribeError::Channels));
    let ids = vec!["a"; MAX_POSITIONS + 1];
    assert_eq!(rig.try_subscribe(0, &ids, "", |_| {}, 1), Err(SubscribeError::Channels));
    assert!(rig.workers[0].fanout.is_empty());
    assert!(rig.workers[0].fanout.next().is_none());
    let one = rig.subscribe(0, &["a"], "", Start::Oldest);
    rig.settle();
    assert_eq!(rig.client(0, one).offsets(), [1]);
}

#[test]
fn an_id_that_has_gone_is_nobody() {
    let mut rig = rig(1);
    let session = rig.subscribe(0, &["a"], "", Start::Newest);
    let old = rig.unsubscribe(0, session).id;
    let other = rig.subscribe(0, &["a"], "", Start::Newest);
    let (store, now) = (Rc::clone(&rig.store), rig.now());
    let Worker { fanout, slot, scratch, batch, .. } = &mut rig.workers[0];
    fanout.block(old);
    fanout.unblock(old);
    fanout.unsubscribe(store.log(), *slot, old, now).unwrap();
    assert_eq!(fanout.peek(store.log(), old, SOME, now, scratch, batch).unwrap(), Next::Gone);
    assert_eq!(fanout.position(old), None);
    rig.publish("a", b"x", 10);
    rig.settle();
    assert_eq!(rig.client(0, other).offsets(), [1]);
}

#[test]
fn written_octets_tell_what_was_begun() {
    let mut batch = Batch::default();
    for offset in 1..=3 {
        let id = MessageIdOf(offset).id();
        let shared = Shared::new(crate::channel::message::Message::for_tests(id, MessageKind::Text, b"", b"", b"abc"));
        batch.push(Item {
            buffer: Buffer::Frame(shared),
            message: None,
            lost: None,
            channel: None,
            which: 0,
            next: Offset(offset + 1),
            delivered: 0,
            cut: 0,
            told: true,
        });
    }
    let begun = |written| {
        let (items, rest) = batch.begun(written);
        (items, rest.map(|(buffer, at)| buffer.octets().len() - at))
    };
    let expected = [(0, 0, None), (1, 1, Some(4)), (4, 1, Some(1)), (5, 1, None), (6, 2, Some(4)), (15, 3, None)];
    for (written, items, rest) in expected {
        assert_eq!(begun(written), (items, rest), "{written}");
    }
}

struct MessageIdOf(u64);

impl MessageIdOf {
    fn id(&self) -> crate::channel::position::MessageId {
        crate::channel::position::MessageId { epoch: Epoch(1), offset: Offset(self.0) }
    }
}

#[test]
fn what_is_not_kept_reaches_everybody_who_is_there_once_and_in_order() {
    let mut rig = Rig::new(2, 4 << 20, Limits::default());
    let options = |options: &mut SubscribeOptions<'_>| options.on_gap = OnGap::Close;
    let quick: Vec<_> = (0..2).map(|worker| rig.subscribe(worker, &["a"], "", Start::Oldest)).collect();
    let slow = rig.try_subscribe(0, &["a"], "", options, 1000).unwrap();
    let mut last = None;
    for round in 0..10_usize {
        for n in 0..3 {
            last = Some(rig.publish_with("a", &vec![b'x'; 10_000 * (n + 1)], History::OFF));
        }
        rig.settle();
        if round % 2 == 0 {
            rig.read(0, slow, 50_000);
            rig.settle();
        }
    }
    assert_eq!(rig.store.usage().unwrap().messages, 0);
    rig.read(0, slow, usize::MAX);
    rig.settle();
    let expected: Vec<u64> = (1..=30).collect();
    for (worker, session) in [(0, quick[0]), (1, quick[1]), (0, slow)] {
        assert_eq!(rig.client(worker, session).offsets(), expected);
        assert_eq!(rig.client(worker, session).end, None);
    }
    let epoch = last.unwrap().id.epoch.0;
    let late = rig.subscribe(1, &["a"], "", Start::Oldest);
    let back = rig.try_subscribe(1, &["a"], &format!("{epoch}:28"), options, usize::MAX).unwrap();
    rig.settle();
    assert_eq!(rig.client(1, late).offsets(), [0; 0], "nothing is there for who comes later");
    assert_eq!(rig.client(1, back).end, Some(Next::Lagging { lost: 2 }), "and who comes back is told");
    rig.publish_with("a", b"31", History::OFF);
    rig.settle();
    assert_eq!(rig.client(1, late).offsets(), [31]);
}

#[test]
fn clients_that_take_nothing_do_not_hold_up_the_others() {
    let mut rig = Rig::new(1, 16 << 20, Limits::default());
    let most = Limits::default().high / Limits::default().keep + 10;
    for n in 0..most {
        rig.try_subscribe(0, &[&format!("stuck {n}")], "", |_| {}, 1).unwrap();
    }
    let quick = rig.subscribe(0, &["quick"], "", Start::Newest);
    for round in 1..=3_u64 {
        for n in 0..most {
            for _ in 0..4 {
                rig.publish(&format!("stuck {n}"), &[b'x'; 20_000], 2);
            }
            for _ in 0..1000 {
                if !(rig.collect(0) | rig.serve(0, usize::MAX)) {
                    break;
                }
            }
        }
        rig.publish("quick", b"x", 2);
        for _ in 0..1000 {
            if !(rig.collect(0) | rig.serve(0, usize::MAX)) {
                break;
            }
        }
        assert_eq!(rig.client(0, quick).offsets(), (1..=round).collect::<Vec<_>>());
    }
}

#[test]
fn how_far_behind_somebody_is() {
    let mut rig = rig(1);
    let called = |name: &'static [u8]| {
        move |options: &mut SubscribeOptions<'_>| options.terms = Terms { presence: name, ..TERMS }
    };
    // The last two have not said who they are, or have taken everything.
    for (name, room) in [(&b"a"[..], 1), (b"b", 1), (b"", 1), (b"c", usize::MAX)] {
        rig.try_subscribe(0, &["x"], "", called(name), room).unwrap();
    }
    let behind = |rig: &Rig| {
        let list = rig.store.presence().list(key("x"), 10).unwrap().unwrap();
        list.named.into_iter().rev().map(|named| (named.name, named.behind)).collect::<Vec<_>>()
    };
    let tell = |rig: &mut Rig, most| {
        let (store, slot) = (Rc::clone(&rig.store), rig.workers[0].slot);
        rig.workers[0].fanout.tell_behind(store.presence(), slot, most);
    };
    let expected = |a, b| [(b"a".to_vec(), a), (b"b".to_vec(), b), (b"c".to_vec(), 0)];
    for _ in 0..5 {
        rig.publish("x", b"message", 10);
    }
    rig.settle();
    assert_eq!(behind(&rig), expected(0, 0), "nobody has been told of");
    tell(&mut rig, 1);
    assert_eq!(behind(&rig), expected(4, 0), "one of them, which has begun the first message");
    tell(&mut rig, 1);
    assert_eq!(behind(&rig), expected(4, 4), "the other one");
    rig.publish("x", b"message", 10);
    rig.settle();
    tell(&mut rig, 3);
    assert_eq!(behind(&rig), expected(5, 5));
    for session in 0..2 {
        rig.read(0, session, usize::MAX);
    }
    rig.settle();
    tell(&mut rig, 3);
    assert_eq!(behind(&rig), expected(0, 0), "they have read everything");
    assert!(rig.workers[0].fanout.slow.is_empty());
}
