// SPDX-License-Identifier: Apache-2.0

//! Channels of two nodes that share one Redis: against Nchan in its distributed mode, and against nodes without an HTTP server around
//! them that call the same script.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use crate::engine;
use crate::fanout::{Fanout, Outcome, Plan};
use crate::link::{self, PATIENCE};
use crate::process::{Server, cpu_time, free_address};
use crate::report::{Goal, OURS, Table, Unit};
use crate::servers::{self, Nginx};
use crate::sys;
use crate::wire::{self, wrong};

const PEER: &str = "Nchan";
const FLOOR: &str = "bare node";
/// The module where no engine is configured, on one machine.
const ALONE: &str = "ours without an engine";

/// Two nodes and what is between them. The nodes end before it does.
struct Nodes {
    nodes: Vec<Server>,
    engine: Option<Server>,
}

fn redis(address: SocketAddrV4) -> io::Result<Server> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    Server::start(command, address)
}

/// Starts nodes with so many workers each.
fn start(bench: &Bench, name: &str, workers: u32) -> io::Result<Option<Nodes>> {
    let setup = &bench.setup;
    let address = free_address()?;
    let module = match name {
        FLOOR => None,
        PEER => match setup.nchan.as_deref() {
            Some(module) => Some(module),
            None => return Ok(None),
        },
        _ => match setup.module_with("websocket_channel_redis")? {
            Some(module) => Some(module),
            None => return Ok(None),
        },
    };
    let (http, locations) = match name {
        PEER => (
            format!("nchan_shared_memory_size 128m; upstream engine {{ nchan_redis_server redis://{address}; }}"),
            r"
location ~ ^/pub/(\w+)$ {
    nchan_publisher; nchan_channel_id $1; nchan_redis_pass engine; nchan_message_buffer_length 1000; nchan_message_timeout 1h;
}
location ~ ^/sub/(\w+)$ {
    nchan_subscriber websocket; nchan_channel_id $1; nchan_redis_pass engine; nchan_subscriber_first_message newest;
}",
        ),
        _ => (
            match name {
                ALONE => "websocket_channel_zone 128m;".to_owned(),
                _ => format!("websocket_channel_zone 128m; websocket_channel_redis redis://{address};"),
            },
            r"
location ~ ^/pub/(\w+)$ { websocket_channel $1 mode=pub; websocket_channel_history length=1000 time=1h; }
location ~ ^/sub/(\w+)$ { websocket_channel $1; }",
        ),
    };
    let engine = if name == ALONE { None } else { Some(redis(address)?) };
    let count = if name == ALONE { 1 } else { 2 };
    let nodes: io::Result<Vec<Server>> = (0..count)
        .map(|_| match module {
            Some(module) => setup.nginx(&Nginx { module, workers, http: &http, locations }),
            None => servers::bare("bare-fanout", &[&address.to_string()]),
        })
        .collect();
    let nodes = Nodes { nodes: nodes?, engine };
    nodes.wait()?;
    Ok(Some(nodes))
}

impl Nodes {
    fn addresses(&self) -> Vec<SocketAddrV4> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// Waits until every node takes publishers and subscribers.
    fn wait(&self) -> io::Result<()> {
        let begun = Instant::now();
        for address in self.addresses() {
            loop {
                let is_there = publish(address, "ready", Duration::from_secs(5)).is_ok_and(|(status, _)| status < 300)
                    && link::open(Ipv4Addr::LOCALHOST, address, "/sub/ready", "").is_ok();
                if is_there {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    return Err(wrong("a node does not get to its engine"));
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn run(&self, plan: Plan) -> io::Result<Outcome> {
        let mut fanout = Fanout::connect(plan, &self.addresses())?;
        let mut own = Vec::new();
        for node in &self.nodes {
            own.extend(node.own()?);
        }
        let engine: Vec<u32> = self.engine.iter().map(Server::pid).collect();
        fanout.run(&own, &engine)
    }

    fn engine(&self) -> io::Result<&Server> {
        self.engine.as_ref().ok_or_else(|| wrong("no engine"))
    }
}

/// Publishes one message by a connection of its own: the status, and how long that took.
fn publish(address: SocketAddrV4, channel: &str, patience: Duration) -> io::Result<(u16, Duration)> {
    let begun = Instant::now();
    let mut stream = sys::connect(Ipv4Addr::LOCALHOST, address)?;
    stream.set_read_timeout(Some(patience))?;
    let request =
        format!("POST /pub/{channel} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let status = str::from_utf8(&answer[9..]).ok().and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| wrong("no status"))?, begun.elapsed()))
}

fn percentile(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

/// One row: what is taken from an outcome.
struct Row {
    work: &'static str,
    unit: Unit,
    goal: Goal,
    value: fn(&Outcome) -> f64,
}

fn rate(outcome: &Outcome) -> f64 {
    outcome.publications() / outcome.wall.as_secs_f64()
}

fn answer(outcome: &Outcome) -> f64 {
    percentile(&outcome.answers, 0.5)
}

fn cpu(outcome: &Outcome) -> f64 {
    (outcome.cpu + outcome.engine_cpu).as_secs_f64() * 1e6 / outcome.publications()
}

fn engine_cpu(outcome: &Outcome) -> f64 {
    outcome.engine_cpu.as_secs_f64() * 1e6 / outcome.publications()
}

const ONE_AT_A_TIME: [Row; 6] = [
    Row { work: "one at a time: publications", unit: Unit::PerSecond, goal: Goal::AtLeastTimes(2.5), value: rate },
    Row {
        work: "one at a time: publisher's answer, median",
        unit: Unit::Microseconds,
        goal: Goal::AtMostTimes(0.5),
        value: answer,
    },
    Row {
        work: "one at a time: from one node to the other, median",
        unit: Unit::Microseconds,
        goal: Goal::AtMostTimesOf(1.3, FLOOR),
        value: |outcome| percentile(&outcome.arrivals, 0.5),
    },
    Row {
        work: "one at a time: from one node to the other, 99 %",
        unit: Unit::Microseconds,
        goal: Goal::AtMostTimesOf(1.3, FLOOR),
        value: |outcome| percentile(&outcome.arrivals, 0.99),
    },
    Row {
        work: "one at a time: CPU of both nodes and Redis per publication",
        unit: Unit::Microseconds,
        goal: Goal::AtMostTimes(0.4),
        value: cpu,
    },
    Row {
        work: "one at a time: CPU of Redis per publication",
        unit: Unit::Microseconds,
        goal: Goal::AtMostTimes(0.5),
        value: engine_cpu,
    },
];

const IN_FLIGHT: [Row; 5] = [
    Row { work: "16 in flight: publications", unit: Unit::PerSecond, goal: Goal::AtLeastTimes(3.0), value: rate },
    Row {
        work: "16 in flight: publications, beside bare nodes",
        unit: Unit::PerSecond,
        goal: Goal::AtLeastTimesOf(0.7, FLOOR),
        value: rate,
    },
    Row {
        work: "16 in flight: publisher's answer, median",
        unit: Unit::Microseconds,
        goal: Goal::AtMostTimes(0.5),
        value: answer,
    },
    Row {
        work: "16 in flight: CPU of both nodes and Redis per publication",
        unit: Unit::Microseconds,
        goal: Goal::AtMostTimes(0.4),
        value: cpu,
    },
    Row {
        work: "16 in flight: CPU of Redis per publication",
        unit: Unit::Microseconds,
        goal: Goal::AtMostTimes(0.25),
        value: engine_cpu,
    },
];

const MANY: [Row; 1] = [Row {
    work: "1,000 subscribers at each node: CPU of the nodes per delivery",
    unit: Unit::Microseconds,
    goal: Goal::AtMostTimesOf(1.05, ALONE),
    value: Outcome::cpu_per_delivery,
}];

/// Measures and prints the table.
///
/// # Errors
/// When the module does not do its work; a peer that does not is told of and has no value in that row.
pub fn run(bench: &Bench) -> io::Result<()> {
    let mut table = Table::new(&[PEER, FLOOR, OURS, ALONE]);
    load(bench, &mut table, &ONE_AT_A_TIME, &[PEER, FLOOR, OURS], |name| plan(bench, name, 2, 1))?;
    load(bench, &mut table, &IN_FLIGHT, &[PEER, FLOOR, OURS], |name| plan(bench, name, 2, 16))?;
    let thousand = bench.effort.scaled(1000);
    load(bench, &mut table, &MANY, &[PEER, FLOOR, OURS, ALONE], |name| {
        plan(bench, name, if name == ALONE { thousand } else { 2 * thousand }, 1)
    })?;
    connections(bench, &mut table)?;
    stall(bench, &mut table)?;
    recovery(bench, &mut table)?;
    quiet(bench, &mut table)?;
    println!("### Channels over two nodes and a Redis: `bench redis`\n");
    print!("{}", table.markdown());
    println!(
        "\nTwo nodes with one worker each and one Redis, on one machine. Messages of 100 octets are published at the first node by POST over \
         kept connections; a subscriber at each node unless a row says otherwise; 1,000 messages are kept. A row counts where every \
         message reaches every subscriber once; that all get them in the same order is not asked of the peer. A bare node is no HTTP \
         server and calls the same script.\n"
    );
    Ok(())
}

fn plan(bench: &Bench, name: &str, subscribers: usize, window: usize) -> Plan {
    Plan {
        channels: 1,
        subscribers,
        window,
        length: 100,
        any_order: name == PEER,
        warm_up: bench.effort.warm_up(),
        duration: bench.effort.duration,
    }
}

/// Runs what is measured of each of `names` in turn. What fails for a peer is told, and leaves its cell empty.
fn each(
    bench: &Bench,
    rounds: u32,
    names: &[&'static str],
    mut measure: impl FnMut(&'static str, &Nodes) -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..rounds {
        for &name in names {
            // New nodes and an empty engine in each round.
            let outcome = start(bench, name, 1).and_then(|nodes| match nodes {
                Some(nodes) => {
                    bench.effort.quiet.wait()?;
                    measure(name, &nodes)
                }
                None => Ok(()),
            });
            match outcome {
                Err(error) if name == PEER => eprintln!("  {name}: {error}"),
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

fn load(
    bench: &Bench,
    table: &mut Table,
    rows: &[Row],
    names: &[&'static str],
    plan: impl Fn(&str) -> Plan,
) -> io::Result<()> {
    if !rows.iter().any(|row| bench.wants(row.work)) {
        return Ok(());
    }
    each(bench, bench.effort.rounds, names, |name, nodes| {
        let outcome = nodes.run(plan(name))?;
        for Row { work, unit, goal, value } in rows {
            table.add(work, *unit, *goal, name, value(&outcome));
        }
        Ok(())
    })
}

fn connections(bench: &Bench, table: &mut Table) -> io::Result<()> {
    const WORK: &str = "connections to Redis of a node with 8 workers";
    if !bench.wants(WORK) {
        return Ok(());
    }
    for name in [PEER, OURS] {
        let Some(nodes) = start(bench, name, 8)? else { continue };
        let engine = nodes.engine()?.address;
        let count = || Ok::<_, io::Error>(engine::info(engine, "clients", "connected_clients")? - 1.0);
        // Those of workers that were started last are on their way.
        let mut most = 0.0_f64;
        for _ in 0..40 {
            most = most.max(count()?);
            thread::sleep(Duration::from_millis(50));
        }
        table.add(WORK, Unit::Count, Goal::AtMost(10.0), name, most / nodes.nodes.len() as f64);
    }
    Ok(())
}

fn stall(bench: &Bench, table: &mut Table) -> io::Result<()> {
    const WORK: &str = "Redis is stopped for 10 s: a publisher waits";
    const STOPPED: Duration = Duration::from_secs(10);
    if !bench.wants(WORK) {
        return Ok(());
    }
    each(bench, 1, &[PEER, OURS], |name, nodes| {
        let engine = nodes.engine()?.pid();
        sys::kill(engine, libc::SIGSTOP)?;
        let begun = Instant::now();
        let answer = thread::scope(|scope| {
            let publisher = scope.spawn(|| publish(nodes.nodes[0].address, "stalled", 2 * STOPPED));
            while begun.elapsed() < STOPPED && !publisher.is_finished() {
                thread::sleep(Duration::from_millis(10));
            }
            sys::kill(engine, libc::SIGCONT)?;
            publisher.join().map_err(|_| wrong("the publisher has failed"))?
        });
        let (status, took) = answer?;
        eprintln!("  {name}: {status} after {took:?}");
        // The default of websocket_channel_redis_timeout, and what it takes to be looked at.
        table.add(WORK, Unit::Milliseconds, Goal::AtMost(5_100.0), name, took.as_secs_f64() * 1e3);
        Ok(())
    })
}

fn recovery(bench: &Bench, table: &mut Table) -> io::Result<()> {
    const WORK: &str = "Redis is replaced by an empty one: until both nodes deliver again";
    if !bench.wants(WORK) {
        return Ok(());
    }
    for _ in 0..bench.effort.rounds {
        for name in [PEER, OURS] {
            let Some(mut nodes) = start(bench, name, 1)? else { continue };
            let mut subscribers = Vec::new();
            for address in nodes.addresses() {
                subscribers.push(link::open(Ipv4Addr::LOCALHOST, address, "/sub/back", "")?.stream);
            }
            let Some(engine) = nodes.engine.take() else { continue };
            let address = engine.address;
            drop(engine);
            // They have noticed, and have tried to come back.
            thread::sleep(Duration::from_secs(1));
            nodes.engine = Some(redis(address)?);
            let begun = Instant::now();
            match first_delivery(nodes.nodes[0].address, &mut subscribers) {
                Ok(()) => {
                    table.add(
                        WORK,
                        Unit::Milliseconds,
                        Goal::AtMost(1_000.0),
                        name,
                        begun.elapsed().as_secs_f64() * 1e3,
                    );
                }
                Err(error) if name == PEER => eprintln!("  {name}: {error}"),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Publishes until something has come to each of the subscribers.
fn first_delivery(address: SocketAddrV4, subscribers: &mut Vec<TcpStream>) -> io::Result<()> {
    let begun = Instant::now();
    let ended = RefCell::new(None);
    while !subscribers.is_empty() {
        // Refused as long as the engine is not there.
        let _ = publish(address, "back", PATIENCE);
        thread::sleep(Duration::from_millis(5));
        subscribers.retain_mut(|stream| match stream.read(&mut [0; 1024]) {
            Ok(0) => {
                *ended.borrow_mut() = Some(wrong("a subscriber was closed"));
                true
            }
            Ok(_) => false,
            Err(error) if wire::would_wait(&error) => true,
            Err(error) => {
                *ended.borrow_mut() = Some(error);
                true
            }
        });
        if let Some(error) = ended.take() {
            return Err(error);
        }
        if begun.elapsed() > PATIENCE {
            return Err(wrong("nothing was delivered"));
        }
    }
    Ok(())
}

fn quiet(bench: &Bench, table: &mut Table) -> io::Result<()> {
    const WORK: &str = "10,000 quiet channels with a subscriber: scripts called";
    const CPU: &str = "10,000 quiet channels with a subscriber: CPU of Redis in a second";
    const WATCHED: Duration = Duration::from_secs(10);
    if !bench.wants(WORK) && !bench.wants(CPU) {
        return Ok(());
    }
    each(bench, 1, &[OURS], |name, nodes| {
        let engine = nodes.engine()?.address;
        let plan = Plan { channels: bench.effort.scaled(10_000), subscribers: 1, ..plan(bench, name, 1, 1) };
        let _subscribers = Fanout::connect(plan, &nodes.addresses())?;
        // They have announced themselves.
        thread::sleep(Duration::from_secs(3));
        let calls = || engine::info(engine, "commandstats", "cmdstat_evalsha:calls");
        let pid = [nodes.engine()?.pid()];
        let (before, spent, begun) = (calls()?, cpu_time(&pid), Instant::now());
        thread::sleep(WATCHED);
        let (cpu, time) = (cpu_time(&pid).saturating_sub(spent), begun.elapsed().as_secs_f64());
        let rate = (calls()? - before) / time;
        table.add(WORK, Unit::PerSecond, Goal::AtMost(2_000.0), name, rate);
        table.add(CPU, Unit::Milliseconds, Goal::AtMost(100.0), name, cpu.as_secs_f64() * 1e3 / time);
        Ok(())
    })
}
