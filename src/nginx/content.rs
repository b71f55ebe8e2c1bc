// SPDX-License-Identifier: Apache-2.0

//! Who answers the requests of a location: nginx's content handler, while the configuration is read.
//!
//! A block "if" or "limit_except" is a location of its own to nginx, with settings of its own, to which a request goes over.
//! In an "if" the request keeps the handler of the location around it, in a "limit_except" it has none. In both of them
//! the settings have to be what the handler reads; see [`inherit`].

use std::ptr;

use super::channel::group;
use super::template::NginxCompiler;
use super::{conf_ctx, ffi, status_page, upgrade};
use crate::conf::{Refused, Settings};

/// A content handler.
pub type Handler = unsafe extern "C" fn(*mut ffi::ngx_http_request_t) -> ffi::ngx_int_t;

/// Makes this module answer the requests of the location that is being read, which has these settings.
///
/// # Errors
///
/// Another directive has done that already.
pub fn take(cf: *mut ffi::ngx_conf_t, settings: &Settings<NginxCompiler>) -> Result<(), Refused> {
    let Some(handler) = handler_of(settings) else { return Ok(()) };
    // SAFETY: the location is being read or merged, and this is the only reference to it here.
    let location = unsafe { location(cf) };
    if location.handler.is_some_and(|present| !ptr::fn_addr_eq(present, handler)) {
        return Err(Refused::Usage("another directive of this location has taken its requests already".to_owned()));
    }
    location.handler = Some(handler);
    Ok(())
}

/// Gives the location that is being merged what answers the requests of the location around it, if it is a block that is
/// entered with a handler: the endpoint with its key, the status, the group. Whether it was given anything.
///
/// A directive of another module in the block, such as "proxy_pass", answers in place of all that.
pub fn inherit(cf: *mut ffi::ngx_conf_t, around: &Settings<NginxCompiler>, here: &mut Settings<NginxCompiler>) -> bool {
    // SAFETY: the location is being read or merged, and this is the only reference to it here.
    let location = unsafe { location(cf) };
    let (unnamed, limits, named) = (location.noname() != 0, location.lmt_excpt() != 0, location.named() != 0);
    here.named = named || (unnamed && around.named);
    if !unnamed || location.handler.is_some() || here.has_content() {
        return false;
    }
    here.inherit_content(around);
    if limits {
        location.handler = handler_of(here);
    }
    here.has_content()
}

/// Makes a named location that has nothing to answer requests with tell clients that they were refused. Whether it does now.
pub fn refuse(cf: *mut ffi::ngx_conf_t, here: &Settings<NginxCompiler>) -> bool {
    // SAFETY: the location is being read or merged, and this is the only reference to it here.
    let location = unsafe { location(cf) };
    let takes = location.named() != 0 && location.handler.is_none() && !here.has_content();
    if takes {
        location.handler = Some(upgrade::handler);
    }
    takes
}

/// The directive of this module that was to answer the requests of the location that is being merged, if another module
/// has taken them from it.
pub fn displaced(cf: *mut ffi::ngx_conf_t, here: &Settings<NginxCompiler>) -> Option<&'static str> {
    let wanted = handler_of(here)?;
    // SAFETY: the location is being merged; the reference is not kept.
    let present = unsafe { location(cf) }.handler.is_some_and(|present| ptr::fn_addr_eq(present, wanted));
    if present { None } else { here.content() }
}

/// Whether names can be looked up for the location that is being merged.
pub fn has_resolver(cf: *mut ffi::ngx_conf_t) -> bool {
    // SAFETY: the location is being merged; nginx has merged its own settings before, and where there is no resolver has put one
    // without servers there. The references are not kept.
    unsafe { location(cf).resolver.as_ref() }.is_some_and(|resolver| resolver.connections.nelts > 0)
}

/// The content handler for these settings.
fn handler_of(settings: &Settings<NginxCompiler>) -> Option<Handler> {
    if settings.endpoint.is_some() || settings.cgi.is_some() {
        Some(upgrade::handler)
    } else if settings.status.is_some() {
        Some(status_page::handler)
    } else {
        settings.group_info.then_some(group::handler as Handler)
    }
}

/// nginx's own settings of the location that is being read or merged.
///
/// # Safety
///
/// A directive of a location is being read, or a location is being merged, and nothing else that refers to the settings is used as
/// long as the result is.
unsafe fn location<'a>(cf: *mut ffi::ngx_conf_t) -> &'a mut ffi::ngx_http_core_loc_conf_t {
    // SAFETY: the caller sees to the configuration being read or merged, and to the only reference being this one.
    unsafe { &mut *conf_ctx::core_location_of(cf) }
}
