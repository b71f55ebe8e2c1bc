// SPDX-License-Identifier: Apache-2.0

//! The body of a request, as it comes.

use crate::nginx::ffi;
use crate::nginx::hold;
use crate::nginx::program;
use crate::nginx::request::{HeldRequest, Request};
use crate::nginx::status::Status;
use crate::session::cgi::{self, Piece};
use crate::session::endpoint::HttpStatus;

/// Octets of a body that are copied at once.
const PIECE: usize = 32 << 10;

/// A request whose body is being read.
pub struct NginxRequest {
    request: HeldRequest,
    reader: ffi::ngx_ws_body_reader_t,
}

impl NginxRequest {
    /// Begins to read the body, if there is one. nginx has called the handler that it was asked to call when the body can be read.
    ///
    /// # Safety
    ///
    /// As for [`Request::held`].
    pub unsafe fn new(request: Request<'_>) -> (Self, program::Body) {
        let mut reader = ffi::ngx_ws_body_reader_t { link: std::ptr::null_mut(), done: 0, streamed: 0 };
        // SAFETY: the request is alive, and the reader lives no longer than it, by the promise of the caller.
        let length = unsafe {
            ffi::ngx_ws_body_reader(request.raw(), &raw mut reader);
            ffi::ngx_ws_body_length(request.raw(), &raw const reader)
        };
        let body = program::Body { length: u64::try_from(length).ok() };
        // SAFETY: the promise of the caller.
        (NginxRequest { request: unsafe { request.held() }, reader }, body)
    }
}

impl cgi::Request for NginxRequest {
    fn receive(&mut self, buffer: &mut Vec<u8>) -> Piece {
        if buffer.try_reserve(PIECE).is_err() {
            return Piece::Refused(HttpStatus::INTERNAL);
        }
        let mut count = 0;
        let free = buffer.spare_capacity_mut();
        // SAFETY: the request is alive; what is free in the buffer is writable for its length, of which no more than a piece is used.
        let status = Status::of(unsafe {
            let request = self.request.get().raw();
            let size = free.len().min(PIECE);
            ffi::ngx_ws_body_read(request, &raw mut self.reader, free.as_mut_ptr().cast(), size, &raw mut count)
        });
        match status {
            Status::OK => {
                // SAFETY: so many octets were written behind the end, and there was room for them.
                unsafe { buffer.set_len(buffer.len() + count) };
                Piece::Octets(count)
            }
            Status::AGAIN => Piece::Blocked,
            Status::DONE => Piece::End,
            failed => Piece::Refused(HttpStatus(failed.answer().unwrap_or(HttpStatus::INTERNAL.0))),
        }
    }

    fn watch_client(&mut self) {
        let request = self.request.get();
        if request.main().is_attended() {
            hold::watch(request, super::on_client);
            // SAFETY: the request is alive.
            unsafe { ffi::ngx_ws_request_look_at_client(request.raw()) };
        }
    }
}
