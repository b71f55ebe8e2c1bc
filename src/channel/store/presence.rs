// SPDX-License-Identifier: Apache-2.0

//! Who is on a channel.

use std::collections::BTreeMap;

use super::{Key, Presences, ReadError};
use crate::channel::lock::Lock;

/// Who is on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presence {
    /// Subscribers in all workers, those included that have not said who they are.
    pub subscribers: u32,
    /// What the others said, and how many of them said it.
    pub names: BTreeMap<Vec<u8>, u32>,
}

impl Presence {
    /// Adds those who are on another channel.
    pub fn merge(&mut self, other: Self) {
        self.subscribers = self.subscribers.saturating_add(other.subscribers);
        for (name, count) in other.names {
            *self.names.entry(name).or_default() += count;
        }
    }
}

impl<L: Lock> Presences<'_, L> {
    /// Who is on a channel, over all workers. `None` if there is no such channel.
    pub fn of(&self, key: Key<'_>) -> Result<Option<Presence>, ReadError> {
        let hash = self.zone.unlocked().hash(key)?;
        let (mut names, mut ends) = (Vec::new(), Vec::new());
        let found = self.zone.view(|memory| {
            let Some(channel) = memory.find(key, hash)? else { return Ok(Ok(None)) };
            if !memory.copy_presence(channel, &mut names, &mut ends)? {
                return Ok(Err(ReadError::Memory));
            }
            Ok(Ok(Some(memory.subscribers(channel)?)))
        })??;
        let Some(subscribers) = found else { return Ok(None) };
        let mut presence = Presence { subscribers, names: BTreeMap::new() };
        let mut from = 0;
        for end in ends {
            let name = names.get(from..end).unwrap_or_default();
            match presence.names.get_mut(name) {
                Some(count) => *count += 1,
                None => {
                    presence.names.insert(name.to_vec(), 1);
                }
            }
            from = end;
        }
        Ok(Some(presence))
    }
}
