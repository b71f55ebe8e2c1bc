// SPDX-License-Identifier: Apache-2.0

//! What a start costs: `cargo test --release --test spawner_cost -- --ignored --nocapture`.
//!
//! Each turn starts `/bin/true` in one way and waits until it runs; the ways take turns. Beside the time on the clock
//! stands the processor time of what is not the program: this process, and the spawner.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::ffi::c_char;
use std::io::pipe;
use std::os::fd::AsRawFd;
use std::time::Instant;

use ngx_ws_exec::exec::spawner::{Baseline, Ladder, ProgramDescription, ProgramId, Report, Spawner};
use ngx_ws_exec::exec::strings::Strings;

const TURNS: u64 = 2000;

fn wait_for(spawner: &mut Spawner) -> Report {
    loop {
        if let Some(report) = spawner.receive().unwrap() {
            return report;
        }
        let mut polled = libc::pollfd { fd: spawner.fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, as is said.
        unsafe { libc::poll(&raw mut polled, 1, 10_000) };
    }
}

/// Microseconds of processor time that a process has had.
fn processor_time(pid: u32) -> u64 {
    let nanoseconds = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    nanoseconds.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1000
}

fn by_spawner(spawner: &mut Spawner, n: u64, arguments: &Strings, environment: &Strings) -> u64 {
    let id = ProgramId(n);
    let program = ProgramDescription {
        path: b"/bin/true",
        arguments,
        environment,
        directory: None,
        limits: &[],
        ladder: Ladder::default(),
        terminal: false,
        notes: None,
    };
    let [(a, _a), (_b, b), (_c, c)] = [(); 3].map(|()| pipe().unwrap());
    let begin = Instant::now();
    spawner.start(id, &program, [a.into(), b.into(), c.into()]).unwrap();
    let Report::Started { .. } = wait_for(spawner) else { panic!("not started") };
    let took = begin.elapsed().as_nanos() as u64;
    let Report::Exited { .. } = wait_for(spawner) else { panic!("not ended") };
    took
}

fn by_posix_spawn() -> u64 {
    let _pipes = [(); 3].map(|()| pipe().unwrap());
    let arguments = [c"true".as_ptr().cast_mut(), std::ptr::null_mut()];
    let environment = [c"PATH=/bin".as_ptr().cast_mut(), std::ptr::null_mut::<c_char>()];
    let begin = Instant::now();
    let mut pid = 0;
    // SAFETY: all strings end with NUL, and both lists with a null pointer.
    let result = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            c"/bin/true".as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    let took = begin.elapsed().as_nanos() as u64;
    assert_eq!(result, 0);
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    took
}

fn show(name: &str, mut times: Vec<u64>, worker: u64, spawner: u64) {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100] / 1000;
    println!(
        "{name:28} started after: median {:4} us, 99 of 100 within {:5} us; processor time a start: worker {:3} us, spawner {:3} us",
        at(50),
        at(99),
        worker / TURNS,
        spawner / TURNS,
    );
}

#[test]
#[ignore = "measures, and proves nothing"]
fn cost() {
    // What a worker may have: its pages are what makes a fork slow.
    let memory = vec![1u8; 256 << 20];
    let mut spawner = Spawner::launch(&Baseline::capture(), |_| {}).unwrap();
    while spawner.pid().is_none() {
        assert_eq!(spawner.receive().unwrap(), None);
    }
    let mut arguments = Strings::new();
    arguments.push(b"true").unwrap();
    let mut environment = Strings::new();
    for n in 0..25 {
        environment.push(format!("HTTP_X_VARIABLE_{n}=some value of usual length").as_bytes()).unwrap();
    }
    let theirs = spawner.pid().unwrap() as u32;
    // The clocks of the system are no finer than what a turn takes, so that each way is summed up over blocks.
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let mut spent = [0; 3];
    let mut n = 0;
    while n < TURNS {
        let before = processor_time(theirs);
        thread_time_of(
            || {
                for _ in 0..100 {
                    n += 1;
                    one.push(by_spawner(&mut spawner, n, &arguments, &environment));
                }
            },
            &mut spent[0],
        );
        spent[1] += processor_time(theirs) - before;
        thread_time_of(|| other.extend((0..100).map(|_| by_posix_spawn())), &mut spent[2]);
    }
    show("spawner", one, spent[0], spent[1]);
    show("posix_spawn in the worker", other, spent[2], 0);
    assert_eq!(memory.len(), 256 << 20);
}

/// Adds the microseconds of processor time that this thread takes for something.
fn thread_time_of(what: impl FnOnce(), sum: &mut u64) {
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` has room for the time.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
    };
    let before = now();
    what();
    *sum += now() - before;
}
