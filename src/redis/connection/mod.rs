// SPDX-License-Identifier: Apache-2.0

//! One connection to a server, from the moment it can be written to.
//!
//! It says hello, and is of use when everything that it needs was answered: version, role and rights are looked at before the
//! first command. Commands are pipelined; answers come in their order. What is said of a command stays true when the connection ends:
//! one that has not left is not executed, one that has and is unanswered may have been. Who owns the socket passes octets and
//! time in and takes octets, events and a deadline out. Never in here: sockets, TLS, and what commands mean.

mod greeting;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

pub use greeting::{Purpose, Server, Unfit};

use super::command;
use super::error::ErrorReply;
use super::notice::Notice;
use super::resp::{Limits, ParseError, Parser, Value};
use greeting::Greeting;

/// After so long without a word from the server it is asked whether it lives, in milliseconds.
const QUIET: u64 = 5_000;

/// What a connection needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the connection is for.
    pub purpose: Purpose,
    /// The user of the access control lists; none for the default user.
    pub user: Option<String>,
    /// The password; none where the server wants none.
    pub password: Option<String>,
    /// The database.
    pub database: u32,
    /// How long an answer may take, in milliseconds.
    pub timeout: u64,
    /// Commands that may wait for answers.
    pub most_pending: usize,
    /// What a reply may be.
    pub limits: Limits,
}

/// A name that the owner of the connection gives to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// Why a command is refused at once: nothing of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// As many as [`Settings::most_pending`] wait already.
    TooMany,
    /// The connection is not ready, or has ended.
    NotReady,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The server, or the network, has closed it.
    Lost,
    /// There was none: why connect(2) has failed, as the system numbers its errors.
    NotConnected(i32),
    /// The server cannot be used, or not with this user and password.
    Unfit(Unfit),
    /// The server did not answer in time.
    Silent,
    /// The server is not the master any more.
    NotMaster,
    /// What the server sent is no reply.
    Malformed(ParseError),
    /// A reply that nobody has asked for.
    Unexpected,
    /// Its owner has closed it.
    Closed,
    /// Another server is the master now, as Sentinels say.
    Replaced,
}

impl End {
    /// No connection was made: what the system said, 0 where it was nginx that had none.
    pub fn not_connected(error: i32) -> Self {
        if error == 0 { End::Lost } else { End::NotConnected(error) }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Lost => out.write_str("the connection was lost"),
            End::NotConnected(error) => std::io::Error::from_raw_os_error(*error).fmt(out),
            End::Unfit(unfit) => unfit.fmt(out),
            End::Silent => out.write_str("the server did not answer in time"),
            End::NotMaster => out.write_str("the server is not the master any more"),
            End::Malformed(error) => error.fmt(out),
            End::Unexpected => out.write_str("a reply that nobody has asked for"),
            End::Closed => out.write_str("closed"),
            End::Replaced => out.write_str("another server is the master now"),
        }
    }
}

/// How far a command came that was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The command did not leave: it was not executed.
    NotSent,
    /// The command left, or a part of it: nobody knows whether it was executed.
    Unknown,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Commands are taken from now on.
    Ready(Server),
    /// A command was answered, with an error also.
    Answered(Token, Value),
    /// A command will not be answered any more.
    Abandoned(Token, Unanswered),
    /// The server says something unasked.
    Notice(Notice),
    /// The server refuses to let this connection listen to these Pub/Sub channels.
    NotSubscribed(Vec<Vec<u8>>, ErrorReply),
    /// The connection has ended, and is to be closed. Nothing comes after it.
    Ended(End),
}

/// Whose answer is awaited.
#[derive(Debug)]
enum Asked {
    /// The connection's own question whether the server lives.
    Ping,
    /// What goes before a command or a wish to listen, and is not looked at: these are refused where it was.
    Asking,
    /// A command of the owner.
    Command(Token),
    /// A wish to listen. It is answered by one notice for each of these names, or by one error for all of them.
    Subscribe(Vec<Vec<u8>>),
    /// A wish not to listen any more, answered in the same way.
    Unsubscribe(Vec<Vec<u8>>),
}

/// A question on its way.
#[derive(Debug)]
struct Pending {
    asked: Asked,
    /// When it is too late for the answer.
    deadline: u64,
    /// Octets that were queued on this connection before it.
    begin: u64,
}

/// How far a connection is.
#[derive(Debug)]
enum ConnectionStage {
    /// Hello was said.
    Greeting {
        greeting: Greeting,
        /// When all of it must have been answered.
        deadline: u64,
    },
    /// Commands are taken.
    Ready,
    /// The connection has ended.
    Over,
}

/// One connection to a server.
#[derive(Debug)]
pub struct Connection {
    settings: Rc<Settings>,
    stage: ConnectionStage,
    parser: Parser,
    /// What is to be sent.
    outgoing: Vec<u8>,
    /// Octets that were ever queued.
    queued: u64,
    /// Octets that have left. Invariant: at most `queued`.
    sent: u64,
    /// Questions in the order in which they are answered. Invariant: deadlines never decrease from front to back.
    pending: VecDeque<Pending>,
    /// Commands of the owner in `pending`.
    commands: usize,
    /// When the server was last heard.
    heard: u64,
    events: VecDeque<Event>,
}

impl Connection {
    /// A connection that can be written to. The greeting must be over at `deadline`, as the time in which the socket was connected
    /// counts too; times are milliseconds of one clock.
    pub fn new(settings: Rc<Settings>, now: u64, deadline: u64) -> Self {
        let mut outgoing = Vec::new();
        let greeting = Greeting::begin(&settings, &mut outgoing);
        Connection {
            parser: Parser::new(settings.limits),
            stage: ConnectionStage::Greeting { greeting, deadline },
            queued: outgoing.len() as u64,
            outgoing,
            sent: 0,
            pending: VecDeque::new(),
            commands: 0,
            heard: now,
            events: VecDeque::new(),
            settings,
        }
    }

    /// Whether commands are taken.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, ConnectionStage::Ready)
    }

    /// Whether no command waits for its answer.
    pub fn is_idle(&self) -> bool {
        self.commands == 0
    }

    /// Sends a command, which `write` appends to what is sent.
    ///
    /// # Errors
    ///
    /// [`Refused`]; `write` was not called.
    pub fn command(&mut self, token: Token, now: u64, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Refused> {
        self.command_as(token, false, now, write)
    }

    /// Sends a command; `asking`: after `ASKING`, which lets a node of a cluster serve a slot that is being moved to it.
    ///
    /// # Errors
    ///
    /// [`Refused`]; `write` was not called.
    pub fn command_as(
        &mut self,
        token: Token,
        asking: bool,
        now: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Refused> {
        if !self.is_ready() {
            return Err(Refused::NotReady);
        }
        if self.commands >= self.settings.most_pending {
            return Err(Refused::TooMany);
        }
        if asking {
            self.ask(Asked::Asking, now, |out| command::append(&[b"ASKING"], out));
        }
        self.ask(Asked::Command(token), now, write);
        self.commands += 1;
        Ok(())
    }

    /// Listens to Pub/Sub channels; in a cluster all of them must be of one slot.
    ///
    /// # Errors
    ///
    /// [`Refused::NotReady`].
    pub fn subscribe(&mut self, topics: &[&[u8]], now: u64) -> Result<(), Refused> {
        self.subscribe_as(topics, false, now)
    }

    /// Listens to Pub/Sub channels; `asking`: after `ASKING`.
    ///
    /// # Errors
    ///
    /// [`Refused::NotReady`].
    pub fn subscribe_as(&mut self, topics: &[&[u8]], asking: bool, now: u64) -> Result<(), Refused> {
        if asking && self.is_ready() {
            self.ask(Asked::Asking, now, |out| command::append(&[b"ASKING"], out));
        }
        let command: &[u8] = if self.settings.purpose.is_sharded() { b"SSUBSCRIBE" } else { b"SUBSCRIBE" };
        self.listen(command, topics, now, Asked::Subscribe)
    }

    /// Listens to Pub/Sub channels no more.
    ///
    /// # Errors
    ///
    /// [`Refused::NotReady`].
    pub fn unsubscribe(&mut self, topics: &[&[u8]], now: u64) -> Result<(), Refused> {
        let command: &[u8] = if self.settings.purpose.is_sharded() { b"SUNSUBSCRIBE" } else { b"UNSUBSCRIBE" };
        self.listen(command, topics, now, Asked::Unsubscribe)
    }

    fn listen(
        &mut self,
        name: &[u8],
        topics: &[&[u8]],
        now: u64,
        asked: impl FnOnce(Vec<Vec<u8>>) -> Asked,
    ) -> Result<(), Refused> {
        if !self.is_ready() {
            return Err(Refused::NotReady);
        }
        if topics.is_empty() {
            return Ok(());
        }
        let words: Vec<&[u8]> = [name].into_iter().chain(topics.iter().copied()).collect();
        let topics = topics.iter().map(|topic| topic.to_vec()).collect();
        self.ask(asked(topics), now, |out| command::append(&words, out));
        Ok(())
    }

    fn ask(&mut self, asked: Asked, now: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.outgoing.len();
        write(&mut self.outgoing);
        let deadline = now + self.settings.timeout;
        debug_assert!(self.pending.back().is_none_or(|last| last.deadline <= deadline), "the clock goes forward");
        self.pending.push_back(Pending { asked, deadline, begin: self.queued });
        self.queued += (self.outgoing.len() - before) as u64;
    }

    /// Takes what is to be sent. What has left is told by [`sent`](Self::sent).
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        mem::take(&mut self.outgoing)
    }

    /// Octets that are to be sent and were not taken yet.
    pub fn outgoing(&self) -> usize {
        self.outgoing.len()
    }

    /// So many octets of what was taken have left.
    pub fn sent(&mut self, octets: usize) {
        self.sent += octets as u64;
        debug_assert!(self.sent <= self.queued, "no more leaves than was queued");
    }

    /// Octets of the server.
    pub fn receive(&mut self, octets: &[u8], now: u64) {
        self.heard = now;
        let mut input = octets;
        while !matches!(self.stage, ConnectionStage::Over) {
            match self.parser.next(&mut input) {
                Ok(Some(reply)) => self.take(reply),
                Ok(None) => return,
                Err(error) => self.end(End::Malformed(error)),
            }
        }
    }

    /// The connection was lost, or its owner has closed it.
    pub fn end(&mut self, end: End) {
        if matches!(self.stage, ConnectionStage::Over) {
            return;
        }
        self.stage = ConnectionStage::Over;
        for Pending { asked, begin, .. } in mem::take(&mut self.pending) {
            if let Asked::Command(token) = asked {
                let unanswered = if begin >= self.sent { Unanswered::NotSent } else { Unanswered::Unknown };
                self.events.push_back(Event::Abandoned(token, unanswered));
            }
        }
        self.commands = 0;
        self.outgoing = Vec::new();
        self.events.push_back(Event::Ended(end));
    }

    /// What has happened since the last call.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub fn deadline(&self) -> Option<u64> {
        match &self.stage {
            ConnectionStage::Greeting { deadline, .. } => Some(*deadline),
            ConnectionStage::Ready => {
                let quiet = self.heard + QUIET;
                Some(self.pending.front().map_or(quiet, |pending| pending.deadline))
            }
            ConnectionStage::Over => None,
        }
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: u64) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.is_ready() && self.pending.is_empty() {
            self.ask(Asked::Ping, now, |out| command::append(&[b"PING"], out));
        } else {
            self.end(End::Silent);
        }
    }

    /// One whole reply.
    fn take(&mut self, reply: Value) {
        if matches!(reply, Value::Push(_)) {
            // Only pushes are notices.
            if let Some(notice) = Notice::of(reply) {
                self.confirm(&notice);
                self.events.push_back(Event::Notice(notice));
            }
            return;
        }
        if let ConnectionStage::Greeting { greeting, .. } = &mut self.stage {
            match greeting.answered(&reply, &self.settings) {
                Ok(None) => {}
                Ok(Some(server)) => {
                    self.stage = ConnectionStage::Ready;
                    self.events.push_back(Event::Ready(server));
                }
                Err(unfit) => self.end(End::Unfit(unfit)),
            }
            return;
        }
        let Some(Pending { asked, .. }) = self.pending.pop_front() else { return self.end(End::Unexpected) };
        let error = ErrorReply::of(&reply);
        let lost_its_role = self.settings.purpose.needs_master() && error == Some(ErrorReply::NotMaster);
        match (asked, error) {
            (Asked::Ping | Asked::Asking, _) => {}
            (Asked::Command(token), _) => {
                self.commands -= 1;
                self.events.push_back(Event::Answered(token, reply));
            }
            (Asked::Subscribe(topics), Some(error)) => self.events.push_back(Event::NotSubscribed(topics, error)),
            (Asked::Unsubscribe(_), Some(_)) => {}
            (Asked::Subscribe(_) | Asked::Unsubscribe(_), None) => return self.end(End::Unexpected),
        }
        if lost_its_role {
            self.end(End::NotMaster);
        }
    }

    /// Strikes a name off the question that a notice answers.
    fn confirm(&mut self, notice: &Notice) {
        let Some(front) = self.pending.front_mut() else { return };
        let (names, topic) = match (&mut front.asked, notice) {
            (Asked::Subscribe(names), Notice::Subscribed { topic })
            | (Asked::Unsubscribe(names), Notice::Unsubscribed { topic }) => (names, topic),
            _ => return,
        };
        if let Some(place) = names.iter().position(|name| name == topic) {
            names.swap_remove(place);
        }
        if names.is_empty() {
            self.pending.pop_front();
        }
    }
}
