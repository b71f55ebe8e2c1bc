// SPDX-License-Identifier: Apache-2.0

//! What the answer of a hook means: `websocket_channel_publish_request` and `websocket_channel_join_request`.
//!
//! A hook is a location of the server. Only what it says clearly lets a message or a subscriber in; everything else,
//! silence included, keeps it out.

/// Statuses of HTTP that are spelt out here (RFC 9110, section 15).
const OK: u16 = 200;
const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;
const FORBIDDEN: u16 = 403;
const BAD_GATEWAY: u16 = 502;
const GATEWAY_TIMEOUT: u16 = 504;

/// How often a hook may be asked because of another hook: more than that is a circle.
pub const MOST_HOPS: u32 = 8;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publishing {
    /// The body of the answer is published in its place.
    Replace,
    /// The message is published as it came.
    Keep,
    /// Nobody gets it; the publisher is told that all is well.
    Drop,
    /// Nobody gets it; the publisher is told this status.
    Refuse(u16),
}

impl Publishing {
    /// By the status of the answer; `None` where there was none, or only a part of it.
    pub fn of(status: Option<u16>) -> Self {
        match status {
            Some(OK) => Self::Replace,
            Some(NOT_MODIFIED) => Self::Keep,
            Some(NO_CONTENT) => Self::Drop,
            other => Self::Refuse(refusal(other)),
        }
    }
}

/// What becomes of somebody who wants to subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// Whoever asks may join.
    Admit,
    /// Whoever asks may not join, and is told this status.
    Refuse(u16),
}

impl Joining {
    /// By the status of the answer; `None` where there was none.
    pub fn of(status: Option<u16>) -> Self {
        match status {
            Some(200..=299) => Self::Admit,
            other => Self::Refuse(refusal(other)),
        }
    }
}

/// The status that a client is told. What would look like success is none, and a redirection leads a client of this
/// location nowhere.
fn refusal(status: Option<u16>) -> u16 {
    match status {
        Some(status @ 400..=599) => status,
        Some(_) => FORBIDDEN,
        None => BAD_GATEWAY,
    }
}

/// What a status of 400 to 599 says about the hook that decides about messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moderator {
    /// The moderator does not want this message.
    Refuses,
    /// Nobody has looked at the message; later somebody may.
    Unreachable,
    /// Something is wrong with it.
    Broken,
}

impl Moderator {
    /// By the status that a publisher by HTTP would be told.
    pub fn of(status: u16) -> Self {
        match status {
            BAD_GATEWAY..=GATEWAY_TIMEOUT => Self::Unreachable,
            500.. => Self::Broken,
            _ => Self::Refuses,
        }
    }
}

/// How many hooks a request has come through, by the header that each of them adds. `None` for a header that no hook made.
pub fn hops(header: Option<&[u8]>) -> Option<u32> {
    header.map_or(Some(0), |digits| str::from_utf8(digits).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(Publishing::of(Some(200)), Publishing::Replace);
        assert_eq!(Publishing::of(Some(304)), Publishing::Keep);
        assert_eq!(Publishing::of(Some(204)), Publishing::Drop);
        for (status, told) in [
            (Some(100), 403),
            (Some(201), 403),
            (Some(202), 403),
            (Some(206), 403),
            (Some(301), 403),
            (Some(302), 403),
            (Some(400), 400),
            (Some(403), 403),
            (Some(422), 422),
            (Some(500), 500),
            (Some(503), 503),
            (Some(600), 403),
            (None, 502),
        ] {
            assert_eq!(Publishing::of(status), Publishing::Refuse(told), "{status:?}");
        }
    }

    #[test]
    fn subscribers() {
        for status in [200, 201, 204, 299] {
            assert_eq!(Joining::of(Some(status)), Joining::Admit, "{status}");
        }
        for (status, told) in [
            (Some(199), 403),
            (Some(300), 403),
            (Some(304), 403),
            (Some(401), 401),
            (Some(404), 404),
            (Some(504), 504),
            (None, 502),
        ] {
            assert_eq!(Joining::of(status), Joining::Refuse(told), "{status:?}");
        }
    }

    #[test]
    fn moderators() {
        for status in [400, 403, 408, 422, 429, 444, 499] {
            assert_eq!(Moderator::of(status), Moderator::Refuses, "{status}");
        }
        for status in [502, 503, 504] {
            assert_eq!(Moderator::of(status), Moderator::Unreachable, "{status}");
        }
        for status in [500, 501, 505, 508, 599] {
            assert_eq!(Moderator::of(status), Moderator::Broken, "{status}");
        }
    }

    #[test]
    fn circles() {
        assert_eq!(hops(None), Some(0));
        assert_eq!(hops(Some(b"3")), Some(3));
        for header in ["", "x", "-1", "99999999999", "3 ", "\u{fc}"] {
            assert_eq!(hops(Some(header.as_bytes())), None, "{header}");
        }
    }
}
