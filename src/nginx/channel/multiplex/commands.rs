// SPDX-License-Identifier: Apache-2.0

//! Carrying out the commands of the client.

use std::rc::Rc;

use super::outcome::{FAILED, FORBIDDEN, Refusal, dropped, plain, present, published, told_by_hook};
use super::{Joined, Multiplex, News};
use crate::channel::backend::Answer;
use crate::channel::fanout::OnGap;
use crate::channel::hook::Moderator;
use crate::channel::message::{OCTET_STREAM, Publication, kind_of};
use crate::channel::position::Asked;
use crate::channel::transport::Transport;
use crate::channel::v1::answer::{self, About};
use crate::channel::v1::{Begin, Command, Operation, Said};
use crate::channel::wire::websocket::{Deflate, Framing, Style};
use crate::channel::wire::{Naming, WireForm};
use crate::nginx::channel::access::{self, Access};
use crate::nginx::channel::approval::{self, Decision, Draft};
use crate::nginx::channel::member::{self, ChannelMember, JoinDecision, Place};
use crate::nginx::channel::subscription::{Ids, Subscription};
use crate::nginx::channel::{hub, presence_of};
use crate::nginx::request::Request;
use crate::nginx::session;
use crate::nginx::status::Status;
use crate::ws::frame::MessageKind;

/// The name of the event that tells an EventSource of lost messages: nobody else may say so.
const GAP: &str = "gap";

impl Multiplex {
    pub(super) fn execute(&mut self, command: Command<'_>, begin: Begin) {
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
    pub(super) fn join(&mut self, about: &About, asked: &Asked, by_hook: bool) -> Result<(), Refusal> {
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
    pub(super) fn decided(&mut self, about: &About, asked: &Asked, mut decision: JoinDecision) {
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

    pub(super) fn publish(&mut self, about: &About, said: &Said<'_>) -> Result<(), Refusal> {
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
}
