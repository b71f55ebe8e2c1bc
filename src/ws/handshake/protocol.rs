// SPDX-License-Identifier: Apache-2.0

//! Subprotocols (RFC 6455, sections 1.9 and 4.2.2).

use crate::ws::field;

/// The subprotocols in the values of `Sec-WebSocket-Protocol`, which are one list (RFC 6455, section 11.3.4). `None`
/// if an element is not a token, if one is there twice, or if a header has no element at all.
pub fn parse<'r>(values: &[&'r [u8]]) -> Option<Vec<&'r str>> {
    let mut names = Vec::new();
    for value in values {
        let before = names.len();
        for name in field::list(value) {
            let name = std::str::from_utf8(name).ok().filter(|name| field::is_token(name.as_bytes()))?;
            names.push(name);
        }
        if names.len() == before {
            return None;
        }
    }
    // Sorted, because the client decides how many there are.
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let unique = sorted.windows(2).all(|pair| pair.first() != pair.last());
    unique.then_some(names)
}

/// The first subprotocol of the client that is among `spoken`. Case counts.
pub fn select<'r>(offered: &[&'r str], spoken: &[impl AsRef<str>]) -> Option<&'r str> {
    offered.iter().copied().find(|name| spoken.iter().any(|known| known.as_ref() == *name))
}

/// Whether a name can be a subprotocol, for the configuration.
pub fn is_valid(name: &str) -> bool {
    field::is_token(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse(&[]), Some(vec![]));
        assert_eq!(parse(&[b"a ,b", b"c"]), Some(vec!["a", "b", "c"]));
        assert_eq!(parse(&[b"a,,b,"]), Some(vec!["a", "b"]));
        assert_eq!(parse(&[b"a, A"]), Some(vec!["a", "A"]));
        for bad in [&b""[..], b",", b"a b", b"a/b", b"a=b", b"\"a\"", b"a,b,a", b"\xc3\xa9"] {
            assert_eq!(parse(&[bad]), None, "{bad:?}");
        }
        assert_eq!(parse(&[b"a", b""]), None);
    }

    #[test]
    fn the_clients_order_decides() {
        assert_eq!(select(&["c", "b", "a"], &["a", "b"]), Some("b"));
        assert_eq!(select(&["B"], &["b"]), None);
        assert_eq!(select(&[], &["b"]), None);
        assert_eq!(select(&["b"], &[] as &[&str]), None);
    }
}
