// SPDX-License-Identifier: Apache-2.0

//! Workers over one zone in private memory, and clients whose sockets take what the test wants.

mod any;
mod copies;
mod ordinary;
mod rates;
mod resume;

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use super::*;
use crate::channel::lock::Unshared;
use crate::channel::memory::Region;
use crate::channel::message::Publication;
use crate::channel::position::{MAX_POSITIONS, Offset};
use crate::channel::store::{GroupLimits, History, Policy, Process, Published, Store, SubscribeError};
use crate::channel::transport::Transport;
use crate::channel::wire::websocket::{Framing, Style};
use crate::ws::{MessageKind, Scratch};

const NO_LIMITS: GroupLimits = GroupLimits { channels: 0, subscribers: 0, messages: 0, bytes: 0 };

const TERMS: Terms<'_> =
    Terms { create: true, max_subscribers: 0, group: NO_LIMITS, presence: b"", transport: Transport::WebSocket };

const SOME: Budget = Budget { messages: 16, octets: 64 << 10 };

/// A client's end: what it has been sent.
#[derive(Debug)]
struct Client {
    id: SubscriberId,
    /// Octets that the socket takes until it is read from.
    room: usize,
    /// The rest of a buffer that was begun.
    rest: Option<(Buffer, usize)>,
    received: Vec<u8>,
    /// What the batches said, in order: a message's channel and offset, or a gap.
    items: Vec<Got>,
    end: Option<Next>,
    writes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Message(MessageOf),
    /// The channel goes on there.
    Gap(MessageOf),
    /// Lost before the next message.
    Lost(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MessageOf {
    epoch: u64,
    offset: u64,
}

struct Worker {
    slot: Slot,
    fanout: FanOut,
    clients: HashMap<usize, Client>,
    next_session: usize,
    scratch: Scratch,
    batch: Batch,
}

struct Rig {
    store: Rc<Store<Unshared>>,
    clock: Cell<u64>,
    workers: Vec<Worker>,
}

impl Rig {
    fn new(workers: u32, len: usize, limits: Limits) -> Self {
        let store = Store::create(Region::private(len).unwrap(), Unshared, 8, [1, 2]).unwrap();
        let worker = |pid| Worker {
            slot: store.claim(Process { pid, start: 1 }, |_| true).unwrap().slot,
            fanout: FanOut::new(limits),
            clients: HashMap::new(),
            next_session: 0,
            scratch: Scratch::new(),
            batch: Batch::default(),
        };
        let workers = (1..=workers).map(worker).collect();
        Self { store: Rc::new(store), clock: Cell::new(1_000_000), workers }
    }

    fn now(&self) -> Now {
        Now { clock: self.clock.get(), unix: self.clock.get() }
    }

    fn publish(&self, id: &str, data: &[u8], length: u32) -> Published {
        self.publish_with(id, data, History { length, time: 0 })
    }

    fn publish_with(&self, id: &str, data: &[u8], history: History) -> Published {
        let policy = Policy { history, group: NO_LIMITS };
        let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[data] };
        self.store.log().publish(key(id), &publication, policy, self.now()).unwrap()
    }

    /// Adds a client with an empty socket of so much room, which is not served yet.
    fn try_subscribe(
        &mut self,
        worker: usize,
        ids: &[&str],
        asked: &str,
        options: impl FnOnce(&mut SubscribeOptions<'_>),
        room: usize,
    ) -> Result<usize, SubscribeError> {
        let now = self.now();
        let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
        let asked = Asked::id(asked.as_bytes());
        let form = frame();
        let mut wished = SubscribeOptions {
            keys: &keys,
            asked: &asked,
            start: Start::Newest,
            terms: TERMS,
            form: &form,
            on_gap: OnGap::Close,
            allowance: None,
        };
        options(&mut wished);
        let worker = &mut self.workers[worker];
        let session = worker.next_session;
        let id = worker.fanout.subscribe(self.store.log(), worker.slot, &wished, session, now)?;
        worker.next_session += 1;
        let client = Client { id, room, rest: None, received: Vec::new(), items: Vec::new(), end: None, writes: 0 };
        worker.clients.insert(session, client);
        worker.fanout.unblock(id);
        Ok(session)
    }

    fn subscribe(&mut self, worker: usize, ids: &[&str], asked: &str, start: Start) -> usize {
        self.try_subscribe(worker, ids, asked, |options| options.start = start, usize::MAX).unwrap()
    }

    fn unsubscribe(&mut self, worker: usize, session: usize) -> Client {
        let now = self.now();
        let worker = &mut self.workers[worker];
        let client = worker.clients.remove(&session).unwrap();
        worker.fanout.unsubscribe(self.store.log(), worker.slot, client.id, now).unwrap();
        client
    }

    fn client(&self, worker: usize, session: usize) -> &Client {
        &self.workers[worker].clients[&session]
    }

    /// Serves at most so many subscribers. Whether there is more to do.
    fn serve(&mut self, worker: usize, mut turns: usize) -> bool {
        let (store, now) = (Rc::clone(&self.store), self.now());
        let worker = &mut self.workers[worker];
        worker.fanout.let_go(now);
        while turns > 0 {
            let Some((id, session)) = worker.fanout.next() else { return false };
            turns -= 1;
            let client = worker.clients.get_mut(&session).unwrap();
            assert_eq!(client.id, id);
            let next = worker.fanout.peek(store.log(), id, SOME, now, &mut worker.scratch, &mut worker.batch).unwrap();
            match next {
                Next::UpToDate | Next::Held => {}
                Next::Items => {
                    let memberships = worker.fanout.subscribers.get(id.0).unwrap().memberships();
                    let epochs: Vec<_> = memberships.iter().map(|membership| membership.epoch.0).collect();
                    let begun = client.take(&worker.batch, &epochs);
                    worker.fanout.advance(id, &worker.batch, begun);
                    if client.room == 0 {
                        worker.fanout.block(id);
                    } else if worker.batch.has_more() {
                        worker.fanout.unblock(id);
                    }
                }
                Next::Lagging { .. } | Next::Gone | Next::Expelled => {
                    client.end = Some(next);
                    worker.fanout.unsubscribe(store.log(), worker.slot, id, now).unwrap();
                }
            }
            worker.batch.clear();
        }
        worker.fanout.has_work()
    }

    fn collect(&mut self, worker: usize) -> bool {
        let now = self.now();
        let worker = &mut self.workers[worker];
        worker.fanout.collect(self.store.log(), worker.slot, now).unwrap()
    }

    /// The client reads so many octets.
    fn read(&mut self, worker: usize, session: usize, room: usize) {
        let worker = &mut self.workers[worker];
        let client = worker.clients.get_mut(&session).unwrap();
        client.room = client.room.saturating_add(room);
        if let Some((buffer, at)) = client.rest.take() {
            let octets = &buffer.octets()[at..];
            let now = octets.len().min(client.room);
            client.received.extend_from_slice(&octets[..now]);
            client.room -= now;
            if now < octets.len() {
                client.rest = Some((buffer, at + now));
            }
        }
        if client.room > 0 && client.end.is_none() {
            worker.fanout.unblock(client.id);
        }
    }

    /// Until every worker has nothing left to do.
    fn settle(&mut self) {
        for worker in 0..self.workers.len() {
            while self.collect(worker) | self.serve(worker, usize::MAX) {}
        }
    }
}

impl Client {
    /// The socket takes what it has room for. How many items were begun.
    fn take(&mut self, batch: &Batch, epochs: &[u64]) -> usize {
        assert!(self.rest.is_none(), "it was blocked");
        self.writes += 1;
        let written = batch.octets().min(self.room);
        self.room -= written;
        let (begun, rest) = batch.begun(written);
        self.rest = rest;
        let all: Vec<u8> = batch.items().iter().flat_map(|item| item.buffer.octets().to_vec()).collect();
        self.received.extend_from_slice(&all[..written]);
        for item in &batch.items()[..begun] {
            self.items.extend(item.lost.map(Got::Lost));
            self.items.push(match &item.message {
                Some(shared) => {
                    let id = shared.message.id;
                    Got::Message(MessageOf { epoch: id.epoch.0, offset: id.offset.0 })
                }
                None => Got::Gap(MessageOf { epoch: epochs[item.which], offset: item.next.0 }),
            });
        }
        begun
    }

    fn offsets(&self) -> Vec<u64> {
        let offset = |got: &Got| match got {
            Got::Message(message) => message.offset,
            other => panic!("{other:?}"),
        };
        self.items.iter().map(offset).collect()
    }
}

fn key(id: &str) -> Key<'_> {
    Key::new(b"", id.as_bytes()).unwrap()
}

fn frame() -> Rc<WireForm> {
    Rc::new(WireForm::WebSocket(Framing::default()))
}

fn meta() -> Rc<WireForm> {
    Rc::new(WireForm::WebSocket(Framing { style: Style::Meta, ..Framing::default() }))
}

/// The payloads of short unfragmented frames.
fn payloads(mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let [_, len, rest @ ..] = octets {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            len => (usize::from(*len), rest),
        };
        payloads.push(rest[..len].to_vec());
        octets = &rest[len..];
    }
    payloads
}
