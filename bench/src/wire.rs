// SPDX-License-Identifier: Apache-2.0

//! WebSocket on the wire (RFC 6455), as much of it as a client and a bare server need.
//!
//! Both sides of a measurement use one fixed key, the one of section 1.3, so that nobody here has to know SHA-1.

use std::io;

/// The key of the example handshake in section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The client's masking key. Any value serves; none of its octets is zero, so that a server has to unmask.
pub const MASK: [u8; 4] = [0x5a, 0x3c, 0x96, 0xe1];

/// Section 5.2.
pub const TEXT: u8 = 1;
/// Section 5.2.
pub const BINARY: u8 = 2;
/// Section 5.5.1.
pub const CLOSE: u8 = 8;
/// Section 5.5.2.
pub const PING: u8 = 9;
/// Section 5.5.3.
pub const PONG: u8 = 10;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// What `read` and `write` report on a socket that would have to wait.
pub fn would_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Something came that the protocol or the test does not allow.
pub fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The opening handshake of a client, with `extra` header lines (each ended by CRLF).
pub fn handshake(path: &str, extra: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
    .into_bytes()
}

/// The answer to [`handshake`].
pub fn handshake_answer() -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
    .into_bytes()
}

/// Length of the HTTP head at the start of `input`, its empty line included.
pub fn head_length(input: &[u8]) -> Option<usize> {
    input.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of header `name` in an HTTP head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Checks a server's answer to [`handshake`]: the status and the accept value.
///
/// # Errors
/// With the status line, when it is not the 101 that was asked for.
pub fn check_handshake_answer(head: &[u8]) -> io::Result<()> {
    let head = str::from_utf8(head).map_err(|_| wrong("the answer's head is not text"))?;
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(wrong(format!("no upgrade: {}", head.lines().next().unwrap_or_default())));
    }
    if header(head, "Sec-WebSocket-Accept") != Some(ACCEPT) {
        return Err(wrong("wrong Sec-WebSocket-Accept"));
    }
    Ok(())
}

/// A frame's header (section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub opcode: u8,
    /// Last frame of its message.
    pub fin: bool,
    /// The message is compressed (RFC 7692, section 6).
    pub compressed: bool,
    /// The masking key, on frames of a client.
    pub mask: Option<[u8; 4]>,
    /// Octets of payload.
    pub length: usize,
}

impl Header {
    /// Reads the header at the start of `input`: the header and its own length; none when more octets are needed.
    ///
    /// # Errors
    /// On reserved bits and lengths beyond memory.
    pub fn parse(input: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let &[first, second, ..] = input else { return Ok(None) };
        if first & 0x30 != 0 {
            return Err(wrong("reserved bits"));
        }
        let (length, mut at) = match second & 0x7f {
            126 => match input.get(2..4) {
                Some(two) => (two.iter().fold(0, |sum, &octet| sum << 8 | u64::from(octet)), 4),
                None => return Ok(None),
            },
            127 => match input.get(2..10) {
                Some(eight) => (eight.iter().fold(0, |sum, &octet| sum << 8 | u64::from(octet)), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let mut mask = None;
        if second & MASKED != 0 {
            let Some(four) = input.get(at..at + 4) else { return Ok(None) };
            mask = four.try_into().ok();
            at += 4;
        }
        let length = usize::try_from(length).map_err(|_| wrong("length"))?;
        let header = Self { opcode: first & 0x0f, fin: first & FIN != 0, compressed: first & RSV1 != 0, mask, length };
        Ok(Some((header, at)))
    }

    /// Appends the header in its shortest form.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut first = self.opcode;
        if self.fin {
            first |= FIN;
        }
        if self.compressed {
            first |= RSV1;
        }
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        out.push(first);
        if let Ok(length @ 0..=125) = u8::try_from(self.length) {
            out.push(masked | length);
        } else if let Ok(length) = u16::try_from(self.length) {
            out.push(masked | 126);
            out.extend_from_slice(&length.to_be_bytes());
        } else {
            out.push(masked | 127);
            out.extend_from_slice(&(self.length as u64).to_be_bytes());
        }
        if let Some(mask) = self.mask {
            out.extend_from_slice(&mask);
        }
    }
}

/// XORs `payload` with `mask`; `offset` is the place of its first octet in the frame's payload (section 5.3).
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut mask = mask;
    mask.rotate_left(offset % 4);
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(octets) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(octets) ^ wide).to_ne_bytes());
        }
    }
    for (octet, key) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *octet ^= key;
    }
}

/// Appends a client's frame with `payload`.
pub fn write_masked(opcode: u8, compressed: bool, payload: &[u8], out: &mut Vec<u8>) {
    Header { opcode, fin: true, compressed, mask: Some(MASK), length: payload.len() }.write(out);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], MASK, 0);
}

/// Appends a server's frame with `payload`.
pub fn write_plain(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    Header { opcode, fin: true, compressed: false, mask: None, length: payload.len() }.write(out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_at_every_length() {
        for length in [0, 1, 125, 126, 65535, 65536, 1 << 20] {
            for mask in [None, Some(MASK)] {
                let header = Header { opcode: TEXT, fin: true, compressed: false, mask, length };
                let mut out = Vec::new();
                header.write(&mut out);
                for cut in 0..out.len() {
                    assert_eq!(Header::parse(&out[..cut]).unwrap(), None, "{cut} octets of {header:?}");
                }
                assert_eq!(Header::parse(&out).unwrap(), Some((header, out.len())));
            }
        }
    }

    #[test]
    fn masking_goes_on_at_any_offset() {
        let payload: Vec<u8> = (0..50).collect();
        let mut whole = payload.clone();
        apply_mask(&mut whole, MASK, 0);
        assert_eq!(whole[0], MASK[0]);
        for cut in 0..payload.len() {
            let mut parts = payload.clone();
            let (head, tail) = parts.split_at_mut(cut);
            apply_mask(head, MASK, 0);
            apply_mask(tail, MASK, cut);
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn handshake_answers_are_checked() {
        assert!(check_handshake_answer(&handshake_answer()).is_ok());
        assert!(check_handshake_answer(b"HTTP/1.1 503 no\r\n\r\n").is_err());
        assert!(check_handshake_answer(b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: a\r\n\r\n").is_err());
    }
}
