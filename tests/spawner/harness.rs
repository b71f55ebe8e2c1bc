// SPDX-License-Identifier: Apache-2.0

//! Starts programs through a spawner and waits for what becomes of them.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use ngx_ws_exec::exec::spawner::{
    Baseline, Daemons, ExitStatus, Failure, Ladder, Limit, ProgramDescription, ProgramId, Report, Spawner,
};
use ngx_ws_exec::exec::strings::Strings;

/// Milliseconds after which something that is waited for is not going to happen.
const PATIENCE: i32 = 20_000;

/// A ladder that ends nothing within the time of a test.
pub const NEVER: Ladder =
    Ladder { term_ms: 3_600_000, kill_ms: 3_600_000, signal: libc::SIGTERM, daemons: Daemons::Stop };

pub const OK: ExitStatus = ExitStatus::Code(0);

/// Waits for an event on a descriptor.
pub fn wait_for(descriptor: BorrowedFd<'_>, events: i16) {
    let mut polled = libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 };
    // SAFETY: one entry, as is said.
    let found = unsafe { libc::poll(&raw mut polled, 1, PATIENCE) };
    assert_eq!(found, 1, "nothing happened");
}

/// Waits until a process that is not a child has ended; true if it was there.
pub fn wait_for_end(pid: i32) -> bool {
    // SAFETY: takes two integers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return false;
    }
    // SAFETY: it has just been opened.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
    wait_for(descriptor.as_fd(), libc::POLLIN);
    true
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: takes two integers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

pub fn strings(list: &[&str]) -> Strings {
    let mut strings = Strings::new();
    for string in list {
        strings.push(string.as_bytes()).unwrap();
    }
    strings
}

/// A program as the tests describe it.
#[derive(Clone)]
pub struct Call<'a> {
    pub path: &'a str,
    pub arguments: Strings,
    pub environment: Strings,
    pub directory: Option<&'a str>,
    pub limits: Vec<Limit>,
    pub ladder: Ladder,
    /// What it writes its notes to.
    pub notes: Option<Rc<OwnedFd>>,
}

impl<'a> Call<'a> {
    pub fn new(command: &[&'a str]) -> Self {
        Self {
            path: command[0],
            arguments: strings(command),
            environment: strings(&["PATH=/usr/local/bin:/usr/bin:/bin"]),
            directory: None,
            limits: Vec::new(),
            ladder: NEVER,
            notes: None,
        }
    }

    pub fn shell(script: &'a str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    pub fn program(&self) -> ProgramDescription<'_> {
        ProgramDescription {
            path: self.path.as_bytes(),
            arguments: &self.arguments,
            environment: &self.environment,
            directory: self.directory.map(str::as_bytes),
            limits: &self.limits,
            ladder: self.ladder,
            terminal: false,
            notes: self.notes.as_ref().map(|notes| notes.as_fd()),
        }
    }
}

/// Our ends of a program's descriptors.
pub struct Running {
    pub id: ProgramId,
    pub stdin: PipeWriter,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
}

impl Running {
    /// Reads a line of stdout, without its newline.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut octet = [0];
        while self.stdout.read(&mut octet).unwrap() == 1 && octet != [b'\n'] {
            line.extend(octet);
        }
        String::from_utf8(line).unwrap()
    }

    pub fn write(&mut self, octets: &[u8]) {
        self.stdin.write_all(octets).unwrap();
    }
}

pub struct Bench {
    pub spawner: Spawner,
    last: u64,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Spawner::launch(&Baseline::capture(), |_| {}).unwrap())
    }

    pub fn with(mut spawner: Spawner) -> Self {
        while spawner.pid().is_none() {
            wait_for(spawner.fd(), libc::POLLIN);
            assert_eq!(spawner.receive().unwrap(), None);
        }
        Self { spawner, last: 0 }
    }

    /// Asks for a program.
    pub fn ask(&mut self, call: &Call<'_>) -> Running {
        self.ask_in(call, None)
    }

    /// Asks for a program in a directory that has been opened.
    pub fn ask_in(&mut self, call: &Call<'_>, directory: Option<OwnedFd>) -> Running {
        self.last += 1;
        let id = ProgramId(self.last);
        let (stdin_read, stdin) = pipe().unwrap();
        let (stdout, stdout_write) = pipe().unwrap();
        let (stderr, stderr_write) = pipe().unwrap();
        let stdio = [stdin_read.into(), stdout_write.into(), stderr_write.into()];
        match directory {
            Some(directory) => self.spawner.start_in(id, &call.program(), stdio, directory).unwrap(),
            None => self.spawner.start(id, &call.program(), stdio).unwrap(),
        }
        Running { id, stdin, stdout, stderr }
    }

    /// The next report.
    pub fn report(&mut self) -> Report {
        loop {
            if let Some(report) = self.spawner.receive().unwrap() {
                return report;
            }
            let sent = self.spawner.flush().unwrap();
            wait_for(self.spawner.fd(), if sent { libc::POLLIN } else { libc::POLLIN | libc::POLLOUT });
        }
    }

    /// Starts a program that can be started.
    pub fn start(&mut self, call: &Call<'_>) -> (Running, i32) {
        let running = self.ask(call);
        match self.report() {
            Report::Started { id, pid } if id == running.id => (running, pid),
            report => panic!("not started: {report:?}"),
        }
    }

    /// Tries to start a program that cannot be started.
    pub fn fail(&mut self, call: &Call<'_>) -> Failure {
        let mut running = self.ask(call);
        let failure = match self.report() {
            Report::Failed { id, failure } if id == running.id => failure,
            report => panic!("not failed: {report:?}"),
        };
        // Nobody holds its pipes any more, and nothing was written to them.
        assert_eq!(running.line(), "");
        failure
    }

    /// Waits for the end of a program that leaves nothing behind.
    pub fn expect_exit(&mut self, id: ProgramId, expected: ExitStatus) {
        let report = self.report();
        if report == (Report::Exited { id, status: expected, gone: false }) {
            // On a machine where looking for descendants takes long, one look may stand for several ends.
            assert_eq!(self.report(), Report::Gone { id });
        } else {
            assert_eq!(report, Report::Exited { id, status: expected, gone: true });
        }
    }

    /// Runs a program to its end; returns what it wrote to stdout.
    pub fn output(&mut self, call: &Call<'_>) -> String {
        let running = self.ask(call);
        self.output_of(running)
    }

    /// Waits for the end of a program that has been asked for; returns what it wrote to stdout.
    pub fn output_of(&mut self, running: Running) -> String {
        let Running { id, stdin, mut stdout, mut stderr } = running;
        let report = self.report();
        assert!(matches!(report, Report::Started { id: started, .. } if started == id), "{report:?}");
        drop(stdin);
        let (mut output, mut errors) = (String::new(), String::new());
        stdout.read_to_string(&mut output).unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        assert_eq!(errors, "");
        self.expect_exit(id, OK);
        output
    }

    /// Ends the spawner by closing our end, which is all that it is told, and waits for it.
    pub fn finish(mut self) {
        self.last = 0;
        let pid = self.spawner.pid().unwrap();
        drop(self);
        wait_for_end(pid);
    }
}

impl Drop for Bench {
    /// Also when a test fails, nothing of it is left running.
    fn drop(&mut self) {
        for id in 1..=self.last {
            let _ = self.spawner.stop(ProgramId(id), Ladder { term_ms: 0, kill_ms: 0, ..NEVER });
        }
    }
}

/// The processes whose parent is `parent`, zombies too.
pub fn children(parent: i32) -> Vec<(i32, char)> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process may end while we look.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let mut fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let state = fields.next().unwrap().chars().next().unwrap();
        if fields.next().unwrap().parse() == Ok(parent) {
            children.push((pid, state));
        }
    }
    children
}

/// The descriptors that a process has.
pub fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A value of /proc/PID/status.
pub fn status(pid: i32, name: &str) -> String {
    let all = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}

/// A descriptor that a careless server leaves open across exec.
pub fn careless_descriptor() -> OwnedFd {
    let file = File::open("/dev/zero").unwrap();
    // SAFETY: duplicates a descriptor, without close-on-exec.
    let descriptor = unsafe { libc::dup(file.as_raw_fd()) };
    assert!(descriptor > 2);
    // SAFETY: it has just been opened.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// A directory of its own for one test, removed afterwards.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ngx-ws-exec-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
