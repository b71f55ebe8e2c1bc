//! Responses that go on: each message as an event, a part, a chunk, or as it is with a separator behind it.

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use super::body::{self, Content};
use super::{FAILED, Kind, Stage, Verdict, Waiting};
use crate::channel::fanout::{Item, Next, OnGap, SubscriberId};
use crate::channel::position::etag;
use crate::channel::store::{Budget, ReadError};
use crate::channel::wire::{Form, eventsource, multipart};
use crate::conf::ChannelLag;
use crate::nginx::channel::hub;
use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::request::Request;
use crate::nginx::timer::now;

/// Messages that are looked at in one step.
const STEP: usize = 64;

/// The content type of messages that say nothing about themselves.
pub const TEXT: &[u8] = b"text/plain; charset=utf-8";

/// How the messages of a response that goes on are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// Each is an event.
    EventSource,
    /// Each is a part; they have this boundary between them.
    Multipart(Rc<str>),
    /// Each is a chunk.
    Chunked,
    /// Each has a separator behind it.
    Raw,
}

impl Stream {
    /// Parts with a boundary that nobody can know before: 32 hexadecimal digits, from a hash function that the operating
    /// system gave its keys.
    pub fn multipart() -> Self {
        let [high, low] = [0_u8, 1].map(|half| RandomState::new().hash_one(half));
        Stream::Multipart(format!("{high:016x}{low:016x}").into())
    }

    /// In which form the messages are shared with other subscribers.
    pub fn form(&self, request: Request) -> Form {
        match self {
            Stream::EventSource => Form::EventSource,
            Stream::Multipart(_) => Form::Part,
            Stream::Chunked => Form::Body,
            Stream::Raw => Form::Raw(request.settings().channel_separator()),
        }
    }

    /// What is done when messages are lost: where a message has nothing but itself, there is no way to tell.
    pub fn on_gap(&self, request: Request) -> OnGap {
        match (self, request.settings().channel_lag()) {
            (Stream::EventSource | Stream::Multipart(_), _) => OnGap::Tell,
            (Stream::Chunked | Stream::Raw, ChannelLag::Close) => OnGap::Close,
            (Stream::Chunked | Stream::Raw, ChannelLag::Skip) => OnGap::Skip,
        }
    }
}

impl Waiting {
    /// Begins the response. `false` when the client wants nothing but the head.
    pub(super) fn open(&mut self, id: SubscriberId) -> Result<bool, isize> {
        let Kind::Stream(stream) = self.kind.clone() else { return Ok(true) };
        let (losses, position) = hub::with(|hub| {
            let losses = match stream {
                Stream::Chunked | Stream::Raw => hub.take_losses(id),
                Stream::EventSource | Stream::Multipart(_) => None,
            };
            (losses, hub.position(id).unwrap_or_default())
        })
        .unwrap_or_default();
        let request = self.request;
        let mut headers =
            request.add_header("Cache-Control", b"no-cache") && request.add_header("X-Accel-Buffering", b"no");
        // Who loses the connection before the first message comes back with this.
        headers &= stream == Stream::EventSource || request.add_header("ETag", etag(&position).as_bytes());
        headers &= losses.is_none_or(|lost| request.add_header("X-Channel-Gap", lost.to_string().as_bytes()));
        if !headers {
            return Err(FAILED);
        }
        let whole = match &stream {
            Stream::EventSource => self.head(eventsource::CONTENT_TYPE.as_bytes(), -1)?,
            Stream::Multipart(boundary) => self.head(multipart::content_type(boundary).as_bytes(), -1)?,
            Stream::Chunked | Stream::Raw => self.head(TEXT, -1)?,
        };
        if !whole {
            return Ok(false);
        }
        match stream {
            Stream::EventSource => self.body.push(Content::Own(eventsource::position(&position)), false),
            Stream::Multipart(boundary) => {
                self.body.push(Content::Fixed(multipart::FIRST), false);
                self.body.push(Content::Repeated(boundary), false);
            }
            Stream::Chunked | Stream::Raw => self.body.flush_head().map_err(|body::Lost| ffi::NGX_ERROR as isize)?,
        }
        self.send().map(|()| true)
    }

    /// Sends the messages that are there.
    pub(super) fn stream(&mut self, id: SubscriberId, stream: &Stream) -> Verdict {
        let limit = usize::try_from(self.request.settings().send_buffer()).unwrap_or(usize::MAX);
        loop {
            let in_flight = self.body.cost();
            if in_flight >= limit {
                self.blocked = true;
                hub::with(|hub| hub.block(id));
                return Verdict::Continue;
            }
            let budget = Budget { messages: STEP, octets: limit - in_flight };
            let served = hub::with(|hub| {
                hub.serve(id, budget, |batch| {
                    for item in batch.items() {
                        self.push_item(stream, item);
                    }
                    batch.items().len()
                })
            });
            match served {
                Some(Ok(Next::Items)) => {
                    self.spoke = now();
                    if let Err(status) = self.send() {
                        return Verdict::Finish(status);
                    }
                }
                Some(Ok(Next::UpToDate)) if self.is_deserted() => return self.close(),
                Some(Ok(Next::UpToDate)) | None => return Verdict::Continue,
                Some(Ok(Next::Gone) | Err(ReadError::Gone)) => return self.close(),
                Some(Ok(Next::Lagging { lost })) => {
                    // Not as if this had been all: the body has no end.
                    self.request.report(Level::Info, format_args!("the client lost {lost} messages"));
                    return Verdict::Finish(ffi::NGX_ERROR as isize);
                }
                Some(Err(ReadError::Memory | ReadError::Corrupt)) => {
                    hub::retry(id);
                    return Verdict::Continue;
                }
            }
        }
    }

    fn push_item(&mut self, stream: &Stream, item: &Item) {
        if let (Stream::Multipart(_), Some(lost)) = (stream, item.lost) {
            self.body.push(Content::Own(multipart::gap(lost)), false);
        }
        self.body.push(Content::Shared(item.buffer.clone()), false);
        if let Stream::Multipart(boundary) = stream {
            self.body.push(Content::Repeated(Rc::clone(boundary)), false);
        }
        if let Some(shared) = &item.message {
            self.count(&shared.message);
        }
    }

    /// Ends the response as a whole one. What the client has not taken yet leaves before, for a while.
    pub(super) fn close(&mut self) -> Verdict {
        let end = match &self.kind {
            Kind::Stream(Stream::Multipart(_)) => multipart::LAST,
            Kind::Stream(Stream::EventSource | Stream::Chunked | Stream::Raw)
            | Kind::LongPoll
            | Kind::Poll
            | Kind::FirstPoll => b"",
        };
        self.leave();
        self.body.push(Content::Fixed(end), true);
        if let Err(status) = self.send() {
            return Verdict::Finish(status);
        }
        if self.body.is_empty() {
            return Verdict::Finish(ffi::NGX_OK as isize);
        }
        self.stage = Stage::Closing { until: now() + self.request.settings().close_timeout() };
        self.arm();
        Verdict::Continue
    }
}
