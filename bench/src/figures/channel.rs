// SPDX-License-Identifier: Apache-2.0

//! Channels: against Nchan.

use std::io;
use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use super::Bench;
use crate::fanout::{Fanout, Plan};
use crate::process::{self, Server, free_address};
use crate::report::{Goal, OURS, Table, Unit, median};
use crate::servers::{self, Nginx};
use crate::sleeping::{Sleeping, Transport};
use crate::tls::Certificate;

/// The first column.
pub const PEER: &str = "Nchan";

/// Rows that the picture shows as well.
pub const ONE_THOUSAND: &str = "1,000 subscribers, one message at a time: server CPU per delivery";
const WEBSOCKET: &str = "400 subscribers that sleep, WebSocket: server CPU per delivery";
const TLS: &str = "the same by WebSocket over TLS 1.3";
const EVENTSOURCE: &str = "the same by EventSource";
const LONGPOLL: &str = "the same by long-poll, the next request included";
/// Those of subscribers that sleep, by transport.
pub const TRANSPORTS: [(&str, &str); 4] =
    [(WEBSOCKET, "WebSocket"), (TLS, "WebSocket, TLS 1.3"), (EVENTSOURCE, "EventSource"), (LONGPOLL, "long-poll")];

const BARE: &str = "bare sender";

/// As many messages are kept as no subscriber can lag behind.
const NCHAN_HTTP: &str = "nchan_shared_memory_size 128m;";
const NCHAN: &str = r"
location ~ ^/pub/(\w+)$ {
    nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 100; nchan_message_timeout 1h;
}
location ~ ^/sub/(\w+)$ {
    nchan_subscriber websocket eventsource longpoll; nchan_channel_id $1; nchan_subscriber_first_message newest;
}";
const OURS_HTTP: &str = "websocket_channel_zone 128m;";
const OURS_LOCATIONS: &str = r"
location ~ ^/pub/(\w+)$ { websocket_channel $1 mode=pub; websocket_channel_history length=100 time=1h; }
location ~ ^/sub/(\w+)$ { websocket_channel $1; }";

fn start(bench: &Bench, name: &str, workers: u32) -> io::Result<Option<Server>> {
    let setup = &bench.setup;
    match name {
        BARE => servers::bare("bare-fanout", &[]).map(Some),
        PEER => match setup.nchan.as_deref() {
            Some(module) => setup.nginx(&Nginx { module, workers, http: NCHAN_HTTP, locations: NCHAN }).map(Some),
            None => Ok(None),
        },
        _ => match setup.module_with("websocket_channel_zone")? {
            Some(module) => {
                setup.nginx(&Nginx { module, workers, http: OURS_HTTP, locations: OURS_LOCATIONS }).map(Some)
            }
            None => Ok(None),
        },
    }
}

/// Rows that one load gives.
struct Load {
    channels: usize,
    subscribers: usize,
    window: usize,
    workers: u32,
    cpu: Option<(&'static str, Goal)>,
    rate: Option<(&'static str, Goal)>,
    answer: Option<(&'static str, Goal)>,
}

const LOADS: [Load; 6] = [
    Load {
        channels: 1,
        subscribers: 1000,
        window: 1,
        workers: 1,
        cpu: Some((ONE_THOUSAND, Goal::AtMostTimes(0.8))),
        rate: None,
        answer: None,
    },
    Load {
        channels: 1,
        subscribers: 10_000,
        window: 1,
        workers: 1,
        cpu: Some(("10,000 subscribers, one message at a time: server CPU per delivery", Goal::AtMostTimes(0.75))),
        rate: None,
        answer: Some(("10,000 subscribers: publisher's answer, median", Goal::AtMostTimes(0.02))),
    },
    Load {
        channels: 1,
        subscribers: 1000,
        window: 16,
        workers: 1,
        cpu: None,
        rate: Some(("1,000 subscribers, 16 messages in flight: deliveries", Goal::AtLeastTimes(4.0))),
        answer: None,
    },
    Load {
        channels: 1,
        subscribers: 1000,
        window: 16,
        workers: 2,
        cpu: None,
        rate: Some(("1,000 subscribers, 16 messages in flight, 2 workers: deliveries", Goal::AtLeastTimes(4.0))),
        answer: None,
    },
    Load {
        channels: 1000,
        subscribers: 9,
        window: 16,
        workers: 1,
        cpu: Some(("1,000 channels of 9 subscribers: server CPU per delivery", Goal::AtMostTimes(0.75))),
        rate: None,
        answer: None,
    },
    Load {
        channels: 1000,
        subscribers: 9,
        window: 16,
        workers: 2,
        cpu: Some(("1,000 channels of 9 subscribers, 2 workers: server CPU per delivery", Goal::AtMostTimes(0.75))),
        rate: None,
        answer: None,
    },
];

/// Measures and prints the table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    let mut table = Table::new(&[PEER, BARE, OURS]);
    for load in &LOADS {
        let rows = [load.cpu, load.rate, load.answer];
        if rows.iter().flatten().any(|(work, _)| bench.wants(work)) {
            measure(bench, load, &mut table)?;
        }
    }
    sleeping(bench, &mut table)?;
    memory(bench, &mut table)?;
    bench.results.add(table.cells());
    println!("### Channels: `bench channel`\n");
    print!("{}", table.markdown());
    println!(
        "\nMessages of 100 octets, published by POST over kept connections. Server CPU is the user and system time of all processes of \
         the server, publishing included. The bare sender has one process in every row. Memory is what nginx's \
         processes hold more for each subscriber, shared memory included; files, the kernel's buffers and the table \
         of connections that nginx allocates when it starts are not in it.\n"
    );
    Ok(())
}

fn measure(bench: &Bench, load: &Load, table: &mut Table) -> io::Result<()> {
    let mut subjects = Vec::new();
    for name in [PEER, BARE, OURS] {
        if let Some(server) = start(bench, name, load.workers)? {
            subjects.push((name, server));
        }
    }
    let plan = Plan {
        channels: if load.channels > 1 { bench.effort.scaled(load.channels) } else { 1 },
        subscribers: if load.channels > 1 { load.subscribers } else { bench.effort.scaled(load.subscribers) },
        window: load.window,
        length: 100,
        any_order: false,
        warm_up: bench.effort.warm_up(),
        duration: bench.effort.duration,
    };
    for _ in 0..bench.effort.rounds {
        for (name, server) in &subjects {
            // New channels and subscribers in each round: old ones leave no trace in the figures.
            bench.effort.quiet.wait()?;
            let mut fanout = Fanout::connect(plan, &[server.address])?;
            // Not before: a worker may be started after its socket is there.
            let outcome = fanout.run(&server.own()?, &[])?;
            let answers: Vec<f64> = outcome.answers.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            let values = [
                (load.cpu, Unit::Microseconds, outcome.cpu_per_delivery()),
                (load.rate, Unit::PerSecond, outcome.rate()),
                (load.answer, Unit::Milliseconds, median(&answers)),
            ];
            for (row, unit, value) in values {
                if let Some((work, goal)) = row {
                    table.add(work, unit, goal, name, value);
                }
            }
            eprintln!(
                "    {:.0} deliveries/s, {:.2} us of server CPU each, publisher's answer {:.3} ms",
                outcome.rate(),
                outcome.cpu_per_delivery(),
                median(&answers)
            );
        }
    }
    Ok(())
}

/// The message is delivered this often in a round.
const DELIVERIES: usize = 10;

/// One message at a time to subscribers that take it when the server has nothing left to do.
fn sleeping(bench: &Bench, table: &mut Table) -> io::Result<()> {
    const BESIDE: &str = "the same by EventSource, beside WebSocket";
    let rows = [WEBSOCKET, TLS, EVENTSOURCE, LONGPOLL, BESIDE];
    if !rows.iter().any(|work| bench.wants(work)) {
        return Ok(());
    }
    let certificate = Certificate::new(&bench.setup.directory.join("certificate"))?;
    let subscribers = bench.effort.scaled(400);
    for _ in 0..bench.effort.rounds {
        for name in [PEER, BARE, OURS] {
            let tls = free_address()?;
            let Some(server) = start_with_tls(bench, name, tls, &certificate)? else { continue };
            let mut websocket = f64::NAN;
            for (work, path, transport) in [
                (WEBSOCKET, "websocket", Transport::WebSocket),
                (TLS, "tls", Transport::WebSocketTls(&certificate)),
                (EVENTSOURCE, "eventsource", Transport::EventSource),
                (LONGPOLL, "longpoll", Transport::LongPoll),
            ] {
                // The bare sender knows nothing else.
                if name == BARE && work != WEBSOCKET {
                    continue;
                }
                bench.effort.quiet.wait()?;
                let target = if let Transport::WebSocketTls(_) = transport { tls } else { server.address };
                let mut sleeping = Sleeping::connect(transport, subscribers, target, server.address, path)?;
                let pids = server.own()?;
                let once = |_| sleeping.deliver(100, &pids).map(|cpu| cpu.as_secs_f64() * 1e6 / subscribers as f64);
                let mut costs: Vec<f64> = (0..=DELIVERIES).map(once).collect::<io::Result<_>>()?;
                // The first one finds nothing prepared.
                costs.remove(0);
                let cost = median(&costs);
                table.add(work, Unit::Microseconds, Goal::AtMostTimes(0.75), name, cost);
                if work == WEBSOCKET {
                    websocket = cost;
                }
                if work == EVENTSOURCE {
                    table.add(BESIDE, Unit::Times, Goal::AtMost(1.2), name, cost / websocket);
                }
            }
        }
    }
    Ok(())
}

/// The same server, which also has a port for TLS 1.3 if it is an nginx.
fn start_with_tls(
    bench: &Bench,
    name: &str,
    address: SocketAddrV4,
    certificate: &Certificate,
) -> io::Result<Option<Server>> {
    let listen = |http: &str, locations: &str| {
        format!(
            "{http}\nserver {{ listen {address} ssl; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};{locations}\n}}",
            certificate.path.display(),
            certificate.key.display()
        )
    };
    let (module, http, locations) = match name {
        BARE => return start(bench, name, 1),
        PEER => (bench.setup.nchan.as_deref(), NCHAN_HTTP, NCHAN),
        _ => (bench.setup.module_with("websocket_channel_zone")?, OURS_HTTP, OURS_LOCATIONS),
    };
    let Some(module) = module else { return Ok(None) };
    let http = listen(http, locations);
    bench.setup.nginx(&Nginx { module, workers: 1, http: &http, locations }).map(Some)
}

fn memory(bench: &Bench, table: &mut Table) -> io::Result<()> {
    const WORK: &str = "worker memory per WebSocket subscriber";
    if !bench.wants(WORK) {
        return Ok(());
    }
    for _ in 0..bench.effort.rounds.min(3) {
        for name in [PEER, BARE, OURS] {
            // A new server each time: what was freed once would be used again without growth.
            let Some(server) = start(bench, name, 1)? else { continue };
            let plan = |subscribers| Plan {
                channels: 1,
                subscribers,
                window: 1,
                length: 100,
                any_order: false,
                warm_up: Duration::ZERO,
                duration: Duration::ZERO,
            };
            // What a server sets up once is not to be counted.
            Fanout::connect(plan(10), &[server.address])?.exchange(5)?;
            thread::sleep(Duration::from_millis(200));
            let pids = server.own()?;
            let before = process::memory(&pids)?;
            let subscribers = bench.effort.scaled(2000);
            let mut fanout = Fanout::connect(plan(subscribers), &[server.address])?;
            fanout.exchange(5)?;
            thread::sleep(Duration::from_millis(500));
            let grown = process::memory(&pids)?.saturating_sub(before);
            table.add(WORK, Unit::Memory, Goal::AtMostTimes(0.7), name, grown as f64 / subscribers as f64);
        }
    }
    Ok(())
}
