// SPDX-License-Identifier: Apache-2.0

//! One client of a run of a shared program.

use std::rc::Rc;

use super::host::ProgramHost;
use super::{Run, RunEnd, SharedProgramId, SharedPrograms, State};
use crate::channel::store::Input;
use crate::exec::terminal::Size;

/// What became of a message for the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The message will be read, if the program reads.
    Taken,
    /// There is no room; the client is woken when there is.
    Full,
    /// The message is larger than the program ever has room for.
    TooLarge,
}

/// One client of a run. It leaves when this is dropped.
pub struct ProgramMembership<H: ProgramHost> {
    programs: Rc<SharedPrograms<H>>,
    id: SharedProgramId,
    run: Rc<Run>,
    client: usize,
}

impl<H: ProgramHost> ProgramMembership<H> {
    pub(super) fn new(programs: Rc<SharedPrograms<H>>, id: SharedProgramId, run: Rc<Run>, client: usize) -> Self {
        ProgramMembership { programs, id, run, client }
    }

    /// How far the program is.
    pub fn state(&self) -> State {
        self.run.state()
    }

    /// How the program ended, if it has.
    pub fn end(&self) -> Option<RunEnd> {
        self.run.end()
    }

    /// The client looks again a little later.
    pub fn look_later(&self) {
        self.programs.wake_later(self.id, self.client);
    }

    /// The client asks for a size of the terminal that it shares.
    pub fn resize(&self, size: Size) {
        self.programs.resize(self.id, self.client, size);
    }

    /// Gives the program a message.
    pub fn push(&self, message: &Input) -> Pushed {
        self.programs.push(self.id, self.client, message, None)
    }

    /// Gives the program a message, as long as the zone has room, whatever waits for the program already.
    pub fn push_all(&self, message: &Input) -> Pushed {
        self.programs.push(self.id, self.client, message, Some(u64::MAX))
    }
}

impl<H: ProgramHost> Drop for ProgramMembership<H> {
    fn drop(&mut self) {
        self.programs.remove_client(self.id, self.client);
    }
}
