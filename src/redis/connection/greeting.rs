// SPDX-License-Identifier: Apache-2.0

//! The first words on a connection: who we are, and whether the server is one that can be used.

use std::collections::VecDeque;
use std::fmt;

use super::Settings;
use crate::channel::position::Epoch;
use crate::redis::command::append;
use crate::redis::error::ErrorReply;
use crate::redis::names::Names;
use crate::redis::resp::Value;
use crate::redis::script::{self, Keeping, Kept, Script};

/// The oldest major version that can be used: older ones report a lack of memory in scripts without a code.
const OLDEST_MAJOR: u32 = 7;

/// How long the probe of a connection is remembered by the server, in milliseconds.
const PROBE_LIFETIME: u64 = 1_000;

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Commands and messages of channels, at one master.
    Master {
        /// What begins the names of the keys.
        prefix: Vec<u8>,
    },
    /// Commands and messages of channels, at one of the masters of a cluster.
    ClusterNode,
    /// To ask where a master is.
    Sentinel,
    /// To ask any node of a cluster which one has which slot.
    Survey,
}

impl Purpose {
    /// Whether Pub/Sub channels belong to slots.
    pub fn is_sharded(&self) -> bool {
        matches!(self, Purpose::ClusterNode)
    }

    /// Whether a server that is no master is of no use.
    pub fn needs_master(&self) -> bool {
        !matches!(self, Purpose::Sentinel | Purpose::Survey)
    }

    /// What the server calls itself then.
    fn mode(&self) -> &'static str {
        match self {
            Purpose::Master { .. } => "standalone",
            Purpose::ClusterNode | Purpose::Survey => "cluster",
            Purpose::Sentinel => "sentinel",
        }
    }
}

/// A server as it has introduced itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `redis`, or `valkey`.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Changes whenever it is started; empty where it was not asked for.
    pub run_id: String,
}

/// Why a server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// The server is too old.
    Version(String),
    /// The server is of another kind: standalone, cluster, sentinel.
    Mode {
        /// The kind of the server.
        found: String,
        /// The kind that the URL says.
        expected: &'static str,
    },
    /// The server is a replica.
    Replica,
    /// The server has answered one of the first commands by an error.
    Refused {
        /// The command.
        command: &'static str,
        /// The error.
        error: ErrorReply,
    },
    /// A message was stored, but nobody could be told of it: the user has no right to one of the commands that follow.
    Rights,
    /// The server has answered something that the command does not answer.
    Malformed(&'static str),
}

impl fmt::Display for Unfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Version(version) => {
                write!(out, "the server is version {version}, Redis 7.0 or Valkey 7.2 is needed")
            }
            Unfit::Mode { found, expected } => {
                write!(out, "the server's mode is \"{found}\", its URL is one for \"{expected}\"")
            }
            Unfit::Replica => out.write_str("the server is a replica"),
            Unfit::Refused { command, error } => write!(out, "{command} was refused: {error}"),
            Unfit::Rights => {
                out.write_str("the user lacks a right: XTRIM, PEXPIRE, or PUBLISH to Pub/Sub channels with the prefix")
            }
            Unfit::Malformed(command) => write!(out, "the answer to {command} cannot be read"),
        }
    }
}

/// What an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Hello,
    Select,
    RunId,
    Load(Script),
    Probe,
}

impl Step {
    fn command(self) -> &'static str {
        match self {
            Step::Hello => "HELLO",
            Step::Select => "SELECT",
            Step::RunId => "INFO",
            Step::Load(_) => "SCRIPT LOAD",
            Step::Probe => "the script that publishes",
        }
    }
}

/// A greeting that is not over. All of it is sent at once: the first error ends it.
#[derive(Debug)]
pub struct Greeting {
    steps: VecDeque<Step>,
    server: Server,
}

impl Greeting {
    /// Says everything.
    pub fn begin(settings: &Settings, out: &mut Vec<u8>) -> Self {
        let mut steps = VecDeque::new();
        match (&settings.user, &settings.password) {
            (None, None) => append(&[b"HELLO", b"3"], out),
            (user, password) => {
                let user = user.as_deref().unwrap_or("default");
                let password = password.as_deref().unwrap_or_default();
                append(&[b"HELLO", b"3", b"AUTH", user.as_bytes(), password.as_bytes()], out);
            }
        }
        steps.push_back(Step::Hello);
        if settings.database != 0 {
            append(&[b"SELECT", settings.database.to_string().as_bytes()], out);
            steps.push_back(Step::Select);
        }
        if settings.purpose.needs_master() {
            append(&[b"INFO", b"server"], out);
            steps.push_back(Step::RunId);
            for script in Script::ALL {
                append(&[b"SCRIPT", b"LOAD", script.text().as_bytes()], out);
                steps.push_back(Step::Load(script));
            }
        }
        if let Purpose::Master { prefix } = &settings.purpose {
            // Rights are found missing now and not by the first client. No channel of a client has an empty id.
            let names = Names::of(prefix, settings.database, b"", b"");
            let keeping = Keeping { messages: Kept::Newest(0), age: 0, lifetime: PROBE_LIFETIME, sharded: false };
            script::publish(&names, Epoch(1), b"", &keeping, None, out);
            steps.push_back(Step::Probe);
        }
        Greeting { steps, server: Server::default() }
    }

    /// Takes the next answer; the server, when it was the last one.
    ///
    /// # Errors
    ///
    /// [`Unfit`].
    pub fn answered(&mut self, reply: &Value, settings: &Settings) -> Result<Option<Server>, Unfit> {
        let Some(step) = self.steps.pop_front() else { return Err(Unfit::Malformed("HELLO")) };
        if let Some(error) = ErrorReply::of(reply) {
            return Err(match error {
                ErrorReply::NotMaster => Unfit::Replica,
                error => Unfit::Refused { command: step.command(), error },
            });
        }
        match step {
            Step::Hello => self.introduced(reply, settings)?,
            Step::RunId => {
                let text = reply.octets().map(String::from_utf8_lossy).unwrap_or_default();
                let run_id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
                run_id.ok_or(Unfit::Malformed("INFO"))?.clone_into(&mut self.server.run_id);
            }
            Step::Load(script) if reply.octets() != Some(script.digest().as_bytes()) => {
                return Err(Unfit::Malformed("SCRIPT LOAD"));
            }
            Step::Probe => match script::reply::published(reply) {
                Ok(Some(published)) if published.nodes.is_some() => {}
                Ok(_) => return Err(Unfit::Rights),
                Err(_) => return Err(Unfit::Malformed(step.command())),
            },
            Step::Select | Step::Load(_) => {}
        }
        Ok(self.steps.is_empty().then(|| std::mem::take(&mut self.server)))
    }

    /// Looks at the answer to HELLO: what the server is.
    fn introduced(&mut self, reply: &Value, settings: &Settings) -> Result<(), Unfit> {
        const MALFORMED: Unfit = Unfit::Malformed("HELLO");
        let fields = reply.values().ok_or(MALFORMED)?;
        let field = |name: &str| {
            let pair = fields.chunks_exact(2).find(|pair| pair[0].octets() == Some(name.as_bytes()));
            pair.and_then(|pair| pair[1].octets()).map(|text| String::from_utf8_lossy(text).into_owned())
        };
        self.server.product = field("server").ok_or(MALFORMED)?;
        self.server.version = field("version").ok_or(MALFORMED)?;
        let major = self.server.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if settings.purpose.needs_master() && major.is_none_or(|major| major < OLDEST_MAJOR) {
            return Err(Unfit::Version(self.server.version.clone()));
        }
        let (found, expected) = (field("mode").ok_or(MALFORMED)?, settings.purpose.mode());
        if found != expected {
            return Err(Unfit::Mode { found, expected });
        }
        if settings.purpose.needs_master() && field("role").is_some_and(|role| role != "master") {
            return Err(Unfit::Replica);
        }
        Ok(())
    }
}
