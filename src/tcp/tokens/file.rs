// SPDX-License-Identifier: Apache-2.0

//! One file of tokens, and when what it says is taken over.
//!
//! A file that is replaced as a whole (rename(2)) can be read at any moment. One that is written where it is can be found empty,
//! or ended in the middle of a line. So a file that has changed less than [`SETTLES_IN`] ago can only add tokens: those
//! that were known stay known until it has rested for that long. A line that no newline ends is not taken over before that,
//! and one that is none even then says that the file is not whole: everything stays as it was.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use super::text::{self, Parsed, Targets};

/// Octets of one file at most.
pub const MAX_SIZE: u64 = 1 << 20;

/// How long a file must have rested to be the whole truth, in milliseconds.
const SETTLES_IN: u64 = 1000;

/// Lines about one file at most that are said at once.
const MAX_COMPLAINTS: usize = 8;

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    fn of(file: &Metadata) -> Self {
        Signature {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// What is known of a file.
#[derive(Debug, Default)]
pub struct TokenFile {
    /// The last good tokens.
    targets: Targets,
    /// What the file was when it was looked at last, and since when it is that.
    seen: Option<(Signature, u64)>,
    /// The file has rested, and is known as a whole.
    is_settled: bool,
    /// What was said last about a failure, so that it is said once.
    failure: Option<String>,
}

impl TokenFile {
    /// The address of a token.
    pub fn target(&self, token: &[u8]) -> Option<&[u8]> {
        self.targets.get(token).map(Vec::as_slice)
    }

    /// Looks whether the file has changed. `now` is in milliseconds of a clock that only goes forward; `report` is told of
    /// what an administrator has to mend.
    pub fn look(&mut self, path: &Path, now: u64, report: &mut dyn FnMut(&str)) {
        match self.read(path, now, report) {
            Ok(()) => self.failure = None,
            Err(error) => {
                let text = format!("\"{}\" cannot be used: {error}", path.display());
                if self.failure.as_ref() != Some(&text) {
                    report(&text);
                    self.failure = Some(text);
                }
            }
        }
    }

    fn read(&mut self, path: &Path, now: u64, report: &mut dyn FnMut(&str)) -> io::Result<()> {
        let found = acceptable(std::fs::metadata(path)?)?;
        let since = match self.seen {
            Some((seen, _)) if seen == found && self.is_settled => return Ok(()),
            Some((seen, since)) if seen == found => since,
            _ => now,
        };
        let is_first = self.seen.is_none();
        let (signature, text) = contents(path)?;
        let rested = signature == found && (now.saturating_sub(since) >= SETTLES_IN || age(&signature) >= SETTLES_IN);
        self.seen = Some((signature, if signature == found { since } else { now }));
        self.is_settled = rested;
        let directory = path.parent().unwrap_or(path).as_os_str().as_encoded_bytes();
        let parsed = text::parse(&text, directory);
        if rested {
            self.replace(path, parsed, report);
        } else {
            self.add(parsed, is_first);
        }
        Ok(())
    }

    /// The file may be in the middle of being written.
    fn add(&mut self, parsed: Parsed, is_first: bool) {
        self.targets.extend(parsed.targets);
        // Nothing that was known can be harmed when there is nothing.
        if let Some(Ok((token, target))) = parsed.tail
            && is_first
        {
            self.targets.insert(token, target);
        }
    }

    /// The file is what it is to be.
    fn replace(&mut self, path: &Path, parsed: Parsed, report: &mut dyn FnMut(&str)) {
        let path = path.display();
        let Parsed { mut targets, malformed, tail } = parsed;
        match tail {
            Some(Ok((token, target))) => {
                targets.insert(token, target);
            }
            Some(Err(_)) => {
                report(&format!("\"{path}\" ends in the middle of a line; what was known before stays"));
                self.targets.extend(targets);
                return;
            }
            None => {}
        }
        for malformed in malformed.iter().take(MAX_COMPLAINTS) {
            report(&format!("\"{path}\", {malformed}"));
        }
        if let Some(more @ 1..) = malformed.len().checked_sub(MAX_COMPLAINTS) {
            report(&format!("\"{path}\": {more} more lines are malformed"));
        }
        self.targets = targets;
    }
}

/// Whether a file is one that can be read as a whole, at once.
fn acceptable(file: Metadata) -> io::Result<Signature> {
    if !file.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if file.size() > MAX_SIZE {
        return Err(io::Error::other(format!("it has more than {MAX_SIZE} octets")));
    }
    Ok(Signature::of(&file))
}

/// The octets of a file, and what it was after they were read.
fn contents(path: &Path) -> io::Result<(Signature, Vec<u8>)> {
    // Should another kind of file have taken its place, opening it does not wait for anybody.
    let mut file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    acceptable(file.metadata()?)?;
    let mut text = Vec::new();
    (&mut file).take(MAX_SIZE + 1).read_to_end(&mut text)?;
    Ok((acceptable(file.metadata()?)?, text))
}

/// How long ago a file was written to, in milliseconds; 0 if that is to come.
fn age(file: &Signature) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let (seconds, nanoseconds) = file.modified;
    let modified = i128::from(seconds) * 1000 + i128::from(nanoseconds) / 1_000_000;
    let age = i128::try_from(now).unwrap_or(i128::MAX) - modified;
    u64::try_from(age).unwrap_or(0)
}
