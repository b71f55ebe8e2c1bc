/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connections to a service. In C: what nginx does to a connection that has no request behind it is for a struct that is only there during the
 * call; the settings of an upstream live as long as the process; and NGX_NO_RESOLVER is a macro with a cast.
 */

#include "ngx_ws_exec.h"


/*
 * connects to one address that is known, for whoever has no request: the connection, and NGX_OK or NGX_AGAIN; null otherwise, and what
 * the system said. It is for those who try again and again, and tell once themselves what is wrong: nginx logs nothing above info of a
 * server that cannot be reached.
 */

ngx_connection_t *
ngx_ws_connect(struct sockaddr *address, socklen_t length, ngx_str_t *name, ngx_log_t *log, ngx_int_t *result, int *error)
{
    ngx_log_t              quiet;
    ngx_peer_connection_t  peer;

    /* ngx_event_connect_peer() does not ask log_error where connect() fails at once: NGX_LOG_CRIT for a unix socket that is gone */
    quiet = *log;
    quiet.log_level = ngx_min(log->log_level, NGX_LOG_ALERT);

    ngx_memzero(&peer, sizeof(ngx_peer_connection_t));

    peer.sockaddr = address;
    peer.socklen = length;
    peer.name = name;
    peer.get = ngx_event_get_peer;
    peer.log = &quiet;
    peer.log_error = NGX_ERROR_INFO;

    ngx_set_errno(0);
    *result = ngx_event_connect_peer(&peer);
    *error = ngx_errno;

    if (*result == NGX_OK || *result == NGX_AGAIN) {
        peer.connection->log = log;
        peer.connection->read->log = log;
        peer.connection->write->log = log;
        return peer.connection;
    }

    if (peer.connection) {
        ngx_close_connection(peer.connection);
    }

    return NULL;
}


/* balancers may look at it; nothing in it applies to a service */

ngx_http_upstream_conf_t *
ngx_ws_upstream_conf(void)
{
    static ngx_http_upstream_conf_t  conf;

    ngx_str_set(&conf.module, "websocket_tcp");

    return &conf;
}


ngx_int_t
ngx_ws_resolve_start(ngx_resolver_t *resolver, ngx_str_t *name, ngx_resolver_ctx_t **ctx)
{
    ngx_resolver_ctx_t  temp;

    ngx_memzero(&temp, sizeof(ngx_resolver_ctx_t));
    temp.name = *name;

    *ctx = ngx_resolve_start(resolver, &temp);

    if (*ctx == NULL) {
        return NGX_ERROR;
    }

    if (*ctx == NGX_NO_RESOLVER) {
        *ctx = NULL;
        return NGX_DECLINED;
    }

    return NGX_OK;
}
