// SPDX-License-Identifier: Apache-2.0

//! Programs in a directory that has been opened.

use std::fs;
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::rc::Rc;

use ngx_ws_exec::exec::directory::{self, Execution};
use ngx_ws_exec::exec::spawner::{Failure, ProgramId, StartStep};

use crate::harness::*;

const SCRIPT: &str = "#!/bin/sh\necho \"$0 in $(pwd -P)\"; ls /proc/$$/fd | tr '\\n' ' '\n";

fn found(root: &Directory, path: &str) -> OwnedFd {
    let found = directory::resolve(root.0.as_os_str().as_bytes(), path.as_bytes(), Execution::Own).unwrap();
    assert_eq!(found.name, b"prog");
    found.directory
}

/// A directory with a program in a directory.
fn tree(name: &str) -> Directory {
    let root = Directory::new(name);
    fs::create_dir(root.0.join("sub")).unwrap();
    root.file("sub/prog", SCRIPT, 0o755);
    root
}

fn failure(bench: &mut Bench, call: &Call<'_>, directory: OwnedFd) -> Failure {
    let running = bench.ask_in(call, Some(directory));
    match bench.report() {
        ngx_ws_exec::exec::spawner::Report::Failed { id, failure } if id == running.id => failure,
        report => panic!("{report:?}"),
    }
}

#[test]
fn a_script_runs_where_it_is() {
    let mut bench = Bench::new();
    let root = tree("opened-script");
    let running = bench.ask_in(&Call::new(&["prog"]), Some(found(&root, "/sub/prog/info")));
    let expected = format!("./prog in {}\n", fs::canonicalize(root.0.join("sub")).unwrap().display());
    // A shell may keep its script open with a descriptor of its own.
    let output = bench.output_of(running);
    let (first, descriptors) = output.split_once('\n').unwrap();
    assert_eq!(format!("{first}\n"), expected);
    assert!(descriptors.starts_with("0 1 10 2 ") || descriptors.starts_with("0 1 2 "), "{descriptors}");
}

#[test]
fn a_binary_runs_where_it_is() {
    let mut bench = Bench::new();
    let root = Directory::new("opened-binary");
    fs::copy("/bin/ls", root.0.join("prog")).unwrap();
    let mut call = Call::new(&["prog", "/proc/self/fd"]);
    call.path = "prog";
    let running = bench.ask_in(&call, Some(found(&root, "/prog")));
    assert_eq!(bench.output_of(running), "0\n1\n2\n3\n");
    // With a request that goes by a file.
    let long = format!("LONG={}", "x".repeat(100_000));
    call.environment = strings(&[&long]);
    let running = bench.ask_in(&call, Some(found(&root, "/prog")));
    assert_eq!(bench.output_of(running), "0\n1\n2\n3\n");
    // With a fourth descriptor.
    let (_notes, theirs) = pipe().unwrap();
    call.notes = Some(Rc::new(theirs.into()));
    let running = bench.ask_in(&call, Some(found(&root, "/prog")));
    assert_eq!(bench.output_of(running), "0\n1\n2\n3\n4\n");
    assert_eq!(descriptors(bench.spawner.pid().unwrap()), 5);
}

#[test]
fn what_is_replaced_in_between_leads_nowhere_else() {
    let mut bench = Bench::new();
    let root = tree("opened-swap");
    let elsewhere = Directory::new("opened-elsewhere");
    let secret = elsewhere.file("prog", "#!/bin/sh\necho elsewhere\n", 0o755);
    let call = Call::new(&["prog"]);
    let opened = [(); 4].map(|()| found(&root, "/sub/prog"));
    let [first, second, third, fourth] = opened;
    // The directory, by a link to another one.
    fs::rename(root.0.join("sub"), root.0.join("old")).unwrap();
    symlink(&elsewhere.0, root.0.join("sub")).unwrap();
    let running = bench.ask_in(&call, Some(first));
    assert!(bench.output_of(running).starts_with("./prog in "));
    // The file, by a link.
    let file = root.0.join("old/prog");
    fs::remove_file(&file).unwrap();
    symlink(&secret, &file).unwrap();
    assert_eq!(failure(&mut bench, &call, second), Failure { stage: StartStep::Execute, errno: libc::ELOOP });
    fs::remove_file(&file).unwrap();
    assert_eq!(failure(&mut bench, &call, third), Failure { stage: StartStep::Execute, errno: libc::ENOENT });
    fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    assert_eq!(failure(&mut bench, &call, fourth), Failure { stage: StartStep::Execute, errno: libc::EACCES });
}

#[test]
fn an_interpreter_that_is_missing() {
    let mut bench = Bench::new();
    let root = Directory::new("opened-interpreter");
    root.file("prog", "#!/no/such/interpreter\n", 0o755);
    let failure = failure(&mut bench, &Call::new(&["prog"]), found(&root, "/prog"));
    assert_eq!(failure, Failure { stage: StartStep::Interpreter, errno: libc::ENOENT });
}

#[test]
fn another_working_directory_is_refused() {
    let mut bench = Bench::new();
    let root = tree("opened-refused");
    let mut call = Call::new(&["prog"]);
    call.directory = Some("/");
    let mut refused = |call: &Call<'_>| {
        let stdio = [(); 3].map(|()| careless_descriptor());
        let result = bench.spawner.start_in(ProgramId(1), &call.program(), stdio, found(&root, "/sub/prog"));
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    };
    refused(&call);
    refused(&Call::new(&["/bin/cat"]));
}
