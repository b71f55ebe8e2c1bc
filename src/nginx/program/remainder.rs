// SPDX-License-Identifier: Apache-2.0

//! A program whose client has gone: what the client has sent before is still given to it, and what it says is read.
//!
//! It owns itself: the list of the worker's programs points to it, and so do the events of its pipes, until the last process
//! of the program is gone. The time is bounded: a program that takes nothing of its input is stopped, and so is, from the
//! end of its input on, any other (`websocket_exec_stop`), at once or when it has had its time to write the rest. The memory is what was queued for it when the client went.

use std::cell::Cell;
use std::ffi::c_void;
use std::fmt::Arguments;
use std::mem;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::rc::Rc;

use super::stderr::Reader as StderrReader;
use super::{Feed, Listener, Notes, Stderr, Stdin, unread};
use crate::exec::framing::{Output, Reader};
use crate::exec::spawner::{Ladder, ProgramId};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::{self, Level};
use crate::nginx::pipe::{Pipe, Read};
use crate::nginx::session::{self, Session, SessionRef};
use crate::nginx::timer::{self, Timer, now};
use crate::nginx::worker::programs::{self, NotStarted, Served};
use crate::session::buffers;
use crate::session::endpoint::Input;
use crate::session::program::ProgramEnd;

/// Milliseconds in which a program must take something of its input, or it counts as one that does not read.
pub const PATIENCE: u64 = 2_000;

/// Milliseconds between two looks at what the program has read: nothing tells of that. They double from the one to the other.
const FIRST_LOOK: u64 = 1;
const LAST_LOOK: u64 = 100;

/// Milliseconds that a program on a terminal has for the end of its input before the terminal is hung up.
const HANG_UP: u64 = 100;

/// Octets of output that are read and dropped without the program taking any input: more is not read, as if a client did not
/// read.
const OUTPUT: usize = 16 << 20;

/// Reads of a program's standard output once it has ended: more than a pipe holds.
const LAST_READS: u32 = 16;

/// A program whose client has gone, or none of which has come.
pub struct Remainder {
    id: ProgramId,
    /// How the log calls it.
    name: String,
    end: Rc<ProgramEnd>,
    ladder: Ladder,
    terminal: bool,
    stage: RemainderStage,
    feed: Feed,
    stdout: Option<Pipe>,
    stderr: Option<Stderr>,
    /// What it notes, if it can.
    notes: Option<Notes>,
    /// Looks for notes in what it says, as long as that is in the format `messages`.
    reader: Option<Reader>,
    /// All that it had noted when it ended is taken.
    has_noted: bool,
    /// Octets of output that may still be dropped.
    output: usize,
    grace: u64,
    /// The session that waits for the end of the program, if one does. Invariant: it does not wait once it is gone.
    awaited: Option<(SessionRef, Rc<Cell<bool>>)>,
    /// Fires for the next step, and keeps the worker until the program is gone.
    timer: Timer,
}

/// What a session, a request that a program has answered, or a pool leaves of the program.
pub struct Left {
    pub id: ProgramId,
    pub name: String,
    pub end: Rc<ProgramEnd>,
    pub ladder: Ladder,
    pub terminal: bool,
    pub feed: Feed,
    pub stdout: Option<Pipe>,
    pub stderr: Option<Stderr>,
    /// What it notes, if it can.
    pub notes: Option<Notes>,
    /// Who has read its standard output, if there may be notes in it.
    pub reader: Option<Reader>,
    /// Milliseconds that it has for what it still writes, once it has read its input, before it is stopped.
    pub grace: u64,
    /// The session that has left it, and whether that waits for the end of the program; `None` where there was no session.
    pub awaited: Option<(SessionRef, Rc<Cell<bool>>)>,
}

/// How far the program is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemainderStage {
    /// The program is given its input; the next look at what it has read comes after this time.
    Feeding { pause: u64 },
    /// The program has no input any more; what it writes is read until it closes its standard output, or until then.
    Writing { until: u64 },
    /// The program is being stopped, and has been told by its terminal that the input ends, which is hung up at this time.
    HangingUp { at: u64 },
    /// The program has no input any more, and is being stopped.
    Stopping,
}

/// Takes over a program that is not gone.
pub fn begin(left: Left, input: Input) {
    let Left { id, name, end, ladder, terminal, feed, stdout, stderr, notes, reader, grace, awaited } = left;
    // SAFETY: ngx_cycle is set before workers begin, and its log outlives them.
    let log = unsafe { (*ffi::ngx_cycle).log };
    let mut remainder = Box::new(Remainder {
        id,
        name,
        end,
        ladder,
        terminal,
        stage: RemainderStage::Feeding { pause: FIRST_LOOK },
        feed,
        stdout,
        stderr,
        notes,
        reader,
        has_noted: false,
        output: OUTPUT,
        grace,
        awaited,
        timer: Timer::of_worker(on_timer),
    });
    let data: *mut Remainder = &raw mut *remainder;
    let Some(this) = NonNull::new(data) else { return };
    remainder.timer.set_owner(data.cast());
    let listener = Listener { handler: on_pipe, data: data.cast::<c_void>(), log };
    remainder.feed.listen(listener);
    if let Some(pipe) = &remainder.stdout {
        pipe.listen(listener);
    }
    if let Some(stderr) = &remainder.stderr {
        stderr.listen(listener);
    }
    if let Some(notes) = &mut remainder.notes {
        notes.listen(listener);
    }
    if !programs::leave(id, Rc::new(AwaitedEnd(this))) {
        // The spawner is gone, and the program with it.
        return;
    }
    // Given back by free().
    Box::leak(remainder).start(input);
}

/// A remainder that is told of its program until the last process is gone, and freed then.
struct AwaitedEnd(NonNull<Remainder>);

impl Served for AwaitedEnd {
    fn started(&self, _: ProgramId, _: i32, _: Option<OwnedFd>) {}

    fn failed(&self, _: ProgramId, _: NotStarted<'_>) {
        free(self.0);
    }

    fn timed_out(&self, _: ProgramId, _: Arguments<'_>) {
        // The client had gone before the program ran: nobody waits for it.
    }

    fn report(&self, text: Arguments<'_>) {
        log::cycle(Level::Error, text);
    }

    fn ended(&self) {
        run(self.0);
    }

    fn lost(&self, _: ProgramId, _: bool) {
        free(self.0);
    }

    fn exit(&self) {
        free(self.0);
    }
}

/// Serves it after an event. It may be gone when this returns.
fn run(this: NonNull<Remainder>) {
    // SAFETY: the list of programs and the events point to it until free(). Its own handlers call sessions only, and those
    // have nothing to do with it any more.
    let remainder = unsafe { &mut *this.as_ptr() };
    let session = guard(None, || {
        remainder.go_on();
        let (session, is_awaited) = remainder.awaited.as_ref().filter(|_| remainder.end.status().is_some())?;
        is_awaited.take().then_some(*session)
    });
    if remainder.end.is_gone() {
        free(this);
    }
    if let Some(session) = session {
        session::run(session, Session::pump);
    }
}

/// The program is gone, or will not be told of any more.
fn free(this: NonNull<Remainder>) {
    // SAFETY: leaked by begin(), and taken off the list of programs by whoever calls this, so that it is freed once.
    let mut remainder = unsafe { Box::from_raw(this.as_ptr()) };
    guard((), || remainder.finish());
}

impl Remainder {
    fn start(&mut self, input: Input) {
        self.feed.look();
        let cut = input == Input::Cut && now().saturating_sub(self.feed.last_taken()) >= PATIENCE;
        if cut || self.feed.unread() == 0 {
            // A terminal that has been read is hung up at once: that is the end of a terminal.
            if cut {
                self.report_lost();
            }
            self.hang_up();
            self.stop();
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        self.read();
        match self.stage {
            RemainderStage::Feeding { pause } => self.feed_on(pause),
            RemainderStage::Writing { until } => self.write_on(until),
            RemainderStage::HangingUp { at } if at <= now() || self.end.status().is_some() => {
                self.hang_up();
                self.stay();
            }
            RemainderStage::HangingUp { .. } | RemainderStage::Stopping => {}
        }
    }

    /// Gives it input as long as it takes it.
    fn feed_on(&mut self, pause: u64) {
        let moved = self.feed.flush();
        if self.feed.look() || moved {
            self.output = OUTPUT;
        }
        let unread = self.feed.unread();
        if self.end.status().is_some() || !self.feed.is_open() {
            if unread > 0 {
                let name = &self.name;
                let text = format_args!("{name} has ended: {unread} octets of a client that has gone are not read");
                log::cycle(Level::Info, text);
            }
            self.hang_up();
            return self.stop();
        }
        if unread == 0 {
            return self.end_input();
        }
        let left = PATIENCE.saturating_sub(now().saturating_sub(self.feed.last_taken()));
        if left == 0 {
            self.report_lost();
            self.hang_up();
            return self.stop();
        }
        self.stage = RemainderStage::Feeding { pause: (pause * 2).min(LAST_LOOK) };
        self.timer.disarm();
        self.timer.arm(pause.min(left));
    }

    fn report_lost(&self) {
        let (name, unread) = (&self.name, self.feed.unread());
        if unread > 0 {
            let text = format_args!("{name} does not read: {unread} octets of a client that has gone are lost");
            log::cycle(Level::Warn, text);
        } else {
            log::cycle(Level::Warn, format_args!("{name} does not read: input of a client that has gone is lost"));
        }
    }

    /// Everything is read.
    fn end_input(&mut self) {
        if !self.terminal {
            self.hang_up();
            return self.stop();
        }
        // A program that reads lines is told, so that what it does with the last one is not cut short by a hang-up.
        let end = self.feed.stdin().and_then(Stdin::fd).and_then(unread::end_of_input);
        if let Some(end) = end {
            self.feed.queue().push(end);
            self.feed.flush();
        }
        self.stop();
        self.stage = RemainderStage::HangingUp { at: now() + HANG_UP };
        self.timer.disarm();
        self.timer.arm(HANG_UP);
    }

    /// The program gets nothing more. For a terminal that is the end of it.
    fn hang_up(&mut self) {
        self.feed.close();
        if self.terminal {
            self.read_last();
            self.stdout = None;
        }
        self.stage = RemainderStage::Stopping;
    }

    /// Nothing is left for the program to read: it is taken down, at once or when it has written what it has to say.
    fn stop(&mut self) {
        match mem::take(&mut self.grace) {
            0 => self.take_down(),
            grace => self.write_on(now() + grace),
        }
    }

    /// Reads it until it ends, closes its standard output, or has had its time.
    fn write_on(&mut self, until: u64) {
        let left = until.saturating_sub(now());
        if left == 0 || self.stdout.is_none() || self.end.status().is_some() {
            return self.take_down();
        }
        self.stage = RemainderStage::Writing { until };
        self.timer.disarm();
        self.timer.arm(left);
    }

    /// The program is taken down by its ladder from now on.
    fn take_down(&mut self) {
        programs::stop(self.id, self.ladder);
        self.stage = RemainderStage::Stopping;
        self.stay();
    }

    /// The worker stays until the ladder is through; the spawner tells of the end.
    fn stay(&mut self) {
        self.timer.disarm();
        self.timer.arm(u64::from(self.ladder.kill_ms.max(self.ladder.term_ms)).saturating_add(1_000));
    }

    /// Reads what it says: it should neither die of a broken pipe in the middle of that, nor wait for somebody to read.
    fn read(&mut self) {
        if let Some(stderr) = &mut self.stderr {
            stderr.read(&mut Journal { name: &self.name });
        }
        let has_ended = self.end.status().is_some();
        match &mut self.notes {
            // What its children note on a line is taken as it comes from then on.
            Some(notes) if has_ended && !mem::replace(&mut self.has_noted, true) => notes.finish(),
            Some(notes) => drop(notes.read()),
            None => {}
        }
        if has_ended && self.reader.is_some() {
            // Whoever logs the session does so now, with all that the program has noted.
            self.read_last();
        } else {
            self.read_output(false);
        }
    }

    /// Takes the notes of all that it has said up to now, without waiting for an event.
    fn read_last(&mut self) {
        let mut reads = 0;
        while reads < LAST_READS && self.reader.is_some() && self.read_output(true) {
            reads += 1;
        }
    }

    /// Reads once from its standard output, after an event or without one. Whether anything came.
    fn read_output(&mut self, looks: bool) -> bool {
        let Some(stdout) = &mut self.stdout else { return false };
        if self.output == 0 && !looks {
            stdout.watch_read(false);
            return false;
        }
        if !looks && !stdout.readable() {
            stdout.watch_read(true);
            return false;
        }
        let mut buffer = buffers::take_reading();
        let read = stdout.read(&mut buffer);
        match read {
            Read::Data(count) => {
                self.output = self.output.saturating_sub(count);
                stdout.watch_read(true);
                self.look_for_notes(&buffer[..count]);
            }
            Read::Blocked => {
                stdout.watch_read(true);
            }
            // Nobody has the terminal open: what becomes of the program is told by the spawner.
            Read::End | Read::HungUp => self.stdout = None,
        }
        buffers::put_reading(buffer);
        matches!(read, Read::Data(_))
    }

    fn look_for_notes(&mut self, octets: &[u8]) {
        if let Some(notes) = &mut self.notes {
            take_notes(&mut self.reader, notes, octets);
        }
    }

    /// What it has said on standard error is for the log.
    fn finish(&mut self) {
        if let Some(stderr) = &mut self.stderr {
            stderr.finish(&mut Journal { name: &self.name });
        }
        if let Some(notes) = &mut self.notes {
            notes.finish();
        }
    }
}

/// Takes the notes of what a program says; all else is for a client that has gone.
fn take_notes(own: &mut Option<Reader>, notes: &mut Notes, mut octets: &[u8]) {
    let Some(reader) = own else { return };
    loop {
        match reader.next(octets) {
            Ok((consumed, Some(output))) => {
                octets = octets.get(consumed..).unwrap_or_default();
                if let Output::Note { text } = output {
                    notes.take(text);
                }
            }
            Ok((_, None)) => return,
            // What follows is not known to be records.
            Err(_) => break,
        }
    }
    *own = None;
}

/// Takes the notes of what a program that is gone has said to a client that went before it was read.
pub fn take_last_notes(stdout: &mut Pipe, reader: Reader, notes: &mut Notes) {
    let mut reader = Some(reader);
    let mut buffer = buffers::take_reading();
    for _ in 0..LAST_READS {
        let Read::Data(count) = stdout.read(&mut buffer) else { break };
        take_notes(&mut reader, notes, &buffer[..count]);
        if reader.is_none() {
            break;
        }
    }
    buffers::put_reading(buffer);
}

/// Takes the lines of standard error.
struct Journal<'a> {
    name: &'a str,
}

impl StderrReader for Journal<'_> {
    fn has_room(&self) -> bool {
        true
    }

    fn in_message(&self) -> bool {
        false
    }

    fn text(&mut self, _: &str) {
        // The text is for a client that has gone.
    }

    fn complain(&self, text: std::fmt::Arguments<'_>) {
        log::cycle(Level::Error, format_args!("{}: {text}", self.name));
    }
}

/// The time is up.
unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    // SAFETY: the owner of the timer is the remainder, which removes it before it is freed.
    if let Some(this) = unsafe { timer::owner::<Remainder>(event) } {
        // SAFETY: the remainder is there as long as its timer, by which it was found.
        unsafe { (*this.as_ptr()).timer.take_expired() };
        run(this);
    }
}

/// Something can be read of the program, or be written to it.
unsafe extern "C" fn on_pipe(event: *mut ffi::ngx_event_t) {
    // SAFETY: the event of a connection has the connection as its data, and that what owns it. When the worker is being shut
    // down nginx marks every connection; the end of the worker ends the program.
    let this = unsafe {
        let connection = (*event).data.cast::<ffi::ngx_connection_t>();
        if (*connection).close() != 0 {
            return;
        }
        NonNull::new((*connection).data.cast::<Remainder>())
    };
    if let Some(this) = this {
        run(this);
    }
}
