// SPDX-License-Identifier: Apache-2.0

//! What happens to a program: what its timers, its streams, its spawner and other workers tell.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::host::{ProgramHost, SharedProcess};
use super::table::Vacancy;
use super::{RunEnd, SharedProgramId, SharedPrograms};
use crate::channel::store::{Owner, Process as Worker};
use crate::exec::spawner::ProgramId;

impl<H: ProgramHost> SharedPrograms<H> {
    /// The program has outlived its clients for long enough.
    pub fn on_linger(&self, id: SharedProgramId) {
        self.with(id, |program| {
            if program.vacancy == Vacancy::Lingering {
                program.vacancy = Vacancy::Lingered;
            }
        });
        self.examine(id);
        self.run(id);
    }

    /// The program has more to say, or clients are to look at it.
    pub fn on_turn(&self, id: SharedProgramId) {
        let to_wake = self.with(id, |program| std::mem::take(&mut program.to_wake));
        self.wake(id, to_wake.unwrap_or_default());
        self.run(id);
        if self.with(id, |program| program.vacancy) == Some(Vacancy::FinishingInput) {
            self.examine(id);
        }
    }

    /// Something can be read of the program, or be written to it, or it has ended.
    pub fn on_ready(&self, id: SharedProgramId) {
        self.run(id);
    }

    /// The spawner has started a program, on this terminal if it was to make one.
    pub fn started(&self, id: SharedProgramId, program: ProgramId, pid: i32, terminal: Option<OwnedFd>) {
        if !self.is_current(id, program) {
            return;
        }
        let is_attached = self.with(id, |shared| {
            let parameters = Rc::clone(&shared.parameters);
            let Some(process) = &mut shared.process else { return false };
            let is_attached = process.attach(terminal, &parameters);
            if !is_attached && !process.is_stopping() {
                process.stop(&parameters);
            }
            is_attached
        });
        if is_attached == Some(false) {
            return self.failed(id, program, &RunEnd::refused(true));
        }
        if let Some(handle) = self.with(id, |shared| shared.handle) {
            self.host.runs(handle, pid);
        }
        self.examine(id);
        self.run(id);
    }

    /// A program could not be started, or is lost: nothing more will be heard of it.
    pub fn failed(&self, id: SharedProgramId, program: ProgramId, end: &RunEnd) {
        if !self.is_current(id, program) {
            return;
        }
        let taken = self.with(id, |shared| {
            let process = shared.remove_process();
            shared.end_vacancy();
            (shared.handle, process)
        });
        if let Some((handle, process)) = taken {
            drop(process);
            self.end_run(handle, end);
        }
        self.examine(id);
    }

    /// Whether the program of this worker is this one.
    fn is_current(&self, id: SharedProgramId, program: ProgramId) -> bool {
        self.with(id, |shared| shared.process.as_ref().is_some_and(|process| process.id() == program)) == Some(true)
    }

    /// Something has happened to programs that this worker has to do with.
    pub fn on_news(&self) {
        for id in self.all() {
            if let Some(handle) = self.with(id, |program| program.handle)
                && self.host.has_news(handle)
            {
                self.examine(id);
            }
        }
    }

    /// Looks after those whose worker may have died without a word. To be called every second.
    pub fn on_tick(&self) {
        let mut known: Vec<Worker> = Vec::new();
        for id in self.all() {
            let current = self.with(id, |program| {
                (!program.is_lost).then_some((program.handle, program.has_clients(), program.number))
            });
            if let Some(Some((handle, clients, number))) = current
                && let Ok(Some(view)) = self.host.look(handle, clients, number)
                && let Owner::Other(worker) = view.owner
                && !known.contains(&worker)
            {
                known.push(worker);
                if !self.host.lives(worker) {
                    self.host.clear_dead_worker(worker);
                }
            }
            self.examine(id);
        }
    }
}
