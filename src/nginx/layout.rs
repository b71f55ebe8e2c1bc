//! The layout guard: what the bindings believe of nginx's structs, compared with what C saw when the shim was compiled.

use std::ffi::CStr;
use std::mem::{offset_of, size_of};

use super::ffi::*;
use super::log;

/// In the order of `ngx_ws_layout` in the shim.
const LAYOUT: &[usize] = &[
    size_of::<ngx_module_t>(),
    offset_of!(ngx_module_t, ctx_index),
    offset_of!(ngx_module_t, commands),
    offset_of!(ngx_module_t, init_process),
    size_of::<ngx_command_t>(),
    size_of::<ngx_http_module_t>(),
    size_of::<ngx_conf_t>(),
    offset_of!(ngx_conf_t, args),
    offset_of!(ngx_conf_t, ctx),
    size_of::<ngx_cycle_t>(),
    offset_of!(ngx_cycle_t, log),
    size_of::<ngx_event_t>(),
    offset_of!(ngx_event_t, handler),
    offset_of!(ngx_event_t, log),
    size_of::<ngx_connection_t>(),
    offset_of!(ngx_connection_t, read),
    offset_of!(ngx_connection_t, write),
    offset_of!(ngx_connection_t, fd),
    offset_of!(ngx_connection_t, log),
    offset_of!(ngx_connection_t, addr_text),
    offset_of!(ngx_connection_t, sockaddr),
    size_of::<ngx_http_request_t>(),
    offset_of!(ngx_http_request_t, ctx),
    offset_of!(ngx_http_request_t, read_event_handler),
    offset_of!(ngx_http_request_t, write_event_handler),
    offset_of!(ngx_http_request_t, header_in),
    offset_of!(ngx_http_request_t, headers_in),
    offset_of!(ngx_http_request_t, headers_out),
    offset_of!(ngx_http_request_t, pool),
    offset_of!(ngx_http_request_t, method),
    offset_of!(ngx_http_request_t, uri),
    offset_of!(ngx_http_request_t, args),
    offset_of!(ngx_http_request_t, unparsed_uri),
    offset_of!(ngx_http_request_t, method_name),
    offset_of!(ngx_http_request_t, http_protocol),
    offset_of!(ngx_http_headers_in_t, headers),
    offset_of!(ngx_http_headers_in_t, server),
    offset_of!(ngx_http_headers_in_t, user),
    offset_of!(ngx_http_headers_out_t, headers),
    offset_of!(ngx_http_headers_out_t, status),
    size_of::<ngx_http_core_loc_conf_t>(),
    offset_of!(ngx_http_core_loc_conf_t, name),
    offset_of!(ngx_http_core_loc_conf_t, handler),
    size_of::<ngx_http_cleanup_t>(),
    size_of::<ngx_http_variable_t>(),
    size_of::<ngx_http_variable_value_t>(),
    size_of::<ngx_http_complex_value_t>(),
    size_of::<ngx_http_compile_complex_value_t>(),
    size_of::<ngx_table_elt_t>(),
    offset_of!(ngx_table_elt_t, key),
    offset_of!(ngx_table_elt_t, value),
    size_of::<ngx_shm_zone_t>(),
    offset_of!(ngx_shm_zone_t, data),
    offset_of!(ngx_shm_zone_t, init),
    offset_of!(ngx_connection_t, pool),
    offset_of!(ngx_connection_t, local_sockaddr),
    offset_of!(ngx_http_request_t, upstream),
    offset_of!(ngx_http_request_t, upstream_states),
    offset_of!(ngx_http_core_loc_conf_t, resolver),
    offset_of!(ngx_http_core_loc_conf_t, resolver_timeout),
    offset_of!(ngx_http_upstream_t, peer),
    offset_of!(ngx_http_upstream_t, conf),
    offset_of!(ngx_http_upstream_t, upstream),
    offset_of!(ngx_http_upstream_t, state),
    offset_of!(ngx_http_upstream_t, schema),
    size_of::<ngx_peer_connection_t>(),
    offset_of!(ngx_peer_connection_t, sockaddr),
    offset_of!(ngx_peer_connection_t, tries),
    offset_of!(ngx_peer_connection_t, free),
    offset_of!(ngx_peer_connection_t, data),
    size_of::<ngx_http_upstream_state_t>(),
    offset_of!(ngx_http_upstream_state_t, peer),
    size_of::<ngx_http_upstream_srv_conf_t>(),
    offset_of!(ngx_http_upstream_srv_conf_t, peer),
    offset_of!(ngx_http_upstream_srv_conf_t, port),
    offset_of!(ngx_http_upstream_main_conf_t, upstreams),
    size_of::<ngx_http_upstream_resolved_t>(),
    size_of::<ngx_resolver_ctx_t>(),
    offset_of!(ngx_resolver_ctx_t, handler),
    offset_of!(ngx_resolver_ctx_t, addrs),
    size_of::<ngx_resolver_addr_t>(),
    size_of::<ngx_url_t>(),
    offset_of!(ngx_url_t, addrs),
    offset_of!(ngx_url_t, err),
];

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
