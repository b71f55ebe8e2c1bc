// SPDX-License-Identifier: Apache-2.0

//! Programs that the clients of a channel share.
//!
//! At most one worker runs the program of a channel: it [claims](Programs::claim) it. The others see what becomes of
//! it, and leave the messages of their clients in its input, which stays until it was [consumed](Programs::consume_input).

use super::run::{note_end, own_run};
use super::{Handle, Key, MOST_DROPS, Now, Process, Programs, Slot, SubscribeError, Wake};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::zone::Memory;
use crate::channel::zone::layout::{Cell, ProgramRecord, REASON, phase, state};
use crate::channel::zone::room::Need;

/// A program that was found once. It stays valid as long as this worker has clients of it, or runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramHandle {
    pub(super) channel: Handle,
    pub(super) cell: Cell,
}

impl ProgramHandle {
    /// Whether both are programs of the same channel, and not of another one of its name.
    pub fn is_of_channel(self, other: Self) -> bool {
        self.channel == other.channel
    }
}

/// Who runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody.
    Nobody,
    /// This worker.
    Own,
    /// Another one.
    Other(Process),
}

/// How far a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramPhase {
    /// The program does not run.
    Idle,
    /// The program is being started.
    Starting,
    /// The program runs, as this process.
    Running(u32),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The code of the Close that its clients get.
    pub code: u32,
    /// Its status, in the form of the caller.
    pub status: u32,
    /// The reason of the Close, as much of it as a Close can carry.
    pub reason: Vec<u8>,
}

/// What a worker sees of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramView {
    /// Who runs it.
    pub owner: Owner,
    /// How far the program is.
    pub phase: ProgramPhase,
    /// Counts up whenever it has ended by itself or could not be started.
    pub run: u32,
    /// How the run before this one ended.
    pub ended: Option<Ended>,
    /// A request has begun the run, which has not ended: nobody goes on with it in its place.
    pub requested: bool,
    /// A run that a request has begun has ended, and is kept.
    pub kept: bool,
    /// Its channel has been deleted.
    pub deleted: bool,
    /// Other workers have clients of it.
    pub others: bool,
    /// Other workers have clients of it that have not been told to go.
    pub successors: bool,
    /// The slots of all workers that have clients of it.
    pub clients: Wake,
    /// Whether there is input for the program.
    pub input: bool,
}

/// The program, if the handle is still valid.
pub(super) fn valid(memory: Memory<'_>, handle: ProgramHandle) -> Option<&ProgramRecord> {
    memory.same(handle.channel.cell, handle.channel.life)?;
    let program = memory.program(handle.cell).ok()?;
    (program.record.get() == handle.channel.cell.number()).then_some(program)
}

impl<L: Lock> Programs<'_, L> {
    /// The program of a channel, of which this worker has a client now. `None` if there is no such channel.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::NoRoom`], [`SubscribeError::Corrupt`].
    pub fn attach(&self, key: Key<'_>, slot: Slot, now: Now) -> Result<Option<ProgramHandle>, SubscribeError> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(channel) = memory.find(key, hash)? else { return Ok(Ok(None)) };
            let record = memory.record(channel)?;
            let Some(cell) = memory.find_or_create_program(channel, Need::Worker(channel), clock)? else {
                return Ok(Err(SubscribeError::NoRoom));
            };
            memory.set_clients(memory.program(cell)?, slot.0, true)?;
            let channel = Handle { cell: channel, life: record.epoch.get() };
            Ok(Ok(Some(ProgramHandle { channel, cell })))
        })?
    }

    /// Looks at a program, of which this worker has clients or has not, and which it has last seen in this run. `None` if
    /// it is gone. Workers are returned that are to be woken.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn look_at(
        &self,
        handle: ProgramHandle,
        slot: Slot,
        clients: bool,
        run: u32,
        now: Now,
    ) -> Result<Option<(ProgramView, Wake)>, Corrupt> {
        self.zone.update(|memory| {
            let Some(program) = valid(memory, handle) else { return Ok(None) };
            memory.looked(program, slot.0)?;
            let mut wake = Wake::default();
            if memory.clients(program)?.has(slot.0) != clients {
                memory.set_clients(program, slot.0, clients)?;
                wake = memory.tell_owner(program)?;
            }
            let owner = memory.owner(program)?;
            let all_clients = memory.clients(program)?;
            let mut others = all_clients;
            others.remove(slot.0);
            let view = ProgramView {
                owner: match owner {
                    None => Owner::Nobody,
                    Some(owner) if owner == slot.0 => Owner::Own,
                    Some(owner) => memory.occupant(owner)?.map_or(Owner::Nobody, Owner::Other),
                },
                phase: match (owner, program.phase.get()) {
                    (Some(_), phase::RUNNING) => ProgramPhase::Running(program.pid.get()),
                    (Some(_), phase::STARTING) => ProgramPhase::Starting,
                    _ => ProgramPhase::Idle,
                },
                run: program.run.get(),
                ended: if program.run.get() == run { None } else { Some(ended(memory, handle.cell, program)?) },
                requested: program.requested.get() != 0,
                kept: program.kept.get() != 0,
                deleted: memory.record(handle.channel.cell)?.state.get() == state::DELETED,
                others: !others.is_empty(),
                successors: memory.any_stays(others)?,
                clients: all_clients,
                input: program.input.get() != 0,
            };
            if !clients && owner.is_none() {
                let clock = memory.clock(now.clock)?;
                retire(memory, handle, clock)?;
            }
            Ok(Some((view, wake)))
        })
    }

    /// This worker is to run a program. Whether it may: nobody else does, the run is not one that a request has begun, and the
    /// worker is not leaving while others stay that have clients. A run that is kept gives way.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn claim(&self, handle: ProgramHandle, slot: Slot) -> Result<bool, Corrupt> {
        self.zone.update(|memory| {
            let Some(program) = valid(memory, handle) else { return Ok(false) };
            if memory.owner(program)?.is_some() || program.requested.get() != 0 {
                return Ok(false);
            }
            let mut others = memory.clients(program)?;
            others.remove(slot.0);
            let own = memory.slot(slot.0)?;
            if own.leaving.get() != 0 && memory.any_stays(others)? {
                return Ok(false);
            }
            program.first.set(memory.record(handle.channel.cell)?.upcoming.get());
            own_run(memory, program, slot)?;
            Ok(true)
        })
    }

    /// A program of this worker runs. Workers are returned that are to be woken.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn runs(&self, handle: ProgramHandle, slot: Slot, pid: u32) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            let Some(program) = owned(memory, handle, slot)? else { return Ok(Wake::default()) };
            program.pid.set(pid);
            // It may have been told to stop before it ran.
            if program.phase.get() == phase::STARTING {
                program.phase.commit(phase::RUNNING);
            }
            memory.tell(program, memory.clients(program)?)
        })
    }

    /// A program of this worker is being stopped.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn stops(&self, handle: ProgramHandle, slot: Slot) -> Result<(), Corrupt> {
        self.zone.update(|memory| {
            if let Some(program) = owned(memory, handle, slot)? {
                program.phase.set(phase::STOPPING);
            }
            Ok(())
        })
    }

    /// A program of this worker has ended by itself, or could not be started: its clients are told, and nothing is left
    /// of its input. A run that a request has begun is kept if there was one. Workers are returned that are to be woken.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn ended(&self, handle: ProgramHandle, slot: Slot, how: &Ended, now: Now) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(program) = owned(memory, handle, slot)? else { return Ok(Wake::default()) };
            let was_begun = program.phase.get() == phase::RUNNING;
            note_end(memory, handle, program, how)?;
            memory.disown(program);
            if program.requested.get() != 0 && was_begun {
                memory.keep_run(handle.channel.cell, program, clock)?;
            }
            program.requested.set(0);
            let wake = memory.tell(program, memory.clients(program)?)?;
            memory.discard_input(program)?;
            retire(memory, handle, clock)?;
            Ok(wake)
        })
    }

    /// A program of this worker was stopped, and another worker with clients may start it anew: its input stays for
    /// that. Of a run that a request has begun nothing stays. Workers are returned that are to be woken.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn left(&self, handle: ProgramHandle, slot: Slot, now: Now) -> Result<Wake, Corrupt> {
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(program) = owned(memory, handle, slot)? else { return Ok(Wake::default()) };
            memory.disown(program);
            let wake = memory.tell(program, memory.clients(program)?)?;
            if program.requested.get() != 0 {
                program.requested.set(0);
                memory.discard_input(program)?;
            }
            retire(memory, handle, clock)?;
            Ok(wake)
        })
    }

    /// This worker has been told to go: others run programs rather than it does.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn leave(&self, slot: Slot) -> Result<(), Corrupt> {
        self.zone.update(|memory| {
            memory.slot(slot.0)?.leaving.set(1);
            Ok(())
        })
    }

    /// Whether something has happened to any program that this worker has to do with, since this was asked last. Takes no
    /// lock.
    pub fn take_news(&self, slot: Slot) -> bool {
        let Ok(slot) = self.zone.unlocked().slot(slot.0) else { return false };
        // Before anything is looked at: what happens from now on is told again.
        slot.programs.take()
    }

    /// Whether something has happened to this program. Takes no lock.
    pub fn has_news(&self, handle: ProgramHandle, slot: Slot) -> bool {
        let memory = self.zone.unlocked();
        valid(memory, handle).is_none_or(|program| memory.has_news_of(program, slot.0) != Ok(false))
    }
}

/// The program, if this worker runs it.
pub(super) fn owned<'a>(
    memory: Memory<'a>,
    handle: ProgramHandle,
    slot: Slot,
) -> Result<Option<&'a ProgramRecord>, Corrupt> {
    let Some(program) = valid(memory, handle) else { return Ok(None) };
    Ok((memory.owner(program)? == Some(slot.0)).then_some(program))
}

/// Lets a program go that nobody runs and nobody has clients of, and its channel if that was all.
pub(super) fn retire(memory: Memory<'_>, handle: ProgramHandle, clock: u64) -> Result<(), Corrupt> {
    if memory.remove_unused_program(handle.channel.cell)? {
        memory.record(handle.channel.cell)?.touched.set(clock);
        memory.settle(handle.channel.cell, clock, MOST_DROPS)?;
    }
    Ok(())
}

fn ended(memory: Memory<'_>, cell: Cell, program: &ProgramRecord) -> Result<Ended, Corrupt> {
    let ended = program.ended.get();
    let len = (ended as usize >> 16).min(REASON);
    let mut reason = Vec::with_capacity(REASON);
    memory.read_along(cell, size_of::<ProgramRecord>(), len, &mut reason)?;
    Ok(Ended { code: ended & 0xffff, status: program.ended_status.get(), reason })
}

#[cfg(test)]
impl<L: Lock> Programs<'_, L> {
    /// The slot of the worker that runs a program.
    pub fn owner_of(&self, handle: ProgramHandle) -> Option<usize> {
        let memory = self.zone.unlocked();
        valid(memory, handle).and_then(|program| memory.owner(program).ok()?)
    }
}
