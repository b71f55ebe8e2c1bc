// SPDX-License-Identifier: Apache-2.0

//! The server in which shared programs live, as far as they need it.

use std::os::fd::OwnedFd;

use super::{RunEnd, SharedProgramId};
use crate::channel::memory::Corrupt;
use crate::channel::store::{
    Begun, Ended, Input, InputError, Key, Process, ProgramHandle, ProgramView, SubscribeError, Wake,
};
use crate::exec::spawner::ProgramId;
use crate::exec::terminal::SizePolicy;

/// What the workers know together of the programs of channels: who runs which, who has clients, and what clients have sent.
/// A damaged zone is repaired by its next user; what could not be said then is made up for by the next tick.
pub trait ProgramZone {
    /// The program of a channel, of which this worker has a client now. `None` if there is no such channel.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::NoRoom`], [`SubscribeError::Corrupt`].
    fn attach(&self, key: Key<'_>) -> Result<Option<ProgramHandle>, SubscribeError>;

    /// A request begins a run of the program of a channel in this worker, which has a client of it then. It is kept for so many
    /// milliseconds when it has ended.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Missing`], [`SubscribeError::NoRoom`], [`SubscribeError::Corrupt`].
    fn begin(&self, key: Key<'_>, keeps: u64) -> Result<Begun, SubscribeError>;

    /// The program of a channel that has a run, which may be one that is kept, and of which this worker has a client now.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    fn follow(&self, key: Key<'_>) -> Result<Option<ProgramHandle>, Corrupt>;

    /// The worker of a run that a request has begun is gone: the clients of all workers are told.
    fn lost(&self, program: ProgramHandle, how: &Ended);

    /// What is known of a program, of which this worker has clients or has not, and which it has last seen in this run.
    /// `None` if it is gone.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    fn look(&self, program: ProgramHandle, clients: bool, run: u32) -> Result<Option<ProgramView>, Corrupt>;

    /// Whether something has happened to a program since the last look.
    fn has_news(&self, program: ProgramHandle) -> bool;

    /// This worker is to run a program. Whether it may.
    fn claim(&self, program: ProgramHandle) -> bool;

    /// The program that this worker has claimed runs, as this process.
    fn runs(&self, program: ProgramHandle, pid: i32);

    /// The program is being stopped.
    fn stops(&self, program: ProgramHandle);

    /// The program has ended by itself, or could not be started: the clients of all workers are told.
    fn ended(&self, program: ProgramHandle, how: &Ended);

    /// The program was stopped, and nothing of it is left: another worker may run it.
    fn left(&self, program: ProgramHandle);

    /// Adds a message to what a program is to read, unless more than `most` octets would wait then.
    ///
    /// # Errors
    ///
    /// [`InputError`].
    fn push(&self, program: ProgramHandle, message: &Input, most: u64) -> Result<(), InputError>;

    /// This worker has been told to go.
    fn leave(&self);

    /// Whether a worker is still there.
    fn lives(&self, worker: Process) -> bool;

    /// Nothing is left of a worker that was found dead: others may run its programs.
    fn clear_dead_worker(&self, worker: Process);
}

/// All that starts a program, and says what becomes of it.
pub trait StartParameters {
    /// Milliseconds that it outlives its last client.
    fn linger(&self) -> u64;

    /// Whether nobody begins a run but a request that says so.
    fn is_requested(&self) -> bool;

    /// Octets that wait for a program that does not read.
    fn backlog(&self) -> u64;

    /// Which size its terminal has; `None` if it has no terminal.
    fn size_policy(&self) -> Option<SizePolicy>;
}

/// When a program is looked at though nothing has happened to it.
pub trait Timers: Clone {
    /// Calls [`on_linger`](super::SharedPrograms::on_linger) in so many milliseconds. It does not keep a worker that has been
    /// told to go.
    fn set_linger(&self, milliseconds: u64);

    /// Does not call it any more.
    fn clear_linger(&self);

    /// Calls [`on_turn`](super::SharedPrograms::on_turn) after the events that are waiting now.
    fn post_turn(&self);

    /// Calls it in so many milliseconds, and at no earlier time that was asked for before.
    fn set_turn(&self, milliseconds: u64);

    /// Calls it in so many milliseconds as well. It does not keep a worker that has been told to go.
    fn set_retry(&self, milliseconds: u64);

    /// Keeps a worker that has been told to go, as long as anything may, or does not keep it any more.
    fn keep_worker(&self, keeps: bool);
}

/// What became of a program that was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The program is waited for.
    Waits,
    /// There is more to do at once.
    More,
    /// The program has ended by itself.
    Ended(RunEnd),
    /// The program was stopped, and nothing of it is left.
    Left,
}

/// The process of a shared program, in the worker that runs it. It is dropped when it is not to be heard any more.
pub trait SharedProcess {
    /// How its program is started.
    type Parameters;

    /// What the spawner calls it.
    fn id(&self) -> ProgramId;

    /// The program runs, on this terminal if the spawner was to make one. Whether it can be served; what keeps it from that was logged.
    fn attach(&mut self, terminal: Option<OwnedFd>, parameters: &Self::Parameters) -> bool;

    /// Only the workers in these slots have clients. Whether that changes the size of its terminal, which is done by
    /// [`run`](Self::run).
    fn keep_sizes(&mut self, workers: &Wake) -> bool;

    /// Whether the program is being stopped.
    fn is_stopping(&self) -> bool;

    /// Whether nothing of it is left.
    fn is_gone(&self) -> bool;

    /// Stops it step by step. What it still says is published; it is over when nothing of it is left.
    fn stop(&mut self, parameters: &Self::Parameters);

    /// Moves what can be moved, between its channel and its streams.
    fn run(&mut self, program: ProgramHandle, parameters: &Self::Parameters) -> Progress;

    /// Its last client has gone: gives it what that has sent. If it still takes that, how long until it is to be looked at
    /// again, in milliseconds.
    fn finish_input(&mut self, program: ProgramHandle, parameters: &Self::Parameters) -> Option<u64>;
}

/// The server in which shared programs live.
pub trait ProgramHost: ProgramZone {
    /// How a program is started.
    type Parameters: StartParameters;
    /// The timers of one program.
    type Timers: Timers;
    /// A process of a program.
    type Process: SharedProcess<Parameters = Self::Parameters>;

    /// Timers that call with this id.
    fn timers(&self, id: SharedProgramId) -> Self::Timers;

    /// Asks for a process of a program. Its end, and whether it could be started, is told later.
    ///
    /// # Errors
    ///
    /// It could not even be asked for, which was logged.
    fn start(
        &self,
        parameters: &Self::Parameters,
        id: SharedProgramId,
        timers: &Self::Timers,
    ) -> Result<Self::Process, RunEnd>;

    /// A client is to look at its [`ProgramMembership`](super::ProgramMembership). It may be gone.
    fn wake(&self, client: usize);
}
