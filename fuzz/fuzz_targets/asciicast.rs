// SPDX-License-Identifier: Apache-2.0

//! What a terminal shows and what is typed, cut anyhow: the recording is strict JSON in lines, and its text is that of the whole.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use ngx_ws_exec::exec::terminal::Size;
use ngx_ws_exec::json::object::{Object, Value};
use ngx_ws_exec::recording::asciicast::{self, Asciicast};
use ngx_ws_exec::recording::{Direction, Form, Missing, Piece, Recorder, Sink, Taken};
use ngx_ws_exec::ws::MessageKind;

/// A file that takes all lines.
struct File {
    text: Rc<RefCell<String>>,
}

impl Sink for File {
    fn take(&mut self, lines: &[u8]) -> Taken {
        self.text.borrow_mut().push_str(std::str::from_utf8(lines).expect("lines are UTF-8"));
        Taken::All
    }

    fn flush(&mut self) {}

    fn end(&mut self, lines: &[u8], missing: Missing) {
        assert!(missing.is_none());
        self.take(lines);
    }
}

/// The text of an event, and what it is about.
fn event(line: &str) -> (&str, String) {
    let line = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).expect("an array");
    let (time, rest) = line.split_once(',').expect("a time");
    time.parse::<f64>().expect("a number");
    let (what, text) = rest.split_once(',').expect("three members");
    let object = format!("{{\"text\":{text}}}");
    match Object::parse(&object).expect("JSON").take("text") {
        Some(Value::String(text)) => (what, text.into_owned()),
        other => panic!("{other:?}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let [size, octets @ ..] = data else { return };
    let text = Rc::new(RefCell::new(String::new()));
    let header = asciicast::header(Size::default(), 0, octets.get(..8).unwrap_or_default());
    let form = Form::Asciicast(Asciicast::new(false, false));
    let mut recorder = Recorder::begin(form, header, Box::new(File { text: Rc::clone(&text) }), 0);
    let (mut shown, mut typed) = (Vec::new(), Vec::new());
    for (nth, payload) in octets.chunks(usize::from(*size).max(1)).enumerate() {
        recorder.at(nth as u64);
        let direction = if payload.len() % 3 == 0 { Direction::In } else { Direction::Out };
        match direction {
            Direction::In => typed.extend_from_slice(payload),
            Direction::Out => shown.extend_from_slice(payload),
        }
        // A whole message may be a size.
        recorder.piece(&Piece { direction, kind: MessageKind::Binary, payload, first: true, last: false });
    }
    recorder.end(None);
    let text = text.borrow();
    let mut lines = text.strip_suffix('\n').expect("the last line is whole").split('\n');
    assert!(lines.next().is_some_and(|header| header.starts_with("{\"version\":2,")));
    let (mut was_shown, mut was_typed) = (String::new(), String::new());
    for line in lines {
        match event(line) {
            ("\"o\"", text) => was_shown.push_str(&text),
            ("\"i\"", text) => was_typed.push_str(&text),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(was_shown, String::from_utf8_lossy(&shown));
    assert_eq!(was_typed, String::from_utf8_lossy(&typed));
});
