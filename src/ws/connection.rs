// SPDX-License-Identifier: Apache-2.0

//! One WebSocket connection: what the client sent becomes events, what it gets becomes frames.
//!
//! The connection holds no octets of messages and allocates nothing: data frames are unmasked where the caller read
//! them and handed on piece by piece as they arrive. Only an unfinished header and the payload of an unfinished
//! control frame are kept, both in place.

mod reader;
mod writer;

use super::close::CloseCode;
use super::deflate::Agreed;
use super::frame::{HeaderBytes, MessageKind, Opcode};
use super::scratch::Scratch;
use super::violation::Violation;
use reader::{Item, Payload, Reader};
pub use writer::SendError;
use writer::Writer;

/// The default for [`Limits::fragments`]: far above what any client makes, and a bound for one that sends nothing
/// but empty fragments.
pub const MAX_FRAGMENTS: u32 = 1 << 20;

/// Bounds of one connection. 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one message of the client, after inflation.
    pub message: u64,
    /// Octets of the payload of one frame of the client, as it is on the wire.
    pub frame: u64,
    /// Frames of one message of the client.
    pub fragments: u32,
    /// Octets of the payload of one data frame to the client; a longer message is split.
    pub fragment_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 1 << 20, frame: 0, fragments: MAX_FRAGMENTS, fragment_size: 0 }
    }
}

/// What [`Connection::receive`] made of its input.
#[derive(Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Octets of the input that are done with. They are never needed again; the others are to be given again, first.
    /// As long as there is more to tell, some are left.
    pub consumed: usize,
    /// What happened. `None`: the whole input was consumed, and there is nothing to report before more arrives.
    pub event: Option<Event<'a>>,
}

/// What a client did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of a message.
    Data(Data<'a>),
    /// A Ping. The Pong is in the reply, unless our Close went out before.
    Ping,
    /// A Pong, asked for or not.
    Pong,
    /// The client's Close. Ours is in the reply, unless it went out before. Everything after it is ignored.
    Close {
        /// Its code, if it has one.
        code: Option<CloseCode>,
        /// Its reason; may be empty.
        reason: &'a str,
    },
    /// The client broke a rule. Everything after it is ignored. Nothing was queued: the caller closes with the
    /// violation's code and reason once the answers to the messages before it are out.
    Violation(Violation),
}

/// A piece of a message, in the order of the message.
#[derive(Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The type of the message.
    pub kind: MessageKind,
    /// The octets, unmasked and inflated. Text was checked up to its last octet. Empty only if the message is, or if
    /// its end had nothing more to tell.
    pub payload: &'a [u8],
    /// The message begins with this piece.
    pub first: bool,
    /// The message ends with this piece.
    pub last: bool,
    /// How many octets at the end of the text so far belong to a code point that the next piece completes (0..=3,
    /// and 0 in the last piece). [`utf8::Joiner`](super::utf8::Joiner) makes pieces of whole code points.
    pub pending: usize,
}

/// Who sent the first Close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client has sent it.
    Client,
    /// The server has sent it.
    Server,
}

/// The first Close of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Who sent it.
    pub by: Side,
    /// Its code, if it has one.
    pub code: Option<CloseCode>,
}

/// How far the connection is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Both directions are open.
    Open,
    /// The client broke a rule: nothing is read any more, our Close is due.
    Violated,
    /// Our Close is out: nothing but the client's Close is looked for.
    Closing,
    /// Nothing is read and nothing is written any more.
    Finished,
}

/// The state of one connection, from the end of the handshake on.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// Data of the client is handed out after our Close as well.
    listens: bool,
    closed: Option<Closed>,
    reader: Reader,
    writer: Writer,
}

impl Connection {
    /// A connection after its handshake, without compression.
    pub fn new(limits: Limits) -> Self {
        Self::with(limits, None)
    }

    /// A connection after its handshake, with compression if that was agreed on.
    pub fn with(limits: Limits, deflate: Option<Agreed>) -> Self {
        let (reader, writer) = (Reader::new(limits, deflate), Writer::new(limits, deflate));
        Self { phase: Phase::Open, listens: false, closed: None, reader, writer }
    }

    /// Reads what the client sent, up to the first event. Payload is unmasked in `input`.
    ///
    /// Call it again with what was not consumed, until that is nothing or the event is `None`. The answer
    /// to a Ping or a Close is appended to `reply` as a frame; each frame appended is shorter than the client's frame
    /// that it answers, so a flood of Pings cannot make `reply` longer than what was read.
    pub fn receive<'a>(&mut self, input: &'a mut [u8], scratch: &'a mut Scratch, reply: &mut Vec<u8>) -> Received<'a> {
        let closing = match self.phase {
            Phase::Open => false,
            Phase::Closing => true,
            Phase::Violated | Phase::Finished => return Received { consumed: input.len(), event: None },
        };
        let (mut consumed, item) = self.reader.next(input, scratch, closing && !self.listens);
        let event = match item {
            None => None,
            Some(Item::Piece { kind, payload, first, last, pending }) => {
                let payload: &'a [u8] = match payload {
                    Payload::Input(range) => input.get(range).unwrap_or_default(),
                    Payload::Inflated(len) => scratch.inflated.get(..len).unwrap_or_default(),
                };
                Some(Event::Data(Data { kind, payload, first, last, pending }))
            }
            Some(Item::Ping) => {
                if !closing {
                    Writer::pong(self.reader.control(), reply);
                }
                Some(Event::Ping)
            }
            Some(Item::Pong) => Some(Event::Pong),
            Some(Item::Close { code, reason }) => {
                if !closing {
                    self.closed = Some(Closed { by: Side::Client, code });
                    Writer::close(code, "", reply);
                }
                self.phase = Phase::Finished;
                Some(Event::Close { code, reason: scratch.keep_reason(reason) })
            }
            Some(Item::Violation(violation)) => {
                consumed = input.len();
                self.phase = if closing { Phase::Finished } else { Phase::Violated };
                Some(Event::Violation(violation))
            }
        };
        Received { consumed, event }
    }

    /// Appends a whole message to `out`, in one frame or in several.
    ///
    /// # Errors
    ///
    /// [`SendError`]; then nothing was appended.
    pub fn message(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.sendable()?;
        self.writer.message(kind, payload, scratch, out)
    }

    /// Appends a piece of a message to `out`; `last` ends the message. Control frames may go out between the pieces,
    /// other messages may not. The kind counts in the first piece only.
    ///
    /// # Errors
    ///
    /// [`SendError`]; then nothing was appended.
    pub fn piece(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        last: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.sendable()?;
        self.writer.piece(kind, payload, last, scratch, out)
    }

    /// The header for a piece of `len` octets that the caller puts behind it, for those who have the octets in place.
    ///
    /// `None` if the piece cannot go out as one uncompressed frame, or not at all; use [`message`](Self::message) or
    /// [`piece`](Self::piece) then, which say why. A header that was handed out must be sent.
    pub fn header(&mut self, kind: MessageKind, len: u64, last: bool) -> Option<HeaderBytes> {
        self.sendable().ok()?;
        self.writer.header(kind, len, last)
    }

    /// Asks to send a whole message whose frames are ready and shared by several connections. `true`: they can go out
    /// now. `compressed`: they are the result of [`compress_message`](super::deflate::compress_message) with the
    /// window of [`shared_window`](Self::shared_window).
    pub fn ready_made(&mut self, compressed: bool) -> bool {
        self.sendable().is_ok() && self.writer.ready_made(compressed)
    }

    /// The window that a compressed message for several connections must keep to, so that this one can take it; `None`
    /// if compression was not agreed on.
    pub fn shared_window(&self) -> Option<u8> {
        self.writer.shared_window()
    }

    /// Gives back memory that an idle connection can do without, at the cost of a little compression of the next
    /// message. What the client may still refer to is kept.
    pub fn shrink(&mut self) {
        self.writer.shrink();
    }

    /// Appends a Ping to `out`.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] after a Close, [`SendError::TooLong`] above 125 octets; then nothing was appended.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), SendError> {
        self.sendable()?;
        Writer::ping(payload, out)
    }

    /// Appends our Close to `out`, with as much of the reason as fits, and returns whether it did. Only the first
    /// Close goes out: `false` if there was one, ours or the answer to the client's. Nothing can be sent after it.
    ///
    /// A message that was begun by [`piece`](Self::piece) may be left unfinished.
    pub fn close(&mut self, code: CloseCode, reason: &str, out: &mut Vec<u8>) -> bool {
        self.phase = match self.phase {
            Phase::Open => Phase::Closing,
            Phase::Violated => Phase::Finished,
            Phase::Closing | Phase::Finished => return false,
        };
        self.closed = Some(Closed { by: Side::Server, code: Some(code) });
        Writer::close(Some(code), reason, out);
        true
    }

    /// What the client sends between our Close and its own is handed out too: it may be on the way already, or the rest
    /// of a message that the client ends before it answers (RFC 6455, section 5.5.1).
    pub fn keep_listening(&mut self) {
        self.listens = true;
    }

    /// Whether the next frame is a Close, as far as its first octet says, whether that was given already or is the first of
    /// `input`.
    pub fn is_at_close(&self, input: &[u8]) -> bool {
        self.reader.next_opcode(input) == Some(Opcode::Close)
    }

    /// Whether messages go both ways: no Close was sent or received and no rule was broken.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether messages can be sent: no Close was.
    pub fn can_send(&self) -> bool {
        self.sendable().is_ok()
    }

    /// Whether our Close went out, as the first or as the answer.
    pub fn close_sent(&self) -> bool {
        !self.can_send()
    }

    /// Whether our Close went out and the client's is still awaited.
    pub fn awaits_close(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Whether nothing more is to be read or written: both sides sent their Close, or the client broke a rule and our
    /// Close went out.
    pub fn finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// The first Close, whoever sent it.
    pub fn closed(&self) -> Option<Closed> {
        self.closed
    }

    /// Whether a message of the client has begun and not ended.
    pub fn receiving_message(&self) -> bool {
        self.reader.in_message()
    }

    /// Whether a message to the client was begun by [`piece`](Self::piece) and not ended.
    pub fn sending_message(&self) -> bool {
        self.writer.in_message()
    }

    fn sendable(&self) -> Result<(), SendError> {
        match self.phase {
            Phase::Open | Phase::Violated => Ok(()),
            Phase::Closing | Phase::Finished => Err(SendError::Closed),
        }
    }
}

#[cfg(test)]
mod deflate_tests;
#[cfg(test)]
mod deflate_window_tests;
#[cfg(test)]
mod tests;
