// SPDX-License-Identifier: Apache-2.0

//! Load: one message to subscribers whose client sleeps until the server has nothing left to do, so that client and server take neither
//! a processor nor its caches from each other.

use std::io::{self, Read, Write};
use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Pipeline;
use crate::link::{self, PATIENCE};
use crate::payload;
use crate::process;
use crate::sys;
use crate::tls::Certificate;
use crate::wire::{self, wrong};

/// Between two looks at whether the server still does something.
const LOOK: Duration = Duration::from_millis(10);
/// CPU time that a server which does nothing uses between two looks, for its timers.
const NOTHING: Duration = Duration::from_micros(200);

/// How subscribers are served.
#[derive(Clone, Copy)]
pub enum Transport<'a> {
    /// A WebSocket.
    WebSocket,
    /// A WebSocket over TLS 1.3.
    WebSocketTls(&'a Certificate),
    /// An EventSource.
    EventSource,
    /// One request for each message. The next request is part of what a delivery costs.
    LongPoll,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct Subscriber {
    stream: Box<dyn Stream>,
    /// What has come and was not looked at.
    input: Vec<u8>,
}

/// Subscribers of a channel.
pub struct Sleeping<'a> {
    transport: Transport<'a>,
    subscribers: Vec<Subscriber>,
    publisher: Pipeline,
    /// Messages published so far.
    published: u64,
    path: &'a str,
    buffer: Vec<u8>,
}

impl<'a> Sleeping<'a> {
    /// Connects subscribers at `/sub/<path>` of `target`, and a publisher at `/pub/<path>` of `publish`.
    ///
    /// # Errors
    /// When one is refused.
    pub fn connect(
        transport: Transport<'a>,
        count: usize,
        target: SocketAddrV4,
        publish: SocketAddrV4,
        path: &'a str,
    ) -> io::Result<Self> {
        let mut buffer = vec![0; 64 * 1024];
        let mut subscribers = Vec::with_capacity(count);
        for index in 0..count {
            let stream = sys::connect(link::source(index), target)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let stream: Box<dyn Stream> = match transport {
                Transport::WebSocketTls(certificate) => Box::new(certificate.connect(stream)?),
                _ => Box::new(stream),
            };
            let mut subscriber = Subscriber { stream, input: Vec::new() };
            let path = format!("/sub/{path}");
            match transport {
                Transport::LongPoll => subscriber.ask(&path, "", "")?,
                Transport::EventSource => {
                    let request =
                        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n");
                    subscriber.stream.write_all(request.as_bytes())?;
                    let head = subscriber.head(&mut buffer)?;
                    if !head.starts_with("HTTP/1.1 200 ") {
                        return Err(wrong(format!("no stream: {}", head.lines().next().unwrap_or_default())));
                    }
                }
                Transport::WebSocket | Transport::WebSocketTls(_) => {
                    subscriber.stream.write_all(&wire::handshake(&path, ""))?;
                    wire::check_handshake_answer(subscriber.head(&mut buffer)?.as_bytes())?;
                }
            }
            subscribers.push(subscriber);
        }
        let publisher = Pipeline::connect(publish)?;
        Ok(Self { transport, subscribers, publisher, published: 0, path, buffer })
    }

    /// Publishes a message of so many octets and has every subscriber take it. `pids` are the server's own processes: their CPU time for
    /// all of that.
    ///
    /// # Errors
    /// When a message does not come, or not once.
    pub fn deliver(&mut self, length: usize, pids: &[u32]) -> io::Result<Duration> {
        let mut message: Vec<u8> = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
        let stamp = payload::stamp(0, self.published);
        message[..stamp.len()].copy_from_slice(&stamp);
        self.published += 1;
        let before = idle(pids)?;
        self.publisher.publish(&format!("/pub/{}", self.path), &message)?;
        self.publisher.finish()?;
        let mut cpu = idle(pids)? - before;
        let path = format!("/sub/{}", self.path);
        for subscriber in &mut self.subscribers {
            subscriber.take(&message, &mut self.buffer)?;
            if let Transport::LongPoll = self.transport {
                let input = std::mem::take(&mut subscriber.input);
                let head = wire::head_length(&input).and_then(|length| str::from_utf8(&input[..length]).ok());
                let header = |name| head.and_then(|head| wire::header(head, name)).unwrap_or_default();
                subscriber.ask(&path, header("ETag"), header("Last-Modified"))?;
            }
        }
        if let Transport::LongPoll = self.transport {
            cpu = idle(pids)? - before;
        }
        for subscriber in &mut self.subscribers {
            subscriber.input.clear();
        }
        Ok(cpu)
    }
}

impl Subscriber {
    /// Asks for the message after the one with this `ETag` and `Last-Modified`.
    fn ask(&mut self, path: &str, tag: &str, modified: &str) -> io::Result<()> {
        let position = match tag {
            "" => String::new(),
            tag => format!("If-None-Match: {tag}\r\nIf-Modified-Since: {modified}\r\n"),
        };
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{position}\r\n").as_bytes())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self.stream.read(buffer)? {
            0 => Err(wrong("the server ended a subscriber's connection")),
            count => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Reads the head of an answer, and takes it out of the input.
    fn head(&mut self, buffer: &mut [u8]) -> io::Result<String> {
        loop {
            if let Some(length) = wire::head_length(&self.input) {
                let head = self.input.drain(..length).collect();
                return String::from_utf8(head).map_err(|_| wrong("the answer's head is not text"));
            }
            self.read(buffer)?;
        }
    }

    /// Reads until this message has come, as it was published.
    fn take(&mut self, message: &[u8], buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match count(&self.input, message) {
                0 => self.read(buffer)?,
                1 => return Ok(()),
                _ => return Err(wrong("a message came twice")),
            }
        }
    }
}

fn count(input: &[u8], message: &[u8]) -> usize {
    input.windows(message.len()).filter(|octets| *octets == message).count()
}

/// CPU time of processes when they have nothing to do any more.
fn idle(pids: &[u32]) -> io::Result<Duration> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = process::cpu_time(pids);
    loop {
        thread::sleep(LOOK);
        let now = process::cpu_time(pids);
        if now - before <= NOTHING {
            return Ok(now);
        }
        if Instant::now() > deadline {
            return Err(wrong("the server does not come to rest"));
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_in_what_is_around_it() {
        assert_eq!(count(b"id: 1\ndata: abc\n\n", b"abc"), 1);
        assert_eq!(count(b"abcabc", b"abc"), 2);
        assert_eq!(count(b"ab", b"abc"), 0);
    }
}
