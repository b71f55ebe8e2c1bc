// SPDX-License-Identifier: Apache-2.0

//! Load: publishers that each keep a number of publications in flight, by HTTP or by a WebSocket. Every publication has to be accepted.

use std::io::{self, Read};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use crate::http;
use crate::link::{self, Outbox, PATIENCE, Reader};
use crate::process;
use crate::sys::{self, Epoll, Event};
use crate::wire::{self, BINARY, CLOSE, TEXT, wrong};

/// How publications are sent.
#[derive(Clone, Copy)]
pub enum Form<'a> {
    /// Each by a `POST` to what this returns for its number; answered by a status.
    Http(&'a dyn Fn(u64) -> String),
    /// All as messages of a WebSocket that is opened at this path; each is answered by a message.
    WebSocket(&'a str),
}

/// What is published, and for how long.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// How.
    pub form: Form<'a>,
    /// Connections.
    pub publishers: usize,
    /// Publications in flight on each.
    pub window: usize,
    /// Octets of each.
    pub length: usize,
    /// Time before the measurement.
    pub warm_up: Duration,
    /// Time of the measurement.
    pub duration: Duration,
}

/// What was measured between the warm-up and the end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Publications that were answered.
    pub publications: u64,
    /// Wall-clock time.
    pub wall: Duration,
    /// CPU time of the server's own processes.
    pub cpu: Duration,
}

impl Outcome {
    /// Publications a second.
    pub fn rate(&self) -> f64 {
        self.publications as f64 / self.wall.as_secs_f64()
    }

    /// Microseconds of server CPU time for each.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.publications as f64
    }
}

/// Takes answers out of what a server sends.
enum Answers {
    Http(Vec<u8>),
    WebSocket(Reader),
}

impl Answers {
    /// How many have become complete with these octets.
    fn take(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut complete = 0;
        match self {
            Self::Http(input) => {
                input.extend_from_slice(octets);
                let mut taken = 0;
                while let Some((length, head)) = http::answer_length(&input[taken..])? {
                    let head = String::from_utf8_lossy(&input[taken..taken + head]);
                    if !matches!(http::status(&head), Some(200..=202)) {
                        return Err(wrong(format!("publishing: {}", head.lines().next().unwrap_or_default())));
                    }
                    taken += length;
                    complete += 1;
                }
                input.drain(..taken);
            }
            Self::WebSocket(reader) => reader.feed(octets, |piece| match piece.frame.opcode {
                TEXT | BINARY if piece.frame.fin => {
                    complete += usize::from(piece.is_last());
                    Ok(())
                }
                CLOSE => Err(wrong(format!("the server closed a publisher: {:?}", piece.data))),
                _ => Ok(()),
            })?,
        }
        Ok(complete)
    }
}

struct Publisher {
    stream: TcpStream,
    answers: Answers,
    out: Outbox,
    in_flight: usize,
    waits_to_write: bool,
}

/// Publishers that are connected to a server.
pub struct Publishers<'a> {
    plan: Plan<'a>,
    epoll: Epoll,
    publishers: Vec<Publisher>,
    body: Vec<u8>,
    /// The number of the next publication.
    next: u64,
    answered: u64,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

impl<'a> Publishers<'a> {
    /// Connects.
    ///
    /// # Errors
    /// When a connection is refused.
    pub fn connect(plan: Plan<'a>, target: SocketAddrV4) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut publishers = Vec::with_capacity(plan.publishers);
        for index in 0..plan.publishers {
            let (stream, answers) = match plan.form {
                Form::Http(_) => {
                    let stream = sys::connect(link::source(index), target)?;
                    stream.set_nonblocking(true)?;
                    (stream, Answers::Http(Vec::new()))
                }
                Form::WebSocket(path) => {
                    let opened = link::open(link::source(index), target, path, "")?;
                    (opened.stream, Answers::WebSocket(Reader::default()))
                }
            };
            epoll.add(&stream, sys::IN, index as u64)?;
            publishers.push(Publisher { stream, answers, out: Outbox::default(), in_flight: 0, waits_to_write: false });
        }
        Ok(Self {
            plan,
            epoll,
            publishers,
            body: (0..plan.length).map(|at| b' ' + (at * 7 % 95) as u8).collect(),
            next: 0,
            answered: 0,
            events: Vec::with_capacity(64),
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Fills the window of a publisher, and writes.
    fn send(&mut self, index: usize) -> io::Result<()> {
        let publisher = &mut self.publishers[index];
        while publisher.in_flight < self.plan.window {
            match self.plan.form {
                Form::Http(path) => {
                    publisher.out.octets.extend_from_slice(&http::post(&path(self.next), &self.body));
                }
                Form::WebSocket(_) => wire::write_masked(TEXT, false, &self.body, &mut publisher.out.octets),
            }
            publisher.in_flight += 1;
            self.next += 1;
        }
        let waits = !publisher.out.flush(&publisher.stream)?;
        if waits != publisher.waits_to_write {
            publisher.waits_to_write = waits;
            let interest = if waits { sys::IN | sys::OUT } else { sys::IN };
            self.epoll.modify(&publisher.stream, interest, index as u64)?;
        }
        Ok(())
    }

    /// Takes the answers that have come, and publishes more.
    fn turn(&mut self) -> io::Result<()> {
        self.epoll.wait(&mut self.events, Some(PATIENCE))?;
        if self.events.is_empty() {
            return Err(wrong("the server does not answer publishers any more"));
        }
        for at in 0..self.events.len() {
            let index = self.events[at].u64 as usize;
            let publisher = &mut self.publishers[index];
            match publisher.stream.read(&mut self.buffer) {
                Ok(0) => return Err(wrong("the server ended a publisher's connection")),
                Ok(count) => {
                    let complete = publisher.answers.take(&self.buffer[..count])?;
                    let in_flight = publisher.in_flight.checked_sub(complete);
                    publisher.in_flight = in_flight.ok_or_else(|| wrong("more answers than publications"))?;
                    self.answered += complete as u64;
                }
                Err(error) if wire::would_wait(&error) => {}
                Err(error) => return Err(error),
            }
            self.send(index)?;
        }
        Ok(())
    }

    /// Runs the plan; `pids` are the server's own processes.
    ///
    /// # Errors
    /// When a publication is refused or not answered.
    pub fn run(&mut self, pids: &[u32]) -> io::Result<Outcome> {
        for index in 0..self.publishers.len() {
            self.send(index)?;
        }
        let start = Instant::now();
        while start.elapsed() < self.plan.warm_up {
            self.turn()?;
        }
        let (answered, cpu, start) = (self.answered, process::cpu_time(pids), Instant::now());
        while start.elapsed() < self.plan.duration || self.answered == answered {
            self.turn()?;
        }
        let cpu = process::cpu_time(pids) - cpu;
        Ok(Outcome { publications: self.answered - answered, wall: start.elapsed(), cpu })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_when_they_are_complete() {
        let mut answers = Answers::Http(Vec::new());
        let two =
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answers.take(&two[..44]).unwrap(), 0);
        assert_eq!(answers.take(&two[44..]).unwrap(), 2);
        assert!(answers.take(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n").is_err());

        let mut answers = Answers::WebSocket(Reader::default());
        let mut frames = Vec::new();
        wire::write_plain(TEXT, b"queued messages: 1", &mut frames);
        wire::write_plain(TEXT, b"queued messages: 2", &mut frames);
        assert_eq!(answers.take(&frames[..25]).unwrap(), 1);
        assert_eq!(answers.take(&frames[25..]).unwrap(), 1);
        let mut close = Vec::new();
        wire::write_plain(CLOSE, &[3, 232], &mut close);
        assert!(answers.take(&close).is_err());
    }
}
