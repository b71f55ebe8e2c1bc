//! What a session is connected to, as the session sees it.

use super::ffi;
use super::log::{self, Level};
use super::output::Output;
use super::pipe::Read;
use super::session::Context;
use super::worker;
use crate::ws::close::CloseCode;
use crate::ws::connection::{Connection, Data, SendError};
use crate::ws::frame::{Kind, MAX_SERVER_HEADER};
use crate::ws::scratch::Scratch;

/// The other side of a session: a program, a channel, a TCP service.
pub trait Endpoint {
    /// Whether the next piece of a message can be taken. What the client sends meanwhile stays where it is.
    fn accepts(&self) -> bool;

    /// Takes a piece of a message.
    ///
    /// # Errors
    ///
    /// The message cannot be taken; the session closes as told.
    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending>;

    /// Passes on what [`deliver`](Self::deliver) gathered. Called at the end of each turn, and once more when the client
    /// has closed, before [`client_gone`](Self::client_gone). Returns whether anything moved.
    fn flush(&mut self) -> bool;

    /// Makes messages for the client while the outlet has room.
    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced;

    /// The client sends nothing more and reads nothing more.
    fn client_gone(&mut self);

    /// Octets that went on to the other side so far: tells a slow side from a stuck one.
    fn progress(&self) -> u64;
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
    /// Nothing to send for now.
    Nothing,
    /// Something was sent, or may be after the next turn.
    Some,
    /// Everything was sent; there will be nothing more.
    Ended(Ending),
}

/// Where an endpoint puts its messages.
pub struct Outlet<'a> {
    pub(super) ws: &'a mut Connection,
    pub(super) output: &'a mut Output,
    pub(super) scratch: &'a mut Scratch,
    pub(super) context: &'a mut Context,
    pub(super) limit: usize,
    pub(super) log: *mut ffi::ngx_log_t,
}

impl Outlet<'_> {
    /// Whether the client's queue is below its limit.
    pub fn has_room(&self) -> bool {
        self.output.len() < self.limit
    }

    /// Sends a whole message.
    ///
    /// # Errors
    ///
    /// [`SendError`] of the connection.
    pub fn message(&mut self, kind: Kind, payload: &[u8]) -> Result<(), SendError> {
        self.ws.message(kind, payload, self.scratch, self.output.frames())?;
        self.context.message_out(payload.len());
        Ok(())
    }

    /// Sends a piece of a message.
    ///
    /// # Errors
    ///
    /// [`SendError`] of the connection.
    pub fn piece(&mut self, kind: Kind, payload: &[u8], last: bool) -> Result<(), SendError> {
        self.ws.piece(kind, payload, last, self.scratch, self.output.frames())?;
        self.context.octets_out(payload.len());
        if last {
            self.context.message_out(0);
        }
        Ok(())
    }

    /// Lets `read` append to a buffer and sends what it appended as one binary message, framed in place where that is
    /// possible.
    ///
    /// # Errors
    ///
    /// [`SendError`] of the connection.
    pub fn binary_from(&mut self, read: impl FnOnce(&mut Vec<u8>) -> Read) -> Result<Read, SendError> {
        let Some(frames) = self.output.untouched() else {
            let mut buffer = worker::lend_buffer();
            let result = read(&mut buffer);
            let sent = match result {
                Read::Data(_) => self.message(Kind::Binary, &buffer),
                Read::Blocked | Read::End => Ok(()),
            };
            worker::return_buffer(buffer);
            return sent.map(|()| result);
        };
        frames.resize(MAX_SERVER_HEADER, 0);
        let result = read(frames);
        let Read::Data(count) = result else {
            frames.clear();
            return Ok(result);
        };
        if let Some(header) = self.ws.header(Kind::Binary, count as u64, true) {
            let header = header.as_ref();
            let begin = MAX_SERVER_HEADER - header.len();
            frames[begin..MAX_SERVER_HEADER].copy_from_slice(header);
            self.output.begin_at(begin);
            self.context.message_out(count);
        } else {
            // Compressed or split: the frames are not what was read.
            let octets = std::mem::take(frames);
            let sent = self.message(Kind::Binary, &octets[MAX_SERVER_HEADER..]);
            worker::return_buffer(octets);
            sent?;
        }
        Ok(result)
    }

    /// Whether a message was begun by [`piece`](Self::piece).
    pub fn in_message(&self) -> bool {
        self.ws.sending_message()
    }

    /// Writes a line about the other side to the error log.
    pub fn complain(&self, text: std::fmt::Arguments<'_>) {
        log::write(self.log, Level::Warn, text);
    }
}
