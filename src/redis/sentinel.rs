// SPDX-License-Identifier: Apache-2.0

//! Which server is the master: what Sentinels say of it ("Guidelines for Redis clients with support for Redis Sentinel").
//!
//! One Sentinel at a time is listened to and asked, from one drawn at random on, and after a while the next one: a Sentinel
//! that is cut off from the others goes on to name the master of before, and does not know better. Of two answers the one of
//! the later configuration epoch counts. What Sentinels say is believed only as far as the server itself confirms it, by its
//! role. Who owns the connection passes its events in, and connects it to the Sentinel that is named.

use super::command::append;
use super::connection::{Connection, Event, Token};
use super::notice::Notice;
use super::resp::Value;
use super::script::reply::decimal;
use super::url::Node;

/// The Pub/Sub channels by which a Sentinel tells that a master is being replaced, or was. It is asked then: what it tells has no
/// configuration epoch.
pub const EVENTS: [&[u8]; 3] = [b"+switch-master", b"+promoted-slave", b"+config-update-from"];

/// How often a Sentinel is asked, in milliseconds: while the master is there, and while it is not.
const CALM: u64 = 2_000;
const EAGER: u64 = 250;

/// How long one Sentinel is asked before the next one is, in milliseconds: while the master is there, and while it is not.
const STAY: u64 = 10_000;
const EAGER_STAY: u64 = 1_000;

/// A master as a Sentinel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Master {
    node: Node,
    /// The configuration epoch ("Sentinel", configuration epochs): of two masters the one with the higher one was elected later.
    epoch: u64,
}

/// What a worker has learned of elections, for the others of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Election {
    /// The configuration epoch of the master.
    pub epoch: u64,
    /// All Sentinels are behind what was known before: they were set up anew.
    pub anew: bool,
}

/// What a Sentinel was asked.
#[derive(Debug)]
struct Question {
    address: Token,
    state: Token,
    /// The first answer, when it has come.
    node: Option<Node>,
}

/// What the owner of the connection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The owner does nothing.
    Stay,
    /// The owner connects to the Sentinel that [`Watch::target`] names now.
    Next,
}

/// The watch over who is the master of a name.
#[derive(Debug)]
pub struct Watch {
    name: String,
    /// How many Sentinels there are; never 0.
    count: usize,
    at: usize,
    next_token: u64,
    question: Option<Question>,
    /// Something has happened since the question was asked.
    again: bool,
    ask_at: Option<u64>,
    /// When the next Sentinel is asked.
    leave_at: Option<u64>,
    known: Option<Master>,
    /// The latest configuration epoch that this machine knows of.
    newest: u64,
    /// What is to be told to the other workers.
    election: Option<Election>,
    /// What the first Sentinel has said, as long as nothing else is known: another one is asked before that is believed.
    first: Option<Master>,
    /// The latest of the answers that are older than what is known, and which Sentinels gave such answers.
    older: Option<Master>,
    older_from: Vec<bool>,
    /// Sentinels in a row that knew nothing, or were not there.
    failures: usize,
    /// The master is not there, or says that it is none.
    doubted: bool,
    /// Sentinels do not tell epochs to this user.
    has_no_epochs: bool,
    changed: bool,
    random: u64,
}

impl Watch {
    /// Begins with the one of `count` Sentinels that `random` picks. `None` where there is no Sentinel to ask.
    pub fn new(count: usize, name: String, random: u64) -> Option<Self> {
        // A remainder of a length fits its type.
        let at = random.checked_rem(count as u64)? as usize;
        Some(Watch {
            name,
            count,
            at,
            next_token: 0,
            question: None,
            again: false,
            ask_at: None,
            leave_at: None,
            known: None,
            newest: 0,
            election: None,
            first: None,
            older: None,
            older_from: vec![false; count],
            failures: 0,
            doubted: true,
            has_no_epochs: false,
            changed: false,
            random,
        })
    }

    /// The number of the Sentinel to connect to.
    pub fn target(&self) -> usize {
        self.at
    }

    /// The master, when it has become another one since the last call.
    pub fn take_changed(&mut self) -> Option<&Node> {
        std::mem::take(&mut self.changed).then_some(self.known.as_ref().map(|known| &known.node)).flatten()
    }

    /// The workers of this machine have heard of an election up to this configuration epoch: who has just begun is not to believe a
    /// Sentinel that does not know of it.
    pub fn hear_of(&mut self, epoch: u64) {
        self.newest = epoch;
    }

    /// What the workers of this machine do not know of elections, since the last call.
    pub fn take_election(&mut self) -> Option<Election> {
        self.election.take()
    }

    /// Whether every Sentinel was asked in vain since one of them has known a master.
    pub fn is_lost(&self) -> bool {
        self.failures >= self.count
    }

    /// The master is not there, or says that it is none.
    pub fn doubt(&mut self, now: u64) {
        if !std::mem::replace(&mut self.doubted, true) {
            self.ask_at = self.ask_at.map(|_| now);
            self.leave_at = self.leave_at.map(|at| at.min(now + EAGER_STAY));
        }
    }

    /// The master is there.
    pub fn trust(&mut self) {
        self.doubted = false;
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub fn deadline(&self) -> Option<u64> {
        let asked = if self.question.is_some() { None } else { self.ask_at };
        [asked, self.leave_at].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn on_time(&mut self, connection: Option<&mut Connection>, now: u64) -> Step {
        if self.leave_at.is_some_and(|at| at <= now) {
            return self.leave(now);
        }
        match connection {
            Some(connection) if self.ask_at.is_some_and(|at| at <= now) => self.ask(connection, now),
            _ => {}
        }
        Step::Stay
    }

    /// Something has happened on the connection.
    pub fn on_event(&mut self, event: Event, connection: Option<&mut Connection>, now: u64) -> Step {
        match (event, connection) {
            (Event::Ready(_), Some(connection)) => {
                // First it listens: what happens after the answer is told then.
                let _ = connection.subscribe(&EVENTS, now);
                let stay = self.spread(if self.doubted { EAGER_STAY } else { STAY });
                // Where there is one Sentinel there is no other one to go to.
                self.leave_at = (self.count > 1).then_some(now + stay);
                self.ask(connection, now);
                Step::Stay
            }
            (Event::Answered(token, reply), Some(_)) => self.answered(token, &reply, now),
            (Event::Notice(Notice::Foreign { topic, .. }), Some(connection)) if EVENTS.contains(&&*topic) => {
                self.ask(connection, now);
                Step::Stay
            }
            (Event::Ended(_), _) => {
                self.failures = self.failures.saturating_add(1);
                self.leave(now)
            }
            _ => Step::Stay,
        }
    }

    /// The next Sentinel is asked.
    fn leave(&mut self, now: u64) -> Step {
        self.at = (self.at + 1) % self.count;
        self.question = None;
        self.again = false;
        self.ask_at = None;
        // One that does not answer keeps nobody from what is known already.
        self.leave_at = self.first.as_ref().map(|_| now + EAGER_STAY);
        Step::Next
    }

    /// The time with a part of it drawn at random: many nodes do not ask in one moment.
    fn spread(&mut self, time: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        time / 2 + (self.random >> 33) % (time / 2 + 1)
    }

    fn ask(&mut self, connection: &mut Connection, now: u64) {
        if self.question.is_some() {
            self.again = true;
            return;
        }
        let (address, state) = (Token(self.next_token), Token(self.next_token + 1));
        let name = self.name.as_bytes();
        let asked = connection
            .command(address, now, |out| append(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name], out))
            .and_then(|()| connection.command(state, now, |out| append(&[b"SENTINEL", b"MASTER", name], out)));
        if asked.is_ok() {
            self.next_token += 2;
            self.question = Some(Question { address, state, node: None });
        }
        self.ask_at = Some(now + self.spread(if self.doubted { EAGER } else { CALM }));
    }

    fn answered(&mut self, token: Token, reply: &Value, now: u64) -> Step {
        let Some(question) = &mut self.question else { return Step::Stay };
        if token == question.address {
            question.node = master(reply);
            return Step::Stay;
        }
        if token != question.state {
            return Step::Stay;
        }
        let node = question.node.take();
        self.question = None;
        if std::mem::take(&mut self.again) {
            self.ask_at = Some(now);
        }
        let Some(node) = node else {
            self.failures = self.failures.saturating_add(1);
            return self.leave(now);
        };
        let epoch = configuration_epoch(reply);
        self.has_no_epochs = epoch.is_none();
        self.heard(node, epoch, now)
    }

    fn heard(&mut self, node: Node, epoch: Option<u64>, now: u64) -> Step {
        let newest = self.known.as_ref().map_or(0, |known| known.epoch).max(self.newest);
        let epoch = epoch.unwrap_or(newest);
        let mut master = Master { node, epoch };
        let is_older = newest > epoch;
        if is_older {
            if let Some(from) = self.older_from.get_mut(self.at) {
                *from = true;
            }
            if self.older.as_ref().is_none_or(|older| older.epoch <= epoch) {
                self.older = Some(master);
            }
            // Where all of them say so, they were set up anew. One that is there alone may have been cut off from the others.
            if self.older_from.contains(&false) {
                return self.leave(now);
            }
            match self.older.take() {
                Some(older) => master = older,
                None => return Step::Stay,
            }
        }
        let first = self.first.take();
        if self.count > 1 && self.known.is_none() && newest == 0 && !self.has_no_epochs {
            match first {
                None => {
                    self.first = Some(master);
                    return self.leave(now);
                }
                Some(first) if first.epoch > master.epoch => master = first,
                Some(_) => {}
            }
        }
        self.older = None;
        self.older_from.fill(false);
        if is_older || master.epoch > self.newest {
            self.newest = master.epoch;
            self.election = Some(Election { epoch: master.epoch, anew: is_older });
        }
        self.failures = 0;
        if self.known.as_ref().is_none_or(|known| known.node != master.node) {
            self.changed = true;
            // The new one has yet to say that it is the master.
            self.doubted = true;
            self.leave_at = self.leave_at.map(|at| at.max(now + EAGER_STAY));
        }
        self.known = Some(master);
        if self.has_no_epochs && !self.doubted {
            // Nothing tells which of two Sentinels is right: the one that is asked stays.
            self.leave_at = None;
        }
        Step::Stay
    }
}

/// The master by name: an array of host and port; `None` if the Sentinel does not know the name, or has said something else.
fn master(reply: &Value) -> Option<Node> {
    let [host, port] = reply.values()? else { return None };
    let host = std::str::from_utf8(host.octets()?).ok().filter(|host| !host.is_empty())?;
    let port = decimal(port.octets()?).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0)?;
    Some(Node { host: host.to_owned(), port })
}

/// The configuration epoch of a master, of the map that describes it.
fn configuration_epoch(reply: &Value) -> Option<u64> {
    let pair = reply.values()?.chunks_exact(2).find(|pair| pair[0].octets() == Some(b"config-epoch"))?;
    decimal(pair[1].octets()?)
}

#[cfg(test)]
mod tests;
