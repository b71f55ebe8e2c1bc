// SPDX-License-Identifier: Apache-2.0

//! The engine behind channels that live on several machines: Redis or Valkey.
//!
//! What is said to a server and what its answers mean, without sockets, clocks and nginx: octets and time in, octets, events and
//! a deadline out. Names of channels, groups and messages are data: they are sent with their length, and never become part
//! of a command's text or of a script.

pub mod backoff;
pub mod batch;
pub mod cluster;
pub mod command;
pub mod connection;
pub mod envelope;
pub mod error;
pub mod names;
pub mod notice;
pub mod presence;
pub mod relay;
pub mod resp;
pub mod script;
pub mod sentinel;
pub mod url;
