// SPDX-License-Identifier: Apache-2.0

//! Who is on which channel.
//!
//! A subscriber that says who it is has one cell, in a list of its channel. Like a subscriber count the cell is bound to
//! the worker: once that is gone, and its slot was given up, the entry is void, and it is given back when its channel is
//! looked at next.
//!
//! What an entry says beside the name is written when the subscriber comes: a publication touches none of them. How far behind somebody is
//! that does not keep up is written by its worker from time to time.

use super::cells::Chain;
use super::layout::{Cell, EXPELLED, MAX_PRESENCE, Present, link, tag};
use super::{Memory, STEPS};
use crate::channel::memory::Corrupt;
use crate::channel::transport::Transport;

/// What a subscriber is listed with.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Who it is.
    pub who: &'a [u8],
    /// How it is served.
    pub transport: Transport,
    /// When it came, in seconds since 1970.
    pub since: u32,
}

impl<'a> Memory<'a> {
    /// The entry in a cell.
    pub fn present(self, cell: Cell) -> Result<&'a Present, Corrupt> {
        let present: &Present = self.cell(cell)?;
        if present.tag.get() == tag::PRESENT { Ok(present) } else { Err(Corrupt) }
    }

    /// Whether the worker that wrote an entry is still the one in its slot.
    pub fn is_present(self, present: &Present) -> Result<bool, Corrupt> {
        let Some(nth) = present.slot.get().checked_sub(1) else { return Ok(false) };
        // Nobody is in a slot that is not there: what is damaged can be repaired.
        let Ok(slot) = self.slot(nth as usize) else { return Ok(false) };
        Ok(slot.pid.get() != 0 && slot.generation.get() == present.generation.get())
    }

    /// Adds a subscriber of the worker in `slot`. There must be a free cell.
    pub fn add_present(self, channel: Cell, slot: usize, arrival: Arrival<'_>) -> Result<Cell, Corrupt> {
        let Arrival { who, transport, since } = arrival;
        let record = self.record(channel)?;
        let head = Cell::new(record.presence.get());
        let cell = self.take_cells(1, tag::PRESENT)?.head;
        let present = self.present(cell)?;
        present.after.set(link(head));
        present.before.set(0);
        present.record.set(channel.number());
        present.generation.set(self.slot(slot)?.generation.get());
        present.slot.set(u32::try_from(slot).map_err(|_| Corrupt)? + 1);
        present.len.set(u32::try_from(who.len()).map_err(|_| Corrupt)?);
        present.since.set(since);
        present.set_served(transport, 0);
        self.write_along(cell, size_of::<Present>(), [who])?;
        record.presence.commit(cell.number());
        if let Some(head) = head {
            self.present(head)?.before.set(cell.number());
        }
        Ok(cell)
    }

    /// Takes the subscriber of the worker in `slot` away that was [added](Self::add_present) as this cell. Nothing happens
    /// if a repair has done so.
    pub fn remove_present(self, channel: Cell, slot: usize, cell: Cell) -> Result<(), Corrupt> {
        let present: &Present = self.cell(cell)?;
        let own = present.tag.get() == tag::PRESENT
            && present.record.get() == channel.number()
            && present.slot.get().checked_sub(1) == u32::try_from(slot).ok()
            && self.is_present(present)?;
        if own { self.give_present(channel, cell, present) } else { Ok(()) }
    }

    fn give_present(self, channel: Cell, cell: Cell, present: &Present) -> Result<(), Corrupt> {
        let (before, after) = (Cell::new(present.before.get()), Cell::new(present.after.get()));
        match before {
            Some(before) => self.present(before)?.after.commit(link(after)),
            None => self.record(channel)?.presence.commit(link(after)),
        }
        if let Some(after) = after {
            self.present(after)?.before.set(link(before));
        }
        self.give_cells(Chain { head: cell, tail: cell }, 1)
    }

    /// Shows every entry of a channel, and then gives those back for which `keep` is false.
    fn each_present(
        self,
        channel: Cell,
        mut keep: impl FnMut(Cell, &Present) -> Result<bool, Corrupt>,
    ) -> Result<(), Corrupt> {
        let mut next = Cell::new(self.record(channel)?.presence.get());
        let mut left = self.geometry.cells;
        let mut given = 0;
        while let Some(cell) = next {
            left = left.checked_sub(1).ok_or(Corrupt)?;
            let present = self.present(cell)?;
            next = Cell::new(present.after.get());
            if !keep(cell, present)? {
                self.give_present(channel, cell, present)?;
                given += 1;
                if given % STEPS == 0 {
                    self.checkpoint()?;
                }
            }
        }
        Ok(())
    }

    /// Whether an entry has this name, and its worker is there.
    fn is_called(self, cell: Cell, present: &Present, who: &[u8]) -> Result<bool, Corrupt> {
        Ok(present.length() == who.len()
            && self.is_present(present)?
            && self.equal_along(cell, size_of::<Present>(), [who, b""])?)
    }

    /// Marks the subscribers of this name: they are to be closed. `each` is told whose they are.
    pub fn expel(self, channel: Cell, who: &[u8], mut each: impl FnMut(usize)) -> Result<u32, Corrupt> {
        let mut count = 0;
        self.each_present(channel, |cell, present| {
            if self.is_called(cell, present, who)? {
                count += 1;
                present.len.set(present.len.get() | EXPELLED);
                let slot = present.slot.get().saturating_sub(1) as usize;
                self.slot(slot)?.expelled.set(1);
                each(slot);
            }
            Ok(true)
        })?;
        Ok(count)
    }

    /// Whether the subscriber of an entry is to be closed.
    pub fn is_expelled(self, cell: Cell) -> Result<bool, Corrupt> {
        Ok(self.present(cell)?.len.get() & EXPELLED != 0)
    }

    /// Says how many messages the subscriber of the worker in `slot` has still to get that was [added](Self::add_present) as this cell.
    /// Nothing happens if a repair has taken it away.
    pub fn set_behind(self, slot: usize, cell: Cell, behind: u32) -> Result<(), Corrupt> {
        let present: &Present = self.cell(cell)?;
        let own = present.tag.get() == tag::PRESENT
            && present.slot.get().checked_sub(1) == u32::try_from(slot).ok()
            && self.is_present(present)?;
        if own {
            present.set_served(present.transport().ok_or(Corrupt)?, behind);
        }
        Ok(())
    }

    /// Gives back the entries of processes that are gone.
    pub fn release_absent(self, channel: Cell) -> Result<(), Corrupt> {
        self.each_present(channel, |_, present| self.is_present(present))
    }

    /// Gives back all entries of a channel that is removed.
    pub fn release_presence(self, channel: Cell) -> Result<(), Corrupt> {
        self.each_present(channel, |_, _| Ok(false))
    }

    /// Shows entries of a channel whose workers are there, the newest first, until `each` has had enough of them or so many were
    /// looked at. Whether these were all.
    pub fn newest_present(
        self,
        channel: Cell,
        most: usize,
        mut each: impl FnMut(Cell, &Present) -> Result<bool, Corrupt>,
    ) -> Result<bool, Corrupt> {
        let mut next = Cell::new(self.record(channel)?.presence.get());
        for _ in 0..most {
            let Some(cell) = next else { break };
            let present = self.present(cell)?;
            if self.is_present(present)? && !each(cell, present)? {
                break;
            }
            next = Cell::new(present.after.get());
        }
        Ok(next.is_none())
    }

    /// Appends what the subscriber of an entry said.
    pub fn read_present(self, cell: Cell, present: &Present, name: &mut Vec<u8>) -> Result<(), Corrupt> {
        let len = present.length();
        if len > MAX_PRESENCE {
            return Err(Corrupt);
        }
        self.read_along(cell, size_of::<Present>(), len, name)
    }

    /// The process of the worker whose subscriber an entry is about.
    pub fn pid_of(self, present: &Present) -> Result<u32, Corrupt> {
        let nth = present.slot.get().checked_sub(1).ok_or(Corrupt)?;
        Ok(self.slot(nth as usize)?.pid.get())
    }

    /// Copies what the subscribers of a channel said, those of all workers, to the end of `names`; `ends` gets where each
    /// of them ends. False if there is no memory.
    pub fn copy_presence(self, channel: Cell, names: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<bool, Corrupt> {
        let mut memory = true;
        self.each_present(channel, |cell, present| {
            let len = present.length();
            if len > MAX_PRESENCE {
                return Err(Corrupt);
            }
            if memory && self.is_present(present)? {
                memory = names.try_reserve(len).is_ok() && ends.try_reserve(1).is_ok();
                if memory {
                    self.read_along(cell, size_of::<Present>(), len, names)?;
                    ends.push(names.len());
                }
            }
            Ok(true)
        })?;
        Ok(memory)
    }
}
