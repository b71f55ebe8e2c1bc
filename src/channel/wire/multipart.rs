// SPDX-License-Identifier: Apache-2.0

//! `multipart/mixed` (RFC 2046, section 5.1), in a body that does not end.
//!
//! Each part ends with the boundary that follows it, so that the client need not wait for the next one to know that it is
//! whole. The boundary is drawn for each subscriber: whoever knows it could publish parts of its own making. So it is not in
//! what subscribers share; it follows each [`part`] by itself.

use super::date::http_date;
use super::{header_value, one_line};
use crate::channel::message::Message;

/// What the body begins with; the boundary follows.
pub const FIRST: &[u8] = b"--";

/// What the body ends with, after the last boundary.
pub const LAST: &[u8] = b"--\r\n";

/// The content type of a body with this boundary, which has no octets that would need quotes.
pub fn content_type(boundary: &str) -> String {
    format!("multipart/mixed; boundary={boundary}")
}

/// A field of the next part, to be sent between the boundary and the part: `lost` messages before it are lost.
pub fn gap(lost: u64) -> Vec<u8> {
    format!("\r\nX-Channel-Gap: {lost}").into_bytes()
}

/// A message as a part, from after a boundary to before the next one; `channel` is the one that it is from, if that is to be told.
pub fn part(message: &Message, id: &str, channel: Option<&[u8]>) -> Vec<u8> {
    let head = [b"\r\nLast-Modified: ", &http_date(message.unix / 1000)[..], b"\r\nEtag: \"", id.as_bytes(), b"\""];
    let mut out = head.concat();
    out.reserve_exact(message.data().len() + message.content_type().len() + 28);
    if !message.content_type().is_empty() {
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(&one_line(message.content_type()));
    }
    if let Some(channel) = channel {
        out.extend_from_slice(b"\r\nX-Channel-Id: ");
        out.extend_from_slice(header_value(channel).as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(message.data());
    out.extend_from_slice(b"\r\n--");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, MessageId, Offset};
    use crate::ws::MessageKind;

    #[test]
    fn parts_follow_each_other() {
        let message = |content_type: &[u8]| {
            let id = MessageId { epoch: Epoch(7), offset: Offset(1) };
            Message::for_tests(id, MessageKind::Text, content_type, b"", b"data")
        };
        let body = [
            FIRST.to_vec(),
            b"B".to_vec(),
            part(&message(b"text/plain"), "7:1", None),
            b"B".to_vec(),
            gap(3),
            part(&message(b"a\r\nb: c"), "7:5", None),
            b"B".to_vec(),
            part(&message(b""), "7:6", None),
            b"B".to_vec(),
            LAST.to_vec(),
        ];
        let expected = "--B\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nEtag: \"7:1\"\r\n\
            Content-Type: text/plain\r\n\r\ndata\r\n\
            --B\r\nX-Channel-Gap: 3\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nEtag: \"7:5\"\r\n\
            Content-Type: ab: c\r\n\r\ndata\r\n\
            --B\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nEtag: \"7:6\"\r\n\r\ndata\r\n--B--\r\n";
        assert_eq!(String::from_utf8(body.concat()).unwrap(), expected);
    }
}
