// SPDX-License-Identifier: Apache-2.0

//! What `websocket_status` shows: figures of each location, and their forms.

pub mod engine;
pub mod histogram;
mod json;
mod label;
mod prometheus;
mod refused;
mod text;

pub use histogram::Histogram;
pub use label::Label;
pub use refused::Refused;

use crate::channel::store::{CELL, Usage};
use crate::ws::close::CloseCode;

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusForm {
    /// One object.
    Json,
    /// Text format 0.0.4 of Prometheus.
    Prometheus,
    /// A table for people.
    Text,
}

/// How a WebSocket ended, by the code of its first Close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closes(usize);

impl Closes {
    /// Each code from 1000 to 1015, and two ranges.
    pub const KINDS: usize = 18;

    const WITHOUT_CODE: Self = Self(5);
    const WITHOUT_CLOSE: Self = Self(6);

    /// The first Close had this code, or none.
    pub fn with(code: Option<CloseCode>) -> Self {
        match code.map(CloseCode::number) {
            // RFC 6455, section 7.4.1: what is used where a Close without a code is to be told by a code.
            None => Self::WITHOUT_CODE,
            Some(number @ 1000..=1015) => Self(usize::from(number - 1000)),
            Some(..=3999) => Self(16),
            Some(_) => Self(17),
        }
    }

    /// There was no Close. (RFC 6455, section 7.4.1: 1006.)
    pub fn without() -> Self {
        Self::WITHOUT_CLOSE
    }

    /// Its place in an array of [`Self::KINDS`].
    pub fn index(self) -> usize {
        self.0
    }

    /// `1000`, …, `3xxx` and `4xxx`.
    fn name(index: usize) -> String {
        match index {
            16 => "3xxx".to_owned(),
            17 => "4xxx".to_owned(),
            _ => (1000 + index).to_string(),
        }
    }
}

/// The figures of one location. Those of `current`, `subscribers`, `running` and `waiting` are of this moment, all others totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// WebSockets that are open.
    pub current: u64,
    /// WebSockets that were opened.
    pub total: u64,
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients.
    pub messages_out: u64,
    /// Octets of the payloads of messages from clients.
    pub bytes_in: u64,
    /// Octets of the payloads of messages to clients.
    pub bytes_out: u64,
    /// Programs that run.
    pub running: u64,
    /// Programs that could not be started.
    pub failures: u64,
    /// Programs of the pool that wait for a client.
    pub waiting: u64,
    /// Programs that were started for the pool.
    pub ahead: u64,
    /// Those of them that were gone, or of no use, before a client came.
    pub replaced: u64,
    /// How many of `current` subscribe to channels.
    pub subscribers: u64,
    /// WebSockets that ended, by [`Closes::index`].
    pub closes: [u64; Closes::KINDS],
    /// Requests that were refused, by [`Refused::index`].
    pub refused: [u64; Refused::KINDS],
    /// How long it took until WebSockets were opened.
    pub starts: Histogram,
    /// How long they were open, of those that have ended.
    pub durations: Histogram,
}

// An array of so many elements has no default.
impl Default for Location {
    fn default() -> Self {
        Location {
            current: 0,
            total: 0,
            messages_in: 0,
            messages_out: 0,
            bytes_in: 0,
            bytes_out: 0,
            running: 0,
            failures: 0,
            waiting: 0,
            ahead: 0,
            replaced: 0,
            subscribers: 0,
            closes: [0; Closes::KINDS],
            refused: [0; Refused::KINDS],
            starts: Histogram::default(),
            durations: Histogram::default(),
        }
    }
}

impl Location {
    fn add(&mut self, other: &Self) {
        for (sum, number) in self.numbers().into_iter().zip(other.clone().numbers()) {
            *sum += *number;
        }
        for (sum, number) in self.closes.iter_mut().zip(&other.closes) {
            *sum += number;
        }
        for (sum, number) in self.refused.iter_mut().zip(&other.refused) {
            *sum += number;
        }
        self.starts.add(&other.starts);
        self.durations.add(&other.durations);
    }

    fn numbers(&mut self) -> [&mut u64; 12] {
        [
            &mut self.current,
            &mut self.total,
            &mut self.messages_in,
            &mut self.messages_out,
            &mut self.bytes_in,
            &mut self.bytes_out,
            &mut self.running,
            &mut self.failures,
            &mut self.waiting,
            &mut self.ahead,
            &mut self.replaced,
            &mut self.subscribers,
        ]
    }

    /// Statuses, reasons and counts of the kinds of refusals that there were.
    fn refusals(&self) -> impl Iterator<Item = (String, &'static str, u64)> {
        self.refused.iter().enumerate().filter(|(_, count)| **count != 0).map(|(kind, count)| {
            let (status, reason) = Refused::name(kind);
            (status, reason, *count)
        })
    }

    /// Names and counts of the kinds of ends that there were.
    fn ends(&self) -> impl Iterator<Item = (String, u64)> {
        self.closes
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 0)
            .map(|(kind, count)| (Closes::name(kind), *count))
    }
}

/// The store of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Channels that there are.
    pub channels: u64,
    /// Messages that are kept.
    pub messages: u64,
    /// Octets of the zone that are in use.
    pub zone_used: u64,
    /// Octets of the zone.
    pub zone_size: u64,
    /// Messages that were published since the zone was made.
    pub published: u64,
    /// Messages that had to go because the zone was full.
    pub evicted: u64,
}

impl From<Usage> for Channels {
    fn from(usage: Usage) -> Self {
        let octets = |cells: u32| u64::from(cells) * CELL as u64;
        Channels {
            channels: usage.channels.into(),
            messages: usage.messages.into(),
            zone_used: octets(usage.cells.saturating_sub(usage.free_cells)),
            zone_size: octets(usage.cells),
            published: usage.published,
            evicted: usage.evicted,
        }
    }
}

/// All figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Worker processes, those that are leaving included.
    pub workers: u64,
    /// The channels, where there are locations for them.
    pub channels: Option<Channels>,
    /// The engines behind channels.
    pub engines: Vec<engine::Engine>,
    /// Sorted, each label once.
    locations: Vec<(Label, Location)>,
}

impl Snapshot {
    /// Adds the figures of a location. Locations with one label are one.
    pub fn add(&mut self, label: &Label, location: &Location) {
        match self.locations.binary_search_by(|(present, _)| present.cmp(label)) {
            Ok(place) => self.locations[place].1.add(location),
            Err(place) => self.locations.insert(place, (label.clone(), location.clone())),
        }
    }

    /// The figures of each location.
    pub fn locations(&self) -> impl Iterator<Item = (&Label, &Location)> {
        self.locations.iter().map(|(label, location)| (label, location))
    }

    /// The answer.
    pub fn render(&self, form: StatusForm) -> String {
        match form {
            StatusForm::Json => json::render(self),
            StatusForm::Prometheus => prometheus::render(self),
            StatusForm::Text => text::render(self),
        }
    }
}

impl StatusForm {
    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            StatusForm::Json => "application/json",
            StatusForm::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            StatusForm::Text => "text/plain; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two locations, one of them in two parts.
    pub(super) fn example() -> Snapshot {
        let mut snapshot = Snapshot { workers: 2, ..Snapshot::default() };
        let mut location = Location { current: 1, total: 3, messages_in: 5, bytes_in: 50, ..Location::default() };
        location.closes[Closes::with(CloseCode::new(1000)).index()] = 2;
        location.refused[Refused::by_origin().index()] = 1;
        snapshot.add(&Label::new("exec", "localhost", "/cat"), &location);
        let location = Location {
            messages_out: 7,
            bytes_out: 70,
            running: 1,
            failures: 2,
            waiting: 3,
            ahead: 9,
            replaced: 4,
            ..location
        };
        snapshot.add(&Label::new("exec", "localhost", "/cat"), &location);
        snapshot.add(&Label::new("tcp", "", "/\"\\\n"), &Location::default());
        snapshot
    }

    #[test]
    fn kinds_of_ends() {
        let kinds = [
            (Some(1000), "1000"),
            (Some(1012), "1012"),
            (Some(3000), "3xxx"),
            (Some(3999), "3xxx"),
            (Some(4000), "4xxx"),
            (Some(4999), "4xxx"),
            (None, "1005"),
        ];
        for (code, name) in kinds {
            let code = code.map(|number| CloseCode::new(number).unwrap());
            assert_eq!(Closes::name(Closes::with(code).index()), name);
        }
        assert_eq!(Closes::name(Closes::without().index()), "1006");
    }

    pub(super) fn channels() -> Channels {
        let usage =
            Usage { channels: 1, messages: 2, cells: 10, free_cells: 7, published: 5, evicted: 6, ..Usage::default() };
        let channels = Channels::from(usage);
        assert_eq!((channels.zone_used, channels.zone_size), (3 * CELL as u64, 10 * CELL as u64));
        Channels { zone_used: 3, zone_size: 4, ..channels }
    }

    #[test]
    fn one_label_is_one_location() {
        let snapshot = example();
        assert_eq!(snapshot.locations.len(), 2);
        let (label, location) = &snapshot.locations[0];
        assert_eq!(*label, Label::new("exec", "localhost", "/cat"));
        assert_eq!((location.current, location.total, location.messages_in, location.bytes_in), (2, 6, 10, 100));
        assert_eq!((location.messages_out, location.running, location.failures), (7, 1, 2));
        assert_eq!(location.closes[0], 4);
    }
}
