/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The answer of the location that a detached request has asked: how it ends, and what it consists of.
 */

#include "ngx_ws_detached.h"


static void ngx_ws_detached_end(ngx_ws_detached_t *d);


/* 0: none, or not all of it */

ngx_uint_t
ngx_ws_detached_status(const ngx_ws_detached_t *d)
{
    if (d->aborted) {
        return d->status;
    }

    return (d->status == NGX_HTTP_OK && !d->complete) ? 0 : d->status;
}


ngx_str_t
ngx_ws_detached_content_type(const ngx_ws_detached_t *d)
{
    ngx_str_t  none = ngx_null_string;

    return d->subrequest ? d->subrequest->headers_out.content_type : none;
}


/* the first of them */

ngx_table_elt_t *
ngx_ws_detached_www_authenticate(const ngx_ws_detached_t *d)
{
    ngx_table_elt_t  *h;

    if (d->subrequest == NULL) {
        return NULL;
    }

    h = d->subrequest->headers_out.www_authenticate;

    if (h == NULL && d->subrequest->upstream) {
        h = d->subrequest->upstream->headers_in.www_authenticate;
    }

    return h;
}


ngx_table_elt_t *
ngx_ws_detached_next_header(const ngx_table_elt_t *h)
{
#if (nginx_version >= 1023000)
    return h->next;
#else
    return NULL;
#endif
}


/* nginx keeps no pointer to this one */

ngx_str_t
ngx_ws_detached_retry_after(const ngx_ws_detached_t *d)
{
    ngx_str_t         none = ngx_null_string;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (d->subrequest == NULL) {
        return none;
    }

    for (part = &d->subrequest->headers_out.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash && h[i].key.len == sizeof("Retry-After") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Retry-After", h[i].key.len) == 0)
            {
                return h[i].value;
            }
        }
    }

    return none;
}


/* nginx calls whenever the subrequest comes to an end, which it does twice when it ends with an error page */

ngx_int_t
ngx_ws_detached_answered(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_ws_detached_t    *d = data;
    ngx_event_pipe_t     *p;
    ngx_http_upstream_t  *u;

    d->complete = 1;

    /* the connection is not one to be closed or reset: nginx must not get to see what it would do that for */

    if ((rc == NGX_HTTP_REQUEST_TIME_OUT || rc == NGX_HTTP_CLIENT_CLOSED_REQUEST)
        && !sr->header_sent && !sr->connection->error)
    {
        d->status = rc;
        return NGX_OK;
    }

    if (rc == NGX_ERROR || rc == NGX_HTTP_REQUEST_TIME_OUT || rc == NGX_HTTP_CLIENT_CLOSED_REQUEST
        || rc == NGX_HTTP_CLOSE || sr->connection->error)
    {
        d->status = sr->headers_out.status;
        d->complete = 0;

        return NGX_OK;
    }

    d->status = sr->headers_out.status;

    if (d->status == 0 && rc > 0) {
        d->status = rc;
    }

    /* nginx does not tell of an answer that is cut short when its head is on the way already */

    u = sr->upstream;

    if (u && !sr->header_only && d->status == NGX_HTTP_OK) {
        p = u->pipe;

        if (u->buffering && p) {
            d->complete = !p->upstream_error && !(p->upstream_eof && p->length > 0 && !p->upstream_done);

        } else {
            d->complete = u->length <= 0;
        }
    }

    return rc;
}


/* the subrequest has ended */

void
ngx_ws_detached_woken(ngx_http_request_t *r)
{
    ngx_chain_t        *cl;
    ngx_table_elt_t    *encoding;
    ngx_ws_detached_t  *d;

    d = (ngx_ws_detached_t *) r->http_connection;

    if (d->subrequest == NULL || !d->subrequest->done) {
        return;
    }

    /* what was too little to be worth sending */

    for (cl = r->out; cl; cl = cl->next) {
        if (ngx_ws_detached_take(d, cl->buf) != NGX_OK) {
            d->complete = 0;
            break;
        }
    }

    r->out = NULL;

    if (!d->subrequest->header_only && d->subrequest->headers_out.content_length_n > d->taken) {
        d->complete = 0;
    }

    /* nobody has offered to decode it, and subscribers could not know that they have to; some servers name the absence of an encoding */

    encoding = d->subrequest->headers_out.content_encoding;

    if (d->message && d->status == NGX_HTTP_OK && encoding && encoding->value.len
        && (encoding->value.len != sizeof("identity") - 1
            || ngx_strncasecmp(encoding->value.data, (u_char *) "identity", encoding->value.len) != 0))
    {
        ngx_log_error(NGX_LOG_ERR, d->log, 0, "ws_exec: the answer of a hook is encoded: \"%V\"", &encoding->value);
        d->complete = 0;
    }

    ngx_ws_detached_end(d);

    /*
     * The reference of the main request itself is given back, and what goes on in the background has others. To whoever gives
     * back the last one the connection looks like one whose client has closed it: there is nothing to wait for.
     */

    r->write_event_handler = ngx_http_request_empty_handler;
    r->connection->read->eof = 1;

    ngx_http_finalize_request(r, NGX_DONE);
}


/* nginx has terminated the request, or it has been freed */

void
ngx_ws_detached_cleanup(void *data)
{
    ngx_ws_detached_t  *d = data;

    /* a location that closes its client's connection may have asked for a reset of it, which has no descriptor */

    if (d->request->connection) {
        d->request->connection->timedout = 0;
    }

    if (!d->over) {
        d->complete = 0;
        ngx_ws_detached_end(d);
    }
}


static void
ngx_ws_detached_end(ngx_ws_detached_t *d)
{
    d->over = 1;
    d->done(d->data);
}


/* gives the caller what is in a buffer */

ngx_int_t
ngx_ws_detached_take(ngx_ws_detached_t *d, ngx_buf_t *b)
{
    u_char   data[4096];
    off_t    left;
    ssize_t  n;

    if (ngx_buf_in_memory(b)) {
        n = b->last - b->pos;
        d->taken += n;

        if (n && d->take(d->data, d->subrequest->headers_out.status, b->pos, n) != NGX_OK) {
            return NGX_ERROR;
        }

        b->pos = b->last;

        if (b->in_file) {
            b->file_pos = b->file_last;
        }

        return NGX_OK;
    }

    if (!b->in_file) {
        return NGX_OK;
    }

    while (b->file_pos < b->file_last) {
        left = b->file_last - b->file_pos;

        n = ngx_read_file(b->file, data, (size_t) ngx_min(left, (off_t) sizeof(data)), b->file_pos);
        if (n <= 0) {
            return NGX_ERROR;
        }

        b->file_pos += n;
        d->taken += n;

        if (d->take(d->data, d->subrequest->headers_out.status, data, n) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
