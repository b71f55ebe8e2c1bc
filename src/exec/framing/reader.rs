// SPDX-License-Identifier: Apache-2.0

//! From the program: octets of stdout in, pieces of messages out.

use std::collections::TryReserveError;
use std::ops::Range;

use super::lines::Lines;
use super::records::Records;
use super::{Format, MessageKind};
use crate::ws::close::CloseCode;
use crate::ws::utf8::InvalidUtf8;

/// What a program said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output<'a> {
    /// The next octets of the current message. Text may be cut inside a code point.
    Piece {
        /// The type of the message, the same for all of its pieces.
        kind: MessageKind,
        /// The octets. Only a last piece may be empty.
        payload: &'a [u8],
        /// The message ends here.
        last: bool,
    },
    /// Close the WebSocket. What the program writes after it is ignored.
    Close {
        /// The code that it asked for.
        code: CloseCode,
        /// Its reason, cut to what a Close frame can carry.
        reason: &'a str,
    },
    /// Note this for the access log: a name, a space, and a value, as [`Notes`](crate::exec::notes::Notes) takes it.
    Note {
        /// The line. Of one that is longer than any that is kept, only so much that this can be told.
        text: &'a [u8],
    },
}

/// The program broke the rules of its format. The connection is to be closed with [`close_code`](Self::close_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// A text message is not UTF-8 (RFC 6455, section 8.1).
    InvalidUtf8,
    /// A record that begins with this octet.
    UnknownRecord(u8),
    /// A record header that is longer than any valid one.
    HeaderTooLong,
    /// The length of a record is not `SP 1*19DIGIT`.
    InvalidLength,
    /// A message was begun as this type and goes on as the other one.
    MixedTypes(MessageKind),
    /// A `C` record without a code that may be sent (RFC 6455, section 7.4.1).
    InvalidClose,
    /// A `V` record without a space after its type.
    InvalidNote,
    /// The output ended inside a record, or with a message that has more to follow.
    Unfinished,
    /// Memory for the message could not be had.
    OutOfMemory,
}

impl FramingError {
    /// 1007 where text is not text, else 1011.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 => CloseCode::INVALID_DATA,
            Self::UnknownRecord(_)
            | Self::HeaderTooLong
            | Self::InvalidLength
            | Self::MixedTypes(_)
            | Self::InvalidClose
            | Self::InvalidNote
            | Self::Unfinished
            | Self::OutOfMemory => CloseCode::INTERNAL,
        }
    }
}

impl std::fmt::Display for FramingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InvalidUtf8 => f.write_str("text that is not UTF-8"),
            Self::UnknownRecord(octet) => write!(f, "a record that begins with \"{}\"", octet.escape_ascii()),
            Self::HeaderTooLong => f.write_str("a record header that is too long"),
            Self::InvalidLength => f.write_str("a record with an invalid length"),
            Self::MixedTypes(MessageKind::Text) => f.write_str("a binary record inside a text message"),
            Self::MixedTypes(MessageKind::Binary) => f.write_str("a text record inside a binary message"),
            Self::InvalidClose => f.write_str("a close record with an invalid code"),
            Self::InvalidNote => f.write_str("a note without a space after its type"),
            Self::Unfinished => f.write_str("the end of the output inside a message"),
            Self::OutOfMemory => f.write_str("a message for which there is no memory"),
        }
    }
}

impl std::error::Error for FramingError {}

impl From<InvalidUtf8> for FramingError {
    fn from(_: InvalidUtf8) -> Self {
        Self::InvalidUtf8
    }
}

impl From<TryReserveError> for FramingError {
    fn from(_: TryReserveError) -> Self {
        Self::OutOfMemory
    }
}

/// Where the octets of an output are.
pub(super) enum Source {
    /// In this part of what is held.
    Held(Range<usize>),
    /// In this part of the input.
    Input(Range<usize>),
    /// A carriage return that was seen at the end of the input before this one.
    CarriageReturn,
}

/// An output that was found.
pub(super) enum Found {
    Piece { kind: MessageKind, source: Source, last: bool },
    Close { code: CloseCode, reason: Source },
    Note { text: Source },
}

/// How far one call came: the octets of the input that it is done with, and what it found.
pub(super) type Step = (usize, Option<Found>);

/// Appends to what is held.
pub(super) fn hold(held: &mut Vec<u8>, octets: &[u8]) -> Result<(), FramingError> {
    held.try_reserve(octets.len())?;
    held.extend_from_slice(octets);
    Ok(())
}

/// Cuts a program's stdout into messages.
///
/// Feed it with [`next`](Self::next) until that has nothing more to say, read again, and at the end of the output call
/// [`finish`](Self::finish). After an error nothing that follows means anything.
#[derive(Debug)]
pub struct Reader {
    rules: Rules,
    /// Octets that wait for the rest of their message.
    pub(super) held: Vec<u8>,
    /// The last output was made of `held`, which is let go at the next call.
    handed_out: bool,
}

#[derive(Debug)]
enum Rules {
    Lines(Lines),
    Bytes,
    Messages(Records),
}

impl Reader {
    /// A reader at the beginning of the output.
    pub const fn new(format: Format) -> Self {
        let rules = match format {
            Format::Lines => Rules::Lines(Lines::new()),
            Format::Bytes => Rules::Bytes,
            Format::Messages => Rules::Messages(Records::new()),
        };
        Self { rules, held: Vec::new(), handed_out: false }
    }

    /// The next output in what was read. Returns the number of octets at the front of `input` that are dealt with, and
    /// the output; the octets are the caller's to drop once he is done with the output, which may borrow from them.
    ///
    /// Without an output all of `input` has been dealt with: read more. Call until then, also with an empty `input`,
    /// which frees what an output was held in.
    ///
    /// # Errors
    ///
    /// [`FramingError`]; everything before the fault has been returned by earlier calls.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<Output<'a>>), FramingError> {
        self.release();
        if input.is_empty() {
            return Ok((0, None));
        }
        let (consumed, found) = match &mut self.rules {
            Rules::Lines(lines) => lines.advance(&mut self.held, input)?,
            Rules::Bytes => {
                let source = Source::Input(0..input.len());
                (input.len(), Some(Found::Piece { kind: MessageKind::Binary, source, last: true }))
            }
            Rules::Messages(records) => records.advance(&mut self.held, input)?,
        };
        match found {
            Some(found) => Ok((consumed, Some(self.output(found, input)?))),
            None => Ok((consumed, None)),
        }
    }

    /// The output has ended: the last line, if it had no newline. Call it once, after the last [`next`](Self::next).
    ///
    /// # Errors
    ///
    /// [`FramingError::InvalidUtf8`] if the last line ends inside a code point, [`FramingError::Unfinished`] if a
    /// record or a message of the `messages` format does.
    pub fn finish(&mut self) -> Result<Option<Output<'_>>, FramingError> {
        self.release();
        let found = match &mut self.rules {
            Rules::Lines(lines) => lines.finish(&self.held)?,
            Rules::Bytes => None,
            Rules::Messages(records) => return records.finish(&self.held).map(|()| None),
        };
        found.map(|found| self.output(found, &[])).transpose()
    }

    fn release(&mut self) {
        if self.handed_out {
            self.handed_out = false;
            self.held = Vec::new();
        }
    }

    fn output<'a>(&'a mut self, found: Found, input: &'a [u8]) -> Result<Output<'a>, FramingError> {
        let source = match &found {
            Found::Piece { source, .. } | Found::Close { reason: source, .. } | Found::Note { text: source } => source,
        };
        let octets = match source {
            Source::Input(range) => input.get(range.clone()),
            Source::Held(range) => {
                self.handed_out = true;
                self.held.get(range.clone())
            }
            Source::CarriageReturn => Some(&b"\r"[..]),
        }
        .unwrap_or_default();
        match found {
            Found::Piece { kind, last, .. } => Ok(Output::Piece { kind, payload: octets, last }),
            Found::Note { .. } => Ok(Output::Note { text: octets }),
            Found::Close { code, .. } => {
                let reason = simdutf8::basic::from_utf8(octets).map_err(|_| FramingError::InvalidUtf8)?;
                Ok(Output::Close { code, reason: crate::ws::close::truncate_reason(reason) })
            }
        }
    }
}
