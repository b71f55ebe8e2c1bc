// SPDX-License-Identifier: Apache-2.0

//! Exchanges in a server that is only as fast as a test lets it be.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Arguments;
use std::rc::Rc;

use proptest::prelude::*;

use super::{CgiEnd, Exchange, Flow, Host, LAST_WORD, Output, Piece, Program, Request, Response, Settings, UNWANTED};
use crate::exec::cgi::Head;
use crate::exec::spawner::ExitStatus;
use crate::ledger::OpenSession;
use crate::session::client::Lost;
use crate::session::endpoint::HttpStatus;
use crate::session::host::{Log, Severity};
use crate::session::record::Record;

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

    fn started(body: &[u8]) -> Self {
        let mut test = Self::new(body);
        test.event(|exchange| exchange.started(7));
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

#[test]
fn a_document() {
    let mut test = Test::started(b"");
    assert!(test.world.watched.get() && test.world.input_ended.get());
    test.writes("Content-Type: text/plain\r\n");
    assert!(test.world.head.borrow().is_none());
    test.writes("\r\nfirst\n");
    assert_eq!(test.body(), "first\n");
    test.writes("last");
    assert_eq!((test.body().as_str(), test.world.is_complete.get()), ("first\nlast", false));
    test.ends(OK);
    assert_eq!(test.end, Some(CgiEnd::Finished));
    assert!(test.world.is_complete.get() && test.log().is_empty());
    assert_eq!((test.world.left.get(), test.world.released.get()), (1, 1));
    assert_eq!(test.record.exec_pid.get(), Some(7));
    assert_eq!(test.record.exec_status.get(), Some(OK));
    assert_eq!(test.record.bytes_out.get(), 10);
    test.exchange.release();
    assert_eq!((test.world.left.get(), test.world.released.get()), (1, 1));
}

#[test]
fn a_program_that_ends_before_it_is_read() {
    let mut test = Test::started(b"");
    test.world.written.borrow_mut().extend(HEAD.bytes().chain("x".repeat(9_000).bytes()));
    test.ends(ExitStatus::Code(3));
    assert_eq!((test.end.clone(), test.body().len()), (Some(CgiEnd::Finished), 9_000));
    assert_eq!(test.record.exec_status.get(), Some(ExitStatus::Code(3)));
}

#[test]
fn the_status_of_a_program_is_waited_for_a_moment() {
    let mut test = Test::started(b"");
    test.writes(&format!("{HEAD}body"));
    test.world.is_ended.set(true);
    test.pump();
    assert_eq!((test.end.clone(), test.body().as_str()), (None, "body"));
    assert_eq!(test.world.timer.get(), LAST_WORD);
    test.fires();
    assert_eq!((test.end, test.world.is_complete.get()), (Some(CgiEnd::Finished), true));
    assert_eq!(test.record.exec_status.get(), None);
}

#[test]
fn what_is_no_response() {
    for (written, text) in [
        ("", "wrote nothing"),
        ("Content-Type: text/plain\n", "no complete header"),
        ("Content-Type: text/plain", "no complete header"),
    ] {
        let mut test = Test::started(b"");
        test.writes(written);
        test.ends(ExitStatus::Signal(11));
        assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(502))), "{written}");
        assert!(test.log().contains(text), "{}", test.log());
        assert_eq!(test.record.exec_status.get(), Some(ExitStatus::Signal(11)));
    }
    for written in ["\nbody", "<html>\n\n", "Status: 99\n\n", &"x".repeat(100_000)] {
        let mut test = Test::started(b"");
        test.world.written.borrow_mut().extend(written.as_bytes());
        while test.end.is_none() {
            test.pump();
        }
        assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(502))));
        assert!(test.log().contains("the program wrote"), "{}", test.log());
    }
}

#[test]
fn no_header_in_time() {
    let mut test = Test::started(b"");
    assert_eq!(test.world.timer.get(), 60_000);
    test.world.now.set(59_999);
    test.writes("Content-Type: text/plain\n");
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, 1));
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(504))));
    // Once it is there, the program may take its time.
    let mut test = Test::started(b"");
    test.writes(HEAD);
    test.world.now.set(10_000_000);
    test.writes("late");
    assert_eq!((test.end.clone(), test.body().as_str()), (None, "late"));
}

#[test]
fn the_header_is_waited_for_from_the_end_of_the_body_on() {
    let mut test = Test::new(b"first");
    test.world.is_whole.set(false);
    test.event(|exchange| exchange.started(7));
    // The program waits for a client that is slow.
    for now in [59_000, 200_000, 1_000_000] {
        test.world.now.set(now);
        test.world.sent.borrow_mut().extend(b"piece");
        test.pump();
        assert_eq!(test.end, None);
        assert!(test.world.timer.get() > 60_000);
    }
    test.world.is_whole.set(true);
    test.world.now.set(1_010_000);
    test.pump();
    assert_eq!(test.world.timer.get(), 50_000);
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(504))));
    // A program that does not read the body waits for nothing.
    let mut test = Test::new(b"first");
    test.world.is_whole.set(false);
    test.event(|exchange| exchange.started(7));
    test.world.input_broken.set(true);
    test.world.now.set(59_000);
    test.world.sent.borrow_mut().extend(b"piece");
    test.pump();
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, 1_000));
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(504))));
    // Nor does one that leaves what it was given unread.
    let mut test = Test::new(&[1; 50_000]);
    test.world.room.set(5_000);
    test.exchange.settings.input_timeout = 0;
    test.event(|exchange| exchange.started(7));
    assert_eq!(test.world.timer.get(), 60_000);
}

#[test]
fn a_body_that_is_shorter_than_announced() {
    let mut test = Test::started(b"");
    test.writes("Content-Length: 5\n\nbody");
    test.ends(OK);
    assert_eq!((test.end.clone(), test.world.is_complete.get()), (Some(CgiEnd::Lost), false));
    assert!(test.log().contains("1 octets less"), "{}", test.log());
}

#[test]
fn a_body_that_is_as_long_as_announced() {
    for (head, body, log) in [
        ("Content-Length: 4", "body", ""),
        ("Content-Length: 4", "body and more", "more"),
        ("Content-Length: 0", "", ""),
    ] {
        let mut test = Test::started(b"");
        test.writes(&format!("{head}\n\n{body}"));
        assert_eq!((test.body().as_str(), test.world.is_complete.get()), (body.get(..4).unwrap_or(body), true));
        assert_eq!(test.end, None);
        test.writes("what nobody reads");
        test.ends(ExitStatus::Signal(9));
        assert_eq!(test.end, Some(CgiEnd::Finished));
        assert_eq!(test.log().contains("more than its Content-Length"), !log.is_empty(), "{}", test.log());
    }
}

#[test]
fn a_response_that_is_cut_short_does_not_look_whole() {
    let mut test = Test::started(b"");
    test.writes(&format!("{HEAD}half of it"));
    test.ends(ExitStatus::Signal(9));
    assert_eq!((test.end.clone(), test.world.is_complete.get()), (Some(CgiEnd::Lost), false));
    assert!(test.log().contains("killed by signal 9"), "{}", test.log());
}

#[test]
fn a_response_without_a_body() {
    let mut test = Test::new(b"");
    test.world.has_body.set(false);
    test.event(|exchange| exchange.started(7));
    test.writes(&format!("{HEAD}body"));
    assert!(test.world.head.borrow().is_some());
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, LAST_WORD));
    test.ends(OK);
    assert_eq!((test.end.clone(), test.body().as_str()), (Some(CgiEnd::Finished), ""));
}

#[test]
fn a_program_that_goes_on_does_not_keep_its_client() {
    for (has_body, head) in [(false, HEAD), (true, "Content-Length: 4\n\nbody"), (true, "Content-Length: 0\n\n")] {
        let mut test = Test::new(b"");
        test.world.has_body.set(has_body);
        test.event(|exchange| exchange.started(7));
        test.writes(head);
        assert_eq!(test.world.is_complete.get(), has_body);
        test.world.now.set(LAST_WORD - 1);
        test.writes("what nobody reads");
        assert_eq!((test.end.clone(), test.world.timer.get()), (None, 1));
        test.fires();
        // It has time to write the rest, and is read as long.
        let world = &test.world;
        assert_eq!((test.end, world.left.get(), world.grace.get()), (Some(CgiEnd::Finished), 1, UNWANTED - LAST_WORD));
    }
    // The response is not complete before.
    let mut test = Test::started(b"");
    test.writes("Content-Length: 5\n\nbody");
    test.world.is_broken.set(true);
    test.pump();
    assert_eq!((test.end, test.world.grace.get()), (Some(CgiEnd::Lost), 0));
}

#[test]
fn the_body_of_a_request() {
    let body: Vec<u8> = (0..25_000_u32).map(|number| number as u8).collect();
    let mut test = Test::new(&body[..9_000]);
    test.world.is_whole.set(false);
    assert!(test.exchange.is_held_back());
    test.event(|exchange| exchange.started(7));
    assert!(!test.exchange.is_held_back());
    assert_eq!(*test.world.input.borrow(), body[..9_000]);
    assert!(!test.world.input_ended.get());
    test.world.sent.borrow_mut().extend(&body[9_000..]);
    test.world.is_whole.set(true);
    test.pump();
    assert_eq!(*test.world.input.borrow(), body);
    assert!(test.world.input_ended.get() && test.world.watched.get());
    assert_eq!(test.record.bytes_in.get(), 25_000);
}

#[test]
fn a_program_that_does_not_read_holds_the_client_back() {
    let mut test = Test::new(&[1; 50_000]);
    test.world.room.set(5_000);
    test.event(|exchange| exchange.started(7));
    assert_eq!(test.world.input.borrow().len(), 5_000);
    assert_eq!(test.world.sent.borrow().len(), 35_000);
    assert!(test.exchange.is_held_back());
    test.world.room.set(10_000);
    test.pump();
    assert_eq!(test.world.sent.borrow().len(), 25_000);
    // It is given up in the end.
    assert_eq!(test.world.timer.get(), 30_000);
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(504))));
    // One that answers without reading everything does as it likes.
    let mut test = Test::new(&[1; 50_000]);
    test.world.room.set(5_000);
    test.event(|exchange| exchange.started(7));
    test.writes(HEAD);
    test.world.now.set(1_000_000);
    test.writes("body");
    assert_eq!(test.end, None);
    test.ends(OK);
    assert_eq!(test.end, Some(CgiEnd::Finished));
}

#[test]
fn what_a_program_does_not_want_is_received_all_the_same() {
    let mut test = Test::new(&[1; 50_000]);
    test.world.room.set(5_000);
    test.event(|exchange| exchange.started(7));
    test.world.input_broken.set(true);
    test.pump();
    assert!(test.world.sent.borrow().is_empty() && test.world.watched.get());
    assert!(test.exchange.unwanted.len() < 2_000);
}

#[test]
fn many_pieces_take_several_turns() {
    let mut test = Test::started(&[1; 100_000]);
    assert_eq!((test.world.turns.get(), test.world.sent.borrow().len()), (1, 36_000));
    test.pump();
    assert!(test.world.sent.borrow().is_empty());
    test.world.written.borrow_mut().extend(HEAD.bytes().chain([b'x'; 40_000]));
    test.pump();
    assert_eq!(test.world.turns.get(), 2);
}

#[test]
fn a_body_that_cannot_be_received() {
    for status in [400, 408, 413] {
        let mut test = Test::new(b"half");
        test.world.is_whole.set(false);
        test.event(|exchange| exchange.started(7));
        test.world.refusal.set(Some(status));
        test.pump();
        assert_eq!(test.end, Some(CgiEnd::Refused(HttpStatus(status))));
        let mut test = Test::new(b"half");
        test.world.is_whole.set(false);
        test.event(|exchange| exchange.started(7));
        test.writes(HEAD);
        test.world.refusal.set(Some(status));
        test.pump();
        assert_eq!(test.end, Some(CgiEnd::Lost));
    }
}

#[test]
fn a_slow_client_holds_the_program_back() {
    let mut test = Test::started(b"");
    test.world.is_slow.set(true);
    test.world.written.borrow_mut().extend(HEAD.bytes().chain([b'x'; 60_000]));
    test.pump();
    assert!(test.world.paused.get());
    assert!((10_000..14_000).contains(&test.world.in_flight.get()));
    test.pump();
    assert!(test.world.in_flight.get() < 14_000);
    test.world.is_slow.set(false);
    for _ in 0..10 {
        test.pump();
    }
    assert_eq!((test.body().len(), test.world.paused.get()), (60_000, false));
    test.world.stuck.set(Some(5));
    test.pump();
    assert_eq!(test.world.timer.get(), 20_005);
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Lost));
}

#[test]
fn a_client_that_is_lost() {
    let mut test = Test::started(b"");
    test.writes(HEAD);
    test.world.is_broken.set(true);
    test.writes("x");
    assert_eq!((test.end, test.world.left.get()), (Some(CgiEnd::Lost), 1));
}

#[test]
fn a_local_redirect() {
    let mut test = Test::new(b"half");
    test.world.is_whole.set(false);
    test.world.room.set(2);
    test.event(|exchange| exchange.started(7));
    test.writes("Location: /other?a=b\nX: y\n\nignored");
    assert!(test.world.head.borrow().is_none() && test.world.input_ended.get());
    test.ends(OK);
    // The rest of the body is in the way of whatever comes next.
    assert_eq!(test.end, None);
    test.world.sent.borrow_mut().extend(b"rest");
    test.world.is_whole.set(true);
    test.pump();
    assert_eq!(test.end, Some(CgiEnd::Redirect(b"/other?a=b".to_vec())));
    assert!(test.world.head.borrow().is_none());
}

#[test]
fn a_local_redirect_of_a_program_that_goes_on() {
    let mut test = Test::started(b"");
    test.writes("Location: /other\n\n");
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, UNWANTED));
    test.world.now.set(UNWANTED - 1);
    test.writes("ignored");
    assert_eq!((test.end.clone(), test.world.timer.get()), (None, 1));
    test.fires();
    assert_eq!(test.end, Some(CgiEnd::Redirect(b"/other".to_vec())));
    // The body comes to its end all the same.
    let mut test = Test::new(b"half");
    test.world.is_whole.set(false);
    test.event(|exchange| exchange.started(7));
    test.writes("Location: /other\n\n");
    test.fires();
    assert_eq!((test.end.clone(), test.world.paused.get()), (None, true));
    test.world.is_whole.set(true);
    test.pump();
    assert_eq!(test.end, Some(CgiEnd::Redirect(b"/other".to_vec())));
}

#[test]
fn a_program_that_is_lost() {
    let mut test = Test::new(b"");
    test.event(|exchange| exchange.lost(false));
    assert_eq!(test.end, Some(CgiEnd::TryAgain));
    for (written, end) in
        [("", CgiEnd::Refused(HttpStatus(502))), ("X: y\n", CgiEnd::Refused(HttpStatus(502))), (HEAD, CgiEnd::Lost)]
    {
        let mut test = Test::started(b"");
        test.writes(written);
        test.event(|exchange| exchange.lost(true));
        assert_eq!(test.end, Some(end), "{written}");
    }
}

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    Send(u16),
    SendAll,
    Write(u16),
    End(bool),
    Exit,
    Room(u16),
    Slow(bool),
    Break,
    Time,
    Turn,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<u16>().prop_map(Event::Send),
        Just(Event::SendAll),
        any::<u16>().prop_map(Event::Write),
        any::<bool>().prop_map(Event::End),
        Just(Event::Exit),
        any::<u16>().prop_map(Event::Room),
        any::<bool>().prop_map(Event::Slow),
        Just(Event::Break),
        Just(Event::Time),
        Just(Event::Turn),
    ]
}

proptest! {
    /// Whatever the order of events, a program gets nothing but the beginning of the body, a client nothing but the beginning of the
    /// output, both of them all of it where nothing failed, and little is kept in between.
    #[test]
    fn any_order(events in prop::collection::vec(event(), 0..40), has_length: bool) {
        let octets = |count: usize| (0..count).map(|number| (number % 251) as u8);
        let (mut sent, mut written) = (0, 0);
        let mut test = Test::new(b"");
        test.world.is_whole.set(false);
        test.event(|exchange| exchange.started(7));
        let head = if has_length { "Content-Length: 30000\n\n" } else { HEAD };
        test.world.written.borrow_mut().extend(head.bytes());
        for event in events {
            if test.end.is_some() {
                break;
            }
            let world = Rc::clone(&test.world);
            match event {
                Event::Send(count) if !world.is_whole.get() => {
                    let count = usize::from(count);
                    world.sent.borrow_mut().extend(octets(sent + count).skip(sent));
                    sent += count;
                }
                Event::SendAll => world.is_whole.set(true),
                Event::Write(count) if !world.is_ended.get() => {
                    let count = usize::from(count);
                    world.written.borrow_mut().extend(octets(written + count).skip(written));
                    written += count;
                }
                Event::End(ended) => world.is_ended.set(ended || world.is_ended.get()),
                Event::Exit => {
                    world.is_ended.set(true);
                    world.status.set(Some(OK));
                }
                Event::Room(room) => world.room.set(usize::from(room)),
                Event::Slow(slow) => world.is_slow.set(slow),
                Event::Break => world.input_broken.set(true),
                Event::Time => world.now.set(world.now.get() + world.timer.get()),
                Event::Turn | Event::Send(_) | Event::Write(_) => {}
            }
            test.pump();
            prop_assert!(test.world.timer.get() > 0);
            prop_assert!(test.world.in_flight.get() <= SETTINGS.send_limit + 3_000);
        }
        let input = test.world.input.borrow();
        prop_assert!(input.len() <= sent && input.iter().copied().eq(octets(input.len())));
        let body = test.world.body.borrow();
        let most = if has_length { written.min(30_000) } else { written };
        prop_assert!(body.len() <= most && body.iter().copied().eq(octets(body.len())));
        if test.end == Some(CgiEnd::Finished) && !test.world.is_slow.get() {
            prop_assert!(body.len() == most && test.world.is_complete.get());
        }
        prop_assert_eq!(test.world.released.get(), u32::from(test.end.is_some()));
    }
}
