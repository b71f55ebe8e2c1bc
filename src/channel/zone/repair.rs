// SPDX-License-Identifier: Apache-2.0

//! What to do with a zone that was left in the middle of an update.
//!
//! The links from the buckets to channels, messages and cells are followed, and everything else is built from them anew.
//! A message that was not yet linked is gone, one that was is published. Links that lead nowhere sensible are cut, so
//! this comes to an end whatever the zone contains. It may itself be killed at any point: the flag stays set, and
//! nothing here loses what was reachable.

use super::Memory;
use super::cells::cells_for;
use super::interest::Wake;
use super::layout::{
    BODY, Cell, CellHead, Group, INLINE_GROUP, INLINE_INPUT, INLINE_KEY, INLINE_MESSAGE, Input, InterestCell,
    MAX_PRESENCE, Message, PROGRAM_CELLS, Present, QUEUED, REASON, Record, WHEEL, link as link_value, state, tag,
};
use super::records::{counted, trailing};
use crate::channel::memory::{Corrupt, Word};

/// What has been found.
#[derive(Debug, Default)]
struct Found {
    channels: u32,
    messages: u32,
    message_cells: u32,
    bytes: u64,
    serial: u64,
    /// All messages, chained by `newer`.
    order: Option<Cell>,
}

impl<'a> Memory<'a> {
    /// Rebuilds everything from what is reachable. The workers with subscribers of any channel have news then; they are
    /// woken by the next publication, or when the killed worker's successor takes its slot.
    pub fn repair(self) -> Result<(), Corrupt> {
        let header = self.header()?;
        header.fresh.set(header.fresh.get().min(u32::try_from(self.geometry.cells).unwrap_or(u32::MAX)));
        self.region.clear(self.geometry.marks_at, self.geometry.cells.div_ceil(8))?;
        for nth in 0..WHEEL {
            self.wheel(nth)?.set(0);
        }
        for nth in 0..self.geometry.slots {
            let slot = self.slot(nth)?;
            slot.dirty_head.set(0);
            slot.dirty_tail.set(0);
        }
        let occupied = self.occupied()?;
        self.repair_groups()?;
        self.repair_departed()?;
        header.programs.set(0);
        header.input_cells.set(0);
        header.kept_cells.set(0);
        self.clear_idle()?;
        let mut found = Found { serial: header.serial.get(), ..Found::default() };
        for nth in 0..self.geometry.buckets {
            let mut link = self.bucket(nth)?;
            while let Some(cell) = Cell::new(link.get()) {
                let Some(record) = self.mark_record(cell, nth)? else {
                    link.set(0);
                    break;
                };
                self.repair_interests(cell, record)?;
                self.repair_presence(cell, record)?;
                self.repair_log(cell, record, &mut found)?;
                self.repair_program(cell, record, occupied)?;
                found.channels += counted(record);
                let published = record.upcoming.get() > 1;
                if published {
                    header.kept_cells.add(record.cells.get());
                }
                if let Some(group) = self.group_of(record)? {
                    group.records.add(1);
                    group.channels.add(if record.state.get() == state::LIVE { counted(record) } else { 0 });
                    if published && group.kept.get() == 0 {
                        group.kept.set(1);
                    }
                }
                record.idle_prev.set(0);
                if self.is_idle(cell)? {
                    self.list_idle(cell)?;
                }
                record.wheel_bucket.set(0);
                if let Some(deadline) = self.deadline(cell)? {
                    self.schedule(cell, deadline)?;
                }
                link = &record.hash_next;
            }
        }
        self.remove_empty_groups()?;
        header.channels.set(found.channels);
        header.messages.set(found.messages);
        header.message_cells.set(found.message_cells);
        header.bytes.set(found.bytes);
        header.serial.set(found.serial);
        self.sort_order(found.order)?;
        self.free_unmarked()?;
        for nth in 0..self.geometry.slots {
            self.slot(nth)?.woken.set(0);
        }
        Ok(())
    }

    /// The word with a cell's mark, and its bit.
    fn mark_of(self, cell: Cell) -> Result<(&'a Word, u32), Corrupt> {
        let at = self.geometry.marks_at + cell.index() / 32 * size_of::<Word>();
        Ok((self.region.at(at)?, 1 << (cell.index() % 32)))
    }

    /// Marks a cell as in use. False if it is already, or if there is no such cell.
    fn mark(self, cell: Cell) -> Result<bool, Corrupt> {
        if cell.index() >= self.geometry.cells || cell.number() > self.header()?.fresh.get() {
            return Ok(false);
        }
        let (word, bit) = self.mark_of(cell)?;
        let marks = word.get();
        word.set(marks | bit);
        Ok(marks & bit == 0)
    }

    /// A cell is not in use after all.
    fn unmark(self, cell: Cell) -> Result<(), Corrupt> {
        let (word, bit) = self.mark_of(cell)?;
        word.set(word.get() & !bit);
        Ok(())
    }

    /// Nor are so many cells of a chain that were marked.
    fn unmark_chain(self, head: Cell, count: usize) -> Result<(), Corrupt> {
        let mut part = Some(head);
        for _ in 0..count {
            let Some(cell) = part else { break };
            self.unmark(cell)?;
            part = Cell::new(self.cell::<CellHead>(cell)?.next.get());
        }
        Ok(())
    }

    /// Marks a chain, and cuts what would follow it. `count` looks at its first cell and says how many it has; `None` if it is not what it
    /// should be. The last cell, or `None` if there is no such chain: then nothing of it stays marked, or it would be neither used nor free.
    fn mark_chain(
        self,
        head: Cell,
        count: impl FnOnce() -> Result<Option<usize>, Corrupt>,
    ) -> Result<Option<Cell>, Corrupt> {
        if !self.mark(head)? {
            return Ok(None);
        }
        let Some(count) = count()? else { return self.unmark(head).map(|()| None) };
        let mut tail = head;
        for marked in 1..count {
            match Cell::new(self.cell::<CellHead>(tail)?.next.get()) {
                Some(next) if self.mark(next)? => {
                    if self.cell::<CellHead>(next)?.tag.get() == tag::BODY {
                        tail = next;
                        continue;
                    }
                    self.unmark(next)?;
                }
                _ => {}
            }
            self.unmark_chain(head, marked)?;
            return Ok(None);
        }
        self.cell::<CellHead>(tail)?.next.set(0);
        Ok(Some(tail))
    }

    /// Marks the groups and empties their accounts.
    fn repair_groups(self) -> Result<(), Corrupt> {
        for nth in 0..self.geometry.group_buckets {
            let mut way = self.group_bucket(nth)?;
            while let Some(cell) = Cell::new(way.get()) {
                let chain = self.mark_chain(cell, || {
                    let group: &Group = self.cell(cell)?;
                    let cells = cells_for(group.name_len.get() as usize, INLINE_GROUP);
                    let sound = group.tag.get() == tag::GROUP
                        && self.group_bucket_of(group.hash.get()) == nth
                        && group.cells.get() as usize == cells;
                    Ok(sound.then_some(cells))
                });
                if chain?.is_none() {
                    way.set(0);
                    break;
                }
                let group = self.group(cell)?;
                for count in [&group.records, &group.channels, &group.subscribers, &group.messages] {
                    count.set(0);
                }
                group.bytes.set(0);
                way = &group.hash_next;
            }
        }
        Ok(())
    }

    /// Whether a channel's group is there.
    fn is_group(self, record: &Record) -> Result<bool, Corrupt> {
        let Some(cell) = Cell::new(record.group.get()) else { return Ok(false) };
        if cell.index() >= self.geometry.cells {
            return Ok(false);
        }
        let (word, bit) = self.mark_of(cell)?;
        Ok(word.get() & bit != 0 && self.cell::<CellHead>(cell)?.tag.get() == tag::GROUP)
    }

    /// Unlinks groups that were made for a channel that then was not; their cells are not in use any more.
    fn remove_empty_groups(self) -> Result<(), Corrupt> {
        for nth in 0..self.geometry.group_buckets {
            let mut way = self.group_bucket(nth)?;
            while let Some(cell) = Cell::new(way.get()) {
                let group = self.group(cell)?;
                if group.records.get() > 0 || group.limited.get() != 0 {
                    if group.kept.get() != 0 {
                        self.header()?.kept_cells.add(group.cells.get());
                    }
                    way = &group.hash_next;
                    continue;
                }
                way.commit(group.hash_next.get());
                self.unmark_chain(cell, group.cells.get() as usize)?;
            }
        }
        Ok(())
    }

    fn mark_record(self, cell: Cell, bucket: usize) -> Result<Option<&'a Record>, Corrupt> {
        let chain = self.mark_chain(cell, || {
            let record: &Record = self.cell(cell)?;
            let cells = cells_for(trailing(record), INLINE_KEY);
            let sound = record.tag.get() == tag::CHANNEL
                && self.belongs(record.hash.get(), bucket)
                && record.cells.get() as usize == cells
                && self.is_group(record)?;
            Ok(sound.then_some(cells))
        });
        chain?.map(|_| self.cell(cell)).transpose()
    }

    /// Keeps the counts of workers that are still there, and gives them news.
    fn repair_interests(self, channel: Cell, record: &'a Record) -> Result<(), Corrupt> {
        let mut link = &record.interest;
        while let Some(cell) = Cell::new(link.get()) {
            let chain = self.mark_chain(cell, || {
                let sound = self.cell::<CellHead>(cell)?.tag.get() == tag::INTEREST;
                Ok(sound.then_some(1))
            });
            if chain?.is_none() {
                link.set(0);
                break;
            }
            link = &self.cell::<InterestCell>(cell)?.next;
        }
        for at in self.interests(channel)? {
            let at = at?;
            let interest = self.interest(at)?;
            match self.interested(interest)? {
                Some(slot) if interest.count.get() > 0 => {
                    interest.slot.set(interest.slot.get() & !QUEUED);
                    interest.record.set(channel.number());
                    self.enqueue(slot, at, interest)?;
                    self.count_subscribers(channel, i64::from(interest.count.get()))?;
                }
                _ => {
                    interest.slot.set(0);
                    interest.count.set(0);
                }
            }
        }
        Ok(())
    }

    /// Keeps the entries of workers that are still there.
    fn repair_presence(self, channel: Cell, record: &'a Record) -> Result<(), Corrupt> {
        let mut way = &record.presence;
        let mut before = None;
        while let Some(cell) = Cell::new(way.get()) {
            let chain = self.mark_chain(cell, || {
                let present: &Present = self.cell(cell)?;
                let sound = present.tag.get() == tag::PRESENT
                    && present.record.get() == channel.number()
                    && present.length() <= MAX_PRESENCE
                    && present.transport().is_some();
                Ok(sound.then_some(1))
            });
            if chain?.is_none() {
                way.set(0);
                break;
            }
            let present = self.present(cell)?;
            if self.is_present(present)? {
                present.before.set(link_value(before));
                before = Some(cell);
                way = &present.after;
            } else {
                way.commit(present.after.get());
                self.unmark(cell)?;
            }
        }
        Ok(())
    }

    fn repair_log(self, channel: Cell, record: &'a Record, found: &mut Found) -> Result<(), Corrupt> {
        let mut link = &record.oldest;
        let mut before: Option<(Cell, u64, u64)> = None;
        let (mut messages, mut cells, mut bytes, mut order) = (0, 0, 0, found.order);
        while let Some(cell) = Cell::new(link.get()) {
            let message = self.mark_message(channel, cell)?;
            let follows = |message: &Message| match before {
                Some((_, offset, serial)) => {
                    Some(message.offset.get()) == offset.checked_add(1) && message.serial.get() > serial
                }
                None => message.offset.get() != 0 && message.serial.get() != 0,
            };
            if let Some(message) = message.filter(|message| !follows(message)) {
                self.unmark_chain(cell, message.cells.get() as usize)?;
            }
            let Some(message) = message.filter(|message| follows(message)) else {
                // What comes after one that is there is either nothing, or all are given up below.
                if before.is_none() {
                    record.missing.set(self.header()?.serial.get());
                }
                link.set(0);
                break;
            };
            if before.is_none() {
                // The message was to be dropped, and is still there.
                record.missing.set(record.missing.get().min(message.serial.get().saturating_sub(1)));
            }
            self.link_back(record, message, before.map(|(cell, ..)| cell))?;
            before = Some((cell, message.offset.get(), message.serial.get()));
            messages += 1;
            cells += message.cells.get();
            bytes += u64::from(message.data_len.get());
            found.serial = found.serial.max(message.serial.get());
            message.newer.set(link_value(order));
            order = Some(cell);
            link = &message.after;
        }
        if let Some((_, last, _)) = before {
            if record.upcoming.get() > last.saturating_add(1) {
                // The newest messages are lost, which no update leaves behind. Offsets have no holes, so the others go too.
                let mut next = Cell::new(record.oldest.get());
                while let Some(cell) = next {
                    let message = self.message(cell)?;
                    next = Cell::new(message.after.get());
                    self.unmark_chain(cell, message.cells.get() as usize)?;
                }
                record.oldest.set(0);
                record.newest.set(0);
                record.messages.set(0);
                record.bytes.set(0);
                record.missing.set(found.serial);
                return Ok(());
            }
            record.upcoming.set(last.saturating_add(1));
        }
        if let Some(group) = self.group_of(record)? {
            group.messages.add(messages);
            group.bytes.add(bytes);
        }
        found.order = order;
        found.messages += messages;
        found.message_cells += cells;
        found.bytes += bytes;
        record.messages.set(messages);
        record.bytes.set(bytes);
        record.newest.set(link_value(before.map(|(cell, ..)| cell)));
        Ok(())
    }

    /// Keeps a program and its input, and gives all workers news of it: one of them may have been about to hear of it.
    fn repair_program(self, channel: Cell, record: &'a Record, occupied: Wake) -> Result<(), Corrupt> {
        let header = self.header()?;
        let Some(cell) = Cell::new(record.program.get()) else { return Ok(()) };
        let Ok(program) = self.program(cell) else {
            record.program.set(0);
            return Ok(());
        };
        if self.mark_chain(cell, || Ok(Some(PROGRAM_CELLS)))?.is_none() {
            record.program.set(0);
            return Ok(());
        }
        let mut concerned = self.keep_clients(program, occupied)?;
        if let Some(owner) = self.owner(program)? {
            concerned.add(owner);
            program.kept.set(0);
        }
        let sound = program.record.get() == channel.number() && program.ended.get() >> 16 <= REASON as u32;
        let is_needed = !concerned.is_empty() || program.kept.get() != 0;
        if !is_needed || !sound {
            record.program.set(0);
            return self.unmark_chain(cell, PROGRAM_CELLS);
        }
        let mut link = &program.input;
        let (mut last, mut cells, mut octets) = (0, 0, 0);
        while let Some(cell) = Cell::new(link.get()) {
            let Some(input) = self.mark_input(cell)? else {
                link.set(0);
                break;
            };
            last = cell.number();
            cells += input.cells.get();
            octets += u64::from(input.len.get());
            link = &input.after;
        }
        program.input_last.set(last);
        program.input_octets.set(octets);
        header.input_cells.add(cells);
        program.list.set(header.programs.get());
        header.programs.set(cell.number());
        for nth in 0..self.geometry.slots {
            self.looked(program, nth)?;
        }
        self.tell(program, concerned).map(|_| ())
    }

    fn mark_input(self, cell: Cell) -> Result<Option<&'a Input>, Corrupt> {
        let chain = self.mark_chain(cell, || {
            let input: &Input = self.cell(cell)?;
            let cells = self.cells_of(input.len.get() as usize, INLINE_INPUT);
            let is_input = input.tag.get() == tag::INPUT;
            Ok(cells.filter(|cells| is_input && input.cells.get() as usize == *cells))
        });
        let Some(tail) = chain? else { return Ok(None) };
        let input: &Input = self.cell(cell)?;
        if tail.number() == input.tail.get() {
            return Ok(Some(input));
        }
        self.unmark_chain(cell, input.cells.get() as usize)?;
        Ok(None)
    }

    fn mark_message(self, channel: Cell, cell: Cell) -> Result<Option<&'a Message>, Corrupt> {
        let chain = self.mark_chain(cell, || {
            let message: &Message = self.cell(cell)?;
            let len = [&message.data_len, &message.type_len, &message.event_len]
                .iter()
                .fold(0_usize, |sum, len| sum.saturating_add(len.get() as usize));
            let is_message = message.tag.get() == tag::MESSAGE && message.record.get() == channel.number();
            let cells = self.cells_of(len, INLINE_MESSAGE);
            Ok(cells.filter(|cells| is_message && message.cells.get() as usize == *cells))
        });
        let Some(tail) = chain? else { return Ok(None) };
        let message: &Message = self.cell(cell)?;
        if tail.number() == message.tail.get() {
            return Ok(Some(message));
        }
        self.unmark_chain(cell, message.cells.get() as usize)?;
        Ok(None)
    }

    /// Cells of contents of this length, if the zone has as many.
    fn cells_of(self, len: usize, inline: usize) -> Option<usize> {
        (len <= self.geometry.cells * BODY).then(|| cells_for(len, inline))
    }

    /// What is not marked is free.
    fn free_unmarked(self) -> Result<(), Corrupt> {
        let header = self.header()?;
        let (mut free, mut count) = (0, 0);
        for number in (1..=header.fresh.get()).rev() {
            let Some(cell) = Cell::new(number) else { break };
            let (word, bit) = self.mark_of(cell)?;
            if word.get() & bit == 0 {
                let head: &CellHead = self.cell(cell)?;
                head.tag.set(tag::FREE);
                head.next.set(free);
                free = number;
                count += 1;
            }
        }
        header.free.set(free);
        header.free_count.set(count);
        Ok(())
    }
}
