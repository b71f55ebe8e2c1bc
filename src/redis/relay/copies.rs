// SPDX-License-Identifier: Apache-2.0

//! What a [`Relay`](super::Relay) needs of whoever has the copies of a node.

use crate::channel::position::{Epoch, MessageId, Offset};
use crate::channel::store::{Appended, History, Original};
use crate::redis::envelope;

/// What a node has of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The epoch of what is there; 0 where there is no copy.
    pub epoch: Epoch,
    /// The message that is needed next; 1 where there is no copy.
    pub next: Offset,
    /// Subscribers of this node.
    pub subscribers: u32,
}

/// The copies of a node.
pub trait Copies {
    /// What there is of a channel.
    fn look(&mut self, channel: &Channel) -> Copy;
    /// Who of the node's subscribers has said who it is, as in [`presence`](crate::redis::presence).
    fn presence(&mut self, channel: &Channel) -> Vec<u8>;
    /// Subscribers that the node has of all channels of a channel's group.
    fn group_subscribers(&mut self, channel: &Channel) -> u32;
    /// The group of a channel has a limit of subscribers of its own, or has none.
    fn limit_group(&mut self, channel: &Channel, subscribers: Option<u32>);
    /// The copy is to be of this original, which keeps so much. Whether there is room for it.
    fn follow(&mut self, channel: &Channel, original: Original, history: History) -> bool;
    /// Adds a message, published at `unix`; with it the channel keeps so much, `None`: as before. [`Appended::NoCopy`] also when the copy cannot
    /// be used at the moment.
    fn append(
        &mut self,
        channel: &Channel,
        id: MessageId,
        unix: u64,
        envelope: &envelope::Envelope<'_>,
        history: Option<History>,
    ) -> Appended;
    /// The copy is complete, and stays so, and was compared for those who asked up to this time; `None`: it is not kept any more.
    fn keep(&mut self, channel: &Channel, compared: Option<u64>);
    /// The channel was deleted.
    fn delete(&mut self, channel: &Channel);
    /// The subscribers of the node that are called so are to be closed.
    fn expel(&mut self, channel: &Channel, who: &[u8]);
    /// The worker that asked for a channel can go on.
    fn ready(&mut self, slot: usize);
    /// A number drawn at random, from 1 to 2^53 - 1.
    fn draw(&mut self) -> u64;
}

/// A channel, by its names here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its group.
    pub group: Box<[u8]>,
    /// Its id.
    pub id: Box<[u8]>,
    /// What the node keeps of it as long as nobody has published.
    pub history: History,
}
