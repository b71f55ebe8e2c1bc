// SPDX-License-Identifier: Apache-2.0

//! The header of a response, from the octets that a program writes.

use std::fmt;
use std::ops::Range;

use super::field;

/// Octets that a header may have, the empty line at its end included.
pub const MOST: usize = 64 << 10;

/// Why there is no header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadError {
    /// It is longer than [`MOST`].
    TooLong,
    /// This line of it is no field, or its value is none that the field may have.
    Line(Vec<u8>),
    /// A field is there twice of which one decides.
    Twice(&'static str),
    /// There is an empty line where it should begin.
    Missing,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// As much of a line as a reader needs to find it.
        const SHOWN: usize = 200;
        match self {
            Self::TooLong => write!(f, "a header of more than {MOST} octets"),
            Self::Line(line) => {
                let shown = String::from_utf8_lossy(line.get(..SHOWN).unwrap_or(line)).into_owned();
                write!(f, "\"{shown}\" where a field of its header should be")
            }
            Self::Twice(name) => write!(f, "the field {name} twice"),
            Self::Missing => f.write_str("a body without a header"),
        }
    }
}

impl std::error::Error for HeadError {}

/// Gathers the header.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// What has come.
    octets: Vec<u8>,
    /// Where the line begins that is not complete.
    line: usize,
    /// Where the next newline is looked for. Invariant: there is none between `line` and this.
    looked: usize,
}

impl HeadReader {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Takes the next octets. Once the header is complete it is returned, with the number of these octets that belong to it: the
    /// others begin the body. Nothing may be given to the reader after that, or after an error.
    ///
    /// # Errors
    ///
    /// [`HeadError`].
    pub fn take(&mut self, octets: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
        let before = self.octets.len();
        let room = MOST - before;
        self.octets.extend_from_slice(octets.get(..room).unwrap_or(octets));
        while let Some(newline) = self.next_newline() {
            let line = self.octets.get(self.line..newline).unwrap_or_default();
            if line.is_empty() || line == b"\r" {
                let head = self.octets.get(..self.line).unwrap_or_default();
                return Ok(Some((Head::read(head)?, newline + 1 - before)));
            }
            self.line = newline + 1;
        }
        if self.octets.len() == MOST { Err(HeadError::TooLong) } else { Ok(None) }
    }

    fn next_newline(&mut self) -> Option<usize> {
        let found = memchr::memchr(b'\n', self.octets.get(self.looked..)?);
        let newline = found.map(|at| self.looked + at);
        self.looked = newline.map_or(self.octets.len(), |newline| newline + 1);
        newline
    }
}

/// The header of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    octets: Vec<u8>,
    /// Those that are passed on as they are.
    fields: Vec<(Range<usize>, Range<usize>)>,
    status: Option<(u16, Range<usize>)>,
    content_type: Option<Range<usize>>,
    content_length: Option<u64>,
    location: Option<Range<usize>>,
}

impl Head {
    /// Reads complete lines.
    fn read(octets: &[u8]) -> Result<Self, HeadError> {
        let mut head = Head {
            octets: octets.to_vec(),
            fields: Vec::new(),
            status: None,
            content_type: None,
            content_length: None,
            location: None,
        };
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', octets) {
            let line = octets.get(start..newline).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let place = start;
            start = newline + 1;
            if field::is_comment(line) {
                continue;
            }
            let wrong = || HeadError::Line(line.to_vec());
            let (name, value) = field::split(line).ok_or_else(wrong)?;
            let name_at = place..place + name.len();
            // The white space before a value is a part of the line.
            let value_at = value.as_ptr().addr() - octets.as_ptr().addr();
            let value_at = value_at..value_at + value.len();
            if name.eq_ignore_ascii_case(b"status") {
                once(&head.status, "Status")?;
                head.status = Some((status(value).ok_or_else(wrong)?, value_at));
            } else if name.eq_ignore_ascii_case(b"content-type") {
                once(&head.content_type, "Content-Type")?;
                head.content_type = Some(value_at);
            } else if name.eq_ignore_ascii_case(b"content-length") {
                once(&head.content_length, "Content-Length")?;
                head.content_length = Some(length(value).ok_or_else(wrong)?);
            } else if name.eq_ignore_ascii_case(b"location") {
                once(&head.location, "Location")?;
                head.location = Some(value_at);
            } else if !field::is_of_connection(name) {
                head.fields.push((name_at, value_at));
            }
        }
        if octets.is_empty() { Err(HeadError::Missing) } else { Ok(head) }
    }

    fn octets(&self, place: &Range<usize>) -> &[u8] {
        self.octets.get(place.clone()).unwrap_or_default()
    }

    /// The status of the response. A `Location` without a `Status` means that something has been found elsewhere (302).
    pub fn status(&self) -> u16 {
        match (&self.status, self.location()) {
            (Some((status, _)), _) => *status,
            (None, Some(_)) => 302,
            (None, None) => 200,
        }
    }

    /// The status with the words that the program gave it, if it gave it any.
    pub fn status_line(&self) -> Option<&[u8]> {
        let (_, line) = self.status.as_ref()?;
        Some(self.octets(line)).filter(|line| line.len() > 4)
    }

    /// The value of `Content-Type`.
    pub fn content_type(&self) -> Option<&[u8]> {
        self.content_type.as_ref().map(|value| self.octets(value))
    }

    /// The value of `Content-Length`: octets of the body.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The value of `Location`, if it is not empty.
    pub fn location(&self) -> Option<&[u8]> {
        self.location.as_ref().map(|value| self.octets(value)).filter(|value| !value.is_empty())
    }

    /// The path and query that the server is to answer in place of the program (RFC 3875, section 6.2.2), without a fragment, which no
    /// server is ever sent. A program that gives a status as well means the client.
    pub fn local_redirect(&self) -> Option<&[u8]> {
        let location = self.location().filter(|location| self.status.is_none() && location.starts_with(b"/"))?;
        location.get(..memchr::memchr(b'#', location).unwrap_or(location.len()))
    }

    /// The other fields, in their order; those about the connection are left out.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (self.octets(name), self.octets(value)))
    }
}

fn once<T>(present: &Option<T>, name: &'static str) -> Result<(), HeadError> {
    if present.is_some() { Err(HeadError::Twice(name)) } else { Ok(()) }
}

/// A status and the words behind it. One that says that another one follows (1xx) is none of a program's.
fn status(value: &[u8]) -> Option<u16> {
    let (digits, words) = value.split_at_checked(3)?;
    if !(words.is_empty() || words.starts_with(b" ")) {
        return None;
    }
    number(digits).and_then(|status| u16::try_from(status).ok()).filter(|status| (200..600).contains(status))
}

/// A length that nginx can count.
fn length(value: &[u8]) -> Option<u64> {
    number(value).filter(|length| i64::try_from(*length).is_ok())
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The header of these octets, and the body behind it.
    fn read(octets: &str) -> Result<Option<(Head, String)>, HeadError> {
        let read = HeadReader::new().take(octets.as_bytes())?;
        Ok(read.map(|(head, length)| (head, octets[length..].to_owned())))
    }

    fn head(octets: &str) -> Head {
        read(&format!("{octets}\n\n")).unwrap().unwrap().0
    }

    fn fields(head: &Head) -> Vec<(String, String)> {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        head.fields().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn a_document() {
        for end in ["\n", "\r\n"] {
            let (head, body) = read(&format!(
                "Content-Type: text/html; charset=utf-8{end}Set-Cookie: a=1{end}set-cookie:b=2{end}{end}\n<p>"
            ))
            .unwrap()
            .unwrap();
            assert_eq!((head.status(), head.status_line(), head.location()), (200, None, None));
            assert_eq!(head.content_type(), Some(&b"text/html; charset=utf-8"[..]));
            assert_eq!((head.content_length(), head.local_redirect()), (None, None));
            let expected = [("Set-Cookie", "a=1"), ("set-cookie", "b=2")];
            assert_eq!(fields(&head), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
            assert_eq!(body, "\n<p>");
        }
    }

    #[test]
    fn statuses() {
        for (line, status, words) in [
            ("Status: 404 Not Found", 404, Some("404 Not Found")),
            ("STATUS:404", 404, None),
            ("status: 404 ", 404, None),
            ("Status: 299 x", 299, Some("299 x")),
            ("Status: 599", 599, None),
        ] {
            let head = head(line);
            assert_eq!((head.status(), head.status_line()), (status, words.map(str::as_bytes)), "{line}");
        }
        for line in [
            "Status:",
            "Status: 20",
            "Status: 2000",
            "Status: 100",
            "Status: 101",
            "Status: 199",
            "Status: 600",
            "Status: OK",
            "Status: 200OK",
            "Status: +20",
            "Status: 2 0",
        ] {
            assert_eq!(read(&format!("{line}\n\n")), Err(HeadError::Line(line.as_bytes().to_vec())), "{line}");
        }
    }

    #[test]
    fn locations() {
        let other = head("Location: https://example.com/a?b#c");
        assert_eq!((other.status(), other.local_redirect()), (302, None));
        assert_eq!(other.location(), Some(&b"https://example.com/a?b#c"[..]));
        let local = head("Content-Type: text/plain\nLocation: /a%20b?c=d#e");
        assert_eq!(local.local_redirect(), Some(&b"/a%20b?c=d"[..]));
        // Frameworks send paths, and mean the client.
        let client = head("Status: 303 See Other\nLocation: /a");
        assert_eq!((client.status(), client.local_redirect(), client.location()), (303, None, Some(&b"/a"[..])));
        let created = head("Status: 201\nLocation: https://example.com/a");
        assert_eq!((created.status(), created.local_redirect()), (201, None));
        let relative = head("Location: a/b");
        assert_eq!((relative.status(), relative.local_redirect()), (302, None));
        let none = head("Location:\nContent-Type: text/plain");
        assert_eq!((none.status(), none.location(), none.local_redirect()), (200, None, None));
    }

    #[test]
    fn lengths() {
        assert_eq!(head("Content-Length: 0").content_length(), Some(0));
        assert_eq!(head("content-length:9223372036854775807").content_length(), Some(i64::MAX as u64));
        for line in [
            "Content-Length:",
            "Content-Length: -1",
            "Content-Length: 1, 1",
            "Content-Length: 9223372036854775808",
            "Content-Length: 0x1",
        ] {
            assert_eq!(read(&format!("{line}\n\n")), Err(HeadError::Line(line.as_bytes().to_vec())), "{line}");
        }
    }

    #[test]
    fn fields_of_the_connection_are_dropped() {
        let head =
            head("Connection: close\nX: 1\nTransfer-Encoding: chunked\nKeep-Alive: 5\nUpgrade: x\nContent-Type: a/b");
        assert_eq!(fields(&head), [("X".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn the_comment_of_an_error_page_is_left_out() {
        let head = head("<!--: spam\nContent-Type: text/html");
        assert_eq!((head.status(), head.content_type(), fields(&head)), (200, Some(&b"text/html"[..]), vec![]));
    }

    #[test]
    fn what_is_no_header() {
        for octets in ["\n", "\r\n", "\nContent-Type: a/b\n\n"] {
            assert_eq!(read(octets), Err(HeadError::Missing), "{octets:?}");
        }
        for octets in [
            "HTTP/1.1 200 OK\nContent-Type: a/b\n\n",
            "Content-Type: a/b\n more\n\n",
            "X: \0\n\n",
            "<html>\n\n",
            "X: a\rb\n\n",
        ] {
            assert!(matches!(read(octets), Err(HeadError::Line(_))), "{octets:?}");
        }
        for name in ["Status: 200", "Content-Type: a/b", "Content-Length: 1", "Location: /a"] {
            assert!(matches!(read(&format!("{name}\n{name}\n\n")), Err(HeadError::Twice(_))), "{name}");
        }
        for octets in ["", "Content-Type: a/b", "Content-Type: a/b\n", "Content-Type: a/b\r\n\r"] {
            assert_eq!(read(octets), Ok(None), "{octets:?}");
        }
    }

    #[test]
    fn the_longest_header() {
        let filled = |octets: usize| format!("X: {}\n\n", "x".repeat(octets - 5));
        assert!(matches!(read(&filled(MOST)), Ok(Some(_))));
        assert_eq!(read(&filled(MOST + 1)), Err(HeadError::TooLong));
        assert_eq!(read(&"x".repeat(MOST)), Err(HeadError::TooLong));
        assert_eq!(read(&"x".repeat(MOST - 1)), Ok(None));
        let (_, body) = read(&(filled(MOST) + "body")).unwrap().unwrap();
        assert_eq!(body, "body");
    }

    /// What a reader makes of the same octets in pieces that end at these places.
    fn in_pieces(octets: &[u8], ends: &[usize]) -> Result<Option<(Head, usize)>, HeadError> {
        let mut reader = HeadReader::new();
        let mut start = 0;
        for end in ends.iter().copied().chain([octets.len()]) {
            let end = end.clamp(start, octets.len());
            if let Some((head, length)) = reader.take(&octets[start..end])? {
                return Ok(Some((head, start + length)));
            }
            start = end;
        }
        Ok(None)
    }

    #[test]
    fn every_split() {
        let octets = b"Status: 404 Not Found\r\nContent-Type: text/plain\nX: 1\r\n\r\nbody\n\n";
        let whole = in_pieces(octets, &[]).unwrap();
        assert_eq!(whole.as_ref().map(|(_, length)| *length), Some(octets.len() - 6));
        for first in 0..octets.len() {
            for second in first..octets.len() {
                assert_eq!(in_pieces(octets, &[first, second]), Ok(whole.clone()));
            }
        }
    }

    proptest! {
        #[test]
        fn no_output_does_harm(octets: Vec<u8>, ends: Vec<prop::sample::Index>) {
            let mut ends: Vec<usize> = ends.iter().map(|index| index.index(octets.len() + 1)).collect();
            ends.sort_unstable();
            let whole = in_pieces(&octets, &[]);
            prop_assert_eq!(in_pieces(&octets, &ends), whole.clone());
            if let Ok(Some((head, length))) = whole {
                prop_assert!(length <= octets.len());
                prop_assert!((200..600).contains(&head.status()));
                for (name, value) in head.fields() {
                    prop_assert!(!name.is_empty() && !value.contains(&b'\n'));
                }
            }
        }
    }
}
