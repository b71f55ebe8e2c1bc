// SPDX-License-Identifier: Apache-2.0

//! The opening handshake, the server's side (RFC 6455, section 4.2).

pub mod protocol;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

use super::field;

/// The version of HTTP that a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpVersion {
    /// HTTP/0.9 or HTTP/1.0, which know no `Upgrade`.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2, where `Upgrade` and `Connection` must not be sent (RFC 9113, section 8.2.2).
    Http2,
    /// HTTP/3, likewise (RFC 9114, section 4.2).
    Http3,
}

/// A request without its headers.
#[derive(Debug, Clone, Copy)]
pub struct HandshakeRequest<'r> {
    /// The method, as it was sent.
    pub method: &'r [u8],
    /// The version of HTTP.
    pub version: HttpVersion,
    /// Whether a body follows: a `Content-Length` over 0, or chunks.
    pub has_body: bool,
}

/// What a client asked for in a right handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'r> {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: Accept,
    /// The value of `Origin`, for [`origin`](super::origin).
    pub origin: Option<&'r [u8]>,
    /// The subprotocols, in the client's order, for [`protocol::select`].
    pub protocols: Vec<&'r str>,
    /// The values of `Sec-WebSocket-Extensions`, one for each header line.
    pub extensions: Vec<&'r [u8]>,
}

/// The value of `Sec-WebSocket-Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept([u8; 28]);

impl AsRef<[u8]> for Accept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The method is not GET.
    Method,
    /// A GET with a body, whose octets would be taken for frames. The HTTP connection must be closed.
    Body,
    /// Not an upgrade to WebSocket: a plain GET, another protocol, or no `upgrade` in `Connection`; and whatever came
    /// by HTTP/2 or HTTP/3.
    NotUpgrade,
    /// HTTP/1.0, which cannot be upgraded (RFC 6455, section 4.1).
    Http10,
    /// `Sec-WebSocket-Version` is not there once, or not 13.
    Version,
    /// `Sec-WebSocket-Key` is not there once, or not 16 octets in base64.
    Key,
    /// `Sec-WebSocket-Protocol` is not a list of different tokens.
    Protocols,
    /// Several `Origin` headers.
    Origins,
    /// The origin is not allowed; [`evaluate`] leaves that to the caller.
    Forbidden,
}

const UPGRADE: [(&str, &str); 3] =
    [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")];
const ALLOW: [(&str, &str); 1] = [("Allow", "GET")];

impl Refusal {
    /// The status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotUpgrade | Self::Version => 426,
            Self::Body | Self::Http10 | Self::Key | Self::Protocols | Self::Origins => 400,
            Self::Forbidden => 403,
        }
    }

    /// The headers that the answer needs beside the usual ones, for the version of HTTP that the request came by.
    pub fn headers(self, version: HttpVersion) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &ALLOW,
            Self::NotUpgrade | Self::Version => match version {
                HttpVersion::Http10 | HttpVersion::Http11 => &UPGRADE,
                HttpVersion::Http2 | HttpVersion::Http3 => UPGRADE.get(2..).unwrap_or_default(),
            },
            Self::Body | Self::Http10 | Self::Key | Self::Protocols | Self::Origins | Self::Forbidden => &[],
        }
    }

    /// What is wrong, for the log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Method => "the method is not GET",
            Self::Body => "the request has a body",
            Self::NotUpgrade => "not an upgrade to websocket",
            Self::Http10 => "HTTP/1.0 cannot be upgraded",
            Self::Version => "Sec-WebSocket-Version is not 13",
            Self::Key => "invalid Sec-WebSocket-Key",
            Self::Protocols => "invalid Sec-WebSocket-Protocol",
            Self::Origins => "several Origin headers",
            Self::Forbidden => "the origin is not allowed",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}

/// A header that must be there exactly once.
#[derive(Clone, Copy)]
enum Single<'r> {
    Missing,
    Once(&'r [u8]),
    Several,
}

impl<'r> Single<'r> {
    fn add(&mut self, value: &'r [u8]) {
        *self = match self {
            Self::Missing => Self::Once(value),
            Self::Once(_) | Self::Several => Self::Several,
        };
    }

    fn once(self) -> Option<&'r [u8]> {
        match self {
            Self::Once(value) => Some(value),
            Self::Missing | Self::Several => None,
        }
    }
}

fn has_token(list: &[u8], name: &[u8]) -> bool {
    field::list(list).any(|token| token.eq_ignore_ascii_case(name))
}

/// Whether a request asks for a WebSocket at all, rightly or not: for [`evaluate`] it would be anything but
/// [`Refusal::NotUpgrade`] with the right method and no body.
pub fn is_asked_for<'r>(version: HttpVersion, headers: impl IntoIterator<Item = (&'r [u8], &'r [u8])>) -> bool {
    let (mut upgrade, mut connection) = (false, false);
    for (name, value) in headers {
        upgrade |= name.eq_ignore_ascii_case(b"upgrade") && has_token(field::trim(value), b"websocket");
        connection |= name.eq_ignore_ascii_case(b"connection") && has_token(field::trim(value), b"upgrade");
    }
    version <= HttpVersion::Http11 && upgrade && connection
}

/// Decides whether a request opens a WebSocket. Its origin is for the caller to judge.
///
/// # Errors
///
/// [`Refusal`] is the first rule that is broken, in this order: method, body, upgrade, version of HTTP, version of the
/// protocol, key, subprotocols, origin.
pub fn evaluate<'r>(
    request: HandshakeRequest<'_>,
    headers: impl IntoIterator<Item = (&'r [u8], &'r [u8])>,
) -> Result<Accepted<'r>, Refusal> {
    let (mut upgrade, mut connection) = (false, false);
    let (mut version, mut key, mut origin) = (Single::Missing, Single::Missing, Single::Missing);
    let (mut protocols, mut extensions) = (Vec::new(), Vec::new());
    for (name, value) in headers {
        let value = field::trim(value);
        let is = |expected: &str| name.eq_ignore_ascii_case(expected.as_bytes());
        if is("upgrade") {
            upgrade |= has_token(value, b"websocket");
        } else if is("connection") {
            connection |= has_token(value, b"upgrade");
        } else if is("sec-websocket-version") {
            version.add(value);
        } else if is("sec-websocket-key") {
            key.add(value);
        } else if is("sec-websocket-protocol") {
            protocols.push(value);
        } else if is("sec-websocket-extensions") {
            extensions.push(value);
        } else if is("origin") {
            origin.add(value);
        }
    }
    if request.method != b"GET" {
        return Err(Refusal::Method);
    }
    if request.has_body {
        return Err(Refusal::Body);
    }
    if request.version > HttpVersion::Http11 || !upgrade || !connection {
        return Err(Refusal::NotUpgrade);
    }
    if request.version < HttpVersion::Http11 {
        return Err(Refusal::Http10);
    }
    if version.once() != Some(b"13") {
        return Err(Refusal::Version);
    }
    let accept = key.once().and_then(accept).ok_or(Refusal::Key)?;
    let protocols = protocol::parse(&protocols).ok_or(Refusal::Protocols)?;
    let origin = match origin {
        Single::Missing => None,
        Single::Once(value) => Some(value),
        Single::Several => return Err(Refusal::Origins),
    };
    Ok(Accepted { accept, origin, protocols, extensions })
}

/// Reads what clients write: padding is required, the unused bits of the last character are not looked at.
const READER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// The answer to a key (RFC 6455, section 4.2.2); `None` if the key is not 16 octets in base64.
fn accept(key: &[u8]) -> Option<Accept> {
    let mut nonce = [0; 18];
    if READER.decode_slice(key, &mut nonce) != Ok(16) {
        return None;
    }
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; 28];
    READER.encode_slice(hash.finalize(), &mut accept).ok()?;
    Some(Accept(accept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const GET: HandshakeRequest<'static> =
        HandshakeRequest { method: b"GET", version: HttpVersion::Http11, has_body: false };

    /// The handshake of RFC 6455, section 1.3, with the headers of these names replaced by `headers`.
    fn evaluate_with(
        request: HandshakeRequest<'_>,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Accepted<'static>, Refusal> {
        let usual = [
            ("Host", "server.example.com"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
        ];
        let kept = usual.iter().filter(|(name, _)| !headers.iter().any(|(other, _)| other == name));
        // A header "replaced" by "-" is left out.
        let all = kept.chain(headers).filter(|(_, value)| *value != "-");
        evaluate(request, all.map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect::<Vec<_>>())
    }

    fn refusal(headers: &[(&'static str, &'static str)]) -> Refusal {
        evaluate_with(GET, headers).unwrap_err()
    }

    #[test]
    fn valid() {
        let accepted = evaluate_with(GET, &[]).unwrap();
        assert_eq!(accepted.accept.as_ref(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((accepted.origin, accepted.protocols.len(), accepted.extensions.len()), (None, 0, 0));
        let accepted = evaluate_with(
            GET,
            &[
                ("Origin", "http://example.com"),
                ("sec-websocket-protocol", "chat, superchat"),
                ("SEC-WEBSOCKET-PROTOCOL", "other"),
                ("Sec-WebSocket-Extensions", "x, permessage-deflate"),
                ("Sec-WebSocket-Extensions", "y"),
            ],
        )
        .unwrap();
        assert_eq!(accepted.origin, Some(&b"http://example.com"[..]));
        assert_eq!(accepted.protocols, ["chat", "superchat", "other"]);
        assert_eq!(accepted.extensions, [&b"x, permessage-deflate"[..], b"y"]);
    }

    #[test]
    fn tokens_of_upgrade_and_connection() {
        for headers in [
            &[("Upgrade", "WebSocket")][..],
            &[("Upgrade", "websocket, h2c")],
            &[("Upgrade", "h2c,WEBSOCKET")],
            &[("Upgrade", "h2c"), ("Upgrade", "websocket")],
            &[("Connection", "keep-alive, Upgrade")],
            &[("Connection", "upgrade")],
            &[("Connection", "keep-alive"), ("Connection", "UPGRADE")],
        ] {
            assert!(evaluate_with(GET, headers).is_ok(), "{headers:?}");
        }
    }

    #[test]
    fn not_an_upgrade() {
        for headers in [
            &[("Upgrade", "-"), ("Connection", "-")][..],
            &[("Upgrade", "-")],
            &[("Upgrade", "foo")],
            &[("Upgrade", "websocket2")],
            &[("Connection", "-")],
            &[("Connection", "keep-alive")],
            &[("Connection", "no-upgrade")],
        ] {
            assert_eq!(refusal(headers), Refusal::NotUpgrade, "{headers:?}");
        }
        let headers = Refusal::NotUpgrade.headers(HttpVersion::Http11);
        assert_eq!(headers, [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]);
        assert_eq!(Refusal::NotUpgrade.status(), 426);
        for version in [HttpVersion::Http2, HttpVersion::Http3] {
            assert_eq!(evaluate_with(HandshakeRequest { version, ..GET }, &[]), Err(Refusal::NotUpgrade));
            assert_eq!(Refusal::NotUpgrade.headers(version), [("Sec-WebSocket-Version", "13")]);
        }
    }

    #[test]
    fn methods() {
        for method in [&b"POST"[..], b"HEAD", b"get", b"CONNECT", b"OPTIONS", b""] {
            assert_eq!(evaluate_with(HandshakeRequest { method, ..GET }, &[]), Err(Refusal::Method));
        }
        assert_eq!(Refusal::Method.status(), 405);
        assert_eq!(Refusal::Method.headers(HttpVersion::Http11), [("Allow", "GET")]);
    }

    #[test]
    fn http_1_0() {
        let request = HandshakeRequest { version: HttpVersion::Http10, ..GET };
        assert_eq!(evaluate_with(request, &[]), Err(Refusal::Http10));
        assert_eq!(evaluate_with(request, &[("Upgrade", "-")]), Err(Refusal::NotUpgrade));
        assert_eq!(Refusal::Http10.status(), 400);
    }

    #[test]
    fn bodies() {
        assert_eq!(evaluate_with(HandshakeRequest { has_body: true, ..GET }, &[]), Err(Refusal::Body));
        assert_eq!(Refusal::Body.status(), 400);
    }

    #[test]
    fn keys() {
        for headers in [
            &[("Sec-WebSocket-Key", "-")][..],
            &[("Sec-WebSocket-Key", "")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==x")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j!Q==")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQAA")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQA=")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub2==ZQ==")],
            &[("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY)],
        ] {
            assert_eq!(refusal(headers), Refusal::Key, "{headers:?}");
        }
        assert_eq!(Refusal::Key.status(), 400);
        assert!(evaluate_with(GET, &[("Sec-WebSocket-Key", " dGhlIHNhbXBsZSBub25jZQ==\t")]).is_ok());
    }

    #[test]
    fn versions() {
        for headers in [
            &[("Sec-WebSocket-Version", "-")][..],
            &[("Sec-WebSocket-Version", "")],
            &[("Sec-WebSocket-Version", "8")],
            &[("Sec-WebSocket-Version", "13a")],
            &[("Sec-WebSocket-Version", "013")],
            &[("Sec-WebSocket-Version", "13, 8")],
            &[("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "13")],
            &[("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "8")],
            // The version is looked at before the key, which older versions do not have.
            &[("Sec-WebSocket-Version", "0"), ("Sec-WebSocket-Key", "-")],
        ] {
            assert_eq!(refusal(headers), Refusal::Version, "{headers:?}");
        }
        assert_eq!(Refusal::Version.status(), 426);
        assert!(Refusal::Version.headers(HttpVersion::Http11).contains(&("Sec-WebSocket-Version", "13")));
    }

    #[test]
    fn malformed_subprotocols() {
        for headers in [
            &[("Sec-WebSocket-Protocol", "a b")][..],
            &[("Sec-WebSocket-Protocol", "")],
            &[("Sec-WebSocket-Protocol", "a;b")],
            &[("Sec-WebSocket-Protocol", "a, a")],
            &[("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b, a")],
        ] {
            assert_eq!(refusal(headers), Refusal::Protocols, "{headers:?}");
        }
        assert_eq!(Refusal::Protocols.status(), 400);
    }

    #[test]
    fn several_origins() {
        assert_eq!(refusal(&[("Origin", "http://a"), ("Origin", "http://b")]), Refusal::Origins);
        assert_eq!((Refusal::Origins.status(), Refusal::Forbidden.status()), (400, 403));
    }

    proptest! {
        #[test]
        fn any_sixteen_octets_are_a_key(nonce: [u8; 16]) {
            let key = READER.encode(nonce);
            prop_assert!(accept(key.as_bytes()).is_some());
        }

        #[test]
        fn what_asks_for_a_websocket(
            headers in prop::collection::vec(
                ("Upgrade|upgrade|Connection|connection|X", "websocket|WebSocket, x|h2c|upgrade|keep-alive, Upgrade|x| upgrade "),
                0..5,
            ),
            version in prop::sample::select(vec![HttpVersion::Http10, HttpVersion::Http11, HttpVersion::Http2]),
        ) {
            let headers = || headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let request = HandshakeRequest { version, ..GET };
            let evaluated = evaluate(request, headers());
            prop_assert_eq!(is_asked_for(version, headers()), evaluated != Err(Refusal::NotUpgrade));
        }

        #[test]
        fn no_header_does_harm(headers: Vec<(Vec<u8>, Vec<u8>)>) {
            let headers = headers.iter().map(|(name, value)| (&name[..], &value[..]));
            prop_assert!(evaluate(GET, headers).is_err());
        }
    }
}
