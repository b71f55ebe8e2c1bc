//! The outgoing side: messages become frames.

use super::Limits;
use crate::ws::close::{CloseCode, truncate_reason};
use crate::ws::frame::{Header, HeaderBytes, Kind, MAX_CONTROL, MAX_SERVER_HEADER, Opcode};
use crate::ws::scratch::Scratch;

/// Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// A Close was sent; nothing may follow it (RFC 6455, section 5.5.1).
    Closed,
    /// A message that is sent in pieces is unfinished (RFC 6455, section 5.4).
    Unfinished,
    /// A Ping has more than 125 octets (RFC 6455, section 5.5).
    TooLong,
    /// There is no memory.
    Memory,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::Unfinished => "the message before is unfinished",
            Self::TooLong => "a Ping has at most 125 octets",
            Self::Memory => "out of memory",
        })
    }
}

impl std::error::Error for SendError {}

/// The state of the outgoing side.
#[derive(Debug)]
pub(super) struct Writer {
    /// Octets of the payload of one data frame; 0 = no limit.
    fragment_size: u64,
    /// A message was begun and not ended.
    in_message: bool,
}

impl Writer {
    pub(super) fn new(limits: Limits) -> Self {
        Self { fragment_size: limits.fragment_size, in_message: false }
    }

    pub(super) fn in_message(&self) -> bool {
        self.in_message
    }

    pub(super) fn message(
        &mut self,
        kind: Kind,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        if self.in_message {
            return Err(SendError::Unfinished);
        }
        self.piece(kind, payload, true, scratch, out)
    }

    pub(super) fn piece(
        &mut self,
        kind: Kind,
        payload: &[u8],
        last: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        let _ = scratch;
        let size = usize::try_from(self.fragment_size).ok().filter(|&size| size != 0).unwrap_or(usize::MAX);
        let frames = payload.len().div_ceil(size).max(1);
        let room = frames.saturating_mul(MAX_SERVER_HEADER).saturating_add(payload.len());
        out.try_reserve(room).map_err(|_| SendError::Memory)?;
        let mut rest = payload;
        loop {
            let (fragment, after) = rest.split_at(rest.len().min(size));
            rest = after;
            let header = self.next_header(kind, fragment.len() as u64, last && rest.is_empty());
            out.extend_from_slice(&header);
            out.extend_from_slice(fragment);
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) fn header(&mut self, kind: Kind, len: u64, last: bool) -> Option<HeaderBytes> {
        let one_frame = self.fragment_size == 0 || len <= self.fragment_size;
        one_frame.then(|| self.next_header(kind, len, last))
    }

    /// The header of the next frame of the current message, or of the first of a new one.
    fn next_header(&mut self, kind: Kind, len: u64, fin: bool) -> HeaderBytes {
        let opcode = if self.in_message { Opcode::Continuation } else { kind.opcode() };
        self.in_message = !fin;
        Header { fin, rsv1: false, opcode, len }.encode()
    }

    pub(super) fn ping(payload: &[u8], out: &mut Vec<u8>) -> Result<(), SendError> {
        if payload.len() > MAX_CONTROL {
            return Err(SendError::TooLong);
        }
        control(Opcode::Ping, &[payload], out);
        Ok(())
    }

    /// `payload` is that of a Ping, so it fits.
    pub(super) fn pong(payload: &[u8], out: &mut Vec<u8>) {
        control(Opcode::Pong, &[payload], out);
    }

    pub(super) fn close(code: Option<CloseCode>, reason: &str, out: &mut Vec<u8>) {
        match code {
            None => control(Opcode::Close, &[], out),
            Some(code) => {
                control(Opcode::Close, &[&code.number().to_be_bytes(), truncate_reason(reason).as_bytes()], out);
            }
        }
    }
}

/// Appends a control frame.
fn control(opcode: Opcode, payload: &[&[u8]], out: &mut Vec<u8>) {
    let len = payload.iter().map(|part| part.len() as u64).sum();
    out.extend_from_slice(&Header { fin: true, rsv1: false, opcode, len }.encode());
    for part in payload {
        out.extend_from_slice(part);
    }
}
