// SPDX-License-Identifier: Apache-2.0

//! Responses that go on. What makes the transports differ is in [`Streaming`].
//!
//! [`Streaming`]: crate::channel::streaming::Streaming

use super::{Delivery, FAILED, Flow, Host, Response, Source, Subscriber, SubscriberEnd, SubscriberStage};
use crate::channel::fanout::{Batch, Next};
use crate::channel::position::etag;
use crate::channel::store::{Budget, ReadError};
use crate::session::host::Severity;

/// Messages that are looked at in one step.
const STEP: usize = 64;

impl<H: Host> Subscriber<H> {
    /// Begins the response. `false` when the client wants nothing but the head.
    pub(super) fn open(&mut self) -> Result<bool, SubscriberEnd> {
        let Delivery::Streaming(streaming) = &self.delivery else { return Ok(true) };
        let SubscriberStage::Waiting { source, .. } = &mut self.stage else { return Err(FAILED) };
        let losses =
            if streaming.has_losses_in_head() { self.lost.take().or_else(|| source.take_losses()) } else { None };
        let position = source.position().unwrap_or_default();
        let response = &mut self.response;
        // Who loses the connection before the first message comes back with the position.
        let headers = response.add_header("Cache-Control", streaming.cache_control())
            && response.add_header("X-Accel-Buffering", "no")
            && (!streaming.has_position_in_head() || response.add_header("ETag", etag(position.clone())))
            && losses.is_none_or(|lost| response.add_header("X-Channel-Gap", lost.to_string()));
        if !headers {
            return Err(FAILED);
        }
        if !response.begin(streaming.content_type().as_bytes(), -1)? {
            return Ok(false);
        }
        let mut some = false;
        streaming.begin(&position, |content| {
            some = true;
            response.push(content, false);
        });
        if !some {
            response.flush_head()?;
        }
        response.send()?;
        Ok(true)
    }

    /// Sends the messages that are there.
    pub(super) fn stream(&mut self) -> Flow {
        loop {
            let in_flight = self.response.cost();
            if in_flight >= self.settings.send_limit {
                self.block();
                return Flow::Continue(());
            }
            let budget = Budget { messages: STEP, octets: self.settings.send_limit - in_flight };
            let (Delivery::Streaming(streaming), SubscriberStage::Waiting { source, .. }) =
                (&self.delivery, &mut self.stage)
            else {
                return Flow::Continue(());
            };
            let (response, record, open) = (&mut self.response, &self.record, self.open.as_ref());
            let mut has_more = true;
            let served = source.serve(budget, |batch: &Batch| {
                has_more = batch.has_more();
                for item in batch.items() {
                    streaming.item(item, |content| response.push(content, false));
                    if let Some(shared) = &item.message {
                        Self::count(record, open, &shared.message);
                    }
                }
                batch.items().len()
            });
            match served {
                Some(Ok(Next::Items)) => {
                    self.spoke = self.host.now();
                    if let Err(lost) = self.response.send() {
                        return Flow::Break(lost.into());
                    }
                    if !has_more {
                        // Another look would find nothing.
                        return if self.is_deserted() { self.close() } else { Flow::Continue(()) };
                    }
                }
                Some(Ok(Next::UpToDate)) if self.is_deserted() => return self.close(),
                Some(Ok(Next::UpToDate | Next::Held)) | None => return Flow::Continue(()),
                Some(Ok(Next::Gone | Next::Expelled) | Err(ReadError::Gone)) => return self.close(),
                Some(Ok(Next::Lagging { lost })) => {
                    // Not as if this had been all: the body has no end.
                    self.host.report(Severity::Info, format_args!("the client lost {lost} messages"));
                    return Flow::Break(SubscriberEnd::Lost);
                }
                Some(Err(ReadError::Memory | ReadError::Corrupt)) => {
                    self.retry();
                    return Flow::Continue(());
                }
            }
        }
    }

    /// Ends the response as a whole one. What the client has not taken yet leaves before, as long as it goes on taking it.
    pub(super) fn close(&mut self) -> Flow {
        let Delivery::Streaming(streaming) = &self.delivery else { return Flow::Break(SubscriberEnd::Finished) };
        let end = streaming.end();
        self.leave();
        self.response.push(end, true);
        if let Err(lost) = self.response.send() {
            return Flow::Break(lost.into());
        }
        if self.response.is_empty() {
            return Flow::Break(SubscriberEnd::Finished);
        }
        self.arm();
        Flow::Continue(())
    }
}
