// SPDX-License-Identifier: Apache-2.0

//! Sessions on connections of nginx.
//!
//! A session is made when an upgrade is accepted, waits for its endpoint, answers 101, and from then on is driven by
//! events of the client, of the endpoint and of its timer. Each of them calls [`run`]: the session does what can be done,
//! and what has become of it is acted on after the last reference to it is gone.

pub mod context;
mod linger;

use std::ffi::c_void;
use std::fmt::Arguments;
use std::mem::offset_of;
use std::ptr::{self, NonNull};

use context::{Context, HeldContext, RecordRef};

use super::acceptance::Acceptance;
use super::amount::amount;
use super::client::Client;
use super::ffi;
use super::guard::guard;
use super::hold::{self, Holder, HolderKind};
use super::ledger;
use super::listeners::{self, Calls, Head, Listener};
use super::log::Level;
use super::request::{HeldRequest, Request};
use super::status::Status;
use super::timer::{self, Timer, now};
use super::{recording, refusal, refused};
use crate::conf::{EndpointSettings as Target, Settings as LocationSettings, transfer_rate};
use crate::ledger::{OpenSession, Opening};
use crate::nginx::template::NginxCompiler;
use crate::recording::Recorder;
pub use crate::session::endpoint::Endpoint;
use crate::session::endpoint::{Ending, HttpStatus};
use crate::session::host::{Host, Log, Severity};
use crate::session::pace::Rates;
pub use crate::session::{Flow, SessionEnd};
use crate::session::{HANGUP, SLOW_HANGUP, Settings};
use crate::ws::connection::Limits;
use crate::ws::timing;

/// The state machine of a session of nginx.
pub type Session = crate::session::Session<NginxHost>;

/// A session, wherever its events arrive.
pub type SessionRef = NonNull<Hosted>;

/// A session in the memory that its events know.
#[repr(C)]
pub struct Hosted {
    /// How it is reached by those who know only that it is a client.
    head: Head,
    session: Session,
    /// One of its events is being handled.
    ///
    /// Invariant: the events of a session are never handled inside of one another. Those of others may be: what a session
    /// does may wake a subscriber of its channel, or another client of its program, which may end it.
    running: bool,
}

static CALLS: Calls = Calls {
    wake: |listener| run(listener.client(), Session::pump),
    serve: |listener, id, hub| enter(listener.client(), |session| hub.serve_directly(id, session)),
    drain_time: |listener| enter(listener.client(), |session| session.host().request().settings().drain()),
    drain: |listener, at| run(listener.client(), |session| session.drain(at)),
    terminate: |listener| terminate(listener.client()),
};

static HOLDER: HolderKind = HolderKind {
    let_go: |_, holder| {
        if let Some(session) = holder.of_kind(&HOLDER) {
            let_go(session);
        }
    },
};

/// The session that holds the request with this context, if one does.
pub fn of(context: &Context) -> Option<SessionRef> {
    context.holder.get().and_then(|holder| holder.of_kind(&HOLDER))
}

/// The session, for those who know only that it is a client.
pub fn listener(session: SessionRef) -> Listener {
    const { assert!(offset_of!(Hosted, head) == 0) };
    Listener::new(session.cast())
}

/// What a session has of nginx besides the connection of its client.
pub struct NginxHost {
    request: HeldRequest,
    context: HeldContext,
    timer: Timer,
    /// Its place in the worker's list, as long as it is on it.
    place: Option<usize>,
}

impl NginxHost {
    /// The request that the session belongs to.
    pub fn request(&self) -> Request<'_> {
        self.request.get()
    }
}

impl Log for NginxHost {
    fn report(&self, severity: Severity, text: Arguments<'_>) {
        self.request.get().report(Level::from(severity), text);
    }
}

impl Host for NginxHost {
    type Client = Client;
    type Acceptance = Box<Acceptance>;
    type Record = RecordRef;

    fn now(&self) -> u64 {
        now()
    }

    fn accept(&mut self, acceptance: &Box<Acceptance>) -> bool {
        acceptance.answer(self.request.get())
    }

    fn listen(&mut self, client: &mut Client, early: &mut Vec<u8>) -> bool {
        client.free_chain_buffer();
        // SAFETY: the request is alive and from now on driven by the session; pos and last bound the unread part of the header
        // buffer.
        unsafe {
            let request = self.request.get().raw();
            let buffer = &mut *(*request).header_in;
            let length = buffer.last.offset_from(buffer.pos);
            if let Ok(length @ 1..) = usize::try_from(length) {
                early.extend_from_slice(std::slice::from_raw_parts(buffer.pos, length));
                buffer.pos = buffer.last;
            }
            self.request.get().shrink_head();
            (*request).read_event_handler = Some(on_client);
            (*request).write_event_handler = Some(on_client);
            ffi::ngx_ws_tcp_nodelay(client.connection()) == Status::OK
        }
    }

    fn refusal(&self, status: HttpStatus, acceptance: &mut Box<Acceptance>) -> Option<Ending> {
        refused::count(self.request.get(), Status::http(status.0));
        let ending = refusal::ending(self.request.get(), status)?;
        acceptance.refuse(self.request.get());
        Some(ending)
    }

    fn open_account(&mut self) -> Option<OpenSession> {
        // The error page of a refusal counts nowhere.
        let settings = self.request.get().settings();
        let subscribes = match settings.endpoint.as_ref()? {
            Target::Channel(channel) => channel.mode.subscribes(),
            Target::Shared(_) => true,
            Target::Exec(_) | Target::ExecDir(_) | Target::Tcp(_) => false,
        };
        self.context.is_counted.set(true);
        let opening = Opening { subscribes, waited: self.request.get().age(), now: now() };
        ledger::own()?.open(settings.key as usize, opening)
    }

    fn open_recording(&mut self) -> Option<Box<Recorder>> {
        recording::open(self.request.get(), &self.context)
    }

    fn late_drain(&mut self) -> Option<u64> {
        listeners::late_drain(self.request.get())
    }

    fn set_timer(&mut self, milliseconds: u64) {
        self.timer.disarm();
        self.timer.arm(milliseconds);
    }

    fn take_expired(&mut self) -> bool {
        self.timer.take_expired()
    }

    fn post_turn(&mut self) {
        self.timer.post_next();
    }

    fn linger(&mut self, client: &mut Client) {
        linger::begin(self.request.get(), client);
    }

    fn release(&mut self) {
        if let Some(place) = self.place.take() {
            listeners::remove(place);
        }
        self.timer.cancel();
        hold::release(self.request.get(), &self.context);
    }
}

/// How fast both sides of a session with a service are read.
///
/// # Errors
///
/// The status to answer, which was logged.
fn rates(request: Request<'_>) -> Result<Rates, Status> {
    let settings = request.settings();
    if !matches!(settings.endpoint, Some(Target::Tcp(_))) {
        return Ok(Rates::default());
    }
    // A variable without a value limits nothing.
    let read = |text: &[u8]| if text.is_empty() { Ok(0) } else { transfer_rate(text) };
    Ok(Rates {
        upload: amount(request, "websocket_tcp_upload_rate", &settings.tcp_upload_rate(), read)?,
        download: amount(request, "websocket_tcp_download_rate", &settings.tcp_download_rate(), read)?,
    })
}

/// What the location says about its sessions.
fn settings(location: &LocationSettings<NginxCompiler>, acceptance: &Acceptance, rates: Rates) -> Settings {
    let (endpoint_timeout, patience) = match &location.endpoint {
        Some(Target::Tcp(_)) => (location.tcp_send_timeout(), SLOW_HANGUP),
        Some(Target::Exec(_) | Target::ExecDir(_) | Target::Shared(_)) => (location.exec_send_timeout(), HANGUP),
        Some(Target::Channel(_)) | None => (0, HANGUP),
    };
    Settings {
        limits: Limits {
            message: location.max_message_size(),
            frame: location.max_frame_size(),
            fragment_size: location.fragment_size(),
            ..Limits::default()
        },
        deflate: acceptance.deflate,
        timing: timing::Settings {
            ping_interval: location.ping_interval(),
            ping_timeout: location.ping_timeout(),
            idle_timeout: location.idle_timeout(),
            close_timeout: location.close_timeout(),
            send_timeout: location.send_timeout(),
            endpoint_timeout,
        },
        patience,
        send_limit: usize::try_from(location.send_buffer()).unwrap_or(usize::MAX),
        rates,
    }
}

/// Makes a session for a request and gives it to the pool of the request. The endpoint is attached with [`attach`].
///
/// # Errors
///
/// The status to answer: there is no memory, or a rate makes no sense, which was logged.
pub fn create(request: Request<'_>, acceptance: &Acceptance) -> Result<SessionRef, Status> {
    let context = request.context().ok_or(Status::INTERNAL_SERVER_ERROR)?;
    let settings = settings(request.settings(), acceptance, rates(request)?);
    let timer = Timer::new(on_timer, ptr::null_mut(), request.log());
    // SAFETY: the session holds the request, and is freed by the cleanup of the request, before its pool.
    let (held, known, record) = unsafe { (request.held(), context.held(), RecordRef(context.held())) };
    let host = NginxHost { request: held, context: known, timer, place: None };
    // SAFETY: the session holds the client as well, and is freed by the cleanup of the request, before its pool.
    let client = unsafe { Client::new(request) };
    let session = Session::new(host, client, record, &settings);
    let hosted = Hosted { head: Head::new(&CALLS), session, running: false };
    const { assert!(align_of::<Hosted>() <= size_of::<usize>()) };
    // SAFETY: the request is alive, and its pool gives memory that is aligned for a word; the cleanup drops what is there, once,
    // before the pool is destroyed.
    unsafe {
        let cleanup = ffi::ngx_http_cleanup_add(request.raw(), 0);
        let room = ffi::ngx_palloc((*request.raw()).pool, size_of::<Hosted>()).cast::<Hosted>();
        let (Some(session), false) = (NonNull::new(room), cleanup.is_null()) else {
            return Err(Status::INTERNAL_SERVER_ERROR);
        };
        session.write(hosted);
        (*cleanup).handler = Some(on_cleanup);
        (*cleanup).data = session.as_ptr().cast();
        let host = (*session.as_ptr()).session.host_mut();
        host.timer.set_owner(session.as_ptr().cast());
        host.place = Some(listeners::add(listener(session)));
        hold::take(context, Holder::new(&HOLDER, session));
        Ok(session)
    }
}

/// Gives the session its endpoint, and begins at once if that has nothing to wait for. Called from the content handler that
/// made the session.
///
/// # Errors
///
/// What the content handler returns if it has ended already.
pub fn attach(session: SessionRef, acceptance: Box<Acceptance>, endpoint: Box<dyn Endpoint>) -> Result<(), Status> {
    enter(session, |state| {
        state.attach(acceptance, endpoint);
        hold::watch_sender(state.host().request());
        let flow = guard(Flow::Break(SessionEnd::Dropped), || state.pump());
        conclude(state, flow).map_or(Ok(()), Err)
    })
}

/// Changes a session and acts on what it has come to. The session may be gone when this returns, and the request somebody
/// else's.
pub fn run(session: SessionRef, body: impl FnOnce(&mut Session) -> Flow) {
    let (status, request, connection) = enter(session, |state| {
        let request = state.host().request();
        let (request, connection) = (request.raw(), request.connection());
        let flow =
            guard(Flow::Break(SessionEnd::Dropped), || if state.is_over() { Flow::Continue(()) } else { body(state) });
        (conclude(state, flow), request, connection)
    });
    let Some(status) = status else { return };
    // SAFETY: the request is alive until it is finalized here; the connection, which may be freed with it, is looked at by
    // nginx only if requests were posted to it.
    unsafe {
        let own = Request::new(request);
        refused::count(own, status);
        let status = own.answer(status);
        ffi::ngx_http_finalize_request(request, status.raw());
        ffi::ngx_http_run_posted_requests(connection);
    }
}

/// Ends a session at once: its worker exits.
fn terminate(session: SessionRef) {
    run(session, |state| {
        state.farewell();
        Flow::Break(SessionEnd::Dropped)
    });
}

/// Ends a session whose request is given back to nginx, by whoever calls: nothing refers to the request any more.
pub fn let_go(session: SessionRef) {
    enter(session, Session::release);
}

/// Gives `body` the session. What finalizes its request comes after.
pub fn enter<R>(session: SessionRef, body: impl FnOnce(&mut Session) -> R) -> R {
    // SAFETY: whoever is given a session, as the data of an event, on a list, by a context, is forgotten there when the session
    // is released, and its memory lives on until the request is freed, which is not inside of an event of the session. So the
    // session is there. nginx is single-threaded, and `running` tells that no other reference is on the stack.
    unsafe {
        debug_assert!(!(*session.as_ptr()).running, "the events of a session are handled inside of one another");
        let hosted = &mut *session.as_ptr();
        hosted.running = true;
        let result = body(&mut hosted.session);
        hosted.running = false;
        result
    }
}

/// What the request is to be finalized with, if it is: then everything but the memory is let go before.
fn conclude(session: &mut Session, flow: Flow) -> Option<Status> {
    let status = match session.conclude(flow)? {
        SessionEnd::Refused(HttpStatus(status)) => Status::http(status),
        SessionEnd::Finished => Status::OK,
        SessionEnd::Dropped => Status::ERROR,
    };
    guard((), || session.release());
    Some(status)
}

/// The status of a refusal, of one that is known to be a status of HTTP.
pub fn refusal(status: Status) -> HttpStatus {
    let answer = status.answer().filter(|status| (400..600).contains(status));
    debug_assert!(answer.is_some(), "{status:?} does not refuse");
    answer.map_or(HttpStatus::INTERNAL, HttpStatus)
}

/// The client can be read or written.
unsafe extern "C" fn on_client(request: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request.
    let session = unsafe { Request::new(request) }.existing_context().and_then(of);
    if let Some(session) = session {
        run(session, Session::pump);
    }
}

/// The time is up, or the session had asked for another turn.
unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    // SAFETY: the owner of the timer is the session, which removes it before it is freed.
    if let Some(session) = unsafe { timer::owner::<Hosted>(event) } {
        run(session, Session::on_time);
    }
}

/// Something of the endpoint is ready. For connections whose data is the session.
pub unsafe extern "C" fn on_endpoint(event: *mut ffi::ngx_event_t) {
    // SAFETY: the event of a connection has the connection as its data, and that the session, which owns the connection.
    let (connection, session) = unsafe {
        let connection = (*event).data.cast::<ffi::ngx_connection_t>();
        (connection, NonNull::new((*connection).data.cast::<Hosted>()))
    };
    // SAFETY: the connection is alive. When the worker is being shut down nginx marks every connection; the client's own
    // mark, before or after this one, ends the session.
    if unsafe { (*connection).close() } != 0 {
        return;
    }
    if let Some(session) = session {
        run(session, Session::pump);
    }
}

/// The request is being freed, with or without the session's doing.
unsafe extern "C" fn on_cleanup(data: *mut c_void) {
    guard((), || {
        let hosted = data.cast::<Hosted>();
        // SAFETY: create() has written a session there, which nobody refers to but this: no event of it is being handled, and the
        // cleanup of a request runs once. The memory is that of the request's pool.
        unsafe {
            debug_assert!(!(*hosted).running, "a session is freed by its own event");
            (*hosted).session.farewell();
            (*hosted).session.release();
            hosted.drop_in_place();
        }
    });
}
