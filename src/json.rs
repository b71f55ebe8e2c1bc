// SPDX-License-Identifier: Apache-2.0

//! Strings of JSON (RFC 8259, section 7).

use std::fmt::Write;

/// Appends a string in quotes.
pub fn string(text: &mut String, part: &str) {
    text.push('"');
    for character in part.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '\0'..=' ' if character != ' ' => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{:04x}", u32::from(character));
            }
            _ => text.push(character),
        }
    }
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
