// SPDX-License-Identifier: Apache-2.0

//! A mixed load on one nginx for a long time, and whether anything grows. `scripts/soak.sh` starts it.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ngx_ws_exec_bench::soak::server::Setup;
use ngx_ws_exec_bench::soak::{self, Plan};
use ngx_ws_exec_bench::wire::wrong;

const USAGE: &str = "usage: soak OPTION ...
  --module FILE        ngx_ws_exec.so
  --nginx FILE         the nginx binary
  --certificate FILE   a certificate, and
  --key FILE           its key, for the clients with TLS
  --directory DIR      for configurations, logs, soak.csv and soak.svg
  --hours N            how long
  --connections N      clients at one time (10000)
  --seed N             determines what they do (1)
  --reloads N          minutes between reloads (30)
  --judge N            minutes that the second half needs for its slopes to count (10)";

fn parse(arguments: impl Iterator<Item = String>) -> io::Result<(Setup, Plan)> {
    let mut setup = Setup {
        nginx: "nginx".into(),
        module: PathBuf::new(),
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        directory: PathBuf::new(),
    };
    let mut plan = Plan {
        duration: Duration::ZERO,
        connections: 10_000,
        seed: 1,
        reloads: Duration::from_secs(30 * 60),
        judged: Duration::from_secs(10 * 60),
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| wrong(format!("{argument} needs a value")))?;
        let times = |seconds: f64| {
            let number = value.parse::<f64>().ok().filter(|number| *number > 0.0);
            let time = number.and_then(|number| Duration::try_from_secs_f64(number * seconds).ok());
            time.ok_or_else(|| wrong(format!("{argument} {value} is no time above 0")))
        };
        match argument.as_str() {
            "--module" => setup.module = value.into(),
            "--nginx" => setup.nginx = value.into(),
            "--certificate" => setup.certificate = value.into(),
            "--key" => setup.key = value.into(),
            "--directory" => setup.directory = value.into(),
            "--hours" => plan.duration = times(3600.0)?,
            "--reloads" => plan.reloads = times(60.0)?,
            "--judge" => plan.judged = times(60.0)?,
            "--seed" => plan.seed = value.parse().map_err(|_| wrong(format!("--seed {value} is no number")))?,
            "--connections" => {
                let number = value.parse().ok().filter(|number| (100..=200_000).contains(number));
                plan.connections = number.ok_or_else(|| wrong("--connections is from 100 to 200000"))?;
            }
            _ => return Err(wrong(format!("unknown: {argument}"))),
        }
    }
    if plan.duration < Duration::from_secs(60) {
        return Err(wrong("--hours: at least a minute"));
    }
    Ok((setup, plan))
}

fn main() -> ExitCode {
    let (setup, plan) = match parse(env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("soak: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match soak::run(&setup, &plan) {
        Ok(judgement) => {
            for line in &judgement.lines {
                println!("{line}");
            }
            for failure in &judgement.failures {
                println!("FAILED: {failure}");
            }
            println!("{0}/soak.csv, {0}/soak.svg", setup.directory.display());
            if judgement.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
