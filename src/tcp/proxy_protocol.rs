// SPDX-License-Identifier: Apache-2.0

//! The header by which a service learns of the client that it serves: the PROXY protocol, versions 1 and 2.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text (PROXY protocol, section 2.1).
    V1,
    /// Binary (PROXY protocol, section 2.2).
    V2,
}

/// The two ends of the client's connection, as far as they have addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: Option<SocketAddr>,
    /// The server that it has connected to.
    pub destination: Option<SocketAddr>,
}

/// Both addresses in one family: the header has no room for two.
enum Family {
    V4([(Ipv4Addr, u16); 2]),
    V6([(Ipv6Addr, u16); 2]),
    Unknown,
}

impl Ends {
    fn family(&self) -> Family {
        let Some(source) = self.source else { return Family::Unknown };
        let canonical = source.ip().to_canonical();
        // A client that is known from a header, by way of a unix socket, has connected to no address.
        let destination = self.destination.map_or_else(
            || match canonical {
                IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
                IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
            },
            |destination| (destination.ip().to_canonical(), destination.port()),
        );
        match (canonical, destination.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Family::V4([(from, source.port()), (to, destination.1)]),
            (from, to) => Family::V6([(mapped(from), source.port()), (mapped(to), destination.1)]),
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The header.
pub fn header(version: Version, ends: &Ends) -> Vec<u8> {
    match version {
        Version::V1 => line(ends).into_bytes(),
        Version::V2 => binary(ends),
    }
}

fn line(ends: &Ends) -> String {
    let mut line = String::with_capacity(107);
    // Writing to memory does not fail.
    let _ = match ends.family() {
        Family::V4([(from, from_port), (to, to_port)]) => {
            write!(line, "PROXY TCP4 {from} {to} {from_port} {to_port}\r\n")
        }
        Family::V6([(from, from_port), (to, to_port)]) => {
            write!(line, "PROXY TCP6 {from} {to} {from_port} {to_port}\r\n")
        }
        Family::Unknown => line.write_str("PROXY UNKNOWN\r\n"),
    };
    line
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and whether the connection is on behalf of somebody.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// The family in the upper half, a stream in the lower one.
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

fn binary(ends: &Ends) -> Vec<u8> {
    let mut header = Vec::with_capacity(16 + 36);
    header.extend_from_slice(SIGNATURE);
    match ends.family() {
        Family::V4([(from, from_port), (to, to_port)]) => {
            header.extend_from_slice(&[PROXY, TCP4, 0, 12]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            header.extend_from_slice(&from_port.to_be_bytes());
            header.extend_from_slice(&to_port.to_be_bytes());
        }
        Family::V6([(from, from_port), (to, to_port)]) => {
            header.extend_from_slice(&[PROXY, TCP6, 0, 36]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            header.extend_from_slice(&from_port.to_be_bytes());
            header.extend_from_slice(&to_port.to_be_bytes());
        }
        Family::Unknown => header.extend_from_slice(&[LOCAL, UNSPECIFIED, 0, 0]),
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().ok(), destination: destination.parse().ok() }
    }

    fn text(source: &str, destination: &str) -> String {
        String::from_utf8(header(Version::V1, &ends(source, destination))).unwrap()
    }

    #[test]
    fn lines() {
        assert_eq!(text("192.0.2.1:1234", "198.51.100.2:80"), "PROXY TCP4 192.0.2.1 198.51.100.2 1234 80\r\n");
        assert_eq!(text("[2001:db8::1]:1234", "[::1]:443"), "PROXY TCP6 2001:db8::1 ::1 1234 443\r\n");
        assert_eq!(text("unix:", "unix:"), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn two_families_become_one() {
        assert_eq!(text("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
        assert_eq!(text("[2001:db8::1]:1", "192.0.2.2:2"), "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1 2\r\n");
        assert_eq!(text("192.0.2.1:1", "unix:"), "PROXY TCP4 192.0.2.1 0.0.0.0 1 0\r\n");
    }

    #[test]
    fn the_longest_line_fits_the_107_octets_of_the_protocol() {
        let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        assert!(text(address, address).len() <= 107);
    }

    #[test]
    fn binary_headers() {
        let v2 = |source, destination| header(Version::V2, &ends(source, destination));
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend([192, 0, 2, 1, 198, 51, 100, 2, 4, 210, 0, 80]);
        assert_eq!(v2("192.0.2.1:1234", "198.51.100.2:80"), expected);

        let six = v2("[2001:db8::1]:1234", "[::1]:443");
        assert_eq!(six.len(), 16 + 36);
        assert_eq!(&six[12..16], b"\x21\x21\0\x24");
        assert_eq!(&six[48..], [4, 210, 1, 187]);

        assert_eq!(v2("unix:", "unix:"), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
