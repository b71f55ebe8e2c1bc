// SPDX-License-Identifier: Apache-2.0

//! How workers wake each other: eventfds, which the slots of the zone share.
//!
//! The master makes them when it makes the zone, so that every worker that uses the zone, of whatever configuration, has
//! all of them. Descriptors are dearer than slots, so there are fewer: beyond that many workers some are woken together, and
//! those that have no news go back to sleep. A descriptor is only watched, edge-triggered, and never read, so that one
//! worker does not take the news away from another.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::channel::store::Wake;

/// How many descriptors a zone has.
const WAKEUPS: usize = 128;

/// The eventfds of one zone.
#[derive(Debug)]
pub struct Wakeups(Vec<OwnedFd>);

impl Wakeups {
    /// Makes the descriptors.
    ///
    /// # Errors
    ///
    /// The process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let eventfd = |_| {
            // SAFETY: the call makes a descriptor that nobody else owns.
            unsafe {
                let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
                if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
            }
        };
        (0..WAKEUPS).map(eventfd).collect::<io::Result<_>>().map(Wakeups)
    }

    /// Wakes the workers of these slots.
    pub fn wake(&self, wake: Wake) {
        for eventfd in wake.filter_map(|slot| self.0.get(slot % WAKEUPS)) {
            // SAFETY: the descriptor is open. The write fails only if the count is at its top: then the worker is woken.
            unsafe { libc::write(eventfd.as_raw_fd(), (&raw const ONE).cast(), size_of_val(&ONE)) };
        }
    }

    /// The eventfd that wakes the worker of a slot, to watch it.
    pub fn of_slot(&self, slot: usize) -> Option<BorrowedFd<'_>> {
        self.0.get(slot % WAKEUPS).map(AsFd::as_fd)
    }
}

static ONE: u64 = 1;
