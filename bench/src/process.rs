// SPDX-License-Identifier: Apache-2.0

//! Server processes: starting and ending them, their CPU time and memory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys;

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// A server that was started for a measurement. Dropping it ends it: SIGTERM, then SIGKILL.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddrV4,
}

/// One process below a server.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub pid: u32,
    executable: Option<PathBuf>,
}

impl Server {
    /// Starts `command` and waits until `address` accepts connections.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not listen in time.
    pub fn start(mut command: Command, address: SocketAddrV4) -> io::Result<Self> {
        sys::as_service(&mut command);
        // nginx takes a variable of this name for sockets that it inherits.
        command.env_remove("NGINX").stdin(Stdio::null()).stdout(Stdio::null());
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        let mut server = Self { child, address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("{name} ended at once: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{name} does not listen on {address}")));
            }
            thread::sleep(POLL);
        }
        Ok(server)
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Every process of the server: the one that was started and all below it. A spawner is below its worker: its parent is a
    /// guard, which is a child of the worker.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn tree(&self) -> io::Result<Vec<Member>> {
        tree(self.child.id())
    }

    /// nginx's workers that have not been told to go, in the order of their numbers.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn workers(&self) -> io::Result<Vec<u32>> {
        let pids = self.tree()?.into_iter().map(|member| member.pid);
        Ok(pids.filter(|&pid| is_worker(&title(pid))).collect())
    }

    /// Waits until nginx has these workers only that it had not before, and all others have been told to go or have ended.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or they do not come.
    pub fn wait_for_workers_beside(&self, before: &[u32]) -> io::Result<Vec<u32>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let workers = self.workers()?;
            if !workers.is_empty() && workers.iter().all(|pid| !before.contains(pid)) {
                return Ok(workers);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("no new worker begins"));
            }
            thread::sleep(POLL);
        }
    }

    /// The processes that run the server's own executable, thus without the programs that it has started. Those of which only root
    /// may see that (workers and spawners of a server that has programs) are no programs, which anybody may look at who has
    /// started them.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn own(&self) -> io::Result<Vec<u32>> {
        let tree = self.tree()?;
        let own = tree.iter().find(|member| member.pid == self.child.id()).and_then(|root| root.executable.clone());
        let is_own = |member: &Member| member.executable.is_none() || member.executable == own;
        Ok(tree.into_iter().filter(is_own).map(|member| member.pid).collect())
    }

    /// Waits until no program that the server has started is left, for a bounded time.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or programs stay.
    pub fn wait_until_alone(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let own = self.own()?;
            let programs: Vec<Member> = self.tree()?.into_iter().filter(|member| !own.contains(&member.pid)).collect();
            if programs.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("programs do not end: {programs:?}")));
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that has ended already needs no signal.
        let _ = sys::kill(self.child.id(), libc::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(POLL);
        }
    }
}

/// Fields of `/proc/<pid>/stat` from the third on, which is where the process name, that may hold anything, is over.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// What a process is called by `ps`.
pub fn title(pid: u32) -> String {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&title).trim_end_matches('\0').to_owned()
}

/// Whether a process of this title is a worker of nginx's that serves.
fn is_worker(title: &str) -> bool {
    title == "nginx: worker process"
}

/// Process `root` and all below it.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn tree(root: u32) -> io::Result<Vec<Member>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(fields) = stat_fields(pid) else { continue };
        // A zombie has ended.
        if fields.first().is_some_and(|state| state != "Z")
            && let Some(parent) = fields.get(1).and_then(|field| field.parse::<u32>().ok())
        {
            parents.insert(pid, parent);
        }
    }
    let below = |mut pid: u32| {
        while pid != root {
            match parents.get(&pid) {
                Some(&parent) => pid = parent,
                None => return false,
            }
        }
        true
    };
    let members = parents.keys().copied().filter(|&pid| below(pid));
    Ok(members.map(|pid| Member { pid, executable: executable(pid) }).collect())
}

/// Sum of the CPU times of `pids`; processes that have ended count nothing.
pub fn cpu_time(pids: &[u32]) -> Duration {
    pids.iter().filter_map(|&pid| sys::cpu_time(pid).ok()).sum()
}

/// CPU time of the children that `pids` have waited for, and of their children (`cutime + cstime`), in whole clock ticks.
pub fn reaped_time(pids: &[u32]) -> Duration {
    let field = |fields: &[String], at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let ticks: u64 =
        pids.iter().filter_map(|&pid| stat_fields(pid)).map(|fields| field(&fields, 13) + field(&fields, 14)).sum();
    Duration::from_micros(ticks * 1_000_000 / sys::ticks_per_second())
}

/// Memory of `pids` in bytes that is not backed by a file: their own, and their part of what they share with each other or with
/// their relatives. Files are left out, because how many other processes map a library has nothing to do with the server.
///
/// # Errors
/// When a process has ended or may not be looked at.
pub fn memory(pids: &[u32]) -> io::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        for field in ["Pss_Anon:", "Pss_Shmem:"] {
            let kilobytes = rollup
                .lines()
                .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
                .ok_or_else(|| io::Error::other(format!("no {field} in smaps_rollup")))?;
            sum += kilobytes * 1024;
        }
    }
    Ok(sum)
}

/// A loopback address with a port that is free now.
///
/// # Errors
/// When there is none.
pub fn free_address() -> io::Result<SocketAddrV4> {
    let probe = sys::listen(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, probe.local_addr()?.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_known_by_its_title() {
        assert!(is_worker("nginx: worker process"));
        for other in ["nginx: worker process is shutting down", "nginx: master process nginx -p /", "", "cat"] {
            assert!(!is_worker(other), "{other}");
        }
    }
}
