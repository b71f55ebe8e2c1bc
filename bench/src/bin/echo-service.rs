// SPDX-License-Identifier: Apache-2.0

//! A TCP service that returns what it is sent: what the bridges are measured with.
//!
//! `echo-service ADDRESS`

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use ngx_ws_exec_bench::bare::{self, Input, Interest, Service, Slots};
use ngx_ws_exec_bench::link::Outbox;
use ngx_ws_exec_bench::sys::{self, Epoll};

struct Connection {
    stream: TcpStream,
    out: Outbox,
    interest: Interest,
}

struct Echo {
    connections: Slots<Connection>,
    buffer: Vec<u8>,
}

impl Service for Echo {
    fn accept(&mut self, stream: TcpStream, epoll: &Epoll) -> io::Result<()> {
        let connection = Connection { stream, out: Outbox::default(), interest: Interest(sys::IN) };
        let index = self.connections.insert(connection);
        match self.connections.get(index) {
            Some(connection) => epoll.add(&connection.stream, sys::IN, index as u64),
            None => Ok(()),
        }
    }

    fn ready(&mut self, token: u64, _events: u32, epoll: &Epoll) -> io::Result<()> {
        let index = token as usize;
        let Some(Connection { stream, out, interest }) = self.connections.get(index) else { return Ok(()) };
        let mut alive = true;
        if out.is_empty() {
            match bare::read(&*stream, &mut self.buffer) {
                Input::Octets(count) => out.octets.extend_from_slice(&self.buffer[..count]),
                Input::Nothing => {}
                Input::End => alive = false,
            }
        }
        alive &= out.flush(&*stream).is_ok();
        if alive {
            // What is not taken back stops the reading.
            interest.update(epoll, stream, token, out, out)
        } else {
            self.connections.remove(index);
            Ok(())
        }
    }

    fn end_turn(&mut self, _epoll: &Epoll) -> io::Result<Option<Duration>> {
        self.connections.end_turn();
        Ok(None)
    }
}

fn main() -> io::Result<()> {
    let address = bare::address(&bare::argument(1)?)?;
    bare::serve(address, &mut Echo { connections: Slots::default(), buffer: vec![0; 256 * 1024] })
}
