// SPDX-License-Identifier: Apache-2.0

//! Pseudo-terminals (pty(7), ioctl_tty(2)).

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::check;

/// Opens a new pseudo-terminal: the side of the server, which does not block, and the side of the program.
pub(in crate::exec) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    let ours = OwnedFd::from(options.open("/dev/ptmx")?);
    let locked: c_int = 0;
    // SAFETY: the request reads one integer of ours.
    check(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes the flags and returns a descriptor.
    let theirs = check(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: it has just been opened and belongs to nobody else.
    Ok((ours, unsafe { OwnedFd::from_raw_fd(theirs) }))
}

/// Sets the size of a terminal; the programs on it get SIGWINCH if it changes.
pub(in crate::exec) fn set_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads the size from a struct of ours.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(|_| ())
}

/// Lets the line editor of a terminal know that its input is UTF-8, so that erasing takes a whole character.
pub(in crate::exec) fn set_utf8(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let mut modes = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: tcgetattr fills the modes if it does not fail; tcsetattr reads what has been filled.
    unsafe {
        check(libc::tcgetattr(terminal.as_raw_fd(), modes.as_mut_ptr()))?;
        let mut modes = modes.assume_init();
        modes.c_iflag |= libc::IUTF8;
        check(libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const modes)).map(|_| ())
    }
}

/// Whether the calling process has a controlling terminal.
pub(in crate::exec::spawner) fn has_terminal() -> bool {
    File::options().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open("/dev/tty").is_ok()
}
