/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connection of a detached request: it has no descriptor, and is to look to nginx as the client's does.
 */

#include "ngx_ws_detached.h"


static ngx_chain_t *ngx_ws_detached_send_chain(ngx_connection_t *c, ngx_chain_t *in, off_t limit);
static ssize_t ngx_ws_detached_recv(ngx_connection_t *c, u_char *buf, size_t size);
static ssize_t ngx_ws_detached_send(ngx_connection_t *c, u_char *buf, size_t size);
static void ngx_ws_detached_event(ngx_event_t *ev);


/* an nginx without stub_status does not count connections, and has no such symbol */

extern ngx_atomic_t  *ngx_stat_active __attribute__((weak));


/* the memory of a connection, and what it is to have in common with the client's */

ngx_ws_detached_t *
ngx_ws_detached_connection_prepare(ngx_connection_t *client)
{
    ngx_pool_t         *pool;
    ngx_ws_detached_t  *d;

    /* a connection that listens at every address has asked for its own only if somebody wanted to know */

    if (client->fd != (ngx_socket_t) -2 && ngx_connection_local_sockaddr(client, NULL, 0) != NGX_OK) {
        return NULL;
    }

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    d = ngx_pcalloc(pool, sizeof(ngx_ws_detached_t));
    if (d == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    d->pool = pool;

    d->log = ngx_palloc(pool, sizeof(ngx_log_t));
    d->log_ctx = ngx_pcalloc(pool, sizeof(ngx_http_log_ctx_t));
    d->sockaddr = ngx_pcalloc(pool, ngx_max(client->socklen, (socklen_t) sizeof(struct sockaddr)));
    d->local_sockaddr = ngx_pcalloc(pool, ngx_max(client->local_socklen, (socklen_t) sizeof(struct sockaddr)));

    if (d->log == NULL || d->log_ctx == NULL || d->sockaddr == NULL || d->local_sockaddr == NULL
        || ngx_ws_detached_copy_str(pool, &d->addr_text, &client->addr_text) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    *d->log = *client->log;
    d->log->data = d->log_ctx;
    d->log->action = NULL;

    d->listening = client->listening;
    d->socklen = client->socklen;
    ngx_memcpy(d->sockaddr, client->sockaddr, client->socklen);
    d->local_socklen = client->local_socklen;

    if (client->local_sockaddr) {
        ngx_memcpy(d->local_sockaddr, client->local_sockaddr, client->local_socklen);
    }

    return d;
}


/* NULL: there is none to be had, and nothing has happened */

ngx_connection_t *
ngx_ws_detached_connection_open(ngx_ws_detached_t *d)
{
    ngx_connection_t    *c, *saved;
    ngx_http_request_t  *r;

    /* one for this request, one for a server that the location asks; running out of them is an alert in the log */

    if (ngx_cycle->free_connection_n < 2) {
        return NULL;
    }

    r = d->request;
    saved = NULL;

    if (ngx_cycle->files) {
        saved = ngx_cycle->files[0];
    }

    c = ngx_get_connection(0, d->log);

    if (ngx_cycle->files) {
        ngx_cycle->files[0] = saved;
    }

    if (c == NULL) {
        return NULL;
    }

    c->fd = (ngx_socket_t) -2;
    c->shared = 1;
    c->pool = d->pool;
    c->pool->log = d->log;
    c->log = d->log;
    c->log->connection = c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->log_error = NGX_ERROR_INFO;
    c->type = SOCK_STREAM;
    c->listening = d->listening;
    c->sockaddr = d->sockaddr;
    c->socklen = d->socklen;
    c->local_sockaddr = d->local_sockaddr;
    c->local_socklen = d->local_socklen;
    c->addr_text = d->addr_text;
    c->requests = 1;
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
#if (nginx_version >= 1019010)
    c->start_time = ngx_current_msec;
#endif

    c->recv = ngx_ws_detached_recv;
    c->send = ngx_ws_detached_send;
    c->send_chain = ngx_ws_detached_send_chain;

    /* nobody may ask epoll about it */

    c->read->log = d->log;
    c->read->active = 1;
    c->read->handler = ngx_ws_detached_event;
    c->write->log = d->log;
    c->write->active = 1;
    c->write->ready = 1;
    c->write->handler = ngx_ws_detached_event;

    d->log_ctx->connection = c;
    r->pool->log = d->log;
    r->connection = c;
    c->data = r;

    if (&ngx_stat_active != NULL) {
        (void) ngx_atomic_fetch_add(ngx_stat_active, 1);
    }

    return c;
}


/*
 * The request is freed, and nginx frees the connection next. Where connections are found by their descriptors (select, poll)
 * it looks at the place of this one's in a table, which must be in there; it belongs to another one or to none.
 */

void
ngx_ws_detached_connection_closing(void *data)
{
    ngx_http_request_t  *r = data;

    if (r->connection) {
        r->connection->fd = 0;
    }
}


/* there is nobody to send it to: the caller takes all of it at once */

static ngx_chain_t *
ngx_ws_detached_send_chain(ngx_connection_t *c, ngx_chain_t *in, off_t limit)
{
    ngx_ws_detached_t   *d;
    ngx_http_request_t  *r;

    r = c->data;
    d = (ngx_ws_detached_t *) r->main->http_connection;

    for ( /* void */ ; in; in = in->next) {
        if (ngx_ws_detached_take(d, in->buf) != NGX_OK) {
            return NGX_CHAIN_ERROR;
        }
    }

    c->sent = d->taken;

    return NULL;
}


static ssize_t
ngx_ws_detached_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    return NGX_AGAIN;
}


static ssize_t
ngx_ws_detached_send(ngx_connection_t *c, u_char *buf, size_t size)
{
    return NGX_ERROR;
}


/*
 * A timer, a posted event, or worker_shutdown_timeout, which marks every connection. Nothing ends here, while nginx goes from
 * one connection to the next: the caller decides in a later turn what does.
 */

static void
ngx_ws_detached_event(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_ws_detached_t   *d;
    ngx_http_request_t  *r;

    c = ev->data;
    r = c->data;

    if (c->close) {
        c->close = 0;
        c->error = 0;

        d = (ngx_ws_detached_t *) r->main->http_connection;
        d->leave(d->data);

        return;
    }

    ngx_http_set_log_request(c->log, r);

    if (ev->delayed && ev->timedout) {
        ev->delayed = 0;
        ev->timedout = 0;
    }

    if (ev->write) {
        r->write_event_handler(r);

    } else {
        r->read_event_handler(r);
    }

    ngx_http_run_posted_requests(c);
}


/* nginx's other open connections are not served any more, only what those that are open already wait for */

void
ngx_ws_serve_once(void)
{
    ngx_process_events_and_timers((ngx_cycle_t *) ngx_cycle);
}


void
ngx_ws_close_listening(void)
{
    ngx_close_listening_sockets((ngx_cycle_t *) ngx_cycle);
}
