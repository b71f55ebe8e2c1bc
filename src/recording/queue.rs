// SPDX-License-Identifier: Apache-2.0

//! Lines on their way to a file, in bounded memory.

/// Lines that wait. What does not fit is refused as a whole, so that what leaves here is always a sequence of whole lines.
#[derive(Debug)]
pub struct Queue {
    octets: Vec<u8>,
    /// Octets that have left already.
    ///
    /// Invariant: there are more, or there are none at all.
    gone: usize,
    /// Octets that may wait.
    limit: usize,
}

impl Queue {
    /// For so many octets.
    pub fn new(limit: usize) -> Self {
        Queue { octets: Vec::new(), gone: 0, limit }
    }

    /// Octets that wait.
    pub fn len(&self) -> usize {
        self.octets.len() - self.gone
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether so many octets are taken now. A line that is longer than all that may wait is taken while nothing does.
    pub fn has_room(&self, length: usize) -> bool {
        self.is_empty() || self.len().saturating_add(length) <= self.limit
    }

    /// Takes lines, or none of them: `false` when there is no room or no memory.
    pub fn push(&mut self, lines: &[u8]) -> bool {
        self.has_room(lines.len()) && self.append(lines)
    }

    /// Takes lines for which there is always room. `false` when there is no memory.
    pub fn append(&mut self, lines: &[u8]) -> bool {
        if self.octets.try_reserve(lines.len()).is_err() {
            return false;
        }
        self.octets.extend_from_slice(lines);
        true
    }

    /// The first octets that wait, at most so many.
    pub fn first(&self, most: usize) -> &[u8] {
        let end = self.octets.len().min(self.gone + most);
        &self.octets[self.gone..end]
    }

    /// So many of them have left.
    pub fn leave(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.gone += count;
        if self.gone >= self.octets.len() {
            self.clear();
        } else if self.gone >= self.octets.len() / 2 {
            self.octets.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// Nothing waits any more, and no memory is kept.
    pub fn clear(&mut self) {
        self.octets = Vec::new();
        self.gone = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_both_sides_of_the_limit() {
        let mut queue = Queue::new(10);
        assert!(queue.push(b"12345\n"));
        assert!(!queue.push(b"1234\n"));
        assert!(queue.push(b"123\n"));
        assert_eq!(queue.len(), 10);
        assert!(!queue.push(b"\n"));
        // The end of a recording has room.
        assert!(queue.append(b"end\n"));
        assert_eq!(queue.first(100), b"12345\n123\nend\n");
        queue.leave(14);
        assert!(queue.is_empty());
        // A line that could never fit is taken alone.
        assert!(queue.push(b"123456789012345\n"));
        assert!(!queue.push(b"\n"));
    }

    #[test]
    fn in_order_and_in_any_pieces() {
        let mut queue = Queue::new(1000);
        let (mut put, mut got) = (Vec::new(), Vec::new());
        for round in 0..50_usize {
            let line = format!("{}\n", "x".repeat(round % 17));
            assert!(queue.push(line.as_bytes()));
            put.extend_from_slice(line.as_bytes());
            let piece = queue.first(1 + round % 13).to_vec();
            queue.leave(piece.len());
            got.extend(piece);
        }
        got.extend_from_slice(queue.first(usize::MAX / 2));
        assert_eq!(got, put);
        queue.clear();
        assert_eq!((queue.len(), queue.first(5)), (0, &b""[..]));
    }
}
