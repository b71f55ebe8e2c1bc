/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the Rust side of the module sees of nginx: the headers, and a shim for what only C can do. That is what nginx has as a macro
 * or an inline function, what takes a format with any number of arguments, and what differs between versions of nginx or between
 * configurations of one, so that the preprocessor has to decide. Fields and bit fields are read and written in Rust: the file "layout"
 * has those that are, and the module compares them with what C sees when it is loaded.
 */

#ifndef _NGX_WS_EXEC_H_INCLUDED_
#define _NGX_WS_EXEC_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>
#include <ngx_http.h>


/* constants that are macros with casts or string concatenations */

extern const char        ngx_ws_module_signature[];


/* the sizes and offsets this C was compiled with, compared with the bindings' when the module is loaded */

typedef struct {
    const char  *name;
    size_t       value;
} ngx_ws_layout_t;

extern const ngx_ws_layout_t  ngx_ws_layout[];
extern const size_t           ngx_ws_nlayout;


/* bit fields: the size of the struct, and a function that sets all bits of the field in one that is all zeroes */

typedef struct {
    const char  *name;
    size_t       size;
    void       (*set)(void *s, ngx_uint_t ones);
} ngx_ws_bits_t;

extern const ngx_ws_bits_t  ngx_ws_bits[];
extern const size_t         ngx_ws_nbits;


/* events */

void ngx_ws_add_timer(ngx_event_t *ev, ngx_msec_t msec);
void ngx_ws_del_timer(ngx_event_t *ev);
void ngx_ws_post_event(ngx_event_t *ev);
void ngx_ws_post_next_event(ngx_event_t *ev);
void ngx_ws_delete_posted_event(ngx_event_t *ev);
ngx_int_t ngx_ws_add_level_read(ngx_event_t *ev);
ngx_int_t ngx_ws_del_read(ngx_event_t *ev);
ngx_int_t ngx_ws_add_edge_write(ngx_event_t *ev);


/* connections */

ngx_uint_t ngx_ws_connection_is_ssl(const ngx_connection_t *c);
void ngx_ws_close_pipe(ngx_connection_t *c);
ngx_int_t ngx_ws_connection_unwatch(ngx_connection_t *c);
ngx_int_t ngx_ws_tcp_nodelay(ngx_connection_t *c);


/* requests */

ngx_str_t ngx_ws_request_authority(const ngx_http_request_t *r);
ngx_int_t ngx_ws_request_ignore_client(ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_client_gone(ngx_http_request_t *r, ngx_uint_t ahead);
ngx_int_t ngx_ws_register_header_out(ngx_http_request_t *r, ngx_table_elt_t *h);


/* the buffers with the head of a request: ngx_ws_headers.c */

void ngx_ws_headers_shrink(ngx_http_request_t *r, ngx_module_t *own);


/* requests that nginx has made of a client's: ngx_ws_subrequest.c */

ngx_uint_t ngx_ws_request_body_is_there(const ngx_http_request_t *r);
void ngx_ws_request_restore_method(ngx_http_request_t *r);


/* requests that a CGI program answers: ngx_ws_cgi.c */

typedef struct {
    ngx_chain_t  *link;
    off_t         done;
    ngx_uint_t    streamed;
} ngx_ws_body_reader_t;

ngx_int_t ngx_ws_request_read_body(ngx_http_request_t *r, ngx_http_client_body_handler_pt handler);
ngx_uint_t ngx_ws_request_is_internal(const ngx_http_request_t *r);
void ngx_ws_body_reader(ngx_http_request_t *r, ngx_ws_body_reader_t *reader);
off_t ngx_ws_body_length(const ngx_http_request_t *r, const ngx_ws_body_reader_t *reader);
ngx_int_t ngx_ws_body_read(ngx_http_request_t *r, ngx_ws_body_reader_t *reader, u_char *data, size_t size, size_t *count);
void ngx_ws_body_held_back(ngx_http_request_t *r);
void ngx_ws_body_used_up(ngx_http_request_t *r);
void ngx_ws_request_look_at_client(ngx_http_request_t *r);
void ngx_ws_response_status_line(ngx_http_request_t *r, ngx_str_t line);
ngx_int_t ngx_ws_response_pass(ngx_http_request_t *r, ngx_str_t name, ngx_str_t value);
ngx_int_t ngx_ws_local_redirect(ngx_http_request_t *r, ngx_str_t uri);


/* requests that are asked of a location without a client: ngx_ws_detached*.c */

typedef struct ngx_ws_detached_s  ngx_ws_detached_t;

typedef ngx_int_t (*ngx_ws_detached_take_pt)(void *data, ngx_uint_t status, const u_char *octets, size_t len);
typedef void (*ngx_ws_detached_event_pt)(void *data);

ngx_ws_detached_t *ngx_ws_detached_create(ngx_http_request_t *from, ngx_str_t *hops, ngx_str_t *type,
    ngx_uint_t message);
ngx_http_request_t *ngx_ws_detached_request(ngx_ws_detached_t *d);
ngx_int_t ngx_ws_detached_can_ask(ngx_http_request_t *from, ngx_str_t *text);
ngx_int_t ngx_ws_detached_target(ngx_ws_detached_t *d, ngx_str_t *uri);
ngx_int_t ngx_ws_detached_message(ngx_ws_detached_t *d, u_char *data, size_t len);
ngx_int_t ngx_ws_detached_on_free(ngx_ws_detached_t *d, ngx_pool_cleanup_pt handler, void *data);
void ngx_ws_detached_callbacks(ngx_ws_detached_t *d, ngx_ws_detached_take_pt take, ngx_ws_detached_event_pt done,
    ngx_ws_detached_event_pt leave, void *data);
void ngx_ws_detached_evaluate(ngx_ws_detached_t *d, ngx_connection_t *client, ngx_ws_detached_event_pt step, void *data);
void ngx_ws_detached_discard(ngx_ws_detached_t *d);
ngx_int_t ngx_ws_detached_start(ngx_ws_detached_t *d);
void ngx_ws_detached_abort(ngx_ws_detached_t *d, ngx_uint_t status);
ngx_uint_t ngx_ws_detached_status(const ngx_ws_detached_t *d);
ngx_str_t ngx_ws_detached_content_type(const ngx_ws_detached_t *d);
ngx_table_elt_t *ngx_ws_detached_www_authenticate(const ngx_ws_detached_t *d);
ngx_table_elt_t *ngx_ws_detached_next_header(const ngx_table_elt_t *h);
ngx_str_t ngx_ws_detached_retry_after(const ngx_ws_detached_t *d);
void ngx_ws_serve_once(void);
void ngx_ws_close_listening(void);


/* bodies */

ngx_int_t ngx_ws_body_send(ngx_http_request_t *r, ngx_buf_t **bufs, ngx_uint_t n, ngx_uint_t apart);
ngx_int_t ngx_ws_flush_head(ngx_http_request_t *r);


/* a log without what follows a question mark: arguments may be secrets */

void ngx_ws_request_hide_arguments(ngx_http_request_t *r);


/* services: addresses, names, sockets */

ngx_connection_t *ngx_ws_connect(struct sockaddr *address, socklen_t length, ngx_str_t *name, ngx_log_t *log,
    ngx_int_t *result, int *error);
ngx_http_upstream_conf_t *ngx_ws_upstream_conf(void);
ngx_int_t ngx_ws_resolve_start(ngx_resolver_t *resolver, ngx_str_t *name, ngx_resolver_ctx_t **ctx);


/* TLS to servers */

/* files, and ciphers; an empty one is none; versions: bits from TLS 1.0 on */

typedef struct {
    ngx_str_t   trusted;
    ngx_str_t   certificate;
    ngx_str_t   key;
    ngx_str_t   crl;
    ngx_str_t   ciphers;
    ngx_uint_t  versions;
} ngx_ws_ssl_parts_t;

ngx_ssl_t *ngx_ws_ssl_create(ngx_conf_t *cf, const char *directive, ngx_ws_ssl_parts_t *parts);
ngx_int_t ngx_ws_ssl_start(ngx_ssl_t *ssl, ngx_connection_t *c, ngx_str_t *name);
ngx_int_t ngx_ws_ssl_handshake(ngx_connection_t *c, void (*handler)(ngx_connection_t *c));
ngx_uint_t ngx_ws_ssl_handshaked(const ngx_connection_t *c);
void ngx_ws_ssl_end(ngx_connection_t *c);
ngx_uint_t ngx_ws_ssl_is_over(const ngx_connection_t *c);
void ngx_ws_ssl_free_buffer(ngx_connection_t *c);
const char *ngx_ws_ssl_unverified(ngx_connection_t *c, ngx_str_t *name, ngx_uint_t is_address);
void ngx_ws_ssl_shutdown(ngx_connection_t *c);


/* regular expressions */

void *ngx_ws_regex_compile(ngx_pool_t *pool, ngx_str_t *pattern, ngx_uint_t caseless, ngx_str_t *err);
ngx_uint_t ngx_ws_regex_matches(void *regex, ngx_str_t *subject);


/* configuration */

ngx_str_t *ngx_ws_conf_server_address(ngx_conf_t *cf, ngx_uint_t n);
u_char ngx_ws_conf_location_kind(ngx_conf_t *cf);


/* logging: nginx's functions take a format and what belongs to it */

void ngx_ws_log(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const u_char *text, size_t len);
void ngx_ws_conf_log(ngx_uint_t level, ngx_conf_t *cf, const u_char *text, size_t len);


#endif /* _NGX_WS_EXEC_H_INCLUDED_ */
