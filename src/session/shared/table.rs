// SPDX-License-Identifier: Apache-2.0

//! The programs of channels that this worker has clients of, or runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::Run;
use super::host::{ProgramHost, SharedProcess, StartParameters, Timers};
use super::sizes::ClientSizes;
use crate::channel::store::{Key, ProgramHandle};

/// What this worker calls the program of one channel; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedProgramId(u64);

/// What becomes of a program that runs here and has no clients in any worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Vacancy {
    /// The program has clients, or is being stopped.
    #[default]
    None,
    /// The program outlives its clients until a timer fires.
    Lingering,
    /// The program has outlived its clients for as long as it may.
    Lingered,
    /// The program is given what its clients have sent, and stopped after that.
    FinishingInput,
}

/// The program of one channel, as this worker has it.
pub(super) struct SharedProgram<H: ProgramHost> {
    /// The channel.
    name: Name,
    /// How the program is started.
    pub parameters: Rc<H::Parameters>,
    /// The program in the zone.
    pub handle: ProgramHandle,
    /// The zone knows nothing of it any more, and may give its place to another program. Invariant: then new clients of its
    /// channel do not come to it.
    pub is_lost: bool,
    /// The run that the zone counts.
    pub number: u32,
    /// The run as its clients see it.
    pub run: Rc<Run>,
    /// Clients of this run. Invariant: none of them is among the former ones.
    pub clients: BTreeSet<usize>,
    /// Clients that are just coming.
    pub joining: usize,
    /// Clients of runs that have ended, which may still have to read.
    pub former: BTreeSet<usize>,
    /// Clients that are to look again: their messages wait for room, or the last messages of the program for them.
    pub to_wake: BTreeSet<usize>,
    /// The sizes that clients of this run ask for, where the program has a terminal.
    pub sizes: ClientSizes,
    /// The program, if it runs here. Before the timers: its events go first.
    pub process: Option<Box<H::Process>>,
    /// Invariant: [`Vacancy::None`] unless there is a process that is not being stopped, or that is served at the moment.
    pub vacancy: Vacancy,
    /// When the program is looked at.
    pub timers: H::Timers,
}

impl<H: ProgramHost> SharedProgram<H> {
    /// Whether the program has clients of this run.
    pub fn has_clients(&self) -> bool {
        self.joining > 0 || !self.clients.is_empty()
    }

    /// Whether this is one of its clients.
    pub fn knows(&self, client: usize) -> bool {
        self.clients.contains(&client) || self.former.contains(&client)
    }

    /// Whether no process of this worker is there for its clients.
    pub fn is_unused(&self) -> bool {
        !self.has_clients() && self.process.as_ref().is_none_or(|process| process.is_stopping())
    }

    /// A worker that goes stays for a process that others cannot start again.
    pub fn keep_worker(&mut self) {
        if self.process.is_some() && self.parameters.is_requested() {
            self.timers.keep_worker(true);
        }
    }

    /// The process goes out of here, if there is one, and the worker need not stay for it.
    pub fn remove_process(&mut self) -> Option<Box<H::Process>> {
        self.timers.keep_worker(false);
        self.process.take()
    }

    /// The program does not run here, or will not for long.
    pub fn end_vacancy(&mut self) {
        if self.vacancy != Vacancy::None {
            self.vacancy = Vacancy::None;
            self.timers.clear_linger();
        }
    }

    /// The run has ended: its clients are those of an earlier run now.
    pub fn end_run(&mut self) -> (Rc<Run>, BTreeSet<usize>) {
        let clients = std::mem::take(&mut self.clients);
        debug_assert!(clients.is_disjoint(&self.former));
        self.former.extend(&clients);
        self.sizes.clear();
        (std::mem::take(&mut self.run), clients)
    }
}

/// The group and the id of a channel.
type Name = (Box<[u8]>, Box<[u8]>);

fn name(key: Key<'_>) -> Name {
    (key.group().into(), key.id().into())
}

/// All programs of a worker.
pub(super) struct Table<H: ProgramHost> {
    pub programs: BTreeMap<SharedProgramId, SharedProgram<H>>,
    /// The channels that clients come to. Invariant: each is the name of the program that it leads to.
    names: HashMap<Name, SharedProgramId>,
    last: u64,
}

impl<H: ProgramHost> Default for Table<H> {
    fn default() -> Self {
        Table { programs: BTreeMap::new(), names: HashMap::new(), last: 0 }
    }
}

impl<H: ProgramHost> Table<H> {
    /// The one that clients of this channel come to.
    pub fn find(&self, key: Key<'_>) -> Option<SharedProgramId> {
        self.names.get(&name(key)).copied()
    }

    /// Whether there is no program in it, and no name of one.
    #[cfg(any(test, fuzzing))]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.names.is_empty()
    }

    /// An id that has not been used.
    pub fn next_id(&mut self) -> SharedProgramId {
        self.last += 1;
        SharedProgramId(self.last)
    }

    /// A program for a channel, of which this worker has a client now.
    pub fn insert(
        &mut self,
        id: SharedProgramId,
        key: Key<'_>,
        parameters: H::Parameters,
        handle: ProgramHandle,
        timers: H::Timers,
    ) {
        let name = name(key);
        self.names.insert(Name::clone(&name), id);
        let sizes = ClientSizes::new(parameters.size_policy());
        let program = SharedProgram {
            name,
            parameters: Rc::new(parameters),
            handle,
            is_lost: false,
            number: 0,
            run: Rc::default(),
            clients: BTreeSet::new(),
            joining: 0,
            former: BTreeSet::new(),
            to_wake: BTreeSet::new(),
            sizes,
            process: None,
            vacancy: Vacancy::None,
            timers,
        };
        self.programs.insert(id, program);
    }

    /// New clients of its channel do not come to this one any more.
    pub fn hide(&mut self, id: SharedProgramId) {
        if let Some(program) = self.programs.get(&id)
            && self.names.get(&program.name) == Some(&id)
        {
            self.names.remove(&program.name);
        }
    }

    /// Takes a program out that has no client and no process here; what it owns is to be dropped where this is not borrowed.
    pub fn remove_unused(&mut self, id: SharedProgramId) -> Option<SharedProgram<H>> {
        let program = self.programs.get(&id)?;
        if program.has_clients() || !program.former.is_empty() || program.process.is_some() {
            return None;
        }
        self.hide(id);
        self.programs.remove(&id)
    }
}
