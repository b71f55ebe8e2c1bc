//! What a client's request asks of other locations of the server, on connections without a client.
//!
//! The request is copied, so that the copy may outlive it, and the location is asked in a later turn of the event loop: who
//! asks is never called back before it has returned. See `ngx/ngx_ws_detached.c` for what such a request is to nginx.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::ffi::c_void;
use std::ptr::NonNull;

use super::ffi;
use super::guard::guard;
use super::log::{self, Level, Octets};
use super::request::{Request, bytes};
use super::template::ComplexValue;
use super::timer::{Timer, now};
use super::upgrade::try_again;
use crate::channel::hook::{MOST_HOPS, hops};

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// A hook was asked because of itself (RFC 5842, section 7.2).
const LOOP_DETECTED: isize = 508;

/// Requests of which nobody awaits the answer: so many are on their way at once, the others wait for them.
const MOST_TOLD: usize = 128;

/// When so many of those wait, nobody is let in whose end would make another one.
const MOST_WAITING: usize = 8192;

/// Of this share of a worker's connections each may belong to a question. A question takes another one to the server that
/// it is passed to, and goes on without its client: half of the connections are left to clients, however slow hooks are.
const SHARE: usize = 4;

/// Octets of an answer's body that nobody wants, before it is broken off.
const UNWANTED: usize = 64 << 10;

/// How often those that wait are looked after, in milliseconds.
const TICK: u64 = 1000;

/// The same when there was no connection to be had.
const LATER: u64 = 100;

/// How long a worker that leaves goes on with what nobody awaits, in milliseconds.
const LAST_CHANCE: u64 = 5000;

/// The same when the worker is stopped at once: nginx's master does not wait for more than about a second.
const STOPPED: u64 = 500;

/// What is asked.
pub enum Question {
    /// What to do with a message of this type. An answer with 200 may be of so many octets.
    Message {
        /// Its `Content-Type`.
        content_type: Vec<u8>,
        /// The message.
        message: Vec<u8>,
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
    /// Its `WWW-Authenticate`.
    pub challenge: Vec<u8>,
    /// Its body, if it was 200 and about a message.
    pub body: Vec<u8>,
    /// The message that it was asked about.
    pub message: Vec<u8>,
}

/// Takes the answer, with the copy of the client's request if there is one on a connection.
pub type Done = Box<dyn FnOnce(Answer, Option<Request>)>;

/// One request on its way.
struct Errand {
    detached: NonNull<ffi::ngx_ws_detached_t>,
    done: Option<Done>,
    message: Vec<u8>,
    body: Vec<u8>,
    limit: usize,
    unwanted: usize,
    too_large: bool,
    is_notice: bool,
    begun: u64,
}

type ErrandRef = NonNull<Errand>;

/// The errands of a worker.
struct Desk {
    asked: VecDeque<ErrandRef>,
    notices: VecDeque<ErrandRef>,
    running: HashSet<ErrandRef>,
    told: usize,
    /// Lets those that wait begin.
    turn: Timer,
    /// Keeps a worker that is told to go as long as there is something on its way.
    keep: Timer,
    kept: bool,
}

thread_local! {
    static DESK: RefCell<Option<Box<Desk>>> = const { RefCell::new(None) };
    static CLOSED: Cell<bool> = const { Cell::new(false) };
}

fn with<R>(step: impl FnOnce(&mut Desk) -> R) -> R {
    DESK.with_borrow_mut(|desk| {
        step(desk.get_or_insert_with(|| {
            Box::new(Desk {
                asked: VecDeque::new(),
                notices: VecDeque::new(),
                running: HashSet::new(),
                told: 0,
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
    if CLOSED.get() {
        return Err(try_again(request));
    }
    // SAFETY: ngx_cycle is set before workers begin.
    let most = unsafe { (*ffi::ngx_cycle).connection_n } / SHARE;
    if !is_notice && with(|desk| desk.questions()) >= most {
        request.report(Level::Error, format_args!("{most} hooks have not answered yet, no other one is asked"));
        return Err(try_again(request));
    }
    let before = hops_before(request)?;
    let uri = target.evaluate(request).ok_or(FAILED)?;
    let (content_type, message, limit) = match question {
        Question::Message { content_type, message, limit } => (content_type, Some(message), limit),
        Question::Permission | Question::Notice => (Vec::new(), None, 0),
    };
    let errand = prepare(request, before + 1, uri, &content_type, message, limit, done)?;
    with(|desk| {
        // SAFETY: made just now; nobody else holds it.
        unsafe { (*errand.as_ptr()).is_notice = is_notice };
        if is_notice { &mut desk.notices } else { &mut desk.asked }.push_back(errand);
        desk.turn.post_next();
        desk.stay(TICK);
    });
    Ok(())
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
    message: Option<Vec<u8>>,
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
        let mut errand = Box::new(Errand {
            detached,
            done: Some(done),
            message: message.unwrap_or_default(),
            body: Vec::new(),
            limit,
            unwanted: 0,
            too_large: false,
            is_notice: false,
            begun: now(),
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
                || ffi::ngx_ws_detached_message(detached.as_ptr(), errand.message.as_mut_ptr(), errand.message.len())
                    == ffi::NGX_OK as isize
        };
        let errand = NonNull::from(Box::leak(errand));
        let data = errand.as_ptr().cast::<c_void>();
        if !ready || ffi::ngx_ws_detached_on_free(detached.as_ptr(), Some(on_free), data) != ffi::NGX_OK as isize {
            drop(Box::from_raw(errand.as_ptr()));
            ffi::ngx_ws_detached_discard(detached.as_ptr());
            return Err(FAILED);
        }
        ffi::ngx_ws_detached_callbacks(detached.as_ptr(), Some(on_octets), Some(on_done), data);
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

    /// An errand has ended, or could not begin.
    fn finished(&mut self, errand: ErrandRef, is_notice: bool) {
        if self.running.remove(&errand) && is_notice {
            self.told -= 1;
            if !self.notices.is_empty() {
                self.turn.post_next();
            }
        }
        if self.is_idle() {
            self.keep.disarm();
            self.kept = false;
        }
    }

    fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.notices.is_empty() && self.running.is_empty()
    }

    /// Those whose answers are awaited.
    fn questions(&self) -> usize {
        self.asked.len() + self.running.len() - self.told
    }

    fn has_notices(&self) -> bool {
        self.told > 0 || !self.notices.is_empty()
    }

    /// The worker is not to leave before somebody has looked again.
    fn stay(&mut self, time: u64) {
        if !self.kept {
            self.kept = true;
            self.keep.arm(time);
        }
    }
}

/// Lets those begin that wait.
fn turn() {
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
        answer(errand, None, Some(ffi::NGX_HTTP_SERVICE_UNAVAILABLE as u16));
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
    let (content_type, challenge) = unsafe {
        (
            bytes(&ffi::ngx_ws_detached_content_type(state.detached.as_ptr())).to_vec(),
            bytes(&ffi::ngx_ws_detached_www_authenticate(state.detached.as_ptr())).to_vec(),
        )
    };
    let body = std::mem::take(&mut state.body);
    let message = std::mem::take(&mut state.message);
    with(|desk| desk.finished(errand, is_notice));
    if let Some(done) = done {
        done(Answer { status, content_type, challenge, body, message }, request);
    }
}

/// A worker that leaves gives up what nobody awaits after a while.
fn tend() {
    // SAFETY: reads flags of nginx.
    let leaving = unsafe { ffi::ngx_ws_worker_exiting() != 0 };
    if leaving {
        let late = |errand: &ErrandRef| {
            // SAFETY: errands on the desk are alive.
            let errand = unsafe { errand.as_ref() };
            errand.is_notice && now() >= errand.begun + LAST_CHANCE
        };
        give_up(|desk| {
            let running: Vec<ErrandRef> = desk.running.iter().copied().filter(late).collect();
            let mut waiting = Vec::new();
            desk.notices.retain(|errand| {
                let late = late(errand);
                if late {
                    waiting.push(*errand);
                }
                !late
            });
            (running, waiting)
        });
    }
    turn();
    with(|desk| {
        if !desk.is_idle() {
            desk.stay(TICK);
        }
    });
}

/// Ends errands that have begun, and drops those that have not.
fn give_up(choose: impl FnOnce(&mut Desk) -> (Vec<ErrandRef>, Vec<ErrandRef>)) {
    let (running, waiting) = with(choose);
    let count = running.len() + waiting.len();
    for errand in running {
        if with(|desk| desk.running.contains(&errand)) {
            // SAFETY: the errand runs: its request is alive. It is gone after this.
            unsafe { ffi::ngx_ws_detached_abort((*errand.as_ptr()).detached.as_ptr()) };
        }
    }
    for errand in waiting {
        // SAFETY: taken from the desk, and never started.
        unsafe { ffi::ngx_ws_detached_discard((*errand.as_ptr()).detached.as_ptr()) };
    }
    if count > 0 {
        log::cycle(Level::Warn, format_args!("ws_exec: {count} requests to hooks were given up: the worker leaves"));
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
    give_up(|desk| (desk.running.iter().copied().collect(), desk.notices.drain(..).collect()));
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

/// The pool of the request goes.
unsafe extern "C" fn on_free(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer was leaked by prepare(), and a cleanup runs once.
        drop(unsafe { Box::from_raw(data.cast::<Errand>()) });
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
        tend();
    });
}
