// SPDX-License-Identifier: Apache-2.0

//! Recordings as they are read by others.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::exec::terminal::Size;
use crate::json::object::{Object, Value};

/// What became of a recording.
#[derive(Default)]
struct File {
    text: String,
    /// Lines are taken.
    has_room: bool,
    /// No lines will be taken any more.
    is_lost: bool,
    missing: Option<Missing>,
}

struct TestSink(Rc<RefCell<File>>);

impl Sink for TestSink {
    fn take(&mut self, lines: &[u8]) -> Taken {
        let mut file = self.0.borrow_mut();
        assert!(!file.is_lost || file.has_room, "it was said that nothing is taken any more");
        match (file.has_room, file.is_lost) {
            (_, true) => {
                file.has_room = false;
                Taken::Never
            }
            (true, false) => {
                file.text.push_str(str::from_utf8(lines).unwrap());
                Taken::All
            }
            (false, false) => Taken::None,
        }
    }

    fn flush(&mut self) {}

    fn end(&mut self, lines: &[u8], missing: Missing) {
        let mut file = self.0.borrow_mut();
        file.text.push_str(str::from_utf8(lines).unwrap());
        file.missing = Some(missing);
    }
}

fn begin(form: Form, header: String) -> (Recorder, Rc<RefCell<File>>) {
    let file = Rc::new(RefCell::new(File { has_room: true, ..File::default() }));
    (Recorder::begin(form, header, Box::new(TestSink(Rc::clone(&file))), 1_000), file)
}

fn said(recorder: &mut Recorder, direction: Direction, kind: MessageKind, payload: &[u8]) {
    recorder.piece(&Piece { direction, kind, payload, first: true, last: true });
}

fn terminal(has_lines: bool) -> (Recorder, Rc<RefCell<File>>) {
    let header = asciicast::header(Size::default(), 1_764_422_000, b"xterm-256color");
    begin(Form::Asciicast(Asciicast::new(has_lines, false)), header)
}

fn messages() -> (Recorder, Rc<RefCell<File>>) {
    messages_within(usize::MAX)
}

/// Where so many octets may wait to be written.
fn messages_within(buffer: usize) -> (Recorder, Rc<RefCell<File>>) {
    begin(Form::Lines(Lines::new(buffer)), lines::header(1_764_422_000_250, "exec", Some("chat")))
}

use Direction::{In, Out};
use MessageKind::{Binary, Text};

#[test]
fn a_terminal() {
    let (mut recorder, file) = terminal(false);
    recorder.at(1_248);
    said(&mut recorder, Out, Binary, b"\x1b[1m$ \"\\\xe2\x82");
    recorder.at(2_000);
    said(&mut recorder, In, Binary, b"ls\r");
    said(&mut recorder, In, Text, b"\x1b[8;50;132t");
    said(&mut recorder, Out, Binary, b"\xacx\xff");
    said(&mut recorder, Out, Binary, b"\xf0\x9f");
    recorder.close(In, CloseCode::new(1000), "");
    recorder.at(61_007);
    recorder.end(Some(1000));
    assert_eq!(
        file.borrow().text,
        "{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1764422000,\"env\":{\"TERM\":\"xterm-256color\"}}\n\
         [0.248,\"o\",\"\\u001b[1m$ \\\"\\\\\"]\n\
         [1.000,\"i\",\"ls\\u000d\"]\n\
         [1.000,\"r\",\"132x50\"]\n\
         [1.000,\"o\",\"€x\u{fffd}\"]\n\
         [60.007,\"o\",\"\u{fffd}\"]\n"
    );
    assert_eq!(file.borrow().missing, Some(Missing::default()));
}

#[test]
fn a_terminal_of_several_clients() {
    let header = asciicast::header(Size::default(), 1_764_422_000, b"xterm-256color");
    let (mut recorder, file) = begin(Form::Asciicast(Asciicast::new(false, true)), header);
    said(&mut recorder, In, Text, b"\x1b[8;50;132t");
    said(&mut recorder, Out, Text, b"\x1b[8;30;100t");
    // What a program writes is binary.
    said(&mut recorder, Out, Binary, b"\x1b[8;1;1t");
    recorder.end(None);
    let text = &file.borrow().text;
    assert_eq!(text.split_once('\n').unwrap().1, "[0.000,\"r\",\"100x30\"]\n[0.000,\"o\",\"\\u001b[8;1;1t\"]\n");
}

#[test]
fn a_terminal_of_lines() {
    let (mut recorder, file) = terminal(true);
    said(&mut recorder, In, Text, b"echo");
    said(&mut recorder, Out, Text, b"one");
    recorder.piece(&Piece { direction: Out, kind: Text, payload: b"t", first: true, last: false });
    recorder.piece(&Piece { direction: Out, kind: Text, payload: b"wo", first: false, last: true });
    // The size may come in pieces, and what begins like it need not be one.
    recorder.piece(&Piece { direction: In, kind: Text, payload: b"\x1b[8;5", first: true, last: false });
    recorder.piece(&Piece { direction: In, kind: Text, payload: b"0;132t", first: false, last: true });
    recorder.piece(&Piece { direction: In, kind: Text, payload: b"\x1b[8;5", first: true, last: false });
    recorder.piece(&Piece { direction: In, kind: Text, payload: b"0;132", first: false, last: true });
    recorder.piece(&Piece { direction: In, kind: Text, payload: b"\x1b[8", first: true, last: false });
    recorder.end(None);
    let text = &file.borrow().text;
    assert_eq!(
        text.split_once('\n').unwrap().1,
        "[0.000,\"i\",\"echo\\u000a\"]\n\
         [0.000,\"o\",\"one\\u000d\\u000a\"]\n\
         [0.000,\"o\",\"t\"]\n\
         [0.000,\"o\",\"wo\\u000d\\u000a\"]\n\
         [0.000,\"r\",\"132x50\"]\n\
         [0.000,\"i\",\"\\u001b[8;50;132\\u000a\"]\n\
         [0.000,\"i\",\"\\u001b[8\"]\n"
    );
}

#[test]
fn lines_of_messages() {
    let (mut recorder, file) = messages();
    recorder.at(1_001);
    said(&mut recorder, In, Text, "a \"b\"\n€".as_bytes());
    said(&mut recorder, Out, Binary, b"\x00\x01\xff");
    said(&mut recorder, Out, Text, b"");
    recorder.piece(&Piece { direction: In, kind: Text, payload: b"\xe2\x82", first: true, last: false });
    said(&mut recorder, Out, Text, b"between");
    recorder.piece(&Piece { direction: In, kind: Binary, payload: b"\xac", first: false, last: true });
    said(&mut recorder, Out, Text, b"no \xff UTF-8");
    recorder.ready_made(b"\x81\x05ready", false);
    recorder.close(In, CloseCode::new(4000), "bye");
    recorder.close(Out, None, "");
    recorder.at(3_000);
    recorder.end(Some(4000));
    assert_eq!(
        file.borrow().text,
        "{\"version\":1,\"type\":\"header\",\"timestamp\":1764422000.250,\"endpoint\":\"exec\",\"protocol\":\"chat\"}\n\
         {\"time\":0.001,\"direction\":\"in\",\"type\":\"text\",\"data\":\"a \\\"b\\\"\\u000a€\"}\n\
         {\"time\":0.001,\"direction\":\"out\",\"type\":\"binary\",\"encoding\":\"base64\",\"data\":\"AAH/\"}\n\
         {\"time\":0.001,\"direction\":\"out\",\"type\":\"text\",\"data\":\"\"}\n\
         {\"time\":0.001,\"direction\":\"out\",\"type\":\"text\",\"data\":\"between\"}\n\
         {\"time\":0.001,\"direction\":\"in\",\"type\":\"text\",\"data\":\"€\"}\n\
         {\"time\":0.001,\"direction\":\"out\",\"type\":\"text\",\"data\":\"no \u{fffd} UTF-8\"}\n\
         {\"time\":0.001,\"direction\":\"out\",\"type\":\"text\",\"data\":\"ready\"}\n\
         {\"time\":0.001,\"direction\":\"in\",\"type\":\"close\",\"code\":4000,\"reason\":\"bye\"}\n\
         {\"time\":0.001,\"direction\":\"out\",\"type\":\"close\",\"reason\":\"\"}\n\
         {\"time\":2.000,\"type\":\"end\",\"code\":4000}\n"
    );
}

/// The members of a line.
fn member(line: &str, name: &str) -> Option<String> {
    Object::parse(line).unwrap().take(name).map(|value| match value {
        Value::Literal(text) | Value::Number(text) => text.to_owned(),
        Value::String(text) => text.into_owned(),
    })
}

#[test]
fn a_message_on_both_sides_of_the_longest() {
    let buffer = 64 << 10;
    for (buffer, length, count) in [
        (usize::MAX, lines::LONGEST - 10, 1),
        (usize::MAX, lines::LONGEST + 10, 2),
        (buffer, buffer - 10, 1),
        (buffer, buffer + 10, 2),
        (buffer, 4 * buffer + 10, 5),
    ] {
        let (mut recorder, file) = messages_within(buffer);
        // Pieces end within a character.
        let text = "€".repeat(length.div_ceil(3));
        let (mut begin, most) = (0, text.len());
        while begin < most {
            let end = most.min(begin + 4 * 1024);
            let (first, last) = (begin == 0, end == most);
            let payload = &text.as_bytes()[begin..end];
            recorder.piece(&Piece { direction: In, kind: Text, payload, first, last });
            begin = end;
        }
        recorder.end(None);
        let file = file.borrow();
        let lines: Vec<&str> = file.text.lines().filter(|line| line.contains("\"direction\"")).collect();
        let more: Vec<bool> = lines.iter().map(|line| member(line, "more").is_some()).collect();
        assert_eq!(more, (1..=count).map(|nth| nth < count).collect::<Vec<_>>());
        assert_eq!(lines.iter().map(|line| member(line, "data").unwrap()).collect::<String>(), text);
    }
}

#[test]
fn a_message_that_did_not_end() {
    let (mut recorder, file) = messages();
    recorder.piece(&Piece { direction: Out, kind: Text, payload: b"begun", first: true, last: false });
    recorder.end(Some(1006));
    assert!(file.borrow().text.ends_with(
        "{\"time\":0.000,\"direction\":\"out\",\"type\":\"text\",\"more\":true,\"data\":\"begun\"}\n\
         {\"time\":0.000,\"type\":\"end\",\"code\":1006}\n"
    ));
}

#[test]
fn what_is_lost_is_told() {
    for (form, lost) in [
        (0, "[1.000,\"m\",\"lost: 2 messages, 11 octets\"]"),
        (1, "{\"time\":1.000,\"type\":\"lost\",\"messages\":2,\"octets\":11}"),
        (2, "// lost: 2 messages, 11 octets"),
    ] {
        let (mut recorder, file) = match form {
            0 => terminal(false),
            1 => messages(),
            _ => begin(Form::Novnc, novnc::HEADER.to_owned()),
        };
        said(&mut recorder, Out, Text, b"before");
        file.borrow_mut().has_room = false;
        said(&mut recorder, Out, Text, b"first");
        said(&mut recorder, In, Text, b"second");
        file.borrow_mut().has_room = true;
        recorder.at(2_000);
        said(&mut recorder, Out, Text, b"after");
        said(&mut recorder, Out, Text, b"last");
        file.borrow_mut().has_room = false;
        said(&mut recorder, Out, Text, b"lost at the end");
        recorder.end(Some(1000));
        let file = file.borrow();
        let lines: Vec<&str> = file.text.lines().collect();
        assert_eq!(lines[2], lost);
        assert_eq!(lines.iter().filter(|line| line.contains("lost")).count(), 2);
        assert!(lines[5].contains('1') && lines[5].contains("15"), "{}", lines[5]);
        assert_eq!(file.missing, Some(Missing { messages: 3, octets: 26 }));
    }
}

/// A message that is lost is one, in however many pieces it comes, and whether the file has room or is no more.
#[test]
fn what_is_lost_is_counted_in_messages() {
    for is_lost in [false, true] {
        for (mut recorder, file) in [terminal(false), messages(), begin(Form::Novnc, novnc::HEADER.to_owned())] {
            file.borrow_mut().has_room = is_lost;
            file.borrow_mut().is_lost = is_lost;
            for direction in [In, Out] {
                for nth in 0..5 {
                    let piece = Piece { direction, kind: Binary, payload: b"piece", first: nth == 0, last: nth == 4 };
                    recorder.piece(&piece);
                    said(&mut recorder, if direction == In { Out } else { In }, Text, b"other");
                }
            }
            // One that does not end.
            recorder.piece(&Piece { direction: In, kind: Text, payload: b"begun", first: true, last: false });
            recorder.end(None);
            assert_eq!(file.borrow().missing, Some(Missing { messages: 13, octets: 105 }), "{}", file.borrow().text);
        }
    }
}

#[test]
fn a_file_that_is_lost_costs_no_more_work() {
    for (mut recorder, file) in [terminal(false), messages(), begin(Form::Novnc, novnc::HEADER.to_owned())] {
        let header = file.borrow().text.clone();
        file.borrow_mut().is_lost = true;
        said(&mut recorder, Out, Text, b"first");
        said(&mut recorder, In, Text, b"second");
        recorder.ready_made(b"\x81\x05ready", false);
        recorder.close(Out, None, "");
        assert_eq!(file.borrow().text, header);
        recorder.end(None);
        assert_eq!(file.borrow().missing.map(|missing| missing.messages), Some(3));
    }
}

#[test]
fn a_script_for_novnc() {
    let (mut recorder, file) = begin(Form::Novnc, novnc::HEADER.to_owned());
    recorder.at(1_012);
    said(&mut recorder, Out, Binary, b"RFB 003.008\n");
    recorder.at(1_020);
    recorder.piece(&Piece { direction: In, kind: Binary, payload: b"RFB ", first: true, last: false });
    recorder.piece(&Piece { direction: In, kind: Binary, payload: b"003.008\n", first: false, last: true });
    said(&mut recorder, In, Binary, b"");
    recorder.close(Out, None, "");
    recorder.end(None);
    assert_eq!(
        file.borrow().text,
        "var VNC_frame_encoding = \"base64\", VNC_frame_data = [];\n\
         VNC_frame_data.push(\"{12{UkZCIDAwMy4wMDgK\");\n\
         VNC_frame_data.push(\"}20{UkZCIA==\");\n\
         VNC_frame_data.push(\"}20{MDAzLjAwOAo=\");\n\
         VNC_frame_data.push(\"EOF\");\n"
    );
}
