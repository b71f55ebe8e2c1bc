// SPDX-License-Identifier: Apache-2.0

//! The programs of this worker, and the spawners that are their parents.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Arguments;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::spawners::{self, Running, Spawners};
use crate::exec::spawner::{ExitStatus, Failure, Ladder, ProgramDescription, ProgramId, Report, StartStep};
use crate::ledger::{Place, ProgramAhead};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::identity;
use crate::nginx::ledger;
use crate::nginx::log::{self, Level};
use crate::nginx::timer::{Timer, now};
use crate::nginx::user::User;
use crate::session::endpoint::HttpStatus;
use crate::session::program::ProgramEnd;

/// How a program goes that nobody waits for any more, before it runs.
const AT_ONCE: Ladder = Ladder { term_ms: 0, kill_ms: 0, ..Ladder::DEFAULT };

/// Whom a program serves: what is told of it, when this module's table of programs is not borrowed.
pub trait Served {
    /// The program runs; its terminal, if it was to be given one of its own user's.
    fn started(&self, id: ProgramId, pid: i32, terminal: Option<OwnedFd>);

    /// The program could not be started. It is in no table any more.
    fn failed(&self, id: ProgramId, failure: NotStarted<'_>);

    /// The program was not started in time, for the reason that is to be logged; it is being taken down.
    fn timed_out(&self, id: ProgramId, reason: Arguments<'_>);

    /// The program has ended by itself and not well: a line for the log.
    fn report(&self, text: Arguments<'_>);

    /// The program has ended, or the last process of its group is gone, as its [`ProgramEnd`] says.
    fn ended(&self);

    /// The spawner is gone and the program with it, or was never there. It is in no table any more.
    fn lost(&self, id: ProgramId, spawner_was_there: bool);

    /// The worker exits. It is in no table any more.
    fn exit(&self) {}
}

/// Why a program could not be started.
pub struct NotStarted<'a> {
    /// A line for the log.
    pub text: Arguments<'a>,
    /// Something was short that may be there again soon.
    pub is_exhaustion: bool,
    /// Its user may not execute the file, which was found by its path.
    pub is_denied: bool,
}

impl NotStarted<'_> {
    /// The status that its client is refused with; `None` if it may try again soon.
    pub fn status(&self) -> Option<HttpStatus> {
        match (self.is_exhaustion, self.is_denied) {
            (true, _) => None,
            (false, true) => Some(HttpStatus::FORBIDDEN),
            (false, false) => Some(HttpStatus::INTERNAL),
        }
    }
}

/// What a worker keeps of a program that it asks for.
pub struct Asked {
    /// Whom the program is for.
    pub served: Rc<dyn Served>,
    /// Where its end is noted.
    pub end: Rc<ProgramEnd>,
    /// Its place among the programs of the location; `None` for one that waits for a client.
    pub place: Option<Place>,
    /// How the log calls it.
    pub name: String,
    /// How long its start may take, in milliseconds; 0 for no limit.
    pub timeout: u64,
    /// Whom it runs as; `None` for the worker's own user.
    pub user: Option<Rc<User>>,
}

/// One program, from the request to start it until it has ended.
struct Entry {
    served: Option<Rc<dyn Served>>,
    end: Rc<ProgramEnd>,
    name: String,
    /// Counted until the last process of its group is gone.
    place: Option<Place>,
    /// Whether the program was told to stop: how it ends is no news.
    stopped: bool,
    /// When its start is given up, by nginx's clock.
    deadline: Option<u64>,
    /// The number of its spawner.
    spawner: usize,
    /// Whom it runs as; `None` for the worker's own user.
    user: Option<Rc<User>>,
    /// Whether the program was found by its path in a directory, without looking whether another user may execute it.
    found: bool,
}

impl Entry {
    /// What is said of a failure that depends on whom the program was to run as.
    fn as_whom(&self, failure: Failure) -> identity::AsWhom {
        match (&self.user, failure.stage) {
            // Who asks for the user is root.
            (_, StartStep::User) => identity::concerning(0),
            (Some(user), _) => identity::concerning_user(failure.errno, user),
            (None, _) => identity::concerning(failure.errno),
        }
    }

    /// Whether the failure is that of a file that its user may not execute.
    fn is_denied(&self, failure: Failure) -> bool {
        self.found && self.user.is_some() && failure.stage == StartStep::Execute && failure.errno == libc::EACCES
    }
}

#[derive(Default)]
struct Programs {
    spawners: Spawners,
    table: HashMap<u64, Entry>,
    last: u64,
    /// The starts that have a time limit and have not been answered. Invariant: the entry of each has the same time.
    deadlines: BTreeSet<(u64, u64)>,
    timer: Option<Timer>,
}

impl Programs {
    /// The start of a program is not waited for any more.
    fn answered(&mut self, id: ProgramId) {
        if let Some(at) = self.table.get_mut(&id.0).and_then(|entry| entry.deadline.take()) {
            self.deadlines.remove(&(at, id.0));
        }
    }

    fn arm(&mut self) {
        let Some((at, _)) = self.deadlines.first() else { return };
        let timer = self.timer.get_or_insert_with(|| Timer::of_worker(on_deadline).cancelable());
        timer.arm(at.saturating_sub(now()));
    }
}

thread_local! {
    static PROGRAMS: RefCell<Programs> = RefCell::default();
}

/// Starts the spawner of this worker's own user. Those of other users are made for the first program that each has.
pub fn begin() {
    // nginx does not start a worker again that fails here, and a machine may be short of processes for a moment only:
    // whoever asks for a program tries again.
    PROGRAMS.with_borrow_mut(|programs| {
        programs.spawners.launch(None, on_spawner);
    });
}

/// Lets the spawners go, which take the programs down.
pub fn end() {
    let (spawners, table) = PROGRAMS.with_borrow_mut(|programs| {
        programs.deadlines.clear();
        (programs.spawners.take_all(), mem::take(&mut programs.table))
    });
    drop(spawners);
    for entry in table.into_values() {
        if let Some(served) = entry.served {
            served.exit();
        }
    }
}

/// A place for one more program of the location with this key; `None` when there are `most` already.
pub fn admit(key: u64, most: u64) -> Option<Place> {
    ledger::own()?.admit(key as usize, most)
}

/// A place for one more program of the location with this key that is started ahead of its client; `None` when there are `most`.
pub fn admit_ahead(key: u64, most: u64) -> Option<ProgramAhead> {
    ledger::own()?.admit_ahead(key as usize, most)
}

/// How many programs of the location with this key that wait for clients have to give way to those of clients.
pub fn excess(key: u64, most: u64) -> u64 {
    ledger::own().map_or(0, |ledger| ledger.excess(key as usize, most))
}

/// A program of the location with this key could not even be asked for, or could not be started and has no place.
pub fn failed(key: u64) {
    if let Some(ledger) = ledger::own() {
        ledger.program_failed(key as usize);
    }
}

/// Asks for a program, in the directory `found` that it is in or by its path, and with these descriptors. Without any it is
/// given a terminal of its own user's, which comes with the word that it runs. Started or failed, who is served is told, and
/// also when neither has come in time.
///
/// # Errors
///
/// There is no spawner, or it does not take requests.
pub fn start(
    asked: Asked,
    program: &ProgramDescription,
    pipes: Option<[OwnedFd; 3]>,
    found: Option<OwnedFd>,
) -> io::Result<ProgramId> {
    PROGRAMS.with_borrow_mut(|programs| {
        programs.last += 1;
        let id = ProgramId(programs.last);
        let Asked { served, end, place, name, timeout, user } = asked;
        let Some(Running { serial, spawner, watch, .. }) = programs.spawners.launch(user.as_ref(), on_spawner) else {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        };
        let is_found = found.is_some();
        match (pipes, found) {
            (Some(pipes), None) => spawner.start(id, program, pipes)?,
            (Some(pipes), Some(directory)) => spawner.start_in(id, program, pipes, directory)?,
            (None, found) => spawner.start_on_terminal(id, program, found)?,
        }
        watch.write_when(!spawner.flush()?);
        let spawner = *serial;
        let deadline = (timeout != 0).then(|| now() + timeout);
        let entry =
            Entry { served: Some(served), end, name, place, stopped: false, deadline, spawner, user, found: is_found };
        programs.table.insert(id.0, entry);
        if let Some(at) = deadline {
            let is_first = programs.deadlines.first().is_none_or(|(first, _)| at < *first);
            programs.deadlines.insert((at, id.0));
            if is_first {
                programs.arm();
            }
        }
        Ok(id)
    })
}

/// A program serves somebody else from now on. `false` when it is gone.
pub fn leave(id: ProgramId, to: Rc<dyn Served>) -> bool {
    PROGRAMS.with_borrow_mut(|programs| {
        let entry = programs.table.get_mut(&id.0);
        entry.map(|entry| entry.served = Some(to)).is_some()
    })
}

/// A program that has waited for a client serves one from now on, and takes a place of its location.
///
/// # Errors
///
/// It has ended; the place is still there.
pub fn hand_over(id: ProgramId, to: Rc<dyn Served>, place: Place) -> Result<(), Place> {
    PROGRAMS.with_borrow_mut(|programs| {
        let entry = programs.table.get_mut(&id.0).filter(|entry| entry.end.status().is_none() && !entry.stopped);
        let Some(entry) = entry else { return Err(place) };
        debug_assert!(entry.place.is_none(), "a program serves one client");
        entry.served = Some(to);
        entry.place = Some(place);
        Ok(())
    })
}

/// A program is not needed any more: it is taken down step by step.
pub fn stop(id: ProgramId, ladder: Ladder) {
    PROGRAMS.with_borrow_mut(|programs| {
        let Some(entry) = programs.table.get_mut(&id.0) else { return };
        entry.stopped = true;
        if let Some(Running { spawner, watch, .. }) = programs.spawners.numbered(entry.spawner) {
            // A spawner that is gone has taken its programs with it; the next event tells of it.
            let left = spawner.stop(id, ladder).and_then(|()| spawner.flush());
            watch.write_when(matches!(left, Ok(false)));
        }
    });
}

/// Starts have taken longer than they may.
unsafe extern "C" fn on_deadline(_: *mut ffi::ngx_event_t) {
    guard((), || {
        loop {
            let late = PROGRAMS.with_borrow_mut(|programs| {
                let (_, id) = programs.deadlines.first().copied().filter(|(at, _)| *at <= now())?;
                programs.answered(ProgramId(id));
                // Its place is taken until the spawner says that nothing of it is left: a process that hangs is one.
                let entry = programs.table.get_mut(&id)?;
                if let Some(place) = &entry.place {
                    place.failed();
                }
                Some((ProgramId(id), entry.served.take(), entry.name.clone()))
            });
            let Some((id, served, name)) = late else { break };
            stop(id, AT_ONCE);
            let reason = format_args!(
                "cannot start {name}: it takes too long (websocket_exec_start_timeout): does a file system hang, or the spawner?"
            );
            if let Some(served) = served {
                served.timed_out(id, reason);
            }
        }
        PROGRAMS.with_borrow_mut(Programs::arm);
    });
}

/// The spawner has something to say, or takes more.
unsafe extern "C" fn on_spawner(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: this handler is only given to the watches of spawners, so that the event is one of those.
        let serial = unsafe { spawners::serial(event) };
        loop {
            let report = PROGRAMS.with_borrow_mut(|programs| {
                let running = programs.spawners.numbered(serial);
                let Some(Running { spawner, watch, .. }) = running else { return io::Result::Ok(None) };
                // What there is to hear comes first: a spawner that is gone takes nothing, but may have told something before.
                let report = match spawner.receive()? {
                    Some(report) => report,
                    None => {
                        watch.write_when(!spawner.flush()?);
                        let Some(report) = spawner.receive()? else { return Ok(None) };
                        report
                    }
                };
                let terminal = match report {
                    Report::Started { id, .. } => spawner.take_terminal(id),
                    Report::Failed { .. } | Report::Exited { .. } | Report::Gone { .. } => None,
                };
                Ok(Some((report, terminal)))
            });
            match report {
                Ok(Some((report, terminal))) => dispatch(report, terminal),
                Ok(None) => return,
                Err(error) => return replace(serial, &error),
            }
        }
    });
}

fn dispatch(report: Report, terminal: Option<OwnedFd>) {
    match report {
        Report::Started { id, pid } => {
            if let Some(served) = started(id) {
                served.started(id, pid, terminal);
            }
        }
        Report::Failed { id, failure } => {
            // It takes no place any more when the client hears of it, which may at once try again.
            let Some(entry) = forget(id) else { return };
            if let Some(place) = &entry.place {
                place.failed();
            }
            let as_whom = entry.as_whom(failure);
            let is_denied = entry.is_denied(failure);
            let Entry { served, name, place, .. } = entry;
            drop(place);
            if let Some(served) = served {
                let text = format_args!("cannot start {name}: {failure}{as_whom}");
                served.failed(id, NotStarted { text, is_exhaustion: failure.is_exhaustion(), is_denied });
            }
        }
        Report::Exited { id, status, gone } => {
            if status != ExitStatus::Code(0) {
                report_end(id, status);
            }
            let served = update(id, |end| {
                end.ended(status);
                if gone {
                    end.gone();
                }
            });
            if gone {
                drop(forget(id));
            }
            tell(served);
        }
        Report::Gone { id } => {
            let served = update(id, ProgramEnd::gone);
            drop(forget(id));
            tell(served);
        }
    }
}

/// Notes what became of a program; whom it serves is to look at it.
fn update(id: ProgramId, body: impl FnOnce(&ProgramEnd)) -> Option<Rc<dyn Served>> {
    PROGRAMS.with_borrow(|programs| {
        let entry = programs.table.get(&id.0)?;
        body(&entry.end);
        entry.served.clone()
    })
}

/// A program runs. Whom it serves.
fn started(id: ProgramId) -> Option<Rc<dyn Served>> {
    PROGRAMS.with_borrow_mut(|programs| {
        programs.answered(id);
        programs.table.get(&id.0)?.served.clone()
    })
}

/// A program has ended by itself, and not well: that is in the log, as its client may not tell anybody.
fn report_end(id: ProgramId, status: ExitStatus) {
    let ended = PROGRAMS.with_borrow(|programs| {
        let entry = programs.table.get(&id.0).filter(|entry| !entry.stopped)?;
        Some((entry.served.clone()?, entry.name.clone()))
    });
    let Some((served, name)) = ended else { return };
    served.report(format_args!("{name} ended by itself with {status}"));
}

/// Lets it look at what became of its program.
fn tell(served: Option<Rc<dyn Served>>) {
    if let Some(served) = served {
        served.ended();
    }
}

/// Takes an entry out of the table; what it owns is to be dropped where the table is not borrowed.
fn forget(id: ProgramId) -> Option<Entry> {
    PROGRAMS.with_borrow_mut(|programs| {
        programs.answered(id);
        programs.table.remove(&id.0)
    })
}

/// A spawner is gone, and its programs with it.
fn replace(serial: usize, error: &io::Error) {
    let Some(gone) = PROGRAMS.with_borrow_mut(|programs| programs.spawners.take(serial)) else { return };
    // Of one that has never been there, nothing has been started.
    let was_there = gone.spawner.has_begun();
    match &gone.user {
        None => log::cycle(Level::Error, format_args!("ws_exec: the process that starts programs is gone: {error}")),
        Some(user) => {
            let text =
                format_args!("ws_exec: the process that starts programs as {} is gone: {error}", user.identity());
            log::cycle(Level::Error, text);
        }
    }
    let is_own = gone.user.is_none();
    drop(gone);
    let lost: Vec<(u64, Entry)> = PROGRAMS.with_borrow_mut(|programs| {
        let ids: Vec<u64> =
            programs.table.iter().filter(|(_, entry)| entry.spawner == serial).map(|(id, _)| *id).collect();
        let lost = ids.into_iter().filter_map(|id| {
            programs.answered(ProgramId(id));
            Some((id, programs.table.remove(&id)?))
        });
        lost.collect()
    });
    if is_own {
        begin();
    }
    // None of them runs any more when those hear of it who start another one.
    let served: Vec<_> = lost.into_iter().filter_map(|(id, entry)| Some((id, entry.served?))).collect();
    for (id, served) in served {
        served.lost(ProgramId(id), was_there);
    }
}
