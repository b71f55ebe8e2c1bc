// SPDX-License-Identifier: Apache-2.0

//! Channels: finding, creating and removing them.

use super::Memory;
use super::cells::cells_for;
use super::interest::Wake;
use super::layout::{COPIED, Cell, Copied, INLINE_KEY, Interest, Record, state, tag};
use crate::channel::hash::SipHash;
use crate::channel::memory::{Corrupt, Word};

/// How long a channel stays that has neither messages nor subscribers, milliseconds: a client that comes back soon still
/// finds the epoch of its position.
pub const LINGER: u64 = 30_000;

/// Messages of a deleted channel that are dropped at once if workers have still to copy others.
const DELETE_DROPS: usize = 1024;

/// Octets that a part of a key may have.
pub const MAX_KEY_PART: usize = 1 << 16;

/// What a channel is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    space: u64,
    group: &'a [u8],
    id: &'a [u8],
}

impl<'a> Key<'a> {
    /// The channel `id` of a group; the empty name is a group of its own. `None` if either is longer than
    /// [`MAX_KEY_PART`].
    pub fn new(group: &'a [u8], id: &'a [u8]) -> Option<Self> {
        Self::in_space(0, group, id)
    }

    /// The channel `id` of a group in an engine, 0 for none: an engine's channels have nothing to do with others of the same names.
    pub fn in_space(space: u64, group: &'a [u8], id: &'a [u8]) -> Option<Self> {
        (group.len() <= MAX_KEY_PART && id.len() <= MAX_KEY_PART).then_some(Self { space, group, id })
    }

    /// The engine that has the channel; 0: none.
    pub fn space(self) -> u64 {
        self.space
    }

    /// The group's name.
    pub fn group(self) -> &'a [u8] {
        self.group
    }

    /// The channel's name in its group.
    pub fn id(self) -> &'a [u8] {
        self.id
    }

    /// Cells of a channel with this key.
    pub fn cells(self) -> usize {
        cells_for(self.at() - size_of::<Record>() + self.group.len() + self.id.len(), INLINE_KEY)
    }

    /// Where it begins in the chain of its channel.
    fn at(self) -> usize {
        size_of::<Record>() + if self.space == 0 { 0 } else { size_of::<Copied>() }
    }
}

impl<'a> Memory<'a> {
    /// The hash of a key. Needs no lock: the seed never changes.
    pub fn hash(self, key: Key<'_>) -> Result<u64, Corrupt> {
        let [low, high] = &self.header()?.seed;
        let mut hash = SipHash::new([low.get(), high.get()]);
        if key.space != 0 {
            hash.write(&key.space.to_le_bytes());
        }
        hash.write(&(key.group.len() as u64).to_le_bytes());
        hash.write(key.group);
        hash.write(key.id);
        Ok(hash.finish())
    }

    /// The bucket of a hash.
    fn bucket_of(self, hash: u64) -> usize {
        // A power of two: the lower bits.
        hash as usize & (self.geometry.buckets - 1)
    }

    /// Whether a channel of this hash is in its bucket.
    pub fn belongs(self, hash: u64, bucket: usize) -> bool {
        self.bucket_of(hash) == bucket
    }

    /// The channel with this key.
    pub fn find(self, key: Key<'_>, hash: u64) -> Result<Option<Cell>, Corrupt> {
        let mut next = Cell::new(self.bucket(self.bucket_of(hash))?.get());
        let mut left = self.geometry.cells;
        while let Some(cell) = next {
            left = left.checked_sub(1).ok_or(Corrupt)?;
            let record = self.record(cell)?;
            let candidate = record.hash.get() == hash
                && record.state.get() == state::LIVE
                && record.group_len.get() as usize == key.group.len()
                && id_len(record) == key.id.len()
                && self.copied(cell)?.map_or(0, |copied| copied.space.get()) == key.space;
            if candidate && self.equal_along(cell, key.at(), [key.group, key.id])? {
                return Ok(Some(cell));
            }
            next = Cell::new(record.hash_next.get());
        }
        Ok(None)
    }

    /// Whether the id of a channel of this group begins so.
    pub fn has_id_prefix(self, cell: Cell, group: &[u8], prefix: &[u8]) -> Result<bool, Corrupt> {
        let record = self.record(cell)?;
        if record.group_len.get() as usize != group.len() || id_len(record) < prefix.len() {
            return Ok(false);
        }
        self.equal_along(cell, key_at(record), [group, prefix])
    }

    /// Copies the id of a channel to the end of `ids`, without more memory for it. False, and nothing is copied, if there is too little: the
    /// name of the group needs some for a moment as well.
    pub fn copy_id(self, cell: Cell, ids: &mut Vec<u8>) -> Result<bool, Corrupt> {
        let record = self.record(cell)?;
        let (group, id) = (record.group_len.get() as usize, id_len(record));
        if group > MAX_KEY_PART || id > MAX_KEY_PART {
            return Err(Corrupt);
        }
        if ids.capacity() - ids.len() < group + id {
            return Ok(false);
        }
        let before = ids.len();
        self.read_along(cell, key_at(record), group + id, ids)?;
        ids.drain(before..before + group);
        Ok(true)
    }

    /// A channel that was found before, if it is still the same.
    pub fn same(self, cell: Cell, epoch: u64) -> Option<&'a Record> {
        self.record(cell).ok().filter(|record| record.epoch.get() == epoch)
    }

    /// What a channel has besides that is a copy of an engine's.
    pub fn copied(self, cell: Cell) -> Result<Option<&'a Copied>, Corrupt> {
        if self.record(cell)?.id_len.get() & COPIED == 0 {
            return Ok(None);
        }
        self.region.at(self.offset(cell)? + size_of::<Record>()).map(Some)
    }

    /// The epoch of a channel's messages.
    pub fn epoch_of(self, cell: Cell) -> Result<u64, Corrupt> {
        Ok(match self.copied(cell)? {
            Some(copied) => copied.epoch.get(),
            None => self.record(cell)?.epoch.get(),
        })
    }

    /// Creates a channel. There must be [room](Self::make_room_to_create) for it.
    pub fn create(self, key: Key<'_>, hash: u64, clock: u64) -> Result<Cell, Corrupt> {
        let header = self.header()?;
        let group = self.find_or_create_group(key.space, key.group)?;
        let cells = key.cells();
        let chain = self.take_cells(cells, tag::CHANNEL)?;
        let cell = chain.head;
        let record = self.record(cell)?;
        let none = [
            &record.wheel_prev,
            &record.wheel_next,
            &record.wheel_bucket,
            &record.oldest,
            &record.newest,
            &record.messages,
            &record.interest,
            &record.history,
            &record.presence,
            &record.program,
            &record.idle_prev,
            &record.idle_next,
        ];
        for word in none {
            word.set(0);
        }
        for wide in [&record.bytes, &record.keep, &record.requested] {
            wide.set(0);
        }
        for Interest { slot, count, .. } in &record.entries {
            slot.set(0);
            count.set(0);
        }
        record.state.set(state::LIVE);
        record.group.set(group.number());
        record.cells.set(u32::try_from(cells).map_err(|_| Corrupt)?);
        record.group_len.set(u32::try_from(key.group.len()).map_err(|_| Corrupt)?);
        let copied = if key.space == 0 { 0 } else { COPIED };
        record.id_len.set(u32::try_from(key.id.len()).map_err(|_| Corrupt)? | copied);
        record.hash.set(hash);
        record.epoch.set(self.draw_epoch()?);
        record.upcoming.set(1);
        record.touched.set(clock);
        let serial = header.serial.get().saturating_add(1);
        header.serial.set(serial);
        record.missing.set(serial);
        if let Some(copied) = self.copied(cell)? {
            copied.space.set(key.space);
            for unknown in [&copied.epoch, &copied.base, &copied.previous, &copied.compared] {
                unknown.set(0);
            }
            copied.relay.set(0);
            copied.undone.set(0);
        }
        self.write_along(cell, key.at(), [key.group, key.id])?;
        let bucket = self.bucket(self.bucket_of(hash))?;
        record.hash_next.set(bucket.get());
        bucket.commit(cell.number());
        header.channels.add(counted(record));
        if let Some(group) = self.group_of(record)? {
            group.records.add(1);
            group.channels.add(counted(record));
        }
        self.schedule(cell, clock + LINGER)?;
        Ok(cell)
    }

    /// A number that follows from the secret of the zone, and from which that does not follow.
    pub fn identity(self) -> Result<u64, Corrupt> {
        let [low, high] = &self.header()?.seed;
        let mut hash = SipHash::new([high.get(), low.get()]);
        hash.write(b"identity of the zone");
        Ok(hash.finish() >> 11)
    }

    /// A number that no channel had before: 53 bits, so that JavaScript can read it.
    fn draw_epoch(self) -> Result<u64, Corrupt> {
        let header = self.header()?;
        let [low, high] = &header.seed;
        loop {
            let nth = header.drawn.get().wrapping_add(1);
            header.drawn.commit(nth);
            let mut hash = SipHash::new([high.get(), low.get()]);
            hash.write(&nth.to_le_bytes());
            let epoch = hash.finish() >> 11;
            if epoch != 0 {
                return Ok(epoch);
            }
        }
    }

    /// Deletes a channel that is live: its key is free, and it is removed once all workers with subscribers have been told.
    /// They are returned.
    pub fn delete(self, cell: Cell, clock: u64) -> Result<Wake, Corrupt> {
        let record = self.record(cell)?;
        record.touched.set(clock);
        record.state.commit(state::DELETED);
        if let Some(group) = self.group_of(record)? {
            group.channels.sub(counted(record));
        }
        let mut wake = self.notify(cell)?;
        if let Some(program) = self.program_of(record)? {
            wake.merge(self.tell_owner(program)?);
        }
        self.schedule(cell, clock + LINGER)?;
        self.settle(cell, clock, DELETE_DROPS)?;
        Ok(wake)
    }

    /// Removes a channel with all its messages. No worker may have subscribers of it. May [checkpoint](Self::checkpoint).
    pub fn remove(self, cell: Cell) -> Result<(), Corrupt> {
        let header = self.header()?;
        let record = self.record(cell)?;
        // First what there may be much of, a step at a time.
        let mut dropped = 0;
        while self.drop_oldest(cell)? {
            dropped += 1;
            self.checkpoint_in(cell, header.clock.get(), dropped)?;
        }
        self.release_stale(cell)?;
        self.release_presence(cell)?;
        if let Some(program) = Cell::new(record.program.get()) {
            self.discard_program(record, program)?;
        }
        self.way_to(cell, record)?.commit(record.hash_next.get());
        header.channels.sub(counted(record));
        self.unschedule(cell)?;
        self.unlist_idle(cell)?;
        if record.upcoming.get() > 1 {
            header.kept_cells.sub(record.cells.get());
        }
        let mut next = Cell::new(record.interest.get());
        while let Some(cell) = next {
            next = Cell::new(self.cell::<super::layout::CellHead>(cell)?.next.get());
            self.give_cells(self.chain_end(cell, 1)?, 1)?;
        }
        let group = Cell::new(record.group.get());
        let cells = record.cells.get();
        let live = if record.state.get() == state::LIVE { counted(record) } else { 0 };
        self.give_cells(self.chain_end(cell, cells)?, cells)?;
        if let Some(cell) = group {
            let group = self.group(cell)?;
            group.records.sub(1);
            group.channels.sub(live);
            self.remove_unused_group(cell)?;
        }
        Ok(())
    }

    /// The link in the table that leads to a channel.
    fn way_to(self, cell: Cell, record: &Record) -> Result<&'a Word, Corrupt> {
        let mut way = self.bucket(self.bucket_of(record.hash.get()))?;
        for _ in 0..self.geometry.cells {
            let next = Cell::new(way.get()).ok_or(Corrupt)?;
            if next == cell {
                return Ok(way);
            }
            way = &self.record(next)?.hash_next;
        }
        Err(Corrupt)
    }

    /// When a channel is to be looked at again, milliseconds; `None`: something else will happen to it first.
    pub fn deadline(self, cell: Cell) -> Result<Option<u64>, Corrupt> {
        let record = self.record(cell)?;
        let kept_run = self.kept_run(record)?;
        let deadline = match Cell::new(record.oldest.get()) {
            _ if record.state.get() == state::DELETED => Some(record.touched.get().saturating_add(LINGER)),
            Some(oldest) => {
                let keep = record.keep.get();
                let time = self.message(oldest)?.time.get();
                (keep > 0).then(|| time.saturating_add(keep))
            }
            None if self.anyone_interested(cell)? => None,
            None => Some(record.touched.get().saturating_add(LINGER)),
        };
        Ok(deadline.into_iter().chain(kept_run).min())
    }

    /// Drops what a channel need not keep, at most `most` messages, and the channel itself if it is not needed. How many
    /// messages were dropped; `None` if the channel is gone.
    pub fn settle(self, cell: Cell, clock: u64, most: usize) -> Result<Option<usize>, Corrupt> {
        let record = self.record(cell)?;
        let dropped = self.trim(cell, clock, most)?;
        self.expire_run(cell, clock)?;
        if dropped > 0 && record.messages.get() == 0 {
            record.touched.set(clock);
        }
        let deleted = record.state.get() == state::DELETED;
        let empty = record.messages.get() == 0;
        if (empty || deleted) && !self.anyone_interested(cell)? {
            if deleted || record.touched.get().saturating_add(LINGER) <= clock {
                self.remove(cell)?;
                return Ok(None);
            }
            self.list_idle(cell)?;
        }
        if deleted {
            // Looked at again later, not at once.
            record.touched.set(clock);
        }
        let deadline = if dropped == most { Some(clock) } else { self.deadline(cell)? };
        if let Some(deadline) = deadline {
            self.schedule(cell, deadline)?;
        }
        Ok(Some(dropped))
    }
}

/// Octets of a channel's id.
fn id_len(record: &Record) -> usize {
    (record.id_len.get() & !COPIED) as usize
}

/// What a record adds to the number of channels: nothing where it has no id. No client can name such a channel; a relay of an engine has one, by
/// which the workers find each other.
pub fn counted(record: &Record) -> u32 {
    u32::from(id_len(record) != 0)
}

/// Where the key of a channel begins in its chain.
fn key_at(record: &Record) -> usize {
    size_of::<Record>() + if record.id_len.get() & COPIED == 0 { 0 } else { size_of::<Copied>() }
}

/// Octets that follow the record of a channel in its chain.
pub fn trailing(record: &Record) -> usize {
    key_at(record) - size_of::<Record>() + record.group_len.get() as usize + id_len(record)
}
