// SPDX-License-Identifier: Apache-2.0

//! From a URI to a program in a directory (`websocket_exec_dir`).
//!
//! The path is walked a name at a time, and the first file on the way is the program; what is left of the path is its
//! PATH_INFO. Links are followed to what is below the directory. The kernel sees to that (openat2(2), RESOLVE_BENEATH) where
//! they stay there all the way. A link with an absolute path does not: where it leads is found out first, and if that is
//! below the directory, it is opened from the directory again, without a link, so that nothing outside is ever used.
//!
//! What comes out is not a path, which could mean something else a moment later, but the directory of the file, opened,
//! and the name in it. The program is started from there without following a link
//! ([`start_in`](super::spawner::Spawner::start_in)), so that neither a directory nor a file that is replaced by a link
//! between the two moments leads anywhere else. For a script the kernel opens the file like that, and its interpreter
//! once more, by its name in the directory that both are in.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;

use super::spawner::sys::place::{Links, can_be_executed, open_below};

/// Names that are walked at most before there is a file.
const MAX_DEPTH: usize = 32;

/// A program that a path leads to.
#[derive(Debug)]
pub struct Found {
    /// The directory that it is in, opened as a place.
    pub directory: OwnedFd,
    /// Its name there, which is not that of a link.
    pub name: Vec<u8>,
    /// Octets of the path that led to it (SCRIPT_NAME ends there); the rest is PATH_INFO, empty or beginning with a
    /// slash.
    pub length: usize,
}

/// Who is going to execute the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// The calling user, who may have to be refused.
    Own,
    /// Somebody else, whose rights are not known here.
    Unknown,
}

/// Why a path does not lead to a program.
#[derive(Debug)]
pub enum Unresolved {
    /// There is no such file, or it is not one that could be a program: 404.
    NotFound,
    /// The calling user may not execute it, or not search a directory on the way: 403.
    Denied,
    /// A link leads out of the directory: 403.
    Outside,
    /// The directory itself cannot be used, or the system is short of something.
    Failed(io::Error),
}

impl Found {
    /// The absolute path of the file as it is at this moment, for a program that is to work in another directory.
    ///
    /// # Errors
    ///
    /// What readlink(2) says about /proc/self/fd.
    pub fn path(&self) -> io::Result<Vec<u8>> {
        let mut path = real_path(self.directory.as_fd())?;
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(&self.name);
        Ok(path)
    }
}

/// Finds the program that `path`, a decoded URI path or the rest of one, leads to below `root`.
///
/// Names that begin with a dot are never looked at: "..", and what is hidden.
///
/// # Errors
///
/// [`Unresolved`].
pub fn resolve(root: &[u8], path: &[u8], execution: Execution) -> Result<Found, Unresolved> {
    let root = open_root(root).map_err(Unresolved::Failed)?;
    let mut current: Option<OwnedFd> = None;
    let mut start = 0;
    for _ in 0..MAX_DEPTH {
        start += path.get(start..).unwrap_or_default().iter().take_while(|octet| **octet == b'/').count();
        let rest = path.get(start..).unwrap_or_default();
        let length = start + memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let name = path.get(start..length).unwrap_or_default();
        if name.is_empty() || name.starts_with(b".") {
            return Err(Unresolved::NotFound);
        }
        let here = current.as_ref().unwrap_or(&root).as_fd();
        let (place, is_link) = step(root.as_fd(), here, name, path.get(..length).unwrap_or_default())?;
        let kind = kind_of(place.as_fd())?;
        if kind.is_file() {
            return if is_link {
                behind_link(&root, &place, length, execution)
            } else {
                found(current.unwrap_or(root), name, length, execution)
            };
        }
        if !kind.is_dir() {
            return Err(Unresolved::NotFound);
        }
        current = Some(place);
        start = length;
    }
    Err(Unresolved::NotFound)
}

fn open_root(root: &[u8]) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
    options.open(OsStr::from_bytes(root)).map(OwnedFd::from)
}

/// One name further: opens `name` in the directory `here`, which is also `whole` below the root. Whether it is a link.
fn step(root: BorrowedFd<'_>, here: BorrowedFd<'_>, name: &[u8], whole: &[u8]) -> Result<(OwnedFd, bool), Unresolved> {
    let name = CString::new(name).map_err(|_| Unresolved::NotFound)?;
    match open_below(here, &name, Links::None) {
        Ok(place) => Ok((place, false)),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            // A link may lead anywhere below the root, not only below the place where it is.
            let start = whole.iter().take_while(|octet| **octet == b'/').count();
            let whole = CString::new(whole.get(start..).unwrap_or_default()).map_err(|_| Unresolved::NotFound)?;
            let place = match open_below(root, &whole, Links::Inside) {
                Err(error) if error.raw_os_error() == Some(libc::EXDEV) => come_back(root, &whole)?,
                opened => opened.map_err(unresolved)?,
            };
            Ok((place, true))
        }
        Err(error) => Err(unresolved(error)),
    }
}

/// Opens what a path leads to whose links leave the root on the way, if that is below the root.
fn come_back(root: BorrowedFd<'_>, whole: &CStr) -> Result<OwnedFd, Unresolved> {
    let place = open_below(root, whole, Links::Anywhere).map_err(unresolved)?;
    let below = below(root, place.as_fd())?.ok_or(Unresolved::Outside)?;
    let below = CString::new(below).map_err(|_| Unresolved::NotFound)?;
    open_below(root, &below, Links::None).map_err(unresolved)
}

/// The path from the root to something that is open, without links, as it is at this moment; `None` if it is elsewhere.
fn below(root: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Unresolved> {
    let top = real_path(root).map_err(Unresolved::Failed)?;
    let path = real_path(place).map_err(Unresolved::Failed)?;
    if path == top {
        return Ok(Some(b".".to_vec()));
    }
    let below = path.strip_prefix(top.strip_suffix(b"/").unwrap_or(&top)).and_then(|path| path.strip_prefix(b"/"));
    Ok(below.map(<[u8]>::to_vec))
}

/// A file that a link led to: its own directory and name are found, so that no link is left to follow.
fn behind_link(root: &OwnedFd, place: &OwnedFd, length: usize, execution: Execution) -> Result<Found, Unresolved> {
    // None: it has been moved away meanwhile.
    let below = below(root.as_fd(), place.as_fd())?.ok_or(Unresolved::NotFound)?;
    let (parent, name) = match memchr::memrchr(b'/', &below) {
        Some(slash) => (below.get(..slash).unwrap_or_default(), below.get(slash + 1..).unwrap_or_default()),
        None => (&b"."[..], &below[..]),
    };
    let parent = CString::new(parent).map_err(|_| Unresolved::NotFound)?;
    found(open_below(root.as_fd(), &parent, Links::None).map_err(unresolved)?, name, length, execution)
}

fn found(directory: OwnedFd, name: &[u8], length: usize, execution: Execution) -> Result<Found, Unresolved> {
    let in_c = CString::new(name).map_err(|_| Unresolved::NotFound)?;
    if execution == Execution::Own {
        can_be_executed(directory.as_fd(), &in_c).map_err(unresolved)?;
    }
    Ok(Found { directory, name: name.to_vec(), length })
}

fn kind_of(place: BorrowedFd<'_>) -> Result<FileType, Unresolved> {
    let place = place.try_clone_to_owned().map_err(Unresolved::Failed)?;
    File::from(place).metadata().map(|metadata| metadata.file_type()).map_err(Unresolved::Failed)
}

/// The path of something that is open, without links.
fn real_path(place: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    std::fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd())).map(|path| path.into_os_string().into_vec())
}

fn unresolved(error: io::Error) -> Unresolved {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP) => Unresolved::NotFound,
        Some(libc::EACCES | libc::EPERM) => Unresolved::Denied,
        Some(libc::EXDEV) => Unresolved::Outside,
        _ => Unresolved::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    /// A tree of its own for one test, with something outside of `root` beside it.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let top = std::env::temp_dir().join(format!("ngx-ws-exec-directory-{}-{name}", std::process::id()));
            let tree = Self(top);
            for directory in ["root/sub/deep", "root/.hidden", "outside"] {
                fs::create_dir_all(tree.0.join(directory)).unwrap();
            }
            for file in ["root/prog", "root/sub/prog", "root/sub/deep/prog", "root/.hidden/prog", "outside/prog"] {
                tree.file(file, 0o755);
            }
            tree.file("root/data", 0o644);
            tree
        }

        fn file(&self, name: &str, mode: u32) {
            fs::write(self.0.join(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn link(&self, target: &str, name: &str) {
            symlink(target, self.0.join(name)).unwrap();
        }

        fn resolve(&self, path: &str) -> Result<Found, Unresolved> {
            resolve(self.0.join("root").as_os_str().as_bytes(), path.as_bytes(), Execution::Own)
        }

        /// The file below the root that a path leads to, and the rest of the path.
        fn file_of<'a>(&self, path: &'a str) -> (String, &'a str) {
            let found = self.resolve(path).unwrap();
            let file = String::from_utf8(found.path().unwrap()).unwrap();
            let root = fs::canonicalize(self.0.join("root")).unwrap();
            let file = file.strip_prefix(root.to_str().unwrap()).unwrap().to_owned();
            (file, &path[found.length..])
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    macro_rules! assert_unresolved {
        ($result:expr, $variant:pat) => {
            match $result {
                Err($variant) => {}
                other => panic!("{other:?}"),
            }
        };
    }

    fn owned(file: &str, rest: &'static str) -> (String, &'static str) {
        (file.to_owned(), rest)
    }

    #[test]
    fn the_first_file_on_the_way() {
        let tree = Tree::new("first");
        assert_eq!(tree.file_of("/prog"), owned("/prog", ""));
        assert_eq!(tree.file_of("prog"), owned("/prog", ""));
        assert_eq!(tree.file_of("/prog/"), owned("/prog", "/"));
        assert_eq!(tree.file_of("/prog/a/../b"), owned("/prog", "/a/../b"));
        assert_eq!(tree.file_of("//sub//prog//x"), owned("/sub/prog", "//x"));
        assert_eq!(tree.file_of("/sub/deep/prog"), owned("/sub/deep/prog", ""));
    }

    #[test]
    fn what_is_not_there() {
        let tree = Tree::new("missing");
        let long = "x".repeat(300);
        let far = "/sub".repeat(3000);
        for path in ["", "/", "//", "/none", "/sub", "/sub/", "/sub/none/prog", "/pr\0og", &long, &far] {
            assert_unresolved!(tree.resolve(path), Unresolved::NotFound);
        }
        for path in ["/..", "/../outside/prog", "/sub/../prog", "/./prog", "/.hidden/prog", "/sub/../../outside/prog"] {
            assert_unresolved!(tree.resolve(path), Unresolved::NotFound);
        }
        assert_unresolved!(resolve(b"/no/such/directory", b"/prog", Execution::Own), Unresolved::Failed(_));
        assert_unresolved!(resolve(b"/etc/passwd", b"/prog", Execution::Own), Unresolved::Failed(_));
    }

    #[test]
    fn what_is_no_program() {
        let tree = Tree::new("kinds");
        assert_unresolved!(tree.resolve("/data"), Unresolved::Denied);
        let _socket = std::os::unix::net::UnixListener::bind(tree.0.join("root/socket")).unwrap();
        assert_unresolved!(tree.resolve("/socket"), Unresolved::NotFound);
    }

    #[test]
    fn links_that_stay_inside() {
        let tree = Tree::new("inside");
        tree.link("sub/deep/prog", "root/to-prog");
        tree.link("../../prog", "root/sub/deep/up");
        tree.link("deep", "root/sub/directory");
        tree.link(".", "root/sub/self");
        tree.link("to-prog", "root/twice");
        tree.link("../.hidden/prog", "root/sub/shown");
        assert_eq!(tree.file_of("/to-prog/x"), owned("/sub/deep/prog", "/x"));
        assert_eq!(tree.file_of("/sub/deep/up"), owned("/prog", ""));
        assert_eq!(tree.file_of("/sub/directory/prog/x"), owned("/sub/deep/prog", "/x"));
        assert_eq!(tree.file_of("/sub/directory/up"), owned("/prog", ""));
        assert_eq!(tree.file_of("/sub/self/self/prog"), owned("/sub/prog", ""));
        assert_eq!(tree.file_of("/twice"), owned("/sub/deep/prog", ""));
        assert_eq!(tree.file_of("/sub/shown"), owned("/.hidden/prog", ""));
        let found = tree.resolve("/to-prog").unwrap();
        assert_eq!(found.name, b"prog");
    }

    #[test]
    fn links_that_lead_out() {
        let tree = Tree::new("outside");
        tree.link("../outside/prog", "root/out");
        tree.link("../../outside", "root/sub/out");
        let absolute = tree.0.join("outside/prog");
        tree.link(absolute.to_str().unwrap(), "root/absolute");
        tree.link("out", "root/twice");
        let beside = tree.0.join("root-beside");
        fs::create_dir(&beside).unwrap();
        tree.file("root-beside/prog", 0o755);
        tree.link(beside.to_str().unwrap(), "root/beside");
        tree.link("/", "root/top");
        tree.link("/proc/self/root", "root/magic");
        let magic = format!("/magic{}", absolute.to_str().unwrap());
        let top = format!("/top{}", absolute.to_str().unwrap());
        for path in ["/out", "/sub/out/prog", "/absolute", "/twice", "/beside/prog", &top] {
            assert_unresolved!(tree.resolve(path), Unresolved::Outside);
        }
        assert_unresolved!(tree.resolve(&magic), Unresolved::NotFound);
        tree.link("loop", "root/loop");
        tree.link("nowhere", "root/dangling");
        for path in ["/loop", "/dangling"] {
            assert_unresolved!(tree.resolve(path), Unresolved::NotFound);
        }
    }

    #[test]
    fn absolute_links_that_lead_below() {
        let tree = Tree::new("absolute");
        let at = |path: &str| tree.0.join(path).to_str().unwrap().to_owned();
        tree.link("root", "alias");
        for (target, name) in [
            (at("root/sub/prog"), "root/file"),
            (at("root/sub"), "root/directory"),
            (at("root"), "root/self"),
            (at("alias/sub/deep"), "root/by-alias"),
            (at("root/file"), "root/twice"),
            (at("root/.hidden/prog"), "root/shown"),
            (at("outside/../root/prog"), "root/around"),
            (at("outside/back"), "root/over"),
            (at("root/data"), "root/data-link"),
            (at("root/none"), "root/dangling-absolute"),
        ] {
            tree.link(&target, name);
        }
        tree.link("../root/prog", "outside/back");
        tree.link("../root/prog", "root/relative");
        for (path, file, rest) in [
            ("/file/x", "/sub/prog", "/x"),
            ("/directory/prog/x", "/sub/prog", "/x"),
            ("/directory/deep/prog", "/sub/deep/prog", ""),
            ("/self/self/prog", "/prog", ""),
            ("/by-alias/prog", "/sub/deep/prog", ""),
            ("/twice", "/sub/prog", ""),
            ("/shown", "/.hidden/prog", ""),
            ("/around", "/prog", ""),
            ("/over", "/prog", ""),
            ("/relative", "/prog", ""),
        ] {
            assert_eq!(tree.file_of(path), owned(file, rest), "{path}");
        }
        assert_unresolved!(tree.resolve("/data-link"), Unresolved::Denied);
        assert_unresolved!(tree.resolve("/dangling-absolute"), Unresolved::NotFound);
    }

    #[test]
    fn the_root_itself_may_be_a_link() {
        let tree = Tree::new("root");
        tree.link("root", "alias");
        tree.link("sub/prog", "root/link");
        let root = tree.0.join("alias");
        let found = resolve(root.as_os_str().as_bytes(), b"/link", Execution::Own).unwrap();
        let real = fs::canonicalize(tree.0.join("root/sub/prog")).unwrap();
        assert_eq!(found.path().unwrap(), real.as_os_str().as_bytes());
    }

    #[test]
    fn a_directory_that_is_replaced_afterwards_does_not_matter() {
        let tree = Tree::new("swap");
        let found = tree.resolve("/sub/deep/prog").unwrap();
        fs::rename(tree.0.join("root/sub"), tree.0.join("root/old")).unwrap();
        symlink("../outside", tree.0.join("root/sub")).unwrap();
        assert!(found.path().unwrap().ends_with(b"/root/old/deep/prog"));
    }
}
