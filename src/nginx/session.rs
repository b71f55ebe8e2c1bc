//! One WebSocket: a client, an endpoint, and what is between them.
//!
//! A session is made when an upgrade is accepted, waits for its endpoint, answers 101, and from then on is driven by
//! events of the client, of the endpoint and of its timer. Each of them calls [`run`]: the session does what can be done,
//! and returns a verdict that is acted on after the last reference to the session is gone.

mod account;
mod ahead;
mod context;
mod deadlines;
mod direct;
mod linger;
mod pump;

use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};

use account::Account;
use ahead::Ahead;
pub use context::Context;
use deadlines::Deadlines;
pub use direct::Direct;
use direct::Passed;

use super::channel::hub::Listener;
use super::client::Client;
use super::endpoint::{Aftermath, Ending, Endpoint, Input};
use super::ffi;
use super::guard::guard;
use super::hold::{self, Holder};
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
    /// Nothing more is read or sent: the end of the program that was left is waited for until this time, so that the log
    /// can tell of it.
    Parting { verdict: Verdict, until: u64 },
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
    /// It ends in order: nothing is left to be said.
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
    /// Octets of the client that were not looked at yet.
    unparsed: Vec<u8>,
    /// Messages of the client that the endpoint could not take yet.
    ahead: Ahead,
    /// The program that was left.
    aftermath: Option<Aftermath>,
    /// The endpoint got something that it may still answer.
    answers_due: bool,
    /// Octets of Pongs that were queued while the output was over its limit.
    pongs_beyond: usize,
    /// The client's Close has come.
    client_closed: bool,
    /// How it will end once the endpoint has had its grace.
    planned: Option<Ending>,
    deadlines: Deadlines,
    timer: Timer,
    account: Account,
    /// Its place in the worker's list, as long as it is on it.
    place: Option<usize>,
    /// One of its events is being handled.
    ///
    /// Invariant: the events of a session are never handled inside of one another. Those of others may be: what a session
    /// does may wake a subscriber of its channel, or another client of its program, which may end it.
    running: bool,
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
        ahead: Ahead::default(),
        aftermath: None,
        answers_due: false,
        pongs_beyond: 0,
        client_closed: false,
        planned: None,
        deadlines: Deadlines::new(settings),
        timer: Timer::new(on_timer, ptr::null_mut(), request.log()),
        account: Account::default(),
        place: None,
        running: false,
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
        state.place = Some(worker::enlist(Listener::Session(session)));
        hold::take(&mut *context.as_ptr(), Holder::Session(session));
        Ok(session)
    }
}

/// Gives the session its endpoint, which is still starting. Called from the content handler that made it.
pub fn attach(session: SessionRef, endpoint: Box<dyn Endpoint>) {
    enter(session, |state| {
        state.endpoint = Some(endpoint);
        state.deadlines.wait(&mut state.timer);
        hold::watch_client(state.request);
    });
}

/// Begins a session whose endpoint has nothing to wait for. Called from the content handler that made it.
///
/// # Errors
///
/// What the content handler returns then.
pub fn open(session: SessionRef) -> Result<(), isize> {
    enter(session, |state| {
        let verdict = guard(Verdict::Drop, || state.opened());
        state.conclude(verdict).map_or(Ok(()), Err)
    })
}

/// Changes a session and acts on the verdict. The session may be gone when this returns, and the request somebody else's.
pub fn run(session: SessionRef, body: impl FnOnce(&mut Session) -> Verdict) {
    let (status, request, connection) = enter(session, |state| {
        let (request, connection) = (state.request.raw(), state.client.connection());
        let verdict = guard(Verdict::Drop, || if state.stage == Stage::Over { Verdict::Continue } else { body(state) });
        (state.conclude(verdict), request, connection)
    });
    let Some(status) = status else { return };
    // SAFETY: the request is alive until it is finalized here; the connection, which may be freed with it, is looked at by
    // nginx only if requests were posted to it.
    unsafe {
        let status = ffi::ngx_ws_request_answer(request, status);
        ffi::ngx_http_finalize_request(request, status);
        ffi::ngx_http_run_posted_requests(connection);
    }
}

/// Ends a session at once: its worker exits.
pub fn terminate(session: SessionRef) {
    run(session, |state| {
        state.farewell();
        Verdict::Drop
    });
}

/// Ends a session whose request is given back to nginx, by whoever calls: nothing refers to the request any more.
pub fn let_go(session: SessionRef) {
    enter(session, Session::release);
}

/// Gives `body` the session. What finalizes its request comes after.
fn enter<R>(session: SessionRef, body: impl FnOnce(&mut Session) -> R) -> R {
    // SAFETY: whoever is given a session, as the data of an event, on a list, by a context, is forgotten there when the session
    // is released, and its memory lives on until the request is freed, which is not inside of an event of the session. So the
    // session is there. nginx is single-threaded, and `running` tells that no other reference is on the stack.
    unsafe {
        debug_assert!(!(*session.as_ptr()).running, "the events of a session are handled inside of one another");
        let state = &mut *session.as_ptr();
        state.running = true;
        let result = body(state);
        state.running = false;
        result
    }
}

impl Session {
    /// What the request is to be finalized with, if it is: then everything but the memory is let go before.
    fn conclude(&mut self, verdict: Verdict) -> Option<isize> {
        let status = match verdict {
            Verdict::Continue => {
                self.count();
                return None;
            }
            Verdict::Refuse(status) => status,
            Verdict::Finish => {
                self.linger();
                ffi::NGX_OK as isize
            }
            Verdict::Drop => ffi::NGX_ERROR as isize,
        };
        guard((), || self.release());
        Some(status)
    }

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
        if let Some(at) = worker::late_drain(self.request) {
            self.deadlines.timers().on_drain(at);
        }
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
    ///
    /// `terminal` is our side of its terminal, if it was to be given one by its spawner.
    pub fn program_started(&mut self, pid: i32, terminal: Option<OwnedFd>) -> Verdict {
        if let Some(endpoint) = &mut self.endpoint
            && let Err(status) = endpoint.attach(terminal)
        {
            return Verdict::Refuse(status);
        }
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

    /// Gives back what the session holds, the request above all. The program is told that its client is gone.
    fn release(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        let opened = self.stage != Stage::Starting;
        self.let_endpoint_go();
        self.stage = Stage::Over;
        if let Some(place) = self.place.take() {
            worker::discharge(place);
        }
        self.settle();
        let closed = self.ws.closed();
        let status = self.aftermath.take().and_then(|aftermath| {
            aftermath.waiting.set(None);
            aftermath.fate.status()
        });
        let context = self.context();
        context.closed = closed;
        context.ended = opened;
        context.exec_status = context.exec_status.or(status);
        // SAFETY: the context is in the pool of the request, which outlives the session.
        self.account.close(unsafe { self.context.as_ref() }, closed.as_ref());
        if !self.output.is_empty() {
            self.client.give_up();
        }
        self.output = Output::default();
        self.unparsed = Vec::new();
        self.timer.cancel();
        // SAFETY: the context is in the pool of the request, which outlives the session.
        hold::release(self.request, unsafe { self.context.as_mut() });
    }

    /// Says good-bye in the one write that is left: the worker or nginx's timer is taking the connection away.
    pub fn farewell(&mut self) {
        match self.stage {
            Stage::Open | Stage::Grace => {
                self.ws.close(CloseCode::GOING_AWAY, "", self.output.frames());
                self.output.flush(&mut self.client);
                self.client.discard_input();
            }
            Stage::Starting | Stage::Closing | Stage::Parting { .. } | Stage::Over => {}
        }
    }

    /// The endpoint gets what the client has sent and no more, and goes its own way.
    fn let_endpoint_go(&mut self) {
        let Some(mut endpoint) = self.endpoint.take() else { return };
        let input = self.input();
        while let Some(piece) = self.ahead.pop() {
            if endpoint.deliver(&piece.data()).is_err() {
                // What it cannot take has no other consequence now.
                self.ahead.clear();
            }
        }
        endpoint.flush();
        self.aftermath = endpoint.client_gone(input);
    }

    /// Whether there is more of the client than was looked at. After its Close, or a violation, nothing counts.
    fn input(&self) -> Input {
        let looks = self.ws.is_open() || self.ws.awaits_close();
        let left = looks && self.stage != Stage::Starting && (!self.unparsed.is_empty() || self.client.has_unread());
        if left { Input::Cut } else { Input::Whole }
    }

    fn report(&self, level: Level, text: std::fmt::Arguments<'_>) {
        self.request.report(level, text);
    }
}

/// The client can be read or written.
unsafe extern "C" fn on_client(request: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request.
    let session = unsafe { Request::new(request) }.existing_context().and_then(|context| context.session());
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
        debug_assert!(!session.running, "a session is freed by its own event");
        session.farewell();
        session.release();
    });
}
