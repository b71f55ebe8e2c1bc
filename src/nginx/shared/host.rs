// SPDX-License-Identifier: Apache-2.0

//! The worker in which shared programs live: its part of the zone, its timers, processes and clients.

use super::parameters::Parameters;
use super::process::Process;
use super::timers::SharedTimers;
use crate::channel::memory::Corrupt;
use crate::channel::store::{
    Begun, Ended, Input, InputError, Key, Process as Worker, ProgramHandle, ProgramView, SubscribeError,
};
use crate::nginx::channel::hub::{self, Hub};
use crate::nginx::listeners::Listener;
use crate::nginx::process::lives;
use crate::session::shared::host::{ProgramHost, ProgramZone};
use crate::session::shared::{RunEnd, SharedProgramId};

/// This worker. What is asked of a zone that is not there is answered as one that is damaged.
pub struct SharedHost;

impl ProgramZone for SharedHost {
    fn attach(&self, key: Key<'_>) -> Result<Option<ProgramHandle>, SubscribeError> {
        hub::with(|hub| hub.attach_program(key)).unwrap_or(Err(SubscribeError::Corrupt))
    }

    fn begin(&self, key: Key<'_>, keeps: u64) -> Result<Begun, SubscribeError> {
        hub::with(|hub| hub.begin_run(key, keeps)).unwrap_or(Err(SubscribeError::Corrupt))
    }

    fn follow(&self, key: Key<'_>) -> Result<Option<ProgramHandle>, Corrupt> {
        hub::with(|hub| hub.follow_run(key)).unwrap_or(Err(Corrupt))
    }

    fn lost(&self, program: ProgramHandle, how: &Ended) {
        hub::with(|hub| hub.program_lost(program, how));
    }

    fn look(&self, program: ProgramHandle, clients: bool, run: u32) -> Result<Option<ProgramView>, Corrupt> {
        hub::with(|hub| hub.look_at_program(program, clients, run)).unwrap_or(Err(Corrupt))
    }

    fn has_news(&self, program: ProgramHandle) -> bool {
        hub::with(|hub| hub.has_program_news(program)) == Some(true)
    }

    fn claim(&self, program: ProgramHandle) -> bool {
        hub::with(|hub| hub.claim_program(program)) == Some(true)
    }

    fn runs(&self, program: ProgramHandle, pid: i32) {
        hub::with(|hub| hub.program_runs(program, pid.unsigned_abs()));
    }

    fn stops(&self, program: ProgramHandle) {
        hub::with(|hub| hub.program_stops(program));
    }

    fn ended(&self, program: ProgramHandle, how: &Ended) {
        hub::with(|hub| hub.program_ended(program, how));
    }

    fn left(&self, program: ProgramHandle) {
        hub::with(|hub| hub.program_left(program));
    }

    fn push(&self, program: ProgramHandle, message: &Input, most: u64) -> Result<(), InputError> {
        hub::with(|hub| hub.push_input(program, message, most)).unwrap_or(Err(InputError::Gone))
    }

    fn leave(&self) {
        hub::with(Hub::leave);
    }

    fn lives(&self, worker: Worker) -> bool {
        lives(worker)
    }

    fn clear_dead_worker(&self, worker: Worker) {
        hub::with(|hub| hub.release_dead(worker));
    }
}

impl ProgramHost for SharedHost {
    type Parameters = Parameters;
    type Timers = SharedTimers;
    type Process = Process;

    fn timers(&self, id: SharedProgramId) -> SharedTimers {
        SharedTimers::new(id)
    }

    fn start(&self, parameters: &Parameters, id: SharedProgramId, timers: &SharedTimers) -> Result<Process, RunEnd> {
        Process::start(parameters, id, timers)
    }

    fn wake(&self, client: usize) {
        if let Some(listener) = Listener::from_number(client) {
            listener.wake();
        }
    }
}
