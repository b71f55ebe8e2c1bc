// SPDX-License-Identifier: Apache-2.0

//! The headers of a handshake, and all that is read out of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::ws::deflate::{Context, Settings, negotiate};
use ngx_ws_exec::ws::handshake::{HandshakeRequest, HttpVersion, evaluate, protocol};
use ngx_ws_exec::ws::origin::{Pattern, Target, is_same};

fuzz_target!(|data: &[u8]| {
    let Some((flags, text)) = data.split_first() else { return };
    let version = [HttpVersion::Http11, HttpVersion::Http10, HttpVersion::Http2, HttpVersion::Http3];
    let version = version[usize::from(flags & 3)];
    let mut lines = text.split(|&octet| octet == b'\n');
    let method = lines.next().unwrap_or_default();
    let headers: Vec<(&[u8], &[u8])> = lines
        .map(|line| {
            let colon = line.iter().position(|&octet| octet == b':').unwrap_or(line.len());
            (&line[..colon], line.get(colon + 1..).unwrap_or_default())
        })
        .collect();
    let request = HandshakeRequest { method, version, has_body: flags & 4 != 0 };
    let host = headers.iter().find(|(name, _)| *name == b"Host").map_or(&b""[..], |(_, value)| value);
    match evaluate(request, headers.iter().copied()) {
        Err(refusal) => {
            assert!((400..500).contains(&refusal.status()));
            let _ = refusal.headers(version);
        }
        Ok(accepted) => {
            assert!(method == b"GET" && version == HttpVersion::Http11 && !request.has_body);
            assert!(accepted.accept.as_ref().iter().all(u8::is_ascii_graphic));
            assert!(accepted.protocols.iter().all(|name| protocol::is_valid(name)));
            if let Some(name) = protocol::select(&accepted.protocols, &["chat", "a"]) {
                assert!(name == "chat" || name == "a");
            }
            for window in [9, 15] {
                let context = if flags & 8 == 0 { Context::History } else { Context::Off };
                let settings = Settings { window, context, ..Settings::default() };
                let Some(agreed) = negotiate(&accepted.extensions, &settings) else { continue };
                assert!((9..=window).contains(&agreed.server_window) && (8..=15).contains(&agreed.client_window));
                // The answer is itself an offer, and the answer to it is the same.
                let answer = agreed.to_string();
                let again = negotiate(&[answer.as_bytes()], &settings).map(|agreed| agreed.to_string());
                assert_eq!(again, Some(answer));
            }
            if let Some(origin) = accepted.origin {
                let _ = is_same(origin, Target { host, tls: flags & 16 != 0 });
                if let Ok(pattern) = Pattern::parse(origin) {
                    let _ = pattern.matches(origin);
                }
                if let Ok(pattern) = Pattern::parse(host) {
                    let _ = pattern.matches(origin);
                }
            }
        }
    }
});
