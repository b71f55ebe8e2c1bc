// SPDX-License-Identifier: Apache-2.0

//! Workers and their slots.

use super::{Process, Slot, Store, Wake};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;

/// Why there is no slot for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimError {
    /// All are taken by processes that live.
    Full,
    /// The zone is damaged; it is repaired when it is used next.
    Corrupt,
}

impl From<Corrupt> for ClaimError {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl std::fmt::Display for ClaimError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("channel zone has no slot left for this worker"),
            Self::Corrupt => Corrupt.fmt(f),
        }
    }
}

impl std::error::Error for ClaimError {}

/// A worker has its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// The slot.
    pub slot: Slot,
    /// Slots whose processes were found dead.
    pub cleared: usize,
    /// Workers that are to be woken: one of the dead may have been about to do it.
    pub wake: Wake,
}

impl<L: Lock> Store<L> {
    /// Takes a slot for this process, and clears those of processes that are dead. `lives` tells whether a process is
    /// still there; it is asked without the lock.
    pub fn claim(&self, process: Process, lives: impl Fn(Process) -> bool) -> Result<Claimed, ClaimError> {
        let mut dead = self.occupants()?;
        // Whoever has the id of this process and is not this one is gone, even if its beginning is not known.
        dead.retain(|(_, occupant)| occupant.pid == process.pid || !lives(*occupant));
        self.zone.update(|memory| {
            let mut cleared = 0;
            if !dead.is_empty() {
                memory.start_scan()?;
            }
            for (nth, process) in dead {
                if memory.occupant(nth)? == Some(process) {
                    memory.vacate(nth)?;
                    cleared += 1;
                }
            }
            let Some(nth) = memory.occupy(process)? else { return Ok(Err(ClaimError::Full)) };
            Ok(Ok(Claimed { slot: Slot(nth), cleared, wake: memory.with_news()? }))
        })?
    }

    /// Gives a slot back: this process has no subscribers any more. Workers that are to be woken are returned: they may
    /// go on with what this one did.
    pub fn release(&self, slot: Slot) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            memory.start_scan()?;
            memory.vacate(slot.0)?;
            memory.with_news()
        })
    }

    /// Clears the slot of a process that was found dead. Workers that are to be woken are returned.
    pub fn release_dead(&self, process: Process) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            for nth in 0..memory.geometry.slots {
                if memory.occupant(nth)? == Some(process) {
                    memory.start_scan()?;
                    memory.vacate(nth)?;
                }
            }
            memory.with_news()
        })
    }

    /// The next slot behind the one with this number that another process than that of `own` has; behind the last one comes the first.
    pub fn next_other(&self, own: Slot, after: usize) -> Result<Option<(Slot, Process)>, Corrupt> {
        let mut others = self.occupants()?;
        others.retain(|(nth, _)| *nth != own.0);
        let next = others.iter().find(|(nth, _)| *nth > after).or(others.first());
        Ok(next.map(|(nth, process)| (Slot(*nth), *process)))
    }

    /// Processes that have a slot.
    pub fn workers(&self) -> Result<Vec<Process>, Corrupt> {
        Ok(self.occupants()?.into_iter().map(|(_, process)| process).collect())
    }

    /// The slots that are taken, and who has them.
    fn occupants(&self) -> Result<Vec<(usize, Process)>, Corrupt> {
        // Room for all of them is found before the lock is taken.
        let mut occupants = Vec::with_capacity(self.slots());
        self.zone.view(|memory| {
            for nth in memory.occupied()? {
                occupants.extend(memory.occupant(nth)?.map(|process| (nth, process)));
            }
            Ok(())
        })?;
        Ok(occupants)
    }
}
