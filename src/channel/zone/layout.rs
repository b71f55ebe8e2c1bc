// SPDX-License-Identifier: Apache-2.0

//! What lies where in a zone.
//!
//! ```text
//! header | slots | journal | wheel | groups | marks | buckets | cells ...
//! ```
//!
//! Everything after the fixed parts is cells of one size. A message, a channel and a group is a chain of cells; the rest
//! of the zone refers to it by the number of its first cell. Cells are numbered from 1, so that the zero of fresh
//! memory means "none".
//!
//! The size of a cell, 256 octets, holds a channel with a key of up to 48 octets and subscribers in two workers, or a
//! message with 160 octets of contents (content type, event name and data): a small message costs one cell and one
//! walk. With 128 octets it would be two cells for both, and a megabyte 8,700 links; with 512 a chat of 100-octet
//! messages would waste three quarters of the zone.

use std::num::NonZeroU32;

use crate::channel::memory::{Wide, Word, shared};

/// "ngx_ws_c", the first octets of a zone.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ngx_ws_c");

/// Changes whenever a worker of another build would misread the zone.
pub const VERSION: u32 = 6;

/// Octets of a cell.
pub const CELL: usize = 256;

/// Slots that a zone can have at most: as many processes as nginx can have (`NGX_MAX_PROCESSES`), so that every worker gets
/// one, however many of old configurations are still there.
pub const MAX_SLOTS: usize = 1024;

/// Buckets of the wheel of deadlines.
pub const WHEEL: usize = 256;

/// What a cell is the first of, or part of. Contents never reach this word, so it cannot be forged.
pub mod tag {
    /// Not in use.
    pub const FREE: u32 = 0;
    /// A channel.
    pub const CHANNEL: u32 = 0x4348_414e;
    /// A group.
    pub const GROUP: u32 = 0x4752_4f55;
    /// A message.
    pub const MESSAGE: u32 = 0x4d45_5353;
    /// A cell further down a chain.
    pub const BODY: u32 = 0x424f_4459;
    /// More subscriber counts of a channel.
    pub const INTEREST: u32 = 0x494e_5445;
    /// Somebody who is on a channel.
    pub const PRESENT: u32 = 0x5052_4553;
    /// The program that the clients of a channel share.
    pub const PROGRAM: u32 = 0x5052_4f47;
    /// A message for a program.
    pub const INPUT: u32 = 0x494e_5055;
}

/// States of a channel.
pub mod state {
    /// Can be published and subscribed to.
    pub const LIVE: u32 = 0;
    /// Deleted; it stays until every worker with subscribers has been told.
    pub const DELETED: u32 = 1;
}

/// The number of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(NonZeroU32);

impl Cell {
    /// `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// From 1.
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// From 0.
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What a link to an optional cell holds.
pub fn link(cell: Option<Cell>) -> u32 {
    cell.map_or(0, Cell::number)
}

/// The place of an [`Interest`], in units of 8 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterestAt(NonZeroU32);

impl InterestAt {
    /// Octets of a unit.
    pub const UNIT: usize = 8;

    /// From the value of a link. `None` for 0.
    pub fn new(units: u32) -> Option<Self> {
        NonZeroU32::new(units).map(Self)
    }

    /// From an offset, if it can be expressed.
    pub fn at(offset: usize) -> Option<Self> {
        u32::try_from(offset / Self::UNIT).ok().and_then(Self::new)
    }

    /// The offset in the region.
    pub fn offset(self) -> usize {
        self.0.get() as usize * Self::UNIT
    }

    /// The value of a link to it.
    pub fn units(self) -> u32 {
        self.0.get()
    }
}

shared! {
    /// The beginning of a zone.
    pub struct Header {
        /// [`MAGIC`]; written last when the zone is made.
        magic: Wide,
        /// [`VERSION`].
        version: Word,
        /// [`CELL`].
        cell_size: Word,
        /// Octets of the region.
        len: Wide,
        /// Number of slots.
        slots: Word,
        /// Number of buckets, a power of two.
        buckets: Word,
        /// Number of cells.
        cells: Word,
        /// Not 0: an update is in progress, or has found the zone damaged. Whoever takes the lock and finds this undoes the
        /// update or repairs the zone.
        busy: Word,
        /// Cells given back, chained by their `next`.
        free: Word,
        /// How many these are.
        free_count: Word,
        /// Cells below this index have been in use; the others were never touched.
        fresh: Word,
        /// Message longest in the zone.
        oldest: Word,
        /// Message last published.
        newest: Word,
        /// The last of those messages at the beginning of the order that were passed over when room was needed; 0: none. See
        /// [`super::order`].
        passed: Word,
        /// Channels, deleted ones that still wait for their workers included.
        channels: Word,
        /// Messages stored.
        messages: Word,
        /// Cells of these messages.
        message_cells: Word,
        /// A scan over all buckets goes on at this bucket; at the number of buckets it rests.
        scan: Word,
        /// First [`Program`].
        programs: Word,
        /// Cells of messages for programs.
        input_cells: Word,
        /// Cells of channels, and of their groups, that have been published to.
        kept_cells: Word,
        /// Channels that nobody uses and that have no messages, see [`super::idle`]: the first and the last of those that
        /// were never published to, and of the others.
        idle: [[Word; 2]; 2],
        /// Secret of the hash table and of the epochs.
        seed: [Wide; 2],
        /// Epochs drawn.
        drawn: Wide,
        /// The order over all channels: messages published and channels created.
        serial: Wide,
        /// No message that was passed over has a greater serial.
        passed_serial: Wide,
        /// The latest time any process has seen, milliseconds, monotonic.
        clock: Wide,
        /// The second up to which the wheel has been turned.
        wheel_second: Wide,
        /// Octets of stored messages, without their attributes.
        bytes: Wide,
        /// Messages dropped because the zone was full.
        evicted: Wide,
        /// Repairs after a process was killed in an update.
        repairs: Wide,
    }
}

shared! {
    /// What belongs to one worker.
    pub struct Slot {
        /// Process that has claimed it; 0: nobody.
        pid: Word,
        /// Changes with every process; what was counted under another generation is void.
        generation: Word,
        /// When that process began, in the unit of the caller.
        start: Wide,
        /// The worker has been woken and has not yet looked at everything.
        woken: Word,
        /// First [`Interest`] with news for it.
        dirty_head: Word,
        /// Last one.
        dirty_tail: Word,
        /// The worker has been told to go.
        leaving: Word,
        /// There are news of programs for it, see [`Program`].
        programs: Word,
        /// Not used.
        spare: [Word; 7],
    }
}

shared! {
    /// What every cell begins with.
    pub struct CellHead {
        /// Next cell of the chain, or of the free list.
        next: Word,
        /// See [`tag`].
        tag: Word,
    }
}

/// Octets of contents in a cell of which only the head is used otherwise.
pub const BODY: usize = CELL - size_of::<CellHead>();

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

/// See [`Interest::slot`].
pub const QUEUED: u32 = 1 << 31;

/// See [`Interest::seen`].
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
        /// See [`tag`].
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
        /// See [`tag`].
        tag: Word,
        /// Next channel in the same bucket.
        hash_next: Word,
        /// Neighbours in the wheel.
        wheel_prev: Word,
        /// See `wheel_prev`.
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
        /// See [`state`].
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
        /// The [`Program`] that its clients share, if they do.
        program: Word,
        /// Neighbours among the channels that nobody uses; see [`super::idle`].
        idle_prev: Word,
        /// See `idle_prev`.
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
        /// The newest offset that the engine had when this epoch began.
        base: Wide,
        /// The epoch before it, whose last message was `base`; 0: none is known.
        previous: Wide,
        /// Not 0: what is here is complete up to what the relay with this number has heard, and it listens on.
        relay: Wide,
        /// It was compared with the original at the request of those who asked up to this time of the zone's clock.
        compared: Wide,
    }
}

/// Octets of a key that fit into the first cell.
pub const INLINE_KEY: usize = CELL - size_of::<Record>();

shared! {
    /// The first cell of a group; its name follows, in this cell and down the chain.
    pub struct Group {
        /// Next cell of the chain.
        next: Word,
        /// See [`tag`].
        tag: Word,
        /// Next group in the same bucket.
        hash_next: Word,
        /// Cells of the chain.
        cells: Word,
        /// Octets of the name.
        name_len: Word,
        /// Channels that refer to it, deleted ones that still wait for their workers included.
        records: Word,
        /// Channels without those that are deleted.
        channels: Word,
        /// Subscribers; those of dead workers until their channels are looked at.
        subscribers: Word,
        /// Messages.
        messages: Word,
        /// Which limits it has of its own, see [`super::groups::own`]; the others are those of the location.
        limited: Word,
        /// See [`super::groups::GroupLimits`].
        max_channels: Word,
        /// See [`super::groups::GroupLimits`].
        max_subscribers: Word,
        /// See [`super::groups::GroupLimits`].
        max_messages: Word,
        /// One of its channels has been published to.
        kept: Word,
        /// Hash of the name.
        hash: Wide,
        /// The engine that has its channels; 0: none.
        space: Wide,
        /// Octets of messages.
        bytes: Wide,
        /// See [`super::groups::GroupLimits`].
        max_bytes: Wide,
    }
}

/// Octets of a name that fit into the first cell.
pub const INLINE_GROUP: usize = CELL - size_of::<Group>();

shared! {
    /// One subscriber that has said who it is; what it said follows in the same cell.
    pub struct Present {
        /// Always 0: a chain of one cell.
        next: Word,
        /// See [`tag`].
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
        /// Octets of what it said.
        len: Word,
    }
}

/// Octets that a subscriber may say about who it is: what fits into one cell, so that nobody takes more of the zone than
/// that by choosing a long name.
pub const MAX_PRESENCE: usize = CELL - size_of::<Present>();

shared! {
    /// The first cell of a message; data, content type and event name follow, in this cell and down the chain.
    pub struct Message {
        /// Next cell of the chain.
        next: Word,
        /// See [`tag`].
        tag: Word,
        /// Last cell of the chain.
        tail: Word,
        /// Cells of the chain.
        cells: Word,
        /// The channel.
        record: Word,
        /// Next message of the channel.
        after: Word,
        /// Previous message of the channel; meaningless in its oldest.
        before: Word,
        /// A message further back, with the offset `jump_offset`; gone if that is below the oldest.
        jump: Word,
        /// Next older message of the zone.
        older: Word,
        /// Next newer message of the zone.
        newer: Word,
        /// 0 text, 1 binary.
        kind: Word,
        /// Octets of data.
        data_len: Word,
        /// Octets of content type.
        type_len: Word,
        /// Octets of event name.
        event_len: Word,
        /// Counts up by one from 1.
        offset: Wide,
        /// See `jump`.
        jump_offset: Wide,
        /// Place in the order over all channels.
        serial: Wide,
        /// When it was published, milliseconds, monotonic.
        time: Wide,
        /// The same as Unix time, milliseconds.
        unix: Wide,
    }
}

/// Words of 64 bits with one bit for each slot.
pub const SLOT_BITS: usize = MAX_SLOTS / 64;

/// States of a program.
pub mod phase {
    /// It does not run.
    pub const IDLE: u32 = 0;
    /// Its owner is starting it.
    pub const STARTING: u32 = 1;
    /// It runs.
    pub const RUNNING: u32 = 2;
    /// Its owner is stopping it.
    pub const STOPPING: u32 = 3;
}

shared! {
    /// The program that the clients of one channel share. It is there as long as a worker has clients of it or runs it.
    /// The reason of its end follows in the same cell; the rest of the chain is two [`SlotSet`].
    pub struct Program {
        /// The slots that have clients.
        next: Word,
        /// See [`tag`].
        tag: Word,
        /// The channel.
        record: Word,
        /// Next one of the zone.
        list: Word,
        /// Slot + 1 of the worker that runs it; 0: nobody.
        owner: Word,
        /// The generation of that slot when it began.
        generation: Word,
        /// See [`phase`].
        phase: Word,
        /// Its process.
        pid: Word,
        /// Counts up whenever it has ended by itself or could not be started.
        run: Word,
        /// How the run before this one ended: the code of the Close, and from bit 16 on the octets of its reason.
        ended: Word,
        /// The status of the process then, in the form of the caller.
        ended_status: Word,
        /// Messages from clients that it has not read, the oldest first.
        input: Word,
        /// The newest one.
        input_last: Word,
        /// Clients wait for room.
        starved: Word,
        /// Octets of these messages.
        input_octets: Wide,
    }
}

shared! {
    /// A set of slots: of those that have clients of a program, and after it of those that have not looked at the program
    /// since something happened.
    pub struct SlotSet {
        /// Next cell of the chain.
        next: Word,
        /// See [`tag`].
        tag: Word,
        /// One bit for each slot.
        bits: [Wide; SLOT_BITS],
    }
}

/// Cells of a program.
pub const PROGRAM_CELLS: usize = 3;

/// Octets of a reason.
pub const REASON: usize = CELL - size_of::<Program>();

shared! {
    /// The first cell of a message for a program; its data follow, in this cell and down the chain.
    pub struct Input {
        /// Next cell of the chain.
        next: Word,
        /// See [`tag`].
        tag: Word,
        /// Last cell of the chain.
        tail: Word,
        /// Cells of the chain.
        cells: Word,
        /// The message after it.
        after: Word,
        /// 0 text, 1 binary.
        kind: Word,
        /// Octets of data.
        len: Word,
        /// Not used.
        spare: Word,
    }
}

/// Octets of data in the first cell of a message for a program.
pub const INLINE_INPUT: usize = CELL - size_of::<Input>();

/// Octets of contents in the first cell of a message.
pub const INLINE_MESSAGE: usize = CELL - size_of::<Message>();

const _: () = {
    assert!(INLINE_KEY == 48);
    // It is read in one piece.
    assert!(size_of::<Copied>() <= INLINE_KEY);
    assert!(INLINE_MESSAGE == 160);
    assert!(MAX_PRESENCE == 224);
    assert!(size_of::<Slot>() == 64);
    assert!(size_of::<SlotSet>() <= CELL);
    // What a Close can carry.
    assert!(REASON >= 123);
    assert!(size_of::<InterestCell>() <= CELL);
};
