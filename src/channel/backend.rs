// SPDX-License-Identifier: Apache-2.0

//! What stands behind the zone: the seam between those who publish and subscribe, and whatever keeps the channels of a location.
//!
//! The zone is what subscribers are served from, always and in every worker. A [`Backend`] is whoever has the channel itself: the zone
//! alone, or a server that several machines share. It [answers](Answer) now, as the zone alone always does, or later.
//! Nobody who asks knows which backend it is, and nobody relies on the order in which answers come.
//!
//! There is no operation that closes a channel: which channels have subscribers is counted in the zone, where a backend looks.

mod answer;

pub use answer::{Answer, Failure, Outcome, Pending, Promise, gather, later};

use super::memory::Corrupt;
use super::message::Publication;
use super::position::{Epoch, MessageId};
use super::store::{
    GroupChange, GroupInfo, GroupKey, GroupLimits, History, Info, Key, Listed, Page, Policy, Presence, PublishError,
    ReadError, SubscribeError,
};

/// What a publisher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishReply {
    /// The id of the message; of several channels that of the first one.
    pub id: MessageId,
    /// The channel; of several channels the sums.
    pub info: Info,
}

impl PublishReply {
    /// This reply, and that of another channel to which the same was published.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        PublishReply { id: self.id, info: self.info.and(other.info) }
    }
}

/// A page of the channels of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The channels, in no order that means anything.
    pub channels: Vec<Listed>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<Page>,
}

/// What is to be there of channels before somebody subscribes to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// What the zone is to keep of them.
    pub history: History,
    /// The epochs of the subscriber's position: of one that the zone does not have it must be found out whether it is newer.
    pub known: Vec<Epoch>,
    /// Whether a channel may begin to which nobody has published.
    pub create: bool,
    /// What their group may have, if nobody has set that.
    pub group: GroupLimits,
}

/// Whoever has the channels of a location.
///
/// The operations on one channel take effect in the order in which they were asked for, whenever they are answered: two messages that
/// one publisher sends one after the other reach subscribers in that order. An answer that does not come at once comes in a
/// later turn of the event loop, at its outermost level, and within the time that the backend's own limit gives it.
pub trait Backend {
    /// What tells its channels from those of all others in the zone: [`Key::space`]. 0: they are this machine's own.
    fn space(&self) -> u64;

    /// Publishes a message.
    fn publish(
        &self,
        key: Key<'_>,
        publication: &Publication<'_>,
        policy: Policy,
    ) -> Answer<PublishReply, PublishError>;

    /// Whether channels are to be [opened](Self::open) before they are subscribed to.
    fn needs_opening(&self) -> bool;

    /// Brings what these channels have into the zone, and keeps it complete there as long as they have subscribers: what is after the
    /// position of somebody who subscribes when this was answered is there.
    fn open(&self, keys: &[Key<'_>], demand: &Demand) -> Answer<(), SubscribeError>;

    /// Of the limits of a group those that are kept in the zone, when somebody subscribes there.
    fn limits_in_zone(&self, location: GroupLimits) -> GroupLimits;

    /// What is known about a channel; `None` if there is no such channel.
    fn info(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt>;

    /// Deletes a channel; what it was, `None` if there was none.
    fn delete(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt>;

    /// Who is on a channel; `None` if there is no such channel.
    fn presence(&self, key: Key<'_>) -> Answer<Option<Presence>, ReadError>;

    /// Lets the subscribers of a channel that are called so be closed, wherever they are; how many those are. `None` if there is no such
    /// channel.
    fn expel(&self, key: Key<'_>, who: &[u8]) -> Answer<Option<u32>, ReadError>;

    /// At most so many channels of a group whose ids begin with `prefix`.
    fn list(&self, key: GroupKey<'_>, prefix: &[u8], page: Page, most: usize) -> Answer<Listing, Corrupt>;

    /// What a group has and may have; `location` are the limits that hold where nobody has set others.
    fn group(&self, key: GroupKey<'_>, location: GroupLimits) -> Answer<GroupInfo, Corrupt>;

    /// Changes the limits of a group.
    fn limit_group(&self, key: GroupKey<'_>, change: GroupChange) -> Answer<(), SubscribeError>;

    /// Deletes all channels of a group, and takes back the limits that were set for it.
    fn delete_group(&self, key: GroupKey<'_>) -> Answer<(), Corrupt>;
}
