//! Channels: messages in shared memory, subscriptions, and the forms in which messages are sent.

pub mod fanout;
pub mod info;
pub mod lock;
pub mod memory;
pub mod message;
pub mod position;
pub mod process;
pub mod store;
pub mod wire;

mod fail;
mod hash;
mod zone;
