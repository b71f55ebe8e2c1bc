// SPDX-License-Identifier: Apache-2.0

//! A program that was started ahead, until a client has it.
//!
//! What it writes to its standard output stays in its pipe, which holds 64 KiB: it is what the client gets first, and a
//! program that writes more waits as one does whose client does not read.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::location::PooledLocation;
use crate::conf::ExecStderr;
use crate::exec::strings::Strings;
use crate::ledger::ProgramAhead;
use crate::nginx::log::{self, Level};
use crate::nginx::pipe::{Listener, Pipe};
use crate::nginx::program::Stdin;
use crate::nginx::program::launch::Launched;
use crate::nginx::program::remainder::{self, Left};
use crate::nginx::program::stderr::Reader;
use crate::nginx::worker::programs::{Asked, Served};
use crate::session::endpoint::Input;
use crate::session::program::ProgramEnd;

/// A program without a client.
pub struct Program {
    pub launched: Launched,
    /// 0 as long as it does not run.
    pub pid: i32,
    /// When it was asked for, by nginx's clock.
    pub asked: u64,
    /// Since when it is known to have closed its output, by nginx's clock.
    pub closed: Option<u64>,
    counted: ProgramAhead,
    location: Rc<PooledLocation>,
}

impl Program {
    /// Asks the spawner for one, which has its place already. `served` is told of it, and `listener` of the program with a number makes who hears of its
    /// streams.
    ///
    /// # Errors
    ///
    /// Something is short.
    pub fn ask(
        location: &Rc<PooledLocation>,
        counted: ProgramAhead,
        arguments: &Strings,
        environment: &Strings,
        served: impl FnOnce(&Rc<ProgramEnd>) -> Rc<dyn Served>,
        listener: impl Fn(u64) -> Listener,
        now: u64,
    ) -> io::Result<Self> {
        let end = Rc::new(ProgramEnd::default());
        let asked = Asked {
            served: served(&end),
            end,
            place: None,
            name: location.name.clone(),
            timeout: location.start_timeout,
            user: location.user.clone(),
        };
        let description = location.description(arguments, environment);
        let mut launched =
            Launched::ask(asked, &description, None, location.stderr, location.noting, listener(0), &[])?;
        launched.listen(listener(launched.id.0));
        Ok(Program { launched, pid: 0, asked: now, closed: None, counted, location: Rc::clone(location) })
    }

    /// It runs, on this terminal if it had none before: its end, and that of its output, are watched for from now on.
    ///
    /// # Errors
    ///
    /// Its terminal did not come, or it cannot be watched.
    pub fn begin(&mut self, pid: i32, terminal: Option<OwnedFd>, listener: Listener) -> io::Result<()> {
        self.pid = pid;
        let launched = &mut self.launched;
        if mem::take(&mut launched.unattached) {
            let terminal = terminal.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
            launched.feed.attach(Stdin::new(terminal.try_clone()?, listener));
            launched.stdout = Some(listener.watch(terminal)?);
        }
        let is_watched = launched.stdout.as_mut().is_some_and(Pipe::watch_arrivals);
        self.counted.waits();
        // Should connections become short, nginx asks for this one back.
        if let Some(stdout) = &launched.stdout {
            stdout.let_reuse(true);
        }
        self.read_stderr();
        if is_watched { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOMEM)) }
    }

    /// What it says on standard error is for the log at once, unless it is for the client.
    pub fn read_stderr(&mut self) {
        if self.location.stderr == ExecStderr::Log
            && let Some(stderr) = &mut self.launched.stderr
        {
            stderr.read(&mut Journal(&self.location));
        }
    }

    /// Whether it runs, and may still say something. Nobody has to have the terminal of a program open all the time.
    pub fn is_useful(&self) -> bool {
        let has_closed = self.launched.stdout.as_ref().is_none_or(Pipe::is_hung_up);
        self.launched.end.status().is_none() && (self.location.terminal || !has_closed)
    }

    /// It has to be replaced.
    pub fn replaced(&self) {
        self.counted.replaced();
    }

    /// It gives up its connections, and so has no client any more: it is to [leave](Self::leave) as soon as that is possible.
    pub fn release(&mut self) {
        self.launched.feed.close();
        self.launched.stdout = None;
        self.launched.stderr = None;
        // Nobody would log them.
        self.launched.notes = None;
    }

    /// No client will have it: it is stopped by its ladder, if anything of it is left.
    pub fn leave(mut self) {
        if let Some(stdout) = &self.launched.stdout {
            stdout.let_reuse(false);
        }
        if self.launched.end.status().is_some()
            && let Some(stderr) = &mut self.launched.stderr
        {
            // No client will read why it has ended.
            stderr.read(&mut Journal(&self.location));
        }
        let Program { launched: Launched { id, end, feed, stdout, mut stderr, notes, .. }, location, .. } = self;
        if end.is_gone() {
            if let Some(stderr) = &mut stderr {
                stderr.finish(&mut Journal(&location));
            }
            return;
        }
        let left = Left {
            id,
            name: location.name.clone(),
            end,
            ladder: location.ladder,
            terminal: location.terminal,
            feed,
            stdout,
            stderr,
            notes,
            reader: None,
            grace: 0,
            awaited: None,
        };
        remainder::begin(left, Input::Whole);
    }
}

/// Takes the lines of standard error.
struct Journal<'a>(&'a PooledLocation);

impl Reader for Journal<'_> {
    fn has_room(&self) -> bool {
        true
    }

    fn in_message(&self) -> bool {
        false
    }

    fn text(&mut self, line: &str) {
        // What is for the log as well is there already.
        if self.0.stderr == ExecStderr::Client {
            self.complain(format_args!("stderr of the program: \"{line}\""));
        }
    }

    fn complain(&self, text: std::fmt::Arguments<'_>) {
        log::cycle(Level::Error, format_args!("{}: {text}", self.0.name));
    }
}
