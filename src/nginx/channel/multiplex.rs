// SPDX-License-Identifier: Apache-2.0

//! A WebSocket that subscribes, unsubscribes and publishes while it is open: the subprotocol [`channels.v1`](crate::channel::v1).
//!
//! What directives say about a channel is found out by a copy of the request that is about this channel: see
//! [`scope`](crate::nginx::scope).

mod commands;
mod outcome;

use std::rc::Rc;

use self::outcome::{Published, Refusal};
use super::access;
use super::hub;
use super::link::Link;
use super::member::{ChannelMember, JoinDecision};
use super::subscription;
use super::websocket::{expelled, heartbeat, step};
use crate::channel::fanout::{Allowance, Next, SubscriberId};
use crate::channel::position::Asked;
use crate::channel::store::{Presence, ReadError};
use crate::channel::v1::answer::{self, About};
use crate::channel::v1::{Begin, Command, Conversation, Fault, Operation};
use crate::nginx::request::{HeldRequest, Request};
use crate::nginx::session::{self, SessionRef};
use crate::nginx::timer::now;
use crate::session::endpoint::{Ending, Endpoint, Input, Outlet, Produced, Started};
use crate::session::program::LeftProgram;
use crate::ws::close::CloseCode;
use crate::ws::connection::Data;
use crate::ws::frame::MessageKind;

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
