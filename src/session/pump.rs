// SPDX-License-Identifier: Apache-2.0

//! Moving messages between client and endpoint, one turn after another.

use std::mem;

use super::client::{Client, Lost, Received, Sent};
use super::endpoint::{Ending, Outlet, Produced, Started};
use super::{Behind, Flow, Host, Output, Session, SessionEnd, SessionStage, Severity, buffers};
use crate::recording::{Direction, Piece};
use crate::ws::close::CloseCode;
use crate::ws::connection::{Data, Event};
use crate::ws::frame::MAX_CONTROL;
use crate::ws::timing::Expiry;
use crate::ws::violation::Violation;

/// Octets of Pongs that a client may have waiting beyond its limit before it is not read any more.
const PONGS: usize = 16 << 10;

/// Turns one event may take before other connections get theirs.
const TURNS: u32 = 16;

/// What a step has come to, if others follow in this turn; else how the event ends.
type Step<T> = Result<T, Flow>;

impl<H: Host> Session<H> {
    /// Does what can be done now.
    pub fn pump(&mut self) -> Flow {
        match self.stage {
            SessionStage::Starting { .. } => return self.start(),
            SessionStage::Parting { .. } => return self.parted(),
            SessionStage::Created | SessionStage::Over => return Flow::Continue(()),
            SessionStage::Open { .. } | SessionStage::Grace { .. } | SessionStage::Closing(_) => {}
        }
        self.settle();
        // The 101 may not have left yet, and must not be overtaken.
        if !self.client.is_drained() {
            match self.client.drain() {
                Ok(true) => {}
                Ok(false) => return self.watch(),
                Err(Lost) => return Flow::Break(SessionEnd::Dropped),
            }
        }
        for _ in 0..TURNS {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return self.watch(),
                Err(flow) => return flow,
            }
        }
        self.host.post_turn();
        self.watch()
    }

    /// The endpoint may have got on.
    fn start(&mut self) -> Flow {
        match self.stage.endpoint_mut().map(|endpoint| endpoint.start()) {
            None | Some(Started::NotYet) => Flow::Continue(()),
            Some(Started::Yes) => self.opened(),
            Some(Started::No(status)) => Flow::Break(SessionEnd::Refused(status)),
        }
    }

    /// The timer fired, or another turn was due.
    pub fn on_time(&mut self) -> Flow {
        if self.host.take_expired() {
            self.deadlines.fired();
        }
        match self.stage {
            SessionStage::Starting { .. } => {
                let time = self.deadlines.wait(self.host.now());
                self.host.set_timer(time);
                return Flow::Continue(());
            }
            SessionStage::Parting { .. } => return self.parted(),
            SessionStage::Created | SessionStage::Over => return Flow::Continue(()),
            SessionStage::Open { .. } | SessionStage::Grace { .. } | SessionStage::Closing(_) => {}
        }
        let look = self.client.look();
        let now = self.host.now();
        self.deadlines.timers().on_look(now, look);
        while let Some(expiry) = self.deadlines.expire(now) {
            match expiry {
                Expiry::Ping => {
                    let behind = !self.output.is_empty() || self.client.has_queued();
                    self.deadlines.timers().on_ping(now, behind);
                    // Only an open session is due for one; a Close that went out meanwhile makes it needless.
                    let _ = self.ws.ping(b"", self.output.frames());
                    self.ws.shrink();
                }
                Expiry::PingTimeout => return self.give_up("the client did not answer a Ping in time"),
                Expiry::SendTimeout => return self.give_up("the client accepted nothing in time"),
                Expiry::CloseTimeout => return self.give_up("the client did not answer the Close in time"),
                Expiry::Idle => self.begin_close(CloseCode::GOING_AWAY, "idle"),
                Expiry::Drain => self.begin_close(CloseCode::RESTART, "restart"),
                Expiry::Grace => self.close_as_planned(),
                Expiry::EndpointTimeout => self.endpoint_timed_out(),
                Expiry::Leave => {
                    if let Some(endpoint) = self.stage.endpoint_mut() {
                        endpoint.leave();
                    }
                }
            }
        }
        let mark = self.moved();
        let has_taken = |stage: &mut SessionStage<_>| stage.endpoint_mut().is_some_and(|endpoint| endpoint.has_taken());
        if self.deadlines.is_abandoned(now, mark) && !has_taken(&mut self.stage) {
            return self.client_lost("the client hung up");
        }
        self.pump()
    }

    /// The worker is told to go: the session ends at `at`.
    pub fn drain(&mut self, at: u64) -> Flow {
        self.deadlines.timers().on_drain(at);
        // While the endpoint is starting there is nothing to be closed: the time is looked at when the session is open.
        if self.stage.is_answered() {
            self.arm();
        }
        Flow::Continue(())
    }

    /// Sets the timer for the next deadline, if that is before the time that it is set to.
    fn arm(&mut self) {
        let now = self.host.now();
        let pause = self.paces.as_ref().and_then(|paces| paces.pause(now));
        if let Some(milliseconds) = self.deadlines.arm(now, pause) {
            self.host.set_timer(milliseconds);
        }
    }

    /// One round: from the client, to the endpoint, from the endpoint, to the client. Whether anything moved.
    fn turn(&mut self) -> Step<bool> {
        let mut moved = self.deliver_ahead();
        moved |= self.read_client()?;
        moved |= self.flush_endpoint();
        moved |= self.read_endpoint();
        let waiting = self.output.len();
        if waiting > 0 {
            let sent = self.output.flush(&mut self.client);
            let left = self.output.len();
            if left < waiting {
                moved = true;
                self.deadlines.timers().on_sent(self.host.now(), left > 0);
            }
            match sent {
                Sent::Lost => return Err(self.client_lost("the connection was lost while sending")),
                Sent::Blocked => {
                    // What is taken from now on counts as a sign of life when the time is over.
                    self.client.look();
                    self.deadlines.timers().on_blocked(self.host.now());
                }
                Sent::Octets(_) => {}
            }
        } else {
            self.output.settle();
        }
        if matches!(self.stage, SessionStage::Closing(_)) && self.output.is_empty() && self.ws.finished() {
            return Err(self.part(SessionEnd::Finished));
        }
        Ok(moved)
    }

    /// Passes on what the endpoint has got, and notes whether it takes it. Whether anything moved.
    fn flush_endpoint(&mut self) -> bool {
        let now = self.host.now();
        let Some(endpoint) = self.stage.endpoint_mut() else { return false };
        let moved = endpoint.flush();
        let timers = self.deadlines.timers();
        let waits = endpoint.waits();
        if waits && !endpoint.accepts() && (moved || !timers.endpoint_waits()) {
            // What is taken from now on counts when the time is over.
            endpoint.has_taken();
        }
        timers.on_endpoint(now, waits);
        if moved {
            timers.on_endpoint_taken(now);
        }
        moved
    }

    /// Gives the endpoint what was read before it could take it. Whether that was anything.
    fn deliver_ahead(&mut self) -> bool {
        let mut moved = false;
        while !self.ahead.is_empty() {
            let Some(endpoint) = self.stage.endpoint_mut().filter(|endpoint| endpoint.accepts()) else { break };
            let Some(piece) = self.ahead.pop() else { break };
            moved = true;
            if let Err(ending) = endpoint.deliver(&piece.data()) {
                self.ahead.clear();
                if !matches!(self.stage, SessionStage::Grace { .. }) {
                    self.refuse(ending);
                }
            }
        }
        moved
    }

    /// The endpoint has taken nothing for as long as it may.
    fn endpoint_timed_out(&mut self) {
        let now = self.host.now();
        let Some(endpoint) = self.stage.endpoint_mut() else { return };
        if endpoint.has_taken() {
            let waits = endpoint.waits();
            self.deadlines.timers().on_endpoint(now, waits);
            self.deadlines.timers().on_endpoint_taken(now);
            return;
        }
        let Ending { code, reason } = endpoint.stuck();
        self.report(Severity::Error, format_args!("{reason}"));
        self.begin_close(code, &reason);
    }

    /// The session has come to its end. The log tells how the program ended if that becomes known soon.
    fn part(&mut self, end: SessionEnd) -> Flow {
        let Some(program) = self.leave_endpoint() else { return Flow::Break(end) };
        let until = self.host.now() + program.patience;
        if !self.output.is_empty() {
            self.client.give_up();
            self.output = Output::default();
        }
        self.stage = SessionStage::Parting { end, until, program };
        self.parted()
    }

    /// Whether the program that was left has ended, or is not waited for any more.
    fn parted(&mut self) -> Flow {
        let SessionStage::Parting { end, until, program } = &self.stage else { return Flow::Continue(()) };
        let left = until.saturating_sub(self.host.now());
        if program.end.status().is_some() || left == 0 {
            return Flow::Break(*end);
        }
        // The connection may be broken: that is no news.
        self.client.watch();
        self.host.set_timer(left);
        Flow::Continue(())
    }

    /// Whether the client's octets can be looked at: nothing stands in the way of what they may ask for.
    fn may_parse(&self) -> bool {
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

    /// Reads the client once. Whether anything came.
    fn read_client(&mut self) -> Step<bool> {
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

    /// The client's Close came: what was queued ahead of the answer leaves, the endpoint is let go.
    fn closed_by_client(&mut self) {
        let program = self.leave_endpoint();
        self.note_close();
        self.stage = SessionStage::Closing(Behind::Left(program));
    }

    /// Our Close is queued: what is before it may take its time, as long as the client takes it.
    fn note_close(&mut self) {
        let behind = self.output.len() > MAX_CONTROL + 2 || self.client.has_queued();
        self.client.look();
        self.deadlines.timers().on_close(self.host.now(), behind);
    }

    /// The client broke a rule.
    fn violated(&mut self, violation: Violation) {
        self.report(Severity::Info, format_args!("the client broke the protocol: {violation}"));
        self.refuse(Ending { code: violation.code(), reason: violation.reason().to_owned() });
    }

    /// Nothing more of the client is looked at. The endpoint may still answer what it got before.
    fn refuse(&mut self, planned: Ending) {
        match mem::replace(&mut self.stage, SessionStage::Created) {
            SessionStage::Open { endpoint } if self.answers_due => {
                self.stage = SessionStage::Grace { endpoint, planned };
                self.deadlines.timers().on_violation(self.host.now());
            }
            stage => {
                self.stage = stage;
                self.begin_close(planned.code, &planned.reason);
            }
        }
    }

    /// The endpoint has had its time to answer.
    fn close_as_planned(&mut self) {
        if let SessionStage::Grace { planned, .. } = &mut self.stage {
            let (code, reason) = (planned.code, mem::take(&mut planned.reason));
            self.begin_close(code, &reason);
        }
    }

    /// Queues our Close and lets the endpoint go.
    pub(super) fn begin_close(&mut self, code: CloseCode, reason: &str) {
        let program = self.leave_endpoint();
        self.queue_close(code, reason);
        self.stage = SessionStage::Closing(Behind::Left(program));
    }

    /// Queues our Close, unless one has gone out.
    fn queue_close(&mut self, code: CloseCode, reason: &str) {
        self.send_close(code, reason);
        self.note_close();
    }

    /// Lets the endpoint make messages. Whether it did.
    fn read_endpoint(&mut self) -> bool {
        let (SessionStage::Open { endpoint } | SessionStage::Grace { endpoint, .. }) = &mut self.stage else {
            return false;
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.at(self.host.now());
        }
        let mut pace = self.paces.as_mut().and_then(|paces| paces.endpoint.as_mut());
        let allowance = pace.as_mut().map_or(usize::MAX, |pace| pace.allowance(self.host.now()));
        let mut scratch = buffers::take_scratch();
        let mut outlet = Outlet {
            ws: &mut self.ws,
            output: &mut self.output,
            recorder: self.recorder.as_deref_mut(),
            scratch: &mut scratch,
            record: &self.record,
            limit: self.send_limit,
            allowance,
            log: &self.host,
        };
        let produced = endpoint.produce(&mut outlet);
        let count = allowance - outlet.allowance();
        buffers::put_scratch(scratch);
        if let Some(pace) = pace.filter(|_| count > 0) {
            pace.on_read(count, self.host.now());
        }
        match produced {
            Produced::Nothing => false,
            Produced::Leaving => {
                self.deadlines.timers().on_leaving(self.host.now());
                false
            }
            Produced::Some => {
                self.deadlines.timers().on_message(self.host.now());
                true
            }
            Produced::Ended(_) | Produced::Silent(_) if matches!(self.stage, SessionStage::Grace { .. }) => {
                self.close_as_planned();
                true
            }
            Produced::Ended(Ending { code, reason }) => {
                self.begin_close(code, &reason);
                true
            }
            Produced::Silent(Ending { code, reason }) => {
                self.stage = match mem::replace(&mut self.stage, SessionStage::Created) {
                    SessionStage::Open { endpoint } => SessionStage::Closing(Behind::Listening(endpoint)),
                    other => other,
                };
                self.queue_close(code, &reason);
                self.ws.keep_listening();
                true
            }
        }
    }

    fn give_up(&mut self, why: &str) -> Flow {
        self.report(Severity::Info, format_args!("{why}"));
        self.part(SessionEnd::Dropped)
    }

    fn client_lost(&mut self, how: &str) -> Flow {
        if !matches!(self.stage, SessionStage::Closing(_)) {
            self.report(Severity::Info, format_args!("{how}"));
        }
        self.part(SessionEnd::Dropped)
    }

    /// Grows whenever a side takes something.
    fn moved(&self) -> u64 {
        self.stage.endpoint().map_or(0, |endpoint| endpoint.progress()) + self.client.sent()
    }

    /// Asks for the next event.
    fn watch(&mut self) -> Flow {
        if !self.client.watch() {
            return Flow::Break(SessionEnd::Dropped);
        }
        // The client is not read while its endpoint is full, but its hang-up shows. A client that only shut down its
        // sending side may still be reading: it is given up when nothing moves any more.
        if self.client.hung_up() && !self.may_parse() && matches!(self.stage, SessionStage::Open { .. }) {
            let mark = self.moved();
            self.deadlines.on_hangup(self.host.now(), mark, !self.output.is_empty());
        }
        self.arm();
        Flow::Continue(())
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
