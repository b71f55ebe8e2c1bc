//! Which pages may connect: the `Origin` of the handshake (RFC 6454; RFC 6455, section 10.2).

use std::net::Ipv6Addr;

/// The origins that a location allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// The host and port of the request.
    Same,
    Any,
    /// `null`: a sandboxed page or a local file.
    Null,
    Pattern(Pattern),
    /// Matched by the caller against the whole value of the header.
    Regex(String),
}

/// An origin of which some parts may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// `None`: any scheme.
    scheme: Option<String>,
    host: HostPattern,
    port: PortPattern,
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

/// A value that is no origin rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRule(String);

impl std::fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "invalid origin \"{}\": it must be \"same\", \"any\" (alone), \"null\", an origin like \
             \"https://app.example.com\", \"*.example.com\" or \"http://localhost:3000\" (\":*\" for any port), \
             or \"~regex\"",
            self.0
        )
    }
}

impl std::error::Error for InvalidRule {}

/// Where a request was sent to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'r> {
    /// The value of `Host`: a name or an address, and a port if it is not the default one.
    pub host: &'r [u8],
    /// Whether it came by TLS.
    pub tls: bool,
}

impl Default for Policy {
    /// Only pages of the host and port that the request was sent to.
    fn default() -> Self {
        Self { rules: vec![Rule::Same] }
    }
}

impl Policy {
    /// Reads the values of the directive. Without any, nothing but a request without `Origin` is allowed.
    ///
    /// # Errors
    ///
    /// [`InvalidRule`] names the first wrong value and says what is accepted.
    pub fn parse<'v>(values: impl IntoIterator<Item = &'v str>) -> Result<Self, InvalidRule> {
        let rules = values
            .into_iter()
            .map(|value| Rule::parse(value).ok_or_else(|| InvalidRule(value.to_owned())))
            .collect::<Result<Vec<_>, _>>()?;
        if rules.len() > 1 && rules.contains(&Rule::Any) {
            return Err(InvalidRule("any".to_owned()));
        }
        Ok(Self { rules })
    }

    /// The regular expressions among the rules, without their `~`, for the caller to compile.
    pub fn regexes(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| match rule {
            Rule::Regex(regex) => Some(regex.as_str()),
            Rule::Same | Rule::Any | Rule::Null | Rule::Pattern(_) => None,
        })
    }

    /// Whether a page of this origin may connect. A request without `Origin` comes from no browser and is allowed.
    ///
    /// `matches(regex, origin)` tells whether a regular expression of the policy matches.
    ///
    /// For `same`, a `Host` without a port is the default port: 443 by TLS; else that of the origin's scheme, because
    /// TLS may have ended at a proxy before us.
    pub fn allows(
        &self,
        origin: Option<&[u8]>,
        target: Target<'_>,
        mut matches: impl FnMut(&str, &[u8]) -> bool,
    ) -> bool {
        let Some(value) = origin else { return true };
        let origin = Origin::parse(value);
        self.rules.iter().any(|rule| match rule {
            Rule::Any => true,
            Rule::Null => value == b"null",
            Rule::Same => origin.is_some_and(|origin| origin.is_same(target)),
            Rule::Pattern(pattern) => origin.is_some_and(|origin| pattern.matches(origin)),
            Rule::Regex(regex) => matches(regex, value),
        })
    }
}

impl Rule {
    fn parse(value: &str) -> Option<Self> {
        match value {
            "same" => return Some(Self::Same),
            "any" => return Some(Self::Any),
            "null" => return Some(Self::Null),
            _ => {}
        }
        if let Some(regex) = value.strip_prefix('~') {
            return (!regex.is_empty()).then(|| Self::Regex(regex.to_owned()));
        }
        Pattern::parse(value).map(Self::Pattern)
    }
}

impl Pattern {
    fn parse(value: &str) -> Option<Self> {
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
        Some(Self { scheme, host, port })
    }

    fn matches(&self, origin: Origin<'_>) -> bool {
        let scheme = self.scheme.as_ref().is_none_or(|scheme| scheme.eq_ignore_ascii_case(origin.scheme));
        let host = match &self.host {
            HostPattern::Exact(host) => is_same_host(host, origin.host),
            HostPattern::Below(parent) => {
                let above = origin.host.len().checked_sub(parent.len());
                above
                    .and_then(|at| origin.host.get(at..).filter(|_| at > 0))
                    .is_some_and(|end| end.eq_ignore_ascii_case(parent) && !origin.host.starts_with('['))
            }
        };
        let port = match self.port {
            PortPattern::Default => origin.port == default_port(origin.scheme),
            PortPattern::Any => true,
            PortPattern::Exact(port) => origin.port == Some(port),
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

    fn is_same(self, target: Target<'_>) -> bool {
        let Some((host, port)) = std::str::from_utf8(target.host).ok().and_then(split_port) else { return false };
        let port = port.or(if target.tls { Some(443) } else { default_port(self.scheme) });
        port.is_some() && port == self.port && is_same_host(host, self.host)
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

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(_) => address(host).is_some(),
        None => {
            !host.is_empty()
                && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_'))
        }
    }
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

    fn allowed_at(rules: &[&str], origin: &str, host: &str, tls: bool) -> bool {
        let policy = Policy::parse(rules.iter().copied()).unwrap();
        let target = Target { host: host.as_bytes(), tls };
        policy.allows(Some(origin.as_bytes()), target, |regex, origin| origin.starts_with(regex.as_bytes()))
    }

    fn allowed(rule: &str, origin: &str) -> bool {
        allowed_at(&[rule], origin, "server", false)
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
            assert!(allowed_at(&["same"], origin, host, tls), "{origin} {host}");
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
            assert!(!allowed_at(&["same"], origin, host, tls), "{origin} {host}");
        }
    }

    #[test]
    fn without_origin_or_with_any() {
        let target = Target { host: b"example.com", tls: false };
        for policy in [Policy::default(), Policy::parse([]).unwrap(), Policy::parse(["https://a.b"]).unwrap()] {
            assert!(policy.allows(None, target, |_, _| false));
        }
        for origin in ["http://evil.com", "null", "", "garbage", "\u{e9}"] {
            assert!(allowed("any", origin));
            assert!(!allowed_at(&[], origin, "server", false));
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
    fn several_rules_null_and_regexes() {
        let rules = ["same", "*.example.com", "~http://dev", "null"];
        for origin in ["http://server", "https://a.example.com", "http://dev.local:1", "null"] {
            assert!(allowed_at(&rules, origin, "server", false), "{origin}");
        }
        assert!(!allowed_at(&rules, "https://other.org", "server", false));
        let policy = Policy::parse(rules).unwrap();
        assert_eq!(policy.regexes().collect::<Vec<_>>(), ["http://dev"]);
    }

    #[test]
    fn wrong_rules() {
        for rule in [
            "",
            "~",
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
        ] {
            let error = Policy::parse([rule]).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(&format!("\"{rule}\"")) && message.contains("*.example.com"), "{message}");
        }
        assert!(Policy::parse(["any", "same"]).is_err());
    }

    proptest! {
        #[test]
        fn no_input_does_harm(rule: String, origin: Vec<u8>, host: Vec<u8>, tls: bool) {
            if let Ok(policy) = Policy::parse([rule.as_str(), "same", "*.a"]) {
                let _ = policy.allows(Some(&origin), Target { host: &host, tls }, |_, _| false);
            }
        }
    }
}
