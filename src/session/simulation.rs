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
//! - when it has ended it has let go of its request, once, and calls nobody any more.
//!
//! Events are edge-triggered, as with nginx: who stops reading for a reason of their own is not called again.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use super::client::{Client, Lost, Received, Sent, Sink};
use super::endpoint::{Ending, Endpoint, HttpStatus, Input, Outlet, Produced, Started};
use super::host::{Host, Log, Severity};
use super::program::{LeftProgram, ProgramEnd};
use super::record::Record;
use super::{Flow, Session, SessionEnd, Settings, Stage, buffers};
use crate::channel::fanout::Batch;
use crate::exec::spawner::ExitStatus;
use crate::ledger::OpenSession;
use crate::ws::close::CloseCode;
use crate::ws::connection::{Data, Limits};
use crate::ws::frame::{Header, Kind, Opcode};
use crate::ws::timing::{self, Look};

/// A message, as either side says it.
pub type Message = (Kind, Vec<u8>);

/// Octets of the longest message that either side of the simulation says.
const LONGEST: usize = 3 << 10;

/// Octets that the session may queue for a client beyond its limit: one message of the endpoint, Pongs, and a Close.
const SLACK: usize = LONGEST + (16 << 10) + buffers::BUFFER;

/// The client, the system between it and the session, and what nginx knows.
#[derive(Default)]
pub struct World {
    now: u64,
    /// Octets of the client that are on their way.
    underway: VecDeque<u8>,
    /// Octets of the client that the system has.
    arrived: VecDeque<u8>,
    /// The client has closed its side, behind what is on its way; and the system has seen it.
    fin: bool,
    fin_arrived: bool,
    reset: bool,
    /// nginx's mark on the read event.
    ready: bool,
    /// An event of the client is waiting to be handled.
    client_event: bool,
    /// Sending has been refused: there is an event when there is room.
    send_blocked: bool,
    /// Octets that the system has for the client, and for how many more it has room.
    queued: usize,
    room: usize,
    /// Everything that was ever sent.
    pub wire: Vec<u8>,
    sent: u64,
    looked: u64,
    looked_queued: usize,
    /// Octets of the 101 that have not left.
    head: usize,
    is_tls: bool,
    /// What TLS was offered and did not take: where it was.
    offered: Option<usize>,
    /// When the timer fires.
    timer: Option<u64>,
    expired: bool,
    posted: bool,
    refuses_watch: bool,
    accepted: bool,
    accept_fails: bool,
    tells_refusals: bool,
    listening: bool,
    late_drain: Option<u64>,
    given_up: bool,
    lingers: bool,
    released: bool,
}

/// The world as the session's client and host have it.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<World>>);

impl Shared {
    fn get(&self) -> Ref<'_, World> {
        self.0.borrow()
    }

    /// The world of a session that has not let go of its request.
    fn held(&self) -> RefMut<'_, World> {
        let world = self.0.borrow_mut();
        assert!(!world.released, "a session that has let go of its request uses it");
        world
    }
}

impl World {
    /// Octets of the client come in.
    fn arrive(&mut self, most: usize) {
        let count = most.min(self.underway.len());
        self.arrived.extend(self.underway.drain(..count));
        let fin = self.fin && self.underway.is_empty() && !self.fin_arrived;
        self.fin_arrived |= fin;
        if count > 0 || fin {
            self.ready = true;
            self.client_event = true;
        }
    }

    /// The client takes octets that the system has for it.
    fn take(&mut self, most: usize) {
        let count = most.min(self.queued);
        self.queued -= count;
        self.make_room(count);
    }

    fn make_room(&mut self, count: usize) {
        self.room = self.room.saturating_add(count);
        if self.send_blocked && self.room > 0 {
            self.send_blocked = false;
            self.client_event = true;
        }
    }

    fn reset(&mut self) {
        self.reset = true;
        self.ready = true;
        self.client_event = true;
    }
}

impl Sink for Shared {
    fn send(&mut self, octets: &[u8]) -> Sent {
        let mut world = self.held();
        assert!(world.listening, "octets before the 101");
        assert!(world.head == 0, "octets overtake the 101");
        assert!(!world.given_up, "octets after some were left out");
        if world.reset {
            return Sent::Lost;
        }
        let at = octets.as_ptr() as usize;
        if let Some(offered) = world.offered.take() {
            assert!(!world.is_tls || offered == at, "TLS is offered other octets than those that it did not take");
        }
        let count = octets.len().min(world.room);
        if count == 0 {
            if octets.is_empty() {
                return Sent::Blocked;
            }
            world.send_blocked = true;
            world.offered = Some(at);
            return Sent::Blocked;
        }
        world.room -= count;
        world.queued += count;
        world.sent += count as u64;
        world.wire.extend_from_slice(&octets[..count]);
        Sent::Octets(count)
    }

    fn is_tls(&self) -> bool {
        self.get().is_tls
    }
}

impl Client for Shared {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let mut world = self.held();
        if world.reset {
            return Received::Lost;
        }
        let count = buffer.len().min(world.arrived.len());
        if count == 0 {
            if world.fin_arrived {
                return Received::End;
            }
            world.ready = false;
            return Received::Blocked;
        }
        for (to, from) in buffer.iter_mut().zip(world.arrived.drain(..count)) {
            *to = from;
        }
        if count < buffer.len() && !world.fin_arrived {
            world.ready = false;
        }
        Received::Octets(count)
    }

    fn readable(&self) -> bool {
        self.held().ready
    }

    fn hung_up(&self) -> bool {
        self.held().fin_arrived
    }

    fn has_unread(&self) -> bool {
        !self.held().arrived.is_empty()
    }

    fn has_queued(&self) -> bool {
        self.held().queued > 0
    }

    fn look(&mut self) -> Look {
        let mut world = self.held();
        let since = usize::try_from(world.sent - world.looked).unwrap_or(0);
        let taken = world.looked_queued + since > world.queued;
        (world.looked, world.looked_queued) = (world.sent, world.queued);
        Look { taken, all: world.queued == 0 }
    }

    fn sent(&self) -> u64 {
        self.held().sent
    }

    fn is_drained(&self) -> bool {
        self.held().head == 0
    }

    fn drain(&mut self) -> Result<bool, Lost> {
        let mut world = self.held();
        if world.reset {
            return Err(Lost);
        }
        let count = world.head.min(world.room);
        world.head -= count;
        world.room -= count;
        world.queued += count;
        world.send_blocked |= world.head > 0;
        Ok(world.head == 0)
    }

    fn give_up(&mut self) {
        self.held().given_up = true;
    }

    fn watch(&mut self) -> bool {
        !self.held().refuses_watch
    }
}

impl Log for Shared {
    fn report(&self, _: Severity, text: fmt::Arguments<'_>) {
        drop(text.to_string());
    }
}

impl Host for Shared {
    type Client = Shared;
    type Acceptance = ();
    type Record = Box<Record>;

    fn now(&self) -> u64 {
        self.get().now
    }

    fn accept(&mut self, (): &()) -> bool {
        let mut world = self.held();
        assert!(!world.accepted, "one request is answered once");
        world.accepted = true;
        !world.accept_fails
    }

    fn refusal(&self, status: HttpStatus, (): &mut ()) -> Option<Ending> {
        let code = CloseCode::new(4000 + status.0).filter(|_| self.get().tells_refusals)?;
        Some(Ending { code, reason: String::new() })
    }

    fn listen(&mut self, _: &mut Shared, early: &mut Vec<u8>) -> bool {
        let mut world = self.held();
        assert!(world.accepted && !world.listening);
        world.listening = true;
        // What came in one segment with the head of the request.
        let count = world.arrived.len() / 2;
        early.extend(world.arrived.drain(..count));
        true
    }

    fn open_account(&mut self) -> Option<OpenSession> {
        None
    }

    fn late_drain(&mut self) -> Option<u64> {
        self.held().late_drain
    }

    fn set_timer(&mut self, milliseconds: u64) {
        let mut world = self.held();
        world.timer = Some(world.now.saturating_add(milliseconds));
    }

    fn take_expired(&mut self) -> bool {
        std::mem::take(&mut self.held().expired)
    }

    fn post_turn(&mut self) {
        self.held().posted = true;
    }

    fn linger(&mut self, _: &mut Shared) {
        self.held().lingers = true;
    }

    fn release(&mut self) {
        let mut world = self.held();
        world.released = true;
        (world.timer, world.posted) = (None, false);
    }
}

/// How far the endpoint is, by the calls that it has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It may be asked whether it has started.
    Starting,
    /// It could not start: nothing but the end follows.
    Refused,
    /// Messages go both ways.
    Open,
    /// It has said all, and still takes what the client says.
    Listening,
    /// It has said all.
    Ended,
    /// The client is gone: nothing follows.
    Gone,
}

/// What the endpoint says next.
enum Say {
    Message(Message),
    /// The same in two pieces.
    Pieces(Message),
    /// The same, framed where it was read.
    Read(Message),
}

/// The endpoint, and the other side behind it.
pub struct Other {
    phase: Phase,
    starts: Option<Started>,
    is_in_turn: bool,
    /// Octets above which nothing more is accepted, those that wait, and how many the other side takes.
    capacity: usize,
    waiting: usize,
    takes: usize,
    progress: u64,
    has_taken: bool,
    /// Whether a delivery is allowed: `accepts` was the last answer.
    accepted: Cell<bool>,
    refuses: bool,
    has_refused: bool,
    unfinished: Option<Message>,
    /// Whole messages of the client.
    pub inbox: Vec<Message>,
    outbox: VecDeque<Say>,
    /// Whole messages for the client that were handed out.
    pub said: Vec<Message>,
    end: Option<Produced>,
    leaves: bool,
    /// Its events.
    event: bool,
    program: Option<LeftProgram>,
    leaves_program: bool,
}

/// The endpoint as the session has it: it checks the order of the calls that it gets.
struct TestEndpoint(Rc<RefCell<Other>>);

fn weight(data: &Data<'_>) -> usize {
    data.payload.len() + 1
}

impl Endpoint for TestEndpoint {
    fn start(&mut self) -> Started {
        let mut other = self.0.borrow_mut();
        assert_eq!(other.phase, Phase::Starting);
        let started = other.starts.unwrap_or(Started::NotYet);
        match started {
            Started::NotYet => {}
            Started::Yes => other.phase = Phase::Open,
            Started::No(_) => other.phase = Phase::Refused,
        }
        started
    }

    fn accepts(&self) -> bool {
        let other = self.0.borrow();
        assert!(matches!(other.phase, Phase::Open | Phase::Listening));
        let accepts = other.waiting < other.capacity;
        other.accepted.set(accepts);
        accepts
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        let mut other = self.0.borrow_mut();
        assert!(matches!(other.phase, Phase::Open | Phase::Listening | Phase::Ended), "{:?}", other.phase);
        assert!(!other.has_refused, "a message after one that was refused");
        assert_eq!(data.first, other.unfinished.is_none());
        assert!(data.last || !data.payload.is_empty());
        if std::mem::take(&mut other.refuses) {
            other.has_refused = true;
            return Err(Ending { code: CloseCode::POLICY, reason: "refused".to_owned() });
        }
        other.waiting += weight(data);
        let message = other.unfinished.get_or_insert((data.kind, Vec::new()));
        assert_eq!(message.0, data.kind);
        message.1.extend_from_slice(data.payload);
        if data.last {
            let message = other.unfinished.take();
            other.inbox.extend(message);
        }
        Ok(())
    }

    fn flush(&mut self) -> bool {
        let mut other = self.0.borrow_mut();
        assert_ne!(other.phase, Phase::Gone);
        let count = other.takes.min(other.waiting);
        other.takes -= count;
        other.waiting -= count;
        other.progress += count as u64;
        other.has_taken |= count > 0;
        count > 0
    }

    fn is_in_turn(&self) -> bool {
        self.0.borrow().is_in_turn
    }

    fn waits(&self) -> bool {
        self.0.borrow().waiting > 0
    }

    fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().has_taken)
    }

    fn leave(&mut self) {
        let mut other = self.0.borrow_mut();
        assert_eq!(other.phase, Phase::Open);
        other.leaves = true;
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut other = self.0.borrow_mut();
        assert_eq!(other.phase, Phase::Open, "nothing is to be made after the end");
        let mut some = false;
        while outlet.has_room()
            && let Some(say) = other.outbox.pop_front()
        {
            some = true;
            let sent = match &say {
                Say::Message((kind, octets)) => outlet.message(*kind, octets),
                Say::Pieces((kind, octets)) => {
                    let (first, second) = octets.split_at(octets.len() / 2);
                    outlet.piece(*kind, first, false).and_then(|()| outlet.piece(*kind, second, true))
                }
                Say::Read((kind, octets)) => {
                    outlet.message_from(*kind, octets.len() / 2, |buffer| buffer.extend_from_slice(octets))
                }
            };
            let (Say::Message(message) | Say::Pieces(message) | Say::Read(message)) = say;
            assert!(sent.is_ok(), "an open session takes messages");
            other.said.push(message);
        }
        if !other.outbox.is_empty() {
            assert!(!outlet.has_room());
            return if some { Produced::Some } else { Produced::Nothing };
        }
        match &other.end {
            Some(Produced::Leaving) if other.leaves => {
                other.phase = Phase::Ended;
                Produced::Ended(normal())
            }
            Some(Produced::Leaving) => Produced::Leaving,
            Some(Produced::Silent(ending)) => {
                let ending = ending.clone();
                other.phase = Phase::Listening;
                Produced::Silent(ending)
            }
            Some(Produced::Ended(ending)) => {
                let ending = ending.clone();
                other.phase = Phase::Ended;
                Produced::Ended(ending)
            }
            Some(Produced::Nothing | Produced::Some) | None if some => Produced::Some,
            Some(Produced::Nothing | Produced::Some) | None => Produced::Nothing,
        }
    }

    fn client_gone(&mut self, _: Input) -> Option<LeftProgram> {
        let mut other = self.0.borrow_mut();
        assert_ne!(other.phase, Phase::Gone, "the client goes once");
        other.phase = Phase::Gone;
        if !other.leaves_program {
            return None;
        }
        let end = Rc::new(ProgramEnd::default());
        let is_awaited = Rc::new(Cell::new(true));
        other.program = Some(LeftProgram { end: Rc::clone(&end), patience: 300, is_awaited: Rc::clone(&is_awaited) });
        Some(LeftProgram { end, patience: 300, is_awaited })
    }

    fn progress(&self) -> u64 {
        self.0.borrow().progress
    }
}

impl Drop for TestEndpoint {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.0.borrow().phase, Phase::Gone, "an endpoint is told that its client is gone");
        }
    }
}

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
        };
        Setup {
            settings,
            is_tls: false,
            head: 0,
            room: usize::MAX / 2,
            capacity: usize::MAX,
            is_in_turn: false,
            leaves_program: false,
        }
    }
}

impl Simulation {
    /// A session whose endpoint starts.
    pub fn new(setup: &Setup) -> Self {
        let world = World { now: 1_000, room: setup.room, head: setup.head, is_tls: setup.is_tls, ..World::default() };
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
    pub fn say_data(&mut self, kind: Kind, payload: &[u8], last: bool) {
        let opcode = match (&self.begun, kind) {
            (Some(_), _) => 0,
            (None, Kind::Text) => 1,
            (None, Kind::Binary) => 2,
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
    pub fn say_answer(&mut self, kind: Kind, payload: &[u8]) {
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

    /// Messages that other sessions get as well go out by the short way, if that is open.
    fn send_directly(&mut self, message: Message) {
        if self.end.is_some() || !self.session.takes_directly() {
            return;
        }
        let opcode = match message.0 {
            Kind::Text => Opcode::Text,
            Kind::Binary => Opcode::Binary,
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
        while self.turn(0) {
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
            if matches!(self.session.stage, Stage::Open { .. }) {
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

    /// What went both ways.
    fn check_streams(&self) {
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
        assert_eq!(record.messages_out as usize, other.said.len() - self.direct);
        assert!(record.messages_in as usize >= other.inbox.len());
        assert_eq!(record.ended, world.listening || (world.accepted && !world.accept_fails));
        assert_eq!(record.closed, self.session.ws.closed());
    }
}

/// What a client hears.
pub struct Heard {
    /// The messages, those that are whole.
    pub messages: Vec<Message>,
    /// A Close was the last frame.
    pub closed: bool,
    /// There was no piece of a frame at the end.
    pub is_whole: bool,
}

/// Reads what went to a client, and refuses everything that a server must not send.
pub fn frames(mut octets: &[u8]) -> Heard {
    let mut heard = Heard { messages: Vec::new(), closed: false, is_whole: true };
    let mut begun: Option<Message> = None;
    while !octets.is_empty() {
        assert!(!heard.closed, "octets after a Close");
        heard.is_whole = false;
        let [first, second, rest @ ..] = octets else { break };
        assert_eq!((first & 0x70, second & 0x80), (0, 0), "reserved bits, or a mask");
        let (length, rest) = match (second, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (126 | 127, _) => break,
            (length, rest) => (usize::from(*length), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        heard.is_whole = true;
        octets = rest;
        let last = first & 0x80 != 0;
        match first & 15 {
            kind @ 0..=2 => {
                assert_eq!(kind == 0, begun.is_some(), "a message in another one, or the rest of none");
                let kind = if kind == 2 { Kind::Binary } else { Kind::Text };
                begun.get_or_insert((kind, Vec::new())).1.extend_from_slice(payload);
                if last {
                    heard.messages.extend(begun.take());
                }
            }
            8 => heard.closed = true,
            9 | 10 => assert!(last && payload.len() <= 125),
            other => panic!("a frame of opcode {other}"),
        }
    }
    heard
}

/// Reads numbers off a string of octets; zeroes follow it.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A length, small ones more often than others.
    fn length(&mut self) -> usize {
        match self.next() {
            small @ 0..=199 => usize::from(small),
            large => (usize::from(large) - 199) * LONGEST / 56,
        }
    }

    /// A time in milliseconds.
    fn time(&mut self) -> u64 {
        match self.next() {
            short @ 0..=99 => u64::from(short),
            long => (u64::from(long) - 99) * 500,
        }
    }

    fn message(&mut self) -> Message {
        let kind = if self.next() & 1 == 0 { Kind::Text } else { Kind::Binary };
        let (length, letter) = (self.length(), b'a' + self.next() % 26);
        (kind, vec![letter; length])
    }
}

/// Runs a session as the octets say.
pub fn run(script: &[u8]) {
    let mut script = Script(script);
    let flags = script.next();
    let timing = timing::Settings {
        ping_interval: script.time(),
        ping_timeout: script.time(),
        idle_timeout: script.time(),
        close_timeout: script.time().max(1),
        send_timeout: script.time(),
        endpoint_timeout: script.time(),
    };
    let limits = Limits {
        message: if flags & 1 == 0 { 0 } else { 2_000 },
        fragment_size: if flags & 2 == 0 { 0 } else { 100 },
        ..Limits::default()
    };
    let settings =
        Settings { limits, deflate: None, timing, patience: super::HANGUP, send_limit: 1 + script.length() * 8 };
    let mut simulation = Simulation::new(&Setup {
        settings,
        is_tls: flags & 4 != 0,
        head: if flags & 8 == 0 { 0 } else { 100 },
        room: script.length() * 4,
        capacity: 1 + script.length() * 4,
        is_in_turn: flags & 16 != 0,
        leaves_program: flags & 32 != 0,
    });
    if flags & 64 != 0 {
        simulation.world.0.borrow_mut().late_drain = Some(1_000 + script.time());
    }
    if flags & 128 == 0 {
        simulation.start(Started::Yes);
        simulation.turn(1);
    }
    while !script.0.is_empty() && simulation.end.is_none() {
        step(&mut simulation, &mut script);
    }
    simulation.conclude();
}

/// One thing happens.
fn step(simulation: &mut Simulation, script: &mut Script<'_>) {
    let action = script.next();
    match action {
        0..=24 => {
            let (kind, payload) = script.message();
            simulation.say_data(kind, &payload, action != 0);
        }
        25..=34 => {
            let length = script.length().min(125);
            simulation.say(if action < 33 { 0x89 } else { 0x8a }, &vec![b'p'; length]);
        }
        35..=38 => simulation.say_close(),
        39..=40 => simulation.say_nonsense(),
        41..=42 => simulation.hang_up(),
        43 => {
            simulation.world.0.borrow_mut().reset();
        }
        44..=79 => {
            let most = script.length();
            simulation.world.0.borrow_mut().arrive(most);
        }
        80..=99 => {
            let most = script.length() * 4;
            simulation.world.0.borrow_mut().take(most);
        }
        100..=104 => {
            let more = script.length();
            simulation.world.0.borrow_mut().make_room(more);
        }
        105..=124 => {
            let message = script.message();
            simulation.answer(match action % 3 {
                0 => Say::Message(message),
                1 => Say::Pieces(message),
                _ if message.1.is_empty() => Say::Message(message),
                _ => Say::Read(message),
            });
        }
        125..=128 => simulation.finish(match action {
            125 => Produced::Silent(normal()),
            126 => Produced::Leaving,
            _ => Produced::Ended(normal()),
        }),
        129..=148 => {
            let count = script.length();
            let mut other = simulation.other.borrow_mut();
            other.takes += count;
            other.event = true;
        }
        149..=150 => simulation.refuse_next(),
        151..=210 => {
            simulation.turn(action);
        }
        211..=216 => simulation.event(Session::pump),
        217..=232 => simulation.pass(script.time()),
        233..=234 => {
            let at = simulation.world.get().now + script.time();
            simulation.event(|session| session.drain(at));
        }
        235 => simulation.start(if script.next() & 1 == 0 { Started::Yes } else { Started::No(HttpStatus(502)) }),
        236..=237 => simulation.start(Started::Yes),
        238 => simulation.event(|session| session.endpoint_lost("the endpoint is gone")),
        239 => {
            // nginx frees the request: the worker is killed, or its time is up.
            simulation.event(|session| {
                session.farewell();
                Flow::Break(SessionEnd::Dropped)
            });
        }
        240 => {
            // nginx gives the request to somebody else.
            simulation.event(|_| Flow::Break(SessionEnd::Dropped));
        }
        241 => simulation.world.0.borrow_mut().refuses_watch = true,
        242 => simulation.world.0.borrow_mut().accept_fails = true,
        243..=246 => simulation.program_ends(),
        247..=255 => {
            let message = script.message();
            simulation.send_directly(message);
        }
    }
}
