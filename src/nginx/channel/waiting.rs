//! A request that waits for messages: an EventSource, which gets one after another, or a long-poll, which gets one.
//!
//! Both are ordinary responses of nginx, so that they work over every version of HTTP. The octets of a message are shared
//! with the other subscribers of this worker; they are held here until nginx has sent them.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use super::hub::{self, Listener};
use super::subscription::Subscription;
use crate::channel::fanout::{Buffer, Next, OnGap, SubscriberId};
use crate::channel::position::etag;
use crate::channel::store::{Budget, ReadError};
use crate::channel::wire::Form;
use crate::channel::wire::date::http_date;
use crate::channel::wire::eventsource;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::Level;
use crate::nginx::request::Request;
use crate::nginx::timer::{Timer, now};

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// The channel was deleted (RFC 9110, section 15.5.11).
const GONE: isize = 410;

/// A request that has nothing to do keeps a timer all the same, and with it a worker that is told to go.
const NOTHING: u64 = 3_600_000;

/// Messages that are looked at in one step.
const STEP: usize = 64;

/// How the messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Each as an event of a response that does not end.
    EventSource,
    /// One as the whole response.
    LongPoll,
}

/// What is to happen to the request, once nobody holds the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on waiting.
    Continue,
    /// It ends with this status of nginx.
    Finish(isize),
}

/// Octets on their way.
enum Content {
    Shared(Buffer),
    Own(Vec<u8>),
    Fixed(&'static [u8]),
}

impl Content {
    fn octets(&self) -> &[u8] {
        match self {
            Content::Shared(buffer) => buffer.octets(),
            Content::Own(octets) => octets,
            Content::Fixed(octets) => octets,
        }
    }
}

/// A buffer that nginx has been given; it does not move as long as the request lives.
struct Piece {
    buffer: Box<ffi::ngx_buf_t>,
    /// What the buffer points to.
    _content: Content,
}

impl Piece {
    fn left(&self) -> usize {
        // SAFETY: both pointers are into the content, or null.
        usize::try_from(unsafe { self.buffer.last.offset_from(self.buffer.pos) }).unwrap_or(0)
    }
}

/// See the module.
pub struct Waiting {
    request: Request,
    transport: Transport,
    subscriber: Option<SubscriberId>,
    /// Nothing is asked of the hub before it calls again.
    blocked: bool,
    /// The request has ended or is ending.
    over: bool,
    in_flight: VecDeque<Piece>,
    /// Empty buffers that filters may still look at: the one for chunks notices only at its next piece that an earlier
    /// one has gone. They are used again, and freed with the request.
    #[expect(clippy::vec_box, reason = "the filters have their addresses")]
    spare: Vec<Box<ffi::ngx_buf_t>>,
    /// Pieces at the end of `in_flight` that nginx has not been given yet.
    fresh: usize,
    /// Octets in flight when something was last taken.
    left: usize,
    /// When something was last sent, and when something was last taken.
    sent: u64,
    moved: u64,
    timer: Timer,
}

/// Lets a request wait for messages; returns what the content handler returns.
///
/// # Errors
///
/// The status to answer.
pub fn start(request: Request, transport: Transport, subscription: &Subscription<'_>) -> Result<isize, isize> {
    let waiting = create(request, transport)?;
    let (form, listener) = match transport {
        Transport::EventSource => (Form::EventSource, Listener::Waiting(waiting)),
        Transport::LongPoll => (Form::Body, Listener::Waiting(waiting)),
    };
    let id = subscription.begin(request, form, OnGap::Tell, listener)?;
    // SAFETY: made just now; nobody else holds it.
    let state = unsafe { &mut *waiting.as_ptr() };
    state.subscriber = Some(id);
    if transport == Transport::EventSource && !state.open(id)? {
        return Ok(ffi::NGX_OK as isize);
    }
    // SAFETY: the request is alive and from now on driven by the events of its client and of the hub.
    unsafe {
        (*request.raw()).read_event_handler = Some(ffi::ngx_http_test_reading);
        (*request.raw()).write_event_handler = Some(on_writable);
        ffi::ngx_ws_request_hold(request.raw());
        if request.http_version() < 2000 {
            // Without it the second of two events waits until the first was acknowledged.
            ffi::ngx_ws_tcp_nodelay(request.connection());
        }
    }
    state.blocked = false;
    hub::with(|hub| hub.unblock(id));
    state.arm();
    Ok(ffi::NGX_DONE as isize)
}

/// Makes the subscriber and gives it to the request: its subscription ends with the request, its memory, which nginx may
/// still be sending from, with the pool.
fn create(request: Request, transport: Transport) -> Result<NonNull<Waiting>, isize> {
    // SAFETY: the request is alive; each cleanup runs once, the one of the pool last.
    unsafe {
        let last = ffi::ngx_pool_cleanup_add((*request.raw()).pool, 0);
        let first = ffi::ngx_http_cleanup_add(request.raw(), 0);
        if last.is_null() || first.is_null() {
            return Err(FAILED);
        }
        let waiting = NonNull::from(Box::leak(Box::new(Waiting {
            request,
            transport,
            subscriber: None,
            blocked: true,
            over: false,
            in_flight: VecDeque::new(),
            spare: Vec::new(),
            fresh: 0,
            left: 0,
            sent: now(),
            moved: now(),
            timer: Timer::new(on_timer, ptr::null_mut(), request.log()),
        })));
        (*waiting.as_ptr()).timer = Timer::new(on_timer, waiting.as_ptr().cast(), request.log());
        (*last).handler = Some(on_free);
        (*last).data = waiting.as_ptr().cast();
        (*first).handler = Some(on_end);
        (*first).data = waiting.as_ptr().cast();
        request.context().ok_or(FAILED)?.waiting = Some(waiting);
        Ok(waiting)
    }
}

/// Changes a subscriber and acts on the verdict. Its memory may be gone when this returns.
pub fn run(waiting: NonNull<Waiting>, body: impl FnOnce(&mut Waiting) -> Verdict) {
    // SAFETY: events are only delivered to subscribers whose request is alive; nginx is single-threaded and no handler of
    // a subscriber calls another one, so this is the only reference.
    let state = unsafe { &mut *waiting.as_ptr() };
    let (request, connection) = (state.request.raw(), state.request.connection());
    let verdict =
        guard(Verdict::Finish(ffi::NGX_ERROR as isize), || if state.over { Verdict::Continue } else { body(state) });
    let Verdict::Finish(status) = verdict else { return };
    guard((), || state.end());
    // SAFETY: the request is alive until it is finalized here; nginx looks at the connection only if requests were posted
    // to it.
    unsafe {
        ffi::ngx_http_finalize_request(request, status);
        ffi::ngx_http_run_posted_requests(connection);
    }
}

impl Waiting {
    /// Answers an EventSource. `false` when the client wants nothing but the head.
    fn open(&mut self, id: SubscriberId) -> Result<bool, isize> {
        let headers = self.request.add_header("Cache-Control", b"no-cache")
            && self.request.add_header("X-Accel-Buffering", b"no");
        if !headers {
            return Err(FAILED);
        }
        if !self.head(eventsource::CONTENT_TYPE.as_bytes(), -1)? {
            return Ok(false);
        }
        // Who loses the connection before the first message comes back with this.
        let position = hub::with(|hub| hub.position(id)).flatten().unwrap_or_default();
        self.push(Content::Own(eventsource::position(&position)), false);
        if self.send() { Ok(true) } else { Err(ffi::NGX_ERROR as isize) }
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

    /// Sends what can be sent now.
    pub fn pump(&mut self) -> Verdict {
        let Some(id) = self.subscriber else { return Verdict::Continue };
        let verdict = match self.transport {
            Transport::EventSource => self.stream(id),
            Transport::LongPoll => self.answer(id),
        };
        if verdict == Verdict::Continue {
            self.arm();
        }
        verdict
    }

    fn stream(&mut self, id: SubscriberId) -> Verdict {
        let limit = usize::try_from(self.request.settings().send_buffer()).unwrap_or(usize::MAX);
        loop {
            if self.in_flight_octets() >= limit {
                self.blocked = true;
                hub::with(|hub| hub.block(id));
                return Verdict::Continue;
            }
            let budget = Budget { messages: STEP, octets: limit - self.in_flight_octets() };
            let served = hub::with(|hub| {
                hub.serve(id, budget, |batch| {
                    for item in batch.items() {
                        self.push(Content::Shared(item.buffer.clone()), false);
                        if let Some(shared) = &item.message {
                            self.count(&shared.message);
                        }
                    }
                    batch.items().len()
                })
            });
            match served {
                Some(Ok(Next::Items)) => {
                    if !self.send() {
                        return Verdict::Finish(ffi::NGX_ERROR as isize);
                    }
                }
                Some(Ok(Next::UpToDate)) | None => return Verdict::Continue,
                Some(Ok(Next::Gone | Next::Lagging { .. }) | Err(ReadError::Gone)) => {
                    self.push(Content::Fixed(b""), true);
                    let sent = self.send();
                    return Verdict::Finish(if sent { ffi::NGX_OK as isize } else { ffi::NGX_ERROR as isize });
                }
                Some(Err(ReadError::Memory | ReadError::Corrupt)) => {
                    hub::retry(id);
                    return Verdict::Continue;
                }
            }
        }
    }

    fn answer(&mut self, id: SubscriberId) -> Verdict {
        let mut found = None;
        let served = hub::with(|hub| {
            let next = hub.serve(id, Budget { messages: 1, octets: 1 }, |batch| {
                found = batch.items().first().map(|item| (item.buffer.clone(), item.message.clone(), item.lost));
                1
            })?;
            Ok((next, hub.position(id)))
        });
        match served {
            Some(Ok((Next::UpToDate, _))) | None => Verdict::Continue,
            Some(Ok((Next::Gone | Next::Lagging { .. }, _)) | Err(ReadError::Gone)) => Verdict::Finish(GONE),
            Some(Err(ReadError::Memory | ReadError::Corrupt)) => {
                hub::retry(id);
                Verdict::Continue
            }
            Some(Ok((Next::Items, position))) => {
                let Some((buffer, Some(shared), lost)) = found else { return Verdict::Finish(FAILED) };
                let message = &shared.message;
                self.count(message);
                let tag = etag(&position.unwrap_or_default());
                let headers = self.request.add_header("ETag", tag.as_bytes())
                    && self.request.add_header("Last-Modified", http_date(message.unix / 1000).as_bytes())
                    && self.request.add_header("Vary", b"If-None-Match, Last-Event-ID")
                    && self.request.add_header("Cache-Control", b"no-cache")
                    && lost.is_none_or(|lost| self.request.add_header("X-Channel-Gap", lost.to_string().as_bytes()));
                if !headers {
                    return Verdict::Finish(FAILED);
                }
                let content_type = match message.content_type() {
                    b"" => b"text/plain; charset=utf-8",
                    present => present,
                };
                let length = i64::try_from(message.data().len()).unwrap_or(-1);
                match self.head(content_type, length) {
                    Err(status) => Verdict::Finish(status),
                    Ok(false) => Verdict::Finish(ffi::NGX_OK as isize),
                    Ok(true) => {
                        self.push(Content::Shared(buffer), true);
                        let sent = self.send();
                        Verdict::Finish(if sent { ffi::NGX_OK as isize } else { ffi::NGX_ERROR as isize })
                    }
                }
            }
        }
    }

    fn count(&mut self, message: &crate::channel::message::Message) {
        if let Some(context) = self.request.existing_context() {
            context.message_out(message.data().len());
            context.message_id = Some(message.id);
        }
    }

    fn in_flight_octets(&self) -> usize {
        self.in_flight.iter().map(Piece::left).sum()
    }

    fn push(&mut self, content: Content, last: bool) {
        // SAFETY: a buffer of nginx is plain data, for which all zeroes is empty.
        let new = || Box::new(unsafe { std::mem::zeroed::<ffi::ngx_buf_t>() });
        let mut buffer = self.spare.pop().unwrap_or_else(new);
        let octets = content.octets();
        // SAFETY: the octets live as long as the content, which is kept beside the buffer; nginx only reads them.
        unsafe { ffi::ngx_ws_body_buf(&raw mut *buffer, octets.as_ptr().cast_mut(), octets.len(), last.into()) };
        self.in_flight.push_back(Piece { buffer, _content: content });
        self.fresh += 1;
    }

    /// Gives nginx what it has not got yet. `false` when the connection is lost.
    fn send(&mut self) -> bool {
        let known = self.in_flight.len() - self.fresh;
        self.fresh = 0;
        let mut buffers: Vec<*mut ffi::ngx_buf_t> =
            self.in_flight.iter_mut().skip(known).map(|piece| &raw mut *piece.buffer).collect();
        let request = self.request.raw();
        // SAFETY: the request is alive, and the buffers stay where they are until they are empty.
        let sent = unsafe {
            ffi::ngx_ws_body_send(request, buffers.as_mut_ptr(), buffers.len()) != ffi::NGX_ERROR as isize
                && ffi::ngx_ws_body_blocked(request) != ffi::NGX_ERROR as isize
        };
        let now = now();
        if !buffers.is_empty() {
            self.sent = now;
        }
        while self.in_flight.front().is_some_and(|piece| piece.left() == 0) {
            self.spare.extend(self.in_flight.pop_front().map(|piece| piece.buffer));
        }
        let left = self.in_flight_octets();
        if left == 0 || left != self.left {
            self.moved = now;
        }
        self.left = left;
        sent
    }

    /// The client takes more.
    fn writable(&mut self) -> Verdict {
        if !self.send() {
            return Verdict::Finish(ffi::NGX_ERROR as isize);
        }
        let Some(id) = self.subscriber else { return Verdict::Continue };
        if self.blocked && self.in_flight.is_empty() {
            self.blocked = false;
            hub::with(|hub| hub.unblock(id));
        }
        self.arm();
        Verdict::Continue
    }

    /// When something is due for its silence, and when the client is given up.
    fn deadlines(&self) -> (Option<u64>, Option<u64>) {
        let settings = self.request.settings();
        let after = |begin: u64, time: u64| (time != 0).then_some(begin + time);
        let keepalive = after(self.sent, settings.ping_interval())
            .filter(|_| self.transport == Transport::EventSource && self.in_flight.is_empty());
        let give_up = after(self.moved, settings.send_timeout()).filter(|_| !self.in_flight.is_empty());
        (keepalive, give_up)
    }

    fn arm(&mut self) {
        let (keepalive, give_up) = self.deadlines();
        let now = now();
        let next = [keepalive, give_up].into_iter().flatten().min().unwrap_or(now + NOTHING);
        self.timer.arm(next.saturating_sub(now).max(1));
    }

    fn on_time(&mut self) -> Verdict {
        self.timer.take_expired();
        let (keepalive, give_up) = self.deadlines();
        let now = now();
        if give_up.is_some_and(|due| due <= now) {
            self.request.report(Level::Info, format_args!("the client accepted nothing in time"));
            return Verdict::Finish(ffi::NGX_ERROR as isize);
        }
        if keepalive.is_some_and(|due| due <= now) {
            self.push(Content::Fixed(eventsource::KEEPALIVE), false);
            if !self.send() {
                return Verdict::Finish(ffi::NGX_ERROR as isize);
            }
        }
        self.arm();
        Verdict::Continue
    }

    /// No longer a subscriber.
    fn end(&mut self) {
        self.over = true;
        self.timer.disarm();
        if let Some(id) = self.subscriber.take() {
            hub::with(|hub| hub.unsubscribe(id));
        }
    }
}

/// The client can be written.
unsafe extern "C" fn on_writable(request: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request.
    let waiting = unsafe { Request::new(request) }.existing_context().and_then(|context| context.waiting);
    if let Some(waiting) = waiting {
        run(waiting, Waiting::writable);
    }
}

/// The time is up.
unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    // SAFETY: the timer carries a pointer to the subscriber and is removed before that is freed.
    if let Some(waiting) = NonNull::new(unsafe { (*event).data }.cast::<Waiting>()) {
        run(waiting, Waiting::on_time);
    }
}

/// The request is over; nginx may still be sending.
unsafe extern "C" fn on_end(data: *mut c_void) {
    guard((), || {
        // SAFETY: the memory is freed by the pool's cleanup, which comes later.
        unsafe { &mut *data.cast::<Waiting>() }.end();
    });
}

/// The pool of the request goes: nothing is being sent any more.
unsafe extern "C" fn on_free(data: *mut c_void) {
    guard((), || {
        // SAFETY: the pointer was leaked by create(), and a cleanup runs once.
        drop(unsafe { Box::from_raw(data.cast::<Waiting>()) });
    });
}
