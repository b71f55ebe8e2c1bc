//! Starting the program of a request.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::command::{Command, refusal};
use super::feed::Feed;
use super::{Fate, Listener, Program, Stderr, Stdin, backlog};
use crate::conf::ExecStderr;
use crate::exec::framing::{Reader, Writer};
use crate::exec::spawner;
use crate::exec::terminal;
use crate::nginx::endpoint::Endpoint;
use crate::nginx::exhaustion::Explained;
use crate::nginx::log::Level;
use crate::nginx::pipe;
use crate::nginx::request::Request;
use crate::nginx::session::{self, SessionRef};
use crate::nginx::upgrade::try_again;
use crate::nginx::worker::programs::{self, Asked, Served};

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
    /// Three pipes, or two if nobody wants to know what goes wrong.
    ///
    /// # Errors
    ///
    /// There are no descriptors left.
    pub fn pipes(to: ExecStderr) -> io::Result<Self> {
        let (stdin, child_stdin) = pipe::pair(false)?;
        let (stdout, child_stdout) = pipe::pair(true)?;
        let (stderr, child_stderr) = match to {
            ExecStderr::Null => (None, pipe::null()?),
            ExecStderr::Log | ExecStderr::Client => {
                let (ours, theirs) = pipe::pair(true)?;
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

/// Asks the spawner for the program of a location. The answer comes to the session.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn start(request: Request, session: SessionRef, command: Command<'_>) -> Result<Box<dyn Endpoint>, isize> {
    let settings = request.settings();
    let name = &command.name;
    let ladder = settings.exec_stop();
    let terminal = settings.exec_pty();
    let description = spawner::Program {
        path: &command.path,
        arguments: &command.arguments,
        environment: command.environment.variables(),
        directory: command.directory,
        limits: &command.limits,
        ladder,
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
    let stdio = if terminal { Stdio::terminal() } else { Stdio::pipes(settings.exec_stderr()) }.map_err(refused)?;
    let listener = Listener { handler: session::on_endpoint, data: session.as_ptr().cast(), log: request.log() };
    let watch = |fd| listener.watch(fd).map_err(refused);
    let stdin = Stdin::new(stdio.stdin, listener);
    let stdout = watch(stdio.stdout)?;
    let stderr = stdio.stderr.map(watch).transpose()?.map(|pipe| Stderr::new(pipe, settings.exec_stderr()));
    let fate = Rc::new(Fate::default());
    let found = command.found.map(|found| found.directory);
    let asked = Asked {
        served: Served::Session(session),
        fate: Rc::clone(&fate),
        place,
        name: name.clone(),
        timeout: settings.exec_start_timeout(),
    };
    let id = programs::start(asked, &description, stdio.theirs, found).map_err(refused)?;
    Ok(Box::new(Program {
        id,
        name: name.clone(),
        session,
        fate,
        format: settings.exec_format(),
        terminal,
        hung_up: false,
        ladder,
        feed: Some(Feed::new(stdin, terminal)),
        stdout: Some(stdout),
        stderr,
        reader: Reader::new(settings.exec_format()),
        writer: Writer::new(settings.exec_format()),
        backlog: backlog(settings.max_message_size()),
    }))
}
