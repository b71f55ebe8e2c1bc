// SPDX-License-Identifier: Apache-2.0

//! The store over private memory.

mod copy;
mod damaged;
mod departed;
mod groups;
mod interrupted;
#[cfg(not(miri))]
mod killed;
mod model;
mod off;
mod ordinary;
mod presence;
mod programs;
mod room;
mod runs;

use super::*;
use crate::channel::lock::Unshared;
use crate::channel::message::{Message, Publication};
use crate::channel::transport::Transport;
use crate::ws::frame::MessageKind;

/// A store of this test alone, with a clock.
struct Rig {
    store: Store<Unshared>,
    clock: std::cell::Cell<u64>,
}

const KEEP: History = History { length: 10, time: 3_600_000 };

const NO_LIMITS: GroupLimits = GroupLimits { channels: 0, subscribers: 0, messages: 0, bytes: 0 };

const TERMS: Terms<'_> =
    Terms { create: true, max_subscribers: 0, group: NO_LIMITS, presence: b"", transport: Transport::WebSocket };

const ALL: Budget = Budget { messages: usize::MAX, octets: usize::MAX };

impl Rig {
    fn new(len: usize) -> Self {
        let region = Region::private(len).unwrap();
        Self { store: Store::create(region, Unshared, 8, [1, 2]).unwrap(), clock: std::cell::Cell::new(1_000_000) }
    }

    fn now(&self) -> Now {
        Now { clock: self.clock.get(), unix: 1_700_000_000_000 + self.clock.get() }
    }

    fn pass(&self, milliseconds: u64) {
        self.clock.set(self.clock.get() + milliseconds);
    }

    fn claim(&self, pid: u32) -> Slot {
        self.store.claim(Process { pid, start: 1 }, |_| true).unwrap().slot
    }

    fn publish(&self, id: &str, data: &[u8]) -> Published {
        self.try_publish(id, data, KEEP).unwrap()
    }

    fn try_publish(&self, id: &str, data: &[u8], history: History) -> Result<Published, PublishError> {
        let publication =
            Publication { kind: MessageKind::Text, content_type: b"text/plain", event: b"", data: &[data] };
        self.store.log().publish(key(id), &publication, policy(history), self.now())
    }

    fn info(&self, id: &str) -> Option<Info> {
        self.store.log().info(key(id), self.now()).unwrap()
    }

    fn subscribe(&self, id: &str, slot: Slot, token: u32) -> Subscribed {
        self.store.log().subscribe(key(id), slot, Token(token), TERMS, self.now()).unwrap()
    }

    fn drain(&self, slot: Slot) -> Vec<News> {
        let mut news = Vec::new();
        assert!(!self.store.log().drain(slot, ALL, self.now(), &mut news).unwrap());
        news
    }

    fn read(&self, channel: Handle, next: u64) -> (Vec<Message>, Read) {
        let mut out = Vec::new();
        let read = self.store.log().read(channel, Offset(next), ALL, self.now(), &mut out).unwrap();
        (out, read)
    }

    fn check(&self) {
        self.store.check().unwrap().unwrap();
    }
}

fn policy(history: History) -> Policy {
    Policy { history, group: NO_LIMITS }
}

fn key(id: &str) -> Key<'_> {
    Key::new(b"group", id.as_bytes()).unwrap()
}

/// Offsets and data of the messages among the news, by token.
fn messages(news: &[News], token: u32) -> Vec<(u64, Vec<u8>)> {
    let one = |news: &News| match news {
        News::Message(Token(of), message) if *of == token => Some((message.id.offset.0, message.data().to_vec())),
        _ => None,
    };
    news.iter().filter_map(one).collect()
}

/// So many cases, a few under Miri, and no files with failures: those that matter become tests of their own.
fn cases(cases: u32) -> proptest::test_runner::Config {
    let cases = if cfg!(miri) { 4 } else { cases };
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}
