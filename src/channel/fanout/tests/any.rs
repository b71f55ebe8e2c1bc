// SPDX-License-Identifier: Apache-2.0

//! Any sequence of events: nobody loses a message without being told, and nobody gets one twice.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Publish {
        channel: usize,
        len: usize,
        history: u32,
    },
    Subscribe {
        worker: usize,
        channels: Vec<usize>,
        room: usize,
        form: u8,
        oldest: bool,
    },
    /// A client goes, and comes back with its position to any worker.
    Return {
        nth: usize,
        worker: usize,
    },
    Read {
        nth: usize,
        room: usize,
    },
    Collect {
        worker: usize,
    },
    Serve {
        worker: usize,
        turns: usize,
    },
    Delete {
        channel: usize,
    },
    Tidy {
        worker: usize,
    },
}

const IDS: [&str; 4] = ["a", "b", "c", "d"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || 0..2_usize;
    let channel = || 0..IDS.len();
    let room = || prop_oneof![Just(usize::MAX), 0..400_usize];
    let step = prop_oneof![
        12 => (channel(), 0..200_usize, 1..6_u32)
            .prop_map(|(channel, len, history)| Step::Publish { channel, len, history }),
        4 => (worker(), proptest::collection::vec(channel(), 1..4), room(), 0..4_u8, any::<bool>())
            .prop_map(|(worker, channels, room, form, oldest)| Step::Subscribe { worker, channels, room, form, oldest }),
        3 => (any::<usize>(), worker()).prop_map(|(nth, worker)| Step::Return { nth, worker }),
        6 => (any::<usize>(), 1..600_usize).prop_map(|(nth, room)| Step::Read { nth, room }),
        6 => worker().prop_map(|worker| Step::Collect { worker }),
        6 => (worker(), 1..10_usize).prop_map(|(worker, turns)| Step::Serve { worker, turns }),
        1 => channel().prop_map(|channel| Step::Delete { channel }),
        1 => worker().prop_map(|worker| Step::Tidy { worker }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What a client has seen so far, over all its connections.
struct Watcher {
    worker: usize,
    session: usize,
    channels: Vec<usize>,
    form: Rc<WireForm>,
    /// By epoch: the next offset that it must get.
    expected: HashMap<u64, u64>,
    /// Items and octets of the current connection that have been looked at.
    items: usize,
    octets: usize,
    /// Octets that are due according to the items.
    serials: Vec<String>,
    /// Messages lost before the next one.
    lost: Option<u64>,
}

struct Run {
    rig: Rig,
    watchers: Vec<Watcher>,
    published: HashMap<(u64, u64), String>,
    count: usize,
}

impl Run {
    fn publish(&mut self, channel: usize, len: usize, history: u32) {
        self.count += 1;
        let text = format!("{}:{}", self.count, "x".repeat(len));
        let id = self.rig.publish(IDS[channel], text.as_bytes(), history).id;
        self.published.insert((id.epoch.0, id.offset.0), text);
    }

    fn subscribe(&mut self, worker: usize, channels: &[usize], room: usize, form: u8, oldest: bool) {
        let form = match form {
            0 => Rc::new(WireForm::Body),
            1 => Rc::new(WireForm::EventSource),
            2 => meta(),
            _ => Rc::new(WireForm::Raw(b"\n".as_slice().into())),
        };
        let start = if oldest { Start::Oldest } else { Start::Newest };
        let (session, expected) = self.connect(worker, channels, "", &form, start, room);
        let channels = channels.to_vec();
        self.watchers.push(Watcher {
            worker,
            session,
            channels,
            form,
            expected,
            items: 0,
            octets: 0,
            serials: vec![],
            lost: None,
        });
    }

    fn connect(
        &mut self,
        worker: usize,
        channels: &[usize],
        asked: &str,
        form: &Rc<WireForm>,
        start: Start,
        room: usize,
    ) -> (usize, HashMap<u64, u64>) {
        let ids: Vec<_> = channels.iter().map(|nth| IDS[*nth]).collect();
        let form = Box::leak(Box::new(Rc::clone(form)));
        let options = |options: &mut SubscribeOptions<'_>| {
            options.form = form;
            options.start = start;
            options.on_gap = OnGap::Tell;
        };
        let session = self.rig.try_subscribe(worker, &ids, asked, options, room).unwrap();
        let id = self.rig.client(worker, session).id;
        let subscriber = self.rig.workers[worker].fanout.subscribers.get(id.0).unwrap();
        let first = |membership: &Membership| membership.next.0 - membership.lost.unwrap_or(0);
        (session, subscriber.memberships().iter().map(|it| (it.epoch.0, first(it))).collect())
    }

    /// Looks at what a client has got since the last time.
    fn look(&mut self, nth: usize) {
        let Self { rig, watchers, published, .. } = self;
        let watcher = &mut watchers[nth];
        let client = &rig.workers[watcher.worker].clients[&watcher.session];
        for got in &client.items[watcher.items..] {
            match got {
                Got::Lost(count) => watcher.lost = Some(*count),
                Got::Gap(MessageOf { epoch, offset }) => {
                    let expected = watcher.expected.get_mut(epoch).expect("a channel that it has subscribed to");
                    assert!(offset >= expected);
                    *expected = *offset;
                }
                Got::Message(MessageOf { epoch, offset }) => {
                    let expected = watcher.expected.get_mut(epoch).expect("a channel that it has subscribed to");
                    assert_eq!(*offset, *expected + watcher.lost.take().unwrap_or(0), "neither lost nor repeated");
                    *expected = offset + 1;
                    watcher.serials.push(published[&(*epoch, *offset)].clone());
                }
            }
        }
        watcher.items = client.items.len();
        if client.rest.is_none() && *watcher.form == WireForm::Raw(b"\n".as_slice().into()) {
            // What it was sent is what was to be sent.
            let text: String = watcher.serials.iter().flat_map(|text| [text.as_str(), "\n"]).collect();
            assert_eq!(String::from_utf8_lossy(&client.received), text);
        }
        watcher.octets = client.received.len();
    }

    fn come_back(&mut self, nth: usize, worker: usize) {
        self.look(nth);
        let watcher = &self.watchers[nth];
        let old = self.rig.client(watcher.worker, watcher.session);
        let id = old.id;
        let position = self.rig.workers[watcher.worker].fanout.position(id);
        let (channels, form) = (watcher.channels.clone(), Rc::clone(&watcher.form));
        self.rig.unsubscribe(watcher.worker, watcher.session);
        // One that was closed because its channel is gone begins anew.
        let asked = position.clone().unwrap_or_default();
        let before = self.watchers[nth].expected.clone();
        let (session, mut expected) = self.connect(worker, &channels, &asked, &form, Start::Newest, usize::MAX);
        if position.is_some() {
            for (epoch, next) in &mut expected {
                if let Some(before) = before.get(epoch) {
                    assert!(*next >= *before, "no repeat");
                    *next = *before;
                }
            }
        }
        let watcher = &mut self.watchers[nth];
        *watcher =
            Watcher { worker, session, channels, form, expected, items: 0, octets: 0, serials: vec![], lost: None };
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish { channel, len, history } => self.publish(*channel, *len, *history),
            Step::Subscribe { worker, channels, room, form, oldest } => {
                self.subscribe(*worker, channels, *room, *form, *oldest);
            }
            Step::Return { nth, worker } if !self.watchers.is_empty() => {
                self.come_back(nth % self.watchers.len(), *worker);
            }
            Step::Read { nth, room } if !self.watchers.is_empty() => {
                let watcher = &self.watchers[nth % self.watchers.len()];
                self.rig.read(watcher.worker, watcher.session, *room);
            }
            Step::Return { .. } | Step::Read { .. } => {}
            Step::Collect { worker } => drop(self.rig.collect(*worker)),
            Step::Serve { worker, turns } => drop(self.rig.serve(*worker, *turns)),
            Step::Delete { channel } => drop(self.rig.store.log().delete(key(IDS[*channel]), self.rig.now()).unwrap()),
            Step::Tidy { worker } => self.rig.workers[*worker].fanout.tidy(),
        }
        for nth in 0..self.watchers.len() {
            self.look(nth);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 300 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nobody_loses_anything_unknowingly(steps in steps()) {
        let limits = Limits { keep: 600, high: 5000, copy: Budget { messages: 5, octets: 2000 } };
        let rig = Rig::new(2, 1 << 20, limits);
        let mut run = Run { rig, watchers: vec![], published: HashMap::new(), count: 0 };
        for step in &steps {
            run.step(step);
        }
        for nth in 0..run.watchers.len() {
            let (worker, session) = (run.watchers[nth].worker, run.watchers[nth].session);
            run.rig.read(worker, session, usize::MAX / 2);
        }
        run.rig.settle();
        for nth in 0..run.watchers.len() {
            run.look(nth);
            let watcher = &run.watchers[nth];
            let client = run.rig.client(watcher.worker, watcher.session);
            prop_assert!(client.rest.is_none());
            if client.end.is_none() {
                for &channel in &watcher.channels {
                    let info = run.rig.store.log().info(key(IDS[channel]), run.rig.now()).unwrap().unwrap();
                    let expected = watcher.expected.get(&info.last.epoch.0).copied();
                    prop_assert_eq!(expected, Some(info.last.offset.0 + 1), "everything has arrived");
                }
            }
        }
        for nth in 0..run.watchers.len() {
            let (worker, session) = (run.watchers[nth].worker, run.watchers[nth].session);
            run.rig.unsubscribe(worker, session);
        }
        for worker in 0..2 {
            prop_assert!(run.rig.workers[worker].fanout.is_empty());
            prop_assert_eq!(run.rig.workers[worker].fanout.octets(), 0);
            run.rig.collect(worker);
        }
        for id in IDS {
            if let Some(info) = run.rig.store.log().info(key(id), run.rig.now()).unwrap() {
                prop_assert_eq!(info.subscribers, 0);
            }
        }
    }
}
