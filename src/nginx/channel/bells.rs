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

/// How many there are.
const BELLS: usize = 128;

/// The bells of one zone.
#[derive(Debug)]
pub struct Bells(Vec<OwnedFd>);

impl Bells {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// The process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let bell = |_| {
            // SAFETY: the call makes a descriptor that nobody else owns.
            unsafe {
                let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
                if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
            }
        };
        (0..BELLS).map(bell).collect::<io::Result<_>>().map(Bells)
    }

    /// Wakes the workers of these slots.
    pub fn ring(&self, wake: Wake) {
        for bell in wake.filter_map(|slot| self.0.get(slot % BELLS)) {
            // SAFETY: the descriptor is open. The write fails only if the count is at its top: then the worker is woken.
            unsafe { libc::write(bell.as_raw_fd(), (&raw const ONE).cast(), size_of_val(&ONE)) };
        }
    }

    /// The bell of a slot, to watch it.
    pub fn bell(&self, slot: usize) -> Option<BorrowedFd<'_>> {
        self.0.get(slot % BELLS).map(AsFd::as_fd)
    }
}

static ONE: u64 = 1;
