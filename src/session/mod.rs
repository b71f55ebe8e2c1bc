// SPDX-License-Identifier: Apache-2.0

//! One WebSocket between a client and its endpoint, as a state machine.
//!
//! Octets, time and "ready" go in; octets, a deadline and at last the end of the session come out. The server in which it
//! lives is behind [`Host`], the connection of its client behind [`Client`], and what it is connected to behind
//! [`Endpoint`]. Nothing here knows a socket, a clock or nginx, so that every interleaving of client, endpoint, timer, drain
//! and kill can be tried.
//!
//! Whatever happens, one method is called: [`pump`](Session::pump) when something is ready, [`on_time`](Session::on_time) for
//! the timer, [`drain`](Session::drain), [`farewell`](Session::farewell) and so on. It does what can be done and returns
//! whether the session goes on; [`conclude`](Session::conclude) is to be called with that, and what remains is up to the
//! host. A session that has ended does nothing any more.

mod account;
mod ahead;
pub mod buffers;
pub mod cgi;
pub mod client;
mod closing;
mod deadlines;
mod direct;
pub mod endpoint;
pub mod host;
pub mod output;
pub mod pace;
pub mod program;
mod pump;
mod reading;
pub mod record;
pub mod refusing;
pub mod shared;
#[cfg(any(test, fuzzing))]
pub mod simulation;
pub mod subscriber;
#[cfg(test)]
mod tests;

use std::mem;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use account::Account;
use ahead::Ahead;
use client::{Client, Unread};
use deadlines::Deadlines;
pub use deadlines::{HANGUP, SLOW_HANGUP};
pub use direct::Direct;
use direct::Passed;
use endpoint::{Ending, Endpoint, HttpStatus, Input};
use host::{Host, Severity};
use output::Output;
use pace::{Paces, Rates};
use program::LeftProgram;
use record::SessionTime;
use refusing::Refusing;

use crate::recording::{Direction, Recorder};
use crate::ws::close::CloseCode;
use crate::ws::connection::{Connection, Limits};
use crate::ws::deflate::Agreed;
use crate::ws::timing;

/// What a session is made with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Bounds of what the client sends and gets.
    pub limits: Limits,
    /// What was agreed on about compression.
    pub deflate: Option<Agreed>,
    /// The times of the location.
    pub timing: timing::Settings,
    /// How long a client that hung up waits for this endpoint, in milliseconds.
    pub patience: u64,
    /// Octets that may wait for the client before the endpoint is not read any more.
    pub send_limit: usize,
    /// How fast both sides are read.
    pub rates: Rates,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The session was refused before the 101.
    Refused(HttpStatus),
    /// The session ends in order: nothing is left to be said.
    Finished,
    /// The connection is broken or not worth a good-bye.
    Dropped,
}

/// Whether a session goes on after an event.
pub type Flow = ControlFlow<SessionEnd>;

/// How far a session has come, and what only that stage has.
enum SessionStage<A> {
    /// The session has no endpoint yet, or that is just being told that the client has gone. Nothing was answered.
    Created,
    /// The endpoint is being started; nothing was answered yet.
    Starting { acceptance: A, endpoint: Box<dyn Endpoint> },
    /// Messages go both ways.
    Open { endpoint: Box<dyn Endpoint> },
    /// The client sent what nobody takes; the endpoint's answers to what came before it still leave. The session ends as
    /// planned after that.
    Grace { endpoint: Box<dyn Endpoint>, planned: Ending },
    /// A Close went out, or came in; what is queued is sent, and the peer's Close awaited.
    Closing(Behind),
    /// Nothing more is read or sent: the end of the program that was left is waited for until this time, so that the log
    /// can tell of it.
    Parting { end: SessionEnd, until: u64, program: LeftProgram },
    /// Nothing of the session is left but its memory.
    Over,
}

/// What is behind a session that is closing.
enum Behind {
    /// The endpoint has ended, and takes what the client sends before its Close.
    Listening(Box<dyn Endpoint>),
    /// The endpoint has gone its own way; a program may end soon.
    Left(Option<LeftProgram>),
}

impl<A> SessionStage<A> {
    /// The endpoint, as long as there is one.
    fn endpoint(&self) -> Option<&dyn Endpoint> {
        match self {
            SessionStage::Starting { endpoint, .. }
            | SessionStage::Open { endpoint }
            | SessionStage::Grace { endpoint, .. }
            | SessionStage::Closing(Behind::Listening(endpoint)) => Some(&**endpoint),
            SessionStage::Created
            | SessionStage::Closing(Behind::Left(_))
            | SessionStage::Parting { .. }
            | SessionStage::Over => None,
        }
    }

    /// The endpoint, to be called.
    fn endpoint_mut(&mut self) -> Option<&mut (dyn Endpoint + 'static)> {
        match self {
            SessionStage::Starting { endpoint, .. }
            | SessionStage::Open { endpoint }
            | SessionStage::Grace { endpoint, .. }
            | SessionStage::Closing(Behind::Listening(endpoint)) => Some(&mut **endpoint),
            SessionStage::Created
            | SessionStage::Closing(Behind::Left(_))
            | SessionStage::Parting { .. }
            | SessionStage::Over => None,
        }
    }

    fn is_answered(&self) -> bool {
        !matches!(self, SessionStage::Created | SessionStage::Starting { .. })
    }
}

/// The state of one WebSocket.
pub struct Session<H: Host> {
    host: H,
    client: H::Client,
    record: H::Record,
    ws: Connection,
    stage: SessionStage<H::Acceptance>,
    output: Output,
    /// What went out by the short way.
    passed: Passed,
    /// Who writes down what is said, if somebody does. It is told of what goes to the client when that is queued.
    recorder: Option<Box<Recorder>>,
    /// Octets of the client that were not looked at yet.
    unparsed: Vec<u8>,
    /// Messages of the client that the endpoint could not take yet.
    ahead: Ahead,
    /// The endpoint got something that it may still answer.
    answers_due: bool,
    /// Octets of Pongs that were queued while the output was over its limit.
    pongs_beyond: usize,
    /// The client's Close has come.
    client_closed: bool,
    /// Octets that may wait for the client before the endpoint is not read any more.
    send_limit: usize,
    /// How fast both sides are read, where there is a limit.
    paces: Option<Box<Paces>>,
    deadlines: Deadlines,
    account: Account,
}

impl<H: Host> Session<H> {
    /// A session whose endpoint is given to it by [`attach`](Self::attach).
    pub fn new(host: H, client: H::Client, record: H::Record, settings: &Settings) -> Self {
        let Settings { limits, deflate, timing, patience, send_limit, rates } = *settings;
        let now = host.now();
        Session {
            host,
            client,
            record,
            ws: Connection::with(limits, deflate),
            stage: SessionStage::Created,
            output: Output::default(),
            passed: Passed::default(),
            recorder: None,
            unparsed: Vec::new(),
            ahead: Ahead::default(),
            answers_due: false,
            pongs_beyond: 0,
            client_closed: false,
            send_limit,
            paces: Paces::new(rates, now),
            deadlines: Deadlines::new(timing, patience, now),
            account: Account::default(),
        }
    }

    /// The server in which it lives.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The server in which the session lives, to be changed.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// Gives the session its endpoint, which is starting; the acceptance is answered when it has started.
    pub fn attach(&mut self, acceptance: H::Acceptance, endpoint: Box<dyn Endpoint>) {
        debug_assert!(matches!(self.stage, SessionStage::Created), "a session has one endpoint");
        self.stage = SessionStage::Starting { acceptance, endpoint };
        let time = self.deadlines.wait(self.host.now());
        self.host.set_timer(time);
    }

    /// The endpoint that was starting has done what is before the start of another one, which takes its place.
    pub fn exchange(&mut self, endpoint: Box<dyn Endpoint>) -> Flow {
        let mut other = endpoint;
        if let SessionStage::Starting { endpoint, .. } = &mut self.stage {
            mem::swap(endpoint, &mut other);
        }
        // Where the session does not start any more, nobody is there for the new one.
        other.flush();
        if let Some(program) = other.client_gone(Input::Whole) {
            program.is_awaited.set(false);
        }
        self.pump()
    }

    /// The endpoint has started: answers 101 and begins.
    pub fn opened(&mut self) -> Flow {
        let SessionStage::Starting { acceptance, .. } = &self.stage else { return Flow::Continue(()) };
        if !self.host.accept(acceptance) {
            return Flow::Break(SessionEnd::Dropped);
        }
        self.stage = match mem::replace(&mut self.stage, SessionStage::Created) {
            SessionStage::Starting { endpoint, .. } => SessionStage::Open { endpoint },
            other => other,
        };
        self.record.time.set(SessionTime::Since(self.host.now()));
        if self.stage.endpoint().is_some_and(|endpoint| !endpoint.is_refusal()) {
            self.recorder = self.host.open_recording();
        }
        self.passed.figures = self.account.open(self.host.open_account());
        if let Some(at) = self.host.late_drain() {
            self.deadlines.timers().on_drain(at);
        }
        if !self.host.listen(&mut self.client, &mut self.unparsed) {
            return Flow::Break(SessionEnd::Dropped);
        }
        self.pump()
    }

    /// The program of this session runs; `terminal` is our side of its terminal, if it was to be given one by its spawner.
    pub fn program_started(&mut self, pid: i32, terminal: Option<OwnedFd>) -> Flow {
        if let Some(endpoint) = self.stage.endpoint_mut()
            && let Err(status) = endpoint.attach(terminal)
        {
            return Flow::Break(SessionEnd::Refused(status));
        }
        self.record.exec_pid.set(Some(pid));
        self.opened()
    }

    /// The window that compressed messages for several sessions must keep to; none where nothing is compressed.
    pub fn shared_window(&self) -> Option<u8> {
        self.ws.shared_window()
    }

    /// The endpoint is gone without a word.
    pub fn endpoint_lost(&mut self, reason: &str) -> Flow {
        match self.stage {
            SessionStage::Created | SessionStage::Starting { .. } => {
                Flow::Break(SessionEnd::Refused(HttpStatus::INTERNAL))
            }
            SessionStage::Open { .. } | SessionStage::Grace { .. } | SessionStage::Closing(Behind::Listening(_)) => {
                self.begin_close(CloseCode::INTERNAL, reason);
                self.pump()
            }
            SessionStage::Closing(Behind::Left(_)) | SessionStage::Parting { .. } | SessionStage::Over => {
                Flow::Continue(())
            }
        }
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, SessionStage::Over)
    }

    /// What an event has come to: a session that goes on lets its location's figures know what has passed, and one that ends
    /// lets go of everything but its memory. `None` while it goes on.
    pub fn conclude(&mut self, flow: Flow) -> Option<SessionEnd> {
        let flow = match flow {
            Flow::Break(SessionEnd::Refused(status)) => self.refuse_openly(status).unwrap_or(flow),
            Flow::Break(_) | Flow::Continue(()) => flow,
        };
        let Flow::Break(end) = flow else {
            self.settle();
            self.account.settle(&self.record);
            if let Some(recorder) = &mut self.recorder {
                recorder.flush();
            }
            return None;
        };
        if end == SessionEnd::Finished {
            self.linger();
        }
        Some(end)
    }

    /// The endpoint cannot start: opens the session all the same if its client is to be told by a Close. `None` if it is
    /// told by the status.
    fn refuse_openly(&mut self, status: HttpStatus) -> Option<Flow> {
        let SessionStage::Starting { acceptance, .. } = &mut self.stage else { return None };
        let ending = self.host.refusal(status, acceptance)?;
        let SessionStage::Starting { acceptance, mut endpoint } = mem::replace(&mut self.stage, SessionStage::Created)
        else {
            return None;
        };
        endpoint.flush();
        if let Some(program) = endpoint.client_gone(Input::Whole) {
            program.is_awaited.set(false);
        }
        self.stage = SessionStage::Starting { acceptance, endpoint: Box::new(Refusing::new(ending)) };
        Some(self.pump())
    }

    /// Sees to it that the end of the request does not reset the connection.
    fn linger(&mut self) {
        // A client that has said Close sends no more (RFC 6455, section 5.5.1).
        let expected = match self.client.discard_input() {
            Unread::Nothing => !self.client_closed,
            Unread::Some => true,
            Unread::End => false,
        };
        if expected {
            self.host.linger(&mut self.client);
        }
    }

    /// Gives back what the session holds, the request above all. The program is told that its client is gone.
    pub fn release(&mut self) {
        if self.is_over() {
            return;
        }
        let opened = self.stage.is_answered();
        let program = self.leave_endpoint();
        self.stage = SessionStage::Over;
        self.settle();
        let closed = self.ws.closed();
        let status = program.and_then(|program| {
            program.is_awaited.set(false);
            program.end.status()
        });
        self.record.closed.set(closed);
        self.record.ended.set(opened);
        self.record.time.set(self.record.time.get().end(self.host.now()));
        self.record.exec_status.set(self.record.exec_status.get().or(status));
        self.account.close(&self.record, closed.as_ref(), self.host.now());
        if let Some(mut recorder) = self.recorder.take() {
            recorder.at(self.host.now());
            recorder.end(self.record.close_code());
        }
        if !self.output.is_empty() {
            self.client.give_up();
        }
        self.output = Output::default();
        self.unparsed = Vec::new();
        self.host.release();
    }

    /// Says good-bye in the one write that is left: the worker or nginx's timer is taking the connection away.
    pub fn farewell(&mut self) {
        match self.stage {
            SessionStage::Open { .. } | SessionStage::Grace { .. } => {
                // What nginx still has of the 101 must not be overtaken.
                if !self.client.is_drained() && self.client.drain() != Ok(true) {
                    return;
                }
                self.send_close(CloseCode::GOING_AWAY, "");
                self.output.flush(&mut self.client);
                self.client.discard_input();
            }
            SessionStage::Created
            | SessionStage::Starting { .. }
            | SessionStage::Closing(_)
            | SessionStage::Parting { .. }
            | SessionStage::Over => {}
        }
    }

    /// Makes our Close, unless one has gone out.
    fn send_close(&mut self, code: CloseCode, reason: &str) {
        if self.ws.close(code, reason, self.output.frames())
            && let Some(recorder) = &mut self.recorder
        {
            recorder.at(self.host.now());
            recorder.close(Direction::Out, Some(code), reason);
        }
    }

    /// The endpoint gets what the client has sent and no more, and goes its own way. Returns the program that is left, now or
    /// before. The caller sets the stage that follows.
    fn leave_endpoint(&mut self) -> Option<LeftProgram> {
        let input = self.input();
        let between =
            if self.stage.is_answered() { SessionStage::Closing(Behind::Left(None)) } else { SessionStage::Created };
        let mut endpoint = match mem::replace(&mut self.stage, between) {
            SessionStage::Starting { endpoint, .. }
            | SessionStage::Open { endpoint }
            | SessionStage::Grace { endpoint, .. }
            | SessionStage::Closing(Behind::Listening(endpoint)) => endpoint,
            SessionStage::Closing(Behind::Left(program)) => return program,
            SessionStage::Parting { program, .. } => return Some(program),
            SessionStage::Created | SessionStage::Over => return None,
        };
        while let Some(piece) = self.ahead.pop() {
            if endpoint.deliver(&piece.data()).is_err() {
                // What it cannot take has no other consequence now.
                self.ahead.clear();
            }
        }
        endpoint.flush();
        endpoint.client_gone(input)
    }

    /// Whether there is more of the client than was looked at. After its Close, or a violation, nothing counts.
    fn input(&self) -> Input {
        let looks = self.ws.is_open() || self.ws.awaits_close();
        let left = looks && self.stage.is_answered() && (!self.unparsed.is_empty() || self.client.has_unread());
        if left { Input::Cut } else { Input::Whole }
    }

    fn report(&self, severity: Severity, text: std::fmt::Arguments<'_>) {
        self.host.report(severity, text);
    }
}
