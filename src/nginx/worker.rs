// SPDX-License-Identifier: Apache-2.0

//! The beginning and the end of a worker.

mod exit_watcher;
pub mod programs;
pub mod spawners;

use std::cell::RefCell;

use exit_watcher::ExitWatcher;

use super::backend;
use super::channel::{departures, hub, listing};
use super::detached;
use super::ffi;
use super::guard::guard;
use super::log::{self, Level};
use super::main_settings::MainSettings;
use super::process_state;
use super::program::pool;
use super::recording;
use super::shared;
use super::tcp;
use super::{address, conf_ctx, heap, ledger, listeners};

thread_local! {
    static EXIT_WATCHER: RefCell<Option<ExitWatcher>> = const { RefCell::new(None) };
}

/// A worker begins. `false` keeps nginx from starting it.
pub fn start(cycle: *mut ffi::ngx_cycle_t) -> bool {
    // SAFETY: the cycle is the one that init_process got.
    let (serves, settings) = unsafe {
        let settings = conf_ctx::main_of_cycle(cycle, address::of_module()).cast::<MainSettings>();
        (process_state::serves_requests(), settings.as_ref())
    };
    if settings.as_ref().is_some_and(|settings| settings.programs) {
        spawners::hide_memory();
    }
    let Some(settings) = settings.filter(|settings| serves && settings.is_used()) else { return true };
    if !ledger::begin(&settings.counted) {
        log::cycle(Level::Emerg, format_args!("ws_exec: no memory to count sessions and programs in"));
        return false;
    }
    if EXIT_WATCHER.with_borrow(Option::is_some) {
        // Without a master the process that read a new configuration goes on as its worker.
        return begin(settings);
    }
    let Some(watcher) = ExitWatcher::new(cycle, on_exit_asked) else {
        log::cycle(
            Level::Emerg,
            format_args!(
                "ws_exec: none of the \"worker_connections\" is free for the module itself, which takes one, one for \
                 channels, one for programs and one for recordings: raise them"
            ),
        );
        return false;
    };
    EXIT_WATCHER.set(Some(watcher));
    begin(settings)
}

/// What the locations of this configuration need.
fn begin(settings: &MainSettings) -> bool {
    if settings.programs {
        programs::begin();
    }
    if settings.recordings {
        recording::begin();
    }
    pool::begin(&settings.pools);
    shared::begin();
    if !settings.channels.is_none_or(|zone| hub::begin(zone, shared::CALLS)) {
        return false;
    }
    backend::begin(&settings.engines);
    true
}

/// nginx has told the worker to go and closes what is idle.
unsafe extern "C" fn on_exit_asked(_: *mut ffi::ngx_event_t) {
    guard((), || {
        drop(EXIT_WATCHER.take());
        pool::leaving();
        process_state::leaving();
        listeners::drain();
        backend::leaving();
        departures::leaving();
        shared::leaving();
    });
}

/// The worker leaves now: whoever is still connected is told.
pub fn exit() {
    shared::end();
    listeners::terminate();
    tcp::end();
    departures::end();
    listing::end();
    backend::end();
    detached::exit();
    hub::end();
    pool::end();
    programs::end();
    recording::end();
    ledger::end();
    heap::end();
}
