// SPDX-License-Identifier: Apache-2.0

//! A request that is about one channel after another, as a WebSocket of the subprotocol `channels.v1` is.
//!
//! nginx keeps the value that a variable once had for a request, and what it has allocated for it, until the request ends. So what
//! directives say about one of the channels is found out with a copy of the request, which has `$websocket_channel_id` for a value and
//! is gone afterwards. The copy is of the kind that hooks are asked with: see `ngx/ngx_ws_detached.c`.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::ffi;
use super::guard::guard;
use super::request::Request;
use super::status::Status;

/// What is to be done with the copy, and then what came of it.
struct Step<'r, F, R> {
    copy: Request<'r>,
    step: Option<F>,
    result: Option<R>,
}

/// Gives `step` a copy of a request that is about this channel; `None` for those of its location. Nothing of the copy may be kept. Hooks
/// can be asked with it: they get a copy of their own.
///
/// # Errors
///
/// 500: there is no memory.
pub fn with<R>(request: Request<'_>, channel: Option<&[u8]>, step: impl FnOnce(Request<'_>) -> R) -> Result<R, Status> {
    let hops = request.header(b"x-websocket-hops").unwrap_or(b"0");
    let mut hops = ffi::ngx_str_t { len: hops.len(), data: hops.as_ptr().cast_mut() };
    let mut content_type = ffi::ngx_str_t { len: 0, data: std::ptr::null_mut() };
    // SAFETY: the request is alive and copied; the texts are only read. The copy is discarded below, and nowhere else.
    let detached = unsafe {
        NonNull::new(ffi::ngx_ws_detached_create(request.raw(), &raw mut hops, &raw mut content_type, 0))
            .ok_or(Status::INTERNAL_SERVER_ERROR)?
    };
    // SAFETY: the copy lives until it is discarded, at the end of this function.
    let copy = unsafe { Request::new(ffi::ngx_ws_detached_request(detached.as_ptr())) };
    let is_ready = prepare(request, copy, channel).is_some();
    let mut told = Step { copy, step: is_ready.then_some(step), result: None };
    // SAFETY: the connection of the client is alive, and the data is what the function expects; nothing of the copy is kept.
    unsafe {
        ffi::ngx_ws_detached_evaluate(
            detached.as_ptr(),
            request.connection(),
            Some(handler(&told)),
            (&raw mut told).cast(),
        );
        ffi::ngx_ws_detached_discard(detached.as_ptr());
    }
    told.result.ok_or(Status::INTERNAL_SERVER_ERROR)
}

/// Lets the copy know what the request knows, and which channel it is about.
fn prepare(request: Request<'_>, copy: Request<'_>, channel: Option<&[u8]>) -> Option<()> {
    let context = copy.context()?;
    if let Some(known) = request.existing_context()
        && !known.tell(context)
    {
        return None;
    }
    channel.is_none_or(|channel| context.set_channel_id(channel)).then_some(())
}

fn handler<F: FnOnce(Request<'_>) -> R, R>(_: &Step<'_, F, R>) -> unsafe extern "C" fn(*mut c_void) {
    run::<F, R>
}

unsafe extern "C" fn run<F: FnOnce(Request<'_>) -> R, R>(data: *mut c_void) {
    guard((), || {
        // SAFETY: the data is that of with(), which is on the stack below.
        let told = unsafe { &mut *data.cast::<Step<'_, F, R>>() };
        if let Some(step) = told.step.take() {
            told.result = Some(step(told.copy));
        }
    });
}
