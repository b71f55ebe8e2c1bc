// SPDX-License-Identifier: Apache-2.0

//! Close codes and reasons (RFC 6455, sections 5.5.1 and 7.4).

use super::utf8;

/// A status code that may stand in a Close frame.
///
/// A value exists only for the codes that either side may put on the wire: 1000-1003, 1007-1014 and 3000-4999. The
/// codes 1004, 1005, 1006 and 1015 and the unassigned ranges have no value, so none of them can be sent (RFC 6455,
/// section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection has been fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server goes down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A type of data that cannot be accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Data that does not fit the type of the message, for instance text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// The policy of the receiver was violated.
    pub const POLICY: Self = Self(1008);
    /// A message that is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// The client wanted an extension that the server did not negotiate.
    pub const EXTENSION: Self = Self(1010);
    /// The server met an unexpected condition.
    pub const INTERNAL: Self = Self(1011);
    /// The service restarts.
    pub const RESTART: Self = Self(1012);
    /// Overloaded: try again later.
    pub const TRY_AGAIN: Self = Self(1013);
    /// A gateway got an invalid answer from its upstream.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// The code of this number, if it may be sent and received.
    pub const fn new(number: u16) -> Option<Self> {
        match number {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Octets that a reason may have: 125 of a control frame less two of the code (RFC 6455, section 5.5).
pub const MAX_REASON: usize = 123;

/// The longest prefix of `reason` that fits into a Close frame, cut between code points.
pub fn truncate_reason(reason: &str) -> &str {
    utf8::truncate(reason, MAX_REASON)
}

/// What is wrong with the payload of a Close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidClose {
    /// One octet, which is no code (RFC 6455, section 5.5.1).
    Length,
    /// A code that must not be sent (RFC 6455, section 7.4.1).
    Code(u16),
    /// The reason is not UTF-8.
    Reason,
}

/// Reads the payload of a Close frame: nothing, or a code and a reason.
///
/// # Errors
///
/// [`InvalidClose`] says which rule was broken.
pub fn parse(payload: &[u8]) -> Result<(Option<CloseCode>, &str), InvalidClose> {
    match payload {
        [] => Ok((None, "")),
        [_] => Err(InvalidClose::Length),
        [high, low, reason @ ..] => {
            let number = u16::from_be_bytes([*high, *low]);
            let code = CloseCode::new(number).ok_or(InvalidClose::Code(number))?;
            let reason = simdutf8::basic::from_utf8(reason).map_err(|_| InvalidClose::Reason)?;
            Ok((Some(code), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_on_the_wire() {
        for number in 0..=u16::MAX {
            let allowed = matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(CloseCode::new(number).map(CloseCode::number), allowed.then_some(number));
        }
    }

    #[test]
    fn payloads() {
        assert_eq!(parse(b""), Ok((None, "")));
        assert_eq!(parse(b"\x03"), Err(InvalidClose::Length));
        assert_eq!(parse(b"\x03\xe8"), Ok((Some(CloseCode::NORMAL), "")));
        assert_eq!(parse(b"\x03\xe9bye"), Ok((Some(CloseCode::GOING_AWAY), "bye")));
        assert_eq!(parse(b"\x03\xed"), Err(InvalidClose::Code(1005)));
        assert_eq!(parse(b"\x03\xe8\xff"), Err(InvalidClose::Reason));
        assert_eq!(parse(b"\x03\xe8\xe2\x82"), Err(InvalidClose::Reason));
    }

    #[test]
    fn reasons_are_cut_between_code_points() {
        let exact = "x".repeat(123);
        assert_eq!(truncate_reason(&exact), exact);
        let long = "x".repeat(122) + "€";
        assert_eq!(truncate_reason(&long), "x".repeat(122));
    }
}
