// SPDX-License-Identifier: Apache-2.0

//! Somebody who has left a channel and may come back.

use crate::channel::memory::{Wide, Word, shared};

shared! {
    /// A place for one who has left.
    pub struct Departed {
        /// The next place in the same bucket, or on the free list.
        next: Word,
        /// Slot + 1 of the worker that is to tell of it; 0 while the place is free.
        slot: Word,
        /// The slot's generation when this was written.
        generation: Word,
        /// A word that is not used.
        spare: Word,
        /// Who it is, see [`super::super::departed::Member`].
        hash: [Wide; 2],
    }
}
