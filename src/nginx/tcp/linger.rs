// SPDX-License-Identifier: Apache-2.0

//! The end of a connection to a service whose client has gone: what the client sent before still reaches it.
//!
//! Either all of it does, and the service sees an orderly end, or the connection is reset.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::NonNull;

use super::socket::{Discarded, Socket};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::{self, Level};
use crate::session::client::Sent;
use crate::session::output::Output;

/// Milliseconds in which a service that takes nothing is given up, and in which it is to close its side.
const PATIENCE: u64 = 5_000;

/// A connection that nobody but its own events holds.
struct Lingering {
    socket: Socket,
    queue: Output,
    /// Everything was written.
    ended: bool,
}

/// What there is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next event is waited for.
    Wait,
    /// The connection is over.
    End,
}

thread_local! {
    /// Invariant: each was leaked by [`close`] and is freed by who takes it off the list.
    static LINGERING: RefCell<Vec<NonNull<Lingering>>> = const { RefCell::new(Vec::new()) };
}

/// Closes the connection: at once, unless octets are still under way to the service.
pub fn close(socket: Socket, queue: Output) {
    if queue.is_empty() && socket.unsent() == 0 {
        return;
    }
    // SAFETY: nginx's log of the worker outlives its connections.
    socket.log_to(unsafe { (*ffi::ngx_cycle).log });
    let mut lingering = Box::new(Lingering { socket, queue, ended: false });
    lingering.socket.look();
    lingering.socket.set_timer(PATIENCE);
    match lingering.go_on() {
        Next::Wait => {
            let data = NonNull::from(&mut *lingering);
            lingering.socket.wake(data.as_ptr().cast(), on_event);
            LINGERING.with_borrow_mut(|list| list.push(data));
            // Given back by take().
            Box::leak(lingering);
        }
        Next::End => lingering.finish(),
    }
}

/// The worker leaves now.
pub fn end() {
    for lingering in LINGERING.take() {
        // SAFETY: leaked by close(); taking the list off makes this its only owner.
        unsafe { Box::from_raw(lingering.as_ptr()) }.finish();
    }
}

/// Takes one off the list.
fn take(lingering: NonNull<Lingering>) -> Option<Box<Lingering>> {
    LINGERING.with_borrow_mut(|list| {
        let place = list.iter().position(|other| *other == lingering)?;
        list.swap_remove(place);
        // SAFETY: leaked by close(), and on the list until now: nobody has freed it.
        Some(unsafe { Box::from_raw(lingering.as_ptr()) })
    })
}

impl Lingering {
    /// Does what can be done now.
    fn go_on(&mut self) -> Next {
        if !self.queue.is_empty() {
            let waiting = self.queue.len();
            if self.queue.flush(&mut self.socket) == Sent::Lost {
                // The service has gone by itself.
                self.queue = Output::default();
                return Next::End;
            }
            if self.queue.len() < waiting {
                self.socket.look();
                self.socket.set_timer(PATIENCE);
            }
        }
        if self.queue.is_empty() && !self.ended {
            self.ended = true;
            self.socket.end_writing();
        }
        // Closing with unread octets would be a reset, and the service might lose what it has not read.
        if self.socket.discard() == Discarded::Blocked && self.socket.watch() { Next::Wait } else { Next::End }
    }

    /// The time is over. A service that has taken something of what the system has for it gets more.
    fn on_time(&mut self) -> Next {
        self.socket.clear_timed_out();
        if self.socket.look().taken {
            self.socket.set_timer(PATIENCE);
            return self.go_on();
        }
        Next::End
    }

    /// Closes the connection.
    fn finish(self) {
        let Lingering { socket, queue, .. } = self;
        if !queue.is_empty() {
            let left = queue.len();
            log::cycle(
                Level::Warn,
                format_args!("the service does not read: {left} octets of a client that has gone are lost"),
            );
            socket.reset();
        }
    }
}

unsafe extern "C" fn on_event(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the data of the connection is the box that close() has leaked; it is on the list until take().
        let (next, this) = unsafe {
            let connection = (*event).data.cast::<ffi::ngx_connection_t>();
            let Some(this) = NonNull::new((*connection).data.cast::<Lingering>()) else { return };
            let lingering = &mut *this.as_ptr();
            let next = if (*connection).close() != 0 {
                Next::End
            } else if lingering.socket.timed_out() {
                lingering.on_time()
            } else {
                lingering.go_on()
            };
            if next == Next::Wait {
                // TLS has events of its own while it says good-bye.
                lingering.socket.wake(this.as_ptr().cast::<c_void>(), on_event);
            }
            (next, this)
        };
        if next == Next::End
            && let Some(lingering) = take(this)
        {
            lingering.finish();
        }
    });
}
