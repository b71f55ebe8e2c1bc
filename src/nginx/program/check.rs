// SPDX-License-Identifier: Apache-2.0

//! What is said when nginx is started, reloaded or tested (`nginx -t`) of programs and directories that nobody could be
//! connected to, and of tokens that cannot be read: a warning with file and line, since a file may still come, or be another one by then.
//!
//! Only constant values are looked at, as the user that the workers run as, or that the location names.

use std::ffi::CStr;
use std::fmt;
use std::rc::Rc;

use crate::conf::{Cgi, EndpointSettings, EnvEntry, Settings, Template};
use crate::exec::lookup::{self, Problem};
use crate::nginx::conf_ctx;
use crate::nginx::ffi;
use crate::nginx::identity::{self, Identity};
use crate::nginx::log::{self, Level, Octets};
use crate::nginx::request::bytes;
use crate::nginx::template::{ComplexValue, NginxCompiler};
use crate::nginx::user::User;
use crate::nginx::worker::spawners;
use crate::tcp::tokens::Tokens;

/// Words that mean something to a shell, and are mere arguments without one.
const SHELL: [&[u8]; 10] = [b"|", b"||", b"&", b"&&", b">", b">>", b"<", b"2>", b"2>&1", b"&>"];

/// What is looked at once all of the configuration is read.
pub struct Check {
    what: What,
    /// Whose program it is about; `None` for the user of the workers.
    user: Option<Rc<User>>,
    value: Vec<u8>,
    file: Vec<u8>,
    line: usize,
}

impl Check {
    fn is(&self, other: &Self) -> bool {
        let same_user = match (&self.user, &other.user) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is(other),
            (None, Some(_)) | (Some(_), None) => false,
        };
        let written = |check: &Self| (check.line, check.file.clone());
        same_user && self.what == other.what && self.value == other.value && written(self) == written(other)
    }
}

#[derive(PartialEq, Eq)]
enum What {
    /// The program of this directive, and the PATH that it will be looked for in if the location names one.
    Program(&'static str, Option<Vec<u8>>),
    /// The directory of this directive.
    Directory(&'static str),
    /// An argument of this directive.
    Argument(&'static str),
    /// The file or directory of `websocket_tcp_tokens`.
    Tokens,
    /// The directory of `websocket_record`.
    Recordings,
}

/// Notes what is to be looked at of a location that has inherited its settings.
pub fn enter(checks: &mut Vec<Check>, settings: &Settings<NginxCompiler>) {
    let mut words = |directive, words: &[ComplexValue]| {
        if let Some((program, arguments)) = words.split_first() {
            if let Some(path) = search_path(settings).filter(|_| program.constant().is_some()) {
                note(checks, What::Program(directive, path), program, settings.exec_user());
            }
            for word in arguments.iter().filter(|word| word.constant().is_some_and(|word| SHELL.contains(&word))) {
                note(checks, What::Argument(directive), word, None);
            }
        }
    };
    match &settings.endpoint {
        Some(EndpointSettings::Exec(program)) => words("websocket_exec", program),
        Some(EndpointSettings::Shared(shared)) => words("websocket_exec", &shared.program),
        Some(EndpointSettings::ExecDir(_) | EndpointSettings::Channel(_) | EndpointSettings::Tcp(_)) | None => {}
    }
    if let Some(Cgi::Program(program)) = &settings.cgi {
        words("websocket_cgi", program);
    }
    // It is the worker that looks for programs in a directory.
    if let Some(EndpointSettings::ExecDir(directory)) = &settings.endpoint {
        note(checks, What::Directory("websocket_exec_dir"), directory, None);
    }
    if let Some(Cgi::Directory(directory)) = &settings.cgi {
        note(checks, What::Directory("websocket_cgi_dir"), directory, None);
    }
    if !settings.has_program() {
        return;
    }
    if let Some(directory) = settings.exec_cwd() {
        note(checks, What::Directory("websocket_exec_cwd"), &directory, settings.exec_user());
    }
}

/// Notes the tokens of the directive that is being read.
pub fn enter_tokens(checks: &mut Vec<Check>, cf: *mut ffi::ngx_conf_t, path: &[u8]) {
    enter_path(checks, cf, What::Tokens, path);
}

/// Notes the directory of recordings of the directive that is being read.
pub fn enter_recordings(checks: &mut Vec<Check>, cf: *mut ffi::ngx_conf_t, path: &[u8]) {
    enter_path(checks, cf, What::Recordings, path);
}

fn enter_path(checks: &mut Vec<Check>, cf: *mut ffi::ngx_conf_t, what: What, path: &[u8]) {
    // SAFETY: cf is valid while a directive is read, and so is the file that it is in.
    let (file, line) = unsafe {
        let file = (*cf).conf_file.as_ref();
        file.map_or((Vec::new(), 0), |file| (bytes(&file.file.name).to_vec(), file.line))
    };
    checks.push(Check { what, user: None, value: path.to_vec(), file, line });
}

fn note(checks: &mut Vec<Check>, what: What, value: &ComplexValue, user: Option<Rc<User>>) {
    let Some(text) = value.constant() else { return };
    let (file, line) = value.written();
    let check = Check { what, user, value: text.to_vec(), file: file.to_vec(), line };
    // What several locations inherit is said once.
    if !checks.iter().any(|other| other.is(&check)) {
        checks.push(check);
    }
}

/// The PATH that the location sets for its program, `Some(None)` for nginx's own; `None` if it depends on the request.
fn search_path(settings: &Settings<NginxCompiler>) -> Option<Option<Vec<u8>>> {
    let mut path = Some(None);
    for entry in settings.exec_env().iter() {
        match entry {
            EnvEntry::Set(name, value) if name == b"PATH" => path = value.constant().map(|value| Some(value.to_vec())),
            EnvEntry::Pass(name) if name == b"PATH" => path = Some(None),
            EnvEntry::Set(..) | EnvEntry::Pass(_) => {}
        }
    }
    path
}

/// Looks at what was noted, and says what is wrong.
pub fn run(cycle: *mut ffi::ngx_cycle_t, checks: &[Check]) {
    if checks.is_empty() {
        return;
    }
    // SAFETY: while a configuration is read, the cycle before it is there, with the log that its messages go to.
    let log = unsafe { (*(*cycle).old_cycle).log };
    let workers = Identity::of_workers(cycle);
    let own_path = own_path(cycle);
    for check in checks {
        let whom = check.user.as_ref().map_or_else(|| workers.clone(), |user| user.identity());
        let say = |text: fmt::Arguments<'_>| {
            let (file, line) = (Octets(&check.file), check.line);
            log::write(log, Level::Warn, format_args!("{text} in {file}:{line}"));
        };
        let value = Octets(&check.value);
        let found = |problem: &Problem, directive: &str, cannot: &str| {
            let as_whom = problem.is_denial().then_some(&whom).map(identity::As);
            let as_whom = as_whom.as_ref().map_or(&"" as &dyn fmt::Display, |whom| whom);
            say(format_args!("\"{value}\" in \"{directive}\" directive {cannot}: {problem}{as_whom}"));
        };
        match &check.what {
            What::Program(directive, path) => {
                let path = path.as_deref().or(own_path.as_deref());
                if let Some(Err(problem)) = whom.act(|| lookup::program(&check.value, path)) {
                    found(&problem, directive, "cannot be started");
                }
            }
            What::Directory(directive) => {
                if let Some(Err(problem)) = whom.act(|| lookup::directory(&check.value)) {
                    found(&problem, directive, "cannot be used");
                }
            }
            What::Recordings => {
                if let Some(Err(problem)) = whom.act(|| lookup::writable(&check.value)) {
                    found(&problem, "websocket_record", "cannot be used");
                }
            }
            What::Tokens => {
                // Whoever asks for any token has them all read.
                let complain = |text: &str| say(format_args!("\"websocket_tcp_tokens\" directive: {text}"));
                let _ = whom.act(|| Tokens::new(&check.value).target(b"", 0, &mut |text| complain(text)));
            }
            What::Argument(directive) => say(format_args!(
                "\"{value}\" in \"{directive}\" directive is passed to the program as an argument: there is no shell"
            )),
        }
    }
}

/// The PATH that programs get: that of an "env" directive, else that of the calling process.
fn own_path(cycle: *mut ffi::ngx_cycle_t) -> Option<Vec<u8>> {
    // SAFETY: every cycle has the settings of nginx's core; the array holds strings.
    let entries = unsafe {
        let env = &(*conf_ctx::core_of_cycle(cycle)).env;
        match env.elts.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(env.elts.cast::<ffi::ngx_str_t>(), env.nelts),
        }
    };
    // SAFETY: the names live as long as the cycle, which the caller has.
    let is_path = |entry: &&ffi::ngx_str_t| unsafe { bytes(entry) } == b"PATH";
    let mut declared = entries.iter().filter(is_path).filter_map(|entry| {
        // SAFETY: nginx cuts an entry at the "=", but leaves the value behind it, ended by a NUL.
        let whole = unsafe { CStr::from_ptr(entry.data.cast()) };
        whole.to_bytes().strip_prefix(b"PATH=").map(<[u8]>::to_vec)
    });
    declared.next_back().or_else(|| spawners::own_environment(b"PATH"))
}
