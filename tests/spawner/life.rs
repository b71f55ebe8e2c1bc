// SPDX-License-Identifier: Apache-2.0

//! The life of the spawner itself: its relation to the worker, and what it leaves behind, which is nothing.

use std::io::{BufRead, BufReader, Write, pipe};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ngx_ws_exec::exec::spawner::{Baseline, Daemons, Failure, Ladder, ProgramId, Report, Role, Spawner, StartStep};

use crate::harness::*;

const STUBBORN: &str = "trap '' TERM HUP INT; echo ready; while :; do sleep 1000; done";

/// Runs a test of this file, which is ignored otherwise, in a process of its own.
fn in_a_process_of_its_own(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]).stdout(Stdio::piped());
    command
}

/// A worker: has a spawner and three programs, tells their numbers, and waits for its end.
#[test]
#[ignore = "run by another test"]
fn worker() {
    let mut bench = Bench::new();
    let mut call = Call::shell(STUBBORN);
    call.ladder = Ladder { term_ms: 10, kill_ms: 50, ..NEVER };
    let mut programs: Vec<_> = (0..2).map(|_| bench.start(&call)).collect();
    for (running, _) in &mut programs {
        assert_eq!(running.line(), "ready");
    }
    let (mut parent, pid) = bench.start(&Call { ladder: call.ladder, ..Call::shell("sleep 1000 & echo $!; wait") });
    let grandchild = parent.line();
    let numbers: Vec<_> = programs.iter().map(|(_, pid)| pid.to_string()).collect();
    println!("\npids {} {} {pid} {grandchild}", bench.spawner.pid().unwrap(), numbers.join(" "));
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_worker_leaves_no_program() {
    let mut worker = in_a_process_of_its_own("life::worker").spawn().unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().starts_with("pids ")).unwrap().unwrap();
    let pids: Vec<i32> = line.split_whitespace().skip(1).map(|pid| pid.parse().unwrap()).collect();
    let [spawner, programs @ ..] = pids.as_slice() else { panic!("{line}") };
    assert_eq!(programs.len(), 4);
    assert_eq!(children(*spawner).len(), 3);
    worker.kill().unwrap();
    assert_eq!(worker.wait().unwrap().signal(), Some(libc::SIGKILL));
    wait_for_end(*spawner);
    for pid in programs {
        assert!(!wait_for_end(*pid), "{pid} is left");
    }
}

/// Blocks or unblocks SIGCHLD in this thread.
fn block_child_signals(how: i32) {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: the set is initialised by the first call.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut());
    }
}

static CHILD_SIGNALS: AtomicU32 = AtomicU32::new(0);

/// A worker that would notice a child.
#[test]
#[ignore = "run by another test"]
fn watchful_worker() {
    extern "C" fn count(_: i32) {
        CHILD_SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler changes an atomic only.
    unsafe { libc::signal(libc::SIGCHLD, count as *const () as libc::sighandler_t) };
    block_child_signals(libc::SIG_UNBLOCK);
    let no_children = || {
        // SAFETY: waits for nothing, and asks for no status.
        let result = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ECHILD)));
        assert_eq!(CHILD_SIGNALS.load(Ordering::Relaxed), 0);
    };
    let mut bench = Bench::new();
    no_children();
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
    no_children();
    let pid = bench.spawner.pid().unwrap();
    drop(bench);
    wait_for_end(pid);
    no_children();
}

#[test]
fn a_worker_has_no_child() {
    let mut command = in_a_process_of_its_own("life::watchful_worker");
    // A worker has no thread that takes signals but the one that launches; the threads of the test get this mask.
    // SAFETY: what is called may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            block_child_signals(libc::SIG_BLOCK);
            Ok(())
        })
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_dropped_spawner_takes_its_programs_along() {
    let mut bench = Bench::new();
    let mut call = Call::shell(STUBBORN);
    call.ladder = Ladder { term_ms: 0, kill_ms: 20, ..NEVER };
    let (mut running, pid) = bench.start(&call);
    assert_eq!(running.line(), "ready");
    bench.finish();
    assert!(!wait_for_end(pid));
}

#[test]
fn a_killed_spawner_takes_its_programs_along() {
    let mut bench = Bench::new();
    let (mut running, pid) = bench.start(&Call::shell("trap '' TERM; sleep 1000 & echo $!; wait"));
    let grandchild = running.line().parse().unwrap();
    kill(bench.spawner.pid().unwrap(), libc::SIGKILL);
    // By the system, and before the worker has looked.
    wait_for_end(pid);
    wait_for(bench.spawner.fd(), libc::POLLIN);
    assert!(bench.spawner.receive().is_err());
    wait_for_end(grandchild);
    assert!(bench.spawner.stop(running.id, NEVER).is_err());
}

#[test]
fn signals_for_the_server_are_not_for_the_spawner() {
    let mut bench = Bench::new();
    for signal in
        [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE]
    {
        kill(bench.spawner.pid().unwrap(), signal);
    }
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
    // It has a group of its own, and no terminal, so that nothing typed on one reaches it.
    let pid = bench.spawner.pid().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // SAFETY: asks for the group of the calling process.
    assert_ne!(fields[2], unsafe { libc::getpgrp() }.to_string());
    assert_eq!(fields[4], "0");
}

#[test]
fn what_is_called_in_the_child_is_called_there() {
    let (mut reader, writer) = pipe().unwrap();
    let ours = std::process::id();
    let spawner = Spawner::launch(&Baseline::capture(), |role| {
        // Of the descriptors of the worker none is left.
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(writer.try_clone().is_err());
        // The end of the socket, in addition to the three and the one that reads the directory.
        if std::process::id() != ours && open == 5 && role == Role::Spawner {
            // SAFETY: the name is a string that ends with NUL.
            unsafe { libc::prctl(libc::PR_SET_NAME, c"renamed".as_ptr()) };
        }
    })
    .unwrap();
    let mut bench = Bench::with(spawner);
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
    assert_eq!(status(bench.spawner.pid().unwrap(), "Name"), "renamed");
    drop(bench);
    drop(writer);
    assert_eq!(std::io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
}

#[test]
fn a_panic_in_the_child_is_a_dead_spawner() {
    let mut spawner = Spawner::launch(&Baseline::capture(), |_| panic!("as the test wants it")).unwrap();
    wait_for(spawner.fd(), libc::POLLIN);
    assert!(spawner.receive().is_err());
}

#[test]
fn orphans_leave_no_zombie() {
    let mut bench = Bench::new();
    // The one in the middle ends first, so that its child becomes the spawner's. It is in another session, and stays.
    let mut call = Call::shell("setsid sh -c 'sleep 1000 & echo $!' </dev/null; wait");
    call.ladder.daemons = Daemons::Keep;
    let (mut running, _) = bench.start(&call);
    let orphan: i32 = running.line().parse().unwrap();
    bench.expect_exit(running.id, OK);
    assert_eq!(children(bench.spawner.pid().unwrap()).iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [orphan]);
    kill(orphan, libc::SIGKILL);
    wait_for_end(orphan);
    // A request later the spawner has surely seen it.
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
    assert_eq!(children(bench.spawner.pid().unwrap()), []);
}

/// A worker whose program has a child, a job in a group of its own, and daemons: with and without a parent.
#[test]
#[ignore = "run by another test"]
fn worker_with_daemons() {
    let mut bench = Bench::new();
    let script = "sleep 1000 & echo $!; setsid -f sh -c 'echo $$; exec sleep 1000'; \
                  perl -MPOSIX -e 'fork and exit; setsid; fork and exit; $| = 1; print \"$$\\n\"; sleep 1000'; \
                  setsid sh -c 'echo $$; exec sleep 1000' & wait";
    let (mut running, pid) = bench.start(&Call::shell(script));
    let pids: Vec<_> = (0..4).map(|_| running.line()).collect();
    println!("\npids {} {pid} {}", bench.spawner.pid().unwrap(), pids.join(" "));
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_worker_that_is_killed_with_its_spawner_leaves_nothing() {
    let mut worker = in_a_process_of_its_own("life::worker_with_daemons").spawn().unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().starts_with("pids ")).unwrap().unwrap();
    let pids: Vec<i32> = line.split_whitespace().skip(1).map(|pid| pid.parse().unwrap()).collect();
    let [spawner, programs @ ..] = pids.as_slice() else { panic!("{line}") };
    assert_eq!(programs.len(), 5);
    // Stopped, it cannot do anything in between.
    kill(*spawner, libc::SIGSTOP);
    worker.kill().unwrap();
    kill(*spawner, libc::SIGKILL);
    worker.wait().unwrap();
    for pid in programs {
        wait_for_end(*pid);
    }
}

#[test]
fn thousands_of_programs_leave_nothing_behind() {
    let mut bench = Bench::new();
    let call = Call::new(&["/bin/true"]);
    let missing = Call::new(&["/bin/no-such-program"]);
    let once = |bench: &mut Bench| {
        let (running, _) = bench.start(&call);
        bench.expect_exit(running.id, OK);
        bench.fail(&missing);
    };
    for _ in 0..200 {
        once(&mut bench);
    }
    let pid = bench.spawner.pid().unwrap();
    let memory = |pid| status(pid, "VmData").trim_end_matches(" kB").parse::<i64>().unwrap();
    let before = memory(pid);
    for _ in 0..1500 {
        once(&mut bench);
    }
    assert_eq!(children(pid), []);
    assert_eq!(descriptors(pid), 5);
    assert!(memory(pid) - before < 256, "{before} kB became {} kB", memory(pid));
}

#[test]
fn a_full_socket_delays_requests() {
    let mut bench = Bench::new();
    let call = Call::new(&["/bin/cat"]);
    // Stands still, as if the machine were busy.
    kill(bench.spawner.pid().unwrap(), libc::SIGSTOP);
    let mut programs: Vec<_> = (0..600).map(|_| bench.ask(&call)).collect();
    assert!(!bench.spawner.flush().unwrap(), "all of them fitted");
    bench.spawner.stop(ProgramId(600), Ladder { term_ms: 0, kill_ms: 0, ..NEVER }).unwrap();
    kill(bench.spawner.pid().unwrap(), libc::SIGCONT);
    // Each runs when it runs: no start waits for the one before it.
    let mut started: Vec<_> = Vec::new();
    let last = programs.pop().unwrap();
    let mut stopped = false;
    while started.len() < 600 || !stopped {
        match bench.report() {
            Report::Started { id, .. } => started.push(id),
            Report::Exited { id, gone: true, .. } | Report::Gone { id } if id == last.id => stopped = true,
            Report::Exited { id, .. } if id == last.id => {}
            report => panic!("{report:?}"),
        }
    }
    started.sort_unstable();
    assert!(started.iter().zip(1..).all(|(id, number)| *id == ProgramId(number)));
    for running in &mut programs {
        running.write(b"x\n");
        assert_eq!(running.line(), "x");
    }
    drop(programs);
    let mut gone = 0;
    while gone < 599 {
        match bench.report() {
            // With so many at once it is not looked for every one whether it has left something behind.
            Report::Exited { status: OK, gone: false, .. } => {}
            Report::Exited { status: OK, gone: true, .. } | Report::Gone { .. } => gone += 1,
            report => panic!("{report:?}"),
        }
    }
    assert_eq!(descriptors(bench.spawner.pid().unwrap()), 5);
}

/// A spawner for which descriptors are few.
#[test]
#[ignore = "run by another test"]
fn short_of_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure has room for the limit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let few = libc::rlimit { rlim_cur: 7, ..limit };
    // SAFETY: reads the structures.
    let baseline = unsafe {
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few);
        let baseline = Baseline::capture();
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        baseline
    };
    let mut bench = Bench::with(Spawner::launch(&baseline, |_| {}).unwrap());
    // Its own are five, so that two of the three that come find a place.
    for _ in 0..3 {
        let failure = bench.fail(&Call::new(&["/bin/true"]));
        assert_eq!(failure, Failure { stage: StartStep::Request, errno: libc::EMFILE });
        assert!(failure.is_exhaustion());
        assert_eq!(descriptors(bench.spawner.pid().unwrap()), 5);
    }
}

#[test]
fn a_shortage_of_descriptors_is_told() {
    let output = in_a_process_of_its_own("life::short_of_descriptors").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A spawner whose user may have no more processes.
#[test]
#[ignore = "run by another test"]
fn short_of_processes() {
    // The system does not hold root to the limit.
    // SAFETY: this process has nothing else to do.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        }
    }
    let mut bench = Bench::new();
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
    let pid = bench.spawner.pid().unwrap();
    let limit = |soft: u64| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure has room for the limit, and is what is read.
        unsafe {
            assert_eq!(libc::prlimit(pid, libc::RLIMIT_NPROC, std::ptr::null(), &raw mut limit), 0);
            limit.rlim_cur = soft.min(limit.rlim_max);
            assert_eq!(libc::prlimit(pid, libc::RLIMIT_NPROC, &raw const limit, std::ptr::null_mut()), 0);
        }
    };
    limit(1);
    for _ in 0..3 {
        let failure = bench.fail(&Call::new(&["/bin/true"]));
        assert_eq!(failure, Failure { stage: StartStep::Fork, errno: libc::EAGAIN });
        assert!(failure.is_exhaustion());
    }
    limit(libc::RLIM_INFINITY);
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
}

#[test]
fn a_shortage_of_processes_is_told() {
    let output = in_a_process_of_its_own("life::short_of_processes").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
