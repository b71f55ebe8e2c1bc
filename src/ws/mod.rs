//! The WebSocket protocol (RFC 6455) without I/O: octets and the time in, events, octets and a deadline out.

pub mod close;
pub mod frame;
pub mod mask;
pub mod utf8;
