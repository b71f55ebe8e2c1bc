// SPDX-License-Identifier: Apache-2.0

//! What is there for one subscriber.

use std::rc::Rc;

use super::batch::{Batch, Item};
use super::local::Local;
use super::place::Place;
use super::shared::{Buffer, Shared};
use super::slab::Slab;
use super::subscriber::{Membership, Subscriber};
use super::{FanOut, Next, OnGap, SubscriberId};
use crate::channel::lock::Lock;
use crate::channel::position::{Offset, join};
use crate::channel::store::{Budget, Log, Now, ReadError};
use crate::ws::Scratch;

/// How much is read at once for a subscriber that is behind.
const BACKLOG: Budget = Budget { messages: 64, octets: 64 << 10 };

/// What a channel has from a cursor on.
enum Found {
    /// The first message that is there, which may be a later one.
    Message(Rc<Shared>),
    /// Nothing before this offset.
    Nothing { next: Offset },
    /// The channel has been deleted, and there is nothing more.
    Gone,
}

impl FanOut {
    /// Looks at what is there for a subscriber: at most so many items and so many octets, but one if there is any. It stays
    /// there until the subscriber [advances](Self::advance).
    pub fn peek<L: Lock>(
        &mut self,
        log: Log<'_, L>,
        id: SubscriberId,
        limit: Budget,
        now: Now,
        scratch: &mut Scratch,
        batch: &mut Batch,
    ) -> Result<Next, ReadError> {
        let mut turns = None;
        loop {
            let next = self.peek_once(log, id, limit, now, scratch, batch)?;
            if !(batch.more_of_others && matches!(next, Next::UpToDate | Next::Gone)) {
                return Ok(next);
            }
            // The channel that had its turn has nothing any more, and another one has. Each has one turn.
            let subscriber = self.subscribers.get(id.0);
            let left = turns.get_or_insert_with(|| subscriber.map_or(0, |subscriber| subscriber.memberships().len()));
            if *left == 0 {
                return Ok(next);
            }
            *left -= 1;
        }
    }

    /// Whether a look would find nothing: the subscriber has all of its only channel. Most who have just come have nothing to get.
    pub fn has_everything(&self, id: SubscriberId) -> bool {
        let Some(subscriber) = self.subscribers.get(id.0) else { return false };
        let [membership] = subscriber.memberships() else { return false };
        let is_free = !subscriber.expelled && subscriber.throttle.is_none();
        is_free && has_all(subscriber, &self.channels, &[membership.next])
    }

    // As a call it would be a tenth of what a look costs, and there is one look for each delivery.
    #[inline(always)]
    fn peek_once<L: Lock>(
        &mut self,
        log: Log<'_, L>,
        id: SubscriberId,
        limit: Budget,
        now: Now,
        scratch: &mut Scratch,
        batch: &mut Batch,
    ) -> Result<Next, ReadError> {
        batch.clear();
        let many = self.subscribers.get(id.0).filter(|subscriber| subscriber.has_many());
        let mut order = Order { horizon: many.map_or(0, |subscriber| self.horizon_of(subscriber)), zone: self.zone };
        let Some(subscriber) = self.subscribers.get_mut(id.0) else { return Ok(Next::Gone) };
        if subscriber.expelled {
            return Ok(Next::Expelled);
        }
        let Paced { allowed, on_gap, conflates } = match pace(subscriber, &self.channels, now) {
            Pace::On(paced) => paced,
            Pace::Hold(until) => {
                if let Some(due) = until {
                    self.held.push(due, id);
                    self.lets_wait(id);
                }
                return Ok(Next::Held);
            }
        };
        let turn = if conflates { next_turn(subscriber, &self.channels, allowed) } else { None };
        if turn.is_some() {
            // The other channels have messages that are older: nothing is said of those.
            order.horizon = order.horizon.min(subscriber.cut);
        }
        let most = turn.map_or(allowed, |turn| turn.messages);
        let limit = Budget { messages: limit.messages.min(most), ..limit };
        batch.cursors.extend(subscriber.memberships().iter().map(|membership| membership.next));
        batch.delivered.extend(subscriber.memberships().iter().map(|membership| membership.delivered));
        let mut gone = false;
        while batch.items().len() < limit.messages.max(1) && (batch.items().is_empty() || batch.octets() < limit.octets)
        {
            let mut first: Option<(usize, Rc<Shared>)> = None;
            for (which, membership) in subscriber.memberships_mut().iter_mut().enumerate() {
                let cursor = batch.cursors.get(which).copied().unwrap_or(membership.next);
                let Some((_, local)) = self.channels.at(membership.channel.0) else {
                    gone = true;
                    continue;
                };
                if turn.is_some_and(|turn| turn.which != which) && cursor <= local.head {
                    // It is not its turn.
                    batch.more_of_others = true;
                    continue;
                }
                let before = local.octets();
                let found = find(log, local, cursor, now)?;
                self.octets = self.octets - before + local.octets();
                let next = match &found {
                    Found::Message(shared) => shared.message.id.offset,
                    Found::Nothing { next } => *next,
                    Found::Gone => cursor,
                };
                if next > cursor {
                    if cursor != membership.next {
                        // It first gets what is there before the gap.
                        batch.more = true;
                        return Ok(Next::Items);
                    }
                    membership.skip_to(next);
                    if let Some(cursor) = batch.cursors.get_mut(which) {
                        *cursor = next;
                    }
                    if let Some(delivered) = batch.delivered.get_mut(which) {
                        *delivered = membership.delivered;
                    }
                }
                match found {
                    Found::Message(shared) => {
                        let serial = shared.message.serial;
                        if first.as_ref().is_none_or(|(_, other)| serial < other.message.serial) {
                            first = Some((which, shared));
                        }
                    }
                    Found::Nothing { .. } => {}
                    Found::Gone => gone = true,
                }
            }
            let first_serial = first.as_ref().map(|(_, shared)| shared.message.serial);
            match tell_gap(subscriber, on_gap, &self.channels, batch, order, first_serial) {
                Gap::None => {}
                Gap::Close(_) | Gap::Tell(_) if !batch.items().is_empty() => {
                    batch.more = true;
                    break;
                }
                Gap::Close(lost) => return Ok(Next::Lagging { lost }),
                Gap::Tell(item) => {
                    batch.push(item);
                    batch.more = true;
                    break;
                }
            }
            let Some((which, shared)) = first else { break };
            push_message(subscriber, name(subscriber, &self.channels, which), which, shared, scratch, batch, order);
            batch.more = batch.items().len() >= limit.messages.max(1) || batch.octets() >= limit.octets;
            if has_all(subscriber, &self.channels, &batch.cursors) {
                break;
            }
        }
        if let Some(turn) = turn.filter(|_| batch.items().is_empty()) {
            had_turn(subscriber, turn.which);
        }
        batch.more |= gone || batch.more_of_others;
        Ok(match (batch.items().is_empty(), gone) {
            (false, _) => Next::Items,
            (true, true) => Next::Gone,
            (true, false) => Next::UpToDate,
        })
    }

    /// A subscriber has got, or has begun to get, the first so many items of what it was shown last.
    #[inline]
    pub fn advance(&mut self, id: SubscriberId, batch: &Batch, items: usize) {
        let Some(subscriber) = self.subscribers.get_mut(id.0) else { return };
        if let Some(throttle) = &mut subscriber.throttle {
            throttle.spend(batch.items().iter().take(items).filter(|item| item.message.is_some()).count());
            for item in batch.items().iter().take(items).filter(|item| item.message.is_some()) {
                had_turn(subscriber, item.which);
            }
        }
        for item in batch.items().iter().take(items) {
            if let Some(membership) = subscriber.memberships_mut().get_mut(item.which) {
                membership.next = item.next;
                membership.delivered = item.delivered;
                if item.told {
                    membership.told();
                }
            }
            subscriber.cut = item.cut;
        }
    }
}

/// What a subscriber may have now.
struct Paced {
    /// So many messages.
    allowed: usize,
    /// What is done with it when messages are lost.
    on_gap: OnGap,
    /// It goes on with the newest messages.
    conflates: bool,
}

/// Whether a subscriber may have something now.
enum Pace {
    On(Paced),
    /// Nothing before this time; `None` if that is known already.
    Hold(Option<u64>),
}

/// What its rate, if it has one, lets a subscriber have.
#[inline]
fn pace(subscriber: &mut Subscriber, channels: &Slab<Local>, now: Now) -> Pace {
    match &subscriber.throttle {
        Some(_) => pace_of_rate(subscriber, channels, now),
        None => Pace::On(Paced { allowed: usize::MAX, on_gap: subscriber.on_gap, conflates: false }),
    }
}

fn pace_of_rate(subscriber: &mut Subscriber, channels: &Slab<Local>, now: Now) -> Pace {
    let on_gap = subscriber.on_gap;
    let Some(throttle) = &mut subscriber.throttle else {
        return Pace::On(Paced { allowed: usize::MAX, on_gap, conflates: false });
    };
    let allowed = throttle.allowed(now.clock);
    if allowed == 0 {
        let (is_known, due) = (throttle.is_held, throttle.due());
        let is_waited_for = |membership: &Membership| {
            channels.by_index(membership.channel.0).is_some_and(|local| membership.next <= local.head)
        };
        if !subscriber.memberships().iter().any(is_waited_for) {
            // There is no message; what is told otherwise needs no leave.
            return Pace::On(Paced { allowed, on_gap, conflates: false });
        }
        if let Some(throttle) = &mut subscriber.throttle {
            (throttle.is_held, throttle.conflates) = (true, true);
        }
        return Pace::Hold((!is_known).then_some(due));
    }
    let conflates = throttle.conflates;
    // Whoever does not get every message is not closed because one of them was evicted meanwhile.
    let on_gap = if conflates && on_gap == OnGap::Close { OnGap::Skip } else { on_gap };
    Pace::On(Paced { allowed, on_gap, conflates })
}

/// Which channel of a subscriber goes on.
#[derive(Debug, Clone, Copy)]
struct Turn {
    which: usize,
    /// With how many messages.
    messages: usize,
}

/// Chooses the channel that goes on: of those that have messages the one whose turn was the longest time ago, however busy the others are.
/// It leaves out all messages but its newest ones; the others leave nothing out before it is their turn, so that a gap is told where a
/// message follows. `None` if no channel has messages: the subscriber has everything.
fn next_turn(subscriber: &mut Subscriber, channels: &Slab<Local>, allowed: usize) -> Option<Turn> {
    let head = |membership: &Membership| {
        let local = channels.by_index(membership.channel.0)?;
        (membership.next <= local.head).then_some(local.head)
    };
    let tells = subscriber.on_gap == OnGap::Tell;
    let chosen = subscriber.throttle.as_ref()?.chosen;
    let waiting = subscriber.memberships().iter().filter(|membership| head(membership).is_some()).count();
    let messages = (allowed / waiting.max(1)).max(1);
    let known = chosen.filter(|which| subscriber.memberships().get(*which).is_some_and(|known| head(known).is_some()));
    let which = known.or_else(|| {
        let all = subscriber.memberships().iter().enumerate();
        let waiting = all.filter(|(_, membership)| head(membership).is_some());
        waiting.min_by_key(|(_, membership)| membership.turn).map(|(which, _)| which)
    });
    if known.is_none()
        && let Some(membership) = which.and_then(|which| subscriber.memberships_mut().get_mut(which))
        && let Some(head) = head(membership)
    {
        membership.conflate_to(Offset(head.next().0.saturating_sub(messages as u64)), tells);
    }
    let throttle = subscriber.throttle.as_mut()?;
    (throttle.conflates, throttle.chosen) = (which.is_some(), which);
    which.map(|which| Turn { which, messages })
}

/// A channel of a subscriber with a rate has had its turn: it is the last one in the line.
fn had_turn(subscriber: &mut Subscriber, which: usize) {
    let Some(throttle) = &mut subscriber.throttle else { return };
    throttle.turns += 1;
    throttle.chosen = throttle.chosen.filter(|chosen| *chosen != which);
    let turn = throttle.turns;
    if let Some(membership) = subscriber.memberships_mut().get_mut(which) {
        membership.turn = turn;
    }
}

/// Whether a look would find nothing more: most messages are the only one that is new in the only channel of a subscriber.
fn has_all(subscriber: &Subscriber, channels: &Slab<Local>, cursors: &[Offset]) -> bool {
    let ([membership], [cursor]) = (subscriber.memberships(), cursors) else { return false };
    membership.lost.is_none()
        && channels.by_index(membership.channel.0).is_some_and(|local| *cursor > local.head && !local.deleted)
}

/// What is to be done about losses that the subscriber does not know of.
enum Gap {
    None,
    Close(u64),
    Tell(Item),
}

/// What is known of the order of all messages.
#[derive(Debug, Clone, Copy)]
struct Order {
    /// Everything up to this serial has been copied.
    horizon: u64,
    /// The zone whose order it is.
    zone: u64,
}

/// The id of one of the subscriber's channels, for the forms that contain it.
fn name(subscriber: &Subscriber, channels: &Slab<Local>, which: usize) -> Option<Rc<[u8]>> {
    let membership = subscriber.memberships().get(which).filter(|_| subscriber.form.needs_channel())?;
    channels.by_index(membership.channel.0).map(|local| Rc::clone(&local.name))
}

fn tell_gap(
    subscriber: &mut Subscriber,
    on_gap: OnGap,
    channels: &Slab<Local>,
    batch: &Batch,
    order: Order,
    first: Option<u64>,
) -> Gap {
    let losses = subscriber.memberships().iter().enumerate();
    let Some((which, lost)) = losses.filter_map(|(which, membership)| Some((which, membership.lost?))).next() else {
        return Gap::None;
    };
    match on_gap {
        OnGap::Skip => {
            for membership in subscriber.memberships_mut() {
                membership.told();
            }
            Gap::None
        }
        OnGap::Close => Gap::Close(lost),
        OnGap::Tell => {
            let next = batch.cursors.get(which).copied().unwrap_or(Offset(1));
            // Everything that is there comes after it.
            let cut = first.map_or(order.horizon, |first| order.horizon.min(first.saturating_sub(1)));
            let id = position(subscriber, batch, which, cut, order);
            let channel = name(subscriber, channels, which);
            match subscriber.form.gap(lost, &id, channel.as_deref().unwrap_or_default()) {
                // It goes with the next message.
                None => Gap::None,
                Some(encoded) => Gap::Tell(Item {
                    buffer: Buffer::Made(Rc::new(encoded)),
                    message: None,
                    lost: None,
                    channel: channel.filter(|_| subscriber.form.names_channel()),
                    which,
                    next,
                    delivered: batch.delivered.get(which).copied().unwrap_or(u64::MAX),
                    cut,
                    told: true,
                }),
            }
        }
    }
}

fn push_message(
    subscriber: &Subscriber,
    channel: Option<Rc<[u8]>>,
    which: usize,
    shared: Rc<Shared>,
    scratch: &mut Scratch,
    batch: &mut Batch,
    order: Order,
) {
    // The message is the first of all that are there.
    let serial = shared.message.serial;
    let cut = order.horizon.min(serial);
    let next = shared.message.id.offset.next();
    let here = batch.cursors.get(which).copied();
    let membership = subscriber.memberships().get(which);
    // Only the first message after a gap has it before itself.
    let lost = membership.filter(|membership| Some(membership.next) == here).and_then(|membership| membership.lost);
    let named = channel.as_deref().unwrap_or_default();
    let buffer = if subscriber.form.has_id() && subscriber.memberships().len() > 1 {
        if let Some(cursor) = batch.cursors.get_mut(which) {
            *cursor = next;
        }
        if let Some(delivered) = batch.delivered.get_mut(which) {
            *delivered = serial;
        }
        let id = position(subscriber, batch, which, cut, order);
        Buffer::Made(Rc::new(subscriber.form.message(&shared.message, &id, named, scratch)))
    } else {
        shared.form(&subscriber.form, named, scratch)
    };
    let channel = channel.filter(|_| subscriber.form.names_channel());
    batch.push(Item { buffer, message: Some(shared), lost, channel, which, next, delivered: serial, cut, told: true });
}

/// Where the subscriber is after the batch and one more item, which tells it what it has lost in the channel `told`. What it has
/// lost in its other channels and does not know of is still before it there.
fn position(subscriber: &Subscriber, batch: &Batch, told: usize, cut: u64, order: Order) -> String {
    let memberships = subscriber.memberships().iter().zip(&batch.cursors).zip(&batch.delivered).enumerate();
    let places = memberships.map(|(which, ((membership, next), delivered))| {
        let untold = which != told && *next == membership.next && membership.lost.is_some();
        let here = if untold { membership.here() } else { Some(membership.position(*next)) };
        Place { epoch: membership.epoch, here, untold, delivered: *delivered }
    });
    if subscriber.has_many() { Place::cut(places, cut, order.zone) } else { join(places.map(|place| place.here)) }
}

/// Finds the first message of a channel from a cursor on: among those that this worker has, or in the zone.
fn find<L: Lock>(log: Log<'_, L>, local: &mut Local, cursor: Offset, now: Now) -> Result<Found, ReadError> {
    if cursor > local.head {
        return Ok(if local.deleted { Found::Gone } else { Found::Nothing { next: cursor } });
    }
    if let Some(shared) = local.ring.get(cursor).or_else(|| local.backlog.get(cursor)) {
        return Ok(Found::Message(Rc::clone(shared)));
    }
    find_in_zone(log, local, cursor, now)
}

/// Finds a message that this worker does not have. Apart from [`find`], which is done for every delivery.
#[inline(never)]
fn find_in_zone<L: Lock>(log: Log<'_, L>, local: &mut Local, cursor: Offset, now: Now) -> Result<Found, ReadError> {
    local.backlog.clear();
    let mut messages = Vec::new();
    let read = match log.read(local.handle, cursor, BACKLOG, now, &mut messages) {
        Ok(read) => Some(read),
        Err(ReadError::Gone) => None,
        Err(error) => return Err(error),
    };
    if read.is_some_and(|read| read.epoch != local.epoch) {
        // The worker will hear of the other epoch, and those who are behind go on in it then.
        return Ok(Found::Nothing { next: cursor });
    }
    for message in messages {
        local.backlog.push(Shared::new(message));
    }
    // The zone may have dropped what this worker still has.
    let here = local.ring.first().filter(|first| *first > cursor);
    let there = local.backlog.first();
    let first = match (here, there) {
        (Some(here), Some(there)) => Some(here.min(there)),
        (here, there) => here.or(there),
    };
    let shared = first.and_then(|first| local.ring.get(first).or_else(|| local.backlog.get(first)));
    Ok(match (shared, read) {
        (Some(shared), _) => Found::Message(Rc::clone(shared)),
        (None, Some(read)) => Found::Nothing { next: read.next.max(local.head.next()) },
        (None, None) => Found::Gone,
    })
}
