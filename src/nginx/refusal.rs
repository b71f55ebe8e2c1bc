// SPDX-License-Identifier: Apache-2.0

//! Refusals that a page can see: a Close behind a 101 in place of a status (`websocket_refuse_with_close`,
//! `websocket_tcp_accept`).

use super::acceptance::Acceptance;
use super::request::Request;
use super::session;
use super::status::Status;
use crate::conf::EndpointSettings;
use crate::session::endpoint::{Ending, HttpStatus};
use crate::session::refusing::Refusing;
use crate::ws::close::CloseCode;
use crate::ws::handshake::Accepted;

const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;
const UNAVAILABLE: u16 = 503;

/// The Close that the client of a request is to get in place of this status; `None` if it gets the status.
pub fn ending(request: Request<'_>, status: HttpStatus) -> Option<Ending> {
    let HttpStatus(status) = status;
    let settings = request.settings();
    let code = settings.refuse_with_close().iter().find(|(known, _)| *known == status).map(|(_, code)| *code);
    let code = match code {
        Some(code) => code,
        None if settings.tcp_accept() && is_of_service(&settings.endpoint, status) => match status {
            UNAVAILABLE => CloseCode::TRY_AGAIN,
            _ => CloseCode::INTERNAL,
        },
        None => return None,
    };
    let said = request.existing_context().and_then(|context| context.refusal.get());
    Some(Ending { code, reason: said.map_or_else(|| reason(status), str::to_owned) })
}

/// Whether a status says that a service cannot be had.
fn is_of_service<C: crate::conf::Compiler>(endpoint: &Option<EndpointSettings<C>>, status: u16) -> bool {
    matches!(endpoint, Some(EndpointSettings::Tcp(_))) && (status == NOT_FOUND || status >= 500)
}

/// What a status means, for whoever reads the reason of a Close.
fn reason(status: u16) -> String {
    match status {
        401 => "unauthorized".to_owned(),
        FORBIDDEN => "forbidden".to_owned(),
        NOT_FOUND => "not found".to_owned(),
        429 => "too many requests".to_owned(),
        500 => "internal error".to_owned(),
        502 => "bad gateway".to_owned(),
        UNAVAILABLE => "service unavailable".to_owned(),
        504 => "gateway timeout".to_owned(),
        507 => "no room".to_owned(),
        status => format!("refused with {status}"),
    }
}

/// Opens a session that is closed at once, for a request that would be answered with this status and has asked for a
/// WebSocket. Returns what the content handler returns then; `None` if the request is to get the status.
pub fn open(request: Request<'_>, accepted: &Accepted<'_>, status: Status) -> Option<Status> {
    let status = status.answer().filter(|status| (400..600).contains(status))?;
    let ending = ending(request, HttpStatus(status))?;
    let acceptance = Box::new(Acceptance::refusing(request, accepted));
    let session = session::create(request, &acceptance).ok()?;
    if let Err(result) = session::attach(session, acceptance, Box::new(Refusing::new(ending))) {
        // The 101 is on its way, or its connection is lost: nothing else can be answered.
        session::let_go(session);
        return Some(result);
    }
    // Who ends the session gives this reference back.
    request.hold();
    Some(Status::DONE)
}
