// SPDX-License-Identifier: Apache-2.0

//! As a table for people.

use std::fmt::Write;

use super::{Channels, Snapshot};

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
    text
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

channels: 1, messages: 2, published: 5, evicted: 6
zone: 3 of 4 bytes used
";
        assert_eq!(snapshot.render(crate::status::Form::Text), expected);
    }
}
