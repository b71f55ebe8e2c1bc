// SPDX-License-Identifier: Apache-2.0

//! Exchanges in a server that is only as fast as a test lets it be: for unit tests, and for the fuzz target `exchange`.

mod any_order;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod responses;

pub use any_order::run;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Arguments;
use std::rc::Rc;

use super::{CgiEnd, Exchange, Flow, Host, Output, Piece, Program, Request, Response, Settings};
#[cfg(test)]
use super::{LAST_WORD, UNWANTED};
use crate::exec::cgi::Head;
use crate::exec::spawner::ExitStatus;
use crate::ledger::OpenSession;
use crate::session::client::Lost;
use crate::session::endpoint::HttpStatus;
use crate::session::host::{Log, Severity};
use crate::session::record::Record;
use crate::ws::timing::Look;

/// What an exchange is connected to, seen by the test.
#[derive(Default)]
struct World {
    now: Cell<u64>,
    timer: Cell<u64>,
    turns: Cell<u32>,
    log: RefCell<Vec<String>>,
    released: Cell<u32>,
    /// What the client has sent and nobody has received; `is_whole` if that was all.
    sent: RefCell<VecDeque<u8>>,
    is_whole: Cell<bool>,
    refusal: Cell<Option<u16>>,
    watched: Cell<bool>,
    /// What the program has been given, how much of it it has read, and how much its pipe takes.
    input: RefCell<Vec<u8>>,
    room: Cell<usize>,
    input_ended: Cell<bool>,
    input_broken: Cell<bool>,
    taken: Cell<u64>,
    /// What the program has written and nobody has read; `is_ended` if that was all.
    written: RefCell<VecDeque<u8>>,
    is_ended: Cell<bool>,
    paused: Cell<bool>,
    status: Cell<Option<ExitStatus>>,
    left: Cell<u32>,
    grace: Cell<u64>,
    /// The response: its head, what of its body the client has, and what is on its way.
    head: RefCell<Option<Head>>,
    has_body: Cell<bool>,
    body: RefCell<Vec<u8>>,
    in_flight: Cell<usize>,
    is_slow: Cell<bool>,
    is_complete: Cell<bool>,
    is_broken: Cell<bool>,
    stuck: Cell<Option<u64>>,
    /// The client takes what the system has for it.
    takes: Cell<bool>,
}

/// Each side of the exchange.
struct Side(Rc<World>, Vec<u8>);

impl Log for Side {
    fn report(&self, _: Severity, text: Arguments<'_>) {
        self.0.log.borrow_mut().push(text.to_string());
    }
}

impl Request for Side {
    fn receive(&mut self, buffer: &mut Vec<u8>) -> Piece {
        if let Some(status) = self.0.refusal.get() {
            return Piece::Refused(HttpStatus(status));
        }
        let mut sent = self.0.sent.borrow_mut();
        let count = sent.len().min(1000);
        if count == 0 {
            return if self.0.is_whole.get() { Piece::End } else { Piece::Blocked };
        }
        buffer.extend(sent.drain(..count));
        Piece::Octets(count)
    }

    fn watch_client(&mut self) {
        assert!(!self.0.watched.replace(true));
    }
}

impl Program for Side {
    fn waiting(&self) -> usize {
        self.1.len()
    }

    fn reads(&self) -> bool {
        !self.0.input_ended.get() && !self.0.input_broken.get()
    }

    fn queue(&mut self) -> &mut Vec<u8> {
        assert!(self.reads());
        &mut self.1
    }

    fn flush(&mut self) {
        if self.0.input_broken.get() {
            self.1.clear();
            return;
        }
        let count = self.1.len().min(self.0.room.get());
        if count > 0 {
            self.0.room.set(self.0.room.get() - count);
            self.0.input.borrow_mut().extend(self.1.drain(..count));
            self.0.taken.set(self.0.now.get());
        }
    }

    fn end_input(&mut self) {
        self.1.clear();
        self.0.input_ended.set(true);
    }

    fn last_taken(&self) -> u64 {
        self.0.taken.get()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Output {
        self.0.paused.set(false);
        let mut written = self.0.written.borrow_mut();
        let count = written.len().min(buffer.len()).min(3000);
        if count == 0 {
            return if self.0.is_ended.get() { Output::End } else { Output::Blocked };
        }
        for (place, octet) in buffer.iter_mut().zip(written.drain(..count)) {
            *place = octet;
        }
        Output::Octets(count)
    }

    fn pause(&mut self) {
        self.0.paused.set(true);
    }

    fn pass_errors(&mut self) {}

    fn status(&self) -> Option<ExitStatus> {
        self.0.status.get()
    }

    fn leave(&mut self, grace: u64) {
        self.0.left.set(self.0.left.get() + 1);
        self.0.grace.set(grace);
    }
}

impl Response for Side {
    fn begin(&mut self, head: &Head) -> Result<bool, CgiEnd> {
        assert!(self.0.head.replace(Some(head.clone())).is_none());
        Ok(self.0.has_body.get())
    }

    fn push(&mut self, octets: Vec<u8>, last: bool) {
        assert!(self.0.has_body.get() && !self.0.is_complete.get());
        self.0.is_complete.set(last);
        self.1.extend(octets);
    }

    fn send(&mut self) -> Result<(), Lost> {
        assert!(self.0.head.borrow().is_some());
        if self.0.is_broken.get() {
            return Err(Lost);
        }
        if !self.0.is_slow.get() {
            self.0.body.borrow_mut().append(&mut self.1);
        }
        self.0.in_flight.set(self.1.len());
        Ok(())
    }

    fn cost(&self) -> usize {
        self.1.len()
    }

    fn stuck_since(&self) -> Option<u64> {
        self.0.stuck.get()
    }

    fn look(&mut self) -> Look {
        Look { taken: self.0.takes.get(), all: false }
    }
}

struct Server(Side);

impl Log for Server {
    fn report(&self, severity: Severity, text: Arguments<'_>) {
        self.0.report(severity, text);
    }
}

impl Host for Server {
    type Request = Side;
    type Program = Side;
    type Response = Side;
    type Record = Rc<Record>;

    fn now(&self) -> u64 {
        self.0.0.now.get()
    }

    fn set_timer(&mut self, milliseconds: u64) {
        self.0.0.timer.set(milliseconds);
    }

    fn post_turn(&mut self) {
        self.0.0.turns.set(self.0.0.turns.get() + 1);
    }

    fn open_account(&mut self) -> Option<OpenSession> {
        None
    }

    fn release(&mut self) {
        self.0.0.released.set(self.0.0.released.get() + 1);
    }
}

const SETTINGS: Settings = Settings {
    receive_limit: 10_000,
    send_limit: 10_000,
    header_timeout: 60_000,
    input_timeout: 30_000,
    send_timeout: 20_000,
};

struct Test {
    world: Rc<World>,
    record: Rc<Record>,
    exchange: Exchange<Server>,
    end: Option<CgiEnd>,
}

impl Test {
    /// An exchange with a client that has sent this, and all of it.
    fn new(body: &[u8]) -> Self {
        let world = Rc::new(World::default());
        world.has_body.set(true);
        world.room.set(usize::MAX);
        world.sent.borrow_mut().extend(body);
        world.is_whole.set(true);
        let side = || Side(Rc::clone(&world), Vec::new());
        let record = Rc::new(Record::default());
        let server = Server(side());
        let exchange = Exchange::new(server, side(), side(), side(), Rc::clone(&record), SETTINGS);
        let mut test = Test { world, record, exchange, end: None };
        test.exchange.begin();
        test
    }

    fn event(&mut self, body: impl FnOnce(&mut Exchange<Server>) -> Flow) {
        assert!(self.end.is_none(), "the exchange goes on");
        if let Flow::Break(end) = body(&mut self.exchange) {
            self.end = Some(end);
            self.exchange.release();
            assert!(self.exchange.is_over());
        }
    }

    fn pump(&mut self) {
        self.event(Exchange::pump);
    }
}

/// What only unit tests do.
#[cfg(test)]
impl Test {
    fn started(body: &[u8]) -> Self {
        let mut test = Self::new(body);
        test.event(|exchange| exchange.started(7));
        test
    }

    fn writes(&mut self, octets: &str) {
        self.world.written.borrow_mut().extend(octets.as_bytes());
        self.pump();
    }

    fn ends(&mut self, status: ExitStatus) {
        self.world.is_ended.set(true);
        self.world.status.set(Some(status));
        self.pump();
    }

    /// The timer fires, as it was set.
    fn fires(&mut self) {
        self.world.now.set(self.world.now.get() + self.world.timer.get());
        self.pump();
    }

    fn body(&self) -> String {
        String::from_utf8_lossy(&self.world.body.borrow()).into_owned()
    }

    fn log(&self) -> String {
        self.world.log.borrow().join("\n")
    }
}

const HEAD: &str = "Content-Type: text/plain\n\n";
const OK: ExitStatus = ExitStatus::Code(0);
