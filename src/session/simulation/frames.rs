// SPDX-License-Identifier: Apache-2.0

//! What the client of a simulated session hears, read as a strict client would.

use super::*;
use crate::ws::frame::MessageKind;

/// What a client hears.
pub struct Heard {
    /// The messages, those that are whole.
    pub messages: Vec<Message>,
    /// A Close was the last frame.
    pub closed: bool,
    /// There was no piece of a frame at the end.
    pub is_whole: bool,
}

/// Reads what went to a client, and refuses everything that a server must not send.
pub fn frames(mut octets: &[u8]) -> Heard {
    let mut heard = Heard { messages: Vec::new(), closed: false, is_whole: true };
    let mut begun: Option<Message> = None;
    while !octets.is_empty() {
        assert!(!heard.closed, "octets after a Close");
        heard.is_whole = false;
        let [first, second, rest @ ..] = octets else { break };
        assert_eq!((first & 0x70, second & 0x80), (0, 0), "reserved bits, or a mask");
        let (length, rest) = match (second, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (126 | 127, _) => break,
            (length, rest) => (usize::from(*length), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        heard.is_whole = true;
        octets = rest;
        let last = first & 0x80 != 0;
        match first & 15 {
            kind @ 0..=2 => {
                assert_eq!(kind == 0, begun.is_some(), "a message in another one, or the rest of none");
                let kind = if kind == 2 { MessageKind::Binary } else { MessageKind::Text };
                begun.get_or_insert((kind, Vec::new())).1.extend_from_slice(payload);
                if last {
                    heard.messages.extend(begun.take());
                }
            }
            8 => heard.closed = true,
            9 | 10 => assert!(last && payload.len() <= 125),
            other => panic!("a frame of opcode {other}"),
        }
    }
    heard
}
