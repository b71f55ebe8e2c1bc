// SPDX-License-Identifier: Apache-2.0

//! What a client's request asks of other locations of the server, on connections without a client.
//!
//! The request is copied, so that the copy may outlive it, and the location is asked in a later turn of the event loop: who
//! asks is never called back before it has returned. See `ngx/ngx_ws_detached.c` for what such a request is to nginx.
//!
//! An exchange waits, is on its way until the location has answered, and goes on after that as long as the location does something in
//! the background. So a location is to its clients what it is to `auth_request`: mirrors are served, and caches are updated.

mod exchanges;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;

use super::ffi;
use super::guard::{guard, guard_status};
use super::log::{self, Level, Octets};
use super::process_state;
use super::request::{Request, bytes, try_again};
use super::status::Status;
use super::template::ComplexValue;
use super::timer::{Timer, now};
use crate::channel::hook::{MOST_HOPS, hops};
use exchanges::{Exchange, ExchangeRef, Exchanges, Surplus, most_questions};

const UNAVAILABLE: u16 = ffi::NGX_HTTP_SERVICE_UNAVAILABLE as u16;

/// When so many of those wait, nobody is let in whose end would make another one.
const MOST_WAITING: usize = 8192;

/// Octets of an answer's body that nobody wants, before it is broken off.
const UNWANTED: usize = 64 << 10;

/// How often those that wait are looked after, in milliseconds.
const TICK: u64 = 1000;

/// How soon those that wait are looked after when there was no connection to be had, in milliseconds.
const LATER: u64 = 100;

/// How long a worker that is stopped at once goes on, in milliseconds: nginx's master does not wait for more than about a second.
const STOPPED: u64 = 500;

/// What is asked.
pub enum Question {
    /// What to do with a message of this type. An answer with 200 may be of so many octets.
    Message {
        /// Its `Content-Type`.
        content_type: Vec<u8>,
        /// The message.
        message: Rc<Vec<u8>>,
        /// Bound on the answer.
        limit: usize,
    },
    /// Whether something may be.
    Permission,
    /// Nothing: the location is told, and nobody awaits its answer.
    Notice,
}

/// What a location that refuses something says to whoever is refused, besides the status.
#[derive(Debug, Default, Clone)]
pub struct RefusalHeaders {
    /// `WWW-Authenticate`, which is for a 401 (RFC 9110, section 11.6.1).
    pub challenges: Vec<Vec<u8>>,
    /// `Retry-After`, which is for a 429 (RFC 6585, section 4) and a 503 (RFC 9110, section 10.2.3); empty if there is none.
    pub retry_after: Vec<u8>,
}

/// What a location has answered.
#[derive(Debug, Default)]
pub struct HookAnswer {
    /// `None` if there was no answer, or not all of it.
    pub status: Option<u16>,
    /// Its `Content-Type`.
    pub content_type: Vec<u8>,
    /// Its headers that go with a refusal.
    pub refusal: RefusalHeaders,
    /// Its body, if it was 200 and about a message.
    pub body: Vec<u8>,
    /// The message that it was asked about.
    pub message: Rc<Vec<u8>>,
}

/// Takes the answer, with the copy of the client's request if there is one on a connection.
pub type Done = Box<dyn FnOnce(HookAnswer, Option<Request<'_>>)>;

thread_local! {
    static EXCHANGES: RefCell<Option<Box<Exchanges>>> = const { RefCell::new(None) };
    static CLOSED: Cell<bool> = const { Cell::new(false) };
}

fn with<R>(step: impl FnOnce(&mut Exchanges) -> R) -> R {
    EXCHANGES.with_borrow_mut(|exchanges| {
        step(exchanges.get_or_insert_with(|| {
            Box::new(Exchanges {
                asked: VecDeque::new(),
                notices: VecDeque::new(),
                running: HashSet::new(),
                told: 0,
                answered: BTreeMap::new(),
                next_place: 0,
                turn: Timer::of_worker(on_turn),
                keep: Timer::of_worker(on_keep),
                kept: false,
            })
        }))
    })
}

/// Asks a location. `done` is called once, in a later turn of the event loop, unless there is an error.
///
/// # Errors
///
/// The status to answer, which was logged: the URI is none, the question goes round in a circle, the worker is too busy.
pub fn ask(request: Request<'_>, target: &ComplexValue, question: Question, done: Done) -> Result<(), Status> {
    let is_notice = matches!(question, Question::Notice);
    if CLOSED.get() || (!is_notice && is_overtime(now())) {
        return Err(try_again(request));
    }
    let most = most_questions();
    if !is_notice && with(|exchanges| exchanges.questions()) >= most {
        request.report(Level::Error, format_args!("{most} hooks have not answered yet, no other one is asked"));
        return Err(try_again(request));
    }
    let (content_type, message, limit) = match question {
        Question::Message { content_type, message, limit } => (content_type, Some(message), limit),
        Question::Permission | Question::Notice => (Vec::new(), None, 0),
    };
    let exchange = copy(request, target, &content_type, message, limit, done)?;
    begin(exchange, is_notice);
    Ok(())
}

/// Copies the request and what is asked with it.
fn copy(
    request: Request<'_>,
    target: &ComplexValue,
    content_type: &[u8],
    message: Option<Rc<Vec<u8>>>,
    limit: usize,
    done: Done,
) -> Result<ExchangeRef, Status> {
    let before = hops_before(request)?;
    let uri = target.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
    prepare(request, before + 1, uri, content_type, message, limit, done)
}

/// Lets an exchange begin in a later turn of the event loop.
fn begin(exchange: ExchangeRef, is_notice: bool) {
    with(|exchanges| {
        // SAFETY: it was prepared and not started: nobody else holds it.
        unsafe {
            (*exchange.as_ptr()).is_notice = is_notice;
            (*exchange.as_ptr()).begun = now();
        }
        if is_notice { &mut exchanges.notices } else { &mut exchanges.asked }.push_back(exchange);
        exchanges.turn.post_next();
        exchanges.stay(TICK);
    });
}

/// A notice that can be sent when the request that it tells of is not there any more. It is sent, or nobody hears of it.
pub struct PreparedNotice(Option<ExchangeRef>);

impl PreparedNotice {
    /// Tells a location of this request, later.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged: as with [`ask`].
    pub fn of(request: Request<'_>, target: &ComplexValue) -> Result<Self, Status> {
        if CLOSED.get() {
            return Err(try_again(request));
        }
        copy(request, target, &[], None, 0, Box::new(|_, _| {})).map(|exchange| PreparedNotice(Some(exchange)))
    }

    /// Sends it.
    pub fn send(mut self) {
        if !CLOSED.get()
            && let Some(exchange) = self.0.take()
        {
            begin(exchange, true);
        }
    }
}

impl Drop for PreparedNotice {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            // SAFETY: the exchange was prepared and never started: who starts it takes it out of here.
            unsafe { ffi::ngx_ws_detached_discard((*exchange.as_ptr()).detached.as_ptr()) };
        }
    }
}

/// Whether nginx has ended every client of a worker that was told to go.
fn is_overtime(now: u64) -> bool {
    process_state::clients_end().is_some_and(|by| now >= by)
}

/// Whether a location can be told later that this request has ended.
///
/// # Errors
///
/// The status to answer, which was logged: as with [`ask`].
pub fn can_notify(request: Request<'_>, target: &ComplexValue) -> Result<(), Status> {
    if CLOSED.get() || with(|exchanges| exchanges.notices.len()) >= MOST_WAITING {
        return Err(try_again(request));
    }
    hops_before(request)?;
    let uri = target.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
    let mut text = ffi::ngx_str_t { len: uri.len(), data: uri.as_ptr().cast_mut() };
    // SAFETY: the request is alive; the text is only read.
    if unsafe { ffi::ngx_ws_detached_can_ask(request.raw(), &raw mut text) } != Status::OK {
        return Err(no_target(request, uri));
    }
    Ok(())
}

/// How many hooks a request has come through.
fn hops_before(request: Request<'_>) -> Result<u32, Status> {
    hops(request.header(b"x-websocket-hops")).filter(|&hops| hops < MOST_HOPS).ok_or_else(|| {
        request.report(Level::Error, format_args!("a hook is asked because of itself more than {MOST_HOPS} times"));
        Status::LOOP_DETECTED
    })
}

fn no_target(request: Request<'_>, uri: &[u8]) -> Status {
    let uri = Octets(uri);
    request.report(Level::Error, format_args!("a hook cannot be asked at \"{uri}\""));
    Status::INTERNAL_SERVER_ERROR
}

/// Copies the request and what is asked with it.
fn prepare(
    request: Request<'_>,
    hops: u32,
    uri: &[u8],
    content_type: &[u8],
    message: Option<Rc<Vec<u8>>>,
    limit: usize,
    done: Done,
) -> Result<ExchangeRef, Status> {
    let text = |octets: &[u8]| ffi::ngx_str_t { len: octets.len(), data: octets.as_ptr().cast_mut() };
    let hops = hops.to_string();
    let (mut hops, mut content_type) = (text(hops.as_bytes()), text(content_type));
    let has_message = message.is_some();
    // SAFETY: the request is alive and copied; the texts are only read. The exchange is freed by the cleanup of the copy's
    // pool, which is the last to look at the message.
    unsafe {
        let detached =
            ffi::ngx_ws_detached_create(request.raw(), &raw mut hops, &raw mut content_type, usize::from(has_message));
        let detached = NonNull::new(detached).ok_or(Status::INTERNAL_SERVER_ERROR)?;
        let exchange = Box::new(Exchange {
            detached,
            done: Some(done),
            message: message.unwrap_or_default(),
            body: Vec::new(),
            limit,
            unwanted: 0,
            too_large: false,
            is_notice: false,
            begun: now(),
            place: None,
        });
        let mut target = text(uri);
        let copy = Request::new(ffi::ngx_ws_detached_request(detached.as_ptr()));
        if let (Some(known), Some(context)) = (request.existing_context(), copy.context()) {
            known.tell(context);
        }
        let ready = if ffi::ngx_ws_detached_target(detached.as_ptr(), &raw mut target) != Status::OK {
            no_target(request, uri);
            false
        } else {
            !has_message
                || ffi::ngx_ws_detached_message(
                    detached.as_ptr(),
                    exchange.message.as_ptr().cast_mut(),
                    exchange.message.len(),
                ) == Status::OK
        };
        let exchange = NonNull::from(Box::leak(exchange));
        let data = exchange.as_ptr().cast::<c_void>();
        if !ready || ffi::ngx_ws_detached_on_free(detached.as_ptr(), Some(on_free), data) != Status::OK {
            drop(Box::from_raw(exchange.as_ptr()));
            ffi::ngx_ws_detached_discard(detached.as_ptr());
            return Err(Status::INTERNAL_SERVER_ERROR);
        }
        ffi::ngx_ws_detached_callbacks(detached.as_ptr(), Some(on_octets), Some(on_done), Some(on_leave), data);
        Ok(exchange)
    }
}

/// Lets those begin that wait.
fn turn() {
    give_up(|exchanges| exchanges.surplus(now()));
    while let Some(exchange) = with(Exchanges::next) {
        // SAFETY: the exchange lives until its request is freed, which it is not before it has been started or discarded.
        let (detached, is_notice) = unsafe { ((*exchange.as_ptr()).detached, (*exchange.as_ptr()).is_notice) };
        // SAFETY: prepared, and not started yet. The exchange may be gone afterwards.
        if unsafe { ffi::ngx_ws_detached_start(detached.as_ptr()) } == Status::OK {
            continue;
        }
        if is_notice {
            with(|exchanges| {
                exchanges.running.remove(&exchange);
                exchanges.told -= 1;
                exchanges.notices.push_front(exchange);
                exchanges.keep.disarm();
                exchanges.kept = false;
                exchanges.stay(LATER);
            });
            return;
        }
        log::cycle(Level::Error, format_args!("ws_exec: no connections left to ask a hook"));
        answer(exchange, None, Some(UNAVAILABLE));
        // SAFETY: it was not started, and nobody refers to it any more.
        unsafe { ffi::ngx_ws_detached_discard(detached.as_ptr()) };
    }
}

/// Tells who has asked. The exchange itself lives as long as its request.
fn answer(mut exchange: ExchangeRef, request: Option<Request<'_>>, status: Option<u16>) {
    // SAFETY: the exchange is alive; what is called here does not hold it.
    let state = unsafe { exchange.as_mut() };
    let done = state.done.take();
    let is_notice = state.is_notice;
    if state.too_large {
        let limit = state.limit;
        log::cycle(Level::Error, format_args!("ws_exec: the answer of a hook has more than {limit} octets"));
    }
    // SAFETY: the request is alive, and its subrequest's headers with it.
    let (content_type, refusal) = unsafe {
        let mut challenges = Vec::new();
        let mut header = ffi::ngx_ws_detached_www_authenticate(state.detached.as_ptr());
        while let Some(challenge) = header.as_ref() {
            challenges.push(bytes(&challenge.value).to_vec());
            header = ffi::ngx_ws_detached_next_header(challenge);
        }
        let retry_after = bytes(&ffi::ngx_ws_detached_retry_after(state.detached.as_ptr())).to_vec();
        let content_type = bytes(&ffi::ngx_ws_detached_content_type(state.detached.as_ptr())).to_vec();
        (content_type, RefusalHeaders { challenges, retry_after })
    };
    let body = std::mem::take(&mut state.body);
    let message = Rc::clone(&state.message);
    state.place = with(|exchanges| exchanges.finished(exchange, is_notice));
    if let Some(done) = done {
        done(HookAnswer { status, content_type, refusal, body, message }, request);
    }
}

/// Ends exchanges that have begun, and drops those that have not.
fn give_up(choose: impl FnOnce(&mut Exchanges) -> Surplus) {
    let Surplus { running, answered, waiting } = with(choose);
    let count = running.len() + answered.len() + waiting.len();
    if count > 0 {
        let why = match CLOSED.get() || process_state::clients_end().is_some() {
            true => "the worker leaves",
            false => "there are too many, or they take too long",
        };
        log::cycle(Level::Warn, format_args!("ws_exec: {count} requests to hooks were given up: {why}"));
    }
    let abort = |exchange: ExchangeRef| {
        // SAFETY: the exchange is in the list: its request was started and is alive. Both are gone after this.
        unsafe { ffi::ngx_ws_detached_abort((*exchange.as_ptr()).detached.as_ptr(), usize::from(UNAVAILABLE)) };
    };
    // One that ends may bring about that others do.
    for exchange in running {
        if with(|exchanges| exchanges.running.contains(&exchange)) {
            abort(exchange);
        }
    }
    for place in answered {
        if let Some(answered) = with(|exchanges| exchanges.answered.get(&place).copied()) {
            abort(answered.exchange);
        }
    }
    for exchange in waiting {
        // SAFETY: the exchange was never started: it was on the list of those that wait, and is on none now.
        unsafe { ffi::ngx_ws_detached_discard((*exchange.as_ptr()).detached.as_ptr()) };
    }
}

/// The worker leaves now. What nobody awaits gets a last chance, and everything else ends.
pub fn exit() {
    if EXCHANGES.with_borrow(|exchanges| exchanges.is_none()) {
        return;
    }
    CLOSED.set(true);
    let asked: Vec<ExchangeRef> = with(|exchanges| exchanges.asked.drain(..).collect());
    for exchange in asked {
        // SAFETY: the exchange was never started: it was on the list of those that wait, and is on none now.
        unsafe { ffi::ngx_ws_detached_discard((*exchange.as_ptr()).detached.as_ptr()) };
    }
    if with(|exchanges| exchanges.has_notices()) {
        // SAFETY: the worker exits and takes no more clients: nothing needs the listening sockets.
        unsafe { ffi::ngx_ws_close_listening() };
    }
    let until = now() + STOPPED;
    while with(|exchanges| exchanges.has_notices()) && now() < until {
        turn();
        with(|exchanges| {
            exchanges.keep.disarm();
            exchanges.keep.arm(LATER);
        });
        if with(|exchanges| exchanges.has_notices()) {
            // SAFETY: called from exit_process, outside of any event handler.
            unsafe { ffi::ngx_ws_serve_once() };
        }
    }
    give_up(|exchanges| Surplus {
        running: exchanges.running.iter().copied().collect(),
        answered: exchanges.answered.keys().copied().collect(),
        waiting: exchanges.notices.drain(..).collect(),
    });
    EXCHANGES.take();
}

/// Some of the body of an answer is there.
unsafe extern "C" fn on_octets(data: *mut c_void, status: usize, octets: *const u8, len: usize) -> ffi::ngx_int_t {
    guard_status(Status::ERROR, || {
        // SAFETY: data is the exchange, which lives as long as its request; the octets are those of a buffer.
        let (exchange, octets) = unsafe { (&mut *data.cast::<Exchange>(), std::slice::from_raw_parts(octets, len)) };
        if status != ffi::NGX_HTTP_OK as usize {
            exchange.unwanted = exchange.unwanted.saturating_add(len);
            return if exchange.unwanted > UNWANTED { Status::ERROR } else { Status::OK };
        }
        if exchange.limit - exchange.body.len() < len {
            exchange.too_large = true;
            return Status::ERROR;
        }
        if exchange.body.try_reserve(len).is_err() {
            return Status::ERROR;
        }
        exchange.body.extend_from_slice(octets);
        Status::OK
    })
}

/// The location has answered, or never will.
unsafe extern "C" fn on_done(data: *mut c_void) {
    guard((), || {
        let Some(exchange) = NonNull::new(data.cast::<Exchange>()) else { return };
        // SAFETY: nginx calls while the request is alive.
        let (request, status) = unsafe {
            let detached = exchange.as_ref().detached.as_ptr();
            (Request::new(ffi::ngx_ws_detached_request(detached)), ffi::ngx_ws_detached_status(detached))
        };
        answer(exchange, Some(request), u16::try_from(status).ok().filter(|&status| status != 0));
    });
}

/// The time is over that `worker_shutdown_timeout` leaves to clients.
unsafe extern "C" fn on_leave(_: *mut c_void) {
    guard((), || with(|exchanges| exchanges.turn.post_next()));
}

/// The pool of the request goes.
unsafe extern "C" fn on_free(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer was leaked by prepare(), and a cleanup runs once.
        let exchange = unsafe { Box::from_raw(data.cast::<Exchange>()) };
        // The last of them may be freed when the worker has ended.
        EXCHANGES.with_borrow_mut(|exchanges| {
            if let Some(exchanges) = exchanges {
                debug_assert!(!exchanges.running.contains(&NonNull::from(&*exchange)), "it was answered before");
                exchanges.freed(exchange.place);
            }
        });
    });
}

unsafe extern "C" fn on_turn(_: *mut ffi::ngx_event_t) {
    guard((), turn);
}

unsafe extern "C" fn on_keep(_: *mut ffi::ngx_event_t) {
    guard((), || {
        with(|exchanges| {
            exchanges.keep.take_expired();
            exchanges.kept = false;
        });
        turn();
        with(|exchanges| {
            if !exchanges.is_idle() {
                exchanges.stay(TICK);
            }
        });
    });
}
