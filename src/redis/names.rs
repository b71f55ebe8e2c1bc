// SPDX-License-Identifier: Apache-2.0

//! What a channel is called in the engine: its keys, its Pub/Sub channel, and in a cluster its slot.
//!
//! All names of a channel begin with the prefix of `websocket_channel_redis_prefix`, and share a *hash tag* in braces, by
//! which a cluster keeps them on one node ("Redis cluster specification", hash tags). Group and id may contain any octet, so the
//! tag is made of both in base64url without padding (RFC 4648, section 5), which has neither braces nor the dot between them:
//! two channels never have the same names.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Slots of a cluster.
pub const SLOTS: u16 = 16384;

/// The names of one channel. Each publication needs them: they are one text, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names {
    text: Vec<u8>,
    /// Octets of each name but the last one.
    length: usize,
}

impl Names {
    /// The names of the channel `id` of `group`.
    pub fn of(prefix: &[u8], database: u32, group: &[u8], id: &[u8]) -> Self {
        let tag = tag(prefix, group, id);
        let mut text = Vec::with_capacity((tag.len() + 2) * 6 + 10);
        for end in [":m", ":h", ":n", ":p", ":s", ":"] {
            text.extend_from_slice(&tag);
            text.extend_from_slice(end.as_bytes());
        }
        text.extend_from_slice(itoa::Buffer::new().format(database).as_bytes());
        Names { text, length: tag.len() + 2 }
    }

    fn nth(&self, nth: usize) -> &[u8] {
        &self.text[nth * self.length..(nth + 1) * self.length]
    }

    /// The key of the stream of its messages.
    pub fn stream(&self) -> &[u8] {
        self.nth(0)
    }

    /// The key of the hash with its epoch.
    pub fn hash(&self) -> &[u8] {
        self.nth(1)
    }

    /// The key of the hash of how many subscribers nodes have.
    pub fn nodes(&self) -> &[u8] {
        self.nth(2)
    }

    /// The key of the hash of who these are.
    pub fn presence(&self) -> &[u8] {
        self.nth(3)
    }

    /// The key of the list of the sizes of its messages, where its group is counted.
    pub fn sizes(&self) -> &[u8] {
        self.nth(4)
    }

    /// Its Pub/Sub channel. These know no database, so that its number is a part of the name.
    pub fn topic(&self) -> &[u8] {
        &self.text[5 * self.length..]
    }

    /// The slot of all of them.
    pub fn slot(&self) -> u16 {
        slot(self.stream())
    }
}

/// The names of a group. They are in another slot than those of its channels, so that a cluster cannot count it in one step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupNames {
    /// The key of the hash with its sums and limits.
    pub hash: Vec<u8>,
    /// The key of the sorted set of when its channels are looked at.
    pub due: Vec<u8>,
    /// The key of the hash of what its channels have.
    pub uses: Vec<u8>,
    /// The key of the hash of how many subscribers nodes have.
    pub nodes: Vec<u8>,
    /// What the names of its channels begin with.
    pub begin: Vec<u8>,
}

impl GroupNames {
    /// The names of a group.
    pub fn of(prefix: &[u8], group: &[u8]) -> Self {
        let tag = URL_SAFE_NO_PAD.encode(group);
        let with = |end: &[u8]| [prefix, b"{", tag.as_bytes(), end].concat();
        GroupNames { hash: with(b"}:g"), due: with(b"}:d"), uses: with(b"}:u"), nodes: with(b"}:n"), begin: with(b".") }
    }

    /// What the names of a channel begin with besides `begin`.
    pub fn member(id: &[u8]) -> Vec<u8> {
        URL_SAFE_NO_PAD.encode(id).into_bytes()
    }

    /// What the names of the Pub/Sub channels end with after the hash tag.
    pub fn topic_end(database: u32) -> Vec<u8> {
        format!(":{database}").into_bytes()
    }
}

/// Group and id of the channel of a topic; `None` for what is no topic with this prefix and database.
pub fn channel_of_topic(prefix: &[u8], database: u32, topic: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let tag = topic.strip_prefix(prefix)?.strip_prefix(b"{")?;
    let end = tag.iter().position(|&octet| octet == b'}')?;
    let (tag, rest) = tag.split_at(end);
    if rest.strip_prefix(b"}:")? != database.to_string().as_bytes() {
        return None;
    }
    let dot = tag.iter().position(|&octet| octet == b'.')?;
    let group = URL_SAFE_NO_PAD.decode(&tag[..dot]).ok()?;
    let id = URL_SAFE_NO_PAD.decode(&tag[dot + 1..]).ok()?;
    Some((group, id))
}

fn tag(prefix: &[u8], group: &[u8], id: &[u8]) -> Vec<u8> {
    let mut tag = String::with_capacity((group.len() + id.len()).div_ceil(3) * 4 + 8);
    tag.push('{');
    URL_SAFE_NO_PAD.encode_string(group, &mut tag);
    tag.push('.');
    URL_SAFE_NO_PAD.encode_string(id, &mut tag);
    tag.push('}');
    if prefix.is_empty() { tag.into_bytes() } else { [prefix, tag.as_bytes()].concat() }
}

/// The slot of a key ("Redis cluster specification", key distribution model): CRC-16 of the hash tag, if there is one that is not empty,
/// else of the whole key.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&octet| octet == b'{').and_then(|begin| {
        let rest = &key[begin + 1..];
        let end = rest.iter().position(|&octet| octet == b'}')?;
        (end > 0).then(|| &rest[..end])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM: polynomial 0x1021, nothing reflected, from 0.
fn crc16(octets: &[u8]) -> u16 {
    octets.iter().fold(0, |crc, &octet| {
        (0..8).fold(
            crc ^ (u16::from(octet) << 8),
            |crc, _| if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_what_the_documentation_says() {
        let names = Names::of(b"ws:", 3, b"team", b"news");
        assert_eq!(names.stream(), b"ws:{dGVhbQ.bmV3cw}:m");
        assert_eq!(names.hash(), b"ws:{dGVhbQ.bmV3cw}:h");
        assert_eq!(names.nodes(), b"ws:{dGVhbQ.bmV3cw}:n");
        assert_eq!(names.presence(), b"ws:{dGVhbQ.bmV3cw}:p");
        assert_eq!(names.sizes(), b"ws:{dGVhbQ.bmV3cw}:s");
        assert_eq!(names.topic(), b"ws:{dGVhbQ.bmV3cw}:3");
        let group = GroupNames::of(b"ws:", b"team");
        assert_eq!(group.hash, b"ws:{dGVhbQ}:g");
        assert_eq!(group.due, b"ws:{dGVhbQ}:d");
        assert_eq!(group.uses, b"ws:{dGVhbQ}:u");
        assert_eq!(group.nodes, b"ws:{dGVhbQ}:n");
        let (begin, member) = (group.begin, GroupNames::member(b"news"));
        assert_eq!([&begin, &member, &b"}:m"[..]].concat(), names.stream());
        assert_eq!([&begin, &member, &b"}"[..], &GroupNames::topic_end(3)].concat(), names.topic());
    }

    #[test]
    fn slots_are_those_of_the_server() {
        // The check value of the specification, and what CLUSTER KEYSLOT says.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"somekey"), 11058);
        assert_eq!(slot(b"foo{hash_tag}"), 2515);
        assert_eq!(slot(b"{}foo"), crc16(b"{}foo") % SLOTS);
        assert_eq!(slot(b"foo{bar"), crc16(b"foo{bar") % SLOTS);
    }

    #[test]
    fn what_is_no_topic_names_no_channel() {
        for topic in
            [&b"ws:"[..], b"ws:{a}:0", b"ws:{YQ.YQ}", b"ws:{YQ.YQ}:1", b"ws:{YQ.Y}:0", b"ws:{YQ.YQ}:00", b"x:{YQ.YQ}:0"]
        {
            assert_eq!(channel_of_topic(b"ws:", 0, topic), None, "{}", topic.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn all_names_of_a_channel_are_in_one_slot_and_lead_back(
            group in proptest::collection::vec(any::<u8>(), 0..20),
            id in proptest::collection::vec(any::<u8>(), 1..40),
        ) {
            let names = Names::of(b"ws:", 1, &group, &id);
            for name in [names.hash(), names.nodes(), names.presence(), names.sizes(), names.topic()] {
                prop_assert_eq!(slot(name), names.slot());
            }
            prop_assert_eq!(channel_of_topic(b"ws:", 1, names.topic()), Some((group, id)));
        }
    }
}
