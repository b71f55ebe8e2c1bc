// SPDX-License-Identifier: Apache-2.0

//! What came of a program, wherever it has gone.

use std::io::Read;

use ngx_ws_exec::exec::spawner::{Daemons, ExitStatus, Ladder, Report};

use crate::harness::*;

/// Leaves its parent, its group and its session, as daemons do, and tells its number.
const DAEMON: &str = "perl -MPOSIX -e 'fork and exit; setsid; fork and exit; chdir \"/\"; $| = 1; \
                      print \"$$\\n\"; sleep 1000'";

/// In a session of its own, below the program.
const SESSION: &str = "setsid sh -c 'echo $$; sleep 1000; :' &";

/// A job of a shell, in a group of its own.
const JOB: &str = "bash -c 'set -m; (echo $BASHPID; sleep 1000; :) & wait' &";

const QUICK: Ladder = Ladder { term_ms: 0, kill_ms: 1000, ..NEVER };

fn started(bench: &mut Bench, script: &str, ladder: Ladder, count: usize) -> (Running, Vec<i32>) {
    let mut call = Call::shell(script);
    call.ladder = ladder;
    let (mut running, _) = bench.start(&call);
    let pids = (0..count).map(|_| running.line().parse().unwrap()).collect();
    (running, pids)
}

fn expect_gone(bench: &mut Bench, running: &Running) {
    let Report::Exited { id, gone, .. } = bench.report() else { panic!("not ended") };
    assert_eq!(id, running.id);
    if !gone {
        assert_eq!(bench.report(), Report::Gone { id });
    }
}

#[test]
fn a_program_that_is_stopped_takes_all_of_it_along() {
    let mut bench = Bench::new();
    let (mut other, others) = started(&mut bench, &format!("{DAEMON}; {SESSION} wait"), NEVER, 2);
    for script in [DAEMON, SESSION, JOB] {
        let (running, pids) = started(&mut bench, &format!("{script}\nexec sleep 1000"), NEVER, 1);
        bench.spawner.stop(running.id, QUICK).unwrap();
        expect_gone(&mut bench, &running);
        wait_for_end(pids[0]);
    }
    // What came of another program was none of its business.
    for pid in &others {
        assert!(status(*pid, "State").starts_with('S'));
    }
    bench.spawner.stop(other.id, QUICK).unwrap();
    expect_gone(&mut bench, &other);
    for pid in others {
        wait_for_end(pid);
    }
    assert_eq!(other.stdout.read(&mut [0]).unwrap(), 0);
    assert_eq!(children(bench.spawner.pid().unwrap()), []);
}

#[test]
fn a_program_that_ends_takes_all_of_it_along() {
    let mut bench = Bench::new();
    for script in [DAEMON, SESSION, JOB] {
        let (running, pids) = started(&mut bench, &format!("{script}\nread go; exit 3"), QUICK, 1);
        let mut running = running;
        running.write(b"go\n");
        assert_eq!(bench.report(), Report::Exited { id: running.id, status: ExitStatus::Code(3), gone: false });
        assert_eq!(bench.report(), Report::Gone { id: running.id });
        wait_for_end(pids[0]);
        assert_eq!(children(bench.spawner.pid().unwrap()), []);
    }
}

#[test]
fn a_daemon_that_ignores_sigterm_is_killed() {
    let mut bench = Bench::new();
    let script = DAEMON.replace("$| = 1", "$SIG{TERM} = q(IGNORE); $| = 1") + "\nexec sleep 1000";
    let (running, pids) = started(&mut bench, &script, NEVER, 1);
    bench.spawner.stop(running.id, Ladder { term_ms: 0, kill_ms: 50, ..NEVER }).unwrap();
    expect_gone(&mut bench, &running);
    wait_for_end(pids[0]);
}

#[test]
fn daemons_may_be_kept() {
    let mut bench = Bench::new();
    let keep = Ladder { daemons: Daemons::Keep, ..QUICK };
    let (running, pids) = started(&mut bench, &format!("{DAEMON}; {SESSION} {JOB} exec sleep 1000"), keep, 3);
    bench.spawner.stop(running.id, keep).unwrap();
    expect_gone(&mut bench, &running);
    // The job went; the daemons have nothing to do with the program any more. They do not hold up the spawner's end.
    let left: Vec<_> = children(bench.spawner.pid().unwrap()).into_iter().map(|(pid, _)| pid).collect();
    let daemons: Vec<_> = pids.iter().copied().filter(|pid| left.contains(pid)).collect();
    assert_eq!((left.len(), daemons.len()), (2, 2), "{pids:?} {left:?}");
    bench.finish();
    for pid in daemons {
        assert!(status(pid, "State").starts_with('S'));
        kill(pid, libc::SIGKILL);
    }
}

#[test]
fn what_a_daemon_is_known_by_is_of_no_consequence() {
    let mut bench = Bench::new();
    let one = bench.output(&Call::shell("ulimit -Hx 2>/dev/null || sed -n 's/Max file locks *//p' /proc/self/limits"));
    let other =
        bench.output(&Call::shell("ulimit -Hx 2>/dev/null || sed -n 's/Max file locks *//p' /proc/self/limits"));
    assert_ne!(one, other);
    // Far more locks than the limit would allow if it were one.
    let script = "open $f, '>', \"/tmp/ngx-ws-exec-$$\" or die; unlink \"/tmp/ngx-ws-exec-$$\"; flock $f, 2 or die; print 'locked'";
    assert_eq!(bench.output(&Call::new(&["/usr/bin/perl", "-e", script])), "locked");
}
