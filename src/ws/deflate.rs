// SPDX-License-Identifier: Apache-2.0

//! permessage-deflate (RFC 7692).
//!
//! Nothing is allocated before the first compressed message. Where a side agreed to forget its context after each
//! message, the compressor or inflater of that side is borrowed from the worker for one message and given back.

mod compressor;
mod inflater;
mod offer;
mod pool;

pub(super) use compressor::Compressor;
pub(super) use inflater::{End, Inflater};
pub use offer::{Agreed, negotiate};
pub(super) use pool::Pool;

use super::scratch::Scratch;

/// The smallest window that a raw deflate stream can have here; 8 exists in the protocol, but no compressor keeps to it.
pub const MIN_WINDOW: u8 = 9;
/// The largest window.
pub const MAX_WINDOW: u8 = 15;

/// What a location wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// The base-2 logarithm of the window of either side, [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub window: u8,
    /// Octets below which a message goes out uncompressed.
    pub min_size: u64,
    /// Whether a message may refer to the ones before it.
    pub context: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: 1, window: MAX_WINDOW, min_size: 256, context: true }
    }
}

/// The data cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Corrupt;

/// There is no memory to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

impl std::fmt::Display for NoMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("out of memory")
    }
}

impl std::error::Error for NoMemory {}

/// Compresses a message for any number of connections: for the payload of frames with RSV1 on the first.
///
/// It refers to nothing but itself, so a connection whose window is at least `window` can take it at any time,
/// whatever it was sent before; see [`Connection::ready_made`](super::Connection::ready_made). `None` if it does not
/// get smaller.
///
/// # Errors
///
/// [`NoMemory`].
pub fn compress_message(
    payload: &[u8],
    level: u8,
    window: u8,
    scratch: &mut Scratch,
) -> Result<Option<Vec<u8>>, NoMemory> {
    let mut compressor = scratch.pool.compressor(level, window);
    let mut out = Vec::new();
    let compressed = compressor.compress(payload, true, &mut out);
    scratch.pool.keep_compressor(compressor);
    compressed?;
    Ok((out.len() < payload.len()).then_some(out))
}

/// Inflates what [`compress_message`] has made, for those who want to know what it was. `None` for anything else.
pub fn inflate_message(compressed: &[u8]) -> Option<Vec<u8>> {
    let mut inflater = Inflater::new();
    let mut piece = vec![0; INFLATED_AT_ONCE];
    let (mut message, mut taken) = (Vec::new(), 0);
    loop {
        let mut made = 0;
        taken += inflater.push(compressed.get(taken..).unwrap_or_default(), &mut piece, &mut made).ok()?;
        let is_done = taken == compressed.len() && inflater.finish(&mut piece, &mut made).ok()? == End::Done;
        message.extend_from_slice(piece.get(..made).unwrap_or_default());
        if is_done {
            return Some(message);
        }
    }
}

/// Octets that are inflated at once where nobody waits.
const INFLATED_AT_ONCE: usize = 32 << 10;
