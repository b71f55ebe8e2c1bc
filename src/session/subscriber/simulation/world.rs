// SPDX-License-Identifier: Apache-2.0

//! What a simulated subscriber is connected to: a response, a subscription, and a server.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use crate::channel::fanout::{Batch, FanOut, Next, SubscriberId};
use crate::channel::lock::Unshared;
use crate::channel::store::{Budget, Now, ReadError, Slot, Store};
use crate::channel::streaming::Content;
use crate::ledger::OpenSession;
use crate::session::client::Lost;
use crate::session::endpoint::HttpStatus;
use crate::session::host::{Log, Severity};
use crate::session::record::Record;
use crate::session::shared::{Run, State};
use crate::session::subscriber::{Host, Response, Source, SubscriberEnd};
use crate::ws::scratch::Scratch;
use crate::ws::timing::Look;

/// What the response has come to.
#[derive(Default)]
pub struct Wire {
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) status: Option<u16>,
    /// Pieces that are not sent yet, and how much of the first is.
    pub(super) pieces: VecDeque<Content>,
    pub(super) sent_of_first: usize,
    /// Pieces at the end that were not given to the system.
    pub(super) fresh: usize,
    pub(super) is_last: bool,
    pub(super) room: usize,
    pub(super) body: Vec<u8>,
    pub(super) sent: u64,
    pub(super) moved: u64,
    /// Octets at the end of the body that the system has and the client has not.
    pub(super) in_system: usize,
    /// What the client had when that was looked at.
    pub(super) looked_at: usize,
    pub(super) reset: bool,
    /// The client can be written again, and that is an event.
    pub(super) event: bool,
    pub(super) wants_head_only: bool,
}

/// Everything around a subscriber.
pub struct World {
    pub(super) now: Cell<u64>,
    pub(super) store: Store<Unshared>,
    pub(super) slot: Slot,
    pub(super) fan: RefCell<FanOut>,
    pub(super) batch: RefCell<Batch>,
    pub(super) scratch: RefCell<Scratch>,
    pub(super) wire: RefCell<Wire>,
    pub(super) program: RefCell<Option<Rc<Run>>>,
    pub(super) timer: Cell<Option<u64>>,
    pub(super) late_drain: Cell<Option<u64>>,
    /// The subscriber is to be run in any case.
    pub(super) again: Cell<bool>,
    pub(super) stopped: Cell<bool>,
    pub(super) released: Cell<bool>,
    pub(super) subscribed: Cell<bool>,
}

impl World {
    /// The time of the store.
    pub(super) fn time(&self) -> Now {
        Now { clock: self.now.get(), unix: self.now.get() }
    }

    fn held(&self) {
        assert!(!self.released.get(), "a subscriber that has let go of its request uses it");
    }
}

/// The world as the parts of a subscriber have it.
#[derive(Clone)]
pub struct Shared(pub(super) Rc<World>);

/// The subscription of the simulation.
pub struct TestSource(pub(super) Rc<World>, pub(super) SubscriberId);

impl Response for Shared {
    fn add_header(&mut self, name: &'static str, value: impl AsRef<[u8]>) -> bool {
        self.0.held();
        let mut wire = self.0.wire.borrow_mut();
        assert!(wire.status.is_none(), "a header behind the head");
        assert!(wire.headers.iter().all(|(other, _)| *other != name), "{name} twice");
        wire.headers.push((name, String::from_utf8(value.as_ref().to_vec()).expect("a header is a text")));
        true
    }

    fn begin(&mut self, content_type: &[u8], _: i64) -> Result<bool, SubscriberEnd> {
        self.0.held();
        let mut wire = self.0.wire.borrow_mut();
        assert!(wire.status.is_none() && !content_type.is_empty());
        wire.status = Some(200);
        if wire.reset { Err(SubscriberEnd::Lost) } else { Ok(!wire.wants_head_only) }
    }

    fn empty(&mut self, status: HttpStatus) -> Result<(), SubscriberEnd> {
        self.0.held();
        let mut wire = self.0.wire.borrow_mut();
        assert!(wire.status.is_none());
        wire.status = Some(status.0);
        wire.is_last = true;
        Ok(())
    }

    fn flush_head(&mut self) -> Result<(), Lost> {
        assert_eq!(self.0.wire.borrow().status, Some(200));
        Ok(())
    }

    fn push(&mut self, content: Content, last: bool) {
        self.0.held();
        let mut wire = self.0.wire.borrow_mut();
        assert!(wire.status == Some(200) && !wire.is_last && !wire.wants_head_only);
        wire.is_last = last;
        if last || !content.octets().is_empty() {
            wire.pieces.push_back(content);
            wire.fresh += 1;
        }
    }

    fn send(&mut self) -> Result<(), Lost> {
        self.0.held();
        let now = self.0.now.get();
        let mut wire = self.0.wire.borrow_mut();
        if wire.reset {
            return Err(Lost);
        }
        if std::mem::take(&mut wire.fresh) > 0 {
            wire.sent = now;
        }
        while let Some(content) = wire.pieces.pop_front() {
            let rest = &content.octets()[wire.sent_of_first..];
            let count = rest.len().min(wire.room);
            wire.body.extend_from_slice(&rest[..count]);
            wire.room -= count;
            if count > 0 {
                wire.moved = now;
            }
            if count < rest.len() {
                wire.sent_of_first += count;
                wire.pieces.push_front(content);
                return Ok(());
            }
            wire.sent_of_first = 0;
        }
        wire.moved = now;
        Ok(())
    }

    fn send_whole(&mut self, content: Content) -> Result<(), Lost> {
        self.push(content, true);
        self.send()
    }

    fn cost(&self) -> usize {
        let wire = self.0.wire.borrow();
        wire.pieces.iter().map(|content| content.octets().len() + 10).sum()
    }

    fn is_empty(&self) -> bool {
        self.0.wire.borrow().pieces.is_empty()
    }

    fn silent_since(&self) -> Option<u64> {
        self.is_empty().then(|| self.0.wire.borrow().sent)
    }

    fn look(&mut self) -> Look {
        let mut wire = self.0.wire.borrow_mut();
        let has = wire.body.len() - wire.in_system;
        let had = std::mem::replace(&mut wire.looked_at, has);
        Look { taken: has > had, all: wire.in_system == 0 }
    }

    fn stuck_since(&self) -> Option<u64> {
        (!self.is_empty()).then(|| self.0.wire.borrow().moved)
    }
}

impl Source for TestSource {
    fn serve(&mut self, limit: Budget, serve: impl FnOnce(&Batch) -> usize) -> Option<Result<Next, ReadError>> {
        let world = &self.0;
        world.held();
        let (mut fan, mut batch) = (world.fan.borrow_mut(), world.batch.borrow_mut());
        let next =
            fan.peek(world.store.log(), self.1, limit, world.time(), &mut world.scratch.borrow_mut(), &mut batch);
        if matches!(next, Ok(Next::Items)) {
            let taken = serve(&batch);
            fan.advance(self.1, &batch, taken);
        }
        batch.clear();
        Some(next)
    }

    fn position(&self) -> Option<String> {
        self.0.fan.borrow().position(self.1)
    }

    fn take_losses(&mut self) -> Option<u64> {
        self.0.fan.borrow_mut().take_losses(self.1)
    }

    fn block(&mut self) {
        self.0.fan.borrow_mut().block(self.1);
    }

    fn unblock(&mut self) {
        self.0.fan.borrow_mut().unblock(self.1);
    }

    fn retry(&mut self) {
        self.0.fan.borrow_mut().unblock(self.1);
    }

    fn has_news(&self) -> bool {
        self.0.store.log().has_news(self.0.slot)
    }

    fn program(&self) -> Option<State> {
        self.0.program.borrow().as_ref().map(|run| run.state())
    }

    fn look_again(&mut self) {
        self.0.again.set(true);
    }
}

impl Drop for TestSource {
    fn drop(&mut self) {
        assert!(self.0.subscribed.replace(false), "a subscription ends once");
        let _ = self.0.fan.borrow_mut().unsubscribe(self.0.store.log(), self.0.slot, self.1, self.0.time());
    }
}

impl Log for Shared {
    fn report(&self, _: Severity, text: fmt::Arguments<'_>) {
        self.0.held();
        drop(text.to_string());
    }
}

impl Host for Shared {
    type Response = Shared;
    type Source = TestSource;
    type Record = Box<Record>;

    fn now(&self) -> u64 {
        self.0.now.get()
    }

    fn watch_client(&mut self) {
        self.0.held();
    }

    fn listen(&mut self) {
        self.0.held();
    }

    fn open_account(&mut self, _: bool) -> Option<OpenSession> {
        None
    }

    fn late_drain(&mut self) -> Option<u64> {
        self.0.late_drain.get()
    }

    fn set_timer(&mut self, milliseconds: u64) {
        self.0.held();
        assert!(!self.0.stopped.get());
        self.0.timer.set(Some(self.0.now.get().saturating_add(milliseconds)));
    }

    fn take_expired(&mut self) {}

    fn stop(&mut self) {
        assert!(!self.0.stopped.replace(true));
        self.0.timer.set(None);
    }

    fn release(&mut self) {
        assert!(!self.0.released.replace(true), "a request is let go of once");
        assert!(!self.0.subscribed.get(), "the subscription outlives the request");
    }
}
