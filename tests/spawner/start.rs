// SPDX-License-Identifier: Apache-2.0

//! What a program finds when it starts, and why it does not start.

use std::fs;
use std::io::{Read, pipe};
use std::rc::Rc;

use ngx_ws_exec::exec::spawner::{
    Baseline, ExitStatus, Failure, Limit, ProgramId, Report, Resource, Spawner, StartStep,
};

use crate::harness::*;

#[test]
fn a_program_runs_and_ends() {
    let mut bench = Bench::new();
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi", "", "two words"])), "hi  two words\n");
    let (mut running, pid) = bench.start(&Call::new(&["/bin/cat"]));
    assert!(pid > 1);
    running.write(b"one\n");
    assert_eq!(running.line(), "one");
    let Running { id, stdin, mut stdout, .. } = running;
    drop(stdin);
    bench.expect_exit(id, OK);
    assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
    bench.finish();
}

#[test]
fn how_a_program_ends() {
    let mut bench = Bench::new();
    for (script, status) in [
        ("exit 3", ExitStatus::Code(3)),
        ("exit 255", ExitStatus::Code(255)),
        ("kill -9 $$", ExitStatus::Signal(9)),
        ("kill -SEGV $$", ExitStatus::Signal(11)),
    ] {
        let (running, _) = bench.start(&Call::shell(script));
        bench.expect_exit(running.id, status);
    }
    assert_eq!(ExitStatus::Code(3).to_string(), "exit 3");
    assert_eq!(ExitStatus::Signal(9).to_string(), "signal 9");
}

#[test]
fn what_it_wrote_before_its_end_is_there() {
    let mut bench = Bench::new();
    let (mut running, _) = bench.start(&Call::shell("echo one; read line; printf two; exit 1"));
    running.write(b"line\nnever read");
    bench.expect_exit(running.id, ExitStatus::Code(1));
    let mut output = String::new();
    running.stdout.read_to_string(&mut output).unwrap();
    assert_eq!(output, "one\ntwo");
}

#[test]
fn arguments_and_environment_are_exact() {
    let mut bench = Bench::new();
    let mut call = Call::new(&["/usr/bin/env"]);
    call.environment = strings(&["B=2", "A=with = and space ", "EMPTY="]);
    assert_eq!(bench.output(&call), "B=2\nA=with = and space \nEMPTY=\n");
    call.environment = strings(&[]);
    assert_eq!(bench.output(&call), "");
    // The name that a program is called by is an argument like the others.
    let mut call = Call::new(&["/bin/sh", "-c", "echo \"$0|$1|$2\"", "me", "*", "$HOME;"]);
    call.path = "/bin/sh";
    assert_eq!(bench.output(&call), "me|*|$HOME;\n");
}

#[test]
fn working_directories() {
    let mut bench = Bench::new();
    let here = Directory::new("cwd");
    let path = here.file("where", "#!/bin/sh\npwd -P\n", 0o755);
    let directory = here.0.to_str().unwrap();
    // The program's own directory, unless there is another one.
    assert_eq!(bench.output(&Call::new(&[&path])), format!("{directory}\n"));
    let mut call = Call::new(&[path.as_str()]);
    call.directory = Some("/");
    assert_eq!(bench.output(&call), "/\n");
    call.directory = Some("/no/such");
    assert_eq!(bench.fail(&call), Failure { stage: StartStep::Directory, errno: libc::ENOENT });
    call.directory = Some(&path);
    assert_eq!(bench.fail(&call), Failure { stage: StartStep::Directory, errno: libc::ENOTDIR });
}

#[test]
fn programs_that_cannot_be_executed() {
    let mut bench = Bench::new();
    let here = Directory::new("exec");
    let plain = here.file("plain", "#!/bin/sh\n", 0o644);
    let orphan = here.file("orphan", "#!/no/such/interpreter\n", 0o755);
    let text = here.file("text", "echo no shell reads this\n", 0o755);
    let nested = format!("{plain}/x");
    for (path, stage, errno) in [
        ("/no/such/program", StartStep::Execute, libc::ENOENT),
        ("/bin/no-such-program", StartStep::Execute, libc::ENOENT),
        (&plain, StartStep::Execute, libc::EACCES),
        ("/bin", StartStep::Execute, libc::EACCES),
        (&nested, StartStep::Execute, libc::ENOTDIR),
        (&orphan, StartStep::Interpreter, libc::ENOENT),
        (&text, StartStep::Execute, libc::ENOEXEC),
        ("no-such-program", StartStep::Search, libc::ENOENT),
    ] {
        let failure = bench.fail(&Call::new(&[path]));
        assert_eq!(failure, Failure { stage, errno }, "{path}");
        assert!(!failure.is_exhaustion());
    }
    assert_eq!(children(bench.spawner.pid().unwrap()), []);
    // The spawner is none the worse for it.
    assert_eq!(bench.output(&Call::new(&["/bin/echo", "hi"])), "hi\n");
}

#[test]
fn a_name_without_a_slash_is_looked_for() {
    let mut bench = Bench::new();
    let here = Directory::new("path");
    here.file("prog", "#!/bin/sh\necho \"$0\"\n", 0o755);
    let path = format!("PATH=/no/such:{}:/bin", here.0.display());
    let mut call = Call::new(&["prog"]);
    call.environment = strings(&["X=1", &path]);
    assert_eq!(bench.output(&call), format!("{}/prog\n", here.0.display()));
}

#[test]
fn what_is_no_program_is_refused_at_once() {
    let mut bench = Bench::new();
    let mut refused = |call: &Call<'_>| {
        let stdio = [(); 3].map(|()| careless_descriptor());
        let error = bench.spawner.start(ProgramId(9), &call.program(), stdio).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    };
    for path in ["", "./cat", "bin/cat", "/bin/\0cat"] {
        let mut call = Call::new(&["/bin/cat"]);
        call.path = path;
        refused(&call);
    }
    let mut call = Call::new(&["/bin/cat"]);
    call.directory = Some("tmp");
    refused(&call);
    let mut call = Call::new(&["/bin/cat"]);
    call.arguments = strings(&[]);
    refused(&call);
}

#[test]
fn large_environments() {
    let mut bench = Bench::new();
    // A megabyte and a half in variables that are as long as the kernel takes them.
    let value = "x".repeat(120 * 1024);
    let variables: Vec<_> = (0..13).map(|n| format!("V{n}={value}")).collect();
    let mut call = Call::new(&["/bin/cat", "/proc/self/environ"]);
    call.environment = strings(&variables.iter().map(String::as_str).collect::<Vec<_>>());
    let expected = String::from_utf8(call.environment.as_block().to_vec()).unwrap();
    assert!(bench.output(&call) == expected);
    // Small enough for a packet, and just too long for one.
    for length in [32_000, 32_500, 32_600, 32_650, 32_700, 32_768, 33_000, 65_536] {
        let variable = format!("V={}", "y".repeat(length));
        call.environment = strings(&[&variable]);
        assert_eq!(bench.output(&call), format!("{variable}\0"), "{length}");
    }
    let too_long = format!("V={}", "x".repeat(128 * 1024));
    call.environment = strings(&[&too_long]);
    assert_eq!(bench.fail(&call), Failure { stage: StartStep::Execute, errno: libc::E2BIG });
    let many: Vec<_> = (0..200).map(|n| format!("V{n}={value}")).collect();
    call.environment = strings(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(bench.fail(&call), Failure { stage: StartStep::Execute, errno: libc::E2BIG });
}

#[test]
fn descriptors_are_three() {
    let careless = careless_descriptor();
    let mut bench = Bench::new();
    // Those of ls itself, which reads the directory with a fourth.
    assert_eq!(bench.output(&Call::new(&["/bin/ls", "/proc/self/fd"])), "0\n1\n2\n3\n");
    assert_eq!(descriptors(bench.spawner.pid().unwrap()), 3 + 2);
    drop(careless);
}

#[test]
fn notes_are_a_fourth() {
    let mut bench = Bench::new();
    let length = |octets| format!("LONG={}", "x".repeat(octets));
    // By a packet, and by a file.
    for environment in [length(1), length(100_000)] {
        let (mut notes, theirs) = pipe().unwrap();
        let mut call = Call::shell("echo a note >&3; exec /bin/ls /proc/self/fd");
        call.environment = strings(&["PATH=/bin", &environment]);
        call.notes = Some(Rc::new(theirs.into()));
        assert_eq!(bench.output(&call), "0\n1\n2\n3\n4\n");
        drop(call);
        let mut said = String::new();
        notes.read_to_string(&mut said).unwrap();
        assert_eq!(said, "a note\n");
        assert_eq!(descriptors(bench.spawner.pid().unwrap()), 3 + 2);
    }
}

#[test]
fn signals_are_clean() {
    // Rust ignores SIGPIPE, as nginx does; and this thread blocks some signals and handles another.
    extern "C" fn handler(_: i32) {}
    // SAFETY: the handler does nothing; blocking concerns this thread.
    unsafe {
        libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t);
        libc::signal(libc::SIGSYS, libc::SIG_IGN);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
    let mut bench = Bench::new();
    let output = bench.output(&Call::new(&["/bin/cat", "/proc/self/status"]));
    let lines: Vec<_> = output.lines().filter(|line| line.starts_with("Sig") || line.starts_with("Shd")).collect();
    for name in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
        assert!(lines.contains(&format!("{name}:\t0000000000000000").as_str()), "{name} in {lines:?}");
    }
    assert_eq!(status(bench.spawner.pid().unwrap(), "SigCgt"), "0000000000000000");
    // Ours is as it was.
    let mut mask = std::mem::MaybeUninit::uninit();
    // SAFETY: the mask is written by the call.
    let mask = unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
        mask.assume_init()
    };
    for (signal, blocked) in [(libc::SIGTERM, 1), (libc::SIGCHLD, 1), (libc::SIGINT, 0), (libc::SIGUSR1, 0)] {
        // SAFETY: the set is initialised.
        assert_eq!(unsafe { libc::sigismember(&raw const mask, signal) }, blocked);
    }
}

#[test]
fn group_and_parent_are_its_own() {
    let mut bench = Bench::new();
    let (mut running, pid) = bench.start(&Call::new(&["/bin/cat", "/proc/self/stat"]));
    let stat = running.line();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let [parent, group, session, terminal] = [1, 2, 3, 4].map(|n| fields[n].parse::<i32>().unwrap());
    let spawner = bench.spawner.pid().unwrap();
    // SAFETY: asks for the session of a process.
    let theirs = unsafe { libc::getsid(spawner) };
    // A session of its own would make the scheduler treat it as another user's.
    assert_eq!((parent, group, session, terminal), (spawner, pid, theirs, 0));
}

#[test]
fn umask_is_never_empty() {
    // SAFETY: files that other tests make meanwhile may get more rights, which none of them looks at.
    let old = unsafe { libc::umask(0) };
    let mut bench = Bench::new();
    // SAFETY: as above.
    unsafe { libc::umask(old) };
    assert_eq!(bench.output(&Call::shell("umask")).trim(), "0022");
}

#[test]
fn what_the_server_changed_for_itself_is_taken_back() {
    let baseline = Baseline::capture();
    let mut before = 0;
    let allowed = status(std::process::id() as i32, "Cpus_allowed");
    let (spawner, changed) = std::thread::scope(|scope| {
        // Affinity belongs to the thread; descriptors and priority, too, or do not matter to the other tests.
        scope
            .spawn(|| {
                // SAFETY: the structures are initialised and have the sizes that are said.
                unsafe {
                    let mut limit = std::mem::zeroed::<libc::rlimit>();
                    libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
                    before = limit.rlim_cur;
                    limit.rlim_cur -= 1;
                    libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                    let mut set = std::mem::zeroed::<libc::cpu_set_t>();
                    libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
                    libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
                }
                let changed = fs::read_to_string("/proc/thread-self/status").unwrap();
                (Spawner::launch(&baseline, |_| {}).unwrap(), changed)
            })
            .join()
            .unwrap()
    });
    let mut bench = Bench::with(spawner);
    assert_eq!(bench.output(&Call::shell("ulimit -n")).trim(), before.to_string());
    let output = bench.output(&Call::new(&["/bin/grep", "Cpus_allowed:", "/proc/self/status"]));
    assert_eq!(output.split_whitespace().nth(1), Some(allowed.as_str()));
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert!(!changed.contains(&format!("Cpus_allowed:\t{allowed}\n")), "nothing was changed");
    }
}

#[test]
fn limits() {
    let mut bench = Bench::new();
    let limit = |resource, value| Limit { resource, value };
    let mut call = Call::new(&["/bin/cat", "/proc/self/limits"]);
    call.limits = vec![
        limit(Resource::Nofile, 12),
        limit(Resource::Cpu, 34),
        limit(Resource::As, 1 << 30),
        limit(Resource::Nproc, 5678),
        limit(Resource::Core, 0),
        limit(Resource::Fsize, 90_000),
    ];
    let output = bench.output(&call);
    for (name, value) in [
        ("Max open files", "12"),
        ("Max cpu time", "34"),
        ("Max address space", "1073741824"),
        ("Max processes", "5678"),
        ("Max core file size", "0"),
        ("Max file size", "90000"),
    ] {
        let line = output.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [value, value], "{name}");
    }
    // Not enough address space for any program.
    call.limits = vec![limit(Resource::As, 4096)];
    let running = bench.ask(&call);
    match bench.report() {
        // The kernel gives up after it has let go of the old image, so that there is nothing to come back to.
        Report::Failed { id, .. } | Report::Started { id, .. } | Report::Exited { id, .. } | Report::Gone { id } => {
            assert_eq!(id, running.id);
        }
    }
}
