// SPDX-License-Identifier: Apache-2.0

//! Which variables a program has, and what is in them.

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
    let environment = Environment::of_location(b"example.com", Some(b"/ws"), b"nginx/1.28.0", Some(b"/bin"), &settings);
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
