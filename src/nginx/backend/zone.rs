// SPDX-License-Identifier: Apache-2.0

//! The zone alone, which always answers now.

use crate::channel::backend::{Answer, Backend, Demand, Failure, Listing, PublishReply};
use crate::channel::memory::Corrupt;
use crate::channel::message::Publication;
use crate::channel::store::{
    GroupChange, GroupInfo, GroupKey, GroupLimits, Info, Key, Page, Policy, Presence, PublishError, ReadError,
    SubscribeError,
};
use crate::nginx::channel::hub::{self, Hub};
use crate::nginx::channel::listing;

/// The channels that this machine has alone.
///
/// What another backend has in the zone is done with it as well: the [space](Key::space) of a key says whose channel it is.
pub struct ZoneAlone;

/// Does something in the zone. Where the worker has left it already, nothing is available.
fn step<T, E>(step: impl FnOnce(&mut Hub) -> Result<T, E>) -> Answer<T, E> {
    Answer::Now(match hub::with(step) {
        Some(result) => result.map_err(Failure::Own),
        None => Err(Failure::Unavailable),
    })
}

impl Backend for ZoneAlone {
    fn space(&self) -> u64 {
        0
    }

    fn publish(
        &self,
        key: Key<'_>,
        publication: &Publication<'_>,
        policy: Policy,
    ) -> Answer<PublishReply, PublishError> {
        step(|hub| {
            let published = hub.publish(key, publication, policy)?;
            Ok(PublishReply { id: published.id, info: published.info })
        })
    }

    fn needs_opening(&self) -> bool {
        false
    }

    fn open(&self, _: &[Key<'_>], _: &Demand) -> Answer<(), SubscribeError> {
        Answer::Now(Ok(()))
    }

    fn limits_in_zone(&self, location: GroupLimits) -> GroupLimits {
        location
    }

    fn info(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt> {
        step(|hub| hub.info(key))
    }

    fn delete(&self, key: Key<'_>) -> Answer<Option<Info>, Corrupt> {
        step(|hub| Ok(hub.delete(key)?.map(|deleted| deleted.info)))
    }

    fn presence(&self, key: Key<'_>) -> Answer<Option<Presence>, ReadError> {
        step(|hub| hub.presence(key))
    }

    fn expel(&self, key: Key<'_>, who: &[u8]) -> Answer<Option<u32>, ReadError> {
        step(|hub| hub.expel(key, who).map_err(ReadError::from))
    }

    fn list(&self, key: GroupKey<'_>, prefix: &[u8], page: Page, most: usize) -> Answer<Listing, Corrupt> {
        listing::list(key, prefix, page, most)
    }

    fn group(&self, key: GroupKey<'_>, location: GroupLimits) -> Answer<GroupInfo, Corrupt> {
        step(|hub| hub.group(key, location))
    }

    fn limit_group(&self, key: GroupKey<'_>, change: GroupChange) -> Answer<(), SubscribeError> {
        step(|hub| hub.limit_group(key, change))
    }

    fn delete_group(&self, key: GroupKey<'_>) -> Answer<(), Corrupt> {
        step(|hub| hub.delete_group(key))
    }
}
