// SPDX-License-Identifier: Apache-2.0

//! The engines of a worker: channels that live in Redis or Valkey.
//!
//! Each worker has a connection of its own for commands. One worker of the node has another one on which it listens, and keeps the
//! copies in the zone complete: see [`relay`]. Whoever asks something of an engine is called back, in a later turn of the event
//! loop and at its outermost level.

mod backend;
mod figures;
mod link;
mod relay;
mod settings;

pub use settings::{Engines, Settings};

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::time::Instant;

use super::channel::hub;
use super::ffi;
use super::guard::guard;
use super::log::{self, Level};
use super::timer::{self, Timer, now};
use crate::channel::backend::Backend;
use crate::channel::position::Epoch;
use crate::channel::store::Key;
use crate::ledger::engines::{Figures, Loss};
use crate::redis::connection::{End, Event, Fate, Refused, Server, Token};
use crate::redis::error::ErrorReply;
use crate::redis::names::Names;
use crate::redis::resp::Value;
use crate::redis::script::Failure;
use crate::status;
use backend::Redis;
use link::Link;
use relay::Node;

/// Octets of commands that have not left above which no more are taken.
const MOST_BACKLOG: usize = 32 << 20;

/// Why an engine has not done what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It was not done: the engine is not there, or cannot do it now.
    Unavailable,
    /// It may have been done: the answer has not come.
    Unknown,
    /// It was not done, and never will be.
    Refused,
}

/// A command that was sent: who waits for the answer, and since when.
struct Asked {
    done: Done,
    since: Instant,
}

/// Who waits for an answer.
type Done = Box<dyn FnOnce(Result<Value, Failed>)>;

/// An engine, as this worker has it.
struct Engine {
    settings: Rc<Settings>,
    commands: Link,
    asked: HashMap<Token, Asked>,
    next_token: u64,
    /// Commands that wait for the first connection.
    held: Vec<(Vec<u8>, Done)>,
    /// Who is to be told in the next turn of the event loop that nothing was sent.
    refused: Vec<(Done, Failed)>,
    /// The connection was lost, or could not be made.
    away: bool,
    /// The last command was answered by an error.
    refusing: bool,
    node: Node,
    zone: Option<figures::Zone>,
    figures: Option<Figures>,
    /// The server that answered last: its address, product and version.
    master: String,
    /// Armed while answers are awaited: a worker that is told to go does not go before.
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
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// A number that nobody can guess where the system has some, and that is another one each time.
fn random() -> u64 {
    let mut number = [0_u8; 8];
    // SAFETY: the buffer has the length that is told.
    let drawn = unsafe { libc::getrandom(number.as_mut_ptr().cast(), number.len(), libc::GRND_NONBLOCK) };
    let next = RANDOM.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(now() | 1);
    RANDOM.set(next);
    if drawn == 8 { u64::from_ne_bytes(number) } else { next }
}

/// An epoch: 53 bits, so that JavaScript can read it, and not 0.
fn epoch() -> Epoch {
    Epoch((random() >> 11).max(1))
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
            commands: Link::new(Rc::clone(settings), on_event, commands, random),
            asked: HashMap::new(),
            next_token: 0,
            held: Vec::new(),
            refused: Vec::new(),
            away: false,
            refusing: false,
            node: Node::new(Rc::clone(settings), figures, on_event, listening),
            zone: engines.zone(),
            figures,
            master: String::new(),
            keep,
            _owners: owners,
        }
    });
    let made: Vec<Engine> = made.collect();
    let count = made.len();
    ENGINES.set(made);
    for number in 1..=count {
        run(number);
    }
}

/// The worker has been told to go: another one is to listen.
pub fn leaving() {
    ENGINES.with_borrow_mut(|engines| engines.iter_mut().for_each(|engine| engine.node.leave()));
}

/// The worker goes now.
pub fn end() {
    let engines = ENGINES.take();
    for mut engine in engines {
        engine.node.leave();
        for (_, Asked { done, .. }) in engine.asked.drain() {
            done(Err(Failed::Unknown));
        }
        for (_, done) in engine.held.drain(..) {
            done(Err(Failed::Unavailable));
        }
        for (done, failed) in engine.refused.drain(..) {
            done(Err(failed));
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
        status::engine::Engine { master: engine.master.clone(), ..figures }
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
        // SAFETY: as above.
        let Owner { engine, listens } = unsafe { owner.as_ref() };
        if !*listens {
            run(*engine);
        }
        run_node(*engine);
    });
}

/// Goes on with the connection for commands.
fn run(number: usize) {
    with(number, |engine| engine.commands.advance());
    while let Some((event, done)) = with(number, Engine::next_event).flatten() {
        match (event, done) {
            (Event::Answered(_, reply), Some(done)) => done(Ok(reply)),
            (Event::Abandoned(_, fate), Some(done)) => done(Err(match fate {
                Fate::NotSent => Failed::Unavailable,
                Fate::Unknown => Failed::Unknown,
            })),
            (Event::Ready(server), _) => {
                with(number, |engine| engine.is_there(&server));
                let held = with(number, |engine| std::mem::take(&mut engine.held)).unwrap_or_default();
                for (command, done) in held {
                    send(number, command, done);
                }
            }
            (Event::Ended(end), _) => {
                let held = with(number, |engine| {
                    engine.is_lost(&end);
                    std::mem::take(&mut engine.held)
                });
                for (_, done) in held.unwrap_or_default() {
                    done(Err(Failed::Unavailable));
                }
            }
            (Event::Answered(..) | Event::Abandoned(..) | Event::Notice(_) | Event::NotSubscribed(..), _) => {}
        }
    }
    for (done, failed) in with(number, |engine| std::mem::take(&mut engine.refused)).unwrap_or_default() {
        done(Err(failed));
    }
    with(number, |engine| engine.commands.advance());
}

/// Goes on with what the node listens to, and with those who wait for it.
fn run_node(number: usize) {
    let ready = with(number, |engine| engine.node.advance()).unwrap_or_default();
    for done in ready {
        done();
    }
    with(number, |engine| {
        if engine.node.has_more() {
            engine.commands.post();
        }
    });
}

impl Engine {
    fn next_event(&mut self) -> Option<(Event, Option<Done>)> {
        let event = self.commands.next_event()?;
        let asked = match &event {
            Event::Answered(token, _) | Event::Abandoned(token, _) => self.asked.remove(token),
            _ => None,
        };
        if self.asked.is_empty() {
            self.keep.disarm();
        }
        if let (Some(figures), Some(asked)) = (self.figures, &asked) {
            figures.pending(self.asked.len());
            match &event {
                Event::Answered(_, reply) => {
                    figures.answered(u64::try_from(asked.since.elapsed().as_micros()).unwrap_or(u64::MAX));
                    if matches!(reply, Value::Error(_)) {
                        figures.failed();
                    }
                }
                _ => figures.failed(),
            }
        }
        Some((event, asked.map(|asked| asked.done)))
    }

    fn is_there(&mut self, server: &Server) {
        let was_away = std::mem::take(&mut self.away);
        self.master = format!("{} {} {}", self.commands.peer(), server.product, server.version);
        figures::connected(self.figures, true);
        if figures::regained(self.figures, Loss::Commands, was_away) {
            figures::log_return(&self.settings, server);
        }
    }

    fn is_lost(&mut self, end: &End) {
        figures::connected(self.figures, false);
        if !std::mem::replace(&mut self.away, true) && figures::lost(self.figures, Loss::Commands) {
            let name = self.settings.name();
            log::cycle(Level::Error, format_args!("channels: {name} is not there: {end}"));
        }
    }

    /// Nothing is sent of a command.
    fn refuse(&mut self, done: Done, failed: Failed) {
        if let Some(figures) = self.figures {
            figures.failed();
        }
        self.refused.push((done, failed));
    }

    /// The engine has answered a command by an error, or does what it is asked for again. The log says so once.
    fn answers(&mut self, error: Option<&ErrorReply>) {
        let was_refusing = std::mem::replace(&mut self.refusing, error.is_some());
        let name = || self.settings.name();
        match error {
            Some(error) if !was_refusing && figures::lost(self.figures, Loss::Refusing) => {
                log::cycle(Level::Error, format_args!("channels: {} refuses: {error}", name()));
            }
            None if was_refusing && figures::regained(self.figures, Loss::Refusing, true) => {
                log::cycle(Level::Notice, format_args!("channels: {} takes commands again", name()));
            }
            _ => {}
        }
    }

    /// Whether the connection is being made, and nothing says yet that it will fail.
    fn is_hopeful(&self) -> bool {
        !self.away && self.commands.is_hopeful()
    }

    fn names(&self, key: Key<'_>) -> Names {
        Names::of(&self.settings.prefix, self.settings.database, key.group(), key.id())
    }
}

/// Sends a command. Also where that cannot be, who asked is called back in a later turn of the event loop.
fn send(number: usize, command: Vec<u8>, done: Done) {
    with(number, |engine| {
        let token = Token(engine.next_token);
        if engine.commands.backlog() > MOST_BACKLOG {
            engine.refuse(done, Failed::Unavailable);
            return engine.commands.post();
        }
        let write = |out: &mut Vec<u8>| out.extend_from_slice(&command);
        let sent = match engine.commands.connection() {
            Some(connection) => connection.command(token, now(), write),
            None => Err(Refused::NotReady),
        };
        match sent {
            Ok(()) => {
                engine.next_token += 1;
                engine.asked.insert(token, Asked { done, since: Instant::now() });
                if let Some(figures) = engine.figures {
                    figures.sent(engine.asked.len());
                }
                engine.keep.arm(engine.settings.timeout);
            }
            Err(Refused::NotReady)
                if engine.is_hopeful() && engine.held.len() < engine.settings.connection.most_pending =>
            {
                engine.held.push((command, done));
            }
            Err(Refused::NotReady | Refused::TooMany) => engine.refuse(done, Failed::Unavailable),
        }
        // One call for all commands of this turn.
        engine.commands.post();
    });
}

/// Whether a command would be refused at once.
fn is_away(number: usize) -> bool {
    with(number, |engine| !engine.commands.is_ready() && !engine.is_hopeful()) != Some(false)
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
                    engine.commands.renew();
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
