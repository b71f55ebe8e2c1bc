// SPDX-License-Identifier: Apache-2.0

//! The words of JSON (RFC 8259): strings, numbers and literal names, one after the other. What they make together is up to whoever reads
//! them.

use super::has_meaning;

/// The text is no JSON here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoJson;

/// A part of what a string says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Text without escapes, not empty.
    Text(&'t str),
    /// What an escape stands for.
    Character(char),
}

/// A text, and how far it was read. Invariant: `at` is a boundary of characters.
pub struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    /// At the beginning of a text.
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// The next octet.
    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes over blanks.
    pub fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes over one octet of ASCII, and blanks before it. `false` if another one is there.
    pub fn takes(&mut self, octet: u8) -> bool {
        self.skip_blanks();
        let is_there = self.peek() == Some(octet);
        self.at += usize::from(is_there);
        is_there
    }

    /// Goes over one octet of ASCII, and blanks before it.
    ///
    /// # Errors
    ///
    /// [`NoJson`] if another one is there.
    pub fn expect(&mut self, octet: u8) -> Result<(), NoJson> {
        if self.takes(octet) { Ok(()) } else { Err(NoJson) }
    }

    /// `null`, `true` or `false`.
    ///
    /// # Errors
    ///
    /// [`NoJson`] if none of them is there.
    pub fn literal(&mut self) -> Result<&'t str, NoJson> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let literal = ["null", "true", "false"].into_iter().find(|name| rest.starts_with(name)).ok_or(NoJson)?;
        self.at += literal.len();
        Ok(literal)
    }

    /// A number, as it is written (RFC 8259, section 6).
    ///
    /// # Errors
    ///
    /// [`NoJson`] if none is there.
    pub fn number(&mut self) -> Result<&'t str, NoJson> {
        let begin = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(self.text.get(begin..self.at).unwrap_or_default())
    }

    fn digits(&mut self) -> Result<(), NoJson> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > begin { Ok(()) } else { Err(NoJson) }
    }

    /// A string (RFC 8259, section 7). `each` gets what it says, and says whether it goes on. Whether all was read.
    ///
    /// # Errors
    ///
    /// [`NoJson`] if no string is there.
    pub fn string(&mut self, mut each: impl FnMut(Piece<'t>) -> bool) -> Result<bool, NoJson> {
        if self.peek() != Some(b'"') {
            return Err(NoJson);
        }
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let length = rest.bytes().position(has_meaning).ok_or(NoJson)?;
            let part = rest.get(..length).unwrap_or_default();
            self.at += length + 1;
            if !part.is_empty() && !each(Piece::Text(part)) {
                return Ok(false);
            }
            match rest.as_bytes().get(length) {
                Some(b'"') => return Ok(true),
                Some(b'\\') => {
                    let character = self.escaped()?;
                    if !each(Piece::Character(character)) {
                        return Ok(false);
                    }
                }
                _ => return Err(NoJson),
            }
        }
    }

    /// The character behind a backslash that was read.
    fn escaped(&mut self) -> Result<char, NoJson> {
        let octet = self.peek().ok_or(NoJson)?;
        let character = match octet {
            b'"' | b'\\' | b'/' => char::from(octet),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.escaped_unit();
            }
            _ => return Err(NoJson),
        };
        self.at += 1;
        Ok(character)
    }

    /// One code unit of UTF-16, or two of them that are one character. Half of such a pair is no character, and cannot be written in
    /// UTF-8. The grammar lets it be written (RFC 8259, section 8.2), but nobody knows what a receiver makes of it: some refuse the whole text.
    fn escaped_unit(&mut self) -> Result<char, NoJson> {
        let first = self.hexadecimal()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if self.text.get(self.at..self.at + 2) != Some("\\u") {
                    return Err(NoJson);
                }
                self.at += 2;
                let second = self.hexadecimal()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(NoJson);
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            code => code,
        };
        char::from_u32(code).ok_or(NoJson)
    }

    fn hexadecimal(&mut self) -> Result<u32, NoJson> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(NoJson)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NoJson);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| NoJson)
    }
}
