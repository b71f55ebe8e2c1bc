// SPDX-License-Identifier: Apache-2.0

//! Answers of nginx to a request: their status, their head, and bodies that are there at once.

use std::ptr;
use std::slice;

use super::conf_ctx;
use super::ffi;
use super::request::{Request, bytes};
use super::status::Status;
use crate::session::endpoint::HttpStatus;
use crate::ws::field;

/// What a head says of a length that is not known.
const UNKNOWN_LENGTH: ffi::off_t = -1;

/// Why nothing may follow a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// The connection is lost, or nginx has no memory.
    Lost,
    /// A filter of nginx has this answer instead.
    Replaced(HttpStatus),
}

/// Whether an answer with this status can have a body, and so a length.
pub fn has_body(status: u16) -> bool {
    !matches!(u32::from(status), ffi::NGX_HTTP_NO_CONTENT | ffi::NGX_HTTP_NOT_MODIFIED)
}

impl Request<'_> {
    /// Sends the head of an answer. Whether a body is to follow: not to HEAD, for one.
    pub fn send_head(self) -> Result<bool, NotSent> {
        // SAFETY: a request is alive as long as it is called so: Request::new() was promised that.
        let (sent, is_all) = unsafe {
            let sent = Status::of(ffi::ngx_http_send_header(self.raw()));
            // Of a subrequest nothing is sent, and nginx does not look at the status. It may be another one than was asked for:
            // that of the refusal that this is the error page of.
            let status = u16::try_from((*self.raw()).headers_out.status).unwrap_or_default();
            (sent, (*self.raw()).header_only() != 0 || !has_body(status))
        };
        match sent.ends_answer() {
            true => Err(sent.answer().map_or(NotSent::Lost, |status| NotSent::Replaced(HttpStatus(status)))),
            false => Ok(!is_all),
        }
    }

    /// The answer is to be a 101, after which the connection carries frames and never goes back to HTTP.
    pub fn switch_protocols(self) {
        const LINE: &[u8] = b"101 Switching Protocols";
        // SAFETY: the request is alive, and so is its connection with its log; the texts are static, and nginx only reads them.
        unsafe {
            let request = self.raw();
            let head = &mut (*request).headers_out;
            head.status = ffi::NGX_HTTP_SWITCHING_PROTOCOLS as usize;
            head.status_line = ffi::ngx_str_t { len: LINE.len(), data: LINE.as_ptr().cast_mut() };
            head.content_length_n = UNKNOWN_LENGTH;
            head.content_type.len = 0;
            head.last_modified_time = -1;
            (*request).set_keepalive(0);
            (*request).set_allow_ranges(0);
            // As the error page of a refusal the request has a status that would be sent in place of this one.
            (*request).err_status = 0;
            (*self.log()).action = c"serving a WebSocket".as_ptr().cast_mut();
        }
    }

    /// The answer is to have this status and a body, whose length is negative where it is not known. The text is in the request's pool.
    /// Validators are this module's own business.
    pub fn open_answer(self, status: u16, content_type: ffi::ngx_str_t, length: i64) {
        // SAFETY: a request is alive as long as it is called so: Request::new() was promised that.
        unsafe {
            let request = self.raw();
            (*request).headers_out.status = status.into();
            (*request).headers_out.content_length_n = length;
            (*request).headers_out.last_modified_time = -1;
            (*request).set_disable_not_modified(1);
            (*request).set_allow_ranges(0);
        }
        self.set_content_type(content_type);
    }

    /// The answer is to have this status and no body.
    pub fn empty_answer(self, status: u16) {
        // SAFETY: a request is alive as long as it is called so: Request::new() was promised that.
        unsafe {
            let request = self.raw();
            (*request).headers_out.status = status.into();
            (*request).headers_out.content_length_n = if has_body(status) { 0 } else { UNKNOWN_LENGTH };
            (*request).headers_out.last_modified_time = -1;
            (*request).set_disable_not_modified(1);
            (*request).set_header_only(1);
        }
    }

    /// As nginx's upstream does with a type that it passes on: filters that are for certain types compare what is before the charset,
    /// and the charset is a field of its own, which "charset" converts from.
    fn set_content_type(self, content_type: ffi::ngx_str_t) {
        // SAFETY: the text lives as long as the request, which is alive.
        unsafe {
            let octets = bytes(&content_type);
            let (len, charset) = field::split_charset(octets);
            let head = &mut (*self.raw()).headers_out;
            head.content_type = content_type;
            head.content_type_len = len;
            head.content_type_lowcase = ptr::null_mut();
            head.charset = match charset {
                [] => ffi::ngx_str_t { len: 0, data: ptr::null_mut() },
                charset => ffi::ngx_str_t { len: charset.len(), data: charset.as_ptr().cast_mut() },
            };
        }
    }

    /// Sends a whole body, which lives until the request's pool goes.
    pub fn send_body(self, text: ffi::ngx_str_t) -> Status {
        let request = self.raw();
        // SAFETY: the request is alive; the buffer is in its pool, and nginx takes the link over before the call returns.
        unsafe {
            let buffer = ffi::ngx_pcalloc((*request).pool, size_of::<ffi::ngx_buf_t>()).cast::<ffi::ngx_buf_t>();
            if buffer.is_null() {
                return Status::ERROR;
            }
            let (has_text, is_main) = (text.len > 0, self.is_main());
            (*buffer).pos = text.data;
            (*buffer).last = text.data.add(text.len);
            (*buffer).set_memory(has_text.into());
            (*buffer).set_last_buf(is_main.into());
            (*buffer).set_last_in_chain(1);
            (*buffer).set_sync((!is_main && !has_text).into());
            let mut link = ffi::ngx_chain_t { buf: buffer, next: ptr::null_mut() };
            Status::of(ffi::ngx_http_output_filter(request, &raw mut link))
        }
    }

    /// Sends a whole answer, as `ngx_http_send_response` does; returns what the content handler returns. A body of the request is
    /// dropped. The texts are static or in the request's pool.
    ///
    /// What other methods than GET and HEAD have asked for is done by now, so that nginx must not compare the conditions of the request
    /// with this answer (RFC 9110, section 13.2.1) and say 412 or 304 of it.
    pub fn send_answer(self, status: u16, content_type: ffi::ngx_str_t, text: ffi::ngx_str_t) -> Status {
        if let Err(status) = self.drop_body() {
            return status;
        }
        let request = self.raw();
        // SAFETY: the request is alive, and nothing was sent yet.
        unsafe {
            (*request).headers_out.status = status.into();
            (*request).headers_out.content_length_n = text.len as ffi::off_t;
            if !matches!(self.method(), b"GET" | b"HEAD") {
                (*request).set_disable_not_modified(1);
            }
            self.set_content_type(content_type);
            let sent = Status::of(ffi::ngx_http_send_header(request));
            if sent.ends_answer() || (*request).header_only() != 0 {
                return sent;
            }
        }
        self.send_body(text)
    }

    /// Whether the configuration has a page of its own for a status that is about to be answered: whether
    /// `ngx_http_special_response_handler` would go to an `error_page`.
    pub fn has_error_page(self, status: u16) -> bool {
        let own = ffi::ngx_int_t::try_from(status).unwrap_or_default();
        // SAFETY: the request is alive, and its location has an array of error pages or none.
        unsafe {
            let request = self.raw();
            let Some(pages) = (*self.core_location()).error_pages.as_ref() else { return false };
            if (*request).error_page() != 0 || (*request).uri_changes() == 0 || pages.nelts == 0 {
                return false;
            }
            let pages = slice::from_raw_parts(pages.elts.cast::<ffi::ngx_http_err_page_t>(), pages.nelts);
            pages.iter().any(|page| page.status == own)
        }
    }

    /// What the request is to be finalized with so that its client gets this status. By some statuses nginx means that a connection is
    /// to be closed without an answer, or answers another one: these are answered here, unless there is an `error_page` for them. The
    /// request may have been redirected afterwards, so that whoever held it must have let go of it.
    pub fn answer(self, status: Status) -> Status {
        const OF_NGINX: [u32; 7] = [
            ffi::NGX_HTTP_REQUEST_TIME_OUT,
            ffi::NGX_HTTP_CLOSE,
            ffi::NGX_HTTP_REQUEST_HEADER_TOO_LARGE,
            ffi::NGX_HTTPS_CERT_ERROR,
            ffi::NGX_HTTPS_NO_CERT,
            ffi::NGX_HTTP_TO_HTTPS,
            ffi::NGX_HTTP_CLIENT_CLOSED_REQUEST,
        ];
        let Some(own) = status.answer().filter(|&own| OF_NGINX.contains(&own.into())) else { return status };
        // SAFETY: a request is alive as long as it is called so: Request::new() was promised that.
        unsafe {
            if self.has_error_page(own) {
                return Status::of(ffi::ngx_http_special_response_handler(self.raw(), status.raw()));
            }
            self.empty_answer(own);
            Status::of(ffi::ngx_http_send_header(self.raw()))
        }
    }

    /// nginx's own settings of its location.
    pub fn core_location(self) -> *mut ffi::ngx_http_core_loc_conf_t {
        // SAFETY: every request has a core location configuration.
        unsafe { conf_ctx::location_of_request(self.raw(), &raw const ffi::ngx_http_core_module).cast() }
    }
}
