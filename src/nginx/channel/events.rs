// SPDX-License-Identifier: Apache-2.0

//! The channel that is told of what happens to the others: `websocket_channel_events`.

use super::hub;
use super::publish::policy;
use crate::channel::event::{CONTENT_TYPE, Event, Happening};
use crate::channel::message::Publication;
use crate::channel::store::{Key, Policy, PublishError};
use crate::nginx::engine;
use crate::nginx::ffi;
use crate::nginx::log::{self, Level, Octets};
use crate::nginx::request::Request;
use crate::ws::frame::Kind;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// Where the events of a request go.
pub struct Events {
    engine: usize,
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
    pub fn of(request: Request) -> Result<Option<Self>, isize> {
        let settings = request.settings();
        let Some(id) = settings.channel_events() else { return Ok(None) };
        let id = id.evaluate(request).ok_or(FAILED)?;
        let group = match settings.channel_group() {
            Some(group) => group.evaluate(request).ok_or(FAILED)?,
            None => b"",
        };
        if id.is_empty() {
            return Ok(None);
        }
        let engine = settings.engine;
        Ok(Some(Events { engine, group: group.into(), id: id.into(), policy: policy(request)?, who: who(request)? }))
    }

    /// Tells of what has happened to a channel of the group. That a channel of events itself is used is no event, or there
    /// would be no end of them.
    pub fn tell(&self, happening: Happening, channel: &[u8]) {
        if *channel == *self.id {
            return;
        }
        let Some(key) = Key::in_space(engine::space(self.engine), &self.group, &self.id) else { return };
        let event = Event { happening, channel, who: self.who.as_deref(), unix: hub::time().unix }.render();
        let publication =
            Publication { kind: Kind::Text, content_type: CONTENT_TYPE, event: b"", data: &[event.as_bytes()] };
        if self.engine != 0 {
            let id = self.id.clone();
            return engine::publish(self.engine, key, &publication, self.policy.history, move |published| {
                if let Err(failed) = published {
                    report(&id, failed.into());
                }
            });
        }
        if let Some(Err(error)) = hub::with(|hub| hub.publish(key, &publication, self.policy)) {
            report(&self.id, error);
        }
    }
}

fn report(id: &[u8], error: PublishError) {
    let id = Octets(id);
    let level = match error {
        PublishError::Group | PublishError::Unavailable => Level::Info,
        PublishError::TooLarge | PublishError::Unknown => Level::Error,
        PublishError::Corrupt => Level::Crit,
    };
    log::cycle(level, format_args!("ws_exec: cannot tell channel \"{id}\" of an event: {error}"));
}

/// Who the client is, for those who watch. `None` where that is not known.
fn who(request: Request) -> Result<Option<Box<[u8]>>, isize> {
    let Some(Some(presence)) = &request.settings().channel_presence else { return Ok(None) };
    let who = presence.evaluate(request).ok_or(FAILED)?;
    Ok((!who.is_empty()).then(|| who.into()))
}
