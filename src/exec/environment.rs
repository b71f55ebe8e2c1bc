// SPDX-License-Identifier: Apache-2.0

//! The environment of a program: CGI/1.1 meta-variables (RFC 3875, section 4.1) and what the administrator adds.
//!
//! Nothing is taken from the environment of the server but `PATH`. A variable comes at most once: a setting of the
//! administrator (`websocket_exec_env`) takes the place of a meta-variable of the same name, as `fastcgi_param` does,
//! and of an earlier setting.
//!
//! Every control octet of a value but the tab (00-08, 0A-1F, 7F) becomes a space, newlines as websocketd does it, so
//! that no value can break a line of a log or of a script that prints it, and none can be cut short by a NUL.

use super::strings::Strings;

/// What a request says about itself. Values are as the server knows them; nothing is decoded or encoded here.
#[derive(Debug, Clone, Copy, Default)]
pub struct CgiRequest<'a> {
    /// `REQUEST_METHOD`.
    pub method: &'a [u8],
    /// `REQUEST_URI`: the target as the client sent it, with the query.
    pub uri: &'a [u8],
    /// `QUERY_STRING`: without its question mark; empty if there is none.
    pub query: &'a [u8],
    /// `SCRIPT_NAME`: the part of the path that led to the program.
    pub script_name: &'a [u8],
    /// `PATH_INFO`: the rest of the path.
    pub path_info: &'a [u8],
    /// `PATH_TRANSLATED`: `path_info` as a file below the document root.
    pub path_translated: Option<&'a [u8]>,
    /// `SERVER_NAME`.
    pub server_name: &'a [u8],
    /// `SERVER_PORT`, in decimal; empty on a unix socket.
    pub server_port: &'a [u8],
    /// `REMOTE_ADDR`.
    pub remote_addr: &'a [u8],
    /// `REMOTE_HOST`: the name of the address if it was looked up, else the address (RFC 3875, section 4.1.9).
    pub remote_host: &'a [u8],
    /// `REMOTE_PORT`, in decimal; empty on a unix socket.
    pub remote_port: &'a [u8],
    /// `REMOTE_USER`; empty for a client that did not authenticate.
    pub remote_user: Option<&'a [u8]>,
    /// `HTTPS=on`; without TLS there is no such variable.
    pub https: bool,
    /// `UNIQUE_ID`: tells this request from all others.
    pub unique_id: &'a [u8],
    /// `SERVER_PROTOCOL`, for instance `HTTP/1.1`.
    pub protocol: &'a [u8],
    /// `SERVER_SOFTWARE`, for instance `nginx/1.28.0`.
    pub software: &'a [u8],
    /// What only a program is told that answers the request (CGI/1.1); none for one that talks to a WebSocket.
    pub answer: Option<Answer<'a>>,
}

/// What a program is told of a request that it is to answer: `GATEWAY_INTERFACE` is `CGI/1.1` then, and there are no `HTTP_*` for what
/// is in other variables (RFC 3875, section 4.1.18).
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    /// `CONTENT_LENGTH`, in decimal: octets of the body, which is on the standard input; none without a body.
    pub content_length: Option<&'a [u8]>,
    /// `CONTENT_TYPE`.
    pub content_type: Option<&'a [u8]>,
    /// `AUTH_TYPE`: how the client has authenticated.
    pub auth_type: Option<&'a [u8]>,
}

/// A variable that the administrator sets; the name is one that [`Entry::parse`] takes.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// An entry of `websocket_exec_env`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// `NAME=value`: set to this value, in which nginx's variables are still to be replaced.
    Set {
        /// The name.
        name: &'a [u8],
        /// The value, which may be empty.
        value: &'a [u8],
    },
    /// `NAME`: passed on as the server has it; not set if the server does not have it.
    Pass {
        /// The name.
        name: &'a [u8],
    },
}

/// The name of a variable is not `[A-Za-z_][A-Za-z0-9_]*` (POSIX, Base Definitions, section 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidName;

impl std::fmt::Display for InvalidName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a variable must begin with a letter or \"_\" and have letters, digits and \"_\" only")
    }
}

impl std::error::Error for InvalidName {}

impl<'a> Entry<'a> {
    /// Reads an entry. The name is fixed when the configuration is read: a `$` in it is refused.
    ///
    /// # Errors
    ///
    /// [`InvalidName`].
    pub fn parse(entry: &'a [u8]) -> Result<Self, InvalidName> {
        let (name, value) = match memchr::memchr(b'=', entry).and_then(|at| entry.split_at_checked(at)) {
            Some((name, value)) => (name, value.get(1..)),
            None => (entry, None),
        };
        match name {
            [b'A'..=b'Z' | b'a'..=b'z' | b'_', rest @ ..]
                if rest.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'_') => {}
            _ => return Err(InvalidName),
        }
        Ok(match value {
            Some(value) => Self::Set { name, value },
            None => Self::Pass { name },
        })
    }
}

/// What websocketd calls it.
const GATEWAY_INTERFACE: &[u8] = b"websocket-CGI/0.1";

/// What a program finds in its environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    variables: Strings,
}

impl Environment {
    /// Builds the environment of a program that is started for `request`.
    ///
    /// `headers` are the fields of the request, name and value, in any order; `path` is the server's own `PATH`, and
    /// `settings` are the administrator's variables.
    pub fn new<'h>(
        request: &CgiRequest<'_>,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        path: Option<&[u8]>,
        settings: &[Setting<'_>],
    ) -> Self {
        let mut builder = Builder { variables: Strings::with_capacity(2048), settings };
        builder.add_meta_variables(request);
        if let Some(path) = path {
            builder.add(b"PATH", path);
        }
        let is_answer = request.answer.is_some();
        builder.add_headers(headers.into_iter().filter(|(name, _)| !(is_answer && is_of_body(name))));
        builder.add_settings();
        Self { variables: builder.variables }
    }

    /// Builds that of a program that is started before there is a request: what is the same for every client of its
    /// location. `script_name` is that of the location, if it has one.
    pub fn of_location(
        server_name: &[u8],
        script_name: Option<&[u8]>,
        software: &[u8],
        path: Option<&[u8]>,
        settings: &[Setting<'_>],
    ) -> Self {
        let mut builder = Builder { variables: Strings::with_capacity(512), settings };
        builder.add(b"GATEWAY_INTERFACE", GATEWAY_INTERFACE);
        builder.add(b"SERVER_SOFTWARE", software);
        builder.add(b"SERVER_PROTOCOL", b"HTTP/1.1");
        builder.add(b"SERVER_NAME", server_name);
        builder.add(b"REQUEST_METHOD", b"GET");
        if let Some(name) = script_name {
            builder.add(b"SCRIPT_NAME", name);
        }
        if let Some(path) = path {
            builder.add(b"PATH", path);
        }
        builder.add_settings();
        Self { variables: builder.variables }
    }

    /// The variables as `NAME=value`.
    pub const fn variables(&self) -> &Strings {
        &self.variables
    }

    /// The value of a variable.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.variables.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix(b"="))
    }
}

impl From<Environment> for Strings {
    fn from(environment: Environment) -> Self {
        environment.variables
    }
}

/// Whether this can be the name of a host (RFC 1123, section 2.1), or one with underscores, as there are. Who has an address says what
/// its name is, which may be anything.
pub fn is_host_name(name: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && !label.starts_with(b"-")
            && label.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    name.len() <= 253 && name.split(|octet| *octet == b'.').all(is_label)
}

struct Builder<'a> {
    variables: Strings,
    settings: &'a [Setting<'a>],
}

impl Builder<'_> {
    fn add_meta_variables(&mut self, request: &CgiRequest<'_>) {
        let is_answer = request.answer.is_some();
        self.add(b"GATEWAY_INTERFACE", if is_answer { &b"CGI/1.1"[..] } else { GATEWAY_INTERFACE });
        self.add(b"SERVER_SOFTWARE", request.software);
        self.add(b"SERVER_PROTOCOL", request.protocol);
        self.add(b"SERVER_NAME", request.server_name);
        self.add(b"SERVER_PORT", request.server_port);
        self.add(b"REQUEST_METHOD", request.method);
        self.add(b"REQUEST_URI", request.uri);
        self.add(b"QUERY_STRING", request.query);
        self.add(b"SCRIPT_NAME", request.script_name);
        self.add(b"PATH_INFO", request.path_info);
        if let Some(file) = request.path_translated {
            self.add(b"PATH_TRANSLATED", file);
        }
        self.add(b"REMOTE_ADDR", request.remote_addr);
        self.add(b"REMOTE_PORT", request.remote_port);
        self.add(b"REMOTE_HOST", request.remote_host);
        self.add(b"REMOTE_USER", request.remote_user.unwrap_or_default());
        self.add(b"UNIQUE_ID", request.unique_id);
        if request.https {
            self.add(b"HTTPS", b"on");
        }
        let answer = request.answer.unwrap_or_default();
        for (name, value) in [
            (&b"CONTENT_LENGTH"[..], answer.content_length),
            (b"CONTENT_TYPE", answer.content_type),
            (b"AUTH_TYPE", answer.auth_type),
        ] {
            if let Some(value) = value {
                self.add(name, value);
            }
        }
    }

    /// `HTTP_*` (RFC 3875, section 4.1.18), one variable for all fields of one name.
    fn add_headers<'h>(&mut self, headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>) {
        let mut headers: Vec<_> = headers.into_iter().filter(|(name, _)| becomes_variable(name)).collect();
        // Fields of one name side by side, in the order in which they came.
        headers.sort_by(|(a, _), (b, _)| folded(a).cmp(folded(b)));
        for fields in headers.chunk_by(|(a, _), (b, _)| a.eq_ignore_ascii_case(b)) {
            let Some((name, _)) = fields.first() else { continue };
            if self.settings.iter().any(|setting| is_variable_of(setting.name, name)) {
                continue;
            }
            // Lists are joined by a comma, cookies by a semicolon (RFC 9110, section 5.3; RFC 6265, section 5.4).
            let separator: &[u8] = if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b", " };
            self.variables.push_with(|block| {
                block.extend_from_slice(b"HTTP_");
                block.extend(variable_of(name));
                block.push(b'=');
                for (n, (_, value)) in fields.iter().enumerate() {
                    if n > 0 {
                        block.extend_from_slice(separator);
                    }
                    block.extend(clean(trim(value)));
                }
            });
        }
    }

    /// The administrator's variables; the last one of a name counts.
    fn add_settings(&mut self) {
        for (n, setting) in self.settings.iter().enumerate() {
            let later = self.settings.get(n + 1..).unwrap_or_default();
            if later.iter().all(|other| other.name != setting.name) {
                self.push(setting.name, setting.value);
            }
        }
    }

    /// Adds a variable unless the administrator has set it.
    fn add(&mut self, name: &[u8], value: &[u8]) {
        if self.settings.iter().all(|setting| setting.name != name) {
            self.push(name, value);
        }
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.variables.push_with(|block| {
            block.extend_from_slice(name);
            block.push(b'=');
            block.extend(clean(value));
        });
    }
}

/// Whether a field becomes a variable. `X_A` cannot pose as `X-A`, and `Proxy` cannot become `HTTP_PROXY`, which
/// programs take for the address of their proxy.
fn becomes_variable(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
        && !name.eq_ignore_ascii_case(b"proxy")
}

/// Whether a field is about the form of the body, which other variables tell of, or which the body has no longer.
fn is_of_body(name: &[u8]) -> bool {
    [&b"content-length"[..], b"content-type", b"transfer-encoding"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(u8::to_ascii_lowercase)
}

/// The name of the variable of a field, without `HTTP_`.
fn variable_of(field: &[u8]) -> impl Iterator<Item = u8> {
    field.iter().map(|octet| if *octet == b'-' { b'_' } else { octet.to_ascii_uppercase() })
}

fn is_variable_of(variable: &[u8], field: &[u8]) -> bool {
    variable.strip_prefix(b"HTTP_").is_some_and(|name| name.iter().copied().eq(variable_of(field)))
}

/// A field's value without the white space around it (RFC 9110, section 5.5).
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |octet: &u8| matches!(octet, b' ' | b'\t');
    let start = value.iter().position(|octet| !is_space(octet)).unwrap_or(value.len());
    let end = value.iter().rposition(|octet| !is_space(octet)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// The value without control octets.
fn clean(value: &[u8]) -> impl Iterator<Item = u8> {
    value.iter().map(|octet| if octet.is_ascii_control() && *octet != b'\t' { b' ' } else { *octet })
}

#[cfg(test)]
mod tests;
