// SPDX-License-Identifier: Apache-2.0

//! The name of a location, in a form that fits a table of fixed size.

/// Between the parts; names of nginx do not contain it.
const SEPARATOR: char = '\0';

/// What the figures belong to: the kind of endpoint, the server, the location.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    text: String,
}

impl Label {
    /// Words that hold a label in the table.
    pub const WORDS: usize = 32;

    /// Of its parts. What does not fit 256 octets is cut.
    pub fn new(endpoint: &str, server: &str, location: &str) -> Self {
        let [endpoint, server, location] = [endpoint, server, location].map(|part| part.replace(SEPARATOR, "\u{fffd}"));
        let mut text = format!("{endpoint}{SEPARATOR}{server}{SEPARATOR}{location}");
        if text.len() > Self::WORDS * 8 {
            // A server with a long name does not leave all of its locations one label.
            let begin = endpoint.len() + 1;
            let end = begin + server.len().min(Self::WORDS * 4);
            text.replace_range(boundary(&text, end)..begin + server.len(), "");
            text.truncate(boundary(&text, Self::WORDS * 8));
        }
        Label { text }
    }

    /// The label as the words of the table.
    pub fn words(&self) -> [u64; Self::WORDS] {
        let mut words = [0; Self::WORDS];
        for (word, octets) in words.iter_mut().zip(self.text.as_bytes().chunks(8)) {
            let mut whole = [0; 8];
            whole[..octets.len()].copy_from_slice(octets);
            *word = u64::from_ne_bytes(whole);
        }
        words
    }

    /// The label that the words of the table are.
    pub fn from_words(words: [u64; Self::WORDS]) -> Self {
        let octets: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        let end = octets.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        Label { text: String::from_utf8_lossy(&octets[..end]).into_owned() }
    }

    fn part(&self, place: usize) -> &str {
        self.text.split(SEPARATOR).nth(place).unwrap_or_default()
    }

    /// `exec`, `channel` or `tcp`.
    pub fn endpoint(&self) -> &str {
        self.part(0)
    }

    /// The first name of the server; may be empty.
    pub fn server(&self) -> &str {
        self.part(1)
    }

    /// The name of the location.
    pub fn location(&self) -> &str {
        self.part(2)
    }
}

/// The end of the last character that lies before `place`, or the end of the text.
fn boundary(text: &str, place: usize) -> usize {
    (0..=place.min(text.len())).rev().find(|place| text.is_char_boundary(*place)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (endpoint, server, location) in [
            ("exec", "localhost", "/cat"),
            ("exec", "", ""),
            ("", "", ""),
            ("tcp", "a\u{e4}", "~ ^/x\"\n$"),
            ("channel", "exactly", &"/".repeat(256 - 16)),
        ] {
            let label = Label::new(endpoint, server, location);
            // A label that ends with empty parts loses their separators, which changes none of its parts.
            let back = Label::from_words(label.words());
            assert_eq!((back.endpoint(), back.server(), back.location()), (endpoint, server, location));
        }
    }

    #[test]
    fn long_names_are_cut() {
        let long = "\u{e4}".repeat(300);
        let label = Label::new("exec", &long, "/here");
        assert_eq!(Label::from_words(label.words()), label);
        assert_eq!(label.location(), "/here");
        let label = Label::new("exec", "localhost", &long);
        assert_eq!(Label::from_words(label.words()), label);
        assert!(long.starts_with(label.location()) && label.location().len() > 200);
    }

    #[test]
    fn separators_in_names() {
        let label = Label::new("exec", "a\0b", "/\0");
        assert_eq!((label.server(), label.location()), ("a\u{fffd}b", "/\u{fffd}"));
    }
}
