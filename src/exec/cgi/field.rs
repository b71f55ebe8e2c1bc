// SPDX-License-Identifier: Apache-2.0

//! One line of the header of a response.

use crate::ws::field::is_token;

/// Splits a line into the name of the field and its value, without the white space around it.
///
/// `None` if it is no field: the name is not a token (RFC 9110, section 5.6.2), the colon is missing, the line goes on with the
/// one before, which CGI does not know (RFC 3875, section 6.3), or the value has control octets in it.
pub fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    let value = value.get(1..)?.trim_ascii();
    let is_value = !value.iter().any(|octet| octet.is_ascii_control() && *octet != b'\t');
    (is_token(name) && is_value).then_some((name, value))
}

/// Whether a line is the one with which the error pages of Python's `cgitb` begin. It opens a comment in a page that has begun already;
/// in a header it would be a field with a name that none can have, and stands in front of a header that is right.
pub fn is_comment(line: &[u8]) -> bool {
    line.starts_with(b"<!--:")
}

/// Whether a field is about the connection, which is the server's and not the program's (RFC 3875, section 6.3.4; RFC 9110,
/// section 7.6.1). HTTP/2 and HTTP/3 do not even have them.
pub fn is_of_connection(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] =
        [b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        for (line, name, value) in [
            ("Content-Type: text/html", "Content-Type", "text/html"),
            ("a:", "a", ""),
            ("a:b:c", "a", "b:c"),
            ("X_1:\t a\tb \t", "X_1", "a\tb"),
            ("x: caf\u{e9}", "x", "caf\u{e9}"),
        ] {
            assert_eq!(split(line.as_bytes()), Some((name.as_bytes(), value.as_bytes())), "{line}");
        }
        for line in [
            "",
            "a",
            ":",
            ": a",
            "a b: c",
            "a : b",
            " a: b",
            "\ta: b",
            "HTTP/1.1 200 OK",
            "a\u{e9}: b",
            "a: \0",
            "a: b\rc",
            "a: \x7f",
        ] {
            assert_eq!(split(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn fields_of_the_connection() {
        for name in ["Connection", "KEEP-ALIVE", "transfer-encoding", "TE", "Trailer", "Upgrade", "Proxy-Connection"] {
            assert!(is_of_connection(name.as_bytes()), "{name}");
        }
        for name in ["Content-Length", "Set-Cookie", "Via", "", "Connections"] {
            assert!(!is_of_connection(name.as_bytes()), "{name}");
        }
    }
}
