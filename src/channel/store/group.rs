// SPDX-License-Identifier: Apache-2.0

//! Groups of channels: what they have and what they may have.

use super::publish::growth;
use super::{
    GroupChange, GroupLimits, GroupUse, Groups, Info, Key, MAX_KEY_PART, MOST_DROPS, Now, Policy, SubscribeError, Wake,
};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::zone::Memory;
use crate::channel::zone::groups::group_cells;
use crate::channel::zone::layout::{Cell, state};
use crate::channel::zone::room::Need;

/// What a group is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupKey<'a> {
    /// The engine that has its channels; 0: none.
    pub space: u64,
    /// Its name, of at most [`MAX_KEY_PART`] octets.
    pub name: &'a [u8],
}

impl<'a, N: AsRef<[u8]> + ?Sized> From<&'a N> for GroupKey<'a> {
    /// The group of this name without an engine.
    fn from(name: &'a N) -> Self {
        Self { space: 0, name: name.as_ref() }
    }
}

/// A group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupInfo {
    /// What the group has.
    pub used: GroupUse,
    /// What the group may have.
    pub limits: GroupLimits,
}

impl GroupInfo {
    fn of(memory: Memory<'_>, GroupKey { space, name }: GroupKey<'_>, location: GroupLimits) -> Result<Self, Corrupt> {
        let Some(cell) = memory.find_group(space, name)? else {
            return Ok(Self { used: GroupUse::default(), limits: location });
        };
        let group = memory.group(cell)?;
        Ok(Self { used: memory.group_use(group), limits: memory.group_limits(group, location) })
    }
}

/// A channel of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: Vec<u8>,
    /// What is known of it.
    pub info: Info,
}

/// Where a list of channels goes on: in the order of the buckets of the zone's table, and of the hashes in each of them, which stay
/// as they are however many channels come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Page {
    bucket: usize,
    /// The hash of the last channel of the bucket that was listed; `None`: none of them was.
    after: Option<u64>,
}

impl Page {
    /// From a text that [`to_string`](ToString::to_string) has given.
    pub fn parse(text: &str) -> Option<Self> {
        let (bucket, after) = text.split_once('-').map_or((text, None), |(bucket, after)| (bucket, Some(after)));
        let bucket = value(bucket)?;
        let after = match after {
            Some(after) => Some(value(after)?),
            None => None,
        };
        Some(Self { bucket: usize::try_from(bucket).ok()?, after })
    }
}

/// A number as a [`Page`] has it.
fn value(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
    is_number.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.bucket)?;
        self.after.map_or(Ok(()), |after| write!(f, "-{after:x}"))
    }
}

impl<L: Lock> Groups<'_, L> {
    /// Lists channels of a group whose ids begin with `prefix`: of some of the zone's buckets those from `page` on, so that `out` has at
    /// most `most`. To be called with the default, and then with what it returns until that is `None`, so that the lock is not
    /// held for long. A channel that is there all the time is listed once; of those that come or go meanwhile nobody knows.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn list<'a>(
        &self,
        key: impl Into<GroupKey<'a>>,
        prefix: &[u8],
        page: Page,
        most: usize,
        now: Now,
        out: &mut Vec<Listed>,
    ) -> Result<Option<Page>, Corrupt> {
        let GroupKey { space, name } = key.into();
        let buckets = self.zone.geometry().buckets;
        let to = page.bucket.saturating_add(BUCKETS_AT_ONCE).min(buckets);
        // Room for all that is found is there before the lock is taken: that of one channel with the longest id at least.
        let most = most.saturating_sub(out.len());
        let mut ids = Vec::with_capacity(name.len() + MAX_KEY_PART + IDS_AT_ONCE);
        let mut found: Vec<(usize, Info)> = Vec::with_capacity(most.min(LISTED_AT_ONCE));
        let next = self.zone.view(|memory| {
            let Some(group) = memory.find_group(space, name)? else { return Ok(None) };
            let clock = memory.header()?.clock.get().max(now.clock);
            for nth in page.bucket..to {
                let mut last = page.after.filter(|_| nth == page.bucket);
                while let Some((hash, channel)) = next_in_bucket(memory, nth, group, last)? {
                    let here = Page { bucket: nth, after: last };
                    last = Some(hash);
                    if !memory.has_id_prefix(channel, name, prefix)? {
                        continue;
                    }
                    let is_full = found.len() == found.capacity();
                    if found.len() >= most || is_full || !memory.copy_id(channel, &mut ids)? {
                        return Ok(Some(here));
                    }
                    found.push((ids.len(), Info::of(memory, channel, clock)?));
                }
            }
            Ok((to < buckets).then_some(Page { bucket: to, after: None }))
        })?;
        let mut from = 0;
        for (end, info) in found {
            out.push(Listed { id: ids.get(from..end).unwrap_or_default().to_vec(), info });
            from = end;
        }
        Ok(next)
    }

    /// What a group has and may have; `location` are the limits that hold where nobody has set others. A group that has
    /// nothing need not exist.
    pub fn info<'a>(
        &self,
        key: impl Into<GroupKey<'a>>,
        location: GroupLimits,
        now: Now,
    ) -> Result<GroupInfo, Corrupt> {
        let key = key.into();
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            memory.tend(clock, MOST_LOOKS)?;
            GroupInfo::of(memory, key, location)
        })
    }

    /// Subscribers of all channels of a group; those of dead workers until their channels are looked at.
    pub fn subscribers<'a>(&self, key: impl Into<GroupKey<'a>>) -> Result<u32, Corrupt> {
        let GroupKey { space, name } = key.into();
        self.zone.view(|memory| match memory.find_group(space, name)? {
            Some(cell) => Ok(memory.group(cell)?.subscribers.get()),
            None => Ok(0),
        })
    }

    /// Whether there is this channel, or its group may have another one.
    pub fn allow_channel(&self, key: Key<'_>, location: GroupLimits, now: Now) -> Result<bool, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        let another = || Ok(GroupUse { channels: 1, ..GroupUse::default() });
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            if memory.find(key, hash)?.is_some() || memory.group_allows(key, None, location, another)? {
                return Ok(true);
            }
            tidy(memory, key, hash, clock)?;
            memory.group_allows(key, None, location, another)
        })
    }

    /// Whether the group of a channel may have another message of so many octets. Where there is no such channel, nothing of it is
    /// counted.
    pub fn allow(&self, key: Key<'_>, octets: usize, policy: Policy, now: Now) -> Result<bool, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let more = |channel| growth(memory, Some(channel), octets, policy.history);
            let Some(channel) = memory.find(key, hash)? else { return Ok(true) };
            if memory.group_allows(key, Some(channel), policy.group, || more(channel))? {
                return Ok(true);
            }
            let Some(channel) = tidy(memory, key, hash, clock)? else { return Ok(true) };
            memory.group_allows(key, Some(channel), policy.group, || more(channel))
        })
    }

    /// Changes the limits of a group, for all locations and until they are changed again. What the group has already stays.
    pub fn limit<'a>(&self, key: impl Into<GroupKey<'a>>, change: GroupChange, now: Now) -> Result<(), SubscribeError> {
        let GroupKey { space, name } = key.into();
        if name.len() > MAX_KEY_PART {
            return Err(SubscribeError::NoRoom);
        }
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            if memory.find_group(space, name)?.is_none() {
                if !change.sets() {
                    return Ok(Ok(()));
                }
                if !memory.make_room(group_cells(name), Need::NewChannel, clock)? {
                    return Ok(Err(SubscribeError::NoRoom));
                }
            }
            let cell = memory.find_or_create_group(space, name)?;
            memory.change_limits(memory.group(cell)?, change);
            memory.remove_unused_group(cell)?;
            Ok(Ok(()))
        })?
    }

    /// Deletes the channels of a group that are in some of the zone's buckets, `from` the first of them on, and at the end
    /// the limits that were set. To be called with 0, and then with what it returns until that is `None`, so that the lock
    /// is not held for long. `wake` gets the workers that are to be woken.
    pub fn delete<'a>(
        &self,
        key: impl Into<GroupKey<'a>>,
        from: usize,
        now: Now,
        wake: &mut Wake,
    ) -> Result<Option<usize>, Corrupt> {
        let GroupKey { space, name } = key.into();
        let to = (from + BUCKETS_AT_ONCE).min(self.zone.geometry().buckets);
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(cell) = memory.find_group(space, name)? else { return Ok(None) };
            for nth in from..to {
                let mut next = Cell::new(memory.bucket(nth)?.get());
                let mut left = memory.geometry.cells;
                while let Some(channel) = next {
                    left = left.checked_sub(1).ok_or(Corrupt)?;
                    let record = memory.record(channel)?;
                    next = Cell::new(record.hash_next.get());
                    if record.group.get() == cell.number() && record.state.get() == state::LIVE {
                        memory.trim(channel, clock, MOST_DROPS)?;
                        wake.merge(memory.delete(channel, clock)?);
                        memory.checkpoint()?;
                        if memory.group(cell).is_err() {
                            // It went with the last of its channels.
                            return Ok(None);
                        }
                    }
                }
            }
            let last = to == memory.geometry.buckets;
            if last {
                memory.change_limits(memory.group(cell)?, GroupChange::LOCATION);
            }
            memory.remove_unused_group(cell)?;
            Ok((!last).then_some(to))
        })
    }
}

/// The channel of a group in a bucket whose hash comes next after this one. Nothing is sorted: a bucket has about four channels.
fn next_in_bucket(
    memory: Memory<'_>,
    bucket: usize,
    group: Cell,
    after: Option<u64>,
) -> Result<Option<(u64, Cell)>, Corrupt> {
    let mut first: Option<(u64, Cell)> = None;
    let mut next = Cell::new(memory.bucket(bucket)?.get());
    let mut left = memory.geometry.cells;
    while let Some(channel) = next {
        left = left.checked_sub(1).ok_or(Corrupt)?;
        let record = memory.record(channel)?;
        next = Cell::new(record.hash_next.get());
        let hash = record.hash.get();
        let is_in_group = record.group.get() == group.number() && record.state.get() == state::LIVE;
        if is_in_group && after.is_none_or(|after| hash > after) && first.is_none_or(|(least, _)| hash < least) {
            first = Some((hash, channel));
        }
    }
    Ok(first)
}

/// Buckets of the table that are looked at while the lock is held once.
const BUCKETS_AT_ONCE: usize = 256;

/// Channels that are listed while the lock is held once.
const LISTED_AT_ONCE: usize = 256;

/// Octets of their ids, one that is as long as it may be not counted.
const IDS_AT_ONCE: usize = 16 << 10;

/// Channels that are looked at while the lock is held once, to find out what a group has.
const MOST_LOOKS: usize = 1 << 14;

/// Drops what has expired and what dead workers left, since that may count still. The channel, if it is there after that.
#[cold]
pub(super) fn tidy(memory: Memory<'_>, key: Key<'_>, hash: u64, clock: u64) -> Result<Option<Cell>, Corrupt> {
    memory.tend(clock, MOST_LOOKS)?;
    let channel = memory.find(key, hash)?;
    if let Some(channel) = channel {
        memory.trim(channel, clock, MOST_DROPS)?;
    }
    Ok(channel)
}
