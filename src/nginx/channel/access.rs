// SPDX-License-Identifier: Apache-2.0

//! What a client may do with the channels that it names: `websocket_channel_names`.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::member::Place;
use super::publish::Publisher;
use super::subscription::Ids;
use crate::conf::{ChannelMode, NameMode, NamePattern, name_mode};
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::Request;
use crate::nginx::scope;
use crate::nginx::status::Status;

/// Channels that are remembered, so that a client that goes on publishing to a few of them is decided about once.
const MOST_KNOWN: usize = 64;

/// What a client may do with a channel, and what directives say about what it publishes there.
pub struct Access {
    mode: Option<ChannelMode>,
    publisher: OnceCell<Rc<Publisher>>,
}

impl Access {
    /// Whether the client may subscribe.
    pub fn subscribes(&self) -> bool {
        self.mode.is_some_and(ChannelMode::subscribes)
    }

    /// Whether the client may publish.
    pub fn publishes(&self) -> bool {
        self.mode.is_some_and(ChannelMode::publishes)
    }

    /// Whether it is told who is there: as by HTTP, not those who may do nothing but subscribe.
    pub fn tells_presence(&self) -> bool {
        match self.mode {
            Some(ChannelMode::Pub | ChannelMode::PubSub | ChannelMode::Info) => true,
            Some(ChannelMode::Sub) | None => false,
        }
    }

    /// Who publishes there for the client.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn publisher(&self, request: Request<'_>, place: &Place) -> Result<Rc<Publisher>, Status> {
        if let Some(publisher) = self.publisher.get() {
            return Ok(Rc::clone(publisher));
        }
        let publisher = Rc::new(with_ids_to_publish(request, place, Publisher::new)?);
        Ok(Rc::clone(self.publisher.get_or_init(|| publisher)))
    }
}

/// The channels that a client has named lately.
#[derive(Default)]
pub struct Known(VecDeque<(Place, Rc<Access>)>);

impl Known {
    /// What the client of this request may do with a channel.
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub fn of(&mut self, request: Request<'_>, place: &Place) -> Result<Rc<Access>, Status> {
        if let Some((_, access)) = self.0.iter().find(|(known, _)| known == place) {
            return Ok(Rc::clone(access));
        }
        let access = Rc::new(Access { mode: mode(request, place)?, publisher: OnceCell::new() });
        if self.0.len() == MOST_KNOWN {
            self.0.pop_front();
        }
        self.0.push_back((place.clone(), Rc::clone(&access)));
        Ok(access)
    }
}

fn mode(request: Request<'_>, place: &Place) -> Result<Option<ChannelMode>, Status> {
    let settings = request.settings();
    let Some(name) = place else { return Ok(settings.channel().map(|channel| channel.mode)) };
    let rules = settings.channel_names();
    if rules.is_empty() || name.len() as u64 > settings.channel_max_id_length() {
        return Ok(None);
    }
    scope::with(request, Some(name.as_bytes()), |copy| {
        for rule in rules.iter() {
            let applies = match &rule.name {
                NamePattern::Regex(regex) => regex.matches(name.as_bytes()),
                NamePattern::Name(template) => {
                    template.evaluate(copy).ok_or(Status::INTERNAL_SERVER_ERROR)? == name.as_bytes()
                }
            };
            if !applies {
                continue;
            }
            // The first one decides.
            return match &rule.mode {
                NameMode::Fixed(mode) => Ok(*mode),
                NameMode::Template(template) => {
                    let text = template.evaluate(copy).ok_or(Status::INTERNAL_SERVER_ERROR)?;
                    let mode = name_mode(text);
                    if mode.is_err() {
                        let text = Octets(text);
                        copy.report(
                            Level::Error,
                            format_args!("\"websocket_channel_names\" cannot be \"mode={text}\""),
                        );
                    }
                    Ok(mode.unwrap_or(None))
                }
            };
        }
        Ok(None)
    })?
}

/// Gives `step` a copy of a request that is about this channel, and the ids that it comes to.
///
/// # Errors
///
/// The status to answer.
pub fn with_ids<R>(
    request: Request<'_>,
    place: &Place,
    step: impl FnOnce(Request<'_>, &Ids<'_>) -> Result<R, Status>,
) -> Result<R, Status> {
    let name = place.as_deref().map(str::as_bytes);
    scope::with(request, name, |copy| match name {
        Some(name) => step(copy, &Ids::named(copy, name)?),
        None => {
            let ids = Ids::of(copy, copy.settings().channel().ok_or(Status::INTERNAL_SERVER_ERROR)?)?;
            tell_log(request, copy);
            step(copy, &ids)
        }
    })?
}

/// Takes a step with the ids that a client publishes to, in a copy of its request, as [`with_ids`] does with those of the location.
///
/// # Errors
///
/// The status to answer.
pub fn with_ids_to_publish<R>(
    request: Request<'_>,
    place: &Place,
    step: impl FnOnce(Request<'_>, &Ids<'_>) -> Result<R, Status>,
) -> Result<R, Status> {
    match place {
        Some(_) => with_ids(request, place, step),
        None => scope::with(request, None, |copy| {
            let ids = Ids::to_publish(copy, copy.settings().channel().ok_or(Status::INTERNAL_SERVER_ERROR)?)?;
            step(copy, &ids)
        })?,
    }
}

/// Lets the request know the ids of its location, which its copy has found out, for its line in the access log.
fn tell_log(request: Request<'_>, copy: Request<'_>) {
    if let (Some(context), Some(known)) = (request.context(), copy.existing_context())
        && context.channel_id().is_none()
        && let Some(ids) = known.channel_id()
    {
        context.set_channel_id(ids);
    }
}
