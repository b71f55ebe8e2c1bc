//! What the targets for a program's output share.

use ngx_ws_exec::exec::framing::{Format, FramingError, HOLD, Output, Reader};
use ngx_ws_exec::ws::MessageKind;

/// What a program said, with the pieces of each message put together.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A whole message.
    Message(MessageKind, Vec<u8>),
    /// A note for the access log.
    Note(Vec<u8>),
    /// That the connection is to be closed.
    Close(u16, String),
    /// Something that breaks the rules of its format.
    Error(FramingError),
}

/// Reads a program's output in these pieces.
pub fn read<'a>(format: Format, reads: impl IntoIterator<Item = &'a [u8]>) -> Vec<Said> {
    let mut reader = Reader::new(format);
    let mut said = Vec::new();
    let mut open: Option<(MessageKind, Vec<u8>)> = None;
    for mut input in reads {
        loop {
            match reader.next(input) {
                Ok((consumed, Some(output))) => {
                    take(output, &mut open, &mut said);
                    input = &input[consumed..];
                }
                Ok((consumed, None)) => {
                    assert_eq!(consumed, input.len());
                    break;
                }
                Err(error) => {
                    said.push(Said::Error(error));
                    return said;
                }
            }
        }
    }
    match reader.finish() {
        Ok(Some(output)) => take(output, &mut open, &mut said),
        Ok(None) => {}
        Err(error) => said.push(Said::Error(error)),
    }
    if !said.iter().any(|said| matches!(said, Said::Close(..) | Said::Error(_))) {
        assert!(open.is_none(), "a message without an end");
    }
    said
}

fn take(output: Output<'_>, open: &mut Option<(MessageKind, Vec<u8>)>, said: &mut Vec<Said>) {
    match output {
        Output::Piece { kind, payload, last } => {
            assert!(last || !payload.is_empty());
            let message = open.get_or_insert((kind, Vec::new()));
            assert_eq!(message.0, kind);
            message.1.extend_from_slice(payload);
            if last && let Some((kind, octets)) = open.take() {
                assert!(kind == MessageKind::Binary || std::str::from_utf8(&octets).is_ok());
                said.push(Said::Message(kind, octets));
            }
        }
        Output::Close { code, reason } => {
            assert!(reason.len() <= 123);
            said.push(Said::Close(code.number(), reason.to_owned()));
        }
        Output::Note { text } => said.push(Said::Note(text.to_vec())),
    }
}

/// The octets with each 01, up to four of them, as so many octets that what is held comes to its limit.
pub fn inflate(octets: &[u8]) -> Vec<u8> {
    let mut left = 4;
    let mut inflated = Vec::new();
    for &octet in octets {
        if octet == 1 && left > 0 {
            left -= 1;
            inflated.resize(inflated.len() + HOLD - 2, b'x');
        } else {
            inflated.push(octet);
        }
    }
    inflated
}

/// Cuts octets in two at a place and the rest into pieces of a size.
pub fn cut(octets: &[u8], place: u8, size: usize) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = octets.split_at(octets.len() * usize::from(place) / 255);
    std::iter::once(first).chain(rest.chunks(size.max(1)))
}
