// SPDX-License-Identifier: Apache-2.0

//! What waits to be sent on one connection.

use std::collections::VecDeque;
use std::mem;

use super::buffers;
use super::client::{Sent, Sink};
use crate::channel::fanout::Buffer;

/// Octets in the order in which they are to leave: frames for a client, or what a service is to get.
///
/// During a turn they are gathered in one buffer that the worker lends; what the other side does not take stays here. TLS
/// may be given an octet again only at the same place: a chunk that was offered neither moves nor changes, it is replaced
/// only when it is gone.
#[derive(Default)]
pub struct Output {
    waiting: VecDeque<Chunk>,
    /// Invariant: the octets of `waiting` that are not sent.
    queued: usize,
    /// This turn's frames; without capacity between turns.
    gathered: Vec<u8>,
    /// Where the first frame begins in `gathered`.
    begin: usize,
}

/// Octets that the other side did not take at once.
struct Chunk {
    octets: Octets,
    /// Invariant: fewer than there are.
    sent: usize,
}

/// Where the octets of a chunk are.
enum Octets {
    /// In a buffer of this chunk's own.
    Own(Vec<u8>),
    /// In a buffer that other clients get as well.
    Shared(Buffer),
}

impl Octets {
    fn as_slice(&self) -> &[u8] {
        match self {
            Octets::Own(octets) => octets,
            Octets::Shared(buffer) => buffer.octets(),
        }
    }
}

impl Output {
    /// Octets that are not sent yet.
    pub fn len(&self) -> usize {
        self.queued + self.gathered.len() - self.begin
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing was refused so far.
    pub fn is_fresh(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Where this turn's frames are appended.
    pub fn frames(&mut self) -> &mut Vec<u8> {
        if self.gathered.capacity() == 0 {
            self.gathered = buffers::lend();
        }
        &mut self.gathered
    }

    /// The first gathered frame begins here; what is before it is not sent. Only for the first one.
    pub fn begin_at(&mut self, begin: usize) {
        self.begin = begin;
    }

    /// Appends what other clients get as well. Little is copied: it then leaves together with what is before and after it.
    pub fn share(&mut self, buffer: &Buffer) {
        self.share_rest(buffer, 0);
    }

    /// Appends what is left of a shared message after its first `sent` octets.
    pub fn share_rest(&mut self, buffer: &Buffer, sent: usize) {
        let rest = buffer.octets().get(sent..).unwrap_or_default();
        if rest.len() <= SHARED {
            self.frames().extend_from_slice(rest);
            return;
        }
        self.shelve();
        self.queued += rest.len();
        self.waiting.push_back(Chunk { octets: Octets::Shared(buffer.clone()), sent });
    }

    /// Puts what was gathered into the queue, so that something else can follow.
    fn shelve(&mut self) {
        let rest = &self.gathered[self.begin..];
        if !rest.is_empty() {
            self.queued += rest.len();
            self.waiting.push_back(Chunk { octets: Octets::Own(rest.to_vec()), sent: 0 });
            self.gathered.clear();
            self.begin = 0;
        }
    }

    /// Sends as much as the other side takes.
    pub fn flush(&mut self, sink: &mut impl Sink) -> Sent {
        while let Some(chunk) = self.waiting.front_mut() {
            let octets = chunk.octets.as_slice();
            match sink.send(&octets[chunk.sent..]) {
                Sent::Octets(count) => {
                    chunk.sent += count;
                    self.queued -= count;
                    if chunk.sent == octets.len() {
                        self.waiting.pop_front();
                    }
                }
                Sent::Blocked => {
                    self.keep(sink);
                    return Sent::Blocked;
                }
                Sent::Lost => return Sent::Lost,
            }
        }
        let mut total = 0;
        while self.begin < self.gathered.len() {
            match sink.send(&self.gathered[self.begin..]) {
                Sent::Octets(count) => {
                    self.begin += count;
                    total += count;
                }
                Sent::Blocked => {
                    self.keep(sink);
                    return Sent::Blocked;
                }
                Sent::Lost => return Sent::Lost,
            }
        }
        self.give_back();
        Sent::Octets(total)
    }

    /// Nothing was gathered after all: the worker's buffer is not kept by a session that waits.
    pub fn settle(&mut self) {
        if self.gathered.is_empty() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if self.gathered.capacity() > 0 {
            buffers::give_back(mem::take(&mut self.gathered));
        }
        self.begin = 0;
    }

    /// Keeps what this turn gathered and could not send.
    fn keep(&mut self, sink: &impl Sink) {
        let rest = &self.gathered[self.begin..];
        if rest.is_empty() {
            self.give_back();
            return;
        }
        self.queued += rest.len();
        // The last chunk takes small frames, unless TLS may hold a pointer into it.
        let appendable = self.waiting.len() > usize::from(sink.is_tls());
        if let Some(Chunk { octets: Octets::Own(last), .. }) = self.waiting.back_mut()
            && appendable
            && last.len() + rest.len() <= CHUNK
        {
            last.extend_from_slice(rest);
            self.give_back();
        } else if sink.is_tls() {
            self.waiting.push_back(Chunk { octets: Octets::Own(mem::take(&mut self.gathered)), sent: self.begin });
            self.begin = 0;
        } else {
            self.waiting.push_back(Chunk { octets: Octets::Own(rest.to_vec()), sent: 0 });
            self.give_back();
        }
    }
}

/// Octets from which a message is worth a system call of its own.
const SHARED: usize = 8 << 10;

/// Octets up to which small remainders are put together.
const CHUNK: usize = 16 << 10;

impl Drop for Output {
    fn drop(&mut self) {
        self.give_back();
    }
}
