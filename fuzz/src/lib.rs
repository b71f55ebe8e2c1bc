//! What the fuzz targets share: a connection that is fed in pieces, and a strict reader of what a server sends.

pub mod program;

use ngx_ws_exec::ws::{CloseCode, Connection, Event, MessageKind, Scratch, Violation};

/// What came out of a connection, with the pieces of each message put together.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// A whole message.
    Message(MessageKind, Vec<u8>),
    /// A Ping.
    Ping,
    /// A Pong.
    Pong,
    /// A Close.
    Close(Option<CloseCode>, String),
    /// A broken rule.
    Violation(Violation),
}

/// A connection and what it said.
pub struct Run {
    /// The connection.
    pub connection: Connection,
    /// Its working memory.
    pub scratch: Scratch,
    /// What it would send.
    pub out: Vec<u8>,
    /// What happened so far.
    pub seen: Vec<Seen>,
    message: Option<(MessageKind, Vec<u8>)>,
}

impl Run {
    /// Nothing was fed yet.
    pub fn new(connection: Connection) -> Self {
        Self { connection, scratch: Scratch::new(), out: Vec::new(), seen: Vec::new(), message: None }
    }

    /// Feeds octets of the client until they are used up.
    pub fn feed(&mut self, octets: &[u8]) {
        let mut input = octets.to_vec();
        let mut at = 0;
        while at < octets.len() {
            let before = self.out.len();
            let received = self.connection.receive(&mut input[at..], &mut self.scratch, &mut self.out);
            at += received.consumed;
            let answer = self.out.len() - before;
            assert!(answer <= 127, "one answer for an event");
            assert!(received.event.is_some() || at == octets.len(), "without an event everything is consumed");
            match received.event {
                None => return,
                Some(Event::Data(data)) => {
                    assert_eq!(data.first, self.message.is_none());
                    assert!(data.last || !data.payload.is_empty());
                    let message = self.message.get_or_insert((data.kind, Vec::new()));
                    message.1.extend_from_slice(data.payload);
                    if data.kind == MessageKind::Text {
                        let valid = std::str::from_utf8(&message.1).map_or_else(|e| e.valid_up_to(), str::len);
                        assert_eq!(data.pending, message.1.len() - valid);
                    }
                    if data.last {
                        assert_eq!(data.pending, 0);
                        self.seen.extend(self.message.take().map(|(kind, octets)| Seen::Message(kind, octets)));
                    }
                }
                Some(Event::Ping) => self.seen.push(Seen::Ping),
                Some(Event::Pong) => self.seen.push(Seen::Pong),
                Some(Event::Close { code, reason }) => self.seen.push(Seen::Close(code, reason.to_owned())),
                Some(Event::Violation(violation)) => self.seen.push(Seen::Violation(violation)),
            }
        }
    }

    /// Feeds octets in pieces of `size`.
    pub fn feed_by(&mut self, octets: &[u8], size: usize) {
        octets.chunks(size.max(1)).for_each(|piece| self.feed(piece));
    }
}

/// Reads frames of a server and refuses everything that a server must not send. Returns the payloads of its messages,
/// those of compressed messages still compressed.
pub fn check_frames(mut octets: &[u8], compression: bool) -> Vec<(bool, Vec<u8>)> {
    let mut messages = Vec::new();
    let mut current: Option<(bool, Vec<u8>)> = None;
    let mut closed = false;
    while let [first, second, rest @ ..] = octets {
        assert!(!closed, "nothing after a Close");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        assert_eq!(first & 0x30, 0, "reserved bits");
        let (fin, rsv1) = (first & 0x80 != 0, first & 0x40 != 0);
        let (len, rest) = match second {
            126 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("eight octets")), &rest[8..]),
            n => (u64::from(*n), rest),
        };
        assert!(match second {
            126 => len > 125,
            127 => len > 65_535,
            _ => true,
        });
        let (payload, rest) = rest.split_at(usize::try_from(len).expect("a length of memory"));
        match first & 0x0F {
            0 => {
                assert!(!rsv1);
                let mut message = current.take().expect("something to continue");
                message.1.extend_from_slice(payload);
                if fin { messages.push(message) } else { current = Some(message) }
            }
            1 | 2 => {
                assert!(current.is_none() && (compression || !rsv1));
                let message = (rsv1, payload.to_vec());
                if fin { messages.push(message) } else { current = Some(message) }
            }
            opcode @ 8..=10 => {
                assert!(fin && !rsv1 && payload.len() <= 125);
                if opcode == 8 {
                    closed = true;
                    if let [high, low, reason @ ..] = payload {
                        assert!(CloseCode::new(u16::from_be_bytes([*high, *low])).is_some());
                        assert!(std::str::from_utf8(reason).is_ok());
                    } else {
                        assert!(payload.is_empty());
                    }
                }
            }
            other => panic!("opcode {other}"),
        }
        octets = rest;
    }
    assert!(octets.is_empty());
    messages
}

/// A frame as a client sends it, masked with `key`.
pub fn client_frame(first: u8, key: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first, 0x80 | 127];
    out.extend((payload.len() as u64).to_be_bytes());
    out.extend(key);
    let start = out.len();
    out.extend_from_slice(payload);
    let _ = ngx_ws_exec::ws::mask::apply(&mut out[start..], key, 0);
    out
}
