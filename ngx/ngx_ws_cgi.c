/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests that a CGI program answers: their bodies as they come, the heads of their responses, and local redirects.
 */

#include "ngx_ws_exec.h"


/*
 * A body whose length is announced is passed on as it comes. The length of one in chunks is known at its end, and the program has to know
 * it at the beginning (RFC 3875, section 4.1.2): nginx gathers it first, in memory or in a file.
 */

ngx_int_t
ngx_ws_request_read_body(ngx_http_request_t *r, ngx_http_client_body_handler_pt handler)
{
    if (r->main->request_body_no_buffering && r->request_body && r->request_body == r->main->request_body) {

        /* somebody else has had it as it came, before a redirect for example: what is left of it is no body */

        r->request_body->bufs = NULL;
    }

    r->request_body_no_buffering = !r->headers_in.chunked;

    return ngx_http_read_client_request_body(r, handler);
}


ngx_uint_t
ngx_ws_request_is_internal(const ngx_http_request_t *r)
{
    return r->internal;
}


/* begins to read the body of a request that ngx_ws_request_read_body() has called its handler for */

void
ngx_ws_body_reader(ngx_http_request_t *r, ngx_ws_body_reader_t *reader)
{
    ngx_http_request_body_t  *rb;

    rb = r->request_body;

    reader->link = rb ? rb->bufs : NULL;
    reader->done = 0;

    /* what comes as it is read is used up; anything else may be wanted by others */
    reader->streamed = (rb && r == r->main && r->request_body_no_buffering);

    if (reader->streamed) {
        rb->bufs = NULL;
    }
}


static off_t
ngx_ws_body_buf_size(const ngx_buf_t *b)
{
    if (ngx_buf_in_memory(b)) {
        return b->last - b->pos;
    }

    return b->in_file ? b->file_last - b->file_pos : 0;
}


/* octets of a body; -1 if there is none */

off_t
ngx_ws_body_length(const ngx_http_request_t *r, const ngx_ws_body_reader_t *reader)
{
    off_t               length;
    const ngx_chain_t  *cl;

    if (reader->streamed) {
        return r->headers_in.content_length_n;
    }

    length = 0;

    for (cl = reader->link; cl; cl = cl->next) {
        length += ngx_ws_body_buf_size(cl->buf);
    }

    if (length == 0
        && (r != r->main || (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
            || (r->headers_in.content_length == NULL && !r->headers_in.chunked)))
    {
        return -1;
    }

    return length;
}


/*
 * Copies what has come of a body: NGX_OK with the number of octets, NGX_AGAIN if there is nothing for now, NGX_DONE at the end, or
 * the status of an answer.
 */

ngx_int_t
ngx_ws_body_read(ngx_http_request_t *r, ngx_ws_body_reader_t *reader, u_char *data, size_t size, size_t *count)
{
    off_t         left;
    ssize_t       n;
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    for ( ;; ) {

        while (reader->link) {
            cl = reader->link;
            b = cl->buf;

            left = ngx_ws_body_buf_size(b) - reader->done;

            if (left > 0) {
                if ((off_t) size > left) {
                    size = (size_t) left;
                }

                if (ngx_buf_in_memory(b)) {
                    ngx_memcpy(data, b->pos + reader->done, size);

                } else {
                    n = ngx_read_file(b->file, data, size, b->file_pos + reader->done);

                    if (n != (ssize_t) size) {
                        return NGX_HTTP_INTERNAL_SERVER_ERROR;
                    }
                }

                reader->done += size;
                *count = size;

                return NGX_OK;
            }

            reader->link = cl->next;
            reader->done = 0;

            if (reader->streamed) {
                b->pos = b->last;
                ngx_free_chain(r->pool, cl);
            }
        }

        if (!reader->streamed || !r->reading_body) {
            return NGX_DONE;
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            return rc;
        }

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        reader->link = r->request_body->bufs;
        r->request_body->bufs = NULL;

        if (reader->link == NULL && r->reading_body) {
            return NGX_AGAIN;
        }
    }
}


/* it is the module that does not read for now, and not the client that does not send */

void
ngx_ws_body_held_back(ngx_http_request_t *r)
{
    r->connection->read->timedout = 0;
}


/* what has happened to the client meanwhile is told by the handler of its events */

void
ngx_ws_request_look_at_client(ngx_http_request_t *r)
{
    if (r == r->main && r->connection->read->ready) {
        ngx_post_event(r->connection->read, &ngx_posted_events);
    }
}


void
ngx_ws_response_status_line(ngx_http_request_t *r, ngx_str_t line)
{
    r->headers_out.status_line = line;
}


/*
 * A field of a response that is passed on, as nginx's upstream does it: those that nginx would send itself, or that its filters look
 * for, are registered. Location is not: nginx would make an absolute one of it.
 */

ngx_int_t
ngx_ws_response_pass(ngx_http_request_t *r, ngx_str_t name, ngx_str_t value)
{
    ngx_uint_t        i;
    ngx_table_elt_t  *h;

    const struct {
        ngx_str_t         name;
        ngx_table_elt_t **place;
    } fields[] = {
        { ngx_string("Date"), &r->headers_out.date },
        { ngx_string("Server"), &r->headers_out.server },
        { ngx_string("Expires"), &r->headers_out.expires },
        { ngx_string("Content-Encoding"), &r->headers_out.content_encoding },
        { ngx_string("Accept-Ranges"), &r->headers_out.accept_ranges },
    };

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    /* the field "next" exists since nginx 1.23 */
    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key = name;
    h->value = value;

    if (name.len == sizeof("Location") - 1
        && ngx_strncasecmp(name.data, (u_char *) "Location", sizeof("Location") - 1) == 0)
    {
        return NGX_OK;
    }

    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {

        if (fields[i].name.len != name.len
            || ngx_strncasecmp(fields[i].name.data, name.data, name.len) != 0)
        {
            continue;
        }

        if (*fields[i].place) {
            /* nginx has one of each: the last one counts */
            (*fields[i].place)->hash = 0;
        }

        *fields[i].place = h;

        return NGX_OK;
    }

    return ngx_ws_register_header_out(r, h);
}


static void
ngx_ws_body_drop(ngx_http_request_t *r)
{
    r->request_body_no_buffering = 0;
    r->headers_in.content_length = NULL;
    r->headers_in.chunked = 0;

    if (r != r->main) {
        /* the body is the main request's, which may want it */
        r->request_body = NULL;

    } else if (r->request_body) {
        r->request_body->bufs = NULL;
    }
}


/*
 * What has been read of a body as it came is gone: whatever answers the request now is not to announce a body to others, or wait for one.
 * The rest, if there is any, is discarded by nginx with the connection. A body that was gathered is still there.
 */

void
ngx_ws_body_used_up(ngx_http_request_t *r)
{
    ngx_event_t  *rev;

    if (r != r->main || r->request_body == NULL || !r->request_body_no_buffering) {
        return;
    }

    if (r->reading_body) {
        rev = r->connection->read;

        if (rev->timer_set) {
            ngx_del_timer(rev);
        }

#if (NGX_HTTP_V2)

        /* what comes is handed on without being asked for, in the end to the handler that has had the body already */

        if (r->stream) {
            r->stream->skip_data = 1;
        }

#endif
    }

    r->headers_in.content_length_n = 0;

    ngx_ws_body_drop(r);
}


/*
 * Lets nginx answer with what it has under this path and query, as if it had been asked for that without a body (RFC 3875, section
 * 6.2.2). The body has been received. Nobody of this module holds the request any more. Returns what it is to be finalized with.
 */

ngx_int_t
ngx_ws_local_redirect(ngx_http_request_t *r, ngx_str_t uri)
{
    ngx_str_t   args;
    ngx_uint_t  flags;

    ngx_str_null(&args);
    flags = NGX_HTTP_LOG_UNSAFE;

    if (ngx_http_parse_unsafe_uri(r, &uri, &args, &flags) != NGX_OK) {
        return NGX_HTTP_BAD_GATEWAY;
    }

    if (r->method != NGX_HTTP_HEAD) {
        r->method = NGX_HTTP_GET;
        r->method_name = ngx_http_core_get_method;
    }

    r->headers_in.content_length_n = -1;
    ngx_ws_body_drop(r);

    return ngx_http_internal_redirect(r, &uri, &args);
}
