/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The shim: nginx's macros, inline functions and bit fields as functions. Here: the layout that C sees, configuration,
 * variables, logs and zones.
 */

#include "ngx_ws_exec.h"


const char        ngx_ws_module_signature[] = NGX_MODULE_SIGNATURE;


/* made by build.rs of the file "layout", like its counterpart in Rust */

const ngx_ws_layout_t  ngx_ws_layout[] = {
#include "ngx_ws_layout.inc"
};

const size_t  ngx_ws_nlayout = sizeof(ngx_ws_layout) / sizeof(ngx_ws_layout[0]);


void *
ngx_ws_get_loc_conf(ngx_http_request_t *r, ngx_module_t *module)
{
    return r->loc_conf[module->ctx_index];
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


/* "if" and "limit_except" are locations without a name of their own */

ngx_uint_t
ngx_ws_location_is_block(const ngx_http_core_loc_conf_t *clcf)
{
    return clcf->noname;
}


ngx_uint_t
ngx_ws_location_is_limit_except(const ngx_http_core_loc_conf_t *clcf)
{
    return clcf->lmt_excpt;
}


ngx_uint_t
ngx_ws_location_is_named(const ngx_http_core_loc_conf_t *clcf)
{
    return clcf->named;
}


ngx_str_t *
ngx_ws_conf_server_name(ngx_conf_t *cf)
{
    ngx_http_core_srv_conf_t  *cscf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);

    return &cscf->server_name;
}


/* the addresses that a server listens on, in the order of the configuration; NULL after the last one */

ngx_str_t *
ngx_ws_conf_server_address(ngx_conf_t *cf, ngx_uint_t n)
{
    ngx_uint_t                   p, a, s;
    ngx_http_conf_port_t        *port;
    ngx_http_conf_addr_t        *addr;
    ngx_http_core_srv_conf_t    *cscf, **server;
    ngx_http_core_main_conf_t   *cmcf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    if (cmcf->ports == NULL) {
        return NULL;
    }

    port = cmcf->ports->elts;

    for (p = 0; p < cmcf->ports->nelts; p++) {
        addr = port[p].addrs.elts;

        for (a = 0; a < port[p].addrs.nelts; a++) {
            server = addr[a].servers.elts;

            for (s = 0; s < addr[a].servers.nelts; s++) {
                if (server[s] == cscf && n-- == 0) {
                    return &addr[a].opt.addr_text;
                }
            }
        }
    }

    return NULL;
}


/* what tells locations apart that may have one name */

u_char
ngx_ws_conf_location_kind(ngx_conf_t *cf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname) {
        return clcf->lmt_excpt ? 'l' : 'i';
    }

#if (NGX_PCRE)
    if (clcf->regex) {
        return '~';
    }
#endif

    return clcf->exact_match ? '=' : '/';
}


/* calls the handler for each request that is over */
ngx_int_t
ngx_ws_conf_log_phase(ngx_conf_t *cf, ngx_http_handler_pt handler)
{
    ngx_http_handler_pt        *place;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    place = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (place == NULL) {
        return NGX_ERROR;
    }
    *place = handler;
    return NGX_OK;
}


void *
ngx_ws_cycle_main_conf(ngx_cycle_t *cycle, ngx_module_t *module)
{
    ngx_http_conf_ctx_t  *ctx;

    ctx = (ngx_http_conf_ctx_t *) ngx_get_conf(cycle->conf_ctx, ngx_http_module);

    return ctx ? ctx->main_conf[module->ctx_index] : NULL;
}


ngx_core_conf_t *
ngx_ws_core_conf(ngx_cycle_t *cycle)
{
    return (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
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
