// SPDX-License-Identifier: Apache-2.0

//! What workers leave for a program that the clients of a channel share, until whoever runs it has given it to it.

use super::program::{ProgramHandle, owned, valid};
use super::{Now, Programs, Slot, Wake};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::zone::Memory;
use crate::channel::zone::layout::{CELL, Cell, Input as StoredInput};
use crate::channel::zone::room::Need;
use crate::ws::frame::MessageKind;

/// The part of a zone that the input of all programs may take: it cannot be evicted.
const INPUT_SHARE: usize = 8;

/// What is left for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// A message of a client.
    Message(MessageKind),
    /// What a worker says of the sizes that its clients ask for, in the form of the caller.
    Size,
}

impl InputKind {
    /// As the zone has it.
    fn number(self) -> u32 {
        match self {
            Self::Message(MessageKind::Text) => 0,
            Self::Message(MessageKind::Binary) => 1,
            Self::Size => 2,
        }
    }

    fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Message(MessageKind::Text),
            1 => Self::Message(MessageKind::Binary),
            _ => Self::Size,
        }
    }
}

/// A message for a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What it is.
    pub kind: InputKind,
    /// Its octets.
    pub data: Vec<u8>,
}

/// A message as its program finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftInput {
    /// The number of the slot of the worker that has left it.
    pub from: usize,
    /// The message.
    pub input: Input,
}

/// Why a message for a program was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputError {
    /// As much as may wait is waiting. Workers with clients have news of the program once there is room.
    Full,
    /// The input is larger than the program ever has room for.
    TooLarge,
    /// The channel is gone.
    Gone,
    /// The zone is damaged; it is repaired when it is used next.
    Corrupt,
}

impl From<Corrupt> for InputError {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl<L: Lock> Programs<'_, L> {
    /// Adds a message of this worker to the input of a program, if no more than `most` octets wait then, or none did. Workers are
    /// returned that are to be woken.
    ///
    /// # Errors
    ///
    /// [`InputError`].
    pub fn push_input(
        &self,
        handle: ProgramHandle,
        slot: Slot,
        message: &Input,
        most: u64,
        now: Now,
    ) -> Result<Wake, InputError> {
        let Input { kind, data } = message;
        let cells = Memory::input_cells(data.len());
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(program) = valid(memory, handle) else { return Ok(Err(InputError::Gone)) };
            // Nobody would read it, and whoever starts the next program of the channel would find it.
            if program.kept.get() != 0 {
                return Ok(Err(InputError::Gone));
            }
            let all = memory.geometry.cells / INPUT_SHARE;
            if cells > all {
                return Ok(Err(InputError::TooLarge));
            }
            let waiting = program.input_octets.get();
            let full = program.input.get() != 0 && waiting.saturating_add(data.len() as u64) > most;
            if full || memory.header()?.input_cells.get() as usize + cells > all {
                program.starved.set(1);
                return Ok(Err(InputError::Full));
            }
            memory.record(handle.channel.cell)?.touched.set(clock);
            if !memory.make_room(cells, Need::Subscriber(handle.channel.cell), clock)? {
                program.starved.set(1);
                return Ok(Err(InputError::Full));
            }
            memory.push_input(program, slot.0, kind.number(), data)?;
            memory.tell_owner(program).map(Ok)
        })?
    }

    /// Copies the oldest messages of the input of a program of this worker to the end of `out`: so many octets, but at
    /// least one message. They stay until they are consumed.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn read_input(
        &self,
        handle: ProgramHandle,
        slot: Slot,
        mut octets: usize,
        out: &mut Vec<LeftInput>,
    ) -> Result<(), Corrupt> {
        self.zone.view(|memory| {
            let Some(program) = owned(memory, handle, slot)? else { return Ok(()) };
            let mut next = Cell::new(program.input.get());
            let mut left = memory.geometry.cells;
            while let Some(cell) = next {
                left = left.checked_sub(1).ok_or(Corrupt)?;
                let input = memory.input(cell)?;
                let len = input.len.get() as usize;
                if len > memory.geometry.cells * CELL {
                    return Err(Corrupt);
                }
                let mut data = Vec::new();
                if data.try_reserve_exact(len).is_err() {
                    // The input is read again when there is memory.
                    return Ok(());
                }
                memory.read_along(cell, size_of::<StoredInput>(), len, &mut data)?;
                let message = Input { kind: InputKind::of_number(input.kind.get()), data };
                out.push(LeftInput { from: input.from.get() as usize, input: message });
                octets = octets.saturating_sub(len.max(1));
                if octets == 0 {
                    break;
                }
                next = Cell::new(input.after.get());
            }
            Ok(())
        })
    }

    /// Drops the oldest messages of the input of a program of this worker: it has them. Workers are returned that are to
    /// be woken.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn consume_input(&self, handle: ProgramHandle, slot: Slot, count: usize) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            let Some(program) = owned(memory, handle, slot)? else { return Ok(Wake::default()) };
            memory.drop_input(program, count)?;
            if program.starved.get() == 0 {
                return Ok(Wake::default());
            }
            program.starved.set(0);
            memory.tell(program, memory.clients(program)?)
        })
    }
}
