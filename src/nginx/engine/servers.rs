// SPDX-License-Identifier: Apache-2.0

//! Where the commands of an engine go: to one server, or to the nodes of a cluster.

use std::ffi::c_void;
use std::rc::Rc;

use super::Settings;
use super::cluster::Cluster;
use super::one::One;
use crate::ledger::engines::Figures;
use crate::nginx::timer::Handler;
use crate::redis::connection::{Token, Unanswered};
use crate::redis::resp::Value;
use crate::redis::url::Place;

/// A command of a worker.
pub struct Command {
    /// The slot of the channel that it is about.
    pub slot: u16,
    /// Whether the command publishes a message.
    pub publishes: bool,
    /// As it is sent.
    pub octets: Vec<u8>,
    /// When the command is to be answered.
    pub deadline: u64,
}

/// What has become of a command.
pub enum CommandOutcome {
    /// The command was answered, with an error also.
    Answered(Token, Value),
    /// The command will not be answered.
    Failed(Token, Unanswered),
}

/// The servers of an engine, as this worker is connected to them.
pub enum Servers {
    /// One server at a time.
    One(Box<One>),
    /// The nodes of a cluster.
    Cluster(Box<Cluster>),
}

impl Servers {
    /// The servers of an engine. `handler` is called with the `owner` of their events.
    pub fn new(settings: &Rc<Settings>, figures: Option<Figures>, handler: Handler, owner: *mut c_void) -> Self {
        match settings.place() {
            Place::Cluster(_) => Servers::Cluster(Box::new(Cluster::new(settings, figures, handler, owner))),
            Place::Server(_) | Place::Unix(_) | Place::Sentinel { .. } => {
                Servers::One(Box::new(One::new(settings, figures, handler, owner)))
            }
        }
    }

    /// The server that answered last, with its product and version; of a cluster the masters.
    pub fn master(&self) -> String {
        match self {
            Servers::One(one) => one.master(),
            Servers::Cluster(cluster) => cluster.masters(),
        }
    }

    /// Whether a command would be refused at once.
    pub fn is_away(&self) -> bool {
        match self {
            Servers::One(one) => one.is_away(),
            Servers::Cluster(cluster) => cluster.is_away(),
        }
    }

    /// Sends a command. What becomes of it is [told](Self::next) also where nothing was sent.
    pub fn submit(&mut self, token: Token, command: Command) {
        match self {
            Servers::One(one) => one.submit(token, command),
            Servers::Cluster(cluster) => cluster.submit(token, command),
        }
    }

    /// The owner is called again once everything else of this turn was done.
    pub fn post(&mut self) {
        match self {
            Servers::One(one) => one.post(),
            Servers::Cluster(cluster) => cluster.post(),
        }
    }

    /// Ends the connections, so that others are made.
    pub fn renew(&mut self) {
        match self {
            Servers::One(one) => one.renew(),
            Servers::Cluster(cluster) => cluster.renew(),
        }
    }

    /// The connection that listens has ended: its server may be none that can be used.
    pub fn doubt(&mut self) {
        match self {
            Servers::One(one) => one.doubt(),
            Servers::Cluster(cluster) => cluster.doubt(),
        }
    }

    /// The connection that listens is there: so is its server.
    pub fn trust(&mut self) {
        match self {
            Servers::One(one) => one.trust(),
            // Doubts about the slots end by themselves.
            Servers::Cluster(_) => {}
        }
    }

    /// Goes on after an event.
    pub fn advance(&mut self) {
        match self {
            Servers::One(one) => one.advance(),
            Servers::Cluster(cluster) => cluster.advance(),
        }
    }

    /// What has become of commands.
    pub fn next(&mut self) -> Option<CommandOutcome> {
        match self {
            Servers::One(one) => one.next(),
            Servers::Cluster(cluster) => cluster.next(),
        }
    }
}
