// SPDX-License-Identifier: Apache-2.0

//! The name of the client's address (`websocket_exec_remote_host`), which nginx's resolver is asked for before a program is started.

use super::launch;
use crate::exec::environment::is_host_name;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::{HeldRequest, Request, bytes};
use crate::nginx::session::{self, SessionEnd, SessionRef};
use crate::nginx::status::Status;
use crate::session::Flow;
use crate::session::endpoint::{Ending, Endpoint, Input, Outlet, Produced};
use crate::session::program::LeftProgram;
use crate::ws::connection::Data;

/// The endpoint of a session until the answer is there: then the program takes its place. Given up on drop.
struct Lookup {
    question: Box<Question>,
}

/// What nginx's resolver has a pointer to.
struct Question {
    /// Null when it was answered.
    context: *mut ffi::ngx_resolver_ctx_t,
    request: HeldRequest,
    session: SessionRef,
}

/// Asks for the name of the client's address, and starts the program of the location after that; without waiting if the answer is
/// known, or nothing can be asked.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn start(request: Request<'_>, session: SessionRef) -> Result<Box<dyn Endpoint>, Status> {
    match ask(request, session)? {
        Some(lookup) => Ok(Box::new(lookup)),
        None => launch::of_location(request, session),
    }
}

/// `None` when the answer is there, or will never be.
fn ask(request: Request<'_>, session: SessionRef) -> Result<Option<Lookup>, Status> {
    // SAFETY: the session, whose endpoint has this, holds the request.
    let held = unsafe { request.held() };
    let mut question = Box::new(Question { context: std::ptr::null_mut(), request: held, session });
    // SAFETY: the location and the connection live as long as the request; the box stays where it is until the question is
    // answered or dropped, which tells nginx.
    unsafe {
        let location = request.core_location();
        let connection = request.connection();
        let family = i32::from((*(*connection).sockaddr).sa_family);
        if family != libc::AF_INET && family != libc::AF_INET6 {
            return Ok(None);
        }
        let mut none = ffi::ngx_str_t { len: 0, data: std::ptr::null_mut() };
        let mut context = std::ptr::null_mut();
        match ffi::ngx_ws_resolve_start((*location).resolver, &raw mut none, &raw mut context) {
            ok if ok == Status::OK => {}
            // The configuration was refused, but for a block that inherits the directive.
            no if no == Status::DECLINED => return Ok(None),
            _ => return Err(Status::INTERNAL_SERVER_ERROR),
        }
        (*context).addr.sockaddr = (*connection).sockaddr;
        (*context).addr.socklen = (*connection).socklen;
        (*context).handler = Some(on_answer);
        (*context).data = (&raw mut *question).cast();
        (*context).timeout = (*location).resolver_timeout;
        question.context = context;
        if ffi::ngx_resolve_addr(context) != Status::OK {
            question.context = std::ptr::null_mut();
            request.report(Level::Error, format_args!("the client's address cannot be looked up"));
            return Ok(None);
        }
    }
    let is_answered = question.context.is_null();
    Ok((!is_answered).then_some(Lookup { question }))
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if !self.question.context.is_null() {
            // SAFETY: the context is one that nginx has not answered yet; after this it does not.
            unsafe { ffi::ngx_resolve_addr_done(self.question.context) };
        }
    }
}

impl Endpoint for Lookup {
    fn accepts(&self) -> bool {
        false
    }

    fn deliver(&mut self, _: &Data<'_>) -> Result<(), Ending> {
        Ok(())
    }

    fn flush(&mut self) -> bool {
        false
    }

    fn produce(&mut self, _: &mut Outlet<'_>) -> Produced {
        Produced::Nothing
    }

    fn client_gone(&mut self, _: Input) -> Option<LeftProgram> {
        None
    }

    fn progress(&self) -> u64 {
        0
    }
}

unsafe extern "C" fn on_answer(context: *mut ffi::ngx_resolver_ctx_t) {
    guard((), || {
        // SAFETY: the context carries a pointer to its question, which lives until it was answered.
        let (question, later) = unsafe {
            let question = &mut *(*context).data.cast::<Question>();
            (question, (*context).async_() != 0)
        };
        question.take_over(context);
        // SAFETY: the context is nginx's until it is told that its answer was taken.
        unsafe { ffi::ngx_resolve_addr_done(context) };
        question.context = std::ptr::null_mut();
        if later {
            let session = question.session;
            // The question goes with the endpoint that the program takes the place of.
            session::run(session, |state| match launch::of_location(state.host().request(), session) {
                Ok(program) => state.exchange(program),
                Err(status) => Flow::Break(SessionEnd::Refused(session::refusal(status))),
            });
        }
    });
}

impl Question {
    /// Notes the name. Without one that is a name, `REMOTE_HOST` is the address.
    fn take_over(&self, context: *mut ffi::ngx_resolver_ctx_t) {
        let request = self.request.get();
        // SAFETY: the context was answered; its name is copied while it lives.
        let (state, name) = unsafe { ((*context).state, bytes(&(*context).name)) };
        let address = Octets(request.remote_address());
        if state != 0 {
            // SAFETY: nginx's text for the state is a constant.
            let why = unsafe { std::ffi::CStr::from_ptr(ffi::ngx_resolver_strerror(state)) }.to_string_lossy();
            request.report(Level::Info, format_args!("the name of {address} is not known: {why}"));
        } else if is_host_name(name) {
            if let Some(context) = request.context() {
                context.set_remote_host(name);
            }
        } else {
            let name = Octets(name);
            request
                .report(Level::Info, format_args!("the name of {address} is \"{name}\", which is no name of a host"));
        }
    }
}
