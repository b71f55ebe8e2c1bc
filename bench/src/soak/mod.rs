// SPDX-License-Identifier: Apache-2.0

//! A mixed load on one nginx for a long time, and whether anything grows.
//!
//! The load is one thread on epoll ([`population`]), a second one looks at the server every few seconds ([`sample`]). When the time is
//! over, all clients leave, and the idle server is compared with what it was before the first of them came.

pub mod client;
pub mod delivery;
pub mod judge;
pub mod kind;
pub mod plot;
pub mod population;
pub mod random;
pub mod sample;
pub mod server;
pub mod slope;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use judge::Judgement;
use population::Population;
use sample::{Found, Sample, Samples};
use server::Setup;

use crate::link;
use crate::process::Server;
use crate::servers;
use crate::sys;
use crate::wire::wrong;

/// How far the first samples are apart.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long a server may need to come to the size that its load asks for, at most. With 10,000 clients the memory of workers grew for
/// twelve minutes after a reload, by less and less, and not in the 44 minutes after that.
const SETTLE: Duration = Duration::from_secs(900);
/// How many connections are opened in a second at the beginning, at most.
const RAMP: f64 = 500.0;
/// How long what is left may need to go: the longest history, and then some.
const GOES: Duration = Duration::from_secs(100);
/// How long the clients may need to leave.
const LEAVE: Duration = Duration::from_secs(25);
/// Clients of each endpoint before the load: enough for each worker to have one, as the kernel chooses.
const VISITS: usize = 30;
/// How often progress is told.
const TOLD: Duration = Duration::from_secs(60);

/// What is asked for.
pub struct Plan {
    /// How long.
    pub duration: Duration,
    /// Clients at one time.
    pub connections: usize,
    /// Determines what the clients do.
    pub seed: u64,
    /// How far reloads are apart.
    pub reloads: Duration,
    /// How long the second half has to be for its slopes to count.
    pub judged: Duration,
}

/// Runs, writes `soak.csv` and `soak.svg`, and tells what it found.
///
/// # Errors
/// When a server does not start, or cannot be looked at.
pub fn run(setup: &Setup, plan: &Plan) -> io::Result<Judgement> {
    // One process may have them all: the load, and where the kernel chooses so a worker.
    let needed = plan.connections as u64 + server::OTHERS;
    let descriptors = sys::raise_descriptor_limit(needed)?;
    if descriptors < needed {
        return Err(wrong(format!(
            "{} clients need {needed} descriptors, and only {descriptors} may be open",
            plan.connections
        )));
    }
    let echo = servers::bare("echo-service", &[])?;
    let (server, tls) = server::watched(setup, descriptors, echo.address)?;
    let front = server::front(setup, descriptors, tls)?;
    let idle = idle(&server)?;
    let ramp = Duration::from_secs_f64(plan.connections as f64 / RAMP).clamp(Duration::from_secs(2), plan.duration / 6);
    let mut load = Population::new(plan.connections, plan.seed, ramp, server.address, front.address)?;
    let samples = watch(&mut load, &server, plan, ramp)?;
    fs::write(setup.directory.join("soak.csv"), sample::csv(&samples.all))?;
    let title = format!(
        "ngx_ws_exec: {} clients for {:.2} h, seed {}",
        plan.connections,
        plan.duration.as_secs_f64() / 3600.0,
        plan.seed
    );
    fs::write(setup.directory.join("soak.svg"), plot::svg(&title, &samples.all))?;
    let mut judgement = judge::growth(&samples.all, plan.duration.as_secs_f64(), plan.judged.as_secs_f64());
    judgement.failures.extend(leave(&mut load, &server, &idle)?);
    load.delivery.end();
    let (delivery, counts) = (&load.delivery, &load.counts);
    judgement.lines.push(format!(
        "{} connections, {} publications, {} messages; {} deliveries to the probe",
        counts.opened, counts.published, counts.messages, delivery.delivered
    ));
    for (failures, what, told) in [
        (delivery.failures, "messages were lost, repeated or out of order", &delivery.told),
        (counts.failures, "clients ended without a reason, or had no answer", &counts.told),
    ] {
        if failures > 0 {
            judgement.failures.push(format!("{failures} {what}:\n    {}", told.join("\n    ")));
        }
    }
    drop(server);
    judgement.failures.extend(server::alerts(setup)?.into_iter().take(20));
    Ok(judgement)
}

/// The server before the load, when each endpoint was used in each worker: some of what it has, as the spawner of a worker, is made for
/// the first client and stays.
fn idle(server: &Server) -> io::Result<Found> {
    for _ in 0..VISITS {
        for path in ["/sub/visit", "/deflate/visit", "/both/visit", "/shared/visit", "/echo", "/say", "/tcp"] {
            link::open(Ipv4Addr::LOCALHOST, server.address, path, "")?;
        }
    }
    let end = Instant::now() + GOES;
    let mut found = sample::look(server.pid(), server.address)?;
    while (found.programs > 0 || found.channels > 0) && Instant::now() < end {
        thread::sleep(Duration::from_millis(500));
        found = sample::look(server.pid(), server.address)?;
    }
    Ok(found)
}

/// Runs the load for its time, and takes samples.
fn watch(load: &mut Population, server: &Server, plan: &Plan, ramp: Duration) -> io::Result<Samples> {
    let (ask, asked) = mpsc::channel();
    let (send, results) = mpsc::channel();
    let (pid, address) = (server.pid(), server.address);
    let start = Instant::now();
    let end = start + plan.duration;
    let watcher = thread::spawn(move || sample::look_always(pid, address, INTERVAL, &asked, &send));
    let settle = SETTLE.min(plan.reloads / 2).min(plan.duration / 4).max(ramp);
    let mut samples = Samples::new(INTERVAL);
    let (mut reloads, mut begun, mut told) = (0, start, start);
    let mut before: Option<(Instant, Duration)> = None;
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        load.run(end.min(now + Duration::from_millis(200)))?;
        // None so late that its old workers would be there at the end.
        if begun.elapsed() >= plan.reloads && end.saturating_duration_since(Instant::now()) > population::RELOAD * 2 {
            sys::kill(server.pid(), libc::SIGHUP)?;
            begun = Instant::now();
            reloads += 1;
            load.reloads();
        }
        for (at, found) in results.try_iter() {
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    load.counts.fail(format!("looking at the server: {error}"));
                    continue;
                }
            };
            let latencies = load.delivery.take_latencies();
            let cpu = before.map_or(f64::NAN, |(then, cpu)| {
                found.cpu.saturating_sub(cpu).as_secs_f64() / (at - then).as_secs_f64()
            });
            before = Some((at, found.cpu));
            let sample = Sample {
                time: (at - start).as_secs_f64(),
                reloads,
                is_settled: at - begun > settle && load.is_settled(),
                clients: load.connected(),
                cpu,
                median: sample::quantile(&latencies, 0.5),
                p99: sample::quantile(&latencies, 0.99),
                found,
            };
            if at - told >= TOLD {
                told = at;
                tell(&sample);
            }
            if samples.add(sample) {
                // Where the watcher has ended, its result says why.
                let _ = ask.send(samples.interval);
            }
        }
    }
    drop(ask);
    watcher.join().map_err(|_| io::Error::other("the thread that looks at the server has failed"))?;
    Ok(samples)
}

fn tell(sample: &Sample) {
    let Sample { time, clients, cpu, median, p99, found, .. } = sample;
    eprintln!(
        "{:.0} min: {clients} clients, workers {:.1} MiB, {} descriptors, {} programs, zone {:.2} MiB, CPU {:.0} %, {median:.1} ms, \
         99 % {p99:.1} ms",
        time / 60.0,
        found.workers.memory as f64 / 1_048_576.0,
        found.workers.descriptors,
        found.programs,
        found.zone as f64 / 1_048_576.0,
        cpu * 100.0
    );
}

/// All clients leave; what the server still has when there was time enough for everything to go.
fn leave(load: &mut Population, server: &Server, idle: &Found) -> io::Result<Vec<String>> {
    load.leave();
    let end = Instant::now() + LEAVE;
    while Instant::now() < end && (load.connected() > 0 || !load.delivery.is_complete()) {
        load.run(Instant::now() + Duration::from_millis(100))?;
    }
    load.clear();
    let end = Instant::now() + GOES;
    loop {
        let left = judge::left(idle, &sample::look(server.pid(), server.address)?);
        if left.is_empty() || Instant::now() >= end {
            return Ok(left);
        }
        thread::sleep(Duration::from_millis(500));
    }
}
