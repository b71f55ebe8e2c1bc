// SPDX-License-Identifier: Apache-2.0

//! Load: clients that send messages to an echo and keep a number of them in flight.

use std::io::{self, Read};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use crate::deflate::Inflater;
use crate::link::{self, Opened, Outbox, PATIENCE, Piece, Reader};
use crate::payload::{Form, Messages};
use crate::process;
use crate::sys::{self, Epoll};
use crate::wire::{self, BINARY, CLOSE, PING, PONG, TEXT, wrong};

/// What a run sends, and for how long.
pub struct Plan<'a> {
    /// The endpoint's path.
    pub path: &'a str,
    /// The line of the handshake that offers permessage-deflate, ended by CRLF, if that is what to measure.
    pub headers: &'a str,
    /// What is sent.
    pub messages: Messages,
    /// Connections.
    pub clients: usize,
    /// Messages in flight on each.
    pub window: u64,
    /// Time before the measurement.
    pub warm_up: Duration,
    /// Time of the measurement.
    pub duration: Duration,
}

/// What was measured between the warm-up and the end, while all clients were busy.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Messages that came back.
    pub messages: u64,
    /// Octets of payload in them.
    pub octets: u64,
    /// Octets that came over the wire from the server.
    pub wire_octets: u64,
    /// Wall-clock time.
    pub wall: Duration,
    /// CPU time of the server's own processes.
    pub cpu: Duration,
}

impl Outcome {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.wall.as_secs_f64()
    }

    /// Millions of octets of payload a second, one way.
    pub fn megabytes(&self) -> f64 {
        self.octets as f64 / self.wall.as_secs_f64() / 1e6
    }

    /// Microseconds of the server's CPU time for each message.
    pub fn cpu_per_message(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.messages as f64
    }
}

/// The checking half of a client.
struct Receiver {
    index: usize,
    /// Messages that have come back.
    count: u64,
    /// Octets of the next one that have come back.
    offset: usize,
    inflater: Option<Inflater>,
    /// The message under way is compressed.
    compressed: bool,
    /// Pings to answer.
    pings: Vec<Vec<u8>>,
}

impl Receiver {
    fn take(&mut self, piece: &Piece<'_>, messages: &Messages) -> io::Result<()> {
        match piece.frame.opcode {
            0 | TEXT | BINARY => {}
            PING if piece.is_whole() => {
                self.pings.push(piece.data.to_vec());
                return Ok(());
            }
            CLOSE => return Err(wrong(format!("connection {}: closed by the server", self.index))),
            _ => return Ok(()),
        }
        match messages.form {
            Form::Text => self.message(piece, messages),
            Form::Stream => self.stream(piece.data, messages),
            Form::Compressed => {
                if piece.offset == 0 && piece.frame.opcode != 0 {
                    self.compressed = piece.frame.compressed;
                }
                if self.compressed { self.inflate(piece, messages) } else { self.message(piece, messages) }
            }
        }
    }

    fn message(&mut self, piece: &Piece<'_>, messages: &Messages) -> io::Result<()> {
        messages.check(self.index, self.count, self.offset, piece.data)?;
        self.offset += piece.data.len();
        if piece.is_last() && piece.frame.fin {
            if self.offset != messages.length() {
                return Err(wrong(format!("connection {}: message {} is too short", self.index, self.count)));
            }
            self.offset = 0;
            self.count += 1;
        }
        Ok(())
    }

    fn stream(&mut self, mut data: &[u8], messages: &Messages) -> io::Result<()> {
        while !data.is_empty() {
            let (part, rest) = data.split_at(data.len().min(messages.length() - self.offset));
            messages.check(self.index, self.count, self.offset, part)?;
            self.offset += part.len();
            if self.offset == messages.length() {
                self.offset = 0;
                self.count += 1;
            }
            data = rest;
        }
        Ok(())
    }

    fn inflate(&mut self, piece: &Piece<'_>, messages: &Messages) -> io::Result<()> {
        let inflater = self.inflater.as_mut().ok_or_else(|| wrong("a compressed message, not agreed on"))?;
        inflater.feed(piece.data)?;
        if piece.is_last() && piece.frame.fin {
            inflater.end()?;
            if inflater.message.len() != messages.length() {
                return Err(wrong(format!("connection {}: message {} has another length", self.index, self.count)));
            }
            messages.check(self.index, self.count, 0, &inflater.message)?;
            inflater.message.clear();
            self.count += 1;
        }
        Ok(())
    }
}

struct Client {
    stream: TcpStream,
    reader: Reader,
    receiver: Receiver,
    out: Outbox,
    sent: u64,
    waits_to_write: bool,
}

impl Client {
    fn new(opened: Opened, index: usize, messages: &Messages) -> io::Result<Self> {
        let inflater = opened.deflate.then(Inflater::default);
        let receiver = Receiver { index, count: 0, offset: 0, inflater, compressed: false, pings: Vec::new() };
        let mut client = Self {
            stream: opened.stream,
            reader: Reader::default(),
            receiver,
            out: Outbox::default(),
            sent: 0,
            waits_to_write: false,
        };
        client.feed(&opened.early, messages)?;
        Ok(client)
    }

    fn feed(&mut self, input: &[u8], messages: &Messages) -> io::Result<()> {
        let receiver = &mut self.receiver;
        self.reader.feed(input, |piece| receiver.take(&piece, messages))?;
        for ping in self.receiver.pings.drain(..) {
            wire::write_masked(PONG, false, &ping, &mut self.out.octets);
        }
        if self.receiver.count > self.sent {
            return Err(wrong(format!("connection {}: more messages than were sent", self.receiver.index)));
        }
        Ok(())
    }

    /// Fills the window and writes.
    fn send(&mut self, plan: &Plan<'_>, epoll: &Epoll) -> io::Result<()> {
        while self.sent - self.receiver.count < plan.window {
            plan.messages.write(self.receiver.index, self.sent, &mut self.out.octets);
            self.sent += 1;
        }
        self.flush(epoll)
    }

    fn flush(&mut self, epoll: &Epoll) -> io::Result<()> {
        let waits = !self.out.flush(&self.stream)?;
        if waits != self.waits_to_write {
            self.waits_to_write = waits;
            let interest = if waits { sys::IN | sys::OUT } else { sys::IN };
            epoll.modify(&self.stream, interest, self.receiver.index as u64)?;
        }
        Ok(())
    }
}

/// Clients that are connected to one endpoint.
pub struct Clients<'a> {
    plan: &'a Plan<'a>,
    epoll: Epoll,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    events: Vec<sys::Event>,
    octets_in: u64,
}

impl<'a> Clients<'a> {
    /// Connects all clients.
    ///
    /// # Errors
    /// When a connection is refused.
    pub fn connect(plan: &'a Plan<'a>, target: SocketAddrV4) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut clients = Vec::with_capacity(plan.clients);
        for index in 0..plan.clients {
            let opened = link::open(link::source(index), target, plan.path, plan.headers)?;
            if !plan.headers.is_empty() && !opened.deflate {
                return Err(wrong("the extension that was offered was not accepted"));
            }
            epoll.add(&opened.stream, sys::IN, index as u64)?;
            clients.push(Client::new(opened, index, &plan.messages)?);
        }
        Ok(Self { plan, epoll, clients, buffer: vec![0; 256 * 1024], events: Vec::with_capacity(64), octets_in: 0 })
    }

    fn count(&self) -> u64 {
        self.clients.iter().map(|client| client.receiver.count).sum()
    }

    /// Takes what has come; sends further messages if `more`.
    fn turn(&mut self, more: bool) -> io::Result<()> {
        self.epoll.wait(&mut self.events, Some(PATIENCE))?;
        if self.events.is_empty() {
            return Err(wrong("the server has stopped answering"));
        }
        for event in &self.events {
            let client = &mut self.clients[event.u64 as usize];
            if event.events & !sys::OUT != 0 {
                match client.stream.read(&mut self.buffer) {
                    Ok(0) => return Err(wrong("the server has ended the connection")),
                    Ok(count) => {
                        self.octets_in += count as u64;
                        client.feed(&self.buffer[..count], &self.plan.messages)?;
                    }
                    Err(error) if wire::would_wait(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            if more {
                client.send(self.plan, &self.epoll)?;
            } else {
                client.flush(&self.epoll)?;
            }
        }
        Ok(())
    }

    /// Sends `rounds` messages on each connection, one at a time, and takes the echoes.
    ///
    /// # Errors
    /// When an echo is wrong or does not come.
    pub fn exchange(&mut self, rounds: u64) -> io::Result<()> {
        for _ in 0..rounds {
            for client in &mut self.clients {
                self.plan.messages.write(client.receiver.index, client.sent, &mut client.out.octets);
                client.sent += 1;
                client.flush(&self.epoll)?;
            }
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.clients.iter().any(|client| client.receiver.count < client.sent) {
            self.turn(false)?;
        }
        Ok(())
    }

    /// Runs the plan; `pids` are the server's own processes. At the end every message has come back.
    ///
    /// # Errors
    /// When an echo is wrong or does not come.
    pub fn run(&mut self, pids: &[u32]) -> io::Result<Outcome> {
        for client in &mut self.clients {
            client.send(self.plan, &self.epoll)?;
        }
        let start = Instant::now();
        while start.elapsed() < self.plan.warm_up {
            self.turn(true)?;
        }
        let (count, octets_in, cpu, start) = (self.count(), self.octets_in, process::cpu_time(pids), Instant::now());
        while start.elapsed() < self.plan.duration {
            self.turn(true)?;
        }
        let cpu = process::cpu_time(pids) - cpu;
        let wall = start.elapsed();
        let messages = self.count() - count;
        let wire_octets = self.octets_in - octets_in;
        self.drain()?;
        if messages == 0 {
            return Err(wrong("no message came back in the time of the measurement"));
        }
        Ok(Outcome { messages, octets: messages * self.plan.messages.length() as u64, wire_octets, wall, cpu })
    }
}
