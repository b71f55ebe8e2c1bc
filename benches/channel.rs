// SPDX-License-Identifier: Apache-2.0

//! What the store costs without a network: publishing, and copying what is new, as a worker does both.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ngx_ws_exec::channel::fanout::{Batch, FanOut, Limits, OnGap, SubscribeOptions};
use ngx_ws_exec::channel::lock::Unshared;
use ngx_ws_exec::channel::memory::Region;
use ngx_ws_exec::channel::message::Publication;
use ngx_ws_exec::channel::position::{Asked, Start};
use ngx_ws_exec::channel::store::{
    Budget, GroupLimits, History, Key, News, Now, Policy, Process, Slot, Store, Terms, Token,
};
use ngx_ws_exec::channel::transport::Transport;
use ngx_ws_exec::channel::wire::WireForm;
use ngx_ws_exec::channel::wire::websocket::Framing;
use ngx_ws_exec::ws::{MessageKind, Scratch};

const ZONE: usize = 32 << 20;
const NO_LIMITS: GroupLimits = GroupLimits { channels: 0, subscribers: 0, messages: 0, bytes: 0 };
const POLICY: Policy = Policy { history: History { length: 10, time: 3_600_000 }, group: NO_LIMITS };
const TERMS: Terms<'_> =
    Terms { create: true, max_subscribers: 0, group: NO_LIMITS, presence: b"", transport: Transport::WebSocket };
const BUDGET: Budget = Budget { messages: 256, octets: 256 << 10 };

struct Rig {
    store: Store<Unshared>,
    clock: Cell<u64>,
}

impl Rig {
    fn new() -> Self {
        let region = Region::private(ZONE).expect("memory");
        Self { store: Store::create(region, Unshared, 64, [1, 2]).expect("a zone"), clock: Cell::new(1) }
    }

    fn now(&self) -> Now {
        self.clock.set(self.clock.get() + 1);
        Now { clock: self.clock.get() / 64, unix: 0 }
    }

    fn claim(&self) -> Slot {
        self.store.claim(Process { pid: 1, start: 1 }, |_| true).expect("a slot").slot
    }

    fn publish(&self, id: &[u8], data: &[u8]) {
        let publication =
            Publication { kind: MessageKind::Text, content_type: b"text/plain", event: b"", data: &[data] };
        let key = Key::new(b"", id).expect("a key");
        black_box(self.store.log().publish(key, &publication, POLICY, self.now()).expect("room"));
    }

    fn drain(&self, slot: Slot, news: &mut Vec<News>) {
        while self.store.log().drain(slot, BUDGET, self.now(), news).expect("memory") {}
        black_box(&news);
        news.clear();
    }
}

fn publishing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for (name, len) in [("100 B", 100), ("1 kB", 1 << 10), ("64 kB", 64 << 10), ("1 MB", 1 << 20)] {
        let rig = Rig::new();
        let data = vec![b'x'; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |bench| bench.iter(|| rig.publish(b"channel", &data)));
    }
    group.finish();
}

fn delivering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish and copy");
    for burst in [1, 16] {
        let rig = Rig::new();
        let slot = rig.claim();
        let key = Key::new(b"", b"channel").expect("a key");
        rig.store.log().subscribe(key, slot, Token(0), TERMS, rig.now()).expect("room");
        let mut news = Vec::new();
        group.throughput(Throughput::Elements(burst));
        group.bench_function(format!("100 B, {burst} at a time"), |bench| {
            bench.iter(|| {
                for _ in 0..burst {
                    rig.publish(b"channel", &[b'x'; 100]);
                }
                rig.drain(slot, &mut news);
            });
        });
    }
    let rig = Rig::new();
    let slot = rig.claim();
    let ids: Vec<_> = (0..1000).map(|n| format!("channel {n}")).collect();
    for (token, id) in (0..).zip(&ids) {
        let key = Key::new(b"", id.as_bytes()).expect("a key");
        rig.store.log().subscribe(key, slot, Token(token), TERMS, rig.now()).expect("room");
    }
    let mut news = Vec::new();
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1,000 channels", |bench| {
        bench.iter(|| {
            for id in &ids {
                rig.publish(id.as_bytes(), &[b'x'; 100]);
            }
            rig.drain(slot, &mut news);
        });
    });
    group.finish();
}

fn repairing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("full zone");
    group.sample_size(10);
    let fill = || {
        let rig = Rig::new();
        for n in 0..12_000_u32 {
            for _ in 0..10 {
                rig.publish(&n.to_le_bytes(), &[b'x'; 100]);
            }
        }
        rig
    };
    let rig = fill();
    group.bench_function("publish, evicting the oldest of the zone", |bench| {
        let mut n = 12_000_u32;
        bench.iter(|| {
            n += 1;
            rig.publish(&n.to_le_bytes(), &[b'x'; 100]);
        });
    });
    group.bench_function("fill", |bench| bench.iter_batched(|| (), |()| fill(), BatchSize::PerIteration));
    group.finish();
}

/// From a publication to what each subscriber's socket would be given; nothing is written.
fn fanning_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out");
    for (channels, subscribers, burst) in [(1, 1000, 1), (1, 1000, 16), (1, 10_000, 1), (1000, 9, 1)] {
        let rig = Rig::new();
        let slot = rig.claim();
        let mut fanout = FanOut::new(Limits::default());
        let form = Rc::new(WireForm::WebSocket(Framing::default()));
        let ids: Vec<_> = (0..channels).map(|n| format!("channel {n}")).collect();
        for id in &ids {
            let keys = [Key::new(b"", id.as_bytes()).expect("a key")];
            let options = SubscribeOptions {
                keys: &keys,
                asked: &Asked::Nothing,
                start: Start::Newest,
                terms: TERMS,
                form: &form,
                on_gap: OnGap::Close,
                allowance: None,
            };
            for session in 0..subscribers {
                let id = fanout.subscribe(rig.store.log(), slot, &options, session, rig.now()).expect("room");
                fanout.unblock(id);
            }
        }
        while fanout.next().is_some() {}
        let (mut scratch, mut batch) = (Scratch::new(), Batch::default());
        let limit = Budget { messages: 64, octets: 64 << 10 };
        group.throughput(Throughput::Elements((channels * subscribers * burst) as u64));
        group.bench_function(format!("{channels} channels of {subscribers}, {burst} at a time"), |bench| {
            bench.iter(|| {
                for id in &ids {
                    for _ in 0..burst {
                        rig.publish(id.as_bytes(), &[b'x'; 100]);
                    }
                }
                let mut delivered = 0;
                while fanout.collect(rig.store.log(), slot, rig.now()).expect("memory") || fanout.has_work() {
                    while let Some((id, _)) = fanout.next() {
                        fanout.peek(rig.store.log(), id, limit, rig.now(), &mut scratch, &mut batch).expect("memory");
                        delivered += batch.items().len();
                        black_box(batch.items());
                        fanout.advance(id, &batch, batch.items().len());
                    }
                }
                assert_eq!(delivered, channels * subscribers * burst);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, publishing, delivering, fanning_out, repairing);
criterion_main!(benches);
