// SPDX-License-Identifier: Apache-2.0

//! One client of a run of a shared program.

use std::rc::Rc;

use super::clients::{again, leave, push};
use super::table::SharedId;
use crate::channel::store::Input;
use crate::session::shared::{Run, RunEnd, State};

/// What became of a message for the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It will be read, if the program reads.
    Taken,
    /// There is no room; the client is woken when there is.
    Full,
    /// It never fits.
    TooLarge,
}

/// One client of a run. It leaves when this is dropped.
pub struct Membership {
    id: SharedId,
    run: Rc<Run>,
    listener: usize,
}

impl Membership {
    pub(super) fn new(id: SharedId, run: Rc<Run>, listener: usize) -> Self {
        Membership { id, run, listener }
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
    pub fn again(&self) {
        again(self.id, self.listener);
    }

    /// Gives the program a message.
    pub fn push(&self, message: &Input) -> Pushed {
        push(self.id, self.listener, message, None)
    }

    /// Gives the program a message, as long as the zone has room, whatever waits for the program already.
    pub fn push_all(&self, message: &Input) -> Pushed {
        push(self.id, self.listener, message, Some(u64::MAX))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        leave(self.id, self.listener);
    }
}
