// SPDX-License-Identifier: Apache-2.0

//! What nginx's functions and handlers return.

use super::ffi;
use crate::session::endpoint::HttpStatus;

/// nginx's `ngx_int_t` where it says how something went: a code of nginx's own, which is zero or negative, or the status of an answer
/// by HTTP, which is 100 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(ffi::ngx_int_t);

impl Status {
    pub const OK: Self = Self(ffi::NGX_OK as ffi::ngx_int_t);
    pub const ERROR: Self = Self(ffi::NGX_ERROR as ffi::ngx_int_t);
    pub const AGAIN: Self = Self(ffi::NGX_AGAIN as ffi::ngx_int_t);
    pub const BUSY: Self = Self(ffi::NGX_BUSY as ffi::ngx_int_t);
    pub const DONE: Self = Self(ffi::NGX_DONE as ffi::ngx_int_t);
    pub const DECLINED: Self = Self(ffi::NGX_DECLINED as ffi::ngx_int_t);

    pub const BAD_REQUEST: Self = Self::http(ffi::NGX_HTTP_BAD_REQUEST as u16);
    pub const FORBIDDEN: Self = Self::http(ffi::NGX_HTTP_FORBIDDEN as u16);
    pub const NOT_FOUND: Self = Self::http(ffi::NGX_HTTP_NOT_FOUND as u16);
    pub const NOT_ALLOWED: Self = Self::http(ffi::NGX_HTTP_NOT_ALLOWED as u16);
    pub const CONFLICT: Self = Self::http(ffi::NGX_HTTP_CONFLICT as u16);
    pub const REQUEST_ENTITY_TOO_LARGE: Self = Self::http(ffi::NGX_HTTP_REQUEST_ENTITY_TOO_LARGE as u16);
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self::http(ffi::NGX_HTTP_UNSUPPORTED_MEDIA_TYPE as u16);
    pub const CLIENT_CLOSED_REQUEST: Self = Self::http(ffi::NGX_HTTP_CLIENT_CLOSED_REQUEST as u16);
    pub const INTERNAL_SERVER_ERROR: Self = Self::http(ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as u16);
    pub const BAD_GATEWAY: Self = Self::http(ffi::NGX_HTTP_BAD_GATEWAY as u16);
    pub const SERVICE_UNAVAILABLE: Self = Self::http(ffi::NGX_HTTP_SERVICE_UNAVAILABLE as u16);
    pub const GATEWAY_TIME_OUT: Self = Self::http(ffi::NGX_HTTP_GATEWAY_TIME_OUT as u16);
    pub const INSUFFICIENT_STORAGE: Self = Self::http(ffi::NGX_HTTP_INSUFFICIENT_STORAGE as u16);
    /// The location has no transport of the kind that was asked for (RFC 9110, section 15.5.7; 406).
    pub const NOT_ACCEPTABLE: Self = Self::http(406);
    /// A hook was asked because of itself (RFC 5842, section 7.2; 508).
    pub const LOOP_DETECTED: Self = Self::http(508);

    /// A status of HTTP.
    pub const fn http(status: u16) -> Self {
        Self(status as ffi::ngx_int_t)
    }

    /// [`OK`](Self::OK), or [`ERROR`](Self::ERROR) for what has failed and was logged.
    pub const fn ok_if(succeeded: bool) -> Self {
        if succeeded { Self::OK } else { Self::ERROR }
    }

    /// What a function of nginx has returned.
    pub const fn of(returned: ffi::ngx_int_t) -> Self {
        Self(returned)
    }

    /// What a handler returns to nginx.
    pub const fn raw(self) -> ffi::ngx_int_t {
        self.0
    }

    /// The status of HTTP; `None` for a code of nginx's own.
    pub fn answer(self) -> Option<u16> {
        u16::try_from(self.0).ok().filter(|status| *status >= 100)
    }

    /// Whether nothing may follow the head of an answer that a filter said this of: it failed, or has another answer.
    pub const fn ends_answer(self) -> bool {
        self.0 == Self::ERROR.0 || self.0 > Self::OK.0
    }

    /// Whether nginx answers it with a page of its own, or with nothing at all: `NGX_HTTP_SPECIAL_RESPONSE` and above.
    pub const fn is_special_response(self) -> bool {
        self.0 >= ffi::NGX_HTTP_SPECIAL_RESPONSE as ffi::ngx_int_t
    }
}

impl From<HttpStatus> for Status {
    fn from(status: HttpStatus) -> Self {
        Self::http(status.0)
    }
}

/// What a function of nginx has returned can be compared without `Status::of`.
impl PartialEq<Status> for ffi::ngx_int_t {
    fn eq(&self, status: &Status) -> bool {
        *self == status.0
    }
}
