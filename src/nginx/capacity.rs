// SPDX-License-Identifier: Apache-2.0

//! What is said when nginx is started, reloaded or tested (`nginx -t`) of limits that can never be reached, because the worker
//! processes have too few connections or descriptors for so many sessions. Without it the limit would look like the one that
//! counts, and the log would speak of connections on the day when there are many clients.

use super::conf_ctx;
use super::exhaustion;
use super::ffi;
use super::log::{self, Level, Octets};
use super::template::NginxCompiler;
use crate::conf::{Amount, EndpointSettings, ExecStderr, Settings};

/// What one session or program takes of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    connections: u64,
    descriptors: u64,
}

/// A subscriber: its own connection.
const SUBSCRIBER: Cost = Cost { connections: 1, descriptors: 1 };

/// A limit of one location.
pub struct Limit {
    directive: &'static str,
    /// False for what holds without a directive.
    is_said: bool,
    number: u64,
    /// It is one of each worker, and not of all of them together.
    is_of_worker: bool,
    cost: Cost,
    location: Vec<u8>,
}

/// Connections of a worker that are not for sessions, beside one for each address that nginx listens at: for the processes that
/// start programs, for wake-ups, and for leaving.
const OWN_CONNECTIONS: u64 = 5;

/// Descriptors of a worker that are not for sessions: logs, standard streams, and those of its connections.
const OWN_DESCRIPTORS: u64 = 16;

/// With channels: those by which workers wake each other.
const WAKEUPS: u64 = 128;

/// Notes the limits of a location that has inherited its settings.
pub fn enter(limits: &mut Vec<Limit>, settings: &Settings<NginxCompiler>, location: &[u8]) {
    let mut note = |directive, is_said, number, cost| {
        if number != 0 {
            limits.push(Limit { directive, is_said, number, is_of_worker: false, cost, location: location.to_vec() });
        }
    };
    if settings.has_program() {
        note("websocket_exec_max", settings.exec_max.is_some(), settings.exec_max(), of_program(settings));
    }
    if settings.channel().is_some_and(|channel| channel.mode.subscribes()) {
        let most = settings.channel_max_subscribers();
        note("websocket_channel_max_subscribers", true, most, SUBSCRIBER);
        if let Amount::Fixed(most) = settings.channel_group_limits().subscribers {
            note("websocket_channel_group_limits subscribers", true, most, SUBSCRIBER);
        }
    }
}

/// Notes how many programs a location has started ahead of their clients.
pub fn enter_pool(limits: &mut Vec<Limit>, settings: &Settings<NginxCompiler>, location: &[u8]) {
    let Cost { connections, descriptors } = of_program(settings);
    limits.push(Limit {
        directive: "websocket_exec_pool",
        is_said: true,
        number: settings.exec_pool(),
        is_of_worker: true,
        // The client comes later.
        cost: Cost { connections: connections - 1, descriptors: descriptors - 1 },
        location: location.to_vec(),
    });
}

/// A program and its client. Standard input takes a connection only while the program does not read.
fn of_program(settings: &Settings<NginxCompiler>) -> Cost {
    let is_shared = matches!(settings.endpoint, Some(EndpointSettings::Shared(_)));
    let client = u64::from(!is_shared);
    let (connections, descriptors) = match settings.exec_stderr() {
        ExecStderr::Log | ExecStderr::Client | ExecStderr::Both | ExecStderr::Null if settings.exec_pty() => (1, 2),
        ExecStderr::Null => (1, 2),
        ExecStderr::Log | ExecStderr::Client | ExecStderr::Both => (2, 3),
    };
    // What it notes something on is a pipe as well.
    let notes = u64::from(settings.exec_notes() && !is_shared);
    Cost { connections: connections + client + notes, descriptors: descriptors + client + notes }
}

/// How many of something all worker processes have room for together, and what is short first.
struct Room {
    workers: u64,
    connections: u64,
    descriptors: u64,
    own_connections: u64,
    own_descriptors: u64,
}

impl Room {
    /// The room that a configuration makes, all of which has been read.
    fn of(cycle: *mut ffi::ngx_cycle_t, has_channels: bool) -> Self {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: every cycle has the settings of nginx's core and its listening sockets; the call writes to the struct.
        unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            let core = &*conf_ctx::core_of_cycle(cycle);
            let listening = (*cycle).listening.nelts as u64;
            Room {
                workers: u64::try_from(core.worker_processes).unwrap_or(1).max(1),
                connections: (*cycle).connection_n as u64,
                descriptors: u64::try_from(core.rlimit_nofile).unwrap_or(limit.rlim_cur),
                own_connections: OWN_CONNECTIONS + listening,
                own_descriptors: OWN_DESCRIPTORS + listening + if has_channels { WAKEUPS } else { 0 },
            }
        }
    }

    fn by_connections(&self, cost: Cost) -> u64 {
        self.workers * (self.connections.saturating_sub(self.own_connections) / cost.connections)
    }

    fn by_descriptors(&self, cost: Cost) -> u64 {
        self.workers * (self.descriptors.saturating_sub(self.own_descriptors) / cost.descriptors)
    }

    /// What one worker has room for by connections and by descriptors, beside what is taken of it already.
    fn of_worker_beside(&self, taken: Cost, cost: Cost) -> (u64, u64) {
        let connections = self.connections.saturating_sub(self.own_connections + taken.connections);
        let descriptors = self.descriptors.saturating_sub(self.own_descriptors + taken.descriptors);
        (connections / cost.connections, descriptors / cost.descriptors)
    }
}

/// Looks at what was noted, and says what cannot be reached.
pub fn run(cycle: *mut ffi::ngx_cycle_t, limits: &[Limit], has_channels: bool) {
    if limits.is_empty() {
        return;
    }
    let room = Room::of(cycle, has_channels);
    // SAFETY: while a configuration is read, the cycle before it is there, with the log that its messages go to.
    let log = unsafe { (*(*cycle).old_cycle).log };
    let mut is_default_said = false;
    // What the pools before take of a worker.
    let mut taken = Cost { connections: exhaustion::reserve(room.connections), descriptors: 0 };
    for limit in limits {
        let (connections, descriptors) = if limit.is_of_worker {
            let most = room.of_worker_beside(taken, limit.cost);
            taken.connections += limit.number * limit.cost.connections;
            taken.descriptors += limit.number * limit.cost.descriptors;
            most
        } else {
            (room.by_connections(limit.cost), room.by_descriptors(limit.cost))
        };
        if limit.number <= connections.min(descriptors) {
            continue;
        }
        // What nobody has asked for is told once, and is no warning.
        let level = if limit.is_said { Level::Warn } else { Level::Notice };
        if !limit.is_said && std::mem::replace(&mut is_default_said, true) {
            continue;
        }
        let (directive, number, location) = (limit.directive, limit.number, Octets(&limit.location));
        let workers = if limit.is_of_worker { 1 } else { room.workers };
        let processes = if workers == 1 { "worker process has" } else { "worker processes have" };
        let (what, each, most, remedy, value) = if connections <= descriptors {
            ("connection", limit.cost.connections, connections, "worker_connections", room.connections)
        } else {
            ("descriptor", limit.cost.descriptors, descriptors, "worker_rlimit_nofile", room.descriptors)
        };
        let plural = if each == 1 { "" } else { "s" };
        let beside = if limit.is_of_worker {
            ", beside other pools and an eighth of the connections, which clients have"
        } else {
            ""
        };
        log::write(
            log,
            level,
            format_args!(
                "\"{directive}\" of {number} in location \"{location}\" cannot be reached: {workers} {processes} room for {most}, of {each} \
                 {what}{plural} each{beside}, with \"{remedy} {value}\""
            ),
        );
    }
}
