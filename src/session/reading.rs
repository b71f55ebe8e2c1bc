// SPDX-License-Identifier: Apache-2.0

//! The octets of the client: when they are read, and what their frames ask for.

use std::mem;

use super::client::{Client, Received};
use super::endpoint::Ending;
use super::pump::Step;
use super::{Behind, Host, Session, SessionStage, Severity, buffers};
use crate::recording::{Direction, Piece};
use crate::ws::close::CloseCode;
use crate::ws::connection::{Data, Event};

/// Octets of Pongs that a client may have waiting beyond its limit before it is not read any more.
const PONGS: usize = 16 << 10;

impl<H: Host> Session<H> {
    /// Reads the client once. Whether anything came.
    pub(super) fn read_client(&mut self) -> Step<bool> {
        if self.output.len() < self.send_limit {
            self.pongs_beyond = 0;
        }
        let allowance = self.client_allowance();
        if allowance == 0 || !self.may_parse() {
            self.deadlines.timers().on_pause();
            return Ok(false);
        }
        self.deadlines.timers().on_resume(self.host.now());
        if !self.unparsed.is_empty() {
            let mut octets = mem::take(&mut self.unparsed);
            let waiting = octets.len();
            self.parse(&mut octets);
            return Ok(self.unparsed.len() < waiting);
        }
        if !self.client.readable() || (self.client.hung_up() && self.has_messages_in_turn()) {
            return Ok(false);
        }
        let mut buffer = buffers::take_reading();
        let most = allowance.min(buffer.len());
        let result = match self.client.receive(&mut buffer[..most]) {
            Received::Octets(count) => {
                if let Some(pace) = self.paces.as_mut().and_then(|paces| paces.client.as_mut()) {
                    pace.on_read(count, self.host.now());
                }
                self.deadlines.timers().on_receive(self.host.now());
                self.parse(&mut buffer[..count]);
                Ok(true)
            }
            Received::Blocked => Ok(false),
            Received::End => Err(self.client_lost("the client closed the connection without a Close")),
            Received::Lost => Err(self.client_lost("the connection was lost while receiving")),
        };
        buffers::put_reading(buffer);
        result
    }

    /// Octets that may be read of the client: all of them where nothing is to get them, since only its Close is looked for then.
    fn client_allowance(&mut self) -> usize {
        match (&mut self.paces, &self.stage) {
            (None, _) | (_, SessionStage::Closing(Behind::Left(_))) => usize::MAX,
            (Some(paces), _) => {
                let now = self.host.now();
                paces.client.as_mut().map_or(usize::MAX, |pace| pace.allowance(now))
            }
        }
    }

    /// Whether the client's octets can be looked at: nothing stands in the way of what they may ask for.
    pub(super) fn may_parse(&self) -> bool {
        match &self.stage {
            // A client that does not read may say that it goes all the same; its Pings are answered for a while.
            SessionStage::Open { .. } => {
                (self.output.len() < self.send_limit || self.pongs_beyond < PONGS) && self.ahead.has_room()
            }
            // Only the client's Close is looked for, unless the endpoint still takes what comes before it.
            SessionStage::Closing(behind) => {
                self.ws.awaits_close() && (matches!(behind, Behind::Left(_)) || self.ahead.has_room())
            }
            SessionStage::Created
            | SessionStage::Starting { .. }
            | SessionStage::Grace { .. }
            | SessionStage::Parting { .. }
            | SessionStage::Over => false,
        }
    }

    /// Makes events of octets. What cannot be taken now is kept.
    fn parse(&mut self, octets: &mut [u8]) {
        let mut scratch = buffers::take_scratch();
        let mut rest = octets;
        while !rest.is_empty() {
            if !self.may_parse() {
                let is_closing = matches!(self.stage, SessionStage::Closing(_)) && self.ws.awaits_close();
                if is_closing || matches!(self.stage, SessionStage::Open { .. }) {
                    self.unparsed.extend_from_slice(rest);
                }
                break;
            }
            if self.close_is_early(rest) {
                self.unparsed.extend_from_slice(rest);
                break;
            }
            let waiting = self.output.len();
            let received = self.ws.receive(rest, &mut scratch, self.output.frames());
            let consumed = received.consumed;
            let refused = match received.event {
                None => break,
                Some(Event::Data(data)) => {
                    self.record.data_in(data.payload.len(), data.last);
                    self.deadlines.timers().on_message(self.host.now());
                    match &mut self.stage {
                        // A session that closes has an endpoint only if that still listens.
                        SessionStage::Open { endpoint } | SessionStage::Closing(Behind::Listening(endpoint)) => {
                            if let Some(recorder) = &mut self.recorder {
                                recorder.at(self.host.now());
                                recorder.piece(&received_piece(&data));
                            }
                            let refused = if self.ahead.is_empty() && endpoint.accepts() {
                                endpoint.deliver(&data).err()
                            } else if self.ahead.push(&data) {
                                None
                            } else {
                                Some(no_memory())
                            };
                            self.answers_due |= refused.is_none();
                            refused
                        }
                        _ => None,
                    }
                }
                Some(Event::Ping | Event::Pong) => {
                    if waiting >= self.send_limit {
                        self.pongs_beyond += self.output.len() - waiting;
                    }
                    None
                }
                Some(Event::Close { code, reason }) => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.at(self.host.now());
                        recorder.close(Direction::In, code, reason);
                    }
                    let code = code.map(|code| code.to_string()).unwrap_or_default();
                    self.host.report(Severity::Info, format_args!("the client closed: {code} \"{reason}\""));
                    // A client that sends more all the same is not done.
                    self.client_closed = consumed == rest.len();
                    self.closed_by_client();
                    None
                }
                Some(Event::Violation(violation)) => {
                    self.violated(violation);
                    None
                }
            };
            if let Some(ending) = refused {
                self.refuse(ending);
            }
            rest = &mut rest[consumed..];
        }
        buffers::put_scratch(scratch);
    }

    /// Whether the next frame is a Close before which the endpoint has messages to deal with.
    fn close_is_early(&self, octets: &[u8]) -> bool {
        self.has_messages_in_turn() && self.ws.is_at_close(octets)
    }

    /// Whether the endpoint has messages to deal with before the client's end is one.
    fn has_messages_in_turn(&self) -> bool {
        let endpoint = self.stage.endpoint().filter(|endpoint| endpoint.is_in_turn());
        endpoint.is_some_and(|endpoint| !self.ahead.is_empty() || !endpoint.accepts())
    }
}

/// A piece of a message of the client, for a recording.
fn received_piece<'a>(data: &Data<'a>) -> Piece<'a> {
    let Data { kind, payload, first, last, .. } = *data;
    Piece { direction: Direction::In, kind, payload, first, last }
}

fn no_memory() -> Ending {
    Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() }
}
