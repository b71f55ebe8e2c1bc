// SPDX-License-Identifier: Apache-2.0

//! Lines of a program, read anyhow, against what splitting the whole at newlines gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::exec::framing::{Format, FramingError};
use ngx_ws_exec::ws::MessageKind;
use ngx_ws_exec_fuzz::program::{Said, cut, inflate, read};

fuzz_target!(|data: &[u8]| {
    let [place, size, octets @ ..] = data else { return };
    let octets = inflate(octets);
    let mut expected = Vec::new();
    let mut rest = octets.as_slice();
    while !rest.is_empty() {
        let newline = rest.iter().position(|&octet| octet == b'\n');
        let line = &rest[..newline.unwrap_or(rest.len())];
        // Only before a newline does a carriage return belong to the end of the line.
        let line = if newline.is_some() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        if std::str::from_utf8(line).is_err() {
            expected.push(Said::Error(FramingError::InvalidUtf8));
            break;
        }
        expected.push(Said::Message(MessageKind::Text, line.to_vec()));
        rest = newline.map_or(&[], |newline| &rest[newline + 1..]);
    }
    // Pieces of one octet would take too long where there are many.
    let size = usize::from(*size).max(octets.len() >> 12);
    assert!(read(Format::Lines, [octets.as_slice()]) == expected);
    assert!(read(Format::Lines, cut(&octets, *place, size)) == expected);
});
