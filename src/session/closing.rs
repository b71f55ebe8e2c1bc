// SPDX-License-Identifier: Apache-2.0

//! How a session comes to its end: by the client, by the endpoint, by a rule that was broken or a time that is over.

use std::mem;

use super::client::Client;
use super::endpoint::Ending;
use super::{Behind, Flow, Host, Output, Session, SessionEnd, SessionStage, Severity};
use crate::ws::close::CloseCode;
use crate::ws::frame::MAX_CONTROL;
use crate::ws::violation::Violation;

impl<H: Host> Session<H> {
    /// Nothing more of the client is looked at. The endpoint may still answer what it got before.
    pub(super) fn refuse(&mut self, planned: Ending) {
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

    /// The client broke a rule.
    pub(super) fn violated(&mut self, violation: Violation) {
        self.report(Severity::Info, format_args!("the client broke the protocol: {violation}"));
        self.refuse(Ending { code: violation.code(), reason: violation.reason().to_owned() });
    }

    /// The client's Close came: what was queued ahead of the answer leaves, the endpoint is let go.
    pub(super) fn closed_by_client(&mut self) {
        let program = self.leave_endpoint();
        self.note_close();
        self.stage = SessionStage::Closing(Behind::Left(program));
    }

    /// The endpoint has had its time to answer.
    pub(super) fn close_as_planned(&mut self) {
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
    pub(super) fn queue_close(&mut self, code: CloseCode, reason: &str) {
        self.send_close(code, reason);
        self.note_close();
    }

    /// Our Close is queued: what is before it may take its time, as long as the client takes it.
    fn note_close(&mut self) {
        let behind = self.output.len() > MAX_CONTROL + 2 || self.client.has_queued();
        self.client.look();
        self.deadlines.timers().on_close(self.host.now(), behind);
    }

    pub(super) fn give_up(&mut self, why: &str) -> Flow {
        self.report(Severity::Info, format_args!("{why}"));
        self.part(SessionEnd::Dropped)
    }

    pub(super) fn client_lost(&mut self, how: &str) -> Flow {
        if !matches!(self.stage, SessionStage::Closing(_)) {
            self.report(Severity::Info, format_args!("{how}"));
        }
        self.part(SessionEnd::Dropped)
    }

    /// The session has come to its end. The log tells how the program ended if that becomes known soon.
    pub(super) fn part(&mut self, end: SessionEnd) -> Flow {
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
    pub(super) fn parted(&mut self) -> Flow {
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
}
