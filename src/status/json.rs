// SPDX-License-Identifier: Apache-2.0

//! As JSON (RFC 8259).

use std::fmt::Write;

use super::{Channels, Label, Location, Snapshot};
use crate::json::string;

/// One object, with a line for each location.
pub fn render(snapshot: &Snapshot) -> String {
    let mut text = format!("{{\"workers\": {},\n \"locations\": [", snapshot.workers);
    for (place, (label, location)) in snapshot.locations.iter().enumerate() {
        text.push_str(if place == 0 { "\n  " } else { ",\n  " });
        object(&mut text, label, location);
    }
    text.push(']');
    if let Some(channels) = &snapshot.channels {
        let Channels { channels, messages, zone_used, zone_size, published, evicted } = channels;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            ",\n \"channels\": {{\"channels\": {channels}, \"messages\": {messages}, \
             \"zone\": {{\"used\": {zone_used}, \"size\": {zone_size}}}, \
             \"published\": {published}, \"evicted\": {evicted}}}"
        );
    }
    text.push_str("}\n");
    text
}

fn object(text: &mut String, label: &Label, location: &Location) {
    for (name, part) in [
        ("{\"endpoint\": ", label.endpoint()),
        (", \"server\": ", label.server()),
        (", \"location\": ", label.location()),
    ] {
        text.push_str(name);
        string(text, part);
    }
    let Location { current, total, messages_in, messages_out, bytes_in, bytes_out, running, failures, .. } = location;
    let _ = write!(
        text,
        ", \"connections\": {{\"current\": {current}, \"total\": {total}}}, \
         \"in\": {{\"messages\": {messages_in}, \"bytes\": {bytes_in}}}, \
         \"out\": {{\"messages\": {messages_out}, \"bytes\": {bytes_out}}}, \
         \"programs\": {{\"running\": {running}, \"failures\": {failures}}}, \"closes\": {{"
    );
    for (place, (name, count)) in location.ends().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}\"{name}\": {count}");
    }
    text.push_str("}}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{channels, example};

    #[test]
    fn the_whole_answer() {
        let mut snapshot = example();
        let locations = "{\"workers\": 2,\n \"locations\": [\n  \
            {\"endpoint\": \"exec\", \"server\": \"localhost\", \"location\": \"/cat\", \
            \"connections\": {\"current\": 2, \"total\": 6}, \"in\": {\"messages\": 10, \"bytes\": 100}, \
            \"out\": {\"messages\": 7, \"bytes\": 70}, \"programs\": {\"running\": 1, \"failures\": 2}, \
            \"closes\": {\"1000\": 4}},\n  \
            {\"endpoint\": \"tcp\", \"server\": \"\", \"location\": \"/\\\"\\\\\\u000a\", \
            \"connections\": {\"current\": 0, \"total\": 0}, \"in\": {\"messages\": 0, \"bytes\": 0}, \
            \"out\": {\"messages\": 0, \"bytes\": 0}, \"programs\": {\"running\": 0, \"failures\": 0}, \
            \"closes\": {}}]";
        assert_eq!(render(&snapshot), format!("{locations}}}\n"));
        snapshot.channels = Some(channels());
        let object = "\"channels\": {\"channels\": 1, \"messages\": 2, \"zone\": {\"used\": 3, \"size\": 4}, \
            \"published\": 5, \"evicted\": 6}";
        assert_eq!(render(&snapshot), format!("{locations},\n {object}}}\n"));
    }

    #[test]
    fn nothing_yet() {
        assert_eq!(render(&Snapshot::default()), "{\"workers\": 0,\n \"locations\": []}\n");
    }
}
