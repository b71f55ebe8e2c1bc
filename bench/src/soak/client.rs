// SPDX-License-Identifier: Apache-2.0

//! One connection of the load, which never waits: its request, and what the server sends after that.

use std::io::{self, Read};
use std::net::{SocketAddrV4, TcpStream};

use crate::bare::Interest;
use crate::http;
use crate::link::{self, Outbox, Reader};
use crate::sys::{self, Epoll};
use crate::wire::{self, BINARY, CLOSE, PING, PONG, TEXT, wrong};

/// Longest line of an event stream or head of an answer that is kept; a longer line is one of a message that nobody looks at.
const LONGEST: usize = 64 * 1024;

/// How the server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// A WebSocket with permessage-deflate.
    Deflate,
    /// A WebSocket whose messages are looked at, each with its id.
    WithIds,
    /// An event stream.
    EventSource,
    /// One request after the other over a connection that is kept.
    LongPoll,
    /// One publication.
    Post,
}

impl Transport {
    fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::Deflate | Self::WithIds)
    }
}

/// What a connection has brought.
pub enum Incoming<'a> {
    /// A message; its octets only where the transport is one whose messages are looked at.
    Message(&'a [u8]),
    /// The status of an answer, other than those to upgrades and long-polls.
    Answered(u16),
    /// A Close frame with this code.
    Closed(u16),
}

enum Stage {
    /// Octets of the answer's head so far.
    Head(Vec<u8>),
    Frames(Reader),
    /// Octets of an unfinished line.
    Lines(Vec<u8>),
    /// The status, the octets of the body that are still to come, and the body so far.
    Body(u16, usize, Vec<u8>),
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    interest: Interest,
    out: Outbox,
    transport: Transport,
    path: String,
    stage: Stage,
    /// The id of the message that came last, where the transport tells it.
    pub position: Option<String>,
    /// Payload of a control frame or of a message that is looked at.
    payload: Vec<u8>,
    is_closing: bool,
}

impl Client {
    /// Connects from source address number `index`, and sends the request; a subscription goes on after `position`.
    ///
    /// # Errors
    /// When the server does not accept.
    pub fn open(
        index: usize,
        target: SocketAddrV4,
        transport: Transport,
        path: &str,
        position: Option<String>,
        body: &[u8],
    ) -> io::Result<Self> {
        let stream = sys::connect(link::source(index), target)?;
        stream.set_nonblocking(true)?;
        let mut client = Self {
            stream,
            interest: Interest(0),
            out: Outbox::default(),
            transport,
            path: path.to_owned(),
            stage: Stage::Head(Vec::new()),
            position,
            payload: Vec::new(),
            is_closing: false,
        };
        client.request(body);
        Ok(client)
    }

    fn request(&mut self, body: &[u8]) {
        let Self { path, position, .. } = self;
        let get = |headers: String| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n").into_bytes();
        self.out.octets = match self.transport {
            Transport::Post => {
                let length = body.len();
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
                );
                [head.as_bytes(), body].concat()
            }
            Transport::EventSource => {
                let last = position.as_ref().map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
                get(format!("Accept: text/event-stream\r\n{last}"))
            }
            Transport::LongPoll => {
                get(position.as_ref().map_or_else(String::new, |id| format!("If-None-Match: {id}\r\n")))
            }
            Transport::WebSocket => wire::handshake(path, ""),
            Transport::Deflate => wire::handshake(path, "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
            Transport::WithIds => {
                let from = position.as_ref().map_or_else(String::new, |id| format!("?last_event_id={id}"));
                wire::handshake(&format!("{path}{from}"), "Sec-WebSocket-Protocol: ws+meta.nchan\r\n")
            }
        };
    }

    /// Has `epoll` watch the connection.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` reports.
    pub fn watch(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        self.interest = Interest(sys::IN);
        epoll.add(&self.stream, sys::IN, token)?;
        self.flush(epoll, token)
    }

    fn flush(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        self.out.flush(&self.stream)?;
        let wanted = sys::IN | if self.out.is_empty() { 0 } else { sys::OUT };
        if self.interest.0 != wanted {
            self.interest.0 = wanted;
            epoll.modify(&self.stream, wanted, token)?;
        }
        Ok(())
    }

    /// A WebSocket that is open, and has not been told to close.
    pub fn can_talk(&self) -> bool {
        matches!(self.stage, Stage::Frames(_)) && !self.is_closing
    }

    /// The request has no answer yet. A long-poll may wait for one as long as it likes.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.stage, Stage::Head(_)) && self.transport != Transport::LongPoll
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send(&mut self, is_text: bool, message: &[u8], epoll: &Epoll, token: u64) -> io::Result<()> {
        wire::write_masked(if is_text { TEXT } else { BINARY }, false, message, &mut self.out.octets);
        self.flush(epoll, token)
    }

    /// Begins the closing handshake.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn close(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        self.is_closing = true;
        wire::write_masked(CLOSE, false, &1000_u16.to_be_bytes(), &mut self.out.octets);
        self.flush(epoll, token)
    }

    /// Writes what waits, and reads once. False when the server has ended the connection.
    ///
    /// # Errors
    /// When what comes is not what the protocol allows.
    pub fn ready(
        &mut self,
        epoll: &Epoll,
        token: u64,
        buffer: &mut [u8],
        sink: &mut dyn FnMut(Incoming<'_>),
    ) -> io::Result<bool> {
        if self.flush(epoll, token).is_err() {
            return Ok(false);
        }
        let count = match self.stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if wire::would_wait(&error) => return Ok(true),
            Err(_) => return Ok(false),
        };
        self.take(&buffer[..count], sink)?;
        Ok(self.flush(epoll, token).is_ok())
    }

    fn take(&mut self, mut input: &[u8], sink: &mut dyn FnMut(Incoming<'_>)) -> io::Result<()> {
        while !input.is_empty() {
            input = match &mut self.stage {
                Stage::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(input);
                    let Some(length) = wire::head_length(head) else {
                        return if head.len() < LONGEST { Ok(()) } else { Err(wrong("a head without an end")) };
                    };
                    let head = std::mem::take(head);
                    self.answered(&head[..length], sink)?;
                    &input[length - before..]
                }
                Stage::Frames(_) => return self.frames(input, sink),
                Stage::Lines(_) => {
                    self.lines(input, sink);
                    return Ok(());
                }
                Stage::Body(_, left, body) => {
                    let (now, rest) = input.split_at(input.len().min(*left));
                    *left -= now.len();
                    body.extend_from_slice(now);
                    self.end_body(sink);
                    rest
                }
            };
        }
        Ok(())
    }

    fn answered(&mut self, head: &[u8], sink: &mut dyn FnMut(Incoming<'_>)) -> io::Result<()> {
        if self.transport.is_websocket() {
            wire::check_handshake_answer(head)?;
            self.stage = Stage::Frames(Reader::default());
            return Ok(());
        }
        let text = str::from_utf8(head).map_err(|_| wrong("the answer's head is not text"))?;
        let status = http::status(text).ok_or_else(|| wrong("no status"))?;
        if self.transport == Transport::EventSource {
            if status != 200 {
                sink(Incoming::Answered(status));
            }
            self.stage = Stage::Lines(Vec::new());
            return Ok(());
        }
        if let Some(tag) = wire::header(text, "ETag") {
            self.position = Some(tag.to_owned());
        }
        let length = wire::header(text, "Content-Length").and_then(|length| length.parse().ok());
        let is_empty = matches!(status, 204 | 304);
        self.stage = match length {
            Some(length) if !is_empty => Stage::Body(status, length, Vec::new()),
            None if !is_empty => return Err(wrong("an answer without Content-Length")),
            _ => Stage::Body(status, 0, Vec::new()),
        };
        self.end_body(sink);
        Ok(())
    }

    fn end_body(&mut self, sink: &mut dyn FnMut(Incoming<'_>)) {
        let Stage::Body(status, 0, body) = &self.stage else { return };
        match (self.transport, *status) {
            (Transport::LongPoll, 200) => sink(Incoming::Message(body)),
            (Transport::LongPoll, 304) => {}
            (_, status) => sink(Incoming::Answered(status)),
        }
        self.stage = Stage::Head(Vec::new());
        if self.transport == Transport::LongPoll {
            self.request(&[]);
        }
    }

    fn lines(&mut self, input: &[u8], sink: &mut dyn FnMut(Incoming<'_>)) {
        let Stage::Lines(line) = &mut self.stage else { return };
        for part in input.split_inclusive(|&octet| octet == b'\n') {
            if line.len() < LONGEST {
                line.extend_from_slice(part);
            }
            if part.last() != Some(&b'\n') {
                break;
            }
            // Lengths of HTTP's chunks are lines as well, which are none of these.
            let whole = line.trim_ascii_end();
            if let Some(id) = whole.strip_prefix(b"id:") {
                self.position = Some(String::from_utf8_lossy(id.trim_ascii()).into_owned());
            } else if let Some(data) = whole.strip_prefix(b"data:") {
                sink(Incoming::Message(data.trim_ascii()));
            }
            line.clear();
        }
    }

    fn frames(&mut self, input: &[u8], sink: &mut dyn FnMut(Incoming<'_>)) -> io::Result<()> {
        let Self { stage, payload, out, transport, position, is_closing, .. } = self;
        let Stage::Frames(reader) = stage else { return Ok(()) };
        reader.feed(input, |piece| {
            let opcode = piece.frame.opcode;
            if opcode >= CLOSE || *transport == Transport::WithIds {
                payload.extend_from_slice(piece.data);
            }
            if !piece.is_last() {
                return Ok(());
            }
            match opcode {
                PING => wire::write_masked(PONG, false, payload, &mut out.octets),
                CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |&code| u16::from_be_bytes(code));
                    if !*is_closing {
                        wire::write_masked(CLOSE, false, payload, &mut out.octets);
                        sink(Incoming::Closed(code));
                    }
                    *is_closing = true;
                }
                // A control frame may come within a message, whose octets are not kept then; those of the probe have one frame.
                _ if !piece.frame.fin => return Ok(()),
                _ if *transport == Transport::WithIds => {
                    let text = String::from_utf8_lossy(payload);
                    let (head, body) = text.split_once("\n\n").ok_or_else(|| wrong("a message without its id"))?;
                    if let Some(id) = head.lines().find_map(|line| line.strip_prefix("id: ")) {
                        *position = Some(id.to_owned());
                    }
                    sink(Incoming::Message(body.as_bytes()));
                }
                _ => sink(Incoming::Message(&[])),
            }
            payload.clear();
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// What a client tells of an answer that comes in two parts, cut at each place; whether it goes on; and where it stands.
    fn told(transport: Transport, answer: &[u8], seen: &[&str], position: Option<&str>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("no IPv4") };
        let epoll = Epoll::new().unwrap();
        for cut in 0..answer.len() {
            let mut client = Client::open(0, address, transport, "/", None, b"").unwrap();
            client.watch(&epoll, 0).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            let mut buffer = [0; 4096];
            assert_eq!(client.is_unanswered(), transport != Transport::LongPoll);
            for part in [&answer[..cut], &answer[cut..]] {
                server.write_all(part).unwrap();
                let mut left = part.len();
                while left > 0 {
                    // Loopback delivers at once; only its octets are counted here.
                    let mut peeked = [0; 4096];
                    let count = client.stream.peek(&mut peeked).unwrap_or(0);
                    left -= count;
                    let goes_on = client.ready(&epoll, 0, &mut buffer, &mut |incoming| {
                        all.push(match incoming {
                            Incoming::Message(message) => String::from_utf8_lossy(message).into_owned(),
                            Incoming::Answered(status) => format!("status {status}"),
                            Incoming::Closed(code) => format!("close {code}"),
                        });
                    });
                    assert!(goes_on.unwrap());
                }
            }
            assert_eq!(all, seen, "{transport:?}, cut at {cut}");
            assert_eq!(client.position.as_deref(), position);
        }
    }

    #[test]
    fn an_event_stream_has_messages_and_their_ids() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            a\r\nid: 7:1\ndata: one\n\n\r\na\r\n: keep\n\n\r\nid: 7:2\ndata: two\n\n";
        told(Transport::EventSource, answer, &["one", "two"], Some("7:2"));
        told(Transport::EventSource, b"HTTP/1.1 403 Forbidden\r\n\r\n", &["status 403"], None);
    }

    #[test]
    fn long_polls_follow_each_other() {
        let answer = b"HTTP/1.1 200 OK\r\nETag: 7:1\r\nContent-Length: 3\r\n\r\none\
            HTTP/1.1 304 Not Modified\r\nETag: 7:1\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        told(Transport::LongPoll, answer, &["one", "status 503"], Some("7:1"));
    }

    #[test]
    fn a_websocket_has_messages_with_ids_and_an_end() {
        let mut answer = wire::handshake_answer();
        wire::write_plain(TEXT, b"id: 7:1\ncontent-type: text/plain\n\none", &mut answer);
        wire::write_plain(PING, b"there?", &mut answer);
        wire::write_plain(CLOSE, &1012_u16.to_be_bytes(), &mut answer);
        told(Transport::WithIds, &answer, &["one", "close 1012"], Some("7:1"));
        told(Transport::Post, b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok", &["status 201"], None);
    }
}
