// SPDX-License-Identifier: Apache-2.0

//! Starting the program of a request.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use super::client::OneClient;
use super::command::{Command, Environs, refusal};
use super::feed::Feed;
use super::notes::{Notes, Noting};
use super::{Listener, RunningProgram, Stderr, Stdin, backlog, pool};
use crate::conf::{EndpointSettings, ExecStderr};
use crate::exec::framing::{Reader, Writer, write_environment};
use crate::exec::spawner::{ProgramDescription, ProgramId};
use crate::exec::terminal::{self, SizeReader};
use crate::ledger::Place;
use crate::nginx::exhaustion::Explained;
use crate::nginx::log::Level;
use crate::nginx::pipe::{self, Pipe};
use crate::nginx::request::{Request, try_again};
use crate::nginx::session::{self, SessionRef};
use crate::nginx::status::Status;
use crate::nginx::template::ComplexValue;
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
    ///
    /// # Errors
    ///
    /// There are no descriptors or terminals left.
    pub fn terminal() -> io::Result<Self> {
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
    /// How it notes something for the access log, if it can.
    pub noting: Option<Noting>,
    /// It is told of its client by the first record.
    pub tells_of_client: bool,
}

/// A program that was asked for, with our ends of what it reads and writes.
pub struct Launched {
    pub id: ProgramId,
    pub end: Rc<ProgramEnd>,
    pub feed: Feed,
    /// None as long as its terminal has not come.
    pub stdout: Option<Pipe>,
    pub stderr: Option<Stderr>,
    /// What it notes, if it can.
    pub notes: Option<Notes>,
    /// Its terminal comes when it runs.
    pub unattached: bool,
}

impl Launched {
    /// Asks the spawner for a program, in the directory `found` that it is in or by its path, with pipes or on a terminal, and with a
    /// descriptor for its notes if it is to have one. These octets are the first that it reads.
    ///
    /// # Errors
    ///
    /// There are no descriptors or connections left, or there is no spawner.
    pub fn ask(
        asked: Asked,
        program: &ProgramDescription<'_>,
        found: Option<OwnedFd>,
        to: ExecStderr,
        noting: Option<Noting>,
        listener: Listener,
        first: &[u8],
    ) -> io::Result<Self> {
        let terminal = program.terminal;
        // A terminal belongs to whoever has opened it, so that another user's is opened by its spawner.
        let stdio = match (terminal, asked.user.as_deref()) {
            (true, Some(_)) => None,
            (true, None) => Some(Stdio::terminal()?),
            (false, user) => Some(Stdio::pipes(to, user)?),
        };
        let unattached = stdio.is_none();
        let (mut feed, stdout, stderr, theirs) = match stdio {
            None => (Feed::of_terminal(), None, None, None),
            Some(Stdio { stdin, stdout, stderr, theirs }) => {
                let stderr = stderr.map(|fd| listener.watch(fd)).transpose()?.map(|pipe| Stderr::new(pipe, to));
                let feed = Feed::new(Stdin::new(stdin, listener), terminal);
                (feed, Some(listener.watch(stdout)?), stderr, Some(theirs))
            }
        };
        let noted = noting.map(|noting| noting.open(&asked.name, asked.user.as_deref(), listener)).transpose()?;
        let (notes, their_notes) = noted.map_or((None, None), |(ours, theirs)| (Some(ours), theirs));
        let program = &ProgramDescription { notes: their_notes.as_ref().map(AsFd::as_fd), ..*program };
        if !first.is_empty() {
            feed.queue().extend_from_slice(first);
        }
        let end = Rc::clone(&asked.end);
        let id = programs::start(asked, program, theirs, found)?;
        Ok(Launched { id, end, feed, stdout, stderr, notes, unattached })
    }

    /// Somebody else hears of its descriptors from now on.
    pub fn listen(&mut self, listener: Listener) {
        self.feed.listen(listener);
        if let Some(stdout) = &self.stdout {
            stdout.listen(listener);
        }
        if let Some(stderr) = &self.stderr {
            stderr.listen(listener);
        }
        if let Some(notes) = &mut self.notes {
            notes.listen(listener);
        }
    }

    /// What it notes is logged with this request.
    pub fn log_with(&self, request: Request<'_>) {
        if let (Some(notes), Some(context)) = (&self.notes, request.context()) {
            // Without memory the log does not have it, which is no reason to end the program.
            context.set_notes(notes.kept());
        }
    }

    /// As the endpoint of a session, which has given the program its place. `was_ready`: it was there before its client.
    pub fn serve(self, request: Request<'_>, session: SessionRef, name: String, was_ready: bool) -> Box<dyn Endpoint> {
        let settings = request.settings();
        let Launched { id, end, feed, stdout, stderr, notes, unattached } = self;
        Box::new(RunningProgram {
            id,
            name,
            session,
            listener: listener(request, session),
            end,
            format: settings.exec_format(),
            was_ready,
            unattached,
            sizes: settings.exec_pty().then(SizeReader::default),
            hung_up: false,
            ladder: settings.exec_stop(),
            feed: Some(feed),
            stdout,
            stderr,
            notes,
            reader: Reader::new(settings.exec_format()),
            writer: Writer::new(settings.exec_format()),
            backlog: backlog(settings.max_message_size()),
        })
    }
}

/// A place for one more program of the location of a request.
///
/// # Errors
///
/// The status to answer, which was logged: all places are taken.
pub fn admit(request: Request<'_>, name: &str) -> Result<Place, Status> {
    let settings = request.settings();
    programs::admit(settings.key, settings.exec_max()).ok_or_else(|| {
        let most = settings.exec_max();
        let reason = format_args!("cannot start {name}: {most} programs run here already (websocket_exec_max)");
        request.report(Level::Error, reason);
        try_again(request)
    })
}

/// Who hears of the descriptors of the program of a session.
pub fn listener(request: Request<'_>, session: SessionRef) -> Listener {
    Listener { handler: session::on_endpoint, data: session.as_ptr().cast(), log: request.log() }
}

/// Asks the spawner for the program of a request. The answer comes to whom it serves.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn launch(request: Request<'_>, command: Command<'_>, launch: Launch) -> Result<Launched, Status> {
    let Launch { listener, served, terminal, stderr, noting, tells_of_client } = launch;
    let settings = request.settings();
    let name = &command.name;
    let description = ProgramDescription {
        path: &command.path,
        arguments: &command.arguments,
        environment: command.environment.variables(),
        directory: command.directory,
        limits: &command.limits,
        ladder: settings.exec_stop(),
        terminal,
        notes: None,
    };
    let place = admit(request, name)?;
    let refused = |error: io::Error| {
        programs::failed(settings.key);
        request.report(Level::Error, format_args!("cannot start {name}: {}", Explained(&error)));
        refusal(request, &error)
    };
    let mut first = Vec::new();
    if tells_of_client {
        let told = write_environment(&command.environment, &mut first);
        told.map_err(|error| refused(io::Error::new(io::ErrorKind::OutOfMemory, error)))?;
    }
    let found = command.found.map(|found| found.directory);
    let asked = Asked {
        served,
        end: Rc::default(),
        place: Some(place),
        name: name.clone(),
        timeout: settings.exec_start_timeout(),
        user: settings.exec_user(),
    };
    let launched = Launched::ask(asked, &description, found, stderr, noting, listener, &first).map_err(refused)?;
    launched.log_with(request);
    Ok(launched)
}

/// The program of a location for a session.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn of_location(request: Request<'_>, session: SessionRef) -> Result<Box<dyn Endpoint>, Status> {
    match &request.settings().endpoint {
        Some(EndpointSettings::Exec(words)) => serve(request, session, words),
        Some(EndpointSettings::ExecDir(root)) => {
            start(request, session, Command::in_directory(request, root, Environs::Client)?)
        }
        Some(EndpointSettings::Channel(_) | EndpointSettings::Shared(_) | EndpointSettings::Tcp(_)) | None => {
            debug_assert!(false, "the location has no program for a session");
            Err(Status::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Gives a client of `websocket_exec` one of the programs that wait for it, or asks for one of its own.
///
/// # Errors
///
/// The status to answer, which was logged.
fn serve(request: Request<'_>, session: SessionRef, words: &[ComplexValue]) -> Result<Box<dyn Endpoint>, Status> {
    match pool::hand_over(request, session)? {
        Some(program) => Ok(program),
        None => start(request, session, Command::of_words(request, words, Environs::Client)?),
    }
}

/// Asks the spawner for the program of a session. The answer comes to the session.
///
/// # Errors
///
/// The status to answer, which was logged.
fn start(request: Request<'_>, session: SessionRef, command: Command<'_>) -> Result<Box<dyn Endpoint>, Status> {
    let settings = request.settings();
    let name = command.name.clone();
    let whom = Launch {
        listener: listener(request, session),
        served: Rc::new(OneClient(session)),
        terminal: settings.exec_pty(),
        stderr: settings.exec_stderr(),
        noting: Noting::of(settings),
        tells_of_client: pool::tells_of_client(settings),
    };
    Ok(launch(request, command, whom)?.serve(request, session, name, false))
}
