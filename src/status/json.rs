// SPDX-License-Identifier: Apache-2.0

//! As JSON (RFC 8259).

use std::fmt::Write;

use super::engine::Engine;
use super::histogram::{Bounds, Durations, Histogram, Starts};
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
    for (place, engine) in snapshot.engines.iter().enumerate() {
        text.push_str(if place == 0 { ",\n \"engines\": [\n  " } else { ",\n  " });
        engine_object(&mut text, engine);
    }
    if !snapshot.engines.is_empty() {
        text.push(']');
    }
    text.push_str("}\n");
    text
}

/// Times are seconds of Unix time, `null` where there was none; those of answers milliseconds.
fn engine_object(text: &mut String, engine: &Engine) {
    let Engine { workers, connected, sent, failed, pending, latency, fetched, epochs, .. } = engine;
    let unix = |since: u64| if since == 0 { "null".to_owned() } else { format!("{:.3}", since as f64 / 1000.0) };
    let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
    let (listens, listens_since) = engine.listens();
    for (name, part) in [("{\"engine\": ", &engine.name), (", \"master\": ", &engine.master)] {
        text.push_str(name);
        string(text, part);
    }
    let _ = write!(
        text,
        ", \"connected\": {}, \"since\": {}, \"workers\": {{\"connected\": {connected}, \"all\": {workers}}}, \
         \"listening\": {{\"connected\": {listens}, \"since\": {}}}, \
         \"commands\": {{\"sent\": {sent}, \"failed\": {failed}, \"pending\": {pending}}}, \
         \"latency\": {{\"answers\": {}, \"sum\": {}, \"median\": {}, \"p99\": {}}}, \
         \"fetched\": {fetched}, \"epochs\": {epochs}}}",
        engine.is_connected(),
        unix(engine.since),
        unix(listens_since),
        latency.count(),
        milliseconds(latency.sum),
        milliseconds(latency.below(500)),
        milliseconds(latency.below(990)),
    );
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
    let Location {
        current,
        total,
        subscribers,
        messages_in,
        messages_out,
        bytes_in,
        bytes_out,
        running,
        failures,
        waiting,
        ahead,
        replaced,
        ..
    } = location;
    let _ = write!(
        text,
        ", \"connections\": {{\"current\": {current}, \"total\": {total}}}, \"subscribers\": {subscribers}, \
         \"in\": {{\"messages\": {messages_in}, \"bytes\": {bytes_in}}}, \
         \"out\": {{\"messages\": {messages_out}, \"bytes\": {bytes_out}}}, \
         \"programs\": {{\"running\": {running}, \"failures\": {failures}}}, \
         \"pool\": {{\"idle\": {waiting}, \"started\": {ahead}, \"replaced\": {replaced}}}, \"closes\": {{"
    );
    for (place, (name, count)) in location.ends().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}\"{name}\": {count}");
    }
    text.push_str("}, \"refused\": {");
    for (place, (status, reason, count)) in location.refusals().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}\"{status} {reason}\": {count}");
    }
    text.push_str("}, \"start\": ");
    times::<Starts>(text, &location.starts);
    text.push_str(", \"duration\": ");
    times::<Durations>(text, &location.durations);
    text.push('}');
}

/// How many there are, the sum of their times, and how many took at most so long, in milliseconds.
fn times<B: Bounds>(text: &mut String, histogram: &Histogram) {
    let _ = write!(text, "{{\"count\": {}, \"milliseconds\": {}, \"at_most\": {{", histogram.count(), histogram.sum);
    for (place, (bound, count)) in histogram.at_most::<B>().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}\"{bound}\": {count}");
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
        let none = |bounds: &[u64]| {
            let bounds: Vec<_> = bounds.iter().map(|bound| format!("\"{bound}\": 0")).collect();
            format!("{{\"count\": 0, \"milliseconds\": 0, \"at_most\": {{{}}}}}", bounds.join(", "))
        };
        let rest = format!("\"start\": {}, \"duration\": {}}}", none(Starts::BOUNDS), none(Durations::BOUNDS));
        let locations = "{\"workers\": 2,\n \"locations\": [\n  \
            {\"endpoint\": \"exec\", \"server\": \"localhost\", \"location\": \"/cat\", \
            \"connections\": {\"current\": 2, \"total\": 6}, \"subscribers\": 0, \"in\": {\"messages\": 10, \"bytes\": 100}, \
            \"out\": {\"messages\": 7, \"bytes\": 70}, \"programs\": {\"running\": 1, \"failures\": 2}, \
            \"pool\": {\"idle\": 3, \"started\": 9, \"replaced\": 4}, \
            \"closes\": {\"1000\": 4}, \"refused\": {\"403 origin\": 2}, REST,\n  \
            {\"endpoint\": \"tcp\", \"server\": \"\", \"location\": \"/\\\"\\\\\\u000a\", \
            \"connections\": {\"current\": 0, \"total\": 0}, \"subscribers\": 0, \"in\": {\"messages\": 0, \"bytes\": 0}, \
            \"out\": {\"messages\": 0, \"bytes\": 0}, \"programs\": {\"running\": 0, \"failures\": 0}, \
            \"pool\": {\"idle\": 0, \"started\": 0, \"replaced\": 0}, \
            \"closes\": {}, \"refused\": {}, REST]"
            .replace("REST", &rest);
        assert_eq!(render(&snapshot), format!("{locations}}}\n"));
        snapshot.channels = Some(channels());
        let object = "\"channels\": {\"channels\": 1, \"messages\": 2, \"zone\": {\"used\": 3, \"size\": 4}, \
            \"published\": 5, \"evicted\": 6}";
        assert_eq!(render(&snapshot), format!("{locations},\n {object}}}\n"));
    }

    #[test]
    fn engines() {
        let down = Engine { name: "unix:/a\"b".to_owned(), ..Engine::default() };
        let snapshot = Snapshot { engines: vec![crate::status::engine::example(), down], ..Snapshot::default() };
        let expected = "{\"workers\": 0,\n \"locations\": [],\n \"engines\": [\n  \
            {\"engine\": \"redis://10.0.0.5:6379\", \"master\": \"10.0.0.5:6379 redis 7.0.15\", \"connected\": true, \
            \"since\": 1700000000.500, \"workers\": {\"connected\": 1, \"all\": 2}, \
            \"listening\": {\"connected\": true, \"since\": 1700000001.000}, \
            \"commands\": {\"sent\": 10, \"failed\": 3, \"pending\": 2}, \
            \"latency\": {\"answers\": 5, \"sum\": 1.5, \"median\": 0.1, \"p99\": 5000}, \"fetched\": 4, \"epochs\": 1},\n  \
            {\"engine\": \"unix:/a\\\"b\", \"master\": \"\", \"connected\": false, \
            \"since\": null, \"workers\": {\"connected\": 0, \"all\": 0}, \
            \"listening\": {\"connected\": false, \"since\": null}, \
            \"commands\": {\"sent\": 0, \"failed\": 0, \"pending\": 0}, \
            \"latency\": {\"answers\": 0, \"sum\": 0, \"median\": 0, \"p99\": 0}, \"fetched\": 0, \"epochs\": 0}]}\n";
        assert_eq!(render(&snapshot), expected);
    }

    #[test]
    fn nothing_yet() {
        assert_eq!(render(&Snapshot::default()), "{\"workers\": 0,\n \"locations\": []}\n");
    }
}
