// SPDX-License-Identifier: Apache-2.0

//! A client's request that waits for an answer, of another location or of a backend, and may go away meanwhile.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use super::ffi;
use super::guard::guard;
use super::hold::{self, Holder, HolderKind};
use super::request::{HeldRequest, Request};
use super::status::Status;
use crate::channel::backend::{Answer, Outcome};

/// The request, as long as it is there to be resumed.
struct Alive {
    request: HeldRequest,
    is_there: Cell<bool>,
}

impl Alive {
    fn request(&self) -> Option<Request<'_>> {
        self.is_there.get().then(|| self.request.get())
    }

    /// The request, for the last time: it is not there any more.
    fn take(&self) -> Option<Request<'_>> {
        self.is_there.replace(false).then(|| self.request.get())
    }
}

static HOLDER: HolderKind = HolderKind {
    let_go: |request, holder| {
        if let Some(caller) = holder.of_kind(&HOLDER) {
            let_go(request, caller);
        }
    },
};

/// Knows whether the request is still there: neither freed, nor handed to somebody else by nginx.
#[derive(Clone)]
pub struct Caller(Rc<Alive>);

impl Caller {
    /// Watches a request. `None` when there is no memory.
    pub fn of(request: Request<'_>) -> Option<Self> {
        // SAFETY: the request is alive; its cleanup runs once, takes the pointer back, and sees to it that the request is not there
        // any more.
        unsafe {
            let alive = Rc::new(Alive { request: request.held(), is_there: Cell::new(true) });
            let cleanup = ffi::ngx_http_cleanup_add(request.raw(), 0);
            if cleanup.is_null() {
                return None;
            }
            (*cleanup).handler = Some(on_end);
            (*cleanup).data = Rc::into_raw(Rc::clone(&alive)).cast_mut().cast();
            Some(Caller(alive))
        }
    }

    /// Lets the request wait until it is [resumed](Self::resume), and returns what a content handler returns for that. A client
    /// that goes away is noticed: the request is not there any more then.
    pub fn wait(&self) -> Status {
        let Some(request) = self.0.request() else { return Status::ERROR };
        let Some(context) = request.context() else {
            // It ends now, and is not there to be resumed.
            self.0.is_there.set(false);
            return Status::INTERNAL_SERVER_ERROR;
        };
        hold::take(context, Holder::new(&HOLDER, NonNull::from(&*self.0)));
        hold::watch_client(request);
        // SAFETY: the request is alive; the reference is given back when it is resumed.
        unsafe {
            (*request.raw()).write_event_handler = Some(ffi::ngx_http_request_empty_handler);
            request.hold();
        }
        Status::DONE
    }

    /// Whether the request is there.
    pub fn is_there(&self) -> bool {
        self.0.is_there.get()
    }

    /// Goes on with the request, if it is there, and ends it with the status that `step` returns, as nginx does with what a
    /// content handler returns. To be called at the outermost level.
    pub fn resume(&self, step: impl FnOnce(Request<'_>) -> Status) {
        let Some(request) = self.0.take() else { return };
        let connection = request.connection();
        let status = guard(Status::ERROR, || {
            if let Some(context) = request.existing_context() {
                hold::release(request, context);
            }
            step(request)
        });
        // SAFETY: the request is alive until it is finalized here; nginx looks at the connection only if requests were
        // posted to it.
        unsafe {
            let status = request.answer(status);
            ffi::ngx_http_finalize_request(request.raw(), status.raw());
            ffi::ngx_http_run_posted_requests(connection);
        }
    }
}

/// Ends a request with what `finish` makes of an answer, at once or when it comes; returns what a content handler returns.
pub fn wait_for<T: 'static, E: 'static>(
    request: Request<'_>,
    answer: Answer<T, E>,
    finish: impl FnOnce(Request<'_>, Outcome<T, E>) -> Status + 'static,
) -> Status {
    let pending = match answer {
        Answer::Now(outcome) => return finish(request, outcome),
        Answer::Later(pending) => pending,
    };
    let Some(caller) = Caller::of(request) else { return Status::INTERNAL_SERVER_ERROR };
    let status = caller.wait();
    pending.then(move |outcome| caller.resume(|request| finish(request, outcome)));
    status
}

/// The request becomes somebody else's: it is not resumed any more.
fn let_go(request: Request<'_>, alive: NonNull<Alive>) {
    // SAFETY: the context names a caller only as long as its cleanup, which holds a count of it, has not run.
    unsafe { alive.as_ref() }.is_there.set(false);
    if let Some(context) = request.existing_context() {
        hold::release(request, context);
    }
}

/// The request is over.
unsafe extern "C" fn on_end(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer came from of(), and a cleanup runs once.
        let alive = unsafe { Rc::from_raw(data.cast::<Alive>().cast_const()) };
        if let Some(request) = alive.take()
            && let Some(context) = request.existing_context()
            && let Some(caller) = context.holder.get().and_then(|holder| holder.of_kind::<Alive>(&HOLDER))
            && ptr::eq(caller.as_ptr(), Rc::as_ptr(&alive))
        {
            hold::release(request, context);
        }
    });
}
