// SPDX-License-Identifier: Apache-2.0

//! The copies that a node has in the zone, as the relay that keeps them sees them.

use super::{Settings, wake};
use crate::channel::message::Publication;
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::{Appended, Change, GroupChange, GroupKey, History, Key, Now, Original, Wake};
use crate::nginx::channel::hub::{self, Hub};
use crate::redis::envelope::Envelope;
use crate::redis::presence;
use crate::redis::relay::{Channel, Copies, Copy};

/// The copies in the zone, for the relay of this number.
pub struct Zone {
    space: u64,
    number: u32,
}

pub fn copies(settings: &Settings, number: u32) -> Zone {
    Zone { space: settings.space, number }
}

impl Zone {
    fn key<'c>(&self, channel: &'c Channel) -> Option<Key<'c>> {
        Key::in_space(self.space, &channel.group, &channel.id)
    }

    /// A step with the zone; the workers that it names are woken.
    fn update<T>(
        &self,
        channel: &Channel,
        step: impl FnOnce(&mut Hub, Key<'_>, Now) -> Option<(T, Wake)>,
    ) -> Option<T> {
        let key = self.key(channel)?;
        hub::with(|hub| {
            let (result, wake) = step(hub, key, hub::time())?;
            hub.wake(wake);
            Some(result)
        })
        .flatten()
    }
}

impl Copies for Zone {
    fn look(&mut self, channel: &Channel) -> Copy {
        let state =
            self.key(channel).and_then(|key| hub::with(|hub| hub.store.copies().state(key).ok().flatten()).flatten());
        match state {
            Some(state) => Copy { epoch: state.epoch, next: state.next, subscribers: state.subscribers },
            None => Copy { epoch: Epoch(0), next: Offset(1), subscribers: 0 },
        }
    }

    fn presence(&mut self, channel: &Channel) -> Vec<u8> {
        let found = self.key(channel).and_then(|key| hub::with(|hub| hub.presence(key).ok().flatten()).flatten());
        found.map(|presence| presence::write(&presence.names)).unwrap_or_default()
    }

    fn group_subscribers(&mut self, channel: &Channel) -> u32 {
        let group = GroupKey { space: self.space, name: &channel.group };
        hub::with(|hub| hub.store.groups().subscribers(group).ok()).flatten().unwrap_or(0)
    }

    fn limit_group(&mut self, channel: &Channel, subscribers: Option<u32>) {
        let group = GroupKey { space: self.space, name: &channel.group };
        let subscribers = subscribers.map_or(Change::Location, Change::To);
        // Without room in the zone the limits of the locations hold, and the next announcement says it again.
        hub::with(|hub| hub.limit_group(group, GroupChange { subscribers, ..GroupChange::default() }).ok());
    }

    fn follow(&mut self, channel: &Channel, original: Original, history: History) -> bool {
        let followed = self.update(channel, |hub, key, now| {
            hub.store.copies().follow(key, original, history, now).ok().map(|wake| ((), wake))
        });
        followed.is_some()
    }

    fn append(
        &mut self,
        channel: &Channel,
        id: MessageId,
        unix: u64,
        envelope: &Envelope<'_>,
        history: Option<History>,
    ) -> Appended {
        let Envelope { kind, content_type, event, data } = *envelope;
        let publication = Publication { kind, content_type, event, data: &[data] };
        let appended = self.update(channel, |hub, key, now| {
            let appended = hub.store.copies().append(key, id, &publication, unix, history, now).ok()?;
            let wake = if let Appended::Done(wake) = appended { wake } else { Wake::default() };
            Some((appended, wake))
        });
        appended.unwrap_or(Appended::NoCopy)
    }

    fn keep(&mut self, channel: &Channel, compared: Option<u64>) {
        let number = if compared.is_some() { self.number } else { 0 };
        self.update(channel, |hub, key, now| {
            hub.store.copies().set_keeper(key, number, compared.unwrap_or(0), now).ok().map(|_| ((), Wake::default()))
        });
    }

    fn delete(&mut self, channel: &Channel) {
        self.update(channel, |hub, key, now| {
            let deleted = hub.store.log().delete(key, now).ok()??;
            Some(((), deleted.wake))
        });
    }

    fn expel(&mut self, channel: &Channel, who: &[u8]) {
        if let Some(key) = self.key(channel) {
            // Whoever has gone with a damaged zone is counted anew, and connected as ever.
            hub::with(|hub| hub.expel(key, who).ok());
        }
    }

    fn ready(&mut self, slot: usize) {
        wake(slot);
    }

    fn draw(&mut self) -> u64 {
        super::epoch().0
    }
}
