// SPDX-License-Identifier: Apache-2.0

//! Programs that the clients of a channel share: who runs them, who has clients, and what they are to read.
//!
//! A program hangs on the record of its channel, and its input on the program, so that both are found by a repair. Input
//! is not in the order of all messages: nothing drops it but its reader, or the end of the program.

use super::cells::{Chain, cells_for};
use super::interest::Wake;
use super::layout::{Cell, INLINE_INPUT, Input, PROGRAM_CELLS, ProgramRecord, Record, SlotSet, phase, state, tag};
use super::room::Need;
use super::{Memory, STEPS};
use crate::channel::memory::Corrupt;

impl SlotSet {
    /// The whole set.
    fn get(&self) -> Wake {
        Wake::of(self.bits.each_ref().map(|word| word.get()))
    }

    /// Changes the bit of a slot.
    pub fn put(&self, slot: usize, to: bool) {
        if let Some(word) = self.bits.get(slot / 64) {
            let bit = 1 << (slot % 64);
            let before = word.get();
            let after = if to { before | bit } else { before & !bit };
            if before != after {
                word.set(after);
            }
        }
    }
}

impl<'a> Memory<'a> {
    /// The program in a cell.
    pub fn program(self, cell: Cell) -> Result<&'a ProgramRecord, Corrupt> {
        let program: &ProgramRecord = self.cell(cell)?;
        if program.tag.get() == tag::PROGRAM { Ok(program) } else { Err(Corrupt) }
    }

    /// A message for a program.
    pub fn input(self, cell: Cell) -> Result<&'a Input, Corrupt> {
        let input: &Input = self.cell(cell)?;
        if input.tag.get() == tag::INPUT { Ok(input) } else { Err(Corrupt) }
    }

    /// The slots that have clients of a program.
    fn client_slots(self, program: &ProgramRecord) -> Result<&'a SlotSet, Corrupt> {
        self.cell(Cell::new(program.next.get()).ok_or(Corrupt)?)
    }

    /// The slots that have not looked at it since something happened.
    pub fn news_slots(self, program: &ProgramRecord) -> Result<&'a SlotSet, Corrupt> {
        self.cell(Cell::new(self.client_slots(program)?.next.get()).ok_or(Corrupt)?)
    }

    /// The program of a channel, which gets one that nobody runs if it has none. `None` if there is no room for that.
    pub fn find_or_create_program(self, channel: Cell, need: Need, clock: u64) -> Result<Option<Cell>, Corrupt> {
        let record = self.record(channel)?;
        if let Some(cell) = Cell::new(record.program.get()) {
            return Ok(Some(cell));
        }
        record.touched.set(clock);
        if !self.make_room(PROGRAM_CELLS, need, clock)? {
            return Ok(None);
        }
        self.create_program(channel).map(Some)
    }

    /// Gives a channel a program that nobody runs. There must be [`PROGRAM_CELLS`] free cells.
    fn create_program(self, channel: Cell) -> Result<Cell, Corrupt> {
        let header = self.header()?;
        let record = self.record(channel)?;
        let cell = self.take_cells(PROGRAM_CELLS, tag::PROGRAM)?.head;
        let program = self.program(cell)?;
        let none = [
            &program.owner,
            &program.generation,
            &program.phase,
            &program.pid,
            &program.run,
            &program.ended,
            &program.ended_status,
            &program.input,
            &program.input_last,
            &program.starved,
            &program.requested,
            &program.keeps,
        ];
        for word in none {
            word.set(0);
        }
        for word in [&program.input_octets, &program.first, &program.kept] {
            word.set(0);
        }
        for word in self.client_slots(program)?.bits.iter().chain(&self.news_slots(program)?.bits) {
            word.set(0);
        }
        program.record.set(channel.number());
        program.list.set(header.programs.get());
        record.program.commit(cell.number());
        header.programs.set(cell.number());
        Ok(cell)
    }

    /// The slot of the worker that runs a program, if that is still there.
    pub fn owner(self, program: &ProgramRecord) -> Result<Option<usize>, Corrupt> {
        let Some(nth) = program.owner.get().checked_sub(1) else { return Ok(None) };
        // Nobody is in a slot that is not there: what is damaged can be repaired.
        let Ok(slot) = self.slot(nth as usize) else { return Ok(None) };
        let valid = slot.pid.get() != 0 && slot.generation.get() == program.generation.get();
        Ok(valid.then_some(nth as usize))
    }

    /// Slots that have clients of a program.
    pub fn clients(self, program: &ProgramRecord) -> Result<Wake, Corrupt> {
        Ok(self.client_slots(program)?.get())
    }

    /// A worker has clients of a program, or has none.
    pub fn set_clients(self, program: &ProgramRecord, slot: usize, some: bool) -> Result<(), Corrupt> {
        self.client_slots(program)?.put(slot, some);
        Ok(())
    }

    /// No worker has clients of a program but those in `slots`.
    pub fn keep_clients(self, program: &ProgramRecord, slots: Wake) -> Result<Wake, Corrupt> {
        let clients = self.clients(program)?;
        let kept = clients.common(slots);
        if kept != clients {
            for gone in clients.filter(|slot| !slots.has(*slot)) {
                self.set_clients(program, gone, false)?;
            }
        }
        Ok(kept)
    }

    /// Whether any of these workers has not been told to go.
    pub fn any_stays(self, slots: Wake) -> Result<bool, Corrupt> {
        for nth in slots {
            if self.slot(nth)?.leaving.get() == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets workers know that something has happened to a program. Those are returned that are to be woken.
    pub fn tell(self, program: &ProgramRecord, slots: Wake) -> Result<Wake, Corrupt> {
        let mut wake = Wake::default();
        for nth in slots {
            let slot = self.slot(nth)?;
            if slot.pid.get() == 0 {
                continue;
            }
            self.news_slots(program)?.put(nth, true);
            if slot.programs.raise() {
                wake.add(nth);
            }
        }
        Ok(wake)
    }

    /// Lets the worker that runs a program know.
    pub fn tell_owner(self, program: &ProgramRecord) -> Result<Wake, Corrupt> {
        match self.owner(program)? {
            Some(owner) => {
                let mut slots = Wake::default();
                slots.add(owner);
                self.tell(program, slots)
            }
            None => Ok(Wake::default()),
        }
    }

    /// A worker has looked at the news of the program.
    pub fn looked(self, program: &ProgramRecord, slot: usize) -> Result<(), Corrupt> {
        self.news_slots(program)?.put(slot, false);
        Ok(())
    }

    /// Whether a worker has not looked since there was news of the program.
    pub fn has_news_of(self, program: &ProgramRecord, slot: usize) -> Result<bool, Corrupt> {
        Ok(self.news_slots(program)?.get().has(slot))
    }

    /// Nobody runs a program any more.
    pub fn disown(self, program: &ProgramRecord) {
        program.phase.set(phase::IDLE);
        program.pid.set(0);
        program.owner.commit(0);
    }

    /// Removes the program of a channel unless somebody runs it or has clients, or a run of it is kept. Whether it is gone.
    pub fn remove_unused_program(self, channel: Cell) -> Result<bool, Corrupt> {
        let record = self.record(channel)?;
        let Some(cell) = Cell::new(record.program.get()) else { return Ok(true) };
        let program = self.program(cell)?;
        if self.owner(program)?.is_some() || !self.clients(program)?.is_empty() || program.kept.get() != 0 {
            return Ok(false);
        }
        self.discard_program(record, cell)?;
        Ok(true)
    }

    /// The run of a channel's program that has ended and is kept, if there is one: until when.
    pub fn kept_run(self, record: &Record) -> Result<Option<u64>, Corrupt> {
        Ok(self.program_of(record)?.map(|program| program.kept.get()).filter(|until| *until != 0))
    }

    /// Keeps the run of a program, which has ended, for as long as was said when it began.
    pub fn keep_run(self, channel: Cell, program: &ProgramRecord, clock: u64) -> Result<(), Corrupt> {
        let keeps = u64::from(program.keeps.get());
        program.requested.set(0);
        if keeps > 0 {
            let until = clock.saturating_add(keeps);
            program.kept.set(until);
            self.schedule(channel, until)?;
        }
        Ok(())
    }

    /// Forgets the run of a channel's program if it has been kept for long enough, or if the channel is deleted.
    pub fn expire_run(self, channel: Cell, clock: u64) -> Result<(), Corrupt> {
        let record = self.record(channel)?;
        let Some(program) = self.program_of(record)? else { return Ok(()) };
        let kept = program.kept.get();
        if kept != 0 && (kept <= clock || record.state.get() == state::DELETED) {
            program.kept.set(0);
            if self.remove_unused_program(channel)? {
                record.touched.set(clock);
            }
        }
        Ok(())
    }

    /// Gives back the program of a channel. May [checkpoint](Self::checkpoint).
    pub fn discard_program(self, record: &Record, cell: Cell) -> Result<(), Corrupt> {
        let header = self.header()?;
        let program = self.program(cell)?;
        self.discard_input(program)?;
        record.program.commit(0);
        let mut link = &header.programs;
        let mut left = self.geometry.cells;
        while let Some(next) = Cell::new(link.get()).filter(|next| *next != cell) {
            left = left.checked_sub(1).ok_or(Corrupt)?;
            link = &self.program(next)?.list;
        }
        if link.get() != 0 {
            link.set(program.list.get());
        }
        self.give_cells(self.chain_end(cell, PROGRAM_CELLS as u32)?, PROGRAM_CELLS as u32)
    }

    /// A worker is gone: it has no clients and runs no program. Those that have are told.
    pub fn vacate_programs(self, nth: usize) -> Result<(), Corrupt> {
        let mut next = Cell::new(self.header()?.programs.get());
        let mut left = self.geometry.cells;
        while let Some(cell) = next {
            left = left.checked_sub(1).ok_or(Corrupt)?;
            let program = self.program(cell)?;
            next = Cell::new(program.list.get());
            let owner = self.owner(program)? == Some(nth);
            if !owner && !self.clients(program)?.has(nth) {
                continue;
            }
            self.set_clients(program, nth, false)?;
            self.looked(program, nth)?;
            if owner {
                self.disown(program);
            }
            let mut concerned = self.clients(program)?;
            concerned.merge(self.owner(program)?.map(one).unwrap_or_default());
            self.tell(program, concerned)?;
            let channel = Cell::new(program.record.get()).ok_or(Corrupt)?;
            self.remove_unused_program(channel)?;
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Cells of a message for a program.
    pub fn input_cells(len: usize) -> usize {
        cells_for(len, INLINE_INPUT)
    }

    /// Adds a message of the worker in a slot to the input of a program. There are enough free cells.
    pub fn push_input(self, program: &ProgramRecord, slot: usize, kind: u32, data: &[u8]) -> Result<(), Corrupt> {
        let header = self.header()?;
        let cells = Self::input_cells(data.len());
        let chain = self.take_cells(cells, tag::INPUT)?;
        let input = self.input(chain.head)?;
        let count = u32::try_from(cells).map_err(|_| Corrupt)?;
        input.tail.set(chain.tail.number());
        input.cells.set(count);
        input.after.set(0);
        input.kind.set(kind);
        input.from.set(u32::try_from(slot).map_err(|_| Corrupt)?);
        input.len.set(u32::try_from(data.len()).map_err(|_| Corrupt)?);
        self.write_along(chain.head, size_of::<Input>(), [data])?;
        match Cell::new(program.input_last.get()) {
            Some(last) => self.input(last)?.after.commit(chain.head.number()),
            None => program.input.commit(chain.head.number()),
        }
        program.input_last.set(chain.head.number());
        program.input_octets.add(data.len() as u64);
        header.input_cells.add(count);
        Ok(())
    }

    /// Drops the oldest message of the input. Whether there was one.
    pub fn pop_input(self, program: &ProgramRecord) -> Result<bool, Corrupt> {
        let Some(cell) = Cell::new(program.input.get()) else { return Ok(false) };
        let input = self.input(cell)?;
        let after = input.after.get();
        program.input.commit(after);
        if after == 0 {
            program.input_last.set(0);
        }
        program.input_octets.sub(u64::from(input.len.get()));
        let cells = input.cells.get();
        self.header()?.input_cells.sub(cells);
        let tail = Cell::new(input.tail.get()).ok_or(Corrupt)?;
        self.give_cells(Chain { head: cell, tail }, cells)?;
        Ok(true)
    }

    /// Drops all of the input. [Checkpoints](Self::checkpoint) every now and then.
    pub fn discard_input(self, program: &ProgramRecord) -> Result<(), Corrupt> {
        self.drop_input(program, usize::MAX)
    }

    /// Drops so many of the oldest messages of the input. [Checkpoints](Self::checkpoint) every now and then.
    pub fn drop_input(self, program: &ProgramRecord, most: usize) -> Result<(), Corrupt> {
        let mut dropped = 0;
        while dropped < most && self.pop_input(program)? {
            dropped += 1;
            if dropped.is_multiple_of(STEPS) {
                self.checkpoint()?;
            }
        }
        Ok(())
    }

    /// The program of a channel, if it has one.
    pub fn program_of(self, record: &Record) -> Result<Option<&'a ProgramRecord>, Corrupt> {
        Cell::new(record.program.get()).map(|cell| self.program(cell)).transpose()
    }
}

/// The set of one slot.
pub fn one(slot: usize) -> Wake {
    let mut slots = Wake::default();
    slots.add(slot);
    slots
}
