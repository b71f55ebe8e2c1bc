// SPDX-License-Identifier: Apache-2.0

//! What a client's request asks of other locations of the server, on connections without a client.
//!
//! The request is copied, so that the copy may outlive it, and the location is asked in a later turn of the event loop: who
//! asks is never called back before it has returned. See `ngx/ngx_ws_detached.c` for what such a request is to nginx.
//!
//! An errand waits, is on its way until the location has answered, and goes on after that as long as the location does something in
//! the background. So a location is to its clients what it is to `auth_request`: mirrors are served, and caches are updated.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;

use super::ffi;
use super::guard::guard;
use super::log::{self, Level, Octets};
use super::request::{Request, bytes, try_again};
use super::template::ComplexValue;
use super::timer::{Timer, now};
use crate::channel::hook::{MOST_HOPS, hops};

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

const UNAVAILABLE: u16 = ffi::NGX_HTTP_SERVICE_UNAVAILABLE as u16;

/// A hook was asked because of itself (RFC 5842, section 7.2).
const LOOP_DETECTED: isize = 508;

/// Requests of which nobody awaits the answer: so many are on their way at once, the others wait for them.
const MOST_TOLD: usize = 128;

/// When so many of those wait, nobody is let in whose end would make another one.
const MOST_WAITING: usize = 8192;

/// Of this share of a worker's connections each may belong to a question, or to what a location does in the background when
/// it has answered one. Each takes another connection to the server that it is passed to, and goes on without its client: half
/// of the connections are left to clients, however slow hooks are.
const SHARE: usize = 4;

/// How long a location may go on in the background when it has answered, in milliseconds. nginx would wait for ever for one
/// that `limit_req` delays.
const LONGEST: u64 = 600_000;

/// Octets of an answer's body that nobody wants, before it is broken off.
const UNWANTED: usize = 64 << 10;

/// How often those that wait are looked after, in milliseconds.
const TICK: u64 = 1000;

/// The same when there was no connection to be had.
const LATER: u64 = 100;

/// How often while there is a time by which the worker is to have left.
const OFTEN: u64 = 200;

/// How long a worker that leaves goes on with what nobody awaits, in milliseconds.
const LAST_CHANCE: u64 = 5000;

/// The same after `worker_shutdown_timeout`, which ends every client, so that many of them leave at that moment.
const OVERTIME: u64 = 1500;

/// The same when the worker is stopped at once: nginx's master does not wait for more than about a second.
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

/// What a location has answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// `None` if there was no answer, or not all of it.
    pub status: Option<u16>,
    /// Its `Content-Type`.
    pub content_type: Vec<u8>,
    /// Its `WWW-Authenticate` headers.
    pub challenges: Vec<Vec<u8>>,
    /// Its body, if it was 200 and about a message.
    pub body: Vec<u8>,
    /// The message that it was asked about.
    pub message: Rc<Vec<u8>>,
}

/// Takes the answer, with the copy of the client's request if there is one on a connection.
pub type Done = Box<dyn FnOnce(Answer, Option<Request>)>;

/// One request on its way.
struct Errand {
    detached: NonNull<ffi::ngx_ws_detached_t>,
    done: Option<Done>,
    /// Shared with whoever publishes it: nginx sends it on from here, to mirrors also after the answer.
    message: Rc<Vec<u8>>,
    body: Vec<u8>,
    limit: usize,
    unwanted: usize,
    too_large: bool,
    is_notice: bool,
    begun: u64,
    /// Its place among those that have been answered.
    place: Option<u64>,
}

type ErrandRef = NonNull<Errand>;

/// An errand that goes on in the background.
#[derive(Clone, Copy)]
struct Answered {
    errand: ErrandRef,
    at: u64,
}

/// The errands of a worker. Invariant: each that was started is either running or answered until its request is freed.
struct Desk {
    asked: VecDeque<ErrandRef>,
    notices: VecDeque<ErrandRef>,
    /// On their way, and not answered.
    running: HashSet<ErrandRef>,
    /// Notices among them.
    told: usize,
    /// Answered, and not over, in the order in which they were answered.
    answered: BTreeMap<u64, Answered>,
    next_place: u64,
    /// Lets those that wait begin.
    turn: Timer,
    /// Keeps a worker that is told to go as long as there is something on its way.
    keep: Timer,
    kept: bool,
}

thread_local! {
    static DESK: RefCell<Option<Box<Desk>>> = const { RefCell::new(None) };
    static CLOSED: Cell<bool> = const { Cell::new(false) };
    /// When `worker_shutdown_timeout` ends every client of a worker that was told to go.
    static LEAVE_BY: Cell<Option<u64>> = const { Cell::new(None) };
}

fn with<R>(step: impl FnOnce(&mut Desk) -> R) -> R {
    DESK.with_borrow_mut(|desk| {
        step(desk.get_or_insert_with(|| {
            Box::new(Desk {
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
pub fn ask(request: Request, target: &ComplexValue, question: Question, done: Done) -> Result<(), isize> {
    let is_notice = matches!(question, Question::Notice);
    if CLOSED.get() || (!is_notice && is_overtime(now())) {
        return Err(try_again(request));
    }
    let most = most_questions();
    if !is_notice && with(|desk| desk.questions()) >= most {
        request.report(Level::Error, format_args!("{most} hooks have not answered yet, no other one is asked"));
        return Err(try_again(request));
    }
    let (content_type, message, limit) = match question {
        Question::Message { content_type, message, limit } => (content_type, Some(message), limit),
        Question::Permission | Question::Notice => (Vec::new(), None, 0),
    };
    let errand = copy(request, target, &content_type, message, limit, done)?;
    begin(errand, is_notice);
    Ok(())
}

/// Copies the request and what is asked with it.
fn copy(
    request: Request,
    target: &ComplexValue,
    content_type: &[u8],
    message: Option<Rc<Vec<u8>>>,
    limit: usize,
    done: Done,
) -> Result<ErrandRef, isize> {
    let before = hops_before(request)?;
    let uri = target.evaluate(request).ok_or(FAILED)?;
    prepare(request, before + 1, uri, content_type, message, limit, done)
}

/// Lets an errand begin in a later turn of the event loop.
fn begin(errand: ErrandRef, is_notice: bool) {
    with(|desk| {
        // SAFETY: it was prepared and not started: nobody else holds it.
        unsafe {
            (*errand.as_ptr()).is_notice = is_notice;
            (*errand.as_ptr()).begun = now();
        }
        if is_notice { &mut desk.notices } else { &mut desk.asked }.push_back(errand);
        desk.turn.post_next();
        desk.stay(TICK);
    });
}

/// A notice that can be sent when the request that it tells of is not there any more. It is sent, or nobody hears of it.
pub struct PreparedNotice(Option<ErrandRef>);

impl PreparedNotice {
    /// Tells a location of this request, later.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged: as with [`ask`].
    pub fn of(request: Request, target: &ComplexValue) -> Result<Self, isize> {
        if CLOSED.get() {
            return Err(try_again(request));
        }
        copy(request, target, &[], None, 0, Box::new(|_, _| {})).map(|errand| PreparedNotice(Some(errand)))
    }

    /// Sends it.
    pub fn send(mut self) {
        if !CLOSED.get()
            && let Some(errand) = self.0.take()
        {
            begin(errand, true);
        }
    }
}

impl Drop for PreparedNotice {
    fn drop(&mut self) {
        if let Some(errand) = self.0.take() {
            // SAFETY: prepared, and never started.
            unsafe { ffi::ngx_ws_detached_discard((*errand.as_ptr()).detached.as_ptr()) };
        }
    }
}

fn most_questions() -> usize {
    // SAFETY: ngx_cycle is set before workers begin.
    unsafe { (*ffi::ngx_cycle).connection_n / SHARE }
}

/// The worker was told to go. What is on its way goes on.
pub fn leaving() {
    // SAFETY: reads the configuration of the cycle.
    let time = unsafe { ffi::ngx_ws_shutdown_timeout() } as u64;
    if time != 0 {
        LEAVE_BY.set(Some(now() + time));
    }
}

/// Whether nginx has ended every client of a worker that was told to go.
fn is_overtime(now: u64) -> bool {
    LEAVE_BY.get().is_some_and(|by| now >= by)
}

/// Whether a location can be told later that this request has ended.
///
/// # Errors
///
/// The status to answer, which was logged: as with [`ask`].
pub fn foresee(request: Request, target: &ComplexValue) -> Result<(), isize> {
    if CLOSED.get() || with(|desk| desk.notices.len()) >= MOST_WAITING {
        return Err(try_again(request));
    }
    hops_before(request)?;
    let uri = target.evaluate(request).ok_or(FAILED)?;
    let mut text = ffi::ngx_str_t { len: uri.len(), data: uri.as_ptr().cast_mut() };
    // SAFETY: the request is alive; the text is only read.
    if unsafe { ffi::ngx_ws_detached_can_ask(request.raw(), &raw mut text) } != ffi::NGX_OK as isize {
        return Err(no_target(request, uri));
    }
    Ok(())
}

/// How many hooks a request has come through.
fn hops_before(request: Request) -> Result<u32, isize> {
    hops(request.header(b"x-websocket-hops")).filter(|&hops| hops < MOST_HOPS).ok_or_else(|| {
        request.report(Level::Error, format_args!("a hook is asked because of itself more than {MOST_HOPS} times"));
        LOOP_DETECTED
    })
}

fn no_target(request: Request, uri: &[u8]) -> isize {
    let uri = Octets(uri);
    request.report(Level::Error, format_args!("a hook cannot be asked at \"{uri}\""));
    FAILED
}

/// Copies the request and what is asked with it.
fn prepare(
    request: Request,
    hops: u32,
    uri: &[u8],
    content_type: &[u8],
    message: Option<Rc<Vec<u8>>>,
    limit: usize,
    done: Done,
) -> Result<ErrandRef, isize> {
    let text = |octets: &[u8]| ffi::ngx_str_t { len: octets.len(), data: octets.as_ptr().cast_mut() };
    let hops = hops.to_string();
    let (mut hops, mut content_type) = (text(hops.as_bytes()), text(content_type));
    let has_message = message.is_some();
    // SAFETY: the request is alive and copied; the texts are only read. The errand is freed by the cleanup of the copy's
    // pool, which is the last to look at the message.
    unsafe {
        let detached =
            ffi::ngx_ws_detached_create(request.raw(), &raw mut hops, &raw mut content_type, usize::from(has_message));
        let detached = NonNull::new(detached).ok_or(FAILED)?;
        let errand = Box::new(Errand {
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
        let known = request.existing_context().map(|context| context.copy_for(copy));
        if let (Some(Some(known)), Some(context)) = (known, copy.context()) {
            *context = known;
        }
        let ready = if ffi::ngx_ws_detached_target(detached.as_ptr(), &raw mut target) != ffi::NGX_OK as isize {
            no_target(request, uri);
            false
        } else {
            !has_message
                || ffi::ngx_ws_detached_message(
                    detached.as_ptr(),
                    errand.message.as_ptr().cast_mut(),
                    errand.message.len(),
                ) == ffi::NGX_OK as isize
        };
        let errand = NonNull::from(Box::leak(errand));
        let data = errand.as_ptr().cast::<c_void>();
        if !ready || ffi::ngx_ws_detached_on_free(detached.as_ptr(), Some(on_free), data) != ffi::NGX_OK as isize {
            drop(Box::from_raw(errand.as_ptr()));
            ffi::ngx_ws_detached_discard(detached.as_ptr());
            return Err(FAILED);
        }
        ffi::ngx_ws_detached_callbacks(detached.as_ptr(), Some(on_octets), Some(on_done), Some(on_leave), data);
        Ok(errand)
    }
}

impl Desk {
    /// The next errand that may begin.
    fn next(&mut self) -> Option<ErrandRef> {
        let errand = match self.asked.pop_front() {
            Some(errand) => errand,
            None if self.told < MOST_TOLD => {
                let errand = self.notices.pop_front()?;
                self.told += 1;
                errand
            }
            None => return None,
        };
        self.running.insert(errand);
        Some(errand)
    }

    /// An errand was answered, or could not begin.
    fn finished(&mut self, errand: ErrandRef, is_notice: bool) -> Option<u64> {
        if !self.running.remove(&errand) {
            return None;
        }
        if is_notice {
            self.told -= 1;
            if !self.notices.is_empty() {
                self.turn.post_next();
            }
        }
        let place = self.next_place;
        self.next_place += 1;
        self.answered.insert(place, Answered { errand, at: now() });
        if self.questions() + self.answered.len() > most_questions() {
            self.turn.post_next();
        }
        Some(place)
    }

    /// The request of an errand is freed.
    fn freed(&mut self, place: Option<u64>) {
        if let Some(place) = place {
            self.answered.remove(&place);
        }
        if self.is_idle() {
            self.keep.disarm();
            self.kept = false;
        }
    }

    fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.notices.is_empty() && self.running.is_empty() && self.answered.is_empty()
    }

    /// Those whose answers are awaited.
    fn questions(&self) -> usize {
        self.asked.len() + self.running.len() - self.told
    }

    fn has_notices(&self) -> bool {
        self.told > 0 || !self.notices.is_empty()
    }

    /// What there is no time or no room for any more.
    fn surplus(&mut self, now: u64) -> Surplus {
        // SAFETY: reads flags of nginx.
        let leaving = unsafe { ffi::ngx_ws_worker_exiting() != 0 };
        let overtime = is_overtime(now);
        let no_more_notices = LEAVE_BY.get().is_some_and(|by| now >= by + OVERTIME);
        let is_late = |errand: &ErrandRef| {
            // SAFETY: errands on the desk are alive.
            let errand = unsafe { errand.as_ref() };
            if errand.is_notice { leaving && (no_more_notices || now >= errand.begun + LAST_CHANCE) } else { overtime }
        };
        let is_long = |answered: &Answered| overtime || now >= answered.at + LONGEST;
        let room = most_questions().saturating_sub(self.questions());
        let beyond = self.answered.len().saturating_sub(room);
        let background =
            (0..).zip(&self.answered).filter(|(count, (_, answered))| *count < beyond || is_long(answered));
        let mut waiting = Vec::new();
        self.notices.retain(|errand| {
            let is_late = is_late(errand);
            if is_late {
                waiting.push(*errand);
            }
            !is_late
        });
        Surplus {
            running: self.running.iter().copied().filter(is_late).collect(),
            answered: background.map(|(_, (&place, _))| place).collect(),
            waiting,
        }
    }

    /// The worker is not to leave before somebody has looked again.
    fn stay(&mut self, time: u64) {
        if !self.kept {
            self.kept = true;
            self.keep.arm(if LEAVE_BY.get().is_some() { time.min(OFTEN) } else { time });
        }
    }
}

/// Errands that are given up.
struct Surplus {
    /// On their way.
    running: Vec<ErrandRef>,
    /// In the background, by their places.
    answered: Vec<u64>,
    /// Notices that were not started.
    waiting: Vec<ErrandRef>,
}

/// Lets those begin that wait.
fn turn() {
    give_up(|desk| desk.surplus(now()));
    while let Some(errand) = with(Desk::next) {
        // SAFETY: the errand lives until its request is freed, which it is not before it has been started or discarded.
        let (detached, is_notice) = unsafe { ((*errand.as_ptr()).detached, (*errand.as_ptr()).is_notice) };
        // SAFETY: prepared, and not started yet. The errand may be gone afterwards.
        if unsafe { ffi::ngx_ws_detached_start(detached.as_ptr()) } == ffi::NGX_OK as isize {
            continue;
        }
        if is_notice {
            with(|desk| {
                desk.running.remove(&errand);
                desk.told -= 1;
                desk.notices.push_front(errand);
                desk.keep.disarm();
                desk.kept = false;
                desk.stay(LATER);
            });
            return;
        }
        log::cycle(Level::Error, format_args!("ws_exec: no connections left to ask a hook"));
        answer(errand, None, Some(UNAVAILABLE));
        // SAFETY: it was not started, and nobody refers to it any more.
        unsafe { ffi::ngx_ws_detached_discard(detached.as_ptr()) };
    }
}

/// Tells who has asked. The errand itself lives as long as its request.
fn answer(mut errand: ErrandRef, request: Option<Request>, status: Option<u16>) {
    // SAFETY: the errand is alive; what is called here does not hold it.
    let state = unsafe { errand.as_mut() };
    let done = state.done.take();
    let is_notice = state.is_notice;
    if state.too_large {
        let limit = state.limit;
        log::cycle(Level::Error, format_args!("ws_exec: the answer of a hook has more than {limit} octets"));
    }
    // SAFETY: the request is alive, and its subrequest's headers with it.
    let (content_type, challenges) = unsafe {
        let mut challenges = Vec::new();
        let mut header = ffi::ngx_ws_detached_www_authenticate(state.detached.as_ptr());
        while let Some(challenge) = header.as_ref() {
            challenges.push(bytes(&challenge.value).to_vec());
            header = ffi::ngx_ws_detached_next_header(challenge);
        }
        (bytes(&ffi::ngx_ws_detached_content_type(state.detached.as_ptr())).to_vec(), challenges)
    };
    let body = std::mem::take(&mut state.body);
    let message = Rc::clone(&state.message);
    state.place = with(|desk| desk.finished(errand, is_notice));
    if let Some(done) = done {
        done(Answer { status, content_type, challenges, body, message }, request);
    }
}

/// Ends errands that have begun, and drops those that have not.
fn give_up(choose: impl FnOnce(&mut Desk) -> Surplus) {
    let Surplus { running, answered, waiting } = with(choose);
    let count = running.len() + answered.len() + waiting.len();
    if count > 0 {
        let why = match CLOSED.get() || LEAVE_BY.get().is_some() {
            true => "the worker leaves",
            false => "there are too many, or they take too long",
        };
        log::cycle(Level::Warn, format_args!("ws_exec: {count} requests to hooks were given up: {why}"));
    }
    let abort = |errand: ErrandRef| {
        // SAFETY: the errand is on the desk: its request was started and is alive. Both are gone after this.
        unsafe { ffi::ngx_ws_detached_abort((*errand.as_ptr()).detached.as_ptr(), usize::from(UNAVAILABLE)) };
    };
    // One that ends may bring about that others do.
    for errand in running {
        if with(|desk| desk.running.contains(&errand)) {
            abort(errand);
        }
    }
    for place in answered {
        if let Some(answered) = with(|desk| desk.answered.get(&place).copied()) {
            abort(answered.errand);
        }
    }
    for errand in waiting {
        // SAFETY: taken from the desk, and never started.
        unsafe { ffi::ngx_ws_detached_discard((*errand.as_ptr()).detached.as_ptr()) };
    }
}

/// The worker leaves now. What nobody awaits gets a last chance, and everything else ends.
pub fn exit() {
    if DESK.with_borrow(|desk| desk.is_none()) {
        return;
    }
    CLOSED.set(true);
    let asked: Vec<ErrandRef> = with(|desk| desk.asked.drain(..).collect());
    for errand in asked {
        // SAFETY: taken from the desk, and never started.
        unsafe { ffi::ngx_ws_detached_discard((*errand.as_ptr()).detached.as_ptr()) };
    }
    if with(|desk| desk.has_notices()) {
        // SAFETY: the worker takes no more clients.
        unsafe { ffi::ngx_ws_close_listening() };
    }
    let until = now() + STOPPED;
    while with(|desk| desk.has_notices()) && now() < until {
        turn();
        with(|desk| {
            desk.keep.disarm();
            desk.keep.arm(LATER);
        });
        if with(|desk| desk.has_notices()) {
            // SAFETY: called from exit_process, outside of any event handler.
            unsafe { ffi::ngx_ws_serve_once() };
        }
    }
    give_up(|desk| Surplus {
        running: desk.running.iter().copied().collect(),
        answered: desk.answered.keys().copied().collect(),
        waiting: desk.notices.drain(..).collect(),
    });
    DESK.take();
}

/// Some of the body.
unsafe extern "C" fn on_octets(data: *mut c_void, status: usize, octets: *const u8, len: usize) -> ffi::ngx_int_t {
    guard(ffi::NGX_ERROR as isize, || {
        // SAFETY: data is the errand, which lives as long as its request; the octets are those of a buffer.
        let (errand, octets) = unsafe { (&mut *data.cast::<Errand>(), std::slice::from_raw_parts(octets, len)) };
        if status != ffi::NGX_HTTP_OK as usize {
            errand.unwanted = errand.unwanted.saturating_add(len);
            return if errand.unwanted > UNWANTED { ffi::NGX_ERROR as isize } else { ffi::NGX_OK as isize };
        }
        if errand.limit - errand.body.len() < len {
            errand.too_large = true;
            return ffi::NGX_ERROR as isize;
        }
        if errand.body.try_reserve(len).is_err() {
            return ffi::NGX_ERROR as isize;
        }
        errand.body.extend_from_slice(octets);
        ffi::NGX_OK as isize
    })
}

/// The location has answered, or never will.
unsafe extern "C" fn on_done(data: *mut c_void) {
    guard((), || {
        let Some(errand) = NonNull::new(data.cast::<Errand>()) else { return };
        // SAFETY: nginx calls while the request is alive.
        let (request, status) = unsafe {
            let detached = errand.as_ref().detached.as_ptr();
            (Request::new(ffi::ngx_ws_detached_request(detached)), ffi::ngx_ws_detached_status(detached))
        };
        answer(errand, Some(request), u16::try_from(status).ok().filter(|&status| status != 0));
    });
}

/// The time is over that `worker_shutdown_timeout` leaves to clients.
unsafe extern "C" fn on_leave(_: *mut c_void) {
    guard((), || with(|desk| desk.turn.post_next()));
}

/// The pool of the request goes.
unsafe extern "C" fn on_free(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer was leaked by prepare(), and a cleanup runs once.
        let errand = unsafe { Box::from_raw(data.cast::<Errand>()) };
        // The last of them may be freed when the worker has ended.
        DESK.with_borrow_mut(|desk| {
            if let Some(desk) = desk {
                debug_assert!(!desk.running.contains(&NonNull::from(&*errand)), "it was answered before");
                desk.freed(errand.place);
            }
        });
    });
}

unsafe extern "C" fn on_turn(_: *mut ffi::ngx_event_t) {
    guard((), turn);
}

unsafe extern "C" fn on_keep(_: *mut ffi::ngx_event_t) {
    guard((), || {
        with(|desk| {
            desk.keep.take_expired();
            desk.kept = false;
        });
        turn();
        with(|desk| {
            if !desk.is_idle() {
                desk.stay(TICK);
            }
        });
    });
}
