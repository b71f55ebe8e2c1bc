// SPDX-License-Identifier: Apache-2.0

//! Which pages may connect: the `Origin` of the handshake (RFC 6454; RFC 6455, section 10.2).

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// An origin of which some parts may be anything.
///
/// - `https://app.example.com`: this scheme, host and port; without a port, the default one of the scheme;
/// - `app.example.com`: the same with any scheme;
/// - `*.example.com`: every name below it, but not `example.com` itself;
/// - `localhost:*`: every port;
/// - `null`: what browsers send for a sandboxed page or a local file.
///
/// Case does not count, and IPv6 addresses, which stand in brackets, are compared by value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(OriginForm);

#[derive(Debug, Clone, PartialEq, Eq)]
enum OriginForm {
    Null,
    Parts {
        /// `None`: any scheme.
        scheme: Option<String>,
        host: HostPattern,
        port: PortPattern,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Exact(String),
    /// Any name below this one, which begins with a dot.
    Below(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortPattern {
    /// The default port of the origin's scheme.
    Default,
    Any,
    Exact(u16),
}

/// A value that is no pattern. Its text says what is accepted, and what was probably meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPattern {
    meant: Option<Cow<'static, str>>,
}

impl std::fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(meant) = &self.meant {
            write!(f, "{meant}; ")?;
        }
        f.write_str(
            "\"same\", \"any\", \"null\", an origin like \"https://app.example.com\", \"*.example.com\" or \
             \"http://localhost:3000\" (\":*\" for any port), or \"~regex\"",
        )
    }
}

impl std::error::Error for InvalidPattern {}

/// Where a request was sent to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'r> {
    /// The authority of the request, in `Host` or elsewhere: a name or an address, and a port if it is not the default one.
    pub host: &'r [u8],
    /// Whether the request came by TLS.
    pub tls: bool,
}

/// Whether `origin`, the value of the header, has the host and port that the request was sent to.
///
/// A `Host` without a port is the default port: 443 by TLS; else that of the origin's scheme, because TLS may have
/// ended at a proxy before us.
pub fn is_same(origin: &[u8], target: Target<'_>) -> bool {
    let Some(origin) = Origin::parse(origin) else { return false };
    let Some((host, port)) = std::str::from_utf8(target.host).ok().and_then(split_port) else { return false };
    let port = port.or(if target.tls { Some(443) } else { default_port(origin.scheme) });
    port.is_some() && port == origin.port && is_same_host(host, origin.host)
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// Words that other software has for a policy are none, although they could be the names of hosts: nobody who writes
    /// "off" or "self" means such a host, and the pattern would let nobody in. A host of that name has a scheme before it.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`].
    pub fn parse(value: &[u8]) -> Result<Self, InvalidPattern> {
        let Ok(value) = std::str::from_utf8(value) else { return Err(InvalidPattern { meant: None }) };
        let meant = meant(value);
        let form = match value {
            "null" => Some(OriginForm::Null),
            _ if meant.is_some() => None,
            _ => Self::parts(value),
        };
        form.map(Self).ok_or(InvalidPattern { meant })
    }

    fn parts(value: &str) -> Option<OriginForm> {
        let (scheme, authority) = match value.split_once("://") {
            Some((scheme, authority)) if is_scheme(scheme) => (Some(scheme.to_ascii_lowercase()), authority),
            Some(_) => return None,
            None => (None, value),
        };
        let (host, port) = match authority.strip_suffix(":*") {
            Some(host) => (host, PortPattern::Any),
            None => {
                let (host, port) = split_port(authority)?;
                (host, port.map_or(PortPattern::Default, PortPattern::Exact))
            }
        };
        let host = match host.strip_prefix('*') {
            Some(below) if is_host(below.strip_prefix('.')?) && !below.starts_with(".[") => {
                HostPattern::Below(below.to_ascii_lowercase())
            }
            Some(_) => return None,
            None if is_host(host) => HostPattern::Exact(host.to_ascii_lowercase()),
            None => return None,
        };
        Some(OriginForm::Parts { scheme, host, port })
    }

    /// Whether `origin`, the value of the header, is meant.
    pub fn matches(&self, origin: &[u8]) -> bool {
        let (scheme, host, port) = match &self.0 {
            OriginForm::Null => return origin == b"null",
            OriginForm::Parts { scheme, host, port } => (scheme, host, port),
        };
        let Some(origin) = Origin::parse(origin) else { return false };
        let scheme = scheme.as_ref().is_none_or(|scheme| scheme.eq_ignore_ascii_case(origin.scheme));
        let host = match host {
            HostPattern::Exact(host) => is_same_host(host, origin.host),
            HostPattern::Below(parent) => {
                let above = origin.host.len().checked_sub(parent.len());
                above
                    .and_then(|at| origin.host.get(at..).filter(|_| at > 0))
                    .is_some_and(|end| end.eq_ignore_ascii_case(parent))
                    && !origin.host.starts_with('[')
            }
        };
        let port = match port {
            PortPattern::Default => origin.port == default_port(origin.scheme),
            PortPattern::Any => true,
            PortPattern::Exact(port) => origin.port == Some(*port),
        };
        scheme && host && port
    }
}

/// An origin that has the form `scheme://host[:port]`.
#[derive(Debug, Clone, Copy)]
struct Origin<'o> {
    scheme: &'o str,
    host: &'o str,
    /// The port, or the default one of the scheme, if that has one.
    port: Option<u16>,
}

impl<'o> Origin<'o> {
    fn parse(value: &'o [u8]) -> Option<Self> {
        let (scheme, authority) = std::str::from_utf8(value).ok()?.split_once("://")?;
        let (host, port) = split_port(authority)?;
        (is_scheme(scheme) && is_host(host)).then(|| Self { scheme, host, port: port.or(default_port(scheme)) })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if ["http", "ws"].iter().any(|name| scheme.eq_ignore_ascii_case(name)) {
        Some(80)
    } else if ["https", "wss"].iter().any(|name| scheme.eq_ignore_ascii_case(name)) {
        Some(443)
    } else {
        None
    }
}

/// Splits `host[:port]`, where the host may be an address in brackets. `None` if the port is no number from 1 on.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_host = authority.find(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority.get(after_host..)?.find(':').map(|at| at + after_host) else {
        return Some((authority, None));
    };
    let (host, port) = (authority.get(..colon)?, authority.get(colon + 1..)?);
    let digits = port.bytes().all(|octet| octet.is_ascii_digit());
    let port = port.parse().ok().filter(|&port| digits && port != 0)?;
    Some((host, Some(port)))
}

/// RFC 3986, section 3.1.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
}

/// A name, an IPv4 address, or an IPv6 address in brackets. The labels of a name are not empty (RFC 1034, section 3.1), but
/// for that of the root: "example.com." has it written out.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(_) => address(host).is_some(),
        None => host.strip_suffix('.').unwrap_or(host).split('.').all(is_label),
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

/// What somebody who wrote this had in mind, where it is known; `None` where it is a pattern, or nobody knows.
fn meant(value: &str) -> Option<Cow<'static, str>> {
    const NOBODY: &str = "a location that no page may connect to is one for \"deny all\"";
    const EVERYBODY: &str = "every page is \"any\"";
    const OWN: &str = "pages of the request's own host and port are \"same\"";
    let text = match value.trim_matches('\'').to_ascii_lowercase().as_str() {
        "off" => "every page is \"any\", pages of the request's own host and port are \"same\"",
        "none" | "deny" | "false" | "no" => NOBODY,
        "on" | "self" | "same" | "sameorigin" | "same-origin" | "same_origin" | "true" | "yes" | "default" => OWN,
        "any" | "all" | "*" | "*:*" | "everyone" => EVERYBODY,
        "null" if value != "null" => "the origin of a sandboxed page is \"null\"",
        "~" => "a regular expression follows the \"~\" without a blank",
        _ => return meant_by_url(value).map(Cow::Owned),
    };
    Some(Cow::Borrowed(text))
}

/// What is meant by a URL that is no origin: the origin of the page, which has no path, not the address of the WebSocket.
fn meant_by_url(value: &str) -> Option<String> {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, value),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let page = scheme.map(|scheme| match scheme.to_ascii_lowercase().as_str() {
        "ws" => "http".to_owned(),
        "wss" => "https".to_owned(),
        other => other.to_owned(),
    });
    let is_other_scheme = scheme.is_some_and(|scheme| page.as_deref() != Some(&scheme.to_ascii_lowercase()));
    if authority == rest && !is_other_scheme {
        return None;
    }
    let origin = page.map_or_else(|| authority.to_owned(), |page| format!("{page}://{authority}"));
    // Only what is accepted then is worth a proposal.
    Pattern::parts(&origin)?;
    let why = if is_other_scheme { "the origin is that of the page" } else { "an origin has no path" };
    Some(format!("{why}: \"{origin}\""))
}

/// The IPv6 address in brackets.
fn address(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Names are compared without case, IPv6 addresses by value.
fn is_same_host(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || address(a).is_some_and(|a| address(b) == Some(a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(pattern: &str, origin: &str) -> bool {
        Pattern::parse(pattern.as_bytes()).unwrap().matches(origin.as_bytes())
    }

    #[test]
    fn same() {
        for (origin, host, tls) in [
            ("http://example.com", "example.com", false),
            ("http://example.com:80", "example.com", false),
            ("http://example.com", "example.com:80", false),
            ("http://EXAMPLE.com", "Example.COM", false),
            ("https://example.com", "example.com", true),
            ("https://example.com:443", "example.com", true),
            ("https://example.com", "example.com:443", true),
            ("http://localhost:8080", "localhost:8080", false),
            ("http://[::1]:8080", "[::1]:8080", false),
            ("http://[::1]", "[0:0::1]", false),
            // TLS ended at a proxy.
            ("https://example.com", "example.com", false),
        ] {
            assert!(is_same(origin.as_bytes(), Target { host: host.as_bytes(), tls }), "{origin} {host}");
        }
        for (origin, host, tls) in [
            ("http://example.com", "example.com", true),
            ("http://example.com", "example.com:8080", false),
            ("http://example.com:8080", "example.com", false),
            ("http://example.com:8080", "example.com:8081", false),
            ("http://evil.com", "example.com", false),
            ("http://example.com.evil.com", "example.com", false),
            ("http://[::1]:8080", "[::2]:8080", false),
            ("null", "example.com", false),
            ("null", "null", false),
            ("", "", false),
            ("example.com", "example.com", false),
            ("http://example.com/", "example.com", false),
            ("http://user@example.com", "example.com", false),
            ("http://example.com http://example.com", "example.com", false),
            ("http://example.com:", "example.com", false),
            ("http://example.com:0", "example.com:0", false),
            ("http://example.com:+80", "example.com", false),
            ("foo://example.com", "example.com", false),
        ] {
            assert!(!is_same(origin.as_bytes(), Target { host: host.as_bytes(), tls }), "{origin} {host}");
        }
    }

    #[test]
    fn whole_origins() {
        assert!(allowed("https://app.example.com", "https://app.example.com"));
        assert!(allowed("https://app.example.com", "HTTPS://APP.example.com:443"));
        assert!(allowed("HTTPS://App.Example.com:443", "https://app.example.com"));
        assert!(allowed("https://app.example.com:8443", "https://app.example.com:8443"));
        assert!(allowed("http://[::1]:3000", "http://[0::1]:3000"));
        assert!(allowed("http://127.0.0.1", "http://127.0.0.1"));
        assert!(allowed("chrome-extension://abcdef", "chrome-extension://abcdef"));
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://example.com",
            "https://b.app.example.com",
            "https://app.example.com.evil.com",
            "https://app.example.com/",
            "null",
        ] {
            assert!(!allowed("https://app.example.com", origin), "{origin}");
        }
    }

    #[test]
    fn hosts_and_wildcards() {
        for origin in ["https://a.example.com", "http://A.B.Example.com", "https://a.example.com:443"] {
            assert!(allowed("*.example.com", origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a.example.com.evil.com",
            "https://a.example.com:8443",
            "https://[::1].example.com",
            "https://..example.com",
            "https://a..example.com",
            "https://.a.example.com",
            "https://a.example.com..",
            "https://a.example..com",
            "null",
        ] {
            assert!(!allowed("*.example.com", origin), "{origin}");
        }
        assert!(allowed("https://*.example.com:8443", "https://a.example.com:8443"));
        assert!(!allowed("https://*.example.com", "http://a.example.com"));
        assert!(allowed("localhost:*", "http://localhost:3000"));
        assert!(allowed("localhost:*", "http://localhost"));
        assert!(allowed("[::1]:*", "http://[::1]:3000"));
        assert!(allowed("example.com", "https://example.com"));
        assert!(!allowed("example.com", "https://example.com:1"));
    }

    #[test]
    fn null() {
        assert!(allowed("null", "null"));
        for origin in ["http://null", "Null", ""] {
            assert!(!allowed("null", origin), "{origin}");
        }
        assert!(allowed("http://null", "http://null"));
    }

    #[test]
    fn wrong_patterns() {
        for rule in [
            "",
            "~",
            "~x",
            "*",
            "*.",
            "*example.com",
            "a.*.com",
            "https://",
            "https:///",
            "https://a/",
            "https://a/b",
            "://a",
            "1x://a",
            "a:0",
            "a:65536",
            "a:",
            "a:+1",
            "a b",
            "a@b",
            "[::1",
            "[zz]",
            "*.[::1]",
            "::1",
            "http://a,b",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "*..a",
            "*.a..b",
        ] {
            let error = Pattern::parse(rule.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("*.example.com"), "{rule}");
        }
        assert!(Pattern::parse(b"\xff").is_err());
    }

    #[test]
    fn what_was_meant() {
        for (rule, meant) in [
            ("off", "\"any\""),
            ("none", "\"deny all\""),
            ("self", "\"same\""),
            ("'self'", "\"same\""),
            ("Same", "\"same\""),
            ("SAMEORIGIN", "\"same\""),
            ("on", "\"same\""),
            ("all", "\"any\""),
            ("ANY", "\"any\""),
            ("*", "\"any\""),
            ("NULL", "\"null\""),
            ("~", "blank"),
            ("wss://a.example", "the origin is that of the page: \"https://a.example\""),
            ("WS://a.example:81", "the origin is that of the page: \"http://a.example:81\""),
            ("wss://*.example.com/chat", "\"https://*.example.com\""),
            ("a.example/path", "an origin has no path: \"a.example\""),
            ("https://a.example/", "an origin has no path: \"https://a.example\""),
            ("https://a.example?x", "an origin has no path: \"https://a.example\""),
            ("https://u:p@a.example/", "\"https://a.example\""),
        ] {
            let error = Pattern::parse(rule.as_bytes()).unwrap_err().to_string();
            let (proposal, accepted) = error.split_once("; ").unwrap_or_else(|| panic!("{rule}: {error}"));
            assert!(proposal.contains(meant), "{rule}: {error}");
            assert!(accepted.contains("\"~regex\""), "{rule}");
        }
        for rule in ["https://off", "http://self:8080", "none.example.com", "https://*.any"] {
            assert!(Pattern::parse(rule.as_bytes()).is_ok(), "{rule}");
        }
        for rule in ["https:///", "https:///x", "a b/c", "a,b"] {
            let error = Pattern::parse(rule.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("\"same\""), "{rule}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_input_does_harm(rule: String, origin: Vec<u8>, host: Vec<u8>, tls: bool) {
            for pattern in [rule.as_bytes(), b"*.a", b"a:*"] {
                let _ = Pattern::parse(pattern).map(|pattern| pattern.matches(&origin));
            }
            let _ = is_same(&origin, Target { host: &host, tls });
        }
    }
}
