// SPDX-License-Identifier: Apache-2.0

//! The nginx configuration that serves what the command line asks for.
//!
//! Paths that nginx writes to are relative to its prefix, so that the text that is shown is the text that is run.

mod address;
mod header;
mod origin;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use address::{listens, redirects};
use header::HeaderMaps;
use origin::{origins, refusals};

pub use address::addresses;

use crate::options::{Format, LogLevel, Options};
use crate::quote::{Part, Words, plain};

/// What the machine adds to the command line.
pub struct Surroundings {
    /// `None` if nginx has the module without loading it.
    pub module: Option<PathBuf>,
    pub current_dir: PathBuf,
    /// This command itself, which stands between nginx and a program with `--passstderr`.
    pub own_path: PathBuf,
    /// Root's nginx has to be told to stay root: nobody else's can be anybody else.
    pub is_root: bool,
    pub has_ipv6: bool,
    pub workers: usize,
    /// How many files each worker may open.
    pub files: u64,
    /// Where this command answers what nginx cannot: CGI and names of addresses.
    pub helper_socket: PathBuf,
    /// Values of the variables that are passed on.
    pub environment: Vec<(OsString, OsString)>,
}

/// Types of what a static page is made of. nginx takes every other file as `application/octet-stream`.
const TYPES: &str = "    types {
        text/html                 html htm shtml;
        text/css                  css;
        text/plain                txt md;
        text/xml                  xml;
        text/csv                  csv;
        application/javascript    js mjs;
        application/json          json map;
        application/wasm          wasm;
        application/pdf           pdf;
        application/manifest+json webmanifest;
        image/png                 png;
        image/jpeg                jpg jpeg;
        image/gif                 gif;
        image/webp                webp;
        image/avif                avif;
        image/svg+xml             svg svgz;
        image/x-icon              ico;
        font/woff                 woff;
        font/woff2                woff2;
        audio/mpeg                mp3;
        audio/ogg                 ogg;
        video/mp4                 mp4;
        video/webm                webm;
    }
    default_type  application/octet-stream;
";

/// True if requests have to be answered by this command itself.
pub fn needs_helper(options: &Options) -> bool {
    options.cgi_dir.is_some() || options.reverse_lookup
}

/// The configuration as octets: arguments need not be text.
///
/// # Errors
///
/// A flag whose value cannot be meant.
pub fn write(options: &Options, around: &Surroundings) -> Result<Vec<u8>, String> {
    let mut words = Words::default();
    let server = server(options, around, &mut words)?;
    let redirects = redirects(options, around);
    let headers = HeaderMaps::of(options, &mut words)?;

    let mut text = Vec::new();
    let mut add = |part: &[u8]| text.extend_from_slice(part);
    if let Some(module) = &around.module {
        add(b"load_module ");
        add(&plain(module.as_os_str().as_bytes()));
        add(b";\n\n");
    }
    add(b"daemon                   off;\n");
    if around.is_root {
        add(b"user                     root;\n");
    }
    add(format!("worker_processes         {};\n", around.workers).as_bytes());
    add(format!("worker_rlimit_nofile     {};\n", around.files).as_bytes());
    add(b"worker_shutdown_timeout  1s;\n");
    add(format!("error_log                stderr {};\n", error_level(options.log_level)).as_bytes());
    add(b"pid                      nginx.pid;\n\n");
    // A session has a connection, and three descriptors of its program.
    add(format!("events {{\n    worker_connections  {};\n}}\n\nhttp {{\n", (around.files / 5).max(16)).as_bytes());
    add(TYPES.as_bytes());
    add(b"
    client_body_temp_path  client_body;
    proxy_temp_path        proxy;
    fastcgi_temp_path      fastcgi;
    uwsgi_temp_path        uwsgi;
    scgi_temp_path         scgi;
    server_tokens          off;

");
    add(access_log(options.log_level).as_bytes());
    add(&words.variables());
    add(&headers.maps);
    add(b"    map $http_upgrade $ws_exec_is_websocket { default 0; ~*^websocket$ 1; }\n");
    add(&refusals(options)?);
    add(b"\n    server {\n");
    add(&listens(options, around, None));
    add(&headers.uses);
    add(&server);
    add(b"    }\n");
    add(&redirects);
    add(b"}\n");
    Ok(text)
}

fn error_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Trace => "info",
        LogLevel::Access | LogLevel::Info => "warn",
        LogLevel::Error => "error",
        LogLevel::Fatal => "crit",
    }
}

/// A line for each session when it has ended, and one for each other request.
fn access_log(level: LogLevel) -> String {
    if level > LogLevel::Access {
        return "    access_log  off;\n\n".into();
    }
    "    log_format ws_exec_session
        '$time_iso8601 session $remote_addr \"$request_uri\" pid $websocket_exec_pid, $request_time s, '
        '$websocket_messages_in in, $websocket_messages_out out, closed $websocket_close_code '
        'by $ws_exec_closed_by, exit $ws_exec_exit';
    log_format ws_exec_request
        '$time_iso8601 request $remote_addr \"$request_method $request_uri\" $status';
    map $websocket_closed_by $ws_exec_closed_by { default $websocket_closed_by; '' nobody; }
    map $websocket_exec_status $ws_exec_exit { default $websocket_exec_status; '' unknown; }
    map $status $ws_exec_is_session { default 0; 101 1; }
    map $status $ws_exec_is_request { default 1; 101 0; }
    access_log  access.log ws_exec_session if=$ws_exec_is_session;
    access_log  access.log ws_exec_request if=$ws_exec_is_request;

"
    .into()
}

fn absolute(around: &Surroundings, path: &Path) -> PathBuf {
    around.current_dir.join(path)
}

fn server(options: &Options, around: &Surroundings, words: &mut Words) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let mut line = |name: &str, values: &[&[u8]]| {
        text.extend(format!("        {name:<22}").bytes());
        for value in values {
            text.push(b' ');
            text.extend_from_slice(value);
        }
        text.extend(b";\n");
    };
    if let (true, Some(certificate), Some(key)) = (options.tls, &options.certificate, &options.key) {
        line("ssl_certificate", &[&plain(absolute(around, certificate).as_os_str().as_bytes())]);
        line("ssl_certificate_key", &[&plain(absolute(around, key).as_os_str().as_bytes())]);
        line("ssl_protocols", &[b"TLSv1.2", b"TLSv1.3"]);
        if let Some(ca) = &options.client_ca {
            line("ssl_client_certificate", &[&plain(absolute(around, ca).as_os_str().as_bytes())]);
            line("ssl_verify_client", &[b"on"]);
            line("ssl_verify_depth", &[b"10"]);
        }
    }
    let listed = origins(options)?;
    if options.same_origin {
        line("websocket_origin", &[b"same"]);
    } else if listed.is_empty() {
        line("websocket_origin", &[b"any"]);
    } else {
        let patterns: Vec<Vec<u8>> = listed.iter().map(|origin| plain(origin.pattern().as_bytes())).collect();
        let patterns: Vec<&[u8]> = patterns.iter().map(Vec::as_slice).collect();
        line("websocket_origin", &patterns);
    }
    let format = match options.format {
        Format::Lines => "lines",
        Format::Bytes => "bytes",
        Format::Messages => "messages",
    };
    line("websocket_drain", &[b"200ms"]);
    line("websocket_exec_format", &[format.as_bytes()]);
    line("websocket_exec_max", &[options.max_forks.to_string().as_bytes()]);
    line("websocket_exec_cwd", &[&words.literal(around.current_dir.as_os_str().as_bytes())]);
    let term = format!("{}ms", options.close_ms.saturating_add(100));
    let kill = format!("{}ms", options.close_ms.saturating_mul(3).saturating_add(850));
    line("websocket_exec_stop", &[term.as_bytes(), kill.as_bytes()]);
    if options.ping_ms > 0 {
        line("websocket_ping_interval", &[format!("{}ms", options.ping_ms).as_bytes()]);
    }
    if let Some(octets) = options.max_message {
        line("websocket_max_message_size", &[octets.to_string().as_bytes()]);
    }
    for (name, value) in &around.environment {
        let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
        line("websocket_exec_env", &[&words.literal(&pair)]);
    }
    line("websocket_exec_env", &[b"\"SERVER_NAME=$host\""]);
    if options.reverse_lookup {
        line("websocket_exec_env", &[b"\"REMOTE_HOST=$ws_exec_remote_host\""]);
    }
    // The one program of a server without a directory has no name in the path, and all of the path is for it.
    if options.script_dir.is_none() {
        line("websocket_exec_env", &[b"SCRIPT_NAME=/", b"\"PATH_INFO=$uri\""]);
    }
    if options.console {
        line("websocket_console", &[b"on"]);
    }
    text.push(b'\n');
    text.extend(locations(options, around, words));
    Ok(text)
}

/// The directive that connects a WebSocket, if there is one.
fn endpoint(options: &Options, around: &Surroundings, words: &mut Words) -> Option<Vec<u8>> {
    if let Some(directory) = &options.script_dir {
        let word = words.literal(absolute(around, directory).as_os_str().as_bytes());
        return Some([b"websocket_exec_dir ".to_vec(), word].concat());
    }
    let (program, arguments) = options.command.split_first()?;
    let mut directive = b"websocket_exec".to_vec();
    let mut add = |argument: &OsStr| {
        directive.push(b' ');
        directive.extend(words.literal(argument.as_bytes()));
    };
    if options.pass_stderr {
        add(around.own_path.as_os_str());
        add(OsStr::new(crate::tagged::FLAG));
    }
    add(program);
    arguments.iter().for_each(|argument| add(argument));
    Some(directive)
}

fn locations(options: &Options, around: &Surroundings, words: &mut Words) -> Vec<u8> {
    let endpoint = endpoint(options, around, words);
    let is_alone = options.static_dir.is_none() && options.cgi_dir.is_none();
    let helper = [b"unix:", around.helper_socket.as_os_str().as_bytes()].concat();
    let mut text = b"        location / {\n".to_vec();
    let mut line = |depth: usize, parts: &[&[u8]]| {
        text.extend(std::iter::repeat_n(b' ', depth));
        parts.iter().for_each(|part| text.extend_from_slice(part));
        text.push(b'\n');
    };
    if options.reverse_lookup {
        line(12, &[b"auth_request      /.ws-exec-remote-host;"]);
        line(12, &[b"auth_request_set  $ws_exec_remote_host $upstream_http_x_remote_host;"]);
    }
    if options.same_origin || !options.origins.is_empty() {
        line(12, &[b"if ($ws_exec_is_refused) { return 403; }"]);
    }
    match (&options.static_dir, is_alone) {
        (Some(directory), _) => {
            line(12, &[b"root       ", &words.literal(absolute(around, directory).as_os_str().as_bytes()), b";"]);
            line(12, &[b"index      index.html;"]);
            line(12, &[b"autoindex  on;"]);
        }
        (None, false) => {
            line(12, &[b"root           /nonexistent;"]);
            line(12, &[b"log_not_found  off;"]);
        }
        (None, true) => {}
    }
    if let Some(directory) = &options.cgi_dir {
        let directory = absolute(around, directory);
        let directory = directory.as_os_str().as_bytes();
        let file = words.with_variables(&[Part::Text(directory), Part::Variable("uri")]);
        line(12, &[b"set $ws_exec_answer '';"]);
        line(12, &[b"if (-f ", &file, b") { set $ws_exec_answer cgi; }"]);
        line(12, &[b"if ($ws_exec_is_websocket) { set $ws_exec_answer websocket; }"]);
        for (name, value) in [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_SOFTWARE", "nginx/$nginx_version"),
            ("SERVER_PROTOCOL", "$server_protocol"),
            ("SERVER_NAME", "$host"),
            ("SERVER_PORT", "$server_port"),
            ("SERVER_ADDR", "$server_addr"),
            ("REMOTE_ADDR", "$remote_addr"),
            ("REMOTE_HOST", if options.reverse_lookup { "$ws_exec_remote_host" } else { "$remote_addr" }),
            ("REMOTE_PORT", "$remote_port"),
            ("REQUEST_METHOD", "$request_method"),
            ("REQUEST_URI", "$request_uri"),
            ("QUERY_STRING", "$query_string"),
            ("CONTENT_TYPE", "$content_type"),
            ("CONTENT_LENGTH", "$content_length"),
            ("SCRIPT_NAME", "$uri"),
            ("DOCUMENT_ROOT", "$document_root"),
            ("HTTPS", "$https if_not_empty"),
        ] {
            line(12, &[format!("scgi_param  {name} {value};").as_bytes()]);
        }
        line(12, &[b"scgi_param  SCRIPT_FILENAME ", &file, b";"]);
        line(12, &[b"scgi_read_timeout  1h;"]);
        line(12, &[b"scgi_buffering     off;"]);
        line(12, &[b"if ($ws_exec_answer = cgi) { scgi_pass ", &plain(&helper), b"; }"]);
    }
    match (&endpoint, is_alone) {
        (None, _) => {}
        (Some(directive), true) => line(12, &[directive, b";"]),
        (Some(directive), false) => {
            let condition: &[u8] =
                if options.cgi_dir.is_some() { b"$ws_exec_answer = websocket" } else { b"$ws_exec_is_websocket" };
            line(12, &[b"if (", condition, b") {"]);
            line(16, &[directive, b";"]);
            line(12, &[b"}"]);
        }
    }
    line(8, &[b"}"]);
    if options.reverse_lookup {
        line(0, &[]);
        line(8, &[b"location = /.ws-exec-remote-host {"]);
        line(12, &[b"internal;"]);
        line(12, &[b"scgi_pass_request_body     off;"]);
        line(12, &[b"scgi_pass_request_headers  off;"]);
        line(12, &[b"scgi_param                 CONTENT_LENGTH 0;"]);
        line(12, &[b"scgi_param                 WS_EXEC_NAME_OF $remote_addr;"]);
        line(12, &[b"scgi_pass                  ", &plain(&helper), b";"]);
        line(8, &[b"}"]);
    }
    text
}

/// What of this command's environment a program gets, as websocketd passes it on: on one line, without blanks around it, and nothing
/// that is empty.
pub fn passed_on(names: &[OsString], value: impl Fn(&OsStr) -> Option<OsString>) -> Vec<(OsString, OsString)> {
    let mut passed = Vec::new();
    for name in names.iter().filter(|name| *name != "HTTPS") {
        let Some(value) = value(name) else { continue };
        let line: Vec<u8> =
            value.as_bytes().iter().map(|octet| if matches!(octet, b'\r' | b'\n') { b' ' } else { *octet }).collect();
        let line = line.trim_ascii();
        if !line.is_empty() {
            passed.push((name.clone(), OsString::from_vec(line.to_vec())));
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_environment_is_on_one_line() {
        let value = |name: &OsStr| match name.to_str() {
            Some("A") => Some(" a\nb ".into()),
            Some("HTTPS") => Some("on".into()),
            Some("E") => Some(" ".into()),
            _ => None,
        };
        let names = ["A", "HTTPS", "E", "N"].map(OsString::from);
        assert_eq!(passed_on(&names, value), [("A".into(), "a b".into())]);
    }
}
