/*
 * Detached requests: what a client's request asks of another location, on a connection without a client.
 *
 * A main request is made from a copy of the client's request, with a connection of its own that has no descriptor, and the
 * location is asked by a subrequest of it. So it is to the location what a subrequest of auth_request would be, but it needs
 * the client's request only while it is being copied: it goes on when the client has gone, and can be made when it goes.
 *
 * What the location answers leaves through the filters of subrequests and ends in the connection's send_chain, which gives
 * it to the caller: the answer may be of any length and come from a file. nginx may close such a connection by itself, as it
 * does with every connection whose request it terminates; "shared" keeps it from closing a descriptor.
 */

#include "ngx_ws_exec.h"


struct ngx_ws_detached_s {
    /* the first: the main request leads to it, and so to the rest */
    ngx_http_connection_t        http_connection;

    ngx_http_request_t          *request;
    ngx_http_request_t          *subrequest;

    ngx_pool_t                  *pool;          /* of the connection */
    ngx_log_t                   *log;
    ngx_http_log_ctx_t          *log_ctx;
    ngx_listening_t             *listening;
    struct sockaddr             *sockaddr;
    socklen_t                    socklen;
    struct sockaddr             *local_sockaddr;
    socklen_t                    local_socklen;
    ngx_str_t                    addr_text;

    ngx_str_t                    uri;
    ngx_str_t                    args;
    ngx_http_post_subrequest_t   post;

    ngx_ws_detached_take_pt      take;
    ngx_ws_detached_done_pt      done;
    void                        *data;

    off_t                        taken;
    ngx_uint_t                   status;

    unsigned                     message:1;
    unsigned                     complete:1;
    unsigned                     over:1;
};


static ngx_int_t ngx_ws_detached_headers(ngx_http_request_t *r, ngx_http_request_t *from, ngx_str_t *hops,
    ngx_str_t *type, ngx_uint_t message);
static ngx_int_t ngx_ws_detached_variables(ngx_http_request_t *r, ngx_http_request_t *from);
static ngx_table_elt_t *ngx_ws_detached_header(ngx_http_request_t *r, ngx_str_t *key, ngx_str_t *value,
    u_char *lowcase, ngx_uint_t hash);
static ngx_int_t ngx_ws_detached_answered(ngx_http_request_t *sr, void *data, ngx_int_t rc);
static void ngx_ws_detached_woken(ngx_http_request_t *r);
static void ngx_ws_detached_cleanup(void *data);
static void ngx_ws_detached_end(ngx_ws_detached_t *d);
static ngx_int_t ngx_ws_detached_take(ngx_ws_detached_t *d, ngx_buf_t *b);
static ngx_chain_t *ngx_ws_detached_send_chain(ngx_connection_t *c, ngx_chain_t *in, off_t limit);
static ssize_t ngx_ws_detached_recv(ngx_connection_t *c, u_char *buf, size_t size);
static ssize_t ngx_ws_detached_send(ngx_connection_t *c, u_char *buf, size_t size);
static void ngx_ws_detached_event(ngx_event_t *ev);


/* an nginx without stub_status does not count connections, and has no such symbol */

extern ngx_atomic_t  *ngx_stat_active __attribute__((weak));


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


static ngx_int_t
ngx_ws_copy_str(ngx_pool_t *pool, ngx_str_t *to, ngx_str_t *from)
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


/* the memory of the caller's data goes with the pool of the request, after everything that may look at it */

ngx_ws_detached_t *
ngx_ws_detached_create(ngx_http_request_t *from, ngx_str_t *hops, ngx_str_t *type, ngx_uint_t message)
{
    ngx_pool_t                 *pool;
    ngx_time_t                 *tp;
    ngx_connection_t           *fc;
    ngx_ws_detached_t          *d;
    ngx_http_request_t         *r;
    ngx_http_cleanup_t         *cln;
    ngx_http_core_main_conf_t  *cmcf;

    fc = from->connection;

    /* a connection that listens at every address has asked for its own only if somebody wanted to know */

    if (fc->fd != (ngx_socket_t) -2 && ngx_connection_local_sockaddr(fc, NULL, 0) != NGX_OK) {
        return NULL;
    }

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    d = ngx_pcalloc(pool, sizeof(ngx_ws_detached_t));
    if (d == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    d->pool = pool;

    d->log = ngx_palloc(pool, sizeof(ngx_log_t));
    d->log_ctx = ngx_pcalloc(pool, sizeof(ngx_http_log_ctx_t));
    d->sockaddr = ngx_pcalloc(pool, ngx_max(fc->socklen, (socklen_t) sizeof(struct sockaddr)));
    d->local_sockaddr = ngx_pcalloc(pool, ngx_max(fc->local_socklen, (socklen_t) sizeof(struct sockaddr)));

    if (d->log == NULL || d->log_ctx == NULL || d->sockaddr == NULL || d->local_sockaddr == NULL
        || ngx_ws_copy_str(pool, &d->addr_text, &fc->addr_text) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    *d->log = *fc->log;
    d->log->data = d->log_ctx;
    d->log->action = NULL;

    d->listening = fc->listening;
    d->socklen = fc->socklen;
    ngx_memcpy(d->sockaddr, fc->sockaddr, fc->socklen);
    d->local_socklen = fc->local_socklen;

    if (fc->local_sockaddr) {
        ngx_memcpy(d->local_sockaddr, fc->local_sockaddr, fc->local_socklen);
    }

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        ngx_destroy_pool(d->pool);
        return NULL;
    }

    r = ngx_pcalloc(pool, sizeof(ngx_http_request_t));
    if (r == NULL) {
        goto failed;
    }

    d->request = r;
    cmcf = from->main_conf[ngx_http_core_module.ctx_index];

    r->signature = NGX_HTTP_MODULE;
    r->pool = pool;
    r->main_conf = from->main_conf;
    r->srv_conf = from->srv_conf;
    r->loc_conf = from->loc_conf;

    r->ctx = ngx_pcalloc(pool, sizeof(void *) * ngx_http_max_module);
    r->variables = ngx_pcalloc(pool, cmcf->variables.nelts * sizeof(ngx_http_variable_value_t) + 1);
    r->header_in = ngx_create_temp_buf(pool, 1);
    r->request_body = ngx_pcalloc(pool, sizeof(ngx_http_request_body_t));
    cln = ngx_pcalloc(pool, sizeof(ngx_http_cleanup_t));

    if (r->ctx == NULL || r->variables == NULL || r->header_in == NULL || r->request_body == NULL || cln == NULL)
    {
        goto failed;
    }

    d->http_connection.addr_conf = from->http_connection->addr_conf;
    d->http_connection.conf_ctx = from->http_connection->conf_ctx;
    r->http_connection = &d->http_connection;

    cln->handler = ngx_ws_detached_cleanup;
    cln->data = d;
    r->cleanup = cln;

    if (ngx_list_init(&r->headers_in.headers, pool, 20, sizeof(ngx_table_elt_t)) != NGX_OK
        || ngx_list_init(&r->headers_out.headers, pool, 4, sizeof(ngx_table_elt_t)) != NGX_OK
        || ngx_list_init(&r->headers_out.trailers, pool, 1, sizeof(ngx_table_elt_t)) != NGX_OK
        || ngx_ws_copy_str(pool, &r->request_line, &from->request_line) != NGX_OK
        || ngx_ws_copy_str(pool, &r->uri, &from->uri) != NGX_OK
        || ngx_ws_copy_str(pool, &r->args, &from->args) != NGX_OK
        || ngx_ws_copy_str(pool, &r->unparsed_uri, &from->unparsed_uri) != NGX_OK
        || ngx_ws_copy_str(pool, &r->http_protocol, &from->http_protocol) != NGX_OK
        || ngx_ws_copy_str(pool, &r->schema, &from->schema) != NGX_OK)
    {
        goto failed;
    }

    r->method = message ? NGX_HTTP_POST : NGX_HTTP_GET;
    ngx_str_set(&r->method_name, "GET");
    if (message) {
        ngx_str_set(&r->method_name, "POST");
    }

    r->http_version = from->http_version;
    r->request_length = from->request_length;
    tp = ngx_timeofday();
    r->start_sec = tp->sec;
    r->start_msec = tp->msec;
    r->log_handler = from->log_handler;

    r->read_event_handler = ngx_http_request_empty_handler;
    r->write_event_handler = ngx_ws_detached_woken;

    r->main = r;
    r->count = 1;
    r->subrequests = NGX_HTTP_MAX_SUBREQUESTS + 1;
    r->http_state = NGX_HTTP_PROCESS_REQUEST_STATE;

    r->headers_out.content_length_n = -1;
    r->headers_out.last_modified_time = -1;

    /* the client has had its limits; nothing is read, sent or logged for this request itself */

    r->limit_conn_status = from->limit_conn_status;
    r->limit_req_status = from->limit_req_status;
    r->limit_rate_set = 1;
    r->limit_rate_after_set = 1;
    r->expect_tested = 1;
    r->post_action = 1;
    r->logged = 1;
    r->internal = 1;

    if (ngx_ws_detached_headers(r, from, hops, type, message) != NGX_OK
        || ngx_ws_detached_variables(r, from) != NGX_OK)
    {
        goto failed;
    }

    d->message = message ? 1 : 0;
    d->log_ctx->request = r;
    d->log_ctx->current_request = r;

    return d;

failed:

    ngx_destroy_pool(pool);
    ngx_destroy_pool(d->pool);

    return NULL;
}


static ngx_table_elt_t *
ngx_ws_detached_header(ngx_http_request_t *r, ngx_str_t *key, ngx_str_t *value, u_char *lowcase, ngx_uint_t hash)
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

    if (ngx_ws_copy_str(r->pool, &h->key, key) != NGX_OK
        || ngx_ws_copy_str(r->pool, &h->value, value) != NGX_OK
        || ngx_ws_copy_str(r->pool, &copy, &text) != NGX_OK)
    {
        return NULL;
    }

    h->lowcase_key = copy.data;
    h->hash = hash;

    return h;
}


static ngx_int_t
ngx_ws_detached_headers(ngx_http_request_t *r, ngx_http_request_t *from, ngx_str_t *hops, ngx_str_t *type,
    ngx_uint_t message)
{
    u_char                     *slot, *lowcase;
    ngx_str_t                   name;
    ngx_uint_t                  i;
    ngx_list_t                  list;
    ngx_list_part_t            *part;
    ngx_table_elt_t            *h, *copy, **ph;
    ngx_http_header_t          *known;
    ngx_http_core_main_conf_t  *cmcf;

    static ngx_str_t            content_type = ngx_string("content-type");

    cmcf = from->main_conf[ngx_http_core_module.ctx_index];

    list = r->headers_in.headers;
    r->headers_in = from->headers_in;
    r->headers_in.headers = list;
    r->headers_in.headers.last = &r->headers_in.headers.part;

    for (known = ngx_http_headers_in; known->name.len; known++) {
        *(ngx_table_elt_t **) ((u_char *) &r->headers_in + known->offset) = NULL;
    }

#if (nginx_version < 1023000)
    ngx_memzero(&r->headers_in.cookies, sizeof(ngx_array_t));
#if (NGX_HTTP_X_FORWARDED_FOR)
    ngx_memzero(&r->headers_in.x_forwarded_for, sizeof(ngx_array_t));
#endif
#endif

    ngx_str_null(&r->headers_in.user);
    ngx_str_null(&r->headers_in.passwd);
    r->headers_in.content_length_n = -1;
    r->headers_in.keep_alive_n = -1;
    r->headers_in.chunked = 0;
    r->headers_in.connection_type = 0;

    if (ngx_ws_copy_str(r->pool, &r->headers_in.server, &from->headers_in.server) != NGX_OK) {
        return NGX_ERROR;
    }

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

        copy = ngx_ws_detached_header(r, &h[i].key, &h[i].value, h[i].lowcase_key, h[i].hash);
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

    if (ngx_ws_detached_header(r, &ngx_ws_hops, hops, lowcase, i) == NULL) {
        return NGX_ERROR;
    }

    if (message && type->len) {
        ngx_str_set(&name, "Content-Type");
        i = ngx_hash_key(content_type.data, content_type.len);
        r->headers_in.content_type = ngx_ws_detached_header(r, &name, type, content_type.data, i);

        if (r->headers_in.content_type == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_ws_detached_variables(ngx_http_request_t *r, ngx_http_request_t *from)
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

            if (ngx_ws_copy_str(r->pool, &text, &(ngx_str_t) { value->len, value->data }) != NGX_OK) {
                return NGX_ERROR;
            }

            r->variables[i].data = text.data;
        }
    }

    return NGX_OK;
}


ngx_http_request_t *
ngx_ws_detached_request(ngx_ws_detached_t *d)
{
    return d->request;
}


/* where to ask: a path with or without arguments; without them the client's are passed on */

ngx_int_t
ngx_ws_detached_target(ngx_ws_detached_t *d, ngx_str_t *uri)
{
    ngx_uint_t           flags;
    ngx_connection_t     c;
    ngx_http_request_t  *r;

    r = d->request;
    ngx_str_null(&d->args);

    if (uri->len == 0 || uri->data[0] != '/' || ngx_ws_copy_str(r->pool, &d->uri, uri) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a log is all that is asked of the connection, which does not exist yet */

    ngx_memzero(&c, sizeof(ngx_connection_t));
    c.log = ngx_cycle->log;
    flags = 0;

    r->connection = &c;
    flags = ngx_http_parse_unsafe_uri(r, &d->uri, &d->args, &flags);
    r->connection = NULL;

    if ((ngx_int_t) flags != NGX_OK) {
        return NGX_ERROR;
    }

    if (d->args.data == NULL) {
        d->args = r->args;
    }

    return NGX_OK;
}


/* the body: the octets are the caller's, who keeps them as long as the request */

ngx_int_t
ngx_ws_detached_message(ngx_ws_detached_t *d, u_char *data, size_t len)
{
    ngx_buf_t           *b;
    ngx_str_t            key, value;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    static u_char        lowcase[] = "content-length";

    r = d->request;

    value.data = ngx_pnalloc(r->pool, NGX_SIZE_T_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = ngx_sprintf(value.data, "%uz", len) - value.data;
    ngx_str_set(&key, "Content-Length");

    r->headers_in.content_length = ngx_ws_detached_header(r, &key, &value, lowcase,
                                                          ngx_hash_key(lowcase, sizeof(lowcase) - 1));
    if (r->headers_in.content_length == NULL) {
        return NGX_ERROR;
    }

    r->headers_in.content_length_n = len;

    if (len == 0) {
        return NGX_OK;
    }

    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);
    if (b == NULL || cl == NULL) {
        return NGX_ERROR;
    }

    b->start = data;
    b->pos = data;
    b->last = data + len;
    b->end = b->last;
    b->memory = 1;
    b->last_buf = 1;

    cl->buf = b;
    cl->next = NULL;

    r->request_body->bufs = cl;
    r->request_body->buf = b;

    return NGX_OK;
}


ngx_int_t
ngx_ws_detached_on_free(ngx_ws_detached_t *d, ngx_pool_cleanup_pt handler, void *data)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(d->request->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = handler;
    cln->data = data;

    return NGX_OK;
}


void
ngx_ws_detached_callbacks(ngx_ws_detached_t *d, ngx_ws_detached_take_pt take, ngx_ws_detached_done_pt done,
    void *data)
{
    d->take = take;
    d->done = done;
    d->data = data;
}


/* gives up a request that was not started; its caller is not called */

void
ngx_ws_detached_discard(ngx_ws_detached_t *d)
{
    ngx_pool_t  *pool;

    pool = d->pool;

    ngx_destroy_pool(d->request->pool);
    ngx_destroy_pool(pool);
}


/*
 * NGX_AGAIN: there is no connection to be had, and nothing has happened. Otherwise the caller's "done" is called once, now or
 * later, unless there is an error: then the request is to be discarded.
 */

ngx_int_t
ngx_ws_detached_start(ngx_ws_detached_t *d)
{
    ngx_connection_t    *c, *saved;
    ngx_http_request_t  *r, *sr;

    /* one for this request, one for a server that the location asks; running out of them is an alert in the log */

    if (ngx_cycle->free_connection_n < 2) {
        return NGX_AGAIN;
    }

    r = d->request;
    saved = NULL;

    if (ngx_cycle->files) {
        saved = ngx_cycle->files[0];
    }

    c = ngx_get_connection(0, d->log);

    if (ngx_cycle->files) {
        ngx_cycle->files[0] = saved;
    }

    if (c == NULL) {
        return NGX_AGAIN;
    }

    c->fd = (ngx_socket_t) -2;
    c->shared = 1;
    c->pool = d->pool;
    c->pool->log = d->log;
    c->log = d->log;
    c->log->connection = c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->log_error = NGX_ERROR_INFO;
    c->type = SOCK_STREAM;
    c->listening = d->listening;
    c->sockaddr = d->sockaddr;
    c->socklen = d->socklen;
    c->local_sockaddr = d->local_sockaddr;
    c->local_socklen = d->local_socklen;
    c->addr_text = d->addr_text;
    c->requests = 1;
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
#if (nginx_version >= 1019010)
    c->start_time = ngx_current_msec;
#endif

    c->recv = ngx_ws_detached_recv;
    c->send = ngx_ws_detached_send;
    c->send_chain = ngx_ws_detached_send_chain;

    /* nobody may ask epoll about it */

    c->read->log = d->log;
    c->read->active = 1;
    c->read->handler = ngx_ws_detached_event;
    c->write->log = d->log;
    c->write->active = 1;
    c->write->ready = 1;
    c->write->handler = ngx_ws_detached_event;

    d->log_ctx->connection = c;
    r->pool->log = d->log;
    r->connection = c;
    c->data = r;

    if (&ngx_stat_active != NULL) {
        (void) ngx_atomic_fetch_add(ngx_stat_active, 1);
    }

    d->post.handler = ngx_ws_detached_answered;
    d->post.data = d;

    if (ngx_http_subrequest(r, &d->uri, &d->args, &sr, &d->post, 0) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
        ngx_http_run_posted_requests(c);
        return NGX_OK;
    }

    d->subrequest = sr;
    sr->method = r->method;
    sr->method_name = r->method_name;

    /* nobody wants to know more than the status, unless the message may come back */

    sr->header_only = d->message ? 0 : 1;

    ngx_http_run_posted_requests(c);

    return NGX_OK;
}


/* ends a request that was started; its caller is called if it was not yet */

void
ngx_ws_detached_abort(ngx_ws_detached_t *d)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = d->request;
    c = r->connection;

    ngx_http_finalize_request(r, NGX_ERROR);
    ngx_http_run_posted_requests(c);
}


/* 0: none, or not all of it */

ngx_uint_t
ngx_ws_detached_status(const ngx_ws_detached_t *d)
{
    return (d->status == NGX_HTTP_OK && !d->complete) ? 0 : d->status;
}


ngx_str_t
ngx_ws_detached_content_type(const ngx_ws_detached_t *d)
{
    ngx_str_t  none = ngx_null_string;

    return d->subrequest ? d->subrequest->headers_out.content_type : none;
}


ngx_str_t
ngx_ws_detached_www_authenticate(const ngx_ws_detached_t *d)
{
    ngx_str_t         none = ngx_null_string;
    ngx_table_elt_t  *h;

    if (d->subrequest == NULL) {
        return none;
    }

    h = d->subrequest->headers_out.www_authenticate;

    if (h == NULL && d->subrequest->upstream) {
        h = d->subrequest->upstream->headers_in.www_authenticate;
    }

    return h ? h->value : none;
}


/* nginx calls whenever the subrequest comes to an end, which it does twice when it ends with an error page */

static ngx_int_t
ngx_ws_detached_answered(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_ws_detached_t    *d = data;
    ngx_event_pipe_t     *p;
    ngx_http_upstream_t  *u;

    d->complete = 1;

    if (rc == NGX_ERROR || rc == NGX_HTTP_REQUEST_TIME_OUT || rc == NGX_HTTP_CLIENT_CLOSED_REQUEST
        || rc == NGX_HTTP_CLOSE || sr->connection->error)
    {
        d->status = sr->headers_out.status;
        d->complete = 0;

        /* the connection is not one to be closed or reset */
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

static void
ngx_ws_detached_woken(ngx_http_request_t *r)
{
    ngx_chain_t        *cl;
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

    ngx_ws_detached_end(d);

    ngx_http_finalize_request(r, NGX_ERROR);
}


/* nginx has terminated the request, or it has been freed */

static void
ngx_ws_detached_cleanup(void *data)
{
    ngx_ws_detached_t  *d = data;

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

static ngx_int_t
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


/* there is nobody to send it to: the caller takes all of it at once */

static ngx_chain_t *
ngx_ws_detached_send_chain(ngx_connection_t *c, ngx_chain_t *in, off_t limit)
{
    ngx_ws_detached_t   *d;
    ngx_http_request_t  *r;

    r = c->data;
    d = (ngx_ws_detached_t *) r->main->http_connection;

    for ( /* void */ ; in; in = in->next) {
        if (ngx_ws_detached_take(d, in->buf) != NGX_OK) {
            return NGX_CHAIN_ERROR;
        }
    }

    c->sent = d->taken;

    return NULL;
}


static ssize_t
ngx_ws_detached_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    return NGX_AGAIN;
}


static ssize_t
ngx_ws_detached_send(ngx_connection_t *c, u_char *buf, size_t size)
{
    return NGX_ERROR;
}


/*
 * A timer, a posted event, or worker_shutdown_timeout, which marks every connection. That is meant for clients: how long a
 * request may go on without one is decided elsewhere.
 */

static void
ngx_ws_detached_event(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    c = ev->data;
    r = c->data;

    if (c->close) {
        c->close = 0;
        c->error = 0;
        return;
    }

    ngx_http_set_log_request(c->log, r);

    if (ev->delayed && ev->timedout) {
        ev->delayed = 0;
        ev->timedout = 0;
    }

    if (ev->write) {
        r->write_event_handler(r);

    } else {
        r->read_event_handler(r);
    }

    ngx_http_run_posted_requests(c);
}


/* nginx's other open connections are not served any more, only what those that are open already wait for */

void
ngx_ws_serve_once(void)
{
    ngx_process_events_and_timers((ngx_cycle_t *) ngx_cycle);
}


void
ngx_ws_close_listening(void)
{
    ngx_close_listening_sockets((ngx_cycle_t *) ngx_cycle);
}
