// SPDX-License-Identifier: Apache-2.0

//! Runs that requests begin, and clients that come to them otherwise.

use std::rc::Rc;

use super::host::{ProgramHost, SharedProcess, StartParameters};
use super::{JoinError, ProgramMembership, Run, RunEnd, SharedProgramId, SharedPrograms};
use crate::channel::store::{Begun, Input, Key, ProgramHandle, SubscribeError};
use crate::session::endpoint::HttpStatus;

impl<H: ProgramHost> SharedPrograms<H> {
    /// Begins a run with its first message, and adds the client that asks for it. The client is woken when the program runs, or
    /// when it is not to be; its subscription to the channel has begun.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: [`JoinError::Taken`] where there is a run.
    pub fn begin_run<E>(
        self: &Rc<Self>,
        key: Key<'_>,
        client: usize,
        first: &Input,
        parameters: H::Parameters,
    ) -> Result<ProgramMembership<H>, JoinError<E>> {
        let handle = match self.host.begin(key, parameters.linger()).map_err(JoinError::Zone)? {
            Begun::Begun(handle) => handle,
            Begun::Taken => return Err(JoinError::Taken),
        };
        let id = match self.current(key, handle) {
            Some(id) => {
                self.with(id, |program| program.parameters = Rc::new(parameters));
                id
            }
            None => self.insert(key, parameters, handle),
        };
        self.forget_earlier_run(id, handle);
        if let Err(error) = self.host.push(handle, first, u64::MAX) {
            self.end_run(handle, &RunEnd::refused(true));
            self.examine(id);
            return Err(JoinError::Input(error));
        }
        if let Err(end) = self.start(id, handle) {
            self.examine(id);
            return Err(JoinError::Refused(end.refusal()));
        }
        self.enter(id, client, handle)
    }

    /// Adds a client to a run that a request has begun, which may have ended and be kept. Of one that goes on it is woken when the
    /// program runs, or when it is not to be.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: [`JoinError::NoRun`] where there is none.
    pub fn follow<E>(
        self: &Rc<Self>,
        key: Key<'_>,
        client: usize,
        parameters: impl Fn() -> Result<H::Parameters, E>,
    ) -> Result<ProgramMembership<H>, JoinError<E>> {
        match self.look_for_run(key, client, &parameters) {
            // It has ended while it was looked at, and may be kept: an EventSource that is refused does not come again.
            Err(JoinError::Ended | JoinError::Refused(HttpStatus::NOT_FOUND)) => {
                self.look_for_run(key, client, &parameters)
            }
            found => found,
        }
    }

    fn look_for_run<E>(
        self: &Rc<Self>,
        key: Key<'_>,
        client: usize,
        parameters: impl Fn() -> Result<H::Parameters, E>,
    ) -> Result<ProgramMembership<H>, JoinError<E>> {
        let corrupt = |_| JoinError::Zone(SubscribeError::Corrupt);
        let Some(handle) = self.host.follow(key).map_err(corrupt)? else { return Err(JoinError::NoRun) };
        let id = match self.current(key, handle) {
            Some(id) => id,
            None => match parameters() {
                Ok(parameters) => self.insert(key, parameters, handle),
                Err(error) => {
                    let _ = self.host.look(handle, false, 0);
                    return Err(JoinError::Parameters(error));
                }
            },
        };
        let kept = match self.host.look(handle, true, 0) {
            Ok(Some(view)) if view.kept => view.ended,
            Ok(_) => None,
            Err(error) => {
                self.forget_unused(id);
                return Err(corrupt(error));
            }
        };
        let Some(ended) = kept else { return self.enter(id, client, handle) };
        let run = Rc::new(Run::over(RunEnd::from_zone(&ended)));
        self.with(id, |program| {
            program.handle = handle;
            program.former.insert(client);
        });
        // It only reads what is left: the zone is told of no client.
        self.examine(id);
        Ok(ProgramMembership::new(Rc::clone(self), id, run, client))
    }

    /// The zone has no run before the one that begins now, and what this worker has of one is over.
    fn forget_earlier_run(&self, id: SharedProgramId, handle: ProgramHandle) {
        let process = self.with(id, |program| {
            program.handle = handle;
            program.end_vacancy();
            let mut process = program.remove_process();
            if let Some(process) = process.as_mut().filter(|process| !process.is_stopping()) {
                process.stop(&program.parameters);
            }
            process
        });
        drop(process);
        let number = self.with(id, |program| program.number).unwrap_or_default();
        let view = self.host.look(handle, true, number).ok().flatten();
        let ended = view.as_ref().and_then(|view| view.ended.as_ref());
        self.end_here(id, ended.map_or_else(RunEnd::missing, RunEnd::from_zone));
        if let Some(view) = view {
            self.with(id, |program| program.number = view.run);
        }
    }
}
