// SPDX-License-Identifier: Apache-2.0

//! What lies where in a zone.
//!
//! ```text
//! header | slots | journal | wheel | groups | departed | marks | buckets | cells ...
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

mod channel;
mod departed;
mod group;
mod message;
mod program;

pub use channel::{
    COPIED, Copied, EXPELLED, INLINE_INTEREST, INLINE_KEY, INTEREST_PER_CELL, Interest, InterestCell, MAX_PRESENCE,
    MOST_BEHIND, Present, QUEUED, REPLACED, Record,
};
pub use departed::Departed;
pub use group::{Group, INLINE_GROUP};
pub use message::{INLINE_MESSAGE, Message};
pub use program::{INLINE_INPUT, Input, PROGRAM_CELLS, ProgramRecord, REASON, SlotSet, phase};

use std::num::NonZeroU32;

use crate::channel::memory::{Wide, Word, shared};

/// "ngx_ws_c", the first octets of a zone.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ngx_ws_c");

/// Changes whenever a worker of another build would misread the zone.
pub const VERSION: u32 = 12;

/// Octets of a cell.
pub const CELL: usize = 256;

/// Slots that a zone can have at most: as many processes as nginx can have (`NGX_MAX_PROCESSES`), so that every worker gets
/// one, however many of old configurations are still there.
pub const MAX_SLOTS: usize = 1024;

/// Buckets of the wheel of deadlines.
pub const WHEEL: usize = 256;

/// What a cell is the first of, or part of. Contents never reach this word, so it cannot be forged.
pub mod tag {
    /// The cell is not in use.
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

    /// The number of the cell, from 1.
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// The index of the cell, from 0.
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
        /// Channels with an id, deleted ones that still wait for their workers included.
        channels: Word,
        /// Messages stored.
        messages: Word,
        /// Cells of these messages.
        message_cells: Word,
        /// A scan over all buckets goes on at this bucket; at the number of buckets it rests.
        scan: Word,
        /// First [`ProgramRecord`].
        programs: Word,
        /// Cells of messages for programs.
        input_cells: Word,
        /// Cells of channels, and of their groups, that have been published to.
        kept_cells: Word,
        /// Channels that nobody uses and that have no messages, see [`super::idle`]: the first and the last of those that
        /// were never published to, and of the others.
        idle: [[Word; 2]; 2],
        /// First free [`Departed`] that was in use before; 0: none.
        departed_free: Word,
        /// How many [`Departed`] have been in use; the others were never touched.
        departed_fresh: Word,
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
        /// There are news of programs for it, see [`ProgramRecord`].
        programs: Word,
        /// Some of its subscribers are to be closed, see [`EXPELLED`].
        expelled: Word,
        /// Words that are not used.
        spare: [Word; 6],
    }
}

shared! {
    /// What every cell begins with.
    pub struct CellHead {
        /// Next cell of the chain, or of the free list.
        next: Word,
        /// What the cell is used for, a value of [`tag`].
        tag: Word,
    }
}

/// Octets of contents in a cell of which only the head is used otherwise.
pub const BODY: usize = CELL - size_of::<CellHead>();

const _: () = {
    assert!(INLINE_KEY == 48);
    // What the zone says of copies is read in one piece.
    assert!(size_of::<Copied>() <= INLINE_KEY);
    assert!(INLINE_MESSAGE == 160);
    assert!(MAX_PRESENCE == 216);
    assert!(size_of::<Slot>() == 64);
    assert!(size_of::<SlotSet>() <= CELL);
    // What a Close can carry.
    assert!(REASON >= 123);
    assert!(size_of::<InterestCell>() <= CELL);
};
