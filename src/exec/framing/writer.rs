// SPDX-License-Identifier: Apache-2.0

//! To the program: pieces of messages in, octets for stdin out.

use std::collections::TryReserveError;
use std::io::Write as _;

use super::{Format, HOLD, MessageKind};
use crate::exec::environment::Environment;
use crate::ws::close::CloseCode;

/// The message cannot be given to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// A binary message for a program that reads lines.
    Binary,
    /// Memory for the message could not be had.
    OutOfMemory,
}

impl WriteError {
    /// The code to close the connection with.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Binary => CloseCode::UNSUPPORTED,
            Self::OutOfMemory => CloseCode::INTERNAL,
        }
    }
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Binary => "a binary message for a program that reads lines",
            Self::OutOfMemory => "a message for which there is no memory",
        })
    }
}

impl std::error::Error for WriteError {}

impl From<TryReserveError> for WriteError {
    fn from(_: TryReserveError) -> Self {
        Self::OutOfMemory
    }
}

/// Turns messages from the client into what the program reads.
///
/// In `lines` and `messages` a message that arrives in pieces is held until it is complete, so that a client that
/// vanishes in the middle leaves no half of it; once it has more than [`HOLD`] octets it is streamed.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    /// The message up to now.
    pub(super) held: Vec<u8>,
    /// The beginning of the message has been written; nothing of it is held any more.
    streaming: bool,
}

impl Writer {
    /// A writer between two messages.
    pub const fn new(format: Format) -> Self {
        Self { format, held: Vec::new(), streaming: false }
    }

    /// Takes the next piece of a message and appends to `stdin` what the program is to read now, which may be nothing.
    ///
    /// `first` begins a message (what was held of an unfinished one is dropped) and `last` ends it; a whole message is
    /// both. `kind` is the same for all pieces of a message. The payload of text is taken to be UTF-8.
    ///
    /// # Errors
    ///
    /// [`WriteError::Binary`] at the first piece of a binary message in the `lines` format.
    pub fn write(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        first: bool,
        last: bool,
        stdin: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        if first {
            self.held = Vec::new();
            self.streaming = false;
        }
        match self.format {
            Format::Bytes => append(stdin, payload),
            Format::Lines if kind == MessageKind::Binary => Err(WriteError::Binary),
            Format::Lines | Format::Messages => {
                if !last && !self.streaming && self.held.len() + payload.len() <= HOLD {
                    return append(&mut self.held, payload);
                }
                let result = match self.format {
                    Format::Messages => self.write_record(kind, payload, last, stdin),
                    Format::Lines | Format::Bytes => self.write_line(payload, last, stdin),
                };
                self.held = Vec::new();
                self.streaming = !last;
                result
            }
        }
    }

    fn write_line(&self, payload: &[u8], last: bool, stdin: &mut Vec<u8>) -> Result<(), WriteError> {
        stdin.try_reserve(self.held.len() + payload.len() + 1)?;
        stdin.extend_from_slice(&self.held);
        stdin.extend_from_slice(payload);
        if last {
            stdin.push(b'\n');
        }
        Ok(())
    }

    fn write_record(
        &self,
        kind: MessageKind,
        payload: &[u8],
        last: bool,
        stdin: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        let length = self.held.len() + payload.len();
        if length == 0 && !last {
            return Ok(());
        }
        let letter = match (kind, last) {
            (MessageKind::Text, true) => 'T',
            (MessageKind::Text, false) => 't',
            (MessageKind::Binary, true) => 'B',
            (MessageKind::Binary, false) => 'b',
        };
        // "T ", 20 digits and a newline at most.
        stdin.try_reserve(length + 23)?;
        // Writing to a Vec does not fail.
        let _ = writeln!(stdin, "{letter} {length}");
        stdin.extend_from_slice(&self.held);
        stdin.extend_from_slice(payload);
        Ok(())
    }
}

/// Appends the record `E`: each of the variables, `NAME=value`, and a newline after it. None of them has a newline in it.
///
/// # Errors
///
/// [`WriteError::OutOfMemory`].
pub fn write_environment(environment: &Environment, stdin: &mut Vec<u8>) -> Result<(), WriteError> {
    let variables = environment.variables();
    let length: usize = variables.iter().map(|variable| variable.len() + 1).sum();
    stdin.try_reserve(length + 23)?;
    // Writing to a Vec does not fail.
    let _ = writeln!(stdin, "E {length}");
    for variable in variables.iter() {
        debug_assert!(!variable.contains(&b'\n'), "control octets are spaces");
        stdin.extend_from_slice(variable);
        stdin.push(b'\n');
    }
    Ok(())
}

fn append(to: &mut Vec<u8>, octets: &[u8]) -> Result<(), WriteError> {
    to.try_reserve(octets.len())?;
    to.extend_from_slice(octets);
    Ok(())
}
