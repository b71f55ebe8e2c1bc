// SPDX-License-Identifier: Apache-2.0

//! Channels: messages in shared memory, subscriptions, and the forms in which messages are sent.
//!
//! A worker takes a [slot](store::Store::claim) in the zone when it begins. Whoever publishes is told which slots are to
//! be [woken](store::Wake), and how is not the business of this room. A woken worker
//!
//! 1. [collects](fanout::FanOut::collect) what is new, which takes the lock once;
//! 2. asks for the [next](fanout::FanOut::next) subscriber, [looks](fanout::FanOut::peek) at what it is to be sent, writes
//!    that, and [advances](fanout::FanOut::advance) it by what [was begun](fanout::Batch::begun); if not everything was
//!    written the subscriber is [blocked](fanout::FanOut::block) until its socket takes more;
//! 3. does so until there is nothing left, or until it is time for other work: then it goes on a little later.
//!
//! About once a second each worker [tends](store::Store::tend) the zone, [tidies](fanout::FanOut::tidy) its own memory,
//! and collects if it [has news](store::Log::has_news) without having been woken: somebody who was to wake it may have
//! been killed before.

pub mod backend;
pub mod departures;
pub mod event;
pub mod fanout;
pub mod hook;
pub mod info;
mod journal;
pub mod lock;
pub mod memory;
pub mod message;
#[cfg(test)]
mod model;
mod notice;
pub mod position;
pub mod process;
pub mod store;
pub mod streaming;
pub mod transport;
pub mod v1;
pub mod wire;

mod fail;
mod hash;
mod zone;

/// Atomic integers of all processes.
mod atomic {
    pub use std::sync::atomic::{AtomicU32, Ordering, fence};
}
