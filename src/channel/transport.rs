// SPDX-License-Identifier: Apache-2.0

//! How a subscriber is served, chosen by its request from what the location offers.
//!
//! The choice is that of Nchan: some requests say what they want (an upgrade, `Accept`, `TE`); of those that do not, a
//! location can serve one kind only.

use crate::ws::field;

/// A way to serve a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// An EventSource.
    EventSource,
    /// One message a response, which waits for it.
    LongPoll,
    /// One message a response, or 304.
    Poll,
    /// A response that goes on, one chunk for each message.
    Chunked,
    /// A response that goes on, one part of `multipart/mixed` for each message.
    Multipart,
    /// A response that goes on, each message followed by a separator.
    Raw,
}

impl Transport {
    /// All transports, with their names in the configuration.
    pub const NAMES: &[(&str, Self)] = &[
        ("websocket", Self::WebSocket),
        ("eventsource", Self::EventSource),
        ("longpoll", Self::LongPoll),
        ("poll", Self::Poll),
        ("chunked", Self::Chunked),
        ("multipart", Self::Multipart),
        ("raw", Self::Raw),
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, transport)| *transport == self).map_or("", |(name, _)| name)
    }

    /// The number by which workers know it, those of another configuration as well.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The one with this number.
    pub fn of_number(number: u32) -> Option<Self> {
        Self::NAMES.iter().map(|(_, transport)| *transport).find(|transport| transport.number() == number)
    }
}

/// What a location offers: `websocket_channel_transports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transports(u8);

impl Default for Transports {
    fn default() -> Self {
        [Transport::WebSocket, Transport::EventSource, Transport::LongPoll].into_iter().collect()
    }
}

impl FromIterator<Transport> for Transports {
    fn from_iter<T: IntoIterator<Item = Transport>>(offered: T) -> Self {
        Self(offered.into_iter().fold(0, |set, transport| set | 1 << transport as u8))
    }
}

/// What a request says about the transport it wants.
#[derive(Debug, Clone, Copy)]
pub struct TransportRequest<'r> {
    /// The values of its `Accept` headers.
    pub accept: &'r [&'r [u8]],
    /// The values of its `TE` headers (RFC 9110, section 10.1.4).
    pub te: &'r [&'r [u8]],
    /// Whether the response can have chunks, which is so in HTTP/1.1 only.
    pub can_chunk: bool,
}

impl Transports {
    /// Whether a transport is offered.
    pub fn offer(self, transport: Transport) -> bool {
        self.0 & 1 << transport as u8 != 0
    }

    /// The transport for a request that is no upgrade. `None` if it asks for one that is not offered, or if none is left;
    /// a WebSocket if that is the only thing it could become.
    pub fn choose(self, request: &TransportRequest<'_>) -> Option<Transport> {
        let offered = |transport: &Transport| self.offer(*transport);
        let events = accepts(request.accept, b"text/event-stream");
        let parts = accepts(request.accept, b"multipart/mixed");
        let chunks = request.can_chunk && request.te.iter().any(|value| wants(value, b"chunked"));
        let asked = [(Transport::EventSource, events), (Transport::Chunked, chunks), (Transport::Multipart, parts)];
        let mut asked = asked.into_iter().filter(|(_, asked)| *asked).map(|(transport, _)| transport);
        if let Some(transport) = asked.find(offered) {
            return Some(transport);
        }
        if events || parts {
            return None;
        }
        // These requests look alike, so that the first of these stands in the way of the others.
        [Transport::Poll, Transport::Raw, Transport::LongPoll, Transport::WebSocket].into_iter().find(offered)
    }
}

/// Whether a request asks for a page, as browsers do when their user opens an address, and for none of the transports.
pub fn asks_for_page(accept: &[&[u8]]) -> bool {
    accepts(accept, b"text/html") && !accepts(accept, b"text/event-stream") && !accepts(accept, b"multipart/mixed")
}

/// Whether a media type is named, and not only to be refused (RFC 9110, section 12.4.2).
fn accepts(accept: &[&[u8]], media_type: &[u8]) -> bool {
    accept.iter().any(|value| wants(value, media_type))
}

/// Whether a list has this element with a weight that is not zero.
fn wants(list: &[u8], element: &[u8]) -> bool {
    field::split_quoted(list, b',').any(|item| {
        let mut parts = field::split_quoted(item, b';');
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(element)) && !parts.any(is_zero_weight)
    })
}

fn is_zero_weight(parameter: &[u8]) -> bool {
    parameter.split_first_chunk::<2>().is_some_and(|(name, weight)| {
        name.eq_ignore_ascii_case(b"q=") && weight.starts_with(b"0") && weight.iter().all(|octet| b"0.".contains(octet))
    })
}

#[cfg(test)]
mod tests {
    use super::Transport::{Chunked, EventSource, LongPoll, Multipart, Poll, Raw, WebSocket};
    use super::*;

    fn offered(names: &str) -> Transports {
        let named = |name: &str| Transport::NAMES.iter().find(|(known, _)| *known == name).unwrap().1;
        names.split(' ').map(named).collect()
    }

    fn choose(transports: &str, accept: &str, te: &str) -> Option<Transport> {
        let request = TransportRequest { accept: &[accept.as_bytes()], te: &[te.as_bytes()], can_chunk: true };
        offered(transports).choose(&request)
    }

    #[test]
    fn numbers_and_names() {
        for (name, transport) in Transport::NAMES {
            assert_eq!(transport.name(), *name);
            assert_eq!(Transport::of_number(transport.number()), Some(*transport));
        }
        assert_eq!(Transport::of_number(Transport::NAMES.len() as u32), None);
    }

    #[test]
    fn what_is_offered() {
        for (name, transport) in Transport::NAMES {
            for (_, other) in Transport::NAMES {
                assert_eq!(offered(name).offer(*other), transport == other);
            }
        }
        assert_eq!(Transports::default(), offered("websocket eventsource longpoll"));
    }

    #[test]
    fn the_request_chooses() {
        const ALL: &str = "websocket eventsource longpoll poll chunked multipart raw";
        const LONG: &str = "websocket eventsource longpoll chunked multipart";
        let expected = [
            (ALL, "text/event-stream", "", Some(EventSource)),
            (LONG, "text/html, Text/Event-Stream;q=0.5", "", Some(EventSource)),
            (LONG, "text/event-stream;q=0.0", "", Some(LongPoll)),
            (LONG, "text/event-stream; q=0", "", Some(LongPoll)),
            (LONG, "text/event-stream-x", "", Some(LongPoll)),
            (LONG, "\"text/event-stream, \"", "", Some(LongPoll)),
            (LONG, "*/*", "", Some(LongPoll)),
            (LONG, "", "", Some(LongPoll)),
            (LONG, "multipart/mixed", "", Some(Multipart)),
            (LONG, "multipart/mixed; boundary=x", "", Some(Multipart)),
            (LONG, "multipart/mixed, text/event-stream", "", Some(EventSource)),
            ("longpoll multipart", "text/event-stream, multipart/mixed", "", Some(Multipart)),
            (LONG, "*/*", "trailers, chunked;q=1", Some(Chunked)),
            (LONG, "*/*", "Chunked", Some(Chunked)),
            (LONG, "multipart/mixed", "chunked", Some(Chunked)),
            (LONG, "*/*", "chunked;q=0", Some(LongPoll)),
            (LONG, "*/*", "trailers", Some(LongPoll)),
            (LONG, "*/*", "chunkedx", Some(LongPoll)),
            (ALL, "*/*", "", Some(Poll)),
            ("longpoll raw", "*/*", "", Some(Raw)),
            ("longpoll websocket", "", "", Some(LongPoll)),
            ("longpoll", "", "chunked", Some(LongPoll)),
            ("longpoll", "text/event-stream", "", None),
            ("longpoll", "multipart/mixed", "", None),
            ("longpoll", "multipart/mixed;q=0.000", "", Some(LongPoll)),
            ("websocket", "text/event-stream", "", None),
            ("websocket", "*/*", "", Some(WebSocket)),
            ("eventsource", "*/*", "", None),
            ("chunked", "*/*", "", None),
        ];
        for (offered, accept, te, transport) in expected {
            assert_eq!(choose(offered, accept, te), transport, "{offered}; {accept}; {te}");
        }
    }

    #[test]
    fn a_browser_asks_for_a_page() {
        let expected = [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("Text/HTML;q=0.1", true),
            ("text/html;q=0, */*", false),
            ("*/*", false),
            ("text/*", false),
            ("", false),
            ("text/html, text/event-stream", false),
            ("text/html, multipart/mixed", false),
            ("text/html, text/event-stream;q=0", true),
        ];
        for (accept, page) in expected {
            assert_eq!(asks_for_page(&[accept.as_bytes()]), page, "{accept}");
        }
        assert!(asks_for_page(&[b"application/json", b"text/html"]));
        assert!(!asks_for_page(&[]));
    }

    #[test]
    fn chunks_need_a_version_that_has_them() {
        let request = TransportRequest { accept: &[], te: &[b"chunked"], can_chunk: false };
        assert_eq!(offered("chunked longpoll").choose(&request), Some(LongPoll));
        assert_eq!(offered("chunked").choose(&request), None);
    }

    #[test]
    fn several_lines_are_one_list() {
        let request = TransportRequest { accept: &[b"text/html", b"text/event-stream"], te: &[], can_chunk: true };
        assert_eq!(Transports::default().choose(&request), Some(EventSource));
    }
}
