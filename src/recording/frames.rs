// SPDX-License-Identifier: Apache-2.0

//! What is in frames that are ready to be sent (RFC 6455, section 5.2), as this server makes them: without masks, one message
//! at a time, and compressed without reference to any other.

use std::borrow::Cow;

use crate::ws::deflate;
use crate::ws::frame::{MessageKind, Opcode};

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: MessageKind,
    /// What the client is told, before compression.
    pub payload: Cow<'a, [u8]>,
}

/// Reads the frames of one message; `None` if they are anything else, or there is no memory.
pub fn read(mut octets: &[u8], compressed: bool) -> Option<Message<'_>> {
    let mut message: Option<Message<'_>> = None;
    loop {
        let (fin, opcode, payload, rest) = frame(octets)?;
        match (&mut message, opcode) {
            (None, Opcode::Text) => {
                message = Some(Message { kind: MessageKind::Text, payload: Cow::Borrowed(payload) })
            }
            (None, Opcode::Binary) => {
                message = Some(Message { kind: MessageKind::Binary, payload: Cow::Borrowed(payload) });
            }
            (Some(message), Opcode::Continuation) => message.payload.to_mut().extend_from_slice(payload),
            (None | Some(_), _) => return None,
        }
        octets = rest;
        if fin {
            break;
        }
    }
    let Message { kind, payload } = message.filter(|_| octets.is_empty())?;
    let payload = if compressed { Cow::Owned(deflate::inflate_message(&payload)?) } else { payload };
    Some(Message { kind, payload })
}

/// The first frame and what is behind it.
fn frame(octets: &[u8]) -> Option<(bool, Opcode, &[u8], &[u8])> {
    let [first, second, rest @ ..] = octets else { return None };
    let (length, rest) = match second {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*length), rest)
        }
        length => (u64::from(*length), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((first & 0x80 != 0, Opcode::new(first & 0xf)?, payload, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::Scratch;
    use crate::ws::frame::Header;

    fn frames(kind: MessageKind, payload: &[u8], size: usize, rsv1: bool) -> Vec<u8> {
        let mut octets = Vec::new();
        let mut opcode = kind.opcode();
        let mut parts = payload.chunks(size.max(1)).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let fin = parts.peek().is_none();
            let header = Header { fin, rsv1: rsv1 && opcode != Opcode::Continuation, opcode, len: part.len() as u64 };
            octets.extend_from_slice(&header.encode());
            octets.extend_from_slice(part);
            opcode = Opcode::Continuation;
            if fin {
                return octets;
            }
        }
    }

    #[test]
    fn messages() {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for length in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
                let payload = vec![b'x'; length];
                for size in [length, 50_000, 1_000] {
                    let octets = frames(kind, &payload, size, false);
                    let message = read(&octets, false).unwrap();
                    assert_eq!((message.kind, &*message.payload), (kind, &payload[..]), "{length} by {size}");
                }
            }
        }
    }

    #[test]
    fn compressed_ones() {
        let text: Vec<u8> = (0..60_000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        for payload in [&b"ab".repeat(300)[..], &text] {
            let compressed = deflate::compress_message(payload, 1, 15, &mut Scratch::new()).unwrap().unwrap();
            for size in [compressed.len(), 100] {
                let octets = frames(MessageKind::Text, &compressed, size, true);
                assert_eq!(&*read(&octets, true).unwrap().payload, payload);
            }
        }
        assert_eq!(read(&frames(MessageKind::Text, b"\xff\xff\xff", 3, true), true), None);
    }

    #[test]
    fn anything_else() {
        let whole = frames(MessageKind::Text, b"message", 3, false);
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length], false), None, "{length}");
        }
        assert_eq!(read(&[whole.clone(), b"\x81\x00".to_vec()].concat(), false), None);
        for octets in [&b"\x80\x00"[..], b"\x88\x00", b"\x83\x00", b"\x01\x00\x81\x00", b"\x81\x7f\xff"] {
            assert_eq!(read(octets, false), None, "{octets:?}");
        }
    }
}
