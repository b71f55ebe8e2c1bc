// SPDX-License-Identifier: Apache-2.0

//! The forms in which messages are sent to subscribers.

pub mod date;
pub mod eventsource;
pub mod json;
pub mod multipart;
pub mod template;
pub mod websocket;

use std::fmt::Write;
use std::rc::Rc;

use super::message::Message;
use crate::ws::Scratch;
use template::{Template, Variable};
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
    /// Another form of what the location makes of a message.
    Presented(Presentation, Box<WireForm>),
}

/// What a location makes of its messages before they are brought into a form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presentation {
    /// What becomes of the message.
    pub template: Option<Rc<Template>>,
    /// The name of the event of a message that was published without one; empty: none.
    pub event: Rc<[u8]>,
}

impl Presentation {
    /// Whether its template has this variable.
    fn has(&self, variable: Variable) -> bool {
        self.template.as_ref().is_some_and(|template| template.has(variable))
    }

    fn content_type(&self) -> Option<&'static str> {
        self.template.as_ref().and_then(|template| template.content_type())
    }

    /// What a message becomes.
    fn apply(&self, message: &Message, id: &str, channel: &[u8]) -> Message {
        let event = if message.event().is_empty() { &*self.event } else { message.event() };
        match &self.template {
            None => message.with(message.kind, message.content_type(), event, message.data()),
            Some(template) => {
                let content_type = template.content_type().map_or(message.content_type(), str::as_bytes);
                message.with(template.kind(message), content_type, event, &template.render(message, id, channel))
            }
        }
    }
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
    /// The content type of the data, where that is not the message's.
    pub content_type: Option<&'static str>,
}

impl Encoded {
    fn plain(octets: Vec<u8>) -> Self {
        Self { octets, compressed: false, content_type: None }
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
            Self::Presented(presentation, form) => presentation.has(Variable::Id) || form.has_id(),
        }
    }

    /// Whether the form contains the id of the channel as a name of its own, or whoever sends it tells it in another way.
    pub fn names_channel(&self) -> bool {
        matches!(self, Self::Named(..))
    }

    /// Whether the form contains the id of the channel in any way.
    pub fn needs_channel(&self) -> bool {
        match self {
            Self::Named(..) => true,
            Self::Presented(presentation, _) => presentation.has(Variable::Channel),
            Self::WebSocket(_) | Self::EventSource | Self::Body | Self::Part | Self::Raw(_) => false,
        }
    }

    /// Whether several subscribers may have this form.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Named(_, form) => form.is_shared(),
            Self::Presented(presentation, _) => !presentation.template.as_ref().is_some_and(|it| it.is_own()),
            Self::WebSocket(_) | Self::EventSource | Self::Body | Self::Part | Self::Raw(_) => true,
        }
    }

    /// A message in this form. `id` is the position after it, `channel` the id of its channel, for the forms that
    /// [need](Self::needs_channel) it.
    pub fn message(&self, message: &Message, id: &str, channel: &[u8], scratch: &mut Scratch) -> Encoded {
        self.encode(message, id, channel, None, scratch)
    }

    fn encode(&self, message: &Message, id: &str, of: &[u8], naming: Option<Naming>, scratch: &mut Scratch) -> Encoded {
        let name = naming.map(|naming| (naming, of));
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
            Self::Named(naming, form) => form.encode(message, id, of, Some(*naming), scratch),
            Self::Presented(presentation, form) => {
                let encoded = form.encode(&presentation.apply(message, id, of), id, of, naming, scratch);
                Encoded { content_type: presentation.content_type(), ..encoded }
            }
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
            Self::Named(_, form) | Self::Presented(_, form) => form.encode_gap(lost, id, channel),
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
    use super::template::{Piece, Place, TemplateForm};
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

    #[test]
    fn what_a_location_makes_of_a_message_goes_by_every_form() {
        let id = MessageId { epoch: Epoch(7), offset: Offset(1) };
        let binary = Message::for_tests(id, MessageKind::Binary, b"a/b", b"", b"x\"");
        let literal = |text: &str| Piece::Literal(text.as_bytes().into());
        let value = |variable| Piece::Value(variable, Place::Quoted);
        let pieces =
            vec![literal("[\""), value(Variable::Channel), literal("\",\""), value(Variable::Message), literal("\"]")];
        let presentation = |form| {
            let template = Some(Rc::new(Template::new(form, pieces.clone(), false)));
            Presentation { template, event: Rc::from(*b"news") }
        };
        let encode = |form: WireForm| {
            let form = WireForm::Presented(presentation(TemplateForm::Json), Box::new(form));
            assert!(form.needs_channel() && !form.names_channel() && form.is_shared());
            form.message(&binary, "7:1", b"c", &mut Scratch::new())
        };
        let text = r#"["c","x\""]"#;
        let frame = encode(WireForm::WebSocket(Framing::default())).octets;
        assert_eq!(frame.split_at(2), (&[0x81, text.len() as u8][..], text.as_bytes()));
        let body = encode(WireForm::Body);
        assert_eq!((&*body.octets, body.content_type), (text.as_bytes(), Some("application/json")));
        assert_eq!(encode(WireForm::Raw(Rc::from(*b"|"))).octets, format!("{text}|").as_bytes());
        assert_eq!(encode(WireForm::EventSource).octets, format!("id: 7:1\nevent: news\ndata: {text}\n\n").as_bytes());
        let part = String::from_utf8(encode(WireForm::Part).octets).unwrap();
        assert!(part.contains("\r\nContent-Type: application/json\r\n") && part.contains(text), "{part}");
        let own = Presentation {
            template: Some(Rc::new(Template::new(TemplateForm::Text, vec![value(Variable::Id)], true))),
            event: Rc::default(),
        };
        let own = WireForm::Presented(own, Box::new(WireForm::Body));
        assert!(!own.is_shared() && own.has_id() && !own.needs_channel());
        let named = WireForm::Named(Naming::Field, Box::new(own));
        assert!(!named.is_shared() && named.needs_channel());
    }
}
