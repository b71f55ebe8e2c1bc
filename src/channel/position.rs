// SPDX-License-Identifier: Apache-2.0

//! Where a subscriber is: message ids, positions in one or several channels, and where a subscription begins.
//!
//! A message id is written `epoch:offset`, both decimal. A position in a few channels is their ids joined by commas; the
//! epochs tell which channel each belongs to, so the order does not matter. A position in many channels is a [`Cut`]: a list
//! would be hundreds of times as long as the messages that it comes with, and longer than a request may be. Whatever a client
//! sends is either a position or unknown.

mod asked;
mod cut;

use std::fmt;

use smallvec::SmallVec;

pub use asked::Asked;
pub use cut::{Cut, MOST_LISTED, UNKNOWN};

/// Drawn when a channel is created, so that a channel that is created again is another one. Below 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Counts the messages of a channel from 1, by one, without holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub u64);

impl Offset {
    /// The next one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before; 0 before the first.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The id of a message. Offset 0 is the position before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The channel.
    pub epoch: Epoch,
    /// The message.
    pub offset: Offset,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch.0, self.offset.0)
    }
}

impl MessageId {
    /// Octets that an id has at most.
    pub const MAX_LEN: usize = 41;

    fn parse(octets: &[u8]) -> Option<Self> {
        let colon = memchr::memchr(b':', octets)?;
        let (epoch, offset) = (octets.get(..colon)?, octets.get(colon + 1..)?);
        Some(Self { epoch: Epoch(number(epoch)?), offset: Offset(number(offset)?) })
    }
}

/// A decimal number without sign.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    // With fewer digits than the greatest number it is not greater.
    let is_short = digits.len() < 20;
    digits.iter().try_fold(0_u64, |value, &octet| {
        let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
        if is_short { Some(value * 10 + digit) } else { value.checked_mul(10)?.checked_add(digit) }
    })
}

/// Channels that one position can name.
pub const MAX_POSITIONS: usize = 256;

/// A position in no channel: whoever comes back with it and does not name a channel is told that messages may be lost there.
const NOWHERE: MessageId = MessageId { epoch: Epoch(0), offset: Offset(0) };

/// Ids as one string. `None` is before what a channel has lost by being replaced.
pub fn join(ids: impl IntoIterator<Item = Option<MessageId>>) -> String {
    // With room for the quotes of an entity tag.
    let mut joined = String::with_capacity(MessageId::MAX_LEN + 2);
    let (mut epoch, mut offset) = (itoa::Buffer::new(), itoa::Buffer::new());
    let mut replaced = false;
    for id in ids {
        let id = match id {
            Some(id) => id,
            None if replaced => continue,
            None => {
                replaced = true;
                NOWHERE
            }
        };
        if !joined.is_empty() {
            joined.push(',');
        }
        // Each answer to a long-poll has one: a formatter takes ten times as long.
        for part in [epoch.format(id.epoch.0), ":", offset.format(id.offset.0)] {
            joined.push_str(part);
        }
    }
    joined
}

/// An id as an entity tag (RFC 9110, section 8.8.3).
pub fn etag(mut id: String) -> String {
    id.insert(0, '"');
    id.push('"');
    id
}

/// Where a subscriber without a position begins: `websocket_channel_start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// After everything that is there.
    #[default]
    Newest,
    /// With the oldest message of the history.
    Oldest,
    /// With the nth message of the history, from 1; the newest one if there are fewer.
    Nth(u32),
    /// With the last n messages.
    Last(u32),
}

/// How the current epoch of a channel has come about. A channel that an engine has keeps its messages, and goes on counting, when a new
/// epoch begins because the engine may have gone back: who comes from the epoch before goes on where it was. The engine may as well have gone
/// back to a state from before an epoch; nothing is known then of what there was in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// The newest message when the epoch began; 0 where a channel begins with its epoch.
    pub base: Offset,
    /// The epoch before it, where that is known. Its last message was `base`.
    pub previous: Option<Epoch>,
}

impl Default for Lineage {
    fn default() -> Self {
        Lineage { base: Offset(0), previous: None }
    }
}

impl Lineage {
    /// The last one of the messages of the current epoch that somebody may have had who had messages of another epoch up to this one. Of
    /// an epoch that is not the one before, it is the last one that was there when the current one began.
    pub fn had(&self, id: MessageId) -> Offset {
        if self.knows(id.epoch) { id.offset.min(self.base) } else { self.base }
    }

    /// Whether an epoch is the one before.
    pub fn knows(&self, epoch: Epoch) -> bool {
        self.previous == Some(epoch)
    }
}

/// What a channel has at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The channel.
    pub epoch: Epoch,
    /// Oldest message that can be read; `upcoming` if there is none.
    pub oldest: Offset,
    /// Oldest message of the history. Later than `oldest` while messages beyond the history wait for a worker.
    pub history: Offset,
    /// What the next message will be.
    pub upcoming: Offset,
    /// The greatest serial of a message that may have been there and is not any more.
    pub missing: u64,
    /// No message that is or was there has a greater serial.
    pub newest: u64,
    /// The first message after the cut that the client has named, where it is one of this zone and the channel is not named.
    pub cut: Option<Offset>,
    /// The channel is the copy of one that other machines have as well, and may be behind them.
    pub is_copy: bool,
    /// What of it may be known under another epoch.
    pub lineage: Lineage,
}

/// Messages that a subscriber will never see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many are known of. 0: nobody knows how many.
    pub lost: u64,
    /// The channel was replaced, and messages of the one before may be lost as well; or nobody knows where it went on.
    pub replaced: bool,
}

/// Where a subscription to one channel begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// The first message it gets.
    pub next: Offset,
    /// The gap that the subscriber has to be told of before.
    pub gap: Option<Gap>,
    /// No message before the first one has a greater serial.
    pub delivered: u64,
}

/// The first message that a subscriber gets, and what it has to be told before.
type First = (Offset, Option<Gap>);

/// Messages by which a copy can be behind another machine. Who names a greater offset has made it up.
const MOST_AHEAD: u64 = 1 << 32;

impl Window {
    fn start(&self, start: Start) -> Offset {
        let history = self.history.min(self.upcoming);
        match start {
            Start::Newest | Start::Nth(0) | Start::Last(0) => self.upcoming,
            Start::Oldest => history,
            Start::Nth(n) => {
                Offset(history.0.saturating_add(u64::from(n) - 1)).min(self.upcoming.previous()).max(history)
            }
            Start::Last(n) => Offset(self.upcoming.0.saturating_sub(u64::from(n))).max(history),
        }
    }

    /// The position right after `offset` of this channel. `None` if there was no such message yet.
    fn after(&self, offset: Offset) -> Option<First> {
        let next = offset.next();
        if next > self.upcoming {
            // Another machine may have had more of it by now. What comes until then the client has.
            let ahead = next.0 - self.upcoming.0;
            return (self.is_copy && ahead <= MOST_AHEAD).then_some((next, None));
        }
        let gap = (next < self.oldest).then(|| Gap { lost: self.oldest.0 - next.0, replaced: false });
        Some((next.max(self.oldest), gap))
    }

    /// The position right after a cut.
    fn after_cut(&self, cut: &Cut) -> First {
        match self.cut {
            None => self.replaced(None),
            Some(next) if self.missing > cut.serial => (next, Some(Gap { lost: 0, replaced: true })),
            Some(next) => (next, None),
        }
    }

    /// The beginning of a channel that has taken the place of another one, for who has that up to this message, or nobody
    /// knows up to which one. What it may have had under the other epoch does not come again.
    fn replaced(&self, had: Option<MessageId>) -> First {
        let known = had.map_or(self.lineage.base, |had| self.lineage.had(had));
        let next = known.next().max(self.oldest).min(self.upcoming.max(self.oldest));
        (next, Some(Gap { lost: if self.is_copy { 0 } else { next.0.saturating_sub(1) }, replaced: true }))
    }

    /// No message before this one has a greater serial.
    fn delivered(&self, next: Offset, asked: &Asked) -> u64 {
        match asked {
            Asked::Cut(cut) if self.cut == Some(next) => cut.serial.max(self.missing),
            _ if next == self.oldest && next < self.upcoming => self.missing,
            _ => self.newest,
        }
    }
}

/// Where a subscription to these channels begins.
///
/// A channel that the position names goes on after that message, or at its oldest with a gap if that is lost. If the
/// position names channels that are not there (any more), then each channel that it does not name is a successor of one:
/// it begins at its oldest, with a gap. Otherwise the position is from before this channel was subscribed to, and it
/// begins like a new subscription. With a cut, each channel that is not named goes on after the cut.
pub fn begin(windows: &[Window], asked: &Asked, start: Start) -> SmallVec<[Beginning; 1]> {
    let ids = match asked {
        Asked::Nothing | Asked::Unknown => &[][..],
        Asked::After(ids) => ids.as_slice(),
        Asked::Cut(cut) => cut.named.as_slice(),
    };
    // Of an epoch that nobody remembers, nobody knows of which of several channels it was.
    let replaced = ids.iter().any(|id| !windows.iter().any(|window| window.epoch == id.epoch));
    let begin = |window: &Window| {
        let id = ids.iter().find(|id| id.epoch == window.epoch);
        match (id, asked) {
            (Some(id), Asked::Cut(_)) if id.offset == UNKNOWN => window.replaced(None),
            (Some(id), _) => window.after(id.offset).unwrap_or_else(|| (window.start(start), None)),
            (None, Asked::Cut(cut)) => window.after_cut(cut),
            (None, _) if replaced => window.replaced(ids.iter().copied().find(|id| window.lineage.knows(id.epoch))),
            (None, _) => (window.start(start), None),
        }
    };
    let beginning = |window: &Window| {
        let (next, gap) = begin(window);
        Beginning { next, gap, delivered: window.delivered(next, asked) }
    };
    windows.iter().map(beginning).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(epoch: u64, offset: u64) -> MessageId {
        MessageId { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    fn window(epoch: u64, oldest: u64, upcoming: u64) -> Window {
        Window {
            epoch: Epoch(epoch),
            oldest: Offset(oldest),
            history: Offset(oldest),
            upcoming: Offset(upcoming),
            missing: 0,
            newest: 0,
            cut: None,
            is_copy: false,
            lineage: Lineage::default(),
        }
    }

    fn one(window: Window, asked: &str, start: Start) -> (u64, Option<u64>) {
        let beginning = begin(&[window], &Asked::id(asked.as_bytes()), start)[0];
        (beginning.next.0, beginning.gap.map(|gap| gap.lost))
    }

    #[test]
    fn ids_are_read_as_written() {
        assert_eq!(Asked::id(b"77:5"), Asked::After(smallvec::smallvec![id(77, 5)]));
        assert_eq!(Asked::id(b" 77:5 , 1:0 "), Asked::After(smallvec::smallvec![id(77, 5), id(1, 0)]));
        assert_eq!(join([id(77, 5), id(1, 0)].map(Some)), "77:5,1:0");
        assert_eq!(etag(join([Some(id(77, 5))])), "\"77:5\"");
        assert_eq!(id(u64::MAX, u64::MAX).to_string().len(), MessageId::MAX_LEN);
    }

    #[test]
    fn beginnings_without_a_position() {
        // Messages 4, 5, 6, 7.
        let four = window(9, 4, 8);
        let expected = [
            (Start::Newest, 8),
            (Start::Oldest, 4),
            (Start::Nth(1), 4),
            (Start::Nth(3), 6),
            (Start::Nth(4), 7),
            (Start::Nth(9), 7),
            (Start::Last(1), 7),
            (Start::Last(3), 5),
            (Start::Last(9), 4),
            (Start::Nth(0), 8),
            (Start::Last(0), 8),
        ];
        for (start, next) in expected {
            assert_eq!(one(four, "", start), (next, None), "{start:?}");
            assert_eq!(one(four, "nonsense", start), (next, None), "{start:?}");
            assert_eq!(one(window(9, 8, 8), "", start), (8, None), "nothing there, {start:?}");
        }
        // Messages beyond the history that wait for a worker are not part of it.
        let waiting = Window { oldest: Offset(1), ..four };
        assert_eq!(one(waiting, "", Start::Oldest), (4, None));
    }

    #[test]
    fn positions_are_resumed() {
        let four = window(9, 4, 8);
        let expected = [
            ("9:7", (8, None)),
            ("9:5", (6, None)),
            ("9:3", (4, None)),
            ("9:2", (4, Some(1))),
            ("9:0", (4, Some(3))),
            // Not published yet, so it is not an id.
            ("9:8", (8, None)),
            ("9:18446744073709551615", (8, None)),
            // Of a channel that this one has replaced.
            ("8:7", (4, Some(3))),
        ];
        for (asked, beginning) in expected {
            assert_eq!(one(four, asked, Start::Newest), beginning, "{asked}");
        }
        assert_eq!(one(window(9, 1, 3), "8:7", Start::Newest), (1, Some(0)));
        let waiting = Window { oldest: Offset(2), ..four };
        assert_eq!(one(waiting, "9:1", Start::Newest), (2, None), "what is still there is not lost");
    }

    #[test]
    fn a_copy_may_be_behind_the_client() {
        let copy = Window { is_copy: true, ..window(9, 4, 8) };
        assert_eq!(one(copy, "9:7", Start::Oldest), (8, None));
        assert_eq!(one(copy, "9:10", Start::Oldest), (11, None), "it has what this machine has still to get");
        assert_eq!(one(copy, "9:18446744073709551615", Start::Oldest), (4, None), "made up");
        assert_eq!(one(window(9, 4, 8), "9:10", Start::Oldest), (4, None));
    }

    #[test]
    fn what_a_client_had_under_another_epoch_does_not_come_again() {
        // The epoch began after the message 6.
        let copy =
            Window { is_copy: true, lineage: Lineage { base: Offset(6), previous: Some(Epoch(8)) }, ..window(9, 3, 9) };
        assert_eq!(one(copy, "8:4", Start::Oldest), (5, Some(0)), "it had what was there before");
        assert_eq!(one(copy, "8:6", Start::Oldest), (7, Some(0)));
        assert_eq!(one(copy, "8:7", Start::Oldest), (7, Some(0)), "which was another message");
        assert_eq!(one(copy, "8:1", Start::Oldest), (3, Some(0)));
        assert_eq!(
            one(copy, "5:4", Start::Oldest),
            (7, Some(0)),
            "what it had in an epoch that was undone nobody knows"
        );
        let all_lost = Window { lineage: Lineage::default(), ..copy };
        assert_eq!(one(all_lost, "8:7", Start::Oldest), (3, Some(0)));
        let empty = Window { is_copy: true, lineage: copy.lineage, ..window(9, 7, 7) };
        assert_eq!(one(empty, "8:6", Start::Oldest), (7, Some(0)));
        // Of two channels, each is the one that remembers the epoch.
        let other = Window { epoch: Epoch(10), lineage: Lineage { base: Offset(8), ..Lineage::default() }, ..copy };
        let both = begin(&[copy, other], &Asked::id(b"8:4,1:5"), Start::Newest);
        assert_eq!(both.iter().map(|beginning| beginning.next).collect::<Vec<_>>(), [Offset(5), Offset(9)]);
        assert!(both.iter().all(|beginning| beginning.gap.is_some()));
    }

    #[test]
    fn channels_go_on_after_a_cut() {
        let at = |epoch, oldest, upcoming, missing, cut| Window {
            missing,
            cut: Some(Offset(cut)),
            ..window(epoch, oldest, upcoming)
        };
        let windows =
            [at(1, 1, 5, 0, 3), at(2, 3, 5, 100, 4), at(3, 3, 5, 101, 3), at(4, 1, 1, 0, 1), at(5, 2, 4, 0, 2)];
        let begin = |windows: &[Window], named: Vec<MessageId>| {
            let asked = Asked::Cut(Cut { zone: 1, serial: 100, named });
            let beginnings = begin(windows, &asked, Start::Newest);
            beginnings.iter().map(|b| (b.next.0, b.gap.map(|gap| gap.lost))).collect::<Vec<_>>()
        };
        let mut expected = vec![(3, None), (4, None), (3, Some(0)), (1, None), (2, None)];
        assert_eq!(begin(&windows, vec![]), expected);
        expected[0] = (2, None);
        expected[4] = (2, Some(1));
        assert_eq!(begin(&windows, vec![id(1, 1), id(5, 0)]), expected, "those that are named");
        expected[4] = (2, Some(1));
        expected[0] = (1, Some(0));
        let unknown = MessageId { epoch: Epoch(1), offset: UNKNOWN };
        assert_eq!(begin(&windows, vec![unknown, id(5, 0)]), expected, "one of which nothing is known");
        let other = windows.map(|window| Window { cut: None, ..window });
        assert_eq!(begin(&other, vec![])[..2], [(1, Some(0)), (3, Some(2))], "another zone");
    }

    #[test]
    fn several_channels_resume_by_their_epochs() {
        let windows = [window(1, 1, 5), window(2, 3, 5), window(3, 1, 1)];
        let begin = |asked: &str| {
            let beginnings = begin(&windows, &Asked::id(asked.as_bytes()), Start::Newest);
            beginnings.iter().map(|b| (b.next.0, b.gap.map(|gap| gap.lost))).collect::<Vec<_>>()
        };
        assert_eq!(begin("3:0,1:2,2:4"), [(3, None), (5, None), (1, None)]);
        assert_eq!(begin("1:2,2:0,3:0"), [(3, None), (3, Some(2)), (1, None)]);
        assert_eq!(begin("1:2"), [(3, None), (5, None), (1, None)], "channels added since");
        assert_eq!(begin("1:2,9:4,3:0"), [(3, None), (3, Some(2)), (1, None)], "the second one is another now");
    }

    proptest! {
        #[test]
        fn no_string_does_more_than_begin_somewhere(
            octets in proptest::collection::vec(any::<u8>(), 0..40),
            oldest in 1_u64..6, messages in 0_u64..6,
        ) {
            let window = window(7, oldest, oldest + messages);
            for asked in [Asked::id(&octets), Asked::etag(&octets)] {
                let beginning = begin(&[window], &asked, Start::Newest)[0];
                prop_assert!((oldest..=oldest + messages).contains(&beginning.next.0));
            }
        }

        #[test]
        fn a_position_survives_its_string(ids in proptest::collection::vec((0..1_u64 << 53, any::<u64>()), 1..9)) {
            let ids: Vec<_> = ids.into_iter().map(|(epoch, offset)| id(epoch, offset)).collect();
            let joined = join(ids.iter().copied().map(Some));
            prop_assert_eq!(Asked::id(joined.as_bytes()), Asked::After(ids.clone().into()));
            prop_assert_eq!(Asked::etag(etag(joined.clone()).as_bytes()), Asked::After(ids.into()));
        }
    }
}
