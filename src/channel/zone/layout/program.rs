// SPDX-License-Identifier: Apache-2.0

//! The program that the clients of a channel share, and what they send it.

use super::{CELL, MAX_SLOTS};
use crate::channel::memory::{Wide, Word, shared};

/// Words of 64 bits with one bit for each slot.
pub const SLOT_BITS: usize = MAX_SLOTS / 64;

/// States of a program.
pub mod phase {
    /// The program does not run.
    pub const IDLE: u32 = 0;
    /// Its owner is starting it.
    pub const STARTING: u32 = 1;
    /// The program runs.
    pub const RUNNING: u32 = 2;
    /// Its owner is stopping it.
    pub const STOPPING: u32 = 3;
}

shared! {
    /// The program that the clients of one channel share. It is there as long as a worker has clients of it or runs it, and
    /// as long as a run of it is kept.
    /// The reason of its end follows in the same cell; the rest of the chain is two [`SlotSet`].
    pub struct ProgramRecord {
        /// The slots that have clients.
        next: Word,
        /// What the cell is used for, a value of [`super::tag`].
        tag: Word,
        /// The channel.
        record: Word,
        /// Next one of the zone.
        list: Word,
        /// Slot + 1 of the worker that runs it; 0: nobody.
        owner: Word,
        /// The generation of that slot when it began.
        generation: Word,
        /// What the program does, a value of [`phase`].
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
        /// Not 0: its run was begun by a request. Nobody else begins one, and nobody goes on with it.
        requested: Word,
        /// Milliseconds for which such a run is kept when it has ended.
        keeps: Word,
        /// Octets of these messages.
        input_octets: Wide,
        /// The offset of the first message of a run that a request has begun.
        first: Wide,
        /// A run that a request has begun has ended, and is kept until this time; 0: there is none.
        kept: Wide,
    }
}

shared! {
    /// A set of slots: of those that have clients of a program, and after it of those that have not looked at the program
    /// since something happened.
    pub struct SlotSet {
        /// Next cell of the chain.
        next: Word,
        /// What the cell is used for, a value of [`super::tag`].
        tag: Word,
        /// One bit for each slot.
        bits: [Wide; SLOT_BITS],
    }
}

/// Cells of a program.
pub const PROGRAM_CELLS: usize = 3;

/// Octets of a reason.
pub const REASON: usize = CELL - size_of::<ProgramRecord>();

shared! {
    /// The first cell of a message for a program; its data follow, in this cell and down the chain.
    pub struct Input {
        /// Next cell of the chain.
        next: Word,
        /// What the cell is used for, a value of [`super::tag`].
        tag: Word,
        /// Last cell of the chain.
        tail: Word,
        /// Cells of the chain.
        cells: Word,
        /// The message after it.
        after: Word,
        /// 0 text, 1 binary, 2 what a worker says of the sizes that its clients ask for.
        kind: Word,
        /// Octets of data.
        len: Word,
        /// The slot of the worker that has left it.
        from: Word,
    }
}

/// Octets of data in the first cell of a message for a program.
pub const INLINE_INPUT: usize = CELL - size_of::<Input>();
