// SPDX-License-Identifier: Apache-2.0

//! Compressed streams: any octets as compressed messages, cut anyhow; and what we compress, there and back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::ws::deflate::{Context, Settings, compress_message, negotiate};
use ngx_ws_exec::ws::frame::{Header, Opcode};
use ngx_ws_exec::ws::{Connection, Limits, MessageKind, Scratch};
use ngx_ws_exec_fuzz::{Run, Seen, check_frames, client_frame};

const KEY: [u8; 4] = [0x11, 0, 0xa5, 0x7e];

fn connection(flags: u8, message: u64) -> Connection {
    let window = 9 + (flags >> 2) % 7;
    let context = if flags & 1 == 0 { Context::History } else { Context::Off };
    let settings = Settings { min_size: 0, context, window, level: 1 + (flags >> 4) % 9 };
    let agreed = negotiate(&[b"permessage-deflate; client_max_window_bits"], &settings);
    Connection::with(Limits { message, ..Limits::default() }, agreed)
}

fuzz_target!(|data: &[u8]| {
    let [flags, cut, size, octets @ ..] = data else { return };
    // Two messages, the first in two fragments.
    let (first, second) = octets.split_at(octets.len() * usize::from(*cut) / 256);
    let (begin, end) = first.split_at(first.len() / 2);
    let kind = if flags & 2 == 0 { 1 } else { 2 };
    let input =
        [client_frame(0x40 | kind, KEY, begin), client_frame(0x80, KEY, end), client_frame(0xc0 | kind, KEY, second)]
            .concat();
    let limit = 100_000;
    let mut whole = Run::new(connection(*flags, limit));
    whole.feed(&input);
    for size in [1, usize::from(*size)] {
        let mut split = Run::new(connection(*flags, limit));
        split.feed_by(&input, size);
        assert_eq!(split.seen, whole.seen);
    }
    for seen in &whole.seen {
        assert!(!matches!(seen, Seen::Message(_, octets) if octets.len() as u64 > limit));
    }

    // The octets as messages, in pieces, shared, and again.
    let mut server = connection(*flags, 0);
    let (mut scratch, mut out, mut expected) = (Scratch::new(), Vec::new(), Vec::new());
    for _ in 0..2 {
        let pieces = octets.chunks(usize::from(*size).max(1));
        let count = pieces.len();
        for (i, piece) in pieces.enumerate() {
            server.piece(MessageKind::Binary, piece, i + 1 == count, &mut scratch, &mut out).expect("open");
        }
        server.message(MessageKind::Binary, first, &mut scratch, &mut out).expect("open");
        if count > 0 {
            expected.push(octets);
        }
        expected.push(first);
        let window = server.shared_window().expect("agreed");
        if let Some(shared) = compress_message(second, 1, window, &mut scratch).expect("memory") {
            assert!(server.ready_made(true));
            let header = Header { fin: true, rsv1: true, opcode: Opcode::Binary, len: shared.len() as u64 };
            out.extend_from_slice(&header.encode());
            out.extend(shared);
            expected.push(second);
        }
    }
    let mut client = Run::new(connection(*flags, 0));
    for (compressed, payload) in check_frames(&out, true) {
        client.feed(&client_frame(if compressed { 0xc2 } else { 0x82 }, KEY, &payload));
    }
    let expected: Vec<Seen> =
        expected.iter().map(|octets| Seen::Message(MessageKind::Binary, octets.to_vec())).collect();
    assert_eq!(client.seen, expected);
});
