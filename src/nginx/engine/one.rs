// SPDX-License-Identifier: Apache-2.0

//! An engine that is one server at a time: the one of the URL, or the master that Sentinels name.

use std::ffi::c_void;
use std::rc::Rc;

use super::Settings;
use super::address::Host;
use super::line::{Happened, Lines};
use super::sentinels::Sentinels;
use super::servers::{Command, CommandOutcome};
use crate::ledger::engines::Figures;
use crate::nginx::timer::Handler;
use crate::redis::connection::Token;

/// The server of an engine.
pub struct One {
    settings: Rc<Settings>,
    figures: Option<Figures>,
    handler: Handler,
    owner: *mut c_void,
    lines: Lines,
    /// Lines to another server than that of now, perhaps: they take no commands any more, and end when all are answered.
    retired: Vec<Lines>,
    /// Who tells which server is the master, where that is not in the URL.
    sentinels: Option<Sentinels>,
    /// The server has become another one since that was last asked.
    moved: Option<Rc<Host>>,
}

impl One {
    /// The server of an engine. `handler` is called with the `owner` of its events.
    pub fn new(settings: &Rc<Settings>, figures: Option<Figures>, handler: Handler, owner: *mut c_void) -> Self {
        let mut one = One {
            settings: Rc::clone(settings),
            figures,
            handler,
            owner,
            lines: Lines::new(settings, &settings.name(), figures, handler, owner),
            retired: Vec::new(),
            sentinels: Sentinels::new(settings, figures, handler, owner),
            moved: None,
        };
        if one.sentinels.is_none() {
            // Invariant of the settings: there is one.
            one.aim(&settings.hosts[0]);
        }
        one
    }

    fn aim(&mut self, host: &Rc<Host>) {
        self.lines.aim(host);
        self.moved = Some(Rc::clone(host));
    }

    /// The server, when it has become another one since the last call.
    pub fn take_moved(&mut self) -> Option<Rc<Host>> {
        self.moved.take()
    }

    /// The server that answered last, with its product and version.
    pub fn master(&self) -> String {
        self.lines.commands.server().to_owned()
    }

    /// Whether a command would be refused at once.
    pub fn is_away(&self) -> bool {
        self.lines.commands.is_away()
    }

    /// Sends a command.
    pub fn submit(&mut self, token: Token, command: Command) {
        let Command { octets, publishes, deadline, .. } = command;
        self.lines.line(publishes).submit(token, octets, false, deadline);
    }

    /// The owner is called again once everything else of this turn was done.
    pub fn post(&mut self) {
        self.lines.commands.post();
    }

    /// Ends the connections, so that others are made.
    pub fn renew(&mut self) {
        self.lines.iter_mut().for_each(super::line::Line::renew);
    }

    /// The server may be none that can be used.
    pub fn doubt(&mut self) {
        if let Some(sentinels) = &mut self.sentinels {
            sentinels.doubt();
        }
    }

    /// The server is one that can be used.
    pub fn trust(&mut self) {
        if let Some(sentinels) = &mut self.sentinels {
            sentinels.trust();
        }
    }

    /// Other connections are made for what is asked from now on: those that are there may be to another server than those of the
    /// other workers.
    pub fn connect_anew(&mut self) {
        let Some(host) = self.lines.commands.host().filter(|_| self.lines.commands.is_ready()).cloned() else { return };
        let mut lines = Lines::new(&self.settings, &self.settings.name(), self.figures, self.handler, self.owner);
        lines.aim(&host);
        self.retired.push(std::mem::replace(&mut self.lines, lines));
        self.post();
    }

    /// Goes on after an event.
    pub fn advance(&mut self) {
        if let Some(sentinels) = &mut self.sentinels {
            let master = sentinels.advance();
            let is_lost = sentinels.is_lost();
            if let Some(host) = master {
                self.aim(&host);
            }
            if is_lost && self.lines.commands.host().is_none() {
                self.lines.iter_mut().for_each(super::line::Line::give_up);
            }
        }
        self.lines.advance();
        self.retired.iter_mut().for_each(Lines::advance);
    }

    /// What has become of commands.
    pub fn next(&mut self) -> Option<CommandOutcome> {
        while let Some(lines) = self.retired.first_mut() {
            match lines.next() {
                Some(Happened::Answered(token, reply)) => return Some(CommandOutcome::Answered(token, reply)),
                Some(Happened::Failed(token, unanswered)) => return Some(CommandOutcome::Failed(token, unanswered)),
                Some(Happened::Ready | Happened::Ended) => {}
                None if lines.is_idle() => drop(self.retired.remove(0)),
                None => break,
            }
        }
        loop {
            match self.lines.next()? {
                Happened::Answered(token, reply) => return Some(CommandOutcome::Answered(token, reply)),
                Happened::Failed(token, unanswered) => return Some(CommandOutcome::Failed(token, unanswered)),
                Happened::Ready => self.trust(),
                Happened::Ended => self.doubt(),
            }
        }
    }
}
