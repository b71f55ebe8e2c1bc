// SPDX-License-Identifier: Apache-2.0

//! The heap of a worker when many of its clients have gone.
//!
//! The memory of a client comes from the C library, as all of nginx's does, and goes back to it when the client is gone. The
//! library keeps it for the next one, between what others still have. After many clients are gone at once it is told to give the
//! pages back to the system.

use std::cell::RefCell;

use super::ffi;
use super::guard::guard;
use super::process_state;
use super::timer::Timer;

/// How many fewer clients there are than once were before the heap is looked at: about 10 MB.
const FEWER: usize = 1000;
/// The part of the clients that must have gone, so that a busy worker does not do it again and again.
const PART: usize = 4;
/// Milliseconds until then. Clients that come back meanwhile use the memory that is there.
const DELAY: u64 = 2000;

#[derive(Default)]
struct Heap {
    /// As many clients as there were at most since the last time.
    most: usize,
    now: usize,
    timer: Option<Timer>,
    /// The timer is set.
    is_due: bool,
}

impl Heap {
    fn is_worth_it(&self) -> bool {
        let gone = self.most - self.now;
        gone >= FEWER && gone >= self.most / PART
    }
}

thread_local! {
    static HEAP: RefCell<Heap> = RefCell::default();
}

/// There is one client more.
pub fn client_came() {
    HEAP.with_borrow_mut(|heap| {
        heap.now += 1;
        heap.most = heap.most.max(heap.now);
    });
}

/// There is one client less.
pub fn client_gone() {
    HEAP.with_borrow_mut(|heap| {
        heap.now = heap.now.saturating_sub(1);
        if !heap.is_due && heap.is_worth_it() {
            heap.is_due = true;
            heap.timer.get_or_insert_with(|| Timer::of_worker(on_time).cancelable()).arm(DELAY);
        }
    });
}

/// The worker leaves, and nginx's timers end with it.
pub fn end() {
    HEAP.take();
}

unsafe extern "C" fn on_time(_: *mut ffi::ngx_event_t) {
    guard((), || {
        let give_back = HEAP.with_borrow_mut(|heap| {
            heap.is_due = false;
            let is_worth_it = heap.is_worth_it();
            if is_worth_it {
                heap.most = heap.now;
            }
            is_worth_it
        });
        // The last clients of a worker that leaves are not to wait for its memory, which goes with it.
        if give_back && !process_state::is_leaving() {
            trim();
        }
    });
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: the function only needs the library's own locks; a worker has no signal handler that allocates.
    unsafe { libc::malloc_trim(0) };
}

/// Other libraries give back what is free without being asked, or have no way to ask.
#[cfg(not(target_env = "gnu"))]
fn trim() {}
