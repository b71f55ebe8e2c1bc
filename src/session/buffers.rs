// SPDX-License-Identifier: Apache-2.0

//! Memory that the connections of a worker lend each other.
//!
//! Almost all of them wait at any time. Each uses these buffers for a turn and keeps only what the other side does not
//! take, so that a connection that waits costs next to nothing.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::ws::scratch::Scratch;

/// Octets that one read brings at most, and the room for a turn's frames.
pub const BUFFER: usize = 128 << 10;

/// Buffers that are kept for the next turn. More are only out while clients do not read.
const SPARE: usize = 4;

/// What the system copies to is to begin at a multiple of this. Some processors (Zen 3) copy at a third of their speed to a
/// place that is 1 to 31 octets further into its page than the source into its own, and the octets of a pipe begin with a
/// page, as nearly does memory that the allocator has from the system.
pub const ALIGNMENT: usize = 64;

/// The buffer that is read into: [`BUFFER`] octets that begin at a multiple of [`ALIGNMENT`].
pub struct Reading {
    octets: Vec<u8>,
    begin: usize,
}

impl Reading {
    fn new() -> Self {
        let octets = vec![0; BUFFER + ALIGNMENT];
        let begin = before_aligned(octets.as_ptr(), 0);
        Self { octets, begin }
    }
}

impl Deref for Reading {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets[self.begin..self.begin + BUFFER]
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.octets[self.begin..self.begin + BUFFER]
    }
}

/// Octets that are missing from `offset` octets behind `place` to the next multiple of [`ALIGNMENT`].
pub fn before_aligned(place: *const u8, offset: usize) -> usize {
    place.addr().wrapping_add(offset).wrapping_neg() % ALIGNMENT
}

#[derive(Default)]
struct Buffers {
    reading: Option<Reading>,
    spare: Vec<Vec<u8>>,
    scratch: Option<Box<Scratch>>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// A buffer without content and with room for [`BUFFER`] octets.
pub fn lend() -> Vec<u8> {
    BUFFERS.with_borrow_mut(|buffers| buffers.spare.pop()).unwrap_or_else(|| Vec::with_capacity(BUFFER))
}

/// Gives a buffer back; one that has grown beyond its size is let go.
pub fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    BUFFERS.with_borrow_mut(|buffers| {
        let usual = (BUFFER..=2 * BUFFER).contains(&buffer.capacity());
        if usual && buffers.spare.len() < SPARE {
            buffers.spare.push(buffer);
        }
    });
}

/// The buffer that connections and pipes are read into; put back after use.
pub fn take_reading() -> Reading {
    BUFFERS.with_borrow_mut(|buffers| buffers.reading.take()).unwrap_or_else(Reading::new)
}

/// Puts the reading buffer back.
pub fn put_reading(buffer: Reading) {
    BUFFERS.with_borrow_mut(|buffers| buffers.reading = Some(buffer));
}

/// Working memory of the protocol; put back after use.
pub fn take_scratch() -> Box<Scratch> {
    BUFFERS.with_borrow_mut(|buffers| buffers.scratch.take()).unwrap_or_default()
}

/// Puts the working memory back.
pub fn put_scratch(scratch: Box<Scratch>) {
    BUFFERS.with_borrow_mut(|buffers| buffers.scratch = Some(scratch));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_into_is_aligned_and_stays_where_it_is() {
        let first = take_reading();
        let place = first.as_ptr();
        assert_eq!((place.addr() % ALIGNMENT, first.len()), (0, BUFFER));
        put_reading(first);
        let second = take_reading();
        assert_eq!((second.as_ptr(), second.len()), (place, BUFFER));
    }

    #[test]
    fn one_that_is_out_does_not_keep_another_from_being_taken() {
        let (first, second) = (take_reading(), take_reading());
        assert_ne!(first.as_ptr(), second.as_ptr());
        assert_eq!(second.as_ptr().addr() % ALIGNMENT, 0);
    }

    #[test]
    fn what_is_missing_to_the_next_multiple() {
        for (place, offset, missing) in
            [(0, 0, 0), (0, 10, 54), (16, 10, 38), (16, 48, 0), (63, 0, 1), (63, 1, 0), (63, 2, 63)]
        {
            let place = std::ptr::without_provenance(0x1000 + place);
            assert_eq!(before_aligned(place, offset), missing, "{place:?} {offset}");
        }
    }
}
