// SPDX-License-Identifier: Apache-2.0

//! Scripts about [groups](crate::channel::store::Groups): what their channels have at all nodes, and may have.
//!
//! A group is counted by the scripts that change its channels, in keys of its own: see `scripts/group.lua`. Those are in another slot
//! than the channels, so that it is not counted in a cluster.

use super::Script;
use super::reply::{Failure, announcements_of, optional, subscribers, unsigned, values};
use crate::channel::position::Epoch;
use crate::channel::store::{Change, GroupChange, GroupInfo, GroupLimits, GroupUse};
use crate::redis::names::{GroupNames, Names};
use crate::redis::resp::Value;

/// Channels that are deleted in one step.
pub const DELETED_AT_ONCE: u64 = 64;

/// Which groups an engine counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counting {
    /// None: it is a cluster.
    #[default]
    Nothing,
    /// Groups that have a name.
    Named,
    /// All groups, the one without a name too: a location has limits for it, or shows it.
    All,
}

impl Counting {
    /// A channel, if its group is counted.
    pub fn of(self, prefix: &[u8], group: &[u8], id: &[u8]) -> Option<Counted> {
        self.counts(group).then(|| Counted::of(prefix, group, id))
    }

    /// Whether a group is counted.
    pub fn counts(self, group: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Named => !group.is_empty(),
            Self::All => true,
        }
    }
}

/// A channel whose group is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The names of the group.
    pub group: GroupNames,
    member: Vec<u8>,
}

impl Counted {
    /// The channel `id` of `group`.
    pub fn of(prefix: &[u8], group: &[u8], id: &[u8]) -> Self {
        Counted { group: GroupNames::of(prefix, group), member: GroupNames::member(id) }
    }

    pub(super) fn keys(&self) -> [&[u8]; 3] {
        [&self.group.hash, &self.group.due, &self.group.uses]
    }

    /// What the names of the channel are made of.
    pub(super) fn name(&self) -> [&[u8]; 2] {
        [&self.group.begin, &self.member]
    }
}

/// What is counted of a message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its channel.
    pub channel: &'a Counted,
    /// Octets of its data.
    pub octets: usize,
    /// What the group may have, where it has no limits of its own.
    pub limits: GroupLimits,
}

impl Message<'_> {
    pub(super) fn publish(&self, names: &Names, keys: &[&[u8]], arguments: &[&[u8]], out: &mut Vec<u8>) {
        let GroupLimits { channels, messages, bytes, .. } = self.limits;
        let numbers = [self.octets as u64, channels.into(), messages.into(), bytes].map(|number| number.to_string());
        let numbers = numbers.each_ref().map(|number| number.as_bytes());
        let keys = [keys, &self.channel.keys(), &[names.sizes()]].concat();
        Script::PublishCounted.call(&keys, &[arguments, &self.channel.name(), &numbers].concat(), out);
    }
}

/// Whether a channel may be subscribed to that a node has no copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The channel may be subscribed to.
    Admitted,
    /// Its group has as many channels as it may have.
    Group,
    /// Nobody has published to it, and it may not begin.
    Missing,
}

/// Asks whether a channel may be subscribed to. If it is not there yet it begins, for `lifetime` milliseconds, where its group is counted
/// and `create` says so; where it is not counted it begins when somebody listens. `channels` are those that the group may have, 0
/// for any number.
pub fn admit(
    names: &Names,
    counted: Option<&Counted>,
    epoch: Epoch,
    lifetime: u64,
    create: bool,
    channels: u32,
    out: &mut Vec<u8>,
) {
    let numbers = [epoch.0, lifetime, u64::from(create)].map(|number| number.to_string());
    let channels = channels.to_string();
    let mut keys: Vec<&[u8]> = vec![names.stream(), names.hash()];
    let mut arguments: Vec<&[u8]> = numbers.iter().map(|number| number.as_bytes()).collect();
    if let Some(counted) = counted {
        keys.extend(counted.keys());
        arguments.extend(counted.name());
        arguments.push(channels.as_bytes());
    }
    Script::Admit.call(&keys, &arguments, out);
}

/// Reads the reply to [`admit`].
///
/// # Errors
///
/// [`Failure`].
pub fn admitted(reply: &Value) -> Result<Admission, Failure> {
    match reply.number() {
        Some(1) => Ok(Admission::Admitted),
        Some(0) => Ok(Admission::Group),
        Some(-1) => Ok(Admission::Missing),
        Some(_) | None => Err(refusal(reply)),
    }
}

/// Why a reply is not the one that was asked for.
fn refusal(reply: &Value) -> Failure {
    values(reply).err().unwrap_or(Failure::Malformed)
}

/// What a group has and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupState {
    /// What the group has.
    pub used: GroupUse,
    /// Its own limits.
    own: [Option<u64>; 4],
    /// Something may have expired that is counted still: whoever asks again is told better.
    pub has_more: bool,
}

impl GroupState {
    /// What it has and may have, where the location has these limits.
    pub fn at(&self, location: GroupLimits) -> GroupInfo {
        let [channels, subscribers, messages, bytes] = self.own;
        let limits = GroupLimits {
            channels: channels.map_or(location.channels, small),
            subscribers: subscribers.map_or(location.subscribers, small),
            messages: messages.map_or(location.messages, small),
            bytes: bytes.unwrap_or(location.bytes),
        };
        GroupInfo { used: self.used, limits }
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Asks what a group has and may have.
pub fn info(names: &GroupNames, out: &mut Vec<u8>) {
    let keys: [&[u8]; 4] = [&names.hash, &names.due, &names.uses, &names.nodes];
    Script::GroupInfo.call(&keys, &[&names.begin], out);
}

/// Reads the reply to [`info`].
///
/// # Errors
///
/// [`Failure`].
pub fn state(reply: &Value) -> Result<GroupState, Failure> {
    let [channels, messages, bytes, announced, now, limits @ .., more] = values(reply)? else {
        return Err(Failure::Malformed);
    };
    let [first, second, third, fourth] = limits else { return Err(Failure::Malformed) };
    let announced = announcements_of(values(announced)?)?;
    Ok(GroupState {
        used: GroupUse {
            channels: small(unsigned(channels)?),
            subscribers: small(subscribers(&announced, unsigned(now)?)),
            messages: small(unsigned(messages)?),
            bytes: unsigned(bytes)?,
        },
        own: [optional(first)?, optional(second)?, optional(third)?, optional(fourth)?],
        has_more: unsigned(more)? == 1,
    })
}

/// Changes the limits that a group has of its own.
pub fn limit(names: &GroupNames, change: GroupChange, out: &mut Vec<u8>) {
    fn text<T: ToString>(change: Change<T>) -> Option<String> {
        match change {
            Change::Keep => None,
            Change::Location => Some(String::new()),
            Change::To(value) => Some(value.to_string()),
        }
    }
    let GroupChange { channels, subscribers, messages, bytes } = change;
    let texts = [("C", text(channels)), ("S", text(subscribers)), ("M", text(messages)), ("B", text(bytes))];
    let pairs = texts.iter().filter_map(|(name, text)| Some((*name, text.as_deref()?)));
    let arguments: Vec<&[u8]> = pairs.flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]).collect();
    Script::GroupLimit.call(&[&names.hash, &names.due, &names.uses], &arguments, out);
}

/// Reads the reply to [`limit`].
///
/// # Errors
///
/// [`Failure`].
pub fn limited(reply: &Value) -> Result<(), Failure> {
    if reply.number() == Some(1) { Ok(()) } else { Err(refusal(reply)) }
}

/// Deletes some channels of a group, and with the last of them the limits that were set.
pub fn delete(names: &GroupNames, database: u32, out: &mut Vec<u8>) {
    let keys: [&[u8]; 4] = [&names.hash, &names.due, &names.uses, &names.nodes];
    let (end, most) = (GroupNames::topic_end(database), DELETED_AT_ONCE.to_string());
    Script::GroupDelete.call(&keys, &[&names.begin, &end, most.as_bytes()], out);
}

/// Reads the reply to [`delete`]: how many channels are left.
///
/// # Errors
///
/// [`Failure`].
pub fn deleted(reply: &Value) -> Result<u64, Failure> {
    unsigned(reply).map_err(|_| refusal(reply))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::error::ErrorReply;
    use crate::redis::resp::bulk;

    #[test]
    fn a_group_is_read() {
        let nodes = Value::Array(vec![bulk("100:3"), bulk("99:40"), bulk("101:4")]);
        let reply = |more| {
            let limits = [bulk("7"), Value::Null, Value::Null, bulk("0")];
            let known = [bulk("2"), bulk("5"), bulk("60"), nodes.clone(), bulk("99")];
            Value::Array(known.into_iter().chain(limits).chain([Value::Integer(more)]).collect())
        };
        let group = state(&reply(1)).unwrap();
        assert_eq!(group.used, GroupUse { channels: 2, subscribers: 7, messages: 5, bytes: 60 });
        let location = GroupLimits { channels: 1, subscribers: 2, messages: 3, bytes: 4 };
        assert_eq!(group.at(location).limits, GroupLimits { channels: 7, bytes: 0, ..location });
        assert!(group.has_more && !state(&reply(0)).unwrap().has_more);
        assert_eq!(state(&Value::Array(vec![bulk("2")])), Err(Failure::Malformed));
    }

    #[test]
    fn who_counts_nothing_has_no_names() {
        let of = |counting: Counting, group: &[u8]| counting.of(b"ws:", group, b"a").is_some();
        assert_eq!([b"".as_slice(), b"g"].map(|group| of(Counting::Nothing, group)), [false, false]);
        assert_eq!([b"".as_slice(), b"g"].map(|group| of(Counting::Named, group)), [false, true]);
        assert_eq!([b"".as_slice(), b"g"].map(|group| of(Counting::All, group)), [true, true]);
    }

    #[test]
    fn errors_are_told_apart_from_what_makes_no_sense() {
        let refused = Failure::Refused(ErrorReply::OutOfMemory);
        let error = Value::Error(b"OOM no".to_vec());
        assert_eq!(admitted(&error), Err(refused.clone()));
        assert_eq!(limited(&error), Err(refused.clone()));
        assert_eq!(deleted(&error), Err(refused));
        assert_eq!(admitted(&Value::Integer(7)), Err(Failure::Malformed));
        assert_eq!(limited(&bulk("x")), Err(Failure::Malformed));
        assert_eq!(deleted(&bulk("x")), Err(Failure::Malformed));
        assert_eq!(deleted(&bulk("12")), Ok(12));
        assert_eq!(admitted(&Value::Integer(-1)), Ok(Admission::Missing));
    }
}
