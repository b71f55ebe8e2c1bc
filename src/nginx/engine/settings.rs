// SPDX-License-Identifier: Apache-2.0

//! The engines that a configuration names, and what workers need to know of each.

use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use super::figures;
use crate::conf;
use crate::nginx::ffi;
use crate::nginx::log;
use crate::nginx::request::bytes;
use crate::nginx::template::{self, NginxCompiler};
use crate::redis::connection::{self, Purpose};
use crate::redis::resp::Limits;
use crate::redis::url::{Place, Url};

/// A text that nginx may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// As nginx has it. The octets live as long as the name.
    pub fn as_nginx(&self) -> ffi::ngx_str_t {
        ffi::ngx_str_t { len: self.0.len(), data: self.0.as_ptr().cast_mut() }
    }
}

/// An address of a server.
#[derive(Debug, Clone)]
pub struct Address {
    /// A `sockaddr`.
    pub octets: Box<[u8]>,
    /// The same in words.
    pub name: Name,
}

/// An engine as one configuration names it.
#[derive(Debug)]
pub struct Settings {
    url: Rc<Url>,
    /// What tells its channels from those of other engines in the zone; not 0, and the same after a reload.
    pub space: u64,
    /// The beginning of all names.
    pub prefix: Vec<u8>,
    /// The database.
    pub database: u32,
    /// Where its servers are.
    pub addresses: Vec<Address>,
    /// How long a connection may take, in milliseconds.
    pub connect_timeout: u64,
    /// How long an answer may take, in milliseconds.
    pub timeout: u64,
    /// What the connections are told.
    pub connection: Rc<connection::Settings>,
}

impl Settings {
    /// The engine in words, without its password.
    pub fn name(&self) -> String {
        self.url.to_string()
    }

    /// That of a location. `None` when it cannot be had, which was logged.
    fn read(cf: *mut ffi::ngx_conf_t, settings: &conf::Settings<NginxCompiler>, url: &Rc<Url>) -> Option<Self> {
        let refuse = |reason: std::fmt::Arguments<'_>| {
            log::configuration(cf, format_args!("\"websocket_channel_redis\" directive: {reason}"));
        };
        let text = match &url.place {
            Place::Server(node) => node.to_string(),
            Place::Unix(path) => format!("unix:{path}"),
            Place::Sentinel { .. } | Place::Cluster(_) => {
                refuse(format_args!("Sentinel and Cluster are not supported by this version"));
                return None;
            }
        };
        if url.tls {
            refuse(format_args!("TLS to an engine is not supported by this version"));
            return None;
        }
        let file = settings.channel_redis_password_file();
        if url.password.is_some() && file.is_some() {
            refuse(format_args!("a password in the URL beside \"websocket_channel_redis_password_file\""));
            return None;
        }
        let password = match file {
            None => url.password.clone(),
            Some(file) => match first_line(cf, &file) {
                Ok(password) => Some(password),
                Err(reason) => {
                    let file = String::from_utf8_lossy(&file).into_owned();
                    log::configuration(
                        cf,
                        format_args!("\"websocket_channel_redis_password_file\" \"{file}\": {reason}"),
                    );
                    return None;
                }
            },
        };
        let prefix = settings.channel_redis_prefix().to_vec();
        let mut hasher = DefaultHasher::new();
        (&url.place, url.database, &prefix).hash(&mut hasher);
        Some(Settings {
            space: hasher.finish().max(1),
            database: url.database,
            addresses: addresses(cf, &text)?,
            connect_timeout: settings.channel_redis_connect_timeout(),
            timeout: settings.channel_redis_timeout(),
            connection: Rc::new(connection::Settings {
                purpose: Purpose::Master { prefix: prefix.clone() },
                user: url.user.clone(),
                password,
                database: url.database,
                timeout: settings.channel_redis_timeout(),
                most_pending: usize::try_from(settings.channel_redis_max_pending()).unwrap_or(usize::MAX),
                limits: Limits::default(),
            }),
            prefix,
            url: Rc::clone(url),
        })
    }

    /// Whether two locations mean the same engine, and connect to it in the same way.
    fn is_same(&self, other: &Self) -> bool {
        let own = |of: &Self| (of.space, of.connect_timeout, of.timeout, of.connection.most_pending);
        own(self) == own(other)
            && self.url == other.url
            && self.prefix == other.prefix
            && self.connection.password == other.connection.password
    }
}

/// The engines of a configuration. Locations name them by numbers from 1.
#[derive(Debug, Default)]
pub struct Engines {
    all: Vec<Rc<Settings>>,
    zone: Option<figures::Zone>,
}

impl Engines {
    /// All of them.
    pub fn all(&self) -> &[Rc<Settings>] {
        &self.all
    }

    /// The zone with their figures.
    pub fn zone(&self) -> Option<figures::Zone> {
        self.zone
    }

    /// Adds the zone, if there is an engine, to the configuration that was read. `false` when nginx refuses.
    pub fn add_zone(&mut self, cf: *mut ffi::ngx_conf_t) -> bool {
        if self.all.is_empty() {
            return true;
        }
        self.zone = figures::add_zone(cf);
        self.zone.is_some()
    }

    /// The number of the engine of a location, 0 for none. `None` when there is something wrong, which was logged.
    pub fn enter(&mut self, cf: *mut ffi::ngx_conf_t, settings: &conf::Settings<NginxCompiler>) -> Option<usize> {
        let Some(url) = settings.channel_redis() else { return Some(0) };
        let engine = Settings::read(cf, settings, &url)?;
        if let Some(known) = self.all.iter().position(|known| known.is_same(&engine)) {
            return Some(known + 1);
        }
        if self.all.iter().any(|known| known.space == engine.space) {
            let reason = "two locations name one engine with different users, passwords, timeouts or \"max_pending\"";
            log::configuration(cf, format_args!("\"websocket_channel_redis\" directive: {reason}"));
            return None;
        }
        self.all.push(Rc::new(engine));
        Some(self.all.len())
    }
}

/// The first line of a file, whose name is relative to the configuration.
fn first_line(cf: *mut ffi::ngx_conf_t, file: &[u8]) -> Result<String, String> {
    let mut name = template::copy(cf, file).map_err(|_| "no memory".to_owned())?;
    // SAFETY: the configuration is being read; the copy ends with a zero and lives as long as it.
    if unsafe { ffi::ngx_conf_full_name((*cf).cycle, &raw mut name, 1) } != ffi::NGX_OK as isize {
        return Err("no memory".to_owned());
    }
    let path = String::from_utf8_lossy(bytes(&name)).into_owned();
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        Some(_) | None => Err("its first line is empty".to_owned()),
    }
}

/// The addresses of a server, whose name is looked up. `None` when there are none, which was logged.
fn addresses(cf: *mut ffi::ngx_conf_t, text: &str) -> Option<Vec<Address>> {
    let mut copy = template::copy(cf, text.as_bytes()).ok()?;
    // SAFETY: the configuration is being read, and nginx allocates in its pool. The url is a C struct for which all zeroes is a
    // value, and the shim initialises it; its addresses are an array of the length that it says.
    unsafe {
        let mut url: ffi::ngx_url_t = std::mem::zeroed();
        if ffi::ngx_ws_resolve_now((*cf).pool, &raw mut copy, 6379, &raw mut url) != ffi::NGX_OK as isize {
            let reason = match url.err.is_null() {
                true => "no memory".to_owned(),
                false => CStr::from_ptr(url.err).to_string_lossy().into_owned(),
            };
            log::configuration(cf, format_args!("\"websocket_channel_redis\" directive: \"{text}\": {reason}"));
            return None;
        }
        let address = |address: &ffi::ngx_addr_t| Address {
            octets: std::slice::from_raw_parts(address.sockaddr.cast::<u8>(), address.socklen as usize).into(),
            name: Name(bytes(&address.name).into()),
        };
        Some(std::slice::from_raw_parts(url.addrs, url.naddrs).iter().map(address).collect())
    }
}
