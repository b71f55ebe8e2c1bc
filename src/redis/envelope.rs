// SPDX-License-Identifier: Apache-2.0

//! A message as the engine keeps it: its attributes and its data in one text, which the engine does not look into.
//!
//! | octets | what |
//! | --- | --- |
//! | 1 | version of this form: 1 |
//! | 1 | 0 for text, 1 for binary |
//! | 2 | length of the content type, the higher octet first |
//! | 2 | length of the event name |
//! | | content type, event name, data |

use crate::ws::frame::MessageKind;

/// The form that is written. Nodes of two versions share an engine while one after the other is upgraded.
const VERSION: u8 = 1;

/// Octets before the content type.
const HEAD: usize = 6;

/// A message and its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Text or binary, for WebSockets.
    pub kind: MessageKind,
    /// Its `Content-Type`; empty if there is none.
    pub content_type: &'a [u8],
    /// Its event name for EventSource; empty if there is none.
    pub event: &'a [u8],
    /// The message.
    pub data: &'a [u8],
}

/// A content type or an event name has more than 65,535 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// The text of a message with these attributes, whose data are these parts.
///
/// # Errors
///
/// [`TooLong`].
pub fn seal(kind: MessageKind, content_type: &[u8], event: &[u8], data: &[&[u8]]) -> Result<Vec<u8>, TooLong> {
    let length = |text: &[u8]| u16::try_from(text.len()).map_err(|_| TooLong);
    let (type_len, event_len) = (length(content_type)?, length(event)?);
    let data_len = data.iter().map(|part| part.len()).sum::<usize>();
    let mut octets = Vec::with_capacity(HEAD + content_type.len() + event.len() + data_len);
    octets.extend_from_slice(&[VERSION, u8::from(kind == MessageKind::Binary)]);
    octets.extend_from_slice(&type_len.to_be_bytes());
    octets.extend_from_slice(&event_len.to_be_bytes());
    octets.extend_from_slice(content_type);
    octets.extend_from_slice(event);
    data.iter().for_each(|part| octets.extend_from_slice(part));
    Ok(octets)
}

/// The message of a text; `None` if it is not one of this form.
pub fn open(octets: &[u8]) -> Option<Envelope<'_>> {
    let (head, rest) = octets.split_first_chunk::<HEAD>()?;
    let [VERSION, kind @ 0..=1, rest_of_head @ ..] = head else { return None };
    let [type_high, type_low, event_high, event_low] = *rest_of_head;
    let (content_type, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([type_high, type_low])))?;
    let (event, data) = rest.split_at_checked(usize::from(u16::from_be_bytes([event_high, event_low])))?;
    let kind = if *kind == 0 { MessageKind::Text } else { MessageKind::Binary };
    Some(Envelope { kind, content_type, event, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_form_is_the_documented_one() {
        let octets = seal(MessageKind::Binary, b"a/b", b"e", &[b"hi", b"", b"!"]).unwrap();
        assert_eq!(octets, b"\x01\x01\x00\x03\x00\x01a/behi!");
        let envelope = Envelope { kind: MessageKind::Binary, content_type: b"a/b", event: b"e", data: b"hi!" };
        assert_eq!(open(&octets), Some(envelope));
    }

    #[test]
    fn lengths_have_a_limit() {
        assert!(seal(MessageKind::Text, &[b'a'; 65535], &[b'b'; 65535], &[]).is_ok());
        assert_eq!(seal(MessageKind::Text, &[b'a'; 65536], b"", &[]), Err(TooLong));
        assert_eq!(seal(MessageKind::Text, b"", &[b'a'; 65536], &[]), Err(TooLong));
    }

    #[test]
    fn another_form_is_refused() {
        for octets in [
            &b""[..],
            b"\x01\x00\x00\x00\x00",
            b"\x02\x00\x00\x00\x00\x00",
            b"\x01\x02\x00\x00\x00\x00",
            b"\x01\x00\x00\x01\x00\x00",
        ] {
            assert_eq!(open(octets), None);
        }
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(
            binary: bool,
            content_type in proptest::collection::vec(any::<u8>(), 0..40),
            event in proptest::collection::vec(any::<u8>(), 0..40),
            data in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let kind = if binary { MessageKind::Binary } else { MessageKind::Text };
            let octets = seal(kind, &content_type, &event, &[&data]).unwrap();
            let envelope = Envelope { kind, content_type: &content_type, event: &event, data: &data };
            prop_assert_eq!(open(&octets), Some(envelope));
            for cut in 0..octets.len() - data.len() {
                prop_assert_eq!(open(&octets[..cut]), None);
            }
        }
    }
}
