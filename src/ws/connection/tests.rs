// SPDX-License-Identifier: Apache-2.0

//! PROTOCOL: frames from the client, frames to the client, and closing.

use proptest::prelude::*;

use super::*;
use crate::ws::close::InvalidClose;
use crate::ws::mask;

const KEY: [u8; 4] = [0xa5, 0x00, 0xff, 0x3c];

/// A frame of a client: the first octet, then the payload with a minimal length.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        n @ 0..126 => out.push(0x80 | n as u8),
        n @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend((n as u64).to_be_bytes());
        }
    }
    out.extend(KEY);
    let start = out.len();
    out.extend(payload);
    let _ = mask::apply(&mut out[start..], KEY, 0);
    out
}

/// The header of a frame of a client, without any payload.
pub(super) fn head(first: u8, len: u64) -> Vec<u8> {
    let mut out = vec![first, 0x80 | 127];
    out.extend(len.to_be_bytes());
    out.extend(KEY);
    out
}

pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// First, middle and last frames of fragmented messages.
pub(super) const TEXT_FIRST: u8 = 0x01;
pub(super) const BINARY_FIRST: u8 = 0x02;
pub(super) const MIDDLE: u8 = 0x00;
pub(super) const LAST: u8 = 0x80;

/// What came out of a connection, with the pieces of each message put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Message(MessageKind, Vec<u8>),
    Ping,
    Pong,
    Close(Option<u16>, String),
    Violation(Violation),
}

pub(super) struct Run {
    pub(super) connection: Connection,
    pub(super) scratch: Scratch,
    pub(super) reply: Vec<u8>,
    pub(super) seen: Vec<Seen>,
    message: Option<(MessageKind, Vec<u8>)>,
}

impl Run {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, scratch: Scratch::new(), reply: Vec::new(), seen: Vec::new(), message: None }
    }

    pub(super) fn feed(&mut self, octets: &[u8]) {
        let mut input = octets.to_vec();
        let mut at = 0;
        while at < octets.len() {
            let received = self.connection.receive(&mut input[at..], &mut self.scratch, &mut self.reply);
            at += received.consumed;
            assert!(received.event.is_some() || at == octets.len(), "without an event everything is consumed");
            match received.event {
                None => return,
                Some(Event::Data(data)) => {
                    assert_eq!(data.first, self.message.is_none());
                    let message = self.message.get_or_insert((data.kind, Vec::new()));
                    assert_eq!(message.0, data.kind);
                    assert!(!data.payload.is_empty() || data.last);
                    message.1.extend(data.payload);
                    if data.kind == MessageKind::Text {
                        let error_at = std::str::from_utf8(&message.1).map_or_else(|e| e.valid_up_to(), |s| s.len());
                        assert_eq!(data.pending, message.1.len() - error_at);
                    }
                    if data.last {
                        assert_eq!(data.pending, 0);
                        let (kind, octets) = self.message.take().unwrap();
                        self.seen.push(Seen::Message(kind, octets));
                    }
                }
                Some(Event::Ping) => self.seen.push(Seen::Ping),
                Some(Event::Pong) => self.seen.push(Seen::Pong),
                Some(Event::Close { code, reason }) => {
                    self.seen.push(Seen::Close(code.map(CloseCode::number), reason.to_owned()));
                }
                Some(Event::Violation(violation)) => self.seen.push(Seen::Violation(violation)),
            }
        }
    }
}

/// What `octets` give on a connection without compression, and the reply.
fn run_with(limits: Limits, octets: &[u8]) -> (Vec<Seen>, Vec<u8>) {
    run_splits(|| Connection::new(limits), octets)
}

/// What `octets` give, and the reply; the same for every cut in two and for one octet at a time.
pub(super) fn run_splits(connection: impl Fn() -> Connection, octets: &[u8]) -> (Vec<Seen>, Vec<u8>) {
    let mut whole = Run::new(connection());
    whole.feed(octets);
    let mut single = Run::new(connection());
    octets.iter().for_each(|&octet| single.feed(&[octet]));
    assert_eq!((&single.seen, &single.reply), (&whole.seen, &whole.reply), "one octet at a time");
    for cut in (0..octets.len()).step_by((octets.len() / 500).max(1)) {
        let mut split = Run::new(connection());
        split.feed(&octets[..cut]);
        split.feed(&octets[cut..]);
        assert_eq!((&split.seen, &split.reply), (&whole.seen, &whole.reply), "cut at {cut}");
    }
    (whole.seen, whole.reply)
}

fn run(octets: &[u8]) -> (Vec<Seen>, Vec<u8>) {
    run_with(Limits::default(), octets)
}

pub(super) fn text(s: &str) -> Seen {
    Seen::Message(MessageKind::Text, s.into())
}

pub(super) fn binary(octets: &[u8]) -> Seen {
    Seen::Message(MessageKind::Binary, octets.into())
}

/// The octets are refused with this, and nothing behind them is looked at.
fn refused(octets: &[u8], violation: Violation, code: CloseCode) {
    let mut more = frame(TEXT, b"before");
    more.extend(octets);
    more.extend(frame(TEXT, b"behind"));
    more.extend(frame(PING, b"behind"));
    assert_eq!(run(&more), (vec![text("before"), Seen::Violation(violation)], vec![]), "{octets:x?}");
    assert_eq!(violation.code(), code);
}

#[test]
fn messages_of_every_length_form() {
    for len in [0, 1, 5, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        assert_eq!(run(&frame(BINARY, &payload)), (vec![binary(&payload)], vec![]));
    }
    assert_eq!(run(&frame(TEXT, "κόσμε".as_bytes())).0, [text("κόσμε")]);
}

#[test]
fn unmasked() {
    refused(&[TEXT, 5, b'H', b'e', b'l', b'l', b'o'], Violation::Unmasked, CloseCode::PROTOCOL_ERROR);
}

#[test]
fn reserved_bits() {
    for rsv in [0x10, 0x20, 0x40, 0x70] {
        refused(&frame(TEXT | rsv, b"x"), Violation::ReservedBit, CloseCode::PROTOCOL_ERROR);
        refused(&frame(PING | rsv, b"x"), Violation::ReservedBit, CloseCode::PROTOCOL_ERROR);
    }
    let first = frame(TEXT_FIRST, b"a");
    let octets = [first, frame(LAST | 0x40, b"b")].concat();
    assert_eq!(run(&octets).0, [Seen::Violation(Violation::ReservedBit)]);
}

#[test]
fn reserved_opcodes_on_the_header() {
    for bits in (3..=7).chain(0xb..=0xf) {
        refused(&[0x80 | bits], Violation::ReservedOpcode(bits), CloseCode::PROTOCOL_ERROR);
    }
}

#[test]
fn bad_control_frames_on_the_header() {
    for control in [CLOSE, PING, PONG] {
        refused(&[control, 0x80 | 126], Violation::LongControl, CloseCode::PROTOCOL_ERROR);
        refused(&[control & 0x7f], Violation::FragmentedControl, CloseCode::PROTOCOL_ERROR);
    }
}

#[test]
fn order_of_fragments() {
    refused(&frame(LAST, b"x"), Violation::NothingToContinue, CloseCode::PROTOCOL_ERROR);
    refused(&frame(MIDDLE, b"x"), Violation::NothingToContinue, CloseCode::PROTOCOL_ERROR);
    refused(&[frame(TEXT_FIRST, b"a"), frame(TEXT, b"b")].concat(), Violation::Interleaved, CloseCode::PROTOCOL_ERROR);
    refused(
        &[frame(BINARY_FIRST, b"a"), frame(BINARY_FIRST, b"b")].concat(),
        Violation::Interleaved,
        CloseCode::PROTOCOL_ERROR,
    );
}

#[test]
fn control_frames_between_fragments() {
    let octets = [
        frame(TEXT_FIRST, b"Hel"),
        frame(PING, b"1"),
        frame(MIDDLE, b"l"),
        frame(PONG, b"2"),
        frame(LAST, b"o"),
        frame(BINARY, b"\0"),
    ]
    .concat();
    let (seen, reply) = run(&octets);
    assert_eq!(seen, [Seen::Ping, Seen::Pong, text("Hello"), binary(b"\0")]);
    assert_eq!(reply, [0x8a, 1, b'1']);
}

#[test]
fn empty_messages_and_fragments() {
    assert_eq!(run(&frame(TEXT, b"")).0, [text("")]);
    let octets = [
        frame(TEXT_FIRST, b""),
        frame(MIDDLE, b""),
        frame(MIDDLE, b"x"),
        frame(MIDDLE, b""),
        frame(LAST, b""),
        frame(BINARY_FIRST, b""),
        frame(LAST, b""),
    ]
    .concat();
    assert_eq!(run(&octets).0, [text("x"), binary(b"")]);
}

#[test]
fn many_fragments_are_allowed_and_a_flood_is_not() {
    let mut octets = frame(BINARY_FIRST, b"a");
    for _ in 0..65_535 {
        octets.extend(frame(MIDDLE, b""));
    }
    octets.extend(frame(LAST, b"z"));
    let mut r = Run::new(Connection::new(Limits::default()));
    r.feed(&octets);
    assert_eq!(r.seen, [binary(b"az")]);

    let limits = Limits { fragments: 3, ..Limits::default() };
    let ok = [frame(BINARY_FIRST, b""), frame(MIDDLE, b""), frame(LAST, b"")].concat();
    let flood = [frame(BINARY_FIRST, b""), frame(MIDDLE, b""), frame(MIDDLE, b""), head(LAST, 0)].concat();
    assert_eq!(run_with(limits, &[&ok[..], &ok[..]].concat()).0, [binary(b""), binary(b"")]);
    assert_eq!(run_with(limits, &flood).0, [Seen::Violation(Violation::TooManyFragments)]);
    assert_eq!(Violation::TooManyFragments.code(), CloseCode::POLICY);
    let unlimited = Limits { fragments: 0, ..Limits::default() };
    assert_eq!(run_with(unlimited, &ok).0, [binary(b"")]);
}

#[test]
fn lengths_over_63_bits() {
    refused(&head(BINARY, 1 << 63), Violation::Length, CloseCode::PROTOCOL_ERROR);
    refused(&head(BINARY, u64::MAX), Violation::Length, CloseCode::PROTOCOL_ERROR);
}

#[test]
fn limits_are_decided_on_the_header() {
    let limits = Limits { message: 10, frame: 0, ..Limits::default() };
    assert_eq!(run_with(limits, &frame(TEXT, b"0123456789")).0, [text("0123456789")]);
    assert_eq!(run_with(limits, &head(TEXT, 11)).0, [Seen::Violation(Violation::MessageTooBig)]);
    assert_eq!(run_with(limits, &head(TEXT, (1 << 63) - 1)).0, [Seen::Violation(Violation::MessageTooBig)]);
    let fragments = [frame(TEXT_FIRST, b"01234"), frame(MIDDLE, b"56789")].concat();
    assert_eq!(run_with(limits, &[&fragments[..], &frame(LAST, b"")].concat()).0, [text("0123456789")]);
    assert_eq!(
        run_with(limits, &[&fragments[..], &head(LAST, 1)].concat()).0,
        [Seen::Violation(Violation::MessageTooBig)]
    );
    // The sum of declared lengths must not wrap around.
    let unlimited = Limits { message: u64::MAX, ..limits };
    let mut r = Run::new(Connection::new(unlimited));
    r.feed(&head(TEXT, (1 << 63) - 1));
    assert_eq!(r.seen, []);

    let limits = Limits { message: 10, frame: 4, ..Limits::default() };
    assert_eq!(run_with(limits, &[frame(TEXT_FIRST, b"0123"), frame(LAST, b"4567")].concat()).0, [text("01234567")]);
    assert_eq!(run_with(limits, &head(TEXT, 5)).0, [Seen::Violation(Violation::FrameTooBig)]);
    // Control frames do not count.
    assert_eq!(run_with(limits, &frame(PONG, b"012345678901")).0, [Seen::Pong]);
    for violation in [Violation::FrameTooBig, Violation::MessageTooBig] {
        assert_eq!(violation.code(), CloseCode::TOO_BIG);
    }
    let none = Limits { message: 0, frame: 0, ..Limits::default() };
    assert_eq!(run_with(none, &head(TEXT, (1 << 63) - 1)).0, []);
}

#[test]
fn lengths_need_not_be_minimal() {
    let mut octets = head(TEXT, 2);
    octets.extend([b'h' ^ KEY[0], b'i' ^ KEY[1]]);
    assert_eq!(run(&octets).0, [text("hi")]);
}

#[test]
fn invalid_text_is_refused_at_the_first_wrong_octet() {
    let bad: [&[u8]; 8] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xed\xa0",
        b"\xf4\x90",
        b"\xf5",
        b"ok\x80",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0",
        b"\xff",
    ];
    for octets in bad {
        // The frame promises more, and the message has more frames to come.
        for first in [TEXT, TEXT_FIRST] {
            let mut promised = head(first, 1000);
            let start = promised.len();
            promised.extend(octets);
            let _ = mask::apply(&mut promised[start..], KEY, 0);
            let mut r = Run::new(Connection::new(Limits::default()));
            let (last, before) = promised.split_last().unwrap();
            r.feed(before);
            assert_eq!(r.seen, []);
            r.feed(&[*last]);
            assert_eq!(r.seen, [Seen::Violation(Violation::Text)], "{octets:x?}");
        }
        refused(&frame(TEXT, octets), Violation::Text, CloseCode::INVALID_DATA);
    }
    // Cut off at the end of the message, in the frame or in an empty last fragment.
    refused(&frame(TEXT, b"x\xe2\x82"), Violation::Text, CloseCode::INVALID_DATA);
    refused(&[frame(TEXT_FIRST, b"\xe2\x82"), frame(LAST, b"")].concat(), Violation::Text, CloseCode::INVALID_DATA);
    // Binary may be anything.
    assert_eq!(run(&frame(BINARY, b"\xff\xc0")).0, [binary(b"\xff\xc0")]);
}

#[test]
fn code_points_over_fragments() {
    let word = "κ€😀";
    let octets = word.as_bytes();
    for a in 0..=octets.len() {
        for b in a..=octets.len() {
            let parts = [frame(TEXT_FIRST, &octets[..a]), frame(MIDDLE, &octets[a..b]), frame(LAST, &octets[b..])];
            assert_eq!(run(&parts.concat()).0, [text(word)]);
        }
    }
}

#[test]
fn invalid_closes() {
    refused(&frame(CLOSE, b"\x03"), Violation::Close(InvalidClose::Length), CloseCode::PROTOCOL_ERROR);
    for number in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535u16] {
        refused(
            &frame(CLOSE, &number.to_be_bytes()),
            Violation::Close(InvalidClose::Code(number)),
            CloseCode::PROTOCOL_ERROR,
        );
    }
    refused(&frame(CLOSE, b"\x03\xe8\xff"), Violation::Close(InvalidClose::Reason), CloseCode::INVALID_DATA);
}

#[test]
fn closes_are_answered() {
    for number in [1000, 1003, 1007, 1014, 3000, 4999u16] {
        let payload = [&number.to_be_bytes()[..], "tschüss".as_bytes()].concat();
        let mut r = Run::new(Connection::new(Limits::default()));
        r.feed(&frame(CLOSE, &payload));
        assert_eq!(r.seen, [Seen::Close(Some(number), "tschüss".to_owned())]);
        assert_eq!(r.reply, [&[0x88, 2], &number.to_be_bytes()[..]].concat());
        assert!(r.connection.finished() && r.connection.close_sent() && !r.connection.is_open());
        assert_eq!(r.connection.closed(), Some(Closed { by: Side::Client, code: CloseCode::new(number) }));
    }
    assert_eq!(run(&frame(CLOSE, b"")), (vec![Seen::Close(None, String::new())], vec![0x88, 0]));
    // In the middle of a message too.
    let octets = [frame(TEXT_FIRST, b"x"), frame(CLOSE, b"\x03\xe8")].concat();
    assert_eq!(run(&octets), (vec![Seen::Close(Some(1000), String::new())], vec![0x88, 2, 3, 0xe8]));
}

#[test]
fn nothing_after_the_close() {
    let octets = [frame(CLOSE, b"\x03\xe8"), frame(TEXT, b"late"), frame(PING, b"late"), vec![0xff; 300]].concat();
    assert_eq!(run(&octets), (vec![Seen::Close(Some(1000), String::new())], vec![0x88, 2, 3, 0xe8]));
    let mut r = Run::new(Connection::new(Limits::default()));
    r.feed(&octets);
    let mut out = Vec::new();
    assert_eq!(r.connection.message(MessageKind::Text, b"x", &mut r.scratch, &mut out), Err(SendError::Closed));
    assert_eq!(r.connection.piece(MessageKind::Text, b"x", true, &mut r.scratch, &mut out), Err(SendError::Closed));
    assert_eq!(r.connection.ping(b"", &mut out), Err(SendError::Closed));
    assert!(r.connection.header(MessageKind::Text, 1, true).is_none());
    assert!(!r.connection.close(CloseCode::GOING_AWAY, "", &mut out));
    assert!(out.is_empty());
}

#[test]
fn pings_are_answered_in_order() {
    let long = [b'p'; 125];
    let octets = [frame(PING, b""), frame(PING, b"one"), frame(PING, &long)].concat();
    let (seen, reply) = run(&octets);
    assert_eq!(seen, [Seen::Ping, Seen::Ping, Seen::Ping]);
    assert_eq!(reply, [&[0x8a, 0, 0x8a, 3][..], b"one", &[0x8a, 125], &long].concat());
    assert!(reply.len() < octets.len());
}

#[test]
fn our_close_waits_for_theirs() {
    let mut r = Run::new(Connection::new(Limits::default()));
    let mut out = Vec::new();
    r.feed(&frame(TEXT_FIRST, b"half"));
    assert!(r.connection.receiving_message());
    assert!(r.connection.close(CloseCode::GOING_AWAY, "bye", &mut out));
    assert_eq!(out, [&[0x88, 5, 0x03, 0xe9][..], b"bye"].concat());
    assert!(!r.connection.close(CloseCode::NORMAL, "", &mut out));
    assert!(r.connection.awaits_close() && !r.connection.finished() && !r.connection.is_open());
    // Data and wrong text are skipped, a Ping has no answer.
    r.feed(&frame(LAST, b"\xff"));
    r.feed(&frame(TEXT, b"late"));
    r.feed(&frame(PING, b"late"));
    assert!(!r.connection.finished());
    r.feed(&frame(CLOSE, b"\x0b\xb8"));
    assert_eq!(r.seen, [Seen::Ping, Seen::Close(Some(3000), String::new())]);
    assert!(r.reply.is_empty());
    assert!(r.connection.finished());
    assert_eq!(r.connection.closed(), Some(Closed { by: Side::Server, code: Some(CloseCode::GOING_AWAY) }));
}

#[test]
fn what_comes_before_the_answer_to_our_close_can_be_listened_to() {
    let mut r = Run::new(Connection::new(Limits::default()));
    let mut out = Vec::new();
    r.feed(&frame(TEXT_FIRST, b"ha"));
    assert!(r.connection.close(CloseCode::NORMAL, "", &mut out));
    r.connection.keep_listening();
    r.feed(&[frame(LAST, b"lf"), frame(PING, b"late"), frame(CLOSE, b"\x03\xe8"), frame(TEXT, b"never")].concat());
    let message = Seen::Message(MessageKind::Text, b"half".to_vec());
    assert_eq!(r.seen, [message, Seen::Ping, Seen::Close(Some(1000), String::new())]);
    assert!(r.reply.is_empty(), "no Pong after our Close");
    assert!(r.connection.finished());
}

#[test]
fn violation_while_our_close_is_out() {
    let mut r = Run::new(Connection::new(Limits::default()));
    let mut out = Vec::new();
    r.connection.close(CloseCode::NORMAL, "", &mut out);
    r.feed(&[0xff, 0xff]);
    assert_eq!(r.seen, [Seen::Violation(Violation::ReservedOpcode(15))]);
    assert!(r.connection.finished());
}

#[test]
fn answers_may_go_out_between_a_violation_and_its_close() {
    let mut r = Run::new(Connection::new(Limits::default()));
    r.feed(&[0xff, 0xff]);
    assert!(!r.connection.is_open() && r.connection.can_send() && !r.connection.finished());
    let mut out = Vec::new();
    r.connection.message(MessageKind::Text, b"answer", &mut r.scratch, &mut out).unwrap();
    r.feed(&frame(CLOSE, b""));
    assert!(r.connection.close(CloseCode::PROTOCOL_ERROR, "why", &mut out));
    assert_eq!(out, [&[0x81, 6][..], b"answer", &[0x88, 5, 0x03, 0xea], b"why"].concat());
    assert!(r.connection.finished());
    assert!(r.reply.is_empty());
}

#[test]
fn long_reasons_are_cut() {
    let mut c = Connection::new(Limits::default());
    let mut out = Vec::new();
    c.close(CloseCode::INTERNAL, &("x".repeat(122) + "€"), &mut out);
    assert_eq!(&out[..4], [0x88, 124, 0x03, 0xf3]);
    assert_eq!(out.len(), 4 + 122);
}

#[test]
fn outgoing_messages() {
    let mut c = Connection::new(Limits::default());
    let mut s = Scratch::new();
    let mut out = Vec::new();
    c.message(MessageKind::Text, b"hi", &mut s, &mut out).unwrap();
    c.message(MessageKind::Binary, b"", &mut s, &mut out).unwrap();
    c.piece(MessageKind::Binary, b"a", false, &mut s, &mut out).unwrap();
    assert!(c.sending_message());
    assert_eq!(c.message(MessageKind::Text, b"x", &mut s, &mut out), Err(SendError::Unfinished));
    c.ping(b"p", &mut out).unwrap();
    c.piece(MessageKind::Binary, b"b", false, &mut s, &mut out).unwrap();
    c.piece(MessageKind::Binary, b"", true, &mut s, &mut out).unwrap();
    assert_eq!(c.ping(&[0; 126], &mut out), Err(SendError::TooLong));
    let expected: [&[u8]; 6] =
        [&[0x81, 2, b'h', b'i'], &[0x82, 0], &[0x02, 1, b'a'], &[0x89, 1, b'p'], &[0, 1, b'b'], &[0x80, 0]];
    assert_eq!(out, expected.concat());
    assert_eq!(c.header(MessageKind::Text, 300, false).unwrap().as_ref(), [0x01, 126, 1, 44]);
    assert_eq!(c.header(MessageKind::Text, 0, true).unwrap().as_ref(), [0x80, 0]);
}

#[test]
fn outgoing_fragments() {
    let mut c = Connection::new(Limits { fragment_size: 3, ..Limits::default() });
    let mut s = Scratch::new();
    let mut out = Vec::new();
    c.message(MessageKind::Text, b"12345678", &mut s, &mut out).unwrap();
    c.message(MessageKind::Text, b"123", &mut s, &mut out).unwrap();
    c.piece(MessageKind::Binary, b"1234", false, &mut s, &mut out).unwrap();
    c.piece(MessageKind::Binary, b"56", true, &mut s, &mut out).unwrap();
    let expected: [&[u8]; 7] =
        [b"\x01\x03123", b"\x00\x03456", b"\x80\x0278", b"\x81\x03123", b"\x02\x03123", b"\x00\x014", b"\x80\x0256"];
    assert_eq!(out, expected.concat());
    assert!(c.header(MessageKind::Text, 4, true).is_none());
    assert!(c.header(MessageKind::Text, 3, true).is_some());
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() < 400, "{}", size_of::<Connection>());
}

/// A sequence of frames, right for the most part.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let firsts = prop_oneof![
        8 => prop::sample::select(vec![TEXT, BINARY, PING, PONG]),
        4 => prop::sample::select(vec![TEXT_FIRST, BINARY_FIRST, MIDDLE, LAST]),
        1 => Just(CLOSE),
        1 => any::<u8>(),
    ];
    let payloads = prop_oneof![
        4 => any::<String>().prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..140),
        1 => Just(vec![]),
        1 => (any::<u16>(), any::<String>()).prop_map(|(n, s)| [&n.to_be_bytes()[..], s.as_bytes()].concat()),
    ];
    let one = (firsts, payloads).prop_map(|(first, payload)| frame(first, &payload));
    prop::collection::vec(prop_oneof![20 => one, 1 => prop::collection::vec(any::<u8>(), 0..20)], 0..6)
        .prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn every_split_gives_the_same(octets in traffic(), message in 0u64..200, fragments in 0u32..4) {
        let limits = Limits { message, fragments, ..Limits::default() };
        let _ = run_with(limits, &octets);
    }
}
