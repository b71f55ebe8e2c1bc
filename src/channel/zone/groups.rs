// SPDX-License-Identifier: Apache-2.0

//! Groups: the namespaces of channels, what is in them, and what may be.

use super::Memory;
use super::cells::cells_for;
use super::layout::{Cell, Group, INLINE_GROUP, Record, tag};
use super::records::Key;
use crate::channel::hash::SipHash;
use crate::channel::memory::{Corrupt, Word};

/// What a group may have; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupLimits {
    /// Channels.
    pub channels: u32,
    /// Subscribers of all channels.
    pub subscribers: u32,
    /// Messages of all channels.
    pub messages: u32,
    /// Octets of these messages, without their attributes.
    pub bytes: u64,
}

/// What a group has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupUse {
    /// Channels.
    pub channels: u32,
    /// Subscribers of all channels in all workers.
    pub subscribers: u32,
    /// Messages of all channels.
    pub messages: u32,
    /// Octets of these messages, without their attributes.
    pub bytes: u64,
}

impl GroupLimits {
    /// Whether a group that has `used` may have all of `more`.
    pub fn allow(&self, used: GroupUse, more: GroupUse) -> bool {
        let within = |limit: u64, used: u64, more: u64| limit == 0 || more == 0 || used.saturating_add(more) <= limit;
        within(self.channels.into(), used.channels.into(), more.channels.into())
            && within(self.subscribers.into(), used.subscribers.into(), more.subscribers.into())
            && within(self.messages.into(), used.messages.into(), more.messages.into())
            && within(self.bytes, used.bytes, more.bytes)
    }
}

/// One limit of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// The limit stays as it is.
    #[default]
    Keep,
    /// The limit of the location holds.
    Location,
    /// This limit holds in all locations.
    To(T),
}

/// What becomes of the limits of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupChange {
    /// The change of [`GroupLimits::channels`].
    pub channels: Change<u32>,
    /// The change of [`GroupLimits::subscribers`].
    pub subscribers: Change<u32>,
    /// The change of [`GroupLimits::messages`].
    pub messages: Change<u32>,
    /// The change of [`GroupLimits::bytes`].
    pub bytes: Change<u64>,
}

impl GroupChange {
    /// The limits of the locations hold.
    pub const LOCATION: Self = Self {
        channels: Change::Location,
        subscribers: Change::Location,
        messages: Change::Location,
        bytes: Change::Location,
    };

    /// Whether a limit is set by it.
    pub fn sets(&self) -> bool {
        matches!(self.channels, Change::To(_))
            || matches!(self.subscribers, Change::To(_))
            || matches!(self.messages, Change::To(_))
            || matches!(self.bytes, Change::To(_))
    }
}

/// Which limits a group has of its own.
pub mod own {
    /// The group has a limit of its own for channels.
    pub const CHANNELS: u32 = 1;
    /// The group has a limit of its own for subscribers.
    pub const SUBSCRIBERS: u32 = 2;
    /// The group has a limit of its own for messages.
    pub const MESSAGES: u32 = 4;
    /// The group has a limit of its own for octets of messages.
    pub const BYTES: u32 = 8;
}

/// Cells of a group with this name.
pub fn group_cells(name: &[u8]) -> usize {
    cells_for(name.len(), INLINE_GROUP)
}

impl<'a> Memory<'a> {
    /// The first group of a bucket.
    pub fn group_bucket(self, nth: usize) -> Result<&'a Word, Corrupt> {
        if nth >= self.geometry.group_buckets {
            return Err(Corrupt);
        }
        self.region.at(self.geometry.groups_at + nth * size_of::<Word>())
    }

    /// The group in a cell.
    pub fn group(self, cell: Cell) -> Result<&'a Group, Corrupt> {
        let group: &Group = self.cell(cell)?;
        if group.tag.get() == tag::GROUP { Ok(group) } else { Err(Corrupt) }
    }

    /// The group of a channel. The channels that carry the input of programs have none.
    pub fn group_of(self, record: &Record) -> Result<Option<&'a Group>, Corrupt> {
        Cell::new(record.group.get()).map(|cell| self.group(cell)).transpose()
    }

    /// The hash of a group's name.
    pub fn group_hash(self, space: u64, name: &[u8]) -> Result<u64, Corrupt> {
        let [low, high] = &self.header()?.seed;
        let mut hash = SipHash::new([low.get() ^ 1, high.get()]);
        if space != 0 {
            hash.write(&space.to_le_bytes());
        }
        hash.write(name);
        Ok(hash.finish())
    }

    /// The bucket of such a hash.
    pub fn group_bucket_of(self, hash: u64) -> usize {
        hash as usize % self.geometry.group_buckets
    }

    /// The group with this name in an engine, 0 for none.
    pub fn find_group(self, space: u64, name: &[u8]) -> Result<Option<Cell>, Corrupt> {
        let hash = self.group_hash(space, name)?;
        let mut next = Cell::new(self.group_bucket(self.group_bucket_of(hash))?.get());
        let mut left = self.geometry.cells;
        while let Some(cell) = next {
            left = left.checked_sub(1).ok_or(Corrupt)?;
            let group = self.group(cell)?;
            if group.hash.get() == hash
                && group.space.get() == space
                && group.name_len.get() as usize == name.len()
                && self.equal_along(cell, size_of::<Group>(), [name, b""])?
            {
                return Ok(Some(cell));
            }
            next = Cell::new(group.hash_next.get());
        }
        Ok(None)
    }

    /// The group of this name, which is made if need be. There must be [`group_cells`] free cells.
    pub fn find_or_create_group(self, space: u64, name: &[u8]) -> Result<Cell, Corrupt> {
        if let Some(cell) = self.find_group(space, name)? {
            return Ok(cell);
        }
        let hash = self.group_hash(space, name)?;
        let cells = group_cells(name);
        let cell = self.take_cells(cells, tag::GROUP)?.head;
        let group = self.group(cell)?;
        let none = [&group.records, &group.channels, &group.subscribers, &group.messages, &group.limited, &group.kept];
        for word in none {
            word.set(0);
        }
        group.bytes.set(0);
        group.space.set(space);
        group.name_len.set(u32::try_from(name.len()).map_err(|_| Corrupt)?);
        group.cells.set(u32::try_from(cells).map_err(|_| Corrupt)?);
        group.hash.set(hash);
        self.write_along(cell, size_of::<Group>(), [name])?;
        let bucket = self.group_bucket(self.group_bucket_of(hash))?;
        group.hash_next.set(bucket.get());
        bucket.commit(cell.number());
        Ok(cell)
    }

    /// Changes the limits of a group.
    pub fn change_limits(self, group: &Group, change: GroupChange) {
        let mut limited = group.limited.get();
        let mut note = |bit: u32, own: Option<bool>| match own {
            None => {}
            Some(true) => limited |= bit,
            Some(false) => limited &= !bit,
        };
        let small = |change: Change<u32>, limit: &Word| match change {
            Change::Keep => None,
            Change::Location => Some(false),
            Change::To(value) => {
                limit.set(value);
                Some(true)
            }
        };
        note(own::CHANNELS, small(change.channels, &group.max_channels));
        note(own::SUBSCRIBERS, small(change.subscribers, &group.max_subscribers));
        note(own::MESSAGES, small(change.messages, &group.max_messages));
        note(
            own::BYTES,
            match change.bytes {
                Change::Keep => None,
                Change::Location => Some(false),
                Change::To(value) => {
                    group.max_bytes.set(value);
                    Some(true)
                }
            },
        );
        group.limited.commit(limited);
    }

    /// Removes a group that has neither channels nor limits of its own.
    pub fn remove_unused_group(self, cell: Cell) -> Result<(), Corrupt> {
        let group = self.group(cell)?;
        if group.records.get() > 0 || group.limited.get() != 0 {
            return Ok(());
        }
        let mut link = self.group_bucket(self.group_bucket_of(group.hash.get()))?;
        for _ in 0..self.geometry.cells {
            let next = Cell::new(link.get()).ok_or(Corrupt)?;
            if next == cell {
                link.commit(group.hash_next.get());
                let cells = group.cells.get();
                if group.kept.get() != 0 {
                    self.header()?.kept_cells.sub(cells);
                }
                return self.give_cells(self.chain_end(cell, cells)?, cells);
            }
            link = &self.group(next)?.hash_next;
        }
        Err(Corrupt)
    }

    /// What a group has.
    pub fn group_use(self, group: &Group) -> GroupUse {
        GroupUse {
            channels: group.channels.get(),
            subscribers: group.subscribers.get(),
            messages: group.messages.get(),
            bytes: group.bytes.get(),
        }
    }

    /// The limits of a group: each that was set, or that of the location that asks.
    pub fn group_limits(self, group: &Group, location: GroupLimits) -> GroupLimits {
        let limited = group.limited.get();
        let mut limits = location;
        if limited & own::CHANNELS != 0 {
            limits.channels = group.max_channels.get();
        }
        if limited & own::SUBSCRIBERS != 0 {
            limits.subscribers = group.max_subscribers.get();
        }
        if limited & own::MESSAGES != 0 {
            limits.messages = group.max_messages.get();
        }
        if limited & own::BYTES != 0 {
            limits.bytes = group.max_bytes.get();
        }
        limits
    }

    /// Whether the group of a channel, which may be there already, may have more.
    pub fn group_allows(
        self,
        key: Key<'_>,
        channel: Option<Cell>,
        location: GroupLimits,
        more: impl FnOnce() -> Result<GroupUse, Corrupt>,
    ) -> Result<bool, Corrupt> {
        let group = match channel {
            Some(channel) => self.group_of(self.record(channel)?)?,
            None => self.find_group(key.space(), key.group())?.map(|cell| self.group(cell)).transpose()?,
        };
        let (limits, used) = match group {
            Some(group) => (self.group_limits(group, location), self.group_use(group)),
            None => (location, GroupUse::default()),
        };
        Ok(limits == GroupLimits::default() || limits.allow(used, more()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_for_what_is_new() {
        let limits = GroupLimits { channels: 2, subscribers: 0, messages: 3, bytes: 100 };
        let full = GroupUse { channels: 2, subscribers: 1000, messages: 3, bytes: 90 };
        let one = GroupUse::default();
        assert!(limits.allow(full, one));
        assert!(!limits.allow(full, GroupUse { channels: 1, ..one }));
        assert!(limits.allow(full, GroupUse { subscribers: 1, ..one }));
        assert!(!limits.allow(full, GroupUse { messages: 1, ..one }));
        assert!(limits.allow(full, GroupUse { bytes: 10, ..one }));
        assert!(!limits.allow(full, GroupUse { bytes: 11, ..one }));
        assert!(!limits.allow(full, GroupUse { bytes: u64::MAX, ..one }));
        let over = GroupUse { channels: 9, ..full };
        assert!(limits.allow(over, GroupUse { subscribers: 1, ..one }), "what exists is not in the way");
        assert!(GroupLimits::default().allow(full, GroupUse { channels: 9, subscribers: 9, messages: 9, bytes: 9 }));
    }
}
