// SPDX-License-Identifier: Apache-2.0

//! Programs on a file system that does not answer. Nobody but root can mount one: as another user these tests prove
//! nothing.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;

use ngx_ws_exec::exec::spawner::{Ladder, Report};

use crate::harness::*;

/// A file system in user space whose server never answers. When it is dropped, whoever waits for it gets an error.
struct Silence {
    place: Directory,
    _server: File,
}

impl Silence {
    fn new(name: &str) -> Option<Self> {
        let server = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let place = Directory::new(name);
        let target = CString::new(place.0.to_str().unwrap()).unwrap();
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0", server.as_raw_fd());
        let options = CString::new(options).unwrap();
        // SAFETY: all strings end with NUL.
        let result =
            unsafe { libc::mount(c"silence".as_ptr(), target.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast()) };
        (result == 0).then_some(Self { place, _server: server })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let target = CString::new(self.place.0.to_str().unwrap()).unwrap();
        // SAFETY: the string ends with NUL.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Everything else goes on while a start hangs, and the start can be given up.
fn nothing_waits_for(call: &Call<'_>) {
    let mut bench = Bench::new();
    let (mut before, _) = bench.start(&Call::new(&["/bin/cat"]));
    let hangs: Vec<_> = (0..8).map(|_| bench.ask(call)).collect();
    // Starts, ...
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
    // ... ends, ...
    before.write(b"x\n");
    assert_eq!(before.line(), "x");
    let Running { id, stdin, .. } = before;
    drop(stdin);
    bench.expect_exit(id, OK);
    // ... and stop ladders.
    let (mut stubborn, _) = bench.start(&Call::shell("trap '' TERM; echo ready; while :; do sleep 1000; done"));
    assert_eq!(stubborn.line(), "ready");
    bench.spawner.stop(stubborn.id, Ladder { term_ms: 0, kill_ms: 10, ..NEVER }).unwrap();
    let Report::Exited { id, gone, .. } = bench.report() else { panic!("not stopped") };
    assert_eq!(id, stubborn.id);
    if !gone {
        assert_eq!(bench.report(), Report::Gone { id });
    }
    for hanging in &hangs {
        bench.spawner.stop(hanging.id, Ladder { term_ms: 0, kill_ms: 0, ..NEVER }).unwrap();
    }
    let mut ended = 0;
    while ended < hangs.len() {
        match bench.report() {
            Report::Exited { gone: true, .. } | Report::Gone { .. } | Report::Failed { .. } => ended += 1,
            Report::Started { .. } | Report::Exited { gone: false, .. } => {}
        }
    }
    let pid = bench.spawner.pid().unwrap();
    assert_eq!((children(pid), descriptors(pid)), (Vec::new(), 5));
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
}

#[test]
fn the_program_is_there() {
    let Some(silence) = Silence::new("silent-program") else { return };
    nothing_waits_for(&Call::new(&[&format!("{}/program", silence.place.0.display())]));
}

#[test]
fn the_working_directory_is_there() {
    let Some(silence) = Silence::new("silent-directory") else { return };
    let directory = format!("{}/sub", silence.place.0.display());
    let mut call = Call::new(&["/bin/cat"]);
    call.directory = Some(&directory);
    nothing_waits_for(&call);
}

#[test]
fn a_directory_of_the_path_is_there() {
    let Some(silence) = Silence::new("silent-path") else { return };
    let path = format!("PATH={}:/bin", silence.place.0.display());
    let mut call = Call::new(&["cat"]);
    call.environment = strings(&[&path]);
    nothing_waits_for(&call);
}

#[test]
fn a_spawner_that_dies_meanwhile_is_missed() {
    let Some(silence) = Silence::new("silent-death") else { return };
    let mut bench = Bench::new();
    let program = format!("{}/program", silence.place.0.display());
    let _hanging = bench.ask(&Call::new(&[&program]));
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
    kill(bench.spawner.pid().unwrap(), libc::SIGKILL);
    wait_for(bench.spawner.fd(), libc::POLLIN);
    assert!(bench.spawner.receive().is_err());
}
