//! Files below a directory (openat2(2)).

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// Opens a path below a directory as a mere place (O_PATH), without following a link that leads out of the directory.
///
/// # Errors
///
/// EXDEV for a path that leads out, ELOOP for any link if `links` says that none may be followed. ENOSYS: Linux before
/// 5.6.
pub(in crate::exec) fn open_below(base: BorrowedFd<'_>, path: &CStr, links: Links) -> io::Result<OwnedFd> {
    // SAFETY: an open_how of zeros is a valid one.
    let mut how: libc::open_how = unsafe { MaybeUninit::zeroed().assume_init() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    if links == Links::None {
        how.resolve |= libc::RESOLVE_NO_SYMLINKS;
    }
    let mut attempts = 0;
    loop {
        // SAFETY: the path ends with NUL, and the structure has the size that is said.
        let opened = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                base.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if opened >= 0 {
            // SAFETY: it has just been opened and belongs to nobody else.
            return Ok(unsafe { OwnedFd::from_raw_fd(opened as RawFd) });
        }
        let error = io::Error::last_os_error();
        // Something was moved while the kernel made its way.
        if error.kind() != io::ErrorKind::WouldBlock || attempts == 8 {
            return Err(error);
        }
        attempts += 1;
    }
}

/// Which links may be followed on the way to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum Links {
    /// None.
    None,
    /// Those that stay below the directory.
    Inside,
}

/// Whether a file in a directory can be executed by the calling process.
pub(in crate::exec) fn can_be_executed(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    check(unsafe { libc::faccessat(directory.as_raw_fd(), name.as_ptr(), libc::X_OK, 0) }).map(|_| ())
}
