// SPDX-License-Identifier: Apache-2.0

//! Access to memory that other processes change: the only place of the store that is not safe Rust.
//!
//! A [`Region`] is a piece of memory and its length. What lies in it is addressed by offsets and checked against the
//! length each time, so damaged contents can lead to wrong answers but never outside of the region. No reference into
//! the region is made but to atomic integers ([`Word`], [`Wide`] and structures of them); octets are copied in and out.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::{fail, journal, notice};

/// Where a region begins must be a multiple of this.
pub const ALIGN: usize = 64;

/// An offset or an index that does not lie in the region, or contents that contradict themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the channel zone contradicts itself")
    }
}

impl std::error::Error for Corrupt {}

/// A 32-bit integer in shared memory.
#[derive(Debug)]
#[repr(transparent)]
pub struct Word(AtomicU32);

/// A 64-bit integer in shared memory.
#[derive(Debug)]
#[repr(transparent)]
pub struct Wide(AtomicU64);

macro_rules! integer {
    ($name:ident, $plain:ty) => {
        impl $name {
            /// The value.
            pub fn get(&self) -> $plain {
                self.0.load(Ordering::Relaxed)
            }

            /// Changes the value; under the lock, or where only one process ever writes.
            pub fn set(&self, value: $plain) {
                if self.get() == value {
                    return;
                }
                fail::point();
                journal::note(std::ptr::from_ref(self).cast(), || (self.get().into(), size_of::<$plain>()));
                self.0.store(value, Ordering::Relaxed);
            }

            /// Changes a value that nobody will look at if the update does not come to its end: what it was is not noted.
            pub fn put(&self, value: $plain) {
                fail::point();
                self.0.store(value, Ordering::Relaxed);
            }

            /// Changes the value after everything written before, and before everything written later. A process that
            /// is killed has executed its instructions up to one point, so it is enough to hold the compiler back.
            pub fn commit(&self, value: $plain) {
                fail::point();
                journal::note(std::ptr::from_ref(self).cast(), || (self.get().into(), size_of::<$plain>()));
                compiler_fence(Ordering::SeqCst);
                self.0.store(value, Ordering::Release);
                compiler_fence(Ordering::SeqCst);
            }

            /// Changes the value where it is neither noted nor a fail point: in the notes themselves.
            pub fn store_plain(&self, value: $plain) {
                self.0.store(value, Ordering::Relaxed);
            }

            /// Adds to the value, without wrapping.
            pub fn add(&self, more: $plain) {
                self.set(self.get().saturating_add(more));
            }

            /// Takes from the value, without wrapping.
            pub fn sub(&self, less: $plain) {
                self.set(self.get().saturating_sub(less));
            }
        }
    };
}

impl Word {
    /// Sets a flag after news were written, under the lock. Whether it was not set: then somebody is to be woken.
    pub fn raise(&self) -> bool {
        fail::point();
        journal::note(std::ptr::from_ref(self).cast(), || (self.get().into(), size_of::<u32>()));
        notice::raise(&self.0)
    }

    /// Takes a flag back before the news are looked at, without the lock. Whether it was set.
    pub fn take(&self) -> bool {
        notice::take(&self.0)
    }
}

integer!(Word, u32);
integer!(Wide, u64);

#[cfg(test)]
impl Word {
    /// Changes the value if it is `from`: for locks of tests. Whether it was.
    pub fn exchange(&self, from: u32, to: u32) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// What may be looked at in place: structures of atomic integers.
///
/// # Safety
///
/// The type consists of [`Word`] and [`Wide`] only, in `repr(C)` or `repr(transparent)`, so that every bit pattern is a
/// value of it and a shared reference allows other processes to write.
pub unsafe trait Shared {}

// SAFETY: the type is an atomic integer in a transparent wrapper: every bit pattern is a value, and others may write.
unsafe impl Shared for Word {}
// SAFETY: the type is an atomic integer in a transparent wrapper: every bit pattern is a value, and others may write.
unsafe impl Shared for Wide {}
// SAFETY: an array of what may be looked at has no other contents.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// Declares a structure in shared memory. Its fields must themselves be [`Shared`].
macro_rules! shared {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$note:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug)]
        #[repr(C)]
        $vis struct $name { $($(#[$note])* pub $field: $type,)* }

        const _: () = {
            const fn every_field_is_shared<T: $crate::channel::memory::Shared>() {}
            $(every_field_is_shared::<$type>();)*
        };

        // SAFETY: `repr(C)`, and every field was checked just above.
        #[allow(unsafe_code)]
        unsafe impl $crate::channel::memory::Shared for $name {}
    };
}
pub(crate) use shared;

/// A piece of memory that may be shared with other processes.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Somebody else's: lives longer than the region.
    Lent,
    /// From the allocator of this process.
    Heap(Layout),
    /// A mapping that children inherit.
    #[cfg(all(test, not(miri)))]
    Mapped,
}

impl Region {
    /// Memory that somebody else keeps: a shared memory zone of nginx.
    ///
    /// # Safety
    ///
    /// `base` is valid for reads and writes of `len` octets for as long as the region is used, and what writes there
    /// at the same time is only other regions over the same memory. `None` if it is not aligned to [`ALIGN`].
    pub unsafe fn lent(base: NonNull<u8>, len: usize) -> Option<Self> {
        base.as_ptr().addr().is_multiple_of(ALIGN).then_some(Self { base, len, source: Source::Lent })
    }

    /// Memory of this process alone, zeroed: for tests and measurements. `None` if the allocator refuses.
    pub fn private(len: usize) -> Option<Self> {
        let layout = Layout::from_size_align(len.max(1), ALIGN).ok()?;
        // SAFETY: the size of the layout is at least 1: max() sees to it.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { base, len, source: Source::Heap(layout) })
    }

    /// Zeroed memory that children of this process share with it.
    #[cfg(all(test, not(miri)))]
    pub fn shared(len: usize) -> std::io::Result<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: without MAP_FIXED the system makes a new mapping, which replaces nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0) };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { base, len, source: Source::Mapped }),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// Where it begins, to lend it in a test.
    #[cfg(test)]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Octets in the region.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The structure at this offset.
    pub fn at<T: Shared>(&self, offset: usize) -> Result<&T, Corrupt> {
        let at = self.checked(offset, size_of::<T>())?;
        if !offset.is_multiple_of(align_of::<T>()) || align_of::<T>() > ALIGN {
            return Err(Corrupt);
        }
        // SAFETY: in bounds and aligned (the base is aligned to `ALIGN`); the type consists of atomic integers, so it
        // may be written through other pointers while the reference lives.
        Ok(unsafe { &*at.cast::<T>() })
    }

    /// Copies octets in. Under the lock.
    pub fn write(&self, offset: usize, octets: &[u8]) -> Result<(), Corrupt> {
        let at = self.checked(offset, octets.len())?;
        fail::point();
        // SAFETY: in bounds; `octets` is private memory, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(octets.as_ptr(), at, octets.len()) };
        Ok(())
    }

    /// Copies octets out, to the end of `to`, which must have room for them (nothing is allocated here). Under the lock.
    pub fn append_to(&self, offset: usize, len: usize, to: &mut Vec<u8>) -> Result<(), Corrupt> {
        let at = self.checked(offset, len)?;
        let filled = to.len();
        if to.capacity() - filled < len {
            return Err(Corrupt);
        }
        // SAFETY: the source is in bounds, the vector has room for `len` octets after its contents and is private
        // memory, so the two do not overlap; afterwards the octets up to the new length are initialised.
        unsafe {
            std::ptr::copy_nonoverlapping(at.cast_const(), to.as_mut_ptr().add(filled), len);
            to.set_len(filled + len);
        }
        Ok(())
    }

    /// Whether these octets are at this offset. Under the lock.
    pub fn equals(&self, offset: usize, octets: &[u8]) -> Result<bool, Corrupt> {
        let at = self.checked(offset, octets.len())?;
        let mut copy = [0_u8; 64];
        for (nth, part) in octets.chunks(copy.len()).enumerate() {
            // SAFETY: `part` lies within the octets checked above, and is not longer than the private copy.
            unsafe {
                std::ptr::copy_nonoverlapping(at.add(nth * copy.len()).cast_const(), copy.as_mut_ptr(), part.len());
            }
            if copy.get(..part.len()) != Some(part) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets octets to zero. Under the lock.
    pub fn clear(&self, offset: usize, len: usize) -> Result<(), Corrupt> {
        let at = self.checked(offset, len)?;
        fail::point();
        // SAFETY: checked() has seen to it that the octets are within the region.
        unsafe { std::ptr::write_bytes(at, 0, len) };
        Ok(())
    }

    /// The offset of something that lies in the region.
    pub fn offset_of(&self, place: *const u8) -> Option<usize> {
        place.addr().checked_sub(self.base.as_ptr().addr()).filter(|offset| *offset < self.len)
    }

    /// A pointer to `len` octets at `offset`, if they are all in the region.
    fn checked(&self, offset: usize, len: usize) -> Result<*mut u8, Corrupt> {
        match offset.checked_add(len) {
            // SAFETY: the guard of this arm has seen to it that the offset is within the region.
            Some(end) if end <= self.len => Ok(unsafe { self.base.as_ptr().add(offset) }),
            _ => Err(Corrupt),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        match self.source {
            Source::Lent => {}
            // SAFETY: allocated with this layout and not freed before; no reference outlives the region.
            Source::Heap(layout) => unsafe { dealloc(self.base.as_ptr(), layout) },
            #[cfg(all(test, not(miri)))]
            // SAFETY: mapped with this length and not unmapped before; no reference outlives the region.
            Source::Mapped => unsafe {
                libc::munmap(self.base.as_ptr().cast(), self.len);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_reached() {
        let region = Region::private(128).unwrap();
        assert!(region.at::<Wide>(120).is_ok());
        assert!(region.at::<Wide>(124).is_err());
        assert!(region.at::<Wide>(128).is_err());
        assert!(region.at::<Word>(usize::MAX - 1).is_err());
        assert!(region.at::<Word>(2).is_err(), "not aligned");
        assert!(region.write(127, b"ab").is_err());
        assert!(region.write(126, b"ab").is_ok());
        assert!(region.append_to(120, 9, &mut Vec::with_capacity(64)).is_err());
        assert!(region.append_to(120, 8, &mut Vec::new()).is_err(), "no room");
        assert!(region.clear(64, 65).is_err());
        assert!(region.equals(127, b"ab").is_err());
    }

    #[test]
    fn octets_go_in_and_out() {
        let region = Region::private(256).unwrap();
        let octets: Vec<u8> = (1..=200).collect();
        region.write(3, &octets).unwrap();
        let mut out = Vec::with_capacity(201);
        out.push(9);
        region.append_to(3, 200, &mut out).unwrap();
        assert_eq!(out[0], 9);
        assert_eq!(out[1..], octets);
        assert!(region.equals(3, &octets).unwrap());
        assert!(!region.equals(4, &octets).unwrap());
        region.clear(3, 1).unwrap();
        assert!(!region.equals(3, &octets).unwrap());
        assert!(region.equals(4, &octets[1..]).unwrap());
        assert_eq!(region.at::<Word>(204).unwrap().get(), 0);
        region.at::<Word>(204).unwrap().set(7);
        assert_eq!(region.at::<Word>(204).unwrap().get(), 7);
    }
}
