// SPDX-License-Identifier: Apache-2.0

//! A program's standard error.

use std::collections::VecDeque;

use crate::conf::ExecStderr;
use crate::nginx::log::Octets;
use crate::nginx::pipe::{Listener, Pipe, Read};
use crate::nginx::timer::now;
use crate::session::buffers;

/// Octets up to which a line is kept together. nginx cuts longer lines of its log; a message needs no more either.
const LONGEST_LINE: usize = 2048;

/// Octets that are read in one turn: a program that floods its standard error gets no more than its share.
const TURN: usize = 64 << 10;

/// Octets that a program may have logged at once, and how many each second after that.
const BURST: u64 = 64 << 10;
const RATE: u64 = 8 << 10;

/// Octets that a line of the log takes beside what the program wrote, counted so that empty lines are not for nothing.
const LINE_HEAD: u64 = 100;

/// Lines that are kept of those that were too many, and their octets.
const LAST_LINES: usize = 40;
const LAST_OCTETS: usize = 4096;

/// What begins a line of standard error where a client has to tell it from what the program says otherwise.
const MARK: &str = "stderr: ";

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
    allowance: Allowance,
    dropped: Dropped,
}

impl Stderr {
    /// Reads the pipe for `to`.
    pub fn new(pipe: Pipe, to: ExecStderr) -> Self {
        Stderr {
            pipe: Some(pipe),
            to,
            line: Vec::new(),
            allowance: Allowance { left: BURST, at: now() },
            dropped: Dropped::default(),
        }
    }

    /// Tells another listener from now on.
    pub fn listen(&self, listener: Listener) {
        if let Some(pipe) = &self.pipe {
            pipe.listen(listener);
        }
    }

    /// Passes on what is there. Whether anything was.
    pub fn read(&mut self, outlet: &mut impl Reader) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        let is_for_client = match self.to {
            ExecStderr::Client | ExecStderr::Both => true,
            ExecStderr::Log | ExecStderr::Null => false,
        };
        if is_for_client && !outlet.has_room() {
            pipe.watch_read(false);
            return false;
        }
        let mut count = 0;
        let mut ended = false;
        let mut buffer = buffers::take_reading();
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
                Read::End | Read::HungUp => {
                    ended = true;
                    break;
                }
            }
        }
        buffers::put_reading(buffer);
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
            let mut buffer = buffers::take_reading();
            if let Read::Data(octets) = pipe.read(&mut buffer) {
                self.split(&buffer[..octets], outlet);
            }
            buffers::put_reading(buffer);
        }
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.pass_on(&line, outlet);
        }
        self.tell_dropped(outlet);
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

    fn pass_on(&mut self, line: &[u8], outlet: &mut impl Reader) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.to {
            ExecStderr::Log => self.log(line, outlet),
            ExecStderr::Client => {
                // Not between the frames of another message, where nothing but control frames may stand.
                if outlet.in_message() {
                    self.log(line, outlet);
                } else {
                    outlet.text(&String::from_utf8_lossy(line));
                }
            }
            ExecStderr::Both => {
                self.log(line, outlet);
                // Inside of another message there is no place for it, and the log has it.
                if !outlet.in_message() {
                    outlet.text(&format!("{MARK}{}", String::from_utf8_lossy(line)));
                }
            }
            ExecStderr::Null => {}
        }
    }

    fn log(&mut self, line: &[u8], outlet: &impl Reader) {
        if self.allowance.take(now(), line.len() as u64 + LINE_HEAD) {
            self.tell_dropped(outlet);
            write(line, outlet);
        } else {
            self.dropped.add(line);
        }
    }

    /// What was dropped since something was logged last, and the end of it.
    fn tell_dropped(&mut self, outlet: &impl Reader) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped.lines > 0 {
            let (lines, octets) = (dropped.lines, dropped.octets);
            outlet.complain(format_args!(
                "stderr of the program: {lines} lines ({octets} bytes) are not logged, it writes too much"
            ));
        }
        for line in dropped.last {
            write(&line, outlet);
        }
    }
}

fn write(line: &[u8], outlet: &impl Reader) {
    outlet.complain(format_args!("stderr of the program: \"{}\"", Octets(line)));
}

/// Lines that were too many.
#[derive(Default)]
struct Dropped {
    lines: u64,
    octets: u64,
    /// The last ones, which are logged after all: why a program has failed stands at the end.
    last: VecDeque<Vec<u8>>,
    /// Octets of `last`.
    kept: usize,
}

impl Dropped {
    fn add(&mut self, line: &[u8]) {
        self.kept += line.len();
        self.last.push_back(line.to_vec());
        while self.last.len() > LAST_LINES || self.kept > LAST_OCTETS {
            let Some(first) = self.last.pop_front() else { return };
            self.kept -= first.len();
            self.lines += 1;
            self.octets += first.len() as u64 + 1;
        }
    }
}

/// What may still be logged: a sudden burst, and over time so much a second.
struct Allowance {
    left: u64,
    /// When `left` was right, in milliseconds.
    at: u64,
}

impl Allowance {
    fn take(&mut self, now: u64, octets: u64) -> bool {
        let elapsed = now.saturating_sub(self.at);
        self.at = now;
        self.left = BURST.min(self.left + elapsed.saturating_mul(RATE / 1000));
        match self.left.checked_sub(octets) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_much_a_second() {
        let mut allowance = Allowance { left: BURST, at: 0 };
        assert!(allowance.take(0, BURST));
        assert!(!allowance.take(0, 1));
        let taken = (0..10_000).filter(|ms| allowance.take(*ms, 100)).count() as u64;
        assert!((9 * RATE..=10 * RATE).contains(&(taken * 100)), "{taken}");
        assert!(allowance.take(10_000_000, BURST));
        assert!(!allowance.take(10_000_000, 1));
    }

    #[test]
    fn the_last_lines_are_kept() {
        let mut dropped = Dropped::default();
        for n in 0..1000 {
            dropped.add(format!("line {n}").as_bytes());
        }
        assert_eq!(dropped.lines + dropped.last.len() as u64, 1000);
        assert_eq!(dropped.last.back().map(Vec::as_slice), Some(&b"line 999"[..]));
        dropped.add(&[b'x'; LONGEST_LINE]);
        assert_eq!(dropped.last.iter().map(Vec::len).sum::<usize>(), dropped.kept);
        assert!(dropped.kept <= LAST_OCTETS && dropped.last.len() <= LAST_LINES);
    }
}
