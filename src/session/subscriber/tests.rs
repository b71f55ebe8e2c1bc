// SPDX-License-Identifier: Apache-2.0

//! Any order of events, and the orders that matter most.

use proptest::prelude::*;

use super::simulation::{self, Setup, Simulation};
use super::*;
use crate::channel::fanout::OnGap;
use crate::exec::spawner::ExitStatus;
use crate::session::endpoint::Ending;
use crate::session::shared::RunEnd;
use crate::ws::close::CloseCode;

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

fn impatient(room: usize) -> Simulation {
    let mut setup = setup(Delivery::Streaming(Streaming::EventSource(None)));
    setup.settings.send_timeout = 1_000;
    Simulation::new(Setup { room, ..setup })
}

#[test]
fn a_client_that_has_gone_without_a_word_leaves_in_the_system_what_it_was_sent() {
    let mut stream = impatient(1 << 20);
    stream.pass(1);
    stream.publish();
    stream.settle();
    stream.hold(5);
    stream.pass(1_000);
    assert_eq!(stream.end, None, "it had taken what came before");
    stream.pass(1_000);
    assert_eq!(stream.end, Some(SubscriberEnd::Lost));
    stream.conclude();
}

#[test]
fn a_client_that_takes_what_the_system_has_is_there() {
    let mut stream = impatient(1 << 20);
    stream.pass(1);
    stream.publish();
    stream.settle();
    for held in (0..5).rev() {
        stream.hold(held);
        stream.pass(1_000);
        assert_eq!(stream.end, None, "{held} octets");
    }
    stream.pass(1_000_000);
    assert_eq!(stream.end, None, "it has all there is");
    stream.conclude();
}

#[test]
fn a_client_that_reads_slowly_takes_what_the_system_has_first() {
    let mut stream = impatient(100);
    stream.pass(1);
    for _ in 0..5 {
        stream.publish();
    }
    while stream.turn() {}
    for held in [9, 5, 1] {
        stream.hold(held);
        stream.pass(1_000);
        assert_eq!(stream.end, None, "{held} octets");
    }
    stream.pass(1_000);
    assert_eq!(stream.end, Some(SubscriberEnd::Lost), "nothing was taken, here or in the system");
    stream.conclude();
}

#[test]
fn what_was_sent_just_before_a_look_is_given_its_time() {
    let mut stream = impatient(1 << 20);
    // Nothing is looked at in a silence: the message comes when the time since the last look is long over.
    let send_after_silence = |stream: &mut Simulation| {
        stream.pass(10_000);
        let before = stream.body().len();
        stream.publish();
        stream.settle();
        stream.hold(stream.body().len() - before);
        stream.pass(1);
        assert_eq!(stream.end, None, "it is on its way");
    };
    for _ in 0..3 {
        send_after_silence(&mut stream);
        stream.hold(0);
        stream.pass(1_000);
        assert_eq!(stream.end, None, "it has arrived");
    }
    send_after_silence(&mut stream);
    stream.pass(1_000);
    stream.pass(1_000);
    assert_eq!(stream.end, Some(SubscriberEnd::Lost), "it does not arrive");
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

/// A stream that has ended, of which the client has taken nothing yet.
fn ended_before_it_was_taken() -> Simulation {
    let mut stream = Simulation::new(Setup { room: 0, ..setup(Delivery::Streaming(Streaming::Multipart("b".into()))) });
    stream.publish();
    while stream.turn() {}
    stream.event(Subscriber::dismiss);
    assert_eq!(stream.end, None);
    stream
}

#[test]
fn who_takes_slowly_what_is_on_its_way_at_the_end_gets_all_of_it() {
    let mut stream = ended_before_it_was_taken();
    let mut rounds = 0;
    while stream.end.is_none() {
        stream.pass(900);
        stream.take(10);
        stream.turn();
        rounds += 1;
    }
    assert_eq!(stream.end, Some(SubscriberEnd::Finished));
    assert!(rounds > 2, "it took longer than the close timeout: {rounds}");
    assert!(stream.body().ends_with(b"--b--\r\n"));
    stream.conclude();
}

#[test]
fn who_takes_nothing_of_what_is_on_its_way_at_the_end_is_lost() {
    let mut stream = ended_before_it_was_taken();
    stream.pass(900);
    stream.take(10);
    stream.turn();
    stream.pass(1_000);
    assert_eq!(stream.end, None, "it has taken something since it was looked at last");
    stream.pass(999);
    assert_eq!(stream.end, None);
    stream.pass(1);
    assert_eq!(stream.end, Some(SubscriberEnd::Lost));
    stream.conclude();
}

#[test]
fn who_takes_nothing_at_the_end_is_lost_by_whichever_time_is_up_first() {
    for (send_timeout, lost_after) in [(300, 300), (0, 1_000), (5_000, 1_000)] {
        let setup = setup(Delivery::Streaming(Streaming::Multipart("b".into())));
        let settings = Settings { send_timeout, ..setup.settings };
        let mut stream = Simulation::new(Setup { room: 0, settings, ..setup });
        stream.publish();
        while stream.turn() {}
        stream.event(Subscriber::dismiss);
        stream.pass(lost_after - 1);
        assert_eq!(stream.end, None, "{send_timeout}");
        stream.pass(1);
        assert_eq!(stream.end, Some(SubscriberEnd::Lost), "{send_timeout}");
        stream.conclude();
    }
}

#[test]
fn a_request_with_nothing_to_do_keeps_a_timer_that_fires_seldom() {
    let mut poll = Simulation::new(setup(Delivery::LongPoll));
    assert_eq!((poll.end, poll.timer()), (None, Some(3_600_000)));
    poll.pass(3_600_000);
    assert_eq!((poll.end, poll.timer()), (None, Some(3_600_000)));
}

/// A subscriber that has this to do with a run, whose program is being started.
fn of_run(delivery: Delivery, run: RunPart) -> Simulation {
    let setup = setup(delivery);
    Simulation::new(Setup { shares: true, settings: Settings { run, ..setup.settings }, ..setup })
}

fn ended() -> RunEnd {
    let ending = Ending { code: CloseCode::NORMAL, reason: String::new() };
    RunEnd::of(ending, Some(ExitStatus::Code(0)))
}

#[test]
fn who_has_all_of_a_run_that_has_ended_is_told_to_stay_away() {
    let ways = [
        Delivery::Streaming(Streaming::EventSource(None)),
        Delivery::Streaming(Streaming::Chunked),
        Delivery::LongPoll,
    ];
    for delivery in ways {
        let mut late = of_run(delivery.clone(), RunPart::Follows);
        late.program(|run| run.ended(ended()));
        late.settle();
        assert_eq!((late.status(), late.end), (Some(204), Some(SubscriberEnd::Finished)), "{delivery:?}");
        late.conclude();
        let mut behind = of_run(delivery.clone(), RunPart::Follows);
        behind.publish();
        behind.program(|run| run.ended(ended()));
        behind.settle();
        assert_eq!((behind.status(), behind.end), (Some(200), Some(SubscriberEnd::Finished)), "{delivery:?}");
        assert_eq!(behind.record().messages_out.get(), 1);
        behind.conclude();
    }
    // Who has begun it is answered all the same.
    let mut begun = of_run(Delivery::Streaming(Streaming::EventSource(None)), RunPart::Begins);
    begun.program(|run| run.ended(ended()));
    begun.settle();
    assert_eq!((begun.status(), begun.end), (Some(200), Some(SubscriberEnd::Finished)));
    begun.conclude();
}

#[test]
fn a_long_poll_that_waits_for_a_program_hears_of_its_end() {
    for (run, expected) in [(RunPart::None, None), (RunPart::Follows, Some(204)), (RunPart::Begins, Some(204))] {
        let mut poll = of_run(Delivery::LongPoll, run);
        poll.program(|run| {
            run.runs(7);
        });
        poll.settle();
        assert_eq!(poll.end, None);
        poll.program(|run| run.ended(ended()));
        poll.settle();
        assert_eq!(poll.status(), expected, "{run:?}");
        assert_eq!(poll.end == Some(SubscriberEnd::TryAgain), run == RunPart::None);
        poll.conclude();
    }
}

#[test]
fn a_run_that_has_begun_is_not_asked_for_again() {
    let mut poll = of_run(Delivery::Poll, RunPart::Begins);
    poll.program(|run| {
        run.runs(7);
    });
    poll.settle();
    assert_eq!(poll.status(), Some(202), "it has been started, and nothing is there yet");
    poll.conclude();
    let mut long_poll = of_run(Delivery::LongPoll, RunPart::Begins);
    long_poll.program(|run| {
        run.runs(7);
    });
    long_poll.settle();
    long_poll.event(Subscriber::dismiss);
    assert_eq!(long_poll.status(), Some(202), "408 would be a reason to send the request again");
    long_poll.conclude();
}
