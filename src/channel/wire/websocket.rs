// SPDX-License-Identifier: Apache-2.0

//! WebSocket messages: whole or in fragments, compressed or not, as they are or in the form of a subprotocol.

use super::{Encoded, json, one_line};
use crate::channel::message::Message;
use crate::ws::Scratch;
use crate::ws::deflate::compress_message;
use crate::ws::frame::{Header, MAX_SERVER_HEADER, MessageKind, Opcode};

/// The subprotocol whose messages begin with lines about themselves.
pub const META: &str = "ws+meta.nchan";

/// What a message is sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// The data of the message and nothing else.
    #[default]
    Plain,
    /// The lines of [`META`].
    Meta,
    /// As an object of the subprotocol `channels.v1`.
    Json,
}

/// How a location frames its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Framing {
    /// What a message is sent with.
    pub style: Style,
    /// Octets of payload that a frame has at most; 0: one frame for each message.
    pub fragment: u64,
    /// Compression, if it was agreed on.
    pub deflate: Option<Deflate>,
}

/// How messages are compressed that many connections share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// The smallest window of the connections: [`Connection::shared_window`](crate::ws::Connection::shared_window).
    pub window: u8,
    /// Octets below which a message is not compressed.
    pub min_size: u64,
}

/// A message in frames; `channel` is the one that it is from, if that is to be told.
pub fn message(
    framing: &Framing,
    message: &Message,
    id: &str,
    channel: Option<&[u8]>,
    scratch: &mut Scratch,
) -> Encoded {
    match framing.style {
        Style::Plain => frames(framing, message.kind, message.data(), scratch),
        Style::Meta => {
            let prefix = prefix(id, message.content_type(), channel);
            let payload = [&prefix, message.data()].concat();
            frames(framing, message.kind, &payload, scratch)
        }
        Style::Json => {
            let text = json::message(message, id, channel.unwrap_or_default());
            frames(framing, MessageKind::Text, text.as_bytes(), scratch)
        }
    }
}

/// Tells that `lost` messages before the position after `id` are lost. The id makes sure that it is not told again. `None` where there
/// is no way to.
pub fn gap(framing: &Framing, lost: u64, id: &str, channel: Option<&[u8]>) -> Option<Encoded> {
    let payload = match framing.style {
        Style::Plain => return None,
        Style::Meta => meta_gap(lost, id, channel),
        Style::Json => json::gap(lost, id, channel.unwrap_or_default()),
    };
    Some(Encoded::plain(split(framing.fragment, MessageKind::Text, payload.as_bytes(), false)))
}

/// A message with the line of the gap. NchanSubscriber.js 1.0.10 knows no such line, and fails on a message that does not begin with the
/// id and perhaps a content type, or has them somewhere; as many characters as these lines have it then takes away from the
/// beginning. So the line of the gap comes first, and what is left is the end of the other ones: such a client gets an empty object of
/// JSON with blanks before it, and the position.
fn meta_gap(lost: u64, id: &str, channel: Option<&[u8]>) -> String {
    let mut first = format!("gap: {lost}\n");
    if let Some(channel) = channel {
        first += &format!("channel: {}\n", text(channel));
    }
    // What counts are characters of UTF-16. The object and the ends of two lines are among those that are left.
    let blanks = " ".repeat(first.encode_utf16().count() - 4);
    format!("{first}id: {id}\ncontent-type: application/json;{blanks}{{}}\n\n")
}

/// What stands in a line of [`META`]: a text message is UTF-8 as a whole, or the client closes the connection
/// (RFC 6455, section 8.1).
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(&one_line(value)).into_owned()
}

/// The lines of [`META`] before the data. A message without content type has no such line.
fn prefix(id: &str, content_type: &[u8], channel: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(id.len() + content_type.len() + 24);
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(id.as_bytes());
    if !content_type.is_empty() {
        out.extend_from_slice(b"\ncontent-type: ");
        out.extend_from_slice(text(content_type).as_bytes());
    }
    if let Some(channel) = channel {
        out.extend_from_slice(b"\nchannel: ");
        out.extend_from_slice(text(channel).as_bytes());
    }
    out.extend_from_slice(b"\n\n");
    out
}

fn frames(framing: &Framing, kind: MessageKind, payload: &[u8], scratch: &mut Scratch) -> Encoded {
    if let Some(Deflate { level, window, min_size }) = framing.deflate
        && payload.len() as u64 >= min_size
        && let Ok(Some(compressed)) = compress_message(payload, level, window, scratch)
    {
        let octets = split(framing.fragment, kind, &compressed, true);
        return Encoded { compressed: true, ..Encoded::plain(octets) };
    }
    Encoded::plain(split(framing.fragment, kind, payload, false))
}

/// A payload in frames of at most `fragment` octets (RFC 6455, section 5.4); a compressed one has RSV1 in the first
/// (RFC 7692, section 6).
fn split(fragment: u64, kind: MessageKind, payload: &[u8], compressed: bool) -> Vec<u8> {
    let most = match usize::try_from(fragment) {
        Ok(0) | Err(_) => payload.len().max(1),
        Ok(most) => most,
    };
    let frames = payload.len().div_ceil(most).max(1);
    let mut out = Vec::with_capacity(payload.len() + frames * MAX_SERVER_HEADER);
    let mut rest = payload;
    for nth in 0..frames {
        let (part, tail) = rest.split_at(rest.len().min(most));
        let opcode = if nth == 0 { kind.opcode() } else { Opcode::Continuation };
        let (fin, rsv1) = (nth + 1 == frames, compressed && nth == 0);
        out.extend_from_slice(&Header { fin, rsv1, opcode, len: part.len() as u64 }.encode());
        out.extend_from_slice(part);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::position::{Epoch, MessageId, Offset};

    fn sample(kind: MessageKind, content_type: &[u8], data: &[u8]) -> Message {
        let id = MessageId { epoch: Epoch(77), offset: Offset(5) };
        Message::for_tests(id, kind, content_type, b"", data)
    }

    fn encode(framing: Framing, message: &Message) -> Encoded {
        super::message(&framing, message, &message.id.to_string(), None, &mut Scratch::new())
    }

    #[test]
    fn plain_frames() {
        let hello = sample(MessageKind::Text, b"text/plain", b"hello");
        assert_eq!(hello.frame(), b"\x81\x05hello");
        assert_eq!(encode(Framing::default(), &hello).octets, hello.frame());
        let empty = sample(MessageKind::Binary, b"", b"");
        assert_eq!(encode(Framing { fragment: 3, ..Framing::default() }, &empty).octets, b"\x82\x00");
    }

    #[test]
    fn fragments() {
        let fragment =
            |fragment| encode(Framing { fragment, ..Framing::default() }, &sample(MessageKind::Text, b"", b"hello!"));
        assert_eq!(fragment(3).octets, b"\x01\x03hel\x80\x03lo!");
        assert_eq!(fragment(4).octets, b"\x01\x04hell\x80\x02o!");
        assert_eq!(fragment(6).octets, b"\x81\x06hello!");
        assert_eq!(fragment(u64::MAX).octets, b"\x81\x06hello!");
    }

    #[test]
    fn meta_lines() {
        let framing = Framing { style: Style::Meta, ..Framing::default() };
        let typed = encode(framing, &sample(MessageKind::Text, b"text/plain", b"hello")).octets;
        assert_eq!(typed, b"\x81\x28id: 77:5\ncontent-type: text/plain\n\nhello");
        let untyped = encode(framing, &sample(MessageKind::Binary, b"", b"hello")).octets;
        assert_eq!(untyped, b"\x82\x0fid: 77:5\n\nhello");
        let lines = encode(framing, &sample(MessageKind::Text, b"a\r\nid: 9", b"")).octets;
        assert_eq!(&lines[2..], b"id: 77:5\ncontent-type: aid: 9\n\n");
        let foreign = sample(MessageKind::Text, b"a\xff", b"x");
        let octets = super::message(&framing, &foreign, "77:5", Some(b"\xe9\n"), &mut Scratch::new()).octets;
        let text = str::from_utf8(&octets[2..]).expect("a text message is UTF-8, whatever stands in its lines");
        assert_eq!(text, "id: 77:5\ncontent-type: a\u{fffd}\nchannel: \u{fffd}\n\nx");
        let told = gap(&framing, 3, "77:4", None).unwrap().octets;
        assert_eq!(&told[2..], b"gap: 3\nid: 77:4\ncontent-type: application/json;   {}\n\n");
        assert_eq!(told[0], 0x81);
    }

    /// What `NchanSubscriber.js` makes of a message: `evt.data.match(/^id: (.*)\n(content-type: (.*)\n)?\n/m)`, and the data
    /// without as many characters as matched.
    fn nchan_subscriber(text: &str) -> Option<(String, String)> {
        let begin = if text.starts_with("id: ") { 0 } else { text.find("\nid: ")? + 1 };
        let mut lines = text[begin..].split_inclusive('\n');
        let id = lines.next()?;
        let mut matched = id.to_owned();
        let mut last = lines.next()?;
        if last.starts_with("content-type: ") {
            matched += last;
            last = lines.next()?;
        }
        if last != "\n" {
            return None;
        }
        matched += last;
        let units: Vec<u16> = text.encode_utf16().collect();
        let rest = &units[matched.encode_utf16().count()..];
        Some((id.trim_end().trim_start_matches("id: ").to_owned(), String::from_utf16(rest).unwrap()))
    }

    #[test]
    fn a_gap_is_survived_by_clients_that_know_none() {
        for channel in [None, Some(&b"room"[..]), Some("r\u{f6}\u{1f600}".as_bytes())] {
            for lost in [0, 3, 1_000_000] {
                let text = meta_gap(lost, "77:4", channel);
                let (id, data) = nchan_subscriber(&text).unwrap();
                assert_eq!((id.as_str(), data.trim()), ("77:4", "{}"), "{text}");
                assert!(data.trim_start_matches([' ', '\n']).starts_with('{'));
            }
        }
    }

    #[test]
    fn objects() {
        let framing = Framing { style: Style::Json, ..Framing::default() };
        let octets = sample(MessageKind::Binary, b"", b"\x00");
        let object = |channel| message(&framing, &octets, "77:5", channel, &mut Scratch::new()).octets;
        assert_eq!(object(None)[0], 0x81, "octets are a text as well");
        assert_eq!(&object(Some(b"room"))[2..], br#"{"op":"message","channel":"room","id":"77:5","base64":"AA=="}"#);
        assert_eq!(&object(None)[2..], br#"{"op":"message","id":"77:5","base64":"AA=="}"#);
        let told = gap(&framing, 3, "77:4", Some(b"room")).unwrap().octets;
        assert_eq!(&told[2..], br#"{"op":"gap","channel":"room","id":"77:4","lost":3}"#);
        assert_eq!(gap(&Framing::default(), 3, "77:4", None), None);
    }

    #[test]
    fn compression() {
        let deflate = Some(Deflate { level: 6, window: 12, min_size: 100 });
        let long = sample(MessageKind::Text, b"", &[b'x'; 1000]);
        let encoded = encode(Framing { deflate, ..Framing::default() }, &long);
        assert!(encoded.compressed && encoded.octets.len() < 100);
        assert_eq!(encoded.octets[0], 0xc1, "FIN, RSV1, text");
        let fragments = encode(Framing { deflate, fragment: 4, ..Framing::default() }, &long).octets;
        assert_eq!((fragments[0], fragments[6]), (0x41, 0x00), "RSV1 on the first only");
        let short = encode(Framing { deflate, ..Framing::default() }, &sample(MessageKind::Text, b"", &[b'x'; 99]));
        assert!(!short.compressed);
        let noise: Vec<u8> = (0..200_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let noise = encode(Framing { deflate, ..Framing::default() }, &sample(MessageKind::Binary, b"", &noise));
        assert!(!noise.compressed, "what does not get smaller goes out as it is");
    }
}
