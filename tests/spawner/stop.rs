// SPDX-License-Identifier: Apache-2.0

//! How programs are ended.

use std::io::Read;
use std::time::{Duration, Instant};

use ngx_ws_exec::exec::spawner::{ExitStatus, Ladder, Report};

use crate::harness::*;

const KILLED: ExitStatus = ExitStatus::Signal(libc::SIGKILL as u8);
const TERMINATED: ExitStatus = ExitStatus::Signal(libc::SIGTERM as u8);

/// A shell that ignores SIGTERM, and says when it does.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";

#[test]
fn a_program_that_leaves_when_its_input_ends() {
    let mut bench = Bench::new();
    let (running, _) = bench.start(&Call::new(&["/bin/cat"]));
    bench.spawner.stop(running.id, NEVER).unwrap();
    let Running { id, stdin, .. } = running;
    drop(stdin);
    bench.expect_exit(id, OK);
}

#[test]
fn a_program_that_obeys() {
    let mut bench = Bench::new();
    let (running, _) = bench.start(&Call::new(&["/bin/sleep", "1000"]));
    let begin = Instant::now();
    bench.spawner.stop(running.id, Ladder { term_ms: 30, ..NEVER }).unwrap();
    bench.expect_exit(running.id, TERMINATED);
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_program_that_ignores_sigterm() {
    let mut bench = Bench::new();
    let (mut running, _) = bench.start(&Call::shell(STUBBORN));
    assert_eq!(running.line(), "ready");
    let begin = Instant::now();
    bench.spawner.stop(running.id, Ladder { term_ms: 10, kill_ms: 100, ..NEVER }).unwrap();
    let report = bench.report();
    assert!(begin.elapsed() >= Duration::from_millis(100));
    // Its sleep may have been reaped before it or after it.
    let Report::Exited { id, status, gone } = report else { panic!("{report:?}") };
    assert_eq!((id, status), (running.id, KILLED));
    if !gone {
        assert_eq!(bench.report(), Report::Gone { id });
    }
    assert_eq!(children(bench.spawner.pid().unwrap()), []);
}

#[test]
fn a_program_that_is_stopped() {
    let mut bench = Bench::new();
    let script = "trap 'echo bye; exit 7' TERM; echo ready; kill -STOP $$; while :; do sleep 1000; done";
    let (mut running, pid) = bench.start(&Call::shell(script));
    assert_eq!(running.line(), "ready");
    while status(pid, "State").starts_with(|state| state != 'T') {
        std::thread::yield_now();
    }
    bench.spawner.stop(running.id, Ladder { term_ms: 0, ..NEVER }).unwrap();
    bench.expect_exit(running.id, ExitStatus::Code(7));
    assert_eq!(running.line(), "bye");
}

#[test]
fn grandchildren_that_stay() {
    let mut bench = Bench::new();
    let mut call = Call::shell("sleep 1000 & echo $!; exit 3");
    call.ladder = Ladder { term_ms: 10, ..NEVER };
    let (mut running, _) = bench.start(&call);
    let grandchild: i32 = running.line().parse().unwrap();
    assert_eq!(bench.report(), Report::Exited { id: running.id, status: ExitStatus::Code(3), gone: false });
    assert_eq!(bench.report(), Report::Gone { id: running.id });
    // It held the pipe, which is at its end now.
    assert_eq!(running.stdout.read(&mut [0]).unwrap(), 0);
    assert!(!wait_for_end(grandchild), "reaped already");
    assert_eq!(children(bench.spawner.pid().unwrap()), []);
}

#[test]
fn grandchildren_that_ignore_sigterm() {
    let mut bench = Bench::new();
    let mut call = Call::shell("(trap '' TERM; echo ready; while :; do sleep 1000; done) & read go; exit 0");
    call.ladder = Ladder { term_ms: 10, kill_ms: 60, ..NEVER };
    let (mut running, _) = bench.start(&call);
    assert_eq!(running.line(), "ready");
    running.write(b"go\n");
    assert_eq!(bench.report(), Report::Exited { id: running.id, status: OK, gone: false });
    assert_eq!(bench.report(), Report::Gone { id: running.id });
    assert_eq!(running.stdout.read(&mut [0]).unwrap(), 0);
    assert_eq!(children(bench.spawner.pid().unwrap()), []);
}

#[test]
fn the_whole_group_goes_with_a_program_that_is_stopped() {
    let mut bench = Bench::new();
    let script = "(trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1000; done' & wait) & wait";
    let (mut running, pid) = bench.start(&Call::shell(script));
    let deep: i32 = running.line().parse().unwrap();
    assert_ne!(deep, pid);
    bench.spawner.stop(running.id, Ladder { term_ms: 10, kill_ms: 400, ..NEVER }).unwrap();
    assert_eq!(bench.report(), Report::Exited { id: running.id, status: TERMINATED, gone: false });
    assert_eq!(bench.report(), Report::Gone { id: running.id });
    assert!(!wait_for_end(deep));
    assert_eq!(children(bench.spawner.pid().unwrap()), []);
}

#[test]
fn a_program_that_never_reads_its_full_input() {
    let mut bench = Bench::new();
    let (mut running, _) = bench.start(&Call::shell(STUBBORN));
    assert_eq!(running.line(), "ready");
    running.write(&[0; 65536]);
    bench.spawner.stop(running.id, Ladder { term_ms: 0, kill_ms: 10, ..NEVER }).unwrap();
    let Report::Exited { status: KILLED, .. } = bench.report() else { panic!("not killed") };
}

#[test]
fn signals_reach_the_group() {
    let mut bench = Bench::new();
    let script = "trap 'echo child' USR1; (trap 'echo grandchild; exit' USR1; echo ready; while :; do sleep 0.01; done) & \
                  echo ready; wait; wait; exit 0";
    let (mut running, _) = bench.start(&Call::shell(script));
    assert_eq!([running.line(), running.line()], ["ready", "ready"]);
    bench.spawner.signal(running.id, libc::SIGUSR1).unwrap();
    let mut lines = [running.line(), running.line()];
    lines.sort();
    assert_eq!(lines, ["child", "grandchild"]);
    bench.expect_exit(running.id, OK);
    // Of a program that is gone, and of a signal that does not exist, nothing comes.
    bench.spawner.signal(running.id, libc::SIGUSR1).unwrap();
    bench.spawner.stop(running.id, NEVER).unwrap();
    let (running, _) = bench.start(&Call::new(&["/bin/cat"]));
    bench.spawner.signal(running.id, 1000).unwrap();
    drop(running.stdin);
    let Report::Exited { status: OK, .. } = bench.report() else { panic!("not ended") };
}
