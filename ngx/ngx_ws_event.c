/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Events, timers, connections, and the descriptors of a worker's own.
 */

#include "ngx_ws_exec.h"


ngx_uint_t
ngx_ws_event_ready(const ngx_event_t *ev)
{
    return ev->ready;
}


void
ngx_ws_event_set_ready(ngx_event_t *ev, ngx_uint_t ready)
{
    ev->ready = ready ? 1 : 0;
}


ngx_uint_t
ngx_ws_event_pending_eof(const ngx_event_t *ev)
{
    return ev->pending_eof;
}


ngx_uint_t
ngx_ws_event_timedout(const ngx_event_t *ev)
{
    return ev->timedout;
}


void
ngx_ws_event_clear_timedout(ngx_event_t *ev)
{
    ev->timedout = 0;
}


void
ngx_ws_event_set_cancelable(ngx_event_t *ev)
{
    ev->cancelable = 1;
}


void
ngx_ws_add_timer(ngx_event_t *ev, ngx_msec_t msec)
{
    ngx_add_timer(ev, msec);
}


void
ngx_ws_del_timer(ngx_event_t *ev)
{
    if (ev->timer_set) {
        ngx_del_timer(ev);
    }
}


void
ngx_ws_post_event(ngx_event_t *ev)
{
    ngx_post_event(ev, &ngx_posted_events);
}


void
ngx_ws_post_next_event(ngx_event_t *ev)
{
    ngx_post_event(ev, &ngx_posted_next_events);
}


void
ngx_ws_delete_posted_event(ngx_event_t *ev)
{
    if (ev->posted) {
        ngx_delete_posted_event(ev);
    }
}


/*
 * Pipes are watched level-triggered: a hang-up that arrives together with data is reported again, so that a short
 * read needs no second read to find out whether it was the last one.
 */

ngx_int_t
ngx_ws_add_level_read(ngx_event_t *ev)
{
    if (ev->active) {
        return NGX_OK;
    }

    return ngx_add_event(ev, NGX_READ_EVENT, 0);
}


ngx_int_t
ngx_ws_del_read(ngx_event_t *ev)
{
    if (!ev->active) {
        return NGX_OK;
    }

    return ngx_del_event(ev, NGX_READ_EVENT, 0);
}


ngx_int_t
ngx_ws_add_edge_write(ngx_event_t *ev)
{
    if (ev->active) {
        return NGX_OK;
    }

    return ngx_add_event(ev, NGX_WRITE_EVENT, NGX_CLEAR_EVENT);
}


ngx_msec_t
ngx_ws_current_msec(void)
{
    return ngx_current_msec;
}


uint64_t
ngx_ws_unix_msec(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (uint64_t) tp->sec * 1000 + tp->msec;
}


ssize_t
ngx_ws_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    return c->recv(c, buf, size);
}


ssize_t
ngx_ws_send(ngx_connection_t *c, u_char *buf, size_t size)
{
    return c->send(c, buf, size);
}


ngx_uint_t
ngx_ws_connection_close_requested(const ngx_connection_t *c)
{
    return c->close;
}


void
ngx_ws_connection_set_error(ngx_connection_t *c)
{
    c->error = 1;
}


ngx_uint_t
ngx_ws_connection_buffered(const ngx_connection_t *c)
{
    return c->buffered;
}


ngx_uint_t
ngx_ws_connection_is_ssl(const ngx_connection_t *c)
{
#if (NGX_SSL || NGX_COMPAT)
    return c->ssl != NULL;
#else
    return 0;
#endif
}


ngx_connection_t *
ngx_ws_pipe_connection(ngx_fd_t fd, ngx_log_t *log)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(fd, log);
    if (c == NULL) {
        return NULL;
    }

    c->read->log = log;
    c->write->log = log;
    c->log_error = NGX_ERROR_INFO;

    return c;
}


/*
 * When nginx closes a descriptor it relies on the kernel to forget it. Where there is a duplicate the kernel does not, and goes
 * on reporting events for a connection that is none any more.
 */

ngx_int_t
ngx_ws_connection_unwatch(ngx_connection_t *c)
{
    if (!c->read->active && !c->write->active) {
        return NGX_OK;
    }

    if (ngx_del_conn) {
        return ngx_del_conn(c, 0);
    }

    if (c->read->active && ngx_del_event(c->read, NGX_READ_EVENT, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    if (c->write->active && ngx_del_event(c->write, NGX_WRITE_EVENT, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the caller may keep a duplicate of the descriptor */

void
ngx_ws_close_pipe(ngx_connection_t *c)
{
    (void) ngx_ws_connection_unwatch(c);

    ngx_close_connection(c);
}


ngx_int_t
ngx_ws_tcp_nodelay(ngx_connection_t *c)
{
    return ngx_tcp_nodelay(c);
}


/*
 * nginx has no hook for "this worker has been told to go", but it closes idle connections then: a connection
 * without a descriptor that looks idle is told. As "shared" it is never counted as one that keeps the worker.
 */

ngx_connection_t *
ngx_ws_exit_watcher(ngx_cycle_t *cycle, ngx_event_handler_pt handler)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(0, cycle->log);
    if (c == NULL) {
        return NULL;
    }

    c->fd = (ngx_socket_t) -2;
    c->idle = 1;
    c->shared = 1;
    c->data = cycle;
    c->read->log = cycle->log;
    c->write->log = cycle->log;
    c->read->handler = handler;

    return c;
}


void
ngx_ws_exit_watcher_close(ngx_connection_t *c)
{
    c->idle = 0;

    /* the descriptor that it was made with: it is an index into a table of select and poll */

    c->fd = 0;
    ngx_free_connection(c);
    c->fd = (ngx_socket_t) -1;
}


ngx_uint_t
ngx_ws_worker_exiting(void)
{
    return ngx_exiting || ngx_quit || ngx_terminate;
}


/* worker_shutdown_timeout, 0 where there is none */

ngx_msec_t
ngx_ws_shutdown_timeout(void)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx, ngx_core_module);

    return ccf->shutdown_timeout;
}


/* init_process runs in the cache processes as well */

ngx_uint_t
ngx_ws_serves_requests(void)
{
    return ngx_process == NGX_PROCESS_WORKER || ngx_process == NGX_PROCESS_SINGLE;
}
