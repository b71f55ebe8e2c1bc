// SPDX-License-Identifier: Apache-2.0

//! From the request to the running program: a process that runs in the spawner's memory until it executes the program,
//! so that nothing is copied, however much memory the worker had when the spawner was made.
//!
//! The spawner goes on meanwhile: whatever the new process has to do with a file system may take for ever, and other
//! programs are to be started and ended all the same. So the two share memory and run at the same time, and these rules
//! make that safe: what the new process reads stays as it is until it has left the memory, it writes nothing but its own
//! stack, and it uses nothing of the C library that could.
//!
//! It answers by a pipe that is closed when it executes the program or ends. In both cases the kernel leaves the memory
//! before it closes the descriptors, so that the end of the pipe is also the end of the plan's use.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::limits::Limit;
use super::search::{self, Candidate};
use super::sys::{self, raw};
use super::wire;
use super::{Failure, StartStep};
use crate::exec::notes;

/// Octets of the stack on which the new process runs before it executes the program.
const STACK: usize = 64 * 1024;
/// Octets below it that may not be touched; a multiple of every page size.
const GUARD: usize = 64 * 1024;
/// Stacks that are kept for the next programs.
const KEPT_STACKS: usize = 4;

/// Starts programs.
pub(super) struct Launcher {
    memory: Memory,
    stacks: Vec<Stack>,
    /// The spawner, and its descriptors that no program may hold open, not even before it executes.
    spawner: c_int,
    private: [RawFd; 2],
}

/// What the new process runs in until it executes the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// The spawner's own.
    Shared,
    /// A copy of it, as fork(2) makes it: where [`raw`] needs `errno`, and under valgrind, which knows clone(2) only in
    /// the forms of fork, vfork and threads.
    Copied,
}

impl Memory {
    fn of_this_machine() -> Self {
        let traced =
            || std::fs::read("/proc/self/maps").is_ok_and(|maps| memchr::memmem::find(&maps, b"/vgpreload_").is_some());
        if raw::LEAVES_ERRNO && !traced() { Self::Shared } else { Self::Copied }
    }
}

/// A program that is being started.
pub(super) struct Starting {
    /// Its process.
    pub(super) pid: i32,
    answer: OwnedFd,
    failure: Option<Failure>,
    /// What the process uses. Invariant: neither changes nor is freed before [`Starting::outcome`] has told an outcome.
    _plan: Box<Plan>,
    stack: Option<Stack>,
}

/// What has been opened for a program.
pub(super) struct Opened {
    /// Its descriptors 0, 1 and 2, which have any numbers yet.
    pub(super) stdio: [OwnedFd; 3],
    /// Its descriptor [`notes::DESCRIPTOR`], likewise.
    pub(super) notes: Option<OwnedFd>,
    /// The directory that it is started from.
    pub(super) directory: Option<OwnedFd>,
}

/// What has become of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartOutcome {
    /// The program runs, or has been killed on the way.
    Running,
    /// The process has ended, or is about to.
    Failed(Failure),
}

impl Launcher {
    /// For the calling process, whose descriptors `private` are closed in the new processes first of all.
    pub(super) fn new(private: [BorrowedFd<'_>; 2]) -> Self {
        Self {
            memory: Memory::of_this_machine(),
            stacks: Vec::new(),
            spawner: std::process::id() as c_int,
            private: private.map(|descriptor| descriptor.as_raw_fd()),
        }
    }

    /// Begins to start a program with what has been opened for it. `mark` is what it and its descendants are known by.
    pub(super) fn launch(
        &mut self,
        description: Vec<u8>,
        opened: Opened,
        mark: Option<u64>,
    ) -> Result<Starting, Failure> {
        let failure = |stage, errno| Failure { stage, errno };
        let invalid = || failure(StartStep::Request, libc::EINVAL);
        let exhausted = |error: io::Error| failure(StartStep::Fork, error.raw_os_error().unwrap_or(libc::ENOMEM));
        let start = wire::read_start(&description).ok_or_else(invalid)?;
        let (answer, reply) = sys::pipe().map_err(exhausted)?;
        // The new process puts the program's descriptors where it expects them, which may not close one that it needs itself.
        let out_of_the_way = |descriptor| sys::move_above(notes::DESCRIPTOR, descriptor).map_err(exhausted);
        let reply = out_of_the_way(reply)?;
        let [input, output, errors] = opened.stdio;
        let stdio = [out_of_the_way(input)?, out_of_the_way(output)?, out_of_the_way(errors)?];
        let notes = opened.notes.map(out_of_the_way).transpose()?;
        let opened = opened.directory.map(out_of_the_way).transpose()?;
        let candidates = match opened {
            // Not the bare name, which an interpreter might look for elsewhere.
            Some(_) => {
                let file = CString::new([b"./", start.path].concat()).map_err(|_| invalid())?;
                vec![Candidate { file, directory: CString::default() }]
            }
            None => {
                search::candidates(start.path, start.environment).map_err(|errno| failure(StartStep::Search, errno))?
            }
        };
        let directory = match (start.directory, &opened) {
            (_, Some(directory)) => Directory::Opened(directory.as_raw_fd()),
            (Some(directory), None) => Directory::Path(CString::new(directory).map_err(|_| invalid())?),
            (None, None) => Directory::OfProgram,
        };
        let searched = !start.path.contains(&b'/') && opened.is_none();
        let arguments = pointers(start.arguments).ok_or_else(invalid)?;
        let environment = pointers(start.environment).ok_or_else(invalid)?;
        let (limits, terminal) = (start.limits.clone(), start.terminal);
        let plan = Box::new(Plan {
            candidates,
            searched,
            arguments,
            environment,
            // The pointers point into its buffer, which stays where it is.
            _description: description,
            directory,
            limits,
            mark,
            stdio: [stdio[0].as_raw_fd(), stdio[1].as_raw_fd(), stdio[2].as_raw_fd()],
            notes: notes.as_ref().map(AsRawFd::as_raw_fd),
            terminal,
            reply: reply.as_raw_fd(),
            spawner: self.spawner,
            private: self.private,
        });
        let (pid, stack) = match self.memory {
            Memory::Shared => {
                let stack = match self.stacks.pop() {
                    Some(stack) => stack,
                    None => Stack::new().map_err(exhausted)?,
                };
                let flags = libc::CLONE_VM | libc::SIGCHLD;
                // SAFETY: nobody else uses the stack, as the process that did has left this memory. `enter` gets the plan
                // that it expects; plan and stack live, unchanged, until `outcome` sees that the process is out.
                let pid = unsafe { libc::clone(enter, stack.top(), flags, (&raw const *plan).cast_mut().cast()) };
                (pid, Some(stack))
            }
            Memory::Copied => {
                // SAFETY: the spawner has one thread. The child goes on in `enter` and does not return from it.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    enter((&raw const *plan).cast_mut().cast());
                }
                (pid, None)
            }
        };
        if pid == -1 {
            let error = io::Error::last_os_error();
            self.stacks.extend(stack);
            return Err(exhausted(error));
        }
        // The new process has its own copies of the descriptors. Ours of `reply` would hide the end of the pipe.
        drop((stdio, notes, opened, reply));
        Ok(Starting { pid, answer, failure: None, _plan: plan, stack })
    }

    /// Takes back what a start has used, of which an outcome has been told.
    pub(super) fn put_away(&mut self, starting: Starting) {
        if self.stacks.len() < KEPT_STACKS {
            self.stacks.extend(starting.stack);
        }
    }
}

impl Starting {
    /// Readable when something has become of it.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }

    /// What has become of it; `None` if nothing yet.
    pub(super) fn outcome(&mut self) -> Option<StartOutcome> {
        let mut octets = [0; 8];
        loop {
            match sys::read(self.answer.as_fd(), &mut octets) {
                Ok(0) => return Some(self.failure.map_or(StartOutcome::Running, StartOutcome::Failed)),
                Ok(count) => self.failure = octets.get(..count).and_then(wire::read_failure).or(self.failure),
                Err(_) => return None,
            }
        }
    }
}

/// Memory for the stack of a new process, unmapped on drop.
struct Stack {
    /// The lowest address of guard and stack.
    lowest: *mut c_void,
}

impl Stack {
    fn new() -> io::Result<Self> {
        // SAFETY: without MAP_FIXED the system makes a new mapping, which replaces nothing.
        let lowest = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                GUARD + STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { lowest };
        // SAFETY: the first GUARD octets belong to the mapping that has just been made.
        sys::check(unsafe { libc::mprotect(lowest, GUARD, libc::PROT_NONE) })?;
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        // SAFETY: the place is one past the mapping, which new() has made of this size.
        unsafe { self.lowest.byte_add(GUARD + STACK) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no process runs on it any more, see `Starting`.
        unsafe { libc::munmap(self.lowest, GUARD + STACK) };
    }
}

/// Pointers to the strings of a block, with a null pointer at the end; `None` if the last one does not end with NUL.
pub(super) fn pointers(block: &[u8]) -> Option<Vec<*const c_char>> {
    let mut pointers = Vec::with_capacity(64);
    let mut rest = block;
    while !rest.is_empty() {
        let end = memchr::memchr(0, rest)?;
        pointers.push(rest.as_ptr().cast());
        rest = rest.get(end + 1..)?;
    }
    pointers.push(std::ptr::null());
    Some(pointers)
}

/// What the new process needs, prepared so that it has nothing to allocate.
struct Plan {
    candidates: Vec<Candidate>,
    /// The candidates are places to look in, and not the one program that was named.
    searched: bool,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    _description: Vec<u8>,
    directory: Directory,
    limits: Vec<Limit>,
    mark: Option<u64>,
    stdio: [c_int; 3],
    notes: Option<c_int>,
    terminal: bool,
    /// Where the answer goes if it does not come to execute the program.
    reply: c_int,
    spawner: c_int,
    private: [c_int; 2],
}

/// Where the program is going to work.
enum Directory {
    /// In the directory of its file.
    OfProgram,
    /// Somewhere; the path of the file is absolute.
    Path(CString),
    /// In its own directory, to which the path of the file is relative. No link is followed to it: what was looked at
    /// when the directory was found was a file.
    Opened(c_int),
}

/// The new process.
extern "C" fn enter(plan: *mut c_void) -> c_int {
    // SAFETY: `launch` has passed its plan, which does not change while this process uses it.
    let plan = unsafe { &*plan.cast::<Plan>().cast_const() };
    let Err(failure) = carry_out(plan);
    let octets = wire::write_failure(failure);
    call(libc::SYS_write, [plan.reply as usize, octets.as_ptr() as usize, octets.len(), 0, 0]).ok();
    // No handler of the spawner, or of the worker that it once was, runs here.
    loop {
        call(libc::SYS_exit_group, [127, 0, 0, 0, 0]).ok();
    }
}

/// A system call of the new process, which concerns nothing but itself.
fn call(number: c_long, arguments: [usize; 5]) -> Result<usize, c_int> {
    // SAFETY: called by `carry_out` and `enter` only, with pointers into the plan or to their own stack; none of the calls
    // changes memory but `statx`, which fills what it is given.
    unsafe { raw::call(number, arguments) }
}

/// Becomes the program. Returns only when a step has failed.
///
/// Nothing is done here but system calls. The dispositions of all signals are the default ones already, and all other
/// descriptors are close-on-exec.
fn carry_out(plan: &Plan) -> Result<std::convert::Infallible, Failure> {
    let at = |stage| move |errno| Failure { stage, errno };
    for descriptor in plan.private {
        // Were this process to hang, the worker would not see that the spawner has died.
        call(libc::SYS_close, [descriptor as usize, 0, 0, 0, 0]).ok();
    }
    if plan.terminal {
        call(libc::SYS_setsid, [0; 5]).map_err(at(StartStep::Session))?;
    } else {
        call(libc::SYS_setpgid, [0; 5]).map_err(at(StartStep::Session))?;
    }
    // If the spawner itself is killed, it cannot take the program down.
    call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0, 0, 0]).ok();
    if call(libc::SYS_getppid, [0; 5]) != Ok(plan.spawner as usize) {
        return Err(Failure { stage: StartStep::Fork, errno: libc::ESRCH });
    }
    for (target, &descriptor) in (0..).zip(&plan.stdio) {
        call(libc::SYS_dup3, [descriptor as usize, target, 0, 0, 0]).map_err(at(StartStep::Descriptors))?;
    }
    if let Some(descriptor) = plan.notes {
        let (from, to) = (descriptor as usize, notes::DESCRIPTOR as usize);
        call(libc::SYS_dup3, [from, to, 0, 0, 0]).map_err(at(StartStep::Descriptors))?;
    }
    if plan.terminal {
        call(libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0, 0, 0]).map_err(at(StartStep::Terminal))?;
    }
    let candidate = find(plan)?;
    let (entered, stage) = match &plan.directory {
        // What is wrong with it is wrong with the way to the file.
        Directory::OfProgram => (change_directory(&candidate.directory), StartStep::Execute),
        Directory::Path(path) => (change_directory(path), StartStep::Directory),
        Directory::Opened(descriptor) => {
            (call(libc::SYS_fchdir, [*descriptor as usize, 0, 0, 0, 0]), StartStep::Execute)
        }
    };
    entered.map_err(at(stage))?;
    for limit in &plan.limits {
        set_limit(limit.resource.number(), limit.value).map_err(at(StartStep::Limits))?;
    }
    if let Some(mark) = plan.mark {
        set_limit(libc::RLIMIT_LOCKS as c_int, mark).ok();
    }
    let nothing = [0u64; 2];
    let (how, octets_of_mask) = (libc::SIG_SETMASK as usize, 64 / 8);
    call(libc::SYS_rt_sigprocmask, [how, nothing.as_ptr() as usize, 0, octets_of_mask, 0]).ok();
    let file = candidate.file.as_ptr() as usize;
    let (arguments, environment) = (plan.arguments.as_ptr() as usize, plan.environment.as_ptr() as usize);
    let here = libc::AT_FDCWD as usize;
    let executed = match plan.directory {
        Directory::OfProgram | Directory::Path(_) => call(libc::SYS_execve, [file, arguments, environment, 0, 0]),
        Directory::Opened(_) => {
            call(libc::SYS_execveat, [here, file, arguments, environment, libc::AT_SYMLINK_NOFOLLOW as usize])
        }
    };
    let errno = executed.err().unwrap_or(libc::EINVAL);
    let is_there = || call(libc::SYS_faccessat, [here, file, libc::F_OK as usize, 0, 0]).is_ok();
    let stage = if errno == libc::ENOENT && is_there() { StartStep::Interpreter } else { StartStep::Execute };
    Err(Failure { stage, errno })
}

/// The file that is the program: the first one that can be executed.
fn find(plan: &Plan) -> Result<&Candidate, Failure> {
    let mut errno = libc::ENOENT;
    for candidate in &plan.candidates {
        if !plan.searched {
            return Ok(candidate);
        }
        if is_file(&candidate.file) {
            let arguments = [libc::AT_FDCWD as usize, candidate.file.as_ptr() as usize, libc::X_OK as usize, 0, 0];
            if call(libc::SYS_faccessat, arguments).is_ok() {
                return Ok(candidate);
            }
            errno = libc::EACCES;
        }
    }
    Err(Failure { stage: StartStep::Search, errno })
}

fn is_file(path: &CStr) -> bool {
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let (mask, to) = (libc::STATX_TYPE as usize, found.as_mut_ptr() as usize);
    let result = call(libc::SYS_statx, [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0, mask, to]);
    // SAFETY: zeros are valid for all of it, and the kernel has filled what it knows.
    result.is_ok() && u32::from(unsafe { found.assume_init() }.stx_mode) & libc::S_IFMT == libc::S_IFREG
}

fn change_directory(path: &CStr) -> Result<usize, c_int> {
    call(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0])
}

/// Sets a limit, soft and hard.
fn set_limit(resource: c_int, value: u64) -> Result<usize, c_int> {
    let limit = [value; 2];
    call(libc::SYS_prlimit64, [0, resource as usize, limit.as_ptr() as usize, 0, 0])
}
