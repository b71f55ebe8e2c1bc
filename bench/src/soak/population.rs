// SPDX-License-Identifier: Apache-2.0

//! Who is connected: a number of places, each with a kind of client that comes, stays for a while, leaves, and comes again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::client::{Client, Incoming, Transport};
use super::delivery::Delivery;
use super::kind::{self, Kind, PROBES};
use super::random::Random;
use crate::sys::{Epoll, Event};

/// Channels that the clients subscribe to.
const CHANNELS: usize = 200;
/// Channels that are published to and have no subscribers: they come, expire and go.
const UNHEARD: usize = 100_000;
/// Channels with a shared program.
const SHARED: usize = 10;
/// How long a client stays, on average.
const STAY: Duration = Duration::from_secs(120);
/// How long a place is empty, on average.
const PAUSE: Duration = Duration::from_secs(1);
/// How far the messages of a client that talks are apart, on average.
const TALK: Duration = Duration::from_secs(20);
/// How far publications are apart, on average.
const PUBLISH: Duration = Duration::from_millis(50);
/// How far those of the probe are apart.
const PROBE: Duration = Duration::from_millis(500);
/// How long an answer to a publication, a handshake or a Close may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long after a reload the old workers may end what they have.
pub const RELOAD: Duration = Duration::from_secs(40);
/// Largest message.
const LARGEST: f64 = 20_000.0;
/// Ends without a reason that are told in full.
const TOLD: usize = 20;

struct Place {
    kind: Kind,
    client: Option<Client>,
    /// Timers of an earlier generation have no meaning any more.
    generation: u32,
    /// When the client came.
    since: Instant,
    leaves: Instant,
    is_leaving: bool,
    /// Where the subscriber of the probe goes on, and the number of the probe's message.
    position: Option<String>,
    number: u64,
}

/// What the clients have seen so far.
#[derive(Default)]
pub struct Counts {
    /// Connections that were opened.
    pub opened: u64,
    /// Publications that were answered.
    pub published: u64,
    /// Messages that came.
    pub messages: u64,
    /// Ends, refusals and silences without a reason.
    pub failures: u64,
    /// The first of them.
    pub told: Vec<String>,
}

impl Counts {
    /// Something is wrong.
    pub fn fail(&mut self, what: String) {
        self.failures += 1;
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }
}

/// All places.
pub struct Population {
    places: Vec<Place>,
    timers: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    random: Random,
    epoll: Epoll,
    events: Vec<Event>,
    buffer: Vec<u8>,
    plain: SocketAddrV4,
    tls: SocketAddrV4,
    reloaded: Option<Instant>,
    is_leaving: bool,
    /// The probe's books.
    pub delivery: Delivery,
    /// What was seen.
    pub counts: Counts,
}

impl Population {
    /// Clients of so many places, which come one after the other within the time `ramp`. Those of TLS connect to `tls`, which is
    /// a proxy that speaks it for them.
    ///
    /// # Errors
    /// What `epoll_create1(2)` reports.
    pub fn new(count: usize, seed: u64, ramp: Duration, plain: SocketAddrV4, tls: SocketAddrV4) -> io::Result<Self> {
        let now = Instant::now();
        let mut population = Self {
            places: Vec::new(),
            timers: BinaryHeap::new(),
            random: Random::new(seed),
            epoll: Epoll::new()?,
            events: Vec::with_capacity(512),
            buffer: vec![0; 64 * 1024],
            plain,
            tls,
            reloaded: None,
            is_leaving: false,
            delivery: Delivery::new(PROBES.len()),
            counts: Counts::default(),
        };
        let residents = (0..count).map(|index| kind::of(index, count));
        let probes = (0..PROBES.len()).map(Kind::Probe);
        let publishers = [Kind::Publisher; 4].into_iter().chain([Kind::Prober]);
        for kind in residents.chain(probes).chain(publishers) {
            let index = population.places.len();
            population.places.push(Place {
                kind,
                client: None,
                generation: 0,
                since: now,
                leaves: now,
                is_leaving: false,
                position: None,
                number: 0,
            });
            let later = match kind {
                Kind::Probe(_) => Duration::ZERO,
                Kind::Prober => PROBE,
                _ => ramp.mul_f64(population.random.unit()),
            };
            population.timer(index, now + later);
        }
        Ok(population)
    }

    fn timer(&mut self, index: usize, at: Instant) {
        self.timers.push(Reverse((at, index, self.places[index].generation)));
    }

    /// Connections that are open, without those of the probe and the publishers.
    pub fn connected(&self) -> usize {
        self.places.iter().filter(|place| place.client.is_some() && !place.kind.is_of_harness()).count()
    }

    /// The old workers end what they have: for some time an end is no failure.
    pub fn reloads(&mut self) {
        self.reloaded = Some(Instant::now());
    }

    /// The workers are those of the last reload, and have all connections.
    pub fn is_settled(&self) -> bool {
        self.reloaded.is_none_or(|at| at.elapsed() > RELOAD)
    }

    /// Nobody comes any more, and who is here leaves within a short time; the probe listens to its last messages.
    pub fn leave(&mut self) {
        self.is_leaving = true;
        let now = Instant::now();
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            if place.client.is_none() || place.kind.is_of_harness() {
                continue;
            }
            place.leaves = now;
            place.generation += 1;
            let at = now + Duration::from_secs(3).mul_f64(self.random.unit());
            self.timer(index, at);
        }
    }

    /// The last ones are gone.
    pub fn clear(&mut self) {
        for place in &mut self.places {
            place.client = None;
            place.generation += 1;
        }
    }

    /// Does what is due until `end`.
    ///
    /// # Errors
    /// What `epoll_wait(2)` reports.
    pub fn run(&mut self, end: Instant) -> io::Result<()> {
        loop {
            let now = Instant::now();
            while let Some(&Reverse((at, index, generation))) = self.timers.peek()
                && at <= now
            {
                self.timers.pop();
                if self.places[index].generation == generation {
                    self.due(index, now);
                }
            }
            if now >= end {
                return Ok(());
            }
            let next = self.timers.peek().map_or(end, |Reverse((at, ..))| end.min(*at));
            let wait = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            let mut events = std::mem::take(&mut self.events);
            self.epoll.wait(&mut events, Some(wait))?;
            for event in &events {
                self.ready(event.u64 as usize);
            }
            self.events = events;
        }
    }

    fn due(&mut self, index: usize, now: Instant) {
        let is_settled = self.is_settled();
        let place = &mut self.places[index];
        let kind = place.kind;
        let Some(client) = &mut place.client else {
            if !self.is_leaving || matches!(kind, Kind::Probe(_)) {
                self.open(index, now);
            }
            return;
        };
        if now >= place.leaves {
            if client.is_unanswered() && is_settled && now - place.since >= PATIENCE {
                self.counts.fail(format!("{kind:?}: there was no answer"));
            }
            // One half says that it leaves, the other one is gone.
            if client_says_so(client, place.is_leaving, &mut self.random) {
                place.is_leaving = true;
                place.leaves = now + PATIENCE;
                if client.close(&self.epoll, index as u64).is_ok() {
                    self.timer(index, now + PATIENCE);
                    return;
                }
            } else if place.is_leaving {
                self.fail(kind, "a Close has no answer");
            }
            self.gone(index);
            return;
        }
        if kind.talks() && client.can_talk() {
            let length = self.random.size(10.0, LARGEST / 10.0);
            let message = vec![b'a' + (length % 26) as u8; length];
            // An end is seen by reading.
            let _ = client.send(kind != Kind::Tcp, &message, &self.epoll, index as u64);
        }
        let at = (now + self.random.gap(TALK)).min(self.places[index].leaves);
        self.timer(index, at);
    }

    fn open(&mut self, index: usize, now: Instant) {
        let kind = self.places[index].kind;
        let random = &mut self.random;
        let mut target = self.plain;
        let (mut stay, mut body) = (random.gap(STAY), Vec::new());
        let channel = |random: &mut Random| format!("c{}", random.below(CHANNELS));
        let (transport, path) = match kind {
            Kind::One(Transport::Deflate) => (Transport::Deflate, format!("/deflate/{}", channel(random))),
            Kind::One(transport) => (transport, format!("/sub/{}", channel(random))),
            Kind::Several(transport) => {
                let several = [(); 3].map(|()| channel(random));
                (transport, format!("/sub/{}", several.join("-")))
            }
            Kind::Both => (Transport::WebSocket, format!("/both/{}", channel(random))),
            Kind::Echo => (Transport::WebSocket, "/echo".to_owned()),
            Kind::Say => (Transport::WebSocket, "/say".to_owned()),
            Kind::Shared => (Transport::WebSocket, format!("/shared/s{}", random.below(SHARED))),
            Kind::Tcp => (Transport::WebSocket, "/tcp".to_owned()),
            Kind::Tls => {
                target = self.tls;
                (Transport::WebSocket, format!("/sub/{}", channel(random)))
            }
            Kind::Probe(number) => {
                stay = STAY;
                (PROBES[number], "/sub/probe".to_owned())
            }
            Kind::Publisher => {
                stay = PATIENCE;
                body = vec![b'a' + random.below(26) as u8; random.size(10.0, LARGEST)];
                let path = match random.below(3) {
                    0 => format!("/pub/{}", channel(random)),
                    1 => format!("/brief/{}", channel(random)),
                    _ => format!("/brief/u{}", random.below(UNHEARD)),
                };
                (Transport::Post, path)
            }
            Kind::Prober => {
                stay = PATIENCE;
                (self.places[index].number, body) = self.delivery.publish(now);
                (Transport::Post, "/pub/probe".to_owned())
            }
        };
        let place = &mut self.places[index];
        place.is_leaving = false;
        place.since = now;
        place.leaves = now + stay;
        let first = if kind.talks() { random.gap(TALK).min(stay) } else { stay };
        let opened = Client::open(index, target, transport, &path, place.position.clone(), &body);
        match opened.and_then(|mut client| client.watch(&self.epoll, index as u64).map(|()| client)) {
            Ok(client) => {
                place.client = Some(client);
                self.counts.opened += 1;
                self.timer(index, now + first);
            }
            Err(error) => {
                self.fail(kind, &format!("cannot connect: {error}"));
                self.gone(index);
            }
        }
    }

    fn fail(&mut self, kind: Kind, what: &str) {
        if self.is_settled() {
            self.counts.fail(format!("{kind:?}: {what}"));
        }
    }

    /// The client of a place is gone; another one comes.
    fn gone(&mut self, index: usize) {
        let place = &mut self.places[index];
        let kind = place.kind;
        if let Some(client) = place.client.take()
            && matches!(kind, Kind::Probe(_))
        {
            place.position = client.position;
        }
        place.generation += 1;
        let pause = match kind {
            Kind::Probe(_) => Duration::from_millis(20),
            Kind::Prober => PROBE,
            Kind::Publisher => self.random.gap(PUBLISH * 4),
            Kind::Say => self.random.gap(PAUSE * 5),
            _ => self.random.gap(PAUSE),
        };
        self.timer(index, Instant::now() + pause);
    }

    fn ready(&mut self, index: usize) {
        let place = &mut self.places[index];
        let Some(client) = &mut place.client else { return };
        let kind = place.kind;
        let (delivery, counts) = (&mut self.delivery, &mut self.counts);
        let number = place.number;
        let mut status = None;
        let mut code = None;
        let mut is_answered = false;
        let outcome = client.ready(&self.epoll, index as u64, &mut self.buffer, &mut |incoming| match incoming {
            Incoming::Message(message) => {
                counts.messages += 1;
                if let Kind::Probe(subscriber) = kind {
                    delivery.received(subscriber, message, Instant::now());
                }
            }
            Incoming::Answered(200..=202) if matches!(kind, Kind::Publisher | Kind::Prober) => {
                is_answered = true;
                counts.published += 1;
                if kind == Kind::Prober {
                    delivery.accepted(number);
                }
            }
            Incoming::Answered(other) => status = Some(other),
            Incoming::Closed(with) => code = Some(with),
        });
        let is_wanted = place.is_leaving || is_answered || kind == Kind::Say && code == Some(1000);
        let what = match (outcome, status, code) {
            (_, Some(status), _) => format!("the answer is {status}"),
            (Err(error), ..) => error.to_string(),
            (Ok(true), None, None) if !is_answered => return,
            (Ok(_), _, Some(code)) => format!("closed with {code}"),
            (Ok(_), ..) => "the connection ended".to_owned(),
        };
        if !is_wanted {
            self.fail(kind, &what);
        }
        self.gone(index);
    }
}

/// Whether a client that is to leave says so first: a WebSocket that has not yet, in half of all cases.
fn client_says_so(client: &Client, has_said_so: bool, random: &mut Random) -> bool {
    !has_said_so && client.can_talk() && random.chance(0.5)
}
