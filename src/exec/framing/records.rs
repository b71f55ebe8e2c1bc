// SPDX-License-Identifier: Apache-2.0

//! `messages`: records with type and length.

use super::reader::{Found, FramingError, Source, Step, hold};
use super::{HOLD, MessageKind};
use crate::exec::notes;
use crate::ws::close::CloseCode;
use crate::ws::utf8::Validator;

/// Octets of `T <length>` at most: 19 digits are what always fits into 64 bits.
const MAX_LENGTH_LINE: usize = 2 + 19;
/// Octets of `C <code> <reason>` at most. A longer reason than a Close frame takes is cut, but not without limit.
const MAX_CLOSE_LINE: usize = 1024;
/// Octets of `V <name> <value>` that are passed on at most: of what is longer no notes are kept.
const MAX_NOTE_LINE: usize = NOTE_HEAD + notes::MAX_SIZE + 1;
/// Octets of `V` and the space after it.
const NOTE_HEAD: usize = 2;

/// The record that the output is in.
#[derive(Debug)]
pub(super) struct Records {
    state: State,
    /// The type of the message that has been begun and not ended.
    open: Option<MessageKind>,
    text: Validator,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The line before a payload is being read; what has come of it is held.
    Header,
    /// The payload of a record is being read.
    Payload(Record),
    /// In what is read over: so many octets of it are still to come.
    Skipped(u64),
    /// In the rest of a note that is too long: it is read over, up to the newline.
    NoteTail,
    /// The program has closed the WebSocket; nothing that follows counts.
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    kind: MessageKind,
    /// Octets that are still to come.
    left: u64,
    /// The message goes on after this record.
    more: bool,
    /// The payload is small enough to be held until all of it has come.
    whole: bool,
}

enum Header<'a> {
    Record(Record),
    Skipped(u64),
    Note(&'a [u8]),
    Close { code: CloseCode, reason: &'a [u8] },
}

impl Records {
    pub(super) const fn new() -> Self {
        Self { state: State::Header, open: None, text: Validator::new() }
    }

    /// `input` is not empty.
    pub(super) fn advance(&mut self, held: &mut Vec<u8>, input: &[u8]) -> Result<Step, FramingError> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            match self.state {
                State::Closed => return Ok((input.len(), None)),
                State::Header => {
                    let (used, found) = self.header(held, rest, at)?;
                    at += used;
                    // After a record without payload that is read over, another header follows.
                    if found.is_some() || (matches!(self.state, State::Header) && at == input.len()) {
                        return Ok((at, found));
                    }
                }
                State::Skipped(left) => {
                    let used = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    at += used;
                    let left = left - used as u64;
                    self.state = if left == 0 { State::Header } else { State::Skipped(left) };
                    if at == input.len() {
                        return Ok((at, None));
                    }
                }
                State::NoteTail => {
                    let Some(end) = memchr::memchr(b'\n', rest) else { return Ok((input.len(), None)) };
                    at += end + 1;
                    self.state = State::Header;
                    if at == input.len() {
                        return Ok((at, None));
                    }
                }
                State::Payload(record) => {
                    let (used, found) = self.payload(record, held, rest, at)?;
                    at += used;
                    // A record without payload and with more to follow gives nothing to pass on.
                    if found.is_some() || at == input.len() {
                        return Ok((at, found));
                    }
                }
            }
        }
    }

    pub(super) fn finish(&mut self, held: &[u8]) -> Result<(), FramingError> {
        match self.state {
            State::Closed => Ok(()),
            State::Header if self.open.is_none() && held.is_empty() => Ok(()),
            State::Header | State::Payload(_) | State::Skipped(_) | State::NoteTail => Err(FramingError::Unfinished),
        }
    }

    /// Reads a header line from `rest`, which begins at `at` of the input.
    fn header(&mut self, held: &mut Vec<u8>, rest: &[u8], at: usize) -> Result<Step, FramingError> {
        // Told by the first octet, so that a program that speaks another format is not waited for.
        let limit = match held.first().or(rest.first()) {
            None => return Ok((0, None)),
            Some(b'T' | b'B' | b't' | b'b' | b'E') => MAX_LENGTH_LINE,
            Some(b'C') => MAX_CLOSE_LINE,
            Some(b'V') => MAX_NOTE_LINE,
            Some(&octet) => return Err(FramingError::UnknownRecord(octet)),
        };
        let room = (limit - held.len()).min(rest.len());
        let window = rest.get(..rest.len().min(room + 1)).unwrap_or(rest);
        let Some(end) = memchr::memchr(b'\n', window) else {
            if rest.len() > room && limit == MAX_NOTE_LINE {
                hold(held, rest.get(..room).unwrap_or(rest))?;
                self.state = State::NoteTail;
                let text = parse_note(held)?;
                let source = Source::Held(held.len() - text.len()..held.len());
                return Ok((room, Some(Found::Note { text: source })));
            }
            if rest.len() > room {
                return Err(FramingError::HeaderTooLong);
            }
            hold(held, rest)?;
            return Ok((rest.len(), None));
        };
        let part = rest.get(..end).unwrap_or_default();
        let from_input = held.is_empty();
        let line = if from_input {
            part
        } else {
            hold(held, part)?;
            held.as_slice()
        };
        // Where the end of the line is that is passed on.
        let source = |tail: &[u8]| {
            let range = line.len() - tail.len()..line.len();
            if from_input { Source::Input(at + range.start..at + range.end) } else { Source::Held(range) }
        };
        let found = match parse(line)? {
            Header::Record(record) => {
                if let Some(kind) = self.open.filter(|&kind| kind != record.kind) {
                    return Err(FramingError::MixedTypes(kind));
                }
                self.open = Some(record.kind);
                self.state = State::Payload(record);
                *held = Vec::new();
                None
            }
            Header::Skipped(left) => {
                self.state = if left == 0 { State::Header } else { State::Skipped(left) };
                *held = Vec::new();
                None
            }
            Header::Note(text) => Some(Found::Note { text: source(text) }),
            Header::Close { code, reason } => {
                self.state = State::Closed;
                Some(Found::Close { code, reason: source(reason) })
            }
        };
        Ok((end + 1, found))
    }

    /// Reads payload from `rest`, which begins at `at` of the input.
    fn payload(
        &mut self,
        mut record: Record,
        held: &mut Vec<u8>,
        rest: &[u8],
        at: usize,
    ) -> Result<Step, FramingError> {
        let take = usize::try_from(record.left).map_or(rest.len(), |left| left.min(rest.len()));
        let part = rest.get(..take).unwrap_or(rest);
        if record.kind == MessageKind::Text {
            self.text.push(part)?;
        }
        record.left -= take as u64;
        let complete = record.left == 0;
        self.state = if complete { State::Header } else { State::Payload(record) };
        let last = complete && !record.more;
        if last {
            self.open = None;
            if record.kind == MessageKind::Text {
                self.text.finish()?;
            }
        }
        let source = if record.whole && !(complete && held.is_empty()) {
            hold(held, part)?;
            if !complete {
                return Ok((take, None));
            }
            Source::Held(0..held.len())
        } else {
            Source::Input(at..at + take)
        };
        let silent = !last && take == 0 && held.is_empty();
        Ok((take, (!silent).then_some(Found::Piece { kind: record.kind, source, last })))
    }
}

/// Reads a header line without its newline.
fn parse(line: &[u8]) -> Result<Header<'_>, FramingError> {
    let Some((&first, rest)) = line.split_first() else { return Err(FramingError::UnknownRecord(b'\n')) };
    let length = || rest.strip_prefix(b" ").and_then(decimal).ok_or(FramingError::InvalidLength);
    let (kind, more) = match first {
        b'T' => (MessageKind::Text, false),
        b't' => (MessageKind::Text, true),
        b'B' => (MessageKind::Binary, false),
        b'b' => (MessageKind::Binary, true),
        b'C' => return parse_close(rest),
        b'V' => return parse_note(line).map(Header::Note),
        b'E' => return Ok(Header::Skipped(length()?)),
        octet => return Err(FramingError::UnknownRecord(octet)),
    };
    let left = length()?;
    Ok(Header::Record(Record { kind, left, more, whole: left <= HOLD as u64 }))
}

/// What follows `V` and a space.
fn parse_note(line: &[u8]) -> Result<&[u8], FramingError> {
    line.strip_prefix(b"V ").ok_or(FramingError::InvalidNote)
}

fn parse_close(rest: &[u8]) -> Result<Header<'_>, FramingError> {
    let rest = rest.strip_prefix(b" ").ok_or(FramingError::InvalidClose)?;
    let (digits, reason) = match rest.split_at_checked(4).ok_or(FramingError::InvalidClose)? {
        (digits, []) => (digits, &[][..]),
        (digits, [b' ', reason @ ..]) => (digits, reason),
        (_, _) => return Err(FramingError::InvalidClose),
    };
    let number = decimal(digits).and_then(|number| u16::try_from(number).ok());
    let code = number.and_then(CloseCode::new).ok_or(FramingError::InvalidClose)?;
    Ok(Header::Close { code, reason })
}

/// A number of 1 to 19 decimal digits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}
