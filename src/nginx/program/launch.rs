//! Starting the program of a request.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::rc::Rc;

use super::{Fate, LEAST_BACKLOG, MOST_BACKLOG, Program, Stderr};
use crate::conf::{EnvEntry, ExecStderr};
use crate::exec::environment::{self, Environment, Setting};
use crate::exec::framing::{Reader, Writer};
use crate::exec::spawner;
use crate::exec::strings::Strings;
use crate::nginx::endpoint::Endpoint;
use crate::nginx::ffi;
use crate::nginx::log::{Level, Octets};
use crate::nginx::pipe::{self, Pipe};
use crate::nginx::request::Request;
use crate::nginx::session::{self, SessionRef};
use crate::nginx::template::ComplexValue;
use crate::nginx::upgrade::try_again;
use crate::nginx::worker::programs;

const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;

/// Asks the spawner for the program of a location. The answer comes to the session.
///
/// # Errors
///
/// The status to answer, which was logged.
pub fn start(request: Request, session: SessionRef, words: &[ComplexValue]) -> Result<Box<dyn Endpoint>, isize> {
    let settings = request.settings();
    let words: Vec<&[u8]> = words.iter().map(|word| word.evaluate(request)).collect::<Option<_>>().ok_or(FAILED)?;
    let path = words.first().copied().unwrap_or_default();
    let mut name = format!("\"{}\"", Octets(path));
    if path.is_empty() {
        request.report(Level::Error, format_args!("\"websocket_exec\" names no program for this request"));
        return Err(FAILED);
    }
    let directory = match settings.exec_cwd() {
        Some(template) => {
            let directory = template.evaluate(request).ok_or(FAILED)?;
            name.push_str(&format!(" in \"{}\"", Octets(directory)));
            Some(directory)
        }
        None => None,
    };
    let refused = |reason: &dyn Display| {
        request.report(Level::Error, format_args!("cannot start {name}: {reason}"));
    };
    let mut arguments = Strings::new();
    for word in &words {
        arguments.push(word).map_err(|error| {
            refused(&error);
            FAILED
        })?;
    }
    let environment = environment(request)?;
    let ladder = settings.exec_stop();
    let description = spawner::Program {
        path,
        arguments: &arguments,
        environment: environment.variables(),
        directory,
        limits: &[],
        ladder,
        terminal: false,
    };
    let place = programs::admit(request, settings.exec_max()).ok_or_else(|| {
        refused(&format_args!("{} programs run here already (websocket_exec_max)", settings.exec_max()));
        try_again(request)
    })?;
    let io_error = |error: io::Error| {
        refused(&error);
        refusal(request, error.raw_os_error().unwrap_or_default())
    };
    let (stdin, child_stdin) = pipe::pair(false).map_err(io_error)?;
    let (stdout, child_stdout) = pipe::pair(true).map_err(io_error)?;
    let (stderr, child_stderr) = match settings.exec_stderr() {
        ExecStderr::Null => (None, pipe::null().map_err(io_error)?),
        ExecStderr::Log | ExecStderr::Client => {
            let (ours, theirs) = pipe::pair(true).map_err(io_error)?;
            (Some(ours), theirs)
        }
    };
    let watch = |fd| Pipe::new(fd, session::on_endpoint, session.as_ptr().cast(), request.log()).map_err(io_error);
    let stdin = watch(stdin)?;
    let stdout = watch(stdout)?;
    let stderr = stderr.map(watch).transpose()?.map(|pipe| Stderr::new(pipe, settings.exec_stderr()));
    let fate = Rc::new(Fate::default());
    let pipes = [child_stdin, child_stdout, child_stderr];
    let id = programs::start(session, Rc::clone(&fate), place, &description, pipes, name.clone()).map_err(io_error)?;
    let backlog = match settings.max_message_size() {
        0 => MOST_BACKLOG,
        size => size.clamp(LEAST_BACKLOG, MOST_BACKLOG),
    };
    Ok(Box::new(Program {
        id,
        fate,
        format: settings.exec_format(),
        ladder,
        stdin: Some(stdin),
        stdout: Some(stdout),
        stderr,
        reader: Reader::new(settings.exec_format()),
        writer: Writer::new(settings.exec_format()),
        queue: Vec::new(),
        written: 0,
        backlog: backlog as usize,
        progress: 0,
    }))
}

/// What is short for a while is worth another try; everything else is a mistake.
fn refusal(request: Request, errno: i32) -> isize {
    match errno {
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE => try_again(request),
        _ => FAILED,
    }
}

fn environment(request: Request) -> Result<Environment, isize> {
    let settings = request.settings();
    let entries = settings.exec_env();
    let mut values: Vec<(&[u8], Cow<'_, [u8]>)> = Vec::with_capacity(entries.len());
    for entry in entries.iter() {
        match entry {
            EnvEntry::Set(name, template) => {
                values.push((name, Cow::Borrowed(template.evaluate(request).ok_or(FAILED)?)));
            }
            EnvEntry::Pass(name) => {
                if let Some(value) = programs::own_environment(name) {
                    values.push((name, Cow::Owned(value)));
                }
            }
        }
    }
    let variables: Vec<Setting<'_>> = values.iter().map(|(name, value)| Setting { name, value }).collect();
    let uri = request.uri();
    // The location's name is what led to the program; the rest of the path is for the program.
    let (script_name, path_info) = match request.location() {
        prefix if uri.starts_with(prefix) && !prefix.is_empty() => {
            let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
            uri.split_at(prefix.len())
        }
        _ => (uri, &b""[..]),
    };
    let document_root = request.variable(b"document_root");
    let translated = (!path_info.is_empty()).then(|| [document_root, path_info].concat());
    let software = [b"nginx/", request.variable(b"nginx_version")].concat();
    let user = request.variable(b"remote_user");
    let meta = environment::Request {
        method: request.method(),
        uri: request.unparsed_uri(),
        query: request.arguments(),
        script_name,
        path_info,
        path_translated: translated.as_deref(),
        server_name: request.host(),
        server_port: request.variable(b"server_port"),
        remote_addr: request.remote_address(),
        remote_port: request.variable(b"remote_port"),
        remote_user: (!user.is_empty()).then_some(user),
        https: request.is_tls(),
        unique_id: request.variable(b"request_id"),
        protocol: request.protocol(),
        software: &software,
    };
    let path = programs::own_environment(b"PATH");
    Ok(Environment::new(&meta, request.headers(), path.as_deref(), &variables))
}
