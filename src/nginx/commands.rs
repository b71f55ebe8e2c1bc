// SPDX-License-Identifier: Apache-2.0

//! nginx's table of commands, made from the table of directives, and the settings of each level.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::rc::Rc;

use super::capacity;
use super::conf_ctx;
use super::content;
use super::ffi::*;
use super::guard::guard;
use super::ledger;
use super::log;
use super::main_settings::MainSettings;
use super::program::check;
use super::program::pool::{self, PooledLocation};
use super::request::bytes;
use super::tcp;
use super::template::{NginxCompiler, Whole};
use crate::conf::{Arguments, Directive, EndpointSettings, Place, RecordingForm, Refused, Settings, Table};

const ROWS: &[Directive<NginxCompiler>] = Table::<NginxCompiler>::ROWS;

/// nginx's table, ended by an empty row.
pub struct Commands([ngx_command_t; ROWS.len() + 1]);

// SAFETY: nginx reads the table from one thread and never writes to it; the pointers are to constants.
unsafe impl Sync for Commands {}

impl Commands {
    /// For the module's table.
    pub const fn as_ptr(&self) -> *mut ngx_command_t {
        self.0.as_ptr().cast_mut()
    }
}

/// The commands that nginx is told of.
pub static COMMANDS: Commands = Commands(build());

const EMPTY: ngx_command_t = ngx_command_t {
    name: ngx_str_t { len: 0, data: ptr::null_mut() },
    type_: 0,
    set: None,
    conf: 0,
    offset: 0,
    post: ptr::null_mut(),
};

const fn build() -> [ngx_command_t; ROWS.len() + 1] {
    let mut commands = [EMPTY; ROWS.len() + 1];
    let mut place = 0;
    while place < ROWS.len() {
        let row = &ROWS[place];
        commands[place] = ngx_command_t {
            name: ngx_str_t { len: row.name.count_bytes(), data: row.name.as_ptr().cast::<u8>().cast_mut() },
            type_: contexts(row.place) | arguments(row.arguments),
            set: Some(set),
            conf: std::mem::offset_of!(ngx_http_conf_ctx_t, loc_conf),
            offset: 0,
            post: ptr::without_provenance_mut(place),
        };
        place += 1;
    }
    commands
}

const fn contexts(place: Place) -> usize {
    (match place {
        Place::Http => NGX_HTTP_MAIN_CONF,
        Place::Location => NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF,
        Place::Anywhere => NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF,
    }) as usize
}

const fn arguments(arguments: Arguments) -> usize {
    (match arguments {
        Arguments::None => NGX_CONF_NOARGS,
        Arguments::Exactly(1) => NGX_CONF_TAKE1,
        Arguments::Exactly(2) => NGX_CONF_TAKE2,
        Arguments::Exactly(_) => panic!("a new count needs its constant of nginx here"),
        Arguments::AtMostOne => NGX_CONF_NOARGS | NGX_CONF_TAKE1,
        Arguments::OneOrTwo => NGX_CONF_TAKE1 | NGX_CONF_TAKE2,
        Arguments::OneToThree => NGX_CONF_TAKE1 | NGX_CONF_TAKE2 | NGX_CONF_TAKE3,
        Arguments::TwoToFour => NGX_CONF_TAKE2 | NGX_CONF_TAKE3 | NGX_CONF_TAKE4,
        Arguments::Some => NGX_CONF_1MORE,
    }) as usize
}

const ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);

const WHOLE: Whole = Whole {
    user: |cf, name, group| {
        // SAFETY: nginx is reading a directive, and whoever reads it has no reference to the settings.
        unsafe { MainSettings::of(cf) }.ok_or(Refused::Reported)?.users.enter(name, group)
    },
    path: |cf, path| {
        // SAFETY: nginx passes the configuration that it reads.
        if let Some(main) = unsafe { MainSettings::of(cf) } {
            check::enter_tokens(&mut main.checks, cf, path);
        }
    },
    directory: |cf, path| {
        // SAFETY: nginx passes the configuration that it reads.
        if let Some(main) = unsafe { MainSettings::of(cf) } {
            check::enter_recordings(&mut main.checks, cf, path);
        }
    },
};

/// Reads one directive.
unsafe extern "C" fn set(cf: *mut ngx_conf_t, command: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    guard(ERROR, || {
        // SAFETY: nginx passes the row of COMMANDS, whose post is an index into ROWS, and the settings of
        // create_loc_conf; the arguments are an array of strings with the name first, which live as long as the configuration.
        let (row, settings, words) = unsafe {
            let row = &ROWS[(*command).post.addr()];
            let settings = &mut *conf.cast::<Settings<NginxCompiler>>();
            let args = &*(*cf).args;
            let words = std::slice::from_raw_parts(args.elts.cast::<ngx_str_t>(), args.nelts);
            let words: Vec<&[u8]> = words.iter().map(|word| bytes(word)).collect();
            (row, settings, words)
        };
        let kind = |settings: &Settings<NginxCompiler>| {
            (settings.endpoint.as_ref().map(std::mem::discriminant), settings.cgi.is_some())
        };
        let had_endpoint = kind(settings);
        let had_status = settings.status.is_some();
        let had_group_info = settings.group_info;
        let read = (row.read)(settings, &mut NginxCompiler::new(cf, &WHOLE), &words[1..]).and_then(|()| {
            let (has_endpoint, has_status, has_group_info) = (
                kind(settings) != had_endpoint,
                settings.status.is_some() && !had_status,
                settings.group_info && !had_group_info,
            );
            if has_endpoint || has_status || has_group_info {
                content::take(cf, settings)?;
                // SAFETY: the directive was read; what is called here does not ask for the settings.
                let main = unsafe { MainSettings::of(cf) }.ok_or(Refused::Reported)?;
                if has_endpoint {
                    main.use_endpoint(settings);
                }
                if has_status {
                    main.use_ledger();
                }
                if has_group_info {
                    main.use_channels();
                }
            }
            Ok(())
        });
        match read {
            Ok(()) => ptr::null_mut(),
            Err(refused) => {
                report(cf, &row.name.to_string_lossy(), refused);
                ERROR
            }
        }
    })
}

fn report(cf: *mut ngx_conf_t, name: &str, refused: Refused) {
    match refused {
        Refused::Value { value, expected } => log::configuration(
            cf,
            format_args!("invalid value \"{value}\" in \"{name}\" directive, expected {expected}"),
        ),
        Refused::Wrong { value, reason } => {
            log::configuration(cf, format_args!("invalid value \"{value}\" in \"{name}\" directive: {reason}"));
        }
        Refused::Duplicate => log::configuration(cf, format_args!("\"{name}\" directive is duplicate")),
        Refused::Conflict(other) => {
            log::configuration(cf, format_args!("\"{name}\" directive cannot stand beside \"{other}\" in one location"))
        }
        Refused::Usage(reason) => log::configuration(cf, format_args!("\"{name}\" directive: {reason}")),
        Refused::Reported => {}
    }
}

/// Makes the empty settings of one level.
pub unsafe extern "C" fn create(cf: *mut ngx_conf_t) -> *mut c_void {
    guard(ptr::null_mut(), || {
        let settings = Box::into_raw(Box::new(Settings::<NginxCompiler>::default()));
        // SAFETY: the pool of the configuration is alive; the box is freed by its cleanup and nowhere else.
        unsafe {
            let cleanup = ngx_pool_cleanup_add((*cf).pool, 0);
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
        drop(unsafe { Box::from_raw(settings.cast::<Settings<NginxCompiler>>()) });
    });
}

/// The names of the locations from the server to the one that is being merged, with what kind of location each is.
fn path(cf: *mut ngx_conf_t, above: &[u8]) -> Vec<u8> {
    // SAFETY: nginx calls merge() while a location is merged, and nothing else calls this function.
    let (name, kind) = unsafe { (bytes(&(*conf_ctx::core_location_of(cf)).name), ngx_ws_conf_location_kind(cf)) };
    // The server itself, or http.
    if name.is_empty() { Vec::new() } else { [above, &[kind], name, &[0]].concat() }
}

/// Takes over from the level above.
pub unsafe extern "C" fn merge(cf: *mut ngx_conf_t, above: *mut c_void, here: *mut c_void) -> *mut c_char {
    guard(ERROR, || {
        // SAFETY: both are settings of create(), of two levels.
        let (above, here) =
            unsafe { (&*above.cast::<Settings<NginxCompiler>>(), &mut *here.cast::<Settings<NginxCompiler>>()) };
        let starts_others = here.says_how_to_start();
        let says_requested = here.exec_request == Some(true);
        let refuses = here.refuse_with_close.as_ref().is_some_and(|refusals| !refusals.is_empty());
        here.inherit(above);
        here.path = path(cf, &above.path);
        let is_inherited = content::inherit(cf, above, here);
        if refuses && content::refuse(cf, here) {
            // SAFETY: nginx is reading the configuration; what is called here does not ask for the settings.
            let Some(main) = (unsafe { MainSettings::of(cf) }) else { return ERROR };
            main.use_sessions();
        }
        if let Some(name) = content::displaced(cf, here).filter(|_| !is_inherited) {
            let reason = "another directive of this location takes its requests";
            log::configuration(cf, format_args!("\"{name}\" directive: {reason}"));
            return ERROR;
        }
        if says_requested && here.has_content() && here.shared_program().is_none() {
            let reason = "only a program that the clients of a channel share is started by requests, and here is no \"websocket_exec\" beside a \"websocket_channel\"";
            log::configuration(cf, format_args!("\"websocket_exec_request\" directive: {reason}"));
            return ERROR;
        }
        if matches!(here.endpoint, Some(EndpointSettings::Shared(_))) && here.exec_notes() {
            let reason = "a program that the clients of a \"websocket_channel\" share has no request that its notes are logged with";
            log::configuration(cf, format_args!("\"websocket_exec_notes\" directive: {reason}"));
            return ERROR;
        }
        if here.endpoint.is_some()
            && let Some(recordings) = here.recording()
        {
            if recordings.form == RecordingForm::Novnc && here.has_terminal() {
                let reason = "\"format=novnc\" is for the screen of a service, and here is a terminal";
                log::configuration(cf, format_args!("\"websocket_record\" directive: {reason}"));
                return ERROR;
            }
            // SAFETY: nginx is reading the configuration; what is called here does not ask for the settings.
            if let Some(main) = unsafe { MainSettings::of(cf) } {
                main.use_recordings();
            }
        }
        if matches!(here.endpoint, Some(EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_)))
            && here.exec_remote_host()
            && !content::has_resolver(cf)
        {
            let reason = "names of addresses are looked up by a \"resolver\", and none is defined here";
            log::configuration(cf, format_args!("\"websocket_exec_remote_host\" directive: {reason}"));
            return ERROR;
        }
        if here.exec_pool() == 0 {
            here.pool = 0;
        } else if !is_inherited || starts_others {
            if let Some(reason) = pool::refusal(here) {
                log::configuration(cf, format_args!("\"websocket_exec_pool\" directive: {reason}"));
                return ERROR;
            }
            here.pool = 0;
        }
        if let Some(name) = here.counted_as().filter(|_| !is_inherited)
            // SAFETY: nginx is reading the configuration; what is called here does not ask for the settings.
            && let Some(main) = unsafe { MainSettings::of(cf) }
        {
            here.key = main.counted.enter(cf, here, name);
            check::enter(&mut main.checks, here);
            capacity::enter(&mut main.limits, here, ledger::shown(&here.path).as_bytes());
        }
        if here.exec_pool() != 0
            && here.pool == 0
            // SAFETY: nginx is reading the configuration; what is called here does not ask for the settings.
            && let Some(main) = unsafe { MainSettings::of(cf) }
            && let Some(location) = PooledLocation::of(cf, here)
        {
            here.pool = location.number;
            capacity::enter_pool(&mut main.limits, here, ledger::shown(&here.path).as_bytes());
            main.pools.push(Rc::new(location));
        }
        // A block with "if" may have another user than the location around it.
        if here.has_program()
            && here.exec_user().is_some()
            // SAFETY: nginx passes the configuration that it reads.
            && let Some(main) = unsafe { MainSettings::of(cf) }
        {
            main.users.need();
        }
        if here.channel().is_some() || here.group_info {
            // SAFETY: nginx is reading the configuration; what is called here does not ask for the settings.
            let Some(main) = (unsafe { MainSettings::of(cf) }) else { return ERROR };
            let Some(engine) = main.engines.enter(cf, here) else { return ERROR };
            if engine != 0 && matches!(here.endpoint, Some(EndpointSettings::Shared(_))) {
                let reason = "a program that clients share is one machine's, and the channel is not: there is \"websocket_exec\" beside it";
                log::configuration(cf, format_args!("\"websocket_channel_redis\" directive: {reason}"));
                return ERROR;
            }
            here.engine = engine;
        }
        if tcp::allow::is_said(cf, here) && tcp::prepare(cf, here) { ptr::null_mut() } else { ERROR }
    })
}
