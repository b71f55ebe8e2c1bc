// SPDX-License-Identifier: Apache-2.0

//! Where a program may be: the places that are tried one after the other, in the process that is to become it, as
//! looking at a file system may take for ever.

use std::ffi::{CStr, CString, OsStr, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Where programs are looked for without `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// A file that may be the program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) file: CString,
    /// The directory that it is in.
    pub(super) directory: CString,
}

/// The files that a path may mean, in the order of precedence: itself if it has a slash, else one in each directory of
/// `PATH`. Directories that are not absolute are skipped: what they mean would depend on where the program is going to
/// run.
///
/// # Errors
///
/// EINVAL if there is a NUL in it.
pub(super) fn candidates(path: &[u8], environment: &[u8]) -> Result<Vec<Candidate>, c_int> {
    if path.contains(&b'/') {
        let file = CString::new(path).map_err(|_| libc::EINVAL)?;
        let directory = directory_of(&file);
        return Ok(vec![Candidate { file, directory }]);
    }
    in_path(path, environment.split(|octet| *octet == 0).find_map(|variable| variable.strip_prefix(b"PATH=")))
}

/// The files of this name in the directories of a value of `PATH`.
fn in_path(name: &[u8], directories: Option<&[u8]>) -> Result<Vec<Candidate>, c_int> {
    let directories = directories.unwrap_or(DEFAULT_PATH).split(|octet| *octet == b':');
    let absolute = directories.filter(|directory| directory.starts_with(b"/"));
    absolute
        .map(|directory| {
            let file = CString::new([directory, b"/", name].concat()).map_err(|_| libc::EINVAL)?;
            let directory = CString::new(directory).map_err(|_| libc::EINVAL)?;
            Ok(Candidate { file, directory })
        })
        .collect()
}

/// The first file of this name in a directory of `directories`, the value of a PATH, that `may_execute` lets be executed:
/// for the check of a configuration, which may wait for a file system.
///
/// # Errors
///
/// `errno`: EACCES if there are only files that cannot be executed, else ENOENT; EINVAL if there is a NUL in the name.
pub(in crate::exec) fn find_in(
    name: &[u8],
    directories: Option<&[u8]>,
    may_execute: impl Fn(&CStr) -> io::Result<()>,
) -> Result<CString, c_int> {
    let mut errno = libc::ENOENT;
    for Candidate { file, .. } in in_path(name, directories)? {
        if std::fs::metadata(OsStr::from_bytes(file.as_bytes())).is_ok_and(|found| found.is_file()) {
            if may_execute(&file).is_ok() {
                return Ok(file);
            }
            errno = libc::EACCES;
        }
    }
    Err(errno)
}

/// The directory of a file with an absolute path.
fn directory_of(file: &CString) -> CString {
    let path = file.as_bytes();
    let end = memchr::memrchr(b'/', path).unwrap_or_default().max(1);
    // A part of a string without NUL has none either.
    CString::new(path.get(..end).unwrap_or(b"/")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, environment: &str) -> Result<Vec<(String, String)>, c_int> {
        let strings =
            |candidate: Candidate| (candidate.file.into_string().unwrap(), candidate.directory.into_string().unwrap());
        Ok(candidates(path.as_bytes(), environment.as_bytes())?.into_iter().map(strings).collect())
    }

    fn pair(file: &str, directory: &str) -> (String, String) {
        (file.to_owned(), directory.to_owned())
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(found("/no/such", "PATH=/bin\0"), Ok(vec![pair("/no/such", "/no")]));
        assert_eq!(found("/a\0b", ""), Err(libc::EINVAL));
    }

    #[test]
    fn a_name_is_looked_for() {
        let expected = vec![pair("/no/such/sh", "/no/such"), pair("/bin/sh", "/bin")];
        assert_eq!(found("sh", "A=1\0PATH=/no/such:/bin\0"), Ok(expected));
        assert_eq!(found("sh", "A=1\0").map(|all| all.len()), Ok(3));
        assert_eq!(found("sh", "PATH=\0"), Ok(Vec::new()));
        assert_eq!(found("a\0b", "PATH=/bin\0"), Err(libc::EINVAL));
    }

    #[test]
    fn relative_directories_are_skipped() {
        assert_eq!(found("lib.rs", "PATH=src:./src::.\0"), Ok(Vec::new()));
    }

    #[test]
    fn directories() {
        for (file, directory) in [("/bin/cat", "/bin"), ("/cat", "/"), ("/a/b/c", "/a/b")] {
            let file = CString::new(file).unwrap();
            assert_eq!(directory_of(&file).to_str(), Ok(directory));
        }
    }
}
