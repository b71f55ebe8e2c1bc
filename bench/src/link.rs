// SPDX-License-Identifier: Apache-2.0

//! One connection: the blocking handshake, then frames in and octets out without waiting.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use crate::sys;
use crate::wire::{self, Header, wrong};

/// How long any one answer may take before the run is given up.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Connections from one source address; below the range of ephemeral ports.
const PER_SOURCE: usize = 8000;

/// The address that connection number `index` comes from: 127.0.0.1, 127.0.0.2 ...
pub fn source(index: usize) -> Ipv4Addr {
    let host = u8::try_from(1 + index / PER_SOURCE).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 0, 0, host)
}

/// A stretch of a frame's payload.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The frame that it belongs to.
    pub frame: Header,
    /// Its place in the frame's payload.
    pub offset: usize,
    /// The octets, masked as they came.
    pub data: &'a [u8],
}

impl Piece<'_> {
    /// The frame's payload ends here.
    pub fn is_last(&self) -> bool {
        self.offset + self.data.len() == self.frame.length
    }

    /// The frame's payload is here in one piece.
    pub fn is_whole(&self) -> bool {
        self.offset == 0 && self.is_last()
    }
}

/// Cuts a stream of octets into pieces of frames. Holds no payload, at most an unfinished header.
#[derive(Default)]
pub struct Reader {
    header: Vec<u8>,
    frame: Option<(Header, usize)>,
}

impl Reader {
    /// Takes what a read returned and gives its pieces to `sink`; an empty frame is one empty piece.
    ///
    /// # Errors
    /// On wrong headers, and what `sink` reports.
    pub fn feed(&mut self, mut input: &[u8], mut sink: impl FnMut(Piece<'_>) -> io::Result<()>) -> io::Result<()> {
        loop {
            let (frame, offset) = match self.frame.take() {
                Some(current) => current,
                None if input.is_empty() => return Ok(()),
                None if self.header.is_empty() => match Header::parse(input)? {
                    Some((header, length)) => {
                        input = &input[length..];
                        (header, 0)
                    }
                    None => {
                        self.header.extend_from_slice(input);
                        return Ok(());
                    }
                },
                None => {
                    self.header.push(input[0]);
                    input = &input[1..];
                    match Header::parse(&self.header)? {
                        Some((header, _)) => {
                            self.header.clear();
                            (header, 0)
                        }
                        None => continue,
                    }
                }
            };
            let take = input.len().min(frame.length - offset);
            if take > 0 || frame.length == 0 {
                let (data, rest) = input.split_at(take);
                input = rest;
                sink(Piece { frame, offset, data })?;
            }
            if offset + take < frame.length {
                self.frame = Some((frame, offset + take));
                return Ok(());
            }
        }
    }
}

/// Octets that wait for a socket or pipe to take them.
#[derive(Default)]
pub struct Outbox {
    /// What is still to be written starts at `sent`.
    pub octets: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.sent == self.octets.len()
    }

    /// Octets that wait.
    pub fn len(&self) -> usize {
        self.octets.len() - self.sent
    }

    /// Writes as much as is taken; true when nothing is left.
    ///
    /// # Errors
    /// What `write(2)` reports, having to wait excepted.
    pub fn flush(&mut self, mut to: impl Write) -> io::Result<bool> {
        while !self.is_empty() {
            match to.write(&self.octets[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if wire::would_wait(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.octets.clear();
        self.sent = 0;
        Ok(true)
    }
}

/// Connects and shakes hands, blocking; the stream that comes back is non-blocking. What followed the answer's head is `early`.
pub struct Opened {
    /// The connection.
    pub stream: TcpStream,
    /// First octets of the server's frames.
    pub early: Vec<u8>,
    /// permessage-deflate was agreed on.
    pub deflate: bool,
}

/// Opens a WebSocket from address `source`, with `extra` header lines in the request.
///
/// # Errors
/// When the server cannot be reached or does not answer with the right 101.
pub fn open(source: Ipv4Addr, target: SocketAddrV4, path: &str, extra: &str) -> io::Result<Opened> {
    let mut stream = sys::connect(source, target)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::handshake(path, extra))?;
    let mut early = Vec::with_capacity(512);
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(wrong("the connection ended in the handshake"));
        }
        early.extend_from_slice(&buffer[..count]);
        if let Some(length) = wire::head_length(&early) {
            wire::check_handshake_answer(&early[..length])?;
            let deflate = str::from_utf8(&early[..length])
                .is_ok_and(|head| wire::header(head, "Sec-WebSocket-Extensions").is_some());
            early.drain(..length);
            stream.set_nonblocking(true)?;
            return Ok(Opened { stream, early, deflate });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BINARY, TEXT, write_plain};

    #[test]
    fn pieces_join_to_the_frames_at_every_split() {
        let payloads: [&[u8]; 4] = [b"hello", b"", &[7; 300], b"!"];
        let mut stream = Vec::new();
        for payload in payloads {
            write_plain(if payload.is_empty() { BINARY } else { TEXT }, payload, &mut stream);
        }
        for first in 0..stream.len() {
            for second in [first, (first + 1).min(stream.len()), (first + 7).min(stream.len())] {
                let mut reader = Reader::default();
                let mut frames: Vec<Vec<u8>> = Vec::new();
                let mut open = false;
                for part in [&stream[..first], &stream[first..second], &stream[second..]] {
                    reader
                        .feed(part, |piece| {
                            if piece.offset == 0 {
                                assert!(!open);
                                frames.push(Vec::new());
                            }
                            frames.last_mut().unwrap().extend_from_slice(piece.data);
                            assert_eq!(frames.last().unwrap().len(), piece.offset + piece.data.len());
                            open = !piece.is_last();
                            Ok(())
                        })
                        .unwrap();
                }
                assert_eq!(frames, payloads);
            }
        }
    }

    #[test]
    fn sources_change_before_ports_run_out() {
        assert_eq!(source(0), Ipv4Addr::new(127, 0, 0, 1));
        assert_eq!(source(9999), Ipv4Addr::new(127, 0, 0, 2));
    }
}
