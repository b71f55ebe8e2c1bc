// SPDX-License-Identifier: Apache-2.0

//! The channel that is told of what happens to the others: `websocket_channel_events`.

use std::rc::Rc;

use super::departures;
use super::hub;
use super::publish::{log_level, policy};
use crate::channel::backend::{Answer, Backend, Failure};
use crate::channel::event::{CONTENT_TYPE, Event, Happening, Kinds};
use crate::channel::message::Publication;
use crate::channel::store::{Key, Member, Policy, PublishError};
use crate::nginx::backend;
use crate::nginx::log::{self, Octets};
use crate::nginx::request::Request;
use crate::nginx::status::Status;
use crate::ws::frame::MessageKind;

/// Where the events of a request go.
pub struct Events {
    backend: Rc<dyn Backend>,
    group: Box<[u8]>,
    id: Box<[u8]>,
    policy: Policy,
    who: Option<Box<[u8]>>,
    /// Of what is told.
    kinds: Kinds,
    /// How long a subscriber that has gone may come back without being told of, in milliseconds.
    grace: u64,
}

impl Events {
    /// With the values that the variables have for this request. `None` where nobody is told.
    ///
    /// # Errors
    ///
    /// The status to answer: 500 when there is no memory, or the history cannot be read.
    pub fn of(request: Request<'_>) -> Result<Option<Self>, Status> {
        let settings = request.settings();
        let Some(events) = settings.channel_events() else { return Ok(None) };
        let id = events.id.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
        let group = match settings.channel_group() {
            Some(group) => group.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?,
            None => b"",
        };
        if id.is_empty() {
            return Ok(None);
        }
        let backend = backend::of(settings.engine);
        Ok(Some(Events {
            backend,
            group: group.into(),
            id: id.into(),
            policy: policy(request)?,
            who: who(request)?,
            kinds: events.kinds,
            grace: events.grace,
        }))
    }

    /// Tells of what has happened to a channel of the group. That a channel of events itself is used is no event, or there
    /// would be no end of them. Of somebody who has gone and may come back is told later, and of one who has come back never.
    pub fn tell(self: &Rc<Self>, happening: Happening, channel: &[u8]) {
        if *channel == *self.id {
            return;
        }
        match happening {
            Happening::Join if self.has_come_back(channel) => return,
            Happening::Leave if self.may_come_back(channel) => return,
            Happening::Join | Happening::Leave | Happening::Publish(_) | Happening::Delete => {}
        }
        self.publish(happening, channel, hub::time().unix);
    }

    /// Tells that a subscriber has gone, at this time, and has not come back.
    pub fn tell_left(&self, channel: &[u8], unix: u64) {
        self.publish(Happening::Leave, channel, unix);
    }

    /// Who comes or goes, for those who are told of it. `None` where nobody is told, or it has no name: there is no knowing who comes back.
    fn member<'k>(&'k self, channel: &'k [u8]) -> Option<Member<'k>> {
        let who = self.who.as_deref().filter(|_| self.kinds.has_any(Kinds::comings()))?;
        let channel = Key::in_space(self.backend.space(), &self.group, channel)?;
        Some(Member { channel, events: &self.id, who })
    }

    /// Whether a subscriber that comes has gone not long ago. It may have left another location, so this one need not have a grace time.
    fn has_come_back(&self, channel: &[u8]) -> bool {
        let Some(member) = self.member(channel) else { return false };
        hub::with(|hub| hub.store.presence().come_back(member)) == Some(Ok(true))
    }

    /// Whether a subscriber that goes is waited for.
    fn may_come_back(self: &Rc<Self>, channel: &[u8]) -> bool {
        let Some(member) = self.member(channel).filter(|_| self.grace > 0) else { return false };
        let left = hub::with(|hub| hub.store.presence().leave(member, hub.slot));
        let Some(Ok(Some(left))) = left else { return false };
        departures::wait(Rc::clone(self), channel, left, self.grace);
        true
    }

    fn publish(&self, happening: Happening, channel: &[u8], unix: u64) {
        if !self.kinds.has(happening) {
            return;
        }
        let Some(key) = Key::in_space(self.backend.space(), &self.group, &self.id) else { return };
        let event = Event { happening, channel, who: self.who.as_deref(), unix }.render();
        let publication =
            Publication { kind: MessageKind::Text, content_type: CONTENT_TYPE, event: b"", data: &[event.as_bytes()] };
        match self.backend.publish(key, &publication, self.policy) {
            Answer::Now(Ok(_)) => {}
            Answer::Now(Err(failure)) => report(&self.id, failure),
            Answer::Later(pending) => {
                let id = self.id.clone();
                pending.then(move |published| {
                    if let Err(failure) = published {
                        report(&id, failure);
                    }
                });
            }
        }
    }
}

/// Lets those who watch be told of what an answer says has happened to a channel, once it is there.
pub fn told_of<T: 'static, E: 'static>(
    events: Option<&Rc<Events>>,
    channel: &[u8],
    answer: Answer<T, E>,
    happening: fn(&T) -> Option<Happening>,
) -> Answer<T, E> {
    let Some(events) = events else { return answer };
    let (events, channel): (_, Box<[u8]>) = (Rc::clone(events), channel.into());
    answer.map(move |outcome| {
        if let Ok(value) = &outcome
            && let Some(happening) = happening(value)
        {
            events.tell(happening, &channel);
        }
        outcome
    })
}

fn report(id: &[u8], failure: Failure<PublishError>) {
    let id = Octets(id);
    let level = log_level(&failure);
    log::cycle(level, format_args!("ws_exec: cannot tell channel \"{id}\" of an event: {failure}"));
}

/// Who the client is, for those who watch. `None` where that is not known.
fn who(request: Request<'_>) -> Result<Option<Box<[u8]>>, Status> {
    let Some(Some(presence)) = &request.settings().channel_presence else { return Ok(None) };
    let who = presence.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
    Ok((!who.is_empty()).then(|| who.into()))
}
