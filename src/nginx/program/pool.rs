// SPDX-License-Identifier: Apache-2.0

//! Programs of this worker that are started ahead of their clients (`websocket_exec_pool`). How many and when is decided by
//! [`crate::exec::pool`].
//!
//! A program is in the pool from the time when it runs until a client has it, or until it has ended, or is of no use any more.
//! Invariant: whoever takes one out of the pool is the only one that has it, so that no program ever has two clients.

mod hand_over;
mod location;
mod program;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Arguments, Display};
use std::mem;
use std::os::fd::OwnedFd;
use std::ptr;
use std::rc::Rc;

pub use hand_over::{hand_over, tells_of_client};
pub use location::{PooledLocation, refusal};
use program::Program;

use super::Listener;
use crate::exec::pool::{Next, PROVEN, Pool, Setback};
use crate::exec::spawner::ProgramId;
use crate::exec::strings::Strings;
use crate::nginx::exhaustion::{self, Explained};
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::log::{self, Level};
use crate::nginx::timer::{Timer, now};
use crate::nginx::worker::programs::{self, NotStarted, Served};
use crate::session::program::ProgramEnd;

/// Programs that are asked for in one turn, of all pools together: clients are not to wait for more.
const TURN: usize = 2;

/// How long the end of a program is waited for that has closed its output, in milliseconds: those that end do that first, and
/// it is their end that is to be told.
const CLOSED: u64 = 100;

/// How often those that wait look whether clients need their places, in milliseconds.
const GIVE_WAY: u64 = 500;

/// The pool of one location.
struct LocationPool {
    location: Rc<PooledLocation>,
    arguments: Strings,
    environment: Strings,
    state: Pool,
    /// It was asked for, and does not run yet.
    starting: Option<Program>,
    /// They run; who has waited longest is the first.
    waiting: VecDeque<Program>,
    /// When to look for those that have closed their output.
    look_at: Option<u64>,
    /// When to look whether those that wait have to give way. Invariant: with a limit it is there while any wait.
    give_way_at: Option<u64>,
}

/// The pools of this worker.
#[derive(Default)]
struct Pools {
    /// By their numbers, of which this is the first.
    first: u64,
    list: Vec<LocationPool>,
    /// They have given up their connections, and are to be left when nothing is borrowed.
    released: Vec<Program>,
    /// Which pool is the first to get its program in the next turn.
    turn: usize,
    timer: Option<Timer>,
}

impl Pools {
    fn numbered(&mut self, number: u64) -> Option<&mut LocationPool> {
        self.list.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// A program gives up its connections at once, because nginx needs them for others.
    fn release(&mut self, id: usize) {
        let found = self.list.iter_mut().find_map(|pool| Some((pool.place_numbered(id)?, pool)));
        let Some((at, pool)) = found else { return };
        if let Some(mut program) = pool.waiting.remove(at) {
            pool.state.withdrawn(program.asked, now());
            program.release();
            self.released.push(program);
            self.arm();
        }
    }

    /// Asks for programs, and to be called again when there is more to be done. Returns those that are of no use.
    fn fill(&mut self) -> Vec<Program> {
        let now = now();
        let mut lost = mem::take(&mut self.released);
        for pool in self.list.iter_mut().filter(|pool| pool.give_way_at.is_some_and(|at| at <= now)) {
            pool.give_way(now, &mut lost);
        }
        for pool in self.list.iter_mut().filter(|pool| pool.look_at.is_some_and(|at| at <= now)) {
            pool.look_at = None;
            let mut at = 0;
            while at < pool.waiting.len() {
                match pool.look(at, now) {
                    Some(program) => lost.push(program),
                    None => at += 1,
                }
            }
        }
        let count = self.list.len();
        let mut left = TURN;
        for nth in 0..count {
            let at = (self.turn + nth) % count;
            let Some(pool) = self.list.get_mut(at) else { continue };
            if pool.state.next(now) == Next::Start {
                if left == 0 {
                    self.turn = at;
                    break;
                }
                left -= 1;
                pool.start(now);
            }
        }
        self.arm();
        lost
    }

    /// Asks to be called when the next program can be asked for.
    fn arm(&mut self) {
        let now = now();
        let next = |pool: &mut LocationPool| {
            let start = match pool.state.next(now) {
                Next::Nothing => None,
                Next::Start => Some(now),
                Next::At(at) => Some(at),
            };
            start.into_iter().chain(pool.look_at).chain(pool.give_way_at).min()
        };
        let released = (!self.released.is_empty()).then_some(now);
        let Some(at) = self.list.iter_mut().filter_map(next).chain(released).min() else { return };
        let timer = self.timer.get_or_insert_with(|| Timer::of_worker(on_time).cancelable());
        timer.disarm();
        if at <= now { timer.post_next() } else { timer.arm(at - now) }
    }
}

impl LocationPool {
    fn new(location: &Rc<PooledLocation>) -> Self {
        LocationPool {
            arguments: location.arguments(),
            environment: location.environment().into(),
            state: Pool::new(location.size),
            starting: None,
            waiting: VecDeque::new(),
            look_at: None,
            give_way_at: None,
            location: Rc::clone(location),
        }
    }

    /// Asks for a program.
    fn start(&mut self, now: u64) {
        let location = &self.location;
        let place = if exhaustion::is_near() { None } else { programs::admit_ahead(location.key, location.most) };
        let Some(place) = place else {
            self.state.full(now);
            return;
        };
        self.state.asked(now);
        let number = location.number;
        let served = |end: &Rc<ProgramEnd>| Rc::new(InPool { pool: number, end: Rc::clone(end) }) as _;
        match Program::ask(location, place, &self.arguments, &self.environment, served, listener, now) {
            Ok(program) => self.starting = Some(program),
            Err(error) => {
                programs::failed(location.key);
                let setback = self.state.failed(now);
                let name = &location.name;
                tell(setback, Level::Error, format_args!("cannot start {name}: {}", Explained(&error)));
            }
        }
    }

    /// The program that was asked for runs, and waits.
    fn wait(&mut self, program: Program) {
        self.state.ready();
        self.waiting.push_back(program);
        if self.location.most != 0 && self.give_way_at.is_none() {
            self.give_way_at = Some(now() + GIVE_WAY);
        }
    }

    /// Takes out those that have to give way to the programs of clients, in whatever worker those are.
    fn give_way(&mut self, now: u64, to: &mut Vec<Program>) {
        let excess = programs::excess(self.location.key, self.location.most);
        for _ in 0..excess {
            // Who has waited longest is the most likely to be ready.
            let Some(program) = self.waiting.pop_back() else { break };
            self.state.withdrawn(program.asked, now);
            to.push(program);
        }
        self.give_way_at = (!self.waiting.is_empty()).then_some(now + GIVE_WAY);
    }

    /// Looks what has become of a program that waits: it is taken out if it has ended, or has closed its output a while ago.
    fn look(&mut self, at: usize, now: u64) -> Option<Program> {
        let program = self.waiting.get_mut(at)?;
        if program.launched.end.status().is_none() {
            if program.is_useful() {
                return None;
            }
            let until = *program.closed.get_or_insert(now) + CLOSED;
            if now < until {
                self.look_at = Some(self.look_at.map_or(until, |at| at.min(until)));
                return None;
            }
        }
        self.lose(at)
    }

    /// A program that waits is taken out: it is not there any more, or of no use. It is to be left when nothing is borrowed.
    fn lose(&mut self, at: usize) -> Option<Program> {
        let program = self.waiting.remove(at)?;
        let now = now();
        program.replaced();
        let setback = self.state.lost(program.asked, now);
        let level = if now >= program.asked + PROVEN { Level::Notice } else { Level::Error };
        let name = &self.location.name;
        match program.launched.end.status() {
            Some(status) => tell(setback, level, format_args!("{name} ended with {status} before a client came")),
            None => tell(setback, level, format_args!("{name} has closed its output before a client came")),
        }
        Some(program)
    }

    fn place_of(&self, end: &Rc<ProgramEnd>) -> Option<usize> {
        self.waiting.iter().position(|program| Rc::ptr_eq(&program.launched.end, end))
    }

    fn place_numbered(&self, id: usize) -> Option<usize> {
        self.waiting.iter().position(|program| program.launched.id.0 as usize == id)
    }

    /// The program that was asked for, if it is the one with this end.
    fn take_starting(&mut self, end: &Rc<ProgramEnd>) -> Option<Program> {
        self.starting.take_if(|program| Rc::ptr_eq(&program.launched.end, end))
    }
}

thread_local! {
    static POOLS: RefCell<Pools> = RefCell::default();
}

/// The pools of the locations of a configuration begin to fill, in place of those of the configuration before.
pub fn begin(locations: &[Rc<PooledLocation>]) {
    leaving();
    POOLS.with_borrow_mut(|pools| {
        pools.first = locations.first().map_or(0, |location| location.number);
        pools.list = locations.iter().map(LocationPool::new).collect();
        pools.turn = 0;
        pools.arm();
    });
}

/// The worker is to go, or goes on with another configuration: no more programs are started ahead, and those that wait are stopped.
pub fn leaving() {
    let programs: Vec<Program> = POOLS.with_borrow_mut(|pools| {
        let of_pool = |pool: &mut LocationPool| {
            pool.state.close();
            pool.starting.take().into_iter().chain(std::mem::take(&mut pool.waiting))
        };
        let released = mem::take(&mut pools.released);
        pools.list.iter_mut().flat_map(of_pool).chain(released).collect()
    });
    programs.into_iter().for_each(Program::leave);
}

/// The worker leaves now; the spawner stops what is there.
pub fn end() {
    drop(POOLS.take());
}

/// How the log calls a program that a client of this pool may get; `None` where none waits.
fn has_waiting(number: u64) -> Option<String> {
    POOLS.with_borrow_mut(|pools| {
        let pool = pools.numbered(number).filter(|pool| !pool.waiting.is_empty())?;
        Some(pool.location.name.clone())
    })
}

/// Takes out the program that has waited longest, of those that are of use. `is_given` says whether it could be given to the
/// client.
fn take(number: u64, mut is_given: impl FnMut(&Program) -> bool) -> Option<Program> {
    POOLS.with_borrow_mut(|pools| {
        let pool = pools.numbered(number)?;
        // Of what is of no use there will be an event.
        let at = pool.waiting.iter().position(|program| program.is_useful() && is_given(program))?;
        let program = pool.waiting.remove(at)?;
        pool.state.taken(program.asked, now());
        pools.arm();
        Some(program)
    })
}

/// Changes a pool, leaves the program that this brings about, and goes on with filling.
fn change(number: u64, body: impl FnOnce(&mut LocationPool) -> Option<Program>) {
    let left = POOLS.with_borrow_mut(|pools| {
        let left = pools.numbered(number).and_then(body);
        pools.arm();
        left
    });
    if let Some(program) = left {
        program.leave();
    }
}

/// A program without a client is told what becomes of it.
struct InPool {
    pool: u64,
    /// Which one it is.
    end: Rc<ProgramEnd>,
}

impl InPool {
    /// The program that was asked for does not run.
    fn not_started(&self, text: Arguments<'_>) {
        change(self.pool, |pool| {
            // Its streams are closed: it is in no table any more, or is being taken down.
            drop(pool.take_starting(&self.end)?);
            programs::failed(pool.location.key);
            tell(pool.state.failed(now()), Level::Error, text);
            None
        });
    }

    fn look(&self) {
        change(self.pool, |pool| {
            let place = pool.place_of(&self.end)?;
            pool.look(place, now())
        });
    }
}

impl Served for InPool {
    fn started(&self, id: ProgramId, pid: i32, terminal: Option<OwnedFd>) {
        change(self.pool, |pool| {
            let mut program = pool.take_starting(&self.end)?;
            match program.begin(pid, terminal, listener(id.0)) {
                Ok(()) => {
                    pool.wait(program);
                    None
                }
                Err(error) => {
                    let name = &pool.location.name;
                    let text = format_args!("{name} is stopped: {}", Explained(&error));
                    tell(pool.state.failed(now()), Level::Error, text);
                    Some(program)
                }
            }
        });
        // It may have ended, or closed its output, before anybody was watching.
        self.look();
    }

    fn failed(&self, _: ProgramId, failure: NotStarted<'_>) {
        self.not_started(failure.text);
    }

    fn timed_out(&self, _: ProgramId, reason: Arguments<'_>) {
        self.not_started(reason);
    }

    fn report(&self, _: Arguments<'_>) {
        // It is told when the program is replaced.
    }

    fn ended(&self) {
        self.look();
    }

    fn lost(&self, _: ProgramId, _: bool) {
        // That the spawner is gone is in the log, and nothing of the program is left.
        change(self.pool, |pool| {
            if let Some(program) = pool.take_starting(&self.end) {
                drop(program);
                pool.state.failed(now());
            } else if let Some(program) = pool.place_of(&self.end).and_then(|place| pool.waiting.remove(place)) {
                program.replaced();
                pool.state.lost(program.asked, now());
            }
            None
        });
    }
}

/// Says that there is a setback, unless that has been said lately.
fn tell(Setback { is_news, pause }: Setback, level: Level, text: Arguments<'_>) {
    if is_news {
        let text = format_args!("{text} (websocket_exec_pool): the next one is started ahead in {}", Pause(pause));
        log::cycle(level, text);
    }
}

struct Pause(u64);

impl Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000 => write!(f, "{} ms", self.0),
            time => write!(f, "{} s", time.div_ceil(1_000)),
        }
    }
}

/// Who hears of the streams of a program without a client. The number of the program is in the place of a pointer.
fn listener(id: u64) -> Listener {
    // SAFETY: ngx_cycle is set before workers begin, and its log outlives them.
    let log = unsafe { (*ffi::ngx_cycle).log };
    Listener { handler: on_stream, data: ptr::without_provenance_mut(id as usize), log }
}

/// A program has written something, or closed its output.
unsafe extern "C" fn on_stream(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the event of a connection has the connection as its data, and that our number.
        let (id, is_needed) = unsafe {
            let connection = (*event).data.cast::<ffi::ngx_connection_t>();
            let is_needed = (*connection).close() != 0;
            (*connection).set_close(0);
            ((*connection).data.addr(), is_needed)
        };
        if is_needed {
            // nginx asks for connections back in the middle of anything. What takes one for a pool just now does not get it.
            POOLS.with(|pools| {
                if let Ok(mut pools) = pools.try_borrow_mut() {
                    pools.release(id);
                }
            });
            return;
        }
        let left = POOLS.with_borrow_mut(|pools| {
            let (at, pool) = pools.list.iter_mut().find_map(|pool| Some((pool.place_numbered(id)?, pool)))?;
            pool.waiting.get_mut(at)?.read_stderr();
            let left = pool.look(at, now());
            pools.arm();
            left
        });
        if let Some(program) = left {
            program.leave();
        }
    });
}

/// The time for the next program has come.
unsafe extern "C" fn on_time(_: *mut ffi::ngx_event_t) {
    guard((), || {
        let lost = POOLS.with_borrow_mut(|pools| {
            if let Some(timer) = &mut pools.timer {
                timer.take_expired();
            }
            pools.fill()
        });
        lost.into_iter().for_each(Program::leave);
    });
}
