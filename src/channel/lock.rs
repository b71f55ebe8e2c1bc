// SPDX-License-Identifier: Apache-2.0

//! The lock of a zone, supplied by whoever owns the memory.

/// Mutual exclusion between all processes that use a zone.
///
/// A holder may be killed at any instruction; somebody else then releases the lock in its name (nginx's master does so
/// for the mutex of a shared memory zone, or whoever waits for it where the master is gone), and those who wait need nobody
/// who wakes them. What the holder left half done is repaired by the zone itself, so an implementation needs to be nothing
/// more than exclusion. Taking the lock makes everything visible that was written before it was released.
pub trait Lock {
    /// Waits for the lock and takes it.
    fn lock(&self);

    /// Gives it back. Only called by the holder.
    fn unlock(&self);
}

impl<L: Lock + ?Sized> Lock for &L {
    fn lock(&self) {
        (**self).lock();
    }

    fn unlock(&self) {
        (**self).unlock();
    }
}

/// No lock: for a zone that only one thread uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unshared;

impl Lock for Unshared {
    fn lock(&self) {}

    fn unlock(&self) {}
}
