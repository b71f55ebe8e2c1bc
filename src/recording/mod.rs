// SPDX-License-Identifier: Apache-2.0

//! Recordings of sessions (`websocket_record`): what a client and its endpoint say becomes lines of a file.
//!
//! A [`Recorder`] belongs to a session, which tells it of each message and of the time. It makes lines of that, in one of
//! three forms, and offers them to its [`Sink`]: whole lines, all of them or none. What the sink does not take is lost for the
//! recording, which says so in the next line that is taken, and never held against the session.
//!
//! - [`asciicast`], [`lines`] and [`novnc`]: the forms;
//! - [`text`]: octets that become characters, wherever they were cut;
//! - [`frames`]: what is in frames that are ready to be sent;
//! - [`name`]: which file a recording is;
//! - [`queue`]: lines on their way, in bounded memory;
//! - [`wire`] and [`writer`]: the process that writes the files, since a file cannot be written without waiting.
//!
//! Nothing here knows a socket of the worker, a clock or nginx.

pub mod asciicast;
pub mod frames;
pub mod lines;
pub mod name;
pub mod novnc;
pub mod queue;
#[cfg(test)]
mod tests;
pub mod text;
pub mod wire;
pub mod writer;

use std::fmt::Write;

use crate::ws::close::CloseCode;
use crate::ws::frame::MessageKind;
use asciicast::Asciicast;
use frames::Message;
use lines::Lines;

/// Octets of a line for which memory is kept until the next one.
const KEPT: usize = 64 << 10;

/// Octets of a line that are not said by anybody, and some more.
const SPARE: usize = 256;

/// Who has said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client.
    In,
    /// The endpoint, or this server.
    Out,
}

/// A message, or a piece of one.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Who says it.
    pub direction: Direction,
    /// Its type.
    pub kind: MessageKind,
    /// Its octets, which may begin and end within a character.
    pub payload: &'a [u8],
    /// It begins the message.
    pub first: bool,
    /// It ends the message.
    pub last: bool,
}

/// What a recording lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    /// Messages of which something is missing, and Closes.
    pub messages: u64,
    /// Octets of what was said.
    pub octets: u64,
}

impl Missing {
    /// Whether it is nothing.
    pub fn is_none(&self) -> bool {
        self.messages == 0 && self.octets == 0
    }

    fn add(&mut self, messages: u64, octets: usize) {
        self.messages += messages;
        self.octets += octets as u64;
    }
}

/// What became of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// They will be in the file.
    All,
    /// There is no room for them now.
    None,
    /// Nothing more will be in the file.
    Never,
}

/// Where the lines of a recording go.
pub trait Sink {
    /// Takes whole lines, all of them or none.
    fn take(&mut self, lines: &[u8]) -> Taken;

    /// Lets go of what can be let go of without waiting. Called at the end of each turn.
    fn flush(&mut self);

    /// The last lines, for which there is always room, and what is missing of the recording.
    fn end(&mut self, lines: &[u8], missing: Missing);
}

/// The form of a recording.
pub enum Form {
    /// What a terminal shows: asciicast, version 2.
    Asciicast(Asciicast),
    /// Messages: an object of JSON in each line.
    Lines(Lines),
    /// A script for the playback of noVNC.
    Novnc,
}

/// Makes the recording of one session.
pub struct Recorder {
    form: Form,
    sink: Box<dyn Sink>,
    /// When the session was opened, and what time it is, in milliseconds of the same clock.
    began: u64,
    now: u64,
    /// The line that is being made, empty in between.
    line: String,
    /// What was lost since the last line that was taken.
    lost: Missing,
    /// What was lost at all.
    missing: Missing,
    /// Whether something of the message that a side is saying was lost: it is counted once, however many pieces it has.
    lacks: [bool; 2],
    /// Nothing more will be in the file: what is missing is only counted.
    is_over: bool,
}

impl Recorder {
    /// Begins a recording: `header` is what its form tells before everything else.
    pub fn begin(form: Form, header: String, sink: Box<dyn Sink>, now: u64) -> Self {
        let none = Missing::default();
        let mut recorder = Recorder {
            form,
            sink,
            began: now,
            now,
            line: header,
            lost: none,
            missing: none,
            lacks: [false; 2],
            is_over: false,
        };
        if !recorder.put() {
            recorder.not_taken(1, 0);
        }
        recorder
    }

    /// What time it is now.
    pub fn at(&mut self, now: u64) {
        self.now = now;
    }

    /// Milliseconds since the session was opened.
    fn time(&self) -> u64 {
        self.now.saturating_sub(self.began)
    }

    /// A message, or a piece of one.
    pub fn piece(&mut self, piece: &Piece<'_>) {
        let (time, length) = (self.time(), piece.payload.len());
        // Base64 has a third more; so have, about, the control sequences of a terminal in JSON.
        if self.is_over || self.line.try_reserve((length / 3).saturating_mul(4).saturating_add(SPARE)).is_err() {
            self.piece_not_taken(piece.direction, length);
        } else {
            let octets = match &mut self.form {
                Form::Asciicast(form) => form.piece(time, piece, &mut self.line),
                Form::Lines(form) => form.piece(time, piece, &mut self.line),
                Form::Novnc => novnc::piece(time, piece, &mut self.line),
            };
            if !self.put() {
                self.piece_not_taken(piece.direction, octets);
            }
        }
        if piece.last {
            self.lacks[piece.direction as usize] = false;
        }
    }

    /// A message whose frames are ready; `compressed` if its payload is the result of permessage-deflate.
    pub fn ready_made(&mut self, frames: &[u8], compressed: bool) {
        if self.is_over {
            self.not_taken(1, frames.len());
            return;
        }
        match frames::read(frames, compressed) {
            Some(Message { kind, payload }) => {
                let (direction, payload) = (Direction::Out, &payload);
                self.piece(&Piece { direction, kind, payload, first: true, last: true });
            }
            None => {
                debug_assert!(false, "frames that are ready are those of one message");
                self.not_taken(1, frames.len());
            }
        }
    }

    /// A Close.
    pub fn close(&mut self, direction: Direction, code: Option<CloseCode>, reason: &str) {
        if self.is_over {
            return;
        }
        let time = self.time();
        match &self.form {
            Form::Lines(_) => lines::close(time, direction, code, reason, &mut self.line),
            // Neither of them has a place for it: a terminal and a screen just end.
            Form::Asciicast(_) | Form::Novnc => {}
        }
        if !self.put() {
            self.not_taken(1, reason.len());
        }
    }

    /// The turn is over.
    pub fn flush(&mut self) {
        self.sink.flush();
    }

    /// The session has ended, with this code or without any: RFC 6455, section 7.1.5.
    pub fn end(mut self, code: Option<u16>) {
        let time = self.time();
        // What has begun may be long, and has no more right to room than any message.
        for direction in [Direction::In, Direction::Out] {
            let octets = self.rest(direction);
            if !self.put() {
                self.piece_not_taken(direction, octets);
            }
        }
        let mut last = String::new();
        self.tell_lost(&mut last);
        match &self.form {
            Form::Asciicast(_) => {}
            Form::Lines(_) => lines::end(time, code, &mut last),
            Form::Novnc => novnc::end(&mut last),
        }
        self.sink.end(last.as_bytes(), self.missing);
    }

    /// Makes a line of what a side has begun and did not go on with, if that is anything. Returns how many octets that are.
    fn rest(&mut self, direction: Direction) -> usize {
        let time = self.time();
        match &mut self.form {
            Form::Asciicast(form) => form.rest(time, direction, &mut self.line),
            Form::Lines(form) => form.rest(time, direction, &mut self.line),
            Form::Novnc => 0,
        }
    }

    /// Nothing more will be in the file, and so not what was kept until its message is complete.
    fn give_up(&mut self) {
        for direction in [Direction::In, Direction::Out] {
            let octets = self.rest(direction);
            if !self.line.is_empty() {
                self.piece_not_taken(direction, octets);
                self.line.clear();
            }
        }
    }

    /// Appends what was lost since the last line that was taken, if that is anything.
    fn tell_lost(&self, line: &mut String) {
        if self.lost.is_none() {
            return;
        }
        let time = self.time();
        match &self.form {
            Form::Asciicast(_) => asciicast::lost(time, self.lost, line),
            Form::Lines(_) => lines::lost(time, self.lost, line),
            Form::Novnc => novnc::lost(self.lost, line),
        }
    }

    /// So many messages are lost, or something of them.
    fn not_taken(&mut self, messages: u64, octets: usize) {
        self.lost.add(messages, octets);
        self.missing.add(messages, octets);
    }

    /// So many octets of the message that this side is saying are lost.
    fn piece_not_taken(&mut self, direction: Direction, octets: usize) {
        let is_first = !std::mem::replace(&mut self.lacks[direction as usize], true);
        self.not_taken(u64::from(is_first), octets);
    }

    /// Offers the line to the sink, if there is one. `false`: it is lost.
    fn put(&mut self) -> bool {
        if self.line.is_empty() {
            return true;
        }
        debug_assert!(self.line.ends_with('\n'));
        let taken = if self.is_over {
            Taken::Never
        } else if self.lost.is_none() {
            self.sink.take(self.line.as_bytes())
        } else {
            let mut told = String::new();
            self.tell_lost(&mut told);
            told.push_str(&self.line);
            self.sink.take(told.as_bytes())
        };
        if taken == Taken::All {
            self.lost = Missing::default();
        }
        self.line.clear();
        if taken == Taken::Never && !std::mem::replace(&mut self.is_over, true) {
            self.give_up();
        }
        if self.line.capacity() > KEPT {
            self.line = String::new();
        }
        taken == Taken::All
    }
}

/// Appends a time in seconds.
fn seconds(milliseconds: u64, line: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(line, "{}.{:03}", milliseconds / 1000, milliseconds % 1000);
}
