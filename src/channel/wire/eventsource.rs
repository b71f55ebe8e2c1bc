// SPDX-License-Identifier: Apache-2.0

//! EventSource (WHATWG HTML, "Server-sent events", section 9.2.6: interpreting an event stream).

use super::one_line;

/// A line that says nothing, to keep the connection alive.
pub const KEEPALIVE: &[u8] = b":\n\n";

/// What is sent in a silence in place of [`KEEPALIVE`]: a comment, an event, or both. `None` where it would be the same.
pub fn ping(event: &[u8], data: Option<&[u8]>, comment: &[u8]) -> Option<String> {
    if event.is_empty() && data.is_none() && comment.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    if !comment.is_empty() {
        field(&mut out, b"", &one_line(comment));
    }
    if !event.is_empty() {
        field(&mut out, b"event", &one_line(event));
    }
    if !event.is_empty() || data.is_some() {
        // Without data it would be no event.
        field(&mut out, b"data", &one_line(data.unwrap_or_default()));
    }
    out.push(b'\n');
    Some(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The content type of the stream.
pub const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";

/// The name of the event that tells how many messages are lost.
pub const GAP: &[u8] = b"gap";

/// An event with this id; `channel` is the one that it is from, if that is to be told.
///
/// The lines of a stream end in CR LF, LF or CR, so data is cut at each of these, and the client puts it together with
/// LF. A line end at the end of the data is data as well: it makes an empty last line.
pub fn event(id: &str, event: &[u8], channel: Option<&[u8]>, data: &[u8]) -> Vec<u8> {
    let lines = memchr::memchr2_iter(b'\n', b'\r', data).count() + 1;
    let mut out = Vec::with_capacity(id.len() + event.len() + data.len() + lines * 7 + 16);
    field(&mut out, b"id", id.as_bytes());
    if !event.is_empty() {
        field(&mut out, b"event", &one_line(event));
    }
    if let Some(channel) = channel {
        field(&mut out, b"channel", &one_line(channel));
    }
    let mut rest = data;
    while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
        let (line, tail) = rest.split_at(end);
        field(&mut out, b"data", line);
        rest = match tail {
            [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
            [] => tail,
        };
    }
    field(&mut out, b"data", rest);
    out.push(b'\n');
    out
}

/// Tells that `lost` messages before the position after `id` are lost. The id makes sure that it is not told again.
pub fn gap(id: &str, channel: Option<&[u8]>, lost: u64) -> Vec<u8> {
    event(id, GAP, channel, lost.to_string().as_bytes())
}

/// Lets the client know its position without an event: it comes back with this id if it loses the connection before the
/// first message.
pub fn position(id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, b"id", id.as_bytes());
    out.push(b'\n');
    out
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a client makes of a stream: last event id, event type and data of each event.
    fn client(stream: &str) -> (String, Vec<(String, String, String)>) {
        let (mut id, mut event, mut data) = (String::new(), String::new(), String::new());
        let mut events = Vec::new();
        let unified = stream.replace("\r\n", "\n").replace('\r', "\n");
        for line in unified.split_terminator('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    if let Some(data) = data.strip_suffix('\n') {
                        events.push((id.clone(), event.clone(), data.to_owned()));
                    }
                    data.clear();
                    event.clear();
                }
                "id" => id = value.to_owned(),
                "event" => event = value.to_owned(),
                "data" => data = data + value + "\n",
                _ => {}
            }
        }
        (id, events)
    }

    fn text(octets: Vec<u8>) -> String {
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn fields_and_their_order() {
        assert_eq!(text(event("7:1", b"", None, b"hello")), "id: 7:1\ndata: hello\n\n");
        assert_eq!(text(event("7:1", b"tick", None, b"")), "id: 7:1\nevent: tick\ndata: \n\n");
        assert_eq!(text(gap("7:1", None, 3)), "id: 7:1\nevent: gap\ndata: 3\n\n");
    }

    #[test]
    fn pings() {
        assert_eq!(ping(b"", None, b""), None);
        assert_eq!(ping(b"", None, b"still here").unwrap(), ": still here\n\n");
        assert_eq!(ping(b"ping", None, b"").unwrap(), "event: ping\ndata: \n\n");
        assert_eq!(ping(b"", Some(b"1"), b"c").unwrap(), ": c\ndata: 1\n\n");
        let events = |text: String| client(&text).1;
        assert_eq!(events(ping(b"", None, b"data: 1").unwrap()), []);
        assert_eq!(events(ping(b"a", Some(b"b"), b"c").unwrap()), [(String::new(), "a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn lines() {
        let data = |data: &str| {
            let octets = text(event("1:1", b"", None, data.as_bytes()));
            octets.strip_prefix("id: 1:1\n").and_then(|rest| rest.strip_suffix('\n')).unwrap().to_owned()
        };
        assert_eq!(data("a\nb"), "data: a\ndata: b\n");
        assert_eq!(data("a\r\nb"), "data: a\ndata: b\n");
        assert_eq!(data("a\rb"), "data: a\ndata: b\n");
        assert_eq!(data("a\n\rb"), "data: a\ndata: \ndata: b\n");
        assert_eq!(data("a\n"), "data: a\ndata: \n");
        assert_eq!(data("\r"), "data: \ndata: \n");
        assert_eq!(data("\r\n"), "data: \ndata: \n");
        assert_eq!(data(" a: b"), "data:  a: b\n");
    }

    #[test]
    fn an_event_name_cannot_make_lines() {
        assert_eq!(text(event("1:1", b"a\nid: 9\rb", None, b"x")), "id: 1:1\nevent: aid: 9b\ndata: x\n\n");
    }

    #[test]
    fn a_position_is_no_event() {
        let stream = text(position("1:0")) + &text(KEEPALIVE.to_vec());
        assert_eq!(client(&stream), ("1:0".to_owned(), vec![]));
    }

    proptest! {
        #[test]
        fn a_client_gets_what_was_sent(messages in proptest::collection::vec("[a-c:\\r\\n \u{e9}\u{0}]{0,12}", 1..5)) {
            let mut stream = String::new();
            for (nth, data) in messages.iter().enumerate() {
                stream += &text(event(&format!("5:{nth}"), b"e", None, data.as_bytes()));
                stream += &text(KEEPALIVE.to_vec());
            }
            let (_, events) = client(&stream);
            prop_assert_eq!(events.len(), messages.len());
            for (nth, (data, event)) in messages.iter().zip(&events).enumerate() {
                let unified = data.replace("\r\n", "\n").replace('\r', "\n");
                prop_assert_eq!(event, &(format!("5:{nth}"), "e".to_owned(), unified));
            }
        }
    }
}
