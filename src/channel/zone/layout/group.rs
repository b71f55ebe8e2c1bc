// SPDX-License-Identifier: Apache-2.0

//! A group of channels.

use super::CELL;
use crate::channel::memory::{Wide, Word, shared};

shared! {
    /// The first cell of a group; its name follows, in this cell and down the chain.
    pub struct Group {
        /// Next cell of the chain.
        next: Word,
        /// What the cell is used for, a value of [`super::tag`].
        tag: Word,
        /// Next group in the same bucket.
        hash_next: Word,
        /// Cells of the chain.
        cells: Word,
        /// Octets of the name.
        name_len: Word,
        /// Channels that refer to it, deleted ones that still wait for their workers included.
        records: Word,
        /// Channels without those that are deleted.
        channels: Word,
        /// Subscribers; those of dead workers until their channels are looked at.
        subscribers: Word,
        /// Messages.
        messages: Word,
        /// Which limits it has of its own, see [`super::super::groups::own`]; the others are those of the location.
        limited: Word,
        /// Limit of channels, in [`super::super::groups::GroupLimits`].
        max_channels: Word,
        /// Limit of subscribers.
        max_subscribers: Word,
        /// Limit of messages.
        max_messages: Word,
        /// One of its channels has been published to.
        kept: Word,
        /// Hash of the name.
        hash: Wide,
        /// The engine that has its channels; 0: none.
        space: Wide,
        /// Octets of messages.
        bytes: Wide,
        /// Limit of octets of messages.
        max_bytes: Wide,
    }
}

/// Octets of a name that fit into the first cell.
pub const INLINE_GROUP: usize = CELL - size_of::<Group>();
