//! What is known of a session until its request is logged.

use super::SessionRef;
use crate::channel::position::MessageId;
use crate::exec::spawner::ExitStatus;
use crate::nginx::hold::Holder;
use crate::nginx::request::{Request, bytes};
use crate::ws::close::CloseCode;
use crate::ws::connection::Closed;

/// The values behind the `$websocket_…` variables. It lives in the request's pool: nginx writes the log after the session
/// is gone.
#[derive(Default)]
pub struct Context {
    /// Who holds the request, while somebody does.
    pub holder: Option<Holder>,
    /// `exec`, `channel` or `tcp`.
    pub endpoint: Option<&'static str>,
    /// The subprotocol that was selected; the text is in the pool of the request.
    pub protocol: Option<&'static str>,
    /// Messages from the client.
    pub messages_in: u64,
    /// Messages to the client.
    pub messages_out: u64,
    /// Payload octets from the client.
    pub bytes_in: u64,
    /// Payload octets to the client.
    pub bytes_out: u64,
    /// The first Close.
    pub closed: Option<Closed>,
    /// The WebSocket was open, and has ended.
    pub ended: bool,
    /// The channel ids of the request, joined by commas; the text is in the pool of the request.
    pub channel_id: Option<&'static [u8]>,
    /// The last message that was published or delivered.
    pub message_id: Option<MessageId>,
    /// The process that served it.
    pub exec_pid: Option<i32>,
    /// How that ended.
    pub exec_status: Option<ExitStatus>,
}

impl Context {
    /// What a copy of the request is to know; the texts are copied. `None` when there is no memory.
    pub fn copy_for(&self, copy: Request) -> Option<Self> {
        let protocol = match self.protocol {
            Some(protocol) => Some(copy.keep_text(protocol)?),
            None => None,
        };
        let channel_id = match self.channel_id {
            Some(id) => Some(bytes(&copy.copy(id)?)),
            None => None,
        };
        Some(Context {
            holder: None,
            endpoint: self.endpoint,
            protocol,
            messages_in: self.messages_in,
            messages_out: self.messages_out,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            closed: self.closed,
            ended: self.ended,
            channel_id,
            message_id: self.message_id,
            exec_pid: self.exec_pid,
            exec_status: self.exec_status,
        })
    }

    /// The session that holds the request, if one does.
    pub fn session(&self) -> Option<SessionRef> {
        match self.holder {
            Some(Holder::Session(session)) => Some(session),
            Some(Holder::Waiting(_) | Holder::Caller(_)) | None => None,
        }
    }

    /// The code of the first Close, by which its end is told from others: 1005 for a Close without a code, 1006 for an end
    /// without a Close (RFC 6455, section 7.1.5). `None` before the end, and where no WebSocket was opened.
    pub fn close_code(&self) -> Option<u16> {
        const NO_STATUS: u16 = 1005;
        const ABNORMAL: u16 = 1006;
        match self.closed {
            Some(closed) => Some(closed.code.map_or(NO_STATUS, CloseCode::number)),
            None => self.ended.then_some(ABNORMAL),
        }
    }

    /// Counts a message to the client.
    pub fn message_out(&mut self, octets: usize) {
        self.messages_out += 1;
        self.octets_out(octets);
    }

    /// Counts payload to the client.
    pub fn octets_out(&mut self, octets: usize) {
        self.bytes_out += octets as u64;
    }

    /// Counts a piece of a message from the client.
    pub fn data_in(&mut self, octets: usize, last: bool) {
        self.bytes_in += octets as u64;
        self.messages_in += u64::from(last);
    }
}
