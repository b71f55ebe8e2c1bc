// SPDX-License-Identifier: Apache-2.0

//! The program of a request, by its pipes.

use std::fmt::Arguments;

use crate::exec::spawner::{ExitStatus, Ladder};
use crate::nginx::log::Level;
use crate::nginx::pipe::Read;
use crate::nginx::program::remainder::{self, Left};
use crate::nginx::program::{Launched, StderrReader};
use crate::nginx::request::{HeldRequest, Request};
use crate::session::cgi::{self, Output};
use crate::session::endpoint::Input;

/// A program that was asked for, or is about to be.
pub struct NginxProgram {
    request: HeldRequest,
    /// How the log calls it.
    name: String,
    ladder: Ladder,
    /// None before it was asked for, and once it was left.
    launched: Option<Launched>,
    /// What is for a program that is not there.
    nowhere: Vec<u8>,
}

impl NginxProgram {
    /// A program of this name, which is stopped in this way.
    ///
    /// # Safety
    ///
    /// As for [`Request::held`].
    pub unsafe fn new(request: Request<'_>, name: String, ladder: Ladder) -> Self {
        // SAFETY: the caller sees to it.
        let request = unsafe { request.held() };
        NginxProgram { request, name, ladder, launched: None, nowhere: Vec::new() }
    }

    /// It was asked for.
    pub fn attach(&mut self, launched: Launched) {
        self.launched = Some(launched);
    }
}

impl cgi::Program for NginxProgram {
    fn waiting(&self) -> usize {
        self.launched.as_ref().map_or(0, |launched| launched.feed.waiting())
    }

    fn reads(&self) -> bool {
        self.launched.as_ref().is_some_and(|launched| launched.feed.is_open())
    }

    fn queue(&mut self) -> &mut Vec<u8> {
        match &mut self.launched {
            Some(launched) => launched.feed.queue(),
            None => &mut self.nowhere,
        }
    }

    fn flush(&mut self) {
        if let Some(launched) = &mut self.launched {
            launched.feed.flush();
        }
    }

    fn end_input(&mut self) {
        if let Some(launched) = &mut self.launched {
            launched.feed.close();
        }
    }

    fn last_taken(&self) -> u64 {
        self.launched.as_ref().map_or(0, |launched| launched.feed.last_taken())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Output {
        let Some(Launched { end, stdout, .. }) = &mut self.launched else { return Output::End };
        let Some(pipe) = stdout else { return Output::End };
        // With the last process of the group gone, the end is near: it is looked for instead of being waited for.
        let is_gone = end.is_gone();
        if is_gone || pipe.readable() {
            match pipe.read(buffer) {
                Read::Data(count) => return Output::Octets(count),
                Read::Blocked if !is_gone => {}
                // Who left the group and still holds the pipe is not waited for.
                Read::Blocked | Read::End | Read::HungUp => {
                    *stdout = None;
                    return Output::End;
                }
            }
        }
        if pipe.watch_read(true) {
            return Output::Blocked;
        }
        *stdout = None;
        Output::End
    }

    fn pause(&mut self) {
        if let Some(Launched { stdout: Some(pipe), .. }) = &mut self.launched {
            pipe.watch_read(false);
        }
    }

    fn pass_errors(&mut self) {
        if let Some(Launched { stderr: Some(stderr), .. }) = &mut self.launched {
            stderr.read(&mut Journal(self.request.get()));
        }
        if let Some(Launched { notes: Some(notes), .. }) = &mut self.launched {
            notes.read();
        }
    }

    fn status(&self) -> Option<ExitStatus> {
        self.launched.as_ref()?.end.status()
    }

    fn leave(&mut self, grace: u64) {
        let Some(Launched { id, end, mut feed, stdout, mut stderr, mut notes, .. }) = self.launched.take() else {
            return;
        };
        // The request is logged now.
        match &mut notes {
            Some(notes) if end.status().is_some() => notes.finish(),
            Some(notes) => notes.read_all(),
            None => {}
        }
        if end.is_gone() {
            if let Some(stderr) = &mut stderr {
                stderr.finish(&mut Journal(self.request.get()));
            }
            return;
        }
        // What the client has sent is for nobody any more.
        feed.close();
        let name = std::mem::take(&mut self.name);
        let ladder = self.ladder;
        let left = Left {
            id,
            name,
            end,
            ladder,
            terminal: false,
            feed,
            stdout,
            stderr,
            notes,
            reader: None,
            grace,
            awaited: None,
        };
        remainder::begin(left, Input::Whole);
    }
}

/// Takes the lines of standard error.
struct Journal<'r>(Request<'r>);

impl StderrReader for Journal<'_> {
    fn has_room(&self) -> bool {
        true
    }

    fn in_message(&self) -> bool {
        false
    }

    fn text(&mut self, _: &str) {
        // There are no messages beside a response.
    }

    fn complain(&self, text: Arguments<'_>) {
        self.0.report(Level::Error, text);
    }
}
