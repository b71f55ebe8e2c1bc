// SPDX-License-Identifier: Apache-2.0

//! The servers of a service, as nginx's balancers give them out.

use std::ptr::NonNull;

use super::address::{Group, Resolved};
use super::socket::Socket;
use crate::nginx::ffi;
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::{HeldRequest, Request, bytes};
use crate::nginx::session::{self, SessionRef};
use crate::nginx::status::Status;
use crate::nginx::timer::now;

/// What nginx knows of the connection of a request to its service: the state of the balancer, and what the `$upstream_…`
/// variables say. The server that was chosen is given back on drop.
pub struct Peer {
    request: HeldRequest,
    upstream: NonNull<ffi::ngx_http_upstream_t>,
    /// How long servers are tried one after the other, in milliseconds; 0 for no limit.
    limit: u64,
    /// Octets that the server got, for the variables.
    pub sent: u64,
    /// Octets that the server sent, for the variables.
    pub received: u64,
}

/// What became of a connect.
pub enum Connect {
    /// The connection is being made; or it is there, and the socket is told of it all the same.
    Begun(Socket),
    /// This server does not take it.
    Refused,
    /// No server of the group can be used at this time.
    NoServer,
    /// The failure is our own, and nginx has logged it.
    Failed,
}

/// Makes servers of one address or of those that the resolver has found. `false` when there is no memory.
pub fn know_servers(request: Request<'_>, resolved: Resolved) -> bool {
    // SAFETY: the request has the upstream that Peer::new() made; nginx copies what does not live as long as the request.
    unsafe { ffi::ngx_http_upstream_create_round_robin_peer(request.raw(), resolved.raw()) == Status::OK }
}

/// The time by which an upstream counts.
fn clock() -> ffi::ngx_msec_t {
    now() as ffi::ngx_msec_t
}

impl Peer {
    /// For a request that begins to connect. `None` when there is no memory.
    pub fn new(request: Request<'_>) -> Option<Self> {
        const SCHEMA: &[u8] = b"tcp://";
        // SAFETY: the request lives, and is held by the session that has the peer; everything is allocated in its pool.
        unsafe {
            let raw = request.raw();
            if ffi::ngx_http_upstream_create(raw) != Status::OK {
                return None;
            }
            let upstream = NonNull::new((*raw).upstream)?;
            (*upstream.as_ptr()).conf = ffi::ngx_ws_upstream_conf();
            (*upstream.as_ptr()).schema = ffi::ngx_str_t { len: SCHEMA.len(), data: SCHEMA.as_ptr().cast_mut() };
            // Nobody else notices a service whose machine has gone.
            (*upstream.as_ptr()).peer.set_so_keepalive(1);
            let mut peer = Peer { request: request.held(), upstream, limit: 0, sent: 0, received: 0 };
            if (*raw).upstream_states.is_null() {
                (*raw).upstream_states =
                    ffi::ngx_array_create((*raw).pool, 1, size_of::<ffi::ngx_http_upstream_state_t>());
                if (*raw).upstream_states.is_null() {
                    return None;
                }
            } else if !peer.push_state() {
                // The request was connected to something else before; the variables have a colon between the two.
                return None;
            }
            Some(peer)
        }
    }

    fn upstream(&mut self) -> &mut ffi::ngx_http_upstream_t {
        // SAFETY: in the pool of the request, which outlives the session; nginx does not look at it meanwhile.
        unsafe { self.upstream.as_mut() }
    }

    /// Takes the servers of a group, by its balancer. `false` when that refuses.
    pub fn use_group(&mut self, group: Group) -> bool {
        self.upstream().upstream = group.raw();
        // SAFETY: nginx has set the function when all of the configuration was read.
        unsafe {
            let Some(init) = (*group.raw()).peer.init else { return false };
            init(self.request.get().raw(), group.raw()) == Status::OK
        }
    }

    /// Connections come from this address of the machine. A text that is none is logged, and the system chooses, as nginx does it.
    /// `false` when there is no memory.
    pub fn bind(&mut self, text: &[u8]) -> bool {
        let request = self.request.get();
        let Some(mut name) = request.copy(text) else { return false };
        // SAFETY: the request lives; what is allocated is in its pool, in which the address stays as long as the peer.
        unsafe {
            let pool = (*request.raw()).pool;
            let address = ffi::ngx_pcalloc(pool, size_of::<ffi::ngx_addr_t>()).cast::<ffi::ngx_addr_t>();
            if address.is_null() {
                return false;
            }
            match Status::of(ffi::ngx_parse_addr_port(pool, address, name.data, name.len)) {
                Status::OK => {
                    std::mem::swap(&mut (*address).name, &mut name);
                    self.upstream().peer.local = address;
                }
                Status::DECLINED => {
                    let text =
                        format_args!("\"websocket_tcp_bind\" has no address for this request: \"{}\"", Octets(text));
                    request.report(Level::Error, text);
                }
                _ => return false,
            }
        }
        true
    }

    /// Begins to count: at most so many servers are tried, 0 for all, and for so many milliseconds, 0 for ever.
    pub fn begin(&mut self, tries: usize, limit: u64) {
        self.limit = limit;
        let peer = &mut self.upstream().peer;
        peer.start_time = clock();
        if tries != 0 {
            peer.tries = peer.tries.min(tries);
        }
    }

    /// Connects to the next server. Events of the socket go to the session.
    pub fn connect(&mut self, session: SessionRef) -> Connect {
        if !self.push_state() {
            return Connect::Failed;
        }
        let upstream = self.upstream();
        upstream.start_time = clock();
        // A server's connection that was kept for HTTP is none for this service: another one is made.
        loop {
            // SAFETY: the balancer was set by use_group() or know_servers().
            let result = Status::of(unsafe { ffi::ngx_event_connect_peer(&raw mut self.upstream().peer) });
            if !self.remember_name() {
                return Connect::Failed;
            }
            let upstream = self.upstream();
            let connection = std::mem::replace(&mut upstream.peer.connection, std::ptr::null_mut());
            match result {
                Status::OK | Status::AGAIN if !connection.is_null() => {
                    let socket = Socket::new(connection, self.request.get().log());
                    socket.wake(session.as_ptr().cast(), session::on_endpoint);
                    if result == Status::OK {
                        socket.post();
                    }
                    return Connect::Begun(socket);
                }
                Status::DONE if !connection.is_null() => {
                    drop(Socket::new(connection, self.request.get().log()));
                    let tries = self.upstream().peer.tries;
                    self.give_back(0);
                    self.upstream().peer.tries = tries;
                }
                Status::DECLINED => return Connect::Refused,
                Status::BUSY => return Connect::NoServer,
                _ => return Connect::Failed,
            }
        }
    }

    /// The server did not take the connection. Whether another one may be tried.
    pub fn failed(&mut self, status: Status) -> bool {
        if let Some(state) = self.state() {
            state.status = status.answer().map_or(0, usize::from);
        }
        self.give_back(ffi::NGX_PEER_FAILED as usize);
        let limit = self.limit;
        let peer = &self.upstream().peer;
        let taken = clock().wrapping_sub(peer.start_time);
        peer.tries > 0 && (limit == 0 || u64::try_from(taken).is_ok_and(|taken| taken < limit))
    }

    /// Whether the server that was chosen is a unix socket.
    pub fn is_unix(&self) -> bool {
        // SAFETY: in the pool of the request; the address is that of the chosen server until that is given back.
        unsafe {
            let address = self.upstream.as_ref().peer.sockaddr;
            !address.is_null() && i32::from((*address).sa_family) == libc::AF_UNIX
        }
    }

    /// The connection is there.
    pub fn connected(&mut self) {
        let start = self.upstream().start_time;
        if let Some(state) = self.state() {
            state.connect_time = clock().wrapping_sub(start);
        }
    }

    fn state(&mut self) -> Option<&mut ffi::ngx_http_upstream_state_t> {
        // SAFETY: in an array in the pool of the request; a pointer to its last element is renewed whenever it grows.
        unsafe { self.upstream().state.as_mut() }
    }

    /// Begins a place in the variables for the next server.
    fn push_state(&mut self) -> bool {
        self.finish_state();
        // SAFETY: new() has made the array; all zeroes is a state.
        unsafe {
            let state = ffi::ngx_array_push((*self.request.get().raw()).upstream_states)
                .cast::<ffi::ngx_http_upstream_state_t>();
            if state.is_null() {
                return false;
            }
            state.write(std::mem::zeroed());
            // nginx's sign for "not known".
            (*state).response_time = usize::MAX;
            (*state).connect_time = usize::MAX;
            (*state).header_time = usize::MAX;
            self.upstream().state = state;
        }
        true
    }

    fn finish_state(&mut self) {
        let (sent, received) = (self.sent.cast_signed(), self.received.cast_signed());
        let start = self.upstream().start_time;
        if let Some(state) = self.state()
            && state.response_time == usize::MAX
        {
            state.response_time = clock().wrapping_sub(start);
            state.bytes_sent = sent;
            state.bytes_received = received;
            state.response_length = received;
        }
    }

    /// Keeps the server's name: a server of a group in shared memory may be gone before the request is logged.
    fn remember_name(&mut self) -> bool {
        let request = self.request.get();
        // SAFETY: the balancer has set the name to that of its server, or left it; the upstream is in the pool of the request.
        unsafe {
            let upstream = self.upstream.as_mut();
            let Some(name) = upstream.peer.name.as_ref() else { return true };
            let Some(copy) = request.copy(bytes(name)) else { return false };
            let kept = ffi::ngx_palloc((*request.raw()).pool, size_of::<ffi::ngx_str_t>()).cast::<ffi::ngx_str_t>();
            if kept.is_null() {
                return false;
            }
            kept.write(copy);
            upstream.peer.name = kept;
            if let Some(state) = self.state() {
                state.peer = kept;
            }
        }
        true
    }

    /// Tells the balancer that its server is not used any more.
    fn give_back(&mut self, state: usize) {
        let peer = &mut self.upstream().peer;
        if peer.sockaddr.is_null() {
            return;
        }
        // SAFETY: the server was got from this balancer and not given back yet.
        unsafe {
            if let Some(free) = peer.free {
                free(&raw mut *peer, peer.data, state);
            }
        }
        peer.sockaddr = std::ptr::null_mut();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.finish_state();
        self.give_back(0);
        // SAFETY: who has the peer holds the request.
        unsafe {
            let raw = self.request.get().raw();
            if (*raw).upstream == self.upstream.as_ptr() {
                (*raw).upstream = std::ptr::null_mut();
            }
        }
    }
}
