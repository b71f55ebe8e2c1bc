// SPDX-License-Identifier: Apache-2.0

//! Other processes: making them, ending them, hearing of their end.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

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

/// Sends a signal to a process, which is a child or is known to be the one that is meant.
pub(in crate::exec::spawner) fn kill_process(pid: i32, signal: c_int) -> Reach {
    if pid <= 1 {
        // 0 and -1 would be others.
        return Reach::Nobody;
    }
    // SAFETY: kill takes any numbers.
    reach(check(unsafe { libc::kill(pid, signal) }))
}

/// The processor time that the calling thread has had.
pub(in crate::exec::spawner) fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for the time, and the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The hard limit RLIMIT_LOCKS of a process, 0 for the calling one; `None` if it may not be read.
pub(in crate::exec::spawner) fn lock_limit(pid: i32) -> Option<u64> {
    let mut limit = [0u64; 2];
    let none = std::ptr::null::<[u64; 2]>();
    // SAFETY: the kernel fills two numbers of 64 bits, the soft limit and the hard one, for which there is room.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, pid, libc::RLIMIT_LOCKS, none, limit.as_mut_ptr()) };
    (result == 0).then_some(limit[1])
}

/// A process that is not a child, held so that its number cannot come to mean another one.
pub(in crate::exec::spawner) struct Process(OwnedFd);

impl Process {
    /// The process of this number; `None` if there is none, or for Linux before 5.3.
    pub(in crate::exec::spawner) fn open(pid: i32) -> Option<Self> {
        // SAFETY: pidfd_open takes any numbers.
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

/// fork(2), but the end of the child raises no signal in the parent, and only [`reap_silent`] reaps it. Returns 0 in
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

/// Reaps a child of [`fork_without_signal`], if it has ended. True: there is no such child any more.
pub(in crate::exec::spawner) fn reap_silent(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: `status` has room for the status.
    let result = retry(|| check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WCLONE | libc::WNOHANG) }));
    !matches!(result, Ok(0))
}

/// Waits for a child of [`fork_without_signal`] to end and reaps it.
pub(in crate::exec::spawner) fn wait_silent(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` has room for the status. That there is no such child is as good as that it has ended.
    let _ = retry(|| check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WCLONE) }));
}

/// Waits for a child to end and reaps it; `None` if there is none.
pub(in crate::exec::spawner) fn wait_for_any() -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` has room for the status.
    retry(|| check(unsafe { libc::waitpid(-1, &raw mut status, 0) })).ok()
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
