// SPDX-License-Identifier: Apache-2.0

//! The channel that is told of what happens to the others: `websocket_channel_events`.

use std::rc::Rc;

use super::hub;
use super::publish::{log_level, policy};
use crate::channel::backend::{Answer, Backend, Failure};
use crate::channel::event::{CONTENT_TYPE, Event, Happening};
use crate::channel::message::Publication;
use crate::channel::store::{Key, Policy, PublishError};
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
}

impl Events {
    /// With the values that the variables have for this request. `None` where nobody is told.
    ///
    /// # Errors
    ///
    /// The status to answer: 500 when there is no memory, or the history cannot be read.
    pub fn of(request: Request<'_>) -> Result<Option<Self>, Status> {
        let settings = request.settings();
        let Some(id) = settings.channel_events() else { return Ok(None) };
        let id = id.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
        let group = match settings.channel_group() {
            Some(group) => group.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?,
            None => b"",
        };
        if id.is_empty() {
            return Ok(None);
        }
        let backend = backend::of(settings.engine);
        Ok(Some(Events { backend, group: group.into(), id: id.into(), policy: policy(request)?, who: who(request)? }))
    }

    /// Tells of what has happened to a channel of the group. That a channel of events itself is used is no event, or there
    /// would be no end of them.
    pub fn tell(&self, happening: Happening, channel: &[u8]) {
        if *channel == *self.id {
            return;
        }
        let Some(key) = Key::in_space(self.backend.space(), &self.group, &self.id) else { return };
        let event = Event { happening, channel, who: self.who.as_deref(), unix: hub::time().unix }.render();
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
