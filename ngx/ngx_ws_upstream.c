/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Addresses, groups of upstream servers, the resolver, and sockets to a service.
 */

#include "ngx_ws_exec.h"


/* names are not looked up: that would block */

ngx_int_t
ngx_ws_parse_address(ngx_pool_t *pool, ngx_str_t *text, ngx_url_t *url)
{
    ngx_memzero(url, sizeof(ngx_url_t));

    url->url = *text;
    url->no_resolve = 1;

    return ngx_parse_url(pool, url);
}


/* the same, but names are looked up: only while the configuration is read */

ngx_int_t
ngx_ws_resolve_now(ngx_pool_t *pool, ngx_str_t *text, ngx_uint_t port, ngx_url_t *url)
{
    ngx_memzero(url, sizeof(ngx_url_t));

    url->url = *text;
    url->default_port = (in_port_t) port;

    return ngx_parse_url(pool, url);
}


/* connects to one address that is known, for whoever has no request: the connection, and NGX_OK or NGX_AGAIN; null otherwise */

ngx_connection_t *
ngx_ws_connect(struct sockaddr *address, socklen_t length, ngx_str_t *name, ngx_log_t *log, ngx_int_t *result)
{
    ngx_peer_connection_t  peer;

    ngx_memzero(&peer, sizeof(ngx_peer_connection_t));

    peer.sockaddr = address;
    peer.socklen = length;
    peer.name = name;
    peer.get = ngx_event_get_peer;
    peer.log = log;
    peer.log_error = NGX_ERROR_ERR;

    *result = ngx_event_connect_peer(&peer);

    if (*result == NGX_OK || *result == NGX_AGAIN) {
        return peer.connection;
    }

    if (peer.connection) {
        ngx_close_connection(peer.connection);
    }

    return NULL;
}


ngx_uint_t
ngx_ws_url_no_port(const ngx_url_t *url)
{
    return url->no_port;
}


/* the group of this name, or one made of the address, whose name nginx looks up once all of the configuration is read */

ngx_http_upstream_srv_conf_t *
ngx_ws_upstream_add(ngx_conf_t *cf, ngx_str_t *text)
{
    ngx_url_t  url;

    ngx_memzero(&url, sizeof(ngx_url_t));

    url.url = *text;
    url.no_resolve = 1;

    return ngx_http_upstream_add(cf, &url, 0);
}


ngx_http_upstream_main_conf_t *
ngx_ws_upstream_main_conf(ngx_http_request_t *r)
{
    return ngx_http_get_module_main_conf(r, ngx_http_upstream_module);
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


ngx_uint_t
ngx_ws_resolve_async(const ngx_resolver_ctx_t *ctx)
{
    return ctx->async;
}


const char *
ngx_ws_resolve_error(ngx_int_t state)
{
    return ngx_resolver_strerror(state);
}


/* what became of connect() */

ngx_err_t
ngx_ws_socket_error(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        (void) ngx_connection_error(c, err, "connect() failed");
    }

    return err;
}


/* octets that the other side has not acknowledged (TCP) or not read (unix) */

size_t
ngx_ws_socket_unsent(ngx_connection_t *c)
{
    int  n;

    n = 0;

    if (ioctl(c->fd, TIOCOUTQ, &n) == -1 || n < 0) {
        return 0;
    }

    return n;
}


void
ngx_ws_socket_shutdown_write(ngx_connection_t *c)
{
    (void) ngx_shutdown_socket(c->fd, NGX_WRITE_SHUTDOWN);
}


/* closing it will be a reset; TLS does not say good-bye then */

void
ngx_ws_socket_reset(ngx_connection_t *c)
{
    struct linger  linger;

    linger.l_onoff = 1;
    linger.l_linger = 0;

    (void) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, (const void *) &linger, sizeof(struct linger));

    c->timedout = 1;
}


/* nobody else notices a service whose machine has gone */

void
ngx_ws_socket_keepalive(ngx_peer_connection_t *pc)
{
    pc->so_keepalive = 1;
}
