// SPDX-License-Identifier: Apache-2.0

//! What a location is connected to, and what answers its other requests.

use std::rc::Rc;

use super::{ChannelMode, Compiler, Settings};

/// Channels of a location: `websocket_channel`.
#[derive(Clone)]
pub struct Channel<T> {
    /// Their ids.
    pub ids: Rc<[T]>,
    /// The ids of those that are published to, if they are others.
    pub publish: Option<Rc<[T]>>,
    /// What clients may do.
    pub mode: ChannelMode,
}

/// One program for all clients of a channel: `websocket_exec` and `websocket_channel` of one location.
#[derive(Clone)]
pub struct Shared<T> {
    /// The program and its arguments.
    pub program: Rc<[T]>,
    /// The channel that gets what it says.
    pub channel: Channel<T>,
}

/// What answers requests that ask for no WebSocket: `websocket_cgi`, `websocket_cgi_dir`.
#[derive(Clone)]
pub enum Cgi<T> {
    /// A program for each of them: the program and its arguments.
    Program(Rc<[T]>),
    /// A program for each of them, which the path picks in this directory.
    Directory(T),
}

impl<T> Cgi<T> {
    /// The value of `$websocket_endpoint`.
    pub const NAME: &str = "cgi";

    /// The directive that says so.
    pub fn directive(&self) -> &'static str {
        match self {
            Cgi::Program(_) => "websocket_cgi",
            Cgi::Directory(_) => "websocket_cgi_dir",
        }
    }
}

/// What a location is connected to.
pub enum EndpointSettings<C: Compiler> {
    /// Channels in shared memory.
    Channel(Channel<C::Template>),
    /// One program per connection: the program and its arguments.
    Exec(Rc<[C::Template]>),
    /// One program per connection, which the path picks in this directory.
    ExecDir(C::Template),
    /// One program for all clients of a channel.
    Shared(Shared<C::Template>),
    /// One connection to a service per connection.
    Tcp(C::Service),
}

// Derived, it would ask for a compiler that can be cloned.
impl<C: Compiler> Clone for EndpointSettings<C> {
    fn clone(&self) -> Self {
        match self {
            EndpointSettings::Channel(channel) => EndpointSettings::Channel(channel.clone()),
            EndpointSettings::Exec(words) => EndpointSettings::Exec(Rc::clone(words)),
            EndpointSettings::ExecDir(directory) => EndpointSettings::ExecDir(directory.clone()),
            EndpointSettings::Shared(shared) => EndpointSettings::Shared(shared.clone()),
            EndpointSettings::Tcp(service) => EndpointSettings::Tcp(service.clone()),
        }
    }
}

impl<C: Compiler> EndpointSettings<C> {
    /// The directive that names this endpoint.
    pub fn directive(&self) -> &'static str {
        match self {
            EndpointSettings::Channel(_) => "websocket_channel",
            EndpointSettings::Exec(_) | EndpointSettings::Shared(_) => "websocket_exec",
            EndpointSettings::ExecDir(_) => "websocket_exec_dir",
            EndpointSettings::Tcp(_) => "websocket_tcp",
        }
    }

    /// Whether everything that it answers takes the connection of a client. Channels can also be published to, polled and
    /// asked about.
    pub fn needs_connection(&self) -> bool {
        match self {
            EndpointSettings::Channel(_) | EndpointSettings::Shared(_) => false,
            EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_) | EndpointSettings::Tcp(_) => true,
        }
    }

    /// The value of `$websocket_endpoint`.
    pub fn name(&self) -> &'static str {
        match self {
            EndpointSettings::Channel(_) => "channel",
            EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_) | EndpointSettings::Shared(_) => "exec",
            EndpointSettings::Tcp(_) => "tcp",
        }
    }
}

impl<C: Compiler> Settings<C> {
    /// The channels of the location, if it has any.
    pub fn channel(&self) -> Option<&Channel<C::Template>> {
        match &self.endpoint {
            Some(EndpointSettings::Channel(channel) | EndpointSettings::Shared(Shared { channel, .. })) => {
                Some(channel)
            }
            Some(EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_) | EndpointSettings::Tcp(_)) | None => None,
        }
    }

    /// Bound on one assembled message in octets, 0 for none. A service gets the octets of a message as they arrive: nothing of
    /// it is kept, so that there is nothing to bound unless the administrator says so.
    pub fn max_message_size(&self) -> u64 {
        match (&self.endpoint, self.message_limit) {
            (Some(EndpointSettings::Tcp(_)), None) => 0,
            (_, None) | (_, Some(_)) => self.message_limit(),
        }
    }

    /// Whether the location starts programs.
    pub fn has_program(&self) -> bool {
        match &self.endpoint {
            Some(EndpointSettings::Exec(_) | EndpointSettings::ExecDir(_) | EndpointSettings::Shared(_)) => true,
            Some(EndpointSettings::Channel(_) | EndpointSettings::Tcp(_)) | None => self.cgi.is_some(),
        }
    }

    /// Under which name the location is counted, if it is: that of what its WebSockets are connected to, else of what answers its
    /// other requests.
    pub fn counted_as(&self) -> Option<&'static str> {
        let cgi = self.cgi.as_ref().map(|_| Cgi::<C::Template>::NAME);
        self.endpoint.as_ref().map(EndpointSettings::name).or(cgi)
    }

    /// Whether what answers its requests is a program on a terminal.
    pub fn has_terminal(&self) -> bool {
        self.has_program() && self.exec_pty()
    }

    /// Whether this level itself says something of how programs are started: those that were started ahead for the level
    /// above are others then.
    pub fn says_how_to_start(&self) -> bool {
        self.exec_pool.is_some()
            || self.exec_env.is_some()
            || self.exec_cwd.is_some()
            || self.exec_limit.is_some()
            || self.exec_user.is_some()
            || self.exec_stderr.is_some()
            || self.exec_notes.is_some()
            || self.exec_notes_limit.is_some()
            || self.exec_pty.is_some()
            || self.exec_stop.is_some()
    }

    /// Whether a POST starts the program that the clients of its channel share, and nobody else does.
    pub fn has_requested_runs(&self) -> bool {
        self.exec_request() && self.shared_program().is_some()
    }

    /// The program that the clients of its channel share, if they do.
    pub fn shared_program(&self) -> Option<&[C::Template]> {
        match &self.endpoint {
            Some(EndpointSettings::Shared(shared)) => Some(&shared.program),
            Some(
                EndpointSettings::Channel(_)
                | EndpointSettings::Exec(_)
                | EndpointSettings::ExecDir(_)
                | EndpointSettings::Tcp(_),
            )
            | None => None,
        }
    }
}
