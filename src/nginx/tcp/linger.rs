//! The end of a connection to a service whose client has gone: what the client sent before still reaches it.

use std::ffi::c_void;

use super::socket::{Discarded, Socket};
use crate::nginx::client::Sent;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::output::Output;

/// Milliseconds in which a service that takes nothing is given up, and in which it is to close its side.
const PATIENCE: u64 = 5_000;

/// A connection that nobody but its own events holds.
struct Lingering {
    socket: Socket,
    queue: Output,
    /// Everything was written.
    ended: bool,
}

/// Closes the connection: at once, unless octets are still under way to the service.
pub fn close(socket: Socket, queue: Output) {
    if queue.is_empty() && socket.unsent() == 0 {
        return;
    }
    // SAFETY: nginx's log of the worker outlives its connections.
    socket.log_to(unsafe { (*ffi::ngx_cycle).log });
    let mut lingering = Box::new(Lingering { socket, queue, ended: false });
    lingering.socket.set_timer(PATIENCE);
    if lingering.go_on() {
        let data = (&raw mut *lingering).cast::<c_void>();
        lingering.socket.wake(data, on_event);
        // Given back by on_event().
        Box::leak(lingering);
    }
}

impl Lingering {
    /// Does what can be done now. Whether there will be more to do.
    fn go_on(&mut self) -> bool {
        if !self.queue.is_empty() {
            let waiting = self.queue.len();
            if self.queue.flush(&mut self.socket) == Sent::Lost {
                return false;
            }
            if self.queue.len() < waiting {
                self.socket.set_timer(PATIENCE);
            }
        }
        if self.queue.is_empty() && !self.ended {
            self.ended = true;
            self.socket.end_writing();
        }
        // Closing with unread octets would be a reset, and the service might lose what it has not read.
        self.socket.discard() == Discarded::Blocked && self.socket.watch()
    }
}

unsafe extern "C" fn on_event(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the data of the connection is the box that close() has leaked; it is taken back once, here.
        unsafe {
            let connection = (*event).data.cast::<ffi::ngx_connection_t>();
            let data = (*connection).data.cast::<Lingering>();
            let given_up = ffi::ngx_ws_connection_close_requested(connection) != 0 || (*data).socket.timed_out();
            if given_up || !(*data).go_on() {
                drop(Box::from_raw(data));
            } else {
                // TLS has events of its own while it says good-bye.
                (*data).socket.wake(data.cast(), on_event);
            }
        }
    });
}
