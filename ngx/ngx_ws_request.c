/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests and their answers.
 */

#include "ngx_ws_exec.h"


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


/*
 * The host that the request was sent to, and its port if it was named (RFC 9110, section 7.2): the authority of the
 * target, which takes precedence over the Host header (RFC 9112, section 3.2.2) and is all that HTTP/3 needs.
 */

ngx_str_t
ngx_ws_request_authority(const ngx_http_request_t *r)
{
    u_char     *p, *end;
    ngx_str_t   host;

    r = r->main;

    if (r->host_start && r->host_end > r->host_start) {
        p = r->host_end;

        /* in a request line the port comes after what most versions of nginx call the host */

        end = r->request_line.data + r->request_line.len;

        if (p >= r->request_line.data && p < end && *p == ':') {
            do {
                p++;
            } while (p < end && *p >= '0' && *p <= '9');
        }

        host.data = r->host_start;
        host.len = p - r->host_start;

        return host;
    }

    if (r->headers_in.host) {
        return r->headers_in.host->value;
    }

    return r->headers_in.server;
}


/* whether ngx_http_special_response_handler() would go to an error_page */

ngx_uint_t
ngx_ws_request_has_error_page(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->error_page || clcf->error_pages == NULL || r->uri_changes == 0) {
        return 0;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {
        if (page[i].status == (ngx_int_t) status) {
            return 1;
        }
    }

    return 0;
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


/* the status that an error page without "=" keeps, or 0 */

ngx_uint_t
ngx_ws_request_err_status(const ngx_http_request_t *r)
{
    return r->err_status;
}


/*
 * Looks for what ngx_http_test_reading() looks for, but leaves the finalizing to the caller: whoever holds the request has to
 * let go of it before, as finalizing may hand it to a "post_action".
 */

ngx_uint_t
ngx_ws_request_client_gone(ngx_http_request_t *r)
{
    int                n;
    char               buf[1];
    socklen_t          len;
    ngx_err_t          err;
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    c = r->connection;
    rev = c->read;
    err = 0;

#if (NGX_HTTP_V2)

    if (r->stream) {
        if (!c->error) {
            return 0;
        }

        goto gone;
    }

#endif

#if (NGX_HTTP_V3)

    if (c->quic) {
        if (!rev->error) {
            return 0;
        }

        c->error = 1;
        goto gone;
    }

#endif

#if (NGX_HAVE_EPOLLRDHUP)

    if ((ngx_event_flags & NGX_USE_EPOLL_EVENT) && ngx_use_epoll_rdhup) {

        if (!rev->pending_eof) {
            return 0;
        }

        rev->eof = 1;
        c->error = 1;

        len = sizeof(ngx_err_t);

        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
            err = ngx_socket_errno;
        }

        goto gone;
    }

#endif

    n = recv(c->fd, buf, 1, MSG_PEEK);

    if (n == -1) {
        err = ngx_socket_errno;
    }

    if (n == 0 || (n == -1 && err != NGX_EAGAIN)) {
        rev->eof = 1;
        c->error = 1;
        goto gone;
    }

    /* what the client sends is read by nobody for now: a level-triggered event would spin */

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) && rev->active
        && ngx_del_event(rev, NGX_READ_EVENT, 0) != NGX_OK)
    {
        c->error = 1;
        return 1;
    }

    return 0;

gone:

    if (err) {
        rev->error = 1;
    }

#if (NGX_HTTP_SSL)

    if (c->ssl) {
        c->ssl->no_send_shutdown = 1;
    }

#endif

    ngx_log_error(NGX_LOG_INFO, c->log, err, "client prematurely closed connection");

    return 1;
}


/* whether what a client still sends is to be read for a while, and for how long: as nginx does after a response */

ngx_uint_t
ngx_ws_request_lingering(ngx_http_request_t *r, ngx_msec_t *total, ngx_msec_t *silence)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    *total = clcf->lingering_time;
    *silence = clcf->lingering_timeout;

    return clcf->lingering_close != NGX_HTTP_LINGERING_OFF;
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


/*
 * The fields of an answer that nginx's own filters look for: "expires" changes the Cache-Control that is registered, and adds one
 * where none is; gzip makes the registered ETag a weak one; auth_basic and auth_request look for WWW-Authenticate.
 */

ngx_int_t
ngx_ws_register_header_out(ngx_http_request_t *r, ngx_table_elt_t *h)
{
#define ngx_ws_header_is(h, name)                                                                                          \
    ((h)->key.len == sizeof(name) - 1 && ngx_strncasecmp((h)->key.data, (u_char *) name, sizeof(name) - 1) == 0)

    if (ngx_ws_header_is(h, "Cache-Control")) {

#if (nginx_version >= 1023000)

        ngx_table_elt_t  **ph;

        for (ph = &r->headers_out.cache_control; *ph; ph = &(*ph)->next) { /* void */ }

        *ph = h;

#else

        ngx_table_elt_t  **ph;

        if (r->headers_out.cache_control.elts == NULL
            && ngx_array_init(&r->headers_out.cache_control, r->pool, 1, sizeof(ngx_table_elt_t *)) != NGX_OK)
        {
            return NGX_ERROR;
        }

        ph = ngx_array_push(&r->headers_out.cache_control);
        if (ph == NULL) {
            return NGX_ERROR;
        }

        *ph = h;

#endif

    } else if (ngx_ws_header_is(h, "ETag")) {
        r->headers_out.etag = h;

    } else if (ngx_ws_header_is(h, "Last-Modified")) {
        r->headers_out.last_modified = h;

    } else if (ngx_ws_header_is(h, "Location")) {
        r->headers_out.location = h;

    } else if (ngx_ws_header_is(h, "WWW-Authenticate")) {
        r->headers_out.www_authenticate = h;
    }

    return NGX_OK;
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

    /* as the error page of a refusal the request has a status that would be sent in place of this one */
    r->err_status = 0;
}


/*
 * As nginx's upstream does with a Content-Type that it passes on: filters that are for certain types compare what is before the
 * charset, and the charset is a field of its own, which "charset" converts from.
 */

static void
ngx_ws_response_type(ngx_http_request_t *r, ngx_str_t type)
{
    u_char  *p, *last, *end;

    r->headers_out.content_type = type;
    r->headers_out.content_type_len = type.len;
    r->headers_out.content_type_lowcase = NULL;
    ngx_str_null(&r->headers_out.charset);

    end = type.data + type.len;

    for (p = type.data; p < end; p++) {

        if (*p != ';') {
            continue;
        }

        last = p;

        do {
            p++;
        } while (p < end && *p == ' ');

        if ((size_t) (end - p) <= sizeof("charset=") - 1
            || ngx_strncasecmp(p, (u_char *) "charset=", sizeof("charset=") - 1) != 0)
        {
            p--;
            continue;
        }

        p += sizeof("charset=") - 1;

        r->headers_out.content_type_len = last - type.data;

        if (*p == '"') {
            p++;
        }

        if (p < end && *(end - 1) == '"') {
            end--;
        }

        r->headers_out.charset.len = end - p;
        r->headers_out.charset.data = p;

        return;
    }
}


/* the length is -1 where it is not known; validators are the module's own business */

void
ngx_ws_response_open(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t type, off_t length)
{
    r->headers_out.status = status;
    r->headers_out.content_length_n = length;
    r->headers_out.last_modified_time = -1;
    r->disable_not_modified = 1;
    r->allow_ranges = 0;
    ngx_ws_response_type(r, type);
}


/* a whole answer, as ngx_http_send_response() sends one; the texts live as long as the request */

ngx_int_t
ngx_ws_response_text(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t type, ngx_str_t text)
{
    ngx_int_t    rc;
    ngx_buf_t   *b;
    ngx_chain_t  out;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = text.data;
    b->last = text.data + text.len;
    b->memory = text.len ? 1 : 0;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;
    b->sync = (b->last_buf || b->memory) ? 0 : 1;

    out.buf = b;
    out.next = NULL;

    r->headers_out.status = status;
    r->headers_out.content_length_n = text.len;
    ngx_ws_response_type(r, type);

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, &out);
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


/*
 * What a request is to be finalized with so that the client gets this status. By some statuses nginx means that a connection is
 * to be closed without an answer, or answers another one: these are answered here, unless there is an error_page for them. It
 * may have been redirected afterwards, so that the caller must have let go of it.
 */

ngx_int_t
ngx_ws_request_answer(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    switch (rc) {

    case NGX_HTTP_REQUEST_TIME_OUT:
    case NGX_HTTP_CLOSE:
    case NGX_HTTP_REQUEST_HEADER_TOO_LARGE:
    case NGX_HTTPS_CERT_ERROR:
    case NGX_HTTPS_NO_CERT:
    case NGX_HTTP_TO_HTTPS:
    case NGX_HTTP_CLIENT_CLOSED_REQUEST:
        break;

    default:
        return rc;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!r->error_page && clcf->error_pages && r->uri_changes != 0) {

        page = clcf->error_pages->elts;

        for (i = 0; i < clcf->error_pages->nelts; i++) {
            if (page[i].status == rc) {
                return ngx_http_special_response_handler(r, rc);
            }
        }
    }

    ngx_ws_response_empty(r, rc);

    return ngx_http_send_header(r);
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
ngx_ws_body_buf(ngx_buf_t *b, u_char *data, size_t len, ngx_uint_t last, ngx_uint_t main)
{
    ngx_memzero(b, sizeof(ngx_buf_t));

    if (len) {
        b->start = data;
        b->pos = data;
        b->last = data + len;
        b->end = b->last;
        b->memory = 1;
    }

    /*
     * To lua's and njs' filters both marks of the last one say that nothing comes after it. The end of a subrequest is not that
     * of the response that it is part of.
     */

    b->flush = 1;
    b->last_buf = (last && main) ? 1 : 0;
    b->last_in_chain = last ? 1 : 0;
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

    /* what a subrequest leaves behind is sent by nginx when it ends */

    if (r != r->main || (!r->buffered && !r->postponed && !r->connection->buffered)) {
        return NGX_OK;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (ngx_handle_write_event(r->connection->write, clcf->send_lowat) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_AGAIN;
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


/* milliseconds since the first octets of the request were read, by the clock of the current turn */
ngx_msec_t
ngx_ws_request_age(const ngx_http_request_t *r)
{
    ngx_time_t      *now;
    ngx_msec_int_t   age;

    now = ngx_timeofday();
    age = (ngx_msec_int_t) ((now->sec - r->start_sec) * 1000) + ((ngx_msec_int_t) now->msec - (ngx_msec_int_t) r->start_msec);
    return age > 0 ? (ngx_msec_t) age : 0;
}


/* what $status says */
ngx_uint_t
ngx_ws_request_status(const ngx_http_request_t *r)
{
    if (r->err_status) {
        return r->err_status;
    }
    return r->headers_out.status;
}
