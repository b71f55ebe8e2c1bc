// SPDX-License-Identifier: Apache-2.0

//! The spawner: a small process beside each worker that starts the worker's programs and ends them.
//!
//! A worker must not fork: that costs milliseconds in proportion to its memory, its SIGCHLD handler would see children
//! that it knows nothing of, and programs would outlive a worker that is killed. So [`Spawner::launch`] forks once, when
//! the worker starts, and from then on the two talk over a socket pair: the worker asks for programs and passes them
//! their descriptors, the spawner reports what has become of them. The socket is also the worker's sign of life. When its
//! other end closes, however the worker died, the spawner takes every program down and exits.
//!
//! - [`client`](Spawner): the worker's end, which never blocks;
//! - `launch`: from the worker to a process of its own; `keeper` and `account`: to one of another user;
//! - `server`: what that process does;
//! - `aside`: a process beside the worker that does something else (`websocket_record`);
//! - `search` and `child`: from a request to a running program;
//! - `groups` and `descendants`: the programs that run with all that came of them, and the ladder by which they are
//!   stopped;
//! - `wire`: the messages between the two; `wire_check`: any octets as such messages, for tests; `sys`: the system calls.
//!
//! A program leads a process group of its own, and on a terminal a session. (A session for each program would make the
//! scheduler treat it, and every wake-up on its behalf, as another user's: sched(7), "The autogroup feature".) Whatever is
//! done to it is done to everything that came of it.
//!
//! Between worker and spawner stands a third process, the *guard*, which does nothing until the spawner has ended. Then
//! all that is left of programs are its children, and it kills them: also when worker and spawner were killed together.
//!
//! For programs of another user than the worker's there is a guard and a spawner of that user. The worker cannot make
//! them; it asks the [`keeper`](Keeper), a process of root's that its master has made.

mod account;
mod aside;
mod child;
mod client;
mod descendants;
mod groups;
mod keeper;
mod launch;
mod limits;
pub(super) mod search;
mod server;
pub(super) mod sys;
mod wire;
#[cfg(any(test, fuzzing))]
pub mod wire_check;

use std::ffi::c_int;
use std::os::fd::BorrowedFd;

use super::strings::Strings;

pub use account::Account;
pub use aside::SideProcess;
pub use client::Spawner;
pub use keeper::Keeper;
pub use launch::{Baseline, Role};
pub use limits::{Limit, Resource};

/// What the worker calls a program; drawn by the worker, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub u64);

/// How a program is stopped (`websocket_exec_stop`). Both times count from when it is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// Milliseconds until it gets `signal`, and with it all that came of it; until then it may leave on its own, its stdin
    /// being closed.
    pub term_ms: u32,
    /// Milliseconds until the same get SIGKILL.
    pub kill_ms: u32,
    /// What comes first.
    pub signal: c_int,
    /// Whether its daemons are stopped, too.
    pub daemons: Daemons,
}

/// What becomes of the processes that a program has made and that have made a session of their own (setsid(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Daemons {
    /// Daemons go with the program.
    #[default]
    Stop,
    /// Daemons are left alone.
    Keep,
}

impl Ladder {
    /// SIGTERM after 100 ms, SIGKILL after 5 s, daemons too.
    pub const DEFAULT: Self = Self { term_ms: 100, kill_ms: 5000, signal: libc::SIGTERM, daemons: Daemons::Stop };
}

impl Default for Ladder {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A program to be started.
#[derive(Debug, Clone, Copy)]
pub struct ProgramDescription<'a> {
    /// The file: an absolute path, or a name without a slash, which is looked for in the absolute directories of the
    /// `PATH` in `environment`. There is no shell, also not for a text file without `#!`.
    pub path: &'a [u8],
    /// The arguments, the name of the program itself first. Must not be empty.
    pub arguments: &'a Strings,
    /// The variables, as `NAME=value`.
    pub environment: &'a Strings,
    /// The working directory, an absolute path; without one it is the directory that the program is in.
    pub directory: Option<&'a [u8]>,
    /// Resource limits, soft and hard.
    pub limits: &'a [Limit],
    /// How it is stopped when nobody is left to say so: the worker has died, or it has left processes behind.
    pub ladder: Ladder,
    /// Its stdin is a terminal, which becomes the controlling terminal of its session.
    ///
    /// For a terminal that the spawner makes there is [`Spawner::start_on_terminal`].
    pub terminal: bool,
    /// What becomes its descriptor [`notes::DESCRIPTOR`](super::notes::DESCRIPTOR), if that is to be open.
    pub notes: Option<BorrowedFd<'a>>,
}

/// What the spawner says about a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The program itself runs, not merely a process that is going to become it.
    Started {
        /// The program that has started.
        id: ProgramId,
        /// Its process, which is also its group.
        pid: i32,
    },
    /// The program could not be started. Nothing of it is left, and nothing more is said about it.
    Failed {
        /// The program that was not started.
        id: ProgramId,
        /// Why the program was not started.
        failure: Failure,
    },
    /// The program has ended. What it wrote is in its pipes in full.
    Exited {
        /// The program that has ended.
        id: ProgramId,
        /// How the program has ended.
        status: ExitStatus,
        /// No process of its group is left, and nothing more is said about it. Otherwise what is left is taken down by
        /// the ladder, which may take time, and [`Report::Gone`] follows.
        gone: bool,
    },
    /// The last process of the group of a program that had exited before is gone.
    Gone {
        /// The program of whose group nothing is left.
        id: ProgramId,
    },
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// The program exited with this status.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

impl std::fmt::Display for ExitStatus {
    /// `exit 3` or `signal 9`: the reason of the Close frame.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// Why a program could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What was being done.
    pub stage: StartStep,
    /// The error of the system.
    pub errno: c_int,
}

/// A step on the way to a running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartStep {
    /// Passing the request and the descriptors to the spawner.
    Request,
    /// Looking for the program in `PATH`.
    Search,
    /// Making a process.
    Fork,
    /// Giving it a process group, or a session, of its own.
    Session,
    /// Placing its descriptors.
    Descriptors,
    /// Making its stdin the controlling terminal.
    Terminal,
    /// Entering the working directory.
    Directory,
    /// Setting the resource limits.
    Limits,
    /// Executing the program.
    Execute,
    /// Executing the program: the file is there, but the interpreter or the loader that it names is not.
    Interpreter,
    /// Becoming the user that the spawner is for.
    User,
}

impl Failure {
    /// Whether the machine or a limit is exhausted rather than the configuration wrong: 503, not 500.
    pub const fn is_exhaustion(self) -> bool {
        is_exhaustion(self.errno)
    }
}

/// Whether an error of the system says that something is short which may be there again soon: processes, memory,
/// descriptors, descriptors on their way between processes, terminals.
pub const fn is_exhaustion(errno: c_int) -> bool {
    matches!(
        errno,
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ETOOMANYREFS | libc::ENOSPC
    )
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.stage {
            StartStep::Request => "passing the request to the spawner failed",
            StartStep::Search if self.errno == libc::EACCES => "what is found in PATH cannot be executed",
            StartStep::Search => "not found in PATH",
            StartStep::Fork => "making a process failed",
            StartStep::Session => "making a process group failed",
            StartStep::Descriptors => "placing the descriptors failed",
            StartStep::Terminal => "setting the controlling terminal failed",
            StartStep::Directory => "entering the working directory failed",
            StartStep::Limits => "setting the resource limits failed",
            StartStep::Execute => "executing it failed",
            StartStep::Interpreter => "executing it failed, its interpreter is missing",
            StartStep::User => "changing to its user failed",
        })?;
        write!(f, " ({})", std::io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for Failure {}
