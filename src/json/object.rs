// SPDX-License-Identifier: Apache-2.0

//! One flat object of JSON, read strictly: a member has a string, a number, or a literal name, and never another object or an array.
//!
//! What is read comes from clients. Nothing is nested, so that there is no depth to be bounded, and the number of members is: the
//! memory that an object takes is that of its strings, which are no longer than the text.

use std::borrow::Cow;

use super::has_meaning;

/// Members that an object has at most.
pub const MOST_MEMBERS: usize = 16;

/// The greatest integer that every reader of JSON has exactly (RFC 8259, section 6).
pub const GREATEST: u64 = (1 << 53) - 1;

/// The value of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'t> {
    /// `null`, `true` or `false`.
    Literal(&'t str),
    /// A number as it is written.
    Number(&'t str),
    /// A string.
    String(Cow<'t, str>),
}

impl Value<'_> {
    /// An integer from 0 to [`GREATEST`], written without a fraction and an exponent.
    pub fn integer(&self) -> Option<u64> {
        match self {
            Value::Number(text) => text.parse().ok().filter(|number| *number <= GREATEST),
            Value::Literal(_) | Value::String(_) => None,
        }
    }
}

/// Why a text is no such object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The text is not JSON, or something follows the object.
    Syntax,
    /// The text is JSON, but no object; or a member is an object or an array.
    Nested,
    /// A member is there twice.
    Duplicate,
    /// There are more than [`MOST_MEMBERS`].
    Members,
    /// There is no memory for a string.
    Memory,
}

/// An object.
#[derive(Debug, PartialEq, Eq)]
pub struct Object<'t> {
    /// Invariant: no name is there twice.
    members: Vec<(Cow<'t, str>, Value<'t>)>,
}

impl<'t> Object<'t> {
    /// Reads a text that is one object.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn parse(text: &'t str) -> Result<Self, Error> {
        let mut reader = Reader { text, at: 0 };
        let object = reader.object()?;
        reader.skip_blanks();
        if reader.at == text.len() { Ok(object) } else { Err(Error::Syntax) }
    }

    /// Takes a member out of the object.
    pub fn take(&mut self, name: &str) -> Option<Value<'t>> {
        let at = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.swap_remove(at).1)
    }

    /// The name of a member that was not taken.
    pub fn left(&self) -> Option<&str> {
        self.members.first().map(|(name, _)| name.as_ref())
    }
}

/// A text, and how far it was read. Invariant: `at` is a boundary of characters.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes over one octet of ASCII, and blanks before it. `false` if another one is there.
    fn takes(&mut self, octet: u8) -> bool {
        self.skip_blanks();
        let is_there = self.peek() == Some(octet);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, octet: u8) -> Result<(), Error> {
        if self.takes(octet) { Ok(()) } else { Err(Error::Syntax) }
    }

    fn object(&mut self) -> Result<Object<'t>, Error> {
        let mut members: Vec<(Cow<'t, str>, Value<'t>)> = Vec::new();
        if !self.takes(b'{') {
            return self.value().and(Err(Error::Nested));
        }
        if self.takes(b'}') {
            return Ok(Object { members });
        }
        loop {
            self.skip_blanks();
            let name = self.string()?;
            self.expect(b':')?;
            self.skip_blanks();
            let value = self.value()?;
            if members.len() == MOST_MEMBERS {
                return Err(Error::Members);
            }
            if members.iter().any(|(known, _)| *known == name) {
                return Err(Error::Duplicate);
            }
            members.push((name, value));
            if !self.takes(b',') {
                self.expect(b'}')?;
                return Ok(Object { members });
            }
        }
    }

    fn value(&mut self) -> Result<Value<'t>, Error> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b'{' | b'[') => Err(Error::Nested),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let literal =
                    ["null", "true", "false"].into_iter().find(|name| rest.starts_with(name)).ok_or(Error::Syntax)?;
                self.at += literal.len();
                Ok(Value::Literal(literal))
            }
        }
    }

    /// RFC 8259, section 6.
    fn number(&mut self) -> Result<&'t str, Error> {
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

    fn digits(&mut self) -> Result<(), Error> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > begin { Ok(()) } else { Err(Error::Syntax) }
    }

    /// RFC 8259, section 7. A string that has no escapes is not copied.
    fn string(&mut self) -> Result<Cow<'t, str>, Error> {
        if self.peek() != Some(b'"') {
            return Err(Error::Syntax);
        }
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let length = rest.bytes().position(has_meaning).ok_or(Error::Syntax)?;
            let part = rest.get(..length).unwrap_or_default();
            self.at += length + 1;
            match rest.as_bytes().get(length) {
                Some(b'"') if text.is_empty() => return Ok(Cow::Borrowed(part)),
                Some(b'"') => {
                    text.try_reserve(part.len()).map_err(|_| Error::Memory)?;
                    text.push_str(part);
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    text.try_reserve(part.len() + 4).map_err(|_| Error::Memory)?;
                    text.push_str(part);
                    let character = self.escaped()?;
                    text.push(character);
                }
                _ => return Err(Error::Syntax),
            }
        }
    }

    /// The character behind a backslash that was read.
    fn escaped(&mut self) -> Result<char, Error> {
        let octet = self.peek().ok_or(Error::Syntax)?;
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
            _ => return Err(Error::Syntax),
        };
        self.at += 1;
        Ok(character)
    }

    /// One code unit of UTF-16, or two of them that are one character. Half of such a pair is no character, and cannot be written in
    /// UTF-8.
    fn escaped_unit(&mut self) -> Result<char, Error> {
        let first = self.hexadecimal()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if self.text.get(self.at..self.at + 2) != Some("\\u") {
                    return Err(Error::Syntax);
                }
                self.at += 2;
                let second = self.hexadecimal()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(Error::Syntax);
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            code => code,
        };
        char::from_u32(code).ok_or(Error::Syntax)
    }

    fn hexadecimal(&mut self) -> Result<u32, Error> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Error::Syntax)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Error::Syntax);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| Error::Syntax)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(text: &str) -> Value<'_> {
        Value::String(Cow::Borrowed(text))
    }

    #[test]
    fn members_are_what_they_are() {
        let text = " {\"a\" : \"b\", \"n\":-1.5e+3 ,\"i\":7,\r\n\t\"t\":true,\"f\":false,\"z\":null} ";
        let mut object = Object::parse(text).unwrap();
        assert_eq!(object.take("a"), Some(string("b")));
        assert_eq!(object.take("n"), Some(Value::Number("-1.5e+3")));
        assert_eq!(object.take("i").and_then(|value| value.integer()), Some(7));
        assert_eq!(object.take("t"), Some(Value::Literal("true")));
        assert_eq!(object.take("f"), Some(Value::Literal("false")));
        assert_eq!((object.take("missing"), object.left()), (None, Some("z")));
        assert_eq!(object.take("z"), Some(Value::Literal("null")));
        assert_eq!(object.left(), None);
        assert_eq!(Object::parse("{}").unwrap().left(), None);
    }

    #[test]
    fn strings_have_their_characters() {
        for (written, meant) in [
            (r#""""#, ""),
            (r#""é 😀""#, "é 😀"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\u0041\u00e9\u20AC""#, "Aé€"),
            (r#""a\ud83D\uDe00z""#, "a😀z"),
            ("\"\u{7f}\u{2028}\"", "\u{7f}\u{2028}"),
            (r#""\u0000""#, "\0"),
        ] {
            let text = format!("{{\"a\":{written}}}");
            assert_eq!(Object::parse(&text).unwrap().take("a"), Some(string(meant)), "{written}");
        }
        assert_eq!(Object::parse(r#"{"\u0061":1}"#).unwrap().take("a"), Some(Value::Number("1")), "a name too");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":1}x",
            "{\"a\":1}{}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":.5}",
            "{\"a\":1.}",
            "{\"a\":1e}",
            "{\"a\":-}",
            "{\"a\":0x1}",
            "{\"a\":NaN}",
            "{\"a\":True}",
            "{\"a\":nul}",
            "{\"a\":\"b}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\0\"}",
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"\u12 4"}"#,
            r#"{"a":"\u+123"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud800\u0041"}"#,
            r#"{"a":"\ud800x"}"#,
            r#"{"a":"\udc00"}"#,
            "{\"a\":\"\\",
            "\u{feff}{}",
            "{/**/}",
        ] {
            assert_eq!(Object::parse(text), Err(Error::Syntax), "{text}");
        }
    }

    #[test]
    fn other_json_is_refused() {
        for text in ["[]", "[1]", "\"a\"", "1", "null", "{\"a\":{}}", "{\"a\":[]}", "{\"a\":[[[[[["] {
            assert_eq!(Object::parse(text), Err(Error::Nested), "{text}");
        }
        assert_eq!(Object::parse(r#"{"a":1,"\u0061":2}"#), Err(Error::Duplicate));
        let members = |count: usize| {
            let members: Vec<_> = (0..count).map(|nth| format!("\"{nth}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(Object::parse(&members(MOST_MEMBERS)).is_ok());
        assert_eq!(Object::parse(&members(MOST_MEMBERS + 1)), Err(Error::Members));
    }

    #[test]
    fn integers() {
        for (text, integer) in [
            ("0", Some(0)),
            ("9007199254740991", Some(GREATEST)),
            ("9007199254740992", None),
            ("99999999999999999999", None),
            ("-0", None),
            ("1.0", None),
            ("1e3", None),
        ] {
            assert_eq!(Value::Number(text).integer(), integer, "{text}");
        }
        assert_eq!(string("1").integer(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name: String, content: String) {
            let mut text = String::from("{");
            super::super::string(&mut text, &name);
            text.push(':');
            super::super::string(&mut text, &content);
            text.push('}');
            prop_assert_eq!(Object::parse(&text).unwrap().take(&name), Some(Value::String(Cow::Owned(content))));
        }

        #[test]
        fn no_text_is_more_than_refused(text: String) {
            let _ = Object::parse(&text);
        }
    }
}
