// SPDX-License-Identifier: Apache-2.0

//! Positions in many channels: one place in the order of all messages of a zone, and the channels that are elsewhere.
//!
//! # Why
//!
//! A client of many channels keeps one string, the last id that it has read, and all of its positions must follow from that:
//! an EventSource sends nothing else when it comes back. A list of ids is as long as the list of channels, with every message.
//!
//! Every message of a zone has a serial, and so has the creation of a channel: they are given under the lock of the zone, each
//! greater than all before, in whatever channel. A [`Cut`] at a serial says for a channel: everything up to it has been
//! delivered, nothing after it. A channel for which no such thing can be said at that serial is named with its exact position, as
//! the epoch and the offset of the last message. A subscriber gets the messages of its channels merged by their serials, so that
//! after each message the cut is at the serial of just that message, and nearly always no channel is named.
//!
//! # What a cut needs
//!
//! 1. No message at or before the cut is still to come. Later publications have greater serials. Of the earlier ones those may
//!    be missing that the worker has not copied yet: it knows a *horizon*, a serial up to which it has copied everything, and
//!    no cut is beyond that. Nor is one beyond a serial at which each channel of the subscriber was still there: what has taken
//!    the place of a deleted one was created after it, and the client has nothing of that.
//! 2. No message after the cut was delivered. Where one was, because its worker copied one channel further than another one, the
//!    channel is named.
//! 3. What a channel has lost, and the client has not been told of, is after the position: such a channel is named.
//! 4. Whoever resolves the cut learns whether something after it is missing. A channel's record has the greatest serial of what
//!    is no longer there: of the newest message that was dropped, and at first the one that the channel itself was given when it
//!    was created, as one that was removed before is forgotten with all its messages. If that is beyond the cut, the client is
//!    told of a gap; nobody knows of how many messages. If it is not, then it is the channel that the client had, and everything after the cut is there.
//!
//! Serials mean something in one zone only, whose identity is part of the position: with another one, after a restart, each
//! channel that is not named is one that was replaced, and the client is told. Channels whose order is not the zone's, because
//! their messages come from somewhere else, are to be named always: epochs and offsets are the same everywhere.
//!
//! # Its string
//!
//! `z`, then in base64url without padding (RFC 4648, section 5): seven octets of the zone's identity, the serial, and for each
//! channel that is named seven octets of its epoch and one more than its offset, 0 if nothing of the channel is known to the
//! client. Numbers are written as LEB128, the identity and the epochs little-endian. With
//! [`MAX_POSITIONS`] channels, all of them named, that is less than 5,900 octets; usually it is about 15.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Epoch, MAX_POSITIONS, MessageId, Offset};

/// Up to so many channels, a position is the list of their ids.
pub const MOST_LISTED: usize = 8;

/// The offset of a position in a channel of which the client knows nothing: it has to be told of a gap.
pub const UNKNOWN: Offset = Offset(u64::MAX);

/// What the string begins with.
const MARK: u8 = b'z';

/// Octets of an epoch, and of the identity of a zone: both are below 2^53.
const SHORT: usize = 7;

/// A position in many channels: one serial for all of them, but for those that are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The zone that the serial is of.
    pub zone: u64,
    /// What was published up to it was delivered, what comes after it was not, in all channels that are not named.
    pub serial: u64,
    /// Channels that are named.
    pub named: Vec<MessageId>,
}

impl Cut {
    /// The string of it.
    pub fn write(&self) -> String {
        let mut octets = Vec::with_capacity(16 + self.named.len() * 10);
        short(&mut octets, self.zone);
        number(&mut octets, self.serial);
        for id in &self.named {
            short(&mut octets, id.epoch.0);
            number(&mut octets, id.offset.0.wrapping_add(1));
        }
        let mut text = String::from(char::from(MARK));
        URL_SAFE_NO_PAD.encode_string(octets, &mut text);
        text
    }

    /// Reads what [`write`](Self::write) has written; `None` if it is something else.
    pub fn read(text: &[u8]) -> Option<Self> {
        let octets = URL_SAFE_NO_PAD.decode(text.strip_prefix(&[MARK])?).ok()?;
        let mut rest = octets.as_slice();
        let (zone, serial) = (take_short(&mut rest)?, take_number(&mut rest)?);
        let mut named = Vec::new();
        while !rest.is_empty() {
            if named.len() == MAX_POSITIONS {
                return None;
            }
            let epoch = Epoch(take_short(&mut rest)?);
            named.push(MessageId { epoch, offset: Offset(take_number(&mut rest)?.wrapping_sub(1)) });
        }
        Some(Self { zone, serial, named })
    }
}

fn short(out: &mut Vec<u8>, value: u64) {
    debug_assert!(value < 1 << 53);
    out.extend(value.to_le_bytes().into_iter().take(SHORT));
}

fn take_short(rest: &mut &[u8]) -> Option<u64> {
    let (octets, tail) = rest.split_first_chunk::<SHORT>()?;
    *rest = tail;
    let value = octets.iter().rev().fold(0_u64, |value, octet| value << 8 | u64::from(*octet));
    (value < 1 << 53).then_some(value)
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (octet, tail) = rest.split_first()?;
        *rest = tail;
        let bits = u64::from(octet & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_one_is_short() {
        let cut = Cut { zone: (1 << 53) - 1, serial: 2_000_000, named: vec![] };
        assert_eq!(cut.write().len(), 15);
        assert_eq!(Cut::read(cut.write().as_bytes()), Some(cut));
    }

    #[test]
    fn the_longest_one_fits_into_a_header() {
        let id = MessageId { epoch: Epoch((1 << 53) - 1), offset: Offset(u64::MAX - 1) };
        let cut = Cut { zone: (1 << 53) - 1, serial: u64::MAX, named: vec![id; MAX_POSITIONS] };
        assert!(cut.write().len() < 5900, "{}", cut.write().len());
        assert_eq!(Cut::read(cut.write().as_bytes()), Some(cut));
    }

    #[test]
    fn anything_else_is_none() {
        for text in ["", "z", "z!", "zzz", "zAAAAAAAAAA", "zAAAAAAAAAA=", "z_______________", "AAAAAAAAAAAA"] {
            assert_eq!(Cut::read(text.as_bytes()), None, "{text}");
        }
        // A number of more than 64 bits.
        let mut octets = vec![0; SHORT];
        octets.extend([0xff; 9]);
        octets.push(2);
        assert_eq!(Cut::read(format!("z{}", URL_SAFE_NO_PAD.encode(octets)).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn a_cut_survives_its_string(
            zone in 0..1_u64 << 53, serial: u64, ids in proptest::collection::vec((0..1_u64 << 53, any::<u64>()), 0..9),
        ) {
            let named = ids.into_iter().map(|(epoch, offset)| MessageId { epoch: Epoch(epoch), offset: Offset(offset) });
            let cut = Cut { zone, serial, named: named.collect() };
            prop_assert_eq!(Cut::read(cut.write().as_bytes()), Some(cut));
        }

        #[test]
        fn no_string_does_harm(text in "z?[A-Za-z0-9_-]{0,60}") {
            let _ = Cut::read(text.as_bytes());
        }
    }
}
