// SPDX-License-Identifier: Apache-2.0

//! permessage-deflate (RFC 7692).
//!
//! Nothing is allocated before the first compressed message. Compressors and inflaters belong to the worker; a connection
//! borrows one for a message, and gives it the last octets of the messages before as a dictionary where they may be
//! referred to. Only with [`Context::Dedicated`] has each connection its own.

mod compressor;
mod history;
mod inflater;
mod offer;
mod pool;

pub(super) use compressor::Compressor;
pub(super) use history::History;
pub(super) use inflater::{End, Inflater};
pub use offer::{Agreed, negotiate};
pub(super) use pool::Pool;

use super::scratch::Scratch;

/// The smallest window that a raw deflate stream can have here; 8 exists in the protocol, but no compressor keeps to it.
pub const MIN_WINDOW: u8 = 9;
/// The largest window.
pub const MAX_WINDOW: u8 = 15;

/// What a message may refer to of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Nothing.
    Off,
    /// The last 4 KiB of ours, and as much of the client's as its window has, which is 4 KiB too where it can be asked for.
    History,
    /// All that the window holds, by a compressor and an inflater of the connection's own: it saves the time that the
    /// dictionary takes, and costs about 300 kB.
    Dedicated,
}

/// What a location wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// The base-2 logarithm of the window of either side, [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub window: u8,
    /// Octets below which a message goes out uncompressed.
    pub min_size: u64,
    /// What a message may refer to of those before it.
    pub context: Context,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: 2, window: MAX_WINDOW, min_size: 256, context: Context::History }
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
    let mut compressor = scratch.pool.compressor(level, window, &[]);
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
