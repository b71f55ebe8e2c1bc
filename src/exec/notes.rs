// SPDX-License-Identifier: Apache-2.0

//! What a program notes for the access log (`$websocket_exec_note_name`): each note is a line, a name and its value.
//!
//! A program writes the lines as records `V` of the format `messages`, or on a descriptor of its own (`websocket_exec_notes`), which
//! [`Lines`] divides. [`Notes`] keeps the last value of each name. What it does not take is dropped, and the first of it told: what is
//! only noted ends no session.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

/// The descriptor that a program writes its notes to.
pub const DESCRIPTOR: i32 = 3;

/// The variable of the environment that tells the program which descriptor that is, and its value.
pub const VARIABLE: (&[u8], &[u8]) = (b"WEBSOCKET_NOTE_FD", b"3");

/// Octets of a name at most.
pub const MAX_NAME: usize = 64;

/// The most notes that a [`Limit`] may allow.
pub const MAX_NUMBER: usize = 1024;

/// The most octets that a [`Limit`] may allow: no longer line is held for a program that has not ended it.
pub const MAX_SIZE: usize = 64 << 10;

/// What a program may note (`websocket_exec_notes_limit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Names.
    pub number: usize,
    /// Octets of all lines that are kept, without the newlines.
    pub size: usize,
}

impl Limit {
    /// 32 notes, 4 kB.
    pub const DEFAULT: Self = Self { number: 32, size: 4 << 10 };
}

/// The notes of one program.
#[derive(Debug)]
pub struct Notes {
    limit: Limit,
    kept: RefCell<Kept>,
    /// That something was dropped has been told.
    is_told: Cell<bool>,
}

/// What is kept of them.
#[derive(Debug, Default)]
struct Kept {
    /// In the order in which the names came first.
    list: Vec<Note>,
    /// Where each name is in the list. A program may write as many lines as it likes, and the worker has others to serve.
    places: BTreeMap<Vec<u8>, usize>,
    /// Octets of all lines.
    size: usize,
}

/// One note.
#[derive(Debug)]
struct Note {
    /// In lower case, as nginx has the names of variables.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Note {
    /// Octets of its line.
    fn size(&self) -> usize {
        self.name.len() + 1 + self.value.len()
    }
}

/// A note that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// What it began with, where that is no name.
    name: Vec<u8>,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Name,
    Number(usize),
    Size(usize),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a note of the program is dropped, \"{}\": ", self.name.escape_ascii())?;
        match self.why {
            Why::Name => write!(f, "a name is 1 to {MAX_NAME} letters, digits or \"_\"")?,
            Why::Number(most) => write!(f, "there are {most} others (websocket_exec_notes_limit)")?,
            Why::Size(most) => write!(f, "all of them are more than {most} octets (websocket_exec_notes_limit)")?,
        }
        f.write_str("; what else is dropped is not told")
    }
}

impl Notes {
    /// No notes.
    pub const fn new(limit: Limit) -> Self {
        let kept = Kept { list: Vec::new(), places: BTreeMap::new(), size: 0 };
        Self { limit, kept: RefCell::new(kept), is_told: Cell::new(false) }
    }

    /// Takes a line: a name, a space, and the value, which is empty if there is no space. It takes the place of an earlier value of that
    /// name. What was dropped, if it is the first.
    pub fn take(&self, line: &[u8]) -> Option<Dropped> {
        let dropped = self.set(line).err()?;
        (!self.is_told.replace(true)).then_some(dropped)
    }

    fn set(&self, line: &[u8]) -> Result<(), Dropped> {
        let (name, value) = match memchr::memchr(b' ', line).and_then(|at| line.split_at_checked(at)) {
            Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
            None => (line, &[][..]),
        };
        let is_of_name = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'_';
        let dropped = |why| Dropped { name: name.get(..MAX_NAME).unwrap_or(name).to_vec(), why };
        if !(1..=MAX_NAME).contains(&name.len()) || !name.iter().all(is_of_name) {
            return Err(dropped(Why::Name));
        }
        let note = Note { name: name.to_ascii_lowercase(), value: value.to_vec() };
        let Kept { list, places, size } = &mut *self.kept.borrow_mut();
        let earlier = places.get(&note.name).and_then(|place| list.get_mut(*place));
        let others = *size - earlier.as_ref().map_or(0, |earlier| earlier.size());
        if others + note.size() > self.limit.size {
            return Err(dropped(Why::Size(self.limit.size)));
        }
        let all = others + note.size();
        if let Some(earlier) = earlier {
            *earlier = note;
        } else if list.len() < self.limit.number {
            places.insert(note.name.clone(), list.len());
            list.push(note);
        } else {
            return Err(dropped(Why::Number(self.limit.number)));
        }
        *size = all;
        Ok(())
    }

    /// The value of the note with this name, whose case does not matter.
    pub fn get(&self, name: &[u8]) -> Option<Vec<u8>> {
        let kept = self.kept.borrow();
        let place = *kept.places.get(&name.to_ascii_lowercase())?;
        kept.list.get(place).map(|note| note.value.clone())
    }

    /// All notes as `name=value`, with a space between two of them; `None` if there are none.
    pub fn all(&self) -> Option<Vec<u8>> {
        let kept = self.kept.borrow();
        let notes: Vec<Vec<u8>> = kept.list.iter().map(|note| [&*note.name, b"=", &*note.value].concat()).collect();
        (!notes.is_empty()).then(|| notes.join(&b' '))
    }
}

/// What a program writes on its descriptor for notes, divided into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line.
    held: Vec<u8>,
    /// The line is too long, and has been dropped.
    is_dropped: bool,
}

impl Lines {
    /// Takes the lines that come to an end in these octets. `told` gets what was dropped.
    pub fn take(&mut self, mut octets: &[u8], notes: &Notes, mut told: impl FnMut(Dropped)) {
        while let Some(end) = memchr::memchr(b'\n', octets) {
            let (line, rest) = octets.split_at(end);
            self.hold(line, notes, &mut told);
            self.finish(notes, &mut told);
            octets = rest.get(1..).unwrap_or_default();
        }
        self.hold(octets, notes, &mut told);
    }

    /// Takes the last line, which may lack its newline.
    pub fn finish(&mut self, notes: &Notes, told: impl FnMut(Dropped)) {
        let line = std::mem::take(&mut self.held);
        if !std::mem::take(&mut self.is_dropped) && !line.is_empty() {
            notes.take(&line).into_iter().for_each(told);
        }
    }

    fn hold(&mut self, octets: &[u8], notes: &Notes, told: impl FnMut(Dropped)) {
        if self.is_dropped {
            return;
        }
        // One more than is kept of all, so that a line that is too long is seen to be.
        let room = (notes.limit.size + 1).saturating_sub(self.held.len());
        self.held.extend_from_slice(octets.get(..room).unwrap_or(octets));
        if self.held.len() > notes.limit.size {
            let line = std::mem::take(&mut self.held);
            self.is_dropped = true;
            notes.take(&line).into_iter().for_each(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(notes: &Notes) -> String {
        String::from_utf8(notes.all().unwrap_or_default()).unwrap()
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let notes = Notes::new(Limit::DEFAULT);
        assert_eq!(notes.all(), None);
        for line in ["tokens 1", "cost 0.25 EUR", "Tokens 12", "done", "empty "] {
            assert_eq!(notes.take(line.as_bytes()), None, "{line}");
        }
        assert_eq!(all(&notes), "tokens=12 cost=0.25 EUR done= empty=");
        assert_eq!(notes.get(b"COST").unwrap(), b"0.25 EUR");
        assert_eq!(notes.get(b"done").unwrap(), b"");
        assert_eq!(notes.get(b"other"), None);
    }

    #[test]
    fn names() {
        for name in ["a", "A_9", &"x".repeat(MAX_NAME)] {
            assert_eq!(Notes::new(Limit::DEFAULT).take(format!("{name} 1").as_bytes()), None, "{name}");
        }
        for name in ["", "a-b", "a=1", "\u{e4}", "a\t1", &"x".repeat(MAX_NAME + 1)] {
            let notes = Notes::new(Limit::DEFAULT);
            let dropped = notes.take(format!("{name} 1").as_bytes()).unwrap();
            assert!(dropped.to_string().contains("a name is 1 to 64 letters"), "{dropped}");
            assert_eq!(notes.all(), None, "{name}");
            assert_eq!(notes.take(b"a-b 1"), None, "one is told");
            assert_eq!(notes.take(b"good 1"), None);
            assert_eq!(all(&notes), "good=1");
        }
    }

    #[test]
    fn how_many() {
        let notes = Notes::new(Limit { number: 2, size: 100 });
        assert_eq!(notes.take(b"a 1"), None);
        assert_eq!(notes.take(b"b 1"), None);
        let dropped = notes.take(b"c 1").unwrap();
        assert!(dropped.to_string().contains("\"c\": there are 2 others"), "{dropped}");
        assert_eq!(notes.take(b"b 2"), None);
        assert_eq!(all(&notes), "a=1 b=2");
    }

    #[test]
    fn how_large() {
        let notes = Notes::new(Limit { number: 9, size: 10 });
        assert_eq!(notes.take(b"a 345"), None);
        assert_eq!(notes.take(b"b 890"), None);
        let dropped = notes.take(b"a 3456").unwrap();
        assert!(dropped.to_string().contains("\"a\": all of them are more than 10 octets"), "{dropped}");
        assert_eq!(all(&notes), "a=345 b=890", "the earlier value is kept");
        assert_eq!(notes.take(b"a "), None);
        assert_eq!(notes.take(b"b 89012"), None, "what a value has given back is there for others");
        assert_eq!(all(&notes), "a= b=89012");
    }

    /// What is noted and told when `octets` come in pieces of this size.
    fn divided(octets: &[u8], piece: usize) -> (String, usize) {
        let notes = Notes::new(Limit { number: 9, size: 10 });
        let (mut lines, mut told) = (Lines::default(), 0);
        for piece in octets.chunks(piece) {
            lines.take(piece, &notes, |_| told += 1);
            assert!(lines.held.len() <= 10);
        }
        lines.finish(&notes, |_| told += 1);
        (all(&notes), told)
    }

    #[test]
    fn lines() {
        for piece in 1..40 {
            assert_eq!(divided(b"a 1\n\nb 2\na 3\n", piece), ("a=3 b=2".to_owned(), 0));
            assert_eq!(divided(b"a 1\nb 2", piece), ("a=1 b=2".to_owned(), 0), "the last newline is missing");
            assert_eq!(divided(b"a 34567890\n", piece), ("a=34567890".to_owned(), 0));
            assert_eq!(divided(b"a 345678901\nb 2\n", piece), ("b=2".to_owned(), 1));
            assert_eq!(divided(b"b 2\na 3456789012345678901234567890", piece), ("b=2".to_owned(), 1));
        }
    }
}
