// SPDX-License-Identifier: Apache-2.0

//! Whom nginx has authenticated by `auth_basic`.
//!
//! `$remote_user` is the name in `Authorization: Basic`, whether or not anybody has looked at the password. A program is to be told of a
//! user only if the server has authenticated one (RFC 3875, sections 4.1.1 and 4.1.11). nginx does not note that at the request, but it
//! follows from the location: where `auth_basic` is on and each of the access modules has to agree (`satisfy all`), no request is
//! answered before its password was checked. With `satisfy any` an address may have been enough, so that the name proves nothing.

use std::ffi::{CStr, c_void};
use std::ptr;

use super::conf_ctx;
use super::ffi;
use super::request::{Request, bytes};
use super::template;

/// The user whose password nginx has checked before this request, or the one that it is a part of, was answered.
pub fn user(request: Request<'_>) -> Option<&[u8]> {
    // A subrequest passes no access modules: it is its main request that does, or still has to, if it is `auth_request` that asks.
    let main = request.main();
    if !is_required(main) || is_being_checked(main) {
        return None;
    }
    Some(main.claimed_user()).filter(|user| !user.is_empty())
}

/// Whether the location lets nobody in without a password.
fn is_required(request: Request<'_>) -> bool {
    // SAFETY: the request lives, and so do the settings of its location, also those of nginx's own modules.
    unsafe {
        let module = module();
        if module.is_null() || (*request.core_location()).satisfy != ffi::NGX_HTTP_SATISFY_ALL as usize {
            return false;
        }
        let location = conf_ctx::location_of_request(request.raw(), module).cast_const();
        let realm = setting(module, b"auth_basic", location);
        let users = setting(module, b"auth_basic_user_file", location);
        if realm.is_null() || users.is_null() {
            return false;
        }
        let realm = realm.cast_mut().cast::<ffi::ngx_http_complex_value_t>();
        template::evaluate(realm, request).is_some_and(|realm| realm != b"off")
    }
}

/// Whether access modules are still at work on the request, or have not begun: a redirect may have brought it to a location which then
/// answered it in an earlier phase.
fn is_being_checked(request: Request<'_>) -> bool {
    let access: ffi::ngx_http_phase_handler_pt = Some(ffi::ngx_http_core_access_phase);
    // SAFETY: the request lives, its place among the handlers of nginx's phases is that of the last one that was called, the settings
    // of nginx's core are there for every request, and the handlers end with one that has no checker.
    unsafe {
        let core = conf_ctx::main_of_request(request.raw(), &raw const ffi::ngx_http_core_module);
        let core = core.cast::<ffi::ngx_http_core_main_conf_t>();
        let place = usize::try_from((*request.raw()).phase_handler).unwrap_or_default();
        let mut handler = (*core).phase_engine.handlers.add(place);
        while let Some(checker) = (*handler).checker {
            if access.is_some_and(|access| ptr::fn_addr_eq(checker, access)) {
                return true;
            }
            handler = handler.add(1);
        }
    }
    false
}

/// nginx's module for `auth_basic`; null where nginx was built without it.
fn module() -> *const ffi::ngx_module_t {
    // SAFETY: the modules of a cycle are a list that ends with a null pointer, and each of them has been given its name.
    unsafe {
        let mut place = (*ffi::ngx_cycle).modules;
        while !(*place).is_null() {
            if CStr::from_ptr((**place).name) == c"ngx_http_auth_basic_module" {
                return *place;
            }
            place = place.add(1);
        }
    }
    ptr::null()
}

/// What a directive of a module has set in a location, as the module's table says where that is: a pointer, null if it was not used.
///
/// Before nginx 1.21 the file of users is no pointer but a value, which begins with the length of its text: not null either if the
/// directive was used.
///
/// # Safety
///
/// The module is one of nginx's, and the settings are its own of a location.
unsafe fn setting(module: *const ffi::ngx_module_t, name: &[u8], location: *const c_void) -> *const c_void {
    // SAFETY: the table of directives ends with an empty name; the caller sees to the settings, in which each of these directives has
    // a word.
    unsafe {
        let mut command = (*module).commands.cast_const();
        while (*command).name.len != 0 {
            if bytes(&(*command).name) == name {
                return location.byte_add((*command).offset).cast::<*const c_void>().read();
            }
            command = command.add(1);
        }
    }
    ptr::null()
}
