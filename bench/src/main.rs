// SPDX-License-Identifier: Apache-2.0

//! `bench [OPTION ...] exec|busy|ws|channel|publish|redis|tcp|cgi|growth|pause ...`: measures and prints Markdown tables.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ngx_ws_exec_bench::figures::{self, Bench, Effort, overview};
use ngx_ws_exec_bench::quiet::Quiet;
use ngx_ws_exec_bench::results::Results;
use ngx_ws_exec_bench::servers::Setup;
use ngx_ws_exec_bench::sys;
use ngx_ws_exec_bench::wire::wrong;

const USAGE: &str = "usage: bench [OPTION ...] exec|busy|ws|channel|publish|redis|tcp|cgi|growth|pause ...
  --module FILE      ngx_ws_exec.so; without it the peers alone are measured
  --nginx FILE       the nginx binary (nginx)
  --nchan FILE       Nchan's module; without it Nchan is left out
  --directory DIR    for configurations and logs (a new one in the system's temporary directory)
  --rounds N         rounds; in each every server is measured once (5)
  --seconds S        time of one measurement (1.0)
  --scale F          part of the connections that the figures ask for (1.0)
  --quiet S          longest wait, before each measurement, for other work on the machine to pause (0)
  --only TEXT        only the rows whose name contains this
  --picture FILE     draws the main figures of this run and of earlier ones in the same directory, of three rounds or more of whole size,
                     once there are all of them; else they are drawn in performance.svg of the directory, and those of shorter runs in
                     trial/performance.svg";

/// What 50,000 subscribers and their server need, each in its own process.
const DESCRIPTORS: u64 = 51_000;

/// What the command line asks for.
struct Task {
    bench: Bench,
    names: Vec<String>,
    picture: Option<PathBuf>,
}

fn parse(arguments: impl Iterator<Item = String>) -> io::Result<Task> {
    let mut bench = Bench {
        setup: Setup {
            nginx: "nginx".into(),
            module: None,
            nchan: None,
            directory: env::temp_dir().join("ngx_ws_exec_bench"),
        },
        effort: Effort { rounds: 5, duration: Duration::from_secs(1), scale: 1.0, quiet: Quiet::default() },
        only: None,
        results: Results::default(),
    };
    let (mut names, mut picture) = (Vec::new(), None);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| wrong(format!("{argument} needs a value")));
        let number = |value: String| {
            let number = value.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
            number.ok_or_else(|| wrong(format!("not a number above 0: {value}")))
        };
        match argument.as_str() {
            "--module" => bench.setup.module = Some(PathBuf::from(value()?).canonicalize()?),
            "--nginx" => bench.setup.nginx = value()?.into(),
            "--nchan" => bench.setup.nchan = Some(PathBuf::from(value()?).canonicalize()?),
            "--directory" => bench.setup.directory = value()?.into(),
            "--rounds" => bench.effort.rounds = number(value()?)?.ceil() as u32,
            "--seconds" => bench.effort.duration = Duration::from_secs_f64(number(value()?)?),
            "--scale" => bench.effort.scale = number(value()?)?,
            "--quiet" => bench.effort.quiet.patience = Duration::from_secs_f64(number(value()?)?),
            "--picture" => picture = Some(PathBuf::from(value()?)),
            "--only" => bench.only = Some(value()?),
            name if figures::NAMES.contains(&name) => names.push(name.to_owned()),
            other => return Err(wrong(format!("unknown: {other}"))),
        }
    }
    if names.is_empty() && picture.is_none() {
        return Err(wrong("nothing to measure"));
    }
    Ok(Task { bench, names, picture })
}

/// Draws the main figures that were kept.
fn draw(bench: &Bench, picture: PathBuf) -> io::Result<()> {
    let kept = figures::kept_in(&bench.setup, &bench.effort);
    let Some((svg, has_all)) = overview::svg(&kept) else { return Ok(()) };
    // What measures a part of the figures does not take the others out of the picture.
    let path = if bench.effort.is_whole() && has_all { picture } else { kept.join("performance.svg") };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, svg)?;
    eprintln!("drawn: {}", path.display());
    Ok(())
}

fn main() -> ExitCode {
    if env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Task { bench, names, picture } = match parse(env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("bench: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match sys::raise_descriptor_limit(DESCRIPTORS) {
        Ok(limit) if limit >= DESCRIPTORS => {}
        Ok(limit) => eprintln!("bench: only {limit} descriptors may be open, the larger figures need {DESCRIPTORS}"),
        Err(error) => eprintln!("bench: the limit on open descriptors stays as it is: {error}"),
    }
    let mut code = ExitCode::SUCCESS;
    for name in names {
        eprintln!("{name}:");
        if let Err(error) = figures::run(&name, &bench) {
            eprintln!("bench: {name}: {error}");
            code = ExitCode::FAILURE;
        }
    }
    if let Some(picture) = picture
        && let Err(error) = draw(&bench, picture)
    {
        eprintln!("bench: the picture: {error}");
        code = ExitCode::FAILURE;
    }
    for line in bench.setup.alerts().unwrap_or_default() {
        eprintln!("bench: in nginx's log: {line}");
        code = ExitCode::FAILURE;
    }
    code
}
