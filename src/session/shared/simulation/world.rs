// SPDX-License-Identifier: Apache-2.0

//! The zone that the workers of a simulation share, their timers, their processes and their clients.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};

use crate::channel::lock::Unshared;
use crate::channel::memory::{Corrupt, Region};
use crate::channel::store::{
    Begun, Ended, Handle, Input, InputError, InputKind, Key, Now, Process, ProgramHandle, ProgramView, Slot, Store,
    SubscribeError, Token, Wake,
};
use crate::exec::spawner::{ExitStatus, ProgramId};
use crate::exec::terminal::{Size, SizePolicy};
use crate::session::endpoint::Ending;
use crate::session::shared::host::{ProgramHost, ProgramZone, Progress, SharedProcess, StartParameters, Timers};
use crate::session::shared::{ProgramMembership, Pushed, RunEnd, SharedProgramId, SharedSize, SizeNote, State};
use crate::ws::close::CloseCode;
use crate::ws::frame::MessageKind;

/// Milliseconds for which a program that reads nothing is waited for when its clients have gone.
const PATIENCE: u64 = 1_000;

/// Somebody who only looks at the zone.
const OBSERVER: Process = Process { pid: u32::MAX, start: 1 };

/// Octets of input that a process takes in one go.
const BITE: usize = 64;

/// What is the same for all workers.
pub struct World {
    pub now: Cell<u64>,
    pub store: Store<Unshared>,
    /// The slot of somebody who has no clients, and never any news of a program that is there.
    observer: Slot,
    /// The slots of workers to be woken.
    woken: RefCell<Wake>,
    /// Messages that were taken for a program and that no process has read, as the zone is to have them.
    pending: RefCell<Vec<(ProgramHandle, VecDeque<u64>)>>,
    last: Cell<u64>,
    /// After the next look of a worker at a program another one, in this slot, tells that it has ended.
    pub ends_after_look: Cell<Option<Slot>>,
}

impl World {
    pub fn new() -> Rc<Self> {
        let region = Region::private(1 << 20).expect("memory");
        let store = Store::create(region, Unshared, 8, [1, 2]).expect("room for a zone");
        let observer = store.claim(OBSERVER, |_| true).expect("a slot").slot;
        Rc::new(World {
            now: Cell::new(1_000),
            store,
            observer,
            woken: RefCell::default(),
            pending: RefCell::default(),
            last: Cell::new(0),
            ends_after_look: Cell::new(None),
        })
    }

    pub fn time(&self) -> Now {
        Now { clock: self.now.get(), unix: self.now.get() }
    }

    /// A number that was not used for anything.
    pub fn number(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    pub fn notify(&self, wake: Wake) {
        self.woken.borrow_mut().merge(wake);
    }

    /// Whether a worker was to be woken since this was asked last.
    pub fn take_woken(&self, slot: Slot) -> bool {
        let mut woken = self.woken.borrow_mut();
        let is_woken = woken.has(slot.number());
        woken.remove(slot.number());
        is_woken
    }

    fn pending(&self, program: ProgramHandle, step: impl FnOnce(&mut VecDeque<u64>)) {
        let mut pending = self.pending.borrow_mut();
        let at = match pending.iter().position(|(handle, _)| *handle == program) {
            Some(at) => at,
            None => {
                pending.push((program, VecDeque::new()));
                pending.len() - 1
            }
        };
        step(&mut pending[at].1);
    }

    /// Forgets the programs that the zone has no more, which had neither clients nor a process: their input went with them.
    fn forget_removed(&self) {
        self.pending.borrow_mut().retain(|(program, _)| !self.store.programs().has_news(*program, self.observer));
    }

    /// What somebody without clients sees of a program, who changes nothing by that.
    pub fn view(&self, program: ProgramHandle) -> Option<ProgramView> {
        let looked = self.store.programs().look_at(program, self.observer, false, 0, self.time());
        looked.expect("a sound zone").map(|(view, wake)| {
            assert!(wake.is_empty());
            view
        })
    }

    /// Messages that wait for a program.
    pub fn count_pending(&self, program: ProgramHandle) -> usize {
        let mut count = 0;
        self.pending(program, |pending| count = pending.len());
        count
    }
}

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
pub struct TestTimers(Rc<TimerState>, Rc<World>);

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
    last_read: Cell<u64>,
    /// The size of its terminal.
    pub size: RefCell<SharedSize>,
}

/// A process in the worker that runs it.
pub struct TestProcess {
    state: Rc<ProcessState>,
    worker: Rc<WorkerState>,
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

/// A client of a shared program.
pub struct Client {
    pub number: usize,
    pub channel: Handle,
    pub token: Token,
    pub membership: RefCell<Option<ProgramMembership<TestHost>>>,
    /// The size that it has asked for last.
    pub size: Cell<Option<Size>>,
    /// What it has said and the program was not given yet.
    held: RefCell<VecDeque<u64>>,
    /// How its run has ended; it is still there to read what is left.
    pub end: RefCell<Option<State>>,
    /// Whether the client goes as soon as its run has ended.
    goes_at_once: bool,
}

impl Client {
    pub fn new(
        number: usize,
        channel: Handle,
        token: Token,
        membership: ProgramMembership<TestHost>,
        goes_at_once: bool,
    ) -> Self {
        Client {
            number,
            channel,
            token,
            membership: RefCell::new(Some(membership)),
            size: Cell::new(None),
            held: RefCell::default(),
            end: RefCell::default(),
            goes_at_once,
        }
    }

    /// How far the program is, as long as the client has not gone.
    pub fn state(&self) -> Option<State> {
        self.membership.borrow().as_ref().map(ProgramMembership::state)
    }

    /// The client says something.
    pub fn say(&self, number: u64) {
        self.held.borrow_mut().push_back(number);
        self.look();
    }

    /// The client asks for a size of the terminal, unless its run has ended.
    pub fn resize(&self, size: Size) {
        if let Some(membership) = &*self.membership.borrow()
            && self.end.borrow().is_none()
        {
            self.size.set(Some(size));
            membership.resize(size);
        }
    }

    /// Whether the program has been given all that it has said.
    pub fn is_through(&self) -> bool {
        self.held.borrow().is_empty()
    }

    /// What the client does whenever it is woken.
    pub fn look(&self) {
        let state = self.state();
        match state {
            None => return,
            Some(State::Starting | State::Running(_)) => {}
            Some(State::Refused(_) | State::Ended(_)) => {
                *self.end.borrow_mut() = state;
                self.held.borrow_mut().clear();
                if self.goes_at_once {
                    self.go();
                }
                return;
            }
        }
        loop {
            let Some(number) = self.held.borrow().front().copied() else { break };
            let message = Input { kind: InputKind::Message(MessageKind::Text), data: number.to_le_bytes().to_vec() };
            let pushed = self.membership.borrow().as_ref().map(|membership| membership.push(&message));
            match pushed {
                Some(Pushed::Taken) => drop(self.held.borrow_mut().pop_front()),
                Some(Pushed::Full) => break,
                Some(Pushed::TooLarge) | None => panic!("a small message of a client that is there"),
            }
        }
    }

    /// The client leaves the program.
    pub fn go(&self) {
        let membership = self.membership.take();
        drop(membership);
    }
}

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
    fn check_stop(&self, process: &ProcessState) {
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
