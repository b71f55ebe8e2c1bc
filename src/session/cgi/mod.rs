// SPDX-License-Identifier: Apache-2.0

//! A request that a CGI program answers, as a state machine: the body of the request goes to the program's standard input, and what
//! it writes becomes the response, both as they come.
//!
//! Neither side is waited for by the worker, and little is kept: while the program does not read, the client is not read, and
//! while the client does not take the response, the program is not read. The request is behind [`Request`], the program behind
//! [`Program`], the response behind [`Response`], and the server behind [`Host`]; nothing here knows nginx, so that every
//! order of their events can be tried.
//!
//! Whatever happens, one method is called, which returns whether the exchange goes on; when it does not,
//! [`release`](Exchange::release) is to be called, and the request is ended as was said.

#[cfg(any(test, fuzzing))]
pub mod simulation;
mod turn;

use std::mem;
use std::ops::{ControlFlow, Deref};

use super::account::Account;
use super::client::Lost;
use super::endpoint::HttpStatus;
use super::host::{Log, Severity};
use super::record::Record;
use crate::exec::cgi::{Head, HeadReader};
use crate::exec::spawner::ExitStatus;
use crate::ledger::OpenSession;
use crate::ws::timing::Look;

/// How an exchange ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgiEnd {
    /// The response is whole.
    Finished,
    /// The connection is lost, or the response must not look whole.
    Lost,
    /// Nothing was sent: this status is the answer.
    Refused(HttpStatus),
    /// The same, and the client may come back soon: 503 with `Retry-After`.
    TryAgain,
    /// The server answers with what it has under this path and query (RFC 3875, section 6.2.2).
    Redirect(Vec<u8>),
}

/// Whether an exchange goes on after an event.
pub type Flow = ControlFlow<CgiEnd>;

impl From<Lost> for CgiEnd {
    fn from(Lost: Lost) -> Self {
        CgiEnd::Lost
    }
}

/// What came of the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many octets, one or more.
    Octets(usize),
    /// Nothing for now.
    Blocked,
    /// All of it has been received.
    End,
    /// It cannot be received: this is the answer, if there is none yet.
    Refused(HttpStatus),
}

/// The request.
pub trait Request {
    /// Receives a piece of the body, which is appended to the buffer.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> Piece;

    /// All of the body has been received: from now on the client is watched only so that it is noticed when it goes.
    fn watch_client(&mut self);
}

/// What a read of the program's output brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// So many octets, one or more.
    Octets(usize),
    /// Nothing for now. The exchange is run when there is something.
    Blocked,
    /// There will be nothing any more.
    End,
}

/// The program, once it has been asked for.
pub trait Program {
    /// Octets that wait for it to read.
    fn waiting(&self) -> usize;

    /// Whether its standard input is open on both sides.
    fn reads(&self) -> bool;

    /// Where octets are appended that are for it.
    fn queue(&mut self) -> &mut Vec<u8>;

    /// Writes what it takes of them. The exchange is run when it takes more.
    fn flush(&mut self);

    /// Its standard input ends.
    fn end_input(&mut self);

    /// When it was known to take something last.
    fn last_taken(&self) -> u64;

    /// Reads its standard output.
    fn read(&mut self, buffer: &mut [u8]) -> Output;

    /// Its output is not read for now: nothing is to be told of it.
    fn pause(&mut self);

    /// Passes on what it has written to its standard error, and takes what it has noted for the log.
    fn pass_errors(&mut self);

    /// How it ended, if it has.
    fn status(&self) -> Option<ExitStatus>;

    /// Nobody has to do with it any more: what is left of it is stopped, when it has closed its standard output or so many
    /// milliseconds have passed.
    fn leave(&mut self, grace: u64);
}

/// The response.
pub trait Response {
    /// Sends the head. Whether a body is to follow.
    ///
    /// # Errors
    ///
    /// What the request ends with.
    fn begin(&mut self, head: &Head) -> Result<bool, CgiEnd>;

    /// Adds to the body; nothing comes after the last piece.
    fn push(&mut self, octets: Vec<u8>, last: bool);

    /// Sends what was added.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    fn send(&mut self) -> Result<(), Lost>;

    /// What the pieces that were not sent yet cost, in octets.
    fn cost(&self) -> usize;

    /// Since when the client has taken nothing of what is being sent.
    fn stuck_since(&self) -> Option<u64>;

    /// Looks what the client has taken of what the system has for it.
    fn look(&mut self) -> Look;
}

/// What an exchange needs of its server besides.
pub trait Host: Log {
    /// The request.
    type Request: Request;
    /// The program.
    type Program: Program;
    /// The response.
    type Response: Response;
    /// What is known of the request when it is logged.
    type Record: Deref<Target = Record>;

    /// Milliseconds of a monotonic clock, as of the current turn of the event loop.
    fn now(&self) -> u64;

    /// Lets the timer fire in so many milliseconds, and at no other time.
    fn set_timer(&mut self, milliseconds: u64);

    /// Lets the exchange have another turn after the events that are waiting now.
    fn post_turn(&mut self);

    /// Counts it among those of its location.
    fn open_account(&mut self) -> Option<OpenSession>;

    /// Lets go of everything that would call the exchange, its request above all. The program has been left.
    fn release(&mut self);
}

/// What the location says about its programs. Times are in milliseconds, 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Octets of the body that may wait for the program.
    pub receive_limit: usize,
    /// Octets of the response that may be on their way to the client.
    pub send_limit: usize,
    /// Time in which the header of the response has to be complete, once the program has got the body of the request.
    pub header_timeout: u64,
    /// Time in which the program must take something of what waits for it, as long as it has answered nothing.
    pub input_timeout: u64,
    /// Time in which the client must take something of the response.
    pub send_timeout: u64,
}

/// How long it is waited for the end of a program that has closed its standard output, or whose response is complete: that is told
/// in the log, and a program that was killed has not said all that it had to say. The client's next request waits as long.
pub const LAST_WORD: u64 = 500;

/// How long the output of a program is read that nobody gets: the response has no body, is complete, or is a local redirect.
pub const UNWANTED: u64 = 5_000;

/// Where the output of the program goes, and what only that stage has.
enum Stage {
    /// The program is being started.
    Starting,
    /// The header of the response is not complete. The program has been able to write it since then: it has been started, and a piece
    /// of the body has come for it.
    Head { reader: HeadReader, since: u64 },
    /// The server answers with something else, once the client has sent everything, and the program has written everything or has
    /// had time until then; `None` when it is not waited for any more.
    Redirect { to: Vec<u8>, until: Option<u64> },
    /// The body of the response; `left` octets of it are missing, where that is known.
    Body { left: Option<u64> },
    /// The response is complete, or has no body, since then: what the program writes is dropped.
    Unwanted { since: u64 },
    /// The program has closed its standard output; it is waited for its end until then.
    Ended { ending: Ending, until: u64 },
    /// The exchange has ended or is ending.
    Over,
}

/// How the output of a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The response was complete before.
    Complete,
    /// As it should, as far as can be known of a body whose length was not announced.
    Open,
    /// Not even the header was complete; whether there was any of it.
    WithoutHead { is_empty: bool },
    /// So many octets less than it had announced.
    Short(u64),
}

/// A request that a program answers.
pub struct Exchange<H: Host> {
    host: H,
    request: H::Request,
    program: H::Program,
    response: H::Response,
    record: H::Record,
    settings: Settings,
    stage: Stage,
    /// All of the body of the request has been received.
    is_received: bool,
    /// What is received of a body that nobody wants.
    unwanted: Vec<u8>,
    /// When the client was last seen to take something of what the system has for it.
    took: u64,
    account: Account,
}

impl<H: Host> Exchange<H> {
    /// An exchange whose program is being started.
    pub fn new(
        host: H,
        request: H::Request,
        program: H::Program,
        response: H::Response,
        record: H::Record,
        settings: Settings,
    ) -> Self {
        Exchange {
            host,
            request,
            program,
            response,
            record,
            settings,
            stage: Stage::Starting,
            is_received: false,
            unwanted: Vec::new(),
            took: 0,
            account: Account::default(),
        }
    }

    /// The server in which it lives.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The same, to be changed.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// The program.
    pub fn program_mut(&mut self) -> &mut H::Program {
        &mut self.program
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether the client is not read at the moment, though it may send more.
    pub fn is_held_back(&self) -> bool {
        !self.is_received && (matches!(self.stage, Stage::Starting) || self.is_full())
    }

    /// Whether the client has the whole response, and only the end of the program is waited for.
    pub fn has_answered(&self) -> bool {
        let is_whole = matches!(self.stage, Stage::Unwanted { .. } | Stage::Ended { ending: Ending::Complete, .. });
        is_whole && self.response.cost() == 0
    }

    /// Whether as much waits for the program as may.
    fn is_full(&self) -> bool {
        self.program.reads() && self.program.waiting() >= self.settings.receive_limit
    }

    /// The program has been asked for.
    pub fn begin(&mut self) {
        self.arm();
    }

    /// The program runs.
    pub fn started(&mut self, pid: i32) -> Flow {
        if matches!(self.stage, Stage::Starting) {
            self.record.exec_pid.set(Some(pid));
            self.stage = Stage::Head { reader: HeadReader::new(), since: self.host.now() };
        }
        self.pump()
    }

    /// The program is gone with the process that had started it, or that was never there.
    pub fn lost(&mut self, spawner_was_there: bool) -> Flow {
        self.host.report(Severity::Error, format_args!("the program was lost"));
        Flow::Break(match self.stage {
            Stage::Starting if !spawner_was_there => CgiEnd::TryAgain,
            _ if self.is_answered() => CgiEnd::Lost,
            _ => CgiEnd::Refused(HttpStatus::BAD_GATEWAY),
        })
    }

    /// Whether anything was sent.
    fn is_answered(&self) -> bool {
        match self.stage {
            Stage::Starting | Stage::Head { .. } | Stage::Redirect { .. } => false,
            Stage::Ended { ending: Ending::WithoutHead { .. }, .. } => false,
            Stage::Body { .. } | Stage::Unwanted { .. } | Stage::Ended { .. } | Stage::Over => true,
        }
    }

    /// What a failure means for the client.
    fn failed(&self, status: HttpStatus) -> CgiEnd {
        if self.is_answered() { CgiEnd::Lost } else { CgiEnd::Refused(status) }
    }

    /// Lets go of everything but the memory, of the request above all.
    pub fn release(&mut self) {
        let grace = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return,
            // The client has all that it gets, and does not wait for what the program does with the rest of its time.
            Stage::Unwanted { since } => since.saturating_add(UNWANTED).saturating_sub(self.host.now()),
            _ => 0,
        };
        if self.record.exec_status.get().is_none() {
            self.record.exec_status.set(self.program.status());
        }
        self.account.end(&self.record, self.host.now());
        self.program.leave(grace);
        self.host.release();
    }
}
