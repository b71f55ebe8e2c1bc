// SPDX-License-Identifier: Apache-2.0

//! A WebSocket that subscribes to channels, publishes to them, or both.

use std::collections::VecDeque;
use std::rc::Rc;

use super::approval::{self, Decision, Draft};
use super::failure::{Failure, published};
use super::hub;
use super::link::{Link, News};
use super::member::{self, JoinDecision, Member};
use super::publish::Publisher;
use super::subscription::{Ids, Subscription};
use crate::channel::fanout::{Next, OnGap, SubscriberId};
use crate::channel::info::InfoForm;
use crate::channel::message::{Publication, kind_of};
use crate::channel::store::{Budget, Info, PublishError, ReadError};
use crate::channel::wire::Form;
use crate::channel::wire::websocket::{Deflate, Framing, META};
use crate::conf::ChannelLag;
use crate::nginx::engine;
use crate::nginx::ffi;
use crate::nginx::request::Request;
use crate::nginx::session::{self, SessionRef};
use crate::nginx::timer::now;
use crate::session::endpoint::{Ending, Endpoint, Input, Outlet, Produced, Started};
use crate::session::program::LeftProgram;
use crate::ws::close::CloseCode;
use crate::ws::connection::Data;
use crate::ws::frame::Kind;

/// Messages that are looked at in one step.
const STEP: usize = 64;

/// Answers that may wait to be sent before no more messages are taken.
const MOST_REPLIES: usize = 64;

/// The content type of binary messages, by which they are told on the other transports too.
const BINARY: &[u8] = b"application/octet-stream";

/// What a session asks of hooks.
struct Hooks {
    request: Request,
    link: Rc<Link>,
    /// The window of compressed messages for several sessions.
    window: Option<u8>,
    /// Messages are asked about before they are published.
    asks: bool,
    /// Messages that an engine has not answered yet.
    underway: usize,
    /// A hook has not answered yet.
    waiting: bool,
    /// A message was refused.
    refused: Option<Ending>,
}

/// The channels behind a WebSocket.
pub struct Channel {
    subscriber: Option<SubscriberId>,
    /// Nothing is asked of the hub before it calls again.
    blocked: bool,
    /// Those who want to know are told when this goes.
    member: Option<Box<Member>>,
    publisher: Option<Rc<Publisher>>,
    /// None where no hook is asked.
    hooks: Option<Box<Hooks>>,
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
            member: None,
            publisher: publisher.map(Rc::new),
            hooks: None,
            unfinished: Vec::new(),
            answers,
            replies: VecDeque::new(),
            published: 0,
        }
    }

    /// Lets hooks be asked, if the location names one for what the session does.
    pub fn use_hooks(&mut self, request: Request, session: SessionRef, subscribes: bool) {
        let asks = self.publisher.is_some() && request.settings().channel_publish_request().is_some();
        let stores = self.publisher.as_ref().is_some_and(|publisher| publisher.engine() != 0);
        if asks || stores || (subscribes && member::must_ask(request)) {
            self.hooks = Some(Box::new(Hooks {
                request,
                link: Link::new(session),
                window: window(session),
                asks,
                underway: 0,
                waiting: false,
                refused: None,
            }));
        }
    }

    /// Asks whether the session may subscribe, if somebody is to be asked. Whether that is so.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn ask_to_join(&mut self) -> Result<bool, isize> {
        let Some(hooks) = self.hooks.as_mut().filter(|hooks| member::must_ask(hooks.request)) else { return Ok(false) };
        let link = Rc::clone(&hooks.link);
        member::ask(hooks.request, move |decision, copy| {
            if let Some(News::Join(decision)) = link.tell(News::Join(decision)) {
                decision.discard(copy);
            }
        })?;
        hooks.waiting = true;
        Ok(true)
    }

    /// Subscribes the session, about which nobody has to be asked.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn join(
        &mut self,
        request: Request,
        session: SessionRef,
        subscription: &Subscription<'_>,
    ) -> Result<(), isize> {
        let member = Member::of(request)?;
        self.subscribe(request, session, subscription, window(session), member)
    }

    /// Subscribes the session, about which a hook was asked.
    fn admitted(&mut self, decision: &JoinDecision) -> Result<(), isize> {
        const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
        let Some(Hooks { request, window, .. }) = self.hooks.as_deref() else { return Err(FAILED) };
        let (request, window) = (*request, *window);
        let member = decision.apply(request)?;
        let session = request.existing_context().and_then(|context| session::of(context)).ok_or(FAILED)?;
        let Some(channel) = request.settings().channel() else { return Err(FAILED) };
        let ids = Ids::of(request, channel)?;
        self.subscribe(request, session, &Subscription::of(request, &ids), window, member)
    }

    /// Subscribes the session to channels. A member whose subscription fails goes at once.
    fn subscribe(
        &mut self,
        request: Request,
        session: SessionRef,
        subscription: &Subscription<'_>,
        window: Option<u8>,
        member: Option<Member>,
    ) -> Result<(), isize> {
        let settings = request.settings();
        let meta = request.existing_context().and_then(|context| context.protocol) == Some(META);
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
        self.subscriber = Some(subscription.begin(request, form, on_gap, session::listener(session))?);
        self.member = member.map(|mut member| {
            member.joined();
            Box::new(member)
        });
        Ok(())
    }

    /// Whether the client takes nothing at the moment.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    fn publish(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Ending> {
        let Some(publisher) = &self.publisher else {
            return Err(Ending { code: CloseCode::POLICY, reason: "publishing is not allowed here".to_owned() });
        };
        let content_type = match kind {
            Kind::Text => b"",
            Kind::Binary => BINARY,
        };
        if self.hooks.as_ref().is_some_and(|hooks| hooks.asks) {
            return self.submit(content_type, payload);
        }
        if publisher.engine() != 0 {
            return self.publish_to_engine(kind, content_type, payload);
        }
        let result = published(publisher.publish(kind, content_type, b"", &[payload]));
        self.answer(result)
    }

    /// Publishes to an engine. The next messages follow before it has answered, and are answered in their order.
    fn publish_to_engine(&mut self, kind: Kind, content_type: &[u8], payload: &[u8]) -> Result<(), Ending> {
        let (Some(hooks), Some(publisher)) = (&mut self.hooks, &self.publisher) else { return Ok(()) };
        if engine::is_away(publisher.engine()) && hooks.underway == 0 {
            return self.answer(published(Err(PublishError::Unavailable)));
        }
        hooks.underway += 1;
        let link = Rc::clone(&hooks.link);
        let publication = Publication { kind, content_type, event: b"", data: &[payload] };
        publisher.publish_to_engine(&publication, move |told| {
            // A publisher that has gone needs no answer; its message was complete.
            link.tell(News::Stored(published(told)));
        });
        Ok(())
    }

    /// Asks what to do with a message. The next one is not taken before that is known.
    fn submit(&mut self, content_type: &[u8], payload: &[u8]) -> Result<(), Ending> {
        let (Some(hooks), Some(publisher)) = (&mut self.hooks, &self.publisher) else { return Ok(()) };
        let mut message = Vec::new();
        if message.try_reserve_exact(payload.len()).is_err() {
            return Err(Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() });
        }
        message.extend_from_slice(payload);
        let draft = Draft { content_type: content_type.to_vec(), message: Rc::new(message) };
        let limit = usize::try_from(hooks.request.settings().max_message_size()).unwrap_or(usize::MAX);
        let (publisher, link) = (Rc::clone(publisher), Rc::clone(&hooks.link));
        let asked = approval::ask(hooks.request, draft, limit, move |decision| {
            let result = match decision {
                Decision::Publish(draft) if publisher.engine() != 0 => {
                    let (content_type, parts) = (&draft.content_type, [draft.message.as_slice()]);
                    let kind = kind_of(content_type, &parts);
                    let publication = Publication { kind, content_type, event: b"", data: &parts };
                    return publisher.publish_to_engine(&publication, move |told| {
                        link.tell(News::Published(published(told)));
                    });
                }
                Decision::Publish(draft) => {
                    let (content_type, parts) = (&draft.content_type, [draft.message.as_slice()]);
                    published(publisher.publish(kind_of(content_type, &parts), content_type, b"", &parts))
                }
                Decision::Drop => Ok(publisher.info()),
                Decision::Refuse { status, .. } => Err(Failure::of_hook(status)),
            };
            // A publisher that has gone needs no answer; its message was complete.
            link.tell(News::Published(result));
        });
        if let Err(status) = asked {
            return self.answer(Err(Failure::of_asking(status)));
        }
        hooks.waiting = true;
        Ok(())
    }

    /// A message was dealt with. One that is refused ends the session where its publisher would not learn of it.
    fn answer(&mut self, result: Result<Info, Failure>) -> Result<(), Ending> {
        let reply = match (result, self.answers) {
            (Ok(info), form) => form.map(|form| form.render(&info)),
            (Err(Failure::Refused { status, .. }), Some(form)) => Some(form.render_refusal(status)),
            (Err(Failure::Refused { ending, .. } | Failure::Ended(ending)), _) => return Err(ending),
        };
        self.published += 1;
        self.replies.extend(reply);
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
    fn start(&mut self) -> Started {
        let Some(hooks) = self.hooks.as_mut().filter(|hooks| hooks.waiting) else { return Started::Yes };
        let Some(News::Join(decision)) = hooks.link.take() else { return Started::NotYet };
        hooks.waiting = false;
        match self.admitted(&decision) {
            Ok(()) => Started::Yes,
            Err(status) => Started::No(session::refusal(status)),
        }
    }

    fn accepts(&self) -> bool {
        let waits = self.hooks.as_ref().is_some_and(|hooks| hooks.waiting || hooks.refused.is_some());
        let underway = self.hooks.as_ref().map_or(0, |hooks| hooks.underway);
        self.replies.len() + underway < MOST_REPLIES && !waits
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        // What follows a message that was refused is not published, whatever the hurry.
        if let Some(ending) = self.hooks.as_ref().and_then(|hooks| hooks.refused.clone()) {
            return Err(ending);
        }
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
        let mut some = false;
        while let Some(hooks) = &mut self.hooks {
            let result = match hooks.link.take() {
                Some(News::Published(result)) => {
                    hooks.waiting = false;
                    result
                }
                Some(News::Stored(result)) => {
                    hooks.underway = hooks.underway.saturating_sub(1);
                    result
                }
                Some(News::Join(_)) | None => break,
            };
            some = true;
            if let Err(ending) = self.answer(result)
                && let Some(hooks) = &mut self.hooks
            {
                hooks.refused = Some(ending);
            }
        }
        some
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut some = self.reply(outlet);
        if self.replies.is_empty()
            && let Some(ending) = self.hooks.as_mut().and_then(|hooks| hooks.refused.clone())
        {
            return Produced::Ended(ending);
        }
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

    fn is_in_turn(&self) -> bool {
        // A publisher is told of each message, and hooks are asked about one at a time.
        self.publisher.is_some()
    }

    fn client_gone(&mut self, _: Input) -> Option<LeftProgram> {
        self.part();
        None
    }

    fn progress(&self) -> u64 {
        // A hook takes its time, which is that of its location: a client that has hung up meanwhile is not stuck.
        let waits = self.hooks.as_ref().is_some_and(|hooks| hooks.waiting || hooks.underway > 0);
        if waits { self.published + now() } else { self.published }
    }
}

impl Channel {
    /// Is no subscriber any more, and hears of nothing.
    fn part(&mut self) {
        if let Some(id) = self.subscriber.take() {
            hub::with(|hub| hub.unsubscribe(id));
        }
        self.member = None;
        if let Some(hooks) = &self.hooks {
            hooks.link.cut();
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.part();
    }
}

/// The window of compressed messages for several sessions, of a session that was made just now.
fn window(session: SessionRef) -> Option<u8> {
    session::enter(session, |session| session.shared_window())
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
                    outlet.record.message_id = Some(message.id);
                }
            }
            batch.items().len()
        })
    })
}
