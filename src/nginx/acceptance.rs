// SPDX-License-Identifier: Apache-2.0

//! The answer to a request that becomes a WebSocket.

use super::ffi;
use super::request::Request;
use super::session::context::Context;
use super::status::Status;
use crate::ws::deflate;
use crate::ws::handshake::{self, Accept, Accepted, HttpVersion};

/// What the 101 will say.
pub struct Acceptance {
    /// The answer to the client's key.
    pub accept: Accept,
    /// The subprotocol that is selected.
    pub protocol: Option<Box<str>>,
    /// What was agreed on about compression.
    pub deflate: Option<deflate::Agreed>,
}

impl Acceptance {
    /// For a client that is told by a Close that it was refused.
    pub fn refusing(request: Request<'_>, accepted: &Accepted<'_>) -> Self {
        let protocol = request.existing_context().and_then(Context::protocol).map(Box::from);
        let mut acceptance = Acceptance { accept: accepted.accept, protocol, deflate: None };
        acceptance.select_any(&accepted.protocols);
        acceptance
    }

    /// The client is told by a Close that it was refused, contrary to what was expected.
    pub fn refuse(&mut self, request: Request<'_>) {
        if let Some(accepted) = accepted(request).filter(|_| self.protocol.is_none()) {
            self.select_any(&accepted.protocols);
        }
    }

    /// Browsers give up a connection for which none of the subprotocols that they offer was selected, and do not tell of its
    /// Close.
    fn select_any(&mut self, offered: &[&str]) {
        if self.protocol.is_none() {
            self.protocol = offered.first().copied().map(Box::from);
        }
    }

    /// Sends the 101 (RFC 6455, section 4.2.2). `false` when the connection is lost or there is no memory.
    pub fn answer(&self, request: Request<'_>) -> bool {
        let headers = request.add_header("Upgrade", b"websocket")
            && request.add_header("Sec-WebSocket-Accept", self.accept.as_ref())
            && self
                .deflate
                .is_none_or(|agreed| request.add_header("Sec-WebSocket-Extensions", agreed.to_string().as_bytes()))
            && self.protocol.as_ref().is_none_or(|name| request.add_header("Sec-WebSocket-Protocol", name.as_bytes()));
        if !headers {
            return false;
        }
        // SAFETY: the request is alive and nothing was sent yet.
        unsafe {
            request.switch_protocols();
            if Status::of(ffi::ngx_http_send_header(request.raw())).ends_answer() {
                return false;
            }
            ffi::ngx_ws_flush_head(request.raw()) != Status::ERROR
        }
    }
}

/// What a request says that has asked for a WebSocket as it should.
pub fn accepted(request: Request<'_>) -> Option<Accepted<'_>> {
    let head = handshake::HandshakeRequest {
        method: request.method(),
        version: version(request),
        has_body: request.has_body(),
    };
    handshake::evaluate(head, request.headers()).ok()
}

/// The version of HTTP that a request came by.
pub fn version(request: Request<'_>) -> HttpVersion {
    match request.http_version() {
        ..=1000 => HttpVersion::Http10,
        1001..=1999 => HttpVersion::Http11,
        2000..=2999 => HttpVersion::Http2,
        _ => HttpVersion::Http3,
    }
}
