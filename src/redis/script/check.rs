// SPDX-License-Identifier: Apache-2.0

//! The script by which channels are looked at again and again on which nothing happens: some of them in one step.
//!
//! In a cluster all channels of one call are of one slot.

use super::Script;
use super::reply::{Failure, decimal, optional, values};
use crate::channel::position::{Epoch, Offset};
use crate::redis::names::Names;
use crate::redis::resp::Value;
use crate::redis::script::group::Counted;

/// Channels in one call: what the script costs by itself is divided by many of them then, and the server, which does nothing else
/// meanwhile, is kept from others for a fraction of a millisecond.
pub const MOST: usize = 16;

/// What a node has announced of its subscribers of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// How many subscribers.
    pub subscribers: u32,
    /// The server was told who they are.
    pub has_who: bool,
}

/// A channel, and what a node has of it.
#[derive(Debug, Clone, Copy)]
pub struct Channel<'a> {
    /// Its names.
    pub names: &'a Names,
    /// The epoch of what the node has.
    pub epoch: Epoch,
    /// What is to be true for longer; `None`: no announcement is.
    pub announced: Option<Announcement>,
    /// Where its group is counted, which is one of those of the call then.
    pub counted: Option<&'a Counted>,
}

/// A group of channels of one call.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// One of its channels.
    pub counted: &'a Counted,
    /// Subscribers that the node has of all of the group's channels; 0 leaves open whether it has any.
    pub subscribers: u32,
}

/// Who checks, and for how long that holds, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Checker<'a> {
    /// The name of the node.
    pub node: &'a [u8],
    /// How long its announcements are true.
    pub announcement: u64,
    /// How long the channels live at least.
    pub lifetime: u64,
}

/// Compares channels and announces their subscribers again.
pub fn check(checker: Checker<'_>, channels: &[Channel<'_>], groups: &[Group<'_>], out: &mut Vec<u8>) {
    let text = |number: u64| number.to_string().into_bytes();
    let mut keys: Vec<&[u8]> = Vec::with_capacity(3 * (channels.len() + groups.len()));
    let mut arguments: Vec<Vec<u8>> =
        vec![checker.node.to_vec(), text(checker.announcement), text(checker.lifetime), text(channels.len() as u64)];
    for channel in channels {
        keys.extend([channel.names.hash(), channel.names.nodes(), channel.names.presence()]);
        let place = |counted: &Counted| groups.iter().position(|group| group.counted.group == counted.group);
        let group = channel.counted.and_then(place).map_or(0, |place| place as u64 + 1);
        arguments.extend([
            text(channel.epoch.0),
            channel.announced.map_or_else(Vec::new, |announced| text(announced.subscribers.into())),
            text(channel.announced.is_some_and(|announced| announced.has_who).into()),
            text(group),
            channel.counted.map_or_else(Vec::new, |counted| counted.name()[1].to_vec()),
        ]);
    }
    for group in groups {
        keys.extend([&group.counted.group.hash[..], &group.counted.group.uses, &group.counted.group.nodes]);
        arguments.push(if group.subscribers == 0 { Vec::new() } else { text(group.subscribers.into()) });
    }
    let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
    Script::Check.call(&keys, &arguments, out);
}

/// What has become of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is true, or there was none.
    True,
    /// The server does not know any more who the subscribers are.
    WithoutWho,
    /// It could not be written.
    Refused,
}

/// How a channel was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its newest offset; `None`: it has another epoch, or something else that takes a [read](super::read).
    pub newest: Option<Offset>,
    /// The announcement.
    pub noted: Noted,
}

/// How all channels of a call were found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// The channels, in the order of the call.
    pub channels: Vec<Found>,
    /// Subscribers that each group may have at each node, where that was set for it.
    pub limits: Vec<Option<u32>>,
}

/// Reads the reply to [`check`] of so many channels.
///
/// # Errors
///
/// [`Failure`].
pub fn checked(reply: &Value, channels: usize) -> Result<Checked, Failure> {
    let (found, limits) = values(reply)?.split_at_checked(2 * channels).ok_or(Failure::Malformed)?;
    let found = found.chunks_exact(2).map(|pair| {
        let newest = match &pair[0] {
            Value::Null => None,
            newest => Some(Offset(newest.octets().and_then(decimal).ok_or(Failure::Malformed)?)),
        };
        let noted = match pair[1].number() {
            Some(1) => Noted::True,
            Some(0) => Noted::WithoutWho,
            Some(-1) => Noted::Refused,
            Some(_) | None => return Err(Failure::Malformed),
        };
        Ok(Found { newest, noted })
    });
    let limits = limits.iter().map(|limit| Ok(optional(limit)?.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX))));
    Ok(Checked { channels: found.collect::<Result<_, _>>()?, limits: limits.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::resp::bulk;

    #[test]
    fn groups_are_named_once() {
        let counted = [("a", "g"), ("b", "h"), ("c", "g")].map(|(id, group)| {
            (
                Names::of(b"ws:", 0, group.as_bytes(), id.as_bytes()),
                Counted::of(b"ws:", group.as_bytes(), id.as_bytes()),
            )
        });
        let channels = counted.each_ref().map(|(names, counted)| Channel {
            names,
            epoch: Epoch(7),
            announced: Some(Announcement { subscribers: 2, has_who: true }),
            counted: Some(counted),
        });
        let alone = Channel { counted: None, announced: None, ..channels[0] };
        let groups = [0, 1].map(|group| Group { counted: &counted[group].1, subscribers: group as u32 });
        let checker = Checker { node: b"node", announcement: 24, lifetime: 65 };
        let mut out = Vec::new();
        check(checker, &[channels[0], channels[1], channels[2], alone], &groups, &mut out);
        let sent = String::from_utf8(out).unwrap();
        let words: Vec<&str> = sent.split("\r\n").skip(2).step_by(2).collect();
        assert_eq!(words[2], "18");
        let arguments: Vec<&str> = words[3 + 18..].to_vec();
        let expected = [
            &["node", "24", "65", "4"][..],
            &["7", "2", "1", "1", "YQ"],
            &["7", "2", "1", "2", "Yg"],
            &["7", "2", "1", "1", "Yw"],
            &["7", "", "0", "0", ""],
            &["", "1"],
        ];
        assert_eq!(arguments, expected.concat());
    }

    #[test]
    fn what_was_found_is_read() {
        let reply = |last| {
            let words = [bulk("12"), Value::Integer(1), Value::Null, Value::Integer(0), bulk("0"), Value::Integer(-1)];
            Value::Array(words.into_iter().chain([bulk("3"), last]).collect())
        };
        let found = |newest: Option<u64>, noted| Found { newest: newest.map(Offset), noted };
        let channels =
            vec![found(Some(12), Noted::True), found(None, Noted::WithoutWho), found(Some(0), Noted::Refused)];
        assert_eq!(checked(&reply(Value::Null), 3), Ok(Checked { channels, limits: vec![Some(3), None] }));
        assert_eq!(checked(&reply(Value::Null), 4), Err(Failure::Malformed), "a limit is no announcement");
        assert_eq!(checked(&reply(Value::Null), 5), Err(Failure::Malformed));
        assert_eq!(checked(&reply(bulk("x")), 3), Err(Failure::Malformed));
    }
}
