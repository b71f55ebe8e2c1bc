/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Detached requests, from the inside: what the files ngx_ws_detached_*.c share. What they are is said in ngx_ws_detached.c.
 */

#ifndef _NGX_WS_DETACHED_H_INCLUDED_
#define _NGX_WS_DETACHED_H_INCLUDED_


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
    ngx_ws_detached_event_pt     done;          /* the location has answered, or never will */
    ngx_ws_detached_event_pt     leave;         /* worker_shutdown_timeout is over */
    void                        *data;

    off_t                        taken;
    ngx_uint_t                   status;

    unsigned                     message:1;
    unsigned                     complete:1;
    unsigned                     aborted:1;
    unsigned                     over:1;        /* the caller was told */
};


/* the connection: ngx_ws_detached_connection.c */

ngx_ws_detached_t *ngx_ws_detached_connection_prepare(ngx_connection_t *client);
ngx_connection_t *ngx_ws_detached_connection_open(ngx_ws_detached_t *d);
void ngx_ws_detached_connection_closing(void *data);


/* the copy of the client's request: ngx_ws_detached_copy.c */

ngx_int_t ngx_ws_detached_copy_str(ngx_pool_t *pool, ngx_str_t *to, ngx_str_t *from);
ngx_table_elt_t *ngx_ws_detached_copy_header(ngx_http_request_t *r, ngx_str_t *key, ngx_str_t *value, u_char *lowcase,
    ngx_uint_t hash);
ngx_int_t ngx_ws_detached_copy_line(ngx_http_request_t *r, ngx_http_request_t *from);
ngx_int_t ngx_ws_detached_copy_headers(ngx_http_request_t *r, ngx_http_request_t *from, ngx_str_t *hops,
    ngx_str_t *type, ngx_uint_t message);
ngx_int_t ngx_ws_detached_copy_variables(ngx_http_request_t *r, ngx_http_request_t *from);


/* the answer: ngx_ws_detached_answer.c */

ngx_int_t ngx_ws_detached_answered(ngx_http_request_t *sr, void *data, ngx_int_t rc);
void ngx_ws_detached_woken(ngx_http_request_t *r);
void ngx_ws_detached_cleanup(void *data);
ngx_int_t ngx_ws_detached_take(ngx_ws_detached_t *d, ngx_buf_t *b);


#endif /* _NGX_WS_DETACHED_H_INCLUDED_ */
