//! A client's request that waits for the answer of another location, and may go away meanwhile.

use std::cell::Cell;
use std::ffi::c_void;
use std::rc::Rc;

use super::ffi;
use super::guard::guard;
use super::request::Request;

/// Knows whether the request still lives.
#[derive(Clone)]
pub struct Caller(Rc<Cell<Option<Request>>>);

impl Caller {
    /// Watches a request. `None` when there is no memory.
    pub fn of(request: Request) -> Option<Self> {
        let alive = Rc::new(Cell::new(Some(request)));
        // SAFETY: the request is alive; its cleanup runs once and takes the pointer back.
        unsafe {
            let cleanup = ffi::ngx_http_cleanup_add(request.raw(), 0);
            if cleanup.is_null() {
                return None;
            }
            (*cleanup).handler = Some(on_end);
            (*cleanup).data = Rc::into_raw(Rc::clone(&alive)).cast_mut().cast();
        }
        Some(Caller(alive))
    }

    /// Lets the request wait. nginx notices a client that goes away, and frees the request then.
    ///
    /// [`resume`](Self::resume) gives a reference to the request back, which is not taken here: the caller has taken it, as
    /// nginx does before it reads a body.
    pub fn wait(&self) {
        let Some(request) = self.0.get() else { return };
        // SAFETY: the request is alive.
        unsafe {
            (*request.raw()).read_event_handler = Some(ffi::ngx_http_test_reading);
            (*request.raw()).write_event_handler = Some(ffi::ngx_http_request_empty_handler);
        }
    }

    /// Whether the request lives.
    pub fn is_there(&self) -> bool {
        self.0.get().is_some()
    }

    /// Goes on with the request, if it lives, and ends it with the status that `step` returns, as nginx does with what a
    /// content handler returns. To be called at the outermost level.
    pub fn resume(&self, step: impl FnOnce(Request) -> isize) {
        let Some(request) = self.0.get() else { return };
        let connection = request.connection();
        let status = guard(ffi::NGX_ERROR as isize, || step(request));
        // SAFETY: the request is alive until it is finalized here; nginx looks at the connection only if requests were
        // posted to it.
        unsafe {
            let status = ffi::ngx_ws_request_answer(request.raw(), status);
            ffi::ngx_http_finalize_request(request.raw(), status);
            ffi::ngx_http_run_posted_requests(connection);
        }
    }
}

/// The request is over.
unsafe extern "C" fn on_end(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer came from of(), and a cleanup runs once.
        unsafe { Rc::from_raw(data.cast::<Cell<Option<Request>>>().cast_const()) }.set(None);
    });
}
