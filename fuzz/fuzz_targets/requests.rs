// SPDX-License-Identifier: Apache-2.0

//! What requests for channels say: which transport they choose, against a reader of lists that does one octet at a time, and which
//! limits they set.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::channel::hook::hops;
use ngx_ws_exec::channel::info::InfoForm;
use ngx_ws_exec::channel::store::{Change, GroupChange};
use ngx_ws_exec::channel::transport::{Transport, TransportRequest, Transports, asks_for_page};
use ngx_ws_exec::conf::group_change;

/// The elements of a list, each with its parameters (RFC 9110, sections 5.6.1 and 5.6.6).
fn elements(list: &[u8]) -> Vec<Vec<String>> {
    let mut elements = vec![vec![String::new()]];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for &octet in list {
        let separates = !is_quoted && matches!(octet, b',' | b';');
        match octet {
            b',' if separates => elements.push(vec![String::new()]),
            b';' if separates => elements.last_mut().expect("one at least").push(String::new()),
            octet => {
                let part = elements.last_mut().and_then(|parts| parts.last_mut()).expect("one at least");
                part.push(char::from(octet.to_ascii_lowercase()));
                if is_escaped {
                    is_escaped = false;
                } else if octet == b'"' {
                    is_quoted = !is_quoted;
                } else {
                    is_escaped = octet == b'\\' && is_quoted;
                }
            }
        }
    }
    for part in elements.iter_mut().flatten() {
        *part = part.trim_matches([' ', '\t']).to_owned();
    }
    elements
}

/// Whether an element is named without a weight of zero.
fn names(list: &[u8], element: &str) -> bool {
    elements(list).iter().any(|parts| {
        let is_zero = |weight: &str| weight.starts_with('0') && weight.bytes().all(|octet| b"0.".contains(&octet));
        parts[0] == element && !parts[1..].iter().any(|part| part.strip_prefix("q=").is_some_and(is_zero))
    })
}

fn expected(offered: Transports, accept: &[u8], te: &[u8], can_chunk: bool) -> Option<Transport> {
    use Transport::{Chunked, EventSource, LongPoll, Multipart, Poll, Raw, WebSocket};
    let (events, parts) = (names(accept, "text/event-stream"), names(accept, "multipart/mixed"));
    let mut wanted = Vec::new();
    wanted.extend(events.then_some(EventSource));
    wanted.extend((can_chunk && names(te, "chunked")).then_some(Chunked));
    wanted.extend(parts.then_some(Multipart));
    if !events && !parts {
        wanted.extend([Poll, Raw, LongPoll, WebSocket]);
    }
    wanted.into_iter().find(|transport| offered.offer(*transport))
}

/// The query that sets these limits.
fn query(change: &GroupChange) -> String {
    fn one<T: std::fmt::Display>(name: &str, limit: &Change<T>) -> String {
        match limit {
            Change::Keep => String::new(),
            Change::Location => format!("max_{name}=&"),
            Change::To(value) => format!("{name}={value}&"),
        }
    }
    let GroupChange { channels, subscribers, messages, bytes } = change;
    [one("channels", channels), one("subscribers", subscribers), one("messages", messages), one("bytes", bytes)]
        .concat()
}

fuzz_target!(|data: &[u8]| {
    let [offered, flags, rest @ ..] = data else { return };
    let transports = Transport::NAMES.iter().map(|(_, transport)| *transport);
    let offered: Transports = transports.filter(|transport| offered & 1 << transport.number() != 0).collect();
    let mut lines = rest.split(|octet| *octet == b'\n');
    let (accept, te) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let can_chunk = flags & 1 != 0;
    let chosen = offered.choose(&TransportRequest { accept: &[accept], te: &[te], can_chunk });
    assert_eq!(chosen, expected(offered, accept, te, can_chunk));
    let is_page =
        names(accept, "text/html") && !names(accept, "text/event-stream") && !names(accept, "multipart/mixed");
    assert_eq!(asks_for_page(&[accept]), is_page);
    let form = InfoForm::negotiate([accept]);
    assert_eq!(InfoForm::negotiate([form.content_type().as_bytes()]), form);

    let limits = lines.next().unwrap_or_default();
    let (mut change, mut among_others) = (GroupChange::default(), GroupChange::default());
    if group_change(limits, false, &mut change).is_ok() {
        assert_eq!(group_change(limits, true, &mut among_others), Ok(()));
        assert_eq!(change, among_others);
        let mut again = GroupChange::default();
        assert_eq!(group_change(query(&change).as_bytes(), false, &mut again), Ok(()));
        assert_eq!(again, change);
    }
    if let Some(count) = hops(lines.next()) {
        assert_eq!(hops(Some(count.to_string().as_bytes())), Some(count));
    }
});
