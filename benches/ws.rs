// SPDX-License-Identifier: Apache-2.0

//! The inner loops of the protocol: unmasking, text validation, and the whole way of a frame in and out.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ngx_ws_exec::ws::deflate::{Context, Settings, negotiate};
use ngx_ws_exec::ws::{Connection, Event, Limits, MessageKind, Scratch, mask, utf8};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const BLOCK: usize = 64 * 1024;

fn texts() -> [(&'static str, Vec<u8>); 3] {
    let repeated = |sample: &str| {
        let mut text = sample.repeat(BLOCK / sample.len() + 1);
        while !text.is_char_boundary(BLOCK) {
            text.insert(0, ' ');
        }
        text.truncate(BLOCK);
        text.into_bytes()
    };
    [
        ("ascii", repeated("The quick brown fox jumps over the lazy dog. ")),
        ("greek", repeated("Σὲ γνωρίζω ἀπὸ τὴν κόψη τοῦ σπαθιοῦ τὴν τρομερή. ")),
        ("mixed", repeated("{\"name\":\"Zoë\",\"city\":\"Köln\",\"note\":\"ok \u{1F600}\"},")),
    ]
}

/// Frames as a client sends them.
fn frames(first: u8, payload: &[u8], count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..count {
        out.push(first);
        match u16::try_from(payload.len()) {
            Ok(len @ 0..126) => out.push(0x80 | len as u8),
            Ok(len) => {
                out.push(0x80 | 126);
                out.extend(len.to_be_bytes());
            }
            Err(_) => {
                out.push(0x80 | 127);
                out.extend((payload.len() as u64).to_be_bytes());
            }
        }
        out.extend(KEY);
        let start = out.len();
        out.extend_from_slice(payload);
        let _ = mask::apply(&mut out[start..], KEY, 0);
    }
    out
}

/// Reads everything and counts the octets of payload.
fn receive(connection: &mut Connection, input: &mut [u8], scratch: &mut Scratch, reply: &mut Vec<u8>) -> usize {
    let (mut at, mut octets) = (0, 0);
    while at < input.len() {
        let received = connection.receive(&mut input[at..], scratch, reply);
        at += received.consumed;
        match received.event {
            Some(Event::Data(data)) => octets += data.payload.len(),
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    octets
}

fn inner_loops(c: &mut Criterion) {
    let mut group = c.benchmark_group("64KiB");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    for (name, mut text) in texts() {
        group.bench_function(format!("utf8/{name}"), |b| {
            b.iter(|| {
                let mut validator = utf8::Validator::new();
                validator.push(black_box(&text)).and_then(|()| validator.finish())
            });
        });
        // A key of zeros, which the compiler does not know, leaves the text as it is for the next round.
        group.bench_function(format!("unmask+utf8/{name}"), |b| {
            b.iter(|| {
                let mut validator = utf8::Validator::new();
                let (key, mut phase) = (black_box([0; 4]), 0);
                for part in black_box(&mut text[..]).chunks_mut(8192) {
                    phase = mask::apply(part, key, phase);
                    validator.push(part).expect("text");
                }
                validator.finish()
            });
        });
    }
    let mut octets = vec![0x55; BLOCK];
    group.bench_function("unmask", |b| b.iter(|| mask::apply(black_box(&mut octets), KEY, 1)));
    group.finish();
}

fn receiving(c: &mut Criterion) {
    let mut group = c.benchmark_group("receive");
    let small = "a line of a hundred octets, more or less, as a program would write it to its output, and so on; 100.";
    for (name, first, payload, count) in [
        ("100B text", 0x81, small.as_bytes().to_vec(), 160),
        ("100B binary", 0x82, vec![0xe5; 100], 160),
        ("64KiB text", 0x81, texts()[0].1.clone(), 1),
        ("64KiB binary", 0x82, vec![0xe5; BLOCK], 1),
    ] {
        let input = frames(first, &payload, count);
        let mut connection = Connection::new(Limits::default());
        let (mut scratch, mut reply) = (Scratch::new(), Vec::new());
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || input.clone(),
                |input| receive(&mut connection, input, &mut scratch, &mut reply),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn sending(c: &mut Criterion) {
    let mut group = c.benchmark_group("send");
    for (name, len) in [("100B", 100), ("64KiB", BLOCK)] {
        let payload = vec![b'x'; len];
        let mut connection = Connection::new(Limits::default());
        let (mut scratch, mut out) = (Scratch::new(), Vec::with_capacity(BLOCK + 16));
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                connection.message(MessageKind::Binary, black_box(&payload), &mut scratch, &mut out)
            });
        });
    }
    group.finish();
}

fn compression(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate");
    let json = "{\"id\":1234,\"type\":\"update\",\"user\":\"carol\",\"price\":17.25,\"ts\":1700000000000},".repeat(14);
    let message = &json.as_bytes()[..1024];
    group.throughput(Throughput::Bytes(message.len() as u64));
    for (context, name) in
        [(Context::History, "context"), (Context::Off, "no context"), (Context::Dedicated, "dedicated context")]
    {
        let settings = Settings { context, ..Settings::default() };
        let agreed = negotiate(&[b"permessage-deflate"], &settings);
        let mut connection = Connection::with(Limits::default(), agreed);
        let (mut scratch, mut out) = (Scratch::new(), Vec::new());
        group.bench_function(format!("send 1KiB, {name}"), |b| {
            b.iter(|| {
                out.clear();
                connection.message(MessageKind::Text, black_box(message), &mut scratch, &mut out)
            });
        });
        // The first message of a connection refers to nothing before it, so it can be received again and again.
        out.clear();
        let mut first = Connection::with(Limits::default(), agreed);
        first.message(MessageKind::Text, message, &mut scratch, &mut out).expect("open");
        let header = if out[1] < 126 { 2 } else { 4 };
        let input = frames(0xc1, &out[header..], 1);
        let mut reply = Vec::new();
        group.bench_function(format!("receive 1KiB, {name}"), |b| {
            b.iter_batched_ref(
                || input.clone(),
                |input| receive(&mut connection, input, &mut scratch, &mut reply),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, inner_loops, receiving, sending, compression);
criterion_main!(benches);
