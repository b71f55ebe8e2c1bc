// SPDX-License-Identifier: Apache-2.0

//! A WebSocket server that writes each published message to the subscribers of its channel, and nothing else: the limit for
//! channels. What was published in one turn of the event loop leaves in one write for each subscriber.
//!
//! `bare-fanout ADDRESS`; subscribe at `/sub/<channel>`, publish by `POST /pub/<channel>`. With the address of a Redis as the second
//! argument it is one node of several: what is published goes through the script by which the module publishes.

use std::collections::HashMap;
use std::env;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use ngx_ws_exec_bench::bare::{self, Input, Service, Slots};
use ngx_ws_exec_bench::engine::{Engine, News};
use ngx_ws_exec_bench::link::Outbox;
use ngx_ws_exec_bench::sys::{self, Epoll};
use ngx_ws_exec_bench::wire::{self, TEXT, wrong};

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    out: Outbox,
    channel: Option<String>,
    waits_to_write: bool,
}

#[derive(Default)]
struct Channel {
    subscribers: Vec<usize>,
    /// Frames that were published in this turn.
    ready: Vec<u8>,
}

#[derive(Default)]
struct Fanout {
    connections: Slots<Connection>,
    channels: HashMap<String, Channel>,
    published: Vec<String>,
    engine: Option<Engine>,
    buffer: Vec<u8>,
}

const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

impl Connection {
    fn flush(&mut self, index: usize, epoll: &Epoll) -> io::Result<bool> {
        let Ok(done) = self.out.flush(&self.stream) else { return Ok(false) };
        if self.waits_to_write == done {
            self.waits_to_write = !done;
            let interest = if done { sys::IN } else { sys::IN | sys::OUT };
            epoll.modify(&self.stream, interest, index as u64)?;
        }
        Ok(true)
    }
}

impl Fanout {
    /// Takes the requests out of what a connection has sent.
    fn requests(&mut self, index: usize) -> io::Result<()> {
        while let Some(connection) = self.connections.get(index) {
            if connection.channel.is_some() {
                // Frames of a subscriber say nothing here.
                connection.input.clear();
                return Ok(());
            }
            let Some(length) = wire::head_length(&connection.input) else { return Ok(()) };
            let head = str::from_utf8(&connection.input[..length]).map_err(|_| wrong("head"))?;
            let target = head.split(' ').nth(1).unwrap_or_default();
            if let Some(name) = target.strip_prefix("/sub/").map(str::to_owned) {
                connection.out.octets.extend_from_slice(&wire::handshake_answer());
                connection.channel = Some(name.clone());
                connection.input.drain(..length);
                let channel = self.channels.entry(name.clone()).or_default();
                if channel.subscribers.is_empty()
                    && let Some(engine) = &mut self.engine
                {
                    engine.subscribe(&name);
                }
                channel.subscribers.push(index);
                continue;
            }
            let name = target.strip_prefix("/pub/").ok_or_else(|| wrong("target"))?.to_owned();
            let body = wire::header(head, "Content-Length").and_then(|value| value.parse::<usize>().ok());
            let end = length + body.unwrap_or(0);
            let Some(body) = connection.input.get(length..end) else { return Ok(()) };
            match &mut self.engine {
                Some(engine) => engine.publish(&name, body, index),
                None => {
                    send(&mut self.channels, &mut self.published, name, body);
                    connection.out.octets.extend_from_slice(CREATED);
                }
            }
            connection.input.drain(..end);
        }
        Ok(())
    }

    /// What has come from the engine.
    fn news(&mut self, token: u64, epoll: &Epoll) -> io::Result<()> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        for news in engine.receive(token, &mut self.buffer)? {
            match news {
                // Publishers of the benchmark stay until they have their answers.
                News::Published(index) => {
                    if let Some(connection) = self.connections.get(index) {
                        connection.out.octets.extend_from_slice(CREATED);
                        connection.flush(index, epoll)?;
                    }
                }
                News::Message(name, body) => send(&mut self.channels, &mut self.published, name, &body),
            }
        }
        Ok(())
    }

    fn remove(&mut self, index: usize) {
        let Some(connection) = self.connections.remove(index) else { return };
        let Some(channel) = connection.channel.and_then(|name| self.channels.get_mut(&name)) else { return };
        if let Some(at) = channel.subscribers.iter().position(|&subscriber| subscriber == index) {
            channel.subscribers.swap_remove(at);
        }
    }
}

/// The message leaves at the end of this turn.
fn send(channels: &mut HashMap<String, Channel>, published: &mut Vec<String>, name: String, body: &[u8]) {
    let channel = channels.entry(name.clone()).or_default();
    if channel.ready.is_empty() {
        published.push(name);
    }
    wire::write_plain(TEXT, body, &mut channel.ready);
}

impl Service for Fanout {
    fn begin(&mut self, epoll: &Epoll) -> io::Result<()> {
        self.engine.as_ref().map_or(Ok(()), |engine| engine.watch(epoll))
    }

    fn accept(&mut self, stream: TcpStream, epoll: &Epoll) -> io::Result<()> {
        let index = self.connections.insert(Connection {
            stream,
            input: Vec::new(),
            out: Outbox::default(),
            channel: None,
            waits_to_write: false,
        });
        match self.connections.get(index) {
            Some(connection) => epoll.add(&connection.stream, sys::IN, index as u64),
            None => Ok(()),
        }
    }

    fn ready(&mut self, token: u64, events: u32, epoll: &Epoll) -> io::Result<()> {
        if Engine::is_token(token) {
            return self.news(token, epoll);
        }
        let index = token as usize;
        let Some(connection) = self.connections.get(index) else { return Ok(()) };
        let mut alive = true;
        if events & !sys::OUT != 0 {
            match bare::read(&connection.stream, &mut self.buffer) {
                Input::Octets(count) => {
                    connection.input.extend_from_slice(&self.buffer[..count]);
                    self.requests(index)?;
                }
                Input::Nothing => {}
                Input::End => alive = false,
            }
        }
        if let Some(connection) = self.connections.get(index) {
            alive = alive && connection.flush(index, epoll)?;
        }
        if !alive {
            self.remove(index);
        }
        Ok(())
    }

    fn end_turn(&mut self, epoll: &Epoll) -> io::Result<Option<Duration>> {
        self.connections.end_turn();
        for name in self.published.drain(..) {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            for &index in &channel.subscribers {
                let Some(connection) = self.connections.get(index) else { continue };
                let mut ready = channel.ready.as_slice();
                if connection.out.is_empty()
                    && let Ok(written) = io::Write::write(&mut &connection.stream, ready)
                {
                    ready = &ready[written..];
                }
                if !ready.is_empty() {
                    connection.out.octets.extend_from_slice(ready);
                    // A connection that has failed is removed when its end is read.
                    connection.flush(index, epoll)?;
                }
            }
            channel.ready.clear();
        }
        // As the module does: one write for the commands of a turn.
        self.engine.as_mut().map_or(Ok(()), Engine::flush)?;
        Ok(None)
    }
}

fn main() -> io::Result<()> {
    let address = bare::address(&bare::argument(1)?)?;
    let engine = match env::args().nth(2) {
        Some(engine) => Some(Engine::connect(bare::address(&engine)?)?),
        None => None,
    };
    bare::serve(address, &mut Fanout { buffer: vec![0; 64 * 1024], engine, ..Fanout::default() })
}
