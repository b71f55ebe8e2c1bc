//! Messages in the body of an HTTP response that does not end.

use super::date::http_date;
use crate::channel::message::Message;
use crate::channel::position::etag;

/// A message as one chunk (RFC 9112, section 7.1). An empty one would end the body, so nothing is sent for it.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return Vec::new();
    }
    let mut out = format!("{:x}\r\n", data.len()).into_bytes();
    out.reserve_exact(data.len() + 2);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    out
}

/// What a `multipart/mixed` body begins with (RFC 2046, section 5.1.1); each message then is one [`part`].
pub fn first_boundary(boundary: &str) -> Vec<u8> {
    format!("--{boundary}").into_bytes()
}

/// What a `multipart/mixed` body ends with, after the boundary of the last part.
pub const LAST_BOUNDARY: &[u8] = b"--\r\n";

/// A message as a part, with the boundary that ends it: the client need not wait for the next one.
pub fn part(boundary: &str, message: &Message, id: &str) -> Vec<u8> {
    let date = http_date(message.unix / 1000);
    let mut out = format!("\r\nLast-Modified: {date}\r\nEtag: {}", etag(id)).into_bytes();
    out.reserve_exact(message.data().len() + message.content_type().len() + boundary.len() + 28);
    if !message.content_type().is_empty() {
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend(message.content_type().iter().filter(|octet| !matches!(octet, b'\r' | b'\n')));
    }
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(message.data());
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, MessageId, Offset};
    use crate::ws::Kind;

    #[test]
    fn one_message_is_one_chunk() {
        assert_eq!(chunk(b"hello"), b"5\r\nhello\r\n");
        assert_eq!(chunk(&[b'x'; 255])[..4], *b"ff\r\n");
        assert_eq!(chunk(b""), b"");
    }

    #[test]
    fn parts_follow_each_other() {
        let message = |content_type: &[u8]| {
            let id = MessageId { epoch: Epoch(7), offset: Offset(1) };
            Message::for_tests(id, Kind::Text, content_type, b"", b"data")
        };
        let body = [
            first_boundary("B"),
            part("B", &message(b"text/plain"), "7:1"),
            part("B", &message(b""), "7:2"),
            LAST_BOUNDARY.to_vec(),
        ];
        let expected = "--B\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nEtag: \"7:1\"\r\n\
            Content-Type: text/plain\r\n\r\ndata\r\n--B\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
            Etag: \"7:2\"\r\n\r\ndata\r\n--B--\r\n";
        assert_eq!(String::from_utf8(body.concat()).unwrap(), expected);
    }
}
