/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests that nginx has made of a client's request: subrequests, and what internal redirects have left of it. In C: whether HTTP/2 has
 * dropped a body is behind a condition of the preprocessor, and the method of a redirected request is found by nginx's own macros for
 * strings, as nginx's upstream does, to which it is compared when that changes.
 */

#include "ngx_ws_exec.h"


/*
 * Whether the body of a request that has announced one can be had. For a subrequest nginx reads none: its body is its own or
 * the one that its parent has read. Of a body that was passed on while it came nothing is kept (proxy_request_buffering).
 */

ngx_uint_t
ngx_ws_request_body_is_there(const ngx_http_request_t *r)
{
    ngx_uint_t              announced, dropped;
    const ngx_table_elt_t  *h;

    if (r->request_body) {
        return !r->main->request_body_no_buffering || r->request_body != r->main->request_body;
    }

    if (r->headers_in.chunked) {

        /* nginx does not know the length before the end */

        announced = 1;
        dropped = (r->headers_in.content_length_n == 0);

    } else {
        h = r->headers_in.content_length;
        announced = (r->headers_in.content_length_n > 0 || (h && ngx_atoof(h->value.data, h->value.len) > 0));
        dropped = (r->headers_in.content_length_n <= 0);
    }

#if (NGX_HTTP_V2)

    if (r->stream && r->stream->skip_data) {
        dropped = 1;
    }

#endif

    return !announced || (r == r->main && !r->discard_body && !dropped);
}


/*
 * Whether the URI of a request is the one that an upstream server has named in X-Accel-Redirect. With an error page in between
 * it need not be: then nginx's documentation promises a GET, and who was refused must not do elsewhere what it was refused.
 */

static ngx_uint_t
ngx_ws_request_is_accelerated(ngx_http_request_t *r)
{
    ngx_str_t             uri, args;
    ngx_uint_t            flags;
    ngx_table_elt_t      *h;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (r != r->main || u == NULL) {
        return 0;
    }

    h = u->headers_in.x_accel_redirect;

    if (h == NULL || h->value.len == 0 || u->conf == NULL
        || (u->conf->ignore_headers & NGX_HTTP_UPSTREAM_IGN_XA_REDIRECT))
    {
        return 0;
    }

    if (!r->error_page && r->err_status == 0) {
        return 1;
    }

    uri = h->value;
    flags = 0;
    ngx_str_null(&args);

    return ngx_http_parse_unsafe_uri(r, &uri, &args, &flags) == NGX_OK
           && uri.len == r->uri.len
           && ngx_memcmp(uri.data, r->uri.data, uri.len) == 0;
}


/*
 * X-Accel-Redirect to a URI makes a GET of every method but HEAD. The method that the client has sent is in the request line,
 * which HTTP/2 and HTTP/3 have as well.
 */

void
ngx_ws_request_restore_method(ngx_http_request_t *r)
{
    size_t      i, len;
    u_char     *p;
    ngx_str_t   name;

    static const struct {
        ngx_str_t   name;
        ngx_uint_t  method;
    } methods[] = {
        { ngx_string("POST"), NGX_HTTP_POST },
        { ngx_string("PUT"), NGX_HTTP_PUT },
        { ngx_string("DELETE"), NGX_HTTP_DELETE },
        { ngx_string("OPTIONS"), NGX_HTTP_OPTIONS },
        { ngx_string("PATCH"), NGX_HTTP_PATCH },
    };

    if (r->method != NGX_HTTP_GET || !ngx_ws_request_is_accelerated(r)) {
        return;
    }

    name = r->request_line;
    p = ngx_strlchr(name.data, name.data + name.len, ' ');
    len = p ? (size_t) (p - name.data) : 0;

    if (len == 0 || (len == 3 && ngx_memcmp(name.data, "GET", 3) == 0)) {
        return;
    }

    name.len = len;
    r->method_name = name;
    r->method = NGX_HTTP_UNKNOWN;

    for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (methods[i].name.len == len && ngx_memcmp(methods[i].name.data, name.data, len) == 0) {
            r->method = methods[i].method;
            break;
        }
    }
}
