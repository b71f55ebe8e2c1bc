// SPDX-License-Identifier: Apache-2.0

//! One program for all clients of a channel, as one worker sees it.
//!
//! [`SharedPrograms`] has the programs that this worker has clients of, or runs. A worker that has a client claims the program
//! in the zone and starts it, unless another worker has claimed it; then it follows what the zone says. Whatever happens, in
//! this worker or in another, comes down to `SharedPrograms::examine`: it looks at the zone and does what is to be
//! done. The zone, the timers, the processes and the clients are behind the traits in [`host`].
//!
//! A location may let requests alone begin a run (`requests`): clients that come to it otherwise find the run or do not, and nobody
//! begins it again.
//!
//! Waking a client may come back here at once, by what that client sends or by its end. So every method takes `&self`, and
//! the table is borrowed for short steps only, never while a client is woken.

mod act;
mod clients;
mod events;
pub mod host;
mod membership;
mod requests;
mod run;
#[cfg(any(test, fuzzing))]
pub mod simulation;
mod sizes;
mod table;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};

pub use clients::JoinError;
use host::ProgramHost;
pub use membership::{ProgramMembership, Pushed};
pub use run::{Run, RunEnd, State};
pub use sizes::{SharedSize, SizeNote, SizeStep};
pub use table::SharedProgramId;
use table::{SharedProgram, Table};

/// The shared programs of one worker.
pub struct SharedPrograms<H: ProgramHost> {
    host: H,
    table: RefCell<Table<H>>,
    /// The worker has been told to go.
    is_leaving: Cell<bool>,
    /// The worker goes at this moment: nothing is begun any more.
    is_ending: Cell<bool>,
}

impl<H: ProgramHost> SharedPrograms<H> {
    /// A worker that has no programs yet.
    pub fn new(host: H) -> Self {
        SharedPrograms { host, table: RefCell::default(), is_leaving: Cell::new(false), is_ending: Cell::new(false) }
    }

    /// The worker begins, or goes on with another configuration.
    pub fn begin(&self) {
        self.is_leaving.set(false);
    }

    /// The worker has been told to go: programs that others can run are handed over soon.
    pub fn leave(&self) {
        self.is_leaving.set(true);
        for id in self.all() {
            // How long that is may be known only now.
            self.with(id, SharedProgram::keep_worker);
        }
        // Others that have been told as well know it when the next tick comes: only one that stays is to run it. Clients may
        // still come to this worker, and then the zone is to know it as well.
        self.host.leave();
    }

    /// The worker goes now: it lets go of all programs, and begins nothing any more.
    pub fn end(&self) {
        self.is_ending.set(true);
        drop(self.table.take());
    }

    /// A step with one of them, if it is there.
    fn with<R>(&self, id: SharedProgramId, step: impl FnOnce(&mut SharedProgram<H>) -> R) -> Option<R> {
        self.table.borrow_mut().programs.get_mut(&id).map(step)
    }

    /// All programs that this worker knows.
    fn all(&self) -> Vec<SharedProgramId> {
        self.table.borrow().programs.keys().copied().collect()
    }

    /// Forgets a program that this worker has nothing to do with.
    fn forget_unused(&self, id: SharedProgramId) {
        let forgotten = self.table.borrow_mut().remove_unused(id);
        drop(forgotten);
    }

    /// Wakes those of these clients that are still there.
    fn wake(&self, id: SharedProgramId, clients: impl IntoIterator<Item = usize>) {
        for client in clients {
            if self.with(id, |program| program.knows(client)) == Some(true) {
                self.host.wake(client);
            }
        }
    }
}
