// SPDX-License-Identifier: Apache-2.0

//! The channels of a request that waits for messages, and the program behind them.

use crate::channel::fanout::{Batch, Next, SubscriberId};
use crate::channel::store::{Budget, ReadError};
use crate::nginx::channel::hub;
use crate::nginx::shared::Membership;
use crate::session::shared::State;
use crate::session::subscriber::Source;

/// A subscription, which ends when this is dropped; then its program is left.
pub struct ChannelSource {
    id: SubscriberId,
    membership: Option<Membership>,
}

impl ChannelSource {
    /// A subscription that has begun.
    pub fn new(id: SubscriberId) -> Self {
        ChannelSource { id, membership: None }
    }

    /// The program that its subscribers share.
    pub fn share(&mut self, membership: Membership) {
        self.membership = Some(membership);
    }
}

impl Source for ChannelSource {
    fn serve(&mut self, limit: Budget, serve: impl FnOnce(&Batch) -> usize) -> Option<Result<Next, ReadError>> {
        hub::with(|hub| hub.serve(self.id, limit, serve))
    }

    fn position(&self) -> Option<String> {
        hub::with(|hub| hub.position(self.id)).flatten()
    }

    fn take_losses(&mut self) -> Option<u64> {
        hub::with(|hub| hub.take_losses(self.id)).flatten()
    }

    fn block(&mut self) {
        hub::with(|hub| hub.block(self.id));
    }

    fn unblock(&mut self) {
        hub::with(|hub| hub.unblock(self.id));
    }

    fn retry(&mut self) {
        hub::retry(self.id);
    }

    fn has_news(&self) -> bool {
        hub::with(|hub| hub.has_news()) == Some(true)
    }

    fn program(&self) -> Option<State> {
        self.membership.as_ref().map(Membership::state)
    }

    fn look_again(&mut self) {
        if let Some(membership) = &self.membership {
            membership.look_later();
        }
    }
}

impl Drop for ChannelSource {
    fn drop(&mut self) {
        hub::with(|hub| hub.unsubscribe(self.id));
    }
}
