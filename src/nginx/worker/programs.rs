//! The programs of this worker, and the spawner that is their parent.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;
use std::sync::OnceLock;

use crate::exec::spawner::{Baseline, Ladder, Program, ProgramId, Report, Spawner};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::identity;
use crate::nginx::ledger::Place;
use crate::nginx::log::{self, Level};
use crate::nginx::pipe::Watch;
use crate::nginx::program::Fate;
use crate::nginx::session::{self, Session, SessionRef};
use crate::nginx::shared::{self, SharedId};
use crate::nginx::upgrade::try_again;
use crate::nginx::worker;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// Whom a program serves.
#[derive(Debug, Clone, Copy)]
pub enum Served {
    /// One session. It is told nothing once it has ended.
    Session(SessionRef),
    /// All clients of a channel. Their side is told until the last process is gone.
    Channel(SharedId),
}

/// One program, from the request to start it until it has ended.
struct Entry {
    served: Option<Served>,
    fate: Rc<Fate>,
    name: String,
    /// Counted until the last process of its group is gone.
    place: Place,
    /// Our ends of its pipes, once it is stopped: open until it has ended.
    pipes: Vec<OwnedFd>,
}

#[derive(Default)]
struct Programs {
    spawner: Option<(Spawner, Watch)>,
    table: HashMap<u64, Entry>,
    last: u64,
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
    let launched = Spawner::launch(BASELINE.get_or_init(Baseline::capture), || {
        // SAFETY: runs in the spawner before anything else; nginx's title area is this process's own.
        unsafe { ffi::ngx_setproctitle(c"websocket spawner".as_ptr().cast_mut()) };
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
    let (spawner, table) =
        PROGRAMS.with_borrow_mut(|programs| (programs.spawner.take(), mem::take(&mut programs.table)));
    drop((spawner, table));
}

/// A place for one more program of the location with this key; `None` when there are `most` already.
pub fn admit(key: u64, most: u64) -> Option<Place> {
    worker::ledger()?.admit(key, most)
}

/// A program of the location with this key could not even be asked for.
pub fn failed(key: u64) {
    if let Some(ledger) = worker::ledger() {
        ledger.program_failed(key);
    }
}

/// Asks for a program, in the directory `found` that it is in or by its path. Started or failed, who is served is told.
///
/// # Errors
///
/// There is no spawner, or it does not take requests.
pub fn start(
    served: Served,
    fate: Rc<Fate>,
    place: Place,
    program: &Program,
    pipes: [OwnedFd; 3],
    found: Option<OwnedFd>,
    name: String,
) -> io::Result<ProgramId> {
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
        programs.table.insert(id.0, Entry { served: Some(served), fate, name, place, pipes: Vec::new() });
        Ok(id)
    })
}

/// A program is not needed any more: it is taken down step by step.
pub fn stop(id: ProgramId, ladder: Ladder, pipes: Vec<OwnedFd>) {
    PROGRAMS.with_borrow_mut(|programs| {
        let Some(entry) = programs.table.get_mut(&id.0) else { return };
        entry.served = entry.served.filter(|served| matches!(served, Served::Channel(_)));
        entry.pipes = pipes;
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
        Report::Started { id, pid } => match served(id) {
            Some(Served::Session(session)) => session::run(session, |session| session.program_started(pid)),
            Some(Served::Channel(shared)) => shared::started(shared, id, pid),
            None => {}
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
                None => {}
            }
        }
        Report::Exited { id, status, gone } => {
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

/// Whom a program serves.
fn served(id: ProgramId) -> Option<Served> {
    PROGRAMS.with_borrow(|programs| programs.table.get(&id.0)?.served)
}

/// Lets it look at what became of its program.
fn tell(served: Option<Served>) {
    match served {
        Some(Served::Session(session)) => session::run(session, Session::pump),
        Some(Served::Channel(shared)) => shared::run(shared),
        None => {}
    }
}

/// Takes an entry out of the table; what it owns is to be dropped where the table is not borrowed.
fn forget(id: ProgramId) -> Option<Entry> {
    PROGRAMS.with_borrow_mut(|programs| programs.table.remove(&id.0))
}

/// The spawner is gone, and its programs with it.
fn replace(error: &io::Error) {
    log::cycle(Level::Error, format_args!("ws_exec: the process that starts programs is gone: {error}"));
    let (spawner, table) =
        PROGRAMS.with_borrow_mut(|programs| (programs.spawner.take(), mem::take(&mut programs.table)));
    drop(spawner);
    launch();
    // None of them runs any more when those hear of it who start another one.
    let served: Vec<(u64, Served)> = table.into_iter().filter_map(|(id, entry)| Some((id, entry.served?))).collect();
    for (id, served) in served {
        match served {
            Served::Session(session) => session::run(session, |session| session.endpoint_lost("the program was lost")),
            Served::Channel(shared) => shared::lost(shared, ProgramId(id)),
        }
    }
}
