/*
 * The shim: nginx's macros, inline functions and bit fields as functions, and the layout that C sees.
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
ngx_ws_event_active(const ngx_event_t *ev)
{
    return ev->active;
}


ngx_uint_t
ngx_ws_event_eof(const ngx_event_t *ev)
{
    return ev->eof;
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


ngx_uint_t
ngx_ws_event_timer_set(const ngx_event_t *ev)
{
    return ev->timer_set;
}


ngx_uint_t
ngx_ws_event_posted(const ngx_event_t *ev)
{
    return ev->posted;
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


ngx_int_t
ngx_ws_del_write(ngx_event_t *ev)
{
    if (!ev->active) {
        return NGX_OK;
    }

    return ngx_del_event(ev, NGX_WRITE_EVENT, 0);
}


ngx_msec_t
ngx_ws_current_msec(void)
{
    return ngx_current_msec;
}


time_t
ngx_ws_time(void)
{
    return ngx_time();
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


ngx_uint_t
ngx_ws_connection_error(const ngx_connection_t *c)
{
    return c->error;
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


void
ngx_ws_close_pipe(ngx_connection_t *c)
{
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


/* init_process runs in the cache processes as well */

ngx_uint_t
ngx_ws_serves_requests(void)
{
    return ngx_process == NGX_PROCESS_WORKER || ngx_process == NGX_PROCESS_SINGLE;
}


ngx_uint_t
ngx_ws_request_is_main(const ngx_http_request_t *r)
{
    return r == r->main;
}


ngx_uint_t
ngx_ws_request_http_version(const ngx_http_request_t *r)
{
    return r->http_version;
}


ngx_uint_t
ngx_ws_request_header_only(const ngx_http_request_t *r)
{
    return r->header_only;
}


/* HTTP/2 and HTTP/3 have frames of their own, and the directive chunked_transfer_encoding may be off */

ngx_uint_t
ngx_ws_request_can_chunk(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return r->http_version == NGX_HTTP_VERSION_11 && clcf->chunked_transfer_encoding;
}


ngx_uint_t
ngx_ws_request_has_body(const ngx_http_request_t *r)
{
    return r->headers_in.content_length_n > 0 || r->headers_in.chunked;
}


/* from here on the connection carries frames: it can never go back to HTTP */

void
ngx_ws_request_upgraded(ngx_http_request_t *r)
{
    r->keepalive = 0;
    r->connection->log->action = "serving a WebSocket";
}


void
ngx_ws_request_set_lingering(ngx_http_request_t *r)
{
    r->lingering_close = 1;
}


void
ngx_ws_request_hold(ngx_http_request_t *r)
{
    r->main->count++;
}


ngx_table_elt_t *
ngx_ws_add_header_out(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    /* the field "next" exists since nginx 1.23 */
    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;

    return h;
}


void
ngx_ws_response_101(ngx_http_request_t *r)
{
    r->headers_out.status = NGX_HTTP_SWITCHING_PROTOCOLS;
    ngx_str_set(&r->headers_out.status_line, "101 Switching Protocols");
    r->headers_out.content_length_n = -1;
    r->headers_out.content_type.len = 0;
    r->headers_out.last_modified_time = -1;
    r->keepalive = 0;
    r->allow_ranges = 0;
}


/* the length is -1 where it is not known; validators are the module's own business */

void
ngx_ws_response_open(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t type, off_t length)
{
    r->headers_out.status = status;
    r->headers_out.content_length_n = length;
    r->headers_out.content_type = type;
    r->headers_out.content_type_len = type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.last_modified_time = -1;
    r->disable_not_modified = 1;
    r->allow_ranges = 0;
}


void
ngx_ws_response_empty(ngx_http_request_t *r, ngx_uint_t status)
{
    r->headers_out.status = status;
    r->headers_out.content_length_n = (status == NGX_HTTP_NO_CONTENT || status == NGX_HTTP_NOT_MODIFIED) ? -1 : 0;
    r->headers_out.last_modified_time = -1;
    r->disable_not_modified = 1;
    r->header_only = 1;
}


ngx_uint_t
ngx_ws_buf_in_file(const ngx_buf_t *b)
{
    return b->in_file;
}


ssize_t
ngx_ws_buf_read_file(const ngx_buf_t *b, u_char *data, size_t size)
{
    return ngx_read_file(b->file, data, size, b->file_pos);
}


/* the octets belong to the caller, who keeps them until pos has come to last */

void
ngx_ws_body_buf(ngx_buf_t *b, u_char *data, size_t len, ngx_uint_t last)
{
    ngx_memzero(b, sizeof(ngx_buf_t));

    if (len) {
        b->start = data;
        b->pos = data;
        b->last = data + len;
        b->end = b->last;
        b->memory = 1;
    }

    b->flush = 1;
    b->last_buf = last ? 1 : 0;
    b->last_in_chain = 1;
}


static ngx_int_t
ngx_ws_body_pass(ngx_http_request_t *r, ngx_buf_t **bufs, ngx_uint_t n)
{
    ngx_int_t     rc;
    ngx_uint_t    i;
    ngx_chain_t  *out, *cl, **ll;

    out = NULL;
    ll = &out;

    for (i = 0; i < n; i++) {
        cl = ngx_alloc_chain_link(r->pool);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        cl->buf = bufs[i];
        cl->next = NULL;
        *ll = cl;
        ll = &cl->next;
    }

    rc = ngx_http_output_filter(r, out);

    /* the filters keep the buffers, but not the links */

    while (out) {
        cl = out;
        out = cl->next;
        ngx_free_chain(r->pool, cl);
    }

    return rc;
}


/* the filter for chunks makes one of what it gets in one call */

ngx_int_t
ngx_ws_body_send(ngx_http_request_t *r, ngx_buf_t **bufs, ngx_uint_t n, ngx_uint_t apart)
{
    ngx_int_t   rc;
    ngx_uint_t  i;

    if (!apart || n == 0) {
        return ngx_ws_body_pass(r, bufs, n);
    }

    rc = NGX_OK;

    for (i = 0; i < n; i++) {
        bufs[i]->flush = (i == n - 1);

        rc = ngx_ws_body_pass(r, &bufs[i], 1);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    return rc;
}


/*
 * Lets a head leave that has no body yet. HTTP/2 does not pass a flush on that comes without octets: the head would stay in
 * its queue, or with TLS in the buffer of the connection.
 */

ngx_int_t
ngx_ws_flush_head(ngx_http_request_t *r)
{
    if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR) {
        return NGX_ERROR;
    }

#if (NGX_HTTP_V2)

    if (r->stream
        && ngx_http_v2_send_output_queue(r->stream->connection) == NGX_ERROR)
    {
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


/* asks for the next write event if something waits to be sent */

ngx_int_t
ngx_ws_body_blocked(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (!r->buffered && !r->postponed && !r->connection->buffered) {
        return NGX_OK;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (ngx_handle_write_event(r->connection->write, clcf->send_lowat) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


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


/* what nginx's own handler writes, without the arguments in the request line and in the referrer */

static u_char *
ngx_ws_log_request(ngx_http_request_t *r, ngx_http_request_t *sr, u_char *buf, size_t len)
{
    u_char                    *p, *mark;
    ngx_str_t                  text;
    ngx_http_upstream_t       *u;
    ngx_http_core_srv_conf_t  *cscf;

    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    p = ngx_snprintf(buf, len, ", server: %V", &cscf->server_name);
    len -= p - buf;
    buf = p;

    if (r->request_line.len) {
        text = r->request_line;
        mark = ngx_strlchr(text.data, text.data + text.len, '?');

        if (mark) {
            text.len = mark - text.data;
            p = ngx_snprintf(buf, len, ", request: \"%V %V\"", &text, &r->http_protocol);

        } else {
            p = ngx_snprintf(buf, len, ", request: \"%V\"", &text);
        }

        len -= p - buf;
        buf = p;
    }

    u = sr->upstream;

    if (u && u->peer.name) {
        p = ngx_snprintf(buf, len, ", upstream: \"%V%V\"", &u->schema, u->peer.name);
        len -= p - buf;
        buf = p;
    }

    if (r->headers_in.host) {
        p = ngx_snprintf(buf, len, ", host: \"%V\"", &r->headers_in.host->value);
        len -= p - buf;
        buf = p;
    }

    if (r->headers_in.referer) {
        text = r->headers_in.referer->value;
        mark = ngx_strlchr(text.data, text.data + text.len, '?');

        if (mark) {
            text.len = mark - text.data;
        }

        p = ngx_snprintf(buf, len, ", referrer: \"%V\"", &text);
        buf = p;
    }

    return buf;
}


void
ngx_ws_request_hide_arguments(ngx_http_request_t *r)
{
    r->log_handler = ngx_ws_log_request;
}


/* names are not looked up: that would block */

ngx_int_t
ngx_ws_parse_address(ngx_pool_t *pool, ngx_str_t *text, ngx_url_t *url)
{
    ngx_memzero(url, sizeof(ngx_url_t));

    url->url = *text;
    url->no_resolve = 1;

    return ngx_parse_url(pool, url);
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


/* nobody else notices a service whose machine has gone */

void
ngx_ws_socket_keepalive(ngx_peer_connection_t *pc)
{
    pc->so_keepalive = 1;
}


#if (NGX_HTTP_SSL)

ngx_ssl_t *
ngx_ws_ssl_create(ngx_conf_t *cf, ngx_str_t *trusted)
{
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NULL;
    }

    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(ssl);
        return NULL;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    /* the depth is OpenSSL's own */

    if (trusted->len && ngx_ssl_trusted_certificate(cf, ssl, trusted, 100) != NGX_OK) {
        return NULL;
    }

    return ssl;
}


/* name: empty, or the one to ask for, ended by a NUL that is not counted */

ngx_int_t
ngx_ws_ssl_start(ngx_ssl_t *ssl, ngx_connection_t *c, ngx_str_t *name)
{
    if (c->pool == NULL) {
        c->pool = ngx_create_pool(128, c->log);
        if (c->pool == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_ssl_create_connection(ssl, c, NGX_SSL_CLIENT) != NGX_OK) {
        return NGX_ERROR;
    }

#ifdef SSL_CTRL_SET_TLSEXT_HOSTNAME

    if (name->len && SSL_set_tlsext_host_name(c->ssl->connection, (char *) name->data) == 0) {
        ngx_ssl_error(NGX_LOG_ERR, c->log, 0, "SSL_set_tlsext_host_name(\"%V\") failed", name);
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


ngx_int_t
ngx_ws_ssl_handshake(ngx_connection_t *c, void (*handler)(ngx_connection_t *c))
{
    ngx_int_t  rc;

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = handler;
    }

    return rc;
}


ngx_uint_t
ngx_ws_ssl_handshaked(const ngx_connection_t *c)
{
    return c->ssl && c->ssl->handshaked;
}


/* why the certificate of the other side is not to be trusted, NULL if it is */

const char *
ngx_ws_ssl_unverified(ngx_connection_t *c, ngx_str_t *name)
{
    long  rc;

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        return X509_verify_cert_error_string(rc);
    }

    if (ngx_ssl_check_host(c, name) != NGX_OK) {
        return "it is for another name";
    }

    return NULL;
}


/* tells the other side, and does not wait for what it says */

void
ngx_ws_ssl_shutdown(ngx_connection_t *c)
{
    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        (void) ngx_ssl_shutdown(c);
    }
}

#else

ngx_ssl_t *
ngx_ws_ssl_create(ngx_conf_t *cf, ngx_str_t *trusted)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "this nginx was built without TLS");

    return NULL;
}


ngx_int_t
ngx_ws_ssl_start(ngx_ssl_t *ssl, ngx_connection_t *c, ngx_str_t *name)
{
    return NGX_ERROR;
}


ngx_int_t
ngx_ws_ssl_handshake(ngx_connection_t *c, void (*handler)(ngx_connection_t *c))
{
    return NGX_ERROR;
}


ngx_uint_t
ngx_ws_ssl_handshaked(const ngx_connection_t *c)
{
    return 0;
}


const char *
ngx_ws_ssl_unverified(ngx_connection_t *c, ngx_str_t *name)
{
    return "this nginx was built without TLS";
}


void
ngx_ws_ssl_shutdown(ngx_connection_t *c)
{
}

#endif
