// SPDX-License-Identifier: Apache-2.0

//! The end of a client's connection after the last frame.
//!
//! A connection that is closed with unread octets is reset, and the client may lose what was sent to it last. So what it still
//! sends is read and dropped for a while, as nginx does (`lingering_close`). But nginx keeps the request meanwhile, and with it
//! the client's place at `limit_conn` and the line in the access log. Here the request ends at once: what remains is a duplicate
//! of the descriptor, which keeps the connection from being closed with nginx's own.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::nginx::client::Client;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::pipe::{Pipe, Read};
use crate::nginx::request::Request;
use crate::nginx::status::Status;
use crate::nginx::timer::{self, Timer, now};
use crate::session::buffers;

/// Reads of one event, after which others get their turn.
const READS: u32 = 16;

/// A connection that nobody but its own events holds.
struct Lingering {
    pipe: Pipe,
    timer: Timer,
    /// Our side was closed.
    shut: bool,
    /// The connection is closed at this time, or after this many milliseconds of silence.
    until: u64,
    silence: u64,
}

/// Keeps the connection open beyond its request, if the location lingers. To be called before the request is finalized.
pub fn begin(request: Request<'_>, client: &Client) {
    // SAFETY: the request is alive, and the settings of its location live as long.
    let (is_on, total, silence) = unsafe {
        let location = &*request.core_location();
        let is_on = location.lingering_close != ffi::NGX_HTTP_LINGERING_OFF as usize;
        (is_on, location.lingering_time as u64, location.lingering_timeout as u64)
    };
    if is_on && keep(client.connection(), total, silence).is_err() {
        // SAFETY: the request is alive: the caller finalizes it afterwards. nginx lingers then, which holds the request.
        unsafe { (*request.raw()).set_lingering_close(1) };
    }
}

/// Keeps the connection open beyond its request: for `total` milliseconds, or so many of silence.
fn keep(connection: *mut ffi::ngx_connection_t, total: u64, silence: u64) -> io::Result<()> {
    // SAFETY: the connection is that of a live request, its descriptor is open; ngx_cycle is set before workers begin.
    let (fd, log) = unsafe {
        if ffi::ngx_ws_connection_unwatch(connection) != Status::OK {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        (BorrowedFd::borrow_raw((*connection).fd).try_clone_to_owned()?, (*ffi::ngx_cycle).log)
    };
    let lingering = Box::leak(Box::new(Lingering {
        pipe: Pipe::new(fd, on_event, std::ptr::null_mut(), log)?,
        timer: Timer::of_worker(on_timer),
        shut: false,
        until: now().saturating_add(total),
        silence,
    }));
    let data = (&raw mut *lingering).cast::<c_void>();
    lingering.pipe.set_data(data);
    lingering.timer.set_owner(data);
    // nginx, or TLS, may still have something to say before it closes its descriptor. What is posted does not keep a worker that
    // was told to go; a timer does.
    lingering.timer.post_next();
    lingering.timer.arm(silence.min(total).max(1));
    Ok(())
}

impl Lingering {
    /// Whether the lingering goes on.
    fn go_on(&mut self) -> bool {
        if !self.shut {
            self.shut = true;
            // SAFETY: the descriptor is open. A connection that is broken is found so by reading.
            unsafe { libc::shutdown(self.pipe.as_fd().as_raw_fd(), libc::SHUT_WR) };
        }
        let mut buffer = buffers::take_reading();
        let mut goes_on = true;
        for _ in 0..READS {
            match self.pipe.read(&mut buffer) {
                Read::Data(_) => {}
                Read::Blocked => break,
                Read::End | Read::HungUp => {
                    goes_on = false;
                    break;
                }
            }
        }
        buffers::put_reading(buffer);
        let now = now();
        if !goes_on || now >= self.until || !self.pipe.watch_read(true) {
            return false;
        }
        self.timer.disarm();
        self.timer.arm(self.silence.min(self.until - now).max(1));
        true
    }
}

/// Lets it go on, or end.
///
/// # Safety
///
/// The connection was leaked by [`keep`], and has not ended.
unsafe fn go_on(lingering: *mut Lingering, expired: bool) {
    guard((), || {
        // SAFETY: the promise of the caller; whoever is called later is called by events that end with it.
        unsafe {
            if expired || !(*lingering).go_on() {
                drop(Box::from_raw(lingering));
            }
        }
    });
}

/// The client has sent something, or closed, or the worker's time is up.
unsafe extern "C" fn on_event(event: *mut ffi::ngx_event_t) {
    // SAFETY: the data of the event is our connection, and its data the box.
    unsafe {
        let connection = (*event).data.cast::<ffi::ngx_connection_t>();
        go_on((*connection).data.cast(), (*connection).close() != 0);
    }
}

/// Its first turn, or the end of its time.
unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    // SAFETY: the owner of the timer is the box, which has the timer and so is there as long as it.
    unsafe {
        let Some(lingering) = timer::owner::<Lingering>(event) else { return };
        let expired = (*lingering.as_ptr()).timer.take_expired();
        go_on(lingering.as_ptr(), expired);
    }
}
