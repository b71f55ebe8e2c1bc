// SPDX-License-Identifier: Apache-2.0

//! The status of all locations (`websocket_status`).

use super::channel::hub;
use super::engine;
use super::ffi;
use super::guard::guard;
use super::ledger;
use super::request::Request;
use crate::status::{Channels, Form};

/// The content handler of a location that shows the status.
pub(super) unsafe extern "C" fn handler(request: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
    guard(FAILED, || {
        // SAFETY: nginx calls with a live request.
        let request = unsafe { Request::new(request) };
        let Some(form) = request.settings().status else { return ffi::NGX_HTTP_NOT_FOUND as isize };
        if !matches!(request.method(), b"GET" | b"HEAD") {
            request.add_header("Allow", b"GET, HEAD");
            return ffi::NGX_HTTP_NOT_ALLOWED as isize;
        }
        let Some(own) = ledger::own() else { return FAILED };
        let mut snapshot = own.snapshot();
        snapshot.channels = hub::with(|hub| hub.usage()).flatten().map(Channels::from);
        snapshot.engines = engine::figures();
        send(request, form, &snapshot.render(form)).unwrap_or(FAILED)
    })
}

/// `None` when there is no memory.
fn send(request: Request, form: Form, body: &str) -> Option<ffi::ngx_int_t> {
    let body = request.copy(body.as_bytes())?;
    if !request.add_header("Cache-Control", b"no-store") {
        return None;
    }
    Some(request.respond(ffi::NGX_HTTP_OK as usize, form.content_type(), body))
}
