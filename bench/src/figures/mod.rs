// SPDX-License-Identifier: Apache-2.0

//! The figures: what is measured, against whom, and what is to be reached.

pub mod busy;
pub mod cgi;
pub mod channel;
pub mod exec;
pub mod growth;
pub mod overview;
pub mod pause;
pub mod publish;
pub mod redis;
pub mod tcp;
pub mod ws;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::quiet::Quiet;
use crate::results::Results;
use crate::servers::Setup;
use crate::wire::wrong;

/// How long and how often to measure.
pub struct Effort {
    /// Rounds; in each, every server is measured once, one after the other.
    pub rounds: u32,
    /// Time of one measurement.
    pub duration: Duration,
    /// Part of the number of connections that the figures ask for, to try things out.
    pub scale: f64,
    /// Waits for other work to pause before each measurement.
    pub quiet: Quiet,
}

impl Effort {
    /// A number of connections, scaled.
    pub fn scaled(&self, connections: usize) -> usize {
        ((connections as f64 * self.scale) as usize).max(1)
    }

    /// Whether the figures of such a run are more than a trial.
    pub fn is_whole(&self) -> bool {
        self.rounds >= 3 && self.duration >= Duration::from_secs(1) && self.scale >= 1.0
    }

    /// Time before a measurement.
    pub fn warm_up(&self) -> Duration {
        self.duration / 5
    }
}

/// What every figure is given.
pub struct Bench {
    /// Where programs are.
    pub setup: Setup,
    /// How long to measure.
    pub effort: Effort,
    /// Only rows whose name contains this.
    pub only: Option<String>,
    /// What was measured, for the picture.
    pub results: Results,
}

impl Bench {
    /// The row is wanted.
    pub fn wants(&self, work: &str) -> bool {
        self.only.as_ref().is_none_or(|only| work.contains(only.as_str()))
    }
}

/// Where figures of a run with this effort are kept.
pub fn kept_in(setup: &Setup, effort: &Effort) -> PathBuf {
    if effort.is_whole() { setup.directory.clone() } else { setup.directory.join("trial") }
}

/// What [`run`] knows.
pub const NAMES: [&str; 10] = ["exec", "busy", "ws", "channel", "publish", "redis", "tcp", "cgi", "growth", "pause"];

/// Measures one figure and prints its table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(name: &str, bench: &Bench) -> io::Result<()> {
    match name {
        "exec" => exec::run(bench)?,
        "busy" => busy::run(bench)?,
        "ws" => ws::run(bench)?,
        "channel" => channel::run(bench)?,
        "publish" => publish::run(bench)?,
        "redis" => redis::run(bench)?,
        "tcp" => tcp::run(bench)?,
        "cgi" => cgi::run(bench)?,
        "growth" => growth::run(bench)?,
        "pause" => pause::run(bench)?,
        other => return Err(wrong(format!("unknown: {other}"))),
    }
    bench.results.keep(&kept_in(&bench.setup, &bench.effort), name)?;
    if let Some(report) = bench.effort.quiet.report() {
        println!("{report}\n");
    }
    Ok(())
}
