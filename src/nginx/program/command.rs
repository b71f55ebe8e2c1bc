// SPDX-License-Identifier: Apache-2.0

//! What is run for a request: the program, its arguments, its environment.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;

use crate::conf::{EnvEntry, PROGRAM_NAME, names_program};
use crate::exec::directory::{self, Execution, Found, Unresolved};
use crate::exec::environment::{self, Environment, Setting};
use crate::exec::notes;
use crate::exec::spawner::Limit;
use crate::exec::strings::Strings;
use crate::nginx::auth_basic;
use crate::nginx::exhaustion::{self, Explained};
use crate::nginx::identity::{self, Identity};
use crate::nginx::log::{Level, Octets};
use crate::nginx::request::{Request, try_again};
use crate::nginx::session::context::Context;
use crate::nginx::status::Status;
use crate::nginx::template::ComplexValue;
use crate::nginx::user::User;
use crate::nginx::worker::spawners;

/// Whose request a program may know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environs {
    /// The program may know of the request of its only client.
    Client,
    /// Nobody's: what it says reaches the clients of a channel, and what one of them sent is not for the others. It knows
    /// of the server and of the location.
    Channel,
    /// That of the request that it answers, with this body.
    Request(Body),
}

/// The body of a request, as a program knows it before it reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    /// Octets of the body; none where there is no body.
    pub length: Option<u64>,
}

impl Environs {
    /// The directive that names the program.
    fn directive(self) -> &'static str {
        match self {
            Environs::Client | Environs::Channel => "websocket_exec",
            Environs::Request(_) => "websocket_cgi",
        }
    }
}

/// A program for one request.
pub struct Command<'r> {
    /// The file, or its name in the directory of `found`.
    pub path: Cow<'r, [u8]>,
    /// The directory that it was found in, opened.
    pub found: Option<Found>,
    /// The words, the program itself first.
    pub arguments: Strings,
    /// The working directory; none for that of the program.
    pub directory: Option<&'r [u8]>,
    /// The variables.
    pub environment: Environment,
    /// The resource limits.
    pub limits: Vec<Limit>,
    /// How the log calls it.
    pub name: String,
}

impl<'r> Command<'r> {
    /// The program and the arguments of `websocket_exec` or `websocket_cgi`.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged.
    pub fn of_words(request: Request<'r>, words: &[ComplexValue], environs: Environs) -> Result<Self, Status> {
        let words: Vec<&'r [u8]> = words
            .iter()
            .map(|word| word.evaluate(request))
            .collect::<Option<_>>()
            .ok_or(Status::INTERNAL_SERVER_ERROR)?;
        let path = words.first().copied().unwrap_or_default();
        if path.is_empty() {
            let directive = environs.directive();
            request.report(Level::Error, format_args!("\"{directive}\" names no program for this request"));
            return Err(Status::INTERNAL_SERVER_ERROR);
        }
        if !names_program(path) {
            let path = Octets(path);
            request.report(Level::Error, format_args!("cannot start \"{path}\": a program is {PROGRAM_NAME}"));
            return Err(Status::INTERNAL_SERVER_ERROR);
        }
        Self::new(request, Cow::Borrowed(path), None, &words, script(request), environs)
    }

    /// The program below the directory of `websocket_exec_dir` or `websocket_cgi_dir` that the rest of the path leads to.
    ///
    /// # Errors
    ///
    /// The status to answer, which was logged: 404 and 403 as for a static file, or a failure.
    pub fn in_directory(request: Request<'r>, root: &ComplexValue, environs: Environs) -> Result<Self, Status> {
        let root = root.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
        let uri = request.uri();
        let start = prefix(request).map_or(0, <[u8]>::len);
        let rest = uri.get(start..).unwrap_or_default();
        // The worker cannot tell what another user may execute: that user's process finds out.
        let may_execute = if request.settings().exec_user().is_some() { Execution::Unknown } else { Execution::Own };
        let found = directory::resolve(root, rest, may_execute).map_err(|error| {
            let tell = |level: Level, reason: &dyn std::fmt::Display| {
                let (rest, root) = (Octets(rest), Octets(root));
                request.report(level, format_args!("no program for \"{rest}\" in \"{root}\": {reason}"));
            };
            let complain = |reason: &dyn std::fmt::Display| tell(Level::Error, reason);
            match error {
                Unresolved::NotFound => {
                    tell(if request.logs_not_found() { Level::Error } else { Level::Info }, &"not found");
                    Status::NOT_FOUND
                }
                Unresolved::Denied => {
                    complain(&format_args!("it cannot be executed by {}", Identity::of_this_process()));
                    Status::FORBIDDEN
                }
                Unresolved::Outside => {
                    complain(&"a link leads out of the directory");
                    Status::FORBIDDEN
                }
                Unresolved::Failed(error) => {
                    let errno = error.raw_os_error().unwrap_or_default();
                    complain(&format_args!("{}{}", Explained(&error), identity::concerning(errno)));
                    refusal(request, &error)
                }
            }
        })?;
        let script = start + found.length;
        let name = found.name.clone();
        Self::new(request, Cow::Owned(name.clone()), Some(found), &[&name], script, environs)
    }

    fn new(
        request: Request<'r>,
        path: Cow<'r, [u8]>,
        found: Option<Found>,
        words: &[&[u8]],
        script: usize,
        environs: Environs,
    ) -> Result<Self, Status> {
        let mut name = format!("\"{}\"", Octets(&path));
        let mut path = path;
        let mut found = found;
        let directory = match request.settings().exec_cwd() {
            Some(template) => {
                let directory = template.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
                if !directory.starts_with(b"/") {
                    let directory = Octets(directory);
                    let reason = format_args!(
                        "cannot start {name}: \"{directory}\" in \"websocket_exec_cwd\" is no absolute path"
                    );
                    request.report(Level::Error, reason);
                    return Err(Status::INTERNAL_SERVER_ERROR);
                }
                // Writing to a String does not fail.
                let _ = write!(name, " in \"{}\"", Octets(directory));
                Some(directory)
            }
            None => None,
        };
        let complain = |reason: &dyn std::fmt::Display| {
            request.report(Level::Error, format_args!("cannot start {name}: {reason}"));
        };
        // Only in its own directory can a program be started by the name that it has there.
        if let Some(program) = found.take_if(|_| directory.is_some()) {
            path = Cow::Owned(program.path().map_err(|error| {
                complain(&Explained(&error));
                refusal(request, &error)
            })?);
        }
        let mut arguments = Strings::new();
        for word in words {
            arguments.push(word).map_err(|error| {
                complain(&error);
                Status::INTERNAL_SERVER_ERROR
            })?;
        }
        let mut limits = Vec::new();
        for entry in request.settings().exec_limit().iter() {
            let text = entry.value.evaluate(request).ok_or(Status::INTERNAL_SERVER_ERROR)?;
            limits.push(entry.limit(text).map_err(|error| {
                complain(&format_args!("websocket_exec_limit: \"{}\" is not {}", Octets(text), error.expected()));
                Status::INTERNAL_SERVER_ERROR
            })?);
        }
        let environment = environment(request, script, environs)?;
        Ok(Command { path, found, arguments, directory, environment, limits, name })
    }
}

/// The environment that the program of `websocket_exec` would have if it were started for this request.
///
/// # Errors
///
/// The status to answer.
pub fn environment_of(request: Request<'_>) -> Result<Environment, Status> {
    environment(request, script(request), Environs::Client)
}

/// How much of the path led to the program of `websocket_exec`.
fn script(request: Request<'_>) -> usize {
    // The location's name is what led to the program; the rest of the path is for the program. No part of it led to
    // a location "@name", as none led to "location /".
    match prefix(request) {
        _ if request.settings().named => 0,
        Some(prefix) => prefix.strip_suffix(b"/").unwrap_or(prefix).len(),
        None => request.uri().len(),
    }
}

/// Names of variables, and their values.
pub type Values<'a> = Vec<(&'a [u8], Cow<'a, [u8]>)>;

/// What a location sets in the environment of its programs: the variables of their user, then those of
/// `websocket_exec_env`, which may take their place, and which descriptor they note something on if they have it. `None` when a value
/// cannot be had.
pub fn variables<'a>(
    user: Option<&'a User>,
    entries: &'a [EnvEntry<ComplexValue>],
    has_notes: bool,
    value: impl Fn(&'a ComplexValue) -> Option<&'a [u8]>,
) -> Option<Values<'a>> {
    let mut values: Values<'a> = Vec::with_capacity(entries.len() + 4);
    if let Some(user) = user {
        values.extend(user.environment().map(|(name, value)| (name, Cow::Borrowed(value))));
    }
    for entry in entries {
        match entry {
            EnvEntry::Set(name, template) => values.push((name, Cow::Borrowed(value(template)?))),
            EnvEntry::Pass(name) => {
                if let Some(value) = spawners::own_environment(name) {
                    values.push((name, Cow::Owned(value)));
                }
            }
        }
    }
    if has_notes {
        let (name, value) = notes::VARIABLE;
        values.push((name, Cow::Borrowed(value)));
    }
    Some(values)
}

/// The name of the location, if the path begins with it; a regular expression has none.
fn prefix(request: Request<'_>) -> Option<&[u8]> {
    let name = request.location();
    (!name.is_empty() && request.uri().starts_with(name)).then_some(name)
}

/// The host that was asked for. A client of HTTP/1.0 need not name one, but the program has to be told one (RFC 3875, section 4.1.14): the
/// name of the server, or its address where it has none, or only a pattern.
fn server_name(request: Request<'_>) -> Cow<'_, [u8]> {
    let host = request.host();
    if !host.is_empty() {
        return Cow::Borrowed(host);
    }
    let name = request.variable(b"server_name");
    let is_pattern = name.starts_with(b"~") || name.contains(&b'*');
    if !name.is_empty() && !is_pattern {
        return Cow::Borrowed(name);
    }
    match request.variable(b"server_addr") {
        [] => Cow::Borrowed(b"localhost"),
        address if address.starts_with(b"unix:") => Cow::Borrowed(b"localhost"),
        address if address.contains(&b':') => Cow::Owned([b"[", address, b"]"].concat()),
        address => Cow::Borrowed(address),
    }
}

/// What is short for a while is worth another try; everything else is a mistake.
pub fn refusal(request: Request<'_>, error: &io::Error) -> Status {
    if exhaustion::passes(error) { try_again(request) } else { Status::INTERNAL_SERVER_ERROR }
}

/// The variables; the program was led to by the first `script` octets of the path.
fn environment(request: Request<'_>, script: usize, environs: Environs) -> Result<Environment, Status> {
    let settings = request.settings();
    let entries = settings.exec_env();
    let whom = settings.exec_user();
    // Nobody's request is logged with what a shared program notes.
    let has_notes = settings.exec_notes() && environs != Environs::Channel;
    let values = variables(whom.as_deref(), &entries, has_notes, |template| template.evaluate(request))
        .ok_or(Status::INTERNAL_SERVER_ERROR)?;
    let variables: Vec<Setting<'_>> = values.iter().map(|(name, value)| Setting { name, value }).collect();
    let uri = request.uri();
    let (script_name, path_info) = uri.split_at_checked(script).unwrap_or((uri, &[]));
    let document_root = request.variable(b"document_root");
    // Both may have the slash between them.
    let document_root = document_root.strip_suffix(b"/").unwrap_or(document_root);
    let translated = (!path_info.is_empty()).then(|| [document_root, path_info].concat());
    let software = [b"nginx/", request.variable(b"nginx_version")].concat();
    let path = spawners::own_environment(b"PATH");
    if environs == Environs::Channel {
        let meta = environment::CgiRequest {
            method: b"GET",
            script_name: prefix(request).unwrap_or_default(),
            server_name: request.variable(b"server_name"),
            server_port: request.variable(b"server_port"),
            protocol: b"HTTP/1.1",
            software: &software,
            ..environment::CgiRequest::default()
        };
        return Ok(Environment::new(&meta, [], path.as_deref(), &variables));
    }
    let user = auth_basic::user(request);
    let length = match environs {
        Environs::Request(body) => body.length.map(|length| length.to_string()),
        Environs::Client | Environs::Channel => None,
    };
    let answer = environment::Answer {
        content_length: length.as_ref().map(String::as_bytes),
        content_type: request.header(b"content-type").map(<[u8]>::trim_ascii),
        auth_type: user.map(|_| &b"Basic"[..]),
    };
    let remote_host = request.existing_context().and_then(Context::remote_host);
    let meta = environment::CgiRequest {
        answer: matches!(environs, Environs::Request(_)).then_some(answer),
        method: request.method(),
        uri: request.unparsed_uri(),
        query: request.arguments(),
        script_name,
        path_info,
        path_translated: translated.as_deref(),
        server_name: &server_name(request),
        server_port: request.variable(b"server_port"),
        remote_addr: request.remote_address(),
        remote_host: remote_host.unwrap_or_else(|| request.remote_address()),
        remote_port: request.variable(b"remote_port"),
        remote_user: user,
        https: request.is_tls(),
        unique_id: request.variable(b"request_id"),
        // A request of HTTP/0.9 does not say so.
        protocol: if request.protocol().is_empty() { b"HTTP/0.9" } else { request.protocol() },
        software: &software,
    };
    // A target that names the host takes precedence over the field (RFC 9112, section 3.2.2), and is all that HTTP/3 needs.
    let host = Some((&b"Host"[..], request.authority())).filter(|(_, authority)| !authority.is_empty());
    let others = request.headers().filter(|(name, _)| host.is_none() || !name.eq_ignore_ascii_case(b"host"));
    Ok(Environment::new(&meta, others.chain(host), path.as_deref(), &variables))
}
