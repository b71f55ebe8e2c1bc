// SPDX-License-Identifier: Apache-2.0

//! Programs on a terminal (`websocket_exec_pty`).
//!
//! The program's stdin, stdout and stderr are one side of a pseudo-terminal, and what the client sends and gets passes
//! through the other. A message of the client that is nothing but the control sequence
//!
//! ```text
//! ESC [ 8 ; rows ; columns t
//! ```
//!
//! sets the size of the terminal and is not passed on. It is the sequence by which a terminal is told, and tells, its
//! size in characters (XTWINOPS in the control sequences of xterm), so that nobody types it by accident, and a client
//! needs no other channel and no escaping of what is typed. A message can come in pieces, as the network cuts it or a proxy has
//! fragmented it: [`SizeReader`] keeps its beginning back until it is clear what it is.
//!
//! A terminal that several clients share has one size all the same, which [`SizePolicy`] picks of those that they ask for. They are told
//! of it by the same sequence, in a text message of its own: no output of a program is a text message there.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::spawner::sys::terminal;

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl Default for Size {
    /// 80 columns, 24 rows.
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// Which size a terminal has that several clients share (`websocket_exec_pty_size`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SizePolicy {
    /// The most that fits into the window of each of them.
    #[default]
    Smallest,
    /// That of the client that has sent something last.
    Writer,
}

impl Size {
    /// Octets of the longest message that sets a size.
    pub const MAX_MESSAGE: usize = b"\x1b[8;65535;65535t".len();

    /// The largest size that fits into both.
    pub fn common(self, other: Self) -> Self {
        Self { columns: self.columns.min(other.columns), rows: self.rows.min(other.rows) }
    }

    /// The message that sets this size, and tells of it.
    pub fn to_message(self) -> String {
        let Self { columns, rows } = self;
        format!("\x1b[8;{rows};{columns}t")
    }

    /// The size that a message of the client sets; `None` if it is input like any other.
    pub fn from_message(message: &[u8]) -> Option<Self> {
        let parameters = message.strip_prefix(b"\x1b[8;")?.strip_suffix(b"t")?;
        let semicolon = memchr::memchr(b';', parameters)?;
        let rows = number(parameters.get(..semicolon)?)?;
        let columns = number(parameters.get(semicolon + 1..)?)?;
        Some(Self { columns, rows })
    }
}

/// What a piece of a client's message turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// It depends on what follows: the piece is kept.
    Undecided,
    /// The message is complete, and sets this size.
    Size(Size),
    /// The piece is input. With `before`, so is what was kept of the same message, which stands before it.
    Input {
        /// The beginning of the message, unless it was passed on already.
        before: Option<Vec<u8>>,
    },
}

/// Tells the messages that set the size from input, whatever pieces they come in.
#[derive(Debug, Default)]
pub struct SizeReader {
    /// The beginning of a message that may set the size. Invariant: at most [`Size::MAX_MESSAGE`] octets.
    undecided: Option<Vec<u8>>,
}

impl SizeReader {
    /// Takes the next piece of a message. `first` begins one, and what was kept of an unfinished one is dropped; `last` ends it.
    pub fn take(&mut self, piece: &[u8], first: bool, last: bool) -> Sent {
        let before = self.undecided.take().filter(|_| !first);
        if !first && before.is_none() {
            return Sent::Input { before };
        }
        let message = match &before {
            Some(before) if before.len() + piece.len() <= Size::MAX_MESSAGE => Cow::Owned([before, piece].concat()),
            // It is too long.
            Some(_) => return Sent::Input { before },
            None => Cow::Borrowed(piece),
        };
        let size = Size::from_message(&message);
        match size {
            Some(size) if last => Sent::Size(size),
            _ if !last && (size.is_some() || may_become_size(&message)) => {
                self.undecided = Some(message.into_owned());
                Sent::Undecided
            }
            Some(_) | None => Sent::Input { before },
        }
    }

    /// Octets that are kept.
    pub fn kept(&self) -> usize {
        self.undecided.as_ref().map_or(0, Vec::len)
    }

    /// What is kept of a message that its client has not ended.
    pub fn unfinished(&mut self) -> Vec<u8> {
        self.undecided.take().unwrap_or_default()
    }
}

/// Whether these octets begin a message that sets a size, and more has to follow.
fn may_become_size(beginning: &[u8]) -> bool {
    const INTRODUCER: &[u8] = b"\x1b[8;";
    let Some(parameters) = beginning.strip_prefix(INTRODUCER) else { return INTRODUCER.starts_with(beginning) };
    let is_begun = |digits: &[u8]| digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    match memchr::memchr(b';', parameters) {
        Some(semicolon) => {
            number(parameters.get(..semicolon).unwrap_or_default()).is_some()
                && is_begun(parameters.get(semicolon + 1..).unwrap_or_default())
        }
        None => is_begun(parameters),
    }
}

/// A number of characters: 1 to 65535, in at most five digits.
fn number(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|number| *number > 0)
}

/// A new terminal: our side, non-blocking, and the program's, three times. The program is to be started with
/// [`ProgramDescription::terminal`](super::spawner::ProgramDescription::terminal).
///
/// When our side is closed, in all its duplicates, the session on the terminal gets SIGHUP. When the last process has
/// closed the other side, reading gives EIO.
///
/// # Errors
///
/// ENOSPC and others if the system has no more terminals, EMFILE and ENFILE, and whatever open(2) says of /dev/ptmx.
pub fn open(size: Size) -> io::Result<(OwnedFd, [OwnedFd; 3])> {
    let (ours, theirs) = terminal::open()?;
    let stdio = [theirs.try_clone()?, theirs.try_clone()?, theirs];
    let [first, ..] = &stdio;
    terminal::set_utf8(first.as_fd())?;
    resize(ours.as_fd(), size)?;
    Ok((ours, stdio))
}

/// Sets the size of a terminal by our side of it. The program gets SIGWINCH if it changes.
///
/// # Errors
///
/// EIO or ENOTTY for a descriptor that is no terminal.
pub fn resize(ours: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    terminal::set_size(ours, size.columns, size.rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let size = |rows, columns| Some(Size { columns, rows });
        assert_eq!(Size::from_message(b"\x1b[8;24;80t"), size(24, 80));
        assert_eq!(Size::from_message(b"\x1b[8;1;65535t"), size(1, 65535));
        let told = Size { columns: 132, rows: 50 };
        assert_eq!(Size::from_message(told.to_message().as_bytes()), Some(told));
        assert_eq!(Some(told.common(Size::default())), size(24, 80));
        assert_eq!(Some(told.common(Size { columns: 10, rows: 100 })), size(50, 10));
        let longest = b"\x1b[8;65535;65535t";
        assert_eq!(Size::from_message(longest), size(65535, 65535));
        assert_eq!(longest.len(), Size::MAX_MESSAGE);
        for input in [
            &b""[..],
            b"\x1b",
            b"8;24;80t",
            b"\x1b[8;24;80",
            b"\x1b[8;24;80tx",
            b"x\x1b[8;24;80t",
            b"\x1b[8;24t",
            b"\x1b[8;;t",
            b"\x1b[8;0;80t",
            b"\x1b[8;24;65536t",
            b"\x1b[8;24;000080t",
            b"\x1b[8;+4;80t",
            b"\x1b[8;24;80;1t",
            b"\x1b[9;24;80t",
        ] {
            assert_eq!(Size::from_message(input), None, "{}", input.escape_ascii());
        }
    }

    /// What comes of a message in pieces: the size that it sets, and the input that it is.
    fn in_pieces(pieces: &[&[u8]]) -> (Option<Size>, Vec<u8>) {
        let mut reader = SizeReader::default();
        let (mut size, mut input) = (None, Vec::new());
        for (n, piece) in pieces.iter().enumerate() {
            match reader.take(piece, n == 0, n + 1 == pieces.len()) {
                Sent::Undecided => {}
                Sent::Size(told) => size = Some(told),
                Sent::Input { before } => {
                    input.extend(before.unwrap_or_default());
                    input.extend_from_slice(piece);
                }
            }
            assert!(reader.undecided.as_ref().is_none_or(|kept| kept.len() <= Size::MAX_MESSAGE));
        }
        assert_eq!(reader.undecided, None, "nothing is kept of a message that has ended");
        (size, input)
    }

    #[test]
    fn pieces_make_no_difference() {
        for message in [
            &b"\x1b[8;24;80t"[..],
            b"\x1b[8;65535;65535t",
            b"\x1b[8;00001;02000t",
            b"\x1b[8;0;80t",
            b"\x1b[8;24;80tx",
            b"\x1b[8;24;80;1t",
            b"\x1b[8;65536;1t",
            b"\x1b[8;;t",
            b"\x1b[A",
            b"\x1b",
            b"",
            b"\x1b[8;24;80",
            b"\x1b[8;24;80t\x1b[8;24;80t",
        ] {
            let whole = match Size::from_message(message) {
                Some(size) => (Some(size), Vec::new()),
                None => (None, message.to_vec()),
            };
            assert_eq!(in_pieces(&[message]), whole);
            assert_eq!(in_pieces(&[b"", message, b""]), whole);
            if !message.is_empty() {
                assert_eq!(in_pieces(&message.chunks(1).collect::<Vec<_>>()), whole);
            }
            for cut in 0..=message.len() {
                let (one, two) = message.split_at(cut);
                assert_eq!(in_pieces(&[one, two]), whole, "{} at {cut}", message.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_clearly_input_is_not_kept() {
        for input in [&b"a"[..], b"\x1b[A", b"\x1bO", b"\x1b[8;x", b"\x1b[8;;", b"\x1b[8;1;2;", b"\x1b[8;000001"] {
            let mut reader = SizeReader::default();
            assert_eq!(reader.take(input, true, false), Sent::Input { before: None }, "{}", input.escape_ascii());
            assert_eq!(reader.take(b"more", false, false), Sent::Input { before: None });
        }
        // A message that its client did not end is none.
        let mut reader = SizeReader::default();
        assert_eq!(reader.take(b"\x1b[8;", true, false), Sent::Undecided);
        assert_eq!(reader.take(b"a", true, true), Sent::Input { before: None });
    }
}
