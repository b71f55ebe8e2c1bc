// SPDX-License-Identifier: Apache-2.0

//! How cost grows with what there is: subscribers, channels, stored messages, open connections. Nothing is to cost more because there is
//! more of something else.

use std::io;
use std::thread;
use std::time::Duration;

use super::Bench;
use crate::connect::{self, Until};
use crate::crowd::Crowd;
use crate::fanout::{self, Fanout};
use crate::http::{self, Pipeline};
use crate::link;
use crate::process::{self, Server};
use crate::publishing::{Form, Plan, Publishers};
use crate::report::{OURS, Unit};
use crate::series::Series;
use crate::servers::{self, Nginx};
use crate::sys;
use crate::wire::wrong;

const BARE: &str = "bare sender";

/// The first table.
pub const DELIVERY: &str = "server CPU per delivery";
/// What grows in it.
pub const SUBSCRIBERS: &str = "subscribers of the channel";

/// Octets of each message.
const LENGTH: usize = 100;

/// Connections that are opened to see what one costs.
const CONNECTIONS: usize = 2000;

/// Up to this, a size is not scaled.
const SMALL: usize = 10;

/// Descriptors of a process besides those of its connections.
const OTHERS: u64 = 500;

/// Measures and prints the tables.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    let mut all = Vec::new();
    for measure in [deliveries, publications_by_channels, publications_by_messages, subscribers, programs] {
        all.extend(measure(bench)?);
    }
    bench.results.add(all.iter().flat_map(Series::cells));
    println!("### How cost grows: `bench growth`\n");
    for series in &all {
        println!("{}", series.markdown());
    }
    println!(
        "Messages of {LENGTH} octets. Server CPU is the user and system time of all processes of the server, which has one worker. That of a \
         delivery is without what the publication costs where nobody is subscribed. A cell is empty where more descriptors would have to be \
         open than the system allows.\n"
    );
    Ok(())
}

/// A series of these sizes, scaled as far as they are not small already, if it is wanted.
fn series(bench: &Bench, work: &str, of: &'static str, sizes: &[usize]) -> Option<Series> {
    let scale = |&size: &usize| if size <= SMALL { size } else { bench.effort.scaled(size).max(SMALL) };
    let mut scaled: Vec<usize> = sizes.iter().map(scale).collect();
    scaled.dedup();
    bench.wants(work).then(|| Series::new(work, Unit::Microseconds, of, &scaled))
}

/// Whether client and server may each have so many connections.
fn is_possible(connections: usize) -> io::Result<bool> {
    let needed = connections as u64 + OTHERS;
    let limit = sys::raise_descriptor_limit(needed)?;
    if limit < needed {
        eprintln!("bench: {connections} connections need {needed} descriptors, and only {limit} may be open: left out");
    }
    Ok(limit >= needed)
}

fn nginx(bench: &Bench, connections: usize, zone: &str, locations: &str) -> io::Result<Option<Server>> {
    let Some(module) = bench.setup.module_with("websocket_channel_zone")? else { return Ok(None) };
    let http = format!("websocket_channel_zone {zone};");
    let nginx = Nginx { module, workers: 1, http: &http, locations };
    bench.setup.nginx_for((connections + OTHERS as usize).max(servers::CONNECTIONS), &nginx).map(Some)
}

fn deliveries(bench: &Bench) -> io::Result<Vec<Series>> {
    const LOCATIONS: &str = r"
location ~ ^/pub/(\w+)$ { websocket_channel $1 mode=pub; websocket_channel_history length=100 time=1h; }
location ~ ^/sub/(\w+)$ { websocket_channel $1; }";
    let sizes = [10, 100, 1000, 10_000, 50_000];
    let Some(mut series) = series(bench, DELIVERY, SUBSCRIBERS, &sizes) else {
        return Ok(Vec::new());
    };
    for size in series.sizes().to_vec() {
        if !is_possible(size)? {
            continue;
        }
        for name in [BARE, OURS] {
            let server = match name {
                BARE => servers::bare("bare-fanout", &[])?,
                _ => match nginx(bench, size, "128m", LOCATIONS)? {
                    Some(server) => server,
                    None => continue,
                },
            };
            let plan = fanout::Plan {
                channels: 1,
                subscribers: size,
                window: 1,
                length: LENGTH,
                any_order: false,
                warm_up: bench.effort.warm_up(),
                duration: bench.effort.duration,
            };
            let mut fanout = Fanout::connect(plan, &[server.address])?;
            let pids = server.own()?;
            for _ in 0..bench.effort.rounds {
                bench.effort.quiet.wait()?;
                // One at a time, as those that have subscribers.
                let alone = publish(bench, &server, &|_| "/pub/alone".to_owned())?;
                let outcome = fanout.run(&pids, &[])?;
                let publishing = alone * outcome.publications() / outcome.deliveries as f64;
                series.add(name, size, outcome.cpu_per_delivery() - publishing);
            }
        }
    }
    Ok(vec![series])
}

/// Microseconds of server CPU for a publication to each of these paths in turn, one at a time.
fn publish(bench: &Bench, server: &Server, path: &dyn Fn(u64) -> String) -> io::Result<f64> {
    let plan = Plan {
        form: Form::Http(path),
        publishers: 1,
        window: 1,
        length: LENGTH,
        warm_up: bench.effort.warm_up(),
        duration: bench.effort.duration,
    };
    Ok(Publishers::connect(plan, server.address)?.run(&server.own()?)?.cpu_each())
}

/// Publishes `count` messages.
fn fill(server: &Server, count: usize, path: impl Fn(usize) -> String) -> io::Result<()> {
    let mut pipeline = Pipeline::connect(server.address)?;
    for index in 0..count {
        pipeline.publish(&path(index), &[b'x'; LENGTH])?;
    }
    pipeline.finish()
}

/// A step that visits each of `count` things before it visits one again, and no two neighbours one after the other.
fn stride(count: usize) -> usize {
    let is_coprime = |step: &usize| {
        let (mut large, mut small) = (count, *step);
        while small > 0 {
            (large, small) = (small, large % small);
        }
        large == 1
    };
    ((count as f64 * 0.618) as usize..).find(is_coprime).unwrap_or(1)
}

fn publications_by_channels(bench: &Bench) -> io::Result<Vec<Series>> {
    const LOCATIONS: &str = r"
location ~ ^/pub/(\w+)$ { websocket_channel $1 mode=pub; websocket_channel_history length=1 time=1h; }
location = /status { websocket_status prometheus; }";
    let Some(mut series) = series(bench, "server CPU per publication", "channels", &[1, 100, 10_000, 1_000_000]) else {
        return Ok(Vec::new());
    };
    let mut servers = Vec::new();
    for size in series.sizes().to_vec() {
        // Two cells of 256 octets for a channel and its message, the table of channels, and the quarter that messages do not get.
        let zone = format!("{}m", ((size * 1024) >> 20).max(32));
        let Some(server) = nginx(bench, 100, &zone, LOCATIONS)? else { return Ok(Vec::new()) };
        fill(&server, size, |index| format!("/pub/c{index}"))?;
        let status = http::once(server.address, "GET", "/status")?;
        if !String::from_utf8_lossy(&status.body).contains(&format!("\nnginx_websocket_channels {size}\n")) {
            return Err(wrong(format!("not all of {size} channels are there")));
        }
        servers.push((size, server));
    }
    for _ in 0..bench.effort.rounds {
        for (size, server) in &servers {
            bench.effort.quiet.wait()?;
            let (count, step) = (*size as u64, stride(*size) as u64);
            let value = publish(bench, server, &|number| format!("/pub/c{}", number * step % count))?;
            series.add(OURS, *size, value);
        }
    }
    Ok(vec![series])
}

fn publications_by_messages(bench: &Bench) -> io::Result<Vec<Series>> {
    let sizes = [10, 1000, 100_000];
    let Some(mut series) = series(bench, "server CPU per publication", "messages in the channel", &sizes) else {
        return Ok(Vec::new());
    };
    let mut servers = Vec::new();
    for size in series.sizes().to_vec() {
        let locations = format!(
            "location /pub {{ websocket_channel one mode=pub; websocket_channel_history length={size} time=1h; }}"
        );
        let Some(server) = nginx(bench, 100, "128m", &locations)? else { return Ok(Vec::new()) };
        fill(&server, size, |_| "/pub".to_owned())?;
        servers.push((size, server));
    }
    for _ in 0..bench.effort.rounds {
        for (size, server) in &servers {
            bench.effort.quiet.wait()?;
            series.add(OURS, *size, publish(bench, server, &|_| "/pub".to_owned())?);
        }
    }
    Ok(vec![series])
}

fn subscribers(bench: &Bench) -> io::Result<Vec<Series>> {
    connections(bench, "server CPU per subscriber that comes and goes", |server| {
        link::open(link::source(0), server.address, "/sub", "").map(drop)
    })
}

fn programs(bench: &Bench) -> io::Result<Vec<Series>> {
    connections(bench, "server CPU per program that is started", |server| {
        connect::once(link::source(0), server.address, "/echo", Until::Greeted(b"hi")).map(drop)
    })
}

/// What it costs to come and go, by `visit`, where so many subscribers of one channel are connected.
fn connections(bench: &Bench, work: &str, visit: impl Fn(&Server) -> io::Result<()>) -> io::Result<Vec<Series>> {
    const LOCATIONS: &str = "location = /sub { websocket_channel lobby; }
        location = /echo { websocket_exec /bin/echo hi; }";
    let Some(mut series) = series(bench, work, "open connections", &[0, 1000, 10_000]) else { return Ok(Vec::new()) };
    let count = bench.effort.scaled(CONNECTIONS);
    for size in series.sizes().to_vec() {
        if !is_possible(size)? {
            continue;
        }
        let Some(server) = nginx(bench, size, "32m", LOCATIONS)? else { return Ok(Vec::new()) };
        let _crowd = Crowd::of_sessions(size, server.address, |_| "/sub".to_owned())?;
        for _ in 0..bench.effort.rounds {
            bench.effort.quiet.wait()?;
            (0..count / 10).try_for_each(|_| visit(&server))?;
            let pids = server.own()?;
            thread::sleep(Duration::from_millis(50));
            let cpu = process::cpu_time(&pids);
            (0..count).try_for_each(|_| visit(&server))?;
            // The last of them are on their way out.
            thread::sleep(Duration::from_millis(50));
            let cpu = process::cpu_time(&pids) - cpu;
            series.add(OURS, size, cpu.as_secs_f64() * 1e6 / count as f64);
        }
    }
    Ok(vec![series])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_visits_everything() {
        for count in [1, 2, 3, 100, 10_000] {
            let step = stride(count);
            let mut visited: Vec<usize> = (0..count).map(|number| number * step % count).collect();
            visited.sort_unstable();
            assert!(visited.iter().copied().eq(0..count), "{count} by {step}");
        }
    }
}
