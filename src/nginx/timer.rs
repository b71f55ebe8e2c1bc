//! One nginx timer, owned by what it wakes.

use std::ffi::c_void;
use std::ptr;

use super::ffi;

/// An event that is only ever a timer or a posted event. It must not move once it has been armed or posted: whoever owns
/// it lives on the heap.
pub struct Timer {
    event: ffi::ngx_event_t,
}

impl Timer {
    /// A timer that calls `handler` with an event whose data is `data`.
    pub fn new(
        handler: unsafe extern "C" fn(*mut ffi::ngx_event_t),
        data: *mut c_void,
        log: *mut ffi::ngx_log_t,
    ) -> Self {
        // SAFETY: ngx_event_t is a C struct for which all zeroes is what nginx itself starts with.
        let mut event: ffi::ngx_event_t = unsafe { std::mem::zeroed() };
        event.handler = Some(handler);
        event.data = data;
        event.log = log;
        Timer { event }
    }

    /// The same timer, but it does not keep a worker that is told to go.
    pub fn cancelable(mut self) -> Self {
        // SAFETY: the event is initialised.
        unsafe { ffi::ngx_ws_event_set_cancelable(&raw mut self.event) };
        self
    }

    /// Arms it to fire in `milliseconds`. nginx itself leaves a timer alone whose time changes by less than 300 ms.
    pub fn arm(&mut self, milliseconds: u64) {
        let milliseconds = usize::try_from(milliseconds).unwrap_or(usize::MAX).min(i32::MAX as usize);
        // SAFETY: the event is initialised and stays where it is until drop, which removes it.
        unsafe { ffi::ngx_ws_add_timer(&raw mut self.event, milliseconds) };
    }

    /// Takes it out of the tree.
    pub fn disarm(&mut self) {
        // SAFETY: the shim looks whether the timer is set at all.
        unsafe { ffi::ngx_ws_del_timer(&raw mut self.event) };
    }

    /// Calls the handler once, after the events that are waiting now.
    pub fn post_next(&mut self) {
        // SAFETY: as in arm().
        unsafe { ffi::ngx_ws_post_next_event(&raw mut self.event) };
    }

    /// Whether nginx is calling because the time is up (and not because the event was posted). Clears the mark.
    pub fn take_expired(&mut self) -> bool {
        // SAFETY: the event is initialised.
        unsafe {
            let expired = ffi::ngx_ws_event_timedout(&raw const self.event) != 0;
            ffi::ngx_ws_event_clear_timedout(&raw mut self.event);
            expired
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: after this nginx holds no pointer to the event.
        unsafe {
            ffi::ngx_ws_del_timer(&raw mut self.event);
            ffi::ngx_ws_delete_posted_event(&raw mut self.event);
        }
        self.event.data = ptr::null_mut();
    }
}

/// nginx's clock in milliseconds, as of the current turn of the event loop.
pub fn now() -> u64 {
    // SAFETY: reads a global that nginx keeps up to date.
    unsafe { ffi::ngx_ws_current_msec() as u64 }
}
