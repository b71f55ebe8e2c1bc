// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::redis::script::Script;

const HELLO: &[u8] = b"%4\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+mode\r\n+cluster\r\n+role\r\n+master\r\n";

fn settings(purpose: Purpose) -> Rc<Settings> {
    Rc::new(Settings {
        purpose,
        user: None,
        password: None,
        database: 0,
        timeout: 100,
        most_pending: 3,
        limits: Limits::default(),
    })
}

/// The answers to a greeting of a node of a cluster.
fn greeting() -> Vec<u8> {
    let mut octets = [HELLO, b"$12\r\nrun_id:abc\r\n\r\n"].concat();
    for script in Script::ALL {
        octets.extend_from_slice(format!("$40\r\n{}\r\n", script.digest()).as_bytes());
    }
    octets
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.next_event()).collect()
}

/// A connection that is ready, and has sent its greeting, at time 0.
fn ready() -> Connection {
    let mut connection = Connection::new(settings(Purpose::ClusterNode), 0, 50);
    let octets = connection.take_outgoing().len();
    connection.sent(octets);
    connection.receive(&greeting(), 0);
    let server = Server { product: "redis".to_owned(), version: "7.0.15".to_owned(), run_id: "abc".to_owned() };
    assert_eq!(events(&mut connection), [Event::Ready(server)]);
    connection
}

fn get(connection: &mut Connection, token: u64, now: u64) -> Result<(), Refused> {
    connection.command(Token(token), now, |out| command::append(&[b"GET", b"x"], out))
}

fn refusal(purpose: Purpose, octets: &[u8]) -> Vec<Event> {
    let mut connection = Connection::new(settings(purpose), 0, 50);
    connection.receive(octets, 1);
    events(&mut connection)
}

#[test]
fn a_greeting_is_one_write_and_can_come_octet_by_octet() {
    let mut connection = Connection::new(settings(Purpose::ClusterNode), 0, 50);
    assert!(connection.take_outgoing().starts_with(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"));
    assert_eq!(get(&mut connection, 1, 0), Err(Refused::NotReady));
    let greeting = greeting();
    for octet in &greeting[..greeting.len() - 1] {
        connection.receive(std::slice::from_ref(octet), 0);
        assert!(!connection.is_ready());
    }
    connection.receive(b"\n", 0);
    assert!(connection.is_ready());
}

#[test]
fn user_password_and_database_are_said() {
    let mut settings = (*settings(Purpose::Master { prefix: b"ws:".to_vec() })).clone();
    settings.password = Some("se\r\ncret".to_owned());
    settings.database = 3;
    let sent = Connection::new(Rc::new(settings.clone()), 0, 50).take_outgoing();
    assert!(sent.starts_with(b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$8\r\nse\r\ncret\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"));
    settings.user = Some("news".to_owned());
    let sent = Connection::new(Rc::new(settings), 0, 50).take_outgoing();
    assert!(sent.starts_with(b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$4\r\nnews\r\n"));
}

#[test]
fn servers_that_cannot_be_used_are_refused() {
    let hello = |version: &str, mode: &str, role: &str| {
        format!("%4\r\n+server\r\n+redis\r\n+version\r\n+{version}\r\n+mode\r\n+{mode}\r\n+role\r\n+{role}\r\n")
            .into_bytes()
    };
    let unfit = |purpose: Purpose, octets: &[u8]| match &refusal(purpose, octets)[..] {
        [Event::Ended(End::Unfit(unfit))] => unfit.clone(),
        other => panic!("{other:?}"),
    };
    let node = Purpose::ClusterNode;
    assert_eq!(unfit(node.clone(), &hello("6.2.14", "cluster", "master")), Unfit::Version("6.2.14".to_owned()));
    assert_eq!(unfit(node.clone(), &hello("x", "cluster", "master")), Unfit::Version("x".to_owned()));
    assert_eq!(unfit(node.clone(), &hello("8.1.1", "cluster", "replica")), Unfit::Replica);
    let mode = Unfit::Mode { found: "cluster".to_owned(), expected: "standalone" };
    let purpose = Purpose::Master { prefix: b"ws:".to_vec() };
    assert_eq!(unfit(purpose, &hello("7.2.4", "cluster", "master")), mode);
    let error = ErrorReply::Denied("WRONGPASS invalid".to_owned());
    assert_eq!(unfit(node.clone(), b"-WRONGPASS invalid\r\n"), Unfit::Refused { command: "HELLO", error });
    assert_eq!(unfit(node.clone(), b"+OK\r\n"), Unfit::Malformed("HELLO"));
    assert_eq!(unfit(node, &[HELLO, b"$1\r\nx\r\n"].concat()), Unfit::Malformed("INFO"));
}

#[test]
fn a_greeting_that_is_not_answered_ends_in_time() {
    let mut connection = Connection::new(settings(Purpose::Sentinel), 0, 50);
    assert_eq!(connection.deadline(), Some(50));
    connection.receive(b"%1\r\n", 49);
    connection.on_time(49);
    assert!(events(&mut connection).is_empty());
    connection.on_time(50);
    assert_eq!(events(&mut connection), [Event::Ended(End::Silent)]);
    assert_eq!(connection.deadline(), None);
}

#[test]
fn answers_come_in_order_and_notices_between_them() {
    let mut connection = ready();
    get(&mut connection, 1, 10).unwrap();
    get(&mut connection, 2, 11).unwrap();
    connection.receive(b":1\r\n>3\r\n+smessage\r\n+t\r\n+deleted:5\r\n-ERR no\r\n", 12);
    let deleted = Notice::Deleted { topic: b"t".to_vec(), epoch: crate::channel::position::Epoch(5) };
    assert_eq!(
        events(&mut connection),
        [
            Event::Answered(Token(1), Value::Integer(1)),
            Event::Notice(deleted),
            Event::Answered(Token(2), Value::Error(b"ERR no".to_vec())),
        ]
    );
    connection.receive(b":3\r\n", 13);
    assert_eq!(events(&mut connection), [Event::Ended(End::Unexpected)]);
}

#[test]
fn no_more_commands_wait_than_may() {
    let mut connection = ready();
    for token in 0..3 {
        assert_eq!(get(&mut connection, token, 0), Ok(()));
    }
    assert_eq!(get(&mut connection, 3, 0), Err(Refused::TooMany));
    connection.receive(b"_\r\n", 1);
    assert_eq!(get(&mut connection, 3, 1), Ok(()));
}

#[test]
fn what_became_of_a_command_is_told_truthfully() {
    let mut connection = ready();
    for token in 1..=3 {
        get(&mut connection, token, 0).unwrap();
    }
    let all = connection.take_outgoing();
    // The first command left, of the second one its first octet.
    connection.sent(all.len() / 3 + 1);
    connection.end(End::Lost);
    assert_eq!(
        events(&mut connection),
        [
            Event::Abandoned(Token(1), Unanswered::Unknown),
            Event::Abandoned(Token(2), Unanswered::Unknown),
            Event::Abandoned(Token(3), Unanswered::NotSent),
            Event::Ended(End::Lost),
        ]
    );
    assert_eq!(get(&mut connection, 4, 0), Err(Refused::NotReady));
    connection.end(End::Closed);
    connection.receive(b":1\r\n", 5);
    assert!(events(&mut connection).is_empty());
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let mut connection = ready();
    get(&mut connection, 1, 10).unwrap();
    get(&mut connection, 2, 60).unwrap();
    assert_eq!(connection.deadline(), Some(110));
    connection.receive(b":1\r\n", 100);
    assert_eq!(connection.deadline(), Some(160));
    connection.on_time(159);
    assert_eq!(events(&mut connection).len(), 1);
    let octets = connection.take_outgoing().len();
    connection.sent(octets);
    connection.on_time(160);
    let unknown = Event::Abandoned(Token(2), Unanswered::Unknown);
    assert_eq!(events(&mut connection), [unknown, Event::Ended(End::Silent)]);
}

#[test]
fn a_quiet_server_is_asked_whether_it_lives() {
    let mut connection = ready();
    assert_eq!(connection.deadline(), Some(QUIET));
    connection.on_time(QUIET);
    assert_eq!(connection.take_outgoing(), b"*1\r\n$4\r\nPING\r\n");
    assert_eq!(connection.deadline(), Some(QUIET + 100));
    connection.receive(b"+PONG\r\n", QUIET + 99);
    assert_eq!(connection.deadline(), Some(2 * QUIET + 99));
    assert!(events(&mut connection).is_empty());
}

#[test]
fn a_master_that_is_none_any_more_is_left() {
    let mut connection = ready();
    get(&mut connection, 1, 0).unwrap();
    get(&mut connection, 2, 0).unwrap();
    let octets = connection.take_outgoing().len();
    connection.sent(octets);
    connection.receive(b"-READONLY no\r\n", 1);
    assert_eq!(
        events(&mut connection),
        [
            Event::Answered(Token(1), Value::Error(b"READONLY no".to_vec())),
            Event::Abandoned(Token(2), Unanswered::Unknown),
            Event::Ended(End::NotMaster),
        ]
    );
}

#[test]
fn subscriptions_are_confirmed_one_by_one_or_refused_together() {
    let mut connection = ready();
    connection.subscribe(&[b"a", b"b"], 0).unwrap();
    assert!(connection.take_outgoing().starts_with(b"*3\r\n$10\r\nSSUBSCRIBE\r\n"));
    get(&mut connection, 1, 0).unwrap();
    connection.receive(b">3\r\n+ssubscribe\r\n+b\r\n:1\r\n>3\r\n+ssubscribe\r\n+a\r\n:2\r\n:7\r\n", 1);
    let subscribed = |topic: &[u8]| Event::Notice(Notice::Subscribed { topic: topic.to_vec() });
    let answered = Event::Answered(Token(1), Value::Integer(7));
    assert_eq!(events(&mut connection), [subscribed(b"b"), subscribed(b"a"), answered]);

    connection.subscribe(&[b"c"], 1).unwrap();
    get(&mut connection, 2, 1).unwrap();
    connection.receive(b"-NOPERM no\r\n:8\r\n", 2);
    let refused = Event::NotSubscribed(vec![b"c".to_vec()], ErrorReply::Denied("NOPERM no".to_owned()));
    assert_eq!(events(&mut connection), [refused, Event::Answered(Token(2), Value::Integer(8))]);
}

#[test]
fn a_slot_that_moves_away_takes_its_subscriptions_without_an_answer() {
    let mut connection = ready();
    get(&mut connection, 1, 0).unwrap();
    connection.receive(b">3\r\n+sunsubscribe\r\n+a\r\n:0\r\n:1\r\n", 1);
    let gone = Event::Notice(Notice::Unsubscribed { topic: b"a".to_vec() });
    assert_eq!(events(&mut connection), [gone, Event::Answered(Token(1), Value::Integer(1))]);
}

#[test]
fn a_subscription_without_an_answer_ends_in_time() {
    let mut connection = ready();
    connection.subscribe(&[b"a", b"b"], 0).unwrap();
    connection.receive(b">3\r\n+ssubscribe\r\n+a\r\n:1\r\n", 1);
    connection.on_time(100);
    assert_eq!(events(&mut connection).pop(), Some(Event::Ended(End::Silent)));
}

#[test]
fn octets_that_are_no_reply_end_the_connection() {
    let mut connection = ready();
    connection.receive(b"HTTP/1.1 400 Bad Request\r\n", 1);
    assert_eq!(events(&mut connection), [Event::Ended(End::Malformed(ParseError::Type(b'H')))]);
}

#[test]
fn asking_is_answered_before_what_it_is_for() {
    let mut connection = ready();
    connection.take_outgoing();
    connection.command_as(Token(1), true, 0, |out| command::append(&[b"GET", b"x"], out)).unwrap();
    connection.subscribe_as(&[b"t"], true, 0).unwrap();
    let sent = connection.take_outgoing();
    let asking = b"*1\r\n$6\r\nASKING\r\n";
    assert!(sent.starts_with(asking));
    assert_eq!(sent.windows(asking.len()).filter(|window| window == asking).count(), 2);
    connection.receive(b"+OK\r\n:7\r\n+OK\r\n>3\r\n$10\r\nssubscribe\r\n$1\r\nt\r\n:1\r\n", 0);
    let topic = b"t".to_vec();
    let expected = [Event::Answered(Token(1), Value::Integer(7)), Event::Notice(Notice::Subscribed { topic })];
    assert_eq!(events(&mut connection), expected);
    assert!(connection.is_idle());
}
