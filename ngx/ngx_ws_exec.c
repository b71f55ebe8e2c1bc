/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The layout that C sees, what is asked while the configuration is read, and logs. In C: a constant of nginx's that is a concatenation
 * of strings, functions that take any number of arguments, the kind of a location, which depends on PCRE, and the addresses of a server
 * that are in structs of the configuration, which nginx changes from version to version.
 */

#include "ngx_ws_exec.h"


const char        ngx_ws_module_signature[] = NGX_MODULE_SIGNATURE;


/* made by build.rs of the file "layout", like its counterpart in Rust */

const ngx_ws_layout_t  ngx_ws_layout[] = {
#include "ngx_ws_layout.inc"
};

const size_t  ngx_ws_nlayout = sizeof(ngx_ws_layout) / sizeof(ngx_ws_layout[0]);


#include "ngx_ws_bits.inc"

const size_t  ngx_ws_nbits = sizeof(ngx_ws_bits) / sizeof(ngx_ws_bits[0]);


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


void
ngx_ws_log(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const u_char *text, size_t len)
{
    ngx_log_error_core(level, log, err, "%*s", len, text);
}


void
ngx_ws_conf_log(ngx_uint_t level, ngx_conf_t *cf, const u_char *text, size_t len)
{
    ngx_conf_log_error(level, cf, 0, "%*s", len, text);
}
