//! From the request to the running program: a process that shares the spawner's memory until it executes the program,
//! so that nothing is copied, however much memory the worker had when the spawner was made.
//!
//! The spawner stands still meanwhile (CLONE_VFORK), and with it whatever the new process could disturb.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};

use super::limits::Limit;
use super::search;
use super::sys::{self, SignalSet};
use super::wire::Start;
use super::{Failure, Stage};

/// Octets of the stack on which the new process runs before it executes the program.
const STACK: usize = 64 * 1024;
/// Octets below it that may not be touched; a multiple of every page size.
const GUARD: usize = 64 * 1024;

/// Starts programs.
pub(super) struct Launcher {
    /// The lowest address of guard and stack.
    stack: *mut c_void,
}

impl Launcher {
    pub(super) fn new() -> std::io::Result<Self> {
        // SAFETY: a new mapping disturbs nothing. It is never unmapped.
        let stack = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                GUARD + STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if stack == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the first GUARD octets belong to the mapping that has just been made.
        sys::check(unsafe { libc::mprotect(stack, GUARD, libc::PROT_NONE) })?;
        Ok(Self { stack })
    }

    /// Starts a program with these descriptors as 0, 1 and 2, which are higher ones now, and from this directory if it
    /// has been opened. Returns its process when it runs.
    pub(super) fn launch(
        &self,
        start: &Start<'_>,
        stdio: &[OwnedFd; 3],
        opened: Option<&OwnedFd>,
    ) -> Result<i32, Failure> {
        let failure = |stage, errno| Failure { stage, errno };
        let invalid = || failure(Stage::Request, libc::EINVAL);
        let file = match opened {
            // Not the bare name, which an interpreter might look for elsewhere.
            Some(_) => CString::new([b"./", start.path].concat()).map_err(|_| invalid())?,
            None => search::find(start.path, start.environment).map_err(|errno| failure(Stage::Search, errno))?,
        };
        let directory = match start.directory {
            Some(directory) => CString::new(directory).map_err(|_| invalid())?,
            None => search::directory_of(&file),
        };
        let arguments = pointers(start.arguments).ok_or_else(invalid)?;
        let environment = pointers(start.environment).ok_or_else(invalid)?;
        let mut plan = Plan {
            file: file.as_ptr(),
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            directory: match opened {
                Some(directory) => Directory::Opened(directory.as_raw_fd()),
                None => Directory::Path(directory.as_ptr()),
            },
            limits: &start.limits,
            stdio: [stdio[0].as_raw_fd(), stdio[1].as_raw_fd(), stdio[2].as_raw_fd()],
            terminal: start.terminal,
            mask: SignalSet::empty(),
            failure: None,
        };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the stack is a mapping of GUARD + STACK octets, of which no other process is using any: the last one
        // that did has executed its program or exited before this call was reached. `enter` gets the plan that it
        // expects, which lives until this process goes on, and until then nobody else looks at it.
        let pid = unsafe {
            let top = self.stack.byte_add(GUARD + STACK);
            libc::clone(enter, top, flags, (&raw mut plan).cast())
        };
        if pid == -1 {
            return Err(failure(Stage::Fork, last_errno()));
        }
        // SAFETY: `plan` is a live local; the read is volatile because the other process wrote it behind our back.
        let Some(mut failed) = (unsafe { (&raw const plan.failure).read_volatile() }) else { return Ok(pid) };
        sys::reap(pid);
        if failed.stage == Stage::Directory && start.directory.is_none() {
            // The directory of the file: what is wrong with it is wrong with the way to the file.
            failed.stage = Stage::Execute;
        }
        if failed == failure(Stage::Execute, libc::ENOENT) {
            let base = opened.map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd);
            // SAFETY: `file` is a string that ends with NUL.
            let exists = unsafe { libc::faccessat(base, file.as_ptr(), libc::F_OK, 0) } == 0;
            if exists {
                return Err(failure(Stage::Interpreter, libc::ENOENT));
            }
        }
        Err(failed)
    }
}

/// Pointers to the strings of a block, with a null pointer at the end; `None` if the last one does not end with NUL.
fn pointers(block: &[u8]) -> Option<Vec<*const c_char>> {
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
struct Plan<'a> {
    file: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    directory: Directory,
    limits: &'a [Limit],
    stdio: [c_int; 3],
    terminal: bool,
    mask: SignalSet,
    /// Its answer, if it does not come to execute the program.
    failure: Option<Failure>,
}

/// Where the program is going to work.
#[derive(Clone, Copy)]
enum Directory {
    /// Somewhere; the path of the file is absolute.
    Path(*const c_char),
    /// In its own directory, to which the path of the file is relative. No link is followed to it: what was looked at
    /// when the directory was found was a file.
    Opened(c_int),
}

/// The new process.
extern "C" fn enter(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan<'_>>();
    // SAFETY: `launch` has passed its plan, which is not used otherwise until this process ends.
    unsafe {
        let stage = carry_out(&*plan);
        (&raw mut (*plan).failure).write_volatile(Some(Failure { stage, errno: last_errno() }));
    }
    // What follows in `clone` is _exit: no handler of the spawner, or of the worker that it once was, runs here.
    127
}

/// Becomes the program. Returns only when a step has failed, and which.
///
/// # Safety
///
/// The pointers of the plan are what execve(2) and chdir(2) take. To be called in a process made by `launch`: all that
/// is done here concerns the calling process, and nothing but system calls may be made.
unsafe fn carry_out(plan: &Plan<'_>) -> Stage {
    // SAFETY: by the contract of this function. The dispositions of all signals are the default ones already, and all
    // other descriptors are close-on-exec.
    unsafe {
        if libc::setsid() == -1 {
            return Stage::Session;
        }
        // If the spawner itself is killed, nobody is left to take the program down.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
        for (target, &descriptor) in (0..).zip(&plan.stdio) {
            if libc::dup2(descriptor, target) == -1 {
                return Stage::Descriptors;
            }
        }
        if plan.terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
            return Stage::Terminal;
        }
        let entered = match plan.directory {
            Directory::Path(path) => libc::chdir(path),
            Directory::Opened(descriptor) => libc::fchdir(descriptor),
        };
        if entered == -1 {
            return Stage::Directory;
        }
        for limit in plan.limits {
            let value = libc::rlimit { rlim_cur: limit.value as _, rlim_max: limit.value as _ };
            if libc::setrlimit(limit.resource.number() as _, &raw const value) == -1 {
                return Stage::Limits;
            }
        }
        libc::sigprocmask(libc::SIG_SETMASK, plan.mask.as_ptr(), std::ptr::null_mut());
        match plan.directory {
            Directory::Path(_) => {
                libc::execve(plan.file, plan.arguments, plan.environment);
            }
            Directory::Opened(_) => {
                let (here, no_links) = (libc::AT_FDCWD, libc::AT_SYMLINK_NOFOLLOW);
                libc::syscall(libc::SYS_execveat, here, plan.file, plan.arguments, plan.environment, no_links);
            }
        }
    }
    Stage::Execute
}

fn last_errno() -> c_int {
    // SAFETY: the C library keeps this pointer valid for the calling thread.
    unsafe { *libc::__errno_location() }
}
