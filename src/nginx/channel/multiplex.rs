// SPDX-License-Identifier: Apache-2.0

//! A WebSocket that subscribes, unsubscribes and publishes while it is open: the subprotocol [`channels.v1`](crate::channel::v1).
//!
//! What directives say about a channel is found out by a copy of the request that is about this channel: see
//! [`scope`](crate::nginx::scope).

mod outcome;

use std::rc::Rc;

use super::access::{self, Access};
use super::approval::{self, Decision, Draft};
use super::link::Link;
use super::member::{self, ChannelMember, JoinDecision, Place};
use super::subscription::{self, Ids, Subscription};
use super::websocket::{expelled, heartbeat, step};
use super::{hub, presence_of};
use crate::channel::backend::Answer;
use crate::channel::fanout::{Allowance, Next, OnGap, SubscriberId};
use crate::channel::hook::Moderator;
use crate::channel::message::{OCTET_STREAM, Publication, kind_of};
use crate::channel::position::Asked;
use crate::channel::store::{Presence, ReadError};
use crate::channel::transport::Transport;
use crate::channel::v1::answer::{self, About};
use crate::channel::v1::{Begin, Command, Conversation, Fault, Operation, Said};
use crate::channel::wire::websocket::{Deflate, Framing, Style};
use crate::channel::wire::{Naming, WireForm};
use crate::nginx::request::{HeldRequest, Request};
use crate::nginx::session::{self, SessionRef};
use crate::nginx::status::Status;
use crate::nginx::timer::now;
use crate::session::endpoint::{Ending, Endpoint, Input, Outlet, Produced, Started};
use crate::session::program::LeftProgram;
use crate::ws::close::CloseCode;
use crate::ws::connection::Data;
use crate::ws::frame::MessageKind;
use outcome::{FAILED, FORBIDDEN, Published, Refusal, dropped, plain, present, published, told_by_hook};

/// The name of the event that tells an EventSource of lost messages: nobody else may say so.
const GAP: &str = "gap";

/// What a hook, or whoever has the channels, has answered.
enum News {
    /// Whether the client may subscribe.
    Join { about: About, asked: Asked, decision: JoinDecision },
    /// What became of a publication, about which a hook was asked or not.
    Published { about: About, by_hook: bool, published: Published },
    /// Who is there.
    Presence { about: About, presence: Result<Presence, Refusal> },
}

/// A subscription of the client. It ends when this is dropped.
struct Joined {
    id: SubscriberId,
    /// Nothing is asked of the hub before it calls again.
    is_blocked: bool,
    /// Whoever wants to know that the client has left is told when this goes.
    member: Option<Box<ChannelMember>>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        hub::with(|hub| hub.unsubscribe(self.id));
        self.member = None;
    }
}

/// The channels behind a WebSocket that chooses them.
pub struct Multiplex {
    /// Invariant: it is held by the session that has the endpoint.
    request: HeldRequest,
    link: Rc<Link<News>>,
    /// The window of compressed messages for several sessions.
    window: Option<u8>,
    conversation: Conversation<Joined>,
    /// How many messages the client gets in a time, of all of its channels together.
    allowance: Option<Allowance>,
    access: access::Known,
    /// A message that has begun and not ended.
    unfinished: Vec<u8>,
    /// Commands that were carried out.
    done: u64,
    /// Somebody has said that the client is to be closed.
    is_expelled: bool,
}

impl Multiplex {
    /// A client that has subscribed to nothing yet.
    pub fn new(request: Request<'_>, session: SessionRef) -> Self {
        let most = usize::try_from(request.settings().channel_max_subscriptions()).unwrap_or(usize::MAX);
        Multiplex {
            // SAFETY: the session, which has the endpoint, holds the request.
            request: unsafe { request.held() },
            link: Link::new(session),
            window: session::enter(session, |session| session.shared_window()),
            conversation: Conversation::new(most),
            allowance: subscription::allowance(request),
            access: access::Known::default(),
            unfinished: Vec::new(),
            done: 0,
            is_expelled: false,
        }
    }

    /// Takes a whole message.
    fn receive(&mut self, payload: &[u8]) -> Result<(), Ending> {
        if let Some(answer) = heartbeat(self.request.get(), MessageKind::Text, payload) {
            self.conversation.answer(String::from(&*answer));
            return Ok(());
        }
        match Command::parse(payload) {
            Ok(command) => match self.conversation.begin(&command) {
                Begin::Later => self.conversation.hold(command.into_owned()),
                begin => self.execute(command, begin),
            },
            Err(Fault::Foreign(reason)) => {
                return Err(Ending { code: CloseCode::INVALID_DATA, reason: reason.to_owned() });
            }
            Err(Fault::Memory) => {
                return Err(Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() });
            }
            Err(Fault::Refused { reference, reason }) => {
                self.conversation.answer(answer::error(&About { reference, channel: None }, 400, reason));
            }
        }
        Ok(())
    }

    fn execute(&mut self, command: Command<'_>, begin: Begin) {
        let about = About { reference: command.reference, channel: command.channel.as_deref().map(Into::into) };
        if let Begin::Refuse(status, reason) = begin {
            return self.conversation.answer(answer::error(&about, status, reason));
        }
        debug_assert_eq!(begin, Begin::Now, "a command that has to wait is held");
        self.done += 1;
        let result = match command.operation {
            Operation::Ping => {
                self.conversation.answer(answer::pong(&about));
                Ok(())
            }
            Operation::Unsubscribe => {
                drop(self.conversation.remove(about.channel.as_deref()));
                self.conversation.answer(answer::unsubscribed(&about));
                Ok(())
            }
            Operation::Subscribe { after } => {
                let asked = after.map_or(Asked::Nothing, |after| Asked::id(after.as_bytes()));
                self.subscribe(&about, asked)
            }
            Operation::Publish(said) => self.publish(&about, &said),
            Operation::Presence => self.presence(&about),
        };
        if let Err((status, reason)) = result {
            self.conversation.answer(answer::error(&about, status, &reason));
        }
    }

    /// What the client may do with a channel.
    fn access(&mut self, place: &Place) -> Result<Rc<Access>, Refusal> {
        self.access.of(self.request.get(), place).map_err(plain)
    }

    /// Gives `step` a copy of the request that is about this channel, and the ids that it comes to.
    fn with_ids<R>(
        &self,
        place: &Place,
        step: impl FnOnce(Request<'_>, &Ids<'_>) -> Result<R, Status>,
    ) -> Result<R, Refusal> {
        access::with_ids(self.request.get(), place, step).map_err(plain)
    }

    fn subscribe(&mut self, about: &About, asked: Asked) -> Result<(), Refusal> {
        let place = &about.channel;
        if !self.access(place)?.subscribes() {
            return Err((FORBIDDEN, "subscribing is not allowed".to_owned()));
        }
        if !member::must_ask(self.request.get()) {
            return self.join(about, &asked, false);
        }
        let (link, told, after) = (Rc::clone(&self.link), about.clone(), asked.clone());
        let decided = self.with_ids(place, |copy, ids| {
            member::ask(copy, ids, move |decision, copy| {
                if let Some(News::Join { decision, .. }) = link.tell(News::Join { about: told, asked: after, decision })
                {
                    decision.discard(copy);
                }
            })
        })?;
        match decided {
            Some(mut decision) => self.join(about, &asked, decision.verdict().map_err(told_by_hook)?),
            None => {
                self.conversation.joining(place.as_deref());
                Ok(())
            }
        }
    }

    /// Subscribes. `by_hook` if a hook has let the client in.
    fn join(&mut self, about: &About, asked: &Asked, by_hook: bool) -> Result<(), Refusal> {
        let (request, window, place) = (self.request.get(), self.window, &about.channel);
        let allowance = self.allowance.clone();
        let joined = self.with_ids(place, |copy, ids| {
            let member = ChannelMember::on_place(request, copy, place.clone(), ids, by_hook)?;
            let session = request.existing_context().and_then(session::of);
            let session = session.ok_or(Status::http(FAILED))?;
            let settings = request.settings();
            let form = WireForm::WebSocket(Framing {
                style: Style::Json,
                fragment: settings.fragment_size(),
                deflate: window.map(|window| Deflate {
                    level: settings.deflate_level() as u8,
                    window,
                    min_size: settings.deflate_min_size(),
                }),
            });
            let naming = if place.is_some() { Some(Naming::Field) } else { settings.channel_tell_id() };
            let form = match naming {
                Some(naming) => WireForm::Named(naming, Box::new(form)),
                None => form,
            };
            let subscription = match (place, asked) {
                (None, Asked::Nothing) => Subscription::of(request, ids),
                (_, asked) => Subscription::after(copy, ids, asked.clone()),
            };
            let subscription = subscription.paced_by(allowance);
            let listener = session::listener(session);
            let id = subscription.begin(copy, form, OnGap::Tell, Transport::WebSocket, listener)?;
            Ok(Joined { id, is_blocked: true, member: member.map(Box::new) })
        })?;
        let position = hub::with(|hub| hub.position(joined.id)).flatten().unwrap_or_default();
        self.conversation.answer(answer::subscribed(about, &position));
        let mut joined = joined;
        if let Some(member) = &mut joined.member {
            member.joined();
        }
        self.conversation.joined(place.as_deref(), joined);
        Ok(())
    }

    /// A hook, or the engine of the channel, has answered.
    fn decided(&mut self, about: &About, asked: &Asked, mut decision: JoinDecision) {
        let verdict = decision.verdict().map_err(told_by_hook);
        if verdict.is_err() {
            // Whoever a hook has let in, and whose channels cannot be had, has left. What went wrong was logged.
            let _ = self.with_ids(&about.channel, |copy, _| {
                decision.discard(Some(copy));
                Ok(())
            });
        }
        let result = verdict.and_then(|by_hook| self.join(about, asked, by_hook));
        if let Err((status, reason)) = result {
            self.conversation.refused(about.channel.as_deref());
            self.conversation.answer(answer::error(about, status, &reason));
        }
    }

    fn publish(&mut self, about: &About, said: &Said<'_>) -> Result<(), Refusal> {
        let access = self.access(&about.channel)?;
        if !access.publishes() {
            return Err((FORBIDDEN, "publishing is not allowed".to_owned()));
        }
        if said.event == GAP {
            return Err((400, "\"gap\" is how clients are told of lost messages".to_owned()));
        }
        let publisher = access.publisher(self.request.get(), &about.channel).map_err(plain)?;
        let content_type = match (said.kind, said.content_type.as_bytes()) {
            (MessageKind::Binary, b"") => OCTET_STREAM,
            (_, named) => named,
        };
        let event = said.event.as_bytes();
        let (link, told) = (Rc::clone(&self.link), about.clone());
        if self.request.get().settings().channel_publish_request().is_some() {
            let mut message = Vec::new();
            if message.try_reserve_exact(said.data.len()).is_err() {
                return Err((FAILED, "no memory for the message".to_owned()));
            }
            message.extend_from_slice(&said.data);
            let draft = Draft { content_type: content_type.to_vec(), message: Rc::new(message) };
            let limit = usize::try_from(self.request.get().settings().max_message_size()).unwrap_or(usize::MAX);
            let event: Box<[u8]> = event.into();
            // A publisher that has gone needs no answer; its message was complete.
            let done = move |decision| {
                let tell = move |published| {
                    link.tell(News::Published { about: told, by_hook: true, published });
                };
                match decision {
                    Decision::Publish(draft) => {
                        let (content_type, parts) = (&draft.content_type, [draft.message.as_slice()]);
                        let kind = kind_of(content_type, &parts);
                        let publication = Publication { kind, content_type, event: &event, data: &parts };
                        publisher.publish(&publication).then(move |outcome| tell(published(outcome)));
                    }
                    Decision::Drop => publisher.info().then(move |outcome| tell(Ok((None, dropped(outcome))))),
                    Decision::Refuse { status, .. } => tell(Err(match Moderator::of(status) {
                        Moderator::Refuses => (status, "the message is refused".to_owned()),
                        Moderator::Unreachable | Moderator::Broken => {
                            (status, "nobody can be asked about the message".to_owned())
                        }
                    })),
                }
            };
            access::with_ids_to_publish(self.request.get(), &about.channel, |copy, _| {
                approval::ask(copy, draft, limit, done)
            })
            .map_err(plain)?;
            self.conversation.publishing(true);
            return Ok(());
        }
        let parts = [&*said.data];
        let publication = Publication { kind: kind_of(content_type, &parts), content_type, event, data: &parts };
        match publisher.publish(&publication) {
            Answer::Now(outcome) => {
                let (id, info) = published(outcome)?;
                self.conversation.answer(answer::published(about, id, &info));
            }
            Answer::Later(pending) => {
                self.conversation.publishing(false);
                pending.then(move |outcome| {
                    link.tell(News::Published { about: told, by_hook: false, published: published(outcome) });
                });
            }
        }
        Ok(())
    }

    fn presence(&mut self, about: &About) -> Result<(), Refusal> {
        if !self.access(&about.channel)?.tells_presence() {
            return Err((FORBIDDEN, "who is there is not told".to_owned()));
        }
        let request = self.request.get();
        match self.with_ids(&about.channel, |_, ids| Ok(presence_of(request, ids)))? {
            Answer::Now(outcome) => {
                let presence = present(outcome)?;
                self.conversation.answer(answer::presence(about, &presence));
            }
            Answer::Later(pending) => {
                self.conversation.asking();
                let (link, about) = (Rc::clone(&self.link), about.clone());
                pending.then(move |outcome| {
                    link.tell(News::Presence { about, presence: present(outcome) });
                });
            }
        }
        Ok(())
    }

    /// What was answered by others. Whether there was anything.
    fn take_news(&mut self) -> bool {
        let mut some = false;
        while let Some(news) = self.link.take() {
            some = true;
            self.done += 1;
            match news {
                News::Join { about, asked, decision } => self.decided(&about, &asked, decision),
                News::Published { about, by_hook, published } => {
                    self.conversation.published(by_hook);
                    self.conversation.answer(match published {
                        Ok((id, info)) => answer::published(&about, id, &info),
                        Err((status, reason)) => answer::error(&about, status, &reason),
                    });
                }
                News::Presence { about, presence } => {
                    self.conversation.answered();
                    self.conversation.answer(match presence {
                        Ok(presence) => answer::presence(&about, &presence),
                        Err((status, reason)) => answer::error(&about, status, &reason),
                    });
                }
            }
        }
        some
    }

    /// Carries out what had to wait, as far as it need not any more.
    fn go_on(&mut self) {
        while let Some((command, begin)) = self.conversation.next_held() {
            self.execute(command, begin);
        }
    }

    /// Tells the client what it is to be told. Whether that was anything.
    fn tell(&mut self, outlet: &mut Outlet<'_>) -> bool {
        let mut some = false;
        while outlet.has_room()
            && let Some(text) = self.conversation.next_answer()
        {
            // A connection that is closing for a reason of its own needs no answers.
            some |= outlet.message(MessageKind::Text, text.as_bytes()).is_ok();
        }
        some
    }

    /// Lets each subscription have its turn. Whether there was anything for one of them.
    fn serve(&mut self, outlet: &mut Outlet<'_>) -> bool {
        let mut some = false;
        let mut gone = Vec::new();
        let (mut nth, mut last) = (0, None);
        while let Some(entry) = self.conversation.in_turn(nth) {
            let this = nth;
            nth += 1;
            let Some(joined) = &mut entry.subscription else { continue };
            if !outlet.has_room() {
                if !joined.is_blocked {
                    joined.is_blocked = true;
                    hub::with(|hub| hub.block(joined.id));
                }
                continue;
            }
            if joined.is_blocked {
                joined.is_blocked = false;
                hub::with(|hub| hub.unblock(joined.id));
            }
            match step(joined.id, outlet) {
                Some(Ok(Next::Items)) => (some, last) = (true, Some(this)),
                Some(Ok(Next::UpToDate | Next::Held)) | None => {}
                // Whoever is to go from one channel is to go.
                Some(Ok(Next::Expelled)) => self.is_expelled = true,
                Some(Ok(Next::Gone | Next::Lagging { .. }) | Err(ReadError::Gone)) => gone.push(entry.channel.clone()),
                // Later: the zone is repaired by then, or there is memory again.
                Some(Err(ReadError::Memory | ReadError::Corrupt)) => hub::retry(joined.id),
            }
        }
        if let Some(last) = last {
            self.conversation.go_on_after(last);
        }
        for channel in gone {
            some = true;
            drop(self.conversation.remove(channel.as_deref()));
            self.conversation.answer(answer::ended(channel.as_deref(), 410, "the channel was deleted"));
        }
        some
    }

    /// Is no subscriber any more, and hears of nothing.
    fn part(&mut self) {
        self.link.cut();
        self.conversation.clear();
    }
}

impl Endpoint for Multiplex {
    fn start(&mut self) -> Started {
        Started::Yes
    }

    fn accepts(&self) -> bool {
        self.conversation.accepts()
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        if data.kind == MessageKind::Binary {
            return Err(Ending { code: CloseCode::UNSUPPORTED, reason: "commands are text".to_owned() });
        }
        if data.first && data.last {
            return self.receive(data.payload);
        }
        if self.unfinished.try_reserve(data.payload.len()).is_err() {
            return Err(Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() });
        }
        self.unfinished.extend_from_slice(data.payload);
        if data.last {
            let message = std::mem::take(&mut self.unfinished);
            return self.receive(&message);
        }
        Ok(())
    }

    fn flush(&mut self) -> bool {
        let some = self.take_news();
        if some {
            self.go_on();
        }
        some
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut some = self.tell(outlet);
        // The answer to a command comes before the messages that it leads to.
        while self.conversation.is_told() && self.serve(outlet) {
            some = true;
            self.tell(outlet);
            if !outlet.has_room() {
                break;
            }
        }
        if self.is_expelled {
            return Produced::Ended(expelled());
        }
        if !outlet.has_room() {
            for entry in self.conversation.entries() {
                if let Some(joined) = entry.subscription.as_mut().filter(|joined| !joined.is_blocked) {
                    joined.is_blocked = true;
                    hub::with(|hub| hub.block(joined.id));
                }
            }
        }
        if some { Produced::Some } else { Produced::Nothing }
    }

    fn is_in_turn(&self) -> bool {
        true
    }

    fn client_gone(&mut self, _: Input) -> Option<LeftProgram> {
        // What the client has published is complete, whoever decides about what came before it.
        while let Some(command) = self.conversation.take_held() {
            if let Operation::Publish(said) = &command.operation {
                let about = About { reference: None, channel: command.channel.as_deref().map(Into::into) };
                // Nobody is there any more to be told how it went.
                let _ = self.publish(&about, said);
            }
        }
        self.part();
        None
    }

    fn progress(&self) -> u64 {
        // Hooks and engines take their time: a client that has hung up meanwhile is not stuck.
        if self.conversation.is_waiting() { self.done + now() } else { self.done }
    }
}

impl Drop for Multiplex {
    fn drop(&mut self) {
        self.part();
    }
}
