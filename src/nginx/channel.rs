// SPDX-License-Identifier: Apache-2.0

//! Channels as the endpoint of a location: publishing and subscribing by HTTP and by WebSocket.

mod answer;
mod approval;
mod bells;
mod events;
mod failure;
pub mod group;
pub mod hub;
mod limits;
mod link;
pub mod member;
mod programs;
mod publish;
mod subscription;
pub mod waiting;
mod websocket;
pub mod zone;

use std::cell::Cell;
use std::rc::Rc;

use super::caller::Caller;
use super::console;
use super::engine;
use super::ffi;
use super::log::Level;
use super::origin::{self, Trust};
use super::request::{Request, try_again};
use super::session::SessionRef;
use super::template::ComplexValue;
use crate::channel::event::Happening;
use crate::channel::store::{Info, Key, Presence};
use crate::channel::streaming::Streaming;
use crate::conf::{self, ChannelMode};
use events::Events;
use member::Member;
use waiting::Delivery;

use crate::channel::transport::{self, Transport};
use crate::channel::wire::websocket::META;
use crate::session::endpoint::Endpoint;
pub use publish::Publisher;
pub use subscription::{Ids, Subscription};
pub use websocket::Channel as WebSocket;

/// The location has no transport of the kind that was asked for (RFC 9110, section 15.5.7).
const NOT_ACCEPTABLE: isize = 406;

/// What becomes of a request to a location with channels.
pub enum Way {
    /// It is to become a WebSocket, or to be told that it must.
    WebSocket,
    /// It has been answered, or will be; what the content handler returns.
    Answered(isize),
}

/// Answers a request that is no WebSocket.
///
/// # Errors
///
/// The status to answer.
pub fn serve(request: Request, channel: &conf::Channel<ComplexValue>) -> Result<Way, isize> {
    let mode = channel.mode;
    request.restore_method();
    // The headers of a subrequest are those of the client's request: what they ask for is not asked of this location.
    let attended = request.is_attended();
    if attended && wants_upgrade(request) {
        return if takes_websockets(request, mode) { Ok(Way::WebSocket) } else { Err(NOT_ACCEPTABLE) };
    }
    check_origin(request, mode.subscribes())?;
    let is = |method: &[u8]| request.method() == method;
    let methods = answer::methods(mode, mode.deletes(request.settings().channel_delete()));
    let status = if is(b"OPTIONS") {
        answer::options(request, methods)
    } else if mode.publishes() && (is(b"POST") || is(b"PUT")) {
        publish::receive(request)
    } else if is(b"DELETE") && mode.deletes(request.settings().channel_delete()) {
        delete(request, channel)?
    } else if !is(b"GET") && !is(b"HEAD") {
        answer::refuse_method(request, methods)
    } else {
        // SAFETY: the request is alive. A body of a request that has none by its method is dropped.
        if unsafe { ffi::ngx_http_discard_request_body(request.raw()) } != ffi::NGX_OK as isize {
            return Err(ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize);
        }
        if attended && shows_console(request, mode) {
            console::send(request)
        } else if mode.subscribes() {
            let delivery = if attended { choose(request).ok_or(NOT_ACCEPTABLE)? } else { poll(request)? };
            let Some(delivery) = delivery else { return Ok(Way::WebSocket) };
            if member::must_ask(request) {
                ask(request, channel, delivery)?
            } else {
                subscribe(request, channel, delivery, Member::of(request)?)?
            }
        } else {
            info(request, channel)?
        }
    };
    Ok(Way::Answered(status))
}

/// Whether a client can have a WebSocket here. A publisher has no other way to keep its connection, so the transports do not
/// concern it.
fn takes_websockets(request: Request, mode: ChannelMode) -> bool {
    match mode {
        ChannelMode::Sub | ChannelMode::PubSub => request.settings().channel_transports().offer(Transport::WebSocket),
        ChannelMode::Pub => true,
        ChannelMode::Info => false,
    }
}

/// Whether a browser is to get the page to try the location by hand: it asks for a page and not for one of the transports, and
/// the page, which opens a WebSocket, can work.
fn shows_console(request: Request, mode: ChannelMode) -> bool {
    request.settings().console()
        && takes_websockets(request, mode)
        && transport::asks_for_page(&values(request, b"accept"))
        && (mode.subscribes() || !asks_for_presence(request.arguments()))
}

/// Begins to connect a session to its channels.
///
/// # Errors
///
/// The status to answer.
pub fn start(
    request: Request,
    session: SessionRef,
    channel: &conf::Channel<ComplexValue>,
) -> Result<Box<dyn Endpoint>, isize> {
    let ids = Ids::of(request, channel)?;
    let publisher = if channel.mode.publishes() { Some(Publisher::new(request, &ids)?) } else { None };
    let answers = (channel.mode == ChannelMode::Pub).then(|| answer::info_form(request));
    let mut endpoint = WebSocket::new(publisher, answers);
    endpoint.use_hooks(request, session, channel.mode.subscribes());
    if channel.mode.subscribes() && !endpoint.ask_to_join()? {
        endpoint.join(request, session, &Subscription::of(request, &ids))?;
    }
    Ok(Box::new(endpoint))
}

/// Lets a request wait for messages; returns what the content handler returns.
fn subscribe(
    request: Request,
    channel: &conf::Channel<ComplexValue>,
    delivery: Delivery,
    member: Option<Member>,
) -> Result<isize, isize> {
    let ids = Ids::of(request, channel)?;
    waiting::start(request, delivery, &ids, member)
}

/// Asks whether a request may wait for messages; returns what the content handler returns.
fn ask(request: Request, channel: &conf::Channel<ComplexValue>, delivery: Delivery) -> Result<isize, isize> {
    // The variables of the hook's location tell of it.
    Ids::of(request, channel)?;
    let caller = Caller::of(request).ok_or(ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize)?;
    let waiting = caller.clone();
    member::ask(request, move |decision, copy| {
        if !caller.is_there() {
            return decision.discard(copy);
        }
        caller.resume(|request| {
            let Some(channel) = request.settings().channel() else {
                return ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
            };
            let status = decision.apply(request).and_then(|member| subscribe(request, channel, delivery, member));
            status.unwrap_or_else(|status| status)
        });
    })?;
    // SAFETY: the request is alive; the reference is given back when it is resumed.
    unsafe { ffi::ngx_ws_request_hold(request.raw()) };
    waiting.wait();
    Ok(ffi::NGX_DONE as isize)
}

/// The first subprotocol that the client offers and the location or the channel itself speaks.
pub fn select_protocol<'p>(offered: &[&'p str], spoken: &[String]) -> Option<&'p str> {
    offered.iter().copied().find(|name| *name == META || spoken.iter().any(|other| other == name))
}

fn wants_upgrade(request: Request) -> bool {
    let websocket = |value: &[u8]| value.split(|&octet| octet == b',').any(|token| is_websocket(token.trim_ascii()));
    request.method() == b"GET"
        && request.headers().any(|(name, value)| name.eq_ignore_ascii_case(b"upgrade") && websocket(value))
}

fn is_websocket(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"websocket")
}

/// The values of all headers of a name.
fn values<'r>(request: Request, wanted: &[u8]) -> Vec<&'r [u8]> {
    request.headers().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).collect()
}

/// How a request that is no upgrade is to be served: `Some(None)` if all it can become is a WebSocket, `None` if the location
/// has no such way.
fn choose(request: Request) -> Option<Option<Delivery>> {
    let (accept, te) = (values(request, b"accept"), values(request, b"te"));
    let wish = transport::Request { accept: &accept, te: &te, can_chunk: request.can_chunk() };
    Some(Some(match request.settings().channel_transports().choose(&wish)? {
        Transport::WebSocket => return Some(None),
        Transport::EventSource => Delivery::Streaming(Streaming::EventSource),
        Transport::Multipart => Delivery::Streaming(Streaming::multipart()),
        Transport::Chunked => Delivery::Streaming(Streaming::Chunked),
        Transport::Raw => Delivery::Streaming(Streaming::Raw(request.settings().channel_separator())),
        Transport::LongPoll => Delivery::LongPoll,
        Transport::Poll => Delivery::Poll,
    }))
}

/// How a subrequest is served: it gets what is there. Waiting for a message would hold the response that it is part of.
fn poll(request: Request) -> Result<Option<Delivery>, isize> {
    let transports = request.settings().channel_transports();
    if !transports.offer(Transport::Poll) && !transports.offer(Transport::LongPoll) {
        let reason = "a subrequest cannot wait for messages, and \"websocket_channel_transports\" offers neither poll nor longpoll";
        request.report(Level::Error, format_args!("{reason}"));
        return Err(NOT_ACCEPTABLE);
    }
    Ok(Some(if subscription::names_position(request) { Delivery::Poll } else { Delivery::FirstPoll }))
}

/// Pages of other origins may do here what `websocket_origin` lets them, on every transport. What is answered depends on
/// the origin also where there is none. A subrequest is made by the configuration and not by a page.
fn check_origin(request: Request, subscribes: bool) -> Result<(), isize> {
    const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
    if !request.is_attended() {
        return Ok(());
    }
    if !answer::vary(request, subscribes) {
        return Err(FAILED);
    }
    let mut pages = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"origin")).map(|(_, value)| value);
    let Some(page) = pages.next() else { return Ok(()) };
    if pages.next().is_some() {
        request.report(Level::Info, format_args!("several Origin headers"));
        return Err(ffi::NGX_HTTP_BAD_REQUEST as isize);
    }
    let Some(trust) = origin::trust(request, page) else {
        let page = String::from_utf8_lossy(page);
        request.report(Level::Error, format_args!("origin \"{page}\" is not allowed by \"websocket_origin\""));
        return Err(ffi::NGX_HTTP_FORBIDDEN as isize);
    };
    if answer::expose(request, page, trust == Trust::Named) { Ok(()) } else { Err(FAILED) }
}

/// Channel info, of several channels the sums; with the argument `presence` who is on them.
fn info(request: Request, channel: &conf::Channel<ComplexValue>) -> Result<isize, isize> {
    let ids = Ids::of(request, channel)?;
    if asks_for_presence(request.arguments()) {
        return presence(request, &ids);
    }
    if request.settings().engine != 0 {
        return ask_engine(request, &ids, engine::info, |_, _| {});
    }
    let infos = ids.keys().into_iter().filter_map(|key| hub::with(|hub| hub.info(key)).flatten());
    let info = infos.reduce(publish::sum).ok_or(ffi::NGX_HTTP_NOT_FOUND as isize)?;
    Ok(answer::info(request, ffi::NGX_HTTP_OK as usize, &info))
}

/// Asks the engine of the channels something about each of them, and answers with the sum; returns what the content handler returns.
/// `told` is called for each channel that there was.
fn ask_engine(
    request: Request,
    ids: &Ids<'_>,
    ask: impl Fn(usize, Key<'_>, Box<dyn FnOnce(Result<Option<Info>, engine::Failed>)>),
    told: impl Fn(Option<&Events>, &[u8]) + 'static,
) -> Result<isize, isize> {
    const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
    let number = request.settings().engine;
    if engine::is_away(number) {
        return Err(try_again(request));
    }
    let events = Events::of(request)?;
    let caller = Caller::of(request).ok_or(FAILED)?;
    // SAFETY: the request is alive; the reference is given back when it is resumed.
    unsafe { ffi::ngx_ws_request_hold(request.raw()) };
    caller.wait();
    let keys = ids.keys();
    let asked = Rc::new(Asked { left: Cell::new(keys.len()), sum: Cell::new(None), failed: Cell::new(None) });
    let (told, events) = (Rc::new(told), Rc::new(events));
    for key in keys {
        let (asked, told, events, caller) = (Rc::clone(&asked), Rc::clone(&told), Rc::clone(&events), caller.clone());
        let id: Box<[u8]> = key.id().into();
        ask(
            number,
            key,
            Box::new(move |answer| {
                if let Ok(Some(_)) = answer {
                    told(events.as_ref().as_ref(), &id);
                }
                asked.add(answer, &caller);
            }),
        );
    }
    Ok(ffi::NGX_DONE as isize)
}

/// The answers of an engine about several channels, until the last one is there.
struct Asked {
    left: Cell<usize>,
    sum: Cell<Option<Info>>,
    failed: Cell<Option<engine::Failed>>,
}

impl Asked {
    fn add(&self, answer: Result<Option<Info>, engine::Failed>, caller: &Caller) {
        match answer {
            Ok(Some(info)) => self.sum.set(Some(self.sum.get().map_or(info, |sum| publish::sum(sum, info)))),
            Ok(None) => {}
            Err(failed) => self.failed.set(Some(failed)),
        }
        self.left.set(self.left.get() - 1);
        if self.left.get() > 0 {
            return;
        }
        let (sum, failed) = (self.sum.get(), self.failed.get());
        caller.resume(|request| match (failed, sum) {
            (Some(engine::Failed::Unknown), _) => ffi::NGX_HTTP_GATEWAY_TIME_OUT as isize,
            (Some(engine::Failed::Unavailable), _) => try_again(request),
            (Some(_), _) => ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize,
            (None, Some(info)) => answer::info(request, ffi::NGX_HTTP_OK as usize, &info),
            (None, None) => ffi::NGX_HTTP_NOT_FOUND as isize,
        });
    }
}

/// Whether a query has the argument `presence`, with or without a value.
fn asks_for_presence(query: &[u8]) -> bool {
    query.split(|&octet| octet == b'&').any(|pair| pair == b"presence" || pair.starts_with(b"presence="))
}

/// Who is on the channels.
fn presence(request: Request, ids: &Ids<'_>) -> Result<isize, isize> {
    let mut all: Option<Presence> = None;
    for key in ids.keys() {
        let Some(found) = hub::with(|hub| hub.presence(key)) else { return Err(try_again(request)) };
        let Some(presence) = found.map_err(|_| ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize)? else { continue };
        match &mut all {
            Some(all) => all.merge(presence),
            None => all = Some(presence),
        }
    }
    let all = all.ok_or(ffi::NGX_HTTP_NOT_FOUND as isize)?;
    if !request.add_header("Cache-Control", b"no-store") {
        return Err(ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize);
    }
    Ok(answer::text(request, ffi::NGX_HTTP_OK as usize, Presence::CONTENT_TYPE, &all.to_string()))
}

/// Deletes the channels; the answer is what they were.
fn delete(request: Request, channel: &conf::Channel<ComplexValue>) -> Result<isize, isize> {
    let ids = Ids::of(request, channel)?;
    if request.settings().engine != 0 {
        let told = |events: Option<&Events>, id: &[u8]| {
            if let Some(events) = events {
                events.tell(Happening::Delete, id);
            }
        };
        return ask_engine(request, &ids, engine::delete, told);
    }
    let events = Events::of(request)?;
    let deleted = ids.keys().into_iter().filter_map(|key| {
        let deleted = hub::with(|hub| hub.delete(key)).flatten();
        if let (Some(_), Some(events)) = (&deleted, &events) {
            events.tell(Happening::Delete, key.id());
        }
        deleted
    });
    let info = deleted.map(|deleted| deleted.info).reduce(publish::sum).ok_or(ffi::NGX_HTTP_NOT_FOUND as isize)?;
    Ok(answer::info(request, ffi::NGX_HTTP_OK as usize, &info))
}
