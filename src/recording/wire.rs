// SPDX-License-Identifier: Apache-2.0

//! What the worker and the process that writes its recordings say to each other: packets, each of which is whole.

use std::ffi::c_int;
use std::fmt;
use std::io;

/// What the worker calls a recording; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordingId(pub u64);

/// Octets of a recording that one packet carries at most.
pub const MOST: usize = 32 << 10;

/// Octets of the longest packet: two paths that the system would take, or a piece of a recording.
pub const LONGEST: usize = MOST + HEAD;

/// Octets before those of the recording.
const HEAD: usize = 9;

/// Octets of a report.
pub const REPORT: usize = 22;

/// What the worker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Make this file below this directory.
    Open {
        /// The full name of the directory.
        directory: &'a [u8],
        /// The path of the file below it.
        path: &'a [u8],
    },
    /// Append these octets.
    Write(&'a [u8]),
    /// That was all.
    Close,
}

const OPEN: u8 = 1;
const WRITE: u8 = 2;
const CLOSE: u8 = 3;

/// Writes a request in place of what is in `packet`.
pub fn write_request(id: RecordingId, request: Request<'_>, packet: &mut Vec<u8>) {
    packet.clear();
    let kind = match request {
        Request::Open { .. } => OPEN,
        Request::Write(_) => WRITE,
        Request::Close => CLOSE,
    };
    packet.push(kind);
    packet.extend_from_slice(&id.0.to_ne_bytes());
    match request {
        Request::Open { directory, path } => {
            packet.extend_from_slice(directory);
            // No path has a NUL in it.
            packet.push(0);
            packet.extend_from_slice(path);
        }
        Request::Write(octets) => packet.extend_from_slice(octets),
        Request::Close => {}
    }
}

/// Reads a request.
pub fn read_request(packet: &[u8]) -> Option<(RecordingId, Request<'_>)> {
    let (kind, rest) = packet.split_first()?;
    let (id, rest) = rest.split_first_chunk()?;
    let request = match *kind {
        OPEN => {
            let end = memchr::memchr(0, rest)?;
            let (directory, path) = (rest.get(..end)?, rest.get(end + 1..)?);
            Request::Open { directory, path }
        }
        WRITE => Request::Write(rest),
        CLOSE => Request::Close,
        _ => return None,
    };
    Some((RecordingId(u64::from_ne_bytes(*id)), request))
}

/// A step of writing a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making the file.
    Open,
    /// Writing to it.
    Write,
}

/// Why a recording is not written any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What was being done.
    pub step: Step,
    /// The error of the system.
    pub errno: c_int,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.step {
            Step::Open if self.errno == libc::EEXIST => "all names with a number behind it are taken, too",
            Step::Open => "the file cannot be made",
            Step::Write => "the file cannot be written",
        })?;
        write!(f, " ({})", io::Error::from_raw_os_error(self.errno))
    }
}

/// What has become of a recording. Nothing follows about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Which one.
    pub id: RecordingId,
    /// Octets of whole lines that are in the file.
    pub written: u64,
    /// Why it has come to an end before the worker said so.
    pub failure: Option<Failure>,
}

/// Writes a report.
pub fn write_report(report: &Report) -> [u8; REPORT] {
    let mut packet = [0; REPORT];
    let (step, errno) = match report.failure {
        None => (0, 0),
        Some(Failure { step: Step::Open, errno }) => (1, errno),
        Some(Failure { step: Step::Write, errno }) => (2, errno),
    };
    packet[0] = step;
    packet[2..6].copy_from_slice(&errno.to_ne_bytes());
    packet[6..14].copy_from_slice(&report.id.0.to_ne_bytes());
    packet[14..].copy_from_slice(&report.written.to_ne_bytes());
    packet
}

/// Reads a report.
pub fn read_report(packet: &[u8]) -> Option<Report> {
    let packet: &[u8; REPORT] = packet.try_into().ok()?;
    let (head, rest) = packet.split_first_chunk::<6>()?;
    let (id, written) = rest.split_first_chunk::<8>()?;
    let [step, _, errno @ ..] = *head;
    let errno = c_int::from_ne_bytes(errno);
    let failure = match step {
        0 => None,
        1 => Some(Failure { step: Step::Open, errno }),
        2 => Some(Failure { step: Step::Write, errno }),
        _ => return None,
    };
    let id = RecordingId(u64::from_ne_bytes(*id));
    Some(Report { id, written: u64::from_ne_bytes(written.try_into().ok()?), failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back() {
        let id = RecordingId(0x0102_0304_0506_0708);
        let mut packet = Vec::new();
        let octets = vec![0; MOST];
        for request in [
            Request::Open { directory: b"/var/rec", path: b"a/b.json" },
            Request::Open { directory: b"", path: b"" },
            Request::Write(b""),
            Request::Write(&octets),
            Request::Close,
        ] {
            write_request(id, request, &mut packet);
            assert!(packet.len() <= LONGEST);
            assert_eq!(read_request(&packet), Some((id, request)));
        }
        for packet in [&b""[..], b"\x01", b"\x03123", b"\x0112345678no NUL", b"\x0912345678"] {
            assert_eq!(read_request(packet), None, "{}", packet.escape_ascii());
        }
    }

    #[test]
    fn reports_come_back() {
        for failure in [
            None,
            Some(Failure { step: Step::Open, errno: libc::EEXIST }),
            Some(Failure { step: Step::Write, errno: libc::ENOSPC }),
        ] {
            let report = Report { id: RecordingId(7), written: 1 << 40, failure };
            assert_eq!(read_report(&write_report(&report)), Some(report));
        }
        assert_eq!(read_report(&[0; REPORT - 1]), None);
        assert_eq!(read_report(&[9; REPORT]), None);
    }
}
