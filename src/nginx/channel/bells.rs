//! How workers wake each other: one eventfd for each slot of the zone.
//!
//! The master makes them when it makes the zone, so that every worker that uses the zone, of whatever configuration, has
//! all of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::channel::store::Wake;

/// The bells of one zone.
#[derive(Debug)]
pub struct Bells(Vec<OwnedFd>);

impl Bells {
    /// So many bells.
    ///
    /// # Errors
    ///
    /// The process has no descriptors left.
    pub fn new(count: usize) -> io::Result<Self> {
        let bell = |_| {
            // SAFETY: the call makes a descriptor that nobody else owns.
            unsafe {
                let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
                if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
            }
        };
        (0..count).map(bell).collect::<io::Result<_>>().map(Bells)
    }

    /// Wakes the workers of these slots.
    pub fn ring(&self, wake: Wake) {
        for bell in wake.filter_map(|slot| self.0.get(slot)) {
            // SAFETY: the descriptor is open. The write fails only if the count is at its top: then the worker is woken.
            unsafe { libc::write(bell.as_raw_fd(), (&raw const ONE).cast(), size_of_val(&ONE)) };
        }
    }

    /// The bell of a slot, to watch it.
    pub fn bell(&self, slot: usize) -> Option<BorrowedFd<'_>> {
        self.0.get(slot).map(AsFd::as_fd)
    }
}

static ONE: u64 = 1;
