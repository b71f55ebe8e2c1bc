// SPDX-License-Identifier: Apache-2.0

//! What a subscriber is to be sent next.

use std::rc::Rc;

use super::shared::{Buffer, Shared};
use crate::channel::position::Offset;

/// Items in order. To be used again and again.
#[derive(Debug, Default)]
pub struct Batch {
    items: Vec<Item>,
    /// Where the subscriber is after these, in each of its channels.
    pub(super) cursors: Vec<Offset>,
    /// No message that it has got then has a greater serial, in each of its channels.
    pub(super) delivered: Vec<u64>,
    octets: usize,
    pub(super) more: bool,
    /// A channel has messages whose turn it is not.
    pub(super) more_of_others: bool,
}

/// A message or the news of a gap.
#[derive(Debug)]
pub struct Item {
    /// What is sent.
    pub buffer: Buffer,
    /// The message; `None` where only a gap is told.
    pub message: Option<Rc<Shared>>,
    /// Messages lost before it, where the form itself has no way to tell; 0: nobody knows how many.
    pub lost: Option<u64>,
    /// The id of the channel that it is from, where the form [names](crate::channel::wire::WireForm::names_channel) it.
    pub channel: Option<Rc<[u8]>>,
    /// Which of the subscriber's channels it is from.
    pub(super) which: usize,
    /// Where the subscriber is in that channel afterwards.
    pub(super) next: Offset,
    /// No message that it has got of that channel then has a greater serial.
    pub(super) delivered: u64,
    /// Where its positions may be cut then.
    pub(super) cut: u64,
    /// Whether the subscriber knows of its losses afterwards.
    pub(super) told: bool,
}

impl Batch {
    /// One frame that is no message of a channel, for tests of those who send batches.
    #[cfg(any(test, fuzzing))]
    pub fn of_frame(octets: Vec<u8>) -> Self {
        let encoded = crate::channel::wire::Encoded { octets, compressed: false, content_type: None };
        let mut batch = Batch::default();
        let (buffer, next) = (Buffer::Made(Rc::new(encoded)), Offset(0));
        batch.push(Item {
            buffer,
            message: None,
            lost: None,
            channel: None,
            which: 0,
            next,
            delivered: 0,
            cut: 0,
            told: true,
        });
        batch
    }

    /// What is to be sent, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Octets that are to be sent.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Whether there may be more than this.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// What `written` octets of the batch come to: how many items were at least begun, and what is still to be sent of the
    /// last of them: from an octet of its buffer on.
    pub fn begun(&self, mut written: usize) -> (usize, Option<(Buffer, usize)>) {
        for (nth, item) in self.items.iter().enumerate() {
            let len = item.buffer.octets().len();
            if written < len {
                let rest = (written > 0).then(|| (item.buffer.clone(), written));
                return (nth + usize::from(written > 0), rest);
            }
            written -= len;
        }
        (self.items.len(), None)
    }

    /// Lets go of the messages.
    pub fn clear(&mut self) {
        self.items.clear();
        self.cursors.clear();
        self.delivered.clear();
        self.octets = 0;
        self.more = false;
        self.more_of_others = false;
    }

    pub(super) fn push(&mut self, item: Item) {
        self.octets += item.buffer.octets().len();
        if let Some(cursor) = self.cursors.get_mut(item.which) {
            *cursor = item.next;
        }
        if let Some(delivered) = self.delivered.get_mut(item.which) {
            *delivered = item.delivered;
        }
        self.items.push(item);
    }
}
