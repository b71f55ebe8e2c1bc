// SPDX-License-Identifier: Apache-2.0

//! The console: a page to try an endpoint by hand (`websocket_console`).
//!
//! Its octets are constant and nothing of the request is in them. The policy that goes with them allows the page its own
//! style and script, told by their hashes, and connections to where it came from; nothing else.

use super::ffi;
use super::request::Request;
use super::status::Status;
use crate::session::endpoint::HttpStatus;

const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
     <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>WebSocket console</title>\n<style>",
    include_str!("console/console.css"),
    "</style>\n</head>\n<body>\n",
    include_str!("console/console.html"),
    "<script>",
    include_str!("console/console.js"),
    "</script>\n</body>\n</html>\n",
);

/// Content Security Policy Level 3; the hashes of the two files are written by scripts/console-hashes.sh.
const POLICY: &str = concat!(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; ",
    "style-src '",
    include_str!("console/console.css.hash"),
    "'; script-src '",
    include_str!("console/console.js.hash"),
    "'"
);

/// Sends the page; returns what the content handler returns.
pub fn send(request: Request<'_>) -> Status {
    let headers = [
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-cache"),
    ];
    if !headers.iter().all(|(name, value)| request.add_header(name, value.as_bytes())) {
        return Status::INTERNAL_SERVER_ERROR;
    }
    let page = ffi::ngx_str_t { len: PAGE.len(), data: PAGE.as_ptr().cast_mut() };
    request.respond(HttpStatus::OK, "text/html; charset=utf-8", page)
}
