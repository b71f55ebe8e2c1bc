// SPDX-License-Identifier: Apache-2.0

//! From the zone to the subscribers of one worker, without any I/O.
//!
//! A woken worker [collects](FanOut::collect): each new message is copied out of the zone once. Then it asks for the
//! [next](FanOut::next) subscriber that something is there for, [looks](FanOut::peek) at what it is to be sent, writes as
//! much of that as the socket takes, and [advances](FanOut::advance) the subscriber by what was begun. A subscriber is a
//! cursor in each of its channels; while its socket takes nothing it is [blocked](FanOut::block) and costs nothing. When
//! it goes on, its messages come from this worker's memory if it is a little behind, and from the zone if it is more.
//!
//! All of this is done in small steps, so that the worker can do other things between any two of them.

mod batch;
mod joining;
mod local;
mod peek;
mod place;
mod rate;
mod shared;
mod slab;
mod subscriber;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;

use super::lock::Lock;
use super::position::{Asked, Epoch, Lineage, Offset, Start, join};
use super::store::{Budget, Key, Log, News, Now, Presences, ReadError, Slot, Terms, Token};
use super::wire::WireForm;
pub use batch::{Batch, Item};
use local::{Local, LocalSubscriber};
use place::Place;
use rate::Held;
pub use rate::{Allowance, MOST as MOST_RATE, Rate};
pub use shared::{Buffer, Shared};
use slab::Slab;
use subscriber::{Membership, Subscriber};

/// Members of one channel that are looked at before it is another channel's turn.
const SLICE: usize = 64;

/// How much memory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of newest messages that a channel keeps for subscribers that are a little behind.
    pub keep: usize,
    /// Octets of messages in all channels above which nothing more is copied out of the zone until some are sent.
    pub high: usize,
    /// How much is copied at once.
    pub copy: Budget,
}

impl Limits {
    /// Octets that one channel keeps for those that are behind, while all of them have `octets`. What the zone keeps can be
    /// read from there again; what it does not is kept longer here, as long as there is room.
    fn kept(&self, in_passing: bool, octets: usize) -> usize {
        if in_passing && octets <= self.high / 2 { self.keep.max(self.high / 4) } else { self.keep }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { keep: 64 << 10, high: 4 << 20, copy: Budget { messages: 256, octets: 256 << 10 } }
    }
}

/// What is done with a subscriber whose next message is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnGap {
    /// The subscriber is told of the gap, and goes on with what is there.
    Tell,
    /// The subscriber goes on with what is there.
    Skip,
    /// The subscriber is closed.
    Close,
}

/// A subscription.
#[derive(Debug, Clone, Copy)]
pub struct SubscribeOptions<'a> {
    /// The channels, 1 to [`MAX_POSITIONS`](super::position::MAX_POSITIONS).
    pub keys: &'a [Key<'a>],
    /// What the client has already.
    pub asked: &'a Asked,
    /// Where the subscription begins otherwise.
    pub start: Start,
    /// The terms of the subscription.
    pub terms: Terms<'a>,
    /// The form in which the subscriber gets its messages.
    pub form: &'a Rc<WireForm>,
    /// What is done when messages are lost.
    pub on_gap: OnGap,
    /// How many messages it gets in a time; of those beyond, it gets the newest.
    pub allowance: Option<&'a Allowance>,
}

/// A subscriber. An id is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(slab::Place);

/// What is there for a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// What the batch contains.
    Items,
    /// Nothing is to be sent.
    UpToDate,
    /// Something, which it gets later: it has had as much as its [`Allowance`] lets it have. [`FanOut::next`] will name it.
    Held,
    /// So many messages are lost, and the subscriber is to be closed.
    Lagging {
        /// 0: nobody knows.
        lost: u64,
    },
    /// One of its channels has been deleted, and it has got everything.
    Gone,
    /// It is to be closed, whatever it has got: somebody has said so.
    Expelled,
}

/// The subscribers of one worker and what is to be sent to them.
#[derive(Debug)]
pub struct FanOut {
    limits: Limits,
    channels: Slab<Local>,
    subscribers: Slab<Subscriber>,
    /// Channels with a pass under way.
    work: VecDeque<Token>,
    /// Subscribers that can take more.
    ready: VecDeque<SubscriberId>,
    /// Subscribers that may have nothing for now.
    held: Held,
    /// Subscribers that have said who they are, and have not taken everything at once.
    slow: VecDeque<SubscriberId>,
    /// Members left until the next channel's turn.
    slice: usize,
    /// Octets of messages in all channels.
    octets: usize,
    news: Vec<News>,
    /// Everything that was published up to this serial has been copied, of all channels with subscribers here.
    horizon: u64,
    /// The identity of the zone, once a subscriber has many channels.
    zone: u64,
}

impl FanOut {
    /// A worker without subscribers.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            channels: Slab::default(),
            subscribers: Slab::default(),
            work: VecDeque::new(),
            ready: VecDeque::new(),
            held: Held::default(),
            slow: VecDeque::new(),
            slice: SLICE,
            octets: 0,
            news: Vec::new(),
            horizon: 0,
            zone: 0,
        }
    }

    /// Copies what is new, unless too much is waiting to be sent. Whether there is more; it is to be asked for again when
    /// [`next`](Self::next) has nothing, or a little later.
    pub fn collect<L: Lock>(&mut self, log: Log<'_, L>, slot: Slot, now: Now) -> Result<bool, ReadError> {
        if self.octets >= self.limits.high {
            if !self.work.is_empty() || !self.ready.is_empty() {
                return Ok(true);
            }
            // Only those that are behind hold them: the others must not wait for clients that take nothing.
            self.shed();
        }
        let mut news = std::mem::take(&mut self.news);
        let before = self.horizon;
        let more = log.drain_to(slot, self.limits.copy, now, &mut news, &mut self.horizon);
        for news in news.drain(..) {
            match news {
                News::Message(token, message) => {
                    let Some((_, local)) = self.channels.at(token.0) else { continue };
                    self.octets -= local.octets();
                    local.head = message.id.offset;
                    local.in_passing = message.in_passing;
                    local.ring.push(Shared::new(message));
                    self.octets += local.octets();
                    self.start_pass(token);
                }
                News::Missing(token, head) => {
                    let Some((_, local)) = self.channels.at(token.0) else { continue };
                    local.head = head;
                    self.start_pass(token);
                }
                News::Replaced { token, epoch, oldest, lineage } => self.replace(token, epoch, oldest, &lineage),
                News::Deleted(token) => {
                    let Some((_, local)) = self.channels.at(token.0) else { continue };
                    local.deleted = true;
                    local.lived = before;
                    local.pass = local.pass.map(|_| 0);
                    self.start_pass(token);
                }
            }
        }
        self.news = news;
        more
    }

    /// A channel has begun another epoch, and has messages from `oldest` on: its subscribers go on there,
    /// and are told that nobody knows what they have lost.
    fn replace(&mut self, token: Token, epoch: Epoch, oldest: Offset, lineage: &Lineage) {
        let Some((_, local)) = self.channels.at(token.0) else { return };
        self.octets -= local.octets();
        local.ring.clear();
        local.backlog.clear();
        local.epoch = epoch;
        local.head = oldest.previous();
        local.pass_head = local.head;
        for member in &local.members {
            let Some((place, subscriber)) = self.subscribers.at(member.subscriber) else { continue };
            let Some(membership) = subscriber.memberships_mut().get_mut(member.which as usize) else { continue };
            // Whoever has come since then has begun in this epoch.
            if membership.epoch != epoch {
                membership.replace(epoch, oldest, lineage);
                if !subscriber.rests() && !subscriber.ready {
                    subscriber.ready = true;
                    self.ready.push_back(SubscriberId(place));
                }
            }
        }
    }

    fn start_pass(&mut self, token: Token) {
        let Some((_, local)) = self.channels.at(token.0) else { return };
        if local.pass.is_none() {
            local.pass = Some(0);
            local.pass_head = local.head;
            local.behind = false;
            self.work.push_back(token);
        }
    }

    /// The next subscriber that something may be there for, and its listener. Each of them is to be looked at until it is
    /// up to date, [blocked](Self::block) or put off ([`unblock`](Self::unblock)). `None`: there is nothing to do.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<(SubscriberId, usize)> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(subscriber) = self.subscribers.get_mut(id.0) {
                subscriber.ready = false;
                if !subscriber.rests() {
                    return Some((id, subscriber.listener));
                }
            }
        }
        while let Some(&token) = self.work.front() {
            let Some((_, local)) = self.channels.at(token.0) else {
                self.work.pop_front();
                continue;
            };
            let at = local.pass.unwrap_or(0);
            let Some(member) = local.members.get(at).copied() else {
                self.end_pass(token);
                continue;
            };
            if self.slice == 0 {
                self.slice = SLICE;
                self.work.rotate_left(1);
                continue;
            }
            self.slice -= 1;
            local.pass = Some(at + 1);
            let Some((place, subscriber)) = self.subscribers.at(member.subscriber) else { continue };
            let next = subscriber.memberships().get(member.which as usize).map(|membership| membership.next);
            let news = local.deleted || next.is_some_and(|next| next <= local.head);
            if news && subscriber.rests() {
                local.behind = true;
            } else if news {
                return Some((SubscriberId(place), subscriber.listener));
            }
        }
        None
    }

    /// All members have been looked at.
    fn end_pass(&mut self, token: Token) {
        self.work.pop_front();
        self.slice = SLICE;
        let Some((_, local)) = self.channels.at(token.0) else { return };
        self.octets -= local.octets();
        let keep = self.limits.kept(local.in_passing, self.octets);
        local.ring.trim(local.pass_head, if local.behind { keep } else { 0 });
        if !local.behind {
            local.backlog.clear();
        }
        self.octets += local.octets();
        local.pass = None;
        if local.head > local.pass_head {
            // More came in the meantime, which those before have not been offered.
            self.start_pass(token);
        }
    }

    /// When the next subscriber that was [held](Next::Held) may have something, by the clock of [`Now`].
    pub fn held_until(&self) -> Option<u64> {
        self.held.next()
    }

    /// Lets those go on that were held until now: [`next`](Self::next) will name them.
    pub fn let_go(&mut self, now: Now) {
        while let Some(id) = self.held.pop(now.clock) {
            // It may have gone.
            let Some(subscriber) = self.subscribers.get_mut(id.0) else { continue };
            if let Some(throttle) = &mut subscriber.throttle {
                throttle.is_held = false;
            }
            if !subscriber.blocked && !subscriber.ready {
                subscriber.ready = true;
                self.ready.push_back(id);
            }
        }
    }

    /// Subscribers of this worker are to be closed: [`next`](Self::next) will name them.
    pub fn expel<L: Lock>(&mut self, presence: Presences<'_, L>) {
        for index in 0..self.subscribers.places() {
            let Some((place, subscriber)) = self.subscribers.at(index) else { continue };
            let mut named = subscriber.memberships().iter().filter_map(|membership| membership.present);
            if subscriber.expelled || !named.any(|present| presence.is_expelled(present)) {
                continue;
            }
            subscriber.expelled = true;
            // It is looked at whatever it waits for.
            subscriber.blocked = false;
            if let Some(throttle) = &mut subscriber.throttle {
                throttle.is_held = false;
            }
            if !subscriber.ready {
                subscriber.ready = true;
                self.ready.push_back(SubscriberId(place));
            }
        }
    }

    /// Whether [`next`](Self::next) has something to do.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.work.is_empty()
    }

    /// A subscriber takes nothing any more, until it is [unblocked](Self::unblock).
    pub fn block(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.subscribers.get_mut(id.0) {
            subscriber.blocked = true;
            self.lets_wait(id);
        }
    }

    /// A subscriber takes more: [`next`](Self::next) will name it. Also for one that has been served enough for one turn.
    pub fn unblock(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.subscribers.get_mut(id.0) {
            subscriber.blocked = false;
            if !subscriber.ready {
                subscriber.ready = true;
                self.ready.push_back(id);
            }
            self.lets_wait(id);
        }
    }

    /// Messages wait for this subscriber.
    fn lets_wait(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.get_mut(id.0) else { return };
        let mut is_named = false;
        for membership in subscriber.memberships() {
            is_named |= membership.present.is_some();
            if let Some((_, local)) = self.channels.at(membership.channel.0) {
                local.behind = true;
            }
        }
        if is_named && !subscriber.is_slow {
            subscriber.is_slow = true;
            self.slow.push_back(id);
        }
    }

    /// Tells of up to `most` subscribers how far behind they are: of those that have not taken everything at once since they were told of,
    /// the longest ago first. To be called from time to time: where the zone is damaged, the next time does it.
    pub fn tell_behind<L: Lock>(&mut self, presence: Presences<'_, L>, slot: Slot, most: usize) {
        for _ in 0..most.min(self.slow.len()) {
            let Some(id) = self.slow.pop_front() else { break };
            // It may have gone.
            let Some(subscriber) = self.subscribers.get_mut(id.0) else { continue };
            let mut is_slow = false;
            for membership in subscriber.memberships() {
                let Some(present) = membership.present else { continue };
                let head = self.channels.by_index(membership.channel.0).map_or(Offset(0), |local| local.head);
                let behind = head.next().0.saturating_sub(membership.next.0);
                let is_told = presence.set_behind(slot, present, behind).is_ok();
                is_slow |= behind > 0 || !is_told;
            }
            subscriber.is_slow = is_slow;
            if is_slow {
                self.slow.push_back(id);
            }
        }
    }

    /// The serial up to which all that was published in the channels of a subscriber, and in none that has taken the place of one
    /// of them, has been copied.
    fn horizon_of(&self, subscriber: &Subscriber) -> u64 {
        let channels = subscriber.memberships().iter().filter_map(|it| self.channels.by_index(it.channel.0));
        channels.fold(self.horizon, |horizon, local| horizon.min(local.lived))
    }

    /// Where a subscriber is: what it has to say to go on from here. What is lost and has not been told is still before it.
    pub fn position(&self, id: SubscriberId) -> Option<String> {
        let subscriber = self.subscribers.get(id.0)?;
        if !subscriber.has_many() {
            return Some(join(subscriber.memberships().iter().map(Membership::here)));
        }
        let is_behind = |membership: &&Membership| {
            let head = self.channels.by_index(membership.channel.0).map_or(Offset(0), |local| local.head);
            membership.lost.is_none() && membership.next <= head
        };
        let behind = subscriber.memberships().iter().any(|membership| is_behind(&membership));
        let serial = if behind { subscriber.cut } else { subscriber.cut.max(self.horizon_of(subscriber)) };
        let places = subscriber.memberships().iter().map(|membership| Place {
            epoch: membership.epoch,
            here: membership.here(),
            untold: membership.lost.is_some(),
            delivered: membership.delivered,
        });
        Some(Place::cut(places, serial, self.zone))
    }

    /// Messages that a subscriber has lost and that it is told of in another way than by what it gets: it is not told
    /// again. `None` if there are none; 0 if nobody knows how many.
    pub fn take_losses(&mut self, id: SubscriberId) -> Option<u64> {
        let subscriber = self.subscribers.get_mut(id.0)?;
        let losses = subscriber.memberships_mut().iter_mut().filter_map(Membership::told);
        losses.reduce(|sum, lost| sum.saturating_add(lost))
    }

    /// Lets go of messages that nobody waits for any more. To be called from time to time.
    pub fn tidy(&mut self) {
        if self.octets == 0 {
            return;
        }
        let Self { channels, subscribers, limits, octets, .. } = self;
        for local in channels.iter_mut().filter(|local| local.pass.is_none() && local.octets() > 0) {
            let head = local.head;
            let waits = |member: &LocalSubscriber| {
                let subscriber = subscribers.by_index(member.subscriber);
                let membership = subscriber.and_then(|it| it.memberships().get(member.which as usize));
                membership.is_some_and(|membership| membership.next <= head)
            };
            let behind = local.members.iter().any(waits);
            *octets -= local.octets();
            local.ring.trim(head, if behind { limits.kept(local.in_passing, *octets) } else { 0 });
            local.backlog.clear();
            *octets += local.octets();
        }
    }

    /// Lets go of all messages that have been offered to everybody: who is behind reads the zone, or has lost them.
    fn shed(&mut self) {
        for local in self.channels.iter_mut().filter(|local| local.pass.is_none()) {
            self.octets -= local.octets();
            local.ring.clear();
            local.backlog.clear();
            self.octets += local.octets();
        }
    }

    /// Subscribers in this worker.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of messages that are kept for subscribers.
    pub fn octets(&self) -> usize {
        self.octets
    }
}
