// SPDX-License-Identifier: Apache-2.0

//! Where the pages come from that may connect.

use crate::options::Options;
use crate::quote::plain;

/// One origin of the command line.
pub struct Origin {
    scheme: Option<String>,
    host: String,
    port: Option<String>,
}

impl Origin {
    fn of(text: &str) -> Result<Self, String> {
        let refuse = || format!("--origin takes host, host:port and scheme://host, separated by commas; not {text:?}");
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_owned()), rest.trim_end_matches('/')),
            None => (None, text),
        };
        let after_address = rest.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match rest[after_address..].find(':') {
            Some(colon) => (&rest[..after_address + colon], Some(rest[after_address + colon + 1..].to_owned())),
            None => (rest, None),
        };
        let is_host = |octet: u8| octet.is_ascii_alphanumeric() || b"-._:[]".contains(&octet);
        let is_scheme =
            |scheme: &String| !scheme.is_empty() && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric());
        let is_port = |port: &String| port.parse::<u16>().is_ok();
        let makes_sense = !host.is_empty()
            && host.bytes().all(is_host)
            && scheme.as_ref().is_none_or(is_scheme)
            && port.as_ref().is_none_or(is_port);
        makes_sense.then_some(()).ok_or_else(refuse)?;
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// For `websocket_origin`. Without a port each one matches.
    pub fn pattern(&self) -> String {
        let scheme = self.scheme.as_ref().map(|scheme| format!("{scheme}://")).unwrap_or_default();
        format!("{scheme}{}:{}", self.host, self.port.as_deref().unwrap_or("*"))
    }

    /// For `map`: the origin of a browser leaves out the default port of its scheme.
    fn regex(&self) -> String {
        let mut escaped = String::new();
        for letter in self.host.chars() {
            if !letter.is_ascii_alphanumeric() {
                escaped.push('\\');
            }
            escaped.push(letter);
        }
        let scheme = self.scheme.as_deref().unwrap_or("[a-z0-9]+");
        let port = match self.port.as_deref() {
            None => "(:[0-9]+)?".to_owned(),
            Some("80") => return format!("~*^({scheme}://{escaped}:80|http://{escaped})$"),
            Some("443") => return format!("~*^({scheme}://{escaped}:443|https://{escaped})$"),
            Some(port) => format!(":{port}"),
        };
        format!("~*^{scheme}://{escaped}{port}$")
    }
}

/// All of the command line.
///
/// # Errors
///
/// What is no origin.
pub fn origins(options: &Options) -> Result<Vec<Origin>, String> {
    options.origins.iter().map(|text| Origin::of(text)).collect()
}

/// What `websocket_origin` does not refuse: a handshake without an origin, and with both flags one that is not in the list.
///
/// # Errors
///
/// What is no origin.
pub fn refusals(options: &Options) -> Result<Vec<u8>, String> {
    let mut map = Vec::new();
    if options.same_origin || !options.origins.is_empty() {
        map.extend(b"    map $http_origin $ws_exec_is_listed {\n        '' 0;\n");
        if options.same_origin && !options.origins.is_empty() {
            map.extend(b"        default 0;\n");
            for origin in origins(options)? {
                map.extend(b"        ");
                map.extend(plain(origin.regex().as_bytes()));
                map.extend(b" 1;\n");
            }
        } else {
            map.extend(b"        default 1;\n");
        }
        map.extend(
            b"    }\n    map $ws_exec_is_websocket$ws_exec_is_listed $ws_exec_is_refused { default 0; 10 1; }\n",
        );
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn origins_without_a_port_match_each() {
        let pattern = |text: &str| Origin::of(text).unwrap().pattern();
        assert_eq!(pattern("Example.com"), "example.com:*");
        assert_eq!(pattern("example.com:81"), "example.com:81");
        assert_eq!(pattern("https://example.com"), "https://example.com:*");
        assert_eq!(pattern("[::1]:81"), "[::1]:81");
        assert_eq!(pattern("[::1]"), "[::1]:*");
        for text in ["", "~x", "*", "a b", "a:b", "a:", "://a", "a\";"] {
            assert!(Origin::of(text).is_err(), "{text}");
        }
    }
}
