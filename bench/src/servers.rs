// SPDX-License-Identifier: Apache-2.0

//! The servers that are measured: how each is configured and started.

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{Server, free_address};
use crate::sys;
use crate::wire::wrong;

/// Where the programs are found and files may be written.
pub struct Setup {
    /// The nginx binary.
    pub nginx: PathBuf,
    /// The module; none measures the peers alone.
    pub module: Option<PathBuf>,
    /// Nchan's module; none leaves Nchan out.
    pub nchan: Option<PathBuf>,
    /// A directory of the benchmark's own for configurations and logs.
    pub directory: PathBuf,
}

/// An nginx with a configuration of its own.
pub struct Nginx<'a> {
    /// The module that is loaded.
    pub module: &'a Path,
    /// `worker_processes`; with several, each has a listening socket of its own, so that connections spread.
    pub workers: u32,
    /// Lines for the `http` block.
    pub http: &'a str,
    /// Locations of the one server.
    pub locations: &'a str,
}

/// `worker_connections`, where a figure needs no more.
pub const CONNECTIONS: usize = 16_000;

static RUN: AtomicU32 = AtomicU32::new(0);

/// Workers that a figure has killed, of which nginx says so in its log.
static KILLED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Kills the workers of an nginx as the kernel does when memory is short.
///
/// # Errors
/// When they cannot be found or are gone.
pub fn kill_workers(nginx: &Server) -> io::Result<()> {
    for pid in nginx.workers()? {
        if let Ok(mut killed) = KILLED.lock() {
            killed.push(pid);
        }
        sys::kill(pid, libc::SIGKILL)?;
    }
    Ok(())
}

/// Whether a line of nginx's log must not be there, where these workers were killed.
fn is_bad(line: &str, killed: &[u32]) -> bool {
    let is_wanted = |pid: &u32| line.ends_with(&format!("worker process {pid} exited on signal 9"));
    let levels = ["[error]", "[crit]", "[alert]", "[emerg]"];
    levels.iter().any(|level| line.contains(level)) && !killed.iter().any(is_wanted)
}

impl Setup {
    /// The module, if there is one and it has this directive.
    ///
    /// # Errors
    /// When the module cannot be read.
    pub fn module_with(&self, directive: &str) -> io::Result<Option<&Path>> {
        let Some(module) = &self.module else { return Ok(None) };
        if fs::read(module)?.windows(directive.len()).any(|octets| octets == directive.as_bytes()) {
            return Ok(Some(module));
        }
        eprintln!("bench: {} has no {directive}: measured without it", module.display());
        Ok(None)
    }

    /// Starts an nginx.
    ///
    /// # Errors
    /// When it does not start; its log says why.
    pub fn nginx(&self, nginx: &Nginx<'_>) -> io::Result<Server> {
        self.nginx_for(CONNECTIONS, nginx)
    }

    /// Starts an nginx whose workers may have so many connections.
    ///
    /// # Errors
    /// When it does not start; its log says why.
    pub fn nginx_for(&self, connections: usize, nginx: &Nginx<'_>) -> io::Result<Server> {
        let address = free_address()?;
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let prefix = self.directory.join(format!("{}-{run}", process::id()));
        fs::create_dir_all(&prefix)?;
        let prefix = prefix.canonicalize()?;
        let configuration = prefix.join("nginx.conf");
        fs::write(&configuration, nginx.configuration(address, connections))?;
        let mut command = Command::new(&self.nginx);
        command.arg("-p").arg(&prefix).arg("-c").arg(&configuration).arg("-e").arg(prefix.join("error.log"));
        Server::start(command, address)
            .map_err(|error| io::Error::other(format!("{error}; see {}", prefix.join("error.log").display())))
    }

    /// Lines of nginx's logs that must not be there in normal operation.
    ///
    /// # Errors
    /// When the logs cannot be read.
    pub fn alerts(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        let killed = KILLED.lock().map(|killed| killed.clone()).unwrap_or_default();
        for run in 0..RUN.load(Ordering::Relaxed) {
            let log = self.directory.join(format!("{}-{run}/error.log", process::id()));
            let log = fs::read_to_string(log).unwrap_or_default();
            found.extend(log.lines().filter(|line| is_bad(line, &killed)).map(str::to_owned));
        }
        Ok(found)
    }
}

impl Nginx<'_> {
    fn configuration(&self, address: SocketAddrV4, connections: usize) -> String {
        let Self { module, workers, http, locations } = self;
        let spread = if *workers > 1 { " reuseport" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("    {name}_temp_path temp_{name};\n"))
            .collect();
        format!(
            "load_module {};\nworker_processes {workers};\ndaemon off;\npid nginx.pid;\n\
             error_log error.log warn;\nevents {{ worker_connections {connections}; }}\nhttp {{\n    access_log off;\n\
             {temporary}    keepalive_requests 100000000;\n    keepalive_timeout 1h;\n{http}\n\
             server {{\n    listen {address} backlog=4096{spread};\n{locations}\n}}\n}}\n",
            module.display()
        )
    }
}

/// Starts websocketd with a program for each connection.
///
/// # Errors
/// When it does not start.
pub fn websocketd(options: &[&str], program: &[&str]) -> io::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new("websocketd");
    command.arg(format!("--port={}", address.port())).arg("--address=127.0.0.1").arg("--loglevel=fatal");
    command.args(options).args(program);
    Server::start(command, address)
}

/// Starts websockify in front of `service`.
///
/// # Errors
/// When it does not start.
pub fn websockify(service: SocketAddrV4) -> io::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new("websockify");
    command.arg(address.to_string()).arg(service.to_string()).stderr(process::Stdio::null());
    Server::start(command, address)
}

/// Starts fcgiwrap with so many processes.
///
/// # Errors
/// When it does not start.
pub fn fcgiwrap(processes: usize) -> io::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new("fcgiwrap");
    command.arg("-c").arg(processes.to_string()).arg("-s").arg(format!("tcp:{address}"));
    Server::start(command, address)
}

/// Starts one of the benchmark's own servers, which are built beside it.
///
/// # Errors
/// When it does not start.
pub fn bare(name: &str, arguments: &[&str]) -> io::Result<Server> {
    let address = free_address()?;
    let here = env::current_exe()?;
    let path = here.parent().ok_or_else(|| wrong("no directory"))?.join(name);
    let mut command = Command::new(path);
    command.arg(address.to_string()).args(arguments);
    Server::start(command, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_was_killed_for_a_figure_is_no_alert() {
        let line = "2026/01/01 00:00:00 [alert] 7#7: worker process 78 exited on signal 9";
        assert!(!is_bad(line, &[77, 78]));
        assert!(is_bad(line, &[7, 8]));
        assert!(is_bad("[alert] 7#7: worker process 78 exited on signal 11", &[78]));
        assert!(!is_bad("2026/01/01 00:00:00 [warn] 7#7: low", &[]));
    }
}
