// SPDX-License-Identifier: Apache-2.0

//! As a table for people.

use std::fmt::Write;

use super::engine::Engine;
use super::{Channels, Location, Snapshot};
use crate::channel::wire::date::http_date;

const HEAD: [&str; 11] = [
    "endpoint",
    "server",
    "location",
    "open",
    "opened",
    "messages in",
    "messages out",
    "bytes in",
    "bytes out",
    "programs",
    "failures",
];

/// The first three columns are names, the others numbers.
const NAMES: usize = 3;

/// A table with a line for each location, and the ends below.
pub fn render(snapshot: &Snapshot) -> String {
    let mut text = format!("workers: {}\n\n", snapshot.workers);
    let mut rows = vec![HEAD.map(str::to_owned)];
    for (label, location) in &snapshot.locations {
        rows.push([
            label.endpoint().to_owned(),
            named(label.server()),
            named(label.location()),
            location.current.to_string(),
            location.total.to_string(),
            location.messages_in.to_string(),
            location.messages_out.to_string(),
            location.bytes_in.to_string(),
            location.bytes_out.to_string(),
            location.running.to_string(),
            location.failures.to_string(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string does not fail.
            let _ = if column < NAMES { write!(line, "{cell:width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for (label, location) in &snapshot.locations {
        let ends: Vec<String> = location.ends().map(|(code, count)| format!("{code}: {count}")).collect();
        if !ends.is_empty() {
            let (endpoint, server, name) = (label.endpoint(), named(label.server()), named(label.location()));
            let _ = write!(text, "\ncloses of {endpoint} {server} {name}  {}", ends.join(", "));
        }
    }
    for (label, Location { waiting, ahead, replaced, .. }) in &snapshot.locations {
        if *ahead != 0 {
            let (endpoint, server, name) = (label.endpoint(), named(label.server()), named(label.location()));
            let _ = write!(
                text,
                "\npool of {endpoint} {server} {name}  idle: {waiting}, started: {ahead}, replaced: {replaced}"
            );
        }
    }
    for (label, location) in &snapshot.locations {
        let refusals: Vec<String> =
            location.refusals().map(|(status, reason, count)| format!("{status} {reason}: {count}")).collect();
        if !refusals.is_empty() {
            let (endpoint, server, name) = (label.endpoint(), named(label.server()), named(label.location()));
            let _ = write!(text, "\nrefused by {endpoint} {server} {name}  {}", refusals.join(", "));
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if let Some(Channels { channels, messages, zone_used, zone_size, published, evicted }) = &snapshot.channels {
        let _ = writeln!(
            text,
            "\nchannels: {channels}, messages: {messages}, published: {published}, evicted: {evicted}\n\
             zone: {zone_used} of {zone_size} bytes used"
        );
    }
    for engine in &snapshot.engines {
        engine_lines(&mut text, engine);
    }
    text
}

fn engine_lines(text: &mut String, engine: &Engine) {
    let Engine { name, master, workers, connected, sent, failed, pending, latency, fetched, epochs, .. } = engine;
    let state = |is_there: bool, since: u64| {
        let word = if is_there { "connected" } else { "not connected" };
        if since == 0 {
            word.to_owned()
        } else {
            format!("{word} since {}", String::from_utf8_lossy(&http_date(since / 1000)))
        }
    };
    let (listens, listens_since) = engine.listens();
    let milliseconds = |thousandths: u64| latency.below(thousandths) as f64 / 1000.0;
    let _ = writeln!(
        text,
        "\nengine: {}\nmaster: {}\n\
         commands: {}, {connected} of {workers} workers\nlistening: {}\n\
         sent: {sent}, failed: {failed}, pending: {pending}, fetched: {fetched}, epochs: {epochs}\n\
         answers: {}, half of them within {} ms, 99 % within {} ms",
        named(name),
        named(master),
        state(engine.is_connected(), engine.since),
        state(listens, listens_since),
        latency.count(),
        milliseconds(500),
        milliseconds(990),
    );
}

/// A name on one line; `-` for none.
fn named(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { name.replace(char::is_control, "?") }
}

#[cfg(test)]
mod tests {
    use crate::status::tests::{channels, example};

    #[test]
    fn the_whole_answer() {
        let mut snapshot = example();
        snapshot.channels = Some(channels());
        let expected = "\
workers: 2

endpoint  server     location  open  opened  messages in  messages out  bytes in  bytes out  programs  failures
exec      localhost  /cat         2       6           10             7       100         70         1         2
tcp       -          /\"\\?         0       0            0             0         0          0         0         0

closes of exec localhost /cat  1000: 4
pool of exec localhost /cat  idle: 3, started: 9, replaced: 4
refused by exec localhost /cat  403 origin: 2

channels: 1, messages: 2, published: 5, evicted: 6
zone: 3 of 4 bytes used
";
        assert_eq!(snapshot.render(crate::status::StatusForm::Text), expected);
        snapshot.engines.push(crate::status::engine::example());
        let engine = "
engine: redis://10.0.0.5:6379
master: 10.0.0.5:6379 redis 7.0.15
commands: connected since Tue, 14 Nov 2023 22:13:20 GMT, 1 of 2 workers
listening: connected since Tue, 14 Nov 2023 22:13:21 GMT
sent: 10, failed: 3, pending: 2, fetched: 4, epochs: 1
answers: 5, half of them within 0.1 ms, 99 % within 5000 ms
";
        assert_eq!(snapshot.render(crate::status::StatusForm::Text), format!("{expected}{engine}"));
    }
}
