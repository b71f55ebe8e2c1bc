// SPDX-License-Identifier: Apache-2.0

//! The address of an engine as an administrator writes it: `websocket_channel_redis`.
//!
//! | form | what it names |
//! | --- | --- |
//! | `redis://[user[:password]@]host[:port][/db]` | one server; `rediss://` by TLS |
//! | `unix:/path[?db=n]` | one server of this machine |
//! | `redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/name[/db]` | the master that Sentinels know by this name |
//! | `redis+cluster://[user[:password]@]host[:port][,host[:port]...]` | a cluster, by some of its nodes |
//!
//! `rediss+sentinel` and `rediss+cluster` are the same by TLS. User and password are percent-encoded (RFC 3986, section 2.1).
//! User and password of a Sentinel URL are those of the master: Sentinels have passwords of their own.

use std::fmt;

/// The port of a server that names none.
const SERVER_PORT: u16 = 6379;

/// The port of a Sentinel that names none.
const SENTINEL_PORT: u16 = 26379;

/// Databases that a server can be configured to have are numbered below this.
const DATABASES: u32 = 1 << 31;

/// Sentinels or nodes that one URL names at most.
const MOST_NODES: usize = 64;

/// A host, and a port of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// A name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

/// Where the servers of an engine are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// One server.
    Server(Node),
    /// One server of this machine, by the path of its socket.
    Unix(String),
    /// The master of this name, for which these Sentinels are asked.
    Sentinel {
        /// Sentinels, any of which knows the master.
        sentinels: Vec<Node>,
        /// The name that they know it by.
        name: String,
    },
    /// A cluster: some of its nodes, which tell of the others.
    Cluster(Vec<Node>),
}

/// An engine: two URLs that are equal name the same one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// Where the engine is.
    pub place: Place,
    /// Whether connections to it are TLS.
    pub tls: bool,
    /// The user of its access control lists; none for the default user.
    pub user: Option<String>,
    /// The password of that user.
    pub password: Option<String>,
    /// The number of the database; 0 in a cluster.
    pub database: u32,
}

impl fmt::Debug for Url {
    /// As [`Display`](fmt::Display): a password is in no log.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Url {
    /// The URL without user and password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let list = |nodes: &[Node]| nodes.iter().map(Node::to_string).collect::<Vec<_>>().join(",");
        match &self.place {
            Place::Server(node) => write!(out, "{scheme}://{node}")?,
            Place::Unix(path) if self.database == 0 => return write!(out, "unix:{path}"),
            Place::Unix(path) => return write!(out, "unix:{path}?db={}", self.database),
            Place::Sentinel { sentinels, name } => {
                write!(out, "{scheme}+sentinel://{}/{}", list(sentinels), encode(name))?;
            }
            Place::Cluster(nodes) => write!(out, "{scheme}+cluster://{}", list(nodes))?,
        }
        if self.database == 0 { Ok(()) } else { write!(out, "/{}", self.database) }
    }
}

/// What is wrong with a URL: what would have been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected(pub &'static str);

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// [`Expected`] says what should stand where it is wrong.
    pub fn parse(text: &str) -> Result<Self, Expected> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        const SCHEMES: Expected = Expected(
            "redis://, rediss://, unix:/path, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://",
        );
        let (scheme, rest) = text.split_once("://").ok_or(SCHEMES)?;
        let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match family {
            "redis" => false,
            "rediss" => true,
            _ => return Err(SCHEMES),
        };
        if rest.contains(['?', '#']) {
            return Err(Expected("a URL without \"?\" and \"#\"; the database is its path"));
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, path),
            None => (rest, ""),
        };
        // An unencoded "@" of a password is rather the password's than the host's.
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (user, password) = credentials.map_or(Ok((None, None)), credentials_of)?;
        let (place, database) = match kind {
            "" if hosts.contains(',') => {
                return Err(Expected("one host; several are Sentinels or nodes of a cluster"));
            }
            "" => (Place::Server(node(hosts, SERVER_PORT)?), database(path)?),
            "sentinel" => {
                let (name, number) = path.split_once('/').unwrap_or((path, ""));
                let name = decode(name)?;
                if name.is_empty() {
                    return Err(Expected(
                        "the name by which the Sentinels know the master: redis+sentinel://host/name",
                    ));
                }
                (Place::Sentinel { sentinels: nodes(hosts, SENTINEL_PORT)?, name }, database(number)?)
            }
            "cluster" if !path.is_empty() => {
                return Err(Expected("no path: a cluster has one database"));
            }
            "cluster" => (Place::Cluster(nodes(hosts, SERVER_PORT)?), 0),
            _ => return Err(SCHEMES),
        };
        Ok(Url { place, tls, user, password, database })
    }
}

fn unix(rest: &str) -> Result<Url, Expected> {
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    if !path.starts_with('/') {
        return Err(Expected("the path of a socket that begins with \"/\": unix:/path"));
    }
    let database = match query {
        None => 0,
        Some(query) => {
            let number = query.strip_prefix("db=").filter(|number| !number.is_empty());
            database(number.ok_or(Expected("nothing but \"db=number\" after the \"?\""))?)?
        }
    };
    Ok(Url { place: Place::Unix(path.to_owned()), tls: false, user: None, password: None, database })
}

/// User and password of `user`, `user:password` or `:password`.
fn credentials_of(text: &str) -> Result<(Option<String>, Option<String>), Expected> {
    let (user, password) = text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let user = decode(user)?;
    let password = password.map(decode).transpose()?;
    if user.is_empty() && password.as_deref().is_none_or(str::is_empty) {
        return Err(Expected("a user or a password before the \"@\""));
    }
    Ok(((!user.is_empty()).then_some(user), password))
}

fn database(text: &str) -> Result<u32, Expected> {
    const NUMBER: Expected = Expected("the number of a database");
    match text {
        "" => Ok(0),
        digits if digits.bytes().all(|octet| octet.is_ascii_digit()) => {
            digits.parse().ok().filter(|&number| number < DATABASES).ok_or(NUMBER)
        }
        _ => Err(NUMBER),
    }
}

fn nodes(text: &str, port: u16) -> Result<Vec<Node>, Expected> {
    let mut nodes = Vec::new();
    for host in text.split(',') {
        let node = node(host, port)?;
        if !nodes.contains(&node) {
            nodes.push(node);
        }
        if nodes.len() > MOST_NODES {
            return Err(Expected("at most 64 hosts"));
        }
    }
    Ok(nodes)
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn node(text: &str, port: u16) -> Result<Node, Expected> {
    const HOST: Expected = Expected("a host name, an IPv4 address, or an IPv6 address in brackets");
    let (host, rest) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(HOST)?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| HOST)?;
        (address, rest)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (host, rest) = text.split_at(end);
        let is_name = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(is_name) {
            return Err(HOST);
        }
        (host, rest)
    };
    let port = match rest {
        "" => port,
        rest => {
            let digits = rest.strip_prefix(':').ok_or(HOST)?;
            let number = digits.parse().ok().filter(|&port: &u16| port != 0 && !digits.starts_with('+'));
            number.ok_or(Expected("a port from 1 to 65535"))?
        }
    };
    Ok(Node { host: host.to_owned(), port })
}

/// Percent-encoding of all that is not unreserved (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            encoded.push(char::from(octet));
        } else {
            // Writing to a string does not fail.
            let _ = fmt::Write::write_fmt(&mut encoded, format_args!("%{octet:02X}"));
        }
    }
    encoded
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, Expected> {
    const ENCODED: Expected = Expected("\"%\" with two hexadecimal digits after it");
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or(ENCODED)?;
        let digits = std::str::from_utf8(digits).map_err(|_| ENCODED)?;
        octets.push(u8::from_str_radix(digits, 16).map_err(|_| ENCODED)?);
        rest = &rest[2..];
    }
    String::from_utf8(octets).map_err(|_| Expected("UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Node {
        Node { host: host.to_owned(), port }
    }

    #[test]
    fn one_server() {
        let url = Url::parse("redis://redis.internal").unwrap();
        assert_eq!(url.place, Place::Server(node("redis.internal", 6379)));
        assert_eq!((url.tls, url.user, url.password, url.database), (false, None, None, 0));
        let url = Url::parse("rediss://news:s%40cret%2f@[::1]:6380/3").unwrap();
        assert_eq!(url.place, Place::Server(node("::1", 6380)));
        assert_eq!((url.tls, url.database), (true, 3));
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("news"), Some("s@cret/")));
        let url = Url::parse("redis://:pass:word@h/").unwrap();
        assert_eq!((url.user, url.password.as_deref(), url.database), (None, Some("pass:word"), 0));
        assert_eq!(Url::parse("redis://u@h").unwrap().user.as_deref(), Some("u"));
    }

    #[test]
    fn a_socket() {
        let url = Url::parse("unix:/run/redis/redis.sock?db=2").unwrap();
        assert_eq!((url.place, url.database), (Place::Unix("/run/redis/redis.sock".to_owned()), 2));
    }

    #[test]
    fn sentinels_and_clusters() {
        let url = Url::parse("redis+sentinel://u:p@a,b:26380,a/news/1").unwrap();
        let sentinels = vec![node("a", 26379), node("b", 26380)];
        assert_eq!(url.place, Place::Sentinel { sentinels, name: "news".to_owned() });
        assert_eq!((url.database, url.tls), (1, false));
        let url = Url::parse("rediss+cluster://10.0.0.1:7000,10.0.0.2:7000").unwrap();
        assert_eq!(url.place, Place::Cluster(vec![node("10.0.0.1", 7000), node("10.0.0.2", 7000)]));
        assert!(url.tls);
    }

    #[test]
    fn what_is_no_engine_is_refused() {
        for text in [
            "",
            "localhost",
            "localhost:6379",
            "http://h",
            "redis+foo://h",
            "tcp+cluster://h",
            "redis:/h",
            "redis://",
            "redis:///1",
            "redis://h:0",
            "redis://h:65536",
            "redis://h:+1",
            "redis://h:",
            "redis://h/x",
            "redis://h/-1",
            "redis://h/4294967296",
            "redis://h/1/2",
            "redis://h?db=1",
            "redis://a,b",
            "redis://@h",
            "redis://:@h",
            "redis://u:%4@h",
            "redis://u:%zz@h",
            "redis://u:%ff@h",
            "redis://[::1",
            "redis://[a]",
            "redis://::1",
            "redis://a b",
            "unix:run/redis.sock",
            "unix:/r?db=",
            "unix:/r?db=x",
            "unix:/r?x=1",
            "redis+sentinel://a,b",
            "redis+sentinel://a,b/",
            "redis+sentinel://a,,b/n",
            "redis+cluster://a/1",
            "redis+cluster://",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        let many = (0..65).map(|number| format!("h{number}")).collect::<Vec<_>>();
        assert!(Url::parse(&format!("redis+cluster://{}", many[..64].join(","))).is_ok());
        assert!(Url::parse(&format!("redis+cluster://{}", many.join(","))).is_err());
    }

    #[test]
    fn a_password_is_never_shown() {
        for (text, shown) in [
            ("rediss://user:secret@h:1/2", "rediss://h:1/2"),
            ("redis+sentinel://:secret@a,[::1]:5/news/1", "redis+sentinel://a:26379,[::1]:5/news/1"),
            ("redis+sentinel://a/new%2fs%0A\u{e9}~/1", "redis+sentinel://a:26379/new%2Fs%0A%C3%A9~/1"),
            ("redis+cluster://user:secret@a:1", "redis+cluster://a:1"),
            ("unix:/s?db=4", "unix:/s?db=4"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(Url::parse(shown).unwrap(), Url { user: None, password: None, ..url });
        }
    }

    #[test]
    fn equal_urls_are_one_engine() {
        let parse = |text| Url::parse(text).unwrap();
        assert_eq!(parse("redis://h"), parse("redis://h:6379/0"));
        assert_ne!(parse("redis://h"), parse("redis://h/1"));
        assert_ne!(parse("redis://h"), parse("rediss://h"));
        assert_ne!(parse("redis://u:a@h"), parse("redis://u:b@h"));
    }
}
