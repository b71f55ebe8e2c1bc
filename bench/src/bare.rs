// SPDX-License-Identifier: Apache-2.0

//! What the bare servers share: accepting, the table of connections, the handshake.

use std::env;
use std::io::{self, Read};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use crate::link::Outbox;
use crate::sys::{self, Epoll, Event};
use crate::wire::{self, wrong};

/// The token of the listening socket.
const LISTENER: u64 = u64::MAX;

/// Connections by number. A number that was given back is used again in a later turn only, so that no event of this turn can reach
/// the wrong one.
pub struct Slots<T> {
    entries: Vec<Option<T>>,
    free: Vec<usize>,
    released: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), released: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Keeps `entry` and returns its number.
    pub fn insert(&mut self, entry: T) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.entries[index] = Some(entry);
                index
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() - 1
            }
        }
    }

    /// The connection with this number, if there still is one.
    pub fn get(&mut self, index: usize) -> Option<&mut T> {
        self.entries.get_mut(index)?.as_mut()
    }

    /// Takes the connection out.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        let entry = self.entries.get_mut(index)?.take();
        if entry.is_some() {
            self.released.push(index);
        }
        entry
    }

    /// No event of this turn is left.
    pub fn end_turn(&mut self) {
        self.free.append(&mut self.released);
    }
}

/// What a bare server does with its connections.
pub trait Service {
    /// The server begins.
    ///
    /// # Errors
    /// When it cannot.
    fn begin(&mut self, _epoll: &Epoll) -> io::Result<()> {
        Ok(())
    }

    /// A client has connected.
    ///
    /// # Errors
    /// When the server cannot go on.
    fn accept(&mut self, stream: TcpStream, epoll: &Epoll) -> io::Result<()>;

    /// The descriptor registered under `token` is ready for `events`.
    ///
    /// # Errors
    /// When the server cannot go on.
    fn ready(&mut self, token: u64, events: u32, epoll: &Epoll) -> io::Result<()>;

    /// All events of this turn are done. Returns how soon to be called again at the latest.
    ///
    /// # Errors
    /// When the server cannot go on.
    fn end_turn(&mut self, epoll: &Epoll) -> io::Result<Option<Duration>>;
}

/// The address in the first argument.
///
/// # Errors
/// When there is none.
pub fn argument(at: usize) -> io::Result<String> {
    env::args().nth(at).ok_or_else(|| wrong(format!("argument {at} is missing")))
}

/// Parses an address argument.
///
/// # Errors
/// When it is not an IPv4 address with a port.
pub fn address(argument: &str) -> io::Result<SocketAddrV4> {
    argument.parse().map_err(|_| wrong(format!("not an address: {argument}")))
}

/// Listens on `address` and serves until the process is ended.
///
/// # Errors
/// What the service reports, and what the system does.
pub fn serve(address: SocketAddrV4, service: &mut impl Service) -> io::Result<()> {
    // A peer that has gone is an error of write(2) here: the standard library ignores SIGPIPE.
    let listener = sys::listen(address)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, sys::IN, LISTENER)?;
    service.begin(&epoll)?;
    let mut events: Vec<Event> = Vec::with_capacity(512);
    let mut timeout = None;
    loop {
        epoll.wait(&mut events, timeout)?;
        for event in &events {
            if event.u64 == LISTENER {
                accept_all(&listener, &epoll, service)?;
            } else {
                service.ready(event.u64, event.events, &epoll)?;
            }
        }
        timeout = service.end_turn(&epoll)?;
    }
}

fn accept_all(listener: &TcpListener, epoll: &Epoll, service: &mut impl Service) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                service.accept(stream, epoll)?;
            }
            Err(error) if wire::would_wait(&error) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// That many octets.
    Octets(usize),
    /// Nothing yet.
    Nothing,
    /// The peer is gone.
    End,
}

/// Reads once. An error of the connection is its end.
pub fn read(mut from: impl Read, buffer: &mut [u8]) -> Input {
    match from.read(buffer) {
        Ok(0) => Input::End,
        Ok(count) => Input::Octets(count),
        Err(error) if wire::would_wait(&error) => Input::Nothing,
        Err(_) => Input::End,
    }
}

/// The opening handshake of a client: the request's head until it is complete.
#[derive(Default)]
pub struct Handshake {
    head: Vec<u8>,
}

impl Handshake {
    /// Takes octets; when the head is complete, the request target and the octets after the head.
    ///
    /// # Errors
    /// When it is not the handshake of [`wire::handshake`].
    pub fn take(&mut self, input: &[u8]) -> io::Result<Option<(String, Vec<u8>)>> {
        self.head.extend_from_slice(input);
        let Some(length) = wire::head_length(&self.head) else { return Ok(None) };
        let rest = self.head.split_off(length);
        let head = str::from_utf8(&self.head).map_err(|_| wrong("head"))?;
        if wire::header(head, "Sec-WebSocket-Key") != Some(wire::KEY) {
            return Err(wrong("not the benchmark's handshake"));
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        Ok(Some((target, rest)))
    }
}

/// Which way data flows, when one side may not read because the other cannot write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest(pub u32);

impl Interest {
    /// Registers a change: read only while `other` is empty, write while `own` is not.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub fn update(
        &mut self,
        epoll: &Epoll,
        fd: &impl std::os::fd::AsFd,
        token: u64,
        own: &Outbox,
        other: &Outbox,
    ) -> io::Result<()> {
        let read = if other.is_empty() { sys::IN } else { 0 };
        let write = if own.is_empty() { 0 } else { sys::OUT };
        let wanted = Self(read | write);
        if *self != wanted {
            *self = wanted;
            epoll.modify(fd, wanted.0, token)?;
        }
        Ok(())
    }
}
