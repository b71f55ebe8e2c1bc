// SPDX-License-Identifier: Apache-2.0

//! `ws-exec PROGRAM`: a program over WebSockets by one command. It writes the configuration of an nginx with the module
//! ngx_ws_exec, runs it in the foreground as the calling user, and leaves nothing when it ends.

mod config;
mod helper;
mod options;
mod quote;
mod serve;
mod system;
mod tagged;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use config::Surroundings;
use options::{Invocation, Options, Refusal};

const HELP: &str = include_str!("help.txt");

const USAGE: &str = "Usage: ws-exec [options] COMMAND [command args]
       ws-exec [options] --dir=SOMEDIR
ws-exec --help tells the options.
";

/// Files that a worker may open: more than that needs an nginx that was configured with care.
const MAX_FILES: u64 = 65536;

const MAX_WORKERS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == tagged::FLAG) {
        let command: Vec<OsString> = arguments.skip(1).collect();
        return ExitCode::from(tagged::run(&command));
    }
    match options::parse(arguments) {
        Ok(Invocation::Help) => print(HELP.as_bytes()),
        Ok(Invocation::Version) => print(format!("ws-exec {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        Ok(Invocation::License) => {
            print(format!("ws-exec {}\n{}", env!("CARGO_PKG_VERSION"), include_str!("../../LICENSE")).as_bytes())
        }
        Ok(Invocation::Serve(options)) => match serve(*options) {
            Ok(status) => ExitCode::from(status),
            Err(message) => {
                eprintln!("ws-exec: {message}");
                ExitCode::from(1)
            }
        },
        Err(Refusal { message, status }) => {
            eprint!("ws-exec: {message}\n{USAGE}");
            ExitCode::from(status)
        }
    }
}

fn print(text: &[u8]) -> ExitCode {
    io::stdout().write_all(text).ok();
    ExitCode::SUCCESS
}

fn serve(mut options: Options) -> Result<u8, String> {
    let current_dir = env::current_dir().map_err(|error| format!("the current directory: {error}"))?;
    for (directory, flag) in
        [(&options.script_dir, "dir"), (&options.static_dir, "staticdir"), (&options.cgi_dir, "cgidir")]
    {
        if let Some(directory) = directory
            && !directory.is_dir()
        {
            return Err(format!("your --{flag} '{}' is not pointing to an accessible directory", directory.display()));
        }
    }
    if let Some(program) = options.command.first_mut() {
        *program = find_program(program, &current_dir)?.into_os_string();
    }
    let own_path = env::current_exe().map_err(|error| format!("this command itself: {error}"))?;
    let nginx = serve::find_nginx(&options);
    let module = serve::find_module(&options, nginx.as_deref().ok(), &own_path);
    let around = Surroundings {
        module: module.as_ref().ok().cloned(),
        current_dir,
        own_path,
        is_root: system::is_root(),
        has_ipv6: fs::metadata("/proc/net/if_inet6").is_ok(),
        workers: thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS),
        files: system::max_files().clamp(64, MAX_FILES),
        helper_socket: PathBuf::from("/run/ws-exec/helper.sock"),
        environment: config::passed_on(&options.pass_env, |name| env::var_os(name)),
    };
    if options.print_config {
        let around =
            Surroundings { module: Some(module.unwrap_or_else(|_| "modules/ngx_ws_exec.so".into())), ..around };
        let mut text = config::write(&options, &around)?;
        if config::needs_helper(&options) {
            text.splice(
                0..0,
                *b"# helper.sock is answered by ws-exec itself: it stands for a CGI server of your own.\n",
            );
        }
        print(&text);
        return Ok(0);
    }
    let nginx = nginx?;
    if let Err(message) = module {
        // It may be linked into nginx, which then takes the configuration as it is.
        if !is_linked(&nginx) {
            return Err(message);
        }
    }
    serve::run(&options, &nginx, around)
}

/// Whether nginx was configured with modules of others in it.
fn is_linked(nginx: &Path) -> bool {
    let said = std::process::Command::new(nginx).arg("-V").env_remove("NGINX").output();
    said.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("--add-module="))
}

/// The program as an absolute path: one with a slash from the current directory, one without in `PATH`.
fn find_program(name: &OsString, current_dir: &Path) -> Result<PathBuf, String> {
    use std::os::unix::ffi::OsStrExt;

    let is_program = |path: &PathBuf| path.is_file() && system::is_executable(path);
    if name.as_bytes().contains(&b'/') {
        let path = current_dir.join(name);
        return is_program(&path).then_some(path).ok_or_else(|| format!("unable to locate specified COMMAND {name:?}"));
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let mut found = env::split_paths(&folders).map(|folder| current_dir.join(folder).join(name));
    found.find(is_program).ok_or_else(|| format!("unable to locate specified COMMAND {name:?} in OS path"))
}
