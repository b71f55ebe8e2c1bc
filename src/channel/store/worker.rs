//! Workers: their slots and their counters.

use super::{Process, Slot, Store, Wake};
use crate::channel::lock::Lock;
use crate::channel::memory::{Corrupt, Wide};

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
        let mut dead = Vec::new();
        for nth in 0..self.slots() {
            let occupant = self.zone.view(|memory| memory.occupant(nth))?;
            if let Some(occupant) = occupant.filter(|&occupant| occupant == process || !lives(occupant)) {
                dead.push((nth, occupant));
            }
        }
        self.zone.update(|memory| {
            let mut cleared = 0;
            for (nth, process) in dead {
                if memory.occupant(nth)? == Some(process) {
                    memory.vacate(nth)?;
                    cleared += 1;
                }
            }
            if cleared > 0 {
                memory.start_scan()?;
            }
            let Some(nth) = memory.occupy(process)? else { return Ok(Err(ClaimError::Full)) };
            Ok(Ok(Claimed { slot: Slot(nth), cleared, wake: memory.with_news()? }))
        })?
    }

    /// Gives a slot back: this process has no subscribers any more. Workers that are to be woken are returned: they may
    /// go on with what this one did.
    pub fn release(&self, slot: Slot) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            memory.vacate(slot.0)?;
            memory.start_scan()?;
            memory.with_news()
        })
    }

    /// Clears the slot of a process that was found dead. Workers that are to be woken are returned.
    pub fn bury(&self, process: Process) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            for nth in 0..memory.geometry.slots {
                if memory.occupant(nth)? == Some(process) {
                    memory.vacate(nth)?;
                    memory.start_scan()?;
                }
            }
            memory.with_news()
        })
    }

    /// The counters of this worker that only grow. Nobody else writes them, so they need no lock.
    pub fn totals(&self, slot: Slot) -> Result<&[Wide], Corrupt> {
        Ok(&self.zone.unlocked().slot(slot.0)?.totals)
    }

    /// The values of this worker that vanish with it.
    pub fn gauges(&self, slot: Slot) -> Result<&[Wide], Corrupt> {
        Ok(&self.zone.unlocked().slot(slot.0)?.gauges)
    }

    /// The sum of a counter over all workers that there are and that there were.
    pub fn total(&self, counter: usize) -> Result<u64, Corrupt> {
        self.zone.view(|memory| memory.total(counter))
    }

    /// The sum of a value over the workers that there are.
    pub fn gauge(&self, gauge: usize) -> Result<u64, Corrupt> {
        self.zone.view(|memory| memory.gauge(gauge))
    }

    /// Processes that have a slot.
    pub fn workers(&self) -> Result<Vec<Process>, Corrupt> {
        self.zone.view(|memory| {
            let mut workers = Vec::new();
            for nth in 0..memory.geometry.slots {
                workers.extend(memory.occupant(nth)?);
            }
            Ok(workers)
        })
    }
}
