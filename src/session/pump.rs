// SPDX-License-Identifier: Apache-2.0

//! Moving messages between client and endpoint, one turn after another.

use std::mem;

use super::client::{Client, Lost, Sent};
use super::endpoint::{Ending, Outlet, Produced, Started};
use super::{Behind, Flow, Host, Session, SessionEnd, SessionStage, Severity, buffers};
use crate::ws::close::CloseCode;
use crate::ws::timing::Expiry;

/// Turns one event may take before other connections get theirs.
const TURNS: u32 = 16;

/// What a step has come to, if others follow in this turn; else how the event ends.
pub(super) type Step<T> = Result<T, Flow>;

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
