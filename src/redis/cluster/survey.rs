// SPDX-License-Identifier: Apache-2.0

//! Who is asked for the slots of a cluster, and which answer counts.
//!
//! One node at a time is asked, from one drawn at random on: a node that is cut off from the others goes on to tell the slots
//! of before. Of two answers the one of the later epoch of the cluster counts. What an answer has wrong is put right by the
//! nodes themselves (`MOVED`). Who owns the connection passes its events in, and connects it to the node that is named.

use super::slots::Slots;
use crate::redis::command::append;
use crate::redis::connection::{Connection, Event, Token};
use crate::redis::resp::Value;
use crate::redis::script::reply::decimal;
use crate::redis::url::Node;

/// How often a node is asked, in milliseconds: while all is well, and while something was found at another place.
const CALM: u64 = 10_000;
const EAGER: u64 = 200;

/// The least time between two questions, in milliseconds.
const LEAST: u64 = 100;

/// For how long after a doubt it is asked often, in milliseconds. Commands that fail bring new doubts.
const DOUBT: u64 = 3_000;

/// What the owner of the connection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The owner does nothing.
    Stay,
    /// The owner connects to the node that [`Survey::target`] names now.
    Next,
}

/// What a node was asked.
#[derive(Debug)]
struct Question {
    state: Token,
    slots: Token,
    /// The first answer, when it has come.
    epoch: Option<u64>,
}

/// The survey of a cluster.
#[derive(Debug)]
pub struct Survey {
    /// Nodes that the configuration names.
    seeds: Vec<Node>,
    /// The seeds, and the masters that were found. Invariant: never empty.
    nodes: Vec<Node>,
    at: usize,
    next_token: u64,
    question: Option<Question>,
    ask_at: Option<u64>,
    asked_at: u64,
    doubted_until: u64,
    /// Epoch of what is known, and nodes in a row that gave older answers.
    epoch: u64,
    older_answers: usize,
    /// Nodes in a row that were not there, or could not tell.
    failures: usize,
    found: Option<Slots>,
    random: u64,
}

impl Survey {
    /// Begins with the node that `random` picks. `None` where there is no node to ask.
    pub fn new(seeds: Vec<Node>, random: u64) -> Option<Self> {
        // A remainder of a length fits its type.
        let at = random.checked_rem(seeds.len() as u64)? as usize;
        Some(Survey {
            nodes: seeds.clone(),
            seeds,
            at,
            next_token: 0,
            question: None,
            ask_at: None,
            asked_at: 0,
            doubted_until: 0,
            epoch: 0,
            older_answers: 0,
            failures: 0,
            found: None,
            random,
        })
    }

    /// The node to connect to.
    pub fn target(&self) -> &Node {
        debug_assert!(self.at < self.nodes.len(), "the place of a node");
        &self.nodes[self.at]
    }

    /// The slots, when they were found since the last call.
    pub fn take_found(&mut self) -> Option<Slots> {
        self.found.take()
    }

    /// Whether all nodes were asked in vain since one could tell.
    pub fn is_lost(&self) -> bool {
        self.failures >= self.nodes.len()
    }

    /// Something is not where it should be.
    pub fn doubt(&mut self, now: u64) {
        self.doubted_until = now + DOUBT;
        if self.ask_at.is_some() {
            self.ask_at = Some(self.asked_at + LEAST);
        }
    }

    /// When [`on_time`](Self::on_time) is to be called.
    pub fn deadline(&self) -> Option<u64> {
        if self.question.is_some() { None } else { self.ask_at }
    }

    /// Time has passed.
    pub fn on_time(&mut self, connection: Option<&mut Connection>, now: u64) -> Step {
        if self.question.is_some() || self.ask_at.is_none_or(|at| at > now) {
            return Step::Stay;
        }
        if self.doubted_until <= now {
            // All is well: another node has its turn.
            return self.leave();
        }
        if let Some(connection) = connection {
            self.ask(connection, now);
        }
        Step::Stay
    }

    /// Something has happened on the connection.
    pub fn on_event(&mut self, event: Event, connection: Option<&mut Connection>, now: u64) -> Step {
        match (event, connection) {
            (Event::Ready(_), Some(connection)) => {
                self.ask(connection, now);
                Step::Stay
            }
            (Event::Answered(token, reply), Some(_)) => self.answered(token, &reply, now),
            (Event::Ended(_), _) => self.failed(),
            _ => Step::Stay,
        }
    }

    fn failed(&mut self) -> Step {
        self.failures = self.failures.saturating_add(1);
        self.leave()
    }

    /// The next node is asked.
    fn leave(&mut self) -> Step {
        self.at = (self.at + 1) % self.nodes.len();
        self.question = None;
        self.ask_at = None;
        Step::Next
    }

    fn ask(&mut self, connection: &mut Connection, now: u64) {
        let (state, slots) = (Token(self.next_token), Token(self.next_token + 1));
        let asked = connection
            .command(state, now, |out| append(&[b"CLUSTER", b"INFO"], out))
            .and_then(|()| connection.command(slots, now, |out| append(&[b"CLUSTER", b"SLOTS"], out)));
        if asked.is_ok() {
            self.next_token += 2;
            self.question = Some(Question { state, slots, epoch: None });
        }
        self.asked_at = now;
        let time = if self.doubted_until > now { EAGER } else { CALM };
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.ask_at = Some(now + time / 2 + (self.random >> 33) % (time / 2 + 1));
    }

    fn answered(&mut self, token: Token, reply: &Value, now: u64) -> Step {
        let Some(question) = &mut self.question else { return Step::Stay };
        if token == question.state {
            question.epoch = epoch(reply);
            return Step::Stay;
        }
        if token != question.slots {
            return Step::Stay;
        }
        // A user who may not ask for the epoch is told what the node knows.
        let epoch = question.epoch.unwrap_or(self.epoch);
        self.question = None;
        let Some(slots) = Slots::of(reply, self.target()).filter(|slots| !slots.masters().is_empty()) else {
            return self.failed();
        };
        if epoch < self.epoch {
            self.older_answers += 1;
            // Where all of them say so, the cluster was set up anew.
            if self.older_answers < self.nodes.len() {
                return self.leave();
            }
        }
        self.epoch = epoch;
        self.older_answers = 0;
        self.failures = 0;
        let asked = self.target().clone();
        self.nodes = slots.masters().to_vec();
        for seed in self.seeds.iter().chain([&asked]) {
            if !self.nodes.contains(seed) {
                self.nodes.push(seed.clone());
            }
        }
        self.at = self.nodes.iter().position(|node| *node == asked).unwrap_or(0);
        self.found = Some(slots);
        if self.doubted_until > now && self.nodes.len() > 1 {
            // What is in doubt may be what this node does not know yet; it is asked once more before another one is.
            self.ask_at = Some(now + EAGER);
        }
        Step::Stay
    }
}

/// The epoch of the cluster as a node knows it, of the lines of `CLUSTER INFO`.
fn epoch(reply: &Value) -> Option<u64> {
    let lines = reply.octets()?.split(|&octet| octet == b'\n');
    let mut epochs = lines.filter_map(|line| line.strip_prefix(b"cluster_current_epoch:"));
    decimal(epochs.next()?.strip_suffix(b"\r")?)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::redis::connection::{End, Purpose, Settings};
    use crate::redis::resp::Limits;

    const HELLO: &[u8] = b"%3\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+mode\r\n+cluster\r\n";

    fn at(port: u16) -> Node {
        Node { host: "h".to_owned(), port }
    }

    fn connection() -> Connection {
        let settings = Settings {
            purpose: Purpose::Survey,
            user: None,
            password: None,
            database: 0,
            timeout: 1000,
            most_pending: 10,
            limits: Limits::default(),
        };
        Connection::new(Rc::new(settings), 0, 1000)
    }

    struct Pair {
        survey: Survey,
        connection: Connection,
        now: u64,
    }

    impl Pair {
        fn new(seeds: u16) -> Self {
            let survey = Survey::new((1..=seeds).map(at).collect(), 0).unwrap();
            Pair { survey, connection: connection(), now: 0 }
        }

        fn says(&mut self, octets: &[u8]) -> Step {
            for octet in octets {
                self.connection.receive(std::slice::from_ref(octet), self.now);
                while let Some(event) = self.connection.next_event() {
                    if self.survey.on_event(event, Some(&mut self.connection), self.now) == Step::Next {
                        self.connection = connection();
                        return Step::Next;
                    }
                }
            }
            Step::Stay
        }

        /// All slots are at a port.
        fn answers(&mut self, epoch: u64, port: u16) -> Step {
            let state = format!("cluster_state:ok\r\ncluster_current_epoch:{epoch}\r\n");
            let said =
                format!("${}\r\n{state}\r\n*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\nh\r\n:{port}\r\n", state.len());
            self.says(said.as_bytes())
        }

        fn found(&mut self) -> Option<u16> {
            self.survey.take_found().map(|slots| slots.owner(7).unwrap().port)
        }
    }

    #[test]
    fn slots_are_found_and_nodes_take_turns() {
        let mut pair = Pair::new(2);
        assert_eq!(pair.survey.target(), &at(1));
        assert_eq!(pair.says(HELLO), Step::Stay);
        assert_eq!(pair.answers(3, 7), Step::Stay);
        assert_eq!((pair.found(), pair.found()), (Some(7), None));
        let calm = pair.survey.deadline().unwrap();
        assert!((CALM / 2..=CALM).contains(&calm));
        assert_eq!(pair.survey.on_time(Some(&mut pair.connection), calm - 1), Step::Stay);
        assert_eq!(pair.survey.on_time(Some(&mut pair.connection), calm), Step::Next);
        assert_ne!(pair.survey.target(), &at(1));
    }

    #[test]
    fn doubts_are_asked_about_often_but_not_without_end() {
        let mut pair = Pair::new(1);
        let _ = pair.says(HELLO);
        let _ = pair.answers(3, 7);
        for _ in 0..5 {
            pair.survey.doubt(10);
        }
        assert_eq!(pair.survey.deadline(), Some(LEAST));
        pair.now = LEAST;
        assert_eq!(pair.survey.on_time(Some(&mut pair.connection), pair.now), Step::Stay);
        assert_eq!(pair.survey.deadline(), None);
        pair.survey.doubt(pair.now);
        let _ = pair.answers(4, 8);
        assert_eq!(pair.found(), Some(8));
        assert_eq!(pair.survey.deadline(), Some(pair.now + EAGER));
    }

    #[test]
    fn older_answers_do_not_count_unless_all_give_them() {
        let mut pair = Pair::new(2);
        let _ = pair.says(HELLO);
        let _ = pair.answers(5, 2);
        assert_eq!(pair.found(), Some(2));
        let _ = pair.survey.on_event(Event::Ended(End::Lost), None, 0);
        pair.connection = connection();
        let _ = pair.says(HELLO);
        assert_eq!(pair.answers(4, 1), Step::Next);
        assert_eq!(pair.found(), None);
        let _ = pair.says(HELLO);
        assert_eq!(pair.answers(4, 1), Step::Stay);
        assert_eq!(pair.found(), Some(1));
    }

    #[test]
    fn nodes_that_cannot_tell_are_left() {
        let mut pair = Pair::new(2);
        assert_eq!(pair.says(b"-ERR This instance has cluster support disabled\r\n"), Step::Next);
        assert!(!pair.survey.is_lost());
        let _ = pair.says(HELLO);
        assert_eq!(pair.says(b"-ERR\r\n-NOPERM no\r\n"), Step::Next);
        assert!(pair.survey.is_lost());
        let _ = pair.says(HELLO);
        // Without the right to ask for the epoch.
        let said = b"-NOPERM no\r\n*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\nh\r\n:9\r\n";
        assert_eq!(pair.says(said), Step::Stay);
        assert_eq!(pair.found(), Some(9));
        assert!(!pair.survey.is_lost());
        assert!(Survey::new(Vec::new(), 3).is_none());
    }
}
