// SPDX-License-Identifier: Apache-2.0

//! What an engine sends to each kind of connection, and what is made of any reply of it: nothing but errors, ends and questions that
//! are bounded.
#![no_main]

use std::collections::BTreeMap;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::redis::cluster::slots::Slots;
use ngx_ws_exec::redis::cluster::survey::Survey;
use ngx_ws_exec::redis::connection::{Connection, Event, Purpose, Settings, Token, Unanswered};
use ngx_ws_exec::redis::error::ErrorReply;
use ngx_ws_exec::redis::notice::Notice;
use ngx_ws_exec::redis::resp::{Limits, Parser, Value};
use ngx_ws_exec::redis::script::{Script, check, group, reply};
use ngx_ws_exec::redis::sentinel::Watch;
use ngx_ws_exec::redis::url::Node;
use ngx_ws_exec::redis::{command, envelope, names, presence};

const LIMITS: Limits = Limits { depth: 8, line: 1 << 12, elements: 1 << 12, octets: 1 << 16 };

/// Commands that wait for answers at most.
const MOST_PENDING: usize = 8;

/// The answers to the questions that a connection begins with, so that what follows is not lost.
fn greeting(mode: &str) -> Vec<u8> {
    let mut octets =
        format!("%4\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+mode\r\n+{mode}\r\n+role\r\n+master\r\n");
    octets += "$12\r\nrun_id:abc\r\n\r\n";
    for script in Script::ALL {
        octets += &format!("$40\r\n{}\r\n", script.digest());
    }
    octets.into_bytes()
}

/// What is made of one reply.
fn read(reply: &Value) {
    let _ = reply::fetched(reply);
    let _ = reply::state(reply);
    let _ = reply::noted(reply);
    let _ = group::admitted(reply);
    let _ = group::state(reply);
    let _ = group::limited(reply);
    let _ = group::deleted(reply);
    if let Ok(Some(published)) = reply::published(reply) {
        assert!(published.nodes.is_none_or(|nodes| nodes <= i64::MAX as u64));
    }
    if let Ok(Some(all)) = reply::present(reply) {
        // What is told of again is the same, where none of the names is too long for it.
        let names: BTreeMap<_, _> = all.names.iter().map(|(name, count)| (name.clone(), *count)).collect();
        let mut again = Default::default();
        presence::add(&mut again, all.subscribers.into(), &presence::write(&names));
        assert_eq!(again, all);
    }
    for channels in [0, 1, 7] {
        if let Ok(checked) = check::checked(reply, channels) {
            assert_eq!(checked.channels.len(), channels);
        }
    }
    if let Some(slots) = Slots::of(reply, &Node { host: "asked".to_owned(), port: 1 }) {
        // To look for all of them takes long.
        for slot in (0..names::SLOTS).step_by(4_000) {
            let _ = slots.owner(slot).inspect(|owner| assert!(slots.masters().contains(owner) && slots.has(owner)));
        }
    }
    if let Value::Error(text) = reply
        && let ErrorReply::Moved(to) | ErrorReply::Ask(to) = ErrorReply::parse(text)
    {
        assert!(to.slot < names::SLOTS && to.port != 0);
    }
    if let Some(text) = reply.octets() {
        if let Some(envelope) = envelope::open(text) {
            let sealed = envelope::seal(envelope.kind, envelope.content_type, envelope.event, &[envelope.data]);
            assert_eq!(sealed.as_deref(), Ok(text));
        }
        if let Some((group, id)) = names::channel_of_topic(b"ws:", 3, text) {
            assert_eq!(names::Names::of(b"ws:", 3, &group, &id).topic(), text);
        }
        assert!(names::slot(text) < names::SLOTS);
    }
    if matches!(reply, Value::Push(_)) {
        assert!(Notice::of(reply.clone()).is_some());
    }
}

/// Somebody who asks by a connection, and is asked what to do next.
enum Owner {
    Nobody,
    Watch(Watch),
    Survey(Survey),
}

impl Owner {
    fn on_event(&mut self, event: Event, connection: &mut Connection, now: u64) {
        match self {
            Owner::Nobody => {}
            Owner::Watch(watch) => {
                let _ = watch.on_event(event, Some(connection), now);
                let _ = watch.take_changed();
                let _ = watch.is_lost();
                assert!(watch.target() < 2);
            }
            Owner::Survey(survey) => {
                let _ = survey.on_event(event, Some(connection), now);
                let _ = (survey.take_found(), survey.is_lost(), survey.target());
            }
        }
    }

    fn on_time(&mut self, connection: &mut Connection, now: u64) {
        match self {
            Owner::Nobody => {}
            Owner::Watch(watch) => drop(watch.on_time(Some(connection), now)),
            Owner::Survey(survey) => drop(survey.on_time(Some(connection), now)),
        }
    }
}

/// A connection that is sent these octets in pieces of a size, while commands are asked.
fn converse(kind: u8, size: usize, octets: &[u8]) {
    let seeds = vec![Node { host: "a".to_owned(), port: 1 }, Node { host: "b".to_owned(), port: 2 }];
    let (purpose, mode, mut owner) = match kind % 4 {
        0 => (Purpose::Master { prefix: b"ws:".to_vec() }, "standalone", Owner::Nobody),
        1 => (Purpose::ClusterNode, "cluster", Owner::Nobody),
        2 => (Purpose::Sentinel, "sentinel", Owner::Watch(Watch::new(2, "m".to_owned(), 1).expect("two"))),
        _ => (Purpose::Survey, "cluster", Owner::Survey(Survey::new(seeds, 1).expect("two"))),
    };
    let settings = Settings {
        purpose,
        user: None,
        password: (kind & 4 != 0).then(|| "secret".to_owned()),
        database: u32::from(kind & 8 != 0),
        timeout: 100,
        most_pending: MOST_PENDING,
        limits: LIMITS,
    };
    let mut connection = Connection::new(Rc::new(settings), 0, 1_000);
    let (mut now, mut asked, mut answered, mut has_ended) = (0, 0_u64, 0, false);
    let start = if kind & 16 != 0 { greeting(mode) } else { Vec::new() };
    for piece in [start.as_slice()].into_iter().chain(octets.chunks(size.max(1))) {
        now += 1;
        let out = connection.take_outgoing().len();
        connection.sent(out);
        if connection.is_ready() {
            // As many as fit, so that a reply that nobody has asked for comes after those that somebody has.
            while connection.command(Token(asked | 1 << 63), now, |out| command::append(&[b"GET", b"x"], out)).is_ok() {
                asked += 1;
            }
            let _ = connection.subscribe(&[b"t", b"u"], now);
            let _ = connection.unsubscribe(&[b"t"], now);
        }
        connection.receive(piece, now);
        while let Some(event) = connection.next_event() {
            assert!(!has_ended, "nothing happens after the end");
            match &event {
                Event::Answered(Token(token), _)
                | Event::Abandoned(Token(token), Unanswered::Unknown | Unanswered::NotSent)
                    if token >> 63 != 0 =>
                {
                    assert_eq!(*token ^ 1 << 63, answered, "in the order of the questions");
                    answered += 1;
                }
                Event::Ended(end) => {
                    assert!(!end.to_string().is_empty());
                    has_ended = true;
                }
                _ => {}
            }
            owner.on_event(event, &mut connection, now);
        }
        owner.on_time(&mut connection, now);
        assert_eq!(connection.deadline().is_none(), has_ended);
    }
    if has_ended {
        assert_eq!(asked, answered, "each question has an answer or an end");
    } else {
        assert!(asked - answered <= MOST_PENDING as u64);
    }
}

fuzz_target!(|data: &[u8]| {
    let [kind, size, octets @ ..] = data else { return };
    let (mut parser, mut input) = (Parser::new(LIMITS), octets);
    while let Ok(Some(reply)) = parser.next(&mut input) {
        read(&reply);
    }
    converse(*kind, usize::from(*size), octets);
});
