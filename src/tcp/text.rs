// SPDX-License-Identifier: Apache-2.0

//! A stream of octets as text messages: no message ends inside a code point (RFC 6455, section 5.6).

use crate::ws::utf8::{InvalidUtf8, Validator};

/// Decides what of each read can go out as text, and keeps the beginning of a code point for the next message.
#[derive(Debug, Clone, Default)]
pub struct Cutter {
    validator: Validator,
    held: [u8; 3],
    held_len: u8,
}

impl Cutter {
    /// What the next message begins with: at most three octets that came before.
    pub fn held(&self) -> &[u8] {
        self.held.get(..usize::from(self.held_len)).unwrap_or_default()
    }

    /// `message` is [`held`](Self::held) and after it what was read. Returns how many octets of it may go out now; the
    /// others are kept.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] at the first octet that cannot be part of a text.
    pub fn cut(&mut self, message: &[u8]) -> Result<usize, InvalidUtf8> {
        let read = message.get(usize::from(self.held_len)..).unwrap_or_default();
        self.validator.push(read)?;
        let whole = message.len() - self.validator.pending();
        let rest = message.get(whole..).unwrap_or_default();
        self.held_len = 0;
        for (slot, octet) in self.held.iter_mut().zip(rest) {
            *slot = *octet;
            self.held_len += 1;
        }
        Ok(whole)
    }

    /// The stream has ended.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if it ends inside a code point.
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        self.validator.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The messages that the reads of a stream become.
    fn messages(reads: &[&[u8]]) -> Result<Vec<Vec<u8>>, InvalidUtf8> {
        let mut cutter = Cutter::default();
        let mut messages = Vec::new();
        for read in reads {
            let mut message = [cutter.held(), read].concat();
            let whole = cutter.cut(&message)?;
            message.truncate(whole);
            if !message.is_empty() {
                messages.push(message);
            }
        }
        cutter.finish().map(|()| messages)
    }

    #[test]
    fn a_code_point_waits_for_its_end() {
        assert_eq!(messages(&[b"a\xe2", b"\x82", b"\xacb"]), Ok(vec![b"a".to_vec(), "€b".into()]));
        assert_eq!(messages(&[b"\xf0", b"\x9f", b"\x98", b"\x80"]), Ok(vec!["😀".into()]));
    }

    #[test]
    fn what_is_no_text_is_refused_at_once() {
        assert_eq!(messages(&[b"a\xff"]), Err(InvalidUtf8));
        assert_eq!(messages(&[b"a\xe2", b"b"]), Err(InvalidUtf8));
        assert_eq!(messages(&[b"a\xe2\x82"]), Err(InvalidUtf8), "the end inside a code point");
    }

    proptest! {
        #[test]
        fn messages_are_texts_and_nothing_is_lost(text: String, cuts: Vec<prop::sample::Index>) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let reads: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let messages = messages(&reads).unwrap();
            for message in &messages {
                prop_assert!(std::str::from_utf8(message).is_ok());
            }
            prop_assert_eq!(messages.concat(), text.into_bytes());
        }
    }
}
