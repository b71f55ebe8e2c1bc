/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Events, timers and connections. In C: timers and posted events are inline functions and macros of nginx's, the event module that is in
 * use is behind macros, and whether a connection has a field for TLS depends on how nginx was configured.
 */

#include "ngx_ws_exec.h"


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


ngx_uint_t
ngx_ws_connection_is_ssl(const ngx_connection_t *c)
{
#if (NGX_SSL || NGX_COMPAT)
    return c->ssl != NULL;
#else
    return 0;
#endif
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
