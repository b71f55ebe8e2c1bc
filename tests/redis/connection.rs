// SPDX-License-Identifier: Apache-2.0

//! The greeting and the life of a connection, as a real server has them.

use ngx_ws_exec::redis::connection::{End, Event, Unanswered, Unfit};
use ngx_ws_exec::redis::error::ErrorReply;

use crate::harness::Server;

/// The rights that `docs/directives.md` names, of a user "channels".
pub const RIGHTS: &str = "~ws:* &ws:* +hello +ping +select +info +script|load +evalsha +time +hmget +hget +hset +hvals +hgetall +hdel +xadd \
    +xtrim +xdel +xlen +xrange +xinfo|stream +del +pexpire +persist +pttl +publish +subscribe +unsubscribe";

/// Those that it names for groups.
pub const GROUP_RIGHTS: &str =
    "+hlen +hexists +zadd +zrem +zrange +zcard +rpush +lrange +ltrim +llen +lindex +pexpireat";

#[test]
fn the_rights_are_the_documented_ones() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let document = words(include_str!("../../docs/directives.md"));
    for rights in [RIGHTS, GROUP_RIGHTS] {
        assert!(document.contains(&format!("``` {} ```", words(rights))), "{rights}");
    }
}

pub fn with_user(server: &Server, rights: &str) {
    let mut client = server.connect();
    let words: Vec<&str> =
        ["ACL", "SETUSER", "channels", "on", ">secret"].into_iter().chain(rights.split(' ')).collect();
    assert_eq!(client.words(&words).octets(), Some(&b"OK"[..]));
}

fn unfit(end: End) -> Unfit {
    match end {
        End::Unfit(unfit) => unfit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_documented_rights_are_enough() {
    let server = Server::start(&[]);
    with_user(&server, RIGHTS);
    server.connect_as(Some("channels"), Some("secret")).map(drop).unwrap();
}

#[test]
fn a_missing_right_is_found_at_once() {
    let server = Server::start(&[]);
    for right in ["+publish", "+xadd", "+evalsha", "+script|load", "+info", "+time", "+hset", "&ws:*", "~ws:*"] {
        let rights: Vec<&str> =
            ["reset", "on", ">secret"].into_iter().chain(RIGHTS.split(' ').filter(|&own| own != right)).collect();
        with_user(&server, &rights.join(" "));
        let end = server.connect_as(Some("channels"), Some("secret")).map(drop).unwrap_err();
        assert!(matches!(unfit(end), Unfit::Refused { .. } | Unfit::Rights), "without {right}");
    }
}

#[test]
fn a_wrong_password_is_told() {
    let server = Server::start(&["--requirepass", "secret"]);
    server.connect_as(None, Some("secret")).map(drop).unwrap();
    for password in [None, Some("other")] {
        let end = server.connect_as(None, password).map(drop).unwrap_err();
        assert!(matches!(unfit(end), Unfit::Refused { command: "HELLO", error: ErrorReply::Denied(_) }));
    }
}

#[test]
fn a_replica_is_refused() {
    let server = Server::start(&[]);
    server.connect().words(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(unfit(server.connect_as(None, None).map(drop).unwrap_err()), Unfit::Replica);
}

#[test]
fn a_server_that_is_killed_leaves_its_commands_unknown() {
    let mut server = Server::start(&["--enable-debug-command", "yes"]);
    let mut client = server.connect();
    let token = client.send(|out| ngx_ws_exec::redis::command::append(&[b"DEBUG", b"SLEEP", b"30"], out));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        server.restart();
        server
    });
    assert_eq!(client.event(), Event::Abandoned(token, Unanswered::Unknown));
    assert_eq!(client.event(), Event::Ended(End::Lost));
    drop(killer.join());
}
