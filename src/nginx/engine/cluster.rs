// SPDX-License-Identifier: Apache-2.0

//! An engine that is a cluster: connections to those of its nodes that commands go to, and to one that is asked for the slots.

use std::collections::HashSet;
use std::ffi::c_void;
use std::rc::Rc;

use super::address::Host;
use super::line::{Happened, Line, Lines};
use super::link::Link;
use super::servers::{Command, CommandOutcome};
use super::{Settings, figures};
use crate::ledger::engines::Figures;
use crate::nginx::log::{self, Level};
use crate::nginx::random;
use crate::nginx::timer::{Handler, now};
use crate::redis::cluster::dispatch::{Action, Dispatch};
use crate::redis::cluster::slots::Slots;
use crate::redis::cluster::survey::{Step, Survey};
use crate::redis::connection::{Event, Token, Unanswered};
use crate::redis::url::{Node, Place};

/// How long a node is kept connected that has no slot any more, in milliseconds.
const LINGER: u64 = 30_000;

/// A node that commands go to, or went to.
struct ClusterNode {
    node: Node,
    lines: Lines,
    /// When something was last sent to it.
    used: u64,
}

/// A cluster, as a worker is connected to it.
pub struct Cluster {
    settings: Rc<Settings>,
    figures: Option<Figures>,
    handler: Handler,
    owner: *mut c_void,
    dispatch: Dispatch,
    /// Publications among the commands that were not answered. They have connections of their own where they have to be at replicas.
    publications: HashSet<Token>,
    members: Vec<ClusterNode>,
    survey: Option<(Survey, Link)>,
    /// No node can be asked for the slots, as the last line in the log said.
    lost: bool,
}

impl Cluster {
    /// The cluster of an engine. `handler` is called with the `owner` of its events.
    pub fn new(settings: &Rc<Settings>, figures: Option<Figures>, handler: Handler, owner: *mut c_void) -> Self {
        let seeds = match settings.place() {
            Place::Cluster(nodes) => nodes.clone(),
            Place::Server(_) | Place::Unix(_) | Place::Sentinel { .. } => Vec::new(),
        };
        let link = Link::new(Rc::clone(settings), Rc::clone(&settings.survey), handler, owner, random::number);
        let mut cluster = Cluster {
            settings: Rc::clone(settings),
            figures,
            handler,
            owner,
            dispatch: Dispatch::default(),
            publications: HashSet::new(),
            members: Vec::new(),
            survey: Survey::new(seeds, random::number()).map(|survey| (survey, link)),
            lost: false,
        };
        if let Some((survey, link)) = &mut cluster.survey {
            aim(link, survey, settings);
        }
        cluster
    }

    /// Whether slots are at other nodes than when that was last asked.
    pub fn take_changed(&mut self) -> bool {
        self.dispatch.take_changed()
    }

    /// What is known of the slots.
    pub fn slots(&self) -> Option<&Slots> {
        self.dispatch.slots()
    }

    /// A node has said that it does not have a slot.
    pub fn moved(&mut self, slot: u16, node: Node) {
        self.dispatch.moved(slot, node);
        self.doubt();
    }

    /// The masters that have slots.
    pub fn masters(&self) -> String {
        let Some(slots) = self.dispatch.slots() else { return String::new() };
        let masters = slots.masters().iter().filter(|node| slots.has(node));
        masters.map(Node::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Whether a command would be refused at once.
    pub fn is_away(&self) -> bool {
        match self.dispatch.slots() {
            None => self.lost,
            Some(_) => self.lost && self.members.iter().all(|member| member.lines.commands.is_away()),
        }
    }

    /// Sends a command.
    pub fn submit(&mut self, token: Token, command: Command) {
        let Command { slot, publishes, octets, deadline } = command;
        if publishes && self.settings.replicas > 0 {
            self.publications.insert(token);
        }
        self.dispatch.submit(token, slot, octets, deadline, now());
        if self.lost {
            self.dispatch.give_up();
        }
    }

    /// The owner is called again once everything else of this turn was done.
    pub fn post(&mut self) {
        if let Some((_, link)) = &mut self.survey {
            link.post();
        }
    }

    /// Ends the connections, so that others are made.
    pub fn renew(&mut self) {
        self.members.iter_mut().flat_map(|member| member.lines.iter_mut()).for_each(Line::renew);
    }

    /// Something is not where it should be.
    pub fn doubt(&mut self) {
        if let Some((survey, link)) = &mut self.survey {
            survey.doubt(now());
            link.post();
        }
    }

    /// Goes on after an event.
    pub fn advance(&mut self) {
        self.look_around();
        self.dispatch.on_time(now());
        for member in &mut self.members {
            member.lines.advance();
        }
        let slots = self.dispatch.slots();
        self.members.retain_mut(|member| {
            let is_needed = slots.is_none_or(|slots| slots.has(&member.node));
            is_needed || member.used + LINGER > now() || !member.lines.is_idle()
        });
    }

    /// Goes on asking for the slots.
    fn look_around(&mut self) {
        let doubt = self.dispatch.take_doubt();
        let Some((survey, link)) = &mut self.survey else { return };
        if doubt {
            survey.doubt(now());
        }
        link.advance();
        let mut step = survey.on_time(link.connection(), now());
        loop {
            let Some((survey, link)) = &mut self.survey else { return };
            if step == Step::Next {
                aim(link, survey, &self.settings);
            }
            let Some(event) = link.next_event() else { break };
            if let Event::Ended(end) = &event
                && survey.is_lost()
                && !std::mem::replace(&mut self.lost, true)
            {
                figures::connected(self.figures, false);
                let name = self.settings.name();
                log::cycle(Level::Error, format_args!("channels: {name}: no node tells the slots: {end}"));
            }
            step = survey.on_event(event, link.connection(), now());
        }
        let Some((survey, link)) = &mut self.survey else { return };
        if survey.is_lost() {
            self.dispatch.give_up();
        } else {
            if std::mem::take(&mut self.lost) {
                log::cycle(Level::Notice, format_args!("channels: {} is there again", self.settings.name()));
            }
            if let Some(found) = survey.take_found() {
                figures::connected(self.figures, true);
                self.dispatch.found(found, now());
            }
        }
        link.wake_by([survey.deadline(), self.dispatch.deadline()].into_iter().flatten().min());
        link.advance();
    }

    /// Sends what is to be sent; the first action that is not to send is returned.
    fn act(&mut self) -> Option<CommandOutcome> {
        while let Some(action) = self.dispatch.next_action() {
            match action {
                Action::Send { token, node, asking } => self.send(token, &node, asking),
                Action::Answer(token, reply) => {
                    self.publications.remove(&token);
                    return Some(CommandOutcome::Answered(token, reply));
                }
                Action::Fail(token, unanswered) => {
                    self.publications.remove(&token);
                    return Some(CommandOutcome::Failed(token, unanswered));
                }
            }
        }
        None
    }

    fn send(&mut self, token: Token, node: &Node, asking: bool) {
        let octets = self.dispatch.octets(token).to_vec();
        let deadline = self.dispatch.deadline_of(token);
        let publishes = self.publications.contains(&token);
        let Some(member) = self.member(node) else {
            unknown(&self.settings, node);
            return self.dispatch.abandoned(token, Unanswered::NotSent, now());
        };
        member.used = now();
        let line = member.lines.line(publishes);
        line.submit(token, octets, asking, deadline);
        line.post();
    }

    fn member(&mut self, node: &Node) -> Option<&mut ClusterNode> {
        let at = match self.members.iter().position(|member| member.node == *node) {
            Some(at) => at,
            None => {
                let host = Rc::new(Host::told(node, &self.settings.hosts)?);
                let name = format!("{} at {node}", self.settings.name());
                // Whether the engine is there is not what one of its nodes says.
                let mut lines = Lines::new(&self.settings, &name, None, self.handler, self.owner);
                lines.aim(&host);
                self.members.push(ClusterNode { node: node.clone(), lines, used: now() });
                self.members.len() - 1
            }
        };
        self.members.get_mut(at)
    }

    /// What has become of commands.
    pub fn next(&mut self) -> Option<CommandOutcome> {
        loop {
            if let Some(outcome) = self.act() {
                return Some(outcome);
            }
            let (node, happened) = self.members.iter_mut().find_map(|member| {
                let happened = member.lines.next()?;
                Some((&member.node, happened))
            })?;
            match happened {
                Happened::Answered(token, reply) => self.dispatch.answered(token, reply, node, now()),
                Happened::Failed(token, unanswered) => self.dispatch.abandoned(token, unanswered, now()),
                Happened::Ready => {}
                Happened::Ended => self.doubt(),
            }
        }
    }
}

/// Connects to the node that is to be asked for the slots.
fn aim(link: &mut Link, survey: &Survey, settings: &Settings) {
    match Host::told(survey.target(), &settings.hosts) {
        Some(host) => link.go_on(&Rc::new(host)),
        None => unknown(settings, survey.target()),
    }
}

/// A node cannot be connected to.
fn unknown(settings: &Settings, node: &Node) {
    let reason = "a name that is none of the URL's is not looked up: let the nodes tell addresses";
    log::cycle(Level::Error, format_args!("channels: {}: {node}: {reason}", settings.name()));
}
