// SPDX-License-Identifier: Apache-2.0

//! Files below a directory (openat2(2)).

use std::ffi::{CStr, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use super::{check, retry};

/// Opens a path below a directory as a mere place (O_PATH), following such links as `links` says.
///
/// # Errors
///
/// EXDEV for a way that leads out and [`Links::Inside`], ELOOP for any link and [`Links::None`]. ENOSYS: Linux before 5.6.
pub(in crate::exec) fn open_below(base: BorrowedFd<'_>, path: &CStr, links: Links) -> io::Result<OwnedFd> {
    // SAFETY: an open_how of zeros is a valid one.
    let mut how: libc::open_how = unsafe { MaybeUninit::zeroed().assume_init() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_MAGICLINKS
        | match links {
            Links::None => libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS,
            Links::Inside => libc::RESOLVE_BENEATH,
            Links::Anywhere => 0,
        };
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
    /// No links are followed.
    None,
    /// Links that stay below the directory all the way are followed.
    Inside,
    /// Links are followed wherever they lead: what is opened may be anywhere.
    Anywhere,
}

/// Opens a directory by its name in another one as a mere place (O_PATH), if the name is not that of a link.
///
/// # Errors
///
/// ENOTDIR or ELOOP for a link.
pub(in crate::exec) fn open_directory(base: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    open_at(base, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
}

/// Makes a file in a directory, to be written by the calling user alone.
///
/// # Errors
///
/// EEXIST if there is anything of that name, also a link that leads nowhere.
pub(in crate::exec) fn create_file(base: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    open_at(base, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW)
}

fn open_at(base: BorrowedFd<'_>, name: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    const MODE: libc::c_uint = 0o600;
    retry(|| {
        // SAFETY: the name ends with NUL; the mode counts where a file is made.
        let opened = check(unsafe { libc::openat(base.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, MODE) })?;
        // SAFETY: it has just been opened and belongs to nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(opened) })
    })
}

/// What a path leads to.
pub(in crate::exec) fn kind(path: &CStr) -> io::Result<std::fs::FileType> {
    std::fs::metadata(std::ffi::OsStr::from_bytes(path.to_bytes())).map(|metadata| metadata.file_type())
}

/// Whether a file can be executed, or a directory searched, by the user that the calling process acts as with files
/// (setfsuid(2) included). A system that cannot tell (Linux before 5.8) says yes.
pub(in crate::exec) fn may_execute(path: &CStr) -> io::Result<()> {
    may(path, libc::X_OK)
}

fn may(path: &CStr, access: c_int) -> io::Result<()> {
    // SAFETY: the path ends with NUL.
    let result =
        unsafe { libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), access, libc::AT_EACCESS) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).or_else(|error| match error.raw_os_error() {
            Some(libc::ENOSYS) => Ok(()),
            _ => Err(error),
        }),
    }
}

/// Whether the calling user can make files in a directory. A system that cannot tell (Linux before 5.8) says yes.
pub(in crate::exec) fn may_create(path: &CStr) -> io::Result<()> {
    may(path, libc::W_OK | libc::X_OK)
}

/// Whether a file in a directory can be executed by the calling process.
pub(in crate::exec) fn can_be_executed(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    check(unsafe { libc::faccessat(directory.as_raw_fd(), name.as_ptr(), libc::X_OK, 0) }).map(|_| ())
}
