// SPDX-License-Identifier: Apache-2.0

//! A WebSocket server that passes octets between each client and a TCP service, and nothing else: the limit for services.
//!
//! `bare-bridge ADDRESS SERVICE`

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use ngx_ws_exec_bench::bare::{self, Handshake, Input, Interest, Service, Slots};
use ngx_ws_exec_bench::link::{Outbox, Reader};
use ngx_ws_exec_bench::sys::{self, Epoll};
use ngx_ws_exec_bench::wire::{self, BINARY, CLOSE, Header, TEXT, wrong};

/// The lowest bit of a token says which side is ready.
const CLIENT: u64 = 0;
const SERVICE: u64 = 1;

struct Session {
    client: TcpStream,
    service: Option<TcpStream>,
    client_interest: Interest,
    service_interest: Interest,
    handshake: Handshake,
    reader: Reader,
    to_client: Outbox,
    to_service: Outbox,
    closed: bool,
}

struct Bridge {
    target: SocketAddrV4,
    sessions: Slots<Session>,
    buffer: Vec<u8>,
}

impl Session {
    fn client_input(&mut self, input: &[u8]) -> io::Result<()> {
        let Self { reader, to_service, to_client, closed, .. } = self;
        reader.feed(input, |piece| {
            let Some(mask) = piece.frame.mask else { return Err(wrong("not masked")) };
            match piece.frame.opcode {
                0 | TEXT | BINARY => {
                    let out = &mut to_service.octets;
                    let start = out.len();
                    out.extend_from_slice(piece.data);
                    wire::apply_mask(&mut out[start..], mask, piece.offset);
                }
                CLOSE if !*closed => {
                    wire::write_plain(CLOSE, &[], &mut to_client.octets);
                    *closed = true;
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn read_client(&mut self, token: u64, target: SocketAddrV4, buffer: &mut [u8], epoll: &Epoll) -> io::Result<()> {
        match bare::read(&self.client, buffer) {
            Input::Octets(count) if self.service.is_some() => self.client_input(&buffer[..count]),
            Input::Octets(count) => {
                let Some((_, early)) = self.handshake.take(&buffer[..count])? else { return Ok(()) };
                let service = sys::connect(Ipv4Addr::LOCALHOST, target)?;
                service.set_nonblocking(true)?;
                epoll.add(&service, sys::IN, token + SERVICE)?;
                self.service = Some(service);
                self.to_client.octets.extend_from_slice(&wire::handshake_answer());
                self.client_input(&early)
            }
            Input::Nothing => Ok(()),
            Input::End => {
                self.closed = true;
                Ok(())
            }
        }
    }

    fn read_service(&mut self, buffer: &mut [u8]) {
        let Some(service) = &self.service else { return };
        match bare::read(service, buffer) {
            Input::Octets(count) => {
                let frame = Header { opcode: BINARY, fin: true, compressed: false, mask: None, length: count };
                frame.write(&mut self.to_client.octets);
                self.to_client.octets.extend_from_slice(&buffer[..count]);
            }
            Input::Nothing => {}
            Input::End => self.closed = true,
        }
    }

    fn flush(&mut self, token: u64, epoll: &Epoll) -> io::Result<()> {
        self.closed |= self.to_client.flush(&self.client).is_err();
        if let Some(service) = &self.service {
            self.closed |= self.to_service.flush(service).is_err();
            self.service_interest.update(epoll, service, token + SERVICE, &self.to_service, &self.to_client)?;
        }
        self.client_interest.update(epoll, &self.client, token + CLIENT, &self.to_client, &self.to_service)
    }
}

impl Service for Bridge {
    fn accept(&mut self, client: TcpStream, epoll: &Epoll) -> io::Result<()> {
        let index = self.sessions.insert(Session {
            client,
            service: None,
            client_interest: Interest(sys::IN),
            service_interest: Interest(sys::IN),
            handshake: Handshake::default(),
            reader: Reader::default(),
            to_client: Outbox::default(),
            to_service: Outbox::default(),
            closed: false,
        });
        match self.sessions.get(index) {
            Some(session) => epoll.add(&session.client, sys::IN, index as u64 * 2 + CLIENT),
            None => Ok(()),
        }
    }

    fn ready(&mut self, token: u64, _events: u32, epoll: &Epoll) -> io::Result<()> {
        let index = (token / 2) as usize;
        let Some(session) = self.sessions.get(index) else { return Ok(()) };
        let first = index as u64 * 2;
        if token % 2 == CLIENT && session.to_service.is_empty() {
            session.read_client(first, self.target, &mut self.buffer, epoll)?;
        } else if token % 2 == SERVICE && session.to_client.is_empty() {
            session.read_service(&mut self.buffer);
        }
        session.flush(first, epoll)?;
        if session.closed {
            self.sessions.remove(index);
        }
        Ok(())
    }

    fn end_turn(&mut self, _epoll: &Epoll) -> io::Result<Option<Duration>> {
        self.sessions.end_turn();
        Ok(None)
    }
}

fn main() -> io::Result<()> {
    let address = bare::address(&bare::argument(1)?)?;
    let target = bare::address(&bare::argument(2)?)?;
    bare::serve(address, &mut Bridge { target, sessions: Slots::default(), buffer: vec![0; 128 * 1024] })
}
