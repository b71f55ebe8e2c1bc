// SPDX-License-Identifier: Apache-2.0

//! A WebSocket server that runs one program per connection and nothing else: the limit for programs.
//!
//! `bare-exec ADDRESS lines|bytes|messages PROGRAM [ARGUMENT ...]`

use std::env;
use std::io;
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use ngx_ws_exec_bench::bare::{self, Handshake, Input, Interest, Service, Slots};
use ngx_ws_exec_bench::link::{Outbox, Reader};
use ngx_ws_exec_bench::sys::{self, Epoll};
use ngx_ws_exec_bench::wire::{self, BINARY, CLOSE, TEXT, wrong};

#[derive(Clone, Copy)]
enum Format {
    Lines,
    Bytes,
    Messages,
}

/// The lowest bits of a token say which of a session's descriptors is ready.
const SOCKET: u64 = 0;
const STDIN: u64 = 1;
const STDOUT: u64 = 2;
const KINDS: u64 = 4;

struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: Option<ChildStdout>,
    stdin_watched: bool,
    stdout_interest: Interest,
    /// Output that is no whole line or record yet.
    partial: Vec<u8>,
}

struct Session {
    socket: TcpStream,
    interest: Interest,
    handshake: Handshake,
    reader: Reader,
    program: Option<Program>,
    to_client: Outbox,
    to_program: Outbox,
    /// The client has closed.
    closed: bool,
}

struct Exec {
    format: Format,
    program: String,
    arguments: Vec<String>,
    sessions: Slots<Session>,
    zombies: Vec<Child>,
    buffer: Vec<u8>,
}

impl Exec {
    fn spawn(&self) -> io::Result<Program> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(wrong("no pipes"));
        };
        sys::set_nonblocking(&stdin)?;
        sys::set_nonblocking(&stdout)?;
        Ok(Program {
            child,
            stdin,
            stdout: Some(stdout),
            stdin_watched: false,
            stdout_interest: Interest(sys::IN),
            partial: Vec::new(),
        })
    }

    /// Handles one ready descriptor; false when the session is over.
    fn pump(&mut self, index: usize, kind: u64, epoll: &Epoll) -> io::Result<bool> {
        let format = self.format;
        let Some(session) = self.sessions.get(index) else { return Ok(true) };
        if kind == SOCKET && session.to_program.is_empty() {
            match bare::read(&session.socket, &mut self.buffer) {
                Input::Octets(count) if session.program.is_some() => {
                    session.client_input(format, &self.buffer[..count])?;
                }
                Input::Octets(count) => {
                    let Some((_, early)) = session.handshake.take(&self.buffer[..count])? else { return Ok(true) };
                    let program = self.spawn()?;
                    let Some(session) = self.sessions.get(index) else { return Ok(true) };
                    let token = index as u64 * KINDS;
                    if let Some(stdout) = &program.stdout {
                        epoll.add(stdout, sys::IN, token + STDOUT)?;
                    }
                    session.program = Some(program);
                    session.to_client.octets.extend_from_slice(&wire::handshake_answer());
                    session.client_input(format, &early)?;
                }
                Input::Nothing => {}
                Input::End => return Ok(false),
            }
        }
        let Some(session) = self.sessions.get(index) else { return Ok(true) };
        if kind == STDOUT && session.to_client.is_empty() {
            session.program_output(format, &mut self.buffer)?;
        }
        session.flush(index, epoll)?;
        Ok(!session.closed || !session.to_client.is_empty())
    }
}

impl Session {
    fn client_input(&mut self, format: Format, input: &[u8]) -> io::Result<()> {
        let Self { reader, to_program, to_client, closed, program, .. } = self;
        reader.feed(input, |piece| {
            let Some(mask) = piece.frame.mask else { return Err(wrong("not masked")) };
            match piece.frame.opcode {
                0 | TEXT | BINARY => {}
                CLOSE => {
                    // When the program has ended, this answers the Close that was sent for it.
                    if piece.is_last() && !*closed {
                        if program.as_ref().is_some_and(|program| program.stdout.is_some()) {
                            wire::write_plain(CLOSE, &[], &mut to_client.octets);
                        }
                        *closed = true;
                    }
                    return Ok(());
                }
                _ => return Ok(()),
            }
            let out = &mut to_program.octets;
            if matches!(format, Format::Messages) && piece.offset == 0 {
                let kind = if piece.frame.opcode == TEXT { 'T' } else { 'B' };
                out.extend_from_slice(format!("{kind} {}\n", piece.frame.length).as_bytes());
            }
            let start = out.len();
            out.extend_from_slice(piece.data);
            wire::apply_mask(&mut out[start..], mask, piece.offset);
            if matches!(format, Format::Lines) && piece.is_last() {
                out.push(b'\n');
            }
            Ok(())
        })
    }

    fn program_output(&mut self, format: Format, buffer: &mut [u8]) -> io::Result<()> {
        let Some(program) = &mut self.program else { return Ok(()) };
        let Some(stdout) = &mut program.stdout else { return Ok(()) };
        let out = &mut self.to_client.octets;
        let count = match bare::read(stdout, buffer) {
            Input::Octets(count) => count,
            Input::Nothing => return Ok(()),
            Input::End => {
                program.stdout = None;
                wire::write_plain(CLOSE, &1000_u16.to_be_bytes(), out);
                return Ok(());
            }
        };
        let mut input = &buffer[..count];
        if let Format::Bytes = format {
            wire::write_plain(BINARY, input, out);
            return Ok(());
        }
        if !program.partial.is_empty() {
            program.partial.extend_from_slice(input);
            input = &program.partial;
        }
        while let Some(end) = sys::find_octet(b'\n', input) {
            if let Format::Lines = format {
                wire::write_plain(TEXT, &input[..end], out);
                input = &input[end + 1..];
                continue;
            }
            let length = str::from_utf8(&input[2..end]).ok().and_then(|digits| digits.parse::<usize>().ok());
            let length = length.ok_or_else(|| wrong("record"))?;
            let Some(payload) = input.get(end + 1..end + 1 + length) else { break };
            wire::write_plain(if input[0] == b'T' { TEXT } else { BINARY }, payload, out);
            input = &input[end + 1 + length..];
        }
        let rest = input.to_vec();
        program.partial = rest;
        Ok(())
    }

    fn flush(&mut self, index: usize, epoll: &Epoll) -> io::Result<()> {
        let token = index as u64 * KINDS;
        // A peer that is gone shows as the end of its input.
        if self.to_client.flush(&self.socket).is_err() {
            self.closed = true;
            self.to_client = Outbox::default();
        }
        if let Some(program) = &mut self.program {
            if self.to_program.flush(&mut program.stdin).is_err() {
                self.to_program = Outbox::default();
            }
            let none = Outbox::default();
            // Watched only while it is full: a pipe that nobody reads any more would be ready for ever.
            if program.stdin_watched == self.to_program.is_empty() {
                program.stdin_watched = !program.stdin_watched;
                if program.stdin_watched {
                    epoll.add(&program.stdin, sys::OUT, token + STDIN)?;
                } else {
                    epoll.remove(&program.stdin)?;
                }
            }
            if let Some(stdout) = &program.stdout {
                program.stdout_interest.update(epoll, stdout, token + STDOUT, &none, &self.to_client)?;
            }
        }
        self.interest.update(epoll, &self.socket, token + SOCKET, &self.to_client, &self.to_program)
    }
}

impl Service for Exec {
    fn accept(&mut self, socket: TcpStream, epoll: &Epoll) -> io::Result<()> {
        let interest = Interest(sys::IN);
        let index = self.sessions.insert(Session {
            socket,
            interest,
            handshake: Handshake::default(),
            reader: Reader::default(),
            program: None,
            to_client: Outbox::default(),
            to_program: Outbox::default(),
            closed: false,
        });
        match self.sessions.get(index) {
            Some(session) => epoll.add(&session.socket, interest.0, index as u64 * KINDS + SOCKET),
            None => Ok(()),
        }
    }

    fn ready(&mut self, token: u64, _events: u32, epoll: &Epoll) -> io::Result<()> {
        let index = (token / KINDS) as usize;
        if !self.pump(index, token % KINDS, epoll)?
            && let Some(session) = self.sessions.remove(index)
            && let Some(program) = session.program
        {
            // Closing the pipes ends the program.
            self.zombies.push(program.child);
        }
        Ok(())
    }

    fn end_turn(&mut self, _epoll: &Epoll) -> io::Result<Option<Duration>> {
        self.sessions.end_turn();
        self.zombies.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        Ok((!self.zombies.is_empty()).then_some(Duration::from_millis(5)))
    }
}

fn main() -> io::Result<()> {
    let address = bare::address(&bare::argument(1)?)?;
    let format = match bare::argument(2)?.as_str() {
        "lines" => Format::Lines,
        "bytes" => Format::Bytes,
        "messages" => Format::Messages,
        other => return Err(wrong(format!("unknown format {other}"))),
    };
    let mut exec = Exec {
        format,
        program: bare::argument(3)?,
        arguments: env::args().skip(4).collect(),
        sessions: Slots::default(),
        zombies: Vec::new(),
        buffer: vec![0; 128 * 1024],
    };
    bare::serve(address, &mut exec)
}
