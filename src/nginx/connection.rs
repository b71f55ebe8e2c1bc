// SPDX-License-Identifier: Apache-2.0

//! One of nginx's connections, plain or TLS, whoever is on its other side: what is read, what is written, and what the system
//! has of it.

use super::ffi;
use super::status::Status;
use super::uptake::{self, Uptake};
use crate::session::client::{Received, Sent};
use crate::ws::timing::Look;

/// A connection that somebody else closes.
///
/// Invariant: nginx's connection is there as long as this is used, which its owner sees to: it is that of a request that is
/// alive, or one that the owner closes on drop.
pub struct Connection {
    raw: *mut ffi::ngx_connection_t,
    uptake: Uptake,
}

impl Connection {
    /// # Safety
    ///
    /// nginx's connection is there, and so are its events, as long as this is used.
    pub unsafe fn new(raw: *mut ffi::ngx_connection_t) -> Self {
        debug_assert!(!raw.is_null());
        Connection { raw, uptake: Uptake::default() }
    }

    /// nginx's connection.
    pub fn raw(&self) -> *mut ffi::ngx_connection_t {
        self.raw
    }

    /// Its event for reading.
    pub fn read_event(&self) -> *mut ffi::ngx_event_t {
        // SAFETY: the connection is there, as new() was promised.
        unsafe { (*self.raw).read }
    }

    /// Its event for writing.
    pub fn write_event(&self) -> *mut ffi::ngx_event_t {
        // SAFETY: the connection is there, as new() was promised.
        unsafe { (*self.raw).write }
    }

    /// Reads once.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        // SAFETY: the buffer is writable for its length.
        unsafe { self.receive_at(buffer.as_mut_ptr(), buffer.len()) }
    }

    /// Reads at most `most` octets to the end of a buffer.
    pub fn append_to(&mut self, buffer: &mut Vec<u8>, most: usize) -> Received {
        if buffer.try_reserve(most).is_err() {
            return Received::Lost;
        }
        let room = buffer.spare_capacity_mut();
        let most = most.min(room.len());
        // SAFETY: the free capacity is writable memory of that length.
        let received = unsafe { self.receive_at(room.as_mut_ptr().cast(), most) };
        if let Received::Octets(count) = received {
            // SAFETY: nginx has written this many octets behind the length.
            unsafe { buffer.set_len(buffer.len() + count) };
        }
        received
    }

    /// # Safety
    ///
    /// There is room for so many octets at `room`.
    unsafe fn receive_at(&mut self, room: *mut u8, most: usize) -> Received {
        // SAFETY: the connection is there, as new() was promised, and so is the room.
        let Some(received) = (unsafe { (*self.raw).recv.map(|recv| recv(self.raw, room, most)) }) else {
            return Received::Lost;
        };
        match received {
            0 => Received::End,
            count if count > 0 => Received::Octets(count.unsigned_abs()),
            again if again == Status::AGAIN => Received::Blocked,
            _ => Received::Lost,
        }
    }

    /// Sends once.
    pub fn send(&mut self, octets: &[u8]) -> Sent {
        // SAFETY: the connection is there, as new() was promised; nginx reads the octets, and the type lacks a const.
        let sent = unsafe { (*self.raw).send.map(|send| send(self.raw, octets.as_ptr().cast_mut(), octets.len())) };
        let Some(sent) = sent else { return Sent::Lost };
        match sent {
            count if count > 0 => Sent::Octets(count.unsigned_abs()),
            0 => Sent::Blocked,
            again if again == Status::AGAIN => Sent::Blocked,
            _ => Sent::Lost,
        }
    }

    /// Whether reading is worth a system call.
    pub fn readable(&self) -> bool {
        // SAFETY: the connection, which has the event, is there, as new() was promised.
        unsafe { (*self.read_event()).ready() != 0 }
    }

    /// Whether writing is worth a system call.
    pub fn writable(&self) -> bool {
        // SAFETY: the connection, which has the event, is there, as new() was promised.
        unsafe { (*self.write_event()).ready() != 0 }
    }

    /// Whether the connection is TLS.
    pub fn is_tls(&self) -> bool {
        // SAFETY: the connection is there, as new() was promised.
        unsafe { ffi::ngx_ws_connection_is_ssl(self.raw) != 0 }
    }

    /// Octets that were written and that the other side does not have.
    pub fn queued(&self) -> usize {
        uptake::queued(self.raw)
    }

    /// What the other side has taken since the last look.
    pub fn look(&mut self) -> Look {
        self.uptake.look(self.raw)
    }

    /// Asks nginx for the next event. `false` when the system refuses.
    pub fn watch(&self) -> bool {
        // SAFETY: the connection, which has the events, is there, as new() was promised.
        unsafe {
            ffi::ngx_handle_read_event(self.read_event(), 0) == Status::OK
                && ffi::ngx_handle_write_event(self.write_event(), 0) == Status::OK
        }
    }
}
