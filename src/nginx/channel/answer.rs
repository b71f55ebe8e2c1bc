// SPDX-License-Identifier: Apache-2.0

//! Answers that are no messages: channel info, preflights, refusals.

use crate::channel::backend::Failure;
use crate::channel::info::InfoForm;
use crate::channel::store::Info;
use crate::conf::ChannelMode;
use crate::nginx::ffi;
use crate::nginx::request::{Request, try_again};
use crate::nginx::status::Status;
use crate::session::endpoint::HttpStatus;

/// How long a browser may remember the answer to a preflight, in seconds.
const REMEMBER: &[u8] = b"86400";

/// What a page may send besides what every page may: positions, metadata of messages, and what libraries add.
const REQUESTED: &[u8] = b"Accept, Authorization, Cache-Control, Content-Type, If-Modified-Since, If-None-Match, \
    Last-Event-ID, X-EventSource-Event, X-Requested-With";

/// What a page needs to go on after what it got, and to know what it lost; and the same where the channel is told as well.
const EXPOSED: &[u8] = b"ETag, Last-Modified, Retry-After, X-Channel-Gap";
const EXPOSED_WITH_ID: &[u8] = b"ETag, Last-Modified, Retry-After, X-Channel-Gap, X-Channel-Id";

/// The form that the request wants channel info in.
pub fn info_form(request: Request<'_>) -> InfoForm {
    InfoForm::negotiate(
        request.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept")).map(|(_, value)| value),
    )
}

/// Sends channel info; returns what the content handler returns.
pub fn info(request: Request<'_>, status: HttpStatus, info: &Info) -> Status {
    let form = info_form(request);
    text(request, status, form.content_type(), &form.render(info))
}

/// The status that says why a backend has not done something; `own` has that of the operation's own errors.
pub fn failed<E>(request: Request<'_>, failure: Failure<E>, own: impl FnOnce(E) -> Status) -> Status {
    match failure {
        Failure::Unavailable => try_again(request),
        Failure::Unknown => Status::GATEWAY_TIME_OUT,
        Failure::Refused => Status::INTERNAL_SERVER_ERROR,
        Failure::Unsupported => Status::NOT_ALLOWED,
        Failure::Own(error) => own(error),
    }
}

/// Sends a text; returns what the content handler returns.
pub fn text(request: Request<'_>, status: HttpStatus, content_type: &'static str, text: &str) -> Status {
    let Some(body) = request.copy(text.as_bytes()) else {
        return Status::INTERNAL_SERVER_ERROR;
    };
    request.respond(status, content_type, body)
}

/// Methods that a location answers, where clients may delete channels and where they may not; `has_runs` where a POST starts a
/// program.
pub fn methods(mode: ChannelMode, deletes: bool, has_runs: bool) -> &'static [u8] {
    match (mode, deletes) {
        (ChannelMode::Sub, _) if has_runs => b"GET, HEAD, POST, OPTIONS",
        (ChannelMode::Sub | ChannelMode::Info, _) => b"GET, HEAD, OPTIONS",
        (ChannelMode::Pub | ChannelMode::PubSub, true) => b"GET, HEAD, POST, PUT, DELETE, OPTIONS",
        (ChannelMode::Pub | ChannelMode::PubSub, false) => b"GET, HEAD, POST, PUT, OPTIONS",
    }
}

/// Answers a preflight (Fetch, section 3.2) or a plain `OPTIONS`; returns what the content handler returns.
pub fn options(request: Request<'_>, methods: &'static [u8]) -> Status {
    if let Err(status) = request.drop_body() {
        return status;
    }
    let preflight = request.header(b"origin").is_none()
        || (request.add_header("Access-Control-Allow-Methods", methods)
            && request.add_header("Access-Control-Allow-Headers", REQUESTED)
            && request.add_header("Access-Control-Max-Age", REMEMBER));
    if !preflight || !request.add_header("Allow", methods) {
        return Status::INTERNAL_SERVER_ERROR;
    }
    // SAFETY: the request is alive and nothing was sent yet: this handler has its answer to make.
    unsafe {
        request.empty_answer(ffi::NGX_HTTP_NO_CONTENT as u16);
        Status::of(ffi::ngx_http_send_header(request.raw()))
    }
}

/// Tells caches what the answer depends on (RFC 9110, section 12.5.5), at a location that may be subscribed to or another one. `false` when there is no memory.
pub fn vary(request: Request<'_>, subscribes: bool) -> bool {
    let fields: &[u8] = match request.method() {
        b"GET" | b"HEAD" if subscribes => b"If-None-Match, Last-Event-ID, Accept, TE, Origin",
        b"GET" | b"HEAD" => b"Accept, Origin",
        _ => b"Origin",
    };
    request.add_header("Vary", fields)
}

/// Tells a page of another origin that it may read the answer (Fetch, section 3.2). A page that the location names may come
/// with what the browser knows of the user, as it may for a WebSocket; where every page is allowed, each comes as nobody.
/// `false` when there is no memory.
pub fn expose(request: Request<'_>, origin: &[u8], named: bool) -> bool {
    let exposed = if request.settings().channel_tell_id().is_some() { EXPOSED_WITH_ID } else { EXPOSED };
    request.add_header("Access-Control-Allow-Origin", origin)
        && (!named || request.add_header("Access-Control-Allow-Credentials", b"true"))
        && request.add_header("Access-Control-Expose-Headers", exposed)
}

/// Refuses a method; returns what the content handler returns. The body is read and dropped.
pub fn refuse_method(request: Request<'_>, methods: &'static [u8]) -> Status {
    request.add_header("Allow", methods);
    // A body that is none is worse than a method that is not allowed here.
    request.drop_body().err().unwrap_or(Status::NOT_ALLOWED)
}
