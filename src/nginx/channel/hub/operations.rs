// SPDX-License-Identifier: Apache-2.0

//! What is done with the channels of the zone for a request: publishing, deleting, and looking at what there is.

use super::{Hub, time};
use crate::channel::memory::Corrupt;
use crate::channel::message::Publication;
use crate::channel::store::{
    Deleted, GroupChange, GroupInfo, GroupKey, GroupLimits, Info, Key, Policy, Presence, PublishError, Published,
    ReadError, SubscribeError, Usage, Wake,
};

impl Hub {
    /// Publishes a message; its subscribers, those in this worker as well, get it after the publisher was answered.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn publish(
        &mut self,
        key: Key<'_>,
        publication: &Publication<'_>,
        policy: Policy,
    ) -> Result<Published, PublishError> {
        let published = self.store.log().publish(key, publication, policy, time())?;
        self.wake(published.wake);
        Ok(published)
    }

    /// Deletes a channel. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn delete(&mut self, key: Key<'_>) -> Result<Option<Deleted>, Corrupt> {
        let deleted = self.store.log().delete(key, time())?;
        if let Some(deleted) = &deleted {
            self.wake(deleted.wake);
        }
        Ok(deleted)
    }

    /// Lets the subscribers of a channel that are called so be closed, those of all workers; how many. `None` if there is no such channel.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn expel(&mut self, key: Key<'_>, who: &[u8]) -> Result<Option<u32>, Corrupt> {
        let Some(expelled) = self.store.presence().expel(key, who)? else { return Ok(None) };
        self.wake(expelled.wake);
        Ok(Some(expelled.count))
    }

    /// Who is on a channel. `None` if there is no such channel.
    ///
    /// # Errors
    ///
    /// [`ReadError::Memory`] and [`ReadError::Corrupt`].
    pub fn presence(&self, key: Key<'_>) -> Result<Option<Presence>, ReadError> {
        self.store.presence().of(key)
    }

    /// What a group has and may have.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn group(&self, key: GroupKey<'_>, location: GroupLimits) -> Result<GroupInfo, Corrupt> {
        self.store.groups().info(key, location, time())
    }

    /// Changes the limits of a group.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::NoRoom`] and [`SubscribeError::Corrupt`].
    pub fn limit_group(&self, key: GroupKey<'_>, change: GroupChange) -> Result<(), SubscribeError> {
        self.store.groups().limit(key, change, time())
    }

    /// Deletes all channels of a group, and takes back the limits that were set for it.
    ///
    /// # Errors
    ///
    /// [`Corrupt`]; some of the channels may be deleted.
    pub fn delete_group(&mut self, key: GroupKey<'_>) -> Result<(), Corrupt> {
        let mut wake = Wake::default();
        let mut step = Ok(Some(0));
        while let Ok(Some(from)) = step {
            let mut delete = || self.store.groups().delete(key, from, time(), &mut wake);
            // A damaged zone is repaired by the second attempt.
            step = delete().or_else(|Corrupt| delete());
        }
        self.wake(wake);
        step.map(|_| ())
    }

    /// How full the zone is.
    pub fn usage(&self) -> Option<Usage> {
        self.store.usage().ok()
    }

    /// What is known about a channel. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn info(&self, key: Key<'_>) -> Result<Option<Info>, Corrupt> {
        self.store.log().info(key, time())
    }
}
