// SPDX-License-Identifier: Apache-2.0

//! Who is on a channel.

use std::collections::BTreeMap;

use super::{Key, Member, Presences, Present, ReadError, Slot, Wake};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::transport::Transport;
use crate::channel::zone::layout::MOST_BEHIND;

/// Somebody who has gone, and of whom nobody has been told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left(u32);

impl Left {
    /// The place in the zone that says so. It is another one's as soon as nobody waits for this one any more.
    pub fn place(&self) -> u32 {
        self.0
    }

    /// One that was never in a zone.
    #[cfg(test)]
    pub fn for_tests(place: u32) -> Self {
        Self(place)
    }
}

/// Subscribers that are to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expelled {
    /// How many.
    pub count: u32,
    /// Whose they are.
    pub wake: Wake,
}

/// Who is on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presence {
    /// Subscribers in all workers, those included that have not said who they are.
    pub subscribers: u32,
    /// What the others said, and how many of them said it.
    pub names: BTreeMap<Vec<u8>, u32>,
}

impl Presence {
    /// Adds those who are on another channel.
    pub fn merge(&mut self, other: Self) {
        self.subscribers = self.subscribers.saturating_add(other.subscribers);
        for (name, count) in other.names {
            *self.names.entry(name).or_default() += count;
        }
    }
}

/// A subscriber that has said who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSubscriber {
    /// Who it is.
    pub name: Vec<u8>,
    /// How it is served.
    pub transport: Transport,
    /// When it came, in seconds since 1970.
    pub since: u32,
    /// Messages that it had still to get when its worker looked last, 2^24 - 1 if they are more.
    pub behind: u32,
    /// The process of its worker.
    pub pid: u32,
}

/// The newest of the subscribers of a channel that have said who they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriberList {
    /// Subscribers in all workers, those included that have not said who they are.
    pub subscribers: u32,
    /// The newest first.
    pub named: Vec<ListedSubscriber>,
    /// There are others that have said who they are.
    pub has_more: bool,
}

/// Entries of workers that are gone which are passed over for one list, and given back elsewhere.
const MOST_VOID: usize = 4096;

impl<L: Lock> Presences<'_, L> {
    /// The subscribers of a channel that have said who they are, at most so many of them, the newest first. `None` if there is no such
    /// channel. The lock is held for as many entries as are listed, however many there are.
    pub fn list(&self, key: Key<'_>, most: usize) -> Result<Option<SubscriberList>, ReadError> {
        let hash = self.zone.unlocked().hash(key)?;
        let mut list = SubscriberList::default();
        if list.named.try_reserve(most).is_err() {
            return Err(ReadError::Memory);
        }
        self.zone
            .view(|memory| {
                let Some(channel) = memory.find(key, hash)? else { return Ok(Ok(None)) };
                let mut is_out_of_memory = false;
                let all = memory.newest_present(channel, most.saturating_add(MOST_VOID), |cell, present| {
                    if list.named.len() == most {
                        return Ok(false);
                    }
                    let mut name = Vec::new();
                    if name.try_reserve(present.length()).is_err() {
                        is_out_of_memory = true;
                        return Ok(false);
                    }
                    memory.read_present(cell, present, &mut name)?;
                    list.named.push(ListedSubscriber {
                        name,
                        transport: present.transport().ok_or(Corrupt)?,
                        since: present.since.get(),
                        behind: present.behind(),
                        pid: memory.pid_of(present)?,
                    });
                    Ok(true)
                })?;
                if is_out_of_memory {
                    return Ok(Err(ReadError::Memory));
                }
                list.subscribers = memory.subscribers(channel)?;
                list.has_more = !all;
                Ok(Ok(Some(())))
            })?
            .map(|found| found.map(|()| list))
    }

    /// Who is on a channel, over all workers. `None` if there is no such channel.
    pub fn of(&self, key: Key<'_>) -> Result<Option<Presence>, ReadError> {
        let hash = self.zone.unlocked().hash(key)?;
        let (mut names, mut ends) = (Vec::new(), Vec::new());
        let found = self.zone.view(|memory| {
            let Some(channel) = memory.find(key, hash)? else { return Ok(Ok(None)) };
            if !memory.copy_presence(channel, &mut names, &mut ends)? {
                return Ok(Err(ReadError::Memory));
            }
            Ok(Ok(Some(memory.subscribers(channel)?)))
        })??;
        let Some(subscribers) = found else { return Ok(None) };
        let mut presence = Presence { subscribers, names: BTreeMap::new() };
        let mut from = 0;
        for end in ends {
            let name = names.get(from..end).unwrap_or_default();
            match presence.names.get_mut(name) {
                Some(count) => *count += 1,
                None => {
                    presence.names.insert(name.to_vec(), 1);
                }
            }
            from = end;
        }
        Ok(Some(presence))
    }

    /// A subscriber of this worker has gone, and may come back. `None` where as many are waited for as the zone has places for.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn leave(&self, member: Member<'_>, slot: Slot) -> Result<Option<Left>, Corrupt> {
        let hash = self.zone.unlocked().hash_of_member(member)?;
        self.zone.update(|memory| Ok(memory.add_departed(slot.0, hash)?.map(Left)))
    }

    /// Somebody has come. Whether one of this name had gone, and nobody had been told.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn come_back(&self, member: Member<'_>) -> Result<bool, Corrupt> {
        let hash = self.zone.unlocked().hash_of_member(member)?;
        self.zone.update(|memory| memory.take_departed(hash))
    }

    /// The time is up for somebody who has [left](Self::leave). Whether that is to be told: nobody has come back.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn forget(&self, Left(place): Left, slot: Slot) -> Result<bool, Corrupt> {
        self.zone.update(|memory| memory.remove_departed(slot.0, place))
    }

    /// Lets the subscribers of this name be closed, those of all workers. `None` if there is no such channel.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn expel(&self, key: Key<'_>, who: &[u8]) -> Result<Option<Expelled>, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let Some(channel) = memory.find(key, hash)? else { return Ok(None) };
            let mut wake = Wake::default();
            let count = memory.expel(channel, who, |slot| wake.add(slot))?;
            Ok(Some(Expelled { count, wake }))
        })
    }

    /// Whether some subscribers of this worker are to be closed, since this was asked last. Takes no lock.
    pub fn take_expelled(&self, slot: Slot) -> bool {
        self.zone.unlocked().slot(slot.0).is_ok_and(|slot| slot.expelled.take())
    }

    /// Says how many messages a subscriber of this worker has still to get. Takes no lock where that is what was said last.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn set_behind(&self, slot: Slot, Present(cell): Present, behind: u64) -> Result<(), Corrupt> {
        let behind = u32::try_from(behind).unwrap_or(u32::MAX).min(MOST_BEHIND);
        if self.zone.unlocked().present(cell).is_ok_and(|present| present.behind() == behind) {
            return Ok(());
        }
        self.zone.update(|memory| memory.set_behind(slot.0, cell, behind))
    }

    /// Whether this subscriber is to be closed. Takes no lock: it is asked by the worker whose subscriber it is.
    pub fn is_expelled(&self, Present(cell): Present) -> bool {
        self.zone.unlocked().is_expelled(cell) == Ok(true)
    }
}
