// SPDX-License-Identifier: Apache-2.0

//! Coming and going of subscribers.

use super::group::tidy;
use super::{Handle, Key, Log, MAX_PRESENCE, MOST_DROPS, Now, Slot, Token, window};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::position::Window;
use crate::channel::transport::Transport;
use crate::channel::zone::groups::{GroupLimits, GroupUse};
use crate::channel::zone::layout::{Cell, QUEUED};
use crate::channel::zone::presence::Arrival;
use crate::channel::zone::room::Need;

/// On which terms a channel may be subscribed to, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'a> {
    /// Whether the channel is created if nobody has published to it yet.
    pub create: bool,
    /// Subscribers that the channel may have in all workers; 0: no limit.
    pub max_subscribers: u32,
    /// What its group may have, if nobody has set that.
    pub group: GroupLimits,
    /// Who the subscriber is, for those who ask who is there, in at most [`MAX_PRESENCE`] octets; empty: nobody is told.
    pub presence: &'a [u8],
    /// How the subscriber is served, for those who ask as well.
    pub transport: Transport,
}

/// Why a channel was not subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeError {
    /// Nobody has published to it.
    Missing,
    /// The channel has as many subscribers as it may have.
    Full,
    /// Its group has as many channels or subscribers as it may have.
    Group,
    /// There is no room for it in the zone.
    NoRoom,
    /// A subscription is to no channel, or to more than a position can name.
    Channels,
    /// The request says more about who the subscriber is than there is room for.
    Presence,
    /// The zone is damaged; it is repaired when it is used next.
    Corrupt,
}

impl From<Corrupt> for SubscribeError {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl std::fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("nobody has published to the channel"),
            Self::Full => f.write_str("channel has as many subscribers as it may have"),
            Self::Group => f.write_str("channel group has as much as it may have"),
            Self::Channels => f.write_str("subscription to no channel or to too many"),
            Self::Presence => write!(f, "more than {MAX_PRESENCE} octets tell who the subscriber is"),
            Self::NoRoom => f.write_str("no room for another channel in the zone"),
            Self::Corrupt => Corrupt.fmt(f),
        }
    }
}

impl std::error::Error for SubscribeError {}

/// A subscriber that has said who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present(pub(super) Cell);

/// A subscriber has been added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// The channel.
    pub channel: Handle,
    /// What this worker calls it: the token that was offered if this is its first subscriber here.
    pub token: Token,
    /// Whether it is the first subscriber of the channel in this worker. News begin with the message after `window` then.
    pub first: bool,
    /// What the channel has now.
    pub window: Window,
    /// What it is known by among those who are there.
    pub present: Option<Present>,
}

impl<L: Lock> Log<'_, L> {
    /// Adds a subscriber. `offer` names the channel if this worker has no subscriber of it yet.
    pub fn subscribe(
        &self,
        key: Key<'_>,
        slot: Slot,
        offer: Token,
        terms: Terms<'_>,
        now: Now,
    ) -> Result<Subscribed, SubscribeError> {
        if terms.presence.len() > MAX_PRESENCE {
            return Err(SubscribeError::Presence);
        }
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let mut found = memory.find(key, hash)?;
            if !terms.create {
                let published = match found {
                    Some(cell) => memory.record(cell)?.upcoming.get() > 1,
                    None => false,
                };
                if !published {
                    return Ok(Err(SubscribeError::Missing));
                }
            }
            let more = |found: Option<Cell>| {
                Ok(GroupUse { channels: u32::from(found.is_none()), subscribers: 1, ..GroupUse::default() })
            };
            if !memory.group_allows(key, found, terms.group, || more(found))? {
                found = tidy(memory, key, hash, clock)?;
                if !memory.group_allows(key, found, terms.group, || more(found))? {
                    return Ok(Err(SubscribeError::Group));
                }
            }
            let channel = match found {
                Some(cell) => {
                    memory.trim(cell, clock, MOST_DROPS)?;
                    cell
                }
                None => {
                    if !memory.make_room_to_create(key, 0, Need::NewChannel, clock)? {
                        return Ok(Err(SubscribeError::NoRoom));
                    }
                    memory.create(key, hash, clock)?
                }
            };
            if terms.max_subscribers > 0 && memory.subscribers(channel)? >= terms.max_subscribers {
                return Ok(Err(SubscribeError::Full));
            }
            let record = memory.record(channel)?;
            let known = memory.interest_of(channel, slot.0)?;
            let crowded = known.is_none() && memory.vacant_interest(channel)?.is_none();
            let named = !terms.presence.is_empty();
            let need = usize::from(crowded) + usize::from(named);
            if need > 0 {
                record.touched.set(clock);
                let what = if named { Need::Subscriber(channel) } else { Need::Worker(channel) };
                if !memory.make_room(need, what, clock)? {
                    memory.settle(channel, clock, MOST_DROPS)?;
                    return Ok(Err(SubscribeError::NoRoom));
                }
            }
            let interest = match known {
                Some(interest) => interest,
                None => {
                    if crowded {
                        memory.add_interest_cell(channel)?;
                    }
                    let interest = memory.vacant_interest(channel)?.ok_or(Corrupt)?;
                    interest.record.set(channel.number());
                    interest.generation.set(memory.slot(slot.0)?.generation.get());
                    interest.count.set(0);
                    interest.next.set(0);
                    interest.slot.commit(u32::try_from(slot.0).map_err(|_| Corrupt)? + 1);
                    interest
                }
            };
            let first = interest.count.get() == 0;
            if first {
                interest.token.set(offer.0);
                interest.seen.set(record.upcoming.get().saturating_sub(1));
            }
            interest.count.add(1);
            memory.count_subscribers(channel, 1)?;
            let present = match terms.presence {
                b"" => None,
                who => {
                    let since = u32::try_from(now.unix / 1000).unwrap_or(u32::MAX);
                    let arrival = Arrival { who, transport: terms.transport, since };
                    Some(Present(memory.add_present(channel, slot.0, arrival)?))
                }
            };
            record.requested.set(clock.max(1));
            record.touched.set(clock);
            Ok(Ok(Subscribed {
                channel: Handle { cell: channel, life: record.epoch.get() },
                token: Token(interest.token.get()),
                first,
                window: window(memory, channel, clock)?,
                present,
            }))
        })?
    }

    /// Takes a subscriber away. Nothing happens if the channel is gone.
    pub fn unsubscribe(&self, channel: Handle, slot: Slot, present: Option<Present>, now: Now) -> Result<(), Corrupt> {
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(record) = memory.same(channel.cell, channel.life) else { return Ok(()) };
            if let Some(Present(cell)) = present {
                memory.remove_present(channel.cell, slot.0, cell)?;
            }
            let Some(interest) = memory.interest_of(channel.cell, slot.0)? else { return Ok(()) };
            // What nobody awaits any more once the last one of this worker has gone.
            let before = if interest.count.get() <= 1 { Some(memory.copied_by_all(channel.cell)?) } else { None };
            if interest.count.get() > 0 {
                interest.count.sub(1);
                memory.count_subscribers(channel.cell, -1)?;
            }
            record.requested.set(clock.max(1));
            record.touched.set(clock);
            if let Some(before) = before {
                if interest.slot.get() & QUEUED == 0 {
                    interest.slot.set(0);
                }
                if memory.settle(channel.cell, clock, MOST_DROPS)?.is_some() {
                    memory.not_awaited_after(channel.cell, record, before)?;
                }
            }
            Ok(())
        })
    }
}
