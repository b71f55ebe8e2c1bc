// SPDX-License-Identifier: Apache-2.0

//! Somebody on a channel, for those who want to know: who is let in, that they came, and that they went.
//!
//! A member is dropped when its subscription ends, however that comes about; exactly then its leave is told. Nothing of this
//! exists for a location that names neither a hook nor a channel of events.

use std::rc::Rc;

use super::events::Events;
use super::publish::policy;
use super::subscription::{self, Ids};
use crate::channel::backend::{Answer, Backend, Demand, Failure, Outcome};
use crate::channel::event::Happening;
use crate::channel::hook::Joining;
use crate::channel::store::{Key, Policy, SubscribeError};
use crate::nginx::backend;
use crate::nginx::detached::{self, PreparedNotice, Question, RefusalHeaders};
use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::request::{HeldRequest, Request, try_again};
use crate::nginx::scope;
use crate::nginx::status::Status;
use crate::nginx::template::ComplexValue;

const UNAVAILABLE: u16 = ffi::NGX_HTTP_SERVICE_UNAVAILABLE as u16;
const FORBIDDEN: u16 = ffi::NGX_HTTP_FORBIDDEN as u16;
const UNAUTHORIZED: u16 = ffi::NGX_HTTP_UNAUTHORIZED as u16;
const TOO_MANY_REQUESTS: u16 = ffi::NGX_HTTP_TOO_MANY_REQUESTS as u16;

/// Somebody on a channel whose join and leave are told.
pub struct ChannelMember {
    /// Invariant: it is held by whoever has the member, so that its variables are those with which it came.
    request: HeldRequest,
    /// Its request is about one channel after another, and this is the one that the member is on.
    place: Option<Place>,
    /// Who is told that it has gone, by the location that let it in.
    farewell: Option<ComplexValue>,
    events: Option<Rc<Events>>,
    channels: Box<[Box<[u8]>]>,
    /// A hook has let it in, or it has subscribed: its leave is told to a hook.
    known: bool,
    /// Its join was an event, and so is its leave.
    announced: bool,
}

/// A channel that the client of a request has named; `None`: those of its location.
pub type Place = Option<Box<str>>;

/// Whether somebody has to be asked before this request may subscribe: a hook, or whoever has the channels.
pub fn must_ask(request: Request<'_>) -> bool {
    let settings = request.settings();
    settings.channel_join_request().is_some() || backend::of(settings.engine).needs_opening()
}

/// Asks whether this request may subscribe to these channels. If that is not known at once, `done` is called in a later turn of the
/// event loop.
///
/// # Errors
///
/// The status to answer.
pub fn ask(
    request: Request<'_>,
    ids: &Ids<'_>,
    done: impl FnOnce(JoinDecision, Option<Request<'_>>) + 'static,
) -> Result<Option<JoinDecision>, Status> {
    can_notify(request)?;
    let farewell = request.settings().channel_leave_request();
    let channels = Channels::of(request, ids)?;
    let Some(target) = request.settings().channel_join_request() else {
        let decision = JoinDecision::new(Joining::Admit, farewell);
        let Some(channels) = channels else { return Ok(Some(decision)) };
        return Ok(match channels.open() {
            Answer::Now(opened) => Some(decision.of_backend(&opened)),
            Answer::Later(pending) => {
                pending.then(move |opened| done(decision.of_backend(&opened), None));
                None
            }
        });
    };
    let done = move |answer: detached::HookAnswer, copy: Option<Request<'_>>| {
        let mut decision = JoinDecision::new(Joining::of(answer.status), farewell);
        decision.refusal = answer.refusal;
        decision.hook = true;
        match (channels, decision.joining) {
            (Some(channels), Joining::Admit) => match channels.open() {
                Answer::Now(opened) => done(decision.of_backend(&opened), copy),
                Answer::Later(pending) => {
                    // The copy of the request is there during this call only.
                    decision.prepare_farewell(copy);
                    pending.then(move |opened| done(decision.of_backend(&opened), None));
                }
            },
            (Some(_) | None, _) => done(decision, copy),
        }
    };
    detached::ask(request, &target, Question::Permission, Box::new(done)).map(|()| None)
}

/// The channels of a request that have to be opened.
struct Channels {
    backend: Rc<dyn Backend>,
    group: Box<[u8]>,
    ids: Box<[Box<[u8]>]>,
    demand: Demand,
}

impl Channels {
    fn of(request: Request<'_>, ids: &Ids<'_>) -> Result<Option<Self>, Status> {
        let backend = backend::of(request.settings().engine);
        if !backend.needs_opening() {
            return Ok(None);
        }
        let keys = ids.keys();
        let Policy { history, group } = policy(request)?;
        Ok(Some(Channels {
            backend,
            group: keys.first().map(|key| key.group()).unwrap_or_default().into(),
            ids: keys.iter().map(|key| key.id().into()).collect(),
            demand: Demand {
                history,
                known: subscription::epochs(request),
                create: request.settings().channel_create(),
                group,
            },
        }))
    }

    fn open(&self) -> Answer<(), SubscribeError> {
        let space = self.backend.space();
        let keys: Vec<Key<'_>> = self.ids.iter().filter_map(|id| Key::in_space(space, &self.group, id)).collect();
        self.backend.open(&keys, &self.demand)
    }
}

/// What was said about a request that wants to subscribe.
///
/// Invariant: whoever was let in by a hook either becomes a [`ChannelMember`], whose end is told, or is told to have left at once.
pub struct JoinDecision {
    joining: Joining,
    refusal: RefusalHeaders,
    /// Who is told that somebody has gone.
    farewell: Option<ComplexValue>,
    /// A hook has said so.
    hook: bool,
    /// Whether what it asks to subscribe to is there; else why not.
    opened: Outcome<(), SubscribeError>,
    /// Told to `farewell` of somebody whose request may be gone by now.
    notice: Option<PreparedNotice>,
}

impl JoinDecision {
    fn new(joining: Joining, farewell: Option<ComplexValue>) -> Self {
        JoinDecision {
            joining,
            refusal: RefusalHeaders::default(),
            farewell,
            hook: false,
            opened: Ok(()),
            notice: None,
        }
    }

    /// The decision, once it is known whether the channels are open.
    fn of_backend(mut self, opened: &Outcome<(), SubscribeError>) -> Self {
        self.opened = *opened;
        self
    }

    /// Prepares for the case that the request is gone when the channels are open. `copy` is the hook's copy of it.
    fn prepare_farewell(&mut self, copy: Option<Request<'_>>) {
        if let (Some(copy), Some(target)) = (copy, &self.farewell) {
            // What went wrong was logged, and there is nobody to tell.
            self.notice = PreparedNotice::of(copy, target).ok();
        }
    }

    /// Lets the request in, or tells it why not.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn apply(mut self, request: Request<'_>) -> Result<Option<ChannelMember>, Status> {
        let status = match self.joining {
            Joining::Admit if self.opened.is_ok() => match ChannelMember::admitted(request) {
                Ok(mut member) => {
                    // From now on it is the member that tells.
                    self.notice = None;
                    if let Some(member) = &mut member {
                        member.known = self.hook;
                    }
                    return Ok(member);
                }
                Err(status) => status,
            },
            Joining::Admit => {
                if let Err(failure) = &self.opened {
                    request.report(Level::Info, format_args!("cannot subscribe: {failure}"));
                }
                if self.is_forbidden() { Status::FORBIDDEN } else { try_again(request) }
            }
            Joining::Refuse(status) => {
                request.report(Level::Info, format_args!("\"websocket_channel_join_request\" refuses: {status}"));
                return Err(refuse(request, status, &self.refusal));
            }
        };
        self.discard(Some(request));
        Err(status)
    }

    /// Whether whoever has the channels does not let the client have them.
    fn is_forbidden(&self) -> bool {
        matches!(self.opened, Err(Failure::Own(SubscribeError::Group | SubscribeError::Missing)))
    }

    /// Whether a hook has let the client in; else the status to tell it. Who asks makes a [`ChannelMember`] of a client that is let in.
    ///
    /// # Errors
    ///
    /// The status.
    pub fn verdict(&mut self) -> Result<bool, u16> {
        match self.joining {
            Joining::Admit if self.opened.is_ok() => {
                self.notice = None;
                Ok(self.hook)
            }
            Joining::Admit if self.is_forbidden() => Err(FORBIDDEN),
            Joining::Admit => Err(UNAVAILABLE),
            Joining::Refuse(status) => Err(status),
        }
    }

    /// The client has gone before it could be let in, or could not be let in: if a hook has let it in, that it has left is told.
    /// `copy` is its request, or one of its copies.
    pub fn discard(mut self, copy: Option<Request<'_>>) {
        if !self.hook || self.joining != Joining::Admit {
            return;
        }
        match (self.notice.take(), copy, &self.farewell) {
            (Some(notice), _, _) => notice.send(),
            (None, Some(copy), Some(target)) => leave(copy, target),
            (None, _, _) => {}
        }
    }
}

impl Drop for JoinDecision {
    fn drop(&mut self) {
        if let Some(notice) = self.notice.take() {
            notice.send();
        }
    }
}

/// The status with which a hook refuses a request. What it wants to be shown goes with a 401, and when to come again with a 429 and a
/// 503.
pub fn refuse(request: Request<'_>, status: u16, headers: &RefusalHeaders) -> Status {
    let RefusalHeaders { challenges, retry_after } = headers;
    let added = match status {
        UNAUTHORIZED => challenges.iter().all(|challenge| request.add_header("WWW-Authenticate", challenge)),
        TOO_MANY_REQUESTS | UNAVAILABLE => retry_after.is_empty() || request.add_header("Retry-After", retry_after),
        _ => true,
    };
    if added { Status::http(status) } else { Status::INTERNAL_SERVER_ERROR }
}

impl ChannelMember {
    /// For a request that is about to subscribe, and about which nobody was asked. `None` where nobody wants to know.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn of(request: Request<'_>) -> Result<Option<Self>, Status> {
        can_notify(request)?;
        Self::admitted(request)
    }

    fn admitted(request: Request<'_>) -> Result<Option<Self>, Status> {
        let settings = request.settings();
        let events = Events::of(request)?.map(Rc::new);
        let farewell = settings.channel_leave_request();
        if events.is_none() && farewell.is_none() {
            return Ok(None);
        }
        let channels = match (&events, settings.channel()) {
            (Some(_), Some(channel)) => Ids::of(request, channel)?.keys().iter().map(|key| key.id().into()).collect(),
            _ => Box::default(),
        };
        // SAFETY: whoever has the member holds the request.
        let request = unsafe { request.held() };
        Ok(Some(ChannelMember { request, place: None, farewell, events, channels, known: false, announced: false }))
    }

    /// For a request that is about one channel after another; `copy` is about the one that is to be subscribed to. `by_hook` if a hook
    /// has said that it may be.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn on_place(
        request: Request<'_>,
        copy: Request<'_>,
        place: Place,
        ids: &Ids<'_>,
        by_hook: bool,
    ) -> Result<Option<Self>, Status> {
        if !by_hook {
            can_notify(copy)?;
        }
        let events = Events::of(copy)?.map(Rc::new);
        let farewell = request.settings().channel_leave_request();
        if events.is_none() && farewell.is_none() {
            return Ok(None);
        }
        let channels = ids.keys().iter().map(|key| key.id().into()).collect();
        // SAFETY: whoever has the member holds the request.
        let request = unsafe { request.held() };
        Ok(Some(ChannelMember {
            request,
            place: Some(place),
            farewell,
            events,
            channels,
            known: by_hook,
            announced: false,
        }))
    }

    /// The client has subscribed.
    pub fn joined(&mut self) {
        self.known = true;
        self.announced = true;
        self.tell(Happening::Join);
    }

    fn tell(&self, happening: Happening) {
        if let Some(events) = &self.events {
            for channel in &self.channels {
                events.tell(happening, channel);
            }
        }
    }
}

impl Drop for ChannelMember {
    fn drop(&mut self) {
        if self.announced {
            self.tell(Happening::Leave);
        }
        if let (true, Some(target)) = (self.known, &self.farewell) {
            match &self.place {
                None => leave(self.request.get(), target),
                Some(place) => {
                    // Without memory for it there is nobody to tell.
                    let channel = place.as_deref().map(str::as_bytes);
                    let _ = scope::with(self.request.get(), channel, |copy| leave(copy, target));
                }
            }
        }
    }
}

/// Who could not be told of when it goes is not let in: a client must not be able to stay unseen.
fn can_notify(request: Request<'_>) -> Result<(), Status> {
    request.settings().channel_leave_request().map_or(Ok(()), |target| detached::can_notify(request, &target))
}

/// Tells the hook that the subscriber of a request has gone.
fn leave(request: Request<'_>, target: &ComplexValue) {
    // What went wrong was logged, and there is nobody to tell.
    let _ = detached::ask(request, target, Question::Notice, Box::new(|_, _| {}));
}
