// SPDX-License-Identifier: Apache-2.0

//! Publications: against Nchan, and against what nginx itself takes for a request and an answer of the same size.

use std::io;

use super::Bench;
use crate::process::Server;
use crate::publishing::{Form, Outcome, Plan, Publishers};
use crate::report::{Goal, OURS, Table, Unit};
use crate::servers::Nginx;

/// The first column.
pub const PEER: &str = "Nchan";
const NGINX: &str = "`return 202`";

/// Connections of the publishers by HTTP.
const PUBLISHERS: usize = 16;
/// Publications in flight on the one WebSocket.
const IN_FLIGHT: usize = 64;
/// Octets of each publication.
const LENGTH: usize = 100;

/// Rows that the picture shows as well.
pub const BY_HTTP: &str = "16 publishers by HTTP, 1 worker: publications";
/// The same by a WebSocket.
pub const WEBSOCKET: &str = "one publisher by a WebSocket: publications";
const WEBSOCKET_CPU: &str = "one publisher by a WebSocket: server CPU per publication";
const BESIDE: &str = "publications by one WebSocket, beside 16 connections of HTTP";

const NCHAN_HTTP: &str = "nchan_shared_memory_size 128m;";
const NCHAN: &str = "
location = /pub { nchan_publisher http websocket; nchan_channel_id one; nchan_message_buffer_length 100; nchan_message_timeout 1h; }";
const OURS_HTTP: &str = "websocket_channel_zone 128m;";
const OURS_LOCATIONS: &str =
    "location = /pub { websocket_channel one mode=pub; websocket_channel_history length=100 time=1h; }";
/// The answer has the form of channel info.
const RETURN: &str = r#"location = /pub { return 202 "queued messages: 100\r
last requested: -1 sec. ago\r
active subscribers: 0\r
last message id: 4503599627370496:1000000\r
"; }"#;

/// Measures and prints the table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    let mut table = Table::new(&[PEER, NGINX, OURS]);
    for workers in [1, 2] {
        with_workers(bench, workers, &mut table)?;
    }
    bench.results.add(table.cells());
    println!("### Publications: `bench publish`\n");
    print!("{}", table.markdown());
    println!(
        "\nMessages of {LENGTH} octets to a channel that keeps 100 of them and has no subscriber: by POST over {PUBLISHERS} connections that are \
         kept, one at a time on each, and as messages of one WebSocket, {IN_FLIGHT} of them in flight. What nginx returns has the size of the \
         other answers. Server CPU is the user and system time of all processes of the server. The client has one thread.\n"
    );
    Ok(())
}

fn start(bench: &Bench, name: &str, workers: u32) -> io::Result<Option<Server>> {
    let (module, http, locations) = match name {
        PEER => (bench.setup.nchan.as_deref(), NCHAN_HTTP, NCHAN),
        NGINX => (bench.setup.module.as_deref(), "", RETURN),
        _ => (bench.setup.module_with("websocket_channel_zone")?, OURS_HTTP, OURS_LOCATIONS),
    };
    let Some(module) = module else { return Ok(None) };
    bench.setup.nginx(&Nginx { module, workers, http, locations }).map(Some)
}

fn publish(bench: &Bench, server: &Server, form: Form<'_>) -> io::Result<Outcome> {
    let (publishers, window) = match form {
        Form::Http(_) => (PUBLISHERS, 1),
        Form::WebSocket(_) => (1, IN_FLIGHT),
    };
    let (warm_up, duration) = (bench.effort.warm_up(), bench.effort.duration);
    let plan = Plan { form, publishers, window, length: LENGTH, warm_up, duration };
    bench.effort.quiet.wait()?;
    let mut publishers = Publishers::connect(plan, server.address)?;
    // Not before: a worker may be started after its socket is there.
    publishers.run(&server.own()?)
}

fn with_workers(bench: &Bench, workers: u32, table: &mut Table) -> io::Result<()> {
    let of = if workers == 1 { "1 worker" } else { "2 workers" };
    let rate = format!("16 publishers by HTTP, {of}: publications");
    let cpu = format!("16 publishers by HTTP, {of}: server CPU per publication");
    let is_wanted = [&rate, &cpu].iter().any(|work| bench.wants(work));
    if !is_wanted && (workers > 1 || ![WEBSOCKET, WEBSOCKET_CPU, BESIDE].iter().any(|work| bench.wants(work))) {
        return Ok(());
    }
    let mut subjects = Vec::new();
    for name in [PEER, NGINX, OURS] {
        if let Some(server) = start(bench, name, workers)? {
            subjects.push((name, server));
        }
    }
    for _ in 0..bench.effort.rounds {
        for (name, server) in &subjects {
            let by_http = publish(bench, server, Form::Http(&|_| "/pub".to_owned()))?;
            table.add(&rate, Unit::PerSecond, Goal::AtLeastTimesOf(0.85, NGINX), name, by_http.rate());
            table.add(&cpu, Unit::Microseconds, Goal::AtMostTimesOf(1.15, NGINX), name, by_http.cpu_each());
            // One connection has one worker, however many there are.
            if workers == 1 && *name != NGINX {
                let outcome = publish(bench, server, Form::WebSocket("/pub"))?;
                table.add(WEBSOCKET, Unit::PerSecond, Goal::None, name, outcome.rate());
                table.add(WEBSOCKET_CPU, Unit::Microseconds, Goal::None, name, outcome.cpu_each());
                table.add(BESIDE, Unit::Times, Goal::AtLeast(5.0), name, outcome.rate() / by_http.rate());
            }
        }
    }
    Ok(())
}
