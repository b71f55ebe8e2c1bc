// SPDX-License-Identifier: Apache-2.0

//! What the connections of one worker share.

use super::deflate::Pool;

/// Octets that one piece of an inflated message has at most, but for the last octets of the input.
pub(super) const INFLATED: usize = 32 * 1024;
/// Room for what the last octets of the input inflate to: less than 64 bits that wait in the inflater, and the four
/// octets that end a message. A code of at least two bits makes at most 258 octets, so this is more than enough.
const SPARE: usize = 16 * 1024;
/// Above this, memory for a compressed message is not kept.
const KEPT: usize = 256 * 1024;

/// Working memory for one call at a time, shared by all connections of a worker.
///
/// What an event borrows from it is gone with the next call for any connection.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The reason of the last Close.
    reason: String,
    /// The last piece of an inflated message.
    pub(super) inflated: Vec<u8>,
    /// A compressed message on its way into frames.
    compressed: Vec<u8>,
    pub(super) pool: Pool,
}

impl Scratch {
    /// Allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies a reason, so that it can be handed out.
    pub(super) fn keep_reason(&mut self, reason: &str) -> &str {
        self.reason.clear();
        self.reason.push_str(reason);
        &self.reason
    }

    /// Makes room for a piece of an inflated message.
    pub(super) fn make_inflated(&mut self) {
        if self.inflated.is_empty() {
            self.inflated = vec![0; INFLATED + SPARE];
        }
    }

    /// Memory for a compressed message; [`put_compressed`](Self::put_compressed) gives it back.
    pub(super) fn take_compressed(&mut self) -> Vec<u8> {
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.clear();
        compressed
    }

    pub(super) fn put_compressed(&mut self, compressed: Vec<u8>) {
        if compressed.capacity() <= KEPT {
            self.compressed = compressed;
        }
    }
}
