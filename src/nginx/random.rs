// SPDX-License-Identifier: Apache-2.0

//! Random numbers of the system. What Rust's collections have for that is no source of them here: a thread asks the system once and counts
//! on from there, and all workers are forked from a master that has asked already, so that each of them would draw the same.

use std::cell::Cell;

use super::timer::now;

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// A number that nobody can guess where the system has some, and that is another one each time.
pub fn number() -> u64 {
    let mut number = [0_u8; 8];
    // SAFETY: the buffer has the length that is told.
    let drawn = unsafe { libc::getrandom(number.as_mut_ptr().cast(), number.len(), libc::GRND_NONBLOCK) };
    let next = LAST.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(now() | 1);
    LAST.set(next);
    if drawn == 8 { u64::from_ne_bytes(number) } else { next }
}

/// A number of 128 bits, as [`number`].
pub fn long_number() -> u128 {
    u128::from(number()) << 64 | u128::from(number())
}
