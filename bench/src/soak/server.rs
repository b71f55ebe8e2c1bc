// SPDX-License-Identifier: Apache-2.0

//! The nginx that is watched, and the one in front of it that speaks TLS for those clients that have it.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Server, free_address};
use crate::wire::wrong;

/// Descriptors of a worker besides those of its clients: connections to services, pipes of programs, clients that come after a reload.
pub const OTHERS: u64 = 3000;

/// What is needed to start them.
pub struct Setup {
    /// The nginx binary.
    pub nginx: PathBuf,
    /// The module.
    pub module: PathBuf,
    /// A certificate for 127.0.0.1 and its key.
    pub certificate: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// Where configurations and logs are written.
    pub directory: PathBuf,
}

fn start(setup: &Setup, name: &str, address: SocketAddrV4, configuration: &str) -> io::Result<Server> {
    let prefix = setup.directory.join(name);
    fs::create_dir_all(&prefix)?;
    let prefix = prefix.canonicalize()?;
    let file = prefix.join("nginx.conf");
    let log = log(setup, name);
    if log.exists() {
        fs::remove_file(&log)?;
    }
    fs::write(&file, configuration)?;
    let mut command = Command::new(&setup.nginx);
    command.arg("-p").arg(&prefix).arg("-c").arg(&file).arg("-e").arg("error.log");
    Server::start(command, address).map_err(|error| wrong(format!("{error}; see {}", log.display())))
}

/// The error log of one of them.
pub fn log(setup: &Setup, name: &str) -> PathBuf {
    setup.directory.join(name).join("error.log")
}

fn temporary() -> String {
    let names = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    names.iter().map(|name| format!("{name}_temp_path temp_{name};\n")).collect()
}

/// The part of a configuration that both have, where a process may have so many descriptors.
fn head(workers: u32, most: u64) -> String {
    format!(
        "worker_processes {workers};\nworker_shutdown_timeout 20s;\ndaemon off;\npid nginx.pid;\n\
         error_log error.log warn;\nevents {{ worker_connections {most}; }}\n"
    )
}

/// The nginx that is watched, whose address for TLS is the second result.
///
/// # Errors
/// When it does not start.
pub fn watched(setup: &Setup, descriptors: u64, echo: SocketAddrV4) -> io::Result<(Server, SocketAddrV4)> {
    let (address, tls) = (free_address()?, free_address()?);
    let path = |path: &Path| path.canonicalize().map(|path| path.display().to_string());
    let configuration = format!(
        r"load_module {module};
{head}
http {{
{temporary}
access_log off;
client_body_buffer_size 32k;
keepalive_requests 100000000;
keepalive_timeout 1h;
websocket_channel_zone 64m;
websocket_channel_history length=20 time=60s;
websocket_channel_split -;
websocket_drain 5s;
websocket_exec_max 400;
server {{
    listen {address} backlog=4096 reuseport;
    listen {tls} ssl backlog=4096 reuseport;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location ~ ^/pub/(.+)$ {{ websocket_channel $1 mode=pub; }}
    location ~ ^/brief/(.+)$ {{ websocket_channel $1 mode=pub; websocket_channel_history length=5 time=5s; }}
    location ~ ^/sub/(.+)$ {{ websocket_channel $1; }}
    location ~ ^/deflate/(.+)$ {{ websocket_channel $1; websocket_deflate on; }}
    location ~ ^/both/(.+)$ {{ websocket_channel $1 mode=pubsub; }}
    location ~ ^/shared/(.+)$ {{ websocket_exec cat; websocket_channel $1; }}
    location = /echo {{ websocket_exec cat; }}
    location = /say {{ websocket_exec echo said; }}
    location = /tcp {{ websocket_tcp {echo}; }}
    location = /status {{ websocket_status json; }}
}}
}}
",
        module = path(&setup.module)?,
        head = head(2, descriptors),
        temporary = temporary(),
        certificate = path(&setup.certificate)?,
        key = path(&setup.key)?,
    );
    Ok((start(setup, "watched", address, &configuration)?, tls))
}

/// The one in front, which connects to `tls`.
///
/// # Errors
/// When it does not start.
pub fn front(setup: &Setup, descriptors: u64, tls: SocketAddrV4) -> io::Result<Server> {
    let address = free_address()?;
    let configuration = format!(
        r"{head}
http {{
{temporary}
access_log off;
server {{
    listen {address} backlog=4096;
    location / {{
        proxy_pass https://{tls};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection Upgrade;
        proxy_read_timeout 1h;
    }}
}}
}}
",
        head = head(1, descriptors),
        temporary = temporary(),
    );
    start(setup, "front", address, &configuration)
}

/// Lines of a log that must not be there.
///
/// # Errors
/// When it cannot be read.
pub fn alerts(setup: &Setup) -> io::Result<Vec<String>> {
    let log = fs::read_to_string(log(setup, "watched"))?;
    let levels = ["[error]", "[crit]", "[alert]", "[emerg]"];
    Ok(log.lines().filter(|line| levels.iter().any(|level| line.contains(level))).map(str::to_owned).collect())
}
