// SPDX-License-Identifier: Apache-2.0

//! Compression of messages (RFC 7692, section 7.2.1).

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status};

use super::NoMemory;

/// What a sync flush ends with, and a compressed message does not.
const TAIL: usize = 4;
/// Octets by which the output grows.
const STEP: usize = 16 * 1024;

/// A compressor of one level and one window.
pub(in crate::ws) struct Compressor {
    deflate: Deflate,
    level: u8,
    window: u8,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("level", &self.level).field("window", &self.window).finish_non_exhaustive()
    }
}

impl Compressor {
    pub(in crate::ws) fn new(level: u8, window: u8) -> Self {
        let deflate = Deflate::new_with_config(DeflateConfig {
            level: level.into(),
            // Negative: without header and checksum.
            window_bits: -i32::from(window),
            // 2048 symbols in a block: measured as fast and as small as the default 16384, with 100 kB less.
            mem_level: 5,
            ..DeflateConfig::default()
        });
        Self { deflate, level, window }
    }

    pub(super) fn is(&self, level: u8, window: u8) -> bool {
        (self.level, self.window) == (level, window)
    }

    /// Forgets what was compressed before.
    pub(super) fn reset(&mut self) {
        self.deflate.reset();
    }

    /// Lets the next message refer to these octets, which the other side has seen last. For a compressor that is new or
    /// reset.
    pub(super) fn refer_to(&mut self, history: &[u8]) {
        if !history.is_empty() {
            // An error says that a stream is under way, or is no raw one. Without the octets all is right as well.
            let _ = self.deflate.set_dictionary(history);
        }
    }

    /// Compresses a piece of a message and appends what comes out; `last` ends the message.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]; the compressor must not be used again.
    pub(in crate::ws) fn compress(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), NoMemory> {
        let flush = if last { DeflateFlush::SyncFlush } else { DeflateFlush::NoFlush };
        let begin = out.len();
        let mut rest = piece;
        loop {
            let start = out.len();
            out.try_reserve(STEP).map_err(|_| NoMemory)?;
            out.resize(start + STEP, 0);
            let (before_in, before_out) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.compress(rest, out.get_mut(start..).unwrap_or_default(), flush);
            let used = difference(self.deflate.total_in(), before_in);
            let made = difference(self.deflate.total_out(), before_out);
            rest = rest.get(used..).unwrap_or_default();
            out.truncate(start + made);
            match status {
                // All of the input is taken, and room is left: nothing waits inside.
                Ok(_) if rest.is_empty() && made < STEP => break,
                Ok(Status::Ok) => {}
                // Nothing was left to do.
                Ok(Status::BufError | Status::StreamEnd) => break,
                Err(_) => return Err(NoMemory),
            }
        }
        if last {
            match (out.len() - begin).checked_sub(TAIL) {
                Some(len) => out.truncate(begin + len),
                None => {
                    // An empty message right after another one, where there was nothing to flush: the empty block
                    // without its tail (RFC 7692, section 7.2.3.6).
                    out.truncate(begin);
                    out.push(0x00);
                }
            }
        }
        Ok(())
    }
}

/// How far a counter moved within one call.
pub(super) fn difference(now: u64, before: u64) -> usize {
    usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX)
}
