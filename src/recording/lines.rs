// SPDX-License-Identifier: Apache-2.0

//! Messages: an object of JSON (RFC 8259) in each line.
//!
//! The first line is the header. A message is one line, however many frames it came in; only one that is longer than
//! [`LONGEST`], or than what may wait to be written, is several, all but the last of which have `"more":true`. What is binary is base64 (RFC 4648, section 4), which
//! `"encoding"` says. The last line is the end of the session: a recording without it lacks at least that.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Direction, Missing, Piece, seconds};
use crate::json;
use crate::ws::close::CloseCode;
use crate::ws::frame::MessageKind;

/// Octets of a message in pieces from which on it is not put together any more, whatever may wait to be written.
pub const LONGEST: usize = 1 << 20;

/// What is to be known of a recording from one line to the next.
#[derive(Debug)]
pub struct Lines {
    from_client: Unfinished,
    to_client: Unfinished,
    /// Octets of a message in pieces from which on it is not put together any more.
    longest: usize,
}

/// A message that has begun.
#[derive(Debug, Default)]
struct Unfinished {
    octets: Vec<u8>,
    kind: Option<MessageKind>,
}

/// The first line. `began` is when the session was opened, in milliseconds of Unix time; `endpoint` what it is connected to.
pub fn header(began: u64, endpoint: &str, protocol: Option<&str>) -> String {
    let mut line = String::from("{\"version\":1,\"type\":\"header\",\"timestamp\":");
    seconds(began, &mut line);
    line.push_str(",\"endpoint\":");
    json::string(&mut line, endpoint);
    if let Some(protocol) = protocol {
        line.push_str(",\"protocol\":");
        json::string(&mut line, protocol);
    }
    line.push_str("}\n");
    line
}

impl Lines {
    /// Nothing was said yet, and so many octets may wait to be written.
    pub fn new(buffer: usize) -> Self {
        Lines { from_client: Unfinished::default(), to_client: Unfinished::default(), longest: buffer.min(LONGEST) }
    }

    /// Appends the line of a message that is complete, or too long to be waited for. Returns of how many octets it tells.
    pub(super) fn piece(&mut self, time: u64, piece: &Piece<'_>, line: &mut String) -> usize {
        let Piece { direction, kind, payload, first, last } = *piece;
        if first && last {
            return message(time, direction, kind, false, payload, line);
        }
        let longest = self.longest;
        let unfinished = self.unfinished(direction);
        // The kind is that of the first piece.
        let kind = *unfinished.kind.get_or_insert(kind);
        if unfinished.octets.try_reserve(payload.len()).is_err() {
            // What there is of the message makes room for what comes.
            let told = message(time, direction, kind, true, &unfinished.octets, line);
            *unfinished = Unfinished { octets: Vec::new(), kind: (!last).then_some(kind) };
            return told + message(time, direction, kind, !last, payload, line);
        }
        unfinished.octets.extend_from_slice(payload);
        if last {
            let Unfinished { octets, .. } = std::mem::take(unfinished);
            return message(time, direction, kind, false, &octets, line);
        }
        if unfinished.octets.len() < longest {
            return 0;
        }
        // A character is not cut.
        let cut = if kind == MessageKind::Text { whole(&unfinished.octets) } else { unfinished.octets.len() };
        let told = message(time, direction, kind, true, &unfinished.octets[..cut], line);
        unfinished.octets.drain(..cut);
        told
    }

    /// Appends the message that a side has begun and did not go on with. Returns of how many octets that tells.
    pub(super) fn rest(&mut self, time: u64, direction: Direction, line: &mut String) -> usize {
        match std::mem::take(self.unfinished(direction)) {
            Unfinished { octets, kind: Some(kind) } => message(time, direction, kind, true, &octets, line),
            Unfinished { kind: None, .. } => 0,
        }
    }

    fn unfinished(&mut self, direction: Direction) -> &mut Unfinished {
        match direction {
            Direction::In => &mut self.from_client,
            Direction::Out => &mut self.to_client,
        }
    }
}

/// Octets before a character that was cut at the end.
fn whole(text: &[u8]) -> usize {
    let begins = |octet: &u8| octet & 0xc0 != 0x80;
    let last = text.iter().rev().take(3).position(begins).map_or(0, |back| text.len() - 1 - back);
    match str::from_utf8(&text[last..]) {
        Err(error) if error.error_len().is_none() && last > 0 => last,
        _ => text.len(),
    }
}

fn begin(time: u64, direction: Direction, what: &str, line: &mut String) {
    line.push_str("{\"time\":");
    seconds(time, line);
    line.push_str(match direction {
        Direction::In => ",\"direction\":\"in\",\"type\":\"",
        Direction::Out => ",\"direction\":\"out\",\"type\":\"",
    });
    line.push_str(what);
    line.push('"');
}

fn message(time: u64, direction: Direction, kind: MessageKind, more: bool, payload: &[u8], line: &mut String) -> usize {
    match kind {
        MessageKind::Text => begin(time, direction, "text", line),
        MessageKind::Binary => begin(time, direction, "binary", line),
    }
    if more {
        line.push_str(",\"more\":true");
    }
    match kind {
        MessageKind::Text => {
            line.push_str(",\"data\":");
            json::string(line, &String::from_utf8_lossy(payload));
        }
        MessageKind::Binary => {
            line.push_str(",\"encoding\":\"base64\",\"data\":\"");
            STANDARD.encode_string(payload, line);
            line.push('"');
        }
    }
    line.push_str("}\n");
    payload.len()
}

/// Appends a Close.
pub(super) fn close(time: u64, direction: Direction, code: Option<CloseCode>, reason: &str, line: &mut String) {
    begin(time, direction, "close", line);
    if let Some(code) = code {
        // Writing to a string does not fail.
        let _ = write!(line, ",\"code\":{}", code.number());
    }
    line.push_str(",\"reason\":");
    json::string(line, reason);
    line.push_str("}\n");
}

/// Appends that something is missing.
pub(super) fn lost(time: u64, missing: Missing, line: &mut String) {
    line.push_str("{\"time\":");
    seconds(time, line);
    let Missing { messages, octets } = missing;
    // Writing to a string does not fail.
    let _ = writeln!(line, ",\"type\":\"lost\",\"messages\":{messages},\"octets\":{octets}}}");
}

/// Appends the end of the session.
pub(super) fn end(time: u64, code: Option<u16>, line: &mut String) {
    line.push_str("{\"time\":");
    seconds(time, line);
    line.push_str(",\"type\":\"end\"");
    if let Some(code) = code {
        // Writing to a string does not fail.
        let _ = write!(line, ",\"code\":{code}");
    }
    line.push_str("}\n");
}
