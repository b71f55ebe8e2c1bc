// SPDX-License-Identifier: Apache-2.0

//! Who of this module holds a request, and how it is told to let go.
//!
//! A content handler that does not answer at once leaves somebody behind who holds the request: a session, a subscriber,
//! a caller that waits for a hook, or an exchange with a CGI program. nginx may turn such a request into somebody else's: an
//! error page, a named location, a proxied location or a `post_action` is served on the same request, with the same
//! connection and pool. Cleanup handlers do not run then, module contexts are cleared, and the settings are those of the new
//! location.
//!
//! Invariant: a request has at most one holder, its context names it, and nobody finalizes a request that still has one.
//! So whoever ends a request lets go of it first, and a client that goes away is noticed here and not by
//! `ngx_http_test_reading()`, which would hand the request to a `post_action` unseen.
//!
//! Nor is it noticed by nginx, which drops a body that nobody wants: that takes the end of the client for one of the body, and ends
//! the request after `lingering_timeout`. So what comes of such a body stays where it is as long as the request is held.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::ffi;
use super::guard::guard;
use super::request::Request;
use super::session::context::Context;
use super::status::Status;

/// What holders of one kind have in common. There is one of each, whose address tells the kinds apart.
pub struct HolderKind {
    /// The holder lets go of everything: nginx is about to do something else with the request.
    pub let_go: fn(Request<'_>, Holder),
}

/// Who holds a request: a WebSocket, from the time when its endpoint is started, a subscriber that is no WebSocket,
/// somebody who waits for a hook, or an exchange with a CGI program.
#[derive(Clone, Copy)]
pub struct Holder {
    kind: &'static HolderKind,
    holder: NonNull<c_void>,
}

impl Holder {
    /// A holder of this kind. All of a kind have the same type.
    pub fn new<T>(kind: &'static HolderKind, holder: NonNull<T>) -> Self {
        Holder { kind, holder: holder.cast() }
    }

    /// The holder, if it is of this kind, and that the kind of a type.
    pub fn of_kind<T>(self, kind: &'static HolderKind) -> Option<NonNull<T>> {
        ptr::eq(self.kind, kind).then(|| self.holder.cast())
    }
}

/// The holder keeps the request from now on. The context is that of the request.
pub fn take(context: &Context, holder: Holder) {
    debug_assert!(context.holder.get().is_none(), "a request is held by two");
    context.holder.set(Some(holder));
}

/// The request is not held any more: its events are nginx's again.
pub fn release(request: Request<'_>, context: &Context) {
    if context.holder.take().is_none() {
        return;
    }
    let request = request.raw();
    // SAFETY: whoever holds a request knows it to be alive. These are the handlers with which nginx calls a content handler.
    unsafe {
        (*request).read_event_handler = Some(ffi::ngx_http_block_reading);
        (*request).write_event_handler = Some(ffi::ngx_http_request_empty_handler);
        if context.keeps_body.take() {
            (*request).set_discard_body(1);
            // nginx goes on with the body at an event, and that of what has come meanwhile was here.
            let read = (*(*request).connection).read;
            if (*read).ready() != 0 {
                ffi::ngx_ws_post_event(read);
            }
        }
    }
}

/// Lets nginx tell of a client that goes away while nothing of it is read. One that went before this, together with its request, was told
/// of already: the kernel tells of an end once, and the event that nginx has read the request for was that one.
pub fn watch_client(request: Request<'_>) {
    watch(request, on_waiting);
}

/// As [`watch_client`], for a client whose messages are read as soon as the endpoint is there: if it has sent some before its end, it goes
/// away only when they were read.
pub fn watch_sender(request: Request<'_>) {
    watch(request, on_starting);
}

/// As [`watch_client`], with a handler that may call [`end_if_gone`].
pub fn watch(request: Request<'_>, handler: unsafe extern "C" fn(*mut ffi::ngx_http_request_t)) {
    let context = request.existing_context();
    let request = request.raw();
    // SAFETY: a request is alive as long as it is called so: Request::new() was promised that. Its connection has a read event for as
    // long, and closing the connection takes the event back.
    unsafe {
        (*request).read_event_handler = Some(handler);
        // With this bit nginx would put its own handler there when the content handler returns. It has a reference to the request
        // until it has dropped the body.
        if let Some(context) =
            context.filter(|context| context.holder.get().is_some() && (*request).discard_body() != 0)
        {
            (*request).set_discard_body(0);
            context.keeps_body.set(true);
        }
        let read = (*(*request).connection).read;
        if (*read).pending_eof() != 0 {
            ffi::ngx_ws_post_event(read);
        }
    }
}

/// The holder of a request lets go of everything, if there is one.
fn let_go(request: Request<'_>) {
    if let Some(holder) = request.existing_context().and_then(|context| context.holder.get()) {
        (holder.kind.let_go)(request, holder);
    }
}

/// The client of a request that waits has sent something, or is gone.
unsafe extern "C" fn on_waiting(request: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request, in an event handler that looks after posted requests itself.
    unsafe { end_if_gone(request, false) };
}

/// The client of a session that starts has sent something, or is gone.
unsafe extern "C" fn on_starting(request: *mut ffi::ngx_http_request_t) {
    // SAFETY: as in on_waiting().
    unsafe { end_if_gone(request, true) };
}

/// Ends a request whose client is gone. `ahead`: what was sent before is waited for.
///
/// # Safety
///
/// The request is alive, and called in an event of its client.
pub unsafe fn end_if_gone(request: *mut ffi::ngx_http_request_t, ahead: bool) {
    // SAFETY: the promise of the caller.
    unsafe {
        if ffi::ngx_ws_request_client_gone(request, ahead.into()) == 0 {
            return;
        }
        guard((), || let_go(Request::new(request)));
        ffi::ngx_http_finalize_request(request, Status::CLIENT_CLOSED_REQUEST.raw());
    }
}
