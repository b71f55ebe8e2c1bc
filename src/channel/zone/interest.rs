// SPDX-License-Identifier: Apache-2.0

//! Who has subscribers of which channel, and who has to be told of news.

use super::Memory;
use super::layout::{
    Cell, INLINE_INTEREST, INTEREST_PER_CELL, Interest, InterestAt, InterestCell, MAX_SLOTS, QUEUED, REPLACED, Record,
    tag,
};
use crate::channel::memory::Corrupt;

/// A set of slots: the workers to wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wake([u64; MAX_SLOTS / 64]);

impl Wake {
    /// The slots of these bits.
    pub fn of(bits: [u64; MAX_SLOTS / 64]) -> Self {
        Self(bits)
    }

    /// Whether a slot is in it.
    pub fn has(&self, slot: usize) -> bool {
        self.0.get(slot / 64).is_some_and(|word| word & 1 << (slot % 64) != 0)
    }

    /// Adds one.
    pub fn add(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// The members that are in another set as well.
    pub fn common(mut self, other: Self) -> Self {
        for (word, others) in self.0.iter_mut().zip(other.0) {
            *word &= others;
        }
        self
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; MAX_SLOTS / 64]
    }

    /// Takes one out.
    pub fn remove(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
        }
    }
}

impl Iterator for Wake {
    type Item = usize;

    /// Takes the lowest out.
    fn next(&mut self) -> Option<usize> {
        let (nth, word) = self.0.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros() as usize;
        *word &= *word - 1;
        Some(nth * 64 + bit)
    }
}

impl<'a> Memory<'a> {
    /// All places for subscriber counts of a channel, used or not.
    pub fn interests(self, channel: Cell) -> Result<Interests<'a>, Corrupt> {
        let more = Cell::new(self.record(channel)?.interest.get());
        let at = self.offset(channel)? + std::mem::offset_of!(Record, entries);
        Ok(Interests { memory: self, at, left: INLINE_INTEREST, more, cells: self.geometry.cells })
    }

    /// The slot of an entry, if the process that wrote it is still the one in the slot.
    pub fn interested(self, interest: &Interest) -> Result<Option<usize>, Corrupt> {
        let Some(nth) = (interest.slot.get() & !QUEUED).checked_sub(1) else { return Ok(None) };
        // Nobody is in a slot that is not there: what is damaged can be repaired.
        let Ok(slot) = self.slot(nth as usize) else { return Ok(None) };
        let valid = slot.pid.get() != 0 && slot.generation.get() == interest.generation.get();
        Ok(valid.then_some(nth as usize))
    }

    /// The entry of one worker.
    pub fn interest_of(self, channel: Cell, slot: usize) -> Result<Option<&'a Interest>, Corrupt> {
        for at in self.interests(channel)? {
            let interest = self.interest(at?)?;
            if self.interested(interest)? == Some(slot) {
                return Ok(Some(interest));
            }
        }
        Ok(None)
    }

    /// A place for one more worker. `None`: the channel needs one more cell first.
    pub fn vacant_interest(self, channel: Cell) -> Result<Option<&'a Interest>, Corrupt> {
        for at in self.interests(channel)? {
            let interest = self.interest(at?)?;
            if self.interested(interest)?.is_none() {
                if interest.slot.get() != 0 {
                    self.release(channel, interest)?;
                }
                return Ok(Some(interest));
            }
        }
        Ok(None)
    }

    /// More or fewer subscribers, for the channel's group.
    pub fn count_subscribers(self, channel: Cell, change: i64) -> Result<(), Corrupt> {
        if let Some(group) = self.group_of(self.record(channel)?)? {
            let count = i64::from(group.subscribers.get()).saturating_add(change);
            group.subscribers.set(u32::try_from(count.max(0)).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Gives an entry back, with all subscribers that it stands for.
    pub fn release(self, channel: Cell, interest: &Interest) -> Result<(), Corrupt> {
        let count = i64::from(interest.count.get());
        interest.count.set(0);
        interest.slot.set(0);
        self.count_subscribers(channel, -count)
    }

    /// Gives back the entries of processes that are gone.
    pub fn release_stale(self, channel: Cell) -> Result<(), Corrupt> {
        for at in self.interests(channel)? {
            let interest = self.interest(at?)?;
            if interest.slot.get() != 0 && self.interested(interest)?.is_none() {
                self.release(channel, interest)?;
            }
        }
        Ok(())
    }

    /// Gives a channel one more cell of places. There must be a free cell.
    pub fn add_interest_cell(self, channel: Cell) -> Result<(), Corrupt> {
        let record = self.record(channel)?;
        let cell = self.take_cells(1, tag::INTEREST)?.head;
        let places: &InterestCell = self.cell(cell)?;
        for place in &places.entries {
            place.slot.set(0);
            place.count.set(0);
        }
        places.next.set(record.interest.get());
        record.interest.commit(cell.number());
        Ok(())
    }

    /// Subscribers of a channel in all workers.
    pub fn subscribers(self, channel: Cell) -> Result<u32, Corrupt> {
        let mut sum = 0_u32;
        for at in self.interests(channel)? {
            let interest = self.interest(at?)?;
            if self.interested(interest)?.is_some() {
                sum = sum.saturating_add(interest.count.get());
            }
        }
        Ok(sum)
    }

    /// Whether any worker still has an entry: subscribers, or news that it has not taken; or a program is shared.
    pub fn anyone_interested(self, channel: Cell) -> Result<bool, Corrupt> {
        if self.record(channel)?.program.get() != 0 {
            return Ok(true);
        }
        for at in self.interests(channel)? {
            if self.interested(self.interest(at?)?)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last offset that all workers with subscribers have copied.
    pub fn copied_by_all(self, channel: Cell) -> Result<u64, Corrupt> {
        let mut copied = u64::MAX;
        for at in self.interests(channel)? {
            let interest = self.interest(at?)?;
            if self.interested(interest)?.is_some() && interest.count.get() > 0 {
                let seen = interest.seen.get();
                // Of what has taken the place of other messages it has copied nothing.
                copied = copied.min(if seen == REPLACED { 0 } else { seen });
            }
        }
        Ok(copied)
    }

    /// Puts a channel on the list of news of every worker that has subscribers. Those are returned that were not woken
    /// yet.
    pub fn notify(self, channel: Cell) -> Result<Wake, Corrupt> {
        let mut wake = Wake::default();
        for at in self.interests(channel)? {
            let at = at?;
            let interest = self.interest(at)?;
            let Some(slot) = self.interested(interest)? else { continue };
            if interest.count.get() > 0 && self.enqueue(slot, at, interest)? {
                wake.add(slot);
            }
        }
        Ok(wake)
    }

    /// Puts one entry on the list of news of its worker. Whether that is to be woken.
    pub fn enqueue(self, nth: usize, at: InterestAt, interest: &Interest) -> Result<bool, Corrupt> {
        let slot = self.slot(nth)?;
        if interest.slot.get() & QUEUED == 0 {
            interest.next.set(0);
            interest.slot.set(interest.slot.get() | QUEUED);
            match InterestAt::new(slot.dirty_tail.get()) {
                Some(tail) => self.interest(tail)?.next.set(at.units()),
                None => slot.dirty_head.set(at.units()),
            }
            slot.dirty_tail.set(at.units());
        }
        let asleep = slot.woken.get() == 0;
        if asleep {
            slot.woken.set(1);
        }
        Ok(asleep)
    }

    /// Takes the first entry off a worker's list of news.
    pub fn dequeue(self, nth: usize) -> Result<(), Corrupt> {
        let slot = self.slot(nth)?;
        let Some(head) = InterestAt::new(slot.dirty_head.get()) else { return Ok(()) };
        let interest = self.interest(head)?;
        slot.dirty_head.set(interest.next.get());
        if interest.next.get() == 0 {
            slot.dirty_tail.set(0);
        }
        interest.slot.set(interest.slot.get() & !QUEUED);
        Ok(())
    }
}

/// The entries that [`Memory::interests`] goes through.
#[derive(Debug)]
pub struct Interests<'a> {
    memory: Memory<'a>,
    /// Offset of the next place.
    at: usize,
    /// Places left in this cell.
    left: usize,
    /// The next cell.
    more: Option<Cell>,
    /// Bound on the number of cells.
    cells: usize,
}

impl Interests<'_> {
    fn next_cell(&mut self) -> Result<Option<()>, Corrupt> {
        let Some(cell) = self.more else { return Ok(None) };
        self.cells = self.cells.checked_sub(1).ok_or(Corrupt)?;
        let places: &InterestCell = self.memory.cell(cell)?;
        if places.tag.get() != tag::INTEREST {
            return Err(Corrupt);
        }
        self.more = Cell::new(places.next.get());
        self.at = self.memory.offset(cell)? + std::mem::offset_of!(InterestCell, entries);
        self.left = INTEREST_PER_CELL;
        Ok(Some(()))
    }
}

impl Iterator for Interests<'_> {
    type Item = Result<InterestAt, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            match self.next_cell() {
                Ok(Some(())) => {}
                Ok(None) => return None,
                Err(Corrupt) => {
                    self.more = None;
                    return Some(Err(Corrupt));
                }
            }
        }
        self.left -= 1;
        let at = InterestAt::at(self.at);
        self.at += size_of::<Interest>();
        Some(at.ok_or(Corrupt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_what_was_added() {
        let mut wake = Wake::default();
        assert!(wake.is_empty());
        for slot in [255, 0, 63, 64, 0, MAX_SLOTS] {
            wake.add(slot);
        }
        let mut other = Wake::default();
        other.add(7);
        wake.merge(other);
        wake.remove(63);
        assert_eq!(wake.collect::<Vec<_>>(), [0, 7, 64, 255]);
    }
}
