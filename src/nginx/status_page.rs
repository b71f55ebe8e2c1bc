// SPDX-License-Identifier: Apache-2.0

//! The status of all locations (`websocket_status`).

use super::channel::hub;
use super::engine;
use super::ffi;
use super::guard::guard_status;
use super::ledger;
use super::request::Request;
use super::status::Status;
use crate::session::endpoint::HttpStatus;
use crate::status::{Channels, StatusForm};

/// The content handler of a location that shows the status.
pub(super) unsafe extern "C" fn handler(request: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guard_status(Status::INTERNAL_SERVER_ERROR, || {
        // SAFETY: nginx calls with a live request.
        let request = unsafe { Request::new(request) };
        let Some(form) = request.settings().status else { return Status::NOT_FOUND };
        if !matches!(request.method(), b"GET" | b"HEAD") {
            request.add_header("Allow", b"GET, HEAD");
            return Status::NOT_ALLOWED;
        }
        let Some(own) = ledger::own() else { return Status::INTERNAL_SERVER_ERROR };
        let mut snapshot = own.snapshot();
        snapshot.channels = hub::with(|hub| hub.usage()).flatten().map(Channels::from);
        snapshot.engines = engine::figures();
        send(request, form, &snapshot.render(form)).unwrap_or(Status::INTERNAL_SERVER_ERROR)
    })
}

/// `None` when there is no memory.
fn send(request: Request<'_>, form: StatusForm, body: &str) -> Option<Status> {
    let body = request.copy(body.as_bytes())?;
    if !request.add_header("Cache-Control", b"no-store") {
        return None;
    }
    Some(request.respond(HttpStatus::OK, form.content_type(), body))
}
