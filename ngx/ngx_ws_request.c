/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests and their answers. In C: what looks at HTTP/2, HTTP/3 or TLS, of which nginx's headers may have nothing; the fields of an
 * answer that nginx 1.23 has made lists of, and the host, which versions of nginx parse differently; links of chains, which are freed by a
 * macro; and what writes to the log by nginx's formats.
 */

#include "ngx_ws_exec.h"


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


/*
 * Whether the client has sent something behind the head of its request, which is read into the rest of the buffer of that. Over TLS
 * nobody could tell otherwise whether it is more than the notice of the end, or whether the library has some that the system has not any
 * more. A buffer without a rest may hide something.
 */

static ngx_uint_t
ngx_ws_request_read_ahead(ngx_http_request_t *r)
{
    ssize_t            n;
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    b = r->header_in;
    c = r->connection;

    if (b->pos == b->last && b->last < b->end) {
        n = c->recv(c, b->last, b->end - b->last);

        if (n > 0) {
            b->last += n;
        }
    }

    return b->pos != b->last || b->last == b->end;
}


/* what the client sends, or its end, is read by nobody for now: a level-triggered event would spin */

ngx_int_t
ngx_ws_request_ignore_client(ngx_http_request_t *r)
{
    ngx_event_t  *rev;

    rev = r->connection->read;

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) && rev->active) {
        return ngx_del_event(rev, NGX_READ_EVENT, 0);
    }

    return NGX_OK;
}


/*
 * Looks for what ngx_http_test_reading() looks for, but leaves the finalizing to the caller: whoever holds the request has to
 * let go of it before, as finalizing may hand it to a "post_action". With "ahead", who has sent something before its end is not
 * gone as long as that is not read.
 */

ngx_uint_t
ngx_ws_request_client_gone(ngx_http_request_t *r, ngx_uint_t ahead)
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

        if (!rev->pending_eof || (ahead && ngx_ws_request_read_ahead(r))) {
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

    if ((n == 0 && !(ahead && ngx_ws_request_read_ahead(r))) || (n == -1 && err != NGX_EAGAIN)) {
        rev->eof = 1;
        c->error = 1;
        goto gone;
    }

    if (ngx_ws_request_ignore_client(r) != NGX_OK) {
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


/*
 * The fields of an answer that nginx's own filters look for: "expires" changes the Cache-Control that is registered, and adds one
 * where none is; gzip makes the registered ETag a weak one; auth_basic and auth_request look for WWW-Authenticate.
 */

ngx_int_t
ngx_ws_register_header_out(ngx_http_request_t *r, ngx_table_elt_t *h)
{
#define ngx_ws_header_is(h, name)                                                                                          \
    ((h)->key.len == sizeof(name) - 1                                                                                      \
     && (ngx_memcmp((h)->key.data, name, sizeof(name) - 1) == 0                                                            \
         || ngx_strncasecmp((h)->key.data, (u_char *) name, sizeof(name) - 1) == 0))

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
 * Lets a head leave that has no body yet. Neither the filter for SSI nor HTTP/2 passes a flush on that comes without octets: the
 * head would stay in what the request has to send, in the queue of HTTP/2, or with TLS in the buffer of the connection.
 */

ngx_int_t
ngx_ws_flush_head(ngx_http_request_t *r)
{
    ngx_buf_t    *b;
    ngx_chain_t   out;

    if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (r->out) {
        b = ngx_calloc_buf(r->pool);
        if (b == NULL) {
            return NGX_ERROR;
        }

        b->flush = 1;

        out.buf = b;
        out.next = NULL;

        if (ngx_http_write_filter(r, &out) == NGX_ERROR) {
            return NGX_ERROR;
        }
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
