// SPDX-License-Identifier: Apache-2.0

//! The scripts that the server executes: one atomic step for each operation on a channel.
//!
//! Their texts are in `scripts/`, each with what it takes and what it replies; here they are called; [`reply`] reads what they reply.
//! Names, ids and messages are arguments and never a part of a text.

pub mod check;
pub mod group;
pub mod reply;

use std::sync::OnceLock;

use sha1::{Digest, Sha1};

use super::command::append;
use super::names::{GroupNames, Names};
use super::notice;
use crate::channel::position::{Epoch, Offset};
use group::Counted;

/// One script. Those with `Counted` in their names do the same as the others where the channel's [group] is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Publishes a message.
    Publish,
    /// Publishes a message where groups are counted.
    PublishCounted,
    /// Compares a channel and reads what is newer.
    Read,
    /// Compares and reads a channel where groups are counted.
    ReadCounted,
    /// Deletes a channel.
    Delete,
    /// Deletes a channel where groups are counted.
    DeleteCounted,
    /// Tells what a channel is.
    Info,
    /// Announces a node's subscribers.
    Announce,
    /// Compares some channels, and announces their subscribers again.
    Check,
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
    /// All scripts. A connection loads each before its first command.
    pub const ALL: [Self; 14] = [
        Self::Publish,
        Self::PublishCounted,
        Self::Read,
        Self::ReadCounted,
        Self::Delete,
        Self::DeleteCounted,
        Self::Info,
        Self::Announce,
        Self::Check,
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
            Self::Announce => text!("scripts/nodes.lua", "scripts/announce.lua"),
            Self::Check => text!("scripts/nodes.lua", "scripts/check.lua"),
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
        let mut count = itoa::Buffer::new();
        let begin: [&[u8]; 3] = [b"EVALSHA", self.digest().as_bytes(), count.format(keys.len()).as_bytes()];
        let mut words = Vec::with_capacity(begin.len() + keys.len() + arguments.len());
        words.extend_from_slice(&begin);
        words.extend_from_slice(keys);
        words.extend_from_slice(arguments);
        append(&words, out);
    }
}

/// How many messages are kept of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All messages are kept.
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
    let [mut kept, mut epoch_text, mut age, mut lifetime] = [itoa::Buffer::new(); 4];
    let kept = match keeping.messages {
        Kept::All => "all",
        Kept::Newest(count) => kept.format(count),
    };
    let arguments: [&[u8]; 7] = [
        epoch_text.format(epoch.0).as_bytes(),
        sealed,
        kept.as_bytes(),
        age.format(keeping.age).as_bytes(),
        lifetime.format(keeping.lifetime).as_bytes(),
        names.topic(),
        publish_command(keeping.sharded),
    ];
    let keys: [&[u8]; 3] = [names.stream(), names.hash(), names.nodes()];
    match counted {
        None => Script::Publish.call(&keys, &arguments, out),
        Some(message) => message.publish(names, &keys, &arguments, out),
    }
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
    let keys: [&[u8]; 2] = [names.stream(), names.hash()];
    match counted {
        None => Script::Read.call(&keys, &arguments, out),
        Some(counted) => {
            let keys = [&keys[..], &counted.keys()].concat();
            Script::ReadCounted.call(&keys, &[&arguments[..], &counted.name()].concat(), out);
        }
    }
}

/// Asks the server to delete a channel. `counted`: the group of the channel is counted.
pub fn delete(names: &Names, sharded: bool, counted: Option<&Counted>, out: &mut Vec<u8>) {
    let keys: [&[u8]; 3] = [names.stream(), names.hash(), names.nodes()];
    let arguments: [&[u8]; 2] = [names.topic(), publish_command(sharded)];
    match counted {
        None => Script::Delete.call(&keys, &arguments, out),
        Some(counted) => {
            let keys = [&keys[..], &counted.keys(), &[names.sizes(), &counted.group.nodes]].concat();
            Script::DeleteCounted.call(&keys, &[&arguments[..], &counted.name()].concat(), out);
        }
    }
}

/// Asks what a channel is.
pub fn info(names: &Names, epoch: Epoch, out: &mut Vec<u8>) {
    let keys: [&[u8]; 3] = [names.stream(), names.hash(), names.nodes()];
    Script::Info.call(&keys, &[epoch.0.to_string().as_bytes()], out);
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
    let mut keys: Vec<&[u8]> = vec![names.nodes(), names.presence(), names.hash()];
    let mut arguments = vec![node, lifetime.as_bytes(), count.as_bytes()];
    let sum = counted.map(|(_, sum)| sum.to_string());
    if let Some(((group, _), sum)) = counted.zip(sum.as_deref()) {
        keys.extend([&group.nodes[..], &group.hash]);
        arguments.push(sum.as_bytes());
    }
    arguments.extend(who);
    Script::Announce.call(&keys, &arguments, out);
}

/// Asks who is on a channel.
pub fn presence(names: &Names, out: &mut Vec<u8>) {
    Script::Presence.call(&[names.stream(), names.hash(), names.nodes(), names.presence()], &[], out);
}

/// Tells the nodes that listen that the subscribers of a channel that are called so are to be closed.
pub fn expel(names: &Names, sharded: bool, who: &[u8], out: &mut Vec<u8>) {
    append(&[publish_command(sharded), names.topic(), &[notice::EXPELLED, who].concat()], out);
}

fn publish_command(sharded: bool) -> &'static [u8] {
    if sharded { b"SPUBLISH" } else { b"PUBLISH" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_texts() {
        for script in Script::ALL {
            assert_eq!(script.digest().len(), 40);
            assert!(script.text().contains("replication_id()"));
        }
        assert_ne!(Script::Publish.digest(), Script::Read.digest());
    }
}
