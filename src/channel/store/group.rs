//! Groups of channels: what they have and what they may have.

use super::{GroupLimits, GroupUse, MAX_KEY_PART, Now, Store, SubscribeError};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::zone::groups::group_cells;

/// A group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupInfo {
    /// What it has.
    pub used: GroupUse,
    /// What it may have.
    pub limits: GroupLimits,
}

impl<L: Lock> Store<L> {
    /// What a group has and may have; `location` are the limits that hold if nobody has set others. A group that has
    /// nothing need not exist.
    pub fn group(&self, name: &[u8], location: GroupLimits) -> Result<GroupInfo, Corrupt> {
        self.zone.view(|memory| {
            let Some(cell) = memory.find_group(name)? else {
                return Ok(GroupInfo { used: GroupUse::default(), limits: location });
            };
            let group = memory.group(cell)?;
            Ok(GroupInfo { used: memory.group_use(group), limits: memory.group_limits(group, location) })
        })
    }

    /// Sets the limits of a group, for all locations and until they are set again; `None`: those of the locations hold.
    /// What the group has already stays.
    pub fn limit_group(&self, name: &[u8], limits: Option<GroupLimits>, now: Now) -> Result<(), SubscribeError> {
        if name.len() > MAX_KEY_PART {
            return Err(SubscribeError::NoRoom);
        }
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            if memory.find_group(name)?.is_none() {
                if limits.is_none() {
                    return Ok(Ok(()));
                }
                if !memory.make_room(group_cells(name), None, clock)? {
                    return Ok(Err(SubscribeError::NoRoom));
                }
            }
            let cell = memory.find_or_create_group(name)?;
            let group = memory.group(cell)?;
            memory.limit_group(group, limits.unwrap_or_default());
            group.limited.commit(u32::from(limits.is_some()));
            memory.remove_unused_group(cell)?;
            Ok(Ok(()))
        })?
    }
}
