// SPDX-License-Identifier: Apache-2.0

//! Records of a program: any octets at any cut, and messages written to a program that sends them back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::exec::framing::{Format, Writer};
use ngx_ws_exec::ws::MessageKind;
use ngx_ws_exec_fuzz::program::{Said, cut, inflate, read};

fuzz_target!(|data: &[u8]| {
    let [place, size, octets @ ..] = data else { return };
    let octets = inflate(octets);
    let size = usize::from(*size).max(octets.len() >> 12);
    let whole = read(Format::Messages, [octets.as_slice()]);
    assert!(read(Format::Messages, cut(&octets, *place, size)) == whole);

    // What was understood, sent to a program and back, is the same; and so are the octets as messages of their own.
    let mut messages: Vec<_> = whole
        .into_iter()
        .filter_map(|said| match said {
            Said::Message(kind, payload) => Some((kind, payload)),
            Said::Note(_) | Said::Close(..) | Said::Error(_) => None,
        })
        .collect();
    let kind = if std::str::from_utf8(&octets).is_ok() { MessageKind::Text } else { MessageKind::Binary };
    messages.push((kind, octets));
    let mut writer = Writer::new(Format::Messages);
    let mut stdin = Vec::new();
    for (kind, payload) in &messages {
        let mut pieces = cut(payload, *place, size).peekable();
        let mut first = true;
        while let Some(piece) = pieces.next() {
            writer.write(*kind, piece, first, pieces.peek().is_none(), &mut stdin).expect("memory");
            first = false;
        }
    }
    let expected: Vec<_> = messages.into_iter().map(|(kind, payload)| Said::Message(kind, payload)).collect();
    assert!(read(Format::Messages, cut(&stdin, *place, size)) == expected);
});
