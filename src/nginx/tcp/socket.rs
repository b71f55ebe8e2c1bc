// SPDX-License-Identifier: Apache-2.0

//! The connection to a service: nginx's, plain or TLS.

use crate::nginx::ffi;
use crate::nginx::uptake::{self, Uptake};
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
    connection: *mut ffi::ngx_connection_t,
    uptake: Uptake,
}

impl Socket {
    /// Takes a connection over. Whoever has it says who is [woken](Self::wake).
    pub fn new(connection: *mut ffi::ngx_connection_t, log: *mut ffi::ngx_log_t) -> Self {
        let socket = Socket { connection, uptake: Uptake::default() };
        socket.log_to(log);
        socket
    }

    /// Events go to `handler`; the data of the connection is `data`.
    pub fn wake(&self, data: *mut std::ffi::c_void, handler: unsafe extern "C" fn(*mut ffi::ngx_event_t)) {
        // SAFETY: the connection is ours until drop, its events with it.
        unsafe {
            (*self.connection).data = data;
            (*(*self.connection).read).handler = Some(handler);
            (*(*self.connection).write).handler = Some(handler);
        }
    }

    /// Lines about the connection go to `log`.
    pub fn log_to(&self, log: *mut ffi::ngx_log_t) {
        // SAFETY: as above.
        unsafe {
            let connection = self.connection;
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
        self.connection
    }

    fn read_event(&self) -> *mut ffi::ngx_event_t {
        // SAFETY: as above.
        unsafe { (*self.connection).read }
    }

    fn write_event(&self) -> *mut ffi::ngx_event_t {
        // SAFETY: as above.
        unsafe { (*self.connection).write }
    }

    /// Calls the handler once, after the events that are handled now.
    pub fn post(&self) {
        // SAFETY: as above; closing takes the event back.
        unsafe { ffi::ngx_ws_post_event(self.write_event()) };
    }

    /// Calls the handler in so many milliseconds.
    pub fn set_timer(&self, milliseconds: u64) {
        let milliseconds = usize::try_from(milliseconds).unwrap_or(usize::MAX).min(i32::MAX as usize);
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_add_timer(self.write_event(), milliseconds) };
    }

    /// Does not.
    pub fn clear_timer(&self) {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_del_timer(self.write_event()) };
    }

    /// Whether the timer has fired.
    pub fn timed_out(&self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_event_timedout(self.write_event()) != 0 }
    }

    /// The timer that has fired counts as not set.
    pub fn clear_timed_out(&self) {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_event_clear_timedout(self.write_event()) };
    }

    /// Whether writing is worth a system call; before the connection is there, whether connect() has come to an end.
    pub fn writable(&self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_event_ready(self.write_event()) != 0 }
    }

    /// Whether reading is worth a system call.
    pub fn readable(&self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_event_ready(self.read_event()) != 0 }
    }

    /// Whether connect() has failed; nginx has logged it then.
    pub fn connect_failed(&self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_socket_error(self.connection) != 0 }
    }

    /// Small messages leave at once. `false` when the socket refuses.
    pub fn no_delay(&self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_tcp_nodelay(self.connection) == ffi::NGX_OK as isize }
    }

    /// Reads at most `most` octets to the end of a buffer.
    pub fn append_to(&mut self, buffer: &mut Vec<u8>, most: usize) -> Received {
        if buffer.try_reserve(most).is_err() {
            return Received::Lost;
        }
        let room = buffer.spare_capacity_mut();
        let most = most.min(room.len());
        // SAFETY: the free capacity is writable memory of that length.
        match unsafe { ffi::ngx_ws_recv(self.connection, room.as_mut_ptr().cast(), most) } {
            0 => Received::End,
            count if count > 0 => {
                let count = count.unsigned_abs();
                // SAFETY: nginx has written this many octets behind the length.
                unsafe { buffer.set_len(buffer.len() + count) };
                Received::Octets(count)
            }
            count if count == ffi::NGX_AGAIN as isize => Received::Blocked,
            _ => Received::Lost,
        }
    }

    /// Octets that were written and have not arrived.
    pub fn unsent(&self) -> usize {
        uptake::queued(self.connection)
    }

    /// What the service has taken since the last look.
    pub fn look(&mut self) -> Look {
        self.uptake.look(self.connection)
    }

    /// Breaks the connection, so that the service does not take what it has got for all of it.
    pub fn reset(self) {
        // SAFETY: the connection is ours until drop, which closes it.
        unsafe { ffi::ngx_ws_socket_reset(self.connection) };
    }

    /// Nothing more will be written.
    pub fn end_writing(&self) {
        // SAFETY: as above.
        unsafe {
            ffi::ngx_ws_ssl_shutdown(self.connection);
            ffi::ngx_ws_socket_shutdown_write(self.connection);
        }
    }

    /// Reads what has come and drops it, TLS or not.
    pub fn discard(&mut self) -> Discarded {
        let mut buffer = buffers::take_reading();
        let mut result = Discarded::Blocked;
        for _ in 0..DISCARDED_READS {
            // SAFETY: the descriptor is open, the buffer writable for its length.
            let count = unsafe { libc::recv((*self.connection).fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
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
        // SAFETY: the events belong to the connection.
        unsafe {
            ffi::ngx_handle_read_event(self.read_event(), 0) == ffi::NGX_OK as isize
                && ffi::ngx_handle_write_event(self.write_event(), 0) == ffi::NGX_OK as isize
        }
    }
}

impl Sink for Socket {
    fn send(&mut self, octets: &[u8]) -> Sent {
        // SAFETY: nginx reads the octets; the type lacks a const.
        match unsafe { ffi::ngx_ws_send(self.connection, octets.as_ptr().cast_mut(), octets.len()) } {
            count if count > 0 => Sent::Octets(count.unsigned_abs()),
            0 => Sent::Blocked,
            count if count == ffi::NGX_AGAIN as isize => Sent::Blocked,
            _ => Sent::Lost,
        }
    }

    fn is_tls(&self) -> bool {
        // SAFETY: the connection is ours until drop.
        unsafe { ffi::ngx_ws_connection_is_ssl(self.connection) != 0 }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: nobody else has the connection; its pool, which only TLS needs, is destroyed before it, as nginx does.
        unsafe {
            ffi::ngx_ws_ssl_shutdown(self.connection);
            let pool = (*self.connection).pool;
            if !pool.is_null() {
                ffi::ngx_destroy_pool(pool);
            }
            ffi::ngx_ws_close_pipe(self.connection);
        }
    }
}
