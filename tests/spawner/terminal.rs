// SPDX-License-Identifier: Apache-2.0

//! Programs on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use ngx_ws_exec::exec::spawner::{Ladder, ProgramId, Report, Spawner};
use ngx_ws_exec::exec::terminal::{self, Size};

use crate::harness::*;

/// A program and our side of its terminal.
struct Console {
    terminal: File,
    pid: i32,
}

fn start(spawner: &mut Spawner, call: &Call<'_>, size: Size) -> Console {
    let (ours, stdio) = terminal::open(size)
        .unwrap_or_else(|error| panic!("no pseudo-terminals: {error} (is devpts mounted on /dev/pts?)"));
    let mut program = call.program();
    program.terminal = true;
    spawner.start(ProgramId(1), &program, stdio).unwrap();
    match report(spawner) {
        Report::Started { pid, .. } => Console { terminal: ours.into(), pid },
        report => panic!("{report:?}"),
    }
}

fn report(spawner: &mut Spawner) -> Report {
    wait_for(spawner.fd(), libc::POLLIN);
    spawner.receive().unwrap().unwrap()
}

impl Console {
    /// Reads until this has come; returns all that came.
    fn expect(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let mut buffer = [0; 1024];
        while !seen.contains(text) {
            wait_for(self.terminal.as_fd(), libc::POLLIN);
            let count = self.terminal.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {seen:?}"));
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        seen
    }

    /// Reads until the other side is closed.
    fn expect_end(&mut self) -> String {
        let mut seen = String::new();
        let mut buffer = [0; 1024];
        loop {
            wait_for(self.terminal.as_fd(), libc::POLLIN);
            match self.terminal.read(&mut buffer) {
                Ok(count) => seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EIO));
                    return seen;
                }
            }
        }
    }

    fn write(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }
}

#[test]
fn stdin_is_the_controlling_terminal() {
    let mut bench = Bench::new();
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size && stty -a | grep -o ' iutf8' && echo yes </dev/tty";
    let mut console = start(&mut bench.spawner, &Call::shell(script), Size { columns: 100, rows: 30 });
    assert_eq!(console.expect_end(), "30 100\r\n iutf8\r\nyes\r\n");
    assert_eq!(report(&mut bench.spawner), Report::Exited { id: ProgramId(1), status: OK, gone: true });
}

#[test]
fn what_is_typed_is_echoed_and_edited() {
    let mut bench = Bench::new();
    let mut console = start(&mut bench.spawner, &Call::new(&["/bin/cat"]), Size::default());
    console.write("helo\x7flo\n");
    console.expect("hello\r\n");
    // The end of the input is typed, too.
    console.write("\x04");
    assert_eq!(report(&mut bench.spawner), Report::Exited { id: ProgramId(1), status: OK, gone: true });
    console.expect_end();
}

#[test]
fn an_interrupt_is_typed() {
    let mut bench = Bench::new();
    let mut console =
        start(&mut bench.spawner, &Call::shell("trap 'echo caught; exit 4' INT; echo ready; read x"), Size::default());
    console.expect("ready");
    console.write("\x03");
    console.expect("caught");
    let Report::Exited { status, .. } = report(&mut bench.spawner) else { panic!("not ended") };
    assert_eq!(status.to_string(), "exit 4");
}

#[test]
fn a_new_size_is_told() {
    let mut bench = Bench::new();
    let script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    let mut console = start(&mut bench.spawner, &Call::shell(script), Size::default());
    console.expect("ready");
    terminal::resize(console.terminal.as_fd(), Size { columns: 132, rows: 50 }).unwrap();
    console.expect("50 132");
    let Report::Exited { status: OK, .. } = report(&mut bench.spawner) else { panic!("not ended") };
}

#[test]
fn the_end_of_the_client_is_a_hangup() {
    let mut bench = Bench::new();
    let mut console = start(&mut bench.spawner, &Call::new(&["/bin/cat"]), Size::default());
    console.write("x\n");
    console.expect("x\r\nx\r\n");
    bench.spawner.stop(ProgramId(1), NEVER).unwrap();
    drop(console);
    let Report::Exited { status, gone: true, .. } = report(&mut bench.spawner) else { panic!("not ended") };
    assert_eq!(status.to_string(), "signal 1");
}

#[test]
fn the_jobs_of_a_shell_go_with_it() {
    let mut bench = Bench::new();
    let mut call = Call::new(&["/bin/bash", "--norc", "--noprofile", "-i"]);
    call.environment = strings(&["PATH=/usr/bin:/bin", "PS1=", "HISTFILE=", "INPUTRC=/dev/null", "TERM=dumb"]);
    let mut console = start(&mut bench.spawner, &call, Size::default());
    let stop = Ladder { term_ms: 10, kill_ms: 100, ..NEVER };
    console.write("(trap '' HUP TERM; echo job=$BASHPID,; while :; do sleep 1000; done) &\n");
    let seen = loop {
        let seen = console.expect(",\r\n");
        if seen.contains("job=") && !seen.contains("job=$BASHPID,\r\n") {
            break seen;
        }
    };
    let job: i32 = seen.rsplit("job=").next().unwrap().split(',').next().unwrap().parse().unwrap();
    assert_ne!(job, console.pid);
    // SAFETY: takes a number.
    assert_eq!(unsafe { libc::getpgid(job) }, job, "the shell makes no groups");
    bench.spawner.stop(ProgramId(1), stop).unwrap();
    drop(console);
    let Report::Exited { gone: false, .. } = report(&mut bench.spawner) else { panic!("the job is not seen") };
    assert_eq!(report(&mut bench.spawner), Report::Gone { id: ProgramId(1) });
    assert!(!wait_for_end(job));
    assert_eq!(children(bench.spawner.pid().unwrap()), []);
}
