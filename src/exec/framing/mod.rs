// SPDX-License-Identifier: Apache-2.0

//! How the octets on a program's stdin and stdout are cut into messages (`websocket_exec_format`).
//!
//! - `lines`: a line is a text message, either way. On stdout a line ends with `\n` or `\r\n`; on stdin with `\n`. A
//!   message that itself contains newlines goes to stdin unchanged, so the program sees several lines, as it does
//!   under websocketd; a client gains nothing by it that several messages would not give it.
//! - `bytes`: what one read of stdout returned is one binary message; payloads go to stdin unchanged as they arrive.
//! - `messages`: both directions carry records, so types and boundaries survive and `cat` is an echo:
//!
//! ```text
//! record = ( "T" / "B" / "t" / "b" ) SP length LF payload   ; text or binary; lower case: more of the message follows
//!        / "C" SP code [ SP reason ] LF                     ; from the program only: close the WebSocket
//!        / "V" SP name [ SP value ] LF                      ; from the program only: note something for the access log
//!        / "E" SP length LF *( variable LF )                ; to the program only: what its client brought
//! length = 1*19DIGIT                                        ; octets of the payload
//! code   = 4DIGIT                                           ; 1000-1003, 1007-1014, 3000-4999
//! ```
//!
//! A program of a pool, which is started before its client is there, is told of it by the record `E`, before all others
//! ([`write_environment`]). One that comes from a program is read over, so that `cat` is an echo there as well.
//!
//! Notes are for [`crate::exec::notes`]: what name and value may be is decided there.
//!
//! Neither direction does I/O. A message of up to [`HOLD`] octets is passed on whole; a larger one is streamed, so that
//! no message, however long, needs more memory than that here. An object between two messages holds no heap memory.

mod lines;
mod reader;
mod records;
#[cfg(test)]
mod tests;
mod writer;

pub use crate::ws::frame::MessageKind;
pub use reader::{FramingError, Output, Reader};
pub use writer::{WriteError, Writer, write_environment};

/// Octets of one message that are held back until it is complete; what is longer is streamed.
pub const HOLD: usize = 64 * 1024;

/// What a program reads and writes (`websocket_exec_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A line is a text message.
    #[default]
    Lines,
    /// A read is a binary message.
    Bytes,
    /// Records with type and length.
    Messages,
}

impl Format {
    /// The format of this name, as the directive has it.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"lines" => Some(Self::Lines),
            b"bytes" => Some(Self::Bytes),
            b"messages" => Some(Self::Messages),
            _ => None,
        }
    }
}
