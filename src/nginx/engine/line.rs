// SPDX-License-Identifier: Apache-2.0

//! A connection that carries commands of a worker, or its publications where these have to be at replicas.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::rc::Rc;

use super::address::Host;
use super::link::Link;
use super::{Settings, figures};
use crate::ledger::engines::{Figures, Loss};
use crate::nginx::log::{self, Level};
use crate::nginx::random;
use crate::nginx::timer::{Handler, now};
use crate::redis::batch::{Batches, PublicationOutcome};
use crate::redis::connection::{End, Event, Refused, Token, Unanswered};
use crate::redis::resp::Value;

/// Octets of commands that have not left above which no more are taken.
const MOST_BACKLOG: usize = 32 << 20;

/// The first of the names that this module gives to its own commands.
const OWN_TOKENS: u64 = 1 << 63;

/// What a line carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Commands of all kinds.
    Commands,
    /// Publications only, which are to be at so many replicas.
    Publications(u64),
}

/// What has happened.
pub enum Happened {
    /// The server takes commands.
    Ready,
    /// The server takes no commands any more, or the connection to it cannot be made.
    Ended,
    /// A command was answered.
    Answered(Token, Value),
    /// A command will not be answered.
    Failed(Token, Unanswered),
}

/// A command that waits for the first connection.
struct Held {
    token: Token,
    octets: Vec<u8>,
    asking: bool,
    /// When the command is too late to be sent.
    deadline: u64,
}

/// A connection for commands that is made anew whenever it is lost.
pub struct Line {
    /// The engine in words, or a node of it.
    name: String,
    /// The server that answered last: its address, product and version.
    server: String,
    figures: Option<Figures>,
    most_pending: usize,
    link: Link,
    /// Where publications have to be at replicas.
    batches: Option<Batches>,
    next_own: u64,
    held: VecDeque<Held>,
    failed: VecDeque<(Token, Unanswered)>,
    /// The server is known not to be there since the last line in the log said so.
    away: bool,
}

impl Line {
    /// A line that has no aim yet. `handler` is called with the `owner` of its events.
    pub fn new(
        settings: &Rc<Settings>,
        name: String,
        figures: Option<Figures>,
        load: Load,
        handler: Handler,
        owner: *mut c_void,
    ) -> Self {
        let most_pending = settings.connection.most_pending;
        let (told, batches) = match load {
            Load::Commands => (Rc::clone(&settings.connection), None),
            Load::Publications(replicas) => {
                (Rc::clone(&settings.publishing), Some(Batches::new(replicas, most_pending)))
            }
        };
        Line {
            name,
            server: String::new(),
            figures,
            most_pending,
            link: Link::new(Rc::clone(settings), told, handler, owner, random::number),
            batches,
            next_own: OWN_TOKENS,
            held: VecDeque::new(),
            failed: VecDeque::new(),
            away: false,
        }
    }

    /// The connection is to be made to this server.
    pub fn aim(&mut self, host: &Rc<Host>) {
        self.link.aim(host, End::Replaced);
    }

    /// What the connection is made to; none while that is not known.
    pub fn host(&self) -> Option<&Rc<Host>> {
        self.link.host()
    }

    /// The server that answered last: its address, product and version.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Tells whether the engine is there: by one of the lines to it.
    fn tell(&self, is_there: bool) {
        if self.batches.is_none() && self.figures.is_some() {
            figures::connected(self.figures, is_there);
        }
    }

    /// Whether commands are taken.
    pub fn is_ready(&self) -> bool {
        self.link.is_ready()
    }

    /// Whether a command would be refused at once.
    pub fn is_away(&self) -> bool {
        !self.is_ready() && !self.is_hopeful()
    }

    /// Whether the connection is being made, and nothing says yet that it will fail.
    fn is_hopeful(&self) -> bool {
        !self.away && self.link.is_hopeful()
    }

    /// Whether nothing is waited for.
    pub fn is_idle(&mut self) -> bool {
        let has_batches = self.batches.as_ref().is_some_and(|batches| !batches.is_empty());
        let is_idle = self.link.connection().is_none_or(|connection| connection.is_idle());
        is_idle && self.held.is_empty() && self.failed.is_empty() && !has_batches
    }

    /// The owner is called again once everything else of this turn was done.
    pub fn post(&mut self) {
        self.link.post();
    }

    /// Ends the connection, so that another one is made.
    pub fn renew(&mut self) {
        self.link.renew();
    }

    /// The server will not be known soon: what waits for it is not sent any more.
    pub fn give_up(&mut self) {
        self.away = true;
        self.failed.extend(self.held.drain(..).map(|held| (held.token, Unanswered::NotSent)));
        if let Some(batches) = &mut self.batches {
            batches.give_up();
        }
    }

    /// Sends a command, with the next [`advance`](Self::advance); `ASKING` goes before it if that is told. What becomes of it is
    /// [told](Self::next) also where nothing was sent.
    pub fn submit(&mut self, token: Token, octets: Vec<u8>, asking: bool, deadline: u64) {
        let backlog = self.link.backlog() + self.batches.as_ref().map_or(0, Batches::octets);
        if backlog > MOST_BACKLOG {
            return self.failed.push_back((token, Unanswered::NotSent));
        }
        if let Some(batches) = &mut self.batches {
            let is_there = self.link.is_ready() || (!self.away && self.link.is_hopeful());
            if !is_there || !batches.push(token, octets, asking, deadline) {
                self.failed.push_back((token, Unanswered::NotSent));
            }
            return;
        }
        match self.command(token, &octets, asking) {
            Ok(()) => {}
            Err(Refused::NotReady) if self.is_hopeful() && self.held.len() < self.most_pending => {
                self.held.push_back(Held { token, octets, asking, deadline });
            }
            Err(Refused::NotReady | Refused::TooMany) => self.failed.push_back((token, Unanswered::NotSent)),
        }
    }

    fn command(&mut self, token: Token, octets: &[u8], asking: bool) -> Result<(), Refused> {
        let connection = self.link.connection().ok_or(Refused::NotReady)?;
        connection.command_as(token, asking, now(), |out| out.extend_from_slice(octets))
    }

    /// Goes on after an event, or after something was submitted.
    pub fn advance(&mut self) {
        self.link.advance();
        while self.held.front().is_some_and(|held| held.deadline <= now())
            && let Some(held) = self.held.pop_front()
        {
            self.failed.push_back((held.token, Unanswered::NotSent));
        }
        let Some(batches) = &mut self.batches else {
            let late = self.held.front().map(|held| held.deadline);
            self.link.wake_by(late);
            if late.is_some() {
                self.link.advance();
            }
            return;
        };
        batches.drop_late(now());
        if let Some(connection) = self.link.connection() {
            let next_own = &mut self.next_own;
            let next = || {
                *next_own += 1;
                Token(*next_own)
            };
            batches.send(connection, next, now());
        }
        self.link.wake_by(batches.deadline());
        self.link.advance();
    }

    /// What has happened.
    pub fn next(&mut self) -> Option<Happened> {
        loop {
            if let Some((token, unanswered)) = self.failed.pop_front() {
                return Some(Happened::Failed(token, unanswered));
            }
            if let Some(outcome) = self.batches.as_mut().and_then(Batches::next_outcome) {
                return Some(match outcome {
                    PublicationOutcome::Answered(token, reply) => Happened::Answered(token, reply),
                    PublicationOutcome::Failed(token, unanswered) => Happened::Failed(token, unanswered),
                });
            }
            let event = self.link.next_event()?;
            if let Some(batches) = &mut self.batches {
                batches.on_event(&event);
            }
            match event {
                Event::Ready(server) => {
                    let was_away = std::mem::take(&mut self.away);
                    self.server = format!("{} {} {}", self.link.peer(), server.product, server.version);
                    self.tell(true);
                    if figures::regained(self.figures, Loss::Commands, was_away) {
                        figures::log_return(&self.name, &server);
                    }
                    for held in std::mem::take(&mut self.held) {
                        if self.command(held.token, &held.octets, held.asking).is_err() {
                            self.failed.push_back((held.token, Unanswered::NotSent));
                        }
                    }
                    return Some(Happened::Ready);
                }
                Event::Ended(end) => {
                    self.tell(false);
                    if !std::mem::replace(&mut self.away, true) && figures::lost(self.figures, Loss::Commands) {
                        log::cycle(Level::Error, format_args!("channels: {} is not there: {end}", self.name));
                    }
                    self.failed.extend(self.held.drain(..).map(|held| (held.token, Unanswered::NotSent)));
                    return Some(Happened::Ended);
                }
                // Publications are told by their batches.
                Event::Answered(..) | Event::Abandoned(..) if self.batches.is_some() => {}
                Event::Answered(token, reply) => return Some(Happened::Answered(token, reply)),
                Event::Abandoned(token, unanswered) => return Some(Happened::Failed(token, unanswered)),
                Event::Notice(_) | Event::NotSubscribed(..) => {}
            }
        }
    }
}

/// The lines to one server.
pub struct Lines {
    /// For commands, and for publications where these have no line of their own.
    pub commands: Line,
    publishing: Option<Line>,
}

impl Lines {
    /// Lines that have no aim yet.
    pub fn new(
        settings: &Rc<Settings>,
        name: &str,
        figures: Option<Figures>,
        handler: Handler,
        owner: *mut c_void,
    ) -> Self {
        let line = |load| Line::new(settings, name.to_owned(), figures, load, handler, owner);
        Lines {
            commands: line(Load::Commands),
            publishing: (settings.replicas > 0).then(|| line(Load::Publications(settings.replicas))),
        }
    }

    /// All lines: the one for commands, and the one for publications.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Line> {
        [&mut self.commands].into_iter().chain(&mut self.publishing)
    }

    /// The connections are to be made to this server.
    pub fn aim(&mut self, host: &Rc<Host>) {
        self.iter_mut().for_each(|line| line.aim(host));
    }

    /// The line for publications, or the one for other commands.
    pub fn line(&mut self, publishes: bool) -> &mut Line {
        match &mut self.publishing {
            Some(line) if publishes => line,
            _ => &mut self.commands,
        }
    }

    /// What has happened on any of them.
    pub fn next(&mut self) -> Option<Happened> {
        self.iter_mut().find_map(Line::next)
    }

    /// Goes on after an event.
    pub fn advance(&mut self) {
        self.iter_mut().for_each(Line::advance);
    }

    /// Whether nothing is waited for.
    pub fn is_idle(&mut self) -> bool {
        self.iter_mut().all(Line::is_idle)
    }
}
