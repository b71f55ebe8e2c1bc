// SPDX-License-Identifier: Apache-2.0

//! What the scripts reply.

use crate::channel::position::{Epoch, Lineage, MessageId, Offset};
use crate::channel::store::{History, Presence};
use crate::redis::error::ErrorReply;
use crate::redis::presence;
use crate::redis::resp::Value;

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
    /// The message in its [`envelope`](crate::redis::envelope).
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
    /// What the channel keeps; `None` where that is not known, as where nobody has published.
    pub history: Option<History>,
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

/// Reads the reply to [`publish`](super::publish); `None` if the channel's group may not have so much, and nothing was
/// published.
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
pub(super) fn subscribers(announced: &[Announced], now: u64) -> u64 {
    let counts = announced.iter().filter(|announced| announced.until > now);
    counts.filter_map(|announced| decimal(&announced.text)).fold(0, u64::saturating_add)
}

/// Reads the reply to [`read`](super::read).
///
/// # Errors
///
/// [`Failure`].
pub fn fetched(reply: &Value) -> Result<Fetched, Failure> {
    let [epoch, newest, oldest, base, entries @ ..] = values(reply)? else { return Err(Failure::Malformed) };
    let oldest = Offset(unsigned(oldest)?);
    let (lineage, history) = past(base)?;
    Ok(Fetched {
        epoch: optional(epoch)?.map(Epoch),
        newest: Offset(unsigned(newest)?),
        oldest: (oldest != Offset(0)).then_some(oldest),
        lineage,
        history,
        entries: entries.iter().map(entry).collect::<Result<_, _>>()?,
    })
}

/// The newest offset when an epoch began, the epoch before it, and what is kept, both of which may be empty: "offset;epoch;kept:age".
fn past(value: &Value) -> Result<(Lineage, Option<History>), Failure> {
    let octets = value.octets().ok_or(Failure::Malformed)?;
    let mut parts = octets.split(|octet| *octet == b';');
    let base = parts.next().and_then(decimal).ok_or(Failure::Malformed)?;
    let previous = match parts.next() {
        None | Some([]) => None,
        Some(epoch) => Some(Epoch(decimal(epoch).ok_or(Failure::Malformed)?)),
    };
    // What another version of this module may say in another way is not known.
    let history = parts.next().and_then(history);
    Ok((Lineage { base: Offset(base), previous }, history))
}

/// What a publication has said that the channel keeps, as [`publish`](super::publish) says it: "kept:age".
pub(in crate::redis) fn history(text: &[u8]) -> Option<History> {
    let colon = memchr::memchr(b':', text)?;
    let time = decimal(&text[colon + 1..])?;
    Some(match &text[..colon] {
        b"all" => History::of(0, time),
        b"0" => History::OFF,
        number => History::of(decimal(number)?, time),
    })
}

/// Reads the reply to [`info`](super::info) or [`delete`](super::delete).
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

/// Reads the reply to [`announce`](super::announce).
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

/// Reads the reply to [`presence`](super::presence); `None` if there is no such channel.
///
/// # Errors
///
/// [`Failure`].
pub fn present(reply: &Value) -> Result<Option<Presence>, Failure> {
    let [is_there, nodes @ ..] = values(reply)? else { return Err(Failure::Malformed) };
    let mut all = Presence::default();
    for node in nodes.chunks(2) {
        let [count, who] = node else { return Err(Failure::Malformed) };
        presence::add(&mut all, unsigned(count)?, who.octets().ok_or(Failure::Malformed)?);
    }
    Ok((unsigned(is_there)? == 1).then_some(all))
}

pub(super) fn announcements_of(values: &[Value]) -> Result<Vec<Announced>, Failure> {
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

pub(super) fn values(reply: &Value) -> Result<&[Value], Failure> {
    if let Some(error) = ErrorReply::of(reply) {
        return Err(Failure::Refused(error));
    }
    reply.values().ok_or(Failure::Malformed)
}

pub(super) fn unsigned(value: &Value) -> Result<u64, Failure> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        other => other.octets().and_then(decimal),
    }
    .ok_or(Failure::Malformed)
}

pub(super) fn optional(value: &Value) -> Result<Option<u64>, Failure> {
    if *value == Value::Null { Ok(None) } else { unsigned(value).map(Some) }
}

/// A number without sign.
pub(in crate::redis) fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::resp::bulk;

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
    fn what_is_kept_is_read() {
        let kept = |text: &str| history(text.as_bytes());
        assert_eq!(kept("all:7"), Some(History { length: 0, time: 7 }));
        assert_eq!(kept("10:0"), Some(History { length: 10, time: 0 }));
        assert_eq!(kept("0:0"), Some(History::OFF));
        for text in ["", "1", "1:", ":1", "x:1", "1:x", "1:2:3"] {
            assert_eq!(kept(text), None, "{text}");
        }
    }

    #[test]
    fn entries_are_read() {
        let entry = Value::Array(vec![bulk("7-0"), Value::Array(vec![bulk("t"), bulk("5"), bulk("m"), bulk("x")])]);
        let reply = Value::Array(vec![bulk("42"), bulk("7"), bulk("6"), bulk("3;41;10:500"), entry]);
        let fetched = fetched(&reply).unwrap();
        assert_eq!((fetched.epoch, fetched.newest, fetched.oldest), (Some(Epoch(42)), Offset(7), Some(Offset(6))));
        assert_eq!(fetched.lineage, Lineage { base: Offset(3), previous: Some(Epoch(41)) });
        assert_eq!(fetched.history, Some(History { length: 10, time: 500 }));
        assert_eq!(fetched.entries, [Entry { offset: Offset(7), unix: 5, sealed: b"x".to_vec() }]);
        for past in ["3;41", "3;41;", "3;41;10:500:1", "3;41;other"] {
            let reply = Value::Array(vec![bulk("42"), bulk("7"), bulk("6"), bulk(past)]);
            let fetched = super::fetched(&reply).unwrap();
            assert_eq!((fetched.lineage.base, fetched.history), (Offset(3), None), "{past}");
        }
        let none = Value::Array(vec![Value::Null, bulk("0"), bulk("0"), bulk("0;;")]);
        let none = super::fetched(&none).unwrap();
        assert_eq!((none.epoch, none.newest, none.oldest, none.history), (None, Offset(0), None, None));
        for id in ["7-1", "7", "-0", "x-0"] {
            let entry = Value::Array(vec![bulk(id), Value::Array(vec![bulk("t"), bulk("5"), bulk("m"), bulk("x")])]);
            let reply = Value::Array(vec![bulk("42"), bulk("7"), bulk("6"), bulk("3"), entry]);
            assert_eq!(super::fetched(&reply), Err(Failure::Malformed), "{id}");
        }
    }
}
