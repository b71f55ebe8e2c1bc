// SPDX-License-Identifier: Apache-2.0

//! A program as the endpoint of a session.

pub mod check;
mod client;
mod command;
mod feed;
pub mod host;
mod launch;
mod notes;
pub mod pool;
pub mod remainder;
mod stderr;
mod stdin;
mod unread;

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

pub use command::{Body, Command, Environs};
pub use feed::Feed;
pub use launch::{Launch, Launched, Stdio, launch};
pub use notes::{Notes, Noting};
use remainder::Left;
pub use stderr::{Reader as StderrReader, Stderr};
pub use stdin::Stdin;

pub use super::pipe::Listener;

use super::exhaustion::Explained;
use super::log::{self, Level};
use super::pipe::{Pipe, Read};
use super::request::Request;
use super::session::SessionRef;
use super::status::Status;
use crate::exec::framing::{Format, FramingError, Output, Reader, Writer};
use crate::exec::spawner::{ExitStatus, Ladder, ProgramId};
use crate::exec::terminal::{self, Sent, Size, SizeReader};
use crate::session::buffers;
use crate::session::endpoint::{Ending, Endpoint, HttpStatus, Input, Outlet, Produced, Started};
use crate::session::program::{LeftProgram, ProgramEnd};
use crate::ws::close::CloseCode;
use crate::ws::connection::{Data, SendError};
use crate::ws::frame::MessageKind;

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

/// A running program.
pub struct RunningProgram {
    id: ProgramId,
    /// How the log calls it.
    name: String,
    session: SessionRef,
    /// Who hears of its descriptors.
    listener: Listener,
    end: Rc<ProgramEnd>,
    format: Format,
    /// It was there before its client: nobody will tell that it runs.
    was_ready: bool,
    /// Its terminal comes when it runs.
    unattached: bool,
    /// Tells what sets the size of its terminal from what is typed, if its descriptors are a terminal.
    sizes: Option<SizeReader>,
    /// Nobody has that terminal open. As long as the program runs this is not the end of its output: `login` hangs up its
    /// terminal and opens it again.
    hung_up: bool,
    ladder: Ladder,
    /// None once the program was left.
    feed: Option<Feed>,
    stdout: Option<Pipe>,
    stderr: Option<Stderr>,
    /// What it notes, if it can.
    notes: Option<Notes>,
    reader: Reader,
    writer: Writer,
    backlog: usize,
}

/// Milliseconds after the first time of the stop ladder in which a program may be expected to end by it.
const STOPS: u64 = 100;

/// Milliseconds that a session waits at most to tell in the log how its program ended.
const MOST_PATIENCE: u64 = 500;

/// Starts the program of a location for a session, after its client's name was looked up where that is asked for.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn start(request: Request<'_>, session: SessionRef) -> Result<Box<dyn Endpoint>, Status> {
    if request.settings().exec_remote_host() {
        host::start(request, session)
    } else {
        launch::of_location(request, session)
    }
}

impl Endpoint for RunningProgram {
    fn start(&mut self) -> Started {
        if self.was_ready { Started::Yes } else { Started::NotYet }
    }

    fn attach(&mut self, terminal: Option<OwnedFd>) -> Result<(), HttpStatus> {
        if !std::mem::take(&mut self.unattached) {
            return Ok(());
        }
        let attached = terminal.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE)).and_then(|terminal| {
            let stdin = Stdin::new(terminal.try_clone()?, self.listener);
            Ok((stdin, self.listener.watch(terminal)?))
        });
        match attached {
            Ok((stdin, stdout)) => {
                if let Some(feed) = &mut self.feed {
                    feed.attach(stdin);
                    self.stdout = Some(stdout);
                }
                Ok(())
            }
            Err(error) => {
                let text = format_args!("{} is stopped: {}", self.name, Explained(&error));
                log::write(self.listener.log, Level::Error, text);
                Err(HttpStatus::UNAVAILABLE)
            }
        }
    }

    fn accepts(&self) -> bool {
        self.feed.as_ref().is_none_or(|feed| !feed.is_open() || feed.waiting() < self.backlog)
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        let mistaken = self.format == Format::Lines && data.kind == MessageKind::Binary;
        if !self.feed.as_ref().is_some_and(Feed::is_open) && !mistaken {
            // The program reads no more. It is told nothing, and neither is the client: the program may still write.
            return Ok(());
        }
        let mut first = data.first;
        let mut before = None;
        if let Some(sizes) = &mut self.sizes {
            match sizes.take(data.payload, data.first, data.last) {
                Sent::Undecided => return Ok(()),
                Sent::Size(size) => {
                    self.resize(size);
                    return Ok(());
                }
                Sent::Input { before: kept } => before = kept,
            }
        }
        let Some(feed) = &mut self.feed else { return Ok(()) };
        let mut write = |payload: &[u8], first, last| {
            self.writer
                .write(data.kind, payload, first, last, feed.queue())
                .map_err(|error| Ending { code: error.close_code(), reason: error.to_string() })
        };
        if let Some(before) = before {
            write(&before, true, false)?;
            first = false;
        }
        write(data.payload, first, data.last)
    }

    fn flush(&mut self) -> bool {
        self.feed.as_mut().is_some_and(Feed::flush)
    }

    fn waits(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.is_open() && feed.waiting() > 0)
    }

    fn has_taken(&mut self) -> bool {
        self.feed.as_mut().is_some_and(Feed::look)
    }

    fn stuck(&self) -> Ending {
        stuck()
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut moved = false;
        if let Some(stderr) = &mut self.stderr {
            moved |= stderr.read(outlet);
        }
        if let Some(notes) = &mut self.notes {
            moved |= notes.read();
        }
        match self.read_output(outlet) {
            Ok(some) => moved |= some,
            Err(ending) => return Produced::Ended(ending),
        }
        if let Some(status) = self.end.status()
            && self.stdout.is_none()
        {
            outlet.record.exec_status.set(Some(status));
            if let Some(stderr) = &mut self.stderr {
                stderr.finish(outlet);
            }
            if let Some(notes) = &mut self.notes {
                notes.finish();
            }
            return Produced::Ended(how(status));
        }
        if moved { Produced::Some } else { Produced::Nothing }
    }

    fn client_gone(&mut self, input: Input) -> Option<LeftProgram> {
        let feed = self.feed.take()?;
        let is_awaited = Rc::new(Cell::new(true));
        let patience = (u64::from(self.ladder.term_ms) + STOPS).min(MOST_PATIENCE);
        let program = LeftProgram { end: Rc::clone(&self.end), patience, is_awaited: Rc::clone(&is_awaited) };
        if self.end.is_gone() {
            if let Some(notes) = &mut self.notes {
                if self.format == Format::Messages
                    && let Some(stdout) = &mut self.stdout
                {
                    let reader = std::mem::replace(&mut self.reader, Reader::new(self.format));
                    remainder::take_last_notes(stdout, reader, notes);
                }
                notes.finish();
            }
        } else {
            let left = Left {
                id: self.id,
                name: std::mem::take(&mut self.name),
                end: Rc::clone(&self.end),
                ladder: self.ladder,
                terminal: self.sizes.is_some(),
                feed,
                stdout: self.stdout.take(),
                stderr: self.stderr.take(),
                notes: self.notes.take(),
                reader: (self.format == Format::Messages)
                    .then(|| std::mem::replace(&mut self.reader, Reader::new(self.format))),
                grace: 0,
                awaited: Some((self.session, is_awaited)),
            };
            remainder::begin(left, input);
        }
        Some(program)
    }

    fn progress(&self) -> u64 {
        self.feed.as_ref().map_or(0, Feed::progress)
    }
}

impl RunningProgram {
    /// Sets the size of the terminal.
    fn resize(&self, size: Size) {
        if let Some(fd) = self.feed.as_ref().and_then(Feed::stdin).and_then(Stdin::fd) {
            // A terminal whose program has just ended has no size any more.
            let _ = terminal::resize(fd, size);
        }
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
            let gone = self.end.is_gone();
            let runs = self.end.status().is_none();
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
        outlet.message_from(MessageKind::Binary, PIPE, |buffer| stdout.append_to(buffer)).map_err(broken)
    }

    /// Reads messages of the formats that have frames.
    fn frame(&mut self, outlet: &mut Outlet<'_>) -> Result<Read, Ending> {
        let Some(stdout) = &mut self.stdout else { return Ok(Read::Blocked) };
        let mut buffer = buffers::take_reading();
        let read = stdout.read(&mut buffer);
        let result = match read {
            Read::Data(count) => pass_on(&mut self.reader, &buffer[..count], self.notes.as_mut(), outlet),
            Read::Blocked | Read::End | Read::HungUp => Ok(()),
        };
        buffers::put_reading(buffer);
        result.map(|()| read)
    }

    /// The last line, which may lack its newline.
    fn finish(&mut self, outlet: &mut Outlet<'_>) -> Result<(), Ending> {
        match self.reader.finish() {
            Ok(None) => Ok(()),
            Ok(Some(output)) => put(output, self.notes.as_mut(), outlet),
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
        let _ = self.message(MessageKind::Text, line.as_bytes());
    }

    fn complain(&self, text: std::fmt::Arguments<'_>) {
        Outlet::complain(self, text);
    }
}

/// Gives what a read brought to the client.
fn pass_on(
    reader: &mut Reader,
    mut octets: &[u8],
    mut notes: Option<&mut Notes>,
    outlet: &mut Outlet<'_>,
) -> Result<(), Ending> {
    loop {
        match reader.next(octets) {
            Ok((consumed, output)) => {
                octets = octets.get(consumed..).unwrap_or_default();
                match output {
                    Some(output) => put(output, notes.as_deref_mut(), outlet)?,
                    None => return Ok(()),
                }
            }
            Err(error) => return Err(misframed(error, outlet)),
        }
    }
}

fn put(output: Output<'_>, notes: Option<&mut Notes>, outlet: &mut Outlet<'_>) -> Result<(), Ending> {
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
        Output::Note { text } => {
            if let Some(notes) = notes {
                notes.take(text);
            }
            Ok(())
        }
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

/// The Close of a client whose program takes nothing for too long.
pub fn stuck() -> Ending {
    Ending { code: CloseCode::INTERNAL, reason: "the program does not read".to_owned() }
}
