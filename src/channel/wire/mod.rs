// SPDX-License-Identifier: Apache-2.0

//! The forms in which messages are sent to subscribers.

pub mod date;
pub mod eventsource;
pub mod json;
pub mod multipart;
pub mod websocket;

use std::fmt::Write;
use std::rc::Rc;

use super::message::Message;
use crate::ws::Scratch;
use websocket::{Framing, Style};

/// How a subscriber gets its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireForm {
    /// WebSocket messages.
    WebSocket(Framing),
    /// Events of an EventSource.
    EventSource,
    /// The data as it is: the body of a long-poll or poll response, or a chunk that nginx frames.
    Body,
    /// Parts of `multipart/mixed`, up to the boundary.
    Part,
    /// The data, each followed by this separator.
    Raw(Rc<[u8]>),
    /// Another form with the id of the channel, where that has a place for it.
    Named(Naming, Box<WireForm>),
}

/// How an event tells which channel it is from. Other forms have one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// By a field of its own, which an `EventSource` of a browser does not look at.
    Field,
    /// By its name, unless it was published with one, or the name would tell of a gap: then by the field.
    Event,
}

/// A message in one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// What is sent.
    pub octets: Vec<u8>,
    /// Whether it is a compressed WebSocket message.
    pub compressed: bool,
}

impl Encoded {
    fn plain(octets: Vec<u8>) -> Self {
        Self { octets, compressed: false }
    }
}

impl WireForm {
    /// Whether the message is sent as [`Message::frame`].
    pub fn is_frame(&self) -> bool {
        matches!(self, Self::WebSocket(Framing { style: Style::Plain, fragment: 0, deflate: None }))
    }

    /// Whether the form contains the id of the message.
    pub fn has_id(&self) -> bool {
        match self {
            Self::WebSocket(framing) => framing.style != Style::Plain,
            Self::EventSource | Self::Part => true,
            Self::Body | Self::Raw(_) => false,
            Self::Named(_, form) => form.has_id(),
        }
    }

    /// Whether the form contains the id of the channel, or whoever sends it tells it in another way.
    pub fn names_channel(&self) -> bool {
        matches!(self, Self::Named(..))
    }

    /// A message in this form. `id` is the position after it, `channel` the id of its channel, for the forms that
    /// [name](Self::names_channel) it.
    pub fn message(&self, message: &Message, id: &str, channel: &[u8], scratch: &mut Scratch) -> Encoded {
        match self {
            Self::Named(naming, form) => form.encode(message, id, Some((*naming, channel)), scratch),
            form => form.encode(message, id, None, scratch),
        }
    }

    fn encode(&self, message: &Message, id: &str, name: Option<(Naming, &[u8])>, scratch: &mut Scratch) -> Encoded {
        let channel = name.map(|(_, channel)| channel);
        match self {
            Self::WebSocket(framing) => websocket::message(framing, message, id, channel, scratch),
            Self::EventSource => {
                let (event, field) = match name {
                    Some((Naming::Event, _)) if !message.event().is_empty() => (message.event(), None),
                    Some((Naming::Event, channel)) if one_line(channel) != eventsource::GAP => (channel, None),
                    Some((_, channel)) => (message.event(), Some(channel)),
                    None => (message.event(), None),
                };
                Encoded::plain(eventsource::event(id, event, field, message.data()))
            }
            Self::Body => Encoded::plain(message.data().to_vec()),
            Self::Part => Encoded::plain(multipart::part(message, id, channel)),
            Self::Raw(separator) => Encoded::plain([message.data(), separator].concat()),
            Self::Named(_, form) => form.encode(message, id, name, scratch),
        }
    }

    /// Tells that `lost` messages before the position after `id` are lost; `None` if this form has no way to.
    pub fn gap(&self, lost: u64, id: &str, channel: &[u8]) -> Option<Encoded> {
        match self {
            Self::Named(_, form) => form.encode_gap(lost, id, Some(channel)),
            form => form.encode_gap(lost, id, None),
        }
    }

    fn encode_gap(&self, lost: u64, id: &str, channel: Option<&[u8]>) -> Option<Encoded> {
        match self {
            Self::WebSocket(framing) => websocket::gap(framing, lost, id, channel),
            Self::EventSource => Some(Encoded::plain(eventsource::gap(id, channel, lost))),
            Self::Body | Self::Part | Self::Raw(_) => None,
            Self::Named(_, form) => form.encode_gap(lost, id, channel),
        }
    }
}

/// A text without what would end the line that it is on.
fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect()
}

/// An id of a channel as the value of a header: what may not stand there is percent-encoded (RFC 3986, section 2.1).
pub fn header_value(channel: &[u8]) -> String {
    let mut text = String::with_capacity(channel.len());
    for &octet in channel {
        match octet {
            b'!'..=b'~' if octet != b'%' => text.push(char::from(octet)),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(text, "%{octet:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, MessageId, Offset};
    use crate::ws::MessageKind;

    #[test]
    fn ids_in_headers() {
        assert_eq!(header_value(b"/room/1?a=b"), "/room/1?a=b");
        assert_eq!(header_value("a b\r\n100%é".as_bytes()), "a%20b%0D%0A100%25%C3%A9");
    }

    #[test]
    fn the_channel_is_named_where_that_is_asked_for() {
        let id = MessageId { epoch: Epoch(7), offset: Offset(1) };
        let message = |event: &[u8]| Message::for_tests(id, MessageKind::Text, b"", event, b"x");
        let encode = |form: &WireForm, event: &[u8]| {
            let octets = form.message(&message(event), "7:1", b"ro\nom", &mut Scratch::new()).octets;
            String::from_utf8(octets).unwrap()
        };
        let named = |naming, form| WireForm::Named(naming, Box::new(form));
        assert_eq!(encode(&WireForm::EventSource, b""), "id: 7:1\ndata: x\n\n");
        assert_eq!(
            encode(&named(Naming::Field, WireForm::EventSource), b"e"),
            "id: 7:1\nevent: e\nchannel: room\ndata: x\n\n"
        );
        assert_eq!(encode(&named(Naming::Event, WireForm::EventSource), b""), "id: 7:1\nevent: room\ndata: x\n\n");
        assert_eq!(encode(&named(Naming::Event, WireForm::EventSource), b"e"), "id: 7:1\nevent: e\ndata: x\n\n");
        let gap =
            named(Naming::Event, WireForm::EventSource).message(&message(b""), "7:1", b"g\nap", &mut Scratch::new());
        assert_eq!(gap.octets, b"id: 7:1\nchannel: gap\ndata: x\n\n", "it does not look as if messages were lost");
        assert!(encode(&named(Naming::Field, WireForm::Part), b"").contains("\r\nX-Channel-Id: ro%0Aom\r\n"));
        assert_eq!(encode(&named(Naming::Field, WireForm::Body), b""), "x");
        let meta = WireForm::WebSocket(Framing { style: Style::Meta, ..Framing::default() });
        let frame = named(Naming::Field, meta).message(&message(b""), "7:1", b"ro\nom", &mut Scratch::new()).octets;
        assert_eq!(frame.get(2..), Some(&b"id: 7:1\nchannel: room\n\nx"[..]));
        assert!(named(Naming::Field, WireForm::Body).names_channel() && !named(Naming::Field, WireForm::Body).has_id());
    }
}
