// SPDX-License-Identifier: Apache-2.0

//! The processes of simulated programs, and their timers.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::worker::WorkerState;
use super::world::World;
use crate::channel::store::{InputKind, ProgramHandle, Wake};
use crate::exec::spawner::{ExitStatus, ProgramId};
use crate::exec::terminal::SizePolicy;
use crate::session::endpoint::Ending;
use crate::session::shared::host::{Progress, SharedProcess, StartParameters, Timers};
use crate::session::shared::{RunEnd, SharedProgramId, SharedSize, SizeNote};
use crate::ws::close::CloseCode;

/// Octets of input that a process takes in one go.
const BITE: usize = 64;

/// Milliseconds for which a program that reads nothing is waited for when its clients have gone.
const PATIENCE: u64 = 1_000;

/// How programs are started in the simulation.
pub struct TestParameters {
    pub linger: u64,
    pub backlog: u64,
    pub is_requested: bool,
}

impl StartParameters for TestParameters {
    fn linger(&self) -> u64 {
        self.linger
    }

    fn is_requested(&self) -> bool {
        self.is_requested
    }

    fn backlog(&self) -> u64 {
        self.backlog
    }

    fn size_policy(&self) -> Option<SizePolicy> {
        Some(SizePolicy::Smallest)
    }
}

/// When a program is to be looked at.
#[derive(Default)]
pub struct TimerState {
    pub linger: Cell<Option<u64>>,
    pub turn: Cell<Option<u64>>,
    pub retry: Cell<Option<u64>>,
    pub is_posted: Cell<bool>,
    /// Whether a worker that leaves stays for the program.
    pub keeps_worker: Cell<bool>,
}

#[derive(Clone)]
pub struct TestTimers(pub Rc<TimerState>, pub Rc<World>);

impl TestTimers {
    fn at(&self, milliseconds: u64) -> Option<u64> {
        Some(self.1.now.get() + milliseconds)
    }
}

impl Timers for TestTimers {
    fn set_linger(&self, milliseconds: u64) {
        self.0.linger.set(self.at(milliseconds));
    }

    fn clear_linger(&self) {
        self.0.linger.set(None);
    }

    fn post_turn(&self) {
        self.0.is_posted.set(true);
    }

    fn set_turn(&self, milliseconds: u64) {
        self.0.turn.set(self.at(milliseconds));
    }

    fn set_retry(&self, milliseconds: u64) {
        self.0.retry.set(self.at(milliseconds));
    }

    fn keep_worker(&self, keeps: bool) {
        self.0.keeps_worker.set(keeps);
    }
}

/// A process, as its spawner and the test see it.
pub struct ProcessState {
    pub program: ProgramId,
    pub id: SharedProgramId,
    pub handle: ProgramHandle,
    pub pid: Cell<Option<i32>>,
    /// How the process has ended by itself.
    pub status: Cell<Option<ExitStatus>>,
    pub is_stopping: Cell<bool>,
    /// Whether nothing is left of the process.
    pub is_gone: Cell<bool>,
    /// Whether the process reads what it is given.
    pub reads: Cell<bool>,
    /// How many times the process says more than a turn may publish.
    pub turns: Cell<u32>,
    pub last_read: Cell<u64>,
    /// The size of its terminal.
    pub size: RefCell<SharedSize>,
}

/// A process in the worker that runs it.
pub struct TestProcess {
    pub state: Rc<ProcessState>,
    pub worker: Rc<WorkerState>,
}

impl TestProcess {
    fn read(&self) {
        let WorkerState { world, slot, .. } = &*self.worker;
        loop {
            let mut input = Vec::new();
            let handle = self.state.handle;
            world.store.programs().read_input(handle, *slot, BITE, &mut input).expect("a sound zone");
            if input.is_empty() || !self.state.reads.get() {
                return;
            }
            self.state.last_read.set(world.now.get());
            for left in &input {
                let data = &left.input.data;
                if left.input.kind == InputKind::Size {
                    self.state.size.borrow_mut().note(left.from, SizeNote::of_data(data).expect("a note"));
                    continue;
                }
                let number = u64::from_le_bytes(data[..8].try_into().expect("a number"));
                world.pending(handle, |pending| {
                    assert_eq!(pending.pop_front(), Some(number), "a message was lost, or was read twice");
                });
            }
            world.notify(world.store.programs().consume_input(handle, *slot, input.len()).expect("a sound zone"));
        }
    }
}

impl SharedProcess for TestProcess {
    type Parameters = TestParameters;

    fn id(&self) -> ProgramId {
        self.state.program
    }

    fn attach(&mut self, _: Option<OwnedFd>, _: &TestParameters) -> bool {
        true
    }

    fn keep_sizes(&mut self, workers: &Wake) -> bool {
        self.state.size.borrow_mut().keep(workers);
        false
    }

    fn is_stopping(&self) -> bool {
        self.state.is_stopping.get()
    }

    fn is_gone(&self) -> bool {
        self.state.is_gone.get()
    }

    fn stop(&mut self, _: &TestParameters) {
        assert!(!self.state.is_stopping.replace(true), "a process is stopped once");
        self.worker.check_stop(&self.state);
    }

    fn run(&mut self, handle: ProgramHandle, _: &TestParameters) -> Progress {
        let state = &self.state;
        assert!(!self.worker.is_dead.get());
        if state.is_stopping.get() {
            return if state.is_gone.get() { Progress::Left } else { Progress::Waits };
        }
        // One that the zone does not know any more has another handle until that is noticed.
        if handle == state.handle && state.pid.get().is_some() {
            self.read();
        }
        if state.turns.get() > 0 {
            state.turns.set(state.turns.get() - 1);
            return Progress::More;
        }
        match state.status.get() {
            Some(status) => {
                let ending = Ending { code: CloseCode::NORMAL, reason: state.program.0.to_string() };
                Progress::Ended(RunEnd::of(ending, Some(status)))
            }
            None => Progress::Waits,
        }
    }

    fn finish_input(&mut self, _: ProgramHandle, _: &TestParameters) -> Option<u64> {
        if self.state.status.get().is_some() {
            return None;
        }
        self.read();
        let now = self.worker.world.now.get();
        let is_done = self.worker.world.count_pending(self.state.handle) == 0;
        (!is_done && now < self.state.last_read.get() + PATIENCE).then_some(20)
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        self.worker.processes.borrow_mut().retain(|process| !Rc::ptr_eq(process, &self.state));
    }
}
