// SPDX-License-Identifier: Apache-2.0

//! What a terminal shows: asciicast, version 2 (<https://docs.asciinema.org/manual/asciicast/v2/>).
//!
//! The first line is an object that tells the size of the terminal and when it was opened. Each other line is an array: the
//! time in seconds, what it is about, and a text. `"o"` is what the program writes, `"i"` what is typed, `"r"` a new size and
//! `"m"`, a marker, that something is missing.

use std::fmt::Write;

use super::text::Joiner;
use super::{Direction, Missing, Piece, seconds};
use crate::exec::terminal::{Sent, Size, SizeReader};
use crate::json;
use crate::ws::frame::MessageKind;

/// What is to be known of a recording from one line to the next.
#[derive(Debug, Default)]
pub struct Asciicast {
    /// Tells what is typed from what sets the size.
    sizes: SizeReader,
    typed: Joiner,
    shown: Joiner,
    /// The endpoint takes the end of a line off what is written, and puts it behind what is typed.
    has_lines: bool,
    /// Several clients share the terminal: its size is what they are told, and not what this one asks for.
    is_shared: bool,
    /// The text of the event that is being made.
    text: String,
}

/// The first line. `began` is when the session was opened, in seconds of Unix time; `term` the kind of the terminal.
pub fn header(size: Size, began: i64, term: &[u8]) -> String {
    let Size { columns, rows } = size;
    let mut line =
        format!("{{\"version\":2,\"width\":{columns},\"height\":{rows},\"timestamp\":{began},\"env\":{{\"TERM\":");
    json::string(&mut line, &String::from_utf8_lossy(term));
    line.push_str("}}\n");
    line
}

impl Asciicast {
    /// Nothing was shown yet. `has_lines` if messages are lines without their ends, `is_shared` if it is not the terminal of this client
    /// alone.
    pub fn new(has_lines: bool, is_shared: bool) -> Self {
        Asciicast { has_lines, is_shared, ..Asciicast::default() }
    }

    /// Appends what a piece of a message is on a terminal, if it is anything. Returns of how many octets the line tells.
    pub(super) fn piece(&mut self, time: u64, piece: &Piece<'_>, line: &mut String) -> usize {
        // What sets the size is not typed, as the endpoint has it, and what tells of it is not written by the program.
        let (kept, sent) = match piece.direction {
            Direction::In => (self.sizes.kept(), self.sizes.take(piece.payload, piece.first, piece.last)),
            Direction::Out => (0, self.told(piece)),
        };
        let octets = kept + piece.payload.len();
        let before = match sent {
            Sent::Undecided => return 0,
            Sent::Size(Size { columns, rows }) => {
                if !self.is_shared || piece.direction == Direction::Out {
                    event(time, "r", line);
                    // Writing to a string does not fail.
                    let _ = writeln!(line, "\"{columns}x{rows}\"]");
                }
                return octets;
            }
            Sent::Input { before } => before,
        };
        let (what, joiner, end) = match piece.direction {
            Direction::In => ("i", &mut self.typed, "\n"),
            Direction::Out => ("o", &mut self.shown, "\r\n"),
        };
        if let Some(before) = before {
            joiner.push(&before, &mut self.text);
        }
        joiner.push(piece.payload, &mut self.text);
        if self.has_lines && piece.last {
            joiner.finish(&mut self.text);
            self.text.push_str(end);
        }
        said(time, what, &mut self.text, line);
        octets
    }

    /// What the client is sent: the size of a terminal that it shares is told in one piece, and in text.
    fn told(&self, piece: &Piece<'_>) -> Sent {
        let tells = self.is_shared && piece.kind == MessageKind::Text && piece.first && piece.last;
        let size = tells.then(|| Size::from_message(piece.payload)).flatten();
        size.map_or(Sent::Input { before: None }, Sent::Size)
    }

    /// Appends what a side has begun and did not go on with. Returns how many octets that are: those of a character were counted when
    /// they came.
    pub(super) fn rest(&mut self, time: u64, direction: Direction, line: &mut String) -> usize {
        let (what, joiner) = match direction {
            Direction::In => ("i", &mut self.typed),
            Direction::Out => ("o", &mut self.shown),
        };
        let kept = if direction == Direction::In { self.sizes.unfinished() } else { Vec::new() };
        joiner.push(&kept, &mut self.text);
        joiner.finish(&mut self.text);
        said(time, what, &mut self.text, line);
        kept.len()
    }
}

/// Appends that something is missing.
pub(super) fn lost(time: u64, missing: Missing, line: &mut String) {
    let Missing { messages, octets } = missing;
    event(time, "m", line);
    // Writing to a string does not fail.
    let _ = writeln!(line, "\"lost: {messages} messages, {octets} octets\"]");
}

/// Appends the text, unless there is none, and takes it.
fn said(time: u64, what: &str, text: &mut String, line: &mut String) {
    if !text.is_empty() {
        event(time, what, line);
        json::string(line, text);
        line.push_str("]\n");
        text.clear();
        if text.capacity() > super::KEPT {
            *text = String::new();
        }
    }
}

fn event(time: u64, what: &str, line: &mut String) {
    line.push('[');
    seconds(time, line);
    line.push_str(",\"");
    line.push_str(what);
    line.push_str("\",");
}
