// SPDX-License-Identifier: Apache-2.0

//! A whole subscriber driven by a string of octets: messages, client, program, timer, drain and kill in any order.
//!
//! The messages come out of a real store and a real fan-out in private memory. [`run`] panics where the subscriber breaks one
//! of its promises:
//!
//! - one head, before the body, and nothing behind the last piece;
//! - the body has the messages in order and once, and all of them where none may be lost;
//! - what is on its way is bounded;
//! - as soon as the client takes what there is, everything that was published moves;
//! - as long as the subscriber lives it has a timer, and once its worker leaves it ends;
//! - when it has ended it has let go of its subscription and of its request, once, and calls nobody any more.

mod script;
mod world;

pub use script::run;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Delivery, Flow, Response, RunPart, Settings, Subscriber, SubscriberEnd, SubscriberStage};
use crate::channel::fanout::{FanOut, Limits, OnGap, SubscribeOptions};
use crate::channel::lock::Unshared;
use crate::channel::memory::Region;
use crate::channel::message::Publication;
use crate::channel::position::{Asked, Start};
use crate::channel::store::{GroupLimits, History, Key, Policy, Process, Store, Terms};
use crate::channel::streaming::Streaming;
use crate::channel::transport::Transport;
use crate::channel::wire::WireForm;
use crate::session::record::Record;
use crate::session::shared::{Run, RunEnd};
use crate::ws::frame::MessageKind;
use world::{Shared, TestSource, Wire, World};

/// Octets of a message: its number, in as many digits.
const MESSAGE: usize = 24;

const NO_LIMITS: GroupLimits = GroupLimits { channels: 0, subscribers: 0, messages: 0, bytes: 0 };

/// A subscriber in its world.
pub struct Simulation {
    world: Rc<World>,
    subscriber: Subscriber<Shared>,
    /// How the subscriber has ended.
    pub end: Option<SubscriberEnd>,
    /// Messages that were published since the subscription began.
    published: u64,
    history: u32,
    may_lose: bool,
    delivery: Delivery,
    limit: usize,
    /// How several messages of one response are told apart.
    several: Option<Streaming>,
}

fn key() -> Key<'static> {
    Key::new(b"", b"news").expect("a short name")
}

/// The message of this number.
fn message(number: u64) -> Vec<u8> {
    format!("{number:0width$}", width = MESSAGE).into_bytes()
}

/// What a simulation begins with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How the messages are sent.
    pub delivery: Delivery,
    /// What the location says.
    pub settings: Settings,
    /// Messages that the channel keeps.
    pub history: u32,
    /// Octets that the client takes.
    pub room: usize,
    /// The subscribers share a program, which is being started.
    pub shares: bool,
    /// What is done when messages are lost, where that cannot be told.
    pub otherwise: OnGap,
}

impl Simulation {
    /// A subscriber of a channel that has one message already.
    pub fn new(setup: Setup) -> Self {
        let Setup { delivery, settings, history, room, shares, otherwise } = setup;
        let region = Region::private(1 << 20).expect("memory");
        let store = Store::create(region, Unshared, 2, [1, 2]).expect("room for a zone");
        let slot = store.claim(Process { pid: 1, start: 1 }, |_| true).expect("a slot").slot;
        let world = Rc::new(World {
            now: Cell::new(1_000),
            store,
            slot,
            fan: RefCell::new(FanOut::new(Limits::default())),
            batch: RefCell::default(),
            scratch: RefCell::default(),
            wire: RefCell::new(Wire { room, ..Wire::default() }),
            program: RefCell::new(shares.then(Rc::default)),
            timer: Cell::new(None),
            late_drain: Cell::new(None),
            again: Cell::new(false),
            stopped: Cell::new(false),
            released: Cell::new(false),
            subscribed: Cell::new(false),
        });
        let shared = Shared(Rc::clone(&world));
        let (limit, several) = (settings.send_limit, settings.several.clone());
        let subscriber = Subscriber::new(shared.clone(), shared, Box::default(), delivery.clone(), settings);
        let on_gap = match &delivery {
            Delivery::Streaming(streaming) => streaming.on_gap(otherwise),
            Delivery::LongPoll | Delivery::Poll | Delivery::FirstPoll => OnGap::Tell,
        };
        let may_lose = on_gap == OnGap::Close;
        let mut simulation =
            Simulation { world, subscriber, end: None, published: 0, history, may_lose, delivery, limit, several };
        simulation.publish();
        simulation.published = 0;
        simulation.subscribe(on_gap);
        simulation
    }

    fn subscribe(&mut self, on_gap: OnGap) {
        let form = match &self.delivery {
            Delivery::Streaming(streaming) => streaming.form(),
            Delivery::LongPoll | Delivery::Poll => self.several.as_ref().map_or(WireForm::Body, Streaming::form),
            Delivery::FirstPoll => WireForm::Body,
        };
        let terms = Terms {
            create: true,
            max_subscribers: 0,
            group: NO_LIMITS,
            presence: b"",
            transport: Transport::WebSocket,
        };
        let start = if self.delivery == Delivery::FirstPoll { Start::Last(1) } else { Start::Newest };
        let (form, asked, keys) = (Rc::new(form), Asked::id(b""), [key()]);
        let options =
            SubscribeOptions { keys: &keys, asked: &asked, start, terms, form: &form, on_gap, allowance: None };
        let world = Rc::clone(&self.world);
        let id =
            world.fan.borrow_mut().subscribe(world.store.log(), world.slot, &options, 0, world.time()).expect("room");
        world.subscribed.set(true);
        let source = TestSource(world, id);
        self.event(|subscriber| subscriber.attach(source));
    }

    /// What is known of it.
    pub fn record(&self) -> &Record {
        &self.subscriber.record
    }

    /// The status that was sent.
    pub fn status(&self) -> Option<u16> {
        self.world.wire.borrow().status
    }

    /// The body as the client has it.
    pub fn body(&self) -> Vec<u8> {
        self.world.wire.borrow().body.clone()
    }

    /// Publishes the next message.
    pub fn publish(&mut self) {
        self.published += 1;
        let data = message(self.published);
        let publication = Publication { kind: MessageKind::Text, content_type: b"", event: b"", data: &[&data] };
        let policy = Policy { history: History { length: self.history, time: 0 }, group: NO_LIMITS };
        let published = self.world.store.log().publish(key(), &publication, policy, self.world.time());
        assert!(published.is_ok(), "{published:?}");
    }

    /// Does something with the subscriber, as one event.
    pub fn event(&mut self, body: impl FnOnce(&mut Subscriber<Shared>) -> Flow) {
        if self.end.is_some() {
            return;
        }
        if let Flow::Break(end) = body(&mut self.subscriber) {
            self.subscriber.release();
            self.end = Some(end);
        }
        let world = &self.world;
        assert_eq!(world.released.get(), self.end.is_some());
        assert_eq!(world.timer.get().is_some(), self.end.is_none(), "a subscriber without a timer");
        let cost = Response::cost(&self.subscriber.response);
        assert!(cost <= self.limit.saturating_add(64 * (MESSAGE + 200)), "{cost} octets are on their way");
    }

    /// One turn of the hub, or the client's event. Whether there was anything.
    pub fn turn(&mut self) -> bool {
        if self.end.is_none() && std::mem::take(&mut self.world.wire.borrow_mut().event) {
            self.event(Subscriber::writable);
            return true;
        }
        let next = self.world.fan.borrow_mut().next();
        if next.is_some() {
            self.event(Subscriber::pump);
            return true;
        }
        let (store, slot) = (&self.world.store, self.world.slot);
        let collected = self.world.fan.borrow_mut().collect(store.log(), slot, self.world.time());
        if matches!(collected, Ok(true)) || self.world.fan.borrow().has_work() {
            return true;
        }
        // A little later than everything that is there already.
        let again = self.world.again.take();
        if again {
            self.event(Subscriber::pump);
        }
        again
    }

    /// The client takes so many octets more.
    pub fn take(&mut self, count: usize) {
        let mut wire = self.world.wire.borrow_mut();
        wire.room = wire.room.saturating_add(count).min(usize::MAX / 2);
        wire.event |= !wire.pieces.is_empty();
    }

    /// The system has so many octets at the end of the body, which the client has not taken.
    pub fn hold(&mut self, count: usize) {
        self.world.wire.borrow_mut().in_system = count;
    }

    /// In how many milliseconds the timer fires.
    pub fn timer(&self) -> Option<u64> {
        self.world.timer.get().map(|at| at.saturating_sub(self.world.now.get()))
    }

    /// Lets time pass; the timer fires if its time comes.
    pub fn pass(&mut self, milliseconds: u64) {
        let now = self.world.now.get() + milliseconds;
        self.world.now.set(now);
        if self.world.timer.get().is_some_and(|at| at <= now) {
            self.world.timer.set(None);
            self.event(Subscriber::on_time);
        }
    }

    /// The program that the subscribers share has been started, or has ended.
    pub fn program(&mut self, change: impl FnOnce(&Run)) {
        if let Some(run) = &*self.world.program.borrow() {
            change(run);
            self.world.again.set(true);
        }
    }

    /// The client takes everything, and all that has come is handled.
    pub fn settle(&mut self) {
        self.take(usize::MAX / 4);
        let mut turns = 0;
        while self.turn() {
            turns += 1;
            assert!(turns < 10_000, "the subscriber is never at rest");
        }
    }

    /// The subscriber is brought to its end, whatever it has been through: what was promised is looked at.
    pub fn conclude(mut self) {
        self.settle();
        if self.end.is_none() && matches!(self.subscriber.stage, SubscriberStage::Waiting { .. }) {
            assert!(self.world.wire.borrow().pieces.is_empty(), "octets wait for nothing");
            assert!(matches!(self.delivery, Delivery::Streaming(_) | Delivery::LongPoll), "a poll does not wait");
            if self.delivery == Delivery::LongPoll {
                assert_eq!(self.published, 0, "a long-poll has its message");
            } else if let Some(last) = self.numbers().last() {
                assert_eq!(*last, self.published, "what was published has not arrived");
            } else {
                assert_eq!(self.published, 0, "what was published has not arrived");
            }
        }
        let at = self.world.now.get() + 1_000;
        self.event(|subscriber| subscriber.on_drain(at));
        self.program(|run| run.ended(RunEnd::refused(true)));
        let mut rounds = 0;
        while self.end.is_none() {
            let next = self.world.timer.get().unwrap_or(at).max(at);
            self.pass(next.saturating_sub(self.world.now.get()));
            while self.turn() {}
            rounds += 1;
            assert!(rounds < 100, "the subscriber does not end");
        }
        assert!(!self.world.subscribed.get());
        self.check();
    }

    /// The numbers of the messages that the client has, as far as they are whole.
    fn numbers(&self) -> Vec<u64> {
        let wire = self.world.wire.borrow();
        let text = String::from_utf8_lossy(&wire.body);
        let digits = text.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| digits.len() >= MESSAGE);
        // Chunks have nothing between them.
        let all = digits.flat_map(|digits| digits.as_bytes().chunks_exact(MESSAGE));
        all.filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).collect()
    }

    fn check(&self) {
        let wire = self.world.wire.borrow();
        let numbers = self.numbers();
        // A multipart boundary may look like a number, and a position is none.
        if !matches!(self.delivery, Delivery::Streaming(Streaming::Multipart(_))) {
            assert!(numbers.is_sorted_by(|first, second| first < second), "messages out of order: {numbers:?}");
            if self.history as u64 > self.published || self.may_lose {
                let whole = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
                assert!(whole, "a message is missing: {numbers:?}");
            }
        }
        match &self.delivery {
            // There is no stream for who has all of a run that has ended.
            Delivery::Streaming(_) if self.subscriber.settings.run == RunPart::Follows => {
                assert!(matches!(wire.status, None | Some(200 | 204)));
            }
            Delivery::Streaming(_) => assert!(matches!(wire.status, None | Some(200))),
            Delivery::LongPoll | Delivery::Poll | Delivery::FirstPoll => {
                assert!(numbers.len() <= 1 || self.several.is_some());
                let had_one = !numbers.is_empty() || !wire.pieces.is_empty() || wire.wants_head_only || wire.reset;
                assert!(wire.status != Some(200) || had_one, "an answer without a message");
            }
        }
        if self.end == Some(SubscriberEnd::Finished) && wire.status == Some(200) && !wire.wants_head_only {
            assert!(wire.is_last, "a response that has no end is not whole");
        }
        if matches!(self.end, Some(SubscriberEnd::Refused(_) | SubscriberEnd::TryAgain)) {
            assert!(wire.status.is_none(), "a status behind a head");
        }
        assert!(self.record().messages_out.get() >= numbers.len() as u64);
    }
}
