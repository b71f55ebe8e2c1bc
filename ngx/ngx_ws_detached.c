/* SPDX-License-Identifier: Apache-2.0 */

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
 *
 * The caller is told as soon as the subrequest has ended. What the location does in the background (a mirror, an update of
 * the cache) goes on after that, and nginx frees the main request with the last of it, as it does with a client's.
 *
 * ngx_ws_detached_copy.c copies the client's request, ngx_ws_detached_connection.c is the connection, and
 * ngx_ws_detached_answer.c takes what comes back.
 */

#include "ngx_ws_detached.h"


/* an nginx without stub_status counts no requests, and has no such symbols */

extern ngx_atomic_t  *ngx_stat_reading __attribute__((weak));
extern ngx_atomic_t  *ngx_stat_requests __attribute__((weak));


static ngx_http_request_t *ngx_ws_detached_main_request(ngx_ws_detached_t *d, ngx_http_request_t *from);


/* the memory of the caller's data goes with the pool of the request, after everything that may look at it */

ngx_ws_detached_t *
ngx_ws_detached_create(ngx_http_request_t *from, ngx_str_t *hops, ngx_str_t *type, ngx_uint_t message)
{
    ngx_pool_t          *pool;
    ngx_ws_detached_t   *d;
    ngx_http_request_t  *r;

    d = ngx_ws_detached_connection_prepare(from->connection);
    if (d == NULL) {
        return NULL;
    }

    pool = d->pool;

    r = ngx_ws_detached_main_request(d, from);
    if (r == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    d->request = r;
    d->message = message ? 1 : 0;

    r->method = message ? NGX_HTTP_POST : NGX_HTTP_GET;
    ngx_str_set(&r->method_name, "GET");
    if (message) {
        ngx_str_set(&r->method_name, "POST");
    }

    if (ngx_ws_detached_copy_line(r, from) != NGX_OK
        || ngx_ws_detached_copy_headers(r, from, hops, type, message) != NGX_OK
        || ngx_ws_detached_copy_variables(r, from) != NGX_OK)
    {
        ngx_ws_detached_discard(d);
        return NULL;
    }

    return d;
}


/* nginx makes the request itself, so that fields of any version begin with what nginx means them to begin with */

static ngx_http_request_t *
ngx_ws_detached_main_request(ngx_ws_detached_t *d, ngx_http_request_t *from)
{
    ngx_connection_t          *c, unopened;
    ngx_http_request_t        *r;
    ngx_http_cleanup_t        *cln;
    ngx_pool_cleanup_t        *closing;
    ngx_http_core_loc_conf_t  *clcf;

    d->http_connection.addr_conf = from->main->http_connection->addr_conf;
    d->http_connection.conf_ctx = from->main->http_connection->conf_ctx;

    /* the connection is not taken before the request begins: it does not yet exist, but for what a request is made of */

    c = &unopened;
    ngx_memzero(c, sizeof(ngx_connection_t));
    c->log = d->log;
    c->addr_text = d->addr_text;
    c->data = &d->http_connection;
    d->log_ctx->connection = c;

    c->buffer = ngx_create_temp_buf(d->pool, 1);
    if (c->buffer == NULL) {
        return NULL;
    }

    r = ngx_http_create_request(c);
    if (r == NULL) {
        return NULL;
    }

    /* it is not a request of a client */

    if (r->stat_reading) {
        r->stat_reading = 0;
        (void) ngx_atomic_fetch_add(ngx_stat_reading, -1);
        (void) ngx_atomic_fetch_add(ngx_stat_requests, -1);
    }

    cln = ngx_http_cleanup_add(r, 0);
    closing = ngx_pool_cleanup_add(r->pool, 0);
    r->request_body = ngx_pcalloc(r->pool, sizeof(ngx_http_request_body_t));

    if (cln == NULL || closing == NULL || r->request_body == NULL
        || ngx_list_init(&r->headers_in.headers, r->pool, 20, sizeof(ngx_table_elt_t)) != NGX_OK)
    {
        ngx_destroy_pool(r->pool);
        return NULL;
    }

    cln->handler = ngx_ws_detached_cleanup;
    cln->data = d;

    closing->handler = ngx_ws_detached_connection_closing;
    closing->data = r;

    /* the server and the location of the client's request, whose log is used until another location has its own */

    r->main_conf = from->main_conf;
    r->srv_conf = from->srv_conf;
    r->loc_conf = from->loc_conf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    ngx_set_connection_log(c, clcf->error_log);

    r->read_event_handler = ngx_http_request_empty_handler;
    r->write_event_handler = ngx_ws_detached_woken;
    r->http_state = NGX_HTTP_PROCESS_REQUEST_STATE;

    /* the client has had its limits; nothing is read, sent or logged for this request itself, and it has no post_action */

    r->limit_conn_status = from->limit_conn_status;
    r->limit_req_status = from->limit_req_status;
    r->limit_rate_set = 1;
    r->limit_rate_after_set = 1;
    r->expect_tested = 1;
    r->post_action = 1;
    r->uri_changes = 0;
    r->logged = 1;
    r->internal = 1;

    /* nothing is written to its log until there is a connection */

    r->pool->log = ngx_cycle->log;
    r->connection = NULL;
    d->log_ctx->connection = NULL;

    return r;
}


ngx_http_request_t *
ngx_ws_detached_request(ngx_ws_detached_t *d)
{
    return d->request;
}


/* a path with or without arguments; nginx escapes a path that is passed on, but leaves arguments as they are */

static ngx_int_t
ngx_ws_detached_parse(ngx_http_request_t *r, ngx_str_t *text, ngx_str_t *uri, ngx_str_t *args)
{
    size_t      i;
    ngx_uint_t  flags;

    ngx_str_null(args);

    if (text->len == 0 || text->data[0] != '/' || ngx_ws_detached_copy_str(r->pool, uri, text) != NGX_OK) {
        return NGX_ERROR;
    }

    flags = 0;

    if (ngx_http_parse_unsafe_uri(r, uri, args, &flags) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < args->len; i++) {
        if (args->data[i] <= ' ' || args->data[i] == 0x7f) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* the same for a client's request of which the location is to hear later */

ngx_int_t
ngx_ws_detached_can_ask(ngx_http_request_t *from, ngx_str_t *text)
{
    ngx_str_t  uri, args;

    return ngx_ws_detached_parse(from, text, &uri, &args);
}


/* where to ask; without arguments the client's are passed on */

ngx_int_t
ngx_ws_detached_target(ngx_ws_detached_t *d, ngx_str_t *uri)
{
    ngx_int_t            rc;
    ngx_connection_t     c;
    ngx_http_request_t  *r;

    r = d->request;

    /* a log is all that is asked of the connection, which does not exist yet */

    ngx_memzero(&c, sizeof(ngx_connection_t));
    c.log = ngx_cycle->log;

    r->connection = &c;
    rc = ngx_ws_detached_parse(r, uri, &d->uri, &d->args);
    r->connection = NULL;

    if (rc != NGX_OK) {
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

    r->headers_in.content_length = ngx_ws_detached_copy_header(r, &key, &value, lowcase,
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
ngx_ws_detached_callbacks(ngx_ws_detached_t *d, ngx_ws_detached_take_pt take, ngx_ws_detached_event_pt done,
    ngx_ws_detached_event_pt leave, void *data)
{
    d->take = take;
    d->done = done;
    d->leave = leave;
    d->data = data;
}


/*
 * Lets the caller have variables and directives evaluated for a request that is never started: during the call it has a connection that
 * looks like the client's. What is allocated meanwhile goes with the request.
 */

void
ngx_ws_detached_evaluate(ngx_ws_detached_t *d, ngx_connection_t *client, ngx_ws_detached_event_pt step, void *data)
{
    ngx_connection_t     c;
    ngx_http_request_t  *r;

    r = d->request;

    c = *client;
    c.data = r;
    c.log = d->log;
    c.pool = d->pool;

    r->connection = &c;
    d->log_ctx->connection = &c;
    d->log_ctx->request = r;
    d->log_ctx->current_request = r;

    step(data);

    r->connection = NULL;
    d->log_ctx->connection = NULL;
    d->log_ctx->request = NULL;
    d->log_ctx->current_request = NULL;
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
    ngx_connection_t    *c;
    ngx_http_request_t  *r, *sr;

    r = d->request;
    c = ngx_ws_detached_connection_open(d);
    if (c == NULL) {
        return NGX_AGAIN;
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


/* ends a request that was started, with what it does in the background; its caller is called if it was not yet */

void
ngx_ws_detached_abort(ngx_ws_detached_t *d, ngx_uint_t status)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = d->request;
    c = r->connection;

    if (!d->over) {
        d->status = status;
        d->aborted = 1;
    }

    /*
     * The request is no longer busy with itself while its subrequest is what it waits for: an upstream that ends in the clean-up
     * of the request would free it under the hands of ngx_http_terminate_request(), which gives this count back.
     */

    r->main->count++;

    ngx_http_finalize_request(r, NGX_ERROR);
    ngx_http_run_posted_requests(c);
}
