// SPDX-License-Identifier: Apache-2.0

//! Whether anything grows.

use super::sample::{Found, Role, Sample};
use super::slope::{self, Slope, Stretch};

const MIB: f64 = 1_048_576.0;
const DAY: f64 = 86_400.0;
/// Memory and zone may grow by so many octets a day.
const OCTETS: f64 = MIB;
/// Descriptors and processes may grow by so many a day; more than chance explains is what counts, and the comparison of an idle server
/// with itself is exact.
const COUNT: f64 = 24.0;

/// What is watched.
struct Watched {
    name: &'static str,
    value: fn(&Found) -> f64,
    is_octets: bool,
    /// A reload begins it anew.
    is_of_reload: bool,
}

const WATCHED: [Watched; 8] = [
    Watched { name: "memory of workers", value: |at| at.workers.memory as f64, is_octets: true, is_of_reload: true },
    Watched { name: "memory of spawners", value: |at| at.spawners.memory as f64, is_octets: true, is_of_reload: true },
    Watched { name: "memory of the master", value: |at| at.master.memory as f64, is_octets: true, is_of_reload: false },
    Watched { name: "zone", value: |at| at.zone as f64, is_octets: true, is_of_reload: false },
    Watched {
        name: "descriptors of workers",
        value: |at| at.workers.descriptors as f64,
        is_octets: false,
        is_of_reload: false,
    },
    Watched {
        name: "descriptors of spawners",
        value: |at| at.spawners.descriptors as f64,
        is_octets: false,
        is_of_reload: false,
    },
    Watched {
        name: "descriptors of the master",
        value: |at| at.master.descriptors as f64,
        is_octets: false,
        is_of_reload: false,
    },
    Watched {
        name: "processes",
        value: |at| f64::from(at.workers.processes + at.spawners.processes),
        is_octets: false,
        is_of_reload: false,
    },
];

/// What was found.
#[derive(Debug, Default)]
pub struct Judgement {
    /// For people.
    pub lines: Vec<String>,
    /// Why the run failed.
    pub failures: Vec<String>,
}

/// The slopes of the second half of a run of so many seconds; they count if that half has at least `least` seconds.
pub fn growth(samples: &[Sample], seconds: f64, least: f64) -> Judgement {
    let mut judgement = Judgement::default();
    let judged: Vec<&Sample> =
        samples.iter().filter(|sample| sample.time >= seconds / 2.0 && sample.is_settled).collect();
    let is_long = seconds / 2.0 >= least;
    for watched in &WATCHED {
        let stretches = if watched.is_of_reload {
            judged
                .chunk_by(|one, other| one.reloads == other.reloads)
                .map(|part| stretch(part, watched.value))
                .collect()
        } else {
            vec![stretch(&judged, watched.value)]
        };
        let (limit, size, unit) = if watched.is_octets { (OCTETS, MIB, " MiB") } else { (COUNT, 1.0, "") };
        let Some(slope) = slope::slope(&stretches) else {
            judgement.lines.push(format!("{}: too few samples", watched.name));
            continue;
        };
        let slope = Slope { value: slope.value * DAY, error: slope.error * DAY };
        let mut line =
            format!("{}: {:+.2}{unit} a day, error {:.2}", watched.name, slope.value / size, slope.error / size);
        if is_long && slope.exceeds(limit) {
            judgement.failures.push(format!("{line}: above {}{unit} for certain", limit / size));
            line.push_str(", which is too much");
        } else if is_long && !slope.can_tell(limit) {
            line.push_str(", too uncertain to tell growth of the limit from none");
        }
        judgement.lines.push(line);
    }
    if !is_long {
        judgement.lines.push(format!(
            "too short to judge slopes: the second half has {:.0} s, and {least:.0} s are needed",
            seconds / 2.0
        ));
    }
    judgement
}

fn stretch(samples: &[&Sample], value: fn(&Found) -> f64) -> Stretch {
    samples.iter().map(|sample| (sample.time, value(&sample.found))).collect()
}

/// What the server has more of after all clients have gone than before they came. This needs no statistics.
pub fn left(before: &Found, after: &Found) -> Vec<String> {
    let mut left = Vec::new();
    let mut compare = |what: &str, before: u64, after: u64| {
        if after > before {
            left.push(format!("{what}: {after} without clients, {before} before the first one"));
        }
    };
    for (name, of) in [
        ("master", (|found| found.master) as fn(&Found) -> Role),
        ("workers", |found| found.workers),
        ("spawners", |found| found.spawners),
    ] {
        compare(&format!("descriptors, {name}"), of(before).descriptors, of(after).descriptors);
        compare(&format!("processes, {name}"), of(before).processes.into(), of(after).processes.into());
    }
    compare("programs", before.programs.into(), after.programs.into());
    compare("channels", before.channels, after.channels);
    compare("stored messages", before.stored, after.stored);
    compare("octets of the zone", before.zone, after.zone);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour whose memory grows by so many octets a second, and begins anew with each of `reloads` reloads.
    fn hour(octets: f64, descriptors: f64, reloads: u32) -> Vec<Sample> {
        let sample = |at: u32| {
            let time = f64::from(at) * 4.0;
            let every = 900 / (reloads + 1);
            let mut sample = Sample { time, reloads: at / every, is_settled: at % every > 20, ..Sample::default() };
            // What the load makes of it.
            let noise = f64::from(at * 7919 % 101) * 1000.0;
            sample.found.workers.memory = (1e8 + noise + octets * f64::from(at % every) * 4.0) as u64;
            sample.found.workers.descriptors = 5000 + u64::from(at * 7919 % 11) + (descriptors * time) as u64;
            sample.found.zone = 1_000_000 + u64::from(at * 7919 % 13) * 256;
            sample
        };
        (0..900).map(sample).collect()
    }

    fn failures(samples: &[Sample]) -> Vec<String> {
        growth(samples, 3600.0, 600.0).failures
    }

    #[test]
    fn what_only_varies_is_no_growth() {
        assert_eq!(failures(&hour(0.0, 0.0, 0)), [""; 0]);
        assert_eq!(failures(&hour(0.0, 0.0, 3)), [""; 0]);
    }

    #[test]
    fn a_leak_is_found_through_reloads() {
        for reloads in [0, 3] {
            // 8.2 MiB a day.
            let found = failures(&hour(100.0, 0.0, reloads));
            assert!(found.len() == 1 && found[0].starts_with("memory of workers: +8."), "{found:?}");
        }
        // 0.4 MiB a day are below the limit.
        assert_eq!(failures(&hour(5.0, 0.0, 0)), [""; 0]);
    }

    #[test]
    fn descriptors_that_are_not_closed_are_found() {
        let found = failures(&hour(0.0, 0.01, 1));
        assert!(found.len() == 1 && found[0].starts_with("descriptors of workers: +8"), "{found:?}");
    }

    #[test]
    fn a_short_run_is_not_judged_and_says_so() {
        let samples = hour(100_000.0, 1.0, 0);
        let judgement = growth(&samples[..50], 200.0, 600.0);
        assert!(judgement.failures.is_empty());
        assert!(judgement.lines.iter().any(|line| line.starts_with("too short to judge")), "{judgement:?}");
    }

    #[test]
    fn what_an_idle_server_keeps_is_told() {
        let before = Found { zone: 512, ..Found::default() };
        assert_eq!(left(&before, &before), [""; 0]);
        let mut after = before.clone();
        after.workers.descriptors = 1;
        after.programs = 1;
        after.zone = 768;
        assert_eq!(left(&before, &after).len(), 3);
        assert_eq!(left(&after, &before), [""; 0], "less is no growth");
    }
}
