// SPDX-License-Identifier: Apache-2.0

//! CGI programs: against fcgiwrap behind nginx's own `fastcgi_pass`.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use crate::process::Server;
use crate::report::{Goal, OURS, Table, Unit, median};
use crate::servers::{self, Nginx};
use crate::wire::wrong;

const PEER: &str = "fcgiwrap";

/// Processes of fcgiwrap, each of which serves one request at a time, and clients of the row with several.
const AT_ONCE: usize = 8;

/// One server; what is behind it ends with it.
struct Subject {
    name: &'static str,
    server: Server,
    /// fcgiwrap.
    _behind: Option<Server>,
}

impl Subject {
    fn all(bench: &Bench) -> io::Result<Vec<Self>> {
        let Some(module) = bench.setup.module_with("websocket_cgi")? else { return Ok(Vec::new()) };
        let program = program()?;
        let program = program.display();
        let behind = servers::fcgiwrap(AT_ONCE)?;
        let address = behind.address;
        let locations = format!(
            "location / {{ fastcgi_pass {address}; fastcgi_param SCRIPT_FILENAME {program}; \
             fastcgi_param REQUEST_METHOD $request_method; fastcgi_param QUERY_STRING $query_string; }}"
        );
        let peer = bench.setup.nginx(&Nginx { module, workers: 1, http: "", locations: &locations })?;
        let locations = format!("location / {{ websocket_cgi {program}; websocket_exec_max 20000; }}");
        let ours = bench.setup.nginx(&Nginx { module, workers: 1, http: "", locations: &locations })?;
        Ok(vec![
            Self { name: PEER, server: peer, _behind: Some(behind) },
            Self { name: OURS, server: ours, _behind: None },
        ])
    }
}

/// The program that answers, which is built beside the benchmark.
fn program() -> io::Result<PathBuf> {
    let here = env::current_exe()?;
    Ok(here.parent().ok_or_else(|| wrong("no directory"))?.join("cgi-hello"))
}

/// Measures and prints the table.
///
/// # Errors
/// When a server does not do its work.
pub fn run(bench: &Bench) -> io::Result<()> {
    const LATENCY: &str = "a request to a program that answers at once, median";
    const RATE: &str = "the same, 8 clients: requests";
    let mut table = Table::new(&[PEER, OURS]);
    let subjects = Subject::all(bench)?;
    for _ in 0..bench.effort.rounds {
        for Subject { name, server, .. } in &subjects {
            if bench.wants(LATENCY) {
                bench.effort.quiet.wait()?;
                let mut client = Client::connect(server.address)?;
                for_duration(bench.effort.warm_up(), || client.request().map(drop))?;
                let mut times = Vec::new();
                for_duration(bench.effort.duration, || {
                    times.push(client.request()?.as_secs_f64() * 1e3);
                    Ok(())
                })?;
                table.add(LATENCY, Unit::Milliseconds, Goal::AtMostTimes(1.0), name, median(&times));
            }
            if bench.wants(RATE) {
                bench.effort.quiet.wait()?;
                table.add(RATE, Unit::PerSecond, Goal::AtLeastTimes(1.0), name, rate(bench, server.address)?);
            }
        }
    }
    println!("### CGI programs: `bench cgi`\n");
    print!("{}", table.markdown());
    println!("\nBoth are behind one nginx worker, over connections that are kept. fcgiwrap has {AT_ONCE} processes.\n");
    Ok(())
}

/// Requests a second of several clients together.
fn rate(bench: &Bench, address: SocketAddrV4) -> io::Result<f64> {
    let (warm_up, duration) = (bench.effort.warm_up(), bench.effort.duration);
    let clients: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address)?;
                for_duration(warm_up, || client.request().map(drop))?;
                let (mut count, start) = (0_u32, Instant::now());
                for_duration(duration, || {
                    count += 1;
                    client.request().map(drop)
                })?;
                io::Result::Ok(f64::from(count) / start.elapsed().as_secs_f64())
            })
        })
        .collect();
    clients.into_iter().map(|client| client.join().map_err(|_| wrong("a client has panicked"))?).sum()
}

fn for_duration(duration: Duration, mut step: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < duration {
        step()?;
    }
    Ok(())
}

/// A connection that is kept.
struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddrV4) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// One request and its response, which is looked at. How long it took.
    fn request(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        self.reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(wrong(format!("not the response that was expected: {}", line.trim_end())));
        }
        let mut length = None;
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse::<usize>().ok();
            }
        }
        let mut body = vec![0; length.ok_or_else(|| wrong("a response without a length"))?];
        self.reader.read_exact(&mut body)?;
        if body != b"hello\n" { Err(wrong("a wrong body")) } else { Ok(start.elapsed()) }
    }
}
