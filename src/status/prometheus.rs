// SPDX-License-Identifier: Apache-2.0

//! In the text format of Prometheus, version 0.0.4.

use std::fmt::{self, Display, Formatter, Write};

use super::engine::{BOUNDS, Engine};
use super::histogram::{Bounds, Durations, Histogram, Starts};
use super::{Label, Location, Snapshot};

/// One metric with a sample for each location.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Location) -> u64,
    /// Whether the location can have one.
    applies: fn(&Label) -> bool,
}

const fn family(kind: &'static str, name: &'static str, help: &'static str, value: fn(&Location) -> u64) -> Family {
    Family { name, kind, help, value, applies: |_| true }
}

const fn of_programs(
    kind: &'static str,
    name: &'static str,
    help: &'static str,
    value: fn(&Location) -> u64,
) -> Family {
    Family { name, kind, help, value, applies: |label| label.endpoint() == "exec" }
}

const FAMILIES: &[Family] = &[
    family("gauge", "connections", "WebSockets that are open.", |location| location.current),
    Family {
        name: "subscribers",
        kind: "gauge",
        help: "Connections that subscribe to channels.",
        value: |location| location.subscribers,
        applies: |label| label.endpoint() != "tcp",
    },
    family("counter", "connections_total", "WebSockets that were opened.", |location| location.total),
    family("counter", "received_messages_total", "Messages from clients.", |location| location.messages_in),
    family("counter", "sent_messages_total", "Messages to clients.", |location| location.messages_out),
    family("counter", "received_bytes_total", "Payload of messages from clients.", |location| location.bytes_in),
    family("counter", "sent_bytes_total", "Payload of messages to clients.", |location| location.bytes_out),
    of_programs("gauge", "programs", "Programs that run.", |location| location.running),
    of_programs("counter", "program_failures_total", "Programs that could not be started.", |location| {
        location.failures
    }),
    of_programs("gauge", "pool_programs", "Programs that were started ahead and wait for a client.", |location| {
        location.waiting
    }),
    of_programs("counter", "pool_started_total", "Programs that were started ahead.", |location| location.ahead),
    of_programs("counter", "pool_replaced_total", "Programs that had ended before a client came.", |location| {
        location.replaced
    }),
];

/// All metrics, each with its help and type.
pub fn render(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    single(&mut text, "gauge", "workers", "Worker processes, those that are leaving included.", snapshot.workers);
    for family in FAMILIES {
        head(&mut text, family.name, family.kind, family.help);
        for (label, location) in snapshot.locations.iter().filter(|(label, _)| (family.applies)(label)) {
            sample(&mut text, family.name, label, "", (family.value)(location));
        }
    }
    head(
        &mut text,
        "closes_total",
        "counter",
        "WebSockets that ended, by the code of the first Close; 1005: none in it, 1006: no Close.",
    );
    for (label, location) in &snapshot.locations {
        for (code, count) in location.ends() {
            sample(&mut text, "closes_total", label, &format!(",code=\"{code}\""), count);
        }
    }
    head(&mut text, "refused_total", "counter", "Requests that were refused, by status and reason.");
    for (label, location) in &snapshot.locations {
        for (status, reason, count) in location.refusals() {
            let more = format!(",status=\"{status}\",reason=\"{reason}\"");
            sample(&mut text, "refused_total", label, &more, count);
        }
    }
    histogram::<Starts>(
        &mut text,
        snapshot,
        "start_seconds",
        "From the request until the WebSocket was opened.",
        |location| &location.starts,
    );
    histogram::<Durations>(&mut text, snapshot, "session_seconds", "How long WebSockets were open.", |location| {
        &location.durations
    });
    if let Some(channels) = &snapshot.channels {
        for (kind, name, help, value) in [
            ("gauge", "channels", "Channels that there are.", channels.channels),
            ("gauge", "channel_messages", "Messages that are kept in channels.", channels.messages),
            ("gauge", "channel_zone_used_bytes", "Shared memory of the channels that is in use.", channels.zone_used),
            ("gauge", "channel_zone_size_bytes", "Shared memory of the channels.", channels.zone_size),
            ("counter", "channel_published_total", "Messages that were published.", channels.published),
            ("counter", "channel_evicted_total", "Messages that made room in a full zone.", channels.evicted),
        ] {
            single(&mut text, kind, name, help, value);
        }
    }
    if !snapshot.engines.is_empty() {
        engines(&mut text, &snapshot.engines);
    }
    text
}

/// One metric with a sample for each engine: its name, kind, help and value.
type OfEngine = (&'static str, &'static str, &'static str, fn(&Engine) -> f64);

const OF_ENGINES: &[OfEngine] = &[
    ("engine_up", "gauge", "Whether the engine of channels answers commands.", |engine| {
        f64::from(u8::from(engine.is_connected()))
    }),
    ("engine_since_seconds", "gauge", "Unix time since when it does, or does not.", |engine| engine.since as f64 / 1e3),
    ("engine_workers", "gauge", "Workers that use the engine.", |engine| engine.workers as f64),
    ("engine_workers_connected", "gauge", "Workers that have a connection to it.", |engine| engine.connected as f64),
    ("engine_listening", "gauge", "Whether its messages are listened to.", |engine| {
        f64::from(u8::from(engine.listens().0))
    }),
    ("engine_listening_since_seconds", "gauge", "Unix time since when they are, or are not.", |engine| {
        engine.listens().1 as f64 / 1e3
    }),
    ("engine_commands_total", "counter", "Commands that were sent.", |engine| engine.sent as f64),
    ("engine_command_failures_total", "counter", "Commands that were not answered, or by an error.", |engine| {
        engine.failed as f64
    }),
    ("engine_commands_pending", "gauge", "Commands that wait for an answer.", |engine| engine.pending as f64),
    ("engine_fetched_messages_total", "counter", "Messages that were fetched after a gap.", |engine| {
        engine.fetched as f64
    }),
    ("engine_epochs_total", "counter", "Epochs of channels that have changed.", |engine| engine.epochs as f64),
];

fn engines(text: &mut String, engines: &[Engine]) {
    for (name, kind, help, value) in OF_ENGINES {
        head(text, name, kind, help);
        for engine in engines {
            let _ = writeln!(text, "nginx_websocket_{name}{{engine=\"{}\"}} {}", escaped(&engine.name), value(engine));
        }
    }
    head(text, "engine_master_info", "gauge", "The master that the engine has; the value is always 1.");
    for Engine { name, master, .. } in engines.iter().filter(|engine| !engine.master.is_empty()) {
        let (name, master) = (escaped(name), escaped(master));
        let _ = writeln!(text, "nginx_websocket_engine_master_info{{engine=\"{name}\",master=\"{master}\"}} 1");
    }
    let name = "engine_command_duration_seconds";
    head(text, name, "histogram", "How long answers took.");
    for engine in engines {
        let (label, latency) = (escaped(&engine.name), &engine.latency);
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(|bound| (*bound as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
        for (count, bound) in latency.counts.iter().zip(bounds) {
            sum += count;
            let _ = writeln!(text, "nginx_websocket_{name}_bucket{{engine=\"{label}\",le=\"{bound}\"}} {sum}");
        }
        let seconds = latency.sum as f64 / 1e6;
        let _ = writeln!(text, "nginx_websocket_{name}_sum{{engine=\"{label}\"}} {seconds}");
        let _ = writeln!(text, "nginx_websocket_{name}_count{{engine=\"{label}\"}} {sum}");
    }
}

fn histogram<B: Bounds>(
    text: &mut String,
    snapshot: &Snapshot,
    name: &str,
    help: &str,
    of: fn(&Location) -> &Histogram,
) {
    head(text, name, "histogram", help);
    for (label, location) in &snapshot.locations {
        let times = of(location);
        let bucket = format!("{name}_bucket");
        for (bound, count) in times.at_most::<B>() {
            sample(text, &bucket, label, &format!(",le=\"{}\"", Seconds(bound)), count);
        }
        sample(text, &bucket, label, ",le=\"+Inf\"", times.count());
        sample(text, &format!("{name}_sum"), label, "", Seconds(times.sum));
        sample(text, &format!("{name}_count"), label, "", times.count());
    }
}

/// Milliseconds as seconds, without a point where none is needed.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (seconds, thousandths) = (self.0 / 1000, self.0 % 1000);
        if thousandths == 0 {
            return write!(f, "{seconds}");
        }
        write!(f, "{seconds}.{}", format!("{thousandths:03}").trim_end_matches('0'))
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP nginx_websocket_{name} {help}\n# TYPE nginx_websocket_{name} {kind}");
}

fn single(text: &mut String, kind: &str, name: &str, help: &str, value: u64) {
    head(text, name, kind, help);
    let _ = writeln!(text, "nginx_websocket_{name} {value}");
}

/// One sample, with more labels, if there are some, that begin with a comma.
fn sample(text: &mut String, name: &str, label: &Label, more: &str, value: impl Display) {
    let _ = writeln!(
        text,
        "nginx_websocket_{name}{{endpoint=\"{}\",server=\"{}\",location=\"{}\"{more}}} {value}",
        escaped(label.endpoint()),
        escaped(label.server()),
        escaped(label.location())
    );
}

/// A label's value: `\`, `"` and the line feed are escaped, nothing else.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{self, example};

    #[test]
    fn samples() {
        let text = render(&example());
        for line in [
            "nginx_websocket_workers 2",
            "# TYPE nginx_websocket_connections gauge",
            "# TYPE nginx_websocket_connections_total counter",
            "nginx_websocket_connections{endpoint=\"exec\",server=\"localhost\",location=\"/cat\"} 2",
            "nginx_websocket_received_bytes_total{endpoint=\"exec\",server=\"localhost\",location=\"/cat\"} 100",
            "nginx_websocket_closes_total{endpoint=\"exec\",server=\"localhost\",location=\"/cat\",code=\"1000\"} 4",
            "nginx_websocket_refused_total{endpoint=\"exec\",server=\"localhost\",location=\"/cat\",status=\"403\",reason=\"origin\"} 2",
            "nginx_websocket_start_seconds_bucket{endpoint=\"exec\",server=\"localhost\",location=\"/cat\",le=\"0.025\"} 0",
            "nginx_websocket_session_seconds_bucket{endpoint=\"exec\",server=\"localhost\",location=\"/cat\",le=\"+Inf\"} 0",
            "nginx_websocket_session_seconds_sum{endpoint=\"exec\",server=\"localhost\",location=\"/cat\"} 0",
            "nginx_websocket_connections{endpoint=\"tcp\",server=\"\",location=\"/\\\"\\\\\\n\"} 0",
            "nginx_websocket_program_failures_total{endpoint=\"exec\",server=\"localhost\",location=\"/cat\"} 2",
            "nginx_websocket_pool_programs{endpoint=\"exec\",server=\"localhost\",location=\"/cat\"} 3",
            "nginx_websocket_pool_started_total{endpoint=\"exec\",server=\"localhost\",location=\"/cat\"} 9",
            "nginx_websocket_pool_replaced_total{endpoint=\"exec\",server=\"localhost\",location=\"/cat\"} 4",
        ] {
            assert!(text.lines().any(|present| present == line), "{line} in\n{text}");
        }
        assert!(!text.contains("programs{endpoint=\"tcp\""), "only programs are counted as programs");
        assert!(!text.contains("websocket_channel"), "nothing of channels where there are none");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn engines() {
        let text = render(&Snapshot { engines: vec![crate::status::engine::example()], ..Snapshot::default() });
        for (name, value) in [
            ("up{", "1"),
            ("since_seconds{", "1700000000.5"),
            ("listening{", "1"),
            ("commands_total{", "10"),
            ("command_failures_total{", "3"),
            ("commands_pending{", "2"),
            ("fetched_messages_total{", "4"),
            ("epochs_total{", "1"),
            ("command_duration_seconds_bucket{le=\"0.0001\",", "3"),
            ("command_duration_seconds_bucket{le=\"0.001\",", "4"),
            ("command_duration_seconds_bucket{le=\"+Inf\",", "5"),
            ("command_duration_seconds_sum{", "0.0015"),
            ("command_duration_seconds_count{", "5"),
        ] {
            let (name, label) = name.split_once('{').unwrap();
            let le = if label.is_empty() { String::new() } else { format!(",{}", label.trim_end_matches(',')) };
            let line = format!("nginx_websocket_engine_{name}{{engine=\"redis://10.0.0.5:6379\"{le}}} {value}");
            assert!(text.lines().any(|present| present == line), "{line} in\n{text}");
        }
        assert!(text.contains("master=\"10.0.0.5:6379 redis 7.0.15\"} 1\n"));
        assert!(text.contains("# TYPE nginx_websocket_engine_command_duration_seconds histogram\n"));
    }

    #[test]
    fn seconds() {
        let shown = |time| Seconds(time).to_string();
        assert_eq!(
            [0, 1, 25, 100, 1_000, 2_500, 86_400_000].map(shown),
            ["0", "0.001", "0.025", "0.1", "1", "2.5", "86400"]
        );
    }

    #[test]
    fn channels() {
        let text = render(&Snapshot { channels: Some(tests::channels()), ..Snapshot::default() });
        for line in [
            "nginx_websocket_channels 1",
            "nginx_websocket_channel_messages 2",
            "nginx_websocket_channel_zone_used_bytes 3",
            "nginx_websocket_channel_zone_size_bytes 4",
            "nginx_websocket_channel_published_total 5",
            "nginx_websocket_channel_evicted_total 6",
        ] {
            assert!(text.lines().any(|present| present == line), "{line} in\n{text}");
        }
    }
}
