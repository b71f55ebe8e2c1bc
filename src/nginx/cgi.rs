// SPDX-License-Identifier: Apache-2.0

//! Requests that ask for no WebSocket and that a program answers (`websocket_cgi`, `websocket_cgi_dir`), on nginx: see
//! [`exchange`](crate::session::cgi).
//!
//! nginx reads the body first where its length is not announced; from then on the request is held by an [`Answering`], which is driven
//! by events of the client, of the program's pipes, of the spawner and of its timer, and ends the request.

mod program;
mod request;
mod response;

use std::ffi::c_void;
use std::fmt::Arguments;
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use super::ffi;
use super::guard::guard;
use super::hold::{self, Holder, HolderKind};
use super::ledger;
use super::listeners::{self, Calls, Head, Listener};
use super::log::Level;
use super::pipe;
use super::program::{Command, Environs, Launch, Noting, launch};
use super::refused;
use super::request::{HeldRequest, Request, try_again};
use super::session::context::{HeldContext, RecordRef};
use super::status::Status;
use super::template::NginxCompiler;
use super::timer::{self, Timer, now};
use super::worker::programs::{NotStarted, Served};
use crate::conf::{Cgi, Compiler, ExecStderr};
use crate::exec::spawner::ProgramId;
use crate::ledger::{OpenSession, Opening};
use crate::session::cgi::{CgiEnd, Exchange, Flow, Host, Settings};
use crate::session::endpoint::HttpStatus;
use crate::session::host::{Log, Severity};
use crate::ws::handshake;
use program::NginxProgram;
use request::NginxRequest;
use response::NginxResponse;

/// The value of `$websocket_endpoint`.
const NAME: &str = Cgi::<<NginxCompiler as Compiler>::Template>::NAME;

/// Octets of a body that wait here for the program. The system keeps as many in the pipe.
const RECEIVED: usize = 64 << 10;

/// A request that a program answers, in the memory that its events know.
#[repr(C)]
struct Answering {
    /// How it is reached by those who know only that it is a client.
    head: Head,
    exchange: Exchange<NginxHost>,
    /// One of its events is being handled.
    ///
    /// Invariant: the events of an exchange are never handled inside of one another.
    running: bool,
}

/// The same, wherever its events arrive.
type AnsweringRef = NonNull<Answering>;

static CALLS: Calls = Calls {
    wake: |listener| run(listener.client(), Exchange::pump),
    serve: |_, _, _| false,
    // A response that is being made is made to its end, as nginx's own are.
    drain_time: |_| 0,
    drain: |_, _| {},
    terminate: |listener| run(listener.client(), |_| Flow::Break(CgiEnd::Lost)),
};

static HOLDER: HolderKind = HolderKind {
    let_go: |_, holder| {
        if let Some(answering) = holder.of_kind(&HOLDER) {
            let_go(answering);
        }
    },
};

/// The client, for those who know only that it is one.
fn listener(answering: AnsweringRef) -> Listener {
    const { assert!(offset_of!(Answering, head) == 0) };
    Listener::new(answering.cast())
}

/// What an exchange has of nginx besides request, program and response.
struct NginxHost {
    request: HeldRequest,
    /// What is known of the request; in its pool.
    context: HeldContext,
    timer: Timer,
    /// Its place in the worker's list, as long as it is on it.
    place: Option<usize>,
}

impl Log for NginxHost {
    fn report(&self, severity: Severity, text: Arguments<'_>) {
        self.request.get().report(Level::from(severity), text);
    }
}

impl Host for NginxHost {
    type Request = NginxRequest;
    type Program = NginxProgram;
    type Response = NginxResponse;
    type Record = RecordRef;

    fn now(&self) -> u64 {
        now()
    }

    fn set_timer(&mut self, milliseconds: u64) {
        self.timer.disarm();
        self.timer.arm(milliseconds);
    }

    fn post_turn(&mut self) {
        self.timer.post_next();
    }

    fn open_account(&mut self) -> Option<OpenSession> {
        // What the program answers is no refusal.
        self.context.is_counted.set(true);
        let opening = Opening { subscribes: false, waited: self.request.get().age(), now: now() };
        ledger::own()?.open(self.request.get().settings().key as usize, opening)
    }

    fn release(&mut self) {
        if let Some(place) = self.place.take() {
            listeners::remove(place);
        }
        self.timer.cancel();
        hold::release(self.request.get(), &self.context);
    }
}

/// Whether a request is one that a program answers: it asks for no WebSocket, or cannot become one.
pub fn answers(request: Request<'_>) -> bool {
    let settings = request.settings();
    if settings.cgi.is_none() {
        return false;
    }
    // SAFETY: the request lives.
    let is_internal = || unsafe { ffi::ngx_ws_request_is_internal(request.raw()) != 0 };
    !request.is_main()
        || !handshake::is_asked_for(super::acceptance::version(request), request.headers())
        // The error page of a handshake, for one.
        || (settings.endpoint.is_none() && is_internal())
}

/// Answers a request for a WebSocket to a location that has none; returns what the content handler returns.
pub fn refuse(request: Request<'_>) -> Status {
    if let Some(context) = request.context() {
        context.endpoint.set(Some(NAME));
    }
    request.report(Level::Info, format_args!("no WebSocket: the location has only a CGI program"));
    Status::NOT_FOUND
}

/// Lets a program answer a request; returns what the content handler returns.
pub fn receive(request: Request<'_>) -> Status {
    if let Some(context) = request.context() {
        context.endpoint.set(Some(NAME));
    }
    // SAFETY: the request is alive; nginx calls the handler once the body can be read, now or later.
    let read = Status::of(unsafe { ffi::ngx_ws_request_read_body(request.raw(), Some(on_body)) });
    if !read.is_special_response() {
        return Status::DONE;
    }
    refused::count(request, read);
    read
}

/// The body can be read.
unsafe extern "C" fn on_body(raw: *mut ffi::ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx calls with a live request, and the reference of the body's handler keeps it alive: whoever answers the
        // request gives it back, or it is given back here.
        unsafe {
            let request = Request::new(raw);
            if let Err(status) = start(request) {
                ffi::ngx_http_finalize_request(raw, refused(request, status).raw());
            }
        }
    });
}

/// Asks for the program. The answer comes to the exchange.
fn start(request: Request<'_>) -> Result<(), Status> {
    let settings = request.settings();
    let cgi = settings.cgi.as_ref().ok_or(Status::INTERNAL_SERVER_ERROR)?;
    // SAFETY: whoever keeps the body holds the request.
    let (receiving, body) = unsafe { NginxRequest::new(request) };
    let environs = Environs::Request(body);
    let command = match cgi {
        Cgi::Program(words) => Command::of_words(request, words, environs)?,
        Cgi::Directory(root) => Command::in_directory(request, root, environs)?,
    };
    let answering = create(request, receiving, command.name.clone())?;
    let data = answering.as_ptr().cast();
    let launched = launch(
        request,
        command,
        Launch {
            listener: pipe::Listener { handler: on_pipe, data, log: request.log() },
            served: Rc::new(Asking(answering)),
            terminal: false,
            stderr: match settings.exec_stderr() {
                ExecStderr::Null => ExecStderr::Null,
                ExecStderr::Log | ExecStderr::Client | ExecStderr::Both => ExecStderr::Log,
            },
            noting: Noting::by_descriptor(settings),
            tells_of_client: false,
        },
    );
    let launched = launched.inspect_err(|_| let_go(answering))?;
    enter(answering, |exchange| {
        exchange.program_mut().attach(launched);
        exchange.begin();
    });
    // SAFETY: the request is alive and from now on driven by the exchange.
    unsafe {
        // The client of a "post_action" has been answered or has gone, and its body is there.
        if request.main().is_attended() {
            (*request.raw()).read_event_handler = Some(on_readable);
        }
        (*request.raw()).write_event_handler = Some(on_writable);
        if request.http_version() < 2000 {
            // Without it the second of two events waits until the first was acknowledged.
            ffi::ngx_ws_tcp_nodelay(request.connection());
        }
    }
    Ok(())
}

/// Makes the exchange and gives it to the request: it ends with the request, its memory, which nginx may still be sending from, with
/// the pool.
fn create(request: Request<'_>, receiving: NginxRequest, name: String) -> Result<AnsweringRef, Status> {
    let context = request.context().ok_or(Status::INTERNAL_SERVER_ERROR)?;
    let location = request.settings();
    let settings = Settings {
        receive_limit: RECEIVED,
        send_limit: usize::try_from(location.send_buffer()).unwrap_or(usize::MAX),
        header_timeout: location.cgi_timeout(),
        input_timeout: location.exec_send_timeout(),
        send_timeout: location.send_timeout(),
    };
    // SAFETY: the request is alive; each cleanup runs once, the one of the pool last.
    unsafe {
        let last = ffi::ngx_pool_cleanup_add((*request.raw()).pool, 0);
        let first = ffi::ngx_http_cleanup_add(request.raw(), 0);
        if last.is_null() || first.is_null() {
            return Err(Status::INTERNAL_SERVER_ERROR);
        }
        let timer = Timer::new(on_timer, ptr::null_mut(), request.log());
        let host = NginxHost { request: request.held(), context: context.held(), timer, place: None };
        let program = NginxProgram::new(request, name, location.exec_stop());
        let (response, record) = (NginxResponse::new(request), RecordRef(context.held()));
        let exchange = Exchange::new(host, receiving, program, response, record, settings);
        let answering =
            NonNull::from(Box::leak(Box::new(Answering { head: Head::new(&CALLS), exchange, running: false })));
        let host = (*answering.as_ptr()).exchange.host_mut();
        host.timer.set_owner(answering.as_ptr().cast());
        host.place = Some(listeners::add(listener(answering)));
        (*last).handler = Some(on_free);
        (*last).data = answering.as_ptr().cast();
        (*first).handler = Some(on_end);
        (*first).data = answering.as_ptr().cast();
        hold::take(context, Holder::new(&HOLDER, answering));
        Ok(answering)
    }
}

/// What an exchange is told of its program. It is told nothing once it has ended: then somebody else is served.
struct Asking(AnsweringRef);

impl Asking {
    fn refuse(&self, text: Arguments<'_>, end: CgiEnd) {
        run(self.0, |exchange| {
            exchange.host().report(Severity::Error, text);
            Flow::Break(end)
        });
    }
}

impl Served for Asking {
    fn started(&self, _: ProgramId, pid: i32, _: Option<OwnedFd>) {
        run(self.0, |exchange| exchange.started(pid));
    }

    fn failed(&self, _: ProgramId, failure: NotStarted<'_>) {
        self.refuse(failure.text, failure.status().map_or(CgiEnd::TryAgain, CgiEnd::Refused));
    }

    fn timed_out(&self, _: ProgramId, reason: Arguments<'_>) {
        self.refuse(reason, CgiEnd::Refused(HttpStatus::GATEWAY_TIME_OUT));
    }

    fn report(&self, text: Arguments<'_>) {
        run(self.0, |exchange| {
            exchange.host().report(Severity::Error, text);
            Flow::Continue(())
        });
    }

    fn ended(&self) {
        run(self.0, Exchange::pump);
    }

    fn lost(&self, _: ProgramId, spawner_was_there: bool) {
        run(self.0, |exchange| exchange.lost(spawner_was_there));
    }
}

/// Changes an exchange and acts on what it has come to. Its memory may be gone when this returns, and the request somebody else's.
fn run(answering: AnsweringRef, body: impl FnOnce(&mut Exchange<NginxHost>) -> Flow) {
    let (flow, request) = enter(answering, |exchange| {
        let request = exchange.host().request.get().raw();
        let flow =
            guard(Flow::Break(CgiEnd::Lost), || if exchange.is_over() { Flow::Continue(()) } else { body(exchange) });
        if flow.is_break() {
            guard((), || exchange.release());
        }
        (flow, request)
    });
    let Flow::Break(end) = flow else { return };
    // SAFETY: the request is alive until it is finalized here; nginx looks at the connection only if requests were posted
    // to it.
    unsafe {
        let request = Request::new(request);
        let connection = request.connection();
        let status = guard(Status::ERROR, || finish(request, end));
        ffi::ngx_http_finalize_request(request.raw(), status.raw());
        ffi::ngx_http_run_posted_requests(connection);
    }
}

/// What a request is to be finalized with that nobody holds any more.
fn finish(request: Request<'_>, end: CgiEnd) -> Status {
    let status = match end {
        CgiEnd::Finished => return Status::OK,
        CgiEnd::Lost => return Status::ERROR,
        CgiEnd::Refused(status) => Status::from(status),
        CgiEnd::TryAgain => try_again(request),
        CgiEnd::Redirect(to) => match request.copy(&to) {
            // SAFETY: the request is alive, nobody holds it, and the text is in its pool.
            Some(to) => Status::of(unsafe { ffi::ngx_ws_local_redirect(request.raw(), to) }),
            None => Status::INTERNAL_SERVER_ERROR,
        },
    };
    if status.answer().is_some() { refused(request, status) } else { status }
}

/// What a request is to be finalized with so that its client gets this status, with an error page if there is one, for which there is
/// no body of the request any more.
fn refused(request: Request<'_>, status: Status) -> Status {
    // SAFETY: the request is alive, and nobody holds it.
    unsafe { ffi::ngx_ws_body_used_up(request.raw()) };
    refused::count(request, status);
    request.answer(status)
}

/// Ends an exchange whose request is given back to nginx, by whoever calls: nothing refers to the request any more.
fn let_go(answering: AnsweringRef) {
    enter(answering, Exchange::release);
}

/// Gives `body` the exchange. What finalizes its request comes after.
fn enter<R>(answering: AnsweringRef, body: impl FnOnce(&mut Exchange<NginxHost>) -> R) -> R {
    // SAFETY: whoever is given an exchange, as the data of an event, on a list, by a context, is forgotten there when it ends,
    // and its memory lives on until the pool of the request is freed, which is not inside of an event of its own. So it is
    // there. nginx is single-threaded, and `running` tells that no other reference is on the stack.
    unsafe {
        debug_assert!(!(*answering.as_ptr()).running, "the events of an exchange are handled inside of one another");
        let state = &mut *answering.as_ptr();
        state.running = true;
        let result = body(&mut state.exchange);
        state.running = false;
        result
    }
}

/// The exchange that holds a request.
///
/// # Safety
///
/// The request is alive.
unsafe fn of(request: *mut ffi::ngx_http_request_t) -> Option<AnsweringRef> {
    // SAFETY: the promise of the caller.
    let holder = unsafe { Request::new(request) }.existing_context()?.holder.get()?;
    holder.of_kind(&HOLDER)
}

/// The client has sent something, or is gone. Nothing but the body is read of it: see [`hold::watch_client`] for the time after that.
unsafe extern "C" fn on_readable(raw: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request, in an event handler that looks after posted requests itself.
    unsafe {
        let Some(answering) = of(raw) else { return };
        if !enter(answering, |exchange| exchange.is_held_back()) {
            return run(answering, Exchange::pump);
        }
        ffi::ngx_ws_body_held_back(raw);
        if ffi::ngx_ws_request_client_gone(raw, 0) != 0 {
            guard((), || let_go(answering));
            ffi::ngx_http_finalize_request(raw, Status::CLIENT_CLOSED_REQUEST.raw());
        }
    }
}

/// The client, whose body has been received, has sent something, or is gone.
unsafe extern "C" fn on_client(raw: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request, in an event handler that looks after posted requests itself.
    unsafe {
        // Who has the whole response need not stay until the program has ended.
        let has_all = of(raw).is_some_and(|answering| enter(answering, |exchange| exchange.has_answered()));
        if !has_all || ffi::ngx_ws_request_ignore_client(raw) != Status::OK {
            hold::end_if_gone(raw, false);
        }
    }
}

/// The client can be written.
unsafe extern "C" fn on_writable(raw: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request.
    if let Some(answering) = unsafe { of(raw) } {
        run(answering, Exchange::pump);
    }
}

/// The program can be read or written.
unsafe extern "C" fn on_pipe(event: *mut ffi::ngx_event_t) {
    // SAFETY: the event of a connection has the connection as its data, and that the exchange, which owns the connection. When the
    // worker is being shut down nginx marks every connection; the client's own mark, before or after this one, ends the request.
    let answering = unsafe {
        let connection = (*event).data.cast::<ffi::ngx_connection_t>();
        if (*connection).close() != 0 {
            return;
        }
        NonNull::new((*connection).data.cast::<Answering>())
    };
    if let Some(answering) = answering {
        run(answering, Exchange::pump);
    }
}

/// The time is up, or the exchange had asked for another turn.
unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    // SAFETY: the owner of the timer is the exchange, which removes it before it is freed.
    if let Some(answering) = unsafe { timer::owner::<Answering>(event) } {
        run(answering, |exchange| {
            exchange.host_mut().timer.take_expired();
            exchange.pump()
        });
    }
}

/// The request is over; nginx may still be sending.
unsafe extern "C" fn on_end(data: *mut c_void) {
    guard((), || {
        // The memory is freed by the pool's cleanup, which comes later.
        if let Some(answering) = NonNull::new(data.cast::<Answering>()) {
            let_go(answering);
        }
    });
}

/// The pool of the request goes: nothing is being sent any more.
unsafe extern "C" fn on_free(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer was leaked by create(), and a cleanup runs once.
        drop(unsafe { Box::from_raw(data.cast::<Answering>()) });
    });
}
