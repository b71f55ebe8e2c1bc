// SPDX-License-Identifier: Apache-2.0

//! The location that shows a group of channels and changes its limits.

use super::limits::{self, group_name};
use super::publish::Body;
use super::subscription::decoded;
use super::{answer, argument, check_origin};
use crate::channel::backend::{Answer, Failure};
use crate::channel::memory::Corrupt;
use crate::channel::store::{GroupChange, GroupInfo, GroupKey, Page, SubscribeError};
use crate::conf::{group_change, value};
use crate::nginx::backend;
use crate::nginx::caller::wait_for;
use crate::nginx::ffi;
use crate::nginx::guard::{guard, guard_status};
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::Request;
use crate::nginx::status::Status;
use crate::session::endpoint::HttpStatus;

const METHODS: &[u8] = b"GET, HEAD, POST, DELETE, OPTIONS";

/// The content handler of a location that shows a group.
pub(in crate::nginx) unsafe extern "C" fn handler(request: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guard_status(Status::INTERNAL_SERVER_ERROR, || {
        // SAFETY: nginx calls with a live request.
        serve(unsafe { Request::new(request) }).unwrap_or_else(|status| status)
    })
}

fn serve(request: Request<'_>) -> Result<Status, Status> {
    request.restore_method();
    check_origin(request, false)?;
    if request.method() == b"POST" {
        // SAFETY: the request is alive; nginx calls the handler once the body is there, now or later.
        let read = Status::of(unsafe { ffi::ngx_http_read_client_request_body(request.raw(), Some(on_body)) });
        return Ok(if read.is_special_response() { read } else { Status::DONE });
    }
    request.drop_body()?;
    match request.method() {
        b"GET" | b"HEAD" => get(request),
        b"DELETE" => delete(request),
        b"OPTIONS" => Ok(answer::options(request, METHODS)),
        _ => {
            request.add_header("Allow", METHODS);
            Err(Status::NOT_ALLOWED)
        }
    }
}

/// The body of a POST is there.
unsafe extern "C" fn on_body(request: *mut ffi::ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls with a live request; the body handler's reference is given back here.
        unsafe {
            let status = set(Request::new(request)).unwrap_or_else(|status| status);
            ffi::ngx_http_finalize_request(request, status.raw());
        }
    });
}

/// What the group has and may have.
fn info(request: Request<'_>) -> Result<Answer<GroupInfo, Corrupt>, Status> {
    let (name, limits) = (group_name(request)?, limits::of_group(request)?);
    let backend = backend::of(request.settings().engine);
    Ok(backend.group(GroupKey { space: backend.space(), name }, limits))
}

/// Channels that one page of a list has if the client does not say how many, and at most.
const PAGE: usize = 100;
const MOST: usize = 1000;

/// What a query asks for that asks for a list.
struct Wanted {
    prefix: Vec<u8>,
    page: Page,
    most: usize,
}

impl Wanted {
    /// `None` if a value makes no sense.
    fn of(query: &[u8]) -> Option<Self> {
        let page = match argument(query, b"cursor") {
            None | Some(b"") => Page::default(),
            Some(cursor) => Page::parse(str::from_utf8(cursor).ok()?)?,
        };
        let most = match argument(query, b"limit") {
            None => PAGE,
            Some(digits) => usize::try_from(value::decimal(digits)?).ok().filter(|count| (1..=MOST).contains(count))?,
        };
        Some(Wanted { prefix: decoded(argument(query, b"prefix").unwrap_or_default()), page, most })
    }
}

/// Lists channels of the group.
fn list(request: Request<'_>) -> Result<Status, Status> {
    let Some(Wanted { prefix, page, most }) = Wanted::of(request.arguments()) else {
        let expected = format!("a \"limit\" from 1 to {MOST}, and the \"cursor\" of another page");
        request.report(Level::Info, format_args!("no channels are listed, expected {expected}"));
        return Err(Status::BAD_REQUEST);
    };
    let name = group_name(request)?;
    let backend = backend::of(request.settings().engine);
    let answer = backend.list(GroupKey { space: backend.space(), name }, &prefix, page, most);
    Ok(wait_for(request, answer, |request, outcome| match outcome {
        Ok(listing) => {
            if !request.add_header("Cache-Control", b"no-store") {
                return Status::INTERNAL_SERVER_ERROR;
            }
            let form = answer::info_form(request);
            answer::text(request, HttpStatus::OK, form.content_type(), &form.render_channels(&listing))
        }
        Err(failure) => answer::failed(request, failure, |Corrupt| Status::INTERNAL_SERVER_ERROR),
    }))
}

/// Shows the group, or with the argument `channels` its channels.
fn get(request: Request<'_>) -> Result<Status, Status> {
    // After a POST the group is shown.
    if request.method() != b"POST" && argument(request.arguments(), b"channels").is_some() {
        return list(request);
    }
    Ok(wait_for(request, info(request)?, |request, outcome| match outcome {
        Ok(group) => show(request, &group),
        Err(failure) => answer::failed(request, failure, |Corrupt| Status::INTERNAL_SERVER_ERROR),
    }))
}

/// Answers with what a group has and may have.
fn show(request: Request<'_>, group: &GroupInfo) -> Status {
    let form = answer::info_form(request);
    answer::text(request, HttpStatus::OK, form.content_type(), &form.render_group(group))
}

/// Sets the limits that query and body name.
fn set(request: Request<'_>) -> Result<Status, Status> {
    let name = group_name(request)?;
    let body = Body::of(request)?.parts().concat();
    let mut change = GroupChange::default();
    let read = group_change(request.arguments(), true, &mut change)
        .and_then(|()| group_change(body.trim_ascii(), false, &mut change));
    if let Err(refused) = read {
        request.report(Level::Info, format_args!("no limits of a group were set, expected {}", refused.expected()));
        return Err(Status::BAD_REQUEST);
    }
    let backend = backend::of(request.settings().engine);
    let answer = backend.limit_group(GroupKey { space: backend.space(), name }, change);
    Ok(wait_for(request, answer, move |request, outcome| match outcome {
        Ok(()) => get(request).unwrap_or_else(|status| status),
        Err(failure) => {
            report(request, "limit", &failure);
            answer::failed(request, failure, |error| match error {
                SubscribeError::NoRoom => Status::INSUFFICIENT_STORAGE,
                _ => Status::INTERNAL_SERVER_ERROR,
            })
        }
    }))
}

/// Deletes all channels of the group; the answer is what it was.
fn delete(request: Request<'_>) -> Result<Status, Status> {
    Ok(wait_for(request, info(request)?, |request, outcome| match outcome {
        Ok(group) => delete_all(request, group).unwrap_or_else(|status| status),
        Err(failure) => answer::failed(request, failure, |Corrupt| Status::INTERNAL_SERVER_ERROR),
    }))
}

/// Deletes all channels of a group, which was this.
fn delete_all(request: Request<'_>, group: GroupInfo) -> Result<Status, Status> {
    let name = group_name(request)?;
    let backend = backend::of(request.settings().engine);
    let answer = backend.delete_group(GroupKey { space: backend.space(), name });
    Ok(wait_for(request, answer, move |request, outcome| match outcome {
        Ok(()) => show(request, &group),
        Err(failure) => {
            match failure {
                Failure::Unsupported => {
                    request.add_header("Allow", b"GET, HEAD, POST");
                }
                _ => report(request, "delete", &failure),
            }
            answer::failed(request, failure, |Corrupt| Status::INTERNAL_SERVER_ERROR)
        }
    }))
}

/// Tells the log why a group could not be changed.
fn report<E: std::fmt::Display>(request: Request<'_>, what: &str, failure: &Failure<E>) {
    let level = match failure {
        Failure::Own(_) => Level::Crit,
        Failure::Unavailable => Level::Info,
        Failure::Unknown | Failure::Refused | Failure::Unsupported => Level::Error,
    };
    let name = Octets(group_name(request).unwrap_or_default());
    request.report(level, format_args!("cannot {what} group \"{name}\": {failure}"));
}
