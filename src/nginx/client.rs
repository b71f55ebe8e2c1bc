//! The client's side of a session: nginx's connection, plain or TLS.

use super::ffi;
use super::output::Sink;
use super::request::Request;
use super::uptake::{self, Uptake};
use super::worker;
use crate::ws::timing::Look;

/// A client that never stops sending does not keep a worker from exiting.
const DISCARDED_READS: u32 = 16;

/// The connection of a request that was upgraded.
pub struct Client {
    connection: *mut ffi::ngx_connection_t,
    uptake: Uptake,
}

/// What came from the client.
pub enum Received {
    /// This many octets.
    Octets(usize),
    /// Nothing for now.
    Blocked,
    /// It closed its side.
    End,
    /// The connection is broken.
    Lost,
}

/// What a client had sent that nobody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// Nothing.
    Nothing,
    /// Octets, and there may be more.
    Some,
    /// There will be no more: the client has closed its side, or the connection is broken.
    End,
}

/// What became of octets for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// This many were taken.
    Octets(usize),
    /// None for now.
    Blocked,
    /// The connection is broken.
    Lost,
}

impl Client {
    /// The client of this request.
    pub fn new(request: Request) -> Self {
        Client { connection: request.connection(), uptake: Uptake::default() }
    }

    /// What it has taken since the last look.
    pub fn look(&mut self) -> Look {
        self.uptake.look(self.connection)
    }

    /// Whether the system has octets that it has not taken.
    pub fn has_queued(&self) -> bool {
        uptake::queued(self.connection) > 0
    }

    /// Whether the system has octets of it that were not read.
    pub fn has_unread(&self) -> bool {
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int; the connection lives as long as its request.
        let asked = unsafe { libc::ioctl((*self.connection).fd, libc::FIONREAD, &raw mut count) };
        asked == 0 && count > 0
    }

    /// nginx's connection.
    pub fn connection(&self) -> *mut ffi::ngx_connection_t {
        self.connection
    }

    /// Whether reading is worth a system call.
    pub fn readable(&self) -> bool {
        // SAFETY: the connection lives as long as its request, and the session does not outlive that.
        unsafe { ffi::ngx_ws_event_ready((*self.connection).read) != 0 }
    }

    /// Whether the kernel has seen the client's FIN, though there may be octets before it.
    pub fn hung_up(&self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::ngx_ws_event_pending_eof((*self.connection).read) != 0 }
    }

    /// Reads once.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        // SAFETY: the buffer is writable for its length.
        match unsafe { ffi::ngx_ws_recv(self.connection, buffer.as_mut_ptr(), buffer.len()) } {
            0 => Received::End,
            count if count > 0 => Received::Octets(count.unsigned_abs()),
            count if count == ffi::NGX_AGAIN as isize => Received::Blocked,
            _ => Received::Lost,
        }
    }

    /// Reads what has come and drops it: a connection that is closed with unread octets is reset, and the client loses what
    /// was sent to it last.
    pub fn discard_input(&mut self) -> Unread {
        let mut buffer = worker::take_reading();
        let mut unread = Unread::Nothing;
        for _ in 0..DISCARDED_READS {
            match self.receive(&mut buffer) {
                Received::Octets(_) => unread = Unread::Some,
                Received::Blocked => break,
                Received::End | Received::Lost => {
                    unread = Unread::End;
                    break;
                }
            }
        }
        worker::put_reading(buffer);
        unread
    }

    /// Octets were left unsent. A TLS record that is cut short cannot be followed by a shutdown alert: nginx is told to close
    /// without one.
    pub fn give_up(&mut self) {
        // SAFETY: the connection lives as long as its request, and the session does not outlive that.
        unsafe { ffi::ngx_ws_connection_set_error(self.connection) }
    }

    /// Asks nginx to call when the client can be read or written again. `false` when epoll refuses.
    pub fn watch(&mut self) -> bool {
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
