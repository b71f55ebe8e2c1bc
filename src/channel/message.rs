// SPDX-License-Identifier: Apache-2.0

//! Messages outside of the zone: before they are published and after they have been copied out.

use std::collections::TryReserveError;

use super::memory::Corrupt;
use super::position::{Epoch, MessageId, Offset};
use super::zone::Memory;
use super::zone::layout::{Cell, Message as Stored};
use super::zone::log::NOTHING;
use crate::ws::frame::{Header, MessageKind};
use crate::ws::utf8::Validator;

/// The content type whose messages are binary. A binary message of a WebSocket or of a program is published with it, so that
/// the other transports tell it from text.
pub const OCTET_STREAM: &[u8] = b"application/octet-stream";

/// A message that is to be published.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// Text or binary, for WebSocket subscribers.
    pub kind: MessageKind,
    /// Its `Content-Type`; empty if there is none.
    pub content_type: &'a [u8],
    /// Its event name for EventSource; empty if there is none.
    pub event: &'a [u8],
    /// The message, in pieces.
    pub data: &'a [&'a [u8]],
}

impl Publication<'_> {
    /// Octets of the message.
    pub fn len(&self) -> usize {
        self.data.iter().fold(0, |sum, part| sum.saturating_add(part.len()))
    }

    /// Whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of the message and its attributes.
    pub fn stored_len(&self) -> usize {
        self.len().saturating_add(self.content_type.len()).saturating_add(self.event.len())
    }
}

/// What a message is for a WebSocket: `application/octet-stream` is binary, everything else text. Text that is not UTF-8
/// is binary too, because a client would have to close the connection over it (RFC 6455, section 8.1).
pub fn kind_of(content_type: &[u8], data: &[&[u8]]) -> MessageKind {
    let media_type = content_type.split(|&octet| octet == b';').next().unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(OCTET_STREAM) {
        return MessageKind::Binary;
    }
    let mut validator = Validator::new();
    let text = data.iter().all(|part| validator.push(part).is_ok()) && validator.finish().is_ok();
    if text { MessageKind::Text } else { MessageKind::Binary }
}

/// A message that has been copied out of the zone. It begins with the frame header of an unfragmented, uncompressed
/// WebSocket message, so that it can be sent as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its place in the order over all channels.
    pub serial: u64,
    /// When it was published, milliseconds of Unix time.
    pub unix: u64,
    /// Text or binary.
    pub kind: MessageKind,
    /// Whether it is gone from the zone once every worker has copied it.
    pub in_passing: bool,
    /// Frame header, data, content type, event name.
    octets: Vec<u8>,
    header_len: usize,
    data_len: usize,
    type_len: usize,
}

/// Why a message could not be copied.
#[derive(Debug)]
pub enum CopyError {
    /// The zone is damaged.
    Corrupt(Corrupt),
    /// There is no memory for it in this process.
    Memory(TryReserveError),
}

impl From<Corrupt> for CopyError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl Message {
    /// Copies a message out of the zone.
    pub(super) fn copy(memory: Memory<'_>, epoch: u64, cell: Cell) -> Result<Self, CopyError> {
        let stored = memory.message(cell)?;
        let channel = Cell::new(stored.record.get()).ok_or(Corrupt)?;
        let kind = if stored.kind.get() == 0 { MessageKind::Text } else { MessageKind::Binary };
        let data_len = stored.data_len.get() as usize;
        let type_len = stored.type_len.get() as usize;
        let event_len = stored.event_len.get() as usize;
        let header = Header { fin: true, rsv1: false, opcode: kind.opcode(), len: data_len as u64 }.encode();
        let len = data_len.saturating_add(type_len).saturating_add(event_len);
        if len > memory.region.len() {
            return Err(Corrupt.into());
        }
        let mut octets = Vec::new();
        octets.try_reserve_exact(header.len() + len).map_err(CopyError::Memory)?;
        octets.extend_from_slice(&header);
        memory.read_along(cell, size_of::<Stored>(), len, &mut octets)?;
        Ok(Self {
            id: MessageId { epoch: Epoch(epoch), offset: Offset(stored.offset.get()) },
            serial: stored.serial.get(),
            unix: stored.unix.get(),
            kind,
            in_passing: memory.record(channel)?.history.get() == NOTHING,
            octets,
            header_len: header.len(),
            data_len,
            type_len,
        })
    }

    /// The same message with something else in it.
    #[must_use]
    pub fn with(&self, kind: MessageKind, content_type: &[u8], event: &[u8], data: &[u8]) -> Self {
        let header = Header { fin: true, rsv1: false, opcode: kind.opcode(), len: data.len() as u64 }.encode();
        let octets = [&header, data, content_type, event].concat();
        let (header_len, data_len, type_len) = (header.len(), data.len(), content_type.len());
        Self { kind, octets, header_len, data_len, type_len, ..*self }
    }

    /// A message that was never in a zone.
    #[cfg(any(test, fuzzing))]
    pub fn for_tests(id: MessageId, kind: MessageKind, content_type: &[u8], event: &[u8], data: &[u8]) -> Self {
        let header = Header { fin: true, rsv1: false, opcode: kind.opcode(), len: data.len() as u64 }.encode();
        let octets = [&header, data, content_type, event].concat();
        let (header_len, data_len, type_len) = (header.len(), data.len(), content_type.len());
        let in_passing = false;
        Self { id, serial: id.offset.0, unix: 0, kind, in_passing, octets, header_len, data_len, type_len }
    }

    /// The message as one WebSocket frame.
    pub fn frame(&self) -> &[u8] {
        self.part(0, self.header_len + self.data_len)
    }

    /// The message.
    pub fn data(&self) -> &[u8] {
        self.part(self.header_len, self.data_len)
    }

    /// Its content type, empty if it has none.
    pub fn content_type(&self) -> &[u8] {
        self.part(self.header_len + self.data_len, self.type_len)
    }

    /// Its event name, empty if it has none.
    pub fn event(&self) -> &[u8] {
        let at = self.header_len + self.data_len + self.type_len;
        self.part(at, self.octets.len() - at)
    }

    /// Octets that it takes in this process.
    pub fn footprint(&self) -> usize {
        size_of::<Self>() + self.octets.len()
    }

    fn part(&self, at: usize, len: usize) -> &[u8] {
        self.octets.get(at..at + len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_octet_streams_are_binary() {
        for binary in ["application/octet-stream", "Application/Octet-Stream", "application/octet-stream ; a=b"] {
            assert_eq!(kind_of(binary.as_bytes(), &[b"x"]), MessageKind::Binary, "{binary}");
        }
        for text in ["", "text/plain", "application/octet-streams", "image/png", "x; application/octet-stream"] {
            assert_eq!(kind_of(text.as_bytes(), &[b"x"]), MessageKind::Text, "{text}");
        }
    }

    #[test]
    fn text_is_utf8() {
        assert_eq!(kind_of(b"text/plain", &[]), MessageKind::Text);
        assert_eq!(kind_of(b"text/plain", &[b"\xc3", b"\xa9"]), MessageKind::Text, "a character in two pieces");
        assert_eq!(kind_of(b"text/plain", &[b"\xc3"]), MessageKind::Binary);
        assert_eq!(kind_of(b"text/plain", &[b"a", b"\xff"]), MessageKind::Binary);
    }
}
