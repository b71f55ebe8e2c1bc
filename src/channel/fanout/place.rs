// SPDX-License-Identifier: Apache-2.0

//! Positions of subscribers to many channels.

use crate::channel::position::{Cut, Epoch, MessageId, UNKNOWN};

/// Where a subscriber is in one of its channels.
pub struct Place {
    /// The channel.
    pub epoch: Epoch,
    /// Its position; `None` if nothing of the channel is known to it.
    pub here: Option<MessageId>,
    /// The position is before losses of which the subscriber does not know.
    pub untold: bool,
    /// No message that it has got has a greater serial.
    pub delivered: u64,
}

impl Place {
    /// The position in all of them, cut at a serial that is before everything that the subscriber has still to get, but for
    /// the losses that it does not know of.
    pub fn cut(places: impl Iterator<Item = Self>, serial: u64, zone: u64) -> String {
        let elsewhere = places.filter(|place| place.untold || place.delivered > serial);
        let named = elsewhere.map(|place| place.here.unwrap_or(MessageId { epoch: place.epoch, offset: UNKNOWN }));
        Cut { zone, serial, named: named.collect() }.write()
    }
}
