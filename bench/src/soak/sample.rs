// SPDX-License-Identifier: Apache-2.0

//! What a server has at one time: memory, descriptors, processes, and the zone of its channels.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::http;
use crate::process::{self, Member};
use crate::wire::wrong;

/// At most so many samples are kept; then every second one goes, and what is between two of them doubles.
const MOST: usize = 2000;

/// What processes of one role have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Role {
    /// How many they are.
    pub processes: u32,
    /// Octets of memory that each of them has for itself.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// What was found at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The master.
    pub master: Role,
    /// The workers, those that are leaving included.
    pub workers: Role,
    /// Spawners, and what stands between them and workers.
    pub spawners: Role,
    /// Programs.
    pub programs: u32,
    /// Octets of the zone that are in use.
    pub zone: u64,
    /// Channels.
    pub channels: u64,
    /// Stored messages.
    pub stored: u64,
    /// CPU time of the server so far.
    pub cpu: Duration,
}

/// A sample.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Seconds since the load began.
    pub time: f64,
    /// How many reloads there were before.
    pub reloads: u32,
    /// Not so soon after the beginning or a reload that what is there still comes to its size.
    pub is_settled: bool,
    /// Clients.
    pub clients: usize,
    /// CPU, in parts of one core, since the sample before.
    pub cpu: f64,
    /// Milliseconds of the median publication of the probe until its delivery.
    pub median: f64,
    /// The same of 99 %.
    pub p99: f64,
    /// What was found.
    pub found: Found,
}

/// Samples of a whole run, at most [`MOST`] of them.
pub struct Samples {
    /// In the order of time.
    pub all: Vec<Sample>,
    /// How far two of them are apart.
    pub interval: Duration,
}

impl Samples {
    /// None, of which the first ones will be so far apart.
    pub fn new(interval: Duration) -> Self {
        Self { all: Vec::new(), interval }
    }

    /// Adds one. True where they are further apart from now on.
    pub fn add(&mut self, sample: Sample) -> bool {
        self.all.push(sample);
        if self.all.len() <= MOST {
            return false;
        }
        let mut keeps = false;
        self.all.retain(|_| {
            keeps = !keeps;
            keeps
        });
        self.interval *= 2;
        true
    }
}

fn kilobytes(text: &str, field: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse().ok());
    value.unwrap_or(0_u64) * 1024
}

/// The private memory in `/proc/<pid>/smaps_rollup`: pages that were written to and that nobody else has, swapped ones included.
fn private(rollup: &str) -> u64 {
    kilobytes(rollup, "Private_Dirty:") + kilobytes(rollup, "SwapPss:")
}

/// The memory of a master, which shares what it has written with the workers that came of it.
fn anonymous(rollup: &str) -> u64 {
    kilobytes(rollup, "Anonymous:") + kilobytes(rollup, "SwapPss:")
}

/// The number behind `name` in JSON, from `start` on.
fn number(json: &str, start: &str, name: &str) -> Option<u64> {
    let (_, rest) = json.split_once(start)?;
    let (_, rest) = rest.split_once(&format!("\"{name}\": "))?;
    rest[..rest.find(|digit: char| !digit.is_ascii_digit())?].parse().ok()
}

/// Looks at the server whose master is `pid`. A process that ends meanwhile is left out.
///
/// # Errors
/// When nothing is said about the zone, or when the processes may not be looked at.
pub fn look(pid: u32, address: SocketAddrV4) -> io::Result<Found> {
    let mut found = Found::default();
    let members = process::tree(pid)?;
    for Member { pid: of, .. } in &members {
        let title = process::title(*of);
        let role = match title.strip_prefix("nginx: ") {
            Some(title) if title.starts_with("master") => &mut found.master,
            Some(title) if title.starts_with("worker") => &mut found.workers,
            Some(title) if title.starts_with("websocket") => &mut found.spawners,
            _ => {
                found.programs += 1;
                continue;
            }
        };
        let inside = fs::read_to_string(format!("/proc/{of}/smaps_rollup"))
            .and_then(|rollup| Ok((rollup, fs::read_dir(format!("/proc/{of}/fd"))?.count())));
        match inside {
            Ok((rollup, descriptors)) => {
                role.processes += 1;
                role.memory += if *of == pid { anonymous(&rollup) } else { private(&rollup) };
                role.descriptors += descriptors as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(wrong(format!("{title}: only root may look into it")));
            }
            Err(_) => {}
        }
        found.cpu += process::cpu_time(&[*of]);
    }
    found.cpu += process::reaped_time(&members.iter().map(|member| member.pid).collect::<Vec<_>>());
    let answer = http::once(address, "GET", "/status")?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let of = |name| number(&text, "\"channels\": {", name).ok_or_else(|| wrong("no zone in the status"));
    (found.channels, found.stored, found.zone) = (of("channels")?, of("messages")?, of("used")?);
    Ok(found)
}

/// Looks again and again, on a thread of its own, so that the load does not wait for it. Another interval may be asked for; the
/// end is where nobody can do so any more.
pub fn look_always(
    pid: u32,
    address: SocketAddrV4,
    interval: Duration,
    asked: &Receiver<Duration>,
    results: &Sender<(Instant, io::Result<Found>)>,
) {
    let mut interval = interval;
    let mut next = Instant::now() + interval;
    loop {
        match asked.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(other) => interval = other,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if results.send((Instant::now(), look(pid, address))).is_err() {
                    return;
                }
                next = Instant::now() + interval;
            }
        }
    }
}

/// The part of sorted values below which `part` of them are; NaN without values.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// As CSV (RFC 4180), a line for each sample.
pub fn csv(samples: &[Sample]) -> String {
    let mut out = String::new();
    for sample in samples {
        let (names, values): (Vec<_>, Vec<_>) = columns(sample).into_iter().unzip();
        if out.is_empty() {
            out = names.join(",") + "\n";
        }
        out += &values.join(",");
        out.push('\n');
    }
    out
}

fn columns(sample: &Sample) -> [(&'static str, String); 19] {
    let found = &sample.found;
    let milliseconds = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.3}") };
    [
        ("seconds", format!("{:.1}", sample.time)),
        ("reloads", sample.reloads.to_string()),
        ("settled", u8::from(sample.is_settled).to_string()),
        ("clients", sample.clients.to_string()),
        ("worker_memory", found.workers.memory.to_string()),
        ("master_memory", found.master.memory.to_string()),
        ("spawner_memory", found.spawners.memory.to_string()),
        ("worker_descriptors", found.workers.descriptors.to_string()),
        ("master_descriptors", found.master.descriptors.to_string()),
        ("spawner_descriptors", found.spawners.descriptors.to_string()),
        ("workers", found.workers.processes.to_string()),
        ("spawners", found.spawners.processes.to_string()),
        ("programs", found.programs.to_string()),
        ("zone", found.zone.to_string()),
        ("channels", found.channels.to_string()),
        ("messages", found.stored.to_string()),
        ("cpu", format!("{:.4}", sample.cpu)),
        ("latency_median_ms", milliseconds(sample.median)),
        ("latency_p99_ms", milliseconds(sample.p99)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_thinned_out_evenly() {
        let mut samples = Samples::new(Duration::from_secs(2));
        let (mut thinned, mut time) = (0, Duration::ZERO);
        while time <= Duration::from_secs(2) * 2 * MOST as u32 {
            thinned += usize::from(samples.add(Sample { time: time.as_secs_f64(), ..Sample::default() }));
            assert!(samples.all.len() <= MOST);
            time += samples.interval;
        }
        assert_eq!((thinned, samples.interval), (2, Duration::from_secs(8)));
        assert!(samples.all.len() > MOST / 2 - 1, "{}", samples.all.len());
        assert!(samples.all.windows(2).all(|two| (two[1].time - two[0].time - 8.0).abs() < 1e-9));
    }

    #[test]
    fn what_the_kernel_and_the_status_say_is_read() {
        let rollup =
            "Rss:  900 kB\nPrivate_Clean:  7 kB\nPrivate_Dirty:     300 kB\nAnonymous:  500 kB\nSwapPss:   20 kB\n";
        assert_eq!((private(rollup), anonymous(rollup)), (320 * 1024, 520 * 1024));
        let status = r#"{"locations": [{"used": 9}], "channels": {"channels": 1, "messages": 2, "zone": {"used": 3, "size": 4}}}"#;
        let of = |name| number(status, "\"channels\": {", name);
        assert_eq!((of("channels"), of("messages"), of("used"), of("other")), (Some(1), Some(2), Some(3), None));
    }

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((quantile(&values, 0.5) - 50.0).abs() < 1e-9 && (quantile(&values, 0.99) - 99.0).abs() < 1e-9);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn lines_of_the_csv_have_the_columns_of_its_head() {
        let text = csv(&[Sample { time: 2.0, median: f64::NAN, ..Sample::default() }]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("seconds,reloads,settled,") && lines[1].starts_with("2.0,0,0,"), "{text}");
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
        assert_eq!(csv(&[]), "");
    }
}
