// SPDX-License-Identifier: Apache-2.0

//! A connection to the engine that is made anew whenever it is lost.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::rc::Rc;

use super::Settings;
use super::address::Host;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::status::Status;
use crate::nginx::tcp::socket::Socket;
use crate::nginx::timer::{Handler, Timer, now};
use crate::nginx::tls::{self, Handshake, Identity};
use crate::redis::backoff::Backoff;
use crate::redis::connection::{self, Connection, End, Event};
use crate::session::client::{Received, Sent, Sink};

/// Octets that one read brings at most.
const READ: usize = 64 << 10;

/// How long a connection to a Sentinel, or to a node that is asked for the slots, may take at most, in milliseconds.
const SURVEY_LIMIT: u64 = 1_500;

/// Reads in one turn of the event loop.
const READS: usize = 16;

/// How long a connection has to last that counts as no failure, in milliseconds: a server may take it and end it again and again.
const LASTING: u64 = 250;

/// How far the connection is.
enum LinkStage {
    /// There is none before this time.
    Down { until: u64 },
    /// The server was asked, and is to answer until then.
    Connecting { socket: Socket, deadline: u64 },
    /// The server talks TLS, and is to have proven who it is until then.
    Handshaking { socket: Socket, identity: Identity, deadline: u64 },
    /// Octets go both ways.
    Up { socket: Socket, connection: Box<Connection>, unsent: Vec<u8>, sent: usize },
}

/// A connection, or the wait for the next one. Whoever owns it calls [`advance`](Self::advance) when it is woken, and takes the
/// [events](Self::next_event).
pub struct Link {
    settings: Rc<Settings>,
    /// What the connection is told.
    told: Rc<connection::Settings>,
    /// What the connection is made to; none while that is not known.
    host: Option<Rc<Host>>,
    stage: LinkStage,
    timer: Timer,
    backoff: Backoff,
    /// When the connection was ready for commands.
    ready: Option<u64>,
    events: VecDeque<Event>,
    /// Addresses that were tried.
    tried: usize,
    handler: Handler,
    owner: *mut c_void,
    buffer: Vec<u8>,
    random: fn() -> u64,
    /// When its owner wants to be called besides.
    wake_by: Option<u64>,
}

impl Link {
    /// A connection that is to be made once it has an [aim](Self::aim). `handler` is called with the `owner` of its events.
    pub fn new(
        settings: Rc<Settings>,
        told: Rc<connection::Settings>,
        handler: Handler,
        owner: *mut c_void,
        random: fn() -> u64,
    ) -> Self {
        let mut timer = Timer::of_worker(handler).cancelable();
        timer.set_owner(owner);
        Link {
            settings,
            told,
            host: None,
            stage: LinkStage::Down { until: 0 },
            timer,
            backoff: Backoff::default(),
            ready: None,
            events: VecDeque::new(),
            tried: 0,
            handler,
            owner,
            buffer: Vec::new(),
            random,
            wake_by: None,
        }
    }

    /// The connection is to be made to this server: the one to another server ends, for the reason that is given.
    pub fn aim(&mut self, host: &Rc<Host>, why: End) {
        if self.host.as_ref().is_some_and(|aim| aim == host) {
            return;
        }
        self.host = Some(Rc::clone(host));
        self.tried = 0;
        self.backoff.reset();
        match &self.stage {
            LinkStage::Up { .. } => self.end(why),
            LinkStage::Connecting { .. } | LinkStage::Handshaking { .. } => self.events.push_back(Event::Ended(why)),
            LinkStage::Down { .. } => {}
        }
        self.backoff.reset();
        self.stage = LinkStage::Down { until: 0 };
        self.timer.post_next();
    }

    /// What the connection is made to.
    pub fn host(&self) -> Option<&Rc<Host>> {
        self.host.as_ref()
    }

    /// The connection ends if there is one, and another one is made: to this server, after the wait that failures before have earned.
    pub fn go_on(&mut self, host: &Rc<Host>) {
        self.host = Some(Rc::clone(host));
        if !matches!(self.stage, LinkStage::Down { .. }) {
            // Nobody waits for anything of it.
            self.stage = LinkStage::Down { until: 0 };
            self.forgive();
        }
        self.events.clear();
        self.timer.post_next();
    }

    /// The owner is to be called at this time at the latest.
    pub fn wake_by(&mut self, time: Option<u64>) {
        self.wake_by = time;
    }

    /// The address of the server that it was last connected to, or is being.
    pub fn peer(&self) -> String {
        let Some(host) = &self.host else { return String::new() };
        let address = &host.addresses[self.tried.wrapping_sub(1) % host.addresses.len()];
        String::from_utf8_lossy(address.name.octets()).into_owned()
    }

    /// Whether commands are taken.
    pub fn is_ready(&self) -> bool {
        matches!(&self.stage, LinkStage::Up { connection, .. } if connection.is_ready())
    }

    /// Whether the connection is being made for the first time since it was lost, and may be there soon.
    pub fn is_hopeful(&self) -> bool {
        match &self.stage {
            // At time 0 nothing has failed yet.
            LinkStage::Down { until } => self.host.is_none() || *until == 0,
            LinkStage::Connecting { .. } | LinkStage::Handshaking { .. } => true,
            LinkStage::Up { connection, .. } => !connection.is_ready(),
        }
    }

    /// Octets that were asked for and have not left.
    pub fn backlog(&self) -> usize {
        match &self.stage {
            LinkStage::Up { connection, unsent, sent, .. } => unsent.len() - sent + connection.outgoing(),
            LinkStage::Down { .. } | LinkStage::Connecting { .. } | LinkStage::Handshaking { .. } => 0,
        }
    }

    /// The connection, while it is there. What was asked of it leaves with the next [`advance`](Self::advance).
    pub fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.stage {
            LinkStage::Up { connection, .. } => Some(connection),
            LinkStage::Down { .. } | LinkStage::Connecting { .. } | LinkStage::Handshaking { .. } => None,
        }
    }

    /// What has happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ends the connection, so that another one is made.
    pub fn renew(&mut self) {
        self.end(End::Closed);
    }

    /// The worker is to be called again once everything else of this turn was done.
    pub fn post(&mut self) {
        self.timer.post_next();
    }

    /// Goes on after an event, or after something was asked.
    pub fn advance(&mut self) {
        self.timer.take_expired();
        match &mut self.stage {
            LinkStage::Down { until } if *until > now() => {}
            LinkStage::Down { .. } => self.connect(),
            LinkStage::Connecting { .. } => self.finish_connecting(),
            LinkStage::Handshaking { socket, deadline, .. } => {
                if tls::is_over(socket) {
                    self.finish_handshake();
                } else if now() >= *deadline {
                    self.failed(End::Silent);
                }
            }
            LinkStage::Up { .. } => {}
        }
        self.exchange();
        self.arm();
    }

    fn connect(&mut self) {
        let Some(host) = &self.host else { return };
        let addresses = &host.addresses;
        let address = &addresses[self.tried % addresses.len()];
        self.tried = self.tried.wrapping_add(1);
        let (mut result, mut error) = (0, 0);
        // SAFETY: the address lives as long as the settings; ngx_cycle is set before workers begin, and has a log. nginx only
        // reads the address and its name, which is kept beside it.
        let socket = unsafe {
            let log = (*ffi::ngx_cycle).log;
            let mut name = address.name.as_nginx();
            let sockaddr = address.octets.as_ptr().cast_mut().cast();
            let length = address.octets.len() as ffi::socklen_t;
            let raw = ffi::ngx_ws_connect(sockaddr, length, &raw mut name, log, &raw mut result, &raw mut error);
            if raw.is_null() { None } else { Some(Socket::new(raw, log)) }
        };
        let Some(socket) = socket else { return self.failed(End::not_connected(error)) };
        socket.wake(self.owner, self.handler);
        let limit = self.settings.connect_timeout;
        // Where another one can be asked nobody waits long for this one.
        let limit = if self.told.purpose.needs_master() { limit } else { limit.min(SURVEY_LIMIT) };
        self.stage = LinkStage::Connecting { socket, deadline: now() + limit };
        if result == Status::OK {
            self.finish_connecting();
        }
    }

    /// No connection was made.
    fn failed(&mut self, why: End) {
        let wait = self.backoff.next((self.random)());
        self.stage = LinkStage::Down { until: now() + wait };
        self.events.push_back(Event::Ended(why));
    }

    fn finish_connecting(&mut self) {
        let LinkStage::Connecting { socket, deadline } = &self.stage else { return };
        if !socket.writable() {
            if now() >= *deadline {
                self.failed(End::Silent);
            }
            return;
        }
        if let Some(error) = socket.connect_error() {
            return self.failed(End::not_connected(error));
        }
        if !socket.no_delay() {
            return self.failed(End::Lost);
        }
        let deadline = *deadline;
        let LinkStage::Connecting { socket, .. } = std::mem::replace(&mut self.stage, LinkStage::Down { until: 0 })
        else {
            return;
        };
        let (Some(context), Some(host)) = (self.settings.tls, &self.host) else {
            return self.connected(socket, deadline);
        };
        let identity = self.settings.identity(host);
        match identity.begin(context, &socket, on_handshake) {
            Handshake::Waiting => self.stage = LinkStage::Handshaking { socket, identity, deadline },
            Handshake::Done => self.connected(socket, deadline),
            Handshake::Failed => self.failed(End::Lost),
        }
    }

    /// TLS has come to an end, one way or the other.
    fn finish_handshake(&mut self) {
        if let LinkStage::Handshaking { socket, identity, deadline } =
            std::mem::replace(&mut self.stage, LinkStage::Down { until: 0 })
        {
            match identity.finish(&socket) {
                Handshake::Done => self.connected(socket, deadline),
                Handshake::Waiting | Handshake::Failed => self.failed(End::Lost),
            }
        }
    }

    fn connected(&mut self, socket: Socket, deadline: u64) {
        // TLS has taken the events for its handshake.
        socket.wake(self.owner, self.handler);
        let connection = Connection::new(Rc::clone(&self.told), now(), deadline);
        self.stage = LinkStage::Up { socket, connection: Box::new(connection), unsent: Vec::new(), sent: 0 };
    }

    /// Reads what has come and writes what is to leave.
    fn exchange(&mut self) {
        let LinkStage::Up { socket, connection, unsent, sent } = &mut self.stage else { return };
        let mut lost = false;
        for _ in 0..READS {
            if !socket.readable() {
                break;
            }
            self.buffer.clear();
            match socket.append_to(&mut self.buffer, READ) {
                Received::Octets(_) => connection.receive(&self.buffer, now()),
                Received::Blocked => break,
                Received::End | Received::Lost => {
                    lost = true;
                    break;
                }
            }
        }
        connection.on_time(now());
        loop {
            if unsent.len() == *sent {
                *unsent = connection.take_outgoing();
                *sent = 0;
            }
            if unsent.is_empty() || lost {
                break;
            }
            match socket.send(&unsent[*sent..]) {
                Sent::Octets(count) => {
                    *sent += count;
                    connection.sent(count);
                }
                Sent::Blocked => break,
                Sent::Lost => lost = true,
            }
        }
        if !socket.is_tls() {
            // TLS may have to write in order to read.
            socket.wake_to_write((unsent.len() > *sent).then_some(self.handler));
        }
        lost |= !socket.watch();
        if socket.readable() && !lost {
            // There is more than one turn was to take.
            self.timer.post_next();
        }
        if lost {
            connection.end(End::Lost);
        }
        self.collect();
    }

    fn end(&mut self, end: End) {
        if let LinkStage::Up { connection, .. } = &mut self.stage {
            connection.end(end);
        }
        self.collect();
    }

    /// Takes the events of the connection over. With the last one it is closed.
    fn collect(&mut self) {
        let LinkStage::Up { connection, .. } = &mut self.stage else { return };
        let mut ended = false;
        while let Some(event) = connection.next_event() {
            match &event {
                Event::Ready(_) => self.ready = Some(now()),
                Event::Ended(_) => ended = true,
                _ => {}
            }
            self.events.push_back(event);
        }
        if ended {
            self.forgive();
            let wait = self.backoff.next((self.random)());
            self.stage = LinkStage::Down { until: now() + wait };
        }
    }

    /// A connection has ended: what has failed before it does not count any more where it has lasted.
    fn forgive(&mut self) {
        if self.ready.take().is_some_and(|ready| now() >= ready + LASTING) {
            self.backoff.reset();
        }
    }

    fn arm(&mut self) {
        let deadline = match &self.stage {
            LinkStage::Down { .. } if self.host.is_none() => None,
            LinkStage::Down { until } => Some(*until),
            LinkStage::Connecting { deadline, .. } | LinkStage::Handshaking { deadline, .. } => Some(*deadline),
            LinkStage::Up { connection, .. } => connection.deadline(),
        };
        let deadline = [deadline, self.wake_by].into_iter().flatten().min();
        match deadline {
            Some(deadline) => self.timer.arm(deadline.saturating_sub(now()).max(1)),
            None => self.timer.disarm(),
        }
    }
}

/// The handshake is over, one way or the other: nginx calls in place of the events of the connection.
unsafe extern "C" fn on_handshake(connection: *mut ffi::ngx_connection_t) {
    guard((), || {
        tls::ended(connection);
        // SAFETY: the connection lives, and its owner's handler is called as for any event of it.
        unsafe { super::on_event((*connection).read) };
    });
}
