// SPDX-License-Identifier: Apache-2.0

//! The text of a file of tokens, in the form of websockify's `TokenFile`, and the argument of a request that names a token.
//!
//! A line is `token: host:port`, `token: unix_socket:/path`, empty, or a comment that begins with "#". The token ends at the
//! first colon with a blank behind it, so that it may contain colons itself.

use std::collections::HashMap;
use std::fmt;

/// Octets of one token at most.
pub const MAX_TOKEN: usize = 1024;

/// Octets of a path that the address of a unix socket has room for, without the NUL that ends it.
const MAX_SOCKET_PATH: usize = 107;

/// Tokens and their addresses, as nginx reads them: `host:port` or `unix:/path`.
pub type Targets = HashMap<Vec<u8>, Vec<u8>>;

/// A line that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it. The line itself is not told: tokens are secrets.
    pub reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// A token and its address.
pub type Line = Result<(Vec<u8>, Vec<u8>), Malformed>;

/// What a text says.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The tokens of all lines that are ended. The last line about a token counts.
    pub targets: Targets,
    /// Lines that are ended and are none.
    pub malformed: Vec<Malformed>,
    /// The last line, if no newline ends it: whoever writes the file may not be done with it.
    pub tail: Option<Line>,
}

/// Reads a whole text. `directory` is what relative paths of unix sockets begin with.
pub fn parse(text: &[u8], directory: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let mut lines = text.split(|octet| *octet == b'\n').enumerate().peekable();
    while let Some((place, text)) = lines.next() {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let line = entry(text, directory).map_err(|reason| Malformed { line: place + 1, reason });
        // What stands behind the last newline is a line of its own, empty as a rule.
        if lines.peek().is_none() {
            parsed.tail = Some(line);
            break;
        }
        match line {
            Ok((token, target)) => {
                parsed.targets.insert(token, target);
            }
            Err(malformed) => parsed.malformed.push(malformed),
        }
    }
    parsed
}

fn entry(line: &[u8], directory: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let end = separator(line).ok_or("no \"token: host:port\"")?;
    let (token, rest) = (&line[..end], line[end + 1..].trim_ascii());
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err("the token is empty or too long");
    }
    if separator(rest).is_some() {
        return Err("more than a token and an address");
    }
    let target = match rest.strip_prefix(b"unix_socket:") {
        Some(path) => socket(path, directory)?,
        None => host_and_port(rest)?,
    };
    Ok((token.to_vec(), target))
}

/// Where a colon with a blank behind it is.
fn separator(text: &[u8]) -> Option<usize> {
    text.windows(2).position(|pair| pair[0] == b':' && pair[1].is_ascii_whitespace())
}

fn host_and_port(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let colon = text.iter().rposition(|octet| *octet == b':').ok_or("the address has no port")?;
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let number = std::str::from_utf8(port).ok().filter(|port| port.bytes().all(|octet| octet.is_ascii_digit()));
    if number.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
        return Err("the port is not a number from 1 to 65535");
    }
    let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    if bare.contains(&b':') {
        let address = std::str::from_utf8(bare).ok().and_then(|host| host.parse::<std::net::Ipv6Addr>().ok());
        return address
            .map(|address| [format!("[{address}]:").as_bytes(), port].concat())
            .ok_or("the host is neither a name nor an address");
    }
    let is_name = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
    if host.is_empty() || !host.iter().all(is_name) {
        return Err("the host is neither a name nor an address");
    }
    // "unix:" would begin a path, and this one name is no matter of a resolver (RFC 6761, section 6.3).
    if host.eq_ignore_ascii_case(b"unix") {
        return Err("a path is written \"unix_socket:/path\"");
    }
    let host = if host.eq_ignore_ascii_case(b"localhost") { b"127.0.0.1" } else { host };
    Ok([host, b":", port].concat())
}

fn socket(path: &[u8], directory: &[u8]) -> Result<Vec<u8>, &'static str> {
    let path = match path {
        [] => return Err("the path is empty"),
        [b'/', ..] => path.to_vec(),
        _ => [directory, b"/", path].concat(),
    };
    socket_address(&path)
}

/// The address of a unix socket at an absolute path, as nginx reads it.
///
/// # Errors
///
/// Why there can be no socket at this path.
pub fn socket_address(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    if path.split(|octet| *octet == b'/').any(|name| name == b"..") {
        return Err("the path contains \"..\"");
    }
    if path.iter().any(u8::is_ascii_control) {
        return Err("the path contains a control character");
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err("the path is longer than that of a socket can be");
    }
    Ok([b"unix:", path].concat())
}

/// The token that the arguments of a request name, decoded: that of the first `token=`. `None` where there is none, or one that
/// is longer than any that is known.
pub fn argument(arguments: &[u8]) -> Option<Vec<u8>> {
    let value = arguments.split(|octet| *octet == b'&').find_map(|argument| argument.strip_prefix(b"token="))?;
    if value.is_empty() || value.len() > 3 * MAX_TOKEN {
        return None;
    }
    Some(decode(value)).filter(|token| token.len() <= MAX_TOKEN)
}

/// Replaces percent-encoded octets (RFC 3986, section 2.1); a percent sign that encodes nothing is itself.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |place: usize| text.get(place).and_then(|octet| char::from(*octet).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut place = 0;
    while let Some(&octet) = text.get(place) {
        let encoded = if octet == b'%' { digit(place + 1).zip(digit(place + 2)) } else { None };
        let (octet, length) = match encoded {
            // Two hexadecimal digits are an octet.
            Some((high, low)) => ((high << 4 | low) as u8, 3),
            None => (octet, 1),
        };
        decoded.push(octet);
        place += length;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(line: &str) -> Result<String, &'static str> {
        let parsed = parse(format!("{line}\n").as_bytes(), b"/run/vnc");
        assert!(parsed.tail.is_none());
        match (parsed.targets.into_iter().next(), parsed.malformed.first()) {
            (Some((token, target)), None) => {
                assert_eq!(token, b"a");
                Ok(String::from_utf8(target).unwrap())
            }
            (None, Some(malformed)) => Err(malformed.reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses() {
        for (line, address) in [
            ("a: host:1", "host:1"),
            ("  a:\t10.0.0.1:65535 \r", "10.0.0.1:65535"),
            ("a: localhost:5900", "127.0.0.1:5900"),
            ("a: ::1:5900", "[::1]:5900"),
            ("a: [::1]:5900", "[::1]:5900"),
            ("a: unix_socket:/run/a:b.sock", "unix:/run/a:b.sock"),
            ("a: unix_socket:b.sock", "unix:/run/vnc/b.sock"),
        ] {
            assert_eq!(target(line).as_deref(), Ok(address), "{line}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for line in [
            "a:host:1",
            "a",
            "a: host",
            "a: host:",
            "a: :1",
            "a: host:0",
            "a: host:65536",
            "a: host:+1",
            "a: h/x:1",
            "a: h$x:1",
            "a: unix:1",
            "a: UNIX:1",
            "a: unix:/run/x",
            "a: b: host:1",
            "a: [::1:1",
            "a: unix_socket:",
            "a: unix_socket:../docker.sock",
            "a: unix_socket:/run/vnc/../docker.sock",
            ": host:1",
        ] {
            assert!(target(line).is_err(), "{line}");
        }
        assert!(target(&format!("a: unix_socket:/{}", "x".repeat(107))).is_err());
        assert!(target(&format!("a: unix_socket:/{}", "x".repeat(106))).is_ok());
    }

    #[test]
    fn lines() {
        let parsed = parse(b"# a: h:1\n\na: h:1\nnonsense\nb:c: h:2\na: h:3\nd: h:4", b"/");
        assert_eq!(parsed.targets.len(), 2);
        assert_eq!(parsed.targets[&b"a"[..]], b"h:3", "the last line counts");
        assert_eq!(parsed.targets[&b"b:c"[..]], b"h:2", "a colon without a blank is a part of the token");
        assert_eq!(parsed.malformed.iter().map(|one| one.line).collect::<Vec<_>>(), [4]);
        assert_eq!(parsed.tail, Some(Ok((b"d".to_vec(), b"h:4".to_vec()))));
        assert!(matches!(parse(b"a: h:1\nb", b"/").tail, Some(Err(Malformed { line: 2, .. }))));
        assert!(parse(b"", b"/").tail.is_none());
    }

    #[test]
    fn arguments() {
        for (arguments, token) in [
            ("token=a", Some("a")),
            ("x=1&token=a&token=b", Some("a")),
            ("token=a%2Fb%20c", Some("a/b c")),
            ("token=a+b", Some("a+b")),
            ("token=%", Some("%")),
            ("token=%zz%4", Some("%zz%4")),
            ("token=", None),
            ("token", None),
            ("xtoken=a", None),
            ("", None),
        ] {
            assert_eq!(argument(arguments.as_bytes()).as_deref(), token.map(str::as_bytes), "{arguments}");
        }
        assert!(argument(&[b"token=", &[b'a'; MAX_TOKEN][..]].concat()).is_some());
        assert!(argument(&[b"token=", &[b'a'; MAX_TOKEN + 1][..]].concat()).is_none());
    }
}
