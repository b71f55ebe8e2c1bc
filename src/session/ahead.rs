// SPDX-License-Identifier: Apache-2.0

//! Messages that were read before the endpoint can take them.
//!
//! While an endpoint takes nothing its client is read on for a while: behind its messages there may be a Ping, or its Close.
//! What was read is kept here, in order and in bounded memory. Beyond the bound the client is not read any more.

use std::collections::VecDeque;

use crate::ws::connection::Data;
use crate::ws::frame::MessageKind;

/// Octets from which on no more is read ahead. One read of the client may add to them.
const MOST: usize = 512 << 10;

/// Pieces of messages in the order in which they came.
#[derive(Debug, Default)]
pub struct Ahead {
    pieces: VecDeque<Piece>,
    /// Invariant: the sum of the weights of `pieces`.
    weight: usize,
}

/// One piece, as it is to be delivered.
#[derive(Debug)]
pub struct Piece {
    kind: MessageKind,
    payload: Vec<u8>,
    first: bool,
    last: bool,
    pending: usize,
}

impl Piece {
    /// The piece as the endpoint gets it.
    pub fn data(&self) -> Data<'_> {
        let Piece { kind, first, last, pending, .. } = *self;
        Data { kind, payload: &self.payload, first, last, pending }
    }

    /// Octets that it takes.
    fn weight(&self) -> usize {
        self.payload.len() + size_of::<Piece>()
    }
}

impl Ahead {
    /// Whether more may be read.
    pub fn has_room(&self) -> bool {
        self.weight < MOST
    }

    /// Whether nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Keeps a piece. `false` when there is no memory.
    pub fn push(&mut self, data: &Data<'_>) -> bool {
        let mut payload = Vec::new();
        if payload.try_reserve_exact(data.payload.len()).is_err() || self.pieces.try_reserve(1).is_err() {
            return false;
        }
        payload.extend_from_slice(data.payload);
        let piece = Piece { kind: data.kind, payload, first: data.first, last: data.last, pending: data.pending };
        self.weight += piece.weight();
        self.pieces.push_back(piece);
        true
    }

    /// The oldest piece.
    pub fn pop(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.weight -= piece.weight();
        debug_assert!(!self.pieces.is_empty() || self.weight == 0);
        if self.pieces.is_empty() {
            // A session that is not held up any more keeps no memory for it.
            self.pieces = VecDeque::new();
        }
        Some(piece)
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Ahead::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &[u8]) -> Data<'_> {
        Data { kind: MessageKind::Text, payload, first: true, last: true, pending: 0 }
    }

    #[test]
    fn order_and_bound() {
        let mut ahead = Ahead::default();
        for payload in [&b"one"[..], b"", b"three"] {
            assert!(ahead.push(&text(payload)));
        }
        for payload in [&b"one"[..], b"", b"three"] {
            assert_eq!(ahead.pop().map(|piece| piece.data().payload.to_vec()).as_deref(), Some(payload));
        }
        assert!(ahead.is_empty() && ahead.pop().is_none());
        // Messages without octets take room as well.
        let mut count = 0;
        while ahead.has_room() {
            assert!(ahead.push(&text(b"")));
            count += 1;
        }
        assert!(count < 1 << 16);
        ahead.clear();
        assert!(ahead.has_room() && ahead.is_empty());
    }
}
