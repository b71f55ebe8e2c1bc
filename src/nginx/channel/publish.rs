// SPDX-License-Identifier: Apache-2.0

//! Publishing, and what a publisher is told.

use std::fmt::Arguments;
use std::rc::Rc;

use smallvec::SmallVec;

use super::approval::{self, Decision, Draft};
use super::events::{Events, told_of};
use super::limits;
use super::subscription::Ids;
use crate::channel::backend::{Answer, Backend, Failure, Outcome, PublishReply, gather};
use crate::channel::event::Happening;
use crate::channel::memory::Corrupt;
use crate::channel::message::{Publication, kind_of};
use crate::channel::store::{History, Info, Key, Policy, PublishError};
use crate::channel::wire::eventsource;
use crate::conf::{self, count, value};
use crate::nginx::amount::amount;
use crate::nginx::backend;
use crate::nginx::caller::{self, Caller};
use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::request::{Request, bytes};
use crate::nginx::status::Status;
use crate::session::endpoint::HttpStatus;

use super::answer;
use super::member::refuse;

/// Who publishes: to which channels, what they keep, and what their group may have.
pub struct Publisher {
    group: Box<[u8]>,
    ids: Box<[Box<[u8]>]>,
    policy: Policy,
    events: Option<Rc<Events>>,
    backend: Rc<dyn Backend>,
}

impl Publisher {
    /// For a request to a location that may publish.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged.
    pub fn new(request: Request<'_>, ids: &Ids<'_>) -> Result<Self, Status> {
        let keys = ids.keys();
        Ok(Publisher {
            group: keys.first().map(|key| key.group()).unwrap_or_default().into(),
            ids: keys.iter().map(|key| key.id().into()).collect(),
            policy: policy(request)?,
            events: Events::of(request)?.map(Rc::new),
            backend: backend::of(request.settings().engine),
        })
    }

    /// Publishes a message to each of the channels.
    pub fn publish(&self, publication: &Publication<'_>) -> Answer<PublishReply, PublishError> {
        let answers = self.ids.iter().map(|id| {
            let Some(key) = self.key(id) else { return Answer::Now(Err(Failure::Own(PublishError::TooLarge))) };
            publish(&*self.backend, key, publication, self.policy, self.events.as_ref())
        });
        all(answers)
    }

    /// What is known of the channels, for a publisher whose message was dropped; `None` if there are none.
    pub fn info(&self) -> Answer<Option<Info>, Corrupt> {
        let infos = self.ids.iter().filter_map(|id| self.key(id)).map(|key| self.backend.info(key));
        gather(infos, sum).map(|outcome| outcome.map(Option::flatten))
    }

    fn key<'k>(&'k self, id: &'k [u8]) -> Option<Key<'k>> {
        Key::in_space(self.backend.space(), &self.group, id)
    }
}

/// Publishes a message to one channel.
fn publish(
    backend: &dyn Backend,
    key: Key<'_>,
    publication: &Publication<'_>,
    policy: Policy,
    events: Option<&Rc<Events>>,
) -> Answer<PublishReply, PublishError> {
    told_of(events, key.id(), backend.publish(key, publication, policy), |reply| Some(Happening::Publish(reply.id)))
}

/// What has become of one message on each of its channels, as one.
fn all(answers: impl IntoIterator<Item = Answer<PublishReply, PublishError>>) -> Answer<PublishReply, PublishError> {
    gather(answers, PublishReply::and).map(|outcome| outcome?.ok_or(Failure::Refused))
}

/// Channel info of several channels as one, as far as there are these channels.
pub fn sum(first: Option<Info>, other: Option<Info>) -> Option<Info> {
    match (first, other) {
        (Some(first), Some(other)) => Some(first.and(other)),
        (first, other) => first.or(other),
    }
}

/// The level at which the log says that something was not published.
pub fn log_level(failure: &Failure<PublishError>) -> Level {
    match failure {
        // Of an engine that is away or refuses the log says so once, and not for each message.
        Failure::Own(PublishError::Group) | Failure::Unavailable | Failure::Unknown | Failure::Refused => Level::Info,
        Failure::Own(PublishError::TooLarge) | Failure::Unsupported => Level::Error,
        Failure::Own(PublishError::Corrupt) => Level::Crit,
    }
}

/// What a publication of this request may leave behind.
///
/// # Errors
///
/// The status to answer, which was logged.
pub(super) fn policy(request: Request<'_>) -> Result<Policy, Status> {
    Ok(Policy { history: history(request)?, group: limits::of_group(request)? })
}

/// What the channels keep, with the values that the variables have for this request.
fn history(request: Request<'_>) -> Result<History, Status> {
    match request.settings().channel_history() {
        conf::History::Off => Ok(History::OFF),
        conf::History::Kept { length, time } => {
            let length = amount(request, "websocket_channel_history", &length, count)?;
            let time = amount(request, "websocket_channel_history", &time, value::time)?;
            Ok(History::of(length, time))
        }
    }
}

/// Reads the body of a request and publishes it; returns what the content handler returns.
pub fn receive(request: Request<'_>) -> Status {
    read_body(request, on_body, format_args!("nothing is published"))
}

/// Reads the body of a request; returns what the content handler returns. Where there is none any more, the log has this for it.
pub(super) fn read_body(
    request: Request<'_>,
    on_body: unsafe extern "C" fn(*mut ffi::ngx_http_request_t),
    consequence: Arguments<'_>,
) -> Status {
    if !request.body_is_there() {
        let reason = "the body of the request was passed on, dropped or never read before it came here";
        request.report(Level::Error, format_args!("{consequence}: {reason}"));
        return Status::INTERNAL_SERVER_ERROR;
    }
    // SAFETY: the request is alive; nginx calls the handler once the body is there, now or later.
    let read = Status::of(unsafe { ffi::ngx_http_read_client_request_body(request.raw(), Some(on_body)) });
    if read.is_special_response() { read } else { Status::DONE }
}

/// The body is there.
unsafe extern "C" fn on_body(request: *mut ffi::ngx_http_request_t) {
    crate::nginx::guard::guard((), || {
        // SAFETY: nginx calls with a live request; the body handler's reference is given back here. A request that waits has
        // another one.
        unsafe {
            let status = received(Request::new(request)).unwrap_or_else(|status| status);
            ffi::ngx_http_finalize_request(request, status.raw());
        }
    });
}

/// Publishes the body of a request, once a hook was asked about it if there is one; returns what a content handler returns.
fn received(request: Request<'_>) -> Result<Status, Status> {
    let Some(conf::EndpointSettings::Channel(channel)) = &request.settings().endpoint else {
        return Err(Status::INTERNAL_SERVER_ERROR);
    };
    let ids = Ids::to_publish(request, channel)?;
    let body = Body::of(request)?;
    let parts = body.parts();
    let content_type = request.header(b"content-type").unwrap_or_default();
    let event = request.header(b"x-eventsource-event").unwrap_or_default();
    if event.trim_ascii() == eventsource::GAP {
        let reason = "the name of the event is \"gap\", which is how subscribers are told of lost messages";
        request.report(Level::Info, format_args!("nothing is published: {reason}"));
        return Err(Status::BAD_REQUEST);
    }
    if let Some(context) = request.context() {
        context.record.data_in(parts.iter().map(|part| part.len()).sum(), true);
    }
    if request.settings().channel_publish_request().is_some() {
        return submit(request, Publisher::new(request, &ids)?, content_type, &parts);
    }
    let publication = Publication { kind: kind_of(content_type, &parts), content_type, event, data: &parts };
    let (policy, events) = (policy(request)?, Events::of(request)?.map(Rc::new));
    let backend = backend::of(request.settings().engine);
    let answers = ids.keys().into_iter().map(|key| publish(&*backend, key, &publication, policy, events.as_ref()));
    Ok(caller::wait_for(request, all(answers), answer_publisher))
}

/// Asks what to do with a message; the request waits for it. A message that has come whole is published even if its publisher
/// has gone.
fn submit(request: Request<'_>, publisher: Publisher, content_type: &[u8], parts: &[&[u8]]) -> Result<Status, Status> {
    let caller = Caller::of(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
    let waiting = caller.clone();
    let event: Box<[u8]> = request.header(b"x-eventsource-event").unwrap_or_default().into();
    let draft = Draft { content_type: content_type.to_vec(), message: Rc::new(join(parts)?) };
    // SAFETY: every request has a core location configuration.
    let limit = unsafe { (*request.core_location()).client_max_body_size };
    approval::ask(request, draft, usize::try_from(limit).unwrap_or(0), move |decision| match decision {
        Decision::Publish(draft) => {
            let (content_type, parts) = (&draft.content_type, [draft.message.as_slice()]);
            let publication =
                Publication { kind: kind_of(content_type, &parts), content_type, event: &event, data: &parts };
            publisher.publish(&publication).then(move |outcome| {
                caller.resume(|request| answer_publisher(request, outcome));
            });
        }
        Decision::Drop => caller.resume(no_content),
        Decision::Refuse { status, headers } => caller.resume(|request| refuse(request, status, &headers)),
    })?;
    Ok(waiting.wait())
}

/// Tells a publisher what became of its message.
fn answer_publisher(request: Request<'_>, outcome: Outcome<PublishReply, PublishError>) -> Status {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(failure) => {
            request.report(log_level(&failure), format_args!("cannot publish: {failure}"));
            return answer::failed(request, failure, |error| match error {
                PublishError::TooLarge => Status::INSUFFICIENT_STORAGE,
                PublishError::Group => Status::FORBIDDEN,
                PublishError::Corrupt => Status::INTERNAL_SERVER_ERROR,
            });
        }
    };
    if let Some(context) = request.context() {
        context.record.message_id.set(Some(reply.id));
    }
    let status = if reply.info.subscribers > 0 { ffi::NGX_HTTP_CREATED } else { ffi::NGX_HTTP_ACCEPTED };
    answer::info(request, HttpStatus(status as u16), &reply.info)
}

/// Tells a publisher that nobody gets its message, and that this is all right.
fn no_content(request: Request<'_>) -> Status {
    // SAFETY: the request is alive and nothing was sent yet.
    unsafe {
        request.empty_answer(ffi::NGX_HTTP_NO_CONTENT as u16);
        Status::of(ffi::ngx_http_send_header(request.raw()))
    }
}

/// One message of its pieces.
pub(super) fn join(parts: &[&[u8]]) -> Result<Vec<u8>, Status> {
    let mut message = Vec::new();
    message.try_reserve_exact(parts.iter().map(|part| part.len()).sum()).map_err(|_| Status::INTERNAL_SERVER_ERROR)?;
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
pub struct Body<'r>(SmallVec<[Part<'r>; 1]>);

impl<'r> Body<'r> {
    /// The body of this request.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn of(request: Request<'_>) -> Result<Self, Status> {
        let mut parts = SmallVec::new();
        // SAFETY: the body of a live request is a chain of buffers that stay until it is freed.
        unsafe {
            let body = (*request.raw()).request_body;
            let mut link = if body.is_null() { std::ptr::null_mut() } else { (*body).bufs };
            while !link.is_null() {
                let buffer = &*(*link).buf;
                if buffer.in_file() != 0 {
                    let length = usize::try_from(buffer.file_last - buffer.file_pos)
                        .map_err(|_| Status::INTERNAL_SERVER_ERROR)?;
                    let mut octets = Vec::new();
                    octets.try_reserve_exact(length).map_err(|_| Status::INTERNAL_SERVER_ERROR)?;
                    octets.resize(length, 0);
                    if ffi::ngx_read_file(buffer.file, octets.as_mut_ptr(), length, buffer.file_pos) != length as isize
                    {
                        return Err(Status::INTERNAL_SERVER_ERROR);
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
    pub fn parts(&self) -> SmallVec<[&[u8]; 1]> {
        self.0
            .iter()
            .map(|part| match part {
                Part::Memory(octets) => *octets,
                Part::File(octets) => octets.as_slice(),
            })
            .collect()
    }
}
