// SPDX-License-Identifier: Apache-2.0

//! TCP services: against websockify.

use std::io;
use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use crate::connect::{self, Until};
use crate::echo::{Clients, Plan};
use crate::link;
use crate::payload::Messages;
use crate::process::{self, Server};
use crate::report::{Goal, OURS, Table, Unit};
use crate::servers::{self, Nginx};

const PEER: &str = "websockify";
const BARE: &str = "bare bridge";

fn start(bench: &Bench, service: SocketAddrV4) -> io::Result<Vec<(&'static str, Server)>> {
    let mut subjects =
        vec![(PEER, servers::websockify(service)?), (BARE, servers::bare("bare-bridge", &[&service.to_string()])?)];
    if let Some(module) = bench.setup.module_with("websocket_tcp")? {
        let locations = format!("location / {{ websocket_tcp {service}; }}");
        subjects.push((OURS, bench.setup.nginx(&Nginx { module, workers: 1, http: "", locations: &locations })?));
    }
    Ok(subjects)
}

/// Measures and prints the table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    let mut table = Table::new(&[PEER, BARE, OURS]);
    let service = servers::bare("echo-service", &[])?;
    echoes(bench, service.address, &mut table)?;
    connects(bench, service.address, &mut table)?;
    memory(bench, service.address, &mut table)?;
    bench.results.add(table.cells());
    println!("### TCP services: `bench tcp`\n");
    print!("{}", table.markdown());
    println!(
        "\nThe service is an echo. A connect is counted when a first message of 100 octets has come back through \
         it. Memory is what all processes of the server (websockify has one for each connection) hold more for each \
         connection, their part of shared pages included; files, the service, the kernel's buffers and the table of \
         connections that nginx allocates when it starts are not in it.\n"
    );
    Ok(())
}

struct Echo {
    work: &'static str,
    length: usize,
    clients: usize,
    unit: Unit,
    goal: f64,
}

/// A row that the picture shows as well.
pub const ECHO: &str = "100 B echo, 10 clients: messages";

const ECHOES: [Echo; 4] = [
    Echo { work: "100 B echo, 1 client: messages", length: 100, clients: 1, unit: Unit::PerSecond, goal: 1.8 },
    Echo { work: ECHO, length: 100, clients: 10, unit: Unit::PerSecond, goal: 3.5 },
    Echo { work: "64 KiB binary echo, 1 client", length: 65536, clients: 1, unit: Unit::Megabytes, goal: 2.8 },
    Echo { work: "64 KiB binary echo, 10 clients", length: 65536, clients: 10, unit: Unit::Megabytes, goal: 4.0 },
];

fn plan(bench: &Bench, length: usize, clients: usize) -> Plan<'static> {
    Plan {
        path: "/",
        headers: "",
        messages: Messages::stream(length),
        clients,
        window: 1,
        warm_up: bench.effort.warm_up(),
        duration: bench.effort.duration,
    }
}

fn echoes(bench: &Bench, service: SocketAddrV4, table: &mut Table) -> io::Result<()> {
    for row in ECHOES.iter().filter(|row| bench.wants(row.work)) {
        let subjects = start(bench, service)?;
        for _ in 0..bench.effort.rounds {
            for (name, server) in &subjects {
                bench.effort.quiet.wait()?;
                let plan = plan(bench, row.length, row.clients);
                let mut clients = Clients::connect(&plan, server.address)?;
                clients.exchange(1)?;
                // Not before: websockify has a process for each connection.
                let outcome = clients.run(&server.own()?)?;
                let value = if row.unit == Unit::PerSecond { outcome.rate() } else { outcome.megabytes() };
                table.add(row.work, row.unit, Goal::AtLeastTimes(row.goal), name, value);
                eprintln!("    {:.2} us of server CPU per message", outcome.cpu_per_message());
            }
        }
    }
    Ok(())
}

fn connects(bench: &Bench, service: SocketAddrV4, table: &mut Table) -> io::Result<()> {
    const WORK: &str = "connects, one after the other";
    if !bench.wants(WORK) {
        return Ok(());
    }
    let message: Vec<u8> = (0..100).collect();
    let subjects = start(bench, service)?;
    for _ in 0..bench.effort.rounds {
        for (name, server) in &subjects {
            bench.effort.quiet.wait()?;
            let (mut count, start, cpu) = (0_u64, Instant::now(), process::cpu_time(&server.own()?));
            while start.elapsed() < bench.effort.duration {
                connect::once(link::source(0), server.address, "/", Until::Echoed(&message))?;
                count += 1;
            }
            let rate = count as f64 / start.elapsed().as_secs_f64();
            table.add(WORK, Unit::PerSecond, Goal::AtLeast(4000.0), name, rate);
            let cpu = process::cpu_time(&server.own()?).saturating_sub(cpu);
            eprintln!("    {:.0} us of server CPU per connection", cpu.as_secs_f64() * 1e6 / count as f64);
        }
    }
    Ok(())
}

fn memory(bench: &Bench, service: SocketAddrV4, table: &mut Table) -> io::Result<()> {
    const WORK: &str = "memory of the server per idle connection";
    if !bench.wants(WORK) {
        return Ok(());
    }
    for _ in 0..bench.effort.rounds.min(3) {
        // New servers each time: what was freed once would be used again without growth.
        for (name, server) in start(bench, service)? {
            // What a server sets up once is not to be counted.
            Clients::connect(&plan(bench, 100, 10), server.address)?.exchange(3)?;
            thread::sleep(Duration::from_millis(300));
            let before = process::memory(&server.own()?)?;
            let clients = bench.effort.scaled(if name == PEER { 50 } else { 1000 });
            let plan = plan(bench, 100, clients);
            let mut connected = Clients::connect(&plan, server.address)?;
            connected.exchange(3)?;
            thread::sleep(Duration::from_millis(500));
            let grown = process::memory(&server.own()?)?.saturating_sub(before);
            table.add(WORK, Unit::Memory, Goal::AtMost(12_000.0), name, grown as f64 / clients as f64);
        }
    }
    Ok(())
}
