// SPDX-License-Identifier: Apache-2.0

//! Connecting to a service, server after server, before anything is answered.

use super::address::{self, Address, Target, Unusable, socket_address};
use super::allow::{self, Judgement};
use super::peer::{Connect, Peer};
use super::resolve::Lookup;
use super::socket::Socket;
use super::tls;
use super::{Relay, Service};
use crate::nginx::exhaustion::{self, Explained};
use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::refusal;
use crate::nginx::request::{HeldRequest, Request, try_again};
use crate::nginx::session::{self, Session, SessionRef};
use crate::nginx::status::Status;
use crate::nginx::tls::{Handshake, Identity, ended, is_over};
use crate::session::client::{Sent, Sink};
use crate::session::endpoint::{Ending, Endpoint};
use crate::tcp::proxy_protocol::{self, Ends};
use crate::ws::close::CloseCode;

/// A connection that is being made.
pub struct Connecting {
    request: HeldRequest,
    session: SessionRef,
    step: Step,
    /// Dropped after the socket.
    peer: Option<Peer>,
    /// The host of the address: the name of the service, for TLS.
    host: Vec<u8>,
}

/// How far a connection attempt is.
enum Step {
    /// The name is being looked up.
    Resolving(Lookup),
    /// A server was asked.
    Connecting(Socket),
    /// The server talks TLS.
    Handshaking(Socket, Identity),
    /// Between two steps, and after the last one.
    Idle,
}

/// Begins to connect a session to the service of its location. The session is run when there is something new.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn start(request: Request<'_>, session: SessionRef, address: &Address) -> Result<Box<dyn Endpoint>, Status> {
    let mut judgement = Judgement::Allowed;
    let target = match address {
        Address::Group(group) => Target::Group(*group),
        Address::Template(template) => {
            let text = template.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
            if text.is_empty() {
                request.report(Level::Info, format_args!("\"websocket_tcp\" names no service for this request"));
                because(request, "no such token");
                return Err(Status::NOT_FOUND);
            }
            let target = address::target(request, text).map_err(|unusable| match unusable {
                Unusable::NoMemory => Status::INTERNAL_SERVER_ERROR,
                Unusable::Invalid(why) => {
                    let text = format_args!("\"websocket_tcp\" has no address for this request: {why}");
                    request.report(Level::Error, text);
                    because(request, "no address");
                    Status::BAD_GATEWAY
                }
            })?;
            judgement = allow::judge(request, &target);
            if judgement == Judgement::Refused {
                because(request, "address not allowed");
                return Err(Status::FORBIDDEN);
            }
            target
        }
    };
    let host = match &target {
        Target::Group(group) => group.host(),
        Target::Server(resolved) | Target::Name(resolved) => resolved.host(),
    };
    let mut peer = Peer::new(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
    if let Some(from) = request.settings().tcp_bind()
        && !target.is_unix()
    {
        let from = from.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
        if !from.is_empty() && !peer.bind(from) {
            return Err(Status::INTERNAL_SERVER_ERROR);
        }
    }
    // SAFETY: the session, which has the endpoint, holds the request.
    let held = unsafe { request.held() };
    let mut connecting = Connecting { request: held, session, step: Step::Idle, peer: None, host: host.to_vec() };
    match target {
        Target::Group(group) => {
            if !peer.use_group(group) {
                return Err(Status::INTERNAL_SERVER_ERROR);
            }
            connecting.peer = Some(peer);
            connecting.begin()?;
        }
        Target::Server(resolved) => {
            if !super::peer::know_servers(request, resolved) {
                return Err(Status::INTERNAL_SERVER_ERROR);
            }
            connecting.peer = Some(peer);
            connecting.begin()?;
        }
        Target::Name(resolved) => {
            connecting.peer = Some(peer);
            connecting.step = Step::Resolving(Lookup::start(request, session, resolved, judgement)?);
            // A name that is known already is answered at once.
            connecting.resolved()?;
        }
    }
    Ok(Box::new(Service::Connecting(Box::new(connecting))))
}

impl Connecting {
    /// Whether the client is answered before the service is connected.
    pub fn is_accepted(&self) -> bool {
        self.request.get().settings().tcp_accept()
    }

    /// The Close of a client that was answered before its service was found not to be there.
    pub fn refusal(&self, status: Status) -> Ending {
        let known = refusal::ending(self.request.get(), session::refusal(status));
        known.unwrap_or_else(|| Ending { code: CloseCode::INTERNAL, reason: "no service".to_owned() })
    }

    /// Goes on after an event: the connection, if it is there.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged.
    pub fn advance(&mut self) -> Result<Option<Relay>, Status> {
        match std::mem::replace(&mut self.step, Step::Idle) {
            resolving @ Step::Resolving(_) => {
                self.step = resolving;
                self.resolved()?;
                Ok(None)
            }
            Step::Connecting(socket) if socket.timed_out() => self.next_server(socket, Status::GATEWAY_TIME_OUT, ""),
            // The event may be about something else that happened to the socket: a server may talk at once.
            Step::Connecting(socket) if !socket.writable() => {
                self.step = Step::Connecting(socket);
                Ok(None)
            }
            Step::Connecting(socket) if socket.connect_failed() => {
                self.next_server(socket, Status::BAD_GATEWAY, "connection refused")
            }
            Step::Connecting(socket) => self.connected(socket),
            Step::Handshaking(socket, _) if socket.timed_out() => {
                self.next_server(socket, Status::GATEWAY_TIME_OUT, "")
            }
            // The event may be about the client, or about the session.
            Step::Handshaking(socket, identity) if !is_over(&socket) => {
                self.step = Step::Handshaking(socket, identity);
                Ok(None)
            }
            Step::Handshaking(socket, identity) => {
                let handshake = identity.finish(&socket);
                self.handshake(socket, identity, handshake)
            }
            Step::Idle => Ok(None),
        }
    }

    /// Looks whether the name was looked up by now, and connects then.
    fn resolved(&mut self) -> Result<(), Status> {
        let Step::Resolving(lookup) = &mut self.step else { return Ok(()) };
        match lookup.answer() {
            None => Ok(()),
            Some(answer) => {
                self.step = Step::Idle;
                answer?;
                self.begin()
            }
        }
    }

    /// The servers are known: asks the first one.
    fn begin(&mut self) -> Result<(), Status> {
        let settings = self.request.get().settings();
        let (tries, limit) = (settings.tcp_next_upstream_tries(), settings.tcp_next_upstream_timeout());
        if let Some(peer) = &mut self.peer {
            peer.begin(usize::try_from(tries).unwrap_or(usize::MAX), limit);
        }
        self.connect()
    }

    /// Asks servers until one answers, now or later.
    fn connect(&mut self) -> Result<(), Status> {
        loop {
            let peer = self.peer.as_mut().ok_or(Status::INTERNAL_SERVER_ERROR)?;
            match peer.connect(self.session) {
                Connect::Begun(socket) => {
                    let limit = self.request.get().settings().tcp_connect_timeout();
                    if limit != 0 {
                        socket.set_timer(limit);
                    }
                    self.step = Step::Connecting(socket);
                    return Ok(());
                }
                Connect::Refused if peer.failed(Status::BAD_GATEWAY) => {}
                Connect::Refused => {
                    because(self.request.get(), "connection refused");
                    return Err(Status::BAD_GATEWAY);
                }
                Connect::NoServer => {
                    because(self.request.get(), "no server can be used");
                    self.request.get().report(Level::Error, format_args!("no server of the service can be used"));
                    peer.failed(Status::BAD_GATEWAY);
                    return Err(Status::BAD_GATEWAY);
                }
                Connect::Failed => return Err(failure(self.request.get())),
            }
        }
    }

    /// This server does not do.
    fn next_server(&mut self, socket: Socket, status: Status, why: &'static str) -> Result<Option<Relay>, Status> {
        if status == Status::GATEWAY_TIME_OUT {
            self.request.get().report(Level::Error, format_args!("the service did not answer in time"));
        }
        drop(socket);
        let peer = self.peer.as_mut().ok_or(Status::INTERNAL_SERVER_ERROR)?;
        if !peer.failed(status) {
            because(self.request.get(), if status == Status::GATEWAY_TIME_OUT { "connection timed out" } else { why });
            return Err(status);
        }
        self.connect().map(|()| None)
    }

    fn connected(&mut self, mut socket: Socket) -> Result<Option<Relay>, Status> {
        let settings = self.request.get().settings();
        if !socket.no_delay() {
            return Err(Status::INTERNAL_SERVER_ERROR);
        }
        if let Some(version) = settings.tcp_proxy_protocol() {
            let header = proxy_protocol::header(version, &ends(self.request.get()));
            // A new connection has room for the whole of it.
            match socket.send(&header) {
                Sent::Octets(count) if count == header.len() => {}
                Sent::Octets(_) | Sent::Blocked | Sent::Lost => {
                    return self.next_server(socket, Status::BAD_GATEWAY, "connection lost");
                }
            }
        }
        match settings.tcp_tls {
            None => self.ready(socket).map(Some),
            Some(context) => {
                let identity = tls::identity(self.request.get(), &self.host).ok_or(Status::INTERNAL_SERVER_ERROR)?;
                let handshake = identity.begin(context, &socket, on_handshake);
                self.handshake(socket, identity, handshake)
            }
        }
    }

    fn handshake(&mut self, socket: Socket, identity: Identity, handshake: Handshake) -> Result<Option<Relay>, Status> {
        match handshake {
            Handshake::Waiting => {
                self.step = Step::Handshaking(socket, identity);
                Ok(None)
            }
            Handshake::Done => self.ready(socket).map(Some),
            Handshake::Failed => self.next_server(socket, Status::BAD_GATEWAY, "TLS failed"),
        }
    }

    fn ready(&mut self, socket: Socket) -> Result<Relay, Status> {
        let settings = self.request.get().settings();
        socket.clear_timer();
        // TLS has taken the events for its handshake.
        socket.wake(self.session.as_ptr().cast(), session::on_endpoint);
        let mut peer = self.peer.take().ok_or(Status::INTERNAL_SERVER_ERROR)?;
        peer.connected();
        let most = usize::try_from(settings.tcp_buffer_size()).unwrap_or(usize::MAX);
        Ok(Relay::new(socket, peer, most, settings.tcp_format()))
    }
}

/// Notes why there is no service, for a client that is told by a Close.
pub(super) fn because(request: Request<'_>, why: &'static str) {
    if let Some(context) = request.context() {
        context.refusal.set(Some(why));
    }
}

/// The status for a connection that could not even be begun, which is logged: what is short may be there again soon.
pub(super) fn failure(request: Request<'_>) -> Status {
    match exhaustion::of_connections() {
        Some(error) => {
            request.report(Level::Error, format_args!("cannot connect to the service: {}", Explained(&error)));
            try_again(request)
        }
        None => Status::INTERNAL_SERVER_ERROR,
    }
}

/// Both ends of the client's connection, as realip and the like have left them.
fn ends(request: Request<'_>) -> Ends {
    // SAFETY: a request has a connection; nginx asks the kernel for the local address if it does not know it.
    unsafe {
        let connection = request.connection();
        let local = ffi::ngx_connection_local_sockaddr(connection, std::ptr::null_mut(), 0) == Status::OK;
        Ends {
            source: socket_address((*connection).sockaddr),
            destination: if local { socket_address((*connection).local_sockaddr) } else { None },
        }
    }
}

/// The handshake is over, one way or the other.
unsafe extern "C" fn on_handshake(connection: *mut ffi::ngx_connection_t) {
    ended(connection);
    // SAFETY: the data of the connection is the session, which owns it.
    if let Some(session) = SessionRef::new(unsafe { (*connection).data }.cast()) {
        session::run(session, Session::pump);
    }
}
