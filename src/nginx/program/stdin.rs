// SPDX-License-Identifier: Apache-2.0

//! A program's standard input.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::Listener;
use crate::nginx::exhaustion::Explained;
use crate::nginx::log::{self, Level};
use crate::nginx::pipe::{Pipe, Written};

/// Our end of the pipe. It takes one of nginx's connections only once it blocks: most never do, and connections are
/// counted.
pub struct Stdin {
    end: End,
    listener: Listener,
}

enum End {
    /// Has always taken what was written.
    Flowing(OwnedFd),
    /// Has blocked at least once: nginx tells when it can be written.
    Watched(Pipe),
    /// Nobody reads any more, or nginx has no connection left for it.
    Closed,
}

impl Stdin {
    /// Our end, which does not block; the listener is told when more can be written.
    pub fn new(fd: OwnedFd, listener: Listener) -> Self {
        Stdin { end: End::Flowing(fd), listener }
    }

    /// Tells another listener from now on.
    pub fn listen(&mut self, listener: Listener) {
        self.listener = listener;
        if let End::Watched(pipe) = &self.end {
            pipe.listen(listener);
        }
    }

    /// Writes once.
    pub fn write(&mut self, octets: &[u8]) -> Written {
        if let End::Flowing(fd) = &self.end {
            match write(fd, octets) {
                Ok(count) => return Written::Octets(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watch(),
                Err(_) => self.end = End::Closed,
            }
        }
        match &mut self.end {
            End::Watched(pipe) => pipe.write(octets),
            End::Flowing(_) | End::Closed => Written::Broken,
        }
    }

    fn watch(&mut self) {
        let End::Flowing(fd) = mem::replace(&mut self.end, End::Closed) else { return };
        let Listener { handler, data, log } = self.listener;
        match Pipe::new(fd, handler, data, log) {
            Ok(pipe) => self.end = End::Watched(pipe),
            Err(error) => {
                log::write(log, Level::Error, format_args!("a program is given no more input: {}", Explained(&error)))
            }
        }
    }

    /// The descriptor, while there is one.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.end {
            End::Flowing(fd) => Some(fd.as_fd()),
            End::Watched(pipe) => Some(pipe.as_fd()),
            End::Closed => None,
        }
    }
}

fn write(fd: &OwnedFd, octets: &[u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the octets are readable for their length. SIGPIPE is ignored by nginx.
        let count = unsafe { libc::write(fd.as_raw_fd(), octets.as_ptr().cast(), octets.len()) };
        match usize::try_from(count) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
