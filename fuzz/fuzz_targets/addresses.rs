// SPDX-License-Identifier: Apache-2.0

//! Addresses and names that configurations, files and clients give: engines, services, tokens, origins, recordings and programs' paths.
#![no_main]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::exec::create::is_made_of_names;
use ngx_ws_exec::recording::name;
use ngx_ws_exec::redis::url::{Place, Url};
use ngx_ws_exec::tcp::allow::{Rule, chosen_by_client};
use ngx_ws_exec::tcp::proxy_protocol::{Ends, Version, header};
use ngx_ws_exec::tcp::tokens::text::{self, MAX_TOKEN, Parsed};
use ngx_ws_exec::ws::origin::{Pattern, Target, is_same};

fn engine(text: &str) {
    let Ok(url) = Url::parse(text) else { return };
    let printed = url.to_string();
    let without_credentials = Url { user: None, password: None, ..url.clone() };
    assert_eq!(Url::parse(&printed), Ok(without_credentials), "{printed}");
    match &url.place {
        Place::Server(node) => assert!(node.port != 0 && !node.host.is_empty()),
        Place::Unix(path) => assert!(path.starts_with('/')),
        Place::Sentinel { sentinels: nodes, name } => assert!(!nodes.is_empty() && !name.is_empty()),
        Place::Cluster(nodes) => assert!(!nodes.is_empty() && url.database == 0),
    }
}

/// What a file of tokens may lead to.
fn is_target(target: &[u8]) -> bool {
    if let Some(path) = target.strip_prefix(b"unix:") {
        return path.starts_with(b"/")
            && path.split(|octet| *octet == b'/').all(|name| name != b"..")
            && path.len() < 108;
    }
    let Some((host, port)) = std::str::from_utf8(target).ok().and_then(|target| target.rsplit_once(':')) else {
        return false;
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".-_".contains(&octet)),
    };
    is_host && port.bytes().all(|octet| octet.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn tokens(octets: &[u8]) {
    let Parsed { mut targets, malformed, tail } = text::parse(octets, b"/etc/nginx");
    for (token, target) in &targets {
        assert!((1..=MAX_TOKEN).contains(&token.len()));
        assert!(is_target(target), "{}", target.escape_ascii());
    }
    // A newline at the end makes a line of the tail, and changes nothing else.
    let ended = text::parse(&[octets, b"\n"].concat(), b"/etc/nginx");
    assert!(ended.tail.is_none());
    match tail {
        Some(Ok((token, target))) => {
            targets.insert(token, target);
            assert_eq!(malformed, ended.malformed);
        }
        Some(Err(last)) => assert_eq!(ended.malformed.last(), Some(&last)),
        None => assert_eq!(malformed, ended.malformed),
    }
    assert_eq!(targets, ended.targets);
    if let Some(token) = text::argument(octets) {
        assert!(token.len() <= MAX_TOKEN);
        let encoded: String = token.iter().map(|octet| format!("%{octet:02x}")).collect();
        assert_eq!(text::argument(format!("a=b&token={encoded}&c").as_bytes()), Some(token));
    }
}

fn rule(octets: &[u8], other: SocketAddr) {
    match Rule::parse(octets) {
        Some(rule @ Rule::Network { address, prefix, .. }) => {
            let Rule::Network { ports, .. } = &rule else { return };
            let width = if address.is_ipv4() { 32 } else { 128 };
            // An address of IPv4 that is written as one of IPv6 is that of IPv4, and meets no rule for IPv6.
            if address.is_ipv4() || address.to_canonical() == address {
                assert!(rule.allows_address(SocketAddr::new(address, *ports.start())));
                assert!(rule.allows_address(SocketAddr::new(address, *ports.end())));
            }
            assert!(*ports.start() == 1 || !rule.allows_address(SocketAddr::new(address, *ports.start() - 1)));
            if prefix > 0 && other.is_ipv4() == address.is_ipv4() {
                let (bits, common) = match (address, other.ip().to_canonical()) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => (32, (u32::from(a) ^ u32::from(b)).leading_zeros()),
                    (IpAddr::V6(a), IpAddr::V6(b)) => (128, (u128::from(a) ^ u128::from(b)).leading_zeros()),
                    _ => (0, 0),
                };
                let is_inside = bits == width && common >= u32::from(prefix) && ports.contains(&other.port());
                assert_eq!(rule.allows_address(other), is_inside);
            }
            assert!(!rule.allows_name(b"a", *ports.start()) && !rule.allows_path(b"/") && !rule.allows_upstreams());
        }
        Some(rule @ Rule::Name { .. }) => {
            let Rule::Name { name, below, ports } = &rule else { return };
            assert_eq!(rule.allows_name(name, *ports.start()), !below);
            let child = [b"a.", &name[..]].concat();
            assert_eq!(rule.allows_name(&child, *ports.end()), *below);
            assert_eq!(rule.allows_name(&[&child[..], b"."].concat().to_ascii_uppercase(), *ports.end()), *below);
            assert!(!rule.allows_name(&[b"a", &name[..]].concat(), *ports.end()));
            assert!(!rule.allows_address(other));
        }
        Some(Rule::Path(path)) => {
            let rule = Rule::Path(path.clone());
            assert_eq!(rule.allows_path(&path), !path.ends_with(b"/"));
            assert!(
                !rule.allows_path(&[&path[..], b"../a"].concat()) && !rule.allows_path(&[&path[..], b".."].concat())
            );
        }
        Some(Rule::Any | Rule::Upstream) | None => {}
    }
    if let Some(name) = chosen_by_client(octets) {
        assert!(
            octets.windows(name.len() + 1).any(|part| part[0] == b'$' && &part[1..] == name) || octets.contains(&b'{')
        );
    }
}

/// Reads a header of the PROXY protocol; the addresses in it.
fn read_proxy_header(octets: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    if let Some(line) = octets.strip_prefix(b"PROXY ") {
        let line = std::str::from_utf8(line).expect("text").strip_suffix("\r\n").expect("a line");
        assert!(octets.len() <= 107);
        let words: Vec<_> = line.split(' ').collect();
        let [family, from, to, from_port, to_port] = words[..] else {
            assert_eq!(line, "UNKNOWN");
            return None;
        };
        let end =
            |ip: &str, port: &str| SocketAddr::new(ip.parse().expect("an address"), port.parse().expect("a port"));
        let (from, to) = (end(from, from_port), end(to, to_port));
        assert!([from, to].iter().all(|end| end.is_ipv4() == (family == "TCP4")));
        return Some((from, to));
    }
    let rest = octets.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n").expect("the signature");
    let [command, family, high, low, rest @ ..] = rest else { panic!("too short") };
    assert_eq!(rest.len(), usize::from(u16::from_be_bytes([*high, *low])));
    let size = match (command, family) {
        (0x20, 0) => return None,
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        other => panic!("{other:?}"),
    };
    let address = |octets: &[u8]| match *octets {
        [a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(<[u8; 16]>::try_from(octets).expect("sixteen")),
    };
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    Some((
        SocketAddr::new(address(&rest[..size]), port(2 * size)),
        SocketAddr::new(address(&rest[size..2 * size]), port(2 * size + 2)),
    ))
}

fn proxy(source: SocketAddr, destination: SocketAddr) {
    for ends in [
        Ends { source: Some(source), destination: Some(destination) },
        Ends { source: Some(source), destination: None },
        Ends { source: None, destination: Some(destination) },
    ] {
        let [text, binary] = [Version::V1, Version::V2].map(|version| read_proxy_header(&header(version, &ends)));
        assert_eq!(text, binary);
        assert_eq!(text.is_some(), ends.source.is_some());
        let Some((from, to)) = text else { continue };
        let canonical = |end: SocketAddr| (end.ip().to_canonical(), end.port());
        assert_eq!(canonical(from), canonical(source));
        if ends.destination.is_some() {
            assert_eq!(canonical(to), canonical(destination));
        }
    }
}

fn origin(octets: &[u8]) {
    let Ok(pattern) = Pattern::parse(octets) else { return };
    let text = std::str::from_utf8(octets).expect("patterns are UTF-8");
    // A pattern that names everything is an origin, and that one is met; and nothing below it is.
    if let Some((scheme, host)) = text.split_once("://")
        && !text.contains('*')
    {
        assert!(pattern.matches(octets), "{text}");
        assert!(!pattern.matches(format!("{scheme}://a.{host}").as_bytes()), "{text}");
        assert!(!pattern.matches(format!("{scheme}x://{host}").as_bytes()), "{text}");
        if ["http", "https"].contains(&scheme) {
            assert!(is_same(octets, Target { host: host.as_bytes(), tls: false }), "{text}");
        }
    }
}

fn recording(octets: &[u8]) {
    let (directory, rest) = name::split(octets);
    assert_eq!([directory, rest].concat(), octets);
    assert!(!directory.contains(&b'$') && (directory.is_empty() || directory.ends_with(b"/")));
    if let Ok(Some(path)) = name::below(b"/var/log/", octets) {
        assert!(is_made_of_names(path) && !path.contains(&0));
        let mut names = path.split(|octet| *octet == b'/');
        assert!(names.all(|name| !name.is_empty() && name != b"." && name != b".."));
    }
}

fn address(octets: [u8; 18]) -> SocketAddr {
    let port = u16::from_be_bytes([octets[16], octets[17]]);
    let long: [u8; 16] = octets[..16].try_into().expect("sixteen");
    match long {
        [0, 0, a, b, c, d, ..] => SocketAddr::new(IpAddr::from([a, b, c, d]), port),
        long => SocketAddr::new(IpAddr::from(long), port),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 5 {
        0 => {
            if let Ok(text) = std::str::from_utf8(rest) {
                engine(text);
            }
        }
        1 => tokens(rest),
        2 => {
            let Some((octets, rest)) = rest.split_first_chunk() else { return };
            let source = address(*octets);
            rule(rest, source);
            if let Some(octets) = rest.first_chunk() {
                proxy(source, address(*octets));
            }
        }
        3 => origin(rest),
        _ => recording(rest),
    }
});
