// SPDX-License-Identifier: Apache-2.0

//! Which messages of a channel its subscribers have seen.

use std::io;
use std::time::Instant;

use crate::wire::wrong;

/// What its subscribers have seen so far.
#[derive(Default)]
pub struct Channel {
    /// Messages published to it.
    pub published: u64,
    /// Numbers of the messages in the order in which the fastest subscriber got them.
    order: Vec<u64>,
    /// Which numbers are in `order`.
    known: Vec<bool>,
    /// How many subscribers have got as far; where messages may come in any order, how many have got each.
    reached: Vec<usize>,
    /// When each was published.
    pub sent: Vec<Instant>,
    /// Messages that all have got.
    pub complete: usize,
}

impl Channel {
    /// A subscriber received message `number` as its message number `position`; true when it was the last to get it.
    ///
    /// # Errors
    /// When it is lost, repeated or out of order.
    pub fn seen(&mut self, position: usize, number: u64, subscribers: usize) -> io::Result<bool> {
        if position == self.order.len() {
            let known = usize::try_from(number).unwrap_or(usize::MAX);
            if number >= self.published || self.known.get(known) == Some(&true) {
                return Err(wrong(format!("message {number} came again or was never published")));
            }
            self.known.resize(self.known.len().max(known + 1), false);
            self.known[known] = true;
            self.order.push(number);
            self.reached.push(0);
        } else if self.order.get(position) != Some(&number) {
            let instead = self.order.get(position);
            return Err(wrong(format!(
                "message {number} came in place of {instead:?}: lost, repeated or out of order"
            )));
        }
        self.reached[position] += 1;
        let last = self.reached[position] == subscribers;
        if last {
            self.complete += 1;
        }
        Ok(last)
    }

    /// A subscriber that has `seen` others received message `number`; true when it was the last to
    /// get it.
    ///
    /// # Errors
    /// When it is repeated.
    pub fn seen_in_any_order(&mut self, seen: &mut Vec<bool>, number: u64, subscribers: usize) -> io::Result<bool> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if number >= self.published || seen.get(at) == Some(&true) {
            return Err(wrong(format!("message {number} came again or was never published")));
        }
        seen.resize(seen.len().max(at + 1), false);
        seen[at] = true;
        self.reached.resize(self.reached.len().max(at + 1), 0);
        self.reached[at] += 1;
        let last = self.reached[at] == subscribers;
        if last {
            self.complete += 1;
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(published: u64) -> Channel {
        Channel { published, ..Channel::default() }
    }

    #[test]
    fn one_order_for_all_is_accepted() {
        let mut channel = channel(3);
        for number in [1, 0, 2] {
            assert!(!channel.seen(channel.order.len(), number, 2).unwrap());
        }
        for (position, number) in [1, 0, 2].into_iter().enumerate() {
            assert!(channel.seen(position, number, 2).unwrap());
        }
        assert_eq!(channel.complete, 3);
    }

    #[test]
    fn loss_repeats_and_another_order_are_found() {
        let mut channel = channel(3);
        channel.seen(0, 0, 3).unwrap();
        assert!(channel.seen(1, 0, 3).is_err(), "repeated");
        assert!(channel.seen(1, 3, 3).is_err(), "never published");
        channel.seen(1, 1, 3).unwrap();
        assert!(channel.seen(0, 1, 3).is_err(), "the first one lost");
        assert!(channel.seen(1, 2, 3).is_err(), "another order");
    }
}
