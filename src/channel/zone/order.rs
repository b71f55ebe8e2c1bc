//! The order of all messages of a zone, for dropping the oldest when it is full.

use super::Memory;
use super::layout::{Cell, link};
use crate::channel::memory::Corrupt;

impl Memory<'_> {
    /// A message becomes the newest of the zone.
    pub fn push_newest(self, cell: Cell) -> Result<(), Corrupt> {
        let header = self.header()?;
        let message = self.message(cell)?;
        let before = Cell::new(header.newest.get());
        message.older.set(link(before));
        message.newer.set(0);
        match before {
            Some(before) => self.message(before)?.newer.set(cell.number()),
            None => header.oldest.set(cell.number()),
        }
        header.newest.set(cell.number());
        Ok(())
    }

    /// Takes a message out of the order.
    pub fn unlink_from_order(self, cell: Cell) -> Result<(), Corrupt> {
        let header = self.header()?;
        let message = self.message(cell)?;
        let (older, newer) = (Cell::new(message.older.get()), Cell::new(message.newer.get()));
        match older {
            Some(older) => self.message(older)?.newer.set(link(newer)),
            None => header.oldest.set(link(newer)),
        }
        match newer {
            Some(newer) => self.message(newer)?.older.set(link(older)),
            None => header.newest.set(link(older)),
        }
        Ok(())
    }

    /// Sorts the messages that are chained by `newer` from `first` on, and makes them the order of the zone. A merge sort
    /// from the bottom up: it needs no memory, because it may have to run when there is none.
    pub fn sort_order(self, first: Option<Cell>) -> Result<(), Corrupt> {
        // `runs[n]` is a sorted list of 2^n messages.
        let mut runs = [None; 32];
        let mut rest = first;
        while let Some(cell) = rest {
            let message = self.message(cell)?;
            rest = Cell::new(message.newer.get());
            message.newer.set(0);
            let mut run = Some(cell);
            for place in &mut runs {
                match place.take() {
                    Some(shorter) => run = self.merge(Some(shorter), run)?,
                    None => {
                        *place = run;
                        break;
                    }
                }
            }
        }
        let mut all = None;
        for run in runs {
            all = self.merge(run, all)?;
        }
        let header = self.header()?;
        header.oldest.set(link(all));
        let mut older = None;
        while let Some(cell) = all {
            let message = self.message(cell)?;
            message.older.set(link(older));
            older = Some(cell);
            all = Cell::new(message.newer.get());
        }
        header.newest.set(link(older));
        Ok(())
    }

    fn merge(self, mut a: Option<Cell>, mut b: Option<Cell>) -> Result<Option<Cell>, Corrupt> {
        let mut first = None;
        let mut last: Option<Cell> = None;
        loop {
            let next = match (a, b) {
                (None, None) => return Ok(first),
                (Some(cell), None) | (None, Some(cell)) => cell,
                (Some(x), Some(y)) => {
                    if self.message(x)?.serial.get() <= self.message(y)?.serial.get() {
                        x
                    } else {
                        y
                    }
                }
            };
            match last {
                None => first = Some(next),
                Some(last) => self.message(last)?.newer.set(next.number()),
            }
            if a.is_none() || b.is_none() {
                // What is left of the other list is chained already.
                return Ok(first);
            }
            last = Some(next);
            let after = Cell::new(self.message(next)?.newer.get());
            if a == Some(next) { a = after } else { b = after }
        }
    }
}
