/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The buffers with the head of a request that has become a WebSocket: 1k to begin with, 8k and more where there are cookies, for as long
 * as the connection is open. What they hold is moved into memory of just that size, and who refers to it refers to the copy.
 */

#include "ngx_ws_exec.h"


/* octets that have to be gained */

#define NGX_WS_HEADERS_LEAST  256


/* where something was, and where it is now */

typedef struct {
    u_char     *start;
    u_char     *end;
    u_char     *to;
} ngx_ws_moved_t;


/*
 * Modules of nginx that may have a context for a request, and none of whose contexts refers to its head. What others keep is not known:
 * where one has a context, everything stays where it is.
 */

static char  *ngx_ws_known[] = {
    "ngx_http_auth_request_module",
    "ngx_http_charset_filter_module",
    "ngx_http_chunked_filter_module",
    "ngx_http_copy_filter_module",
    "ngx_http_header_count_module",
    "ngx_http_mirror_module",
    "ngx_http_realip_module",
    "ngx_http_secure_link_module",
    NULL
};


static ngx_uint_t
ngx_ws_headers_are_known(ngx_http_request_t *r, ngx_module_t *own)
{
    char          **name;
    ngx_uint_t      i;
    ngx_module_t   *module;

    for (i = 0; ngx_cycle->modules[i]; i++) {
        module = ngx_cycle->modules[i];

        if (module->type != NGX_HTTP_MODULE || module == own || r->ctx[module->ctx_index] == NULL) {
            continue;
        }

        for (name = ngx_ws_known; *name; name++) {
            if (ngx_strcmp(module->name, *name) == 0) {
                break;
            }
        }

        if (*name == NULL) {
            return 0;
        }
    }

    return 1;
}


static void
ngx_ws_headers_move(ngx_ws_moved_t *moved, u_char **data)
{
    if (*data >= moved->start && *data < moved->end) {
        *data = moved->to + (*data - moved->start);
    }
}


static void
ngx_ws_headers_move_list(ngx_ws_moved_t *moved, ngx_list_t *list)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            ngx_ws_headers_move(moved, &h[i].key.data);
            ngx_ws_headers_move(moved, &h[i].value.data);
            ngx_ws_headers_move(moved, &h[i].lowcase_key);
        }
    }
}


/* whatever of a request refers to its head; the pointers of the parser are no longer used, and nginx uses their place for other things */

static void
ngx_ws_headers_move_all(ngx_ws_moved_t *moved, ngx_http_request_t *r)
{
    ngx_uint_t                  i;
    ngx_http_core_main_conf_t  *cmcf;

    ngx_ws_headers_move(moved, &r->request_line.data);
    ngx_ws_headers_move(moved, &r->uri.data);
    ngx_ws_headers_move(moved, &r->args.data);
    ngx_ws_headers_move(moved, &r->exten.data);
    ngx_ws_headers_move(moved, &r->unparsed_uri.data);
    ngx_ws_headers_move(moved, &r->method_name.data);
    ngx_ws_headers_move(moved, &r->http_protocol.data);
    ngx_ws_headers_move(moved, &r->schema.data);
    ngx_ws_headers_move(moved, &r->headers_in.server.data);
    ngx_ws_headers_move(moved, &r->headers_in.user.data);
    ngx_ws_headers_move(moved, &r->headers_in.passwd.data);
    ngx_ws_headers_move(moved, &r->headers_out.content_type.data);
    ngx_ws_headers_move(moved, &r->headers_out.charset.data);
    ngx_ws_headers_move(moved, &r->headers_out.status_line.data);

#if (NGX_PCRE)
    ngx_ws_headers_move(moved, &r->captures_data);
#endif

    ngx_ws_headers_move_list(moved, &r->headers_in.headers);
    ngx_ws_headers_move_list(moved, &r->headers_out.headers);

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    for (i = 0; i < cmcf->variables.nelts; i++) {
        ngx_ws_headers_move(moved, &r->variables[i].data);
    }
}


/*
 * Balancers have no context for a request, but may keep the value of a variable until they are given their server back, as "sticky" does
 * with that of a cookie. Those of nginx that keep none give servers back by the function of round robin.
 */

static ngx_uint_t
ngx_ws_headers_are_kept(ngx_http_request_t *r, ngx_buf_t *b)
{
    ngx_uint_t                  i;
    ngx_http_upstream_t        *u;
    ngx_http_core_main_conf_t  *cmcf;

    u = r->upstream;

    if (u == NULL || u->peer.free == NULL || u->peer.free == ngx_http_upstream_free_round_robin_peer) {
        return 0;
    }

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    for (i = 0; i < cmcf->variables.nelts; i++) {
        if (r->variables[i].data >= b->start && r->variables[i].data < b->end) {
            return 1;
        }
    }

    return 0;
}


/* moves what is in a buffer, if that gains enough */

static void
ngx_ws_headers_shrink_buf(ngx_http_request_t *r, ngx_buf_t *b)
{
    size_t             used, room;
    ngx_pool_large_t  *l;
    ngx_ws_moved_t     moved;

    used = b->last - b->start;
    room = b->end - b->start;

    if (used + NGX_WS_HEADERS_LEAST > room || ngx_ws_headers_are_kept(r, b)) {
        return;
    }

    for (l = r->connection->pool->large; l && l->alloc != b->start; l = l->next) { /* void */ }

    if (l == NULL) {

        /* a small one is part of a block of the pool, which stays */

        return;
    }

    moved.to = ngx_alloc(used ? used : 1, r->connection->log);
    if (moved.to == NULL) {
        return;
    }

    ngx_memcpy(moved.to, b->start, used);

    /* a string that is empty may begin behind the last octet */

    moved.start = b->start;
    moved.end = b->end;

    ngx_ws_headers_move_all(&moved, r);

    ngx_free(l->alloc);
    l->alloc = moved.to;

    b->start = moved.to;
    b->pos = moved.to + used;
    b->last = moved.to + used;
    b->end = moved.to + used;
}


/* for a main request of HTTP/1 that nobody else works on, whose head was read and whose connection is never used for another */

void
ngx_ws_headers_shrink(ngx_http_request_t *r, ngx_module_t *own)
{
    ngx_chain_t            *cl;
    ngx_http_connection_t  *hc;

    hc = r->http_connection;

    if (r != r->main || r->count != 1 || r->keepalive || r->header_in->pos != r->header_in->last
        || r->http_version >= NGX_HTTP_VERSION_20 || !ngx_ws_headers_are_known(r, own))
    {
        return;
    }

    for (cl = hc->busy; cl; cl = cl->next) {
        ngx_ws_headers_shrink_buf(r, cl->buf);
    }

    if (r->connection->buffer && r->connection->buffer->start && r->connection->buffer->pos) {
        ngx_ws_headers_shrink_buf(r, r->connection->buffer);
    }
}
