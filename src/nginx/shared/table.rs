// SPDX-License-Identifier: Apache-2.0

//! The programs of channels that this worker has clients of, or runs.
//!
//! The table is borrowed for short steps only and never while a client is woken: that may come back here.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ptr::NonNull;
use std::rc::Rc;

use super::FAILED;
use super::events::{on_linger, on_turn};
use super::process::Process;
use super::recipe::Recipe;
use crate::channel::store::{Key, ProgramHandle};
use crate::nginx::channel::hub;
use crate::nginx::timer::Timer;
use crate::session::shared::Run;

/// What this worker calls the program of one channel; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharedId(u64);

/// What events carry. It does not move as long as anything may be called with it.
pub struct Anchor {
    /// What it is the anchor of.
    pub id: SharedId,
    /// The time that the program outlives its clients.
    pub linger: Timer,
    /// The program has more to say, or clients are to look at it.
    pub turn: Timer,
    /// Clients look again.
    pub later: Timer,
}

/// The program of one channel, as this worker has it.
pub struct Local {
    /// The channel.
    name: Name,
    /// How its program is started.
    pub recipe: Rc<Recipe>,
    /// The program in the zone.
    pub handle: ProgramHandle,
    /// The run that the zone counts, and its clients' view of it.
    pub number: u32,
    pub run: Rc<Run>,
    /// Clients of this run, by the numbers of their listeners.
    pub clients: HashSet<usize>,
    /// Clients that are just coming.
    pub joining: usize,
    /// Clients of runs that have ended, which may still have to read.
    pub former: HashSet<usize>,
    /// Clients that are to look again: their messages wait for room, or the last messages of the program for them.
    pub starved: HashSet<usize>,
    /// The program, if it runs here. Before the anchor: its pipes and timers go first.
    pub process: Option<Box<Process>>,
    /// It outlives its clients at the moment.
    pub lingering: bool,
    /// It has outlived its clients for as long as it may.
    pub lingered: bool,
    /// It has no clients and is given what they have sent: then it is stopped.
    pub winding: bool,
    /// What its events carry.
    pub anchor: Box<Anchor>,
}

impl Local {
    /// Whether it has clients of this run.
    pub fn has_clients(&self) -> bool {
        self.joining > 0 || !self.clients.is_empty()
    }

    /// Whether this listener is one of its clients.
    pub fn knows(&self, listener: usize) -> bool {
        self.clients.contains(&listener) || self.former.contains(&listener)
    }
}

/// The group and the id of a channel.
type Name = (Box<[u8]>, Box<[u8]>);

#[derive(Default)]
struct Table {
    locals: HashMap<SharedId, Local>,
    /// The channels that clients come to.
    names: HashMap<Name, SharedId>,
    last: u64,
}

impl Table {
    /// New clients of the channel do not come to this one any more.
    fn hide(&mut self, id: SharedId, name: &Name) {
        if self.names.get(name) == Some(&id) {
            self.names.remove(name);
        }
    }
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
}

/// A step with one of them, if it is there.
pub(super) fn with<R>(id: SharedId, step: impl FnOnce(&mut Local) -> R) -> Option<R> {
    TABLE.with_borrow_mut(|table| table.locals.get_mut(&id).map(step))
}

/// The one that clients of this channel come to.
pub(super) fn find(key: Key<'_>) -> Option<SharedId> {
    TABLE.with_borrow(|table| table.names.get(&(key.group().into(), key.id().into())).copied())
}

/// A new one for a channel, of which this worker has a client now.
///
/// # Errors
///
/// The status to answer.
pub(super) fn create(key: Key<'_>, recipe: Recipe) -> Result<SharedId, isize> {
    let attached = hub::with(|hub| hub.attach_program(key)).unwrap_or(Ok(None));
    let Ok(Some(handle)) = attached else { return Err(FAILED) };
    TABLE.with_borrow_mut(|table| {
        table.last += 1;
        let id = SharedId(table.last);
        let mut anchor = Box::new(Anchor {
            id,
            linger: Timer::of_worker(on_linger).cancelable(),
            turn: Timer::of_worker(on_turn),
            later: Timer::of_worker(on_turn).cancelable(),
        });
        let owner = NonNull::from(&mut *anchor).as_ptr().cast();
        anchor.linger.set_owner(owner);
        anchor.turn.set_owner(owner);
        anchor.later.set_owner(owner);
        let name = (key.group().into(), key.id().into());
        table.names.insert(Name::clone(&name), id);
        let local = Local {
            name,
            recipe: Rc::new(recipe),
            handle,
            number: 0,
            run: Rc::default(),
            clients: HashSet::new(),
            joining: 0,
            former: HashSet::new(),
            starved: HashSet::new(),
            process: None,
            lingering: false,
            lingered: false,
            winding: false,
            anchor,
        };
        table.locals.insert(id, local);
        Ok(id)
    })
}

/// Forgets a program that this worker has nothing to do with.
pub(super) fn tidy(id: SharedId) {
    let forgotten = TABLE.with_borrow_mut(|table| {
        let local = table.locals.get(&id)?;
        if local.has_clients() || !local.former.is_empty() || local.process.is_some() {
            return None;
        }
        let local = table.locals.remove(&id)?;
        table.hide(id, &local.name);
        Some(local)
    });
    drop(forgotten);
}

/// All of them.
pub(super) fn all() -> Vec<SharedId> {
    TABLE.with_borrow(|table| table.locals.keys().copied().collect())
}

/// New clients of its channel get a new one.
pub(super) fn hide(id: SharedId) {
    TABLE.with_borrow_mut(|table| {
        if let Some(name) = table.locals.get(&id).map(|local| local.name.clone()) {
            table.hide(id, &name);
        }
    });
}

/// Lets go of all of them, and of their programs.
pub(super) fn clear() {
    drop(TABLE.take());
}
