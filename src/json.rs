// SPDX-License-Identifier: Apache-2.0

//! JSON (RFC 8259), as far as it is needed: strings that are written, flat [objects](object) that are read, and whether a text is
//! [valid].

pub mod object;
mod reader;
pub mod valid;

use std::fmt::Write;

/// Whether an octet cannot stand in a string as it is (RFC 8259, section 7). Octets of UTF-8 beyond ASCII can.
fn has_meaning(octet: u8) -> bool {
    octet < b' ' || matches!(octet, b'"' | b'\\')
}

/// Appends a string in quotes.
pub fn string(text: &mut String, part: &str) {
    text.push('"');
    escaped(text, part);
    text.push('"');
}

/// Appends what stands between the quotes of a string.
pub fn escaped(text: &mut String, part: &str) {
    let mut rest = part;
    while let Some(at) = rest.bytes().position(has_meaning) {
        text.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            octet @ (b'"' | b'\\') => text.extend(['\\', char::from(octet)]),
            octet => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{octet:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

/// Appends a string in quotes, of octets: what is not UTF-8 becomes U+FFFD. What would begin or end an element of HTML, and what ends a line in
/// JavaScript, is escaped too, so that nobody is led into reading it as a page.
pub fn string_for_pages(text: &mut String, part: &[u8]) {
    let part = String::from_utf8_lossy(part);
    let mut rest = &*part;
    text.push('"');
    while let Some(at) = rest.find(['\u{7f}', '<', '>', '&', '\u{2028}', '\u{2029}']) {
        let (before, from) = rest.split_at(at);
        escaped(text, before);
        let mut characters = from.chars();
        // Writing to a string does not fail.
        let _ = write!(text, "\\u{:04x}", characters.next().map_or(0, u32::from));
        rest = characters.as_str();
    }
    escaped(text, rest);
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_is_escaped() {
        let mut text = String::new();
        string(&mut text, "a \"b\"\\\n\u{1f}é");
        assert_eq!(text, "\"a \\\"b\\\"\\\\\\u000a\\u001fé\"");
    }
}
