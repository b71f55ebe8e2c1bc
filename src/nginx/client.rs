// SPDX-License-Identifier: Apache-2.0

//! The client's side of a session: nginx's connection, plain or TLS.

use super::connection::Connection;
use super::ffi;
use super::request::{HeldRequest, Request};
use super::status::Status;
use crate::session::client::{self, Lost, Received, Sent, Sink};
use crate::ws::timing::Look;

/// The connection of a request that was upgraded.
pub struct Client {
    request: HeldRequest,
    connection: Connection,
}

impl Client {
    /// The client of this request.
    ///
    /// # Safety
    ///
    /// The promise of [`Request::held`]: the client does not outlive the request.
    pub unsafe fn new(request: Request<'_>) -> Self {
        // SAFETY: the connection lives as long as its request, and the caller sees to the rest.
        unsafe { Client { request: request.held(), connection: Connection::new(request.connection()) } }
    }

    /// Gives the buffer of 16 kB back in which nginx gathers the records of TLS for its chains, if nothing is left in it. What a
    /// session writes goes out without.
    pub fn free_chain_buffer(&mut self) {
        if client::Client::is_drained(self) {
            // SAFETY: the connection lives as long as its request, and the session does not outlive that.
            unsafe { ffi::ngx_ws_ssl_free_buffer(self.connection()) }
        }
    }

    /// nginx's connection.
    pub fn connection(&self) -> *mut ffi::ngx_connection_t {
        self.connection.raw()
    }
}

impl client::Client for Client {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        self.connection.receive(buffer)
    }

    fn readable(&self) -> bool {
        self.connection.readable()
    }

    fn hung_up(&self) -> bool {
        // SAFETY: the connection, which has the event, lives as long as its request, and the session does not outlive that.
        unsafe { (*self.connection.read_event()).pending_eof() != 0 }
    }

    fn has_unread(&self) -> bool {
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int; the connection lives as long as its request.
        let asked = unsafe { libc::ioctl((*self.connection()).fd, libc::FIONREAD, &raw mut count) };
        asked == 0 && count > 0
    }

    fn has_queued(&self) -> bool {
        self.connection.queued() > 0
    }

    fn look(&mut self) -> Look {
        self.connection.look()
    }

    fn sent(&self) -> u64 {
        // SAFETY: the connection lives as long as its request, and the session does not outlive that.
        unsafe { (*self.connection()).sent }.unsigned_abs()
    }

    fn is_drained(&self) -> bool {
        // SAFETY: the connection lives as long as its request, and the session does not outlive that.
        unsafe { (*self.connection()).buffered() == 0 }
    }

    fn drain(&mut self) -> Result<bool, Lost> {
        // SAFETY: the request is alive; a null chain sends what is buffered.
        if unsafe { ffi::ngx_http_output_filter(self.request.get().raw(), std::ptr::null_mut()) } == Status::ERROR {
            return Err(Lost);
        }
        self.free_chain_buffer();
        Ok(self.is_drained())
    }

    /// A TLS record that is cut short cannot be followed by a shutdown alert: nginx is told to close without one.
    fn give_up(&mut self) {
        // SAFETY: the connection lives as long as its request, and the session does not outlive that.
        unsafe { (*self.connection()).set_error(1) }
    }

    fn watch(&mut self) -> bool {
        self.connection.watch()
    }
}

impl Sink for Client {
    fn send(&mut self, octets: &[u8]) -> Sent {
        self.connection.send(octets)
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}
