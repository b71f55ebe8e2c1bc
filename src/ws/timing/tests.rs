// SPDX-License-Identifier: Apache-2.0

//! When a connection is looked at, and what is found to be due.

use super::*;

const SETTINGS: Settings = Settings {
    ping_interval: 30_000,
    ping_timeout: 10_000,
    idle_timeout: 0,
    close_timeout: 5_000,
    send_timeout: 60_000,
    endpoint_timeout: 60_000,
};

fn timers(settings: Settings) -> Timers {
    Timers::new(settings, 1_000)
}

#[test]
fn silent_client() {
    let mut t = timers(SETTINGS);
    assert_eq!(t.deadline(), Some(31_000));
    assert_eq!(t.expire(30_999), None);
    assert_eq!(t.expire(31_000), Some(Expiry::Ping));
    assert_eq!(t.deadline(), Some(41_000));
    assert_eq!(t.expire(41_000), Some(Expiry::PingTimeout));
}

#[test]
fn pong_or_data_keeps_the_session() {
    let mut t = timers(SETTINGS);
    assert_eq!(t.expire(31_000), Some(Expiry::Ping));
    t.on_receive(35_000);
    assert_eq!(t.expire(41_000), None);
    assert_eq!(t.deadline(), Some(65_000));
    assert_eq!(t.expire(65_000), Some(Expiry::Ping));
}

#[test]
fn zero_is_never() {
    let mut t = timers(Settings::default());
    assert_eq!((t.deadline(), t.expire(u64::MAX)), (None, None));
    t.on_blocked(2_000);
    t.on_close(2_000, false);
    assert_eq!(t.deadline(), None);
    // Pings without a timeout go on.
    let mut t = timers(Settings { ping_timeout: 0, ..SETTINGS });
    assert_eq!(t.expire(31_000), Some(Expiry::Ping));
    assert_eq!(t.deadline(), Some(61_000));
    assert_eq!(t.expire(61_000), Some(Expiry::Ping));
}

#[test]
fn a_busy_session_leaves_the_timer_alone() {
    let mut t = timers(SETTINGS);
    let mut armed = 31_000;
    assert_eq!(t.deadline(), Some(armed));
    for now in 1_001..20_000 {
        t.on_receive(now);
        t.on_message(now);
        t.on_sent(now, false);
        assert!(t.deadline() >= Some(armed));
    }
    // It fires for nothing once in the interval, and is set anew.
    assert_eq!(t.expire(armed), None);
    armed = 49_999;
    assert_eq!(t.deadline(), Some(armed));
}

#[test]
fn idle() {
    let mut t = timers(Settings { idle_timeout: 20_000, ..SETTINGS });
    assert_eq!(t.deadline(), Some(21_000));
    t.on_receive(15_000);
    assert_eq!(t.deadline(), Some(21_000), "a Pong is no message");
    t.on_message(16_000);
    assert_eq!(t.expire(21_000), None);
    assert_eq!(t.expire(36_000), Some(Expiry::Idle));
    t.on_close(36_000, false);
    assert_eq!(t.deadline(), Some(41_000));
}

#[test]
fn slow_client() {
    let mut t = timers(SETTINGS);
    assert_eq!(t.deadline(), Some(31_000));
    t.on_blocked(2_000);
    t.on_blocked(9_000);
    // No Ping is put behind what waits.
    assert_eq!(t.expire(31_000), None);
    assert_eq!(t.deadline(), Some(62_000));
    t.on_sent(50_000, true);
    assert_eq!(t.expire(62_000), None);
    assert_eq!(t.expire(109_999), None);
    assert_eq!(t.expire(110_000), Some(Expiry::SendTimeout));
    t.on_sent(110_000, false);
    assert_eq!(t.expire(110_000), Some(Expiry::Ping));
}

#[test]
fn a_ping_that_waited_gets_its_time() {
    let mut t = timers(SETTINGS);
    assert_eq!(t.expire(31_000), Some(Expiry::Ping));
    t.on_blocked(31_000);
    assert_eq!(t.expire(45_000), None);
    t.on_sent(50_000, true);
    t.on_sent(55_000, false);
    assert_eq!(t.deadline(), Some(65_000));
    assert_eq!(t.expire(65_000), Some(Expiry::PingTimeout));
}

#[test]
fn while_we_do_not_read_a_ping_that_was_taken_is_a_sign_of_life() {
    let mut t = timers(SETTINGS);
    t.on_pause();
    assert_eq!(t.expire(31_000), Some(Expiry::Ping));
    t.on_look(41_000, Look { taken: true, all: true });
    assert_eq!(t.expire(41_000), None);
    assert_eq!(t.expire(71_000), Some(Expiry::Ping));
    t.on_look(81_000, Look { taken: false, all: false });
    assert_eq!(t.expire(81_000), Some(Expiry::PingTimeout), "the client's machine has gone");
    // What was not read before is read now, and may have had the Pong.
    t.on_resume(82_000);
    t.on_resume(85_000);
    assert_eq!(t.deadline(), Some(92_000));
}

#[test]
fn a_slow_line_is_a_sign_of_life_and_a_dead_one_is_not() {
    let mut t = timers(SETTINGS);
    assert_eq!(t.expire(31_000), Some(Expiry::Ping));
    t.on_ping(31_000, true);
    for now in [41_000, 51_000, 61_000] {
        t.on_look(now, Look { taken: true, all: false });
        assert_eq!(t.expire(now), None);
    }
    // With the Ping the client has the usual time.
    t.on_look(71_000, Look { taken: true, all: true });
    assert_eq!(t.expire(71_000), None);
    t.on_look(81_000, Look { taken: true, all: true });
    assert_eq!(t.expire(81_000), Some(Expiry::PingTimeout));
    // Nothing moves: dead.
    let mut t = timers(SETTINGS);
    t.on_ping(31_000, true);
    t.on_look(41_000, Look { taken: false, all: false });
    assert_eq!(t.expire(41_000), Some(Expiry::PingTimeout));
    // A Ping that nothing was before is taken by every machine; what counts is the Pong.
    let mut t = timers(SETTINGS);
    t.on_ping(31_000, false);
    t.on_look(41_000, Look { taken: true, all: true });
    assert_eq!(t.expire(41_000), Some(Expiry::PingTimeout));
    // The send timeout and the close timeout know such signs of life as well.
    let mut t = timers(SETTINGS);
    t.on_blocked(2_000);
    t.on_look(62_000, Look { taken: true, all: false });
    assert_eq!(t.expire(62_000), None);
    t.on_close(70_000, true);
    t.on_look(75_000, Look { taken: true, all: false });
    assert_eq!(t.expire(75_000), None);
    t.on_look(80_000, Look { taken: true, all: true });
    t.on_look(84_000, Look { taken: true, all: true });
    assert_eq!(t.expire(85_000), Some(Expiry::CloseTimeout));
}

#[test]
fn an_endpoint_that_takes_nothing() {
    let mut t = timers(SETTINGS);
    t.on_endpoint(2_000, true);
    t.on_endpoint(9_000, true);
    t.on_receive(40_000);
    assert_eq!(t.deadline(), Some(62_000));
    t.on_endpoint_taken(50_000);
    assert_eq!(t.expire(62_000), None);
    t.on_receive(100_000);
    assert_eq!(t.expire(110_000), Some(Expiry::EndpointTimeout));
    t.on_endpoint(110_000, false);
    t.on_endpoint_taken(110_000);
    assert_eq!(t.expire(110_000), None);
}

#[test]
fn a_message_without_end() {
    let mut t = timers(SETTINGS);
    t.on_leaving(2_000);
    t.on_leaving(6_000);
    assert_eq!(t.expire(7_000), Some(Expiry::Leave));
    assert_eq!(t.expire(7_000), None);
}

#[test]
fn closing() {
    let mut t = timers(Settings { idle_timeout: 6_000, ..SETTINGS });
    t.on_blocked(2_000);
    t.on_close(3_000, false);
    t.on_close(4_000, false);
    t.on_drain(3_500);
    assert_eq!(t.deadline(), Some(8_000), "neither Ping nor idleness nor draining");
    t.on_sent(7_000, false);
    t.on_receive(7_500);
    assert_eq!(t.expire(8_000), None);
    assert_eq!(t.expire(12_000), Some(Expiry::CloseTimeout));
    // Without a close timeout, a blocked output still has its own.
    let mut t = timers(Settings { close_timeout: 0, ..SETTINGS });
    t.on_close(2_000, false);
    assert_eq!(t.deadline(), None);
    t.on_blocked(2_000);
    assert_eq!(t.expire(62_000), Some(Expiry::SendTimeout));
}

#[test]
fn grace_after_a_violation() {
    let mut t = timers(SETTINGS);
    t.on_violation(2_000);
    t.on_violation(2_100);
    assert_eq!(t.deadline(), Some(2_300));
    assert_eq!(t.expire(2_299), None);
    assert_eq!(t.expire(2_300), Some(Expiry::Grace));
    t.on_close(2_300, false);
    t.on_violation(2_400);
    assert_eq!(t.deadline(), Some(7_300));
}

#[test]
fn draining() {
    let mut t = timers(SETTINGS);
    t.on_drain(4_000);
    assert_eq!(t.deadline(), Some(4_000));
    assert_eq!(t.expire(4_000), Some(Expiry::Drain));
    assert_eq!(t.deadline(), Some(31_000));
    let spread: Vec<u64> = (0..4).map(|i| drain_at(100, 1_000, i, 4)).collect();
    assert_eq!(spread, [350, 600, 850, 1_100]);
    assert_eq!(drain_at(100, 1_000, 9, 4), 1_100);
    assert_eq!(drain_at(100, 0, 0, 0), 100);
    assert_eq!(drain_at(100, u64::MAX, u64::MAX, 1), u64::MAX);
}

#[test]
fn what_came_first_is_told_first() {
    let mut t = timers(Settings { idle_timeout: 5_000, ..SETTINGS });
    t.on_drain(4_000);
    assert_eq!(t.expire(100_000), Some(Expiry::Drain));
    assert_eq!(t.expire(100_000), Some(Expiry::Idle));
}

#[test]
fn late_sessions_are_spread() {
    assert_eq!(late_drain_at(5_000, 4_000, 0), 5_000, "the time is over");
    let mut times: Vec<u64> = (0..100).map(|number| late_drain_at(1_000, 2_000, number)).collect();
    times.sort_unstable();
    assert!(times[0] >= 1_000 && times[99] < 2_000);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] < 25), "evenly: {times:?}");
}
