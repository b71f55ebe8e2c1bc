// SPDX-License-Identifier: Apache-2.0

//! Incremental UTF-8 validation (RFC 3629), as text messages need it (RFC 6455, section 8.1).
//!
//! A text message arrives in frames, and a frame arrives in reads, so the boundary of a piece may fall inside a code
//! point. The validator carries what it must know about the unfinished code point and refuses the first octet that
//! cannot be part of any valid continuation, however the octets were cut.

/// The octets are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidUtf8;

impl std::fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("invalid UTF-8")
    }
}

impl std::error::Error for InvalidUtf8 {}

/// Validates a text that is given piece by piece.
///
/// After an error the rest of the text is of no interest; [`finish`](Self::finish) makes the validator ready for the
/// next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validator {
    /// Octets of the unfinished code point that were seen (0..=3).
    seen: u8,
    /// Octets that it still needs (0..=3).
    need: u8,
    /// What the next octet may be, both ends included; narrower than 80..BF only after E0, ED, F0 and F4.
    low: u8,
    high: u8,
}

impl Default for Validator {
    fn default() -> Self {
        Self::new()
    }
}

impl Validator {
    /// A validator at the beginning of a text.
    pub const fn new() -> Self {
        Self { seen: 0, need: 0, low: 0x80, high: 0xBF }
    }

    /// Checks the next piece of the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if a wrong octet is in this piece: overlong forms, surrogates, and values above U+10FFFF are
    /// refused at the octet that makes them so, without waiting for the end of the code point.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        let mut rest = piece;
        while self.need > 0 {
            let Some((&octet, tail)) = rest.split_first() else { return Ok(()) };
            self.step(octet)?;
            rest = tail;
        }
        let (bulk, cut_off) = rest.split_at(rest.len() - unfinished(rest));
        simdutf8::basic::from_utf8(bulk).map_err(|_| InvalidUtf8)?;
        cut_off.iter().try_for_each(|&octet| self.step(octet))
    }

    /// The text is over. The validator is ready for the next one, whatever the outcome.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if the text ends inside a code point.
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        let unfinished = self.need > 0;
        *self = Self::new();
        if unfinished { Err(InvalidUtf8) } else { Ok(()) }
    }

    /// How many octets at the end of what was pushed belong to a code point that is not complete yet (0..=3).
    pub const fn pending(&self) -> usize {
        self.seen as usize
    }

    /// One octet by the table of RFC 3629, section 4.
    fn step(&mut self, octet: u8) -> Result<(), InvalidUtf8> {
        if self.need > 0 {
            if !(self.low..=self.high).contains(&octet) {
                return Err(InvalidUtf8);
            }
            (self.low, self.high) = (0x80, 0xBF);
            self.need -= 1;
            self.seen = if self.need == 0 { 0 } else { self.seen + 1 };
            return Ok(());
        }
        (self.need, self.low, self.high) = match octet {
            0x00..=0x7F => return Ok(()),
            0xC2..=0xDF => (1, 0x80, 0xBF),
            0xE0 => (2, 0xA0, 0xBF),
            0xED => (2, 0x80, 0x9F),
            0xE1..=0xEF => (2, 0x80, 0xBF),
            0xF0 => (3, 0x90, 0xBF),
            0xF1..=0xF3 => (3, 0x80, 0xBF),
            0xF4 => (3, 0x80, 0x8F),
            0x80..=0xC1 | 0xF5..=0xFF => return Err(InvalidUtf8),
        };
        self.seen = 1;
        Ok(())
    }
}

/// How many octets at the end of `text` begin a code point without ending it, judged by its first octet alone.
fn unfinished(text: &[u8]) -> usize {
    for (back, &octet) in text.iter().rev().take(3).enumerate() {
        let length = match octet {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            // ASCII ends a code point; the others begin none, and the bulk check refuses them.
            _ => 1,
        };
        return if length > back + 1 { back + 1 } else { 0 };
    }
    0
}

/// Makes pieces of whole code points of the pieces of a valid text, for those who cannot take half of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Joiner {
    /// The beginning of a code point that is not complete.
    carried: [u8; 3],
    carried_len: u8,
    /// The code point that the last piece completed.
    joined: [u8; 4],
}

impl Joiner {
    /// A joiner at the beginning of a text.
    pub const fn new() -> Self {
        Self { carried: [0; 3], carried_len: 0, joined: [0; 4] }
    }

    /// Takes the next piece of a text that a [`Validator`] accepted. The two results, one after the other, are whole
    /// code points: one that began before and ends here, and those that lie in the piece. Either may be empty. At
    /// most three octets are held back for the next piece, none when the text is complete.
    pub fn push<'a>(&'a mut self, piece: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let held = usize::from(self.carried_len);
        let length = match self.carried.first() {
            _ if held == 0 => 0,
            Some(0xF0..) => 4,
            Some(0xE0..) => 3,
            _ => 2,
        };
        let missing = length.max(held) - held;
        let (begin, rest) = piece.split_at(missing.min(piece.len()));
        if begin.len() < missing {
            self.carry(begin);
            return (&[], &[]);
        }
        let octets = self.carried.iter().take(held).chain(begin);
        for (slot, octet) in self.joined.iter_mut().zip(octets) {
            *slot = *octet;
        }
        let (whole, cut_off) = rest.split_at(rest.len() - unfinished(rest));
        self.carried_len = 0;
        self.carry(cut_off);
        (self.joined.get(..length).unwrap_or_default(), whole)
    }

    fn carry(&mut self, octets: &[u8]) {
        for (slot, octet) in self.carried.iter_mut().skip(self.carried_len.into()).zip(octets) {
            *slot = *octet;
            self.carried_len += 1;
        }
    }
}

/// The longest prefix of `text` that has at most `limit` octets and does not cut a code point.
pub fn truncate(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The number of octets after which the text is known to be wrong, by the standard library.
    fn first_wrong(text: &[u8]) -> Option<usize> {
        (1..=text.len()).find(|&n| match std::str::from_utf8(&text[..n]) {
            Ok(_) => false,
            Err(e) => e.error_len().is_some(),
        })
    }

    fn whole(text: &[u8]) -> bool {
        let mut v = Validator::new();
        v.push(text).and_then(|()| v.finish()).is_ok()
    }

    #[test]
    fn edges_of_the_table() {
        for good in [
            "",
            "a",
            "\u{7f}",
            "\u{80}",
            "\u{7ff}",
            "\u{800}",
            "\u{d7ff}",
            "\u{e000}",
            "\u{ffff}",
            "\u{10000}",
            "\u{10ffff}",
            "κόσμε",
            "\0",
        ] {
            assert!(whole(good.as_bytes()), "{good:?}");
        }
        let bad: [&[u8]; 16] = [
            b"\x80",
            b"\xbf",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xc2",
            b"\xc2\x41",
            b"\xe0\x9f\xbf",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xe1\x80",
            b"\xf0\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xf0\x90\x80",
            b"\xff",
            b"a\xfe",
        ];
        for text in bad {
            assert!(!whole(text), "{text:x?}");
        }
    }

    #[test]
    fn every_sequence_of_two_octets_after_every_lead() {
        for lead in 0..=255u8 {
            for second in 0..=255u8 {
                let text = [lead, second];
                let expected = first_wrong(&text);
                let mut v = Validator::new();
                let got = (0..2).find(|&i| v.push(&text[i..=i]).is_err()).map(|i| i + 1);
                assert_eq!(got, expected, "{text:x?}");
                let mut v = Validator::new();
                assert_eq!(v.push(&text).is_err(), expected.is_some(), "{text:x?}");
            }
        }
    }

    #[test]
    fn refused_at_the_first_wrong_octet_of_a_long_text() {
        let mut v = Validator::new();
        v.push(&[b'x'; 1000]).unwrap();
        v.push(b"\xf4").unwrap();
        assert_eq!(v.push(b"\x90"), Err(InvalidUtf8));
    }

    #[test]
    fn finish_resets() {
        let mut v = Validator::new();
        v.push(b"\xe2\x82").unwrap();
        assert_eq!(v.pending(), 2);
        assert_eq!(v.finish(), Err(InvalidUtf8));
        assert_eq!(v.pending(), 0);
        assert_eq!(v.push(b"\x82"), Err(InvalidUtf8));
        v = Validator::new();
        v.push(b"ok").unwrap();
        assert_eq!(v.finish(), Ok(()));
    }

    #[test]
    fn truncation_keeps_code_points() {
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(truncate("€", 2), "");
        assert_eq!(truncate("€uro", 3), "€");
    }

    /// Octets that are UTF-8 for the most part, with a wrong one now and then.
    fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
            2 => "[ -~]{0,80}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..3),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn joined_pieces_are_whole_code_points(text: String, cuts: Vec<prop::sample::Index>) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut joiner = Joiner::new();
            let mut got = String::new();
            for cut in cuts.windows(2) {
                let (begun, rest) = joiner.push(&text.as_bytes()[cut[0]..cut[1]]);
                got.push_str(std::str::from_utf8(begun).unwrap());
                got.push_str(std::str::from_utf8(rest).unwrap());
            }
            prop_assert_eq!(got, text);
        }

        #[test]
        fn every_split_gives_the_same_result(text in nearly_text()) {
            let wrong = first_wrong(&text);
            let complete = std::str::from_utf8(&text).is_ok();
            prop_assert_eq!(whole(&text), complete);
            for cut in 0..=text.len() {
                let (a, b) = text.split_at(cut);
                let mut v = Validator::new();
                let first = v.push(a);
                prop_assert_eq!(first.is_err(), wrong.is_some_and(|n| n <= cut));
                if first.is_ok() {
                    let tail = std::str::from_utf8(a).map_or_else(|e| a.len() - e.valid_up_to(), |_| 0);
                    prop_assert_eq!(v.pending(), tail);
                    let second = v.push(b);
                    prop_assert_eq!(second.is_err(), wrong.is_some());
                    if second.is_ok() {
                        prop_assert_eq!(v.finish().is_ok(), complete);
                    }
                }
            }
            let mut v = Validator::new();
            let single = text.iter().position(|&o| v.push(&[o]).is_err()).map(|i| i + 1);
            prop_assert_eq!(single, wrong);
        }
    }
}
