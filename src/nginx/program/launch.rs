// SPDX-License-Identifier: Apache-2.0

//! Starting the program of a request.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::client::OneClient;
use super::command::{Command, refusal};
use super::feed::Feed;
use super::{Listener, RunningProgram, Stderr, Stdin, backlog};
use crate::conf::ExecStderr;
use crate::exec::framing::{Reader, Writer};
use crate::exec::spawner::{self, ProgramId};
use crate::exec::terminal;
use crate::nginx::exhaustion::Explained;
use crate::nginx::log::Level;
use crate::nginx::pipe::{self, Pipe};
use crate::nginx::request::{Request, try_again};
use crate::nginx::session::{self, SessionRef};
use crate::nginx::status::Status;
use crate::nginx::user::User;
use crate::nginx::worker::programs::{self, Asked, Served};
use crate::session::endpoint::Endpoint;
use crate::session::program::ProgramEnd;

/// The descriptors of a program: our ends, and its own.
pub struct Stdio {
    /// What we write to.
    pub stdin: OwnedFd,
    /// What we read.
    pub stdout: OwnedFd,
    /// What we read of its standard error, if anything.
    pub stderr: Option<OwnedFd>,
    /// The program's descriptors 0 to 2.
    pub theirs: [OwnedFd; 3],
}

impl Stdio {
    /// Three pipes, or two if nobody wants to know what goes wrong, for a program of this user or of the worker's.
    ///
    /// # Errors
    ///
    /// There are no descriptors left.
    pub fn pipes(to: ExecStderr, user: Option<&User>) -> io::Result<Self> {
        let pair = |ours_reads| {
            let (ours, theirs) = pipe::pair(ours_reads)?;
            if user.is_some() {
                pipe::let_open(&theirs);
            }
            io::Result::Ok((ours, theirs))
        };
        let (stdin, child_stdin) = pair(false)?;
        let (stdout, child_stdout) = pair(true)?;
        let (stderr, child_stderr) = match to {
            ExecStderr::Null => (None, pipe::null()?),
            ExecStderr::Log | ExecStderr::Client | ExecStderr::Both => {
                let (ours, theirs) = pair(true)?;
                (Some(ours), theirs)
            }
        };
        Ok(Stdio { stdin, stdout, stderr, theirs: [child_stdin, child_stdout, child_stderr] })
    }

    /// On a terminal all three are one.
    fn terminal() -> io::Result<Self> {
        let (ours, theirs) = terminal::open(terminal::Size::default())?;
        Ok(Stdio { stdin: ours.try_clone()?, stdout: ours, stderr: None, theirs })
    }
}

/// Whom a program is started for.
pub struct Launch {
    /// Who hears of its descriptors.
    pub listener: Listener,
    /// Who hears of the program itself.
    pub served: Rc<dyn Served>,
    /// It runs on a terminal.
    pub terminal: bool,
    /// What becomes of its standard error.
    pub stderr: ExecStderr,
}

/// A program that was asked for, with our ends of what it reads and writes.
pub struct Launched {
    pub id: ProgramId,
    pub end: Rc<ProgramEnd>,
    pub feed: Feed,
    pub stdout: Option<Pipe>,
    pub stderr: Option<Stderr>,
    /// Its terminal comes when it runs.
    pub unattached: bool,
}

/// Asks the spawner for the program of a request. The answer comes to whom it serves.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn launch(request: Request<'_>, command: Command<'_>, launch: Launch) -> Result<Launched, Status> {
    let Launch { listener, served, terminal, stderr: to } = launch;
    let settings = request.settings();
    let name = &command.name;
    let description = spawner::ProgramDescription {
        path: &command.path,
        arguments: &command.arguments,
        environment: command.environment.variables(),
        directory: command.directory,
        limits: &command.limits,
        ladder: settings.exec_stop(),
        terminal,
    };
    let place = programs::admit(settings.key, settings.exec_max()).ok_or_else(|| {
        let most = settings.exec_max();
        let reason = format_args!("cannot start {name}: {most} programs run here already (websocket_exec_max)");
        request.report(Level::Error, reason);
        try_again(request)
    })?;
    let refused = |error: io::Error| {
        programs::failed(settings.key);
        request.report(Level::Error, format_args!("cannot start {name}: {}", Explained(&error)));
        refusal(request, &error)
    };
    let user = settings.exec_user();
    let watch = |fd| listener.watch(fd).map_err(refused);
    // A terminal belongs to whoever has opened it, so that another user's is opened by its spawner.
    let stdio = match (terminal, &user) {
        (true, Some(_)) => None,
        (true, None) => Some(Stdio::terminal().map_err(refused)?),
        (false, user) => Some(Stdio::pipes(to, user.as_deref()).map_err(refused)?),
    };
    let unattached = stdio.is_none();
    let (feed, stdout, stderr, theirs) = match stdio {
        None => (Feed::of_terminal(), None, None, None),
        Some(Stdio { stdin, stdout, stderr, theirs }) => {
            let stderr = stderr.map(watch).transpose()?.map(|pipe| Stderr::new(pipe, to));
            (Feed::new(Stdin::new(stdin, listener), terminal), Some(watch(stdout)?), stderr, Some(theirs))
        }
    };
    let end = Rc::new(ProgramEnd::default());
    let found = command.found.map(|found| found.directory);
    let asked =
        Asked { served, end: Rc::clone(&end), place, name: name.clone(), timeout: settings.exec_start_timeout(), user };
    let id = programs::start(asked, &description, theirs, found).map_err(refused)?;
    Ok(Launched { id, end, feed, stdout, stderr, unattached })
}

/// Asks the spawner for the program of a session. The answer comes to the session.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn start(request: Request<'_>, session: SessionRef, command: Command<'_>) -> Result<Box<dyn Endpoint>, Status> {
    let settings = request.settings();
    let name = command.name.clone();
    let terminal = settings.exec_pty();
    let listener = Listener { handler: session::on_endpoint, data: session.as_ptr().cast(), log: request.log() };
    let served = Rc::new(OneClient(session));
    let whom = Launch { listener, served, terminal, stderr: settings.exec_stderr() };
    let Launched { id, end, feed, stdout, stderr, unattached } = launch(request, command, whom)?;
    Ok(Box::new(RunningProgram {
        id,
        name,
        session,
        listener,
        end,
        format: settings.exec_format(),
        unattached,
        terminal,
        hung_up: false,
        ladder: settings.exec_stop(),
        feed: Some(feed),
        stdout,
        stderr,
        reader: Reader::new(settings.exec_format()),
        writer: Writer::new(settings.exec_format()),
        backlog: backlog(settings.max_message_size()),
    }))
}
