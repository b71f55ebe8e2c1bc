//! Other processes: making them, ending them, hearing of their end.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::super::ExitStatus;
use super::super::groups::Reach;
use super::{check, retry};

/// Reaps a child that has ended; `None` if there is none.
pub(in crate::exec::spawner) fn reap_any() -> Option<(i32, ExitStatus)> {
    let mut status = 0;
    // SAFETY: `status` has room for the status.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, exit_status(status)))
}

/// Sends a signal to every process of a group.
pub(in crate::exec::spawner) fn kill_group(group: i32, signal: c_int) -> Reach {
    if group <= 1 {
        // -1 would be everybody.
        return Reach::Nobody;
    }
    // SAFETY: kill takes any numbers.
    reach(check(unsafe { libc::kill(-group, signal) }))
}

/// A process that is not a child, held so that its number cannot come to mean another one.
pub(in crate::exec::spawner) struct Process(OwnedFd);

impl Process {
    /// The process of this number; `None` if there is none, or for Linux before 5.3.
    pub(in crate::exec::spawner) fn open(pid: i32) -> Option<Self> {
        // SAFETY: takes two integers.
        let descriptor = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as c_int).ok()?;
        // SAFETY: it has just been opened, close-on-exec as always, and belongs to nobody else.
        Some(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Sends a signal to it, if it has not ended.
    pub(in crate::exec::spawner) fn kill(&self, signal: c_int) -> Reach {
        let (default_info, no_flags) = (std::ptr::null::<libc::siginfo_t>(), 0);
        // SAFETY: without a description of the signal the system makes one.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, default_info, no_flags) };
        reach(check(result as c_int))
    }
}

fn reach(result: io::Result<c_int>) -> Reach {
    match result {
        Ok(_) => Reach::Reached,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Reach::Denied,
        // ESRCH, or EINVAL for a signal that does not exist.
        Err(_) => Reach::Nobody,
    }
}

/// fork(2), but the end of the child raises no signal in the parent, and only [`reap_silent`] waits for it. Returns 0 in
/// the child.
///
/// # Safety
///
/// The child must not return into what called the parent. Unlike after fork(2), locks of the C library that another thread
/// holds stay locked in the child.
pub(in crate::exec::spawner) unsafe fn fork_without_signal() -> io::Result<i32> {
    // SAFETY: without flags and stack this is fork(2); the arguments that only flags give a meaning are zeros on every
    // architecture, whatever their order.
    let result = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Ends a child of [`fork_without_signal`], if it has not ended, and reaps it.
pub(in crate::exec::spawner) fn reap_silent(pid: i32) {
    let mut status = 0;
    // SAFETY: the process is a child that nobody else can have reaped, so that the number is still its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: `status` has room for the status.
    let _ = retry(|| check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WCLONE) }));
}

/// Waits for a child and reaps it.
pub(in crate::exec::spawner) fn reap(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` has room for the status.
    let _ = retry(|| check(unsafe { libc::waitpid(pid, &raw mut status, 0) }));
}

fn exit_status(status: c_int) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        // A signal number has seven bits.
        ExitStatus::Signal((libc::WTERMSIG(status) & 0x7F) as u8)
    } else {
        ExitStatus::Code((libc::WEXITSTATUS(status) & 0xFF) as u8)
    }
}

/// Becomes the parent of every descendant whose own parent has ended.
pub(in crate::exec::spawner) fn become_subreaper() -> io::Result<()> {
    // SAFETY: this operation takes one integer.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong, 0, 0, 0) }).map(|_| ())
}
