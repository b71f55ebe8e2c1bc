// SPDX-License-Identifier: Apache-2.0

//! How many channels messages are read of at the same time.
//!
//! A server ends a connection that has subscribed and is to be sent more than client-output-buffer-limit says, 32 MiB by default. Nothing
//! tells such an end from any other one: after each, less is read at once, and again more as long as none follows.

/// Channels of which messages are read at the same time.
const MOST: usize = 16;

/// About as many octets are read of each of them.
const OCTETS: usize = 256 << 10;

/// After so many reads twice as many channels are read at once, but not as many as when a connection has ended.
const MORE: usize = 32;

/// After so many reads as many may be again.
const AGAIN: usize = 256;

/// What is read at the moment, and how much may be.
#[derive(Debug)]
pub(super) struct Fetching {
    /// Channels that are being read.
    now: usize,
    /// How many they may be. Always at least 1 and at most `ceiling`.
    most: usize,
    /// How many they may become.
    ceiling: usize,
    /// Reads since a connection has ended.
    done: usize,
}

impl Fetching {
    /// Nothing is read.
    pub fn new() -> Self {
        Fetching { now: 0, most: MOST, ceiling: MOST, done: 0 }
    }

    /// Whether another channel may be read.
    pub fn has_room(&self) -> bool {
        self.now < self.most
    }

    /// About how many octets may be read of a channel: the fewer the less is read at once.
    pub fn octets(&self) -> usize {
        OCTETS / MOST * self.most
    }

    /// A channel is being read.
    pub fn begin(&mut self) {
        self.now += 1;
    }

    /// A channel was read.
    pub fn done(&mut self) {
        self.now = self.now.saturating_sub(1);
        self.done += 1;
        if self.done.is_multiple_of(AGAIN) {
            self.ceiling = (self.ceiling * 2).min(MOST);
        }
        if self.done.is_multiple_of(MORE) {
            self.most = (self.most * 2).min(self.ceiling);
        }
    }

    /// Everything was read that there was.
    pub fn all_done(&mut self) {
        (self.most, self.ceiling) = (MOST, MOST);
    }

    /// The connection has ended. Where messages were being read it may have been too much.
    pub fn end(&mut self) {
        // Less than one channel cannot be read, and was not too much.
        if self.now > 0 && self.most > 1 {
            self.ceiling = self.most / 2;
            self.most = (self.most / 4).max(1);
        }
        (self.now, self.done) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many channels are read at once.
    fn room(fetching: &mut Fetching) -> usize {
        let begun = std::iter::from_fn(|| fetching.has_room().then(|| fetching.begin())).count();
        fetching.now -= begun;
        begun
    }

    /// The connection ends while channels are read.
    fn cut(fetching: &mut Fetching) {
        fetching.begin();
        fetching.end();
    }

    fn read(fetching: &mut Fetching, count: usize) {
        for _ in 0..count {
            fetching.begin();
            fetching.done();
        }
    }

    #[test]
    fn less_is_read_at_once_after_a_connection_has_ended_meanwhile() {
        let mut fetching = Fetching::new();
        fetching.end();
        assert_eq!((room(&mut fetching), fetching.octets()), (16, 256 << 10), "nothing was being read");
        for (rooms, octets) in [(4, 64 << 10), (1, 16 << 10), (1, 16 << 10)] {
            cut(&mut fetching);
            assert_eq!((room(&mut fetching), fetching.octets()), (rooms, octets));
        }
        fetching.all_done();
        assert_eq!(room(&mut fetching), 16);
    }

    #[test]
    fn more_is_read_at_once_as_long_as_no_connection_ends() {
        let mut fetching = Fetching::new();
        cut(&mut fetching);
        read(&mut fetching, MORE);
        assert_eq!(room(&mut fetching), 8);
        read(&mut fetching, AGAIN - MORE - 1);
        assert_eq!(room(&mut fetching), 8, "16 were too much");
        read(&mut fetching, 1);
        assert_eq!(room(&mut fetching), 16, "but not for ever");
        for _ in 0..3 {
            cut(&mut fetching);
        }
        read(&mut fetching, MORE - 1);
        assert_eq!(room(&mut fetching), 1);
        read(&mut fetching, 1);
        assert_eq!(room(&mut fetching), 2);
        read(&mut fetching, MORE);
        assert_eq!(room(&mut fetching), 2);
    }
}
