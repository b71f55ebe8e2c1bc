// SPDX-License-Identifier: Apache-2.0

//! The Sentinels of an engine: a connection to one of them at a time, which tells who is the master.

use std::ffi::c_void;
use std::rc::Rc;

use super::Settings;
use super::address::Host;
use super::link::Link;
use crate::ledger::engines::Figures;
use crate::nginx::log::{self, Level};
use crate::nginx::random;
use crate::nginx::timer::{Handler, now};
use crate::redis::connection::{End, Event};
use crate::redis::sentinel::{Election, Step, Watch};
use crate::redis::url::Place;

/// What a worker knows of who is the master.
pub struct Sentinels {
    settings: Rc<Settings>,
    /// Where the workers of this machine tell each other of elections.
    figures: Option<Figures>,
    link: Link,
    watch: Watch,
    /// No Sentinel has known a master when the last line in the log said so.
    lost: bool,
    /// Why the Sentinel that was asked last could not be.
    why: Option<End>,
}

impl Sentinels {
    /// The Sentinels of an engine that has some. `handler` is called with the `owner` of their events.
    pub fn new(
        settings: &Rc<Settings>,
        figures: Option<Figures>,
        handler: Handler,
        owner: *mut c_void,
    ) -> Option<Self> {
        let Place::Sentinel { name, .. } = settings.place() else { return None };
        let watch = Watch::new(settings.hosts.len(), name.clone(), random::number())?;
        let link = Link::new(Rc::clone(settings), Rc::clone(&settings.survey), handler, owner, random::number);
        let mut sentinels = Sentinels { settings: Rc::clone(settings), figures, link, watch, lost: false, why: None };
        sentinels.aim();
        Some(sentinels)
    }

    fn aim(&mut self) {
        // Invariant of the watch: its target is the place of a host.
        if let Some(host) = self.settings.hosts.get(self.watch.target()) {
            self.link.go_on(host);
        }
    }

    /// Goes on after an event: the master, when it has become another one.
    pub fn advance(&mut self) -> Option<Rc<Host>> {
        self.link.advance();
        if let Some(figures) = self.figures {
            self.watch.hear_of(figures.elected());
        }
        let mut step = self.watch.on_time(self.link.connection(), now());
        loop {
            if step == Step::Next {
                self.aim();
            }
            let Some(event) = self.link.next_event() else { break };
            if let Event::Ended(end) = &event {
                self.why = Some(end.clone());
            }
            step = self.watch.on_event(event, self.link.connection(), now());
        }
        if let Some((figures, Election { epoch, anew })) = self.figures.zip(self.watch.take_election()) {
            figures.hears_of_election(epoch, anew);
        }
        self.link.wake_by(self.watch.deadline());
        self.link.advance();
        let lost = self.watch.is_lost();
        if std::mem::replace(&mut self.lost, lost) != lost && lost {
            let name = self.settings.name();
            match &self.why {
                Some(why) => {
                    log::cycle(Level::Error, format_args!("channels: {name}: no Sentinel tells the master: {why}"))
                }
                None => {
                    log::cycle(Level::Error, format_args!("channels: {name}: no Sentinel knows a master of this name"))
                }
            }
        }
        self.why = if lost { self.why.take() } else { None };
        let node = self.watch.take_changed()?.clone();
        let host = Host::told(&node, &self.settings.hosts);
        match &host {
            Some(_) => {
                log::cycle(Level::Notice, format_args!("channels: {}: {node} is the master", self.settings.name()))
            }
            None => {
                let reason = "a name that is none of the Sentinels' is not looked up: let them tell addresses";
                log::cycle(
                    Level::Error,
                    format_args!("channels: {}: the master is {node}: {reason}", self.settings.name()),
                );
            }
        }
        host.map(Rc::new)
    }

    /// Whether no Sentinel knows a master.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The master is not there, or says that it is none.
    pub fn doubt(&mut self) {
        self.watch.doubt(now());
        self.link.post();
    }

    /// The master is there.
    pub fn trust(&mut self) {
        self.watch.trust();
    }
}
