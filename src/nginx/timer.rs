// SPDX-License-Identifier: Apache-2.0

//! nginx's timers and posted events, owned by what they wake.
//!
//! With `error_log ... debug` nginx writes a line for every timer that is set, removed or has expired, and for that reads the
//! descriptor of the connection that it takes the data of the event for (`ngx_event_ident`). An event of this module has no
//! connection: its data is a [`Subject`], which has a descriptor where a connection has it. No other event is made here.

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::{self, NonNull};

use super::ffi;

/// What nginx calls when the time is up, or when it comes to the posted event.
pub type Handler = unsafe extern "C" fn(*mut ffi::ngx_event_t);

/// No descriptor, in nginx's own words.
const NO_DESCRIPTOR: ffi::ngx_socket_t = -1;

/// What the data of an event points to: the beginning of a connection, as far as anybody may read it.
#[repr(C)]
struct Subject {
    /// Whoever is woken, as with a connection.
    owner: *mut c_void,
    read: *mut ffi::ngx_event_t,
    write: *mut ffi::ngx_event_t,
    descriptor: ffi::ngx_socket_t,
}

const _: () = {
    assert!(offset_of!(Subject, owner) == offset_of!(ffi::ngx_connection_t, data));
    assert!(offset_of!(Subject, read) == offset_of!(ffi::ngx_connection_t, read));
    assert!(offset_of!(Subject, write) == offset_of!(ffi::ngx_connection_t, write));
    assert!(offset_of!(Subject, descriptor) == offset_of!(ffi::ngx_connection_t, fd));
};

/// What nginx has pointers to while the timer is set or the event is posted.
struct Armed {
    event: ffi::ngx_event_t,
    subject: Subject,
}

/// An event that is only ever a timer or a posted event. It may be moved: what nginx sees of it stays on the heap.
pub struct Timer {
    /// Invariant: allocated by a box that only drop takes back; the data of the event is the subject beside it, and the log of
    /// the event is never null.
    armed: NonNull<Armed>,
    /// The log is the worker's. It changes where one process goes on with another configuration.
    is_of_worker: bool,
}

impl Timer {
    /// A timer that wakes `owner`, which the handler gets by [`owner`]. The log is there until the timer is dropped.
    pub fn new(handler: Handler, owner: *mut c_void, log: *mut ffi::ngx_log_t) -> Self {
        debug_assert!(!log.is_null());
        // SAFETY: ngx_event_t is a C struct for which all zeroes is what nginx itself starts with.
        let event: ffi::ngx_event_t = unsafe { std::mem::zeroed() };
        let subject = Subject { owner, read: ptr::null_mut(), write: ptr::null_mut(), descriptor: NO_DESCRIPTOR };
        let armed = NonNull::from(Box::leak(Box::new(Armed { event, subject })));
        // SAFETY: allocated just now, and not shared yet.
        unsafe {
            let armed = armed.as_ptr();
            (*armed).event.handler = Some(handler);
            (*armed).event.log = log;
            (*armed).event.data = (&raw mut (*armed).subject).cast();
        }
        Timer { armed, is_of_worker: false }
    }

    /// A timer that wakes nobody yet, of something that is not bound to a request.
    pub fn of_worker(handler: Handler) -> Self {
        let mut timer = Timer::new(handler, ptr::null_mut(), worker_log());
        timer.is_of_worker = true;
        timer
    }

    /// A timer that does not keep a worker that is told to go.
    pub fn cancelable(self) -> Self {
        // SAFETY: the event was initialised by new(), and is ours until drop.
        unsafe { (*self.event()).set_cancelable(1) };
        self
    }

    /// From now on it wakes `owner`: whoever owns a timer may not know its own address before it has one.
    pub fn set_owner(&mut self, owner: *mut c_void) {
        // SAFETY: allocated until drop; nginx reads no more of the subject than the descriptor.
        unsafe { (*self.armed.as_ptr()).subject.owner = owner };
    }

    /// Arms it to fire in `milliseconds`. nginx itself leaves a timer alone whose time changes by less than 300 ms.
    pub fn arm(&mut self, milliseconds: u64) {
        let milliseconds = usize::try_from(milliseconds).unwrap_or(usize::MAX).min(i32::MAX as usize);
        self.renew_log();
        // SAFETY: the event is initialised and stays where it is until drop, which removes it.
        unsafe { ffi::ngx_ws_add_timer(self.event(), milliseconds) };
    }

    /// Takes it out of the tree.
    pub fn disarm(&mut self) {
        self.renew_log();
        // SAFETY: the shim looks whether the timer is set at all.
        unsafe { ffi::ngx_ws_del_timer(self.event()) };
    }

    /// Takes it out of the tree, and out of the events that are waiting.
    pub fn cancel(&mut self) {
        self.disarm();
        // SAFETY: the shim looks whether the event is posted at all.
        unsafe { ffi::ngx_ws_delete_posted_event(self.event()) };
    }

    /// Calls the handler once, after the events that are waiting now.
    pub fn post_next(&mut self) {
        self.renew_log();
        // SAFETY: the event is initialised and stays where it is until drop, which takes it back.
        unsafe { ffi::ngx_ws_post_next_event(self.event()) };
    }

    /// Whether nginx is calling because the time is up (and not because the event was posted). Clears the mark.
    pub fn take_expired(&mut self) -> bool {
        // SAFETY: the event was initialised by new(), and is ours until drop.
        unsafe {
            let expired = (*self.event()).timedout() != 0;
            (*self.event()).set_timedout(0);
            expired
        }
    }

    fn event(&self) -> *mut ffi::ngx_event_t {
        // SAFETY: the timer's own memory is allocated until drop.
        unsafe { &raw mut (*self.armed.as_ptr()).event }
    }

    fn renew_log(&mut self) {
        if self.is_of_worker {
            // SAFETY: the timer's own memory is allocated until drop.
            unsafe { (*self.event()).log = worker_log() };
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
        // SAFETY: after this nginx holds no pointer to the event, and new() has leaked the box.
        unsafe {
            ffi::ngx_ws_delete_posted_event(self.event());
            drop(Box::from_raw(self.armed.as_ptr()));
        }
    }
}

/// Whom an event is to wake: what its timer was given, or what is the data of its connection.
///
/// # Safety
///
/// The event is one of a [`Timer`], or of a connection of nginx that is alive.
pub unsafe fn owner<T>(event: *mut ffi::ngx_event_t) -> Option<NonNull<T>> {
    // SAFETY: the data of the event is the subject of a timer or a connection, which begin alike.
    unsafe { NonNull::new((*(*event).data.cast::<Subject>()).owner.cast()) }
}

/// The log of the configuration that the worker has now.
fn worker_log() -> *mut ffi::ngx_log_t {
    // SAFETY: ngx_cycle is set before workers begin, and always has a log.
    unsafe { (*ffi::ngx_cycle).log }
}

/// nginx's clock in milliseconds, as of the current turn of the event loop.
pub fn now() -> u64 {
    // SAFETY: reads a global that nginx keeps up to date.
    unsafe { (&raw const ffi::ngx_current_msec).read_volatile() as u64 }
}

/// Milliseconds since 1970, as of the current turn of the event loop.
pub fn unix() -> u64 {
    // SAFETY: nginx lets the global point to a time before any module is called, and to the next one whenever it looks at the clock.
    let time = unsafe { (&raw const ffi::ngx_cached_time).read_volatile().read_volatile() };
    unix_of(time.sec, time.msec)
}

/// Milliseconds since 1970 of a time that nginx has noted; 0 for one before 1970.
pub fn unix_of(seconds: i64, milliseconds: usize) -> u64 {
    u64::try_from(seconds).unwrap_or_default() * 1000 + milliseconds as u64
}
