// SPDX-License-Identifier: Apache-2.0

//! A WebSocket that subscribes to channels, publishes to them, or both.

use std::collections::VecDeque;
use std::rc::Rc;

use super::approval::{self, Decision, Draft};
use super::failure::{Failure, published};
use super::hub;
use super::link::{Link, News};
use super::member::{self, ChannelMember, JoinDecision};
use super::publish::Publisher;
use super::subscription::{self, Ids, Subscription};
use crate::channel::backend::Answer;
use crate::channel::fanout::{Next, OnGap, SubscriberId};
use crate::channel::info::InfoForm;
use crate::channel::message::{OCTET_STREAM, Publication, kind_of};
use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::{Budget, Info, ReadError};
use crate::channel::transport::Transport;
use crate::channel::wire::WireForm;
use crate::channel::wire::websocket::{Deflate, Framing, META, Style};
use crate::conf::ChannelLag;
use crate::nginx::request::{HeldRequest, Request};
use crate::nginx::session::context::Context;
use crate::nginx::session::{self, SessionRef};
use crate::nginx::status::Status;
use crate::nginx::timer::now;
use crate::session::endpoint::{Ending, Endpoint, Input, Outlet, Produced, Started};
use crate::session::program::LeftProgram;
use crate::ws::close::CloseCode;
use crate::ws::connection::Data;
use crate::ws::frame::MessageKind;

/// Messages that are looked at in one step.
const STEP: usize = 64;

/// Answers that may wait to be sent before no more messages are taken.
const MOST_REPLIES: usize = 64;

/// The channels behind a WebSocket.
pub struct Channel {
    request: HeldRequest,
    session: SessionRef,
    /// By it come the answers that are not there at once. Made when there is one to wait for.
    link: Option<Rc<Link<News>>>,
    subscriber: Option<SubscriberId>,
    /// Nothing is asked of the hub before it calls again.
    blocked: bool,
    /// There is something for the client that it gets later: it has had as much as its rate lets it have.
    held: bool,
    /// Whoever wants to know that the client has left is told when this goes.
    member: Option<Box<ChannelMember>>,
    publisher: Option<Rc<Publisher>>,
    /// A hook is asked about messages before they are published.
    asks: bool,
    /// Whether it is not known yet if the session may subscribe, or what becomes of its message: nothing more is taken.
    waiting: bool,
    /// The window of compressed messages for several sessions.
    window: Option<u8>,
    /// A message that has begun and not ended.
    unfinished: Vec<u8>,
    /// What became of messages that were published, from the oldest on of which it is not known.
    ///
    /// Invariant: the first one is `None`, or there is none.
    unanswered: VecDeque<Option<Result<Info, Failure>>>,
    /// The number of the first of these.
    first_unanswered: u64,
    /// The form of the answers; none where publishing is not answered.
    answers: Option<InfoForm>,
    replies: VecDeque<Rc<str>>,
    /// A message was refused, or its answer never came: after the replies the session ends.
    refused: Option<Box<Ending>>,
    published: u64,
}

impl Channel {
    /// A WebSocket that publishes, if `publisher` is there; `answers` is the form in which it is told of each message.
    pub fn new(
        request: Request<'_>,
        session: SessionRef,
        publisher: Option<Publisher>,
        answers: Option<InfoForm>,
    ) -> Self {
        Channel {
            // SAFETY: the session, which has the endpoint, holds the request.
            request: unsafe { request.held() },
            session,
            link: None,
            subscriber: None,
            blocked: true,
            held: false,
            member: None,
            asks: publisher.is_some() && request.settings().channel_publish_request().is_some(),
            publisher: publisher.map(Rc::new),
            waiting: false,
            window: None,
            unfinished: Vec::new(),
            unanswered: VecDeque::new(),
            first_unanswered: 0,
            answers,
            replies: VecDeque::new(),
            refused: None,
            published: 0,
        }
    }

    /// Subscribes the session to these channels, at once or when that is known to be allowed: then it waits.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn join(&mut self, ids: &Ids<'_>) -> Result<(), Status> {
        self.window = session::enter(self.session, |session| session.shared_window());
        if !member::must_ask(self.request.get()) {
            let member = ChannelMember::of(self.request.get())?;
            return self.subscribe(ids, member);
        }
        let link = self.link();
        let decided = member::ask(self.request.get(), ids, move |decision, copy| {
            if let Some(News::Join(decision)) = link.tell(News::Join(decision)) {
                decision.discard(copy);
            }
        })?;
        match decided {
            Some(decision) => {
                let member = decision.apply(self.request.get())?;
                self.subscribe(ids, member)
            }
            None => {
                self.waiting = true;
                Ok(())
            }
        }
    }

    /// Subscribes the session, about which somebody was asked.
    fn admitted(&mut self, decision: JoinDecision) -> Result<(), Status> {
        // SAFETY: the session holds the request during this call.
        let request = unsafe { Request::new(self.request.get().raw()) };
        let member = decision.apply(request)?;
        let Some(channel) = request.settings().channel() else {
            return Err(Status::INTERNAL_SERVER_ERROR);
        };
        self.subscribe(&Ids::of(request, channel)?, member)
    }

    /// Subscribes the session to channels. A member whose subscription fails goes at once.
    fn subscribe(&mut self, ids: &Ids<'_>, member: Option<ChannelMember>) -> Result<(), Status> {
        let request = self.request.get();
        let settings = request.settings();
        let meta = request.existing_context().and_then(Context::protocol) == Some(META);
        let form = WireForm::WebSocket(Framing {
            style: if meta { Style::Meta } else { Style::Plain },
            fragment: settings.fragment_size(),
            deflate: self.window.map(|window| Deflate {
                level: settings.deflate_level() as u8,
                window,
                min_size: settings.deflate_min_size(),
            }),
        });
        let form = subscription::presented(request, form, false)?;
        let form = match settings.channel_tell_id() {
            Some(naming) if meta => WireForm::Named(naming, Box::new(form)),
            Some(_) | None => form,
        };
        let on_gap = match settings.channel_lag() {
            _ if meta => OnGap::Tell,
            ChannelLag::Close => OnGap::Close,
            ChannelLag::Skip => OnGap::Skip,
        };
        let subscription = Subscription::of(request, ids);
        let listener = session::listener(self.session);
        self.subscriber = Some(subscription.begin(request, form, on_gap, Transport::WebSocket, listener)?);
        self.member = member.map(|mut member| {
            member.joined();
            Box::new(member)
        });
        Ok(())
    }

    /// What joins the session and the answers that it waits for.
    fn link(&mut self) -> Rc<Link<News>> {
        Rc::clone(self.link.get_or_insert_with(|| Link::new(self.session)))
    }

    /// Whether it is not known yet if the session may subscribe, or what becomes of its message.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether there may be something for the client that it does not get at the moment.
    pub fn is_behind(&self) -> bool {
        self.blocked || self.held
    }

    /// Answers a heartbeat of the client. Whether the message is one: nobody else gets it then.
    pub fn takes_heartbeat(&mut self, kind: MessageKind, payload: &[u8]) -> bool {
        let Some(answer) = heartbeat(self.request.get(), kind, payload) else { return false };
        self.replies.push_back(answer);
        true
    }

    fn publish(&mut self, kind: MessageKind, payload: &[u8]) -> Result<(), Ending> {
        if self.takes_heartbeat(kind, payload) {
            return Ok(());
        }
        let Some(publisher) = &self.publisher else {
            return Err(Ending { code: CloseCode::POLICY, reason: "publishing is not allowed here".to_owned() });
        };
        let content_type = match kind {
            MessageKind::Text => b"",
            MessageKind::Binary => OCTET_STREAM,
        };
        if self.asks {
            return self.submit(content_type, payload);
        }
        let publication = Publication { kind, content_type, event: b"", data: &[payload] };
        match publisher.publish(&publication) {
            Answer::Now(outcome) if self.unanswered.is_empty() => self.answer(published(outcome)),
            Answer::Now(outcome) => {
                // The publications before this one are answered first.
                self.unanswered.push_back(Some(published(outcome)));
                Ok(())
            }
            Answer::Later(pending) => {
                let number = self.first_unanswered + self.unanswered.len() as u64;
                self.unanswered.push_back(None);
                let link = self.link();
                pending.then(move |outcome| {
                    // A publisher that has gone needs no answer; its message was complete.
                    link.tell(News::Answered(number, published(outcome)));
                });
                Ok(())
            }
        }
    }

    /// Asks what to do with a message. The next one is not taken before that is known.
    fn submit(&mut self, content_type: &[u8], payload: &[u8]) -> Result<(), Ending> {
        let Some(publisher) = self.publisher.clone() else { return Ok(()) };
        let mut message = Vec::new();
        if message.try_reserve_exact(payload.len()).is_err() {
            return Err(Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() });
        }
        message.extend_from_slice(payload);
        let draft = Draft { content_type: content_type.to_vec(), message: Rc::new(message) };
        let limit = usize::try_from(self.request.get().settings().max_message_size()).unwrap_or(usize::MAX);
        let link = self.link();
        // A publisher that has gone needs no answer; its message was complete.
        let decided = move |decision| match decision {
            Decision::Publish(draft) => {
                let (content_type, parts) = (&draft.content_type, [draft.message.as_slice()]);
                let kind = kind_of(content_type, &parts);
                publisher.publish(&Publication { kind, content_type, event: b"", data: &parts }).then(move |outcome| {
                    link.tell(News::Published(published(outcome)));
                });
            }
            Decision::Drop => publisher.info().then(move |outcome| {
                let nothing = Info {
                    messages: 0,
                    requested: None,
                    subscribers: 0,
                    last: MessageId { epoch: Epoch(0), offset: Offset(0) },
                };
                link.tell(News::Published(Ok(outcome.ok().flatten().unwrap_or(nothing))));
            }),
            Decision::Refuse { status, .. } => {
                link.tell(News::Published(Err(Failure::of_hook(status))));
            }
        };
        let request = self.request.get();
        let ask = || approval::ask(request, draft, limit, decided);
        let asked = match request.existing_context() {
            Some(context) => context.as_publisher(ask),
            None => ask(),
        };
        if let Err(status) = asked {
            return self.answer(Err(Failure::of_asking(status)));
        }
        self.waiting = true;
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
        self.replies.extend(reply.map(Rc::from));
        Ok(())
    }

    /// What became of a message that was waited for. The first one that is refused is what the session ends with.
    fn answered(&mut self, result: Result<Info, Failure>) {
        if self.refused.is_none()
            && let Err(ending) = self.answer(result)
        {
            self.refused = Some(Box::new(ending));
        }
    }

    /// Answers to what was published. Whether there were any.
    fn reply(&mut self, outlet: &mut Outlet<'_>) -> bool {
        let mut some = false;
        while outlet.has_room()
            && let Some(reply) = self.replies.pop_front()
        {
            // A connection that is closing for a reason of its own needs no answers.
            some |= outlet.message(MessageKind::Text, reply.as_bytes()).is_ok();
        }
        some
    }
}

impl Endpoint for Channel {
    fn start(&mut self) -> Started {
        if !self.waiting {
            return Started::Yes;
        }
        let news = self.link.as_ref().and_then(|link| link.take());
        let Some(News::Join(decision)) = news else { return Started::NotYet };
        self.waiting = false;
        match self.admitted(decision) {
            Ok(()) => Started::Yes,
            Err(status) => Started::No(session::refusal(status)),
        }
    }

    fn accepts(&self) -> bool {
        self.replies.len() + self.unanswered.len() < MOST_REPLIES && !self.waiting && self.refused.is_none()
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        // What follows a message that was refused is not published, whatever the hurry.
        if let Some(ending) = &self.refused {
            return Err(Ending::clone(ending));
        }
        if data.first && data.last {
            return self.publish(data.kind, data.payload);
        }
        if self.publisher.is_some() || self.request.get().settings().client_heartbeat.is_some() {
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
        while let Some(news) = self.link.as_ref().and_then(|link| link.take()) {
            match news {
                News::Published(result) => {
                    self.waiting = false;
                    self.answered(result);
                }
                News::Answered(number, result) => {
                    let place = number.checked_sub(self.first_unanswered).and_then(|place| usize::try_from(place).ok());
                    let place = place.and_then(|place| self.unanswered.get_mut(place));
                    debug_assert!(matches!(place, Some(None)), "a message is answered once");
                    if let Some(place) = place {
                        *place = Some(result);
                    }
                    while let Some(Some(_)) = self.unanswered.front() {
                        self.first_unanswered += 1;
                        if let Some(Some(result)) = self.unanswered.pop_front() {
                            self.answered(result);
                        }
                    }
                }
                News::Join(_) => {}
            }
            some = true;
        }
        some
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut some = self.reply(outlet);
        if self.replies.is_empty()
            && let Some(ending) = &self.refused
        {
            return Produced::Ended(Ending::clone(ending));
        }
        let Some(id) = self.subscriber else {
            return if some { Produced::Some } else { Produced::Nothing };
        };
        while outlet.has_room() {
            if self.blocked {
                self.blocked = false;
                hub::with(|hub| hub.unblock(id));
            }
            let next = step(id, outlet);
            self.held = matches!(next, Some(Ok(Next::Held)));
            match next {
                Some(Ok(Next::Items)) => some = true,
                Some(Ok(Next::UpToDate | Next::Held)) | None => {
                    return if some { Produced::Some } else { Produced::Nothing };
                }
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
                Some(Ok(Next::Expelled)) => return Produced::Ended(expelled()),
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
        if self.waiting || !self.unanswered.is_empty() { self.published + now() } else { self.published }
    }
}

impl Channel {
    /// Is no subscriber any more, and hears of nothing.
    fn part(&mut self) {
        if let Some(id) = self.subscriber.take() {
            hub::with(|hub| hub.unsubscribe(id));
        }
        self.member = None;
        if let Some(link) = &self.link {
            link.cut();
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.part();
    }
}

/// Somebody has said that the client is to be closed.
pub(super) fn expelled() -> Ending {
    Ending { code: CloseCode::POLICY, reason: "disconnected".to_owned() }
}

/// The answer to a message of the client that is a heartbeat.
pub(super) fn heartbeat(request: Request<'_>, kind: MessageKind, payload: &[u8]) -> Option<Rc<str>> {
    let (said, answer) = request.settings().client_heartbeat.as_ref()?.as_ref()?;
    (kind == MessageKind::Text && payload == said.as_bytes()).then(|| Rc::clone(answer))
}

/// Moves some of what is there for a subscriber to the client's queue. `None` where the worker is leaving.
pub(super) fn step(id: SubscriberId, outlet: &mut Outlet<'_>) -> Option<Result<Next, ReadError>> {
    let limit = Budget { messages: STEP, octets: outlet.room() };
    hub::with(|hub| {
        hub.serve(id, limit, |batch| {
            for item in batch.items() {
                let message = item.message.as_ref().map(|shared| &shared.message);
                outlet.ready_made(&item.buffer, message.map_or(0, |message| message.data().len()));
                if let Some(message) = message {
                    outlet.record.message_id.set(Some(message.id));
                }
            }
            batch.items().len()
        })
    })
}
