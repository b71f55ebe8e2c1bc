// SPDX-License-Identifier: Apache-2.0

//! Load: publishers and subscribers of channels. Every subscriber must see every message of its channel, once, and in the order in
//! which all others see them.

mod seen;

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::link::{self, PATIENCE, Piece, Reader};
use crate::payload::{self, STAMP};
use crate::process;
use crate::sys::{self, Epoll, Event};
use crate::wire::{self, BINARY, CLOSE, TEXT, wrong};
use seen::Channel;

/// Tokens from here on are publishers.
const PUBLISHERS: u64 = 1 << 32;
/// Ready descriptors taken at once; few, so that an answer to a publisher is seen soon.
const BATCH: usize = 32;

/// What is published to whom. Channel number `n` is subscribed to at `/sub/c<n>` and published to at `/pub/c<n>`.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Channels, each with the same number of subscribers.
    pub channels: usize,
    /// Subscribers of each channel.
    pub subscribers: usize,
    /// Messages that have been published and not yet reached all subscribers, over all channels. With several channels, never more
    /// than one in each.
    pub window: usize,
    /// Octets of each message.
    pub length: usize,
    /// Subscribers may get the messages of a channel in different orders.
    pub any_order: bool,
    /// Time before the measurement.
    pub warm_up: Duration,
    /// Time of the measurement.
    pub duration: Duration,
}

/// What was measured between the warm-up and the end.
pub struct Outcome {
    /// Messages that reached a subscriber; one message to ten subscribers is ten.
    pub deliveries: u64,
    /// Wall-clock time.
    pub wall: Duration,
    /// Subscribers of each channel.
    pub subscribers: usize,
    /// CPU time of the server's own processes.
    pub cpu: Duration,
    /// CPU time of what is behind the server.
    pub engine_cpu: Duration,
    /// How long each publisher waited for its answer.
    pub answers: Vec<Duration>,
    /// From the publication to the arrival at the first subscriber of the last address.
    pub arrivals: Vec<Duration>,
}

impl Outcome {
    /// Deliveries a second.
    pub fn rate(&self) -> f64 {
        self.deliveries as f64 / self.wall.as_secs_f64()
    }

    /// Microseconds of server CPU time for each delivery.
    pub fn cpu_per_delivery(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.deliveries as f64
    }

    /// Messages that reached all of their subscribers.
    pub fn publications(&self) -> f64 {
        self.deliveries as f64 / self.subscribers as f64
    }
}

struct Subscriber {
    stream: TcpStream,
    reader: Reader,
    channel: usize,
    /// Messages received.
    position: usize,
    /// A message of which a part is missing.
    partial: Vec<u8>,
    /// Which numbers have come, where they may come in any order.
    seen: Vec<bool>,
    /// It is told how long messages take to it.
    is_timed: bool,
}

struct Publisher {
    stream: TcpStream,
    input: Vec<u8>,
    asked: Option<Instant>,
}

impl Publisher {
    /// Reads; the time from request to answer when that is complete.
    fn answer(&mut self) -> io::Result<Option<Duration>> {
        let Some(asked) = self.asked else { return Ok(None) };
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(wrong("the server ended a publisher's connection")),
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) if wire::would_wait(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some(length) = wire::head_length(&self.input) else { return Ok(None) };
        let head = str::from_utf8(&self.input[..length]).map_err(|_| wrong("the answer's head is not text"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !matches!(status, "200" | "201" | "202") {
            return Err(wrong(format!("publishing: {}", head.lines().next().unwrap_or_default())));
        }
        let body = wire::header(head, "Content-Length").and_then(|value| value.parse::<usize>().ok());
        let body = body.ok_or_else(|| wrong("an answer without Content-Length"))?;
        if self.input.len() < length + body {
            return Ok(None);
        }
        self.input.drain(..length + body);
        self.asked = None;
        Ok(Some(asked.elapsed()))
    }
}

/// Subscribers and publishers that are connected to a server.
pub struct Fanout {
    plan: Plan,
    epoll: Epoll,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    idle: Vec<usize>,
    channels: Vec<Channel>,
    next: usize,
    /// Published and not yet everywhere.
    under_way: usize,
    deliveries: u64,
    answers: Vec<Duration>,
    arrivals: Vec<Duration>,
    body: Vec<u8>,
    buffer: Vec<u8>,
    events: Vec<Event>,
}

impl Fanout {
    /// Connects all publishers to the first of the addresses, and the subscribers of each channel to all of them in turn.
    ///
    /// # Errors
    /// When a connection is refused, or there is no address.
    pub fn connect(plan: Plan, targets: &[SocketAddrV4]) -> io::Result<Self> {
        let &[first, ..] = targets else { return Err(wrong("no address")) };
        let epoll = Epoll::new()?;
        let mut subscribers = Vec::with_capacity(plan.channels * plan.subscribers);
        for index in 0..plan.channels * plan.subscribers {
            let channel = index % plan.channels;
            let which = index / plan.channels;
            let target = targets[(which + channel) % targets.len()];
            let is_timed = which == targets.len() - 1;
            let opened = link::open(link::source(index), target, &format!("/sub/c{channel}"), "")?;
            if !opened.early.is_empty() {
                return Err(wrong("a message before anything was published"));
            }
            epoll.add(&opened.stream, sys::IN, index as u64)?;
            let (stream, reader) = (opened.stream, Reader::default());
            let (partial, seen) = (Vec::new(), Vec::new());
            subscribers.push(Subscriber { stream, reader, channel, position: 0, partial, seen, is_timed });
        }
        let mut publishers = Vec::with_capacity(plan.window);
        for index in 0..plan.window {
            let stream = sys::connect(link::source(index), first)?;
            stream.set_nonblocking(true)?;
            epoll.add(&stream, sys::IN, PUBLISHERS + index as u64)?;
            publishers.push(Publisher { stream, input: Vec::new(), asked: None });
        }
        // Nchan with several workers subscribes after its 101; what is published before is not delivered.
        thread::sleep(Duration::from_millis(300));
        Ok(Self {
            plan,
            epoll,
            subscribers,
            idle: (0..publishers.len()).collect(),
            publishers,
            channels: (0..plan.channels).map(|_| Channel::default()).collect(),
            next: 0,
            under_way: 0,
            deliveries: 0,
            answers: Vec::new(),
            arrivals: Vec::new(),
            body: (0..plan.length).map(|at| b' ' + (at * 7 % 95) as u8).collect(),
            buffer: vec![0; 64 * 1024],
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Publishes while the window and the publishers allow it.
    fn publish(&mut self) -> io::Result<()> {
        while self.under_way < self.plan.window {
            let channel = &mut self.channels[self.next];
            if self.plan.channels > 1 && channel.complete < channel.published as usize {
                return Ok(());
            }
            let Some(index) = self.idle.pop() else { return Ok(()) };
            let stamp = payload::stamp(self.next, channel.published);
            self.body[..STAMP].copy_from_slice(&stamp);
            let mut request = format!(
                "POST /pub/c{} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                self.next,
                self.body.len()
            )
            .into_bytes();
            request.extend_from_slice(&self.body);
            let publisher = &mut self.publishers[index];
            let now = Instant::now();
            publisher.asked = Some(now);
            publisher.stream.write_all(&request)?;
            channel.sent.push(now);
            channel.published += 1;
            self.under_way += 1;
            self.next = (self.next + 1) % self.channels.len();
        }
        Ok(())
    }

    fn answered(&mut self, index: usize) -> io::Result<()> {
        if let Some(time) = self.publishers[index].answer()? {
            self.answers.push(time);
            self.idle.push(index);
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let Self { subscribers, channels, buffer, plan, body, deliveries, under_way, arrivals, .. } = self;
        let Subscriber { stream, reader, channel, position, partial, seen, is_timed } = &mut subscribers[index];
        let count = match stream.read(buffer) {
            Ok(0) => return Err(wrong("the server ended a subscriber's connection")),
            Ok(count) => count,
            Err(error) if wire::would_wait(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let name = *channel;
        let channel = &mut channels[name];
        let mut message = |message: &[u8]| {
            let number = payload::number(message).ok_or_else(|| wrong("a message without its number"))?;
            if message.len() != plan.length
                || message[..STAMP] != payload::stamp(name, number)
                || message[STAMP..] != body[STAMP..]
            {
                return Err(wrong(format!("message {number} came changed")));
            }
            let is_last = if plan.any_order {
                channel.seen_in_any_order(seen, number, plan.subscribers)?
            } else {
                channel.seen(*position, number, plan.subscribers)?
            };
            if is_last {
                *under_way -= 1;
            }
            if *is_timed && let Some(sent) = usize::try_from(number).ok().and_then(|number| channel.sent.get(number)) {
                arrivals.push(sent.elapsed());
            }
            *position += 1;
            *deliveries += 1;
            Ok(())
        };
        reader.feed(&buffer[..count], |piece: Piece<'_>| match piece.frame.opcode {
            TEXT | BINARY if piece.frame.fin && piece.is_whole() => message(piece.data),
            0 | TEXT | BINARY => {
                partial.extend_from_slice(piece.data);
                if piece.is_last() && piece.frame.fin {
                    message(partial)?;
                    partial.clear();
                }
                Ok(())
            }
            CLOSE => Err(wrong(format!("the server closed a subscriber: {:?}", piece.data))),
            _ => Ok(()),
        })
    }

    fn turn(&mut self, timeout: Duration) -> io::Result<bool> {
        self.epoll.wait(&mut self.events, Some(timeout))?;
        let mut events = std::mem::take(&mut self.events);
        // With one message at a time its answer is looked for before each batch of deliveries.
        if self.plan.window == 1 {
            self.answered(0)?;
        }
        for event in &events {
            match event.u64.checked_sub(PUBLISHERS) {
                Some(publisher) => self.answered(publisher as usize)?,
                None => self.receive(event.u64 as usize)?,
            }
        }
        let any = !events.is_empty();
        events.clear();
        self.events = events;
        Ok(any)
    }

    fn busy_turn(&mut self) -> io::Result<()> {
        if self.turn(PATIENCE)? {
            return Ok(());
        }
        let waiting = self.publishers.iter().filter(|publisher| publisher.asked.is_some()).count();
        Err(wrong(format!("{} messages do not reach all subscribers, {waiting} publishers wait", self.under_way)))
    }

    /// Publishes `count` messages, one at a time, and waits for them.
    ///
    /// # Errors
    /// When a message is lost, repeated, changed or out of order.
    pub fn exchange(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            self.publish()?;
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.under_way > 0 || self.idle.len() < self.publishers.len() {
            self.busy_turn()?;
        }
        Ok(())
    }

    /// Runs the plan; `pids` are the server's own processes, `engine` those of what is behind it.
    ///
    /// # Errors
    /// When a message is lost, repeated, changed or out of order.
    pub fn run(&mut self, pids: &[u32], engine: &[u32]) -> io::Result<Outcome> {
        let start = Instant::now();
        while start.elapsed() < self.plan.warm_up {
            self.publish()?;
            self.busy_turn()?;
        }
        self.answers.clear();
        self.arrivals.clear();
        let (deliveries, cpu, engine_cpu) = (self.deliveries, process::cpu_time(pids), process::cpu_time(engine));
        let start = Instant::now();
        // At least two messages, however many subscribers they go to.
        let enough = deliveries + 2 * (self.plan.subscribers * self.plan.channels.min(self.plan.window)) as u64;
        while start.elapsed() < self.plan.duration || self.deliveries < enough {
            self.publish()?;
            self.busy_turn()?;
        }
        let cpu = process::cpu_time(pids) - cpu;
        let engine_cpu = process::cpu_time(engine) - engine_cpu;
        let wall = start.elapsed();
        let deliveries = self.deliveries - deliveries;
        let (answers, arrivals) = (self.answers.clone(), self.arrivals.clone());
        self.drain()?;
        // Nothing may follow.
        if self.turn(Duration::from_millis(20))? {
            return Err(wrong("something came that was not published"));
        }
        let subscribers = self.plan.subscribers;
        Ok(Outcome { deliveries, wall, subscribers, cpu, engine_cpu, answers, arrivals })
    }
}
