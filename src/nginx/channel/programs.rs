// SPDX-License-Identifier: Apache-2.0

//! What a worker asks of the zone about the programs that clients of a channel share.

use super::hub::{Hub, time};
use crate::channel::memory::Corrupt;
use crate::channel::position::MessageId;
use crate::channel::store::{
    Begun, Ended, Input, InputError, Key, LeftInput, ProgramHandle, ProgramView, SubscribeError, Wake,
};

impl Hub {
    /// Wakes those who are concerned, of whatever was done; a damaged zone concerns nobody before it is repaired.
    fn done(&mut self, done: Result<Wake, Corrupt>) {
        if let Ok(wake) = done {
            self.wake(wake);
        }
    }

    /// The program of a channel, of which this worker has a client now.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub fn attach_program(&mut self, key: Key<'_>) -> Result<Option<ProgramHandle>, SubscribeError> {
        self.store.programs().attach(key, self.slot, time())
    }

    /// A request begins a run of the program of a channel in this worker.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub fn begin_run(&mut self, key: Key<'_>, keeps: u64) -> Result<Begun, SubscribeError> {
        self.store.programs().begin(key, self.slot, keeps, time())
    }

    /// The program of a channel that has a run, of which this worker has a client now.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn follow_run(&mut self, key: Key<'_>) -> Result<Option<ProgramHandle>, Corrupt> {
        self.store.programs().follow(key, self.slot, time())
    }

    /// The position at which the run of a channel's program begins, if there is one.
    pub fn beginning_of_run(&self, key: Key<'_>) -> Option<MessageId> {
        // A damaged zone is repaired by the second attempt.
        let beginning = || self.store.programs().beginning(key, time());
        beginning().or_else(|Corrupt| beginning()).ok().flatten()
    }

    /// The worker of a run that a request has begun is gone.
    pub fn program_lost(&mut self, handle: ProgramHandle, how: &Ended) {
        let done = self.store.programs().lost(handle, how, time());
        self.done(done);
    }

    /// What is known of a program; see the store.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn look_at_program(
        &mut self,
        handle: ProgramHandle,
        clients: bool,
        run: u32,
    ) -> Result<Option<ProgramView>, Corrupt> {
        let looked = self.store.programs().look_at(handle, self.slot, clients, run, time())?;
        Ok(looked.map(|(view, wake)| {
            self.wake(wake);
            view
        }))
    }

    /// Whether something has happened to a program.
    pub fn has_program_news(&self, handle: ProgramHandle) -> bool {
        self.store.programs().has_news(handle, self.slot)
    }

    /// This worker is to run a program. Whether it may.
    pub fn claim_program(&mut self, handle: ProgramHandle) -> bool {
        self.store.programs().claim(handle, self.slot) == Ok(true)
    }

    /// The program runs.
    pub fn program_runs(&mut self, handle: ProgramHandle, pid: u32) {
        let done = self.store.programs().runs(handle, self.slot, pid);
        self.done(done);
    }

    /// The program is being stopped.
    pub fn program_stops(&mut self, handle: ProgramHandle) {
        let _ = self.store.programs().stops(handle, self.slot);
    }

    /// The program has ended by itself, or could not be started.
    pub fn program_ended(&mut self, handle: ProgramHandle, how: &Ended) {
        let done = self.store.programs().ended(handle, self.slot, how, time());
        self.done(done);
    }

    /// The program was stopped.
    pub fn program_left(&mut self, handle: ProgramHandle) {
        let done = self.store.programs().left(handle, self.slot, time());
        self.done(done);
    }

    /// This worker has been told to go.
    pub fn leave(&mut self) {
        let _ = self.store.programs().leave(self.slot);
    }

    /// Adds a message to what a program is to read, unless more than `most` octets would wait then.
    ///
    /// # Errors
    ///
    /// [`InputError`].
    pub fn push_input(&mut self, handle: ProgramHandle, message: &Input, most: u64) -> Result<(), InputError> {
        let wake = self.store.programs().push_input(handle, self.slot, message, most, time())?;
        self.wake(wake);
        Ok(())
    }

    /// Copies what a program of this worker is to read: about so many octets.
    pub fn read_input(&mut self, handle: ProgramHandle, octets: usize, out: &mut Vec<LeftInput>) {
        let _ = self.store.programs().read_input(handle, self.slot, octets, out);
    }

    /// The program has so many of these messages.
    pub fn consume_input(&mut self, handle: ProgramHandle, count: usize) {
        let done = self.store.programs().consume_input(handle, self.slot, count);
        self.done(done);
    }
}
