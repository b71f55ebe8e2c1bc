// SPDX-License-Identifier: Apache-2.0

//! What the subprotocol `channels.v1` says of messages and gaps: see [`v1`](crate::channel::v1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::channel::message::Message;
use crate::json;
use crate::ws::frame::MessageKind;

/// The beginning of what is said about a channel; one without a name is not named.
fn begin(operation: &str, channel: &[u8], id: &str, room: usize) -> String {
    let mut text = String::with_capacity(room + channel.len() + id.len() + 64);
    text.push_str("{\"op\":\"");
    text.push_str(operation);
    if !channel.is_empty() {
        text.push_str("\",\"channel\":");
        json::string(&mut text, &String::from_utf8_lossy(channel));
        text.push_str(",\"id\":");
    } else {
        text.push_str("\",\"id\":");
    }
    json::string(&mut text, id);
    text
}

/// A message. What is not text is in base64.
pub fn message(message: &Message, id: &str, channel: &[u8]) -> String {
    let data = message.data();
    let octets = data.len() + data.len() / 2 + message.content_type().len() + message.event().len();
    let mut text = begin("message", channel, id, octets);
    for (name, value) in [(",\"type\":", message.content_type()), (",\"event\":", message.event())] {
        if !value.is_empty() {
            text.push_str(name);
            json::string(&mut text, &String::from_utf8_lossy(value));
        }
    }
    match (message.kind, str::from_utf8(data)) {
        (MessageKind::Text, Ok(data)) => {
            text.push_str(",\"data\":");
            json::string(&mut text, data);
        }
        (MessageKind::Text | MessageKind::Binary, _) => {
            text.push_str(",\"base64\":\"");
            STANDARD.encode_string(data, &mut text);
            text.push('"');
        }
    }
    text.push('}');
    text
}

/// `lost` messages before the position after `id` are lost; 0: nobody knows how many.
pub fn gap(lost: u64, id: &str, channel: &[u8]) -> String {
    let mut text = begin("gap", channel, id, 0);
    text.push_str(&format!(",\"lost\":{lost}}}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, MessageId, Offset};

    fn sample(kind: MessageKind, content_type: &[u8], event: &[u8], data: &[u8]) -> Message {
        Message::for_tests(MessageId { epoch: Epoch(77), offset: Offset(5) }, kind, content_type, event, data)
    }

    #[test]
    fn messages() {
        let hello = sample(MessageKind::Text, b"", b"", b"a \"b\"\n");
        assert_eq!(message(&hello, "77:5", b""), r#"{"op":"message","id":"77:5","data":"a \"b\"\u000a"}"#);
        let typed = sample(MessageKind::Text, b"text/plain", b"news", "é".as_bytes());
        assert_eq!(
            message(&typed, "77:5", b"r\"1"),
            r#"{"op":"message","channel":"r\"1","id":"77:5","type":"text/plain","event":"news","data":"é"}"#
        );
        let octets = sample(MessageKind::Binary, b"application/octet-stream", b"", b"\x00\xff");
        assert_eq!(
            message(&octets, "77:5", b"a"),
            r#"{"op":"message","channel":"a","id":"77:5","type":"application/octet-stream","base64":"AP8="}"#
        );
        let broken = sample(MessageKind::Text, b"\xff", b"", b"\xff");
        assert_eq!(
            message(&broken, "77:5", b""),
            "{\"op\":\"message\",\"id\":\"77:5\",\"type\":\"\u{fffd}\",\"base64\":\"/w==\"}"
        );
    }

    #[test]
    fn gaps() {
        assert_eq!(gap(3, "77:4", b"a"), r#"{"op":"gap","channel":"a","id":"77:4","lost":3}"#);
        assert_eq!(gap(0, "77:4", b""), r#"{"op":"gap","id":"77:4","lost":0}"#);
    }
}
