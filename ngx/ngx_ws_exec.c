/*
 * The shim: nginx's macros, inline functions and bit fields as functions. Here: the layout that C sees, configuration,
 * variables, logs and zones.
 */

#include "ngx_ws_exec.h"


const char        ngx_ws_module_signature[] = NGX_MODULE_SIGNATURE;
const ngx_uint_t  ngx_ws_module_index_unset = NGX_MODULE_UNSET_INDEX;


#define ngx_ws_size(type)           { "sizeof(" #type ")", sizeof(type) }
#define ngx_ws_offset(type, field)                                           \
    { "offsetof(" #type ", " #field ")", offsetof(type, field) }

/* in the order of LAYOUT in src/nginx/layout.rs */

const ngx_ws_layout_t  ngx_ws_layout[] = {
    ngx_ws_size(ngx_module_t),
    ngx_ws_offset(ngx_module_t, ctx_index),
    ngx_ws_offset(ngx_module_t, commands),
    ngx_ws_offset(ngx_module_t, init_process),
    ngx_ws_size(ngx_command_t),
    ngx_ws_size(ngx_http_module_t),
    ngx_ws_size(ngx_conf_t),
    ngx_ws_offset(ngx_conf_t, args),
    ngx_ws_offset(ngx_conf_t, ctx),
    ngx_ws_size(ngx_cycle_t),
    ngx_ws_offset(ngx_cycle_t, log),
    ngx_ws_size(ngx_event_t),
    ngx_ws_offset(ngx_event_t, handler),
    ngx_ws_offset(ngx_event_t, log),
    ngx_ws_size(ngx_connection_t),
    ngx_ws_offset(ngx_connection_t, read),
    ngx_ws_offset(ngx_connection_t, write),
    ngx_ws_offset(ngx_connection_t, fd),
    ngx_ws_offset(ngx_connection_t, log),
    ngx_ws_offset(ngx_connection_t, addr_text),
    ngx_ws_offset(ngx_connection_t, sockaddr),
    ngx_ws_size(ngx_http_request_t),
    ngx_ws_offset(ngx_http_request_t, ctx),
    ngx_ws_offset(ngx_http_request_t, read_event_handler),
    ngx_ws_offset(ngx_http_request_t, write_event_handler),
    ngx_ws_offset(ngx_http_request_t, header_in),
    ngx_ws_offset(ngx_http_request_t, headers_in),
    ngx_ws_offset(ngx_http_request_t, headers_out),
    ngx_ws_offset(ngx_http_request_t, pool),
    ngx_ws_offset(ngx_http_request_t, method),
    ngx_ws_offset(ngx_http_request_t, uri),
    ngx_ws_offset(ngx_http_request_t, args),
    ngx_ws_offset(ngx_http_request_t, unparsed_uri),
    ngx_ws_offset(ngx_http_request_t, method_name),
    ngx_ws_offset(ngx_http_request_t, http_protocol),
    ngx_ws_offset(ngx_http_headers_in_t, headers),
    ngx_ws_offset(ngx_http_headers_in_t, server),
    ngx_ws_offset(ngx_http_headers_in_t, user),
    ngx_ws_offset(ngx_http_headers_out_t, headers),
    ngx_ws_offset(ngx_http_headers_out_t, status),
    ngx_ws_size(ngx_http_core_loc_conf_t),
    ngx_ws_offset(ngx_http_core_loc_conf_t, name),
    ngx_ws_offset(ngx_http_core_loc_conf_t, handler),
    ngx_ws_size(ngx_http_cleanup_t),
    ngx_ws_size(ngx_http_variable_t),
    ngx_ws_size(ngx_http_variable_value_t),
    ngx_ws_size(ngx_http_complex_value_t),
    ngx_ws_size(ngx_http_compile_complex_value_t),
    ngx_ws_size(ngx_table_elt_t),
    ngx_ws_offset(ngx_table_elt_t, key),
    ngx_ws_offset(ngx_table_elt_t, value),
    ngx_ws_size(ngx_shm_zone_t),
    ngx_ws_offset(ngx_shm_zone_t, data),
    ngx_ws_offset(ngx_shm_zone_t, init),
    ngx_ws_offset(ngx_connection_t, pool),
    ngx_ws_offset(ngx_connection_t, local_sockaddr),
    ngx_ws_offset(ngx_http_request_t, upstream),
    ngx_ws_offset(ngx_http_request_t, upstream_states),
    ngx_ws_offset(ngx_http_core_loc_conf_t, resolver),
    ngx_ws_offset(ngx_http_core_loc_conf_t, resolver_timeout),
    ngx_ws_offset(ngx_http_upstream_t, peer),
    ngx_ws_offset(ngx_http_upstream_t, conf),
    ngx_ws_offset(ngx_http_upstream_t, upstream),
    ngx_ws_offset(ngx_http_upstream_t, state),
    ngx_ws_offset(ngx_http_upstream_t, schema),
    ngx_ws_size(ngx_peer_connection_t),
    ngx_ws_offset(ngx_peer_connection_t, sockaddr),
    ngx_ws_offset(ngx_peer_connection_t, tries),
    ngx_ws_offset(ngx_peer_connection_t, free),
    ngx_ws_offset(ngx_peer_connection_t, data),
    ngx_ws_size(ngx_http_upstream_state_t),
    ngx_ws_offset(ngx_http_upstream_state_t, peer),
    ngx_ws_size(ngx_http_upstream_srv_conf_t),
    ngx_ws_offset(ngx_http_upstream_srv_conf_t, peer),
    ngx_ws_offset(ngx_http_upstream_srv_conf_t, port),
    ngx_ws_offset(ngx_http_upstream_main_conf_t, upstreams),
    ngx_ws_size(ngx_http_upstream_resolved_t),
    ngx_ws_size(ngx_resolver_ctx_t),
    ngx_ws_offset(ngx_resolver_ctx_t, handler),
    ngx_ws_offset(ngx_resolver_ctx_t, addrs),
    ngx_ws_size(ngx_resolver_addr_t),
    ngx_ws_size(ngx_url_t),
    ngx_ws_offset(ngx_url_t, addrs),
    ngx_ws_offset(ngx_url_t, err),
};

const size_t  ngx_ws_nlayout = sizeof(ngx_ws_layout) / sizeof(ngx_ws_layout[0]);


void *
ngx_ws_get_loc_conf(ngx_http_request_t *r, ngx_module_t *module)
{
    return r->loc_conf[module->ctx_index];
}


void *
ngx_ws_get_main_conf(ngx_http_request_t *r, ngx_module_t *module)
{
    return r->main_conf[module->ctx_index];
}


ngx_http_core_loc_conf_t *
ngx_ws_get_core_loc_conf(ngx_http_request_t *r)
{
    return ngx_http_get_module_loc_conf(r, ngx_http_core_module);
}


ngx_http_core_loc_conf_t *
ngx_ws_conf_core_loc_conf(ngx_conf_t *cf)
{
    return ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
}


ngx_str_t *
ngx_ws_conf_server_name(ngx_conf_t *cf)
{
    ngx_http_core_srv_conf_t  *cscf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);

    return &cscf->server_name;
}


void *
ngx_ws_cycle_main_conf(ngx_cycle_t *cycle, ngx_module_t *module)
{
    ngx_http_conf_ctx_t  *ctx;

    ctx = (ngx_http_conf_ctx_t *) ngx_get_conf(cycle->conf_ctx, ngx_http_module);

    return ctx ? ctx->main_conf[module->ctx_index] : NULL;
}


void *
ngx_ws_conf_loc_conf(ngx_conf_t *cf, ngx_module_t *module)
{
    return ((ngx_http_conf_ctx_t *) cf->ctx)->loc_conf[module->ctx_index];
}


void *
ngx_ws_conf_main_conf(ngx_conf_t *cf, ngx_module_t *module)
{
    return ((ngx_http_conf_ctx_t *) cf->ctx)->main_conf[module->ctx_index];
}


void
ngx_ws_variable_flags(ngx_http_variable_t *v, uintptr_t data, ngx_http_get_variable_pt get)
{
    v->get_handler = get;
    v->data = data;
}


void
ngx_ws_variable_value(ngx_http_variable_value_t *v, u_char *data, size_t len, ngx_uint_t found)
{
    v->len = len;
    v->data = data;
    v->valid = found ? 1 : 0;
    v->no_cacheable = 1;
    v->not_found = found ? 0 : 1;
}


void
ngx_ws_log(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const u_char *text, size_t len)
{
    if (log->log_level >= level) {
        ngx_log_error_core(level, log, err, "%*s", len, text);
    }
}


void
ngx_ws_conf_log(ngx_uint_t level, ngx_conf_t *cf, const u_char *text, size_t len)
{
    ngx_conf_log_error(level, cf, 0, "%*s", len, text);
}


ngx_uint_t
ngx_ws_log_enabled(ngx_uint_t level, const ngx_log_t *log)
{
    return log->log_level >= level;
}


void
ngx_ws_zone_lock(ngx_shm_zone_t *zone)
{
    ngx_slab_pool_t  *shpool;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    ngx_shmtx_lock(&shpool->mutex);
}


void
ngx_ws_zone_unlock(ngx_shm_zone_t *zone)
{
    ngx_slab_pool_t  *shpool;

    shpool = (ngx_slab_pool_t *) zone->shm.addr;
    ngx_shmtx_unlock(&shpool->mutex);
}
