// SPDX-License-Identifier: Apache-2.0

//! Channels that have neither messages nor anybody who uses them, in the order in which they go when room is needed.
//!
//! There are two lists: of channels that were only ever subscribed to, and of those that have had messages. A channel is
//! put on its list when it is found unused, and may be in use again while it is there: that is looked at when its
//! turn comes.

use super::Memory;
use super::layout::{Cell, Record, link};
use crate::channel::memory::{Corrupt, Word};

/// Stands for the neighbour of the first one: 0 is that of a channel which is on no list.
const FIRST: u32 = u32::MAX;

/// The channels that nobody uses, by whether they have ever had a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Channels that were only ever subscribed to.
    NeverPublished,
    /// Channels that have had messages.
    Published,
}

impl Idle {
    /// The list of a channel. It is taken off when it is published to for the first time.
    fn of(record: &Record) -> Self {
        if record.upcoming.get() > 1 { Self::Published } else { Self::NeverPublished }
    }
}

impl<'a> Memory<'a> {
    fn idle_ends(self, list: Idle) -> Result<(&'a Word, &'a Word), Corrupt> {
        let [[first, last], [published_first, published_last]] = &self.header()?.idle;
        Ok(match list {
            Idle::NeverPublished => (first, last),
            Idle::Published => (published_first, published_last),
        })
    }

    /// Whether nobody uses a channel, and it has no messages.
    pub fn is_idle(self, cell: Cell) -> Result<bool, Corrupt> {
        Ok(self.record(cell)?.messages.get() == 0 && !self.anyone_interested(cell)?)
    }

    /// Puts a channel at the end of its list, unless it is on it.
    pub fn list_idle(self, cell: Cell) -> Result<(), Corrupt> {
        let record = self.record(cell)?;
        if record.idle_prev.get() != 0 {
            return Ok(());
        }
        let (first, last) = self.idle_ends(Idle::of(record))?;
        let before = Cell::new(last.get());
        record.idle_next.set(0);
        record.idle_prev.set(before.map_or(FIRST, Cell::number));
        match before {
            Some(before) => self.record(before)?.idle_next.set(cell.number()),
            None => first.set(cell.number()),
        }
        last.set(cell.number());
        Ok(())
    }

    /// Takes a channel off its list, if it is on it.
    pub fn unlist_idle(self, cell: Cell) -> Result<(), Corrupt> {
        let record = self.record(cell)?;
        let before = match record.idle_prev.get() {
            0 => return Ok(()),
            FIRST => None,
            before => Cell::new(before),
        };
        let (first, last) = self.idle_ends(Idle::of(record))?;
        let after = Cell::new(record.idle_next.get());
        match before {
            Some(before) => self.record(before)?.idle_next.set(link(after)),
            None => first.set(link(after)),
        }
        match after {
            Some(after) => self.record(after)?.idle_prev.set(before.map_or(FIRST, Cell::number)),
            None => last.set(link(before)),
        }
        record.idle_prev.set(0);
        record.idle_next.set(0);
        Ok(())
    }

    /// Removes the channel that has been longest on a list, but not `own`. False if there is none.
    pub fn remove_idle(self, list: Idle, own: Option<Cell>) -> Result<bool, Corrupt> {
        let (first, _) = self.idle_ends(list)?;
        let mut passed_own = None;
        let mut found = false;
        while !found && let Some(cell) = Cell::new(first.get()) {
            self.unlist_idle(cell)?;
            if first.get() == cell.number() {
                // It does not know that it is the first, and would be it for ever.
                return Err(Corrupt);
            }
            if Some(cell) == own {
                passed_own = own;
            } else if self.is_idle(cell)? {
                self.remove(cell)?;
                found = true;
            }
        }
        if let Some(own) = passed_own {
            // What it is needed for may never come: whoever makes room may be killed before that.
            self.list_idle(own)?;
        }
        Ok(found)
    }

    /// There are no lists: a repair makes them anew.
    pub fn clear_idle(self) -> Result<(), Corrupt> {
        for end in self.header()?.idle.iter().flatten() {
            end.set(0);
        }
        Ok(())
    }
}
