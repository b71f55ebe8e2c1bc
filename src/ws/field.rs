// SPDX-License-Identifier: Apache-2.0

//! The grammar of header fields (RFC 9110, section 5.6).

/// Whether `octets` are a token (section 5.6.2): not empty, and none of the separators.
pub fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty()
        && octets.iter().all(|octet| match octet {
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~' => true,
            other => other.is_ascii_alphanumeric(),
        })
}

/// `octets` without the spaces and tabs around them (section 5.6.3).
pub fn trim(octets: &[u8]) -> &[u8] {
    let blank = |octet: &u8| matches!(octet, b' ' | b'\t');
    let Some(start) = octets.iter().position(|octet| !blank(octet)) else { return &[] };
    let end = octets.iter().rposition(|octet| !blank(octet)).map_or(start, |last| last + 1);
    octets.get(start..end).unwrap_or_default()
}

/// The elements of a list whose elements have no quoted strings (section 5.6.1). Empty elements are left out, as a
/// recipient must.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&octet| octet == b',').map(trim).filter(|element| !element.is_empty())
}

/// Splits at `separator`, but not inside quoted strings (section 5.6.4). The parts are trimmed; empty ones are kept.
pub fn split_quoted(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |&octet| {
            if escaped {
                escaped = false;
                return false;
            }
            match octet {
                b'"' => quoted = !quoted,
                b'\\' if quoted => escaped = true,
                _ => return octet == separator && !quoted,
            }
            false
        })
        .map(trim)
}

/// How many octets of a media type (section 8.3.1) are before its charset, and the charset, without quotes; all of them, and nothing,
/// where it has none. As nginx's upstream reads one: what comes after the charset belongs to it.
pub fn split_charset(media_type: &[u8]) -> (usize, &[u8]) {
    const NAME: &[u8] = b"charset=";
    let mut from = 0;
    while let Some(at) = memchr::memchr(b';', media_type.get(from..).unwrap_or_default()) {
        let semicolon = from + at;
        let blanks = media_type.iter().skip(semicolon + 1).take_while(|&&octet| octet == b' ').count();
        from = semicolon + 1 + blanks;
        let Some((name, value)) = media_type.get(from..).and_then(|rest| rest.split_at_checked(NAME.len())) else {
            continue;
        };
        if value.is_empty() || !name.eq_ignore_ascii_case(NAME) {
            continue;
        }
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        return (semicolon, value.strip_suffix(b"\"").unwrap_or(value));
    }
    (media_type.len(), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets() {
        let split = |text: &'static str| {
            let (len, charset) = split_charset(text.as_bytes());
            (&text[..len], str::from_utf8(charset).unwrap())
        };
        assert_eq!(split("text/plain"), ("text/plain", ""));
        assert_eq!(split("text/plain; charset=utf-8"), ("text/plain", "utf-8"));
        assert_eq!(split("text/plain;CHARSET=\"utf-8\""), ("text/plain", "utf-8"));
        assert_eq!(split("a/b; c=d;   charset=x"), ("a/b; c=d", "x"));
        assert_eq!(split("a/b;;charset=x"), ("a/b;", "x"));
        assert_eq!(split("a/b; charset="), ("a/b; charset=", ""));
        assert_eq!(split("a/b; charset=\""), ("a/b", ""));
        assert_eq!(split("a/b; xcharset=y"), ("a/b; xcharset=y", ""));
        assert_eq!(split("a/b;"), ("a/b;", ""));
        assert_eq!(split(""), ("", ""));
    }

    #[test]
    fn tokens() {
        for good in ["a", "chat.v1", "!#$%&'*+-.^_`|~09azAZ"] {
            assert!(is_token(good.as_bytes()), "{good}");
        }
        for octet in *b"\"(),/:;<=>?@[\\]{} \t\x00\x7f\xe9" {
            assert!(!is_token(&[b'a', octet]), "{octet:x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn lists() {
        assert_eq!(list(b" a,b ,\t, c d").collect::<Vec<_>>(), [&b"a"[..], b"b", b"c d"]);
        assert_eq!(list(b" ,").count(), 0);
        let quoted = split_quoted(br#"a; b="x;\";y" ;; c"#, b';');
        assert_eq!(quoted.collect::<Vec<_>>(), [&b"a"[..], br#"b="x;\";y""#, b"", b"c"]);
    }

    #[test]
    fn trimming() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \t"), b"");
        assert_eq!(trim(b""), b"");
    }
}
