// SPDX-License-Identifier: Apache-2.0

//! The shared programs of several workers driven by a string of octets: clients, processes, timers, workers that are told to
//! go or are killed, and channels that are deleted, in any order.
//!
//! The workers share a real store in private memory. [`run`] panics where they break one of their promises:
//!
//! - a program has at most one process at a time, in all workers together;
//! - what the zone has taken for a program is read in order and once, until a run ends;
//! - a process is stopped only if it has no clients, its worker leaves, or its channel is deleted;
//! - a run that a request has begun has one process, which its worker stays for, and another one begins when it is not kept any more;
//! - a terminal has the smallest of the sizes that its clients ask for;
//! - nobody is woken who has gone, and a worker that has gone does nothing;
//! - as soon as processes start and read, every client is served by a process or knows how its run ended, and nothing waits;
//! - when the clients have gone, the processes end, and nothing is left in the tables and in the zone.

mod client;
mod process;
mod script;
mod worker;
mod world;

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::{JoinError, ProgramMembership, SharedPrograms, State};
use crate::channel::store::{Budget, GroupLimits, Input, InputKind, Key, LINGER, News, Terms, Token};
use crate::channel::transport::Transport;
use crate::exec::spawner::ExitStatus;
use crate::exec::terminal::Size;
use crate::session::shared::RunEnd;
use crate::ws::frame::MessageKind;
use client::Client;
pub(super) use process::ProcessState;
use process::{TestParameters, TimerState};
pub use script::run;
use worker::{TestHost, WorkerState};
use world::World;

const NO_LIMITS: GroupLimits = GroupLimits { channels: 0, subscribers: 0, messages: 0, bytes: 0 };

const ALL: Budget = Budget { messages: usize::MAX, octets: usize::MAX };

/// Workers that there are at the same time.
const WORKERS: usize = 3;

/// The channel whose program requests start.
pub(super) const REQUESTED: &str = "requested";

/// The other channels.
const CHANNELS: [&str; 2] = ["one", "two"];

fn key(channel: &str) -> Key<'_> {
    Key::new(b"", channel.as_bytes()).expect("a short name")
}

/// A worker with its programs.
struct Worker {
    /// What the worker has besides its programs.
    state: Rc<WorkerState>,
    /// Its programs.
    programs: Rc<SharedPrograms<TestHost>>,
}

/// Workers and their world.
pub(super) struct Simulation {
    /// What they have together.
    world: Rc<World>,
    /// The workers that are there.
    workers: Vec<Worker>,
    alive: Rc<RefCell<Vec<Rc<WorkerState>>>>,
    linger: u64,
    backlog: u64,
}

impl Simulation {
    /// Workers without clients. Programs outlive their clients for so many milliseconds, and so many octets wait for them.
    pub fn new(linger: u64, backlog: u64) -> Self {
        let (world, alive) = (World::new(), Rc::default());
        let mut simulation = Simulation { world, workers: Vec::new(), alive, linger, backlog };
        for _ in 0..WORKERS {
            simulation.begin_worker();
        }
        simulation
    }

    fn begin_worker(&mut self) {
        let pid = self.world.number() as u32;
        let state = WorkerState::new(Rc::clone(&self.world), pid, Rc::clone(&self.alive));
        let programs = Rc::new(SharedPrograms::new(TestHost(Rc::clone(&state))));
        programs.begin();
        self.workers.push(Worker { state, programs });
    }

    /// A client comes to a worker. Its number, unless it is refused.
    pub fn join(&self, worker: usize, channel: &str, goes_at_once: bool) -> Result<usize, JoinError<()>> {
        let (linger, backlog) = (self.linger, self.backlog);
        let parameters = || Ok(TestParameters { linger, backlog, is_requested: false });
        self.enter(worker, channel, goes_at_once, |programs, number| programs.join(key(channel), number, parameters))
    }

    /// A client begins a run with a message. Its number, unless it is refused.
    pub fn begin(&self, worker: usize, goes_at_once: bool) -> Result<usize, JoinError<()>> {
        let parameters = TestParameters { linger: self.linger, backlog: self.backlog, is_requested: true };
        let data = self.world.number().to_le_bytes().to_vec();
        let first = Input { kind: InputKind::Message(MessageKind::Text), data };
        let has_run = self.has_run();
        let begun = self.enter(worker, REQUESTED, goes_at_once, |programs, number| {
            programs.begin_run(key(REQUESTED), number, &first, parameters)
        });
        assert!(!has_run || begun == Err(JoinError::Taken), "a run begins where there is one");
        begun
    }

    /// Whether there is a run that a request has begun, which goes on or is kept.
    pub fn has_run(&self) -> bool {
        let beginning = self.world.store.programs().beginning(key(REQUESTED), self.world.time());
        beginning.expect("a sound zone").is_some()
    }

    /// After the next look of a worker at a program it ends, in this worker.
    #[cfg(test)]
    pub fn end_after_next_look(&self, worker: usize) {
        self.world.ends_after_look.set(Some(self.workers[worker].state.slot));
    }

    /// A client finds a run. Its number, unless it is refused.
    pub fn follow(&self, worker: usize, goes_at_once: bool) -> Result<usize, JoinError<()>> {
        let (linger, backlog) = (self.linger, self.backlog);
        let parameters = || Ok(TestParameters { linger, backlog, is_requested: true });
        self.enter(worker, REQUESTED, goes_at_once, |programs, number| {
            programs.follow(key(REQUESTED), number, parameters)
        })
    }

    /// A client subscribes in a worker, and comes to a program.
    fn enter(
        &self,
        worker: usize,
        channel: &str,
        goes_at_once: bool,
        enter: impl FnOnce(&Rc<SharedPrograms<TestHost>>, usize) -> Result<ProgramMembership<TestHost>, JoinError<()>>,
    ) -> Result<usize, JoinError<()>> {
        let Worker { state, programs } = &self.workers[worker];
        let number = self.world.number();
        let terms = Terms {
            create: true,
            max_subscribers: 0,
            group: NO_LIMITS,
            presence: b"",
            transport: Transport::WebSocket,
        };
        let token = Token(number as u32);
        let subscribed = self.world.store.log().subscribe(key(channel), state.slot, token, terms, self.world.time());
        let subscribed = subscribed.expect("room");
        let number = number as usize;
        match enter(programs, number) {
            Ok(membership) => {
                let client =
                    Rc::new(Client::new(number, subscribed.channel, subscribed.token, membership, goes_at_once));
                state.clients.borrow_mut().insert(number, Rc::clone(&client));
                client.look();
                Ok(number)
            }
            Err(error) => {
                let _ = self.world.store.log().unsubscribe(subscribed.channel, state.slot, None, self.world.time());
                Err(error)
            }
        }
    }

    /// A client goes.
    pub fn part(&self, worker: usize, number: usize) {
        let state = &self.workers[worker].state;
        let client = state.clients.borrow().get(&number).map(Rc::clone).expect("a client");
        client.go();
        state.clients.borrow_mut().remove(&number);
        let _ = self.world.store.log().unsubscribe(client.channel, state.slot, None, self.world.time());
    }

    /// The client of this number.
    pub fn client(&self, worker: usize, number: usize) -> Rc<Client> {
        Rc::clone(&self.workers[worker].state.clients.borrow()[&number])
    }

    /// All clients, with the places of their workers.
    fn clients(&self) -> Vec<(usize, Rc<Client>)> {
        let of_worker = |(at, worker): (usize, &Worker)| {
            let clients: Vec<_> =
                worker.state.clients.borrow().values().map(|client| (at, Rc::clone(client))).collect();
            clients
        };
        self.workers.iter().enumerate().flat_map(of_worker).collect()
    }

    /// All processes, with the places of their workers.
    pub fn processes(&self) -> Vec<(usize, Rc<ProcessState>)> {
        let of_worker = |(at, worker): (usize, &Worker)| {
            let processes: Vec<_> =
                worker.state.processes.borrow().iter().map(|process| (at, Rc::clone(process))).collect();
            processes
        };
        self.workers.iter().enumerate().flat_map(of_worker).collect()
    }

    /// The spawner has started a process.
    pub fn start(&self, worker: usize, process: &ProcessState) {
        if process.pid.get().is_none() && !process.is_gone.get() {
            let pid = self.world.number() as i32;
            process.pid.set(Some(pid));
            self.workers[worker].programs.started(process.id, process.program, pid, None);
        }
    }

    /// A process could not be started, or is lost.
    pub fn fail(&self, worker: usize, process: &ProcessState, end: &RunEnd) {
        process.is_gone.set(true);
        self.workers[worker].programs.failed(process.id, process.program, end);
    }

    /// A process ends by itself, perhaps with everything that came of it.
    pub fn exit(&self, worker: usize, process: &ProcessState, is_gone: bool) {
        if process.pid.get().is_some() {
            process.status.set(Some(ExitStatus::Code(0)));
            process.is_gone.set(process.is_gone.get() || is_gone);
            self.workers[worker].programs.on_ready(process.id);
        }
    }

    /// Nothing is left of a process that was to be stopped.
    pub fn gone(&self, worker: usize, process: &ProcessState) {
        if process.is_stopping.get() {
            process.is_gone.set(true);
            self.workers[worker].programs.on_ready(process.id);
        }
    }

    /// One turn of a worker. Whether there was anything.
    pub fn turn(&self, at: usize) -> bool {
        let Worker { state, programs } = &self.workers[at];
        let mut has_work = false;
        if self.world.take_woken(state.slot) {
            has_work = true;
            if self.world.store.programs().take_news(state.slot) {
                programs.on_news();
            }
            let mut news = Vec::new();
            let _ = self.world.store.log().drain(state.slot, ALL, self.world.time(), &mut news);
            for news in news {
                let News::Deleted(token) = news else { continue };
                for (worker, client) in self.clients() {
                    if worker == at && client.token == token {
                        self.part(at, client.number);
                    }
                }
            }
        }
        has_work | self.fire(at)
    }

    /// Calls the timers of a worker that are due. Whether there are any.
    fn fire(&self, at: usize) -> bool {
        let Worker { state, programs } = &self.workers[at];
        let now = self.world.now.get();
        let take = |timer: &std::cell::Cell<Option<u64>>| {
            let is_due = timer.get().is_some_and(|time| time <= now);
            if is_due {
                timer.set(None);
            }
            is_due
        };
        let timers: Vec<_> = state.timers.borrow().iter().map(|(id, timers)| (*id, timers.clone())).collect();
        let mut any = false;
        for (id, timers) in timers {
            let due = |of: fn(&TimerState) -> &std::cell::Cell<Option<u64>>| {
                timers.upgrade().is_some_and(|timers| take(of(&timers)))
            };
            if due(|timers| &timers.linger) {
                programs.on_linger(id);
                any = true;
            }
            let is_posted = timers.upgrade().is_some_and(|timers| timers.is_posted.take());
            if due(|timers| &timers.turn) | due(|timers| &timers.retry) | is_posted {
                programs.on_turn(id);
                any = true;
            }
        }
        any
    }

    /// Lets time pass, and calls the timers whose time has come.
    pub fn pass(&self, milliseconds: u64) {
        self.world.now.set(self.world.now.get() + milliseconds);
        for at in 0..self.workers.len() {
            self.fire(at);
        }
    }

    /// A second of a worker is over.
    pub fn tick(&self, at: usize) {
        let _ = self.world.store.tend(self.world.time(), usize::MAX);
        self.workers[at].programs.on_tick();
    }

    /// The next start in a worker cannot even be asked for.
    pub fn refuse(&self, at: usize) {
        self.workers[at].state.refusals.set(1);
    }

    /// A worker is told to go.
    pub fn leave(&self, at: usize) {
        if !self.workers[at].state.is_leaving.replace(true) {
            self.workers[at].programs.leave();
        }
    }

    /// A worker is gone, with its processes and its clients: it was killed, or it has released what it had of the zone.
    pub fn end_worker(&mut self, at: usize, is_killed: bool) {
        let Worker { state, programs } = self.workers.remove(at);
        self.alive.borrow_mut().retain(|worker| !Rc::ptr_eq(worker, &state));
        if is_killed {
            state.is_dead.set(true);
        }
        programs.end();
        let clients = state.clients.take();
        for client in clients.values() {
            client.go();
        }
        assert!(state.processes.borrow().is_empty());
        if !is_killed {
            for client in clients.values() {
                let _ = self.world.store.log().unsubscribe(client.channel, state.slot, None, self.world.time());
            }
            self.world.notify(self.world.store.release(state.slot).expect("a sound zone"));
        }
        state.is_dead.set(true);
        state.timers.borrow_mut().clear();
        self.begin_worker();
    }

    /// A channel is deleted.
    pub fn delete(&self, channel: &str) {
        let deleted = self.world.store.log().delete(key(channel), self.world.time()).expect("a sound zone");
        if let Some(deleted) = deleted {
            self.world.notify(deleted.wake);
        }
    }

    /// All processes start, read and end as they are to, and all that has come is handled. A worker that died is found.
    pub fn settle(&self) {
        let mut rounds = 0;
        loop {
            for (worker, process) in self.processes() {
                process.reads.set(true);
                self.gone(worker, &process);
                self.start(worker, &process);
                self.workers[worker].programs.on_ready(process.id);
            }
            let mut has_work = false;
            for at in 0..self.workers.len() {
                has_work |= self.turn(at);
            }
            has_work |=
                self.processes().iter().any(|(_, process)| process.pid.get().is_none() || process.is_stopping.get());
            if !has_work && rounds > 3 {
                return;
            }
            self.pass(20);
            if rounds % 10 == 2 {
                for at in 0..self.workers.len() {
                    self.tick(at);
                }
            }
            rounds += 1;
            // A script can say thousands of messages, of which a small backlog lets one pass in each round.
            assert!(rounds < 20_000, "the workers are never at rest");
        }
    }

    /// Looks at what is promised when everything is at rest.
    pub fn check(&self) {
        let processes = self.processes();
        for (at, process) in &processes {
            let keeps = self.workers[*at].state.timers.borrow().get(&process.id).and_then(Weak::upgrade);
            let is_requested = self.world.view(process.handle).is_some_and(|view| view.requested);
            assert_eq!(keeps.map(|timers| timers.keeps_worker.get()), Some(is_requested), "who keeps a worker");
        }
        for (at, client) in self.clients() {
            match client.state() {
                Some(State::Starting) => panic!("client {} of worker {at} waits for a program", client.number),
                Some(State::Running(pid)) => {
                    let process = processes.iter().find(|(_, process)| process.pid.get() == Some(pid));
                    let (_, process) = process.expect("a client is served by a process");
                    assert!(!process.is_stopping.get());
                    assert!(client.is_through(), "what a client has said waits");
                    let sharing = self.clients().into_iter().map(|(_, client)| client);
                    let sizes = sharing.filter(|client| client.state() == Some(State::Running(pid)));
                    if let Some(smallest) = sizes.filter_map(|client| client.size.get()).reduce(Size::common) {
                        assert_eq!(process.size.borrow().get(), smallest, "the terminal has another size");
                    }
                }
                Some(State::Refused(_) | State::Ended(_)) | None => {
                    assert!(client.end.borrow().is_some(), "a client was not woken at the end of its run");
                }
            }
        }
        for (_, process) in &processes {
            assert_eq!(self.world.count_pending(process.handle), 0, "what was taken for a program was not read");
        }
    }

    /// All clients go, and with them everything.
    pub fn conclude(self) {
        self.settle();
        self.check();
        let handles: Vec<_> = self.processes().iter().map(|(_, process)| process.handle).collect();
        for (at, client) in self.clients() {
            self.part(at, client.number);
        }
        self.settle();
        self.pass(self.linger);
        self.settle();
        let processes = self.processes();
        let left = processes.first().map(|(at, process)| (at, process.program.0, self.world.view(process.handle)));
        assert_eq!(left, None, "a process outlives its clients");
        for worker in &self.workers {
            let table = worker.programs.table.borrow();
            assert!(table.is_empty(), "a program that nobody uses is in the table");
        }
        for handle in handles {
            assert_eq!(self.world.view(handle), None, "a program that nobody uses is in the zone");
        }
        // Runs are kept for that long, and channels that nobody uses go a while later.
        self.pass(self.linger + 1_000);
        let _ = self.world.store.tend(self.world.time(), 512);
        self.pass(LINGER);
        let count_channels = || {
            self.pass(1_000);
            let _ = self.world.store.tend(self.world.time(), 512);
            self.world.store.usage().expect("a sound zone").channels
        };
        assert!((0..10).any(|_| count_channels() == 0), "a channel that nobody uses is in the zone");
    }
}

impl Drop for Simulation {
    /// Workers know each other, and their clients: without this none of them would ever be freed.
    fn drop(&mut self) {
        for state in self.alive.take() {
            drop(state.clients.take());
        }
    }
}
