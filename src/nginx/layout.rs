// SPDX-License-Identifier: Apache-2.0

//! The layout guard: what the bindings believe of nginx's structs, compared with what C saw when the shim was compiled.

use std::ffi::CStr;
use std::mem::{offset_of, size_of};

use super::ffi::*;
use super::log;

/// Made by build.rs of `ngx/layout`, like `ngx_ws_layout` in the shim.
const LAYOUT: &[usize] = include!(concat!(env!("OUT_DIR"), "/layout.rs"));

/// Whether bindings and shim agree; says in the log where they do not.
pub fn agrees(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: both symbols are constants of the shim that is linked into this module.
    let (shim, count) = unsafe { (&raw const ngx_ws_layout as *const ngx_ws_layout_t, ngx_ws_nlayout) };
    if count != LAYOUT.len() {
        log::configuration(cf, format_args!("ws_exec: the module was put together from parts of two versions"));
        return false;
    }
    LAYOUT.iter().enumerate().all(|(place, &bindings)| {
        // SAFETY: place is below the number of rows that the shim says it has; the names are C literals.
        let (name, value) = unsafe {
            let row = &*shim.add(place);
            (CStr::from_ptr(row.name).to_string_lossy(), row.value)
        };
        if value != bindings {
            log::configuration(
                cf,
                format_args!(
                    "ws_exec: {name} is {value} in nginx's headers but {bindings} in the module's bindings: \
                     rebuild the module for this nginx"
                ),
            );
        }
        value == bindings
    })
}
