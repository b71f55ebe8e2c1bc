// SPDX-License-Identifier: Apache-2.0

//! Any order of events, and the orders that matter most.

use proptest::prelude::*;

use super::simulation::{self, Setup, Simulation};
use super::*;
use crate::channel::fanout::OnGap;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events(script in proptest::collection::vec(any::<u8>(), 0..300)) {
        simulation::run(&script);
    }
}

fn setup(delivery: Delivery) -> Setup {
    let settings = Settings { send_limit: 1 << 16, close_timeout: 1_000, ..Settings::default() };
    Setup { delivery, settings, history: 100, room: 1 << 20, shares: false, otherwise: OnGap::Close }
}

#[test]
fn a_poll_does_not_wait() {
    let poll = Simulation::new(setup(Delivery::Poll));
    assert_eq!((poll.status(), poll.end), (Some(304), Some(SubscriberEnd::Finished)));
    poll.conclude();
    let first = Simulation::new(setup(Delivery::FirstPoll));
    assert_eq!((first.status(), first.end), (Some(200), Some(SubscriberEnd::Finished)));
    assert_eq!(first.record().messages_out.get(), 1);
    first.conclude();
}

#[test]
fn a_long_poll_waits_for_one_message() {
    let mut poll = Simulation::new(setup(Delivery::LongPoll));
    assert_eq!((poll.status(), poll.end), (None, None));
    poll.publish();
    poll.publish();
    poll.settle();
    assert_eq!((poll.status(), poll.end), (Some(200), Some(SubscriberEnd::Finished)));
    assert_eq!(poll.record().messages_out.get(), 1);
    poll.conclude();
}

#[test]
fn a_long_poll_of_a_worker_that_leaves_comes_back() {
    let mut poll = Simulation::new(setup(Delivery::LongPoll));
    poll.event(|subscriber| subscriber.on_drain(1_500));
    poll.pass(500);
    assert_eq!((poll.status(), poll.end), (Some(408), Some(SubscriberEnd::Finished)));
    poll.conclude();
}

#[test]
fn nothing_is_answered_before_the_program_runs() {
    let mut stream =
        Simulation::new(Setup { shares: true, ..setup(Delivery::Streaming(Streaming::EventSource(None))) });
    stream.publish();
    stream.settle();
    assert_eq!((stream.status(), stream.end), (None, None));
    stream.event(Subscriber::dismiss);
    assert_eq!(stream.end, Some(SubscriberEnd::TryAgain));
    stream.conclude();
}

#[test]
fn what_is_on_its_way_at_the_end_has_its_time() {
    let mut stream = Simulation::new(Setup { room: 0, ..setup(Delivery::Streaming(Streaming::Multipart("b".into()))) });
    stream.publish();
    stream.turn();
    stream.event(Subscriber::dismiss);
    assert_eq!(stream.end, None, "the client has taken nothing yet");
    stream.settle();
    assert_eq!(stream.end, Some(SubscriberEnd::Finished));
    assert!(stream.body().ends_with(b"--b--\r\n"), "the last boundary comes last");
    stream.conclude();
}
