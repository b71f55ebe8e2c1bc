// SPDX-License-Identifier: Apache-2.0

//! The forms in which messages are sent to subscribers.

pub mod date;
pub mod eventsource;
pub mod json;
pub mod multipart;
pub mod websocket;

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
        }
    }

    /// Whether the form contains the id of the channel.
    pub fn names_channel(&self) -> bool {
        match self {
            Self::WebSocket(Framing { style: Style::Json { named }, .. }) => *named,
            Self::WebSocket(_) | Self::EventSource | Self::Part | Self::Body | Self::Raw(_) => false,
        }
    }

    /// A message in this form. `id` is the position after it, `channel` the id of its channel, for the forms that
    /// [name](Self::names_channel) it.
    pub fn message(&self, message: &Message, id: &str, channel: &[u8], scratch: &mut Scratch) -> Encoded {
        match self {
            Self::WebSocket(framing) => websocket::message(framing, message, id, channel, scratch),
            Self::EventSource => Encoded::plain(eventsource::event(id, message.event(), message.data())),
            Self::Body => Encoded::plain(message.data().to_vec()),
            Self::Part => Encoded::plain(multipart::part(message, id)),
            Self::Raw(separator) => Encoded::plain([message.data(), separator].concat()),
        }
    }

    /// Tells that `lost` messages before the position after `id` are lost; `None` if this form has no way to.
    pub fn gap(&self, lost: u64, id: &str, channel: &[u8]) -> Option<Encoded> {
        match self {
            Self::WebSocket(framing) => websocket::gap(framing, lost, id, channel),
            Self::EventSource => Some(Encoded::plain(eventsource::gap(id, lost))),
            Self::Body | Self::Part | Self::Raw(_) => None,
        }
    }
}
