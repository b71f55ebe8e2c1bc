// SPDX-License-Identifier: Apache-2.0

//! Whether a text is JSON (RFC 8259), without reading what it says.

use super::has_meaning;

/// Arrays and objects that may be in one another.
const DEPTH: usize = 128;

/// Whether a text is one value, with or without blanks around it. A value that is nested more deeply than 128 times is taken as none.
pub fn is_value(text: &str) -> bool {
    let mut scan = Scan(text.as_bytes());
    scan.skip_blanks();
    scan.value(0) && {
        scan.skip_blanks();
        scan.0.is_empty()
    }
}

/// What has not been looked at.
struct Scan<'t>(&'t [u8]);

impl Scan<'_> {
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// Whether this comes next. It is skipped then.
    fn takes(&mut self, text: &[u8]) -> bool {
        let rest = self.0.strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn digits(&mut self) -> bool {
        let digits = self.0.iter().take_while(|octet| octet.is_ascii_digit()).count();
        self.0 = self.0.get(digits..).unwrap_or_default();
        digits > 0
    }

    fn value(&mut self, depth: usize) -> bool {
        match self.0.first() {
            Some(b'{' | b'[') if depth == DEPTH => false,
            Some(b'{') => self.list(b"{", b"}", |scan| {
                let named = scan.string() && {
                    scan.skip_blanks();
                    scan.takes(b":")
                };
                scan.skip_blanks();
                named && scan.value(depth + 1)
            }),
            Some(b'[') => self.list(b"[", b"]", |scan| scan.value(depth + 1)),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.takes(b"null") || self.takes(b"true") || self.takes(b"false"),
        }
    }

    fn list(&mut self, begin: &[u8], end: &[u8], mut element: impl FnMut(&mut Self) -> bool) -> bool {
        if !self.takes(begin) {
            return false;
        }
        self.skip_blanks();
        if self.takes(end) {
            return true;
        }
        loop {
            self.skip_blanks();
            if !element(self) {
                return false;
            }
            self.skip_blanks();
            if self.takes(end) {
                return true;
            }
            if !self.takes(b",") {
                return false;
            }
        }
    }

    fn string(&mut self) -> bool {
        if !self.takes(b"\"") {
            return false;
        }
        loop {
            let plain = self.0.iter().take_while(|octet| !has_meaning(**octet)).count();
            self.0 = self.0.get(plain..).unwrap_or_default();
            match self.0 {
                [b'"', rest @ ..] => {
                    self.0 = rest;
                    return true;
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => self.0 = rest,
                [b'\\', b'u', a, b, c, d, rest @ ..] if [a, b, c, d].iter().all(|octet| octet.is_ascii_hexdigit()) => {
                    self.0 = rest;
                }
                _ => return false,
            }
        }
    }

    fn number(&mut self) -> bool {
        self.takes(b"-");
        if !self.takes(b"0") && !self.digits() {
            return false;
        }
        if self.takes(b".") && !self.digits() {
            return false;
        }
        if self.takes(b"e") || self.takes(b"E") {
            let _ = self.takes(b"+") || self.takes(b"-");
            return self.digits();
        }
        true
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
