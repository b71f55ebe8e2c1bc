// SPDX-License-Identifier: Apache-2.0

//! What is written down of a simulated session.

use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Message;
use crate::json::object::{Object, Value};
use crate::recording::lines::{self, Lines};
use crate::recording::{Form, Missing, Recorder, Sink, Taken};
use crate::ws::frame::MessageKind;

/// A recording that loses nothing.
#[derive(Default, Clone)]
pub struct Recording(Rc<RefCell<String>>);

impl Sink for Recording {
    fn take(&mut self, octets: &[u8]) -> Taken {
        let lines = str::from_utf8(octets).expect("lines are text");
        assert!(lines.ends_with('\n'), "lines are whole");
        assert!(!self.is_complete(), "nothing is said after the end");
        self.0.borrow_mut().push_str(lines);
        Taken::All
    }

    fn flush(&mut self) {}

    fn end(&mut self, octets: &[u8], missing: Missing) {
        assert!(missing.is_none());
        self.take(octets);
    }
}

impl Recording {
    /// A session is opened.
    pub fn begin(&self, now: u64) -> Box<Recorder> {
        assert!(!self.has_begun(), "a session is opened once");
        let header = lines::header(now, "test", None);
        Box::new(Recorder::begin(Form::Lines(Lines::new(usize::MAX)), header, Box::new(self.clone()), now))
    }

    /// Whether there is a recording.
    pub fn has_begun(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// Whether the session has ended.
    pub fn is_complete(&self) -> bool {
        self.0.borrow().lines().any(|line| line.contains("\"type\":\"end\""))
    }

    /// The whole messages of the client, and those to it.
    pub fn messages(&self) -> (Vec<Message>, Vec<Message>) {
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        for line in self.0.borrow().lines() {
            let mut line = Object::parse(line).expect("a line is an object");
            let mut member = |name| match line.take(name) {
                Some(Value::String(text)) => Some(text.into_owned()),
                Some(Value::Literal(text) | Value::Number(text)) => Some(text.to_owned()),
                None => None,
            };
            let (Some(kind), Some(direction), Some(data)) = (member("type"), member("direction"), member("data"))
            else {
                continue;
            };
            if member("more").is_some() {
                continue;
            }
            let message = match kind.as_str() {
                "text" => (MessageKind::Text, data.into_bytes()),
                _ => (MessageKind::Binary, STANDARD.decode(data).expect("base64")),
            };
            if direction == "in" { said.push(message) } else { heard.push(message) }
        }
        (said, heard)
    }
}
