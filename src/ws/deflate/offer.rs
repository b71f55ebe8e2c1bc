// SPDX-License-Identifier: Apache-2.0

//! Negotiation (RFC 7692, sections 5 and 7.1).

use super::{Context, MAX_WINDOW, MIN_WINDOW, Settings, history};
use crate::ws::field;

/// What both sides agreed on. Its text is the value of `Sec-WebSocket-Extensions` in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Our messages do not refer to the ones before.
    pub server_no_context: bool,
    /// The client's messages do not refer to the ones before.
    pub client_no_context: bool,
    /// The base-2 logarithm of our window.
    pub server_window: u8,
    /// The base-2 logarithm of the client's window: how much of its messages has to be kept.
    pub client_window: u8,
    /// The connection has a compressor and an inflater of its own, as far as a side keeps its context.
    dedicated: bool,
    /// The client asked for a window of ours.
    server_window_asked: bool,
    /// The level of our messages.
    pub level: u8,
    /// Octets below which our messages are not compressed.
    pub min_size: u64,
}

impl Agreed {
    /// Whether the connection keeps the compressor of our messages.
    pub(in crate::ws) fn keeps_compressor(&self) -> bool {
        self.dedicated && !self.server_no_context
    }

    /// Whether the connection keeps the inflater of the client's messages.
    pub(in crate::ws) fn keeps_inflater(&self) -> bool {
        self.dedicated && !self.client_no_context
    }

    /// How many octets of our messages are kept for the next one to refer to.
    pub(in crate::ws) fn server_history(&self) -> usize {
        if self.server_no_context || self.dedicated { 0 } else { 1 << self.server_window.min(history::KEPT) }
    }

    /// How many octets of the client's messages are kept because the next one may refer to them. A window of 8 bits counts
    /// as one of 9: that is what zlib makes of it.
    pub(in crate::ws) fn client_history(&self) -> usize {
        if self.client_no_context || self.dedicated { 0 } else { 1 << self.client_window.max(MIN_WINDOW) }
    }
}

/// What a client offers for one use of the extension.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offer {
    server_no_context: bool,
    client_no_context: bool,
    server_window: Option<u8>,
    /// `Some(None)`: it would take a limit, and asks for none.
    client_window: Option<Option<u8>>,
}

/// Takes the first acceptable offer of permessage-deflate in the values of `Sec-WebSocket-Extensions`. Other
/// extensions are ignored, and so are offers that are malformed or cannot be met.
pub fn negotiate(values: &[&[u8]], settings: &Settings) -> Option<Agreed> {
    values.iter().flat_map(|value| field::split_quoted(value, b',')).find_map(|extension| {
        let mut parts = field::split_quoted(extension, b';');
        if parts.next() != Some(b"permessage-deflate") {
            return None;
        }
        Offer::parse(parts)?.accept(settings)
    })
}

impl Offer {
    /// Reads the parameters. Each may be there once, unknown ones decline the offer (RFC 7692, section 7).
    fn parse<'p>(parameters: impl Iterator<Item = &'p [u8]>) -> Option<Self> {
        let mut offer = Self::default();
        for parameter in parameters {
            let (name, value) = match parameter.iter().position(|&octet| octet == b'=') {
                Some(at) => (parameter.get(..at)?, Some(field::trim(parameter.get(at + 1..)?))),
                None => (parameter, None),
            };
            match (field::trim(name), value) {
                (b"server_no_context_takeover", None) if !offer.server_no_context => offer.server_no_context = true,
                (b"client_no_context_takeover", None) if !offer.client_no_context => offer.client_no_context = true,
                (b"server_max_window_bits", Some(value)) if offer.server_window.is_none() => {
                    offer.server_window = Some(window(value)?);
                }
                (b"client_max_window_bits", value) if offer.client_window.is_none() => {
                    offer.client_window = Some(value.map(window).map_or(Some(None), |bits| bits.map(Some))?);
                }
                _ => return None,
            }
        }
        Some(offer)
    }

    fn accept(self, settings: &Settings) -> Option<Agreed> {
        let window = settings.window.clamp(MIN_WINDOW, MAX_WINDOW);
        let server_window = self.server_window.unwrap_or(MAX_WINDOW).min(window);
        if server_window < MIN_WINDOW {
            return None;
        }
        let forgets = settings.context == Context::Off;
        let client_no_context = self.client_no_context || forgets;
        let kept = match settings.context {
            Context::History if !client_no_context => history::KEPT,
            _ => MAX_WINDOW,
        };
        // Without the parameter in the offer the client may not know it (RFC 7692, section 7.1.2.2).
        let client_window =
            self.client_window.map_or(MAX_WINDOW, |asked| asked.unwrap_or(MAX_WINDOW).min(window).min(kept));
        Some(Agreed {
            server_no_context: self.server_no_context || forgets,
            client_no_context,
            server_window,
            client_window,
            dedicated: settings.context == Context::Dedicated,
            server_window_asked: self.server_window.is_some(),
            level: settings.level.clamp(1, 9),
            min_size: settings.min_size,
        })
    }
}

/// 8 to 15 in decimal without leading zeros, as a token or quoted (RFC 6455, section 9.1; RFC 7692, section 7.1.2).
fn window(value: &[u8]) -> Option<u8> {
    let digits = match value {
        [b'"', quoted @ .., b'"'] => quoted,
        token => token,
    };
    match digits {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + (digit - b'0')),
        _ => None,
    }
}

impl std::fmt::Display for Agreed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("permessage-deflate")?;
        if self.server_no_context {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context {
            f.write_str("; client_no_context_takeover")?;
        }
        if self.server_window_asked || self.server_window < MAX_WINDOW {
            write!(f, "; server_max_window_bits={}", self.server_window)?;
        }
        if self.client_window < MAX_WINDOW {
            write!(f, "; client_max_window_bits={}", self.client_window)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer_with(settings: Settings, values: &[&str]) -> Option<String> {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        negotiate(&values, &settings).map(|agreed| agreed.to_string())
    }

    fn answer(value: &str) -> Option<String> {
        answer_with(Settings::default(), &[value])
    }

    #[test]
    fn answers_to_offers() {
        for (offer, expected) in [
            ("permessage-deflate", "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=12"),
            ("permessage-deflate; client_max_window_bits=14", "permessage-deflate; client_max_window_bits=12"),
            (
                "permessage-deflate; client_max_window_bits; client_no_context_takeover",
                "permessage-deflate; client_no_context_takeover",
            ),
            ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=10"),
            ("permessage-deflate; client_max_window_bits=8", "permessage-deflate; client_max_window_bits=8"),
            ("permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10"),
            ("permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=15"),
            ("permessage-deflate;server_max_window_bits = \"9\"", "permessage-deflate; server_max_window_bits=9"),
            ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
            ("permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover"),
            (
                "permessage-deflate; client_max_window_bits=9; server_max_window_bits=12; client_no_context_takeover; \
                 server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=12; client_max_window_bits=9",
            ),
        ] {
            assert_eq!(answer(offer).as_deref(), Some(expected), "{offer}");
        }
    }

    #[test]
    fn declined_offers() {
        for parameters in [
            "server_no_context_takeover=1",
            "server_no_context_takeover=",
            "client_no_context_takeover=true",
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=7",
            "server_max_window_bits=8",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=+9",
            "server_max_window_bits=9.0",
            "server_max_window_bits=\"9",
            "server_max_window_bits='9'",
            "client_max_window_bits=",
            "client_max_window_bits=\"\"",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=010",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits=10",
            "unknown",
            "unknown=1",
            "Server_no_context_takeover",
            "",
            "; server_no_context_takeover",
            "=1",
        ] {
            let offer = format!("permessage-deflate; {parameters}");
            assert_eq!(answer(&offer), None, "{offer}");
            // The next one is tried, in the same header or in another one.
            let next = format!("{offer}, permessage-deflate; server_max_window_bits=11");
            let expected = Some("permessage-deflate; server_max_window_bits=11");
            if !offer.ends_with("\"9") {
                assert_eq!(answer(&next).as_deref(), expected, "{next}");
            }
            let next = answer_with(Settings::default(), &[&offer, "permessage-deflate; server_max_window_bits=11"]);
            assert_eq!(next.as_deref(), expected);
        }
    }

    #[test]
    fn other_extensions_are_ignored() {
        assert_eq!(answer("x-webkit-deflate-frame"), None);
        assert_eq!(answer("permessage-deflate2"), None);
        assert_eq!(answer(""), None);
        assert_eq!(answer_with(Settings::default(), &[]), None);
        assert_eq!(answer("foo; a=\"x, permessage-deflate\""), None);
        assert_eq!(answer("foo; a=\"x, \\\"y\"; b, ,permessage-deflate").as_deref(), Some("permessage-deflate"));
    }

    #[test]
    fn settings_limit_the_answer() {
        let off = Settings { context: Context::Off, ..Settings::default() };
        assert_eq!(
            answer_with(off, &["permessage-deflate"]).as_deref(),
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
        );
        let dedicated = Settings { context: Context::Dedicated, ..Settings::default() };
        assert_eq!(
            answer_with(dedicated, &["permessage-deflate; client_max_window_bits"]).as_deref(),
            Some("permessage-deflate")
        );
        let small = Settings { window: 11, ..Settings::default() };
        for (offer, expected) in [
            ("permessage-deflate", "permessage-deflate; server_max_window_bits=11"),
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; server_max_window_bits=11; client_max_window_bits=11",
            ),
            (
                "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
                "permessage-deflate; server_max_window_bits=11; client_max_window_bits=11",
            ),
            (
                "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
            ),
        ] {
            assert_eq!(answer_with(small, &[offer]).as_deref(), Some(expected), "{offer}");
        }
    }

    proptest! {
        #[test]
        fn no_value_does_harm(values: Vec<Vec<u8>>, tail in "[a-z_=;, \"\\\\0-9]{0,60}") {
            let mut values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let offer = format!("permessage-deflate;{tail}");
            values.push(offer.as_bytes());
            let _ = negotiate(&values, &Settings::default());
        }
    }
}
