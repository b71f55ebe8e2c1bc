// SPDX-License-Identifier: Apache-2.0

//! The header of a CGI response, read anyhow, against what reading it at once gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::exec::cgi::{Head, HeadError, HeadReader, MOST};
use ngx_ws_exec_fuzz::program::{cut, inflate};

/// The header, and the octets that belong to it.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<(Head, usize)>, HeadError> {
    let mut reader = HeadReader::new();
    let mut before = 0;
    for piece in pieces {
        if let Some((head, length)) = reader.take(piece)? {
            return Ok(Some((head, before + length)));
        }
        before += piece.len();
    }
    Ok(None)
}

fuzz_target!(|data: &[u8]| {
    let [place, size, octets @ ..] = data else { return };
    let octets = inflate(octets);
    let whole = read([octets.as_slice()]);
    // Pieces of one octet would take too long where there are many.
    let size = usize::from(*size).max(octets.len() >> 12);
    assert!(read(cut(&octets, *place, size)) == whole);
    match whole {
        Ok(Some((head, length))) => {
            assert!(length <= octets.len().min(MOST));
            assert!(octets[..length].ends_with(b"\n\n") || octets[..length].ends_with(b"\n\r\n"));
            assert!((200..600).contains(&head.status()));
            for (name, value) in head.fields() {
                assert!(!name.is_empty() && !value.contains(&b'\n') && !value.contains(&b'\r') && !value.contains(&0));
            }
            assert!(head.local_redirect().is_none_or(|path| path.starts_with(b"/") && !path.contains(&b'#')));
        }
        Ok(None) => assert!(octets.len() < MOST),
        Err(_) => {}
    }
});
