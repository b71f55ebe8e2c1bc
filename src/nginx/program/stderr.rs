//! A program's standard error.

use crate::conf::ExecStderr;
use crate::nginx::log::Octets;
use crate::nginx::pipe::{Pipe, Read};
use crate::nginx::worker;

/// Octets up to which a line is kept together. nginx cuts longer lines of its log; a message needs no more either.
const LONGEST_LINE: usize = 2048;

/// Octets that are read in one turn: a program that floods its standard error gets no more than its share.
const TURN: usize = 64 << 10;

/// Who is told what a program writes to its standard error.
pub trait Reader {
    /// Whether one more message can be taken.
    fn has_room(&self) -> bool;

    /// Whether a message has begun that has not ended.
    fn in_message(&self) -> bool;

    /// Takes a line as a message.
    fn text(&mut self, line: &str);

    /// Writes a line about the program to the error log.
    fn complain(&self, text: std::fmt::Arguments<'_>);
}

/// Lines on their way to the log or to the client.
pub struct Stderr {
    /// Our end of the pipe, until nobody holds the other one any more.
    pipe: Option<Pipe>,
    to: ExecStderr,
    /// The beginning of a line.
    line: Vec<u8>,
}

impl Stderr {
    /// Reads the pipe for `to`.
    pub fn new(pipe: Pipe, to: ExecStderr) -> Self {
        Stderr { pipe: Some(pipe), to, line: Vec::new() }
    }

    /// Our end of the pipe, if it is of any use.
    pub fn into_pipe(self) -> Option<Pipe> {
        self.pipe
    }

    /// Passes on what is there. Whether anything was.
    pub fn read(&mut self, outlet: &mut impl Reader) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        if self.to == ExecStderr::Client && !outlet.has_room() {
            pipe.watch_read(false);
            return false;
        }
        let mut count = 0;
        let mut ended = false;
        let mut buffer = worker::take_reading();
        while count < TURN
            && let Some(pipe) = &mut self.pipe
            && pipe.readable()
        {
            match pipe.read(&mut buffer) {
                Read::Data(octets) => {
                    count += octets;
                    self.split(&buffer[..octets], outlet);
                }
                Read::Blocked => break,
                Read::End => {
                    ended = true;
                    break;
                }
            }
        }
        worker::put_reading(buffer);
        if ended {
            self.pipe = None;
            self.finish(outlet);
        } else if let Some(pipe) = &mut self.pipe {
            pipe.watch_read(true);
        }
        count > 0
    }

    /// Passes on a last line without newline, and what is left in the pipe.
    pub fn finish(&mut self, outlet: &mut impl Reader) {
        if let Some(mut pipe) = self.pipe.take() {
            let mut buffer = worker::take_reading();
            if let Read::Data(octets) = pipe.read(&mut buffer) {
                self.split(&buffer[..octets], outlet);
            }
            worker::put_reading(buffer);
        }
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.pass_on(&line, outlet);
        }
    }

    fn split(&mut self, octets: &[u8], outlet: &mut impl Reader) {
        let mut rest = octets;
        while let Some(place) = memchr::memchr(b'\n', rest) {
            let (line, tail) = rest.split_at(place);
            rest = &tail[1..];
            if self.line.is_empty() {
                self.pass_on(line, outlet);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.pass_on(&whole, outlet);
            }
        }
        while self.line.len() + rest.len() > LONGEST_LINE {
            let (head, tail) = rest.split_at(LONGEST_LINE - self.line.len());
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(head);
            self.pass_on(&whole, outlet);
            rest = tail;
        }
        self.line.extend_from_slice(rest);
    }

    fn pass_on(&self, line: &[u8], outlet: &mut impl Reader) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.to {
            ExecStderr::Log => outlet.complain(format_args!("stderr of the program: {}", Octets(line))),
            ExecStderr::Client => {
                // Not between the frames of another message, where nothing but control frames may stand.
                if outlet.in_message() {
                    outlet.complain(format_args!("stderr of the program, inside a message: {}", Octets(line)));
                } else {
                    outlet.text(&String::from_utf8_lossy(line));
                }
            }
            ExecStderr::Null => {}
        }
    }
}
