// SPDX-License-Identifier: Apache-2.0

//! What the whole configuration asks of the workers.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::rc::Rc;

use super::address;
use super::capacity::Limit;
use super::channel::zone::ChannelZone;
use super::conf_ctx;
use super::engine::Engines;
use super::ffi;
use super::guard::guard;
use super::ledger::Counted;
use super::log;
use super::program::check::Check;
use super::program::pool::PooledLocation;
use super::template::NginxCompiler;
use super::user::{self, Users};
use super::worker::spawners;
use crate::conf::{EndpointSettings, Settings};

/// Found out while the locations are read; lives as long as the configuration.
#[derive(Default)]
pub struct MainSettings {
    /// The locations that are counted.
    pub counted: Counted,
    /// What is looked at once all of the configuration is read.
    pub checks: Vec<Check>,
    /// Limits that may be out of reach.
    pub limits: Vec<Limit>,
    /// Whether any location has a program.
    pub programs: bool,
    /// Whether any location records its sessions.
    pub recordings: bool,
    /// The locations whose programs are started ahead of their clients.
    pub pools: Vec<Rc<PooledLocation>>,
    /// The users that locations name for their programs.
    pub users: Users,
    /// The zone of the channels, if a location has channels.
    pub channels: Option<ChannelZone>,
    /// The engines that have channels of locations.
    pub engines: Engines,
    /// Whether a location has channels.
    needs_channels: bool,
    /// Whether any location has an endpoint.
    endpoints: bool,
}

impl MainSettings {
    /// The settings of the configuration that is being read.
    ///
    /// # Safety
    ///
    /// The configuration is being read, inside its http block, and nothing else that refers to its settings is used as long as
    /// the result is: neither an earlier result, nor one of a function that is called meanwhile.
    pub unsafe fn of<'a>(cf: *mut ffi::ngx_conf_t) -> Option<&'a mut Self> {
        // SAFETY: the caller sees to cf and to the other references; create() made the settings.
        unsafe { conf_ctx::main_of(cf, address::of_module()).cast::<Self>().as_mut() }
    }

    /// The settings of a configuration that has been read; `None` without an http block.
    ///
    /// # Safety
    ///
    /// The cycle is valid, and nothing else that refers to its settings is used as long as the result is.
    pub unsafe fn of_cycle<'a>(cycle: *mut ffi::ngx_cycle_t) -> Option<&'a mut Self> {
        // SAFETY: the caller sees to the cycle and to the other references; create() made the settings, if there is an http
        // block.
        unsafe { conf_ctx::main_of_cycle(cycle, address::of_module()).cast::<Self>().as_mut() }
    }

    /// A location with a program was read.
    fn use_programs(&mut self) {
        self.endpoints = true;
        spawners::remember_baseline();
        self.programs = true;
        self.counted.need();
    }

    /// A location that has sessions without an endpoint was read.
    pub fn use_sessions(&mut self) {
        self.endpoints = true;
    }

    /// A location that records its sessions was read.
    pub fn use_recordings(&mut self) {
        spawners::remember_baseline();
        self.recordings = true;
    }

    /// A location that counts, or shows what was counted, was read.
    pub fn use_ledger(&mut self) {
        self.counted.need();
    }

    /// A location with an endpoint was read.
    pub fn use_endpoint(&mut self, settings: &Settings<NginxCompiler>) {
        self.use_ledger();
        if settings.cgi.is_some() {
            self.use_programs();
        }
        match &settings.endpoint {
            Some(EndpointSettings::Channel(_)) => self.use_channels(),
            Some(EndpointSettings::Shared(_)) => {
                self.use_channels();
                self.use_programs();
            }
            Some(EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_)) => self.use_programs(),
            Some(EndpointSettings::Tcp(_)) => self.endpoints = true,
            None => {}
        }
    }

    /// A location with channels was read.
    pub fn use_channels(&mut self) {
        self.endpoints = true;
        self.needs_channels = true;
    }

    /// Whether workers have anything to do.
    pub fn is_used(&self) -> bool {
        self.endpoints || self.counted.is_used()
    }
}

/// Makes the empty settings.
pub unsafe extern "C" fn create(cf: *mut ffi::ngx_conf_t) -> *mut c_void {
    guard(ptr::null_mut(), || {
        let settings = Box::into_raw(Box::<MainSettings>::default());
        // SAFETY: the pool of the configuration is alive; the box is freed by its cleanup and nowhere else.
        unsafe {
            let cleanup = ffi::ngx_pool_cleanup_add((*cf).pool, 0);
            if cleanup.is_null() {
                drop(Box::from_raw(settings));
                return ptr::null_mut();
            }
            (*cleanup).handler = Some(discard);
            (*cleanup).data = settings.cast();
        }
        settings.cast()
    })
}

unsafe extern "C" fn discard(settings: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer is that of create(), and a cleanup runs once.
        drop(unsafe { Box::from_raw(settings.cast::<MainSettings>()) });
    });
}

/// Everything inside `http` was read and merged: adds the zones of what the workers count, and makes the process that
/// starts programs as other users. Should the rest of the configuration be refused, that ends with its settings.
pub fn finish(cf: *mut ffi::ngx_conf_t) -> bool {
    // SAFETY: nginx is reading the configuration; what is called here does not ask for the settings.
    let Some(settings) = (unsafe { MainSettings::of(cf) }) else { return false };
    #[cfg(feature = "test-backend")]
    if !super::backend::erratic::read_environment() {
        log::configuration(cf, format_args!("ws_exec: WS_TEST_BACKEND makes no sense"));
        return false;
    }
    if user::is_serious()
        && let Err(error) = settings.users.start_keeper(spawners::baseline(), spawners::set_title)
    {
        let text = format_args!("ws_exec: the process for \"websocket_exec_user\" cannot be started: {error}");
        log::configuration(cf, text);
        return false;
    }
    settings.counted.add_zones(cf) && settings.engines.add_zone(cf)
}

/// Everything inside `http` was read: adds the zone that its channels need.
pub unsafe extern "C" fn init(cf: *mut ffi::ngx_conf_t, settings: *mut c_void) -> *mut c_char {
    const ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);
    guard(ERROR, || {
        // SAFETY: nginx passes the settings of create(), and cf stands at the level of http, which has settings of its own.
        let (settings, http) = unsafe {
            let http = conf_ctx::location_of(cf, address::of_module()).cast::<Settings<NginxCompiler>>();
            (&mut *settings.cast::<MainSettings>(), &*http)
        };
        if settings.needs_channels {
            settings.channels = ChannelZone::add(cf, http.channel_zone());
            if settings.channels.is_none() {
                return ERROR;
            }
        }
        ptr::null_mut()
    })
}
