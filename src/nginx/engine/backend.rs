// SPDX-License-Identifier: Apache-2.0

//! An engine as the [backend](Backend) of locations: what they ask for as commands, and what the replies mean.

use super::{Failed, epoch, is_away, read, send, with};
use crate::channel::backend::{Answer, Backend, Failure, PublishReply, later};
use crate::channel::memory::Corrupt;
use crate::channel::message::Publication;
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::{
    GroupChange, GroupInfo, GroupKey, GroupLimits, History, Info, Key, Policy, Presence, PublishError, ReadError,
    SubscribeError,
};
use crate::nginx::backend::ZoneAlone;
use crate::redis::envelope;
use crate::redis::names::Names;
use crate::redis::resp::Value;
use crate::redis::script::{self, ChannelState, Keeping, Kept};

/// The shortest time that a channel lives in the engine whose messages all expire, in milliseconds.
const LIFETIME: u64 = 60_000;

/// One of the engines of this worker, by its number.
pub struct Redis {
    number: usize,
    space: u64,
}

/// A command about a channel.
struct Command {
    slot: u16,
    publishes: bool,
    octets: Vec<u8>,
}

fn failure<E>(failed: Failed) -> Failure<E> {
    match failed {
        Failed::Unavailable => Failure::Unavailable,
        Failed::Unknown => Failure::Unknown,
        Failed::Refused => Failure::Refused,
    }
}

impl Redis {
    /// The engine with this number, whose channels have this [space](Backend::space).
    pub fn new(number: usize, space: u64) -> Self {
        Redis { number, space }
    }

    /// Sends a command; the answer is what `read_reply` finds in the reply.
    fn ask<T: 'static, E: 'static>(
        &self,
        command: Command,
        read_reply: fn(&Value) -> Result<T, script::Failure>,
    ) -> Answer<T, E> {
        if is_away(self.number) {
            return Answer::Now(Err(Failure::Unavailable));
        }
        let (promise, pending) = later();
        let number = self.number;
        let Command { slot, publishes, octets } = command;
        let done = move |reply| promise.answer(read(number, reply, read_reply).map_err(failure));
        send(number, slot, publishes, octets, Box::new(done));
        Answer::Later(pending)
    }

    /// The command that `write` makes for a channel. `None` if this worker has no such engine.
    fn command(&self, key: Key<'_>, write: impl FnOnce(&Names, &mut Vec<u8>)) -> Option<Command> {
        let names = with(self.number, |engine| engine.names(key))?;
        let mut octets = Vec::new();
        write(&names, &mut octets);
        let slot = if self.is_sharded() { names.slot() } else { 0 };
        Some(Command { slot, publishes: false, octets })
    }

    /// Whether Pub/Sub channels belong to slots.
    fn is_sharded(&self) -> bool {
        with(self.number, |engine| engine.settings.is_sharded()) == Some(true)
    }
}

impl Backend for Redis {
    fn space(&self) -> u64 {
        self.space
    }

    fn publish(
        &self,
        key: Key<'_>,
        publication: &Publication<'_>,
        policy: Policy,
    ) -> Answer<PublishReply, PublishError> {
        let Publication { kind, content_type, event, data } = *publication;
        // Its attributes are too long.
        let Ok(sealed) = envelope::seal(kind, content_type, event, data) else {
            return Answer::Now(Err(Failure::Own(PublishError::TooLarge)));
        };
        let history = policy.history;
        let keeping = Keeping {
            messages: match history {
                History::OFF => Kept::Newest(0),
                History { length: 0, .. } => Kept::All,
                History { length, .. } => Kept::Newest(length.into()),
            },
            age: history.time,
            lifetime: if history.time == 0 { 0 } else { history.time.max(LIFETIME) },
            sharded: self.is_sharded(),
        };
        let command = self.command(key, |names, out| script::publish(names, epoch(), &sealed, &keeping, out));
        let Some(command) = command else { return Answer::Now(Err(Failure::Unavailable)) };
        let command = Command { publishes: true, ..command };
        self.ask(command, |reply| script::published(reply).map(|published| reply_of(&published)))
    }

    fn needs_opening(&self) -> bool {
        true
    }

    fn open(&self, keys: &[Key<'_>], history: History, known: &[Epoch]) -> Answer<(), SubscribeError> {
        let compare = with(self.number, |engine| engine.node.must_compare(keys, known)).unwrap_or(false);
        if compare && is_away(self.number) {
            // Nobody here knows whether the client's epoch is older or newer.
            return Answer::Now(Err(Failure::Unavailable));
        }
        let opening = with(self.number, |engine| {
            let (promise, pending) = later();
            let done = move |opened: Result<(), Failed>| promise.answer(opened.map_err(failure));
            engine.node.open(keys, history, compare, Box::new(done));
            engine.servers.post();
            pending
        });
        opening.map_or(Answer::Now(Err(Failure::Unavailable)), Answer::Later)
    }

    fn info(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt> {
        let command = self.command(key, |names, out| script::info(names, epoch(), out));
        let Some(command) = command else { return Answer::Now(Err(Failure::Unavailable)) };
        self.ask(command, |reply| script::state(reply).map(|state| info_of(&state)))
    }

    fn delete(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt> {
        let command = self.command(key, |names, out| script::delete(names, self.is_sharded(), out));
        let Some(command) = command else { return Answer::Now(Err(Failure::Unavailable)) };
        self.ask(command, |reply| script::state(reply).map(|state| info_of(&state)))
    }

    fn presence(&self, key: Key<'_>) -> Answer<Option<Presence>, ReadError> {
        let command = self.command(key, script::presence);
        let Some(command) = command else { return Answer::Now(Err(Failure::Unavailable)) };
        self.ask(command, script::present)
    }

    fn group(&self, key: GroupKey<'_>, location: GroupLimits) -> Answer<GroupInfo, Corrupt> {
        ZoneAlone.group(key, location)
    }

    fn limit_group(&self, key: GroupKey<'_>, change: GroupChange) -> Answer<(), SubscribeError> {
        ZoneAlone.limit_group(key, change)
    }

    fn delete_group(&self, _: GroupKey<'_>) -> Answer<(), Corrupt> {
        // An engine has no list of the channels of a group.
        Answer::Now(Err(Failure::Unsupported))
    }
}

fn reply_of(published: &script::Published) -> PublishReply {
    PublishReply {
        id: published.id,
        info: Info {
            messages: u32::try_from(published.messages).unwrap_or(u32::MAX),
            requested: requested(published.subscribers, published.requested),
            subscribers: u32::try_from(published.subscribers).unwrap_or(u32::MAX),
            last: published.id,
        },
    }
}

fn info_of(state: &ChannelState) -> Option<Info> {
    let epoch = state.epoch?;
    Some(Info {
        messages: u32::try_from(state.messages).unwrap_or(u32::MAX),
        requested: requested(state.subscribers, state.requested),
        subscribers: u32::try_from(state.subscribers).unwrap_or(u32::MAX),
        last: MessageId { epoch, offset: Offset(state.newest.0) },
    })
}

/// Seconds since a subscriber was last there, of milliseconds.
fn requested(subscribers: u64, ago: Option<u64>) -> Option<u64> {
    if subscribers > 0 { Some(0) } else { ago.map(|ago| ago / 1000) }
}
