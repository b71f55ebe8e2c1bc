//! Responses of one message: a long-poll waits for it, a poll does not.

use std::rc::Rc;

use super::body::Content;
use super::stream::TEXT;
use super::{FAILED, GONE, Kind, Verdict, Waiting};
use crate::channel::fanout::{Buffer, Next, Shared, SubscriberId};
use crate::channel::position::{MAX_POSITIONS, Start, etag};
use crate::channel::store::{Budget, ReadError};
use crate::channel::wire::date::http_date;
use crate::nginx::channel::hub;
use crate::nginx::ffi;
use crate::nginx::timer::now;
use crate::nginx::upgrade::try_again;

/// There is nothing new (RFC 9110, section 15.4.5).
const NOT_MODIFIED: usize = 304;

/// There is nothing, and no condition was named that this could be about (RFC 9110, section 15.3.5). auth_request takes it as
/// leave to go on.
const NO_CONTENT: usize = ffi::NGX_HTTP_NO_CONTENT as usize;

/// Nothing came in time. Clients that know long-polling ask again then (RFC 9110, section 15.5.9).
const TIMED_OUT: usize = 408;

/// A message, and what was lost before it.
struct Found {
    buffer: Buffer,
    shared: Rc<Shared>,
    lost: Option<u64>,
}

impl Waiting {
    /// Answers with the next message, if it is there.
    pub(super) fn answer(&mut self, id: SubscriberId) -> Verdict {
        let newest = self.kind == Kind::FirstPoll && self.request.settings().channel_start() == Start::Newest;
        let mut found = None;
        let served = hub::with(|hub| {
            let mut serve = || {
                hub.serve(id, Budget { messages: 1, octets: 1 }, |batch| {
                    found = batch.items().first().and_then(|item| {
                        let shared = Rc::clone(item.message.as_ref()?);
                        Some(Found { buffer: item.buffer.clone(), shared, lost: item.lost })
                    });
                    1
                })
            };
            let next = serve()?;
            if newest && next == Next::Items {
                // Each of several channels has a last message, and the newest of all is wanted.
                for _ in 1..MAX_POSITIONS {
                    if serve()? != Next::Items {
                        break;
                    }
                }
            }
            Ok((next, hub.position(id).unwrap_or_default()))
        });
        match served {
            Some(Ok((Next::UpToDate, _))) if self.is_deserted() => Verdict::Finish(try_again(self.request)),
            Some(Ok((Next::UpToDate, _))) | None => Verdict::Continue,
            Some(Ok((Next::Gone | Next::Lagging { .. }, _)) | Err(ReadError::Gone)) => Verdict::Finish(GONE),
            Some(Err(ReadError::Memory | ReadError::Corrupt)) => {
                hub::retry(id);
                Verdict::Continue
            }
            Some(Ok((Next::Items, position))) => {
                // Whoever has the answer may ask again at once, where only so many may subscribe.
                self.leave();
                let answered = found.ok_or(FAILED).and_then(|found| self.respond(found, &position));
                Verdict::Finish(answered.err().unwrap_or(ffi::NGX_OK as isize))
            }
        }
    }

    fn respond(&mut self, found: Found, position: &str) -> Result<(), isize> {
        let Found { buffer, shared, lost } = found;
        let message = &shared.message;
        self.spoke = now();
        self.count(message);
        let request = self.request;
        let headers = request.add_header("ETag", etag(position).as_bytes())
            && request.add_header("Last-Modified", http_date(message.unix / 1000).as_bytes())
            && request.add_header("Cache-Control", b"no-cache")
            && lost.is_none_or(|lost| request.add_header("X-Channel-Gap", lost.to_string().as_bytes()));
        if !headers {
            return Err(FAILED);
        }
        let content_type = match message.content_type() {
            b"" => TEXT,
            present => present,
        };
        if self.head(content_type, i64::try_from(message.data().len()).unwrap_or(-1))? {
            self.body.push(Content::Shared(buffer), true);
            self.send()?;
        }
        Ok(())
    }

    /// Answers a poll: there is nothing new.
    pub(super) fn nothing_new(&mut self, id: SubscriberId) -> Verdict {
        self.without_message(id, if self.kind == Kind::FirstPoll { NO_CONTENT } else { NOT_MODIFIED })
    }

    /// Answers a long-poll: it has waited long enough.
    pub(super) fn time_out(&mut self, id: SubscriberId) -> Verdict {
        self.without_message(id, TIMED_OUT)
    }

    /// The position goes with it: a client that named none has one now, from which it misses nothing.
    fn without_message(&mut self, id: SubscriberId, status: usize) -> Verdict {
        let position = hub::with(|hub| hub.position(id)).flatten().unwrap_or_default();
        self.leave();
        let request = self.request;
        let headers =
            request.add_header("ETag", etag(&position).as_bytes()) && request.add_header("Cache-Control", b"no-cache");
        if !headers {
            return Verdict::Finish(FAILED);
        }
        // SAFETY: the request is alive and nothing was sent yet.
        let sent = unsafe {
            ffi::ngx_ws_response_empty(request.raw(), status);
            ffi::ngx_http_send_header(request.raw())
        };
        Verdict::Finish(if sent > ffi::NGX_OK as isize { ffi::NGX_OK as isize } else { sent })
    }
}
