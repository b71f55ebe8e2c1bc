//! One WebSocket: a client, an endpoint, and what is between them.
//!
//! A session is made when an upgrade is accepted, waits for its endpoint, answers 101, and from then on is driven by
//! events of the client, of the endpoint and of its timer. Each of them calls [`run`]: the session does what can be done,
//! and returns a verdict that is acted on after the last reference to the session is gone.

mod account;
mod context;
mod deadlines;
mod direct;
mod pump;

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use account::Account;
pub use context::Context;
use deadlines::Deadlines;
pub use direct::Direct;
use direct::Passed;

use super::channel::hub::Listener;
use super::client::Client;
use super::endpoint::{Ending, Endpoint};
use super::ffi;
use super::guard::guard;
use super::log::Level;
use super::output::Output;
use super::request::Request;
use super::timer::{self, Timer};
use super::upgrade::Acceptance;
use super::worker;
use crate::ws::close::CloseCode;
use crate::ws::connection::{Connection, Limits};

/// A session, wherever its events arrive.
pub type SessionRef = NonNull<Session>;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The endpoint is being started; nothing was answered yet.
    Starting,
    /// Messages go both ways.
    Open,
    /// The client sent what nobody takes; the endpoint's answers to what came before it still leave.
    Grace,
    /// A Close went out, or came in; what is queued is sent, and the peer's Close awaited.
    Closing,
    /// Nothing of the session is left but its memory.
    Over,
}

/// What is to happen to the request, once nobody holds the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It lives on.
    Continue,
    /// It was refused before the 101, with this status.
    Refuse(isize),
    /// It ends. What the client still sends is read and dropped until it closes too: closing with unread octets would
    /// reset the connection under our last frames.
    Finish,
    /// The connection is broken or not worth a good-bye.
    Drop,
}

/// The state of one WebSocket.
pub struct Session {
    request: Request,
    context: NonNull<Context>,
    client: Client,
    ws: Connection,
    acceptance: Option<Box<Acceptance>>,
    stage: Stage,
    endpoint: Option<Box<dyn Endpoint>>,
    output: Output,
    /// What went out by the short way.
    passed: Passed,
    /// Octets of the client that the endpoint could not take yet.
    unparsed: Vec<u8>,
    /// The endpoint got something that it may still answer.
    answers_due: bool,
    /// Octets of Pongs that were queued while the output was over its limit.
    pongs_beyond: usize,
    /// How it will end once the endpoint has had its grace.
    planned: Option<Ending>,
    deadlines: Deadlines,
    timer: Timer,
    account: Account,
    /// Its place in the worker's list.
    place: usize,
}

/// Makes a session for a request and gives it to the pool of the request. The endpoint is attached with [`attach`].
///
/// # Errors
///
/// The status to answer: there is no memory.
pub fn create(request: Request, acceptance: Acceptance) -> Result<SessionRef, isize> {
    const NO_MEMORY: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
    let context = NonNull::from(request.context().ok_or(NO_MEMORY)?);
    let settings = request.settings();
    let limits = Limits {
        message: settings.max_message_size(),
        frame: settings.max_frame_size(),
        fragment_size: settings.fragment_size(),
        ..Limits::default()
    };
    let session = Box::new(Session {
        request,
        context,
        client: Client::new(request),
        ws: Connection::with(limits, acceptance.deflate),
        acceptance: Some(Box::new(acceptance)),
        stage: Stage::Starting,
        endpoint: None,
        output: Output::default(),
        passed: Passed::default(),
        unparsed: Vec::new(),
        answers_due: false,
        pongs_beyond: 0,
        planned: None,
        deadlines: Deadlines::new(settings),
        timer: Timer::new(on_timer, ptr::null_mut(), request.log()),
        account: Account::default(),
        place: usize::MAX,
    });
    // SAFETY: the request is alive; its cleanup frees the box, once.
    unsafe {
        let cleanup = ffi::ngx_http_cleanup_add(request.raw(), 0);
        if cleanup.is_null() {
            return Err(NO_MEMORY);
        }
        let session = NonNull::from(Box::leak(session));
        (*cleanup).handler = Some(on_cleanup);
        (*cleanup).data = session.as_ptr().cast();
        let state = &mut *session.as_ptr();
        state.timer.set_owner(session.as_ptr().cast());
        state.place = worker::enlist(Listener::Session(session));
        (*context.as_ptr()).session = Some(session);
        Ok(session)
    }
}

/// Gives the session its endpoint, which is still starting. The request stays alive until the session ends.
pub fn attach(session: SessionRef, endpoint: Box<dyn Endpoint>) {
    // SAFETY: called from the content handler that made the session; nobody else holds it.
    let state = unsafe { &mut *session.as_ptr() };
    state.endpoint = Some(endpoint);
    let request = state.request.raw();
    // SAFETY: while nothing was answered, nginx's own handler notices a client that goes away.
    unsafe {
        (*request).read_event_handler = Some(ffi::ngx_http_test_reading);
        ffi::ngx_ws_request_hold(request);
    }
}

/// Begins a session whose endpoint has nothing to wait for. Called from the content handler that made it.
///
/// # Errors
///
/// What the content handler returns then.
pub fn open(session: SessionRef) -> Result<(), isize> {
    // SAFETY: as in attach().
    let state = unsafe { &mut *session.as_ptr() };
    let request = state.request.raw();
    let verdict = guard(Verdict::Drop, || state.opened());
    conclude(state, verdict);
    match verdict {
        Verdict::Continue => Ok(()),
        Verdict::Refuse(status) => Err(status),
        Verdict::Drop => Err(ffi::NGX_ERROR as isize),
        Verdict::Finish => {
            // SAFETY: the request is alive, and stays so: attach() holds it, and the content handler does.
            unsafe {
                ffi::ngx_ws_request_set_lingering(request);
                ffi::ngx_http_finalize_request(request, ffi::NGX_DONE as isize);
            }
            Ok(())
        }
    }
}

/// Changes a session and acts on the verdict. The session may be gone when this returns.
pub fn run(session: SessionRef, body: impl FnOnce(&mut Session) -> Verdict) {
    // SAFETY: events are only delivered to sessions whose cleanup has not run; nginx is single-threaded and no handler
    // of a session calls another one, so this is the only reference.
    let state = unsafe { &mut *session.as_ptr() };
    let request = state.request.raw();
    let connection = state.client.connection();
    let verdict = guard(Verdict::Drop, || if state.stage == Stage::Over { Verdict::Continue } else { body(state) });
    conclude(state, verdict);
    if verdict == Verdict::Continue {
        return;
    }
    // SAFETY: the request is alive until it is finalized here; the connection, which may be freed with it, is looked at by
    // nginx only if requests were posted to it.
    unsafe {
        let status = match verdict {
            Verdict::Continue => return,
            Verdict::Refuse(status) => ffi::ngx_ws_request_answer(request, status),
            Verdict::Finish => {
                ffi::ngx_ws_request_set_lingering(request);
                ffi::NGX_DONE as isize
            }
            Verdict::Drop => ffi::NGX_ERROR as isize,
        };
        ffi::ngx_http_finalize_request(request, status);
        ffi::ngx_http_run_posted_requests(connection);
    }
}

/// Ends a session at once: its worker exits. Sessions that are over but whose client has not closed yet end as well.
pub fn terminate(session: SessionRef) {
    // SAFETY: as in run(): the session is on the list of the worker until its cleanup, and nobody else holds it.
    let state = unsafe { &mut *session.as_ptr() };
    let (request, connection) = (state.request.raw(), state.client.connection());
    guard((), || {
        state.farewell();
        state.release();
    });
    // SAFETY: the request is alive; both are gone after this.
    unsafe {
        ffi::ngx_http_finalize_request(request, ffi::NGX_ERROR as isize);
        ffi::ngx_http_run_posted_requests(connection);
    }
}

/// Lets go of everything but the memory, before the request is finalized; counts what has passed.
fn conclude(session: &mut Session, verdict: Verdict) {
    if verdict != Verdict::Continue {
        session.release();
    } else {
        session.count();
    }
}

impl Session {
    fn context(&mut self) -> &mut Context {
        // SAFETY: the context is in the pool of the request, which outlives the session.
        unsafe { self.context.as_mut() }
    }

    /// The endpoint has started: answers 101 and begins.
    pub fn opened(&mut self) -> Verdict {
        let Some(acceptance) = self.acceptance.take() else { return Verdict::Continue };
        if !acceptance.answer(self.request) {
            return Verdict::Drop;
        }
        self.stage = Stage::Open;
        self.passed.figures = self.account.open(self.request.settings().key);
        self.take_early_octets();
        let request = self.request.raw();
        // SAFETY: the request is alive and from now on driven by the session.
        unsafe {
            (*request).read_event_handler = Some(on_client);
            (*request).write_event_handler = Some(on_client);
            if ffi::ngx_ws_tcp_nodelay(self.client.connection()) != ffi::NGX_OK as isize {
                return Verdict::Drop;
            }
        }
        self.pump()
    }

    /// The program of this session runs.
    pub fn program_started(&mut self, pid: i32) -> Verdict {
        self.context().exec_pid = Some(pid);
        self.opened()
    }

    /// The window that compressed messages for several sessions must keep to; none where nothing is compressed.
    pub fn shared_window(&self) -> Option<u8> {
        self.ws.shared_window()
    }

    /// The request that it belongs to.
    pub fn request(&self) -> Request {
        self.request
    }

    /// The endpoint could not be started.
    pub fn refused(&mut self, status: isize) -> Verdict {
        Verdict::Refuse(status)
    }

    /// The endpoint is gone without a word.
    pub fn endpoint_lost(&mut self, reason: &str) -> Verdict {
        if self.stage == Stage::Starting {
            return Verdict::Refuse(ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize);
        }
        self.begin_close(CloseCode::INTERNAL, reason);
        self.endpoint = None;
        self.pump()
    }

    /// Octets that came in one segment with the head are the first frames.
    fn take_early_octets(&mut self) {
        // SAFETY: pos and last bound the unread part of the header buffer.
        unsafe {
            let buffer = &mut *(*self.request.raw()).header_in;
            let length = buffer.last.offset_from(buffer.pos);
            if let Ok(length @ 1..) = usize::try_from(length) {
                self.unparsed.extend_from_slice(std::slice::from_raw_parts(buffer.pos, length));
                buffer.pos = buffer.last;
            }
        }
    }

    /// Lets the location's figures know what has passed.
    fn count(&mut self) {
        self.settle();
        // SAFETY: the context is in the pool of the request, which outlives the session.
        self.account.settle(unsafe { self.context.as_ref() });
    }

    /// Gives back what the session holds. The program is told that its client is gone.
    fn release(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        self.stage = Stage::Over;
        self.settle();
        let closed = self.ws.closed();
        self.context().closed = closed;
        // SAFETY: the context is in the pool of the request, which outlives the session.
        self.account.close(unsafe { self.context.as_ref() }, closed.as_ref());
        if let Some(mut endpoint) = self.endpoint.take() {
            endpoint.client_gone();
        }
        if !self.output.is_empty() {
            self.client.give_up();
        }
        self.output = Output::default();
        self.unparsed = Vec::new();
        self.timer.disarm();
    }

    /// Says good-bye in the one write that is left: the worker or nginx's timer is taking the connection away.
    pub fn farewell(&mut self) {
        match self.stage {
            Stage::Open | Stage::Grace => {
                self.ws.close(CloseCode::GOING_AWAY, "", self.output.frames());
                self.output.flush(&mut self.client);
                self.client.discard_input();
            }
            Stage::Starting | Stage::Closing | Stage::Over => {}
        }
    }

    fn report(&self, level: Level, text: std::fmt::Arguments<'_>) {
        self.request.report(level, text);
    }
}

/// The client can be read or written.
unsafe extern "C" fn on_client(request: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request.
    let session = unsafe { Request::new(request) }.existing_context().and_then(|context| context.session);
    if let Some(session) = session {
        run(session, Session::pump);
    }
}

/// The time is up, or the session had asked for another turn.
unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    // SAFETY: the owner of the timer is the session, which removes it before it is freed.
    if let Some(session) = unsafe { timer::owner::<Session>(event) } {
        run(session, Session::on_time);
    }
}

/// Something of the endpoint is ready. For connections whose data is the session.
pub unsafe extern "C" fn on_endpoint(event: *mut ffi::ngx_event_t) {
    // SAFETY: the event of a connection has the connection as its data, and that the session, which owns the connection.
    let (connection, session) = unsafe {
        let connection = (*event).data.cast::<ffi::ngx_connection_t>();
        (connection, NonNull::new((*connection).data.cast::<Session>()))
    };
    // SAFETY: the connection is alive. When the worker is being shut down nginx marks every connection; the client's own
    // mark, before or after this one, ends the session.
    if unsafe { ffi::ngx_ws_connection_close_requested(connection) } != 0 {
        return;
    }
    if let Some(session) = session {
        run(session, Session::pump);
    }
}

/// The request is being freed, with or without the session's doing.
unsafe extern "C" fn on_cleanup(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer was leaked by create(), and the cleanup of a request runs once.
        let mut session = unsafe { Box::from_raw(data.cast::<Session>()) };
        session.farewell();
        session.release();
        worker::discharge(session.place);
        session.context().session = None;
    });
}
