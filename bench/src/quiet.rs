// SPDX-License-Identifier: Apache-2.0

//! Waiting for other work on the machine to pause.

use std::cell::Cell;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

const SAMPLE: Duration = Duration::from_millis(100);
/// Part of all processors' time that may be in use on a quiet machine.
const QUIET: f64 = 0.15;

/// Times of the whole machine in ticks: in use, and all.
fn machine() -> io::Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of these.
    let all: u64 = fields.iter().take(8).sum();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}

/// Keeps measurements away from other load, as far as a bounded time allows.
#[derive(Default)]
pub struct Quiet {
    /// Longest wait for one measurement.
    pub patience: Duration,
    measurements: Cell<u32>,
    busy: Cell<u32>,
}

impl Quiet {
    /// Waits until the machine is quiet, at most [`Self::patience`].
    ///
    /// # Errors
    /// When `/proc/stat` cannot be read.
    pub fn wait(&self) -> io::Result<()> {
        let deadline = Instant::now() + self.patience;
        self.measurements.set(self.measurements.get() + 1);
        loop {
            let (busy, all) = machine()?;
            thread::sleep(SAMPLE);
            let (busy_then, all_then) = machine()?;
            let part = (busy_then - busy) as f64 / (all_then - all).max(1) as f64;
            if part <= QUIET {
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.busy.set(self.busy.get() + 1);
                return Ok(());
            }
        }
    }

    /// How many of the measurements since the last call began on a busy machine, in words; nothing when none did.
    pub fn report(&self) -> Option<String> {
        let (measurements, busy) = (self.measurements.take(), self.busy.take());
        (busy > 0).then(|| {
            format!(
                "{busy} of {measurements} measurements began while other work took more than {:.0}% of the machine.",
                QUIET * 100.0
            )
        })
    }
}
