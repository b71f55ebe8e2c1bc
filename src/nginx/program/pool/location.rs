// SPDX-License-Identifier: Apache-2.0

//! What is known of the programs of a location before there is a request.

use std::fmt::Display;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::conf::{EndpointSettings, EnvEntry, ExecStderr, Settings, Template};
use crate::exec::environment::{Environment, Setting};
use crate::exec::spawner::{Ladder, Limit, ProgramDescription};
use crate::exec::strings::Strings;
use crate::nginx::conf_ctx;
use crate::nginx::ffi;
use crate::nginx::log::Octets;
use crate::nginx::program::command::variables;
use crate::nginx::program::notes::Noting;
use crate::nginx::request::bytes;
use crate::nginx::template::{ComplexValue, NginxCompiler};
use crate::nginx::user::User;
use crate::nginx::worker::spawners;

/// A location whose programs are started ahead of their clients.
pub struct PooledLocation {
    /// Tells its pool from all others of this process, also those of other configurations. Never 0; those of one configuration
    /// follow one another.
    pub number: u64,
    /// The location, for what is counted.
    pub key: u64,
    /// Programs that wait in each worker.
    pub size: usize,
    /// The program and its arguments.
    words: Rc<[ComplexValue]>,
    variables: Rc<[EnvEntry<ComplexValue>]>,
    directory: Option<ComplexValue>,
    limits: Vec<Limit>,
    /// Whom they run as; `None` for the user of the workers.
    pub user: Option<Rc<User>>,
    /// How they are stopped.
    pub ladder: Ladder,
    /// How long a start may take, in milliseconds; 0 for no limit.
    pub start_timeout: u64,
    /// Programs of the location at once; 0 for no limit.
    pub most: u64,
    /// What becomes of their standard error.
    pub stderr: ExecStderr,
    /// How they note something for the access log, if they can.
    pub noting: Option<Noting>,
    /// They run on terminals.
    pub terminal: bool,
    server_name: Vec<u8>,
    script_name: Option<Vec<u8>>,
    /// How the log calls them.
    pub name: String,
}

static LAST: AtomicU64 = AtomicU64::new(0);

impl PooledLocation {
    /// Of the location that is being merged, with all of its settings; [`refusal`] has nothing against it. `None` where no client
    /// has a program of its own.
    pub fn of(cf: *mut ffi::ngx_conf_t, settings: &Settings<NginxCompiler>) -> Option<Self> {
        let Some(EndpointSettings::Exec(words)) = &settings.endpoint else { return None };
        let limits = settings.exec_limit();
        let limits = limits.iter().map(|limit| limit.limit(limit.value.constant()?).ok()).collect::<Option<_>>()?;
        // SAFETY: called while a location is merged; the name lives as long as the configuration.
        let server_name = unsafe { bytes(&(*conf_ctx::core_server_of(cf)).server_name) }.to_vec();
        let mut name = format!("\"{}\"", Octets(words.first()?.constant()?));
        let directory = settings.exec_cwd();
        if let Some(directory) = directory.as_ref().and_then(Template::constant) {
            name.push_str(&format!(" in \"{}\"", Octets(directory)));
        }
        Some(PooledLocation {
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            key: settings.key,
            size: usize::try_from(settings.exec_pool()).unwrap_or(0),
            words: Rc::clone(words),
            variables: settings.exec_env(),
            directory,
            limits,
            user: settings.exec_user(),
            ladder: settings.exec_stop(),
            start_timeout: settings.exec_start_timeout(),
            most: settings.exec_max(),
            stderr: settings.exec_stderr(),
            noting: Noting::of(settings),
            terminal: settings.exec_pty(),
            server_name,
            script_name: script_name(settings).map(<[u8]>::to_vec),
            name,
        })
    }

    /// The program itself.
    fn path(&self) -> &[u8] {
        self.words.first().and_then(Template::constant).unwrap_or_default()
    }

    /// The words, the program itself first. A word with a NUL, which no file can have, is cut before it.
    pub fn arguments(&self) -> Strings {
        let mut arguments = Strings::new();
        for word in self.words.iter().filter_map(Template::constant) {
            let word = word.split(|octet| *octet == 0).next().unwrap_or_default();
            // There is no NUL in it.
            let _ = arguments.push(word);
        }
        arguments
    }

    /// What programs find in their environment.
    pub fn environment(&self) -> Environment {
        let values = variables(
            self.user.as_deref(),
            &self.variables,
            self.noting.is_some_and(Noting::has_descriptor),
            ComplexValue::constant,
        )
        .unwrap_or_default();
        let settings: Vec<Setting<'_>> = values.iter().map(|(name, value)| Setting { name, value }).collect();
        let version = ffi::nginx_version;
        let software = format!("nginx/{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000);
        let path = spawners::own_environment(b"PATH");
        Environment::of_location(
            &self.server_name,
            self.script_name.as_deref(),
            software.as_bytes(),
            path.as_deref(),
            &settings,
        )
    }

    /// What the spawner is told.
    pub fn description<'a>(&'a self, arguments: &'a Strings, environment: &'a Strings) -> ProgramDescription<'a> {
        ProgramDescription {
            path: self.path(),
            arguments,
            environment,
            directory: self.directory.as_ref().and_then(Template::constant),
            limits: &self.limits,
            ladder: self.ladder,
            terminal: self.terminal,
            notes: None,
        }
    }
}

/// The name of the location without a slash at its end, as programs of `websocket_exec` get it; a regular expression has none.
fn script_name(settings: &Settings<NginxCompiler>) -> Option<&[u8]> {
    if settings.named {
        return Some(b"");
    }
    // Blocks with "if" and "limit_except" have the name of the location around them.
    let is_location = |part: &&[u8]| matches!(part.first(), Some(kind) if !matches!(kind, b'i' | b'l'));
    let (kind, name) = settings.path.split(|octet| *octet == 0).rfind(is_location)?.split_first()?;
    (*kind != b'~').then(|| name.strip_suffix(b"/").unwrap_or(name))
}

/// Why the programs of a location cannot be started ahead of their clients, if they cannot.
pub fn refusal(settings: &Settings<NginxCompiler>) -> Option<String> {
    let words = match &settings.endpoint {
        Some(EndpointSettings::Exec(words)) => words,
        Some(EndpointSettings::ExecDir(_)) => {
            let reason = "beside \"websocket_exec_dir\" the path of a request picks the program: none can be started before \
                          there is one";
            return Some(reason.to_owned());
        }
        Some(EndpointSettings::Shared(_)) => {
            let reason =
                "beside \"websocket_channel\" all clients share one program: none waits for a client of its own";
            return Some(reason.to_owned());
        }
        Some(EndpointSettings::Channel(_) | EndpointSettings::Tcp(_)) | None => return None,
    };
    let differs = |value: &ComplexValue| value.constant().is_none();
    if let Some((program, arguments)) = words.split_first() {
        if differs(program) {
            return Some(unknown("the program", program, &"\"websocket_exec\""));
        }
        if let Some(argument) = arguments.iter().find(|word| differs(word)) {
            return Some(unknown("the argument", argument, &"\"websocket_exec\""));
        }
    }
    for entry in settings.exec_env().iter() {
        if let EnvEntry::Set(name, value) = entry
            && differs(value)
        {
            return Some(unknown("the value", value, &format_args!("\"websocket_exec_env {}=\"", Octets(name))));
        }
    }
    if let Some(directory) = settings.exec_cwd().filter(differs) {
        return Some(unknown("the directory", &directory, &"\"websocket_exec_cwd\""));
    }
    let limits = settings.exec_limit();
    let limit = limits.iter().map(|limit| &limit.value).find(|value| differs(value))?;
    Some(unknown("the limit", limit, &"\"websocket_exec_limit\""))
}

/// Something depends on the request.
fn unknown(what: &str, value: &ComplexValue, directive: &dyn Display) -> String {
    let (file, line) = value.written();
    format!(
        "{what} \"{}\" of {directive} in {}:{line} has variables, which have no values before there is a request (what a client \
         brought is told by \"websocket_exec_format messages\")",
        Octets(value.text()),
        Octets(file)
    )
}
