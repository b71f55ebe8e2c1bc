// SPDX-License-Identifier: Apache-2.0

//! What nginx knows of the process that it runs in, in variables of its own.

use std::cell::Cell;

use super::conf_ctx;
use super::ffi;
use super::timer::now;

/// Whether this process has been told to go.
pub fn is_leaving() -> bool {
    // SAFETY: reads flags that nginx's handlers of signals set; the process has one thread.
    unsafe {
        ffi::ngx_exiting != 0
            || (&raw const ffi::ngx_quit).read_volatile() != 0
            || (&raw const ffi::ngx_terminate).read_volatile() != 0
    }
}

/// Whether this process serves requests: `init_process` is called in those that look after a cache as well.
pub fn serves_requests() -> bool {
    // SAFETY: nginx sets it before the process begins to work.
    let kind = unsafe { ffi::ngx_process };
    kind == ffi::NGX_PROCESS_WORKER as usize || kind == ffi::NGX_PROCESS_SINGLE as usize
}

thread_local! {
    /// See [`clients_end`].
    static CLIENTS_END: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The worker has been told to go: `worker_shutdown_timeout` begins.
pub fn leaving() {
    // SAFETY: ngx_cycle is set before any process begins to work, and every cycle has the settings of nginx's core.
    let time = unsafe { (*conf_ctx::core_of_cycle(ffi::ngx_cycle)).shutdown_timeout as u64 };
    if time != 0 {
        CLIENTS_END.set(Some(now() + time));
    }
}

/// When `worker_shutdown_timeout` ends every client of a worker that was told to go. `None` for one that was not, and where there is no such time.
pub fn clients_end() -> Option<u64> {
    CLIENTS_END.get()
}
