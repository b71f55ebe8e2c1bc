// SPDX-License-Identifier: Apache-2.0

//! The WebSocket layer: messages through `cat` in records, with and without compression; idle sessions. The
//! inner loops are measured in the module's own benchmark, `cargo bench --bench ws`.

use std::io;

use super::Bench;
use super::exec::{IDLE, growth};
use crate::echo::{Clients, Plan};
use crate::payload::Messages;
use crate::process::Server;
use crate::report::{Goal, OURS, Table, Unit};
use crate::servers::{self, Nginx};
use crate::wire::wrong;

const BARE: &str = "bare program";
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// How messages are compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deflate {
    Off,
    On,
    NoContext,
    Dedicated,
}

impl Deflate {
    fn directives(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::On => "websocket_deflate on;",
            Self::NoContext => "websocket_deflate on; websocket_deflate_context off;",
            Self::Dedicated => "websocket_deflate on; websocket_deflate_context dedicated;",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::On => ", compressed",
            Self::NoContext => ", compressed without context",
            Self::Dedicated => ", compressed with dedicated context",
        }
    }
}

fn start(bench: &Bench, deflate: Deflate) -> io::Result<Vec<(&'static str, Server)>> {
    let mut subjects = Vec::new();
    if deflate == Deflate::Off {
        subjects.push((BARE, servers::bare("bare-exec", &["messages", "/bin/cat"])?));
    }
    let directive = if deflate == Deflate::Off { "websocket_exec" } else { "websocket_deflate" };
    if let Some(module) = bench.setup.module_with(directive)? {
        let locations = format!(
            "location / {{ websocket_exec /bin/cat; websocket_exec_format messages; websocket_exec_max 20000; {} }}",
            deflate.directives()
        );
        subjects.push((OURS, bench.setup.nginx(&Nginx { module, workers: 1, http: "", locations: &locations })?));
    }
    Ok(subjects)
}

/// Measures and prints the table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    let mut table = Table::new(&[BARE, OURS]);
    echoes(bench, &mut table)?;
    idle(bench, &mut table)?;
    println!("### WebSocket: `bench ws`\n");
    print!("{}", table.markdown());
    println!(
        "\nEcho through `cat` with `websocket_exec_format messages`, 50 clients; compressed: permessage-deflate both ways. Server CPU is the \
         user and system time of nginx's master, worker and spawner, without `cat`. Memory is what the same \
         processes hold more for each session that has echoed three messages and is idle, their part of shared \
         pages included; files, the kernel's buffers and the table of connections that nginx allocates when it \
         starts are not in it.\n"
    );
    Ok(())
}

fn echoes(bench: &Bench, table: &mut Table) -> io::Result<()> {
    for (length, size) in [(100, "100 B"), (1024, "1 KiB")] {
        for deflate in [Deflate::Off, Deflate::On, Deflate::NoContext, Deflate::Dedicated] {
            // Messages this short are not compressed by default.
            if length < 256 && deflate != Deflate::Off {
                continue;
            }
            let cpu = format!("echo of {size} JSON{}: server CPU per message", deflate.name());
            let rate = format!("echo of {size} JSON{}, 16 in flight per client: messages", deflate.name());
            let octets = format!("echo of {size} JSON{}: octets to the client per message", deflate.name());
            if ![&cpu, &rate, &octets].iter().any(|work| bench.wants(work)) {
                continue;
            }
            let subjects = start(bench, deflate)?;
            for _ in 0..bench.effort.rounds {
                for (name, server) in &subjects {
                    for window in [1, 16] {
                        bench.effort.quiet.wait()?;
                        let plan = plan(length, deflate, 50, window, bench);
                        let mut clients = Clients::connect(&plan, server.address)?;
                        let outcome = clients.run(&server.own()?)?;
                        drop(clients);
                        server.wait_until_alone()?;
                        if window > 1 {
                            table.add(&rate, Unit::PerSecond, Goal::None, name, outcome.rate());
                            continue;
                        }
                        let wire_octets = outcome.wire_octets as f64 / outcome.messages as f64;
                        if deflate != Deflate::Off && wire_octets > length as f64 / 2.0 {
                            return Err(wrong("the answers are not compressed"));
                        }
                        let on = deflate == Deflate::On;
                        let goal = |most| if on { Goal::AtMost(most) } else { Goal::None };
                        table.add(&cpu, Unit::Microseconds, goal(30.0), name, outcome.cpu_per_message());
                        table.add(&octets, Unit::Octets, goal(0.32 * length as f64), name, wire_octets);
                    }
                }
            }
        }
    }
    Ok(())
}

fn plan(length: usize, deflate: Deflate, clients: usize, window: u64, bench: &Bench) -> Plan<'static> {
    Plan {
        path: "/",
        headers: if deflate == Deflate::Off { "" } else { OFFER },
        messages: Messages::json(length, deflate != Deflate::Off),
        clients,
        window,
        warm_up: bench.effort.warm_up(),
        duration: bench.effort.duration,
    }
}

fn idle(bench: &Bench, table: &mut Table) -> io::Result<()> {
    for deflate in [Deflate::Off, Deflate::On, Deflate::NoContext, Deflate::Dedicated] {
        let memory = format!("memory per idle session{}", deflate.name());
        let cpu = format!("CPU of a thousand idle sessions{}, per second", deflate.name());
        if ![&memory, &cpu].iter().any(|work| bench.wants(work)) {
            continue;
        }
        for _ in 0..bench.effort.rounds.min(3) {
            // New servers each time: what was freed once would be used again without growth.
            for (name, server) in start(bench, deflate)? {
                let clients = bench.effort.scaled(500);
                let first = plan(1024, deflate, 10, 1, bench);
                let grown = growth(&server, &first, &plan(1024, deflate, clients, 1, bench))?;
                let goal = match deflate {
                    Deflate::Off | Deflate::NoContext => Goal::AtMost(12_288.0),
                    Deflate::On => Goal::AtMost(20.0 * 1024.0),
                    Deflate::Dedicated => Goal::None,
                };
                table.add(&memory, Unit::Memory, goal, name, grown.memory);
                let each = grown.cpu.as_secs_f64() * 1e6 * 1000.0 / clients as f64 / IDLE.as_secs_f64();
                table.add(&cpu, Unit::Microseconds, Goal::None, name, each);
            }
        }
    }
    Ok(())
}
