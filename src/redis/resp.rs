// SPDX-License-Identifier: Apache-2.0

//! Replies of a server: RESP2 and RESP3 ("RESP protocol spec", Redis documentation).
//!
//! The parser takes octets as they come, split anywhere, and keeps what is unfinished on a stack of its own: no octet is looked
//! at twice, and no reply, however deeply nested, takes more of the process's stack. What a server may send is bounded by
//! [`Limits`], which are compared with the lengths that it announces before anything is allocated; memory grows with the
//! octets that have arrived. Never in here: sockets, time, and what a reply means.

use std::mem;

/// A reply, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: `_`, `$-1`, `*-1`.
    Null,
    /// A line of text: `+`.
    Simple(Vec<u8>),
    /// An error: `-`, or `!` with a length. It begins with a code in capitals.
    Error(Vec<u8>),
    /// A number: `:`.
    Integer(i64),
    /// True or false: `#`.
    Boolean(bool),
    /// Octets: `$`; the text of a `=` without its format, and the digits of `,` and `(`, are such octets too.
    Bulk(Vec<u8>),
    /// Values in order: `*`, and `~`.
    Array(Vec<Value>),
    /// Keys and values in turn: `%`.
    Map(Vec<Value>),
    /// What the server says without having been asked: `>`.
    Push(Vec<Value>),
}

impl Value {
    /// The octets of a text, whichever form it has.
    pub fn octets(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(octets) | Value::Bulk(octets) => Some(octets),
            Value::Null
            | Value::Error(_)
            | Value::Integer(_)
            | Value::Boolean(_)
            | Value::Array(_)
            | Value::Map(_)
            | Value::Push(_) => None,
        }
    }

    /// A number, also where it was sent as text.
    pub fn number(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(*number),
            other => std::str::from_utf8(other.octets()?).ok()?.parse().ok(),
        }
    }

    /// The values of an array, a map or a push.
    pub fn values(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) | Value::Map(values) | Value::Push(values) => Some(values),
            Value::Null
            | Value::Simple(_)
            | Value::Error(_)
            | Value::Integer(_)
            | Value::Boolean(_)
            | Value::Bulk(_) => None,
        }
    }
}

/// What one reply may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Arrays in arrays.
    pub depth: usize,
    /// Octets of a line.
    pub line: usize,
    /// Values in all of its arrays.
    pub elements: usize,
    /// Octets of all of its texts.
    pub octets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 8, line: 64 << 10, elements: 1 << 20, octets: 256 << 20 }
    }
}

/// Why what a server has sent cannot be a reply. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// A reply of an unknown type, that begins with this octet.
    Type(u8),
    /// A length or a number that is none.
    Number,
    /// A line or a text that does not end with CR LF.
    End,
    /// More than [`Limits::depth`].
    Depth,
    /// More than [`Limits::line`].
    Line,
    /// More than [`Limits::elements`].
    Elements,
    /// More than [`Limits::octets`].
    Octets,
    /// The process has no memory for it.
    Memory,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ParseError::Type(octet) => write!(out, "a reply that begins with octet 0x{octet:02x}"),
            ParseError::Number => out.write_str("a reply with a malformed number"),
            ParseError::End => out.write_str("a reply without its line end"),
            ParseError::Depth => out.write_str("a reply with too many levels"),
            ParseError::Line => out.write_str("a reply with too long a line"),
            ParseError::Elements => out.write_str("a reply with too many values"),
            ParseError::Octets => out.write_str("a reply that is too large"),
            ParseError::Memory => out.write_str("no memory for a reply"),
        }
    }
}

/// Values that a list has room for before they have come.
const MOST_AHEAD: usize = 16;

/// What a list of values becomes when it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Array,
    Map,
    Push,
    /// Remarks about the value that follows it, which nobody reads: `|`.
    Attribute,
}

/// A list that has begun.
#[derive(Debug)]
struct Open {
    list: List,
    /// Values that are still to come. Invariant: never 0 between two calls.
    missing: usize,
    values: Vec<Value>,
}

/// What a text becomes when it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Bulk,
    Error,
    /// The text begins with three letters and a colon, which tell its format.
    Verbatim,
}

/// Where in a reply the next octet belongs.
#[derive(Debug)]
enum Place {
    /// Before the first octet of a value.
    Type,
    /// In the line of a value of this type; what has come of it, without its end. `cr` is true after the CR.
    Line { kind: u8, line: Vec<u8>, cr: bool },
    /// In a text; `missing` octets are still to come, and two more for the line end.
    Text { text: Text, octets: Vec<u8>, missing: usize },
}

/// Finds the replies in what a server sends.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    place: Place,
    /// Lists around the value that is being read, the outermost first. Invariant: at most [`Limits::depth`].
    open: Vec<Open>,
    /// Values of the reply so far.
    elements: usize,
    /// Octets of its texts so far, announced ones included.
    octets: usize,
}

impl Parser {
    /// A parser at the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Parser { limits, place: Place::Type, open: Vec::new(), elements: 0, octets: 0 }
    }

    /// Takes octets from the front of `input` until a reply is complete; `None` when all were taken before that.
    ///
    /// # Errors
    ///
    /// [`ParseError`]; the parser is not to be used again.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Value>, ParseError> {
        while let Some(value) = self.value(input)? {
            if let Some(reply) = self.complete(value) {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// The next value that is complete by itself; lists are opened on the way.
    fn value(&mut self, input: &mut &[u8]) -> Result<Option<Value>, ParseError> {
        while !input.is_empty() {
            match &mut self.place {
                Place::Type => {
                    let kind = input[0];
                    if !b"+-:$*_#,(!=%~>|".contains(&kind) {
                        return Err(ParseError::Type(kind));
                    }
                    *input = &input[1..];
                    match whole_line(input, self.limits.line) {
                        Some(line) => {
                            if let Some(value) = self.line(kind, line)? {
                                return Ok(Some(value));
                            }
                        }
                        None => self.place = Place::Line { kind, line: Vec::new(), cr: false },
                    }
                }
                Place::Line { kind, line, cr } => {
                    if !take_line(line, cr, input, self.limits.line)? {
                        return Ok(None);
                    }
                    let (kind, line) = (*kind, mem::take(line));
                    self.place = Place::Type;
                    if let Some(value) = self.line(kind, &line)? {
                        return Ok(Some(value));
                    }
                }
                Place::Text { text, octets, missing } => {
                    let count = input.len().min(*missing);
                    // The line end is checked with the last octet and not kept.
                    octets.try_reserve(count).map_err(|_| ParseError::Memory)?;
                    octets.extend_from_slice(&input[..count]);
                    *input = &input[count..];
                    *missing -= count;
                    if *missing > 0 {
                        return Ok(None);
                    }
                    let (text, mut octets) = (*text, mem::take(octets));
                    self.place = Place::Type;
                    if !octets.ends_with(b"\r\n") {
                        return Err(ParseError::End);
                    }
                    octets.truncate(octets.len() - 2);
                    return Ok(Some(match text {
                        Text::Bulk => Value::Bulk(octets),
                        Text::Error => Value::Error(octets),
                        Text::Verbatim => {
                            if octets.get(3) != Some(&b':') {
                                return Err(ParseError::End);
                            }
                            octets.drain(..4);
                            Value::Bulk(octets)
                        }
                    }));
                }
            }
        }
        Ok(None)
    }

    /// What a whole line says: a value, or that one begins.
    fn line(&mut self, kind: u8, line: &[u8]) -> Result<Option<Value>, ParseError> {
        self.elements += 1;
        if self.elements > self.limits.elements {
            return Err(ParseError::Elements);
        }
        let value = match kind {
            b'+' => Value::Simple(self.counted(line)?),
            b'-' => Value::Error(self.counted(line)?),
            b',' | b'(' => Value::Bulk(self.counted(line)?),
            b':' => Value::Integer(number(line)?),
            b'_' if line.is_empty() => Value::Null,
            b'#' if line == b"t" => Value::Boolean(true),
            b'#' if line == b"f" => Value::Boolean(false),
            b'_' | b'#' => return Err(ParseError::Number),
            b'$' | b'!' | b'=' => {
                let Some(length) = length(line)? else { return Ok(Some(Value::Null)) };
                self.octets = self.octets.saturating_add(length);
                if self.octets > self.limits.octets {
                    return Err(ParseError::Octets);
                }
                let text = match kind {
                    b'$' => Text::Bulk,
                    b'!' => Text::Error,
                    _ => Text::Verbatim,
                };
                // The limit on octets keeps this from overflowing.
                self.place = Place::Text { text, octets: Vec::new(), missing: length + 2 };
                return Ok(None);
            }
            // Of the types that value() lets in only lists are left.
            _ => {
                let Some(length) = length(line)? else { return Ok(Some(Value::Null)) };
                return self.list(kind, length);
            }
        };
        Ok(Some(value))
    }

    /// Opens a list of so many values, or pairs of them.
    fn list(&mut self, kind: u8, length: usize) -> Result<Option<Value>, ParseError> {
        let (list, missing) = match kind {
            b'%' => (List::Map, length.saturating_mul(2)),
            b'|' => (List::Attribute, length.saturating_mul(2)),
            b'>' => (List::Push, length),
            _ => (List::Array, length),
        };
        if missing > self.limits.elements - self.elements {
            return Err(ParseError::Elements);
        }
        if missing == 0 {
            return Ok(finished(list, Vec::new()));
        }
        if self.open.len() == self.limits.depth {
            return Err(ParseError::Depth);
        }
        self.open.push(Open { list, missing, values: Vec::with_capacity(missing.min(MOST_AHEAD)) });
        Ok(None)
    }

    /// Puts a value where it belongs; the reply, if it was its last part.
    fn complete(&mut self, mut value: Value) -> Option<Value> {
        while let Some(open) = self.open.last_mut() {
            open.values.push(value);
            open.missing -= 1;
            if open.missing > 0 {
                return None;
            }
            // Always there: last_mut() has just returned it.
            let open = self.open.pop()?;
            value = finished(open.list, open.values)?;
        }
        self.elements = 0;
        self.octets = 0;
        Some(value)
    }

    /// A text that was counted.
    fn counted(&mut self, line: &[u8]) -> Result<Vec<u8>, ParseError> {
        self.octets = self.octets.saturating_add(line.len());
        if self.octets > self.limits.octets {
            return Err(ParseError::Octets);
        }
        let mut octets = Vec::new();
        octets.try_reserve_exact(line.len()).map_err(|_| ParseError::Memory)?;
        octets.extend_from_slice(line);
        Ok(octets)
    }
}

/// A list with all of its values; `None` for what nobody reads.
fn finished(list: List, values: Vec<Value>) -> Option<Value> {
    match list {
        List::Array => Some(Value::Array(values)),
        List::Map => Some(Value::Map(values)),
        List::Push => Some(Value::Push(values)),
        List::Attribute => None,
    }
}

/// The line at the front of the input, without its end, if all of it is there and nothing is wrong with it.
fn whole_line<'a>(input: &mut &'a [u8], most: usize) -> Option<&'a [u8]> {
    let end = memchr::memchr2(b'\r', b'\n', input).filter(|&end| end <= most)?;
    let (line, rest) = input.split_at(end);
    *input = rest.strip_prefix(b"\r\n")?;
    Some(line)
}

/// Moves octets of a line from the input. Returns whether the line is complete.
fn take_line(line: &mut Vec<u8>, cr: &mut bool, input: &mut &[u8], most: usize) -> Result<bool, ParseError> {
    if *cr {
        return end_line(input);
    }
    let end = memchr::memchr(b'\r', input);
    let (piece, rest) = input.split_at(end.unwrap_or(input.len()));
    if line.len() + piece.len() > most {
        return Err(ParseError::Line);
    }
    if memchr::memchr(b'\n', piece).is_some() {
        return Err(ParseError::End);
    }
    line.try_reserve(piece.len()).map_err(|_| ParseError::Memory)?;
    line.extend_from_slice(piece);
    *input = rest;
    if end.is_none() {
        return Ok(false);
    }
    *input = &input[1..];
    *cr = true;
    end_line(input)
}

/// Takes the LF after a CR.
fn end_line(input: &mut &[u8]) -> Result<bool, ParseError> {
    match input.split_first() {
        None => Ok(false),
        Some((b'\n', rest)) => {
            *input = rest;
            Ok(true)
        }
        Some(_) => Err(ParseError::End),
    }
}

/// A number of at most 19 digits; `+` may stand before it.
fn number(line: &[u8]) -> Result<i64, ParseError> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(ParseError::Number)
}

/// The length of a text or a list; `None` for -1, by which RESP2 says that there is none.
fn length(line: &[u8]) -> Result<Option<usize>, ParseError> {
    match number(line)? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| ParseError::Number),
    }
}

/// A text as a reply has it, for tests of what is made of replies.
#[cfg(test)]
pub fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests;
