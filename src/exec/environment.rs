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
mod tests {
    use super::*;

    const REQUEST: CgiRequest<'_> = CgiRequest {
        method: b"GET",
        uri: b"/exec/a%20b?x=1&y",
        query: b"x=1&y",
        script_name: b"/exec",
        path_info: b"/a b",
        path_translated: Some(b"/srv/www/a b"),
        server_name: b"example.com",
        server_port: b"8443",
        remote_addr: b"192.0.2.7",
        remote_host: b"client.example.com",
        remote_port: b"50000",
        remote_user: None,
        https: false,
        unique_id: b"9f2c",
        protocol: b"HTTP/1.1",
        software: b"nginx/1.28.0",
        answer: None,
    };

    fn listed(environment: &Environment) -> Vec<String> {
        environment.variables().iter().map(|v| String::from_utf8_lossy(v).into_owned()).collect()
    }

    /// The variables that these fields make.
    fn http(headers: &[(&str, &str)]) -> Vec<String> {
        let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let environment = Environment::new(&REQUEST, headers, None, &[]);
        listed(&environment).into_iter().filter(|variable| variable.starts_with("HTTP_")).collect()
    }

    #[test]
    fn meta_variables() {
        let environment = Environment::new(&REQUEST, [], Some(b"/usr/bin:/bin"), &[]);
        assert_eq!(
            listed(&environment),
            [
                "GATEWAY_INTERFACE=websocket-CGI/0.1",
                "SERVER_SOFTWARE=nginx/1.28.0",
                "SERVER_PROTOCOL=HTTP/1.1",
                "SERVER_NAME=example.com",
                "SERVER_PORT=8443",
                "REQUEST_METHOD=GET",
                "REQUEST_URI=/exec/a%20b?x=1&y",
                "QUERY_STRING=x=1&y",
                "SCRIPT_NAME=/exec",
                "PATH_INFO=/a b",
                "PATH_TRANSLATED=/srv/www/a b",
                "REMOTE_ADDR=192.0.2.7",
                "REMOTE_PORT=50000",
                "REMOTE_HOST=client.example.com",
                "REMOTE_USER=",
                "UNIQUE_ID=9f2c",
                "PATH=/usr/bin:/bin",
            ]
        );
    }

    #[test]
    fn names_of_hosts() {
        for name in ["localhost", "a.example.com", "a.example.com.", "1-2.dsl_pool.example", "7"] {
            assert!(is_host_name(name.as_bytes()), "{name}");
        }
        let long = "x".repeat(64);
        for name in ["", ".", "a..b", ".a", "-a.b", "a b", "a\nb", "$(id)", "a/b", "a;b", "caf\u{e9}", "a\0", &long] {
            assert!(!is_host_name(name.as_bytes()), "{name:?}");
        }
        assert!(!is_host_name(["abcdefg"; 32].join(".").as_bytes()));
    }

    #[test]
    fn before_there_is_a_request() {
        let setting = |name, value| Setting { name, value };
        let settings = [setting(&b"SET"[..], &b"1"[..]), setting(b"SERVER_NAME", b"other")];
        let environment =
            Environment::of_location(b"example.com", Some(b"/ws"), b"nginx/1.28.0", Some(b"/bin"), &settings);
        assert_eq!(
            listed(&environment),
            [
                "GATEWAY_INTERFACE=websocket-CGI/0.1",
                "SERVER_SOFTWARE=nginx/1.28.0",
                "SERVER_PROTOCOL=HTTP/1.1",
                "REQUEST_METHOD=GET",
                "SCRIPT_NAME=/ws",
                "PATH=/bin",
                "SET=1",
                "SERVER_NAME=other",
            ]
        );
        let environment = Environment::of_location(b"example.com", None, b"", None, &[]);
        assert_eq!(environment.get(b"SCRIPT_NAME"), None);
        assert_eq!(environment.get(b"SERVER_NAME"), Some(&b"example.com"[..]));
    }

    #[test]
    fn optional_meta_variables() {
        let request = CgiRequest { https: true, remote_user: Some(b"ann"), path_translated: None, ..REQUEST };
        let environment = Environment::new(&request, [], None, &[]);
        assert_eq!(environment.get(b"HTTPS"), Some(&b"on"[..]));
        assert_eq!(environment.get(b"REMOTE_USER"), Some(&b"ann"[..]));
        assert_eq!(environment.get(b"PATH_TRANSLATED"), None);
        assert_eq!(environment.get(b"PATH"), None);
        assert_eq!(environment.get(b"HTTP"), None);
    }

    #[test]
    fn a_request_that_is_answered() {
        let headers = [
            ("Content-Length", "3"),
            ("content-type", "a/b"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy", "evil"),
            ("Content-Encoding", "x"),
        ];
        let headers = headers.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let of = |answer| {
            let environment = Environment::new(&CgiRequest { method: b"POST", answer, ..REQUEST }, headers, None, &[]);
            let shown = ["GATEWAY", "REQUEST_METHOD", "CONTENT_", "AUTH_", "HTTP_"];
            let variables = listed(&environment).into_iter();
            variables.filter(|variable| shown.iter().any(|name| variable.starts_with(name))).collect::<Vec<_>>()
        };
        let answer = Answer { content_length: Some(b"3"), content_type: Some(b"a/b"), auth_type: Some(b"Basic") };
        assert_eq!(
            of(Some(answer)),
            [
                "GATEWAY_INTERFACE=CGI/1.1",
                "REQUEST_METHOD=POST",
                "CONTENT_LENGTH=3",
                "CONTENT_TYPE=a/b",
                "AUTH_TYPE=Basic",
                "HTTP_CONTENT_ENCODING=x",
            ]
        );
        assert_eq!(
            of(Some(Answer::default())),
            ["GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=POST", "HTTP_CONTENT_ENCODING=x"]
        );
        assert!(of(None).contains(&"HTTP_CONTENT_LENGTH=3".to_owned()));
    }

    #[test]
    fn headers() {
        assert_eq!(
            http(&[("Host", "example.com"), ("x-Request-ID", " a b\t")]),
            ["HTTP_HOST=example.com", "HTTP_X_REQUEST_ID=a b"]
        );
        assert_eq!(http(&[("X-1", ""), ("X-2", "  ")]), ["HTTP_X_1=", "HTTP_X_2="]);
        assert_eq!(http(&[("X", "caf\u{e9}\tok")]), ["HTTP_X=caf\u{e9}\tok"]);
    }

    #[test]
    fn headers_that_must_not_become_variables() {
        let refused = ["Proxy", "proxy", "PROXY", "X_A", "X.A", "X A", "X=A", "X\0", "X\u{e9}", "", "_", "X\n"];
        assert_eq!(http(&refused.map(|name| (name, "1"))), Vec::<String>::new());
        assert_eq!(http(&[("X_A", "evil"), ("X-A", "good"), ("x_a", "evil")]), ["HTTP_X_A=good"]);
        assert_eq!(http(&[("Proxy-Authorization", "1")]), ["HTTP_PROXY_AUTHORIZATION=1"]);
    }

    #[test]
    fn repeated_headers_are_one_variable() {
        assert_eq!(http(&[("X-A", "1"), ("B", "x"), ("x-a", " 2 "), ("X-A", "")]), ["HTTP_B=x", "HTTP_X_A=1, 2, "]);
        assert_eq!(http(&[("Cookie", "a=1"), ("cookie", "b=2")]), ["HTTP_COOKIE=a=1; b=2"]);
    }

    #[test]
    fn control_octets_become_spaces() {
        let all: Vec<u8> = (0..=255).collect();
        let request = CgiRequest { path_info: &all, ..REQUEST };
        let setting = Setting { name: b"SET", value: b"a\nb\0c" };
        let environment = Environment::new(&request, [(&b"X"[..], &b"1\r\n2\x7f3\0"[..])], Some(b"/a\n"), &[setting]);
        assert_eq!(environment.get(b"HTTP_X"), Some(&b"1  2 3 "[..]));
        assert_eq!(environment.get(b"SET"), Some(&b"a b c"[..]));
        assert_eq!(environment.get(b"PATH"), Some(&b"/a "[..]));
        let path_info = environment.get(b"PATH_INFO").unwrap();
        assert_eq!(path_info.len(), 256);
        for (octet, got) in (0..=255).zip(path_info) {
            let kept = octet == b'\t' || (b' '..0x7F).contains(&octet) || octet > 0x7F;
            assert_eq!(*got, if kept { octet } else { b' ' });
        }
    }

    #[test]
    fn settings_come_before_everything() {
        let set = |name, value| Setting { name, value };
        let settings = [
            set(b"A", b"1"),
            set(b"REMOTE_ADDR", b"198.51.100.1"),
            set(b"A", b"2"),
            set(b"PATH", b""),
            set(b"HTTP_X_Y", b"mine"),
            set(b"http_proxy", b"allowed"),
        ];
        let headers = [(&b"X-Y"[..], &b"theirs"[..]), (b"X-YZ", b"other")];
        let environment = Environment::new(&REQUEST, headers, Some(b"/bin"), &settings);
        let all = listed(&environment);
        let of = |name: &str| all.iter().filter(|v| v.starts_with(&format!("{name}="))).cloned().collect::<Vec<_>>();
        assert_eq!(of("A"), ["A=2"]);
        assert_eq!(of("REMOTE_ADDR"), ["REMOTE_ADDR=198.51.100.1"]);
        assert_eq!(of("REMOTE_HOST"), ["REMOTE_HOST=client.example.com"]);
        assert_eq!(of("PATH"), ["PATH="]);
        assert_eq!(of("HTTP_X_Y"), ["HTTP_X_Y=mine"]);
        assert_eq!(of("HTTP_X_YZ"), ["HTTP_X_YZ=other"]);
        assert_eq!(of("http_proxy"), ["http_proxy=allowed"]);
    }

    #[test]
    fn thousands_of_headers_are_no_attack() {
        let names: Vec<_> = (0..10_000).map(|n| format!("h{n}")).collect();
        let headers = names.iter().map(|name| (name.as_bytes(), &b"v"[..]));
        assert_eq!(Environment::new(&REQUEST, headers, None, &[]).variables().len(), 16 + 10_000);
    }

    #[test]
    fn entries() {
        let set = |name, value| Ok(Entry::Set { name, value });
        assert_eq!(Entry::parse(b"A=1"), set(b"A", b"1"));
        assert_eq!(Entry::parse(b"_a9=$remote_addr=x"), set(b"_a9", b"$remote_addr=x"));
        assert_eq!(Entry::parse(b"EMPTY="), set(b"EMPTY", b""));
        assert_eq!(Entry::parse(b"LANG"), Ok(Entry::Pass { name: b"LANG" }));
        for bad in [&b""[..], b"=1", b"9A=1", b"A-B=1", b"A B", b"$x=1", b"$x", b"A\0=1", b"\xc3\xa9=1", b"A\n"] {
            assert_eq!(Entry::parse(bad), Err(InvalidName), "{}", bad.escape_ascii());
        }
    }
}
