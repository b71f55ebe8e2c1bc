// SPDX-License-Identifier: Apache-2.0

//! Responses of one message, or of all that are there: a long-poll waits for it, a poll does not.

use std::rc::Rc;

use super::{Delivery, FAILED, Flow, Host, Response, RunPart, Source, Subscriber, SubscriberEnd, SubscriberStage};
use crate::channel::fanout::{Batch, Buffer, Next, Shared};
use crate::channel::position::{MAX_POSITIONS, etag};
use crate::channel::store::{Budget, ReadError};
use crate::channel::streaming::{Content, NO_STORE, Streaming, TEXT};
use crate::channel::wire::date::http_date;
use crate::channel::wire::header_value;
use crate::session::endpoint::HttpStatus;

/// The channel was deleted (RFC 9110, section 15.5.11).
const GONE: HttpStatus = HttpStatus(410);

/// Somebody has said that the client is to go (RFC 9110, section 15.5.4).
const FORBIDDEN: HttpStatus = HttpStatus(403);

/// There is nothing new (RFC 9110, section 15.4.5).
const NOT_MODIFIED: HttpStatus = HttpStatus(304);

/// There is nothing, and no condition was named that this could be about (RFC 9110, section 15.3.5). auth_request takes it as
/// leave to go on.
const NO_CONTENT: HttpStatus = HttpStatus(204);

/// Nothing came in time. Clients that know long-polling ask again then (RFC 9110, section 15.5.9).
const TIMED_OUT: HttpStatus = HttpStatus(408);

/// A program was started, and has said nothing yet (RFC 9110, section 15.3.3).
const ACCEPTED: HttpStatus = HttpStatus(202);

/// Messages that one response has at most.
const MOST: usize = 64;

/// A message, and what was lost before it.
struct Found {
    buffer: Buffer,
    shared: Rc<Shared>,
    lost: Option<u64>,
    /// The channel that it is from, if that is to be told.
    channel: Option<Rc<[u8]>>,
}

/// The messages of one response.
#[derive(Default)]
struct Several {
    body: Vec<Content>,
    messages: Vec<Rc<Shared>>,
    /// What was lost before the first one, where the body has no place for that.
    lost: Option<u64>,
}

impl Several {
    /// Takes what is there, and says how many items that were. What is lost before a later message is told by the next response, if the
    /// body cannot.
    fn take(&mut self, streaming: &Streaming, batch: &Batch) -> usize {
        for (nth, item) in batch.items().iter().enumerate() {
            if streaming.has_losses_in_head() && item.lost.is_some() {
                if nth > 0 {
                    return nth;
                }
                self.lost = item.lost;
            }
            streaming.item(item, |content| self.body.push(content));
            self.messages.extend(item.message.clone());
        }
        batch.items().len()
    }
}

impl<H: Host> Subscriber<H> {
    /// Answers with the messages that are there, if there are any.
    fn answer_several(&mut self, streaming: &Streaming) -> Flow {
        let SubscriberStage::Waiting { source, .. } = &mut self.stage else { return Flow::Continue(()) };
        let mut several = Several::default();
        let budget = Budget { messages: MOST, octets: self.settings.send_limit.max(1) };
        let next = source.serve(budget, |batch: &Batch| several.take(streaming, batch));
        match next {
            Some(Ok(Next::Items)) => {
                let position = self.position();
                self.leave();
                let answered = self.respond_with(streaming, several, position);
                Flow::Break(answered.err().unwrap_or(SubscriberEnd::Finished))
            }
            next => self.without_items(next),
        }
    }

    fn respond_with(&mut self, streaming: &Streaming, several: Several, position: String) -> Result<(), SubscriberEnd> {
        let Several { body: messages_body, messages, lost } = several;
        self.spoke = self.host.now();
        for shared in &messages {
            Self::count(&self.record, self.open.as_ref(), &shared.message);
        }
        let newest = messages.iter().map(|shared| shared.message.unix).max().unwrap_or_default();
        let mut body = Vec::with_capacity(messages_body.len() + 3);
        streaming.begin(&position, |content| body.push(content));
        body.extend(messages_body);
        body.push(streaming.end());
        body.retain(|content| !content.octets().is_empty());
        let response = &mut self.response;
        let headers = response.add_header("ETag", etag(position))
            && response.add_header("Last-Modified", http_date(newest / 1000))
            && response.add_header("Cache-Control", NO_STORE)
            && lost.is_none_or(|lost| response.add_header("X-Channel-Gap", lost.to_string()));
        if !headers {
            return Err(FAILED);
        }
        let length: usize = body.iter().map(|content| content.octets().len()).sum();
        if response.begin(streaming.content_type().as_bytes(), i64::try_from(length).unwrap_or(-1))? {
            let last = body.pop().unwrap_or(Content::Fixed(b""));
            for content in body {
                response.push(content, false);
            }
            response.push(last, true);
            response.send()?;
        }
        Ok(())
    }

    /// Answers with the next message, if it is there.
    pub(super) fn answer(&mut self) -> Flow {
        if self.delivery != Delivery::FirstPoll
            && let Some(streaming) = self.settings.several.clone()
        {
            return self.answer_several(&streaming);
        }
        let newest = self.delivery == Delivery::FirstPoll && self.settings.begins_with_newest;
        let SubscriberStage::Waiting { source, .. } = &mut self.stage else { return Flow::Continue(()) };
        let mut found = None;
        let mut serve = |source: &mut H::Source| {
            source.serve(Budget { messages: 1, octets: 1 }, |batch: &Batch| {
                found = batch.items().first().and_then(|item| {
                    let shared = Rc::clone(item.message.as_ref()?);
                    Some(Found { buffer: item.buffer.clone(), shared, lost: item.lost, channel: item.channel.clone() })
                });
                1
            })
        };
        let mut next = serve(source);
        if newest && matches!(next, Some(Ok(Next::Items))) {
            // Each of several channels has a last message, and the newest of all is wanted.
            for _ in 1..MAX_POSITIONS {
                match serve(source) {
                    Some(Ok(Next::Items)) => {}
                    Some(Ok(_)) | None => break,
                    error @ Some(Err(_)) => {
                        next = error;
                        break;
                    }
                }
            }
        }
        match next {
            Some(Ok(Next::Items)) => {
                let position = self.position();
                // Whoever has the answer may ask again at once, where only so many may subscribe.
                self.leave();
                let answered = found.ok_or(FAILED).and_then(|found| self.respond(found, position));
                Flow::Break(answered.err().unwrap_or(SubscriberEnd::Finished))
            }
            next => self.without_items(next),
        }
    }

    /// There is no message.
    fn without_items(&mut self, next: Option<Result<Next, ReadError>>) -> Flow {
        match next {
            Some(Ok(Next::UpToDate)) if self.is_deserted() => match self.settings.run {
                RunPart::None => Flow::Break(SubscriberEnd::TryAgain),
                RunPart::Begins | RunPart::Follows => self.end_of_run(),
            },
            Some(Ok(Next::UpToDate | Next::Held | Next::Items)) | None => Flow::Continue(()),
            Some(Ok(Next::Gone | Next::Lagging { .. }) | Err(ReadError::Gone)) => {
                Flow::Break(SubscriberEnd::Refused(GONE))
            }
            Some(Ok(Next::Expelled)) => Flow::Break(SubscriberEnd::Refused(FORBIDDEN)),
            Some(Err(ReadError::Memory | ReadError::Corrupt)) => {
                self.retry();
                Flow::Continue(())
            }
        }
    }

    fn respond(&mut self, found: Found, position: String) -> Result<(), SubscriberEnd> {
        let Found { buffer, shared, lost, channel } = found;
        let message = &shared.message;
        self.spoke = self.host.now();
        Self::count(&self.record, self.open.as_ref(), message);
        let response = &mut self.response;
        let headers = response.add_header("ETag", etag(position))
            && response.add_header("Last-Modified", http_date(message.unix / 1000))
            && response.add_header("Cache-Control", NO_STORE)
            && lost.is_none_or(|lost| response.add_header("X-Channel-Gap", lost.to_string()))
            // What the location has made of it is what it is said to be, whoever has published what.
            && buffer.content_type().is_none_or(|_| response.add_header("X-Content-Type-Options", "nosniff"))
            && channel.is_none_or(|channel| response.add_header("X-Channel-Id", header_value(&channel)));
        if !headers {
            return Err(FAILED);
        }
        let content_type = match (buffer.content_type(), message.content_type()) {
            (Some(made), _) => made.as_bytes(),
            (None, b"") => TEXT.as_bytes(),
            (None, present) => present,
        };
        if response.begin(content_type, i64::try_from(buffer.octets().len()).unwrap_or(-1))? {
            response.send_whole(Content::Shared(buffer))?;
        }
        Ok(())
    }

    /// Answers a poll: there is nothing new.
    pub(super) fn nothing_new(&mut self) -> Flow {
        self.without_message(match self.delivery {
            _ if self.settings.run == RunPart::Begins => ACCEPTED,
            Delivery::FirstPoll => NO_CONTENT,
            Delivery::Streaming(_) | Delivery::LongPoll | Delivery::Poll => NOT_MODIFIED,
        })
    }

    /// Answers a long-poll: it has waited long enough.
    pub(super) fn time_out(&mut self) -> Flow {
        // Who is told 408 may send the request again, which begins a run.
        self.without_message(if self.settings.run == RunPart::Begins { ACCEPTED } else { TIMED_OUT })
    }

    /// Answers a client that has all of a run that has ended: there is nothing to come back for, which is how an EventSource
    /// takes it (HTML, section 9.2.3).
    pub(super) fn end_of_run(&mut self) -> Flow {
        if let SubscriberStage::Waiting { source, .. } = &mut self.stage {
            self.lost = self.lost.or_else(|| source.take_losses());
        }
        self.without_message(NO_CONTENT)
    }

    /// The position goes with it: a client that named none has one now, from which it misses nothing.
    fn without_message(&mut self, status: HttpStatus) -> Flow {
        let position = self.position();
        self.leave();
        let response = &mut self.response;
        let headers = response.add_header("ETag", etag(position))
            && response.add_header("Cache-Control", NO_STORE)
            && self.lost.is_none_or(|lost| response.add_header("X-Channel-Gap", lost.to_string()));
        if !headers {
            return Flow::Break(FAILED);
        }
        Flow::Break(response.empty(status).err().unwrap_or(SubscriberEnd::Finished))
    }
}
