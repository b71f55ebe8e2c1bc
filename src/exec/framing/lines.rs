// SPDX-License-Identifier: Apache-2.0

//! `lines`: what ends with `\n` or `\r\n` is a text message.

use super::reader::{Found, FramingError, Source, Step, hold};
use super::{HOLD, MessageKind};
use crate::ws::utf8::Validator;

/// The line that the output is in.
#[derive(Debug)]
pub(super) struct Lines {
    /// Its beginning has been passed on; nothing of it is held any more.
    streaming: bool,
    /// While streaming: a carriage return came last, which belongs to the line unless a newline follows.
    carriage_return: bool,
    text: Validator,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { streaming: false, carriage_return: false, text: Validator::new() }
    }

    /// `input` is not empty.
    pub(super) fn advance(&mut self, held: &mut Vec<u8>, input: &[u8]) -> Result<Step, FramingError> {
        if self.carriage_return {
            self.carriage_return = false;
            if input.first() != Some(&b'\n') {
                return Ok((0, Some(piece(Source::CarriageReturn, false))));
            }
        }
        let newline = memchr::memchr(b'\n', input);
        let line = input.get(..newline.unwrap_or(input.len())).unwrap_or(input);
        if held.len() + line.len() > HOLD && !held.is_empty() {
            return self.stream(held, input);
        }
        self.text.push(line)?;
        if newline.is_some() {
            self.text.finish()?;
            self.streaming = false;
            let source = if held.is_empty() {
                Source::Input(0..without_carriage_return(line))
            } else {
                hold(held, line)?;
                Source::Held(0..without_carriage_return(held))
            };
            return Ok((line.len() + 1, Some(piece(source, true))));
        }
        if !self.streaming && line.len() + held.len() <= HOLD {
            hold(held, line)?;
            return Ok((line.len(), None));
        }
        self.streaming = true;
        let end = without_carriage_return(line);
        self.carriage_return = end < line.len();
        Ok((line.len(), (end > 0).then(|| piece(Source::Input(0..end), false))))
    }

    /// The line that the output ended in. It was not ended by a newline, so a carriage return belongs to it.
    pub(super) fn finish(&mut self, held: &[u8]) -> Result<Option<Found>, FramingError> {
        self.text.finish()?;
        if !self.streaming {
            return Ok((!held.is_empty()).then(|| piece(Source::Held(0..held.len()), true)));
        }
        self.streaming = false;
        let source = if self.carriage_return { Source::CarriageReturn } else { Source::Input(0..0) };
        self.carriage_return = false;
        Ok(Some(piece(source, true)))
    }

    /// What is held is passed on because the line is too long to wait for its end.
    fn stream(&mut self, held: &mut Vec<u8>, input: &[u8]) -> Result<Step, FramingError> {
        self.streaming = true;
        let end = without_carriage_return(held);
        self.carriage_return = end < held.len();
        if end == 0 {
            *held = Vec::new();
            return self.advance(held, input);
        }
        Ok((0, Some(piece(Source::Held(0..end), false))))
    }
}

fn piece(source: Source, last: bool) -> Found {
    Found::Piece { kind: MessageKind::Text, source, last }
}

fn without_carriage_return(line: &[u8]) -> usize {
    line.strip_suffix(b"\r").unwrap_or(line).len()
}
