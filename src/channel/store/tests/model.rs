// SPDX-License-Identifier: Apache-2.0

//! Any sequence of operations against a model that is a few vectors.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;

const SLOTS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Publish { channel: u8, len: u16, history: History },
    Subscribe { channel: u8, slot: usize },
    Unsubscribe { channel: u8, slot: usize },
    Drain { slot: usize, messages: usize },
    Read { channel: u8, back: u64, messages: usize },
    Delete { channel: u8 },
    Pass { milliseconds: u64 },
    Tend { most: usize },
    Die { slot: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = || 0..4_u8;
    let slot = || 0..SLOTS;
    let len = prop_oneof![4 => 0..200_u16, 1 => 0..3000_u16];
    let length = prop_oneof![Just(0_u32), 1..8_u32];
    let time = prop_oneof![Just(0_u64), 1..5000_u64, Just(600_000)];
    let kept = (length, time).prop_map(|(length, time)| History { length, time });
    let history = prop_oneof![6 => kept, 1 => Just(History::OFF)];
    let step = prop_oneof![
        8 => (channel(), len, history).prop_map(|(channel, len, history)| Step::Publish { channel, len, history }),
        3 => (channel(), slot()).prop_map(|(channel, slot)| Step::Subscribe { channel, slot }),
        2 => (channel(), slot()).prop_map(|(channel, slot)| Step::Unsubscribe { channel, slot }),
        4 => (slot(), 1..6_usize).prop_map(|(slot, messages)| Step::Drain { slot, messages }),
        4 => (channel(), 0..12_u64, 1..6_usize)
            .prop_map(|(channel, back, messages)| Step::Read { channel, back, messages }),
        1 => channel().prop_map(|channel| Step::Delete { channel }),
        3 => (0..4000_u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        1 => (0..400_000_u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        2 => (1..100_usize).prop_map(|most| Step::Tend { most }),
        1 => slot().prop_map(|slot| Step::Die { slot }),
    ];
    proptest::collection::vec(step, 1..80)
}

/// A channel as it should be.
#[derive(Debug, Default)]
struct Channel {
    handle: Option<Handle>,
    last: u64,
    /// Offset, time, data.
    log: VecDeque<(u64, u64, Vec<u8>)>,
    history: Option<History>,
    /// Subscribers of each worker.
    subscribers: [u32; SLOTS],
    /// Who they are, and what each is known by then.
    names: [Vec<(&'static str, Option<Present>)>; SLOTS],
    /// What each worker calls it.
    tokens: [u32; SLOTS],
    used: u64,
    /// All before have once been outside of the history.
    left: u64,
}

impl Channel {
    /// The oldest message that is in its history at this time: at least, and at most. What was not in it once may have been
    /// dropped; if it has not, a longer history has it again. Expired messages stay while some worker has still to copy them.
    fn oldest(&self, clock: u64, uncopied: bool) -> (u64, u64) {
        let History { length, time } = self.history.unwrap_or(KEEP);
        let alive = self.log.iter().find(|(_, at, _)| time == 0 || at + time > clock).map(|(offset, ..)| *offset);
        let alive = alive.unwrap_or(self.last + 1);
        let kept = match length {
            0 => 1,
            _ if self.history == Some(History::OFF) => self.last + 1,
            length => (self.last + 1).saturating_sub(u64::from(length)),
        };
        (if uncopied { kept } else { alive.max(kept) }, alive.max(kept).max(self.left))
    }

    /// Notes what is not in its history now.
    fn leave(&mut self, clock: u64) {
        self.left = self.left.max(self.oldest(clock, false).0);
    }
}

/// What a worker is to be told, by token.
type Stream = VecDeque<(u64, Vec<u8>)>;

/// Whether some worker has still to copy messages of a channel.
fn uncopied(channel: &Channel, expected: &[HashMap<u32, (Stream, bool)>]) -> bool {
    let behind = |slot: usize| expected[slot].get(&channel.tokens[slot]).is_some_and(|(stream, _)| !stream.is_empty());
    (0..SLOTS).any(|slot| channel.subscribers[slot] > 0 && behind(slot))
}

struct Run {
    rig: Rig,
    channels: HashMap<u8, Channel>,
    slots: Vec<Slot>,
    /// By worker and token: what was published, and whether the channel is deleted then.
    expected: Vec<HashMap<u32, (Stream, bool)>>,
    next_token: u32,
    next_pid: u32,
    data: u8,
}

impl Run {
    fn new() -> Self {
        let rig = Rig::new(2 << 20);
        let slots = (1..=SLOTS as u32).map(|pid| rig.claim(pid)).collect();
        let expected = (0..SLOTS).map(|_| HashMap::new()).collect();
        Self { rig, channels: HashMap::new(), slots, expected, next_token: 0, next_pid: 100, data: 0 }
    }

    /// The channel, or a new one in its place if it may have been forgotten.
    fn settle(&mut self, id: u8) {
        let clock = self.rig.clock.get();
        let info = self.rig.info(&id.to_string());
        let Some(channel) = self.channels.get_mut(&id) else {
            assert_eq!(info, None);
            return;
        };
        let (least, most) = channel.oldest(clock, uncopied(channel, &self.expected));
        channel.leave(clock);
        let subscribers: u32 = channel.subscribers.iter().sum();
        match info {
            Some(info) => {
                let oldest = channel.last + 1 - u64::from(info.messages);
                assert!((least..=most).contains(&oldest), "{oldest} is not in {least}..={most}");
                assert_eq!(info.subscribers, subscribers);
                assert_eq!(info.last.offset.0, channel.last);
                assert_eq!(Some(info.last.epoch), channel.handle.map(|handle| Epoch(handle.life)));
                let mut names: Vec<_> =
                    channel.names.iter().flatten().map(|(name, _)| name.as_bytes().to_vec()).collect();
                names.retain(|name| !name.is_empty());
                names.sort();
                let presence = self.rig.store.presence().of(key(&id.to_string())).unwrap().unwrap();
                let listed = presence.names.iter().flat_map(|(name, &count)| vec![name.clone(); count as usize]);
                assert_eq!((presence.subscribers, listed.collect::<Vec<_>>()), (subscribers, names));
            }
            None => {
                assert_eq!((most, subscribers), (channel.last + 1, 0), "a channel in use is gone");
                // Its last message may have expired long after it was used, and nobody looked.
                assert!(clock >= channel.used + LINGER, "gone too early");
                self.channels.remove(&id);
            }
        }
    }

    fn publish(&mut self, id: u8, len: u16, history: History) {
        self.settle(id);
        let (clock, name) = (self.rig.clock.get(), id.to_string());
        self.data = self.data.wrapping_add(1);
        let data = vec![self.data; usize::from(len)];
        let published = self.rig.try_publish(&name, &data, history).unwrap();
        let channel = self.channels.entry(id).or_default();
        channel.handle.get_or_insert(published.channel);
        assert_eq!(channel.handle, Some(published.channel));
        channel.last += 1;
        assert_eq!(published.id.offset.0, channel.last);
        channel.log.push_back((channel.last, clock, data.clone()));
        channel.history = Some(history);
        channel.used = clock;
        for (slot, &token) in channel.tokens.iter().enumerate() {
            if channel.subscribers[slot] > 0 {
                let (stream, _) = self.expected[slot].entry(token).or_default();
                stream.push_back((channel.last, data.clone()));
            }
        }
        self.settle(id);
    }

    fn subscribe(&mut self, id: u8, slot: usize) {
        self.settle(id);
        let token = self.next_token;
        self.next_token += 1;
        let name = ["anna", "", "bob"][token as usize % 3];
        let terms = Terms { presence: name.as_bytes(), ..TERMS };
        let (id_text, now) = (id.to_string(), self.rig.now());
        let subscribed =
            self.rig.store.log().subscribe(key(&id_text), self.slots[slot], Token(token), terms, now).unwrap();
        let channel = self.channels.entry(id).or_default();
        channel.handle.get_or_insert(subscribed.channel);
        assert_eq!(channel.handle, Some(subscribed.channel));
        assert_eq!(subscribed.first, channel.subscribers[slot] == 0);
        assert_eq!(subscribed.window.upcoming.0, channel.last + 1);
        let (least, most) = channel.oldest(self.rig.clock.get(), uncopied(channel, &self.expected));
        assert!((least..=most).contains(&subscribed.window.history.0));
        if subscribed.first {
            channel.tokens[slot] = token;
            self.expected[slot].remove(&token);
        }
        assert_eq!(subscribed.token.0, channel.tokens[slot]);
        channel.subscribers[slot] += 1;
        assert_eq!(subscribed.present.is_none(), name.is_empty());
        channel.names[slot].push((name, subscribed.present));
        channel.used = self.rig.clock.get();
    }

    fn unsubscribe(&mut self, id: u8, slot: usize) {
        self.settle(id);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.subscribers[slot] == 0 {
            return;
        }
        channel.subscribers[slot] -= 1;
        channel.used = self.rig.clock.get();
        if channel.subscribers[slot] == 0 {
            self.expected[slot].remove(&channel.tokens[slot]);
        }
        // Sooner or later each of them, not in the order in which they came.
        let which = self.data as usize % channel.names[slot].len();
        let (_, present) = channel.names[slot].swap_remove(which);
        self.rig.store.log().unsubscribe(channel.handle.unwrap(), self.slots[slot], present, self.rig.now()).unwrap();
        self.settle(id);
    }

    fn drain(&mut self, slot: usize, messages: usize) {
        let mut news = Vec::new();
        let budget = Budget { messages, octets: usize::MAX };
        let more = self.rig.store.log().drain(self.slots[slot], budget, self.rig.now(), &mut news).unwrap();
        assert!(news.len() <= messages + self.expected[slot].len());
        for news in news {
            match news {
                News::Message(Token(token), message) => {
                    let (stream, _) = self.expected[slot].get_mut(&token).expect("a token in use");
                    let (offset, data) = stream.pop_front().expect("a message that was published");
                    assert_eq!((message.id.offset.0, message.data()), (offset, &data[..]));
                }
                News::Missing(..) => unreachable!("no message goes that somebody waits for"),
                News::Replaced { .. } => unreachable!("no engine has these channels"),
                News::Deleted(Token(token)) => {
                    let (stream, deleted) = self.expected[slot].remove(&token).unwrap_or_default();
                    assert!(deleted && stream.is_empty());
                }
            }
        }
        if !more {
            let left = self.expected[slot].values().find(|(stream, deleted)| *deleted || !stream.is_empty());
            assert_eq!(left, None, "everything was to be copied");
        }
    }

    fn read(&mut self, id: u8, back: u64, messages: usize) {
        self.settle(id);
        let clock = self.rig.clock.get();
        let Some(channel) = self.channels.get(&id) else { return };
        let next = (channel.last + 2).saturating_sub(back).max(1);
        let mut out = Vec::new();
        let budget = Budget { messages, octets: usize::MAX };
        let read = self.rig.store.log().read(channel.handle.unwrap(), Offset(next), budget, self.rig.now(), &mut out);
        let read = read.unwrap();
        let got: Vec<_> = out.iter().map(|message| (message.id.offset.0, message.data().to_vec())).collect();
        let first = got.first().map_or(next.max(channel.last + 1), |(offset, _)| *offset);
        assert_eq!(read.lost, first - next);
        let due: Vec<_> = channel.log.iter().filter(|(offset, ..)| *offset >= first).collect();
        assert_eq!(got.len(), due.len().min(messages));
        assert_eq!(read.more, due.len() > messages);
        for ((offset, data), (due_offset, _, due_data)) in got.iter().zip(due) {
            assert_eq!((offset, data), (due_offset, due_data));
        }
        // Everything of the history is there; what lies beyond it may be.
        assert!(first <= channel.oldest(clock, false).1.max(next));
        assert_eq!(read.next.0, got.last().map_or(first, |(offset, _)| offset + 1));
    }

    fn delete(&mut self, id: u8) {
        self.settle(id);
        let deleted = self.rig.store.log().delete(key(&id.to_string()), self.rig.now()).unwrap();
        let channel = self.channels.remove(&id);
        assert_eq!(deleted.is_some(), channel.is_some());
        let Some(channel) = channel else { return };
        for slot in 0..SLOTS {
            if channel.subscribers[slot] > 0 {
                self.expected[slot].entry(channel.tokens[slot]).or_default().1 = true;
            }
        }
    }

    fn die(&mut self, slot: usize) {
        let victim = self.rig.store.workers().unwrap()[slot];
        self.next_pid += 1;
        let new = Process { pid: self.next_pid, start: 1 };
        let claimed = self.rig.store.claim(new, |process| process != victim).unwrap();
        assert_eq!((claimed.cleared, claimed.slot), (1, self.slots[slot]));
        self.expected[slot].clear();
        for channel in self.channels.values_mut() {
            channel.subscribers[slot] = 0;
            channel.names[slot].clear();
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { channel, len, history } => self.publish(channel, len, history),
            Step::Subscribe { channel, slot } => self.subscribe(channel, slot),
            Step::Unsubscribe { channel, slot } => self.unsubscribe(channel, slot),
            Step::Drain { slot, messages } => self.drain(slot, messages),
            Step::Read { channel, back, messages } => self.read(channel, back, messages),
            Step::Delete { channel } => self.delete(channel),
            Step::Pass { milliseconds } => self.rig.pass(milliseconds),
            Step::Tend { most } => {
                self.rig.store.tend(self.rig.now(), most).unwrap();
            }
            Step::Die { slot } => self.die(slot),
        }
        self.rig.check();
    }
}

proptest! {
    #![proptest_config(super::cases(300))]

    #[test]
    fn the_store_is_its_model(steps in steps()) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        // When everybody has gone and everything has expired, nothing is left.
        for slot in 0..SLOTS {
            run.die(slot);
        }
        for id in 0..4 {
            run.delete(id);
        }
        run.rig.pass(1 << 30);
        run.rig.store.tend(run.rig.now(), usize::MAX).unwrap();
        run.rig.check();
        let usage = run.rig.store.usage().unwrap();
        prop_assert_eq!((usage.channels, usage.messages, usage.free_cells), (0, 0, usage.cells));
        prop_assert_eq!((usage.repairs, usage.evicted), (0, 0));
    }
}
