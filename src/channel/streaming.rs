// SPDX-License-Identifier: Apache-2.0

//! Responses that go on: each message as an event, a part, a chunk, or as it is with a separator behind it.
//!
//! All that makes one of these transports is here: what the head says, what comes before the first message, with each of
//! them, instead of those that are lost, in a silence, and at the end.

use std::borrow::Cow;
use std::rc::Rc;

use super::fanout::{Buffer, Item, OnGap};
use super::transport::Transport;
use super::wire::{WireForm, eventsource, multipart};

/// The content type of messages that say nothing about themselves.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// `Cache-Control` of a response whose head tells a position. With a stored one a browser would name that position in its next request
/// for the same URL (RFC 9111, section 4.3.1), although another page has got that response, or nobody: messages would be passed over.
pub const NO_STORE: &str = "no-store";

/// How the messages of a response that goes on are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Streaming {
    /// Each message is an event. In a silence this is sent, if it is something else than an empty comment.
    EventSource(Option<Rc<str>>),
    /// Each is a part; they have this boundary between them.
    Multipart(Rc<str>),
    /// Each message is a chunk.
    Chunked,
    /// Each has this separator behind it.
    Raw(Rc<[u8]>),
}

/// Octets of a body.
#[derive(Debug)]
pub enum Content {
    /// A message, or part of it, in the form that other subscribers get it in.
    Shared(Buffer),
    /// Octets for this subscriber only.
    Own(Vec<u8>),
    /// A text for this subscriber only that is sent many times, such as a boundary.
    Repeated(Rc<str>),
    /// What every subscriber gets.
    Fixed(&'static [u8]),
}

impl Content {
    /// The octets. They do not move as long as the content lives.
    pub fn octets(&self) -> &[u8] {
        match self {
            Content::Shared(buffer) => buffer.octets(),
            Content::Own(octets) => octets,
            Content::Repeated(text) => text.as_bytes(),
            Content::Fixed(octets) => octets,
        }
    }
}

impl Streaming {
    /// Parts with a boundary that nobody can know before: these 128 random bits, as 32 hexadecimal digits.
    pub fn multipart(random: u128) -> Self {
        Streaming::Multipart(format!("{random:032x}").into())
    }

    /// What it is called in the configuration.
    pub fn transport(&self) -> Transport {
        match self {
            Streaming::EventSource(_) => Transport::EventSource,
            Streaming::Multipart(_) => Transport::Multipart,
            Streaming::Chunked => Transport::Chunked,
            Streaming::Raw(_) => Transport::Raw,
        }
    }

    /// In which form the messages are shared with other subscribers.
    pub fn form(&self) -> WireForm {
        match self {
            Streaming::EventSource(_) => WireForm::EventSource,
            Streaming::Multipart(_) => WireForm::Part,
            Streaming::Chunked => WireForm::Body,
            Streaming::Raw(separator) => WireForm::Raw(Rc::clone(separator)),
        }
    }

    /// What is done when messages are lost: where a message has nothing but itself, there is no way to tell, and the location
    /// says what is done `otherwise`.
    pub fn on_gap(&self, otherwise: OnGap) -> OnGap {
        match self {
            Streaming::EventSource(_) | Streaming::Multipart(_) => OnGap::Tell,
            Streaming::Chunked | Streaming::Raw(_) => otherwise,
        }
    }

    /// Whether each piece of the body is to be a chunk of its own, where the response has chunks.
    pub fn is_in_chunks(&self) -> bool {
        *self == Streaming::Chunked
    }

    /// The content type of the response.
    pub fn content_type(&self) -> Cow<'static, str> {
        match self {
            Streaming::EventSource(_) => eventsource::CONTENT_TYPE.into(),
            Streaming::Multipart(boundary) => multipart::content_type(boundary).into(),
            Streaming::Chunked | Streaming::Raw(_) => TEXT.into(),
        }
    }

    /// Whether the position at the beginning is told by a header: the body of the other transports tells it.
    pub fn has_position_in_head(&self) -> bool {
        !matches!(self, Streaming::EventSource(_))
    }

    /// What caches may do with the response.
    pub fn cache_control(&self) -> &'static str {
        if self.has_position_in_head() { NO_STORE } else { "no-cache" }
    }

    /// Whether messages that were lost before the beginning are told by a header: there is no other way.
    pub fn has_losses_in_head(&self) -> bool {
        matches!(self, Streaming::Chunked | Streaming::Raw(_))
    }

    /// What the body begins with; `position` is that of its subscriber.
    pub fn begin(&self, position: &str, mut put: impl FnMut(Content)) {
        match self {
            Streaming::EventSource(_) => put(Content::Own(eventsource::position(position))),
            Streaming::Multipart(boundary) => {
                put(Content::Fixed(multipart::FIRST));
                put(Content::Repeated(Rc::clone(boundary)));
            }
            Streaming::Chunked | Streaming::Raw(_) => {}
        }
    }

    /// A message, or the news of a gap.
    pub fn item(&self, item: &Item, mut put: impl FnMut(Content)) {
        match self {
            Streaming::Multipart(boundary) => {
                if let Some(lost) = item.lost {
                    put(Content::Own(multipart::gap(lost)));
                }
                put(Content::Shared(item.buffer.clone()));
                put(Content::Repeated(Rc::clone(boundary)));
            }
            Streaming::EventSource(_) | Streaming::Chunked | Streaming::Raw(_) => {
                put(Content::Shared(item.buffer.clone()))
            }
        }
    }

    /// Whether something can be sent that is no message.
    pub fn has_keepalive(&self) -> bool {
        matches!(self, Streaming::EventSource(_))
    }

    /// What is sent when there was nothing for a while, if there is something that is no message.
    pub fn keepalive(&self) -> Option<Content> {
        match self {
            Streaming::EventSource(None) => Some(Content::Fixed(eventsource::KEEPALIVE)),
            Streaming::EventSource(Some(text)) => Some(Content::Repeated(Rc::clone(text))),
            Streaming::Multipart(_) | Streaming::Chunked | Streaming::Raw(_) => None,
        }
    }

    /// What the body ends with.
    pub fn end(&self) -> Content {
        match self {
            Streaming::Multipart(_) => Content::Fixed(multipart::LAST),
            Streaming::EventSource(_) | Streaming::Chunked | Streaming::Raw(_) => Content::Fixed(b""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(step: impl FnOnce(&mut dyn FnMut(Content))) -> Vec<u8> {
        let mut all = Vec::new();
        step(&mut |content| all.extend_from_slice(content.octets()));
        all
    }

    #[test]
    fn a_body_without_messages_is_whole() {
        let parts = Streaming::Multipart("xyz".into());
        assert_eq!(octets(|put| parts.begin("1:0", put)), b"--xyz");
        assert_eq!(parts.end().octets(), b"--\r\n");
        assert_eq!(parts.content_type(), "multipart/mixed; boundary=xyz");
        assert_eq!(octets(|put| Streaming::EventSource(None).begin("1:0", put)), b"id: 1:0\n\n");
        assert!(octets(|put| Streaming::Chunked.begin("1:0", put)).is_empty());
    }

    #[test]
    fn a_boundary_has_32_digits() {
        assert_eq!(
            Streaming::multipart(0xabc).content_type(),
            format!("multipart/mixed; boundary={}abc", "0".repeat(29))
        );
    }

    #[test]
    fn who_can_tell_of_a_gap_does() {
        for otherwise in [OnGap::Close, OnGap::Skip] {
            assert_eq!(Streaming::EventSource(None).on_gap(otherwise), OnGap::Tell);
            assert_eq!(Streaming::multipart(1).on_gap(otherwise), OnGap::Tell);
            assert_eq!(Streaming::Chunked.on_gap(otherwise), otherwise);
            assert_eq!(Streaming::Raw(b"\n"[..].into()).on_gap(otherwise), otherwise);
        }
    }
}
