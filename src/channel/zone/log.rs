// SPDX-License-Identifier: Apache-2.0

//! The messages of one channel.

use super::Memory;
use super::STEPS;
use super::cells::Chain;
use super::layout::{Cell, Message, Record, link};
use crate::channel::memory::Corrupt;

/// As the history of a channel: nothing is kept. A message is in the zone only until every worker with subscribers has copied
/// it, and not at all if there is none.
pub const NOTHING: u32 = u32::MAX;

impl Memory<'_> {
    /// Counts a message that nobody is there for and that is not to be kept, as if it had been published and dropped. The log
    /// of the channel must be empty: it has no holes.
    pub fn pass_over(self, channel: Cell) -> Result<(), Corrupt> {
        let header = self.header()?;
        let record = self.record(channel)?;
        debug_assert_eq!(record.messages.get(), 0, "who publishes has trimmed the log");
        self.published_to(channel, record)?;
        let serial = header.serial.get().saturating_add(1);
        header.serial.set(serial);
        // Before it counts, as with one that is dropped: whoever comes back from before it is told.
        record.missing.set(serial);
        record.upcoming.commit(record.upcoming.get().saturating_add(1));
        if !self.anyone_interested(channel)? {
            self.list_idle(channel)?;
        }
        Ok(())
    }

    /// A message is about to be published: a channel that has never had one is not idle any more, and counts with the messages.
    fn published_to(self, channel: Cell, record: &Record) -> Result<(), Corrupt> {
        if record.upcoming.get() != 1 {
            return Ok(());
        }
        let header = self.header()?;
        self.unlist_idle(channel)?;
        header.kept_cells.add(record.cells.get());
        if let Some(group) = self.group_of(record)?.filter(|group| group.kept.get() == 0) {
            group.kept.set(1);
            header.kept_cells.add(group.cells.get());
        }
        Ok(())
    }

    /// The next message of a channel has this offset: what it has is dropped, and what lies between is missing.
    pub fn go_on_at(self, channel: Cell, offset: u64, now: u64) -> Result<(), Corrupt> {
        let mut dropped = 0;
        while self.drop_oldest(channel)? {
            dropped += 1;
            self.checkpoint_in(channel, now, dropped)?;
        }
        let header = self.header()?;
        let record = self.record(channel)?;
        self.unlist_idle(channel)?;
        let serial = header.serial.get().saturating_add(1);
        header.serial.set(serial);
        record.missing.set(serial);
        if offset > 1 {
            self.published_to(channel, record)?;
        } else {
            self.never_published_to(record)?;
        }
        record.upcoming.commit(offset.max(1));
        if !self.anyone_interested(channel)? {
            self.list_idle(channel)?;
        }
        Ok(())
    }

    /// The reverse of [`published_to`](Self::published_to), for a channel that begins anew.
    fn never_published_to(self, record: &Record) -> Result<(), Corrupt> {
        if record.upcoming.get() > 1 {
            self.header()?.kept_cells.sub(record.cells.get());
        }
        Ok(())
    }

    /// Makes a written message the newest of its channel. From `commit` on it is published.
    pub fn append(self, channel: Cell, cell: Cell) -> Result<(), Corrupt> {
        let header = self.header()?;
        let record = self.record(channel)?;
        let message = self.message(cell)?;
        let newest = Cell::new(record.newest.get());
        let offset = record.upcoming.get();
        let serial = header.serial.get().saturating_add(1);
        message.offset.put(offset);
        message.serial.put(serial);
        message.record.put(channel.number());
        message.after.put(0);
        self.link_back(record, message, newest)?;
        self.published_to(channel, record)?;
        match newest {
            Some(newest) => self.message(newest)?.after.commit(cell.number()),
            None => record.oldest.commit(cell.number()),
        }
        record.newest.set(cell.number());
        record.upcoming.set(offset + 1);
        record.messages.add(1);
        record.bytes.add(u64::from(message.data_len.get()));
        if let Some(group) = self.group_of(record)? {
            group.messages.add(1);
            group.bytes.add(u64::from(message.data_len.get()));
        }
        header.serial.set(serial);
        header.messages.add(1);
        header.message_cells.add(message.cells.get());
        header.bytes.add(u64::from(message.data_len.get()));
        self.push_newest(cell)
    }

    /// Sets the links to earlier messages: one back, and one further back such that any message is found in a logarithmic
    /// number of steps (Myers, "An applicative random-access stack": the jumps follow skew binary numbers).
    pub fn link_back(self, record: &Record, message: &Message, before: Option<Cell>) -> Result<(), Corrupt> {
        message.before.set(link(before));
        let Some(before) = before else {
            message.jump.set(0);
            message.jump_offset.set(0);
            return Ok(());
        };
        let previous = self.message(before)?;
        let oldest = self.oldest_offset(record)?;
        let (mut jump, mut jump_offset) = (before.number(), previous.offset.get());
        let (near, near_offset) = (Cell::new(previous.jump.get()), previous.jump_offset.get());
        if let Some(near) = near.filter(|_| near_offset >= oldest) {
            let near = self.message(near)?;
            let far_offset = near.jump_offset.get();
            let (first, second) = (previous.offset.get().checked_sub(near_offset), near_offset.checked_sub(far_offset));
            if first == second {
                (jump, jump_offset) = (near.jump.get(), far_offset);
            }
        }
        message.jump.set(jump);
        message.jump_offset.set(jump_offset);
        Ok(())
    }

    /// The offset of the oldest message that is stored; the upcoming one if there is none.
    pub fn oldest_offset(self, record: &Record) -> Result<u64, Corrupt> {
        match Cell::new(record.oldest.get()) {
            Some(oldest) => Ok(self.message(oldest)?.offset.get()),
            None => Ok(record.upcoming.get()),
        }
    }

    /// The message with this offset, or the oldest one if that is later; `None` if there is none as late.
    pub fn seek(self, record: &Record, offset: u64) -> Result<Option<Cell>, Corrupt> {
        let Some(newest) = Cell::new(record.newest.get()) else { return Ok(None) };
        if offset >= record.upcoming.get() {
            return Ok(None);
        }
        let oldest = self.oldest_offset(record)?;
        let target = offset.max(oldest);
        let mut cell = newest;
        loop {
            let message = self.message(cell)?;
            let here = message.offset.get();
            if here <= target {
                return if here == target { Ok(Some(cell)) } else { Err(Corrupt) };
            }
            let far = message.jump_offset.get();
            let (next, promised) =
                if far >= target && far < here { (message.jump.get(), far) } else { (message.before.get(), here - 1) };
            cell = Cell::new(next).ok_or(Corrupt)?;
            if self.message(cell)?.offset.get() != promised {
                return Err(Corrupt);
            }
        }
    }

    /// The first message that was published after this serial; the upcoming one if there is none.
    pub fn seek_serial(self, record: &Record, serial: u64) -> Result<u64, Corrupt> {
        self.seek_after(record, |message| message.serial.get() <= serial)
    }

    /// The first message that is not `before`, which is true of the messages up to one of them; the upcoming one if it is true of all.
    fn seek_after(self, record: &Record, before: impl Fn(&Message) -> bool) -> Result<u64, Corrupt> {
        let Some(newest) = Cell::new(record.newest.get()) else { return Ok(record.upcoming.get()) };
        let oldest = self.oldest_offset(record)?;
        let mut cell = newest;
        let mut first = record.upcoming.get();
        loop {
            let message = self.message(cell)?;
            let here = message.offset.get();
            if before(message) {
                return Ok(first);
            }
            if here >= first {
                return Err(Corrupt);
            }
            first = here;
            if here == oldest {
                return Ok(first);
            }
            let far = message.jump_offset.get();
            let jump = Cell::new(message.jump.get()).filter(|_| far >= oldest && far < here);
            let leap = match jump {
                Some(jump) if !before(self.message(jump)?) => Some(jump),
                _ => None,
            };
            cell = leap.or_else(|| Cell::new(message.before.get())).ok_or(Corrupt)?;
        }
    }

    /// Drops the oldest message of a channel. Whether there was one.
    pub fn drop_oldest(self, channel: Cell) -> Result<bool, Corrupt> {
        let record = self.record(channel)?;
        let Some(cell) = Cell::new(record.oldest.get()) else { return Ok(false) };
        let message = self.message(cell)?;
        let after = message.after.get();
        // Before the message is gone: it may be said to be missing too early, but never too late.
        record.missing.set(record.missing.get().max(message.serial.get()));
        record.oldest.commit(after);
        if after == 0 {
            record.newest.set(0);
        }
        record.messages.sub(1);
        record.bytes.sub(u64::from(message.data_len.get()));
        self.discard(cell, message)?;
        if after == 0 && !self.anyone_interested(channel)? {
            self.list_idle(channel)?;
        }
        Ok(true)
    }

    /// Gives back a message that its channel does not refer to any more.
    pub fn discard(self, cell: Cell, message: &Message) -> Result<(), Corrupt> {
        let header = self.header()?;
        let cells = message.cells.get();
        let channel = Cell::new(message.record.get()).ok_or(Corrupt)?;
        if let Some(group) = self.group_of(self.record(channel)?)? {
            group.messages.sub(1);
            group.bytes.sub(u64::from(message.data_len.get()));
        }
        self.unlink_from_order(cell)?;
        header.messages.sub(1);
        header.message_cells.sub(cells);
        header.bytes.sub(u64::from(message.data_len.get()));
        let tail = Cell::new(message.tail.get()).ok_or(Corrupt)?;
        self.give_cells(Chain { head: cell, tail }, cells)
    }

    /// Drops what has expired by `now`, and what lies beyond the length of the channel's history; at most `most` messages,
    /// and none that a worker with subscribers has still to copy: a burst that is longer than the history reaches everybody
    /// who is there. How many were dropped. May [checkpoint](Self::checkpoint).
    pub fn trim(self, channel: Cell, now: u64, most: usize) -> Result<usize, Corrupt> {
        let record = self.record(channel)?;
        let (history, keep) = (record.history.get(), record.keep.get());
        let mut copied = None;
        let mut dropped = 0;
        while let Some(oldest) = Cell::new(record.oldest.get()).filter(|_| dropped < most) {
            let message = self.message(oldest)?;
            let expired = keep > 0 && message.time.get().saturating_add(keep) <= now;
            let surplus = match history {
                0 => false,
                NOTHING => true,
                history => record.messages.get() > history,
            };
            if !expired && !surplus {
                break;
            }
            let copied = match copied {
                Some(copied) => copied,
                None => *copied.insert(self.copied_by_all(channel)?),
            };
            if message.offset.get() > copied {
                break;
            }
            self.drop_oldest(channel)?;
            dropped += 1;
            self.checkpoint_in(channel, now, dropped)?;
        }
        Ok(dropped)
    }

    /// Every now and then while messages of a channel are dropped one after the other, `dropped` so far:
    /// [checkpoints](Self::checkpoint). The channel is looked at again soon, whatever happens to who drops them.
    pub fn checkpoint_in(self, channel: Cell, now: u64, dropped: usize) -> Result<(), Corrupt> {
        if dropped.is_multiple_of(STEPS) {
            self.schedule(channel, now)?;
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Whether a worker with subscribers has still to copy this message of a channel.
    pub fn is_awaited(self, channel: Cell, message: &Message) -> Result<bool, Corrupt> {
        Ok(message.offset.get() > self.copied_by_all(channel)?)
    }

    /// The offset of the first message that has not expired by `now`; the upcoming one if all have. Those before it may be many: they are
    /// dropped a part at a time.
    pub fn first_fresh(self, record: &Record, now: u64) -> Result<u64, Corrupt> {
        let keep = record.keep.get();
        let has_expired = |message: &Message| message.time.get().saturating_add(keep) <= now;
        let Some(oldest) = Cell::new(record.oldest.get()) else { return Ok(record.upcoming.get()) };
        let oldest = self.message(oldest)?;
        // Nearly always those that have expired were dropped already.
        if keep == 0 || !has_expired(oldest) {
            return Ok(oldest.offset.get());
        }
        self.seek_after(record, has_expired)
    }

    /// Messages that belong to the channel's history at this time, those not counted that have expired and were not dropped yet.
    pub fn kept_at(self, channel: Cell, now: u64) -> Result<u32, Corrupt> {
        let record = self.record(channel)?;
        let (kept, keep) = (self.kept(record), record.keep.get());
        if kept == 0 || keep == 0 {
            return Ok(kept);
        }
        let fresh = record.upcoming.get().saturating_sub(self.first_fresh(record, now)?);
        Ok(kept.min(u32::try_from(fresh).unwrap_or(u32::MAX)))
    }

    /// Messages that belong to the channel's history: all that are stored but those beyond its length.
    pub fn kept(self, record: &Record) -> u32 {
        match record.history.get() {
            0 => record.messages.get(),
            NOTHING => 0,
            history => record.messages.get().min(history),
        }
    }
}
