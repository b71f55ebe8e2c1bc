// SPDX-License-Identifier: Apache-2.0

//! An engine as the [backend](Backend) of locations: what they ask for as commands, and what the replies mean.

use super::{Failed, Settings, epoch, is_away, read, send, with};
use crate::channel::backend::{
    Answer, Backend, Demand, Failure, Listing, Outcome, Pending, Promise, PublishReply, gather, later,
};
use crate::channel::memory::Corrupt;
use crate::channel::message::Publication;
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::{
    Change, GroupChange, GroupInfo, GroupKey, GroupLimits, History, Info, Key, Page, Policy, Presence, PublishError,
    ReadError, SubscribeError,
};
use crate::nginx::backend::ZoneAlone;
use crate::nginx::channel::hub;
use crate::redis::envelope;
use crate::redis::names::{GroupNames, Names};
use crate::redis::resp::Value;
use crate::redis::script::group::{self, Admission, Counted, Counting, Message};
use crate::redis::script::reply::ChannelState;
use crate::redis::script::{self, Keeping, Kept};

/// The shortest time that a channel lives in the engine whose messages all expire, in milliseconds.
const LIFETIME: u64 = 60_000;

/// How often a group is looked at for one answer, and how many channels of it may begin while it is deleted, in steps.
const MOST_LOOKS: u32 = 1_000;
const SPARE_STEPS: u64 = 16;

/// One of the engines of this worker, by its number.
#[derive(Debug, Clone, Copy)]
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
        read_reply: fn(&Value) -> Result<T, script::reply::Failure>,
    ) -> Answer<T, E> {
        if is_away(self.number) {
            return Answer::Now(Err(Failure::Unavailable));
        }
        let (promise, pending) = later();
        let number = self.number;
        let Command { slot, publishes, octets } = command;
        let done = move |reply| promise.answer(read(number, reply, read_reply).map_err(failure));
        send(number, slot, publishes, octets, Box::new(done));
        pending.into_answer()
    }

    /// The command that `write` makes for a channel. `None` if this worker has no such engine.
    fn command(&self, key: Key<'_>, write: impl FnOnce(&Names, &mut Vec<u8>)) -> Option<Command> {
        let names = with(self.number, |engine| engine.names(key))?;
        let mut octets = Vec::new();
        write(&names, &mut octets);
        let slot = if self.is_sharded() { names.slot() } else { 0 };
        Some(Command { slot, publishes: false, octets })
    }

    /// A channel, if its group is counted by the engine.
    fn counted(&self, key: Key<'_>) -> Option<Counted> {
        let counting = |settings: &Settings| settings.counting().of(&settings.prefix, key.group(), key.id());
        with(self.number, |engine| counting(&engine.settings)).flatten()
    }

    /// The names of a group, if it is counted by the engine.
    fn group_names(&self, group: GroupKey<'_>) -> Option<GroupNames> {
        with(self.number, |engine| {
            let counts = engine.settings.counting().counts(group.name);
            counts.then(|| GroupNames::of(&engine.settings.prefix, group.name))
        })
        .flatten()
    }

    /// Whether Pub/Sub channels belong to slots.
    fn is_sharded(&self) -> bool {
        with(self.number, |engine| engine.settings.is_sharded()) == Some(true)
    }
}

/// Groups, and what is asked of them.
impl Redis {
    /// Whether the engine counts a group.
    fn counts(&self, group: &[u8]) -> bool {
        with(self.number, |engine| engine.settings.counting().counts(group)) == Some(true)
    }

    /// Asks whether a channel may be subscribed to that this machine has no copy of.
    fn admit(&self, key: Key<'_>, demand: &Demand) -> Answer<(), SubscribeError> {
        let counted = self.counted(key);
        let channels = demand.group.channels;
        let command = self.command(key, |names, out| {
            group::admit(names, counted.as_ref(), epoch(), LIFETIME, demand.create, channels, out);
        });
        let Some(command) = command else { return Answer::Now(Err(Failure::Unavailable)) };
        self.ask(command, group::admitted).map(|outcome: Outcome<_, SubscribeError>| match outcome? {
            Admission::Admitted => Ok(()),
            Admission::Group => Err(Failure::Own(SubscribeError::Group)),
            Admission::Missing => Err(Failure::Own(SubscribeError::Missing)),
        })
    }

    /// Waits until these channels are complete in the zone.
    fn listen(&self, keys: &[Key<'_>], history: History, known: &[Epoch]) -> Answer<(), SubscribeError> {
        let compare = with(self.number, |engine| engine.node.must_compare(keys, known)).unwrap_or(false);
        if compare && is_away(self.number) {
            // Nobody here knows whether the client's epoch is older or newer.
            return Answer::Now(Err(Failure::Unavailable));
        }
        let opening = with(self.number, |engine| {
            let (promise, pending) = later();
            let done = move |opened: Result<(), Failed>| promise.answer(opened.map_err(failure));
            engine.node.open(keys, history, compare, Box::new(done));
            engine.keep_worker();
            engine.servers.post();
            pending
        });
        opening.map_or(Answer::Now(Err(Failure::Unavailable)), Pending::into_answer)
    }

    /// Tells what a group has and may have; again, at most so many times, as long as something of it may have expired.
    fn look_at(self, names: GroupNames, location: GroupLimits, looks: u32, promise: Promise<GroupInfo, Corrupt>) {
        let command = Command::about_group(|out| group::info(&names, out));
        self.ask(command, group::state).then(move |outcome| match outcome {
            Ok(state) if state.has_more && looks > 1 => self.look_at(names, location, looks - 1, promise),
            Ok(state) => promise.answer(Ok(state.at(location))),
            Err(failure) => promise.answer(Err(failure)),
        });
    }

    /// Deletes channels of a group until none is left. `steps`: those that it may take still, `None` at first. What begins meanwhile does
    /// not keep it going for ever.
    fn delete_some(self, names: GroupNames, steps: Option<u64>, promise: Promise<(), Corrupt>) {
        let database = with(self.number, |engine| engine.settings.database).unwrap_or(0);
        let command = Command::about_group(|out| group::delete(&names, database, out));
        self.ask(command, group::deleted).then(move |outcome| match (outcome, steps) {
            (Ok(0), _) | (Ok(_), Some(0)) => promise.answer(Ok(())),
            (Ok(left), steps) => {
                let steps = steps.map_or(left / group::DELETED_AT_ONCE + SPARE_STEPS, |steps| steps - 1);
                self.delete_some(names, Some(steps), promise);
            }
            // Some of them are deleted.
            (Err(Failure::Unavailable), Some(_)) => promise.answer(Err(Failure::Unknown)),
            (Err(failure), _) => promise.answer(Err(failure)),
        });
    }
}

impl Command {
    /// The command that `write` makes, about a group that is counted: the engine is no cluster.
    fn about_group(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut octets = Vec::new();
        write(&mut octets);
        Command { slot: 0, publishes: false, octets }
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
            lifetime: match history {
                // Who comes back soon still finds the epoch of its position.
                History::OFF => LIFETIME,
                History { time: 0, .. } => 0,
                History { time, .. } => time.max(LIFETIME),
            },
            sharded: self.is_sharded(),
        };
        let counted = self.counted(key);
        let group =
            counted.as_ref().map(|channel| Message { channel, octets: publication.len(), limits: policy.group });
        let write =
            |names: &Names, out: &mut Vec<u8>| script::publish(names, epoch(), &sealed, &keeping, group.as_ref(), out);
        let Some(command) = self.command(key, write) else { return Answer::Now(Err(Failure::Unavailable)) };
        if group.is_none() && policy.group != GroupLimits::default() {
            // What this machine has of the group's channels is all that is known of it.
            match hub::with(|hub| hub.store.groups().allow(key, publication.len(), policy, hub::time())) {
                Some(Ok(true)) => {}
                Some(Ok(false)) => return Answer::Now(Err(Failure::Own(PublishError::Group))),
                Some(Err(Corrupt)) => return Answer::Now(Err(Failure::Own(PublishError::Corrupt))),
                None => return Answer::Now(Err(Failure::Unavailable)),
            }
        }
        let command = Command { publishes: true, ..command };
        self.ask(command, script::reply::published).map(|outcome: Outcome<_, PublishError>| match outcome? {
            Some(published) => Ok(reply_of(&published)),
            None => Err(Failure::Own(PublishError::Group)),
        })
    }

    fn needs_opening(&self) -> bool {
        true
    }

    fn open(&self, keys: &[Key<'_>], demand: &Demand) -> Answer<(), SubscribeError> {
        let is_limited = demand.group != GroupLimits::default();
        for key in keys.iter().filter(|key| is_limited && !self.counts(key.group())) {
            // A copy is made before somebody subscribes to it, who would find it there.
            let allowed = hub::with(|hub| hub.store.groups().allow_channel(*key, demand.group, hub::time()));
            match allowed {
                Some(Ok(true)) => {}
                Some(Ok(false)) => return Answer::Now(Err(Failure::Own(SubscribeError::Group))),
                Some(Err(Corrupt)) => return Answer::Now(Err(Failure::Own(SubscribeError::Corrupt))),
                None => return Answer::Now(Err(Failure::Unavailable)),
            }
        }
        let has_copy = |key: Key<'_>| with(self.number, |engine| engine.node.has(key)) == Some(true);
        let admissions: Vec<_> = keys
            .iter()
            .filter(|&&key| (!demand.create || self.counts(key.group())) && !has_copy(key))
            .map(|&key| self.admit(key, demand))
            .collect();
        if admissions.is_empty() {
            return self.listen(keys, demand.history, &demand.known);
        }
        let names: Vec<[Box<[u8]>; 2]> = keys.iter().map(|key| [key.group().into(), key.id().into()]).collect();
        let (redis, history, known) = (*self, demand.history, demand.known.clone());
        let (promise, pending) = later();
        gather(admissions, |(), ()| ()).then(move |admitted| match admitted {
            Ok(_) => {
                let keys: Vec<Key<'_>> =
                    names.iter().filter_map(|[group, id]| Key::in_space(redis.space, group, id)).collect();
                redis.listen(&keys, history, &known).then(|listening| promise.answer(listening));
            }
            Err(failure) => promise.answer(Err(failure)),
        });
        pending.into_answer()
    }

    fn limits_in_zone(&self, location: GroupLimits) -> GroupLimits {
        if with(self.number, |engine| engine.settings.counting()) == Some(Counting::Nothing) {
            return location;
        }
        GroupLimits { subscribers: location.subscribers, ..GroupLimits::default() }
    }

    fn info(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt> {
        let command = self.command(key, |names, out| script::info(names, epoch(), out));
        let Some(command) = command else { return Answer::Now(Err(Failure::Unavailable)) };
        self.ask(command, |reply| script::reply::state(reply).map(|state| info_of(&state)))
    }

    fn delete(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt> {
        let counted = self.counted(key);
        let write = |names: &Names, out: &mut Vec<u8>| script::delete(names, self.is_sharded(), counted.as_ref(), out);
        let command = self.command(key, write);
        let Some(command) = command else { return Answer::Now(Err(Failure::Unavailable)) };
        self.ask(command, |reply| script::reply::state(reply).map(|state| info_of(&state)))
    }

    fn presence(&self, key: Key<'_>) -> Answer<Option<Presence>, ReadError> {
        let command = self.command(key, script::presence);
        let Some(command) = command else { return Answer::Now(Err(Failure::Unavailable)) };
        self.ask(command, script::reply::present)
    }

    fn expel(&self, key: Key<'_>, who: &[u8]) -> Answer<Option<u32>, ReadError> {
        let write = |names: &Names, out: &mut Vec<u8>| script::expel(names, self.is_sharded(), who, out);
        let Some(command) = self.command(key, write) else { return Answer::Now(Err(Failure::Unavailable)) };
        // The nodes have announced how many they have.
        let told: Answer<(), ReadError> = self.ask(command, |_| Ok(()));
        let who: Box<[u8]> = who.into();
        let counted: Answer<Option<u32>, ReadError> = self.presence(key).map(move |presence| {
            let presence: Option<Presence> = presence?;
            Ok(presence.map(|presence| presence.names.get(&*who).copied().unwrap_or(0)))
        });
        let both = [counted, told.map(|told: Outcome<(), ReadError>| told.map(|()| None))];
        gather(both, Option::or).map(|outcome: Outcome<_, ReadError>| outcome.map(Option::flatten))
    }

    fn list(&self, _: GroupKey<'_>, _: &[u8], _: Page, _: usize) -> Answer<Listing, Corrupt> {
        // What this node has of the channels of the group are copies of some of them.
        Answer::Now(Err(Failure::Unsupported))
    }

    fn group(&self, key: GroupKey<'_>, location: GroupLimits) -> Answer<GroupInfo, Corrupt> {
        let Some(names) = self.group_names(key) else { return ZoneAlone.group(key, location) };
        let (promise, pending) = later();
        self.look_at(names, location, MOST_LOOKS, promise);
        pending.into_answer()
    }

    fn limit_group(&self, key: GroupKey<'_>, change: GroupChange) -> Answer<(), SubscribeError> {
        let Some(names) = self.group_names(key) else { return ZoneAlone.limit_group(key, change) };
        let (space, name): (u64, Box<[u8]>) = (key.space, key.name.into());
        self.ask(Command::about_group(|out| group::limit(&names, change, out)), group::limited).map(move |outcome| {
            outcome?;
            limit_here(GroupKey { space, name: &name }, change.subscribers);
            Ok(())
        })
    }

    fn delete_group(&self, key: GroupKey<'_>) -> Answer<(), Corrupt> {
        let Some(names) = self.group_names(key) else {
            // A cluster has no list of the channels of a group.
            return Answer::Now(Err(Failure::Unsupported));
        };
        let (promise, pending) = later();
        let (space, name): (u64, Box<[u8]>) = (key.space, key.name.into());
        self.delete_some(names, None, promise);
        pending.into_answer().map(move |outcome: Outcome<(), Corrupt>| {
            outcome?;
            limit_here(GroupKey { space, name: &name }, Change::Location);
            Ok(())
        })
    }
}

/// Subscribers of a group are counted by each machine: their limit holds here from now on, and at the others when they announce theirs the
/// next time, as it does here where the zone has no room for it now.
fn limit_here(key: GroupKey<'_>, subscribers: Change<u32>) {
    hub::with(|hub| hub.limit_group(key, GroupChange { subscribers, ..GroupChange::default() }).ok());
}

fn reply_of(published: &script::reply::Published) -> PublishReply {
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
