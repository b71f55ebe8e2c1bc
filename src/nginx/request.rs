// SPDX-License-Identifier: Apache-2.0

//! The request that a session belongs to.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use super::address;
use super::conf_ctx;
use super::ffi;
use super::log::{self, Level};
use super::session::context::Context;
use super::status::Status;
use super::template::NginxCompiler;
use super::timer;
use crate::conf::Settings;
use crate::session::endpoint::HttpStatus;

/// The octets of a string of nginx.
///
/// # Safety
///
/// The octets stay where they are, and are not written to, as long as the result is used: those of a configuration as long as
/// it lives, those of a request until it is freed.
pub unsafe fn bytes<'a>(text: &ffi::ngx_str_t) -> &'a [u8] {
    if text.data.is_null() || text.len == 0 {
        return &[];
    }
    // SAFETY: nginx keeps data and len of a string consistent; the caller sees to the rest.
    unsafe { slice::from_raw_parts(text.data, text.len) }
}

/// A copy of a text in a pool; `None` when there is no memory.
///
/// # Safety
///
/// The pool is alive.
pub unsafe fn copy_to(pool: *mut ffi::ngx_pool_t, text: &[u8]) -> Option<ffi::ngx_str_t> {
    // SAFETY: the caller sees to the pool; the allocation has room for the text.
    unsafe {
        let data = ffi::ngx_pnalloc(pool, text.len().max(1)).cast::<u8>();
        if data.is_null() {
            return None;
        }
        ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
        Some(ffi::ngx_str_t { len: text.len(), data })
    }
}

/// A live request. Copies are made freely; what is got from one of them lives no longer than `'r`.
///
/// Invariant: the request is not freed during `'r`.
#[derive(Clone, Copy)]
pub struct Request<'r>(*mut ffi::ngx_http_request_t, PhantomData<&'r ffi::ngx_http_request_t>);

/// A request in the memory of whoever holds it beyond the handler that nginx has called, or of what belongs to the holder: a
/// session, its endpoint, a subscriber, a caller that waits.
///
/// Invariant: the holder is told to let go ([`super::hold`]) before the request is freed, and whoever has this belongs to the
/// holder, or to the request itself.
pub struct HeldRequest(Request<'static>);

impl HeldRequest {
    /// The request, as long as this is borrowed.
    pub fn get(&self) -> Request<'_> {
        self.0
    }
}

impl<'r> Request<'r> {
    /// Wraps what nginx passed to a handler.
    ///
    /// # Safety
    ///
    /// The request outlives `'r`, in which all of the wrapper's copies are used and whatever is got from them.
    pub unsafe fn new(request: *mut ffi::ngx_http_request_t) -> Self {
        Request(request, PhantomData)
    }

    /// The request for somebody who keeps it beyond the handler.
    ///
    /// # Safety
    ///
    /// Whoever keeps the result holds the request, or belongs to whoever does or to the request: it is not used any more when the
    /// request is freed.
    pub unsafe fn held(self) -> HeldRequest {
        HeldRequest(Request(self.0, PhantomData))
    }

    /// The request itself, for nginx's functions.
    pub fn raw(self) -> *mut ffi::ngx_http_request_t {
        self.0
    }

    /// Its fields.
    fn fields(self) -> &'r ffi::ngx_http_request_t {
        // SAFETY: the promise of new(); no reference is kept over a call that changes the request.
        unsafe { &*self.0 }
    }

    /// The octets of a string that belongs to the request, its connection or its configuration.
    ///
    /// # Safety
    ///
    /// They are in the memory of one of these, and are not written to any more.
    unsafe fn octets(self, text: &ffi::ngx_str_t) -> &'r [u8] {
        // SAFETY: the caller names memory that lives as long as the request, which outlives 'r.
        unsafe { bytes(text) }
    }

    /// Its client connection.
    pub fn connection(self) -> *mut ffi::ngx_connection_t {
        self.fields().connection
    }

    /// The log that names client and request.
    pub fn log(self) -> *mut ffi::ngx_log_t {
        // SAFETY: a request has a connection, a connection has a log.
        unsafe { (*self.connection()).log }
    }

    /// Writes a line to that log.
    pub fn report(self, level: Level, text: std::fmt::Arguments<'_>) {
        log::write(self.log(), level, text);
    }

    /// Whether the error log is to tell of files that are not there, as `log_not_found` says.
    pub fn logs_not_found(self) -> bool {
        // SAFETY: a request is alive as long as it is called so: new() was promised that; its location's settings live as long as nginx
        // serves it.
        unsafe { (*self.core_location()).log_not_found != 0 }
    }

    /// Leaves the arguments, which may be secrets, out of the error log from now on.
    pub fn hide_arguments(self) {
        // SAFETY: a request is alive as long as it is called so: new() was promised that.
        unsafe { ffi::ngx_ws_request_hide_arguments(self.0) };
    }

    /// Keeps no more memory for its head than that has octets: a connection that never goes back to HTTP needs no room for more.
    /// Whatever was unread of the buffer has been taken.
    pub fn shrink_head(self) {
        // SAFETY: the request is alive. Its session calls when it opens: what was read of the head was copied for it, and the content
        // handler, which may be on the stack, looks at none of it afterwards.
        unsafe { ffi::ngx_ws_headers_shrink(self.0, address::of_module()) };
    }

    /// The settings of its location.
    pub fn settings(self) -> &'r Settings<NginxCompiler> {
        // SAFETY: create_loc_conf made the settings of every location; they live as long as the cycle, and the cycle as
        // long as its requests.
        unsafe { &*conf_ctx::location_of_request(self.0, address::of_module()).cast::<Settings<NginxCompiler>>() }
    }

    /// The method's name.
    pub fn method(self) -> &'r [u8] {
        // SAFETY: the text is in the memory of the request's connection or pool.
        unsafe { self.octets(&self.fields().method_name) }
    }

    /// 1.0 is 1000, 2 is 2000, as nginx counts.
    pub fn http_version(self) -> usize {
        self.fields().http_version
    }

    /// Whether the response can be sent in chunks (RFC 9112, section 7.1): HTTP/2 and HTTP/3 have frames of their own, and the
    /// directive `chunked_transfer_encoding` may be off.
    pub fn can_chunk(self) -> bool {
        // SAFETY: the settings of the location live as long as the request.
        let is_on = unsafe { (*self.core_location()).chunked_transfer_encoding != 0 };
        self.http_version() == ffi::NGX_HTTP_VERSION_11 as usize && is_on
    }

    /// Whether a body was announced.
    pub fn has_body(self) -> bool {
        let head = &self.fields().headers_in;
        head.content_length_n > 0 || head.chunked() != 0
    }

    /// Whether it is the client's own request and not a subrequest.
    pub fn is_main(self) -> bool {
        ptr::eq(self.0, self.fields().main)
    }

    /// Whether a client waits for just this response, and its connection may be kept for it. A subrequest is part of another response
    /// or of none, and `post_action` goes on when its client has been answered or has gone.
    pub fn is_attended(self) -> bool {
        self.is_main() && self.fields().post_action() == 0
    }

    /// Whether the body that was announced, if one was, can be had.
    pub fn body_is_there(self) -> bool {
        // SAFETY: a request is alive as long as it is called so: new() was promised that.
        unsafe { ffi::ngx_ws_request_body_is_there(self.0) != 0 }
    }

    /// Drops the body of a request that has none by its method. What is not there yet is dropped as it comes, once nobody holds the
    /// request any more.
    ///
    /// # Errors
    ///
    /// The status to answer: 400 if what is there is no body.
    pub fn drop_body(self) -> Result<(), Status> {
        // SAFETY: a request is alive as long as it is called so: new() was promised that.
        match Status::of(unsafe { ffi::ngx_http_discard_request_body(self.0) }) {
            Status::OK => Ok(()),
            status => Err(status),
        }
    }

    /// Gives a request back the method that its client has sent, where `X-Accel-Redirect` has made a GET of it.
    pub fn restore_method(self) {
        // SAFETY: the request lives; the name of the method is then a part of its request line.
        unsafe { ffi::ngx_ws_request_restore_method(self.0) };
    }

    /// The status that an error page (`error_page` without `=`) is to be sent with.
    pub fn error_status(self) -> Option<HttpStatus> {
        u16::try_from(self.fields().err_status).ok().filter(|status| *status != 0).map(HttpStatus)
    }

    /// The client's own request.
    pub fn main(self) -> Self {
        Request(self.fields().main, PhantomData)
    }

    /// Path without arguments, decoded and normalised.
    pub fn uri(self) -> &'r [u8] {
        // SAFETY: the text is in the memory of the request's connection or pool.
        unsafe { self.octets(&self.fields().uri) }
    }

    /// Path and arguments as the client sent them.
    pub fn unparsed_uri(self) -> &'r [u8] {
        // SAFETY: the text is in the memory of the request's connection or pool.
        unsafe { self.octets(&self.fields().unparsed_uri) }
    }

    /// What follows the question mark.
    pub fn arguments(self) -> &'r [u8] {
        // SAFETY: the text is in the memory of the request's connection or pool.
        unsafe { self.octets(&self.fields().args) }
    }

    /// `HTTP/1.1`
    pub fn protocol(self) -> &'r [u8] {
        // SAFETY: the text is in the memory of the request's connection or pool.
        unsafe { self.octets(&self.fields().http_protocol) }
    }

    /// The host that was asked for, without port, in lower case.
    pub fn host(self) -> &'r [u8] {
        // SAFETY: the text is in the memory of the request's connection or pool.
        unsafe { self.octets(&self.fields().headers_in.server) }
    }

    /// The host that was asked for, as the client sent it, with the port if it named one.
    pub fn authority(self) -> &'r [u8] {
        // SAFETY: the request lives, and so does what the client sent.
        unsafe { self.octets(&ffi::ngx_ws_request_authority(self.0)) }
    }

    /// The name of the location, as written.
    pub fn location(self) -> &'r [u8] {
        // SAFETY: every request has a core location configuration, which outlives it.
        unsafe { self.octets(&(*self.core_location()).name) }
    }

    /// The client's address in text form.
    pub fn remote_address(self) -> &'r [u8] {
        // SAFETY: a request has a connection, whose text is in its pool.
        unsafe { self.octets(&(*self.connection()).addr_text) }
    }

    /// The name that was found in `Authorization: Basic`, empty if nobody has looked for one yet. It proves nothing.
    pub fn claimed_user(self) -> &'r [u8] {
        // SAFETY: the text is null or in the request's pool.
        unsafe { self.octets(&self.fields().headers_in.user) }
    }

    /// Header names and values as the client sent them.
    pub fn headers(self) -> Headers<'r> {
        Headers::new(&self.fields().headers_in.headers)
    }

    /// The first header of this name, which is in lower case.
    pub fn header(self, name: &[u8]) -> Option<&'r [u8]> {
        self.headers().find(|(present, _)| present.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of a variable of nginx by its name in lower case; empty when it has none.
    pub fn variable(self, name: &'static [u8]) -> &'r [u8] {
        let mut text = ffi::ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        // SAFETY: the name is in lower case already, so that hashing does not write to it; the value is in the request's pool.
        unsafe {
            let key = ffi::ngx_hash_key(text.data, text.len);
            let value = ffi::ngx_http_get_variable(self.0, &raw mut text, key);
            if value.is_null() || (*value).not_found() != 0 || (*value).len() == 0 {
                return &[];
            }
            slice::from_raw_parts((*value).data, (*value).len() as usize)
        }
    }

    /// Adds a header to the response; the value is copied. `false` when there is no memory.
    pub fn add_header(self, name: &'static str, value: &[u8]) -> bool {
        // SAFETY: list and copy are in the request's pool; the name is static and nginx only reads it.
        unsafe {
            let Some(copy) = self.copy(value) else { return false };
            let header = ffi::ngx_list_push(&raw mut (*self.0).headers_out.headers).cast::<ffi::ngx_table_elt_t>();
            if header.is_null() {
                return false;
            }
            // The field "next", which nginx 1.23 and later have, is to be null.
            header.write_bytes(0, 1);
            (*header).hash = 1;
            (*header).key = ffi::ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
            (*header).value = copy;
            ffi::ngx_ws_register_header_out(self.0, header) == Status::OK
        }
    }

    /// Sends a whole answer; returns what the content handler returns. A body of the request is dropped.
    pub fn respond(self, HttpStatus(status): HttpStatus, content_type: &'static str, text: ffi::ngx_str_t) -> Status {
        let content_type = ffi::ngx_str_t { len: content_type.len(), data: content_type.as_ptr().cast_mut() };
        self.send_answer(status, content_type, text)
    }

    /// Keeps the request beyond the content handler, which returns `NGX_DONE`: whoever finalizes it gives this reference back.
    pub fn hold(self) {
        // SAFETY: the request lives, and so does the client's own.
        unsafe {
            let main = self.main().0;
            (*main).set_count((*main).count() + 1);
        }
    }

    /// A copy in the request's pool.
    pub fn copy(self, text: &[u8]) -> Option<ffi::ngx_str_t> {
        // SAFETY: the request lives, and its pool with it.
        unsafe { copy_to(self.fields().pool, text) }
    }

    /// Whether the request came by TLS.
    pub fn is_tls(self) -> bool {
        // SAFETY: a request is alive as long as it is called so, and has a connection all the time.
        unsafe { ffi::ngx_ws_connection_is_ssl(self.connection()) != 0 }
    }

    /// Milliseconds since its first octets were read, by the clock of the current turn.
    pub fn age(self) -> u64 {
        let begun = timer::unix_of(self.fields().start_sec, self.fields().start_msec);
        timer::unix().saturating_sub(begun)
    }

    /// The status of its answer; 0 if there was none.
    pub fn answered(self) -> Status {
        let fields = self.fields();
        let status = if fields.err_status == 0 { fields.headers_out.status } else { fields.err_status };
        Status::of(status as ffi::ngx_int_t)
    }

    /// What this module keeps for the request, made at the first call. `None` when there is no memory.
    pub fn context(self) -> Option<&'r Context> {
        // SAFETY: the slot is this module's; the context is written before the pointer is, and lives in the pool, which it may
        // allocate from therefore. Nobody ever has a mutable reference to it.
        unsafe {
            let slot = self.fields().ctx.add((*address::of_module()).ctx_index);
            if (*slot).is_null() {
                let pool = NonNull::new(self.fields().pool)?;
                let context = ffi::ngx_palloc(pool.as_ptr(), size_of::<Context>()).cast::<Context>();
                if context.is_null() {
                    return None;
                }
                context.write(Context::new(pool));
                *slot = context.cast();
            }
            Some(&*(*slot).cast::<Context>())
        }
    }

    /// What this module keeps for the request, if it was made.
    pub fn existing_context(self) -> Option<&'r Context> {
        // SAFETY: nginx has made the array of contexts with the request, which is alive. This module's place in it is null, or has what
        // context() has put there.
        unsafe {
            let slot = self.fields().ctx.add((*address::of_module()).ctx_index);
            (*slot).cast::<Context>().as_ref()
        }
    }
}

/// Answers that the location is busy; `Retry-After` in seconds.
pub fn try_again(request: Request<'_>) -> Status {
    request.add_header("Retry-After", b"5");
    Status::SERVICE_UNAVAILABLE
}

/// The parts of a list of headers.
pub struct Headers<'r> {
    part: *const ffi::ngx_list_part_t,
    place: usize,
    request: PhantomData<Request<'r>>,
}

impl<'r> Headers<'r> {
    fn new(list: &'r ffi::ngx_list_t) -> Self {
        Headers { part: &raw const list.part, place: 0, request: PhantomData }
    }
}

impl<'r> Iterator for Headers<'r> {
    type Item = (&'r [u8], &'r [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the parts of a list are linked until a null pointer, and live as long as the request.
        while let Some(part) = unsafe { self.part.as_ref() } {
            if self.place < part.nelts {
                // SAFETY: a part has nelts elements of this type; place is below that. The texts live as long as the request.
                let (is_there, key, value) = unsafe {
                    let header = &*part.elts.cast::<ffi::ngx_table_elt_t>().add(self.place);
                    (header.hash != 0, bytes(&header.key), bytes(&header.value))
                };
                self.place += 1;
                // A header that a module has deleted keeps its place with a hash of 0.
                if is_there {
                    return Some((key, value));
                }
                continue;
            }
            self.part = part.next;
            self.place = 0;
        }
        None
    }
}
