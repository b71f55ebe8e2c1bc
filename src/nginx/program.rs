//! A program as the endpoint of a session.

pub mod check;
mod command;
mod feed;
mod launch;
mod stderr;
mod stdin;

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

pub use command::{Command, Environs};
pub use feed::Feed;
pub use launch::{Stdio, start};
pub use stderr::{Reader as StderrReader, Stderr};
pub use stdin::Stdin;

use super::endpoint::{Ending, Endpoint, Outlet, Produced};
use super::ffi;
use super::pipe::{Handler, Pipe, Read};
use super::worker::{self, programs};
use crate::exec::framing::{Format, FramingError, Output, Reader, Writer};
use crate::exec::spawner::{ExitStatus, Ladder, ProgramId};
use crate::exec::terminal::{self, Size};
use crate::ws::close::CloseCode;
use crate::ws::connection::{Data, SendError};
use crate::ws::frame::Kind;

/// Bounds of what is kept for a program that does not read its standard input. Between them it is as much as one message
/// may have, so that a client that waits for its Pong is not held up by a message that it may send.
const LEAST_BACKLOG: u64 = 64 << 10;
const MOST_BACKLOG: u64 = 1 << 20;

/// Octets that are kept for a program that does not read, where a message may have so many (0 for no limit).
pub fn backlog(max_message_size: u64) -> usize {
    match max_message_size {
        0 => MOST_BACKLOG as usize,
        size => size.clamp(LEAST_BACKLOG, MOST_BACKLOG) as usize,
    }
}

/// Octets that a pipe holds, and so about what one read brings.
const PIPE: usize = 64 << 10;

/// What the spawner tells of a program, seen by the session and by the worker.
#[derive(Default)]
pub struct Fate {
    /// How it ended.
    status: Cell<Option<ExitStatus>>,
    /// No process of its group is left.
    gone: Cell<bool>,
}

impl Fate {
    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status.get()
    }

    /// Whether no process of its group is left.
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// It has ended.
    pub fn ended(&self, status: ExitStatus) {
        self.status.set(Some(status));
    }

    /// Its descendants have ended as well.
    pub fn gone(&self) {
        self.gone.set(true);
    }
}

/// Who hears of a program's pipes.
#[derive(Debug, Clone, Copy)]
pub struct Listener {
    /// Called with an event whose connection has `data`.
    pub handler: Handler,
    /// See `handler`.
    pub data: *mut c_void,
    /// Where lines about the pipes go.
    pub log: *mut ffi::ngx_log_t,
}

impl Listener {
    /// Gives a descriptor to nginx.
    ///
    /// # Errors
    ///
    /// All `worker_connections` are in use; nginx has logged it.
    pub fn watch(self, fd: OwnedFd) -> io::Result<Pipe> {
        Pipe::new(fd, self.handler, self.data, self.log)
    }
}

/// A running program.
pub struct Program {
    id: ProgramId,
    fate: Rc<Fate>,
    format: Format,
    /// Its descriptors are a terminal.
    terminal: bool,
    /// Nobody has that terminal open. As long as the program runs this is not the end of its output: `login` hangs up its
    /// terminal and opens it again.
    hung_up: bool,
    ladder: Ladder,
    feed: Feed,
    stdout: Option<Pipe>,
    stderr: Option<Stderr>,
    reader: Reader,
    writer: Writer,
    backlog: usize,
}

impl Endpoint for Program {
    fn accepts(&self) -> bool {
        !self.feed.is_open() || self.feed.waiting() < self.backlog
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        let mistaken = self.format == Format::Lines && data.kind == Kind::Binary;
        if !self.feed.is_open() && !mistaken {
            // The program reads no more. It is told nothing, and neither is the client: the program may still write.
            return Ok(());
        }
        if self.terminal && data.first && data.last && self.resize(data.payload) {
            return Ok(());
        }
        self.writer
            .write(data.kind, data.payload, data.first, data.last, self.feed.queue())
            .map_err(|error| Ending { code: error.close_code(), reason: error.to_string() })
    }

    fn flush(&mut self) -> bool {
        self.feed.flush()
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut moved = false;
        if let Some(stderr) = &mut self.stderr {
            moved |= stderr.read(outlet);
        }
        match self.read_output(outlet) {
            Ok(some) => moved |= some,
            Err(ending) => return Produced::Ended(ending),
        }
        if let Some(status) = self.fate.status.get()
            && self.stdout.is_none()
        {
            outlet.context.exec_status = Some(status);
            if let Some(stderr) = &mut self.stderr {
                stderr.finish(outlet);
            }
            return Produced::Ended(how(status));
        }
        if moved { Produced::Some } else { Produced::Nothing }
    }

    fn client_gone(&mut self) {
        self.feed.close();
        let pipes = [self.stdout.take(), self.stderr.take().and_then(Stderr::into_pipe)];
        if self.fate.is_gone() {
            return;
        }
        // The program may say something while it ends: it should not die of a broken pipe in the middle of that. The
        // end of a terminal, however, is that nobody holds it.
        let kept = pipes.into_iter().flatten().filter(|_| !self.terminal).filter_map(Pipe::into_fd).collect();
        programs::stop(self.id, self.ladder, kept);
    }

    fn progress(&self) -> u64 {
        self.feed.progress()
    }
}

impl Program {
    /// Whether the message set the size of the terminal.
    fn resize(&self, message: &[u8]) -> bool {
        let Some(size) = Size::from_message(message) else { return false };
        if let Some(fd) = self.feed.stdin().and_then(Stdin::fd) {
            // A terminal whose program has just ended has no size any more.
            let _ = terminal::resize(fd, size);
        }
        true
    }

    /// Reads standard output while there is room. Whether anything came.
    fn read_output(&mut self, outlet: &mut Outlet<'_>) -> Result<bool, Ending> {
        let mut moved = false;
        loop {
            let Some(stdout) = &mut self.stdout else { return Ok(moved) };
            if !outlet.has_room() {
                stdout.watch_read(false);
                return Ok(moved);
            }
            // With the last process of the group gone, the end is near: it is looked for instead of being waited for.
            let gone = self.fate.gone.get();
            let runs = self.fate.status.get().is_none();
            if !gone && !stdout.readable() && (runs || !self.hung_up) {
                if !self.hung_up && !stdout.watch_read(true) {
                    return Err(Ending { code: CloseCode::INTERNAL, reason: "the program cannot be watched".into() });
                }
                return Ok(moved);
            }
            let read = match self.format {
                Format::Bytes => self.relay(outlet),
                Format::Lines | Format::Messages => self.frame(outlet),
            }?;
            let was_hung_up = self.hung_up;
            self.hung_up = matches!(read, Read::HungUp);
            if let Some(stdout) = &mut self.stdout
                && self.hung_up != was_hung_up
                && runs
            {
                // From now on by events of the one kind or of the other.
                let watched = if self.hung_up { stdout.watch_hung_up() } else { stdout.watch_read(false) };
                if !watched {
                    return Err(Ending { code: CloseCode::INTERNAL, reason: "the program cannot be watched".into() });
                }
            }
            match read {
                Read::Data(_) => moved = true,
                Read::Blocked if !gone => {}
                Read::HungUp if runs => {
                    if let Some(stdout) = &mut self.stdout {
                        stdout.wait_for_event();
                    }
                }
                // Who left the group and still holds the pipe is not waited for.
                Read::Blocked | Read::End | Read::HungUp => {
                    moved = true;
                    self.stdout = None;
                    self.finish(outlet)?;
                }
            }
        }
    }

    /// Format `bytes`: what a read returns is one message, framed where it was read.
    fn relay(&mut self, outlet: &mut Outlet<'_>) -> Result<Read, Ending> {
        let Some(stdout) = &mut self.stdout else { return Ok(Read::Blocked) };
        outlet.message_from(Kind::Binary, PIPE, |buffer| stdout.append_to(buffer)).map_err(broken)
    }

    /// The other formats.
    fn frame(&mut self, outlet: &mut Outlet<'_>) -> Result<Read, Ending> {
        let Some(stdout) = &mut self.stdout else { return Ok(Read::Blocked) };
        let mut buffer = worker::take_reading();
        let read = stdout.read(&mut buffer);
        let result = match read {
            Read::Data(count) => pass_on(&mut self.reader, &buffer[..count], outlet),
            Read::Blocked | Read::End | Read::HungUp => Ok(()),
        };
        worker::put_reading(buffer);
        result.map(|()| read)
    }

    /// The last line, which may lack its newline.
    fn finish(&mut self, outlet: &mut Outlet<'_>) -> Result<(), Ending> {
        match self.reader.finish() {
            Ok(None) => Ok(()),
            Ok(Some(output)) => put(output, outlet),
            Err(error) => Err(misframed(error, outlet)),
        }
    }
}

impl StderrReader for Outlet<'_> {
    fn has_room(&self) -> bool {
        Outlet::has_room(self)
    }

    fn in_message(&self) -> bool {
        Outlet::in_message(self)
    }

    fn text(&mut self, line: &str) {
        // A closing connection takes no messages: the program is about to be told.
        let _ = self.message(Kind::Text, line.as_bytes());
    }

    fn complain(&self, text: std::fmt::Arguments<'_>) {
        Outlet::complain(self, text);
    }
}

/// Gives what a read brought to the client.
fn pass_on(reader: &mut Reader, mut octets: &[u8], outlet: &mut Outlet<'_>) -> Result<(), Ending> {
    loop {
        match reader.next(octets) {
            Ok((consumed, output)) => {
                octets = octets.get(consumed..).unwrap_or_default();
                match output {
                    Some(output) => put(output, outlet)?,
                    None => return Ok(()),
                }
            }
            Err(error) => return Err(misframed(error, outlet)),
        }
    }
}

fn put(output: Output<'_>, outlet: &mut Outlet<'_>) -> Result<(), Ending> {
    match output {
        Output::Piece { kind, payload, last } => {
            let result = if last && !outlet.in_message() {
                outlet.message(kind, payload)
            } else {
                outlet.piece(kind, payload, last)
            };
            result.map_err(broken)
        }
        Output::Close { code, reason } => Err(Ending { code, reason: reason.to_owned() }),
    }
}

fn misframed(error: FramingError, outlet: &Outlet<'_>) -> Ending {
    outlet.complain(format_args!("the program wrote {error}"));
    Ending { code: error.close_code(), reason: error.to_string() }
}

/// The connection does not take messages any more; it is closing for a reason of its own.
fn broken(error: SendError) -> Ending {
    Ending { code: CloseCode::INTERNAL, reason: error.to_string() }
}

/// The Close that tells how the program ended.
pub fn how(status: ExitStatus) -> Ending {
    match status {
        ExitStatus::Code(0) => Ending { code: CloseCode::NORMAL, reason: String::new() },
        ExitStatus::Code(code) => Ending { code: CloseCode::INTERNAL, reason: format!("exit {code}") },
        ExitStatus::Signal(signal) => Ending { code: CloseCode::INTERNAL, reason: format!("signal {signal}") },
    }
}
