// SPDX-License-Identifier: Apache-2.0

//! The WebSocket protocol (RFC 6455) without I/O: octets and the time in, events, octets and a deadline out.

pub mod close;
pub mod connection;
pub mod deflate;
pub mod field;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod origin;
pub mod scratch;
pub mod timing;
pub mod utf8;
pub mod violation;

pub use close::CloseCode;
pub use connection::{Connection, Data, Event, Limits, Received, SendError};
pub use frame::MessageKind;
pub use scratch::Scratch;
pub use violation::Violation;
