// SPDX-License-Identifier: Apache-2.0

//! Reading: what is new for a worker, and the log from a cursor on.

use super::copy::lineage;
use super::{Handle, Log, MOST_DROPS, Now, Slot, Token};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::message::{CopyError, Message};
use crate::channel::position::{Epoch, Lineage, Offset};
use crate::channel::zone::Memory;
use crate::channel::zone::layout::{Cell, Interest, InterestAt, QUEUED, REPLACED, state};

/// How much is copied while the lock is held once. The first message is copied whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Messages.
    pub messages: usize,
    /// Octets.
    pub octets: usize,
}

impl Budget {
    fn spend(&mut self, message: &Message) {
        self.messages = self.messages.saturating_sub(1);
        self.octets = self.octets.saturating_sub(message.footprint());
    }

    fn is_spent(self) -> bool {
        self.messages == 0 || self.octets == 0
    }
}

/// Something new in a channel that this worker has subscribers of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The next message. Where its offset is not the one after the last, the messages between are lost.
    Message(Token, Message),
    /// The engine that the channel is in may have lost messages, and has begun another epoch. What follows is of that one.
    Replaced {
        /// The channel.
        token: Token,
        /// The epoch from now on.
        epoch: Epoch,
        /// The oldest message that is here, or the one that comes next.
        oldest: Offset,
        /// How the epoch has come about.
        lineage: Lineage,
    },
    /// Everything up to this offset that was not told is lost.
    Missing(Token, Offset),
    /// The channel has been deleted; it is not subscribed to any more.
    Deleted(Token),
}

/// Why nothing could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The channel is gone.
    Gone,
    /// There is no memory in this process.
    Memory,
    /// The zone is damaged; it is repaired when it is used next.
    Corrupt,
}

impl From<Corrupt> for ReadError {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("channel is gone"),
            Self::Memory => f.write_str("no memory for a channel message"),
            Self::Corrupt => Corrupt.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// What [`Log::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The epoch of the channel at this time.
    pub epoch: Epoch,
    /// Where to go on.
    pub next: Offset,
    /// Messages between the cursor and the first one that was read, which are lost.
    pub lost: u64,
    /// Whether there are more at this time.
    pub more: bool,
}

impl<L: Lock> Log<'_, L> {
    /// Copies messages of a channel from a cursor on, in order, to the end of `out`.
    pub fn read(
        &self,
        channel: Handle,
        next: Offset,
        budget: Budget,
        now: Now,
        out: &mut Vec<Message>,
    ) -> Result<Read, ReadError> {
        self.zone.view(|memory| {
            if memory.same(channel.cell, channel.life).is_none() {
                return Ok(Err(ReadError::Gone));
            }
            match read(memory, channel.cell, next, budget, now, out) {
                Ok(read) => Ok(Ok(read)),
                Err(CopyError::Memory(_)) => Ok(Err(ReadError::Memory)),
                Err(CopyError::Corrupt(corrupt)) => Err(corrupt),
            }
        })?
    }

    /// Copies what is new for this worker to the end of `out`, in the order in which the channels became new. Whether there
    /// is more; then nobody wakes this worker, it goes on by itself.
    pub fn drain(&self, slot: Slot, budget: Budget, now: Now, out: &mut Vec<News>) -> Result<bool, ReadError> {
        self.drain_to(slot, budget, now, out, &mut 0)
    }

    /// Copies what is new for this worker as [`drain`](Self::drain) does. If there is no more, then `horizon` is the serial of the last message of the zone: what was published up to it
    /// was copied.
    pub fn drain_to(
        &self,
        slot: Slot,
        mut budget: Budget,
        now: Now,
        out: &mut Vec<News>,
        horizon: &mut u64,
    ) -> Result<bool, ReadError> {
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let own = memory.slot(slot.0)?;
            while let Some(at) = InterestAt::new(own.dirty_head.get()) {
                match drain_one(memory, at, slot, clock, &mut budget, out) {
                    Ok(true) => memory.checkpoint()?,
                    Ok(false) => return Ok(Ok(true)),
                    Err(CopyError::Memory(_)) => {
                        // Some messages may have been copied.
                        memory.look_at_all_anew()?;
                        return Ok(Err(ReadError::Memory));
                    }
                    Err(CopyError::Corrupt(corrupt)) => return Err(corrupt),
                }
            }
            own.woken.set(0);
            *horizon = memory.header()?.serial.get();
            Ok(Ok(false))
        })?
    }

    /// The serial of the last message of the zone, if this worker has copied everything up to it.
    pub fn horizon(&self, slot: Slot) -> Result<Option<u64>, Corrupt> {
        self.zone.view(|memory| {
            let settled = memory.slot(slot.0)?.dirty_head.get() == 0;
            Ok(settled.then_some(memory.header()?.serial.get()))
        })
    }

    /// The first message of a channel that was published after this serial, and the greatest serial of what is missing.
    pub fn after(&self, channel: Handle, serial: u64) -> Result<(Offset, u64), ReadError> {
        self.zone.view(|memory| {
            let Some(record) = memory.same(channel.cell, channel.life) else { return Ok(Err(ReadError::Gone)) };
            Ok(Ok((Offset(memory.seek_serial(record, serial)?), record.missing.get())))
        })?
    }

    /// Whether there may be news for this worker. Takes no lock: to find out from time to time whether somebody died who
    /// was to wake it.
    pub fn has_news(&self, slot: Slot) -> bool {
        self.zone.unlocked().slot(slot.0).is_ok_and(|slot| slot.dirty_head.get() != 0)
    }
}

fn read(
    memory: Memory<'_>,
    channel: Cell,
    next: Offset,
    mut budget: Budget,
    now: Now,
    out: &mut Vec<Message>,
) -> Result<Read, CopyError> {
    let clock = now.clock.max(memory.header()?.clock.get());
    let (record, epoch) = (memory.record(channel)?, memory.epoch_of(channel)?);
    // What has expired and was not dropped yet is not gone through: it may be most of the zone.
    let from = next.0.max(memory.first_fresh(record, clock)?);
    let mut cell = memory.seek(record, from)?;
    let mut read = Read { epoch: Epoch(epoch), next, lost: 0, more: false };
    let mut first = true;
    let mut left = memory.geometry.cells;
    while let Some(at) = cell {
        left = left.checked_sub(1).ok_or(Corrupt)?;
        let message = memory.message(at)?;
        if budget.is_spent() && !first {
            read.more = true;
            break;
        }
        let copy = Message::copy(memory, epoch, at)?;
        budget.spend(&copy);
        if first {
            read.lost = copy.id.offset.0.saturating_sub(next.0);
            first = false;
        }
        read.next = copy.id.offset.next();
        out.try_reserve(1).map_err(CopyError::Memory)?;
        out.push(copy);
        cell = Cell::new(message.after.get());
    }
    if first && record.upcoming.get() > next.0 {
        // Everything that was to be read has expired.
        read.next = Offset(record.upcoming.get());
        read.lost = record.upcoming.get() - next.0;
    }
    Ok(read)
}

/// Copies what is new in one channel. False if the budget was spent before the end.
fn drain_one(
    memory: Memory<'_>,
    at: InterestAt,
    own: Slot,
    clock: u64,
    budget: &mut Budget,
    out: &mut Vec<News>,
) -> Result<bool, CopyError> {
    let interest: &Interest = memory.interest(at)?;
    let channel = Cell::new(interest.record.get()).ok_or(Corrupt)?;
    let (record, epoch) = (memory.record(channel)?, memory.epoch_of(channel)?);
    let token = Token(interest.token.get());
    // What is on the list of this worker by mistake would never be taken off it.
    let Some(slot) = memory.interested(interest)?.filter(|slot| *slot == own.0 && interest.slot.get() & QUEUED != 0)
    else {
        return Err(Corrupt.into());
    };
    let before = memory.copied_by_all(channel)?;
    if interest.seen.get() == REPLACED {
        let oldest = Offset(memory.oldest_offset(record)?);
        if interest.count.get() > 0 {
            let lineage = memory.copied(channel)?.map(lineage).unwrap_or_default();
            out.try_reserve(1).map_err(CopyError::Memory)?;
            out.push(News::Replaced { token, epoch: Epoch(epoch), oldest, lineage });
        }
        interest.seen.set(oldest.previous().0);
    }
    if interest.count.get() > 0 {
        let mut next = memory.seek(record, interest.seen.get() + 1)?;
        while let Some(cell) = next {
            if budget.is_spent() {
                memory.not_awaited_after(channel, record, before)?;
                return Ok(false);
            }
            out.try_reserve(1).map_err(CopyError::Memory)?;
            let message = Message::copy(memory, epoch, cell)?;
            budget.spend(&message);
            interest.seen.set(message.id.offset.0);
            out.push(News::Message(token, message));
            next = Cell::new(memory.message(cell)?.after.get());
        }
        let head = Offset(record.upcoming.get()).previous();
        if interest.seen.get() < head.0 {
            out.try_reserve(1).map_err(CopyError::Memory)?;
            out.push(News::Missing(token, head));
            interest.seen.set(head.0);
        }
    }
    let deleted = record.state.get() == state::DELETED;
    if deleted && interest.count.get() > 0 {
        out.try_reserve(1).map_err(CopyError::Memory)?;
        out.push(News::Deleted(token));
    }
    memory.dequeue(slot)?;
    if deleted || interest.count.get() == 0 {
        memory.release(channel, interest)?;
        record.touched.set(clock);
    }
    if memory.settle(channel, clock, MOST_DROPS)?.is_some() {
        memory.not_awaited_after(channel, record, before)?;
    }
    Ok(true)
}
