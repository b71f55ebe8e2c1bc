// SPDX-License-Identifier: Apache-2.0

//! The engines of a worker: channels that live in Redis or Valkey.
//!
//! Each worker has a connection of its own for commands. One worker of the node has another one on which it listens, and keeps the
//! copies in the zone complete: see [`relay`]. Whoever asks something of an engine is called back, in a later turn of the event
//! loop and at its outermost level.

mod address;
mod backend;
mod cluster;
mod copies;
mod figures;
mod line;
mod link;
mod listeners;
mod one;
mod relay;
mod sentinels;
mod servers;
mod settings;

pub use settings::{Engines, Settings};

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::time::Instant;

use super::backend::keeps_worker;
use super::channel::hub::{self, Hub};
use super::ffi;
use super::guard::guard;
use super::log::{self, Level};
use super::random;
use super::timer::{self, Timer, now};
use crate::channel::backend::Backend;
use crate::channel::position::Epoch;
use crate::channel::store::Key;
use crate::ledger::engines::{Figures, Loss};
use crate::redis::connection::{Token, Unanswered};
use crate::redis::error::ErrorReply;
use crate::redis::names::Names;
use crate::redis::resp::Value;
use crate::redis::script::reply::Failure;
use crate::status;
use backend::Redis;
use relay::Node;
use servers::{Command, CommandOutcome, Servers};

/// Why an engine has not done what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The operation was not done: the engine is not there, or cannot do it now.
    Unavailable,
    /// The operation may have been done: the answer has not come.
    Unknown,
    /// The operation was not done, and never will be.
    Refused,
}

/// A command that was sent: who waits for the answer, and since when.
struct Asked {
    done: Done,
    since: Instant,
}

/// Who waits for an answer.
type Done = Box<dyn FnOnce(Result<Value, Failed>)>;

/// So many milliseconds after the last command that was refused the engine takes commands again if it takes one.
const SETTLED: u64 = 5_000;

/// An engine, as this worker has it.
struct Engine {
    settings: Rc<Settings>,
    servers: Servers,
    asked: HashMap<Token, Asked>,
    next_token: u64,
    /// When a command was last answered by an error, until the engine is known to take commands again.
    refused: Option<u64>,
    node: Node,
    zone: Option<figures::Zone>,
    figures: Option<Figures>,
    /// Armed while answers or channels are awaited: a worker that is told to go does not go before.
    keep: Timer,
    /// Dropped after the events that point to them.
    _owners: [Box<Owner>; 2],
}

/// Whose event it is: the number of an engine, and which of its connections.
struct Owner {
    engine: usize,
    listens: bool,
}

thread_local! {
    static ENGINES: RefCell<Vec<Engine>> = const { RefCell::new(Vec::new()) };
}

/// An epoch: 53 bits, so that JavaScript can read it, and not 0.
fn epoch() -> Epoch {
    Epoch((random::number() >> 11).max(1))
}

fn with<R>(number: usize, step: impl FnOnce(&mut Engine) -> R) -> Option<R> {
    ENGINES.with_borrow_mut(|engines| engines.get_mut(number.checked_sub(1)?).map(step))
}

/// The worker begins, or goes on with another configuration.
pub fn begin(engines: &Engines) {
    end();
    let made = engines.all().iter().enumerate().map(|(at, settings)| {
        let figures = figures::claim(engines.zone(), settings);
        let owners = [false, true].map(|listens| Box::new(Owner { engine: at + 1, listens }));
        let [commands, listening] = owners.each_ref().map(|owner| ptr::from_ref(&**owner).cast_mut().cast::<c_void>());
        let mut keep = Timer::of_worker(on_event);
        keep.set_owner(commands);
        Engine {
            settings: Rc::clone(settings),
            servers: Servers::new(settings, figures, on_event, commands),
            asked: HashMap::new(),
            next_token: 0,
            refused: None,
            node: Node::new(Rc::clone(settings), figures, on_event, listening),
            zone: engines.zone(),
            figures,
            keep,
            _owners: owners,
        }
    });
    let made: Vec<Engine> = made.collect();
    let count = made.len();
    ENGINES.set(made);
    for number in 1..=count {
        run(number);
        // A worker that listens and is to go soon, as at a reload, tells those that are known when it leaves.
        with(number, |engine| engine.node.tick());
    }
}

/// The worker has been told to go: another one is to listen, if one stays.
pub fn leaving() {
    hub::with(Hub::leave);
    ENGINES.with_borrow_mut(|engines| {
        for engine in engines {
            engine.node.leave();
            if engine.is_awaited() {
                engine.keep.disarm();
                engine.keep_worker();
            }
        }
    });
}

/// The worker goes now.
pub fn end() {
    let engines = ENGINES.take();
    for mut engine in engines {
        // What was asked for in the last moment, such as telling that the clients of this worker have gone.
        engine.servers.advance();
        engine.node.give_up();
        for (_, Asked { done, .. }) in engine.asked.drain() {
            done(Err(Failed::Unknown));
        }
        if let Some(figures) = engine.figures {
            figures.release();
        }
    }
}

/// The figures of the engines, for the status page.
pub fn figures() -> Vec<status::engine::Engine> {
    let read = |engine: &Engine| {
        let figures = figures::read(engine.zone, &engine.settings);
        status::engine::Engine { master: engine.servers.master(), ..figures }
    };
    ENGINES.with_borrow(|engines| engines.iter().map(read).collect())
}

/// Something may have happened in the zone.
pub fn news() {
    for number in 1..=ENGINES.with_borrow(Vec::len) {
        with(number, |engine| engine.node.look_again());
        run_node(number);
    }
}

/// A second has passed.
pub fn tick() {
    for number in 1..=ENGINES.with_borrow(Vec::len) {
        with(number, |engine| engine.node.tick());
        run_node(number);
    }
}

/// The engines in the order of their numbers, for locations.
pub fn backends() -> Vec<Rc<dyn Backend>> {
    let spaces: Vec<u64> = ENGINES.with_borrow(|engines| engines.iter().map(|engine| engine.settings.space).collect());
    (1..).zip(spaces).map(|(number, space)| Rc::new(Redis::new(number, space)) as Rc<dyn Backend>).collect()
}

/// An engine that this worker does not have, or not any more: it is not available.
pub fn absent() -> Rc<dyn Backend> {
    Rc::new(Redis::new(0, 0))
}

unsafe extern "C" fn on_event(event: *mut ffi::ngx_event_t) {
    guard((), || {
        // SAFETY: the events of a link have its owner, which is there as long as the link.
        let Some(owner) = (unsafe { timer::owner::<Owner>(event) }) else { return };
        // SAFETY: the owner is there as long as the link that has called.
        let Owner { engine, listens } = unsafe { owner.as_ref() };
        if !*listens {
            run(*engine);
        }
        run_node(*engine);
    });
}

/// Goes on with the connections for commands.
fn run(number: usize) {
    with(number, |engine| engine.servers.advance());
    while let Some((outcome, done)) = with(number, Engine::next_outcome).flatten() {
        match outcome {
            CommandOutcome::Answered(_, reply) => done(Ok(reply)),
            CommandOutcome::Failed(_, Unanswered::NotSent) => done(Err(Failed::Unavailable)),
            CommandOutcome::Failed(_, Unanswered::Unknown) => done(Err(Failed::Unknown)),
        }
    }
    // What has waited for a connection, or was asked for by who was called back, leaves now.
    with(number, |engine| engine.servers.advance());
}

/// Goes on with what the node listens to, and with those who wait for it.
fn run_node(number: usize) {
    let ready = with(number, |engine| engine.node.advance(&mut engine.servers)).unwrap_or_default();
    for done in ready {
        done();
    }
    with(number, |engine| {
        if engine.node.has_more() {
            engine.servers.post();
        }
        engine.let_worker_go();
    });
}

impl Engine {
    /// Whether somebody waits for an answer or for channels.
    fn is_awaited(&self) -> bool {
        !self.asked.is_empty() || self.node.is_awaited()
    }

    /// The worker stays as long as an answer may take.
    fn keep_worker(&mut self) {
        self.keep.arm(keeps_worker(self.settings.timeout));
    }

    /// The worker need not stay where nobody waits any more.
    fn let_worker_go(&mut self) {
        if !self.is_awaited() {
            self.keep.disarm();
        }
    }

    /// What has become of a command, and who waits for that.
    fn next_outcome(&mut self) -> Option<(CommandOutcome, Done)> {
        loop {
            let outcome = self.servers.next()?;
            let (CommandOutcome::Answered(token, _) | CommandOutcome::Failed(token, _)) = &outcome;
            let asked = self.asked.remove(token);
            self.let_worker_go();
            let Some(asked) = asked else { continue };
            if let Some(figures) = self.figures {
                figures.pending(self.asked.len());
                match &outcome {
                    CommandOutcome::Answered(_, reply) => {
                        figures.answered(u64::try_from(asked.since.elapsed().as_micros()).unwrap_or(u64::MAX));
                        if matches!(reply, Value::Error(_)) {
                            figures.failed();
                        }
                    }
                    CommandOutcome::Failed(..) => figures.failed(),
                }
            }
            return Some((outcome, asked.done));
        }
    }

    /// The engine has answered a command by an error, or has done what it was asked for. The log says so once, also where an engine
    /// without memory refuses what is to be published and answers everything else.
    fn answers(&mut self, error: Option<&ErrorReply>) {
        let name = || self.settings.name();
        match (error, self.refused) {
            (Some(error), refused) => {
                self.refused = Some(now());
                if refused.is_none() && figures::lost(self.figures, Loss::Refusing) {
                    log::cycle(Level::Error, format_args!("channels: {} refuses: {error}", name()));
                }
            }
            (None, Some(refused)) if now().saturating_sub(refused) >= SETTLED => {
                self.refused = None;
                if figures::regained(self.figures, Loss::Refusing, true) {
                    log::cycle(Level::Notice, format_args!("channels: {} takes commands again", name()));
                }
            }
            (None, _) => {}
        }
    }

    fn names(&self, key: Key<'_>) -> Names {
        Names::of(&self.settings.prefix, self.settings.database, key.group(), key.id())
    }
}

/// Sends a command about a channel; `publishes`: it is to be at replicas where that is configured. Also where it cannot be
/// sent, who asked is called back in a later turn of the event loop.
fn send(number: usize, slot: u16, publishes: bool, octets: Vec<u8>, done: Done) {
    with(number, |engine| {
        let token = Token(engine.next_token);
        engine.next_token += 1;
        engine.asked.insert(token, Asked { done, since: Instant::now() });
        if let Some(figures) = engine.figures {
            figures.sent(engine.asked.len());
        }
        engine.keep_worker();
        let deadline = now() + engine.settings.timeout;
        engine.servers.submit(token, Command { slot, publishes, octets, deadline });
        // One call for all commands of this turn.
        engine.servers.post();
    });
}

/// Whether a command would be refused at once.
fn is_away(number: usize) -> bool {
    with(number, |engine| engine.servers.is_away()) != Some(false)
}

/// What an answer means.
fn read<T>(
    number: usize,
    reply: Result<Value, Failed>,
    read: impl FnOnce(&Value) -> Result<T, Failure>,
) -> Result<T, Failed> {
    let answer = read(&reply?);
    if answer.is_ok() {
        with(number, |engine| engine.answers(None));
    }
    answer.map_err(|failure| match failure {
        Failure::Malformed => Failed::Unknown,
        Failure::Refused(error) => {
            let away = match &error {
                ErrorReply::Denied(_) | ErrorReply::Other(_) => false,
                ErrorReply::NotMaster
                | ErrorReply::NotNow(_)
                | ErrorReply::OutOfMemory
                | ErrorReply::Moved(_)
                | ErrorReply::Ask(_)
                | ErrorReply::TryAgain
                | ErrorReply::NoScript => true,
            };
            with(number, |engine| {
                engine.answers(Some(&error));
                if error == ErrorReply::NoScript {
                    // They are loaded when a connection begins.
                    engine.servers.renew();
                }
            });
            if away { Failed::Unavailable } else { Failed::Refused }
        }
    })
}

/// Wakes the worker in this slot.
fn wake(slot: usize) {
    hub::with(|hub| hub.wake_slot(slot));
}
