// SPDX-License-Identifier: Apache-2.0

//! What is known of a session, or of another client, when its request is logged.

use std::cell::Cell;

use crate::channel::position::MessageId;
use crate::exec::spawner::ExitStatus;
use crate::ws::close::CloseCode;
use crate::ws::connection::Closed;

/// The values behind the `$websocket_…` variables, as far as a session or a subscriber changes them. It outlives the
/// session: the log is written after that is gone. The session, its endpoint and the variables look at it at once.
#[derive(Debug, Default)]
pub struct Record {
    /// Messages from the client.
    pub messages_in: Cell<u64>,
    /// Messages to the client.
    pub messages_out: Cell<u64>,
    /// Payload octets from the client.
    pub bytes_in: Cell<u64>,
    /// Payload octets to the client.
    pub bytes_out: Cell<u64>,
    /// The first Close.
    pub closed: Cell<Option<Closed>>,
    /// The WebSocket was open, and has ended.
    pub ended: Cell<bool>,
    /// The last message that was published or delivered.
    pub message_id: Cell<Option<MessageId>>,
    /// The process that served it.
    pub exec_pid: Cell<Option<i32>>,
    /// How that process ended.
    pub exec_status: Cell<Option<ExitStatus>>,
}

impl Record {
    /// The code of the first Close, by which its end is told from others: 1005 for a Close without a code, 1006 for an end
    /// without a Close (RFC 6455, section 7.1.5). `None` before the end, and where no WebSocket was opened.
    pub fn close_code(&self) -> Option<u16> {
        const NO_STATUS: u16 = 1005;
        const ABNORMAL: u16 = 1006;
        match self.closed.get() {
            Some(closed) => Some(closed.code.map_or(NO_STATUS, CloseCode::number)),
            None => self.ended.get().then_some(ABNORMAL),
        }
    }

    /// Counts messages to the client and their payload.
    pub fn sent(&self, messages: u64, octets: u64) {
        add(&self.messages_out, messages);
        add(&self.bytes_out, octets);
    }

    /// Counts a message to the client.
    pub fn message_out(&self, octets: usize) {
        add(&self.messages_out, 1);
        self.octets_out(octets);
    }

    /// Counts payload to the client.
    pub fn octets_out(&self, octets: usize) {
        add(&self.bytes_out, octets as u64);
    }

    /// Counts a piece of a message from the client.
    pub fn data_in(&self, octets: usize, last: bool) {
        add(&self.bytes_in, octets as u64);
        add(&self.messages_in, u64::from(last));
    }

    /// Becomes what another one is.
    pub fn copy_from(&self, other: &Record) {
        let Record { messages_in, messages_out, bytes_in, bytes_out, closed, ended, message_id, exec_pid, exec_status } =
            self;
        messages_in.set(other.messages_in.get());
        messages_out.set(other.messages_out.get());
        bytes_in.set(other.bytes_in.get());
        bytes_out.set(other.bytes_out.get());
        closed.set(other.closed.get());
        ended.set(other.ended.get());
        message_id.set(other.message_id.get());
        exec_pid.set(other.exec_pid.get());
        exec_status.set(other.exec_status.get());
    }
}

fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}
