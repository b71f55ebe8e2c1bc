// SPDX-License-Identifier: Apache-2.0

//! Whether everything in a zone agrees: for tests only.

use std::collections::{HashMap, HashSet};

use super::Memory;
use super::groups::GroupUse;
use super::layout::{
    Cell, CellHead, InterestAt, InterestCell, MAX_PRESENCE, PROGRAM_CELLS, QUEUED, REPLACED, WHEEL, state, tag,
};
use super::records::counted;
use super::wheel::TICK;
use crate::channel::memory::Corrupt;

macro_rules! agree {
    ($left:expr, $right:expr, $($what:tt)*) => {
        let (left, right) = ($left, $right);
        if left != right {
            return Err(format!("{}: {left:?} is not {right:?}", format!($($what)*)));
        }
    };
}

/// What is wrong with a zone.
pub fn check(memory: Memory<'_>) -> Result<(), String> {
    Checker { memory, used: HashSet::new() }.all().map_err(|what| format!("zone: {what}"))
}

/// Channels of a group, deleted ones included, and what it has.
type Account = (u32, GroupUse);

struct Checker<'a> {
    memory: Memory<'a>,
    used: HashSet<Cell>,
}

fn sound<T>(result: Result<T, Corrupt>) -> Result<T, String> {
    result.map_err(|Corrupt| "a link leads nowhere".to_owned())
}

impl Checker<'_> {
    fn take(&mut self, cell: Cell) -> Result<(), String> {
        if self.used.insert(cell) { Ok(()) } else { Err(format!("cell {} is used twice", cell.number())) }
    }

    fn chain(&mut self, head: Cell, count: u32) -> Result<Cell, String> {
        self.take(head)?;
        let mut tail = head;
        for _ in 1..count {
            let next = sound(self.memory.cell::<CellHead>(tail))?.next.get();
            tail = Cell::new(next).ok_or("chain is short")?;
            self.take(tail)?;
        }
        agree!(sound(self.memory.cell::<CellHead>(tail))?.next.get(), 0, "end of a chain");
        Ok(tail)
    }

    fn all(mut self) -> Result<(), String> {
        let memory = self.memory;
        let header = sound(memory.header())?;
        let (mut channels, mut messages, mut message_cells, mut bytes) = (0, 0, 0, 0);
        let mut serials = HashMap::new();
        let mut queued: HashMap<usize, HashSet<u32>> = HashMap::new();
        let mut wheel: HashMap<usize, HashSet<Cell>> = HashMap::new();
        let mut groups: HashMap<u32, Account> = HashMap::new();
        let mut programs = HashSet::new();
        let mut idle = HashSet::new();
        let (mut input_cells, mut kept_cells) = (0, 0);
        for bucket in 0..memory.geometry.buckets {
            let mut next = Cell::new(sound(memory.bucket(bucket))?.get());
            while let Some(cell) = next {
                let record = sound(memory.record(cell))?;
                self.chain(cell, record.cells.get())?;
                agree!(memory.belongs(record.hash.get(), bucket), true, "bucket of a channel");
                channels += counted(record);
                self.log(cell, &mut serials)?;
                messages += record.messages.get();
                bytes += record.bytes.get();
                let subscribers = self.interests(cell, &mut queued)?;
                self.presence(cell)?;
                let group = groups.entry(record.group.get()).or_default();
                group.0 += 1;
                group.1.channels += if record.state.get() == state::LIVE { counted(record) } else { 0 };
                group.1.subscribers += subscribers;
                group.1.messages += record.messages.get();
                group.1.bytes += record.bytes.get();
                if record.upcoming.get() > 1 {
                    kept_cells += record.cells.get();
                }
                let is_idle = sound(memory.is_idle(cell))? && record.state.get() == state::LIVE;
                if is_idle && bucket < header.scan.get() as usize {
                    agree!(record.idle_prev.get() != 0, true, "an unused channel that is on no list");
                }
                if record.idle_prev.get() != 0 {
                    idle.insert(cell);
                }
                if let Some(program) = Cell::new(record.program.get()) {
                    input_cells += self.program(cell, program)?;
                    programs.insert(program);
                }
                if let Some(bucket) = record.wheel_bucket.get().checked_sub(1) {
                    wheel.entry(bucket as usize).or_default().insert(cell);
                }
                // After a worker has died its channels are looked at one after the other.
                let scanned = bucket < header.scan.get() as usize;
                if let Some(deadline) = sound(memory.deadline(cell))?.filter(|_| scanned) {
                    self.due(cell, deadline)?;
                }
                next = Cell::new(record.hash_next.get());
            }
        }
        groups.remove(&0);
        kept_cells += self.groups(groups)?;
        agree!(header.kept_cells.get(), kept_cells, "cells of channels that were published to");
        self.idle(idle)?;
        agree!(header.channels.get(), channels, "channels");
        agree!(header.messages.get(), messages, "messages");
        agree!(header.bytes.get(), bytes, "octets");
        for &cell in serials.values() {
            message_cells += sound(memory.message(cell))?.cells.get();
        }
        agree!(header.message_cells.get(), message_cells, "cells of messages");
        agree!(header.input_cells.get(), input_cells, "cells of input");
        self.programs(programs)?;
        self.departed()?;
        self.order(&serials)?;
        self.queues(&queued)?;
        self.wheel(&mut wheel)?;
        self.free()
    }

    fn log(&mut self, channel: Cell, serials: &mut HashMap<u64, Cell>) -> Result<(), String> {
        let memory = self.memory;
        let record = sound(memory.record(channel))?;
        let mut next = Cell::new(record.oldest.get());
        let (mut messages, mut bytes) = (0, 0);
        let mut last: Option<Cell> = None;
        while let Some(cell) = next {
            let message = sound(memory.message(cell))?;
            let tail = self.chain(cell, message.cells.get())?;
            agree!(message.tail.get(), tail.number(), "end of a message");
            agree!(message.record.get(), channel.number(), "channel of a message");
            if let Some(last) = last {
                let before = sound(memory.message(last))?;
                agree!(message.offset.get(), before.offset.get() + 1, "offset");
                agree!(message.before.get(), last.number(), "link back");
                agree!(message.serial.get() > before.serial.get(), true, "serial");
            }
            agree!(message.serial.get() > record.missing.get(), true, "serial of what is missing");
            agree!(
                sound(memory.seek_serial(record, message.serial.get() - 1))?,
                message.offset.get(),
                "first after a serial"
            );
            if serials.insert(message.serial.get(), cell).is_some() {
                return Err("a serial is used twice".to_owned());
            }
            messages += 1;
            bytes += u64::from(message.data_len.get());
            last = Some(cell);
            next = Cell::new(message.after.get());
        }
        agree!(record.messages.get(), messages, "messages of a channel");
        agree!(record.bytes.get(), bytes, "octets of a channel");
        agree!(Cell::new(record.newest.get()), last, "newest");
        if let Some(last) = last {
            agree!(record.upcoming.get(), sound(memory.message(last))?.offset.get() + 1, "upcoming");
        }
        let first = sound(memory.oldest_offset(record))?;
        for offset in first..record.upcoming.get() {
            let found = sound(memory.seek(record, offset))?.ok_or("message is not found")?;
            agree!(sound(memory.message(found))?.offset.get(), offset, "message found");
        }
        Ok(())
    }

    /// Groups and what their channels come to.
    fn groups(&mut self, mut sums: HashMap<u32, Account>) -> Result<u32, String> {
        let memory = self.memory;
        let mut kept_cells = 0;
        for bucket in 0..memory.geometry.group_buckets {
            let mut next = Cell::new(sound(memory.group_bucket(bucket))?.get());
            while let Some(cell) = next {
                let group = sound(memory.group(cell))?;
                self.chain(cell, group.cells.get())?;
                agree!(memory.group_bucket_of(group.hash.get()), bucket, "bucket of a group");
                let used = (group.records.get(), memory.group_use(group));
                agree!(used, sums.remove(&cell.number()).unwrap_or_default(), "account of a group");
                agree!(used.0 > 0 || group.limited.get() != 0, true, "a group without reason");
                if group.kept.get() != 0 {
                    kept_cells += group.cells.get();
                }
                next = Cell::new(group.hash_next.get());
            }
        }
        agree!(sums.len(), 0, "groups that are not in the table");
        Ok(kept_cells)
    }

    /// The lists of channels that nobody uses.
    fn idle(&self, mut listed: HashSet<Cell>) -> Result<(), String> {
        for ([first, last], published) in sound(self.memory.header())?.idle.iter().zip([false, true]) {
            let mut next = Cell::new(first.get());
            let mut before = None;
            while let Some(cell) = next {
                agree!(listed.remove(&cell), true, "an unused channel in a list");
                let record = sound(self.memory.record(cell))?;
                agree!(
                    record.idle_prev.get(),
                    before.map_or(u32::MAX, Cell::number),
                    "link back among unused channels"
                );
                agree!(record.upcoming.get() > 1, published, "list of an unused channel");
                before = Some(cell);
                next = Cell::new(record.idle_next.get());
            }
            agree!(Cell::new(last.get()), before, "end of a list of unused channels");
        }
        agree!(listed.len(), 0, "unused channels that are in no list");
        Ok(())
    }

    /// Who is on a channel.
    fn presence(&mut self, channel: Cell) -> Result<(), String> {
        let memory = self.memory;
        let mut next = Cell::new(sound(memory.record(channel))?.presence.get());
        let mut last = None;
        let mut named: HashMap<u32, u32> = HashMap::new();
        while let Some(cell) = next {
            self.chain(cell, 1)?;
            let present = sound(memory.present(cell))?;
            agree!(present.record.get(), channel.number(), "channel of somebody who is there");
            agree!(Cell::new(present.before.get()), last, "link to the one before");
            agree!(present.length() <= MAX_PRESENCE, true, "length of a name");
            if sound(memory.is_present(present))? {
                *named.entry(present.slot.get()).or_default() += 1;
            }
            last = Some(cell);
            next = Cell::new(present.after.get());
        }
        for (slot, count) in named {
            let interest = sound(memory.interest_of(channel, slot as usize - 1))?;
            let subscribers = interest.map_or(0, |interest| interest.count.get());
            // A channel that is deleted is left without saying so.
            let deleted = sound(memory.record(channel))?.state.get() == state::DELETED;
            agree!(count <= subscribers || deleted, true, "more names than subscribers: {count} {subscribers}");
        }
        Ok(())
    }

    /// Those who have left: each place is in its bucket or free.
    fn departed(&self) -> Result<(), String> {
        let memory = self.memory;
        let header = sound(memory.header())?;
        let mut known = HashSet::new();
        for bucket in 0..memory.geometry.departed {
            let mut next = sound(memory.departed_bucket(bucket))?.get();
            while next != 0 {
                agree!(known.insert(next), true, "a place of somebody who has left");
                let departed = sound(memory.departed(next))?;
                agree!(departed.slot.get() > 0, true, "the worker of somebody who has left");
                agree!(memory.departed_bucket_of(departed.hash[0].get()), bucket, "bucket of somebody who has left");
                next = departed.next.get();
            }
        }
        let mut next = header.departed_free.get();
        while next != 0 {
            agree!(known.insert(next), true, "a free place");
            let departed = sound(memory.departed(next))?;
            agree!(departed.slot.get(), 0, "the worker of a free place");
            next = departed.next.get();
        }
        agree!(known.len(), header.departed_fresh.get() as usize, "places of those who have left");
        agree!(known.iter().all(|number| *number <= header.departed_fresh.get()), true, "number of a place");
        Ok(())
    }

    /// A program and its input. How many cells that has.
    fn program(&mut self, channel: Cell, cell: Cell) -> Result<u32, String> {
        let memory = self.memory;
        self.chain(cell, PROGRAM_CELLS as u32)?;
        let program = sound(memory.program(cell))?;
        agree!(program.record.get(), channel.number(), "channel of a program");
        let owned = sound(memory.owner(program))?.is_some();
        let is_needed = owned || !sound(memory.clients(program))?.is_empty() || program.kept.get() != 0;
        agree!(is_needed, true, "a program without reason");
        agree!(owned && program.kept.get() != 0, false, "a run that is kept while another one goes on");
        let mut next = Cell::new(program.input.get());
        let (mut last, mut octets, mut cells) = (None, 0, 0);
        while let Some(cell) = next {
            let input = sound(memory.input(cell))?;
            let tail = self.chain(cell, input.cells.get())?;
            agree!(input.tail.get(), tail.number(), "end of input");
            octets += u64::from(input.len.get());
            cells += input.cells.get();
            last = Some(cell);
            next = Cell::new(input.after.get());
        }
        agree!(Cell::new(program.input_last.get()), last, "newest input");
        agree!(program.input_octets.get(), octets, "octets of input");
        for nth in 0..memory.geometry.slots {
            let slot = sound(memory.slot(nth))?;
            let told = !sound(memory.has_news_of(program, nth))? || slot.programs.get() != 0 || slot.pid.get() == 0;
            agree!(told, true, "news of a program that the worker is not told of");
            agree!(sound(memory.clients(program))?.has(nth) && slot.pid.get() == 0, false, "clients of nobody");
        }
        Ok(cells)
    }

    fn programs(&self, mut programs: HashSet<Cell>) -> Result<(), String> {
        let mut next = Cell::new(sound(self.memory.header())?.programs.get());
        while let Some(cell) = next {
            agree!(programs.remove(&cell), true, "a program in the list");
            next = Cell::new(sound(self.memory.program(cell))?.list.get());
        }
        agree!(programs.len(), 0, "programs that are not in the list");
        Ok(())
    }

    /// Entries of a channel. How many subscribers they stand for, of dead workers too.
    fn interests(&mut self, channel: Cell, queued: &mut HashMap<usize, HashSet<u32>>) -> Result<u32, String> {
        let memory = self.memory;
        let record = sound(memory.record(channel))?;
        let mut more = Cell::new(record.interest.get());
        while let Some(cell) = more {
            self.take(cell)?;
            let places: &InterestCell = sound(memory.cell(cell))?;
            agree!(places.tag.get(), tag::INTEREST, "tag");
            more = Cell::new(places.next.get());
        }
        let mut slots = HashSet::new();
        let mut subscribers = 0;
        for at in sound(memory.interests(channel))? {
            let at = sound(at)?;
            let interest = sound(memory.interest(at))?;
            if interest.slot.get() != 0 {
                subscribers += interest.count.get();
            }
            let Some(slot) = sound(memory.interested(interest))? else { continue };
            agree!(slots.insert(slot), true, "one entry a worker");
            agree!(interest.record.get(), channel.number(), "channel of an entry");
            let unread = interest.count.get() > 0
                && (interest.seen.get() == REPLACED || interest.seen.get() + 1 < record.upcoming.get());
            if interest.slot.get() & QUEUED != 0 {
                queued.entry(slot).or_default().insert(at.units());
            } else {
                agree!(interest.count.get() > 0, true, "an entry without reason");
                agree!(unread, false, "news that the worker is not told of");
            }
        }
        Ok(subscribers)
    }

    fn due(&self, cell: Cell, deadline: u64) -> Result<(), String> {
        let record = sound(self.memory.record(cell))?;
        let header = sound(self.memory.header())?;
        let turned = header.wheel_second.get();
        let Some(bucket) = record.wheel_bucket.get().checked_sub(1) else {
            return Err(format!("a channel with a deadline is not in the wheel, {record:?}"));
        };
        let ticks = WHEEL as u64;
        let looked = (turned + 1..=turned + ticks).find(|tick| tick % ticks == u64::from(bucket)).ok_or("bucket")?;
        // A wheel that is behind comes by before it arrives.
        let in_time = deadline.div_ceil(TICK).max(turned + 2).max(header.clock.get() / TICK);
        let late = looked > in_time && looked + 1 < turned + ticks;
        agree!(late, false, "a channel is looked at too late: {looked} {deadline} {turned}");
        Ok(())
    }

    fn order(&self, serials: &HashMap<u64, Cell>) -> Result<(), String> {
        let header = sound(self.memory.header())?;
        let mut next = Cell::new(header.oldest.get());
        let (mut count, mut last, mut greatest) = (0, None, 0);
        let bound = header.passed_serial.get();
        let mut passed = header.passed.get() != 0;
        while let Some(cell) = next {
            let message = sound(self.memory.message(cell))?;
            let serial = message.serial.get();
            // Only messages that were passed over once are not in the order of their serials.
            agree!(serial > greatest || serial <= bound && greatest <= bound, true, "order");
            greatest = greatest.max(serial);
            agree!(serials.get(&serial), Some(&cell), "message in the order");
            if passed {
                let channel = Cell::new(message.record.get()).ok_or("channel of a message")?;
                agree!(sound(self.memory.is_awaited(channel, message))?, true, "a message that was passed over");
                agree!(serial <= bound, true, "serial of a message that was passed over");
                passed = header.passed.get() != cell.number();
            }
            agree!(Cell::new(message.older.get()), last, "link to the older");
            last = Some(cell);
            count += 1;
            next = Cell::new(message.newer.get());
        }
        agree!(Cell::new(header.newest.get()), last, "newest of the zone");
        agree!(passed, false, "the message that was passed over last");
        agree!(greatest <= header.serial.get(), true, "serial of the zone");
        agree!(count, serials.len(), "messages in the order");
        Ok(())
    }

    fn queues(&self, queued: &HashMap<usize, HashSet<u32>>) -> Result<(), String> {
        for nth in 0..self.memory.geometry.slots {
            let slot = sound(self.memory.slot(nth))?;
            let mut next = InterestAt::new(slot.dirty_head.get());
            let mut listed = HashSet::new();
            let mut last = 0;
            while let Some(at) = next {
                agree!(listed.insert(at.units()), true, "an entry is listed once");
                last = at.units();
                next = InterestAt::new(sound(self.memory.interest(at))?.next.get());
            }
            agree!(slot.dirty_tail.get(), last, "end of a list of news");
            agree!(Some(&listed).filter(|listed| !listed.is_empty()), queued.get(&nth), "list of news of {nth}");
        }
        Ok(())
    }

    fn wheel(&self, wheel: &mut HashMap<usize, HashSet<Cell>>) -> Result<(), String> {
        for nth in 0..WHEEL {
            let mut next = Cell::new(sound(self.memory.wheel(nth))?.get());
            let mut last = None;
            let mut members = HashSet::new();
            while let Some(cell) = next {
                agree!(members.insert(cell), true, "a channel is in the wheel once");
                let record = sound(self.memory.record(cell))?;
                agree!(Cell::new(record.wheel_prev.get()), last, "link back in the wheel");
                last = Some(cell);
                next = Cell::new(record.wheel_next.get());
            }
            agree!(members, wheel.remove(&nth).unwrap_or_default(), "bucket {nth} of the wheel");
        }
        Ok(())
    }

    fn free(&mut self) -> Result<(), String> {
        let header = sound(self.memory.header())?;
        let used = self.used.len();
        let mut next = Cell::new(header.free.get());
        let mut free = 0;
        while let Some(cell) = next {
            self.take(cell)?;
            let head = sound(self.memory.cell::<CellHead>(cell))?;
            next = Cell::new(head.next.get());
            free += 1;
        }
        agree!(header.free_count.get(), free, "free cells");
        agree!(header.fresh.get() as usize, used + free as usize, "cells that are neither used nor free");
        Ok(())
    }
}
