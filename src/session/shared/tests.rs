// SPDX-License-Identifier: Apache-2.0

//! Any order of events, and the orders that matter most.

use std::rc::Rc;

use proptest::prelude::*;

use super::simulation::{self, ProcessState, Simulation};
use super::*;
use crate::exec::spawner::ExitStatus;
use crate::exec::terminal::Size;
use crate::session::endpoint::HttpStatus;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events(script in proptest::collection::vec(any::<u8>(), 0..300)) {
        simulation::run(&script);
    }
}

/// The only process, and its worker.
fn process(simulation: &Simulation) -> (usize, Rc<ProcessState>) {
    let [(worker, process)] = &simulation.processes()[..] else { panic!("one process") };
    (*worker, Rc::clone(process))
}

#[test]
fn clients_of_all_workers_share_one_process() {
    let simulation = Simulation::new(0, 100);
    let clients = [0, 1, 2].map(|worker| simulation.join(worker, "one", false).unwrap());
    let (worker, only) = process(&simulation);
    assert_eq!(worker, 0, "who comes first runs it");
    assert_eq!(simulation.client(1, clients[1]).state(), Some(State::Starting));
    simulation.settle();
    let running = Some(State::Running(only.pid.get().unwrap()));
    for (worker, client) in clients.into_iter().enumerate() {
        assert_eq!(simulation.client(worker, client).state(), running);
    }
    simulation.conclude();
}

#[test]
fn a_terminal_has_the_smallest_size_of_the_clients_of_all_workers() {
    let simulation = Simulation::new(0, 100);
    let clients = [0, 1, 2].map(|worker| simulation.join(worker, "one", false).unwrap());
    let sizes = [(100, 50), (132, 30), (90, 60)].map(|(columns, rows)| Size { columns, rows });
    // The first one asks before the program runs.
    for (worker, size) in sizes.into_iter().enumerate() {
        simulation.client(worker, clients[worker]).resize(size);
        simulation.settle();
        simulation.check();
    }
    let (_, only) = process(&simulation);
    assert_eq!(only.size.borrow().get(), Size { columns: 90, rows: 30 });
    simulation.part(2, clients[2]);
    simulation.settle();
    assert_eq!(only.size.borrow().get(), Size { columns: 100, rows: 30 });
    // A client that does not say how large it is asks for nothing.
    simulation.join(2, "one", false).unwrap();
    simulation.settle();
    assert_eq!(only.size.borrow().get(), Size { columns: 100, rows: 30 });
    simulation.conclude();
}

#[test]
fn a_process_that_is_started_anew_is_told_the_sizes() {
    let mut simulation = Simulation::new(0, 100);
    simulation.join(0, "one", false).unwrap();
    let client = simulation.join(1, "one", false).unwrap();
    simulation.settle();
    let size = Size { columns: 40, rows: 10 };
    simulation.client(1, client).resize(size);
    simulation.settle();
    simulation.end_worker(0, true);
    simulation.settle();
    let (_, only) = process(&simulation);
    assert_eq!(only.size.borrow().get(), size);
    simulation.conclude();
}

#[test]
fn who_waits_for_a_start_that_fails_is_refused() {
    let simulation = Simulation::new(0, 100);
    let clients = [0, 1].map(|worker| simulation.join(worker, "one", false).unwrap());
    let (worker, only) = process(&simulation);
    simulation.fail(worker, &only, &RunEnd::timed_out());
    simulation.turn(1);
    for (worker, client) in clients.into_iter().enumerate() {
        assert_eq!(simulation.client(worker, client).state(), Some(State::Refused(HttpStatus(504))));
    }
    // The next client has another try.
    let late = simulation.join(0, "one", false).unwrap();
    assert_eq!(simulation.client(0, late).state(), Some(State::Starting));
    simulation.conclude();
}

#[test]
fn a_start_that_cannot_be_asked_for_is_refused_at_once() {
    let simulation = Simulation::new(0, 100);
    simulation.refuse(0);
    let refused = simulation.join(0, "one", false);
    assert_eq!(refused.err(), Some(JoinError::Refused(HttpStatus::UNAVAILABLE)));
    simulation.conclude();
}

#[test]
fn who_comes_at_the_end_of_a_run_is_not_counted() {
    let simulation = Simulation::new(0, 100);
    simulation.join(0, "one", true).unwrap();
    simulation.join(1, "one", true).unwrap();
    simulation.settle();
    let (worker, only) = process(&simulation);
    simulation.exit(worker, &only, true);
    // Before this worker has looked at what happened to the program.
    assert_eq!(simulation.join(1, "one", false).err(), Some(JoinError::Ended));
    let late = simulation.join(0, "one", false).unwrap();
    simulation.settle();
    let (_, next) = process(&simulation);
    simulation.part(0, late);
    assert!(next.is_stopping.get(), "no worker has clients");
    simulation.conclude();
}

#[test]
fn who_reads_on_does_not_disturb_the_next_program() {
    let simulation = Simulation::new(0, 100);
    let client = simulation.join(0, "one", false).unwrap();
    simulation.settle();
    let (worker, only) = process(&simulation);
    simulation.exit(worker, &only, true);
    assert!(simulation.client(0, client).end.borrow().is_some());
    // Nobody has clients of the program: the zone forgets it, and then its place has another one of the same channel.
    simulation.tick(0);
    simulation.join(0, "one", false).unwrap();
    simulation.settle();
    let (_, next) = process(&simulation);
    simulation.tick(0);
    simulation.settle();
    assert!(!next.is_stopping.get());
    assert!(Rc::ptr_eq(&process(&simulation).1, &next));
    simulation.conclude();
}

#[test]
fn clients_of_all_workers_are_told_how_it_ended() {
    let simulation = Simulation::new(0, 100);
    let clients = [1, 2].map(|worker| simulation.join(worker, "one", false).unwrap());
    simulation.settle();
    let (worker, only) = process(&simulation);
    simulation.exit(worker, &only, true);
    assert!(matches!(simulation.client(1, clients[0]).end.take(), Some(State::Ended(_))));
    let other = simulation.client(2, clients[1]);
    assert_eq!(other.end.take(), None);
    simulation.turn(2);
    assert!(matches!(&*other.end.borrow(), Some(State::Ended(end)) if end.status == Some(ExitStatus::Code(0))));
    *simulation.client(1, clients[0]).end.borrow_mut() = other.state();
    simulation.conclude();
}

#[test]
fn a_program_outlives_its_clients_as_long_as_it_may() {
    let simulation = Simulation::new(5_000, 100);
    let client = simulation.join(0, "one", false).unwrap();
    simulation.settle();
    let (_, only) = process(&simulation);
    simulation.part(0, client);
    simulation.pass(4_999);
    assert!(!only.is_stopping.get());
    // A client that comes in time finds it running, and its time begins anew when that goes.
    let client = simulation.join(0, "one", false).unwrap();
    simulation.part(0, client);
    simulation.pass(4_999);
    assert!(!only.is_stopping.get());
    simulation.pass(1);
    assert!(only.is_stopping.get());
    simulation.conclude();
}

#[test]
fn what_the_last_client_has_sent_is_read_before_the_end() {
    let simulation = Simulation::new(0, 100);
    let client = simulation.join(0, "one", false).unwrap();
    simulation.settle();
    let (_, only) = process(&simulation);
    only.reads.set(false);
    simulation.client(0, client).say(7);
    simulation.part(0, client);
    simulation.pass(100);
    assert!(!only.is_stopping.get());
    only.reads.set(true);
    simulation.pass(20);
    assert!(only.is_stopping.get());
    simulation.conclude();
}

#[test]
fn a_program_that_never_reads_is_not_waited_for_without_end() {
    let simulation = Simulation::new(0, 100);
    let client = simulation.join(0, "one", false).unwrap();
    simulation.settle();
    let (_, only) = process(&simulation);
    only.reads.set(false);
    simulation.client(0, client).say(7);
    simulation.part(0, client);
    for _ in 0..100 {
        simulation.pass(20);
    }
    assert!(only.is_stopping.get());
    // A client that comes now gets a process of its own, which reads what was left.
    simulation.join(0, "one", false).unwrap();
    simulation.conclude();
}

#[test]
fn who_sends_too_much_is_woken_when_there_is_room() {
    let simulation = Simulation::new(0, 24);
    let clients = [0, 2].map(|worker| simulation.join(worker, "one", false).unwrap());
    simulation.settle();
    let (_, only) = process(&simulation);
    only.reads.set(false);
    let client = simulation.client(2, clients[1]);
    for number in 100..110 {
        client.say(number);
    }
    assert!(!client.is_through());
    simulation.settle();
    assert!(client.is_through());
    simulation.conclude();
}

#[test]
fn a_worker_that_leaves_hands_its_programs_over() {
    let simulation = Simulation::new(5_000, 100);
    let clients = [0, 1].map(|worker| simulation.join(worker, "one", false).unwrap());
    simulation.settle();
    simulation.leave(0);
    simulation.tick(0);
    simulation.settle();
    let (worker, only) = process(&simulation);
    assert_eq!(worker, 1);
    let running = Some(State::Running(only.pid.get().unwrap()));
    for (worker, client) in clients.into_iter().enumerate() {
        assert_eq!(simulation.client(worker, client).state(), running, "its clients notice nothing");
    }
    simulation.conclude();
}

#[test]
fn a_worker_that_leaves_starts_nothing_that_others_can_run() {
    let simulation = Simulation::new(0, 100);
    simulation.leave(0);
    // A client of a connection that was there before.
    let late = simulation.join(0, "one", false).unwrap();
    simulation.settle();
    simulation.join(1, "one", false).unwrap();
    simulation.settle();
    let (worker, only) = process(&simulation);
    assert_eq!(worker, 1);
    assert_eq!(simulation.client(0, late).state(), Some(State::Running(only.pid.get().unwrap())));
    simulation.conclude();
}

#[test]
fn a_channel_of_the_same_name_leaves_nothing_of_the_one_before() {
    let simulation = Simulation::new(0, 100);
    simulation.join(0, "one", false).unwrap();
    let (_, only) = process(&simulation);
    simulation.delete("one");
    // Before this worker has looked at what happened to the channel.
    simulation.join(0, "one", false).unwrap();
    assert!(only.is_stopping.get());
    simulation.conclude();
}

#[test]
fn the_programs_of_a_worker_that_was_killed_are_started_again() {
    let mut simulation = Simulation::new(0, 100);
    let _ = simulation.join(0, "one", false).unwrap();
    let client = simulation.join(1, "one", false).unwrap();
    simulation.settle();
    let alone = process(&simulation).1.pid.get();
    simulation.end_worker(0, true);
    assert!(simulation.processes().is_empty());
    simulation.tick(0);
    simulation.settle();
    let (worker, only) = process(&simulation);
    assert_eq!(worker, 0, "the second worker is the first one now");
    assert_ne!(only.pid.get(), alone);
    assert_eq!(simulation.client(0, client).state(), Some(State::Running(only.pid.get().unwrap())));
    simulation.conclude();
}

#[test]
fn a_channel_that_is_deleted_takes_its_program_along() {
    let simulation = Simulation::new(5_000, 100);
    simulation.join(0, "one", false).unwrap();
    simulation.settle();
    let (_, only) = process(&simulation);
    simulation.delete("one");
    let late = simulation.join(1, "one", false).unwrap();
    simulation.settle();
    assert!(only.is_gone.get());
    let (worker, other) = process(&simulation);
    assert_eq!(worker, 1, "the new channel has a program of its own");
    assert_eq!(simulation.client(1, late).state(), Some(State::Running(other.pid.get().unwrap())));
    simulation.conclude();
}

#[test]
fn a_run_that_a_request_begins_is_begun_once() {
    let simulation = Simulation::new(5_000, 100);
    assert_eq!(simulation.follow(0, false), Err(JoinError::NoRun));
    let first = simulation.begin(0, false).unwrap();
    for worker in [0, 1] {
        assert_eq!(simulation.begin(worker, false), Err(JoinError::Taken));
    }
    let second = simulation.follow(1, false).unwrap();
    simulation.settle();
    let (worker, only) = process(&simulation);
    assert_eq!(worker, 0);
    let running = Some(State::Running(only.pid.get().unwrap()));
    assert_eq!((simulation.client(0, first).state(), simulation.client(1, second).state()), (running.clone(), running));
    simulation.check();
    simulation.exit(0, &only, true);
    simulation.settle();
    assert!(simulation.processes().is_empty());
    let ended = simulation.client(1, second).state();
    assert!(matches!(ended, Some(State::Ended(_))));
    // It is kept: who comes is told the same, in each worker, and nothing is started.
    for worker in [0, 1, 2] {
        let late = simulation.follow(worker, false).unwrap();
        assert_eq!(simulation.client(worker, late).state(), ended);
        assert_eq!(simulation.begin(worker, false), Err(JoinError::Taken));
    }
    simulation.settle();
    simulation.pass(5_000);
    assert_eq!(simulation.follow(2, false), Err(JoinError::NoRun));
    // Clients that have still to read what the first run said are none of the second one.
    let third = simulation.begin(1, false).unwrap();
    simulation.settle();
    assert!(matches!(simulation.client(1, third).state(), Some(State::Running(_))));
    assert_eq!(simulation.client(1, second).state(), ended);
    simulation.conclude();
}

#[test]
fn a_run_that_ends_while_it_is_looked_for_is_found() {
    let simulation = Simulation::new(5_000, 100);
    let _ = simulation.begin(0, false).unwrap();
    simulation.settle();
    simulation.end_after_next_look(0);
    let late = simulation.follow(1, false).unwrap();
    assert!(matches!(simulation.client(1, late).state(), Some(State::Ended(_))), "it is kept");
    simulation.settle();
    assert!(simulation.has_run());
}

#[test]
fn who_has_not_heard_of_the_end_hears_of_it_when_the_next_run_begins() {
    let simulation = Simulation::new(0, 100);
    let _ = simulation.begin(0, false).unwrap();
    let first = simulation.follow(1, false).unwrap();
    simulation.settle();
    let (_, only) = process(&simulation);
    simulation.exit(0, &only, true);
    let next = simulation.begin(1, false).unwrap();
    let Some(State::Ended(end)) = simulation.client(1, first).state() else { panic!("the first run goes on") };
    assert_ne!(end, RunEnd::missing(), "it is told how");
    simulation.settle();
    assert!(matches!(simulation.client(1, next).state(), Some(State::Running(_))));
    simulation.conclude();
}

#[test]
fn a_run_without_clients_is_given_up_after_a_while() {
    let simulation = Simulation::new(5_000, 100);
    let client = simulation.begin(0, false).unwrap();
    simulation.settle();
    let (_, only) = process(&simulation);
    simulation.part(0, client);
    simulation.pass(4_000);
    let back = simulation.follow(1, false).unwrap();
    simulation.settle();
    simulation.part(1, back);
    simulation.settle();
    simulation.pass(4_000);
    assert!(!only.is_stopping.get());
    simulation.pass(1_000);
    assert!(only.is_stopping.get());
    assert_eq!(simulation.follow(1, false), Err(JoinError::NoRun), "it is being stopped");
    assert_eq!(simulation.begin(1, false), Err(JoinError::Taken), "one at a time");
    simulation.settle();
    assert!(!simulation.has_run(), "nothing is kept");
    simulation.begin(1, false).unwrap();
    simulation.conclude();
}

#[test]
fn a_run_that_does_not_start_is_not_kept() {
    let simulation = Simulation::new(5_000, 100);
    simulation.refuse(0);
    assert_eq!(simulation.begin(0, false), Err(JoinError::Refused(HttpStatus::UNAVAILABLE)));
    assert_eq!(simulation.follow(0, false), Err(JoinError::NoRun));
    let client = simulation.begin(0, false).unwrap();
    let other = simulation.follow(1, false).unwrap();
    let (worker, only) = process(&simulation);
    simulation.fail(worker, &only, &RunEnd::refused(false));
    simulation.settle();
    let refused = Some(State::Refused(HttpStatus::INTERNAL));
    assert_eq!((simulation.client(0, client).state(), simulation.client(1, other).state()), (refused.clone(), refused));
    assert!(!simulation.has_run());
    simulation.conclude();
}

#[test]
fn a_run_whose_worker_was_killed_has_ended() {
    let mut simulation = Simulation::new(5_000, 100);
    let _ = simulation.begin(0, false).unwrap();
    let clients = [1, 2].map(|worker| simulation.follow(worker, false).unwrap());
    simulation.settle();
    simulation.end_worker(0, true);
    simulation.tick(0);
    simulation.settle();
    assert!(simulation.processes().is_empty(), "nobody begins it again");
    for (worker, client) in clients.into_iter().enumerate() {
        assert_eq!(simulation.client(worker, client).state(), Some(State::Ended(RunEnd::lost())));
    }
    assert!(simulation.has_run(), "what it has said is kept");
    simulation.conclude();
}

#[test]
fn a_worker_that_leaves_stays_for_a_run() {
    let simulation = Simulation::new(5_000, 100);
    let client = simulation.begin(0, false).unwrap();
    simulation.settle();
    let (_, only) = process(&simulation);
    simulation.leave(0);
    let other = simulation.follow(1, false).unwrap();
    simulation.tick(0);
    simulation.settle();
    simulation.part(0, client);
    simulation.part(1, other);
    simulation.settle();
    assert!(!only.is_stopping.get(), "not before it has had no clients for a while");
    simulation.pass(5_000);
    assert!(only.is_stopping.get());
    simulation.conclude();
}
