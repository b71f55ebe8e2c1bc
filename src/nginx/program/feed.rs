//! Octets on their way to a program's standard input.

use super::Stdin;
use crate::nginx::pipe::Written;
use crate::nginx::worker;

/// What a program has not read yet, and the pipe that it is to go to.
pub struct Feed {
    stdin: Option<Stdin>,
    /// The first `written` octets are through.
    queue: Vec<u8>,
    written: usize,
    progress: u64,
}

impl Feed {
    /// Nothing yet, for this pipe.
    pub fn new(stdin: Stdin) -> Self {
        Feed { stdin: Some(stdin), queue: Vec::new(), written: 0, progress: 0 }
    }

    /// The pipe, while somebody reads it.
    pub fn stdin(&self) -> Option<&Stdin> {
        self.stdin.as_ref()
    }

    /// Whether the program reads at all.
    pub fn is_open(&self) -> bool {
        self.stdin.is_some()
    }

    /// Octets that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len() - self.written
    }

    /// Octets that are through.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// Where octets are appended that are to be written.
    pub fn queue(&mut self) -> &mut Vec<u8> {
        if self.queue.capacity() == 0 {
            self.queue = worker::lend_buffer();
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
                    return moved;
                }
                Written::Broken => {
                    self.stdin = None;
                    moved = true;
                    break;
                }
            }
        }
        self.return_queue();
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
            worker::return_buffer(std::mem::replace(&mut self.queue, rest));
            self.written = 0;
        }
    }

    fn return_queue(&mut self) {
        if self.queue.capacity() > 0 {
            worker::return_buffer(std::mem::take(&mut self.queue));
        }
        self.written = 0;
    }
}
