// SPDX-License-Identifier: Apache-2.0

//! Channels are compared and announced again together, and what is otherwise than the node believes is told of each alone.

use ngx_ws_exec::channel::position::{Epoch, Offset};
use ngx_ws_exec::channel::store::{Change, GroupChange};
use ngx_ws_exec::redis::error::ErrorReply;
use ngx_ws_exec::redis::names::Names;
use ngx_ws_exec::redis::resp::Value;
use ngx_ws_exec::redis::script::check::{
    Announcement, Channel, Checked, Checker, Found, Group, MOST, Noted, check, checked,
};
use ngx_ws_exec::redis::script::group::{self, Counted};
use ngx_ws_exec::redis::script::reply::{ChannelState, Failure, state};
use ngx_ws_exec::redis::script::{self, Keeping, Kept, Wanted};

use crate::connection::{GROUP_RIGHTS, RIGHTS, with_user};
use crate::harness::{Client, Server};

const CHECKER: Checker<'_> = Checker { node: b"a", announcement: 60_000, lifetime: 50_000 };
const TWO: Option<Announcement> = Some(Announcement { subscribers: 2, has_who: false });
const SAME: Found = Found { newest: Some(Offset(0)), noted: Noted::True };

fn names(id: &str) -> Names {
    Names::of(b"ws:", 0, b"group", id.as_bytes())
}

fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap()
}

/// Somebody listens to channels, which begin with epoch 7.
fn begin(client: &mut Client, ids: &[&str], counted: bool) {
    for id in ids {
        let counted = counted.then(|| Counted::of(b"ws:", b"group", id.as_bytes()));
        let wanted = Wanted { after: Offset(0), messages: 0, octets: 0, lifetime: 1_000 };
        client.ask(|out| script::read(&names(id), counted.as_ref(), Epoch(7), wanted, out));
    }
}

fn publish(client: &mut Client, id: &str, lifetime: u64) {
    let keeping = Keeping { messages: Kept::Newest(3), age: 0, lifetime, sharded: false };
    client.ask(|out| script::publish(&names(id), Epoch(8), b"x", &keeping, None, out));
}

/// Checks channels of epoch 7 of which this was announced.
fn ask(client: &mut Client, ids: &[&str], announced: Option<Announcement>) -> Vec<Found> {
    let names: Vec<Names> = ids.iter().map(|id| names(id)).collect();
    let channels: Vec<Channel<'_>> =
        names.iter().map(|names| Channel { names, epoch: Epoch(7), announced, counted: None }).collect();
    let reply = client.ask(|out| check(CHECKER, &channels, &[], out));
    checked(&reply, ids.len()).unwrap().channels
}

fn info(client: &mut Client, id: &str) -> ChannelState {
    state(&client.ask(|out| script::info(&names(id), Epoch(9), out))).unwrap()
}

fn lives(client: &mut Client, key: &[u8]) -> i64 {
    client.words(&["PTTL", text(key)]).number().unwrap()
}

#[test]
fn channels_are_compared_and_live_longer() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    begin(&mut client, &["quiet", "news", "lasting", "long"], false);
    publish(&mut client, "news", 1_000);
    publish(&mut client, "lasting", 0);
    publish(&mut client, "long", 90_000);
    let found = ask(&mut client, &["quiet", "news", "lasting", "long"], None);
    let newest = |offset| Found { newest: Some(Offset(offset)), noted: Noted::True };
    assert_eq!(found, [newest(0), newest(1), newest(1), newest(1)]);
    for (id, least, most) in [("quiet", 45_000, 50_000), ("lasting", -1, -1), ("long", 80_000, 101_250)] {
        let lives = lives(&mut client, names(id).hash());
        assert!((least..=most).contains(&lives), "{id}: {lives}");
    }
    assert_eq!(client.words(&["EXISTS", text(names("quiet").nodes())]).number(), Some(0), "nothing was announced");
}

#[test]
fn what_is_otherwise_has_to_be_read() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    begin(&mut client, &["a", "b", "c", "d"], false);
    client.words(&["HSET", text(names("b").hash()), "e", "6"]);
    client.words(&["DEL", text(names("c").hash())]);
    client.words(&["SET", text(names("d").hash()), "no channel's"]);
    let other = Found { newest: None, noted: Noted::True };
    let ids = ["a", "b", "c", "d", "a", "never"];
    assert_eq!(ask(&mut client, &ids, TWO), [SAME, other, other, other, SAME, other]);
    assert_eq!(client.words(&["EXISTS", text(names("c").hash())]).number(), Some(0), "a lost channel is not made anew");
    // Another replication id: the server may have gone back.
    client.words(&["HSET", text(names("a").hash()), "r", "other"]);
    assert_eq!(ask(&mut client, &["a"], None), [other]);
    server.restart();
    client = server.connect();
    assert_eq!(ask(&mut client, &["a"], None), [other]);
}

#[test]
fn announcements_are_true_for_longer() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    begin(&mut client, &["a", "b"], false);
    let names = names("a");
    client.words(&["HSET", text(names.nodes()), "void", "1:7"]);
    client.words(&["HSET", text(names.presence()), "void", "who"]);
    client.ask(|out| script::announce(&names, b"a", 200, 2, Some(b"who"), None, out));
    client.ask(|out| script::announce(&names, b"b", 60_000, 3, None, None, out));
    let who = Some(Announcement { subscribers: 2, has_who: true });
    assert_eq!(ask(&mut client, &["a"], who), [SAME]);
    assert_eq!(client.words(&["HEXISTS", text(names.nodes()), "void"]).number(), Some(0));
    std::thread::sleep(std::time::Duration::from_millis(250));
    let ChannelState { subscribers, requested, .. } = info(&mut client, "a");
    assert_eq!(subscribers, 5, "the one that would be void by now is not");
    assert!(requested.is_some_and(|ago| ago < 20_000), "{requested:?}");
    for key in [names.nodes(), names.presence()] {
        assert!(lives(&mut client, key) > 50_000);
    }
    // Channels that the announcement was not made of yet, or that were lost.
    assert_eq!(ask(&mut client, &["b"], TWO), [SAME]);
    assert_eq!(info(&mut client, "b").subscribers, 2);
    assert!(lives(&mut client, self::names("b").nodes()) > 50_000);
    client.words(&["DEL", text(names.presence())]);
    let without = Found { noted: Noted::WithoutWho, ..SAME };
    assert_eq!(ask(&mut client, &["a", "b"], who), [without, without]);
}

#[test]
fn what_cannot_be_written_is_told_of_each() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    begin(&mut client, &["a", "b", "c"], false);
    client.words(&["SET", text(names("b").nodes()), "no announcements"]);
    let refused = Found { noted: Noted::Refused, ..SAME };
    assert_eq!(ask(&mut client, &["a", "b", "c"], TWO), [SAME, refused, SAME]);
    // Without memory too: what is written was there before.
    client.words(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(ask(&mut client, &["a", "b", "c"], TWO), [SAME, refused, SAME]);
    client.words(&["CONFIG", "SET", "maxmemory", "0"]);
    // Without a replica nothing is written, and channels are compared all the same.
    client.words(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(ask(&mut client, &["a", "c"], TWO), [refused, refused]);
    assert_eq!(ask(&mut client, &["a", "c"], None), [SAME, SAME]);
    client.words(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    client.words(&["REPLICAOF", "127.0.0.1", "1"]);
    let names = names("a");
    let channel = Channel { names: &names, epoch: Epoch(7), announced: None, counted: None };
    let reply = client.ask(|out| check(CHECKER, &[channel], &[], out));
    assert_eq!(checked(&reply, 1), Err(Failure::Refused(ErrorReply::NotMaster)), "what a replica has may be old");
}

#[test]
fn groups_are_announced_once_and_tell_their_limits() {
    let server = Server::start(&[]);
    with_user(&server, &format!("{RIGHTS} {GROUP_RIGHTS}"));
    let mut client = server.connect_as(Some("channels"), Some("secret")).unwrap();
    let ids = ["a", "b"];
    begin(&mut client, &ids, true);
    let counted = ids.map(|id| Counted::of(b"ws:", b"group", id.as_bytes()));
    let names = ids.map(names);
    let mut ask = |subscribers| {
        let channels = [0, 1].map(|place| Channel {
            names: &names[place],
            epoch: Epoch(7),
            announced: None,
            counted: Some(&counted[place]),
        });
        let groups = [Group { counted: &counted[0], subscribers }];
        let reply = client.ask(|out| check(Checker { lifetime: 1_000, ..CHECKER }, &channels, &groups, out));
        checked(&reply, 2).unwrap()
    };
    assert_eq!(ask(5), Checked { channels: vec![SAME, SAME], limits: vec![None] });
    let mut admin = server.connect();
    let change = GroupChange { subscribers: Change::To(9), ..GroupChange::default() };
    admin.ask(|out| group::limit(&counted[0].group, change, out));
    assert_eq!(ask(0).limits, [Some(9)]);
    let state = group::state(&admin.ask(|out| group::info(&counted[0].group, out))).unwrap();
    assert_eq!(state.used.subscribers, 5, "0 leaves it as it is");
    // A channel that is not counted any more is read, which counts it.
    admin.words(&["HDEL", text(&counted[0].group.uses), "Yg"]);
    let found = ask(5).channels;
    assert_eq!(found, [SAME, Found { newest: None, noted: Noted::True }]);
    admin.words(&["DEL", text(&counted[0].group.hash)]);
    assert!(ask(5).channels.iter().all(|found| found.newest.is_none()));
    admin.words(&["SET", text(&counted[0].group.hash), "no group"]);
    assert_eq!(ask(5).limits, [None]);
}

#[test]
fn the_server_is_not_kept_from_others_for_long() {
    let server = Server::start(&["--slowlog-log-slower-than", "50000"]);
    let mut client = server.connect();
    let ids: Vec<String> = (0..MOST).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    begin(&mut client, &ids, false);
    for id in &ids {
        // What a hundred nodes have announced.
        let nodes: Vec<String> = (0..100).flat_map(|node| [node.to_string(), "9999999999999:1".to_owned()]).collect();
        let names = names(id);
        let words: Vec<&str> =
            ["HSET", text(names.nodes())].into_iter().chain(nodes.iter().map(String::as_str)).collect();
        client.words(&words);
    }
    client.words(&["SLOWLOG", "RESET"]);
    assert_eq!(ask(&mut client, &ids, TWO), vec![SAME; MOST]);
    assert_eq!(client.words(&["SLOWLOG", "LEN"]), Value::Integer(0));
}
