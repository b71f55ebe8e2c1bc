// SPDX-License-Identifier: Apache-2.0

//! Coming and going of subscribers.

use std::rc::Rc;

use smallvec::SmallVec;

use super::local::{Local, LocalSubscriber};
use super::subscriber::{Membership, Subscriber};
use super::{FanOut, SLICE, SubscribeOptions, SubscriberId};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::position::{Asked, MAX_POSITIONS, MOST_LISTED, Window, begin};
use crate::channel::store::{Key, Log, Now, Slot, SubscribeError, Terms, Token};

impl FanOut {
    /// Adds a subscriber. It is blocked at first. [`next`](Self::next) names its `listener` when something is there for it.
    pub fn subscribe<L: Lock>(
        &mut self,
        log: Log<'_, L>,
        slot: Slot,
        options: &SubscribeOptions<'_>,
        listener: usize,
        now: Now,
    ) -> Result<SubscriberId, SubscribeError> {
        if options.keys.is_empty() || options.keys.len() > MAX_POSITIONS {
            return Err(SubscribeError::Channels);
        }
        let place = self.subscribers.next_place().ok_or(SubscribeError::NoRoom)?;
        let mut memberships: SmallVec<[Membership; 1]> = SmallVec::with_capacity(options.keys.len());
        let mut windows: SmallVec<[Window; 1]> = SmallVec::with_capacity(options.keys.len());
        for &key in options.keys {
            match self.join(log, slot, key, options.terms, place.index, memberships.len(), now) {
                Ok((membership, window)) => {
                    if options.form.needs_channel()
                        && let Some((_, local)) = self.channels.at(membership.channel.0)
                        && local.name.is_empty()
                    {
                        local.name = key.id().into();
                    }
                    if memberships.iter().any(|other| other.channel == membership.channel) {
                        // An id that is named twice is one channel.
                        self.leave(log, slot, membership, now)?;
                        continue;
                    }
                    memberships.push(membership);
                    windows.push(window);
                }
                Err(error) => {
                    for membership in memberships {
                        self.leave(log, slot, membership, now)?;
                    }
                    return Err(error);
                }
            }
        }
        let many = memberships.len() > MOST_LISTED;
        if many {
            self.zone = log.identity()?;
        }
        if let Asked::Cut(cut) = options.asked
            && cut.zone == log.identity()?
        {
            for (membership, window) in memberships.iter().zip(&mut windows) {
                let named = cut.named.iter().any(|id| id.epoch == window.epoch);
                let handle = self.channels.by_index(membership.channel.0).map(|local| local.handle);
                if let Some(handle) = handle.filter(|_| !named)
                    && let Ok((after, missing)) = log.after(handle, cut.serial)
                {
                    (window.cut, window.missing) = (Some(after), missing);
                }
            }
        }
        let beginnings = begin(&windows, options.asked, options.start);
        for (membership, beginning) in memberships.iter_mut().zip(&beginnings) {
            membership.next = beginning.next;
            membership.delivered = beginning.delivered;
            membership.lost = beginning.gap.map(|gap| gap.lost);
            membership.replaced = beginning.gap.is_some_and(|gap| gap.replaced);
        }
        let mut subscriber =
            Subscriber::new(listener, Rc::clone(options.form), options.on_gap, options.allowance, memberships);
        if many {
            subscriber.cut = self.first_cut(log, slot, options.asked, subscriber.memberships_mut(), &windows)?;
        }
        self.subscribers.insert(subscriber).map(SubscriberId).ok_or(SubscribeError::NoRoom)
    }

    /// Where the positions of a new subscriber may be cut. Channels that have something for it are named until it has got that,
    /// unless they go on after the cut that it came with.
    fn first_cut<L: Lock>(
        &mut self,
        log: Log<'_, L>,
        slot: Slot,
        asked: &Asked,
        memberships: &mut [Membership],
        windows: &[Window],
    ) -> Result<u64, Corrupt> {
        for (membership, window) in memberships.iter_mut().zip(windows) {
            if window.cut.is_none() && membership.next < window.upcoming {
                membership.delivered = u64::MAX;
            }
        }
        if let Some(horizon) = log.horizon(slot)? {
            self.horizon = horizon;
        }
        Ok(match asked {
            Asked::Cut(cut) if cut.zone == self.zone => cut.serial,
            _ => self.horizon,
        })
    }

    /// Adds a member to a channel.
    #[allow(clippy::too_many_arguments)]
    fn join<L: Lock>(
        &mut self,
        log: Log<'_, L>,
        slot: Slot,
        key: Key<'_>,
        terms: Terms<'_>,
        subscriber: u32,
        which: usize,
        now: Now,
    ) -> Result<(Membership, Window), SubscribeError> {
        let offer = self.channels.next_place().ok_or(SubscribeError::NoRoom)?;
        let subscribed = log.subscribe(key, slot, Token(offer.index), terms, now)?;
        if subscribed.first {
            let head = subscribed.window.upcoming.previous();
            if self.channels.insert(Local::new(subscribed.channel, subscribed.window.epoch, head)).is_none() {
                log.unsubscribe(subscribed.channel, slot, subscribed.present, now)?;
                return Err(SubscribeError::NoRoom);
            }
        }
        let known = self.channels.at(subscribed.token.0).filter(|(_, local)| local.handle == subscribed.channel);
        let Some((_, local)) = known else {
            log.unsubscribe(subscribed.channel, slot, subscribed.present, now)?;
            return Err(SubscribeError::Corrupt);
        };
        if local.epoch != subscribed.window.epoch {
            // The worker has not heard of it, and what it has of the epoch before is nothing that this member could go on with.
            let Window { epoch, oldest, lineage, .. } = subscribed.window;
            self.replace(subscribed.token, epoch, oldest, &lineage);
        }
        let Some((_, local)) = self.channels.at(subscribed.token.0) else { return Err(SubscribeError::Corrupt) };
        let member = u32::try_from(local.members.len()).map_err(|_| SubscribeError::NoRoom)?;
        local.members.push(LocalSubscriber { subscriber, which: which as u32 });
        let membership = Membership {
            channel: subscribed.token,
            member,
            epoch: subscribed.window.epoch,
            next: subscribed.window.upcoming,
            lost: None,
            replaced: false,
            delivered: u64::MAX,
            turn: 0,
            present: subscribed.present,
        };
        Ok((membership, subscribed.window))
    }

    /// Takes a member away from a channel.
    fn leave<L: Lock>(&mut self, log: Log<'_, L>, slot: Slot, membership: Membership, now: Now) -> Result<(), Corrupt> {
        let Some((place, local)) = self.channels.at(membership.channel.0) else { return Ok(()) };
        let moved = local.remove_member(membership.member as usize);
        let (handle, deleted, empty) = (local.handle, local.deleted, local.members.is_empty());
        for (at, member) in moved.into_iter().flatten() {
            if let Some((_, subscriber)) = self.subscribers.at(member.subscriber)
                && let Some(membership) = subscriber.memberships_mut().get_mut(member.which as usize)
            {
                membership.member = at as u32;
            }
        }
        if empty && let Some(local) = self.channels.remove(place) {
            self.octets -= local.octets();
            if local.pass.is_some() {
                self.work.retain(|token| *token != membership.channel);
                self.slice = SLICE;
            }
        }
        if deleted {
            return Ok(());
        }
        // A damaged zone is repaired by the second attempt.
        let leave = || log.unsubscribe(handle, slot, membership.present, now);
        leave().or_else(|Corrupt| leave())
    }

    /// Takes a subscriber away. Nothing happens if it has gone already.
    pub fn unsubscribe<L: Lock>(
        &mut self,
        log: Log<'_, L>,
        slot: Slot,
        id: SubscriberId,
        now: Now,
    ) -> Result<(), Corrupt> {
        let Some(subscriber) = self.subscribers.remove(id.0) else { return Ok(()) };
        let mut left = Ok(());
        for membership in subscriber.memberships() {
            left = left.and(self.leave(log, slot, *membership, now));
        }
        left
    }
}
