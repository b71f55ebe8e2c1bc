//! Channels: messages in shared memory, subscriptions, and the forms in which messages are sent.

pub mod lock;
pub mod memory;
pub mod message;
pub mod position;
pub mod process;
pub mod store;

mod fail;
mod hash;
mod zone;
