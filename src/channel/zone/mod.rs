// SPDX-License-Identifier: Apache-2.0

//! A log of messages for each of many channels, in memory that several processes share.
//!
//! The zone is cells of one size on a free list ([`layout`]), so it never fragments. What is stored is exactly what can
//! be reached from the buckets: bucket → channel → message → cells. Each update changes one link of that kind to become
//! valid (`commit`), and everything else in the zone (free list, counters, the order of all messages, the wheel, the
//! lists of news) only repeats what these links say. A flag tells whether an update is in progress; whoever takes the
//! lock and finds it set knows that the holder before was killed, and undoes what it had changed ([`journal`]). Where that is
//! not known, because the zone was damaged or a step changed more than can be noted, the rest is rebuilt from the links
//! ([`repair`]).

pub mod cells;
#[cfg(any(test, fuzzing))]
pub mod check;
pub mod departed;
pub mod geometry;
pub mod groups;
pub mod idle;
pub mod interest;
pub mod layout;
pub mod log;
pub mod order;
pub mod presence;
pub mod programs;
pub mod records;
pub mod repair;
pub mod room;
pub mod slots;
pub mod wheel;

use super::journal;
use super::lock::Lock;
use super::memory::{Corrupt, Region, Shared, Word};
use geometry::Geometry;
use layout::{CELL, Cell, Header, Interest, InterestAt, MAGIC, Message, Record, Slot, VERSION, tag};

/// In [`Header::busy`]: an update is in progress, which can be undone.
const CHANGING: u32 = 1;

/// In [`Header::busy`]: the zone contradicts itself, and is to be rebuilt from what can be reached.
const DAMAGED: u32 = 2;

/// Steps of one operation after which it checkpoints. No step makes more than 32 changes.
const STEPS: usize = 64;

/// Why a region is not usable as a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachError {
    /// The region is too small (or larger than links can address).
    Size,
    /// The region holds no zone.
    NoZone,
    /// The zone was made by a build with another layout.
    Version {
        /// What was found.
        found: u32,
    },
    /// The zone was made for a region of another size.
    Geometry,
}

impl std::fmt::Display for AttachError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Size => f.write_str("size is not usable for a channel zone"),
            Self::NoZone => f.write_str("shared memory holds no channel zone"),
            Self::Version { found } => {
                write!(
                    f,
                    "channel zone has layout version {found}, this build needs {VERSION}; a restart makes it anew"
                )
            }
            Self::Geometry => f.write_str("channel zone was made for another size"),
        }
    }
}

impl std::error::Error for AttachError {}

/// A zone: the memory, how it is divided, and its lock.
#[derive(Debug)]
pub struct Zone<L> {
    region: Region,
    geometry: Geometry,
    lock: L,
}

impl<L: Lock> Zone<L> {
    /// Makes an empty zone. Nobody else may use the region yet. `seed` is secret and random.
    pub fn create(region: Region, lock: L, slots: usize, seed: [u64; 2]) -> Result<Self, AttachError> {
        let geometry = Geometry::new(region.len(), slots).ok_or(AttachError::Size)?;
        let zone = Self { region, geometry, lock };
        zone.format(seed).map_err(|Corrupt| AttachError::Size)?;
        Ok(zone)
    }

    fn format(&self, seed: [u64; 2]) -> Result<(), Corrupt> {
        let Geometry { len, slots, buckets, cells, cells_at, .. } = self.geometry;
        let header = self.region.at::<Header>(0)?;
        header.magic.commit(0);
        self.region.clear(0, cells_at)?;
        let number = |n: usize| u32::try_from(n).map_err(|_| Corrupt);
        header.version.set(VERSION);
        header.cell_size.set(number(CELL)?);
        header.len.set(len as u64);
        header.slots.set(number(slots)?);
        header.buckets.set(number(buckets)?);
        header.cells.set(number(cells)?);
        header.scan.set(number(buckets)?);
        for (place, value) in header.seed.iter().zip(seed) {
            place.set(value);
        }
        header.magic.commit(MAGIC);
        Ok(())
    }

    /// Goes on with a zone that another process made in the same region.
    pub fn attach(region: Region, lock: L) -> Result<Self, AttachError> {
        let geometry = {
            let header = region.at::<Header>(0).map_err(|Corrupt| AttachError::Size)?;
            if header.magic.get() != MAGIC {
                return Err(AttachError::NoZone);
            }
            let found = header.version.get();
            if found != VERSION {
                return Err(AttachError::Version { found });
            }
            let geometry = Geometry::new(region.len(), header.slots.get() as usize).ok_or(AttachError::Geometry)?;
            let same = header.len.get() == geometry.len as u64
                && header.cell_size.get() as usize == CELL
                && header.buckets.get() as usize == geometry.buckets
                && header.cells.get() as usize == geometry.cells;
            if !same {
                return Err(AttachError::Geometry);
            }
            geometry
        };
        Ok(Self { region, geometry, lock })
    }

    /// How the zone is divided.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The zone without its lock: for what may be read and written at any time, the counters of the slots.
    pub fn unlocked(&self) -> Memory<'_> {
        Memory { region: &self.region, geometry: &self.geometry }
    }

    /// Looks at the zone under the lock.
    pub fn view<T>(&self, look: impl FnOnce(Memory<'_>) -> Result<T, Corrupt>) -> Result<T, Corrupt> {
        let (_held, memory) = self.hold()?;
        let seen = look(memory);
        if seen.is_err() {
            memory.header()?.busy.commit(DAMAGED);
        }
        seen
    }

    /// Changes the zone under the lock. If `change` does not come to its end, or finds the zone damaged, the next one to
    /// take the lock repairs it.
    pub fn update<T>(&self, change: impl FnOnce(Memory<'_>) -> Result<T, Corrupt>) -> Result<T, Corrupt> {
        let (_held, memory) = self.hold()?;
        let header = memory.header()?;
        let changed =
            journal::during(&self.region, self.geometry.journal, || header.busy.commit(CHANGING), || change(memory))?;
        header.busy.commit(if changed.is_err() { DAMAGED } else { 0 });
        changed
    }

    /// Takes the lock, and repairs what its last holder left half done.
    fn hold(&self) -> Result<(Held<'_, L>, Memory<'_>), Corrupt> {
        self.lock.lock();
        let held = Held(&self.lock);
        let memory = self.unlocked();
        let header = memory.header()?;
        if header.busy.get() != 0 {
            header.repairs.add(1);
            let undone =
                header.busy.get() == CHANGING && journal::undo(&self.region, self.geometry.journal).unwrap_or(false);
            if undone {
                memory.look_at_all_anew()?;
            } else {
                // Again, if this is not finished either.
                header.busy.commit(DAMAGED);
                memory.repair()?;
            }
            header.busy.commit(0);
        }
        Ok((held, memory))
    }
}

/// The lock is given back when this goes, in unwinding too; the flag of an unfinished update stays.
struct Held<'a, L: Lock>(&'a L);

impl<L: Lock> Drop for Held<'_, L> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// The contents of a zone. All but the counters of the slots may only be used while the lock is held.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
    /// The region in which the zone lies.
    pub region: &'a Region,
    /// How the region is divided.
    pub geometry: &'a Geometry,
}

impl<'a> Memory<'a> {
    /// The beginning of the zone.
    pub fn header(self) -> Result<&'a Header, Corrupt> {
        self.region.at(0)
    }

    /// The `nth` slot.
    pub fn slot(self, nth: usize) -> Result<&'a Slot, Corrupt> {
        if nth >= self.geometry.slots {
            return Err(Corrupt);
        }
        self.region.at(self.geometry.slots_at + nth * size_of::<Slot>())
    }

    /// What this update has changed up to now stays, should it not come to its end: everything in the zone is as it should
    /// be, and whoever is concerned will hear of it.
    pub fn checkpoint(self) -> Result<(), Corrupt> {
        journal::forget()
    }

    /// The first channel of a bucket.
    pub fn bucket(self, nth: usize) -> Result<&'a Word, Corrupt> {
        if nth >= self.geometry.buckets {
            return Err(Corrupt);
        }
        self.region.at(self.geometry.buckets_at + nth * size_of::<Word>())
    }

    /// The offset of a cell.
    pub fn offset(self, cell: Cell) -> Result<usize, Corrupt> {
        self.geometry.cell(cell).ok_or(Corrupt)
    }

    /// A cell as what its caller knows it to be.
    pub fn cell<T: Shared>(self, cell: Cell) -> Result<&'a T, Corrupt> {
        debug_assert!(size_of::<T>() <= CELL);
        self.region.at(self.offset(cell)?)
    }

    /// The channel in a cell.
    pub fn record(self, cell: Cell) -> Result<&'a Record, Corrupt> {
        let record: &Record = self.cell(cell)?;
        if record.tag.get() == tag::CHANNEL { Ok(record) } else { Err(Corrupt) }
    }

    /// The message in a cell.
    pub fn message(self, cell: Cell) -> Result<&'a Message, Corrupt> {
        let message: &Message = self.cell(cell)?;
        if message.tag.get() == tag::MESSAGE { Ok(message) } else { Err(Corrupt) }
    }

    /// The subscriber counts at this place.
    pub fn interest(self, at: InterestAt) -> Result<&'a Interest, Corrupt> {
        if at.offset() < self.geometry.cells_at {
            return Err(Corrupt);
        }
        self.region.at(at.offset())
    }

    /// The time, which never goes back for the zone: processes see slightly different clocks.
    pub fn clock(self, now: u64) -> Result<u64, Corrupt> {
        let clock = &self.header()?.clock;
        if now > clock.get() {
            clock.set(now);
        }
        Ok(clock.get())
    }
}
