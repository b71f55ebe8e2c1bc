// SPDX-License-Identifier: Apache-2.0

//! From an HTTP request to a session: the content handler, and the answers before and with the 101.

use super::acceptance::Acceptance;
use super::channel::{self, RequestOutcome};
use super::ffi;
use super::guard::guard_status;
use super::log::{Level, Octets};
use super::program;
use super::request::Request;
use super::session::SessionRef;
use super::status::Status;
use super::template::NginxCompiler;
use super::{acceptance, cgi, console, origin, refusal, refused, session, shared, tcp};
use crate::conf::EndpointSettings;
use crate::session::endpoint::HttpStatus;
use crate::ws::deflate;
use crate::ws::handshake::{self, HttpVersion, Refusal, protocol};

/// The content handler of a location with an endpoint. nginx's access modules have had their say.
pub(super) unsafe extern "C" fn handler(request: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guard_status(Status::INTERNAL_SERVER_ERROR, || {
        // SAFETY: nginx calls with a live request.
        let request = unsafe { Request::new(request) };
        if cgi::answers(request) {
            return cgi::receive(request);
        }
        match serve(request) {
            Ok(()) => Status::DONE,
            Err(status) => {
                refused::count(request, status);
                refuse_openly(request, status).unwrap_or(status)
            }
        }
    })
}

/// Tells the client by a Close that it was refused, if it has asked for a WebSocket and the location says so. Returns what the
/// content handler returns then.
fn refuse_openly(request: Request<'_>, status: Status) -> Option<Status> {
    let settings = request.settings();
    if !request.is_main() || (settings.refuse_with_close().is_empty() && !settings.tcp_accept()) {
        return None;
    }
    refusal::open(request, &acceptance::accepted(request)?, status)
}

fn serve(request: Request<'_>) -> Result<(), Status> {
    let settings = request.settings();
    if let Some(status) = request.error_status()
        && settings.refuse_with_close().iter().any(|(known, _)| *known == status.0)
    {
        // The error page of a refusal that nginx has made before this module was asked.
        return Err(status.into());
    }
    let Some(endpoint) = &settings.endpoint else {
        if settings.cgi.is_some() {
            return Err(cgi::refuse(request));
        }
        return Err(request.error_status().map_or(Status::NOT_FOUND, Status::from));
    };
    if !request.is_main() && endpoint.needs_connection() {
        // The frames of a WebSocket cannot be part of another response.
        let (name, uri) = (endpoint.directive(), Octets(request.uri()));
        request.report(
            Level::Error,
            format_args!("\"{name}\" needs the connection of a client, which the subrequest \"{uri}\" cannot give it"),
        );
        return Err(Status::INTERNAL_SERVER_ERROR);
    }
    if let Some(context) = request.context() {
        context.endpoint.set(Some(endpoint.name()));
    }
    if matches!(endpoint, EndpointSettings::Tcp(_)) {
        request.hide_arguments();
    }
    let way = match endpoint {
        EndpointSettings::Channel(channel) => channel::serve(request, channel)?,
        EndpointSettings::Shared(shared) => channel::serve(request, &shared.channel)?,
        EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_) | EndpointSettings::Tcp(_) => {
            RequestOutcome::WebSocket
        }
    };
    if let RequestOutcome::Answered(status) = way {
        return Err(status);
    }
    let version = acceptance::version(request);
    let method = match request.method() {
        // What a GET would be answered by: the page.
        b"HEAD" if settings.console() && !handshake::is_asked_for(version, request.headers()) => b"GET",
        method => method,
    };
    let head = handshake::HandshakeRequest { method, version, has_body: request.has_body() };
    let accepted = match handshake::evaluate(head, request.headers()) {
        Ok(accepted) => accepted,
        Err(Refusal::NotUpgrade) if settings.console() => return Err(console::send(request)),
        Err(refusal) => return Err(refuse(request, version, refusal)),
    };
    if !origin::is_allowed(request, accepted.origin) {
        let origin = String::from_utf8_lossy(accepted.origin.unwrap_or_default());
        request.report(Level::Error, format_args!("origin \"{origin}\" is not allowed by \"websocket_origin\""));
        return Err(refuse(request, version, Refusal::Forbidden));
    }
    let selected = match endpoint {
        EndpointSettings::Channel(_) | EndpointSettings::Shared(_) => {
            let shares_program = matches!(endpoint, EndpointSettings::Shared(_));
            channel::select_protocol(&accepted.protocols, &settings.protocols(), shares_program)
        }
        EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_) => {
            protocol::select(&accepted.protocols, &settings.protocols())
        }
        EndpointSettings::Tcp(_) => tcp::select_protocol(&accepted.protocols, &settings.protocols()),
    };
    if let (Some(name), Some(context)) = (selected, request.context()) {
        context.set_protocol(name);
    }
    let deflate = if settings.deflate() { negotiate(request, &accepted.extensions) } else { None };
    let acceptance = Box::new(Acceptance { accept: accepted.accept, protocol: selected.map(Box::from), deflate });
    if let Some(HttpStatus(status)) = request.error_status() {
        let text = format_args!("the error page of {status} is a WebSocket, which it cannot be without \"=\"");
        request.report(Level::Error, text);
        return Err(Status::http(status));
    }
    // Made before what is only needed to start the endpoint, so that this leaves no hole behind in the worker's memory.
    let session = session::create(request, &acceptance)?;
    start(request, session, endpoint)
        .and_then(|endpoint| session::attach(session, acceptance, endpoint))
        .inspect_err(|_| session::let_go(session))?;
    // Who ends the session gives this reference back.
    request.hold();
    Ok(())
}

/// Begins to start the endpoint of a session. Whether it has started is asked when the session has it, and again whenever
/// the session is run.
fn start(
    request: Request<'_>,
    session: SessionRef,
    endpoint: &EndpointSettings<NginxCompiler>,
) -> Result<Box<dyn session::Endpoint>, Status> {
    match endpoint {
        EndpointSettings::Channel(channel) => channel::start(request, session, channel),
        EndpointSettings::Shared(shared) => shared::start(request, session, shared),
        EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_) => program::start(request, session),
        EndpointSettings::Tcp(address) => tcp::start(request, session, address),
    }
}

fn negotiate(request: Request<'_>, offers: &[&[u8]]) -> Option<deflate::Agreed> {
    let settings = request.settings();
    // The directives keep both numbers below 16.
    let wanted = deflate::Settings {
        level: settings.deflate_level() as u8,
        window: settings.deflate_window() as u8,
        min_size: settings.deflate_min_size(),
        context: settings.deflate_context(),
    };
    deflate::negotiate(offers, &wanted)
}

/// Prepares the answer to a request that does not become a WebSocket; nginx makes its body.
fn refuse(request: Request<'_>, version: HttpVersion, refusal: Refusal) -> Status {
    match refusal {
        Refusal::NotUpgrade if version <= HttpVersion::Http11 => request.report(
            Level::Info,
            format_args!("no WebSocket: {refusal}; a proxy in front must pass on the headers Upgrade and Connection"),
        ),
        refusal => request.report(Level::Info, format_args!("no WebSocket: {refusal}")),
    }
    for (name, value) in refusal.headers(version) {
        if !request.add_header(name, value.as_bytes()) {
            return Status::INTERNAL_SERVER_ERROR;
        }
    }
    let status = refusal.status();
    if status != UPGRADE_REQUIRED || request.has_error_page(status) {
        return Status::http(status);
    }
    let text = if version <= HttpVersion::Http11 { HOW_TO_UPGRADE } else { NOT_OVER_HTTP2 };
    let body = ffi::ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
    request.respond(HttpStatus(status), "text/plain", body)
}

/// RFC 9110, section 15.5.22. nginx has no text for it.
const UPGRADE_REQUIRED: u16 = 426;

const HOW_TO_UPGRADE: &str = "\
426 Upgrade Required

This is the address of a WebSocket (RFC 6455, version 13). It answers clients that ask for one, as a browser does for
new WebSocket(\"wss://...\"). This request did not.

If the client did ask, a proxy in front of this server has dropped the headers that say so. It must speak HTTP/1.1 to this
server and pass the headers Upgrade and Connection on; in nginx:

    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
";

const NOT_OVER_HTTP2: &str = "\
426 Upgrade Required

This is the address of a WebSocket (RFC 6455, version 13), to which this server upgrades connections of HTTP/1.1 only.
";
