// SPDX-License-Identifier: Apache-2.0

//! A channel, those who are on it, and its copy of what an engine has.

use super::{CELL, CellHead};
use crate::channel::memory::{Wide, Word, shared};
use crate::channel::transport::Transport;

shared! {
    /// The subscribers of one channel in one worker.
    pub struct Interest {
        /// The channel.
        record: Word,
        /// Slot + 1, 0 if unused; [`QUEUED`] while it is in the slot's list of news.
        slot: Word,
        /// The slot's generation when this was written.
        generation: Word,
        /// Subscribers.
        count: Word,
        /// Next with news for the same worker.
        next: Word,
        /// What the worker calls the channel.
        token: Word,
        /// Last offset that the worker has copied; [`REPLACED`] where it has still to hear that these are others.
        seen: Wide,
    }
}

/// The bit of [`Interest::slot`] by which the entry is queued.
pub const QUEUED: u32 = 1 << 31;

/// The value of [`Interest::seen`] of a worker that has still to hear that the offsets are others.
pub const REPLACED: u64 = u64::MAX;

/// Entries within the first cell of a channel.
pub const INLINE_INTEREST: usize = 2;

/// Entries in a cell of their own.
pub const INTEREST_PER_CELL: usize = (CELL - size_of::<CellHead>()) / size_of::<Interest>();

shared! {
    /// A cell with more [`Interest`] of a channel.
    pub struct InterestCell {
        /// Next one.
        next: Word,
        /// What the cell is used for, a value of [`super::tag`].
        tag: Word,
        /// The entries.
        entries: [Interest; INTEREST_PER_CELL],
    }
}

shared! {
    /// The first cell of a channel; its key follows, in this cell and down the chain.
    pub struct Record {
        /// Next cell of the chain.
        next: Word,
        /// What the cell is used for, a value of [`super::tag`].
        tag: Word,
        /// Next channel in the same bucket.
        hash_next: Word,
        /// The channel before it in the wheel.
        wheel_prev: Word,
        /// The channel after it in the wheel.
        wheel_next: Word,
        /// Bucket of the wheel + 1; 0 if it is in none.
        wheel_bucket: Word,
        /// Oldest message.
        oldest: Word,
        /// Newest message.
        newest: Word,
        /// Messages stored, those beyond `history` included.
        messages: Word,
        /// Its group; 0: none.
        group: Word,
        /// Octets of the group's name, the first part of the key.
        group_len: Word,
        /// Octets of the id, the second part; [`COPIED`] where the channel is a copy.
        id_len: Word,
        /// Cells with more `entries`.
        interest: Word,
        /// What the channel is, a value of [`super::state`].
        state: Word,
        /// Messages to keep; 0: no limit.
        history: Word,
        /// Cells of the record itself, those of `interest` not counted.
        cells: Word,
        /// Hash of the key.
        hash: Wide,
        /// Drawn when the channel was created. A copy has that of its original in [`Copied`]; this one tells it from any other channel.
        epoch: Wide,
        /// Offset that the next message gets.
        upcoming: Wide,
        /// Octets of stored messages, without their attributes.
        bytes: Wide,
        /// How long messages are kept, milliseconds; 0: no limit.
        keep: Wide,
        /// When a subscriber was last seen to come or go, milliseconds; 0: never.
        requested: Wide,
        /// When it was last used at all, milliseconds.
        touched: Wide,
        /// Who is there: the newest [`Present`].
        presence: Word,
        /// The [`ProgramRecord`](super::ProgramRecord) that its clients share, if they do.
        program: Word,
        /// The channel before it among those that nobody uses ([`super::super::idle`]).
        idle_prev: Word,
        /// The channel after it among those that nobody uses.
        idle_next: Word,
        /// The greatest serial of a message that may have been there and is not any more: of the newest one that was dropped; at
        /// first that of its own creation, as it may have been there before.
        missing: Wide,
        /// Subscriber counts, the first ones.
        entries: [Interest; INLINE_INTEREST],
    }
}

/// In [`Record::id_len`]: the channel is the copy of one that an engine has, and a [`Copied`] lies before its key.
pub const COPIED: u32 = 1 << 31;

shared! {
    /// What a channel has besides of which an engine has the original.
    pub struct Copied {
        /// The engine: channels of two engines with one name are two channels.
        space: Wide,
        /// The epoch that the engine has given it; 0 before anything is known of it.
        epoch: Wide,
        /// The newest offset that the engine had when this epoch began, or that was here of it if the engine has come back to it.
        base: Wide,
        /// The epoch before it, whose last message was `base`; 0: none is known.
        previous: Wide,
        /// Not 0: what is here is complete up to what the relay with this number has heard, and it listens on.
        relay: Word,
        /// How many messages of the epoch before were here that the engine did not have any more when this one began.
        undone: Word,
        /// The copy was compared with the original at the request of those who asked up to this time of the zone's clock.
        compared: Wide,
    }
}

/// Octets of a key that fit into the first cell.
pub const INLINE_KEY: usize = CELL - size_of::<Record>();

shared! {
    /// One subscriber that has said who it is; what it said follows in the same cell.
    pub struct Present {
        /// Always 0: a chain of one cell.
        next: Word,
        /// What the cell is used for, a value of [`super::tag`].
        tag: Word,
        /// The one that came before it.
        after: Word,
        /// The one that came after it; 0 in the newest.
        before: Word,
        /// The channel.
        record: Word,
        /// Slot + 1 of the worker whose subscriber it is.
        slot: Word,
        /// The slot's generation when this was written.
        generation: Word,
        /// Octets of what it said; [`EXPELLED`] besides.
        len: Word,
        /// When it came, in seconds since 1970.
        since: Word,
        /// How it is served: see [`Transport::number`](crate::channel::transport::Transport::number). Above [`BEHIND`] how many messages
        /// it had still to get when its worker looked last, or [`MOST_BEHIND`].
        served: Word,
    }
}

/// In [`Present::served`]: the bits below the number of messages.
const BEHIND: u32 = 8;

/// The most messages that a subscriber is known to be behind.
pub const MOST_BEHIND: u32 = u32::MAX >> BEHIND;

/// In [`Present::len`]: the subscriber is to be closed.
pub const EXPELLED: u32 = 1 << 30;

impl Present {
    /// Octets of what it said.
    pub fn length(&self) -> usize {
        (self.len.get() & !EXPELLED) as usize
    }

    /// How it is served. `None` if that cannot be.
    pub fn transport(&self) -> Option<Transport> {
        Transport::of_number(self.served.get() & ((1 << BEHIND) - 1))
    }

    /// How many messages it has still to get, at most [`MOST_BEHIND`].
    pub fn behind(&self) -> u32 {
        self.served.get() >> BEHIND
    }

    /// Writes both.
    pub fn set_served(&self, transport: Transport, behind: u32) {
        self.served.set(transport.number() | behind.min(MOST_BEHIND) << BEHIND);
    }
}

/// Octets that a subscriber may say about who it is: what fits into one cell, so that nobody takes more of the zone than
/// that by choosing a long name.
pub const MAX_PRESENCE: usize = CELL - size_of::<Present>();
