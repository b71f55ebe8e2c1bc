// SPDX-License-Identifier: Apache-2.0

//! Clients that come, go, and send.

use std::rc::Rc;

use super::host::{ProgramHost, StartParameters, Timers};
use super::{ProgramMembership, Pushed, Run, SharedProgramId, SharedPrograms, State};
use crate::channel::store::{Input, InputError, Key, ProgramHandle, SubscribeError};
use crate::exec::terminal::Size;
use crate::session::endpoint::HttpStatus;

/// Milliseconds after which clients look again.
const LATER: u64 = 10;

/// Why a client does not share a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinError<E> {
    /// Nobody knows how the program is to be started.
    Parameters(E),
    /// The zone cannot have the program.
    Zone(SubscribeError),
    /// The program could not be started; the status to answer.
    Refused(HttpStatus),
    /// The program has ended at this moment: it is worth another try.
    Ended,
    /// There is no run, and the client is none that begins one.
    NoRun,
    /// There is a run already, which goes on or is kept.
    Taken,
    /// The program cannot be given its first message.
    Input(InputError),
}

impl<H: ProgramHost> SharedPrograms<H> {
    /// Adds a client, and sees to it that the program runs. The client is woken when that is so, or when it is not to be; its
    /// subscription to the channel has begun. `parameters` are asked for if they are not known yet.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    pub fn join<E>(
        self: &Rc<Self>,
        key: Key<'_>,
        client: usize,
        parameters: impl Fn() -> Result<H::Parameters, E>,
    ) -> Result<ProgramMembership<H>, JoinError<E>> {
        let known = self.table.borrow().find(key);
        // Who has come by a location where only requests begin a run has not said how others do. A process keeps what it was
        // started with.
        let is_known = |id: &SharedProgramId| {
            self.with(*id, |program| program.process.is_some() || !program.parameters.is_requested()) == Some(true)
        };
        let mut made = match known.filter(is_known) {
            Some(_) => None,
            None => Some(parameters().map_err(JoinError::Parameters)?),
        };
        // The zone counts this worker among those with clients from now on.
        let attached = self.host.attach(key).and_then(|handle| handle.ok_or(SubscribeError::Missing));
        let handle = match attached {
            Ok(handle) => handle,
            Err(error) => {
                if let Some(id) = known {
                    self.forget_unused(id);
                }
                return Err(JoinError::Zone(error));
            }
        };
        let id = match (self.current(key, handle), made.take()) {
            (Some(id), None) => id,
            (Some(id), Some(parameters)) => {
                self.with(id, |program| program.parameters = Rc::new(parameters));
                id
            }
            (None, made) => match made.map_or_else(&parameters, Ok) {
                Ok(parameters) => self.insert(key, parameters, handle),
                Err(error) => {
                    let _ = self.host.look(handle, false, 0);
                    return Err(JoinError::Parameters(error));
                }
            },
        };
        self.enter(id, client, handle)
    }

    /// The program that clients of this channel come to here, if it is still the one that the zone knows by this handle.
    pub(super) fn current(&self, key: Key<'_>, handle: ProgramHandle) -> Option<SharedProgramId> {
        let id = self.table.borrow().find(key)?;
        if self.with(id, |program| program.handle.is_of_channel(handle)) == Some(true) {
            return Some(id);
        }
        // The channel was deleted, and this is another one of its name.
        self.table.borrow_mut().hide(id);
        self.examine(id);
        None
    }

    /// Adds a client to the run that there is, or that is begun now.
    pub(super) fn enter<E>(
        self: &Rc<Self>,
        id: SharedProgramId,
        client: usize,
        handle: ProgramHandle,
    ) -> Result<ProgramMembership<H>, JoinError<E>> {
        self.attach(id, handle);
        let joining = self.with(id, |program| {
            program.joining += 1;
            Rc::clone(&program.run)
        });
        let Some(run) = joining else { return Err(JoinError::Zone(SubscribeError::Missing)) };
        self.examine(id);
        let has_joined = self.with(id, |program| {
            program.joining -= 1;
            let is_same = Rc::ptr_eq(&program.run, &run);
            if is_same {
                program.clients.insert(client);
            }
            is_same
        });
        if has_joined == Some(false) {
            // The zone was told of a client that there is not.
            self.examine(id);
        }
        let membership = ProgramMembership::new(Rc::clone(self), id, run, client);
        match membership.state() {
            State::Starting | State::Running(_) => Ok(membership),
            State::Refused(status) => Err(JoinError::Refused(status)),
            State::Ended(_) => Err(JoinError::Ended),
        }
    }

    pub(super) fn insert(&self, key: Key<'_>, parameters: H::Parameters, handle: ProgramHandle) -> SharedProgramId {
        let id = self.table.borrow_mut().next_id();
        let timers = self.host.timers(id);
        self.table.borrow_mut().insert(id, key, parameters, handle, timers);
        id
    }

    /// The zone knows a program by this handle now. Who comes to one that nobody uses begins with the run of the zone.
    fn attach(&self, id: SharedProgramId, handle: ProgramHandle) {
        let is_unused = self.with(id, |program| {
            program.handle = handle;
            program.is_unused()
        });
        if is_unused == Some(true)
            && let Ok(Some(view)) = self.host.look(handle, true, 0)
        {
            self.with(id, |program| {
                program.number = view.run;
                program.run = Rc::new(Run::default());
            });
        }
    }

    /// A client goes.
    pub(super) fn remove_client(&self, id: SharedProgramId, client: usize) {
        let was_last = self.with(id, |program| {
            program.to_wake.remove(&client);
            program.former.remove(&client);
            program.sizes.remove(client);
            program.clients.remove(&client) && program.clients.is_empty()
        });
        match was_last {
            Some(true) => self.examine(id),
            Some(false) => {
                self.tell_known_process(id);
                self.forget_unused(id);
            }
            None => {}
        }
    }

    /// A client asks for a size of the terminal.
    pub(super) fn resize(&self, id: SharedProgramId, client: usize, size: Size) {
        self.with(id, |program| {
            // Who is still there after the end of its run has no terminal any more.
            if program.clients.contains(&client) {
                program.sizes.set(client, size);
            }
        });
        self.tell_known_process(id);
    }

    /// Tells the process of the sizes that clients ask for now, if it runs. Nobody is woken by that: this client may be one of them.
    fn tell_known_process(&self, id: SharedProgramId) {
        let state = self.with(id, |program| program.run.state());
        if let Some(State::Running(pid)) = state {
            self.tell_size(id, pid.unsigned_abs());
        }
    }

    /// Leaves what a process is to know of the sizes of clients of this worker. What the input has no room for is left later: there is
    /// news of the program then.
    pub(super) fn tell_size(&self, id: SharedProgramId, pid: u32) {
        let untold = self.with(id, |program| {
            let note = program.sizes.untold(pid).filter(|_| program.has_clients() && !program.is_lost)?;
            Some((program.handle, note, program.parameters.backlog()))
        });
        if let Some(Some((handle, note, backlog))) = untold
            && self.host.push(handle, &note.to_input(), backlog).is_ok()
        {
            self.with(id, |program| program.sizes.told(pid, note));
        }
    }

    /// Adds a message to what the program is to read, where no more than `most` octets wait then, or as many as its location
    /// says.
    pub(super) fn push(&self, id: SharedProgramId, client: usize, message: &Input, most: Option<u64>) -> Pushed {
        let known =
            self.with(id, |program| (!program.is_lost).then_some((program.handle, program.parameters.backlog())));
        // The one who writes decides on the size, if that is so, before what is written is read.
        if self.with(id, |program| program.sizes.wrote(client)) == Some(true) {
            self.tell_known_process(id);
        }
        // Of one that is lost, the end has been told.
        let Some(Some((handle, backlog))) = known else { return Pushed::Taken };
        match self.host.push(handle, message, most.unwrap_or(backlog)) {
            Ok(()) => Pushed::Taken,
            Err(InputError::TooLarge) => Pushed::TooLarge,
            // Its end is about to be told.
            Err(InputError::Gone) => Pushed::Taken,
            Err(InputError::Full | InputError::Corrupt) => {
                self.with(id, |program| program.to_wake.insert(client));
                Pushed::Full
            }
        }
    }

    /// A client looks again a little later.
    pub(super) fn wake_later(&self, id: SharedProgramId, client: usize) {
        self.with(id, |program| {
            program.to_wake.insert(client);
            program.timers.set_retry(LATER);
        });
    }
}
