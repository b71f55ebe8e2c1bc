// SPDX-License-Identifier: Apache-2.0

//! One program for all clients of a channel, in this worker.
//!
//! What is to be done about such a program is decided in [`crate::session::shared`]. Here are the process, the timers and the
//! zone that it is decided for, and the clients that come.

mod endpoint;
mod host;
mod parameters;
mod process;
mod publication;
mod served;
mod timers;

use std::fmt::Arguments;
use std::rc::Rc;

pub use endpoint::start;
use host::SharedHost;
use parameters::Parameters;

use super::channel::Ids;
use super::channel::hub::ProgramCalls;
use super::listeners::Listener;
use super::log::{self, Level};
use super::request::{Request, try_again};
use super::status::Status;
use super::template::ComplexValue;
use crate::channel::store::SubscribeError;
use crate::session::endpoint::HttpStatus;
use crate::session::shared::{JoinError, ProgramMembership, SharedPrograms};

/// One client of a run. It leaves when this is dropped.
pub type Membership = ProgramMembership<SharedHost>;

thread_local! {
    static PROGRAMS: Rc<SharedPrograms<SharedHost>> = Rc::new(SharedPrograms::new(SharedHost));
}

/// The programs of this worker that clients share.
fn programs() -> Rc<SharedPrograms<SharedHost>> {
    PROGRAMS.with(Rc::clone)
}

/// Adds a client, and sees to it that the program runs. The client is woken when that is so, or when it is not to be; its
/// subscription to the channel has begun.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn join(
    request: Request<'_>,
    program: &[ComplexValue],
    ids: &Ids<'_>,
    listener: Listener,
) -> Result<Membership, Status> {
    let [key] = ids.keys()[..] else {
        request.report(Level::Error, format_args!("a shared program has one channel, the request names several"));
        return Err(Status::FORBIDDEN);
    };
    let joined = programs().join(key, listener.number(), || Parameters::of(request, program, ids));
    joined.map_err(|error| match error {
        JoinError::Parameters(status) => status,
        JoinError::Zone(error) => {
            request.report(Level::Error, format_args!("cannot share a program: {error}"));
            match error {
                SubscribeError::NoRoom => Status::INSUFFICIENT_STORAGE,
                _ => Status::INTERNAL_SERVER_ERROR,
            }
        }
        JoinError::Refused(HttpStatus::UNAVAILABLE) | JoinError::Ended => try_again(request),
        JoinError::Refused(HttpStatus(status)) => Status::http(status),
    })
}

/// What the turns of the worker do for the programs.
pub const CALLS: ProgramCalls = ProgramCalls { news: || programs().on_news(), tick: || programs().on_tick() };

/// The worker has been told to go: programs that others can run are handed over soon.
pub fn leaving() {
    programs().leave();
}

/// The worker begins, or goes on with another configuration.
pub fn begin() {
    programs().begin();
}

/// The worker goes now: nothing is begun any more.
pub fn end() {
    programs().end();
}

/// A line about a program that belongs to no request.
fn report(level: Level, text: Arguments<'_>) {
    log::cycle(level, text);
}
