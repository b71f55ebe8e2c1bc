// SPDX-License-Identifier: Apache-2.0

//! A whole session driven by a string of octets: client, endpoint, timer, drain and kill in any order.
//!
//! The octets say what happens next, and what the settings are; [`run`] panics where the session breaks one of its promises:
//!
//! - what goes to the client is one strict stream of frames, which has all that the endpoint says, in order and once;
//! - the endpoint gets a prefix of what the client says, in the order of calls that [`Endpoint`] promises;
//! - memory is bounded, whatever the sides do not take;
//! - nothing waits for an event that never comes: as soon as both sides take what there is, everything moves;
//! - as long as the session lives it has a timer or a turn that is due, and once its worker leaves it ends;
//! - what is written down of it is what both sides have said, and that it has ended;
//! - when it has ended it has let go of its request, once, and calls nobody any more.
//!
//! Events are edge-triggered, as with nginx: who stops reading for a reason of their own is not called again.

mod endpoint;
mod frames;
mod recording;
mod script;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::endpoint::{Ending, HttpStatus, Produced, Started};
use super::record::Record;
use super::{Flow, Rates, Session, SessionEnd, SessionStage, Settings, buffers};
use crate::channel::fanout::Batch;
use crate::exec::spawner::ExitStatus;
use crate::ws::close::CloseCode;
use crate::ws::connection::Limits;
use crate::ws::frame::{Header, MessageKind, Opcode};
use crate::ws::timing;

/// A message, as either side says it.
pub type Message = (MessageKind, Vec<u8>);

/// Octets of the longest message that either side of the simulation says.
const LONGEST: usize = 3 << 10;

/// Octets that the session may queue for a client beyond its limit: one message of the endpoint, Pongs, and a Close.
const SLACK: usize = LONGEST + (16 << 10) + buffers::BUFFER;

pub use endpoint::Other;
use endpoint::{Phase, Say, TestEndpoint};
pub use frames::{Heard, frames};
use recording::Recording;
pub use script::run;
pub use world::{Shared, World};

fn normal() -> Ending {
    Ending { code: CloseCode::NORMAL, reason: String::new() }
}

/// A session in its world.
pub struct Simulation {
    /// The client, the system and nginx.
    pub world: Shared,
    /// The other side.
    pub other: Rc<RefCell<Other>>,
    session: Session<Shared>,
    /// How the session has ended.
    pub end: Option<SessionEnd>,
    /// Whole messages that the client has said before it broke a rule or closed.
    pub messages: Vec<Message>,
    /// The client is in the middle of a message of this kind.
    begun: Option<Message>,
    /// The client says nothing any more that counts.
    done: bool,
    /// Octets that a message of the client may have; 0 for any number.
    longest: usize,
    direct: usize,
}

/// What a simulation begins with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// What the session is made with.
    pub settings: Settings,
    /// The connection is TLS.
    pub is_tls: bool,
    /// Octets of the 101 that do not leave at once.
    pub head: usize,
    /// Octets that the system takes for the client.
    pub room: usize,
    /// Octets from which on the endpoint takes nothing.
    pub capacity: usize,
    /// The endpoint deals with one message after the other.
    pub is_in_turn: bool,
    /// The endpoint is a program that ends after its session.
    pub leaves_program: bool,
    /// What is said is written down.
    pub is_recorded: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let timing = timing::Settings {
            ping_interval: 30_000,
            ping_timeout: 10_000,
            idle_timeout: 0,
            close_timeout: 5_000,
            send_timeout: 60_000,
            endpoint_timeout: 60_000,
        };
        let settings = Settings {
            limits: Limits::default(),
            deflate: None,
            timing,
            patience: super::HANGUP,
            send_limit: 64 << 10,
            rates: Rates::default(),
        };
        Setup {
            settings,
            is_tls: false,
            head: 0,
            room: usize::MAX / 2,
            capacity: usize::MAX,
            is_in_turn: false,
            leaves_program: false,
            is_recorded: false,
        }
    }
}

impl Simulation {
    /// A session whose endpoint starts.
    pub fn new(setup: &Setup) -> Self {
        let mut world =
            World { now: 1_000, room: setup.room, head: setup.head, is_tls: setup.is_tls, ..World::default() };
        world.recording = setup.is_recorded.then(Recording::default);
        let world = Shared(Rc::new(RefCell::new(world)));
        let other = Rc::new(RefCell::new(Other {
            phase: Phase::Starting,
            starts: None,
            is_in_turn: setup.is_in_turn,
            capacity: setup.capacity,
            waiting: 0,
            takes: 0,
            progress: 0,
            has_taken: false,
            accepted: Cell::new(false),
            refuses: false,
            has_refused: false,
            unfinished: None,
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            said: Vec::new(),
            end: None,
            leaves: false,
            event: false,
            program: None,
            leaves_program: setup.leaves_program,
        }));
        let mut session = Session::new(world.clone(), world.clone(), Box::default(), &setup.settings);
        session.attach((), Box::new(TestEndpoint(Rc::clone(&other))));
        let (messages, begun, longest) = (Vec::new(), None, setup.settings.limits.message as usize);
        Simulation { world, other, session, end: None, messages, begun, done: false, longest, direct: 0 }
    }

    /// What is known of the session.
    pub fn record(&self) -> &Record {
        &self.session.record
    }

    /// Whether anything is written down of it.
    pub fn is_recorded(&self) -> bool {
        self.world.get().recording.as_ref().is_some_and(Recording::has_begun)
    }

    /// Does something with the session, as one event.
    pub fn event(&mut self, body: impl FnOnce(&mut Session<Shared>) -> Flow) {
        if self.end.is_some() {
            return;
        }
        let flow = body(&mut self.session);
        if let Some(end) = self.session.conclude(flow) {
            self.session.release();
            self.end = Some(end);
        }
        self.check();
    }

    /// What is to hold after each event.
    fn check(&self) {
        let world = self.world.get();
        assert_eq!(self.session.is_over(), self.end.is_some());
        assert_eq!(world.released, self.end.is_some());
        if self.end.is_none() {
            assert!(world.timer.is_some() || world.posted, "a session without a timer");
        } else {
            let other = self.other.borrow();
            assert!(other.program.as_ref().is_none_or(|program| !program.is_awaited.get()));
        }
        let limit = self.session.send_limit;
        assert!(self.session.output.len() <= limit.saturating_add(SLACK), "{}", self.session.output.len());
        assert!(self.session.unparsed.len() <= buffers::BUFFER, "{}", self.session.unparsed.len());
    }

    /// The endpoint has started, or could not.
    pub fn start(&mut self, started: Started) {
        let mut other = self.other.borrow_mut();
        if other.phase == Phase::Starting {
            other.starts = Some(started);
            other.event = true;
        }
    }

    /// The client says something.
    pub fn say(&mut self, first: u8, payload: &[u8]) {
        let mut world = self.world.0.borrow_mut();
        if world.fin {
            return;
        }
        const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        world.underway.push_back(first);
        if payload.len() < 126 {
            world.underway.push_back(0x80 | payload.len() as u8);
        } else {
            world.underway.push_back(0x80 | 126);
            world.underway.extend((payload.len() as u16).to_be_bytes());
        }
        world.underway.extend(KEY);
        world.underway.extend(payload.iter().enumerate().map(|(at, octet)| octet ^ KEY[at % 4]));
    }

    /// The client says a piece of a message, or a whole one.
    pub fn say_data(&mut self, kind: MessageKind, payload: &[u8], last: bool) {
        let opcode = match (&self.begun, kind) {
            (Some(_), _) => 0,
            (None, MessageKind::Text) => 1,
            (None, MessageKind::Binary) => 2,
        };
        self.say(opcode | if last { 0x80 } else { 0 }, payload);
        if self.done || self.world.get().fin {
            return;
        }
        let begun = self.begun.get_or_insert((kind, Vec::new()));
        begun.1.extend_from_slice(payload);
        if self.longest != 0 && begun.1.len() > self.longest {
            self.done = true;
        } else if last {
            let message = self.begun.take();
            self.messages.extend(message);
        }
    }

    /// From now on a status is told by a Close.
    pub fn tell_refusals(&mut self) {
        self.world.0.borrow_mut().tells_refusals = true;
    }

    /// The client says Close.
    pub fn say_close(&mut self) {
        self.say(0x88, &1000_u16.to_be_bytes());
        self.done = true;
    }

    /// The client breaks a rule.
    pub fn say_nonsense(&mut self) {
        self.say(0x83, b"");
        self.done = true;
    }

    /// Everything that the client has said comes in.
    pub fn arrive(&mut self) {
        self.world.0.borrow_mut().arrive(usize::MAX);
    }

    /// The client closes its side, behind what it has said.
    pub fn hang_up(&mut self) {
        self.world.0.borrow_mut().fin = true;
    }

    /// What was sent to the client.
    pub fn wire(&self) -> Vec<u8> {
        self.world.get().wire.clone()
    }

    /// The endpoint takes the next piece for one that it cannot take.
    pub fn refuse_next(&mut self) {
        self.other.borrow_mut().refuses = true;
    }

    /// The other side says a message.
    pub fn say_answer(&mut self, kind: MessageKind, payload: &[u8]) {
        self.answer(Say::Message((kind, payload.to_vec())));
    }

    /// The program that the session has left ends.
    pub fn program_ends(&mut self) {
        let other = self.other.borrow();
        let Some(program) = &other.program else { return };
        program.end.ended(ExitStatus::Code(0));
        if program.is_awaited.take() {
            drop(other);
            self.event(Session::pump);
        }
    }

    /// The other side says something.
    fn answer(&mut self, say: Say) {
        let mut other = self.other.borrow_mut();
        if other.end.is_none() {
            other.outbox.push_back(say);
            other.event = true;
        }
    }

    /// The other side ends.
    pub fn finish(&mut self, how: Produced) {
        let mut other = self.other.borrow_mut();
        if other.end.is_none() {
            other.end = Some(how);
        }
        other.event = true;
    }

    /// The next event that is waiting, if one is: of the client, of the endpoint, or the turn that was asked for.
    pub fn turn(&mut self, which: u8) -> bool {
        for kind in (which..).take(3) {
            let found = match kind % 3 {
                0 => {
                    let mut world = self.world.0.borrow_mut();
                    // Before the 101 nginx reads nothing of the client.
                    world.listening && std::mem::take(&mut world.client_event)
                }
                1 => std::mem::take(&mut self.other.borrow_mut().event),
                _ => {
                    let posted = std::mem::take(&mut self.world.0.borrow_mut().posted);
                    if posted {
                        self.event(Session::on_time);
                        return true;
                    }
                    false
                }
            };
            if found {
                self.event(Session::pump);
                return true;
            }
        }
        false
    }

    /// Lets time pass; the timer fires if its time comes.
    pub fn pass(&mut self, milliseconds: u64) {
        let mut world = self.world.0.borrow_mut();
        world.now += milliseconds;
        if world.timer.is_some_and(|at| at <= world.now) {
            world.timer = None;
            world.expired = true;
            drop(world);
            self.event(Session::on_time);
        }
    }

    /// Lets the time pass in which a side is not read. Whether there is any.
    fn pass_pause(&mut self) -> bool {
        let now = self.world.get().now;
        let reads = matches!(
            self.session.stage,
            SessionStage::Open { .. } | SessionStage::Grace { .. } | SessionStage::Closing(_)
        );
        let pause = self.session.paces.as_ref().and_then(|paces| paces.pause(now)).filter(|_| reads);
        if let Some(end) = pause {
            assert!(self.world.get().timer.is_some_and(|at| at <= end), "a pause that nothing ends");
            self.pass(end - now);
        }
        pause.is_some()
    }

    /// Messages that other sessions get as well go out by the short way, if that is open.
    fn send_directly(&mut self, message: Message) {
        if self.end.is_some() || !self.session.takes_directly() {
            return;
        }
        let opcode = match message.0 {
            MessageKind::Text => Opcode::Text,
            MessageKind::Binary => Opcode::Binary,
        };
        let header = Header { fin: true, rsv1: false, opcode, len: message.1.len() as u64 };
        let mut octets = header.encode().as_ref().to_vec();
        octets.extend_from_slice(&message.1);
        let batch = Batch::of_frame(octets);
        let sent = self.session.send_directly(&batch, &mut Vec::new());
        self.other.borrow_mut().said.push(message);
        self.direct += 1;
        if sent == super::Direct::Queued {
            self.event(Session::pump);
        }
    }

    /// Both sides take everything, and everything that is waiting is handled.
    pub fn settle(&mut self) {
        {
            let mut other = self.other.borrow_mut();
            other.takes = usize::MAX / 2;
            other.capacity = usize::MAX;
            other.event = true;
            let mut world = self.world.0.borrow_mut();
            world.refuses_watch = false;
            world.arrive(usize::MAX);
            world.take(usize::MAX);
            world.make_room(usize::MAX / 2);
        }
        let mut turns = 0;
        while self.turn(0) || self.pass_pause() {
            self.world.0.borrow_mut().take(usize::MAX);
            turns += 1;
            assert!(turns < 10_000, "the session is never at rest");
        }
    }

    /// The session is brought to its end, whatever it has been through: what was promised is looked at.
    pub fn conclude(mut self) {
        self.settle();
        if self.end.is_none() && self.world.get().listening {
            let world = self.world.get();
            let other = self.other.borrow();
            assert_eq!(self.session.output.len(), 0, "octets wait for nothing");
            if matches!(self.session.stage, SessionStage::Open { .. }) {
                assert!(world.arrived.is_empty() && self.session.unparsed.is_empty(), "the client waits for nothing");
                assert!(self.session.ahead.is_empty(), "messages wait for nothing");
                assert_eq!(other.inbox, self.messages, "what the client has said has not arrived");
                assert!(other.outbox.is_empty(), "the endpoint waits for nothing");
            }
        }
        // The worker leaves. Whatever the client does or does not, the session ends.
        let at = self.world.get().now + 1_000;
        self.event(|session| session.drain(at));
        self.start(Started::No(HttpStatus(503)));
        let mut rounds = 0;
        while self.end.is_none() {
            let next = self.world.get().timer.unwrap_or(at).max(at);
            let now = self.world.get().now;
            self.pass(next.saturating_sub(now));
            while self.turn(0) {}
            rounds += 1;
            assert!(rounds < 100, "the session does not end");
        }
        self.check_streams();
    }

    /// What was written down.
    fn check_recording(&self) {
        let world = self.world.get();
        let Some(recording) = world.recording.as_ref().filter(|recording| recording.has_begun()) else { return };
        assert!(recording.is_complete(), "a recording without its end");
        let (said, heard) = recording.messages();
        let other = self.other.borrow();
        assert_eq!(self.direct, 0);
        assert_eq!(heard, other.said, "what the endpoint says is written down");
        assert!(said.len() >= other.inbox.len(), "what the endpoint gets is written down");
        assert_eq!(said, self.messages[..said.len()]);
    }

    /// What went both ways.
    fn check_streams(&self) {
        self.check_recording();
        let world = self.world.get();
        let other = self.other.borrow();
        assert!(other.inbox.len() <= self.messages.len(), "the endpoint got what nobody has said");
        assert_eq!(other.inbox, self.messages[..other.inbox.len()]);
        let heard = frames(&world.wire);
        assert!(heard.messages.len() <= other.said.len());
        assert_eq!(heard.messages, other.said[..heard.messages.len()]);
        if self.end == Some(SessionEnd::Finished) {
            assert!(heard.closed && heard.is_whole, "a session that ended in order has said Close");
            assert_eq!(heard.messages.len(), other.said.len(), "what the endpoint has said is lost");
            assert!(self.session.ws.closed().is_some());
        }
        let record = &self.session.record;
        assert_eq!(record.messages_out.get() as usize, other.said.len() - self.direct);
        assert!(record.messages_in.get() as usize >= other.inbox.len());
        assert_eq!(record.ended.get(), world.listening || (world.accepted && !world.accept_fails));
        assert_eq!(record.closed.get(), self.session.ws.closed());
    }
}
