//! Directives whose value is one of a few words.

use crate::exec::framing::Format;
use crate::tcp::proxy_protocol;
use crate::ws::frame::Kind;

/// `websocket_exec_stderr`: what becomes of the program's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecStderr {
    /// One line of the error log per line.
    Log,
    /// One text message per line.
    Client,
    /// Dropped.
    Null,
}

pub(super) const EXEC_FORMATS: &[(&str, Format)] =
    &[("lines", Format::Lines), ("bytes", Format::Bytes), ("messages", Format::Messages)];

pub(super) const EXEC_STDERRS: &[(&str, ExecStderr)] =
    &[("log", ExecStderr::Log), ("client", ExecStderr::Client), ("null", ExecStderr::Null)];

pub(super) const TCP_FORMATS: &[(&str, Kind)] = &[("binary", Kind::Binary), ("text", Kind::Text)];

pub(super) const PROXY_PROTOCOLS: &[(&str, Option<proxy_protocol::Version>)] =
    &[("off", None), ("v1", Some(proxy_protocol::Version::V1)), ("v2", Some(proxy_protocol::Version::V2))];
