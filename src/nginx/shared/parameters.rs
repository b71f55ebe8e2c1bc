// SPDX-License-Identifier: Apache-2.0

//! How a shared program is started: all of it, for a worker that has to do it again when no request is there.

use std::rc::Rc;

use crate::channel::store::Input;
use crate::channel::transport::Transport;
use crate::conf::ExecStderr;
use crate::exec::framing::Format;
use crate::exec::spawner::{self, Ladder, Limit};
use crate::exec::strings::Strings;
use crate::exec::terminal::SizePolicy;
use crate::nginx::channel::{Ids, Publisher};
use crate::nginx::log::Octets;
use crate::nginx::program::{Command, Environs, backlog};
use crate::nginx::request::Request;
use crate::nginx::status::Status;
use crate::nginx::template::ComplexValue;
use crate::nginx::user::User;
use crate::session::shared::host::StartParameters;

/// All that starts a program and says what becomes of its output. Variables have the values of the request that it was made for.
pub struct Parameters {
    path: Vec<u8>,
    arguments: Strings,
    environment: Strings,
    directory: Option<Vec<u8>>,
    limits: Vec<Limit>,
    ladder: Ladder,
    /// How long its start may take, in milliseconds; 0 for no limit.
    pub start_timeout: u64,
    /// Whom it runs as; `None` for the user of the workers.
    pub user: Option<Rc<User>>,
    /// How the log calls it.
    pub name: String,
    /// Milliseconds that it outlives its last client.
    linger: u64,
    /// Nobody begins a run but a request that says so.
    is_requested: bool,
    /// Nobody can send it more than its first message.
    pub has_one_message: bool,
    /// How its streams are divided into messages.
    pub format: Format,
    /// It runs on a terminal.
    pub terminal: bool,
    /// Which size that has.
    size_policy: SizePolicy,
    /// What becomes of its standard error.
    pub stderr: ExecStderr,
    /// Programs of the location at once.
    pub most: u64,
    /// The location, for what is counted.
    pub key: u64,
    /// Octets that wait for a program that does not read.
    backlog: usize,
    /// Octets of one of its messages at most, 0 for no limit.
    pub max_message_size: u64,
    /// Where its messages go.
    pub publisher: Publisher,
}

impl Parameters {
    /// For the location of a request.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged.
    pub fn of(request: Request<'_>, program: &[ComplexValue], ids: &Ids<'_>) -> Result<Self, Status> {
        let command = Command::of_words(request, program, Environs::Channel)?;
        let settings = request.settings();
        let id = ids.keys().first().map(|key| key.id()).ok_or(Status::INTERNAL_SERVER_ERROR)?;
        Ok(Parameters {
            path: command.path.into_owned(),
            arguments: command.arguments,
            environment: command.environment.into(),
            directory: command.directory.map(<[u8]>::to_vec),
            limits: command.limits,
            ladder: settings.exec_stop(),
            start_timeout: settings.exec_start_timeout(),
            user: settings.exec_user(),
            name: format!("{} for channel \"{}\"", command.name, Octets(id)),
            linger: settings.exec_linger(),
            is_requested: settings.has_requested_runs(),
            has_one_message: settings.has_requested_runs()
                && !settings.channel_transports().offer(Transport::WebSocket),
            format: settings.exec_format(),
            terminal: settings.exec_pty(),
            size_policy: settings.exec_pty_size(),
            stderr: settings.exec_stderr(),
            most: settings.exec_max(),
            key: settings.key,
            backlog: backlog(settings.max_message_size()),
            max_message_size: settings.max_message_size(),
            publisher: Publisher::new(request, ids)?,
        })
    }

    /// Whether the clients of the program are terminals: they get its octets as they are.
    pub fn shows_terminal(&self) -> bool {
        self.terminal && self.format == Format::Bytes
    }

    /// How the program is stopped.
    pub fn ladder(&self) -> Ladder {
        self.ladder
    }

    /// What the spawner is told.
    pub fn description(&self) -> spawner::ProgramDescription<'_> {
        spawner::ProgramDescription {
            path: &self.path,
            arguments: &self.arguments,
            environment: &self.environment,
            directory: self.directory.as_deref(),
            limits: &self.limits,
            ladder: self.ladder,
            terminal: self.terminal,
            notes: None,
        }
    }
}

impl StartParameters for Parameters {
    fn linger(&self) -> u64 {
        self.linger
    }

    fn is_requested(&self) -> bool {
        self.is_requested
    }

    fn backlog(&self) -> u64 {
        self.backlog as u64
    }

    fn size_policy(&self) -> Option<SizePolicy> {
        self.terminal.then_some(self.size_policy)
    }
}

/// Octets that a message takes while it waits.
pub fn weight(message: &Input) -> usize {
    message.data.len() + size_of::<Input>()
}
