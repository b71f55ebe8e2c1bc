// SPDX-License-Identifier: Apache-2.0

//! What a session is connected to, as the session sees it.

use std::os::fd::OwnedFd;

use super::buffers;
use super::host::{Log, Severity};
use super::output::Output;
use super::program::LeftProgram;
use super::record::Record;
use crate::channel::fanout::Buffer;
use crate::recording::{Direction, Piece, Recorder};
use crate::ws::close::CloseCode;
use crate::ws::connection::{Connection, Data, SendError};
use crate::ws::frame::{MAX_SERVER_HEADER, MessageKind};
use crate::ws::scratch::Scratch;

/// The other side of a session: a program, a channel, a TCP service.
///
/// An endpoint is made by what begins to start it, and given to the session, which calls it in this order:
///
/// 1. [`start`](Self::start), at once and after each event of its own, until it answers [`Started::Yes`] or [`Started::No`],
///    or the session is told otherwise that it runs: then [`attach`](Self::attach). Nothing else but `flush` and `client_gone`
///    is called before.
/// 2. While the session is open, in each turn: [`deliver`](Self::deliver) for what the client has sent, only after
///    [`accepts`](Self::accepts) has said so; [`flush`](Self::flush); [`produce`](Self::produce). In between `waits`,
///    `has_taken`, `is_in_turn`, `progress`, `stuck` and `leave`, which ask or tell of the time.
/// 3. After `deliver` has failed nothing more is delivered; `produce` may still be called for a while, for the answers to what
///    came before. After [`Produced::Ended`] nothing more is produced; after [`Produced::Silent`] neither, but the client's
///    messages are still delivered.
/// 4. At last [`client_gone`](Self::client_gone), once, after what was read of the client has been delivered, whether it is
///    accepted or not, and flushed. The endpoint is dropped then.
///
/// The session is to be run whenever one of the answers would be another one. `session::simulation` has an endpoint that
/// insists on this order.
pub trait Endpoint {
    /// Goes on with starting. Endpoints whose session is told by somebody else have nothing to do here.
    fn start(&mut self) -> Started {
        Started::NotYet
    }

    /// The program that it was started with runs, on this terminal if it had none before.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged.
    fn attach(&mut self, terminal: Option<OwnedFd>) -> Result<(), HttpStatus> {
        drop(terminal);
        Ok(())
    }

    /// Whether the next piece of a message can be taken. What the client sends meanwhile stays where it is.
    fn accepts(&self) -> bool;

    /// Takes a piece of a message.
    ///
    /// # Errors
    ///
    /// The message cannot be taken; the session closes as told.
    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending>;

    /// Passes on what [`deliver`](Self::deliver) gathered. Called at the end of each turn, and once more before
    /// [`client_gone`](Self::client_gone). Returns whether anything moved.
    fn flush(&mut self) -> bool;

    /// Whether it deals with one message after the other, and with all of them before the client's Close is answered.
    fn is_in_turn(&self) -> bool {
        false
    }

    /// Whether octets wait for the other side, which takes none at the moment.
    fn waits(&self) -> bool {
        false
    }

    /// Whether the other side has taken something since this was asked last, as far as the system knows: also of what was
    /// passed on to the system long ago.
    fn has_taken(&mut self) -> bool {
        false
    }

    /// How the session ends when the other side takes nothing for too long.
    fn stuck(&self) -> Ending {
        Ending { code: CloseCode::INTERNAL, reason: "the endpoint takes nothing".to_owned() }
    }

    /// The client does not end its message in time: an endpoint that is [`Produced::Leaving`] ends without it.
    fn leave(&mut self) {}

    /// Makes messages for the client while the outlet has room.
    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced;

    /// The client sends nothing more and reads nothing more. What was delivered is still for the other side. Returns the
    /// program whose end may become known soon.
    fn client_gone(&mut self, input: Input) -> Option<LeftProgram>;

    /// Grows whenever the other side takes something: octets, messages, or time that is the other side's to take. It tells
    /// a slow side from a stuck one once the client has hung up; the amount means nothing.
    fn progress(&self) -> u64;

    /// Whether there is nothing behind the session but the reason why it is refused.
    fn is_refusal(&self) -> bool {
        false
    }
}

/// What the endpoint has got of what the client has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The endpoint has got everything, or all that counts.
    Whole,
    /// The beginning: the rest was accepted by the system, and is lost.
    Cut,
}

/// The status with which a request is refused (RFC 9110, section 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpStatus(pub u16);

impl HttpStatus {
    /// All is well, and here it is (200).
    pub const OK: Self = Self(200);

    /// It is not for this client (403).
    pub const FORBIDDEN: Self = Self(403);

    /// There is no such thing (404).
    pub const NOT_FOUND: Self = Self(404);

    /// Something is wrong with the server (500).
    pub const INTERNAL: Self = Self(500);

    /// What is behind this server has not answered as it should (502).
    pub const BAD_GATEWAY: Self = Self(502);

    /// What is short now may be there again soon (503).
    pub const UNAVAILABLE: Self = Self(503);

    /// What is behind this server has not answered in time (504).
    pub const GATEWAY_TIME_OUT: Self = Self(504);
}

/// How far an endpoint is that was asked to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// The endpoint waits for something.
    NotYet,
    /// Messages can go both ways.
    Yes,
    /// The endpoint cannot start; the status to answer.
    No(HttpStatus),
}

/// How the endpoint wants the session to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The code of our Close.
    pub code: CloseCode,
    /// Its reason.
    pub reason: String,
}

/// What [`Endpoint::produce`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Produced {
    /// There is nothing to send for now.
    Nothing,
    /// Something was sent, or may be after the next turn.
    Some,
    /// Everything was sent; there will be nothing more.
    Ended(Ending),
    /// Everything was sent, and what the client sends before it answers our Close is still taken.
    Silent(Ending),
    /// Everything was sent, and the end of a message that the client has begun is waited for.
    Leaving,
}

/// Room for the header of a message of at most 65535 octets.
const LEAST_RESERVED: usize = 4;

/// Where an endpoint puts its messages.
pub struct Outlet<'a> {
    pub(super) ws: &'a mut Connection,
    pub(super) output: &'a mut Output,
    /// Who writes down what goes out.
    pub(super) recorder: Option<&'a mut Recorder>,
    pub(super) scratch: &'a mut Scratch,
    pub(super) limit: usize,
    /// Octets that may be read of the other side.
    pub(super) allowance: usize,
    pub(super) log: &'a dyn Log,
    /// What is known of the session when it is logged.
    pub record: &'a Record,
}

impl Outlet<'_> {
    /// Whether the client's queue is below its limit.
    pub fn has_room(&self) -> bool {
        self.output.len() < self.limit
    }

    /// Octets that may be read of the other side in this turn; 0: none for now. The session has another turn when there are more.
    pub fn allowance(&self) -> usize {
        self.allowance
    }

    /// So many of these octets were read.
    pub fn has_read(&mut self, count: usize) {
        self.allowance = self.allowance.saturating_sub(count);
    }

    /// Sends a whole message.
    ///
    /// # Errors
    ///
    /// [`SendError`] of the connection.
    pub fn message(&mut self, kind: MessageKind, payload: &[u8]) -> Result<(), SendError> {
        self.ws.message(kind, payload, self.scratch, self.output.frames())?;
        self.record.message_out(payload.len());
        self.write_down(kind, payload, true, true);
        Ok(())
    }

    /// Sends a piece of a message.
    ///
    /// # Errors
    ///
    /// [`SendError`] of the connection.
    pub fn piece(&mut self, kind: MessageKind, payload: &[u8], last: bool) -> Result<(), SendError> {
        let first = !self.ws.sending_message();
        self.ws.piece(kind, payload, last, self.scratch, self.output.frames())?;
        self.record.octets_out(payload.len());
        if last {
            self.record.message_out(0);
        }
        self.write_down(kind, payload, first, last);
        Ok(())
    }

    /// Tells of a piece of a message that goes out.
    fn write_down(&mut self, kind: MessageKind, payload: &[u8], first: bool, last: bool) {
        if let Some(recorder) = &mut self.recorder {
            recorder.piece(&Piece { direction: Direction::Out, kind, payload, first, last });
        }
    }

    /// Lets `read` append to a buffer and sends what it appended, if that is anything, as one message: framed in place
    /// where that is possible. `most` is about how many octets that will be.
    ///
    /// # Errors
    ///
    /// [`SendError`] of the connection.
    pub fn message_from<R>(
        &mut self,
        kind: MessageKind,
        most: usize,
        read: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Result<R, SendError> {
        let frames = self.output.frames();
        let begin = frames.len();
        let mut reserved = if most <= usize::from(u16::MAX) { LEAST_RESERVED } else { MAX_SERVER_HEADER };
        if begin == 0 {
            // The message begins where the system copies fast; what is left before its header is not sent.
            reserved += buffers::before_aligned(frames.as_ptr(), reserved);
        }
        frames.try_reserve(reserved.saturating_add(most)).map_err(|_| SendError::Memory)?;
        frames.resize(begin + reserved, 0);
        let result = read(frames);
        let payload = begin + reserved;
        let count = frames.len() - payload;
        if count == 0 {
            frames.truncate(begin);
            return Ok(result);
        }
        let header = self.ws.header(kind, count as u64, true);
        if let (Some(recorder), Some(_)) = (&mut self.recorder, &header) {
            let payload = &frames[payload..];
            recorder.piece(&Piece { direction: Direction::Out, kind, payload, first: true, last: true });
        }
        match header {
            Some(header) if header.as_ref().len() <= reserved => {
                let header = header.as_ref();
                let surplus = reserved - header.len();
                frames[begin + surplus..payload].copy_from_slice(header);
                if surplus > 0 && begin == 0 {
                    self.output.begin_at(surplus);
                } else if surplus > 0 {
                    frames.copy_within(begin + surplus.., begin);
                    frames.truncate(frames.len() - surplus);
                }
                self.record.message_out(count);
                Ok(result)
            }
            // More than was expected.
            Some(header) => {
                frames.splice(begin..payload, header.as_ref().iter().copied());
                self.record.message_out(count);
                Ok(result)
            }
            None => {
                // Compressed or split: the frames are not what was read.
                let mut octets = buffers::lend();
                octets.extend_from_slice(&frames[payload..]);
                frames.truncate(begin);
                let sent = self.message(kind, &octets);
                buffers::give_back(octets);
                sent.map(|()| result)
            }
        }
    }

    /// Octets that the client's queue still takes.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.output.len())
    }

    /// Sends a message whose frames are ready, and shared with other clients; `payload` is its length without them.
    pub fn ready_made(&mut self, buffer: &Buffer, payload: usize) {
        // A connection that is closing for a reason of its own gets no more messages.
        if self.ws.ready_made(buffer.is_compressed()) {
            self.output.share(buffer);
            self.record.message_out(payload);
            if let Some(recorder) = &mut self.recorder {
                recorder.ready_made(buffer.octets(), buffer.is_compressed());
            }
        }
    }

    /// Whether a message was begun by [`piece`](Self::piece).
    pub fn in_message(&self) -> bool {
        self.ws.sending_message()
    }

    /// Writes a line about the other side to the error log.
    pub fn complain(&self, text: std::fmt::Arguments<'_>) {
        self.log.report(Severity::Error, text);
    }
}
