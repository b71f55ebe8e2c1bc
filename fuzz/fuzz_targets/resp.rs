// SPDX-License-Identifier: Apache-2.0

//! What a server sends, cut anyhow, against a reader of the whole that calls itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::redis::resp::{Limits, Parser, Value};
use ngx_ws_exec_fuzz::program::cut;

const LIMITS: Limits = Limits { depth: 4, line: 40, elements: 64, octets: 400 };

/// Why there is no value.
enum Nothing {
    /// The octets end before it does.
    Short,
    /// It is none.
    Wrong,
}

/// Reads replies of the whole.
struct Whole<'a> {
    rest: &'a [u8],
    elements: usize,
    octets: usize,
}

impl Whole<'_> {
    fn line(&mut self) -> Result<Vec<u8>, Nothing> {
        let end = self.rest.iter().position(|octet| matches!(octet, b'\r' | b'\n'));
        let line = &self.rest[..end.unwrap_or(self.rest.len())];
        if line.len() > LIMITS.line {
            return Err(Nothing::Wrong);
        }
        let line = line.to_vec();
        match self.rest[line.len()..] {
            [] | [b'\r'] => Err(Nothing::Short),
            [b'\r', b'\n', ..] => {
                self.rest = &self.rest[line.len() + 2..];
                Ok(line)
            }
            _ => Err(Nothing::Wrong),
        }
    }

    fn number(line: &[u8]) -> Result<i64, Nothing> {
        let (sign, digits) = match line {
            [b'-', digits @ ..] => (-1, digits),
            [b'+', digits @ ..] => (1, digits),
            digits => (1, digits),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Nothing::Wrong);
        }
        let value = digits
            .iter()
            .try_fold(0_i64, |value, digit| value.checked_mul(10)?.checked_add(sign * i64::from(digit - b'0')));
        value.ok_or(Nothing::Wrong)
    }

    fn count(&mut self, octets: usize) -> Result<(), Nothing> {
        self.octets += octets;
        if self.octets > LIMITS.octets { Err(Nothing::Wrong) } else { Ok(()) }
    }

    fn text(&mut self, length: usize) -> Result<Vec<u8>, Nothing> {
        self.count(length)?;
        let Some(text) = self.rest.get(..length + 2) else { return Err(Nothing::Short) };
        let text = text.strip_suffix(b"\r\n").ok_or(Nothing::Wrong)?.to_vec();
        self.rest = &self.rest[length + 2..];
        Ok(text)
    }

    /// So many values, which may be in so many more lists.
    fn values(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, Nothing> {
        if count > LIMITS.elements - self.elements || (count > 0 && depth == 0) {
            return Err(Nothing::Wrong);
        }
        (0..count).map(|_| self.value(depth - 1)).collect()
    }

    fn value(&mut self, depth: usize) -> Result<Value, Nothing> {
        loop {
            let (&kind, rest) = self.rest.split_first().ok_or(Nothing::Short)?;
            if !b"+-:$*_#,(!=%~>|".contains(&kind) {
                return Err(Nothing::Wrong);
            }
            self.rest = rest;
            let line = self.line()?;
            self.elements += 1;
            if self.elements > LIMITS.elements {
                return Err(Nothing::Wrong);
            }
            let length = |line: &[u8]| match Self::number(line)? {
                -1 => Ok(None),
                length if length < -1 => Err(Nothing::Wrong),
                length => Ok(Some(length as usize)),
            };
            return Ok(match kind {
                b'+' | b'-' | b',' | b'(' => {
                    self.count(line.len())?;
                    match kind {
                        b'+' => Value::Simple(line),
                        b'-' => Value::Error(line),
                        _ => Value::Bulk(line),
                    }
                }
                b':' => Value::Integer(Self::number(&line)?),
                b'_' if line.is_empty() => Value::Null,
                b'#' if line == b"t" => Value::Boolean(true),
                b'#' if line == b"f" => Value::Boolean(false),
                b'_' | b'#' => return Err(Nothing::Wrong),
                _ => {
                    let Some(length) = length(&line)? else { return Ok(Value::Null) };
                    if b"$!=".contains(&kind) && length > LIMITS.octets {
                        return Err(Nothing::Wrong);
                    }
                    let twice = length.saturating_mul(2);
                    match kind {
                        b'$' => Value::Bulk(self.text(length)?),
                        b'!' => Value::Error(self.text(length)?),
                        b'=' => match &*self.text(length)? {
                            [_, _, _, b':', text @ ..] => Value::Bulk(text.to_vec()),
                            _ => return Err(Nothing::Wrong),
                        },
                        b'*' | b'~' => Value::Array(self.values(length, depth)?),
                        b'%' => Value::Map(self.values(twice, depth)?),
                        b'>' => Value::Push(self.values(length, depth)?),
                        _ => {
                            // What the remarks are about follows them.
                            self.values(twice, depth)?;
                            continue;
                        }
                    }
                }
            });
        }
    }
}

/// All replies, and whether something that is none follows them.
fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Value>, bool) {
    let (mut parser, mut values) = (Parser::new(LIMITS), Vec::new());
    for mut piece in pieces {
        loop {
            match parser.next(&mut piece) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return (values, true);
                }
            }
        }
        assert!(piece.is_empty());
    }
    (values, false)
}

fuzz_target!(|data: &[u8]| {
    let [place, size, octets @ ..] = data else { return };
    let mut expected = Vec::new();
    let mut rest = octets;
    let is_wrong = loop {
        let mut whole = Whole { rest, elements: 0, octets: 0 };
        match whole.value(LIMITS.depth) {
            Ok(value) => expected.push(value),
            Err(Nothing::Short) => break false,
            Err(Nothing::Wrong) => break true,
        }
        rest = whole.rest;
    };
    for found in [parse([octets]), parse(cut(octets, *place, usize::from(*size))), parse(octets.chunks(1))] {
        assert_eq!(found, (expected.clone(), is_wrong));
    }
});
