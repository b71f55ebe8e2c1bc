// SPDX-License-Identifier: Apache-2.0

//! The process of a shared program, in the worker that runs it.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::parameters::Parameters;
use super::publication::{Publication, Sink, misframed, no_memory};
use super::report;
use super::served::ServedChannel;
use super::timers::{SharedTimers, on_pipe};
use crate::channel::store::{InputKind, ProgramHandle, Wake};
use crate::exec::framing::{Reader, Writer};
use crate::exec::spawner::ProgramId;
use crate::exec::terminal;
use crate::nginx::channel::hub;
use crate::nginx::exhaustion::{self, Explained};
use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::pipe::{Pipe, Read};
use crate::nginx::program::remainder::PATIENCE;
use crate::nginx::program::{Feed, Listener, Stderr, Stdin, Stdio, how};
use crate::nginx::timer::now;
use crate::nginx::worker::programs::{self, Asked};
use crate::session::buffers;
use crate::session::endpoint::Ending;
use crate::session::program::ProgramEnd;
use crate::session::shared::host::{Progress, SharedProcess, StartParameters};
use crate::session::shared::{RunEnd, SharedProgramId, SharedSize, SizeNote};
use crate::ws::close::CloseCode;
use crate::ws::frame::MessageKind;

/// Octets of standard output that are published before other events get their turn.
const TURN: usize = 256 << 10;

/// Messages of standard output that are published before other events get their turn: as many as are copied for the clients
/// in one go, so that they are served as often as a program is, however small its messages are.
const TURN_MESSAGES: usize = 256;

/// Milliseconds between two looks at what a program without clients has read: nothing tells of that.
const LOOK: u64 = 20;

/// Octets of input that are looked at in one go.
const BITE: usize = 32 << 10;

/// What resets a terminal (RIS in the control sequences of xterm). It comes before all that a program writes: what the one before has
/// left in the history, its modes above all, is not this one's.
const RESET: &[u8] = b"\x1bc";

/// The process of a shared program, in the worker that runs it.
pub struct Process {
    id: ProgramId,
    end: Rc<ProgramEnd>,
    feed: Feed,
    /// Messages of the input that are in the feed: they are consumed once it is empty.
    bitten: usize,
    /// It was given a message.
    has_input: bool,
    stdout: Option<Pipe>,
    /// What was read of standard output when a turn was over, and how much of it has been looked at.
    rest: Vec<u8>,
    looked: usize,
    stderr: Option<Stderr>,
    reader: Reader,
    writer: Writer,
    output: Publication,
    stopping: bool,
    /// The size of its terminal, if it has one.
    size: Option<SharedSize>,
    /// Its terminal comes when it runs.
    unattached: bool,
    /// Nobody has that terminal open. As long as the program runs this is not the end of its output: `login` hangs up its
    /// terminal and opens it again.
    hung_up: bool,
    /// What the events of the pipes carry. After the pipes, which are to be dropped first.
    timers: SharedTimers,
}

impl Process {
    /// Asks the spawner for the program.
    ///
    /// # Errors
    ///
    /// What its clients are told; it was logged.
    pub fn start(parameters: &Parameters, id: SharedProgramId, timers: &SharedTimers) -> Result<Self, RunEnd> {
        let name = &parameters.name;
        let Some(place) = programs::admit(parameters.key, parameters.most) else {
            let most = parameters.most;
            report(
                Level::Error,
                format_args!("cannot start {name}: {most} programs run here already (websocket_exec_max)"),
            );
            return Err(RunEnd::refused(true));
        };
        let refused = |error: io::Error| {
            programs::failed(parameters.key);
            report(Level::Error, format_args!("cannot start {name}: {}", Explained(&error)));
            RunEnd::refused(exhaustion::passes(&error))
        };
        // A terminal belongs to whoever has opened it, so that another user's is opened by its spawner.
        let stdio = match (parameters.terminal, parameters.user.as_deref()) {
            (true, Some(_)) => None,
            (true, None) => Some(Stdio::terminal().map_err(refused)?),
            (false, user) => Some(Stdio::pipes(parameters.stderr, user).map_err(refused)?),
        };
        let unattached = stdio.is_none();
        let listener = listener(timers);
        let (feed, stdout, stderr, theirs) = match stdio {
            None => (Feed::of_terminal(), None, None, None),
            Some(Stdio { stdin, stdout, stderr, theirs }) => {
                let feed = Feed::new(Stdin::new(stdin, listener), parameters.terminal);
                let stdout = listener.watch(stdout).map_err(refused)?;
                let stderr = stderr.map(|fd| listener.watch(fd)).transpose().map_err(refused)?;
                (feed, Some(stdout), stderr, Some(theirs))
            }
        };
        let end = Rc::new(ProgramEnd::default());
        let asked = Asked {
            served: Rc::new(ServedChannel(id)),
            end: Rc::clone(&end),
            place: Some(place),
            name: name.clone(),
            timeout: parameters.start_timeout,
            user: parameters.user.clone(),
        };
        let program = programs::start(asked, &parameters.description(), theirs, None).map_err(refused)?;
        let mut output = Publication::default();
        if parameters.shows_terminal() {
            output.publish(MessageKind::Binary, RESET, parameters);
        }
        Ok(Process {
            id: program,
            end,
            feed,
            bitten: 0,
            has_input: false,
            stdout,
            rest: Vec::new(),
            looked: 0,
            stderr: stderr.map(|pipe| Stderr::new(pipe, parameters.stderr)),
            reader: Reader::new(parameters.format),
            writer: Writer::new(parameters.format),
            output,
            stopping: false,
            size: parameters.size_policy().map(SharedSize::new),
            unattached,
            hung_up: false,
            timers: timers.clone(),
        })
    }

    /// Gives it input as long as it takes it.
    fn feed(&mut self, handle: ProgramHandle, parameters: &Parameters) {
        if self.unattached {
            return;
        }
        loop {
            self.feed.flush();
            if self.feed.waiting() > 0 {
                return;
            }
            if self.bitten > 0 {
                let count = std::mem::take(&mut self.bitten);
                hub::with(|hub| hub.consume_input(handle, count));
            }
            let mut input = Vec::new();
            // If the zone is damaged, it is repaired when it is used next.
            hub::with(|hub| hub.read_input(handle, BITE, &mut input));
            if input.is_empty() {
                if parameters.has_one_message && !parameters.terminal && self.has_input {
                    // It may read until there is no more.
                    self.feed.close();
                }
                return;
            }
            self.bitten = input.len();
            self.has_input = true;
            if !self.feed.is_open() {
                // It reads no more. That is no reason to end it: it may still write.
                continue;
            }
            for left in input {
                let data = &left.input.data;
                match (left.input.kind, &mut self.size) {
                    (InputKind::Message(kind), size) => {
                        if let Some(size) = size {
                            size.wrote(left.from);
                        }
                        // What a program of lines cannot read was refused before.
                        let _ = self.writer.write(kind, data, true, true, self.feed.queue());
                    }
                    (InputKind::Size, Some(size)) => {
                        if let Some(note) = SizeNote::of_data(data) {
                            size.note(left.from, note);
                        }
                    }
                    // Only programs on terminals have clients that ask for a size.
                    (InputKind::Size, None) => {}
                }
            }
            // Before the program reads what was written for that size.
            self.set_size(parameters);
        }
    }

    /// Sets the terminal to the size that it is to have, and tells the clients.
    fn set_size(&mut self, parameters: &Parameters) {
        let (Some(size), Some(stdout)) = (&mut self.size, &self.stdout) else { return };
        let step = size.step(now());
        if let Some(size) = step.set {
            // A terminal whose program has just ended has no size any more.
            let _ = terminal::resize(stdout.as_fd(), size);
        }
        if let Some(size) = step.tell
            && parameters.shows_terminal()
        {
            self.output.publish(MessageKind::Text, size.to_message().as_bytes(), parameters);
        }
        if let Some(pause) = step.again {
            self.timers.set_resize(pause);
        }
    }

    fn finish_stderr(&mut self, parameters: &Parameters) {
        if let Some(stderr) = &mut self.stderr {
            stderr.finish(&mut Sink { output: &mut self.output, parameters });
        }
    }

    /// Publishes what there is on standard output. Whether there is more.
    fn read_output(&mut self, parameters: &Parameters) -> Result<bool, Ending> {
        let (mut left, mut messages) = (TURN, TURN_MESSAGES);
        loop {
            if !self.pass_on_rest(&mut messages, parameters)? {
                return Ok(true);
            }
            let Some(stdout) = &mut self.stdout else { return Ok(false) };
            // With the last process of the group gone, the end is near: it is looked for instead of being waited for.
            let gone = self.end.is_gone();
            let runs = self.end.status().is_none();
            if !gone && !stdout.readable() && (runs || !self.hung_up) {
                if !self.hung_up && !stdout.watch_read(true) {
                    return Err(Ending { code: CloseCode::INTERNAL, reason: "the program cannot be watched".into() });
                }
                return Ok(false);
            }
            if left == 0 {
                return Ok(true);
            }
            let mut buffer = buffers::take_reading();
            let read = stdout.read(&mut buffer);
            let result = match read {
                Read::Data(count) => {
                    left = left.saturating_sub(count);
                    let octets = &buffer[..count];
                    self.output.pass_on(&mut self.reader, octets, &mut messages, parameters).and_then(|looked| {
                        let rest = octets.get(looked..).unwrap_or_default();
                        let no_memory = |_| no_memory();
                        self.rest.try_reserve_exact(rest.len()).map_err(no_memory)?;
                        self.rest.extend_from_slice(rest);
                        Ok(())
                    })
                }
                Read::Blocked | Read::End | Read::HungUp => Ok(()),
            };
            buffers::put_reading(buffer);
            result?;
            let was_hung_up = std::mem::replace(&mut self.hung_up, matches!(read, Read::HungUp));
            if self.hung_up != was_hung_up && runs {
                // From now on by events of the one kind or of the other.
                let watched = if self.hung_up { stdout.watch_hung_up() } else { stdout.watch_read(false) };
                if !watched {
                    return Err(Ending { code: CloseCode::INTERNAL, reason: "the program cannot be watched".into() });
                }
            }
            match read {
                Read::Data(_) => {}
                Read::Blocked if !gone => {}
                Read::HungUp if runs => stdout.wait_for_event(),
                Read::Blocked | Read::End | Read::HungUp => {
                    self.stdout = None;
                    match self.reader.finish() {
                        Ok(None) => {}
                        Ok(Some(output)) => self.output.put(output, parameters)?,
                        Err(error) => return Err(misframed(error, parameters)),
                    }
                }
            }
        }
    }

    /// Publishes what was read in an earlier turn. Whether there is nothing left of it, and this turn goes on.
    fn pass_on_rest(&mut self, messages: &mut usize, parameters: &Parameters) -> Result<bool, Ending> {
        let rest = self.rest.get(self.looked..).unwrap_or_default();
        if !rest.is_empty() {
            self.looked += self.output.pass_on(&mut self.reader, rest, messages, parameters)?;
            if self.looked < self.rest.len() {
                return Ok(false);
            }
            self.rest = Vec::new();
            self.looked = 0;
        }
        Ok(*messages > 0)
    }
}

impl SharedProcess for Process {
    type Parameters = Parameters;

    fn id(&self) -> ProgramId {
        self.id
    }

    fn attach(&mut self, terminal: Option<OwnedFd>, parameters: &Parameters) -> bool {
        if !std::mem::take(&mut self.unattached) || self.stopping {
            // Nobody waits for it any more: a terminal that is dropped is hung up.
            return true;
        }
        let listener = listener(&self.timers);
        let attached = terminal.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE)).and_then(|terminal| {
            let stdin = Stdin::new(terminal.try_clone()?, listener);
            Ok((stdin, listener.watch(terminal)?))
        });
        match attached {
            Ok((stdin, stdout)) => {
                self.feed.attach(stdin);
                self.stdout = Some(stdout);
                true
            }
            Err(error) => {
                report(Level::Error, format_args!("{} is stopped: {}", parameters.name, Explained(&error)));
                false
            }
        }
    }

    fn keep_sizes(&mut self, workers: &Wake) -> bool {
        self.size.as_mut().is_some_and(|size| {
            size.keep(workers);
            size.has_step()
        })
    }

    fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn is_gone(&self) -> bool {
        self.end.is_gone()
    }

    fn stop(&mut self, parameters: &Parameters) {
        self.stopping = true;
        self.feed.close();
        if parameters.terminal {
            // A terminal is hung up: that is the end of it, for those who take no notice of signals.
            self.stdout = None;
            self.rest = Vec::new();
            self.looked = 0;
        }
        programs::stop(self.id, parameters.ladder());
    }

    fn run(&mut self, program: ProgramHandle, parameters: &Parameters) -> Progress {
        if !self.stopping {
            self.feed(program, parameters);
            self.set_size(parameters);
        }
        if let Some(stderr) = &mut self.stderr {
            stderr.read(&mut Sink { output: &mut self.output, parameters });
        }
        let more = match self.read_output(parameters) {
            Ok(more) => more,
            Err(ending) if self.stopping => {
                let _ = ending;
                self.stdout = None;
                self.rest = Vec::new();
                self.looked = 0;
                false
            }
            Err(ending) => return Progress::Ended(RunEnd::of(ending, self.end.status())),
        };
        if more {
            return Progress::More;
        }
        match self.end.status() {
            _ if self.stopping => {
                if self.end.is_gone() {
                    self.finish_stderr(parameters);
                    return Progress::Left;
                }
            }
            Some(status) if self.stdout.is_none() => {
                self.finish_stderr(parameters);
                return Progress::Ended(RunEnd::of(how(status), Some(status)));
            }
            Some(_) | None => {}
        }
        Progress::Waits
    }

    fn finish_input(&mut self, program: ProgramHandle, parameters: &Parameters) -> Option<u64> {
        if self.end.status().is_some() || !self.feed.is_open() {
            return None;
        }
        self.feed(program, parameters);
        self.feed.look();
        let unread = self.feed.unread();
        if unread == 0 {
            return None;
        }
        let left = PATIENCE.saturating_sub(now().saturating_sub(self.feed.last_taken()));
        if left == 0 {
            let name = &parameters.name;
            let text = format_args!("{name} does not read: {unread} octets of clients that have gone are lost");
            report(Level::Warn, text);
            return None;
        }
        Some(left.min(LOOK))
    }
}

/// Who hears of the pipes of a program.
fn listener(timers: &SharedTimers) -> Listener {
    // SAFETY: ngx_cycle is set before workers begin.
    let log = unsafe { (*ffi::ngx_cycle).log };
    Listener { handler: on_pipe, data: timers.data().as_ptr().cast(), log }
}
