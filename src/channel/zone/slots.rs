//! Slots: one for each worker that uses the zone.

use super::Memory;
use super::interest::Wake;
use super::layout::TOTALS;
use crate::channel::memory::Corrupt;

/// A process: its id is used again one day, together with its beginning it is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Process id, not 0.
    pub pid: u32,
    /// When it began, in any unit.
    pub start: u64,
}

/// Which bank of [`super::layout::Header::retired`] is valid, and whose counters went into it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fold {
    bank: bool,
    slot: u64,
    generation: u32,
}

impl Fold {
    fn decode(word: u64) -> Self {
        Self { bank: word >> 63 != 0, slot: word >> 32 & 0xffff, generation: word as u32 }
    }

    fn encode(self) -> u64 {
        u64::from(self.bank) << 63 | self.slot << 32 | u64::from(self.generation)
    }
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
                slot.pid.commit(process.pid);
                return Ok(Some(nth));
            }
        }
        Ok(None)
    }

    /// Whether the counters of a slot are contained in the valid bank of retired ones already.
    fn folded(self, nth: usize) -> Result<bool, Corrupt> {
        let fold = Fold::decode(self.header()?.fold.get());
        Ok(fold.slot == nth as u64 + 1 && fold.generation == self.slot(nth)?.generation.get())
    }

    /// Empties a slot. Everything that was counted for it is void, its totals are kept.
    pub fn vacate(self, nth: usize) -> Result<(), Corrupt> {
        let header = self.header()?;
        let slot = self.slot(nth)?;
        self.vacate_programs(nth)?;
        if !self.folded(nth)? {
            let bank = Fold::decode(header.fold.get()).bank;
            let [first, second] = &header.retired;
            let (from, to) = if bank { (second, first) } else { (first, second) };
            for ((old, new), more) in from.iter().zip(to).zip(&slot.totals) {
                new.set(old.get().wrapping_add(more.get()));
            }
            let fold = Fold { bank: !bank, slot: nth as u64 + 1, generation: slot.generation.get() };
            header.fold.commit(fold.encode());
        }
        for counter in slot.totals.iter().chain(&slot.gauges) {
            counter.set(0);
        }
        slot.dirty_head.set(0);
        slot.dirty_tail.set(0);
        slot.woken.set(0);
        slot.generation.commit(slot.generation.get().wrapping_add(1));
        slot.pid.commit(0);
        Ok(())
    }

    /// The sum of a counter over all processes there ever were.
    pub fn total(self, counter: usize) -> Result<u64, Corrupt> {
        let header = self.header()?;
        let bank = usize::from(Fold::decode(header.fold.get()).bank);
        let retired = header.retired.get(bank).and_then(|bank| bank.get(counter)).ok_or(Corrupt)?;
        let mut sum = retired.get();
        for nth in 0..self.geometry.slots {
            if !self.folded(nth)? {
                let more = self.slot(nth)?.totals.get(counter).map_or(0, |counter| counter.get());
                sum = sum.wrapping_add(more);
            }
        }
        Ok(sum)
    }

    /// The sum of a value over the processes that there are.
    pub fn gauge(self, gauge: usize) -> Result<u64, Corrupt> {
        let mut sum = 0_u64;
        for nth in 0..self.geometry.slots {
            let slot = self.slot(nth)?;
            if slot.pid.get() != 0 {
                sum = sum.wrapping_add(slot.gauges.get(gauge).map_or(0, |gauge| gauge.get()));
            }
        }
        Ok(sum)
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
            if slot.programs.get() != 0 {
                wake.add(nth);
            }
        }
        Ok(wake)
    }
}

const _: () = assert!(TOTALS > 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_is_one_word() {
        for fold in [
            Fold { bank: false, slot: 0, generation: 0 },
            Fold { bank: true, slot: 256, generation: u32::MAX },
            Fold { bank: true, slot: 1, generation: 77 },
        ] {
            assert_eq!(Fold::decode(fold.encode()), fold);
        }
    }
}
