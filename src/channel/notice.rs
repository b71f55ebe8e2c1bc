// SPDX-License-Identifier: Apache-2.0

//! A flag between who has news for a worker and the worker, which takes no lock to look at them.
//!
//! Tests run every order of these steps that the memory model allows.

use super::atomic::{AtomicU32, Ordering, fence};

/// Sets the flag after news were written. Whether it was not set: then the worker is to be woken.
///
/// Invariant: whoever finds the flag set can rely on the worker to see the news. It takes the flag back first and looks
/// then, with a fence between the two, as there is one here between the news and the flag.
pub fn raise(flag: &AtomicU32) -> bool {
    fence(Ordering::SeqCst);
    let is_low = flag.load(Ordering::Relaxed) == 0;
    if is_low {
        flag.store(1, Ordering::Release);
    }
    is_low
}

/// Takes the flag back, to look at the news then. Whether it was set.
pub fn take(flag: &AtomicU32) -> bool {
    let is_high = flag.load(Ordering::Acquire) != 0;
    if is_high {
        flag.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
    is_high
}
