// SPDX-License-Identifier: Apache-2.0

//! Whether a text is JSON (RFC 8259), without reading what it says.

use super::reader::{NoJson, Reader};

/// Arrays and objects that may be in one another.
const DEPTH: usize = 128;

/// Whether a text is one value, with or without blanks around it. A value that is nested more deeply than 128 times is taken as none, and so
/// is one with half of a surrogate pair in a string, which receivers may refuse.
pub fn is_value(text: &str) -> bool {
    let mut reader = Reader::new(text);
    reader.skip_blanks();
    value(&mut reader, 0).is_ok() && {
        reader.skip_blanks();
        reader.is_at_end()
    }
}

fn value(reader: &mut Reader<'_>, depth: usize) -> Result<(), NoJson> {
    match reader.peek() {
        Some(b'{' | b'[') if depth == DEPTH => Err(NoJson),
        Some(b'{') => list(reader, b'{', b'}', |reader| {
            string(reader)?;
            reader.expect(b':')?;
            reader.skip_blanks();
            value(reader, depth + 1)
        }),
        Some(b'[') => list(reader, b'[', b']', |reader| value(reader, depth + 1)),
        Some(b'"') => string(reader),
        Some(b'-' | b'0'..=b'9') => reader.number().map(|_| ()),
        _ => reader.literal().map(|_| ()),
    }
}

fn string(reader: &mut Reader<'_>) -> Result<(), NoJson> {
    reader.string(|_| true).map(|_| ())
}

fn list(
    reader: &mut Reader<'_>,
    begin: u8,
    end: u8,
    mut element: impl FnMut(&mut Reader<'_>) -> Result<(), NoJson>,
) -> Result<(), NoJson> {
    reader.expect(begin)?;
    if reader.takes(end) {
        return Ok(());
    }
    loop {
        reader.skip_blanks();
        element(reader)?;
        if !reader.takes(b',') {
            return reader.expect(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-0.5e+3",
            "10",
            "1E5",
            "\"\"",
            r#""a\"\\\/\b\f\n\r\t\u00e9é""#,
            "[]",
            "{}",
            "[ ]",
            r#"{ "a" : [1, {"b":null} , "c"], "a":2 }"#,
            "\t[\n1\r]",
            r#""\ud83D\uDe00""#,
        ] {
            assert!(is_value(text), "{text}");
        }
        for text in [
            "",
            " ",
            "nul",
            "nulls",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "\"",
            "\"\n\"",
            r#""\x""#,
            r#""\u12g4""#,
            r#""\ud800""#,
            r#"{"\udc00":1}"#,
            r#"["\ud83d\ud83d"]"#,
            "[",
            "[1,]",
            "[,]",
            "[1 2]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "{} {}",
            "1 2",
            "'a'",
            "\u{feff}1",
        ] {
            assert!(!is_value(text), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_value(&nested(128)));
        assert!(!is_value(&nested(129)));
        assert!(!is_value(&"[".repeat(1_000_000)));
    }
}
