// SPDX-License-Identifier: Apache-2.0

//! The subprotocol `channels.v1`: subscribing, unsubscribing and publishing on an open WebSocket. `docs/channels-v1.md` describes it
//! for those who write clients.
//!
//! Each message of the client is a [command](Command), each of the server's an [`answer`], a message of a channel or the news
//! of a gap, which are [a form](super::wire::json) like the others. [`Conversation`] keeps what has been subscribed to and what is
//! under way. Nothing here subscribes or publishes by itself.

pub mod answer;
mod command;
mod conversation;

pub use command::{Command, Fault, Operation, Said};
pub use conversation::{Begin, Conversation, Entry};

/// The name of the subprotocol.
pub const NAME: &str = "channels.v1";
