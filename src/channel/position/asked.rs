// SPDX-License-Identifier: Apache-2.0

//! What a client says about the last message that it has, whatever clients and servers in between have made of it.

use memchr::{memchr, memrchr};

use super::{Cut, MAX_POSITIONS, MessageId, number};
use smallvec::{SmallVec, smallvec};

/// What a client says about the last message that it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Asked {
    /// The client has asked for no position.
    #[default]
    Nothing,
    /// Something that is not an id of ours: it is a new subscriber.
    Unknown,
    /// One or several ids.
    After(SmallVec<[MessageId; 1]>),
    /// A position in many channels.
    Cut(Cut),
}

impl Asked {
    /// Reads a `Last-Event-ID` header or a `last_event_id` argument. Empty is nothing: an EventSource that has not seen an
    /// id yet sends none, but some libraries send the header all the same.
    pub fn id(octets: &[u8]) -> Self {
        let octets = octets.trim_ascii();
        // Nearly everybody has one id, and brings it as it was given.
        if let Some(id) = MessageId::parse(octets) {
            return Self::After(smallvec![id]);
        }
        let octets = within(octets);
        if octets.is_empty() {
            return Self::Nothing;
        }
        // As it is comes first: a position in many channels may end in the same letters by itself.
        [octets, without_coding(octets)].into_iter().find_map(Self::position).unwrap_or(Self::Unknown)
    }

    /// Reads a position as this module writes it.
    fn position(octets: &[u8]) -> Option<Self> {
        if let Some(cut) = Cut::read(octets) {
            return Some(Self::Cut(cut));
        }
        let ids = octets.split(|&octet| octet == b',').take(MAX_POSITIONS + 1);
        let ids = ids.map(|part| MessageId::parse(part.trim_ascii())).collect::<Option<SmallVec<_>>>()?;
        (ids.len() <= MAX_POSITIONS).then_some(Self::After(ids))
    }

    /// Reads an `If-None-Match` header (RFC 9110, section 13.1.2): the first entity tag in it that is a position, strong or
    /// weak. A tag without quotes is accepted too.
    pub fn etag(octets: &[u8]) -> Self {
        let mut rest = octets.trim_ascii();
        if rest.is_empty() {
            return Self::Nothing;
        }
        if memchr(b'"', rest).is_none() {
            return Self::id(rest);
        }
        while let Some(open) = memchr(b'"', rest) {
            let tag = rest.get(open + 1..).unwrap_or_default();
            let Some(close) = memchr(b'"', tag) else { break };
            if let found @ (Self::After(_) | Self::Cut(_)) = Self::id(tag.get(..close).unwrap_or_default()) {
                return found;
            }
            rest = tag.get(close + 1..).unwrap_or_default();
        }
        Self::Unknown
    }
}

/// What a server in between adds to the entity tag of a response that it has compressed: Apache's `mod_deflate` and
/// `mod_brotli`, and others.
const CODINGS: [&[u8]; 4] = [b"-gzip", b"-br", b"-deflate", b"-zstd"];

/// An entity tag without what a server in between has added.
fn without_coding(tag: &[u8]) -> &[u8] {
    CODINGS.iter().find_map(|coding| tag.strip_suffix(*coding)).unwrap_or(tag)
}

/// The position in what a client has made of an entity tag, perhaps with what a server in between has added to it. A script may repeat
/// the tag as it came, with its quotes; NchanSubscriber.js puts the seconds of `Last-Modified` and a colon before it.
fn within(octets: &[u8]) -> &[u8] {
    let mut octets = octets;
    if let Some(open) = memchr(b'"', octets)
        && let Some(close) = memrchr(b'"', octets).filter(|&close| close > open)
    {
        let (before, behind) = (octets.get(..open).unwrap_or_default(), octets.get(close + 1..).unwrap_or_default());
        let before = before.strip_suffix(b"W/").unwrap_or(before);
        let is_time = |text: &[u8]| text.strip_suffix(b":").is_some_and(|seconds| number(seconds).is_some());
        let is_tag = (before.is_empty() || is_time(before)) && without_coding(behind).is_empty();
        if is_tag {
            octets = octets.get(open + 1..close).unwrap_or_default();
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::super::{Epoch, Offset, UNKNOWN};
    use super::*;

    fn id(epoch: u64, offset: u64) -> MessageId {
        MessageId { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    #[test]
    fn entity_tags_as_ids() {
        let after = Asked::After(smallvec![id(77, 5)]);
        for text in ["\"77:5\"", "W/\"77:5\"", "\"77:5-gzip\"", " \"77:5\"-gzip "] {
            assert_eq!(Asked::id(text.as_bytes()), after, "{text}");
        }
        assert_eq!(Asked::id(b"\"77:5,1:0\""), Asked::After(smallvec![id(77, 5), id(1, 0)]));
        for text in ["\"77:5", "w/\"77:5\"", "x\"77:5\"", "\"77:5\"x", "\"\"77:5\"\"", "\"77:5\", \"77:6\""] {
            assert_eq!(Asked::id(text.as_bytes()), Asked::Unknown, "{text}");
        }
    }

    #[test]
    fn ids_of_nchan_subscriber() {
        let after = Asked::After(smallvec![id(77, 5)]);
        for text in ["1700000000:\"77:5\"", "1700000000:W/\"77:5\"", "0:\"77:5-gzip\"", " 17:\"77:5\"-gzip "] {
            assert_eq!(Asked::id(text.as_bytes()), after, "{text}");
        }
        assert_eq!(Asked::id(b"17:\"77:5,1:0\""), Asked::After(smallvec![id(77, 5), id(1, 0)]));
        for text in ["17:\"77:5", "17\"77:5\"", "x:\"77:5\"", "17:\"77:5\"x", "17:\"\"77:5\"\"", "17:\"\"", "\""] {
            assert!(!matches!(Asked::id(text.as_bytes()), Asked::After(_) | Asked::Cut(_)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_unknown() {
        let unknown = [
            "7",
            ":",
            "7:",
            ":7",
            "a:1",
            "1:a",
            "-1:2",
            "1:2:3",
            "1:2,",
            ",1:2",
            "+1:2",
            "1:2 3:4",
            "\u{0}",
            "1:\u{0}",
            "18446744073709551616:1",
            "1:18446744073709551616",
            "0x10:1",
            "1:2;3:4",
        ];
        for text in unknown {
            assert_eq!(Asked::id(text.as_bytes()), Asked::Unknown, "{text}");
        }
        assert_eq!(Asked::id(b"\xff\xfe"), Asked::Unknown);
        assert_eq!(Asked::id(b"  "), Asked::Nothing);
        assert_eq!(Asked::id(vec!["1:1"; MAX_POSITIONS + 1].join(",").as_bytes()), Asked::Unknown);
    }

    #[test]
    fn entity_tags() {
        let after = Asked::After(smallvec![id(77, 5)]);
        for tag in ["\"77:5\"", "W/\"77:5\"", "77:5", "\"abc\", W/\"77:5\"", "\"\", \"77:5\""] {
            assert_eq!(Asked::etag(tag.as_bytes()), after, "{tag}");
        }
        assert_eq!(Asked::etag(b"\"77:5,3:4\""), Asked::After(smallvec![id(77, 5), id(3, 4)]));
        for tag in ["\"77:5-gzip\"", "W/\"77:5-gzip\"", "\"77:5\"-gzip", "77:5-gzip", "\"77:5-br\"", "77:5-zstd"] {
            assert_eq!(Asked::etag(tag.as_bytes()), after, "{tag}");
        }
        for tag in ["*", "\"abc\"", "\"77:5", "\"", "\"\""] {
            assert_eq!(Asked::etag(tag.as_bytes()), Asked::Unknown, "{tag}");
        }
        assert_eq!(Asked::etag(b""), Asked::Nothing);
    }

    #[test]
    fn a_position_that_ends_like_what_a_server_adds() {
        let serial = [0x01, 0x3e, 0x4e, 0x4b, 0x5d_u64].iter().rev().fold(0, |serial, septet| serial << 7 | septet);
        let alike = Cut { zone: 77, serial, named: Vec::new() };
        assert!(alike.write().ends_with("-zstd"));
        let named = Cut { zone: 77, serial: 5, named: vec![id(3, 4), MessageId { epoch: Epoch(9), offset: UNKNOWN }] };
        for cut in [alike, named] {
            let text = cut.write();
            assert_eq!(Asked::id(text.as_bytes()), Asked::Cut(cut.clone()), "{text}");
            for coding in CODINGS {
                let tag = [b"\"", text.as_bytes(), coding, b"\""].concat();
                assert_eq!(Asked::etag(&tag), Asked::Cut(cut.clone()), "{}", String::from_utf8_lossy(&tag));
            }
        }
    }
}
