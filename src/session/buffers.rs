// SPDX-License-Identifier: Apache-2.0

//! Memory that the connections of a worker lend each other.
//!
//! Almost all of them wait at any time. Each uses these buffers for a turn and keeps only what the other side does not
//! take, so that a connection that waits costs next to nothing.

use std::cell::RefCell;
use std::mem;

use crate::ws::scratch::Scratch;

/// Octets that one read brings at most, and the room for a turn's frames.
pub const BUFFER: usize = 128 << 10;

/// Buffers that are kept for the next turn. More are only out while clients do not read.
const SPARE: usize = 4;

#[derive(Default)]
struct Buffers {
    reading: Vec<u8>,
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
pub fn take_reading() -> Vec<u8> {
    let mut buffer = BUFFERS.with_borrow_mut(|buffers| mem::take(&mut buffers.reading));
    buffer.resize(BUFFER, 0);
    buffer
}

/// Puts the reading buffer back.
pub fn put_reading(buffer: Vec<u8>) {
    BUFFERS.with_borrow_mut(|buffers| buffers.reading = buffer);
}

/// Working memory of the protocol; put back after use.
pub fn take_scratch() -> Box<Scratch> {
    BUFFERS.with_borrow_mut(|buffers| buffers.scratch.take()).unwrap_or_default()
}

/// Puts the working memory back.
pub fn put_scratch(scratch: Box<Scratch>) {
    BUFFERS.with_borrow_mut(|buffers| buffers.scratch = Some(scratch));
}
