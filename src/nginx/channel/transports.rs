// SPDX-License-Identifier: Apache-2.0

//! By which transport a request is served.

use std::rc::Rc;

use super::waiting::Delivery;
use crate::channel::streaming::Streaming;
use crate::channel::transport::{Transport, TransportRequest};
use crate::channel::wire::eventsource;
use crate::conf::ChannelMode;
use crate::nginx::random;
use crate::nginx::request::Request;

/// The transport of a request that subscribes to channels, or whose WebSocket publishes to them. It may not have come to its location
/// yet, but be looked at by an access module.
pub fn of(request: Request<'_>) -> Option<Transport> {
    let mode = request.settings().channel()?.mode;
    if wants_upgrade(request) {
        return takes_websockets(request, mode).then_some(Transport::WebSocket);
    }
    if mode.subscribes() && matches!(request.method(), b"GET" | b"HEAD") { chosen(request) } else { None }
}

/// Lets the variables tell the transport of a request.
pub fn note(request: Request<'_>, transport: Transport) {
    if let Some(context) = request.context() {
        context.transport.set(Some(transport));
    }
}

/// Whether a client can have a WebSocket here. A publisher has no other way to keep its connection, so the transports do not
/// concern it.
pub fn takes_websockets(request: Request<'_>, mode: ChannelMode) -> bool {
    match mode {
        ChannelMode::Sub | ChannelMode::PubSub => request.settings().channel_transports().offer(Transport::WebSocket),
        ChannelMode::Pub => true,
        ChannelMode::Info => false,
    }
}

/// Whether a request asks for a WebSocket.
pub fn wants_upgrade(request: Request<'_>) -> bool {
    let websocket = |value: &[u8]| value.split(|&octet| octet == b',').any(|token| is_websocket(token.trim_ascii()));
    request.method() == b"GET"
        && request.headers().any(|(name, value)| name.eq_ignore_ascii_case(b"upgrade") && websocket(value))
}

fn is_websocket(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"websocket")
}

/// The values of all headers of a name.
pub fn values<'r>(request: Request<'r>, wanted: &[u8]) -> Vec<&'r [u8]> {
    request.headers().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).collect()
}

/// The transport of a request that is no upgrade; `None` if the location offers none that fits.
fn chosen(request: Request<'_>) -> Option<Transport> {
    let (accept, te) = (values(request, b"accept"), values(request, b"te"));
    let options = TransportRequest { accept: &accept, te: &te, can_chunk: request.can_chunk() };
    request.settings().channel_transports().choose(&options)
}

/// How a request that is no upgrade is to be served: `Some(None)` if all it can become is a WebSocket, `None` if the location
/// has no such way.
pub fn choose(request: Request<'_>) -> Option<Option<Delivery>> {
    let transport = chosen(request)?;
    note(request, transport);
    Some(Some(match transport {
        Transport::WebSocket => return Some(None),
        Transport::EventSource => Delivery::Streaming(Streaming::EventSource(ping(request))),
        Transport::Multipart => Delivery::Streaming(Streaming::multipart(random::long_number())),
        Transport::Chunked => Delivery::Streaming(Streaming::Chunked),
        Transport::Raw => Delivery::Streaming(Streaming::Raw(request.settings().channel_separator())),
        Transport::LongPoll => Delivery::LongPoll,
        Transport::Poll => Delivery::Poll,
    }))
}

/// What EventSources get in a silence, if the location says so.
fn ping(request: Request<'_>) -> Option<Rc<str>> {
    let settings = request.settings();
    let (event, comment) = (settings.channel_eventsource_ping_event(), settings.channel_eventsource_ping_comment());
    eventsource::ping(&event, settings.channel_eventsource_ping_data().as_deref(), &comment).map(Rc::from)
}
