//! Making room, and what is to be done from time to time.

use super::Memory;
use super::groups::group_cells;
use super::layout::{Cell, link};
use super::log::Uncopied;
use super::records::Key;
use crate::channel::memory::Corrupt;

/// Channels that are looked at while making room, before anything is dropped that has not expired.
const MOST_LOOKS: usize = 1024;

/// Messages of one channel that are dropped in one look.
const MOST_DROPS: usize = 1024;

/// What room is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A message of this channel: its own oldest messages go before those of others.
    Message(Cell),
    /// A subscriber of this channel, who may have come for just its oldest messages: they have to go for a subscriber no
    /// sooner than any others.
    Subscriber(Cell),
    /// Something that belongs to no channel yet.
    Other,
}

impl Need {
    /// The channel that must not go itself.
    fn channel(self) -> Option<Cell> {
        match self {
            Self::Message(channel) | Self::Subscriber(channel) => Some(channel),
            Self::Other => None,
        }
    }
}

impl Memory<'_> {
    /// Makes sure that `need` cells are free: what has expired goes first and what workers left behind that are gone, then,
    /// for a message, the oldest ones of the channel itself, then the oldest of the zone, then channels that nobody uses.
    /// Whether it succeeded; if the need is beyond what could ever be free, nothing is dropped.
    pub fn make_room(self, need: usize, what: Need, clock: u64) -> Result<bool, Corrupt> {
        if self.free_cells()? >= need {
            return Ok(true);
        }
        let own = what.channel();
        let own_cells = match own {
            Some(own) => {
                let record = self.record(own)?;
                let group = self.group_of(record)?.map_or(0, |group| group.cells.get());
                record.cells.get() as usize + group as usize
            }
            None => 0,
        };
        if need + own_cells > self.geometry.cells {
            return Ok(false);
        }
        let mut looks = MOST_LOOKS;
        let mut look = |cell| {
            if Some(cell) != own {
                self.settle(cell, clock, MOST_DROPS)?;
            }
            looks -= 1;
            Ok(looks > 0 && self.free_cells()? < need)
        };
        if self.turn(clock, &mut look)? {
            self.scan(look)?;
        }
        let header = self.header()?;
        if let Need::Message(own) = what {
            while self.free_cells()? < need && self.trim(own, clock, 1, Uncopied::Drop, 1)? > 0 {}
            while self.free_cells()? < need && self.drop_oldest(own)? {
                header.evicted.add(1);
            }
        }
        while self.free_cells()? < need
            && let Some(oldest) = Cell::new(header.oldest.get())
        {
            let channel = Cell::new(self.message(oldest)?.record.get()).ok_or(Corrupt)?;
            self.drop_oldest(channel)?;
            header.evicted.add(1);
            if self.record(channel)?.messages.get() == 0 && Some(channel) != own {
                if !self.anyone_interested(channel)? {
                    // Sooner than it would be forgotten otherwise: an id is worth less than the messages of others.
                    self.remove(channel)?;
                } else if let Some(deadline) = self.deadline(channel)? {
                    self.schedule(channel, deadline)?;
                }
            }
        }
        if self.free_cells()? < need {
            self.remove_unused(need, own)?;
        }
        if let Some(own) = own
            && let Some(deadline) = self.deadline(own)?
        {
            // The wheel may have let go of it.
            self.schedule(own, deadline)?;
        }
        Ok(self.free_cells()? >= need)
    }

    /// Makes sure that a channel can be created and `more` cells are free then.
    pub fn make_room_to_create(self, key: Key<'_>, more: usize, clock: u64) -> Result<bool, Corrupt> {
        let group = self.find_group(key.group())?;
        let mut need = key.cells() + more;
        match group {
            // It must not go with the last of its other channels.
            Some(cell) => self.group(cell)?.records.add(1),
            None => need += group_cells(key.group()),
        }
        let made = self.make_room(need, Need::Other, clock)?;
        if let Some(cell) = group {
            self.group(cell)?.records.sub(1);
            if !made {
                self.remove_unused_group(cell)?;
            }
        }
        Ok(made)
    }

    /// Removes channels without messages and subscribers until `need` cells are free.
    fn remove_unused(self, need: usize, own: Option<Cell>) -> Result<(), Corrupt> {
        for bucket in 0..self.geometry.buckets {
            let mut next = Cell::new(self.bucket(bucket)?.get());
            while let Some(cell) = next {
                let record = self.record(cell)?;
                next = Cell::new(record.hash_next.get());
                if Some(cell) != own && record.messages.get() == 0 && !self.anyone_interested(cell)? {
                    self.remove(cell)?;
                }
            }
            if self.free_cells()? >= need {
                break;
            }
        }
        Ok(())
    }

    /// Looks at channels whose time has come, and at some of those whose worker was lost, at most about `most`. Whether
    /// there is nothing left to do at the moment.
    pub fn tend(self, clock: u64, most: usize) -> Result<bool, Corrupt> {
        let mut left = most;
        let mut look = |cell| {
            left = left.saturating_sub(1);
            while let Some(MOST_DROPS) = self.settle(cell, clock, MOST_DROPS)?
                && left > 0
            {
                left = left.saturating_sub(MOST_DROPS / 16);
            }
            Ok(left > 0)
        };
        Ok(self.turn(clock, &mut look)? && self.scan(look)?)
    }

    /// Looks at channels, a bucket at a time, that a lost worker may have had subscribers of, until `look` says that it is
    /// enough. Whether all have been looked at.
    fn scan(self, mut look: impl FnMut(Cell) -> Result<bool, Corrupt>) -> Result<bool, Corrupt> {
        let header = self.header()?;
        let mut bucket = header.scan.get() as usize;
        let before = bucket;
        let mut going = true;
        while going && bucket < self.geometry.buckets {
            let mut next = Cell::new(self.bucket(bucket)?.get());
            while let Some(cell) = next {
                next = Cell::new(self.record(cell)?.hash_next.get());
                self.release_stale(cell)?;
                self.release_absent(cell)?;
                going = look(cell)?;
            }
            bucket += 1;
        }
        if bucket != before {
            header.scan.set(u32::try_from(bucket).map_err(|_| Corrupt)?);
        }
        Ok(bucket == self.geometry.buckets)
    }

    /// Has every channel looked at once, because a worker is gone that may have had subscribers in any.
    pub fn start_scan(self) -> Result<(), Corrupt> {
        self.header()?.scan.set(link(None));
        Ok(())
    }
}
