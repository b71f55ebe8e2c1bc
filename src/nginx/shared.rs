// SPDX-License-Identifier: Apache-2.0

//! One program for all clients of a channel.
//!
//! The clients of a channel in one worker have a [`Local`](table::Local) between them. It knows how the program is started,
//! and runs it if this worker has claimed it in the zone; otherwise it follows what the zone says. Whatever happens, in this
//! worker or in another, comes down to [`examine`]: it looks at the zone and does what is to be done.

mod clients;
mod endpoint;
mod events;
mod membership;
mod process;
mod recipe;
mod table;

use std::cell::Cell;
use std::fmt::Arguments;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::rc::Rc;

pub use clients::join;
use clients::wake;
pub use endpoint::start;
pub use membership::Membership;
use process::{Process, Progress};
use table::{SharedId, all, clear, hide, tidy, with};

use super::channel::hub::{self, Hub, ProgramCalls};
use super::ffi;
use super::log::{self, Level};
use crate::channel::store::{Owner, Process as Worker, ProgramHandle, ProgramPhase, ProgramView};
use crate::exec::spawner::ProgramId;
use crate::nginx::process::lives;
use crate::nginx::worker::programs::{NotStarted, Served};
use crate::session::shared::RunEnd;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// Looks at the zone that follow each other at once: what one of them changes may ask for the next.
const LOOKS: usize = 8;

thread_local! {
    /// The worker has been told to go.
    static LEAVING: Cell<bool> = const { Cell::new(false) };
    /// It goes at this moment.
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

/// Looks at what the zone says of a program, and does what is to be done.
fn examine(id: SharedId) {
    if ENDING.get() {
        return;
    }
    for _ in 0..LOOKS {
        let Some((handle, clients, number)) = with(id, |local| (local.handle, local.has_clients(), local.number))
        else {
            return;
        };
        let looked = match hub::with(|hub| hub.look_at_program(handle, clients, number)) {
            Some(Ok(looked)) => looked,
            // The zone is repaired by its next user; the next tick looks again.
            Some(Err(_)) | None => return,
        };
        let again = match looked {
            Some(view) => act(id, &view),
            None => {
                lost_channel(id);
                false
            }
        };
        if !again {
            break;
        }
    }
    tidy(id);
}

/// What is to be done about the program, in the table.
enum Step {
    Nothing,
    /// It is to be started, if nobody else does.
    Claim,
    /// It has something to read.
    Feed,
    /// It does not run here, though the zone says so.
    Leave,
    /// There is another look to be taken.
    Again,
}

/// Does what a look at the zone asks for. Whether it is to be looked at again.
fn act(id: SharedId, view: &ProgramView) -> bool {
    if let Some(ended) = &view.ended {
        let end = RunEnd::from_zone(ended);
        with(id, |local| {
            local.number = view.run;
            let run = std::mem::take(&mut local.run);
            run.ended(end);
            let clients: Vec<usize> = local.clients.drain().collect();
            local.former.extend(&clients);
            // When what it has published just now has come to them.
            local.starved.extend(clients);
            local.anchor.turn.post_next();
        });
        return true;
    }
    let leaving = LEAVING.get();
    let mut woken = Vec::new();
    let step = with(id, |local| {
        if let ProgramPhase::Running(pid) = view.phase
            && local.run.runs(pid as i32)
        {
            woken.extend(&local.clients);
        }
        woken.extend(local.starved.drain());
        let has_clients = local.has_clients();
        match (&mut local.process, view.owner) {
            (Some(process), Owner::Own) if process.is_stopping() => Step::Nothing,
            (Some(process), Owner::Own) => {
                let deserted = !has_clients && !view.others;
                let hand_over = leaving && (view.successors || (!has_clients && view.others));
                local.winding = false;
                if view.deleted || hand_over {
                    process.stop(local.handle, &local.recipe);
                } else if deserted {
                    if local.recipe.linger == 0 || leaving || local.lingered {
                        // What the last client has sent is for it.
                        match process.takes_more(local.handle, &local.recipe) {
                            Some(pause) => {
                                local.winding = true;
                                local.anchor.turn.disarm();
                                local.anchor.turn.arm(pause);
                            }
                            None => process.stop(local.handle, &local.recipe),
                        }
                    } else if !local.lingering {
                        local.lingering = true;
                        local.anchor.linger.arm(local.recipe.linger);
                    }
                } else {
                    local.lingered = false;
                    if std::mem::take(&mut local.lingering) {
                        local.anchor.linger.disarm();
                    }
                }
                if view.input { Step::Feed } else { Step::Nothing }
            }
            (process @ Some(_), Owner::Nobody | Owner::Other(_)) => {
                // The zone does not know any more that it is ours.
                if let Some(mut process) = process.take() {
                    process.stop(local.handle, &local.recipe);
                }
                Step::Again
            }
            (None, Owner::Nobody) if has_clients && !view.deleted => Step::Claim,
            // Its end could not be told: the zone was damaged.
            (None, Owner::Own) => Step::Leave,
            (None, Owner::Nobody | Owner::Other(_)) => Step::Nothing,
        }
    });
    wake(id, &woken);
    match step {
        Some(Step::Claim) => claim(id),
        Some(Step::Feed) => {
            run(id);
            false
        }
        Some(Step::Leave) => {
            if let Some(handle) = with(id, |local| local.handle) {
                hub::with(|hub| hub.program_left(handle));
            }
            true
        }
        Some(Step::Again) => true,
        Some(Step::Nothing) | None => false,
    }
}

/// The channel is gone, and what the zone knew of its program. New clients get a new one.
fn lost_channel(id: SharedId) {
    hide(id);
    let clients = with(id, |local| {
        if let Some(mut process) = local.process.take() {
            process.stop(local.handle, &local.recipe);
        }
        let clients: Vec<usize> = local.clients.drain().collect();
        local.former.extend(&clients);
        let run = std::mem::take(&mut local.run);
        if !clients.is_empty() {
            run.ended(RunEnd::deleted());
        }
        clients
    });
    wake(id, &clients.unwrap_or_default());
}

/// Starts the program unless somebody else does. Whether it is to be looked at again.
fn claim(id: SharedId) -> bool {
    let Some((handle, recipe, anchor)) =
        with(id, |local| (local.handle, Rc::clone(&local.recipe), NonNull::from(&mut *local.anchor)))
    else {
        return false;
    };
    if hub::with(|hub| hub.claim_program(handle)) != Some(true) {
        return false;
    }
    match Process::start(&recipe, id, anchor) {
        Ok(process) => {
            with(id, |local| local.process = Some(Box::new(process)));
            false
        }
        Err(end) => {
            end_run(handle, &end);
            true
        }
    }
}

fn end_run(handle: ProgramHandle, end: &RunEnd) {
    // If the zone is damaged, the next tick finds that this worker runs nothing.
    hub::with(|hub| hub.program_ended(handle, &end.to_zone()));
}

/// The program is served: it may read, it may have written, it may have ended.
fn run(id: SharedId) {
    let Some(Some((mut process, handle, recipe))) =
        with(id, |local| Some((local.process.take()?, local.handle, Rc::clone(&local.recipe))))
    else {
        return;
    };
    let progress = process.run(handle, &recipe);
    let ended = match progress {
        Progress::Waits => None,
        Progress::More => {
            with(id, |local| local.anchor.turn.post_next());
            None
        }
        Progress::Ended(end) => {
            end_run(handle, &end);
            process.take_apart(&recipe);
            Some(())
        }
        Progress::Left => {
            hub::with(|hub| hub.program_left(handle));
            Some(())
        }
    };
    if ended.is_some() {
        drop(process);
        with(id, |local| {
            local.lingering = false;
            local.lingered = false;
            local.winding = false;
            local.anchor.linger.disarm();
        });
        examine(id);
    } else {
        with(id, |local| local.process = Some(process));
    }
}

/// Whether the program of this worker is this one.
fn runs(id: SharedId, program: ProgramId) -> bool {
    with(id, |local| local.process.as_ref().is_some_and(|process| process.id() == program)) == Some(true)
}

/// The side of all clients of a channel is told until the last process of their program is gone.
impl Served for SharedId {
    fn started(&self, program: ProgramId, pid: i32, _: Option<OwnedFd>) {
        if !runs(*self, program) {
            return;
        }
        if let Some(handle) = with(*self, |local| local.handle) {
            hub::with(|hub| hub.program_runs(handle, pid.unsigned_abs()));
        }
        examine(*self);
        run(*self);
    }

    fn failed(&self, program: ProgramId, failure: NotStarted<'_>) {
        report(Level::Error, failure.text);
        end_by(*self, program, &RunEnd::refused(failure.is_exhaustion));
    }

    fn timed_out(&self, program: ProgramId, reason: Arguments<'_>) {
        report(Level::Error, reason);
        end_by(*self, program, &RunEnd::timed_out());
    }

    fn report(&self, text: Arguments<'_>) {
        report(Level::Error, text);
    }

    fn ended(&self) {
        run(*self);
    }

    fn lost(&self, program: ProgramId, spawner_was_there: bool) {
        let end = if spawner_was_there { RunEnd::lost() } else { RunEnd::refused(true) };
        end_by(*self, program, &end);
    }
}

fn end_by(id: SharedId, program: ProgramId, end: &RunEnd) {
    if !runs(id, program) {
        return;
    }
    if let Some((handle, process)) = with(id, |local| (local.handle, local.process.take())) {
        drop(process);
        end_run(handle, end);
    }
    examine(id);
}

/// What the turns of the worker do for the programs.
pub const CALLS: ProgramCalls = ProgramCalls { news, tick };

/// Something has happened to programs that this worker has to do with.
fn news() {
    for id in all() {
        if let Some(handle) = with(id, |local| local.handle)
            && hub::with(|hub| hub.has_program_news(handle)) == Some(true)
        {
            examine(id);
        }
    }
}

/// Looks after those whose worker may have died without a word.
fn tick() {
    let mut known: Vec<(Worker, bool)> = Vec::new();
    for id in all() {
        let Some((handle, clients, number)) = with(id, |local| (local.handle, local.has_clients(), local.number))
        else {
            continue;
        };
        if let Some(Ok(Some(ProgramView { owner: Owner::Other(worker), .. }))) =
            hub::with(|hub| hub.look_at_program(handle, clients, number))
            && !known.iter().any(|(other, _)| *other == worker)
        {
            let there = lives(worker);
            known.push((worker, there));
            if !there {
                hub::with(|hub| hub.bury(worker));
            }
        }
        examine(id);
    }
}

/// The worker has been told to go: programs that others can run are handed over soon.
pub fn leaving() {
    LEAVING.set(true);
    if all().is_empty() {
        return;
    }
    // Others that have been told as well know it when the next tick comes: only one that stays is to run it.
    hub::with(Hub::leave);
}

/// The worker begins, or goes on with another configuration.
pub fn begin() {
    LEAVING.set(false);
}

/// The worker goes now: nothing is begun any more.
pub fn end() {
    ENDING.set(true);
    clear();
}

/// A line about a program that belongs to no request.
fn report(level: Level, text: Arguments<'_>) {
    log::cycle(level, text);
}
