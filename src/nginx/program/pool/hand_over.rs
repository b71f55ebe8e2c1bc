// SPDX-License-Identifier: Apache-2.0

//! A client gets a program that was started ahead.

use std::rc::Rc;

use super::program::Program;
use super::{has_waiting, take};
use crate::conf::Settings;
use crate::exec::framing::{Format, write_environment};
use crate::nginx::program::Endpoint;
use crate::nginx::program::client::OneClient;
use crate::nginx::program::command;
use crate::nginx::program::launch::{admit, listener};
use crate::nginx::request::Request;
use crate::nginx::session::SessionRef;
use crate::nginx::status::Status;
use crate::nginx::template::NginxCompiler;
use crate::nginx::worker::programs::{self, Served};

/// Whether programs of the location are told of their client by the first record: also those that were not started ahead, so that
/// none of them has to know which it is.
pub fn tells_of_client(settings: &Settings<NginxCompiler>) -> bool {
    settings.pool != 0 && settings.exec_format() == Format::Messages
}

/// Gives the session a program that waits; `None` when there is none.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn hand_over(request: Request<'_>, session: SessionRef) -> Result<Option<Box<dyn Endpoint>>, Status> {
    let settings = request.settings();
    let Some(name) = has_waiting(settings.pool) else { return Ok(None) };
    let mut told = Vec::new();
    if tells_of_client(settings) {
        let environment = command::environment_of(request)?;
        write_environment(&environment, &mut told).map_err(|_| Status::INTERNAL_SERVER_ERROR)?;
    }
    let mut place = Some(admit(request, &name)?);
    // From here on the program is this client's: nothing fails before the session has it.
    let served: Rc<dyn Served> = Rc::new(OneClient(session));
    let program = take(settings.pool, |program| {
        let Some(free) = place.take() else { return false };
        match programs::hand_over(program.launched.id, Rc::clone(&served), free) {
            Ok(()) => true,
            Err(free) => {
                place = Some(free);
                false
            }
        }
    });
    let Some(Program { mut launched, pid, .. }) = program else { return Ok(None) };
    launched.listen(listener(request, session));
    launched.log_with(request);
    launched.feed.queue().extend_from_slice(&told);
    if let Some(stdout) = &mut launched.stdout {
        // It was watched otherwise until now, and nobody has looked what is there.
        stdout.let_reuse(false);
        stdout.watch_read(false);
        stdout.expect_input();
    }
    if let Some(context) = request.context() {
        context.record.exec_pid.set(Some(pid));
    }
    Ok(Some(launched.serve(request, session, name, true)))
}
