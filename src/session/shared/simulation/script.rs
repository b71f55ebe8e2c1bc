// SPDX-License-Identifier: Apache-2.0

//! Simulated workers driven by a string of octets.

use super::{CHANNELS, REQUESTED, Simulation, WORKERS};
use crate::exec::terminal::Size;
use crate::session::shared::RunEnd;

/// Runs workers as the octets say.
pub fn run(script: &[u8]) {
    let mut octets = script.iter().copied();
    let mut next = || usize::from(octets.next().unwrap_or(0));
    let linger = [0, 100, 5_000][next() % 3];
    let backlog = [8, 24, 1_000][next() % 3];
    let mut simulation = Simulation::new(linger, backlog);
    while let Some(action) = octets.next() {
        let mut next = || usize::from(octets.next().unwrap_or(0));
        let worker = next() % WORKERS;
        let clients: Vec<usize> = simulation.workers[worker].state.clients.borrow().keys().copied().collect();
        let processes = simulation.processes();
        match action {
            0..=9 => drop(simulation.begin(worker, action % 2 == 0)),
            10..=24 => drop(simulation.follow(worker, action % 2 == 0)),
            25..=54 => {
                let channel = CHANNELS[next() % CHANNELS.len()];
                let _ = simulation.join(worker, channel, action % 2 == 0);
            }
            55..=84 if !clients.is_empty() => simulation.part(worker, clients[next() % clients.len()]),
            85..=124 if !clients.is_empty() => {
                let client = simulation.client(worker, clients[next() % clients.len()]);
                for _ in 0..action - 84 {
                    client.say(simulation.world.number());
                }
            }
            125..=194 if !processes.is_empty() => {
                let (worker, process) = &processes[next() % processes.len()];
                match action {
                    125..=154 => simulation.start(*worker, process),
                    155..=157 if process.pid.get().is_none() => {
                        simulation.fail(*worker, process, &RunEnd::refused(true))
                    }
                    158..=159 => simulation.fail(*worker, process, &RunEnd::timed_out()),
                    160..=161 => simulation.fail(*worker, process, &RunEnd::lost()),
                    162..=169 => simulation.exit(*worker, process, action % 2 == 0),
                    170..=179 => simulation.gone(*worker, process),
                    180..=184 => process.reads.set(!process.reads.get()),
                    185..=189 => process.turns.set(process.turns.get() + 3),
                    _ => simulation.workers[*worker].programs.on_ready(process.id),
                }
            }
            195..=219 => {
                simulation.turn(worker);
            }
            220..=229 => simulation.pass(next() as u64 * 20),
            230..=237 => simulation.tick(worker),
            238..=240 => simulation.leave(worker),
            241..=243 => simulation.end_worker(worker, true),
            244 => simulation.end_worker(worker, false),
            245 => simulation.delete([CHANNELS[0], CHANNELS[1], REQUESTED][next() % 3]),
            246..=247 if !clients.is_empty() => {
                let client = simulation.client(worker, clients[next() % clients.len()]);
                client.resize(Size { columns: 1 + next() as u16, rows: 1 + next() as u16 });
            }
            248..=250 => simulation.refuse(worker),
            251..=253 => simulation.settle(),
            _ => {}
        }
    }
    simulation.conclude();
}
