// SPDX-License-Identifier: Apache-2.0

//! The order of all messages of a zone, for dropping the oldest when it is full.
//!
//! Messages that a worker with subscribers has still to copy are passed over when room is needed. They stay at the beginning
//! of the order, and the header remembers the last of them, so that each is passed over once, however many more messages
//! are published while it is awaited. One that is awaited no longer is put behind them, where it is the next to go. When it
//! is not known which these are (a worker is gone with all its subscribers, or an update was undone), all are looked at anew.
//!
//! Invariant: every message up to the one that was passed over last is awaited, between two updates.

use super::layout::{Cell, Record, link};
use super::{Memory, STEPS};
use crate::channel::memory::Corrupt;

/// Messages that are put behind those that were passed over at one time. If more are awaited no longer, all are looked at
/// anew, which takes no longer than copying so many messages.
const MOST_MOVES: usize = 1024;

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
        if header.passed.get() == cell.number() {
            header.passed.set(link(older));
        }
        Ok(())
    }

    /// The channel of the first message that no worker with subscribers has still to copy. Passes over those before it, but
    /// not over more than `looks`.
    pub fn pass_awaited(self, looks: &mut usize) -> Result<Option<Cell>, Corrupt> {
        let header = self.header()?;
        let before = Cell::new(header.passed.get());
        let mut serial = header.passed_serial.get();
        let mut passed = before;
        let found = loop {
            let next = match passed {
                Some(passed) => self.message(passed)?.newer.get(),
                None => header.oldest.get(),
            };
            let Some(cell) = Cell::new(next).filter(|_| *looks > 0) else { break None };
            let message = self.message(cell)?;
            let channel = Cell::new(message.record.get()).ok_or(Corrupt)?;
            if !self.is_awaited(channel, message)? {
                break Some(channel);
            }
            *looks -= 1;
            serial = serial.max(message.serial.get());
            passed = Some(cell);
        };
        if passed != before {
            header.passed_serial.set(serial);
            header.passed.set(link(passed));
        }
        Ok(found)
    }

    /// The oldest message of all, or of those that have not been [passed over](Self::pass_awaited).
    pub fn first_not_passed(self, awaited_too: bool) -> Result<Option<Cell>, Corrupt> {
        let header = self.header()?;
        match Cell::new(header.passed.get()).filter(|_| !awaited_too) {
            Some(passed) => Ok(Cell::new(self.message(passed)?.newer.get())),
            None => Ok(Cell::new(header.oldest.get())),
        }
    }

    /// Workers with subscribers have copied more of a channel than they had, or are not there any more: before that, all had
    /// the messages up to `before`. May [checkpoint](Self::checkpoint).
    pub fn not_awaited_after(self, channel: Cell, record: &Record, before: u64) -> Result<(), Corrupt> {
        let header = self.header()?;
        if header.passed.get() == 0 || before == u64::MAX {
            return Ok(());
        }
        let copied = self.copied_by_all(channel)?;
        let mut next = self.seek(record, before + 1)?;
        let mut moved = 0;
        while let Some(cell) = next {
            let message = self.message(cell)?;
            // Within a channel the serials rise.
            if message.offset.get() > copied || message.serial.get() > header.passed_serial.get() {
                break;
            }
            if moved == MOST_MOVES {
                return self.look_at_all_anew();
            }
            next = Cell::new(message.after.get());
            self.unlink_from_order(cell)?;
            self.link_after_passed(cell)?;
            moved += 1;
            if moved.is_multiple_of(STEPS) {
                self.checkpoint()?;
            }
        }
        Ok(())
    }

    fn link_after_passed(self, cell: Cell) -> Result<(), Corrupt> {
        let header = self.header()?;
        let message = self.message(cell)?;
        let older = Cell::new(header.passed.get());
        let place = match older {
            Some(older) => &self.message(older)?.newer,
            None => &header.oldest,
        };
        let newer = Cell::new(place.get());
        message.older.set(link(older));
        message.newer.set(link(newer));
        place.set(cell.number());
        match newer {
            Some(newer) => self.message(newer)?.older.set(cell.number()),
            None => header.newest.set(cell.number()),
        }
        Ok(())
    }

    /// It is not known which messages are awaited: none counts as passed over.
    pub fn look_at_all_anew(self) -> Result<(), Corrupt> {
        self.header()?.passed.set(0);
        Ok(())
    }

    /// Sorts the messages that are chained by `newer` from `first` on, and makes them the order of the zone. A merge sort
    /// from the bottom up: it needs no memory, because it may have to run when there is none. Where two have the same serial, all
    /// get new ones.
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
        self.look_at_all_anew()?;
        header.oldest.set(link(all));
        let (mut older, mut last, mut is_unique) = (None, 0, true);
        while let Some(cell) = all {
            let message = self.message(cell)?;
            message.older.set(link(older));
            is_unique &= message.serial.get() != last;
            (older, last) = (Some(cell), message.serial.get());
            all = Cell::new(message.newer.get());
        }
        header.newest.set(link(older));
        if is_unique { Ok(()) } else { self.number_anew() }
    }

    /// Gives all messages serials after all that there were, in their order. A position in many channels that has one of two messages
    /// of the same serial behind it would have both, and the other one be lost: who comes with such a position gets messages again.
    fn number_anew(self) -> Result<(), Corrupt> {
        let header = self.header()?;
        let mut next = Cell::new(header.oldest.get());
        while let Some(cell) = next {
            let message = self.message(cell)?;
            header.serial.add(1);
            message.serial.set(header.serial.get());
            next = Cell::new(message.newer.get());
        }
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
