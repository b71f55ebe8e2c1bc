// SPDX-License-Identifier: Apache-2.0

//! Files that are made below a directory, where others may have put links (`websocket_record`).
//!
//! The path is walked a name at a time from the directory on, and no name may be that of a link. A directory that is replaced
//! by a link between two steps is one that was opened already, so that nothing outside is ever reached.

use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use super::spawner::sys::place::{create_file, open_directory};

/// Names that are tried at most: that of the file, and those with a number behind it.
pub const MOST_NAMES: u32 = 1000;

/// Whether each part of a path, between slashes, is a name: none is empty, `.` or `..`, which would lead to where the part before has
/// led, above it, or to the root.
pub fn is_made_of_names(path: &[u8]) -> bool {
    path.split(|octet| *octet == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// Makes the file that `path` names below a directory, to be written and read by the calling user alone. Nothing that is there
/// is touched: if the name is taken, a number is put behind it, `.1` to `.999`. Returns the file, and that number or 0.
///
/// # Errors
///
/// EEXIST: all names are taken. ENOTDIR or ELOOP: there is a link, or a file, on the way. Directories are not made: ENOENT.
/// A path with an empty name, `.` or `..` in it is [`InvalidInput`](io::ErrorKind::InvalidInput).
pub fn create(directory: &[u8], path: &[u8]) -> io::Result<(File, u32)> {
    if !is_made_of_names(path) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
    let mut place = OwnedFd::from(options.open(OsStr::from_bytes(directory))?);
    let mut names = path.split(|octet| *octet == b'/').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            return numbered(&place, name);
        }
        place = open_directory(place.as_fd(), &CString::new(name)?)?;
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// Makes the file in a directory.
fn numbered(place: &OwnedFd, name: &[u8]) -> io::Result<(File, u32)> {
    let mut made = create_file(place.as_fd(), &CString::new(name)?).map(|file| (file, 0));
    for number in 1..MOST_NAMES {
        if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            break;
        }
        let name = [name, b".", number.to_string().as_bytes()].concat();
        made = create_file(place.as_fd(), &CString::new(name)?).map(|file| (file, number));
    }
    made.map(|(file, number)| (File::from(file), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;

    /// A directory of its own for one test, with `rec` to make files in and `outside` beside it.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let tree = Self(std::env::temp_dir().join(format!("ngx-ws-exec-create-{}-{name}", std::process::id())));
            for directory in ["rec/sub", "outside"] {
                fs::create_dir_all(tree.0.join(directory)).unwrap();
            }
            tree
        }

        fn create(&self, path: &[u8]) -> io::Result<(File, u32)> {
            create(self.0.join("rec").as_os_str().as_bytes(), path)
        }

        fn errno(&self, path: &[u8]) -> Option<i32> {
            self.create(path).unwrap_err().raw_os_error()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_private_and_nothing_is_overwritten() {
        let tree = Tree::new("files");
        for (nth, name) in ["rec/x", "rec/x.1", "rec/x.2"].into_iter().enumerate() {
            let (mut file, number) = tree.create(b"x").unwrap();
            assert_eq!(number as usize, nth);
            file.write_all(name.as_bytes()).unwrap();
        }
        for name in ["rec/x", "rec/x.1", "rec/x.2"] {
            assert_eq!(fs::read_to_string(tree.0.join(name)).unwrap(), name);
            assert_eq!(fs::metadata(tree.0.join(name)).unwrap().mode() & 0o7777, 0o600);
        }
        tree.create(b"sub/y").unwrap();
        assert!(tree.0.join("rec/sub/y").is_file());
    }

    #[test]
    fn names_come_to_an_end() {
        let tree = Tree::new("names");
        for number in 0..MOST_NAMES {
            assert_eq!(tree.create(b"x").unwrap().1, number);
        }
        assert_eq!(tree.errno(b"x"), Some(libc::EEXIST));
    }

    #[test]
    fn links_are_not_followed() {
        let tree = Tree::new("links");
        symlink("../outside", tree.0.join("rec/out")).unwrap();
        symlink("sub", tree.0.join("rec/in")).unwrap();
        symlink("../outside/new", tree.0.join("rec/file")).unwrap();
        for path in [&b"out/x"[..], b"in/x", b"sub/../out/x"] {
            assert!(tree.create(path).is_err(), "{}", path.escape_ascii());
        }
        // A link has a name, which is taken.
        assert_eq!(tree.create(b"file").unwrap().1, 1);
        assert_eq!(fs::read_dir(tree.0.join("outside")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(tree.0.join("rec/sub")).unwrap().count(), 0);
        // The directory itself may be one: whoever named it wanted that.
        symlink("rec", tree.0.join("link")).unwrap();
        create(tree.0.join("link").as_os_str().as_bytes(), b"through").unwrap();
        assert!(tree.0.join("rec/through").is_file());
    }

    #[test]
    fn what_is_no_path_below() {
        let tree = Tree::new("paths");
        for path in [&b""[..], b"/", b"/x", b"x/", b"..", b"../x", b".", b"./x", b"a\0b", b"sub//x"] {
            assert_eq!(tree.create(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", path.escape_ascii());
        }
        assert_eq!(tree.errno(b"none/x"), Some(libc::ENOENT));
        assert_eq!(tree.errno(&[b'x'; 300]), Some(libc::ENAMETOOLONG));
        tree.create(b"plain").unwrap();
        assert_eq!(tree.errno(b"plain/x"), Some(libc::ENOTDIR));
        assert_eq!(create(b"/no/such", b"x").unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
