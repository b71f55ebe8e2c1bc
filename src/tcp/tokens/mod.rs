// SPDX-License-Identifier: Apache-2.0

//! Tokens of clients and the addresses that belong to them, in a file or a directory that may change at any time
//! (`websocket_tcp_tokens`).
//!
//! Whoever asks for a token says what time it is, and files are looked at if that was not done during the last second:
//! a stat(2) for each of them, and a read of those that have changed. A token is looked for in what was read, and is never made
//! a part of a path. Without a regular file, or a directory, everything that was known stays.

mod file;
#[cfg(test)]
mod tests;
pub mod text;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ffi::OsString;
use std::fs::FileType;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

pub use text::argument;

use file::{MAX_SIZE, TokenFile};

/// How often files are looked at, in milliseconds.
const INTERVAL: u64 = 1000;

/// Files and sockets of a directory at most.
const MAX_NAMES: usize = 1024;

/// Octets of all files of a directory at most.
const MAX_TOTAL: u64 = 4 * MAX_SIZE;

/// The tokens of one directive, as one worker knows them.
pub struct Tokens {
    path: PathBuf,
    known: RefCell<Known>,
}

/// What was read.
#[derive(Default)]
struct Known {
    /// When files were looked at last.
    looked: Option<u64>,
    /// The file itself, with an empty name; or the files of the directory. Of several files about one token the last by
    /// name counts.
    files: BTreeMap<OsString, TokenFile>,
    /// Sockets of the directory by their names, which are their tokens, with their addresses.
    sockets: BTreeMap<OsString, Vec<u8>>,
    /// What was said last about the directory, so that it is said once.
    failure: Option<String>,
}

impl Tokens {
    /// The tokens of a file or a directory. Nothing is read before the first question.
    pub fn new(path: &[u8]) -> Self {
        Tokens { path: PathBuf::from(std::ffi::OsStr::from_bytes(path)), known: RefCell::default() }
    }

    /// The address that belongs to a token, `host:port` or `unix:/path`. `now` is in milliseconds of a clock that only goes
    /// forward; `report` is told of what an administrator has to mend.
    pub fn target(&self, token: &[u8], now: u64, report: &mut dyn FnMut(&str)) -> Option<Vec<u8>> {
        let mut known = self.known.borrow_mut();
        if known.looked.is_none_or(|looked| now.saturating_sub(looked) >= INTERVAL) {
            known.looked = Some(now);
            known.look(&self.path, now, report);
        }
        let in_files = known.files.values().rev().find_map(|file| file.target(token)).map(<[u8]>::to_vec);
        in_files.or_else(|| known.sockets.get(std::ffi::OsStr::from_bytes(token)).cloned())
    }
}

impl Known {
    fn look(&mut self, path: &Path, now: u64, report: &mut dyn FnMut(&str)) {
        // A path with a slash at its end is a directory, and an error if it is not.
        let says_directory = path.as_os_str().as_bytes().ends_with(b"/");
        if !says_directory && !std::fs::metadata(path).is_ok_and(|file| file.is_dir()) {
            self.files.entry(OsString::new()).or_default().look(path, now, report);
            return;
        }
        match list(path) {
            Ok(listed) => {
                self.failure = None;
                self.sockets = listed.sockets;
                self.files.retain(|name, _| listed.files.contains(name));
                for name in listed.files {
                    let path = path.join(&name);
                    match self.files.entry(name) {
                        Entry::Occupied(mut present) => present.get_mut().look(&path, now, report),
                        Entry::Vacant(place) => place.insert(TokenFile::default()).look(&path, now, report),
                    }
                }
            }
            Err(error) => {
                let text = format!("\"{}\" cannot be used: {error}", path.display());
                if self.failure.as_ref() != Some(&text) {
                    report(&text);
                    self.failure = Some(text);
                }
            }
        }
    }
}

/// What a directory has.
#[derive(Default)]
struct Listed {
    files: BTreeSet<OsString>,
    sockets: BTreeMap<OsString, Vec<u8>>,
}

/// Reads a directory. Names that begin with a dot are left out, and so is everything that is neither a file nor a socket. A link
/// may lead to a file; a socket is one that is in the directory itself.
fn list(path: &Path) -> io::Result<Listed> {
    let mut listed = Listed::default();
    let mut total = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        if listed.files.len() + listed.sockets.len() >= MAX_NAMES {
            return Err(io::Error::other(format!("it has more than {MAX_NAMES} files")));
        }
        let kind: FileType = match entry.file_type() {
            Ok(kind) => kind,
            // Gone by now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let path = path.join(&name);
        if kind.is_socket() {
            if let Ok(address) = text::socket_address(path.as_os_str().as_bytes()) {
                listed.sockets.insert(name, address);
            }
        } else if let Ok(file) = std::fs::metadata(&path)
            && file.is_file()
        {
            total += file.len();
            listed.files.insert(name);
        }
    }
    if total > MAX_TOTAL {
        return Err(io::Error::other(format!("its files have more than {MAX_TOTAL} octets")));
    }
    Ok(listed)
}
