// SPDX-License-Identifier: Apache-2.0

//! The location that shows a group of channels and changes its limits.

use super::hub;
use super::limits::{self, group_name};
use super::publish::Body;
use super::{answer, check_origin};
use crate::channel::store::{GroupChange, GroupInfo, GroupKey, SubscribeError};
use crate::conf::group_change;
use crate::nginx::engine;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::{Request, try_again};

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
const BAD_REQUEST: isize = ffi::NGX_HTTP_BAD_REQUEST as isize;

const METHODS: &[u8] = b"GET, HEAD, POST, DELETE, OPTIONS";

/// The content handler of a location that shows a group.
pub(in crate::nginx) unsafe extern "C" fn handler(request: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guard(FAILED, || {
        // SAFETY: nginx calls with a live request.
        serve(unsafe { Request::new(request) }).unwrap_or_else(|status| status)
    })
}

fn serve(request: Request) -> Result<isize, isize> {
    request.restore_method();
    check_origin(request, false)?;
    if request.method() == b"POST" {
        // SAFETY: the request is alive; nginx calls the handler once the body is there, now or later.
        let read = unsafe { ffi::ngx_http_read_client_request_body(request.raw(), Some(on_body)) };
        return Ok(if read >= ffi::NGX_HTTP_SPECIAL_RESPONSE as isize { read } else { ffi::NGX_DONE as isize });
    }
    // SAFETY: the request is alive. A body of a request that has none by its method is dropped.
    if unsafe { ffi::ngx_http_discard_request_body(request.raw()) } != ffi::NGX_OK as isize {
        return Err(FAILED);
    }
    match request.method() {
        b"GET" | b"HEAD" => Ok(show(request, &info(request)?)),
        b"DELETE" => delete(request),
        b"OPTIONS" => Ok(answer::options(request, METHODS)),
        _ => {
            request.add_header("Allow", METHODS);
            Err(ffi::NGX_HTTP_NOT_ALLOWED as isize)
        }
    }
}

/// The body of a POST is there.
unsafe extern "C" fn on_body(request: *mut ffi::ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls with a live request; the body handler's reference is given back here.
        unsafe {
            let status = set(Request::new(request)).unwrap_or_else(|status| status);
            ffi::ngx_http_finalize_request(request, status);
        }
    });
}

/// What the group has and may have.
fn info(request: Request) -> Result<GroupInfo, isize> {
    let (name, limits) = (group_name(request)?, limits::of_group(request)?);
    let key = GroupKey { space: engine::space(request.settings().engine), name };
    match hub::with(|hub| hub.group(key, limits)) {
        Some(group) => group.ok_or(FAILED),
        None => Err(try_again(request)),
    }
}

/// Answers with what a group has and may have.
fn show(request: Request, group: &GroupInfo) -> isize {
    let form = answer::info_form(request);
    answer::text(request, ffi::NGX_HTTP_OK as usize, form.content_type(), &form.render_group(group))
}

/// Sets the limits that query and body name.
fn set(request: Request) -> Result<isize, isize> {
    let name = group_name(request)?;
    let body = Body::of(request)?.parts().concat();
    let mut change = GroupChange::default();
    let read = group_change(request.arguments(), true, &mut change)
        .and_then(|()| group_change(body.trim_ascii(), false, &mut change));
    if let Err(refused) = read {
        request.report(Level::Info, format_args!("no limits of a group were set, expected {}", refused.expected()));
        return Err(BAD_REQUEST);
    }
    let key = GroupKey { space: engine::space(request.settings().engine), name };
    match hub::with(|hub| hub.limit_group(key, change)) {
        Some(Ok(())) => Ok(show(request, &info(request)?)),
        Some(Err(error)) => {
            let (level, status) = match error {
                SubscribeError::NoRoom => (Level::Error, ffi::NGX_HTTP_INSUFFICIENT_STORAGE as isize),
                _ => (Level::Crit, FAILED),
            };
            request.report(level, format_args!("cannot limit group \"{}\": {error}", Octets(name)));
            Err(status)
        }
        None => Err(try_again(request)),
    }
}

/// Deletes all channels of the group; the answer is what it was.
fn delete(request: Request) -> Result<isize, isize> {
    let name = group_name(request)?;
    if request.settings().engine != 0 {
        // An engine has no list of the channels of a group.
        request.add_header("Allow", b"GET, HEAD, POST");
        return Err(ffi::NGX_HTTP_NOT_ALLOWED as isize);
    }
    let group = info(request)?;
    match hub::with(|hub| hub.delete_group(name.into())) {
        Some(Ok(())) => Ok(show(request, &group)),
        Some(Err(error)) => {
            request.report(Level::Crit, format_args!("cannot delete group \"{}\": {error}", Octets(name)));
            Err(FAILED)
        }
        None => Err(try_again(request)),
    }
}
