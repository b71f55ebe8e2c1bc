//! What the whole configuration asks of the workers.

use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};

use super::channel::zone::ChannelZone;
use super::ffi;
use super::guard::guard;
use super::template::NginxCompiler;
use super::worker::programs;
use super::{ledger, module};
use crate::conf::Settings;

/// Found out while the locations are read; lives in the pool of the configuration.
#[derive(Default)]
pub struct MainSettings {
    /// The shared count of programs, if a location has a program.
    pub programs: Option<NonNull<ffi::ngx_shm_zone_t>>,
    /// The zone of the channels, if a location has channels.
    pub channels: Option<ChannelZone>,
    /// Whether a location has channels.
    needs_channels: bool,
    /// Whether any location has an endpoint.
    endpoints: bool,
}

impl MainSettings {
    /// Those of the configuration that is being read.
    pub fn of<'a>(cf: *mut ffi::ngx_conf_t) -> Option<&'a mut Self> {
        // SAFETY: cf is valid inside the http block; create() made the settings, and nobody else refers to them.
        unsafe { ffi::ngx_ws_conf_main_conf(cf, module::pointer()).cast::<Self>().as_mut() }
    }

    /// A location with a program was read. `false` when nginx refuses the shared memory.
    pub fn use_programs(&mut self, cf: *mut ffi::ngx_conf_t) -> bool {
        self.endpoints = true;
        programs::remember_baseline();
        self.programs = self.programs.or_else(|| ledger::add_zone(cf));
        self.programs.is_some()
    }

    /// A location with another endpoint was read.
    pub fn use_services(&mut self) {
        self.endpoints = true;
    }

    /// A location with channels was read.
    pub fn use_channels(&mut self) {
        self.endpoints = true;
        self.needs_channels = true;
    }

    /// Whether workers have anything to do.
    pub fn is_used(&self) -> bool {
        self.endpoints
    }
}

/// Makes the empty settings.
pub unsafe extern "C" fn create(cf: *mut ffi::ngx_conf_t) -> *mut c_void {
    guard(ptr::null_mut(), || {
        // SAFETY: cf is valid; the allocation has the size and, from ngx_palloc, the alignment. Nothing needs dropping.
        unsafe {
            let settings = ffi::ngx_palloc((*cf).pool, size_of::<MainSettings>()).cast::<MainSettings>();
            if !settings.is_null() {
                settings.write(MainSettings::default());
            }
            settings.cast()
        }
    })
}

/// Everything inside `http` was read: adds the zone that its channels need.
pub unsafe extern "C" fn init(cf: *mut ffi::ngx_conf_t, settings: *mut c_void) -> *mut c_char {
    const ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);
    guard(ERROR, || {
        // SAFETY: nginx passes the settings of create(), and cf stands at the level of http, which has settings of its own.
        let (settings, http) = unsafe {
            let http = ffi::ngx_ws_conf_loc_conf(cf, module::pointer()).cast::<Settings<NginxCompiler>>();
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
