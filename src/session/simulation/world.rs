// SPDX-License-Identifier: Apache-2.0

//! The client of a simulated session, the system between the two, and what nginx knows.

use super::recording::Recording;
use crate::ledger::OpenSession;
use crate::recording::Recorder;
use crate::session::client::{Client, Lost, Received, Sent, Sink};
use crate::session::endpoint::{Ending, HttpStatus};
use crate::session::host::{Host, Log, Severity};
use crate::session::record::Record;
use crate::ws::close::CloseCode;
use crate::ws::timing::Look;
use std::cell::{Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// The client, the system between it and the session, and what nginx knows.
#[derive(Default)]
pub struct World {
    pub(super) now: u64,
    /// Octets of the client that are on their way.
    pub(super) underway: VecDeque<u8>,
    /// Octets of the client that the system has.
    pub(super) arrived: VecDeque<u8>,
    /// The client has closed its side, behind what is on its way; and the system has seen it.
    pub(super) fin: bool,
    pub(super) fin_arrived: bool,
    pub(super) reset: bool,
    /// nginx's mark on the read event.
    pub(super) ready: bool,
    /// An event of the client is waiting to be handled.
    pub(super) client_event: bool,
    /// Sending has been refused: there is an event when there is room.
    pub(super) send_blocked: bool,
    /// Octets that the system has for the client, and for how many more it has room.
    pub(super) queued: usize,
    pub(super) room: usize,
    /// Everything that was ever sent.
    pub wire: Vec<u8>,
    pub(super) sent: u64,
    pub(super) looked: u64,
    pub(super) looked_queued: usize,
    /// Octets of the 101 that have not left.
    pub(super) head: usize,
    pub(super) is_tls: bool,
    /// What TLS was offered and did not take: where it was.
    pub(super) offered: Option<usize>,
    /// When the timer fires.
    pub(super) timer: Option<u64>,
    pub(super) expired: bool,
    pub(super) posted: bool,
    pub(super) refuses_watch: bool,
    pub(super) accepted: bool,
    pub(super) accept_fails: bool,
    pub(super) tells_refusals: bool,
    pub(super) listening: bool,
    pub(super) late_drain: Option<u64>,
    pub(super) given_up: bool,
    pub(super) lingers: bool,
    pub(super) released: bool,
    /// What is written down of the session, if it is.
    pub(super) recording: Option<Recording>,
}

/// The world as the session's client and host have it.
#[derive(Clone)]
pub struct Shared(pub(super) Rc<RefCell<World>>);

impl Shared {
    pub(super) fn get(&self) -> Ref<'_, World> {
        self.0.borrow()
    }

    /// The world of a session that has not let go of its request.
    pub(super) fn held(&self) -> RefMut<'_, World> {
        let world = self.0.borrow_mut();
        assert!(!world.released, "a session that has let go of its request uses it");
        world
    }
}

impl World {
    /// Octets of the client come in.
    pub(super) fn arrive(&mut self, most: usize) {
        let count = most.min(self.underway.len());
        self.arrived.extend(self.underway.drain(..count));
        let fin = self.fin && self.underway.is_empty() && !self.fin_arrived;
        self.fin_arrived |= fin;
        if count > 0 || fin {
            self.ready = true;
            self.client_event = true;
        }
    }

    /// The client takes octets that the system has for it.
    pub(super) fn take(&mut self, most: usize) {
        let count = most.min(self.queued);
        self.queued -= count;
        self.make_room(count);
    }

    pub(super) fn make_room(&mut self, count: usize) {
        self.room = self.room.saturating_add(count);
        if self.send_blocked && self.room > 0 {
            self.send_blocked = false;
            self.client_event = true;
        }
    }

    pub(super) fn reset(&mut self) {
        self.reset = true;
        self.ready = true;
        self.client_event = true;
    }
}

impl Sink for Shared {
    fn send(&mut self, octets: &[u8]) -> Sent {
        let mut world = self.held();
        assert!(world.listening, "octets before the 101");
        assert!(world.head == 0, "octets overtake the 101");
        assert!(!world.given_up, "octets after some were left out");
        if world.reset {
            return Sent::Lost;
        }
        let at = octets.as_ptr() as usize;
        if let Some(offered) = world.offered.take() {
            assert!(!world.is_tls || offered == at, "TLS is offered other octets than those that it did not take");
        }
        let count = octets.len().min(world.room);
        if count == 0 {
            if octets.is_empty() {
                return Sent::Blocked;
            }
            world.send_blocked = true;
            world.offered = Some(at);
            return Sent::Blocked;
        }
        world.room -= count;
        world.queued += count;
        world.sent += count as u64;
        world.wire.extend_from_slice(&octets[..count]);
        Sent::Octets(count)
    }

    fn is_tls(&self) -> bool {
        self.get().is_tls
    }
}

impl Client for Shared {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let mut world = self.held();
        if world.reset {
            return Received::Lost;
        }
        let count = buffer.len().min(world.arrived.len());
        if count == 0 {
            if world.fin_arrived {
                return Received::End;
            }
            world.ready = false;
            return Received::Blocked;
        }
        for (to, from) in buffer.iter_mut().zip(world.arrived.drain(..count)) {
            *to = from;
        }
        if count < buffer.len() && !world.fin_arrived {
            world.ready = false;
        }
        Received::Octets(count)
    }

    fn readable(&self) -> bool {
        self.held().ready
    }

    fn hung_up(&self) -> bool {
        self.held().fin_arrived
    }

    fn has_unread(&self) -> bool {
        !self.held().arrived.is_empty()
    }

    fn has_queued(&self) -> bool {
        self.held().queued > 0
    }

    fn look(&mut self) -> Look {
        let mut world = self.held();
        let since = usize::try_from(world.sent - world.looked).unwrap_or(0);
        let taken = world.looked_queued + since > world.queued;
        (world.looked, world.looked_queued) = (world.sent, world.queued);
        Look { taken, all: world.queued == 0 }
    }

    fn sent(&self) -> u64 {
        self.held().sent
    }

    fn is_drained(&self) -> bool {
        self.held().head == 0
    }

    fn drain(&mut self) -> Result<bool, Lost> {
        let mut world = self.held();
        if world.reset {
            return Err(Lost);
        }
        let count = world.head.min(world.room);
        world.head -= count;
        world.room -= count;
        world.queued += count;
        world.send_blocked |= world.head > 0;
        Ok(world.head == 0)
    }

    fn give_up(&mut self) {
        self.held().given_up = true;
    }

    fn watch(&mut self) -> bool {
        !self.held().refuses_watch
    }
}

impl Log for Shared {
    fn report(&self, _: Severity, text: fmt::Arguments<'_>) {
        drop(text.to_string());
    }
}

impl Host for Shared {
    type Client = Shared;
    type Acceptance = ();
    type Record = Box<Record>;

    fn now(&self) -> u64 {
        self.get().now
    }

    fn accept(&mut self, (): &()) -> bool {
        let mut world = self.held();
        assert!(!world.accepted, "one request is answered once");
        world.accepted = true;
        !world.accept_fails
    }

    fn refusal(&self, status: HttpStatus, (): &mut ()) -> Option<Ending> {
        let code = CloseCode::new(4000 + status.0).filter(|_| self.get().tells_refusals)?;
        Some(Ending { code, reason: String::new() })
    }

    fn listen(&mut self, _: &mut Shared, early: &mut Vec<u8>) -> bool {
        let mut world = self.held();
        assert!(world.accepted && !world.listening);
        world.listening = true;
        // What came in one segment with the head of the request.
        let count = world.arrived.len() / 2;
        early.extend(world.arrived.drain(..count));
        true
    }

    fn open_account(&mut self) -> Option<OpenSession> {
        None
    }

    fn open_recording(&mut self) -> Option<Box<Recorder>> {
        let world = self.held();
        assert!(world.accepted, "a recording before the 101");
        world.recording.as_ref().map(|recording| recording.begin(world.now))
    }

    fn late_drain(&mut self) -> Option<u64> {
        self.held().late_drain
    }

    fn set_timer(&mut self, milliseconds: u64) {
        let mut world = self.held();
        world.timer = Some(world.now.saturating_add(milliseconds));
    }

    fn take_expired(&mut self) -> bool {
        std::mem::take(&mut self.held().expired)
    }

    fn post_turn(&mut self) {
        self.held().posted = true;
    }

    fn linger(&mut self, _: &mut Shared) {
        self.held().lingers = true;
    }

    fn release(&mut self) {
        let mut world = self.held();
        world.released = true;
        (world.timer, world.posted) = (None, false);
    }
}
