// SPDX-License-Identifier: Apache-2.0

//! The process that writes the recordings of a worker.
//!
//! It does one thing after the other, and waits for the file system as long as that takes; then its socket fills, and the
//! worker loses what it would have sent. A file is only ever appended to, and has whole lines: what cannot be written to the
//! end of a line is cut off again. When the worker is gone, what it has sent is written, and the process ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use super::wire::{self, Failure, RecordingId, Report, Request, Step};
use crate::exec::create::create;

/// A recording that is being written.
struct Recording {
    file: File,
    /// Octets of the file.
    length: u64,
    /// Octets of its whole lines.
    ///
    /// Invariant: not more than `length`.
    whole: u64,
}

/// Serves the worker at the other end of `socket` until it is gone.
///
/// # Errors
///
/// What the system says about the socket.
pub fn serve(socket: OwnedFd) -> io::Result<()> {
    let mut socket = File::from(socket);
    let mut recordings = HashMap::new();
    let mut packet = vec![0; wire::LONGEST];
    loop {
        let length = match socket.read(&mut packet) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The worker has gone without reading all reports. The kernel says that once, and before what the worker has sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => return Err(error),
        };
        let request = packet.get(..length).and_then(wire::read_request);
        let Some((id, request)) = request else { return Err(io::ErrorKind::InvalidData.into()) };
        if let Some(report) = act(&mut recordings, id, request) {
            // A worker that is gone needs no reports, but what it has sent before is still there.
            let _ = socket.write_all(&wire::write_report(&report));
        }
    }
}

/// Does what is requested. What is sent for a recording that has come to an end is dropped.
fn act(recordings: &mut HashMap<RecordingId, Recording>, id: RecordingId, request: Request<'_>) -> Option<Report> {
    match request {
        Request::Open { directory, path } => match create(directory, path) {
            Ok((file, _)) => {
                recordings.insert(id, Recording { file, length: 0, whole: 0 });
                None
            }
            Err(error) => Some(Report { id, written: 0, failure: Some(failure(Step::Open, &error)) }),
        },
        Request::Write(octets) => {
            let error = recordings.get_mut(&id)?.write(octets).err()?;
            let written = recordings.remove(&id)?.end();
            Some(Report { id, written, failure: Some(failure(Step::Write, &error)) })
        }
        Request::Close => Some(Report { id, written: recordings.remove(&id)?.end(), failure: None }),
    }
}

fn failure(step: Step, error: &io::Error) -> Failure {
    Failure { step, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
}

impl Recording {
    /// Appends octets.
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let begin = self.length;
        let mut rest = octets;
        let result = loop {
            if rest.is_empty() {
                break Ok(());
            }
            match self.file.write(rest) {
                Ok(0) => break Err(io::Error::from_raw_os_error(libc::ENOSPC)),
                Ok(count) => {
                    self.length += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let written = &octets[..octets.len() - rest.len()];
        if let Some(newline) = memchr::memrchr(b'\n', written) {
            self.whole = begin + newline as u64 + 1;
        }
        debug_assert!(self.whole <= self.length);
        result
    }

    /// Leaves the file with whole lines only. Returns how many octets these are.
    fn end(&self) -> u64 {
        if self.whole < self.length {
            // A file system that refuses even this is beyond help.
            let _ = self.file.set_len(self.whole);
        }
        self.whole
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::spawner::{Baseline, Role, SideProcess};
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ngx-ws-exec-writer-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn name(&self) -> &[u8] {
            self.0.as_os_str().as_bytes()
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const ID: RecordingId = RecordingId(1);

    #[test]
    fn lines_are_whole_wherever_it_ends() {
        let directory = Directory::new("whole");
        let mut recordings = HashMap::new();
        let open = Request::Open { directory: directory.name(), path: b"x" };
        assert_eq!(act(&mut recordings, ID, open), None);
        for octets in [&b"one\ntw"[..], b"o\nthr", b"ee", b"\nfour\nfi", b"v"] {
            assert_eq!(act(&mut recordings, ID, Request::Write(octets)), None);
        }
        assert_eq!(directory.read("x"), "one\ntwo\nthree\nfour\nfiv");
        // The worker was killed.
        drop(recordings);
        assert_eq!(directory.read("x"), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn a_recording_that_is_closed_is_told_of() {
        let directory = Directory::new("closed");
        let mut recordings = HashMap::new();
        act(&mut recordings, ID, Request::Open { directory: directory.name(), path: b"x" });
        act(&mut recordings, ID, Request::Write(b"line\n"));
        let report = act(&mut recordings, ID, Request::Close);
        assert_eq!(report, Some(Report { id: ID, written: 5, failure: None }));
        assert_eq!(act(&mut recordings, ID, Request::Close), None);
        assert_eq!(act(&mut recordings, ID, Request::Write(b"more\n")), None);
        assert_eq!(directory.read("x"), "line\n");
    }

    #[test]
    fn a_file_that_cannot_be_made_or_written() {
        let directory = Directory::new("failed");
        let mut recordings = HashMap::new();
        let open = Request::Open { directory: directory.name(), path: b"none/x" };
        let report = act(&mut recordings, ID, open).unwrap();
        assert_eq!(report.failure, Some(Failure { step: Step::Open, errno: libc::ENOENT }));
        // A device that is full: what a recording is of it is nothing.
        let file = File::options().write(true).open("/dev/full").unwrap();
        recordings.insert(ID, Recording { file, length: 0, whole: 0 });
        let report = act(&mut recordings, ID, Request::Write(b"line\n")).unwrap();
        assert_eq!(report.failure, Some(Failure { step: Step::Write, errno: libc::ENOSPC }));
        assert_eq!(report.written, 0);
        assert!(recordings.is_empty());
    }

    #[test]
    fn the_worker_is_served_until_it_is_gone() {
        let directory = Directory::new("served");
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut packet = Vec::new();
        wire::write_request(ID, Request::Open { directory: directory.name(), path: b"x" }, &mut packet);
        ours.send(&packet).unwrap();
        wire::write_request(ID, Request::Write(b"line\nhal"), &mut packet);
        ours.send(&packet).unwrap();
        // An empty packet is read as the end is.
        ours.send(b"").unwrap();
        serve(OwnedFd::from(theirs)).unwrap();
        assert_eq!(directory.read("x"), "line\n");
    }

    #[cfg(not(miri))]
    #[test]
    fn what_a_worker_has_sent_is_written_although_it_has_not_read_all_reports() {
        let directory = Directory::new("unread");
        let (report, go_on) = (directory.0.join("reported"), directory.0.join("go-on"));
        let process = SideProcess::launch(
            Role::Recorder,
            &Baseline::capture(),
            |_| {},
            |socket| {
                let report_of_another = wire::write_report(&Report { id: RecordingId(9), written: 0, failure: None });
                File::from(socket.try_clone()?).write_all(&report_of_another)?;
                fs::write(&report, "")?;
                until(|| go_on.exists());
                serve(socket)
            },
        )
        .unwrap();
        until(|| report.exists());
        let mut packet = Vec::new();
        wire::write_request(ID, Request::Open { directory: directory.name(), path: b"x" }, &mut packet);
        assert!(process.send(&packet).unwrap());
        wire::write_request(ID, Request::Write(b"line\nhal"), &mut packet);
        assert!(process.send(&packet).unwrap());
        // The worker is gone.
        drop(process);
        fs::write(&go_on, "").unwrap();
        until(|| fs::read_to_string(directory.0.join("x")).is_ok_and(|text| text == "line\n"));
    }

    #[cfg(not(miri))]
    fn until(look: impl Fn() -> bool) {
        let begin = std::time::Instant::now();
        while !look() {
            assert!(begin.elapsed() < std::time::Duration::from_secs(10), "it takes too long");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
