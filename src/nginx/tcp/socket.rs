// SPDX-License-Identifier: Apache-2.0

//! The connection to a service: nginx's, plain or TLS.

use crate::nginx::connection::Connection;
use crate::nginx::ffi;
use crate::nginx::status::Status;
use crate::session::buffers;
use crate::session::client::{Received, Sent, Sink};
use crate::ws::timing::Look;

/// A service that never stops sending is closed on all the same.
const DISCARDED_READS: u32 = 64;

/// What reading found that nobody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// Nothing more for now, or too much.
    Blocked,
    /// The other side has closed, or is lost.
    End,
}

/// A connection of nginx that this module has opened. Closed on drop.
pub struct Socket {
    connection: Connection,
}

impl Socket {
    /// Takes a connection over. Whoever has it says who is [woken](Self::wake).
    pub fn new(connection: *mut ffi::ngx_connection_t, log: *mut ffi::ngx_log_t) -> Self {
        // SAFETY: the connection is ours until drop, its events with it.
        let socket = Socket { connection: unsafe { Connection::new(connection) } };
        socket.log_to(log);
        socket
    }

    /// Events go to `handler`; the data of the connection is `data`.
    pub fn wake(&self, data: *mut std::ffi::c_void, handler: unsafe extern "C" fn(*mut ffi::ngx_event_t)) {
        // SAFETY: the connection is ours until drop, its events with it.
        unsafe {
            (*self.raw()).data = data;
            (*self.read_event()).handler = Some(handler);
            (*self.write_event()).handler = Some(handler);
        }
    }

    /// The handler is called also when the socket can be written to, or only when there is something to read. epoll tells both at once
    /// whenever octets come.
    pub fn wake_to_write(&self, handler: Option<unsafe extern "C" fn(*mut ffi::ngx_event_t)>) {
        // SAFETY: the connection is ours until drop, its events with it.
        unsafe { (*self.write_event()).handler = Some(handler.unwrap_or(ignore)) };
    }

    /// Lines about the connection go to `log`.
    pub fn log_to(&self, log: *mut ffi::ngx_log_t) {
        // SAFETY: the connection is ours until drop, its events and its pool with it.
        unsafe {
            let connection = self.raw();
            (*connection).log = log;
            (*(*connection).read).log = log;
            (*(*connection).write).log = log;
            if let Some(pool) = (*connection).pool.as_mut() {
                pool.log = log;
            }
        }
    }

    /// nginx's connection.
    pub fn raw(&self) -> *mut ffi::ngx_connection_t {
        self.connection.raw()
    }

    fn read_event(&self) -> *mut ffi::ngx_event_t {
        self.connection.read_event()
    }

    fn write_event(&self) -> *mut ffi::ngx_event_t {
        self.connection.write_event()
    }

    /// Calls the handler once, after the events that are handled now.
    pub fn post(&self) {
        // SAFETY: the connection is ours until drop, its events with it; closing takes the event back.
        unsafe { ffi::ngx_ws_post_event(self.write_event()) };
    }

    /// Calls the handler in so many milliseconds.
    pub fn set_timer(&self, milliseconds: u64) {
        let milliseconds = usize::try_from(milliseconds).unwrap_or(usize::MAX).min(i32::MAX as usize);
        // SAFETY: the connection is ours until drop, its events with it; closing takes the timer out.
        unsafe { ffi::ngx_ws_add_timer(self.write_event(), milliseconds) };
    }

    /// The handler is not called by the timer any more.
    pub fn clear_timer(&self) {
        // SAFETY: the connection is ours until drop, its events with it; the shim looks whether the timer is set.
        unsafe { ffi::ngx_ws_del_timer(self.write_event()) };
    }

    /// Whether the timer has fired.
    pub fn timed_out(&self) -> bool {
        // SAFETY: the connection is ours until drop, its events with it.
        unsafe { (*self.write_event()).timedout() != 0 }
    }

    /// The timer that has fired counts as not set.
    pub fn clear_timed_out(&self) {
        // SAFETY: the connection is ours until drop, its events with it.
        unsafe { (*self.write_event()).set_timedout(0) };
    }

    /// Whether writing is worth a system call; before the connection is there, whether connect() has come to an end.
    pub fn writable(&self) -> bool {
        self.connection.writable()
    }

    /// Whether reading is worth a system call.
    pub fn readable(&self) -> bool {
        self.connection.readable()
    }

    /// Why connect() has failed, as the system numbers its errors; nothing is logged.
    pub fn connect_error(&self) -> Option<i32> {
        let mut error: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the connection is ours until drop; the system writes one number, whose place outlives the call.
        let status = unsafe {
            let out = (&raw mut error).cast();
            libc::getsockopt((*self.raw()).fd, libc::SOL_SOCKET, libc::SO_ERROR, out, &raw mut length)
        };
        if status == -1 {
            error = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        }
        (error != 0).then_some(error)
    }

    /// Whether connect() has failed; nginx has logged it then.
    pub fn connect_failed(&self) -> bool {
        let Some(error) = self.connect_error() else { return false };
        // SAFETY: the connection is ours until drop; nginx only reads the text.
        unsafe { ffi::ngx_connection_error(self.raw(), error, c"connect() failed".as_ptr().cast_mut()) };
        true
    }

    /// Small messages leave at once. `false` when the socket refuses.
    pub fn no_delay(&self) -> bool {
        // SAFETY: the connection is ours until drop.
        unsafe { ffi::ngx_ws_tcp_nodelay(self.raw()) == Status::OK }
    }

    /// Reads at most `most` octets to the end of a buffer.
    pub fn append_to(&mut self, buffer: &mut Vec<u8>, most: usize) -> Received {
        self.connection.append_to(buffer, most)
    }

    /// Octets that were written and have not arrived.
    pub fn unsent(&self) -> usize {
        self.connection.queued()
    }

    /// What the service has taken since the last look.
    pub fn look(&mut self) -> Look {
        self.connection.look()
    }

    /// Breaks the connection, so that the service does not take what it has got for all of it.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the connection is ours until drop, which closes it; the system reads the struct. TLS says no good-bye on a connection
        // that has timed out.
        unsafe {
            let (value, length) = ((&raw const linger).cast(), size_of::<libc::linger>() as libc::socklen_t);
            libc::setsockopt((*self.raw()).fd, libc::SOL_SOCKET, libc::SO_LINGER, value, length);
            (*self.raw()).set_timedout(1);
        }
    }

    /// Nothing more will be written.
    pub fn end_writing(&self) {
        // SAFETY: the connection is ours until drop, which closes its descriptor.
        unsafe {
            ffi::ngx_ws_ssl_shutdown(self.raw());
            libc::shutdown((*self.raw()).fd, libc::SHUT_WR);
        }
    }

    /// Reads what has come and drops it, TLS or not.
    pub fn discard(&mut self) -> Discarded {
        let mut buffer = buffers::take_reading();
        let mut result = Discarded::Blocked;
        for _ in 0..DISCARDED_READS {
            // SAFETY: the descriptor is open, the buffer writable for its length.
            let count = unsafe { libc::recv((*self.raw()).fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if count > 0 {
                continue;
            }
            let again = matches!(
                std::io::Error::last_os_error().kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
            );
            result = if count < 0 && again { Discarded::Blocked } else { Discarded::End };
            break;
        }
        buffers::put_reading(buffer);
        result
    }

    /// Asks nginx for the next event. `false` when epoll refuses.
    pub fn watch(&self) -> bool {
        self.connection.watch()
    }
}

/// The socket can be written to, and there is nothing to write.
unsafe extern "C" fn ignore(_: *mut ffi::ngx_event_t) {}

impl Sink for Socket {
    fn send(&mut self, octets: &[u8]) -> Sent {
        self.connection.send(octets)
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: nobody else has the connection; its pool, which only TLS needs, is destroyed before it, as nginx does.
        unsafe {
            ffi::ngx_ws_ssl_shutdown(self.raw());
            let pool = (*self.raw()).pool;
            if !pool.is_null() {
                ffi::ngx_destroy_pool(pool);
            }
            ffi::ngx_ws_close_pipe(self.raw());
        }
    }
}
