// SPDX-License-Identifier: Apache-2.0

//! Where nginx keeps the settings of modules: by the index of the module, for a cycle, for the configuration that is being read, and
//! for a request. What nginx has macros for (`ngx_http_get_module_loc_conf` and the like).

use std::ffi::c_void;
use std::ptr;

use super::ffi;

/// The settings of nginx's core in a cycle.
///
/// # Safety
///
/// The cycle is alive.
pub unsafe fn core_of_cycle(cycle: *mut ffi::ngx_cycle_t) -> *mut ffi::ngx_core_conf_t {
    // SAFETY: a cycle has settings for each core module, by its index.
    unsafe { (*(*cycle).conf_ctx.add(ffi::ngx_core_module.index)).cast() }
}

/// What a module has for the whole http block of a cycle; null without such a block.
///
/// # Safety
///
/// Cycle and module are alive.
pub unsafe fn main_of_cycle(cycle: *mut ffi::ngx_cycle_t, module: *const ffi::ngx_module_t) -> *mut c_void {
    // SAFETY: what the http module has in a cycle is null, or a context with settings for each http module.
    unsafe {
        let context = (*(*cycle).conf_ctx.add(ffi::ngx_http_module.index)).cast::<ffi::ngx_http_conf_ctx_t>();
        context.as_ref().map_or(ptr::null_mut(), |context| *context.main_conf.add((*module).ctx_index))
    }
}

/// What a module has for the http block of the configuration that is being read.
///
/// # Safety
///
/// The configuration is being read, inside its http block, and the module is an http module.
pub unsafe fn main_of(cf: *mut ffi::ngx_conf_t, module: *const ffi::ngx_module_t) -> *mut c_void {
    // SAFETY: inside of the http block the context is one of http, which has settings for each http module.
    unsafe { *(*(*cf).ctx.cast::<ffi::ngx_http_conf_ctx_t>()).main_conf.add((*module).ctx_index) }
}

/// What a module has for the location, or the level, of the configuration that is being read.
///
/// # Safety
///
/// The configuration is being read, inside its http block, and the module is an http module.
pub unsafe fn location_of(cf: *mut ffi::ngx_conf_t, module: *const ffi::ngx_module_t) -> *mut c_void {
    // SAFETY: the caller sees to the context being one of http, which has settings for each http module at each of its levels.
    unsafe { *(*(*cf).ctx.cast::<ffi::ngx_http_conf_ctx_t>()).loc_conf.add((*module).ctx_index) }
}

/// nginx's own settings of the server that is being read or merged.
///
/// # Safety
///
/// The configuration is being read, inside a server of its http block.
pub unsafe fn core_server_of(cf: *mut ffi::ngx_conf_t) -> *mut ffi::ngx_http_core_srv_conf_t {
    // SAFETY: the caller sees to the context being one of a server, which has settings for each http module.
    unsafe {
        let context = &*(*cf).ctx.cast::<ffi::ngx_http_conf_ctx_t>();
        (*context.srv_conf.add(ffi::ngx_http_core_module.ctx_index)).cast()
    }
}

/// nginx's own settings of the location that is being read or merged.
///
/// # Safety
///
/// The configuration is being read, inside its http block.
pub unsafe fn core_location_of(cf: *mut ffi::ngx_conf_t) -> *mut ffi::ngx_http_core_loc_conf_t {
    // SAFETY: the caller sees to the configuration, and nginx's core is an http module.
    unsafe { location_of(cf, &raw const ffi::ngx_http_core_module).cast() }
}

/// What a module has for the whole http block that a request is served by.
///
/// # Safety
///
/// The request is alive, and the module is an http module.
pub unsafe fn main_of_request(request: *mut ffi::ngx_http_request_t, module: *const ffi::ngx_module_t) -> *mut c_void {
    // SAFETY: the caller sees to the request, and a request has settings for each http module.
    unsafe { *(*request).main_conf.add((*module).ctx_index) }
}

/// What a module has for the location of a request.
///
/// # Safety
///
/// The request is alive, and the module is an http module.
pub unsafe fn location_of_request(
    request: *mut ffi::ngx_http_request_t,
    module: *const ffi::ngx_module_t,
) -> *mut c_void {
    // SAFETY: the caller sees to the request, and a request has settings of its location for each http module.
    unsafe { *(*request).loc_conf.add((*module).ctx_index) }
}
