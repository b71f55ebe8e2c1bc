// SPDX-License-Identifier: Apache-2.0

//! What the other side of a connection has taken of what was sent to it, as the system knows it.
//!
//! The kernel may hold megabytes for a connection. That they become fewer is the only sign of life of a peer that reads all
//! the time over a slow line and has nothing to say; that they do not, though the kernel has some, is that of one that is
//! gone or does not read.

use super::ffi;
use crate::ws::timing::Look;

/// What was known of a connection when it was looked at last.
#[derive(Debug, Default)]
pub struct Uptake {
    /// Octets that were given to the kernel until then.
    sent: i64,
    /// Octets that the kernel still had then.
    queued: usize,
}

/// Octets that the kernel has for the other side: not acknowledged (TCP), or not read (unix).
pub fn queued(connection: *mut ffi::ngx_connection_t) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the caller owns the connection, or a request that has it is alive; the system writes one number.
    let asked = unsafe { libc::ioctl((*connection).fd, libc::TIOCOUTQ, &raw mut count) };
    if asked == -1 { 0 } else { usize::try_from(count).unwrap_or(0) }
}

impl Uptake {
    /// Looks what has changed since the last time. With TLS the kernel has a little more than was sent, so that little may
    /// be taken unseen while much is sent.
    pub fn look(&mut self, connection: *mut ffi::ngx_connection_t) -> Look {
        let queued = queued(connection);
        // SAFETY: the caller owns the connection, or a request that has it is alive.
        let sent = unsafe { (*connection).sent };
        let since = usize::try_from(sent - self.sent).unwrap_or(0);
        let taken = self.queued.saturating_add(since) > queued;
        *self = Uptake { sent, queued };
        Look { taken, all: queued == 0 }
    }
}
