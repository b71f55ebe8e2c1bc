// SPDX-License-Identifier: Apache-2.0

//! Directives whose value is one of a few words.

use crate::channel::wire::Naming;
use crate::exec::framing::Format;
use crate::exec::terminal::SizePolicy;
use crate::status::StatusForm;
use crate::tcp::proxy_protocol;
use crate::ws::frame::MessageKind;

/// `websocket_exec_stderr`: what becomes of the program's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecStderr {
    /// One line of the error log per line.
    Log,
    /// One text message per line.
    Client,
    /// Both: a line of the error log, and a text message that says that it is one of standard error.
    Both,
    /// Dropped.
    Null,
}

pub(super) const EXEC_FORMATS: &[(&str, Format)] =
    &[("lines", Format::Lines), ("bytes", Format::Bytes), ("messages", Format::Messages)];

/// `websocket_exec_request`: whether a POST starts the program.
pub(super) const EXEC_REQUESTS: &[(&str, bool)] = &[("off", false), ("post", true)];

pub(super) const EXEC_PTY_SIZES: &[(&str, SizePolicy)] =
    &[("smallest", SizePolicy::Smallest), ("writer", SizePolicy::Writer)];

pub(super) const EXEC_STDERRS: &[(&str, ExecStderr)] =
    &[("log", ExecStderr::Log), ("client", ExecStderr::Client), ("both", ExecStderr::Both), ("null", ExecStderr::Null)];

pub(super) const TCP_FORMATS: &[(&str, MessageKind)] = &[("binary", MessageKind::Binary), ("text", MessageKind::Text)];

/// `websocket_tcp_accept`: whether the handshake is answered before the service is connected.
pub(super) const TCP_ACCEPTS: &[(&str, bool)] = &[("connected", false), ("always", true)];

pub(super) const PROXY_PROTOCOLS: &[(&str, Option<proxy_protocol::Version>)] =
    &[("off", None), ("v1", Some(proxy_protocol::Version::V1)), ("v2", Some(proxy_protocol::Version::V2))];

/// `mode=` of `websocket_channel`: what clients may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelMode {
    /// Subscribe.
    #[default]
    Sub,
    /// Publish.
    Pub,
    /// Clients subscribe and publish.
    PubSub,
    /// Clients neither subscribe nor publish: they are told what is known of the channels and who is there.
    Info,
}

impl ChannelMode {
    /// Whether clients may publish.
    pub fn publishes(self) -> bool {
        matches!(self, Self::Pub | Self::PubSub)
    }

    /// Whether clients may subscribe.
    pub fn subscribes(self) -> bool {
        matches!(self, Self::Sub | Self::PubSub)
    }

    /// Whether clients may delete channels where `websocket_channel_delete` says this about it; `None` where it says
    /// nothing. Only who may publish may delete; of those who also subscribe anybody could, so that this has to be said.
    pub fn deletes(self, said: Option<bool>) -> bool {
        self.publishes() && said.unwrap_or(self == Self::Pub)
    }
}

/// `websocket_channel_lag`: what is done with a subscriber that cannot be told of the messages it lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelLag {
    /// The subscriber is closed: a WebSocket with 1013.
    Close,
    /// The subscriber goes on with the oldest message that is kept.
    Skip,
}

pub(super) const CHANNEL_MODES: &[(&str, ChannelMode)] = &[
    ("sub", ChannelMode::Sub),
    ("pub", ChannelMode::Pub),
    ("pubsub", ChannelMode::PubSub),
    ("info", ChannelMode::Info),
];

pub(super) const CHANNEL_TELL_IDS: &[(&str, Option<Naming>)] =
    &[("off", None), ("on", Some(Naming::Field)), ("event", Some(Naming::Event))];

/// `websocket_channel_longpoll`: what the response to a long-poll or a poll has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelLongPoll {
    /// One message.
    Single,
    /// All that are there, as parts of `multipart/mixed`.
    Multipart,
    /// All that are there, each followed by `websocket_channel_separator`.
    Raw,
}

pub(super) const CHANNEL_LONGPOLLS: &[(&str, ChannelLongPoll)] =
    &[("single", ChannelLongPoll::Single), ("multipart", ChannelLongPoll::Multipart), ("raw", ChannelLongPoll::Raw)];

pub(super) const CHANNEL_LAGS: &[(&str, ChannelLag)] = &[("close", ChannelLag::Close), ("skip", ChannelLag::Skip)];

pub(super) const STATUS_FORMS: &[(&str, StatusForm)] =
    &[("json", StatusForm::Json), ("prometheus", StatusForm::Prometheus), ("text", StatusForm::Text)];
