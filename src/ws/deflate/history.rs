// SPDX-License-Identifier: Apache-2.0

//! What the next message of one side may refer to.

/// The base-2 logarithm of the octets of our own messages that are kept: more costs each message more than it saves, as
/// the compressor has to look at all of them first.
pub(super) const KEPT: u8 = 12;

/// The smallest allocation.
const FIRST: usize = 512;

/// The last octets of the compressed messages of one side, before compression.
///
/// It is all that a connection keeps between messages: a compressor or an inflater of the worker is given them as its
/// dictionary, and so can go on where the one of the message before stopped.
#[derive(Debug, Default)]
pub(in crate::ws) struct History {
    octets: Vec<u8>,
}

impl History {
    /// The octets, the latest last.
    pub(in crate::ws) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Appends a piece of a message and forgets what is more than `limit` octets back.
    pub(in crate::ws) fn append(&mut self, piece: &[u8], limit: usize) {
        let piece = piece.get(piece.len().saturating_sub(limit)..).unwrap_or_default();
        let over = (self.octets.len() + piece.len()).saturating_sub(limit);
        self.octets.drain(..over);
        let len = self.octets.len() + piece.len();
        if len > self.octets.capacity() {
            let room = len.next_power_of_two().max(FIRST).min(limit);
            self.octets.reserve_exact(room.saturating_sub(self.octets.len()));
        }
        self.octets.extend_from_slice(piece);
    }

    /// Forgets everything, and gives the memory back.
    pub(in crate::ws) fn forget(&mut self) {
        self.octets = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_last_octets_are_kept(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..12)) {
            const LIMIT: usize = 1024;
            let mut history = History::default();
            let mut all = Vec::new();
            for piece in &pieces {
                history.append(piece, LIMIT);
                all.extend_from_slice(piece);
                prop_assert_eq!(history.octets(), &all[all.len().saturating_sub(LIMIT)..]);
                prop_assert!(history.octets.capacity() <= LIMIT);
            }
            history.forget();
            prop_assert_eq!(history.octets.capacity(), 0);
        }
    }

    #[test]
    fn a_piece_of_more_than_the_limit() {
        let mut history = History::default();
        history.append(b"before", 4);
        history.append(b"0123456789", 4);
        assert_eq!(history.octets(), b"6789");
        history.append(b"", 4);
        history.append(b"ab", 4);
        assert_eq!(history.octets(), b"89ab");
    }
}
