// SPDX-License-Identifier: Apache-2.0

//! What is short for a while: descriptors, connections of nginx, processes, memory.
//!
//! A request that fails for such a reason is answered 503, and the log says what is short and how there is more of it; any
//! other reason is a mistake, and 500.

use std::fmt;
use std::io;

use super::ffi;
use crate::exec::spawner::is_exhaustion;

/// All connections that nginx may have are in use, which has nothing to do with descriptors.
#[derive(Debug)]
struct NoConnection;

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: ngx_cycle is set before requests are served.
        let most = unsafe { (*ffi::ngx_cycle).connection_n };
        write!(f, "all {most} connections of the worker are in use (raise \"worker_connections\"")?;
        write!(f, "; a program takes up to four, a service two)")
    }
}

impl std::error::Error for NoConnection {}

/// nginx has no connection for a descriptor.
pub fn no_connection() -> io::Error {
    io::Error::other(NoConnection)
}

/// Whether this is expected to pass.
pub fn passes(error: &io::Error) -> bool {
    match error.raw_os_error() {
        // The two that are said of a spawner that has died; another one is started.
        Some(libc::EPIPE | libc::ECONNRESET) => true,
        Some(errno) => is_exhaustion(errno),
        None => error.get_ref().is_some_and(|inner| inner.is::<NoConnection>()),
    }
}

/// An error for the log, with what can be done about it.
pub struct Explained<'a>(pub &'a io::Error);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.raw_os_error() {
            Some(libc::EMFILE) => {
                let most = open_files();
                write!(f, ": the worker may have {most} (raise \"worker_rlimit_nofile\", or RLIMIT_NOFILE)")
            }
            Some(libc::ENFILE) => f.write_str(": the system may have no more (raise fs.file-max)"),
            Some(libc::ENOSPC) => f.write_str(": the system may have no more terminals (raise kernel.pty.max)"),
            _ => Ok(()),
        }
    }
}

/// The limit of descriptors of this process.
fn open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes to the struct, which is ours.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur
}

/// Connections of a worker, out of so many, that are left to clients when programs are started ahead of them.
pub const fn reserve(connections: u64) -> u64 {
    connections / 8
}

/// Whether no more connections are free than those that are left to clients.
pub fn is_near() -> bool {
    // SAFETY: ngx_cycle is set before workers begin.
    let (free, all) = unsafe { ((*ffi::ngx_cycle).free_connection_n, (*ffi::ngx_cycle).connection_n) };
    free as u64 <= reserve(all as u64)
}

/// What is short, after nginx could not make a connection and has not said why; nothing if it was something else.
pub fn of_connections() -> Option<io::Error> {
    // SAFETY: ngx_cycle is set before requests are served; a duplicate of a descriptor is closed again.
    unsafe {
        if (*ffi::ngx_cycle).free_connection_n == 0 {
            return Some(no_connection());
        }
        let probe = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if probe < 0 {
            return Some(io::Error::last_os_error()).filter(passes);
        }
        libc::close(probe);
    }
    None
}
