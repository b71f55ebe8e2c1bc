//! The programs of this worker, and the spawner that is their parent.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::OnceLock;

use crate::exec::spawner::{Baseline, ExitStatus, Ladder, Program, ProgramId, Report, Role, Spawner};
use crate::ledger::Place;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::identity;
use crate::nginx::log::{self, Level};
use crate::nginx::pipe::Watch;
use crate::nginx::program::Fate;
use crate::nginx::program::remainder::{self, Remainder};
use crate::nginx::session::{self, Session, SessionRef};
use crate::nginx::shared::{self, SharedId};
use crate::nginx::timer::{Timer, now};
use crate::nginx::upgrade::try_again;
use crate::nginx::worker;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
const TIMED_OUT: isize = ffi::NGX_HTTP_GATEWAY_TIME_OUT as isize;

/// How a program goes that nobody waits for any more, before it runs.
const AT_ONCE: Ladder = Ladder { term_ms: 0, kill_ms: 0, ..Ladder::DEFAULT };

/// Whom a program serves.
#[derive(Debug, Clone, Copy)]
pub enum Served {
    /// One session. It is told nothing once it has ended.
    Session(SessionRef),
    /// All clients of a channel. Their side is told until the last process is gone.
    Channel(SharedId),
    /// Nobody any more. What is left of it is told until the last process is gone, and freed then.
    Remainder(NonNull<Remainder>),
}

/// What a worker keeps of a program that it asks for.
pub struct Asked {
    /// Whom it is for.
    pub served: Served,
    /// Where is noted what becomes of it.
    pub fate: Rc<Fate>,
    /// Its place among the programs of the location.
    pub place: Place,
    /// How the log calls it.
    pub name: String,
    /// How long its start may take, in milliseconds; 0 for no limit.
    pub timeout: u64,
}

/// One program, from the request to start it until it has ended.
struct Entry {
    served: Option<Served>,
    fate: Rc<Fate>,
    name: String,
    /// Counted until the last process of its group is gone.
    place: Place,
    /// It was told to stop: how it ends is no news.
    stopped: bool,
    /// When its start is given up, by nginx's clock.
    deadline: Option<u64>,
}

#[derive(Default)]
struct Programs {
    spawner: Option<(Spawner, Watch)>,
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

/// What programs get that nginx changes in its workers.
static BASELINE: OnceLock<Baseline> = OnceLock::new();

/// The environment that nginx was started with.
static ENVIRONMENT: OnceLock<HashMap<OsString, OsString>> = OnceLock::new();

/// Remembers what the calling process has; the first call, in the master, counts.
pub fn remember_baseline() {
    BASELINE.get_or_init(Baseline::capture);
    ENVIRONMENT.get_or_init(|| std::env::vars_os().collect());
}

/// Keeps programs, which run as the user of this process, from looking into its memory, where the keys of certificates
/// are: by ptrace(2), process_vm_readv(2), /proc/PID/mem and a core file. nginx has allowed it just before, for the sake of
/// core files. To be called in every process of nginx that has read the configuration; the spawner inherits it, and a
/// program does not.
pub fn hide_memory() {
    // SAFETY: the operation takes one integer and cannot fail for this one.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0 as libc::c_ulong, 0, 0, 0) };
}

/// Starts this worker's spawner.
pub fn begin() {
    // nginx does not start a worker again that fails here, and a machine may be short of processes for a moment only:
    // whoever asks for a program tries again.
    launch();
}

/// Starts the spawner, unless there is one. `false` when it cannot.
fn launch() -> bool {
    if PROGRAMS.with_borrow(|programs| programs.spawner.is_some()) {
        return true;
    }
    // The spawner needs none of the tables of connections, and would keep its copy of every page that the worker changes.
    connection_tables(libc::MADV_DONTFORK);
    let launched = Spawner::launch(BASELINE.get_or_init(Baseline::capture), |role| {
        let title = match role {
            Role::Spawner => c"websocket spawner",
            Role::Guard => c"websocket guard",
        };
        // SAFETY: runs in a process that was made just now, before anything else; nginx's title area is its own.
        unsafe { ffi::ngx_setproctitle(title.as_ptr().cast_mut()) };
    });
    connection_tables(libc::MADV_DOFORK);
    let result = launched.and_then(|spawner| {
        // SAFETY: the cycle's log lives as long as the worker.
        let log = unsafe { (*ffi::ngx_cycle).log };
        let watch = Watch::new(spawner.fd(), on_spawner, log)?;
        PROGRAMS.with_borrow_mut(|programs| programs.spawner = Some((spawner, watch)));
        Ok(())
    });
    if let Err(error) = &result {
        log::cycle(Level::Error, format_args!("ws_exec: the process that starts programs cannot be started: {error}"));
    }
    result.is_ok()
}

/// Advises the system about nginx's tables of connections and events. What it makes of it is no matter of right or wrong.
fn connection_tables(advice: libc::c_int) {
    // SAFETY: the tables are as long as the cycle says; only whole pages inside of them are meant, and they are neither
    // moved nor changed.
    unsafe {
        let cycle = &*ffi::ngx_cycle;
        let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(4096);
        for (table, size) in [
            (cycle.connections.cast::<u8>(), size_of::<ffi::ngx_connection_t>()),
            (cycle.read_events.cast(), size_of::<ffi::ngx_event_t>()),
            (cycle.write_events.cast(), size_of::<ffi::ngx_event_t>()),
        ] {
            let skipped = table.align_offset(page);
            let length = (cycle.connection_n * size).saturating_sub(skipped) / page * page;
            if !table.is_null() && length > 0 {
                libc::madvise(table.add(skipped).cast(), length, advice);
            }
        }
    }
}

/// Lets the spawner go, which takes the programs down.
pub fn end() {
    let (spawner, table) = PROGRAMS.with_borrow_mut(|programs| {
        programs.deadlines.clear();
        (programs.spawner.take(), mem::take(&mut programs.table))
    });
    drop(spawner);
    for entry in table.into_values() {
        if let Some(Served::Remainder(remainder)) = entry.served {
            remainder::free(remainder);
        }
    }
}

/// A place for one more program of the location with this key; `None` when there are `most` already.
pub fn admit(key: u64, most: u64) -> Option<Place> {
    worker::ledger()?.admit(key as usize, most)
}

/// A program of the location with this key could not even be asked for.
pub fn failed(key: u64) {
    if let Some(ledger) = worker::ledger() {
        ledger.program_failed(key as usize);
    }
}

/// Asks for a program, in the directory `found` that it is in or by its path. Started or failed, who is served is told,
/// and also when neither has come in time.
///
/// # Errors
///
/// There is no spawner, or it does not take requests.
pub fn start(asked: Asked, program: &Program, pipes: [OwnedFd; 3], found: Option<OwnedFd>) -> io::Result<ProgramId> {
    if PROGRAMS.with_borrow(|programs| programs.spawner.is_none()) && !launch() {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    PROGRAMS.with_borrow_mut(|programs| {
        programs.last += 1;
        let id = ProgramId(programs.last);
        let Some((spawner, watch)) = &mut programs.spawner else {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        };
        match found {
            None => spawner.start(id, program, pipes)?,
            Some(directory) => spawner.start_in(id, program, pipes, directory)?,
        }
        watch.write_when(!spawner.flush()?);
        let Asked { served, fate, place, name, timeout } = asked;
        let deadline = (timeout != 0).then(|| now() + timeout);
        let entry = Entry { served: Some(served), fate, name, place, stopped: false, deadline };
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
pub fn leave(id: ProgramId, to: Served) -> bool {
    PROGRAMS.with_borrow_mut(|programs| {
        let entry = programs.table.get_mut(&id.0);
        entry.map(|entry| entry.served = Some(to)).is_some()
    })
}

/// A program is not needed any more: it is taken down step by step.
pub fn stop(id: ProgramId, ladder: Ladder) {
    PROGRAMS.with_borrow_mut(|programs| {
        let Some(entry) = programs.table.get_mut(&id.0) else { return };
        entry.stopped = true;
        if let Some((spawner, watch)) = &mut programs.spawner {
            // A spawner that is gone has taken its programs with it; the next event tells of it.
            let left = spawner.stop(id, ladder).and_then(|()| spawner.flush());
            watch.write_when(matches!(left, Ok(false)));
        }
    });
}

/// A variable of nginx's own environment: as "env" directives set it, else as it was when nginx was started. The
/// environment of a worker has no others than the former.
pub fn own_environment(name: &[u8]) -> Option<Vec<u8>> {
    let name = OsStr::from_bytes(name);
    let value = std::env::var_os(name).or_else(|| ENVIRONMENT.get()?.get(name).cloned())?;
    Some(value.into_vec())
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
                entry.place.failed();
                Some((ProgramId(id), entry.served.take(), entry.name.clone()))
            });
            let Some((id, served, name)) = late else { break };
            stop(id, AT_ONCE);
            let reason = format_args!(
                "cannot start {name}: it takes too long (websocket_exec_start_timeout): does a file system hang, or the spawner?"
            );
            match served {
                Some(Served::Session(session)) => session::run(session, |session| {
                    session.request().report(Level::Error, reason);
                    session.refused(TIMED_OUT)
                }),
                Some(Served::Channel(shared)) => {
                    log::cycle(Level::Error, reason);
                    shared::timed_out(shared, id);
                }
                // Its client had gone before it ran: nobody waits for it.
                Some(Served::Remainder(_)) | None => {}
            }
        }
        PROGRAMS.with_borrow_mut(Programs::arm);
    });
}

/// The spawner has something to say, or takes more.
unsafe extern "C" fn on_spawner(_: *mut ffi::ngx_event_t) {
    guard((), || {
        loop {
            let report = PROGRAMS.with_borrow_mut(|programs| {
                let Some((spawner, watch)) = &mut programs.spawner else { return io::Result::Ok(None) };
                watch.write_when(!spawner.flush()?);
                spawner.receive()
            });
            match report {
                Ok(Some(report)) => dispatch(report),
                Ok(None) => return,
                Err(error) => return replace(&error),
            }
        }
    });
}

fn dispatch(report: Report) {
    match report {
        Report::Started { id, pid } => match started(id) {
            Some(Served::Session(session)) => session::run(session, |session| session.program_started(pid)),
            Some(Served::Channel(shared)) => shared::started(shared, id, pid),
            Some(Served::Remainder(_)) | None => {}
        },
        Report::Failed { id, failure } => {
            // It takes no place any more when the client hears of it, which may at once try again.
            let Some(Entry { served, name, place, .. }) = forget(id) else { return };
            place.failed();
            drop(place);
            match served {
                Some(Served::Session(session)) => session::run(session, |session| {
                    let request = session.request();
                    let as_whom = identity::concerning(failure.errno);
                    request.report(Level::Error, format_args!("cannot start {name}: {failure}{as_whom}"));
                    session.refused(if failure.is_exhaustion() { try_again(request) } else { FAILED })
                }),
                Some(Served::Channel(shared)) => {
                    let as_whom = identity::concerning(failure.errno);
                    log::cycle(Level::Error, format_args!("cannot start {name}: {failure}{as_whom}"));
                    shared::failed(shared, id, failure.is_exhaustion());
                }
                Some(Served::Remainder(remainder)) => remainder::free(remainder),
                None => {}
            }
        }
        Report::Exited { id, status, gone } => {
            if status != ExitStatus::Code(0) {
                report_end(id, status);
            }
            let served = update(id, |fate| {
                fate.ended(status);
                if gone {
                    fate.gone();
                }
            });
            if gone {
                drop(forget(id));
            }
            tell(served);
        }
        Report::Gone { id } => {
            let served = update(id, Fate::gone);
            drop(forget(id));
            tell(served);
        }
    }
}

/// Notes what became of a program; whom it serves is to look at it.
fn update(id: ProgramId, body: impl FnOnce(&Fate)) -> Option<Served> {
    PROGRAMS.with_borrow(|programs| {
        let entry = programs.table.get(&id.0)?;
        body(&entry.fate);
        entry.served
    })
}

/// A program runs. Whom it serves.
fn started(id: ProgramId) -> Option<Served> {
    PROGRAMS.with_borrow_mut(|programs| {
        programs.answered(id);
        programs.table.get(&id.0)?.served
    })
}

/// A program has ended by itself, and not well: that is in the log, as its client may not tell anybody.
fn report_end(id: ProgramId, status: ExitStatus) {
    let ended = PROGRAMS.with_borrow(|programs| {
        let entry = programs.table.get(&id.0).filter(|entry| !entry.stopped)?;
        Some((entry.served?, entry.name.clone()))
    });
    let Some((served, name)) = ended else { return };
    let text = format_args!("{name} ended by itself with {status}");
    match served {
        Served::Session(session) => session::run(session, |session| {
            session.request().report(Level::Error, text);
            session::Verdict::Continue
        }),
        Served::Channel(_) | Served::Remainder(_) => log::cycle(Level::Error, text),
    }
}

/// Lets it look at what became of its program.
fn tell(served: Option<Served>) {
    match served {
        Some(Served::Session(session)) => session::run(session, Session::pump),
        Some(Served::Channel(shared)) => shared::run(shared),
        Some(Served::Remainder(remainder)) => remainder::run(remainder),
        None => {}
    }
}

/// Takes an entry out of the table; what it owns is to be dropped where the table is not borrowed.
fn forget(id: ProgramId) -> Option<Entry> {
    PROGRAMS.with_borrow_mut(|programs| {
        programs.answered(id);
        programs.table.remove(&id.0)
    })
}

/// The spawner is gone, and its programs with it.
fn replace(error: &io::Error) {
    log::cycle(Level::Error, format_args!("ws_exec: the process that starts programs is gone: {error}"));
    let (spawner, table) = PROGRAMS.with_borrow_mut(|programs| {
        programs.deadlines.clear();
        (programs.spawner.take(), mem::take(&mut programs.table))
    });
    drop(spawner);
    launch();
    // None of them runs any more when those hear of it who start another one.
    let served: Vec<(u64, Served)> = table.into_iter().filter_map(|(id, entry)| Some((id, entry.served?))).collect();
    for (id, served) in served {
        match served {
            Served::Session(session) => session::run(session, |session| session.endpoint_lost("the program was lost")),
            Served::Channel(shared) => shared::lost(shared, ProgramId(id)),
            Served::Remainder(remainder) => remainder::free(remainder),
        }
    }
}
