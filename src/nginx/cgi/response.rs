// SPDX-License-Identifier: Apache-2.0

//! The response of a program, as one of nginx: its filters see what they would see of a proxied one.

use crate::exec::cgi::Head;
use crate::nginx::ffi;
use crate::nginx::request::{HeldRequest, Request};
use crate::nginx::response::{NotSent, has_body};
use crate::nginx::response_body::Body;
use crate::nginx::status::Status;
use crate::session::cgi::{self, CgiEnd};
use crate::session::client::Lost;
use crate::session::endpoint::HttpStatus;
use crate::ws::timing::Look;

/// Head and body.
pub struct NginxResponse {
    request: HeldRequest,
    body: Body<Vec<u8>>,
    /// The head was sent and nothing behind it.
    is_bare: bool,
}

impl NginxResponse {
    /// Nothing was sent yet.
    ///
    /// # Safety
    ///
    /// As for [`Request::held`].
    pub unsafe fn new(request: Request<'_>) -> Self {
        // SAFETY: the caller sees to it.
        unsafe { NginxResponse { request: request.held(), body: Body::new(request, false), is_bare: false } }
    }

    /// Makes the head what the program says. `None` when there is no memory.
    fn fill(&self, head: &Head) -> Option<()> {
        let request = self.request.get();
        let content_type = request.copy(head.content_type().unwrap_or_default())?;
        let length = head.content_length().and_then(|length| i64::try_from(length).ok()).unwrap_or(-1);
        // nginx looks at the status, so that a body and its length are left out, only where the line is to be its own.
        let status_line = match head.status_line() {
            Some(line) if has_body(head.status()) => request.copy(line)?,
            _ => ffi::ngx_str_t { len: 0, data: std::ptr::null_mut() },
        };
        request.open_answer(head.status(), content_type, length);
        // SAFETY: the request is alive, nothing was sent yet, and the text is in its pool.
        unsafe { ffi::ngx_ws_response_status_line(request.raw(), status_line) };
        let location = head.location().map(|location| (&b"Location"[..], location));
        head.fields().chain(location).all(|(name, value)| pass(request, name, value)).then_some(())
    }
}

/// Adds a field to the response. `false` when there is no memory.
fn pass(request: Request<'_>, name: &[u8], value: &[u8]) -> bool {
    let (Some(name), Some(value)) = (request.copy(name), request.copy(value)) else { return false };
    // SAFETY: the request is alive, nothing was sent yet, and the texts are in its pool.
    unsafe { ffi::ngx_ws_response_pass(request.raw(), name, value) == Status::OK }
}

impl cgi::Response for NginxResponse {
    fn begin(&mut self, head: &Head) -> Result<bool, CgiEnd> {
        self.fill(head).ok_or(CgiEnd::Refused(HttpStatus::INTERNAL))?;
        let has_body = self.request.get().send_head().map_err(|not_sent| match not_sent {
            NotSent::Lost => CgiEnd::Lost,
            NotSent::Replaced(status) => CgiEnd::Refused(status),
        })?;
        self.is_bare = has_body;
        Ok(has_body)
    }

    fn push(&mut self, octets: Vec<u8>, last: bool) {
        self.is_bare = false;
        self.body.push(octets, last);
    }

    fn send(&mut self) -> Result<(), Lost> {
        if std::mem::take(&mut self.is_bare) {
            // The program has more to say, and the client may want to know that it is there.
            self.body.flush_head()?;
        }
        self.body.send()
    }

    fn cost(&self) -> usize {
        self.body.cost()
    }

    fn look(&mut self) -> Look {
        self.body.look()
    }

    fn stuck_since(&self) -> Option<u64> {
        self.body.stuck_since()
    }
}
