/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the Rust side of the module sees of nginx: the headers, and a shim for everything in them that has no symbol
 * or no layout that bindgen could be trusted with (macros, inline functions, bit fields).
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


/* events: bit fields */

ngx_uint_t ngx_ws_event_ready(const ngx_event_t *ev);
void ngx_ws_event_set_ready(ngx_event_t *ev, ngx_uint_t ready);
ngx_uint_t ngx_ws_event_pending_eof(const ngx_event_t *ev);
ngx_uint_t ngx_ws_event_timedout(const ngx_event_t *ev);
void ngx_ws_event_clear_timedout(ngx_event_t *ev);
void ngx_ws_event_set_cancelable(ngx_event_t *ev);


/* events: inline functions and macros */

void ngx_ws_add_timer(ngx_event_t *ev, ngx_msec_t msec);
void ngx_ws_del_timer(ngx_event_t *ev);
void ngx_ws_post_event(ngx_event_t *ev);
void ngx_ws_post_next_event(ngx_event_t *ev);
void ngx_ws_delete_posted_event(ngx_event_t *ev);
ngx_int_t ngx_ws_add_level_read(ngx_event_t *ev);
ngx_int_t ngx_ws_del_read(ngx_event_t *ev);
ngx_int_t ngx_ws_add_edge_write(ngx_event_t *ev);
ngx_msec_t ngx_ws_current_msec(void);
uint64_t ngx_ws_unix_msec(void);


/* connections */

ssize_t ngx_ws_recv(ngx_connection_t *c, u_char *buf, size_t size);
ssize_t ngx_ws_send(ngx_connection_t *c, u_char *buf, size_t size);
ngx_uint_t ngx_ws_connection_close_requested(const ngx_connection_t *c);
void ngx_ws_connection_set_error(ngx_connection_t *c);
ngx_uint_t ngx_ws_connection_buffered(const ngx_connection_t *c);
ngx_uint_t ngx_ws_connection_is_ssl(const ngx_connection_t *c);
ngx_connection_t *ngx_ws_pipe_connection(ngx_fd_t fd, ngx_log_t *log);
void ngx_ws_close_pipe(ngx_connection_t *c);
ngx_int_t ngx_ws_connection_unwatch(ngx_connection_t *c);
ngx_int_t ngx_ws_tcp_nodelay(ngx_connection_t *c);


/* the connection that nginx calls when the worker has been told to go */

ngx_connection_t *ngx_ws_exit_watcher(ngx_cycle_t *cycle, ngx_event_handler_pt handler);
void ngx_ws_exit_watcher_close(ngx_connection_t *c);
ngx_uint_t ngx_ws_worker_exiting(void);
ngx_msec_t ngx_ws_shutdown_timeout(void);
ngx_uint_t ngx_ws_serves_requests(void);


/* requests */

ngx_uint_t ngx_ws_request_is_main(const ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_http_version(const ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_header_only(const ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_can_chunk(ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_has_body(const ngx_http_request_t *r);
ngx_str_t ngx_ws_request_authority(const ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_has_error_page(ngx_http_request_t *r, ngx_uint_t status);
void ngx_ws_request_upgraded(ngx_http_request_t *r);
void ngx_ws_request_set_lingering(ngx_http_request_t *r);
void ngx_ws_request_hold(ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_err_status(const ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_client_gone(ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_lingering(ngx_http_request_t *r, ngx_msec_t *total, ngx_msec_t *silence);
ngx_table_elt_t *ngx_ws_add_header_out(ngx_http_request_t *r);
ngx_int_t ngx_ws_register_header_out(ngx_http_request_t *r, ngx_table_elt_t *h);
ngx_int_t ngx_ws_response_text(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t type, ngx_str_t text);
void ngx_ws_response_101(ngx_http_request_t *r);
void ngx_ws_response_open(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t type, off_t length);
ngx_int_t ngx_ws_request_answer(ngx_http_request_t *r, ngx_int_t rc);
ngx_msec_t ngx_ws_request_age(const ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_status(const ngx_http_request_t *r);
void ngx_ws_response_empty(ngx_http_request_t *r, ngx_uint_t status);


/* requests that nginx has made of a client's: ngx_ws_subrequest.c */

ngx_uint_t ngx_ws_request_is_attended(const ngx_http_request_t *r);
ngx_uint_t ngx_ws_request_body_is_there(const ngx_http_request_t *r);
void ngx_ws_request_restore_method(ngx_http_request_t *r);


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
void ngx_ws_serve_once(void);
void ngx_ws_close_listening(void);


/* bodies */

ngx_uint_t ngx_ws_buf_in_file(const ngx_buf_t *b);
ssize_t ngx_ws_buf_read_file(const ngx_buf_t *b, u_char *data, size_t size);
void ngx_ws_body_buf(ngx_buf_t *b, u_char *data, size_t len, ngx_uint_t last, ngx_uint_t main);
ngx_int_t ngx_ws_body_send(ngx_http_request_t *r, ngx_buf_t **bufs, ngx_uint_t n, ngx_uint_t apart);
ngx_int_t ngx_ws_flush_head(ngx_http_request_t *r);
ngx_int_t ngx_ws_body_blocked(ngx_http_request_t *r);


/* a log without what follows a question mark: arguments may be secrets */

void ngx_ws_request_hide_arguments(ngx_http_request_t *r);


/* services: addresses, names, sockets */

ngx_int_t ngx_ws_parse_address(ngx_pool_t *pool, ngx_str_t *text, ngx_url_t *url);
ngx_int_t ngx_ws_resolve_now(ngx_pool_t *pool, ngx_str_t *text, ngx_uint_t port, ngx_url_t *url);
ngx_connection_t *ngx_ws_connect(struct sockaddr *address, socklen_t length, ngx_str_t *name, ngx_log_t *log,
    ngx_int_t *result);
ngx_uint_t ngx_ws_url_no_port(const ngx_url_t *url);
ngx_http_upstream_srv_conf_t *ngx_ws_upstream_add(ngx_conf_t *cf, ngx_str_t *text);
ngx_http_upstream_main_conf_t *ngx_ws_upstream_main_conf(ngx_http_request_t *r);
ngx_http_upstream_conf_t *ngx_ws_upstream_conf(void);
ngx_int_t ngx_ws_resolve_start(ngx_resolver_t *resolver, ngx_str_t *name, ngx_resolver_ctx_t **ctx);
ngx_uint_t ngx_ws_resolve_async(const ngx_resolver_ctx_t *ctx);
const char *ngx_ws_resolve_error(ngx_int_t state);
ngx_err_t ngx_ws_socket_error(ngx_connection_t *c);
size_t ngx_ws_socket_unsent(ngx_connection_t *c);
void ngx_ws_socket_shutdown_write(ngx_connection_t *c);
void ngx_ws_socket_reset(ngx_connection_t *c);
void ngx_ws_socket_keepalive(ngx_peer_connection_t *pc);


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
const char *ngx_ws_ssl_unverified(ngx_connection_t *c, ngx_str_t *name, ngx_uint_t is_address);
void ngx_ws_ssl_shutdown(ngx_connection_t *c);


/* regular expressions */

void *ngx_ws_regex_compile(ngx_pool_t *pool, ngx_str_t *pattern, ngx_uint_t caseless, ngx_str_t *err);
ngx_uint_t ngx_ws_regex_matches(void *regex, ngx_str_t *subject);


/* configuration */

void *ngx_ws_get_loc_conf(ngx_http_request_t *r, ngx_module_t *module);
ngx_http_core_loc_conf_t *ngx_ws_get_core_loc_conf(ngx_http_request_t *r);
ngx_http_core_loc_conf_t *ngx_ws_conf_core_loc_conf(ngx_conf_t *cf);
ngx_uint_t ngx_ws_location_is_block(const ngx_http_core_loc_conf_t *clcf);
ngx_uint_t ngx_ws_location_is_limit_except(const ngx_http_core_loc_conf_t *clcf);
ngx_uint_t ngx_ws_location_is_named(const ngx_http_core_loc_conf_t *clcf);
ngx_str_t *ngx_ws_conf_server_name(ngx_conf_t *cf);
ngx_str_t *ngx_ws_conf_server_address(ngx_conf_t *cf, ngx_uint_t n);
u_char ngx_ws_conf_location_kind(ngx_conf_t *cf);
ngx_int_t ngx_ws_conf_log_phase(ngx_conf_t *cf, ngx_http_handler_pt handler);
void *ngx_ws_cycle_main_conf(ngx_cycle_t *cycle, ngx_module_t *module);
ngx_core_conf_t *ngx_ws_core_conf(ngx_cycle_t *cycle);
void *ngx_ws_conf_loc_conf(ngx_conf_t *cf, ngx_module_t *module);
void *ngx_ws_conf_main_conf(ngx_conf_t *cf, ngx_module_t *module);
void ngx_ws_variable_flags(ngx_http_variable_t *v, uintptr_t data, ngx_http_get_variable_pt get);
void ngx_ws_variable_value(ngx_http_variable_value_t *v, u_char *data, size_t len, ngx_uint_t found);


/* logging: the level is checked by the caller's macro in C, so here too */

void ngx_ws_log(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const u_char *text, size_t len);
void ngx_ws_conf_log(ngx_uint_t level, ngx_conf_t *cf, const u_char *text, size_t len);
ngx_uint_t ngx_ws_log_enabled(ngx_uint_t level, const ngx_log_t *log);


/* shared memory */

void ngx_ws_zone_lock(ngx_shm_zone_t *zone);
void ngx_ws_zone_unlock(ngx_shm_zone_t *zone);


#endif /* _NGX_WS_EXEC_H_INCLUDED_ */
