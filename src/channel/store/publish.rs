// SPDX-License-Identifier: Apache-2.0

//! Publishing and deleting.

use super::group::tidy;
use super::{Handle, Info, Key, Log, MOST_DROPS, Now, Wake, last_id};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::message::Publication;
use crate::channel::position::MessageId;
use crate::channel::zone::Memory;
use crate::channel::zone::cells::cells_for;
use crate::channel::zone::groups::{GroupLimits, GroupUse};
use crate::channel::zone::layout::{Cell, INLINE_MESSAGE, Message, tag};
use crate::channel::zone::log::NOTHING;
use crate::channel::zone::room::Need;
use crate::ws::frame::MessageKind;

/// What a channel keeps: `websocket_channel_history` of the location that published last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Messages; 0: no limit; see [`OFF`](Self::OFF).
    pub length: u32,
    /// Milliseconds; 0: no limit.
    pub time: u64,
}

impl History {
    /// Nothing is kept: a message reaches the subscribers that are there.
    pub const OFF: Self = Self { length: NOTHING, time: 0 };

    /// At most so many messages and for so many milliseconds; 0: no limit.
    pub fn of(length: u64, time: u64) -> Self {
        let most = NOTHING - 1;
        Self { length: u32::try_from(length).map_or(most, |length| length.min(most)), time }
    }

    fn is_off(self) -> bool {
        self.length == NOTHING
    }
}

/// How a location publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What the channel keeps.
    pub history: History,
    /// What its group may have, if nobody has set that.
    pub group: GroupLimits,
}

/// Why a message was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// The message does not fit into the zone, even if everything else goes.
    TooLarge,
    /// Its group has as many channels, messages or octets as it may have.
    Group,
    /// The zone is damaged; it is repaired when it is used next.
    Corrupt,
}

impl From<Corrupt> for PublishError {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl std::fmt::Display for PublishError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => f.write_str("message does not fit into the channel zone"),
            Self::Group => f.write_str("channel group has as much as it may have"),
            Self::Corrupt => Corrupt.fmt(f),
        }
    }
}

impl std::error::Error for PublishError {}

/// A message has been published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: MessageId,
    /// The channel.
    pub channel: Handle,
    /// What the publisher is told.
    pub info: Info,
    /// The workers that are to be woken.
    pub wake: Wake,
}

/// A channel has been deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// What the channel was.
    pub info: Info,
    /// The workers that are to be woken, so that they close its subscribers.
    pub wake: Wake,
}

impl<L: Lock> Log<'_, L> {
    /// Publishes a message.
    pub fn publish(
        &self,
        key: Key<'_>,
        publication: &Publication<'_>,
        policy: Policy,
        now: Now,
    ) -> Result<Published, PublishError> {
        let hash = self.zone.unlocked().hash(key)?;
        let Ok(_) = u32::try_from(publication.stored_len()) else { return Err(PublishError::TooLarge) };
        let cells = cells_for(publication.stored_len(), INLINE_MESSAGE);
        let history = policy.history;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let mut own = memory.find(key, hash)?;
            let more = |own| growth(memory, own, publication.len(), history);
            if !memory.group_allows(key, own, policy.group, || more(own))? {
                own = tidy(memory, key, hash, clock)?;
                if !memory.group_allows(key, own, policy.group, || more(own))? {
                    return Ok(Err(PublishError::Group));
                }
            }
            // A message that is neither kept nor awaited takes no room, so that nothing has to go for it.
            let mut in_passing = history.is_off();
            if let Some(cell) = own {
                keep(memory, cell, history, clock)?;
                let record = memory.record(cell)?;
                record.touched.set(clock);
                if in_passing {
                    memory.trim(cell, clock, MOST_DROPS)?;
                    in_passing = record.messages.get() == 0 && memory.subscribers(cell)? == 0;
                }
            }
            let need = if in_passing { 0 } else { cells };
            let made = cells <= memory.geometry.cells
                && match own {
                    Some(cell) => memory.make_room(need, Need::Message(cell), clock)?,
                    None => memory.make_room_to_create(key, need, Need::NewMessage, clock)?,
                };
            if !made {
                return Ok(Err(PublishError::TooLarge));
            }
            let channel = match own {
                Some(cell) => cell,
                None => memory.create(key, hash, clock)?,
            };
            keep(memory, channel, history, clock)?;
            if in_passing {
                memory.pass_over(channel)?;
            } else {
                let message = write(memory, cells, publication, Now { clock, ..now })?;
                memory.append(channel, message)?;
            }
            let wake = memory.notify(channel)?;
            // Afterwards: whoever is killed before has not cost the channel its oldest message.
            memory.trim(channel, clock, MOST_DROPS)?;
            if let Some(deadline) = memory.deadline(channel)? {
                memory.schedule(channel, deadline)?;
            }
            Ok(Ok(Published {
                id: last_id(memory, channel)?,
                channel: Handle { cell: channel, life: memory.record(channel)?.epoch.get() },
                info: Info::of(memory, channel, clock)?,
                wake,
            }))
        })?
    }

    /// Deletes a channel. `None` if there is none. What has been published before reaches the subscribers before the
    /// news that it is gone.
    pub fn delete(&self, key: Key<'_>, now: Now) -> Result<Option<Deleted>, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(cell) = memory.find(key, hash)? else { return Ok(None) };
            memory.trim(cell, clock, MOST_DROPS)?;
            let info = Info::of(memory, cell, clock)?;
            Ok(Some(Deleted { info, wake: memory.delete(cell, clock)? }))
        })
    }
}

/// The channel keeps so much from now on. What has expired by what it has kept until now goes: it would come back where that is longer.
pub(super) fn keep(memory: Memory<'_>, channel: Cell, history: History, clock: u64) -> Result<(), Corrupt> {
    let record = memory.record(channel)?;
    if (record.history.get(), record.keep.get()) != (history.length, history.time) {
        if memory.trim(channel, clock, usize::MAX)? > 0 {
            memory.schedule(channel, clock)?;
            memory.checkpoint()?;
        }
        record.history.set(history.length);
        record.keep.set(history.time);
    }
    Ok(())
}

/// What a message adds to its group: nothing where it takes the place of another one, or where it is not kept.
pub(super) fn growth(memory: Memory<'_>, own: Option<Cell>, len: usize, history: History) -> Result<GroupUse, Corrupt> {
    let stored = if history.is_off() { (0, 0) } else { (1, len as u64) };
    let mut more = GroupUse { channels: 0, subscribers: 0, messages: stored.0, bytes: stored.1 };
    let Some(channel) = own else { return Ok(GroupUse { channels: 1, ..more }) };
    let record = memory.record(channel)?;
    if history.length > 0
        && !history.is_off()
        && record.messages.get() >= history.length
        && let Some(oldest) = Cell::new(record.oldest.get())
    {
        more.messages = 0;
        more.bytes = more.bytes.saturating_sub(u64::from(memory.message(oldest)?.data_len.get()));
    }
    Ok(more)
}

/// Writes a message that nothing refers to yet. There are `cells` free cells.
pub(super) fn write(
    memory: Memory<'_>,
    cells: usize,
    publication: &Publication<'_>,
    now: Now,
) -> Result<Cell, Corrupt> {
    let Publication { kind, content_type, event, data } = *publication;
    let length = |len: usize| u32::try_from(len).map_err(|_| Corrupt);
    let chain = memory.take_cells(cells, tag::MESSAGE)?;
    let message = memory.message(chain.head)?;
    // Nobody looks at a cell that is free, so if this is undone it does not matter what it contains.
    message.tail.put(chain.tail.number());
    message.cells.put(length(cells)?);
    message.kind.put(match kind {
        MessageKind::Text => 0,
        MessageKind::Binary => 1,
    });
    message.data_len.put(length(publication.len())?);
    message.type_len.put(length(content_type.len())?);
    message.event_len.put(length(event.len())?);
    message.time.put(now.clock);
    message.unix.put(now.unix);
    let parts = data.iter().copied().chain([content_type, event]);
    memory.write_along(chain.head, size_of::<Message>(), parts)?;
    Ok(chain.head)
}
