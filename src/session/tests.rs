// SPDX-License-Identifier: Apache-2.0

//! Any order of events, and the orders that have been found to matter.

use proptest::prelude::*;

use super::simulation::{self, Setup, Simulation, frames};
use super::*;
use crate::session::endpoint::{Produced, Started};
use crate::ws::frame::MessageKind;

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events(script in proptest::collection::vec(any::<u8>(), 0..500)) {
        simulation::run(&script);
    }
}

/// A session that is open, whose sides are read at these rates.
fn open_with(rates: Rates) -> Simulation {
    let settings = Settings { rates, ..Setup::default().settings };
    open(Setup { settings, ..Setup::default() })
}

/// A session that is open.
fn open(setup: Setup) -> Simulation {
    let mut simulation = Simulation::new(&setup);
    simulation.start(Started::Yes);
    simulation.turn(1);
    simulation
}

#[test]
fn an_endpoint_that_cannot_start_is_an_answer() {
    let mut simulation = Simulation::new(&Setup::default());
    simulation.start(Started::No(HttpStatus(502)));
    simulation.turn(1);
    assert_eq!(simulation.end, Some(SessionEnd::Refused(HttpStatus(502))));
    assert!(!simulation.record().ended.get(), "no WebSocket was opened");
    simulation.conclude();
}

#[test]
fn an_endpoint_that_cannot_start_is_a_close_where_that_is_asked_for() {
    let mut simulation = Simulation::new(&Setup::default());
    simulation.tell_refusals();
    simulation.start(Started::No(HttpStatus(502)));
    simulation.turn(1);
    assert_eq!(simulation.end, None);
    simulation.say_close();
    simulation.settle();
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    assert_eq!(simulation.wire(), [b"\x88\x02", &4502_u16.to_be_bytes()[..]].concat());
    simulation.conclude();
}

#[test]
fn another_endpoint_takes_the_place_of_one_that_is_starting() {
    let mut simulation = Simulation::new(&Setup::default());
    let other = || Box::new(Refusing::new(Ending { code: CloseCode::INTERNAL, reason: String::new() }));
    simulation.event(|session| session.exchange(other()));
    simulation.say_close();
    simulation.settle();
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    assert_eq!(simulation.wire(), [b"\x88\x02", &1011_u16.to_be_bytes()[..]].concat());
    simulation.conclude();
}

#[test]
fn nothing_overtakes_the_head() {
    // The worker is killed while the system takes nothing of the 101.
    let mut simulation = open(Setup { head: 100, room: 0, ..Setup::default() });
    simulation.event(|session| {
        session.farewell();
        Flow::Break(SessionEnd::Dropped)
    });
    assert_eq!(simulation.end, Some(SessionEnd::Dropped));
    simulation.conclude();
}

#[test]
fn a_close_is_answered_behind_what_the_endpoint_has_said() {
    let mut simulation = open(Setup::default());
    simulation.say_data(MessageKind::Text, b"one", false);
    simulation.say_data(MessageKind::Text, b" message", true);
    simulation.say_answer(MessageKind::Binary, b"answer");
    simulation.settle();
    simulation.say_close();
    simulation.settle();
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    assert_eq!(simulation.other.borrow().inbox, [(MessageKind::Text, b"one message".to_vec())]);
    let heard = frames(&simulation.wire());
    assert!(heard.closed);
    assert_eq!(heard.messages, [(MessageKind::Binary, b"answer".to_vec())]);
    assert_eq!(simulation.record().closed.get().map(|closed| closed.by), Some(crate::ws::connection::Side::Client));
    simulation.conclude();
}

#[test]
fn what_is_said_is_written_down() {
    let mut simulation = open(Setup { is_recorded: true, ..Setup::default() });
    simulation.say_data(MessageKind::Text, b"one", false);
    simulation.say_data(MessageKind::Text, b" message", true);
    simulation.say_answer(MessageKind::Binary, b"answer");
    simulation.settle();
    simulation.say_close();
    simulation.settle();
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    assert!(simulation.is_recorded());
    simulation.conclude();
}

#[test]
fn a_refusal_is_not_written_down() {
    let mut simulation = Simulation::new(&Setup { is_recorded: true, ..Setup::default() });
    simulation.tell_refusals();
    simulation.start(Started::No(HttpStatus(502)));
    simulation.turn(1);
    simulation.say_close();
    simulation.settle();
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    assert!(!simulation.is_recorded());
    simulation.conclude();
}

#[test]
fn a_message_that_is_refused_waits_for_the_answers_to_those_before() {
    let mut simulation = open(Setup::default());
    simulation.say_data(MessageKind::Text, b"good", true);
    simulation.arrive();
    while simulation.turn(0) {}
    simulation.refuse_next();
    simulation.say_data(MessageKind::Text, b"bad", true);
    simulation.arrive();
    while simulation.turn(0) {}
    assert!(!frames(&simulation.wire()).closed, "the answer to the first one is still due");
    simulation.say_answer(MessageKind::Text, b"late");
    while simulation.turn(0) {}
    simulation.pass(crate::ws::timing::GRACE);
    while simulation.turn(0) {}
    let heard = frames(&simulation.wire());
    assert_eq!(heard.messages, [(MessageKind::Text, b"late".to_vec())]);
    assert!(heard.closed);
    simulation.conclude();
}

#[test]
fn a_service_that_has_said_all_still_listens() {
    let mut simulation = open(Setup::default());
    let ending = Ending { code: CloseCode::NORMAL, reason: String::new() };
    simulation.finish(Produced::Silent(ending));
    while simulation.turn(0) {}
    assert!(frames(&simulation.wire()).closed);
    simulation.say_data(MessageKind::Binary, b"still", true);
    simulation.say_close();
    simulation.settle();
    assert_eq!(simulation.other.borrow().inbox, [(MessageKind::Binary, b"still".to_vec())]);
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    simulation.conclude();
}

#[test]
fn the_end_of_the_program_is_waited_for() {
    let mut simulation = open(Setup { leaves_program: true, ..Setup::default() });
    simulation.say_close();
    simulation.settle();
    assert_eq!(simulation.end, None, "the program may end soon");
    simulation.program_ends();
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    assert_eq!(simulation.record().exec_status.get(), Some(crate::exec::spawner::ExitStatus::Code(0)));
    simulation.conclude();
}

#[test]
fn what_is_known_of_a_lost_endpoint_ends_the_session_once() {
    let mut simulation = open(Setup { leaves_program: true, ..Setup::default() });
    simulation.event(|session| session.endpoint_lost("the program was lost"));
    simulation.event(|session| session.endpoint_lost("the program was lost"));
    assert!(frames(&simulation.wire()).closed);
    simulation.conclude();
}

#[test]
fn a_client_that_hung_up_is_given_up_when_nothing_moves() {
    let mut simulation = open(Setup { capacity: 1, ..Setup::default() });
    simulation.say_data(MessageKind::Text, b"takes all the room", true);
    // Messages that are read ahead are bounded; beyond that the client is not read.
    for _ in 0..300 {
        simulation.say_data(MessageKind::Binary, &[7; 3_000], true);
    }
    simulation.hang_up();
    simulation.arrive();
    while simulation.turn(0) {}
    assert_eq!(simulation.end, None);
    simulation.pass(HANGUP);
    assert_eq!(simulation.end, Some(SessionEnd::Dropped));
    simulation.conclude();
}

#[test]
fn a_client_is_read_at_its_rate() {
    // 1008 octets of the wire for each message.
    let mut simulation = open_with(Rates { upload: 1_000, download: 0 });
    for _ in 0..3 {
        simulation.say_data(MessageKind::Binary, &[7; 1_000], true);
    }
    simulation.say_close();
    simulation.arrive();
    let count = |simulation: &Simulation| simulation.other.borrow().inbox.len();
    while simulation.turn(0) {}
    assert_eq!(count(&simulation), 0);
    simulation.say_answer(MessageKind::Text, b"not held back");
    while simulation.turn(0) {}
    assert_eq!(frames(&simulation.wire()).messages.len(), 1);
    let mut waited = 0;
    for messages in 1..=3 {
        while count(&simulation) < messages {
            assert_eq!(simulation.end, None);
            simulation.pass(50);
            while simulation.turn(0) {}
            waited += 50;
        }
        assert!((messages as u64 - 1) * 1_000 <= waited && waited <= messages as u64 * 1_000, "{waited}");
    }
    // Its Close is behind that.
    while simulation.end.is_none() && waited < 4_000 {
        simulation.pass(50);
        while simulation.turn(0) {}
        waited += 50;
    }
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    simulation.conclude();
}

#[test]
fn an_endpoint_is_read_at_its_rate_and_its_client_as_ever() {
    let mut simulation = open_with(Rates { upload: 0, download: 1_000 });
    for _ in 0..5 {
        simulation.say_answer(MessageKind::Binary, &[7; 500]);
    }
    while simulation.turn(0) {}
    assert_eq!(frames(&simulation.wire()).messages.len(), 2);
    simulation.pass(500);
    while simulation.turn(0) {}
    assert_eq!(frames(&simulation.wire()).messages.len(), 3);
    simulation.say_data(MessageKind::Text, b"at once", true);
    simulation.say_close();
    simulation.arrive();
    while simulation.turn(0) {}
    assert_eq!(simulation.end, Some(SessionEnd::Finished));
    assert_eq!(simulation.other.borrow().inbox, [(MessageKind::Text, b"at once".to_vec())]);
    let heard = frames(&simulation.wire());
    assert!(heard.closed);
    assert_eq!(heard.messages.len(), 3, "what the endpoint has not said yet is not for this client");
}

#[test]
fn a_worker_that_leaves_does_not_wait_for_a_client_that_is_held_back() {
    let mut simulation = open_with(Rates { upload: 10, download: 10 });
    simulation.say_data(MessageKind::Binary, &[7; 2_000], true);
    simulation.say_close();
    simulation.arrive();
    while simulation.turn(0) {}
    simulation.event(|session| session.drain(session.host().now()));
    simulation.pass(1_000);
    while simulation.turn(0) {}
    assert!(frames(&simulation.wire()).closed);
    assert_eq!(simulation.end, Some(SessionEnd::Finished), "after our Close all is read, and its Close found");
    simulation.conclude();
}
