// SPDX-License-Identifier: Apache-2.0

//! Slots: one for each worker that uses the zone.

use super::Memory;
use super::interest::Wake;
use crate::channel::memory::Corrupt;

/// A process: its id is used again one day, together with its beginning it is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Process id, not 0.
    pub pid: u32,
    /// When the process began, in any unit.
    pub start: u64,
}

impl Memory<'_> {
    /// The process in a slot.
    pub fn occupant(self, nth: usize) -> Result<Option<Process>, Corrupt> {
        let slot = self.slot(nth)?;
        let pid = slot.pid.get();
        Ok((pid != 0).then(|| Process { pid, start: slot.start.get() }))
    }

    /// Puts a process into a free slot. `None` if there is none.
    pub fn occupy(self, process: Process) -> Result<Option<usize>, Corrupt> {
        for nth in 0..self.geometry.slots {
            let slot = self.slot(nth)?;
            if slot.pid.get() == 0 {
                slot.start.set(process.start);
                slot.woken.set(0);
                slot.dirty_head.set(0);
                slot.dirty_tail.set(0);
                slot.leaving.set(0);
                slot.programs.set(0);
                slot.expelled.set(0);
                slot.pid.commit(process.pid);
                return Ok(Some(nth));
            }
        }
        Ok(None)
    }

    /// Empties a slot. Everything that was counted for it is void.
    pub fn vacate(self, nth: usize) -> Result<(), Corrupt> {
        let slot = self.slot(nth)?;
        self.vacate_programs(nth)?;
        slot.dirty_head.set(0);
        slot.dirty_tail.set(0);
        slot.woken.set(0);
        slot.generation.commit(slot.generation.get().wrapping_add(1));
        self.look_at_all_anew()?;
        slot.pid.commit(0);
        Ok(())
    }

    /// The slots with a process.
    pub fn occupied(self) -> Result<Wake, Corrupt> {
        let mut occupied = Wake::default();
        for nth in 0..self.geometry.slots {
            if self.slot(nth)?.pid.get() != 0 {
                occupied.add(nth);
            }
        }
        Ok(occupied)
    }

    /// Workers with news, woken or not: somebody who was to wake them may have been killed before doing it.
    pub fn with_news(self) -> Result<Wake, Corrupt> {
        let mut wake = Wake::default();
        for nth in 0..self.geometry.slots {
            let slot = self.slot(nth)?;
            if slot.pid.get() == 0 {
                continue;
            }
            if slot.dirty_head.get() != 0 {
                slot.woken.set(1);
                wake.add(nth);
            }
            if slot.programs.get() != 0 || slot.expelled.get() != 0 {
                wake.add(nth);
            }
        }
        Ok(wake)
    }
}
