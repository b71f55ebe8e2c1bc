// SPDX-License-Identifier: Apache-2.0

//! The spawners of this worker: one of its own user, and one of each other user that it has had a program of.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString, c_void};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;
use std::sync::OnceLock;

use crate::exec::spawner::{Baseline, Role, Spawner};
use crate::nginx::ffi;
use crate::nginx::log::{self, Level};
use crate::nginx::pipe::{Handler, Watch};
use crate::nginx::user::User;

/// A spawner that runs, or is about to.
pub struct Running {
    /// Tells it from all others that this worker has had.
    pub serial: usize,
    /// Whose programs it starts; `None` for the worker's own user.
    pub user: Option<Rc<User>>,
    /// The worker's end of the socket to the spawner.
    pub spawner: Spawner,
    /// nginx's watch over that socket.
    pub watch: Watch,
}

/// The spawners of a worker: one for its own user, and one for each other user whose programs it has started.
#[derive(Default)]
pub struct Spawners {
    running: Vec<Running>,
    last: usize,
}

impl Spawners {
    /// The spawner of a user, if there is one.
    pub fn of(&mut self, user: Option<&User>) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| match (running.user.as_deref(), user) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is(other),
            (None, Some(_)) | (Some(_), None) => false,
        })
    }

    /// The spawner with this number.
    pub fn numbered(&mut self, serial: usize) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.serial == serial)
    }

    /// Takes out the spawner with this number; when it is dropped, it takes its programs down.
    pub fn take(&mut self, serial: usize) -> Option<Running> {
        let place = self.running.iter().position(|running| running.serial == serial)?;
        Some(self.running.swap_remove(place))
    }

    /// Takes out all of them.
    pub fn take_all(&mut self) -> Vec<Running> {
        std::mem::take(&mut self.running)
    }

    /// Makes the spawner of a user, unless there is one. `handler` is called with events whose connections have the
    /// [`serial`] of the spawner. `None` when it cannot be made, which is in the log.
    pub fn launch(&mut self, user: Option<&Rc<User>>, handler: Handler) -> Option<&mut Running> {
        if self.of(user.map(AsRef::as_ref)).is_none() {
            let serial = self.last + 1;
            let running = make(serial, user, handler)
                .inspect_err(|error| {
                    let process = "the process that starts programs";
                    match user {
                        None => {
                            let text = format_args!("ws_exec: {process} cannot be started: {error}");
                            log::cycle(Level::Error, text);
                        }
                        Some(user) => {
                            let (as_whom, hint) = (user.identity(), Hint(error));
                            let text = format_args!("ws_exec: {process} as {as_whom} cannot be started: {error}{hint}");
                            log::cycle(Level::Error, text);
                        }
                    }
                })
                .ok()?;
            self.last = serial;
            self.running.push(running);
        }
        self.of(user.map(AsRef::as_ref))
    }
}

/// What can be done when a keeper does not make a spawner.
struct Hint<'a>(&'a io::Error);

impl std::fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET) => {
                ": the \"websocket keeper\" is gone, reload nginx to have a new one"
            }
            Some(libc::EAGAIN) => ": the \"websocket keeper\" does not answer",
            _ => "",
        })
    }
}

fn make(serial: usize, user: Option<&Rc<User>>, handler: Handler) -> io::Result<Running> {
    let spawner = match user {
        Some(user) => user.spawner()?,
        None => without_connections(|| Spawner::launch(baseline(), set_title))?,
    };
    // SAFETY: the cycle's log lives as long as the worker.
    let log = unsafe { (*ffi::ngx_cycle).log };
    let watch = Watch::new(spawner.fd(), handler, data(serial), log)?;
    Ok(Running { serial, user: user.map(Rc::clone), spawner, watch })
}

/// Makes a process that needs none of the tables of connections, and would keep its copy of every page that the worker changes.
pub fn without_connections<R>(launch: impl FnOnce() -> R) -> R {
    connection_tables(libc::MADV_DONTFORK);
    let launched = launch();
    connection_tables(libc::MADV_DOFORK);
    launched
}

/// A number in the place of a pointer.
fn data(serial: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(serial)
}

/// The number of the spawner that an event of its watch is about.
///
/// # Safety
///
/// The event is one that nginx passes to the handler of [`Spawners::launch`].
pub unsafe fn serial(event: *mut ffi::ngx_event_t) -> usize {
    // SAFETY: the data of such an event is its connection, and the data of that is our number.
    unsafe { (*(*event).data.cast::<ffi::ngx_connection_t>()).data.addr() }
}

/// Names a process that has just been made.
pub fn set_title(role: Role) {
    let title = match role {
        Role::Spawner => c"websocket spawner",
        Role::Guard => c"websocket guard",
        Role::Keeper => c"websocket keeper",
        Role::Recorder => c"websocket recorder",
    };
    // At the level debug nginx writes a line about the title, to a descriptor that is something else by now: this process writes to no
    // log of nginx.
    // SAFETY: runs in a process that was made just now, before anything else; nginx's title area is its own.
    unsafe {
        (*(*ffi::ngx_cycle).log).log_level = 0;
        ffi::ngx_setproctitle(title.as_ptr().cast_mut());
    }
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

/// What programs get that nginx changes in its workers.
static BASELINE: OnceLock<Baseline> = OnceLock::new();

/// The environment that nginx was started with.
static ENVIRONMENT: OnceLock<HashMap<OsString, OsString>> = OnceLock::new();

/// Remembers what the calling process has; the first call, in the master, counts.
pub fn remember_baseline() {
    BASELINE.get_or_init(Baseline::capture);
    ENVIRONMENT.get_or_init(|| std::env::vars_os().collect());
}

/// What was remembered.
pub fn baseline() -> &'static Baseline {
    BASELINE.get_or_init(Baseline::capture)
}

/// Keeps programs, which run as the user of this process, from looking into its memory, where the keys of certificates
/// are: by ptrace(2), process_vm_readv(2), /proc/PID/mem and a core file. nginx has allowed it just before, for the sake of
/// core files. To be called in every process of nginx that has read the configuration; the spawner inherits it, and a
/// program does not.
pub fn hide_memory() {
    // SAFETY: the operation takes one integer and cannot fail for this one.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0 as libc::c_ulong, 0, 0, 0) };
}

/// A variable of nginx's own environment: as "env" directives set it, else as it was when nginx was started. The
/// environment of a worker has no others than the former.
pub fn own_environment(name: &[u8]) -> Option<Vec<u8>> {
    let name = OsStr::from_bytes(name);
    let value = std::env::var_os(name).or_else(|| ENVIRONMENT.get()?.get(name).cloned())?;
    Some(value.into_vec())
}
