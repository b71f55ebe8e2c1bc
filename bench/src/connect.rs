// SPDX-License-Identifier: Apache-2.0

//! Load: one connection after the other, each to its first message or echo.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::link::{self, PATIENCE, Reader};
use crate::wire::{self, BINARY, CLOSE, TEXT, wrong};

/// What a connection is opened for.
#[derive(Clone, Copy)]
pub enum Until<'a> {
    /// The server sends this message of its own accord, then closes.
    Greeted(&'a [u8]),
    /// The server sends this message of its own accord; the client leaves then.
    Said(&'a [u8]),
    /// The server returns this message; the client leaves then.
    Echoed(&'a [u8]),
}

/// Opens a connection, checks what it is opened for, and closes it: the time from `connect` to the last octet of the message.
///
/// # Errors
/// When anything else happens.
pub fn once(source: Ipv4Addr, target: SocketAddrV4, path: &str, until: Until<'_>) -> io::Result<Duration> {
    let start = Instant::now();
    let mut opened = link::open(source, target, path, "")?;
    opened.stream.set_nonblocking(false)?;
    opened.stream.set_read_timeout(Some(PATIENCE))?;
    let expected = match until {
        Until::Greeted(message) | Until::Said(message) => message,
        Until::Echoed(message) => {
            let mut out = Vec::new();
            wire::write_masked(BINARY, false, message, &mut out);
            opened.stream.write_all(&out)?;
            message
        }
    };
    let mut reader = Reader::default();
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let (mut time, mut closed) = (None, false);
    let mut input = std::mem::take(&mut opened.early);
    loop {
        reader.feed(&input, |piece| {
            match piece.frame.opcode {
                0 | TEXT | BINARY => received.extend_from_slice(piece.data),
                CLOSE => closed |= piece.is_last(),
                _ => {}
            }
            Ok(())
        })?;
        if received.len() >= expected.len() && time.is_none() {
            time = Some(start.elapsed());
            if received != expected {
                return Err(wrong("another message than the one expected"));
            }
            if matches!(until, Until::Echoed(_) | Until::Said(_)) {
                break;
            }
        }
        if closed {
            break;
        }
        let count = match opened.stream.read(&mut buffer) {
            Ok(count) => count,
            // A server may end the connection without the closing handshake.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && time.is_some() => 0,
            Err(error) => return Err(error),
        };
        if count == 0 {
            break;
        }
        input.clear();
        input.extend_from_slice(&buffer[..count]);
    }
    let time = time.ok_or_else(|| wrong("the connection ended before its message"))?;
    if received != expected {
        return Err(wrong("more came than the message expected"));
    }
    // The closing handshake (RFC 6455, section 7.1), and the server's end of file. It may be gone already.
    let mut out = Vec::new();
    wire::write_masked(CLOSE, false, &1000_u16.to_be_bytes(), &mut out);
    if opened.stream.write_all(&out).is_ok() {
        while opened.stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
    Ok(time)
}
