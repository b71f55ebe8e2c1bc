// SPDX-License-Identifier: Apache-2.0

//! What Sentinels say, and which master is believed in.

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
    /// A worker whose machine knows of an election.
    fn new(count: usize) -> Self {
        let mut pair = Self::of_first_worker(count);
        pair.watch.hear_of(1);
        pair
    }

    fn of_first_worker(count: usize) -> Self {
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
    let _ = pair.answers(6379, "1");
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
fn a_worker_that_begins_knows_what_the_others_have_heard() {
    let mut pair = Pair::new(3);
    pair.watch.hear_of(5);
    pair.begins();
    assert_eq!(pair.answers(6379, "4"), Step::Next);
    assert_eq!((pair.changed(), pair.watch.take_election()), (None, None));
    pair.begins();
    assert_eq!(pair.answers(6380, "6"), Step::Stay);
    assert_eq!(pair.changed(), Some(6380));
    assert_eq!(pair.watch.take_election(), Some(Election { epoch: 6, anew: false }));
    let _ = pair.answers(6380, "6");
    assert_eq!(pair.watch.take_election(), None, "is told once");
}

#[test]
fn the_first_worker_of_a_machine_asks_two() {
    for (first, second, expected) in [("4", "5", 6380), ("5", "4", 6379), ("0", "0", 6380)] {
        let mut pair = Pair::of_first_worker(3);
        pair.begins();
        assert_eq!(pair.answers(6379, first), Step::Next);
        assert_eq!(pair.changed(), None);
        // One that does not come to answer is not waited for.
        assert_eq!(pair.watch.deadline(), Some(EAGER_STAY));
        assert_eq!(pair.watch.on_time(None, EAGER_STAY), Step::Next);
        assert_eq!(pair.watch.deadline(), Some(2 * EAGER_STAY));
        pair.begins();
        assert_eq!(pair.answers(6380, second), Step::Stay);
        assert_eq!(pair.changed(), Some(expected));
    }
    // Another worker was faster.
    let mut slower = Pair::of_first_worker(3);
    slower.begins();
    assert_eq!(slower.answers(6379, "4"), Step::Next);
    slower.watch.hear_of(5);
    slower.begins();
    assert_eq!(slower.answers(6380, "5"), Step::Stay);
    assert_eq!(slower.changed(), Some(6380));
    assert_eq!(slower.watch.on_event(Event::Ended(End::Lost), None, 0), Step::Next);
    assert_eq!(slower.watch.deadline(), None, "there is nothing left to be in a hurry for");
    let mut alone = Pair::of_first_worker(2);
    alone.begins();
    assert_eq!(alone.answers(6379, "4"), Step::Next);
    assert_eq!(alone.watch.on_event(Event::Ended(End::Lost), None, 0), Step::Next);
    alone.begins();
    assert_eq!(alone.answers(6379, "4"), Step::Stay);
    assert_eq!(alone.changed(), Some(6379), "nobody else is there");
}

#[test]
fn a_sentinel_that_is_there_alone_does_not_speak_for_all() {
    let mut pair = Pair::new(2);
    pair.watch.hear_of(5);
    for _ in 0..5 {
        pair.begins();
        assert_eq!(pair.answers(6379, "4"), Step::Next);
        assert_eq!(pair.watch.on_event(Event::Ended(End::Lost), None, 0), Step::Next);
        pair.connection = connection();
    }
    assert_eq!(pair.changed(), None);
    // The other one is there again, and has not heard of the election either.
    let _ = pair.watch.on_event(Event::Ended(End::Lost), None, 0);
    pair.begins();
    assert_eq!(pair.answers(6381, "3"), Step::Stay);
    assert_eq!(pair.changed(), Some(6379), "the later one of both");
    assert_eq!(pair.watch.take_election(), Some(Election { epoch: 4, anew: true }));
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
