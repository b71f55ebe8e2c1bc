// SPDX-License-Identifier: Apache-2.0

//! The longest pause of a worker's event loop, as its clients see it, while something happens to many of them at once.
//!
//! One worker serves each server, so that the connection of a [`Probe`] says which worker is asked: one that was open before a
//! reload belongs to the old one.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use crate::crowd::Crowd;
use crate::http::{self, Pipeline};
use crate::probe::{Answers, Probe};
use crate::process::Server;
use crate::report::{Goal, OURS, Table, Unit};
use crate::servers::{self, Nginx};
use crate::sys;
use crate::wire::wrong;

const ALONE: &str = "nginx alone";
const GOAL: Goal = Goal::AtMost(10.0);

const JSON: &str = "status page as JSON, 10,000 subscribers";
const PROMETHEUS: &str = "status page for Prometheus, 10,000 subscribers";
const PRESENCE: &str = "presence of 10,000 names";
const LIST: &str = "list of 1,000 subscribers of 10,000";
const MESSAGE: &str = "a message to 10,000 subscribers";
const EXPEL: &str = "a subscriber of 10,000 is disconnected by its name";
const DELETE: &str = "a channel with 10,000 subscribers is deleted";
const LEAVE_ONE: &str = "10,000 subscribers of one channel leave at once";
const LEAVE_EACH: &str = "10,000 subscribers of a channel each leave at once";
const EXPIRE_ONE: &str = "100,000 messages of one channel expire at once";
const EXPIRE_MANY: &str = "100,000 messages of 10,000 channels expire at once";
const RELOAD_NEW: &str = "reload, 10,000 sessions stay: a new connection";
const RELOAD_STAY: &str = "reload, 10,000 sessions stay: the old worker";
const DRAINED: &str = "reload, 10,000 sessions are drained in 2 s: the old worker";
const DRAIN_END: &str = "10,000 sessions are drained: while the last of them are closed";
const KILLED: &str = "a worker with 10,000 sessions is killed: until its successor answers";
const AFTERWARDS: &str = "a worker with 10,000 sessions is killed: the first three seconds of its successor";

/// Rows that the picture shows, and what they are called there.
pub const SHOWN: [(&str, &str); 10] = [
    (JSON, "status page"),
    (PRESENCE, "presence of 10,000"),
    (MESSAGE, "a message to 10,000"),
    (DELETE, "10,000 closed with their channel"),
    (LEAVE_ONE, "10,000 leave at once"),
    (EXPIRE_MANY, "100,000 messages expire"),
    (RELOAD_NEW, "reload, new connections"),
    (RELOAD_STAY, "reload, the old worker"),
    (DRAINED, "10,000 are drained"),
    (AFTERWARDS, "after a worker was killed"),
];

/// Clients of each row.
const CLIENTS: usize = 10_000;
/// Messages that expire together.
const MESSAGES: usize = 100_000;
/// How long an event may go on after what has caused it.
const AFTER: Duration = Duration::from_millis(500);
/// `websocket_drain` of the rows that drain.
const DRAIN: Duration = Duration::from_secs(2);
/// Part of the drain that counts as its end.
const LAST: Duration = Duration::from_millis(500);

const HTTP: &str = "websocket_channel_zone 256m;";
/// A probe stays with its worker through a drain. The answer to what it publishes is what it measures.
const LOCATIONS: &str = r"
location = /plain { return 204; }
location = /probe { websocket_channel probe mode=pub; websocket_channel_history off; }
location ~ ^/stay/(\w+)/(\w+)$ { websocket_channel $1; websocket_channel_presence $2; }
location ~ ^/drained/(\w+)/(\w+)$ { websocket_channel $1; websocket_channel_presence $2; websocket_drain 2s; }
location ~ ^/pub/(\w+)$ {
    websocket_channel $1 mode=pub; websocket_channel_history length=0 time=$arg_time;
    client_max_body_size 1m; websocket_channel_delete on;
}
location = /json { websocket_status json; }
location = /prometheus { websocket_status prometheus; }";

/// Measures and prints the table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    let mut table = Table::new(&[ALONE, OURS]);
    for _ in 0..bench.effort.rounds {
        let mut round = Round { bench, table: &mut table };
        round.pages()?;
        round.leaving()?;
        round.expiry()?;
        round.reloads()?;
        round.start()?;
    }
    bench.results.add(table.cells());
    println!("### Pauses of the event loop: `bench pause`\n");
    print!("{}", table.markdown());
    println!(
        "\nThe longest time that a client waits which asks once in a millisecond, beyond the median of its answers, while what the row \
         says happens in its worker. Each server has one worker. nginx alone has {CLIENTS} idle connections that are kept, where ours has \
         as many WebSockets.\n"
    );
    Ok(())
}

struct Round<'a> {
    bench: &'a Bench,
    table: &'a mut Table,
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What a probe that asks by `probe` has seen from the beginning of `event` until a while after it.
fn watch(probe: Probe, event: impl FnOnce() -> io::Result<()>) -> io::Result<(Answers, Instant, Instant)> {
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    event()?;
    let ended = Instant::now();
    thread::sleep(AFTER);
    Ok((probe.end()?, begun, ended + AFTER))
}

fn pause((answers, from, to): (Answers, Instant, Instant)) -> io::Result<f64> {
    answers.pause(from, to).map(milliseconds).ok_or_else(|| wrong("the probe has asked nothing"))
}

/// The answer to a request has a good status, and begins with this.
fn expect(server: &Server, method: &str, path: &str, beginning: &str) -> io::Result<()> {
    let response = http::once(server.address, method, path)?;
    let body = String::from_utf8_lossy(&response.body);
    if !(200..300).contains(&response.status) || !body.starts_with(beginning) {
        let start: String = body.chars().take(80).collect();
        return Err(wrong(format!("{method} {path}: {} {start}", response.status)));
    }
    Ok(())
}

impl Round<'_> {
    fn server(&self) -> io::Result<Option<Server>> {
        let Some(module) = self.bench.setup.module_with("websocket_channel_zone")? else { return Ok(None) };
        let server = self.bench.setup.nginx(&Nginx { module, workers: 1, http: HTTP, locations: LOCATIONS })?;
        self.bench.effort.quiet.wait()?;
        Ok(Some(server))
    }

    fn wants(&self, rows: &[&str]) -> bool {
        rows.iter().any(|work| self.bench.wants(work))
    }

    fn clients(&self) -> usize {
        self.bench.effort.scaled(CLIENTS)
    }

    fn add(&mut self, work: &str, column: &str, value: f64) {
        if self.bench.wants(work) {
            self.table.add(work, Unit::Milliseconds, GOAL, column, value);
        }
    }

    /// Something that is asked of, or done to, all subscribers of a channel, and leaves them there; at last what does not.
    fn pages(&mut self) -> io::Result<()> {
        if !self.wants(&[JSON, PROMETHEUS, PRESENCE, LIST, MESSAGE, EXPEL, DELETE]) {
            return Ok(());
        }
        let Some(server) = self.server()? else { return Ok(()) };
        let count = self.clients();
        let mut crowd = Crowd::of_sessions(count, server.address, |index| format!("/stay/lobby/n{index}"))?;
        let subscribers = format!("{{\"subscribers\": {count}, ");
        let on_machine = format!("{{\"scope\": \"machine\", \"subscribers\": {count}, ");
        for (work, method, path, beginning) in [
            (JSON, "GET", "/json", "{"),
            (PROMETHEUS, "GET", "/prometheus", "# "),
            (PRESENCE, "GET", "/pub/lobby?presence", &subscribers),
            (LIST, "GET", "/pub/lobby?subscribers&limit=1000", &on_machine),
            (MESSAGE, "POST", "/pub/lobby?time=1h", "queued messages: "),
            (EXPEL, "DELETE", "/pub/lobby?presence=n0", "{\"disconnected\": 1}"),
            (DELETE, "DELETE", "/pub/lobby", ""),
        ] {
            let seen = watch(Probe::of_session(server.address, "/probe")?, || {
                expect(&server, method, path, beginning)?;
                crowd.listen(if work == DELETE { 10 * AFTER } else { AFTER })
            })?;
            self.add(work, OURS, pause(seen)?);
        }
        if crowd.is_empty() { Ok(()) } else { Err(wrong(format!("{} subscribers were not closed", crowd.len()))) }
    }

    fn leaving(&mut self) -> io::Result<()> {
        for work in [LEAVE_ONE, LEAVE_EACH] {
            if !self.wants(&[work]) {
                continue;
            }
            for column in [ALONE, OURS] {
                let Some(server) = self.server()? else { return Ok(()) };
                let (target, count) = (server.address, self.clients());
                let (crowd, probe) = if column == ALONE {
                    (Crowd::of_requests(count, target, "/plain")?, Probe::of_connections(target, "/plain"))
                } else {
                    let path = |index| match work {
                        LEAVE_ONE => format!("/stay/lobby/n{index}"),
                        _ => format!("/stay/c{index}/n{index}"),
                    };
                    (Crowd::of_sessions(count, target, path)?, Probe::of_session(target, "/probe")?)
                };
                let seen = watch(probe, || {
                    crowd.leave();
                    Ok(())
                })?;
                self.add(work, column, pause(seen)?);
            }
        }
        Ok(())
    }

    /// The last message of each channel brings a time at which those before it have expired.
    fn expiry(&mut self) -> io::Result<()> {
        for (work, channels) in [(EXPIRE_ONE, 1), (EXPIRE_MANY, self.clients())] {
            if !self.wants(&[work]) {
                continue;
            }
            let Some(server) = self.server()? else { return Ok(()) };
            let mut publisher = Pipeline::connect(server.address)?;
            for index in 0..self.bench.effort.scaled(MESSAGES) {
                publisher.publish(&format!("/pub/c{}?time=1h", index % channels), &[b'x'; 100])?;
            }
            publisher.finish()?;
            thread::sleep(Duration::from_secs(1));
            let seen = watch(Probe::of_session(server.address, "/probe")?, || {
                for channel in 0..channels {
                    publisher.publish(&format!("/pub/c{channel}?time=500ms"), &[b'x'; 100])?;
                }
                publisher.finish()?;
                thread::sleep(3 * AFTER);
                expect(&server, "GET", "/pub/c0", "queued messages: 0")?;
                // Memory that has become free is used again.
                for channel in 0..channels {
                    publisher.publish(&format!("/pub/c{channel}?time=1h"), &[b'x'; 100])?;
                }
                publisher.finish()
            })?;
            self.add(work, OURS, pause(seen)?);
        }
        Ok(())
    }

    fn reloads(&mut self) -> io::Result<()> {
        if self.wants(&[RELOAD_NEW]) {
            let Some(server) = self.server()? else { return Ok(()) };
            let _crowd = Crowd::of_requests(self.clients(), server.address, "/plain")?;
            let seen = watch(Probe::of_connections(server.address, "/plain"), || reload(&server))?;
            self.add(RELOAD_NEW, ALONE, pause(seen)?);
        }
        if self.wants(&[RELOAD_NEW, RELOAD_STAY]) {
            let Some(server) = self.server()? else { return Ok(()) };
            let crowd = Crowd::of_sessions(self.clients(), server.address, |index| format!("/stay/lobby/n{index}"))?;
            let old = Probe::of_session(server.address, "/probe")?;
            let seen = watch(Probe::of_connections(server.address, "/plain"), || reload(&server))?;
            let (_, begun, ended) = seen;
            self.add(RELOAD_NEW, OURS, pause(seen)?);
            self.add(RELOAD_STAY, OURS, pause((old.end()?, begun, ended))?);
            crowd.leave();
        }
        if self.wants(&[DRAINED, DRAIN_END]) {
            let Some(server) = self.server()? else { return Ok(()) };
            let mut crowd =
                Crowd::of_sessions(self.clients(), server.address, |index| format!("/drained/lobby/n{index}"))?;
            let (answers, begun, ended) = watch(Probe::of_session(server.address, "/probe")?, || {
                reload(&server)?;
                crowd.listen(DRAIN + 10 * AFTER)
            })?;
            if !crowd.is_empty() {
                return Err(wrong(format!("{} sessions were not drained", crowd.len())));
            }
            let last = ended - AFTER - LAST;
            self.add(DRAINED, OURS, pause((answers.clone(), begun, last))?);
            self.add(DRAIN_END, OURS, pause((answers, last, ended))?);
        }
        Ok(())
    }

    /// Until the worker that takes the place of a killed one has answered.
    fn start(&mut self) -> io::Result<()> {
        if !self.wants(&[KILLED, AFTERWARDS]) {
            return Ok(());
        }
        for column in [ALONE, OURS] {
            let Some(server) = self.server()? else { return Ok(()) };
            let _crowd = if column == ALONE {
                Crowd::of_requests(self.clients(), server.address, "/plain")?
            } else {
                Crowd::of_sessions(self.clients(), server.address, |index| format!("/stay/lobby/n{index}"))?
            };
            let begun = Instant::now();
            servers::kill_workers(&server)?;
            expect(&server, "GET", "/plain", "")?;
            self.add(KILLED, column, milliseconds(begun.elapsed()));
            if column == OURS {
                let seen = watch(Probe::of_session(server.address, "/probe")?, || {
                    thread::sleep(Duration::from_secs(3));
                    Ok(())
                })?;
                self.add(AFTERWARDS, column, pause(seen)?);
            }
        }
        Ok(())
    }
}

/// nginx reads its configuration again, and its old worker is told to go.
fn reload(server: &Server) -> io::Result<()> {
    let before = server.workers()?;
    sys::kill(server.pid(), libc::SIGHUP)?;
    server.wait_for_workers_beside(&before).map(drop)
}
