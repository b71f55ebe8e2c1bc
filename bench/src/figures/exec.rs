// SPDX-License-Identifier: Apache-2.0

//! Programs: against websocketd.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use crate::connect::{self, Until};
use crate::echo::{Clients, Plan};
use crate::link;
use crate::payload::Messages;
use crate::process::{self, Server};
use crate::report::{Goal, OURS, Table, Unit, median};
use crate::servers::{self, Nginx};

/// A row that the picture shows as well.
pub const ECHO: &str = "echo of 100 B lines through `cat`, 50 clients: server CPU per message";

pub(super) const PEER: &str = "websocketd";
pub(super) const BARE: &str = "bare program";

/// One server with the path of its endpoint.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) server: Server,
    pub(super) path: &'static str,
}

impl Subject {
    pub(super) fn all(bench: &Bench, format: &str, program: &[&str]) -> io::Result<Vec<Self>> {
        Self::all_with(bench, format, program, "websocket_exec", "")
    }

    /// The same, ours with these lines more, where the module has that directive.
    fn all_with(bench: &Bench, format: &str, program: &[&str], directive: &str, lines: &str) -> io::Result<Vec<Self>> {
        let options: &[&str] = if format == "bytes" { &["--binary"] } else { &[] };
        let mut arguments = vec![format];
        arguments.extend_from_slice(program);
        let mut subjects = vec![
            Self { name: PEER, server: servers::websocketd(options, program)?, path: "/" },
            Self { name: BARE, server: servers::bare("bare-exec", &arguments)?, path: "/" },
        ];
        if let Some(module) = bench.setup.module_with(directive)? {
            let words: Vec<String> = program.iter().map(|word| format!("\"{word}\"")).collect();
            let locations = format!(
                "location / {{ websocket_exec {}; websocket_exec_format {format}; websocket_exec_max 20000; {lines} }}",
                words.join(" ")
            );
            let server = bench.setup.nginx(&Nginx { module, workers: 1, http: "", locations: &locations })?;
            subjects.push(Self { name: OURS, server, path: "/" });
        }
        Ok(subjects)
    }
}

/// Measures and prints the table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    let mut table = Table::new(&[PEER, BARE, OURS]);
    connects(bench, &mut table)?;
    started_ahead(bench, &mut table)?;
    echoes(bench, &mut table)?;
    memory(bench, &mut table)?;
    bench.results.add(table.cells());
    println!("### Programs: `bench exec`\n");
    print!("{}", table.markdown());
    println!(
        "\nServer CPU is the user and system time of the server's own processes (nginx master, worker and spawner; websocketd; \
         bare program), without the programs that they start, unless the row says so. Memory is what the same \
         processes hold more for each connection, their part of shared pages included; files, the programs, the \
         kernel's buffers and the table of connections that nginx allocates when it starts are not in it.\n"
    );
    Ok(())
}

fn connects(bench: &Bench, table: &mut Table) -> io::Result<()> {
    const FIRST: &str = "connect to first message of `/bin/echo hi`, median";
    const CPU: &str = "server CPU per such connection";
    const ALL: &str = "CPU of server and program per such connection";
    if ![FIRST, CPU, ALL].iter().any(|work| bench.wants(work)) {
        return Ok(());
    }
    let connections = bench.effort.scaled(400);
    let subjects = Subject::all(bench, "lines", &["/bin/echo", "hi"])?;
    for _ in 0..bench.effort.rounds {
        for Subject { name, server, path } in &subjects {
            bench.effort.quiet.wait()?;
            let once = |_| connect::once(link::source(0), server.address, path, Until::Greeted(b"hi"));
            (0..connections / 10).try_for_each(|at| once(at).map(drop))?;
            let pids = server.own()?;
            let (cpu, reaped) = (process::cpu_time(&pids), process::reaped_time(&pids));
            let times: Vec<Duration> = (0..connections).map(once).collect::<io::Result<_>>()?;
            let cpu = (process::cpu_time(&pids) - cpu).as_secs_f64();
            let reaped = (process::reaped_time(&pids) - reaped).as_secs_f64();
            let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            let each = 1e6 / connections as f64;
            table.add(FIRST, Unit::Milliseconds, Goal::AtMostTimes(1.0), name, median(&times));
            table.add(CPU, Unit::Microseconds, Goal::AtMostTimes(0.4), name, cpu * each);
            table.add(ALL, Unit::Microseconds, Goal::None, name, (cpu + reaped) * each);
        }
    }
    Ok(())
}

/// The first message of a program that waits for its client, where the server can have such ones.
fn started_ahead(bench: &Bench, table: &mut Table) -> io::Result<()> {
    const EACH: &str = "connect to first message of `sh -c \"echo hi; read x\"`, median";
    const AHEAD: &str = "the same, started ahead (`websocket_exec_pool 8`), median";
    /// Between two clients, so that another program can take the place of the last one.
    const PAUSE: Duration = Duration::from_millis(10);

    let connections = bench.effort.scaled(200);
    for (work, goal, directive, lines) in [
        (EACH, Goal::None, "websocket_exec", ""),
        (AHEAD, Goal::AtMost(0.25), "websocket_exec_pool", "websocket_exec_pool 8;"),
    ] {
        if !bench.wants(work) {
            continue;
        }
        let subjects = Subject::all_with(bench, "lines", &["/bin/sh", "-c", "echo hi; read x"], directive, lines)?;
        for _ in 0..bench.effort.rounds {
            for Subject { name, server, path } in &subjects {
                bench.effort.quiet.wait()?;
                let once = |_| {
                    thread::sleep(PAUSE);
                    connect::once(link::source(0), server.address, path, Until::Said(b"hi"))
                };
                (0..connections / 10).try_for_each(|at| once(at).map(drop))?;
                let times: Vec<Duration> = (0..connections).map(once).collect::<io::Result<_>>()?;
                let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
                table.add(work, Unit::Milliseconds, goal, name, median(&times));
            }
        }
    }
    Ok(())
}

/// One row of echoes through `cat`.
struct Echo {
    work: &'static str,
    format: &'static str,
    length: usize,
    clients: usize,
    window: u64,
    unit: Unit,
    goal: Goal,
}

fn echoes(bench: &Bench, table: &mut Table) -> io::Result<()> {
    let rows = [
        Echo {
            work: ECHO,
            format: "lines",
            length: 100,
            clients: 50,
            window: 1,
            unit: Unit::Microseconds,
            goal: Goal::AtMostTimes(0.55),
        },
        Echo {
            work: "the same, 64 lines in flight per client: messages",
            format: "lines",
            length: 100,
            clients: 50,
            window: 64,
            unit: Unit::PerSecond,
            goal: Goal::AtLeastTimes(6.0),
        },
        Echo {
            work: "64 KiB binary echo through `cat`, 4 clients",
            format: "bytes",
            length: 65536,
            clients: 4,
            window: 1,
            unit: Unit::Megabytes,
            goal: Goal::AtLeastTimes(1.9),
        },
    ];
    for row in rows.iter().filter(|row| bench.wants(row.work)) {
        let subjects = Subject::all(bench, row.format, &["/bin/cat"])?;
        for _ in 0..bench.effort.rounds {
            for Subject { name, server, path } in &subjects {
                bench.effort.quiet.wait()?;
                let plan = Plan {
                    path,
                    headers: "",
                    messages: if row.format == "bytes" {
                        Messages::stream(row.length)
                    } else {
                        Messages::text(row.length)
                    },
                    clients: row.clients,
                    window: row.window,
                    warm_up: bench.effort.warm_up(),
                    duration: bench.effort.duration,
                };
                let mut clients = Clients::connect(&plan, server.address)?;
                // Not before: a worker may be started after its socket is there.
                let outcome = clients.run(&server.own()?)?;
                drop(clients);
                let value = match row.unit {
                    Unit::PerSecond => outcome.rate(),
                    Unit::Megabytes => outcome.megabytes(),
                    _ => outcome.cpu_per_message(),
                };
                table.add(row.work, row.unit, row.goal, name, value);
                let cpu = outcome.cpu_per_message();
                eprintln!("    {:.0} messages/s, {cpu:.2} us of server CPU each", outcome.rate());
                server.wait_until_alone()?;
            }
        }
    }
    Ok(())
}

fn memory(bench: &Bench, table: &mut Table) -> io::Result<()> {
    for (work, format) in [
        ("memory of the server per idle `cat` connection, text", "lines"),
        ("memory of the server per idle `cat` connection, binary", "bytes"),
    ] {
        if !bench.wants(work) {
            continue;
        }
        for _ in 0..bench.effort.rounds.min(3) {
            // A new server each time: what was freed once would be used again without growth.
            for Subject { name, server, path } in Subject::all(bench, format, &["/bin/cat"])? {
                let messages = || if format == "bytes" { Messages::stream(1000) } else { Messages::text(100) };
                let plan = |clients| Plan {
                    path,
                    headers: "",
                    messages: messages(),
                    clients,
                    window: 1,
                    warm_up: Duration::ZERO,
                    duration: Duration::ZERO,
                };
                let grown = growth(&server, &plan(10), &plan(bench.effort.scaled(500)))?;
                table.add(work, Unit::Memory, Goal::AtMost(12_000.0), name, grown.memory);
                eprintln!(
                    "    {:.0} us of server CPU in {:.1} idle seconds",
                    grown.cpu.as_secs_f64() * 1e6,
                    IDLE.as_secs_f64()
                );
            }
        }
    }
    Ok(())
}

/// How long idle connections are left alone.
pub const IDLE: Duration = Duration::from_secs(2);

/// What idle connections cost.
pub struct Idle {
    /// Octets of server memory for each.
    pub memory: f64,
    /// CPU time of the server while all of them were idle for [`IDLE`].
    pub cpu: Duration,
}

/// Opens connections that each echo three messages and then do nothing.
///
/// # Errors
/// When an echo is wrong or does not come.
pub fn growth(server: &Server, first: &Plan<'_>, plan: &Plan<'_>) -> io::Result<Idle> {
    // What a server sets up once is not to be counted.
    Clients::connect(first, server.address)?.exchange(3)?;
    server.wait_until_alone()?;
    let pids = server.own()?;
    let before = process::memory(&pids)?;
    let mut clients = Clients::connect(plan, server.address)?;
    clients.exchange(3)?;
    thread::sleep(Duration::from_millis(500));
    let (cpu, start) = (process::cpu_time(&pids), Instant::now());
    while start.elapsed() < IDLE {
        thread::sleep(IDLE.saturating_sub(start.elapsed()));
    }
    let cpu = process::cpu_time(&pids) - cpu;
    let grown = process::memory(&pids)?.saturating_sub(before);
    Ok(Idle { memory: grown as f64 / plan.clients as f64, cpu })
}
