// SPDX-License-Identifier: Apache-2.0

//! The client's side of a session: nginx's connection, plain or TLS.

use super::ffi;
use super::request::Request;
use super::uptake::{self, Uptake};
use crate::session::client::{self, Lost, Received, Sent, Sink};
use crate::ws::timing::Look;

/// The connection of a request that was upgraded.
pub struct Client {
    request: Request,
    connection: *mut ffi::ngx_connection_t,
    uptake: Uptake,
}

impl Client {
    /// The client of this request.
    pub fn new(request: Request) -> Self {
        Client { request, connection: request.connection(), uptake: Uptake::default() }
    }

    /// nginx's connection.
    pub fn connection(&self) -> *mut ffi::ngx_connection_t {
        self.connection
    }
}

impl client::Client for Client {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        // SAFETY: the buffer is writable for its length.
        match unsafe { ffi::ngx_ws_recv(self.connection, buffer.as_mut_ptr(), buffer.len()) } {
            0 => Received::End,
            count if count > 0 => Received::Octets(count.unsigned_abs()),
            count if count == ffi::NGX_AGAIN as isize => Received::Blocked,
            _ => Received::Lost,
        }
    }

    fn readable(&self) -> bool {
        // SAFETY: the connection lives as long as its request, and the session does not outlive that.
        unsafe { ffi::ngx_ws_event_ready((*self.connection).read) != 0 }
    }

    fn hung_up(&self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_event_pending_eof((*self.connection).read) != 0 }
    }

    fn has_unread(&self) -> bool {
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int; the connection lives as long as its request.
        let asked = unsafe { libc::ioctl((*self.connection).fd, libc::FIONREAD, &raw mut count) };
        asked == 0 && count > 0
    }

    fn has_queued(&self) -> bool {
        uptake::queued(self.connection) > 0
    }

    fn look(&mut self) -> Look {
        self.uptake.look(self.connection)
    }

    fn sent(&self) -> u64 {
        // SAFETY: the connection of a live request.
        unsafe { (*self.connection).sent }.unsigned_abs()
    }

    fn is_drained(&self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_connection_buffered(self.connection) == 0 }
    }

    fn drain(&mut self) -> Result<bool, Lost> {
        // SAFETY: the request is alive; a null chain sends what is buffered.
        if unsafe { ffi::ngx_http_output_filter(self.request.raw(), std::ptr::null_mut()) } == ffi::NGX_ERROR as isize {
            return Err(Lost);
        }
        Ok(self.is_drained())
    }

    /// A TLS record that is cut short cannot be followed by a shutdown alert: nginx is told to close without one.
    fn give_up(&mut self) {
        // SAFETY: the connection lives as long as its request, and the session does not outlive that.
        unsafe { ffi::ngx_ws_connection_set_error(self.connection) }
    }

    fn watch(&mut self) -> bool {
        // SAFETY: the events belong to the connection.
        unsafe {
            ffi::ngx_handle_read_event((*self.connection).read, 0) == ffi::NGX_OK as isize
                && ffi::ngx_handle_write_event((*self.connection).write, 0) == ffi::NGX_OK as isize
        }
    }
}

impl Sink for Client {
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
        // SAFETY: the connection lives as long as its request.
        unsafe { ffi::ngx_ws_connection_is_ssl(self.connection) != 0 }
    }
}
