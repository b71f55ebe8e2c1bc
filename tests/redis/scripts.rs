// SPDX-License-Identifier: Apache-2.0

//! Each script does what its first lines say, also when the server has lost a part of what it had.

use std::collections::BTreeMap;

use ngx_ws_exec::channel::position::{Epoch, MessageId, Offset};
use ngx_ws_exec::channel::store::History;
use ngx_ws_exec::redis::error::ErrorReply;
use ngx_ws_exec::redis::names::Names;
use ngx_ws_exec::redis::notice::Notice;
use ngx_ws_exec::redis::presence;
use ngx_ws_exec::redis::resp::Value;
use ngx_ws_exec::redis::script::reply::{ChannelState, Entry, Failure, Fetched, Published, fetched, noted, published};
use ngx_ws_exec::redis::script::{self, Keeping, Kept, Script, Wanted};

use crate::harness::{Client, Server};

const KEEP: Keeping = Keeping { messages: Kept::Newest(3), age: 0, lifetime: 0, sharded: false };

fn names(id: &[u8]) -> Names {
    Names::of(b"ws:", 0, b"group", id)
}

fn publish(client: &mut Client, id: &[u8], epoch: u64, message: &str, keeping: &Keeping) -> Result<Published, Failure> {
    let names = names(id);
    let write = |out: &mut Vec<u8>| script::publish(&names, Epoch(epoch), message.as_bytes(), keeping, None, out);
    published(&client.ask(write)).map(|published| published.expect("no group is counted"))
}

fn read(client: &mut Client, id: &[u8], epoch: u64, after: u64, most: usize) -> Result<Fetched, Failure> {
    let names = names(id);
    fetched(&client.ask(|out| {
        script::read(
            &names,
            None,
            Epoch(epoch),
            Wanted { after: Offset(after), messages: most, octets: 1 << 20, lifetime: 0 },
            out,
        )
    }))
}

fn info(client: &mut Client, id: &[u8]) -> ChannelState {
    let names = names(id);
    script::reply::state(&client.ask(|out| script::info(&names, Epoch(99), out))).unwrap()
}

fn at(epoch: u64, offset: u64) -> MessageId {
    MessageId { epoch: Epoch(epoch), offset: Offset(offset) }
}

fn offsets(fetched: &Fetched) -> Vec<u64> {
    fetched.entries.iter().map(|entry| entry.offset.0).collect()
}

/// What a name is as an argument of a command.
fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap()
}

#[test]
fn messages_are_numbered_kept_and_told() {
    let server = Server::start(&[]);
    let (mut client, mut listener) = (server.connect(), server.connect());
    let topic = names(b"news").topic().to_vec();
    listener.subscribe(&topic);
    for offset in 1..=5 {
        let published = publish(&mut client, b"news", 40 + offset, &format!("m{offset}\n\0"), &KEEP).unwrap();
        let (id, messages) = (at(41, offset), offset.min(3));
        let begins_epoch = offset == 1;
        assert_eq!(
            published,
            Published { id, begins_epoch, nodes: Some(1), messages, subscribers: 0, requested: None }
        );
        let Notice::Message { topic: told, id, unix, history, sealed } = listener.notice() else {
            panic!("no message")
        };
        assert_eq!(history, History { length: 3, time: 0 });
        assert_eq!((told, id, sealed.clone()), (topic.clone(), at(41, offset), format!("m{offset}\n\0").into_bytes()));
        // The entry is what was told, its time included.
        let fetched = read(&mut client, b"news", 9, offset - 1, 10).unwrap();
        assert_eq!(fetched.entries, [Entry { offset: Offset(offset), unix, sealed }]);
    }
    let fetched = read(&mut client, b"news", 9, 0, 10).unwrap();
    assert_eq!((fetched.epoch, fetched.newest, fetched.oldest), (Some(Epoch(41)), Offset(5), Some(Offset(3))));
    assert_eq!(offsets(&fetched), [3, 4, 5]);
    assert_eq!(fetched.history, Some(History { length: 3, time: 0 }));
    assert_eq!(offsets(&read(&mut client, b"news", 9, 3, 1).unwrap()), [4]);
    assert_eq!(offsets(&read(&mut client, b"news", 9, 0, 0).unwrap()), [0_u64; 0]);
    assert_eq!(read(&mut client, b"other", 9, 0, 10).unwrap().epoch, None);
}

#[test]
fn octets_bound_what_is_read_but_never_to_nothing() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let keeping = Keeping { messages: Kept::All, ..KEEP };
    for _ in 0..40 {
        publish(&mut client, b"news", 1, &"x".repeat(1000), &keeping).unwrap();
    }
    let names = names(b"news");
    let mut count = |octets| {
        let reply = client.ask(|out| {
            script::read(&names, None, Epoch(1), Wanted { after: Offset(0), messages: 1000, octets, lifetime: 0 }, out)
        });
        fetched(&reply).unwrap().entries.len()
    };
    assert_eq!((count(1), count(5000), count(1 << 20)), (1, 5, 40));
}

#[test]
fn history_may_be_none_or_all() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for offset in 1..=3 {
        let keeping = Keeping { messages: Kept::Newest(0), ..KEEP };
        assert_eq!(publish(&mut client, b"none", 1, "x", &keeping).unwrap().id, at(1, offset));
        let keeping = Keeping { messages: Kept::All, ..KEEP };
        assert_eq!(publish(&mut client, b"all", 1, "x", &keeping).unwrap().id, at(1, offset));
    }
    assert!(publish(&mut client, b"one", 1, "x", &KEEP).is_ok());
    assert_eq!(read(&mut client, b"one", 9, 0, 10).unwrap().history, Some(History { length: 3, time: 0 }));
    let none = read(&mut client, b"none", 9, 0, 10).unwrap();
    assert_eq!((none.epoch, none.newest, none.oldest), (Some(Epoch(1)), Offset(3), None));
    assert_eq!(none.history, Some(History::OFF));
    let all = read(&mut client, b"all", 9, 0, 10).unwrap();
    assert_eq!((offsets(&all), all.history), (vec![1, 2, 3], Some(History { length: 0, time: 0 })));
}

#[test]
fn what_is_too_old_goes_after_a_while() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let keeping = Keeping { messages: Kept::All, age: 80, lifetime: 10_000, sharded: false };
    for _ in 0..30 {
        publish(&mut client, b"news", 1, "x", &keeping).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Marks are an eighth of the age apart, so an entry can be kept that long beyond its time, and until the next publication.
    assert!(info(&mut client, b"news").messages < 15);
    let lives = client.words(&["PTTL", text(names(b"news").hash())]).number().unwrap();
    assert!((1..=11_250).contains(&lives));
}

#[test]
fn what_has_expired_is_not_counted() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let keeping = Keeping { messages: Kept::All, age: 1_000, lifetime: 10_000, sharded: false };
    for _ in 0..7 {
        publish(&mut client, b"news", 1, "x", &keeping).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(600));
    for _ in 0..4 {
        publish(&mut client, b"news", 1, "x", &keeping).unwrap();
    }
    assert_eq!(info(&mut client, b"news").messages, 11);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(info(&mut client, b"news").messages, 4);
    std::thread::sleep(std::time::Duration::from_millis(800));
    assert_eq!(info(&mut client, b"news").messages, 0);
    assert_eq!(publish(&mut client, b"news", 1, "x", &keeping).unwrap().messages, 1, "all others have expired");
    std::thread::sleep(std::time::Duration::from_millis(1_050));
    let deleted = client.ask(|out| script::delete(&names(b"news"), false, None, out));
    assert_eq!(script::reply::state(&deleted).unwrap().messages, 0);
}

#[test]
fn however_many_have_expired_the_others_are_counted() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let keeping = Keeping { messages: Kept::All, age: 60_000, lifetime: 60_000, sharded: false };
    let now = publish(&mut client, b"news", 1, "x", &keeping).map(|_| client.words(&["TIME"])).unwrap();
    let Value::Array(now) = now else { panic!("no time") };
    let now = format!("{}000", text(now[0].octets().unwrap()));
    let names = names(b"news");
    let (stream, hash) = (text(names.stream()), text(names.hash()));
    for (before, count) in (1..10_u64).flat_map(|count| [(0, count), (7, count)]) {
        for expired in 0..=count {
            client.words(&["DEL", stream]);
            client.words(&["HSET", hash, "o", &(before + count).to_string()]);
            for nth in 1..=count {
                let time = if nth <= expired { "1000" } else { &now };
                client.words(&["XADD", stream, &format!("{}-0", before + nth), "t", time, "m", "x"]);
            }
            assert_eq!(info(&mut client, b"news").messages, count - expired, "{count} behind {before}");
        }
    }
    client.words(&["DEL", stream]);
    client.words(&["XADD", stream, "1-0", "field", "of somebody else"]);
    assert_eq!(info(&mut client, b"news").messages, 1);
}

#[test]
fn what_has_expired_does_not_come_back_with_a_message_that_is_kept_longer() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let keeping = |age| Keeping { messages: Kept::All, age, lifetime: 60_000, sharded: false };
    for (id, longer) in [(b"news", 60_000), (b"ever", 0)] {
        for _ in 0..4 {
            publish(&mut client, id, 1, "x", &keeping(1_000)).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        assert_eq!(info(&mut client, id).messages, 0);
        assert_eq!(publish(&mut client, id, 1, "x", &keeping(longer)).unwrap().messages, 1);
        assert_eq!(offsets(&read(&mut client, id, 9, 0, 10).unwrap()), [5]);
        publish(&mut client, id, 1, "x", &keeping(1_000)).unwrap();
        assert_eq!(publish(&mut client, id, 1, "x", &keeping(longer)).unwrap().messages, 3, "nothing else has expired");
    }
}

#[test]
fn what_is_kept_for_ever_is_so_whatever_was_said_before() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    let mut lives = |lifetime: u64, lost: Option<&str>| {
        let keeping = Keeping { age: lifetime / 8, lifetime, ..KEEP };
        if let Some(field) = lost {
            client.words(&["HDEL", text(names.hash()), field]);
        }
        publish(&mut client, b"news", 1, "x", &keeping).unwrap();
        [names.stream(), names.hash()].map(|key| client.words(&["PTTL", text(key)]).number().unwrap())
    };
    for lost in [None, Some("x"), Some("l")] {
        for _ in 0..2 {
            assert!(lives(8_000, None).iter().all(|at| *at > 7_000));
        }
        assert_eq!(lives(0, lost), [-1, -1], "{lost:?}");
        assert_eq!(lives(0, None), [-1, -1], "{lost:?}");
    }
    assert!(lives(8_000, None).iter().all(|at| *at > 7_000), "nor was it for ever");
}

#[test]
fn keys_live_as_long_as_each_message_asks_for_and_little_longer() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let keys = [names(b"news").stream().to_vec(), names(b"news").hash().to_vec()];
    let publish = |client: &mut Client, lifetime| {
        publish(client, b"news", 1, "x", &Keeping { lifetime, ..KEEP }).unwrap();
        keys.each_ref().map(|key| client.words(&["PTTL", text(key)]).number().unwrap())
    };
    let is_of = |lives: [i64; 2], lifetime: i64| lives.iter().all(|at| (lifetime..=lifetime / 8 * 9).contains(at));
    let changes = || {
        let mut admin = server.connect();
        let stats = admin.words(&["INFO", "commandstats"]);
        let stats = String::from_utf8(stats.octets().unwrap().to_vec()).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_pexpire:calls=")).unwrap_or("0,");
        line.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    for _ in 0..2 {
        assert!(is_of(publish(&mut client, 80_000), 80_000));
    }
    // The first two have changed it: a stream of one message may be a new one. Each connection of a test publishes something itself.
    let before = changes();
    let probe = changes() - before;
    for _ in 0..20 {
        assert!(is_of(publish(&mut client, 80_000), 80_000));
    }
    assert_eq!(changes() - before, 2 * probe, "they live long enough");
    let lives = publish(&mut client, 800_000);
    assert!(is_of(lives, 800_000), "{lives:?}");
    let lives = publish(&mut client, 8_000);
    assert!(is_of(lives, 800_000), "what another message was promised stays: {lives:?}");
    // What was lost is made anew with its lifetime, whatever the other key says.
    for key in &keys {
        client.words(&["DEL", text(key)]);
        let lives = publish(&mut client, 80_000);
        assert!(lives.iter().all(|at| *at >= 79_000), "{lives:?}");
    }
    publish(&mut client, 80_000);
    let ends = client.words(&["HGET", text(&keys[1]), "x"]);
    let ends: i64 = text(ends.octets().unwrap()).parse().unwrap();
    for key in &keys {
        assert!(client.words(&["PEXPIRETIME", text(key)]).number().unwrap() >= ends, "x promises no more than is true");
    }
    // It is time again when less than a lifetime is left.
    client.words(&["HSET", text(&keys[1]), "x", "1"]);
    client.words(&["PEXPIRE", text(&keys[0]), "1000"]);
    assert!(is_of(publish(&mut client, 80_000), 80_000));
}

#[test]
fn a_server_that_was_restarted_begins_an_epoch() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    publish(&mut client, b"news", 1, "x", &KEEP).unwrap();
    server.restart();
    let mut client = server.connect();
    assert_eq!(read(&mut client, b"news", 2, 1, 10).unwrap().epoch, None);
    assert_eq!(publish(&mut client, b"news", 3, "x", &KEEP).unwrap().id, at(3, 1));
}

#[test]
fn another_replication_id_begins_one_epoch_for_all() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.connect(), server.connect());
    publish(&mut client, b"read", 1, "x", &KEEP).unwrap();
    publish(&mut client, b"published", 1, "x", &KEEP).unwrap();
    client.words(&["REPLICAOF", "127.0.0.1", "1"]);
    client.words(&["REPLICAOF", "NO", "ONE"]);
    // Whoever comes first, also who only reads, and on a connection that was there before.
    assert_eq!(read(&mut other, b"read", 2, 0, 10).unwrap().epoch, Some(Epoch(2)));
    assert_eq!(read(&mut client, b"read", 3, 0, 10).unwrap().epoch, Some(Epoch(2)));
    assert_eq!(publish(&mut client, b"read", 4, "y", &KEEP).unwrap().id, at(2, 2));
    let published = publish(&mut other, b"published", 5, "y", &KEEP).unwrap();
    assert_eq!((published.id, published.begins_epoch), (at(5, 2), true));
    assert_eq!(offsets(&read(&mut client, b"published", 6, 0, 10).unwrap()), [1, 2]);
    assert_eq!(info(&mut client, b"published").epoch, Some(Epoch(5)));
}

#[test]
fn a_channel_of_which_a_part_was_evicted_never_gives_an_id_twice() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    for _ in 0..3 {
        publish(&mut client, b"news", 1, "x", &KEEP).unwrap();
    }
    client.words(&["DEL", text(names.hash())]);
    let published = publish(&mut client, b"news", 2, "x", &KEEP).unwrap();
    assert_eq!((published.id, published.begins_epoch), (at(2, 4), true));
    // The same where a reader finds it first.
    client.words(&["DEL", text(names.hash())]);
    let found = read(&mut client, b"news", 3, 0, 10).unwrap();
    assert_eq!((found.epoch, found.newest), (Some(Epoch(3)), Offset(4)));
    assert_eq!(publish(&mut client, b"news", 4, "x", &KEEP).unwrap().id, at(3, 5));
    client.words(&["DEL", text(names.stream())]);
    assert_eq!(publish(&mut client, b"news", 5, "x", &KEEP).unwrap().id, at(3, 6));
    assert_eq!(read(&mut client, b"news", 6, 0, 10).unwrap().oldest, Some(Offset(6)));
}

#[test]
fn without_memory_nothing_is_published() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    publish(&mut client, b"news", 1, "x", &KEEP).unwrap();
    client.words(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = Err(Failure::Refused(ErrorReply::OutOfMemory));
    assert_eq!(publish(&mut client, b"news", 2, "x", &KEEP), refused);
    assert_eq!(publish(&mut client, b"new", 2, "x", &KEEP), refused);
    // A new epoch that cannot be kept is an error, and not an epoch.
    client.words(&["REPLICAOF", "127.0.0.1", "1"]);
    client.words(&["REPLICAOF", "NO", "ONE"]);
    let stale = read(&mut client, b"news", 3, 0, 10);
    assert!(
        matches!(&stale, Err(Failure::Refused(ErrorReply::NotNow(text))) if text.starts_with("STALE ")),
        "{stale:?}"
    );
    client.words(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(publish(&mut client, b"news", 4, "x", &KEEP).unwrap().id, at(4, 2));
    assert_eq!(read(&mut client, b"new", 5, 0, 10).unwrap().epoch, None);
}

#[test]
fn keys_of_another_kind_are_left_alone() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    client.words(&["SET", text(names.stream()), "mine"]);
    assert!(matches!(publish(&mut client, b"news", 1, "x", &KEEP), Err(Failure::Refused(ErrorReply::Other(_)))));
    assert_eq!(client.words(&["GET", text(names.stream())]), Value::Bulk(b"mine".to_vec()));
}

#[test]
fn numbers_keep_all_of_their_digits() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let (epoch, offset) = ((1 << 53) - 1, 8_123_456_789_012_345);
    publish(&mut client, b"news", epoch, "x", &KEEP).unwrap();
    client.words(&["HSET", text(names(b"news").hash()), "o", &offset.to_string()]);
    assert_eq!(publish(&mut client, b"news", 2, "x", &KEEP).unwrap().id, at(epoch, offset + 1));
    let fetched = read(&mut client, b"news", 3, offset, 10).unwrap();
    assert_eq!((fetched.newest, offsets(&fetched)), (Offset(offset + 1), vec![offset + 1]));
}

#[test]
fn a_deleted_channel_is_told_of_and_begins_anew() {
    let server = Server::start(&[]);
    let (mut client, mut listener) = (server.connect(), server.connect());
    let names = names(b"news");
    listener.subscribe(names.topic());
    publish(&mut client, b"news", 1, "x", &KEEP).unwrap();
    let state = script::reply::state(&client.ask(|out| script::delete(&names, false, None, out))).unwrap();
    assert_eq!((state.epoch, state.newest, state.messages), (Some(Epoch(1)), Offset(1), 1));
    assert!(matches!(listener.notice(), Notice::Message { .. }));
    assert_eq!(listener.notice(), Notice::Deleted { topic: names.topic().to_vec(), epoch: Epoch(1) });
    let state = script::reply::state(&client.ask(|out| script::delete(&names, false, None, out))).unwrap();
    assert_eq!(state.epoch, None);
    assert_eq!(publish(&mut client, b"news", 2, "x", &KEEP).unwrap().id, at(2, 1));
}

#[test]
fn what_a_node_has_announced_is_void_after_a_while() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    let announce = |client: &mut Client, node: &str, lifetime, count: u32| -> Vec<Vec<u8>> {
        let reply = client.ask(|out| script::announce(&names, node.as_bytes(), lifetime, count, None, None, out));
        let mut texts: Vec<_> = noted(&reply).unwrap().announced.into_iter().map(|announced| announced.text).collect();
        texts.sort();
        texts
    };
    assert_eq!(announce(&mut client, "a", 60_000, 3), [b"3"]);
    assert_eq!(announce(&mut client, "b", 1, 4), [b"3", b"4"]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(announce(&mut client, "c", 60_000, 5), [b"3", b"5"]);
    let state = info(&mut client, b"news");
    assert_eq!((state.epoch, state.subscribers), (None, 8));
    assert_eq!(announce(&mut client, "a", 60_000, 0), [b"5"]);
    assert_eq!(announce(&mut client, "c", 60_000, 0), [[0_u8; 0]; 0]);
    assert_eq!(client.words(&["EXISTS", text(names.nodes())]), Value::Integer(0));
}

#[test]
fn who_listens_before_anybody_publishes_begins_the_epoch() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    let mut listen = |epoch, lifetime| {
        fetched(&client.ask(|out| {
            script::read(
                &names,
                None,
                Epoch(epoch),
                Wanted { after: Offset(0), messages: 10, octets: 1000, lifetime },
                out,
            )
        }))
        .unwrap()
    };
    assert_eq!(listen(1, 0).epoch, None);
    assert_eq!(listen(2, 60_000).epoch, Some(Epoch(2)));
    assert_eq!(listen(3, 90_000).epoch, Some(Epoch(2)));
    let lives = |client: &mut Client| client.words(&["PTTL", text(names.hash())]).number().unwrap();
    assert!((60_001..=90_000).contains(&lives(&mut client)));
    // The channel of a publisher that wants it kept for ever does not end with those who listened.
    let published = publish(&mut client, b"news", 4, "x", &KEEP).unwrap();
    assert_eq!((published.id, published.begins_epoch, lives(&mut client)), (at(2, 1), false, -1));
}

#[test]
fn a_publisher_hears_of_the_subscribers_of_all_nodes() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    for (node, count) in [("a", 3), ("b", 4)] {
        client.ask(|out| script::announce(&names, node.as_bytes(), 60_000, count, None, None, out));
    }
    assert_eq!(publish(&mut client, b"news", 1, "x", &KEEP).unwrap().subscribers, 7);
}

#[test]
fn many_void_announcements_go_at_once() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    for node in 0..500 {
        client.words(&["HSET", text(names.nodes()), &node.to_string(), "1:x"]);
    }
    let reply = client.ask(|out| script::announce(&names, b"a", 1000, 1, None, None, out));
    assert_eq!(noted(&reply).unwrap().announced.len(), 1);
}

#[test]
fn scripts_are_known_by_their_digests() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for script in Script::ALL {
        let reply = client.words(&["SCRIPT", "EXISTS", script.digest()]);
        assert_eq!(reply, Value::Array(vec![Value::Integer(1)]));
    }
    client.words(&["SCRIPT", "FLUSH"]);
    assert_eq!(publish(&mut client, b"news", 1, "x", &KEEP), Err(Failure::Refused(ErrorReply::NoScript)));
}

#[test]
fn who_is_on_a_channel_is_known_of_all_nodes() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    let mut announce = |node: &str, lifetime, count, who: Option<&[u8]>| {
        let names: BTreeMap<Vec<u8>, u32> = who.into_iter().map(|who| (who.to_vec(), count)).collect();
        let text = who.map(|_| presence::write(&names));
        let write = |out: &mut Vec<u8>| {
            script::announce(&self::names(b"news"), node.as_bytes(), lifetime, count, text.as_deref(), None, out);
        };
        noted(&client.ask(write)).unwrap().has_presence
    };
    assert!(!announce("silent", 60_000, 1, None));
    assert!(announce("a", 60_000, 2, Some(b"anna")));
    assert!(announce("a", 60_000, 3, None), "is remembered");
    assert!(announce("b", 60_000, 2, Some(b"anna")));
    assert!(announce("dead", 1, 9, Some(b"ghost")));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let mut client = server.connect();
    let mut present = || script::reply::present(&client.ask(|out| script::presence(&names, out))).unwrap();
    assert_eq!(present(), None, "nobody has made the channel");
    publish(&mut server.connect(), b"news", 1, "x", &KEEP).unwrap();
    let found = present().unwrap();
    assert_eq!(found.subscribers, 6);
    assert_eq!(found.names, [(b"anna".to_vec(), 4)].into_iter().collect());
    // Who takes its count back is not there any more.
    let mut client = server.connect();
    client.ask(|out| script::announce(&names, b"b", 60_000, 0, None, None, out));
    let reply = client.ask(|out| script::presence(&names, out));
    assert_eq!(script::reply::present(&reply).unwrap().unwrap().names, [(b"anna".to_vec(), 2)].into_iter().collect());
    // The dead one is cleared away with the next announcement.
    assert_eq!(client.words(&["HLEN", text(names.presence())]), Value::Integer(1));
}

#[test]
fn when_somebody_was_last_there_is_remembered() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let names = names(b"news");
    assert_eq!(publish(&mut client, b"news", 1, "x", &KEEP).unwrap().requested, None);
    client.ask(|out| script::announce(&names, b"a", 60_000, 0, None, None, out));
    assert_eq!(info(&mut client, b"news").requested, None, "nobody came");
    client.ask(|out| script::announce(&names, b"a", 60_000, 1, None, None, out));
    assert!(info(&mut client, b"news").requested.unwrap() < 10_000);
    client.words(&["HSET", text(names.hash()), "q", "1"]);
    client.ask(|out| script::announce(&names, b"a", 60_000, 0, None, None, out));
    let published = publish(&mut client, b"news", 1, "x", &KEEP).unwrap();
    assert_eq!(published.subscribers, 0);
    assert!(published.requested.unwrap() < 10_000, "when it went");
}
