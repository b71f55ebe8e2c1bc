// SPDX-License-Identifier: Apache-2.0

//! Where nginx finds this module.

use super::ffi::ngx_module_t;

unsafe extern "C" {
    /// What the root of `src/nginx` gives nginx, which is all that is known of it here.
    static mut ngx_http_ws_exec_module: ngx_module_t;
}

/// The module, for nginx's functions that want to know who calls.
pub fn of_module() -> *mut ngx_module_t {
    &raw mut ngx_http_ws_exec_module
}
