// SPDX-License-Identifier: Apache-2.0

//! Lines on their way to files, in bounded memory: each recording has its limit, and so have all of a worker together.

use std::cell::Cell;
use std::rc::Rc;

/// What the queues of a worker hold together.
#[derive(Debug, Default)]
pub struct Total {
    octets: Cell<usize>,
    /// Octets that may wait.
    limit: Cell<usize>,
}

impl Total {
    /// So many octets may wait from now on.
    pub fn limit(&self, octets: usize) {
        self.limit.set(octets);
    }

    /// Octets that wait.
    pub fn octets(&self) -> usize {
        self.octets.get()
    }

    /// Whether so many octets are taken now. More than all that may wait are taken while nothing does.
    pub fn has_room(&self, length: usize) -> bool {
        self.octets() == 0 || self.octets().saturating_add(length) <= self.limit.get()
    }

    fn add(&self, octets: usize) {
        self.octets.set(self.octets().saturating_add(octets));
    }

    fn remove(&self, octets: usize) {
        debug_assert!(octets <= self.octets(), "only what was added can be removed");
        self.octets.set(self.octets().saturating_sub(octets));
    }
}

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
    /// Octets that are counted in the total beside those of lines.
    beside: usize,
    /// Invariant: what waits here is counted there.
    total: Rc<Total>,
}

impl Queue {
    /// For so many octets, which are among those of the total.
    pub fn new(limit: usize, total: &Rc<Total>) -> Self {
        Queue { octets: Vec::new(), gone: 0, limit, beside: 0, total: Rc::clone(total) }
    }

    /// Counts so many octets in the total until the queue is gone: something else waits with the lines.
    pub fn count(&mut self, octets: usize) {
        self.beside += octets;
        self.total.add(octets);
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
        self.has_own_room(length) && self.total.has_room(length)
    }

    /// The same by its own limit alone.
    pub fn has_own_room(&self, length: usize) -> bool {
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
        self.total.add(lines.len());
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
        self.total.remove(count);
        self.gone += count;
        if self.gone >= self.octets.len() {
            self.octets = Vec::new();
            self.gone = 0;
        } else if self.gone >= self.octets.len() / 2 {
            self.octets.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// Nothing waits any more, and no memory is kept.
    pub fn clear(&mut self) {
        self.total.remove(self.len());
        self.octets = Vec::new();
        self.gone = 0;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.total.remove(self.len() + self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(limit: usize) -> Rc<Total> {
        let total = Rc::<Total>::default();
        total.limit(limit);
        total
    }

    #[test]
    fn on_both_sides_of_the_limit_of_all() {
        let total = total(10);
        let [mut first, mut second] = [0; 2].map(|_| Queue::new(1000, &total));
        assert!(first.push(b"123456\n"));
        assert!(!second.push(b"123\n"), "which is empty, but not alone");
        assert!(second.push(b"12\n"));
        assert!(!first.push(b"\n"));
        // The end of a recording has room, and counts.
        assert!(second.append(b"end\n"));
        assert_eq!(total.octets(), 14);
        first.leave(7);
        assert_eq!(total.octets(), 7);
        assert!(first.push(b"12\n") && !second.push(b"\n"));
        second.clear();
        assert_eq!(total.octets(), 3);
        second.count(7);
        assert!(!first.push(b"\n"));
        drop(second);
        assert!(first.push(b"123456\n"));
        drop(first);
        assert_eq!(total.octets(), 0);
        // What could never fit is taken alone.
        let mut long = Queue::new(1000, &total);
        assert!(long.push(b"12345678901234\n") && !long.push(b"\n"));
    }

    #[test]
    fn on_both_sides_of_the_limit() {
        let mut queue = Queue::new(10, &total(1000));
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
        let mut queue = Queue::new(1000, &total(100_000));
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
