// SPDX-License-Identifier: Apache-2.0

//! The connections by which a node listens: one to the engine's server, or one to each node of a cluster that has slots of its channels.

use std::ffi::c_void;
use std::rc::Rc;

use super::address::Host;
use super::copies::copies;
use super::link::Link;
use super::servers::Servers;
use super::{Settings, figures};
use crate::ledger::engines::{Figures, Loss};
use crate::nginx::log::{self, Level};
use crate::nginx::random;
use crate::nginx::timer::{Handler, now};
use crate::redis::cluster::slots::Slots;
use crate::redis::connection::{End, Event};
use crate::redis::relay::{Channel, Counts, Relay};
use crate::redis::url::Node;

/// A connection that listens, and the channels that it listens to.
struct Listener {
    /// The node of a cluster.
    node: Option<Node>,
    relay: Relay,
    link: Link,
    away: bool,
    /// The server that was listened to last: it has another one each time that it is started.
    run_id: String,
}

/// What has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// The engine's server is another one than before.
    pub is_another_server: bool,
    /// A connection has ended, or could not be made.
    pub ended: bool,
    /// A connection was made to a server that can be used.
    pub is_there: bool,
}

/// All connections by which a node listens.
pub struct Listeners {
    settings: Rc<Settings>,
    figures: Option<Figures>,
    handler: Handler,
    owner: *mut c_void,
    /// What the copies in the zone say that keeps them complete.
    number: u32,
    /// The name of the node of this module, by which it tells of its subscribers.
    name: Vec<u8>,
    /// Invariant: never empty. In a cluster the first one is never connected, and has the channels whose node is not known;
    /// else there is no other one.
    all: Vec<Listener>,
    /// What listeners have counted that are not there any more.
    gone: Counts,
    /// What of all counts is in the figures of the engine.
    counted: Counts,
    /// The figures say that this worker listens.
    is_listening: bool,
}

impl Listeners {
    /// Listeners that listen to nothing yet. `handler` is called with the `owner` of their events.
    pub fn new(
        settings: &Rc<Settings>,
        figures: Option<Figures>,
        handler: Handler,
        owner: *mut c_void,
        number: u32,
        name: Vec<u8>,
    ) -> Self {
        let mut listeners = Listeners {
            settings: Rc::clone(settings),
            figures,
            handler,
            owner,
            number,
            name,
            all: Vec::new(),
            gone: Counts::default(),
            counted: Counts::default(),
            is_listening: false,
        };
        listeners.all.push(listeners.listener(None));
        listeners
    }

    fn relay(&self) -> Relay {
        let relay = Relay::new(self.settings.prefix.clone(), self.settings.database, self.name.clone());
        let relay = relay.counting(self.settings.counting());
        if self.settings.is_sharded() { relay.sharded() } else { relay }
    }

    fn listener(&self, node: Option<Node>) -> Listener {
        let told = Rc::clone(&self.settings.connection);
        Listener {
            node,
            relay: self.relay(),
            link: Link::new(Rc::clone(&self.settings), told, self.handler, self.owner, random::number),
            away: false,
            run_id: String::new(),
        }
    }

    /// What the copies in the zone say that keeps them complete.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Another number from now on: all copies are compared before anybody relies on them.
    pub fn renumber(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1).max(1);
        self.number
    }

    /// The engine's server is this one from now on.
    pub fn aim(&mut self, host: &Rc<Host>) {
        if !self.settings.is_sharded() {
            self.all[0].link.aim(host, End::Replaced);
        }
    }

    /// The owner is called again once everything else of this turn was done.
    pub fn post(&mut self) {
        self.all[0].link.post();
    }

    /// Whether messages of all channels are heard. A cluster's nodes are connected to for channels only: where there are none, nothing is
    /// missed as long as the cluster is there.
    fn hears_all(&self, servers: &Servers) -> bool {
        match servers {
            Servers::One(_) => self.all.iter().all(|listener| listener.link.is_ready()),
            Servers::Cluster(cluster) => {
                cluster.slots().is_some()
                    && !cluster.is_away()
                    && self.all.iter().all(|listener| listener.relay.is_empty() || listener.link.is_ready())
            }
        }
    }

    /// Tells the figures what has been done, and whether anybody listens.
    fn tell(&mut self, servers: &Servers) {
        let counts = self.all.iter().fold(self.gone, |sum, listener| sum.and(listener.relay.counts()));
        figures::relayed(self.figures, &mut self.counted, counts);
        let is_listening = self.hears_all(servers);
        if std::mem::replace(&mut self.is_listening, is_listening) != is_listening {
            figures::listens(self.figures, is_listening);
        }
    }

    /// The worker in this slot wants to subscribe to a channel, of which there will be so many subscribers then; or the node has subscribers
    /// of it.
    pub fn open(&mut self, channel: Channel, slot: Option<usize>, expected: u32, since: u64) {
        let at = self.all.iter().position(|listener| listener.relay.has(&channel)).unwrap_or(0);
        let mut copies = copies(&self.settings, self.number);
        self.all[at].relay.open(channel, slot, expected, since, &mut copies, now());
    }

    /// Goes on after an event.
    pub fn advance(&mut self, servers: &mut Servers) -> Report {
        let mut report = Report::default();
        self.place(servers);
        for listener in &mut self.all {
            listener.advance(&self.settings, self.figures, self.number, &mut report);
        }
        if self.take_displaced(servers) {
            self.place(servers);
            for listener in &mut self.all {
                listener.advance(&self.settings, self.figures, self.number, &mut report);
            }
        }
        self.tell(servers);
        report
    }

    /// Nobody here listens any more.
    pub fn leave(self) {
        figures::listens(self.figures, false);
        if self.all.iter().any(|listener| listener.node.is_none() && listener.away) {
            // Who listens next says so for itself.
            figures::regained(self.figures, Loss::Listening, true);
        }
    }

    /// The listener at a node of a cluster; the first one if it cannot be connected to.
    fn at(&mut self, node: &Node) -> usize {
        if let Some(at) = self.all.iter().position(|listener| listener.node.as_ref() == Some(node)) {
            return at;
        }
        let Some(host) = Host::told(node, &self.settings.hosts) else { return 0 };
        let mut listener = self.listener(Some(node.clone()));
        listener.link.aim(&Rc::new(host), End::Replaced);
        self.all.push(listener);
        self.all.len() - 1
    }

    /// Brings channels to the nodes that have their slots.
    fn place(&mut self, servers: &mut Servers) {
        let Servers::Cluster(cluster) = servers else { return };
        let has_changed = cluster.take_changed();
        let Some(slots) = cluster.slots() else { return };
        if has_changed {
            for at in (0..self.all.len()).rev() {
                self.send_away(at, slots);
            }
            self.let_go(slots);
        } else {
            self.send_away(0, slots);
        }
    }

    /// The channels of a listener that do not belong to its node go where they belong.
    fn send_away(&mut self, from: usize, slots: &Slots) {
        let node = self.all[from].node.as_ref();
        if self.all[from].relay.is_empty() {
            return;
        }
        for topic in self.all[from].relay.misplaced(|slot| slots.owner(slot) == node) {
            let listener = &mut self.all[from];
            let Some(moving) = listener.relay.take(&topic, listener.link.connection(), now()) else { continue };
            let to = slots.owner(moving.slot()).map_or(0, |node| self.at(node));
            self.all[to].relay.adopt(moving, false, now());
            self.all[to].link.post();
        }
        if from == 0 && self.all[0].relay.is_empty() {
            // With what it has noted of channels that are elsewhere now; it was never asked for anything that counts.
            self.all[0].relay = self.relay();
        }
    }

    /// Closes connections to nodes that have no slots any more.
    fn let_go(&mut self, slots: &Slots) {
        let gone = &mut self.gone;
        self.all.retain(|listener| {
            let is_needed = listener.node.as_ref().is_none_or(|node| slots.has(node)) || !listener.relay.is_empty();
            if !is_needed {
                *gone = gone.and(listener.relay.counts());
            }
            is_needed
        });
    }

    /// Follows what nodes have said of channels that are not there. Whether there was anything.
    fn take_displaced(&mut self, servers: &mut Servers) -> bool {
        let Servers::Cluster(cluster) = servers else { return false };
        let mut any = false;
        for from in 0..self.all.len() {
            for displaced in self.all[from].relay.take_displaced() {
                any = true;
                let host = self.all[from].node.as_ref().map_or("", |node| &node.host);
                let node = displaced.to.node(host);
                if !displaced.asking {
                    cluster.moved(displaced.to.slot, node.clone());
                }
                let to = self.at(&node);
                let listener = &mut self.all[from];
                if to != 0
                    && to != from
                    && let Some(moving) = listener.relay.take(&displaced.topic, listener.link.connection(), now())
                {
                    self.all[to].relay.adopt(moving, displaced.asking, now());
                    self.all[to].link.post();
                }
            }
        }
        any
    }
}

impl Listener {
    fn name(&self, settings: &Settings) -> String {
        match &self.node {
            Some(node) => format!("{} at {node}", settings.name()),
            None => settings.name(),
        }
    }

    fn advance(&mut self, settings: &Settings, figures: Option<Figures>, number: u32, report: &mut Report) {
        // Whether the engine is there is not what one of the nodes of a cluster says.
        let figures = figures.filter(|_| self.node.is_none());
        self.link.advance();
        while let Some(event) = self.link.next_event() {
            if let Event::Ready(server) = &event {
                report.is_there = true;
                if std::mem::replace(&mut self.run_id, server.run_id.clone()) != server.run_id
                    && self.relay.serves_another_server()
                {
                    if self.node.is_some() {
                        self.relay.forsake(&mut copies(settings, number));
                    } else {
                        report.is_another_server = true;
                    }
                }
                let was_away = std::mem::take(&mut self.away);
                if figures::regained(figures, Loss::Listening, was_away) {
                    figures::log_return(&self.name(settings), server);
                }
            }
            if let Event::Ended(end) = &event {
                report.ended = true;
                if !std::mem::replace(&mut self.away, true) && figures::lost(figures, Loss::Listening) {
                    let name = self.name(settings);
                    log::cycle(Level::Error, format_args!("channels: not listening to {name}: {end}"));
                }
            }
            match self.link.connection() {
                Some(connection) => {
                    self.relay.on_event(event, connection, &mut copies(settings, number), now());
                }
                None => self.relay.disconnected(),
            }
        }
        if let Some(connection) = self.link.connection() {
            self.relay.on_time(connection, &mut copies(settings, number), now());
        }
        self.link.wake_by(self.relay.deadline().filter(|_| self.link.is_ready()));
        if self.relay.take_needs_another_connection() {
            self.link.renew();
        }
        self.link.advance();
    }
}
