//! The loads against the bare servers: what is right passes, what is wrong is found.

#![allow(clippy::unwrap_used)]

use std::io;
use std::process::Command;
use std::time::Duration;

use ngx_ws_exec_bench::connect::{self, Until};
use ngx_ws_exec_bench::echo::{Clients, Outcome, Plan};
use ngx_ws_exec_bench::fanout::{self, Fanout};
use ngx_ws_exec_bench::link;
use ngx_ws_exec_bench::payload::Messages;
use ngx_ws_exec_bench::process::{Server, free_address};

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
