/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The copy of a client's request: its headers and the values of its variables, in the pool of a detached request.
 */

#include "ngx_ws_detached.h"


/* the name of the header that counts how often a hook was asked because of another one */

static ngx_str_t  ngx_ws_hops = ngx_string("X-Websocket-Hops");


/* what belongs to the client's connection or to the body of its request, and what would make an answer depend on it */

static ngx_str_t  ngx_ws_dropped[] = {
    ngx_string("accept-encoding"),
    ngx_string("connection"),
    ngx_string("content-length"),
    ngx_string("expect"),
    ngx_string("if-match"),
    ngx_string("if-modified-since"),
    ngx_string("if-none-match"),
    ngx_string("if-range"),
    ngx_string("if-unmodified-since"),
    ngx_string("keep-alive"),
    ngx_string("range"),
    ngx_string("te"),
    ngx_string("trailer"),
    ngx_string("transfer-encoding"),
    ngx_string("upgrade"),
    ngx_string("x-websocket-hops"),
    ngx_null_string
};


/* variables of the client's connection, which the copy does not have: they get their values before */

static ngx_str_t  ngx_ws_of_connection[] = {
    ngx_string("connection"),
    ngx_string("https"),
    ngx_string("proxy_protocol_"),
    ngx_string("realip_"),
    ngx_string("request_id"),
    ngx_string("scheme"),
    ngx_string("ssl_"),
    ngx_string("tcpinfo_"),
    ngx_null_string
};


/* variables of the body and of headers that are not those of the client's request */

static ngx_str_t  ngx_ws_not_copied[] = {
    ngx_string("content_"),
    ngx_string("http_"),
    ngx_string("request_body"),
    ngx_string("request_method"),
    ngx_string("sent_http_"),
    ngx_string("upstream_"),
    ngx_null_string
};


static ngx_uint_t
ngx_ws_begins(ngx_str_t *text, ngx_str_t *list)
{
    for ( /* void */ ; list->len; list++) {
        if (text->len >= list->len && ngx_strncmp(text->data, list->data, list->len) == 0) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_ws_is_dropped(ngx_str_t *name)
{
    ngx_str_t  *dropped;

    for (dropped = ngx_ws_dropped; dropped->len; dropped++) {
        if (name->len == dropped->len && ngx_strncmp(name->data, dropped->data, name->len) == 0) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_ws_detached_copy_str(ngx_pool_t *pool, ngx_str_t *to, ngx_str_t *from)
{
    to->len = from->len;
    to->data = NULL;

    if (from->data == NULL) {
        return NGX_OK;
    }

    /* nginx's parsers look one octet ahead */

    to->data = ngx_pnalloc(pool, from->len + 1);
    if (to->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(to->data, from->data, from->len);
    to->data[to->len] = '\0';

    return NGX_OK;
}


ngx_table_elt_t *
ngx_ws_detached_copy_header(ngx_http_request_t *r, ngx_str_t *key, ngx_str_t *value, u_char *lowcase, ngx_uint_t hash)
{
    ngx_str_t         text, copy;
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NULL;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    text.len = key->len;
    text.data = lowcase;

    if (ngx_ws_detached_copy_str(r->pool, &h->key, key) != NGX_OK
        || ngx_ws_detached_copy_str(r->pool, &h->value, value) != NGX_OK
        || ngx_ws_detached_copy_str(r->pool, &copy, &text) != NGX_OK)
    {
        return NULL;
    }

    h->lowcase_key = copy.data;
    h->hash = hash;

    return h;
}


/* what the client has asked for */

ngx_int_t
ngx_ws_detached_copy_line(ngx_http_request_t *r, ngx_http_request_t *from)
{
    r->http_version = from->http_version;
    r->request_length = from->request_length;

#if (nginx_version >= 1029003)
    r->port = from->port;
#endif

    if (ngx_ws_detached_copy_str(r->pool, &r->request_line, &from->request_line) != NGX_OK
        || ngx_ws_detached_copy_str(r->pool, &r->uri, &from->uri) != NGX_OK
        || ngx_ws_detached_copy_str(r->pool, &r->args, &from->args) != NGX_OK
        || ngx_ws_detached_copy_str(r->pool, &r->unparsed_uri, &from->unparsed_uri) != NGX_OK
        || ngx_ws_detached_copy_str(r->pool, &r->http_protocol, &from->http_protocol) != NGX_OK
        || ngx_ws_detached_copy_str(r->pool, &r->schema, &from->schema) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_ws_detached_copy_headers(ngx_http_request_t *r, ngx_http_request_t *from, ngx_str_t *hops, ngx_str_t *type,
    ngx_uint_t message)
{
    u_char                     *slot, *lowcase;
    ngx_str_t                   name;
    ngx_uint_t                  i;
    ngx_list_part_t            *part;
    ngx_table_elt_t            *h, *copy, **ph;
    ngx_http_header_t          *known;
    ngx_http_core_main_conf_t  *cmcf;

    static ngx_str_t            content_type = ngx_string("content-type");

    cmcf = from->main_conf[ngx_http_core_module.ctx_index];

    if (ngx_ws_detached_copy_str(r->pool, &r->headers_in.server, &from->headers_in.server) != NGX_OK) {
        return NGX_ERROR;
    }

    /* what nginx has seen in User-Agent */

    r->headers_in.msie = from->headers_in.msie;
    r->headers_in.msie6 = from->headers_in.msie6;
    r->headers_in.opera = from->headers_in.opera;
    r->headers_in.gecko = from->headers_in.gecko;
    r->headers_in.chrome = from->headers_in.chrome;
    r->headers_in.safari = from->headers_in.safari;
    r->headers_in.konqueror = from->headers_in.konqueror;

    part = &from->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].hash == 0) {
            continue;
        }

        name.len = h[i].key.len;
        name.data = h[i].lowcase_key;

        if (ngx_ws_is_dropped(&name)
            || (name.len == content_type.len && ngx_strncmp(name.data, content_type.data, name.len) == 0))
        {
            continue;
        }

        copy = ngx_ws_detached_copy_header(r, &h[i].key, &h[i].value, h[i].lowcase_key, h[i].hash);
        if (copy == NULL) {
            return NGX_ERROR;
        }

        known = ngx_hash_find(&cmcf->headers_in_hash, copy->hash, copy->lowcase_key, copy->key.len);
        if (known == NULL) {
            continue;
        }

        slot = (u_char *) &r->headers_in + known->offset;

#if (nginx_version < 1023000)

        if (known->offset == offsetof(ngx_http_headers_in_t, cookies)
#if (NGX_HTTP_X_FORWARDED_FOR)
            || known->offset == offsetof(ngx_http_headers_in_t, x_forwarded_for)
#endif
           )
        {
            ngx_array_t  *headers = (ngx_array_t *) slot;

            if (headers->elts == NULL
                && ngx_array_init(headers, r->pool, 1, sizeof(ngx_table_elt_t *)) != NGX_OK)
            {
                return NGX_ERROR;
            }

            ph = ngx_array_push(headers);
            if (ph == NULL) {
                return NGX_ERROR;
            }

            *ph = copy;
            continue;
        }

        ph = (ngx_table_elt_t **) slot;
        if (*ph == NULL) {
            *ph = copy;
        }

#else
        for (ph = (ngx_table_elt_t **) slot; *ph; ph = &(*ph)->next) { /* void */ }
        *ph = copy;
#endif
    }

    lowcase = ngx_pnalloc(r->pool, ngx_ws_hops.len);
    if (lowcase == NULL) {
        return NGX_ERROR;
    }

    i = ngx_hash_strlow(lowcase, ngx_ws_hops.data, ngx_ws_hops.len);

    if (ngx_ws_detached_copy_header(r, &ngx_ws_hops, hops, lowcase, i) == NULL) {
        return NGX_ERROR;
    }

    if (message && type->len) {
        ngx_str_set(&name, "Content-Type");
        i = ngx_hash_key(content_type.data, content_type.len);
        r->headers_in.content_type = ngx_ws_detached_copy_header(r, &name, type, content_type.data, i);

        if (r->headers_in.content_type == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_ws_detached_copy_variables(ngx_http_request_t *r, ngx_http_request_t *from)
{
    ngx_str_t                   text;
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_variable_value_t  *value;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = from->main_conf[ngx_http_core_module.ctx_index];
    v = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {

        if ((v[i].flags & NGX_HTTP_VAR_NOCACHEABLE) || ngx_ws_begins(&v[i].name, ngx_ws_not_copied)) {
            continue;
        }

        if (ngx_ws_begins(&v[i].name, ngx_ws_of_connection)) {
            (void) ngx_http_get_indexed_variable(from, i);
        }

        value = &from->variables[i];

        if (!(value->valid || value->not_found) || value->no_cacheable) {
            continue;
        }

        r->variables[i] = *value;

        if (value->valid) {
            text.len = value->len;
            text.data = value->data;

            if (ngx_ws_detached_copy_str(r->pool, &text, &(ngx_str_t) { value->len, value->data }) != NGX_OK) {
                return NGX_ERROR;
            }

            r->variables[i].data = text.data;
        }
    }

    return NGX_OK;
}
