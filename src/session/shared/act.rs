// SPDX-License-Identifier: Apache-2.0

//! What is to be done about a program, after a look at the zone.

use std::rc::Rc;

use super::host::{ProgramHost, Progress, SharedProcess, StartParameters, Timers};
use super::table::{SharedProgram, Vacancy};
use super::{RunEnd, SharedProgramId, SharedPrograms};
use crate::channel::store::{Owner, ProgramHandle, ProgramPhase, ProgramView};

/// Looks at the zone that follow each other at once: what one of them changes may ask for the next.
const LOOKS: usize = 8;

/// What is to be done about a program when the table is not borrowed.
enum Step {
    Nothing,
    /// The program is to be started, if nobody else does.
    Claim,
    /// The program has something to read.
    Feed,
    /// The program does not run here, though the zone says so.
    Leave,
    /// The worker is gone in which a request has begun the run.
    Lost,
    /// There is no run any more that a request has begun.
    Missing,
    /// There is another look to be taken.
    Again,
}

impl<H: ProgramHost> SharedPrograms<H> {
    /// Looks at what the zone says of a program, and does what is to be done.
    pub(super) fn examine(&self, id: SharedProgramId) {
        if self.is_ending.get() {
            return;
        }
        for _ in 0..LOOKS {
            let known =
                self.with(id, |program| (program.handle, program.has_clients(), program.number, program.is_lost));
            let Some((handle, clients, number, is_lost)) = known else { return };
            if is_lost {
                break;
            }
            // A zone that is damaged is repaired by its next user; the next tick looks again.
            let Ok(looked) = self.host.look(handle, clients, number) else { return };
            let again = match looked {
                Some(view) => self.act(id, &view),
                None => {
                    self.lost_channel(id);
                    false
                }
            };
            if !again {
                break;
            }
        }
        self.forget_unused(id);
    }

    /// Does what a look at the zone asks for. Whether it is to be looked at again.
    fn act(&self, id: SharedProgramId, view: &ProgramView) -> bool {
        if let Some(ended) = &view.ended {
            let end = RunEnd::from_zone(ended);
            self.with(id, |program| program.number = view.run);
            self.end_here(id, end);
            return true;
        }
        let mut woken = Vec::new();
        let step = self.with(id, |program| {
            if let ProgramPhase::Running(pid) = view.phase
                && program.run.runs(pid as i32)
            {
                woken.extend(&program.clients);
            }
            woken.extend(std::mem::take(&mut program.to_wake));
            self.decide(program, view)
        });
        self.wake(id, woken);
        if let ProgramPhase::Running(pid) = view.phase {
            self.tell_size(id, pid);
        }
        match step {
            Some(Step::Claim) => self.claim(id),
            Some(Step::Feed) => {
                self.run(id);
                false
            }
            Some(Step::Leave) => {
                if let Some(handle) = self.with(id, |program| program.handle) {
                    self.host.left(handle);
                }
                true
            }
            Some(Step::Lost) => {
                if let Some(handle) = self.with(id, |program| program.handle) {
                    self.host.lost(handle, &RunEnd::lost().to_zone());
                }
                true
            }
            Some(Step::Missing) => {
                self.end_here(id, RunEnd::missing());
                true
            }
            Some(Step::Again) => true,
            Some(Step::Nothing) | None => false,
        }
    }

    /// The run has ended for the clients of this worker.
    pub(super) fn end_here(&self, id: SharedProgramId, end: RunEnd) {
        self.with(id, |program| {
            let (run, clients) = program.end_run();
            run.ended(end);
            // The next look wakes them, or the turn where the zone cannot be looked at.
            program.to_wake.extend(clients);
            program.timers.post_turn();
        });
    }

    fn decide(&self, program: &mut SharedProgram<H>, view: &ProgramView) -> Step {
        let has_clients = program.has_clients();
        match (&program.process, view.owner) {
            (Some(process), Owner::Own) if process.is_stopping() => Step::Nothing,
            (Some(_), Owner::Own) => {
                self.keep_or_stop(program, view);
                let has_other_size = program.process.as_mut().is_some_and(|process| process.keep_sizes(&view.clients));
                if view.input || has_other_size { Step::Feed } else { Step::Nothing }
            }
            (Some(_), Owner::Nobody | Owner::Other(_)) => {
                // The zone does not know any more that it is ours.
                self.stop(program);
                program.remove_process();
                Step::Again
            }
            (None, Owner::Nobody) if has_clients && !view.deleted => {
                if view.requested {
                    Step::Lost
                } else if program.parameters.is_requested() {
                    Step::Missing
                } else {
                    Step::Claim
                }
            }
            // Its end could not be told: the zone was damaged.
            (None, Owner::Own) => Step::Leave,
            (None, Owner::Nobody | Owner::Other(_)) => Step::Nothing,
        }
    }

    /// A program runs here: it stays as long as it has clients, a while longer, and until it has what they have sent.
    fn keep_or_stop(&self, program: &mut SharedProgram<H>, view: &ProgramView) {
        let (is_leaving, has_clients) = (self.is_leaving.get(), program.has_clients());
        let is_deserted = !has_clients && !view.others;
        // What a request has begun cannot be begun again elsewhere: the worker stays for it.
        let hands_over = is_leaving && !view.requested;
        let hand_over = hands_over && (view.successors || (!has_clients && view.others));
        if view.deleted || hand_over {
            self.stop(program);
            return;
        }
        if !is_deserted {
            program.end_vacancy();
            return;
        }
        let linger = program.parameters.linger();
        let may_linger = linger != 0 && !hands_over;
        match program.vacancy {
            Vacancy::None if may_linger => {
                program.vacancy = Vacancy::Lingering;
                program.timers.set_linger(linger);
            }
            Vacancy::Lingering if may_linger => {}
            Vacancy::None | Vacancy::Lingering | Vacancy::Lingered | Vacancy::FinishingInput => {
                // What the last client has sent is for it.
                let Some(process) = &mut program.process else { return };
                match process.finish_input(program.handle, &program.parameters) {
                    Some(pause) => {
                        program.vacancy = Vacancy::FinishingInput;
                        program.timers.set_turn(pause);
                    }
                    None => self.stop(program),
                }
            }
        }
    }

    /// Stops the process of a program, if it has one.
    fn stop(&self, program: &mut SharedProgram<H>) {
        program.end_vacancy();
        if let Some(process) = &mut program.process
            && !process.is_stopping()
        {
            // If the zone is damaged, nobody else will know before it is over.
            self.host.stops(program.handle);
            process.stop(&program.parameters);
        }
    }

    /// The channel is gone, and what the zone knew of its program. New clients get a new one.
    fn lost_channel(&self, id: SharedProgramId) {
        self.table.borrow_mut().hide(id);
        let clients = self.with(id, |program| {
            program.is_lost = true;
            self.stop(program);
            program.remove_process();
            let (run, clients) = program.end_run();
            if !clients.is_empty() {
                run.ended(RunEnd::deleted());
            }
            clients
        });
        self.wake(id, clients.unwrap_or_default());
    }

    /// Starts the program unless somebody else does. Whether it is to be looked at again.
    fn claim(&self, id: SharedProgramId) -> bool {
        let Some(handle) = self.with(id, |program| program.handle) else { return false };
        self.host.claim(handle) && self.start(id, handle).is_err()
    }

    /// Starts the program that this worker has claimed.
    ///
    /// # Errors
    ///
    /// That could not be asked for: all workers are told of this end.
    pub(super) fn start(&self, id: SharedProgramId, handle: ProgramHandle) -> Result<(), RunEnd> {
        let Some((parameters, timers)) =
            self.with(id, |program| (Rc::clone(&program.parameters), program.timers.clone()))
        else {
            return Ok(());
        };
        match self.host.start(&parameters, id, &timers) {
            Ok(process) => {
                self.with(id, |program| {
                    program.process = Some(Box::new(process));
                    program.keep_worker();
                });
                Ok(())
            }
            Err(end) => {
                self.end_run(handle, &end);
                Err(end)
            }
        }
    }

    /// Tells all workers how a run has ended. If the zone is damaged, the next tick finds that this worker runs nothing.
    pub(super) fn end_run(&self, handle: ProgramHandle, end: &RunEnd) {
        self.host.ended(handle, &end.to_zone());
    }

    /// The program is served: it may read, it may have written, it may have ended.
    pub(super) fn run(&self, id: SharedProgramId) {
        let taken =
            self.with(id, |program| Some((program.process.take()?, program.handle, Rc::clone(&program.parameters))));
        let Some(Some((mut process, handle, parameters))) = taken else { return };
        match process.run(handle, &parameters) {
            Progress::Waits => {
                self.with(id, |program| program.process = Some(process));
                return;
            }
            Progress::More => {
                self.with(id, |program| {
                    program.timers.post_turn();
                    program.process = Some(process);
                });
                return;
            }
            Progress::Ended(end) => {
                self.end_run(handle, &end);
                // It is not to be heard any more: what is left of its group is stopped.
                if !process.is_stopping() && !process.is_gone() {
                    process.stop(&parameters);
                }
            }
            Progress::Left => self.host.left(handle),
        }
        drop(process);
        self.with(id, |program| {
            program.end_vacancy();
            program.timers.keep_worker(false);
        });
        self.examine(id);
    }
}
