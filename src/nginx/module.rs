// SPDX-License-Identifier: Apache-2.0

//! What nginx finds when it loads the module.

#![allow(non_upper_case_globals)]

use std::ffi::{c_char, c_void};
use std::ptr;

use super::commands::{self, COMMANDS};
use super::conf_ctx;
use super::ffi::*;
use super::guard::{self, guard, guard_status};
use super::main_settings::MainSettings;
use super::program::check;
use super::status::Status;
use super::{capacity, layout, main_settings, module_file, refused, variables, worker};

/// A constant that nginx gets a pointer to.
#[repr(transparent)]
pub struct Exported<T>(T);

// SAFETY: nginx loads modules, reads configurations and serves requests from one thread of each process.
unsafe impl<T> Sync for Exported<T> {}

static CONTEXT: Exported<ngx_http_module_t> = Exported(ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(main_settings::create),
    init_main_conf: Some(main_settings::init),
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(commands::create),
    merge_loc_conf: Some(commands::merge),
});

/// The module.
#[unsafe(no_mangle)]
pub static mut ngx_http_ws_exec_module: ngx_module_t = ngx_module_t {
    ctx_index: usize::MAX,
    index: usize::MAX,
    name: ptr::null_mut(),
    spare0: 0,
    spare1: 0,
    version: nginx_version as usize,
    signature: (&raw const ngx_ws_module_signature).cast::<c_char>(),
    ctx: (&raw const CONTEXT).cast::<c_void>().cast_mut(),
    commands: COMMANDS.as_ptr(),
    type_: NGX_HTTP_MODULE as usize,
    init_master: None,
    init_module: Some(init_module),
    init_process: Some(init_process),
    init_thread: None,
    exit_thread: None,
    exit_process: Some(exit_process),
    exit_master: None,
    spare_hook0: 0,
    spare_hook1: 0,
    spare_hook2: 0,
    spare_hook3: 0,
    spare_hook4: 0,
    spare_hook5: 0,
    spare_hook6: 0,
    spare_hook7: 0,
};

/// The modules of this file, for nginx's loader. An nginx that the module is linked into has these three names itself.
#[cfg(not(feature = "static"))]
#[unsafe(no_mangle)]
pub static ngx_modules: Exported<[*mut ngx_module_t; 2]> =
    Exported([&raw mut ngx_http_ws_exec_module, ptr::null_mut()]);

/// Their names, in the same order.
#[cfg(not(feature = "static"))]
#[unsafe(no_mangle)]
pub static ngx_module_names: Exported<[*const c_char; 2]> =
    Exported([c"ngx_http_ws_exec_module".as_ptr(), ptr::null()]);

/// No order among other modules is asked for.
#[cfg(not(feature = "static"))]
#[unsafe(no_mangle)]
pub static ngx_module_order: Exported<[*const c_char; 1]> = Exported([ptr::null()]);

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    guard_status(Status::ERROR, || {
        guard::install();
        Status::ok_if(layout::agrees(cf) && variables::add(cf))
    })
}

/// All of a configuration has been read: by "nginx -t", at the start, or for a reload.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard_status(Status::ERROR, || {
        module_file::run(cycle);
        // SAFETY: nginx passes the cycle that it has read; what is called here does not ask for the settings.
        if let Some(main) = unsafe { MainSettings::of_cycle(cycle) } {
            // They are not needed a second time.
            check::run(cycle, &std::mem::take(&mut main.checks));
            capacity::run(cycle, &std::mem::take(&mut main.limits), main.channels.is_some());
            main.engines.enter_figures();
        }
        Status::OK
    })
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    guard_status(Status::ERROR, || Status::ok_if(main_settings::finish(cf) && add_log_handler(cf)))
}

/// Counts refusals of other modules, if there is anything to count for.
fn add_log_handler(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: nginx is reading the configuration; the reference is not kept.
    if !unsafe { MainSettings::of(cf) }.is_some_and(|main| main.is_used()) {
        return true;
    }
    // SAFETY: the configuration is being read, and nginx has not gone over to the handlers of its phases, which are arrays of functions.
    unsafe {
        let main = conf_ctx::main_of(cf, &raw const ngx_http_core_module).cast::<ngx_http_core_main_conf_t>();
        let handlers = &raw mut (*main).phases[NGX_HTTP_LOG_PHASE as usize].handlers;
        let place = ngx_array_push(handlers).cast::<ngx_http_handler_pt>();
        if place.is_null() {
            return false;
        }
        place.write(Some(refused::on_log));
    }
    true
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard_status(Status::ERROR, || Status::ok_if(worker::start(cycle)))
}

unsafe extern "C" fn exit_process(_: *mut ngx_cycle_t) {
    guard((), worker::exit);
}
