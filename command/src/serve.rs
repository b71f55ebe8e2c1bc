// SPDX-License-Identifier: Apache-2.0

//! Runs nginx in a directory of its own until it is told to end, and leaves nothing.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{self, Surroundings};
use crate::helper::Helper;
use crate::options::{LogLevel, Options};
use crate::system::{self, Stop};

/// How long nginx may take to begin to listen: it tries a port that is taken for 2.5 s.
const START: Duration = Duration::from_secs(30);

/// How long a graceful end may take before it becomes a quick one. Clients are told within a second.
const GRACE: Duration = Duration::from_secs(5);

/// How long is waited for programs in addition to what they are given before they are killed.
const LEFT_OVER: Duration = Duration::from_secs(5);

/// Says something on standard output, which may be closed.
fn say(text: &str) {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).ok();
}

/// The directory of one run, which goes with it.
struct RunDirectory(PathBuf);

impl RunDirectory {
    fn new() -> Result<Self, String> {
        let parent = env::temp_dir();
        system::make_directory(&parent)
            .map(Self)
            .map_err(|error| format!("no directory in {}: {error}", parent.display()))
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// nginx: in `PATH`, or where systems have what is for root.
pub fn find_nginx(options: &Options) -> Result<PathBuf, String> {
    if let Some(named) = options.nginx.clone().or_else(|| env::var_os("WS_EXEC_NGINX").map(PathBuf::from)) {
        return if system::is_executable(&named) {
            Ok(named)
        } else {
            Err(format!("{} is no program that can be executed", named.display()))
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let elsewhere = ["/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin"].map(PathBuf::from);
    let found = env::split_paths(&path)
        .chain(elsewhere)
        .map(|folder| folder.join("nginx"))
        .find(|file| system::is_executable(file));
    found.ok_or_else(|| "nginx is not installed, or not in PATH; --nginx names it".to_owned())
}

/// The module: where this command was installed beside it, where it was built, or in nginx's own folder.
pub fn find_module(options: &Options, nginx: Option<&Path>, own_path: &Path) -> Result<PathBuf, String> {
    if let Some(named) = options.module.clone().or_else(|| env::var_os("WS_EXEC_MODULE").map(PathBuf::from)) {
        let absolute = env::current_dir().map(|folder| folder.join(&named)).unwrap_or(named);
        return if absolute.is_file() { Ok(absolute) } else { Err(format!("{} is no file", absolute.display())) };
    }
    const FILE: &str = "ngx_ws_exec.so";
    let beside = own_path.parent().unwrap_or(Path::new("/"));
    let mut places = vec![beside.join("../lib/nginx/modules").join(FILE), beside.join("..").join(FILE)];
    if let Some(nginx) = nginx {
        let said = Command::new(nginx).arg("-V").env_remove("NGINX").stdin(Stdio::null()).output();
        let said = said.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
        let told = |option: &str| said.split_whitespace().find_map(|word| word.strip_prefix(option)).map(PathBuf::from);
        let prefix = told("--prefix=").unwrap_or_else(|| "/usr/local/nginx".into());
        places.push(prefix.join(told("--modules-path=").unwrap_or_else(|| "modules".into())).join(FILE));
    }
    places.push(Path::new("/usr/lib/nginx/modules").join(FILE));
    let found = places.iter().find(|place| place.is_file()).and_then(|place| fs::canonicalize(place).ok());
    found.ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        format!("the module is in none of {}; --module names it", places.join(", "))
    })
}

/// Serves until a signal says that it is enough. The status is the one to end with.
///
/// # Errors
///
/// What keeps nginx from starting, for the person who has given the command.
pub fn run(options: &Options, nginx: &Path, mut around: Surroundings) -> Result<u8, String> {
    system::hold_signals();
    let directory = RunDirectory::new()?;
    let prefix = directory.0.as_path();
    let fail = |what: &str, error: io::Error| format!("{what}: {error}");

    around.helper_socket = prefix.join("helper.sock");
    if config::needs_helper(options) {
        let listener = UnixListener::bind(&around.helper_socket).map_err(|error| fail("the helper's socket", error))?;
        let cgi_dir = options.cgi_dir.as_ref().map(|folder| around.current_dir.join(folder));
        Helper::new(cgi_dir, around.environment.clone(), options.max_forks).serve(listener);
    }
    let log = prefix.join("access.log");
    system::make_fifo(&log).map_err(|error| fail("the log's pipe", error))?;
    // Open for both directions, so that it neither blocks here nor ends when nginx opens it anew.
    let lines = OpenOptions::new().read(true).write(true).open(&log).map_err(|error| fail("the log's pipe", error))?;
    thread::spawn(move || relay(lines));

    let file = prefix.join("nginx.conf");
    let write = |around: &Surroundings| -> Result<(), String> {
        let text = config::write(options, around)?;
        fs::write(&file, text).map_err(|error| fail("nginx.conf", error))
    };
    if let Some(socket) = &options.unix_socket {
        remove_stale_socket(&around.current_dir.join(socket))?;
    }
    write(&around)?;
    if let Err(said) = test(nginx, prefix) {
        if !said.contains("is already loaded") {
            return Err(said);
        }
        around.module = None;
        write(&around)?;
        test(nginx, prefix)?;
    }

    let mut command = command(nginx, prefix);
    // What is typed at the terminal is for this process, which tells nginx in an order of its own.
    command.process_group(0).stdin(Stdio::null());
    system::with_default_signals(&mut command);
    system::ends_with_parent(&mut command);
    let mut child = command.spawn().map_err(|error| fail(&nginx.display().to_string(), error))?;
    let result = supervise(options, &mut child, prefix);
    if let Some(socket) = &options.unix_socket {
        fs::remove_file(around.current_dir.join(socket)).ok();
    }
    result
}

fn command(nginx: &Path, prefix: &Path) -> Command {
    let mut command = Command::new(nginx);
    command.arg("-p").arg(prefix).arg("-c").arg(prefix.join("nginx.conf")).args(["-e", "stderr"]);
    // An nginx that finds this takes it for a list of inherited sockets.
    command.env_remove("NGINX");
    command
}

/// What nginx says of the configuration if it does not take it.
fn test(nginx: &Path, prefix: &Path) -> Result<(), String> {
    let mut command = command(nginx, prefix);
    command.args(["-t", "-q"]).stdin(Stdio::null());
    system::with_default_signals(&mut command);
    let output = command.output().map_err(|error| format!("{}: {error}", nginx.display()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()) }
}

/// A socket that nobody listens on is in the way of one that somebody would.
fn remove_stale_socket(path: &Path) -> Result<(), String> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    if UnixStream::connect(path).is_ok() {
        return Err(format!("socket {} is already in use by a running server", path.display()));
    }
    fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Prints the lines of the log.
fn relay(lines: File) {
    let mut lines = BufReader::new(lines);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
        say(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

fn supervise(options: &Options, child: &mut Child, prefix: &Path) -> Result<u8, String> {
    let deadline = Instant::now() + START;
    let pid = prefix.join("nginx.pid");
    let mut told = options.log_level > LogLevel::Info;
    let mut stopping: Option<Instant> = None;
    let mut next = Stop::Quit;
    loop {
        if !told && fs::metadata(&pid).is_ok_and(|file| file.len() > 0) {
            told = true;
            config::addresses(options).iter().for_each(|address| say(&format!("{address}\n")));
        }
        let pause = if told && stopping.is_none() { 3_600_000 } else { 20 };
        let signal = system::wait_for_signal(Duration::from_millis(pause));
        if signal.is_some_and(|signal| !system::is_child_signal(signal)) {
            system::adopt_descendants();
            stopping.get_or_insert_with(Instant::now);
            system::stop(child.id(), next);
            next = match next {
                Stop::Quit => Stop::Terminate,
                Stop::Terminate | Stop::Kill => Stop::Kill,
            };
        }
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            if stopping.is_none() {
                // nginx has said why.
                return Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1).max(1));
            }
            await_descendants(options);
            return Ok(0);
        }
        if stopping.is_some_and(|since| since.elapsed() > GRACE) {
            system::stop(child.id(), next);
            (stopping, next) = (Some(Instant::now()), Stop::Kill);
        }
        if !told && stopping.is_none() && Instant::now() > deadline {
            system::stop(child.id(), Stop::Kill);
            child.wait().ok();
            return Err("nginx does not begin to listen".to_owned());
        }
    }
}

/// Programs get their time to end, which those that have started them see to. This is bounded: a program may hang in the system.
fn await_descendants(options: &Options) {
    let given = Duration::from_millis(options.close_ms.saturating_mul(3).saturating_add(850));
    let deadline = Instant::now() + given.saturating_add(LEFT_OVER);
    while system::reap() && Instant::now() < deadline {
        system::wait_for_signal(Duration::from_millis(20));
    }
}
