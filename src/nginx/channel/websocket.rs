//! A WebSocket that subscribes to channels, publishes to them, or both.

use std::collections::VecDeque;

use super::hub::{self, Listener};
use super::publish::Publisher;
use super::subscription::Subscription;
use crate::channel::fanout::{Next, OnGap, SubscriberId};
use crate::channel::info::InfoForm;
use crate::channel::store::{Budget, PublishError, ReadError};
use crate::channel::wire::Form;
use crate::channel::wire::websocket::{Deflate, Framing, META};
use crate::conf::ChannelLag;
use crate::nginx::endpoint::{Ending, Endpoint, Outlet, Produced};
use crate::nginx::request::Request;
use crate::nginx::session::SessionRef;
use crate::ws::close::CloseCode;
use crate::ws::connection::Data;
use crate::ws::frame::Kind;

/// Messages that are looked at in one step.
const STEP: usize = 64;

/// Answers that may wait to be sent before no more messages are taken.
const MOST_REPLIES: usize = 64;

/// The content type of binary messages, by which they are told on the other transports too.
const BINARY: &[u8] = b"application/octet-stream";

/// The channels behind a WebSocket.
pub struct Channel {
    subscriber: Option<SubscriberId>,
    /// Nothing is asked of the hub before it calls again.
    blocked: bool,
    publisher: Option<Publisher>,
    /// A message that has begun and not ended.
    unfinished: Vec<u8>,
    /// The form of the answers; none where publishing is not answered.
    answers: Option<InfoForm>,
    replies: VecDeque<String>,
    published: u64,
}

impl Channel {
    /// A WebSocket that publishes, if `publisher` is there; `answers` is the form in which it is told of each message.
    pub fn new(publisher: Option<Publisher>, answers: Option<InfoForm>) -> Self {
        Channel {
            subscriber: None,
            blocked: true,
            publisher,
            unfinished: Vec::new(),
            answers,
            replies: VecDeque::new(),
            published: 0,
        }
    }

    /// Subscribes the session to channels.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn subscribe(
        &mut self,
        request: Request,
        session: SessionRef,
        subscription: &Subscription<'_>,
        protocol: Option<&str>,
    ) -> Result<(), isize> {
        let settings = request.settings();
        let meta = protocol == Some(META);
        // SAFETY: the session was made for this request just now, and nobody else holds it.
        let window = unsafe { session.as_ref() }.shared_window();
        let form = Form::WebSocket(Framing {
            meta,
            fragment: settings.fragment_size(),
            deflate: window.map(|window| Deflate {
                level: settings.deflate_level() as u8,
                window,
                min_size: settings.deflate_min_size(),
            }),
        });
        let on_gap = match settings.channel_lag() {
            _ if meta => OnGap::Tell,
            ChannelLag::Close => OnGap::Close,
            ChannelLag::Skip => OnGap::Skip,
        };
        self.subscriber = Some(subscription.begin(request, form, on_gap, Listener::Session(session))?);
        Ok(())
    }

    fn publish(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Ending> {
        let Some(publisher) = &self.publisher else {
            return Err(Ending { code: CloseCode::POLICY, reason: "publishing is not allowed here".to_owned() });
        };
        let content_type = match kind {
            Kind::Text => b"",
            Kind::Binary => BINARY,
        };
        let told = publisher.publish(kind, content_type, b"", &[payload]).map_err(|error| match error {
            PublishError::TooLarge => Ending { code: CloseCode::TOO_BIG, reason: error.to_string() },
            PublishError::Group => Ending { code: CloseCode::POLICY, reason: error.to_string() },
            PublishError::Corrupt => Ending { code: CloseCode::INTERNAL, reason: error.to_string() },
        })?;
        self.published += 1;
        if let Some(form) = self.answers {
            self.replies.push_back(form.render(&told.info));
        }
        Ok(())
    }

    /// Answers to what was published. Whether there were any.
    fn reply(&mut self, outlet: &mut Outlet<'_>) -> bool {
        let mut some = false;
        while outlet.has_room()
            && let Some(reply) = self.replies.pop_front()
        {
            // A connection that is closing for a reason of its own needs no answers.
            some |= outlet.message(Kind::Text, reply.as_bytes()).is_ok();
        }
        some
    }
}

impl Endpoint for Channel {
    fn accepts(&self) -> bool {
        self.replies.len() < MOST_REPLIES
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        if data.first && data.last {
            return self.publish(data.kind, data.payload);
        }
        if self.publisher.is_some() {
            if self.unfinished.try_reserve(data.payload.len()).is_err() {
                return Err(Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() });
            }
            self.unfinished.extend_from_slice(data.payload);
        }
        if data.last {
            let message = std::mem::take(&mut self.unfinished);
            return self.publish(data.kind, &message);
        }
        Ok(())
    }

    fn flush(&mut self) -> bool {
        false
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut some = self.reply(outlet);
        let Some(id) = self.subscriber else {
            return if some { Produced::Some } else { Produced::Nothing };
        };
        while outlet.has_room() {
            if self.blocked {
                self.blocked = false;
                hub::with(|hub| hub.unblock(id));
            }
            match step(id, outlet) {
                Some(Ok(Next::Items)) => some = true,
                Some(Ok(Next::UpToDate)) | None => return if some { Produced::Some } else { Produced::Nothing },
                Some(Ok(Next::Lagging { lost })) => {
                    let reason = match lost {
                        0 => "messages are lost".to_owned(),
                        lost => format!("{lost} messages are lost"),
                    };
                    return Produced::Ended(Ending { code: CloseCode::TRY_AGAIN, reason });
                }
                Some(Ok(Next::Gone) | Err(ReadError::Gone)) => {
                    return Produced::Ended(Ending {
                        code: CloseCode::GOING_AWAY,
                        reason: "channel deleted".to_owned(),
                    });
                }
                // Later: the zone is repaired by then, or there is memory again.
                Some(Err(ReadError::Memory | ReadError::Corrupt)) => {
                    hub::retry(id);
                    return if some { Produced::Some } else { Produced::Nothing };
                }
            }
        }
        if !self.blocked {
            self.blocked = true;
            hub::with(|hub| hub.block(id));
        }
        if some { Produced::Some } else { Produced::Nothing }
    }

    fn client_gone(&mut self) {
        if let Some(id) = self.subscriber.take() {
            hub::with(|hub| hub.unsubscribe(id));
        }
    }

    fn progress(&self) -> u64 {
        self.published
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.client_gone();
    }
}

/// Moves some of what is there for a subscriber to the client's queue. `None` where the worker is leaving.
fn step(id: SubscriberId, outlet: &mut Outlet<'_>) -> Option<Result<Next, ReadError>> {
    let limit = Budget { messages: STEP, octets: outlet.room() };
    hub::with(|hub| {
        hub.serve(id, limit, |batch| {
            for item in batch.items() {
                let message = item.message.as_ref().map(|shared| &shared.message);
                outlet.ready_made(&item.buffer, message.map_or(0, |message| message.data().len()));
                if let Some(message) = message {
                    outlet.context.message_id = Some(message.id);
                }
            }
            batch.items().len()
        })
    })
}
