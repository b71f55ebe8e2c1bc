// SPDX-License-Identifier: Apache-2.0

//! Octets on their way to a program's standard input.

use super::{Listener, Stdin, unread};
use crate::nginx::pipe::Written;
use crate::nginx::timer::now;
use crate::session::buffers;

/// What a program has not read yet, and the pipe that it is to go to.
pub struct Feed {
    stdin: Option<Stdin>,
    /// Whether the other end is a terminal.
    terminal: bool,
    /// The first `written` octets are through.
    queue: Vec<u8>,
    written: usize,
    progress: u64,
    /// What was known at the last look: octets that were through, and those of them that the program had not read.
    looked: (u64, usize),
    /// When the program was known to take something last; at first, when it was made.
    taken: u64,
}

impl Feed {
    /// Nothing yet, for this pipe.
    pub fn new(stdin: Stdin, terminal: bool) -> Self {
        Feed { stdin: Some(stdin), terminal, queue: Vec::new(), written: 0, progress: 0, looked: (0, 0), taken: now() }
    }

    /// Nothing yet, for a terminal that is still to come.
    pub fn of_terminal() -> Self {
        Feed { stdin: None, terminal: true, queue: Vec::new(), written: 0, progress: 0, looked: (0, 0), taken: now() }
    }

    /// The terminal has come.
    pub fn attach(&mut self, stdin: Stdin) {
        self.stdin = Some(stdin);
        self.taken = now();
    }

    /// The pipe, while somebody reads it.
    pub fn stdin(&self) -> Option<&Stdin> {
        self.stdin.as_ref()
    }

    /// Tells another listener that the pipe can be written.
    pub fn listen(&mut self, listener: Listener) {
        if let Some(stdin) = &mut self.stdin {
            stdin.listen(listener);
        }
    }

    /// Whether the program reads at all.
    pub fn is_open(&self) -> bool {
        self.stdin.is_some()
    }

    /// Octets that wait here.
    pub fn waiting(&self) -> usize {
        self.queue.len() - self.written
    }

    /// Octets that are through.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// Octets that the program has not read, here and in the pipe.
    pub fn unread(&self) -> usize {
        self.waiting() + self.in_pipe()
    }

    fn in_pipe(&self) -> usize {
        match self.stdin.as_ref().and_then(Stdin::fd) {
            Some(fd) if self.terminal => unread::of_terminal(fd),
            Some(fd) => unread::of_pipe(fd),
            None => 0,
        }
    }

    /// Whether the program has read something since the last look.
    pub fn look(&mut self) -> bool {
        let (through, left) = self.looked;
        let in_pipe = self.in_pipe();
        let given = usize::try_from(self.progress - through).unwrap_or(usize::MAX);
        let taken = left.saturating_add(given) > in_pipe;
        self.looked = (self.progress, in_pipe);
        if taken {
            self.taken = now();
        }
        taken
    }

    /// When the program was known to take something last, in milliseconds of nginx's clock.
    pub fn last_taken(&self) -> u64 {
        self.taken
    }

    /// Where octets are appended that are to be written.
    pub fn queue(&mut self) -> &mut Vec<u8> {
        if self.queue.capacity() == 0 {
            self.queue = buffers::lend();
        }
        &mut self.queue
    }

    /// Writes what the pipe takes. Whether anything moved.
    pub fn flush(&mut self) -> bool {
        let Some(stdin) = &mut self.stdin else { return false };
        let mut moved = false;
        while self.written < self.queue.len() {
            match stdin.write(&self.queue[self.written..]) {
                Written::Octets(count) => {
                    self.written += count;
                    self.progress += count as u64;
                    moved = true;
                }
                Written::Blocked => {
                    self.compact();
                    break;
                }
                Written::Broken => {
                    self.stdin = None;
                    moved = true;
                    break;
                }
            }
        }
        if moved {
            self.taken = now();
        }
        if self.stdin.is_none() || self.written == self.queue.len() {
            self.return_queue();
        }
        moved
    }

    /// The program gets nothing more.
    pub fn close(&mut self) {
        self.stdin = None;
        self.return_queue();
    }

    /// What a blocked program has not read is kept without the room around it.
    fn compact(&mut self) {
        let rest = &self.queue[self.written..];
        if rest.len() <= self.queue.capacity() / 2 {
            let rest = rest.to_vec();
            buffers::give_back(std::mem::replace(&mut self.queue, rest));
            self.written = 0;
        }
    }

    fn return_queue(&mut self) {
        if self.queue.capacity() > 0 {
            buffers::give_back(std::mem::take(&mut self.queue));
        }
        self.written = 0;
    }
}
