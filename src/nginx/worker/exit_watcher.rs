// SPDX-License-Identifier: Apache-2.0

//! How the module hears that its worker has been told to go.
//!
//! nginx has no hook for that, but it closes idle connections then: a connection without a descriptor that looks idle is called. As
//! "shared" it is never counted as one that keeps the worker.

use std::ptr::NonNull;

use crate::nginx::ffi;

/// A descriptor that is none, and is not what nginx takes for that of a connection that was closed.
const NO_DESCRIPTOR: ffi::ngx_socket_t = -2;

/// What nginx notes in a connection that was closed.
const CLOSED: ffi::ngx_socket_t = -1;

/// The connection that is called. It is let go on drop.
pub struct ExitWatcher(NonNull<ffi::ngx_connection_t>);

impl ExitWatcher {
    /// Lets nginx call `handler` when it closes idle connections. `None` when all `worker_connections` are in use.
    pub fn new(cycle: *mut ffi::ngx_cycle_t, handler: unsafe extern "C" fn(*mut ffi::ngx_event_t)) -> Option<Self> {
        // SAFETY: the cycle is the one that this process works for; the connection is ours until drop, its events with it.
        unsafe {
            let log = (*cycle).log;
            let connection = NonNull::new(ffi::ngx_get_connection(0, log))?;
            let fields = connection.as_ptr();
            (*fields).fd = NO_DESCRIPTOR;
            (*fields).set_idle(1);
            (*fields).set_shared(1);
            (*fields).data = cycle.cast();
            (*(*fields).read).log = log;
            (*(*fields).write).log = log;
            (*(*fields).read).handler = Some(handler);
            Some(ExitWatcher(connection))
        }
    }
}

impl Drop for ExitWatcher {
    fn drop(&mut self) {
        let connection = self.0.as_ptr();
        // SAFETY: the connection is ours. It is given back with the descriptor that it was made with, which is an index into a table
        // where nginx uses select or poll.
        unsafe {
            (*connection).set_idle(0);
            (*connection).fd = 0;
            ffi::ngx_free_connection(connection);
            (*connection).fd = CLOSED;
        }
    }
}
