// SPDX-License-Identifier: Apache-2.0

//! Headers of frames: a client's at every cut, a server's there and back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::ws::frame::{ClientHeader, Expected, Header, MAX_CLIENT_HEADER};

fuzz_target!(|data: &[u8]| {
    let Some((flags, octets)) = data.split_first() else { return };
    let expected = Expected { continuation: flags & 1 != 0, compression: flags & 2 != 0 };
    let whole = ClientHeader::parse(octets, expected);
    let end = octets.len().min(MAX_CLIENT_HEADER);
    for cut in 0..=end {
        match ClientHeader::parse(&octets[..cut], expected) {
            Ok(None) => assert!(cut < MAX_CLIENT_HEADER),
            other => {
                assert_eq!(other, whole);
                break;
            }
        }
    }
    let Ok(Some((header, used))) = whole else { return };
    assert!(used <= end && header.len <= i64::MAX as u64);
    // The same header of a server, masked, is read as it was.
    let encoded = Header { fin: header.fin, rsv1: header.rsv1, opcode: header.opcode, len: header.len }.encode();
    let mut masked = encoded.to_vec();
    masked[1] |= 0x80;
    masked.extend(header.key);
    assert!(masked.len() <= used, "the shortest form");
    assert_eq!(ClientHeader::parse(&masked, expected), Ok(Some((header, masked.len()))));
});
