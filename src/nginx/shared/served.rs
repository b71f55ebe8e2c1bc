// SPDX-License-Identifier: Apache-2.0

//! The side of a shared program that is told what became of it in the spawner.

use std::fmt::Arguments;
use std::os::fd::OwnedFd;

use super::{programs, report};
use crate::exec::spawner::ProgramId;
use crate::nginx::log::Level;
use crate::nginx::worker::programs::{NotStarted, Served};
use crate::session::shared::{RunEnd, SharedProgramId};

/// All clients of a channel: they are served until the last process of their program is gone.
pub struct ServedChannel(pub SharedProgramId);

impl Served for ServedChannel {
    fn started(&self, program: ProgramId, pid: i32, terminal: Option<OwnedFd>) {
        programs().started(self.0, program, pid, terminal);
    }

    fn failed(&self, program: ProgramId, failure: NotStarted<'_>) {
        report(Level::Error, failure.text);
        programs().failed(self.0, program, &RunEnd::refused(failure.is_exhaustion));
    }

    fn timed_out(&self, program: ProgramId, reason: Arguments<'_>) {
        report(Level::Error, reason);
        programs().failed(self.0, program, &RunEnd::timed_out());
    }

    fn report(&self, text: Arguments<'_>) {
        report(Level::Error, text);
    }

    fn ended(&self) {
        programs().on_ready(self.0);
    }

    fn lost(&self, program: ProgramId, spawner_was_there: bool) {
        let end = if spawner_was_there { RunEnd::lost() } else { RunEnd::refused(true) };
        programs().failed(self.0, program, &end);
    }
}
