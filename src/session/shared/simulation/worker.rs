// SPDX-License-Identifier: Apache-2.0

//! A simulated worker, as its programs see it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

use super::client::Client;
use super::process::{ProcessState, TestParameters, TestProcess, TestTimers, TimerState};
use super::world::{OBSERVER, World};
use crate::channel::lock::Unshared;
use crate::channel::memory::Corrupt;
use crate::channel::store::{
    Begun, Ended, Input, InputError, InputKind, Key, Now, Process, ProgramHandle, ProgramView, Slot, Store,
    SubscribeError, Wake,
};
use crate::exec::spawner::{ExitStatus, ProgramId};
use crate::exec::terminal::SizePolicy;
use crate::session::endpoint::Ending;
use crate::session::shared::host::{ProgramHost, ProgramZone};
use crate::session::shared::{RunEnd, SharedProgramId, SharedSize};
use crate::ws::close::CloseCode;

/// What a worker has besides its programs.
pub struct WorkerState {
    pub world: Rc<World>,
    pub process: Process,
    pub slot: Slot,
    pub is_leaving: Cell<bool>,
    pub is_dead: Cell<bool>,
    /// The workers that are there.
    pub alive: Rc<RefCell<Vec<Rc<WorkerState>>>>,
    pub timers: RefCell<BTreeMap<SharedProgramId, Weak<TimerState>>>,
    pub processes: RefCell<Vec<Rc<ProcessState>>>,
    pub clients: RefCell<BTreeMap<usize, Rc<Client>>>,
    /// The program that was claimed last.
    claimed: Cell<Option<ProgramHandle>>,
    /// The program whose run a request has begun last.
    begun: Cell<Option<ProgramHandle>>,
    /// Starts that cannot even be asked for.
    pub refusals: Cell<u32>,
}

impl WorkerState {
    pub fn new(world: Rc<World>, pid: u32, alive: Rc<RefCell<Vec<Rc<WorkerState>>>>) -> Rc<Self> {
        let process = Process { pid, start: 1 };
        let lives = |other| other == OBSERVER || alive.borrow().iter().any(|worker| worker.process == other);
        let claimed = world.store.claim(process, lives).expect("a slot");
        world.notify(claimed.wake);
        let worker = Rc::new(WorkerState {
            world,
            process,
            slot: claimed.slot,
            is_leaving: Cell::new(false),
            is_dead: Cell::new(false),
            alive: Rc::clone(&alive),
            timers: RefCell::default(),
            processes: RefCell::default(),
            clients: RefCell::default(),
            claimed: Cell::new(None),
            begun: Cell::new(None),
            refusals: Cell::new(0),
        });
        alive.borrow_mut().push(Rc::clone(&worker));
        worker
    }

    /// A process with clients is stopped for a reason only.
    pub fn check_stop(&self, process: &ProcessState) {
        if process.status.get().is_some() {
            return;
        }
        if let Some(view) = self.world.view(process.handle)
            && !view.deleted
            && (view.requested || !self.is_leaving.get())
        {
            assert!(!view.others, "a program of other workers' clients is stopped");
        }
    }
}

/// A worker, as its programs see it.
#[derive(Clone)]
pub struct TestHost(pub Rc<WorkerState>);

impl TestHost {
    fn store(&self) -> &Store<Unshared> {
        assert!(!self.0.is_dead.get(), "a worker that is gone does something");
        &self.0.world.store
    }

    fn now(&self) -> Now {
        self.0.world.time()
    }

    fn notify(&self, wake: Result<Wake, Corrupt>) {
        self.0.world.notify(wake.expect("a sound zone"));
    }
}

impl ProgramZone for TestHost {
    fn attach(&self, key: Key<'_>) -> Result<Option<ProgramHandle>, SubscribeError> {
        self.0.world.forget_removed();
        self.store().programs().attach(key, self.0.slot, self.now())
    }

    fn begin(&self, key: Key<'_>, keeps: u64) -> Result<Begun, SubscribeError> {
        self.0.world.forget_removed();
        let begun = self.store().programs().begin(key, self.0.slot, keeps, self.now())?;
        if let Begun::Begun(program) = begun {
            self.0.world.pending(program, VecDeque::clear);
            self.0.claimed.set(Some(program));
            self.0.begun.set(Some(program));
        }
        Ok(begun)
    }

    fn follow(&self, key: Key<'_>) -> Result<Option<ProgramHandle>, Corrupt> {
        self.0.world.forget_removed();
        self.store().programs().follow(key, self.0.slot, self.now())
    }

    fn lost(&self, program: ProgramHandle, how: &Ended) {
        self.0.world.pending(program, VecDeque::clear);
        let wake = self.store().programs().lost(program, how, self.now());
        self.notify(wake);
    }

    fn look(&self, program: ProgramHandle, clients: bool, run: u32) -> Result<Option<ProgramView>, Corrupt> {
        let looked = self.store().programs().look_at(program, self.0.slot, clients, run, self.now())?;
        if let Some(owner) = self.0.world.ends_after_look.take() {
            let end = RunEnd::of(Ending { code: CloseCode::NORMAL, reason: String::new() }, Some(ExitStatus::Code(0)));
            let wake = self.store().programs().ended(program, owner, &end.to_zone(), self.now());
            self.notify(wake);
        }
        Ok(looked.map(|(view, wake)| {
            self.0.world.notify(wake);
            view
        }))
    }

    fn has_news(&self, program: ProgramHandle) -> bool {
        self.store().programs().has_news(program, self.0.slot)
    }

    fn claim(&self, program: ProgramHandle) -> bool {
        let may = self.store().programs().claim(program, self.0.slot).expect("a sound zone");
        if may {
            self.0.claimed.set(Some(program));
        }
        may
    }

    fn runs(&self, program: ProgramHandle, pid: i32) {
        let wake = self.store().programs().runs(program, self.0.slot, pid.unsigned_abs());
        self.notify(wake);
    }

    fn stops(&self, program: ProgramHandle) {
        self.store().programs().stops(program, self.0.slot).expect("a sound zone");
    }

    fn ended(&self, program: ProgramHandle, how: &Ended) {
        self.0.world.pending(program, VecDeque::clear);
        let wake = self.store().programs().ended(program, self.0.slot, how, self.now());
        self.notify(wake);
    }

    fn left(&self, program: ProgramHandle) {
        if self.0.world.view(program).is_some_and(|view| view.requested) {
            self.0.world.pending(program, VecDeque::clear);
        }
        let wake = self.store().programs().left(program, self.0.slot, self.now());
        self.notify(wake);
    }

    fn push(&self, program: ProgramHandle, message: &Input, most: u64) -> Result<(), InputError> {
        let wake = self.store().programs().push_input(program, self.0.slot, message, most, self.now())?;
        if message.kind != InputKind::Size {
            let number = u64::from_le_bytes(message.data[..8].try_into().expect("a number"));
            self.0.world.pending(program, |pending| pending.push_back(number));
        }
        self.0.world.notify(wake);
        Ok(())
    }

    fn leave(&self) {
        self.store().programs().leave(self.0.slot).expect("a sound zone");
    }

    fn lives(&self, worker: Process) -> bool {
        self.0.alive.borrow().iter().any(|other| other.process == worker)
    }

    fn clear_dead_worker(&self, worker: Process) {
        assert!(!self.lives(worker));
        let wake = self.store().release_dead(worker);
        self.notify(wake);
    }
}

impl ProgramHost for TestHost {
    type Parameters = TestParameters;
    type Timers = TestTimers;
    type Process = TestProcess;

    fn timers(&self, id: SharedProgramId) -> TestTimers {
        let state = Rc::new(TimerState::default());
        let before = self.0.timers.borrow_mut().insert(id, Rc::downgrade(&state));
        assert!(before.is_none(), "an id is used twice");
        TestTimers(state, Rc::clone(&self.0.world))
    }

    fn start(&self, parameters: &TestParameters, id: SharedProgramId, _: &TestTimers) -> Result<TestProcess, RunEnd> {
        let handle = self.0.claimed.take().expect("a program is claimed before it is started");
        let begun = self.0.begun.take();
        assert_eq!(begun.is_some(), parameters.is_requested, "a run is begun by a request, and once");
        for worker in &*self.0.alive.borrow() {
            let others = worker.processes.borrow();
            assert!(others.iter().all(|process| process.handle != handle), "a second process of one program");
        }
        if self.0.refusals.get() > 0 {
            self.0.refusals.set(self.0.refusals.get() - 1);
            return Err(RunEnd::refused(true));
        }
        let state = Rc::new(ProcessState {
            program: ProgramId(self.0.world.number()),
            id,
            handle,
            pid: Cell::new(None),
            status: Cell::new(None),
            is_stopping: Cell::new(false),
            is_gone: Cell::new(false),
            reads: Cell::new(true),
            turns: Cell::new(0),
            last_read: Cell::new(self.0.world.now.get()),
            size: RefCell::new(SharedSize::new(SizePolicy::Smallest)),
        });
        self.0.processes.borrow_mut().push(Rc::clone(&state));
        Ok(TestProcess { state, worker: Rc::clone(&self.0) })
    }

    fn wake(&self, client: usize) {
        let client = self.0.clients.borrow().get(&client).map(Rc::clone);
        client.expect("a client that has gone is not woken").look();
    }
}
