// SPDX-License-Identifier: Apache-2.0

//! The node's copies of channels that an engine has.
//!
//! An engine gives each message its id. A copy is a run of the newest of them under the engine's epoch, without holes: a message is
//! [appended](Copies::append) if it is the next one, and otherwise its caller has to fetch what is between. Where the
//! engine itself goes on elsewhere, or under another epoch, the copy [follows](Copies::follow) it, and subscribers are told of
//! what that costs them.

use super::publish::{keep, write};
use super::{Copies, History, Key, MAX_KEY_PART, MOST_DROPS, Now, PublishError, Wake};
use crate::channel::lock::Lock;
use crate::channel::memory::Corrupt;
use crate::channel::message::Publication;
use crate::channel::position::{Epoch, Lineage, MessageId, Offset};
use crate::channel::zone::Memory;
use crate::channel::zone::cells::cells_for;
use crate::channel::zone::layout::{COPIED, Cell, Copied, INLINE_MESSAGE, REPLACED, Record, state};
use crate::channel::zone::room::Need;

/// A channel as the engine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// Its epoch, not 0.
    pub epoch: Epoch,
    /// The oldest message that is kept; the one that comes next if none is.
    pub oldest: Offset,
    /// How the epoch has come about.
    pub lineage: Lineage,
}

/// What is kept of that.
pub(super) fn lineage(copied: &Copied) -> Lineage {
    let base = Offset(copied.base.get());
    Lineage { base, previous: Some(Epoch(copied.previous.get())).filter(|epoch| epoch.0 != 0) }
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyState {
    /// The epoch of its messages.
    pub epoch: Epoch,
    /// The message that it needs next.
    pub next: Offset,
    /// Subscribers of this node.
    pub subscribers: u32,
    /// The relay that keeps it complete; 0: none does.
    pub relay: u32,
    /// The copy was compared with the original for those who asked up to this time.
    pub compared: u64,
}

/// What became of a message for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The message is in the zone; these workers are to be woken.
    Done(Wake),
    /// The message was there already, or it is older than what is.
    Known,
    /// The message of this offset is missing before it.
    Behind(Offset),
    /// The copy is of another epoch.
    OtherEpoch,
    /// There is no copy.
    NoCopy,
}

/// A copy that [`Copies::find`] has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFound {
    /// The name of its group.
    pub group: Vec<u8>,
    /// Its name.
    pub id: Vec<u8>,
    /// Subscribers of this node.
    pub subscribers: u32,
    /// What is kept of it here.
    pub history: History,
}

/// Buckets of the table that are looked at while the lock is held once.
const BUCKETS_AT_ONCE: usize = 256;

impl<L: Lock> Copies<'_, L> {
    /// How far the copy of a channel is. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn state(&self, key: Key<'_>) -> Result<Option<CopyState>, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.view(|memory| {
            let Some((channel, copied)) = find(memory, key, hash)? else { return Ok(None) };
            Ok(Some(CopyState {
                epoch: Epoch(copied.epoch.get()),
                next: Offset(memory.record(channel)?.upcoming.get()),
                subscribers: memory.subscribers(channel)?,
                relay: copied.relay.get(),
                compared: copied.compared.get(),
            }))
        })
    }

    /// The copy is to be of this original, and is made if there is none. What it has of the same epoch stays as far as the
    /// original leads up to it; of another epoch nothing does. What is missing then is to be appended. Workers are returned
    /// that are to be woken.
    ///
    /// # Errors
    ///
    /// [`PublishError::TooLarge`] when there is no room in the zone, [`PublishError::Corrupt`].
    pub fn follow(&self, key: Key<'_>, original: Original, history: History, now: Now) -> Result<Wake, PublishError> {
        debug_assert!(key.space() != 0 && original.epoch.0 != 0, "an engine's channel has an epoch");
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let channel = match memory.find(key, hash)? {
                Some(channel) => channel,
                None => {
                    if !memory.make_room_to_create(key, 0, Need::NewChannel, clock)? {
                        return Ok(Err(PublishError::TooLarge));
                    }
                    memory.create(key, hash, clock)?
                }
            };
            let (record, copied) = (memory.record(channel)?, memory.copied(channel)?.ok_or(Corrupt)?);
            keep(memory, channel, history, clock)?;
            record.touched.set(clock);
            let mut wake = Wake::default();
            if copied.epoch.get() != original.epoch.0 {
                let (base, undone) = since(record, copied, original);
                memory.go_on_at(channel, original.oldest.0, clock)?;
                copied.epoch.set(original.epoch.0);
                copied.base.set(base);
                copied.undone.set(undone);
                copied.previous.set(original.lineage.previous.map_or(0, |epoch| epoch.0));
                copied.relay.set(0);
                for at in memory.interests(channel)? {
                    memory.interest(at?)?.seen.set(REPLACED);
                }
                wake = memory.notify(channel)?;
            } else {
                if record.upcoming.get() < original.oldest.0 {
                    memory.go_on_at(channel, original.oldest.0, clock)?;
                    wake = memory.notify(channel)?;
                }
            }
            if let Some(deadline) = memory.deadline(channel)? {
                memory.schedule(channel, deadline)?;
            }
            Ok(Ok(wake))
        })?
    }

    /// Adds a message with the id that the engine gave it, published at `unix`, in milliseconds of Unix time; with it the
    /// channel keeps so much, `None`: as before. One that does not fit into the zone is passed over, with all before it: subscribers are
    /// told of a gap.
    ///
    /// # Errors
    ///
    /// [`PublishError::Corrupt`].
    pub fn append(
        &self,
        key: Key<'_>,
        id: MessageId,
        publication: &Publication<'_>,
        unix: u64,
        history: Option<History>,
        now: Now,
    ) -> Result<Appended, PublishError> {
        let hash = self.zone.unlocked().hash(key)?;
        let cells = cells_for(publication.stored_len(), INLINE_MESSAGE);
        self.zone
            .update(|memory| {
                let clock = memory.clock(now.clock)?;
                let Some((channel, copied)) = find(memory, key, hash)? else { return Ok(Appended::NoCopy) };
                let record = memory.record(channel)?;
                if copied.epoch.get() != id.epoch.0 {
                    return Ok(Appended::OtherEpoch);
                }
                let upcoming = record.upcoming.get();
                if id.offset.0 < upcoming {
                    return Ok(Appended::Known);
                }
                if id.offset.0 > upcoming {
                    return Ok(Appended::Behind(Offset(upcoming)));
                }
                record.touched.set(clock);
                if let Some(history) = history {
                    keep(memory, channel, history, clock)?;
                }
                let fits = u32::try_from(publication.stored_len()).is_ok() && cells <= memory.geometry.cells;
                if !fits || !memory.make_room(cells, Need::Message(channel), clock)? {
                    memory.go_on_at(channel, upcoming + 1, clock)?;
                    return memory.notify(channel).map(Appended::Done);
                }
                // It expires by the clock of this machine, from when it was published.
                let published = clock.saturating_sub(now.unix.saturating_sub(unix));
                let message = write(memory, cells, publication, Now { clock: published, unix })?;
                memory.append(channel, message)?;
                let wake = memory.notify(channel)?;
                memory.trim(channel, clock, MOST_DROPS)?;
                if let Some(deadline) = memory.deadline(channel)? {
                    memory.schedule(channel, deadline)?;
                }
                Ok(Appended::Done(wake))
            })
            .map_err(PublishError::from)
    }

    /// The copy has everything that the relay with this number has heard of, and the relay listens on; 0: none does any more. It was
    /// compared with the original since those asked for that who did up to the time `compared`. Whether there is a copy.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn set_keeper(&self, key: Key<'_>, relay: u32, compared: u64, now: Now) -> Result<bool, Corrupt> {
        let hash = self.zone.unlocked().hash(key)?;
        self.zone.update(|memory| {
            let clock = memory.clock(now.clock)?;
            let Some((channel, copied)) = find(memory, key, hash)? else { return Ok(false) };
            copied.relay.set(relay);
            copied.compared.set(copied.compared.get().max(compared));
            memory.record(channel)?.touched.set(clock);
            Ok(true)
        })
    }

    /// Finds copies of the channels of an engine, in some of the zone's buckets, `from` the first of them on. To be called with 0,
    /// and then with what it returns until that is `None`, so that the lock is not held for long.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn find(&self, space: u64, from: usize, out: &mut Vec<CopyFound>) -> Result<Option<usize>, Corrupt> {
        let buckets = self.zone.geometry().buckets;
        let to = (from + BUCKETS_AT_ONCE).min(buckets);
        self.zone.view(|memory| {
            for nth in from..to {
                let mut next = Cell::new(memory.bucket(nth)?.get());
                let mut left = memory.geometry.cells;
                while let Some(channel) = next {
                    left = left.checked_sub(1).ok_or(Corrupt)?;
                    let record = memory.record(channel)?;
                    next = Cell::new(record.hash_next.get());
                    let Some(copied) = memory.copied(channel)? else { continue };
                    if copied.space.get() == space && record.state.get() == state::LIVE {
                        out.push(found(memory, channel, record)?);
                    }
                }
            }
            Ok((to < buckets).then_some(to))
        })
    }
}

/// Up to which message a copy that goes on in another epoch has been had in that one, and how many messages of its epoch until now the
/// engine does not have there.
///
/// A master that was deposed may become the master again without having heard of the epoch between. Its own one goes on then, and
/// what was here of it has been delivered and does not come again.
fn since(record: &Record, copied: &Copied, original: Original) -> (u64, u32) {
    let base = original.lineage.base.0;
    if copied.previous.get() == original.epoch.0 {
        let had = copied.base.get().saturating_add(copied.undone.get().into());
        return (base.max(had), 0);
    }
    let here = record.upcoming.get().saturating_sub(1);
    let goes_on = original.lineage.previous.is_some_and(|previous| previous.0 == copied.epoch.get());
    (base, if goes_on { u32::try_from(here.saturating_sub(base)).unwrap_or(u32::MAX) } else { 0 })
}

fn find<'a>(memory: Memory<'a>, key: Key<'_>, hash: u64) -> Result<Option<(Cell, &'a Copied)>, Corrupt> {
    let Some(channel) = memory.find(key, hash)? else { return Ok(None) };
    Ok(memory.copied(channel)?.map(|copied| (channel, copied)))
}

fn found(memory: Memory<'_>, channel: Cell, record: &Record) -> Result<CopyFound, Corrupt> {
    let lengths = [record.group_len.get() as usize, (record.id_len.get() & !COPIED) as usize];
    let at = size_of::<Record>() + size_of::<Copied>();
    // No key is longer; what is damaged might say that it takes more memory than there is.
    if lengths.iter().any(|length| *length > MAX_KEY_PART) {
        return Err(Corrupt);
    }
    let mut group = Vec::with_capacity(lengths.iter().sum());
    memory.read_along(channel, at, lengths.iter().sum(), &mut group)?;
    let id = group.split_off(lengths[0].min(group.len()));
    let history = History { length: record.history.get(), time: record.keep.get() };
    Ok(CopyFound { group, id, subscribers: memory.subscribers(channel)?, history })
}
