// SPDX-License-Identifier: Apache-2.0

//! Requests that wait for messages, on nginx: see [`subscriber`](crate::session::subscriber).

mod response;
mod source;

use std::ffi::c_void;
use std::fmt::Arguments;
use std::mem::offset_of;
use std::ptr::NonNull;

use super::hub;
use super::member::ChannelMember;
use super::run;
use super::subscription::{self, Ids, Subscription};
use crate::channel::fanout::OnGap;
use crate::channel::position::Start;
use crate::channel::streaming::{NO_STORE, Streaming};
use crate::channel::wire::WireForm;
use crate::conf::{ChannelLag, ChannelLongPoll};
use crate::ledger::{OpenSession, Opening};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::hold::{self, Holder, HolderKind};
use crate::nginx::ledger;
use crate::nginx::listeners::{self, Calls, Head, Listener};
use crate::nginx::log::Level;
use crate::nginx::random;
use crate::nginx::request::{HeldRequest, Request, try_again};
use crate::nginx::session::context::{HeldContext, RecordRef};
use crate::nginx::shared::{self, Arrival};
use crate::nginx::status::Status;
use crate::nginx::timer::{self, Timer, now};
use crate::session::endpoint::HttpStatus;
use crate::session::host::{Log, Severity};
pub use crate::session::subscriber::{Delivery, Flow};
use crate::session::subscriber::{Host, RunPart, Settings, SubscriberEnd};
use response::NginxResponse;
use source::ChannelSource;

/// The state machine of a request of nginx that waits for messages.
pub type Subscriber = crate::session::subscriber::Subscriber<NginxHost>;

/// A subscriber in the memory that its events know.
#[repr(C)]
pub struct Waiting {
    /// How it is reached by those who know only that it is a client.
    head: Head,
    subscriber: Subscriber,
    /// One of its events is being handled.
    ///
    /// Invariant: the events of a subscriber are never handled inside of one another. Those of others may be: what a subscriber
    /// does may wake another client of its program, which may end it.
    running: bool,
}

static CALLS: Calls = Calls {
    wake: |listener| run(listener.client(), Subscriber::pump),
    serve: |_, _, _| false,
    drain_time: |listener| enter(listener.client(), |waiting| waiting.host().request.get().settings().drain()),
    drain: |listener, at| run(listener.client(), |waiting| waiting.on_drain(at)),
    terminate: |listener| run(listener.client(), Subscriber::terminate),
};

static HOLDER: HolderKind = HolderKind {
    let_go: |_, holder| {
        if let Some(waiting) = holder.of_kind(&HOLDER) {
            let_go(waiting);
        }
    },
};

/// The subscriber, for those who know only that it is a client.
fn listener(waiting: NonNull<Waiting>) -> Listener {
    const { assert!(offset_of!(Waiting, head) == 0) };
    Listener::new(waiting.cast())
}

/// What a subscriber has of nginx besides its response.
pub struct NginxHost {
    request: HeldRequest,
    /// What is known of the request; in its pool.
    context: HeldContext,
    /// Whoever wants to know that the client has left is told when this goes.
    member: Option<ChannelMember>,
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
    type Response = NginxResponse;
    type Source = ChannelSource;
    type Record = RecordRef;

    fn now(&self) -> u64 {
        now()
    }

    fn watch_client(&mut self) {
        hold::watch_client(self.request.get());
    }

    fn listen(&mut self) {
        hold::watch_client(self.request.get());
        // SAFETY: the request is alive and from now on driven by the events of its client and of the hub.
        unsafe {
            (*self.request.get().raw()).write_event_handler = Some(on_writable);
            if self.request.get().http_version() < 2000 {
                // Without it the second of two events waits until the first was acknowledged.
                ffi::ngx_ws_tcp_nodelay(self.request.get().connection());
            }
        }
    }

    fn open_account(&mut self, subscribes: bool) -> Option<OpenSession> {
        self.context.is_counted.set(true);
        let opening = Opening { subscribes, waited: self.request.get().age(), now: now() };
        ledger::own()?.open(self.request.get().settings().key as usize, opening)
    }

    fn late_drain(&mut self) -> Option<u64> {
        listeners::late_drain(self.request.get())
    }

    fn set_timer(&mut self, milliseconds: u64) {
        self.timer.arm(milliseconds);
    }

    fn take_expired(&mut self) {
        self.timer.take_expired();
    }

    fn stop(&mut self) {
        if let Some(place) = self.place.take() {
            listeners::remove(place);
        }
        self.timer.cancel();
    }

    fn release(&mut self) {
        self.member = None;
        hold::release(self.request.get(), &self.context);
    }
}

/// Lets a request wait for messages, of the program that subscribers share if the location has one; returns what the
/// content handler returns. A member whose subscription fails goes at once.
///
/// # Errors
///
/// The status to answer.
pub fn start(
    request: Request<'_>,
    delivery: Delivery,
    ids: &Ids<'_>,
    member: Option<ChannelMember>,
) -> Result<Status, Status> {
    let arrival = run::arrival(request)?;
    let is_nothing = || request.settings().channel_create() && !hub::has_channels(&ids.keys());
    if request.method() == b"HEAD" && !matches!(arrival, Arrival::Follows) && is_nothing() {
        return head_of_nothing(request, &delivery);
    }
    let (form, on_gap, is_first) = match &delivery {
        Delivery::Streaming(streaming) => {
            let otherwise = match request.settings().channel_lag() {
                ChannelLag::Close => OnGap::Close,
                ChannelLag::Skip => OnGap::Skip,
            };
            (streaming.form(), streaming.on_gap(otherwise), false)
        }
        Delivery::LongPoll | Delivery::Poll => {
            (several(request).map_or(WireForm::Body, |streaming| streaming.form()), OnGap::Tell, false)
        }
        Delivery::FirstPoll => (WireForm::Body, OnGap::Tell, true),
    };
    let are_events = matches!(delivery, Delivery::Streaming(Streaming::EventSource(_)));
    let form = subscription::presented(request, form, are_events)?;
    let form = match request.settings().channel_tell_id() {
        Some(naming) => WireForm::Named(naming, Box::new(form)),
        None => form,
    };
    let is_stream = matches!(delivery, Delivery::Streaming(_));
    let transport = delivery.transport();
    let waiting = create(request, delivery, member, settings(request, &arrival))?;
    let listener = listener(waiting);
    let ended = enter(waiting, |subscriber| {
        let subscription = match arrival {
            Arrival::Begins(_) => Subscription::of_new_run(request, ids),
            Arrival::Shares if is_first => Subscription::of_what_is_there(request, ids),
            Arrival::Shares | Arrival::Follows => Subscription::of(request, ids),
        };
        let subscription = if is_stream { subscription } else { subscription.one_by_one() };
        let begin = |subscriber: &mut Subscriber| -> Result<Flow, Status> {
            let mut source = ChannelSource::new(subscription.begin(request, form, on_gap, transport, listener)?);
            // Its first subscriber gets all that the program says.
            if let Some(program) = request.settings().shared_program() {
                source.share(shared::join(request, program, ids, listener, &arrival)?);
            }
            if let Some(member) = &mut subscriber.host_mut().member {
                member.joined();
            }
            Ok(subscriber.attach(source))
        };
        let flow = begin(subscriber);
        if !matches!(flow, Ok(Flow::Continue(()))) {
            subscriber.release();
        }
        flow
    })?;
    match ended {
        Flow::Continue(()) => {
            // Who ends the subscriber gives this reference back.
            request.hold();
            Ok(Status::DONE)
        }
        Flow::Break(end) => Ok(status(request, end)),
    }
}

/// Answers a HEAD of channels that do not exist, which must not be created by it: what a GET of them would begin with.
pub fn head_of_nothing(request: Request<'_>, delivery: &Delivery) -> Result<Status, Status> {
    let cache_control = match delivery {
        Delivery::Streaming(streaming) => streaming.cache_control(),
        Delivery::LongPoll | Delivery::Poll | Delivery::FirstPoll => NO_STORE,
    };
    if !request.add_header("Cache-Control", cache_control.as_bytes()) {
        return Err(Status::INTERNAL_SERVER_ERROR);
    }
    let content_type = match delivery {
        Delivery::Streaming(streaming) => {
            Some(request.copy(streaming.content_type().as_bytes()).ok_or(Status::INTERNAL_SERVER_ERROR)?)
        }
        Delivery::LongPoll | Delivery::Poll | Delivery::FirstPoll => None,
    };
    // SAFETY: the request is alive, nothing was sent yet, and the text is in its pool.
    let sent = unsafe {
        match content_type {
            Some(content_type) => request.open_answer(ffi::NGX_HTTP_OK as u16, content_type, -1),
            None => request.empty_answer(ffi::NGX_HTTP_NOT_MODIFIED as u16),
        }
        ffi::ngx_http_send_header(request.raw())
    };
    if sent == Status::ERROR { Err(Status::ERROR) } else { Ok(Status::OK) }
}

/// What the location says about its subscribers.
fn settings(request: Request<'_>, arrival: &Arrival) -> Settings {
    let location = request.settings();
    Settings {
        send_limit: usize::try_from(location.send_buffer()).unwrap_or(usize::MAX),
        send_timeout: location.send_timeout(),
        idle_timeout: location.idle_timeout(),
        ping_interval: location.ping_interval(),
        close_timeout: location.close_timeout(),
        begins_with_newest: location.channel_start() == Start::Newest,
        several: several(request),
        run: match arrival {
            Arrival::Shares => RunPart::None,
            Arrival::Begins(_) => RunPart::Begins,
            Arrival::Follows => RunPart::Follows,
        },
    }
}

/// How the messages of one response are told apart, if it has several.
fn several(request: Request<'_>) -> Option<Streaming> {
    if !request.is_attended() {
        // Its answer becomes part of another one.
        return None;
    }
    match request.settings().channel_longpoll() {
        ChannelLongPoll::Single => None,
        ChannelLongPoll::Multipart => Some(Streaming::multipart(random::long_number())),
        ChannelLongPoll::Raw => Some(Streaming::Raw(request.settings().channel_separator())),
    }
}

/// Makes the subscriber and gives it to the request: its subscription ends with the request; its memory, which nginx may still be
/// sending from, is the pool's.
fn create(
    request: Request<'_>,
    delivery: Delivery,
    member: Option<ChannelMember>,
    settings: Settings,
) -> Result<NonNull<Waiting>, Status> {
    const { assert!(align_of::<Waiting>() <= align_of::<usize>()) };
    let context = request.context().ok_or(Status::INTERNAL_SERVER_ERROR)?;
    // SAFETY: the request is alive; each cleanup runs once, the one of the pool last, before the memory that comes with it is freed.
    // That is aligned for pointers, and nobody else has it.
    unsafe {
        let last = ffi::ngx_pool_cleanup_add((*request.raw()).pool, size_of::<Waiting>());
        let first = ffi::ngx_http_cleanup_add(request.raw(), 0);
        if last.is_null() || first.is_null() {
            return Err(Status::INTERNAL_SERVER_ERROR);
        }
        let waiting = NonNull::new((*last).data.cast::<Waiting>()).ok_or(Status::INTERNAL_SERVER_ERROR)?;
        let apart = matches!(&delivery, Delivery::Streaming(streaming) if streaming.is_in_chunks());
        let timer = Timer::new(on_timer, waiting.as_ptr().cast(), request.log());
        let host = NginxHost { request: request.held(), context: context.held(), member, timer, place: None };
        let (response, record) = (NginxResponse::new(request, apart), RecordRef(context.held()));
        let subscriber = Subscriber::new(host, response, record, delivery, settings);
        waiting.write(Waiting { head: Head::new(&CALLS), subscriber, running: false });
        (*waiting.as_ptr()).subscriber.host_mut().place = Some(listeners::add(listener(waiting)));
        (*last).handler = Some(on_free);
        (*first).handler = Some(on_end);
        (*first).data = waiting.as_ptr().cast();
        hold::take(context, Holder::new(&HOLDER, waiting));
        Ok(waiting)
    }
}

/// What nginx is told of the end of a request.
fn status(request: Request<'_>, end: SubscriberEnd) -> Status {
    match end {
        SubscriberEnd::Finished => Status::OK,
        SubscriberEnd::Lost => Status::ERROR,
        SubscriberEnd::Refused(HttpStatus(status)) => Status::http(status),
        SubscriberEnd::TryAgain => try_again(request),
    }
}

/// Changes a subscriber and acts on what it has come to. Its memory may be gone when this returns, and the request somebody
/// else's.
pub fn run(waiting: NonNull<Waiting>, body: impl FnOnce(&mut Subscriber) -> Flow) {
    let (end, request) = enter(waiting, |subscriber| {
        let request = subscriber.host().request.get().raw();
        let flow = guard(Flow::Break(SubscriberEnd::Lost), || {
            if subscriber.is_over() { Flow::Continue(()) } else { body(subscriber) }
        });
        if flow.is_break() {
            guard((), || subscriber.release());
        }
        (flow, request)
    });
    let Flow::Break(end) = end else { return };
    // SAFETY: the request is alive until it is finalized here; nginx looks at the connection only if requests were posted
    // to it.
    unsafe {
        let request = Request::new(request);
        let connection = request.connection();
        let status = request.answer(status(request, end));
        ffi::ngx_http_finalize_request(request.raw(), status.raw());
        ffi::ngx_http_run_posted_requests(connection);
    }
}

/// Ends a subscriber whose request is given back to nginx, by whoever calls: nothing refers to the request any more.
fn let_go(waiting: NonNull<Waiting>) {
    enter(waiting, Subscriber::release);
}

/// Gives `body` the subscriber. What finalizes its request comes after.
pub fn enter<R>(waiting: NonNull<Waiting>, body: impl FnOnce(&mut Subscriber) -> R) -> R {
    // SAFETY: whoever is given a subscriber, as the data of an event, on a list, by a context, is forgotten there when it
    // ends, and its memory lives on until the pool of the request is freed, which is not inside of an event of its own. So it
    // is there. nginx is single-threaded, and `running` tells that no other reference is on the stack.
    unsafe {
        debug_assert!(!(*waiting.as_ptr()).running, "the events of a subscriber are handled inside of one another");
        let state = &mut *waiting.as_ptr();
        state.running = true;
        let result = body(&mut state.subscriber);
        state.running = false;
        result
    }
}

/// The client can be written.
unsafe extern "C" fn on_writable(request: *mut ffi::ngx_http_request_t) {
    // SAFETY: nginx calls with a live request.
    let holder = unsafe { Request::new(request) }.existing_context().and_then(|context| context.holder.get());
    if let Some(waiting) = holder.and_then(|holder| holder.of_kind(&HOLDER)) {
        run(waiting, Subscriber::writable);
    }
}

/// The time is up.
unsafe extern "C" fn on_timer(event: *mut ffi::ngx_event_t) {
    // SAFETY: the owner of the timer is the subscriber, which removes it before it is freed.
    if let Some(waiting) = unsafe { timer::owner::<Waiting>(event) } {
        run(waiting, Subscriber::on_time);
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
        // SAFETY: create() has set the handler after it had written a subscriber there, and a cleanup runs once.
        unsafe { data.cast::<Waiting>().drop_in_place() };
    });
}
