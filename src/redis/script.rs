// SPDX-License-Identifier: Apache-2.0

//! The scripts that the server executes: one atomic step for each operation on a channel.
//!
//! Their texts are in `scripts/`, each with what it takes and what it replies; here they are called, and their replies read.
//! Names, ids and messages are arguments and never a part of a text.

pub mod group;

use std::sync::OnceLock;

use sha1::{Digest, Sha1};

use super::command::append;
use super::error::ErrorReply;
use super::names::{GroupNames, Names};
use super::resp::Value;
use crate::channel::position::{Epoch, Lineage, MessageId, Offset};
use crate::channel::store::Presence;
use group::Counted;

/// One script. Those with `Counted` in their names do the same as the others where the channel's [group] is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Publishes a message.
    Publish,
    /// The same.
    PublishCounted,
    /// Compares a channel and reads what is newer.
    Read,
    /// The same.
    ReadCounted,
    /// Deletes a channel.
    Delete,
    /// The same.
    DeleteCounted,
    /// Tells what a channel is.
    Info,
    /// Announces a node's subscribers.
    Announce,
    /// Tells who is on a channel.
    Presence,
    /// Tells whether a channel may be subscribed to.
    Admit,
    /// Tells what a group has and may have.
    GroupInfo,
    /// Changes the limits of a group.
    GroupLimit,
    /// Deletes channels of a group.
    GroupDelete,
}

impl Script {
    /// All of them. A connection loads each before its first command.
    pub const ALL: [Self; 13] = [
        Self::Publish,
        Self::PublishCounted,
        Self::Read,
        Self::ReadCounted,
        Self::Delete,
        Self::DeleteCounted,
        Self::Info,
        Self::Announce,
        Self::Presence,
        Self::Admit,
        Self::GroupInfo,
        Self::GroupLimit,
        Self::GroupDelete,
    ];

    /// Its text.
    pub fn text(self) -> &'static str {
        macro_rules! text {
            ($($file:literal),*) => {
                concat!(include_str!("scripts/prelude.lua"), $(include_str!($file)),*)
            };
        }
        match self {
            Self::Publish => text!("scripts/publish.lua"),
            Self::PublishCounted => text!("scripts/group.lua", "scripts/publish.lua"),
            Self::Read => text!("scripts/read.lua"),
            Self::ReadCounted => text!("scripts/group.lua", "scripts/read.lua"),
            Self::Delete => text!("scripts/delete.lua"),
            Self::DeleteCounted => text!("scripts/group.lua", "scripts/delete.lua"),
            Self::Info => text!("scripts/info.lua"),
            Self::Announce => text!("scripts/announce.lua"),
            Self::Presence => text!("scripts/presence.lua"),
            Self::Admit => text!("scripts/group.lua", "scripts/admit.lua"),
            Self::GroupInfo => text!("scripts/group.lua", "scripts/group_info.lua"),
            Self::GroupLimit => text!("scripts/group.lua", "scripts/group_limit.lua"),
            Self::GroupDelete => text!("scripts/group.lua", "scripts/group_delete.lua"),
        }
    }

    /// The name by which the server knows it once it is loaded: the hexadecimal SHA-1 of its text.
    pub fn digest(self) -> &'static str {
        static DIGESTS: OnceLock<[String; Script::ALL.len()]> = OnceLock::new();
        let digests = DIGESTS.get_or_init(|| {
            Self::ALL.map(|script| {
                let digest = Sha1::digest(script.text().as_bytes());
                digest.iter().map(|octet| format!("{octet:02x}")).collect()
            })
        });
        &digests[self as usize]
    }

    fn call(self, keys: &[&[u8]], arguments: &[&[u8]], out: &mut Vec<u8>) {
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", self.digest().as_bytes(), count.as_bytes()];
        words.extend_from_slice(keys);
        words.extend_from_slice(arguments);
        append(&words, out);
    }
}

/// How many messages are kept of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All of them.
    All,
    /// The newest so many; 0 keeps none.
    Newest(u64),
}

/// What a channel keeps, and how it is told of.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// How many messages.
    pub messages: Kept,
    /// How long, in milliseconds; 0 for ever.
    pub age: u64,
    /// After how long without a publication the channel is gone, in milliseconds; 0 for never.
    pub lifetime: u64,
    /// Whether the server is one of a cluster, where messages are told to the nodes of a slot only (`SPUBLISH`).
    pub sharded: bool,
}

/// A message was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The id that it was given.
    pub id: MessageId,
    /// True if the message begins an epoch.
    pub begins_epoch: bool,
    /// Nodes that were told of it; `None` if telling them, or something else after the message was stored, has failed.
    pub nodes: Option<u64>,
    /// Messages that the channel keeps.
    pub messages: u64,
    /// Subscribers of all nodes.
    pub subscribers: u64,
    /// How long ago a subscriber was last known of, in milliseconds; `None`: never.
    pub requested: Option<u64>,
}

/// A message that a channel keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its offset.
    pub offset: Offset,
    /// When it was published, in milliseconds of Unix time by the server's clock.
    pub unix: u64,
    /// See [`envelope`](super::envelope).
    pub sealed: Vec<u8>,
}

/// A channel as a node finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its epoch; `None` if there is no channel.
    pub epoch: Option<Epoch>,
    /// Its newest offset.
    pub newest: Offset,
    /// The oldest offset that is kept; `None` if none is.
    pub oldest: Option<Offset>,
    /// How the epoch has come about.
    pub lineage: Lineage,
    /// What was asked for, oldest first.
    pub entries: Vec<Entry>,
}

/// What a channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelState {
    /// Its epoch; `None` if there is no channel.
    pub epoch: Option<Epoch>,
    /// Its newest offset.
    pub newest: Offset,
    /// Messages that are kept.
    pub messages: u64,
    /// Subscribers of all nodes.
    pub subscribers: u64,
    /// How long ago a subscriber was last known of, in milliseconds; `None`: never.
    pub requested: Option<u64>,
}

/// What a node has announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Until when it is true, in milliseconds of the server's clock.
    pub until: u64,
    /// The announcement.
    pub text: Vec<u8>,
}

/// Why a reply is not the one of its script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server has refused.
    Refused(ErrorReply),
    /// What it replied is not what the script can have said.
    Malformed,
}

/// Asks the server to publish a message. `epoch` is drawn at random for each call: see `scripts/publish.lua`. `counted`: the group of
/// the channel is counted, and may have limits.
pub fn publish(
    names: &Names,
    epoch: Epoch,
    sealed: &[u8],
    keeping: &Keeping,
    counted: Option<&group::Message<'_>>,
    out: &mut Vec<u8>,
) {
    let kept = match keeping.messages {
        Kept::All => "all".to_owned(),
        Kept::Newest(count) => count.to_string(),
    };
    let (epoch, age, lifetime) = (epoch.0.to_string(), keeping.age.to_string(), keeping.lifetime.to_string());
    let arguments: [&[u8]; 7] = [
        epoch.as_bytes(),
        sealed,
        kept.as_bytes(),
        age.as_bytes(),
        lifetime.as_bytes(),
        &names.topic,
        publish_command(keeping.sharded),
    ];
    let keys: [&[u8]; 3] = [&names.stream, &names.hash, &names.nodes];
    match counted {
        None => Script::Publish.call(&keys, &arguments, out),
        Some(message) => message.publish(names, &keys, &arguments, out),
    }
}

/// Reads the reply to [`publish`]; `None` if the channel's group may not have so much, and nothing was published.
///
/// # Errors
///
/// [`Failure`]: nothing was published, unless it is [`Failure::Malformed`].
pub fn published(reply: &Value) -> Result<Option<Published>, Failure> {
    if let [word] = values(reply)?
        && word.octets() == Some(b"group")
    {
        return Ok(None);
    }
    let [epoch, offset, begins, nodes, entries, announcements, now, requested] = values(reply)? else {
        return Err(Failure::Malformed);
    };
    let id = MessageId { epoch: Epoch(unsigned(epoch)?), offset: Offset(unsigned(offset)?) };
    let nodes = nodes.number().ok_or(Failure::Malformed)?;
    let now = unsigned(now)?;
    Ok(Some(Published {
        id,
        begins_epoch: unsigned(begins)? == 1,
        nodes: u64::try_from(nodes).ok(),
        messages: unsigned(entries)?,
        subscribers: subscribers(&announcements_of(values(announcements)?)?, now),
        requested: ago(requested, now)?,
    }))
}

/// How long ago a time was that is 0 for never.
fn ago(time: &Value, now: u64) -> Result<Option<u64>, Failure> {
    let time = unsigned(time)?;
    Ok((time != 0).then(|| now.saturating_sub(time)))
}

/// The sum of what nodes have announced, without what is void at this time of the server.
fn subscribers(announced: &[Announced], now: u64) -> u64 {
    let counts = announced.iter().filter(|announced| announced.until > now);
    counts.filter_map(|announced| decimal(&announced.text)).fold(0, u64::saturating_add)
}

/// What is asked for of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Messages after this offset.
    pub after: Offset,
    /// At most so many; 0 only compares.
    pub messages: usize,
    /// Of about so many octets.
    pub octets: usize,
    /// The channel lives so many milliseconds more; 0 leaves that as it is.
    pub lifetime: u64,
}

/// Asks for messages of a channel. `counted`: the group of the channel is counted.
pub fn read(names: &Names, counted: Option<&Counted>, epoch: Epoch, wanted: Wanted, out: &mut Vec<u8>) {
    let Wanted { after, messages, octets, lifetime } = wanted;
    let words = [epoch.0, after.0, messages as u64, octets as u64, lifetime].map(|number| number.to_string());
    let arguments = words.each_ref().map(|word| word.as_bytes());
    let keys: [&[u8]; 2] = [&names.stream, &names.hash];
    match counted {
        None => Script::Read.call(&keys, &arguments, out),
        Some(counted) => {
            let keys = [&keys[..], &counted.keys()].concat();
            Script::ReadCounted.call(&keys, &[&arguments[..], &counted.name()].concat(), out);
        }
    }
}

/// Reads the reply to [`read`].
///
/// # Errors
///
/// [`Failure`].
pub fn fetched(reply: &Value) -> Result<Fetched, Failure> {
    let [epoch, newest, oldest, base, entries @ ..] = values(reply)? else { return Err(Failure::Malformed) };
    let oldest = Offset(unsigned(oldest)?);
    Ok(Fetched {
        epoch: optional(epoch)?.map(Epoch),
        newest: Offset(unsigned(newest)?),
        oldest: (oldest != Offset(0)).then_some(oldest),
        lineage: lineage(base)?,
        entries: entries.iter().map(entry).collect::<Result<_, _>>()?,
    })
}

/// The newest offset when an epoch began, and the epoch before it, which may be empty: "offset;epoch".
fn lineage(value: &Value) -> Result<Lineage, Failure> {
    let octets = value.octets().ok_or(Failure::Malformed)?;
    let mut parts = octets.split(|octet| *octet == b';');
    let base = parts.next().and_then(decimal).ok_or(Failure::Malformed)?;
    let previous = match parts.next() {
        None | Some([]) => None,
        Some(epoch) => Some(Epoch(decimal(epoch).ok_or(Failure::Malformed)?)),
    };
    Ok(Lineage { base: Offset(base), previous })
}

/// Asks the server to delete a channel. `counted`: the group of the channel is counted.
pub fn delete(names: &Names, sharded: bool, counted: Option<&Counted>, out: &mut Vec<u8>) {
    let keys: [&[u8]; 3] = [&names.stream, &names.hash, &names.nodes];
    let arguments: [&[u8]; 2] = [&names.topic, publish_command(sharded)];
    match counted {
        None => Script::Delete.call(&keys, &arguments, out),
        Some(counted) => {
            let keys = [&keys[..], &counted.keys(), &[&names.sizes, &counted.group.nodes]].concat();
            Script::DeleteCounted.call(&keys, &[&arguments[..], &counted.name()].concat(), out);
        }
    }
}

/// Asks what a channel is.
pub fn info(names: &Names, epoch: Epoch, out: &mut Vec<u8>) {
    let keys: [&[u8]; 3] = [&names.stream, &names.hash, &names.nodes];
    Script::Info.call(&keys, &[epoch.0.to_string().as_bytes()], out);
}

/// Reads the reply to [`info`] or [`delete`].
///
/// # Errors
///
/// [`Failure`].
pub fn state(reply: &Value) -> Result<ChannelState, Failure> {
    let [epoch, newest, messages, announcements, now, requested] = values(reply)? else {
        return Err(Failure::Malformed);
    };
    let now = unsigned(now)?;
    Ok(ChannelState {
        epoch: optional(epoch)?.map(Epoch),
        newest: Offset(unsigned(newest)?),
        messages: unsigned(messages)?,
        subscribers: subscribers(&announcements_of(values(announcements)?)?, now),
        requested: ago(requested, now)?,
    })
}

/// Announces for so many milliseconds how many subscribers this node has of a channel, and who they are, in a text of
/// [`presence`](super::presence); `None`: as was announced before. `counted`: the group of the channel is counted, and the node has so many
/// subscribers of all of its channels.
pub fn announce(
    names: &Names,
    node: &[u8],
    lifetime: u64,
    subscribers: u32,
    who: Option<&[u8]>,
    counted: Option<(&GroupNames, u32)>,
    out: &mut Vec<u8>,
) {
    let lifetime = lifetime.to_string();
    let count = if subscribers == 0 { String::new() } else { subscribers.to_string() };
    let mut keys: Vec<&[u8]> = vec![&names.nodes, &names.presence, &names.hash];
    let mut arguments = vec![node, lifetime.as_bytes(), count.as_bytes()];
    let sum = counted.map(|(_, sum)| sum.to_string());
    if let Some(((group, _), sum)) = counted.zip(sum.as_deref()) {
        keys.extend([&group.nodes[..], &group.hash]);
        arguments.push(sum.as_bytes());
    }
    arguments.extend(who);
    Script::Announce.call(&keys, &arguments, out);
}

/// What the server says to an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The server knows who the node's subscribers are.
    pub has_presence: bool,
    /// Subscribers that the group may have at each node, where that was set for it.
    pub limit: Option<u32>,
    /// What the nodes have announced, without what is void.
    pub announced: Vec<Announced>,
}

/// Reads the reply to [`announce`].
///
/// # Errors
///
/// [`Failure`].
pub fn noted(reply: &Value) -> Result<Noted, Failure> {
    let [has_presence, limit, announced @ ..] = values(reply)? else { return Err(Failure::Malformed) };
    Ok(Noted {
        has_presence: unsigned(has_presence)? == 1,
        limit: optional(limit)?.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        announced: announcements_of(announced)?,
    })
}

/// Asks who is on a channel.
pub fn presence(names: &Names, out: &mut Vec<u8>) {
    Script::Presence.call(&[&names.stream, &names.hash, &names.nodes, &names.presence], &[], out);
}

/// Reads the reply to [`presence`]; `None` if there is no such channel.
///
/// # Errors
///
/// [`Failure`].
pub fn present(reply: &Value) -> Result<Option<Presence>, Failure> {
    let [is_there, nodes @ ..] = values(reply)? else { return Err(Failure::Malformed) };
    let mut all = Presence::default();
    for node in nodes.chunks(2) {
        let [count, who] = node else { return Err(Failure::Malformed) };
        super::presence::add(&mut all, unsigned(count)?, who.octets().ok_or(Failure::Malformed)?);
    }
    Ok((unsigned(is_there)? == 1).then_some(all))
}

fn announcements_of(values: &[Value]) -> Result<Vec<Announced>, Failure> {
    values
        .iter()
        .map(|value| {
            let octets = value.octets().ok_or(Failure::Malformed)?;
            let colon = memchr::memchr(b':', octets).ok_or(Failure::Malformed)?;
            let until = decimal(&octets[..colon]).ok_or(Failure::Malformed)?;
            Ok(Announced { until, text: octets[colon + 1..].to_vec() })
        })
        .collect()
}

fn publish_command(sharded: bool) -> &'static [u8] {
    if sharded { b"SPUBLISH" } else { b"PUBLISH" }
}

/// An entry of a stream: its id `offset-0`, and its fields `t` and `m`.
fn entry(value: &Value) -> Result<Entry, Failure> {
    let Some([id, fields]) = value.values() else { return Err(Failure::Malformed) };
    let id = id.octets().and_then(|id| id.strip_suffix(b"-0")).ok_or(Failure::Malformed)?;
    let fields = fields.values().ok_or(Failure::Malformed)?;
    let field = |name: &[u8]| {
        let pair = fields.chunks_exact(2).find(|pair| pair[0].octets() == Some(name));
        pair.and_then(|pair| pair[1].octets()).ok_or(Failure::Malformed)
    };
    Ok(Entry {
        offset: Offset(decimal(id).ok_or(Failure::Malformed)?),
        unix: decimal(field(b"t")?).ok_or(Failure::Malformed)?,
        sealed: field(b"m")?.to_vec(),
    })
}

fn values(reply: &Value) -> Result<&[Value], Failure> {
    if let Some(error) = ErrorReply::of(reply) {
        return Err(Failure::Refused(error));
    }
    reply.values().ok_or(Failure::Malformed)
}

fn unsigned(value: &Value) -> Result<u64, Failure> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        other => other.octets().and_then(decimal),
    }
    .ok_or(Failure::Malformed)
}

fn optional(value: &Value) -> Result<Option<u64>, Failure> {
    if *value == Value::Null { Ok(None) } else { unsigned(value).map(Some) }
}

/// A number without sign.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn digests_are_those_of_the_texts() {
        for script in Script::ALL {
            assert_eq!(script.digest().len(), 40);
            assert!(script.text().contains("replication_id()"));
        }
        assert_ne!(Script::Publish.digest(), Script::Read.digest());
    }

    #[test]
    fn a_publication_is_read() {
        let nodes_of = || Value::Array(vec![bulk("100:3"), bulk("99:40"), bulk("101:4")]);
        let reply = |nodes| {
            let (begins, nodes) = (Value::Integer(1), Value::Integer(nodes));
            Value::Array(vec![
                bulk("42"),
                bulk("7"),
                begins,
                nodes,
                Value::Integer(5),
                nodes_of(),
                bulk("99"),
                bulk("0"),
            ])
        };
        let id = MessageId { epoch: Epoch(42), offset: Offset(7) };
        let told = Published { id, begins_epoch: true, nodes: Some(3), messages: 5, subscribers: 7, requested: None };
        assert_eq!(published(&reply(3)), Ok(Some(told)));
        assert_eq!(published(&reply(-1)), Ok(Some(Published { nodes: None, ..told })));
        assert_eq!(published(&Value::Array(vec![bulk("group")])), Ok(None));
        let refused = published(&Value::Error(b"OOM no".to_vec()));
        assert_eq!(refused, Err(Failure::Refused(ErrorReply::OutOfMemory)));
        assert_eq!(published(&Value::Array(vec![bulk("42")])), Err(Failure::Malformed));
        assert_eq!(published(&Value::Null), Err(Failure::Malformed));
    }

    #[test]
    fn entries_are_read() {
        let entry = Value::Array(vec![bulk("7-0"), Value::Array(vec![bulk("t"), bulk("5"), bulk("m"), bulk("x")])]);
        let reply = Value::Array(vec![bulk("42"), bulk("7"), bulk("6"), bulk("3;41"), entry]);
        let fetched = fetched(&reply).unwrap();
        assert_eq!((fetched.epoch, fetched.newest, fetched.oldest), (Some(Epoch(42)), Offset(7), Some(Offset(6))));
        assert_eq!(fetched.lineage, Lineage { base: Offset(3), previous: Some(Epoch(41)) });
        assert_eq!(fetched.entries, [Entry { offset: Offset(7), unix: 5, sealed: b"x".to_vec() }]);
        let none = Value::Array(vec![Value::Null, bulk("0"), bulk("0"), bulk("0")]);
        let none = super::fetched(&none).unwrap();
        assert_eq!((none.epoch, none.newest, none.oldest), (None, Offset(0), None));
        for id in ["7-1", "7", "-0", "x-0"] {
            let entry = Value::Array(vec![bulk(id), Value::Array(vec![bulk("t"), bulk("5"), bulk("m"), bulk("x")])]);
            let reply = Value::Array(vec![bulk("42"), bulk("7"), bulk("6"), bulk("3"), entry]);
            assert_eq!(super::fetched(&reply), Err(Failure::Malformed), "{id}");
        }
    }
}
