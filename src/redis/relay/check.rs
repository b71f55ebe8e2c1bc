// SPDX-License-Identifier: Apache-2.0

//! What a [`Relay`] does for channels on which nothing happens: they are compared with their streams, some in one command, which makes
//! their announcements true for longer as well.
//!
//! Only what is as the relay believes is settled in this way. Anything else is read and announced as on channels on which something happens,
//! one by one.

use super::{ChannelStage, Copies, LIFETIME, LINGER, Relay, announce};
use crate::channel::position::Epoch;
use crate::redis::connection::{Connection, Token};
use crate::redis::error::ErrorReply;
use crate::redis::resp::Value;
use crate::redis::script::check::{self, Checked, Checker, Noted, checked};
use crate::redis::script::reply::Failure;

/// Channels that are looked at in one step.
const STEP: usize = 256;

/// A channel that is to be compared.
#[derive(Debug)]
pub(super) struct Quiet {
    topic: Box<[u8]>,
    /// The epoch of the copy.
    epoch: Epoch,
}

/// A channel that the engine was asked to compare.
#[derive(Debug)]
pub(super) struct Asked {
    topic: Box<[u8]>,
    /// The announcement was made again.
    announced: bool,
    /// The place of its group among those of the command.
    group: Option<usize>,
}

impl Relay {
    /// Looks at channels whose turn has come: lets those go that nobody wants any more, and has the others compared.
    pub(super) fn take_turns(&mut self, connection: &mut Connection, copies: &mut impl Copies, now: u64) {
        for _ in 0..STEP {
            let Some(topic) = self.turns.next(now) else { break };
            self.look_after(topic, connection, copies, now);
        }
    }

    fn look_after(&mut self, topic: Box<[u8]>, connection: &mut Connection, copies: &mut impl Copies, now: u64) {
        let Some(state) = self.channels.get_mut(&topic) else { return };
        let copy = copies.look(&state.channel);
        if copy.subscribers > 0 || !state.waiting.is_empty() {
            state.used = now;
        }
        if state.used + LINGER <= now && connection.is_ready() {
            copies.keep(&state.channel, None);
            // Cannot fail: the connection is ready.
            let _ = connection.unsubscribe(&[&topic], now);
            self.remove(&topic);
            return;
        }
        if state.stage == ChannelStage::Complete && copy.epoch != Epoch(0) {
            self.quiet.push(Quiet { topic, epoch: copy.epoch });
            return;
        }
        if state.stage == ChannelStage::Complete {
            state.stage = ChannelStage::Due;
        }
        self.due.push_back(topic);
    }

    /// Asks for all that are to be compared, as far as the connection takes it. The connection is ready.
    pub(super) fn check(&mut self, connection: &mut Connection, copies: &mut impl Copies, now: u64) {
        let mut quiet = std::mem::take(&mut self.quiet);
        if self.is_sharded {
            quiet.sort_by_cached_key(|quiet| self.part_of(&quiet.topic));
        }
        let mut rest = &quiet[..];
        while let Some(first) = rest.first() {
            let part = self.part_of(&first.topic);
            let others = rest.iter().take(check::MOST).take_while(|quiet| self.part_of(&quiet.topic) == part);
            let (some, others) = rest.split_at(others.count());
            if !self.check_some(some, part.1, connection, copies, now) {
                break;
            }
            rest = others;
        }
        // As many commands as may wait do: their answers make room.
        let sent = quiet.len() - rest.len();
        self.quiet = quiet.split_off(sent);
    }

    /// Asks for some channels in one command. Whether the connection has taken it.
    fn check_some(
        &mut self,
        quiet: &[Quiet],
        asking: bool,
        connection: &mut Connection,
        copies: &mut impl Copies,
        now: u64,
    ) -> bool {
        let (mut channels, mut groups, mut asked) = (Vec::new(), Vec::<check::Group<'_>>::new(), Vec::new());
        for Quiet { topic, epoch } in quiet {
            let Some(state) = self.channels.get(topic) else { continue };
            if state.stage != ChannelStage::Complete {
                // It is read anyway.
                continue;
            }
            let counted = state.counted.as_ref();
            let group = counted.map(|counted| {
                groups.iter().position(|group| group.counted.group == counted.group).unwrap_or_else(|| {
                    groups.push(check::Group { counted, subscribers: copies.group_subscribers(&state.channel) });
                    groups.len() - 1
                })
            });
            let announced = state.announced.again(now);
            channels.push(check::Channel { names: &state.names, epoch: *epoch, announced, counted });
            asked.push(Asked { topic: topic.clone(), announced: announced.is_some(), group });
        }
        if channels.is_empty() {
            return true;
        }
        let checker = Checker { node: &self.node, announcement: announce::LIFETIME, lifetime: LIFETIME };
        let token = Token(self.next_token);
        let write = |out: &mut Vec<u8>| check::check(checker, &channels, &groups, out);
        if connection.command_as(token, asking, now, write).is_err() {
            return false;
        }
        self.next_token += 1;
        self.counts.sent += 1;
        for asked in asked.iter().filter(|asked| asked.announced) {
            if let Some(state) = self.channels.get_mut(&asked.topic) {
                state.announced.told_again(now);
            }
        }
        self.asked.insert(token, super::Asked::Check(asked));
        true
    }

    /// The engine has compared channels.
    pub(super) fn checked(&mut self, asked: Vec<Asked>, reply: &Value, copies: &mut impl Copies) {
        let answer = checked(reply, asked.len());
        self.counts.failed += u64::from(answer.is_err());
        self.forgotten |= answer == Err(Failure::Refused(ErrorReply::NoScript));
        let Checked { channels, limits } = answer.unwrap_or_default();
        for (place, Asked { topic, announced, group }) in asked.into_iter().enumerate() {
            let Some(state) = self.channels.get_mut(&topic) else { continue };
            // Where nothing was found, each channel tells by itself what is the matter with it.
            let found = channels.get(place).copied();
            if state.stage == ChannelStage::Complete {
                let newest = found.and_then(|found| found.newest);
                if newest.is_some_and(|newest| newest < copies.look(&state.channel).next) {
                    copies.keep(&state.channel, Some(state.reading));
                } else {
                    state.stage = ChannelStage::Due;
                    self.due.push_back(topic.clone());
                }
            }
            if let Some(limit) = group.and_then(|group| limits.get(group)).copied()
                && state.limit.replace(limit) != Some(limit)
            {
                copies.limit_group(&state.channel, limit);
            }
            let was_changed = state.announced.changed;
            match found.map_or(Noted::Refused, |found| found.noted) {
                Noted::WithoutWho => state.announced.forget_who(),
                // The announcement is made again by the count.
                Noted::Refused if announced => state.announced.refused(),
                Noted::Refused | Noted::True => {}
            }
            if state.announced.changed && !was_changed {
                self.due.push_back(topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::Offset;
    use crate::redis::relay::Copy;
    use crate::redis::relay::rig::{Kept, Listener, channel, names};
    use crate::redis::relay::turns::ROUND;
    use crate::redis::script::Script;

    /// A relay that listens to channels of which it has the newest message, 5 of epoch 7, and the time at which all of them have had
    /// a turn.
    fn quiet(ids: &[String]) -> (Listener, Kept, u64) {
        let (mut listener, mut copies) = (Listener::new(), Kept::default());
        for id in ids {
            listener.relay.open(channel(id), None, 1, 0, &mut copies, 0);
            let state = listener.relay.channels.get_mut(names(id).topic()).unwrap();
            (state.stage, state.kept) = (ChannelStage::Complete, true);
            let announcement = state.announced.prepare(1, Vec::new(), 0);
            state.announced.told(&announcement, 0);
            state.announced.count(1, 0);
            state.announced.take_news();
            copies.copies.insert(id.as_bytes().into(), Copy { epoch: Epoch(7), next: Offset(6), subscribers: 1 });
        }
        (listener, copies, ROUND)
    }

    /// How many scripts of each kind are sent in a round: checks, reads, announcements.
    fn round(listener: &mut Listener, copies: &mut Kept, until: u64) -> [usize; 3] {
        let mut sent = String::new();
        for now in (until - ROUND..=until).step_by(50).skip(1) {
            sent.push_str(&listener.octets(copies, now));
        }
        [Script::Check, Script::Read, Script::Announce].map(|script| sent.matches(script.digest()).count())
    }

    #[test]
    fn who_asks_twice_is_expected_once() {
        let ids = ["a".to_owned()];
        let (mut listener, mut copies, _) = quiet(&ids);
        let expects = |listener: &Listener| listener.relay.channels[names("a").topic()].announced.is_expecting();
        listener.relay.open(channel("a"), Some(3), 2, 0, &mut copies, 0);
        assert!(expects(&listener));
        copies.copies.values_mut().for_each(|copy| copy.subscribers = 2);
        let announced = &mut listener.relay.channels.get_mut(names("a").topic()).unwrap().announced;
        assert_eq!(announced.count(2, 0), 2);
        // Another worker that listens now was asked as well, before the subscriber came.
        listener.relay.open(channel("a"), Some(3), 2, 0, &mut copies, 0);
        assert!(!expects(&listener));
    }

    fn stage(listener: &Listener, id: &str) -> ChannelStage {
        listener.relay.channels[names(id).topic()].stage
    }

    /// Ids of so many channels of one slot, and one of another.
    fn of_one_slot(count: usize) -> (Vec<String>, String) {
        let all = (0..).map(|n: u32| n.to_string());
        let (slot, other) = (names("0").slot(), names("1").slot());
        assert_ne!(slot, other);
        (all.filter(|id| names(id).slot() == slot).take(count).collect(), "1".to_owned())
    }

    #[test]
    fn channels_of_one_slot_are_compared_together() {
        let (mut ids, other) = of_one_slot(check::MOST + 1);
        ids.push(other);
        let (mut listener, mut copies, until) = quiet(&ids);
        assert_eq!(round(&mut listener, &mut copies, until), [3, 0, 0]);
        assert_eq!(listener.relay.counts().sent, 3);
    }

    #[test]
    fn each_second_time_the_announcement_goes_along() {
        let (mut listener, mut copies, until) = quiet(&["a".to_owned()]);
        let mut times = Vec::new();
        for nth in 1..=9 {
            assert_eq!(round(&mut listener, &mut copies, nth * until), [1, 0, 0]);
            listener.says(b"*2\r\n$1\r\n5\r\n:1\r\n", &mut copies, nth * until);
            times.push(listener.relay.channels[names("a").topic()].announced.time());
        }
        times.dedup();
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (first, others) = gaps.split_first().unwrap();
        assert!((ROUND..=3 * ROUND).contains(first), "{first}");
        assert!(others.len() >= 3 && others.iter().all(|gap| *gap == 2 * ROUND), "{others:?}");
    }

    #[test]
    fn only_what_is_otherwise_is_read() {
        let (ids, _) = of_one_slot(3);
        let (mut listener, mut copies, until) = quiet(&ids);
        assert_eq!(round(&mut listener, &mut copies, until), [1, 0, 0]);
        // In the order of the turn, which is any: all have the same to be told.
        copies.copies.values_mut().for_each(|copy| copy.next = Offset(7));
        listener.says(b"*6\r\n$1\r\n5\r\n:1\r\n$1\r\n6\r\n:1\r\n$1\r\n6\r\n:1\r\n", &mut copies, until);
        assert!(ids.iter().all(|id| stage(&listener, id) == ChannelStage::Complete), "told by Pub/Sub meanwhile");
        assert!(ids.iter().all(|id| copies.kept[id.as_bytes()]));
        assert_eq!(round(&mut listener, &mut copies, 2 * until), [1, 0, 0]);
        listener.says(b"*6\r\n_\r\n:1\r\n$1\r\n7\r\n:1\r\n$1\r\n6\r\n:1\r\n", &mut copies, 2 * until);
        let reading = ids.iter().filter(|id| stage(&listener, id) == ChannelStage::Reading { again: false }).count();
        assert_eq!(reading, 2, "another epoch, and a message of which nobody was told");
    }

    #[test]
    fn what_was_not_noted_is_announced_anew() {
        let (ids, _) = of_one_slot(2);
        let (mut listener, mut copies, until) = quiet(&ids);
        round(&mut listener, &mut copies, until);
        listener.says(b"*4\r\n$1\r\n5\r\n:1\r\n$1\r\n5\r\n:1\r\n", &mut copies, until);
        assert_eq!(round(&mut listener, &mut copies, 2 * until), [1, 0, 0]);
        listener.says(b"*4\r\n$1\r\n5\r\n:1\r\n$1\r\n5\r\n:-1\r\n", &mut copies, 2 * until);
        assert_eq!(round(&mut listener, &mut copies, 3 * until), [1, 0, 1]);
    }

    #[test]
    fn where_nothing_was_found_each_channel_is_read() {
        for refusal in ["-MOVED 1 h:7002\r\n", "-TRYAGAIN\r\n", "-OOM no\r\n", "*1\r\n:1\r\n"] {
            let (ids, _) = of_one_slot(3);
            let (mut listener, mut copies, until) = quiet(&ids);
            assert_eq!(round(&mut listener, &mut copies, until), [1, 0, 0]);
            listener.says(refusal.as_bytes(), &mut copies, until);
            let sent = String::from_utf8(listener.connection.take_outgoing()).unwrap();
            assert_eq!(sent.matches(Script::Read.digest()).count(), 3, "{refusal}");
            assert_eq!(listener.relay.counts().failed, 1);
            assert!(listener.relay.take_displaced().is_empty(), "each read says where its channel is");
        }
    }

    #[test]
    fn what_the_connection_does_not_take_goes_with_the_next_answer() {
        let (mut listener, mut copies, until) = quiet(&["a".to_owned()]);
        for token in 1_000.. {
            if listener
                .connection
                .command(Token(token), 0, |out| out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"))
                .is_err()
            {
                break;
            }
        }
        assert_eq!(round(&mut listener, &mut copies, until), [0, 0, 0]);
        listener.says(b"+PONG\r\n", &mut copies, until);
        let sent = String::from_utf8(listener.connection.take_outgoing()).unwrap();
        assert_eq!(sent.matches(Script::Check.digest()).count(), 1);
    }

    #[test]
    fn a_channel_without_subscribers_is_let_go_after_a_while() {
        let (mut listener, mut copies, until) = quiet(&["a".to_owned()]);
        copies.copies.values_mut().for_each(|copy| copy.subscribers = 0);
        let mut now = 0;
        while !listener.relay.is_empty() {
            assert!(now <= LINGER + ROUND, "it stays");
            now += until;
            round(&mut listener, &mut copies, now);
        }
        assert!(now >= LINGER);
        assert_eq!(listener.relay.turns.deadline(), None);
    }
}
