// SPDX-License-Identifier: Apache-2.0

//! PROTOCOL: permessage-deflate.

use proptest::prelude::*;

use super::tests::*;
use super::*;
use crate::ws::deflate::{self, Context, Settings};

/// What is agreed on after this offer.
pub(super) fn agreed(offer: &str, settings: Settings) -> Agreed {
    deflate::negotiate(&[offer.as_bytes()], &settings).unwrap()
}

fn simple() -> Agreed {
    agreed("permessage-deflate", Settings { min_size: 0, ..Settings::default() })
}

fn no_context() -> Agreed {
    agreed("permessage-deflate", Settings { min_size: 0, context: Context::Off, ..Settings::default() })
}

fn dedicated() -> Agreed {
    agreed("permessage-deflate", Settings { min_size: 0, context: Context::Dedicated, ..Settings::default() })
}

fn run_both(octets: &[u8]) -> Vec<Seen> {
    run_limited(Limits::default(), octets)
}

/// What the octets give, whatever is kept of the messages before.
fn run_limited(limits: Limits, octets: &[u8]) -> Vec<Seen> {
    let (with, _) = run_splits(|| Connection::with(limits, Some(simple())), octets);
    let (without, _) = run_splits(|| Connection::with(limits, Some(no_context())), octets);
    let (own, _) = run_splits(|| Connection::with(limits, Some(dedicated())), octets);
    assert_eq!((&without, &own), (&with, &with));
    with
}

fn run_with_context(octets: &[u8]) -> Vec<Seen> {
    let (with, _) = run_splits(|| Connection::with(Limits::default(), Some(simple())), octets);
    assert_eq!(run_splits(|| Connection::with(Limits::default(), Some(dedicated())), octets).0, with);
    with
}

pub(super) const CONTEXTS: [Context; 3] = [Context::Off, Context::History, Context::Dedicated];
pub(super) const RSV1: u8 = 0x40;

/// A compressed message that refers to nothing before it.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut compressor = deflate::Compressor::new(6, 15);
    let mut out = Vec::new();
    compressor.compress(payload, true, &mut out).unwrap();
    out
}

/// Octets that hardly compress.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

#[test]
fn examples_of_the_rfc() {
    // RFC 7692, section 7.2.3.1: one frame, and two fragments.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(run_both(&frame(TEXT | RSV1, &hello)), [text("Hello")]);
    let fragments = [frame(TEXT_FIRST | RSV1, &hello[..3]), frame(LAST, &hello[3..])].concat();
    assert_eq!(run_both(&fragments), [text("Hello")]);
    // Section 7.2.3.2: the second message refers to the first.
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let twice = [frame(TEXT | RSV1, &hello), frame(TEXT | RSV1, &again)].concat();
    assert_eq!(run_with_context(&twice), [text("Hello"), text("Hello")]);
    let forgotten = run_splits(|| Connection::with(Limits::default(), Some(no_context())), &twice).0;
    assert_eq!(forgotten, [text("Hello"), Seen::Violation(Violation::Deflate)]);
    // Section 7.2.3.3: a stored block.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(run_both(&frame(TEXT | RSV1, &stored)), [text("Hello")]);
    // Section 7.2.3.4: a block with BFINAL.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let octets = [frame(TEXT | RSV1, &last), frame(TEXT | RSV1, &last), frame(TEXT | RSV1, &hello)].concat();
    assert_eq!(run_both(&octets), [text("Hello"), text("Hello"), text("Hello")]);
    // Section 7.2.3.5: two blocks.
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(run_both(&frame(TEXT | RSV1, &two)), [text("Hello")]);
    // Section 7.2.3.6: an empty message; and one without any payload at all.
    let octets = [frame(TEXT | RSV1, &[0]), frame(BINARY | RSV1, &[]), frame(TEXT | RSV1, &hello)].concat();
    assert_eq!(run_both(&octets), [text(""), binary(b""), text("Hello")]);
}

#[test]
fn blocks_after_a_final_one() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    // The final block is all there is, without the empty block that should follow.
    assert_eq!(run_both(&frame(TEXT | RSV1, &last)), [text("Hello")]);
    let payload = [&last[..], &last, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]].concat();
    let octets = [frame(TEXT | RSV1, &payload), frame(TEXT | RSV1, &payload)].concat();
    assert_eq!(run_both(&octets), [text("HelloHelloHello"), text("HelloHelloHello")]);
    // Its last octets are those that are appended.
    assert_eq!(run_both(&frame(TEXT | RSV1, &[0x01])), [text("")]);
}

#[test]
fn plain_messages_and_control_frames_between() {
    let payload = deflated(b"compressed");
    let octets = [
        frame(TEXT, b"plain"),
        frame(TEXT_FIRST | RSV1, &payload[..4]),
        frame(PING, b"x"),
        frame(MIDDLE, b""),
        frame(LAST, &payload[4..]),
        frame(BINARY, b"plain"),
        frame(BINARY | RSV1, &payload),
    ]
    .concat();
    assert_eq!(
        run_both(&octets),
        [text("plain"), Seen::Ping, text("compressed"), binary(b"plain"), binary(b"compressed")]
    );
}

#[test]
fn misplaced_rsv1() {
    for octets in [frame(PING | RSV1, b""), frame(CLOSE | RSV1, b""), frame(TEXT | 0x20, b"")] {
        assert_eq!(run_both(&octets), [Seen::Violation(Violation::ReservedBit)]);
    }
    let payload = deflated(b"x");
    let octets = [frame(TEXT_FIRST | RSV1, &payload[..1]), frame(LAST | RSV1, &payload[1..])].concat();
    assert_eq!(run_both(&octets), [Seen::Violation(Violation::ReservedBit)]);
}

#[test]
fn corrupt_data() {
    let long = deflated(&noise(3000));
    for payload in [
        &[0xff][..],
        &[0x07],
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48],
        // Cut off: in a header, in a block of each type.
        &[0x00, 0x06, 0x00, 0xf9, 0xff, 0x48],
        &[0xf2, 0x48],
        &[0xf2, 0x48, 0xcd, 0xc9],
        &long[..1000],
        &long[..long.len() - 1],
        // The empty stored block is there to its end, so what is appended begins a block of its own.
        &[0x00, 0x00, 0x00, 0xff, 0xff],
        b"not compressed at all",
    ] {
        let octets = [frame(BINARY | RSV1, payload), frame(BINARY, b"behind")].concat();
        assert_eq!(run_both(&octets), [Seen::Violation(Violation::Deflate)], "{payload:x?}");
    }
    assert_eq!(Violation::Deflate.code(), CloseCode::INVALID_DATA);
}

#[test]
fn text_is_checked_after_inflation() {
    let good = "κόσμε€😀".repeat(50);
    assert_eq!(run_both(&frame(TEXT | RSV1, &deflated(good.as_bytes()))), [text(&good)]);
    for bad in [&b"ok\xff"[..], b"cut \xe2\x82", b"\xed\xa0\x80"] {
        assert_eq!(run_both(&frame(TEXT | RSV1, &deflated(bad))), [Seen::Violation(Violation::Text)]);
        assert_eq!(run_both(&frame(BINARY | RSV1, &deflated(bad))), [binary(bad)]);
    }
}

#[test]
fn limits_count_what_comes_out() {
    let limits = Limits { message: 1000, ..Limits::default() };
    let (fits, over) = (vec![b'a'; 1000], vec![b'a'; 1001]);
    assert_eq!(run_limited(limits, &frame(BINARY | RSV1, &deflated(&fits))), [binary(&fits)]);
    assert_eq!(
        run_limited(limits, &frame(BINARY | RSV1, &deflated(&over))),
        [Seen::Violation(Violation::MessageTooBig)]
    );
    // What is beyond the limit is not looked at, whether it is text or not.
    let text = [&fits[..], b"\xff"].concat();
    let seen = run_limited(limits, &frame(TEXT | RSV1, &deflated(&text)));
    assert_eq!(seen, [Seen::Violation(Violation::MessageTooBig)]);
    let text = [&fits[1..], b"\xff", &fits].concat();
    assert_eq!(run_limited(limits, &frame(TEXT | RSV1, &deflated(&text))), [Seen::Violation(Violation::Text)]);
    // What does not compress is longer on the wire than its message.
    let noise = noise(1000);
    let payload = deflated(&noise);
    assert!(payload.len() > 1000);
    assert_eq!(run_limited(limits, &frame(BINARY | RSV1, &payload)), [binary(&noise)]);
    // The limit for frames is about the wire.
    let limits = Limits { frame: 999, ..limits };
    assert_eq!(run_limited(limits, &frame(BINARY | RSV1, &payload)), [Seen::Violation(Violation::FrameTooBig)]);
    assert_eq!(run_limited(limits, &frame(BINARY | RSV1, &deflated(&fits))), [binary(&fits)]);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let mut payload = Vec::new();
    let mut compressor = deflate::Compressor::new(9, 15);
    for _ in 0..16 {
        compressor.compress(&[0; 1 << 20], false, &mut payload).unwrap();
    }
    compressor.compress(b"", true, &mut payload).unwrap();
    assert!(payload.len() < 100_000);
    let mut input = frame(BINARY | RSV1, &payload);
    let mut connection = Connection::with(Limits::default(), Some(simple()));
    let (mut scratch, mut reply) = (Scratch::new(), Vec::new());
    let (mut at, mut octets) = (0, 0);
    loop {
        let received = connection.receive(&mut input[at..], &mut scratch, &mut reply);
        at += received.consumed;
        match received.event {
            Some(Event::Data(data)) => octets += data.payload.len(),
            other => {
                assert_eq!(other, Some(Event::Violation(Violation::MessageTooBig)));
                break;
            }
        }
    }
    assert!(octets <= 1 << 20, "{octets}");
}

#[test]
fn all_of_it_is_out_when_the_input_is_used_up() {
    // The feeding loop of the tests ends with the input, as a caller's may.
    for len in [32_767, 32_768, 32_769, 65_536, 65_537, 1 << 20] {
        let mut run = Run::new(Connection::with(Limits::default(), Some(simple())));
        run.feed(&frame(BINARY | RSV1, &deflated(&vec![7; len])));
        assert_eq!(run.seen, [binary(&vec![7; len])], "{len}");
    }
}

#[test]
fn one_event_for_a_small_message() {
    let mut input = frame(TEXT | RSV1, &deflated(b"small"));
    let mut connection = Connection::with(Limits::default(), Some(simple()));
    let (mut scratch, mut reply) = (Scratch::new(), Vec::new());
    let received = connection.receive(&mut input, &mut scratch, &mut reply);
    let Some(Event::Data(data)) = received.event else { panic!() };
    assert_eq!((data.payload, data.first, data.last), (&b"small"[..], true, true));
    assert_eq!(received.consumed, input.len());
}

#[test]
fn only_dedicated_ones_are_kept() {
    let only = |side: &str| {
        let offer = format!("permessage-deflate; {side}_no_context_takeover");
        agreed(&offer, Settings { min_size: 0, context: Context::Dedicated, ..Settings::default() })
    };
    for (agreed, inflater_kept, compressor_kept) in [
        (no_context(), false, false),
        (simple(), false, false),
        (dedicated(), true, true),
        (only("client"), false, true),
        (only("server"), true, false),
    ] {
        let mut run = Run::new(Connection::with(Limits::default(), Some(agreed)));
        let held = |run: &Run| (run.connection.reader.holds_inflater(), run.connection.writer.holds_compressor());
        assert_eq!(held(&run), (false, false));
        run.feed(&frame(TEXT, b"plain"));
        assert_eq!(held(&run), (false, false));
        let payload = deflated(b"compressed");
        let octets = frame(TEXT | RSV1, &payload);
        let (begin, end) = octets.split_at(octets.len() - 1);
        run.feed(begin);
        assert_eq!(held(&run), (true, false));
        run.feed(end);
        assert_eq!(held(&run), (inflater_kept, false));
        let mut out = Vec::new();
        run.connection.message(MessageKind::Text, &[b'x'; 100], &mut run.scratch, &mut out).unwrap();
        assert_eq!(held(&run), (inflater_kept, compressor_kept));
        run.connection.shrink();
        assert_eq!(held(&run), (inflater_kept, false));
    }
    assert!(size_of::<Connection>() < 400, "{}", size_of::<Connection>());
}

#[test]
fn the_last_octets_are_all_that_is_kept() {
    let with = |offer: &str, window| {
        let agreed = agreed(offer, Settings { min_size: 0, window, ..Settings::default() });
        Run::new(Connection::with(Limits::default(), Some(agreed)))
    };
    let simple = "permessage-deflate; client_max_window_bits";
    for (offer, window, theirs, ours) in [
        (simple, 15, 4096, 4096),
        (simple, 10, 1024, 1024),
        // A client that may use all of its window has to be remembered as far.
        ("permessage-deflate", 15, 32768, 4096),
        ("permessage-deflate; client_max_window_bits=8; server_max_window_bits=9", 15, 512, 512),
        ("permessage-deflate; client_no_context_takeover", 15, 0, 4096),
        ("permessage-deflate; server_no_context_takeover", 15, 32768, 0),
    ] {
        let mut run = with(offer, window);
        let held = |run: &Run| (run.connection.reader.history(), run.connection.writer.history());
        assert_eq!(held(&run), (0, 0), "{offer}");
        for _ in 0..3 {
            let message = b"0123456789".repeat(2000);
            run.feed(&frame(BINARY | RSV1, &deflated(&message)));
            run.connection.message(MessageKind::Text, &message, &mut run.scratch, &mut Vec::new()).unwrap();
        }
        assert_eq!(held(&run), (theirs, ours), "{offer}");
        run.connection.shrink();
        assert_eq!(held(&run), (theirs, 0), "{offer}");
    }
}

#[test]
fn similar_messages_need_little() {
    let message: Vec<u8> =
        (0..100u32).flat_map(|n| format!("{:08x} ", n.wrapping_mul(0x9E37_79B1)).into_bytes()).collect();
    let sizes = |agreed| {
        let mut c = Connection::with(Limits::default(), Some(agreed));
        let mut s = Scratch::new();
        [(); 3].map(|()| {
            let mut out = Vec::new();
            c.message(MessageKind::Text, &message, &mut s, &mut out).unwrap();
            out.len()
        })
    };
    let [first, second, third] = sizes(simple());
    assert!(second < first / 10 && third < first / 10, "{first} {second} {third}");
    let [first, second, third] = sizes(no_context());
    assert_eq!((second, third), (first, first));
}

/// Frames of a server as a client would send them.
pub(super) fn masked(mut octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, length, rest @ ..] = octets {
        let (len, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            n => (usize::from(*n), rest),
        };
        out.extend(frame(*first, &rest[..len]));
        octets = &rest[len..];
    }
    out
}

/// A connection that takes what one of ours with the same agreement sends, by an inflater that is always the same.
pub(super) fn client(agreed: Agreed) -> Connection {
    let mut swapped = dedicated();
    swapped.client_no_context = agreed.server_no_context;
    Connection::with(Limits { message: 0, ..Limits::default() }, Some(swapped))
}

#[test]
fn small_messages_stay_plain() {
    let agreed = agreed("permessage-deflate", Settings { min_size: 20, ..Settings::default() });
    let mut c = Connection::with(Limits::default(), Some(agreed));
    let (mut s, mut out) = (Scratch::new(), Vec::new());
    c.message(MessageKind::Text, &[b'x'; 19], &mut s, &mut out).unwrap();
    assert_eq!(out[0], 0x81);
    out.clear();
    c.message(MessageKind::Text, &[b'x'; 20], &mut s, &mut out).unwrap();
    assert_eq!(out[0], 0xc1);
    assert!(out.len() < 12);
    assert!(c.header(MessageKind::Text, 20, true).is_none());
    assert!(c.header(MessageKind::Text, 19, true).is_some());
    assert!(c.header(MessageKind::Text, 0, false).is_none(), "of unknown length");
    // What would not get smaller is sent as it is, where nobody remembers it.
    let mut c = Connection::with(Limits::default(), Some(no_context()));
    out.clear();
    c.message(MessageKind::Binary, &noise(100), &mut s, &mut out).unwrap();
    assert_eq!((out[0], out.len()), (0x82, 102));
}

#[test]
fn empty_messages_have_an_empty_block() {
    for agreed in [simple(), no_context(), dedicated()] {
        let mut c = Connection::with(Limits::default(), Some(agreed));
        let (mut s, mut out) = (Scratch::new(), Vec::new());
        for _ in 0..2 {
            out.clear();
            c.message(MessageKind::Text, b"", &mut s, &mut out).unwrap();
            // It does not get smaller, and is sent as it is where no compressor remembers it.
            assert_eq!(out, if agreed == dedicated() { &[0xc1, 1, 0][..] } else { &[0x81, 0] });
        }
    }
}

#[test]
fn output_that_just_fits_its_steps() {
    let mut s = Scratch::new();
    let whole = noise(16_500);
    for len in 16_300..16_450 {
        let mut c = Connection::with(Limits::default(), Some(simple()));
        let mut out = Vec::new();
        c.message(MessageKind::Binary, &whole[..len], &mut s, &mut out).unwrap();
        c.message(MessageKind::Binary, b"next", &mut s, &mut out).unwrap();
        let mut run = Run::new(client(simple()));
        run.feed(&masked(&out));
        assert_eq!(run.seen, [binary(&whole[..len]), binary(b"next")], "{len}");
    }
}

#[test]
fn pieces_are_one_compressed_message() {
    for agreed in [simple(), no_context(), dedicated()] {
        let mut c = Connection::with(Limits { fragment_size: 50, ..Limits::default() }, Some(agreed));
        let (mut s, mut out) = (Scratch::new(), Vec::new());
        let long = noise(200_000);
        c.piece(MessageKind::Binary, b"begin", false, &mut s, &mut out).unwrap();
        assert!(c.sending_message() && c.header(MessageKind::Binary, 1, false).is_none());
        assert_eq!(c.message(MessageKind::Text, b"", &mut s, &mut out), Err(SendError::Unfinished));
        assert!(!c.ready_made(false));
        c.shrink();
        c.ping(b"", &mut out).unwrap();
        c.piece(MessageKind::Binary, &long, false, &mut s, &mut out).unwrap();
        c.piece(MessageKind::Binary, b"", true, &mut s, &mut out).unwrap();
        assert!(!c.sending_message());
        c.message(MessageKind::Text, b"", &mut s, &mut out).unwrap();
        c.message(MessageKind::Text, b"next", &mut s, &mut out).unwrap();
        let mut run = Run::new(client(agreed));
        run.feed(&masked(&out));
        let whole = [b"begin", &long[..]].concat();
        assert_eq!(run.seen, [Seen::Ping, binary(&whole), text(""), text("next")]);
    }
}

#[test]
fn shared_messages_between_own_ones() {
    let own = b"A message of this connection, which is repeated.".repeat(10);
    for window in [9, 12, 15] {
        let settings = Settings { window, min_size: 0, ..Settings::default() };
        let agreed = agreed("permessage-deflate; client_max_window_bits", settings);
        let mut c = Connection::with(Limits::default(), Some(agreed));
        let (mut s, mut out) = (Scratch::new(), Vec::new());
        let shared = b"A message of a channel for all its subscribers. ".repeat(30);
        let payload = deflate::compress_message(&shared, 1, c.shared_window().unwrap(), &mut s).unwrap().unwrap();
        let header = crate::ws::frame::Header {
            fin: true,
            rsv1: true,
            opcode: crate::ws::frame::Opcode::Text,
            len: payload.len() as u64,
        };
        for _ in 0..3 {
            c.message(MessageKind::Text, &own, &mut s, &mut out).unwrap();
            assert!(c.ready_made(true));
            out.extend_from_slice(&header.encode());
            out.extend_from_slice(&payload);
        }
        let mut run = Run::new(client(agreed));
        run.feed(&masked(&out));
        let (own, shared) = (text(std::str::from_utf8(&own).unwrap()), text(std::str::from_utf8(&shared).unwrap()));
        assert_eq!(run.seen, [own.clone(), shared.clone(), own.clone(), shared.clone(), own, shared]);
    }
    let mut s = Scratch::new();
    assert_eq!(deflate::compress_message(&noise(100), 1, 15, &mut s), Ok(None));
    let mut plain = Connection::new(Limits::default());
    assert_eq!((plain.shared_window(), plain.ready_made(true), plain.ready_made(false)), (None, false, true));
    plain.close(CloseCode::NORMAL, "", &mut Vec::new());
    assert!(!plain.ready_made(false));
}

/// What a server may send, and how.
#[derive(Debug, Clone)]
enum Send {
    Message(Vec<u8>),
    Pieces(Vec<Vec<u8>>),
    Shared(Vec<u8>),
    Shrink,
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        ("[a-c]{0,20}", 0usize..2000).prop_map(|(s, n)| s.repeat(n).into_bytes()),
    ]
}

fn sends() -> impl Strategy<Value = Vec<Send>> {
    let one = prop_oneof![
        4 => payload().prop_map(Send::Message),
        2 => prop::collection::vec(payload(), 1..4).prop_map(Send::Pieces),
        1 => payload().prop_map(Send::Shared),
        1 => Just(Send::Shrink),
    ];
    prop::collection::vec(one, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_sent_arrives(
        sends in sends(),
        (window, level) in (9u8..16, 1u8..10),
        context in prop::sample::select(&CONTEXTS[..]),
        (min_size, fragment_size) in (0u64..50, 0u64..200),
    ) {
        let agreed = agreed("permessage-deflate", Settings { level, window, min_size, context });
        let limits = Limits { fragment_size, ..Limits::default() };
        let mut c = Connection::with(limits, Some(agreed));
        let (mut s, mut out, mut expected) = (Scratch::new(), Vec::new(), Vec::new());
        for send in sends {
            match send {
                Send::Message(payload) => {
                    c.message(MessageKind::Binary, &payload, &mut s, &mut out).unwrap();
                    expected.push(binary(&payload));
                }
                Send::Pieces(pieces) => {
                    for (i, piece) in pieces.iter().enumerate() {
                        c.piece(MessageKind::Binary, piece, i + 1 == pieces.len(), &mut s, &mut out).unwrap();
                    }
                    expected.push(binary(&pieces.concat()));
                }
                Send::Shared(payload) => {
                    if let Some(compressed) = deflate::compress_message(&payload, level, window, &mut s).unwrap() {
                        prop_assert!(c.ready_made(true));
                        let opcode = crate::ws::frame::Opcode::Binary;
                        let len = compressed.len() as u64;
                        let header = crate::ws::frame::Header { fin: true, rsv1: true, opcode, len };
                        out.extend_from_slice(&header.encode());
                        out.extend(compressed);
                        expected.push(binary(&payload));
                    }
                }
                Send::Shrink => c.shrink(),
            }
        }
        let octets = masked(&out);
        let mut whole = Run::new(client(agreed));
        whole.feed(&octets);
        prop_assert_eq!(&whole.seen, &expected);
        let mut single = Run::new(client(agreed));
        octets.iter().for_each(|&octet| single.feed(&[octet]));
        prop_assert_eq!(&single.seen, &expected);
    }

    #[test]
    fn a_client_may_use_all_of_the_window_that_was_agreed(
        payloads in prop::collection::vec((payload(), 0usize..9000), 0..8),
        client in prop::sample::select(vec!["", "; client_max_window_bits", "; client_max_window_bits=9", "; client_max_window_bits=11"]),
        (window, level) in (9u8..16, 1u8..10),
        context in prop::sample::select(&CONTEXTS[..]),
    ) {
        let offer = format!("permessage-deflate{client}");
        let agreed = agreed(&offer, Settings { window, min_size: 0, context, ..Settings::default() });
        let mut compressor = deflate::Compressor::new(level, agreed.client_window);
        let (mut octets, mut expected) = (Vec::new(), Vec::new());
        for (mut payload, spread) in payloads {
            // What repeats is as far away as the window reaches, or just beyond it.
            payload.extend(noise(spread));
            if agreed.client_no_context {
                compressor = deflate::Compressor::new(level, agreed.client_window);
            }
            let mut out = Vec::new();
            compressor.compress(&payload, true, &mut out).unwrap();
            octets.extend(frame(BINARY | RSV1, &out));
            expected.push(binary(&payload));
        }
        let mut run = Run::new(Connection::with(Limits::default(), Some(agreed)));
        run.feed(&octets);
        prop_assert_eq!(&run.seen, &expected);
    }

    #[test]
    fn damaged_streams_are_the_same_at_every_split(
        payload in payload(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        message in 0u64..3000,
    ) {
        let mut compressed = deflated(&payload);
        for (at, octet) in damage {
            let at = at.index(compressed.len());
            compressed[at] ^= octet;
        }
        let octets = [frame(BINARY | RSV1, &compressed), frame(BINARY | RSV1, &deflated(b"next"))].concat();
        let _ = run_limited(Limits { message, ..Limits::default() }, &octets);
    }
}
