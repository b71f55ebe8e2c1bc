// SPDX-License-Identifier: Apache-2.0

//! The command line. Flags that websocketd has mean what they mean there, and are written as Go's package `flag` reads them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// How messages are told apart: `websocket_exec_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Lines,
    Bytes,
    Messages,
}

/// What is worth a line, the most talkative first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Trace,
    Access,
    Info,
    Error,
    Fatal,
}

/// Everything that the command line says.
#[derive(Debug)]
pub struct Options {
    /// 0 stands for 80, or 443 with TLS.
    pub port: u16,
    /// None stands for all addresses of the machine.
    pub addresses: Vec<OsString>,
    pub unix_socket: Option<PathBuf>,
    pub tls: bool,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    pub redirect_port: u16,
    pub same_origin: bool,
    pub origins: Vec<String>,
    /// Names of variables of this command's own environment for the program.
    pub pass_env: Vec<OsString>,
    pub format: Format,
    pub pass_stderr: bool,
    pub reverse_lookup: bool,
    pub script_dir: Option<PathBuf>,
    pub static_dir: Option<PathBuf>,
    pub cgi_dir: Option<PathBuf>,
    /// 0 stands for no limit.
    pub max_forks: u64,
    /// Milliseconds that a program gets in addition to end by itself.
    pub close_ms: u64,
    /// Milliseconds between Pings; 0 leaves the module's own interval.
    pub ping_ms: u64,
    /// Octets of a message; `None` leaves the module's own limit, 0 stands for none.
    pub max_message: Option<u64>,
    pub headers: Vec<OsString>,
    pub headers_websocket: Vec<OsString>,
    pub headers_http: Vec<OsString>,
    pub console: bool,
    pub log_level: LogLevel,
    pub nginx: Option<PathBuf>,
    pub module: Option<PathBuf>,
    pub print_config: bool,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    Help,
    Version,
    License,
    Serve(Box<Options>),
}

/// Why the command line makes no sense, and the status to end with: 2 for flags that cannot be read, as in Go, else 1.
#[derive(Debug)]
pub struct Refusal {
    pub message: String,
    pub status: u8,
}

fn unreadable(message: String) -> Refusal {
    Refusal { message, status: 2 }
}

fn senseless(message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), status: 1 }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            addresses: Vec::new(),
            unix_socket: None,
            tls: false,
            certificate: None,
            key: None,
            client_ca: None,
            redirect_port: 0,
            same_origin: false,
            origins: Vec::new(),
            pass_env: vec!["PATH".into(), "LD_LIBRARY_PATH".into()],
            format: Format::Lines,
            pass_stderr: false,
            reverse_lookup: false,
            script_dir: None,
            static_dir: None,
            cgi_dir: None,
            max_forks: 0,
            close_ms: 0,
            ping_ms: 0,
            max_message: None,
            headers: Vec::new(),
            headers_websocket: Vec::new(),
            headers_http: Vec::new(),
            console: false,
            log_level: LogLevel::Access,
            nginx: None,
            module: None,
            print_config: false,
            command: Vec::new(),
        }
    }
}

/// One flag as it was written: its name without dashes, and the value after `=` if there was one.
struct Flag {
    name: String,
    value: Option<OsString>,
}

fn flag(argument: &OsStr) -> Option<Flag> {
    let octets = argument.as_bytes();
    let octets = octets.strip_prefix(b"--").or_else(|| octets.strip_prefix(b"-"))?;
    if octets.is_empty() {
        return None;
    }
    let mut parts = octets.splitn(2, |octet| *octet == b'=');
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let value = parts.next().map(|value| OsString::from_vec(value.to_vec()));
    Some(Flag { name, value })
}

fn boolean(flag: &Flag) -> Result<bool, Refusal> {
    let Some(value) = &flag.value else { return Ok(true) };
    match value.to_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        _ => Err(unreadable(format!("invalid boolean value {value:?} for -{}", flag.name))),
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &OsStr) -> Result<T, Refusal> {
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| unreadable(format!("invalid value {value:?} for flag -{name}: it is to be a number")))
}

fn list(value: &OsStr) -> impl Iterator<Item = OsString> + '_ {
    value
        .as_bytes()
        .split(|octet| *octet == b',')
        .filter(|part| !part.is_empty())
        .map(|part| OsString::from_vec(part.to_vec()))
}

fn path(value: OsString) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}

/// Reads the arguments, without the name of this command.
///
/// # Errors
///
/// A flag that does not exist, a value that is none, and flags that contradict each other.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Refusal> {
    let mut options = Options::default();
    let mut arguments = arguments.into_iter().peekable();
    if arguments.peek().is_none() {
        return Err(senseless("Command line arguments are missing."));
    }
    while let Some(argument) = arguments.peek() {
        if argument == "--" {
            arguments.next();
            break;
        }
        let Some(flag) = flag(argument) else { break };
        arguments.next();
        match flag.name.as_str() {
            "h" | "help" => return Ok(Invocation::Help),
            "version" if boolean(&flag)? => return Ok(Invocation::Version),
            "license" if boolean(&flag)? => return Ok(Invocation::License),
            "version" | "license" => {}
            "ssl" => options.tls = boolean(&flag)?,
            "sameorigin" => options.same_origin = boolean(&flag)?,
            "binary" => options.format = if boolean(&flag)? { Format::Bytes } else { Format::Lines },
            "passstderr" => options.pass_stderr = boolean(&flag)?,
            "reverselookup" => options.reverse_lookup = boolean(&flag)?,
            "devconsole" | "console" => options.console = boolean(&flag)?,
            "print-config" => options.print_config = boolean(&flag)?,
            name => {
                if !VALUED.contains(&name) {
                    return Err(unreadable(format!("flag provided but not defined: -{name}")));
                }
                let value = flag.value.or_else(|| arguments.next());
                let value = value.ok_or_else(|| unreadable(format!("flag needs an argument: -{name}")))?;
                options.set(name, value)?;
            }
        }
    }
    options.command = arguments.collect();
    options.check()?;
    Ok(Invocation::Serve(Box::new(options)))
}

const VALUED: &[&str] = &[
    "port",
    "address",
    "unixsocket",
    "sslcert",
    "tls-cert",
    "sslkey",
    "tls-key",
    "sslca",
    "redirport",
    "origin",
    "passenv",
    "format",
    "dir",
    "staticdir",
    "static",
    "cgidir",
    "maxforks",
    "closems",
    "pingms",
    "maxframesize",
    "header",
    "header-ws",
    "header-http",
    "loglevel",
    "nginx",
    "module",
];

impl Options {
    fn set(&mut self, name: &str, value: OsString) -> Result<(), Refusal> {
        match name {
            "port" => self.port = number(name, &value)?,
            "address" => self.addresses.push(value),
            "unixsocket" => self.unix_socket = path(value),
            "sslcert" => self.certificate = path(value),
            "sslkey" => self.key = path(value),
            "sslca" => self.client_ca = path(value),
            "tls-cert" => (self.certificate, self.tls) = (path(value), true),
            "tls-key" => (self.key, self.tls) = (path(value), true),
            "redirport" => self.redirect_port = number(name, &value)?,
            "origin" => self.origins = list(&value).map(|origin| origin.to_string_lossy().trim().to_owned()).collect(),
            "passenv" => self.pass_env = list(&value).collect(),
            "format" => {
                self.format = match value.to_str() {
                    Some("lines") => Format::Lines,
                    Some("bytes") => Format::Bytes,
                    Some("messages") => Format::Messages,
                    _ => return Err(unreadable(format!("--format is lines, bytes or messages, not {value:?}"))),
                }
            }
            "dir" => self.script_dir = path(value),
            "staticdir" | "static" => self.static_dir = path(value),
            "cgidir" => self.cgi_dir = path(value),
            "maxforks" => self.max_forks = number::<i64>(name, &value)?.try_into().unwrap_or(0),
            "closems" => self.close_ms = number(name, &value)?,
            "pingms" => self.ping_ms = number(name, &value)?,
            "maxframesize" => self.max_message = Some(number::<i64>(name, &value)?.try_into().unwrap_or(0)),
            "header" => self.headers.push(value),
            "header-ws" => self.headers_websocket.push(value),
            "header-http" => self.headers_http.push(value),
            "loglevel" => {
                self.log_level = match value.to_str() {
                    Some("debug") => LogLevel::Debug,
                    Some("trace") => LogLevel::Trace,
                    Some("access") => LogLevel::Access,
                    Some("info") => LogLevel::Info,
                    Some("error") => LogLevel::Error,
                    Some("fatal") => LogLevel::Fatal,
                    _ => {
                        return Err(senseless(format!(
                            "Incorrect loglevel flag {value:?}. Use --help to see allowed values."
                        )));
                    }
                }
            }
            "nginx" => self.nginx = path(value),
            _ => self.module = path(value),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.tls && (self.certificate.is_none() || self.key.is_none()) {
            return Err(senseless(
                "TLS needs both a certificate and its key: --sslcert and --sslkey (or --tls-cert and --tls-key)",
            ));
        }
        if !self.tls && (self.certificate.is_some() || self.key.is_some() || self.client_ca.is_some()) {
            return Err(senseless("--sslcert, --sslkey and --sslca are of no use without --ssl"));
        }
        if self.pass_stderr && self.format != Format::Lines {
            return Err(senseless("please only specify one of --binary (--format) and --passstderr"));
        }
        if self.pass_stderr && self.script_dir.is_some() {
            return Err(senseless("--passstderr is for one COMMAND, not for --dir"));
        }
        if self.console && (self.static_dir.is_some() || self.cgi_dir.is_some()) {
            return Err(senseless("--devconsole cannot be used with --staticdir or --cgidir. Pick one."));
        }
        if !self.command.is_empty() && self.script_dir.is_some() {
            return Err(senseless("ambiguous: provided COMMAND and --dir argument, please only specify one"));
        }
        if self.command.is_empty() && self.script_dir.is_none() && self.static_dir.is_none() && self.cgi_dir.is_none() {
            return Err(senseless("Please specify COMMAND or provide --dir, --staticdir or --cgidir argument."));
        }
        Ok(())
    }

    /// True if a Unix socket is all that is listened on: nothing asks for TCP.
    pub fn is_unix_only(&self) -> bool {
        self.unix_socket.is_some() && self.port == 0 && self.addresses.is_empty() && self.redirect_port == 0
    }

    /// The port of TCP that is listened on.
    pub fn effective_port(&self) -> u16 {
        match self.port {
            0 if self.tls => 443,
            0 => 80,
            port => port,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn parsed(line: &[&str]) -> Options {
        match parse(line.iter().map(OsString::from)).unwrap() {
            Invocation::Serve(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn refused(line: &[&str]) -> Refusal {
        parse(line.iter().map(OsString::from)).unwrap_err()
    }

    #[test]
    fn flags_are_written_in_each_way_of_go() {
        for line in [
            ["--port=81", "./x", "", ""],
            ["-port=81", "./x", "", ""],
            ["--port", "81", "./x", ""],
            ["-port", "81", "--", "./x"],
        ] {
            let line: Vec<&str> = line.into_iter().filter(|word| !word.is_empty()).collect();
            let options = parsed(&line);
            assert_eq!((options.port, options.command.len()), (81, 1), "{line:?}");
        }
    }

    #[test]
    fn what_follows_the_program_is_its_own() {
        let options = parsed(&["--binary", "grep", "--port=1", "-v", "--", ""]);
        assert_eq!(options.command, ["grep", "--port=1", "-v", "--", ""]);
        assert_eq!((options.format, options.port), (Format::Bytes, 0));
    }

    #[test]
    fn booleans_have_values_after_an_equals_sign_only() {
        assert!(!parsed(&["--sameorigin=false", "x"]).same_origin);
        assert!(parsed(&["--sameorigin=T", "x"]).same_origin);
        assert_eq!(parsed(&["--sameorigin", "false"]).command, ["false"]);
        assert_eq!(refused(&["--sameorigin=maybe", "x"]).status, 2);
    }

    #[test]
    fn lists_and_repeated_flags() {
        let options = parsed(&["--origin=a, b:81", "--passenv", "HOME,,TZ", "--header=A: b", "--header", "C: d", "x"]);
        assert_eq!(options.origins, ["a", "b:81"]);
        assert_eq!(options.pass_env, ["HOME", "TZ"]);
        assert_eq!(options.headers, ["A: b", "C: d"]);
        assert_eq!(parsed(&["--maxforks=-1", "x"]).max_forks, 0);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            &["--dir=/tmp", "x"][..],
            &["--ssl", "x"],
            &["--sslcert=a", "x"],
            &["--devconsole", "--staticdir=/tmp", "x"],
            &["--binary", "--passstderr", "x"],
            &["--loglevel=loud", "x"],
            &["--port=80"],
            &[],
        ] {
            assert_eq!(refused(line).status, 1, "{line:?}");
        }
        for line in [&["--nonsense", "x"][..], &["--port"], &["--port=many", "x"], &["--port=65536", "x"]] {
            assert_eq!(refused(line).status, 2, "{line:?}");
        }
    }

    #[test]
    fn a_socket_alone_needs_no_port() {
        assert!(parsed(&["--unixsocket=/tmp/s", "x"]).is_unix_only());
        assert!(!parsed(&["--unixsocket=/tmp/s", "--port=81", "x"]).is_unix_only());
    }
}
