// SPDX-License-Identifier: Apache-2.0

//! What a [`Relay`] makes of what its server says: messages of Pub/Sub, what was read of streams, and notices.

use super::{AGAIN, Asked, ChannelStage, Copies, Relay};
use crate::channel::position::MessageId;
use crate::channel::store::{Appended, History, Original};
use crate::redis::connection::{Connection, Event};
use crate::redis::envelope;
use crate::redis::error::ErrorReply;
use crate::redis::notice::Notice;
use crate::redis::script;
use crate::redis::script::reply::{Failure, Fetched, Noted};

impl Relay {
    /// Something has happened on the connection.
    pub fn on_event(&mut self, event: Event, connection: &mut Connection, copies: &mut impl Copies, now: u64) {
        match event {
            Event::Answered(token, reply) => match self.asked.remove(&token) {
                Some(Asked::Read(topic)) => {
                    let found = script::reply::fetched(&reply);
                    self.fetched();
                    self.read(topic, found, copies, now);
                }
                Some(Asked::Comparison(topic)) => self.read(topic, script::reply::fetched(&reply), copies, now),
                Some(Asked::Announcement(topic)) => self.noted(topic, &script::reply::noted(&reply), copies),
                Some(Asked::Check(asked)) => self.checked(asked, &reply, copies),
                None => {}
            },
            Event::Abandoned(token, _) => {
                self.counts.failed += 1;
                self.asked.remove(&token);
            }
            Event::Notice(Notice::Message { topic, id, unix, history, sealed }) => {
                self.told(&topic, id, unix, history, &sealed, copies);
            }
            Event::Notice(Notice::Deleted { topic, .. }) => {
                if let Some(state) = self.channels.get_mut(&*topic) {
                    copies.delete(&state.channel);
                    state.kept = false;
                    if state.waiting.is_empty() {
                        // Its subscribers go; who listened on would make the channel anew.
                        self.remove(&topic);
                        // Cannot fail: the connection is ready.
                        let _ = connection.unsubscribe(&[&topic], now);
                    } else {
                        self.look_again(&topic);
                    }
                }
            }
            Event::Notice(Notice::Expelled { topic, who }) => {
                if let Some(state) = self.channels.get(&*topic) {
                    copies.expel(&state.channel, &who);
                }
            }
            Event::Notice(Notice::Subscribed { topic }) => {
                if let Some(state) = self.channels.get_mut(&*topic)
                    && state.stage == ChannelStage::Subscribing
                {
                    state.stage = ChannelStage::Due;
                    self.due.push_back(topic.into());
                }
            }
            Event::Notice(Notice::Unsubscribed { topic }) => {
                // The channel may have been let go and be wanted again, or the server has moved it.
                if let Some(state) = self.channels.get_mut(&*topic)
                    && state.stage != ChannelStage::Subscribing
                {
                    state.stage = ChannelStage::Wanted;
                    self.due.push_back(topic.into());
                }
            }
            Event::NotSubscribed(topics, error) => {
                for topic in topics {
                    self.displace(&topic, &error);
                    if let Some(state) = self.channels.get_mut(&*topic) {
                        state.stage = ChannelStage::Wanted;
                        self.later(now + AGAIN, topic.into());
                    }
                }
            }
            Event::Ready(_) => self.connected(),
            Event::Ended(_) => self.disconnected(),
            // Another version of this module may say in another way that something has happened.
            Event::Notice(Notice::Foreign { topic, .. }) => self.look_again(&topic),
            Event::Notice(Notice::Other) => {}
        }
        self.ask(connection, copies, now);
    }

    /// A message has come by Pub/Sub.
    fn told(
        &mut self,
        topic: &[u8],
        id: MessageId,
        unix: u64,
        history: History,
        sealed: &[u8],
        copies: &mut impl Copies,
    ) {
        let Some(state) = self.channels.get(topic) else { return };
        let appended = match envelope::open(sealed) {
            Some(envelope) => copies.append(&state.channel, id, unix, &envelope, Some(history)),
            // The message has a place in the stream, and is passed over there.
            None => Appended::OtherEpoch,
        };
        match appended {
            Appended::Done(_) => self.counts.told += 1,
            Appended::Known => {}
            Appended::Behind(_) | Appended::OtherEpoch | Appended::NoCopy => self.look_again(topic),
        }
    }

    /// The copy of a channel is not what the engine has.
    fn look_again(&mut self, topic: &[u8]) {
        let Some(state) = self.channels.get_mut(topic) else { return };
        match &mut state.stage {
            ChannelStage::Complete => {
                state.stage = ChannelStage::Due;
                self.due.push_back(topic.into());
            }
            ChannelStage::Reading { again } => *again = true,
            ChannelStage::Wanted | ChannelStage::Subscribing | ChannelStage::Due => {}
        }
    }

    /// What was read of a channel's stream.
    fn read(&mut self, topic: Box<[u8]>, found: Result<Fetched, Failure>, copies: &mut impl Copies, now: u64) {
        let Some(state) = self.channels.get_mut(&topic) else { return };
        let ChannelStage::Reading { again } = state.stage else { return };
        state.stage = ChannelStage::Due;
        self.counts.failed += u64::from(found.is_err());
        if let Err(Failure::Refused(error)) = &found {
            self.displace(&topic, error);
        }
        let Some(state) = self.channels.get_mut(&topic) else { return };
        self.forgotten |= found == Err(Failure::Refused(ErrorReply::NoScript));
        let (Ok(found), epoch) =
            (&found, found.as_ref().ok().and_then(|found| found.epoch.filter(|epoch| epoch.0 != 0)))
        else {
            return self.later(now + AGAIN, topic);
        };
        let Some(epoch) = epoch else { return self.later(now + AGAIN, topic) };
        let oldest = found.oldest.unwrap_or(found.newest.next());
        let known = copies.look(&state.channel).epoch;
        self.counts.epochs += u64::from(known.0 != 0 && known != epoch);
        let history = found.history.unwrap_or(state.channel.history);
        let original = |oldest| Original { epoch, oldest, lineage: found.lineage };
        if !copies.follow(&state.channel, original(oldest), history) {
            return self.later(now + AGAIN, topic);
        }
        let mut after = state.reads_after;
        for entry in &found.entries {
            if let Some(after) = after.replace(entry.offset)
                && entry.offset > after.next()
                && copies.look(&state.channel).next == after.next()
            {
                // Somebody has taken what was between out of the stream.
                copies.follow(&state.channel, original(entry.offset), history);
            }
            let id = MessageId { epoch, offset: entry.offset };
            let Some(envelope) = envelope::open(&entry.sealed) else {
                // Not one of ours, and lost for everybody.
                copies.follow(&state.channel, original(entry.offset.next()), history);
                continue;
            };
            match copies.append(&state.channel, id, entry.unix, &envelope, None) {
                Appended::Done(_) => self.counts.fetched += u64::from(state.kept),
                Appended::Known => {}
                // What is between is read next.
                Appended::Behind(_) | Appended::OtherEpoch | Appended::NoCopy => break,
            }
        }
        let mut next = copies.look(&state.channel).next;
        if found.entries.is_empty()
            && next <= found.newest
            && state.reads_after.is_some_and(|after| next == after.next())
        {
            // The newest ones were taken out.
            copies.follow(&state.channel, original(found.newest.next()), history);
            next = copies.look(&state.channel).next;
        }
        state.is_behind = next <= found.newest;
        if state.is_behind {
            self.behind.push_back(topic);
            return;
        }
        if again {
            self.due.push_back(topic);
            return;
        }
        state.stage = ChannelStage::Complete;
        copies.keep(&state.channel, Some(state.reading));
        state.kept = true;
        for slot in state.waiting.drain(..) {
            copies.ready(slot);
        }
    }

    /// What the engine says to an announcement.
    fn noted(&mut self, topic: Box<[u8]>, noted: &Result<Noted, Failure>, copies: &mut impl Copies) {
        self.counts.failed += u64::from(noted.is_err());
        self.forgotten |= *noted == Err(Failure::Refused(ErrorReply::NoScript));
        let Some(state) = self.channels.get_mut(&topic) else { return };
        if let Ok(noted) = noted
            && state.counted.is_some()
            && state.limit.replace(noted.limit) != Some(noted.limit)
        {
            copies.limit_group(&state.channel, noted.limit);
        }
        let was_changed = state.announced.changed;
        match noted {
            Ok(noted) if !noted.has_presence => state.announced.forget_who(),
            Ok(_) => {}
            // The announcement is made again by the count.
            Err(_) => state.announced.refused(),
        }
        if state.announced.changed && !was_changed {
            self.due.push_back(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::redis::relay::rig::{Kept, Listener, channel, names};
    use crate::redis::script::Script;

    /// What is replied where the channel has messages up to 5 of epoch 7.
    const BEHIND: &[u8] = b"*4\r\n$1\r\n7\r\n$1\r\n5\r\n$1\r\n1\r\n$1\r\n0\r\n";

    /// A relay that listens to these channels, and has asked for what they have.
    fn listening(ids: &mut [&str], copies: &mut Kept) -> Listener {
        let mut listener = Listener::new();
        while listener.relay.fetching.octets() > 16 << 10 {
            listener.relay.fetching.begin();
            listener.relay.fetching.end();
        }
        // In the order in which it subscribes to them.
        ids.sort_by_key(|id| names(id).slot());
        for id in &*ids {
            listener.relay.open(channel(id), None, 1, 0, copies, 0);
        }
        listener.octets(copies, 0);
        for id in ids {
            let topic = String::from_utf8(names(id).topic().to_vec()).unwrap();
            let said = format!(">3\r\n$10\r\nssubscribe\r\n${}\r\n{topic}\r\n:1\r\n", topic.len());
            listener.says(said.as_bytes(), copies, 0);
        }
        listener
    }

    /// Answers all that is asked, where all channels have more than this node. The channels of which messages are read, in this order.
    fn answer(listener: &mut Listener, copies: &mut Kept, ids: &[&str]) -> Vec<String> {
        let mut read = Vec::new();
        let sent = String::from_utf8(listener.connection.take_outgoing()).unwrap();
        for command in sent.split("EVALSHA\r\n").skip(1) {
            if !command.contains(Script::Read.digest()) {
                listener.says(b"*2\r\n:1\r\n_\r\n", copies, 1);
                continue;
            }
            let is_of = |id: &&&str| command.contains(std::str::from_utf8(names(id).stream()).unwrap());
            // Digest, number of keys, two keys, epoch, offset, and how many messages, each behind its length.
            if command.split("\r\n").nth(13) != Some("0") {
                read.push(ids.iter().find(is_of).unwrap().to_string());
            }
            listener.says(BEHIND, copies, 1);
        }
        read
    }

    #[test]
    fn a_channel_with_much_to_read_lets_others_have_their_turn() {
        let (mut ids, mut copies) = (["a", "b", "c"], Kept::default());
        let mut listener = listening(&mut ids, &mut copies);
        let read: Vec<String> = (0..9).flat_map(|_| answer(&mut listener, &mut copies, &ids)).collect();
        // Before the others were compared nobody knew that they are behind.
        assert_eq!(read[1..7], [ids, ids].concat());
    }

    #[test]
    fn where_everything_was_read_much_is_read_at_once_again() {
        let (mut ids, mut copies) = (["a"], Kept::default());
        let mut listener = listening(&mut ids, &mut copies);
        // Nobody has published.
        let nothing = b"*4\r\n$1\r\n7\r\n$1\r\n0\r\n$1\r\n0\r\n$1\r\n0\r\n";
        let announced = b"*2\r\n:1\r\n_\r\n";
        listener.says(&[&nothing[..], announced].concat(), &mut copies, 1);
        let topic = String::from_utf8(names("a").topic().to_vec()).unwrap();
        let mut octets = || {
            let said = format!(">3\r\n$8\r\nsmessage\r\n${}\r\n{topic}\r\n$1\r\nx\r\n", topic.len());
            listener.connection.take_outgoing();
            listener.says(said.as_bytes(), &mut copies, 2);
            let sent = String::from_utf8(listener.connection.take_outgoing()).unwrap();
            listener.says(nothing, &mut copies, 2);
            if sent.contains(Script::Announce.digest()) {
                listener.says(announced, &mut copies, 2);
            }
            sent.split("\r\n").nth(18).map(str::to_owned)
        };
        assert_eq!(
            [octets(), octets(), octets()].map(Option::unwrap),
            ["16384", "16384", "262144"],
            "once nothing else is asked"
        );
    }
}
