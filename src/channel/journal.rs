// SPDX-License-Identifier: Apache-2.0

//! What the words of a zone were before an update changed them, so that an update that did not come to its end is undone.
//!
//! Undoing is a matter of the step that was interrupted, however much the zone contains: whoever does it holds the lock
//! for as long as the step itself would have taken. Each change is noted before it is made. An operation of many steps
//! forgets what was noted between two of them, when the zone is as it should be ([`forget`]).
//!
//! There is room for so many changes; an update that makes more, or that finds the zone damaged, is not undone, and the
//! zone is rebuilt from what can be reached.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

use super::memory::{Corrupt, Region, Wide, Word, shared};

shared! {
    /// The beginning of a journal; its entries follow.
    pub struct Head {
        /// Entries; more than there is room for if changes were made that are not noted.
        count: Word,
        /// Words that are not used.
        spare: [Word; 3],
    }
}

shared! {
    /// A change.
    struct Entry {
        /// The offset of the word, and its size in the upper half.
        place: Wide,
        /// The value before the write.
        value: Wide,
    }
}

/// Where a journal lies in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journal {
    /// Its offset.
    pub at: usize,
    /// Entries that there is room for.
    pub most: usize,
}

impl Journal {
    /// Octets of a journal with room for so many entries.
    pub fn len(most: usize) -> usize {
        size_of::<Head>() + most * size_of::<Entry>()
    }

    fn head(self, region: &Region) -> Result<&Head, Corrupt> {
        region.at(self.at)
    }

    fn entry(self, region: &Region, nth: usize) -> Result<&Entry, Corrupt> {
        region.at(self.at + size_of::<Head>() + nth * size_of::<Entry>())
    }
}

/// The journal that this thread notes its changes in.
#[derive(Clone, Copy)]
struct Open {
    region: NonNull<Region>,
    journal: Journal,
    /// The beginning of the journal, and its entries: all of them lie in the region.
    head: NonNull<Head>,
    entries: NonNull<Entry>,
}

thread_local! {
    static OPEN: Cell<Option<Open>> = const { Cell::new(None) };
}

/// Nothing is noted any more when this goes.
struct Closing;

impl Drop for Closing {
    fn drop(&mut self) {
        OPEN.set(None);
    }
}

/// Runs an update of a region and notes what it changes. `begin` is called when the journal is empty.
pub fn during<T>(
    region: &Region,
    journal: Journal,
    begin: impl FnOnce(),
    update: impl FnOnce() -> T,
) -> Result<T, Corrupt> {
    let head = journal.head(region)?;
    if OPEN.get().is_some() {
        // An update of another zone is under way in this thread. This one cannot be undone.
        head.count.commit(u32::MAX);
        begin();
        return Ok(update());
    }
    head.count.commit(0);
    begin();
    // They are looked for once, not for every change.
    journal.entry(region, journal.most.checked_sub(1).ok_or(Corrupt)?)?;
    let entries = NonNull::from(journal.entry(region, 0)?);
    OPEN.set(Some(Open { region: NonNull::from(region), journal, head: NonNull::from(head), entries }));
    let _closing = Closing;
    Ok(update())
}

/// A word of some region is about to be changed; `before` is its value and its size.
#[inline]
pub fn note(place: *const u8, before: impl FnOnce() -> (u64, usize)) {
    if let Some(open) = OPEN.get() {
        let (value, size) = before();
        open.note(place, value, size);
    }
}

/// The zone is as it should be: what has been changed up to now stays.
pub fn forget() -> Result<(), Corrupt> {
    unnoted(|region, journal| {
        journal.head(region)?.count.commit(0);
        Ok(())
    })
}

/// A step with the journal that is open, whose own changes are not noted.
fn unnoted(step: impl FnOnce(&Region, Journal) -> Result<(), Corrupt>) -> Result<(), Corrupt> {
    let Some(open) = OPEN.take() else { return Ok(()) };
    // SAFETY: `during` holds the region as long as its journal is open, and both are of this thread.
    let done = step(unsafe { open.region.as_ref() }, open.journal);
    OPEN.set(Some(open));
    done
}

impl Open {
    #[inline]
    fn note(self, place: *const u8, value: u64, size: usize) {
        // SAFETY: `during` holds the region as long as its journal is open, and both are of this thread.
        let region = unsafe { self.region.as_ref() };
        let Some(offset) = region.offset_of(place) else { return };
        // SAFETY: `during` has found the head in the region, which it holds.
        let head = unsafe { self.head.as_ref() };
        let count = head.count.get() as usize;
        if count >= self.journal.most {
            head.count.store_plain(u32::MAX);
            return;
        }
        // SAFETY: `during` has found the first and the last entry in the region, and this is one of them.
        let entry = unsafe { self.entries.add(count).as_ref() };
        entry.place.store_plain(offset as u64 | (size as u64) << 32);
        entry.value.store_plain(value);
        // A process that is killed has executed its instructions up to one point.
        compiler_fence(Ordering::SeqCst);
        head.count.store_plain(count as u32 + 1);
        compiler_fence(Ordering::SeqCst);
    }
}

/// Puts everything back as it was noted. False if that is not known. Nobody is in an update. Killed in the middle, it is
/// done once more.
pub fn undo(region: &Region, journal: Journal) -> Result<bool, Corrupt> {
    let count = journal.head(region)?.count.get() as usize;
    if count > journal.most {
        return Ok(false);
    }
    for nth in (0..count).rev() {
        let entry = journal.entry(region, nth)?;
        let (place, value) = (entry.place.get(), entry.value.get());
        let offset = (place & u64::from(u32::MAX)) as usize;
        match place >> 32 {
            4 => region.at::<Word>(offset)?.commit(value as u32),
            8 => region.at::<Wide>(offset)?.commit(value),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

const _: () = assert!(size_of::<Entry>() == 16 && size_of::<Head>() == 16);
