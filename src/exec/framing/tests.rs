// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;

use super::*;
use crate::exec::environment::{CgiRequest, Environment};
use crate::exec::notes::MAX_SIZE;
use crate::ws::close::CloseCode;

/// What came out: whole messages, put together from their pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Message(MessageKind, Vec<u8>),
    Close(u16, String),
    Note(Vec<u8>),
    Failed(FramingError),
}

fn text(payload: &[u8]) -> Event {
    Event::Message(MessageKind::Text, payload.to_vec())
}

fn binary(payload: &[u8]) -> Event {
    Event::Message(MessageKind::Binary, payload.to_vec())
}

#[derive(Default)]
struct Collector {
    events: Vec<Event>,
    /// Pieces of the message that is open.
    pieces: Vec<(MessageKind, Vec<u8>)>,
}

impl Collector {
    fn take(&mut self, output: Output<'_>) {
        match output {
            Output::Piece { kind, payload, last } => {
                assert!(last || !payload.is_empty(), "an empty piece that is not the last");
                assert!(self.pieces.iter().all(|(k, _)| *k == kind));
                self.pieces.push((kind, payload.to_vec()));
                if last {
                    let payload = self.pieces.drain(..).flat_map(|(_, p)| p).collect();
                    self.events.push(Event::Message(kind, payload));
                }
            }
            Output::Close { code, reason } => self.events.push(Event::Close(code.number(), reason.to_owned())),
            Output::Note { text } => self.events.push(Event::Note(text.to_vec())),
        }
    }

    fn feed(&mut self, reader: &mut Reader, mut input: &[u8]) -> bool {
        loop {
            match reader.next(input) {
                Ok((consumed, Some(output))) => {
                    self.take(output);
                    input = &input[consumed..];
                }
                Ok((consumed, None)) => {
                    assert_eq!(consumed, input.len());
                    break;
                }
                Err(error) => {
                    self.events.push(Event::Failed(error));
                    return false;
                }
            }
        }
        let (consumed, output) = reader.next(&[]).unwrap();
        assert_eq!((consumed, output), (0, None));
        true
    }

    fn finish(&mut self, reader: &mut Reader) {
        match reader.finish() {
            Ok(Some(output)) => self.take(output),
            Ok(None) => {}
            Err(error) => self.events.push(Event::Failed(error)),
        }
    }
}

fn read<'a>(format: Format, reads: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut reader = Reader::new(format);
    let mut collector = Collector::default();
    for input in reads {
        if !collector.feed(&mut reader, input) {
            return collector.events;
        }
    }
    collector.finish(&mut reader);
    collector.events
}

/// Reads `input` whole, at every cut, and an octet at a time.
fn check(format: Format, input: &[u8], expected: &[Event]) {
    assert_eq!(read(format, [input]), expected, "{:?}", input.escape_ascii().to_string());
    for cut in 0..=input.len() {
        let (a, b) = input.split_at(cut);
        assert_eq!(read(format, [a, b]), expected, "{:?} cut at {cut}", input.escape_ascii().to_string());
    }
    assert_eq!(read(format, input.chunks(1)), expected);
}

#[test]
fn lines() {
    check(Format::Lines, b"", &[]);
    check(Format::Lines, b"one\ntwo\n", &[text(b"one"), text(b"two")]);
    check(Format::Lines, b"one\r\ntwo\r\n", &[text(b"one"), text(b"two")]);
    check(Format::Lines, b"\n\r\n\n", &[text(b""), text(b""), text(b"")]);
    check(Format::Lines, b"no newline", &[text(b"no newline")]);
    check(Format::Lines, b"a\rb\r\r\nc\r", &[text(b"a\rb\r"), text(b"c\r")]);
    check(Format::Lines, "κόσμε\n€".as_bytes(), &[text("κόσμε".as_bytes()), text("€".as_bytes())]);
    check(Format::Lines, b"nul \0 is text\n", &[text(b"nul \0 is text")]);
}

#[test]
fn lines_that_are_not_text() {
    let invalid = Event::Failed(FramingError::InvalidUtf8);
    check(Format::Lines, b"good\nb\xffad\ngood\n", &[text(b"good"), invalid.clone()]);
    check(Format::Lines, b"good\ncut \xe2\x82\n", &[text(b"good"), invalid.clone()]);
    check(Format::Lines, b"cut \xe2\x82\r\n", std::slice::from_ref(&invalid));
    check(Format::Lines, b"cut \xe2\x82", &[invalid]);
}

#[test]
fn bytes_are_what_a_read_returned() {
    let got = read(Format::Bytes, [&b"a\nb"[..], b"\xff\0", b""]);
    assert_eq!(got, [binary(b"a\nb"), binary(b"\xff\0")]);
}

#[test]
fn records() {
    check(Format::Messages, b"T 2\nhiB 3\n\xff\n\0", &[text(b"hi"), binary(b"\xff\n\0")]);
    check(Format::Messages, b"T 0\nB 0\n", &[text(b""), binary(b"")]);
    check(Format::Messages, b"t 2\nabt 0\nT 1\ncT 1\nd", &[text(b"abc"), text(b"d")]);
    check(Format::Messages, b"b 1\n\xe2b 0\nB 0\n", &[binary(b"\xe2")]);
    check(Format::Messages, b"t 1\n\xe2t 1\n\x82T 1\n\xac", &[text("€".as_bytes())]);
    check(Format::Messages, b"T 0000000000000000002\nhi", &[text(b"hi")]);
    check(Format::Messages, b"", &[]);
}

#[test]
fn what_a_client_brought_is_read_over() {
    check(Format::Messages, b"E 4\nA=1\nT 2\nhi", &[text(b"hi")]);
    check(Format::Messages, b"E 0\nT 1\naE 0\n", &[text(b"a")]);
    // Also between the pieces of a message.
    check(Format::Messages, b"t 1\naE 2\nxxT 1\nb", &[text(b"ab")]);
    check(Format::Messages, b"E 2\nx", &[Event::Failed(FramingError::Unfinished)]);
    check(Format::Messages, b"E x\n", &[Event::Failed(FramingError::InvalidLength)]);
    check(Format::Messages, b"E\n", &[Event::Failed(FramingError::InvalidLength)]);
}

#[test]
fn what_a_client_brought_is_a_record() {
    let request = CgiRequest { query: b"a=1\n2", ..CgiRequest::default() };
    let environment = Environment::new(&request, [(&b"X-A"[..], &b"b"[..])], None, &[]);
    let mut stdin = Vec::new();
    write_environment(&environment, &mut stdin).unwrap();
    let head = stdin.iter().position(|octet| *octet == b'\n').unwrap();
    let (head, payload) = (&stdin[..head], &stdin[head + 1..]);
    assert_eq!(head, format!("E {}", payload.len()).as_bytes());
    let lines: Vec<&[u8]> = payload.strip_suffix(b"\n").unwrap().split(|octet| *octet == b'\n').collect();
    let variables: Vec<&[u8]> = environment.variables().iter().collect();
    assert_eq!(lines, variables);
    assert!(lines.contains(&&b"QUERY_STRING=a=1 2"[..]) && lines.contains(&&b"HTTP_X_A=b"[..]));
    stdin.extend_from_slice(b"T 2\nhi");
    check(Format::Messages, &stdin, &[text(b"hi")]);
}

#[test]
fn close_records() {
    let close = |code, reason: &str| Event::Close(code, reason.to_owned());
    check(Format::Messages, b"T 1\naC 4000 see you\nT 1\nb!!", &[text(b"a"), close(4000, "see you")]);
    check(Format::Messages, b"C 1000\n", &[close(1000, "")]);
    check(Format::Messages, b"C 1000 \n", &[close(1000, "")]);
    // Legal between the pieces of a message.
    check(Format::Messages, b"t 0\nC 1001 bye\n", &[close(1001, "bye")]);
    let long = format!("C 1001 {}€\n", "x".repeat(122));
    check(Format::Messages, long.as_bytes(), &[close(1001, &"x".repeat(122))]);
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        let record = format!("C {code:04} x\n");
        check(Format::Messages, record.as_bytes(), &[Event::Failed(FramingError::InvalidClose)]);
    }
    check(Format::Messages, b"C 1000 \xff\n", &[Event::Failed(FramingError::InvalidUtf8)]);
}

#[test]
fn notes() {
    let note = |text: &str| Event::Note(text.as_bytes().to_vec());
    check(Format::Messages, b"V a 1\nT 2\nhiV b_2 x y\n", &[note("a 1"), text(b"hi"), note("b_2 x y")]);
    check(Format::Messages, b"V a\nV a \nV  \nV \n", &[note("a"), note("a "), note(" "), note("")]);
    // Also between the pieces of a message, and octets that are no text.
    check(Format::Messages, b"t 1\naV \xff\nT 1\nb", &[Event::Note(b"\xff".to_vec()), text(b"ab")]);
    check(Format::Messages, b"V a 1\nC 1000\nV b 2\n", &[note("a 1"), Event::Close(1000, String::new())]);
    for input in [&b"V\n"[..], b"Va 1\n"] {
        check(Format::Messages, input, &[Event::Failed(FramingError::InvalidNote)]);
    }
    for input in [&b"V"[..], b"V a 1", b"V a 1\nV b"] {
        assert_eq!(read(Format::Messages, [input]).last(), Some(&Event::Failed(FramingError::Unfinished)));
    }
}

#[test]
fn a_note_that_is_too_long_is_read_over() {
    for length in [MAX_SIZE, MAX_SIZE + 1, MAX_SIZE + 2, 3 * MAX_SIZE] {
        let mut expected = vec![b'x'; length];
        let input = [b"V ", &expected[..], b"\nT 1\na"].concat();
        expected.truncate(MAX_SIZE + 1);
        for size in [1, 4096, MAX_SIZE, input.len()] {
            assert_eq!(
                read(Format::Messages, input.chunks(size)),
                [Event::Note(expected.clone()), text(b"a")],
                "{size}"
            );
        }
    }
    let endless = [b"V ".as_slice(), &[b'x'; 2 * MAX_SIZE]].concat();
    assert_eq!(read(Format::Messages, [&endless[..]]).last(), Some(&Event::Failed(FramingError::Unfinished)));
}

#[test]
fn malformed_records() {
    use FramingError::*;
    let endless = [b"C 1000 ".as_slice(), &[b'x'; 1020]].concat();
    let cases: [(&[u8], FramingError); 22] = [
        (b"hello\n", UnknownRecord(b'h')),
        (b"\n", UnknownRecord(b'\n')),
        (b"X 1\na", UnknownRecord(b'X')),
        (b"T\n", InvalidLength),
        (b"T \n", InvalidLength),
        (b"T1\na", InvalidLength),
        (b"T  1\na", InvalidLength),
        (b"T 1 \na", InvalidLength),
        (b"T 1\r\na", InvalidLength),
        (b"T -1\na", InvalidLength),
        (b"T +1\na", InvalidLength),
        (b"T 0x1\na", InvalidLength),
        (b"T 18446744073709551616\n", HeaderTooLong),
        (b"C\n", InvalidClose),
        (b"C 100\n", InvalidClose),
        (b"C 10000\n", InvalidClose),
        (b"C 1000bye\n", InvalidClose),
        (&endless, HeaderTooLong),
        (b"t 1\naB 1\nb", MixedTypes(MessageKind::Text)),
        (b"b 1\nat 1\nb", MixedTypes(MessageKind::Binary)),
        (b"T 1\n\xe2", InvalidUtf8),
        (b"t 1\n\xe2T 1\na", InvalidUtf8),
    ];
    for (input, error) in cases {
        check(Format::Messages, input, &[Event::Failed(error)]);
    }
    for input in [&b"T 2\na"[..], b"T", b"t 1\na", b"t 0\n", b"C 1000"] {
        check(Format::Messages, input, &[Event::Failed(Unfinished)]);
    }
    // The longest length there is: taken, and never allocated.
    check(Format::Messages, b"B 9999999999999999999\nabc", &[Event::Failed(Unfinished)]);
}

#[test]
fn errors_say_what_is_wrong_and_how_to_close() {
    assert_eq!(FramingError::InvalidUtf8.close_code(), CloseCode::INVALID_DATA);
    assert_eq!(FramingError::Unfinished.close_code(), CloseCode::INTERNAL);
    assert_eq!(FramingError::UnknownRecord(b'\n').to_string(), "a record that begins with \"\\n\"");
    assert_eq!(WriteError::Binary.close_code(), CloseCode::UNSUPPORTED);
}

/// The pieces that come out of one message that is read in these chunks, by their sizes, and whether each is the last.
fn pieces(format: Format, reads: &[&[u8]]) -> (Vec<(usize, bool)>, usize) {
    let mut reader = Reader::new(format);
    let mut got = Vec::new();
    let mut largest = 0;
    for mut input in reads.iter().copied() {
        loop {
            match reader.next(input).unwrap() {
                (consumed, Some(Output::Piece { payload, last, .. })) => {
                    got.push((payload.len(), last));
                    input = &input[consumed..];
                }
                (_, Some(Output::Close { .. } | Output::Note { .. })) => panic!("no message"),
                (_, None) => break,
            }
        }
        largest = largest.max(reader.held.capacity());
    }
    assert_eq!(reader.next(&[]).unwrap(), (0, None));
    assert_eq!(reader.held.capacity(), 0, "heap memory between messages");
    (got, largest)
}

#[test]
fn a_line_is_held_whole_up_to_the_limit() {
    let line = vec![b'x'; HOLD];
    let (a, b) = line.split_at(1000);
    let (got, _) = pieces(Format::Lines, &[a, b, b"\n"]);
    assert_eq!(got, [(HOLD, true)]);
    let (got, _) = pieces(Format::Lines, &[&line, b"\n"]);
    assert_eq!(got, [(HOLD, true)]);
    let (got, _) = pieces(Format::Lines, &[&line, b"y\n"]);
    assert_eq!(got, [(HOLD, false), (1, true)]);
    let (got, _) = pieces(Format::Lines, &[&line, b"\r", b"\r", b"\n"]);
    assert_eq!(got, [(HOLD, false), (1, false), (0, true)]);
    let (got, _) = pieces(Format::Lines, &[b"\r", &line, b"\n"]);
    assert_eq!(got, [(1, false), (HOLD, false), (0, true)]);
    // Never held, however long, when the whole line is there.
    let long = [line.as_slice(), &line, b"\n"].concat();
    assert_eq!(pieces(Format::Lines, &[&long]), (vec![(2 * HOLD, true)], 0));
}

#[test]
fn a_line_of_20_megabytes_is_streamed() {
    let chunk = vec![b'x'; 4096];
    let mut reads = vec![chunk.as_slice(); 20 << 8];
    reads.push(b"\r\n");
    let (got, largest) = pieces(Format::Lines, &reads);
    assert_eq!(got.iter().map(|(size, _)| size).sum::<usize>(), 20 << 20);
    assert_eq!(got.iter().filter(|(_, last)| *last).count(), 1);
    assert_eq!(got.last(), Some(&(0, true)));
    assert!(largest <= 2 * HOLD, "{largest}");
}

#[test]
fn a_record_is_held_whole_up_to_the_limit() {
    let payload = vec![b'x'; HOLD];
    let header = format!("B {HOLD}\n").into_bytes();
    let (a, b) = payload.split_at(1000);
    let (got, _) = pieces(Format::Messages, &[&header, a, b]);
    assert_eq!(got, [(HOLD, true)]);
    let header = format!("B {}\n", HOLD + 1).into_bytes();
    let (got, largest) = pieces(Format::Messages, &[&header, a, b, b"y"]);
    assert_eq!(got, [(1000, false), (HOLD - 1000, false), (1, true)]);
    assert!(largest < 64, "{largest}");
    let whole = [header.as_slice(), &payload, b"y"].concat();
    assert_eq!(pieces(Format::Messages, &[&whole]).0, [(HOLD + 1, true)]);
}

fn write(format: Format, kind: MessageKind, pieces: &[&[u8]]) -> Vec<u8> {
    let mut writer = Writer::new(format);
    let mut stdin = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        writer.write(kind, piece, n == 0, n + 1 == pieces.len(), &mut stdin).unwrap();
    }
    assert_eq!(writer.held.capacity(), 0, "heap memory between messages");
    stdin
}

#[test]
fn written() {
    use MessageKind::{Binary, Text};
    assert_eq!(write(Format::Lines, Text, &[b"hi"]), b"hi\n");
    assert_eq!(write(Format::Lines, Text, &[b""]), b"\n");
    assert_eq!(write(Format::Lines, Text, &[b"h", b"", b"i"]), b"hi\n");
    assert_eq!(write(Format::Lines, Text, &[b"two\nlines"]), b"two\nlines\n");
    assert_eq!(write(Format::Bytes, Text, &[b"h", b"i"]), b"hi");
    assert_eq!(write(Format::Bytes, Binary, &[b"\xff", b"\n"]), b"\xff\n");
    assert_eq!(write(Format::Messages, Text, &[b"hi"]), b"T 2\nhi");
    assert_eq!(write(Format::Messages, Binary, &[b"h", b"i"]), b"B 2\nhi");
    assert_eq!(write(Format::Messages, Binary, &[b""]), b"B 0\n");
}

#[test]
fn a_message_in_pieces_reaches_the_program_whole_or_not_at_all() {
    for format in [Format::Lines, Format::Messages] {
        let mut writer = Writer::new(format);
        let mut stdin = Vec::new();
        writer.write(MessageKind::Text, &[b'x'; HOLD], true, false, &mut stdin).unwrap();
        assert_eq!(stdin, b"");
        // The next one begins: the unfinished one is gone.
        writer.write(MessageKind::Text, b"new", true, true, &mut stdin).unwrap();
        let expected: &[u8] = if format == Format::Lines { b"new\n" } else { b"T 3\nnew" };
        assert_eq!(stdin, expected);
    }
}

#[test]
fn a_large_message_is_streamed_to_the_program() {
    let start = vec![b'x'; HOLD];
    let mut writer = Writer::new(Format::Messages);
    let mut stdin = Vec::new();
    writer.write(MessageKind::Text, &start, true, false, &mut stdin).unwrap();
    writer.write(MessageKind::Text, b"y", false, false, &mut stdin).unwrap();
    assert_eq!(writer.held.capacity(), 0);
    writer.write(MessageKind::Text, b"", false, false, &mut stdin).unwrap();
    writer.write(MessageKind::Text, b"z", false, false, &mut stdin).unwrap();
    writer.write(MessageKind::Text, b"", false, true, &mut stdin).unwrap();
    writer.write(MessageKind::Text, b"small", true, true, &mut stdin).unwrap();
    let expected = [b"t 65537\n".as_slice(), &start, b"yt 1\nzT 0\nT 5\nsmall"].concat();
    assert!(stdin == expected);

    let mut writer = Writer::new(Format::Lines);
    stdin.clear();
    writer.write(MessageKind::Text, &start, true, false, &mut stdin).unwrap();
    writer.write(MessageKind::Text, b"y", false, false, &mut stdin).unwrap();
    assert_eq!(stdin.len(), HOLD + 1);
    writer.write(MessageKind::Text, b"z", false, true, &mut stdin).unwrap();
    assert!(stdin.ends_with(b"xyz\n"));
}

#[test]
fn binary_for_a_program_that_reads_lines() {
    let mut stdin = Vec::new();
    let mut writer = Writer::new(Format::Lines);
    assert_eq!(writer.write(MessageKind::Binary, b"x", true, true, &mut stdin), Err(WriteError::Binary));
    assert_eq!(stdin, b"");
}

#[test]
fn names() {
    assert_eq!(Format::from_name(b"lines"), Some(Format::Lines));
    assert_eq!(Format::from_name(b"bytes"), Some(Format::Bytes));
    assert_eq!(Format::from_name(b"messages"), Some(Format::Messages));
    assert_eq!(Format::from_name(b"Lines"), None);
}

fn message() -> impl Strategy<Value = (MessageKind, Vec<u8>)> {
    let long_text = (HOLD - 4..HOLD + 4).prop_map(|n| (MessageKind::Text, vec![b'a'; n]));
    let long_binary = (HOLD - 4..3 * HOLD).prop_map(|n| (MessageKind::Binary, vec![0xFF; n]));
    prop_oneof![
        8 => ".{0,20}".prop_map(|s| (MessageKind::Text, s.into_bytes())),
        8 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(|b| (MessageKind::Binary, b)),
        1 => long_text,
        1 => long_binary,
    ]
}

/// Cuts `octets` at these places, taken modulo its length.
fn cut<'a>(octets: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut % (octets.len() + 1)).chain([0, octets.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| &octets[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn records_that_are_written_are_read_as_the_same_messages(
        messages in proptest::collection::vec((message(), proptest::collection::vec(any::<usize>(), 0..4)), 0..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut writer = Writer::new(Format::Messages);
        let mut stdin = Vec::new();
        for ((kind, payload), cuts) in &messages {
            let pieces = cut(payload, cuts);
            for (n, piece) in pieces.iter().enumerate() {
                writer.write(*kind, piece, n == 0, n + 1 == pieces.len(), &mut stdin).unwrap();
            }
        }
        let expected: Vec<_> = messages.into_iter().map(|((kind, payload), _)| Event::Message(kind, payload)).collect();
        prop_assert_eq!(read(Format::Messages, cut(&stdin, &cuts)), expected);
    }

    #[test]
    fn lines_do_not_depend_on_the_reads(
        parts in proptest::collection::vec(prop_oneof![
            8 => "[a\r\u{e9}]{0,9}",
            4 => Just("\n".to_owned()),
            4 => Just("\r\n".to_owned()),
            1 => (HOLD - 3..HOLD + 3).prop_map(|n| "x".repeat(n)),
        ], 0..12),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let all = parts.concat();
        let mut expected: Vec<_> = all.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
        let last = all.rsplit('\n').next().unwrap_or_default();
        expected.pop();
        if !last.is_empty() {
            expected.push(last);
        }
        let expected: Vec<_> = expected.into_iter().map(|line| text(line.as_bytes())).collect();
        prop_assert_eq!(read(Format::Lines, cut(all.as_bytes(), &cuts)), expected);
    }

    #[test]
    fn any_octets_mean_the_same_however_they_are_read(
        octets in proptest::collection::vec(prop_oneof![
            Just(b'T'), Just(b't'), Just(b'B'), Just(b'C'), Just(b' '), Just(b'\n'), Just(b'\r'), Just(b'1'), any::<u8>(),
        ], 0..40),
        cuts in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        for format in [Format::Lines, Format::Messages] {
            prop_assert_eq!(read(format, cut(&octets, &cuts)), read(format, [octets.as_slice()]));
        }
    }
}
