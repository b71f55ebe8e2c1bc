// SPDX-License-Identifier: Apache-2.0

//! Whether a program could be started, found out before anybody asks for it.

use std::ffi::{CString, c_int};
use std::fmt;
use std::io;

use super::spawner::search;
use super::spawner::sys::place;

/// What is wrong with a program or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The program cannot be looked at, or not be executed or searched: the error of the system.
    System(c_int),
    /// No directory of PATH has such a file.
    NotInPath,
    /// What was found is no file, or is not a directory.
    OtherKind(&'static str),
    /// There is no such file, but there is one whose name goes up to a blank.
    Blank,
}

impl Problem {
    /// Whether another user might be allowed to.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::System(libc::EACCES | libc::EPERM))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(libc::ENOENT) => f.write_str("there is no such file"),
            Self::System(errno) => write!(f, "{}", io::Error::from_raw_os_error(*errno)),
            Self::NotInPath => f.write_str("no directory of PATH has a file of this name"),
            Self::OtherKind(what) => f.write_str(what),
            Self::Blank => {
                f.write_str("there is no such file; arguments are words of their own, not in the same quotes")
            }
        }
    }
}

/// Whether the calling process could execute this program: an absolute path, or a name that is looked for in the directories
/// of `path`. What the file has in it is not looked at.
///
/// # Errors
///
/// [`Problem`].
pub fn program(name: &[u8], path: Option<&[u8]>) -> Result<(), Problem> {
    if !name.contains(&b'/') {
        return match search::find_in(name, path, place::may_execute) {
            Ok(_) => Ok(()),
            Err(libc::ENOENT) => Err(Problem::NotInPath),
            Err(errno) => Err(Problem::System(errno)),
        };
    }
    match file(name) {
        Err(Problem::System(libc::ENOENT | libc::ENOTDIR)) if has_blank(name) => Err(Problem::Blank),
        result => result,
    }
}

/// Whether what comes before the first blank is a file that can be executed.
fn has_blank(name: &[u8]) -> bool {
    memchr::memchr2(b' ', b'\t', name).is_some_and(|end| file(name.get(..end).unwrap_or_default()).is_ok())
}

fn file(name: &[u8]) -> Result<(), Problem> {
    let name = CString::new(name).map_err(|_| Problem::System(libc::EINVAL))?;
    match place::kind(&name).map_err(system)? {
        kind if kind.is_dir() => Err(Problem::OtherKind("it is a directory")),
        kind if !kind.is_file() => Err(Problem::OtherKind("it is no regular file")),
        _ => place::may_execute(&name).map_err(system),
    }
}

/// Whether the calling process could enter this directory.
///
/// # Errors
///
/// [`Problem`].
pub fn directory(name: &[u8]) -> Result<(), Problem> {
    let name = CString::new(name).map_err(|_| Problem::System(libc::EINVAL))?;
    if !place::kind(&name).map_err(system)?.is_dir() {
        return Err(Problem::OtherKind("it is no directory"));
    }
    place::may_execute(&name).map_err(system)
}

/// Whether the calling process could make files in this directory.
///
/// # Errors
///
/// [`Problem`].
pub fn writable(name: &[u8]) -> Result<(), Problem> {
    let name = CString::new(name).map_err(|_| Problem::System(libc::EINVAL))?;
    if !place::kind(&name).map_err(system)?.is_dir() {
        return Err(Problem::OtherKind("it is no directory"));
    }
    place::may_create(&name).map_err(system)
}

fn system(error: io::Error) -> Problem {
    Problem::System(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs() {
        assert_eq!(program(b"/bin/sh", None), Ok(()));
        assert_eq!(program(b"sh", Some(b"/no/such:/bin")), Ok(()));
        assert_eq!(program(b"sh", None), Ok(()));
        assert_eq!(program(b"sh", Some(b"/no/such")), Err(Problem::NotInPath));
        assert_eq!(program(b"passwd", Some(b"/etc")), Err(Problem::System(libc::EACCES)));
        assert_eq!(program(b"/no/such", None), Err(Problem::System(libc::ENOENT)));
        assert_eq!(program(b"/etc/passwd", None), Err(Problem::System(libc::EACCES)));
        assert_eq!(program(b"/etc/passwd/x", None), Err(Problem::System(libc::ENOTDIR)));
        assert!(matches!(program(b"/bin", None), Err(Problem::OtherKind(_))));
        assert!(matches!(program(b"/dev/null", None), Err(Problem::OtherKind(_))));
        assert_eq!(program(b"/bin/sh -c x", None), Err(Problem::Blank));
        assert_eq!(program(b"/no/such -c x", None), Err(Problem::System(libc::ENOENT)));
    }

    #[test]
    fn directories() {
        assert_eq!(directory(b"/bin"), Ok(()));
        assert_eq!(directory(b"/no/such"), Err(Problem::System(libc::ENOENT)));
        assert!(matches!(directory(b"/etc/passwd"), Err(Problem::OtherKind(_))));
    }

    #[test]
    fn what_is_said() {
        assert_eq!(Problem::System(libc::ENOENT).to_string(), "there is no such file");
        assert!(Problem::System(libc::EACCES).to_string().starts_with("Permission denied"));
        assert!(Problem::System(libc::EACCES).is_denial() && !Problem::NotInPath.is_denial());
    }
}
