/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Regular expressions; without PCRE there are none. In C: without PCRE nginx's headers have neither the types nor the functions.
 */

#include "ngx_ws_exec.h"


#if (NGX_PCRE)

/* err: room for a message, and then the message */

void *
ngx_ws_regex_compile(ngx_pool_t *pool, ngx_str_t *pattern, ngx_uint_t caseless, ngx_str_t *err)
{
    ngx_regex_compile_t  rc;

    ngx_memzero(&rc, sizeof(ngx_regex_compile_t));

    rc.pattern = *pattern;
    rc.pool = pool;
    rc.options = caseless ? NGX_REGEX_CASELESS : 0;
    rc.err = *err;

    if (ngx_regex_compile(&rc) != NGX_OK) {
        *err = rc.err;
        return NULL;
    }

    return rc.regex;
}


ngx_uint_t
ngx_ws_regex_matches(void *regex, ngx_str_t *subject)
{
    return ngx_regex_exec((ngx_regex_t *) regex, subject, NULL, 0) >= 0;
}

#else

void *
ngx_ws_regex_compile(ngx_pool_t *pool, ngx_str_t *pattern, ngx_uint_t caseless, ngx_str_t *err)
{
    ngx_str_set(err, "this nginx was built without regular expressions (PCRE)");

    return NULL;
}


ngx_uint_t
ngx_ws_regex_matches(void *regex, ngx_str_t *subject)
{
    return 0;
}

#endif
