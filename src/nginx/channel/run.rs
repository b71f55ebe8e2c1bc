// SPDX-License-Identifier: Apache-2.0

//! Programs that a POST starts: `websocket_exec_request`.
//!
//! The body of the request is the first message for the program. The client subscribes to the channel, and so is answered with
//! what the program says, in the way in which a GET would be answered that asks for the same.

use super::publish::{self, Body};
use super::subscription::Ids;
use super::waiting::Delivery;
use super::{choose, hub, poll, wait};
use crate::channel::message::kind_of;
use crate::channel::store::{Input, InputKind};
use crate::conf;
use crate::exec::framing::Format;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::Level;
use crate::nginx::refused;
use crate::nginx::request::Request;
use crate::nginx::shared::Arrival;
use crate::nginx::status::Status;
use crate::nginx::template::ComplexValue;
use crate::ws::frame::MessageKind;

/// Reads the body of a POST that is to start a program; returns what the content handler returns.
///
/// # Errors
///
/// The status to answer: 406 where the location cannot answer as the request asks for, 409 where there is a run.
pub fn receive(request: Request<'_>) -> Result<Status, Status> {
    let refused = || -> Result<(), Status> {
        delivery(request)?;
        check_vacancy(request)
    };
    if let Err(status) = refused() {
        // SAFETY: the request is alive. A body that cannot be dropped ends the connection.
        unsafe { ffi::ngx_http_discard_request_body(request.raw()) };
        return Err(status);
    }
    Ok(publish::read_body(request, on_body, format_args!("no program is started")))
}

/// The body is there.
unsafe extern "C" fn on_body(request: *mut ffi::ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls with a live request; the body handler's reference is given back here. A request that waits has
        // another one.
        unsafe {
            let status = received(Request::new(request)).unwrap_or_else(|status| status);
            refused::count(Request::new(request), status);
            ffi::ngx_http_finalize_request(request, status.raw());
        }
    });
}

/// Starts the program, once somebody was asked about the client if that is to be so; returns what a content handler returns.
fn received(request: Request<'_>) -> Result<Status, Status> {
    let channel = channel_of(request)?;
    // What is wrong with the body is said before anybody is asked.
    let first = first_message(request)?;
    if let Some(context) = request.context() {
        context.record.data_in(first.data.len(), true);
    }
    drop(first);
    wait(request, channel, delivery(request)?)
}

/// What a request to a location with a program has come for.
///
/// # Errors
///
/// The status to answer.
pub fn arrival(request: Request<'_>) -> Result<Arrival, Status> {
    if request.settings().has_requested_runs() && request.method() == b"POST" {
        return first_message(request).map(Arrival::Begins);
    }
    Ok(Arrival::of_subscriber(request))
}

fn channel_of<'r>(request: Request<'r>) -> Result<&'r conf::Channel<ComplexValue>, Status> {
    request.settings().channel().ok_or(Status::INTERNAL_SERVER_ERROR)
}

/// Refuses a request whose channel has a run already, before its body is read. Of two that come at the same time one is refused
/// later.
fn check_vacancy(request: Request<'_>) -> Result<(), Status> {
    let ids = Ids::of(request, channel_of(request)?)?;
    let [key] = ids.keys()[..] else { return Ok(()) };
    if hub::with(|hub| hub.beginning_of_run(key)).flatten().is_none() {
        return Ok(());
    }
    request.report(Level::Info, format_args!("the program has a run already, which goes on or is kept"));
    Err(Status::CONFLICT)
}

/// How the request is answered. It cannot become a WebSocket.
fn delivery(request: Request<'_>) -> Result<Delivery, Status> {
    let delivery = if request.is_attended() { choose(request).flatten() } else { poll(request)? };
    delivery.ok_or(Status::NOT_ACCEPTABLE)
}

/// The body of a request as a message for the program.
///
/// # Errors
///
/// The status to answer: 413 where it is larger than `websocket_max_message_size`, 415 where it is binary and the program reads
/// lines.
fn first_message(request: Request<'_>) -> Result<Input, Status> {
    let settings = request.settings();
    let body = Body::of(request)?;
    let parts = body.parts();
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let most = settings.max_message_size();
    if most != 0 && length as u64 > most {
        request.report(
            Level::Error,
            format_args!(
                "the body of the request has {length} octets, {most} are allowed (websocket_max_message_size)"
            ),
        );
        return Err(Status::REQUEST_ENTITY_TOO_LARGE);
    }
    let kind = kind_of(request.header(b"content-type").unwrap_or_default(), &parts);
    if kind == MessageKind::Binary && settings.exec_format() == Format::Lines {
        request.report(Level::Info, format_args!("the body of the request is binary, and the program reads lines"));
        return Err(Status::UNSUPPORTED_MEDIA_TYPE);
    }
    Ok(Input { kind: InputKind::Message(kind), data: publish::join(&parts)? })
}
