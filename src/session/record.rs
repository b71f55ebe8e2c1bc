// SPDX-License-Identifier: Apache-2.0

//! What is known of a session, or of another client, when its request is logged.

use crate::channel::position::MessageId;
use crate::exec::spawner::ExitStatus;
use crate::ws::close::CloseCode;
use crate::ws::connection::Closed;

/// The values behind the `$websocket_…` variables, as far as a session or a subscriber changes them. It outlives the
/// session: the log is written after that is gone.
#[derive(Debug, Clone, Default)]
pub struct Record {
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
    /// The last message that was published or delivered.
    pub message_id: Option<MessageId>,
    /// The process that served it.
    pub exec_pid: Option<i32>,
    /// How that ended.
    pub exec_status: Option<ExitStatus>,
}

impl Record {
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
