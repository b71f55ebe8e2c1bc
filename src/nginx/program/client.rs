// SPDX-License-Identifier: Apache-2.0

//! What a session is told of the program that was started for it.

use std::fmt::Arguments;
use std::os::fd::OwnedFd;

use crate::exec::spawner::ProgramId;
use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::request::try_again;
use crate::nginx::session::{self, Flow, Session, SessionEnd, SessionRef};
use crate::nginx::worker::programs::{NotStarted, Served};

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
const FORBIDDEN: isize = ffi::NGX_HTTP_FORBIDDEN as isize;
const TIMED_OUT: isize = ffi::NGX_HTTP_GATEWAY_TIME_OUT as isize;

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
            refused(match failure.is_exhaustion {
                true => try_again(request),
                false if failure.is_denied => FORBIDDEN,
                false => FAILED,
            })
        });
    }

    fn timed_out(&self, _: ProgramId, reason: Arguments<'_>) {
        session::run(self.0, |session| {
            session.host().request().report(Level::Error, reason);
            refused(TIMED_OUT)
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
fn refused(status: isize) -> Flow {
    Flow::Break(SessionEnd::Refused(session::refusal(status)))
}
