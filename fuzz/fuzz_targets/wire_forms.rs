// SPDX-License-Identifier: Apache-2.0

//! Messages in every form in which they are sent, read back by readers that know only the form: what was published is what comes, and
//! nothing in a message can look like another one.
#![no_main]

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::channel::message::Message;
use ngx_ws_exec::channel::position::{Epoch, MessageId, Offset};
use ngx_ws_exec::channel::streaming::{Content, Streaming};
use ngx_ws_exec::channel::wire::websocket::{Deflate, Framing, Style};
use ngx_ws_exec::channel::wire::{Naming, WireForm, eventsource, header_value, multipart};
use ngx_ws_exec::json::object::{Object, Value};
use ngx_ws_exec::ws::deflate::{Context, Settings, negotiate};
use ngx_ws_exec::ws::{Connection, Limits, MessageKind, Scratch};
use ngx_ws_exec_fuzz::{Run, Seen, check_frames, client_frame};

const BOUNDARY: &str = "00112233445566778899aabbccddeeff";

/// A message and the channel that it is from.
struct Sample<'a> {
    message: Message,
    id: String,
    channel: &'a [u8],
}

impl<'a> Sample<'a> {
    /// One of these octets: its attributes are lines before it.
    fn new(nth: u64, octets: &'a [u8]) -> Self {
        let mut parts = octets.splitn(4, |octet| *octet == b'|');
        let mut next = || parts.next().unwrap_or_default();
        let (event, content_type, channel, data) = (next(), next(), next(), next());
        let kind = if std::str::from_utf8(data).is_ok() { MessageKind::Text } else { MessageKind::Binary };
        let id = MessageId { epoch: Epoch(7), offset: Offset(nth) };
        Sample { message: Message::for_tests(id, kind, content_type, event, data), id: id.to_string(), channel }
    }

    fn encode(&self, form: &WireForm) -> Vec<u8> {
        form.message(&self.message, &self.id, self.channel, &mut Scratch::new()).octets
    }
}

/// A text without line ends, as it stands in a line.
fn one_line(text: &[u8]) -> String {
    let text: Vec<u8> = text.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    String::from_utf8_lossy(&text).into_owned()
}

/// What a browser makes of a stream (WHATWG HTML, section 9.2.6): the last id, and id, name, channel and data of each event.
fn events(stream: &[u8]) -> (String, Vec<[String; 4]>) {
    let stream = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let (mut id, mut name, mut channel, mut data) = (String::new(), String::new(), String::new(), String::new());
    let mut events = Vec::new();
    for line in stream.split_terminator('\n') {
        if line.is_empty() {
            if let Some(data) = data.strip_suffix('\n') {
                events.push([id.clone(), name.clone(), channel.clone(), data.to_owned()]);
            }
            (name, channel, data) = Default::default();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => id = value.to_owned(),
            "event" => name = value.to_owned(),
            "channel" => channel = value.to_owned(),
            "data" => data = data + value + "\n",
            _ => {}
        }
    }
    (id, events)
}

fn event_stream(samples: &[Sample<'_>], naming: Option<Naming>) {
    let form = match naming {
        Some(naming) => WireForm::Named(naming, Box::new(WireForm::EventSource)),
        None => WireForm::EventSource,
    };
    let mut stream = Vec::new();
    let mut put = |content: Content| stream.extend_from_slice(content.octets());
    let streaming = Streaming::EventSource(None);
    streaming.begin("7:0", &mut put);
    let mut expected = Vec::new();
    for sample in samples {
        put(Content::Own(sample.encode(&form)));
        put(streaming.keepalive().expect("a comment"));
        let (name, channel) = (one_line(sample.message.event()), one_line(sample.channel));
        let (name, channel) = match naming {
            Some(Naming::Event) if !sample.message.event().is_empty() => (name, String::new()),
            Some(Naming::Event) if channel != "gap" => (channel, String::new()),
            Some(_) => (name, channel),
            None => (name, String::new()),
        };
        let data = String::from_utf8_lossy(sample.message.data()).replace("\r\n", "\n").replace('\r', "\n");
        expected.push([sample.id.clone(), name, channel, data]);
        let gap = form.gap(3, &sample.id, sample.channel).expect("it tells of gaps").octets;
        put(Content::Own(gap));
        let channel = naming.map(|_| one_line(sample.channel)).unwrap_or_default();
        expected.push([sample.id.clone(), "gap".to_owned(), channel, "3".to_owned()]);
    }
    put(streaming.end());
    assert_eq!(events(&stream).1, expected);
}

fn parts(samples: &[Sample<'_>], is_named: bool) {
    let streaming = Streaming::Multipart(BOUNDARY.into());
    let form = if is_named { WireForm::Named(Naming::Field, Box::new(WireForm::Part)) } else { WireForm::Part };
    let mut body = b"\r\n".to_vec();
    let mut put = |octets: &[u8]| body.extend_from_slice(octets);
    streaming.begin("7:0", |content| put(content.octets()));
    for (nth, sample) in samples.iter().enumerate() {
        if nth % 2 != 0 {
            put(&multipart::gap(nth as u64));
        }
        put(&sample.encode(&form));
        put(BOUNDARY.as_bytes());
    }
    put(streaming.end().octets());
    // Delimiters are at line ends (RFC 2046, section 5.1.1), and the last one has two more dashes.
    let delimiter = format!("\r\n--{BOUNDARY}");
    let mut found: Vec<&[u8]> = Vec::new();
    let mut rest = body.as_slice();
    while let Some(at) = rest.windows(delimiter.len()).position(|octets| octets == delimiter.as_bytes()) {
        found.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n");
    assert_eq!(found.len(), samples.len() + 1);
    assert!(found[0].is_empty(), "nothing before the first");
    for (nth, (part, sample)) in found[1..].iter().zip(samples).enumerate() {
        let end = part.windows(4).position(|octets| octets == b"\r\n\r\n").expect("the end of the header");
        let header = String::from_utf8_lossy(&part[..end]);
        let fields: Vec<_> = header.split("\r\n").skip(1).filter_map(|line| line.split_once(": ")).collect();
        let mut expected = Vec::new();
        expected.extend((nth % 2 != 0).then(|| ("X-Channel-Gap", nth.to_string())));
        expected.push(("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT".to_owned()));
        expected.push(("Etag", format!("\"{}\"", sample.id)));
        let content_type = sample.message.content_type();
        expected.extend((!content_type.is_empty()).then(|| ("Content-Type", one_line(content_type))));
        expected.extend(is_named.then(|| ("X-Channel-Id", header_value(sample.channel))));
        let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(fields, expected);
        assert_eq!(&part[end + 4..], sample.message.data());
    }
}

/// The messages in frames.
fn frames(octets: &[u8], is_compressed: bool) -> Vec<(MessageKind, Vec<u8>)> {
    let settings = Settings { min_size: 0, context: Context::Off, ..Settings::default() };
    let agreed = negotiate(&[b"permessage-deflate; client_no_context_takeover"], &settings).filter(|_| is_compressed);
    let mut client = Run::new(Connection::with(Limits::default(), agreed));
    let mut kinds = Vec::new();
    let mut rest = octets;
    while let [first, second, tail @ ..] = rest {
        kinds.extend((first & 0x0f != 0).then_some(if first & 0x0f == 1 {
            MessageKind::Text
        } else {
            MessageKind::Binary
        }));
        let (length, tail) = match second {
            126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
            127 => (u64::from_be_bytes(tail[..8].try_into().expect("eight")) as usize, &tail[8..]),
            length => (usize::from(*length), tail),
        };
        rest = &tail[length..];
    }
    for ((compressed, payload), kind) in check_frames(octets, is_compressed).into_iter().zip(&kinds) {
        let opcode = if *kind == MessageKind::Text { 1 } else { 2 };
        client.feed(&client_frame(0x80 | opcode | if compressed { 0x40 } else { 0 }, [1, 2, 3, 4], &payload));
    }
    let messages = client.seen.into_iter().map(|seen| match seen {
        Seen::Message(kind, octets) => (kind, octets),
        other => panic!("{other:?}"),
    });
    messages.collect()
}

/// What the text of a member is.
fn text(object: &mut Object<'_>, name: &str) -> Option<String> {
    match object.take(name)? {
        Value::String(text) => Some(text.into_owned()),
        other => panic!("{other:?}"),
    }
}

fn websocket(samples: &[Sample<'_>], style: Style, fragment: u64, deflate: Option<Deflate>, is_named: bool) {
    let form = WireForm::WebSocket(Framing { style, fragment, deflate });
    let form = if is_named { WireForm::Named(Naming::Field, Box::new(form)) } else { form };
    for sample in samples {
        let message = &sample.message;
        let octets = sample.encode(&form);
        if fragment == 0 && deflate.is_none() && style == Style::Plain {
            assert_eq!(octets, message.frame());
        }
        let found = frames(&octets, deflate.is_some());
        let [(kind, payload)] = &found[..] else { panic!("{} messages", found.len()) };
        let channel = is_named.then_some(sample.channel);
        match style {
            Style::Plain => assert_eq!((*kind, payload.as_slice()), (message.kind, message.data())),
            Style::Meta => {
                assert_eq!(*kind, message.kind);
                let mut head = format!("id: {}", sample.id);
                if !message.content_type().is_empty() {
                    head += &format!("\ncontent-type: {}", one_line(message.content_type()));
                }
                head += &channel.map(|channel| format!("\nchannel: {}", one_line(channel))).unwrap_or_default();
                let end = payload.windows(2).position(|octets| octets == b"\n\n").expect("the end of the head");
                assert_eq!(std::str::from_utf8(&payload[..end]), Ok(head.as_str()));
                assert_eq!(&payload[end + 2..], message.data());
            }
            Style::Json => {
                let object = std::str::from_utf8(payload).expect("UTF-8");
                let mut object = Object::parse(object).expect("an object");
                assert_eq!(text(&mut object, "op").as_deref(), Some("message"));
                assert_eq!(text(&mut object, "id"), Some(sample.id.clone()));
                let lossy = |octets: &[u8]| (!octets.is_empty()).then(|| String::from_utf8_lossy(octets).into_owned());
                assert_eq!(text(&mut object, "channel"), channel.and_then(lossy));
                assert_eq!(text(&mut object, "type"), lossy(message.content_type()));
                assert_eq!(text(&mut object, "event"), lossy(message.event()));
                let data = match text(&mut object, "data") {
                    Some(data) => data.into_bytes(),
                    None => STANDARD.decode(text(&mut object, "base64").expect("data")).expect("base64"),
                };
                assert_eq!(data, message.data());
                assert_eq!(object.left(), None);
            }
        }
        match (form.gap(5, &sample.id, sample.channel), style) {
            (None, Style::Plain) => {}
            (Some(gap), Style::Meta | Style::Json) => assert_eq!(frames(&gap.octets, false).len(), 1),
            (gap, style) => panic!("{gap:?} {style:?}"),
        }
    }
}

/// Bodies that are nothing but messages.
fn bare(samples: &[Sample<'_>], separator: &[u8]) {
    let separator: Rc<[u8]> = separator.into();
    for sample in samples {
        assert_eq!(sample.encode(&Streaming::Chunked.form()), sample.message.data());
        let raw = sample.encode(&Streaming::Raw(Rc::clone(&separator)).form());
        assert_eq!(raw.strip_suffix(&*separator), Some(sample.message.data()));
    }
}

fuzz_target!(|data: &[u8]| {
    let [flags, fragment, octets @ ..] = data else { return };
    if octets.windows(BOUNDARY.len()).any(|octets| octets == BOUNDARY.as_bytes()) {
        return;
    }
    let samples = octets.split(|octet| *octet == 0xff).take(4).enumerate();
    let samples: Vec<_> = samples.map(|(nth, octets)| Sample::new(nth as u64 + 1, octets)).collect();
    for naming in [None, Some(Naming::Field), Some(Naming::Event)] {
        event_stream(&samples, naming);
    }
    if let Some(ping) = eventsource::ping(samples[0].message.event(), Some(samples[0].channel), octets) {
        assert!(events(ping.as_bytes()).1.len() == 1, "one event");
    }
    let is_named = flags & 2 != 0;
    parts(&samples, is_named);
    // To compress takes longer than all the rest.
    let deflate =
        (flags & 1 != 0).then_some(Deflate { level: 1 + flags % 9, window: 9 + (flags >> 4) % 7, min_size: 4 });
    let style = [Style::Plain, Style::Meta, Style::Json][usize::from(fragment % 3)];
    websocket(&samples, style, u64::from(fragment / 3), deflate, is_named);
    bare(&samples, &octets[..octets.len().min(3)]);
});
