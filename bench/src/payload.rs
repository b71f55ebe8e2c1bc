// SPDX-License-Identifier: Apache-2.0

//! The messages that are sent, and the check of what comes back.

use std::io;

use crate::deflate;
use crate::wire::{self, BINARY, TEXT, wrong};

/// Octets at the start of a message that number it: eight digits count, four name the connection.
pub const STAMP: usize = 12;

/// How a message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text message by text message.
    Text,
    /// Octets, in whatever frames.
    Stream,
    /// Text message by text message, compressed on the way there; on the way back as the server likes.
    Compressed,
}

/// An endless row of messages of one length, each different from the others.
pub struct Messages {
    /// How they come back.
    pub form: Form,
    body: Vec<u8>,
    frame: Vec<u8>,
    /// Compressed messages do not carry a number; they take turns.
    pool: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The number at the start of message `number` of connection `connection`.
pub fn stamp(connection: usize, number: u64) -> [u8; STAMP] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut octets = [b'0'; STAMP];
    for (at, octet) in octets[..8].iter_mut().enumerate() {
        *octet = DIGITS[(number >> (28 - 4 * at)) as usize & 15];
    }
    for (at, octet) in octets[8..].iter_mut().enumerate() {
        *octet = DIGITS[connection >> (12 - 4 * at) & 15];
    }
    octets
}

/// The number in a stamp.
pub fn number(message: &[u8]) -> Option<u64> {
    message.get(..8)?.iter().try_fold(0, |sum, &octet| Some(sum << 4 | u64::from(char::from(octet).to_digit(16)?)))
}

impl Messages {
    /// Text messages of `length` octets.
    pub fn text(length: usize) -> Self {
        Self::new(Form::Text, TEXT, (0..length).map(|at| b' ' + (at * 7 % 95) as u8).collect())
    }

    /// Binary messages of `length` octets that a program or service returns as a stream.
    pub fn stream(length: usize) -> Self {
        let mut state = 1_u32;
        let noise = (0..length).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        Self::new(Form::Stream, BINARY, noise.collect())
    }

    fn new(form: Form, opcode: u8, body: Vec<u8>) -> Self {
        let mut frame = Vec::new();
        wire::write_masked(opcode, false, &body, &mut frame);
        Self { form, body, frame, pool: Vec::new() }
    }

    /// Text messages of about `length` octets of JSON, compressed if `compress` says so.
    pub fn json(length: usize, compress: bool) -> Self {
        let pool = (0..64)
            .map(|turn| {
                let plain = deflate::sample(turn, length);
                let mut frame = Vec::new();
                if compress {
                    wire::write_masked(TEXT, true, &deflate::compress(&plain), &mut frame);
                } else {
                    wire::write_masked(TEXT, false, &plain, &mut frame);
                }
                (plain, frame)
            })
            .collect();
        Self { form: Form::Compressed, body: vec![0; length], frame: Vec::new(), pool }
    }

    /// Octets of payload in each.
    pub fn length(&self) -> usize {
        self.body.len()
    }

    fn turn(&self, connection: usize, number: u64) -> &(Vec<u8>, Vec<u8>) {
        &self.pool[(number as usize).wrapping_add(connection) % self.pool.len()]
    }

    /// Appends the masked frame of a message.
    pub fn write(&self, connection: usize, number: u64, out: &mut Vec<u8>) {
        if self.form == Form::Compressed {
            out.extend_from_slice(&self.turn(connection, number).1);
            return;
        }
        let start = out.len() + self.frame.len() - self.body.len();
        out.extend_from_slice(&self.frame);
        let mut stamp = stamp(connection, number);
        wire::apply_mask(&mut stamp, wire::MASK, 0);
        out[start..start + STAMP].copy_from_slice(&stamp);
    }

    /// Checks a stretch of what came back for a message, from `offset` on.
    ///
    /// # Errors
    /// When it is not what was sent.
    pub fn check(&self, connection: usize, number: u64, offset: usize, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len();
        let right = match self.form {
            Form::Compressed => self.turn(connection, number).0.get(offset..end) == Some(data),
            Form::Text | Form::Stream => {
                let stamped = STAMP.clamp(offset, end) - offset;
                let stamp = stamp(connection, number);
                (stamped == 0 || data[..stamped] == stamp[offset..offset + stamped])
                    && self.body.get(offset + stamped..end) == Some(&data[stamped..])
            }
        };
        if right { Ok(()) } else { Err(wrong(format!("connection {connection}: message {number} came back changed"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_its_number() {
        assert_eq!(&stamp(0x12, 0xabc), b"00000abc0012");
        assert_eq!(number(&stamp(3, 77_777)), Some(77_777));
        assert_eq!(number(b"0000000g0000"), None);
    }

    #[test]
    fn what_is_written_passes_the_check_in_any_pieces_and_nothing_else_does() {
        for messages in [Messages::text(100), Messages::stream(300), Messages::json(200, false)] {
            let mut frame = Vec::new();
            messages.write(5, 9, &mut frame);
            let (header, at) = wire::Header::parse(&frame).unwrap().unwrap();
            assert_eq!(header.length, messages.length());
            let payload = &mut frame[at..];
            wire::apply_mask(payload, wire::MASK, 0);
            for cut in 0..=payload.len() {
                assert!(messages.check(5, 9, 0, &payload[..cut]).is_ok());
                assert!(messages.check(5, 9, cut, &payload[cut..]).is_ok());
            }
            assert!(messages.check(5, 10, 0, payload).is_err());
            assert!(messages.check(6, 9, 0, payload).is_err());
            for at in 0..payload.len() {
                payload[at] ^= 1;
                assert!(messages.check(5, 9, 0, payload).is_err(), "octet {at}");
                payload[at] ^= 1;
            }
            assert!(messages.check(5, 9, 1, payload).is_err());
        }
    }
}
