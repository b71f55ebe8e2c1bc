// SPDX-License-Identifier: Apache-2.0

//! Octets that become characters, wherever they were cut.

/// UTF-8 in pieces. A character that is cut is put together; what is no UTF-8 becomes U+FFFD, as often as the Unicode
/// Standard recommends (section 3.9, "U+FFFD Substitution of Maximal Subparts").
#[derive(Debug, Default)]
pub struct Joiner {
    /// The beginning of a character.
    ///
    /// Invariant: the first `length` octets can go on as one, and are fewer than it has.
    held: [u8; 3],
    length: usize,
}

impl Joiner {
    /// Appends the characters that are complete now.
    pub fn push(&mut self, mut octets: &[u8], text: &mut String) {
        while self.length > 0 {
            let Some((&next, rest)) = octets.split_first() else { return };
            let mut begun = [0; 4];
            begun[..self.length].copy_from_slice(&self.held[..self.length]);
            begun[self.length] = next;
            match str::from_utf8(&begun[..=self.length]) {
                Ok(character) => {
                    text.push_str(character);
                    self.length = 0;
                    octets = rest;
                }
                Err(error) if error.error_len().is_none() => {
                    self.held[self.length] = next;
                    self.length += 1;
                    octets = rest;
                }
                Err(_) => {
                    // The next octet may begin another one.
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.length = 0;
                }
            }
        }
        let mut left = octets.len();
        for chunk in octets.utf8_chunks() {
            text.push_str(chunk.valid());
            left -= chunk.valid().len() + chunk.invalid().len();
            if chunk.invalid().is_empty() {
                continue;
            }
            let may_go_on = str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            if left == 0 && may_go_on {
                self.length = chunk.invalid().len();
                self.held[..self.length].copy_from_slice(chunk.invalid());
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    /// Nothing follows: a character that was begun is none.
    pub fn finish(&mut self, text: &mut String) {
        if std::mem::take(&mut self.length) > 0 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn join<'o>(pieces: impl IntoIterator<Item = &'o [u8]>) -> String {
        let mut joiner = Joiner::default();
        let mut text = String::new();
        for piece in pieces {
            joiner.push(piece, &mut text);
        }
        joiner.finish(&mut text);
        text
    }

    #[test]
    fn characters_are_put_together() {
        for text in ["é", "€", "😀", "a😀b€cé", "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}"] {
            assert_eq!(join(text.as_bytes().chunks(1)), text);
            for at in 0..=text.len() {
                let (first, second) = text.as_bytes().split_at(at);
                assert_eq!(join([first, second]), text);
            }
        }
    }

    #[test]
    fn what_is_no_utf8() {
        for (octets, text) in [
            (&b"\xff"[..], "\u{fffd}"),
            (b"a\xe2\x82", "a\u{fffd}"),
            (b"\xe2\x82a", "\u{fffd}a"),
            (b"\xe2\xe2\x82\xac", "\u{fffd}€"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xc0\x80", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(join([octets]), text);
            assert_eq!(join(octets.chunks(1)), text);
        }
    }

    proptest! {
        #[test]
        fn as_if_it_had_come_at_once(
            octets in proptest::collection::vec(prop_oneof![any::<u8>(), 0x80_u8..0xc0, 0xe0_u8..0xf5], 0..40),
            size in 1_usize..7,
        ) {
            prop_assert_eq!(join(octets.chunks(size)), String::from_utf8_lossy(&octets));
        }
    }
}
