// SPDX-License-Identifier: Apache-2.0

//! Signals of the calling process (signal(7), signalfd(2)).

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// A set of signals.
#[derive(Clone, Copy)]
pub(in crate::exec::spawner) struct SignalSet(libc::sigset_t);

impl SignalSet {
    pub(in crate::exec::spawner) fn empty() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set and cannot fail for a valid pointer.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            Self(set.assume_init())
        }
    }

    pub(in crate::exec::spawner) fn all() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset initialises the set and cannot fail for a valid pointer.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            Self(set.assume_init())
        }
    }

    pub(in crate::exec::spawner) fn of(signal: c_int) -> Self {
        let mut set = Self::empty();
        // SAFETY: `set` is an initialised set; a signal that does not exist is refused without harm.
        unsafe { libc::sigaddset(&raw mut set.0, signal) };
        set
    }

    pub(in crate::exec::spawner) const fn as_ptr(&self) -> *const libc::sigset_t {
        &raw const self.0
    }
}

/// Makes this the signal mask of the thread; returns the one it had.
pub(in crate::exec::spawner) fn set_signal_mask(mask: &SignalSet) -> SignalSet {
    let mut old = SignalSet::empty();
    // SAFETY: both sets are initialised, and SIG_SETMASK is a valid operation, so that it cannot fail.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), &raw mut old.0) };
    old
}

/// Gives every signal its default disposition, also the two that the C library keeps to itself: whoever started the
/// server may have had them ignored.
pub(in crate::exec::spawner) fn reset_dispositions() {
    // Longer than the kernel's `sigaction` anywhere; zeros are the default disposition without flags and mask.
    let default = [0u64; 16];
    for signal in 1..=64 {
        // SAFETY: the default disposition runs no code of ours. Signals that cannot be changed are refused without harm.
        unsafe {
            if libc::signal(signal, libc::SIG_DFL) == libc::SIG_ERR {
                let (none, octets_of_mask) = (std::ptr::null_mut::<c_void>(), 64 / 8);
                libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, octets_of_mask);
            }
        }
    }
}

/// A descriptor that is readable while SIGCHLD is pending; SIGCHLD must be blocked.
pub(in crate::exec::spawner) fn child_signals() -> io::Result<OwnedFd> {
    let set = SignalSet::of(libc::SIGCHLD);
    // SAFETY: the set is initialised, and -1 asks for a new descriptor.
    let descriptor = check(unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: it has just been opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Takes the pending SIGCHLD off the descriptor of [`child_signals`].
pub(in crate::exec::spawner) fn take_child_signal(descriptor: BorrowedFd<'_>) {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    // SAFETY: the buffer has the length that is said. Nothing of it is looked at: that there is nothing to read means
    // the same as that there was.
    unsafe { libc::read(descriptor.as_raw_fd(), info.as_mut_ptr().cast::<c_void>(), size_of_val(&info)) };
}
