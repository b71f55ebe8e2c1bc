// SPDX-License-Identifier: Apache-2.0

//! The engines that a configuration names, and what workers need to know of each.

use std::cell::Cell;
use std::fmt::Arguments;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use super::address::Host;
use super::figures;
use crate::conf::{self, TlsVersions};
use crate::nginx::ffi;
use crate::nginx::log;
use crate::nginx::request::bytes;
use crate::nginx::status::Status;
use crate::nginx::template::{self, NginxCompiler};
use crate::nginx::tls::{Identity, Parts, Tls};
use crate::redis::connection::{self, Purpose};
use crate::redis::resp::Limits;
use crate::redis::script::group::Counting;
use crate::redis::url::{Node, Place, Url};

/// How long an answer of a Sentinel, or of a node that is asked for the slots, may take at most, in milliseconds: another one may know
/// better.
const SURVEY_TIMEOUT: u64 = 1_000;

/// Questions to one of them that are on their way at once.
const SURVEY_PENDING: usize = 8;

/// How connections to an engine are TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Secured {
    verify: bool,
    name: Option<Rc<[u8]>>,
    trusted: Rc<[u8]>,
    certificate: Rc<[u8]>,
    key: Rc<[u8]>,
}

/// What locations say of an engine: equal for those that mean the same one, and connect to it in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    url: Rc<Url>,
    prefix: Vec<u8>,
    password: Option<String>,
    sentinel_user: Option<String>,
    sentinel_password: Option<String>,
    connect_timeout: u64,
    timeout: u64,
    most_pending: usize,
    replicas: u64,
    secured: Option<Secured>,
}

/// An engine as one configuration names it.
#[derive(Debug)]
pub struct Settings {
    wanted: Wanted,
    /// What tells its channels from those of other engines in the zone; not 0, and the same after a reload.
    pub space: u64,
    /// The beginning of all names.
    pub prefix: Vec<u8>,
    /// The database.
    pub database: u32,
    /// The servers that the URL names. Invariant: never empty.
    pub hosts: Vec<Rc<Host>>,
    /// How long a connection may take, in milliseconds.
    pub connect_timeout: u64,
    /// How long an answer may take, in milliseconds.
    pub timeout: u64,
    /// What the connections are told.
    pub connection: Rc<connection::Settings>,
    /// What connections are told that carry publications only: there is room for the WAIT behind them.
    pub publishing: Rc<connection::Settings>,
    /// What connections are told by which Sentinels are asked for the master, or nodes of a cluster for the slots.
    pub survey: Rc<connection::Settings>,
    /// How many replicas are to have a publication before it is acknowledged.
    pub replicas: u64,
    /// The context of connections that are TLS.
    pub tls: Option<Tls>,
    /// A location has limits for groups, or shows them: the one without a name may be meant.
    counts_all: Cell<bool>,
}

impl Settings {
    /// The engine in words, without its password. No two engines have the same one: they are told apart by it in figures.
    pub fn name(&self) -> String {
        let url = &self.wanted.url;
        match &*self.wanted.prefix {
            conf::REDIS_PREFIX => url.to_string(),
            other => match std::str::from_utf8(other) {
                Ok(text) => format!("{url} (prefix {})", text.escape_debug()),
                Err(_) => format!("{url} (prefix {})", other.escape_ascii()),
            },
        }
    }

    /// Where the engine is.
    pub fn place(&self) -> &Place {
        &self.wanted.url.place
    }

    /// Whether its Pub/Sub channels belong to slots.
    pub fn is_sharded(&self) -> bool {
        self.connection.purpose.is_sharded()
    }

    /// Which groups it counts: in a cluster the channels of a group are at different nodes.
    pub fn counting(&self) -> Counting {
        match (self.is_sharded(), self.counts_all.get()) {
            (true, _) => Counting::Nothing,
            (false, false) => Counting::Named,
            (false, true) => Counting::All,
        }
    }

    /// Who a server has to be.
    pub fn identity(&self, host: &Host) -> Identity {
        let secured = self.wanted.secured.as_ref();
        let name = secured.and_then(|secured| secured.name.as_deref()).unwrap_or(host.name.as_bytes());
        Identity::new(name, secured.is_some_and(|secured| secured.verify))
    }

    /// Prepares what workers need. `None` when it cannot be had, which was logged.
    fn prepare(cf: *mut ffi::ngx_conf_t, wanted: Wanted, space: u64) -> Option<Self> {
        let look_up = |node: &Node| Host::look_up(cf, &node.host, &node.to_string()).map(Rc::new);
        let hosts = match &wanted.url.place {
            Place::Server(node) => vec![look_up(node)?],
            Place::Unix(path) => vec![Rc::new(Host::look_up(cf, path, &format!("unix:{path}"))?)],
            Place::Sentinel { sentinels: nodes, .. } | Place::Cluster(nodes) => {
                nodes.iter().map(look_up).collect::<Option<_>>()?
            }
        };
        let tls = match &wanted.secured {
            None => None,
            Some(secured) => Some(secured.create(cf)?),
        };
        let purpose = match &wanted.url.place {
            Place::Cluster(_) => Purpose::ClusterNode,
            Place::Server(_) | Place::Unix(_) | Place::Sentinel { .. } => {
                Purpose::Master { prefix: wanted.prefix.clone() }
            }
        };
        let connection = connection::Settings {
            purpose,
            user: wanted.url.user.clone(),
            password: wanted.password.clone(),
            database: wanted.url.database,
            timeout: wanted.timeout,
            most_pending: wanted.most_pending,
            limits: Limits::default(),
        };
        let publishing = connection::Settings { most_pending: wanted.most_pending + 1, ..connection.clone() };
        let (purpose, user, password) = match &wanted.url.place {
            Place::Sentinel { .. } => {
                (Purpose::Sentinel, wanted.sentinel_user.clone(), wanted.sentinel_password.clone())
            }
            Place::Server(_) | Place::Unix(_) | Place::Cluster(_) => {
                (Purpose::Survey, connection.user.clone(), connection.password.clone())
            }
        };
        let survey = connection::Settings {
            purpose,
            user,
            password,
            database: 0,
            timeout: wanted.timeout.min(SURVEY_TIMEOUT),
            most_pending: SURVEY_PENDING,
            limits: Limits::default(),
        };
        Some(Settings {
            space,
            database: wanted.url.database,
            hosts,
            connect_timeout: wanted.connect_timeout,
            timeout: wanted.timeout,
            connection: Rc::new(connection),
            publishing: Rc::new(publishing),
            survey: Rc::new(survey),
            replicas: wanted.replicas,
            tls,
            counts_all: Cell::new(false),
            prefix: wanted.prefix.clone(),
            wanted,
        })
    }
}

impl Wanted {
    /// What a location says. `None` when there is something wrong, which was logged.
    fn read(cf: *mut ffi::ngx_conf_t, settings: &conf::Settings<NginxCompiler>, url: &Rc<Url>) -> Option<Self> {
        let has_sentinels = matches!(url.place, Place::Sentinel { .. });
        let file = settings.channel_redis_password_file();
        if url.password.is_some() && file.is_some() {
            refuse(cf, format_args!("a password in the URL beside \"websocket_channel_redis_password_file\""));
            return None;
        }
        let password = match file {
            None => url.password.clone(),
            Some(file) => Some(password_in(cf, "websocket_channel_redis_password_file", &file)?),
        };
        // Other engines inherit them, and have no use for them.
        let sentinel_user = settings.channel_redis_sentinel_user().filter(|_| has_sentinels);
        let sentinel_password = match settings.channel_redis_sentinel_password_file().filter(|_| has_sentinels) {
            Some(file) => Some(password_in(cf, "websocket_channel_redis_sentinel_password_file", &file)?),
            None => None,
        };
        if sentinel_user.is_some() && sentinel_password.is_none() {
            let needed = "websocket_channel_redis_sentinel_password_file";
            log::configuration(
                cf,
                format_args!("\"websocket_channel_redis_sentinel_user\" directive needs \"{needed}\""),
            );
            return None;
        }
        let secured = match url.tls {
            true => Some(Secured::read(cf, settings)?),
            false => None,
        };
        Some(Wanted {
            url: Rc::clone(url),
            prefix: settings.channel_redis_prefix().to_vec(),
            password,
            sentinel_user,
            sentinel_password,
            connect_timeout: settings.channel_redis_connect_timeout(),
            timeout: settings.channel_redis_timeout(),
            most_pending: usize::try_from(settings.channel_redis_max_pending()).unwrap_or(usize::MAX),
            replicas: settings.channel_redis_replicas(),
            secured,
        })
    }

    /// What tells the channels of this engine from all others.
    fn space(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.url.place, self.url.database, &self.prefix).hash(&mut hasher);
        hasher.finish().max(1)
    }
}

impl Secured {
    fn read(cf: *mut ffi::ngx_conf_t, settings: &conf::Settings<NginxCompiler>) -> Option<Self> {
        let secured = Secured {
            verify: settings.channel_redis_ssl_verify(),
            name: settings.channel_redis_ssl_name(),
            trusted: settings.channel_redis_ssl_trusted_certificate(),
            certificate: settings.channel_redis_ssl_certificate(),
            key: settings.channel_redis_ssl_certificate_key(),
        };
        let needs = [
            (secured.verify, &secured.trusted, "ssl_verify", "ssl_trusted_certificate"),
            (!secured.certificate.is_empty(), &secured.key, "ssl_certificate", "ssl_certificate_key"),
            (!secured.key.is_empty(), &secured.certificate, "ssl_certificate_key", "ssl_certificate"),
        ];
        for (is_set, file, directive, needed) in needs {
            if is_set && file.is_empty() {
                let reason = format!(
                    "\"websocket_channel_redis_{directive}\" directive needs \"websocket_channel_redis_{needed}\""
                );
                log::configuration(cf, format_args!("{reason}"));
                return None;
            }
        }
        Some(secured)
    }

    fn create(&self, cf: *mut ffi::ngx_conf_t) -> Option<Tls> {
        let copy = |file: &Rc<[u8]>| template::copy(cf, file).ok();
        let (trusted, certificate, key) = (copy(&self.trusted)?, copy(&self.certificate)?, copy(&self.key)?);
        let none = template::copy(cf, b"").ok()?;
        let versions = TlsVersions::default();
        let parts = Parts { trusted, certificate, key, crl: none, ciphers: none, versions };
        Tls::create(cf, c"websocket_channel_redis", parts)
    }
}

/// The engines of a configuration. Locations name them by numbers from 1.
#[derive(Debug, Default)]
pub struct Engines {
    all: Vec<Rc<Settings>>,
    zone: Option<figures::Zone>,
}

impl Engines {
    /// The settings of all engines.
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

    /// All of the configuration was read, and its zones are there.
    pub fn enter_figures(&self) {
        figures::enter(self.zone, &self.all);
    }

    /// The number of the engine of a location, 0 for none. `None` when there is something wrong, which was logged.
    pub fn enter(&mut self, cf: *mut ffi::ngx_conf_t, settings: &conf::Settings<NginxCompiler>) -> Option<usize> {
        let Some(url) = settings.channel_redis() else { return Some(0) };
        let number = self.find(cf, settings, &url)?;
        if settings.group_info || settings.channel_group_limits.is_some() {
            self.all[number - 1].counts_all.set(true);
        }
        Some(number)
    }

    fn find(
        &mut self,
        cf: *mut ffi::ngx_conf_t,
        settings: &conf::Settings<NginxCompiler>,
        url: &Rc<Url>,
    ) -> Option<usize> {
        let wanted = Wanted::read(cf, settings, url)?;
        if let Some(known) = self.all.iter().position(|known| known.wanted == wanted) {
            return Some(known + 1);
        }
        let space = wanted.space();
        if self.all.iter().any(|known| known.space == space) {
            refuse(
                cf,
                format_args!(
                    "two locations name one engine with different users, passwords, timeouts, \"max_pending\", \"replicas\" or TLS"
                ),
            );
            return None;
        }
        self.all.push(Rc::new(Settings::prepare(cf, wanted, space)?));
        Some(self.all.len())
    }
}

fn refuse(cf: *mut ffi::ngx_conf_t, reason: Arguments<'_>) {
    log::configuration(cf, format_args!("\"websocket_channel_redis\" directive: {reason}"));
}

/// The password in a file. `None` when it cannot be read, which was logged.
fn password_in(cf: *mut ffi::ngx_conf_t, directive: &str, file: &[u8]) -> Option<String> {
    match first_line(cf, file) {
        Ok(password) => Some(password),
        Err(reason) => {
            let file = String::from_utf8_lossy(file);
            log::configuration(cf, format_args!("\"{directive}\" \"{file}\": {reason}"));
            None
        }
    }
}

/// The first line of a file, whose name is relative to the configuration.
fn first_line(cf: *mut ffi::ngx_conf_t, file: &[u8]) -> Result<String, String> {
    let mut name = template::copy(cf, file).map_err(|_| "no memory".to_owned())?;
    // SAFETY: the configuration is being read; the copy ends with a zero and lives as long as it.
    if unsafe { ffi::ngx_conf_full_name((*cf).cycle, &raw mut name, 1) } != Status::OK {
        return Err("no memory".to_owned());
    }
    // SAFETY: the name is in the pool of the configuration, which is being read.
    let path = String::from_utf8_lossy(unsafe { bytes(&name) }).into_owned();
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        Some(_) | None => Err("its first line is empty".to_owned()),
    }
}
