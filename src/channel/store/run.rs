// SPDX-License-Identifier: Apache-2.0

//! Runs of programs that a request begins.
//!
//! Such a run is begun once, by the worker that has the request, and nobody goes on with it when that worker is gone. Clients
//! [join](Programs::follow) it while it goes on, and as long as it is kept after its end; nobody begins another one before that.

use super::program::{retire, valid};
use super::{Ended, Handle, Key, Now, ProgramHandle, Programs, Slot, SubscribeError, Wake};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::zone::Memory;
use crate::channel::zone::layout::{Cell, ProgramRecord, REASON, phase};
use crate::channel::zone::room::Need;

/// Whether a request has begun a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It has: this worker is to start the program.
    Begun(ProgramHandle),
    /// There is a run already, which goes on or is kept.
    Taken,
}

/// The worker in a slot begins to run a program.
pub(super) fn own_run(memory: Memory<'_>, program: &ProgramRecord, slot: Slot) -> Result<(), Corrupt> {
    program.kept.set(0);
    program.phase.set(phase::STARTING);
    program.generation.set(memory.slot(slot.0)?.generation.get());
    program.owner.commit(u32::try_from(slot.0 + 1).map_err(|_| Corrupt)?);
    Ok(())
}

/// Notes how a run has ended.
pub(super) fn note_end(
    memory: Memory<'_>,
    handle: ProgramHandle,
    program: &ProgramRecord,
    how: &Ended,
) -> Result<(), Corrupt> {
    let reason = how.reason.get(..how.reason.len().min(REASON)).unwrap_or_default();
    memory.write_along(handle.cell, size_of::<ProgramRecord>(), [reason])?;
    // Both fit: a code has four digits, and a reason is within its cell.
    program.ended.set(how.code & 0xffff | (reason.len() as u32) << 16);
    program.ended_status.set(how.status);
    program.run.commit(program.run.get().wrapping_add(1));
    Ok(())
}

/// The program of a channel that has a run: one that goes on and is not being stopped, or one that is kept.
fn running(memory: Memory<'_>, key: Key<'_>, hash: u64, clock: u64) -> Result<Option<ProgramHandle>, Corrupt> {
    let Some(channel) = memory.find(key, hash)? else { return Ok(None) };
    let record = memory.record(channel)?;
    let Some(cell) = Cell::new(record.program.get()) else { return Ok(None) };
    let program = memory.program(cell)?;
    let goes_on = memory.owner(program)?.is_some() && program.phase.get() != phase::STOPPING;
    let handle = ProgramHandle { channel: Handle { cell: channel, life: record.epoch.get() }, cell };
    Ok((goes_on || program.kept.get() > clock).then_some(handle))
}

impl<L: Lock> Programs<'_, L> {
    /// Begins a run of the program of a channel in this worker, which has a client of it then. It is kept for so many
    /// milliseconds when it has ended.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Missing`] where there is no such channel, [`SubscribeError::NoRoom`], [`SubscribeError::Corrupt`].
    pub fn begin(&self, key: Key<'_>, slot: Slot, keeps: u64, now: Now) -> Result<Begun, SubscribeError> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(channel) = memory.find(key, hash)? else { return Ok(Err(SubscribeError::Missing)) };
            memory.expire_run(channel, clock)?;
            let record = memory.record(channel)?;
            // Not as a worker that begins to have clients: runs that are kept must not keep those out.
            let Some(cell) = memory.find_or_create_program(channel, Need::Subscriber(channel), clock)? else {
                return Ok(Err(SubscribeError::NoRoom));
            };
            let program = memory.program(cell)?;
            let is_lost = program.requested.get() != 0;
            if memory.owner(program)?.is_some() || program.kept.get() != 0 || is_lost {
                return Ok(Ok(Begun::Taken));
            }
            memory.set_clients(program, slot.0, true)?;
            // What was left for a program that another location has started is not for this one.
            memory.discard_input(program)?;
            program.keeps.set(u32::try_from(keeps).unwrap_or(u32::MAX));
            program.first.set(record.upcoming.get());
            program.requested.set(1);
            own_run(memory, program, slot)?;
            let channel = Handle { cell: channel, life: record.epoch.get() };
            Ok(Ok(Begun::Begun(ProgramHandle { channel, cell })))
        })?
    }

    /// The program of a channel that has a run, of which this worker has a client now. `None` if there is no run, or if it is
    /// being stopped.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn follow(&self, key: Key<'_>, slot: Slot, now: Now) -> Result<Option<ProgramHandle>, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let found = running(memory, key, hash, clock)?;
            if let Some(handle) = found {
                memory.set_clients(memory.program(handle.cell)?, slot.0, true)?;
            }
            Ok(found)
        })
    }

    /// The position at which the run of a channel's program begins: before its first message. `None` if there is no run.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn beginning(&self, key: Key<'_>, now: Now) -> Result<Option<MessageId>, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(handle) = running(memory, key, hash, clock)? else { return Ok(None) };
            let first = Offset(memory.program(handle.cell)?.first.get());
            let epoch = Epoch(memory.epoch_of(handle.channel.cell)?);
            Ok(Some(MessageId { epoch, offset: first.previous() }))
        })
    }

    /// The worker of a run that a request has begun is gone: the run has ended. Nothing happens if somebody has said so already.
    /// Workers are returned that are to be woken.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn lost(&self, handle: ProgramHandle, how: &Ended, now: Now) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(program) = valid(memory, handle) else { return Ok(Wake::default()) };
            if program.requested.get() == 0 || memory.owner(program)?.is_some() {
                return Ok(Wake::default());
            }
            note_end(memory, handle, program, how)?;
            memory.keep_run(handle.channel.cell, program, clock)?;
            let wake = memory.tell(program, memory.clients(program)?)?;
            memory.discard_input(program)?;
            retire(memory, handle, clock)?;
            Ok(wake)
        })
    }
}
