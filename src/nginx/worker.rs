//! What the clients of one worker share: the list of clients, the spawner.

pub mod programs;
pub mod spawners;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::channel::hub::{self, Listener};
use super::channel::waiting::{self, Subscriber};
use super::detached;
use super::engine;
use super::ffi;
use super::guard::guard;
use super::log::{self, Level};
use super::main_settings::MainSettings;
use super::request::Request;
use super::session;
use super::shared;
use super::tcp;
use super::timer::now;
use super::{address, process};
use crate::ledger::Ledger;
use crate::ws::timing::{drain_at, late_drain_at};

/// Sessions, and requests that wait for messages.
#[derive(Default)]
struct Clients {
    places: Vec<Option<Listener>>,
    free: Vec<usize>,
}

thread_local! {
    static CLIENTS: RefCell<Clients> = RefCell::default();
    static LEDGER: RefCell<Option<Rc<Ledger>>> = const { RefCell::new(None) };
    /// When the worker was told to go, and how many clients have begun since.
    static LEAVING: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    static EXIT_WATCHER: Cell<*mut ffi::ngx_connection_t> = const { Cell::new(std::ptr::null_mut()) };
}

/// Puts a client on the list; returns its place.
pub fn enlist(client: Listener) -> usize {
    CLIENTS.with_borrow_mut(|clients| match clients.free.pop() {
        Some(place) => {
            clients.places[place] = Some(client);
            place
        }
        None => {
            clients.places.push(Some(client));
            clients.places.len() - 1
        }
    })
}

/// Takes a client off the list.
pub fn discharge(place: usize) {
    CLIENTS.with_borrow_mut(|clients| {
        if let Some(occupied) = clients.places.get_mut(place)
            && occupied.take().is_some()
        {
            clients.free.push(place);
        }
    });
}

/// What this worker counts.
pub fn ledger() -> Option<Rc<Ledger>> {
    LEDGER.with_borrow(Option::clone)
}

/// The client at this place of the list, which may have as many as [`places`].
fn client(place: usize) -> Option<Listener> {
    CLIENTS.with_borrow(|clients| clients.places.get(place).copied().flatten())
}

fn places() -> usize {
    CLIENTS.with_borrow(|clients| clients.places.len())
}

/// When a client that begins now is to be drained: the others have their times already. `None` where nobody is.
pub fn late_drain(request: Request) -> Option<u64> {
    let (began, number) = LEAVING.get()?;
    let time = request.settings().drain();
    if time == 0 {
        return None;
    }
    LEAVING.set(Some((began, number + 1)));
    Some(late_drain_at(now(), began.saturating_add(time), number))
}

/// A worker begins. `false` keeps nginx from starting it.
pub fn start(cycle: *mut ffi::ngx_cycle_t) -> bool {
    // SAFETY: the cycle is the one that init_process got.
    let (serves, settings) = unsafe {
        let settings = ffi::ngx_ws_cycle_main_conf(cycle, address::of_module()).cast::<MainSettings>();
        (ffi::ngx_ws_serves_requests() != 0, settings.as_ref())
    };
    if settings.as_ref().is_some_and(|settings| settings.programs) {
        spawners::hide_memory();
    }
    let Some(settings) = settings.filter(|settings| serves && settings.is_used()) else { return true };
    if settings.counted.is_used() {
        let Some(ledger) = settings.counted.begin(process::identity(), ledger().as_deref()) else {
            log::cycle(Level::Emerg, format_args!("ws_exec: no memory to count sessions and programs in"));
            return false;
        };
        LEDGER.set(Some(Rc::new(ledger)));
    }
    if !EXIT_WATCHER.get().is_null() {
        // Without a master the process that read a new configuration goes on as its worker.
        return begin(settings);
    }
    // SAFETY: as above; the connection is kept until the worker exits.
    let watcher = unsafe { ffi::ngx_ws_exit_watcher(cycle, Some(on_exit_asked)) };
    if watcher.is_null() {
        log::cycle(
            Level::Emerg,
            format_args!(
                "ws_exec: none of the \"worker_connections\" is free for the module itself, which takes one, one for \
                 channels and one for programs: raise them"
            ),
        );
        return false;
    }
    EXIT_WATCHER.set(watcher);
    begin(settings)
}

/// What the locations of this configuration need.
fn begin(settings: &MainSettings) -> bool {
    if settings.programs {
        programs::begin();
    }
    shared::begin();
    if !settings.channels.is_none_or(hub::begin) {
        return false;
    }
    engine::begin(&settings.engines);
    true
}

/// nginx has told the worker to go and closes what is idle.
unsafe extern "C" fn on_exit_asked(_: *mut ffi::ngx_event_t) {
    guard((), || {
        let watcher = EXIT_WATCHER.replace(std::ptr::null_mut());
        if !watcher.is_null() {
            // SAFETY: the connection is the one of start() and is let go once.
            unsafe { ffi::ngx_ws_exit_watcher_close(watcher) };
        }
        detached::leaving();
        drain();
        engine::leaving();
        shared::leaving();
    });
}

/// Spreads the ends of all clients over the time that their locations give them.
fn drain() {
    LEAVING.set(Some((now(), 0)));
    let mut draining: Vec<(usize, u64)> = Vec::new();
    for place in 0..places() {
        let mut time = 0;
        match client(place) {
            Some(Listener::Session(session)) => session::enter(session, |session| {
                time = session.host().request().settings().drain();
            }),
            Some(Listener::Waiting(waiting)) => waiting::enter(waiting, |waiting| {
                time = waiting.host().request().settings().drain();
            }),
            None => {}
        }
        if time != 0 {
            draining.push((place, time));
        }
    }
    let count = draining.len() as u64;
    for (index, (place, time)) in (0..).zip(draining) {
        let at = drain_at(now(), time, index, count);
        match client(place) {
            Some(Listener::Session(session)) => session::run(session, |session| session.drain(at)),
            Some(Listener::Waiting(waiting)) => waiting::run(waiting, |waiting| waiting.on_drain(at)),
            None => {}
        }
    }
}

/// How often the list is gone through when the worker leaves. A request whose client has ended may become another one, by
/// a `post_action` or an error page, but not more often than nginx allows redirects.
const ROUNDS: usize = 12;

/// The worker leaves now: whoever is still connected is told.
pub fn exit() {
    shared::end();
    for _ in 0..ROUNDS {
        let mut some = false;
        for place in 0..places() {
            // Looked at one by one: the end of one may be the end of another.
            let Some(client) = client(place) else { continue };
            some = true;
            match client {
                Listener::Session(session) => session::terminate(session),
                Listener::Waiting(waiting) => waiting::run(waiting, Subscriber::terminate),
            }
        }
        if !some {
            break;
        }
    }
    tcp::end();
    engine::end();
    detached::exit();
    hub::end();
    programs::end();
    if let Some(ledger) = LEDGER.take() {
        ledger.release();
    }
}
