//! A request that waits for messages: a stream gets one after another, a long-poll gets one.
//!
//! Both are ordinary responses of nginx, so that they work over every version of HTTP. A poll is a long-poll that does not
//! wait.

mod body;
mod deadlines;
mod single;
mod stream;

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::hub::{self, Listener};
use super::member::Member;
use super::subscription::{Ids, Subscription};
use crate::channel::fanout::{OnGap, SubscriberId};
use crate::channel::message::Message;
use crate::channel::wire::{Form, eventsource, multipart};
use crate::ledger::OpenSession;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::hold::{self, Holder};
use crate::nginx::request::Request;
use crate::nginx::session::Context;
use crate::nginx::shared::{self, Membership, State};
use crate::nginx::timer::{self, Timer, now};
use crate::nginx::upgrade::try_again;
use crate::nginx::worker;
use body::Body;
pub use stream::Stream;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// The channel was deleted (RFC 9110, section 15.5.11).
const GONE: isize = 410;

/// How the messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One after another, in a response that goes on.
    Stream(Stream),
    /// One as the whole response, which waits for it.
    LongPoll,
    /// One as the whole response, if it is there.
    Poll,
    /// The same for a subrequest that names no position: where others begin with what comes, it gets the newest message.
    FirstPoll,
}

/// How far the request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The program that it shares is being started; nothing was answered yet.
    Starting,
    /// It gets what comes.
    Waiting,
    /// It gets nothing more; what is on its way leaves until then.
    Closing { until: u64 },
    /// It has ended or is ending.
    Over,
}

/// What is to happen to the request, once nobody holds the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on waiting.
    Continue,
    /// It ends with this status of nginx.
    Finish(isize),
}

/// See the module.
pub struct Waiting {
    request: Request,
    /// What is known of the request; in its pool.
    context: NonNull<Context>,
    kind: Kind,
    subscriber: Option<SubscriberId>,
    /// The program that it shares with the other subscribers.
    membership: Option<Membership>,
    /// Those who want to know are told when this goes.
    member: Option<Member>,
    /// Nothing is asked of the hub before it calls again.
    blocked: bool,
    stage: Stage,
    body: Body,
    /// When the last message was sent.
    spoke: u64,
    /// When it ends because its worker does.
    drain: Option<u64>,
    timer: Timer,
    /// Its part in the figures of the location.
    open: Option<OpenSession>,
    /// Its place in the worker's list, as long as it is on it.
    place: Option<usize>,
    /// One of its events is being handled.
    ///
    /// Invariant: the events of a subscriber are never handled inside of one another. Those of others may be: what a subscriber
    /// does may wake another client of its program, which may end it.
    running: bool,
}

/// Lets a request wait for messages, of the program that subscribers share if the location has one; returns what the
/// content handler returns. A member whose subscription fails goes at once.
///
/// # Errors
///
/// The status to answer.
pub fn start(request: Request, kind: Kind, ids: &Ids<'_>, member: Option<Member>) -> Result<isize, isize> {
    if request.method() == b"HEAD" && request.settings().channel_create() && !hub::has_channels(&ids.keys()) {
        return head_of_nothing(request, &kind);
    }
    let waiting = create(request, kind, member)?;
    let listener = Listener::Waiting(waiting);
    let status = enter(waiting, |state| {
        let status = state.start(ids, listener);
        if status != Ok(ffi::NGX_DONE as isize) {
            state.end();
        }
        status
    })?;
    if status == ffi::NGX_DONE as isize {
        // SAFETY: the request is alive, and stays so until the subscriber ends: who ends it gives this reference back.
        unsafe { ffi::ngx_ws_request_hold(request.raw()) };
    }
    Ok(status)
}

/// Answers a HEAD of channels that do not exist, which must not be created by it: what a GET of them would begin with.
fn head_of_nothing(request: Request, kind: &Kind) -> Result<isize, isize> {
    if !request.add_header("Cache-Control", b"no-cache") {
        return Err(FAILED);
    }
    let content_type = match kind {
        Kind::Stream(Stream::EventSource) => Some(eventsource::CONTENT_TYPE.to_owned()),
        Kind::Stream(Stream::Multipart(boundary)) => Some(multipart::content_type(boundary)),
        Kind::Stream(Stream::Chunked | Stream::Raw) => Some(String::from_utf8_lossy(stream::TEXT).into_owned()),
        Kind::LongPoll | Kind::Poll | Kind::FirstPoll => None,
    };
    let content_type = content_type.map(|text| request.copy(text.as_bytes()).ok_or(FAILED)).transpose()?;
    // SAFETY: the request is alive, nothing was sent yet, and the text is in its pool.
    let sent = unsafe {
        match content_type {
            Some(content_type) => ffi::ngx_ws_response_open(request.raw(), ffi::NGX_HTTP_OK as usize, content_type, -1),
            None => ffi::ngx_ws_response_empty(request.raw(), ffi::NGX_HTTP_NOT_MODIFIED as usize),
        }
        ffi::ngx_http_send_header(request.raw())
    };
    if sent == ffi::NGX_ERROR as isize { Err(sent) } else { Ok(ffi::NGX_OK as isize) }
}

/// Makes the subscriber and gives it to the request: its subscription ends with the request, its memory, which nginx may
/// still be sending from, with the pool.
fn create(request: Request, kind: Kind, member: Option<Member>) -> Result<NonNull<Waiting>, isize> {
    let context = NonNull::from(request.context().ok_or(FAILED)?);
    // SAFETY: the request is alive; each cleanup runs once, the one of the pool last.
    unsafe {
        let last = ffi::ngx_pool_cleanup_add((*request.raw()).pool, 0);
        let first = ffi::ngx_http_cleanup_add(request.raw(), 0);
        if last.is_null() || first.is_null() {
            return Err(FAILED);
        }
        let apart = kind == Kind::Stream(Stream::Chunked);
        let waiting = NonNull::from(Box::leak(Box::new(Waiting {
            request,
            context,
            kind,
            subscriber: None,
            membership: None,
            member,
            blocked: true,
            stage: Stage::Waiting,
            body: Body::new(request, apart),
            spoke: now(),
            drain: None,
            timer: Timer::new(on_timer, ptr::null_mut(), request.log()),
            open: None,
            place: None,
            running: false,
        })));
        (*waiting.as_ptr()).timer.set_owner(waiting.as_ptr().cast());
        (*waiting.as_ptr()).place = Some(worker::enlist(Listener::Waiting(waiting)));
        (*last).handler = Some(on_free);
        (*last).data = waiting.as_ptr().cast();
        (*first).handler = Some(on_end);
        (*first).data = waiting.as_ptr().cast();
        hold::take(&mut *context.as_ptr(), Holder::Waiting(waiting));
        Ok(waiting)
    }
}

/// Changes a subscriber and acts on the verdict. Its memory may be gone when this returns, and the request somebody else's.
pub fn run(waiting: NonNull<Waiting>, body: impl FnOnce(&mut Waiting) -> Verdict) {
    let (verdict, request, connection) = enter(waiting, |state| {
        let (request, connection) = (state.request.raw(), state.request.connection());
        let verdict = guard(Verdict::Finish(ffi::NGX_ERROR as isize), || {
            if state.stage == Stage::Over { Verdict::Continue } else { body(state) }
        });
        if verdict != Verdict::Continue {
            guard((), || state.end());
        }
        (verdict, request, connection)
    });
    let Verdict::Finish(status) = verdict else { return };
    // SAFETY: the request is alive until it is finalized here; nginx looks at the connection only if requests were posted
    // to it.
    unsafe {
        ffi::ngx_http_finalize_request(request, status);
        ffi::ngx_http_run_posted_requests(connection);
    }
}

/// Ends a subscriber whose request is given back to nginx, by whoever calls: nothing refers to the request any more.
pub fn let_go(waiting: NonNull<Waiting>) {
    enter(waiting, Waiting::end);
}

/// Gives `body` the subscriber. What finalizes its request comes after.
fn enter<R>(waiting: NonNull<Waiting>, body: impl FnOnce(&mut Waiting) -> R) -> R {
    // SAFETY: whoever is given a subscriber, as the data of an event, on a list, by a context, is forgotten there when it
    // ends, and its memory lives on until the pool of the request is freed, which is not inside of an event of its own. So it
    // is there. nginx is single-threaded, and `running` tells that no other reference is on the stack.
    unsafe {
        debug_assert!(!(*waiting.as_ptr()).running, "the events of a subscriber are handled inside of one another");
        let state = &mut *waiting.as_ptr();
        state.running = true;
        let result = body(state);
        state.running = false;
        result
    }
}

impl Waiting {
    /// The request that it belongs to.
    pub fn request(&self) -> Request {
        self.request
    }

    /// Subscribes, and begins to answer unless a program has to be started first; returns what the content handler returns.
    fn start(&mut self, ids: &Ids<'_>, listener: Listener) -> Result<isize, isize> {
        let request = self.request;
        let (form, on_gap) = match &self.kind {
            Kind::Stream(stream) => (stream.form(request), stream.on_gap(request)),
            Kind::LongPoll | Kind::Poll | Kind::FirstPoll => (Form::Body, OnGap::Tell),
        };
        let subscription = match self.kind {
            Kind::FirstPoll => Subscription::of_what_is_there(request, ids),
            Kind::Stream(_) | Kind::LongPoll | Kind::Poll => Subscription::of(request, ids),
        };
        let id = subscription.begin(request, form, on_gap, listener)?;
        self.subscriber = Some(id);
        // Its first subscriber gets all that the program says.
        if let Some(program) = request.settings().shared_program() {
            self.membership = Some(shared::join(request, program, ids, listener)?);
        }
        if let Some(member) = &mut self.member {
            member.joined();
        }
        if self.membership.as_ref().is_some_and(|membership| membership.state() == State::Starting) {
            self.stage = Stage::Starting;
            hold::watch_client(request);
        } else if let Verdict::Finish(status) = self.begin(id)? {
            return Ok(status);
        }
        self.arm();
        Ok(ffi::NGX_DONE as isize)
    }

    /// Begins to answer.
    fn begin(&mut self, id: SubscriberId) -> Result<Verdict, isize> {
        let request = self.request;
        self.stage = Stage::Waiting;
        if let Some(State::Running(pid)) = self.membership.as_ref().map(Membership::state)
            && let Some(context) = request.existing_context()
        {
            context.record.exec_pid = Some(pid);
        }
        if !self.open(id)? {
            return Ok(Verdict::Finish(ffi::NGX_OK as isize));
        }
        self.open = worker::ledger().and_then(|ledger| ledger.open(request.settings().key as usize));
        if matches!(self.kind, Kind::Poll | Kind::FirstPoll) {
            return Ok(match self.answer(id) {
                Verdict::Continue => self.nothing_new(id),
                finish @ Verdict::Finish(_) => finish,
            });
        }
        hold::watch_client(request);
        // SAFETY: the request is alive and from now on driven by the events of its client and of the hub.
        unsafe {
            (*request.raw()).write_event_handler = Some(on_writable);
            if request.http_version() < 2000 {
                // Without it the second of two events waits until the first was acknowledged.
                ffi::ngx_ws_tcp_nodelay(request.connection());
            }
        }
        // Who has been waiting for a program may have a time already.
        self.drain = self.drain.or_else(|| worker::late_drain(request));
        self.blocked = false;
        hub::with(|hub| hub.unblock(id));
        Ok(Verdict::Continue)
    }

    /// The program may have been started.
    fn started(&mut self, id: SubscriberId) -> Verdict {
        match self.membership.as_ref().map(Membership::state) {
            Some(State::Starting) => Verdict::Continue,
            Some(State::Refused(status)) if status == ffi::NGX_HTTP_SERVICE_UNAVAILABLE as isize => {
                Verdict::Finish(try_again(self.request))
            }
            Some(State::Refused(status)) => Verdict::Finish(status),
            Some(State::Running(_) | State::Ended(_)) | None => self.begin(id).unwrap_or_else(Verdict::Finish),
        }
    }

    /// Whether the program that it shared has ended, and there is nothing more of it.
    fn is_deserted(&self) -> bool {
        let Some(membership) = &self.membership else { return false };
        let Some(outcome) = membership.outcome() else { return false };
        if hub::with(|hub| hub.has_news()) == Some(true) {
            // The last of what it said may be among them.
            membership.again();
            return false;
        }
        if let Some(context) = self.request.existing_context() {
            context.record.exec_status = outcome.status;
        }
        true
    }

    /// Sends the head of a 200. `false` when there is to be no body.
    fn head(&mut self, content_type: &[u8], length: i64) -> Result<bool, isize> {
        let content_type = self.request.copy(content_type).ok_or(FAILED)?;
        let request = self.request.raw();
        // SAFETY: the request is alive, nothing was sent yet, and the text is in its pool.
        unsafe {
            ffi::ngx_ws_response_open(request, ffi::NGX_HTTP_OK as usize, content_type, length);
            let sent = ffi::ngx_http_send_header(request);
            if sent == ffi::NGX_ERROR as isize || sent > ffi::NGX_OK as isize {
                return Err(sent);
            }
            Ok(ffi::ngx_ws_request_header_only(request) == 0)
        }
    }

    /// Gives nginx what is to be sent.
    ///
    /// # Errors
    ///
    /// The connection is lost: what the request ends with.
    fn send(&mut self) -> Result<(), isize> {
        self.body.send().map_err(|body::Lost| ffi::NGX_ERROR as isize)
    }

    /// Sends what can be sent now.
    pub fn pump(&mut self) -> Verdict {
        let Some(id) = self.subscriber else { return Verdict::Continue };
        let verdict = match self.kind.clone() {
            _ if self.stage == Stage::Starting => self.started(id),
            Kind::Stream(stream) => self.stream(id, &stream),
            Kind::LongPoll | Kind::Poll | Kind::FirstPoll => self.answer(id),
        };
        if verdict == Verdict::Continue {
            self.arm();
        }
        verdict
    }

    /// Ends the request before there was all that it could have waited for: the client comes back and goes on.
    pub fn dismiss(&mut self) -> Verdict {
        match (&self.kind, self.subscriber, self.stage) {
            (_, _, Stage::Starting) => Verdict::Finish(try_again(self.request)),
            (_, _, Stage::Closing { .. } | Stage::Over) | (_, None, _) => Verdict::Continue,
            (Kind::Stream(_), Some(_), Stage::Waiting) => self.close(),
            (Kind::LongPoll | Kind::Poll | Kind::FirstPoll, Some(id), Stage::Waiting) => self.time_out(id),
        }
    }

    /// Ends it at once: its worker leaves.
    pub fn terminate(&mut self) -> Verdict {
        match self.dismiss() {
            // What it has been sent, or is to be sent yet, is nginx's business now.
            Verdict::Continue => Verdict::Finish(ffi::NGX_OK as isize),
            finish @ Verdict::Finish(_) => finish,
        }
    }

    fn count(&mut self, message: &Message) {
        let octets = message.data().len();
        if let Some(context) = self.request.existing_context() {
            context.record.message_out(octets);
            context.record.message_id = Some(message.id);
        }
        if let Some(open) = &self.open {
            open.figures().sent(1, octets as u64);
        }
    }

    /// The client takes more.
    fn writable(&mut self) -> Verdict {
        if let Err(status) = self.send() {
            return Verdict::Finish(status);
        }
        if self.body.is_empty() {
            if matches!(self.stage, Stage::Closing { .. }) {
                return Verdict::Finish(ffi::NGX_OK as isize);
            }
            if let Some(id) = self.subscriber.filter(|_| self.blocked) {
                self.blocked = false;
                hub::with(|hub| hub.unblock(id));
            }
        }
        self.arm();
        Verdict::Continue
    }

    /// No longer a subscriber.
    fn leave(&mut self) {
        if let Some(id) = self.subscriber.take() {
            hub::with(|hub| hub.unsubscribe(id));
        }
        self.membership = None;
    }

    /// Lets go of everything but the memory, of the request above all.
    fn end(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        self.stage = Stage::Over;
        if let Some(place) = self.place.take() {
            worker::discharge(place);
        }
        self.timer.cancel();
        self.open = None;
        self.leave();
        self.member = None;
        // SAFETY: the context is in the pool of the request, which outlives the subscriber.
        hold::release(self.request, unsafe { self.context.as_mut() });
    }
}

/// The client can be written.
unsafe extern "C" fn on_writable(request: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request.
    let waiting = unsafe { Request::new(request) }.existing_context().and_then(|context| context.holder);
    if let Some(Holder::Waiting(waiting)) = waiting {
        run(waiting, Waiting::writable);
    }
}

/// The time is up.
unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    // SAFETY: the owner of the timer is the subscriber, which removes it before it is freed.
    if let Some(waiting) = unsafe { timer::owner::<Waiting>(event) } {
        run(waiting, Waiting::on_time);
    }
}

/// The request is over; nginx may still be sending.
unsafe extern "C" fn on_end(data: *mut c_void) {
    guard((), || {
        // The memory is freed by the pool's cleanup, which comes later.
        if let Some(waiting) = NonNull::new(data.cast::<Waiting>()) {
            let_go(waiting);
        }
    });
}

/// The pool of the request goes: nothing is being sent any more.
unsafe extern "C" fn on_free(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer was leaked by create(), and a cleanup runs once.
        drop(unsafe { Box::from_raw(data.cast::<Waiting>()) });
    });
}
