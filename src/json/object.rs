// SPDX-License-Identifier: Apache-2.0

//! One flat object of JSON, read strictly: a member has a string, a number, or a literal name, and never another object or an array.
//!
//! What is read comes from clients. Nothing is nested, so that there is no depth to be bounded, and the number of members is: the
//! memory that an object takes is that of its strings, which are no longer than the text.

use std::borrow::Cow;

use super::reader::{NoJson, Piece, Reader};

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

impl From<NoJson> for Error {
    fn from(NoJson: NoJson) -> Self {
        Self::Syntax
    }
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
        let mut reader = Reader::new(text);
        let object = object(&mut reader)?;
        reader.skip_blanks();
        if reader.is_at_end() { Ok(object) } else { Err(Error::Syntax) }
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

/// Reads the object that a text begins with.
fn object<'t>(reader: &mut Reader<'t>) -> Result<Object<'t>, Error> {
    let mut members: Vec<(Cow<'t, str>, Value<'t>)> = Vec::new();
    if !reader.takes(b'{') {
        return value(reader).and(Err(Error::Nested));
    }
    if reader.takes(b'}') {
        return Ok(Object { members });
    }
    loop {
        reader.skip_blanks();
        let name = string(reader)?;
        reader.expect(b':')?;
        reader.skip_blanks();
        let value = value(reader)?;
        if members.len() == MOST_MEMBERS {
            return Err(Error::Members);
        }
        if members.iter().any(|(known, _)| *known == name) {
            return Err(Error::Duplicate);
        }
        members.push((name, value));
        if !reader.takes(b',') {
            reader.expect(b'}')?;
            return Ok(Object { members });
        }
    }
}

fn value<'t>(reader: &mut Reader<'t>) -> Result<Value<'t>, Error> {
    match reader.peek() {
        Some(b'"') => string(reader).map(Value::String),
        Some(b'-' | b'0'..=b'9') => Ok(Value::Number(reader.number()?)),
        Some(b'{' | b'[') => Err(Error::Nested),
        _ => Ok(Value::Literal(reader.literal()?)),
    }
}

/// A string that has no escapes is not copied.
fn string<'t>(reader: &mut Reader<'t>) -> Result<Cow<'t, str>, Error> {
    let mut text = Cow::Borrowed("");
    let has_room = reader.string(|piece| match piece {
        Piece::Text(part) if text.is_empty() => {
            text = Cow::Borrowed(part);
            true
        }
        Piece::Text(part) => {
            let text = text.to_mut();
            let has_room = text.try_reserve(part.len()).is_ok();
            if has_room {
                text.push_str(part);
            }
            has_room
        }
        Piece::Character(character) => {
            let text = text.to_mut();
            let has_room = text.try_reserve(character.len_utf8()).is_ok();
            if has_room {
                text.push(character);
            }
            has_room
        }
    })?;
    if has_room { Ok(text) } else { Err(Error::Memory) }
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
