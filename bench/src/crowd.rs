// SPDX-License-Identifier: Apache-2.0

//! Load: many connections that do nothing until the server ends them, or all leave at once.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use crate::link::{self, Reader};
use crate::sys::{self, Epoll, Event};
use crate::wire::{self, CLOSE};

/// Connections that are kept open.
pub struct Crowd {
    epoll: Epoll,
    /// By their tokens; none where the server has ended the connection.
    members: Vec<Option<(TcpStream, Reader)>>,
    left: usize,
    events: Vec<Event>,
    buffer: Vec<u8>,
    /// The Close frame of a client.
    farewell: Vec<u8>,
}

impl Crowd {
    /// Opens WebSockets, number `n` at `path(n)`.
    ///
    /// # Errors
    /// When one is refused.
    pub fn of_sessions(count: usize, target: SocketAddrV4, path: impl Fn(usize) -> String) -> io::Result<Self> {
        Self::new(count, |index| link::open(link::source(index), target, &path(index), "").map(|opened| opened.stream))
    }

    /// Opens connections that have each had one answer to a request, and are kept for another one.
    ///
    /// # Errors
    /// When one is refused.
    pub fn of_requests(count: usize, target: SocketAddrV4, path: &str) -> io::Result<Self> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        Self::new(count, |index| {
            let mut stream = sys::connect(link::source(index), target)?;
            stream.set_read_timeout(Some(link::PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer)?;
            if wire::head_length(&buffer[..count]).is_none() {
                return Err(wire::wrong("a request without a whole answer"));
            }
            stream.set_nonblocking(true)?;
            Ok(stream)
        })
    }

    fn new(count: usize, open: impl Fn(usize) -> io::Result<TcpStream>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut members = Vec::with_capacity(count);
        for index in 0..count {
            let stream = open(index)?;
            epoll.add(&stream, sys::IN, index as u64)?;
            members.push(Some((stream, Reader::default())));
        }
        let mut farewell = Vec::new();
        wire::write_masked(CLOSE, false, &1000_u16.to_be_bytes(), &mut farewell);
        let (events, buffer) = (Vec::with_capacity(512), vec![0; 64 * 1024]);
        Ok(Self { epoll, members, left: count, events, buffer, farewell })
    }

    /// Connections that the server has not ended.
    pub fn len(&self) -> usize {
        self.left
    }

    /// The server has ended all of them.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Takes what the server sends, and answers its Close frames, until this time has passed or all connections have ended.
    ///
    /// # Errors
    /// When what comes is no WebSocket's.
    pub fn listen(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while self.left > 0 {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            self.epoll.wait(&mut self.events, Some(rest.max(Duration::from_millis(1))))?;
            for event in &self.events {
                let Some(Some((stream, reader))) = self.members.get_mut(event.u64 as usize) else { continue };
                let mut is_over = false;
                match stream.read(&mut self.buffer) {
                    Ok(0) => is_over = true,
                    Ok(count) => reader.feed(&self.buffer[..count], |piece| {
                        is_over |= piece.frame.opcode == CLOSE && piece.is_last();
                        Ok(())
                    })?,
                    Err(error) => is_over = !wire::would_wait(&error),
                }
                if is_over {
                    // The server may be gone already, and needs no answer then.
                    let _ = stream.write(&self.farewell);
                    self.members[event.u64 as usize] = None;
                    self.left -= 1;
                }
            }
        }
        Ok(())
    }

    /// All leave, without a word.
    pub fn leave(self) {
        drop(self.members);
    }
}
