// SPDX-License-Identifier: Apache-2.0

//! Making room, and what is to be done from time to time.

use super::groups::group_cells;
use super::idle::Idle;
use super::layout::{BODY, Cell, INLINE_MESSAGE, link};
use super::log::NOTHING;
use super::records::Key;
use super::{Memory, STEPS};
use crate::channel::memory::Corrupt;

/// Buckets of the table of channels that are looked into for one channel that may be looked at. Most of them are empty, and in a large
/// zone they are so many that the lock must not be held for all of them.
const BUCKETS_EACH: usize = 64;

/// Channels that are looked at while making room, before anything is dropped that has not expired.
const MOST_LOOKS: usize = 1024;

/// Awaited messages that are passed over for one message. Each is passed over once: more than this is only met where very
/// much was published at once, for example before a worker with subscribers was killed.
const MOST_PASSED: usize = 1 << 14;

/// The oldest messages of the zone of which one is looked for whose channel has more than its share.
const MOST_COMPARED: usize = 64;

/// Messages of one channel that are dropped in one look.
const MOST_DROPS: usize = 1024;

/// What room is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A message of this channel, whose own oldest messages go before those of others that have no more than their share.
    Message(Cell),
    /// A channel that does not exist yet, and its first message.
    NewMessage,
    /// The entry of a worker that has subscribers of this channel, or clients of its program.
    Worker(Cell),
    /// What a subscriber of this channel says of itself, or a message for its program.
    Subscriber(Cell),
    /// A channel that does not exist yet, for a subscriber, or the limits of a group.
    NewChannel,
}

/// What may still be looked at for one message.
struct Looks {
    /// Awaited messages that may be passed over.
    passed: usize,
    /// Messages that are dropped before the oldest ones are compared again: none of them was of a channel with more than its share.
    before_comparing: usize,
}

impl Need {
    /// The channel that must not go itself.
    fn channel(self) -> Option<Cell> {
        match self {
            Self::Message(channel) | Self::Worker(channel) | Self::Subscriber(channel) => Some(channel),
            Self::NewMessage | Self::NewChannel => None,
        }
    }

    fn is_message(self) -> bool {
        matches!(self, Self::Message(_) | Self::NewMessage)
    }
}

/// Cells of a zone of `cells` that messages, and the channels that have had any, never take: they are kept for subscribers, who
/// get no others.
pub fn reserve(cells: usize) -> usize {
    cells / 4
}

impl Memory<'_> {
    /// How many more cells may be taken for this. What subscribers need comes out of the reserve, so that it can never cost
    /// anybody a message. The last of it is for workers that begin to have subscribers of a channel, the rest but a little
    /// for channels that exist only because somebody subscribes to them: no sort of clients keeps all others out.
    fn room(self, what: Need) -> Result<usize, Corrupt> {
        let header = self.header()?;
        let free = self.free_cells()?;
        let published = header.kept_cells.get().saturating_add(header.message_cells.get()) as usize;
        let reserve = reserve(self.geometry.cells);
        let (used, limit) = match what {
            Need::Message(_) | Need::NewMessage => (published, self.geometry.cells - reserve),
            _ => {
                let limit = match what {
                    Need::Worker(_) => reserve,
                    Need::Subscriber(_) => reserve - reserve / 8,
                    _ => reserve - reserve / 4,
                };
                (self.geometry.cells.saturating_sub(free.saturating_add(published)), limit)
            }
        };
        Ok(limit.saturating_sub(used).min(free))
    }

    /// Makes sure that `need` cells may be taken. Unused channels without messages go first, and for anything but a message
    /// nothing else does. For a message there go next what has expired and what workers left behind that are gone, then
    /// the oldest messages of the channel itself as long as it has more than its [share](Self::has_more_than_its_share), then those of
    /// another channel that has more than its share, then again those of the channel itself, then the oldest of the zone; messages
    /// that a worker with subscribers has still to copy go last, in the same order. Whether it succeeded; if the need is beyond what
    /// could ever be had, no message is dropped.
    ///
    /// Everything in the zone is as it should be when this is called. It checkpoints: cells that were given back up to now may be
    /// taken and written to.
    pub fn make_room(self, need: usize, what: Need, clock: u64) -> Result<bool, Corrupt> {
        let made = self.find_room(need, what, clock)?;
        self.checkpoint()?;
        Ok(made)
    }

    fn find_room(self, need: usize, what: Need, clock: u64) -> Result<bool, Corrupt> {
        let lacks = || Ok::<_, Corrupt>(self.room(what)? < need);
        if !lacks()? {
            return Ok(true);
        }
        let own = what.channel();
        let lists = if what.is_message() {
            [Idle::Published, Idle::NeverPublished]
        } else {
            [Idle::NeverPublished, Idle::Published]
        };
        // The first list is the one that counts against the same limit.
        let [first, second] = lists;
        while lacks()? && self.remove_idle(first, own)? {
            self.checkpoint()?;
        }
        while lacks()? && self.free_cells()? < need && self.remove_idle(second, own)? {
            self.checkpoint()?;
        }
        if !lacks()? {
            return Ok(true);
        }
        let own_cells = match own {
            Some(own) => {
                let record = self.record(own)?;
                let group = self.group_of(record)?.map_or(0, |group| group.cells.get());
                record.cells.get() as usize + group as usize
            }
            None => 0,
        };
        if what.is_message() && need + own_cells > self.geometry.cells - reserve(self.geometry.cells) {
            return Ok(false);
        }
        let mut looks = MOST_LOOKS;
        let mut look = |cell| {
            if Some(cell) != own {
                self.settle(cell, clock, MOST_DROPS)?;
            }
            looks -= 1;
            Ok(looks > 0 && lacks()?)
        };
        if self.turn(clock, &mut look)? {
            // However many buckets that are: nobody is to lose a message, or be refused, for what is left of a lost worker.
            self.scan(usize::MAX, look)?;
        }
        // Channels that were left by subscribers of workers that are gone.
        while lacks()? && self.remove_idle(first, own)? {
            self.checkpoint()?;
        }
        if what.is_message() {
            self.drop_for(need, what, clock)?;
        }
        if let Some(own) = own
            && let Some(deadline) = self.deadline(own)?
        {
            // The wheel may have let go of it.
            self.schedule(own, deadline)?;
        }
        Ok(!lacks()?)
    }

    /// Whether a channel that gets a message of `need` cells has more of the zone than its share: what there is for messages, divided by the
    /// cells of the channels that have been published to, of which nearly every one has one. So a channel that keeps publishing takes
    /// nothing from others beyond that, and one that has little grows beside large ones that rest.
    fn has_more_than_its_share(self, channel: Cell, need: usize) -> Result<bool, Corrupt> {
        let record = self.record(channel)?;
        let channels = (self.header()?.kept_cells.get() as usize).max(1);
        let share = (self.geometry.cells - reserve(self.geometry.cells)) / channels;
        // A message has one cell, and more where its octets do not fit. As if all of them were of the same length.
        let messages = record.messages.get() as usize;
        let octets = usize::try_from(record.bytes.get()).unwrap_or(usize::MAX);
        let more = octets.saturating_sub(messages.saturating_mul(INLINE_MESSAGE)) / BODY;
        Ok(messages.saturating_add(more).saturating_add(need) > share)
    }

    /// The channel whose oldest message goes next, so that there is room for a message of `need` cells: that of the message itself if it has
    /// more than its share; then one with more than its share among those of the oldest messages; then that of the message itself; then
    /// that of the oldest message. What a worker with subscribers has still to copy goes with `awaited_too` only.
    fn who_loses(
        self,
        own: Option<Cell>,
        need: usize,
        awaited_too: bool,
        looks: &mut Looks,
    ) -> Result<Option<Cell>, Corrupt> {
        let mut may_lose = None;
        if let Some(own) = own
            && let Some(oldest) = Cell::new(self.record(own)?.oldest.get())
            && (awaited_too || !self.is_awaited(own, self.message(oldest)?)?)
        {
            if self.has_more_than_its_share(own, need)? {
                return Ok(Some(own));
            }
            may_lose = Some(own);
        }
        if looks.before_comparing > 0 {
            looks.before_comparing -= 1;
        } else if let Some(channel) = self.oldest_beyond_its_share(awaited_too, looks)? {
            return Ok(Some(channel));
        } else {
            looks.before_comparing = MOST_COMPARED;
        }
        if may_lose.is_some() {
            return Ok(may_lose);
        }
        if !awaited_too {
            return self.pass_awaited(&mut looks.passed);
        }
        match Cell::new(self.header()?.oldest.get()) {
            Some(oldest) => Ok(Some(Cell::new(self.message(oldest)?.record.get()).ok_or(Corrupt)?)),
            None => Ok(None),
        }
    }

    /// The channel of the first of the oldest messages that is of a channel with more than its share.
    fn oldest_beyond_its_share(self, awaited_too: bool, looks: &mut Looks) -> Result<Option<Cell>, Corrupt> {
        if !awaited_too && self.pass_awaited(&mut looks.passed)?.is_none() {
            return Ok(None);
        }
        let mut next = self.first_not_passed(awaited_too)?;
        for _ in 0..MOST_COMPARED {
            let Some(cell) = next else { break };
            let message = self.message(cell)?;
            let channel = Cell::new(message.record.get()).ok_or(Corrupt)?;
            if (awaited_too || !self.is_awaited(channel, message)?) && self.has_more_than_its_share(channel, 0)? {
                return Ok(Some(channel));
            }
            next = Cell::new(message.newer.get());
        }
        Ok(None)
    }

    /// Drops messages until there is room for another one.
    fn drop_for(self, need: usize, what: Need, clock: u64) -> Result<(), Corrupt> {
        let mut dropped = 0_usize;
        let header = self.header()?;
        let own = what.channel();
        let mut looks = Looks { passed: MOST_PASSED, before_comparing: 0 };
        for awaited_too in [false, true] {
            while self.room(what)? < need
                && let Some(channel) = self.who_loses(own, need, awaited_too, &mut looks)?
            {
                let record = self.record(channel)?;
                let history = record.history.get();
                // What a channel has beyond the length of its history goes with the next message anyway.
                let surplus =
                    Some(channel) == own && (history == NOTHING || history > 0 && record.messages.get() >= history);
                // Where a message may go, those of its channel that are older may go as well.
                self.drop_oldest(channel)?;
                if !surplus {
                    header.evicted.add(1);
                }
                dropped += 1;
                if Some(channel) == own {
                    self.checkpoint_in(channel, clock, dropped)?;
                    continue;
                }
                if record.messages.get() == 0 {
                    if !self.anyone_interested(channel)? {
                        // Sooner than it would be forgotten otherwise: an id is worth less than the messages of others.
                        self.remove(channel)?;
                    } else if let Some(deadline) = self.deadline(channel)? {
                        self.schedule(channel, deadline)?;
                    }
                }
                match own {
                    Some(own) => self.checkpoint_in(own, clock, dropped)?,
                    None if dropped.is_multiple_of(STEPS) => self.checkpoint()?,
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Makes sure that a channel can be created for this, and `more` cells are free then.
    pub fn make_room_to_create(self, key: Key<'_>, more: usize, what: Need, clock: u64) -> Result<bool, Corrupt> {
        loop {
            let is_there = self.find_group(key.space(), key.group())?.is_some();
            let need = key.cells() + more + if is_there { 0 } else { group_cells(key.group()) };
            if !self.make_room(need, what, clock)? {
                return Ok(false);
            }
            // It may have gone with the last of its other channels.
            if !is_there || self.find_group(key.space(), key.group())?.is_some() {
                return Ok(true);
            }
        }
    }

    /// Looks at channels whose time has come, and at some of those whose worker was lost, at most about `most`, and at no more than
    /// [`BUCKETS_EACH`] times as many buckets of their table. Whether there is nothing left to do at the moment.
    pub fn tend(self, clock: u64, most: usize) -> Result<bool, Corrupt> {
        let mut left = most;
        let mut look = |cell| {
            left = left.saturating_sub(1);
            while let Some(MOST_DROPS) = self.settle(cell, clock, MOST_DROPS)?
                && left > 0
            {
                left = left.saturating_sub(MOST_DROPS / 16);
            }
            Ok(left > 0)
        };
        Ok(self.turn(clock, &mut look)? && self.scan(most.saturating_mul(BUCKETS_EACH), look)?)
    }

    /// Looks at channels, a bucket at a time, that a lost worker may have had subscribers of, until `look` says that it is
    /// enough, or until it has looked into so many buckets. Whether all have been looked at.
    fn scan(self, most: usize, mut look: impl FnMut(Cell) -> Result<bool, Corrupt>) -> Result<bool, Corrupt> {
        let header = self.header()?;
        let mut bucket = header.scan.get() as usize;
        let before = bucket;
        let mut going = true;
        let end = self.geometry.buckets.min(before.saturating_add(most));
        while going && bucket < end {
            let mut next = Cell::new(self.bucket(bucket)?.get());
            let mut left = self.geometry.cells;
            while let Some(cell) = next {
                left = left.checked_sub(1).ok_or(Corrupt)?;
                next = Cell::new(self.record(cell)?.hash_next.get());
                self.release_stale(cell)?;
                self.release_absent(cell)?;
                going = look(cell)?;
                self.checkpoint()?;
            }
            if bucket < self.geometry.departed {
                self.release_departed(bucket)?;
            }
            bucket += 1;
        }
        if bucket != before {
            header.scan.set(u32::try_from(bucket).map_err(|_| Corrupt)?);
        }
        Ok(bucket == self.geometry.buckets)
    }

    /// Has every channel looked at once, because a worker is gone that may have had subscribers in any.
    pub fn start_scan(self) -> Result<(), Corrupt> {
        self.header()?.scan.set(link(None));
        Ok(())
    }
}
