// SPDX-License-Identifier: Apache-2.0

//! Publishing, and what a publisher is told.

use std::cell::Cell;
use std::rc::Rc;

use super::approval::{self, Decision, Draft};
use super::events::Events;
use super::subscription::Ids;
use super::{hub, limits};
use crate::channel::event::Happening;
use crate::channel::message::{Publication, kind_of};
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::{History, Info, Key, Policy, PublishError};
use crate::conf::{self, count, value};
use crate::nginx::caller::Caller;
use crate::nginx::engine;
use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::request::{Request, bytes, try_again};
use crate::ws::frame::Kind;

use super::answer;
use super::member::refuse;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// The name of the event that tells an EventSource of lost messages: nobody else may say so.
const GAP: &[u8] = b"gap";

/// Who publishes: to which channels, what they keep, and what their group may have.
pub struct Publisher {
    group: Box<[u8]>,
    ids: Box<[Box<[u8]>]>,
    policy: Policy,
    events: Option<Rc<Events>>,
    /// The engine that has the channels, and what [`Key::space`] says of it.
    engine: usize,
    space: u64,
}

/// What a publisher is told.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Of the channel; of several channels the sums, and the last id of the first one.
    pub info: Info,
    /// The message, in the first channel.
    pub id: MessageId,
}

impl Publisher {
    /// For a request to a location that may publish.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged.
    pub fn new(request: Request, ids: &Ids<'_>) -> Result<Self, isize> {
        let keys = ids.keys();
        Ok(Publisher {
            group: keys.first().map(|key| key.group()).unwrap_or_default().into(),
            ids: keys.iter().map(|key| key.id().into()).collect(),
            policy: policy(request)?,
            events: Events::of(request)?.map(Rc::new),
            engine: request.settings().engine,
            space: engine::space(request.settings().engine),
        })
    }

    /// The engine that has the channels; 0: this machine has them alone.
    pub fn engine(&self) -> usize {
        self.engine
    }

    /// Publishes a message to each of the channels, which an engine has. `done` is called in a later turn of the event loop, or
    /// at once if the engine is known to be away.
    pub fn publish_to_engine(
        &self,
        publication: &Publication<'_>,
        done: impl FnOnce(Result<Told, PublishError>) + 'static,
    ) {
        let gathered = Rc::new(Gathered {
            left: Cell::new(self.ids.len()),
            told: Cell::new(None),
            failed: Cell::new(None),
            done: Cell::new(Some(Box::new(done))),
        });
        for id in &self.ids {
            let Some(key) = Key::in_space(self.space, &self.group, id) else { continue };
            let (gathered, events, id) = (Rc::clone(&gathered), self.events.clone(), id.clone());
            engine::publish(self.engine, key, publication, self.policy.history, move |published| {
                if let (Ok(published), Some(events)) = (&published, &events) {
                    events.tell(Happening::Publish(published.id), &id);
                }
                gathered.add(published);
            });
        }
    }

    /// Publishes a message to each of the channels.
    ///
    /// # Errors
    ///
    /// [`PublishError`] of the first channel that cannot take it.
    pub fn publish(&self, kind: Kind, content_type: &[u8], event: &[u8], data: &[&[u8]]) -> Result<Told, PublishError> {
        let publication = Publication { kind, content_type, event, data };
        let mut told: Option<Told> = None;
        for id in &self.ids {
            debug_assert_eq!(self.engine, 0, "an engine answers later");
            let key = Key::new(&self.group, id).ok_or(PublishError::TooLarge)?;
            let published =
                hub::with(|hub| hub.publish(key, &publication, self.policy)).ok_or(PublishError::Corrupt)??;
            if let Some(events) = &self.events {
                events.tell(Happening::Publish(published.id), id);
            }
            told = Some(match told {
                None => Told { info: published.info, id: published.id },
                Some(told) => Told { info: sum(told.info, published.info), ..told },
            });
        }
        told.ok_or(PublishError::Corrupt)
    }

    /// What is known of the channels, for a publisher whose message was dropped.
    pub fn info(&self) -> Info {
        let keys = self.ids.iter().filter_map(|id| Key::in_space(self.space, &self.group, id));
        let infos = keys.filter_map(|key| hub::with(|hub| hub.info(key)).flatten());
        infos.reduce(sum).unwrap_or(Info {
            messages: 0,
            requested: None,
            subscribers: 0,
            last: MessageId { epoch: Epoch(0), offset: Offset(0) },
        })
    }
}

/// Who is told what became of a message.
type Done = Box<dyn FnOnce(Result<Told, PublishError>)>;

/// The answers of an engine for several channels, until the last one is there.
struct Gathered {
    left: Cell<usize>,
    told: Cell<Option<Told>>,
    failed: Cell<Option<PublishError>>,
    done: Cell<Option<Done>>,
}

impl Gathered {
    fn add(&self, published: Result<engine::Published, engine::Failed>) {
        match published {
            Ok(published) => self.told.set(Some(match self.told.get() {
                None => Told { info: published.info, id: published.id },
                Some(told) => Told { info: sum(told.info, published.info), ..told },
            })),
            Err(failed) => self.failed.set(Some(failed.into())),
        }
        self.left.set(self.left.get() - 1);
        if self.left.get() > 0 {
            return;
        }
        if let Some(done) = self.done.take() {
            done(match (self.failed.get(), self.told.get()) {
                (Some(error), _) => Err(error),
                (None, told) => told.ok_or(PublishError::Corrupt),
            });
        }
    }
}

impl From<engine::Failed> for PublishError {
    fn from(failed: engine::Failed) -> Self {
        match failed {
            engine::Failed::Unavailable => Self::Unavailable,
            engine::Failed::Unknown => Self::Unknown,
            engine::Failed::Refused => Self::Corrupt,
            engine::Failed::TooLong => Self::TooLarge,
        }
    }
}

/// Channel info of several channels as one.
pub fn sum(first: Info, other: Info) -> Info {
    let requested = match (first.requested, other.requested) {
        (Some(first), Some(other)) => Some(first.min(other)),
        (first, other) => first.or(other),
    };
    Info {
        messages: first.messages.saturating_add(other.messages),
        requested,
        subscribers: first.subscribers.saturating_add(other.subscribers),
        last: first.last,
    }
}

/// What a publication of this request may leave behind.
///
/// # Errors
///
/// The status to answer, which was logged.
pub(super) fn policy(request: Request) -> Result<Policy, isize> {
    Ok(Policy { history: history(request)?, group: limits::of_group(request)? })
}

/// What the channels keep, with the values that the variables have for this request.
fn history(request: Request) -> Result<History, isize> {
    match request.settings().channel_history() {
        conf::History::Off => Ok(History::OFF),
        conf::History::Kept { length, time } => {
            let length = limits::amount(request, "websocket_channel_history", &length, count)?;
            let time = limits::amount(request, "websocket_channel_history", &time, value::time)?;
            Ok(History::of(length, time))
        }
    }
}

/// Reads the body of a request and publishes it; returns what the content handler returns.
pub fn receive(request: Request) -> ffi::ngx_int_t {
    if !request.body_is_there() {
        let reason =
            "nothing is published: the body of the request was passed on, dropped or never read before it came here";
        request.report(Level::Error, format_args!("{reason}"));
        return FAILED;
    }
    // SAFETY: the request is alive; nginx calls the handler once the body is there, now or later.
    let read = unsafe { ffi::ngx_http_read_client_request_body(request.raw(), Some(on_body)) };
    if read >= ffi::NGX_HTTP_SPECIAL_RESPONSE as isize { read } else { ffi::NGX_DONE as isize }
}

/// The body is there.
unsafe extern "C" fn on_body(request: *mut ffi::ngx_http_request_t) {
    crate::nginx::guard::guard((), || {
        // SAFETY: nginx calls with a live request; the body handler's reference is given back here, or by the caller that
        // waits for a hook.
        unsafe {
            match received(Request::new(request)) {
                Ok(Some(status)) | Err(status) => ffi::ngx_http_finalize_request(request, status),
                Ok(None) => {}
            }
        }
    });
}

/// Publishes the body of a request. `None` if somebody has to be asked before.
fn received(request: Request) -> Result<Option<isize>, isize> {
    let Some(conf::Endpoint::Channel(channel)) = &request.settings().endpoint else { return Err(FAILED) };
    let ids = Ids::of(request, channel)?;
    let publisher = Publisher::new(request, &ids)?;
    let body = Body::of(request)?;
    let parts = body.parts();
    let content_type = request.header(b"content-type").unwrap_or_default();
    if request.header(b"x-eventsource-event").is_some_and(|event| event.trim_ascii() == GAP) {
        let reason = "the name of the event is \"gap\", which is how subscribers are told of lost messages";
        request.report(Level::Info, format_args!("nothing is published: {reason}"));
        return Err(ffi::NGX_HTTP_BAD_REQUEST as isize);
    }
    if let Some(context) = request.context() {
        context.record.data_in(parts.iter().map(|part| part.len()).sum(), true);
    }
    if request.settings().channel_publish_request().is_some() {
        return submit(request, publisher, content_type, &parts).map(|()| None);
    }
    if publisher.engine() != 0 {
        return publish_to_engine(request, &publisher, content_type, &parts).map(|()| None);
    }
    publish(request, &publisher, content_type, &parts).map(Some)
}

/// Publishes to an engine; the request waits for its answer.
fn publish_to_engine(
    request: Request,
    publisher: &Publisher,
    content_type: &[u8],
    parts: &[&[u8]],
) -> Result<(), isize> {
    if engine::is_away(publisher.engine()) {
        let told = answer_publisher(request, Err(PublishError::Unavailable));
        return told.and_then(Err);
    }
    let caller = Caller::of(request).ok_or(FAILED)?;
    let event = request.header(b"x-eventsource-event").unwrap_or_default();
    let publication = Publication { kind: kind_of(content_type, parts), content_type, event, data: parts };
    let waiting = caller.clone();
    waiting.wait();
    publisher.publish_to_engine(&publication, move |told| {
        caller.resume(|request| answer_publisher(request, told).unwrap_or_else(|status| status));
    });
    Ok(())
}

/// Asks what to do with a message; the request waits for it. A message that has come whole is published even if its publisher
/// has gone.
fn submit(request: Request, publisher: Publisher, content_type: &[u8], parts: &[&[u8]]) -> Result<(), isize> {
    let caller = Caller::of(request).ok_or(FAILED)?;
    let waiting = caller.clone();
    let event: Box<[u8]> = request.header(b"x-eventsource-event").unwrap_or_default().into();
    let draft = Draft { content_type: content_type.to_vec(), message: Rc::new(join(parts)?) };
    // SAFETY: every request has a core location configuration.
    let limit = unsafe { (*ffi::ngx_ws_get_core_loc_conf(request.raw())).client_max_body_size };
    approval::ask(request, draft, usize::try_from(limit).unwrap_or(0), move |decision| match decision {
        Decision::Publish(draft) => {
            let (content_type, parts) = (&draft.content_type, [draft.message.as_slice()]);
            let kind = kind_of(content_type, &parts);
            if publisher.engine() != 0 {
                let publication = Publication { kind, content_type, event: &event, data: &parts };
                return publisher.publish_to_engine(&publication, move |told| {
                    caller.resume(|request| answer_publisher(request, told).unwrap_or_else(|status| status));
                });
            }
            let told = publisher.publish(kind, content_type, &event, &parts);
            caller.resume(|request| answer_publisher(request, told).unwrap_or_else(|status| status));
        }
        Decision::Drop => caller.resume(no_content),
        Decision::Refuse { status, challenges } => caller.resume(|request| refuse(request, status, &challenges)),
    })?;
    waiting.wait();
    Ok(())
}

fn publish(request: Request, publisher: &Publisher, content_type: &[u8], parts: &[&[u8]]) -> Result<isize, isize> {
    let event = request.header(b"x-eventsource-event").unwrap_or_default();
    answer_publisher(request, publisher.publish(kind_of(content_type, parts), content_type, event, parts))
}

/// Tells a publisher what became of its message.
fn answer_publisher(request: Request, published: Result<Told, PublishError>) -> Result<isize, isize> {
    let told = published.map_err(|error| {
        let (level, status) = match error {
            PublishError::TooLarge => (Level::Error, ffi::NGX_HTTP_INSUFFICIENT_STORAGE as isize),
            PublishError::Group => (Level::Info, ffi::NGX_HTTP_FORBIDDEN as isize),
            PublishError::Corrupt => (Level::Crit, FAILED),
            // The log says once that the engine is away.
            PublishError::Unavailable => (Level::Info, try_again(request)),
            PublishError::Unknown => (Level::Error, ffi::NGX_HTTP_GATEWAY_TIME_OUT as isize),
        };
        request.report(level, format_args!("cannot publish: {error}"));
        status
    })?;
    if let Some(context) = request.context() {
        context.record.message_id = Some(told.id);
    }
    let status = if told.info.subscribers > 0 { ffi::NGX_HTTP_CREATED } else { ffi::NGX_HTTP_ACCEPTED };
    Ok(answer::info(request, status as usize, &told.info))
}

/// Tells a publisher that nobody gets its message, and that this is all right.
fn no_content(request: Request) -> isize {
    // SAFETY: the request is alive and nothing was sent yet.
    unsafe {
        ffi::ngx_ws_response_empty(request.raw(), ffi::NGX_HTTP_NO_CONTENT as usize);
        ffi::ngx_http_send_header(request.raw())
    }
}

/// One message of its pieces.
fn join(parts: &[&[u8]]) -> Result<Vec<u8>, isize> {
    let mut message = Vec::new();
    message.try_reserve_exact(parts.iter().map(|part| part.len()).sum()).map_err(|_| FAILED)?;
    for part in parts {
        message.extend_from_slice(part);
    }
    Ok(message)
}

/// A piece of a body: in memory, or what nginx has put into a file.
enum Part<'r> {
    Memory(&'r [u8]),
    File(Vec<u8>),
}

/// The body of a request that nginx has read.
pub struct Body<'r>(Vec<Part<'r>>);

impl<'r> Body<'r> {
    /// Of this request.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn of(request: Request) -> Result<Self, isize> {
        let mut parts = Vec::new();
        // SAFETY: the body of a live request is a chain of buffers that stay until it is freed.
        unsafe {
            let body = (*request.raw()).request_body;
            let mut link = if body.is_null() { std::ptr::null_mut() } else { (*body).bufs };
            while !link.is_null() {
                let buffer = &*(*link).buf;
                if ffi::ngx_ws_buf_in_file(buffer) != 0 {
                    let length = usize::try_from(buffer.file_last - buffer.file_pos).map_err(|_| FAILED)?;
                    let mut octets = Vec::new();
                    octets.try_reserve_exact(length).map_err(|_| FAILED)?;
                    octets.resize(length, 0);
                    if ffi::ngx_ws_buf_read_file(buffer, octets.as_mut_ptr(), length) != length as isize {
                        return Err(FAILED);
                    }
                    parts.push(Part::File(octets));
                } else if let Ok(length @ 1..) = usize::try_from(buffer.last.offset_from(buffer.pos)) {
                    parts.push(Part::Memory(bytes(&ffi::ngx_str_t { len: length, data: buffer.pos })));
                }
                link = (*link).next;
            }
        }
        Ok(Body(parts))
    }

    /// Its octets, in order.
    pub fn parts(&self) -> Vec<&[u8]> {
        self.0
            .iter()
            .map(|part| match part {
                Part::Memory(octets) => *octets,
                Part::File(octets) => octets.as_slice(),
            })
            .collect()
    }
}
