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
    /// How long the WebSocket has been open, or was.
    pub time: Cell<SessionTime>,
}

/// How long a WebSocket has been open, by the clock of its host, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionTime {
    /// It was not opened.
    #[default]
    None,
    /// It was opened at this time, and is still open.
    Since(u64),
    /// It was open for so long, and is not any more: the connection may be there for a while.
    Lasted(u64),
}

impl SessionTime {
    /// How long until `now`; `None` if it was never open.
    pub fn until(self, now: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Since(opened) => Some(now.saturating_sub(opened)),
            Self::Lasted(time) => Some(time),
        }
    }

    /// It ends now.
    pub fn end(self, now: u64) -> Self {
        self.until(now).map_or(Self::None, Self::Lasted)
    }
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
        let Record {
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
            closed,
            ended,
            message_id,
            exec_pid,
            exec_status,
            time,
        } = self;
        messages_in.set(other.messages_in.get());
        messages_out.set(other.messages_out.get());
        bytes_in.set(other.bytes_in.get());
        bytes_out.set(other.bytes_out.get());
        closed.set(other.closed.get());
        ended.set(other.ended.get());
        message_id.set(other.message_id.get());
        exec_pid.set(other.exec_pid.get());
        exec_status.set(other.exec_status.get());
        time.set(other.time.get());
    }
}

fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_session() {
        assert_eq!(SessionTime::None.until(5), None);
        assert_eq!(SessionTime::None.end(5), SessionTime::None);
        assert_eq!(SessionTime::Since(1_000).until(3_500), Some(2_500));
        let ended = SessionTime::Since(1_000).end(1_250);
        assert_eq!(ended.until(9_000), Some(250), "what comes after the end does not count");
        assert_eq!(ended.end(9_000), ended);
    }
}
