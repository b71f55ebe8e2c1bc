//! Directives whose value is one of a few words.

use crate::exec::framing::Format;

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
