#!/bin/sh
# What a CGI program knows of its request, and the body on its standard input. Anybody can write anything into the request:
# a page of text is not interpreted by the browser.
printf 'Content-Type: text/plain; charset=utf-8\n'
printf 'Cache-Control: no-store\n\n'
printf '%s %s%s?%s of %s\n' "$REQUEST_METHOD" "$SCRIPT_NAME" "$PATH_INFO" "$QUERY_STRING" "$REMOTE_ADDR"
if [ -n "$CONTENT_LENGTH" ]; then
    printf '%s octets: ' "$CONTENT_LENGTH"
    cksum
fi
