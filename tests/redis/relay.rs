// SPDX-License-Identifier: Apache-2.0

//! Relays of two nodes and one server: each copy is what the stream is, whatever happens to connections and servers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ngx_ws_exec::channel::position::{Epoch, MessageId, Offset};
use ngx_ws_exec::channel::store::{Appended, History, Original};
use ngx_ws_exec::redis::connection::Event;
use ngx_ws_exec::redis::envelope::{self, Envelope};
use ngx_ws_exec::redis::names::Names;
use ngx_ws_exec::redis::relay::{Channel, Copies, Copy, Relay};
use ngx_ws_exec::redis::script::reply::published;
use ngx_ws_exec::redis::script::{self, Keeping, Kept};
use ngx_ws_exec::ws::frame::MessageKind;

use crate::harness::{Client, Server};

/// A copy as a list.
#[derive(Debug, Default)]
struct Log {
    epoch: u64,
    next: u64,
    messages: Vec<(u64, u64, Vec<u8>)>,
    subscribers: u32,
    presence: Vec<u8>,
    kept: bool,
    epochs: usize,
}

#[derive(Default)]
struct Logs {
    logs: BTreeMap<Box<[u8]>, Log>,
    ready: BTreeSet<usize>,
    deleted: usize,
    drawn: u64,
    limit: Option<u32>,
}

impl Copies for Logs {
    fn look(&mut self, channel: &Channel) -> Copy {
        let log = self.logs.get(&channel.id);
        Copy {
            epoch: Epoch(log.map_or(0, |log| log.epoch)),
            next: Offset(log.map_or(1, |log| log.next)),
            subscribers: log.map_or(0, |log| log.subscribers),
        }
    }

    fn presence(&mut self, channel: &Channel) -> Vec<u8> {
        self.logs.get(&channel.id).map(|log| log.presence.clone()).unwrap_or_default()
    }

    fn follow(&mut self, channel: &Channel, original: Original, _: History) -> bool {
        let log = self.logs.entry(channel.id.clone()).or_default();
        if log.epoch != original.epoch.0 {
            (log.epoch, log.next) = (original.epoch.0, original.oldest.0);
            log.epochs += 1;
        }
        log.next = log.next.max(original.oldest.0);
        true
    }

    fn group_subscribers(&mut self, _: &Channel) -> u32 {
        self.logs.values().map(|log| log.subscribers).sum()
    }

    fn limit_group(&mut self, _: &Channel, subscribers: Option<u32>) {
        self.limit = subscribers;
    }

    fn append(
        &mut self,
        channel: &Channel,
        id: MessageId,
        _: u64,
        envelope: &Envelope<'_>,
        _: Option<History>,
    ) -> Appended {
        let Some(log) = self.logs.get_mut(&channel.id) else { return Appended::NoCopy };
        match id.offset.0 {
            _ if id.epoch.0 != log.epoch => Appended::OtherEpoch,
            offset if offset < log.next => Appended::Known,
            offset if offset > log.next => Appended::Behind(Offset(log.next)),
            offset => {
                log.messages.push((log.epoch, offset, envelope.data.to_vec()));
                log.next += 1;
                Appended::Done(Default::default())
            }
        }
    }

    fn keep(&mut self, channel: &Channel, compared: Option<u64>) {
        if let Some(log) = self.logs.get_mut(&channel.id) {
            log.kept = compared.is_some();
        }
    }

    fn delete(&mut self, channel: &Channel) {
        self.deleted += 1;
        self.logs.remove(&channel.id);
    }

    fn expel(&mut self, _: &Channel, _: &[u8]) {}

    fn ready(&mut self, slot: usize) {
        self.ready.insert(slot);
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }
}

struct Node {
    client: Client,
    relay: Relay,
    logs: Logs,
    begun: Instant,
}

impl Node {
    fn new(server: &Server, name: &str) -> Self {
        let mut relay = Relay::new(b"ws:".to_vec(), 0, name.into());
        relay.connected();
        let drawn = name.bytes().map(u64::from).sum::<u64>() << 32;
        let logs = Logs { drawn, ..Logs::default() };
        Node { client: server.connect(), relay, logs, begun: Instant::now() }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn open(&mut self, id: &str, slot: usize) {
        let history = History::of(10, 0);
        let channel = Channel { group: Box::default(), id: id.as_bytes().into(), history };
        let now = self.now();
        self.relay.open(channel, Some(slot), 1, 0, &mut self.logs, now);
        self.relay.ask(self.client.connection(), &mut self.logs, now);
    }

    /// Goes on until a condition holds.
    fn until(&mut self, mut condition: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < Duration::from_secs(20), "deadline: {:?}", self.logs.logs);
            let now = self.now();
            if self.relay.deadline().is_some_and(|deadline| deadline <= now) {
                self.relay.on_time(self.client.connection(), &mut self.logs, now);
            }
            while let Some(event) = self.client.event_within(Duration::from_millis(5)) {
                let ended = matches!(event, Event::Ended(_));
                let now = self.now();
                self.relay.on_event(event, self.client.connection(), &mut self.logs, now);
                if ended {
                    return;
                }
            }
        }
    }

    fn log(&mut self, id: &str) -> &mut Log {
        self.logs.logs.entry(id.as_bytes().into()).or_default()
    }

    fn data(&mut self, id: &str) -> Vec<String> {
        let text = |(_, _, data): &(u64, u64, Vec<u8>)| String::from_utf8(data.clone()).unwrap();
        self.log(id).messages.iter().map(text).collect()
    }
}

fn publish(client: &mut Client, id: &str, data: &str) -> MessageId {
    static EPOCH: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1 << 50);
    let epoch = Epoch(EPOCH.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let keeping = Keeping { messages: Kept::Newest(10), age: 0, lifetime: 0, sharded: false };
    let names = Names::of(b"ws:", 0, b"", id.as_bytes());
    let sealed = envelope::seal(MessageKind::Text, b"", b"", &[data.as_bytes()]).unwrap();
    published(&client.ask(|out| script::publish(&names, epoch, &sealed, &keeping, None, out))).unwrap().unwrap().id
}

#[test]
fn copies_begin_with_the_history_and_follow_the_channel() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    for n in 1..=15 {
        publish(&mut publisher, "a", &n.to_string());
    }
    let (mut one, mut two) = (Node::new(&server, "one"), Node::new(&server, "two"));
    one.open("a", 3);
    two.open("a", 4);
    two.open("quiet", 5);
    one.until(|node| node.logs.ready.contains(&3));
    two.until(|node| node.logs.ready.len() == 2);
    assert_eq!(one.data("a"), ["6", "7", "8", "9", "10", "11", "12", "13", "14", "15"]);
    assert!(one.log("a").kept && two.log("quiet").kept);
    let id = publish(&mut publisher, "a", "16");
    let first = publish(&mut publisher, "quiet", "first");
    assert_eq!((id.offset, first.offset), (Offset(16), Offset(1)));
    for node in [&mut one, &mut two] {
        node.until(|node| node.log("a").next == 17);
        assert_eq!(node.data("a").last().unwrap(), "16");
        assert_eq!(node.log("a").epoch, id.epoch.0);
    }
    two.until(|node| node.log("quiet").next == 2);
    assert_eq!(two.log("quiet").epochs, 1, "who listens first begins the epoch");
}

#[test]
fn what_pub_sub_does_not_tell_is_read() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    let mut node = Node::new(&server, "one");
    node.open("a", 0);
    node.until(|node| node.logs.ready.contains(&0));
    // A message that nobody hears of, and one that does not follow.
    let (topic, id) = (Names::of(b"ws:", 0, b"", b"a").topic().to_vec(), publish(&mut publisher, "a", "1"));
    node.until(|node| node.log("a").next == 2);
    node.client.connection().unsubscribe(&[&topic], 0).unwrap();
    node.until(|node| node.log("a").kept);
    publish(&mut publisher, "a", "2");
    publish(&mut publisher, "a", "3");
    node.until(|node| node.log("a").next == 4);
    assert_eq!(node.data("a"), ["1", "2", "3"]);
    assert_eq!(node.log("a").epoch, id.epoch.0);
}

#[test]
fn a_message_that_nobody_is_told_of_is_found_in_the_next_round() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    let mut node = Node::new(&server, "one");
    node.open("a", 0);
    node.until(|node| node.logs.ready.contains(&0));
    let names = Names::of(b"ws:", 1, b"", b"a");
    let keeping = Keeping { messages: Kept::Newest(10), age: 0, lifetime: 0, sharded: false };
    let sealed = envelope::seal(MessageKind::Text, b"", b"", &[b"1"]).unwrap();
    publisher.ask(|out| script::publish(&names, Epoch(1), &sealed, &keeping, None, out));
    node.until(|node| node.log("a").next == 2);
    assert_eq!(node.data("a"), ["1"]);
}

#[test]
fn a_message_that_another_version_tells_of_in_its_own_way_is_read_at_once() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    let mut node = Node::new(&server, "one");
    node.open("a", 0);
    node.until(|node| node.logs.ready.contains(&0));
    // Its script says it by the Pub/Sub channel of another database.
    let (names, topic) = (Names::of(b"ws:", 1, b"", b"a"), Names::of(b"ws:", 0, b"", b"a").topic().to_vec());
    let keeping = Keeping { messages: Kept::Newest(10), age: 0, lifetime: 0, sharded: false };
    let sealed = envelope::seal(MessageKind::Text, b"", b"", &[b"1"]).unwrap();
    let begun = Instant::now();
    publisher.ask(|out| script::publish(&names, Epoch(1), &sealed, &keeping, None, out));
    publisher.words(&["PUBLISH", std::str::from_utf8(&topic).unwrap(), "1:1:99\nin another form"]);
    node.until(|node| node.log("a").next == 2);
    assert_eq!(node.data("a"), ["1"]);
    assert!(begun.elapsed() < Duration::from_secs(1), "not with the next round: {:?}", begun.elapsed());
}

#[test]
fn what_was_taken_out_of_a_stream_is_passed_over() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    for n in 1..=6 {
        publish(&mut publisher, "a", &n.to_string());
    }
    let names = Names::of(b"ws:", 0, b"", b"a");
    publisher.words(&["XDEL", std::str::from_utf8(names.stream()).unwrap(), "3-0", "4-0", "6-0"]);
    let mut node = Node::new(&server, "one");
    node.open("a", 0);
    node.until(|node| node.logs.ready.contains(&0));
    assert_eq!((node.data("a"), node.log("a").next), (vec!["1".into(), "2".into(), "5".into()], 7));
}

#[test]
fn quiet_channels_cost_few_scripts() {
    const CHANNELS: usize = 500;
    let server = Server::start(&[]);
    let mut admin = server.connect();
    let mut node = Node::new(&server, "one");
    for slot in 0..CHANNELS {
        let id = slot.to_string();
        node.open(&id, slot);
        node.log(&id).subscribers = 1;
    }
    node.until(|node| node.logs.ready.len() == CHANNELS);
    let opened = node.now();
    node.until(|node| node.now() > opened + 3_000);
    let mut calls = || {
        let stats = admin.words(&["INFO", "commandstats"]);
        let stats = String::from_utf8(stats.octets().unwrap().to_vec()).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
        line.split(',').next().unwrap().parse::<usize>().unwrap()
    };
    let (before, begun) = (calls(), node.now());
    node.until(|node| node.now() > begun + 15_000);
    let scripts = calls() - before;
    // Three rounds of 50 turns, each with 10 channels or so.
    assert!((CHANNELS / 16 * 3..=CHANNELS).contains(&scripts), "{scripts}");
    for id in [0, 250, 499] {
        let names = Names::of(b"ws:", 0, b"", id.to_string().as_bytes());
        let state = script::reply::state(&admin.ask(|out| script::info(&names, Epoch(9), out))).unwrap();
        assert_eq!(state.subscribers, 1);
        assert!(state.requested.unwrap() < 15_000);
        let lives = admin.words(&["PTTL", std::str::from_utf8(names.hash()).unwrap()]).number().unwrap();
        assert!(lives > 55_000, "{lives}");
    }
}

#[test]
fn another_connection_goes_on_where_the_one_before_was() {
    let mut server = Server::start(&[]);
    let mut node = Node::new(&server, "one");
    node.open("a", 0);
    node.until(|node| node.logs.ready.contains(&0));
    let mut publisher = server.connect();
    publish(&mut publisher, "a", "1");
    node.until(|node| node.log("a").next == 2);
    // The connection only.
    publisher.words(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    publish(&mut publisher, "a", "2");
    node.until(|_| false);
    node.client = server.connect();
    node.relay.connected();
    node.relay.ask(node.client.connection(), &mut node.logs, 0);
    node.until(|node| node.log("a").next == 3);
    assert_eq!((node.log("a").epochs, node.data("a").len()), (1, 2));
    // The server, and everything that it had.
    server.restart();
    node.until(|_| false);
    let mut publisher = server.connect();
    publish(&mut publisher, "a", "other");
    node.client = server.connect();
    node.relay.connected();
    node.relay.ask(node.client.connection(), &mut node.logs, 0);
    node.until(|node| node.log("a").epochs == 2 && node.log("a").next == 2);
    assert_eq!(node.data("a"), ["1", "2", "other"]);
}

#[test]
fn a_deleted_channel_begins_anew_where_it_is_listened_to() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    let mut node = Node::new(&server, "one");
    node.open("a", 0);
    node.until(|node| node.logs.ready.contains(&0));
    publish(&mut publisher, "a", "1");
    let names = Names::of(b"ws:", 0, b"", b"a");
    publisher.ask(|out| script::delete(&names, false, None, out));
    node.until(|node| node.logs.deleted == 1);
    assert!(node.relay.is_empty(), "nobody makes it anew by listening on");
    let state = script::reply::state(&publisher.ask(|out| script::info(&names, Epoch(9), out))).unwrap();
    assert_eq!(state.epoch, None);
    publish(&mut publisher, "a", "2");
    node.logs.ready.clear();
    node.open("a", 0);
    node.until(|node| node.logs.ready.contains(&0));
    assert_eq!(node.data("a"), ["2"]);
}

#[test]
fn a_worker_that_takes_its_time_has_its_subscriber_counted_meanwhile() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    let names = Names::of(b"ws:", 0, b"", b"a");
    let mut counted = || {
        let state = script::reply::state(&publisher.ask(|out| script::info(&names, Epoch(9), out))).unwrap();
        state.subscribers
    };
    let mut node = Node::new(&server, "one");
    node.open("a", 0);
    node.until(|node| node.logs.ready.contains(&0));
    let opened = node.now();
    assert_eq!(counted(), 1, "before anything was said to the client");
    node.until(|node| node.now() > opened + 400);
    assert_eq!(counted(), 1, "the worker is busy");
    node.until(|node| node.now() > opened + 2_500);
    assert_eq!(counted(), 0, "it will not come");
    node.open("a", 0);
    node.log("a").subscribers = 1;
    let opened = node.now();
    node.until(|node| node.now() > opened + 2_500);
    assert_eq!(counted(), 1, "it has come");
}

#[test]
fn subscribers_of_all_nodes_are_known() {
    let server = Server::start(&[]);
    let mut publisher = server.connect();
    let mut nodes = [Node::new(&server, "one"), Node::new(&server, "two")];
    for (node, subscribers) in nodes.iter_mut().zip([2, 3]) {
        node.open("a", 0);
        node.until(|node| node.logs.ready.contains(&0));
        node.log("a").subscribers = subscribers;
        let now = node.now();
        node.relay.changed(b"", b"a", now);
        node.until(|node| node.now() > now + 300);
    }
    let names = Names::of(b"ws:", 0, b"", b"a");
    let state = script::reply::state(&publisher.ask(|out| script::info(&names, Epoch(9), out))).unwrap();
    assert_eq!(state.subscribers, 5);
    nodes[0].log("a").subscribers = 0;
    let now = nodes[0].now();
    nodes[0].relay.changed(b"", b"a", now);
    nodes[0].until(|node| node.now() > now + 300);
    let state = script::reply::state(&publisher.ask(|out| script::info(&names, Epoch(9), out))).unwrap();
    assert_eq!(state.subscribers, 3);
}
