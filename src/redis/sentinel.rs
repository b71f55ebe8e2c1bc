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
    /// The latest of the answers that are older than what is known, and Sentinels in a row that gave such answers.
    older: Option<Master>,
    older_answers: usize,
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
            older: None,
            older_answers: 0,
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
            return self.leave();
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
                self.leave()
            }
            _ => Step::Stay,
        }
    }

    /// The next Sentinel is asked.
    fn leave(&mut self) -> Step {
        self.at = (self.at + 1) % self.count;
        self.question = None;
        self.again = false;
        self.ask_at = None;
        self.leave_at = None;
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
            return self.leave();
        };
        let epoch = configuration_epoch(reply);
        self.has_no_epochs = epoch.is_none();
        self.heard(node, epoch, now)
    }

    fn heard(&mut self, node: Node, epoch: Option<u64>, now: u64) -> Step {
        let known = self.known.as_ref();
        let epoch = epoch.unwrap_or_else(|| known.map_or(0, |known| known.epoch));
        let mut master = Master { node, epoch };
        if known.is_some_and(|known| known.epoch > epoch) {
            self.older_answers += 1;
            if self.older.as_ref().is_none_or(|older| older.epoch <= epoch) {
                self.older = Some(master);
            }
            // Where all of them say so, they were set up anew.
            if self.older_answers < self.count {
                return self.leave();
            }
            match self.older.take() {
                Some(older) => master = older,
                None => return Step::Stay,
            }
        }
        self.older = None;
        self.older_answers = 0;
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
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::redis::connection::{End, Purpose, Settings};
    use crate::redis::resp::Limits;

    const HELLO: &[u8] = b"%3\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+mode\r\n+sentinel\r\n";

    fn connection() -> Connection {
        let settings = Settings {
            purpose: Purpose::Sentinel,
            user: None,
            password: None,
            database: 0,
            timeout: 1000,
            most_pending: 10,
            limits: Limits::default(),
        };
        Connection::new(Rc::new(settings), 0, 1000)
    }

    /// What a Sentinel and its client do with each other.
    struct Pair {
        watch: Watch,
        connection: Connection,
        now: u64,
    }

    impl Pair {
        fn new(count: usize) -> Self {
            let watch = Watch::new(count, "news".to_owned(), 7).unwrap();
            Pair { watch, connection: connection(), now: 0 }
        }

        /// Octets of the Sentinel, one at a time, until the watch is to go on elsewhere.
        fn says(&mut self, octets: &[u8]) -> Step {
            for octet in octets {
                self.connection.receive(std::slice::from_ref(octet), self.now);
                while let Some(event) = self.connection.next_event() {
                    if self.watch.on_event(event, Some(&mut self.connection), self.now) == Step::Next {
                        self.connection = connection();
                        return Step::Next;
                    }
                }
            }
            Step::Stay
        }

        fn asked(&mut self) -> String {
            let octets = self.connection.take_outgoing();
            self.connection.sent(octets.len());
            String::from_utf8(octets).unwrap()
        }

        fn begins(&mut self) {
            assert_eq!(self.says(HELLO), Step::Stay);
            let asked = self.asked();
            assert!(asked.find("+switch-master").unwrap() < asked.find("GET-MASTER-ADDR-BY-NAME").unwrap());
            for (number, topic) in EVENTS.iter().enumerate() {
                let topic = std::str::from_utf8(topic).unwrap();
                let said = format!(">3\r\n$9\r\nsubscribe\r\n${}\r\n{topic}\r\n:{}\r\n", topic.len(), number + 1);
                assert_eq!(self.says(said.as_bytes()), Step::Stay);
            }
        }

        fn answers(&mut self, port: u16, epoch: &str) -> Step {
            let _ = self.says(format!("*2\r\n$9\r\n127.0.0.1\r\n$4\r\n{port}\r\n").as_bytes());
            self.says(format!("%1\r\n$12\r\nconfig-epoch\r\n${}\r\n{epoch}\r\n", epoch.len()).as_bytes())
        }

        fn changed(&mut self) -> Option<u16> {
            self.watch.take_changed().map(|node| node.port)
        }
    }

    #[test]
    fn it_listens_and_then_asks() {
        let mut pair = Pair::new(3);
        assert_eq!(pair.watch.target(), 1);
        pair.begins();
        assert_eq!(pair.changed(), None);
        assert_eq!(pair.answers(6379, "3"), Step::Stay);
        assert_eq!((pair.changed(), pair.changed()), (Some(6379), None));
    }

    #[test]
    fn an_event_is_a_reason_to_ask() {
        let mut pair = Pair::new(3);
        pair.begins();
        let _ = pair.answers(6379, "3");
        pair.watch.trust();
        pair.asked();
        let event = b">3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$1\r\nx\r\n";
        assert_eq!(pair.says(event), Step::Stay);
        assert!(pair.asked().contains("news"));
        // Another one while the answer is awaited: it is asked once more.
        assert_eq!(pair.says(event), Step::Stay);
        assert_eq!(pair.answers(6380, "4"), Step::Stay);
        assert_eq!(pair.changed(), Some(6379 + 1));
        assert_eq!(pair.watch.deadline(), Some(0));
        assert_eq!(pair.watch.on_time(Some(&mut pair.connection), 0), Step::Stay);
        assert!(pair.asked().contains("GET-MASTER"));
    }

    #[test]
    fn a_sentinel_that_knows_nothing_is_left() {
        let mut pair = Pair::new(2);
        for round in 0..2 {
            assert!(!pair.watch.is_lost());
            let target = pair.watch.target();
            pair.begins();
            assert_eq!(pair.says(b"_\r\n"), Step::Stay, "round {round}");
            assert_eq!(pair.says(b"-ERR No such master with that name\r\n"), Step::Next);
            assert_ne!(pair.watch.target(), target);
        }
        assert!(pair.watch.is_lost());
        pair.begins();
        let _ = pair.answers(6379, "0");
        assert!(!pair.watch.is_lost());
        assert_eq!(pair.changed(), Some(6379));
    }

    #[test]
    fn a_connection_that_ends_leads_to_the_next_one() {
        let mut pair = Pair::new(3);
        let target = pair.watch.target();
        assert_eq!(pair.watch.on_event(Event::Ended(End::Lost), None, 5), Step::Next);
        assert_ne!(pair.watch.target(), target);
        assert_eq!(pair.watch.deadline(), None);
    }

    #[test]
    fn the_later_epoch_counts() {
        let mut pair = Pair::new(3);
        pair.begins();
        let _ = pair.answers(6380, "5");
        assert_eq!(pair.changed(), Some(6380));
        let at = pair.watch.deadline().unwrap().max(EAGER_STAY);
        pair.now = at;
        assert_eq!(pair.watch.on_time(Some(&mut pair.connection), at), Step::Next);
        pair.connection = connection();
        // One that was cut off names the master of before.
        pair.begins();
        assert_eq!(pair.answers(6379, "4"), Step::Next);
        assert_eq!(pair.changed(), None);
        pair.begins();
        assert_eq!(pair.answers(6380, "5"), Step::Stay);
        assert_eq!(pair.changed(), None);
    }

    #[test]
    fn sentinels_that_were_set_up_anew_are_believed() {
        let mut pair = Pair::new(2);
        pair.begins();
        let _ = pair.answers(6380, "5");
        assert_eq!(pair.changed(), Some(6380));
        let _ = pair.watch.on_event(Event::Ended(End::Lost), None, 0);
        pair.connection = connection();
        pair.begins();
        assert_eq!(pair.answers(6379, "0"), Step::Next);
        pair.begins();
        assert_eq!(pair.answers(6379, "0"), Step::Stay);
        assert_eq!(pair.changed(), Some(6379));
    }

    #[test]
    fn without_epochs_one_sentinel_is_asked_as_long_as_the_master_is_there() {
        let mut pair = Pair::new(3);
        pair.begins();
        let said = "*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n";
        let _ = pair.says(said.as_bytes());
        assert_eq!(pair.says(b"-NOPERM no\r\n"), Step::Stay);
        assert_eq!(pair.changed(), Some(6379));
        pair.watch.trust();
        let at = pair.watch.deadline().unwrap();
        assert!(at <= EAGER);
        let _ = pair.watch.on_time(Some(&mut pair.connection), at);
        let _ = pair.says(said.as_bytes());
        assert_eq!(pair.says(b"-NOPERM no\r\n"), Step::Stay);
        let at = pair.watch.deadline().unwrap();
        assert!(at > EAGER_STAY / 2);
        assert_eq!(pair.watch.on_time(Some(&mut pair.connection), 100_000), Step::Stay);
    }

    #[test]
    fn a_master_in_doubt_is_asked_for_often() {
        let mut pair = Pair::new(3);
        pair.begins();
        let _ = pair.answers(6379, "1");
        pair.watch.trust();
        pair.now = 300;
        let _ = pair.watch.on_time(Some(&mut pair.connection), 300);
        let _ = pair.answers(6379, "1");
        let calm = pair.watch.deadline().unwrap();
        pair.watch.doubt(310);
        let eager = pair.watch.deadline().unwrap();
        assert!(eager == 310 && calm > eager, "{calm} {eager}");
        // Each question asked in vain is followed by another one, and the Sentinel by the next one.
        let _ = pair.watch.on_time(Some(&mut pair.connection), 310);
        let _ = pair.answers(6379, "1");
        assert!(pair.watch.deadline().unwrap() <= 310 + EAGER);
        assert_eq!(pair.watch.on_time(Some(&mut pair.connection), 310 + EAGER_STAY), Step::Next);
    }

    #[test]
    fn the_only_sentinel_is_never_left() {
        let mut pair = Pair::new(1);
        pair.begins();
        let _ = pair.answers(6379, "1");
        pair.watch.trust();
        for _ in 0..5 {
            let at = pair.watch.deadline().unwrap();
            assert_eq!(pair.watch.on_time(Some(&mut pair.connection), at), Step::Stay);
            let _ = pair.answers(6379, "1");
            assert!(pair.watch.deadline().unwrap() > at);
        }
        assert_eq!(pair.watch.on_event(Event::Ended(End::Lost), None, 0), Step::Next);
        assert_eq!(pair.watch.target(), 0);
    }

    #[test]
    fn what_is_no_address_is_none() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        assert!(Watch::new(0, "news".to_owned(), 7).is_none());
        for reply in
            [Value::Null, Value::Array(vec![]), Value::Array(vec![bulk("h"), bulk("0")]), Value::Error(b"ERR".to_vec())]
        {
            assert_eq!(master(&reply), None);
        }
    }
}
