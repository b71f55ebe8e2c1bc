// SPDX-License-Identifier: Apache-2.0

//! What a request says about channels: which ones, and what its client has of them already.

use std::collections::HashSet;
use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

use crate::channel::fanout::{Allowance, OnGap, SubscribeOptions, SubscriberId};
use crate::channel::position::{Asked, Epoch, MAX_POSITIONS, Start};
use crate::channel::store::{Key, SubscribeError, Terms};
use crate::channel::transport::Transport;
use crate::channel::wire::template::{self, BadCallback, Piece, Template};
use crate::channel::wire::{Naming, Presentation, WireForm};
use crate::conf::{Channel, MessageTemplate, RequestPiece};
use crate::exec::framing::Format;
use crate::nginx::backend;
use crate::nginx::listeners::Listener;
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::{Request, try_again};
use crate::nginx::status::Status;
use crate::nginx::template::ComplexValue;

use super::hub;
use super::limits;

/// The channels that a request is about.
pub struct Ids<'r> {
    group: &'r [u8],
    /// What [`Key::space`] says of whoever has them.
    space: u64,
    /// Invariant: each id is there once, where it was named first: whatever is done, is done once to each channel.
    ids: SmallVec<[&'r [u8]; 1]>,
}

impl<'r> Ids<'r> {
    /// The channels of a location, with the values that its variables have for this request.
    ///
    /// # Errors
    ///
    /// The status to answer: 404 for an empty id, 403 for one that is too long or for too many of them.
    pub fn of(request: Request<'r>, channel: &Channel<ComplexValue>) -> Result<Self, Status> {
        Self::of_templates(request, &channel.ids)
    }

    /// The channels that a client of the location publishes to.
    ///
    /// # Errors
    ///
    /// As with [`of`](Self::of).
    pub fn to_publish(request: Request<'r>, channel: &Channel<ComplexValue>) -> Result<Self, Status> {
        Self::of_templates(request, channel.publish.as_ref().unwrap_or(&channel.ids))
    }

    fn of_templates(request: Request<'r>, templates: &[ComplexValue]) -> Result<Self, Status> {
        let settings = request.settings();
        let group = limits::group_name(request)?;
        let ids = evaluate(request, templates).ok_or(Status::INTERNAL_SERVER_ERROR)?;
        let refuse = |status, reason: std::fmt::Arguments<'_>| {
            request.report(Level::Info, format_args!("no channel: {reason}"));
            Err(status)
        };
        let most = settings.channel_max_id_length();
        if ids.len() > MAX_POSITIONS {
            return refuse(Status::FORBIDDEN, format_args!("the request names {} ids", ids.len()));
        }
        if ids.iter().any(|id| id.is_empty()) {
            return refuse(Status::NOT_FOUND, format_args!("an id is empty"));
        }
        if let Some(id) = ids.iter().find(|id| id.len() as u64 > most) {
            return refuse(
                Status::FORBIDDEN,
                format_args!("an id has {} octets (websocket_channel_max_id_length)", id.len()),
            );
        }
        let ids = Ids { group, space: backend::of(settings.engine).space(), ids };
        if !ids.have_keys() {
            return refuse(Status::FORBIDDEN, format_args!("the name of the group is too long"));
        }
        if let Some(context) = request.context() {
            match ids.ids[..] {
                [only] => context.set_channel_id(only),
                ref several => context.set_channel_id(&joined(several)),
            };
        }
        Ok(ids)
    }

    /// A channel that the client of a request has named. The request is told which one it is about.
    ///
    /// # Errors
    ///
    /// The status to answer: 404 for an empty id, 403 for one that is too long.
    pub fn named(request: Request<'r>, id: &'r [u8]) -> Result<Self, Status> {
        let settings = request.settings();
        if id.is_empty() {
            return Err(Status::NOT_FOUND);
        }
        if id.len() as u64 > settings.channel_max_id_length() {
            return Err(Status::FORBIDDEN);
        }
        let ids = Ids {
            group: limits::group_name(request)?,
            space: backend::of(settings.engine).space(),
            ids: smallvec![id],
        };
        if ids.have_keys() { Ok(ids) } else { Err(Status::FORBIDDEN) }
    }

    /// Whether the store can find all of them, for which the name of the group must not be too long.
    fn have_keys(&self) -> bool {
        self.ids.iter().all(|id| Key::in_space(self.space, self.group, id).is_some())
    }

    /// What the store finds them by.
    pub fn keys(&self) -> SmallVec<[Key<'r>; 1]> {
        self.ids.iter().filter_map(|id| Key::in_space(self.space, self.group, id)).collect()
    }
}

/// The channels that these values name, each once.
fn evaluate<'r>(request: Request<'r>, templates: &[ComplexValue]) -> Option<SmallVec<[&'r [u8]; 1]>> {
    let split = request.settings().channel_split();
    let mut ids: SmallVec<[&[u8]; 1]> = SmallVec::with_capacity(templates.len());
    // Most requests are about one channel and need no set of them.
    let mut known = HashSet::new();
    let mut add = |id| {
        if let [only] = ids[..] {
            known.insert(only);
        }
        if ids.is_empty() || known.insert(id) {
            ids.push(id);
        }
    };
    for template in templates {
        let mut rest = template.evaluate(request)?;
        if let Some(delimiter) = &split {
            while let Some(at) = memchr::memmem::find(rest, delimiter) {
                add(&rest[..at]);
                rest = &rest[at + delimiter.len()..];
            }
        }
        add(rest);
    }
    Some(ids)
}

/// Several ids as a variable tells them.
fn joined(ids: &[&[u8]]) -> Vec<u8> {
    ids.join(&b","[..])
}

/// The channels of a request as a variable tells them. It may not have come to its location yet, but be looked at by an access module.
pub fn foreseen(request: Request<'_>) -> Option<Vec<u8>> {
    let channel = request.settings().channel()?;
    let publishes = channel.mode.publishes() && matches!(request.method(), b"POST" | b"PUT");
    let templates = channel.publish.as_ref().filter(|_| publishes).unwrap_or(&channel.ids);
    let ids = evaluate(request, templates)?;
    (ids.len() <= MAX_POSITIONS && ids.iter().all(|id| !id.is_empty())).then(|| joined(&ids))
}

/// What a request subscribes to.
pub struct Subscription<'r> {
    keys: SmallVec<[Key<'r>; 1]>,
    asked: Asked,
    start: Start,
    allowance: Option<Allowance>,
    /// There is no run that it could begin with.
    lacks_run: bool,
}

impl<'r> Subscription<'r> {
    /// What this request subscribes to.
    pub fn of(request: Request<'_>, ids: &Ids<'r>) -> Self {
        let subscription = Self::after(request, ids, asked(request));
        if request.settings().has_requested_runs() { subscription.of_run() } else { subscription }
    }

    /// For a client that finds a run of the program: who names no position begins with the run.
    fn of_run(self) -> Self {
        // Of several channels none has a run: that is refused by whoever is to share the program.
        let [key] = self.keys[..] else { return self };
        let beginning = hub::with(|hub| hub.beginning_of_run(key)).flatten();
        let asked = match (self.asked, beginning) {
            (Asked::Nothing | Asked::Unknown, Some(beginning)) => Asked::After(smallvec![beginning]),
            (asked, _) => asked,
        };
        Subscription { asked, start: Start::Oldest, lacks_run: beginning.is_none(), ..self }
    }

    /// For a client that begins a run: it gets what comes.
    pub fn of_new_run(request: Request<'_>, ids: &Ids<'r>) -> Self {
        Subscription { start: Start::Newest, ..Self::after(request, ids, Asked::Nothing) }
    }

    /// For a client that names its position itself; that of its request counts if it names none.
    pub fn after(request: Request<'_>, ids: &Ids<'r>, asked: Asked) -> Self {
        let settings = request.settings();
        Subscription {
            keys: ids.keys(),
            asked,
            start: settings.channel_start(),
            allowance: allowance(request),
            lacks_run: false,
        }
    }

    /// For a client that gets one message for each request: how often it asks is not what the rate is about.
    pub fn one_by_one(self) -> Self {
        Subscription { allowance: None, ..self }
    }

    /// For a client that has other subscriptions: its rate is that of all of them together.
    pub fn paced_by(self, allowance: Option<Allowance>) -> Self {
        Subscription { allowance, ..self }
    }

    /// What a request subscribes to that gets no more than is there: where others begin with what comes, it begins with the newest
    /// message.
    pub fn of_what_is_there(request: Request<'_>, ids: &Ids<'r>) -> Self {
        let subscription = Self::of(request, ids);
        let start = match subscription.start {
            Start::Newest => Start::Last(1),
            start => start,
        };
        Subscription { start, ..subscription }
    }

    /// Adds the subscriber.
    ///
    /// # Errors
    ///
    /// The status to answer: 403 where nobody has published and `websocket_channel_create` is off, where the group has as much
    /// as it may have, and where who the subscriber is takes too many octets; 503 where the channel has as many subscribers
    /// as it may have, 507 where the zone is full.
    pub fn begin(
        &self,
        request: Request<'_>,
        form: WireForm,
        on_gap: OnGap,
        transport: Transport,
        listener: Listener,
    ) -> Result<SubscriberId, Status> {
        let settings = request.settings();
        if self.lacks_run {
            let reason = "no POST has begun a run of the program, or it is not kept any more";
            request.report(Level::Info, format_args!("cannot subscribe to channel \"{}\": {reason}", self.name()));
            return Err(Status::NOT_FOUND);
        }
        let terms = Terms {
            // What a run says is published by the run.
            create: settings.channel_create() || settings.has_requested_runs(),
            max_subscribers: u32::try_from(settings.channel_max_subscribers()).unwrap_or(u32::MAX),
            group: backend::of(settings.engine).limits_in_zone(limits::of_group(request)?),
            presence: match &settings.channel_presence {
                Some(Some(template)) => template.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?,
                Some(None) | None => b"",
            },
            transport,
        };
        let subscribed = hub::with(|hub| {
            let form = hub.form(form);
            let options = SubscribeOptions {
                keys: &self.keys,
                asked: &self.asked,
                start: self.start,
                terms,
                form: &form,
                on_gap,
                allowance: self.allowance.as_ref(),
            };
            hub.subscribe(&options, listener)
        });
        let error = match subscribed {
            Some(Ok(id)) => return Ok(id),
            Some(Err(error)) => error,
            // The worker is leaving.
            None => return Err(try_again(request)),
        };
        let (level, status) = match error {
            SubscribeError::Missing => (Level::Info, Status::FORBIDDEN),
            SubscribeError::Full => (Level::Info, try_again(request)),
            SubscribeError::NoRoom => (Level::Error, Status::INSUFFICIENT_STORAGE),
            SubscribeError::Corrupt => (Level::Crit, Status::INTERNAL_SERVER_ERROR),
            SubscribeError::Channels | SubscribeError::Group | SubscribeError::Presence => {
                (Level::Info, Status::FORBIDDEN)
            }
        };
        request.report(level, format_args!("cannot subscribe to channel \"{}\": {error}", self.name()));
        Err(status)
    }

    fn name(&self) -> Octets<'r> {
        Octets(self.keys.first().map(|key| key.id()).unwrap_or_default())
    }
}

/// How many messages the client of a request gets in a time. Octets of a program are of no use if some of them are left out.
pub fn allowance(request: Request<'_>) -> Option<Allowance> {
    request.settings().channel_rate().filter(|_| !is_octets(request)).map(Allowance::new)
}

/// Whether what the clients of a request's location get are octets of a program that they share: messages have no meaning there.
fn is_octets(request: Request<'_>) -> bool {
    let settings = request.settings();
    settings.shared_program().is_some() && (settings.exec_format() == Format::Bytes || settings.exec_pty())
}

/// A form of what the location makes of its messages. `are_events` where an event has a name.
///
/// # Errors
///
/// The status to answer: 400 where the client names a function that has no name of one.
pub fn presented(request: Request<'_>, form: WireForm, are_events: bool) -> Result<WireForm, Status> {
    let settings = request.settings();
    let template = match settings.channel_message_template.as_ref().and_then(Option::as_ref) {
        Some(template) if !is_octets(request) => Some(template_of(request, template)?),
        Some(_) | None => None,
    };
    // The channel is the name of the event where that is said.
    let is_named = settings.channel_tell_id() == Some(Naming::Event);
    let event = (are_events && !is_named).then(|| settings.channel_eventsource_event());
    if template.is_none() && event.as_ref().is_none_or(|event| event.is_empty()) {
        return Ok(form);
    }
    Ok(WireForm::Presented(Presentation { template, event: event.unwrap_or_default() }, Box::new(form)))
}

/// A template with the values that its variables have for a request.
fn template_of(request: Request<'_>, template: &MessageTemplate<ComplexValue>) -> Result<Rc<Template>, Status> {
    let (form, parts) = match template {
        MessageTemplate::Fixed(template) => return Ok(Rc::clone(template)),
        MessageTemplate::OfRequest { form, pieces } => (*form, pieces),
    };
    let mut pieces = Vec::with_capacity(parts.len());
    for part in &**parts {
        pieces.push(match part {
            RequestPiece::Fixed(piece) => piece.clone(),
            RequestPiece::Variable(variable, place) => {
                let value = variable.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
                match template::escape(value, *place, form) {
                    Ok(text) => Piece::Literal(text.into()),
                    Err(BadCallback) => {
                        let name = Octets(value);
                        request.report(Level::Info, format_args!("\"{name}\" is no name of a function"));
                        return Err(Status::BAD_REQUEST);
                    }
                }
            }
        });
    }
    Ok(Rc::new(Template::new(form, pieces, true)))
}

/// The epochs that the position of a request names.
pub fn epochs(request: Request<'_>) -> Vec<Epoch> {
    let ids = match asked(request) {
        Asked::Nothing | Asked::Unknown => Vec::new(),
        Asked::After(ids) => ids.into_vec(),
        Asked::Cut(cut) => cut.named,
    };
    ids.into_iter().map(|id| id.epoch).collect()
}

/// Whether a subrequest names a position.
pub fn names_position(request: Request<'_>) -> bool {
    asked(request) != Asked::Nothing
}

/// The position that a request names. Headers come first: a client that comes back repeats the address that it began with.
/// The headers of a subrequest are its parent's, and name what the client has of another response.
fn asked(request: Request<'_>) -> Asked {
    if !request.is_attended() {
        return Asked::id(&decoded(request.variable(b"arg_last_event_id")));
    }
    let mut asked = Asked::Nothing;
    for (name, value) in request.headers() {
        if name.eq_ignore_ascii_case(b"last-event-id") {
            match Asked::id(value) {
                Asked::Nothing => {}
                told => return told,
            }
        }
        if name.eq_ignore_ascii_case(b"if-none-match") {
            asked = Asked::etag(value);
        }
        // NchanSubscriber.js says by this one where a long-poll goes on that it begins anew.
        if name.eq_ignore_ascii_case(b"etag") && asked == Asked::Nothing {
            asked = Asked::id(value);
        }
    }
    match asked {
        Asked::Nothing => Asked::id(&decoded(request.variable(b"arg_last_event_id"))),
        told => told,
    }
}

/// The octets behind percent signs (RFC 3986, section 2.1).
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let hexadecimal = |octet: u8| char::from(octet).to_digit(16);
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        octets.push(*first);
        if *first == b'%'
            && let [high, low, tail @ ..] = tail
            && let Some((high, low)) = hexadecimal(*high).zip(hexadecimal(*low))
        {
            octets.pop();
            octets.push((high << 4 | low) as u8);
            rest = tail;
        }
    }
    octets
}
