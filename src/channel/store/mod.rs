// SPDX-License-Identifier: Apache-2.0

//! What can be done with the channels of a zone. Each operation holds the lock once.
//!
//! A [`Store`] is the zone and the workers that use it. What is in the zone has parts, each with its own operations and errors: the
//! [log](Log) of the messages and who is subscribed to it, [who is there](Presences), the [groups](Groups), the [programs](Programs)
//! that clients share, and the [copies](Copies) of what an engine has.

mod copy;
mod group;
mod input;
mod presence;
mod program;
mod publish;
mod read;
mod run;
mod subscribe;
mod worker;

#[cfg(test)]
mod tests;

pub use copy::{Appended, CopyFound, CopyState, Original};
pub use group::{GroupInfo, GroupKey, Listed, Page};
pub use input::{Input, InputError, InputKind, LeftInput};
pub use presence::{Expelled, Left, ListedSubscriber, Presence, SubscriberList};
pub use program::{Ended, Owner, ProgramHandle, ProgramPhase, ProgramView};
pub use publish::{Deleted, History, Policy, PublishError, Published};
pub use read::{Budget, News, Read, ReadError};
pub use run::Begun;
pub use subscribe::{Present, SubscribeError, Subscribed, Terms};
pub use worker::{ClaimError, Claimed};

use super::lock::Lock;
use super::memory::{Corrupt, Region};
use super::position::{Epoch, MessageId, Offset, Window};
use super::zone::geometry::Geometry;
use super::zone::layout::Cell;
use super::zone::{Memory, Zone};

pub use super::zone::AttachError;
pub use super::zone::departed::Member;
pub use super::zone::groups::{Change, GroupChange, GroupLimits, GroupUse};
pub use super::zone::interest::Wake;
pub use super::zone::layout::{CELL, MAX_PRESENCE, MAX_SLOTS};
pub use super::zone::records::{Key, LINGER, MAX_KEY_PART};
pub use super::zone::slots::Process;

/// Messages that are dropped in one operation because they have expired or are beyond the history; others follow later.
const MOST_DROPS: usize = 1024;

/// The time of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back and is the same for all processes.
    pub clock: u64,
    /// Milliseconds of Unix time.
    pub unix: u64,
}

/// A slot that this process has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

impl Slot {
    /// Its number, from 0.
    pub fn number(self) -> usize {
        self.0
    }
}

/// What a worker calls a channel that it has subscribers of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);

/// A channel that was found once. It stays valid as long as this process has subscribers of it; afterwards the channel
/// may be gone, which is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    cell: Cell,
    /// Drawn when the channel was created. The epoch of its messages is another one where an engine has given that.
    life: u64,
}

/// What a publisher is told about a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Messages in its history.
    pub messages: u32,
    /// Seconds since a subscriber was last there; `None`: never.
    pub requested: Option<u64>,
    /// Subscribers in all workers.
    pub subscribers: u32,
    /// Its newest message; offset 0 if there was none yet.
    pub last: MessageId,
}

/// How full a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Channels.
    pub channels: u32,
    /// Messages stored.
    pub messages: u32,
    /// Octets of these messages without their attributes.
    pub bytes: u64,
    /// Cells that there are.
    pub cells: u32,
    /// Cells that are not in use.
    pub free_cells: u32,
    /// Cells that messages use.
    pub message_cells: u32,
    /// Messages published since the zone was made.
    pub published: u64,
    /// Messages dropped because the zone was full.
    pub evicted: u64,
    /// Repairs after a worker was killed in the middle of an update.
    pub repairs: u64,
}

/// The channels of a zone.
#[derive(Debug)]
pub struct Store<L> {
    zone: Zone<L>,
}

/// Defines a part of what is in a zone.
macro_rules! part {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name<'z, L> {
            zone: &'z Zone<L>,
        }

        impl<L> Clone for $name<'_, L> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<L> Copy for $name<'_, L> {}
    };
}

part! {
    /// The messages of the channels, and the subscribers that are given them.
    Log
}

part! {
    /// Who is on the channels, as far as they have said so.
    Presences
}

part! {
    /// What groups of channels have, and what they may have.
    Groups
}

part! {
    /// The programs that clients of a channel share: who runs them, and what clients send them.
    Programs
}

part! {
    /// This node's copies of channels that an engine has.
    Copies
}

impl<L: Lock> Store<L> {
    /// Makes an empty zone in a region that nobody else uses yet, for at most `slots` workers at the same time (those of
    /// earlier configurations that are still finishing included). `seed` is secret and random.
    pub fn create(region: Region, lock: L, slots: usize, seed: [u64; 2]) -> Result<Self, AttachError> {
        Ok(Self { zone: Zone::create(region, lock, slots, seed)? })
    }

    /// Goes on with a zone that exists.
    pub fn attach(region: Region, lock: L) -> Result<Self, AttachError> {
        Ok(Self { zone: Zone::attach(region, lock)? })
    }

    /// Whether a region of this length can be a zone for so many workers.
    pub fn is_usable(len: usize, slots: usize) -> bool {
        Geometry::new(len, slots).is_some()
    }

    /// What tells this zone from any other one: a number below 2^53.
    pub fn identity(&self) -> Result<u64, Corrupt> {
        self.zone.unlocked().identity()
    }

    /// How many workers the zone has room for.
    pub fn slots(&self) -> usize {
        self.zone.geometry().slots
    }

    /// The log of the messages.
    pub fn log(&self) -> Log<'_, L> {
        Log { zone: &self.zone }
    }

    /// Who is on the channels.
    pub fn presence(&self) -> Presences<'_, L> {
        Presences { zone: &self.zone }
    }

    /// The groups of channels.
    pub fn groups(&self) -> Groups<'_, L> {
        Groups { zone: &self.zone }
    }

    /// The programs that clients of channels share.
    pub fn programs(&self) -> Programs<'_, L> {
        Programs { zone: &self.zone }
    }

    /// The copies of channels that an engine has.
    pub fn copies(&self) -> Copies<'_, L> {
        Copies { zone: &self.zone }
    }

    /// How full the zone is.
    pub fn usage(&self) -> Result<Usage, Corrupt> {
        self.zone.view(|memory| {
            let header = memory.header()?;
            Ok(Usage {
                channels: header.channels.get(),
                messages: header.messages.get(),
                bytes: header.bytes.get(),
                cells: header.cells.get(),
                free_cells: u32::try_from(memory.free_cells()?).unwrap_or(u32::MAX),
                message_cells: header.message_cells.get(),
                published: header.serial.get().saturating_sub(header.drawn.get()),
                evicted: header.evicted.get(),
                repairs: header.repairs.get(),
            })
        })
    }

    /// What is wrong with the zone, if anything is: for tests, as it looks at all of it under the lock.
    #[cfg(any(test, fuzzing))]
    pub fn check(&self) -> Result<Result<(), String>, Corrupt> {
        self.zone.view(|memory| Ok(super::zone::check::check(memory)))
    }

    /// Takes the zone as damaged, so that whoever uses it next rebuilds it: for tests.
    #[cfg(any(test, fuzzing))]
    pub fn distrust(&self) -> Result<(), Corrupt> {
        let found = self.zone.view(|_| Err::<(), _>(Corrupt));
        if found == Err(Corrupt) { Ok(()) } else { Err(Corrupt) }
    }

    /// Does what is due: drops messages that have expired and channels that nobody uses, at most about `most` of them.
    /// Whether nothing is left to do at the moment. To be called by any worker about once a second.
    pub fn tend(&self, now: Now, most: usize) -> Result<bool, Corrupt> {
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            memory.tend(clock, most)
        })
    }
}

impl<L: Lock> Log<'_, L> {
    /// What tells this zone from any other one: see [`Store::identity`].
    pub fn identity(&self) -> Result<u64, Corrupt> {
        self.zone.unlocked().identity()
    }

    /// What is known about a channel. `None` if there is no such channel.
    pub fn info(&self, key: Key<'_>, now: Now) -> Result<Option<Info>, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(cell) = memory.find(key, hash)? else { return Ok(None) };
            if memory.settle(cell, clock, MOST_DROPS)?.is_none() {
                return Ok(None);
            }
            Info::of(memory, cell, clock).map(Some)
        })
    }
}

impl Info {
    /// What is known of this channel and of another one as of one: the sums, and the newest message of this one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let requested = match (self.requested, other.requested) {
            (Some(first), Some(other)) => Some(first.min(other)),
            (first, other) => first.or(other),
        };
        Info {
            messages: self.messages.saturating_add(other.messages),
            requested,
            subscribers: self.subscribers.saturating_add(other.subscribers),
            last: self.last,
        }
    }

    fn of(memory: Memory<'_>, cell: Cell, clock: u64) -> Result<Self, Corrupt> {
        let record = memory.record(cell)?;
        let subscribers = memory.subscribers(cell)?;
        let requested = match record.requested.get() {
            _ if subscribers > 0 => Some(0),
            0 => None,
            at => Some(clock.saturating_sub(at) / 1000),
        };
        Ok(Self { messages: memory.kept_at(cell, clock)?, requested, subscribers, last: last_id(memory, cell)? })
    }
}

fn last_id(memory: Memory<'_>, cell: Cell) -> Result<MessageId, Corrupt> {
    let upcoming = Offset(memory.record(cell)?.upcoming.get());
    Ok(MessageId { epoch: Epoch(memory.epoch_of(cell)?), offset: upcoming.previous() })
}

fn window(memory: Memory<'_>, cell: Cell, clock: u64) -> Result<Window, Corrupt> {
    let record = memory.record(cell)?;
    let upcoming = record.upcoming.get();
    let copied = memory.copied(cell)?;
    Ok(Window {
        epoch: Epoch(memory.epoch_of(cell)?),
        oldest: Offset(memory.oldest_offset(record)?),
        history: Offset(upcoming.saturating_sub(u64::from(memory.kept_at(cell, clock)?))),
        upcoming: Offset(upcoming),
        missing: record.missing.get(),
        newest: match Cell::new(record.newest.get()) {
            Some(newest) => memory.message(newest)?.serial.get(),
            None => record.missing.get(),
        },
        cut: None,
        is_copy: copied.is_some(),
        lineage: copied.map(copy::lineage).unwrap_or_default(),
    })
}
