// SPDX-License-Identifier: Apache-2.0

//! What a session is told of the program that was started for it.

use std::fmt::Arguments;
use std::os::fd::OwnedFd;

use crate::exec::spawner::ProgramId;
use crate::nginx::log::Level;
use crate::nginx::request::try_again;
use crate::nginx::session::{self, Flow, Session, SessionEnd, SessionRef};
use crate::nginx::status::Status;
use crate::nginx::worker::programs::{NotStarted, Served};

/// The one client of a program. It is told nothing once its session has ended: then somebody else is served.
pub struct OneClient(pub SessionRef);

impl Served for OneClient {
    fn started(&self, _: ProgramId, pid: i32, terminal: Option<OwnedFd>) {
        session::run(self.0, |session| session.program_started(pid, terminal));
    }

    fn failed(&self, _: ProgramId, failure: NotStarted<'_>) {
        session::run(self.0, |session| {
            let request = session.host().request();
            request.report(Level::Error, failure.text);
            refused(failure.status().map_or_else(|| try_again(request), Status::from))
        });
    }

    fn timed_out(&self, _: ProgramId, reason: Arguments<'_>) {
        session::run(self.0, |session| {
            session.host().request().report(Level::Error, reason);
            refused(Status::GATEWAY_TIME_OUT)
        });
    }

    fn report(&self, text: Arguments<'_>) {
        session::run(self.0, |session| {
            session.host().request().report(Level::Error, text);
            Flow::Continue(())
        });
    }

    fn ended(&self) {
        session::run(self.0, Session::pump);
    }

    fn lost(&self, _: ProgramId, spawner_was_there: bool) {
        session::run(self.0, |session| match spawner_was_there {
            true => session.endpoint_lost("the program was lost"),
            false => refused(try_again(session.host().request())),
        });
    }
}

/// The end of a session whose program could not be started.
fn refused(status: Status) -> Flow {
    Flow::Break(SessionEnd::Refused(session::refusal(status)))
}
