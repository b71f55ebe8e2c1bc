// SPDX-License-Identifier: Apache-2.0

//! Messages in this process: one copy of each, and one of each form, for all subscribers.

use std::cell::RefCell;
use std::rc::Rc;

use crate::channel::message::Message;
use crate::channel::wire::{Encoded, WireForm};
use crate::ws::Scratch;

/// A message and the forms that it has been brought into.
#[derive(Debug)]
pub struct Shared {
    /// The message.
    pub message: Message,
    forms: RefCell<Vec<(WireForm, Rc<Encoded>)>>,
}

impl Shared {
    /// A message that was copied out of the zone.
    pub fn new(message: Message) -> Rc<Self> {
        Rc::new(Self { message, forms: RefCell::default() })
    }

    /// The message in a form that contains no other id than its own; `channel` is that of its channel.
    pub fn form(self: &Rc<Self>, form: &WireForm, channel: &[u8], scratch: &mut Scratch) -> Buffer {
        if form.is_frame() {
            return Buffer::Frame(Rc::clone(self));
        }
        if matches!(form, WireForm::Body) {
            return Buffer::Body(Rc::clone(self));
        }
        if !form.is_shared() {
            return Buffer::Made(Rc::new(form.message(&self.message, &self.message.id.to_string(), channel, scratch)));
        }
        let mut forms = self.forms.borrow_mut();
        if let Some((_, encoded)) = forms.iter().find(|(known, _)| known == form) {
            return Buffer::Made(Rc::clone(encoded));
        }
        let encoded = Rc::new(form.message(&self.message, &self.message.id.to_string(), channel, scratch));
        forms.push((form.clone(), Rc::clone(&encoded)));
        Buffer::Made(encoded)
    }
}

/// Octets that are ready to be sent, and shared. They do not move.
#[derive(Debug, Clone)]
pub enum Buffer {
    /// A message as one WebSocket frame.
    Frame(Rc<Shared>),
    /// The data of a message.
    Body(Rc<Shared>),
    /// A message in any other form.
    Made(Rc<Encoded>),
}

impl Buffer {
    /// The octets.
    pub fn octets(&self) -> &[u8] {
        match self {
            Self::Frame(shared) => shared.message.frame(),
            Self::Body(shared) => shared.message.data(),
            Self::Made(encoded) => &encoded.octets,
        }
    }

    /// The content type of the data, where that is not the message's.
    pub fn content_type(&self) -> Option<&'static str> {
        match self {
            Self::Frame(_) | Self::Body(_) => None,
            Self::Made(encoded) => encoded.content_type,
        }
    }

    /// Whether it is a compressed WebSocket message.
    pub fn is_compressed(&self) -> bool {
        match self {
            Self::Frame(_) | Self::Body(_) => false,
            Self::Made(encoded) => encoded.compressed,
        }
    }
}
