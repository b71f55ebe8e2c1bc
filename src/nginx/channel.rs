// SPDX-License-Identifier: Apache-2.0

//! Channels as the endpoint of a location: publishing and subscribing by HTTP and by WebSocket.

mod access;
mod answer;
mod approval;
mod dead;
pub mod departures;
mod events;
mod failure;
pub mod group;
pub mod hub;
mod limits;
mod link;
pub mod listing;
pub mod member;
mod multiplex;
mod programs;
mod publish;
mod run;
mod subscribers;
mod subscription;
mod transports;
pub mod waiting;
mod wakeups;
mod websocket;
pub mod zone;

use std::rc::Rc;

use super::backend;
use super::caller::{self, Caller};
use super::console;
use super::log::Level;
use super::origin::{self, Trust};
use super::request::Request;
use super::session::SessionRef;
use super::session::context::Context;
use super::status::Status;
use super::template::ComplexValue;
use crate::channel::backend::{Answer, Outcome, gather};
use crate::channel::event::Happening;
use crate::channel::memory::Corrupt;
use crate::channel::store::{Info, Presence, ReadError};
use crate::channel::v1;
use crate::conf::{self, ChannelMode};
use events::{Events, told_of};
use member::{ChannelMember, JoinDecision};
use multiplex::Multiplex;
use waiting::Delivery;

use crate::channel::transport::{self, Transport};
use crate::channel::wire::websocket::META;
use crate::session::endpoint::Endpoint;
use crate::session::endpoint::HttpStatus;
pub use publish::Publisher;
use subscribers::asks_for_subscribers;
pub use subscription::{Ids, foreseen as ids_of};
pub use transports::of as transport_of;
use transports::{choose, note, takes_websockets, values, wants_upgrade};
pub use websocket::Channel as WebSocket;

/// What becomes of a request to a location with channels.
pub enum RequestOutcome {
    /// The request is to become a WebSocket, or to be told that it must.
    WebSocket,
    /// The request has been answered, or will be; what the content handler returns.
    Answered(Status),
}

/// Answers a request that is no WebSocket.
///
/// # Errors
///
/// The status to answer.
pub fn serve(request: Request<'_>, channel: &conf::Channel<ComplexValue>) -> Result<RequestOutcome, Status> {
    let mode = channel.mode;
    request.restore_method();
    // The headers of a subrequest are those of the client's request: what they ask for is not asked of this location.
    let attended = request.is_attended();
    if attended && wants_upgrade(request) {
        return if takes_websockets(request, mode) {
            note(request, Transport::WebSocket);
            Ok(RequestOutcome::WebSocket)
        } else {
            Err(Status::NOT_ACCEPTABLE)
        };
    }
    check_origin(request, mode.subscribes())?;
    let is = |method: &[u8]| request.method() == method;
    let has_runs = request.settings().has_requested_runs();
    let methods = answer::methods(mode, mode.deletes(request.settings().channel_delete()), has_runs);
    let status = if is(b"OPTIONS") {
        answer::options(request, methods)
    } else if has_runs && is(b"POST") {
        run::receive(request)?
    } else if mode.publishes() && (is(b"POST") || is(b"PUT")) {
        publish::receive(request)
    } else if is(b"DELETE") && mode.deletes(request.settings().channel_delete()) {
        delete(request, channel)?
    } else if !is(b"GET") && !is(b"HEAD") {
        answer::refuse_method(request, methods)
    } else {
        request.drop_body()?;
        if attended && shows_console(request, mode) {
            console::send(request)
        } else if mode.subscribes() {
            let delivery = if attended { choose(request).ok_or(Status::NOT_ACCEPTABLE)? } else { poll(request)? };
            let Some(delivery) = delivery else { return Ok(RequestOutcome::WebSocket) };
            if is(b"HEAD") && backend::of(request.settings().engine).needs_opening() {
                look(request, channel, delivery)?
            } else {
                wait(request, channel, delivery)?
            }
        } else {
            info(request, channel)?
        }
    };
    Ok(RequestOutcome::Answered(status))
}

/// Whether a browser is to get the page to try the location by hand: it asks for a page and not for one of the transports, and
/// the page, which opens a WebSocket, can work.
fn shows_console(request: Request<'_>, mode: ChannelMode) -> bool {
    request.settings().console()
        && takes_websockets(request, mode)
        && transport::asks_for_page(&values(request, b"accept"))
        && (mode.subscribes() || !asks_who_is_there(request.arguments()))
}

/// Begins to connect a session to its channels.
///
/// # Errors
///
/// The status to answer.
pub fn start(
    request: Request<'_>,
    session: SessionRef,
    channel: &conf::Channel<ComplexValue>,
) -> Result<Box<dyn Endpoint>, Status> {
    if request.existing_context().and_then(Context::protocol) == Some(v1::NAME) {
        return Ok(Box::new(Multiplex::new(request, session)));
    }
    let publisher = if channel.mode.publishes() {
        Some(Publisher::new(request, &Ids::to_publish(request, channel)?)?)
    } else {
        None
    };
    // Hooks that are asked about messages are told of these, everybody else of the others.
    if let Some(context) = request.existing_context().filter(|_| publisher.is_some()) {
        context.note_publishes_to();
    }
    let ids = Ids::of(request, channel)?;
    let answers = (channel.mode == ChannelMode::Pub).then(|| answer::info_form(request));
    let mut endpoint = WebSocket::new(request, session, publisher, answers);
    if channel.mode.subscribes() {
        endpoint.join(&ids)?;
    }
    Ok(Box::new(endpoint))
}

/// Lets a request wait for messages, once somebody was asked about it if that is to be so; returns what the content handler
/// returns.
fn wait(request: Request<'_>, channel: &conf::Channel<ComplexValue>, delivery: Delivery) -> Result<Status, Status> {
    if member::must_ask(request) {
        ask(request, channel, delivery)
    } else {
        subscribe(request, channel, delivery, ChannelMember::of(request)?)
    }
}

/// Lets a request wait for messages; returns what the content handler returns.
fn subscribe(
    request: Request<'_>,
    channel: &conf::Channel<ComplexValue>,
    delivery: Delivery,
    member: Option<ChannelMember>,
) -> Result<Status, Status> {
    let ids = Ids::of(request, channel)?;
    waiting::start(request, delivery, &ids, member)
}

/// Answers a HEAD where who has the channels makes those that are subscribed to: only if they are there it goes on as a GET would.
/// Returns what the content handler returns.
fn look(request: Request<'_>, channel: &conf::Channel<ComplexValue>, delivery: Delivery) -> Result<Status, Status> {
    let ids = Ids::of(request, channel)?;
    let backend = backend::of(request.settings().engine);
    let infos = ids.keys().into_iter().map(|key| backend.info(key));
    // Several channels are there only if each of them is.
    let all = gather(infos, |first, other| first.zip(other).map(|(first, other)| first.and(other)));
    Ok(caller::wait_for(request, all, move |request, outcome| {
        let Some(channel) = request.settings().channel() else { return Status::INTERNAL_SERVER_ERROR };
        let looked = match outcome {
            Ok(None | Some(None)) if request.settings().channel_create() => {
                waiting::head_of_nothing(request, &delivery)
            }
            Ok(None | Some(None)) => {
                request.report(Level::Info, format_args!("nobody has published to the channel"));
                Err(Status::FORBIDDEN)
            }
            // Nobody knows: the copy of this machine is what there is.
            Ok(Some(Some(_))) | Err(_) => wait(request, channel, delivery),
        };
        looked.unwrap_or_else(|status| status)
    }))
}

/// Asks whether a request may wait for messages; returns what the content handler returns.
fn ask(request: Request<'_>, channel: &conf::Channel<ComplexValue>, delivery: Delivery) -> Result<Status, Status> {
    // The variables of the hook's location tell of it.
    let ids = Ids::of(request, channel)?;
    let caller = Caller::of(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
    let (waiting, awaited) = (caller.clone(), delivery.clone());
    let decided = member::ask(request, &ids, move |decision, copy| {
        if !caller.is_there() {
            return decision.discard(copy);
        }
        caller.resume(|request| admit(request, decision, awaited).unwrap_or_else(|status| status));
    })?;
    match decided {
        Some(decision) => admit(request, decision, delivery),
        None => Ok(waiting.wait()),
    }
}

/// Lets a request wait for messages if that was decided; returns what the content handler returns.
fn admit(request: Request<'_>, decision: JoinDecision, delivery: Delivery) -> Result<Status, Status> {
    let Some(channel) = request.settings().channel() else {
        return Err(Status::INTERNAL_SERVER_ERROR);
    };
    let member = decision.apply(request)?;
    subscribe(request, channel, delivery, member)
}

/// The first subprotocol that the client offers and the location or the channel itself speaks. Clients that share a program have no
/// other channel than that.
pub fn select_protocol<'p>(offered: &[&'p str], spoken: &[String], shares_program: bool) -> Option<&'p str> {
    let own: &[&str] = if shares_program { &[META] } else { &[META, v1::NAME] };
    offered.iter().copied().find(|name| own.contains(name) || spoken.iter().any(|other| other == name))
}

/// How a subrequest is served: it gets what is there. Waiting for a message would hold the response that it is part of.
fn poll(request: Request<'_>) -> Result<Option<Delivery>, Status> {
    let transports = request.settings().channel_transports();
    if !transports.offer(Transport::Poll) && !transports.offer(Transport::LongPoll) {
        let reason = "a subrequest cannot wait for messages, and \"websocket_channel_transports\" offers neither poll nor longpoll";
        request.report(Level::Error, format_args!("{reason}"));
        return Err(Status::NOT_ACCEPTABLE);
    }
    Ok(Some(if subscription::names_position(request) { Delivery::Poll } else { Delivery::FirstPoll }))
}

/// Pages of other origins may do here what `websocket_origin` lets them, on every transport. What is answered depends on
/// the origin also where there is none. A subrequest is made by the configuration and not by a page.
fn check_origin(request: Request<'_>, subscribes: bool) -> Result<(), Status> {
    if !request.is_attended() {
        return Ok(());
    }
    if !answer::vary(request, subscribes) {
        return Err(Status::INTERNAL_SERVER_ERROR);
    }
    let mut pages = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"origin")).map(|(_, value)| value);
    let Some(page) = pages.next() else { return Ok(()) };
    if pages.next().is_some() {
        request.report(Level::Info, format_args!("several Origin headers"));
        return Err(Status::BAD_REQUEST);
    }
    let Some(trust) = origin::trust(request, page) else {
        let page = String::from_utf8_lossy(page);
        request.report(Level::Error, format_args!("origin \"{page}\" is not allowed by \"websocket_origin\""));
        return Err(Status::FORBIDDEN);
    };
    if answer::expose(request, page, trust == Trust::Named) { Ok(()) } else { Err(Status::INTERNAL_SERVER_ERROR) }
}

/// Channel info, of several channels the sums; with the argument `presence` who is on them, with `subscribers` one by one.
fn info(request: Request<'_>, channel: &conf::Channel<ComplexValue>) -> Result<Status, Status> {
    let ids = Ids::of(request, channel)?;
    if asks_for_presence(request.arguments()) {
        return Ok(presence(request, &ids));
    }
    if asks_for_subscribers(request.arguments()) {
        return subscribers::list(request, &ids);
    }
    let backend = backend::of(request.settings().engine);
    let infos = ids.keys().into_iter().map(|key| backend.info(key));
    Ok(caller::wait_for(request, gather(infos, publish::sum), tell_info))
}

/// Answers with what is known of the channels together, if there are any.
fn tell_info(request: Request<'_>, outcome: Outcome<Option<Option<Info>>, Corrupt>) -> Status {
    match outcome {
        Ok(info) => match info.flatten() {
            Some(info) => answer::info(request, HttpStatus::OK, &info),
            None => Status::NOT_FOUND,
        },
        Err(failure) => answer::failed(request, failure, |Corrupt| Status::INTERNAL_SERVER_ERROR),
    }
}

/// Whether a query asks for more than channel info.
fn asks_who_is_there(query: &[u8]) -> bool {
    asks_for_presence(query) || asks_for_subscribers(query)
}

/// Whether a query has the argument `presence`, with or without a value.
fn asks_for_presence(query: &[u8]) -> bool {
    argument(query, b"presence").is_some()
}

/// The first argument of this name in a query as it is written; empty if it has no value.
fn argument<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|&octet| octet == b'&').find_map(|pair| match pair.strip_prefix(name)? {
        b"" => Some(&b""[..]),
        rest => rest.strip_prefix(b"="),
    })
}

/// Who is on the channels; `None` if there is none of them.
fn presence_of(request: Request<'_>, ids: &Ids<'_>) -> Answer<Option<Presence>, ReadError> {
    let backend = backend::of(request.settings().engine);
    let all = ids.keys().into_iter().map(|key| backend.presence(key));
    gather(all, merge).map(|outcome| outcome.map(Option::flatten))
}

/// Tells who is on the channels.
fn presence(request: Request<'_>, ids: &Ids<'_>) -> Status {
    caller::wait_for(request, presence_of(request, ids), |request, outcome| {
        let all = match outcome {
            Ok(all) => all,
            Err(failure) => return answer::failed(request, failure, |_| Status::INTERNAL_SERVER_ERROR),
        };
        let Some(all) = all else { return Status::NOT_FOUND };
        if !request.add_header("Cache-Control", b"no-store") {
            return Status::INTERNAL_SERVER_ERROR;
        }
        answer::text(request, HttpStatus::OK, Presence::CONTENT_TYPE, &all.to_string())
    })
}

/// Who is on one channel and on another one, as far as there are these channels.
fn merge(first: Option<Presence>, other: Option<Presence>) -> Option<Presence> {
    match (first, other) {
        (Some(mut first), Some(other)) => {
            first.merge(other);
            Some(first)
        }
        (first, other) => first.or(other),
    }
}

/// Closes the subscribers of the channels that are called so; the answer is how many they were.
fn expel(request: Request<'_>, channel: &conf::Channel<ComplexValue>, who: &[u8]) -> Result<Status, Status> {
    if who.is_empty() {
        request.report(Level::Info, format_args!("nobody is disconnected: \"presence\" has no value"));
        return Err(Status::BAD_REQUEST);
    }
    let ids = Ids::of(request, channel)?;
    let backend = backend::of(request.settings().engine);
    let all = ids.keys().into_iter().map(|key| backend.expel(key, who));
    let sum = |first: Option<u32>, other: Option<u32>| match (first, other) {
        (Some(first), Some(other)) => Some(first.saturating_add(other)),
        (first, other) => first.or(other),
    };
    Ok(caller::wait_for(request, gather(all, sum), |request, outcome| match outcome.map(Option::flatten) {
        Ok(None | Some(0)) => Status::NOT_FOUND,
        Ok(Some(count)) => {
            answer::text(request, HttpStatus::OK, "application/json", &format!("{{\"disconnected\": {count}}}"))
        }
        Err(failure) => answer::failed(request, failure, |_| Status::INTERNAL_SERVER_ERROR),
    }))
}

/// Deletes the channels; the answer is what they were. With the argument `presence` somebody who is on them goes, and they stay.
fn delete(request: Request<'_>, channel: &conf::Channel<ComplexValue>) -> Result<Status, Status> {
    if let Some(who) = argument(request.arguments(), b"presence") {
        return expel(request, channel, &subscription::decoded(who));
    }
    let ids = Ids::of(request, channel)?;
    let events = Events::of(request)?.map(Rc::new);
    let backend = backend::of(request.settings().engine);
    let deleted = ids.keys().into_iter().map(|key| {
        let happening = |deleted: &Option<Info>| deleted.as_ref().map(|_| Happening::Delete);
        told_of(events.as_ref(), key.id(), backend.delete(key), happening)
    });
    Ok(caller::wait_for(request, gather(deleted, publish::sum), tell_info))
}
