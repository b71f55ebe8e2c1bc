/* SPDX-License-Identifier: Apache-2.0 */

/*
 * TLS to a service; without nginx's SSL module there is none.
 */

#include "ngx_ws_exec.h"


#if (NGX_HTTP_SSL)

ngx_ssl_t *
ngx_ws_ssl_create(ngx_conf_t *cf, ngx_str_t *trusted)
{
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NULL;
    }

    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(ssl);
        return NULL;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    /* the depth is OpenSSL's own */

    if (trusted->len && ngx_ssl_trusted_certificate(cf, ssl, trusted, 100) != NGX_OK) {
        return NULL;
    }

    return ssl;
}


/* name: empty, or the one to ask for, ended by a NUL that is not counted */

ngx_int_t
ngx_ws_ssl_start(ngx_ssl_t *ssl, ngx_connection_t *c, ngx_str_t *name)
{
    if (c->pool == NULL) {
        c->pool = ngx_create_pool(128, c->log);
        if (c->pool == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_ssl_create_connection(ssl, c, NGX_SSL_CLIENT) != NGX_OK) {
        return NGX_ERROR;
    }

#ifdef SSL_CTRL_SET_TLSEXT_HOSTNAME

    if (name->len && SSL_set_tlsext_host_name(c->ssl->connection, (char *) name->data) == 0) {
        ngx_ssl_error(NGX_LOG_ERR, c->log, 0, "SSL_set_tlsext_host_name(\"%V\") failed", name);
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


ngx_int_t
ngx_ws_ssl_handshake(ngx_connection_t *c, void (*handler)(ngx_connection_t *c))
{
    ngx_int_t  rc;

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = handler;
    }

    return rc;
}


ngx_uint_t
ngx_ws_ssl_handshaked(const ngx_connection_t *c)
{
    return c->ssl && c->ssl->handshaked;
}


/* why the certificate of the other side is not to be trusted, NULL if it is */

const char *
ngx_ws_ssl_unverified(ngx_connection_t *c, ngx_str_t *name)
{
    long  rc;

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        return X509_verify_cert_error_string(rc);
    }

    if (ngx_ssl_check_host(c, name) != NGX_OK) {
        return "it is for another name";
    }

    return NULL;
}


/* tells the other side, and does not wait for what it says */

void
ngx_ws_ssl_shutdown(ngx_connection_t *c)
{
    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        (void) ngx_ssl_shutdown(c);
    }
}

#else

ngx_ssl_t *
ngx_ws_ssl_create(ngx_conf_t *cf, ngx_str_t *trusted)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"websocket_tcp_ssl\" directive: this nginx was built without TLS");

    return NULL;
}


ngx_int_t
ngx_ws_ssl_start(ngx_ssl_t *ssl, ngx_connection_t *c, ngx_str_t *name)
{
    return NGX_ERROR;
}


ngx_int_t
ngx_ws_ssl_handshake(ngx_connection_t *c, void (*handler)(ngx_connection_t *c))
{
    return NGX_ERROR;
}


ngx_uint_t
ngx_ws_ssl_handshaked(const ngx_connection_t *c)
{
    return 0;
}


const char *
ngx_ws_ssl_unverified(ngx_connection_t *c, ngx_str_t *name)
{
    return "this nginx was built without TLS";
}


void
ngx_ws_ssl_shutdown(ngx_connection_t *c)
{
}

#endif
