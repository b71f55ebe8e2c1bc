// SPDX-License-Identifier: Apache-2.0

//! A TCP service as the endpoint of a session.

pub mod address;
pub mod allow;
mod connect;
mod linger;
mod peer;
mod resolve;
pub mod socket;
mod tls;
mod tokens;

pub use connect::start;
pub use linger::end;
pub use tls::prepare;
pub use tokens::token_target;

use connect::Connecting;
use peer::Peer;
pub use socket::Socket;

use super::session;
use crate::session::client::{Received, Sent, Sink};
use crate::session::endpoint::{Ending, Endpoint, Input, Outlet, Produced, Started};
use crate::session::output::Output;
use crate::session::program::LeftProgram;
use crate::tcp::text::Cutter;
use crate::ws::close::CloseCode;
use crate::ws::connection::Data;
use crate::ws::frame::MessageKind;
use crate::ws::timing::Look;

/// Octets that wait for a service, above which the client is not read. A read of the client may add to them.
const BACKLOG: usize = 64 << 10;

/// Pieces of messages from this size on are written from where they were read; smaller ones are gathered first.
const DIRECT: usize = 16 << 10;

/// A service: while its connection is made, and then.
pub enum Service {
    /// The session has not been answered.
    Connecting(Box<Connecting>),
    /// Octets go both ways.
    Connected(Box<Relay>),
    /// Nothing is left of the connection to the service.
    Gone,
}

/// Octets between a session and a service.
pub struct Relay {
    socket: Socket,
    peer: Peer,
    /// Octets for the service.
    queue: Output,
    /// The system may have octets that the service has not taken. Not told of unix sockets: there it has those as well that
    /// a busy service has not got to yet.
    underway: bool,
    counts_underway: bool,
    /// The service takes no more octets.
    deaf: bool,
    /// The service has sent everything.
    ended: bool,
    /// The client is in the middle of a message.
    in_message: bool,
    /// The end of that message is not waited for any more.
    leaves: bool,
    /// The client has sent something since the last look.
    delivered: bool,
    most: usize,
    text: Option<Cutter>,
}

/// The subprotocol of a service that says what a service does: octets in binary frames.
const BINARY: &str = "binary";

/// The first subprotocol of the client that the location speaks, `binary` included.
pub fn select_protocol<'r>(offered: &[&'r str], spoken: &[String]) -> Option<&'r str> {
    offered.iter().copied().find(|name| *name == BINARY || spoken.iter().any(|known| known == name))
}

impl Endpoint for Service {
    fn start(&mut self) -> Started {
        let Service::Connecting(connecting) = self else { return Started::NotYet };
        if connecting.is_accepted() {
            return Started::Yes;
        }
        match connecting.advance() {
            Ok(None) => Started::NotYet,
            Ok(Some(relay)) => {
                *self = Service::Connected(Box::new(relay));
                Started::Yes
            }
            Err(status) => {
                *self = Service::Gone;
                Started::No(session::refusal(status))
            }
        }
    }

    fn accepts(&self) -> bool {
        match self {
            Service::Connected(relay) => relay.queue.len() < BACKLOG,
            Service::Connecting(_) => false,
            Service::Gone => true,
        }
    }

    fn deliver(&mut self, data: &Data<'_>) -> Result<(), Ending> {
        if let Service::Connected(relay) = self {
            relay.deliver(data);
        }
        Ok(())
    }

    fn flush(&mut self) -> bool {
        match self {
            Service::Connected(relay) => relay.flush(),
            Service::Connecting(_) | Service::Gone => false,
        }
    }

    fn waits(&self) -> bool {
        matches!(self, Service::Connected(relay) if relay.underway || !relay.queue.is_empty())
    }

    fn has_taken(&mut self) -> bool {
        match self {
            Service::Connected(relay) => {
                let Look { taken, all } = relay.socket.look();
                relay.underway &= !all;
                taken || !self.waits()
            }
            Service::Connecting(_) | Service::Gone => false,
        }
    }

    fn stuck(&self) -> Ending {
        Ending { code: CloseCode::BAD_GATEWAY, reason: "the service does not read".to_owned() }
    }

    fn leave(&mut self) {
        if let Service::Connected(relay) = self {
            relay.leaves = true;
        }
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        match self {
            Service::Connected(relay) => relay.produce(outlet),
            // The client was accepted before its service is there.
            Service::Connecting(connecting) => match connecting.advance() {
                Ok(None) => Produced::Nothing,
                Ok(Some(relay)) => {
                    *self = Service::Connected(Box::new(relay));
                    Produced::Some
                }
                Err(status) => {
                    let ending = connecting.refusal(status);
                    *self = Service::Gone;
                    Produced::Ended(ending)
                }
            },
            Service::Gone => Produced::Nothing,
        }
    }

    fn client_gone(&mut self, input: Input) -> Option<LeftProgram> {
        if let Service::Connected(relay) = std::mem::replace(self, Service::Gone) {
            let Relay { socket, queue, .. } = *relay;
            match input {
                Input::Whole => linger::close(socket, queue),
                // An orderly end would say that this was all.
                Input::Cut => socket.reset(),
            }
        }
        None
    }

    fn progress(&self) -> u64 {
        match self {
            Service::Connected(relay) => relay.peer.sent,
            Service::Connecting(_) | Service::Gone => 0,
        }
    }
}

impl Relay {
    fn new(socket: Socket, peer: Peer, most: usize, kind: MessageKind) -> Self {
        let counts_underway = !peer.is_unix();
        Relay {
            socket,
            peer,
            queue: Output::default(),
            underway: false,
            counts_underway,
            deaf: false,
            ended: false,
            in_message: false,
            leaves: false,
            delivered: false,
            most,
            text: match kind {
                MessageKind::Text => Some(Cutter::default()),
                MessageKind::Binary => None,
            },
        }
    }

    fn deliver(&mut self, data: &Data<'_>) {
        self.in_message = !data.last;
        self.delivered = true;
        if self.deaf {
            return;
        }
        let mut rest = data.payload;
        // TLS wants to see octets that it did not take at the same place again.
        if rest.len() >= DIRECT && self.queue.is_empty() && self.socket.writable() && !self.socket.is_tls() {
            match self.socket.send(rest) {
                Sent::Octets(count) => {
                    self.peer.sent += count as u64;
                    self.underway = self.counts_underway;
                    rest = &rest[count..];
                }
                Sent::Blocked => {}
                Sent::Lost => return self.stop_writing(),
            }
        }
        if !rest.is_empty() {
            self.queue.frames().extend_from_slice(rest);
        }
    }

    /// Writes what the service takes now. Whether that was anything.
    fn flush(&mut self) -> bool {
        if self.queue.is_empty() || !self.queue.is_fresh() && !self.socket.writable() {
            return false;
        }
        let waiting = self.queue.len();
        let sent = self.queue.flush(&mut self.socket);
        let moved = waiting - self.queue.len();
        self.peer.sent += moved as u64;
        self.underway |= self.counts_underway && moved > 0;
        if sent == Sent::Lost {
            self.stop_writing();
            return true;
        }
        if !self.socket.watch() {
            self.stop_writing();
        }
        moved > 0
    }

    /// The service is gone, or does not listen any more. What it has sent before is still to be read.
    fn stop_writing(&mut self) {
        self.queue = Output::default();
        self.underway = false;
        self.deaf = true;
    }

    fn produce(&mut self, outlet: &mut Outlet<'_>) -> Produced {
        let mut moved = std::mem::take(&mut self.delivered);
        while !self.ended && outlet.has_room() && outlet.allowance() > 0 && self.socket.readable() {
            match self.read(outlet) {
                Ok(Received::Octets(count)) => {
                    self.peer.received += count as u64;
                    outlet.has_read(count);
                    moved = true;
                }
                Ok(Received::Blocked) => break,
                Ok(Received::End) => {
                    self.ended = true;
                    if self.text.as_mut().is_some_and(|text| text.finish().is_err()) {
                        return Produced::Ended(no_text(outlet));
                    }
                    if self.deaf {
                        // Our octets were lost on the way: that is no orderly end.
                        return Produced::Ended(lost());
                    }
                }
                Ok(Received::Lost) => return Produced::Ended(lost()),
                Err(ending) => return Produced::Ended(ending),
            }
        }
        if !self.socket.watch() {
            return Produced::Ended(lost());
        }
        // The client may finish what it has begun: closing for reading is no reason to stop listening.
        if self.ended && !moved && self.queue.is_empty() {
            if self.in_message && !self.deaf && !self.leaves {
                return Produced::Leaving;
            }
            let ending = Ending { code: CloseCode::NORMAL, reason: String::new() };
            return if self.deaf { Produced::Ended(ending) } else { Produced::Silent(ending) };
        }
        if moved { Produced::Some } else { Produced::Nothing }
    }

    /// What one read brings is one message.
    fn read(&mut self, outlet: &mut Outlet<'_>) -> Result<Received, Ending> {
        let (socket, most) = (&mut self.socket, self.most.min(outlet.allowance()));
        let Some(text) = &mut self.text else {
            return outlet
                .message_from(MessageKind::Binary, most, |buffer| socket.append_to(buffer, most))
                .map_err(broken);
        };
        let mut valid = true;
        let received = outlet.message_from(MessageKind::Text, most, |buffer| {
            let begin = buffer.len();
            buffer.extend_from_slice(text.held());
            let received = socket.append_to(buffer, most);
            match received {
                Received::Octets(_) => match text.cut(&buffer[begin..]) {
                    Ok(whole) => buffer.truncate(begin + whole),
                    Err(_) => {
                        valid = false;
                        buffer.truncate(begin);
                    }
                },
                Received::Blocked | Received::End | Received::Lost => buffer.truncate(begin),
            }
            received
        });
        if !valid {
            return Err(no_text(outlet));
        }
        received.map_err(broken)
    }
}

fn no_text(outlet: &Outlet<'_>) -> Ending {
    outlet.complain(format_args!("the service sent what is not UTF-8 (websocket_tcp_format text)"));
    Ending { code: CloseCode::INVALID_DATA, reason: "invalid UTF-8".to_owned() }
}

fn lost() -> Ending {
    Ending { code: CloseCode::BAD_GATEWAY, reason: "the connection to the service was lost".to_owned() }
}

/// The connection does not take messages any more; it is closing for a reason of its own.
fn broken(error: crate::ws::connection::SendError) -> Ending {
    Ending { code: CloseCode::INTERNAL, reason: error.to_string() }
}
