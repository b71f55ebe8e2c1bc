// SPDX-License-Identifier: Apache-2.0

//! A channel as one worker sees it: its subscribers here, and the messages that have been copied and not yet been
//! offered to all of them.

use std::collections::VecDeque;
use std::rc::Rc;

use super::shared::Shared;
use crate::channel::position::{Epoch, Offset};
use crate::channel::store::Handle;

/// A subscriber of a channel.
#[derive(Debug, Clone, Copy)]
pub struct LocalSubscriber {
    /// Its number.
    pub subscriber: u32,
    /// Which of its channels this is.
    pub which: u32,
}

/// Messages whose offsets follow each other.
#[derive(Debug, Default)]
pub struct Run {
    messages: VecDeque<Rc<Shared>>,
    octets: usize,
}

impl Run {
    /// The message with this offset.
    pub fn get(&self, offset: Offset) -> Option<&Rc<Shared>> {
        let nth = offset.0.checked_sub(self.first()?.0)?;
        self.messages.get(usize::try_from(nth).ok()?)
    }

    /// The first offset.
    pub fn first(&self) -> Option<Offset> {
        self.messages.front().map(|shared| shared.message.id.offset)
    }

    /// Adds a message; what does not lead up to it goes.
    pub fn push(&mut self, shared: Rc<Shared>) {
        let last = self.messages.back().map(|last| last.message.id.offset);
        if last.is_some_and(|last| last.next() != shared.message.id.offset) {
            self.clear();
        }
        self.octets += shared.message.footprint();
        self.messages.push_back(shared);
    }

    /// Drops messages from the front up to `offset` until at most `keep` octets are left.
    pub fn trim(&mut self, offset: Offset, keep: usize) {
        while self.octets > keep && self.first().is_some_and(|first| first <= offset) {
            if let Some(shared) = self.messages.pop_front() {
                self.octets -= shared.message.footprint();
            }
        }
        if self.messages.is_empty() {
            self.clear();
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Octets that it takes.
    pub fn octets(&self) -> usize {
        self.octets
    }
}

/// A channel with subscribers in this worker.
#[derive(Debug)]
pub struct Local {
    /// The channel.
    pub handle: Handle,
    /// Its id, once there is a subscriber whose form names it.
    pub name: Rc<[u8]>,
    /// The epoch of its messages here. The zone may have begun another one, of which this worker has not heard.
    pub epoch: Epoch,
    /// Its subscribers in this worker.
    pub members: Vec<LocalSubscriber>,
    /// The newest message that has been copied, or that was there before the first subscriber.
    pub head: Offset,
    /// The channel is gone; its subscribers are to be told.
    pub deleted: bool,
    /// A serial at which it was not gone yet: a channel that has taken its place was created after that.
    pub lived: u64,
    /// The newest messages.
    pub ring: Run,
    /// Older messages, read for a subscriber that is behind; often others are behind as far.
    pub backlog: Run,
    /// The next member to look at, if a pass over the members is under way.
    pub pass: Option<usize>,
    /// `head` when this pass began.
    pub pass_head: Offset,
    /// Some member could not take everything in this pass.
    pub behind: bool,
    /// The zone keeps nothing of what was copied last.
    pub in_passing: bool,
}

impl Local {
    /// A channel without subscribers.
    pub fn new(handle: Handle, epoch: Epoch, head: Offset) -> Self {
        Self {
            handle,
            name: Rc::from([]),
            epoch,
            members: Vec::new(),
            head,
            deleted: false,
            lived: u64::MAX,
            ring: Run::default(),
            backlog: Run::default(),
            pass: None,
            pass_head: head,
            behind: false,
            in_passing: false,
        }
    }

    /// Octets of messages.
    pub fn octets(&self) -> usize {
        self.ring.octets() + self.backlog.octets()
    }

    /// Takes a member away. The one that is at its place then, if another one is.
    pub fn remove_member(&mut self, at: usize) -> [Option<(usize, LocalSubscriber)>; 2] {
        let mut hole = at;
        let mut moved = [None, None];
        // Members before `pass` have been looked at in this pass, the others have not: none changes sides.
        if let Some(pass) = self.pass.as_mut().filter(|pass| at < **pass) {
            *pass -= 1;
            let last_seen = *pass;
            if at != last_seen {
                self.members.swap(at, last_seen);
                moved[0] = self.members.get(at).map(|member| (at, *member));
            }
            hole = last_seen;
        }
        if hole < self.members.len() {
            self.members.swap_remove(hole);
            moved[1] = self.members.get(hole).map(|member| (hole, *member));
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::message::Message;
    use crate::channel::position::{Epoch, MessageId};
    use crate::ws::MessageKind;

    fn shared(offset: u64) -> Rc<Shared> {
        let id = MessageId { epoch: Epoch(1), offset: Offset(offset) };
        Shared::new(Message::for_tests(id, MessageKind::Text, b"", b"", &[b'x'; 100]))
    }

    fn offsets(run: &Run) -> Vec<u64> {
        run.messages.iter().map(|shared| shared.message.id.offset.0).collect()
    }

    #[test]
    fn a_run_has_no_holes() {
        let mut run = Run::default();
        for offset in [3, 4, 5] {
            run.push(shared(offset));
        }
        assert!(run.get(Offset(2)).is_none() && run.get(Offset(6)).is_none());
        assert_eq!(run.get(Offset(4)).unwrap().message.id.offset, Offset(4));
        let each = run.octets() / 3;
        run.trim(Offset(4), 0);
        assert_eq!(offsets(&run), [5]);
        run.push(shared(6));
        run.trim(Offset(9), each);
        assert_eq!((offsets(&run), run.octets()), (vec![6], each));
        run.push(shared(9));
        assert_eq!(offsets(&run), [9]);
        run.trim(Offset(9), 0);
        assert_eq!(run.octets(), 0);
    }
}
