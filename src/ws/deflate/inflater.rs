// SPDX-License-Identifier: Apache-2.0

//! Inflation of messages (RFC 7692, section 7.2.2).

use zlib_rs::{Inflate, InflateFlush, Status};

use super::compressor::difference;
use super::{Corrupt, MAX_WINDOW};

/// What is appended to a message before it is inflated, and one octet more, which must be left over: a stream that
/// takes it did not end where the message did.
const TAIL: [u8; 5] = [0x00, 0x00, 0xFF, 0xFF, 0x00];
/// The part of it that belongs to the message.
const TAIL_LEN: u8 = 4;

/// Whether a message is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ws) enum End {
    /// Everything came out.
    Done,
    /// There may be more; the output was full.
    More,
}

/// Inflates messages of a client, with a window of the largest size.
pub(in crate::ws) struct Inflater {
    inflate: Inflate,
    /// Octets of the current message were taken.
    fed: bool,
    /// A final block ended; what follows is a new stream (RFC 7692, section 7.2.3.4).
    ended: bool,
    /// Octets of [`TAIL`] that were taken.
    tail: u8,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("fed", &self.fed).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Inflater {
    pub(in crate::ws) fn new() -> Self {
        Self { inflate: Inflate::new(false, MAX_WINDOW), fed: false, ended: false, tail: 0 }
    }

    /// Forgets all that was inflated before.
    pub(super) fn reset(&mut self) {
        self.inflate.reset(false);
        (self.fed, self.ended, self.tail) = (false, false, 0);
    }

    /// Lets the next message refer to these octets, which came out last. For an inflater that is new or reset.
    pub(super) fn refer_to(&mut self, history: &[u8]) {
        if !history.is_empty() {
            // Only a stream with a header can refuse them. Data that refers to what is not known is corrupt.
            let _ = self.inflate.set_dictionary(history);
        }
    }

    /// Inflates a piece of a message and returns how much of it was taken; unless the output is full, all of it was.
    /// `made` counts the octets that came out, also those before an error.
    pub(in crate::ws) fn push(&mut self, piece: &[u8], out: &mut [u8], made: &mut usize) -> Result<usize, Corrupt> {
        let mut taken = 0;
        while taken < piece.len() && *made < out.len() {
            if self.ended {
                self.inflate.reset(false);
                self.ended = false;
            }
            self.fed = true;
            let input = piece.get(taken..).unwrap_or_default();
            let output = out.get_mut(*made..).unwrap_or_default();
            let (used, came, status) = self.step(input, output, InflateFlush::SyncFlush);
            taken += used;
            *made += came;
            match status? {
                Status::StreamEnd => self.ended = true,
                Status::Ok | Status::BufError if used == 0 && came == 0 => return Err(Corrupt),
                Status::Ok | Status::BufError => {}
            }
        }
        Ok(taken)
    }

    /// The message is over: inflates what is left of it. Called again until it is done.
    pub(in crate::ws) fn finish(&mut self, out: &mut [u8], made: &mut usize) -> Result<End, Corrupt> {
        if !self.fed {
            return Ok(End::Done);
        }
        let mut idle = false;
        while !self.ended {
            if *made == out.len() {
                return Ok(End::More);
            }
            let input = TAIL.get(self.tail.into()..).unwrap_or_default();
            let output = out.get_mut(*made..).unwrap_or_default();
            let room = output.len();
            // "Block" stops between two blocks, and so before the octet too many.
            let (used, came, status) = self.step(input, output, InflateFlush::Block);
            self.tail = self.tail.saturating_add(u8::try_from(used).unwrap_or(u8::MAX));
            *made += came;
            let status = status?;
            if self.tail > TAIL_LEN || (status == Status::StreamEnd && self.tail < TAIL_LEN) {
                return Err(Corrupt);
            }
            if status == Status::StreamEnd {
                self.ended = true;
            } else if self.tail == TAIL_LEN && came < room {
                break;
            }
            // It may stop once where it is, between two blocks, but not twice.
            if used == 0 && came == 0 && std::mem::replace(&mut idle, true) {
                return Err(Corrupt);
            }
        }
        if self.ended {
            self.inflate.reset(false);
        }
        (self.fed, self.ended, self.tail) = (false, false, 0);
        Ok(End::Done)
    }

    /// One call: octets taken, octets made, and how it went.
    fn step(&mut self, input: &[u8], out: &mut [u8], flush: InflateFlush) -> (usize, usize, Result<Status, Corrupt>) {
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, out, flush).map_err(|_| Corrupt);
        let used = difference(self.inflate.total_in(), before_in);
        let made = difference(self.inflate.total_out(), before_out);
        (used, made, status)
    }
}
