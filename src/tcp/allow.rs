// SPDX-License-Identifier: Apache-2.0

//! `websocket_tcp_allow`: where an address that is made of variables may lead, and which variables are what the client says.
//!
//! An address that a client can make up lets it reach whatever this machine reaches, services on 127.0.0.1 and the metadata
//! service of a cloud among them. So where the configuration makes an address of the request itself, it has to say which
//! addresses are meant, and each one is compared before anything is connected: what a name was resolved to, not the name, unless
//! the name itself is what was allowed.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// What an argument can be.
pub const EXPECTED: &str = "\"any\", \"upstream\", or an address with a port, a range of ports or \"*\": 10.1.2.3:5900, \
    10.1.0.0/16:5900-5999, [fd00::]/8:22, vm1.example.com:22, *.example.com:*, unix:/run/app.sock, unix:/run/vms/";

/// One argument of `websocket_tcp_allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Every address.
    Any,
    /// The upstream blocks of the configuration.
    Upstream,
    /// These addresses: as many leading bits as `prefix` are the same.
    Network {
        /// The address.
        address: IpAddr,
        /// How many of its leading bits are compared.
        prefix: u8,
        /// The ports that may be connected to.
        ports: RangeInclusive<u16>,
    },
    /// This host, whatever its addresses are.
    Name {
        /// The name in lower case.
        name: Vec<u8>,
        /// The hosts below the name are meant, and not the name itself.
        below: bool,
        /// The ports that may be connected to.
        ports: RangeInclusive<u16>,
    },
    /// This unix socket, or each of this directory if the path ends with a slash.
    Path(Vec<u8>),
}

impl Rule {
    /// Reads one argument. `None` for what is none.
    pub fn parse(argument: &[u8]) -> Option<Self> {
        match argument {
            b"any" => return Some(Rule::Any),
            b"upstream" => return Some(Rule::Upstream),
            [b'u', b'n', b'i', b'x', b':', path @ ..] => {
                let is_plain = path.starts_with(b"/") && path.split(|octet| *octet == b'/').all(|name| name != b"..");
                return is_plain.then(|| Rule::Path(path.to_vec()));
            }
            _ => {}
        }
        let text = std::str::from_utf8(argument).ok()?;
        let (host, ports) = text.rsplit_once(':')?;
        let ports = read_ports(ports)?;
        let (host, bits) = match host.split_once('/') {
            Some((host, bits)) => (host, Some(bits)),
            None => (host, None),
        };
        let address: Option<IpAddr> = match host.strip_prefix('[') {
            Some(rest) => Some(IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?)),
            None => host.parse().ok().filter(IpAddr::is_ipv4),
        };
        match (address, bits) {
            (Some(address), bits) => {
                let width = if address.is_ipv4() { 32 } else { 128 };
                let prefix = match bits {
                    None => width,
                    // What parses numbers would take a sign.
                    Some(bits) if !bits.starts_with('+') => bits.parse().ok().filter(|bits| *bits <= width)?,
                    Some(_) => return None,
                };
                Some(Rule::Network { address, prefix, ports })
            }
            (None, Some(_)) => None,
            (None, None) => {
                let (name, below) = match host.strip_prefix("*.") {
                    Some(name) => (name, true),
                    None => (host, false),
                };
                let is_label = |label: &str| {
                    !label.is_empty()
                        && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
                };
                // What consists of digits and dots is an address that is wrong.
                let is_name = name.split('.').all(is_label) && name.bytes().any(|octet| octet.is_ascii_alphabetic());
                is_name.then(|| Rule::Name { name: name.to_ascii_lowercase().into_bytes(), below, ports })
            }
        }
    }

    /// Whether every address is allowed.
    pub fn allows_all(&self) -> bool {
        *self == Rule::Any
    }

    /// Whether the upstream blocks of the configuration are allowed.
    pub fn allows_upstreams(&self) -> bool {
        matches!(self, Rule::Any | Rule::Upstream)
    }

    /// Whether this host is allowed, whatever its addresses are.
    pub fn allows_name(&self, host: &[u8], port: u16) -> bool {
        match self {
            Rule::Any => true,
            Rule::Name { name, below, ports } => {
                let host = host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase();
                let is_meant = if *below {
                    host.strip_suffix(&name[..]).is_some_and(|labels| labels.len() > 1 && labels.ends_with(b"."))
                } else {
                    host == *name
                };
                is_meant && ports.contains(&port)
            }
            Rule::Upstream | Rule::Network { .. } | Rule::Path(_) => false,
        }
    }

    /// Whether this address is allowed. One of IPv4 inside IPv6 is that of IPv4, as it is for the system.
    pub fn allows_address(&self, wanted: SocketAddr) -> bool {
        match self {
            Rule::Any => true,
            Rule::Network { address, prefix, ports } => {
                let prefix = u32::from(*prefix);
                let same = match (wanted.ip().to_canonical(), *address) {
                    (IpAddr::V4(wanted), IpAddr::V4(address)) => {
                        (u32::from(wanted) ^ u32::from(address)).checked_shr(32 - prefix).unwrap_or(0) == 0
                    }
                    (IpAddr::V6(wanted), IpAddr::V6(address)) => {
                        (u128::from(wanted) ^ u128::from(address)).checked_shr(128 - prefix).unwrap_or(0) == 0
                    }
                    (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
                };
                same && ports.contains(&wanted.port())
            }
            Rule::Upstream | Rule::Name { .. } | Rule::Path(_) => false,
        }
    }

    /// Whether the unix socket of this path is allowed.
    pub fn allows_path(&self, path: &[u8]) -> bool {
        match self {
            Rule::Any => true,
            Rule::Path(allowed) if allowed.ends_with(b"/") => path
                .strip_prefix(&allowed[..])
                .is_some_and(|name| !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/')),
            Rule::Path(allowed) => path == &allowed[..],
            Rule::Upstream | Rule::Network { .. } | Rule::Name { .. } => false,
        }
    }
}

fn read_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        is_number.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port != 0)
    };
    if text == "*" {
        return Some(1..=u16::MAX);
    }
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    (first <= last).then_some(first..=last)
}

/// Variables of nginx whose values are octets of the request as the client has chosen them.
const REQUEST: [&[u8]; 20] = [
    b"args",
    b"content_length",
    b"content_type",
    b"document_uri",
    b"fastcgi_path_info",
    b"fastcgi_script_name",
    b"host",
    b"proxy_add_x_forwarded_for",
    b"query_string",
    b"remote_user",
    b"request",
    b"request_body",
    b"request_filename",
    b"request_method",
    b"request_uri",
    b"ssl_server_name",
    b"uid_got",
    b"uri",
    b"websocket_channel_id",
    b"websocket_protocol",
];

/// What the names of such variables begin with.
const REQUEST_PREFIXES: [&[u8]; 3] = [b"arg_", b"cookie_", b"http_"];

/// The first variable of a value with variables that the client has chosen: a part of the request, or what a regular expression
/// without names has found in it. Variables that the configuration makes (`map`, `set`, captures with names) are none.
pub fn chosen_by_client(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    while let Some(place) = rest.iter().position(|octet| *octet == b'$') {
        rest = &rest[place + 1..];
        let name = match rest.split_first() {
            Some((b'{', braced)) => braced.split(|octet| *octet == b'}').next().unwrap_or_default(),
            Some((digit, _)) if digit.is_ascii_digit() => &rest[..1],
            _ => {
                let end = rest.iter().position(|octet| !octet.is_ascii_alphanumeric() && *octet != b'_');
                &rest[..end.unwrap_or(rest.len())]
            }
        };
        let is_capture = !name.is_empty() && name.iter().all(u8::is_ascii_digit);
        let lower = name.to_ascii_lowercase();
        if is_capture
            || REQUEST.contains(&&lower[..])
            || REQUEST_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        {
            return Some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        Rule::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn arguments() {
        for good in [
            "any",
            "upstream",
            "10.1.2.3:5900",
            "10.1.0.0/16:5900-5999",
            "0.0.0.0/0:*",
            "[::1]:22",
            "[fd00::]/8:*",
            "a:1",
            "vm1.example.com:65535",
            "*.example.com:*",
            "unix:/run/a.sock",
            "unix:/run/vms/",
        ] {
            assert!(Rule::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "off",
            "10.1.2.3",
            "10.1.2.3:",
            "10.1.2.3:0",
            "10.1.2.3:65536",
            "10.1.2.3:5-4",
            "10.1.2.3:-",
            "10.1.2.3/33:1",
            "10.1.2.3/+8:1",
            "10.1.2.3/:1",
            "10.1.2/24:1",
            "10.1.2:1",
            "::1:22",
            "[::1:22",
            "[::1]/129:22",
            "[10.0.0.1]:1",
            "*:22",
            "*.:1",
            "a..b:1",
            "a/8:1",
            "unix:",
            "unix:run/a",
            "unix:/run/../etc/",
            "http://a:1",
            "1:+1",
            ":1",
        ] {
            assert_eq!(Rule::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn addresses() {
        let allows = |text: &str, wanted: &str| rule(text).allows_address(wanted.parse().unwrap());
        assert!(allows("10.1.0.0/16:5900-5999", "10.1.255.255:5900"));
        assert!(!allows("10.1.0.0/16:5900-5999", "10.2.0.0:5900"));
        assert!(!allows("10.1.0.0/16:5900-5999", "10.1.0.0:5899"));
        assert!(!allows("10.1.0.0/16:5900-5999", "10.1.0.0:6000"));
        assert!(allows("0.0.0.0/0:*", "255.255.255.255:1"));
        assert!(!allows("0.0.0.0/0:*", "[::1]:1"));
        assert!(allows("10.1.2.3:22", "[::ffff:10.1.2.3]:22"), "IPv4 inside IPv6 is IPv4");
        assert!(!allows("[::]/0:*", "[::ffff:10.1.2.3]:22"));
        assert!(allows("[fd00::]/8:*", "[fdff::1]:9"));
        assert!(!allows("[fd00::]/8:*", "[fe00::1]:9"));
        assert!(allows("[::1]:22", "[::1]:22"));
        assert!(allows("any", "[::1]:22"));
        assert!(!allows("upstream", "10.1.2.3:22"));
        assert!(!allows("a:22", "10.1.2.3:22"));
    }

    #[test]
    fn names() {
        let allows = |text: &str, host: &str, port| rule(text).allows_name(host.as_bytes(), port);
        assert!(allows("VM1.example.com:22", "vm1.EXAMPLE.com", 22));
        assert!(allows("vm1.example.com:22", "vm1.example.com.", 22));
        assert!(!allows("vm1.example.com:22", "vm1.example.com", 23));
        assert!(allows("*.example.com:*", "a.b.example.com", 1));
        assert!(!allows("*.example.com:*", "example.com", 1));
        assert!(!allows("*.example.com:*", ".example.com", 1));
        assert!(!allows("*.example.com:*", "badexample.com", 1));
        assert!(!allows("10.1.2.3:22", "10.1.2.3", 22), "a name is looked up");
        assert!(allows("any", "a", 1));
    }

    #[test]
    fn paths() {
        let allows = |text: &str, path: &str| rule(text).allows_path(path.as_bytes());
        assert!(allows("unix:/run/vms/", "/run/vms/a.sock"));
        for path in [
            "/run/vms/",
            "/run/vms/a/b",
            "/run/vms/..",
            "/run/vms/.",
            "/run/vms/../docker.sock",
            "/run/vmsx",
            "/run/docker.sock",
        ] {
            assert!(!allows("unix:/run/vms/", path), "{path}");
        }
        assert!(allows("unix:/run/a", "/run/a"));
        assert!(!allows("unix:/run/a", "/run/ab"));
        assert!(allows("any", "/x"));
        assert!(!allows("10.1.2.3:22", "/x"));
    }

    #[test]
    fn variables() {
        let chosen =
            |value: &str| chosen_by_client(value.as_bytes()).map(|name| String::from_utf8_lossy(name).into_owned());
        for (value, name) in [
            ("$arg_host:5900", "arg_host"),
            ("127.0.0.1:${arg_port}", "arg_port"),
            ("$ARG_host", "ARG_host"),
            ("unix:/run/$cookie_vm.sock", "cookie_vm"),
            ("$http_x_target", "http_x_target"),
            ("$target$uri", "uri"),
            ("$1:22", "1"),
            ("${1}:22", "1"),
            ("$host:22", "host"),
        ] {
            assert_eq!(chosen(value).as_deref(), Some(name), "{value}");
        }
        for value in [
            "$target",
            "$websocket_tcp_target",
            "${vm}.example.com:22",
            "$hostname:22",
            "$argument",
            "127.0.0.1:22",
            "$",
        ] {
            assert_eq!(chosen(value), None, "{value}");
        }
    }
}
