//! From the name of a program to its file.

use std::ffi::{CStr, CString, OsStr, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Where programs are looked for without `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// The file of a program: `path` itself if it has a slash, else the first file of this name in a directory of `PATH`
/// that can be executed. Directories that are not absolute are skipped: what they mean would depend on where the
/// program is going to run.
///
/// # Errors
///
/// `errno`: EACCES if there are only files that cannot be executed, else ENOENT; EINVAL if there is a NUL in it.
pub(super) fn find(path: &[u8], environment: &[u8]) -> Result<CString, c_int> {
    if path.contains(&b'/') {
        return CString::new(path).map_err(|_| libc::EINVAL);
    }
    let directories = environment.split(|octet| *octet == 0).find_map(|variable| variable.strip_prefix(b"PATH="));
    find_in(path, directories, |candidate| {
        // SAFETY: the candidate is a string that ends with NUL.
        super::sys::check(unsafe { libc::access(candidate.as_ptr(), libc::X_OK) }).map(|_| ())
    })
}

/// The first file of this name in a directory of `directories`, the value of a PATH, that `may_execute` lets be executed.
///
/// # Errors
///
/// Those of [`find`].
pub(in crate::exec) fn find_in(
    name: &[u8],
    directories: Option<&[u8]>,
    may_execute: impl Fn(&CStr) -> io::Result<()>,
) -> Result<CString, c_int> {
    let directories = directories.unwrap_or(DEFAULT_PATH);
    let mut errno = libc::ENOENT;
    for directory in directories.split(|octet| *octet == b':').filter(|directory| directory.starts_with(b"/")) {
        let candidate = CString::new([directory, b"/", name].concat()).map_err(|_| libc::EINVAL)?;
        match std::fs::metadata(OsStr::from_bytes(candidate.as_bytes())) {
            Ok(file) if file.is_file() => {
                if may_execute(&candidate).is_ok() {
                    return Ok(candidate);
                }
                errno = libc::EACCES;
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(errno)
}

/// The directory of a file with an absolute path.
pub(super) fn directory_of(file: &CString) -> CString {
    let path = file.as_bytes();
    let end = memchr::memrchr(b'/', path).unwrap_or_default().max(1);
    // A part of a string without NUL has none either.
    CString::new(path.get(..end).unwrap_or(b"/")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, environment: &str) -> Result<String, c_int> {
        find(path.as_bytes(), environment.as_bytes()).map(|file| file.into_string().unwrap())
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(found("/no/such", "PATH=/bin\0"), Ok("/no/such".to_owned()));
        assert_eq!(found("/a\0b", ""), Err(libc::EINVAL));
    }

    #[test]
    fn a_name_is_looked_for() {
        assert_eq!(found("sh", "A=1\0PATH=/no/such:/bin:/usr/bin\0"), Ok("/bin/sh".to_owned()));
        assert!(found("sh", "A=1\0").is_ok());
        assert_eq!(found("sh", "PATH=/no/such\0"), Err(libc::ENOENT));
        assert_eq!(found("sh", "PATH=\0"), Err(libc::ENOENT));
        assert_eq!(found("passwd", "PATH=/etc\0"), Err(libc::EACCES));
        // A directory is no program.
        assert_eq!(found("bin", "PATH=/usr\0"), Err(libc::ENOENT));
        assert_eq!(found("a\0b", "PATH=/bin\0"), Err(libc::EINVAL));
        assert_eq!(found("", "PATH=/bin\0"), Err(libc::ENOENT));
    }

    #[test]
    fn relative_directories_are_skipped() {
        // The tests run in the directory of the crate.
        assert_eq!(found("lib.rs", "PATH=src:./src::.\0"), Err(libc::ENOENT));
    }

    #[test]
    fn directories() {
        for (file, directory) in [("/bin/cat", "/bin"), ("/cat", "/"), ("/a/b/c", "/a/b")] {
            let file = CString::new(file).unwrap();
            assert_eq!(directory_of(&file).to_str(), Ok(directory));
        }
    }
}
