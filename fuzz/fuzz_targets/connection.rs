// SPDX-License-Identifier: Apache-2.0

//! The state machine of a connection: any octets of a client, cut anyhow, between anything that we send.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::ws::deflate::{Context, Settings, negotiate};
use ngx_ws_exec::ws::{CloseCode, Connection, Limits, MessageKind};
use ngx_ws_exec_fuzz::{Run, check_frames};

fn connection(flags: u8) -> Connection {
    let context = if flags & 2 == 0 { Context::History } else { Context::Off };
    let settings = Settings { min_size: 4, context, ..Settings::default() };
    let agreed = negotiate(&[b"permessage-deflate"], &settings).filter(|_| flags & 1 != 0);
    let limits = Limits {
        message: if flags & 4 != 0 { 64 } else { 1 << 16 },
        frame: if flags & 8 != 0 { 32 } else { 0 },
        fragments: if flags & 16 != 0 { 3 } else { 0 },
        fragment_size: if flags & 32 != 0 { 3 } else { 0 },
    };
    Connection::with(limits, agreed)
}

fuzz_target!(|data: &[u8]| {
    let [flags, size, action, octets @ ..] = data else { return };
    // The cut makes no difference.
    let mut whole = Run::new(connection(*flags));
    whole.feed(octets);
    check_frames(&whole.out, false);
    for size in [1, usize::from(*size)] {
        let mut split = Run::new(connection(*flags));
        split.feed_by(octets, size);
        assert_eq!(split.seen, whole.seen);
        assert_eq!(split.out, whole.out);
        assert_eq!(split.connection.finished(), whole.connection.finished());
    }

    // Whatever we send in between, and whenever we close, the frames are right.
    let mut run = Run::new(connection(*flags));
    let mut action = *action;
    for piece in octets.chunks(usize::from(*size).max(1)) {
        run.feed(piece);
        let (connection, scratch, out) = (&mut run.connection, &mut run.scratch, &mut run.out);
        action = action.wrapping_mul(5).wrapping_add(piece[0]);
        let _ = match action >> 4 {
            0..=3 => connection.message(MessageKind::Binary, piece, scratch, out).map(drop),
            4..=6 => connection.piece(MessageKind::Text, piece, action & 1 != 0, scratch, out).map(drop),
            7 => connection.ping(piece, out).map(drop),
            8 => {
                if let Some(header) = connection.header(MessageKind::Binary, piece.len() as u64, action & 1 != 0) {
                    out.extend_from_slice(&header);
                    out.extend_from_slice(piece);
                }
                Ok(())
            }
            9 => {
                connection.shrink();
                Ok(())
            }
            10 if action & 3 == 0 => {
                let code = CloseCode::new(u16::from(piece[0]) << 4).unwrap_or(CloseCode::INTERNAL);
                connection.close(code, &String::from_utf8_lossy(piece), out);
                assert!(connection.close_sent());
                Ok(())
            }
            _ => Ok(()),
        };
    }
    check_frames(&run.out, true);
});
