// SPDX-License-Identifier: Apache-2.0

//! nginx as the WebSocket server.
//!
//! A location is connected to a program, to a channel in shared memory or to a TCP service. The crate is laid out
//! so that everything that can be right or wrong without nginx is plain Rust:
//!
//! - [`ws`]: the WebSocket protocol, bytes and time in, events and bytes out;
//! - [`exec`]: what a program is given, how its output is framed, and the process that starts it;
//! - [`channel`]: the message store in shared memory, subscriptions, and the wire forms of a message;
//! - [`tcp`]: the rules of relaying to a TCP service;
//! - [`conf`]: the values of the directives;
//! - [`json`]: JSON, as far as it is needed;
//! - [`ledger`]: what the workers count for each location, in memory that they share;
//! - [`recording`]: what is written down of sessions, and the process that writes it;
//! - [`session`]: what is between a client and its endpoint, event by event;
//! - [`redis`]: what is said to the engine behind channels of several machines;
//! - [`status`]: the figures of all locations, and their forms;
//! - `nginx` (feature `module`): the only place that knows nginx.

pub mod channel;
pub mod conf;
pub mod exec;
pub mod json;
pub mod ledger;
#[cfg(feature = "module")]
#[allow(unsafe_code)]
mod nginx;
pub mod recording;
pub mod redis;
pub mod session;
pub mod status;
pub mod tcp;
pub mod ws;
