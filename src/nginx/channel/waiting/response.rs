// SPDX-License-Identifier: Apache-2.0

//! The response of nginx to a request that waits for messages.

use crate::channel::streaming::Content;
use crate::nginx::ffi;
use crate::nginx::request::{HeldRequest, Request};
use crate::nginx::response::NotSent;
use crate::nginx::response_body::Body;
use crate::nginx::status::Status;
use crate::session::client::Lost;
use crate::session::endpoint::HttpStatus;
use crate::session::subscriber::{Response, SubscriberEnd};
use crate::ws::timing::Look;

/// Head and body.
pub struct NginxResponse {
    request: HeldRequest,
    body: Body<Content>,
    /// A body in one piece, which nginx may still be sending.
    whole: Option<Content>,
}

impl NginxResponse {
    /// Nothing was sent yet. `apart`: each piece of the body is to be a chunk.
    ///
    /// # Safety
    ///
    /// The promise of [`Request::held`]: the response does not outlive the request.
    pub unsafe fn new(request: Request<'_>, apart: bool) -> Self {
        // SAFETY: the caller promises what held() and Body::new() ask for.
        unsafe { NginxResponse { request: request.held(), body: Body::new(request, apart), whole: None } }
    }
}

impl Response for NginxResponse {
    fn add_header(&mut self, name: &'static str, value: impl AsRef<[u8]>) -> bool {
        self.request.get().add_header(name, value.as_ref())
    }

    fn begin(&mut self, content_type: &[u8], length: i64) -> Result<bool, SubscriberEnd> {
        const NO_MEMORY: SubscriberEnd = SubscriberEnd::Refused(HttpStatus::INTERNAL);
        let content_type = self.request.get().copy(content_type).ok_or(NO_MEMORY)?;
        self.request.get().open_answer(ffi::NGX_HTTP_OK as u16, content_type, length);
        self.request.get().send_head().map_err(|not_sent| match not_sent {
            NotSent::Lost => SubscriberEnd::Lost,
            NotSent::Replaced(status) => SubscriberEnd::Refused(status),
        })
    }

    fn empty(&mut self, HttpStatus(status): HttpStatus) -> Result<(), SubscriberEnd> {
        // The headers stay with an error page, and the position is among them. What is no error has none.
        if status >= ffi::NGX_HTTP_BAD_REQUEST as u16 && self.request.get().has_error_page(status) {
            return Err(SubscriberEnd::Refused(HttpStatus(status)));
        }
        // SAFETY: the request is alive and nothing was sent yet.
        let sent = unsafe {
            self.request.get().empty_answer(status);
            ffi::ngx_http_send_header(self.request.get().raw())
        };
        if sent == Status::ERROR { Err(SubscriberEnd::Lost) } else { Ok(()) }
    }

    fn flush_head(&mut self) -> Result<(), Lost> {
        self.body.flush_head()
    }

    fn push(&mut self, content: Content, last: bool) {
        self.body.push(content, last);
    }

    fn send(&mut self) -> Result<(), Lost> {
        self.body.send()
    }

    fn send_whole(&mut self, content: Content) -> Result<(), Lost> {
        let octets = self.whole.insert(content).octets();
        let text = ffi::ngx_str_t { len: octets.len(), data: octets.as_ptr().cast_mut() };
        if self.request.get().send_body(text) == Status::ERROR { Err(Lost) } else { Ok(()) }
    }

    fn cost(&self) -> usize {
        self.body.cost()
    }

    fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    fn silent_since(&self) -> Option<u64> {
        self.body.silent_since()
    }

    fn look(&mut self) -> Look {
        self.body.look()
    }

    fn stuck_since(&self) -> Option<u64> {
        self.body.stuck_since()
    }
}
