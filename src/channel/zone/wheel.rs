// SPDX-License-Identifier: Apache-2.0

//! When to look at which channel again: a wheel of seconds.
//!
//! A channel is in at most one bucket, the one of the second in which its oldest message expires or in which it has been
//! unused for too long. Deadlines further away than the wheel reaches are looked at once a turn. A deadline that moves
//! away costs nothing: the channel is found not due and goes to its new bucket then.

use super::Memory;
use super::layout::{Cell, WHEEL, link};
use crate::channel::memory::{Corrupt, Word};

/// Milliseconds that one bucket stands for.
pub const TICK: u64 = 1000;

const TICKS: u64 = WHEEL as u64;

impl<'a> Memory<'a> {
    /// The first channel of a bucket of the wheel.
    pub fn wheel(self, nth: usize) -> Result<&'a Word, Corrupt> {
        if nth >= WHEEL {
            return Err(Corrupt);
        }
        self.region.at(self.geometry.wheel_at + nth * size_of::<Word>())
    }

    /// Has a channel looked at when `deadline` (milliseconds) has come, or earlier.
    pub fn schedule(self, cell: Cell, deadline: u64) -> Result<(), Corrupt> {
        let turned = self.header()?.wheel_second.get();
        // Not as far as the bucket that is being turned: what is looked at must not come up again in the same turn.
        let tick = deadline.div_ceil(TICK).clamp(turned.saturating_add(1), turned.saturating_add(TICKS - 1));
        let record = self.record(cell)?;
        if let Some(bucket) = record.wheel_bucket.get().checked_sub(1) {
            // The next tick that turns this bucket.
            let next = turned.saturating_add(1);
            let ahead = (u64::from(bucket) + TICKS - next % TICKS) % TICKS;
            if next.saturating_add(ahead) <= tick {
                return Ok(());
            }
            self.unschedule(cell)?;
        }
        let bucket = (tick % TICKS) as usize;
        let head = self.wheel(bucket)?;
        let first = Cell::new(head.get());
        record.wheel_prev.set(0);
        record.wheel_next.set(link(first));
        if let Some(first) = first {
            self.record(first)?.wheel_prev.set(cell.number());
        }
        head.set(cell.number());
        record.wheel_bucket.set(bucket as u32 + 1);
        Ok(())
    }

    /// Takes a channel out of the wheel.
    pub fn unschedule(self, cell: Cell) -> Result<(), Corrupt> {
        let record = self.record(cell)?;
        let Some(bucket) = record.wheel_bucket.get().checked_sub(1) else { return Ok(()) };
        let (prev, next) = (Cell::new(record.wheel_prev.get()), Cell::new(record.wheel_next.get()));
        match prev {
            Some(prev) => self.record(prev)?.wheel_next.set(link(next)),
            None => self.wheel(bucket as usize)?.set(link(next)),
        }
        if let Some(next) = next {
            self.record(next)?.wheel_prev.set(link(prev));
        }
        record.wheel_bucket.set(0);
        Ok(())
    }

    /// Turns the wheel up to `now` (milliseconds) and has each channel that comes up looked at, until `look` says that it
    /// is enough. Whether the wheel has arrived.
    pub fn turn(self, now: u64, mut look: impl FnMut(Cell) -> Result<bool, Corrupt>) -> Result<bool, Corrupt> {
        let header = self.header()?;
        let until = now / TICK;
        // After a whole turn every bucket has been looked at.
        let mut turned = header.wheel_second.get().max(until.saturating_sub(TICKS));
        while turned < until {
            // Whatever is looked at goes to a later bucket.
            header.wheel_second.set(turned + 1);
            let bucket = self.wheel(((turned + 1) % TICKS) as usize)?;
            while let Some(cell) = Cell::new(bucket.get()) {
                self.unschedule(cell)?;
                if bucket.get() == cell.number() {
                    // It does not know that it is the first, and would be it for ever.
                    return Err(Corrupt);
                }
                if !look(cell)? {
                    header.wheel_second.set(turned);
                    return Ok(false);
                }
                self.checkpoint()?;
            }
            turned += 1;
        }
        if turned != header.wheel_second.get() {
            header.wheel_second.set(turned);
        }
        Ok(true)
    }
}
