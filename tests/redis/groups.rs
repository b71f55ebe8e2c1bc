// SPDX-License-Identifier: Apache-2.0

//! A group is counted as what its channels have, whatever expires, is deleted, trimmed, evicted or lost.

use std::time::{Duration, Instant};

use ngx_ws_exec::channel::position::{Epoch, Offset};
use ngx_ws_exec::channel::store::{Change, GroupChange, GroupLimits, GroupUse};
use ngx_ws_exec::redis::envelope;
use ngx_ws_exec::redis::error::ErrorReply;
use ngx_ws_exec::redis::names::{GroupNames, Names};
use ngx_ws_exec::redis::notice::Notice;
use ngx_ws_exec::redis::resp::Value;
use ngx_ws_exec::redis::script::group::{
    self, Admission, Counted, GroupState, Message, admitted, deleted, limited, state,
};
use ngx_ws_exec::redis::script::reply::{Failure, Published, fetched, noted, published};
use ngx_ws_exec::redis::script::{self, Keeping, Kept, Wanted};
use ngx_ws_exec::ws::frame::MessageKind;

use crate::connection::{GROUP_RIGHTS, RIGHTS, with_user};
use crate::harness::{Client, Server};

const KEEP: Keeping = Keeping { messages: Kept::Newest(3), age: 0, lifetime: 0, sharded: false };
const NO_LIMITS: GroupLimits = GroupLimits { channels: 0, subscribers: 0, messages: 0, bytes: 0 };

/// A group of this name at a server.
struct Group {
    client: Client,
    name: &'static [u8],
    limits: GroupLimits,
}

impl Group {
    fn new(server: &Server) -> Self {
        Group { client: server.connect(), name: b"group", limits: NO_LIMITS }
    }

    fn names(&self, id: &str) -> Names {
        Names::of(b"ws:", 0, self.name, id.as_bytes())
    }

    fn group(&self) -> GroupNames {
        GroupNames::of(b"ws:", self.name)
    }

    fn counted(&self, id: &str) -> Counted {
        Counted::of(b"ws:", self.name, id.as_bytes())
    }

    fn try_publish(&mut self, id: &str, octets: usize, keeping: &Keeping) -> Result<Option<Published>, Failure> {
        let (names, channel) = (self.names(id), self.counted(id));
        let sealed = envelope::seal(MessageKind::Text, b"text/plain", b"event", &[&vec![b'x'; octets]]).unwrap();
        let message = Message { channel: &channel, octets, limits: self.limits };
        let write = |out: &mut Vec<u8>| script::publish(&names, Epoch(1), &sealed, keeping, Some(&message), out);
        published(&self.client.ask(write))
    }

    /// Whether it was published, and everybody told.
    fn publish(&mut self, id: &str, octets: usize) -> bool {
        self.publish_as(id, octets, &KEEP)
    }

    fn publish_as(&mut self, id: &str, octets: usize, keeping: &Keeping) -> bool {
        let published = self.try_publish(id, octets, keeping).unwrap();
        published.inspect(|published| assert!(published.nodes.is_some())).is_some()
    }

    fn delete(&mut self, id: &str) {
        let (names, channel) = (self.names(id), self.counted(id));
        self.client.ask(|out| script::delete(&names, false, Some(&channel), out));
    }

    fn read(&mut self, id: &str, lifetime: u64) {
        let (names, channel) = (self.names(id), self.counted(id));
        let wanted = Wanted { after: Offset(0), messages: 10, octets: 1000, lifetime };
        let write = |out: &mut Vec<u8>| script::read(&names, Some(&channel), Epoch(7), wanted, out);
        fetched(&self.client.ask(write)).unwrap();
    }

    fn admit(&mut self, id: &str, create: bool, channels: u32) -> Admission {
        let (names, channel) = (self.names(id), self.counted(id));
        let write = |out: &mut Vec<u8>| group::admit(&names, Some(&channel), Epoch(8), 60_000, create, channels, out);
        admitted(&self.client.ask(write)).unwrap()
    }

    fn state(&mut self) -> GroupState {
        let names = self.group();
        state(&self.client.ask(|out| group::info(&names, out))).unwrap()
    }

    /// Channels, messages and octets.
    fn has(&mut self) -> (u32, u32, u64) {
        let GroupUse { channels, messages, bytes, .. } = self.state().used;
        (channels, messages, bytes)
    }

    fn until_has(&mut self, expected: (u32, u32, u64)) {
        let begun = Instant::now();
        while self.has() != expected {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}, not {expected:?}", self.has());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn limit(&mut self, change: GroupChange) {
        let names = self.group();
        limited(&self.client.ask(|out| group::limit(&names, change, out))).unwrap();
    }

    fn limits(&mut self) -> GroupLimits {
        let location = GroupLimits { channels: 1, subscribers: 2, messages: 3, bytes: 4 };
        self.state().at(location).limits
    }

    fn delete_some(&mut self) -> u64 {
        let names = self.group();
        deleted(&self.client.ask(|out| group::delete(&names, 0, out))).unwrap()
    }

    fn announce(&mut self, id: &str, node: &str, count: u32, sum: u32) -> Option<u32> {
        let (names, group) = (self.names(id), self.group());
        let write = |out: &mut Vec<u8>| {
            script::announce(&names, node.as_bytes(), 60_000, count, None, Some((&group, sum)), out);
        };
        noted(&self.client.ask(write)).unwrap().limit
    }

    /// All keys of the server, sorted.
    fn keys(&mut self) -> Vec<String> {
        let reply = self.client.words(&["KEYS", "*"]);
        let keys = reply.values().unwrap().iter().filter_map(Value::octets);
        let mut keys: Vec<String> = keys.map(|key| String::from_utf8(key.to_vec()).unwrap()).collect();
        keys.retain(|key| !key.starts_with("ws:{.}"));
        keys.sort();
        keys
    }

    /// When a key expires, in milliseconds from now; -1: never.
    fn lives(&mut self, key: &[u8]) -> i64 {
        self.client.words(&["PTTL", text(key)]).number().unwrap()
    }
}

/// What a name is as an argument of a command.
fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap()
}

#[test]
fn a_group_has_what_its_channels_keep() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    for n in 1..=5 {
        assert!(group.publish("a", 10 * n));
        assert!(group.publish("b", 1));
    }
    assert_eq!(group.has(), (2, 6, 30 + 40 + 50 + 3), "without attributes, and what was trimmed");
    // Another history for the same channel, and none.
    assert!(group.publish_as("a", 5, &Keeping { messages: Kept::All, ..KEEP }));
    assert_eq!(group.has(), (2, 7, 125 + 3));
    assert!(group.publish_as("a", 7, &Keeping { messages: Kept::Newest(1), ..KEEP }));
    assert_eq!(group.has(), (2, 4, 7 + 3));
    assert!(group.publish_as("a", 9, &Keeping { messages: Kept::Newest(0), ..KEEP }));
    assert_eq!(group.has(), (2, 3, 3));
    group.delete("b");
    group.delete("nobody");
    assert_eq!(group.has(), (1, 0, 0));
    group.delete("a");
    assert_eq!(group.has(), (0, 0, 0));
    assert_eq!(group.keys(), [""; 0], "nothing is left");
}

#[test]
fn channels_without_a_group_have_no_other_keys() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = Names::of(b"ws:", 0, b"", b"a");
    let write = |out: &mut Vec<u8>| script::publish(&names, Epoch(1), b"x", &KEEP, None, out);
    published(&client.ask(write)).unwrap().unwrap();
    let mut group = Group { client, name: b"", limits: NO_LIMITS };
    assert_eq!(group.keys(), [text(names.hash()), text(names.stream())]);
}

#[test]
fn limits_are_for_what_is_new() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    group.limits = GroupLimits { channels: 2, subscribers: 0, messages: 5, bytes: 100 };
    assert!(group.publish("a", 10) && group.publish("b", 10));
    assert!(!group.publish("c", 10), "a third channel");
    assert_eq!(group.keys().len(), 9, "leaves nothing behind");
    for _ in 0..9 {
        assert!(group.publish("a", 10), "a message in the place of another one");
    }
    assert!(group.publish("b", 10));
    assert_eq!(group.has(), (2, 5, 50));
    assert!(!group.publish("b", 10), "a sixth message");
    assert!(!group.publish("a", 61), "too many octets");
    assert!(group.publish("a", 60));
    assert_eq!(group.has(), (2, 5, 100));
    assert!(group.publish_as("b", 1000, &Keeping { messages: Kept::Newest(0), ..KEEP }), "what is not kept");
    assert_eq!(group.has(), (2, 3, 80));
    // Each node has its own limits, and the group may have others.
    group.limits.messages = 3;
    assert!(!group.publish("b", 1));
    let change = GroupChange { messages: Change::To(4), channels: Change::To(0), ..GroupChange::default() };
    group.limit(change);
    assert_eq!(group.limits(), GroupLimits { channels: 0, subscribers: 2, messages: 4, bytes: 4 });
    assert!(group.publish("c", 1));
    assert!(!group.publish("c", 1));
    group.limit(GroupChange::LOCATION);
    assert_eq!(group.limits(), GroupLimits { channels: 1, subscribers: 2, messages: 3, bytes: 4 });
    group.limits = NO_LIMITS;
    assert!(group.publish("c", 1000));
}

#[test]
fn a_group_may_have_limits_and_nothing_else() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    group.limit(GroupChange { bytes: Change::To(1 << 40), subscribers: Change::To(0), ..GroupChange::default() });
    let keys = group.keys();
    assert_eq!(keys, [text(&group.group().hash)]);
    let hash = group.group().hash;
    assert_eq!(group.lives(&hash), -1);
    assert!(group.publish_as("a", 1, &Keeping { age: 1000, lifetime: 60_000, ..KEEP }));
    assert_eq!(group.lives(&hash), -1, "they do not expire with its channels");
    group.delete("a");
    assert_eq!(group.limits(), GroupLimits { channels: 1, subscribers: 0, messages: 3, bytes: 1 << 40 });
    group.limit(GroupChange::LOCATION);
    assert_eq!(group.keys(), [""; 0]);
    group.limit(GroupChange::LOCATION);
    group.limit(GroupChange::default());
    assert_eq!(group.keys(), [""; 0]);
}

#[test]
fn what_is_too_old_counts_no_more() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let brief = Keeping { messages: Kept::Newest(10), age: 300, lifetime: 60_000, sharded: false };
    group.limits = GroupLimits { messages: 3, ..NO_LIMITS };
    assert!(group.publish_as("a", 5, &brief) && group.publish_as("a", 5, &brief) && group.publish("b", 7));
    assert!(!group.publish("b", 7));
    // Nobody publishes to that channel any more.
    std::thread::sleep(Duration::from_millis(400));
    assert!(group.publish("b", 7), "room was made in another channel");
    assert_eq!(group.has(), (2, 2, 14));
    assert!(group.publish_as("a", 1, &brief));
    group.until_has((2, 2, 14));
    let length = group.client.words(&["XLEN", text(group.names("a").stream())]);
    assert_eq!(length, Value::Integer(0), "and is not kept any longer");
}

#[test]
fn channels_that_expire_count_no_more() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let brief = Keeping { messages: Kept::Newest(10), age: 200, lifetime: 300, sharded: false };
    group.limits = GroupLimits { channels: 2, ..NO_LIMITS };
    assert!(group.publish_as("a", 5, &brief) && group.publish_as("b", 5, &brief));
    assert!(!group.publish_as("c", 5, &brief));
    std::thread::sleep(Duration::from_millis(400));
    assert!(group.publish("a", 5), "it is another channel of the same name");
    assert_eq!(group.has(), (1, 1, 5));
    assert!(group.publish("c", 5));
    assert!(!group.publish("d", 5));
    group.delete("a");
    group.delete("c");
    assert_eq!(group.keys(), [""; 0]);
}

#[test]
fn a_group_that_nobody_asks_about_expires_with_its_channels() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let hour = Keeping { messages: Kept::Newest(10), age: 3_600_000, lifetime: 3_600_000, sharded: false };
    group.publish_as("a", 5, &hour);
    let GroupNames { hash, due, uses, .. } = group.group();
    for key in [&hash, &due, &uses] {
        let lives = group.lives(key);
        assert!((3_600_000..3_700_000).contains(&lives), "{lives}");
    }
    group.publish("b", 5);
    assert_eq!([&hash, &due, &uses].map(|key| group.lives(key)), [-1; 3], "one never expires");
    group.delete("b");
    let lives = group.lives(&hash);
    assert!((3_590_000..3_700_000).contains(&lives), "{lives}");
    // The list goes with the stream.
    let names = group.names("a");
    let (list, stream) = (names.sizes(), names.stream());
    assert!((group.lives(list) - group.lives(stream)).abs() < 1000);
}

#[test]
fn what_others_have_taken_away_is_noticed() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    group.limits = GroupLimits { channels: 3, messages: 4, ..NO_LIMITS };
    assert!(group.publish("a", 1) && group.publish("a", 1) && group.publish("b", 1) && group.publish("c", 1));
    // The keys of a channel.
    let names = group.names("a");
    group.client.words(&["DEL", text(names.stream()), text(names.hash()), text(names.sizes())]);
    assert!(group.publish("d", 1), "a refusal is looked at closely");
    assert_eq!(group.has(), (3, 3, 3));
    // A stream, and then a list.
    let names = group.names("b");
    group.client.words(&["DEL", text(names.stream())]);
    assert!(group.publish("b", 5));
    assert_eq!(group.has(), (3, 3, 7));
    group.client.words(&["DEL", text(names.sizes())]);
    assert!(group.publish("b", 6));
    assert_eq!(group.has(), (3, 4, 13), "what is in the stream is counted without its attributes");
    // Each of the group's own.
    let GroupNames { hash, due, uses, .. } = group.group();
    for keys in [vec![&hash], vec![&due], vec![&hash, &due]] {
        for key in keys {
            group.client.words(&["DEL", text(key)]);
        }
        assert_eq!(group.has(), (3, 4, 13));
        assert!(!group.publish("e", 1));
    }
    // Without the uses nothing is known before the channels are used again.
    group.client.words(&["DEL", text(&uses)]);
    assert_eq!(group.has(), (0, 0, 0));
    assert!(group.publish("b", 1));
    assert_eq!(group.has(), (1, 3, 12));
}

#[test]
fn who_listens_keeps_a_channel_counted() {
    let mut server = Server::start(&[]);
    let mut group = Group::new(&server);
    group.publish_as("a", 5, &Keeping { age: 1000, lifetime: 1000, ..KEEP });
    let GroupNames { hash, .. } = group.group();
    group.read("a", 0);
    group.read("new", 0);
    assert!(group.lives(&hash) < 70_000 && group.has() == (1, 1, 5), "who only reads makes nothing");
    group.read("a", 90_000);
    group.read("new", 90_000);
    assert!(group.lives(&hash) >= 90_000);
    assert_eq!(group.has().0, 2);
    group.until_has((2, 0, 0));
    // The server loses everything, and is asked by those who listen.
    server.restart();
    group.client = server.connect();
    assert_eq!(group.has(), (0, 0, 0));
    group.read("a", 90_000);
    assert_eq!(group.has(), (1, 0, 0));
    group.publish("a", 3);
    assert_eq!(group.has(), (1, 1, 3));
}

#[test]
fn a_channel_may_begin_where_there_is_room_for_it() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    assert_eq!(group.admit("a", false, 0), Admission::Missing);
    assert_eq!(group.keys(), [""; 0]);
    assert_eq!(group.admit("a", true, 2), Admission::Admitted);
    assert_eq!(group.admit("b", true, 2), Admission::Admitted);
    assert_eq!(group.admit("c", true, 2), Admission::Group);
    assert_eq!(group.admit("a", true, 2), Admission::Admitted, "it is there");
    assert_eq!(group.admit("a", false, 2), Admission::Missing, "but nobody has published");
    assert_eq!(group.has(), (2, 0, 0));
    group.limit(GroupChange { channels: Change::To(3), ..GroupChange::default() });
    assert_eq!(group.admit("c", true, 2), Admission::Admitted);
    group.limit(GroupChange::LOCATION);
    assert!(group.publish("a", 1));
    assert_eq!(group.admit("a", false, 1), Admission::Admitted);
    // Who has lost a part of it begins no second one.
    group.client.words(&["DEL", text(group.names("b").hash())]);
    assert_eq!(group.admit("d", true, 3), Admission::Admitted);
    assert_eq!(group.has(), (3, 1, 1));
}

#[test]
fn subscribers_are_those_of_all_nodes() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    group.publish("a", 1);
    assert_eq!(group.announce("a", "one", 3, 4), None);
    group.announce("b", "one", 1, 4);
    group.announce("a", "two", 5, 5);
    assert_eq!(group.state().used.subscribers, 9);
    group.limit(GroupChange { subscribers: Change::To(12), ..GroupChange::default() });
    assert_eq!(group.announce("b", "one", 0, 3), Some(12));
    assert_eq!(group.state().used.subscribers, 8);
    group.delete("a");
    assert_eq!(group.state().used.subscribers, 0, "those of a channel that is deleted are none any more");
    group.limit(GroupChange { subscribers: Change::Location, ..GroupChange::default() });
    assert_eq!(group.announce("b", "one", 1, 1), None);
    // A node that has died.
    let nodes = group.group().nodes;
    group.client.words(&["HSET", text(&nodes), "dead", "1:40"]);
    assert_eq!(group.state().used.subscribers, 1);
    group.announce("b", "one", 0, 0);
    assert_eq!(group.client.words(&["EXISTS", text(&nodes)]), Value::Integer(0));
}

#[test]
fn a_group_is_deleted_in_steps_and_all_are_told() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let mut listener = server.connect();
    let topic = group.names("c7").topic().to_vec();
    listener.subscribe(&topic);
    for n in 0..150 {
        assert!(group.publish(&format!("c{n}"), 1));
    }
    assert!(matches!(listener.notice(), Notice::Message { .. }));
    group.announce("c7", "one", 3, 3);
    group.limit(GroupChange { messages: Change::To(150), ..GroupChange::default() });
    let mut other = Group { name: b"other", ..Group::new(&server) };
    assert!(other.publish("c7", 1));
    let left: Vec<u64> = (0..3).map(|_| group.delete_some()).collect();
    assert_eq!(left, [150 - group::DELETED_AT_ONCE, 150 - 2 * group::DELETED_AT_ONCE, 0]);
    assert_eq!(listener.notice(), Notice::Deleted { topic, epoch: Epoch(1) });
    assert_eq!(group.state().used, GroupUse::default());
    assert_eq!(group.limits().messages, 3);
    assert_eq!(other.has(), (1, 1, 1));
    assert_eq!(other.keys().len(), 6, "of the other group");
    assert_eq!(group.delete_some(), 0);
    assert!(group.publish("c7", 1));
}

#[test]
fn without_memory_nothing_is_counted_or_published() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let brief = Keeping { messages: Kept::Newest(10), age: 50, lifetime: 60_000, sharded: false };
    group.limits = GroupLimits { messages: 2, ..NO_LIMITS };
    assert!(group.publish_as("a", 1, &brief) && group.publish("b", 1));
    std::thread::sleep(Duration::from_millis(100));
    let keys = group.keys();
    group.client.words(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = Err(Failure::Refused(ErrorReply::OutOfMemory));
    for id in ["a", "b", "c"] {
        // Room for it would have to be made first.
        assert_eq!(group.try_publish(id, 1, &KEEP), refused, "{id}");
    }
    assert_eq!(group.keys(), keys);
    assert_eq!(group.has().0, 2, "it can be looked at");
    group.client.words(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(group.publish("c", 1));
    assert_eq!(group.has(), (3, 2, 2));
}

#[test]
fn names_are_any_octets() {
    let server = Server::start(&[]);
    for name in [&b""[..], b"}", b"{x}", b"\0\xff\n", b"*?[a"] {
        let mut group = Group { name, ..Group::new(&server) };
        for id in ["}", "{", "*", "a b\n"] {
            assert!(group.publish(id, 2));
        }
        assert_eq!(group.has(), (4, 4, 8));
        assert_eq!(group.delete_some(), 0);
        assert_eq!(group.keys(), [""; 0]);
    }
}

#[test]
fn many_channels_that_expire_at_once_are_looked_at_in_portions() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let brief = Keeping { messages: Kept::Newest(10), age: 1, lifetime: 2_000, sharded: false };
    for n in 0..700 {
        group.publish_as(&n.to_string(), 1, &brief);
    }
    let begun = Instant::now();
    loop {
        let state = group.state();
        if state.used.channels == 0 && !state.has_more {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{state:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(group.keys(), [""; 0]);
}

/// Every operation on a group, as a user of these rights; how many publications were stored.
fn all_as(server: &Server, rights: &str) -> (Vec<Result<Option<Published>, Failure>>, i64) {
    with_user(server, &format!("reset on >secret {rights}"));
    let client = server.connect_as(Some("channels"), Some("secret")).unwrap();
    let mut group = Group { client, ..Group::new(server) };
    let brief = Keeping { messages: Kept::Newest(2), age: 60_000, lifetime: 60_000, sharded: false };
    let mut published: Vec<_> = (0..3).map(|_| group.try_publish("a", 1, &brief)).collect();
    published.push(group.try_publish("a", 1, &KEEP));
    let stored = server.connect().words(&["XLEN", text(group.names("a").stream())]).number().unwrap();
    (published, stored)
}

#[test]
fn the_documented_rights_are_enough() {
    let server = Server::start(&[]);
    let (published, stored) = all_as(&server, &format!("{RIGHTS} {GROUP_RIGHTS}"));
    assert!(published.iter().all(|published| matches!(published, Ok(Some(told)) if told.nodes.is_some())));
    assert_eq!(stored, 3);
    let client = server.connect_as(Some("channels"), Some("secret")).unwrap();
    let mut group = Group { client, ..Group::new(&server) };
    assert_eq!(group.admit("b", true, 2), Admission::Admitted);
    assert_eq!(group.admit("c", true, 2), Admission::Group);
    group.read("b", 90_000);
    group.announce("a", "one", 1, 1);
    group.announce("a", "one", 0, 0);
    group.limit(GroupChange { channels: Change::To(2), ..GroupChange::default() });
    group.limit(GroupChange::LOCATION);
    group.client.words(&["DEL", text(group.names("a").sizes()), text(&group.group().due)]);
    assert_eq!(group.has(), (2, 3, 3));
    group.delete("b");
    assert_eq!(group.delete_some(), 0);
}

#[test]
fn without_a_right_nothing_is_published_that_is_not_counted() {
    for right in ["+zadd", "+hlen", "+zcard", "+llen"] {
        let server = Server::start(&[]);
        let rights = format!("{RIGHTS} {GROUP_RIGHTS}").replace(right, "");
        let (published, stored) = all_as(&server, &rights);
        let is_denied =
            |published| matches!(published, &Err(Failure::Refused(ErrorReply::Denied(_) | ErrorReply::Other(_))));
        assert!(published.iter().all(is_denied), "{right}: {published:?}");
        assert_eq!(stored, 0, "{right}");
    }
}

/// What a group has counted is at any time what its channels have, whatever is done to them.
#[test]
fn sums_are_true_after_anything() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let mut random = 88_172_645_463_325_252_u64;
    let mut draw = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    group.limits = GroupLimits { channels: 6, subscribers: 0, messages: 25, bytes: 400 };
    for step in 0..3000 {
        let id = draw(9).to_string();
        let names = group.names(&id);
        match draw(40) {
            0..=25 => {
                let age = [0, 30, 200, 60_000][draw(4) as usize];
                let messages = [Kept::All, Kept::Newest(0), Kept::Newest(2), Kept::Newest(7)][draw(4) as usize];
                let lifetime = if age == 0 { 0 } else { age.max(100) };
                group.publish_as(&id, draw(30) as usize, &Keeping { messages, age, lifetime, sharded: false });
            }
            26..=29 => group.delete(&id),
            30..=32 => group.read(&id, 200),
            33..=34 => drop(group.admit(&id, true, 6)),
            35 => drop(group.client.words(&["DEL", text(names.stream())])),
            36 => drop(group.client.words(&["DEL", text(names.sizes())])),
            37 => drop(group.client.words(&["DEL", text(names.hash())])),
            38 => std::thread::sleep(Duration::from_millis(draw(30))),
            _ => drop(group.delete_some()),
        }
        if step % 10 == 0 {
            let GroupUse { channels, messages, bytes, .. } = group.state().used;
            // Who listens to a channel that was lost makes it anew whatever the limit is.
            assert!(messages <= 25 && bytes <= 400, "{messages} {bytes}");
            let mut sums = (0, 0_u64, 0_u64);
            let uses = group.client.words(&["HVALS", text(&group.group().uses)]);
            for value in uses.values().unwrap() {
                let text = String::from_utf8(value.octets().unwrap().to_vec()).unwrap();
                let numbers: Vec<u64> = text.split(':').map(|number| number.parse().unwrap()).collect();
                sums = (sums.0 + 1, sums.1 + numbers[0], sums.2 + numbers[1]);
            }
            assert_eq!((channels, u64::from(messages), bytes), sums, "step {step}");
        }
    }
    // All is looked at, and what is not there is not counted.
    let mut there = (0, 0, 0);
    for id in 0..9 {
        let names = group.names(&id.to_string());
        let length = group.client.words(&["XLEN", text(names.stream())]).number().unwrap();
        let known = group.client.words(&["EXISTS", text(names.hash())]).number().unwrap();
        if known + length > 0 {
            there = (there.0 + 1, there.1 + length, 0);
        }
    }
    for _ in 0..20 {
        // Refused, and looked at closely, 16 channels each time.
        group.limits = GroupLimits { bytes: 1, ..NO_LIMITS };
        group.publish("0", 1 << 20);
    }
    let GroupUse { channels, messages, .. } = group.state().used;
    assert!(u64::from(channels) <= there.0 && i64::from(messages) <= there.1, "{channels} {messages} {there:?}");
}

#[test]
fn a_node_that_counts_takes_back_what_one_that_does_not_has_said_of_the_keys() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let names = group.names("a");
    let sealed = envelope::seal(MessageKind::Text, b"text/plain", b"event", &[b"x"]).unwrap();
    let publish_uncounted = |client: &mut Client, lifetime| {
        let keeping = Keeping { lifetime, ..KEEP };
        let write = |out: &mut Vec<u8>| script::publish(&names, Epoch(1), &sealed, &keeping, None, out);
        published(&client.ask(write)).unwrap();
    };
    for _ in 0..2 {
        publish_uncounted(&mut group.client, 3_600_000);
    }
    assert!(group.publish_as("a", 1, &Keeping { lifetime: 8_000, ..KEEP }));
    publish_uncounted(&mut group.client, 60_000);
    for key in [names.stream(), names.hash()] {
        let lives = group.client.words(&["PTTL", std::str::from_utf8(key).unwrap()]).number().unwrap();
        assert!(lives > 59_000, "{lives}");
    }
}

#[test]
fn a_node_that_does_not_count_drops_nothing_too_early_of_one_that_does() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let names = group.names("a");
    let sealed = envelope::seal(MessageKind::Text, b"text/plain", b"event", &[b"x"]).unwrap();
    let keeping = Keeping { messages: Kept::All, age: 800, lifetime: 60_000, sharded: false };
    let publish_uncounted = |client: &mut Client| {
        let write = |out: &mut Vec<u8>| script::publish(&names, Epoch(1), &sealed, &keeping, None, out);
        published(&client.ask(write)).unwrap().unwrap().messages
    };
    publish_uncounted(&mut group.client);
    std::thread::sleep(Duration::from_millis(700));
    assert!(group.publish_as("a", 1, &keeping));
    std::thread::sleep(Duration::from_millis(250));
    assert!(publish_uncounted(&mut group.client) >= 2, "only the first one has expired");
}

#[test]
fn what_has_expired_does_not_come_back_with_a_message_that_is_kept_longer() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let keeping = |age| Keeping { messages: Kept::All, age, lifetime: 60_000, sharded: false };
    for (id, longer) in [("news", 60_000), ("ever", 0)] {
        for _ in 0..4 {
            assert!(group.publish_as(id, 1, &keeping(80)));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(group.try_publish(id, 1, &keeping(longer)).unwrap().unwrap().messages, 1);
        assert!(group.publish_as(id, 1, &keeping(80)));
        assert_eq!(
            group.try_publish(id, 1, &keeping(longer)).unwrap().unwrap().messages,
            3,
            "nothing else has expired"
        );
    }
    assert_eq!(group.has(), (2, 6, 6));
}

#[test]
fn what_is_kept_for_ever_is_so_whatever_was_said_before() {
    let server = Server::start(&[]);
    let mut group = Group::new(&server);
    let names = group.names("a");
    for lifetime in [8_000, 0, 0, 8_000, 0] {
        assert!(group.publish_as("a", 1, &Keeping { age: lifetime / 8, lifetime, ..KEEP }));
        for key in [names.stream(), names.hash(), names.sizes()] {
            let lives = group.client.words(&["PTTL", std::str::from_utf8(key).unwrap()]).number().unwrap();
            assert_eq!(lives == -1, lifetime == 0, "{lifetime}: {lives}");
        }
    }
}
