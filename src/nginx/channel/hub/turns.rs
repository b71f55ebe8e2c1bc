// SPDX-License-Identifier: Apache-2.0

//! The turns of a worker in which its subscribers get what is there for them, and what begins one.

use super::{Hub, TICK, time, with};
use crate::channel::fanout::SubscriberId;
use crate::nginx::backend;
use crate::nginx::ffi;
use crate::nginx::guard::guard;
use crate::nginx::listeners::Listener;

/// Subscribers that are served before other events get their turn.
const TURN: usize = 128;

/// Channels and messages that are looked at in one tick.
const TEND: usize = 512;

/// When a turn could do nothing though there is more to do, the next one comes after so many milliseconds.
const LATER: u64 = 10;

impl Hub {
    /// The next listener that has to be woken, after those that could be served the short way: at most so many of them.
    fn next(&mut self, served: &mut usize) -> Option<Listener> {
        while *served < TURN {
            let (id, number) = self.fan.next()?;
            *served += 1;
            match Listener::from_number(number) {
                Some(listener) if listener.serve(id, self) => {}
                Some(listener) => return Some(listener),
                None => {}
            }
        }
        None
    }

    /// Lets those go on that have waited long enough.
    fn let_go(&mut self) {
        self.held.take_expired();
        self.held_until = None;
        self.fan.let_go(time());
        self.watch_held();
    }

    /// Looks whether subscribers of this worker are to be closed.
    fn take_expelled(&mut self) -> bool {
        let some = self.store.presence().take_expelled(self.slot);
        if some {
            self.fan.expel(self.store.presence());
        }
        some
    }
}

/// A subscriber could not be served for lack of memory, or because the zone has to be repaired: it is tried again.
pub fn retry(id: SubscriberId) {
    with(|hub| {
        hub.fan.unblock(id);
        hub.later.arm(LATER);
    });
}

/// Serves subscribers until there is nothing more to do, or others are to have their turn.
fn turn() {
    if let Some(news) = with(|hub| hub.store.programs().take_news(hub.slot).then_some(hub.programs.news)).flatten() {
        news();
    }
    backend::news();
    with(Hub::take_expelled);
    let mut served = 0;
    while served < TURN {
        match with(|hub| hub.next(&mut served)).flatten() {
            Some(listener) => listener.wake(),
            None if served >= TURN => {}
            None => {
                let done = with(|hub| {
                    let more = hub.fan.collect(hub.store.log(), hub.slot, time());
                    if hub.fan.has_work() {
                        return false;
                    }
                    if !matches!(more, Ok(false)) {
                        hub.later.arm(LATER);
                    }
                    true
                });
                if done != Some(false) {
                    return;
                }
            }
        }
    }
    with(|hub| hub.turn.post_next());
}

/// Another worker has news for this one.
pub(super) unsafe extern "C" fn on_wakeup(_: *mut ffi::ngx_event_t) {
    guard((), || {
        turn();
    });
}

/// The hub has more to do in this turn.
pub(super) unsafe extern "C" fn on_turn(_: *mut ffi::ngx_event_t) {
    guard((), || {
        with(|hub| {
            hub.turn.take_expired();
            hub.later.take_expired();
        });
        turn();
    });
}

/// Subscribers that have had as much as their rates let them have may go on.
pub(super) unsafe extern "C" fn on_held(_: *mut ffi::ngx_event_t) {
    guard((), || {
        with(Hub::let_go);
        turn();
    });
}

/// A second has passed.
pub(super) unsafe extern "C" fn on_tick(_: *mut ffi::ngx_event_t) {
    guard((), || {
        let news = with(|hub| {
            hub.tick.take_expired();
            hub.tick.arm(TICK);
            // Whoever was to wake this worker may have been killed before it did.
            let _ = hub.store.tend(time(), TEND);
            hub.look_for_dead();
            hub.fan.tidy();
            hub.fan.tell_behind(hub.store.presence(), hub.slot, TEND);
            (hub.store.log().has_news(hub.slot) | hub.take_expelled(), hub.programs.tick)
        });
        if let Some((has_news, tick)) = news {
            if has_news {
                turn();
            }
            tick();
        }
        backend::tick();
    });
}
