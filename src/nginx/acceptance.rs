//! The answer to a request that becomes a WebSocket.

use super::ffi;
use super::request::Request;
use crate::ws::deflate;
use crate::ws::handshake::Accept;

/// What the 101 will say.
pub struct Acceptance {
    /// The answer to the client's key.
    pub accept: Accept,
    /// In the pool of the request.
    pub protocol: Option<&'static str>,
    /// What was agreed on about compression.
    pub deflate: Option<deflate::Agreed>,
}

impl Acceptance {
    /// Sends the 101 (RFC 6455, section 4.2.2). `false` when the connection is lost or there is no memory.
    pub fn answer(&self, request: Request) -> bool {
        let headers = request.add_header("Upgrade", b"websocket")
            && request.add_header("Sec-WebSocket-Accept", self.accept.as_ref())
            && self
                .deflate
                .is_none_or(|agreed| request.add_header("Sec-WebSocket-Extensions", agreed.to_string().as_bytes()))
            && self.protocol.is_none_or(|name| request.add_header("Sec-WebSocket-Protocol", name.as_bytes()));
        if !headers {
            return false;
        }
        // SAFETY: the request is alive and nothing was sent yet.
        unsafe {
            ffi::ngx_ws_response_101(request.raw());
            ffi::ngx_ws_request_upgraded(request.raw());
            let sent = ffi::ngx_http_send_header(request.raw());
            if sent == ffi::NGX_ERROR as isize || sent > ffi::NGX_OK as isize {
                return false;
            }
            ffi::ngx_http_send_special(request.raw(), ffi::NGX_HTTP_FLUSH as usize) != ffi::NGX_ERROR as isize
        }
    }
}
