// SPDX-License-Identifier: Apache-2.0

//! PROTOCOL: the windows of permessage-deflate.

use zlib_rs::{Inflate, InflateFlush};

use super::deflate_tests::*;
use super::tests::*;
use super::*;
use crate::ws::deflate::Settings;

#[test]
fn every_window_and_level() {
    let message = [noise(5000), b"text that repeats itself ".repeat(400), noise(5000)].concat();
    for window in 9..=15 {
        for level in [1, 2, 6, 9] {
            for context in CONTEXTS {
                let agreed = agreed("permessage-deflate", Settings { level, window, min_size: 0, context });
                let mut c = Connection::with(Limits::default(), Some(agreed));
                let (mut s, mut out) = (Scratch::new(), Vec::new());
                for _ in 0..3 {
                    c.message(MessageKind::Binary, &message, &mut s, &mut out).unwrap();
                }
                assert!(out.len() < message.len() * 3);
                let mut run = Run::new(client(agreed));
                run.feed(&masked(&out));
                assert_eq!(run.seen, vec![binary(&message); 3]);
            }
        }
    }
}

/// The messages in frames of a server, as a client gets them that has a window of just this size.
fn with_window(window: u8, frames: &[u8]) -> Vec<Vec<u8>> {
    let mut inflate = Inflate::new(false, window);
    let mut rest = frames;
    let mut messages = Vec::new();
    while let [first, 126, high, low, after @ ..] = rest {
        assert_eq!(first & 0xF0, 0x80 | RSV1, "one frame, and compressed");
        let (payload, after) = after.split_at(u16::from_be_bytes([*high, *low]).into());
        let input = [payload, &[0x00, 0x00, 0xFF, 0xFF]].concat();
        let (begin_in, begin_out) = (inflate.total_in(), inflate.total_out());
        let mut message = Vec::new();
        // One octet at a time: what is further back than the window cannot be taken from the output.
        loop {
            let mut octet = [0];
            let at = (inflate.total_in() - begin_in) as usize;
            inflate.decompress(&input[at..], &mut octet, InflateFlush::SyncFlush).unwrap();
            if inflate.total_out() - begin_out == message.len() as u64 {
                break;
            }
            message.extend(octet);
        }
        messages.push(message);
        rest = after;
    }
    assert!(rest.is_empty());
    messages
}

#[test]
fn a_client_needs_no_more_than_the_window_that_was_agreed() {
    for (window, level) in [(9, 1), (9, 2), (9, 6), (9, 9), (10, 2), (12, 2)] {
        for context in CONTEXTS {
            let agreed = agreed("permessage-deflate", Settings { level, window, min_size: 0, context });
            let mut c = Connection::with(Limits::default(), Some(agreed));
            let (mut s, mut out) = (Scratch::new(), Vec::new());
            // What is repeated is just within the window, at its end, or beyond.
            let distances = [-300, -263, -262, -261, -1, 0, 1, 300]
                .map(|more| noise((1_usize << window).wrapping_add_signed(more)));
            let messages = distances.map(|part| [&part[..], &part[..], &[b'x'; 300]].concat());
            for message in &messages {
                c.message(MessageKind::Binary, message, &mut s, &mut out).unwrap();
            }
            assert_eq!(with_window(window, &out), messages, "window {window}, level {level}, {context:?}");
        }
    }
}
