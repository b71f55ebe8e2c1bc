// SPDX-License-Identifier: Apache-2.0

//! What clients do, and how many do it.

use super::client::Transport;

/// Places whose clients have a program of their own, for each thousand, and at most.
const PROGRAMS: (usize, usize) = (10, 60);

/// The transports of the probe, each with a subscriber.
pub const PROBES: [Transport; 3] = [Transport::WithIds, Transport::EventSource, Transport::LongPoll];

/// What is done at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A subscriber of one channel.
    One(Transport),
    /// A subscriber of several channels.
    Several(Transport),
    /// A subscriber that also publishes over its WebSocket.
    Both,
    /// A program of its own, which returns what it is told.
    Echo,
    /// A program of its own that says something and ends.
    Say,
    /// A program that others share.
    Shared,
    /// A TCP service.
    Tcp,
    /// A subscriber of one channel over TLS.
    Tls,
    /// The subscriber of the probe with this number.
    Probe(usize),
    /// Publishes messages of random sizes, one after the other.
    Publisher,
    /// Publishes the messages of the probe.
    Prober,
}

impl Kind {
    /// Sends messages over its WebSocket.
    pub fn talks(self) -> bool {
        matches!(self, Self::Both | Self::Echo | Self::Shared | Self::Tcp)
    }

    /// True for kinds that are not part of the number of connections that is asked for.
    pub fn is_of_harness(self) -> bool {
        matches!(self, Self::Probe(_) | Self::Publisher | Self::Prober)
    }
}

/// What place number `index` of `count` is for.
pub fn of(index: usize, count: usize) -> Kind {
    let programs = (count * PROGRAMS.0 / 1000).clamp(2, PROGRAMS.1);
    if index < programs {
        return if index.is_multiple_of(4) { Kind::Say } else { Kind::Echo };
    }
    match index % 100 {
        0..35 => Kind::One(Transport::WebSocket),
        35..45 => Kind::One(Transport::Deflate),
        45..60 => Kind::One(Transport::EventSource),
        60..70 => Kind::One(Transport::LongPoll),
        70..75 => Kind::Several(Transport::WebSocket),
        75..78 => Kind::Several(Transport::EventSource),
        78..80 => Kind::Several(Transport::LongPoll),
        80..85 => Kind::Both,
        85..90 => Kind::Shared,
        90..95 => Kind::Tcp,
        _ => Kind::Tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_places() {
        let kinds: Vec<Kind> = (0..2000).map(|index| of(index, 2000)).collect();
        for wanted in [
            Kind::One(Transport::WebSocket),
            Kind::One(Transport::Deflate),
            Kind::One(Transport::EventSource),
            Kind::One(Transport::LongPoll),
            Kind::Several(Transport::WebSocket),
            Kind::Several(Transport::EventSource),
            Kind::Several(Transport::LongPoll),
            Kind::Both,
            Kind::Echo,
            Kind::Say,
            Kind::Shared,
            Kind::Tcp,
            Kind::Tls,
        ] {
            assert!(kinds.contains(&wanted), "{wanted:?}");
        }
        assert!(!kinds.iter().any(|kind| kind.is_of_harness()));
        let programs = |count| (0..count).filter(|&at| matches!(of(at, count), Kind::Echo | Kind::Say)).count();
        assert_eq!((programs(2000), programs(100_000)), (20, 60), "programs cost memory of their own");
    }
}
