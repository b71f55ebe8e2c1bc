/* SPDX-License-Identifier: Apache-2.0 */

/*
 * TLS to a server; without nginx's SSL module there is none. In C: without it nginx's headers have neither the types nor the functions, and
 * much of OpenSSL is macros, and differs between its versions.
 */

#include "ngx_ws_exec.h"


#if (NGX_HTTP_SSL)

/* each of the files may be empty; a certificate is there with its key */

ngx_ssl_t *
ngx_ws_ssl_create(ngx_conf_t *cf, const char *directive, ngx_ws_ssl_parts_t *parts)
{
    ngx_uint_t           i, protocols;
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    static ngx_uint_t  bits[] = { NGX_SSL_TLSv1, NGX_SSL_TLSv1_1, NGX_SSL_TLSv1_2, NGX_SSL_TLSv1_3 };

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NULL;
    }

    ssl->log = cf->log;

    protocols = 0;

    for (i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        if (parts->versions & ((ngx_uint_t) 1 << i)) {
            protocols |= bits[i];
        }
    }

    if (ngx_ssl_create(ssl, protocols, NULL) != NGX_OK) {
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

    if (parts->ciphers.len && ngx_ssl_ciphers(cf, ssl, &parts->ciphers, 0) != NGX_OK) {
        return NULL;
    }

    if (parts->trusted.len && ngx_ssl_trusted_certificate(cf, ssl, &parts->trusted, 100) != NGX_OK) {
        return NULL;
    }

    if (parts->crl.len && ngx_ssl_crl(cf, ssl, &parts->crl) != NGX_OK) {
        return NULL;
    }

    if (parts->certificate.len && ngx_ssl_certificate(cf, ssl, &parts->certificate, &parts->key, NULL) != NGX_OK) {
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


/* for whoever is called for other reasons too: the handler says that it was called, and then the handshake is over */

void
ngx_ws_ssl_end(ngx_connection_t *c)
{
    if (c->ssl) {
        c->ssl->handler = NULL;
    }
}


ngx_uint_t
ngx_ws_ssl_is_over(const ngx_connection_t *c)
{
    return c->ssl == NULL || c->ssl->handler == NULL;
}


/* gives back what chains were gathered in: nothing is in it, and this connection is written without from now on */

void
ngx_ws_ssl_free_buffer(ngx_connection_t *c)
{
    if (c->ssl) {
        ngx_ssl_free_buffer(c);
    }
}


/*
 * whether the certificate is one for an address, ended by a NUL: nginx compares names only, and an address in a certificate is no name
 * (RFC 6125, section 1.7.2)
 */

static ngx_int_t
ngx_ws_ssl_check_address(ngx_connection_t *c, ngx_str_t *address)
{
    int    rc;
    X509  *certificate;

    certificate = SSL_get_peer_certificate(c->ssl->connection);
    if (certificate == NULL) {
        return NGX_DECLINED;
    }

#ifdef X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT
    rc = X509_check_ip_asc(certificate, (char *) address->data, 0);
#else
    rc = 0;
#endif

    X509_free(certificate);

    return rc == 1 ? NGX_OK : NGX_DECLINED;
}


/*
 * why the certificate of the other side is not to be trusted, NULL if it is; the name is ended by a NUL, and an address has no brackets
 */

const char *
ngx_ws_ssl_unverified(ngx_connection_t *c, ngx_str_t *name, ngx_uint_t is_address)
{
    long  rc;

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        return X509_verify_cert_error_string(rc);
    }

    if (is_address && ngx_ws_ssl_check_address(c, name) == NGX_OK) {
        return NULL;
    }

    /* names of old certificates are compared as texts, addresses among them */

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
ngx_ws_ssl_create(ngx_conf_t *cf, const char *directive, ngx_ws_ssl_parts_t *parts)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%s\" directive: this nginx was built without TLS", directive);

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


void
ngx_ws_ssl_end(ngx_connection_t *c)
{
}


ngx_uint_t
ngx_ws_ssl_is_over(const ngx_connection_t *c)
{
    return 1;
}


void
ngx_ws_ssl_free_buffer(ngx_connection_t *c)
{
}


const char *
ngx_ws_ssl_unverified(ngx_connection_t *c, ngx_str_t *name, ngx_uint_t is_address)
{
    return "this nginx was built without TLS";
}


void
ngx_ws_ssl_shutdown(ngx_connection_t *c)
{
}

#endif
