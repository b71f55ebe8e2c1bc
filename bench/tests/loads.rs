//! The loads against the bare servers: what is right passes, what is wrong is found.

#![allow(clippy::unwrap_used)]

use std::io;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ngx_ws_exec_bench::connect::{self, Until};
use ngx_ws_exec_bench::crowd::Crowd;
use ngx_ws_exec_bench::echo::{Clients, Outcome, Plan};
use ngx_ws_exec_bench::fanout::{self, Fanout};
use ngx_ws_exec_bench::link;
use ngx_ws_exec_bench::payload::Messages;
use ngx_ws_exec_bench::probe::Probe;
use ngx_ws_exec_bench::process::{Server, free_address};
use ngx_ws_exec_bench::publishing::{self, Form, Publishers};
use ngx_ws_exec_bench::sleeping::{Sleeping, Transport};
use ngx_ws_exec_bench::sys;

fn start(path: &str, arguments: &[&str]) -> Server {
    let address = free_address().unwrap();
    let mut command = Command::new(path);
    command.arg(address.to_string()).args(arguments);
    Server::start(command, address).unwrap()
}

fn exec(arguments: &[&str]) -> Server {
    start(env!("CARGO_BIN_EXE_bare-exec"), arguments)
}

fn plan(messages: Messages, window: u64) -> Plan<'static> {
    let duration = Duration::from_millis(50);
    Plan { path: "/", headers: "", messages, clients: 3, window, warm_up: duration, duration }
}

fn echo(server: &Server, messages: Messages, window: u64) -> io::Result<Outcome> {
    Clients::connect(&plan(messages, window), server.address)?.run(&server.own()?)
}

#[test]
fn programs_echo_in_every_format() {
    for window in [1, 64] {
        for format in ["lines", "messages"] {
            let server = exec(&[format, "/bin/cat"]);
            let outcome = echo(&server, Messages::text(100), window).unwrap();
            assert!(outcome.messages > 0 && outcome.cpu > Duration::ZERO);
            server.wait_until_alone().unwrap();
        }
        let outcome = echo(&exec(&["bytes", "/bin/cat"]), Messages::stream(65536), window).unwrap();
        assert_eq!(outcome.octets, outcome.messages * 65536);
    }
}

#[test]
fn a_changed_echo_is_found() {
    let server = exec(&["lines", "/bin/sed", "-u", "s/00000003/00000004/"]);
    assert_eq!(echo(&server, Messages::text(100), 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
    let server = exec(&["lines", "/bin/sed", "-u", "/00000003/p"]);
    assert_eq!(echo(&server, Messages::text(100), 8).unwrap_err().kind(), io::ErrorKind::InvalidData, "repeated");
    let server = exec(&["lines", "/bin/sed", "-u", "/00000003/d"]);
    assert_eq!(echo(&server, Messages::text(100), 8).unwrap_err().kind(), io::ErrorKind::InvalidData, "lost");
}

#[test]
fn greetings_are_compared() {
    let server = exec(&["lines", "/bin/echo", "hi"]);
    let once = |until| connect::once(link::source(0), server.address, "/", until);
    for _ in 0..20 {
        once(Until::Greeted(b"hi")).unwrap();
    }
    assert!(once(Until::Greeted(b"ho")).is_err());
    assert!(once(Until::Greeted(b"hi!")).is_err());
    server.wait_until_alone().unwrap();
}

#[test]
fn a_bridge_returns_what_the_service_does() {
    let service = start(env!("CARGO_BIN_EXE_echo-service"), &[]);
    let bridge = start(env!("CARGO_BIN_EXE_bare-bridge"), &[&service.address.to_string()]);
    for length in [100, 65536] {
        for window in [1, 8] {
            assert!(echo(&bridge, Messages::stream(length), window).unwrap().messages > 0);
        }
    }
    connect::once(link::source(0), bridge.address, "/", Until::Echoed(b"hello")).unwrap();
}

#[test]
fn every_subscriber_gets_every_message() {
    let server = start(env!("CARGO_BIN_EXE_bare-fanout"), &[]);
    let duration = Duration::from_millis(50);
    for (channels, subscribers, window) in [(1, 100, 1), (1, 100, 16), (20, 9, 16)] {
        let any_order = false;
        let plan = fanout::Plan { channels, subscribers, window, length: 100, any_order, warm_up: duration, duration };
        let outcome = Fanout::connect(plan, &[server.address]).unwrap().run(&server.own().unwrap(), &[]).unwrap();
        assert!(outcome.deliveries > 0 && !outcome.answers.is_empty() && !outcome.arrivals.is_empty());
    }
}

#[test]
fn a_probe_sees_a_server_that_does_nothing() {
    let server = exec(&["messages", "/bin/cat"]);
    let probe = Probe::of_session(server.address, "/").unwrap();
    thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    sys::kill(server.pid(), libc::SIGSTOP).unwrap();
    thread::sleep(Duration::from_millis(200));
    sys::kill(server.pid(), libc::SIGCONT).unwrap();
    thread::sleep(Duration::from_millis(100));
    let pause = probe.end().unwrap().pause(begun, Instant::now()).unwrap();
    assert!(pause > Duration::from_millis(150), "{pause:?}");
}

#[test]
fn a_probe_whose_server_goes_is_an_error() {
    let server = exec(&["messages", "/bin/cat"]);
    let probe = Probe::of_session(server.address, "/").unwrap();
    drop(server);
    thread::sleep(Duration::from_millis(20));
    assert!(probe.end().is_err());
}

#[test]
fn a_crowd_knows_who_is_left() {
    let server = start(env!("CARGO_BIN_EXE_bare-fanout"), &[]);
    let mut crowd = Crowd::of_sessions(20, server.address, |index| format!("/sub/c{index}")).unwrap();
    crowd.listen(Duration::from_millis(20)).unwrap();
    assert_eq!(crowd.len(), 20);
    drop(server);
    crowd.listen(Duration::from_secs(20)).unwrap();
    assert!(crowd.is_empty());
}

#[test]
fn publications_are_answered_one_by_one_and_in_flight() {
    let server = start(env!("CARGO_BIN_EXE_bare-fanout"), &[]);
    for window in [1, 8] {
        let duration = Duration::from_millis(50);
        let path = |number: u64| format!("/pub/c{}", number % 3);
        let form = Form::Http(&path);
        let plan = publishing::Plan { form, publishers: 2, window, length: 100, warm_up: duration, duration };
        let outcome = Publishers::connect(plan, server.address).unwrap().run(&server.own().unwrap()).unwrap();
        assert!(outcome.publications > 0 && outcome.cpu > Duration::ZERO);
    }
}

#[test]
fn subscribers_that_sleep_get_every_message() {
    let server = start(env!("CARGO_BIN_EXE_bare-fanout"), &[]);
    let pids = server.own().unwrap();
    let address = server.address;
    let mut sleeping = Sleeping::connect(Transport::WebSocket, 5, address, address, "c").unwrap();
    for _ in 0..3 {
        assert!(sleeping.deliver(100, &pids).unwrap() > Duration::ZERO);
    }
}
