// SPDX-License-Identifier: Apache-2.0

//! Who has left a channel, and is to be told of only if nobody of this name comes back soon.
//!
//! They have a table of their own: a fixed number of places, in buckets by a hash. So they take no room that subscribers need, whoever
//! joins a channel is looked up in one bucket, and it does not matter whether the channel is deleted and created again meanwhile. A
//! place holds two hashes under the zone's secret, together 128 bits, instead of names: no client can find two names that are
//! one.
//!
//! A place is bound to the worker that is to tell of it. Once that is gone, and its slot was given up, the place is void, and it is given
//! back when the zone is looked through.

use super::Memory;
use super::layout::Departed;
use super::records::Key;
use crate::channel::hash::SipHash;
use crate::channel::memory::{Corrupt, Word};

/// Who is on a channel, for those who are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// The channel.
    pub channel: Key<'a>,
    /// The channel of the same group that is told of it.
    pub events: &'a [u8],
    /// The name.
    pub who: &'a [u8],
}

impl<'a> Memory<'a> {
    /// What a member is found by. Needs no lock: the seed never changes.
    pub fn hash_of_member(self, member: Member<'_>) -> Result<[u64; 2], Corrupt> {
        let [low, high] = &self.header()?.seed;
        let hash = |which: u64| {
            let mut hash = SipHash::new([low.get() ^ which, high.get()]);
            hash.write(&member.channel.space().to_le_bytes());
            for part in [member.channel.group(), member.channel.id(), member.events, member.who] {
                hash.write(&(part.len() as u64).to_le_bytes());
                hash.write(part);
            }
            hash.finish()
        };
        // Other keys than those of channels and groups.
        Ok([hash(2), hash(3)])
    }

    /// The place with this number, from 1.
    pub fn departed(self, number: u32) -> Result<&'a Departed, Corrupt> {
        let nth = (number as usize).checked_sub(1).filter(|nth| *nth < self.geometry.departed).ok_or(Corrupt)?;
        self.region.at(self.geometry.departed_at + nth * size_of::<Departed>())
    }

    /// The first place of a bucket. There are as many buckets as places.
    pub fn departed_bucket(self, nth: usize) -> Result<&'a Word, Corrupt> {
        if nth >= self.geometry.departed {
            return Err(Corrupt);
        }
        self.region.at(self.geometry.departed_buckets_at + nth * size_of::<Word>())
    }

    /// The bucket of a hash.
    pub fn departed_bucket_of(self, hash: u64) -> usize {
        // A power of two: the lower bits.
        hash as usize & (self.geometry.departed - 1)
    }

    /// Whether the worker that is to tell of somebody is still the one in its slot.
    fn is_awaited_by_worker(self, departed: &Departed) -> Result<bool, Corrupt> {
        let Some(nth) = departed.slot.get().checked_sub(1) else { return Ok(false) };
        let slot = self.slot(nth as usize)?;
        Ok(slot.pid.get() != 0 && slot.generation.get() == departed.generation.get())
    }

    /// Somebody has left, of which the worker in `slot` is to tell. The number of the place; `None` if all are in use.
    pub fn add_departed(self, slot: usize, hash: [u64; 2]) -> Result<Option<u32>, Corrupt> {
        let header = self.header()?;
        let number = match header.departed_free.get() {
            0 => {
                let number = header.departed_fresh.get().saturating_add(1);
                if number as usize > self.geometry.departed {
                    return Ok(None);
                }
                header.departed_fresh.set(number);
                number
            }
            number => {
                header.departed_free.set(self.departed(number)?.next.get());
                number
            }
        };
        let departed = self.departed(number)?;
        departed.slot.set(u32::try_from(slot).map_err(|_| Corrupt)? + 1);
        departed.generation.set(self.slot(slot)?.generation.get());
        for (word, value) in departed.hash.iter().zip(hash) {
            word.set(value);
        }
        let bucket = self.departed_bucket(self.departed_bucket_of(hash[0]))?;
        departed.next.set(bucket.get());
        bucket.commit(number);
        Ok(Some(number))
    }

    /// Looks through the places of a bucket, and gives the first one back for which `is_it` is true. Whether there was one.
    fn give_departed(
        self,
        bucket: usize,
        is_it: impl Fn(u32, &Departed) -> Result<bool, Corrupt>,
    ) -> Result<bool, Corrupt> {
        let header = self.header()?;
        let mut way = self.departed_bucket(bucket)?;
        for _ in 0..=self.geometry.departed {
            let number = way.get();
            if number == 0 {
                return Ok(false);
            }
            let departed = self.departed(number)?;
            if is_it(number, departed)? {
                way.commit(departed.next.get());
                departed.slot.set(0);
                departed.next.set(header.departed_free.get());
                header.departed_free.set(number);
                return Ok(true);
            }
            way = &departed.next;
        }
        Err(Corrupt)
    }

    /// Forgets that somebody has left. Whether anybody of this hash had.
    pub fn take_departed(self, hash: [u64; 2]) -> Result<bool, Corrupt> {
        self.give_departed(self.departed_bucket_of(hash[0]), |_, departed| {
            let is_same = departed.hash.iter().zip(hash).all(|(word, value)| word.get() == value);
            Ok(is_same && self.is_awaited_by_worker(departed)?)
        })
    }

    /// Gives back the place with this number. Whether the worker in `slot` had it still.
    pub fn remove_departed(self, slot: usize, number: u32) -> Result<bool, Corrupt> {
        let departed = self.departed(number)?;
        let own =
            departed.slot.get().checked_sub(1) == u32::try_from(slot).ok() && self.is_awaited_by_worker(departed)?;
        let [hash, _] = &departed.hash;
        Ok(own && self.give_departed(self.departed_bucket_of(hash.get()), |other, _| Ok(other == number))?)
    }

    /// Gives back the places of a bucket whose workers are gone. It checkpoints.
    pub fn release_departed(self, bucket: usize) -> Result<(), Corrupt> {
        while self.give_departed(bucket, |_, departed| Ok(!self.is_awaited_by_worker(departed)?))? {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Makes the table anew of the places that workers have that are still there.
    pub fn repair_departed(self) -> Result<(), Corrupt> {
        let header = self.header()?;
        for nth in 0..self.geometry.departed {
            self.departed_bucket(nth)?.set(0);
        }
        header.departed_free.set(0);
        let most = u32::try_from(self.geometry.departed).map_err(|_| Corrupt)?;
        header.departed_fresh.set(header.departed_fresh.get().min(most));
        for number in (1..=header.departed_fresh.get()).rev() {
            let departed = self.departed(number)?;
            // What is not the number of a slot is nothing that a worker wrote.
            let way = if self.is_awaited_by_worker(departed).unwrap_or(false) {
                let [hash, _] = &departed.hash;
                self.departed_bucket(self.departed_bucket_of(hash.get()))?
            } else {
                departed.slot.set(0);
                &header.departed_free
            };
            departed.next.set(way.get());
            way.set(number);
        }
        Ok(())
    }
}
