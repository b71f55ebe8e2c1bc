//! Coming and going of subscribers.

use super::{Handle, Key, MOST_DROPS, Now, Slot, Store, Token, window};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::position::{Epoch, Window};
use crate::channel::zone::layout::QUEUED;
use crate::channel::zone::log::Uncopied;

/// On which terms a channel may be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Whether the channel is created if nobody has published to it yet.
    pub create: bool,
    /// Subscribers that the channel may have in all workers; 0: no limit.
    pub max_subscribers: u32,
}

/// Why a channel was not subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeError {
    /// Nobody has published to it.
    Missing,
    /// It has as many subscribers as it may have.
    Full,
    /// There is no room for it in the zone.
    NoRoom,
    /// A subscription is to no channel, or to more than a position can name.
    Channels,
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
            Self::Channels => f.write_str("subscription to no channel or to too many"),
            Self::NoRoom => f.write_str("no room for another channel in the zone"),
            Self::Corrupt => Corrupt.fmt(f),
        }
    }
}

impl std::error::Error for SubscribeError {}

/// A subscriber has been added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// The channel.
    pub channel: Handle,
    /// What this worker calls it: the token that was offered if this is its first subscriber here.
    pub token: Token,
    /// Whether it is. News begin with the message after `window` then.
    pub first: bool,
    /// What the channel has now.
    pub window: Window,
}

impl<L: Lock> Store<L> {
    /// Adds a subscriber. `offer` names the channel if this worker has no subscriber of it yet.
    pub fn subscribe(
        &self,
        key: Key<'_>,
        slot: Slot,
        offer: Token,
        terms: Terms,
        now: Now,
    ) -> Result<Subscribed, SubscribeError> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let found = memory.find(key, hash)?;
            if !terms.create {
                let published = match found {
                    Some(cell) => memory.record(cell)?.upcoming.get() > 1,
                    None => false,
                };
                if !published {
                    return Ok(Err(SubscribeError::Missing));
                }
            }
            let channel = match found {
                Some(cell) => {
                    memory.trim(cell, clock, 0, Uncopied::Keep, MOST_DROPS)?;
                    cell
                }
                None => {
                    if !memory.make_room(key.cells(), None, clock)? {
                        return Ok(Err(SubscribeError::NoRoom));
                    }
                    memory.create(key, hash, clock)?
                }
            };
            if terms.max_subscribers > 0 && memory.subscribers(channel)? >= terms.max_subscribers {
                return Ok(Err(SubscribeError::Full));
            }
            let record = memory.record(channel)?;
            let interest = match memory.interest_of(channel, slot.0)? {
                Some(interest) => interest,
                None => {
                    let vacant = match memory.vacant_interest(channel)? {
                        None => {
                            record.touched.set(clock);
                            if !memory.make_room(1, Some(channel), clock)? {
                                return Ok(Err(SubscribeError::NoRoom));
                            }
                            memory.add_interest_cell(channel)?;
                            memory.vacant_interest(channel)?
                        }
                        vacant => vacant,
                    };
                    let interest = vacant.ok_or(Corrupt)?;
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
            record.requested.set(clock.max(1));
            record.touched.set(clock);
            Ok(Ok(Subscribed {
                channel: Handle { cell: channel, epoch: Epoch(record.epoch.get()) },
                token: Token(interest.token.get()),
                first,
                window: window(memory, record)?,
            }))
        })?
    }

    /// Takes a subscriber away. Nothing happens if the channel is gone.
    pub fn unsubscribe(&self, channel: Handle, slot: Slot, now: Now) -> Result<(), Corrupt> {
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some(record) = memory.same(channel.cell, channel.epoch.0) else { return Ok(()) };
            let Some(interest) = memory.interest_of(channel.cell, slot.0)? else { return Ok(()) };
            interest.count.sub(1);
            record.requested.set(clock.max(1));
            record.touched.set(clock);
            if interest.count.get() == 0 {
                if interest.slot.get() & QUEUED == 0 {
                    interest.slot.set(0);
                }
                memory.settle(channel.cell, clock, MOST_DROPS)?;
            }
            Ok(())
        })
    }
}
