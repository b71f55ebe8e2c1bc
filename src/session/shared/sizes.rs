// SPDX-License-Identifier: Apache-2.0

//! The size of a terminal that the clients of several workers share.
//!
//! A worker knows the sizes that its own clients ask for ([`ClientSizes`]), and leaves the one that it makes of them in the
//! input of the program, as a [`SizeNote`]. The worker that runs the program makes one size of these notes ([`SharedSize`]).
//! Notes are in the input, so that they come in order with what is typed, and so that another worker that starts the program anew
//! finds them. Each process is told by each worker with clients, even that there is no size: what its slot has said before may have been
//! another worker, which has died.

use std::collections::BTreeMap;

use crate::channel::store::{Input, InputKind, Wake};
use crate::exec::terminal::{Size, SizePolicy};

/// Milliseconds for which a terminal has another size, so that what runs on it shows its screen anew: a program that finds the size
/// that it knows has no reason to.
const REPAINT: u64 = 50;

/// What a worker says of the sizes of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeNote {
    /// The size that they ask for together; `None` if none of them has asked for one.
    pub size: Option<Size>,
    /// One of them has just come: it has seen neither the size nor the screen.
    pub is_newcomer: bool,
}

impl SizeNote {
    /// As input of the program.
    pub fn to_input(self) -> Input {
        let (rows, columns) = self.size.map_or((0, 0), |size| (size.rows, size.columns));
        let mut data = Vec::with_capacity(5);
        data.extend_from_slice(&rows.to_le_bytes());
        data.extend_from_slice(&columns.to_le_bytes());
        data.push(u8::from(self.is_newcomer));
        Input { kind: InputKind::Size, data }
    }

    /// The note in the data of an input; `None` if there is none.
    pub fn of_data(data: &[u8]) -> Option<Self> {
        let &[r0, r1, c0, c1, newcomer] = data else { return None };
        let size = Size { rows: u16::from_le_bytes([r0, r1]), columns: u16::from_le_bytes([c0, c1]) };
        Some(SizeNote { size: (size.rows > 0 && size.columns > 0).then_some(size), is_newcomer: newcomer != 0 })
    }
}

/// The sizes that the clients of one worker ask for.
#[derive(Debug)]
pub struct ClientSizes {
    /// `None` where the program has no terminal.
    policy: Option<SizePolicy>,
    of_clients: BTreeMap<usize, Size>,
    /// The size of the client that has sent something last, which may have gone.
    of_writer: Option<Size>,
    /// A client has asked for its first size, and the process has not been told.
    has_newcomer: bool,
    /// The process that was told last, and of which size.
    told: Option<(u32, Option<Size>)>,
}

impl ClientSizes {
    /// Nobody has asked for a size.
    pub fn new(policy: Option<SizePolicy>) -> Self {
        ClientSizes { policy, of_clients: BTreeMap::new(), of_writer: None, has_newcomer: false, told: None }
    }

    /// A client asks for a size.
    pub fn set(&mut self, client: usize, size: Size) {
        self.has_newcomer |= self.of_clients.insert(client, size).is_none();
        self.of_writer = Some(size);
    }

    /// A client sends something. Whether another size is wanted by that.
    pub fn wrote(&mut self, client: usize) -> bool {
        let before = self.wanted();
        if let Some(size) = self.of_clients.get(&client) {
            self.of_writer = Some(*size);
        }
        self.wanted() != before
    }

    /// A client goes.
    pub fn remove(&mut self, client: usize) {
        self.of_clients.remove(&client);
        if self.of_clients.is_empty() {
            (self.of_writer, self.has_newcomer) = (None, false);
        }
    }

    /// All clients go.
    pub fn clear(&mut self) {
        self.of_clients.clear();
        (self.of_writer, self.has_newcomer) = (None, false);
    }

    /// The size that the clients ask for together.
    fn wanted(&self) -> Option<Size> {
        match self.policy {
            Some(SizePolicy::Smallest) => self.of_clients.values().copied().reduce(Size::common),
            Some(SizePolicy::Writer) => self.of_writer,
            None => None,
        }
    }

    /// What a process is to be told, unless it knows.
    pub fn untold(&self, process: u32) -> Option<SizeNote> {
        self.policy?;
        let note = SizeNote { size: self.wanted(), is_newcomer: self.has_newcomer };
        (note.is_newcomer || self.told != Some((process, note.size))).then_some(note)
    }

    /// A process has been told this.
    pub fn told(&mut self, process: u32, note: SizeNote) {
        self.told = Some((process, note.size));
        self.has_newcomer = false;
    }
}

/// The size of a terminal, in the worker that runs the program on it.
#[derive(Debug)]
pub struct SharedSize {
    policy: SizePolicy,
    /// What the workers with clients have said, by the numbers of their slots.
    of_workers: BTreeMap<usize, Size>,
    /// The size that the terminal is to have. It stays when nobody asks for one any more.
    size: Size,
    /// A worker has said something: until then the size is nobody's.
    is_asked: bool,
    /// Somebody has come who has seen neither the size nor the screen.
    has_newcomer: bool,
    /// The size that clients were told of last.
    told: Option<Size>,
    /// When the terminal gets its size back, while it has another one for the sake of the screen.
    restore_at: Option<u64>,
}

/// What is to be done about the size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SizeStep {
    /// The terminal is to be set to this size.
    pub set: Option<Size>,
    /// The clients are to be told of this size.
    pub tell: Option<Size>,
    /// There is another step in so many milliseconds.
    pub again: Option<u64>,
}

impl SharedSize {
    /// That of a terminal that was just opened.
    pub fn new(policy: SizePolicy) -> Self {
        SharedSize {
            policy,
            of_workers: BTreeMap::new(),
            size: Size::default(),
            is_asked: false,
            has_newcomer: false,
            told: None,
            restore_at: None,
        }
    }

    /// The size that the terminal is to have.
    pub fn get(&self) -> Size {
        self.size
    }

    /// A worker has said something of its clients.
    pub fn note(&mut self, worker: usize, note: SizeNote) {
        self.is_asked |= note.size.is_some();
        self.has_newcomer |= note.is_newcomer;
        match note.size {
            Some(size) => {
                self.of_workers.insert(worker, size);
                self.decide(Some(worker));
            }
            None => {
                self.of_workers.remove(&worker);
                self.decide(None);
            }
        }
    }

    /// A client of a worker has sent something.
    pub fn wrote(&mut self, worker: usize) {
        self.decide(Some(worker));
    }

    /// Only these workers have clients.
    pub fn keep(&mut self, workers: &Wake) {
        self.of_workers.retain(|worker, _| workers.has(*worker));
        self.decide(None);
    }

    /// Whether there is a step to be taken for the sake of what was said.
    pub fn has_step(&self) -> bool {
        self.is_asked && (self.told != Some(self.size) || self.has_newcomer)
    }

    /// What is to be done now, in milliseconds of the caller's clock. Who has just come is told the size, and shown the screen: a
    /// program draws it anew when the size of its terminal changes, so that it gets another one for a moment if it is the same.
    pub fn step(&mut self, now: u64) -> SizeStep {
        let size = self.size;
        if self.is_asked && self.told != Some(size) {
            (self.told, self.has_newcomer, self.restore_at) = (Some(size), false, None);
            return SizeStep { set: Some(size), tell: Some(size), again: None };
        }
        if self.is_asked && std::mem::take(&mut self.has_newcomer) {
            self.restore_at = Some(now + REPAINT);
            let rows = if size.rows > 1 { size.rows - 1 } else { 2 };
            return SizeStep { set: Some(Size { rows, ..size }), tell: Some(size), again: Some(REPAINT) };
        }
        let restored = self.restore_at.take_if(|at| *at <= now);
        SizeStep { set: restored.map(|_| size), tell: None, again: self.restore_at.map(|at| at - now) }
    }

    fn decide(&mut self, writer: Option<usize>) {
        let decided = match self.policy {
            SizePolicy::Smallest => self.of_workers.values().copied().reduce(Size::common),
            SizePolicy::Writer => writer.and_then(|worker| self.of_workers.get(&worker)).copied(),
        };
        self.size = decided.unwrap_or(self.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(columns: u16, rows: u16) -> Size {
        Size { columns, rows }
    }

    fn note(size: Option<Size>, is_newcomer: bool) -> SizeNote {
        SizeNote { size, is_newcomer }
    }

    #[test]
    fn notes_come_back_as_they_were_left() {
        for note in [note(None, false), note(Some(size(1, 65535)), true), note(Some(size(132, 50)), false)] {
            let input = note.to_input();
            assert_eq!((input.kind, SizeNote::of_data(&input.data)), (InputKind::Size, Some(note)));
        }
        assert_eq!(SizeNote::of_data(b"1234"), None);
    }

    #[test]
    fn a_process_is_told_what_it_does_not_know() {
        assert_eq!(ClientSizes::new(None).untold(7), None, "there is no terminal");
        let mut sizes = ClientSizes::new(Some(SizePolicy::Smallest));
        assert_eq!(sizes.untold(7), Some(note(None, false)), "nobody has asked for a size");
        sizes.told(7, note(None, false));
        assert_eq!(sizes.untold(7), None);
        sizes.set(1, size(100, 30));
        assert_eq!(sizes.untold(7), Some(note(Some(size(100, 30)), true)));
        sizes.told(7, note(Some(size(100, 30)), true));
        assert_eq!(sizes.untold(7), None);
        assert_eq!(sizes.untold(8), Some(note(Some(size(100, 30)), false)), "another process");
        // Who comes with a larger window has to be shown the screen all the same.
        sizes.set(2, size(132, 50));
        assert_eq!(sizes.untold(7), Some(note(Some(size(100, 30)), true)));
        sizes.told(7, note(Some(size(100, 30)), true));
        sizes.set(2, size(90, 50));
        assert_eq!(sizes.untold(7), Some(note(Some(size(90, 30)), false)), "the smallest of both sides");
        sizes.remove(2);
        assert_eq!(sizes.untold(7), None);
        sizes.remove(1);
        assert_eq!(sizes.untold(7), Some(note(None, false)));
    }

    #[test]
    fn the_writer_decides() {
        let mut sizes = ClientSizes::new(Some(SizePolicy::Writer));
        sizes.set(1, size(100, 30));
        sizes.set(2, size(132, 50));
        assert_eq!(sizes.untold(7).unwrap().size, Some(size(132, 50)));
        assert!(sizes.wrote(1) && !sizes.wrote(1) && !sizes.wrote(3), "news only once");
        assert_eq!(sizes.untold(7).unwrap().size, Some(size(100, 30)));
        let mut shared = SharedSize::new(SizePolicy::Writer);
        shared.note(0, note(Some(size(100, 30)), true));
        shared.note(1, note(Some(size(132, 50)), true));
        assert_eq!(shared.get(), size(132, 50));
        shared.wrote(0);
        assert_eq!(shared.get(), size(100, 30));
        shared.note(0, note(None, false));
        shared.wrote(0);
        assert_eq!(shared.get(), size(100, 30), "the size stays when its writer has gone");
    }

    #[test]
    fn who_comes_is_told_the_size_and_shown_the_screen() {
        let mut shared = SharedSize::new(SizePolicy::Smallest);
        assert!(!shared.has_step());
        assert_eq!(shared.step(0), SizeStep::default(), "nobody has asked");
        let first = size(100, 30);
        shared.note(0, note(Some(first), true));
        assert!(shared.has_step());
        assert_eq!(shared.step(0), SizeStep { set: Some(first), tell: Some(first), again: None });
        assert!(!shared.has_step());
        // Another one of the same size.
        shared.note(0, note(Some(first), true));
        assert!(shared.has_step());
        let other = Some(size(100, 29));
        assert_eq!(shared.step(10), SizeStep { set: other, tell: Some(first), again: Some(REPAINT) });
        assert_eq!(shared.step(9 + REPAINT), SizeStep { again: Some(1), ..SizeStep::default() });
        assert_eq!(shared.step(10 + REPAINT), SizeStep { set: Some(first), ..SizeStep::default() });
        assert_eq!(shared.step(11 + REPAINT), SizeStep::default());
        // A second one, before the size is back.
        shared.note(0, note(Some(first), true));
        assert_eq!(shared.step(60).again, Some(REPAINT));
        shared.note(0, note(Some(first), true));
        assert_eq!(shared.step(90).again, Some(REPAINT));
        assert_eq!(shared.step(60 + REPAINT), SizeStep { again: Some(30), ..SizeStep::default() });
        assert_eq!(shared.step(90 + REPAINT), SizeStep { set: Some(first), ..SizeStep::default() });
        // A size that comes meanwhile stays.
        shared.note(0, note(Some(first), true));
        shared.step(200);
        let row = size(100, 1);
        shared.note(0, note(Some(row), false));
        assert_eq!(shared.step(201), SizeStep { set: Some(row), tell: Some(row), again: None });
        assert_eq!(shared.step(200 + REPAINT), SizeStep::default());
        shared.note(0, note(Some(row), true));
        assert_eq!(shared.step(500).set, Some(size(100, 2)), "a terminal has a row");
    }

    #[test]
    fn the_smallest_of_the_workers_that_have_clients() {
        let mut shared = SharedSize::new(SizePolicy::Smallest);
        assert_eq!(shared.get(), Size::default());
        shared.note(3, note(Some(size(100, 50)), true));
        assert_eq!(shared.get(), size(100, 50));
        shared.note(700, note(Some(size(132, 30)), true));
        assert_eq!(shared.get(), size(100, 30));
        let mut clients = Wake::default();
        clients.add(700);
        shared.keep(&clients);
        assert_eq!(shared.get(), size(132, 30), "a worker has died");
        shared.keep(&Wake::default());
        assert_eq!(shared.get(), size(132, 30), "nobody is there to say another one");
    }
}
