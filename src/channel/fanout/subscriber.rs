// SPDX-License-Identifier: Apache-2.0

//! One subscriber: a cursor in each of its channels.

use std::rc::Rc;

use smallvec::SmallVec;

use super::OnGap;
use super::rate::{Allowance, Throttle};
use crate::channel::position::{Epoch, Lineage, MOST_LISTED, MessageId, Offset};
use crate::channel::store::{Present, Token};
use crate::channel::wire::WireForm;

/// A subscriber's place in a channel.
#[derive(Debug, Clone, Copy)]
pub struct Membership {
    /// The channel.
    pub channel: Token,
    /// Its place among the members of the channel.
    pub member: u32,
    /// The channel's epoch.
    pub epoch: Epoch,
    /// The next message.
    pub next: Offset,
    /// Messages before that which are lost and of which nobody has told it. Invariant: until it was told, no position that is
    /// given to the client is behind them.
    pub lost: Option<u64>,
    /// The lost messages are of a channel that this one has replaced: no position in this channel is before them.
    pub replaced: bool,
    /// No message before the next one has a greater serial.
    pub delivered: u64,
    /// When it had its turn last among the channels of a subscriber that has a rate: a later one has a greater number.
    pub turn: u64,
    /// What it is known by among those who are there.
    pub present: Option<Present>,
}

impl Membership {
    /// Its position if `next` is what it gets next.
    pub fn position(&self, next: Offset) -> MessageId {
        MessageId { epoch: self.epoch, offset: next.previous() }
    }

    /// Its position, before all losses that it does not know of. `None`: that is in no channel that is still there.
    pub fn here(&self) -> Option<MessageId> {
        let known = self.lost.is_none() || !self.replaced;
        known.then(|| self.position(Offset(self.next.0.saturating_sub(self.lost.unwrap_or(0)))))
    }

    /// The member was told what it has lost.
    pub fn told(&mut self) -> Option<u64> {
        self.replaced = false;
        self.lost.take()
    }

    /// The member goes on in another epoch, of which there are messages from `oldest` on. What it has lost nobody knows; it has had
    /// nothing of what was published in the new epoch.
    pub fn replace(&mut self, epoch: Epoch, oldest: Offset, lineage: &Lineage) {
        let had = lineage.had(MessageId { epoch: self.epoch, offset: self.next.previous() });
        self.epoch = epoch;
        self.next = had.next().max(oldest);
        self.lost = Some(0);
        self.replaced = true;
        self.delivered = u64::MAX;
    }

    /// Messages up to `next` are lost.
    pub fn skip_to(&mut self, next: Offset) {
        let lost = next.0.saturating_sub(self.next.0);
        if lost > 0 {
            self.lost = Some(self.lost.unwrap_or(0) + lost);
            self.next = next;
            // Nobody knows the serials of those that are lost.
            self.delivered = u64::MAX;
        }
    }

    /// It goes on with this message, and does not get those before it, which are there. `tells` where it is told of them.
    pub fn conflate_to(&mut self, next: Offset, tells: bool) {
        if tells {
            self.skip_to(next);
        } else if next > self.next {
            self.next = next;
            self.delivered = u64::MAX;
        }
    }
}

/// A subscriber, and how far it is in each of its channels.
#[derive(Debug)]
pub struct Subscriber {
    /// Most have one channel, which then needs no memory of its own.
    memberships: SmallVec<[Membership; 1]>,
    /// Who is to be told when something is there for it: a number of the caller's, which means nothing here. The caller's
    /// subscribers are not only sessions.
    pub listener: usize,
    /// The form in which the subscriber gets its messages.
    pub form: Rc<WireForm>,
    /// What is done when messages are lost.
    pub on_gap: OnGap,
    /// A serial with which its positions can be written as a [`Cut`](crate::channel::position::Cut): what it has still to get
    /// is after that, in all channels without untold losses.
    pub cut: u64,
    /// Whether the subscriber takes nothing at the moment.
    pub blocked: bool,
    /// Whether the subscriber is in the list of those that can take more.
    pub ready: bool,
    /// What it has used of its rate, if it has one.
    pub throttle: Option<Box<Throttle>>,
    /// It is to be closed.
    pub expelled: bool,
    /// It is in the list of those of whom it is told how far behind they are.
    pub is_slow: bool,
}

impl Subscriber {
    /// A blocked subscriber.
    pub fn new(
        listener: usize,
        form: Rc<WireForm>,
        on_gap: OnGap,
        allowance: Option<&Allowance>,
        memberships: SmallVec<[Membership; 1]>,
    ) -> Self {
        let throttle = allowance.map(|allowance| Box::new(Throttle::new(allowance.clone())));
        Self {
            memberships,
            listener,
            form,
            on_gap,
            cut: 0,
            blocked: true,
            ready: false,
            throttle,
            expelled: false,
            is_slow: false,
        }
    }

    /// Whether nothing is sent to it for now, whatever is there: its socket takes nothing, or it has had enough.
    pub fn rests(&self) -> bool {
        self.blocked || self.throttle.as_ref().is_some_and(|throttle| throttle.is_held)
    }

    /// Whether its positions are a [`Cut`](crate::channel::position::Cut).
    pub fn has_many(&self) -> bool {
        self.memberships().len() > MOST_LISTED
    }

    /// Its places.
    pub fn memberships(&self) -> &[Membership] {
        &self.memberships
    }

    /// Its places.
    pub fn memberships_mut(&mut self) -> &mut [Membership] {
        &mut self.memberships
    }
}
