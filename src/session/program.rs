// SPDX-License-Identifier: Apache-2.0

//! What a session knows of its program besides the program's own streams.

use std::cell::Cell;
use std::rc::Rc;

use crate::exec::spawner::ExitStatus;

/// What the spawner tells of the end of a program, seen by all who have to do with the program.
#[derive(Debug, Default)]
pub struct ProgramEnd {
    status: Cell<Option<ExitStatus>>,
    gone: Cell<bool>,
}

impl ProgramEnd {
    /// How the program ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status.get()
    }

    /// Whether no process of its group is left.
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// The program has ended.
    pub fn ended(&self, status: ExitStatus) {
        self.status.set(Some(status));
    }

    /// Its descendants have ended as well.
    pub fn gone(&self) {
        self.gone.set(true);
    }
}

/// A program that has been left, and whose end may come before its session is logged.
#[derive(Debug)]
pub struct LeftProgram {
    /// How the program ended.
    pub end: Rc<ProgramEnd>,
    /// Milliseconds that its end is worth waiting for.
    pub patience: u64,
    /// The session is to be driven when it has ended. Cleared when the session does not care any more.
    pub is_awaited: Rc<Cell<bool>>,
}
