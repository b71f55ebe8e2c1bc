// SPDX-License-Identifier: Apache-2.0

//! What a program has not read of what it was given: octets in its pipe, or on its terminal.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Octets that were written to our end of a pipe and not read at the other.
pub fn of_pipe(writer: BorrowedFd<'_>) -> usize {
    ask(writer.as_raw_fd())
}

/// Octets on a terminal that no program has read, as far as they can be read: where lines are edited, up to the last end of
/// a line. 0 where the system cannot tell.
pub fn of_terminal(ours: BorrowedFd<'_>) -> usize {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER opens the other side of a terminal; the descriptor is new and closed here.
    let theirs = unsafe {
        let fd = libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags);
        if fd < 0 {
            return 0;
        }
        OwnedFd::from_raw_fd(fd)
    };
    ask(theirs.as_raw_fd())
}

fn ask(fd: libc::c_int) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int; a descriptor that knows no such request says so.
    let asked = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if asked == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// What is typed on a terminal to say that the input ends: nothing where lines are not edited, as there it would be input
/// like any other.
pub fn end_of_input(ours: BorrowedFd<'_>) -> Option<u8> {
    let mut modes = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: tcgetattr fills the struct when it returns 0; asked of our side it tells of the terminal.
    let modes = unsafe {
        if libc::tcgetattr(ours.as_raw_fd(), modes.as_mut_ptr()) != 0 {
            return None;
        }
        modes.assume_init()
    };
    let end = *modes.c_cc.get(libc::VEOF)?;
    (modes.c_lflag & libc::ICANON != 0 && end != 0).then_some(end)
}
