//! Moving messages between client and endpoint, one turn after another.

use super::{Output, Session, Stage, Verdict};
use crate::nginx::client::{Received, Sent};
use crate::nginx::endpoint::{Ending, Outlet, Produced, Started};
use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::timer::now;
use crate::nginx::worker;
use crate::ws::close::CloseCode;
use crate::ws::connection::Event;
use crate::ws::frame::MAX_CONTROL;
use crate::ws::timing::Expiry;
use crate::ws::violation::Violation;

/// Octets of Pongs that a client may have waiting beyond its limit before it is not read any more.
const PONGS: usize = 16 << 10;

/// Turns one event may take before other connections get theirs.
const TURNS: u32 = 16;

impl Session {
    /// Does what can be done now.
    pub fn pump(&mut self) -> Verdict {
        match self.stage {
            Stage::Starting => return self.start(),
            Stage::Parting { verdict, until } => return self.parted(verdict, until),
            Stage::Open | Stage::Grace | Stage::Closing | Stage::Over => {}
        }
        self.settle();
        match self.drain_nginx() {
            Ok(true) => {}
            Ok(false) => return self.watch(),
            Err(verdict) => return verdict,
        }
        for _ in 0..TURNS {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return self.watch(),
                Err(verdict) => return verdict,
            }
        }
        self.timer.post_next();
        self.watch()
    }

    /// The endpoint may have got on.
    fn start(&mut self) -> Verdict {
        match self.endpoint.as_mut().map(|endpoint| endpoint.start()) {
            None | Some(Started::NotYet) => Verdict::Continue,
            Some(Started::Yes) => self.opened(),
            Some(Started::No(status)) => self.refused(status),
        }
    }

    /// The timer fired, or another turn was due.
    pub fn on_time(&mut self) -> Verdict {
        if self.timer.take_expired() {
            self.deadlines.fired();
        }
        match self.stage {
            Stage::Starting => {
                self.deadlines.wait(&mut self.timer);
                return Verdict::Continue;
            }
            Stage::Parting { verdict, until } => return self.parted(verdict, until),
            Stage::Open | Stage::Grace | Stage::Closing | Stage::Over => {}
        }
        let look = self.client.look();
        self.deadlines.timers().on_look(now(), look);
        while let Some(expiry) = self.deadlines.expire() {
            match expiry {
                Expiry::Ping => {
                    let behind = !self.output.is_empty() || self.client.has_queued();
                    self.deadlines.timers().on_ping(now(), behind);
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
                    if let Some(endpoint) = &mut self.endpoint {
                        endpoint.leave();
                    }
                }
            }
        }
        let mark = self.moved();
        if self.deadlines.is_abandoned(mark) && !self.endpoint.as_mut().is_some_and(|endpoint| endpoint.has_taken()) {
            return self.client_lost("the client hung up");
        }
        self.pump()
    }

    /// The worker is told to go: the session ends at `at`.
    pub fn drain(&mut self, at: u64) -> Verdict {
        self.deadlines.timers().on_drain(at);
        // While the endpoint is starting there is nothing to be closed: the time is looked at when the session is open.
        if self.stage != Stage::Starting {
            self.deadlines.arm(&mut self.timer);
        }
        Verdict::Continue
    }

    /// Lets nginx send what it still has of the 101, which must not be overtaken.
    fn drain_nginx(&mut self) -> Result<bool, Verdict> {
        // SAFETY: the request is alive; a null chain sends what is buffered.
        unsafe {
            if ffi::ngx_ws_connection_buffered(self.client.connection()) == 0 {
                return Ok(true);
            }
            if ffi::ngx_http_output_filter(self.request.raw(), std::ptr::null_mut()) == ffi::NGX_ERROR as isize {
                return Err(Verdict::Drop);
            }
            Ok(ffi::ngx_ws_connection_buffered(self.client.connection()) == 0)
        }
    }

    /// One round: from the client, to the endpoint, from the endpoint, to the client. Whether anything moved.
    fn turn(&mut self) -> Result<bool, Verdict> {
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
                self.deadlines.timers().on_sent(now(), left > 0);
            }
            match sent {
                Sent::Lost => return Err(self.client_lost("the connection was lost while sending")),
                Sent::Blocked => {
                    // What is taken from now on counts as a sign of life when the time is over.
                    self.client.look();
                    self.deadlines.timers().on_blocked(now());
                }
                Sent::Octets(_) => {}
            }
        } else {
            self.output.settle();
        }
        if self.stage == Stage::Closing && self.output.is_empty() && self.ws.finished() {
            return Err(self.part(Verdict::Finish));
        }
        Ok(moved)
    }

    /// Passes on what the endpoint has got, and notes whether it takes it. Whether anything moved.
    fn flush_endpoint(&mut self) -> bool {
        let Some(endpoint) = &mut self.endpoint else { return false };
        let moved = endpoint.flush();
        let timers = self.deadlines.timers();
        let waits = endpoint.waits();
        if waits && !endpoint.accepts() && (moved || !timers.endpoint_waits()) {
            // What is taken from now on counts when the time is over.
            endpoint.has_taken();
        }
        timers.on_endpoint(now(), waits);
        if moved {
            timers.on_endpoint_taken(now());
        }
        moved
    }

    /// Gives the endpoint what was read before it could take it. Whether that was anything.
    fn deliver_ahead(&mut self) -> bool {
        let mut moved = false;
        while !self.ahead.is_empty() {
            let Some(endpoint) = self.endpoint.as_mut().filter(|endpoint| endpoint.accepts()) else { break };
            let Some(piece) = self.ahead.pop() else { break };
            moved = true;
            if let Err(ending) = endpoint.deliver(&piece.data()) {
                self.ahead.clear();
                if self.planned.is_none() {
                    self.refuse(ending);
                }
            }
        }
        moved
    }

    /// The endpoint has taken nothing for as long as it may.
    fn endpoint_timed_out(&mut self) {
        let Some(endpoint) = &mut self.endpoint else { return };
        if endpoint.has_taken() {
            let waits = endpoint.waits();
            self.deadlines.timers().on_endpoint(now(), waits);
            self.deadlines.timers().on_endpoint_taken(now());
            return;
        }
        let Ending { code, reason } = endpoint.stuck();
        self.report(Level::Error, format_args!("{reason}"));
        self.begin_close(code, &reason);
    }

    /// The session has come to its end. The log tells how the program ended if that becomes known soon.
    fn part(&mut self, verdict: Verdict) -> Verdict {
        self.let_endpoint_go();
        let Some(aftermath) = &self.aftermath else { return verdict };
        let until = now() + aftermath.patience;
        if !self.output.is_empty() {
            self.client.give_up();
            self.output = Output::default();
        }
        self.stage = Stage::Parting { verdict, until };
        self.parted(verdict, until)
    }

    /// Whether the program that was left has ended, or is not waited for any more.
    fn parted(&mut self, verdict: Verdict, until: u64) -> Verdict {
        let pending = self.aftermath.as_ref().is_some_and(|aftermath| aftermath.fate.status().is_none());
        let left = until.saturating_sub(now());
        if !pending || left == 0 {
            return verdict;
        }
        // The connection may be broken: that is no news.
        self.client.watch();
        self.timer.disarm();
        self.timer.arm(left);
        Verdict::Continue
    }

    /// Whether the client's octets can be looked at: nothing stands in the way of what they may ask for.
    fn may_parse(&self) -> bool {
        match self.stage {
            // A client that does not read may say that it goes all the same; its Pings are answered for a while.
            Stage::Open => {
                (self.output.len() < self.send_limit() || self.pongs_beyond < PONGS)
                    && self.endpoint.is_some()
                    && self.ahead.has_room()
            }
            // Only the client's Close is looked for, unless the endpoint still takes what comes before it.
            Stage::Closing => self.ws.awaits_close() && (self.endpoint.is_none() || self.ahead.has_room()),
            Stage::Starting | Stage::Grace | Stage::Parting { .. } | Stage::Over => false,
        }
    }

    fn send_limit(&self) -> usize {
        usize::try_from(self.request.settings().send_buffer()).unwrap_or(usize::MAX)
    }

    /// Reads the client once. Whether anything came.
    fn read_client(&mut self) -> Result<bool, Verdict> {
        if self.output.len() < self.send_limit() {
            self.pongs_beyond = 0;
        }
        if !self.may_parse() {
            self.deadlines.timers().on_pause();
            return Ok(false);
        }
        self.deadlines.timers().on_resume(now());
        if !self.unparsed.is_empty() {
            let mut octets = std::mem::take(&mut self.unparsed);
            let waiting = octets.len();
            self.parse(&mut octets)?;
            return Ok(self.unparsed.len() < waiting);
        }
        if !self.client.readable() || (self.client.hung_up() && self.has_messages_in_turn()) {
            return Ok(false);
        }
        let mut buffer = worker::take_reading();
        let result = match self.client.receive(&mut buffer) {
            Received::Octets(count) => {
                self.deadlines.timers().on_receive(now());
                self.parse(&mut buffer[..count]).map(|()| true)
            }
            Received::Blocked => Ok(false),
            Received::End => Err(self.client_lost("the client closed the connection without a Close")),
            Received::Lost => Err(self.client_lost("the connection was lost while receiving")),
        };
        worker::put_reading(buffer);
        result
    }

    /// Makes events of octets. What cannot be taken now is kept.
    fn parse(&mut self, octets: &mut [u8]) -> Result<(), Verdict> {
        let mut scratch = worker::take_scratch();
        let mut rest = octets;
        while !rest.is_empty() {
            if !self.may_parse() {
                if self.stage == Stage::Open || (self.stage == Stage::Closing && self.ws.awaits_close()) {
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
            let ended = match received.event {
                None => break,
                Some(Event::Data(data)) => {
                    // SAFETY: the context is in the pool of the request, which outlives the session.
                    unsafe { self.context.as_mut() }.data_in(data.payload.len(), data.last);
                    self.deadlines.timers().on_message(now());
                    match &mut self.endpoint {
                        // A session that closes has an endpoint only if that still listens.
                        Some(endpoint) if matches!(self.stage, Stage::Open | Stage::Closing) => {
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
                    if waiting >= self.send_limit() {
                        self.pongs_beyond += self.output.len() - waiting;
                    }
                    None
                }
                Some(Event::Close { code, reason }) => {
                    let code = code.map(|code| code.to_string()).unwrap_or_default();
                    self.request.report(Level::Info, format_args!("the client closed: {code} \"{reason}\""));
                    self.client_closed();
                    // A client that sends more all the same is not done.
                    self.client_closed = consumed == rest.len();
                    None
                }
                Some(Event::Violation(violation)) => {
                    self.violated(violation);
                    None
                }
            };
            if let Some(ending) = ended {
                self.refuse(ending);
            }
            rest = &mut rest[consumed..];
        }
        worker::put_scratch(scratch);
        Ok(())
    }

    /// Whether the next frame is a Close before which the endpoint has messages to deal with.
    fn close_is_early(&self, octets: &[u8]) -> bool {
        self.has_messages_in_turn() && self.ws.is_at_close(octets)
    }

    /// Whether the endpoint has messages to deal with before the client's end is one.
    fn has_messages_in_turn(&self) -> bool {
        let endpoint = self.endpoint.as_ref().filter(|endpoint| endpoint.is_in_turn());
        endpoint.is_some_and(|endpoint| !self.ahead.is_empty() || !endpoint.accepts())
    }

    /// The client's Close came: what was queued ahead of the answer leaves, the endpoint is let go.
    fn client_closed(&mut self) {
        self.client_closed = true;
        self.stage = Stage::Closing;
        self.note_close();
        self.let_endpoint_go();
    }

    /// Our Close is queued: what is before it may take its time, as long as the client takes it.
    fn note_close(&mut self) {
        let behind = self.output.len() > MAX_CONTROL + 2 || self.client.has_queued();
        self.client.look();
        self.deadlines.timers().on_close(now(), behind);
    }

    /// The client broke a rule.
    fn violated(&mut self, violation: Violation) {
        self.report(Level::Info, format_args!("the client broke the protocol: {violation}"));
        self.refuse(Ending { code: violation.code(), reason: violation.reason().to_owned() });
    }

    /// Nothing more of the client is looked at. The endpoint may still answer what it got before.
    fn refuse(&mut self, ending: Ending) {
        self.planned = Some(ending);
        if self.stage == Stage::Open && self.answers_due && self.endpoint.is_some() {
            self.stage = Stage::Grace;
            self.deadlines.timers().on_violation(now());
        } else {
            self.close_as_planned();
        }
    }

    fn close_as_planned(&mut self) {
        if let Some(Ending { code, reason }) = self.planned.take() {
            self.begin_close(code, &reason);
        }
    }

    /// Queues our Close and lets the endpoint go.
    pub(super) fn begin_close(&mut self, code: CloseCode, reason: &str) {
        self.let_endpoint_go();
        self.ws.close(code, reason, self.output.frames());
        self.stage = Stage::Closing;
        self.note_close();
    }

    /// Lets the endpoint make messages. Whether it did.
    fn read_endpoint(&mut self) -> bool {
        if !matches!(self.stage, Stage::Open | Stage::Grace) {
            return false;
        }
        let limit = self.send_limit();
        let Some(endpoint) = &mut self.endpoint else { return false };
        let mut scratch = worker::take_scratch();
        let produced = endpoint.produce(&mut Outlet {
            ws: &mut self.ws,
            output: &mut self.output,
            scratch: &mut scratch,
            // SAFETY: the context is in the pool of the request, which outlives the session.
            context: unsafe { self.context.as_mut() },
            limit,
            log: self.request.log(),
        });
        worker::put_scratch(scratch);
        match produced {
            Produced::Nothing => false,
            Produced::Leaving => {
                self.deadlines.timers().on_leaving(now());
                false
            }
            Produced::Some => {
                self.deadlines.timers().on_message(now());
                true
            }
            Produced::Ended(_) | Produced::Silent(_) if self.stage == Stage::Grace => {
                self.close_as_planned();
                true
            }
            Produced::Ended(Ending { code, reason }) => {
                self.begin_close(code, &reason);
                true
            }
            Produced::Silent(Ending { code, reason }) => {
                let endpoint = self.endpoint.take();
                self.begin_close(code, &reason);
                self.ws.keep_listening();
                self.endpoint = endpoint;
                true
            }
        }
    }

    fn give_up(&mut self, why: &str) -> Verdict {
        self.report(Level::Info, format_args!("{why}"));
        self.part(Verdict::Drop)
    }

    fn client_lost(&mut self, how: &str) -> Verdict {
        if self.stage != Stage::Closing {
            self.report(Level::Info, format_args!("{how}"));
        }
        self.part(Verdict::Drop)
    }

    /// Grows whenever a side takes something.
    fn moved(&self) -> u64 {
        let endpoint = self.endpoint.as_ref().map_or(0, |endpoint| endpoint.progress());
        // SAFETY: the connection of a live request.
        endpoint + unsafe { (*self.client.connection()).sent }.unsigned_abs()
    }

    /// Asks nginx for the next event.
    fn watch(&mut self) -> Verdict {
        if !self.client.watch() {
            return Verdict::Drop;
        }
        // The client is not read while its endpoint is full, but its hang-up shows. A client that only shut down its
        // sending side may still be reading: it is given up when nothing moves any more.
        if self.client.hung_up() && !self.may_parse() && self.stage == Stage::Open {
            let mark = self.moved();
            self.deadlines.on_hangup(mark, !self.output.is_empty());
        }
        self.deadlines.arm(&mut self.timer);
        Verdict::Continue
    }
}

fn no_memory() -> Ending {
    Ending { code: CloseCode::INTERNAL, reason: "no memory for the message".to_owned() }
}
