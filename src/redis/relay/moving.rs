// SPDX-License-Identifier: Apache-2.0

//! Channels that go to another relay: in a cluster there is one for each node that has slots of theirs.
//!
//! A channel takes along what is known of it, so that nobody who waits for it is forgotten, and is subscribed to and compared
//! anew where it comes to: what was published meanwhile is fetched.

use super::{ChannelStage, Copies, Relay, State};
use crate::redis::connection::Connection;
use crate::redis::error::{ErrorReply, Redirect};

/// A channel that moves again so soon waits a little, in milliseconds.
const TO_AND_FRO: u64 = 1_000;

/// A channel on its way to another relay.
#[derive(Debug)]
pub struct Moving(State);

impl Moving {
    /// The slot of the channel.
    pub fn slot(&self) -> u16 {
        self.0.names.slot()
    }
}

/// A node has said that a channel is at another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displaced {
    /// Its Pub/Sub channel.
    pub topic: Box<[u8]>,
    /// Where the channel is.
    pub to: Redirect,
    /// Only this channel is there already, and the others of its slot are not: `ASKING` goes before what is asked there.
    pub asking: bool,
}

impl Relay {
    /// The relay of a node of a cluster, where Pub/Sub channels belong to slots.
    pub fn sharded(self) -> Self {
        Relay { is_sharded: true, ..self }
    }

    /// What the node has said of channels that are not there, since the last call.
    pub fn take_displaced(&mut self) -> Vec<Displaced> {
        std::mem::take(&mut self.displaced)
    }

    /// The Pub/Sub channels that do not belong here.
    pub fn misplaced(&self, belongs: impl Fn(u16) -> bool) -> Vec<Box<[u8]>> {
        // Channels that are here because of an ASK belong to another node, and are sent away by MOVED.
        let misplaced = self.channels.iter().filter(|(_, state)| !state.asking && !belongs(state.names.slot()));
        misplaced.map(|(topic, _)| topic.clone()).collect()
    }

    /// Lets a channel go to another relay.
    pub fn take(&mut self, topic: &[u8], connection: Option<&mut Connection>, now: u64) -> Option<Moving> {
        let state = self.remove(topic)?;
        if let Some(connection) = connection
            && !matches!(state.stage, ChannelStage::Wanted)
        {
            // Refused where the connection is not ready, and listens to nothing then.
            let _ = connection.unsubscribe(&[topic], now);
        }
        Some(Moving(state))
    }

    /// Takes a channel over from another relay. It is [asked](Relay::ask) for with the next step.
    pub fn adopt(&mut self, moving: Moving, asking: bool, now: u64) {
        let Moving(mut state) = moving;
        let topic: Box<[u8]> = state.names.topic().into();
        state.stage = ChannelStage::Wanted;
        state.asking = asking;
        // The node that has the channel now is told of the subscribers, and the queue has one entry of it.
        state.announced.forget();
        state.count_at = now + super::COUNT;
        let since = now.saturating_sub(std::mem::replace(&mut state.moved, now));
        self.channels.insert(topic.clone(), state);
        if since < TO_AND_FRO {
            // Nodes that have yet to agree send it to and fro.
            self.later(now + super::AGAIN, topic.clone());
        } else {
            self.due.push_back(topic.clone());
        }
        self.turns.add(topic.clone());
        self.count.push_back((now + super::COUNT, topic));
    }

    /// The node has refused what was asked of a channel: notes where the channel is, if it has said so.
    pub(super) fn displace(&mut self, topic: &[u8], error: &ErrorReply) {
        let (to, asking) = match error {
            ErrorReply::Moved(to) => (to, false),
            ErrorReply::Ask(to) => (to, true),
            _ => return,
        };
        self.displaced.push(Displaced { topic: topic.into(), to: to.clone(), asking });
        if asking {
            // The slot is being moved: others of its channels may be there as well, and are told of nothing here.
            let slot = to.slot;
            for (topic, state) in &mut self.channels {
                if state.stage == ChannelStage::Complete && state.names.slot() == slot {
                    state.stage = ChannelStage::Due;
                    self.due.push_back(topic.clone());
                }
            }
        }
    }

    /// Channels for which this is the same may stand in one command: their slot, and whether `ASKING` goes before it.
    pub(super) fn part_of(&self, topic: &[u8]) -> (u16, bool) {
        let state = self.channels.get(topic).filter(|_| self.is_sharded);
        state.map_or((0, false), |state| (state.names.slot(), state.asking))
    }

    /// Subscribes to what is wanted, in a cluster by slots: one command has names of one slot only.
    pub(super) fn subscribe(&self, mut wanted: Vec<Box<[u8]>>, connection: &mut Connection, now: u64) {
        if self.is_sharded {
            wanted.sort_by_cached_key(|topic| self.part_of(topic));
        }
        for topics in wanted.chunk_by(|one, other| self.part_of(one) == self.part_of(other)) {
            for topics in topics.chunks(super::NAMES) {
                let (_, asking) = topics.first().map_or((0, false), |topic| self.part_of(topic));
                let topics: Vec<&[u8]> = topics.iter().map(|topic| &**topic).collect();
                // Cannot fail: the connection is ready.
                let _ = connection.subscribe_as(&topics, asking, now);
            }
        }
    }

    /// The copies of all channels are nobody's until they were compared with another server.
    pub fn forsake(&mut self, copies: &mut impl Copies) {
        for state in self.channels.values_mut() {
            state.kept = false;
            copies.keep(&state.channel, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::relay::rig::{Kept, Listener, channel, names};

    #[test]
    fn one_command_has_names_of_one_slot() {
        let (mut listener, mut copies) = (Listener::new(), Kept::default());
        let ids = ["a", "b", "c"];
        for id in ids {
            listener.relay.open(channel(id), None, 1, 0, &mut copies, 0);
        }
        assert_eq!(listener.sent(&mut copies, 0), ["SSUBSCRIBE"; 3]);
    }

    #[test]
    fn a_channel_takes_along_who_waits_for_it() {
        let (mut from, mut to, mut copies) = (Listener::new(), Listener::new(), Kept::default());
        from.relay.open(channel("a"), Some(3), 1, 0, &mut copies, 0);
        assert_eq!(from.sent(&mut copies, 0), ["SSUBSCRIBE"]);
        let slot = names("a").slot();
        assert!(from.relay.misplaced(|other| other == slot).is_empty());
        let topics = from.relay.misplaced(|_| false);
        assert_eq!(topics, [Box::from(names("a").topic())]);
        let moving = from.relay.take(&topics[0], Some(&mut from.connection), 1).unwrap();
        assert_eq!(moving.slot(), slot);
        assert_eq!(from.sent(&mut copies, 1), ["SUNSUBSCRIBE"]);
        assert!(from.relay.is_empty() && from.relay.take(&topics[0], None, 1).is_none());
        to.relay.adopt(moving, false, 2_000);
        assert!(to.relay.has(&channel("a")));
        assert_eq!(to.sent(&mut copies, 2_000), ["SSUBSCRIBE"]);
        let topic = String::from_utf8(topics[0].to_vec()).unwrap();
        let said = format!(">3\r\n$10\r\nssubscribe\r\n${}\r\n{topic}\r\n:1\r\n", topic.len());
        to.says(said.as_bytes(), &mut copies, 2_000);
        assert!(to.sent(&mut copies, 2_000).contains(&"EVALSHA".to_owned()));
        // Epoch, newest, oldest and base of a channel without messages.
        to.says(b"*4\r\n$1\r\n7\r\n$1\r\n0\r\n$1\r\n0\r\n$1\r\n0\r\n", &mut copies, 2_000);
        assert_eq!((copies.kept.get(&*channel("a").id), &*copies.ready), (Some(&true), &[3][..]));
        to.relay.forsake(&mut copies);
        assert_eq!(copies.kept.get(&*channel("a").id), Some(&false));
    }

    #[test]
    fn a_node_says_where_a_channel_is() {
        let (mut from, mut to, mut copies) = (Listener::new(), Listener::new(), Kept::default());
        from.relay.open(channel("a"), None, 1, 0, &mut copies, 0);
        from.sent(&mut copies, 0);
        let slot = names("a").slot();
        from.says(format!("-MOVED {slot} h:7002\r\n").as_bytes(), &mut copies, 1);
        let displaced = from.relay.take_displaced();
        assert_eq!(displaced.len(), 1);
        assert!(!displaced[0].asking && displaced[0].to.port == 7002);
        assert!(from.relay.take_displaced().is_empty());
        let moving = from.relay.take(&displaced[0].topic, Some(&mut from.connection), 5_000).unwrap();
        // The channel is there already, and its slot is not: each command says so.
        to.relay.adopt(moving, true, 5_000);
        assert!(to.relay.misplaced(|_| false).is_empty(), "it stays although its slot is elsewhere");
        assert_eq!(to.sent(&mut copies, 5_000), ["ASKING", "SSUBSCRIBE"]);
        let topic = String::from_utf8(displaced[0].topic.to_vec()).unwrap();
        let said = format!("+OK\r\n>3\r\n$10\r\nssubscribe\r\n${}\r\n{topic}\r\n:1\r\n", topic.len());
        to.says(said.as_bytes(), &mut copies, 5_000);
        assert!(to.sent(&mut copies, 5_000).starts_with(&["ASKING".to_owned(), "EVALSHA".to_owned()]));
        // A node that sends it back at once is not asked again at once.
        to.says(format!("+OK\r\n-MOVED {slot} h:7001\r\n").as_bytes(), &mut copies, 5_001);
        let displaced = to.relay.take_displaced();
        from.sent(&mut copies, 5_000);
        let moving = to.relay.take(&displaced[0].topic, Some(&mut to.connection), 5_001).unwrap();
        from.relay.adopt(moving, false, 5_001);
        assert_eq!(from.sent(&mut copies, 5_001), Vec::<String>::new());
        assert_eq!(from.sent(&mut copies, 5_001 + super::super::AGAIN), ["SSUBSCRIBE"]);
    }

    #[test]
    fn other_channels_of_a_slot_that_is_being_moved_are_looked_at() {
        let (mut listener, mut copies) = (Listener::new(), Kept::default());
        let slot = names("a").slot();
        let error = ErrorReply::parse(format!("ASK {slot} h:7002").as_bytes());
        listener.relay.open(channel("a"), None, 1, 0, &mut copies, 0);
        let topic: Box<[u8]> = names("a").topic().into();
        listener.relay.due.clear();
        listener.relay.channels.get_mut(&topic).unwrap().stage = ChannelStage::Complete;
        listener.relay.displace(b"another", &error);
        assert_eq!(listener.relay.channels[&topic].stage, ChannelStage::Due);
        assert_eq!(listener.relay.due, [topic]);
        listener.relay.displace(b"another", &ErrorReply::TryAgain);
        assert_eq!(listener.relay.take_displaced().len(), 1);
    }
}
