// SPDX-License-Identifier: Apache-2.0

//! Looking up a name by nginx's resolver, without waiting.

use std::ffi::CStr;

use super::address::Resolved;
use super::allow::{self, Judgement};
use super::connect::{because, failure};
use super::peer;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::{HeldRequest, Request};
use crate::nginx::session::{self, Session, SessionRef};
use crate::nginx::status::Status;

/// A name that is being looked up. Given up on drop.
pub struct Lookup {
    question: Box<Question>,
}

/// What nginx's resolver has a pointer to.
struct Question {
    context: *mut ffi::ngx_resolver_ctx_t,
    request: HeldRequest,
    session: SessionRef,
    resolved: Resolved,
    judgement: Judgement,
    /// The servers are known to the request, or the status to answer.
    answer: Option<Result<(), Status>>,
}

impl Lookup {
    /// Asks. The session is run when the answer comes, unless it is there at once.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged.
    pub fn start(
        request: Request<'_>,
        session: SessionRef,
        resolved: Resolved,
        judgement: Judgement,
    ) -> Result<Self, Status> {
        let context = std::ptr::null_mut();
        // SAFETY: the session, whose endpoint has this, holds the request.
        let held = unsafe { request.held() };
        let mut question = Box::new(Question { context, request: held, session, resolved, judgement, answer: None });
        // SAFETY: the location lives as long as the request; the box stays where it is until the lookup is done or
        // dropped, which tells nginx.
        unsafe {
            let location = request.core_location();
            let name = &raw mut (*resolved.raw()).host;
            let mut context = std::ptr::null_mut();
            match ffi::ngx_ws_resolve_start((*location).resolver, name, &raw mut context) {
                ok if ok == Status::OK => {}
                no if no == Status::DECLINED => {
                    let host = Octets(resolved.host());
                    request.report(Level::Error, format_args!("no \"resolver\" is defined to look up \"{host}\""));
                    return Err(Status::BAD_GATEWAY);
                }
                _ => return Err(Status::INTERNAL_SERVER_ERROR),
            }
            (*context).name = *name;
            (*context).handler = Some(on_answer);
            (*context).data = (&raw mut *question).cast();
            (*context).timeout = (*location).resolver_timeout;
            question.context = context;
            if ffi::ngx_resolve_name(context) != Status::OK {
                question.context = std::ptr::null_mut();
                return Err(failure(request));
            }
        }
        Ok(Lookup { question })
    }

    /// Whether the servers are known by now, or the status to answer.
    pub fn answer(&mut self) -> Option<Result<(), Status>> {
        self.question.answer.take()
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if !self.question.context.is_null() {
            // SAFETY: the context is one that nginx has not answered yet; after this it does not.
            unsafe { ffi::ngx_resolve_name_done(self.question.context) };
        }
    }
}

unsafe extern "C" fn on_answer(context: *mut ffi::ngx_resolver_ctx_t) {
    guard((), || {
        // SAFETY: the context carries a pointer to its question, which lives until it was answered.
        let (question, later) = unsafe {
            let question = &mut *(*context).data.cast::<Question>();
            (question, (*context).async_() != 0)
        };
        question.answer = Some(question.take_over(context));
        // SAFETY: the context is nginx's until it is told that its answer was taken.
        unsafe { ffi::ngx_resolve_name_done(context) };
        question.context = std::ptr::null_mut();
        if later {
            let session = question.session;
            session::run(session, Session::pump);
        }
    });
}

impl Question {
    /// Makes servers of the addresses, which nginx keeps only during the call.
    fn take_over(&self, context: *mut ffi::ngx_resolver_ctx_t) -> Result<(), Status> {
        // SAFETY: the context was answered; its addresses are copied while it lives.
        unsafe {
            let state = (*context).state;
            if state != 0 {
                let why = CStr::from_ptr(ffi::ngx_resolver_strerror(state)).to_string_lossy();
                let host = Octets(self.resolved.host());
                self.request.get().report(Level::Error, format_args!("\"{host}\" could not be resolved: {why}"));
                because(self.request.get(), "host not found");
                return Err(Status::BAD_GATEWAY);
            }
            let mut allowed = Vec::new();
            let (mut count, mut addresses) = ((*context).naddrs, (*context).addrs);
            if self.judgement == Judgement::ByAddress {
                let all = std::slice::from_raw_parts(addresses, count);
                allowed = allow::among(self.request.get(), all, self.resolved.port());
                if allowed.is_empty() {
                    because(self.request.get(), "address not allowed");
                    return Err(Status::FORBIDDEN);
                }
                // The array itself is nginx's, which frees by it what the addresses are in.
                (count, addresses) = (allowed.len(), allowed.as_mut_ptr());
            }
            let resolved = &mut *self.resolved.raw();
            resolved.naddrs = count;
            resolved.addrs = addresses;
            let known = peer::know_servers(self.request.get(), self.resolved);
            resolved.naddrs = 0;
            resolved.addrs = std::ptr::null_mut();
            drop(allowed);
            if known { Ok(()) } else { Err(Status::INTERNAL_SERVER_ERROR) }
        }
    }
}
