// SPDX-License-Identifier: Apache-2.0

//! A message of a channel.

use super::CELL;
use crate::channel::memory::{Wide, Word, shared};

shared! {
    /// The first cell of a message; data, content type and event name follow, in this cell and down the chain.
    pub struct Message {
        /// Next cell of the chain.
        next: Word,
        /// What the cell is used for, a value of [`super::tag`].
        tag: Word,
        /// Last cell of the chain.
        tail: Word,
        /// Cells of the chain.
        cells: Word,
        /// The channel.
        record: Word,
        /// Next message of the channel.
        after: Word,
        /// Previous message of the channel; meaningless in its oldest.
        before: Word,
        /// A message further back, with the offset `jump_offset`; gone if that is below the oldest.
        jump: Word,
        /// Next older message of the zone.
        older: Word,
        /// Next newer message of the zone.
        newer: Word,
        /// 0 text, 1 binary.
        kind: Word,
        /// Octets of data.
        data_len: Word,
        /// Octets of content type.
        type_len: Word,
        /// Octets of event name.
        event_len: Word,
        /// Counts up by one from 1.
        offset: Wide,
        /// Offset of the message that `jump` leads to.
        jump_offset: Wide,
        /// Place in the order over all channels.
        serial: Wide,
        /// When it was published, milliseconds, monotonic.
        time: Wide,
        /// When it was published, milliseconds of Unix time.
        unix: Wide,
    }
}

/// Octets of contents in the first cell of a message.
pub const INLINE_MESSAGE: usize = CELL - size_of::<Message>();
