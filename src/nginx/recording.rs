// SPDX-License-Identifier: Apache-2.0

//! Recordings of the sessions of a worker (`websocket_record`), and the process that writes them.
//!
//! A worker must not wait for a file system. So it sends what is to be written to a process of its own, over a socket that it
//! never waits for either: what the socket does not take is queued, for each session and for all of them up to a limit, and
//! what the queue does not take is lost for the recording. One process writes all recordings of a worker, one after the other; it has nothing to do
//! with programs and how they are started.

mod lane;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt::Arguments;
use std::io;
use std::mem;
use std::ptr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lane::Lane;

use super::ffi;
use super::guard::guard;
use super::log::{self, Level, Octets};
use super::pipe::Watch;
use super::request::Request;
use super::session::context::Context;
use super::timer::now;
use super::worker::spawners;
use crate::conf::{EnvEntry, RecordingForm, Recordings as Wanted};
use crate::exec::framing::Format;
use crate::exec::spawner::{Role, SideProcess};
use crate::exec::terminal::Size;
use crate::nginx::template::ComplexValue;
use crate::recording::asciicast::{self, Asciicast};
use crate::recording::lines::{self, Lines};
use crate::recording::queue::{Queue, Total};
use crate::recording::wire::{self, RecordingId, Report, Request as Packet};
use crate::recording::{Form, Missing, Recorder, Sink, Taken, name, novnc, writer};

/// How long a worker that exits waits at most for what is queued, in milliseconds. nginx's master kills one that takes longer
/// than a second.
const LAST_WAIT: u64 = 500;

/// Octets of a path that the system takes at most.
const LONGEST_PATH: usize = libc::PATH_MAX as usize;

/// Octets of a name that the log shows.
const LONGEST_SHOWN: usize = 300;

/// Octets for which there is to be room when a recording begins: its first line, most of the time.
const BEGINNING: usize = 512;

/// The kind of terminal where the location does not say which.
const TERM: &[u8] = b"xterm-256color";

/// The process, and nginx's watch over its socket.
struct Running {
    process: SideProcess,
    watch: Watch,
}

/// All of a worker.
#[derive(Default)]
struct Recordings {
    running: Option<Running>,
    lanes: HashMap<RecordingId, Lane>,
    /// Those with something to send. Each has one packet in its turn, but for those whose session has ended: they have all of
    /// theirs, so that the process has no more files open than there are sessions.
    ///
    /// Invariant: each is there once, and its lane says so.
    waiting: VecDeque<RecordingId>,
    /// What waits in all lanes.
    total: Rc<Total>,
    last: u64,
    packet: Vec<u8>,
}

thread_local! {
    static RECORDINGS: RefCell<Recordings> = RefCell::default();
}

/// Makes the process, early, as long as the worker has little memory. One that dies is replaced when a session begins.
pub fn begin() {
    RECORDINGS.with_borrow_mut(|recordings| {
        recordings.launch();
    });
}

/// The worker exits: what is queued is passed on, if that does not take long.
pub fn end() {
    RECORDINGS.with_borrow_mut(|recordings| {
        let until = Instant::now() + Duration::from_millis(LAST_WAIT);
        recordings.pass_on();
        while !recordings.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let Some(running) = recordings.running.as_ref().filter(|_| !left.is_zero()) else { break };
            running.process.wait(u64::try_from(left.as_millis()).unwrap_or(LAST_WAIT).max(1));
            // A process whose reports nobody reads waits with the next one, and reads nothing meanwhile.
            recordings.listen();
            recordings.pass_on();
        }
        for lane in recordings.lanes.values_mut().filter(|lane| lane.has_work()) {
            lane.fail(format_args!("lacks its end: it could not be written before the worker exits"));
        }
        *recordings = Recordings::default();
    });
}

/// Begins to record a session that has just been opened, if its location says so.
pub fn open(request: Request<'_>, context: &Context) -> Option<Box<Recorder>> {
    let wanted = request.settings().recording()?;
    let complain = |name: &[u8], reason: Arguments<'_>| {
        // A line of the log may be too short for the name.
        let (directory, name) = (Octets(&wanted.directory), Octets(name));
        let text =
            format_args!("the session is not recorded (websocket_record): {reason}: \"{name}\" in \"{directory}\"");
        request.report(Level::Error, text);
    };
    let Some(said) = wanted.file.evaluate(request) else {
        complain(wanted.file.text(), format_args!("there is no memory for the name"));
        return None;
    };
    let path = match name::below(&wanted.directory, said) {
        Ok(path) => path?,
        Err(unfit) => {
            complain(said, format_args!("{unfit}"));
            return None;
        }
    };
    if wanted.directory.len() + path.len() >= LONGEST_PATH {
        complain(said, format_args!("it is too long"));
        return None;
    }
    let (form, header) = form(request, context, &wanted);
    let name = shown(&[&wanted.directory[..], path].concat());
    let id = RECORDINGS.with_borrow_mut(|recordings| {
        recordings.total.limit(usize::try_from(request.settings().record_queue()).unwrap_or(usize::MAX));
        let file = (wanted.directory.clone(), path.to_vec());
        let lane = Lane::new(name, request.log(), file, Queue::new(wanted.buffer, &recordings.total));
        recordings.enter(lane)
    })?;
    Some(Box::new(Recorder::begin(form, header, Box::new(Handle(id)), now())))
}

/// A name for lines of the log, which have to have room for what is said of it.
fn shown(name: &[u8]) -> String {
    match name.get(..LONGEST_SHOWN) {
        Some(beginning) if name.len() > LONGEST_SHOWN => format!("\"{}...\"", Octets(beginning)),
        Some(_) | None => format!("\"{}\"", Octets(name)),
    }
}

/// The form of a recording, and what it begins with.
fn form(request: Request<'_>, context: &Context, wanted: &Wanted<ComplexValue>) -> (Form, String) {
    let settings = request.settings();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match wanted.form {
        RecordingForm::Usual if settings.has_terminal() => {
            let seconds = i64::try_from(began.as_secs()).unwrap_or_default();
            let header = asciicast::header(Size::default(), seconds, &term(request));
            let (has_lines, is_shared) = (settings.exec_format() == Format::Lines, settings.shared_program().is_some());
            (Form::Asciicast(Asciicast::new(has_lines, is_shared)), header)
        }
        RecordingForm::Usual | RecordingForm::Json => {
            let milliseconds = u64::try_from(began.as_millis()).unwrap_or_default();
            let endpoint = context.endpoint.get().unwrap_or_default();
            (Form::Lines(Lines::new(wanted.buffer)), lines::header(milliseconds, endpoint, context.protocol()))
        }
        RecordingForm::Novnc => (Form::Novnc, novnc::HEADER.to_owned()),
    }
}

/// The kind of terminal that the program is told of.
fn term(request: Request<'_>) -> Vec<u8> {
    let entries = request.settings().exec_env();
    let value = entries.iter().rev().find_map(|entry| match entry {
        EnvEntry::Set(name, template) if name == b"TERM" => template.evaluate(request).map(<[u8]>::to_vec),
        EnvEntry::Pass(name) if name == b"TERM" => spawners::own_environment(name),
        EnvEntry::Set(..) | EnvEntry::Pass(_) => None,
    });
    value.filter(|value| !value.is_empty()).unwrap_or_else(|| TERM.to_vec())
}

/// A recording, for its session.
struct Handle(RecordingId);

impl Sink for Handle {
    fn take(&mut self, lines: &[u8]) -> Taken {
        RECORDINGS.with_borrow_mut(|recordings| recordings.take(self.0, lines))
    }

    fn flush(&mut self) {
        RECORDINGS.with_borrow_mut(Recordings::pass_on);
    }

    fn end(&mut self, lines: &[u8], missing: Missing) {
        RECORDINGS.with_borrow_mut(|recordings| recordings.end(self.0, lines, missing));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whatever became of the session, its log is not written to any more.
        RECORDINGS.with_borrow_mut(|recordings| recordings.let_go(self.0));
    }
}

/// What came of a packet.
enum Passed {
    /// It is on its way.
    On,
    /// There is no room.
    Blocked,
}

impl Recordings {
    /// Makes the process, unless there is one. Whether there is one then.
    fn launch(&mut self) -> bool {
        if self.running.is_some() {
            return true;
        }
        let launched = spawners::without_connections(|| {
            SideProcess::launch(Role::Recorder, spawners::baseline(), spawners::set_title, writer::serve)
        });
        // SAFETY: the cycle's log lives as long as the worker.
        let log = unsafe { (*ffi::ngx_cycle).log };
        let watched = launched.and_then(|process| {
            let watch = Watch::new(process.fd(), on_process, ptr::null_mut(), log)?;
            Ok(Running { process, watch })
        });
        match watched {
            Ok(running) => {
                self.running = Some(running);
                true
            }
            Err(error) => {
                let text = format_args!("ws_exec: the process that writes recordings cannot be started: {error}");
                log::cycle(Level::Error, text);
                false
            }
        }
    }

    /// A recording begins. `None` if there is nobody to write it.
    fn enter(&mut self, mut lane: Lane) -> Option<RecordingId> {
        if !self.launch() {
            lane.fail(format_args!("is not written: there is no process that could"));
            return None;
        }
        if !self.total.has_room(lane.size() + BEGINNING) {
            self.pass_on();
        }
        if !self.total.has_room(lane.size() + BEGINNING) {
            let text = "is not written: others wait to be written, and \"websocket_record_queue\" has no room";
            lane.fail(format_args!("{text}"));
            return None;
        }
        self.last += 1;
        let id = RecordingId(self.last);
        self.lanes.insert(id, lane);
        self.wait(id);
        Some(id)
    }

    /// It is the turn of a recording, after those that wait already, if it has something to send.
    fn wait(&mut self, id: RecordingId) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && lane.has_work()
            && !mem::replace(&mut lane.waits, true)
        {
            self.waiting.push_back(id);
        }
    }

    /// A recording has had its turn, and may have something left to send.
    fn wait_again(&mut self, id: RecordingId) {
        match self.lanes.get_mut(&id) {
            Some(lane) if lane.has_ended && lane.has_work() => {
                lane.waits = true;
                self.waiting.push_front(id);
            }
            Some(_) | None => self.wait(id),
        }
    }

    /// Queues lines of a recording.
    fn take(&mut self, id: RecordingId, lines: &[u8]) -> Taken {
        if self.lanes.get(&id).is_some_and(|lane| !lane.queue.has_room(lines.len())) {
            self.pass_on();
        }
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.has_failed) else { return Taken::Never };
        if !lane.queue.push(lines) {
            let has_own_room = lane.queue.has_own_room(lines.len());
            lane.full.own |= !has_own_room;
            lane.full.total |= has_own_room;
            return Taken::None;
        }
        let is_much = lane.queue.len() >= wire::MOST;
        self.wait(id);
        if is_much {
            self.pass_on();
        }
        Taken::All
    }

    /// The session has ended.
    fn end(&mut self, id: RecordingId, lines: &[u8], missing: Missing) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if !missing.is_none() {
            let Missing { messages, octets } = missing;
            if lane.has_failed {
                let text = format_args!("lacks {messages} messages with {octets} octets, which came after its end");
                lane.report(Level::Notice, text);
            } else {
                let full = lane.full.directives();
                let text = format_args!(
                    "lacks {messages} messages with {octets} octets: they came faster than they could be written, and {full}"
                );
                lane.report(Level::Error, text);
            }
        }
        if !lane.has_failed {
            lane.queue.append(lines);
        }
        lane.finish();
        self.wait(id);
        self.pass_on();
    }

    /// The log of the session is not there any more.
    fn let_go(&mut self, id: RecordingId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.log = ptr::null_mut();
            lane.finish();
            if lane.has_failed {
                self.lanes.remove(&id);
            } else {
                self.wait(id);
            }
        }
    }

    /// Sends what the process takes.
    fn pass_on(&mut self) {
        while let Some(id) = self.waiting.pop_front() {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.waits = false;
            if !lane.has_work() {
                continue;
            }
            let Some(running) = &mut self.running else { return };
            match send(&running.process, id, lane, &mut self.packet) {
                Ok(Passed::On) => self.wait_again(id),
                Ok(Passed::Blocked) => {
                    lane.waits = true;
                    self.waiting.push_front(id);
                    running.watch.write_when(true);
                    return;
                }
                Err(error) => {
                    // What it has told before it went is still there.
                    self.listen();
                    if self.running.is_some() {
                        self.lost(&error);
                    }
                    return;
                }
            }
        }
    }

    /// What the process has to say.
    fn listen(&mut self) {
        loop {
            let Some(running) = &self.running else { return };
            let mut packet = [0; wire::REPORT];
            match running.process.receive(&mut packet) {
                Ok(None) => return,
                Ok(Some(length)) => match packet.get(..length).and_then(wire::read_report) {
                    Some(report) => self.told(&report),
                    None => return self.lost(&io::ErrorKind::InvalidData.into()),
                },
                Err(error) => return self.lost(&error),
            }
        }
    }

    /// A recording has come to an end.
    fn told(&mut self, report: &Report) {
        let Report { id, written, failure } = *report;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let waiting = lane.queue.len();
        match failure {
            Some(failure) if written == 0 => lane.fail(format_args!("is not written: {failure}")),
            Some(failure) => {
                let lost = format_args!("{waiting} octets that waited are lost, and what follows");
                lane.fail(format_args!("ends after {written} octets: {failure}; {lost}"));
            }
            None => {}
        }
        if lane.has_ended {
            self.lanes.remove(&id);
        }
    }

    /// The process is gone.
    fn lost(&mut self, error: &io::Error) {
        self.running = None;
        self.waiting.clear();
        log::cycle(Level::Error, format_args!("ws_exec: the process that writes recordings is gone: {error}"));
        for lane in self.lanes.values_mut() {
            lane.waits = false;
            lane.fail(format_args!("is not written any further: the process that writes it is gone"));
        }
        self.lanes.retain(|_, lane| !lane.has_ended);
    }
}

/// Sends one packet of a recording.
fn send(process: &SideProcess, id: RecordingId, lane: &mut Lane, packet: &mut Vec<u8>) -> io::Result<Passed> {
    let (request, count) = match &lane.file {
        Some((directory, path)) => (Packet::Open { directory, path }, 0),
        None if lane.queue.is_empty() => (Packet::Close, 0),
        None => {
            let octets = lane.queue.first(wire::MOST);
            (Packet::Write(octets), octets.len())
        }
    };
    wire::write_request(id, request, packet);
    if !process.send(packet)? {
        return Ok(Passed::Blocked);
    }
    match request {
        Packet::Open { .. } => lane.file = None,
        Packet::Write(_) => lane.queue.leave(count),
        Packet::Close => lane.is_closed = true,
    }
    Ok(Passed::On)
}

/// The process has something to say, or takes more.
unsafe extern "C" fn on_process(_: *mut ffi::ngx_event_t) {
    guard((), || {
        RECORDINGS.with_borrow_mut(|recordings| {
            recordings.listen();
            recordings.pass_on();
        });
    });
}
