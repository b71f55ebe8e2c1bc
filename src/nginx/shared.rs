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
use crate::channel::store::{Input, InputError, SubscribeError};
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

/// How a client comes to the program of its channel.
pub enum Arrival {
    /// The first client starts it.
    Shares,
    /// The client begins a run with this message.
    Begins(Input),
    /// The client finds a run that another one has begun.
    Follows,
}

impl Arrival {
    /// What a request that is no POST has come for.
    pub fn of_subscriber(request: Request<'_>) -> Self {
        if request.settings().has_requested_runs() { Arrival::Follows } else { Arrival::Shares }
    }
}

/// Adds a client to a run of the program: one that goes on, or one that begins with it. The client is woken when the program
/// runs, or when it is not to be; its subscription to the channel has begun.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn join(
    request: Request<'_>,
    program: &[ComplexValue],
    ids: &Ids<'_>,
    listener: Listener,
    arrival: &Arrival,
) -> Result<Membership, Status> {
    let [key] = ids.keys()[..] else {
        request.report(Level::Error, format_args!("a shared program has one channel, the request names several"));
        return Err(Status::FORBIDDEN);
    };
    let parameters = || Parameters::of(request, program, ids);
    let joined = match arrival {
        Arrival::Shares => programs().join(key, listener.number(), parameters),
        Arrival::Begins(first) => programs().begin_run(key, listener.number(), first, parameters()?),
        Arrival::Follows => programs().follow(key, listener.number(), parameters),
    };
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
        JoinError::NoRun => {
            request.report(
                Level::Info,
                format_args!("no POST has begun a run of the program, or it is not kept any more"),
            );
            Status::NOT_FOUND
        }
        JoinError::Taken => {
            request.report(Level::Info, format_args!("the program has a run already, which goes on or is kept"));
            Status::CONFLICT
        }
        JoinError::Input(InputError::TooLarge) => {
            request.report(Level::Error, format_args!("the body of the request does not fit into the channel zone"));
            Status::INSUFFICIENT_STORAGE
        }
        JoinError::Input(error) => {
            request
                .report(Level::Error, format_args!("the program cannot be given the body of the request: {error:?}"));
            try_again(request)
        }
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
