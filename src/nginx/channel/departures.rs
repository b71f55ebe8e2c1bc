// SPDX-License-Identifier: Apache-2.0

//! Subscribers of this worker that have gone, and of whom nobody is told before they could have come back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::events::Events;
use super::hub;
use crate::channel::departures::Departures;
use crate::channel::store::Left;
use crate::nginx::backend;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::timer::{Timer, now};

/// Somebody who has gone.
struct Departure {
    events: Rc<Events>,
    channel: Box<[u8]>,
    /// When, in milliseconds of Unix time.
    unix: u64,
}

/// How long a worker that was told to go waits for somebody, in milliseconds: clients that it has closed come back at once.
const AT_THE_END: u64 = 10_000;

struct Waiting {
    departures: Departures<Departure>,
    /// A worker that is told to go does not go before everything was told.
    timer: Timer,
}

thread_local! {
    static WAITING: RefCell<Option<Waiting>> = const { RefCell::new(None) };
    /// The worker has been told to go.
    static IS_LEAVING: Cell<bool> = const { Cell::new(false) };
}

/// Somebody has gone from a channel, which is to be told in so many milliseconds unless somebody of this name has come by then.
pub fn wait(events: Rc<Events>, channel: &[u8], left: Left, milliseconds: u64) {
    let milliseconds = if IS_LEAVING.get() { milliseconds.min(AT_THE_END) } else { milliseconds };
    let departure = Departure { events, channel: channel.into(), unix: hub::time().unix };
    WAITING.with_borrow_mut(|waiting| {
        let waiting = waiting
            .get_or_insert_with(|| Waiting { departures: Departures::default(), timer: Timer::of_worker(on_timer) });
        waiting.departures.push(now() + milliseconds, left, departure);
        waiting.arm();
    });
}

/// The worker has been told to go: it is kept for a while, and not for longer than its clients are.
pub fn leaving() {
    IS_LEAVING.set(true);
    WAITING.with_borrow_mut(|waiting| {
        if let Some(waiting) = waiting {
            waiting.departures.hurry(now() + AT_THE_END);
            waiting.arm();
        }
    });
}

/// The worker goes now: what was to be told is told.
pub fn end() {
    tell(u64::MAX);
    WAITING.take();
}

impl Waiting {
    fn arm(&mut self) {
        // nginx would leave a timer alone that is to fire a little earlier than it was.
        self.timer.disarm();
        if let Some(due) = self.departures.next() {
            self.timer.arm(backend::keeps_worker(due.saturating_sub(now()).max(1)));
        }
    }
}

/// Tells of those whose time has come by then, unless they have come back.
fn tell(until: u64) {
    while let Some((left, departure)) = WAITING.with_borrow_mut(|waiting| waiting.as_mut()?.departures.pop(until)) {
        let gone = hub::with(|hub| {
            let forget = || hub.store.presence().forget(left, hub.slot);
            // A damaged zone is repaired by the second attempt.
            forget().or_else(|_| forget())
        });
        if gone == Some(Ok(true)) {
            departure.events.tell_left(&departure.channel, departure.unix);
        }
    }
}

unsafe extern "C" fn on_timer(_: *mut ffi::ngx_event_t) {
    guard((), || {
        let until = WAITING.with_borrow_mut(|waiting| {
            let waiting = waiting.as_mut()?;
            waiting.timer.take_expired();
            let due = waiting.departures.next()?;
            // It fires early only if the worker is not to be kept until then.
            Some(if due > now() && backend::keeps_worker(due - now()) < due - now() { u64::MAX } else { now() })
        });
        if let Some(until) = until {
            tell(until);
        }
        WAITING.with_borrow_mut(|waiting| waiting.as_mut().map(Waiting::arm));
    });
}
