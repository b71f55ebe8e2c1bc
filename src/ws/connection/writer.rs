// SPDX-License-Identifier: Apache-2.0

//! The outgoing side: messages become frames.

use super::Limits;
use crate::ws::close::{CloseCode, truncate_reason};
use crate::ws::deflate::{Agreed, Compressor, History, NoMemory};
use crate::ws::frame::{Header, HeaderBytes, MAX_CONTROL, MAX_SERVER_HEADER, MessageKind, Opcode};
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
    /// There is no memory. A message that is sent in pieces cannot go on.
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

impl From<NoMemory> for SendError {
    fn from(_: NoMemory) -> Self {
        Self::Memory
    }
}

/// The message that is being sent in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// No message is being sent.
    Nothing,
    /// The next frame is a continuation; `compressed`: its payload comes out of the compressor.
    Begun { compressed: bool },
    /// Octets were given to the compressor, and none came out yet: there is no frame so far.
    Pending,
}

/// The state of the outgoing side.
#[derive(Debug)]
pub(super) struct Writer {
    /// Octets of the payload of one data frame; 0 = no limit.
    fragment_size: u64,
    sending: Sending,
    deflate: Option<Agreed>,
    /// While a message is unfinished, or from the first compressed one on if the connection has one of its own.
    compressor: Option<Box<Compressor>>,
    /// What our next message may refer to. The client has it in its window.
    history: History,
}

impl Writer {
    pub(super) fn new(limits: Limits, deflate: Option<Agreed>) -> Self {
        Self {
            fragment_size: limits.fragment_size,
            sending: Sending::Nothing,
            deflate,
            compressor: None,
            history: History::default(),
        }
    }

    pub(super) fn in_message(&self) -> bool {
        self.sending != Sending::Nothing
    }

    pub(super) fn message(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        if self.in_message() {
            return Err(SendError::Unfinished);
        }
        self.piece(kind, payload, true, scratch, out)
    }

    pub(super) fn piece(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        last: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        match self.deflate {
            Some(agreed) if self.compresses(agreed, payload.len() as u64, last) => {
                let mut compressed = scratch.take_compressed();
                let result = self.compressed(kind, payload, last, agreed, scratch, &mut compressed, out);
                scratch.put_compressed(compressed);
                result
            }
            _ => self.frames(kind, payload, last, false, out),
        }
    }

    /// Whether the next piece goes through the compressor. A message of unknown length does.
    fn compresses(&self, agreed: Agreed, len: u64, last: bool) -> bool {
        match self.sending {
            Sending::Nothing => !last || len >= agreed.min_size,
            Sending::Begun { compressed } => compressed,
            Sending::Pending => true,
        }
    }

    /// Compresses a piece and sends what comes out.
    #[allow(clippy::too_many_arguments)]
    fn compressed(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        last: bool,
        agreed: Agreed,
        scratch: &mut Scratch,
        compressed: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        let fresh = || scratch.pool.compressor(agreed.level, agreed.server_window, self.history.octets());
        let mut compressor = self.compressor.take().unwrap_or_else(fresh);
        // An error leaves no compressor behind: the next message begins with what the client is known to have, which is
        // always right.
        compressor.compress(payload, last, compressed)?;
        let whole = last && self.sending == Sending::Nothing;
        if last && !agreed.keeps_compressor() {
            scratch.pool.keep_compressor(compressor);
            if whole && compressed.len() >= payload.len() {
                return self.frames(kind, payload, true, false, out);
            }
        } else {
            self.compressor = Some(compressor);
        }
        self.history.append(payload, agreed.server_history());
        if compressed.is_empty() && !last {
            if self.sending == Sending::Nothing {
                self.sending = Sending::Pending;
            }
            return Ok(());
        }
        let result = self.frames(kind, compressed, last, true, out);
        if result.is_err() {
            self.forget();
        }
        result
    }

    /// Sends a payload in as many frames as it takes.
    fn frames(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        last: bool,
        compressed: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        let size = usize::try_from(self.fragment_size).ok().filter(|&size| size != 0).unwrap_or(usize::MAX);
        let frames = payload.len().div_ceil(size).max(1);
        let room = frames.saturating_mul(MAX_SERVER_HEADER).saturating_add(payload.len());
        out.try_reserve(room).map_err(|_| SendError::Memory)?;
        let mut rest = payload;
        loop {
            let (fragment, after) = rest.split_at(rest.len().min(size));
            rest = after;
            let header = self.next_header(kind, fragment.len() as u64, last && rest.is_empty(), compressed);
            out.extend_from_slice(&header);
            out.extend_from_slice(fragment);
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) fn header(&mut self, kind: MessageKind, len: u64, last: bool) -> Option<HeaderBytes> {
        let compresses = self.deflate.is_some_and(|agreed| self.compresses(agreed, len, last));
        let one_frame = self.fragment_size == 0 || len <= self.fragment_size;
        (one_frame && !compresses).then(|| self.next_header(kind, len, last, false))
    }

    /// The header of the next frame of the current message, or of the first of a new one.
    fn next_header(&mut self, kind: MessageKind, len: u64, fin: bool, compressed: bool) -> HeaderBytes {
        let (opcode, rsv1) = match self.sending {
            Sending::Nothing | Sending::Pending => (kind.opcode(), compressed),
            Sending::Begun { .. } => (Opcode::Continuation, false),
        };
        self.sending = if fin { Sending::Nothing } else { Sending::Begun { compressed } };
        Header { fin, rsv1, opcode, len }.encode()
    }

    pub(super) fn shared_window(&self) -> Option<u8> {
        self.deflate.map(|agreed| agreed.server_window)
    }

    pub(super) fn ready_made(&mut self, compressed: bool) -> bool {
        if self.in_message() || (compressed && self.deflate.is_none()) {
            return false;
        }
        if compressed {
            // The client's window now has octets that nobody here knows: the next message of our own begins anew.
            self.forget();
        }
        true
    }

    pub(super) fn shrink(&mut self) {
        if !self.in_message() {
            self.forget();
        }
    }

    /// Lets the next message refer to nothing that was sent before, which is always right.
    fn forget(&mut self) {
        self.compressor = None;
        self.history.forget();
    }

    #[cfg(test)]
    pub(super) fn holds_compressor(&self) -> bool {
        self.compressor.is_some()
    }

    /// How many octets may be referred to.
    #[cfg(test)]
    pub(super) fn history(&self) -> usize {
        self.history.octets().len()
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
