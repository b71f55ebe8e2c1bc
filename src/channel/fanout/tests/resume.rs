// SPDX-License-Identifier: Apache-2.0

//! Clients of several channels that go at any moment and come back with the last id that they have read: whatever was lost is
//! told, once or again, and nothing comes twice.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Publish { channel: usize, len: usize, history: u32 },
    Subscribe { worker: usize, channels: Vec<usize>, room: usize, oldest: bool },
    Return { nth: usize, worker: usize, room: usize },
    Read { nth: usize, room: usize },
    Collect { worker: usize },
    Serve { worker: usize, turns: usize },
    Delete { channel: usize },
}

const IDS: [&str; 14] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || 0..2_usize;
    // A few channels have most of the messages, so that some of them are lost.
    let channel = || prop_oneof![3 => 0..3_usize, 1 => 0..IDS.len()];
    let room = || prop_oneof![1 => Just(usize::MAX), 2 => 0..300_usize];
    let channels = prop_oneof![
        proptest::collection::vec(channel(), 1..5),
        Just((0..IDS.len()).collect::<Vec<_>>()),
        (9..IDS.len()).prop_map(|count| (0..count).rev().collect()),
    ];
    let step = prop_oneof![
        20 => (channel(), 0..20_usize, 0..4_u32)
            .prop_map(|(channel, len, history)| Step::Publish { channel, len, history }),
        3 => (worker(), channels, room(), any::<bool>())
            .prop_map(|(worker, channels, room, oldest)| Step::Subscribe { worker, channels, room, oldest }),
        6 => (any::<usize>(), worker(), room()).prop_map(|(nth, worker, room)| Step::Return { nth, worker, room }),
        6 => (any::<usize>(), 1..300_usize).prop_map(|(nth, room)| Step::Read { nth, room }),
        6 => worker().prop_map(|worker| Step::Collect { worker }),
        8 => (worker(), 1..6_usize).prop_map(|(worker, turns)| Step::Serve { worker, turns }),
        1 => channel().prop_map(|channel| Step::Delete { channel }),
    ];
    proptest::collection::vec(step, 1..150)
}

/// What a client has read of one channel.
#[derive(Debug, Clone, Copy)]
struct Seen {
    epoch: u64,
    next: u64,
    /// Whether the subscriber must be told of a gap before the next message.
    owed: bool,
    /// The channel was replaced: it may be told of a gap.
    replaced: bool,
}

struct Watcher {
    worker: usize,
    session: usize,
    channels: Vec<usize>,
    seen: HashMap<usize, Seen>,
    /// Events of the current connection that were read as a whole.
    events: usize,
    /// The last id that was read.
    last: String,
}

struct Run {
    rig: Rig,
    watchers: Vec<Watcher>,
    /// Channels and newest offsets by their epochs.
    heads: HashMap<u64, (usize, u64)>,
}

impl Run {
    fn new() -> Self {
        let limits = Limits { keep: 300, high: 5000, copy: Budget { messages: 5, octets: 2000 } };
        Self { rig: Rig::new(2, 1 << 20, limits), watchers: vec![], heads: HashMap::new() }
    }

    fn publish(&mut self, channel: usize, len: usize, history: u32) {
        // Without a number to keep, nothing is kept.
        let history = if history == 0 { History::OFF } else { History::of(history.into(), 0) };
        let id = self.rig.publish_with(IDS[channel], &vec![b'x'; len], history).id;
        self.heads.insert(id.epoch.0, (channel, id.offset.0));
    }

    /// The session, the position that it begins with, and for each channel its epoch and where it begins.
    fn connect(
        &mut self,
        worker: usize,
        channels: &[usize],
        asked: &str,
        start: Start,
        room: usize,
    ) -> (usize, String, Vec<(u64, u64)>) {
        let ids: Vec<_> = channels.iter().map(|nth| IDS[*nth]).collect();
        let form = Box::leak(Box::new(Rc::new(WireForm::EventSource)));
        let options = |options: &mut SubscribeOptions<'_>| {
            options.form = form;
            options.start = start;
            options.on_gap = OnGap::Tell;
        };
        let session = self.rig.try_subscribe(worker, &ids, asked, options, room).unwrap();
        let id = self.rig.client(worker, session).id;
        let fanout = &self.rig.workers[worker].fanout;
        let memberships = fanout.subscribers.get(id.0).unwrap().memberships();
        (session, fanout.position(id).unwrap(), memberships.iter().map(|it| (it.epoch.0, it.next.0)).collect())
    }

    fn subscribe(&mut self, worker: usize, channels: &[usize], room: usize, oldest: bool) {
        let mut distinct = channels.to_vec();
        let mut known = std::collections::HashSet::new();
        distinct.retain(|channel| known.insert(*channel));
        let start = if oldest { Start::Oldest } else { Start::Newest };
        let (session, last, begun) = self.connect(worker, &distinct, "", start, room);
        let seen = distinct.iter().zip(&begun).map(|(channel, (epoch, next))| {
            (*channel, Seen { epoch: *epoch, next: *next, owed: false, replaced: false })
        });
        let seen = seen.collect();
        for (channel, (epoch, next)) in distinct.iter().zip(begun) {
            self.heads.entry(epoch).or_insert((*channel, next - 1));
        }
        self.watchers.push(Watcher { worker, session, channels: distinct, seen, events: 0, last });
    }

    /// Looks at the events that a client has read since the last time.
    fn look(&mut self, nth: usize) {
        let Self { rig, watchers, heads } = self;
        let watcher = &mut watchers[nth];
        let client = &rig.workers[watcher.worker].clients[&watcher.session];
        let text = String::from_utf8_lossy(&client.received);
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end + 2]);
        let events: Vec<&str> = whole.split_terminator("\n\n").collect();
        for (got, event) in client.items.iter().zip(&events).skip(watcher.events) {
            watcher.last = event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
            assert!(watcher.last.len() < 40 + 22 * IDS.len(), "{}", watcher.last);
            match got {
                Got::Lost(_) => panic!("this form tells of gaps by itself"),
                Got::Gap(MessageOf { epoch, offset }) => {
                    let (channel, _) = heads.get(epoch).copied().unwrap_or_else(|| panic!("{epoch}"));
                    let seen = watcher.seen.get_mut(&channel).unwrap();
                    assert_eq!(seen.epoch, *epoch);
                    assert!(*offset > seen.next || seen.replaced, "a gap where nothing was lost");
                    *seen = Seen { epoch: *epoch, next: *offset, owed: false, replaced: false };
                }
                Got::Message(MessageOf { epoch, offset }) => {
                    let seen = watcher.seen.values_mut().find(|seen| seen.epoch == *epoch).unwrap();
                    assert!(!seen.owed, "a gap was not told");
                    assert_eq!(*offset, seen.next, "neither lost nor repeated");
                    seen.next += 1;
                    seen.replaced = false;
                }
            }
        }
        watcher.events = events.len();
    }

    fn come_back(&mut self, nth: usize, worker: usize, room: usize) {
        self.look(nth);
        let watcher = &self.watchers[nth];
        let (channels, asked) = (watcher.channels.clone(), watcher.last.clone());
        self.rig.unsubscribe(watcher.worker, watcher.session);
        let (session, last, begun) = self.connect(worker, &channels, &asked, Start::Newest, room);
        let watcher = &mut self.watchers[nth];
        for (channel, (epoch, next)) in channels.iter().zip(begun) {
            let seen = watcher.seen.get_mut(channel).unwrap();
            self.heads.entry(epoch).or_insert((*channel, next - 1));
            if seen.epoch != epoch {
                let (_, head) = self.heads[&seen.epoch];
                // What was still owed of the channel before, or of the one before that, is owed by this one.
                *seen = Seen { epoch, next: 1, owed: seen.owed || head >= seen.next, replaced: true };
            }
        }
        (watcher.worker, watcher.session, watcher.events, watcher.last) = (worker, session, 0, last);
    }

    fn step(&mut self, step: &Step) {
        let count = self.watchers.len();
        match step {
            Step::Publish { channel, len, history } => self.publish(*channel, *len, *history),
            Step::Subscribe { worker, channels, room, oldest } => self.subscribe(*worker, channels, *room, *oldest),
            Step::Return { nth, worker, room } if count > 0 => self.come_back(nth % count, *worker, *room),
            Step::Read { nth, room } if count > 0 => {
                let watcher = &self.watchers[nth % count];
                self.rig.read(watcher.worker, watcher.session, *room);
            }
            Step::Return { .. } | Step::Read { .. } => {}
            Step::Collect { worker } => drop(self.rig.collect(*worker)),
            Step::Serve { worker, turns } => drop(self.rig.serve(*worker, *turns)),
            Step::Delete { channel } => drop(self.rig.store.log().delete(key(IDS[*channel]), self.rig.now()).unwrap()),
        }
        for nth in 0..self.watchers.len() {
            self.look(nth);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whoever_comes_back_is_told_of_every_loss(steps in steps()) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        for nth in 0..run.watchers.len() {
            run.come_back(nth, nth % 2, usize::MAX);
        }
        run.rig.settle();
        for nth in 0..run.watchers.len() {
            run.look(nth);
            let watcher = &run.watchers[nth];
            prop_assert_eq!(run.rig.client(watcher.worker, watcher.session).end, None);
            for channel in &watcher.channels {
                let last = run.rig.store.log().info(key(IDS[*channel]), run.rig.now()).unwrap().unwrap().last;
                let seen = watcher.seen[channel];
                prop_assert_eq!((seen.epoch, seen.next, seen.owed), (last.epoch.0, last.offset.0 + 1, false));
            }
        }
    }
}
