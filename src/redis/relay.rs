// SPDX-License-Identifier: Apache-2.0

//! What keeps a node's copies of channels complete: one relay for each node and engine.
//!
//! It listens to the Pub/Sub channels of what the node has subscribers of. These lose messages and promise nothing, the stream is what
//! counts: once a Pub/Sub channel is subscribed to, whenever a message does not follow the one before it, and every few
//! seconds, the copy is compared with the stream, and what is missing is read. A copy is [kept](Copies::keep) from the first time
//! that it was complete for as long as the relay is connected or comes back; who subscribes begins only then.
//!
//! Who owns the connection passes its events in; who owns the copies is asked by the trait.

mod announce;
mod check;
mod copies;
mod events;
mod fetching;
mod moving;
#[cfg(test)]
mod rig;
mod turns;

pub use copies::{Channel, Copies, Copy};
pub use moving::{Displaced, Moving};

use std::collections::{HashMap, VecDeque};

use super::connection::{Connection, Token};
use super::names::Names;
use super::script;
use super::script::group::{Counted, Counting};
use crate::channel::position::{Epoch, Offset};
use announce::Announced;
use check::Quiet;
use fetching::Fetching;
use turns::Turns;

/// How long a channel stays subscribed to that the node has no subscribers of any more, in milliseconds.
const LINGER: u64 = 10_000;

/// How soon the engine is told of subscribers that have come or gone, in milliseconds.
const SOON: u64 = 100;

/// How often it is looked whether subscribers have gone, in milliseconds.
const COUNT: u64 = 1_000;

/// How long a channel lives in the engine after its last listener has gone, in milliseconds: a client that comes back still
/// finds the epoch of its position.
const LIFETIME: u64 = 65_000;

/// How long after a refusal a channel is looked at again, in milliseconds.
const AGAIN: u64 = 250;

/// Messages of a channel that are read at once.
const MESSAGES: usize = 256;

/// Names in one command.
const NAMES: usize = 256;

/// Channels whose subscribers are counted in one step.
const STEP: usize = 256;

/// How far a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelStage {
    /// The channel is to be subscribed to.
    Wanted,
    /// The engine was asked to.
    Subscribing,
    /// The channel is to be compared with its stream.
    Due,
    /// The engine was asked for what is missing. `again`: something has happened since that makes the answer old.
    Reading { again: bool },
    /// The copy has all that is known of.
    Complete,
}

#[derive(Debug)]
struct State {
    /// The copy is known to have less than the stream.
    is_behind: bool,
    channel: Channel,
    names: Names,
    /// Where its group is counted.
    counted: Option<Counted>,
    /// What the engine has said of the group's own limit of subscribers.
    limit: Option<Option<u32>>,
    stage: ChannelStage,
    /// The copy has been complete since it was first asked for, and is kept.
    kept: bool,
    /// The slots of workers that wait for it.
    waiting: Vec<usize>,
    /// When a subscriber was last seen, or asked for.
    used: u64,
    /// What the engine knows of its subscribers.
    announced: Announced,
    /// When its subscribers are counted. Entries of the queue with other times are of a channel of this name that has gone.
    count_at: u64,
    /// The node has this channel already, but not yet its slot.
    asking: bool,
    /// When the channel came from another relay.
    moved: u64,
    /// The last time at which somebody asked for it to be compared, and that of the comparison that is under way.
    wanted: u64,
    reading: u64,
    /// The message after which messages are being read; `None`: it is only compared.
    reads_after: Option<Offset>,
}

/// What an answer is awaited for.
#[derive(Debug)]
enum Asked {
    Read(Box<[u8]>),
    /// The same, without messages.
    Comparison(Box<[u8]>),
    Announcement(Box<[u8]>),
    Check(Vec<check::Asked>),
}

/// What has been done, for the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages that came by Pub/Sub and were the next ones.
    pub told: u64,
    /// Messages that were read from streams because something was missing in a copy that had been complete.
    pub fetched: u64,
    /// Epochs of copies that have changed.
    pub epochs: u64,
    /// Commands that were sent.
    pub sent: u64,
    /// Commands that were not answered, or were answered by an error.
    pub failed: u64,
}

/// The relay of a node: which channels it listens to, and how far each of them is.
#[derive(Debug)]
pub struct Relay {
    prefix: Vec<u8>,
    database: u32,
    counting: Counting,
    /// The name of the node.
    node: Vec<u8>,
    channels: HashMap<Box<[u8]>, State>,
    asked: HashMap<Token, Asked>,
    next_token: u64,
    /// Channels that something is to be asked for, in that order.
    due: VecDeque<Box<[u8]>>,
    /// Channels of which messages are read, and those that wait for their turn.
    fetching: Fetching,
    behind: VecDeque<Box<[u8]>>,
    /// Channels that something is to be asked for, but not before a time. Invariant: times never decrease from front to back
    /// in each queue.
    later: VecDeque<(u64, Box<[u8]>)>,
    count: VecDeque<(u64, Box<[u8]>)>,
    /// When channels are compared that nothing happens on, and those whose turn has come.
    turns: Turns,
    quiet: Vec<Quiet>,
    /// The server does not know the scripts any more.
    forgotten: bool,
    /// The relay was connected before.
    has_served: bool,
    /// Pub/Sub channels belong to slots.
    is_sharded: bool,
    /// What the node has said of channels that are not there.
    displaced: Vec<Displaced>,
    counts: Counts,
}

impl Counts {
    /// The sum.
    pub fn and(self, other: Self) -> Self {
        Counts {
            told: self.told + other.told,
            fetched: self.fetched + other.fetched,
            epochs: self.epochs + other.epochs,
            sent: self.sent + other.sent,
            failed: self.failed + other.failed,
        }
    }
}

impl Relay {
    /// A relay of the node `node` that listens to nothing yet.
    pub fn new(prefix: Vec<u8>, database: u32, node: Vec<u8>) -> Self {
        Relay {
            prefix,
            database,
            counting: Counting::Nothing,
            node,
            channels: HashMap::new(),
            asked: HashMap::new(),
            next_token: 0,
            due: VecDeque::new(),
            fetching: Fetching::new(),
            behind: VecDeque::new(),
            later: VecDeque::new(),
            count: VecDeque::new(),
            turns: Turns::new(),
            quiet: Vec::new(),
            forgotten: false,
            has_served: false,
            is_sharded: false,
            displaced: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The relay of a place where these groups are counted.
    pub fn counting(self, counting: Counting) -> Self {
        Relay { counting, ..self }
    }

    /// What has been done since the relay began.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the server has forgotten the scripts, which are loaded when another connection begins. Said once: the next
    /// connection, too, is one that has no scripts as long as it begins.
    pub fn take_needs_another_connection(&mut self) -> bool {
        std::mem::take(&mut self.forgotten)
    }

    /// Channels that it listens to, or is about to.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether it listens to a channel, or is about to.
    pub fn has(&self, channel: &Channel) -> bool {
        let names = Names::of(&self.prefix, self.database, &channel.group, &channel.id);
        self.channels.contains_key(names.topic())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The worker in this slot wants to subscribe to a channel, of which there will be so many subscribers then; or the node has subscribers
    /// of it.
    ///
    /// `since` is not 0 where the copy has to be compared first, and says when that was asked for: its client has a position that
    /// the copy does not know, which may be one of an epoch that this node has not heard of.
    pub fn open(
        &mut self,
        channel: Channel,
        slot: Option<usize>,
        expected: u32,
        since: u64,
        copies: &mut impl Copies,
        now: u64,
    ) {
        let names = Names::of(&self.prefix, self.database, &channel.group, &channel.id);
        let topic: Box<[u8]> = names.topic().into();
        if let Some(state) = self.channels.get_mut(&topic) {
            state.channel.history = channel.history;
            state.used = now;
            // Whoever has asked twice, since it was not known who listens, is there already.
            if expected > copies.look(&state.channel).subscribers {
                state.announced.expect(expected, now);
            }
            if !std::mem::replace(&mut state.announced.changed, true) {
                self.due.push_back(topic.clone());
            }
            if since > state.wanted {
                state.wanted = since;
                match &mut state.stage {
                    ChannelStage::Complete => {
                        state.stage = ChannelStage::Due;
                        self.due.push_back(topic.clone());
                    }
                    ChannelStage::Reading { again } => *again = true,
                    ChannelStage::Wanted | ChannelStage::Subscribing | ChannelStage::Due => {}
                }
            }
            match slot {
                Some(slot) if state.kept && since == 0 => copies.ready(slot),
                Some(slot) if !state.waiting.contains(&slot) => state.waiting.push(slot),
                _ => {}
            }
            return;
        }
        let state = State {
            is_behind: false,
            counted: self.counting.of(&self.prefix, &channel.group, &channel.id),
            limit: None,
            channel,
            names,
            stage: ChannelStage::Wanted,
            kept: false,
            waiting: slot.into_iter().collect(),
            used: now,
            announced: Announced::expecting(expected.max(1), now),
            count_at: now + COUNT,
            asking: false,
            moved: 0,
            wanted: since,
            reading: 0,
            reads_after: None,
        };
        self.channels.insert(topic.clone(), state);
        self.due.push_back(topic.clone());
        self.turns.add(topic.clone());
        self.count.push_back((now + COUNT, topic));
    }

    /// A channel has gone, or goes elsewhere.
    fn remove(&mut self, topic: &[u8]) -> Option<State> {
        self.turns.remove(topic);
        self.channels.remove(topic)
    }

    /// Subscribers of a channel have come or gone.
    pub fn changed(&mut self, group: &[u8], id: &[u8], now: u64) {
        let topic = Names::of(&self.prefix, self.database, group, id).topic().into();
        let Some(state) = self.channels.get_mut(&topic) else { return };
        if !std::mem::replace(&mut state.announced.changed, true) {
            self.later(now + SOON, topic);
        }
    }

    /// The connection takes commands: everything is subscribed to anew, and compared.
    pub fn connected(&mut self) {
        self.forgotten = false;
        self.forget_asked();
        for (topic, state) in &mut self.channels {
            state.stage = ChannelStage::Wanted;
            state.announced.forget();
            self.due.push_back(topic.clone());
        }
    }

    /// The connection is to another server than the one before, which may have less: nobody is told that a copy is complete before it was
    /// compared. Whether there was a server before.
    pub fn serves_another_server(&mut self) -> bool {
        for state in self.channels.values_mut() {
            state.kept = false;
        }
        std::mem::replace(&mut self.has_served, true)
    }

    /// The connection has ended. What the node has stays, and is compared once there is another one.
    pub fn disconnected(&mut self) {
        self.forget_asked();
    }

    fn forget_asked(&mut self) {
        self.asked.clear();
        self.due.clear();
        self.behind.clear();
        self.fetching.end();
        self.quiet.clear();
    }

    /// Messages were read.
    fn fetched(&mut self) {
        self.fetching.done();
        if self.asked.is_empty() && self.due.is_empty() && self.behind.is_empty() {
            self.fetching.all_done();
        }
    }

    /// The next channel that something is to be asked for, and whether messages of it may be read. Those that wait for that have their turn
    /// one after the other, however much there is to be read of any of them.
    fn next_due(&mut self) -> Option<(Box<[u8]>, bool)> {
        let has_room = self.fetching.has_room();
        if let Some(topic) = self.due.pop_front() {
            return Some((topic, has_room && self.behind.is_empty()));
        }
        if has_room { self.behind.pop_front().map(|topic| (topic, true)) } else { None }
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub fn deadline(&self) -> Option<u64> {
        let firsts = [self.later.front(), self.count.front()].map(|first| first.map(|(time, _)| *time));
        firsts.into_iter().chain([self.turns.deadline()]).flatten().min()
    }

    /// Time has passed.
    pub fn on_time(&mut self, connection: &mut Connection, copies: &mut impl Copies, now: u64) {
        while let Some((_, topic)) = first_due(&mut self.later, now) {
            self.due.push_back(topic);
        }
        self.take_turns(connection, copies, now);
        for _ in 0..STEP {
            let Some((time, topic)) = first_due(&mut self.count, now) else { break };
            let Some(state) = self.channels.get_mut(&topic).filter(|state| state.count_at == time) else { continue };
            let present = copies.look(&state.channel).subscribers;
            let is_known = !state.announced.is_expecting() && state.announced.is_of(present, now);
            if !is_known && !std::mem::replace(&mut state.announced.changed, true) {
                self.due.push_back(topic.clone());
            }
            state.count_at = now + COUNT;
            self.count.push_back((now + COUNT, topic));
        }
        self.ask(connection, copies, now);
    }

    /// Asks for what is due, as far as the connection takes it.
    pub fn ask(&mut self, connection: &mut Connection, copies: &mut impl Copies, now: u64) {
        if !connection.is_ready() {
            return;
        }
        let mut wanted: Vec<Box<[u8]>> = Vec::new();
        let mut soon: Vec<(u64, Box<[u8]>)> = Vec::new();
        while let Some((topic, is_turn)) = self.next_due() {
            let Some(state) = self.channels.get_mut(&topic) else { continue };
            let mut refused = false;
            if state.stage == ChannelStage::Wanted {
                state.stage = ChannelStage::Subscribing;
                wanted.push(topic.clone());
            } else if state.stage == ChannelStage::Due && state.is_behind && !is_turn {
                self.behind.push_back(topic.clone());
            } else if state.stage == ChannelStage::Due {
                let after = copies.look(&state.channel).next.previous();
                let (token, epoch) = (Token(self.next_token), Epoch(copies.draw()));
                let (names, counted) = (&state.names, state.counted.as_ref());
                let (messages, octets) = if is_turn { (MESSAGES, self.fetching.octets()) } else { (0, 0) };
                let wanted = script::Wanted { after, messages, octets, lifetime: LIFETIME };
                let read = |out: &mut Vec<u8>| script::read(names, counted, epoch, wanted, out);
                if connection.command_as(token, state.asking, now, read).is_ok() {
                    self.next_token += 1;
                    self.counts.sent += 1;
                    let asked = if is_turn { Asked::Read } else { Asked::Comparison };
                    self.asked.insert(token, asked(topic.clone()));
                    if is_turn {
                        self.fetching.begin();
                    }
                    state.stage = ChannelStage::Reading { again: false };
                    state.reading = state.wanted;
                    state.reads_after = is_turn.then_some(after);
                } else {
                    refused = true;
                }
            }
            if state.announced.changed && !refused && state.stage != ChannelStage::Subscribing {
                let present = copies.look(&state.channel).subscribers;
                if !state.waiting.is_empty() {
                    // Nobody can have come before the copy is complete.
                    state.announced.expect_longer(now);
                }
                let subscribers = state.announced.count(present, now);
                let who = if subscribers > 0 { copies.presence(&state.channel) } else { Vec::new() };
                let announcement = state.announced.prepare(subscribers, who, now);
                let (token, names, node, who) = (Token(self.next_token), &state.names, &self.node, &announcement.who);
                let counted = state.counted.as_ref().map(|counted| {
                    let others = copies.group_subscribers(&state.channel).saturating_sub(present);
                    (&counted.group, others.saturating_add(subscribers))
                });
                let write = |out: &mut Vec<u8>| {
                    script::announce(names, node, announce::LIFETIME, subscribers, who.as_deref(), counted, out);
                };
                if connection.command_as(token, state.asking, now, write).is_ok() {
                    self.next_token += 1;
                    self.counts.sent += 1;
                    self.asked.insert(token, Asked::Announcement(topic.clone()));
                    state.announced.told(&announcement, now);
                    if state.announced.take_news() {
                        // Who was expected has come then as a rule. Otherwise it is looked with each count.
                        soon.push((now + SOON, topic.clone()));
                    }
                    soon.extend(announcement.again_at.map(|time| (time, topic.clone())));
                } else {
                    refused = true;
                }
            }
            if refused {
                // As many commands as may wait do: their answers make room.
                self.due.push_front(topic);
                break;
            }
        }
        for (time, topic) in soon {
            if let Some(state) = self.channels.get_mut(&topic) {
                state.announced.changed = true;
                self.later(time, topic);
            }
        }
        self.subscribe(wanted, connection, now);
        self.check(connection, copies, now);
    }

    fn later(&mut self, time: u64, topic: Box<[u8]>) {
        // What comes soonest is what comes latest in all queues but for the differences between AGAIN and SOON.
        let at = self.later.iter().rposition(|(other, _)| *other <= time).map_or(0, |at| at + 1);
        self.later.insert(at, (time, topic));
    }
}

/// Takes the first one off a queue if its time has come.
fn first_due(queue: &mut VecDeque<(u64, Box<[u8]>)>, now: u64) -> Option<(u64, Box<[u8]>)> {
    queue.front().filter(|(time, _)| *time <= now)?;
    queue.pop_front()
}
